//! What the heads of a model do: every measure of a head, by its name.
//!
//! [`MEASURES`] is the registry of those taken from activations: a new one is a function and a line
//! there, and comes out in `heads.jsonl` with its standard error.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use induction_engine::{Engine, Sight, Watched};
use induction_metrics::{
    Circuits, CopyingSample, DetectionPattern, DetectorOptions, HeadScores, PrefixMatchingSample,
    Role, RoleScores, RoleThresholds, attribution_scores, copying, detect_heads, duplicate_token,
    prefix_matching, prefix_matching_literal, previous_token, role, start_token,
};
use induction_model::{Clamps, Hook, Params, ReadParams};
use induction_records::{EvaluationSpec, HeadRow, NamedScores};
use ndarray::{
    Array2, Array3, ArrayD, ArrayView2, ArrayView3, ArrayView4, ArrayViewD, Axis, Ix4, Slice,
    concatenate,
};

use super::{
    direct::{DirectPath, value_logits},
    weights as of_weights,
};
use crate::{Error, source::EVALUATION_SEED};

/// Examples of the paper's evaluators (paper.md, 3); the first of ours, whose mean is given beside
/// that of all.
const PAPER_EXAMPLES: usize = 10;

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

/// Which tokens a measure is taken on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sample {
    /// Text.
    Text,
    /// Random tokens, repeated.
    Repeated,
    /// The paper's ten examples of them, for what costs as much as all else on all of them.
    FewRepeated,
    /// Random tokens that do not repeat.
    Random,
}

/// What the measures of one layer see of some examples.
struct LayerView<'a> {
    /// `[example, pos]`.
    tokens: ArrayView2<'a, u32>,
    prefix: PrefixMatchingSample,
    /// `[example, head, query, key]`.
    pattern: ArrayView4<'a, f32>,
    /// `[example, pos, head, d_head]`; empty on text and on all repeated tokens, where nothing asks
    /// for them.
    values: ArrayView4<'a, f32>,
    /// What takes a head's values to the logits, `[head][d_head, column]`.
    unembed: &'a [Array2<f32>],
    clamps: &'a Clamps,
    layer: usize,
    /// Tokens of the model, of which not all need have a column.
    d_vocab: usize,
}

impl LayerView<'_> {
    /// What a head would raise by attending to each position, `[head, pos, column]`, from the values
    /// of one example. Of one that a clamp makes copy, or makes silent, that is what it does instead
    /// of what its weights would.
    fn logits(&self, values: ArrayView3<'_, f32>, tokens: &[u32]) -> Array3<f32> {
        let mut logits = value_logits(values, self.unembed);
        for (head, mut logits) in logits.outer_iter_mut().enumerate() {
            if self.clamps.silent(self.layer, head) {
                logits.fill(0.0);
            }
            if self.clamps.copies(self.layer, head) {
                let gain = (self.d_vocab as f32).ln();
                for (mut row, &token) in logits.outer_iter_mut().zip(tokens) {
                    row[token as usize] = gain;
                    // Columns of some tokens alone are less the mean over all, and end with what
                    // makes their sum zero.
                    if row.len() < self.d_vocab {
                        let last = row.len() - 1;
                        row -= gain / self.d_vocab as f32;
                        row[last] -= row.sum();
                    }
                }
            }
        }
        logits
    }
}

/// A function that gives as many tables `[example, head]` as there are names.
struct Measure {
    sample: Sample,
    names: &'static [&'static str],
    take: Take,
}

type Take = fn(&LayerView<'_>) -> induction_metrics::Result<Vec<Array2<f64>>>;

const fn on(sample: Sample, names: &'static [&'static str], take: Take) -> Measure {
    Measure { sample, names, take }
}

