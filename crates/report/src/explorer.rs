//! What the page's explorer works on: for each model, its heads' maps over training, its losses on
//! the text, its heads' scores. Numbers go into the page packed and compressed; the page unpacks a
//! model when it is looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use induction_records::Downstream;
use miniz_oxide::deflate::compress_to_vec_zlib;
use serde::Serialize;

use crate::experiment::{Experiment, Trained};
use crate::figures::own_window;
use crate::load::{Explored, Maps};

/// Steps between none and all of the attention, and between 0 and a head's largest attribution:
/// what the eye can tell apart. The tables hold finer ones, in three times the bytes.
const ATTENTION_STEPS: f64 = 64.0;
const ATTRIBUTION_STEPS: f64 = 31.0;

/// Higher is slower for little.
const COMPRESSION: u8 = 6;

/// A model to explore.
#[derive(Debug, Serialize)]
pub(crate) struct Model {
    label: String,
    layers: usize,
    heads: usize,
    /// The text's name, and its tokens without the start token.
    text: String,
    tokens: Vec<String>,
    /// Training tokens at each snapshot with losses.
    snapshots: Vec<u64>,
    /// Which of them have maps.
    maps: Vec<usize>,
    window: Option<[f64; 2]>,
    /// Training tokens at each snapshot with head scores, and with heads removed.
    scored: Vec<u64>,
    removed: Vec<u64>,
    /// Every measure of its heads at the last of them, by name.
    measures: Vec<(String, Vec<Option<f64>>)>,
    prompts: Vec<Prompt>,
    arrays: Vec<Array>,
    /// All arrays, one after the other, zlib, base64; stands in the page apart from the rest.
    #[serde(skip)]
    pub(crate) packed: String,
}

#[derive(Debug, Serialize)]
struct Prompt {
    behaviour: String,
    /// The start token first.
    tokens: Vec<String>,
    queries: Vec<(usize, Vec<usize>)>,
}

/// Where an array lies among the unpacked bytes, little-endian, at a multiple of 4.
#[derive(Debug, Serialize)]
struct Array {
    name: String,
    /// `u8`, `i8`, `u16` or `f32`.
    kind: &'static str,
    shape: Vec<usize>,
    at: usize,
}

#[derive(Default)]
struct Bytes {
    arrays: Vec<Array>,
    bytes: Vec<u8>,
}

