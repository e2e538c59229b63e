//! However a run is interrupted, it ends in the same bits.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{TINY, assert_same_run, fail, induction, spec, succeed};
use induction_torture::{cases, scratch};
use rand::Rng;

fn train(spec: &Path, run: &Path) -> Command {
    let mut command = induction();
    command.arg("train").arg(spec).arg("--out").arg(run);
    command
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill")
            .arg(format!("-{name}"))
            .arg(child.id().to_string())
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn kill_9_at_random_moments() {
    let folder = scratch();
    // Long enough to be killed five times and have something left to do.
    let spec = spec(folder.path(), &TINY.replace("tokens = 9600", "tokens = 96000"));
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let begun = Instant::now();
    succeed(&mut train(&spec, &whole));
    let uninterrupted = begun.elapsed();

    let mut kills = 0;
    let runs = cases("runs killed five times with kill -9", 5, |seed| {
        let mut random = induction_random::stream(seed, "kill", 0);
        for _ in 0..5 {
            let mut child = start(&mut train(&spec, &killed));
            // From before the first step to a seventh of the whole run, so inside saves, too.
            std::thread::sleep(uninterrupted.mul_f64(random.random_range(0.005..0.15)));
            if child.try_wait().unwrap().is_some() {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        succeed(&mut train(&spec, &killed));
        assert_same_run(&whole, &killed);
        std::fs::remove_dir_all(&killed).unwrap();
    });
    println!("{kills} kills");
    assert!(kills >= 4 * runs, "only {kills} kills of {runs} runs: they are over too soon");
}

#[test]
fn sigterm_saves_exits_75_and_loses_nothing() {
    stops_cleanly("TERM", 75);
}

#[test]
fn ctrl_c_saves_exits_130_and_loses_nothing() {
    stops_cleanly("INT", 130);
}

fn stops_cleanly(name: &str, code: i32) {
    let folder = tempfile::tempdir().unwrap();
    // Snapshots far apart: what is found afterwards was saved by the signal.
    let spec = spec(
        folder.path(),
        &TINY.replace("tokens = 9600", "tokens = 48000").replace("every = 20", "every = 100000"),
    );
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    succeed(&mut train(&spec, &whole));
    let mut child = start(&mut train(&spec, &stopped));
    // Past the last of the powers of two that it would have saved anyway soon after the start.
    let log = stopped.join("metrics.jsonl");
    let begun = Instant::now();
    while !stopped.join("snapshots/step-00000064").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no step 64");
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&child, name);
    if name == "TERM" {
        // A scheduler and a job's script may both send one; that must not cost the state.
        signal(&child, name);
    }
    assert_eq!(child.wait().unwrap().code(), Some(code));
    let lines = std::fs::read_to_string(&log).unwrap().lines().count();
    let saved = stopped.join(format!("snapshots/step-{lines:08}"));
    assert!(saved.exists(), "{lines} steps logged, but {} is not there", saved.display());
    succeed(&mut train(&spec, &stopped));
    assert_same_run(&whole, &stopped);
}

#[test]
fn a_second_process_refuses_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), &TINY.replace("tokens = 9600", "tokens = 96000000"));
    let run = folder.path().join("run");
    let mut first = start(&mut train(&spec, &run));
    while !run.join("snapshots/step-00000001").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let begun = Instant::now();
    assert!(fail(&mut train(&spec, &run), 75).contains("another process"));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_the_older_one_used() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), TINY);
    let (whole, damaged) = (folder.path().join("whole"), folder.path().join("damaged"));
    succeed(&mut train(&spec, &whole));
    succeed(&mut train(&spec, &damaged));
    let last = damaged.join("snapshots/step-00000200");
    for (file, damage) in [
        (
            "model.safetensors",
            Box::new(|bytes: &mut Vec<u8>| bytes.truncate(100)) as Box<dyn Fn(&mut Vec<u8>)>,
        ),
        ("optim.safetensors", Box::new(|bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1)),
        ("MANIFEST.json", Box::new(|bytes: &mut Vec<u8>| bytes.clear())),
        ("state.json", Box::new(|bytes: &mut Vec<u8>| bytes[2] ^= 4)),
    ] {
        let path = last.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let output = train(&spec, &damaged).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success()
                && message.contains(file)
                && message.contains("damaged-step-00000200"),
            "{message}"
        );
        assert_same_run(&whole, &damaged);
    }
    let aside = std::fs::read_dir(damaged.join("snapshots")).unwrap();
    let count = aside
        .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with("damaged-"))
        .count();
    assert_eq!(count, 4, "each damaged snapshot is kept");
}

#[test]
fn threads_do_not_change_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), TINY);
    let run = |threads: &str| {
        let run = folder.path().join(threads);
        succeed(train(&spec, &run).args(["--threads", threads]));
        run
    };
    assert_same_run(&run("1"), &run("2"));
}

#[test]
fn a_run_of_another_spec_or_version_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let first = spec(folder.path(), TINY);
    let run = folder.path().join("run");
    succeed(&mut train(&first, &run));
    let other = spec(folder.path(), &TINY.replace("seed = 7", "seed = 8"));
    let message = fail(&mut train(&other, &run), 2);
    assert!(message.contains("another spec") && message.contains("seed"), "{message}");

    // An unfinished run of another engine: its newest snapshot says so, and so of another version.
    let first = spec(folder.path(), TINY);
    std::fs::remove_dir_all(run.join("snapshots/step-00000200")).unwrap();
    let message = fail(train(&first, &run).args(["--device", "flex"]), 2);
    assert!(message.contains("the engine cpu, this is flex"), "{message}");
    let snapshot = run.join("snapshots/step-00000180");
    let state = std::fs::read_to_string(snapshot.join("state.json")).unwrap();
    let state = state.replace(&format!("\"{}\"", env!("CARGO_PKG_VERSION")), "\"0.0.1\"");
    std::fs::write(snapshot.join("state.json"), &state).unwrap();
    let manifest = std::fs::read_to_string(snapshot.join("MANIFEST.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let entry = manifest
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|entry| entry["name"] == "state.json")
        .unwrap();
    entry["bytes"] = state.len().into();
    entry["blake3"] = blake3::hash(state.as_bytes()).to_hex().to_string().into();
    std::fs::write(snapshot.join("MANIFEST.json"), manifest.to_string()).unwrap();
    let message = fail(&mut train(&first, &run), 2);
    assert!(message.contains("0.0.1"), "{message}");
    assert!(run.join("snapshots/step-00000160").exists());
}
