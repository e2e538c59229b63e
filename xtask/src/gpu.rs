//! What runs on a machine with a GPU and nothing else: packed before, read after.

mod page;
#[cfg(unix)]
#[cfg(test)]
mod session_tests;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde_json::Value;

use crate::{
    cuda,
    devices::{Built, fail, run},
    libtorch::Torch,
    root, target,
};

/// What runs on a machine that has a GPU and nothing else
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("either").required(true).args(["pack", "read"]))]
pub(crate) struct Options {
    /// Build what has the GPU back ends and their tests, and pack it into .gpu/ for a machine on
    /// which nothing can be built; fixtures/gpu.sh runs it there
    #[arg(long)]
    pack: bool,
    /// The version of torch that machine has [default: 2.11.0]
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["read", "python"])]
    torch: Option<String>,
    /// A Python here whose torch to build against instead
    #[arg(long, value_name = "PATH", conflicts_with = "read")]
    python: Option<PathBuf>,
    /// Pack this back end alone: libtorch's side is built in a quarter of the time of both
    #[arg(long, value_enum, value_name = "BACKEND", conflicts_with = "read")]
    only: Option<Backend>,
    /// Turn the gpu.json of its calls into docs/results/gpu.md and the rows of docs/BENCHMARKS.md
    #[arg(long, value_name = "FILE", num_args = 1..)]
    read: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    Libtorch,
    Cuda,
}

/// `cargo xtask gpu`.
pub(crate) fn gpu(options: &Options) -> ExitCode {
    if options.pack { pack(options) } else { read(&options.read) }
}

fn pack(options: &Options) -> ExitCode {
    let torch = match &options.python {
        Some(python) => Torch::of_user(python),
        None => Torch::own(options.torch.as_deref()),
    };
    let wanted = |backend| options.only.is_none_or(|only| only == backend);
    let libtorch = wanted(Backend::Libtorch).then(|| torch.build(false));
    let cuda = wanted(Backend::Cuda).then(|| cuda::build(false));
    // Those that hold the same libraries beside each other.
    let mut programs = Vec::new();
    for (name, built) in [("libtorch", libtorch), ("cuda", cuda)] {
        if let Some(Built { program, conformance, .. }) = built {
            programs.push((format!("induction-{name}"), program));
            programs.push((format!("conformance-{name}"), conformance));
        }
    }
    let stripped = target(&root()).join("gpu");
    fs::create_dir_all(&stripped)
        .unwrap_or_else(|error| fail(&format!("{}: {error}", stripped.display())));
    let mut command = Command::new("python3");
    command
        .arg(root().join("fixtures/gpu/pack.py"))
        .args(["--torch", torch.version.split('+').next().unwrap_or("")]);
    for (name, program) in programs {
        let to = stripped.join(&name);
        run(Command::new("strip").arg("-o").arg(&to).arg(program));
        command.arg(format!("{name}={}", to.display()));
    }
    eprintln!("xtask: packing into .gpu");
    run(&mut command);
    ExitCode::SUCCESS
}

const PAGE: &str = "docs/results/gpu.md";
const BENCHMARKS: &str = "docs/BENCHMARKS.md";

fn read(files: &[PathBuf]) -> ExitCode {
    let mut calls = Vec::new();
    for file in files {
        match call(file) {
            Ok(call) => calls.push(call),
            Err(what) => {
                eprintln!("xtask gpu: {}: {what}", file.display());
                return ExitCode::from(2);
            }
        }
    }
    if let Err(what) = of_one_machine(&calls) {
        eprintln!("xtask gpu: {what}");
        return ExitCode::from(2);
    }
    let page = page::page(&calls);
    let (path, benchmarks) = (root().join(PAGE), root().join(BENCHMARKS));
    let rows = page::benchmarks(&calls);
    let old = fs::read_to_string(&benchmarks)
        .unwrap_or_else(|error| fail(&format!("{BENCHMARKS}: {error}")));
    let new = page::between_marks(&old, &rows).unwrap_or_else(|| {
        fail(&format!(
            "{BENCHMARKS}: the marks {} and {} are not there, each once, in this order",
            page::BEGIN,
            page::END
        ))
    });
    write(&path, &page);
    write(&benchmarks, &new);
    eprintln!("{PAGE}, {BENCHMARKS}");
    ExitCode::SUCCESS
}

fn write(path: &PathBuf, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| fail(&format!("{}: {error}", path.display())));
}

/// A call's record, as fixtures/gpu/session.py wrote it.
fn call(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let call: Value = serde_json::from_str(&text)
        .map_err(|error| format!("not a gpu.json of fixtures/gpu.sh ({error})"))?;
    if call["format"] != 1 || !call["steps"].is_array() {
        return Err(format!(
            "not a gpu.json of fixtures/gpu.sh: its format is {}, expected 1",
            call["format"]
        ));
    }
    if let Some(reason) = call["refused"].as_str() {
        return Err(format!("that call did not begin: {reason}"));
    }
    if call["rehearsal"] != false {
        return Err("a rehearsal without a GPU: it measures nothing".to_string());
    }
    Ok(call)
}

/// Whether the calls may stand in one table: each of its own number, on the same card, of the same
/// programs.
fn of_one_machine(calls: &[Value]) -> Result<(), String> {
    for (at, call) in calls.iter().enumerate() {
        for before in &calls[..at] {
            for (part, key) in [
                ("machine", "gpu"),
                ("machine", "driver"),
                ("machine", "torch"),
                ("pack", "commit"),
                ("pack", "made"),
            ] {
                let (first, second) = (&before[part][key], &call[part][key]);
                if first != second {
                    return Err(format!(
                        "calls that are not of one machine and one pack: {key} is {first} and {second}; read them one by one"
                    ));
                }
            }
            if before["call"] == call["call"] {
                return Err(format!("call {} is there twice", call["call"]));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_result_is_refused() {
        let folder =
            std::env::temp_dir().join(format!("induction-xtask-gpu-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("gpu.json");
        let said = |text: &str| {
            fs::write(&path, text).unwrap();
            call(&path).unwrap_err()
        };
        assert!(said("no").contains("not a gpu.json"));
        assert!(said("{}").contains("format is null"));
        assert!(said(r#"{"format": 2, "steps": []}"#).contains("format is 2"));
        assert!(
            said(r#"{"format": 1, "steps": [], "refused": "no driver"}"#)
                .contains("did not begin: no driver")
        );
        assert!(said(r#"{"format": 1, "steps": [], "rehearsal": true}"#).contains("rehearsal"));
        let made =
            |call: u32, gpu: &str| serde_json::json!({"call": call, "machine": {"gpu": gpu}});
        assert_eq!(of_one_machine(&[made(1, "H100"), made(2, "H100")]), Ok(()));
        assert!(
            of_one_machine(&[made(1, "H100"), made(2, "H200")])
                .is_err_and(|what| what.contains("gpu is"))
        );
        assert!(
            of_one_machine(&[made(1, "H100"), made(1, "H100")])
                .is_err_and(|what| what.contains("twice"))
        );
        fs::remove_dir_all(&folder).unwrap();
        assert!(call(&path).is_err());
    }
}
