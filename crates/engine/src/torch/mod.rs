//! The paper's family on PyTorch's library itself, with no layer between.

mod forward;
mod layer;
mod reader;
mod state;
mod taps;
mod training;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use induction_model::{Hook, ModelConfig, Params};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, IxDyn, Slice, concatenate};
use tch::{Kind, Tensor, no_grad_guard};

pub use self::reader::TorchReader;
use self::{
    forward::{Family, Inputs, Weights},
    state::{State, fill, row, to_host},
    taps::{Interventions, Tap, first_layer, is_frozen},
};
use crate::{
    BurnDevice, Engine, Error, Exactness, Intervention, Resident, check_tokens, failure,
    intervention::check_hook, split,
};

/// An [`Engine`] on PyTorch's library: its attention that writes no pattern down, its automatic
/// derivatives, its kernels for GPUs.
///
/// With `bf16` everything that training computes between the weights, which stay float32, and the
/// losses is bfloat16; evaluation stays in float32.
pub struct TorchEngine {
    name: String,
    on: BurnDevice,
    config: ModelConfig,
    kind: Kind,
    /// Whether training stays on the device.
    stays: bool,
    /// libtorch's tensors may move between threads, but not be used by several at once.
    state: Mutex<State>,
}

impl TorchEngine {
    /// On the CPU or a GPU of PyTorch's library; with `bf16`, training computes in bfloat16.
    ///
    /// # Errors
    /// A device that is not PyTorch's or that this machine does not have, an invalid configuration
    /// or one outside the paper's family, or parameters that are not its own.
    pub fn on(
        on: BurnDevice,
        bf16: bool,
        config: &ModelConfig,
        params: &Params,
    ) -> Result<Self, Error> {
        let device = on.open_torch()?;
        config.validate()?;
        config.require_paper_family("running on libtorch")?;
        params.check(config)?;
        let kind = if bf16 { Kind::BFloat16 } else { Kind::Float };
        let state = guarded(on, || Ok(State::new(config, params, kind, device)))?;
        Ok(Self {
            name: format!("{on}{}", if bf16 { " bf16" } else { "" }),
            on,
            config: config.clone(),
            kind,
            stays: true,
            state: Mutex::new(state),
        })
    }