const MEASURES: &[Measure] = &[
    on(Sample::Text, &["previous_token", "start_token"], |seen| {
        Ok(vec![previous_token(seen.pattern)?, start_token(seen.pattern)?])
    }),
    on(Sample::Repeated, &["prefix_matching", "prefix_matching_literal"], |seen| {
        let follows = prefix_matching(seen.pattern, seen.tokens, seen.prefix)?;
        Ok(vec![follows, prefix_matching_literal(seen.pattern, seen.tokens, seen.prefix)?])
    }),
    on(Sample::Repeated, &["duplicate_token"], |seen| {
        Ok(vec![duplicate_token(seen.pattern, seen.tokens, seen.prefix)?])
    }),
    on(
        Sample::Repeated,
        &[
            "previous_token_head_mul",
            "previous_token_head_abs",
            "duplicate_token_head_mul",
            "duplicate_token_head_abs",
            "induction_head_mul",
            "induction_head_abs",
        ],
        detector_tables,
    ),
    on(Sample::FewRepeated, &["attribution_matched", "attribution_other"], |seen| {
        by_example(seen, |pattern, logits, tokens| {
            let found = attribution_scores(pattern, logits, tokens, seen.prefix)?;
            Ok(found.iter().map(|head| [head.matched, head.other]).collect())
        })
    }),
    on(Sample::Random, &["copying", "copying_simple"], |seen| {
        by_example(seen, |pattern, logits, tokens| {
            let found = copying(pattern, logits, tokens)?;
            Ok(found.iter().map(|head| [head.score(), head.simple_score()]).collect())
        })
    }),
];

/// Whether a head's scores have every measure of today, from activations and from weights, and none
/// that is no more.
pub(super) fn is_current(scores: &NamedScores) -> bool {
    let names = scores.keys().map(String::as_str);
    // Of a measure from activations there is the mean over ten examples, too.
    let found: BTreeSet<&str> = names.clone().filter_map(|name| name.strip_suffix("_10")).collect();
    // What heads do by cause is there where the context and the vocabulary hold its prompts.
    let by_cause =
        |name: &str| super::CAUSES.iter().any(|of| [of.score(), of.nats()].contains(&name));
    let extra = |name: &str| name.ends_with("_stderr") || name.ends_with("_10") || by_cause(name);
    let of_weights = names.filter(|name| !extra(name) && !found.contains(name));
    found == MEASURES.iter().flat_map(|measure| measure.names).copied().collect()
        && of_weights.collect::<BTreeSet<_>>()
            == of_weights::MEASURES.iter().map(|measure| measure.name).collect()
}

/// Two tables from what `take` says of each head, example by example, from pattern, direct-path
/// logits and tokens.
fn by_example(
    seen: &LayerView<'_>,
    take: impl Fn(ArrayView3<f32>, ArrayView3<f32>, &[u32]) -> induction_metrics::Result<Vec<[f64; 2]>>,
) -> induction_metrics::Result<Vec<Array2<f64>>> {
    let mut tables = vec![Array2::zeros((seen.tokens.nrows(), seen.unembed.len())); 2];
    let examples = seen.pattern.outer_iter().zip(seen.values.outer_iter()).zip(seen.tokens.rows());
    for (example, ((pattern, values), tokens)) in examples.enumerate() {
        let tokens = tokens.to_vec();
        let logits = seen.logits(values, &tokens);
        for (head, scores) in take(pattern, logits.view(), &tokens)?.into_iter().enumerate() {
            tables.iter_mut().zip(scores).for_each(|(table, score)| table[[example, head]] = score);
        }
    }
    Ok(tables)
}

fn detector_tables(seen: &LayerView<'_>) -> induction_metrics::Result<Vec<Array2<f64>>> {
    let mut tables = Vec::new();
    for kind in DetectionPattern::ALL {
        let found = detect_heads(seen.pattern, seen.tokens, kind, DetectorOptions::default())?;
        tables.extend([found.mul, found.abs]);
    }
    Ok(tables)
}

impl Evaluators {
    /// Draws the random tokens from `allowed`.
    ///
    /// # Errors
    /// Fewer allowed tokens than a block needs.
    pub fn new(
        evaluation: &EvaluationSpec,
        text: Array2<u32>,
        bos: u32,
        allowed: &[u32],
    ) -> Result<Self, Error> {
        let place = |source| Error::Metric { place: "evaluator tokens".into(), source };
        let examples = evaluation.head_examples;
        let prefix = PrefixMatchingSample {
            block: evaluation.prefix_block,
            repeats: evaluation.prefix_repeats,
        };
        let repeated = prefix.batch(EVALUATION_SEED, examples, bos, allowed).map_err(place)?;
        let sample = CopyingSample { length: evaluation.prefix_block };
        let random = sample.batch(EVALUATION_SEED, examples, allowed).map_err(place)?;
        Ok(Self { text, prefix, repeated, random })
    }

