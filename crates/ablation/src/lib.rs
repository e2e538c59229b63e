//! Ablations: what a model loses when heads are removed, their patterns replaced, or one path
//! between two heads cut (docs/paper.md, sections 4 and 9).
//!
//! An [`Ablation`] is data. [`losses_under`] runs many of them on the same examples. They share one
//! run without ablations; layers below an ablated head, and attention patterns that are kept, are
//! not computed again.
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
//! assert_eq!(result.clean.dim(), (2, 3)); // loss in nats of each target token
//! assert_eq!(result.ablated.len(), 8);
//! // Nothing attends after the last layer, so both kinds of ablation are identical there.
//! assert_eq!(result.ablated[4], result.ablated[5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Runnable: `cargo run -p induction-ablation --example without_each_head`.

mod controls;
mod path;
mod patterns;
mod reading;
mod run;

use induction_engine::Intervention;
use induction_model::ModelConfig;

pub use controls::{ControlSet, control_sets};
pub use induction_records::{Ablation, Downstream, Fill, HeadId, IdealPattern, Reads};
pub use patterns::{ideal_pattern, induction_pattern, previous_token_pattern};
pub use reading::HeadReading;
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

/// The same ablation by its simplest name: where no pattern comes after the removed heads, both
/// kinds are one; paths are cut in the order of their heads, and a single one is a path.
fn canonical(ablation: &Ablation, config: &ModelConfig) -> Ablation {
    match ablation {
        Ablation::Heads { heads, fill, .. }
            if heads.iter().all(|h| h.layer + 1 == config.n_layers) =>
        {
            Ablation::Heads { heads: heads.clone(), fill: *fill, downstream: Downstream::Full }
        }
        Ablation::Paths { from, to, into } => {
            let mut from = from.clone();
            from.sort();
            from.dedup();
            match from[..] {
                [from] => Ablation::Path { from, to: *to, into: *into },
                _ => Ablation::Paths { from, to: *to, into: *into },
            }
        }
        other => other.clone(),
    }
}

/// Refuses an ablation that does not fit the model.
fn check(ablation: &Ablation, config: &ModelConfig) -> Result<(), Error> {
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
        config.require_trainable("cutting a path").map_err(induction_engine::Error::from)?;
        there(from)?;
        there(to)?;
        if from.layer < to.layer {
            return Ok(());
        }
        Err(Error::Ablation(format!(
            "path from head {from} to {to}: it must lead to a later layer"
        )))
    };
    match ablation {
        Ablation::Heads { heads, .. } if heads.is_empty() => {
            Err(Error::Ablation("no head to remove".into()))
        }
        Ablation::Heads { heads, .. } => heads.iter().try_for_each(there),
        Ablation::Substitute { head, .. } => there(head),
        Ablation::Path { from, to, .. } => path(from, to),
        Ablation::Paths { from, .. } if from.is_empty() => {
            Err(Error::Ablation("no path to cut".into()))
        }
        Ablation::Paths { from, to, .. } => from.iter().try_for_each(|from| path(from, to)),
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
