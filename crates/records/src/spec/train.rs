//! How a model is trained.

use serde::{Deserialize, Serialize};

/// Optimizer and schedule: AdamW with PyTorch's semantics; lr is constant between a linear warm-up
/// and, if asked for, a linear decay at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Token budget; rounded up to whole steps.
    pub tokens: u64,
    /// Sequences a step.
    pub batch: usize,
    /// Learning rate after the warm-up.
    pub lr: f64,
    /// Steps over which lr rises linearly.
    #[serde(default = "default_warmup_steps")]
    pub warmup_steps: u64,
    /// Share of the steps, the last ones, over which lr falls linearly towards 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub decay_share: f64,
    /// AdamW's beta1.
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    /// AdamW's beta2.
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    /// AdamW's epsilon.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled weight decay, on the weight matrices (`W_*`) only.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Share of `lr` that the positional gains learn with.
    #[serde(default = "default_pos_gain_lr_scale")]
    pub pos_gain_lr_scale: f64,
    /// Largest global gradient norm.
    #[serde(default = "default_clip_norm")]
    pub clip_norm: f64,
}

fn default_warmup_steps() -> u64 {
    50
}
/// A run without a decay is written, and known by its hash, as before there was one.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}
fn default_beta1() -> f64 {
    0.9
}
fn default_beta2() -> f64 {
    0.98
}
fn default_eps() -> f64 {
    1e-8
}
fn default_weight_decay() -> f64 {
    0.01
}
fn default_pos_gain_lr_scale() -> f64 {
    0.1
}
fn default_clip_norm() -> f64 {
    1.0
}

impl TrainSpec {
    /// The defaults for everything else.
    pub fn new(tokens: u64, batch: usize, lr: f64) -> Self {
        Self {
            tokens,
            batch,
            lr,
            warmup_steps: default_warmup_steps(),
            decay_share: 0.0,
            beta1: default_beta1(),
            beta2: default_beta2(),
            eps: default_eps(),
            weight_decay: default_weight_decay(),
            pos_gain_lr_scale: default_pos_gain_lr_scale(),
            clip_norm: default_clip_norm(),
        }
    }
}
