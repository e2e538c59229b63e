//! What the report's reader can explore: the losses of a text's tokens over training, and what every head attends to and
//! adds to the prediction, on that text and on argument 4's prompts (docs/FORMATS.md: maps).

pub(crate) mod prompts;
mod text;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use induction_engine::Engine;
use induction_metrics::{logit_attribution, mean_stderr};
use induction_model::{Hook, Normalization, Params};
use induction_train::{RunSpec, snapshot_folder};
use ndarray::{Array2, Array3, Array4, ArrayD, ArrayView2, ArrayView3, Axis, Ix4};
use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};

use self::{
    prompts::{BEHAVIOURS, Prompt, prompts},
    text::Text,
};
use crate::{
    Error,
    measure::{
        direct::{DirectPath, value_logits},
        tables::{Row, keep, read_rows, write_json, write_rows},
    },
    source::Source,
    stages::{OverSnapshots, RunContext, Snapshot, drive, manifest_hashes, step_file},
    status::Stage,
};

/// Positions of the text that maps are kept of, the start token among them. A page holds the maps of every head of every
/// model at many snapshots, and they grow with the square of this.
pub const MAP_TOKENS: usize = 128;

/// Raised whenever a definition here changes, so that stored maps are made again.
const VERSION: u32 = 2;

/// The same of the prompts alone, which can be put again to a run whose maps cannot be made again.
const PROMPTS_VERSION: u32 = 1;

const META: &str = "explore.json";
const PROMPTS: &str = "prompts.json";

/// `explore.json`: what the maps were made with, and from which snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Meta {
    version: u32,
    /// Not there before there was one.
    #[serde(default)]
    prompts_version: u32,
    spec_hash: String,
    #[serde(deserialize_with = "induction_engine::engine_name")]
    engine: String,
    /// Hash of the text's tokens.
    text: String,
    /// Hash of each snapshot's manifest, by step.
    snapshots: BTreeMap<u64, String>,
    /// That of the snapshot that the prompts were put to.
    prompts: Option<String>,
}

/// A line of `text.jsonl`: the loss of each token of the text (`text.json`), from the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TextRow {
    step: u64,
    tokens: u64,
    losses: Vec<f32>,
}

impl Row for TextRow {
    const FILE: &'static str = "text.jsonl";

    fn key(&self) -> [u64; 6] {
        [self.step, 0, 0, 0, 0, 0]
    }
}

/// A line of `prompts.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PromptRow {
    step: u64,
    tokens: u64,
    #[serde(flatten)]
    behaviour: Behaviour,
}

/// A head on the prompts of one behaviour, each share the mean over prompts of the mean over their queries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Behaviour {
    /// `literal copying`, `translation` or `pattern matching`.
    pub behaviour: String,
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// Of the query's attention, what goes to right positions.
    pub share: f64,
    /// Over prompts; nothing of one.
    pub share_stderr: Option<f64>,
    /// The same with attention spread evenly over all earlier positions.
    pub chance: f64,
    /// Of the attention on positions of the right kind, what goes to right ones.
    pub share_among: f64,
    /// Over prompts; nothing of one.
    pub share_among_stderr: Option<f64>,
    /// The same with attention spread evenly over them.
    pub chance_among: f64,
    /// The same with attention spread over them by how many tokens the words before them share with the words before the
    /// query (evenly where none shares any): what copying literally would reach, without any pattern. Nothing but for
    /// `pattern matching`, whose answer literal copying can guess.
    pub literal_share_among: Option<f64>,
    /// How many positions are judged, over all prompts.
    pub queries: usize,
    /// What the head adds to the right token's logit through right positions, in nats.
    pub attribution: f64,
    /// What it adds to it through all positions.
    pub attribution_total: f64,
}

impl Row for PromptRow {
    const FILE: &'static str = "prompts.jsonl";

    fn key(&self) -> [u64; 6] {
        let behaviour =
            BEHAVIOURS.iter().position(|name| *name == self.behaviour.behaviour).unwrap_or(BEHAVIOURS.len());
        [self.step, behaviour as u64, self.behaviour.layer as u64, self.behaviour.head as u64, 0, 0]
    }
}

