//! What files, names and arguments hold does nothing to a terminal, through the real binary.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::common::{TINY, fixtures, induction, spec, succeed};
use induction::records::acts;
use serde_json::{Value, json};

/// A title, a colour, the same as one character of Latin-1, a cleared line, reordered text, hidden
/// text.
const HOSTILE: &str =
    "\u{1b}]0;title\u{7}\u{1b}[31m\u{9b}2J\u{8}\u{7f}\u{202e}\u{2066}\u{200f}\u{200b}\u{e0041}<b>";

/// Both streams of a command that must end with `code`: only line ends and tabs act.
fn inert(command: &mut Command, code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|stream| String::from_utf8(stream).unwrap());
    assert_eq!(status.code(), Some(code), "{stderr}");
    for text in [&stdout, &stderr] {
        let acting: Vec<char> =
            text.chars().filter(|&c| acts(c) && c != '\n' && c != '\t').collect();
        assert!(acting.is_empty(), "{acting:?} in {text}");
    }
    (stdout, stderr)
}

fn train(spec: &Path, out: &Path) -> Command {
    let mut command = induction();
    command.arg("train").arg(spec).arg("--out").arg(out);
    command
}

#[test]
fn errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let escaped =
        |error: &str| assert!(error.contains("\\u{1b}") && error.contains("\\u{202e}"), "{error}");
    // Keys and values of a spec, which its error quotes.
    let key = format!("{HOSTILE} = 1\n{TINY}");
    escaped(&inert(&mut train(&spec(folder.path(), &key), &path("run")), 2).1);
    let value = TINY.replace("batch = 2", &format!("batch = '{HOSTILE}'"));
    escaped(&inert(&mut train(&spec(folder.path(), &value), &path("run")), 2).1);
    let name = TINY.replace("\"tiny\"", &format!("'{HOSTILE}'"));
    escaped(&inert(&mut train(&spec(folder.path(), &name), &path("run")), 2).1);
    // A key as long as the file.
    let long = format!("{}{} = 1\n{TINY}", "x".repeat(1 << 20), HOSTILE);
    assert!(inert(&mut train(&spec(folder.path(), &long), &path("run")), 2).1.len() < 10_000);
    // Keys of documents.
    let line = json!({HOSTILE: "x"});
    fs::write(path("keys.jsonl"), format!("{line}\n{line}\n")).unwrap();
    let data = format!("source = \"corpus\"\npath = {:?}\n", path("keys.jsonl"));
    let text = TINY
        .replace("source = \"repeats\"\nmin_period = 3\nmax_period = 8\n", &data)
        .replace("d_vocab = 16", "d_vocab = 300");
    escaped(&inert(&mut train(&spec(folder.path(), &text), &path("run")), 2).1);
    // Token lists and manifests.
    fs::write(path("tokens.json"), format!("{{\"{HOSTILE}\": 1}}")).unwrap();
    let model = fixtures().join("oracle/pretrained/gpt2_hub");
    inert(induction().arg("scan").arg(model).arg("--tokens").arg(path("tokens.json")), 2);
    fs::write(
        path("manifest.toml"),
        format!("format = 1\nname = '{HOSTILE}'\nruns = '{HOSTILE}'\n"),
    )
    .unwrap();
    inert(
        induction()
            .arg("reproduce")
            .arg("--manifest")
            .arg(path("manifest.toml"))
            .arg("--out")
            .arg(path("out")),
        2,
    );
}

#[cfg(unix)]
#[test]
fn names_and_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let name = HOSTILE.replace('/', "");
    let missing = folder.path().join(&name);
    for command in ["measure", "explore", "ablate", "report", "status", "scan"] {
        inert(induction().arg(command).arg(&missing), 2);
    }
    inert(induction().arg(&name), 2);
    inert(induction().args(["--device", &name, "devices"]), 2);
    inert(induction().args(["scan", "x", "--tokens", "y", "--pattern", &name]), 2);
    // A model that is there: its name is in the table, and in the JSON as it is.
    let model = folder.path().join(&name);
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixtures().join("oracle/pretrained/gpt2_hub").join(file), model.join(file))
            .unwrap();
    }
    let (table, _) = inert(induction().arg("scan").arg(&model), 0);
    assert!(table.contains("\\u{1b}]0;title"), "{table}");
    let (scan, _) = inert(induction().args(["--json", "scan"]).arg(&model), 0);
    assert_eq!(serde_json::from_str::<Value>(&scan).unwrap()["model"]["name"], name);
}

#[test]
fn states_of_runs() {
    let folder = tempfile::tempdir().unwrap();
    let row = format!(
        "[[runs]]\n{}",
        TINY.replace("[data]", "[runs.spec.data]").replace("format = 1", "[runs.spec]\nformat = 1")
    );
    let row = ["model", "train", "snapshots", "evaluation"].iter().fold(row, |text, section| {
        text.replace(&format!("[{section}]"), &format!("[runs.spec.{section}]"))
    });
    fs::write(folder.path().join("manifest.toml"), format!("format = 1\nname = \"mine\"\n{row}"))
        .unwrap();
    let run = folder.path().join("runs/tiny");
    fs::create_dir_all(&run).unwrap();
    let reason = format!("{HOSTILE}\n  done: all is well");
    fs::write(
        run.join("status.json"),
        json!({"stage": "failed", "at": 1, "of": 2, "reason": reason}).to_string(),
    )
    .unwrap();
    let (table, _) = inert(induction().arg("status").arg(folder.path()), 0);
    assert!(table.contains("\\u{1b}]0;title") && table.lines().count() == 3, "{table}");
    let (states, _) = inert(induction().args(["--json", "status"]).arg(folder.path()), 0);
    assert_eq!(serde_json::from_str::<Value>(&states).unwrap()[0]["status"]["reason"], reason);
}

/// A text that attacks its reader is learned, followed and reported as any other.
#[test]
fn corpora() {
    let folder = tempfile::tempdir().unwrap();
    let attack = format!("</script><script>alert(1)</script>{HOSTILE} and again {HOSTILE}\n\n");
    fs::write(folder.path().join("text.txt"), attack.repeat(400)).unwrap();
    fs::write(folder.path().join("short.txt"), attack.repeat(2)).unwrap();
    let data = format!("source = \"corpus\"\npath = {:?}\n", folder.path().join("text.txt"));
    let text = TINY
        .replace("source = \"repeats\"\nmin_period = 3\nmax_period = 8\n", &data)
        .replace("d_vocab = 16", "d_vocab = 300");
    let (spec, run) = (spec(folder.path(), &text), folder.path().join("runs/tiny"));
    fs::create_dir(folder.path().join("runs")).unwrap();
    inert(induction().arg("run").arg(&spec).arg("--out").arg(&run), 0);
    inert(
        induction().arg("explore").arg(&run).arg("--text").arg(folder.path().join("short.txt")),
        0,
    );
    inert(induction().arg("scan").arg(&run), 0);
    inert(induction().arg("report").arg(folder.path()), 0);
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(
        !page.contains("<script>alert")
            && !page.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{2066}'])
    );
    succeed(induction().args(["--json", "report"]).arg(folder.path()));
}
