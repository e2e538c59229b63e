//! Runs a model: losses, gradients, captures, interventions.
//!
//! Training, measuring and ablating ask for numbers through one trait, [`Engine`], over host
//! arrays, so no measurement can come to depend on a device's tensor type. It has three
//! implementations:
//!
//! * [`CpuEngine`]: the family's passes written by hand over [`induction_kernels`]; the default.
//! * [`BurnEngine`]: burn on its devices ([`BurnDevice`]). `flex` comes with the feature `burn`; the
//!   others are behind the features `ndarray`, `libtorch` and `cuda`.
//! * `TorchEngine` (feature `libtorch`): PyTorch's library with no layer between, for the paper's
//!   family and for pretrained models. It is what runs where [`BurnDevice::Libtorch`] is asked for,
//!   on a CPU or a GPU.
//!
//! One test suite compares all of them with each other and with PyTorch. On a GPU the optimizer
//! works on the device, too ([`Resident`]).
//!
//! An intervention is data ([`Intervention`]), not a closure inside a model: any engine can run it.
//!
//! ```
//! use induction_engine::{CpuEngine, Engine, Intervention};
//! use induction_model::{Hook, ModelConfig};
//! use ndarray::array;
//!
//! let config = ModelConfig { n_layers: 1, d_model: 8, n_heads: 2, d_head: 4, n_ctx: 3, d_vocab: 5, ..ModelConfig::default() };
//! let engine = CpuEngine::new(&config, &config.init_params(0)?)?;
//! let examples = array![[0, 1, 2, 3], [0, 4, 4, 4]];
//! let losses = engine.losses(examples.view(), &[])?;
//! assert_eq!(losses.dim(), (2, 3)); // loss in nats of each target token
//! let without = engine.losses(examples.view(), &[Intervention::ZeroHead { layer: 0, head: 1 }])?;
//! assert_ne!(losses, without);
//! let seen = engine.activations(examples.view().split_at(ndarray::Axis(1), 3).0, &[Hook::Pattern(0)], &[])?;
//! assert_eq!(seen[&Hook::Pattern(0)].shape(), [2, 2, 3, 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! - `burn` (default): [`BurnEngine`], and the device [`BurnDevice::Flex`]. Without it there is
//!   [`CpuEngine`] alone, in half the build.
//!
//! The others are off by default, since each takes minutes to build, and bring `burn`:
//!
//! - `ndarray`: [`BurnDevice::Ndarray`], burn's older pure-Rust backend.
//! - `libtorch`: [`BurnDevice::Libtorch`] and its GPUs; it needs PyTorch's library when it is built
//!   and when it runs (docs/DEVICES.md).
//! - `cuda`: [`BurnDevice::Cuda`], CubeCL's kernels on NVIDIA GPUs; it needs LLVM when it is built,
//!   the driver and libdevice when it runs (docs/DEVICES.md).
//!
//! Runnable: `cargo run -p induction-engine --example second_copy`.

mod burn_device;
#[cfg(feature = "burn")]
mod burn_engine;
mod cpu;
#[cfg(feature = "burn")]
mod failure;
mod intervention;
#[cfg(feature = "libtorch")]
mod torch;

use std::collections::BTreeMap;

use induction_model::{Clamps, Hook, ModelConfig, Params};
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis};
use rayon::prelude::*;

pub use burn_device::{BurnDevice, Gpu, Products, gpus, library_sgemm, libtorch_version};
#[cfg(feature = "burn")]
pub use burn_engine::BurnEngine;
pub use cpu::{CpuEngine, Model, StreamEngine};
pub use induction_kernels::{Arch, archs};
pub use intervention::Intervention;
#[cfg(feature = "libtorch")]
pub use torch::TorchEngine;

/// What can go wrong when a model is run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model itself.
    #[error(transparent)]
    Model(#[from] induction_model::Error),
    /// Tokens that the model cannot read.
    #[error("{0}")]
    Tokens(String),
    /// A device that is unknown, not in this build, or not in this machine.
    #[error("device {0}")]
    Device(String),
    /// A hook point that the model does not have.
    #[error("no activation {0}")]
    Hook(String),
    /// An intervention that does not fit the model or the tokens.
    #[error("intervention {0}")]
    Intervention(String),
}

