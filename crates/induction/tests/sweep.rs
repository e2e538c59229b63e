//! A plan of several runs through the real binary: what it says beforehand, killed workers,
//! failures, its state.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use common::{TINY, assert_same_run, fail, induction, manifest, succeed, three};
use induction_torture::{cases, scratch};
use rand::Rng;
use serde_json::Value;

fn reproduce(plan: &Path, out: &Path) -> Command {
    let mut command = induction();
    command.args(["reproduce", "--manifest"]).arg(plan).arg("--out").arg(out);
    command
}

fn status(out: &Path) -> Vec<Value> {
    let text = succeed(induction().args(["--json", "status"]).arg(out));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_plan_says_what_it_costs_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let plan = manifest(folder.path(), &three(9600));
    let out = folder.path().join("out");
    let printed = succeed(reproduce(&plan, &out).arg("--dry-run"));
    assert!(
        printed.contains("3 runs") && printed.contains("tiny 3") && printed.contains("mlp"),
        "{printed}"
    );
    let printed = succeed(reproduce(&plan, &out).args(["--dry-run", "--json"]));
    let forecast: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(forecast["tokens"], 3 * 9600);
    for value in ["seconds", "memory", "disk", "flop"] {
        assert!(forecast[value].as_f64().unwrap() > 0.0, "{value}");
    }
    assert!(!out.exists());
}

