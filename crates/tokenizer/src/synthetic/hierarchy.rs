//! Repeats of repeats: blocks of tokens come again, and so does the order of the blocks.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Draw, Process, Settings, Shape, nats, other_than, refusal, whole};
use crate::Result;

/// Blocks whose order repeats.
///
/// A sequence has `blocks` blocks of its own, each of `block` tokens, of which no two begin with the
/// same token. Some of them, drawn evenly one after the other, make a passage of `min_period` to
/// `max_period` blocks, which is repeated until the context is full. So a block comes again before
/// the passage does: a head that matches one token knows how a block goes on, and only one that
/// matches more than a block knows which block is next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hierarchy {
    /// Tokens of a block, from 2 on.
    pub block: usize,
    /// Different blocks of a sequence, from 2 on, at most as many as there are tokens.
    pub blocks: usize,
    /// Shortest passage, in blocks, from 2 on.
    pub min_period: usize,
    /// Longest passage, in blocks; twice as many must fit into the context.
    pub max_period: usize,
}

impl Settings for Hierarchy {
    fn open(&self, shape: Shape) -> Result<Box<dyn Process>> {
        let Self { block, blocks, min_period, max_period } = *self;
        whole("data.block", block, 2, shape.n_ctx / 4)?;
        whole("data.blocks", blocks, 2, shape.n_tokens())?;
        if min_period < 2 || max_period < min_period || max_period > shape.n_ctx / (2 * block) {
            return Err(refusal(
                "data.max_period",
                format!("{max_period} (min_period {min_period}, block {block})"),
                "2 <= min_period <= max_period <= model.n_ctx / (2 block)",
            ));
        }
        Ok(Box::new(Passages { settings: self.clone(), shape }))
    }
}

struct Passages {
    settings: Hierarchy,
    shape: Shape,
}

impl Passages {
    /// A new block, with a first token that none of the others has.
    fn new_block(&self, others: &[Vec<u32>], draw: &mut dyn Draw) -> Vec<u32> {
        let taken = others.iter().map(|block| block[0]).collect();
        let first = other_than(taken, self.shape, draw);
        let rest = (1..self.settings.block).map(|_| draw.below(self.shape.n_tokens()) as u32 + 1);
        std::iter::once(first).chain(rest).collect()
    }

    /// The losses of a predictor of blocks that knows, or does not, that their order repeats.
    fn losses(&self, tokens: &[u32], knows_order: bool) -> Vec<f64> {
        let Hierarchy { block, blocks, min_period, max_period } = self.settings;
        let n_tokens = self.shape.n_tokens() as f64;
        let periods = min_period..=max_period;
        let mut weights = vec![1.0 / periods.clone().count() as f64; periods.clone().count()];
        // First tokens of the blocks so far.
        let mut known = BTreeSet::new();
        let mut losses = Vec::with_capacity(tokens.len());
        for (slot, now) in tokens.chunks(block).enumerate() {
            let (first, n_known) = (now[0], known.len());
            let is_new = known.insert(first);
            let drawn = if is_new {
                (blocks - n_known) as f64 / blocks as f64 / (n_tokens - n_known as f64)
            } else {
                1.0 / blocks as f64
            };
            for (weight, period) in weights.iter_mut().zip(periods.clone()) {
                *weight *= match slot.checked_sub(period).filter(|_| knows_order) {
                    None => drawn,
                    Some(before) => f64::from(u8::from(tokens[before * block] == first)),
                };
            }
            let probability: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= probability);
            losses.push(nats(probability));
            let rest = if is_new { n_tokens.ln() } else { 0.0 };
            losses.extend(std::iter::repeat_n(rest, now.len() - 1));
        }
        losses
    }
}

impl Process for Passages {
    fn tokens(&self, draw: &mut dyn Draw) -> Vec<u32> {
        let Hierarchy { blocks, min_period, max_period, .. } = self.settings;
        let period = min_period + draw.below(max_period - min_period + 1);
        let mut known: Vec<Vec<u32>> = Vec::new();
        let mut passage = Vec::with_capacity(period);
        for _ in 0..period {
            let chosen = draw.below(blocks).min(known.len());
            if chosen == known.len() {
                known.push(self.new_block(&known, draw));
            }
            passage.push(chosen);
        }
        passage
            .iter()
            .cycle()
            .flat_map(|&k| known[k].iter().copied())
            .take(self.shape.n_ctx)
            .collect()
    }

    /// Bayes' rule over the lengths of the passage, where a block begins; within one that is known
    /// the rest is certain.
    fn optimum(&self, tokens: &[u32]) -> Vec<f64> {
        self.losses(tokens, true)
    }

    /// What knows how blocks go on, and not which is next.
    fn references(&self, tokens: &[u32]) -> Vec<(&'static str, Vec<f64>)> {
        vec![("blocks alone", self.losses(tokens, false))]
    }
}
