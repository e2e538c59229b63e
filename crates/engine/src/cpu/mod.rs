//! The CPU engine: the model family's forward and backward pass, written by hand over
//! [`induction_kernels`].
//!
//! One sequence is one task. Its activations stand in a workspace that a thread makes once and uses
//! again; scores and logits exist only as blocks in the cache. The gradients of a batch are summed
//! in at most [`MAX_GROUPS`] buffers, each the sum of fixed sequences in their order, and the
//! buffers in theirs: the bits do not depend on the number of threads.

mod backward;
mod clamped;
mod forward;
mod layout;
mod mlp;
mod read;
mod stream;
mod tails;
mod tap;
mod weights;
mod workspace;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use induction_kernels::{Arch, Real, panels, rows::accumulate};
use induction_model::{Clamps, Hook, ModelConfig, Params, Positions, sinusoidal_positions};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, ArrayViewMut1, Axis, IxDyn};
use rayon::prelude::*;

use self::{
    backward::Targets,
    clamped::Clamped,
    forward::{KeepPatterns, Start, Tap},
    layout::Layout,
    tap::ExampleTap,
    weights::Weights,
    workspace::{LOGIT_ROWS, LOGIT_STRIDE, Workspace},
};
pub use stream::StreamEngine;

use crate::{
    Batch, Engine, Error, Exactness, Intervention, check_tokens,
    intervention::{check_hook, hook_shape, with_frozen_patterns},
};

/// Buffers that a batch's gradients are summed in: as many threads as can work on one batch. It is
/// fixed, so that the order of the sums is, and small, because each buffer is written and read once
/// a step.
const MAX_GROUPS: usize = 8;

/// A model of the family in panels, in `f32` or, to check gradients, in `f64`.
pub struct Model<T> {
    arch: Arch,
    layout: Layout,
    n_ctx: usize,
    eps: f64,
    clamp: Clamps,
    weights: Weights<T>,
    /// `[n_ctx, d_model]`; empty where no vectors are added.
    positions: Vec<T>,
    /// Whether gradients can be made.
    trainable: bool,
    /// Workspaces that no sequence is using.
    spaces: Mutex<Vec<Workspace<T>>>,
    /// One a group; empty until the first gradient is asked for.
    gradients: Vec<Vec<T>>,
}

impl<T: Real> Model<T> {
    /// A model without weights yet; see [`set`](Self::set).
    ///
    /// # Errors
    /// An invalid configuration.
    pub fn new(config: &ModelConfig, arch: Arch) -> Result<Self, Error> {
        Self::of(config, arch, Layout::new)
    }

    fn of(
        config: &ModelConfig,
        arch: Arch,
        layout: impl FnOnce(&ModelConfig) -> Layout,
    ) -> Result<Self, Error> {
        config.validate()?;
        let layout = layout(config);
        let mut positions = Vec::new();
        if !matches!(config.architecture.positions, Positions::Rotary(_)) {
            positions.resize(panels::len(config.n_ctx, config.d_model), T::default());
        }
        if config.architecture.positions == Positions::Sinusoidal {
            let table = sinusoidal_positions(config.n_ctx, config.d_model, config.position_base);
            let table: Vec<T> = table.iter().map(|&x| T::from_f64(x)).collect();
            panels::pack(&table, config.d_model, &mut positions, config.n_ctx, 0);
        }
        Ok(Self {
            arch,
            weights: Weights::new(&layout),
            layout,
            n_ctx: config.n_ctx,
            eps: config.layer_norm_eps,
            clamp: config.clamp.clone(),
            positions,
            trainable: config.is_trainable(),
            spaces: Mutex::new(Vec::new()),
            gradients: Vec::new(),
        })
    }

    /// Replaces all weights: row-major arrays in the order of [`ModelConfig::parameter_shapes`].
    ///
    /// # Panics
    /// If there are too few arrays, or one is too short.
    pub fn set(&mut self, parameters: &[&[T]]) {
        if self.layout.before == 2 {
            self.set_positions(parameters[1]);
        }
        self.weights.set(&self.layout, parameters);
    }

