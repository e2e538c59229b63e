//! What a run's curves say as a whole.

use induction_metrics::{Bump, CopyingCeiling, StepFit};
use serde::{Deserialize, Serialize};

/// `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The step that the same-token ICL score makes; between its 10 % and 90 % points lies the
    /// phase-change window (paper.md, 2.1). How well it is known over examples, the report says.
    pub window: Option<StepFit>,
    /// Why there is none.
    pub no_window: Option<String>,
    /// Where the held-out loss, smoothed, lies above its convex envelope; the deepest first.
    pub loss_bumps: Vec<Bump>,
    /// The head that ends with the highest prefix matching.
    pub best_head: BestHead,
    /// Training tokens at which in-context learning begins: the window's start.
    pub observed_onset_tokens: Option<f64>,
    /// The same by the published law 10^5.7 sqrt(batch x context).
    pub predicted_onset_tokens: f64,
    /// What can be gained on the text without induction heads.
    pub ceiling: CeilingOfText,
    /// What heads of the last snapshot can be expected to score of the copying measure.
    pub copying_ceiling: CopyingCeiling,
    /// How often each token of the text was read, on average; nothing for endless data.
    pub passes: Option<f64>,
}

impl Summary {
    /// The file, in the folder of the tables.
    pub const FILE: &'static str = "summary.json";
}

/// The head that ends with the highest prefix matching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestHead {
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// At the end.
    pub prefix_matching: f64,
    /// Training tokens at which its prefix matching is half of its last value.
    pub half_time_tokens: Option<f64>,
    /// Training tokens of the first snapshot after the single change in mean that explains its
    /// prefix matching best.
    pub change_point_tokens: Option<u64>,
}

/// What a mixture of a bigram model and in-context matches reaches on the evaluation examples
/// (paper.md, 9: Q2), in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CeilingOfText {
    /// Mean loss.
    pub loss: f64,
    /// ICL score.
    pub icl_score: f64,
    /// Its standard error over examples.
    pub stderr: Option<f64>,
    /// By index.
    pub loss_by_index: Vec<f64>,
    /// Mean loss of the bigram model alone.
    pub bigram_loss: f64,
    /// Its ICL score.
    pub bigram_icl_score: f64,
}
