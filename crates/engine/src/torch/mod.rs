//! PyTorch's library itself, with no layer between.

mod decode;
mod layer;
mod state;
mod sweep;
mod taps;
mod training;

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU32},
};

use induction_model::{Clamps, Hook, ModelConfig, Params, ReadParams};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, IxDyn, Slice, concatenate};
use rayon::prelude::*;
use tch::{Kind, Tensor, no_grad_guard};

use self::{
    layer::{W_U, Weights, decoded_rows, uploaded},
    state::{State, fill, row, to_host},
    sweep::{Stream, in_layer, parts_of},
};
use crate::{
    Batch, BurnDevice, Engine, Error, Exactness, Intervention, Resident, Sight, Watched,
    check_tokens, check_watched, failure,
    intervention::{check_hook, layers_for},
    split,
};

/// An [`Engine`] on PyTorch's library: its attention that writes no pattern down, its automatic
/// derivatives, its kernels for GPUs.
///
/// It trains models ([`on`](Self::on)), whose weights are all on the device,
/// and reads models of any architecture ([`reading`](Self::reading)), whose weights stay there
/// where they fit, and come a layer at a time where they do not. All that is asked for together
/// passes through a layer together, as rows of few large products: every example, with every set of
/// interventions from the layer on at which it leaves the others.
pub struct TorchEngine {
    name: String,
    on: BurnDevice,
    config: ModelConfig,
    /// What training computes in, or a model that is read multiplies in.
    kind: Kind,
    /// Whether what was on the device stays there: a model in training, or a layer that was read.
    stays: bool,
    /// Where weights that are not on the device are read; those of a model that is trained all are.
    files: Option<Arc<dyn ReadParams>>,
    /// How often parts were halved since the device had no memory for them.
    halved: AtomicU32,
    /// libtorch's tensors may move between threads, but not be used by several at once.
    state: Mutex<State>,
}

/// Columns of `W_U` that are read at once.
const PIECE: usize = 1 << 15;

/// Heads that a clamp makes copy write past the residual stream, which this engine's passes do not
/// do.
fn no_copies(config: &ModelConfig) -> Result<(), Error> {
    if !config.clamp.any_copies() {
        return Ok(());
    }
    let (found, expected) = ("one that copies".into(), "none that copies on libtorch".into());
    Err(induction_model::Error::Config { field: "clamp", found, expected }.into())
}

impl TorchEngine {
    /// An engine that trains a model. With `bf16`, everything that training
    /// computes between the weights, which stay float32, and the losses is bfloat16; evaluation
    /// stays in float32.
    ///
    /// # Errors
    /// A device that is not PyTorch's or that this machine does not have, an invalid configuration
    /// or one that cannot be trained, or parameters that are not its own.
    pub fn on(
        on: BurnDevice,
        bf16: bool,
        config: &ModelConfig,
        params: &Params,
    ) -> Result<Self, Error> {
        let device = on.open_torch()?;
        config.validate()?;
        config.require_trainable("training on libtorch")?;
        no_copies(config)?;
        params.check(config)?;
        let state = guarded(on, || State::trained(config, params, kind(bf16), device))?;
        Ok(Self::with(on, bf16, config, true, None, state))
    }

    /// An engine that reads a model of any architecture and does not train it. Weights are kept on
    /// the device if its free memory holds them. With `bf16`, the layers' matrices are kept and
    /// multiplied in bfloat16; the residual stream, norms, patterns and logits stay in float32.
    ///
    /// # Errors
    /// A device that is not PyTorch's or that this machine does not have, an invalid configuration,
    /// or what is wrong with the weights that are read at once.
    pub fn reading(
        on: BurnDevice,
        bf16: bool,
        config: &ModelConfig,
        weights: Arc<dyn ReadParams>,
    ) -> Result<Self, Error> {
        let device = on.open_torch()?;
        config.validate()?;
        no_copies(config)?;
        let state = guarded(on, || State::unread(config, weights.as_ref(), device))?;
        let needed = weights_bytes(config, bf16);
        // Beside the weights there is what passes through them.
        let stays = on.free_bytes().is_none_or(|free| needed + needed / 8 + (1 << 30) < free);
        Ok(Self::with(on, bf16, config, stays, Some(weights), state))
    }