    /// Replaces learned positions, `[n_ctx, d_model]`.
    fn set_positions(&mut self, positions: &[T]) {
        let d_model = self.layout.dims.d_model;
        panels::pack(positions, d_model, &mut self.positions, self.n_ctx, 0);
    }

    /// Mean loss over the batch's targets that count, and its gradients into `out`, row-major, in
    /// the order of [`ModelConfig::parameter_shapes`].
    ///
    /// # Panics
    /// On tokens that the model cannot read or a model that cannot be trained (engines check both
    /// first), and if `out` does not fit.
    pub fn loss_and_gradients(&mut self, batch: Batch<'_>, out: &mut [&mut [T]]) -> f64 {
        assert!(self.trainable, "gradients are made of models that can be trained");
        let (mean, Batch { examples, counted }) = (batch.weight(), batch);
        let batch = examples.nrows();
        let used = examples.ncols() - 1;
        let examples = examples.as_standard_layout();
        let counted = counted.as_ref().map(|counted| counted.as_standard_layout());
        let groups = batch.min(MAX_GROUPS);
        self.weights.transpose(&self.layout);
        let mut buffers = std::mem::take(&mut self.gradients);
        buffers.resize_with(groups.max(buffers.len()), || vec![T::NAN; self.layout.len]);
        let weight = T::from_f64(mean);
        let mut losses = [0.0; MAX_GROUPS];
        let model = &*self;
        let tasks =
            buffers[..groups].par_iter_mut().zip(&mut losses[..groups]).enumerate().with_max_len(1);
        tasks.for_each(|(g, (buffer, loss))| {
            let range = g * batch / groups..(g + 1) * batch / groups;
            let first = range.start;
            for b in range {
                let row = examples.row(b);
                let row = row.as_slice().expect("standard layout");
                let counted = counted.as_ref().map(|counted| counted.row(b));
                let targets = Targets {
                    tokens: &row[1..],
                    counted: counted.as_ref().map(|row| row.to_slice().expect("standard layout")),
                    weight,
                };
                let mut space = model.workspace(used, Keep::All);
                *loss += model.train_on(&mut space, buffer, &row[..used], targets, b == first);
                model.give_back(space);
            }
        });
        self.sum_groups(&mut buffers[..groups]);
        if self.layout.dims.architecture.tied_embeddings {
            self.add_unembedding_to_embedding(&mut buffers[0]);
        }
        self.unpack(&buffers[0], out);
        self.gradients = buffers;
        losses[..groups].iter().sum::<f64>() * mean
    }

    /// The gradient of a matrix that is both: the sum of theirs.
    fn add_unembedding_to_embedding(&self, gradients: &mut [T]) {
        let Layout { dims, embed, unembed, .. } = &self.layout;
        let (d, d_vocab) = (dims.d_model, dims.d_vocab);
        let mut turned = vec![T::default(); embed.len()];
        let of_unembedding = &gradients[unembed.clone()];
        panels::transpose(of_unembedding, dims.model_rows, d, d_vocab, &mut turned, d_vocab, 0);
        accumulate(self.arch, &turned, &mut gradients[embed.clone()]);
    }

    /// Adds all buffers to the first, in order, in parallel over its parts.
    fn sum_groups(&self, buffers: &mut [Vec<T>]) {
        const PART: usize = 1 << 14;
        let Some((sum, others)) = buffers.split_first_mut() else { return };
        sum.par_chunks_mut(PART).enumerate().for_each(|(at, part)| {
            for other in &*others {
                accumulate(self.arch, &other[at * PART..][..part.len()], part);
            }
        });
    }

    fn unpack(&self, buffer: &[T], out: &mut [&mut [T]]) {
        let (layout, dims) = (&self.layout, &self.layout.dims);
        let (embedding, rest) = out.split_first_mut().expect("a model has an embedding");
        let (layers, last) = rest.split_at_mut(layout.n_layers * layout.of_layer.len());
        let unpack_layers = || {
            layers.par_chunks_exact_mut(layout.of_layer.len()).enumerate().for_each(|(l, outs)| {
                let block = &buffer[layout.layer_at(l)];
                for (place, out) in layout.of_layer.iter().zip(outs) {
                    place.unpack(dims, block, out);
                }
            });
        };
        let unpack_ends = || {
            layout.embedding().unpack(dims, buffer, embedding);
            for (place, out) in layout.after.iter().zip(last) {
                place.unpack(dims, buffer, out);
            }
        };
        rayon::join(unpack_ends, unpack_layers);
    }

