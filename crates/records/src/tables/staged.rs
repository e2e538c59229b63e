//! What tells the stages of training apart: how far a model's predictions are from those of simple
//! predictors, and its local learning coefficient.

use std::collections::BTreeMap;

use induction_metrics::{Crossing, Sgld, Stages};
use serde::{Deserialize, Serialize};

use crate::{
    HeadId, Row, Stage,
    read::{some, stderr},
};

/// A line of `distances.jsonl`: how far a snapshot's predictions are from those of each simple
/// predictor, in nats, as a mean over examples and positions, with its standard error over examples
/// (`induction_metrics::references`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistanceRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// From all tokens alike.
    pub uniform: f64,
    /// Its standard error.
    pub uniform_stderr: Option<f64>,
    /// That of each example.
    #[serde(with = "crate::single")]
    pub uniform_by_example: Vec<f64>,
    /// From tokens by their frequency.
    pub unigram: f64,
    /// Its standard error.
    pub unigram_stderr: Option<f64>,
    /// That of each example.
    #[serde(with = "crate::single")]
    pub unigram_by_example: Vec<f64>,
    /// From tokens by their frequency after the current one.
    pub bigram: f64,
    /// Its standard error.
    pub bigram_stderr: Option<f64>,
    /// That of each example.
    #[serde(with = "crate::single")]
    pub bigram_by_example: Vec<f64>,
    /// From bigrams mixed with what followed earlier copies in the context.
    pub induction: f64,
    /// Its standard error.
    pub induction_stderr: Option<f64>,
    /// That of each example.
    #[serde(with = "crate::single")]
    pub induction_by_example: Vec<f64>,
    /// The predictor that is nearest: `uniform`, `unigram`, `bigram` or `induction`.
    pub nearest: String,
}

impl DistanceRow {
    /// The distances, in the order of the columns.
    pub fn distances(&self) -> [f64; 4] {
        [self.uniform, self.unigram, self.bigram, self.induction]
    }
}

impl Row for DistanceRow {
    const FILE: &'static str = "distances.jsonl";

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn lists(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("uniform_by_example", self.uniform_by_example.len()),
            ("unigram_by_example", self.unigram_by_example.len()),
            ("bigram_by_example", self.bigram_by_example.len()),
            ("induction_by_example", self.induction_by_example.len()),
        ]
    }

    fn check(&self) -> Result<(), String> {
        some("uniform_by_example", &self.uniform_by_example)?;
        let examples = self.uniform_by_example.len();
        if let Some((name, found)) = self.lists().into_iter().find(|list| list.1 != examples) {
            return Err(format!(
                "`{name}` has {found} entries, expected {examples} as in `uniform_by_example`"
            ));
        }
        let columns = [
            ("uniform", self.uniform),
            ("unigram", self.unigram),
            ("bigram", self.bigram),
            ("induction", self.induction),
        ];
        if let Some((name, value)) = columns.into_iter().find(|(_, value)| *value < 0.0) {
            return Err(format!("`{name}` is {value}, expected a number from 0 upwards"));
        }
        stderr("uniform_stderr", self.uniform_stderr)?;
        stderr("unigram_stderr", self.unigram_stderr)?;
        stderr("bigram_stderr", self.bigram_stderr)?;
        stderr("induction_stderr", self.induction_stderr)
    }
}

/// `distances.json`: what the distances were taken with, from which snapshots, and the stages into
/// which they fall.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistancesFrom {
    /// Version of the distances' definitions.
    pub version: u32,
    /// [`RunSpec::training_hash`](crate::RunSpec::training_hash) of the run.
    pub spec_hash: String,
    /// The engine.
    #[serde(deserialize_with = "super::engine_name")]
    pub engine: String,
    /// Held-out examples that they are taken on.
    pub examples: usize,
    /// Hash of each snapshot's manifest, by step.
    pub snapshots: BTreeMap<u64, String>,
    /// When each predictor gives way to the next as the nearer one: three.
    pub crossings: Vec<Crossing>,
    /// The stages of the distances from unigrams, bigrams and induction together; nothing where
    /// there are too few snapshots.
    pub stages: Option<Stages>,
}

impl DistancesFrom {
    /// The file, in the folder of the tables.
    pub const FILE: &'static str = "distances.json";
}

/// A line of `llc.jsonl`: the local learning coefficient of a snapshot, of the whole model or
/// restricted to one head (`induction_metrics::llc`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlcRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// The head's layer, from 0; nothing for the whole model.
    pub layer: Option<usize>,
    /// The head, from 0; nothing for the whole model.
    pub head: Option<usize>,
    /// The mean over chains; nothing where a chain left the finite numbers.
    pub llc: Option<f64>,
    /// Its standard error, from how chains differ.
    pub llc_stderr: Option<f64>,
    /// Each chain's own; empty where one left the finite numbers.
    pub by_chain: Vec<f64>,
    /// The second half of the draws less the first: far from 0 where chains had not settled.
    pub drift: Option<f64>,
    /// Its standard error, from how chains differ.
    pub drift_stderr: Option<f64>,
}

impl LlcRow {
    /// The head, or nothing for the whole model.
    pub fn of(&self) -> Option<HeadId> {
        Some(HeadId { layer: self.layer?, head: self.head? })
    }
}

impl Row for LlcRow {
    const FILE: &'static str = "llc.jsonl";
    const STAGE: Stage = Stage::Sampling;

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    /// The whole model first.
    fn key(&self) -> [u64; 6] {
        let [layer, head] = [self.layer, self.head].map(|at| at.map_or(0, |at| at as u64 + 1));
        [self.step, layer, head, 0, 0, 0]
    }

    fn check(&self) -> Result<(), String> {
        if self.layer.is_some() != self.head.is_some() {
            return Err("`layer` and `head` must both be numbers or both be null".to_string());
        }
        if self.llc.is_some() == self.by_chain.is_empty() {
            return Err("`by_chain` has no entries where `llc` is null, and only there".to_string());
        }
        stderr("llc_stderr", self.llc_stderr)?;
        stderr("drift_stderr", self.drift_stderr)
    }
}

/// `llc.json`: what the coefficients were sampled with, from which snapshots, and the stages into
/// which that of the whole model falls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampledFrom {
    /// Version of the coefficients' definitions.
    pub version: u32,
    /// [`RunSpec::training_hash`](crate::RunSpec::training_hash) of the run.
    pub spec_hash: String,
    /// The engine.
    #[serde(deserialize_with = "super::engine_name")]
    pub engine: String,
    /// Training examples whose mean loss is meant.
    pub examples: usize,
    /// Of them, in each minibatch.
    pub batch: usize,
    /// How weights are drawn.
    pub sgld: Sgld,
    /// Hash of each snapshot's manifest, by step.
    pub snapshots: BTreeMap<u64, String>,
    /// The stages of the whole model's coefficient; nothing where there are too few snapshots.
    pub stages: Option<Stages>,
}

impl SampledFrom {
    /// The file, in the folder of the tables.
    pub const FILE: &'static str = "llc.json";
}
