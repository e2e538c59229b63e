//! Ablations as data; what they do to a model is the business of the crate `induction-ablation`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A head, layer and place counted from 0; shown as `1.3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadId {
    /// Layer.
    pub layer: usize,
    /// Head.
    pub head: usize,
}

impl fmt::Display for HeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.layer, self.head)
    }
}

/// What takes the place of what a removed head wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// Nothing: the paper's ablation.
    Zero,
    /// Its `z` averaged over the examples, position by position.
    Mean,
    /// Its `z` on another of the examples: one fixed other for each.
    Resample,
}

/// What the layers above a removed head do about it (paper.md, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Downstream {
    /// They see what is left: queries, keys and values all change.
    Full,
    /// Every pattern stays that of the whole model, so only what is read changes: the kind that the
    /// paper plots.
    PatternPreserving,
}

/// What a head computes from the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// Its queries: cutting them cuts Q-composition.
    Queries,
    /// Its keys: K-composition.
    Keys,
    /// Its values: V-composition.
    Values,
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queries => "queries",
            Self::Keys => "keys",
            Self::Values => "values",
        })
    }
}

/// One intervention on a model, in the words of the field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ablation {
    /// These heads write something else than what they read.
    Heads {
        /// At least one.
        heads: Vec<HeadId>,
        /// What.
        fill: Fill,
        /// What the layers above do.
        downstream: Downstream,
    },
    /// A head attends by a pattern made from the tokens.
    Substitute {
        /// Head.
        head: HeadId,
        /// Pattern.
        pattern: IdealPattern,
    },
    /// What one head writes is taken out of what another reads; the rest of the model sees it as
    /// before. Only the direct path is cut, through no head or MLP between the two. Only in models
    /// that can be trained.
    Path {
        /// The head that writes.
        from: HeadId,
        /// The head that reads, in a later layer.
        to: HeadId,
        /// What it reads.
        into: Reads,
    },
    /// The same of several heads at once. Their order means nothing, nor does a head that is there
    /// twice.
    Paths {
        /// The heads that write, at least one.
        from: Vec<HeadId>,
        /// The head that reads, in a later layer than any of them.
        to: HeadId,
        /// What it reads.
        into: Reads,
    },
}

impl Ablation {
    /// Removes one head by zero.
    pub fn zero(head: HeadId, downstream: Downstream) -> Self {
        Self::Heads { heads: vec![head], fill: Fill::Zero, downstream }
    }

    /// The heads concerned: of paths those that write, then the one that reads.
    pub fn heads(&self) -> Vec<HeadId> {
        match self {
            Self::Heads { heads, .. } => heads.clone(),
            Self::Substitute { head, .. } => vec![*head],
            Self::Path { from, to, .. } => vec![*from, *to],
            Self::Paths { from, to, .. } => from.iter().chain([to]).copied().collect(),
        }
    }

    /// What the layers above do, where heads are removed.
    pub fn downstream(&self) -> Option<Downstream> {
        match self {
            Self::Heads { downstream, .. } => Some(*downstream),
            _ => None,
        }
    }
}

/// A pattern made from the tokens alone (paper.md, 9: R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdealPattern {
    /// Every position attends to the one before it.
    PreviousToken,
    /// Every position attends to what followed earlier copies of its token.
    InductionOneToken,
    /// The same, where the token before must match, too.
    InductionTwoTokens,
}
