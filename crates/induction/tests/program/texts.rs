//! Texts as people have them: several files, chats, documents shorter than a window.

#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::{Value, json};

use crate::common::{TINY, fail, induction, spec, succeed};

/// Chats of a few words each, no two the same, none as long as a window.
fn chats(count: usize) -> String {
    let line = |k: usize| {
        let messages = [
            json!({"role": "user", "content": format!("{k}?")}),
            json!({"role": "assistant", "content": format!("{k}!")}),
        ];
        format!("{}\n", json!({"messages": messages}))
    };
    (0..count).map(line).collect()
}

#[test]
fn several_files_of_short_documents_are_learned() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("chats.jsonl"), chats(400)).unwrap();
    fs::write(path("rows.json"), r#"[{"prose": "One fish, two fish."}, {"prose": null}]"#).unwrap();
    let train = |paths: &str, more: &str| {
        let data = format!("source = \"corpus\"\npath = {paths}\n{more}");
        let text = TINY
            .replace("source = \"repeats\"\nmin_period = 3\nmax_period = 8\n", &data)
            .replace("d_vocab = 16", "d_vocab = 270");
        let mut train = induction();
        train.arg("train").arg(spec(folder.path(), &text)).arg("--out").arg(path("run"));
        train
    };
    // The key is that of all files.
    let both = format!("[{:?}, {:?}]", path("chats.jsonl"), path("rows.json"));
    let message = fail(&mut train(&both, ""), 2);
    assert!(message.contains("rows.json item 1: no text: it has `prose`"), "{message}");
    fs::write(path("rows.json"), r#"["One fish, two fish.", "Red fish.", "Red fish.", null]"#)
        .unwrap();
    let output = train(&both, "").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for part in [
        "windows span several documents",
        "left out item 4 of",
        "left out 1 documents that repeat another",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let resolved = fs::read_to_string(path("run/spec.toml")).unwrap();
    assert!(resolved.contains(&format!("path = {both}")), "{resolved}");
    // The same spec goes on where it was; another order of the files is another corpus.
    succeed(&mut train(&both, ""));
    fs::remove_dir_all(path("run")).unwrap();
    let message = fail(&mut train("[]", ""), 2);
    assert!(message.contains("`path` is empty"), "{message}");
    // A key of the user's, beside a usual one that holds no texts.
    let row = |k: usize| json!({"prose": format!("One fish, two fish, {k} fish."), "text": k});
    let rows: String = (0..400).map(|k| format!("{}\n", row(k))).collect();
    fs::write(path("rows.jsonl"), rows).unwrap();
    let rows = format!("{:?}", path("rows.jsonl"));
    let message = fail(&mut train(&rows, ""), 2);
    assert!(message.contains("`text` is 0, expected a text"), "{message}");
    succeed(&mut train(&rows, "text_field = \"prose\"\n"));
    let resolved = fs::read_to_string(path("run/spec.toml")).unwrap();
    assert!(resolved.contains("text_field = \"prose\""), "{resolved}");
}

#[test]
fn a_text_that_no_run_would_read_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], expected: &str| {
        let mut reproduce = induction();
        reproduce.arg("reproduce").args(arguments).arg("--dry-run").arg("--out").arg(out.path());
        let message = fail(&mut reproduce, 2);
        assert!(message.contains(expected), "{message}");
    };
    refused(
        &["--scale", "smoke", "--corpus", "notes.txt"],
        "--corpus: --scale smoke does not read it, it learns a synthetic task",
    );
    // A forecast is made without the text, and says what is wrong with it.
    let mut reproduce = induction();
    reproduce.args(["reproduce", "--dry-run", "--corpus", "nowhere.txt", "--out"]).arg(out.path());
    let output = reproduce.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("cannot read the corpus nowhere.txt"),
        "{said}"
    );
    refused(&["--books", "a"], "--books: --scale laptop does not read it");
    refused(&["--scale", "gpu", "--second-corpus", "a", "b"], "--second-corpus: --scale gpu");
}

/// A scan of short documents reads them together, and says so.
#[test]
fn short_documents_are_scanned_together() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("chats.jsonl");
    fs::write(&text, chats(60)).unwrap();
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/oracle/pretrained/gpt2_gguf_tokenizer/model.gguf"
    );
    let scan = |text: &std::path::Path| {
        let mut scan = induction();
        scan.args(["--json", "scan", model, "--windows", "5", "--text"]).arg(text);
        scan
    };
    let found: Value = serde_json::from_str(&succeed(&mut scan(&text))).unwrap();
    assert_eq!(found["icl"]["examples"], 5);
    let warnings = found["how"]["warnings"].to_string();
    assert!(warnings.contains("5 of 5 windows of"), "{warnings}");
    fs::write(&text, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    let message = fail(&mut scan(&text), 2);
    assert!(message.contains("its 2 documents have 2 tokens together"), "{message}");
}
