//! What a user can get wrong: one clear message, exit 2, nothing lost.

#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Command};

use crate::common::{TINY, assert_same_run, fail, induction, spec, succeed};

fn train(folder: &Path, text: &str) -> Command {
    let mut command = induction();
    command.arg("train").arg(spec(folder, text)).arg("--out").arg(folder.join("run"));
    command
}

/// TINY on a corpus file that holds `bytes`.
fn on_corpus(folder: &Path, name: &str, bytes: Option<&[u8]>, d_vocab: usize) -> Command {
    if let Some(bytes) = bytes {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let path = folder.join(name);
    let data = format!("source = \"corpus\"\npath = {path:?}\n");
    let text = TINY
        .replace("source = \"repeats\"\nmin_period = 3\nmax_period = 8\n", &data)
        .replace("d_vocab = 16", &format!("d_vocab = {d_vocab}"));
    train(folder, &text)
}

#[test]
fn corpora() {
    let folder = tempfile::tempdir().unwrap();
    let long = "One fish, two fish.\n\n".repeat(2000);
    let cases: [(&str, Option<&[u8]>, usize, &str); 7] = [
        ("missing.txt", None, 300, "missing.txt"),
        ("empty.txt", Some(b""), 300, "empty.txt"),
        ("latin1.txt", Some(b"caf\xe9 au lait, s'il vous pla\xeet"), 300, "UTF-8"),
        ("tiny.txt", Some(b"a b\n\nc d\n\ne f\n\n"), 257, "tokens"),
        ("plain.txt", Some(long.as_bytes()), 5000, "d_vocab"),
        ("bad.jsonl", Some(b"{\"id\": \"a\", \"text\": \"x\"}\nnot json\n"), 300, "line 2"),
        ("cut.jsonl.zst", Some(b"\x28\xb5\x2f\xfd\x04\x00"), 300, "cut.jsonl.zst"),
    ];
    for (name, bytes, d_vocab, expected) in cases {
        let message = fail(&mut on_corpus(folder.path(), name, bytes, d_vocab), 2);
        assert!(message.contains(expected), "{name}: {message}");
        assert!(message.trim_end().lines().count() <= 2, "{name}: {message}");
    }
}

#[test]
fn specs() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to, expected) in [
        ("seed = 7", "sede = 7", "sede"),
        ("lr = 0.01", "lr = 0.01\nlearning_rate = 1", "learning_rate"),
        ("tokens = 9600", "tokens = 0", "train.tokens"),
        ("n_heads = 2", "n_heads = 0", "model.n_heads"),
        ("n_layers = 2", "n_layers = 0", "model.n_layers"),
        ("n_heads = 2", "n_heads = 3", "d_model"),
        ("d_model = 16", "d_model = 15", "d_model"),
        ("batch = 2", "batch = \"two\"", "batch"),
        ("n_ctx = 24", "", "n_ctx"),
        ("format = 1", "format = 2", "format"),
        ("source = \"repeats\"", "source = \"web\"", "web"),
        ("icl_late = 22", "icl_late = 24", "evaluation.icl_late"),
        ("prefix_block = 5", "prefix_block = 6", "evaluation.prefix_block"),
        ("[model]", "[model", "spec.toml"),
    ] {
        assert!(TINY.contains(from));
        let message = fail(&mut train(folder.path(), &TINY.replacen(from, to, 1)), 2);
        assert!(message.contains(expected), "{to}: {message}");
    }
    assert!(!folder.path().join("run").exists(), "a refused spec must not make a run folder");
}

#[test]
fn a_disk_that_refuses_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    succeed(induction().arg("train").arg(spec(folder.path(), TINY)).arg("--out").arg(&whole));
    // The limit (in blocks of 512 bytes) stops, in turn, the spec, the weights, the optimizer
    // state.
    for blocks in [1, 8, 20, 44] {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let train = train(folder.path(), TINY);
        let mut limited = Command::new("sh");
        limited.arg("-c").arg(script).arg(train.get_program()).args(train.get_args());
        let message = fail(&mut limited, 2);
        assert!(message.contains("run"), "names the file: {message}");
    }
    succeed(&mut train(folder.path(), TINY));
    assert_same_run(&whole, &folder.path().join("run"));
}

#[test]
fn a_run_that_diverges_stops_with_3_and_keeps_its_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let text = TINY
        .replace("lr = 0.01", "lr = 900.0\nwarmup_steps = 0\npos_gain_lr_scale = 10.0")
        .replace("n_ctx = 24", "n_ctx = 24\nnormalization = \"none\"");
    let message = fail(&mut train(folder.path(), &text), 3);
    assert!(message.contains("not finite") && message.contains("diverged.json"), "{message}");
    let report = std::fs::read_to_string(folder.path().join("run/diverged.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report["step"].as_u64().unwrap() > report["last_good_snapshot"].as_u64().unwrap());
    // The snapshot that it names is whole: a second try goes on from it, to the same end.
    assert!(fail(&mut train(folder.path(), &text), 3).ends_with(&message));
}

#[test]
fn folders_and_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("tokens.json"), "[0, 1, 2").unwrap();
    succeed(&mut train(folder.path(), TINY));
    fail(induction().arg("measure").arg(path("nowhere")), 2);
    fail(induction().arg("report").arg(path("nowhere")), 2);
    fail(induction().arg("scan").arg(path("nowhere")).arg("--tokens").arg(path("tokens.json")), 2);
    assert!(
        fail(induction().arg("scan").arg(path("run")).arg("--tokens").arg(path("tokens.json")), 2)
            .contains("JSON list")
    );
    std::fs::write(path("tokens.json"), "[0, 99]").unwrap();
    assert!(
        fail(induction().arg("scan").arg(path("run")).arg("--tokens").arg(path("tokens.json")), 2)
            .contains("99")
    );
    std::fs::write(path("tokens.json"), "[0, 1, 2]").unwrap();
    let mut scan = induction();
    scan.arg("scan")
        .arg(path("run"))
        .arg("--tokens")
        .arg(path("tokens.json"))
        .args(["--pattern", "2:0"]);
    assert!(fail(&mut scan, 2).contains("2 layers"));
    fail(induction().args(["--threads", "0", "report"]).arg(path("run")), 2);
    let mut export = induction();
    export
        .arg("export")
        .arg(path("run"))
        .args(["--step", "5", "--format", "transformer-lens", "--out"])
        .arg(path("tl"));
    assert!(fail(&mut export, 2).contains("step-00000005"));
}

