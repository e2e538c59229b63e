//! Which parts of a model feed a head's queries, keys and values: path patching (Wang et al. 2022,
//! arXiv 2211.00593; Goldowsky-Dill et al. 2023, arXiv 2304.05969), and its first order, attribution
//! patching (Nanda 2023; Kramár et al. 2024, arXiv 2403.00745).
//!
//! A model reads sequences of a start token and two copies of a block of random tokens. What one part
//! (the embedding, an earlier head, an earlier MLP) adds to the residual stream is taken from the next
//! sequence instead, in what one head's queries, keys or values are made of, and nowhere else: the
//! parts between add what they added before, norms are taken anew. An induction head whose keys say
//! what came before them loses its attention with the path from a previous-token head into its keys
//! (paper.md, 5: K-composition).
//!
//! What is lost is measured on the head itself, in the second copy: of the logarithm of the odds of
//! its attention on what followed the token in the first copy (queries and keys), and of what it adds
//! by the direct path to the logit of the next token, over the mean of the vocabulary, scales of
//! later norms as they were (values). Of odds rather than of attention, since these are linear in the
//! scores, so that a path's first order does not vanish where attention is all there is.

use std::sync::{Mutex, PoisonError};

use induction_ablation::{HeadId, HeadReading, Reads};
use induction_engine::{Engine, Watched};
use induction_metrics::{PrefixMatchingSample, mean_stderr, spearman};
use induction_model::{Hook, ModelConfig, Normalization, Norms, ReadParams};
use induction_records::{PathFrom, PathsAgree, PathsInto};
use ndarray::{Array1, Array2, Array3, ArrayD, ArrayView2, Axis, Ix1, Ix3, RemoveAxis, Slice};
use rayon::prelude::*;

use crate::{Error, cause::Source, measure::direct::DirectPath, source::EVALUATION_SEED};

/// Sequences.
const EXAMPLES: usize = 8;

/// Random tokens of a block.
const BLOCK: usize = 25;

const READS: [Reads; 3] = [Reads::Queries, Reads::Keys, Reads::Values];

/// What is lost with a path of one sequence.
#[derive(Clone, Copy, Default)]
struct Lost {
    /// Of the attention, or of what is raised.
    share: f64,
    exact: f64,
    first_order: f64,
}

/// A part whose paths into a head were patched.
struct Patched {
    layer: Option<usize>,
    head: Option<usize>,
    /// For queries, keys and values.
    of_examples: Vec<[Lost; 3]>,
}

/// The paths into each of some heads; nothing into heads of the first layer, which have no heads
/// below, nor of a model whose context or vocabulary is too small for a block of two tokens, or whose
/// attention is clamped, of which a [`HeadReading`] does not know.
///
/// # Errors
/// The engine's and the weights'.
pub fn into(
    engine: &dyn Engine,
    weights: &dyn ReadParams,
    source: &Source<'_>,
    heads: &[HeadId],
) -> Result<Vec<PathsInto>, Error> {
    let config = engine.config();
    let heads: Vec<HeadId> = heads.iter().copied().filter(|head| head.layer > 0).collect();
    let readable = !heads.is_empty() && config.clamp.is_empty();
    let Some(tokens) = sequences(source, config.n_ctx)?.filter(|_| readable) else {
        return Ok(Vec::new());
    };
    let block = tokens.ncols() / 2;
    let seen = Seen::new(engine, tokens.view(), &heads)?;
    let receivers = heads
        .iter()
        .map(|&head| Receiver::new(config, weights, &seen, tokens.view(), block, head))
        .collect::<Result<Vec<_>, Error>>()?;

    let mut lost: Vec<Vec<Patched>> = receivers.iter().map(|_| Vec::new()).collect();
    let mut patch = |layer: Option<usize>, head: Option<usize>, deltas: &[Array2<f64>]| {
        let above = |receiver: &Receiver| layer.is_none_or(|layer| layer < receiver.id.layer);
        for (receiver, lost) in receivers.iter().zip(&mut lost).filter(|(r, _)| above(r)) {
            let of = |(example, delta): (usize, &Array2<f64>)| receiver.without(example, delta);
            let of_examples = deltas.par_iter().enumerate().map(of).collect();
            lost.push(Patched { layer, head, of_examples });
        }
    };
    patch(None, None, &differences(&seen.embed));
    for layer in 0..seen.z.len() - 1 {
        let writes = Writes::new(config, weights, layer)?;
        let z = &seen.z[layer];
        for head in 0..config.n_heads {
            patch(Some(layer), Some(head), &writes.differences(z, head));
        }
        if let Some(mlp) = seen.mlp.get(layer) {
            patch(Some(layer), None, &differences(mlp));
        }
    }
    Ok(receivers.iter().zip(lost).map(|(receiver, lost)| receiver.found(&lost)).collect())
}

