//! How far a model's predictions are from those of simple predictors.
//!
//! Over training, a small transformer's predictions come near, one after the other, to a uniform
//! distribution, the tokens' frequencies, bigrams, and an induction head's copies (Edelman et al.
//! 2024, arXiv 2402.11004, on Markov chains; Hoogland et al. 2024, arXiv 2402.02364, whose bigram
//! score is a cross-entropy to empirical bigrams). The distance here is the same cross-entropy less
//! the predictor's own entropy:
//!
//! ```text
//! D(q || p) = sum_t q(t) (ln q(t) - ln p(t))
//! ```
//!
//! in nats, with the predictor `q` first and the model `p` second, so that it is 0 only where the
//! model predicts exactly as the predictor does, and finite whatever the predictor rules out. It
//! is a mean over all predictions of held-out examples.
//!
//! All predictors but the uniform one are fitted on training tokens ([`Mixture`]): unigrams with
//! one pseudo-count a token, interpolated Witten-Bell bigrams, and for induction these bigrams mixed
//! with what followed the earlier occurrences, in the same example, of the longest suffix of the
//! context (up to four tokens) that has any. Where nothing occurred before, the induction predictor
//! is the bigram model.
//!
//! Which predictor a model is nearest to makes four stages of training, and [`crossings`] says when
//! each gives way to the next, with an interval over examples.

use ndarray::{Array2, ArrayView2, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Interval, Mixture, Result,
    ceiling::check_examples,
    percentile_interval,
    phase::check_increasing,
    statistics::{resample, weighted_mean},
};

/// A simple predictor of the next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// All tokens alike.
    Uniform,
    /// Tokens by their frequency.
    Unigram,
    /// Tokens by their frequency after the current one.
    Bigram,
    /// Bigrams mixed with what followed earlier copies in the context.
    Induction,
}

impl Reference {
    /// From the one that knows least on.
    pub const ALL: [Self; 4] = [Self::Uniform, Self::Unigram, Self::Bigram, Self::Induction];

    /// In a word, as tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Unigram => "unigram",
            Self::Bigram => "bigram",
            Self::Induction => "induction",
        }
    }
}

/// One prediction of the predictors, as far as it does not depend on the model. `negentropy` is
/// `sum q ln q`.
#[derive(Debug, Clone)]
struct Place {
    current: u32,
    bigram_negentropy: f64,
    copies: Option<Copies>,
}

#[derive(Debug, Clone)]
struct Copies {
    /// Of what followed, against the bigrams.
    weight: f64,
    /// `(t, share)`: what followed.
    shares: Vec<(u32, f64)>,
    negentropy: f64,
}

/// The predictors on given examples: made once, compared with the model of every snapshot.
#[derive(Debug, Clone)]
pub struct References<'a> {
    mixture: &'a Mixture,
    /// `p(t)`, `[d_vocab]`.
    unigram: Vec<f64>,
    unigram_negentropy: f64,
    /// `[example, position]`.
    places: Array2<Place>,
}

impl<'a> References<'a> {
    /// The predictors of a fitted mixture on `examples`, `[example, 1 + n_ctx]`, none of which may
    /// have been fitted on.
    ///
    /// # Errors
    /// If there is no example, examples are shorter than 2 tokens, or a token lies outside the
    /// vocabulary.
    pub fn new(mixture: &'a Mixture, examples: ArrayView2<u32>) -> Result<Self> {
        let bigram = mixture.bigram();
        let d_vocab = bigram.d_vocab();
        check_examples(d_vocab, examples)?;
        let unigram: Vec<f64> = (0..d_vocab).map(|token| bigram.unigram(token as u32)).collect();
        let unigram_negentropy = unigram.iter().copied().map(x_ln_x).sum();
        let mut known: Vec<Option<f64>> = vec![None; d_vocab];
        let n_ctx = examples.ncols() - 1;
        let mut places = Vec::with_capacity(examples.nrows() * n_ctx);
        for example in examples.outer_iter() {
            let example = example.to_vec();
            for k in 0..n_ctx {
                let current = example[k];
                let bigram_negentropy = *known[current as usize].get_or_insert_with(|| {
                    bigram_negentropy(mixture, current, &unigram, unigram_negentropy)
                });
                let copies = mixture.matched(&example[..=k]).map(|(weight, followers)| {
                    Copies::new(mixture, current, bigram_negentropy, weight, &followers)
                });
                places.push(Place { current, bigram_negentropy, copies });
            }
        }
        let places = Array2::from_shape_vec((examples.nrows(), n_ctx), places)
            .expect("a place for each position of each example");
        Ok(Self { mixture, unigram, unigram_negentropy, places })
    }

