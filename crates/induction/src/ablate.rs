//! Every head removed at the snapshots that the spec says, and the last snapshot's other ablations (docs/FORMATS.md: ablations).

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use induction_ablation::{
    Ablation, Downstream, Fill, HeadId, IdealPattern, Inputs, Losses, Reads, control_sets, losses_under, single_heads,
};
use induction_files::Lease;
use induction_metrics::{IclIndices, Role, icl_by_example, loss_by_index, paired_change, random_token_losses};
use induction_model::{ModelConfig, write_safetensors};
use induction_train::{EvaluationSpec, RunSpec};
use ndarray::{Array2, Array4, Axis};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    bench::median,
    device::Device,
    interrupt::Interrupt,
    measure::{
        HeadRow, WRITE_EVERY, load_finite_model, load_params, manifest_hashes, single, step_file,
        tables::{Row, keep, read_rows, write_json, write_rows},
    },
    progress::{Progress, Screen},
    source::{EVALUATION_SEED, Source},
    status::{Seen, Stage},
};

/// Raised whenever an ablation's definition changes, so that stored tables are made again.
const VERSION: u32 = 1;

const META: &str = "ablations.json";
const KNOCKOUTS: &str = "knockouts.jsonl";

/// The kinds of the sweep, in the order of the tables.
const KINDS: [Downstream; 2] = [Downstream::Full, Downstream::PatternPreserving];

/// Control sets of each sort that are drawn beside the induction heads.
const CONTROL_SETS: usize = 20;

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
    /// Hash of each snapshot's manifest, by step.
    snapshots: BTreeMap<u64, String>,
    /// That of the snapshot that `knockouts.jsonl` is about.
    knockouts: Option<String>,
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
    /// Change of the loss of each example's fixed random token: what the before-and-after vector is held against.
    random_token_changes: Vec<f32>,
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
    loss_by_example: Vec<f32>,
    icl_by_example: Vec<f32>,
}

/// What the removals are taken on.
struct Held {
    /// `[example, n_ctx + 1]`.
    examples: Array2<u32>,
    indices: IclIndices,
}

impl Held {
    fn new(spec: &EvaluationSpec, source: &Source) -> Result<Self, Error> {
        let indices = IclIndices { early: spec.icl_early, late: spec.icl_late, half_width: spec.icl_half_width };
        Ok(Self { examples: source.held_out(spec.ablation_examples.min(spec.examples))?, indices })
    }
}

