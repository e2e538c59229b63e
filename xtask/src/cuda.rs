//! CubeCL's backend for NVIDIA GPUs: built without its code host, and its kernels assembled without
//! a GPU.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::{
    collections::{BTreeMap, HashSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{
    devices::{self, Built, Instead, before, fail, install_listed, run},
    root, target,
};

/// Build target/cuda/release/induction, which has --device cuda:N, and reproduce `smoke` on cuda:0
///
/// LLVM, which CubeCL is linked with, is installed from PyPI into target/cuda where it is missing.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    instead: Instead,
}

/// The version of CUDA whose driver interface is built against (cudarc's notation). It decides
/// which drivers will do.
const CUDA: &str = "13000";

/// Compute capabilities whose kernels are assembled: A100, H100, B200.
const CAPABILITIES: [u32; 3] = [80, 90, 100];

/// One of these, as an argument.
pub(crate) fn capability(text: &str) -> Result<u32, String> {
    let known = CAPABILITIES.into_iter().find(|of| of.to_string() == text);
    known.ok_or_else(|| format!("expected one of {CAPABILITIES:?}"))
}

/// `cargo xtask cuda`.
pub(crate) fn cuda(options: &Options) -> ExitCode {
    let built = build(false);
    if options.instead.build {
        eprintln!("{}", built.program.display());
    } else if options.instead.test {
        run(&mut built.conformance());
    } else {
        let mut command = Command::new(built.program);
        command.args(["reproduce", "--scale", "smoke", "--device", "cuda:0"]);
        command.args(["--out", "out/smoke-cuda"]);
        run(command.current_dir(root()));
    }
    ExitCode::SUCCESS
}

/// Builds what has the device, with LLVM from PyPI where there is none.
pub(crate) fn build(quiet: bool) -> Built {
    let mut variables = Vec::new();
    if let Some(data) = llvm() {
        variables.push(("XDG_DATA_HOME", data.display().to_string()));
    }
    if env::var_os("CUDARC_CUDA_VERSION").is_none() {
        variables.push(("CUDARC_CUDA_VERSION", CUDA.to_string()));
    }
    devices::build("cuda", &folder(), &variables, quiet)
}

fn folder() -> PathBuf {
    target(&root()).join("cuda")
}

/// The data folder in which CubeCL's build finds LLVM, if that is not the user's own. Its build
/// script downloads LLVM from a code host unless a folder with a mark in it is there; PyPI has the
/// same version, with hashes.
fn llvm() -> Option<PathBuf> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap_or_default();
    let version = locked_version(&lock, "tracel-llvm-bundler").unwrap_or_else(|| {
        fail("Cargo.lock has no tracel-llvm-bundler; which LLVM CubeCL needs is not known")
    });
    let name = format!("tracel/tracel-llvm-{version}");
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let own = env::var_os("XDG_DATA_HOME").map(PathBuf::from).or(home);
    if own.is_some_and(|own| own.join(&name).join(MARK).exists()) {
        return None;
    }
    let (packages, data) = (folder().join("llvm"), folder().join("data"));
    install_listed("fixtures/gpu/llvm.txt", &packages);
    let library = packages.join("mlc_llvm_static/static");
    let link = data.join(&name);
    devices::link(&library, &link);
    let mark = link.join(MARK);
    // Written once: CubeCL's build watches it, and where it is newer everything above LLVM is built
    // anew.
    if !mark.exists() {
        fs::write(&mark, "").unwrap_or_else(|error| fail(&format!("{}: {error}", mark.display())));
    }
    Some(data)
}

/// Where it lies, LLVM is taken for installed.
const MARK: &str = ".tracel-llvm-installed";

/// The version of a package in Cargo.lock.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let entry = lock
        .split("[[package]]")
        .find(|entry| entry.contains(&format!("name = \"{package}\"\n")))?;
    entry.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
}