/// What the model reads, `[sequence, start and two copies of a block]`; nothing where a context or
/// vocabulary is too small for a block of two tokens.
///
/// # Errors
/// The metrics'.
pub fn sequences(source: &Source<'_>, n_ctx: usize) -> Result<Option<Array2<u32>>, Error> {
    let block = BLOCK.min(source.allowed.len()).min(n_ctx.saturating_sub(1) / 2);
    if block < 2 {
        return Ok(None);
    }
    let sample = PrefixMatchingSample { block, repeats: 2 };
    let place = |source| Error::Metric { place: "paths into heads".into(), source };
    sample
        .batch(EVALUATION_SEED ^ 3, EXAMPLES, source.start, source.allowed)
        .map(Some)
        .map_err(place)
}

/// What a pass without changes has.
struct Seen {
    /// `[example, pos, d_model]`.
    embed: Array3<f32>,
    /// Of each layer up to the last that is asked about, `[example, pos, head * d_head]`.
    z: Vec<Array3<f32>>,
    /// Of each layer below it, `[example, pos, d_model]`; empty of a model without MLPs.
    mlp: Vec<Array3<f32>>,
    /// The residual streams after layers that are asked about, `[example, pos, d_model]`, and others
    /// empty.
    streams: Vec<Array3<f32>>,
}

impl Seen {
    fn new(
        engine: &dyn Engine,
        tokens: ArrayView2<'_, u32>,
        heads: &[HeadId],
    ) -> Result<Self, Error> {
        let config = engine.config();
        let last = heads.iter().map(|head| head.layer).max().unwrap_or(0);
        let (examples, pos) = tokens.dim();
        let width = config.n_heads * config.d_head;
        let streams = (0..config.n_layers).map(|l| {
            let wanted = l + 1 == config.n_layers || heads.iter().any(|head| head.layer == l + 1);
            Array3::zeros((if wanted { examples } else { 0 }, pos, config.d_model))
        });
        let layers = |count: usize, width: usize| -> Vec<Array3<f32>> {
            (0..count).map(|_| Array3::zeros((examples, pos, width))).collect()
        };
        let mlps = if config.attn_only() { 0 } else { last };
        let all = [layers(last + 1, width), streams.collect(), layers(mlps, config.d_model)];
        let all = Mutex::new(all);
        let hooks: [fn(usize) -> Hook; 3] = [Hook::Z, Hook::ResidPost, Hook::MlpOut];
        let hooks = if config.attn_only() { &hooks[..2] } else { &hooks[..] };
        engine.watch(&[Watched { tokens, hooks }], &|sight| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            for (all, seen) in all.iter_mut().zip(&sight.seen) {
                let Some(of_layer) = all.get_mut(sight.layer).filter(|all| !all.is_empty()) else {
                    continue;
                };
                for (k, seen) in seen.outer_iter().enumerate() {
                    let mut of_example = of_layer.index_axis_mut(Axis(0), sight.first + k);
                    of_example.iter_mut().zip(&seen).for_each(|(x, seen)| *x = *seen);
                }
            }
        })?;
        let [z, streams, mlp] = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        let embed = engine.activations(tokens, &[Hook::Embed], &[])?.remove(&Hook::Embed);
        let embed = embed.expect("it was asked for").into_dimensionality().expect("of rank 3");
        Ok(Self { embed, z, mlp, streams })
    }
}

/// What each sequence's part would become with the next sequence's, `[pos, d_model]`.
fn differences(part: &Array3<f32>) -> Vec<Array2<f64>> {
    let examples = part.len_of(Axis(0));
    let of = |example: usize| part.index_axis(Axis(0), example).mapv(f64::from);
    (0..examples).map(|example| of((example + 1) % examples) - of(example)).collect()
}