    /// The same engine, its training kept on the device ([`Resident`]), as it is if not told
    /// otherwise, or not.
    pub fn kept_on_device(self, stays: bool) -> Self {
        Self { stays, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sequences that a pass without a way back takes at once, if it writes the patterns of a layer
    /// down or does not.
    fn group(&self, pos: usize, patterns: bool) -> usize {
        let ModelConfig { n_heads, d_model, d_mlp, .. } = self.config;
        let each = if patterns { n_heads * pos * pos } else { pos * (8 * d_model + 2 * d_mlp) };
        (self.on.numbers_at_once() / each).max(1)
    }

    /// Logits that are written down at once.
    fn rows_at_once(&self) -> i64 {
        (self.on.numbers_at_once() / 2 / self.config.d_vocab).max(1) as i64
    }

    /// The loss of each row, in nats; logits in parts.
    fn losses_of(&self, h: &Tensor, unembed: &Tensor, targets: &Tensor) -> Tensor {
        let (rows, at_once) = (h.size()[0], self.rows_at_once());
        let parts = (0..rows).step_by(at_once as usize).map(|from| {
            let part = |x: &Tensor| x.narrow(0, from, at_once.min(rows - from));
            -part(h)
                .matmul(unembed)
                .log_softmax(1, None)
                .gather(1, &part(targets), false)
                .squeeze_dim(1)
        });
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    }

    /// Checks once, then runs `examples` in groups, with each group's part of every set of
    /// interventions.
    fn in_groups<T>(
        &self,
        tokens: ArrayView2<u32>,
        pos: usize,
        sets: &[&[Intervention]],
        hooks: &[Hook],
        mut run: impl FnMut(&Pass<'_>, ArrayView2<u32>, &[Vec<Intervention>]) -> T,
    ) -> Result<Vec<T>, Error> {
        check_tokens(&self.config, tokens, pos)?;
        for intervention in sets.iter().copied().flatten() {
            intervention.check(&self.config, tokens.nrows(), pos)?;
        }
        let is_pattern = |hook: &Hook| matches!(hook, Hook::Pattern(_));
        let patterns = hooks.iter().any(is_pattern)
            || sets.iter().copied().flatten().any(|i| is_pattern(&i.hook()));
        let group = self.group(pos, patterns);
        guarded(self.on, || {
            let _no_grad = no_grad_guard();
            let state = self.state();
            let weights = Weights::new(&self.config, &state.parameters);
            let starts = (0..tokens.nrows()).step_by(group);
            let groups = starts.map(|from| {
                let to = (from + group).min(tokens.nrows());
                let part: Vec<Vec<_>> = sets
                    .iter()
                    .map(|set| set.iter().map(|i| i.for_examples(from, to)).collect())
                    .collect();
                let group = tokens.slice_axis(Axis(0), Slice::from(from..to));
                let inputs = state.family.inputs(group.split_at(Axis(1), pos).0);
                let pass = Pass { family: &state.family, weights: &weights, inputs: &inputs };
                Ok(run(&pass, group, &part))
            });
            groups.collect()
        })
    }
}

/// Passes over one group of examples.
struct Pass<'a> {
    family: &'a Family,
    weights: &'a Weights,
    inputs: &'a Inputs,
}

impl Pass<'_> {
    /// The residual stream below each layer and above the last.
    fn residuals(&self, taps: &mut dyn Tap) -> Vec<Tensor> {
        let mut residuals = vec![self.family.embedded(self.weights, self.inputs, taps)];
        for l in 0..self.family.config.n_layers {
            residuals.push(self.family.layer(l, self.weights, &residuals[l], self.inputs, taps));
        }
        residuals
    }

    /// From the residual stream below `layer` to what is unembedded, `[batch, pos, d_model]`.
    fn from(&self, layer: usize, x: &Tensor, taps: &mut dyn Tap) -> Tensor {
        let mut x = x.shallow_clone();
        for l in layer..self.family.config.n_layers {
            x = self.family.layer(l, self.weights, &x, self.inputs, taps);
        }
        self.family.final_norm(self.weights, &x)
    }

    /// From the tokens.
    fn whole(&self, taps: &mut dyn Tap) -> Tensor {
        let x = self.family.embedded(self.weights, self.inputs, taps);
        self.from(0, &x, taps)
    }

    /// What sets have in common: the streams without interventions, and the patterns that some of
    /// them keep.
    fn clean(&self, sets: &[Vec<Intervention>]) -> (Vec<Tensor>, BTreeMap<Hook, Tensor>) {
        let frozen = sets.iter().flatten().filter(|i| is_frozen(i)).map(Intervention::hook);
        let (frozen, none) = (frozen.collect::<Vec<_>>(), BTreeMap::new());
        let mut taps = Interventions::new(&[], &frozen, self.family.device, &none);
        let residuals = self.residuals(&mut taps);
        (residuals, taps.captured)
    }

    /// What is unembedded under the first of `sets`, and the activations at `hooks`.
    fn under_one(
        &self,
        sets: &[Vec<Intervention>],
        hooks: &[Hook],
    ) -> (Tensor, BTreeMap<Hook, Tensor>) {
        let kept = sets[0].iter().any(is_frozen);
        let clean = if kept { self.clean(sets).1 } else { BTreeMap::new() };
        let mut taps = Interventions::new(&sets[0], hooks, self.family.device, &clean);
        let h = self.whole(&mut taps);
        (h, taps.captured)
    }
}

impl Engine for TorchEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn exactness(&self) -> Exactness {
        self.on.exactness()
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn set_params(&mut self, params: &Params) -> Result<(), Error> {
        params.check(&self.config)?;
        guarded(self.on, || {
            let _no_grad = no_grad_guard();
            let mut state = self.state();
            state.weights.copy_(&Tensor::from_slice(&row(params)));
            state.round();
            Ok(())
        })
    }

