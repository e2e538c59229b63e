//! Every kept snapshot of a run, measured once (docs/FORMATS.md: measurements).

use std::{collections::BTreeMap, fs, path::Path};

use induction_engine::Engine;
use induction_metrics::{
    CopyingSample, IclIndices, PrefixMatchingSample, copying, copying_scores, direct_path_logits, icl_by_example,
    icl_score, loss_by_index, prefix_matching, previous_token,
};
use induction_model::{Hook, Params};
use induction_train::{EvaluationSpec, RunSpec, load_model, manifest_hash, snapshot_folder};
use ndarray::{Array2, Array3, ArrayView3, ArrayView4, Axis, Ix1, Ix2, Ix3, Ix4};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Error,
    device::Device,
    interrupt::Interrupt,
    progress::{Progress, Screen},
    source::{EVALUATION_SEED, Source},
};

/// Raised whenever a measurement's definition changes, so that stored tables are made again.
const MEASURES: u32 = 2;

const META: &str = "meta.json";
const LOSSES: &str = "loss_by_index.jsonl";
const ICL: &str = "icl.jsonl";
const HEADS: &str = "heads.jsonl";

/// `meta.json`: what the tables were made with, and from which snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Meta {
    measures: u32,
    spec_hash: String,
    engine: String,
    evaluation: EvaluationSpec,
    /// Hash of each measured snapshot's manifest, by step.
    snapshots: BTreeMap<u64, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LossRow {
    step: u64,
    tokens: u64,
    loss: f64,
    loss_by_index: Vec<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct IclRow {
    step: u64,
    tokens: u64,
    icl_score: f64,
    stderr: f64,
    /// The score of each example: the same examples at every snapshot, so changes can be compared in pairs.
    by_example: Vec<f32>,
}

/// A line of `heads.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// paper.md, 3; D1, D2.
    pub prefix_matching: f64,
    /// Standard error over examples; `None` for a single one.
    pub prefix_matching_stderr: Option<f64>,
    /// paper.md, 3; D3.
    pub copying: f64,
    /// paper.md, 3.
    pub previous_token: f64,
}

/// What the evaluators run on: the same for every snapshot.
pub struct Evaluators {
    /// `[example, pos]`, text for the previous-token score.
    pub text: Array2<u32>,
    /// Shape of the prefix-matching sample.
    pub prefix: PrefixMatchingSample,
    /// `[example, pos]`, repeated random tokens.
    pub repeated: Array2<u32>,
    /// `[example, pos]`, random tokens for the copying score.
    pub random: Array2<u32>,
}

impl Evaluators {
    /// Draws the random tokens from `allowed`.
    ///
    /// # Errors
    /// Fewer allowed tokens than a block needs.
    pub fn new(evaluation: &EvaluationSpec, text: Array2<u32>, bos: u32, allowed: &[u32]) -> Result<Self, Error> {
        let place = |source| Error::Metric { place: "evaluator tokens".into(), source };
        let examples = evaluation.head_examples;
        let prefix = PrefixMatchingSample { block: evaluation.prefix_block, repeats: evaluation.prefix_repeats };
        let repeated = prefix.batch(EVALUATION_SEED, examples, bos, allowed).map_err(place)?;
        let sample = CopyingSample { length: evaluation.prefix_block };
        let random = sample.batch(EVALUATION_SEED, examples, allowed).map_err(place)?;
        Ok(Self { text, prefix, repeated, random })
    }

    /// The scores of every head, layer by layer.
    ///
    /// # Errors
    /// The engine's and the metrics'.
    pub fn heads(&self, engine: &dyn Engine, params: &Params, step: u64, tokens: u64) -> Result<Vec<HeadRow>, Error> {
        let place = |source| Error::Metric { place: format!("step {step}"), source };
        let layers = 0..engine.config().n_layers;
        let patterns: Vec<Hook> = layers.clone().map(Hook::Pattern).collect();
        let with_values: Vec<Hook> = layers.clone().flat_map(|l| [Hook::Pattern(l), Hook::V(l)]).collect();
        let on_text = engine.activations(self.text.view(), &patterns, &[])?;
        let on_repeated = engine.activations(self.repeated.view(), &patterns, &[])?;
        let on_random = engine.activations(self.random.view(), &with_values, &[])?;

        let mut rows = Vec::new();
        for l in layers {
            let previous = previous_token(rank4(&on_text[&Hook::Pattern(l)])).map_err(place)?;
            let prefix = prefix_matching(rank4(&on_repeated[&Hook::Pattern(l)]), self.repeated.view(), self.prefix)
                .map_err(place)?;
            let unembed = head_unembeddings(params, l).map_err(place)?;
            let examples = rank4(&on_random[&Hook::Pattern(l)]);
            let values = rank4(&on_random[&Hook::V(l)]);
            let mut copied = Vec::new();
            for ((pattern, v), tokens) in examples.outer_iter().zip(values.outer_iter()).zip(self.random.rows()) {
                copied.push(copying(pattern, value_logits(v, &unembed).view(), &tokens.to_vec()).map_err(place)?);
            }
            let copied = copying_scores(&copied).map_err(place)?.score;
            for head in 0..engine.config().n_heads {
                rows.push(HeadRow {
                    step,
                    tokens,
                    layer: l,
                    head,
                    prefix_matching: prefix.mean[head],
                    prefix_matching_stderr: prefix.stderr.as_ref().map(|s| s[head]),
                    copying: copied.mean[head],
                    previous_token: previous.mean[head],
                });
            }
        }
        Ok(rows)
    }
}

