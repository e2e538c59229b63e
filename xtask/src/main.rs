//! The repository's tasks. Thin: it builds the release binary and calls it.

mod bench;
mod cuda;
mod devices;
mod gpu;
mod libtorch;
mod regress;
mod scale;
mod slurm;
mod torture;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode, exit},
};

const USAGE: &str = "\
cargo xtask TASK

  reproduce [--scale smoke|laptop|full|gpu|paper] [--dry-run] [--clamp] [--device NAME] [--bf16] [--out DIR] [--seed N] [--seeds N]
            [--threads N] [--jobs N] [--corpus PATH] [--manifest FILE] [--json] [--quiet]
            train, measure and ablate the models of a scale, write the report [default: laptop, out/SCALE];
            with --dry-run, say what that costs here; with --executor slurm [--partition P] [--gres G] [--time T]
            [--array-limit N] [--account A] [--cpus-per-task N] [--notice SECONDS] [--print], submit it to a cluster;
            [--second-corpus PATH] [--books PATH] replace the other texts of `full` and `paper`
  pilot     [--tokens N] [--dry-run] [--out DIR] and so on
            the search behind the defaults: small runs that differ in one choice each [default: out/pilot]
  ci        what continuous integration runs: format, lints, documentation, all tests; with --slurm, instead, the tests
            that need a real Slurm, on one that fixtures/slurm.sh starts on this host; with --cuda
            [80] [90] [100], instead, every kernel of the device cuda:N is assembled for these compute capabilities times
            ten [default: all three], without a GPU (the build takes long)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("reproduce") => induction("reproduce", &arguments[1..]),
        Some("pilot") => induction("pilot", &arguments[1..]),
        Some("bench") => bench::bench(&arguments[1..]),
        Some("libtorch") => libtorch::libtorch(&arguments[1..]),
        Some("cuda") => cuda::cuda(&arguments[1..]),
        Some("gpu") => gpu::gpu(&arguments[1..]),
        Some("regress") => regress::regress(&arguments[1..]),
        Some("torture") => torture::torture(&arguments[1..]),
        Some("scale") => scale::scale(&arguments[1..]),
        Some("ci") => {
            match arguments[1..].iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                [] => ci(),
                ["--slurm"] => slurm::test(),
                ["--cuda", capabilities @ ..] => cuda::test(capabilities),
                others => {
                    eprintln!(
                        "xtask ci: expected nothing, --slurm or --cuda, found {}",
                        others.join(" ")
                    );
                    ExitCode::from(2)
                }
            }
        }
        Some("help" | "--help" | "-h") => {
            usage();
            ExitCode::SUCCESS
        }
        _ => {
            usage();
            ExitCode::from(2)
        }
    }
}

fn usage() {
    let devices = [libtorch::USAGE, cuda::USAGE, gpu::USAGE].concat();
    eprint!("{USAGE}{}{devices}{}{}{}", bench::USAGE, torture::USAGE, scale::USAGE, regress::USAGE);
}

/// Builds `induction` and hands the arguments on; adds the texts in fixtures/ and a default output
/// folder.
fn induction(task: &str, arguments: &[String]) -> ExitCode {
    let root = root();
    let binary = devices::binary(arguments);
    let has =
        |flag: &str| arguments.iter().any(|a| a == flag || a.starts_with(&format!("{flag}=")));
    let after = arguments.iter().position(|a| a == "--scale").and_then(|at| arguments.get(at + 1));
    let scale = after
        .map(String::as_str)
        .or_else(|| arguments.iter().find_map(|a| a.strip_prefix("--scale=")));
    let scale = scale.unwrap_or("laptop");
    let corpora = root.join("fixtures/corpora");
    let mut command = Command::new(binary);
    command.arg(task).args(arguments);
    if !has("--corpus") && !has("--manifest") {
        // A GPU learns from more text than one of these.
        let text = match (task, scale) {
            ("reproduce", "gpu") => corpora.clone(),
            ("reproduce", _) => corpora.join("python-packages.jsonl.zst"),
            // The search behind the defaults is not made on the text that claims are judged on.
            _ => corpora.join("python.jsonl.zst"),
        };
        command.arg("--corpus").arg(text);
    }
    if task == "reproduce" && !has("--manifest") {
        for (flag, text) in [("--second-corpus", "python-docs.jsonl.zst"), ("--books", "books")] {
            if !has(flag) {
                command.arg(flag).arg(corpora.join(text));
            }
        }
    }
    if !has("--out") && !has("--help") {
        command.arg("--out").arg(Path::new("out").join(if task == "reproduce" {
            scale
        } else {
            task
        }));
    }
    match command.status() {
        // A signal leaves no code; the binary has said why it stopped.
        Ok(status) => {
            ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(130))
        }
        Err(error) => {
            eprintln!("xtask: cannot run {}: {error}", command.get_program().display());
            ExitCode::from(2)
        }
    }
}

/// What is off by default and can be linted and tested anywhere is on in all of `ci`: each set of
/// features has most dependencies built anew.
const CI_FEATURES: &str = "--features=induction/hub";

fn ci() -> ExitCode {
    cargo(&["fmt", "--all", "--check"]);
    cargo(&["clippy", "--workspace", "--all-targets", CI_FEATURES, "--", "-D", "warnings"]);
    // What users build: without burn, which the workspace's tests have.
    cargo(&["clippy", "--package", "induction", "--", "-D", "warnings"]);
    cargo_with(
        &["doc", "--workspace", "--no-deps", CI_FEATURES],
        &[("RUSTDOCFLAGS", "-D warnings".to_string())],
    );
    cargo(&["test", "--workspace", CI_FEATURES]);
    ExitCode::SUCCESS
}

fn cargo(arguments: &[&str]) {
    cargo_with(arguments, &[]);
}

/// Runs cargo in the repository's root; ends the process with its code if it fails.
fn cargo_with(arguments: &[&str], variables: &[(&str, String)]) {
    if !arguments.contains(&"--quiet") {
        eprintln!("cargo {}", arguments.join(" "));
    }
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir(root())
        .status();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The diffs that the guide tells people to apply: they apply.
    #[test]
    fn the_guides_diffs_apply() {
        let text = std::fs::read_to_string(root().join("docs/GUIDE.md")).unwrap();
        let diffs: Vec<&str> = text
            .split("\n```diff\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap())
            .collect();
        assert_eq!(diffs.len(), 4);
        for diff in diffs {
            let mut git = Command::new("git")
                .args(["apply", "--check", "-"])
                .current_dir(root())
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("git is there");
            std::io::Write::write_all(&mut git.stdin.take().unwrap(), diff.as_bytes()).unwrap();
            assert!(git.wait().unwrap().success(), "{diff}");
        }
    }
}