/// Kills the sweep up to 20 times, each time after at most 15 % of `life`; how often it was killed
/// before its end.
fn kill_again_and_again(plan: &Path, out: &Path, life: Duration, random: &mut impl Rng) -> usize {
    for kills in 0..20 {
        let mut child = reproduce(plan, out)
            .args(["--jobs", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(life.mul_f64(random.random_range(0.02..0.15)));
        if child.try_wait().unwrap().is_some() {
            return kills;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    20
}

#[test]
fn workers_killed_at_random_moments_end_where_undisturbed_ones_do() {
    let folder = scratch();
    let plan = manifest(folder.path(), &three(96_000));
    let serial = folder.path().join("serial");
    let begun = std::time::Instant::now();
    succeed(reproduce(&plan, &serial).args(["--jobs", "1"]));
    let whole = begun.elapsed();
    cases("sweeps whose workers are killed", 1, |seed| {
        let killed = folder.path().join(format!("killed-{seed}"));
        let mut random = induction_random::stream(seed, "kill a sweep", 0);
        // The machine may be faster now than while it was timed: a sweep that ends too early is
        // begun anew, with shorter lives.
        let mut life = whole;
        let kills = loop {
            let kills = kill_again_and_again(&plan, &killed, life, &mut random);
            if kills >= 5 || life < Duration::from_millis(200) {
                break kills;
            }
            std::fs::remove_dir_all(&killed).unwrap();
            life /= 2;
        };
        succeed(reproduce(&plan, &killed).args(["--jobs", "2"]));
        for (name, _) in three(0) {
            let run = |out: &Path| out.join("runs").join(name);
            assert_same_run(&run(&serial), &run(&killed));
            for table in ["heads.jsonl", "icl.jsonl", "ablations.jsonl", "knockouts.jsonl"] {
                let read =
                    |out: &Path| std::fs::read(run(out).join("measurements").join(table)).unwrap();
                assert!(read(&serial) == read(&killed), "{name}: {table} differs");
            }
        }
        let read = |out: &Path| std::fs::read(out.join("claims.json")).unwrap();
        assert!(read(&serial) == read(&killed), "the claims differ");
        assert!(kills >= 5, "only {kills} kills: the sweep is too short for this test");
        println!("{kills} kills; weights, logs, tables and claims of 3 runs equal");
        assert!(
            status(&killed).iter().all(|run| run["status"]["stage"] == "done"),
            "{:?}",
            status(&killed)
        );
        std::fs::remove_dir_all(&killed).unwrap();
    });
}

#[test]
fn a_failure_is_told_with_its_reason_and_stops_no_other_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = three(9600);
    runs[0].1 = runs[0]
        .1
        .replace("lr = 0.01", "lr = 900.0\nwarmup_steps = 0\npos_gain_lr_scale = 10.0")
        .replace("n_ctx = 24", "n_ctx = 24\nnormalization = \"none\"");
    let plan = manifest(folder.path(), &runs);
    let out = folder.path().join("out");
    let message = fail(reproduce(&plan, &out).args(["--jobs", "1"]), 3);
    assert!(message.contains("one failed") && message.contains("not finite"), "{message}");
    let found: Vec<(String, String)> = status(&out)
        .iter()
        .map(|run| {
            (run["name"].as_str().unwrap().into(), run["status"]["stage"].as_str().unwrap().into())
        })
        .collect();
    let expected = [("one", "failed"), ("two", "done"), ("mlp", "done")];
    assert_eq!(found, expected.map(|(name, stage)| (name.to_string(), stage.to_string())));
    let shown = succeed(induction().arg("status").arg(&out));
    assert!(shown.contains("not finite") && shown.contains("2 of 3 done, 1 failed"), "{shown}");
    assert!(shown.contains("best prefix matching"), "{shown}");
}

#[test]
fn weights_go_by_the_rule_once_all_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = three(9600)[1..2].to_vec();
    let plan = manifest(folder.path(), &runs);
    let (all, some) = (folder.path().join("all"), folder.path().join("some"));
    succeed(&mut reproduce(&plan, &all));
    runs[0].1 = runs[0].1.replace("examples = 8", "examples = 8\nweights_every = 4");
    let plan = manifest(folder.path(), &runs);
    succeed(&mut reproduce(&plan, &some));
    let with_weights = |out: &Path| {
        let entries = std::fs::read_dir(out.join("runs/two/snapshots")).unwrap();
        let mut steps: Vec<u64> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("model.safetensors").exists())
            .map(|path| {
                path.file_name().unwrap().to_str().unwrap()["step-".len()..].parse().unwrap()
            })
            .collect();
        steps.sort_unstable();
        steps
    };
    // 16 are kept: 0, 1, 2, 4, 8, 16, 20, 40, .. 200.
    assert_eq!((with_weights(&all).len(), with_weights(&some)), (16, vec![4, 40, 120, 200]));
    for table in ["heads.jsonl", "icl.jsonl", "ablations.jsonl"] {
        let read =
            |out: &Path| std::fs::read(out.join("runs/two/measurements").join(table)).unwrap();
        assert!(read(&all) == read(&some), "{table}");
    }
    // Nothing is left to do, and what can no longer be done says why.
    succeed(&mut reproduce(&plan, &some));
    runs[0].1 = runs[0].1.replace("head_examples = 3", "head_examples = 2");
    let message = fail(&mut reproduce(&manifest(folder.path(), &runs), &some), 2);
    assert!(
        message.contains("weights_every") && message.contains("train the run again"),
        "{message}"
    );
}

#[test]
fn a_single_run_is_the_same_task() {
    let folder = tempfile::tempdir().unwrap();
    let plan = manifest(folder.path(), &three(9600)[1..2]);
    let out = folder.path().join("out");
    succeed(&mut reproduce(&plan, &out));
    let run = folder.path().join("run");
    let spec = common::spec(folder.path(), TINY);
    let mut command = induction();
    command.arg("run").arg(&spec).arg("--out").arg(&run);
    succeed(&mut command);
    assert_same_run(&out.join("runs/two"), &run);
    succeed(&mut command);
}

#[test]
fn manifests_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let refused =
        |runs: &[(&str, String)]| fail(&mut reproduce(&manifest(folder.path(), runs), &out), 2);
    let [one, two, _] = &three(9600)[..] else { panic!() };
    let message = refused(&[one.clone(), ("one", two.1.clone())]);
    assert!(
        message.contains("plan.toml: run 2 (\"one\")") && message.contains("rename one"),
        "{message}"
    );
    let message = refused(&[one.clone(), ("other", one.1.clone())]);
    assert!(message.contains("trains the same model"), "{message}");
    let message = refused(&[("one", one.1.replace("tokens = 9600", "tokens = 0"))]);
    assert!(message.contains("train.tokens") && message.contains("from 1"), "{message}");
    let message = refused(&[("one", one.1.replace("seed = 7", "seed = 7\nspeed = 8"))]);
    assert!(message.contains("speed"), "{message}");
    assert!(refused(&[]).contains("runs"));
    let plan = manifest(folder.path(), &three(9600));
    fail(reproduce(&plan, &out).args(["--device", "abacus"]), 2);
    fail(reproduce(&plan, &out).args(["--scale", "smoke"]), 2);
    assert!(!out.exists(), "refused before anything was written");
    // A disk that takes nothing, even from root.
    #[cfg(target_os = "linux")]
    assert!(
        fail(&mut reproduce(&plan, Path::new("/proc/induction")), 2).contains("/proc/induction")
    );
    fail(induction().arg("status").arg(folder.path().join("nowhere")), 2);
}

#[test]
fn the_search_says_what_it_costs() {
    let printed =
        succeed(induction().args(["pilot", "--dry-run", "--out", "x", "--corpus", "nowhere"]));
    assert!(printed.contains("2L-width-256") && printed.contains("33 runs"), "{printed}");
}
