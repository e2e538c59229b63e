//! How well a run's data can be predicted.

use serde::{Deserialize, Serialize};

/// `optimum.json`: what predictors that know a synthetic source's process lose on the evaluation
/// examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// The source, as the spec has it.
    pub source: String,
    /// The ideal predictor, then simpler ones.
    pub predictors: Vec<Predictor>,
}

impl Optimum {
    /// The file, in the folder of the tables.
    pub const FILE: &'static str = "optimum.json";
    /// The name of the ideal predictor, of which no model's expected loss is lower.
    pub const IDEAL: &'static str = "optimum";

    /// The ideal predictor.
    pub fn ideal(&self) -> Option<&Predictor> {
        self.predictors.iter().find(|predictor| predictor.name == Self::IDEAL)
    }
}

/// One of them, in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predictor {
    /// What it is called.
    pub name: String,
    /// Mean loss over examples and indices.
    pub loss: f64,
    /// Its standard error over examples.
    pub stderr: Option<f64>,
    /// Mean over indices of each example.
    #[serde(with = "crate::single")]
    pub by_example: Vec<f64>,
    /// By index, as a model's.
    pub loss_by_index: Vec<f64>,
}
