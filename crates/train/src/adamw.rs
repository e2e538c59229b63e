use induction_model::{ModelConfig, Params};

use crate::TrainSpec;

/// AdamW as PyTorch defines it, its state keyed by parameter name, on the host: the same arithmetic for every device.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// First moments.
    pub m: Params,
    /// Second moments.
    pub v: Params,
    /// Steps taken.
    pub step: u64,
}

impl AdamW {
    /// Before the first step.
    pub fn new(config: &ModelConfig) -> Self {
        Self { m: Params::zeros(config), v: Params::zeros(config), step: 0 }
    }

    /// One step on `params` with `gradients`, which were scaled by the caller ([`clip_by_global_norm`]).
    ///
    /// Weight decay is decoupled and touches the weight matrices (`W_*`) only: gains, smear amounts, layer norms and
    /// biases have a scale of their own.
    pub fn update(&mut self, params: &mut Params, gradients: &Params, lr: f64, spec: &TrainSpec) {
        self.step += 1;
        let (mix1, beta2, mix2) = ((1.0 - spec.beta1) as f32, spec.beta2 as f32, (1.0 - spec.beta2) as f32);
        // Bias corrections in f64: 1 - beta^step loses its digits in f32 at the first steps.
        let correction1 = 1.0 - spec.beta1.powf(self.step as f64);
        let correction2 = 1.0 - spec.beta2.powf(self.step as f64);
        let root_correction2 = correction2.sqrt() as f32;
        let eps = spec.eps as f32;
        let states = params.iter_mut().zip(gradients.iter()).zip(self.m.iter_mut().zip(self.v.iter_mut()));
        for (((name, p), (_, g)), ((_, m), (_, v))) in states {
            let step_size = (lr * lr_scale(name, spec) / correction1) as f32;
            let decay = if decays(name) { (1.0 - lr * spec.weight_decay) as f32 } else { 1.0 };
            ndarray::Zip::from(p).and(g).and(m).and(v).for_each(|p, &g, m, v| {
                *m += mix1 * (g - *m);
                *v = beta2 * *v + mix2 * g * g;
                *p = *p * decay - step_size * *m / (v.sqrt() / root_correction2 + eps);
            });
        }
    }
}

/// Whether weight decay applies to the parameter.
fn decays(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.starts_with("W_"))
}

/// The parameter's share of the learning rate. A positional gain is one number: at the full rate Adam carries it across
/// its whole range in a hundred steps, and which layer gets the previous-token heads is left to chance.
fn lr_scale(name: &str, spec: &TrainSpec) -> f64 {
    if name.ends_with(".pos_gain") { spec.pos_gain_lr_scale } else { 1.0 }
}

/// Scales all gradients so that their joint norm is at most `max_norm` (PyTorch's `clip_grad_norm_`); returns the norm
/// before.
///
/// The sum of squares is taken in f64, parameter by parameter: one fixed order, whatever the threads.
pub fn clip_by_global_norm(gradients: &mut Params, max_norm: f64) -> f64 {
    let squares: f64 = gradients.iter().map(|(_, g)| g.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()).sum();
    let norm = squares.sqrt();
    let scale = (max_norm / (norm + 1e-6)) as f32;
    if scale < 1.0 {
        for (_, g) in gradients.iter_mut() {
            *g *= scale;
        }
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::tiny;

    #[test]
    fn first_step_is_lr_times_sign() {
        // With zero state the bias-corrected first step is g / (|g| + eps), whatever the size of g.
        let spec = tiny();
        let mut params = Params::zeros(&spec.model);
        let gradients = Params::from_fn(&spec.model, |_, shape| ndarray::ArrayD::from_elem(shape, -3.0));
        AdamW::new(&spec.model).update(&mut params, &gradients, 0.01, &spec.train);
        for (name, p) in params.iter() {
            let expected = if name.ends_with("pos_gain") { 0.001 } else { 0.01 };
            assert!(p.iter().all(|x| (x - expected).abs() < 1e-7), "{name}");
        }
    }

    #[test]
    fn decay_touches_matrices_only() {
        let spec = tiny();
        let mut params = Params::from_fn(&spec.model, |_, shape| ndarray::ArrayD::ones(shape));
        AdamW::new(&spec.model).update(&mut params, &Params::zeros(&spec.model), 0.1, &spec.train);
        for (name, p) in params.iter() {
            let expected = if name.contains("W_") { 1.0 - 0.1 * 0.01 } else { 1.0 };
            assert!(p.iter().all(|x| (x - expected).abs() < 1e-7), "{name}");
        }
    }

    #[test]
    fn clipping_keeps_the_direction_and_small_gradients() {
        let spec = tiny();
        let mut gradients = spec.model.init_params(0).unwrap();
        let before = gradients.clone();
        let norm = clip_by_global_norm(&mut gradients, 1e9);
        assert_eq!(gradients, before);
        assert_eq!(clip_by_global_norm(&mut gradients, norm / 2.0), norm);
        for ((_, a), (_, b)) in gradients.iter().zip(before.iter()) {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b / 2.0).abs() <= 1e-5 * b.abs()));
        }
    }
}
