//! PyTorch's library, and the binaries that are linked with it.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::{
    devices::{self, Built, Instead, before, fail, link, run, succeeds},
    root, target,
};

/// The version that is installed where none is named.
pub(crate) const TORCH: &str = "2.11.0";

/// The oldest version whose headers tch 0.22 compiles against.
const OLDEST: (u32, u32) = (2, 9);

/// The newest version that was tried.
const NEWEST: (u32, u32) = (2, 11);

/// Build target/libtorch/release/induction, which has --device libtorch, and reproduce `smoke` on it
///
/// torch (2.9 or later) is installed into a virtual environment in target/libtorch: some GB on
/// Linux, but with --build without NVIDIA's libraries, 1.2 GB.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    instead: Instead,
    /// The torch to install [default: 2.11.0]
    #[arg(long, value_name = "VERSION", conflicts_with = "python")]
    torch: Option<String>,
    /// A Python whose torch to take instead
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

/// `cargo xtask libtorch`.
pub(crate) fn libtorch(options: &Options) -> ExitCode {
    let Instead { build, test } = options.instead;
    let torch = match &options.python {
        Some(python) => Torch::of_user(python),
        None => Torch::own(options.torch.as_deref()),
    };
    let torch = if build { torch } else { torch.with_what_it_needs() };
    let built = torch.build(false);
    eprintln!("xtask: built against torch {}", torch.version);
    if test {
        run(built.conformance().envs(torch.variables()));
    } else if build {
        eprintln!("{}", built.program.display());
        if !succeeds(&torch.python, &["-c", "import torch"]) {
            eprintln!(
                "xtask: to run it, torch's dependencies must be there, too: `cargo xtask libtorch` installs them"
            );
        }
    } else {
        let mut command = Command::new(&built.program);
        command.args([
            "reproduce",
            "--scale",
            "smoke",
            "--device",
            "libtorch",
            "--out",
            "out/smoke-libtorch",
        ]);
        run(command.current_dir(root()));
        eprintln!("{}", built.program.display());
    }
    ExitCode::SUCCESS
}

/// A Python with a PyTorch that can be built against.
pub(crate) struct Torch {
    python: PathBuf,
    /// As it calls itself: `2.11.0+cu130`.
    pub(crate) version: String,
    /// The package's folder, with `include` and `lib`.
    root: PathBuf,
}

impl Torch {
    /// That of a virtual environment of our own, which is made if it is not there, without the
    /// packages that torch stands on: they are some GB, and building needs none of them. Ends the
    /// process if it cannot be had.
    pub(crate) fn own(version: Option<&str>) -> Self {
        let version = version.unwrap_or(TORCH);
        if let Err(what) = check_version(version) {
            fail(&what);
        }
        let venv = folder().join(format!("torch-{version}"));
        let python = venv.join("bin/python");
        if let Ok(torch) = Self::of(&python) {
            return torch;
        }
        eprintln!("xtask: installing torch {version} into {}", venv.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        pip(&python, &["--no-deps", &format!("torch=={version}")]);
        Self::of_user(&python)
    }

    /// That of a Python; ends the process if it has none that will do.
    pub(crate) fn of_user(python: &Path) -> Self {
        Self::of(python)
            .unwrap_or_else(|what| fail(&format!("the Python {}: {what}", python.display())))
    }

    /// Looks at a Python; what it has, if that is not enough.
    fn of(python: &Path) -> Result<Self, String> {
        // Not by importing it: without the packages that it stands on that fails.
        const ASK: &str = "import importlib.util, os; spec = importlib.util.find_spec('torch'); \
            root = os.path.dirname(spec.origin) if spec else exit('no torch: pip install torch'); \
            facts = {}; exec(open(os.path.join(root, 'version.py')).read(), facts); print(facts['__version__']); print(root)";
        let output = Command::new(python).args(["-c", ASK]).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr)
                .trim()
                .lines()
                .last()
                .unwrap_or_default()
                .to_string();
            return Err(said);
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines();
        let (version, root) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        check_version(version)?;
        Ok(Self {
            python: python.to_path_buf(),
            version: version.to_string(),
            root: PathBuf::from(root),
        })
    }

    /// The same, with the packages that torch stands on, which running needs and building does not.
    pub(crate) fn with_what_it_needs(self) -> Self {
        if !succeeds(&self.python, &["-c", "import torch"]) {
            if !self.python.starts_with(folder()) {
                fail(&format!(
                    "{}: `import torch` fails: install what it stands on",
                    self.python.display()
                ));
            }
            let version = self.version.split('+').next().unwrap_or_default();
            eprintln!("xtask: installing what torch {version} stands on (some GB)");
            pip(&self.python, &[&format!("torch=={version}"), "numpy"]);
        }
        self
    }

    /// What building against it and running tests with it needs.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let library = self.root.join("lib");
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        // What is built finds the library by itself. The place is the same for every version: other
        // flags have everything built anew.
        let flags = format!("{flags} -Clink-arg=-Wl,-rpath,{}", folder().join("lib").display());
        vec![
            ("LIBTORCH", self.root.display().to_string()),
            // tch names one version; the interfaces that it uses have not changed since.
            ("LIBTORCH_BYPASS_VERSION_CHECK", "1".to_string()),
            ("RUSTFLAGS", flags.trim().to_string()),
            ("LD_LIBRARY_PATH", before(&library, "LD_LIBRARY_PATH")),
        ]
    }

    /// Builds what is linked with it, and has it find this version.
    pub(crate) fn build(&self, quiet: bool) -> Built {
        link(&self.root.join("lib"), &folder().join("lib"));
        devices::build("libtorch", &folder(), &self.variables(), quiet)
    }
}

fn folder() -> PathBuf {
    target(&root()).join("libtorch")
}

fn pip(python: &Path, arguments: &[&str]) {
    run(Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(arguments));
}

/// Whether a version can be built against; says so of one that was not tried.
fn check_version(version: &str) -> Result<(), String> {
    let mut numbers = version.split(['.', '+']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Err(format!("torch {version}: expected a version such as {TORCH}"));
    };
    if (major, minor) < OLDEST {
        return Err(format!(
            "torch {version}: burn-tch 0.22 needs {}.{} or later",
            OLDEST.0, OLDEST.1
        ));
    }
    if (major, minor) > NEWEST {
        eprintln!(
            "xtask: torch {version} is newer than any that was tried ({}.{})",
            NEWEST.0, NEWEST.1
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in ["2.9.0", "2.9.1+cpu", "2.11.0+cu130", "2.12.0", "3.0.0"] {
            assert_eq!(check_version(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("2.8.0", "2.9 or later"),
            ("1.13.1+cu117", "2.9"),
            ("", "such as"),
            ("two", "such as"),
        ] {
            assert!(check_version(bad).is_err_and(|what| what.contains(why)), "{bad}");
        }
    }

    #[test]
    fn a_python_without_torch_says_so() {
        assert!(Torch::of(Path::new("/nowhere/python")).is_err());
    }
}
