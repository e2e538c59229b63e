//! The same seed, the same bits: however often, on however many threads, whatever is kept on the
//! way.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{TINY, assert_same_run, fixtures, induction, log_without_speed, spec, succeed};
use induction_torture::{cases, scratch};
use serde_json::{Value, json};

fn train(spec: &Path, run: &Path, threads: &str) {
    succeed(induction().args(["--threads", threads]).arg("train").arg(spec).arg("--out").arg(run));
}

/// The weights and optimizer state of the last of `steps` steps.
fn last(run: &Path, steps: u64) -> [Vec<u8>; 2] {
    let folder = run.join(format!("snapshots/step-{steps:08}"));
    ["model.safetensors", "optim.safetensors"].map(|file| fs::read(folder.join(file)).unwrap())
}

#[test]
fn ten_times_on_one_thread_and_on_two() {
    let folder = scratch();
    let spec = spec(folder.path(), &TINY.replace("tokens = 9600", "tokens = 2400"));
    let run = |name: &str| -> PathBuf { folder.path().join(name) };
    train(&spec, &run("first"), "1");
    cases("repetitions of a run on 1 and 2 threads", 20, |seed| {
        let again = run("again");
        train(&spec, &again, if seed % 2 == 0 { "1" } else { "2" });
        assert_same_run(&run("first"), &again);
        fs::remove_dir_all(again).unwrap();
    });
}

#[test]
fn what_is_kept_changes_nothing() {
    let folder = scratch();
    let tiny = TINY.replace("tokens = 9600", "tokens = 2400");
    train(&spec(folder.path(), &tiny), &folder.path().join("every-20"), "2");
    let expected = (
        last(&folder.path().join("every-20"), 50),
        log_without_speed(&folder.path().join("every-20")),
    );
    cases("snapshot intervals", 12, |seed| {
        let every = [1, 2, 3, 5, 7, 11, 25, 49, 50, 51, 1000, 1_000_000][seed as usize % 12];
        let run = folder.path().join(format!("every-{every}-{seed}"));
        train(
            &spec(folder.path(), &tiny.replace("every = 20", &format!("every = {every}"))),
            &run,
            "2",
        );
        assert!((last(&run, 50), log_without_speed(&run)) == expected, "every {every}");
        fs::remove_dir_all(run).unwrap();
    });
}

/// Of the whole way from a text to weights: vocabulary, order of examples, initial weights,
/// gradients, optimizer. Whoever changes these numbers on purpose runs this with
/// `INDUCTION_GOLDEN=write` and says so in the commit. (`cargo xtask regress` holds the release
/// binary against the same file.)
#[test]
fn fifty_golden_steps() {
    let golden = fixtures().join("golden");
    let folder = scratch();
    let text = fs::read_to_string(golden.join("spec.toml")).unwrap();
    let spec = spec(
        folder.path(),
        &text.replace("\"text.txt\"", &format!("{:?}", golden.join("text.txt"))),
    );
    let run = folder.path().join("run");
    train(&spec, &run, "2");
    let losses: Vec<Value> =
        log_without_speed(&run).into_iter().map(|mut line| line["loss"].take()).collect();
    let [weights, optimizer] =
        last(&run, 50).map(|bytes| blake3::hash(&bytes).to_hex().to_string());
    let found = json!({"losses": losses, "weights_blake3": weights, "optimizer_blake3": optimizer});
    let path = golden.join("expected.json");
    if std::env::var("INDUCTION_GOLDEN").is_ok_and(|value| value == "write") {
        fs::write(&path, format!("{found:#}\n")).unwrap();
    }
    let expected: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let (first, end) = (losses[0].as_f64().unwrap(), losses[49].as_f64().unwrap());
    assert!(losses.len() == 50 && end < first - 0.5, "{first} to {end}: nothing was learned");
    for (step, (found, expected)) in
        losses.iter().zip(expected["losses"].as_array().unwrap()).enumerate()
    {
        assert_eq!(found, expected, "the loss of step {}", step + 1);
    }
    assert_eq!(found, expected);
}

#[test]
fn a_report_built_again_has_the_same_bytes() {
    let folder = scratch();
    let runs = ["n_layers = 1", "n_layers = 2"].map(|layers| {
        let spec = TINY.replace("n_layers = 2", layers).replace("tokens = 9600", "tokens = 2400");
        let name = format!("name = \"{}\"", &layers[layers.len() - 1..]);
        let spec = spec.trim().replace("\n[", "\n[runs.spec.").replace("name = \"tiny\"", &name);
        format!("[[runs]]\nseries = [\"tiny\"]\n[runs.spec]\n{spec}\n")
    });
    let plan = folder.path().join("plan.toml");
    fs::write(&plan, format!("format = 1\nname = \"test\"\n{}", runs.concat())).unwrap();
    let page = |out: &Path| fs::read(out.join("report.html")).unwrap();
    let reproduce = |out: &Path, threads: &str| {
        let mut command = induction();
        command
            .args(["--threads", threads, "reproduce", "--manifest"])
            .arg(&plan)
            .arg("--out")
            .arg(out);
        succeed(&mut command);
    };
    let out = folder.path().join("out");
    reproduce(&out, "2");
    let first = page(&out);
    cases("reports built again", 3, |_| {
        fs::remove_file(out.join("report.html")).unwrap();
        succeed(induction().arg("report").arg(&out));
        assert!(page(&out) == first);
    });
}