/// What the heads of a model do on some tokens.
pub(crate) struct Maps {
    /// `[layer, head, query, key]`, rows sum to 1.
    pub(crate) attention: Array4<f32>,
    /// `[layer, head, query, key]`: what each source adds to the logit of the token after the query, in nats, its mean
    /// over the vocabulary taken off (paper.md, 3: logit attribution).
    attribution: Array4<f32>,
}

impl Maps {
    /// `tokens` begins with the start token and ends with the target of the last query: one more than there are queries.
    fn of(engine: &dyn Engine, params: &Params, tokens: &[u32], place: &str) -> Result<Self, Error> {
        let failed = |source| Error::Metric { place: place.to_string(), source };
        let config = engine.config();
        let (inputs, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
        let input = Array2::from_shape_vec((1, inputs.len()), inputs.to_vec()).expect("one row");
        let layers = 0..config.n_layers;
        let last = Hook::ResidPost(config.n_layers - 1);
        let hooks: Vec<Hook> = layers.clone().flat_map(|l| [Hook::Pattern(l), Hook::V(l)]).chain([last]).collect();
        let seen = engine.activations(input.view(), &hooks, &[])?;
        let one = |hook: Hook| rank4(&seen[&hook]).index_axis_move(Axis(0), 0);
        // The final norm divides by this.
        let residual = seen[&last].index_axis(Axis(0), 0);
        let row_scale = |row: ndarray::ArrayViewD<'_, f32>| {
            let wide = row.mapv(f64::from);
            match config.normalization {
                Normalization::LN => (wide.var(0.0) + config.layer_norm_eps).sqrt(),
                Normalization::RMS => (wide.mapv(|x| x * x).mean().unwrap_or(0.0) + config.layer_norm_eps).sqrt(),
                Normalization::None => 1.0,
            }
        };
        let scales: Vec<f64> = residual.outer_iter().map(row_scale).collect();
        let direct = DirectPath::new(config, params, targets.iter().copied());
        let targets = direct.rename(ArrayView2::from_shape((1, targets.len()), targets).expect("one row"));
        let targets = targets.as_slice().expect("one row");
        let shape = (config.n_layers, config.n_heads, inputs.len(), inputs.len());
        let mut maps = Self { attention: Array4::zeros(shape), attribution: Array4::zeros(shape) };
        for l in layers {
            let (pattern, values) = (one(Hook::Pattern(l)), one(Hook::V(l)));
            let logits = value_logits(values.view(), &direct.of_layer(params, l).map_err(failed)?);
            let mut raised = logit_attribution(pattern.view(), logits.view(), targets).map_err(failed)?;
            for (mut query, scale) in raised.axis_iter_mut(Axis(1)).zip(&scales) {
                query /= *scale;
            }
            maps.attention.index_axis_mut(Axis(0), l).assign(&pattern);
            maps.attribution.index_axis_mut(Axis(0), l).assign(&raised.mapv(|x| x as f32));
        }
        Ok(maps)
    }
}

fn rank4(array: &ArrayD<f32>) -> Array4<f32> {
    array.view().into_dimensionality::<Ix4>().expect("patterns and values have rank 4").to_owned()
}

/// One file of maps: attention in 255ths; attribution in 127ths of its head's largest, which lies beside it.
fn write_maps<'a>(path: &Path, all: impl Iterator<Item = (String, &'a Maps)>) -> Result<(), Error> {
    let mut arrays: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (suffix, maps) in all {
        let (shape, (layers, heads, ..)) = (maps.attention.shape().to_vec(), maps.attention.dim());
        let attention = maps.attention.iter().map(|a| (a.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
        arrays.push((format!("attention{suffix}"), Dtype::U8, shape.clone(), attention));
        let (mut attribution, mut scales) = (Vec::with_capacity(maps.attribution.len()), Vec::new());
        for head in
            maps.attribution.outer_iter().flat_map(|layer| layer.outer_iter().map(|h| h.to_owned()).collect::<Vec<_>>())
        {
            let largest = head.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let unit = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            attribution.extend(head.iter().map(|x| (x / unit).round() as i8 as u8));
            scales.extend(unit.to_le_bytes());
        }
        arrays.push((format!("attribution{suffix}"), Dtype::I8, shape, attribution));
        arrays.push((format!("attribution_unit{suffix}"), Dtype::F32, vec![layers, heads], scales));
    }
    let views = arrays.iter().map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("bytes were made from this shape"))
    });
    let file = safetensors::serialize(views, None).expect("names are unique and sizes fit");
    induction_files::write_atomic(path, &file).map_err(Error::io(path))
}