    /// A workspace for sequences of `used` positions: one that an earlier sequence left, or a new
    /// one in its place.
    fn workspace(&self, used: usize, keep: Keep) -> Workspace<T> {
        let kept =
            if keep == Keep::All { self.layout.n_layers } else { self.layout.n_layers.min(2) };
        let fits = |space: &Workspace<T>| space.used == used && space.layers.len() == kept;
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = spaces.iter().position(fits) {
            return spaces.swap_remove(at);
        }
        let other = spaces.pop();
        drop(spaces);
        drop(other);
        Workspace::new(&self.layout, used, kept)
    }

    fn give_back(&self, space: Workspace<T>) {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).push(space);
    }
}

/// Which layers' activations a pass leaves behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Those of all layers, for a backward pass or for passes that begin at some layer.
    All,
    /// None: a deep model takes no more memory than a shallow one.
    Nothing,
}

/// The fused CPU engine, [`Engine`] over [`Model`] in `f32`. Works on the threads of the current
/// rayon pool.
pub struct CpuEngine {
    config: ModelConfig,
    model: Model<f32>,
}

impl CpuEngine {
    /// With the best instruction set that this processor has.
    ///
    /// # Errors
    /// An invalid configuration, or parameters that are not its own.
    pub fn new(config: &ModelConfig, params: &Params) -> Result<Self, Error> {
        Self::on(Arch::new(), config, params)
    }

    /// With the given instruction set. All give the same bits.
    ///
    /// # Errors
    /// An invalid configuration, or parameters that are not its own.
    pub fn on(arch: Arch, config: &ModelConfig, params: &Params) -> Result<Self, Error> {
        let mut engine = Self { config: config.clone(), model: Model::new(config, arch)? };
        engine.set_params(params)?;
        Ok(engine)
    }

    fn check(
        &self,
        tokens: ArrayView2<u32>,
        pos: usize,
        interventions: &[Intervention],
    ) -> Result<(), Error> {
        check_tokens(&self.config, tokens, pos)?;
        Intervention::check_set(interventions, &self.config, tokens.nrows(), pos)
    }

    fn tap<'a>(
        &'a self,
        used: usize,
        example: usize,
        interventions: &'a [Intervention],
    ) -> ExampleTap<'a> {
        let (dims, captured) = (&self.model.layout.dims, BTreeMap::new());
        ExampleTap {
            dims,
            used,
            example,
            interventions,
            captured,
            captures_only: false,
            clean: &[],
        }
    }

    /// The losses of one example under each set, into one row of each of `out`. A pass under a set
    /// begins at the first layer that the set touches, from what the pass without interventions
    /// left.
    fn example_losses(
        &self,
        example: usize,
        row: &[u32],
        sets: &[&[Intervention]],
        out: Vec<ArrayViewMut1<f32>>,
    ) {
        let (model, used) = (&self.model, row.len() - 1);
        let (tokens, targets) = (&row[..used], &row[1..]);
        let frozen = |l| move |i: &Intervention| matches!(i, Intervention::FreezePatterns { layer } if *layer == l);
        let kept: Vec<bool> = (0..model.layout.n_layers)
            .map(|l| sets.iter().any(|set| set.iter().any(frozen(l))))
            .collect();
        let alone = sets.len() == 1 && !kept.contains(&true);
        let mut clean = model.workspace(used, if alone { Keep::Nothing } else { Keep::All });
        if !alone {
            model.layers(&mut clean, tokens, Start::Tokens, false, &mut KeepPatterns(&kept));
        }
        let mut other = None;
        for (set, mut out) in sets.iter().zip(out) {
            let space = if alone {
                model.layers(
                    &mut clean,
                    tokens,
                    Start::Tokens,
                    false,
                    &mut self.tap(used, example, set),
                );
                &mut clean
            } else if set.is_empty() {
                &mut clean
            } else {
                let space = other.get_or_insert_with(|| model.workspace(used, Keep::Nothing));
                // What heads copy is known of the whole pass alone.
                let copies = model.clamp.any_copies();
                let start = if copies { Start::Tokens } else { first_touched(set) };
                take_over(&clean, space, start);
                let mut tap = ExampleTap { clean: &clean.layers, ..self.tap(used, example, set) };
                model.layers(space, tokens, start, false, &mut tap);
                space
            };
            model.losses_of(space, targets);
            out.iter_mut().zip(&space.losses).for_each(|(out, &loss)| *out = loss);
        }
        model.give_back(clean);
        other.into_iter().for_each(|space| model.give_back(space));
    }
}

