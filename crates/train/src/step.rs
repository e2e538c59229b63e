use induction_engine::Engine;
use induction_model::Params;
use induction_records::TrainSpec;
use ndarray::ArrayView2;

use crate::{AdamW, Error, adamw::sum_of_squares, clip_by_global_norm};

/// What learns: weights, the optimizer's state, and the place for gradients.
///
/// Where training stays on the device ([`Engine::resident`]) the weights and moments here are those
/// of the last [`fetch`](Self::fetch).
pub struct Learner {
    /// Weights.
    pub params: Params,
    /// Moments, and the number of steps taken.
    pub optimizer: AdamW,
    gradients: Params,
}

/// What one step found.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Mean loss in nats, before the step.
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
        optimizer: AdamW,
        spec: &TrainSpec,
    ) -> Result<Self, Error> {
        engine.set_params(&params)?;
        if let Some(device) = engine.resident() {
            device.load(&params, [&optimizer.m, &optimizer.v], &optimizer.kinds(spec))?;
        }
        Ok(Self { params, optimizer, gradients: Params::zeros(engine.config()) })
    }

    /// One step on the mean loss of `examples` (`[example, pos + 1]`): forward, backward, clipping
    /// by the global norm, AdamW; on the device, or with the optimizer on the host. The one that
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
        let ended =
            |loss, grad_norm, what: Option<String>| Ok(Step { loss, grad_norm, not_finite: what });
        if let Some(device) = engine.resident() {
            let found = device.step(examples, &self.optimizer.resident_step(lr, spec))?;
            let what = if !found.loss.is_finite() {
                Some("the loss")
            } else if !found.grad_norm.is_finite() {
                Some("the gradient of all parameters together")
            } else {
                (!found.weights_squared.is_finite()).then_some("a parameter after the update")
            };
            return ended(found.loss, found.grad_norm, what.map(str::to_string));
        }
        let loss = engine.loss_and_gradients(examples, &mut self.gradients)?;
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
    pub fn fetch(&mut self, engine: &mut dyn Engine) -> Result<(), Error> {
        if let Some(device) = engine.resident() {
            device.fetch(&mut self.params, [&mut self.optimizer.m, &mut self.optimizer.v])?;
        }
        Ok(())
    }
}
