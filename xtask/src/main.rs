//! The repository's tasks, run as `cargo xtask TASK`.
//!
//! `reproduce`, `pilot` and `bench` build the release binary and call it. `ci` and `torture` run the
//! tests, `regress` compares this program with its golden results or with an earlier commit.
//! `libtorch`, `cuda` and `gpu` serve the optional devices, and `scale` reckons what very
//! large plans would cost. None of the project's crates is linked, so it builds in seconds.

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

use clap::{Args, Parser, Subcommand};

/// The repository's tasks.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Train, measure and ablate the models of a scale, write the report: `induction reproduce` on the
    /// texts in fixtures/ [default: laptop, out/SCALE]
    Reproduce(HandedOn),
    /// Make a study: fixtures/studies/NAME.toml, or a file of your own [default folder: out/NAME]
    Study(StudyOptions),
    /// The search behind the defaults, small runs that differ in one choice each: `induction pilot`
    /// [default: out/pilot]
    Pilot(HandedOn),
    /// What continuous integration runs: format, lints, documentation, all tests
    Ci(Ci),
    Libtorch(libtorch::Options),
    Cuda(cuda::Options),
    Gpu(gpu::Options),
    Bench(bench::Options),
    Torture(torture::Options),
    Scale(scale::Options),
    Regress(regress::Options),
}

/// What is handed to `induction` as it is; so is --help, which lists it.
#[derive(Args)]
#[command(disable_help_flag = true)]
struct HandedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<String>,
}

#[derive(Args)]
struct StudyOptions {
    /// The name of a study in fixtures/studies, or the path of a file
    study: String,
    /// Handed on to `induction reproduce`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<String>,
}

#[derive(Args)]
struct Ci {
    /// Instead the tests that need a real Slurm, on one that fixtures/slurm.sh starts on this host
    #[arg(long)]
    slurm: bool,
    /// Instead every kernel of the device cuda:N is assembled for these compute capabilities times
    /// ten, without a GPU (the build takes long) [default: all of them]
    #[arg(
        long,
        value_name = "CAPABILITY",
        num_args = 0..,
        value_parser = cuda::capability,
        conflicts_with = "slurm"
    )]
    cuda: Option<Vec<u32>>,
}

fn main() -> ExitCode {
    match Cli::parse().task {
        Task::Reproduce(HandedOn { arguments }) => induction("reproduce", &arguments),
        Task::Study(StudyOptions { study, arguments }) => make_study(&study, arguments),
        Task::Pilot(HandedOn { arguments }) => induction("pilot", &arguments),
        Task::Ci(Ci { slurm: true, .. }) => slurm::test(),
        Task::Ci(Ci { cuda: Some(capabilities), .. }) => cuda::test(&capabilities),
        Task::Ci(_) => ci(),
        Task::Libtorch(options) => libtorch::libtorch(&options),
        Task::Cuda(options) => cuda::cuda(&options),
        Task::Gpu(options) => gpu::gpu(&options),
        Task::Bench(options) => bench::bench(&options),
        Task::Torture(options) => torture::torture(&options),
        Task::Scale(options) => scale::scale(&options),
        Task::Regress(options) => regress::regress(options),
    }
}

/// A number above 0, as an argument.
fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number above 0".to_string()),
    }
}

/// `induction reproduce --study`, of a study by its name or its file.
fn make_study(study: &str, mut arguments: Vec<String>) -> ExitCode {
    let shipped = root().join("fixtures/studies").join(format!("{study}.toml"));
    let file = if shipped.exists() { shipped } else { PathBuf::from(study) };
    if !arguments.iter().any(|a| a == "--out" || a.starts_with("--out=")) {
        let name = file.file_stem().unwrap_or_default();
        arguments.extend(["--out".into(), Path::new("out").join(name).display().to_string()]);
    }
    arguments.extend(["--study".into(), file.display().to_string()]);
    induction("reproduce", &arguments)
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
    let planned = has("--manifest") || has("--study");
    if !has("--corpus") && !planned && scale != "smoke" {
        // A GPU learns from more text than one of these.
        let text = match (task, scale) {
            ("reproduce", "gpu") => corpora.clone(),
            ("reproduce", _) => corpora.join("python-packages.jsonl.zst"),
            // The search behind the defaults is not made on the text that claims are judged on.
            _ => corpora.join("python.jsonl.zst"),
        };
        command.arg("--corpus").arg(text);
    }
    if task == "reproduce" && !planned {
        let others = [
            ("--second-corpus", "python-docs.jsonl.zst", &["full", "paper"][..]),
            ("--books", "books", &["full"]),
        ];
        for (flag, text, scales) in others {
            if !has(flag) && scales.contains(&scale) {
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