/// Where a pass under these interventions must begin.
fn first_touched(set: &[Intervention]) -> Start {
    let start = |i: &Intervention| match i.hook() {
        Hook::Embed => Start::Tokens,
        Hook::Q(l) | Hook::K(l) | Hook::V(l) => Start::Input(l),
        Hook::Pattern(l) => Start::Qkv(l),
        Hook::Z(l) | Hook::AttnOut(l) | Hook::MlpOut(l) | Hook::ResidPost(l) => Start::Z(l),
    };
    // Layer by layer, within a layer in the order in which it computes.
    let key = |start: &Start| match *start {
        Start::Tokens => (0, 0),
        Start::Input(l) => (l, 1),
        Start::Qkv(l) => (l, 2),
        Start::Z(l) => (l, 3),
    };
    set.iter().map(start).min_by_key(key).unwrap_or(Start::Tokens)
}

/// Copies what a pass from `start` on reads.
fn take_over(clean: &Workspace<f32>, space: &mut Workspace<f32>, start: Start) {
    let (Start::Input(l) | Start::Qkv(l) | Start::Z(l)) = start else { return };
    let kept = space.layers.len();
    let (from, to) = (&clean.layers[l], &mut space.layers[l % kept]);
    to.input.copy_from_slice(&from.input);
    match start {
        Start::Qkv(_) => {
            to.qkv.copy_from_slice(&from.qkv);
            to.smeared.copy_from_slice(&from.smeared);
        }
        Start::Z(_) => to.z.copy_from_slice(&from.z),
        Start::Tokens | Start::Input(_) => {}
    }
}

impl Engine for CpuEngine {
    fn name(&self) -> &str {
        "cpu"
    }