fn rank4(array: &ndarray::ArrayD<f32>) -> ArrayView4<'_, f32> {
    array.view().into_dimensionality::<Ix4>().expect("patterns and values have rank 4")
}

/// `W_O W_U` of each head of a layer, `[head][d_head, d_vocab]`, with the final layer norm's centring and gain folded in.
fn head_unembeddings(params: &Params, l: usize) -> induction_metrics::Result<Vec<Array2<f32>>> {
    let get = |name: &str| params.get(name).expect("a parameter of the configuration");
    let w_o = get(&format!("blocks.{l}.attn.W_O")).view().into_dimensionality::<Ix3>().expect("rank 3");
    let w_u = get("unembed.W_U").view().into_dimensionality::<Ix2>().expect("rank 2");
    let gain = params.get("ln_final.w").map(|w| w.view().into_dimensionality::<Ix1>().expect("rank 1"));
    w_o.outer_iter().map(|w_o| direct_path_logits(w_o, gain, w_u)).collect()
}

/// `[pos, head, d_head]` values -> `[head, pos, d_vocab]` direct-path logits.
fn value_logits(v: ArrayView3<f32>, unembed: &[Array2<f32>]) -> Array3<f32> {
    let (pos, heads) = (v.len_of(Axis(0)), v.len_of(Axis(1)));
    let mut logits = Array3::zeros((heads, pos, unembed[0].ncols()));
    for (head, (mut out, unembed)) in logits.outer_iter_mut().zip(unembed).enumerate() {
        out.assign(&v.index_axis(Axis(1), head).dot(unembed));
    }
    logits
}

/// Measures every kept snapshot of a run that is not measured yet; tables grow a snapshot at a time, each write whole.
///
/// # Errors
/// A run that is not there or not trained as its spec says, the engine's, the metrics' and the system's;
/// [`Error::Interrupted`] after a signal, with what is measured kept.
pub fn measure(
    spec: &RunSpec,
    source: &Source,
    run: &Path,
    device: Device,
    interrupt: &Interrupt,
    screen: &Screen,
) -> Result<(), Error> {
    let folder = run.join("measurements");
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let mut engine = device.open(&spec.model, &spec.model.init_params(spec.seed)?)?;
    let fresh = Meta {
        measures: MEASURES,
        spec_hash: spec.training_hash(),
        engine: engine.name().to_string(),
        evaluation: spec.evaluation.clone(),
        snapshots: BTreeMap::new(),
    };
    let mut tables = Tables::read(&folder, fresh);
    let steps = spec.snapshot_steps();
    let mut hashes = BTreeMap::new();
    for &step in &steps {
        hashes.insert(step, manifest_hash(&snapshot_folder(run, step))?);
    }
    tables.keep_only(&hashes);
    let missing: Vec<u64> = steps.into_iter().filter(|step| !tables.meta.snapshots.contains_key(step)).collect();
    if missing.is_empty() {
        return Ok(());
    }

    let held_out = source.held_out(spec.evaluation.examples)?;
    let text = inputs(&held_out, spec.evaluation.head_examples);
    let evaluators = Evaluators::new(&spec.evaluation, text, source.bos(), &source.allowed_tokens()?)?;
    let indices = IclIndices {
        early: spec.evaluation.icl_early,
        late: spec.evaluation.icl_late,
        half_width: spec.evaluation.icl_half_width,
    };
    let mut progress = Progress::new(screen, &format!("{}: measuring", spec.name), missing.len() as u64);
    for (done, &step) in missing.iter().enumerate() {
        interrupt.check()?;
        let snapshot = snapshot_folder(run, step);
        let (config, params) = load_model(&snapshot)?;
        if config != spec.model {
            return Err(Error::Input(format!("{}: its config.json is not the spec's model", snapshot.display())));
        }
        let place = |source| Error::Metric { place: snapshot.display().to_string(), source };
        engine.set_params(&params)?;
        let tokens = step * spec.tokens_per_step();
        let losses = engine.losses(held_out.view(), &[])?;
        let by_index = loss_by_index(losses.view()).map_err(place)?;
        let icl = icl_score(losses.view(), &indices).map_err(place)?;
        let loss = by_index.mean().expect("n_ctx is at least 1");
        tables.losses.push(LossRow { step, tokens, loss, loss_by_index: by_index.to_vec() });
        let by_example =
            icl_by_example(losses.view(), &indices).map_err(place)?.into_iter().map(|x| x as f32).collect();
        let stderr = icl.stderr.unwrap_or(0.0);
        tables.icl.push(IclRow { step, tokens, icl_score: icl.score, stderr, by_example });
        let heads = evaluators.heads(engine.as_ref(), &params, step, tokens)?;
        let best = heads.iter().map(|row| row.prefix_matching).fold(0.0, f64::max);
        tables.heads.extend(heads);
        tables.meta.snapshots.insert(step, hashes[&step].clone());
        tables.write(&folder)?;
        progress.at(done as u64 + 1, || {
            format!("step {step}: loss {loss:.3}  ICL {:+.3}  best prefix matching {best:.2}", icl.score)
        });
    }
    progress.finish();
    Ok(())
}

