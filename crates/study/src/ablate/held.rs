//! The examples that heads are removed on, and how losses on them are scored.

use induction_ablation::{Ablation, Inputs, Losses, losses_under};
use induction_engine::Engine;
use induction_metrics::{IclIndices, SameToken, icl_by_example};
use induction_model::Params;
use induction_records::EvaluationSpec;
use ndarray::Array2;

use crate::{Error, measure::indices_of, source::Source};

/// How many examples heads are removed on: the first so many of those that are measured.
pub(super) fn examples_of(spec: &EvaluationSpec) -> usize {
    spec.ablation_examples.min(spec.examples)
}

/// What the removals are taken on.
pub(super) struct Held {
    /// `[example, n_ctx + 1]`.
    pub(super) examples: Array2<u32>,
    /// The windows in which the last tokens of the examples are predicted again.
    pub(super) fresh: Array2<u32>,
    pub(super) indices: IclIndices,
    pub(super) same: SameToken,
}

/// Losses of a model and under its ablations.
pub(super) struct Under {
    /// On the examples.
    pub(super) long: Losses,
    /// On the fresh windows.
    pub(super) fresh: Losses,
}

impl Under {
    /// Of the whole model, on the examples and on the fresh windows.
    pub(super) fn clean(&self) -> [&Array2<f32>; 2] {
        [&self.long.clean, &self.fresh.clean]
    }

    /// The same under each ablation.
    pub(super) fn ablated(&self) -> impl Iterator<Item = [&Array2<f32>; 2]> {
        self.long.ablated.iter().zip(&self.fresh.ablated).map(|(long, fresh)| [long, fresh])
    }
}

/// The in-context learning scores of each example, in nats.
pub(super) struct Scores {
    pub(super) icl: Vec<f64>,
    pub(super) same_token: Vec<f64>,
}

impl Held {
    pub(super) fn new(spec: &EvaluationSpec, source: &Source) -> Result<Self, Error> {
        let examples = source.held_out(examples_of(spec))?;
        let (indices, same) = indices_of(spec, examples.ncols() - 1)?;
        Self::on(examples, indices, same)
    }

    pub(super) fn on(
        examples: Array2<u32>,
        indices: IclIndices,
        same: SameToken,
    ) -> Result<Self, Error> {
        let fresh = same
            .fresh(examples.view())
            .map_err(|source| Error::Metric { place: "ablation examples".into(), source })?;
        Ok(Self { examples, fresh, indices, same })
    }

    pub(super) fn under(
        &self,
        engine: &dyn Engine,
        params: &Params,
        ablations: &[Ablation],
    ) -> Result<Under, Error> {
        let on = |examples: &Array2<u32>| {
            losses_under(&Inputs { engine, params, examples: examples.view() }, ablations)
        };
        Ok(Under { long: on(&self.examples)?, fresh: on(&self.fresh)? })
    }

    pub(super) fn scores(
        &self,
        [long, fresh]: [&Array2<f32>; 2],
    ) -> Result<Scores, induction_metrics::Error> {
        let icl = icl_by_example(long.view(), &self.indices)?;
        Ok(Scores { icl, same_token: self.same.by_example(long.view(), fresh.view())? })
    }
}

/// Over all tokens, in nats.
pub(super) fn mean(losses: &Array2<f32>) -> f64 {
    losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64
}
