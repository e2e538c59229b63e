//! Every head removed at the snapshots that the spec says, and the last snapshot's other ablations (docs/FORMATS.md: ablations).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use induction_ablation::{
    Ablation, Downstream, Fill, HeadId, IdealPattern, Inputs, Losses, Reads, control_sets, losses_under, single_heads,
};
use induction_engine::Engine;
use induction_metrics::{
    IclIndices, Role, RoleThresholds, SameToken, StepConfig, find_step, icl_by_example, loss_by_index, mean_stderr,
    paired_change,
};
use induction_model::{ModelConfig, Params, read_safetensors, write_safetensors};
use induction_train::{EvaluationSpec, RunSpec};
use ndarray::{Array2, Array4, Axis, Ix2, Slice};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    bench::median,
    device::Device,
    measure::{
        HeadRow, indices_of, single,
        tables::{IclRow, Row, keep, read_rows, write_json, write_rows},
    },
    source::{EVALUATION_SEED, Source},
    stages::{
        OverSnapshots, RunContext, Snapshot, check_weights, drive, load_finite_model, manifest_hashes, step_file,
    },
    status::Stage,
};

/// Raised whenever an ablation's definition changes, so that stored tables are made again.
const VERSION: u32 = 2;

const META: &str = "ablations.json";
const KNOCKOUTS: &str = "knockouts.jsonl";

/// The kinds of the sweep, in the order of the tables.
const KINDS: [Downstream; 2] = [Downstream::Full, Downstream::PatternPreserving];

/// Control sets that are drawn beside the induction heads, if there are as many different ones.
const CONTROL_SETS: usize = 50;

/// Heads of control sets match prefixes less than this: one that matches them a little, though too little to be called an
/// induction head, is a small dose of the treatment.
const CONTROL_BELOW: f64 = 0.1;

/// The patterns made from tokens that previous-token heads are given, and those that induction heads are.
const PREVIOUS_TOKEN_PATTERNS: &[IdealPattern] = &[IdealPattern::PreviousToken];
const INDUCTION_PATTERNS: &[IdealPattern] = &[IdealPattern::InductionOneToken, IdealPattern::InductionTwoTokens];

/// `ablations.json`: what the tables were made with, and from which snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Meta {
    version: u32,
    spec_hash: String,
    #[serde(deserialize_with = "induction_engine::engine_name")]
    engine: String,
    evaluation: EvaluationSpec,
    /// What the removals are held against; nothing if the run makes no step.
    change: Option<Change>,
    /// Hash of each snapshot's manifest, by step.
    snapshots: BTreeMap<u64, String>,
    /// That of the snapshot that `knockouts.jsonl` is about.
    knockouts: Option<String>,
}

/// How training changed the losses while the same-token score made its step: the before-and-after vector (paper.md, 2),
/// over every token of the ablations' examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Change {
    /// The last kept snapshot at or before the step's start.
    before_step: u64,
    /// The first at or after its end.
    after_step: u64,
    /// Of each example, the squared change of its losses, summed over indices; in nats squared.
    squares: Vec<f32>,
}

/// A line of `ablations.jsonl`: one head of one snapshot, removed by zero.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AblationRow {
    step: u64,
    tokens: u64,
    layer: usize,
    head: usize,
    downstream: Downstream,
    /// ICL score without the head minus the score with it: above 0 the head contributes (paper.md, 2).
    icl_change: f64,
    icl_change_stderr: Option<f64>,
    /// Mean loss without the head minus the loss with it.
    loss_change: f64,
    icl_change_by_example: Vec<f32>,
    /// The same of the score on the same tokens.
    same_token_change: f64,
    same_token_change_stderr: Option<f64>,
    same_token_change_by_example: Vec<f32>,
    /// Of each example, the product of what the removal does to its losses with what training did to them over the
    /// [`Change`], summed over indices, in nats squared: below 0 the removal undoes it. Empty without a change.
    undone_by_example: Vec<f32>,
}

impl Row for AblationRow {
    const FILE: &'static str = "ablations.jsonl";

    fn key(&self) -> [u64; 6] {
        [self.step, self.layer as u64, self.head as u64, self.downstream as u64, 0, 0]
    }
}

/// A line of `knockouts.jsonl`: the last snapshot under one ablation.
#[derive(Serialize)]
struct Knockout {
    step: u64,
    tokens: u64,
    name: &'static str,
    /// Nothing for the whole model.
    ablation: Option<Ablation>,
    loss: f64,
    icl_score: f64,
    same_token_score: f64,
    loss_by_example: Vec<f32>,
    icl_by_example: Vec<f32>,
    same_token_by_example: Vec<f32>,
}

