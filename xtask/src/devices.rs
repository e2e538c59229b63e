//! Release binaries with burn's devices, each built with what its backend needs.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio, exit},
};

use crate::{cargo, cuda, libtorch::Torch, root, target};

/// The release binary that has the device asked for in `arguments`, built.
pub(crate) fn binary(arguments: &[String]) -> PathBuf {
    let apart = arguments.iter().position(|a| a == "--device").and_then(|at| arguments.get(at + 1));
    let joined = || arguments.iter().find_map(|a| a.strip_prefix("--device="));
    let device = apart.map(String::as_str).or_else(joined);
    let quiet = arguments.iter().any(|a| a == "--quiet");
    let feature = device.unwrap_or("cpu").split(':').next().unwrap_or_default();
    match feature {
        "libtorch" => return Torch::own(None).with_what_it_needs().build(quiet).program,
        "cuda" => return cuda::build(quiet).program,
        _ => {}
    }
    let mut command = vec!["build", "--release", "--package", "induction"];
    match feature {
        "flex" => command.extend(["--features", "burn"]),
        "ndarray" => command.extend(["--features", "ndarray"]),
        _ => {}
    }
    if quiet {
        command.push("--quiet");
    }
    cargo(&command);
    target(&root()).join("release/induction")
}

/// What is done with a backend, in place of reproducing `smoke` on it.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Instead {
    /// Only build
    #[arg(long, conflicts_with = "test")]
    pub(crate) build: bool,
    /// Hold every device that is built against PyTorch instead
    #[arg(long)]
    pub(crate) test: bool,
}

/// What is built for a backend: the program, the tests that hold its devices against PyTorch, and
/// the example that has everything compiled. All in one call of cargo, for each set of features of
/// the dependencies has most of them built anew.
pub(crate) struct Built {
    pub(crate) program: PathBuf,
    pub(crate) conformance: PathBuf,
    pub(crate) exercise: PathBuf,
}

/// Builds these with `feature` in a target folder of their own; ends the process if it fails.
pub(crate) fn build(
    feature: &str,
    folder: &Path,
    variables: &[(&str, String)],
    quiet: bool,
) -> Built {
    let folder_name = folder.display().to_string();
    let feature = format!("induction/{feature},induction-engine/{feature}");
    let mut arguments =
        vec!["build", "--release", "--package", "induction", "--package", "induction-train"];
    arguments.extend([
        "--package",
        "induction-engine",
        "--bin",
        "induction",
        "--test",
        "conformance",
    ]);
    arguments.extend([
        "--example",
        "exercise",
        "--features",
        &feature,
        "--target-dir",
        &folder_name,
    ]);
    arguments.push("--message-format=json-render-diagnostics");
    if quiet {
        arguments.push("--quiet");
    } else {
        eprintln!("cargo {}", arguments.join(" "));
    }
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(&arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir(root());
    let text = match command.stderr(Stdio::inherit()).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => exit(output.status.code().unwrap_or(1)),
        Err(error) => fail(&format!("cannot run cargo: {error}")),
    };
    let found = |name: &str| {
        executable(&text, name)
            .unwrap_or_else(|| fail(&format!("cargo built no {name}; this is a bug in xtask")))
    };
    Built {
        program: found("induction"),
        conformance: found("conformance"),
        exercise: found("exercise"),
    }
}

impl Built {
    /// The conformance tests, ready to be run on the fixtures of this tree; the folder that cargo
    /// has told this program is xtask's own.
    pub(crate) fn conformance(&self) -> Command {
        let mut command = Command::new(&self.conformance);
        command
            .arg("--nocapture")
            .env("CARGO_MANIFEST_DIR", root().join("crates/train"))
            .current_dir(root());
        command
    }
}

/// The path of the executable that cargo made of the target `name`, by its messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages =
        messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let made = messages.filter(|message| message["target"]["name"] == name);
    made.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

/// Installs packages whose hashes a file lists into `folder`, unless they are there. Ends the
/// process if they cannot be had.
pub(crate) fn install_listed(list: &str, folder: &Path) {
    let (list, mark) = (root().join(list), folder.join(".installed"));
    let wanted = std::fs::read_to_string(&list)
        .unwrap_or_else(|error| fail(&format!("{}: {error}", list.display())));
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return;
    }
    eprintln!("xtask: installing what {} lists into {}", list.display(), folder.display());
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]);
    pip.args(["--disable-pip-version-check", "--upgrade", "--target"])
        .arg(folder)
        .arg("--requirement")
        .arg(&list);
    run(&mut pip);
    // Last: what an interruption left is installed again.
    std::fs::write(&mark, wanted)
        .unwrap_or_else(|error| fail(&format!("{}: {error}", mark.display())));
}

/// Makes `link` a symbolic link to the folder `original`; ends the process if it cannot.
pub(crate) fn link(original: &Path, link: &Path) {
    let linked = || -> std::io::Result<()> {
        let original = std::fs::canonicalize(original)?;
        if std::fs::canonicalize(link).is_ok_and(|there| there == original) {
            return Ok(());
        }
        std::fs::create_dir_all(link.parent().unwrap_or(link))?;
        let _ = std::fs::remove_file(link);
        symlink(&original, link)
    };
    linked().unwrap_or_else(|error| fail(&format!("{}: {error}", link.display())));
}

#[cfg(unix)]
fn symlink(original: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(original, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other("symbolic links are made on Unix only"))
}

/// `first` before the paths in `variable`.
pub(crate) fn before(first: &Path, variable: &str) -> String {
    let mut paths = vec![first.to_path_buf()];
    paths.extend(env::var_os(variable).iter().flat_map(env::split_paths));
    env::join_paths(paths)
        .map_or_else(|_| first.display().to_string(), |all| all.to_string_lossy().into_owned())
}

/// Runs a command; ends the process if it fails.
pub(crate) fn run(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => exit(status.code().unwrap_or(1)),
        Err(error) => fail(&format!("cannot run {}: {error}", command.get_program().display())),
    }
}

/// Whether a command can be run and succeeds; it says nothing.
pub(crate) fn succeeds<S: AsRef<OsStr>>(program: S, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Says what is wrong and ends the process as bad input does.
pub(crate) fn fail(message: &str) -> ! {
    eprintln!("xtask: {message}");
    exit(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_of_a_target() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"induction","kind":["lib"]},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"conformance","kind":["test"]},"executable":"/t/deps/conformance-1"}
{"reason":"compiler-artifact","target":{"name":"induction","kind":["bin"]},"executable":"/t/induction"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "induction"), Some("/t/induction".into()));
        assert_eq!(executable(messages, "conformance"), Some("/t/deps/conformance-1".into()));
        assert_eq!(executable(messages, "exercise"), None);
    }
}