/// `cargo xtask ci --cuda [CAPABILITY...]`: everything that an engine does, on a driver that
/// computes nothing and keeps each kernel's PTX; NVIDIA's assembler must accept all of it, for each
/// generation of GPUs.
pub(crate) fn test(capabilities: &[u32]) -> ExitCode {
    let asked = if capabilities.is_empty() { &CAPABILITIES } else { capabilities };
    let built = build(false);
    let tools = folder().join("nvcc");
    install_listed("fixtures/gpu/nvcc.txt", &tools);
    let toolkit = tools.join("nvidia/cu13");
    let work = folder().join("kernels");
    let _ = fs::remove_dir_all(&work);
    let driver = work.join("driver");
    fs::create_dir_all(&driver)
        .unwrap_or_else(|error| fail(&format!("{}: {error}", driver.display())));
    let library = driver.join("libcuda.so.1");
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(root().join("fixtures/gpu/fakecuda.c")));

    smi(&driver).unwrap_or_else(|what| fail(&what));
    let kinds: Vec<(u32, bool)> = asked.iter().flat_map(|&of| [(of, false), (of, true)]).collect();
    let results = side_by_side(&kinds, |&(capability, half)| {
        let begun = Instant::now();
        let ptx = work.join(format!("sm_{capability}-{}", if half { "bf16" } else { "f32" }));
        eprintln!("xtask: kernels for {}", ptx.display());
        let assembled = record(&built, &driver, &toolkit, &ptx, capability, half)
            .and_then(|()| assemble(&toolkit, &ptx, capability))?;
        Ok((assembled, begun.elapsed().as_secs_f64()))
    });
    println!("| compute capability | products | kernels | assembled | refused | s |");
    println!("|---|---|---|---|---|---|");
    let mut failures = Vec::new();
    for ((capability, half), found) in kinds.into_iter().zip(results) {
        let name = if half { "bfloat16 in training" } else { "TF32, float32" };
        let ((modules, wrong), seconds) = found.unwrap_or_else(|what: String| {
            failures.push(format!("sm_{capability}, {name}: {what}"));
            ((0, Vec::new()), 0.0)
        });
        let (major, minor, good) = (capability / 10, capability % 10, modules - wrong.len());
        println!(
            "| {major}.{minor} | {name} | {modules} | {good} | {} | {seconds:.0} |",
            wrong.len()
        );
        failures.extend(wrong);
    }
    failures.iter().for_each(|failure| eprintln!("xtask: {failure}"));
    println!("{} failed", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `work` on each of `items`, as many at once as there are cores; the results in the items' order.
fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let result = work(item);
                    results
                        .lock()
                        .expect("no worker panics while it holds this")
                        .insert(at, result);
                }
            });
        }
    });
    results.into_inner().expect("no worker panicked").into_values().collect()
}

/// Has everything done once on the driver that keeps kernels, which come into the folder `ptx`.
fn record(
    built: &Built,
    driver: &Path,
    toolkit: &Path,
    ptx: &Path,
    capability: u32,
    half: bool,
) -> Result<(), String> {
    fs::create_dir_all(ptx).map_err(|error| format!("{}: {error}", ptx.display()))?;
    let mut command = Command::new(&built.exercise);
    command.arg("cuda:0").args(half.then_some("--bf16"));
    command
        .env("LD_LIBRARY_PATH", before(driver, "LD_LIBRARY_PATH"))
        .env("PATH", before(driver, "PATH"));
    command
        .env("CUDA_PATH", toolkit)
        .env("FAKE_CUDA_DIR", ptx)
        .env("FAKE_CUDA_CAPABILITY", capability.to_string());
    // What a real GPU's tuning found must not be taken, nor left behind for one.
    command.env("HOME", ptx).env("XDG_CACHE_HOME", ptx).current_dir(ptx);
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last: Vec<&str> = said.lines().rev().take(5).collect();
    Err(format!("{} ended with {}: {}", built.exercise.display(), output.status, last.join(" / ")))
}

/// The driver's companion, by which devices are found.
fn smi(driver: &Path) -> Result<(), String> {
    let path = driver.join("nvidia-smi");
    let script = "#!/bin/sh\necho '0, NVIDIA H100 80GB HBM3, 81559, 81000, 580.159.04'\n";
    let written = || -> std::io::Result<()> {
        fs::write(&path, script)?;
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(())
    };
    written().map_err(|error| format!("{}: {error}", path.display()))
}

