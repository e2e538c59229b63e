//! How a model is trained.

use induction_model::Clamp;
use serde::{Deserialize, Serialize};

use super::range::{below_one, fail, positive, up_to, whole};
use crate::Error;

/// Optimizer, schedule, and what is learned from. The learning rate is constant between a linear
/// warm-up and, if asked for, a decay at the end.
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
    /// Share of the steps, the last ones, over which lr falls towards 0; 1: from the end of the
    /// warm-up on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub decay_share: f64,
    /// How it falls.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decay: Decay,
    /// What makes steps of gradients.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optimizer: OptimizerKind,
    /// Share of the sum of earlier gradients that stays at each step, of Muon and SGD; by
    /// [`momentum`](Self::momentum) where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Which targets are learned from; all if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossSpec>,
    /// Constraints on heads for a part of the training, beside those that the model has throughout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clamps: Vec<TimedClamp>,
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

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// By as much at each step.
    #[default]
    Linear,
    /// As half a period of a cosine (Loshchilov and Hutter 2017, without restarts).
    Cosine,
}

/// What makes steps of gradients. Weight decay is decoupled in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    #[default]
    AdamW,
    /// Muon (Jordan et al. 2024) for the weight matrices of attention and MLPs, their steps scaled
    /// to be as large as AdamW's (Liu et al. 2025), and AdamW for everything else.
    Muon,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// Which targets are learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSpec {
    /// Targets that carry no loss.
    pub without: Without,
}

/// Targets that carry no loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Without {
    /// Those that induction would foretell: an earlier copy of the current token in the same
    /// example was followed by the target (Sahin et al. 2025, "Hapax", arXiv 2511.05743).
    Induction,
}

/// A constraint on heads from one step to another. The model is so constrained in what is measured
/// of its snapshots of that time, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimedClamp {
    /// The constraint.
    pub clamp: Clamp,
    /// Steps that are taken before it holds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub from: u64,
    /// The last step that is taken under it; the run's last if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl TimedClamp {
    /// Whether it holds once so many steps are taken.
    pub fn holds_after(&self, step: u64) -> bool {
        step >= self.from && self.until.is_none_or(|until| step < until)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
            decay: Decay::default(),
            optimizer: OptimizerKind::default(),
            momentum: None,
            loss: None,
            clamps: Vec::new(),
            beta1: default_beta1(),
            beta2: default_beta2(),
            eps: default_eps(),
            weight_decay: default_weight_decay(),
            pos_gain_lr_scale: default_pos_gain_lr_scale(),
            clip_norm: default_clip_norm(),
        }
    }
    /// Checks every field by itself.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first outside its range.
    pub(super) fn validate(&self) -> Result<(), Error> {
        whole("train.tokens", self.tokens, 1, 1 << 50)?;
        whole("train.batch", self.batch as u64, 1, 1 << 16)?;
        positive("train.lr", self.lr, 1e3)?;
        whole("train.warmup_steps", self.warmup_steps, 0, 1 << 40)?;
        up_to("train.decay_share", self.decay_share, 1.0)?;
        if self.decay != Decay::Linear && self.decay_share == 0.0 {
            let expected = "linear where the rate does not fall (train.decay_share = 0)";
            fail("train.decay", &"cosine", expected)?;
        }
        if let Some(momentum) = self.momentum {
            if self.optimizer == OptimizerKind::AdamW {
                fail("train.momentum", &momentum, "nothing with adamw, which has beta1")?;
            }
            below_one("train.momentum", momentum)?;
        }
        below_one("train.beta1", self.beta1)?;
        below_one("train.beta2", self.beta2)?;
        positive("train.eps", self.eps, 1.0)?;
        up_to("train.weight_decay", self.weight_decay, 10.0)?;
        up_to("train.pos_gain_lr_scale", self.pos_gain_lr_scale, 10.0)?;
        positive("train.clip_norm", self.clip_norm, 1e9)
    }

    /// The momentum that is used: the one given, or 0.95 for Muon (its authors') and 0.9 for SGD;
    /// none for AdamW.
    pub fn momentum(&self) -> Option<f64> {
        match self.optimizer {
            OptimizerKind::AdamW => None,
            OptimizerKind::Muon => self.momentum.or(Some(0.95)),
            OptimizerKind::Sgd => self.momentum.or(Some(0.9)),
        }
    }
}
