//! What removing heads leaves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Ablation, Downstream, EvaluationSpec, HeadId, Row, Stage,
    read::{some, stderr},
};

/// `ablations.json`: what the tables of ablating were made with, and from which snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AblatedFrom {
    /// Version of the ablations' definitions.
    pub version: u32,
    /// [`RunSpec::training_hash`](crate::RunSpec::training_hash) of the run.
    pub spec_hash: String,
    /// The engine.
    #[serde(deserialize_with = "super::engine_name")]
    pub engine: String,
    /// What was measured.
    pub evaluation: EvaluationSpec,
    /// What the removals are held against; nothing if the run makes no step.
    pub change: Option<Change>,
    /// Hash of each snapshot's manifest, by step.
    pub snapshots: BTreeMap<u64, String>,
    /// That of the snapshot that `knockouts.jsonl` is about.
    pub knockouts: Option<String>,
}

impl AblatedFrom {
    /// The file, in the folder of the tables.
    pub const FILE: &'static str = "ablations.json";
}

/// How training changed the losses while the same-token score made its step: the before-and-after
/// vector (paper.md, 2), over every token of the ablations' examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The last kept snapshot at or before the step's start.
    pub before_step: u64,
    /// The first at or after its end.
    pub after_step: u64,
    /// Of each example, the squared change of its losses, summed over indices; in nats squared.
    #[serde(with = "crate::single")]
    pub squares: Vec<f64>,
}

/// A line of `ablations.jsonl`: one head of one snapshot, removed by zero. Scores are in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AblationRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// What the layers above do about it.
    pub downstream: Downstream,
    /// ICL score without the head minus the score with it: above 0 the head contributes (paper.md,
    /// 2).
    pub icl_change: f64,
    /// Its standard error over examples, paired.
    pub icl_change_stderr: Option<f64>,
    /// Mean loss without the head minus the loss with it.
    pub loss_change: f64,
    /// `icl_change` of each example.
    #[serde(with = "crate::single")]
    pub icl_change_by_example: Vec<f64>,
    /// The same of the score on the same tokens.
    pub same_token_change: f64,
    /// Its standard error over examples, paired.
    pub same_token_change_stderr: Option<f64>,
    /// The same of each example.
    #[serde(with = "crate::single")]
    pub same_token_change_by_example: Vec<f64>,
    /// Of each example, the product of what the removal does to its losses with what training did
    /// to them over the [`Change`], summed over indices, in nats squared: below 0 the removal
    /// undoes it. Empty without a change.
    #[serde(with = "crate::single")]
    pub undone_by_example: Vec<f64>,
}

impl AblationRow {
    /// Which head.
    pub fn id(&self) -> HeadId {
        HeadId { layer: self.layer, head: self.head }
    }
}

impl Row for AblationRow {
    const FILE: &'static str = "ablations.jsonl";
    const STAGE: Stage = Stage::Ablating;

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn key(&self) -> [u64; 6] {
        [self.step, self.layer as u64, self.head as u64, self.downstream as u64, 0, 0]
    }

    fn lists(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("icl_change_by_example", self.icl_change_by_example.len()),
            ("same_token_change_by_example", self.same_token_change_by_example.len()),
            ("undone_by_example", self.undone_by_example.len()),
        ]
    }

    fn check(&self) -> Result<(), String> {
        stderr("icl_change_stderr", self.icl_change_stderr)?;
        stderr("same_token_change_stderr", self.same_token_change_stderr)?;
        some("same_token_change_by_example", &self.same_token_change_by_example)
    }
}

/// A line of `knockouts.jsonl`: the last snapshot under one ablation. Losses and scores are in
/// nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnockoutRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// What it is for.
    pub name: String,
    /// Nothing for the whole model.
    #[serde(deserialize_with = "there")]
    pub ablation: Option<Ablation>,
    /// Mean loss.
    pub loss: f64,
    /// The ICL score.
    pub icl_score: f64,
    /// The score on the same tokens.
    pub same_token_score: f64,
    /// Mean loss of each example.
    #[serde(with = "crate::single")]
    pub loss_by_example: Vec<f64>,
    /// ICL score of each example.
    #[serde(with = "crate::single")]
    pub icl_by_example: Vec<f64>,
    /// Same-token score of each example.
    #[serde(with = "crate::single")]
    pub same_token_by_example: Vec<f64>,
}

impl KnockoutRow {
    /// The heads concerned: of paths those that write, then the one that reads; of the whole model
    /// none.
    pub fn heads(&self) -> Vec<HeadId> {
        self.ablation.as_ref().map_or_else(Vec::new, Ablation::heads)
    }

    /// What the layers above do, where heads are removed.
    pub fn downstream(&self) -> Option<Downstream> {
        self.ablation.as_ref().and_then(Ablation::downstream)
    }
}

/// An ablation or null, which must be there: a field that is lost would pass for the whole model.
fn there<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Ablation>, D::Error> {
    Option::deserialize(from)
}

impl Row for KnockoutRow {
    const FILE: &'static str = "knockouts.jsonl";
    const STAGE: Stage = Stage::Ablating;
    const IN_ORDER: bool = false;

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn lists(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("loss_by_example", self.loss_by_example.len()),
            ("icl_by_example", self.icl_by_example.len()),
            ("same_token_by_example", self.same_token_by_example.len()),
        ]
    }

    fn check(&self) -> Result<(), String> {
        some("loss_by_example", &self.loss_by_example)?;
        some("same_token_by_example", &self.same_token_by_example)
    }
}