/// How many examples heads are removed on: the first so many of those that are measured.
fn examples_of(spec: &EvaluationSpec) -> usize {
    spec.ablation_examples.min(spec.examples)
}

/// What the removals are taken on.
struct Held {
    /// `[example, n_ctx + 1]`.
    examples: Array2<u32>,
    /// The windows in which the last tokens of the examples are predicted again.
    fresh: Array2<u32>,
    indices: IclIndices,
    same: SameToken,
}

/// Losses of a model and under its ablations.
struct Under {
    /// On the examples.
    long: Losses,
    /// On the fresh windows.
    fresh: Losses,
}

impl Under {
    /// Of the whole model, on the examples and on the fresh windows.
    fn clean(&self) -> [&Array2<f32>; 2] {
        [&self.long.clean, &self.fresh.clean]
    }

    /// The same under each ablation.
    fn ablated(&self) -> impl Iterator<Item = [&Array2<f32>; 2]> {
        self.long.ablated.iter().zip(&self.fresh.ablated).map(|(long, fresh)| [long, fresh])
    }
}

/// The in-context learning scores of each example, in nats.
struct Scores {
    icl: Vec<f64>,
    same_token: Vec<f64>,
}

impl Held {
    fn new(spec: &EvaluationSpec, source: &Source) -> Result<Self, Error> {
        let examples = source.held_out(examples_of(spec))?;
        let (indices, same) = indices_of(spec, examples.ncols() - 1)?;
        Self::on(examples, indices, same)
    }

    fn on(examples: Array2<u32>, indices: IclIndices, same: SameToken) -> Result<Self, Error> {
        let fresh = same
            .fresh(examples.view())
            .map_err(|source| Error::Metric { place: "ablation examples".into(), source })?;
        Ok(Self { examples, fresh, indices, same })
    }

    fn under(&self, engine: &dyn Engine, params: &Params, ablations: &[Ablation]) -> Result<Under, Error> {
        let on =
            |examples: &Array2<u32>| losses_under(&Inputs { engine, params, examples: examples.view() }, ablations);
        Ok(Under { long: on(&self.examples)?, fresh: on(&self.fresh)? })
    }

    fn scores(&self, [long, fresh]: [&Array2<f32>; 2]) -> Result<Scores, induction_metrics::Error> {
        let icl = icl_by_example(long.view(), &self.indices)?;
        Ok(Scores { icl, same_token: self.same.by_example(long.view(), fresh.view())? })
    }
}

/// Removes every head of each snapshot that the spec says and that this was not yet done for, then puts the last snapshot through
/// sets of heads, other fills, ideal patterns and cut paths. Tables grow with each snapshot, each write whole.
///
/// # Errors
/// A run that is not measured, or that another process works on; the engine's, the metrics' and the system's;
/// [`Error::Interrupted`] after a signal. Whatever the error, what is done is kept.
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
        let new = sweep_rows(model, &self.held, &losses, self.left.change.as_ref(), at.step, at.tokens)?;
        self.left.rows.extend(new);
        at.lease.check()?;
        let changes = loss_changes(model, &losses.long)?.into_dyn();
        let bytes = write_safetensors([("loss_changes".to_string(), &changes)]);
        let path = self.by_index.join(step_file(at.step));
        induction_files::write_atomic(&path, &bytes).map_err(Error::io(path))?;
        self.left.meta.snapshots.insert(at.step, self.left.hashes[&at.step].clone());
        Ok(())
    }

    fn last(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let heads = heads_at(&self.folder, at.step)?;
        let named = knockouts(&self.spec.model, &heads);
        let lines = knockout_lines(at.engine, at.params, &self.held, named, at.step, at.tokens)?;
        at.lease.check()?;
        let path = self.folder.join(KNOCKOUTS);
        induction_files::write_atomic(&path, &lines).map_err(Error::io(path))?;
        self.left.meta.knockouts = self.left.hashes.get(&at.step).cloned();
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        write_rows(&self.folder, &mut self.left.rows)?;
        write_json(&self.folder.join(META), &self.left.meta)
    }
}

