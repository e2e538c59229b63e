//! Every kept snapshot of a run, measured once (docs/FORMATS.md: measurements).

#[cfg(feature = "parquet")]
mod columns;
pub(crate) mod direct;
mod heads;
mod summary;
pub(crate) mod tables;
pub(crate) mod weights;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use induction_engine::Engine;
use induction_metrics::{
    IclIndices, SameToken, copy_split, icl_by_example, icl_score, icl_sensitivity, late_slope,
    loss_by_index, loss_derivative, mean_stderr, random_token_losses,
};
use induction_model::{Params, write_safetensors};
use induction_records::{
    Cause, EvaluationSpec, IclRow, LossRow, Optimum, RandomTokenRow, RunSpec, Stage, Summary,
    step_file, write_json,
};
use induction_tokenizer::Tokenizer;
use induction_train::snapshot_folder;
use ndarray::{Array2, Axis};
use safetensors::{Dtype, tensor::TensorView};
use serde::Serialize;

use self::tables::{Tables, copy_row, nothing_yet};
use crate::{
    Error,
    bench::median,
    caller::Seen,
    cause::{self, Prompts},
    device::Device,
    distances,
    source::{EVALUATION_SEED, Source},
    stages::{
        OverSnapshots, RunContext, Snapshot, check_weights, drive, load_finite_model,
        manifest_hashes,
    },
};

pub use self::{heads::Evaluators, weights::circuits};

/// What a run's snapshots are measured on: the same for all of them, and for all models of the same
/// data and context.
struct Evaluation {
    /// `[example, n_ctx + 1]`.
    held_out: Array2<u32>,
    /// The windows in which the last tokens of the held-out ones are predicted again.
    fresh: Array2<u32>,
    evaluators: Evaluators,
    indices: IclIndices,
    same: SameToken,
    /// What heads are asked by cause.
    prompts: Vec<Prompts>,
}

/// What the heads of every snapshot are asked by cause. Copy suppression has other prompts for each
/// snapshot, and tasks are beyond models of this size; a scan asks both.
const CAUSES: [Cause; 3] = [Cause::TokenCopying, Cause::ConceptCopying, Cause::InductionCut];

/// Prompts of each.
const PROMPTS: usize = 32;

impl Evaluation {
    fn new(spec: &EvaluationSpec, source: &Source) -> Result<Self, Error> {
        let held_out = source.held_out(spec.examples)?;
        let allowed = source.allowed_tokens()?;
        let text = inputs(&held_out, spec.head_examples);
        let evaluators = Evaluators::new(spec, text, source.bos(), &allowed)?;
        let (indices, same) = indices_of(spec, held_out.ncols() - 1)?;
        let fresh = same.fresh(held_out.view()).map_err(in_examples)?;
        let tokenizer = source.tokenizer().map(|tokenizer| tokenizer as &dyn Tokenizer);
        let asked = cause::Source { start: source.bos(), allowed: &allowed, tokenizer };
        let n_ctx = held_out.ncols() - 1;
        let prompts = CAUSES.map(|cause| Prompts::for_all(cause, &asked, PROMPTS, n_ctx)).into();
        Ok(Self { held_out, fresh, evaluators, indices, same, prompts })
    }

    /// `evaluation.safetensors`: every token that is measured on, so that others can measure the
    /// same.
    fn write(&self, folder: &Path) -> Result<(), Error> {
        let arrays = [
            ("examples", &self.held_out),
            ("fresh", &self.fresh),
            ("text", &self.evaluators.text),
            ("repeated", &self.evaluators.repeated),
            ("random", &self.evaluators.random),
        ];
        write_tokens(&folder.join("evaluation.safetensors"), &arrays)
    }