/// Follows a text over every kept snapshot whose weights are there, keeps every head's maps at those whose weights will
/// stay, and puts the prompts to the last one. `text`: a file; without one the last text, or a held-out example.
///
/// # Errors
/// A text that cannot be used, a run that another process works on, the engine's, the metrics' and the system's;
/// [`Error::Interrupted`] after a signal.
/// Whatever the error, what is done is kept.
pub fn explore(context: &RunContext<'_>, text: Option<&Path>) -> Result<(), Error> {
    let RunContext { spec, source, run, .. } = context;
    let folder = context.measurements();
    let maps = context.measurements_in("maps")?;
    let lease = context.lease()?;
    let mut engine = context.engine()?;
    let text = Text::open(text, &folder, source, spec.model.n_ctx)?;
    let left = left(spec, run, &text, engine.name())?;
    if left.missing.is_empty() && left.asked {
        return Ok(());
    }
    let mut exploring = Exploring { context, text, left, folder, maps };
    if exploring.left.meta.snapshots.is_empty() {
        // Another text's maps would be taken for this one's.
        exploring.remove_maps()?;
        exploring.left.meta.prompts = None;
        exploring.write()?;
    }
    exploring.text.write(&exploring.folder, source)?;
    let left = &exploring.left;
    let last = (!left.asked || left.meta.prompts.is_none()).then_some(left.last);
    let missing = left.missing.clone();
    drive(context, &lease, engine.as_mut(), Stage::Exploring, &missing, last, &mut exploring)
}

/// The stage in work.
struct Exploring<'a> {
    context: &'a RunContext<'a>,
    text: Text,
    left: Left,
    folder: PathBuf,
    maps: PathBuf,
}

impl Exploring<'_> {
    fn remove_maps(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.maps).map_err(Error::io(&self.maps))? {
            let path = entry.map_err(Error::io(&self.maps))?.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                induction_files::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }
}

impl OverSnapshots for Exploring<'_> {
    fn snapshot(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let losses = at.engine.losses(self.text.tokens.view(), &[])?.iter().copied().collect();
        self.left.rows.push(TextRow { step: at.step, tokens: at.tokens, losses });
        at.lease.check()?;
        if self.context.spec.weight_steps().contains(&at.step) {
            let tokens: Vec<u32> = self.text.tokens.iter().take(MAP_TOKENS + 1).copied().collect();
            let found = Maps::of(at.engine, at.params, &tokens, &format!("step {}", at.step))?;
            write_maps(&self.maps.join(step_file(at.step)), [(String::new(), &found)].into_iter())?;
        }
        self.left.meta.snapshots.insert(at.step, self.left.hashes[&at.step].clone());
        Ok(())
    }

    fn last(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let n_ctx = self.context.spec.model.n_ctx;
        let prompts = self.context.source.tokenizer().map_or_else(Vec::new, |tokenizer| prompts(tokenizer, n_ctx));
        at.lease.check()?;
        ask(at.engine, at.params, &prompts, &self.folder, at.step, at.tokens)?;
        self.left.meta.prompts = self.left.hashes.get(&at.step).cloned();
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        write_rows(&self.folder, &mut self.left.rows)?;
        write_json(&self.folder.join(META), &self.left.meta)
    }
}

/// What of a run is explored, and what is not.
struct Left {
    meta: Meta,
    rows: Vec<TextRow>,
    /// Of every kept snapshot's manifest.
    hashes: BTreeMap<u64, String>,
    /// The last snapshot's step.
    last: u64,
    missing: Vec<u64>,
    /// Whether the prompts were put to it.
    asked: bool,
}

