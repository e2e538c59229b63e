//! What makes steps of gradients, on the host: the same arithmetic for every device.

use induction_engine::{ParameterKind, ResidentStep};
use induction_kernels::Arch;
use induction_model::{ModelConfig, Params};
use ndarray::ArrayD;
use rayon::prelude::*;

use induction_records::{OptimizerKind, TrainSpec};

use crate::muon;

/// An optimizer's state, keyed by parameter name.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// First moments of AdamW; of Muon and SGD the sums of earlier gradients.
    pub m: Params,
    /// Second moments of AdamW; 0 for parameters that another rule moves.
    pub v: Params,
    /// Steps taken.
    pub step: u64,
}

/// Which rule moves a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    AdamW,
    Muon,
    Sgd,
}

impl Optimizer {
    /// Before the first step.
    pub fn new(config: &ModelConfig) -> Self {
        Self { m: Params::zeros(config), v: Params::zeros(config), step: 0 }
    }

    /// Counts a step of AdamW that a device takes, and says how it is to be taken.
    pub fn resident_step(&mut self, lr: f64, spec: &TrainSpec) -> ResidentStep {
        self.step += 1;
        let betas = [spec.beta1, spec.beta2];
        ResidentStep {
            lr,
            betas,
            corrections: betas.map(|beta| 1.0 - beta.powf(self.step as f64)),
            eps: spec.eps,
            weight_decay: spec.weight_decay,
            clip_norm: spec.clip_norm,
        }
    }

    /// How a step treats each parameter, in the configuration's order.
    pub fn kinds(&self, spec: &TrainSpec) -> Vec<ParameterKind> {
        self.m
            .iter()
            .map(|(name, _)| ParameterKind { lr_scale: lr_scale(name, spec), decays: decays(name) })
            .collect()
    }

    /// One step on `params` with `gradients` times `gradient_scale` ([`Clip::scale`]), by the
    /// rule of [`TrainSpec::optimizer`].
    ///
    /// Weight decay is decoupled and touches the weight matrices (`W_*`) only: gains, smear
    /// amounts, layer norms and biases have a scale of their own.
    pub fn update(
        &mut self,
        params: &mut Params,
        gradients: &Params,
        gradient_scale: f32,
        lr: f64,
        spec: &TrainSpec,
    ) {
        self.step += 1;
        // Bias corrections in f64: 1 - beta^step loses its digits in f32 at the first steps.
        let correction1 = 1.0 - spec.beta1.powf(self.step as f64);
        let correction2 = 1.0 - spec.beta2.powf(self.step as f64);
        let momentum = spec.momentum().unwrap_or_default() as f32;
        let arch = Arch::new();
        let states =
            params.iter_mut().zip(gradients.iter()).zip(self.m.iter_mut().zip(self.v.iter_mut()));
        let mut of_muon = Vec::new();
        for (((name, p), (_, g)), ((_, m), (_, v))) in states {
            let lr = lr * lr_scale(name, spec);
            let decay = if decays(name) { (1.0 - lr * spec.weight_decay) as f32 } else { 1.0 };
            match rule(name, spec) {
                // A pass over memory, in parallel.
                Rule::AdamW => {
                    let step = induction_kernels::AdamW {
                        gradient_scale,
                        mix1: (1.0 - spec.beta1) as f32,
                        beta2: spec.beta2 as f32,
                        mix2: (1.0 - spec.beta2) as f32,
                        step_size: (lr / correction1) as f32,
                        root_correction2: correction2.sqrt() as f32,
                        eps: spec.eps as f32,
                        decay,
                    };
                    let parts = slice_mut(p).par_chunks_mut(PART).zip(slice(g).par_chunks(PART));
                    let parts = parts
                        .zip(slice_mut(m).par_chunks_mut(PART))
                        .zip(slice_mut(v).par_chunks_mut(PART));
                    parts.for_each(|(((p, g), m), v)| {
                        induction_kernels::adamw(arch, step, p, g, m, v);
                    });
                }
                Rule::Sgd => {
                    let step = |((p, g), m): ((&mut f32, &f32), &mut f32)| {
                        *m = momentum * *m + gradient_scale * g;
                        *p = decay * *p - lr as f32 * *m;
                    };
                    p.iter_mut().zip(g).zip(m).for_each(step);
                }
                Rule::Muon => of_muon.push((name, p, g, m, lr as f32, decay)),
            }
        }
        of_muon.into_par_iter().for_each(|(name, p, g, m, lr, decay)| {
            let heads = muon::Heads::of(name);
            muon::update(heads, p, g, m, muon::Step { gradient_scale, momentum, lr, decay });
        });
    }
}

/// Muon is for matrices between activations: the embedding and the unembedding are not, whose
/// rows or columns are single tokens' (Jordan et al. 2024).
fn rule(name: &str, spec: &TrainSpec) -> Rule {
    match spec.optimizer {
        OptimizerKind::AdamW => Rule::AdamW,
        OptimizerKind::Sgd => Rule::Sgd,
        OptimizerKind::Muon if name.starts_with("blocks.") && decays(name) => Rule::Muon,
        OptimizerKind::Muon => Rule::AdamW,
    }
}