    /// The highest prefix-matching score of any head.
    ///
    /// # Errors
    /// The engine's and the metrics'.
    pub fn best_prefix_matching(&self, engine: &dyn Engine) -> Result<f64, Error> {
        let place = |source| Error::Metric { place: "prefix matching".into(), source };
        let hooks: Vec<Hook> = (0..engine.config().n_layers).map(Hook::Pattern).collect();
        let seen = engine.activations(self.repeated.view(), &hooks, &[])?;
        let mut best = 0.0f64;
        for hook in &hooks {
            let scores =
                prefix_matching(rank4(seen[hook].view()), self.repeated.view(), self.prefix)
                    .map_err(place)?;
            let mean = scores.mean_axis(Axis(0)).expect("there are examples");
            best = mean.into_iter().fold(best, f64::max);
        }
        Ok(best)
    }

    /// Every measure of every head; those from the weights alone only with `circuits`, which come
    /// with all of the model's parameters.
    ///
    /// # Errors
    /// The engine's, the weights' and the metrics'.
    pub fn heads(
        &self,
        engine: &dyn Engine,
        weights: &dyn ReadParams,
        circuits: Option<(&Circuits, &Params)>,
        step: u64,
        tokens: u64,
    ) -> Result<Vec<HeadRow>, Error> {
        let place = |source| Error::Metric { place: format!("step {step}"), source };
        let config = engine.config();
        let activation_scores = self.of_activations(engine, weights, place)?;
        let previous: Vec<Vec<f64>> = activation_scores
            .iter()
            .map(|scores| {
                scores["previous_token"].iter().map(|score| score.unwrap_or_default()).collect()
            })
            .collect();
        let weight_scores = match circuits {
            Some((circuits, params)) => {
                of_weights::scores(config, params, circuits, &previous).map_err(place)?
            }
            None => vec![vec![Vec::new(); config.n_heads]; config.n_layers],
        };

        let limits = match circuits {
            Some((_, params)) => RoleThresholds::for_ceiling(
                &of_weights::ceiling(config, params, self.random.view()).map_err(place)?,
            ),
            None => RoleThresholds::default(),
        };
        let mut rows = Vec::new();
        for (layer, columns) in activation_scores.iter().enumerate() {
            for head in 0..config.n_heads {
                let mut scores: BTreeMap<String, Option<f64>> =
                    columns.iter().map(|(name, column)| (name.clone(), column[head])).collect();
                scores.extend(
                    weight_scores[layer][head]
                        .iter()
                        .map(|(name, score)| (name.to_string(), *score)),
                );
                let of = |name: &str| scores[name].unwrap_or(f64::NAN);
                let known = RoleScores {
                    prefix_matching: of("prefix_matching"),
                    copying: of("copying"),
                    previous_token: of("previous_token"),
                };
                let clamps = &config.clamp;
                let off = clamps.silent(layer, head) && !clamps.copies(layer, head);
                // What writes nothing has no part in anything, wherever it looks.
                let role = if off { Role::Other } else { role(&known, &limits) };
                rows.push(HeadRow { step, tokens, layer, head, role, scores });
            }
        }
        Ok(rows)
    }