/// Replaces a file of a snapshot, with a manifest that vouches for it.
fn forge(snapshot: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(snapshot.join(name)).unwrap();
    change(&mut bytes);
    std::fs::write(snapshot.join(name), &bytes).unwrap();
    let path = snapshot.join("MANIFEST.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for entry in manifest.as_array_mut().unwrap() {
        if entry["name"] == name {
            entry["bytes"] = bytes.len().into();
            entry["blake3"] = blake3::hash(&bytes).to_hex().as_str().into();
        }
    }
    std::fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[test]
fn snapshots_that_cannot_be_measured() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let snapshot = run.join("snapshots/step-00000100");
    let measure = || fail(induction().arg("measure").arg(&run), 2);
    let whole = |name: &str| std::fs::read(snapshot.join(name)).unwrap();

    succeed(&mut train(folder.path(), TINY));
    let (weights, config, manifest) =
        (whole("model.safetensors"), whole("config.json"), whole("MANIFEST.json"));
    // The last four bytes are the last number of the last tensor of the file.
    forge(&snapshot, "model.safetensors", |bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let message = measure();
    assert!(message.contains("step-00000100") && message.contains("not finite"), "{message}");
    // What came before it is measured and kept.
    let steps =
        std::fs::read_to_string(run.join("measurements/icl.jsonl")).unwrap().lines().count();
    assert!((1..16).contains(&steps), "{steps}");

    std::fs::write(snapshot.join("model.safetensors"), &weights).unwrap();
    std::fs::write(snapshot.join("MANIFEST.json"), &manifest).unwrap();
    forge(&snapshot, "config.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains("\"n_heads\": 2"), "{text}");
        *bytes = text.replace("\"n_heads\": 2", "\"n_heads\": 4").into_bytes();
    });
    let message = measure();
    assert!(message.contains("W_Q") || message.contains("config.json"), "{message}");

    std::fs::write(snapshot.join("config.json"), &config).unwrap();
    std::fs::write(snapshot.join("MANIFEST.json"), &manifest).unwrap();
    succeed(induction().arg("measure").arg(&run));
    assert_eq!(
        std::fs::read_to_string(run.join("measurements/icl.jsonl")).unwrap().lines().count(),
        16
    );
}

#[test]
fn texts_that_cannot_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "abc").unwrap();
    let run = folder.path().join("run");
    let measure = || {
        let mut command = induction();
        command.arg("explore").arg(&run).arg("--text").arg(&text);
        command
    };
    succeed(&mut train(folder.path(), TINY));
    assert!(fail(&mut measure(), 2).contains("no tokenizer"));

    std::fs::remove_dir_all(&run).unwrap();
    let corpus = "One fish, two fish, red fish, blue fish.\n\n".repeat(2000);
    succeed(&mut on_corpus(folder.path(), "fish.txt", Some(corpus.as_bytes()), 270));
    std::fs::write(&text, "x").unwrap();
    assert!(fail(&mut measure(), 2).contains("expected at least 2"));
    std::fs::write(&text, b"caf\xe9").unwrap();
    assert!(fail(&mut measure(), 2).contains("text.txt"));
    std::fs::write(&text, "two fish, two fish").unwrap();
    succeed(&mut measure());
    let stored = std::fs::read_to_string(run.join("measurements/text.json")).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    let tokens: Vec<&str> =
        stored["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(tokens.concat(), "two fish, two fish");
    // Without a text the last one stays, and nothing is measured again.
    let table = || std::fs::read(run.join("measurements/text.jsonl")).unwrap();
    let first = table();
    succeed(induction().arg("explore").arg(&run));
    assert_eq!(first, table());
}

/// A finished run keeps the weights of some snapshots. A program with another head measure would
/// make all tables again: it must not begin with what it cannot end.
#[test]
fn tables_outlive_the_weights_they_were_made_from() {
    let folder = tempfile::tempdir().unwrap();
    succeed(&mut train(folder.path(), TINY));
    let run = folder.path().join("run");
    let mut measure = induction();
    measure.arg("measure").arg(&run);
    succeed(&mut measure);
    let table = run.join("measurements/heads.jsonl");
    let older = std::fs::read_to_string(&table).unwrap().replace("\"copying_10\"", "\"older_10\"");
    std::fs::write(&table, &older).unwrap();
    std::fs::remove_file(run.join("snapshots/step-00000001/model.safetensors")).unwrap();
    let message = fail(&mut measure, 2);
    assert!(
        message.contains("step-00000001") && message.contains("the tables stay as they are"),
        "{message}"
    );
    assert_eq!(std::fs::read_to_string(&table).unwrap(), older);
}