    /// Adds one snapshot to the tables; its losses `[example, index]` come back.
    fn measure(
        &self,
        engine: &dyn Engine,
        params: &Params,
        step: u64,
        tokens: u64,
        tables: &mut Tables,
    ) -> Result<Array2<f32>, Error> {
        let place = |source| Error::Metric { place: format!("step {step}"), source };
        let losses = engine.losses(self.held_out.view(), &[])?;
        let fresh = engine.losses(self.fresh.view(), &[])?;
        let by_index = loss_by_index(losses.view()).map_err(place)?.to_vec();
        let (derivative_index, d_loss_d_ln_index) =
            loss_derivative(&by_index).map_err(place)?.into_iter().unzip();
        let loss = by_index.iter().sum::<f64>() / by_index.len() as f64;
        let icl_sensitivity = icl_sensitivity(&by_index).map_err(place)?;
        let by_example = losses.mean_axis(Axis(1)).expect("n_ctx is at least 1");
        tables.losses.push(LossRow {
            step,
            tokens,
            loss,
            loss_by_index: by_index,
            by_example: by_example.mapv(f64::from).to_vec(),
            derivative_index,
            d_loss_d_ln_index,
            icl_sensitivity,
        });

        let icl = icl_score(losses.view(), &self.indices).map_err(place)?;
        let by_example = icl_by_example(losses.view(), &self.indices).map_err(place)?;
        let slopes = late_slope(losses.view(), self.indices.early).map_err(place)?;
        let same_token = self.same.by_example(losses.view(), fresh.view()).map_err(place)?;
        let (same_token_score, same_token_stderr) = mean_stderr(&same_token);
        tables.icl.push(IclRow {
            step,
            tokens,
            icl_score: icl.score,
            stderr: icl.stderr,
            by_example,
            same_token_score,
            same_token_stderr,
            same_token_by_example: same_token,
            same_token_by_index: self.same.by_index(losses.view(), fresh.view()).map_err(place)?,
            late_slope: slopes.iter().sum::<f64>() / slopes.len() as f64,
            late_slope_by_example: slopes,
        });

        let split = copy_split(losses.view(), self.held_out.view()).map_err(place)?;
        tables.copies.push(copy_row(step, tokens, &split));

        let random = random_token_losses(losses.view(), EVALUATION_SEED).map_err(place)?;
        let random: Vec<f64> = random.into_iter().map(f64::from).collect();
        let mean = random.iter().sum::<f64>() / random.len() as f64;
        tables.random_tokens.push(RandomTokenRow { step, tokens, loss: mean, losses: random });

        let circuits = circuits(engine.config(), params).map_err(place)?;
        let weights = Some((&circuits, params));
        let mut heads = self.evaluators.heads(engine, params, weights, step, tokens)?;
        for prompts in &self.prompts {
            if let Some(found) = prompts.measure(engine)? {
                found.add_to(&mut heads);
            }
        }
        tables.heads.extend(heads);
        let clamps = &engine.config().clamp;
        tables.composition.extend(weights::composition(clamps, &circuits, step, tokens));
        Ok(losses)
    }
}

/// Writes tokens as a safetensors file, for others to compute with.
pub(crate) fn write_tokens(path: &Path, arrays: &[(&str, &Array2<u32>)]) -> Result<(), Error> {
    let bytes: Vec<_> = arrays
        .iter()
        .map(|(name, tokens)| {
            // 64 bits and signed: what PyTorch indexes with.
            let bytes: Vec<u8> =
                tokens.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
            (*name, tokens.shape().to_vec(), bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::I64, shape.clone(), bytes)
            .expect("bytes were made from this shape");
        (*name, view)
    });
    let file = safetensors::serialize(views, None).expect("names are unique and sizes fit");
    induction_files::write_atomic(path, &file).map_err(Error::io(path))
}

/// Where the in-context learning scores of a spec look, in examples of `n_ctx` tokens.
///
/// # Errors
/// Indices that do not fit the context.
pub fn indices_of(spec: &EvaluationSpec, n_ctx: usize) -> Result<(IclIndices, SameToken), Error> {
    let indices =
        IclIndices { early: spec.icl_early, late: spec.icl_late, half_width: spec.icl_half_width };
    let same = SameToken::new(&indices, n_ctx).map_err(in_examples)?;
    Ok((indices, same))
}

fn in_examples(source: induction_metrics::Error) -> Error {
    Error::Metric { place: "evaluation examples".into(), source }
}

/// Measures every kept snapshot of a run that is not measured yet. Tables grow with each snapshot,
/// each write whole.
///
/// # Errors
/// A run that is not there or not trained as its spec says, or that another process works on; the
/// engine's, the metrics' and the system's; [`Error::Interrupted`] after a signal. Whatever the
/// error, what is measured is kept.
pub fn measure(context: &RunContext<'_>) -> Result<(), Error> {
    fill_tables(context)?;
    distances::take(context)
}