fn left(spec: &RunSpec, run: &Path, text: &Text, engine: &str) -> Result<Left, Error> {
    let folder = run.join("measurements");
    let fresh = Meta {
        version: VERSION,
        prompts_version: PROMPTS_VERSION,
        spec_hash: spec.training_hash(),
        engine: engine.to_string(),
        text: text.hash(),
        snapshots: BTreeMap::new(),
        prompts: None,
    };
    let (mut meta, mut rows) = stored(&folder, &fresh).unwrap_or((fresh, Vec::new()));
    let (steps, mapped) = (spec.snapshot_steps(), spec.weight_steps());
    let hashes = manifest_hashes(run, &steps)?;
    let complete = |step: &u64| !mapped.contains(step) || folder.join("maps").join(step_file(*step)).exists();
    meta.snapshots.retain(|step, hash| hashes.get(step) == Some(hash) && complete(step));
    keep(&mut rows, &meta.snapshots);
    // Of the others the weights may be gone: they have been thinned.
    let there = |step: &u64| snapshot_folder(run, *step).join("model.safetensors").exists();
    let missing = steps.iter().copied().filter(|step| !meta.snapshots.contains_key(step) && there(step)).collect();
    let last = steps[steps.len() - 1];
    let asked = meta.prompts.as_ref() == hashes.get(&last)
        && [text::FILE, PROMPTS, PromptRow::FILE, "maps/prompts.safetensors"]
            .iter()
            .all(|name| folder.join(name).exists());
    Ok(Left { meta, rows, hashes, last, missing, asked })
}

/// Whether [`explore`] of the last text with that engine would find nothing to do.
pub(crate) fn is_done(spec: &RunSpec, source: &Source, run: &Path, engine: &str) -> bool {
    Text::open(None, &run.join("measurements"), source, spec.model.n_ctx)
        .and_then(|text| left(spec, run, &text, engine))
        .is_ok_and(|left| left.missing.is_empty() && left.asked)
}

/// The table that is there, if it was made as `fresh` says.
fn stored(folder: &Path, fresh: &Meta) -> Option<(Meta, Vec<TextRow>)> {
    let mut meta: Meta = serde_json::from_slice(&fs::read(folder.join(META)).ok()?).ok()?;
    if meta.prompts_version != fresh.prompts_version {
        meta.prompts_version = fresh.prompts_version;
        meta.prompts = None;
    }
    let same = Meta { snapshots: BTreeMap::new(), prompts: None, ..meta.clone() } == *fresh;
    same.then_some((meta, read_rows(folder)?))
}

/// `prompts.json`, `prompts.jsonl` and the maps of the first prompt of each behaviour.
fn ask(
    engine: &dyn Engine,
    params: &Params,
    prompts: &[Prompt],
    folder: &Path,
    step: u64,
    tokens: u64,
) -> Result<(), Error> {
    let Answers { behaviours, shown } = answers(engine, params, prompts)?;
    let mut rows: Vec<PromptRow> =
        behaviours.into_iter().map(|behaviour| PromptRow { step, tokens, behaviour }).collect();
    let maps = shown.iter().map(|(prompt, maps)| (format!(".{}", prompt.behaviour.replace(' ', "_")), maps));
    write_maps(&folder.join("maps/prompts.safetensors"), maps)?;
    let prompts: Vec<&Prompt> = shown.iter().map(|(prompt, _)| prompt).collect();
    write_json(&folder.join(PROMPTS), &prompts)?;
    write_rows(folder, &mut rows)
}

/// What a model's heads do on prompts.
pub(crate) struct Answers {
    /// Every head on every behaviour.
    pub(crate) behaviours: Vec<Behaviour>,
    /// The first prompt of each behaviour.
    pub(crate) shown: Vec<(Prompt, Maps)>,
}