/// Removes every head of each snapshot that the spec says and that this was not yet done for, then puts the last snapshot through
/// sets of heads, other fills, ideal patterns and cut paths. Tables grow with each snapshot, each write whole.
///
/// # Errors
/// A run that is not measured, or that another process works on; the engine's, the metrics' and the system's;
/// [`Error::Interrupted`] after a signal. Whatever the error, what is done is kept.
pub fn ablate(
    spec: &RunSpec,
    source: &Source,
    run: &Path,
    device: Device,
    interrupt: &Interrupt,
    screen: &Screen,
) -> Result<(), Error> {
    let folder = run.join("measurements");
    let by_index = folder.join("ablations");
    induction_files::make_folders(&by_index).map_err(Error::io(&by_index))?;
    let lease = Lease::take(run, &mut |note| screen.note(note))?;
    let mut engine = device.open(&spec.model, &spec.model.init_params(spec.seed)?)?;
    let Some(&last) = spec.ablation_steps().last() else { return Ok(()) };
    let Left { mut meta, mut rows, hashes, missing, knockouts_done } = left(spec, run, engine.name())?;
    if missing.is_empty() && knockouts_done {
        return Ok(());
    }
    let file = |step: u64| by_index.join(step_file(step));

    let held = Held::new(&spec.evaluation, source)?;
    let mut progress = Progress::new(screen, &spec.name, run, Stage::Ablating, missing.len() as u64 + 1);
    let mut written = Instant::now();
    let mut all = || -> Result<(), Error> {
        for (done, &step) in missing.iter().enumerate() {
            interrupt.check()?;
            let params = load_params(spec, run, step)?;
            engine.set_params(&params)?;
            let inputs = Inputs { engine: engine.as_ref(), params: &params, examples: held.examples.view() };
            let losses = losses_under(&inputs, &single_heads(&spec.model, &KINDS))?;
            let tokens = step * spec.tokens_per_step();
            let new = sweep_rows(&spec.model, &held, &losses, step, tokens)?;
            rows.extend(new);
            lease.check()?;
            let bytes =
                write_safetensors([("loss_changes".to_string(), &loss_changes(&spec.model, &losses)?.into_dyn())]);
            induction_files::write_atomic(&file(step), &bytes).map_err(Error::io(file(step)))?;
            meta.snapshots.insert(step, hashes[&step].clone());
            if written.elapsed() > WRITE_EVERY {
                write(&folder, &meta, &mut rows)?;
                written = Instant::now();
            }
            progress.at(done as u64 + 1, Seen::default);
        }
        interrupt.check()?;
        if !knockouts_done {
            let params = load_params(spec, run, last)?;
            engine.set_params(&params)?;
            let inputs = Inputs { engine: engine.as_ref(), params: &params, examples: held.examples.view() };
            let heads = heads_at(&folder, last)?;
            let named = knockouts(&spec.model, &heads);
            let tokens = last * spec.tokens_per_step();
            let lines = knockout_lines(&inputs, &held.indices, named, last, tokens)?;
            lease.check()?;
            let path = folder.join(KNOCKOUTS);
            induction_files::write_atomic(&path, &lines).map_err(Error::io(path))?;
            meta.knockouts = hashes.get(&last).cloned();
        }
        Ok(())
    };
    let result = all();
    lease.check()?;
    write(&folder, &meta, &mut rows)?;
    result?;
    progress.finish();
    Ok(())
}

/// What of a run is removed, and what is not.
struct Left {
    meta: Meta,
    rows: Vec<AblationRow>,
    /// Of the manifest of every snapshot that heads are removed from.
    hashes: BTreeMap<u64, String>,
    missing: Vec<u64>,
    knockouts_done: bool,
}

