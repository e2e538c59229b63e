//! Runs the real binary.

#![allow(dead_code, unreachable_pub)] // each test uses its part of what is shared

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A run of the synthetic task that takes a second or two.
pub const TINY: &str = r#"
format = 1
name = "tiny"
seed = 7
[data]
source = "repeats"
min_period = 3
max_period = 8
[model]
n_layers = 2
d_model = 16
n_heads = 2
d_head = 8
n_ctx = 24
d_vocab = 16
[train]
tokens = 9600
batch = 2
lr = 0.01
[snapshots]
every = 20
[evaluation]
examples = 8
icl_early = 3
icl_late = 22
icl_half_width = 1
head_examples = 3
prefix_block = 5
"#;

pub fn induction() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_induction"));
    command.arg("--quiet");
    command
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Standard output of a run that must succeed.
pub fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(
        status.success(),
        "{command:?} ended with {status}: {}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap()
}

/// Standard error of a run that must end with `code`, on one line or a few, without a panic.
pub fn fail(command: &mut Command, code: i32) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{command:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

/// Writes a spec into `folder` and gives its path.
pub fn spec(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("spec.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The metric log without the one value that may differ between two runs of a spec.
pub fn log_without_speed(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("tokens_per_s").unwrap();
        value
    });
    lines.collect()
}

/// Asserts that two runs hold the same snapshots, bit for bit, and the same log.
pub fn assert_same_run(a: &Path, b: &Path) {
    let names = |run: &Path| {
        let entries = std::fs::read_dir(run.join("snapshots")).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert!(
            !names.iter().any(|name| name.starts_with(".tmp-")),
            "leftovers in {}: {names:?}",
            run.display()
        );
        names.retain(|name| !name.starts_with("damaged-"));
        names.sort();
        names
    };
    assert_eq!(names(a), names(b));
    for name in names(a) {
        for file in ["model.safetensors", "optim.safetensors", "config.json"] {
            let read =
                |run: &Path| std::fs::read(run.join("snapshots").join(&name).join(file)).ok();
            // Only an optimizer state can have been thinned out.
            assert!(read(a).is_some() || file.starts_with("optim"), "{name}/{file} is not there");
            assert!(read(a) == read(b), "{name}/{file} differs");
        }
    }
    assert_eq!(log_without_speed(a), log_without_speed(b));
}

/// A manifest of named specs.
pub fn manifest(folder: &Path, runs: &[(&str, String)]) -> PathBuf {
    let mut text = String::from("format = 1\nname = \"test\"\n");
    for (name, spec) in runs {
        let spec = spec
            .trim()
            .replace("\n[", "\n[runs.spec.")
            .replace("name = \"tiny\"", &format!("name = \"{name}\""));
        text += &format!("[[runs]]\nseries = [\"tiny\"]\n[runs.spec]\n{spec}\n");
    }
    let path = folder.join("plan.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Three models that end in the same second or two.
pub fn three(tokens: u32) -> Vec<(&'static str, String)> {
    let tiny = TINY.replace("tokens = 9600", &format!("tokens = {tokens}"));
    vec![
        ("one", tiny.replace("n_layers = 2", "n_layers = 1")),
        ("two", tiny.clone()),
        ("mlp", tiny.replace("n_ctx = 24", "n_ctx = 24\nd_mlp = 32")),
    ]
}