    fn loss_and_gradients(
        &mut self,
        examples: ArrayView2<u32>,
        gradients: &mut Params,
    ) -> Result<f32, Error> {
        gradients.check(&self.config)?;
        guarded(self.on, || {
            let (sum, gradient, weight) = self.loss_and_gradient(&self.state(), examples)?;
            fill(gradients, &to_host(&(gradient * weight)));
            Ok((f64::from(to_host(&sum)[0]) * weight) as f32)
        })
    }

    fn losses_under(
        &self,
        examples: ArrayView2<u32>,
        sets: &[&[Intervention]],
    ) -> Result<Vec<Array2<f32>>, Error> {
        let pos = examples.ncols().saturating_sub(1);
        let groups = self.in_groups(examples, pos, sets, &[], |pass, group, sets| {
            let (_, targets) = split(group);
            let targets = pass.family.ids(targets).flatten(0, 1).unsqueeze(1);
            let (residuals, clean) = pass.clean(sets);
            let losses = sets.iter().map(|set| {
                let first = set
                    .iter()
                    .map(|i| first_layer(i.hook()))
                    .min()
                    .unwrap_or(Some(self.config.n_layers));
                let mut taps = Interventions::new(set, &[], pass.family.device, &clean);
                let h = match first {
                    Some(layer) => pass.from(layer, &residuals[layer], &mut taps),
                    None => pass.whole(&mut taps),
                };
                self.losses_of(&h.flatten(0, 1), &pass.weights.unembed, &targets)
            });
            let each = losses.map(|losses| {
                Array2::from_shape_vec((group.nrows(), pos), to_host(&losses))
                    .expect("one loss a target")
            });
            each.collect::<Vec<_>>()
        })?;
        let of_set =
            |set: usize| join(&groups.iter().map(|group| group[set].view()).collect::<Vec<_>>());
        Ok((0..sets.len()).map(of_set).collect())
    }

    fn activations(
        &self,
        tokens: ArrayView2<u32>,
        hooks: &[Hook],
        interventions: &[Intervention],
    ) -> Result<BTreeMap<Hook, ArrayD<f32>>, Error> {
        for hook in hooks {
            check_hook(&self.config, *hook).map_err(Error::Hook)?;
        }
        let groups =
            self.in_groups(tokens, tokens.ncols(), &[interventions], hooks, |pass, _, sets| {
                let (_, seen) = pass.under_one(sets, hooks);
                seen.iter()
                    .map(|(hook, value)| (*hook, to_array(value)))
                    .collect::<BTreeMap<_, _>>()
            })?;
        let by_hook =
            |hook: &Hook| join(&groups.iter().map(|group| group[hook].view()).collect::<Vec<_>>());
        Ok(hooks.iter().map(|hook| (*hook, by_hook(hook))).collect())
    }

    fn logits(
        &self,
        tokens: ArrayView2<u32>,
        interventions: &[Intervention],
    ) -> Result<Array3<f32>, Error> {
        let groups =
            self.in_groups(tokens, tokens.ncols(), &[interventions], &[], |pass, _, sets| {
                let (h, _) = pass.under_one(sets, &[]);
                to_array(&h.matmul(&pass.weights.unembed))
            })?;
        let whole = join(&groups.iter().map(|group| group.view()).collect::<Vec<_>>());
        Ok(whole.into_dimensionality().expect("logits have three axes"))
    }

    fn resident(&mut self) -> Option<&mut dyn Resident> {
        self.stays.then_some(self)
    }
}

/// Does `work`, which uses `on`; what libtorch refuses, above all for want of memory, is an error.
fn guarded<T>(on: BurnDevice, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    failure::caught(work).unwrap_or_else(|reason| Err(on.failed(&reason)))
}

fn to_array(tensor: &Tensor) -> ArrayD<f32> {
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), to_host(tensor)).expect("data fills its shape")
}

fn join<D: ndarray::RemoveAxis>(
    groups: &[ndarray::ArrayView<'_, f32, D>],
) -> ndarray::Array<f32, D> {
    concatenate(Axis(0), groups).expect("groups differ only in their number of examples")
}
