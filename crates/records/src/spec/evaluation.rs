//! What is measured of a model.

use serde::{Deserialize, Serialize};

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