/// Whether two runs of the same spec give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exactness {
    /// The same bits on the same machine, for any number of threads.
    Exact,
    /// The same up to float rounding: kernels are chosen by timing, or sums are taken in varying
    /// order.
    Statistical,
}

/// Something that runs one model.
pub trait Engine: Sync {
    /// The device it runs on, as `--device` names it, and ` bf16` after it where training
    /// multiplies in bfloat16: `cpu`, `flex`, `cuda:0 bf16`.
    fn name(&self) -> &str;

    /// What a repetition may be expected to give.
    fn exactness(&self) -> Exactness;

    /// The model's configuration.
    fn config(&self) -> &ModelConfig;

    /// Replaces all weights.
    ///
    /// # Errors
    /// Parameters that are not the configuration's.
    fn set_params(&mut self, params: &Params) -> Result<(), Error>;

    /// Replaces the constraints on the model's heads.
    ///
    /// # Errors
    /// Clamps that do not fit the model, or each other; an engine that cannot change them.
    fn set_clamps(&mut self, _: &Clamps) -> Result<(), Error> {
        Err(Error::Device(format!("{}: clamps stay what they are here", self.name())))
    }

    /// Mean loss in nats over the batch's targets that count; `gradients` becomes its gradient for
    /// every parameter. Both are 0 where none counts.
    ///
    /// # Errors
    /// Tokens that the model cannot read, `gradients` of another model, or a model that cannot
    /// be trained ([`NotTheFamily`](induction_model::Error::NotTheFamily)).
    fn loss_and_gradients(
        &mut self,
        batch: Batch<'_>,
        gradients: &mut Params,
    ) -> Result<f32, Error>;

    /// Loss in nats of every target, `[example, pos]`, under each set of interventions. Engines
    /// compute only once what the sets have in common, so many ablations of the same examples
    /// should be asked for together.
    ///
    /// # Errors
    /// Tokens that the model cannot read, or an intervention that does not fit.
    fn losses_under(
        &self,
        examples: ArrayView2<u32>,
        sets: &[&[Intervention]],
    ) -> Result<Vec<Array2<f32>>, Error>;

    /// As [`losses_under`](Self::losses_under), of the targets from position `from` on alone:
    /// `[example, pos - from]`. Where a vocabulary is large, the losses that nobody asks for are a
    /// good part of the work.
    ///
    /// # Errors
    /// As [`losses_under`](Self::losses_under).
    ///
    /// # Panics
    /// If `from` is beyond the last position.
    fn last_losses_under(
        &self,
        examples: ArrayView2<u32>,
        sets: &[&[Intervention]],
        from: usize,
    ) -> Result<Vec<Array2<f32>>, Error> {
        let last = |losses: Array2<f32>| losses.slice_axis_move(Axis(1), (from..).into());
        Ok(self.losses_under(examples, sets)?.into_iter().map(last).collect())
    }

    /// Loss in nats of every target, `[example, pos]`, under `interventions`.
    ///
    /// # Errors
    /// As [`losses_under`](Self::losses_under).
    fn losses(
        &self,
        examples: ArrayView2<u32>,
        interventions: &[Intervention],
    ) -> Result<Array2<f32>, Error> {
        let mut losses = self.losses_under(examples, &[interventions])?;
        Ok(losses.pop().expect("one set was asked for"))
    }

    /// The activations at `hooks` on `tokens` (`[example, pos]`), in [`Hook`]'s shapes, after
    /// `interventions`.
    ///
    /// # Errors
    /// Tokens that the model cannot read, a hook that the model does not have, or an intervention
    /// that does not fit.
    fn activations(
        &self,
        tokens: ArrayView2<u32>,
        hooks: &[Hook],
        interventions: &[Intervention],
    ) -> Result<BTreeMap<Hook, ArrayD<f32>>, Error>;

