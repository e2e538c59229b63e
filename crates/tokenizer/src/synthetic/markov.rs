//! In-context learning of Markov chains (Edelman et al. 2024, arXiv 2402.11004): what predicts is a
//! statistical induction head, which looks at all that followed earlier copies of the current token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Draw, Process, Settings, Shape, nats, other_than, refusal, whole};
use crate::Result;

/// A Markov chain of its own for each sequence.
///
/// Each row of the transition matrix is drawn from a symmetric Dirichlet distribution over the
/// states, the first state evenly from all. The states are tokens, other ones for each sequence where
/// there are more tokens than states.
///
/// In Edelman et al. the concentration is 1, the states are the vocabulary, and a chain begins in its
/// stationary distribution. Here it begins evenly, since the first token would otherwise say
/// something of the matrix, and the ideal predictor would have no closed form.
///
/// No matrix is drawn: given the tokens so far, the next one after state `i` has the probability
/// `(n_ij + a) / (n_i + S a)`, with `a` the concentration, `S` the number of states, and `n_ij` the
/// transitions so far, whatever the matrix was. To draw by that is to draw a matrix and then by it
/// (Pólya's urn), without a function whose last bits depend on the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Markov {
    /// States of a chain, from 2 on; all tokens but BOS if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<usize>,
    /// Of the Dirichlet distribution: above 0. Small: rows with few followers; 1: all rows alike;
    /// large: rows that are nearly even, with little to learn.
    #[serde(default = "one")]
    pub concentration: f64,
}

fn one() -> f64 {
    1.0
}

impl Settings for Markov {
    fn open(&self, shape: Shape) -> Result<Box<dyn Process>> {
        let states = self.states.unwrap_or(shape.n_tokens());
        whole("data.states", states, 2, shape.n_tokens())?;
        if !(self.concentration > 0.0 && self.concentration <= 1e6) {
            let expected = "a number above 0, up to 1000000";
            return Err(refusal("data.concentration", self.concentration, expected));
        }
        Ok(Box::new(Chain { states, concentration: self.concentration, shape }))
    }
}

struct Chain {
    states: usize,
    concentration: f64,
    shape: Shape,
}

impl Chain {
    /// The token of a state that was drawn evenly from all: one of those seen, in their order, or
    /// one that was not seen yet.
    fn of_state(&self, seen: &mut Vec<u32>, draw: &mut dyn Draw) -> u32 {
        let state = draw.below(self.states);
        if let Some(&token) = seen.get(state) {
            return token;
        }
        let token = other_than(seen.clone(), self.shape, draw);
        seen.push(token);
        token
    }

    /// The probability of a token that was counted `of_it` times of `all`.
    fn posterior(&self, of_it: usize, all: usize, is_seen: bool, n_seen: usize) -> f64 {
        let total = all as f64 + self.states as f64 * self.concentration;
        if is_seen {
            return (of_it as f64 + self.concentration) / total;
        }
        // Any other state, which may be any other token.
        let others = (self.states - n_seen) as f64 * self.concentration;
        others / total / (self.shape.n_tokens() - n_seen) as f64
    }

    /// The losses under what `predict` gives each token, by what was counted before it.
    fn losses(
        tokens: &[u32],
        predict: impl Fn(&Counts, Option<u32>, u32, bool) -> f64,
    ) -> Vec<f64> {
        let mut counts = Counts::default();
        let mut before = None;
        let of_token = |&token: &u32| {
            let is_seen = counts.tokens.contains_key(&token);
            let loss = nats(predict(&counts, before, token, is_seen));
            counts.add(before, token);
            before = Some(token);
            loss
        };
        tokens.iter().map(of_token).collect()
    }
}

/// What a sequence says of its chain so far.
#[derive(Default)]
struct Counts {
    tokens: BTreeMap<u32, usize>,
    transitions: BTreeMap<(u32, u32), usize>,
    /// Of each token how often it was followed by any.
    from: BTreeMap<u32, usize>,
    all: usize,
}

impl Counts {
    fn add(&mut self, before: Option<u32>, token: u32) {
        *self.tokens.entry(token).or_default() += 1;
        self.all += 1;
        if let Some(before) = before {
            *self.transitions.entry((before, token)).or_default() += 1;
            *self.from.entry(before).or_default() += 1;
        }
    }
}

impl Process for Chain {
    fn tokens(&self, draw: &mut dyn Draw) -> Vec<u32> {
        let mut seen = Vec::new();
        let mut followers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut tokens = Vec::with_capacity(self.shape.n_ctx + 1);
        let mut state = self.of_state(&mut seen, draw);
        tokens.push(state);
        let prior = self.states as f64 * self.concentration;
        while tokens.len() < self.shape.n_ctx {
            let so_far = followers.entry(state).or_default();
            let n = so_far.len() as f64;
            let next = if draw.chance(n / (n + prior)) {
                so_far[draw.below(so_far.len())]
            } else {
                self.of_state(&mut seen, draw)
            };
            so_far.push(next);
            tokens.push(next);
            state = next;
        }
        tokens
    }

    /// The posterior mean of the transition matrix: the bigram statistics of the context.
    fn optimum(&self, tokens: &[u32]) -> Vec<f64> {
        Self::losses(tokens, |counts, before, token, is_seen| {
            let count = |before| counts.transitions.get(&(before, token)).copied();
            let of_it = before.and_then(count).unwrap_or(0);
            let all = before.and_then(|before| counts.from.get(&before).copied()).unwrap_or(0);
            self.posterior(of_it, all, is_seen, counts.tokens.len())
        })
    }

    /// What the paper's models do first: all states alike, then the unigram statistics of the
    /// context.
    fn references(&self, tokens: &[u32]) -> Vec<(&'static str, Vec<f64>)> {
        let unigram = Self::losses(tokens, |counts, _, token, is_seen| {
            let of_it = counts.tokens.get(&token).copied().unwrap_or(0);
            self.posterior(of_it, counts.all, is_seen, counts.tokens.len())
        });
        let uniform = Self::losses(tokens, |counts, _, _, is_seen| {
            self.posterior(0, 0, is_seen, counts.tokens.len())
        });
        vec![("unigram", unigram), ("uniform", uniform)]
    }
}