fn parameter<D: RemoveAxis>(
    weights: &dyn ReadParams,
    name: &str,
) -> Result<ndarray::Array<f64, D>, Error> {
    let value: ArrayD<f32> = weights.parameter(name)?;
    Ok(value.mapv(f64::from).into_dimensionality().expect("a parameter of this rank"))
}

/// What a layer's attention writes.
struct Writes {
    /// `[head, d_head, d_model]`.
    w_o: Array3<f64>,
    b_o: Option<Array1<f64>>,
    /// The gain of a norm after it, and what is added under the root.
    post: Option<(Array1<f64>, f64)>,
}

impl Writes {
    fn new(config: &ModelConfig, weights: &dyn ReadParams, layer: usize) -> Result<Self, Error> {
        let a = &config.architecture;
        let name = |name: &str| format!("blocks.{layer}.{name}");
        let b_o = a.out_bias.then(|| parameter::<Ix1>(weights, &name("attn.b_O"))).transpose()?;
        let post = match a.norms {
            Norms::Before => None,
            _ => Some((parameter(weights, &name("ln1_post.w"))?, config.layer_norm_eps)),
        };
        Ok(Self { w_o: parameter::<Ix3>(weights, &name("attn.W_O"))?, b_o, post })
    }

    /// A head's output, `[pos, d_model]`.
    fn of(&self, z: ArrayView2<'_, f32>, head: usize) -> Array2<f64> {
        let d_head = self.w_o.len_of(Axis(1));
        let own = z.slice_axis(Axis(1), Slice::from(head * d_head..(head + 1) * d_head));
        own.mapv(f64::from).dot(&self.w_o.index_axis(Axis(0), head))
    }

    /// All heads' together, before a norm.
    fn all(&self, z: ArrayView2<'_, f32>) -> Array2<f64> {
        let (heads, d_head, d_model) = self.w_o.dim();
        let w_o = self.w_o.view().into_shape_with_order((heads * d_head, d_model));
        let mut all = z.mapv(f64::from).dot(&w_o.expect("in standard layout"));
        if let Some(b_o) = &self.b_o {
            all += b_o;
        }
        all
    }

    /// What each sequence's residual stream would gain with the next sequence's output of a head.
    fn differences(&self, z: &Array3<f32>, head: usize) -> Vec<Array2<f64>> {
        let examples = z.len_of(Axis(0));
        let z = |example: usize| z.index_axis(Axis(0), example % examples);
        let of = |example: usize| {
            let change = self.of(z(example + 1), head) - self.of(z(example), head);
            match &self.post {
                None => change,
                Some((gain, eps)) => {
                    let normed = |mut x: Array2<f64>| {
                        for mut row in x.rows_mut() {
                            let by = spread(row.view(), false, *eps);
                            row.zip_mut_with(gain, |x, gain| *x *= gain / by);
                        }
                        x
                    };
                    let all = self.all(z(example));
                    normed(&all + &change) - normed(all)
                }
            }
        };
        (0..examples).into_par_iter().map(of).collect()
    }
}

/// What a norm divides a row by.
fn spread(row: ndarray::ArrayView1<'_, f64>, centred: bool, eps: f64) -> f64 {
    let n = row.len() as f64;
    let mean = if centred { row.sum() / n } else { 0.0 };
    (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n + eps).sqrt()
}

/// A head that reads, and what it reads in each sequence when nothing is changed.
struct Receiver {
    id: HeadId,
    reading: HeadReading,
    /// Queries of the second copy, and the key after each one's earlier copy.
    places: Vec<(usize, usize)>,
    examples: Vec<Clean>,
}

struct Clean {
    stream: Array2<f64>,
    queries: Array2<f64>,
    keys: Array2<f64>,
    /// `[pos, d_head]`: what the values' entries raise the next tokens' logits by.
    worth: Array2<f64>,
    /// Attention and the logarithm of its odds.
    attention: [f64; 2],
    raises: f64,
    /// In the stream, of what the queries, keys and values are measured by.
    slopes: [Array2<f64>; 3],
}

