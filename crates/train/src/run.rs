use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use induction_engine::Engine;
use induction_files::Lease;
use induction_records::{FORMAT, RunSpec, StepRow};
use ndarray::Array2;

use crate::{
    Error, Learner, Optimizer, Snapshot, State, Step, list_snapshots,
    log::MetricLog,
    snapshot::{is_thinned, thin},
    snapshot_folder,
};

/// The version that a run folder carries; another version's unfinished run is refused, for its bits
/// could differ.
pub const CODE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The training text as numbered examples: a pure function of the index, so that no thread count,
/// batch split or resume can change what is learned from.
pub trait Examples {
    /// The example of that index, `n_ctx + 1` token ids: the first `n_ctx` are read, the last
    /// `n_ctx` predicted.
    fn example(&self, index: u64) -> Vec<u32>;
}

impl<F: Fn(u64) -> Vec<u32>> Examples for F {
    fn example(&self, index: u64) -> Vec<u32> {
        self(index)
    }
}

/// Hears of a run's progress and may stop it.
pub trait Observer {
    /// After each step. Returning [`Continue::Stop`] saves the state and ends the run.
    fn step(&mut self, metrics: &StepRow) -> Continue {
        let _ = metrics;
        Continue::Yes
    }
    /// After a scheduled snapshot was saved; the engine holds its weights.
    ///
    /// # Errors
    /// Whatever looking at the engine gives; it ends the run, whose state is safe.
    fn snapshot(&mut self, step: u64, engine: &dyn Engine) -> Result<(), Error> {
        let _ = (step, engine);
        Ok(())
    }
    /// Something the user should know: a damaged snapshot that was set aside, a resume.
    fn note(&mut self, message: &str) {
        let _ = message;
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continue {
    /// Go on.
    Yes,
    /// Save and stop after this step.
    Stop,
}

/// An [`Observer`] that does nothing.
pub struct Quiet;
impl Observer for Quiet {}

/// How a call of [`train`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Stopped by the observer after this step; its state is saved.
    Stopped {
        /// The last step taken.
        step: u64,
    },
}

/// Trains `spec` in the folder `run`, or goes on where an earlier call stopped, however it stopped.
///
/// The result is a pure function of the spec (on an exact engine): weights, optimizer state and
/// metric log come out the same, bit for bit, whether the run was interrupted or not.
///
/// # Errors
/// A folder of another spec or version, or in use by another process; every snapshot damaged; a
/// loss or gradient that is not finite ([`Error::Diverged`]); the system's and the engine's.
pub fn train(
    spec: &RunSpec,
    examples: &dyn Examples,
    engine: &mut dyn Engine,
    threads: usize,
    run: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome, Error> {
    spec.validate()?;
    let lease = claim(spec, run, observer)?;
    let state_at = |step: u64, log_bytes: u64, engine: &dyn Engine| State {
        format: FORMAT,
        step,
        tokens: step * spec.tokens_per_step(),
        seed: spec.seed,
        spec_hash: spec.training_hash(),
        code_version: CODE_VERSION.to_string(),
        engine: engine.name().to_string(),
        threads,
        log_bytes,
    };

    let (params, optimizer, log_bytes) =
        match newest_good_snapshot(spec, run, engine.name(), observer)? {
            Some(Snapshot { params, optimizer, state }) => {
                if state.step > 0 && state.step < spec.steps() {
                    observer.note(&format!(
                        "{}: going on from step {} of {}",
                        spec.name,
                        state.step,
                        spec.steps()
                    ));
                }
                (params, optimizer, state.log_bytes)
            }
            None => {
                let first = Snapshot {
                    params: spec.model.init_params(spec.seed)?,
                    optimizer: Optimizer::new(&spec.model),
                    state: state_at(0, 0, engine),
                };
                first.save(run, &spec.model_at(0))?;
                (first.params, first.optimizer, 0)
            }
        };
    // A kill may have come between a snapshot and what follows it.
    for step in list_snapshots(run)?.into_iter().filter(|&step| step < optimizer.step) {
        remove_unscheduled(spec, run, step)?;
    }
    thin(run)?;
    let mut log = MetricLog::resume(&run.join("metrics.jsonl"), log_bytes, optimizer.step)?;
    let mut last_saved = optimizer.step;
    clamp(spec, optimizer.step, engine)?;
    let mut learner = Learner::new(engine, params, optimizer, &spec.train)?;

    while learner.optimizer.step < spec.steps() {
        let begun = Instant::now();
        let step = learner.optimizer.step + 1;
        let examples = batch(spec, examples, step);
        let lr = spec.lr(step);
        let Step { loss, grad_norm, not_finite } =
            learner.step(engine, examples.view(), lr, &spec.train)?;
        if let Some(what) = not_finite {
            return Err(diverged(run, spec, step, last_saved, what));
        }

        let tokens_per_s = (spec.tokens_per_step() as f64 / begun.elapsed().as_secs_f64()).round();
        let metrics = StepRow {
            step,
            tokens: step * spec.tokens_per_step(),
            loss: f64::from(loss),
            lr,
            grad_norm,
            tokens_per_s,
        };
        clamp(spec, step, engine)?;
        lease.check()?;
        log.append(&metrics)?;
        let stop = observer.step(&metrics) == Continue::Stop;
        if spec.keeps(step) || stop {
            learner.fetch(engine, &spec.train)?;
            // The log first: a snapshot must never count on lines that a power cut could take.
            let state = state_at(step, log.sync()?, engine);
            let snapshot = Snapshot { params: learner.params, optimizer: learner.optimizer, state };
            snapshot.save(run, &spec.model_at(step))?;
            (learner.params, learner.optimizer) = (snapshot.params, snapshot.optimizer);
            remove_unscheduled(spec, run, last_saved)?;
            thin(run)?;
            last_saved = step;
            if spec.keeps(step) {
                observer.snapshot(step, engine)?;
            }
        }
        if stop && step < spec.steps() {
            return Ok(Outcome::Stopped { step });
        }
    }
    Ok(Outcome::Finished)
}

/// Whether the run in this folder has its last snapshot, for this spec.
///
/// # Errors
/// A folder of another spec, or whose spec.toml cannot be read.
pub fn is_finished(spec: &RunSpec, run: &Path) -> Result<bool, Error> {
    if !run.join("spec.toml").exists() {
        return Ok(false);
    }
    check_same_run(spec, run)?;
    Ok(list_snapshots(run)?.last() == Some(&spec.steps()))
}

/// Clamps the engine's model as it is once so many steps are taken.
fn clamp(spec: &RunSpec, step: u64, engine: &mut dyn Engine) -> Result<(), Error> {
    if !spec.train.clamps.is_empty() {
        let model = spec.model_at(step);
        if engine.config().clamp != model.clamp {
            engine.set_clamps(&model.clamp)?;
        }
    }
    Ok(())
}

/// The examples of one step, `[batch, n_ctx + 1]`.
fn batch(spec: &RunSpec, examples: &dyn Examples, step: u64) -> Array2<u32> {
    let (rows, columns) = (spec.train.batch, spec.model.n_ctx + 1);
    let first = (step - 1) * rows as u64;
    let tokens = (first..first + rows as u64).flat_map(|index| examples.example(index)).collect();
    Array2::from_shape_vec((rows, columns), tokens).expect("every example has n_ctx + 1 tokens")
}

/// Takes the folder for this process and writes the resolved spec into it.
fn claim(spec: &RunSpec, run: &Path, observer: &mut dyn Observer) -> Result<Lease, Error> {
    let snapshots = run.join("snapshots");
    induction_files::make_folders(&snapshots).map_err(Error::io(&snapshots))?;
    let lease = Lease::take(run, &mut |note| observer.note(note))?;
    let path = run.join("spec.toml");
    if path.exists() {
        check_same_run(spec, run)?;
    }
    for folder in [run, &snapshots] {
        // What a killed process left; the lease says that nobody is writing any.
        induction_files::remove_leftovers(folder).map_err(Error::io(folder))?;
    }
    let text = spec.to_toml();
    if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        induction_files::write_atomic(&path, text.as_bytes()).map_err(Error::io(&path))?;
    }
    Ok(lease)
}

fn check_same_run(spec: &RunSpec, run: &Path) -> Result<(), Error> {
    let there = RunSpec::read(&run.join("spec.toml"))?;
    if there.training_hash() != spec.training_hash() {
        return Err(Error::OtherSpec {
            path: run.to_path_buf(),
            difference: spec.difference(&there),
        });
    }
    Ok(())
}

/// The newest snapshot that verifies. Damaged ones are reported and renamed, never deleted and
/// never trained from.
fn newest_good_snapshot(
    spec: &RunSpec,
    run: &Path,
    engine: &str,
    observer: &mut dyn Observer,
) -> Result<Option<Snapshot>, Error> {
    let steps = list_snapshots(run)?;
    for &step in steps.iter().rev() {
        if is_thinned(run, step) {
            continue;
        }
        match Snapshot::load(run, step) {
            Ok((config, snapshot)) => {
                if snapshot.state.spec_hash != spec.training_hash() || config != spec.model_at(step)
                {
                    let difference =
                        format!("the snapshot of step {step} was made from another spec");
                    return Err(Error::OtherSpec { path: run.to_path_buf(), difference });
                }
                if snapshot.state.code_version != CODE_VERSION && step < spec.steps() {
                    let found = snapshot.state.code_version;
                    return Err(Error::OtherVersion {
                        path: run.to_path_buf(),
                        found,
                        ours: CODE_VERSION,
                    });
                }
                // The initial weights are the same everywhere; from the first step on an engine's
                // rounding is in them.
                if snapshot.state.engine != engine && step > 0 && step < spec.steps() {
                    let (found, ours) = (snapshot.state.engine, engine.to_string());
                    return Err(Error::OtherEngine { path: run.to_path_buf(), found, ours });
                }
                return Ok(Some(snapshot));
            }
            Err(error) => {
                let from = snapshot_folder(run, step);
                let aside = set_aside(&from).map_err(Error::io(&from))?;
                observer.note(&format!(
                    "{error}. Set aside as {}; an older snapshot is used",
                    aside.display()
                ));
            }
        }
    }
    if steps.is_empty() { Ok(None) } else { Err(Error::NoSnapshot(run.to_path_buf())) }
}

/// Renames a damaged snapshot to the first free `damaged-step-N[-k]` beside it.
fn set_aside(folder: &Path) -> std::io::Result<PathBuf> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut aside = folder.with_file_name(format!("damaged-{name}"));
    let mut count = 1;
    while aside.exists() {
        count += 1;
        aside = folder.with_file_name(format!("damaged-{name}-{count}"));
    }
    induction_files::rename(folder, &aside)?;
    Ok(aside)
}

/// Removes a snapshot that only an interruption asked for, now that a newer one is safe: what is
/// measured later must not depend on when a run was stopped.
fn remove_unscheduled(spec: &RunSpec, run: &Path, step: u64) -> Result<(), Error> {
    if spec.keeps(step) {
        return Ok(());
    }
    let folder = snapshot_folder(run, step);
    induction_files::remove_folder(&folder).map_err(Error::io(&folder))
}

/// Writes `diverged.json` beside the log, and makes the error.
fn diverged(run: &Path, spec: &RunSpec, step: u64, last_good: u64, what: String) -> Error {
    let report = run.join("diverged.json");
    let content = serde_json::json!({
        "step": step, "not_finite": what, "lr": spec.lr(step), "last_good_snapshot": last_good,
        "first_example": (step - 1) * spec.train.batch as u64, "examples": spec.train.batch,
    });
    match induction_files::write_atomic(&report, format!("{content:#}\n").as_bytes()) {
        Ok(()) => Error::Diverged { step, what, last_good, report },
        Err(source) => Error::Io { path: report, source },
    }
}