/// The inputs of the first `count` examples, `[count, n_ctx]`.
fn inputs(examples: &Array2<u32>, count: usize) -> Array2<u32> {
    let (first, _) = examples.view().split_at(Axis(0), count.min(examples.nrows()));
    first.split_at(Axis(1), examples.ncols() - 1).0.to_owned()
}

struct Tables {
    meta: Meta,
    losses: Vec<LossRow>,
    icl: Vec<IclRow>,
    heads: Vec<HeadRow>,
}

impl Tables {
    /// The stored tables if they were made as `fresh` says, else empty ones: a table is never mixed from two definitions,
    /// and one that cannot be read is made again from the snapshots.
    fn read(folder: &Path, fresh: Meta) -> Self {
        let empty = Self { meta: fresh.clone(), losses: Vec::new(), icl: Vec::new(), heads: Vec::new() };
        let stored = || -> Option<Self> {
            let meta: Meta = serde_json::from_slice(&fs::read(folder.join(META)).ok()?).ok()?;
            let same = Meta { snapshots: BTreeMap::new(), ..meta.clone() } == fresh;
            let tables = Self {
                meta,
                losses: read_rows(&folder.join(LOSSES))?,
                icl: read_rows(&folder.join(ICL))?,
                heads: read_rows(&folder.join(HEADS))?,
            };
            same.then_some(tables)
        };
        stored().unwrap_or(empty)
    }

    /// Drops what was not measured on exactly these snapshots.
    fn keep_only(&mut self, hashes: &BTreeMap<u64, String>) {
        self.meta.snapshots.retain(|step, hash| hashes.get(step) == Some(hash));
        let kept = &self.meta.snapshots;
        self.losses.retain(|row| kept.contains_key(&row.step));
        self.icl.retain(|row| kept.contains_key(&row.step));
        self.heads.retain(|row| kept.contains_key(&row.step));
    }

    /// The tables first, the list of what they hold last: a kill between them costs one snapshot's measuring.
    fn write(&mut self, folder: &Path) -> Result<(), Error> {
        self.losses.sort_by_key(|row| row.step);
        self.icl.sort_by_key(|row| row.step);
        self.heads.sort_by_key(|row| (row.step, row.layer, row.head));
        write_rows(&folder.join(LOSSES), &self.losses)?;
        write_rows(&folder.join(ICL), &self.icl)?;
        write_rows(&folder.join(HEADS), &self.heads)?;
        let path = folder.join(META);
        let meta = serde_json::to_vec_pretty(&self.meta).expect("plain structs serialize");
        induction_files::write_atomic(&path, &meta).map_err(Error::io(path))
    }
}

fn read_rows<T: DeserializeOwned>(path: &Path) -> Option<Vec<T>> {
    fs::read_to_string(path).ok()?.lines().map(|line| serde_json::from_str(line).ok()).collect()
}

fn write_rows<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), Error> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row).expect("plain structs serialize");
        text.push(b'\n');
    }
    induction_files::write_atomic(path, &text).map_err(Error::io(path))
}