/// Puts prompts to a model.
pub(crate) fn answers(engine: &dyn Engine, params: &Params, prompts: &[Prompt]) -> Result<Answers, Error> {
    let mut answers = Answers { behaviours: Vec::new(), shown: Vec::new() };
    for behaviour in BEHAVIOURS {
        let of: Vec<&Prompt> = prompts.iter().filter(|prompt| prompt.behaviour == behaviour).collect();
        let mut scores: Vec<Array3<f64>> = Vec::new();
        for &prompt in &of {
            let maps = Maps::of(engine, params, &prompt.ids, behaviour)?;
            scores.push(prompt_scores(prompt, &maps));
            if scores.len() == 1 {
                answers.shown.push((prompt.clone(), maps));
            }
        }
        answers.behaviours.extend(behaviours(behaviour, &of, &scores));
    }
    Ok(answers)
}

/// Every head on the prompts of one behaviour, from [`prompt_scores`] of each.
fn behaviours(behaviour: &str, prompts: &[&Prompt], scores: &[Array3<f64>]) -> Vec<Behaviour> {
    let Some(one) = scores.first() else { return Vec::new() };
    let (layers, heads, _) = one.dim();
    let queries = prompts.iter().map(|prompt| prompt.asked().count()).sum();
    let literal = |prompt: &&Prompt| {
        let shares: Vec<f64> = prompt.asked().map(|query| query.literal).collect::<Option<_>>()?;
        (!shares.is_empty()).then(|| mean_stderr(&shares).0)
    };
    let literal: Option<Vec<f64>> = prompts.iter().map(literal).collect();
    let all = (0..layers).flat_map(|l| (0..heads).map(move |h| (l, h)));
    all.map(|(layer, head)| {
        let over = |k: usize| mean_stderr(&scores.iter().map(|scores| scores[[layer, head, k]]).collect::<Vec<f64>>());
        let ((share, share_stderr), (share_among, share_among_stderr)) = (over(0), over(2));
        Behaviour {
            behaviour: behaviour.to_string(),
            layer,
            head,
            share,
            share_stderr,
            chance: over(1).0,
            share_among,
            share_among_stderr,
            chance_among: over(3).0,
            literal_share_among: literal.as_deref().map(|shares| mean_stderr(shares).0),
            queries,
            attribution: over(4).0,
            attribution_total: over(5).0,
        }
    })
    .collect()
}