/// The number of different modules, and those that the assembler refuses, with its first words.
type Assembled = (usize, Vec<String>);

/// Assembles every different module in the folder `ptx`.
fn assemble(toolkit: &Path, ptx: &Path, capability: u32) -> Result<Assembled, String> {
    let (mut seen, mut first) = (HashSet::new(), Vec::new());
    let entries = fs::read_dir(ptx).map_err(|error| format!("{}: {error}", ptx.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "ptx"));
    paths.sort();
    for path in paths {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let arch = architecture(&text)
            .ok_or_else(|| format!("{}: it names no target", path.display()))?
            .to_string();
        if !arch.trim_end_matches(['a', 'f']).ends_with(&format!("sm_{capability}")) {
            return Err(format!("{}: it is for {arch}", path.display()));
        }
        if seen.insert(text) {
            first.push((path, arch));
        }
    }
    if first.is_empty() {
        return Err("no kernel was recorded".to_string());
    }
    let ptxas = toolkit.join("bin/ptxas");
    let refusals = side_by_side(&first, |(path, arch)| {
        let mut command = Command::new(&ptxas);
        command.arg(format!("-arch={arch}")).arg("-o").arg(path.with_extension("cubin")).arg(path);
        match command.output() {
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Some(format!("{}: {}", path.display(), said.lines().next().unwrap_or("refused")))
            }
            Err(error) => Some(format!("{}: {error}", ptxas.display())),
        }
    });
    let wrong = refusals.into_iter().flatten().collect();
    Ok((first.len(), wrong))
}

/// The GPU that a module is for, by its `.target` line: `sm_90a`.
fn architecture(ptx: &str) -> Option<&str> {
    let line = ptx.lines().find_map(|line| line.trim().strip_prefix(".target "))?;
    line.split([',', ' ']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_lock_file() {
        let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
        // CubeCL's LLVM and the one that is installed for it have the same major and minor version.
        let llvm = locked_version(&lock, "tracel-llvm-bundler").expect("CubeCL's build is locked");
        let list = fs::read_to_string(root().join("fixtures/gpu/llvm.txt")).unwrap();
        let minor = llvm.split('.').take(2).collect::<Vec<_>>().join(".");
        assert!(
            list.matches(&format!("=={minor}.")).count() == 2,
            "CubeCL's LLVM is {llvm}; {list}"
        );
        assert_eq!(locked_version(&lock, "no-such-package"), None);
    }

    /// With an assembler that refuses what is marked.
    #[test]
    #[cfg(unix)]
    fn what_the_assembler_refuses_is_named() {
        let folder = env::temp_dir().join(format!("induction-ptx-{}", std::process::id()));
        let (tools, ptx) = (folder.join("bin"), folder.join("ptx"));
        [&tools, &ptx].into_iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
        assert_eq!(assemble(&folder, &ptx, 90), Err("no kernel was recorded".to_string()));
        let script = "#!/bin/sh\nfor last; do :; done\n! grep refused \"$last\" >&2\n";
        fs::write(tools.join("ptxas"), script).unwrap();
        fs::set_permissions(
            tools.join("ptxas"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let module = |name: &str, text: &str| {
            fs::write(ptx.join(name), format!(".target sm_90a\n{text}")).unwrap();
        };
        module("1.ptx", "fine");
        module("2.ptx", "fine");
        module("3.ptx", "refused: no such instruction");
        let (modules, wrong) = assemble(&folder, &ptx, 90).unwrap();
        assert_eq!((modules, wrong.len()), (2, 1), "the same one is assembled once");
        assert!(wrong[0].contains("3.ptx: refused: no such instruction"), "{wrong:?}");
        assert!(assemble(&folder, &ptx, 100).unwrap_err().contains("it is for sm_90a"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn targets() {
        assert_eq!(
            architecture("//\n.version 8.8\n.target sm_90a\n.address_size 64"),
            Some("sm_90a")
        );
        assert_eq!(architecture(".target sm_80, debug"), Some("sm_80"));
        assert_eq!(architecture("nothing"), None);
    }
}
