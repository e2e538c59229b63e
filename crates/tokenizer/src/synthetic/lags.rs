//! Tokens that came a fixed or a varied number of tokens before, in one stream or several.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Draw, Process, Settings, Shape, nats, probability, refusal, whole};
use crate::Result;

/// Each token is the one that came `lag` before, or a fresh one.
///
/// A sequence is `streams` interleaved ones, dealt out token by token, and each draws its lag evenly
/// from those allowed. In a stream a token is, with the probability `reliability`, the one `lag`
/// before it there; else, and before there is one, it is drawn evenly from all tokens.
///
/// With one lag for all sequences, attention by distance alone predicts the copies: no head need
/// look at what a token is. With several, the context must say which one it is, as an induction head
/// finds out by matching tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lags {
    /// The lags, in tokens of a stream: each from 1 on, and short enough for every stream to copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lags: Option<Vec<usize>>,
    /// Instead of a list, the shortest of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_lag: Option<usize>,
    /// The longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<usize>,
    /// Interleaved streams.
    #[serde(default = "one_stream")]
    pub streams: usize,
    /// How likely a token is a copy, 0 to 1.
    #[serde(default = "always")]
    pub reliability: f64,
}

fn one_stream() -> usize {
    1
}

fn always() -> f64 {
    1.0
}

impl Lags {
    /// The lags that are allowed, none longer than `longest`.
    fn allowed(&self, longest: usize) -> Result<Vec<usize>> {
        let nothing = "nothing";
        let lags = match (&self.lags, self.min_lag, self.max_lag) {
            (Some(lags), None, None) => lags.clone(),
            (None, Some(low), Some(high)) if low <= high => {
                whole("data.min_lag", low, 1, longest)?;
                whole("data.max_lag", high, low, longest)?;
                (low..=high).collect()
            }
            (None, Some(low), Some(high)) => {
                let given = format!("{high} (min_lag {low})");
                let expected = "a whole number from min_lag on: an empty range holds no lag";
                return Err(refusal("data.max_lag", given, expected));
            }
            (Some(lags), ..) => {
                let expected =
                    "a list of whole numbers, or else a range by min_lag and max_lag, and not both";
                return Err(refusal("data.lags", format!("{lags:?}"), expected));
            }
            (None, Some(_), None) => {
                let expected = "the other end of the range, a whole number from min_lag on";
                return Err(refusal("data.max_lag", nothing, expected));
            }
            (None, None, Some(_)) => {
                let expected = "the other end of the range, a whole number up to max_lag";
                return Err(refusal("data.min_lag", nothing, expected));
            }
            (None, None, None) => {
                let expected = "a list of whole numbers, or a range by min_lag and max_lag";
                return Err(refusal("data.lags", nothing, expected));
            }
        };
        let different: BTreeSet<usize> = lags.iter().copied().collect();
        if lags.is_empty() || different.len() < lags.len() {
            let expected = "different whole numbers, at least one";
            return Err(refusal("data.lags", format!("{lags:?}"), expected));
        }
        lags.iter().try_for_each(|&lag| whole("data.lags", lag, 1, longest))?;
        Ok(lags)
    }
}

impl Settings for Lags {
    fn open(&self, shape: Shape) -> Result<Box<dyn Process>> {
        whole("data.streams", self.streams, 1, shape.n_ctx / 2)?;
        probability("data.reliability", self.reliability)?;
        // The shortest stream has one token more, and copies at least one.
        let lags = self.allowed(shape.n_ctx / self.streams - 1)?;
        Ok(Box::new(Streams { lags, streams: self.streams, reliability: self.reliability, shape }))
    }
}

struct Streams {
    lags: Vec<usize>,
    streams: usize,
    reliability: f64,
    shape: Shape,
}

impl Process for Streams {
    fn tokens(&self, draw: &mut dyn Draw) -> Vec<u32> {
        let lags: Vec<usize> =
            (0..self.streams).map(|_| self.lags[draw.below(self.lags.len())]).collect();
        let mut tokens = Vec::with_capacity(self.shape.n_ctx + 1);
        for at in 0..self.shape.n_ctx {
            let back = lags[at % self.streams] * self.streams;
            // Both are drawn for every token, so that one choice does not shift the next.
            let (is_copy, fresh) =
                (draw.chance(self.reliability), draw.below(self.shape.n_tokens()) as u32 + 1);
            tokens.push(if is_copy && at >= back { tokens[at - back] } else { fresh });
        }
        tokens
    }

    /// Bayes' rule over the lags of each stream.
    fn optimum(&self, tokens: &[u32]) -> Vec<f64> {
        let even = 1.0 / self.shape.n_tokens() as f64;
        let mut weights = vec![vec![1.0 / self.lags.len() as f64; self.lags.len()]; self.streams];
        let mut losses = Vec::with_capacity(tokens.len());
        for (at, &token) in tokens.iter().enumerate() {
            let weights = &mut weights[at % self.streams];
            for (weight, lag) in weights.iter_mut().zip(&self.lags) {
                *weight *= match at.checked_sub(lag * self.streams) {
                    None => even,
                    Some(source) => {
                        let copied = f64::from(u8::from(tokens[source] == token));
                        self.reliability * copied + (1.0 - self.reliability) * even
                    }
                };
            }
            let probability: f64 = weights.iter().sum();
            losses.push(nats(probability));
            weights.iter_mut().for_each(|weight| *weight /= probability);
        }
        losses
    }

    /// Without a look at the context.
    fn references(&self, tokens: &[u32]) -> Vec<(&'static str, Vec<f64>)> {
        vec![("uniform", vec![(self.shape.n_tokens() as f64).ln(); tokens.len()])]
    }
}