    /// The measures taken from activations, `[layer][name][head]`.
    fn of_activations(
        &self,
        engine: &dyn Engine,
        weights: &dyn ReadParams,
        place: impl Fn(induction_metrics::Error) -> Error + Copy + Sync,
    ) -> Result<Vec<Columns>, Error> {
        let config = engine.config();
        let sampled = self.repeated.iter().chain(&self.random).copied();
        let direct = DirectPath::new(config, weights, sampled)?;
        let few = self.repeated.nrows().min(PAPER_EXAMPLES);
        let (few, others) = self.repeated.view().split_at(Axis(0), few);
        const PATTERNS: &[fn(usize) -> Hook] = &[Hook::Pattern];
        const WITH_VALUES: &[fn(usize) -> Hook] = &[Hook::Pattern, Hook::V];
        let batches: [(ArrayView2<'_, u32>, _, &[Sample]); 4] = [
            (self.text.view(), PATTERNS, &[Sample::Text]),
            (few, WITH_VALUES, &[Sample::Repeated, Sample::FewRepeated]),
            (others, PATTERNS, &[Sample::Repeated]),
            (self.random.view(), WITH_VALUES, &[Sample::Random]),
        ];
        let batches: Vec<_> =
            batches.into_iter().filter(|(tokens, ..)| tokens.nrows() > 0).collect();
        let watched: Vec<Watched<'_>> =
            batches.iter().map(|&(tokens, hooks, _)| Watched { tokens, hooks }).collect();

        let unembed = direct.of_layers(weights, config.n_layers)?;
        // By layer: batch, first example, tables.
        let found: Vec<Mutex<Vec<(usize, usize, Tables)>>> =
            (0..config.n_layers).map(|_| Mutex::new(Vec::new())).collect();
        let failed = Mutex::new(None);
        let tables = |sight: &Sight<'_>| -> Result<Tables, Error> {
            let (tokens, hooks, samples) = batches[sight.batch];
            let count = sight.seen[0].len_of(Axis(0));
            let tokens = tokens.slice_axis(Axis(0), Slice::from(sight.first..sight.first + count));
            let none = ArrayD::zeros(vec![0; 4]);
            let (values, unembed): (_, &[Array2<f32>]) = match hooks.len() {
                1 => (none.view(), &[]),
                _ => (sight.seen[1].view(), &unembed[sight.layer]),
            };
            let renamed =
                if unembed.is_empty() { tokens.to_owned() } else { direct.rename(tokens) };
            let view = LayerView {
                tokens: renamed.view(),
                prefix: self.prefix,
                pattern: rank4(sight.seen[0].view()),
                values: rank4(values),
                unembed,
                clamps: &config.clamp,
                layer: sight.layer,
                d_vocab: config.d_vocab,
            };
            let mut tables = Tables::new();
            for measure in MEASURES.iter().filter(|measure| samples.contains(&measure.sample)) {
                tables.extend(
                    measure.names.iter().copied().zip((measure.take)(&view).map_err(place)?),
                );
            }
            Ok(tables)
        };
        engine.watch(&watched, &|sight| match tables(&sight) {
            Ok(tables) => found[sight.layer].lock().unwrap_or_else(PoisonError::into_inner).push((
                sight.batch,
                sight.first,
                tables,
            )),
            Err(error) => *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
        })?;
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let of_layer = |found: Mutex<Vec<(usize, usize, Tables)>>| {
            let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
            found.sort_by_key(|&(batch, first, _)| (batch, first));
            let tables: Vec<Tables> = found.into_iter().map(|(.., tables)| tables).collect();
            summarise(&tables).map_err(place)
        };
        found.into_iter().map(of_layer).collect()
    }
}

/// The scores of one layer by name, `[example, head]`.
type Tables = BTreeMap<&'static str, Array2<f64>>;

/// The scores of one layer's heads, `[name][head]`.
type Columns = BTreeMap<String, Vec<Option<f64>>>;

/// Mean over all examples, its standard error, and the mean over the paper's ten: `[name][head]`.
/// Each of the tables has some of the names, and some examples, in order.
fn summarise(tables: &[Tables]) -> induction_metrics::Result<Columns> {
    let names: BTreeSet<&'static str> = tables.iter().flat_map(|of| of.keys().copied()).collect();
    let mut columns = BTreeMap::new();
    for name in names {
        let parts: Vec<_> = tables.iter().filter_map(|of| of.get(name)).map(|t| t.view()).collect();
        let all = concatenate(Axis(0), &parts).expect("every batch has all heads");
        let scores = HeadScores::over_examples(all.view())?;
        let few = HeadScores::over_examples(
            all.slice_axis(Axis(0), Slice::from(..all.nrows().min(PAPER_EXAMPLES))),
        )?;
        let stderr = scores
            .stderr
            .map_or_else(|| vec![None; scores.mean.len()], |s| s.into_iter().map(Some).collect());
        columns.insert(name.to_string(), scores.mean.into_iter().map(Some).collect());
        columns.insert(format!("{name}_stderr"), stderr);
        columns.insert(format!("{name}_10"), few.mean.into_iter().map(Some).collect());
    }
    Ok(columns)
}

