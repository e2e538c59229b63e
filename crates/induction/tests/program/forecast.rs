//! `induction forecast`.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::common::{fail, induction, succeed};

fn forecast(text: &Path) -> Command {
    let mut command = induction();
    command.arg("forecast").arg(text).args(["--vocabulary", "280"]);
    command
}

/// Paragraphs that each say the same few made-up words again.
fn text() -> String {
    let word = |k: usize| format!("{:x}", k.wrapping_mul(2_654_435_761) % 0xff_ffff);
    let paragraph = |k: usize| {
        let words: Vec<String> = (0..300).map(|at| word(8 * k + at * at % 7)).collect();
        words.join(" ")
    };
    (0..80).map(paragraph).collect::<Vec<_>>().join("\n\n")
}

#[test]
fn a_text_is_told_whether_the_change_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.txt");
    fs::write(&path, text()).unwrap();
    let said = succeed(&mut forecast(&path));
    for part in ["words.txt: ", "what copying by one token gains", "by the published law", "32.1M"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.lines().last().unwrap().starts_with("The induction change comes at "), "{said}");

    let json = succeed(forecast(&path).args(["--json", "--tokens", "100000"]));
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["settings"]["tokens"], 100_000);
    assert_eq!(found["comes"], false);
    assert!(found["onset_tokens"].as_f64().unwrap() > 100_000.0);
    assert!(
        found["verdict"].as_str().unwrap().starts_with("does not come within 100k tokens"),
        "{json}"
    );
    let gain = |found: &Value| found["material"]["gain"].as_f64().unwrap();
    assert!(gain(&found) > 0.1, "{json}");
    // The same answer from any number of threads; nothing is written.
    let again = succeed(forecast(&path).args(["--json", "--tokens", "100000", "--threads", "1"]));
    assert_eq!(again, json);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // A shorter context holds fewer copies.
    let short = succeed(forecast(&path).args(["--json", "--context", "64"]));
    let short: Value = serde_json::from_str(&short).unwrap();
    assert!(short["notes"].to_string().contains("which was not tested here"), "{short}");
    assert!(gain(&short) < gain(&found));
}

#[test]
fn what_is_wrong_with_a_text_is_said_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let long = write("long.txt", &text());
    let refused = |command: &mut Command, part: &str| {
        let message = fail(command, 2);
        assert!(message.contains(part), "{part}: {message}");
        assert!(message.trim_end().lines().count() <= 2, "{message}");
    };
    refused(&mut forecast(&folder.path().join("missing.txt")), "missing.txt");
    refused(&mut forecast(&write("empty.txt", "")), "empty.txt");
    let short = write("short.txt", &text()[..4500]);
    refused(&mut forecast(&short), "use a longer text or a shorter context (--context)");
    refused(forecast(&long).args(["--context", "0"]), "context: expected at least 8");
    refused(induction().arg("forecast").arg(&long).args(["--vocabulary", "70000"]), "d_vocab");
    // These with the usage below.
    assert!(fail(induction().arg("forecast"), 2).contains("<TEXT>"));
    assert!(fail(forecast(&long).args(["--tokens", "0"]), 2).contains("--tokens"));
}
