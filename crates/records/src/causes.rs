//! What a scan says of heads by cause: part of `scan.json`.

use serde::{Deserialize, Serialize};

use crate::Reads;

/// One measure of heads by cause: what the model expects of its prompts, with no head changed. Each
/// head's share is among its scores, by the [name](Cause::score) of the measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByCause {
    /// Which.
    pub cause: Cause,
    /// How many prompts.
    pub prompts: usize,
    /// Tokens of the longest. Contexts and vocabularies that are too small for the usual prompts have
    /// shorter ones, which are easier.
    pub tokens: usize,
    /// Prompts or words that this vocabulary has no fitting tokens for, or this context no room, and
    /// that were left out.
    pub left_out: usize,
    /// The probability of what should follow, a mean over prompts.
    pub plain: f64,
    /// Its standard error.
    pub plain_stderr: Option<f64>,
    /// The probability in those prompts from which something is carried over; nothing where nothing
    /// is.
    pub with: Option<f64>,
    /// Its standard error.
    pub with_stderr: Option<f64>,
    /// Whether the heads that do it are those that match prefixes; nothing where all heads are
    /// alike.
    pub matching: Option<GoesWith>,
}

/// How two scores go together over all heads of a model: Spearman's rank correlation, with a
/// bootstrap's 95 % interval over heads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoesWith {
    /// The correlation, between -1 and 1.
    pub rank_correlation: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What a head may bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It copies random tokens.
    TokenCopying,
    /// It copies words of several tokens.
    ConceptCopying,
    /// It attends to what followed an earlier copy, and that is of use.
    InductionCut,
    /// It attends to a token that is expected already, and that makes it less expected.
    CopySuppression,
    /// It carries what a task is.
    FunctionVector,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::TokenCopying,
        Self::ConceptCopying,
        Self::InductionCut,
        Self::CopySuppression,
        Self::FunctionVector,
    ];

    /// The name of a head's score, the change of a probability; with `_nats`, that of its logarithm,
    /// and with `_stderr` after either, its standard error.
    pub fn score(self) -> &'static str {
        match self {
            Self::TokenCopying => "token_copying",
            Self::ConceptCopying => "concept_copying",
            Self::InductionCut => "induction_cut",
            Self::CopySuppression => "copy_suppression",
            Self::FunctionVector => "function_vector",
        }
    }

    /// The name of the same in nats.
    pub const fn nats(self) -> &'static str {
        match self {
            Self::TokenCopying => "token_copying_nats",
            Self::ConceptCopying => "concept_copying_nats",
            Self::InductionCut => "induction_cut_nats",
            Self::CopySuppression => "copy_suppression_nats",
            Self::FunctionVector => "function_vector_nats",
        }
    }

    /// What it is, in words.
    pub fn title(self) -> &'static str {
        match self {
            Self::TokenCopying => "copying random tokens",
            Self::ConceptCopying => "copying words of several tokens",
            Self::InductionCut => "attending to what followed an earlier copy",
            Self::CopySuppression => "holding back what is expected already",
            Self::FunctionVector => "carrying what a task is",
        }
    }

    /// What a head does that has it, as the heading of a column.
    pub fn verb(self) -> &'static str {
        match self {
            Self::TokenCopying => "copies tokens",
            Self::ConceptCopying => "copies words",
            Self::InductionCut => "pattern is worth",
            Self::CopySuppression => "holds back",
            Self::FunctionVector => "tells the task",
        }
    }
}

/// A head that stands out by a measure: even the lower end of its effect's interval is more than a
/// head among as many random ones shows ([`evidence`](induction_metrics::evidence())).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandsOut {
    /// The name of a score.
    pub measure: String,
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// The head's score less the mean of the other heads' of its layer.
    pub effect: f64,
    /// Half the width of its interval, which holds for all heads of the model together at 95 %.
    pub margin: f64,
}