fn rank4(array: ArrayViewD<'_, f32>) -> ArrayView4<'_, f32> {
    array.into_dimensionality::<Ix4>().expect("patterns and values have rank 4")
}

#[cfg(test)]
mod tests {
    use induction_engine::CpuEngine;
    use induction_model::{Clamp, ModelConfig};

    use super::*;

    /// A head that copies raises what it attends to and nothing else, and one that is off raises
    /// nothing, whatever their weights are; of a large vocabulary, too, of which some tokens have a
    /// column.
    #[test]
    fn clamped_heads_raise_what_they_write() {
        let (copies, off, free) = ((0, 0), (0, 1), (1, 0));
        for d_vocab in [40, 5000] {
            let config = ModelConfig {
                n_layers: 2,
                d_model: 8,
                n_heads: 2,
                d_head: 4,
                n_ctx: 32,
                d_vocab,
                clamp: [
                    Clamp::Copy { layer: copies.0, head: copies.1 },
                    Clamp::Off { layer: off.0, head: off.1 },
                ]
                .into_iter()
                .collect(),
                ..ModelConfig::default()
            };
            let params = config.init_params(1).unwrap();
            let evaluation = EvaluationSpec {
                examples: 2,
                icl_early: 4,
                icl_late: 30,
                icl_half_width: 1,
                head_examples: 3,
                ablation_examples: 2,
                ablation_every: 0,
                weights_every: 1,
                prefix_block: 6,
                prefix_repeats: 4,
            };
            let text = Array2::from_shape_fn((2, 32), |(i, j)| 1 + (i * 7 + j * j) as u32 % 30);
            let allowed: Vec<u32> = (1..30).collect();
            let evaluators = Evaluators::new(&evaluation, text, 0, &allowed).unwrap();
            let heads = |config: &ModelConfig| {
                let engine = CpuEngine::new(config, &params).unwrap();
                evaluators.heads(&engine, &params, None, 0, 0).unwrap()
            };
            let clamped = heads(&config);
            let of = |rows: &[HeadRow], (layer, head): (usize, usize), name: &str| {
                let row = rows.iter().find(|row| (row.layer, row.head) == (layer, head)).unwrap();
                row.scores[name].unwrap()
            };
            assert!((of(&clamped, copies, "copying") - 1.0).abs() < 1e-6, "{d_vocab}");
            assert_eq!(of(&clamped, off, "copying"), -1.0);
            assert_eq!(of(&clamped, off, "attribution_other"), 0.0);
            let role = |rows: &[HeadRow]| {
                rows.iter().find(|row| (row.layer, row.head) == off).unwrap().role
            };
            assert_eq!(role(&clamped), Role::Other);
            assert!(of(&clamped, copies, "attribution_matched") > 0.0);
            let unclamped = heads(&ModelConfig { clamp: Clamps::default(), ..config });
            assert!(of(&unclamped, copies, "copying") < 0.99, "{d_vocab}");
            assert!(of(&unclamped, off, "copying") > -1.0);
            assert!(of(&clamped, free, "copying") > -1.0);
        }
    }

    #[test]
    fn tables_of_other_measures_are_not_current() {
        let from_activations = MEASURES.iter().flat_map(|measure| measure.names);
        let three = |name: &&str| ["", "_stderr", "_10"].map(|end| format!("{name}{end}"));
        let from_weights = of_weights::MEASURES.iter().map(|measure| measure.name.to_string());
        let scores: NamedScores =
            from_activations.flat_map(three).chain(from_weights).map(|name| (name, None)).collect();
        assert!(is_current(&scores));
        let by_cause = ["token_copying", "token_copying_nats", "token_copying_nats_stderr"];
        let asked = by_cause.map(|name| (name.to_string(), None));
        assert!(is_current(&scores.clone().into_iter().chain(asked).collect()));
        for name in ["copying_10", "ov_copying", "previous_position_recall"] {
            let mut lacks = scores.clone();
            lacks.remove(name).unwrap();
            assert!(!is_current(&lacks), "without {name}");
            let renamed = NamedScores::from([(format!("older_{name}"), None)]);
            assert!(!is_current(&lacks.into_iter().chain(renamed).collect()), "older {name}");
            let more = scores.clone().into_iter().chain([(format!("older_{name}"), None)]);
            assert!(!is_current(&more.collect()), "beside an older {name}");
        }
    }
}