impl Receiver {
    fn new(
        config: &ModelConfig,
        weights: &dyn ReadParams,
        seen: &Seen,
        tokens: ArrayView2<'_, u32>,
        block: usize,
        id: HeadId,
    ) -> Result<Self, Error> {
        let pos = tokens.ncols();
        let reading = HeadReading::new(config, weights, id, pos)?;
        let places: Vec<(usize, usize)> = (1 + block..pos).map(|at| (at, at + 1 - block)).collect();
        let direct = DirectPath::new(config, weights, tokens.iter().copied())?;
        let columns = direct.rename(tokens);
        // [d_head, column], less the mean over the vocabulary.
        let raise = direct.of_layer(weights, id.layer)?.swap_remove(id.head).mapv(f64::from);
        let mean = raise.mean_axis(Axis(1)).expect("a vocabulary has tokens");
        let raise = raise - &mean.insert_axis(Axis(1));
        let writes = Writes::new(config, weights, id.layer)?;
        let last = &seen.streams[config.n_layers - 1];
        let examples = (0..tokens.nrows()).into_par_iter().map(|example| {
            let of = |all: &Array3<f32>| all.index_axis(Axis(0), example).mapv(f64::from);
            let stream = of(&seen.streams[id.layer - 1]);
            let normed = reading.normed(stream.view());
            let [queries, keys, values] = READS.map(|reads| reading.read(reads, normed.view()));
            let scores = reading.scores(queries.view(), keys.view());
            let (attention, of_scores) = odds(&scores, &places);
            // What the final norm, and one after attention, divide by.
            let last = of(last);
            let z = seen.z[id.layer].index_axis(Axis(0), example);
            let written = writes.post.as_ref().map(|(_, eps)| (writes.all(z), *eps));
            let scale = |at: usize| {
                let by = match config.normalization {
                    Normalization::None => 1.0,
                    kind => spread(last.row(at), kind == Normalization::LN, config.layer_norm_eps),
                };
                by * written.as_ref().map_or(1.0, |(all, eps)| spread(all.row(at), false, *eps))
            };
            let mut worth = Array2::zeros(values.dim());
            let with_next = pos - 1 - (1 + block);
            for at in 1 + block..pos - 1 {
                let next = raise.column(columns[[example, at + 1]] as usize);
                let share = 1.0 / (scale(at) * with_next as f64);
                let pattern = softmax(scores.row(at));
                for (key, a) in pattern.into_iter().enumerate() {
                    worth.row_mut(key).scaled_add(a * share, &next);
                }
            }
            let [of_q, of_k] = reading.slope_of_scores(queries.view(), keys.view(), of_scores);
            let slope = |reads, of| reading.slope(reads, stream.view(), of);
            let slopes = [
                slope(Reads::Queries, of_q),
                slope(Reads::Keys, of_k),
                slope(Reads::Values, worth.clone()),
            ];
            let raises = (&values * &worth).sum();
            Clean { stream, queries, keys, worth, attention, raises, slopes }
        });
        Ok(Self { id, examples: examples.collect(), reading, places })
    }

    /// What is lost in a sequence whose stream, where the head reads it, becomes another by `delta`.
    fn without(&self, example: usize, delta: &Array2<f64>) -> [Lost; 3] {
        let clean = &self.examples[example];
        let normed = self.reading.normed((&clean.stream + delta).view());
        let mut lost = READS.map(|reads| {
            let read = self.reading.read(reads, normed.view());
            let attention = |queries: &Array2<f64>, keys: &Array2<f64>| {
                let scores = self.reading.scores(queries.view(), keys.view());
                let (with, _) = odds(&scores, &self.places);
                [clean.attention[0] - with[0], clean.attention[1] - with[1]]
            };
            let [share, exact] = match reads {
                Reads::Queries => attention(&read, &clean.keys),
                Reads::Keys => attention(&clean.queries, &read),
                Reads::Values => [clean.raises - (&read * &clean.worth).sum(); 2],
            };
            Lost { share, exact, first_order: 0.0 }
        });
        for (lost, slope) in lost.iter_mut().zip(&clean.slopes) {
            lost.first_order = -(slope * delta).sum();
        }
        lost
    }

