//! How far every kept snapshot's predictions are from those of simple predictors, and the stages
//! into which that falls (docs/FORMATS.md: `distances.jsonl`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use induction_metrics::{
    Crossing, Mixture, Reference, References, Stages, StagesConfig, crossings, find_stages,
    mean_stderr,
};
use induction_records::{
    DistanceRow, DistancesFrom, RunSpec, Stage, read_json, read_rows, write_json, write_rows,
};
use ndarray::{Array2, ArrayView2, Axis};

use crate::{
    Error,
    measure::tables::keep,
    source::EVALUATION_SEED,
    stages::{OverSnapshots, RunContext, Snapshot, drive, has_weights, manifest_hashes},
};

/// Raised whenever a definition here changes, so that stored distances are taken again.
const VERSION: u32 = 1;

/// Held-out examples that they are taken on, at most: each of 512 tokens has as many predictions,
/// and the whole vocabulary of each is looked at.
const EXAMPLES: usize = 32;

/// Bytes of logits that are held at once, an example's at least.
const LOGIT_BYTES: usize = 32 << 20;

/// Takes the distances of every kept snapshot whose weights are there and that has none yet.
///
/// # Errors
/// A run that another process works on; the engine's, the metrics' and the system's;
/// [`Error::Interrupted`] after a signal. Whatever the error, what is done is kept.
pub(crate) fn take(context: &RunContext<'_>) -> Result<(), Error> {
    let RunContext { spec, source, run, .. } = context;
    let lease = context.lease()?;
    let mut engine = context.engine()?;
    let Left { made, rows, hashes, missing } = left(spec, run, engine.name())?;
    if missing.is_empty() {
        return Ok(());
    }
    let (training, windows) = source.training_sample();
    let mixture =
        Mixture::fit(spec.model.d_vocab, &training, windows.view()).map_err(of_predictors)?;
    drop(training);
    let held_out = source.held_out(examples(spec))?;
    let references = References::new(&mixture, held_out.view()).map_err(of_predictors)?;
    let folder = context.measurements();
    let mut taking = Taking { references, held_out: held_out.view(), made, rows, hashes, folder };
    drive(context, &lease, engine.as_mut(), Stage::Measuring, &missing, None, &mut taking)
}

fn of_predictors(source: induction_metrics::Error) -> Error {
    Error::Metric { place: "simple predictors".into(), source }
}

fn examples(spec: &RunSpec) -> usize {
    spec.evaluation.examples.min(EXAMPLES)
}

/// Whether [`take`] with that engine would find nothing to do.
pub(crate) fn is_done(spec: &RunSpec, run: &Path, engine: &str) -> bool {
    left(spec, run, engine).is_ok_and(|left| left.missing.is_empty())
}

/// The work on a run.
struct Taking<'a> {
    references: References<'a>,
    /// `[example, 1 + n_ctx]`.
    held_out: ArrayView2<'a, u32>,
    made: DistancesFrom,
    rows: Vec<DistanceRow>,
    /// Of every kept snapshot's manifest.
    hashes: BTreeMap<u64, String>,
    folder: PathBuf,
}

impl OverSnapshots for Taking<'_> {
    fn snapshot(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let distances = self.distances(at)?;
        let of = |reference: usize| mean_stderr(&distances.column(reference).to_vec());
        let [uniform, unigram, bigram, induction] = [0, 1, 2, 3].map(of);
        let means = [uniform.0, unigram.0, bigram.0, induction.0];
        let nearest = (0..means.len())
            .min_by(|&a, &b| means[a].total_cmp(&means[b]))
            .expect("there are four predictors");
        self.rows.push(DistanceRow {
            step: at.step,
            tokens: at.tokens,
            uniform: uniform.0,
            uniform_stderr: uniform.1,
            uniform_by_example: distances.column(0).to_vec(),
            unigram: unigram.0,
            unigram_stderr: unigram.1,
            unigram_by_example: distances.column(1).to_vec(),
            bigram: bigram.0,
            bigram_stderr: bigram.1,
            bigram_by_example: distances.column(2).to_vec(),
            induction: induction.0,
            induction_stderr: induction.1,
            induction_by_example: distances.column(3).to_vec(),
            nearest: Reference::ALL[nearest].name().to_string(),
        });
        self.made.snapshots.insert(at.step, self.hashes[&at.step].clone());
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        write_rows(&self.folder, &mut self.rows)?;
        self.made.crossings = crossings_of(&self.rows)?;
        self.made.stages = stages(&self.rows)?;
        Ok(write_json(&self.folder.join(DistancesFrom::FILE), &self.made)?)
    }
}

