//! Ablations: what a model loses when heads are removed, their patterns replaced, or one path
//! between two heads cut (paper.md, 4 and 9: R1).
//!
//! An [`Ablation`] is data. [`losses_under`] runs many of them on the same examples: the run
//! without any is shared, layers below an ablated head are not computed again, and patterns that
//! are kept are not either.
//!
//! ```
//! use induction_ablation::{Ablation, Downstream, HeadId, Inputs, losses_under, single_heads};
//! use induction_engine::CpuEngine;
//! use induction_model::ModelConfig;
//! use ndarray::array;
//!
//! let config = ModelConfig { n_layers: 2, d_model: 8, n_heads: 2, d_head: 4, n_ctx: 3, d_vocab: 5, ..ModelConfig::default() };
//! let params = config.init_params(0)?;
//! let engine = CpuEngine::new(&config, &params)?;
//! let examples = array![[0, 1, 2, 3], [0, 4, 4, 4]];
//! let ablations = single_heads(&config, &[Downstream::Full, Downstream::PatternPreserving]);
//! assert_eq!(ablations.len(), 8);
//! let inputs = Inputs { engine: &engine, params: &params, examples: examples.view() };
//! let result = losses_under(&inputs, &ablations)?;
//! assert_eq!(result.clean.dim(), (2, 3)); // nats, one a target
//! assert_eq!(result.ablated.len(), 8);
//! // Nothing attends after the last layer: both kinds are one there.
//! assert_eq!(result.ablated[4], result.ablated[5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Runnable: `cargo run -p induction-ablation --example without_each_head`.

mod controls;
mod path;
mod patterns;
mod run;

use std::fmt;

use induction_engine::Intervention;
use induction_model::ModelConfig;
use serde::{Deserialize, Serialize};

pub use controls::{ControlSet, control_sets};
pub use patterns::{IdealPattern, induction_pattern, previous_token_pattern};
pub use run::{Inputs, Losses, losses_under};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] induction_engine::Error),
    /// An ablation that does not fit the model or the examples.
    #[error("ablation: {0}")]
    Ablation(String),
}

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
    /// of the paper's family.
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

    /// The same ablation by its simplest name: where no pattern comes after the removed heads, both
    /// kinds are one; paths are cut in the order of their heads, and a single one is a path.
    fn canonical(&self, config: &ModelConfig) -> Self {
        match self {
            Self::Heads { heads, fill, .. }
                if heads.iter().all(|h| h.layer + 1 == config.n_layers) =>
            {
                Self::Heads { heads: heads.clone(), fill: *fill, downstream: Downstream::Full }
            }
            Self::Paths { from, to, into } => {
                let mut from = from.clone();
                from.sort();
                from.dedup();
                match from[..] {
                    [from] => Self::Path { from, to: *to, into: *into },
                    _ => Self::Paths { from, to: *to, into: *into },
                }
            }
            other => other.clone(),
        }
    }

    fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        let there = |h: &HeadId| {
            if h.layer < config.n_layers && h.head < config.n_heads {
                return Ok(());
            }
            let (layers, heads) = (config.n_layers, config.n_heads);
            Err(Error::Ablation(format!(
                "head {h}: the model has {layers} layers of {heads} heads, counted from 0"
            )))
        };
        let path = |from: &HeadId, to: &HeadId| {
            config.require_paper_family("cutting a path").map_err(induction_engine::Error::from)?;
            there(from)?;
            there(to)?;
            if from.layer < to.layer {
                return Ok(());
            }
            Err(Error::Ablation(format!(
                "path from head {from} to {to}: it must lead to a later layer"
            )))
        };
        match self {
            Self::Heads { heads, .. } if heads.is_empty() => {
                Err(Error::Ablation("no head to remove".into()))
            }
            Self::Heads { heads, .. } => heads.iter().try_for_each(there),
            Self::Substitute { head, .. } => there(head),
            Self::Path { from, to, .. } => path(from, to),
            Self::Paths { from, .. } if from.is_empty() => {
                Err(Error::Ablation("no path to cut".into()))
            }
            Self::Paths { from, to, .. } => from.iter().try_for_each(|from| path(from, to)),
        }
    }
}

/// Every head of a model removed by zero, in each kind: layer by layer, head by head, kind by kind.
pub fn single_heads(config: &ModelConfig, kinds: &[Downstream]) -> Vec<Ablation> {
    let heads = (0..config.n_layers)
        .flat_map(|layer| (0..config.n_heads).map(move |head| HeadId { layer, head }));
    heads.flat_map(|head| kinds.iter().map(move |&kind| Ablation::zero(head, kind))).collect()
}

/// What freezes the patterns of all layers above the lowest of these heads.
fn frozen_above(
    heads: &[HeadId],
    config: &ModelConfig,
) -> impl Iterator<Item = Intervention> + use<> {
    let lowest = heads.iter().map(|h| h.layer).min().unwrap_or(config.n_layers);
    (lowest + 1..config.n_layers).map(|layer| Intervention::FreezePatterns { layer })
}
