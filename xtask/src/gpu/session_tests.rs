//! The control flow of `fixtures/gpu.sh`, without a GPU: programs, driver and torch are scripts
//! that answer as told.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{call, of_one_machine, page};
use crate::root;

/// Stands for a program of the pack: `$0`'s name says which.
const PROGRAM: &str = r#"#!/bin/bash
name=${0##*/}
case "$name $*" in
    *' devices '*) # libraries have their say, too
        echo '[W1126 12:00:00 Context.cpp:80] Warning: a library says something' >&2
        for device in libtorch:cuda:0 cuda:0; do
            ready=true
            [[ ${FAKE_NOT_READY:-} == *"${name#induction-}"* ]] && ready=false
            list="${list:+$list, }{\"device\": \"$device\", \"ready\": $ready, \"note\": \"no driver\"}"
        done
        echo "[$list]" ;;
    *' bench train'*)
        echo 'a line of progress'
        products=float32
        [[ $* == *--bf16* ]] && products=bfloat16
        echo "{\"engine\": \"$name\", \"products\": \"$products\", \"tokens_per_s\": 1000000}" ;;
    *' bench scan '*)
        echo '{"tokens": 1010, "load_s": 1.5, "tokens_per_s": {"losses": 2020, "heads": 1010}}' ;;
    *' scan '*' --tokens '*)
        loss=1.0
        [[ $* == *libtorch* ]] && loss=${FAKE_LOSS:-1.0}
        echo "{\"nll\": [$loss], \"heads\": [{\"layer\": 0, \"role\": null, \"copying\": 0.5}]}" ;;
    *' scan '*) ;;
    *' reproduce '*)
        while [ "$1" != --out ]; do shift; done
        mkdir -p "$2" && echo "$FAKE_CLAIMS" >"$2/claims.json" ;;
    conformance-*)
        oracle="$CARGO_MANIFEST_DIR/../../fixtures/oracle"
        [ -f "$oracle/two_layer.json" ] && [ -f "$oracle/two_layer.safetensors" ] || exit 8
        device=cuda:0
        [[ $name == *libtorch ]] && device=libtorch:cuda:0
        [[ ${FAKE_LOST:-} == *"$name"* ]] && device=cpu # all that the tests found
        echo "test passes::every_gradient ... | gradients | $device | 1.0e-6 |"
        if [[ ${FAKE_HANG:-} == *"$name"* ]]; then sleep 1000 & echo "$!" >"$FAKE_HANG_PID"; wait; fi
        [[ ${FAKE_WRONG:-} != *"$name"* ]] ;;
    *) echo "unexpected: $name $*" >&2; exit 9 ;;
esac
"#;

/// Stands for torch, and for PyTorch's side of a timing.
const TORCH: &str = r#"import os, sys
__version__ = os.environ.get("FAKE_TORCH", "2.11.0+cu130")
if __version__ == "none":
    raise ImportError("no torch")
if sys.argv[0].endswith("pytorch.py"):
    peak = "peak" in sys.argv
    products = "bfloat16" if "--bf16" in sys.argv else "TF32" if "--tf32" in sys.argv else "float32"
    print('{"bf16": 800, "tf32": 400, "float32": 50}' if peak else
          '{"engine": "torch", "products": "%s", "tokens_per_s": 2000}' % products)
    sys.exit(0)
class cuda:
    is_available = staticmethod(lambda: os.environ.get("FAKE_TORCH_CUDA", "1") == "1")
class version:
    cuda = "13.0"
"#;

const SMI: &str = "#!/bin/bash\n[ -z \"${FAKE_SMI_FAILS:-}\" ] || { echo \"$FAKE_SMI_FAILS\"; exit 9; }\n\
                   echo \"${FAKE_GPU:-NVIDIA H100 80GB HBM3, 580.159.04, 81559, 81000}\"\n";