/// Elements that a thread works on at a time. The result does not depend on it; [`sum_of_squares`]
/// has parts of its own.
const PART: usize = 1 << 14;

fn slice(value: &ArrayD<f32>) -> &[f32] {
    value.as_slice().expect("parameters are in standard layout")
}

fn slice_mut(value: &mut ArrayD<f32>) -> &mut [f32] {
    value.as_slice_mut().expect("parameters are in standard layout")
}

/// Whether weight decay applies to the parameter.
fn decays(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.starts_with("W_"))
}

/// The parameter's share of the learning rate. A positional gain is one number: at the full rate
/// Adam carries it across its whole range in a hundred steps, and which layer gets the
/// previous-token heads is left to chance.
fn lr_scale(name: &str, spec: &TrainSpec) -> f64 {
    if name.ends_with(".pos_gain") { spec.pos_gain_lr_scale } else { 1.0 }
}

/// What clipping by the global norm asks for (PyTorch's `clip_grad_norm_`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// The joint norm of all gradients; not finite exactly if one of them is not.
    pub norm: f64,
    /// What the gradients must be multiplied by, so that their norm is at most the largest allowed.
    pub scale: f32,
}

/// Measures `gradients` against `max_norm`.
pub fn clip_by_global_norm(gradients: &Params, max_norm: f64) -> Clip {
    let norm = sum_of_squares(gradients).sqrt();
    let scale = (max_norm / (norm + 1e-6)) as f32;
    Clip { norm, scale: if scale < 1.0 { scale } else { 1.0 } }
}

/// The sum of all squares, in f64, in an order that no number of threads can change. Not finite
/// exactly if an element is not: no square of a float32 overflows.
pub(crate) fn sum_of_squares(params: &Params) -> f64 {
    let arch = Arch::new();
    let parts: Vec<&[f32]> =
        params.iter().flat_map(|(_, value)| slice(value).chunks(1 << 16)).collect();
    let sums: Vec<f64> =
        parts.into_par_iter().map(|part| induction_kernels::sum_of_squares(arch, part)).collect();
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use induction_model::ModelConfig;

    struct Tiny {
        model: ModelConfig,
        train: TrainSpec,
    }

    fn tiny() -> Tiny {
        let model = ModelConfig {
            n_layers: 1,
            d_model: 8,
            n_heads: 2,
            d_head: 4,
            n_ctx: 12,
            d_vocab: 9,
            ..ModelConfig::default()
        };
        Tiny { model, train: TrainSpec::new(480, 2, 1e-2) }
    }

    #[test]
    fn first_step_is_lr_times_sign() {
        // With zero state the bias-corrected first step is g / (|g| + eps), whatever the size of g.
        let spec = tiny();
        let mut params = Params::zeros(&spec.model);
        let gradients =
            Params::from_fn(&spec.model, |_, shape| ndarray::ArrayD::from_elem(shape, -3.0));
        Optimizer::new(&spec.model).update(&mut params, &gradients, 1.0, 0.01, &spec.train);
        for (name, p) in params.iter() {
            let expected = if name.ends_with("pos_gain") { 0.001 } else { 0.01 };
            assert!(p.iter().all(|x| (x - expected).abs() < 1e-7), "{name}");
        }
    }

    #[test]
    fn decay_touches_matrices_only() {
        let spec = tiny();
        let mut params = Params::from_fn(&spec.model, |_, shape| ndarray::ArrayD::ones(shape));
        Optimizer::new(&spec.model).update(
            &mut params,
            &Params::zeros(&spec.model),
            1.0,
            0.1,
            &spec.train,
        );
        for (name, p) in params.iter() {
            let expected = if name.contains("W_") { 1.0 - 0.1 * 0.01 } else { 1.0 };
            assert!(p.iter().all(|x| (x - expected).abs() < 1e-7), "{name}");
        }
    }

    #[test]
    fn clipping_scales_to_the_largest_norm_and_leaves_small_gradients() {
        let spec = tiny();
        let gradients = spec.model.init_params(0).unwrap();
        let Clip { norm, scale } = clip_by_global_norm(&gradients, 1e9);
        let exact = gradients
            .iter()
            .flat_map(|(_, g)| g)
            .map(|&x| f64::from(x).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!((norm - exact).abs() < 1e-12 * exact);
        assert_eq!(scale, 1.0);
        let half = clip_by_global_norm(&gradients, norm / 2.0);
        assert_eq!(half.norm, norm);
        assert!((half.scale - 0.5).abs() < 1e-6);
        let mut broken = gradients;
        broken.get_mut("unembed.W_U").unwrap()[[0, 1]] = f32::NAN;
        assert!(!clip_by_global_norm(&broken, 1.0).norm.is_finite());
    }
}