    /// How far a model is from each predictor, `[example, reference]` in the order of
    /// [`Reference::ALL`]: the mean over the positions of each example of the distance in nats.
    /// `logits` are the model's on the examples from number `first` on, `[example, position,
    /// d_vocab]`; what is added to all logits of a position alike does not matter.
    ///
    /// # Errors
    /// If there are no logits, more than there are examples, of another shape than theirs, or one
    /// that is not finite.
    pub fn distances(&self, first: usize, logits: ArrayView3<f32>) -> Result<Array2<f64>> {
        let (examples, n_ctx, d_vocab) = logits.dim();
        let (all, places, vocabulary) =
            (self.places.nrows(), self.places.ncols(), self.unigram.len());
        if examples == 0 {
            return Err(Error::NoExamples { what: "logits [example, position, token]" });
        }
        if first + examples > all || (n_ctx, d_vocab) != (places, vocabulary) {
            return Err(Error::Shape {
                what: "logits [example, position, token]",
                expected: format!(
                    "at most {} of [{places}, {vocabulary}]",
                    all.saturating_sub(first)
                ),
                found: format!("{examples} of [{n_ctx}, {d_vocab}]"),
            });
        }
        let mut distances = Array2::zeros((examples, Reference::ALL.len()));
        let mut ln_p = vec![0.0; d_vocab];
        for (k, rows) in logits.outer_iter().enumerate() {
            for (row, place) in rows.outer_iter().zip(self.places.index_axis(Axis(0), first + k)) {
                for (ln_p, &logit) in ln_p.iter_mut().zip(&row) {
                    *ln_p = f64::from(logit);
                }
                if let Some(at) = ln_p.iter().position(|logit| !logit.is_finite()) {
                    return Err(Error::Setting {
                        name: "logits",
                        expected: "finite",
                        found: format!("{} for token {at} in example {}", ln_p[at], first + k),
                    });
                }
                log_softmax(&mut ln_p);
                for (sum, distance) in
                    distances.index_axis_mut(Axis(0), k).iter_mut().zip(self.at(place, &ln_p))
                {
                    *sum += distance / n_ctx as f64;
                }
            }
        }
        Ok(distances)
    }

    /// The distances of one prediction.
    fn at(&self, place: &Place, ln_p: &[f64]) -> [f64; 4] {
        let d_vocab = ln_p.len() as f64;
        let uniform = -d_vocab.ln() - ln_p.iter().sum::<f64>() / d_vocab;
        // Sums of `q ln p`: of bigrams, those seen apart from what all tokens get.
        let of_unigram: f64 = self.unigram.iter().zip(ln_p).map(|(q, ln_p)| q * ln_p).sum();
        let (row, total) = self.mixture.bigram().followers(place.current);
        let of_bigram = if row.is_empty() {
            of_unigram
        } else {
            let seen: f64 = row.iter().map(|&(t, n)| f64::from(n) * ln_p[t as usize]).sum();
            let distinct = row.len() as f64;
            (seen + distinct * of_unigram) / (total + distinct)
        };
        let bigram = place.bigram_negentropy - of_bigram;
        let induction = place.copies.as_ref().map_or(bigram, |copies| {
            let of_copies: f64 = copies.shares.iter().map(|&(t, q)| q * ln_p[t as usize]).sum();
            copies.negentropy - (1.0 - copies.weight) * of_bigram - copies.weight * of_copies
        });
        // A distance is not negative; a sum of rounded terms may be, by a hair.
        [uniform, self.unigram_negentropy - of_unigram, bigram, induction].map(|d| d.max(0.0))
    }
}

impl Copies {
    fn new(
        mixture: &Mixture,
        current: u32,
        bigram_negentropy: f64,
        weight: f64,
        followers: &[u32],
    ) -> Self {
        let count = followers.len() as f64;
        let shares: Vec<(u32, f64)> = followers
            .chunk_by(|a, b| a == b)
            .map(|same| (same[0], same.len() as f64 / count))
            .collect();
        // Tokens that did not follow have `(1 - w) b`: all bigrams less those that did.
        let rest = 1.0 - weight;
        let (mut others, mut others_negentropy, mut negentropy) = (1.0, bigram_negentropy, 0.0);
        for &(token, share) in &shares {
            let b = mixture.bigram().probability(current, token).expect("in the vocabulary");
            others -= b;
            others_negentropy -= x_ln_x(b);
            negentropy += x_ln_x(rest * b + weight * share);
        }
        negentropy += rest * others_negentropy + x_ln_x(rest) * others;
        Self { weight, shares, negentropy }
    }
}

