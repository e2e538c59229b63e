//! The paper's family on PyTorch's library itself, with no layer between.

mod forward;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use induction_model::{Hook, ModelConfig, Params};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, IxDyn, Slice, concatenate};
use tch::{Device, Kind, Tensor, no_grad_guard};

use self::forward::{Family, Inputs, NoTap, Tap, Weights, device_shape, exchanged, stays_float32};
use crate::{
    BurnDevice, Engine, Error, Exactness, Intervention, ParameterKind, Resident, ResidentStep,
    Stepped, check_tokens, failure,
    intervention::{check_hook, with_frozen_patterns},
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

struct State {
    family: Family,
    /// All weights in float32, one parameter after the other, each in the order of its
    /// [`device_shape`] and at its place of [`places`].
    weights: Tensor,
    /// Where each parameter begins.
    places: Vec<usize>,
    /// Each parameter, a view of `weights`.
    parameters: Vec<Tensor>,
    /// What training multiplies by and derives by, if that is bfloat16: the weights rounded, and
    /// views of them, in which those that stay float32 are views of `weights`.
    rounded: Option<(Tensor, Vec<Tensor>)>,
    training: Option<Training>,
}

/// The state of training on the device.
struct Training {
    /// A row each, like the weights.
    moments: [Tensor; 2],
    /// One a parameter.
    kinds: Vec<ParameterKind>,
}

impl State {
    fn new(config: &ModelConfig, params: &Params, kind: Kind, device: Device) -> Self {
        let weights = upload(&row(params), device);
        let (places, _) = places(params);
        let views = |row: &Tensor, others: &Tensor| {
            let each = params.iter().zip(&places).map(|((name, value), &place)| {
                let from = if stays_float32(name) { others } else { row };
                part(from, place, &device_shape(name, value.shape()))
                    .detach()
                    .set_requires_grad(true)
            });
            each.collect::<Vec<_>>()
        };
        let rounded = (kind != Kind::Float).then(|| {
            let row = weights.to_kind(kind);
            let views = views(&row, &weights);
            (row, views)
        });
        let parameters = views(&weights, &weights);
        Self {
            family: Family::new(config, device),
            weights,
            places,
            parameters,
            rounded,
            training: None,
        }
    }

    /// What training derives by.
    fn leaves(&self) -> &[Tensor] {
        self.rounded.as_ref().map_or(&self.parameters, |(_, leaves)| leaves)
    }

    /// After the weights have changed.
    fn round(&mut self) {
        if let Some((row, _)) = &mut self.rounded {
            row.copy_(&self.weights);
        }
    }
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

    /// The sum of the losses in nats, `[1]`, its gradient, all parameters in a row like the
    /// weights, and the weight that makes means of both.
    fn loss_and_gradient(
        &self,
        state: &State,
        examples: ArrayView2<u32>,
    ) -> Result<(Tensor, Tensor, f64), Error> {
        let (rows, pos) = (examples.nrows(), examples.ncols().saturating_sub(1));
        check_tokens(&self.config, examples, pos)?;
        let weight = 1.0 / (rows * pos) as f64;
        let group = self.on.training_sequences(&self.config, pos);
        // A batch that is too large for the device at once is taken in parts, whose gradients are
        // added in order.
        let parts = (0..rows).step_by(group).map(|from| {
            let part = examples.slice_axis(Axis(0), Slice::from(from..(from + group).min(rows)));
            self.part_of_gradient(state, part)
        });
        let (loss, gradient) =
            parts.reduce(|(a, b), (c, d)| (a + c, b + d)).expect("there is at least one example");
        Ok((loss, gradient, weight))
    }

    fn part_of_gradient(&self, state: &State, examples: ArrayView2<u32>) -> (Tensor, Tensor) {
        let (read, targets) = split(examples);
        let weights = Weights::new(&self.config, state.leaves());
        let family = &state.family;
        let inputs = family.inputs(read);
        let mut x = family.embedded(&weights, &inputs, &mut NoTap);
        for l in 0..self.config.n_layers {
            x = family.layer(l, &weights, &x, &inputs, &mut NoTap);
        }
        let h = family.final_norm(&weights, &x).flatten(0, 1); // [row, d_model]
        let targets = family.ids(targets).flatten(0, 1).unsqueeze(1);
        let Unembedded { loss, d_h, d_unembed } =
            self.unembed_and_back(&h.detach(), &weights.unembed.detach(), &targets);
        // The way back from here on is PyTorch's. It starts at a number whose derivative by `h` is
        // what was found.
        let found = Tensor::run_backward(&[(&h * d_h).sum(None)], state.leaves(), false, false);
        let _no_grad = no_grad_guard();
        let gradient = state.weights.zeros_like();
        for (at, (found, (parameter, &place))) in
            found.iter().zip(state.parameters.iter().zip(&state.places)).enumerate()
        {
            let mut view = part(&gradient, place, &parameter.size());
            if at + 1 == state.parameters.len() {
                view.copy_(&d_unembed); // the last parameter
            } else if found.defined() {
                view.copy_(found);
            } // else it took no part
        }
        (loss, gradient)
    }

    /// The unembedding, the losses and the way back through both: by hand, so that logits are
    /// written down once and in parts.
    fn unembed_and_back(&self, h: &Tensor, unembed: &Tensor, targets: &Tensor) -> Unembedded {
        let _no_grad = no_grad_guard();
        let (rows, at_once) = (h.size()[0], self.rows_at_once());
        let mut d_hs = Vec::new();
        let mut sums: Option<(Tensor, Tensor)> = None;
        for from in (0..rows).step_by(at_once as usize) {
            let part = |x: &Tensor| x.narrow(0, from, at_once.min(rows - from));
            let (h, targets) = (part(h), part(targets));
            // The derivative of a loss by the logits: probabilities, less 1 at the target.
            let mut d_logits = h.matmul(unembed).softmax(1, None);
            let right = d_logits.gather(1, &targets, false).to_kind(Kind::Float);
            let loss = -right.clamp_min(f64::from(f32::MIN_POSITIVE)).log().sum(None).view([1]);
            let _ = d_logits.scatter_(1, &targets, &(right - 1.0).to_kind(self.kind));
            d_hs.push(d_logits.matmul(&unembed.transpose(0, 1)));
            let d_unembed = h.transpose(0, 1).matmul(&d_logits).to_kind(Kind::Float);
            sums = Some(match sums {
                Some((a, b)) => (a + loss, b + d_unembed),
                None => (loss, d_unembed),
            });
        }
        let (loss, d_unembed) = sums.expect("there is at least one row");
        let d_h = if d_hs.len() == 1 { d_hs.remove(0) } else { Tensor::cat(&d_hs, 0) };
        Unembedded { loss, d_h, d_unembed }
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

/// What [`TorchEngine::unembed_and_back`] finds.
struct Unembedded {
    /// Sum of the losses in nats, `[1]`.
    loss: Tensor,
    /// Its derivative by what is unembedded, `[row, d_model]`, and by the unembedding, `[d_model,
    /// d_vocab]` in float32.
    d_h: Tensor,
    d_unembed: Tensor,
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

    fn captured(
        &self,
        hooks: &[Hook],
        interventions: &[Intervention],
    ) -> BTreeMap<Hook, ArrayD<f32>> {
        let mut taps = Interventions::new(interventions, hooks, self.family.device);
        let _ = self.whole(&mut taps);
        taps.captured.into_iter().map(|(hook, value)| (hook, to_array(&value))).collect()
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
            let frozen: Vec<Hook> =
                sets.iter().flatten().filter(|i| is_frozen(i)).map(Intervention::hook).collect();
            // What the sets have in common: the streams without interventions, and the patterns
            // that are kept.
            let mut clean = Interventions::new(&[], &frozen, pass.family.device);
            let residuals = pass.residuals(&mut clean);
            let losses = sets.iter().map(|set| {
                let first = set
                    .iter()
                    .map(|i| first_layer(i.hook()))
                    .min()
                    .unwrap_or(Some(self.config.n_layers));
                let mut taps = Interventions::new(set, &[], pass.family.device);
                taps.clean = Some(&clean.captured);
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
                let set = with_frozen_patterns(&sets[0], |hooks| Ok(pass.captured(hooks, &[])))?;
                Ok(pass.captured(hooks, &set))
            })?;
        let groups: Vec<_> = groups.into_iter().collect::<Result<_, Error>>()?;
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
                let set = with_frozen_patterns(&sets[0], |hooks| Ok(pass.captured(hooks, &[])))?;
                let h = pass.whole(&mut Interventions::new(&set, &[], pass.family.device));
                Ok(to_array(&h.matmul(&pass.weights.unembed)))
            })?;
        let groups: Vec<_> = groups.into_iter().collect::<Result<_, Error>>()?;
        let whole = join(&groups.iter().map(|group| group.view()).collect::<Vec<_>>());
        Ok(whole.into_dimensionality().expect("logits have three axes"))
    }

    fn resident(&mut self) -> Option<&mut dyn Resident> {
        self.stays.then_some(self)
    }
}

impl TorchEngine {
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
}

impl Resident for TorchEngine {
    fn load(
        &mut self,
        params: &Params,
        moments: [&Params; 2],
        kinds: &[ParameterKind],
    ) -> Result<(), Error> {
        for params in moments {
            params.check(&self.config)?;
        }
        self.set_params(params)?;
        guarded(self.on, || {
            let mut state = self.state();
            let device = state.family.device;
            let moments = moments.map(|moment| upload(&row(moment), device));
            state.training = Some(Training { moments, kinds: kinds.to_vec() });
            Ok(())
        })
    }

    fn step(&mut self, examples: ArrayView2<u32>, step: &ResidentStep) -> Result<Stepped, Error> {
        guarded(self.on, || {
            let mut state = self.state();
            let (loss, mut gradient, weight) = self.loss_and_gradient(&state, examples)?;
            let _no_grad = no_grad_guard();
            let State { weights, places, parameters, training, .. } = &mut *state;
            let Training { moments: [m, v], kinds } = training.as_mut().expect("load comes first");
            let norm = gradient.norm() * weight;
            let clip = ((&norm + 1e-6).reciprocal() * step.clip_norm).clamp_max(1.0);
            let _ = gradient.g_mul_(&(clip * weight));
            let [beta1, beta2] = step.betas;
            let _ = m.lerp_(&gradient, 1.0 - beta1);
            let _ = v.lerp_(&gradient.square(), 1.0 - beta2);
            // As m / c1 / (sqrt(v / c2) + eps) * lr, with few passes over the row.
            let root_of_c2 = step.corrections[1].sqrt();
            let mut divisor = v.sqrt();
            let _ = divisor.g_add_scalar_(step.eps * root_of_c2);
            let _ = divisor.g_mul_scalar_(-step.corrections[0] / (step.lr * root_of_c2));
            for ((parameter, &place), kind) in parameters.iter_mut().zip(&*places).zip(kinds) {
                if kind.lr_scale != 1.0 {
                    let _ = part(&divisor, place, &parameter.size())
                        .g_mul_scalar_(kind.lr_scale.recip());
                }
                if kind.decays && step.weight_decay != 0.0 {
                    let _ = parameter.g_mul_scalar_(1.0 - step.lr * step.weight_decay);
                }
            }
            let _ = weights.addcdiv_(m, &divisor);
            let found = Tensor::cat(&[loss, norm.view([1]), weights.norm().view([1])], 0);
            state.round();
            let found = to_host(&found);
            Ok(Stepped {
                loss: (f64::from(found[0]) * weight) as f32,
                grad_norm: f64::from(found[1]),
                weights_squared: f64::from(found[2]).powi(2),
            })
        })
    }

    fn fetch(&self, params: &mut Params, moments: [&mut Params; 2]) -> Result<(), Error> {
        guarded(self.on, || {
            let state = self.state();
            let training = state.training.as_ref().expect("load comes first");
            let [m, v] = moments;
            for (row, to) in
                [(&state.weights, params), (&training.moments[0], m), (&training.moments[1], v)]
            {
                to.check(&self.config)?;
                fill(to, &to_host(row));
            }
            Ok(())
        })
    }
}

/// The layer at whose input a pass with a change at `hook` leaves the one without; none for a
/// change below all layers.
fn first_layer(hook: Hook) -> Option<usize> {
    match hook {
        Hook::Embed => None,
        Hook::Q(l) | Hook::K(l) | Hook::V(l) | Hook::Pattern(l) | Hook::Z(l) => Some(l),
        Hook::AttnOut(l) | Hook::MlpOut(l) | Hook::ResidPost(l) => Some(l),
    }
}

fn is_frozen(intervention: &Intervention) -> bool {
    matches!(intervention, Intervention::FreezePatterns { .. })
}

/// Does `work`, which uses `on`; what libtorch refuses, above all for want of memory, is an error.
fn guarded<T>(on: BurnDevice, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    failure::caught(work).unwrap_or_else(|reason| Err(on.failed(&reason)))
}

/// `[example, pos + 1]` into what is read and what is predicted, `[example, pos]` each.
fn split(examples: ArrayView2<u32>) -> (ArrayView2<u32>, ArrayView2<u32>) {
    let pos = examples.ncols().saturating_sub(1);
    let (inputs, _) = examples.split_at(Axis(1), pos);
    let (_, targets) = examples.split_at(Axis(1), examples.ncols() - pos);
    (inputs, targets)
}

/// Where each parameter begins in a row, and the row's length. Each begins at a multiple of 128
/// bytes of bfloat16: products of matrices that do not lie at a multiple of 16 are several times
/// slower on a GPU.
fn places(params: &Params) -> (Vec<usize>, usize) {
    let mut end = 0;
    let places = params.iter().map(|(_, value)| {
        let begin = end;
        end += value.len().next_multiple_of(64);
        begin
    });
    (places.collect(), end)
}

/// A parameter's part of a row.
fn part(row: &Tensor, place: usize, shape: &[i64]) -> Tensor {
    row.narrow(0, place as i64, shape.iter().product()).view(shape)
}

/// All parameters, each in the order of its [`device_shape`] and at its place; 0 between them.
fn row(params: &Params) -> Vec<f32> {
    let (places, length) = places(params);
    let mut row = vec![0.0; length];
    for ((name, value), place) in params.iter().zip(places) {
        let mut value = value.view();
        if exchanged(name) {
            value.swap_axes(0, 1);
        }
        row[place..].iter_mut().zip(value).for_each(|(to, &from)| *to = from);
    }
    row
}

/// The reverse of [`row`].
fn fill(params: &mut Params, row: &[f32]) {
    let (places, _) = places(params);
    for ((name, value), place) in params.iter_mut().zip(places) {
        let mut value = value.view_mut();
        if exchanged(name) {
            value.swap_axes(0, 1);
        }
        value.iter_mut().zip(&row[place..]).for_each(|(to, &from)| *to = from);
    }
}

fn upload(row: &[f32], device: Device) -> Tensor {
    Tensor::from_slice(row).to_device(device)
}

fn to_host(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_device(Device::Cpu).contiguous();
    let mut values = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    values
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

/// Applies interventions, then captures what was asked for.
struct Interventions<'a> {
    interventions: &'a [Intervention],
    hooks: &'a [Hook],
    device: Device,
    captured: BTreeMap<Hook, Tensor>,
    /// Patterns of the pass without interventions, for those that are kept.
    clean: Option<&'a BTreeMap<Hook, Tensor>>,
}

impl<'a> Interventions<'a> {
    fn new(interventions: &'a [Intervention], hooks: &'a [Hook], device: Device) -> Self {
        Self { interventions, hooks, device, captured: BTreeMap::new(), clean: None }
    }

    fn at(&self, hook: Hook) -> impl Iterator<Item = &'a Intervention> + use<'a> {
        self.interventions.iter().filter(move |i| i.hook() == hook)
    }

    fn upload<D: ndarray::Dimension>(&self, value: &ndarray::Array<f32, D>) -> Tensor {
        let shape: Vec<i64> = value.shape().iter().map(|&n| n as i64).collect();
        upload(&value.iter().copied().collect::<Vec<_>>(), self.device).view(shape.as_slice())
    }
}

impl Tap for Interventions<'_> {
    fn wants(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook) || self.at(hook).next().is_some()
    }

    fn at(&mut self, hook: Hook, mut value: Tensor) -> Tensor {
        // Any other pattern of the set wins over one that is kept.
        let (kept, others): (Vec<_>, Vec<_>) =
            Interventions::at(self, hook).partition(|i| is_frozen(i));
        for intervention in kept.into_iter().chain(others) {
            match intervention {
                Intervention::Replace { value: new, .. } => value = self.upload(new),
                Intervention::FreezePatterns { .. } => {
                    // A copy: heads of it may be written over.
                    value = self.clean.expect("made for sets that keep patterns")[&hook].copy();
                }
                // z and a head's vectors are [batch, pos, head, d_head], a pattern [batch, head,
                // query, key].
                Intervention::ReplaceHead { head, value: new, .. } => {
                    value.narrow(2, *head as i64, 1).copy_(&self.upload(new).unsqueeze(2));
                }
                Intervention::ZeroHead { head, .. } => {
                    let _ = value.narrow(2, *head as i64, 1).zero_();
                }
                Intervention::ForcePattern { head, pattern, .. } => {
                    value.narrow(1, *head as i64, 1).copy_(&self.upload(pattern).unsqueeze(1));
                }
            }
        }
        if self.hooks.contains(&hook) {
            self.captured.insert(hook, value.copy());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_each_parameter_where_products_are_fast() {
        let config = ModelConfig {
            d_model: 12,
            n_heads: 3,
            d_head: 5,
            d_mlp: 7,
            n_ctx: 6,
            d_vocab: 11,
            smeared_keys: true,
            ..ModelConfig::default()
        };
        let params = config.init_params(1).unwrap();
        let (places, length) = places(&params);
        assert!(places.iter().all(|place| place % 64 == 0));
        let row = row(&params);
        assert_eq!(row.len(), length);
        let mut back = Params::zeros(&config);
        fill(&mut back, &row);
        assert!(back == params);
        // Heads lie side by side: [d_model, head * d_head].
        let at = params.iter().position(|(name, _)| name == "blocks.1.attn.W_K").unwrap();
        let w_k = params.get("blocks.1.attn.W_K").unwrap();
        assert_eq!(row[places[at] + 4 * 15 + 2 * 5 + 3], w_k[[2, 4, 3]]);
    }
}