impl Bytes {
    fn put(
        &mut self,
        name: String,
        kind: &'static str,
        shape: Vec<usize>,
        bytes: impl IntoIterator<Item = u8>,
    ) {
        self.arrays.push(Array { name, kind, shape, at: self.bytes.len() });
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn floats(&mut self, name: &str, shape: Vec<usize>, values: impl IntoIterator<Item = f64>) {
        self.put(
            name.to_string(),
            "f32",
            shape,
            values.into_iter().flat_map(|x| (x as f32).to_le_bytes()),
        );
    }

    /// `[map, head, query, key]`, and the unit `[map, head]`.
    fn maps(&mut self, suffix: &str, maps: &[&Maps]) {
        let Some(first) = maps.first() else { return };
        let (heads, n) = (first.unit.len(), first.positions);
        let shape = vec![maps.len(), heads, n, n];
        let coarse = |x: &u8| (f64::from(*x) / 255.0 * ATTENTION_STEPS).round() as u8;
        let attention = maps.iter().flat_map(|m| m.attention.iter().map(coarse));
        self.put(format!("attention{suffix}"), "u8", shape.clone(), attention);
        let coarse = |x: &i8| (f64::from(*x) / 127.0 * ATTRIBUTION_STEPS).round() as i8 as u8;
        let attribution = maps.iter().flat_map(|m| m.attribution.iter().map(coarse));
        self.put(format!("attribution{suffix}"), "i8", shape, attribution);
        let units = maps
            .iter()
            .flat_map(|m| m.unit.iter().map(|&unit| f64::from(unit) * 127.0 / ATTRIBUTION_STEPS));
        self.floats(&format!("unit{suffix}"), vec![maps.len(), heads], units);
    }
}

/// Every model with a text, and of how many snapshots one with maps is kept. Models of other texts
/// and seeds have the maps of their last snapshot, and no prompts. `limit`: characters that all
/// packed numbers may take; maps of fewer snapshots are kept if they would take more.
pub(crate) fn explorer(experiments: &[Experiment<'_>], limit: usize) -> (Vec<Model>, usize) {
    let Some((lead, others)) = experiments.split_first() else { return (Vec::new(), 1) };
    let mut trained: Vec<(String, &Trained<'_>, bool)> = Vec::new();
    trained.extend(lead.everybody().map(|model| (model.variant.label(), model, true)));
    for other in &lead.elsewhere {
        let on = |model: &Trained<'_>| format!("{}, on {}", model.variant.label(), other.text);
        trained.extend(other.everybody().map(|model| (on(model), model, false)));
    }
    for other in others {
        let of = |model: &Trained<'_>| format!("{}, seed {}", model.variant.label(), other.seed);
        trained.extend(other.everybody().map(|model| (of(model), model, false)));
    }
    let with_text: Vec<_> = trained
        .into_iter()
        .filter_map(|(label, model, leads)| {
            Some((label, model, model.run.explored.as_ref()?, leads))
        })
        .collect();
    let most =
        with_text.iter().map(|(_, _, explored, _)| explored.maps.len()).max().unwrap_or(1).max(1);
    let at = |every: usize| -> Vec<Model> {
        let each = with_text.iter();
        let each = each.map(|(label, model, explored, leads)| {
            describe(label, model, explored, leads.then_some(every))
        });
        each.collect()
    };
    let size = |models: &[Model]| models.iter().map(|model| model.packed.len()).sum::<usize>();
    // Packing all takes seconds, so its size is guessed from one map a model, and from two.
    let (one, two) = (size(&at(most)), size(&at(most.div_ceil(2))));
    let room = limit.saturating_sub(one) as f64 / two.saturating_sub(one).max(1) as f64;
    let mut every = ((most as f64 / (1.0 + room)).ceil() as usize).clamp(1, most);
    loop {
        let models = at(every);
        if size(&models) <= limit || every >= most {
            return (models, every);
        }
        every += 1;
    }
}

fn thousandth(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

/// `every`: one map in so many, counted back from the last; without it only the last, and no
/// prompts.
fn describe(label: &str, model: &Trained<'_>, explored: &Explored, every: Option<usize>) -> Model {
    let (run, spec) = (model.run, &model.run.spec);
    let mut kept: Vec<&(u64, Maps)> =
        explored.maps.iter().rev().step_by(every.unwrap_or(usize::MAX)).collect();
    let prompts: &[_] = if every.is_some() { &explored.prompts } else { &[] };
    kept.reverse();
    let mut bytes = Bytes::default();
    let losses = explored.losses.iter().flat_map(|point| &point.losses);
    // Thousandths of a nat, up to 65.
    let thousandths =
        losses.flat_map(|loss| ((loss * 1000.0).clamp(0.0, 65_535.0).round() as u16).to_le_bytes());
    bytes.put(
        "losses".to_string(),
        "u16",
        vec![explored.losses.len(), explored.tokens.len()],
        thousandths,
    );
    bytes.maps("", &kept.iter().map(|(_, maps)| maps).collect::<Vec<_>>());
    let heads = spec.model.n_layers * spec.model.n_heads;
    let scores: [fn(&crate::HeadScore) -> f64; 3] =
        [|head| head.prefix_matching, |head| head.copying, |head| head.previous_token];
    let mut all = Vec::new();
    for score in scores {
        run.heads.iter().for_each(|point| all.extend(point.rows.iter().map(score)));
    }
    bytes.floats("scores", vec![scores.len(), run.heads.len(), heads], all);
    let removals = run.ablations.iter().flat_map(|point| &point.rows);
    let effects = removals.filter(|removal| removal.downstream == Downstream::PatternPreserving);
    bytes.floats(
        "effects",
        vec![run.ablations.len(), heads],
        effects.map(|removal| removal.same_token_change),
    );
    for (k, prompt) in prompts.iter().enumerate() {
        bytes.maps(&format!(".{k}"), &[&prompt.maps]);
    }
    let place = |step: u64| explored.losses.iter().position(|point| point.step == step);
    Model {
        label: label.to_string(),
        layers: spec.model.n_layers,
        heads: spec.model.n_heads,
        text: explored.text.clone(),
        tokens: explored.tokens.clone(),
        snapshots: explored.losses.iter().map(|point| point.tokens).collect(),
        maps: kept.iter().filter_map(|(step, _)| place(*step)).collect(),
        window: own_window(model),
        scored: run.heads.iter().map(|point| point.tokens).collect(),
        removed: run.ablations.iter().map(|point| point.tokens).collect(),
        measures: run
            .last_measures
            .iter()
            .map(|(name, of)| (name.clone(), of.iter().map(|x| x.map(thousandth)).collect()))
            .collect(),
        prompts: prompts
            .iter()
            .map(|prompt| Prompt {
                behaviour: prompt.behaviour.clone(),
                tokens: prompt.tokens.clone(),
                queries: prompt.queries.clone(),
            })
            .collect(),
        arrays: bytes.arrays,
        packed: STANDARD.encode(compress_to_vec_zlib(&bytes.bytes, COMPRESSION)),
    }
}
