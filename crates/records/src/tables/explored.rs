//! What exploring leaves: a text's losses over training, and what heads attend to on it and on
//! argument 4's prompts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    HeadId, Row, Stage,
    read::{some, stderr, within},
};

/// The behaviours of argument 4, as prompts are named, in the order of the tables.
pub const BEHAVIOURS: [&str; 3] = ["literal copying", "translation", "pattern matching"];

/// `explore.json`: what the maps were made with, and from which snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExploredFrom {
    /// Version of the maps' definitions.
    pub version: u32,
    /// Version of the prompts; absent before there was one.
    #[serde(default)]
    pub prompts_version: u32,
    /// [`RunSpec::training_hash`](crate::RunSpec::training_hash) of the run.
    pub spec_hash: String,
    /// The engine.
    #[serde(deserialize_with = "super::engine_name")]
    pub engine: String,
    /// Hash of the text's tokens.
    pub text: String,
    /// Hash of each snapshot's manifest, by step.
    pub snapshots: BTreeMap<u64, String>,
    /// That of the snapshot that the prompts were put to.
    pub prompts: Option<String>,
}

impl ExploredFrom {
    /// The file, in the folder of the tables.
    pub const FILE: &'static str = "explore.json";
}

/// `text.json`: what the entries of `text.jsonl` are the losses of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FollowedText {
    /// A file, or which held-out example.
    pub name: String,
    /// Token ids without the start token.
    pub ids: Vec<u32>,
    /// Each token for a reader's eyes: its text, or its number where the data have no text.
    pub tokens: Vec<String>,
}

impl FollowedText {
    /// The file, in the folder of the tables.
    pub const FILE: &'static str = "text.json";
}

/// A line of `text.jsonl`: the loss of each token of the text, from the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// In nats.
    #[serde(with = "crate::single")]
    pub losses: Vec<f64>,
}

impl Row for TextRow {
    const FILE: &'static str = "text.jsonl";
    const STAGE: Stage = Stage::Exploring;

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

/// An entry of `prompts.json`: a prompt of a behaviour, as tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// One of [`BEHAVIOURS`].
    pub behaviour: String,
    /// Token ids, the start token first.
    pub ids: Vec<u32>,
    /// Each for a reader's eyes.
    pub tokens: Vec<String>,
    /// Where attention is judged.
    pub queries: Vec<Query>,
}

impl Prompt {
    /// The file of a run's prompts, in the folder of the tables.
    pub const FILE: &'static str = "prompts.json";

    /// The queries that are asked: the last token is a target alone, and predicts nothing.
    pub fn asked(&self) -> impl Iterator<Item = &Query> {
        self.queries.iter().filter(|query| query.at + 1 < self.ids.len())
    }
}

/// A position before something that can be known from earlier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// The position that attends.
    pub at: usize,
    /// Where the answer can be found, ascending.
    pub targets: Vec<usize>,
    /// All positions of the targets' kind, right and wrong; chance is taken among these, too.
    pub among: Vec<usize>,
    /// Of the attention on `among`, what would go to targets if it went to each place by how many
    /// different tokens the words before it share with the words before the query; evenly where
    /// none shares any. Nothing where no words are marked.
    pub literal: Option<f64>,
}

/// A head on the prompts of one behaviour, each share the mean over prompts of the mean over their
/// queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BehaviourScores {
    /// One of [`BEHAVIOURS`].
    pub behaviour: String,
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// Of the query's attention, what goes to right positions.
    pub share: f64,
    /// Over prompts; nothing of one.
    pub share_stderr: Option<f64>,
    /// The same with attention spread evenly over all earlier positions.
    pub chance: f64,
    /// Of the attention on positions of the right kind, what goes to right ones.
    pub share_among: f64,
    /// Over prompts; nothing of one.
    pub share_among_stderr: Option<f64>,
    /// The same with attention spread evenly over them.
    pub chance_among: f64,
    /// The same with attention spread over them by how many tokens the words before them share with
    /// the words before the query (evenly where none shares any): what copying literally would
    /// reach, without any pattern. Nothing but for `pattern matching`, whose answer literal copying
    /// can guess.
    pub literal_share_among: Option<f64>,
    /// How many positions are judged, over all prompts.
    pub queries: usize,
    /// What the head adds to the right token's logit through right positions, in nats.
    pub attribution: f64,
    /// What it adds to it through all positions.
    pub attribution_total: f64,
}

impl BehaviourScores {
    /// Which head.
    pub fn id(&self) -> HeadId {
        HeadId { layer: self.layer, head: self.head }
    }

    /// Where the behaviour stands in [`BEHAVIOURS`]; after them all if it is none.
    pub(crate) fn order(&self) -> usize {
        BEHAVIOURS.iter().position(|name| *name == self.behaviour).unwrap_or(BEHAVIOURS.len())
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.order() == BEHAVIOURS.len() {
            let found = crate::visible(&format!("{:?}", self.behaviour));
            return Err(format!("`behaviour` is {found}, expected {}", BEHAVIOURS.join(", ")));
        }
        for (name, share) in [
            ("share", self.share),
            ("chance", self.chance),
            ("share_among", self.share_among),
            ("chance_among", self.chance_among),
        ] {
            within(name, share, 0.0, 1.0)?;
        }
        stderr("share_stderr", self.share_stderr)?;
        stderr("share_among_stderr", self.share_among_stderr)
    }
}

/// A line of `prompts.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// What the head does.
    #[serde(flatten)]
    pub scores: BehaviourScores,
}

impl Row for PromptRow {
    const FILE: &'static str = "prompts.jsonl";
    const STAGE: Stage = Stage::Exploring;
    const MAY_BE_EMPTY: bool = true; // Data without text have no prompts.

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn key(&self) -> [u64; 6] {
        let BehaviourScores { layer, head, .. } = self.scores;
        [self.step, self.scores.order() as u64, layer as u64, head as u64, 0, 0]
    }

    fn check(&self) -> Result<(), String> {
        self.scores.check()
    }
}