    /// Shows `see` the activations of every layer on the examples of every batch, some examples and
    /// a layer at a time, from any thread and in any order: activations of whole models would fill
    /// the memory. What is asked for together is computed together, as with
    /// [`losses_under`](Self::losses_under).
    ///
    /// # Errors
    /// As [`activations`](Self::activations).
    fn watch(
        &self,
        batches: &[Watched<'_>],
        see: &(dyn Fn(Sight<'_>) + Sync),
    ) -> Result<(), Error> {
        let config = self.config();
        for (batch, Watched { tokens, hooks }) in batches.iter().enumerate() {
            check_watched(config, hooks)?;
            let pattern = config.n_layers * config.n_heads * tokens.ncols().pow(2);
            let at_once = (WATCHED_BYTES / (size_of::<f32>() * pattern).max(1)).max(1);
            let parts: Vec<_> = tokens.axis_chunks_iter(Axis(0), at_once).enumerate().collect();
            parts.into_par_iter().with_max_len(1).try_for_each(|(part, tokens)| {
                let all: Vec<Hook> = (0..config.n_layers)
                    .flat_map(|l| hooks.iter().map(move |hook| hook(l)))
                    .collect();
                let seen = self.activations(tokens, &all, &[])?;
                for layer in 0..config.n_layers {
                    let seen = hooks.iter().map(|hook| seen[&hook(layer)].view()).collect();
                    see(Sight { batch, first: part * at_once, layer, seen });
                }
                Ok::<(), Error>(())
            })?;
        }
        Ok(())
    }

    /// Logits on `tokens` (`[example, pos]`), `[example, pos, d_vocab]`.
    ///
    /// # Errors
    /// As [`activations`](Self::activations).
    fn logits(
        &self,
        tokens: ArrayView2<u32>,
        interventions: &[Intervention],
    ) -> Result<ndarray::Array3<f32>, Error>;

    /// Training that stays on the device, if the way to the host and back would take longer than a
    /// step.
    fn resident(&mut self) -> Option<&mut dyn Resident> {
        None
    }
}

/// Examples to learn from.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `[example, pos + 1]`: the first `pos` tokens of a row are read, the last `pos` predicted.
    pub examples: ArrayView2<'a, u32>,
    /// Which targets count, `[example, pos]`; all of them if it is not given.
    pub counted: Option<ArrayView2<'a, bool>>,
}

impl<'a> From<ArrayView2<'a, u32>> for Batch<'a> {
    fn from(examples: ArrayView2<'a, u32>) -> Self {
        Self { examples, counted: None }
    }
}

impl<'a> Batch<'a> {
    /// Checks tokens against a configuration, and the shape of what counts.
    fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        let pos = self.examples.ncols().saturating_sub(1);
        check_tokens(config, self.examples, pos)?;
        match self.counted.map(|counted| counted.dim()) {
            Some(found) if found != (self.examples.nrows(), pos) => Err(Error::Tokens(format!(
                "targets that count: {found:?} of {:?}",
                (self.examples.nrows(), pos)
            ))),
            _ => Ok(()),
        }
    }

    /// What makes a mean of the sum over all targets that count; 0 if none does.
    fn weight(&self) -> f64 {
        let (rows, columns) = self.examples.dim();
        let count = match self.counted {
            None => rows * columns.saturating_sub(1),
            Some(counted) => counted.iter().filter(|&&counts| counts).count(),
        };
        if count == 0 { 0.0 } else { 1.0 / count as f64 }
    }

    /// Some of the examples.
    #[cfg(feature = "burn")]
    fn part(&self, rows: std::ops::Range<usize>) -> Batch<'a> {
        let part = ndarray::Slice::from(rows);
        Batch {
            examples: self.examples.slice_axis_move(Axis(0), part),
            counted: self.counted.map(|counted| counted.slice_axis_move(Axis(0), part)),
        }
    }
}

/// Bytes of patterns that [`Engine::watch`] has of one batch at once in each thread, one example's at
/// least: those of long examples are large, and fresh memory is slow.
const WATCHED_BYTES: usize = 4 << 20;

/// What is to be watched: on these tokens (`[example, pos]`), in every layer, these hooks.
#[derive(Clone, Copy)]
pub struct Watched<'a> {
    /// `[example, pos]`.
    pub tokens: ArrayView2<'a, u32>,
    /// From a layer to a hook in it, such as [`Hook::Pattern`].
    pub hooks: &'a [fn(usize) -> Hook],
}

