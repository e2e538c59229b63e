//! The tables of a run, and the files of one JSON value beside them: a type for each
//! (docs/FORMATS.md).

mod ablated;
mod explored;
pub(crate) mod heads;
mod losses;
mod optimum;
mod staged;
mod summary;
mod training;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::EvaluationSpec;

pub use self::{
    ablated::{AblatedFrom, AblationRow, Change, KnockoutRow},
    explored::{
        BEHAVIOURS, BehaviourScores, ExploredFrom, FollowedText, Prompt, PromptRow, Query, TextRow,
    },
    heads::{CompositionRow, HeadRow, NamedScores},
    losses::{CopyRow, IclRow, LossRow, RandomTokenRow},
    optimum::{Optimum, Predictor},
    staged::{DistanceRow, DistancesFrom, LlcRow, SampledFrom},
    summary::{BestHead, CeilingOfText, Summary},
    training::{HistoryRow, StepRow},
};

/// `meta.json`: what the tables of measuring were made with, and from which snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredFrom {
    /// Version of the measurements' definitions.
    pub measures: u32,
    /// [`RunSpec::training_hash`](crate::RunSpec::training_hash) of the run.
    pub spec_hash: String,
    /// The engine.
    #[serde(deserialize_with = "engine_name")]
    pub engine: String,
    /// What was measured.
    pub evaluation: EvaluationSpec,
    /// Hash of each measured snapshot's manifest, by step.
    pub snapshots: BTreeMap<u64, String>,
}

impl MeasuredFrom {
    /// The file, in the folder of the tables.
    pub const FILE: &'static str = "meta.json";
}

/// Reads an engine's name from a file. Folders of earlier versions have `burn-flex` for `flex`, and
/// so on.
///
/// # Errors
/// Something that is not a string.
pub fn engine_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name: String = Deserialize::deserialize(deserializer)?;
    Ok(name.strip_prefix("burn-").map_or_else(|| name.clone(), str::to_string))
}