fn left(spec: &RunSpec, run: &Path, engine: &str) -> Result<Left, Error> {
    let folder = run.join("measurements");
    let steps = spec.ablation_steps();
    let hashes = manifest_hashes(run, &steps)?;
    let fresh = Meta {
        version: VERSION,
        spec_hash: spec.training_hash(),
        engine: engine.to_string(),
        evaluation: spec.evaluation.clone(),
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
    Ok(Left { meta, rows, hashes, missing, knockouts_done })
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

/// The table first, the list of what it holds last: a kill between them costs what was done since the last write.
fn write(folder: &Path, meta: &Meta, rows: &mut [AblationRow]) -> Result<(), Error> {
    write_rows(folder, rows)?;
    write_json(&folder.join(META), meta)
}

fn heads_of(config: &ModelConfig) -> impl Iterator<Item = HeadId> + use<> {
    let (layers, heads) = (config.n_layers, config.n_heads);
    (0..layers).flat_map(move |layer| (0..heads).map(move |head| HeadId { layer, head }))
}

/// The rows of one snapshot, from losses under [`single_heads`] in both kinds.
fn sweep_rows(
    config: &ModelConfig,
    held: &Held,
    losses: &Losses,
    step: u64,
    tokens: u64,
) -> Result<Vec<AblationRow>, Error> {
    let place = |source| Error::Metric { place: format!("step {step}"), source };
    let icl = |losses: &Array2<f32>| icl_by_example(losses.view(), &held.indices).map_err(place);
    let random = |losses: &Array2<f32>| random_token_losses(losses.view(), EVALUATION_SEED).map_err(place);
    let (clean_icl, clean_random) = (icl(&losses.clean)?, random(&losses.clean)?);
    let kinds = heads_of(config).flat_map(|head| KINDS.map(|kind| (head, kind)));
    kinds
        .zip(&losses.ablated)
        .map(|((HeadId { layer, head }, downstream), ablated)| {
            let without = icl(ablated)?;
            let (icl_change, icl_change_stderr) = paired_change(&clean_icl, &without).map_err(place)?;
            let changes: Vec<f64> = without.iter().zip(&clean_icl).map(|(without, with)| without - with).collect();
            let random_token_changes = random(ablated)?.iter().zip(&clean_random).map(|(a, b)| a - b).collect();
            Ok(AblationRow {
                step,
                tokens,
                layer,
                head,
                downstream,
                icl_change,
                icl_change_stderr,
                loss_change: mean(ablated) - mean(&losses.clean),
                icl_change_by_example: single(&changes),
                random_token_changes,
            })
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
    let induction = ordered(&[Role::Induction, Role::AntiCopyingPrefix], "prefix_matching");
    let previous = ordered(&[Role::PreviousToken], "previous_token");
    let others = ordered(&[Role::Other], "prefix_matching");

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
    }
    all
}

fn knockout_lines(
    inputs: &Inputs,
    indices: &IclIndices,
    named: Vec<(&'static str, Option<Ablation>)>,
    step: u64,
    tokens: u64,
) -> Result<Vec<u8>, Error> {
    let place = |source| Error::Metric { place: format!("step {step}"), source };
    let ablations: Vec<Ablation> = named.iter().filter_map(|(_, ablation)| ablation.clone()).collect();
    let losses = losses_under(inputs, &ablations)?;
    let mut ablated = losses.ablated.iter();
    let mut text = Vec::new();
    for (name, ablation) in named {
        let losses = if ablation.is_some() { ablated.next().expect("one an ablation") } else { &losses.clean };
        let icl = icl_by_example(losses.view(), indices).map_err(place)?;
        let row = Knockout {
            step,
            tokens,
            name,
            ablation,
            loss: mean(losses),
            icl_score: icl.iter().sum::<f64>() / icl.len() as f64,
            loss_by_example: losses.mean_axis(Axis(1)).expect("n_ctx is at least 1").to_vec(),
            icl_by_example: single(&icl),
        };
        serde_json::to_writer(&mut text, &row).expect("plain structs serialize");
        text.push(b'\n');
    }
    Ok(text)
}

/// What the last snapshot's ICL score loses without a head.
#[derive(Clone, Debug, Serialize)]
pub struct HeadEffect {
    /// The head.
    pub head: HeadId,
    /// Its role, as `heads.jsonl` has it.
    pub role: String,
    /// Its prefix-matching score.
    pub prefix_matching: f64,
    /// Change of the ICL score in nats, everything above the head free to change.
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
        rows.iter().find(of).map_or(f64::NAN, |row| row.icl_change)
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
    /// Tokens that each is run on.
    pub tokens: usize,
    /// All of them, with the run without any, in seconds; the median.
    pub sweep_s: f64,
    /// Of it, one ablation's share.
    pub ablation_s: f64,
}

/// Times the removal of every head of a snapshot, in both kinds, on the current threads; leaves the losses in a file if
/// asked: `clean` `[example, index]` and `ablated` `[layer, head, kind, example * index]`, full before pattern-preserving.
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
    let inputs = Inputs { engine: engine.as_ref(), params: &params, examples: held_out.view() };
    let ablations = single_heads(&config, &KINDS);
    let mut seconds = Vec::new();
    let mut losses = losses_under(&inputs, &ablations)?;
    for _ in 0..repetitions {
        let begun = Instant::now();
        losses = losses_under(&inputs, &ablations)?;
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
        tokens: held_out.nrows() * (held_out.ncols() - 1),
        sweep_s,
        ablation_s: sweep_s / ablations.len() as f64,
    })
}
