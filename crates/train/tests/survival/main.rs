//! What a run survives: power cuts, disks that fail, files that rot, numbers that are none. In
//! process, on a tiny model; the tests of the `induction` crate kill the real program.

#![allow(clippy::unwrap_used)]

mod corruption;
mod disk_errors;
mod not_finite;
mod power;

use std::{fs, path::Path};

use induction_engine::{CpuEngine, Engine};
use induction_records::{RunSpec, StepRow};
use induction_train::{
    Continue, Error, Observer, Outcome, Snapshot, list_snapshots, load_model, snapshot_folder,
};

const STEPS: u64 = 40;

/// Two layers, 40 steps, kept every 7.
fn spec() -> RunSpec {
    let text = "format = 1\nname = 'small'\nseed = 7\n[data]\nsource = 'repeats'\nmin_period = 3\nmax_period = 8\n[model]\n\
        n_layers = 2\nd_model = 16\nn_heads = 2\nd_head = 8\nn_ctx = 24\nd_vocab = 16\nd_mlp = 8\nsmeared_keys = true\n[train]\n\
        tokens = 1920\nbatch = 2\nlr = 0.01\n[snapshots]\nevery = 7\n[evaluation]\nexamples = 8\nicl_early = 3\nicl_late = 22\n\
        icl_half_width = 1\nhead_examples = 3\nprefix_block = 5\n";
    RunSpec::parse(Path::new("small.toml"), text).unwrap()
}

fn example(index: u64) -> Vec<u32> {
    (0..25).map(|at| ((index * 5 + at * at + at) % 15 + 1) as u32).collect()
}

/// Hears what a run says, and stops it after some step.
#[derive(Default)]
struct Listener<'a> {
    stop_at: u64,
    notes: Vec<String>,
    /// Told each step whose state is said to be safe.
    safe: Option<&'a mut dyn FnMut(u64)>,
}

impl Observer for Listener<'_> {
    fn step(&mut self, metrics: &StepRow) -> Continue {
        if metrics.step == self.stop_at { Continue::Stop } else { Continue::Yes }
    }
    fn snapshot(&mut self, step: u64, _: &dyn Engine) -> Result<(), Error> {
        if let Some(safe) = &mut self.safe {
            safe(step);
        }
        Ok(())
    }
    fn note(&mut self, message: &str) {
        self.notes.push(message.to_string());
    }
}

fn train(run: &Path, listener: &mut Listener) -> Result<Outcome, Error> {
    let spec = spec();
    let mut engine = CpuEngine::new(&spec.model, &spec.model.init_params(spec.seed)?)?;
    let outcome = induction_train::train(&spec, &example, &mut engine, 1, run, listener)?;
    if let (Outcome::Stopped { step }, Some(safe)) = (outcome, &mut listener.safe) {
        safe(step);
    }
    Ok(outcome)
}

/// Trains in three sittings: an interruption's snapshots are made and removed, too.
fn train_in_pieces(run: &Path, mut safe: impl FnMut(u64)) -> Result<(), Error> {
    for stop_at in [10, 23, u64::MAX] {
        train(run, &mut Listener { stop_at, safe: Some(&mut safe), ..Listener::default() })?;
    }
    Ok(())
}

/// The newest state that training can go on from.
fn newest(run: &Path) -> Option<u64> {
    list_snapshots(run).ok()?.into_iter().rev().find(|&step| Snapshot::load(run, step).is_ok())
}

/// Asserts that a run is done and holds what an undisturbed one does; snapshots that were set aside
/// are passed over.
fn assert_whole(run: &Path, undisturbed: &Path) {
    let steps = list_snapshots(run).unwrap();
    assert_eq!(steps, list_snapshots(undisturbed).unwrap());
    for &step in &steps {
        let model = |run: &Path| load_model(&snapshot_folder(run, step)).unwrap();
        assert!(model(run) == model(undisturbed), "step {step} differs");
    }
    for &step in steps.iter().rev().take(3) {
        let state = |run: &Path| Snapshot::load(run, step).unwrap().1;
        let (a, b) = (state(run), state(undisturbed));
        assert!(a.optimizer == b.optimizer, "the optimizer of step {step} differs");
    }
    assert_eq!(log(run), log(undisturbed));
    let names = |folder: &Path| -> Vec<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    for folder in [run.to_path_buf(), run.join("snapshots")] {
        assert!(
            !names(&folder).iter().any(|name| name.starts_with(".tmp-")),
            "{:?}",
            names(&folder)
        );
    }
}

/// The metric log without the speeds.
fn log(run: &Path) -> Vec<(u64, f64, f64, f64)> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<StepRow>(line).unwrap());
    lines.map(|line| (line.step, line.loss, line.lr, line.grad_norm)).collect()
}

/// An undisturbed run in a folder of its own.
fn undisturbed() -> tempfile::TempDir {
    let folder = induction_torture::scratch();
    assert_eq!(
        train(&folder.path().join("run"), &mut Listener::default()).unwrap(),
        Outcome::Finished
    );
    folder
}