    fn with(
        on: BurnDevice,
        bf16: bool,
        config: &ModelConfig,
        stays: bool,
        files: Option<Arc<dyn ReadParams>>,
        state: State,
    ) -> Self {
        Self {
            name: format!("{on}{}", if bf16 { " bf16" } else { "" }),
            on,
            config: config.clone(),
            kind: kind(bf16),
            stays,
            files,
            halved: AtomicU32::new(0),
            state: Mutex::new(state),
        }
    }

    /// The same engine, what is on the device kept there or not: training
    /// ([`Resident`]), or weights that are read.
    pub fn kept_on_device(self, stays: bool) -> Self {
        Self { stays, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> &dyn ReadParams {
        self.files.as_deref().expect("what is not on the device is in files")
    }

    /// Rows of the embedding.
    fn embedding_of(&self, tokens: &[u32]) -> Result<ArrayD<f32>, Error> {
        Ok(self.files().embedding_of(tokens)?.into_dyn())
    }

    /// A layer's weights, which stay on the device if they may.
    fn block(&self, state: &mut State, l: usize) -> Result<Weights, Error> {
        if let Some(block) = &state.blocks[l] {
            return Ok(block.shallow_clone());
        }
        let block = Weights::read(&self.config, self.files(), l, self.kind, state.frame.device)?;
        if self.stays {
            state.blocks[l] = Some(block.shallow_clone());
        }
        Ok(block)
    }

    /// `W_U` as rows, in pieces, which stay on the device if they may.
    fn unembed(&self, state: &mut State) -> Result<Vec<Tensor>, Error> {
        if !state.unembed.is_empty() {
            return Ok(state.unembed.iter().map(Tensor::shallow_clone).collect());
        }
        let pieces = (0..self.config.d_vocab).step_by(PIECE).map(|from| {
            let rows = from..(from + PIECE).min(self.config.d_vocab);
            let device = state.frame.device;
            let kind = Kind::Float;
            match decoded_rows(self.files(), W_U, rows.clone(), kind, device)? {
                Some(rows) => Ok(rows),
                None => Ok(uploaded(&self.files().unembedding_of(rows)?.into_dyn(), device)),
            }
        });
        let pieces = pieces.collect::<Result<Vec<_>, Error>>()?;
        if self.stays {
            state.unembed = pieces.iter().map(Tensor::shallow_clone).collect();
        }
        Ok(pieces)
    }
}

fn kind(bf16: bool) -> Kind {
    if bf16 { Kind::BFloat16 } else { Kind::Float }
}

/// Bytes that a model's weights take on a device that reads it.
fn weights_bytes(config: &ModelConfig, bf16: bool) -> u64 {
    let block = |of: &[usize]| of.iter().product::<usize>() as u64;
    let layers: u64 =
        config.block_parameters().iter().map(|parameter| block(&parameter.shape)).sum();
    let layers = config.n_layers as u64 * layers * if bf16 { 2 } else { 4 };
    layers + 4 * (config.d_model * config.d_vocab) as u64
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
        let files = guarded(self.on, || {
            let _no_grad = no_grad_guard();
            let mut state = self.state();
            if let Some(trained) = &mut state.trained {
                trained.weights.copy_(&Tensor::from_slice(&row(params)));
                trained.round();
                return Ok(None);
            }
            *state = State::unread(&self.config, params, state.frame.device)?;
            Ok(Some(Arc::new(params.clone()) as Arc<dyn ReadParams>))
        })?;
        self.files = files;
        Ok(())
    }

    fn set_clamps(&mut self, clamps: &Clamps) -> Result<(), Error> {
        let config = ModelConfig { clamp: clamps.clone(), ..self.config.clone() };
        config.validate()?;
        no_copies(&config)?;
        self.state().frame.config = config.clone();
        self.config = config;
        Ok(())
    }

    fn loss_and_gradients(
        &mut self,
        batch: Batch<'_>,
        gradients: &mut Params,
    ) -> Result<f32, Error> {
        if self.state().trained.is_none() {
            return Err(induction_model::Error::NotTheFamily { what: "training" }.into());
        }
        gradients.check(&self.config)?;
        guarded(self.on, || {
            let (sum, gradient, weight) = self.loss_and_gradient(&self.state(), batch)?;
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
        self.run(examples, pos, sets, |state| {
            let (read, targets) = split(examples);
            let groups = self.groups(state, read, self.at_once(pos, false));
            let stream = examples.nrows() * pos * self.config.d_model;
            let at_once = (self.numbers_of_streams() / stream.max(1)).max(1);
            let mut losses = Vec::new();
            for sets in sets.chunks(at_once) {
                let mut streams: Vec<Stream> = (0..groups.len()).map(Stream::clean).collect();
                // Where the losses of each set are, from the first group on.
                let mut places = Vec::new();
                for set in sets {
                    places.push(if set.is_empty() { 0 } else { streams.len() });
                    if set.is_empty() {
                        continue;
                    }
                    // One below all layers comes first.
                    let first = set.iter().map(|i| i.hook().layer()).min().flatten();
                    streams.extend(parts_of(&groups, set).map(|(group, set)| Stream {
                        group,
                        set,
                        follows: first.map(|_| group),
                        from: first.unwrap_or(0),
                        x: None,
                    }));
                }
                self.pass(state, &groups, &mut streams)?;
                let unembed = self.unembed(state)?;
                for place in places {
                    let mut of_set = Vec::new();
                    let mut from = 0;
                    for (stream, group) in streams[place..].iter().zip(&groups) {
                        let to = from + group.tokens.nrows();
                        let targets = targets.slice_axis(Axis(0), Slice::from(from..to));
                        let ids = state.frame.ids(targets).flatten(0, 1).unsqueeze(1);
                        let x = stream.x.as_ref().expect("every stream has come through");
                        of_set.extend(to_host(&self.losses_of(state, &unembed, x, &ids)));
                        from = to;
                    }
                    let shape = (examples.nrows(), pos);
                    losses.push(Array2::from_shape_vec(shape, of_set).expect("a loss a target"));
                }
            }
            Ok(losses)
        })
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
        let pos = tokens.ncols();
        self.run(tokens, pos, &[interventions], |state| {
            let is_pattern = |hook: Hook| matches!(hook, Hook::Pattern(_));
            let patterns = hooks.iter().copied().any(is_pattern);
            let groups = self.groups(state, tokens, self.at_once(pos, patterns));
            let mut streams = Self::under_one(&groups, interventions);
            let first = streams.len() - groups.len();
            let mut seen: BTreeMap<Hook, Vec<ArrayD<f32>>> = BTreeMap::new();
            let wanted = |layer: Option<usize>, stream: &Stream| {
                // Those without interventions are there for their patterns alone.
                let only_kept = stream.set.is_empty() && first > 0;
                if only_kept { Vec::new() } else { in_layer(hooks, layer) }
            };
            let mut see = |_: usize, hook: Hook, value: Tensor| {
                seen.entry(hook).or_default().push(to_array(&value));
            };
            self.sweep(state, &groups, &mut streams, layers_for(hooks), &wanted, &mut see)?;
            let whole =
                |hook: &Hook| join(&seen[hook].iter().map(|part| part.view()).collect::<Vec<_>>());
            Ok(hooks.iter().map(|hook| (*hook, whole(hook))).collect())
        })
    }

    fn watch(
        &self,
        batches: &[Watched<'_>],
        see: &(dyn Fn(Sight<'_>) + Sync),
    ) -> Result<(), Error> {
        for Watched { tokens, hooks } in batches.iter().filter(|batch| batch.tokens.nrows() > 0) {
            check_tokens(&self.config, *tokens, tokens.ncols())?;
            check_watched(&self.config, hooks)?;
        }
        // What was shown once is not shown again.
        let is_shown = Cell::new(false);
        self.in_parts(
            || !is_shown.get(),
            |state| {
                let (mut groups, mut places) = (Vec::new(), Vec::new());
                for (batch, Watched { tokens, .. }) in batches.iter().enumerate() {
                    if tokens.nrows() == 0 {
                        continue;
                    }
                    let mut first = 0;
                    for group in self.groups(state, *tokens, self.at_once(tokens.ncols(), true)) {
                        places.push((batch, first));
                        first += group.tokens.nrows();
                        groups.push(group);
                    }
                }
                let mut streams: Vec<Stream> = (0..groups.len()).map(Stream::clean).collect();
                let layers = self.config.n_layers;
                let wanted = |layer: Option<usize>, stream: &Stream| {
                    let (batch, _) = places[stream.group];
                    let of_batch = batches[batch].hooks.iter();
                    layer.map_or(Vec::new(), |layer| of_batch.map(|hook| hook(layer)).collect())
                };
                // What was seen of a stream in a layer, until all of it is there.
                let mut found: BTreeMap<Hook, ArrayD<f32>> = BTreeMap::new();
                let mut show = |k: usize, hook: Hook, value: Tensor| {
                    found.insert(hook, to_array(&value));
                    let (batch, first) = places[k];
                    let layer = hook.layer().unwrap_or_default();
                    let hooks: Vec<Hook> =
                        batches[batch].hooks.iter().map(|hook| hook(layer)).collect();
                    if hooks.iter().all(|hook| found.contains_key(hook)) {
                        is_shown.set(true);
                        let all: Vec<_> = hooks.iter().map(|hook| found[hook].view()).collect();
                        // Example by example: whoever looks may take as long as the pass.
                        let examples = all.first().map_or(0, |value| value.len_of(Axis(0)));
                        (0..examples).into_par_iter().for_each(|k| {
                            let rows = Slice::from(k..k + 1);
                            let seen = all.iter().map(|value| value.slice_axis(Axis(0), rows));
                            let seen = seen.collect();
                            see(Sight { batch, first: first + k, layer, seen });
                        });
                        found.clear();
                    }
                };
                self.sweep(state, &groups, &mut streams, layers, &wanted, &mut show)
            },
        )
    }

    fn logits(
        &self,
        tokens: ArrayView2<u32>,
        interventions: &[Intervention],
    ) -> Result<Array3<f32>, Error> {
        let pos = tokens.ncols();
        self.run(tokens, pos, &[interventions], |state| {
            let groups = self.groups(state, tokens, self.at_once(pos, false));
            let mut streams = Self::under_one(&groups, interventions);
            let first = streams.len() - groups.len();
            self.pass(state, &groups, &mut streams)?;
            let unembed = self.unembed(state)?;
            let parts: Vec<ArrayD<f32>> = streams[first..]
                .iter()
                .map(|stream| {
                    let x = stream.x.as_ref().expect("every stream has come through");
                    let h = state.frame.final_norm(&state.after, x);
                    let of = &groups[stream.group].sequences;
                    let logits = state.logits_of(&unembed, &h.flatten(0, 1));
                    to_array(&logits.view([of.batch, of.pos, -1]))
                })
                .collect();
            let whole = join(&parts.iter().map(|part| part.view()).collect::<Vec<_>>());
            Ok(whole.into_dimensionality().expect("logits have three axes"))
        })
    }

    fn resident(&mut self) -> Option<&mut dyn Resident> {
        let trains = self.stays && self.files.is_none();
        trains.then_some(self)
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