/// `[layer, head, score]`: share, its chance, share among, its chance, attribution through the targets, and in all; each
/// a mean over the queries of one prompt.
fn prompt_scores(prompt: &Prompt, maps: &Maps) -> Array3<f64> {
    let (layers, heads, ..) = maps.attention.dim();
    let queries: Vec<_> = prompt.asked().collect();
    let n = queries.len().max(1) as f64;
    let mut scores = Array3::zeros((layers, heads, 6));
    for (l, h) in (0..layers).flat_map(|l| (0..heads).map(move |h| (l, h))) {
        let sum = |map: ArrayView3<f32>, at: usize, keys: &[usize]| -> f64 {
            keys.iter().map(|&key| f64::from(map[[h, at, key]])).sum()
        };
        let (attention, attribution) = (maps.attention.index_axis(Axis(0), l), maps.attribution.index_axis(Axis(0), l));
        for query in &queries {
            let (right, kind) = (sum(attention, query.at, &query.targets), sum(attention, query.at, &query.among));
            let all: Vec<usize> = (0..=query.at).collect();
            let of = |part: usize, whole: usize| part as f64 / whole as f64;
            let each = [
                right,
                of(query.targets.len(), all.len()),
                if kind > 0.0 { right / kind } else { of(query.targets.len(), query.among.len()) },
                of(query.targets.len(), query.among.len()),
                sum(attribution, query.at, &query.targets),
                sum(attribution, query.at, &all),
            ];
            for (k, value) in each.into_iter().enumerate() {
                scores[[l, h, k]] += value / n;
            }
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use induction_model::ModelConfig;
    use induction_tokenizer::{BpeTokenizer, Document, Tokenizer};
    use ndarray::Ix2;

    use super::*;
    use crate::device::Device;

    #[test]
    fn attribution_and_the_direct_path_make_the_logits() {
        for normalization in [Normalization::LN, Normalization::RMS, Normalization::None] {
            let config = ModelConfig {
                n_layers: 2,
                d_model: 16,
                n_heads: 2,
                d_head: 8,
                n_ctx: 12,
                d_vocab: 20,
                normalization,
                ..ModelConfig::default()
            };
            let mut params = config.init_params(1).unwrap();
            // As initialised, heads add next to nothing.
            let names: Vec<String> = params.iter().map(|(name, _)| name.to_string()).collect();
            for name in names.iter().filter(|name| name.contains(".W_")) {
                *params.get_mut(name).unwrap() *= 8.0;
            }
            let engine = Device::Cpu.open(&config, &params).unwrap();
            let tokens: Vec<u32> = (0..13).map(|i| (i * 7 + i * i) % 20).collect();
            let maps = Maps::of(engine.as_ref(), &params, &tokens, "test").unwrap();
            let input = Array2::from_shape_vec((1, 12), tokens[..12].to_vec()).unwrap();
            let logits = engine.logits(input.view(), &[]).unwrap();
            let last = Hook::ResidPost(1);
            let seen = engine.activations(input.view(), &[Hook::Embed, last], &[]).unwrap();
            let w_u = params.get("unembed.W_U").unwrap().view().into_dimensionality::<Ix2>().unwrap().mapv(f64::from);
            for at in 0..12 {
                let row = |hook: Hook| seen[&hook].index_axis(Axis(0), 0).index_axis(Axis(0), at).mapv(f64::from);
                let (embed, residual) = (row(Hook::Embed), row(last));
                let direct = match normalization {
                    Normalization::LN => {
                        let scale = (residual.var(0.0) + config.layer_norm_eps).sqrt();
                        (&embed - embed.mean().unwrap()) / scale
                    }
                    Normalization::RMS => {
                        let squares = residual.mapv(|x| x * x).mean().unwrap();
                        &embed / (squares + config.layer_norm_eps).sqrt()
                    }
                    Normalization::None => embed,
                };
                let direct = direct.into_dimensionality::<ndarray::Ix1>().unwrap().dot(&w_u);
                let target = tokens[at + 1] as usize;
                let centred = |row: &ndarray::Array1<f64>| row[target] - row.mean().unwrap();
                let found: f64 = maps.attribution.index_axis(Axis(2), at).iter().map(|&x| f64::from(x)).sum();
                let logits = logits.index_axis(Axis(0), 0).index_axis(Axis(0), at).mapv(f64::from).to_owned();
                let expected = centred(&logits) - centred(&direct);
                assert!(found.abs() > 1e-3 || at == 0, "{found}");
                assert!((found - expected).abs() < 1e-4 * (1.0 + found.abs()), "{at}: {found} instead of {expected}");
                let attended: f32 = maps.attention.index_axis(Axis(2), at).sum();
                assert!((attended - 4.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn shares_and_chances_are_counted() {
        let mut attention = Array4::zeros((1, 1, 4, 4));
        for (at, row) in [[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.2, 0.3, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4]]
            .into_iter()
            .enumerate()
        {
            row.into_iter().enumerate().for_each(|(key, share)| attention[[0, 0, at, key]] = share);
        }
        let maps = Maps { attribution: attention.mapv(|x| 2.0 * x), attention };
        let query = |at, targets: &[usize], among: &[usize]| prompts::Query {
            at,
            targets: targets.to_vec(),
            among: among.to_vec(),
            literal: None,
        };
        let prompt = Prompt {
            behaviour: String::new(),
            ids: vec![0; 5],
            tokens: vec![String::new(); 5],
            // The last one is behind the last target and not asked.
            queries: vec![query(2, &[1], &[1, 2]), query(3, &[1, 2], &[0, 1, 2]), query(4, &[1], &[1])],
        };
        let scores = prompt_scores(&prompt, &maps);
        let expected = [
            (0.3 + 0.5) / 2.0,
            (1.0 / 3.0 + 2.0 / 4.0) / 2.0,
            (0.3 / 0.8 + 0.5 / 0.6) / 2.0,
            (1.0 / 2.0 + 2.0 / 3.0) / 2.0,
            (0.6 + 1.0) / 2.0,
            2.0,
        ];
        for (k, expected) in expected.into_iter().enumerate() {
            assert!((scores[[0, 0, k]] - expected).abs() < 1e-6, "{k}: {scores}");
        }
    }

    /// A head whose attention from each judged position is `on(query)`, `[key]`.
    fn head(prompt: &Prompt, on: &dyn Fn(&prompts::Query) -> Vec<f32>) -> Maps {
        let positions = prompt.ids.len() - 1;
        let mut attention = Array4::zeros((1, 1, positions, positions));
        for query in prompt.asked() {
            for (key, share) in on(query).into_iter().enumerate().take(query.at + 1) {
                attention[[0, 0, query.at, key]] = share;
            }
        }
        Maps { attribution: attention.clone(), attention }
    }

    fn as_found(all: &[Prompt], on: &dyn Fn(&Prompt, &prompts::Query) -> Vec<f32>) -> Behaviour {
        let all: Vec<&Prompt> = all.iter().filter(|prompt| prompt.behaviour == "pattern matching").collect();
        let scores: Vec<Array3<f64>> =
            all.iter().map(|prompt| prompt_scores(prompt, &head(prompt, &|query| on(prompt, query)))).collect();
        behaviours("pattern matching", &all, &scores).remove(0)
    }

    /// A tokenizer of pieces of words, so that different words share some.
    #[test]
    fn a_literal_head_scores_its_baseline_and_a_pattern_matching_head_everything() {
        let text = "january april august purple yellow monkey lizard strawberry pineapple cherry:0\n".repeat(20);
        let tokenizer = BpeTokenizer::train(&[Document { id: "a".to_string(), text }], 275).unwrap();
        let all = prompts(&tokenizer, 512);
        let matching = as_found(&all, &|prompt, query| {
            let share = 1.0 / query.targets.len() as f32;
            (0..prompt.ids.len()).map(|key| if query.targets.contains(&key) { share } else { 0.0 }).collect()
        });
        assert!((matching.share - 1.0).abs() < 1e-6 && (matching.share_among - 1.0).abs() < 1e-6, "{matching:?}");

        // Reads the tokens of a prompt as they stand there: those of the words of each line, and the place of its digit.
        let copying = as_found(&all, &|prompt, query| {
            let bytes = |k: usize| tokenizer.token_bytes(prompt.ids[k]).unwrap();
            let (mut lines, mut words) = (Vec::new(), Vec::new());
            for k in 1..=query.at + 1 {
                match bytes(k) {
                    b":" => {}
                    b"\n" => words.clear(),
                    [digit] if digit.is_ascii_digit() => lines.push((k, words.clone())),
                    token if token.trim_ascii().is_empty() => {}
                    _ if !words.contains(&prompt.ids[k]) => words.push(prompt.ids[k]),
                    _ => {}
                }
            }
            let (asked, own) = lines.pop().unwrap();
            assert_eq!(asked, query.at + 1);
            assert_eq!(lines.iter().map(|(k, _)| *k).collect::<Vec<_>>(), query.among);
            let shared: Vec<usize> =
                lines.iter().map(|(_, words)| words.iter().filter(|id| own.contains(id)).count()).collect();
            let nothing = shared.iter().all(|&count| count == 0);
            // Half of its attention rests at the start: that is not among the digits.
            let mut on = vec![0.0; prompt.ids.len()];
            on[0] = 0.5;
            for ((k, _), &count) in lines.iter().zip(&shared) {
                let of =
                    if nothing { 1.0 / lines.len() as f32 } else { count as f32 / shared.iter().sum::<usize>() as f32 };
                on[*k] = 0.5 * of;
            }
            on
        });
        let baseline = copying.literal_share_among.unwrap();
        assert!((copying.share_among - baseline).abs() < 1e-6, "{copying:?}");
        assert_eq!(matching.literal_share_among, Some(baseline), "no matter of the head");
        assert!((baseline - copying.chance_among).abs() > 1e-3, "pieces of words are shared: {copying:?}");
        assert!(baseline < 0.5 && copying.queries > 64 && copying.queries == matching.queries, "{copying:?}");
    }
}