    fn exactness(&self) -> Exactness {
        Exactness::Exact
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn set_params(&mut self, params: &Params) -> Result<(), Error> {
        params.check(&self.config)?;
        let slices: Vec<&[f32]> = params.iter().map(|(_, value)| slice(value)).collect();
        self.model.set(&slices);
        Ok(())
    }

    fn set_clamps(&mut self, clamps: &Clamps) -> Result<(), Error> {
        let config = ModelConfig { clamp: clamps.clone(), ..self.config.clone() };
        config.validate()?;
        self.model.clamp = clamps.clone();
        self.config = config;
        Ok(())
    }

    fn loss_and_gradients(
        &mut self,
        batch: Batch<'_>,
        gradients: &mut Params,
    ) -> Result<f32, Error> {
        self.config.require_trainable("training")?;
        batch.check(&self.config)?;
        gradients.check(&self.config)?;
        let mut out: Vec<&mut [f32]> = gradients
            .iter_mut()
            .map(|(_, value)| value.as_slice_mut().expect("parameters are in standard layout"))
            .collect();
        Ok(self.model.loss_and_gradients(batch, &mut out) as f32)
    }

    fn losses_under(
        &self,
        examples: ArrayView2<u32>,
        sets: &[&[Intervention]],
    ) -> Result<Vec<Array2<f32>>, Error> {
        let pos = examples.ncols().saturating_sub(1);
        check_tokens(&self.config, examples, pos)?;
        for set in sets {
            self.check(examples, pos, set)?;
        }
        let mut losses = vec![Array2::zeros((examples.nrows(), pos)); sets.len()];
        let examples = examples.as_standard_layout();
        // One row of every set's result is one task's to fill.
        let mut rows: Vec<Vec<ArrayViewMut1<f32>>> =
            (0..examples.nrows()).map(|_| Vec::new()).collect();
        for losses in &mut losses {
            for (rows, row) in rows.iter_mut().zip(losses.rows_mut()) {
                rows.push(row);
            }
        }
        rows.into_par_iter().enumerate().with_max_len(1).for_each(|(example, out)| {
            let row = examples.row(example);
            self.example_losses(example, row.as_slice().expect("standard layout"), sets, out);
        });
        Ok(losses)
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
        let used = tokens.ncols();
        self.check(tokens, used, interventions)?;
        let interventions =
            with_frozen_patterns(interventions, |hooks| self.activations(tokens, hooks, &[]))?;
        let interventions = interventions.as_ref();
        let shape = |hook: Hook| IxDyn(&hook_shape(&self.config, hook, tokens.nrows(), used));
        let mut captured: BTreeMap<Hook, ArrayD<f32>> =
            hooks.iter().map(|&hook| (hook, ArrayD::zeros(shape(hook)))).collect();
        let tap =
            |example| ExampleTap { captures_only: true, ..self.tap(used, example, interventions) };
        let mut taps: Vec<ExampleTap> = (0..tokens.nrows()).map(tap).collect();
        for (&hook, array) in &mut captured {
            for (tap, view) in taps.iter_mut().zip(array.axis_iter_mut(Axis(0))) {
                tap.captured.insert(hook, view);
            }
        }
        let tokens = tokens.as_standard_layout();
        taps.into_par_iter().enumerate().with_max_len(1).for_each(|(example, mut tap)| {
            let mut space = self.model.workspace(used, Keep::Nothing);
            let row = tokens.row(example);
            let row = row.as_slice().expect("standard layout");
            self.model.layers(&mut space, row, Start::Tokens, false, &mut tap);
            self.model.give_back(space);
        });
        Ok(captured)
    }

    fn logits(
        &self,
        tokens: ArrayView2<u32>,
        interventions: &[Intervention],
    ) -> Result<Array3<f32>, Error> {
        let (used, d_vocab) = (tokens.ncols(), self.config.d_vocab);
        self.check(tokens, used, interventions)?;
        let interventions =
            with_frozen_patterns(interventions, |hooks| self.activations(tokens, hooks, &[]))?;
        let interventions = interventions.as_ref();
        let mut logits = Array3::zeros((tokens.nrows(), used, d_vocab));
        let tokens = tokens.as_standard_layout();
        let examples: Vec<_> = logits.outer_iter_mut().enumerate().collect();
        examples.into_par_iter().with_max_len(1).for_each(|(example, mut out)| {
            let model = &self.model;
            let mut space = model.workspace(used, Keep::Nothing);
            let row = tokens.row(example);
            let row = row.as_slice().expect("standard layout");
            let tap: &mut dyn Tap<f32> = &mut self.tap(used, example, interventions);
            model.layers(&mut space, row, Start::Tokens, false, tap);
            let mut block = model.take_logits(&mut space);
            let (rows, clamped) =
                (space.rows, std::mem::replace(&mut space.clamped, Clamped::free()));
            let normal = model.final_norm(&mut space);
            let out = out.as_slice_mut().expect("one example of an array in standard layout");
            for (at, out) in out.chunks_mut(LOGIT_ROWS * d_vocab).enumerate() {
                let from = at * LOGIT_ROWS;
                let to = from + out.len() / d_vocab;
                model.logits_of(normal, rows, from, to, &mut block);
                clamped.add_copies(rows, from, to, d_vocab, &mut block);
                panels::unpack(&block, LOGIT_STRIDE, 0, d_vocab, out);
            }
            (space.logits, space.clamped) = (block, clamped);
            model.give_back(space);
        });
        Ok(logits)
    }
}

fn slice(value: &ArrayD<f32>) -> &[f32] {
    value.as_slice().expect("parameters are in standard layout")
}
