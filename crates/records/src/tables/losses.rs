//! What measuring finds in the losses of a snapshot, on the same held-out examples at every
//! snapshot.

use serde::{Deserialize, Serialize};

use crate::{
    Row,
    read::{some, stderr},
};

/// A line of `loss_by_index.jsonl`: what the losses of a snapshot say by index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Mean over examples and indices, in nats a token.
    pub loss: f64,
    /// Loss of the (k+1)-th token of an example.
    pub loss_by_index: Vec<f64>,
    /// Mean over indices of each example.
    #[serde(with = "crate::single")]
    pub by_example: Vec<f64>,
    /// Where `d_loss_d_ln_index` was taken, in indices.
    pub derivative_index: Vec<f64>,
    /// d loss / d ln index, in nats an e-fold.
    pub d_loss_d_ln_index: Vec<f64>,
    /// Loss at the last index minus loss at each: what the ICL score would be for another early
    /// index.
    pub icl_sensitivity: Vec<f64>,
}

impl Row for LossRow {
    const FILE: &'static str = "loss_by_index.jsonl";

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn lists(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("loss_by_index", self.loss_by_index.len()),
            ("by_example", self.by_example.len()),
            ("derivative_index", self.derivative_index.len()),
            ("d_loss_d_ln_index", self.d_loss_d_ln_index.len()),
            ("icl_sensitivity", self.icl_sensitivity.len()),
        ]
    }

    fn check(&self) -> Result<(), String> {
        some("loss_by_index", &self.loss_by_index)?;
        some("by_example", &self.by_example)
    }
}

/// A line of `icl.jsonl`: in-context learning scores in nats, below 0 where there is some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IclRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Loss late in the context minus loss early in it (paper.md, 2).
    pub icl_score: f64,
    /// Its standard error over examples; nothing of a single one.
    pub stderr: Option<f64>,
    /// The score of each example.
    #[serde(with = "crate::single")]
    pub by_example: Vec<f64>,
    /// The score on the same tokens: their loss late in a window less that in a fresh one, where
    /// they stand early. What claims are judged on.
    pub same_token_score: f64,
    /// Its standard error over examples; nothing of a single one.
    pub same_token_stderr: Option<f64>,
    /// The score of each example.
    #[serde(with = "crate::single")]
    pub same_token_by_example: Vec<f64>,
    /// The same difference at every index of the fresh window.
    pub same_token_by_index: Vec<f64>,
    /// d loss / d ln index over the indices from the early one on.
    pub late_slope: f64,
    /// The same of each example.
    #[serde(with = "crate::single")]
    pub late_slope_by_example: Vec<f64>,
}

impl Row for IclRow {
    const FILE: &'static str = "icl.jsonl";

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn lists(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("by_example", self.by_example.len()),
            ("same_token_by_example", self.same_token_by_example.len()),
            ("same_token_by_index", self.same_token_by_index.len()),
            ("late_slope_by_example", self.late_slope_by_example.len()),
        ]
    }

    fn check(&self) -> Result<(), String> {
        stderr("stderr", self.stderr)?;
        stderr("same_token_stderr", self.same_token_stderr)?;
        some("by_example", &self.by_example)?;
        some("same_token_by_example", &self.same_token_by_example)?;
        some("same_token_by_index", &self.same_token_by_index)?;
        some("late_slope_by_example", &self.late_slope_by_example)
    }
}

/// A line of `copies.jsonl`: the loss of the tokens that an earlier copy in their window foretells,
/// and that of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Mean loss of the foretold tokens, in nats.
    pub foretold_loss: f64,
    /// Mean loss of the others.
    pub others_loss: f64,
    /// Losses of each example's foretold tokens, summed.
    #[serde(with = "crate::single")]
    pub foretold_by_example: Vec<f64>,
    /// Losses of each example's other tokens, summed.
    #[serde(with = "crate::single")]
    pub others_by_example: Vec<f64>,
    /// How many of each example's tokens are foretold.
    pub n_foretold_by_example: Vec<u32>,
    /// How many are not.
    pub n_others_by_example: Vec<u32>,
}

impl Row for CopyRow {
    const FILE: &'static str = "copies.jsonl";

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn lists(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("foretold_by_example", self.foretold_by_example.len()),
            ("others_by_example", self.others_by_example.len()),
            ("n_foretold_by_example", self.n_foretold_by_example.len()),
            ("n_others_by_example", self.n_others_by_example.len()),
        ]
    }

    fn check(&self) -> Result<(), String> {
        let examples = self.foretold_by_example.len();
        some("foretold_by_example", &self.foretold_by_example)?;
        match self.lists().into_iter().find(|&(_, length)| length != examples) {
            None => Ok(()),
            Some((name, length)) => Err(format!(
                "`{name}` has {length} entries, expected {examples} as in `foretold_by_example`"
            )),
        }
    }
}

/// A line of `random_tokens.jsonl`: the loss of one fixed random token an example (paper.md, 1.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RandomTokenRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// The paper's loss: the mean of `losses`, in nats.
    pub loss: f64,
    /// The loss of each example's token.
    #[serde(with = "crate::single")]
    pub losses: Vec<f64>,
}

impl Row for RandomTokenRow {
    const FILE: &'static str = "random_tokens.jsonl";

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn lists(&self) -> Vec<(&'static str, usize)> {
        vec![("losses", self.losses.len())]
    }

    fn check(&self) -> Result<(), String> {
        some("losses", &self.losses)
    }
}
