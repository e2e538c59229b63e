//! Data on purpose: processes that generate sequences of tokens, each with the predictor that knows
//! the process.
//!
//! A source is a file here: its settings, as a spec writes them, and what they open,
//! a [`Process`]. Its line in `sources!` below makes it known to specs, runs, measurements and the
//! report.
//!
//! What a sequence is drawn by goes through [`Draw`], so that a test can walk through everything
//! that a process could have drawn, with its probability, and hold the predictor to it.

mod bursty;
mod hierarchy;
mod lags;
mod markov;
mod repeats;

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::{
    bursty::Bursty, hierarchy::Hierarchy, lags::Lags, markov::Markov, repeats::Repeats,
};
use crate::bpe::MAX_D_VOCAB;
use crate::{Error, Result};

macro_rules! sources {
    ($($(#[$doc:meta])* $name:literal => $Source:ident,)*) => {
        /// A synthetic source with its settings.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(tag = "source")]
        pub enum Synthetic {
            $($(#[$doc])* #[serde(rename = $name)] $Source($Source),)*
        }

        impl Synthetic {
            /// The names of all sources.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The source's name.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$Source(_) => $name,)*
                }
            }

            /// Reads the settings of the source of that name; `None` if there is none. A source has
            /// no key besides its own.
            ///
            /// # Errors
            /// The reader's.
            pub fn read<'de, D: Deserializer<'de>>(
                name: &str,
                settings: D,
            ) -> Option<Result<Self, D::Error>> {
                match name {
                    $($name => Some($Source::deserialize(settings).map(Self::$Source)),)*
                    _ => None,
                }
            }

            fn settings(&self) -> &dyn Settings {
                match self {
                    $(Self::$Source(settings) => settings,)*
                }
            }
        }
    };
}

sources! {
    /// Random blocks of random length, repeated.
    "repeats" => Repeats,
    /// A Markov chain of its own for each sequence.
    "markov" => Markov,
    /// Tokens that came so many before, one lag or several interleaved.
    "lags" => Lags,
    /// Blocks whose order repeats.
    "hierarchy" => Hierarchy,
    /// Items and labels, bursty and by Zipf's law.
    "bursty" => Bursty,
}

/// The sizes that a source's sequences have to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Tokens including BOS, which is 0 and in no sequence: 3 to 65536.
    pub d_vocab: usize,
    /// Tokens of a sequence, from 2 on.
    pub n_ctx: usize,
}

impl Shape {
    /// Tokens but BOS.
    fn n_tokens(self) -> usize {
        self.d_vocab - 1
    }
}

/// A source as its spec has it.
trait Settings {
    /// Checks the settings, and makes of them what generates sequences of that shape.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first setting that does not fit, as a spec spells it.
    fn open(&self, shape: Shape) -> Result<Box<dyn Process>>;
}

/// What generates sequences of tokens, and knows how well they can be predicted.
pub trait Process: Send + Sync {
    /// The tokens of one sequence, `[n_ctx]`, without BOS.
    fn tokens(&self, draw: &mut dyn Draw) -> Vec<u32>;

    /// The loss of the ideal predictor on a sequence, `[n_ctx]`, in nats: minus the logarithm of
    /// each token's probability given those before it and all that is the same for all sequences.
    /// No model's expected loss is lower. Of sequences that the process generates: others have no
    /// probability.
    fn optimum(&self, tokens: &[u32]) -> Vec<f64>;

    /// The same of simpler predictors that the literature knows, by name.
    fn references(&self, _tokens: &[u32]) -> Vec<(&'static str, Vec<f64>)> {
        Vec::new()
    }
}

/// How a process draws.
pub trait Draw {
    /// Evenly from `0..n`.
    fn below(&mut self, n: usize) -> usize;
    /// True with that probability.
    fn chance(&mut self, probability: f64) -> bool;
    /// True in so many of ten cases.
    fn of_ten(&mut self, cases: u32) -> bool;
    /// An index with a probability in proportion to its weight; entry `k` is the sum of the weights
    /// up to that of `k`, the last above 0. Integers, so that every machine draws the same.
    fn weighted(&mut self, sums: &[u64]) -> usize;
}

impl<R: Rng> Draw for R {
    fn below(&mut self, n: usize) -> usize {
        // Drawn as u64: a draw of usize depends on the width of the machine's words.
        self.random_range(0..n as u64) as usize
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.random::<f64>() < probability
    }

    fn of_ten(&mut self, cases: u32) -> bool {
        self.random_range(0..10u32) < cases
    }

    fn weighted(&mut self, sums: &[u64]) -> usize {
        let total = sums.last().copied().unwrap_or(1);
        let at = self.random_range(0..total);
        sums.partition_point(|&sum| sum <= at)
    }
}

impl Synthetic {
    /// Checks the settings, and makes of them what generates sequences of that shape.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first setting that does not fit, as a spec spells it.
    pub fn open(&self, shape: Shape) -> Result<Box<dyn Process>> {
        whole("model.d_vocab", shape.d_vocab, 3, MAX_D_VOCAB)?;
        whole("model.n_ctx", shape.n_ctx, 2, 1 << 32)?;
        self.settings().open(shape)
    }
}

/// Examples of a synthetic source, a pure function of `(seed, purpose, index)`.
pub struct SyntheticTask {
    process: Box<dyn Process>,
    shape: Shape,
    seed: u64,
    purpose: String,
}

impl SyntheticTask {
    /// The stream of a source's examples that seed and purpose choose. The purpose keeps streams
    /// apart: `train` and `held out` of one seed share no draw.
    ///
    /// # Errors
    /// As [`Synthetic::open`].
    pub fn new(source: &Synthetic, shape: Shape, seed: u64, purpose: &str) -> Result<Self> {
        Ok(Self { process: source.open(shape)?, shape, seed, purpose: purpose.to_owned() })
    }

    /// The sizes of its examples.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The example of an index: `n_ctx + 1` tokens, BOS (0) first and only there.
    pub fn example(&self, index: u64) -> Vec<u32> {
        let mut random = induction_random::stream(self.seed, &self.purpose, index);
        let mut example = self.process.tokens(&mut random);
        example.insert(0, 0);
        example
    }

    /// What generates the examples.
    pub fn process(&self) -> &dyn Process {
        self.process.as_ref()
    }
}

/// A token but BOS and those that are taken, evenly from all others.
fn other_than(mut taken: Vec<u32>, shape: Shape, draw: &mut dyn Draw) -> u32 {
    taken.sort_unstable();
    let place = draw.below(shape.n_tokens() - taken.len()) as u32 + 1;
    taken.into_iter().fold(place, |token, other| token + u32::from(token >= other))
}

/// The loss of a token of that probability; of a certain one 0, and not -0.
fn nats(probability: f64) -> f64 {
    0.0 - probability.ln()
}

/// Refuses a whole number outside its range.
fn whole(field: &'static str, given: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&given) {
        return Ok(());
    }
    let expected = if low <= high {
        format!("a whole number from {low} to {high} in a synthetic source")
    } else {
        format!("a whole number from {low} on, for which this model's sizes leave no room")
    };
    Err(refusal(field, given, expected))
}

