//! What the stages of a run have in common: what they work with, and the way through its snapshots.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use induction_engine::Engine;
use induction_files::Lease;
use induction_model::{ModelConfig, Params};
use induction_records::{RunSpec, Stage};
use induction_train::{load_model, manifest_hash, snapshot_folder};

use crate::{
    Error,
    caller::{Caller, Seen, check},
    device::Device,
    source::Source,
};

/// Tables are written at least this often; a kill costs what was found since.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// A run, and what a stage of it works with.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// The run's resolved spec (see [`Source::open`]).
    pub spec: &'a RunSpec,
    /// Its data.
    pub source: &'a Source,
    /// Its folder.
    pub run: &'a Path,
    /// What its models run on.
    pub device: Device,
    /// Who it works for.
    pub caller: &'a dyn Caller,
}

impl RunContext<'_> {
    /// The folder of the run's tables.
    pub(crate) fn measurements(&self) -> PathBuf {
        self.run.join("measurements")
    }

    /// A folder in that of the tables, made if it is not there.
    pub(crate) fn measurements_in(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.measurements().join(name);
        induction_files::make_folders(&folder).map_err(Error::io(&folder))?;
        Ok(folder)
    }

    /// The right to write in the run's folder, which is rid of what a process that was killed left
    /// half written in its tables.
    pub fn lease(&self) -> Result<Lease, Error> {
        let lease = Lease::take(self.run, &mut |note| self.caller.note(note))?;
        let tables = self.measurements();
        let Ok(entries) = std::fs::read_dir(&tables) else { return Ok(lease) };
        let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        let folders: Vec<PathBuf> = folders.collect();
        for folder in folders.iter().chain([&tables]) {
            induction_files::remove_leftovers(folder).map_err(Error::io(folder))?;
        }
        Ok(lease)
    }

    /// An engine for the run's models, which holds the untrained one.
    pub(crate) fn engine(&self) -> Result<Box<dyn Engine>, Error> {
        self.device.open(&self.spec.model, &self.spec.model.init_params(self.spec.seed)?)
    }
}

/// A snapshot in work.
pub(crate) struct Snapshot<'a> {
    pub(crate) step: u64,
    /// Training tokens that the model has seen.
    pub(crate) tokens: u64,
    pub(crate) params: &'a Params,
    /// Holds `params`.
    pub(crate) engine: &'a dyn Engine,
    /// To be checked before a file is written.
    pub(crate) lease: &'a Lease,
}

/// What a stage does with snapshots; [`drive`] does the rest.
pub(crate) trait OverSnapshots {
    /// Adds what there is to find on a snapshot to the tables.
    fn snapshot(&mut self, at: &Snapshot<'_>) -> Result<(), Error>;

    /// What is only asked of the last snapshot, after all others.
    fn last(&mut self, _: &Snapshot<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Writes the tables, and after them the list of what they hold: a kill between them costs what
    /// was found since the last write.
    fn write(&mut self) -> Result<(), Error>;

    /// What there is to show of the last snapshot.
    fn seen(&self) -> Seen {
        Seen::default()
    }
}

/// Takes the snapshots of `steps` in turn, then that of `last`, if one is given. Whatever ends it,
/// what was found is written.
///
/// # Errors
/// Those of the snapshots and of the work on them; a lease that was lost; [`Error::Interrupted`]
/// after a signal.
pub(crate) fn drive(
    context: &RunContext<'_>,
    lease: &Lease,
    engine: &mut dyn Engine,
    stage: Stage,
    steps: &[u64],
    last: Option<u64>,
    work: &mut dyn OverSnapshots,
) -> Result<(), Error> {
    let RunContext { spec, run, caller, .. } = *context;
    let total = steps.len() as u64 + u64::from(last.is_some());
    let mut progress = caller.begin(&spec.name, run, stage, total);
    let mut written = Instant::now();
    let mut all = || -> Result<(), Error> {
        let each = steps.iter().map(|&step| (step, false)).chain(last.map(|step| (step, true)));
        for (done, (step, is_last)) in each.enumerate() {
            check(caller)?;
            let params = load_params(spec, run, step)?;
            engine.set_params(&params)?;
            let model = spec.model_at(step);
            if engine.config().clamp != model.clamp {
                engine.set_clamps(&model.clamp)?;
            }
            let tokens = step * spec.tokens_per_step();
            let snapshot = Snapshot { step, tokens, params: &params, engine, lease };
            if is_last {
                work.last(&snapshot)?;
            } else {
                work.snapshot(&snapshot)?;
            }
            if written.elapsed() > WRITE_EVERY {
                lease.check()?;
                work.write()?;
                written = Instant::now();
            }
            progress.at(done as u64 + 1, &|| work.seen());
        }
        Ok(())
    };
    let result = all();
    lease.check()?;
    work.write()?;
    result?;
    progress.finish();
    Ok(())
}

/// What tells the content of each of a run's snapshots from any other, by step.
pub(crate) fn manifest_hashes(run: &Path, steps: &[u64]) -> Result<BTreeMap<u64, String>, Error> {
    steps.iter().map(|&step| Ok((step, manifest_hash(&snapshot_folder(run, step))?))).collect()
}

/// Refuses to work on snapshots whose weights are gone, before the tables that they left are
/// replaced by less: a finished run is thinned, and a program with another measure would make all
/// of its tables again. `so` and `instead`: what cannot be done, and what can.
pub(crate) fn check_weights(
    run: &Path,
    steps: &[u64],
    so: &str,
    instead: &str,
) -> Result<(), Error> {
    let gone = steps
        .iter()
        .map(|&step| snapshot_folder(run, step))
        .find(|s| s.is_dir() && !s.join("model.safetensors").exists());
    gone.map_or(Ok(()), |snapshot| {
        Err(Error::Input(format!(
            "{}: its weights were taken out when the run was done (evaluation.weights_every), so {so}; the tables stay as they are. {instead} with the program that made them, or train the run again elsewhere",
            snapshot.display()
        )))
    })
}

/// Whether a snapshot still has its weights: a finished run is thinned.
pub(crate) fn has_weights(run: &Path, step: u64) -> bool {
    snapshot_folder(run, step).join("model.safetensors").exists()
}

/// The weights of one of a run's snapshots, which must be of the spec's model and hold numbers.
fn load_params(spec: &RunSpec, run: &Path, step: u64) -> Result<Params, Error> {
    let snapshot = snapshot_folder(run, step);
    let (config, params) = load_finite_model(&snapshot)?;
    if config == spec.model_at(step) {
        return Ok(params);
    }
    Err(Error::Input(format!("{}: its config.json is not the spec's model", snapshot.display())))
}

/// The model in a snapshot's folder, which must hold numbers: every measure of a NaN is a NaN.
///
/// # Errors
/// A damaged snapshot, or a weight that is not finite.
pub fn load_finite_model(snapshot: &Path) -> Result<(ModelConfig, Params), Error> {
    let (config, params) = load_model(snapshot)?;
    match params.first_not_finite() {
        None => Ok((config, params)),
        Some(name) => Err(Error::Input(format!(
            "{}: {name} holds a value that is not finite: the run diverged, or the file was changed; measure an earlier snapshot, or train again",
            snapshot.join("model.safetensors").display()
        ))),
    }
}