/// `sum b ln b` of the bigrams after a token: those seen apart from the others, which have their
/// unigram's share of what is left.
fn bigram_negentropy(
    mixture: &Mixture,
    current: u32,
    unigram: &[f64],
    unigram_negentropy: f64,
) -> f64 {
    let (row, total) = mixture.bigram().followers(current);
    if row.is_empty() {
        return unigram_negentropy;
    }
    let distinct = row.len() as f64;
    let left = distinct / (total + distinct);
    let (mut others, mut others_negentropy, mut seen) = (1.0, unigram_negentropy, 0.0);
    for &(token, count) in row {
        let u = unigram[token as usize];
        others -= u;
        others_negentropy -= x_ln_x(u);
        seen += x_ln_x((f64::from(count) + distinct * u) / (total + distinct));
    }
    seen + left * others_negentropy + x_ln_x(left) * others
}

fn x_ln_x(x: f64) -> f64 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

/// Logits to logarithms of probabilities.
fn log_softmax(logits: &mut [f64]) {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let norm = most + logits.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln();
    logits.iter_mut().for_each(|logit| *logit -= norm);
}

/// When a predictor gives way to the next as the nearer one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crossing {
    /// The predictor that was nearer.
    pub from: String,
    /// The one that is nearer from then on, to the end.
    pub to: String,
    /// Training tokens; nothing where the first is nearer to the end, or the second from the first
    /// snapshot with tokens on.
    pub tokens: Option<f64>,
    /// 95 % percentile interval over bootstrap draws of examples; nothing where fewer than 95 % of
    /// the draws have a crossing.
    pub interval: Option<Interval>,
}

/// Bootstrap draws of [`crossings`].
const DRAWS: u64 = 1000;

/// When each predictor gives way to the next, in the order of [`Reference::ALL`]: the last time at
/// which the mean distances cross, straight between snapshots in the logarithm of tokens. The
/// untrained model, of no tokens, is left out. `distances` are those of each snapshot, `[example,
/// reference]`, of the same examples; draws are a function of `seed`.
///
/// # Errors
/// If there is no snapshot or no example, shapes differ, tokens do not increase, or a distance is
/// not finite.
pub fn crossings(tokens: &[u64], distances: &[Array2<f64>], seed: u64) -> Result<Vec<Crossing>> {
    let Some(examples) = distances.first().map(Array2::nrows).filter(|&examples| examples > 0)
    else {
        return Err(Error::NoExamples { what: "distances [example, reference]" });
    };
    check_increasing(tokens)?;
    let shape = (examples, Reference::ALL.len());
    if distances.len() != tokens.len() || distances.iter().any(|found| found.dim() != shape) {
        return Err(Error::Shape {
            what: "the distances of each snapshot [example, reference]",
            expected: format!("{} of {shape:?}", tokens.len()),
            found: format!("{}, the first of {:?}", distances.len(), distances[0].dim()),
        });
    }
    if let Some(value) = distances.iter().flatten().find(|value| !value.is_finite()) {
        let (name, expected) = ("distances", "finite");
        return Err(Error::Setting { name, expected, found: value.to_string() });
    }
    let first = usize::from(tokens[0] == 0);
    let ln_tokens: Vec<f64> = tokens[first..].iter().map(|&tokens| (tokens as f64).ln()).collect();
    let draws: Vec<Vec<u32>> = (0..DRAWS).map(|draw| resample(seed, draw, examples)).collect();
    Reference::ALL
        .windows(2)
        .enumerate()
        .map(|(k, pair)| {
            // Of each example at each snapshot: how much nearer the second is.
            let gaps: Vec<Vec<f64>> = distances[first..]
                .iter()
                .map(|found| found.outer_iter().map(|row| row[k] - row[k + 1]).collect())
                .collect();
            let at = |counts: &[u32]| {
                let gap: Vec<f64> = gaps.iter().map(|gaps| weighted_mean(gaps, counts)).collect();
                let before = gap.iter().rposition(|&gap| gap <= 0.0)?;
                let after = *gap.get(before + 1)?;
                let along = gap[before] / (gap[before] - after);
                let (from, to) = (ln_tokens[before], ln_tokens[before + 1]);
                Some((from + along * (to - from)).exp())
            };
            let drawn: Vec<f64> = draws.iter().filter_map(|counts| at(counts)).collect();
            let enough = drawn.len() as f64 >= 0.95 * DRAWS as f64;
            let tokens = at(&vec![1; examples]);
            let interval =
                percentile_interval(&drawn, 0.95)?.filter(|_| enough && tokens.is_some());
            let [from, to] = [pair[0], pair[1]].map(|reference| reference.name().to_string());
            Ok(Crossing { from, to, tokens, interval })
        })
        .collect()
}