struct Machine {
    folder: PathBuf,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Machine {
    /// A machine with a driver, a torch and a pack of these sources. None without Python, which
    /// nothing else here needs; continuous integration has it.
    fn new(name: &str) -> Option<Self> {
        Self::with(name, &["libtorch", "cuda"])
    }

    /// The same, with a pack of some back ends.
    fn with(name: &str, backends: &[&str]) -> Option<Self> {
        if !crate::devices::succeeds("python3", &["--version"]) {
            assert!(std::env::var_os("CI").is_none(), "python3 is not installed");
            eprintln!("python3 is not installed: nothing to test");
            return None;
        }
        let folder =
            std::env::temp_dir().join(format!("induction-gpu-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for part in ["bin", "site/torch", "site/numpy", "programs", "out"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        fs::write(folder.join("site/torch/__init__.py"), TORCH).unwrap();
        // What makes models there needs no more: nothing reads them.
        fs::write(folder.join("site/numpy/__init__.py"), "import sys\nsys.exit(0)\n").unwrap();
        script(&folder.join("bin/nvidia-smi"), SMI);
        // No more than this machine needs: the one that the tests run on may have a driver of its
        // own.
        for tool in ["bash", "dirname", "mkdir", "sleep", "git", "env"] {
            let path = std::env::var_os("PATH").unwrap();
            let found = std::env::split_paths(&path)
                .map(|folder| folder.join(tool))
                .find(|path| path.exists());
            symlink(found.unwrap(), folder.join("bin").join(tool)).unwrap();
        }
        let asked = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .unwrap();
        symlink(String::from_utf8_lossy(&asked.stdout).trim(), folder.join("bin/python3")).unwrap();
        let mut pack = Command::new("python3");
        pack.arg(root().join("fixtures/gpu/pack.py"))
            .args(["--torch", "2.11.0", "--out"])
            .arg(folder.join("pack"));
        for backend in backends {
            for name in [format!("induction-{backend}"), format!("conformance-{backend}")] {
                let program = folder.join("programs").join(&name);
                script(&program, PROGRAM);
                pack.arg(format!("{name}={}", program.display()));
            }
        }
        let packed = pack.output().unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        Some(Self { folder })
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new("bash");
        command.arg(root().join("fixtures/gpu.sh")).args(arguments).env_clear();
        command.env("PATH", self.folder.join("bin")).env("PYTHONPATH", self.folder.join("site"));
        command
            .env("OUT", self.folder.join("out"))
            .env("INDUCTION_GPU_PACK", self.folder.join("pack"));
        command.env("TMPDIR", &self.folder).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env(
            "FAKE_CLAIMS",
            fs::read_to_string(root().join("fixtures/golden/smoke-claims.json")).unwrap(),
        );
        command.envs(variables.iter().copied());
        command
    }

    /// Exit code and output of a call; a first one begins with an empty folder.
    fn call(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, Output) {
        if !arguments.contains(&"--second") {
            self.forget();
        }
        let output = self.command(arguments, variables).output().unwrap();
        (output.status.code(), output)
    }

    fn forget(&self) {
        fs::remove_dir_all(self.folder.join("out")).unwrap();
        fs::create_dir(self.folder.join("out")).unwrap();
    }

    fn record(&self) -> Value {
        self.record_of("")
    }

    fn record_of(&self, call: &str) -> Value {
        let text = fs::read_to_string(self.folder.join(format!("out/gpu{call}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// What each step came to, by its name.
    fn ends(&self) -> Vec<(String, String)> {
        self.ends_of("")
    }

    fn ends_of(&self, call: &str) -> Vec<(String, String)> {
        let record = self.record_of(call);
        let steps = record["steps"].as_array().unwrap();
        let end = |step: &Value| match step["skipped"].as_str() {
            Some(why) => format!("skipped: {why}"),
            None => if step["ok"] == true { "ok" } else { "failed" }.to_string(),
        };
        steps.iter().map(|step| (step["name"].as_str().unwrap().to_string(), end(step))).collect()
    }
}

#[test]
fn all_goes_well_twice_and_is_read() {
    let Some(machine) = Machine::new("well") else { return };
    let check = |arguments: &[&str], call: &str, steps: usize| {
        let (code, output) = machine.call(arguments, &[]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(code, Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let ends = machine.ends_of(call);
        assert!(
            ends.len() == steps && ends.iter().all(|(_, end)| end == "ok"),
            "{steps}: {ends:?}"
        );
        assert_eq!(
            fs::read_to_string(machine.folder.join(format!("out/report{call}.txt"))).unwrap(),
            text
        );
    };
    check(&[], "", 30);
    // The devices, and two more rounds of the main timing.
    check(&["--second"], "-2", 2 + 2 * 4);
    let records =
        ["out/gpu.json", "out/gpu-2.json"].map(|file| call(&machine.folder.join(file)).unwrap());
    assert_eq!(
        (&records[0]["complete"], &records[0]["machine"]["peak_tflops"]),
        (&true.into(), &989.into())
    );
    assert_eq!(of_one_machine(&records), Ok(()));
    let page = page::page(&records);
    assert!(
        page.contains("| 2 layers, context 512 | cuda:0 | bfloat16 | 1,000,000 (1,000,000 1,000,000 1,000,000) | 52 |"),
        "{page}"
    );
    // A first call where there are results already would lose them.
    let before = fs::read_to_string(machine.folder.join("out/gpu.json")).unwrap();
    let refused = machine.command(&[], &[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&refused.stderr)
            .contains("holds what an earlier call found: `--second` goes on")
    );
    assert_eq!(fs::read_to_string(machine.folder.join("out/gpu.json")).unwrap(), before);
    // Nothing is left behind in the machine's temporary folder.
    let left: Vec<_> =
        fs::read_dir(&machine.folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(
        left.iter().filter(|name| name.to_string_lossy().starts_with("induction-gpu-")).count(),
        0
    );
}

/// A pack that was carried without the working tree has all that it needs.
#[test]
fn a_pack_alone_is_enough() {
    let Some(machine) = Machine::new("alone") else { return };
    let call = || {
        machine.forget();
        let within_a_tree = machine.command(&[], &[]);
        let mut alone = Command::new("bash");
        alone.arg(machine.folder.join("pack/fixtures/gpu.sh")).env_clear();
        alone.envs(within_a_tree.get_envs().filter_map(|(key, value)| Some((key, value?))));
        alone.env_remove("INDUCTION_GPU_PACK").output().unwrap()
    };
    let output = call();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let ends = machine.ends();
    assert!(ends.len() == 30 && ends.iter().all(|(_, end)| end == "ok"), "{ends:?}");
    let golden = machine.folder.join("pack/fixtures/golden/smoke-claims.json");
    fs::write(golden, "[]").unwrap();
    let output = call();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("fixtures/golden/smoke-claims.json of the pack is missing or damaged"),
        "{said}"
    );
}

/// What a pack leaves out is not missed.
#[test]
fn a_pack_of_one_back_end_has_its_steps_alone() {
    let Some(machine) = Machine::with("one", &["libtorch"]) else { return };
    let (code, output) = machine.call(&[], &[]);
    assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let ends = machine.ends();
    assert!(ends.len() == 23 && ends.iter().all(|(_, end)| end == "ok"), "{ends:?}");
    let record = call(&machine.folder.join("out/gpu.json")).unwrap();
    let page = page::page(&[record]);
    assert!(page.contains("| smoke libtorch |") && !page.contains("cuda |"), "{page}");
}

/// Each reason not to begin is one sentence, ends with 2, and is said again by `--read`.
#[test]
fn what_cannot_begin_says_why() {
    let Some(machine) = Machine::new("refusals") else { return };
    let mut refusals = vec![
        (vec![("FAKE_TORCH", "none")], "no Python with torch was found"),
        (
            vec![("FAKE_TORCH", "2.9.1")],
            "built against torch 2.11.0, and this Python has torch 2.9.1",
        ),
        (vec![("FAKE_TORCH_CUDA", "0")], "finds no GPU although nvidia-smi shows NVIDIA H100"),
        (
            vec![("FAKE_SMI_FAILS", "NVIDIA-SMI has failed")],
            "shows no whole GPU; it says: NVIDIA-SMI has failed",
        ),
        (
            vec![("FAKE_GPU", "No devices were found")],
            "shows no whole GPU; it says: No devices were found",
        ),
        (
            vec![("FAKE_GPU", "NVIDIA A100, 550.54.15, 81559, 81000")],
            "driver 550.54.15 is too old: the pack needs 580",
        ),
        (
            vec![("FAKE_GPU", "NVIDIA T4, 580.1, 15360, 15000")],
            "NVIDIA T4 has 15000 MiB of memory free of 15360 MiB",
        ),
        (vec![("INDUCTION_GPU_PACK", "/nowhere")], "no pack in /nowhere"),
    ];
    let check = |variables: &[(&str, &str)], expected: &str| {
        let (code, output) = machine.call(&[], variables);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{expected}: {said}");
        assert!(said.contains(expected), "{expected}: {said}");
        if !expected.contains("no Python") {
            assert!(call(&machine.folder.join("out/gpu.json")).unwrap_err().contains(expected));
        }
    };
    refusals.drain(..).for_each(|(variables, expected)| check(&variables, expected));

    let path = machine.folder.join("pack/pack.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replacen("\"Cargo.lock\": \"", "\"Cargo.lock\": \"0", 1)).unwrap();
    check(&[], "the pack is of another commit");
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    check(&[], "cannot be read");
    fs::write(&path, "{}").unwrap();
    check(&[], "pack.json is not one of format 2");
    fs::write(&path, "[]").unwrap();
    check(&[], "pack.json is not one of format 2");
    fs::write(&path, good).unwrap();
    let archive = machine.folder.join("pack/programs.tar.xz");
    let bytes = fs::read(&archive).unwrap();
    fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    check(&[], "of the pack");
    let mut flipped = bytes.clone();
    flipped[bytes.len() * 9 / 10] ^= 1;
    fs::write(&archive, flipped).unwrap();
    check(&[], "of the pack");
    fs::write(&archive, bytes).unwrap();
    fs::remove_file(machine.folder.join("bin/nvidia-smi")).unwrap();
    check(&[], "no NVIDIA driver");
}

#[test]
fn what_fails_stops_no_more_than_it_must() {
    let Some(machine) = Machine::new("failures") else { return };
    let (code, _) = machine.call(&[], &[("FAKE_NOT_READY", "libtorch cuda")]);
    assert_eq!((code, machine.ends().len()), (Some(1), 2), "with no device it stops");
    assert_eq!(machine.record()["complete"], false);

    let (code, _) = machine.call(&[], &[("FAKE_NOT_READY", "libtorch")]);
    let ends = machine.ends();
    let of = |name: &'static str| {
        ends.iter().filter(move |(step, _)| step.contains(name)).map(|(_, end)| end.as_str())
    };
    assert_eq!((code, machine.record()["complete"].as_bool()), (Some(1), Some(true)));
    assert!(
        of("smoke libtorch")
            .chain(of("conformance libtorch"))
            .all(|end| end.starts_with("skipped: libtorch:cuda:0"))
    );
    assert!(of(" cuda:0").chain(of("PyTorch eager")).all(|end| end == "ok"), "{ends:?}");

    let (code, _) = machine.call(
        &[],
        &[
            ("FAKE_WRONG", "conformance-cuda"),
            ("FAKE_CLAIMS", r#"[{"id": "Q1", "verdict": "not"}]"#),
        ],
    );
    let failed: Vec<_> = machine.ends().into_iter().filter(|(_, end)| end != "ok").collect();
    assert_eq!(
        (code, failed),
        (Some(1), vec![("conformance cuda".to_string(), "failed".to_string())])
    );
    // One claim has another verdict, the others are not there.
    let other = &machine.record()["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["name"] == "smoke cuda")
        .cloned()
        .unwrap();
    assert!(
        other["found"]["other_than_cpu"].as_object().is_some_and(|other| other.len() > 20),
        "{other}"
    );
    let report = fs::read_to_string(machine.folder.join("out/report.txt")).unwrap();
    assert!(
        report.contains("verdicts other than the CPU's: smoke libtorch, smoke cuda"),
        "{report}"
    );
}

/// Tests that passed on the CPU alone, a device having gone, are no conformance.
#[test]
fn a_device_that_the_tests_do_not_find_fails() {
    let Some(machine) = Machine::new("lost") else { return };
    let (code, _) = machine.call(&["--limit", "60"], &[("FAKE_LOST", "conformance-cuda")]);
    let failed: Vec<_> = machine.ends().into_iter().filter(|(_, end)| end != "ok").collect();
    assert_eq!(
        (code, failed),
        (Some(1), vec![("conformance cuda".to_string(), "failed".to_string())])
    );
}

/// A model that is read to other numbers than the CPU's is no model that is read.
#[test]
fn a_scan_that_differs_fails() {
    let Some(machine) = Machine::new("scan") else { return };
    let (code, _) = machine.call(&["--limit", "60"], &[("FAKE_LOSS", "1.1")]);
    let failed: Vec<_> = machine.ends().into_iter().filter(|(_, end)| end != "ok").collect();
    // A tenth of a nat is what bfloat16 may be off by.
    assert_eq!(
        (code, failed),
        (Some(1), vec![("scan small, float32: libtorch:cuda:0".to_string(), "failed".to_string())])
    );
}

fn is_alive(pid: &str) -> bool {
    // A zombie is dead: its parent has yet to hear of it.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn what_hangs_is_killed_with_its_children() {
    let Some(machine) = Machine::new("hang") else { return };
    let pid = machine.folder.join("pid");
    let hang = [("FAKE_HANG", "conformance-cuda"), ("FAKE_HANG_PID", pid.to_str().unwrap())];
    let begun = Instant::now();
    let (code, _) = machine.call(&["--patience", "0.02"], &hang);
    assert!(begun.elapsed() < Duration::from_secs(60));
    let failed: Vec<_> = machine.ends().into_iter().filter(|(_, end)| end != "ok").collect();
    assert_eq!(
        (code, failed),
        (Some(1), vec![("conformance cuda".to_string(), "failed".to_string())])
    );
    assert!(!is_alive(fs::read_to_string(&pid).unwrap().trim()));

    // All of it has a limit, too: what comes after is skipped.
    let (code, _) = machine.call(&["--limit", "6"], &hang);
    let ends = machine.ends();
    assert_eq!(code, Some(1));
    assert!(
        ends.iter()
            .any(|(step, end)| step.starts_with("bench") && end == "skipped: no time is left"),
        "{ends:?}"
    );
    assert!(machine.record()["seconds"].as_f64().unwrap() < 30.0);
}

#[test]
fn what_was_found_before_a_kill_is_kept() {
    let Some(machine) = Machine::new("killed") else { return };
    let pid = machine.folder.join("pid");
    let hang = [("FAKE_HANG", "conformance-cuda"), ("FAKE_HANG_PID", pid.to_str().unwrap())];
    for (signal, code) in [("-KILL", None), ("-TERM", Some(128 + 15))] {
        let _ = fs::remove_file(&pid);
        machine.forget();
        let mut running =
            machine.command(&[], &hang).stdout(std::process::Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        // A file that is there may still be empty.
        let written = || fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'));
        while !written() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Command::new("kill").args([signal, &running.id().to_string()]).status().unwrap();
        assert_eq!(running.wait().unwrap().code(), code);
        let ends = machine.ends();
        assert!(
            ends.iter().any(|(step, end)| step == "conformance libtorch" && end == "ok"),
            "{ends:?}"
        );
        assert_eq!(machine.record()["complete"], false);
        let child = fs::read_to_string(&pid).unwrap();
        // A signal that can be heard ends what runs, too.
        assert_eq!(is_alive(child.trim()), code.is_none());
        let _ = Command::new("kill").arg(child.trim()).status();
    }
}