/// Refuses what is no probability.
fn probability(field: &'static str, given: f64) -> Result<()> {
    if (0.0..=1.0).contains(&given) {
        return Ok(());
    }
    Err(refusal(field, given, "a probability, a number from 0 to 1"))
}

fn refusal(field: &'static str, given: impl ToString, expected: impl Into<String>) -> Error {
    Error::Setting { field, given: given.to_string(), expected: expected.into() }
}

/// Sums of the weights of ranks `1..=n` by Zipf's law, `rank^-exponent` in units of 2^-40, rounded.
fn zipf(n: usize, exponent: f64) -> Vec<u64> {
    const UNIT: f64 = (1u64 << 40) as f64;
    let weight = |rank: usize| (UNIT / power(rank as f64, exponent)).round() as u64;
    (1..=n)
        .scan(0, |sum, rank| {
            *sum += weight(rank);
            Some(*sum)
        })
        .collect()
}

/// `base^exponent` for a base from 1 and an exponent from 0 on, by products and square roots alone:
/// these are the same to the bit on every machine, which the system's power function is not.
fn power(base: f64, exponent: f64) -> f64 {
    let whole = (0..exponent.trunc() as u32).fold(1.0, |product, _| product * base);
    let (mut product, mut root, mut rest) = (whole, base, exponent.fract());
    while rest > 0.0 {
        (root, rest) = (root.sqrt(), 2.0 * rest);
        if rest >= 1.0 {
            (product, rest) = (product * root, rest - 1.0);
        }
    }
    product
}

#[cfg(test)]
mod tests;