/// What of a run is removed, and what is not.
struct Left {
    meta: Meta,
    rows: Vec<AblationRow>,
    /// What training did to the losses over `meta.change`, `[example, index]` in nats.
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
    let fresh = Meta {
        version: VERSION,
        spec_hash: spec.training_hash(),
        engine: engine.to_string(),
        evaluation: spec.evaluation.clone(),
        change,
        snapshots: BTreeMap::new(),
        knockouts: None,
    };
    let (mut meta, mut rows) = stored(&folder, &fresh).unwrap_or((fresh, Vec::new()));
    let by_index = folder.join("ablations");
    meta.snapshots.retain(|step, hash| hashes.get(step) == Some(hash) && by_index.join(step_file(*step)).exists());
    keep(&mut rows, &meta.snapshots);
    let missing = steps.iter().copied().filter(|step| !meta.snapshots.contains_key(step)).collect();
    let of_last = steps.last().and_then(|last| hashes.get(last));
    let knockouts_done = meta.knockouts.as_ref() == of_last && (of_last.is_none() || folder.join(KNOCKOUTS).exists());
    Ok(Left { meta, rows, change: difference, hashes, missing, knockouts_done })
}

/// The change of a measured run, and the differences that it is made of, `[example, index]`; nothing if the same-token
/// score makes no step after the warm-up.
///
/// # Errors
/// A run that is not measured, or losses that are not those of its examples.
fn change(spec: &RunSpec, folder: &Path) -> Result<Option<(Change, Array2<f32>)>, Error> {
    let rows: Vec<IclRow> = read_rows(folder).unwrap_or_default();
    let kept = spec.snapshot_steps();
    if !rows.iter().map(|row| row.step).eq(kept.iter().copied()) {
        let table = folder.join(IclRow::FILE);
        return Err(Error::Input(format!(
            "{}: not the scores of every kept snapshot; measure the run first (`induction measure RUN`)",
            table.display()
        )));
    }
    let scores = rows.iter().map(|row| (row.step, row.same_token_score)).collect::<Vec<_>>();
    let Some([before_step, after_step]) = change_steps(&scores, spec.train.warmup_steps, spec.tokens_per_step()) else {
        return Ok(None);
    };
    let shape = [examples_of(&spec.evaluation), spec.model.n_ctx];
    let [before, after] = [before_step, after_step].map(|step| losses_at(folder, step, shape));
    let difference = after? - before?;
    let square = |row: ndarray::ArrayView1<f32>| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() as f32;
    let squares = difference.outer_iter().map(square).collect();
    Ok(Some((Change { before_step, after_step, squares }, difference)))
}

/// The last of `scores`' snapshots, `(step, same-token score)`, at or before the step that the scores make from the end of
/// the warm-up on, and the first at or after it; nothing if they make none, or are too few to tell.
fn change_steps(scores: &[(u64, f64)], warmup_steps: u64, tokens_per_step: u64) -> Option<[u64; 2]> {
    let learning = scores.iter().filter(|(step, _)| *step >= warmup_steps);
    let (tokens, values): (Vec<u64>, Vec<f64>) = learning.map(|&(step, score)| (step * tokens_per_step, score)).unzip();
    let fit = find_step(&tokens, &values, None, &StepConfig::default()).ok()?.ok()?;
    let at = |step: &u64| (step * tokens_per_step) as f64;
    let steps: Vec<u64> = scores.iter().map(|&(step, _)| step).collect();
    let before = steps.iter().rev().find(|step| at(step) <= fit.start_tokens())?;
    let after = steps.iter().find(|step| at(step) >= fit.end_tokens())?;
    Some([*before, *after])
}

/// The losses of a snapshot's first examples as they were measured, of that shape: `[example, index]`.
fn losses_at(folder: &Path, step: u64, shape: [usize; 2]) -> Result<Array2<f32>, Error> {
    let path = folder.join("losses").join(step_file(step));
    let bytes = fs::read(&path).map_err(Error::io(&path))?;
    let stored = read_safetensors(&path, &bytes)?.remove("losses").and_then(|l| l.into_dimensionality::<Ix2>().ok());
    let [examples, n_ctx] = shape;
    let fits = |losses: &Array2<f32>| losses.nrows() >= examples && losses.ncols() == n_ctx;
    let Some(stored) = stored.filter(fits) else {
        return Err(Error::Input(format!(
            "{}: not the losses of {examples} examples of {n_ctx} tokens; delete the file and measure the run again (`induction measure RUN`)",
            path.display()
        )));
    };
    Ok(stored.slice_axis(Axis(0), Slice::from(..examples)).to_owned())
}

/// Whether [`ablate`] with that engine would find nothing to do.
pub(crate) fn is_done(spec: &RunSpec, run: &Path, engine: &str) -> bool {
    spec.ablation_steps().is_empty()
        || left(spec, run, engine).is_ok_and(|left| left.missing.is_empty() && left.knockouts_done)
}