fn fill_tables(context: &RunContext<'_>) -> Result<(), Error> {
    let RunContext { spec, source, run, .. } = context;
    let folder = context.measurements();
    let losses = context.measurements_in("losses")?;
    let lease = context.lease()?;
    let mut engine = context.engine()?;
    let Left { mut tables, hashes, missing, done } = left(spec, run, engine.name())?;
    if done {
        return Ok(());
    }
    check_weights(run, &missing, "it cannot be measured again", "Measure")?;
    tables.drop_steps(&missing);
    for table in tables::FILES {
        // What a build with Parquet left would no longer agree.
        let stale = folder.join(table).with_extension("parquet");
        if stale.exists() {
            induction_files::remove_file(&stale).map_err(Error::io(stale))?;
        }
    }

    let evaluation = Evaluation::new(&spec.evaluation, source)?;
    evaluation.write(&folder)?;
    if let Some(optimum) = source.optimum(evaluation.held_out.view()) {
        write_json(&folder.join(Optimum::FILE), &optimum)?;
    }
    let mut measuring =
        Measuring { evaluation, tables, hashes, run, folder: folder.clone(), losses };
    drive(context, &lease, engine.as_mut(), Stage::Measuring, &missing, None, &mut measuring)?;
    #[cfg(feature = "parquet")]
    for table in tables::FILES {
        columns::write(&folder, table)?;
    }
    // Last, as it says that all is there.
    lease.check()?;
    let (_, last) = load_finite_model(&snapshot_folder(run, spec.steps()))?;
    summary::write(&folder, spec, source, &measuring.evaluation, &measuring.tables, &last)
}

/// The stage in work.
struct Measuring<'a> {
    evaluation: Evaluation,
    tables: Tables,
    /// Of every kept snapshot's manifest.
    hashes: BTreeMap<u64, String>,
    run: &'a Path,
    folder: PathBuf,
    /// Where the losses of each snapshot go.
    losses: PathBuf,
}

impl OverSnapshots for Measuring<'_> {
    fn snapshot(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let losses = self
            .evaluation
            .measure(at.engine, at.params, at.step, at.tokens, &mut self.tables)
            .map_err(|error| error.at(&snapshot_folder(self.run, at.step)))?;
        let path = self.losses.join(step_file(at.step));
        at.lease.check()?;
        let bytes = write_safetensors([("losses".to_string(), &losses.into_dyn())]);
        induction_files::write_atomic(&path, &bytes).map_err(Error::io(path))?;
        self.tables.made.snapshots.insert(at.step, self.hashes[&at.step].clone());
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        // A snapshot that failed has left rows in some tables.
        self.tables.keep_only(&self.hashes);
        self.tables.write(&self.folder)
    }

    fn seen(&self) -> Seen {
        self.tables.last_seen()
    }
}

/// What of a run is measured, and what is not.
struct Left {
    tables: Tables,
    /// Of every kept snapshot's manifest.
    hashes: BTreeMap<u64, String>,
    missing: Vec<u64>,
    done: bool,
}

fn left(spec: &RunSpec, run: &Path, engine: &str) -> Result<Left, Error> {
    let folder = run.join("measurements");
    let fresh = nothing_yet(spec.training_hash(), engine.to_string(), spec.evaluation.clone());
    let mut tables = Tables::read(&folder, fresh);
    let steps = spec.snapshot_steps();
    let hashes = manifest_hashes(run, &steps)?;
    tables.keep_only(&hashes);
    let losses = folder.join("losses");
    let there = |step: &u64| {
        tables.made.snapshots.contains_key(step) && losses.join(step_file(*step)).exists()
    };
    let missing: Vec<u64> = steps.into_iter().filter(|step| !there(step)).collect();
    // Tables of an earlier build may have no Parquet beside them.
    #[cfg(feature = "parquet")]
    let complete =
        tables::FILES.iter().all(|table| folder.join(table).with_extension("parquet").exists());
    #[cfg(not(feature = "parquet"))]
    let complete = true;
    let done = missing.is_empty() && complete && folder.join(Summary::FILE).exists();
    Ok(Left { tables, hashes, missing, done })
}

/// Whether [`measure`] with that engine would find nothing to do.
pub fn is_done(spec: &RunSpec, run: &Path, engine: &str) -> bool {
    left(spec, run, engine).is_ok_and(|left| left.done) && distances::is_done(spec, run, engine)
}

/// What the last snapshot of a measured run shows; nothing if its tables are not there.
pub fn last_seen(run: &Path) -> Seen {
    Tables::stored(&run.join("measurements"))
        .map_or_else(Seen::default, |tables| tables.last_seen())
}

/// A share of the evaluation without tables: for a look at a model while it learns, and to time it.
pub struct Probe {
    evaluation: Evaluation,
    evaluation_spec: EvaluationSpec,
}