/// What [`Engine::watch`] shows.
pub struct Sight<'a> {
    /// Which of the batches.
    pub batch: usize,
    /// The first of the batch's examples that are shown; how many there are, the arrays say.
    pub first: usize,
    /// The layer.
    pub layer: usize,
    /// The activations at the hooks that were asked for, in their order and in [`Hook`]'s shapes.
    pub seen: Vec<ArrayViewD<'a, f32>>,
}

/// Steps of AdamW on a device: weights and moments are brought to the host only when they are asked
/// for.
pub trait Resident {
    /// Puts weights and moments on the device, with what tells parameters apart, in the
    /// configuration's order. The engine computes with these weights from now on.
    ///
    /// # Errors
    /// Parameters of another model.
    fn load(
        &mut self,
        params: &Params,
        moments: [&Params; 2],
        kinds: &[ParameterKind],
    ) -> Result<(), Error>;

    /// One step on the mean loss of the batch's targets that count.
    ///
    /// # Errors
    /// Tokens that the model cannot read.
    ///
    /// # Panics
    /// Before [`load`](Self::load).
    fn step(&mut self, batch: Batch<'_>, step: &ResidentStep) -> Result<Stepped, Error>;

    /// Copies weights and moments to the host.
    ///
    /// # Errors
    /// Parameters of another model.
    ///
    /// # Panics
    /// Before [`load`](Self::load).
    fn fetch(&self, params: &mut Params, moments: [&mut Params; 2]) -> Result<(), Error>;
}

/// How a step treats a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterKind {
    /// Its share of the learning rate.
    pub lr_scale: f64,
    /// Whether weight decay applies to it.
    pub decays: bool,
}

/// The numbers of one AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResidentStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of the moments.
    pub betas: [f64; 2],
    /// `1 - beta^step` of each.
    pub corrections: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// What a weight loses of itself, as a share of the learning rate.
    pub weight_decay: f64,
    /// Largest norm of all gradients together.
    pub clip_norm: f64,
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stepped {
    /// Mean loss in nats, before the step.
    pub loss: f32,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Sum of the squares of all weights after the step: not finite if one of them is not.
    pub weights_squared: f64,
}

/// Checks that hooks are there in every layer, each in its own.
fn check_watched(config: &ModelConfig, hooks: &[fn(usize) -> Hook]) -> Result<(), Error> {
    let all = (0..config.n_layers).flat_map(|l| hooks.iter().map(move |hook| (l, hook(l))));
    for (layer, hook) in all {
        if hook.layer() != Some(layer) {
            return Err(Error::Hook(format!("at {hook}: watched are hooks of each layer {layer}")));
        }
        intervention::check_hook(config, hook).map_err(Error::Hook)?;
    }
    Ok(())
}

/// Checks tokens against a configuration: at least one row, at most `n_ctx` read positions, ids
/// below `d_vocab`.
fn check_tokens(config: &ModelConfig, tokens: ArrayView2<u32>, read: usize) -> Result<(), Error> {
    if tokens.nrows() == 0 || read == 0 {
        return Err(Error::Tokens(format!(
            "{} sequences of {read} positions: expected at least one of each",
            tokens.nrows()
        )));
    }
    if read > config.n_ctx {
        return Err(Error::Tokens(format!(
            "sequences of {read} tokens: the model's context (n_ctx) is {}",
            config.n_ctx
        )));
    }
    if let Some(((row, at), id)) =
        tokens.indexed_iter().find(|(_, id)| **id as usize >= config.d_vocab)
    {
        return Err(Error::Tokens(format!(
            "token id {id} (sequence {row}, position {at}): the model's vocabulary (d_vocab) is {}",
            config.d_vocab
        )));
    }
    Ok(())
}

/// `[example, pos + 1]` into what is read and what is predicted, `[example, pos]` each.
#[cfg(feature = "burn")]
fn split(examples: ArrayView2<u32>) -> (ArrayView2<u32>, ArrayView2<u32>) {
    let pos = examples.ncols().saturating_sub(1);
    let (inputs, _) = examples.split_at(ndarray::Axis(1), pos);
    let (_, targets) = examples.split_at(ndarray::Axis(1), examples.ncols() - pos);
    (inputs, targets)
}