/// The tables that are there, if they were made as `fresh` says.
fn stored(folder: &Path, fresh: &Meta) -> Option<(Meta, Vec<AblationRow>)> {
    let meta: Meta = serde_json::from_slice(&fs::read(folder.join(META)).ok()?).ok()?;
    let same = Meta { snapshots: BTreeMap::new(), knockouts: None, ..meta.clone() } == *fresh;
    same.then_some((meta, read_rows(folder)?))
}

fn heads_of(config: &ModelConfig) -> impl Iterator<Item = HeadId> + use<> {
    let (layers, heads) = (config.n_layers, config.n_heads);
    (0..layers).flat_map(move |layer| (0..heads).map(move |head| HeadId { layer, head }))
}

/// The rows of one snapshot, from losses under [`single_heads`] in both kinds.
fn sweep_rows(
    config: &ModelConfig,
    held: &Held,
    losses: &Under,
    change: Option<&Array2<f32>>,
    step: u64,
    tokens: u64,
) -> Result<Vec<AblationRow>, Error> {
    let place = |source| Error::Metric { place: format!("step {step}"), source };
    let clean = held.scores(losses.clean()).map_err(place)?;
    let kinds = heads_of(config).flat_map(|head| KINDS.map(|kind| (head, kind)));
    kinds
        .zip(losses.ablated())
        .map(|((HeadId { layer, head }, downstream), ablated)| {
            let without = held.scores(ablated).map_err(place)?;
            let (icl_change, icl_change_stderr) = paired_change(&clean.icl, &without.icl).map_err(place)?;
            let (same_token_change, same_token_change_stderr) =
                paired_change(&clean.same_token, &without.same_token).map_err(place)?;
            let [long, _] = ablated;
            Ok(AblationRow {
                step,
                tokens,
                layer,
                head,
                downstream,
                icl_change,
                icl_change_stderr,
                loss_change: mean(long) - mean(&losses.long.clean),
                icl_change_by_example: changes(&clean.icl, &without.icl),
                same_token_change,
                same_token_change_stderr,
                same_token_change_by_example: changes(&clean.same_token, &without.same_token),
                undone_by_example: change.map_or_else(Vec::new, |change| along(change, &losses.long.clean, long)),
            })
        })
        .collect()
}

fn changes(with: &[f64], without: &[f64]) -> Vec<f32> {
    with.iter().zip(without).map(|(with, without)| (without - with) as f32).collect()
}

/// Of each example, the product of `change` with the losses' change from `clean` to `ablated`, summed over indices; all
/// are `[example, index]`.
fn along(change: &Array2<f32>, clean: &Array2<f32>, ablated: &Array2<f32>) -> Vec<f32> {
    let rows = change.outer_iter().zip(clean.outer_iter()).zip(ablated.outer_iter());
    rows.map(|((change, clean), ablated)| {
        let each = change.iter().zip(clean).zip(ablated);
        each.map(|((&x, &a), &b)| f64::from(x) * (f64::from(b) - f64::from(a))).sum::<f64>() as f32
    })
    .collect()
}

fn mean(losses: &Array2<f32>) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64
}

/// What each removal does to the loss by index: `[layer, head, kind, index]`.
fn loss_changes(config: &ModelConfig, losses: &Losses) -> Result<Array4<f32>, Error> {
    let by_index = |losses: &Array2<f32>| {
        loss_by_index(losses.view()).map_err(|source| Error::Metric { place: "loss by index".into(), source })
    };
    let clean = by_index(&losses.clean)?;
    let mut out = Array4::zeros((config.n_layers, config.n_heads, KINDS.len(), clean.len()));
    for (mut lane, ablated) in out.lanes_mut(Axis(3)).into_iter().zip(&losses.ablated) {
        let change = by_index(ablated)? - &clean;
        lane.zip_mut_with(&change, |to, &change| *to = change as f32);
    }
    Ok(out)
}

/// The heads of the last snapshot as they were measured.
fn heads_at(folder: &Path, step: u64) -> Result<Vec<HeadRow>, Error> {
    let rows: Vec<HeadRow> = read_rows(folder).unwrap_or_default();
    let heads: Vec<HeadRow> = rows.into_iter().filter(|row| row.step == step).collect();
    if heads.is_empty() {
        let table = folder.join(HeadRow::FILE);
        return Err(Error::Input(format!(
            "{}: no heads of step {step}; measure the run first (`induction measure RUN`)",
            table.display()
        )));
    }
    Ok(heads)
}

