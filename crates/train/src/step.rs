use induction_engine::{Batch, Engine, Resident};
use induction_metrics::foretold;
use induction_model::Params;
use induction_records::{LossSpec, OptimizerKind, TrainSpec, Without};
use ndarray::{Array2, ArrayView2};

use crate::{Error, Optimizer, clip_by_global_norm, optimizer::sum_of_squares};

/// What learns: weights, the optimizer's state, and the place for gradients.
///
/// Where training stays on the device ([`Engine::resident`]) the weights and moments here are those
/// of the last [`fetch`](Self::fetch).
pub struct Learner {
    /// Weights.
    pub params: Params,
    /// Moments, and the number of steps taken.
    pub optimizer: Optimizer,
    gradients: Params,
}

/// What one step found.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Mean loss in nats of the targets that count, before the step.
    pub loss: f32,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// What is infinite or not a number, in words; the step ended there.
    pub not_finite: Option<String>,
}

impl Learner {
    /// Gives the weights to `engine`, and to its device the moments, too, where training stays
    /// there.
    ///
    /// # Errors
    /// Parameters of another model; the engine's.
    pub fn new(
        engine: &mut dyn Engine,
        params: Params,
        optimizer: Optimizer,
        spec: &TrainSpec,
    ) -> Result<Self, Error> {
        engine.set_params(&params)?;
        if let Some(device) = resident(engine, spec) {
            device.load(&params, [&optimizer.m, &optimizer.v], &optimizer.kinds(spec))?;
        }
        Ok(Self { params, optimizer, gradients: Params::zeros(engine.config()) })
    }

    /// One step on the mean loss of `examples` (`[example, pos + 1]`), or of those of their targets
    /// that the spec says: forward, backward, clipping
    /// by the global norm, the optimizer; on the device, or with the optimizer on the host. The one that
    /// training takes, and bench and forecast time.
    ///
    /// # Errors
    /// Tokens that the model cannot read; the engine's.
    pub fn step(
        &mut self,
        engine: &mut dyn Engine,
        examples: ArrayView2<u32>,
        lr: f64,
        spec: &TrainSpec,
    ) -> Result<Step, Error> {
        let counted = spec.loss.map(|loss| counted(loss, examples));
        let batch = Batch { examples, counted: counted.as_ref().map(|c| c.view()) };
        let ended =
            |loss, grad_norm, what: Option<String>| Ok(Step { loss, grad_norm, not_finite: what });
        if let Some(device) = resident(engine, spec) {
            let found = device.step(batch, &self.optimizer.resident_step(lr, spec))?;
            let what = if !found.loss.is_finite() {
                Some("the loss")
            } else if !found.grad_norm.is_finite() {
                Some("the gradient of all parameters together")
            } else {
                (!found.weights_squared.is_finite()).then_some("a parameter after the update")
            };
            return ended(found.loss, found.grad_norm, what.map(str::to_string));
        }
        let loss = engine.loss_and_gradients(batch, &mut self.gradients)?;
        if !loss.is_finite() {
            return ended(loss, f64::NAN, Some("the loss".to_string()));
        }
        let clip = clip_by_global_norm(&self.gradients, spec.clip_norm);
        let first_in = |params: &Params| {
            params.first_not_finite().unwrap_or("all parameters together").to_string()
        };
        if !clip.norm.is_finite() {
            return ended(
                loss,
                clip.norm,
                Some(format!("the gradient of {}", first_in(&self.gradients))),
            );
        }
        self.optimizer.update(&mut self.params, &self.gradients, clip.scale, lr, spec);
        if !sum_of_squares(&self.params).is_finite() {
            let what = format!("parameter {} after the update", first_in(&self.params));
            return ended(loss, clip.norm, Some(what));
        }
        engine.set_params(&self.params)?;
        ended(loss, clip.norm, None)
    }

    /// Brings weights and moments to the host, if training stays on the device.
    ///
    /// # Errors
    /// The engine's.
    pub fn fetch(&mut self, engine: &mut dyn Engine, spec: &TrainSpec) -> Result<(), Error> {
        if let Some(device) = resident(engine, spec) {
            device.fetch(&mut self.params, [&mut self.optimizer.m, &mut self.optimizer.v])?;
        }
        Ok(())
    }
}

/// Which targets count, `[example, pos]`.
fn counted(loss: LossSpec, examples: ArrayView2<u32>) -> Array2<bool> {
    let each = examples.outer_iter().flat_map(|example| match loss.without {
        Without::Induction => foretold(example),
    });
    let shape = (examples.nrows(), examples.ncols() - 1);
    Array2::from_shape_vec(shape, each.map(|foretold| !foretold).collect())
        .expect("a flag for each target")
}

/// Training on the engine's device, where it stays there: devices know AdamW alone.
fn resident<'e>(engine: &'e mut dyn Engine, spec: &TrainSpec) -> Option<&'e mut dyn Resident> {
    if spec.optimizer == OptimizerKind::AdamW { engine.resident() } else { None }
}
