//! What is measured of a model.

use serde::{Deserialize, Serialize};

use super::range::whole;
use crate::Error;

/// The evaluation (paper.md, 1.5, 2, 3, 10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSpec {
    /// Held-out examples of `n_ctx` tokens; the same for every snapshot and model.
    pub examples: usize,
    /// Early index of the ICL score, from 1 (the paper's 50).
    pub icl_early: usize,
    /// Late index of the ICL score (the paper's 500).
    pub icl_late: usize,
    /// Each index is averaged over this many neighbours on both sides.
    pub icl_half_width: usize,
    /// Examples of each head evaluator; the mean over the paper's 10, the first ones, is given
    /// beside that of all.
    #[serde(default = "default_head_examples")]
    pub head_examples: usize,
    /// Examples on which heads are removed: the first of `examples`, or all if there are fewer.
    #[serde(default = "default_ablation_examples")]
    pub ablation_examples: usize,
    /// Heads are removed at every n-th kept snapshot, counted back from the last; 0: never.
    #[serde(default = "default_ablation_every")]
    pub ablation_every: usize,
    /// Once all is measured, weights stay with every n-th kept snapshot, counted back from the
    /// last; 1: with all.
    #[serde(default = "default_weights_every")]
    pub weights_every: usize,
    /// Distinct random tokens in a block of the prefix-matching evaluator.
    #[serde(default = "default_prefix_block")]
    pub prefix_block: usize,
    /// Times that the block stands there.
    #[serde(default = "default_prefix_repeats")]
    pub prefix_repeats: usize,
}

impl EvaluationSpec {
    /// Checks every field, for examples of so many tokens.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first outside its range.
    pub(super) fn validate(&self, n_ctx: u64) -> Result<(), Error> {
        let (early, half_width) = (self.icl_early as u64, self.icl_half_width as u64);
        whole("evaluation.examples", self.examples as u64, 2, 1 << 20)?;
        whole("evaluation.icl_half_width", half_width, 0, n_ctx)?;
        whole("evaluation.icl_early", early, 1 + half_width, n_ctx)?;
        let last = n_ctx.saturating_sub(half_width);
        whole("evaluation.icl_late", self.icl_late as u64, early + 1, last)?;
        whole("evaluation.head_examples", self.head_examples as u64, 1, 1 << 16)?;
        whole("evaluation.ablation_examples", self.ablation_examples as u64, 1, 1 << 20)?;
        whole("evaluation.ablation_every", self.ablation_every as u64, 0, 1 << 20)?;
        whole("evaluation.weights_every", self.weights_every as u64, 1, 1 << 20)?;
        let repeats = self.prefix_repeats as u64;
        whole("evaluation.prefix_repeats", repeats, 2, n_ctx)?;
        whole("evaluation.prefix_block", self.prefix_block as u64, 2, (n_ctx - 1) / repeats)
    }
}

fn default_head_examples() -> usize {
    100
}
fn default_ablation_examples() -> usize {
    128
}
fn default_ablation_every() -> usize {
    1
}
fn default_weights_every() -> usize {
    1
}
fn default_prefix_block() -> usize {
    25
}
fn default_prefix_repeats() -> usize {
    4
}