/// Everything that the last snapshot is put through, by name. Induction heads are those that match prefixes, whether or
/// not they pass the copying score's threshold (paper.md, 11; 0: D3).
fn knockouts(config: &ModelConfig, heads: &[HeadRow]) -> Vec<(&'static str, Option<Ablation>)> {
    let id = |row: &HeadRow| HeadId { layer: row.layer, head: row.head };
    let ordered = |roles: &[Role], score: &str| -> Vec<HeadId> {
        let mut of: Vec<&HeadRow> = heads.iter().filter(|row| roles.contains(&row.role)).collect();
        of.sort_by(|a, b| b.score(score).total_cmp(&a.score(score)));
        of.into_iter().map(id).collect()
    };
    let induction = ordered(&[Role::Induction, Role::AntiCopyingPrefix, Role::PrefixMatching], "prefix_matching");
    let previous = ordered(&[Role::PreviousToken], "previous_token");
    let attends_before = |row: &&HeadRow| row.score("previous_token") > RoleThresholds::default().previous_token;
    let others: Vec<HeadId> = heads
        .iter()
        .filter(|row| row.score("prefix_matching") < CONTROL_BELOW && !attends_before(row))
        .map(id)
        .collect();

    let mut all = vec![("clean", None)];
    let mut add = |name, ablation| all.push((name, Some(ablation)));
    let mut remove = |name, heads: &[HeadId]| {
        if !heads.is_empty() {
            for downstream in KINDS {
                let mut heads = heads.to_vec();
                heads.sort();
                add(name, Ablation::Heads { heads, fill: Fill::Zero, downstream });
            }
        }
    };
    remove("induction-heads", &induction);
    remove("previous-token-heads", &previous);
    for set in control_sets(&induction, &others, CONTROL_SETS, EVALUATION_SEED) {
        remove(if set.matched { "control-matched" } else { "control" }, &set.heads);
    }
    for head in heads_of(config) {
        add("remove", Ablation::zero(head, Downstream::Full));
        for (name, fill) in [("mean", Fill::Mean), ("resample", Fill::Resample)] {
            for downstream in KINDS {
                add(name, Ablation::Heads { heads: vec![head], fill, downstream });
            }
        }
    }
    for (heads, patterns) in [(&previous, PREVIOUS_TOKEN_PATTERNS), (&induction, INDUCTION_PATTERNS)] {
        for &head in heads {
            patterns.iter().for_each(|&pattern| add("substitute", Ablation::Substitute { head, pattern }));
        }
    }
    if let Some(&to) = induction.first() {
        for from in heads_of(config).filter(|from| from.layer < to.layer) {
            for into in [Reads::Queries, Reads::Keys, Reads::Values] {
                add("path", Ablation::Path { from, to, into });
            }
        }
        let (before, rest): (Vec<&HeadRow>, Vec<&HeadRow>) =
            heads.iter().filter(|row| row.layer < to.layer).partition(attends_before);
        for (name, from) in [("paths-previous-token", before), ("paths-others", rest)] {
            let from: Vec<HeadId> = from.into_iter().map(id).collect();
            if !from.is_empty() {
                for into in [Reads::Queries, Reads::Keys, Reads::Values] {
                    add(name, Ablation::Paths { from: from.clone(), to, into });
                }
            }
        }
    }
    all
}