    fn found(&self, lost: &[Patched]) -> PathsInto {
        let n = self.examples.len() as f64;
        let attention = self.examples.iter().map(|clean| clean.attention[0]).sum::<f64>() / n;
        let raises = self.examples.iter().map(|clean| clean.raises).sum::<f64>() / n;
        let mut paths = Vec::new();
        for Patched { layer, head, of_examples } in lost {
            for (k, into) in READS.into_iter().enumerate() {
                let whole = if into == Reads::Values { raises } else { attention };
                let of = |of: fn(&Lost) -> f64| {
                    mean_stderr(&of_examples.iter().map(|lost| of(&lost[k])).collect::<Vec<_>>())
                };
                let (share, share_stderr) = of(|lost| lost.share);
                let (exact, exact_stderr) = of(|lost| lost.exact);
                paths.push(PathFrom {
                    layer: *layer,
                    head: *head,
                    into,
                    lost: share / whole,
                    lost_stderr: share_stderr.map(|stderr| stderr / whole.abs()),
                    exact,
                    exact_stderr,
                    first_order: of(|lost| lost.first_order).0,
                });
            }
        }
        let agreement = READS.map(|into| {
            let of = paths.iter().filter(|path| path.into == into);
            let (exact, first): (Vec<f64>, Vec<f64>) =
                of.map(|path| (path.exact, path.first_order)).unzip();
            PathsAgree { into, rank_correlation: spearman(&exact, &first).ok().flatten() }
        });
        PathsInto {
            layer: self.id.layer,
            head: self.id.head,
            examples: self.examples.len(),
            attention,
            raises,
            agreement: agreement.to_vec(),
            paths,
        }
    }
}

