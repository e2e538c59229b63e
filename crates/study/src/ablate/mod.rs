//! Every head removed at the snapshots that the spec says, and the last snapshot's other ablations
//! (docs/FORMATS.md: ablations).

mod change;
mod effects;
mod held;
mod knockouts;
mod sweep;
mod timing;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use induction_ablation::{HeadId, single_heads};
use induction_model::{ModelConfig, write_safetensors};
use induction_records::{
    AblatedFrom, AblationRow, KnockoutRow, RunSpec, Stage, read_json, read_rows, step_file,
    write_json, write_rows,
};
use ndarray::Array2;

use self::{
    change::change,
    held::Held,
    knockouts::{heads_at, knockout_rows, knockouts},
    sweep::{KINDS, loss_changes, sweep_rows},
};
use crate::{
    Error,
    measure::tables::keep,
    stages::{OverSnapshots, RunContext, Snapshot, check_weights, drive, manifest_hashes},
};

pub use self::{
    effects::{HeadEffect, last_effects},
    timing::{AblateTiming, time_ablate},
};

/// Raised whenever an ablation's definition changes, so that stored tables are made again. (A new
/// ablation of the last snapshot is seen by itself.)
const VERSION: u32 = 2;

/// Removes every head of each snapshot that the spec says and that this was not yet done for, then
/// puts the last snapshot through sets of heads, other fills, ideal patterns and cut paths. Tables
/// grow with each snapshot, each write whole.
///
/// # Errors
/// A run that is not measured, or that another process works on; the engine's, the metrics' and the
/// system's; [`Error::Interrupted`] after a signal. Whatever the error, what is done is kept.
pub fn ablate(context: &RunContext<'_>) -> Result<(), Error> {
    let RunContext { spec, source, run, .. } = context;
    let by_index = context.measurements_in("ablations")?;
    let lease = context.lease()?;
    let mut engine = context.engine()?;
    let Some(&last) = spec.ablation_steps().last() else { return Ok(()) };
    let left = left(spec, run, engine.name())?;
    if left.missing.is_empty() && left.knockouts_done {
        return Ok(());
    }
    check_weights(run, &left.missing, "no head of it can be removed again", "Ablate")?;
    let (missing, last) = (left.missing.clone(), (!left.knockouts_done).then_some(last));
    let held = Held::new(&spec.evaluation, source)?;
    let mut ablating = Ablating { spec, held, left, folder: context.measurements(), by_index };
    drive(context, &lease, engine.as_mut(), Stage::Ablating, &missing, last, &mut ablating)
}

/// The stage in work.
struct Ablating<'a> {
    spec: &'a RunSpec,
    held: Held,
    left: Left,
    folder: PathBuf,
    /// Where the changes of each snapshot's losses go.
    by_index: PathBuf,
}

impl OverSnapshots for Ablating<'_> {
    fn snapshot(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let model = &self.spec.model;
        let losses = self.held.under(at.engine, at.params, &single_heads(model, &KINDS))?;
        let new =
            sweep_rows(model, &self.held, &losses, self.left.change.as_ref(), at.step, at.tokens)?;
        self.left.rows.extend(new);
        at.lease.check()?;
        let changes = loss_changes(model, &losses.long)?.into_dyn();
        let bytes = write_safetensors([("loss_changes".to_string(), &changes)]);
        let path = self.by_index.join(step_file(at.step));
        induction_files::write_atomic(&path, &bytes).map_err(Error::io(path))?;
        self.left.made.snapshots.insert(at.step, self.left.hashes[&at.step].clone());
        Ok(())
    }

    fn last(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let heads = heads_at(&self.folder, at.step)?;
        let named = knockouts(&self.spec.model, &heads);
        let mut rows = knockout_rows(at.engine, at.params, &self.held, named, at.step, at.tokens)?;
        at.lease.check()?;
        write_rows(&self.folder, &mut rows)?;
        self.left.made.knockouts = self.left.hashes.get(&at.step).cloned();
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        write_rows(&self.folder, &mut self.left.rows)?;
        Ok(write_json(&self.folder.join(AblatedFrom::FILE), &self.left.made)?)
    }
}

/// What of a run is removed, and what is not.
struct Left {
    made: AblatedFrom,
    rows: Vec<AblationRow>,
    /// What training did to the losses over `made.change`, `[example, index]` in nats.
    change: Option<Array2<f32>>,
    /// Of the manifest of every snapshot that heads are removed from.
    hashes: BTreeMap<u64, String>,
    missing: Vec<u64>,
    knockouts_done: bool,
}

fn left(spec: &RunSpec, run: &Path, engine: &str) -> Result<Left, Error> {
    let folder = run.join("measurements");
    let steps = spec.ablation_steps();
    let hashes = manifest_hashes(run, &steps)?;
    let (change, difference) = change(spec, &folder)?.unzip();
    let fresh = AblatedFrom {
        version: VERSION,
        spec_hash: spec.training_hash(),
        engine: engine.to_string(),
        evaluation: spec.evaluation.clone(),
        change,
        snapshots: BTreeMap::new(),
        knockouts: None,
    };
    let (mut made, mut rows) = stored(&folder, &fresh).unwrap_or((fresh, Vec::new()));
    let by_index = folder.join("ablations");
    made.snapshots.retain(|step, hash| {
        hashes.get(step) == Some(hash) && by_index.join(step_file(*step)).exists()
    });
    keep(&mut rows, &made.snapshots);
    let missing = steps.iter().copied().filter(|step| !made.snapshots.contains_key(step)).collect();
    let knockouts_done = steps.last().is_none_or(|last| {
        made.knockouts.as_ref() == hashes.get(last) && knockouts_are_current(spec, &folder, *last)
    });
    Ok(Left { made, rows, change: difference, hashes, missing, knockouts_done })
}

/// Whether the table of knockouts has every ablation that would be made today, and none that is no
/// more.
fn knockouts_are_current(spec: &RunSpec, folder: &Path, last: u64) -> bool {
    let Ok(rows) = read_rows::<KnockoutRow>(folder) else { return false };
    let Ok(heads) = heads_at(folder, last) else { return false };
    let asked = knockouts(&spec.model, &heads);
    let found = rows.iter().map(|row| (row.name.as_str(), row.ablation.as_ref()));
    asked.iter().map(|(name, ablation)| (*name, ablation.as_ref())).eq(found)
}

/// Whether [`ablate`] with that engine would find nothing to do.
pub fn is_done(spec: &RunSpec, run: &Path, engine: &str) -> bool {
    spec.ablation_steps().is_empty()
        || left(spec, run, engine).is_ok_and(|left| left.missing.is_empty() && left.knockouts_done)
}

/// The tables that are there, if they were made as `fresh` says.
fn stored(folder: &Path, fresh: &AblatedFrom) -> Option<(AblatedFrom, Vec<AblationRow>)> {
    let made: AblatedFrom = read_json(&folder.join(AblatedFrom::FILE), Stage::Ablating).ok()?;
    let same =
        AblatedFrom { snapshots: BTreeMap::new(), knockouts: None, ..made.clone() } == *fresh;
    same.then_some((made, read_rows(folder).ok()?))
}

fn heads_of(config: &ModelConfig) -> impl Iterator<Item = HeadId> + use<> {
    let (layers, heads) = (config.n_layers, config.n_heads);
    (0..layers).flat_map(move |layer| (0..heads).map(move |head| HeadId { layer, head }))
}