fn knockout_lines(
    engine: &dyn Engine,
    params: &Params,
    held: &Held,
    named: Vec<(&'static str, Option<Ablation>)>,
    step: u64,
    tokens: u64,
) -> Result<Vec<u8>, Error> {
    let place = |source| Error::Metric { place: format!("step {step}"), source };
    let ablations: Vec<Ablation> = named.iter().filter_map(|(_, ablation)| ablation.clone()).collect();
    let losses = held.under(engine, params, &ablations)?;
    let mut ablated = losses.ablated();
    let mut text = Vec::new();
    for (name, ablation) in named {
        let of = if ablation.is_some() { ablated.next().expect("one an ablation") } else { losses.clean() };
        let Scores { icl, same_token } = held.scores(of).map_err(place)?;
        let [long, _] = of;
        let row = Knockout {
            step,
            tokens,
            name,
            ablation,
            loss: mean(long),
            icl_score: mean_stderr(&icl).0,
            same_token_score: mean_stderr(&same_token).0,
            loss_by_example: long.mean_axis(Axis(1)).expect("n_ctx is at least 1").to_vec(),
            icl_by_example: single(&icl),
            same_token_by_example: single(&same_token),
        };
        serde_json::to_writer(&mut text, &row).expect("plain structs serialize");
        text.push(b'\n');
    }
    Ok(text)
}

/// What the last snapshot's same-token ICL score loses without a head.
#[derive(Clone, Debug, Serialize)]
pub struct HeadEffect {
    /// The head.
    pub head: HeadId,
    /// Its role, as `heads.jsonl` has it.
    pub role: String,
    /// Its prefix-matching score.
    pub prefix_matching: f64,
    /// Change of the score in nats, everything above the head free to change.
    pub full: f64,
    /// The same with every pattern kept.
    pub pattern_preserving: f64,
}

/// The effects of the heads of a run's last snapshot, from its tables.
///
/// # Errors
/// A run that is not ablated.
pub fn last_effects(run: &Path) -> Result<Vec<HeadEffect>, Error> {
    let folder = run.join("measurements");
    let rows: Vec<AblationRow> = read_rows(&folder).unwrap_or_default();
    let last = rows.iter().map(|row| row.step).max().ok_or_else(|| {
        let run = run.display();
        Error::Input(format!(
            "{run}: no head was removed here: evaluation.ablation_every in its spec.toml is 0, a spec with 1 or more removes them"
        ))
    })?;
    let change = |head: HeadId, kind: Downstream| {
        let of =
            |row: &&AblationRow| (row.step, row.layer, row.head, row.downstream) == (last, head.layer, head.head, kind);
        rows.iter().find(of).map_or(f64::NAN, |row| row.same_token_change)
    };
    let effect = |row: HeadRow| {
        let head = HeadId { layer: row.layer, head: row.head };
        let role = serde_json::to_value(row.role).ok().and_then(|role| role.as_str().map(str::to_string));
        HeadEffect {
            head,
            role: role.unwrap_or_default(),
            prefix_matching: row.score("prefix_matching"),
            full: change(head, Downstream::Full),
            pattern_preserving: change(head, Downstream::PatternPreserving),
        }
    };
    Ok(heads_at(&folder, last)?.into_iter().map(effect).collect())
}

/// How long the removal of every head of one snapshot takes: one JSON line of `induction bench ablate`.
#[derive(Clone, Debug, Serialize)]
pub struct AblateTiming {
    /// The engine.
    pub engine: String,
    /// Threads it worked on.
    pub threads: usize,
    /// Heads times kinds.
    pub ablations: usize,
    /// Tokens that each is run on, those of the fresh windows among them.
    pub tokens: usize,
    /// All of them, with the run without any, on examples and fresh windows, in seconds; the median.
    pub sweep_s: f64,
    /// Of it, one ablation's share.
    pub ablation_s: f64,
}

/// Times the removal of every head of a snapshot, in both kinds, on the current threads; leaves the examples' losses in a
/// file if asked: `clean` `[example, index]` and `ablated` `[layer, head, kind, example * index]`, full before pattern-preserving.
///
/// # Errors
/// A damaged snapshot, too few held-out examples, or a file that cannot be written.
pub fn time_ablate(
    source: &Source,
    snapshot: &Path,
    device: Device,
    examples: usize,
    repetitions: usize,
    losses_file: Option<&Path>,
) -> Result<AblateTiming, Error> {
    let (config, params) = load_finite_model(snapshot)?;
    let engine = device.open(&config, &params)?;
    let held_out = source.held_out(examples)?;
    let n_ctx = held_out.ncols() - 1;
    let place = |source| Error::Metric { place: "ablation examples".into(), source };
    let indices = IclIndices::for_context(n_ctx).map_err(place)?;
    let held = Held::on(held_out, indices, SameToken::new(&indices, n_ctx).map_err(place)?)?;
    let ablations = single_heads(&config, &KINDS);
    let mut seconds = Vec::new();
    let mut losses = held.under(engine.as_ref(), &params, &ablations)?.long;
    for _ in 0..repetitions {
        let begun = Instant::now();
        losses = held.under(engine.as_ref(), &params, &ablations)?.long;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    if let Some(path) = losses_file {
        let each = losses.clean.len();
        let flat: Vec<f32> = losses.ablated.iter().flatten().copied().collect();
        let shape = (config.n_layers, config.n_heads, KINDS.len(), each);
        let ablated = Array4::from_shape_vec(shape, flat).expect("one loss a token and ablation").into_dyn();
        let clean = losses.clean.into_dyn();
        let bytes = write_safetensors([("clean".to_string(), &clean), ("ablated".to_string(), &ablated)]);
        induction_files::write_atomic(path, &bytes).map_err(Error::io(path))?;
    }
    let sweep_s = median(seconds);
    Ok(AblateTiming {
        engine: engine.name().to_string(),
        threads: rayon::current_num_threads(),
        ablations: ablations.len(),
        tokens: held.examples.nrows() * (n_ctx + held.same.fresh_len()),
        sweep_s,
        ablation_s: sweep_s / ablations.len() as f64,
    })
}

#[cfg(test)]
mod tests {
    use induction_engine::{CpuEngine, Intervention};

    use super::*;

    fn head(layer: usize, head: usize) -> HeadId {
        HeadId { layer, head }
    }

    #[test]
    fn a_sweep_is_scored_on_windows_and_fresh_ones_and_along_the_change() {
        let config = ModelConfig {
            n_layers: 2,
            d_model: 16,
            n_heads: 2,
            d_head: 8,
            n_ctx: 24,
            d_vocab: 9,
            ..ModelConfig::default()
        };
        let mut params = config.init_params(2).unwrap();
        params.iter_mut().filter(|(name, _)| name.contains("W_")).for_each(|(_, w)| *w *= 5.0);
        let engine = CpuEngine::new(&config, &params).unwrap();
        let examples = Array2::from_shape_fn((5, 25), |(e, t)| ((e + 2) * t * t % 9) as u32);
        let indices = IclIndices { early: 3, late: 22, half_width: 1 };
        let same = SameToken::new(&indices, 24).unwrap();
        let held = Held::on(examples, indices, same).unwrap();
        let losses = held.under(&engine, &params, &single_heads(&config, &KINDS)).unwrap();
        // Of the third ablation: head 0.1 with everything above free to change.
        let of = 2;
        let removed = [Intervention::ZeroHead { layer: 0, head: 1 }];
        let losses_of = |examples: &Array2<u32>, set: &[Intervention]| engine.losses(examples.view(), set).unwrap();
        let score = |set: &[Intervention]| {
            let (long, fresh) = (losses_of(&held.examples, set), losses_of(&held.fresh, set));
            same.by_example(long.view(), fresh.view()).unwrap()
        };
        let expected: Vec<f64> = score(&removed).iter().zip(score(&[])).map(|(without, with)| without - with).collect();

        let change = &losses.long.ablated[of] - &losses.long.clean;
        let rows = sweep_rows(&config, &held, &losses, Some(&change), 7, 700).unwrap();
        assert_eq!(rows.len(), 8);
        let row = &rows[of];
        assert_eq!((row.layer, row.head, row.downstream), (0, 1, Downstream::Full));
        for (found, expected) in row.same_token_change_by_example.iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} is not {expected}");
        }
        assert!((row.same_token_change - expected.iter().sum::<f64>() / 5.0).abs() < 1e-9);
        assert!(row.same_token_change_stderr.is_some() && expected.iter().any(|x| x.abs() > 1e-3), "{expected:?}");
        // Along itself, it is its own square.
        for (found, change) in row.undone_by_example.iter().zip(change.outer_iter()) {
            let square: f32 = change.iter().map(|x| x * x).sum();
            assert!((found - square).abs() < 1e-4 * square && square > 0.0, "{found} is not {square}");
        }
        let undone = sweep_rows(&config, &held, &losses, Some(&-change), 7, 700).unwrap();
        assert!(undone[of].undone_by_example.iter().all(|&x| x < 0.0), "what takes it back is negative");
        let none = sweep_rows(&config, &held, &losses, None, 7, 700).unwrap();
        assert!(none.iter().all(|row| row.undone_by_example.is_empty()));
        assert_eq!(none[of].same_token_change_by_example, row.same_token_change_by_example);
    }

    #[test]
    fn a_change_lies_between_the_snapshots_on_either_side_of_the_step() {
        let steps: Vec<u64> = [0, 1, 2, 4, 8, 16].into_iter().chain((1..=25).map(|k| 20 * k)).collect();
        let curve = |score: &dyn Fn(f64) -> f64| -> Vec<(u64, f64)> {
            steps.iter().map(|&step| (step, score(step as f64))).collect()
        };
        // A tenth of the fall is done at 250 - 10 ln 9 = 228, nine tenths at 272.
        let falls = |x: f64| -0.3 / (1.0 + (-(x - 250.0) / 10.0).exp());
        assert_eq!(change_steps(&curve(&falls), 50, 1000), Some([220, 280]));
        assert_eq!(change_steps(&curve(&|x| -0.001 * x), 50, 1000), None, "a drift");
        // What an untrained model unlearns before the learning rate is up is no part of it.
        let early = |x: f64| falls(x) - 5.0 * (-x / 10.0).exp();
        assert_eq!(change_steps(&curve(&early), 200, 1000), Some([220, 280]));
        assert_eq!(change_steps(&curve(&falls)[..6], 0, 1000), None, "too few to tell");
    }

    #[test]
    fn losses_must_be_those_of_the_examples() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("losses");
        fs::create_dir(&place).unwrap();
        let losses = Array2::from_shape_fn((4, 6), |(e, t)| (10 * e + t) as f32);
        let bytes = write_safetensors([("losses".to_string(), &losses.clone().into_dyn())]);
        fs::write(place.join(step_file(20)), bytes).unwrap();
        let found = losses_at(folder.path(), 20, [3, 6]).unwrap();
        assert_eq!(found, losses.slice_axis(Axis(0), Slice::from(..3)));
        for shape in [[5, 6], [4, 7]] {
            let error = losses_at(folder.path(), 20, shape).unwrap_err().to_string();
            assert!(error.contains("step-00000020") && error.contains("measure the run again"), "{error}");
        }
        assert!(losses_at(folder.path(), 40, [3, 6]).is_err());
    }

    #[test]
    fn controls_match_no_prefixes_and_paths_are_cut_by_what_heads_attend_to() {
        let config = ModelConfig { n_layers: 3, d_model: 20, n_heads: 5, d_head: 4, ..ModelConfig::default() };
        // Prefix matching, attention to the token before, and the role.
        let of = |layer: usize, head: usize| match (layer, head) {
            (1, 0) => (0.0, 0.4, Role::PreviousToken),
            (0, 1 | 2) => (0.05, 0.9, Role::PreviousToken),
            (2, 0) => (0.9, 0.0, Role::Induction),
            (2, 1) => (0.5, 0.0, Role::AntiCopyingPrefix),
            (2, 2) => (0.2, 0.1, Role::Other),
            (0, 0) => (0.0, 0.0, Role::Copying),
            _ => (0.02, 0.1, Role::Other),
        };
        let rows: Vec<HeadRow> = heads_of(&config)
            .map(|HeadId { layer, head }| {
                let (prefix, previous, role) = of(layer, head);
                let scores = [("prefix_matching", prefix), ("previous_token", previous)];
                let scores = scores.map(|(name, score)| (name.to_string(), Some(score))).into();
                HeadRow { step: 1, tokens: 1, layer, head, role, scores }
            })
            .collect();
        let all = knockouts(&config, &rows);
        let sets = |name: &str| -> Vec<Vec<HeadId>> {
            let of = all.iter().filter(|(of, _)| *of == name).filter_map(|(_, ablation)| match ablation {
                Some(Ablation::Heads { heads, .. }) => Some(heads.clone()),
                _ => None,
            });
            of.step_by(2).collect()
        };
        assert_eq!(sets("induction-heads"), [[head(2, 0), head(2, 1)]]);
        assert_eq!(sets("control-matched"), [[head(2, 3), head(2, 4)]], "the layer's only pair that matches nothing");
        let controls = sets("control");
        // All pairs of the nine others that neither match prefixes nor attend to the token before, but for that one.
        assert_eq!(controls.len(), 35);
        assert!(controls.iter().flatten().all(|h| of(h.layer, h.head).0 < 0.1 && of(h.layer, h.head).1 < 0.3));
        assert!(controls.iter().flatten().any(|h| *h == head(0, 0)), "copying is no reason to be left out");

        let paths = |name: &str| -> Vec<(Vec<HeadId>, Reads)> {
            let of = all.iter().filter(|(of, _)| *of == name).filter_map(|(_, ablation)| match ablation {
                Some(Ablation::Paths { from, to, into }) if *to == head(2, 0) => Some((from.clone(), *into)),
                _ => None,
            });
            of.collect()
        };
        let before = vec![head(0, 1), head(0, 2), head(1, 0)];
        let others: Vec<HeadId> = heads_of(&config).filter(|head| head.layer < 2 && !before.contains(head)).collect();
        let each =
            |from: &Vec<HeadId>| [Reads::Queries, Reads::Keys, Reads::Values].map(|into| (from.clone(), into)).to_vec();
        assert_eq!(paths("paths-previous-token"), each(&before));
        assert_eq!(paths("paths-others"), each(&others));
        assert_eq!(all.iter().filter(|(name, _)| *name == "path").count(), 3 * 10);
    }
}
