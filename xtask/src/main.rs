//! The repository's tasks. Thin: it builds the release binary and calls it.

mod bench;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode, exit},
};

const USAGE: &str = "\
cargo xtask TASK

  reproduce [--scale smoke|laptop] [--clamp] [--device cpu|flex] [--out DIR] [--seed N] [--threads N] [--jobs N] [--corpus PATH] [--json] [--quiet]
            train, measure and ablate the models of a scale, write the report [default: laptop, out/SCALE]
  ci        what continuous integration runs: format, lints, documentation, all tests
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("reproduce") => reproduce(&arguments[1..]),
        Some("bench") => bench::bench(&arguments[1..]),
        Some("ci") => ci(),
        Some("help" | "--help" | "-h") => {
            eprint!("{USAGE}{}", bench::USAGE);
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}{}", bench::USAGE);
            ExitCode::from(2)
        }
    }
}

/// Builds `induction` and hands the arguments on; adds the corpus in fixtures/ and a default output folder.
fn reproduce(arguments: &[String]) -> ExitCode {
    let root = root();
    cargo(&["build", "--release", "--package", "induction"]);
    let has = |flag: &str| arguments.iter().any(|a| a == flag || a.starts_with(&format!("{flag}=")));
    let mut command = Command::new(target(&root).join("release/induction"));
    command.arg("reproduce").args(arguments);
    if !has("--corpus") {
        command.arg("--corpus").arg(root.join("fixtures/corpora/python.jsonl.zst"));
    }
    if !has("--out") && !has("--help") {
        let after = arguments.iter().position(|a| a == "--scale").and_then(|at| arguments.get(at + 1));
        let scale = after.map(String::as_str).or_else(|| arguments.iter().find_map(|a| a.strip_prefix("--scale=")));
        command.arg("--out").arg(Path::new("out").join(scale.unwrap_or("laptop")));
    }
    match command.status() {
        // A signal leaves no code; the binary has said why it stopped.
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(130)),
        Err(error) => {
            eprintln!("xtask: cannot run {}: {error}", command.get_program().display());
            ExitCode::from(2)
        }
    }
}

fn ci() -> ExitCode {
    cargo(&["fmt", "--all", "--check"]);
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    cargo_with(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")]);
    cargo(&["test", "--workspace"]);
    ExitCode::SUCCESS
}

fn cargo(arguments: &[&str]) {
    cargo_with(arguments, &[]);
}

/// Runs cargo in the repository's root; ends the process with its code if it fails.
fn cargo_with(arguments: &[&str], variables: &[(&str, &str)]) {
    eprintln!("cargo {}", arguments.join(" "));
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program).args(arguments).envs(variables.iter().copied()).current_dir(root()).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => exit(status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("xtask: cannot run cargo: {error}");
            exit(2);
        }
    }
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