impl StandsOut {
    /// The measures that tell what a head does, each with what a head does that stands out by it. All
    /// are means over samples.
    pub const MEASURES: [(&str, &str); 11] = [
        ("prefix_matching", "matches prefixes"),
        ("previous_token", "attends to the token before"),
        ("duplicate_token", "attends to copies of the token itself"),
        ("start_token", "rests on the first token"),
        ("retrieval", "attends to what is asked for"),
        ("successor", "raises what comes next in an order"),
        (Cause::TokenCopying.nats(), "copies tokens"),
        (Cause::ConceptCopying.nats(), "copies words"),
        (Cause::InductionCut.nats(), "is needed where it matches prefixes"),
        (Cause::CopySuppression.nats(), "holds back what is expected already"),
        (Cause::FunctionVector.nats(), "tells what the task is"),
    ];
}

/// What is lost without some heads, and without their induction pattern alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutHeads {
    /// Whether these are random heads of the same layers as those of the set before.
    pub is_control: bool,
    /// `[layer, head]` of each.
    pub heads: Vec<[usize; 2]>,
    /// On each kind of text.
    pub worth: Vec<WorthOn>,
}

/// By how much the loss of tokens rises that an earlier copy has something to say of, in nats a
/// token, means over examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorthOn {
    /// Which.
    pub on: CutOn,
    /// Without the heads.
    pub removed: f64,
    /// Its standard error, paired.
    pub removed_stderr: Option<f64>,
    /// With the heads, which may not attend to what followed an earlier copy.
    pub cut: f64,
    /// Its standard error, paired.
    pub cut_stderr: Option<f64>,
}

/// A kind of text, and which of its tokens count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutOn {
    /// Random tokens that repeat; those of the second copy.
    Repeats,
    /// Prose; tokens that stood after an earlier copy of the token before them.
    Text,
    /// Argument 4's patterns; the labels.
    Patterns,
}

impl CutOn {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Repeats, Self::Text, Self::Patterns];
}

/// Which parts of the model below it one head reads, found by patching paths: what a part adds to the
/// residual stream is taken from another sequence in what the head's queries, keys or values are made
/// of, and nowhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathsInto {
    /// The head's layer.
    pub layer: usize,
    /// Its number there.
    pub head: usize,
    /// Sequences: a start token and two copies of a block of random tokens.
    pub examples: usize,
    /// Its attention in the second copy on what followed the token in the first, a share.
    pub attention: f64,
    /// By how much it raises, by the direct path, the logit of the token that comes next in the
    /// second copy over the mean of the vocabulary, in logits.
    pub raises: f64,
    /// How the paths' exact effects go with their first order.
    pub agreement: Vec<PathsAgree>,
    /// The paths, from the embedding on upwards.
    pub paths: Vec<PathFrom>,
}

/// The rank correlation of exact effects with their first order, over all paths into a head's
/// queries, keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathsAgree {
    /// Which.
    pub into: Reads,
    /// Spearman's; nothing where all effects are the same.
    pub rank_correlation: Option<f64>,
}

/// A path into a head.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathFrom {
    /// Whose output: a head's of this layer, or the layer's MLP's; the embedding's without one.
    pub layer: Option<usize>,
    /// The head; nothing of an MLP and of the embedding.
    pub head: Option<usize>,
    /// What it is read for.
    pub into: Reads,
    /// The share that is lost with the path patched: of the head's attention (queries, keys), or of
    /// what it raises (values).
    pub lost: f64,
    /// Its standard error.
    pub lost_stderr: Option<f64>,
    /// What is lost: of the logarithm of the attention's odds, in nats (queries, keys), or of what
    /// the head raises, in logits (values).
    pub exact: f64,
    /// Its standard error.
    pub exact_stderr: Option<f64>,
    /// The same to first order, from one backward pass for all paths.
    pub first_order: f64,
}

impl PathFrom {
    /// Whose output it is, as a reader names it: `4.2`, `MLP 3`, `embedding`.
    pub fn part(&self) -> String {
        match (self.layer, self.head) {
            (Some(layer), Some(head)) => format!("{layer}.{head}"),
            (Some(layer), None) => format!("MLP {layer}"),
            _ => "embedding".to_string(),
        }
    }
}