fn softmax(scores: ndarray::ArrayView1<'_, f64>) -> Vec<f64> {
    let top = scores.iter().fold(f64::MIN, |top, &x| top.max(x));
    let shares: Vec<f64> = scores.iter().map(|x| (x - top).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.into_iter().map(|x| x / sum).collect()
}

/// Mean attention of queries on their keys and the mean logarithm of its odds, and the slope of the
/// latter in the scores.
fn odds(scores: &Array2<f64>, places: &[(usize, usize)]) -> ([f64; 2], Array2<f64>) {
    let n = places.len() as f64;
    let (mut mean, mut slope) = ([0.0; 2], Array2::zeros(scores.dim()));
    for &(query, key) in places {
        let row = scores.row(query);
        // The others alone, so that odds stay finite where there is next to nothing beside.
        let mut others = row.to_owned();
        others[key] = f64::NEG_INFINITY;
        let top = others.fold(f64::MIN, |top, &x| top.max(x));
        let sum: f64 = others.iter().map(|x| (x - top).exp()).sum();
        let odds = row[key] - top - sum.ln();
        mean[0] += 1.0 / (1.0 + (-odds).exp()) / n;
        mean[1] += odds / n;
        for (other, &x) in others.iter().enumerate() {
            slope[[query, other]] -= (x - top).exp() / sum / n;
        }
        slope[[query, key]] += 1.0 / n;
    }
    (mean, slope)
}

#[cfg(test)]
mod tests {
    use induction_engine::{CpuEngine, Intervention};
    use induction_model::{Clamp, HandBuilt};
    use proptest::prelude::*;

    use super::*;

    fn path<'a>(found: &'a PathsInto, part: &str, into: Reads) -> &'a PathFrom {
        let of = |path: &&PathFrom| path.part() == part && path.into == into;
        found.paths.iter().find(of).expect("there is such a path")
    }

    /// In a model whose circuit was written down, the previous-token head feeds the induction head's
    /// keys, the embedding its queries and values, and nothing else feeds anything.
    #[test]
    fn a_circuit_that_was_written_down_is_found() {
        let model = HandBuilt::new(64, 96);
        let (config, params) = (model.config(), model.params().unwrap());
        let engine = CpuEngine::new(&config, &params).unwrap();
        let allowed: Vec<u32> = (1..64).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let head = HeadId { layer: 1, head: 0 };
        let found = into(&engine, &params, &source, &[head]).unwrap().remove(0);
        assert!(found.attention > 0.9 && found.raises > 0.0, "{found:?}");
        let fed =
            [("0.0", Reads::Keys), ("embedding", Reads::Queries), ("embedding", Reads::Values)];
        for (part, into) in fed {
            let path = path(&found, part, into);
            assert!(path.lost > 0.9 && path.exact > 0.0, "{part} into {into}: {path:?}");
        }
        let others = found.paths.iter().filter(|path| {
            !fed.iter().any(|&(part, into)| path.part() == part && path.into == into)
        });
        for path in others {
            assert!(path.lost.abs() < 0.1, "{path:?}");
        }
        let clamped = ModelConfig { clamp: Clamp::ForbidInduction.into(), ..config };
        let engine = CpuEngine::new(&clamped, &params).unwrap();
        assert!(into(&engine, &params, &source, &[head]).unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// An engine that is given the keys or queries that a patched path leaves attends as is said
        /// here; and to first order, what all parts bring adds up to what the whole stream brings.
        #[test]
        fn paths_are_what_an_engine_does_with_them(seed: u64, smeared_keys: bool, norm: bool, d_mlp in 0usize..6) {
            let normalization = if norm { Normalization::LN } else { Normalization::None };
            let config = ModelConfig {
                n_layers: 3, d_model: 12, n_heads: 2, d_head: 5, d_mlp, n_ctx: 13, d_vocab: 9, normalization, smeared_keys,
                ..ModelConfig::default()
            };
            let mut params = config.init_params(seed).unwrap();
            params.iter_mut().filter(|(name, _)| name.contains("W_")).for_each(|(_, w)| *w *= 2.0);
            let engine = CpuEngine::new(&config, &params).unwrap();
            let allowed: Vec<u32> = (1..9).collect();
            let sample = PrefixMatchingSample { block: 6, repeats: 2 };
            let tokens = sample.batch(seed, 3, 0, &allowed).unwrap();
            let id = HeadId { layer: 2, head: 1 };
            let seen = Seen::new(&engine, tokens.view(), &[id]).unwrap();
            let receiver = Receiver::new(&config, &params, &seen, tokens.view(), 6, id).unwrap();
            let patterns = |set: &[Intervention]| {
                let seen = engine.activations(tokens.view(), &[Hook::Pattern(2)], set).unwrap();
                seen[&Hook::Pattern(2)].index_axis(Axis(1), 1).mapv(f64::from)
            };
            let attention = |pattern: ndarray::ArrayViewD<'_, f64>| {
                let of = receiver.places.iter().map(|&(query, key)| pattern[[query, key]]);
                of.sum::<f64>() / receiver.places.len() as f64
            };
            let clean = patterns(&[]);
            let deltas = Writes::new(&config, &params, 1).unwrap().differences(&seen.z[1], 0);
            for (reads, hook) in [(Reads::Queries, Hook::Q(2)), (Reads::Keys, Hook::K(2))] {
                let read = |example: usize| {
                    let stream = &receiver.examples[example].stream + &deltas[example];
                    receiver.reading.read(reads, receiver.reading.normed(stream.view()).view()).mapv(|x| x as f32)
                };
                let all: Vec<_> = (0..3).map(read).collect();
                let views: Vec<_> = all.iter().map(|read| read.view()).collect();
                let value = ndarray::stack(Axis(0), &views).unwrap();
                let patched = patterns(&[Intervention::ReplaceHead { hook, head: 1, from: 0, value }]);
                for (example, delta) in deltas.iter().enumerate() {
                    let of = |all: &ArrayD<f64>| attention(all.index_axis(Axis(0), example));
                    let expected = of(&clean) - of(&patched);
                    let found = receiver.without(example, delta)[reads as usize].share;
                    prop_assert!((found - expected).abs() < 1e-4, "{} {} is not {}", reads, found, expected);
                }
            }
            // The embedding, four heads below and two MLPs are all that differs between sequences.
            let mut parts = vec![differences(&seen.embed)];
            for layer in 0..2 {
                let writes = Writes::new(&config, &params, layer).unwrap();
                parts.extend((0..2).map(|head| writes.differences(&seen.z[layer], head)));
                parts.extend(seen.mlp.get(layer).map(differences));
            }
            let whole = differences(&seen.streams[1]);
            for example in 0..3 {
                let first = |delta: &Array2<f64>| receiver.without(example, delta).map(|lost| lost.first_order);
                let each: Vec<[f64; 3]> = parts.iter().map(|part| first(&part[example])).collect();
                for (k, expected) in first(&whole[example]).into_iter().enumerate() {
                    let sum: f64 = each.iter().map(|part| part[k]).sum();
                    let largest = each.iter().fold(1.0f64, |a, part| a.max(part[k].abs()));
                    prop_assert!((sum - expected).abs() < 1e-4 * largest, "{} is not {}", sum, expected);
                }
            }
        }
    }
}