impl Probe {
    /// A few examples: the same-token ICL score comes within about 0.1 nats.
    ///
    /// # Errors
    /// Data that are too few for it.
    pub fn few(spec: &RunSpec, source: &Source) -> Result<Self, Error> {
        let evaluation = EvaluationSpec {
            examples: spec.evaluation.examples.min(24),
            head_examples: 4,
            ..spec.evaluation.clone()
        };
        Self::whole(&RunSpec { evaluation, ..spec.clone() }, source)
    }

    /// As the spec says.
    ///
    /// # Errors
    /// Data that are too few for it.
    pub fn whole(spec: &RunSpec, source: &Source) -> Result<Self, Error> {
        let evaluation = Evaluation::new(&spec.evaluation, source)?;
        Ok(Self { evaluation, evaluation_spec: spec.evaluation.clone() })
    }

    /// The same-token ICL score and the highest prefix-matching score of the model that the engine
    /// holds.
    ///
    /// # Errors
    /// The engine's and the metrics'.
    pub fn look(&self, engine: &dyn Engine) -> Result<Seen, Error> {
        let place = |source| Error::Metric { place: "a look while training".into(), source };
        let losses = engine.losses(self.evaluation.held_out.view(), &[])?;
        let fresh = engine.losses(self.evaluation.fresh.view(), &[])?;
        let same_token =
            self.evaluation.same.by_example(losses.view(), fresh.view()).map_err(place)?;
        let best = self.evaluation.evaluators.best_prefix_matching(engine)?;
        Ok(Seen {
            icl_score: Some(mean_stderr(&same_token).0),
            prefix_matching: Some(best),
            ..Seen::default()
        })
    }

    /// Measures everything once, as a snapshot is measured, and keeps nothing.
    ///
    /// # Errors
    /// The engine's and the metrics'.
    pub fn time(&self, engine: &dyn Engine, params: &Params) -> Result<(), Error> {
        let name = engine.name().to_string();
        let fresh = nothing_yet(String::new(), name, self.evaluation_spec.clone());
        let mut tables = Tables::new(fresh);
        self.evaluation.measure(engine, params, 0, 0, &mut tables).map(|_| ())
    }
}

/// How long a snapshot's measurements take, without files: one JSON line of `induction bench
/// measure`.
#[derive(Clone, Debug, Serialize)]
pub struct MeasureTiming {
    /// The engine.
    pub engine: String,
    /// Threads it worked on.
    pub threads: usize,
    /// Everything of one snapshot, in seconds; the median.
    pub snapshot_s: f64,
    /// Of it, the measures on weights alone, all heads together.
    pub weights_s: f64,
}

/// Times the measuring of one snapshot of a run, on the current threads.
///
/// # Errors
/// As [`measure`].
pub fn time_measure(
    spec: &RunSpec,
    source: &Source,
    run: &Path,
    step: u64,
    device: Device,
    repetitions: usize,
) -> Result<MeasureTiming, Error> {
    let (config, params) = load_finite_model(&snapshot_folder(run, step))?;
    let engine = device.open(&config, &params)?;
    let evaluation = Evaluation::new(&spec.evaluation, source)?;
    let fresh =
        nothing_yet(spec.training_hash(), engine.name().to_string(), spec.evaluation.clone());
    let place = |source| Error::Metric { place: format!("step {step}"), source };
    let (mut whole, mut weights) = (Vec::new(), Vec::new());
    // The first warms up.
    for repetition in 0..=repetitions {
        let mut tables = Tables::new(fresh.clone());
        let begun = Instant::now();
        evaluation.measure(engine.as_ref(), &params, step, 0, &mut tables)?;
        let snapshot = begun.elapsed().as_secs_f64();
        let previous = vec![vec![0.5; config.n_heads]; config.n_layers];
        let begun = Instant::now();
        let circuits = circuits(&config, &params).map_err(place)?;
        weights::scores(&config, &params, &circuits, &previous).map_err(place)?;
        weights::composition(&config.clamp, &circuits, step, 0);
        if repetition > 0 {
            whole.push(snapshot);
            weights.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(MeasureTiming {
        engine: engine.name().to_string(),
        threads: rayon::current_num_threads(),
        snapshot_s: median(whole),
        weights_s: median(weights),
    })
}

/// The inputs of the first `count` examples, `[count, n_ctx]`.
fn inputs(examples: &Array2<u32>, count: usize) -> Array2<u32> {
    let (first, _) = examples.view().split_at(Axis(0), count.min(examples.nrows()));
    first.split_at(Axis(1), examples.ncols() - 1).0.to_owned()
}