impl Taking<'_> {
    /// Of the snapshot in work, `[example, reference]`.
    fn distances(&self, at: &Snapshot<'_>) -> Result<Array2<f64>, Error> {
        let place = |source| Error::Metric { place: format!("step {}", at.step), source };
        let (n_ctx, d_vocab) = (self.held_out.ncols() - 1, at.engine.config().d_vocab);
        let at_once = (LOGIT_BYTES / (size_of::<f32>() * n_ctx * d_vocab)).max(1);
        let (read, _) = self.held_out.split_at(Axis(1), n_ctx);
        let mut all = Array2::zeros((0, Reference::ALL.len()));
        for (part, tokens) in read.axis_chunks_iter(Axis(0), at_once).enumerate() {
            let logits = at.engine.logits(tokens, &[])?;
            let found = self.references.distances(part * at_once, logits.view()).map_err(place)?;
            all.append(Axis(0), found.view()).expect("the columns are the predictors");
        }
        Ok(all)
    }
}

/// When each predictor gives way to the next.
fn crossings_of(rows: &[DistanceRow]) -> Result<Vec<Crossing>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let tokens: Vec<u64> = rows.iter().map(|row| row.tokens).collect();
    let distances: Vec<Array2<f64>> = rows
        .iter()
        .map(|row| {
            let columns = [
                &row.uniform_by_example,
                &row.unigram_by_example,
                &row.bigram_by_example,
                &row.induction_by_example,
            ];
            Array2::from_shape_fn((columns[0].len(), 4), |(example, k)| columns[k][example])
        })
        .collect();
    let place = |source| Error::Metric { place: "stages of training".into(), source };
    crossings(&tokens, &distances, EVALUATION_SEED).map_err(place)
}

/// The stages of the distances from unigrams, bigrams and induction together; none where there are
/// too few snapshots. (The distance from a uniform predictor only grows.)
fn stages(rows: &[DistanceRow]) -> Result<Option<Stages>, Error> {
    let tokens: Vec<u64> = rows.iter().map(|row| row.tokens).collect();
    let column = |k: usize| rows.iter().map(|row| row.distances()[k]).collect::<Vec<f64>>();
    let curves = [1, 2, 3].map(column);
    stages_of(&tokens, &[&curves[0], &curves[1], &curves[2]])
}

/// The stages of curves over a run's snapshots; none where these are too few.
pub(crate) fn stages_of(tokens: &[u64], curves: &[&[f64]]) -> Result<Option<Stages>, Error> {
    if tokens.iter().filter(|&&tokens| tokens > 0).count() < induction_metrics::stages::FEWEST {
        return Ok(None);
    }
    let place = |source| Error::Metric { place: "stages of training".into(), source };
    find_stages(tokens, curves, &StagesConfig::default()).map(Some).map_err(place)
}

/// What of a run is taken, and what is not.
struct Left {
    made: DistancesFrom,
    rows: Vec<DistanceRow>,
    /// Of every kept snapshot's manifest.
    hashes: BTreeMap<u64, String>,
    missing: Vec<u64>,
}

fn left(spec: &RunSpec, run: &Path, engine: &str) -> Result<Left, Error> {
    let folder = run.join("measurements");
    let fresh = DistancesFrom {
        version: VERSION,
        spec_hash: spec.training_hash(),
        engine: engine.to_string(),
        examples: examples(spec),
        snapshots: BTreeMap::new(),
        crossings: Vec::new(),
        stages: None,
    };
    let stored = || -> Option<(DistancesFrom, Vec<DistanceRow>)> {
        let made: DistancesFrom =
            read_json(&folder.join(DistancesFrom::FILE), Stage::Measuring).ok()?;
        let same = DistancesFrom {
            snapshots: BTreeMap::new(),
            crossings: Vec::new(),
            stages: None,
            ..made.clone()
        } == fresh;
        same.then_some((made, read_rows(&folder).ok()?))
    };
    let (mut made, mut rows) = stored().unwrap_or_else(|| (fresh.clone(), Vec::new()));
    let steps = spec.snapshot_steps();
    let hashes = manifest_hashes(run, &steps)?;
    made.snapshots.retain(|step, hash| hashes.get(step) == Some(hash));
    keep(&mut rows, &made.snapshots);
    let missing = steps
        .into_iter()
        .filter(|&step| !made.snapshots.contains_key(&step) && has_weights(run, step))
        .collect();
    Ok(Left { made, rows, hashes, missing })
}
