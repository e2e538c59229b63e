//! Binaries with burn's other backends, and PyTorch's library, which one of them needs.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode, exit},
};

use crate::{cargo, cargo_with, root, target};

/// The version that tch 0.22 is made for, which burn-tch 0.22 stands on.
const TORCH: &str = "2.9.0";

pub(crate) const USAGE: &str = "  libtorch [--python PATH] [--test]
            build target/libtorch/release/induction, which has --device libtorch, and reproduce `smoke` on it; with
            --test, hold every device against PyTorch instead. The Python PATH must have torch 2.9.0; without --python it
            is installed into a virtual environment in target/libtorch (some GB)
";

/// `cargo xtask libtorch`.
pub(crate) fn libtorch(arguments: &[String]) -> ExitCode {
    let (mut python, mut test) = (None, false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--test" => test = true,
            "--python" if rest.len() > 0 => python = rest.next().map(PathBuf::from),
            other => {
                eprint!("xtask libtorch: {other} is unknown, or lacks its value\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let torch = Torch::find(python);
    if test {
        let folder = folder().display().to_string();
        let suite = [
            "test",
            "--release",
            "--package",
            "induction-engine",
            "--package",
            "induction-train",
            "--target-dir",
            &folder,
        ];
        let features = ["--features", "induction-engine/libtorch", "--", "--nocapture"];
        cargo_with(&[&suite[..], &features].concat(), &torch.variables());
        return ExitCode::SUCCESS;
    }
    let binary = torch.build();
    let corpora = root().join("fixtures/corpora");
    let mut command = Command::new(&binary);
    command.args(["reproduce", "--scale", "smoke", "--device", "libtorch", "--out", "out/smoke-libtorch", "--corpus"]);
    command.arg(corpora.join("python.jsonl.zst"));
    let done = command.current_dir(root()).status().is_ok_and(|status| status.success());
    eprintln!("{}", binary.display());
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The release binary that has the device asked for in `arguments`, built.
pub(crate) fn binary(arguments: &[String]) -> PathBuf {
    let apart = arguments.iter().position(|a| a == "--device").and_then(|at| arguments.get(at + 1));
    let joined = || arguments.iter().find_map(|a| a.strip_prefix("--device="));
    let device = apart.map(String::as_str).or_else(joined);
    let feature = device.unwrap_or("cpu").split(':').next().unwrap_or_default();
    if feature == "libtorch" {
        return Torch::find(None).build();
    }
    let mut command = vec!["build", "--release", "--package", "induction"];
    match feature {
        "flex" => command.extend(["--features", "burn"]),
        "ndarray" | "cuda" => command.extend(["--features", feature]),
        _ => {}
    }
    if arguments.iter().any(|a| a == "--quiet") {
        command.push("--quiet");
    }
    cargo(&command);
    target(&root()).join("release/induction")
}

fn folder() -> PathBuf {
    target(&root()).join("libtorch")
}

/// A Python with the right PyTorch.
struct Torch {
    python: PathBuf,
    /// Where its libraries lie.
    library: PathBuf,
}

impl Torch {
    /// That of `python`, or one of our own, which is installed if it is not there. Ends the process if it cannot be had.
    fn find(python: Option<PathBuf>) -> Self {
        if let Some(python) = python {
            return Self::of(&python).unwrap_or_else(|found| {
                eprintln!("xtask: {}: {found}; burn-tch 0.22 needs torch {TORCH}", python.display());
                exit(2);
            });
        }
        let venv = folder().join("venv");
        let own = venv.join("bin/python");
        if let Ok(torch) = Self::of(&own) {
            return torch;
        }
        eprintln!("xtask: installing torch {TORCH} into {}", venv.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        let package = format!("torch=={TORCH}");
        run(Command::new(&own).args(["-m", "pip", "install", "--quiet", &package, "numpy", "setuptools"]));
        Self::of(&own).unwrap_or_else(|found| {
            eprintln!("xtask: {}: {found}", own.display());
            exit(2);
        })
    }

    /// Looks at a Python; says what it has if that is not it.
    fn of(python: &Path) -> Result<Self, String> {
        const ASK: &str = "import os, torch; from torch.utils import cpp_extension; \
                           print(torch.__version__); print(os.path.join(os.path.dirname(torch.__file__), 'lib'))";
        let output = Command::new(python).args(["-c", ASK]).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_string();
            return Err(format!("no torch that can be built against ({said})"));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines();
        let (version, library) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if version.split('+').next() != Some(TORCH) {
            return Err(format!("torch {version}"));
        }
        Ok(Self { python: python.to_path_buf(), library: PathBuf::from(library) })
    }

    /// What building and running tests against it needs.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let before = |first: &Path, variable: &str| {
            let mut paths = vec![first.to_path_buf()];
            paths.extend(env::var_os(variable).iter().flat_map(env::split_paths));
            env::join_paths(paths)
                .map_or_else(|_| first.display().to_string(), |all| all.to_string_lossy().into_owned())
        };
        let bin = self.python.parent().unwrap_or(Path::new("/usr/bin"));
        vec![
            ("LIBTORCH_USE_PYTORCH", "1".to_string()),
            ("VIRTUAL_ENV", bin.parent().unwrap_or(bin).display().to_string()),
            ("PATH", before(bin, "PATH")),
            ("LD_LIBRARY_PATH", before(&self.library, "LD_LIBRARY_PATH")),
        ]
    }

    /// Builds the binary, which then finds the library by itself.
    fn build(&self) -> PathBuf {
        let (folder, library) = (folder(), self.library.display());
        let target_dir = folder.display().to_string();
        let mut build = vec!["rustc", "--release", "--package", "induction", "--bin", "induction", "--features"];
        build.extend(["libtorch", "--target-dir", &target_dir, "--"]);
        let mut link = format!("-Clink-args=-Wl,-rpath,{library} -L{library} -Wl,--no-as-needed -ltorch");
        if self.library.join("libtorch_cuda.so").exists() {
            link += " -ltorch_cuda";
        }
        cargo_with(&[&build[..], &[&link]].concat(), &self.variables());
        folder.join("release/induction")
    }
}

/// Runs a command; ends the process if it fails.
fn run(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => exit(status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("xtask: cannot run {}: {error}", command.get_program().display());
            exit(2);
        }
    }
}
