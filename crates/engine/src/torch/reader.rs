//! Models of any architecture on PyTorch's library: their weights stay on the device where they
//! fit, and come a layer at a time where they do not.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use induction_model::{Hook, ModelConfig, Params, ReadParams};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, Slice};
use tch::{Tensor, no_grad_guard};

use super::{
    guarded, join,
    layer::{Block, Frame, Sequences, uploaded},
    state::to_host,
    taps::{Tap, first_layer, is_frozen, upload},
    to_array,
};
use crate::{
    BurnDevice, Engine, Error, Exactness, Intervention, Sight, Watched, check_tokens,
    check_watched, intervention::check_hook, split,
};

/// An [`Engine`] on PyTorch's library that reads and does not train: of any architecture, in
/// float32.
///
/// All that is asked for together passes through a layer together, as rows of few large products:
/// every example, with every set of interventions from the layer on at which it leaves the others.
pub struct TorchReader {
    on: BurnDevice,
    name: String,
    config: ModelConfig,
    weights: Arc<dyn ReadParams>,
    /// Whether a layer that was read stays on the device.
    stays: bool,
    /// How often parts were halved since the device had no memory for them.
    halved: AtomicU32,
    /// libtorch's tensors may move between threads, but not be used by several at once.
    state: Mutex<State>,
}

/// How often parts are halved before a device is said to be full.
const HALVINGS: u32 = 6;

struct State {
    frame: Frame,
    /// Those that are on the device.
    blocks: Vec<Option<Block>>,
    /// `W_U` as rows `[token, d_model]`, in pieces; empty where it is not on the device.
    unembed: Vec<Tensor>,
}

/// Columns of `W_U` that are read at once.
const PIECE: usize = 1 << 15;

/// Examples of one length that stay together.
struct Group {
    tokens: Array2<u32>,
    sequences: Sequences,
}

/// A group on its way through the layers, under one set of interventions.
struct Stream {
    group: usize,
    set: Vec<Intervention>,
    /// The stream whose residual this one takes over at layer `from`; nothing if it begins with the
    /// tokens.
    follows: Option<usize>,
    from: usize,
    /// `[example, pos, d_model]`; nothing before `from`.
    x: Option<Tensor>,
}

impl Stream {
    fn clean(group: usize) -> Self {
        Self { group, set: Vec::new(), follows: None, from: 0, x: None }
    }
}

/// What streams do in one layer, put together along the examples.
struct Together<'a> {
    parts: Vec<Part<'a>>,
    hooks: Vec<Hook>,
    seen: BTreeMap<Hook, Tensor>,
    /// The layer's patterns of groups without interventions, for those that are kept.
    clean: &'a BTreeMap<usize, Tensor>,
}

struct Part<'a> {
    first: i64,
    examples: i64,
    group: usize,
    set: &'a [Intervention],
}

impl Tap for Together<'_> {
    fn wants(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook)
            || self.parts.iter().flat_map(|part| part.set).any(|i| i.hook() == hook)
    }

    fn at(&mut self, hook: Hook, value: Tensor) -> Tensor {
        for part in &self.parts {
            let mut here = value.narrow(0, part.first, part.examples);
            let device = here.device();
            let up = |shape: &[usize], row: Vec<f32>| {
                let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
                upload(&row, device).view(shape.as_slice())
            };
            // Any other pattern of the set wins over one that is kept.
            let (kept, others): (Vec<_>, Vec<_>) =
                part.set.iter().filter(|i| i.hook() == hook).partition(|i| is_frozen(i));
            for intervention in kept.into_iter().chain(others) {
                match intervention {
                    Intervention::Replace { value, .. } => {
                        let new = up(value.shape(), value.iter().copied().collect());
                        here.copy_(&new);
                    }
                    Intervention::FreezePatterns { .. } => here.copy_(&self.clean[&part.group]),
                    // z and a head's vectors are [example, pos, head, d_head], a pattern [example,
                    // head, query, key].
                    Intervention::ReplaceHead { head, value, .. } => {
                        let new = up(value.shape(), value.iter().copied().collect()).unsqueeze(2);
                        here.narrow(2, *head as i64, 1).copy_(&new);
                    }
                    Intervention::ZeroHead { head, .. } => {
                        let _ = here.narrow(2, *head as i64, 1).zero_();
                    }
                    Intervention::ForcePattern { head, pattern, .. } => {
                        let new =
                            up(pattern.shape(), pattern.iter().copied().collect()).unsqueeze(1);
                        here.narrow(1, *head as i64, 1).copy_(&new);
                    }
                }
            }
        }
        if self.hooks.contains(&hook) {
            self.seen.insert(hook, value.copy());
        }
        value
    }
}

/// Which hooks of a layer are wanted of a stream.
type Hooks<'a> = dyn Fn(usize, &Stream) -> Vec<Hook> + 'a;

/// What is done with a stream's activations: its number, the hook, `[example, ...]`.
type See<'a> = dyn FnMut(usize, Hook, Tensor) + 'a;

impl TorchReader {
    /// On the CPU or a GPU of PyTorch's library. Weights are kept on the device if its free memory
    /// holds them.
    ///
    /// # Errors
    /// A device that is not PyTorch's or that this machine does not have, an invalid configuration,
    /// or what is wrong with the weights that are read at once.
    pub fn on(
        on: BurnDevice,
        config: &ModelConfig,
        weights: Arc<dyn ReadParams>,
    ) -> Result<Self, Error> {
        let device = on.open_torch()?;
        config.validate()?;
        let frame = guarded(on, || Frame::read(config, weights.as_ref(), device))?;
        let blocks = (0..config.n_layers).map(|_| None).collect();
        let needed = 4 * config.n_params() as u64;
        // Beside the weights there is what passes through them.
        let stays = on.free_bytes().is_none_or(|free| needed + needed / 8 + (1 << 30) < free);
        Ok(Self {
            on,
            name: on.to_string(),
            config: config.clone(),
            weights,
            stays,
            halved: AtomicU32::new(0),
            state: Mutex::new(State { frame, blocks, unembed: Vec::new() }),
        })
    }

    /// The same engine, its weights kept on the device or read anew for each call.
    pub fn keeping_weights(self, stays: bool) -> Self {
        Self { stays, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Examples of `pos` tokens that pass a layer at once, if it writes patterns down or does not.
    fn at_once(&self, pos: usize, patterns: bool) -> usize {
        let ModelConfig { n_heads, d_model, d_mlp, .. } = self.config;
        let each = pos * (8 * d_model + 2 * d_mlp).max(if patterns { n_heads * pos } else { 0 });
        (self.numbers_at_once() / each).max(1)
    }

    /// Numbers that what passes a layer at once may fill.
    fn numbers_at_once(&self) -> usize {
        self.on.numbers_at_once() >> self.halved.load(Ordering::Relaxed)
    }

    /// Does `work` where PyTorch records no way back; again in smaller parts, where the device has no
    /// memory for these and `again` says that it may be.
    fn in_parts<T>(
        &self,
        again: impl Fn() -> bool,
        mut work: impl FnMut(&mut State) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let result = guarded(self.on, || {
                let _no_grad = no_grad_guard();
                work(&mut self.state())
            });
            let is_full =
                |error: &Error| matches!(error, Error::Device(said) if said.contains("memory"));
            if !(result.as_ref().is_err_and(is_full) && again())
                || self.halved.fetch_add(1, Ordering::Relaxed) >= HALVINGS
            {
                return result;
            }
        }
    }

    fn groups(&self, state: &State, tokens: ArrayView2<u32>, at_once: usize) -> Vec<Group> {
        let starts = (0..tokens.nrows()).step_by(at_once);
        let of = |from: usize| {
            let to = (from + at_once).min(tokens.nrows());
            let tokens = tokens.slice_axis(Axis(0), Slice::from(from..to)).to_owned();
            Group { sequences: state.frame.sequences(tokens.view()), tokens }
        };
        starts.map(of).collect()
    }

    /// The residual streams below the first layer, of those that begin with their tokens.
    fn begin(
        &self,
        state: &State,
        groups: &[Group],
        streams: &mut [Stream],
        hooks: &Hooks<'_>,
        see: &mut See<'_>,
    ) -> Result<(), Error> {
        let mut all: Vec<u32> = groups.iter().flat_map(|g| g.tokens.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        let table = self.weights.embedding_of(&all)?;
        let table = uploaded(&table.into_dyn(), state.frame.device);
        let none = BTreeMap::new();
        for (k, stream) in streams.iter_mut().enumerate().filter(|(_, s)| s.follows.is_none()) {
            let Group { tokens, sequences } = &groups[stream.group];
            let place = |id: &u32| all.binary_search(id).expect("every token was read") as i64;
            let ids: Vec<i64> = tokens.iter().map(place).collect();
            let ids = Tensor::from_slice(&ids).to_device(state.frame.device);
            let shape = [sequences.batch, sequences.pos, -1];
            let embedded = table.index_select(0, &ids).view(shape);
            let wanted = hooks(usize::MAX, stream);
            let part =
                Part { first: 0, examples: sequences.batch, group: stream.group, set: &stream.set };
            let (parts, seen) = (vec![part], BTreeMap::new());
            let mut taps = Together { parts, hooks: wanted, seen, clean: &none };
            let x = state.frame.begin(embedded, sequences.pos, &mut taps);
            taps.seen.into_iter().for_each(|(hook, value)| see(k, hook, value));
            stream.x = Some(x);
        }
        Ok(())
    }

    /// All streams through the first `layers` layers. Those that others follow come before these.
    fn sweep(
        &self,
        state: &mut State,
        groups: &[Group],
        streams: &mut [Stream],
        layers: usize,
        hooks: &Hooks<'_>,
        see: &mut See<'_>,
    ) -> Result<(), Error> {
        for l in 0..layers {
            let block = match state.blocks[l].take() {
                Some(block) => block,
                None => Block::read(&self.config, self.weights.as_ref(), l, state.frame.device)?,
            };
            for k in 0..streams.len() {
                if let Some(clean) = streams[k].follows.filter(|_| streams[k].from == l) {
                    streams[k].x = streams[clean].x.as_ref().map(Tensor::copy);
                }
            }
            let keeps = |stream: &Stream| {
                stream.x.is_some()
                    && stream.set.iter().any(|i| is_frozen(i) && i.hook() == Hook::Pattern(l))
            };
            let kept: Vec<usize> = streams.iter().filter(|s| keeps(s)).map(|s| s.group).collect();
            let mut clean = BTreeMap::new();
            let mut from = 0;
            while from < streams.len() {
                if streams[from].x.is_none() {
                    from += 1;
                    continue;
                }
                // As many of the next ones as may pass together.
                let wants = |stream: &Stream| {
                    let mut wanted = hooks(l, stream);
                    let is_kept = stream.set.is_empty() && kept.contains(&stream.group);
                    if is_kept && !wanted.contains(&Hook::Pattern(l)) {
                        wanted.push(Hook::Pattern(l));
                    }
                    wanted
                };
                let (wanted, pos) =
                    (wants(&streams[from]), groups[streams[from].group].sequences.pos);
                let patterns = |stream: &Stream| {
                    let mut all = stream.set.iter().map(Intervention::hook).chain(wants(stream));
                    all.any(|hook| hook == Hook::Pattern(l))
                };
                let with_patterns = patterns(&streams[from]);
                // One that is given a clean pattern waits until the clean one has passed.
                let is_given = keeps(&streams[from]);
                let at_once = self.at_once(pos as usize, with_patterns) as i64;
                let (mut to, mut examples) = (from, 0);
                while let Some(stream) = streams.get(to) {
                    let of = &groups[stream.group].sequences;
                    let fits = to == from || examples + of.batch <= at_once;
                    let alike = of.pos == pos
                        && stream.x.is_some()
                        && wants(stream) == wanted
                        && patterns(stream) == with_patterns
                        && keeps(stream) == is_given;
                    if !(fits && alike) {
                        break;
                    }
                    (to, examples) = (to + 1, examples + of.batch);
                }
                let mut first = 0;
                let parts: Vec<Part<'_>> = streams[from..to]
                    .iter()
                    .map(|stream| {
                        let examples = groups[stream.group].sequences.batch;
                        first += examples;
                        let (group, set) = (stream.group, &stream.set[..]);
                        Part { first: first - examples, examples, group, set }
                    })
                    .collect();
                let xs: Vec<&Tensor> = streams[from..to].iter().flat_map(|s| &s.x).collect();
                let x = if let [x] = xs[..] { x.shallow_clone() } else { Tensor::cat(&xs, 0) };
                let allowed: Option<Vec<&Tensor>> = parts
                    .iter()
                    .map(|part| groups[part.group].sequences.allowed.as_ref())
                    .collect();
                let allowed = allowed.map(|allowed| Tensor::cat(&allowed, 0));
                let of = Sequences { batch: examples, pos, allowed };
                let mut taps =
                    Together { parts, hooks: wanted, seen: BTreeMap::new(), clean: &clean };
                let out = state.frame.layer(l, &block, &x, &of, &mut taps);
                let Together { parts, seen, .. } = taps;
                let mut patterns = Vec::new();
                let mut outs = Vec::new();
                for (k, part) in (from..to).zip(&parts) {
                    for (hook, value) in &seen {
                        let value = value.narrow(0, part.first, part.examples);
                        if *hook == Hook::Pattern(l)
                            && part.set.is_empty()
                            && kept.contains(&part.group)
                        {
                            patterns.push((part.group, value.shallow_clone()));
                        }
                        if hooks(l, &streams[k]).contains(hook) {
                            see(k, *hook, value);
                        }
                    }
                    outs.push(out.narrow(0, part.first, part.examples));
                }
                drop(parts);
                clean.extend(patterns);
                for (stream, out) in streams[from..to].iter_mut().zip(outs) {
                    stream.x = Some(out);
                }
                from = to;
            }
            if self.stays {
                state.blocks[l] = Some(block);
            }
        }
        Ok(())
    }

    /// `W_U` as rows, in pieces.
    fn unembed(&self, state: &mut State) -> Result<Vec<Tensor>, Error> {
        if state.unembed.is_empty() {
            let pieces = (0..self.config.d_vocab).step_by(PIECE).map(|from| {
                let rows = from..(from + PIECE).min(self.config.d_vocab);
                let rows = self.weights.unembedding_of(rows)?;
                Ok(uploaded(&rows.into_dyn(), state.frame.device))
            });
            state.unembed = pieces.collect::<Result<_, Error>>()?;
        }
        let pieces = state.unembed.iter().map(Tensor::shallow_clone).collect();
        if !self.stays {
            state.unembed.clear();
        }
        Ok(pieces)
    }

    /// Logits of rows `[row, d_model]`.
    fn logits_of(state: &State, unembed: &[Tensor], rows: &Tensor) -> Tensor {
        let parts: Vec<Tensor> =
            unembed.iter().map(|piece| rows.matmul(&piece.transpose(0, 1))).collect();
        state.frame.finish(Tensor::cat(&parts, 1))
    }

    /// The loss of each row, in nats; logits in parts.
    fn losses_of(&self, state: &State, unembed: &[Tensor], x: &Tensor, targets: &Tensor) -> Tensor {
        let h = state.frame.final_norm(x).flatten(0, 1);
        let at_once = (self.numbers_at_once() / 2 / self.config.d_vocab).max(1) as i64;
        let rows = h.size()[0];
        let parts = (0..rows).step_by(at_once as usize).map(|from| {
            let part = |x: &Tensor| x.narrow(0, from, at_once.min(rows - from));
            -Self::logits_of(state, unembed, &part(&h))
                .log_softmax(1, None)
                .gather(1, &part(targets), false)
                .squeeze_dim(1)
        });
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    }

    /// Checks, and does `work`.
    fn run<T>(
        &self,
        tokens: ArrayView2<u32>,
        pos: usize,
        sets: &[&[Intervention]],
        work: impl FnMut(&mut State) -> Result<T, Error>,
    ) -> Result<T, Error> {
        check_tokens(&self.config, tokens, pos)?;
        for intervention in sets.iter().copied().flatten() {
            intervention.check(&self.config, tokens.nrows(), pos)?;
        }
        self.in_parts(|| true, work)
    }

    /// The streams of `groups` under one set, and those without it that they need.
    fn under_one(groups: &[Group], set: &[Intervention]) -> Vec<Stream> {
        let mut streams = Vec::new();
        if set.iter().any(is_frozen) {
            streams.extend((0..groups.len()).map(Stream::clean));
        }
        streams.extend(
            parts_of(groups, set).map(|(group, set)| Stream { set, ..Stream::clean(group) }),
        );
        streams
    }
}

/// Of each group, its part of a set.
fn parts_of<'a>(
    groups: &'a [Group],
    set: &'a [Intervention],
) -> impl Iterator<Item = (usize, Vec<Intervention>)> + 'a {
    let mut from = 0;
    groups.iter().enumerate().map(move |(k, group)| {
        let to = from + group.tokens.nrows();
        let part = set.iter().map(|i| i.for_examples(from, to)).collect();
        from = to;
        (k, part)
    })
}

/// The layer after which nobody looks any more, counted from 1.
fn layers_for(hooks: &[Hook]) -> usize {
    hooks.iter().map(|hook| hook.layer().map_or(0, |l| l + 1)).max().unwrap_or(0)
}

/// Those of `hooks` that are in a layer; of no layer, at the embedding.
fn in_layer(hooks: &[Hook], layer: usize) -> Vec<Hook> {
    let here = |hook: &&Hook| hook.layer() == Some(layer) && **hook != Hook::Embed;
    match layer {
        usize::MAX => hooks.iter().filter(|hook| **hook == Hook::Embed).copied().collect(),
        _ => hooks.iter().filter(here).copied().collect(),
    }
}

impl Engine for TorchReader {
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
        let weights = Arc::new(params.clone());
        let device = self.state().frame.device;
        let frame = guarded(self.on, || {
            let _no_grad = no_grad_guard();
            Frame::read(&self.config, weights.as_ref(), device)
        })?;
        self.weights = weights;
        let blocks = (0..self.config.n_layers).map(|_| None).collect();
        *self.state() = State { frame, blocks, unembed: Vec::new() };
        Ok(())
    }

    fn loss_and_gradients(&mut self, _: ArrayView2<u32>, _: &mut Params) -> Result<f32, Error> {
        Err(induction_model::Error::NotTheFamily { what: "training" }.into())
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
            // Streams that are there together, some hundred megabytes on a CPU.
            let stream = examples.nrows() * pos * self.config.d_model;
            let at_once = (8 * self.numbers_at_once() / stream.max(1)).max(1);
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
                    let first = set.iter().map(|i| first_layer(i.hook())).min().flatten();
                    streams.extend(parts_of(&groups, set).map(|(group, set)| Stream {
                        group,
                        set,
                        follows: first.map(|_| group),
                        from: first.unwrap_or(0),
                        x: None,
                    }));
                }
                let layers = self.config.n_layers;
                self.begin(state, &groups, &mut streams, &|_, _| Vec::new(), &mut |_, _, _| {})?;
                self.sweep(
                    state,
                    &groups,
                    &mut streams,
                    layers,
                    &|_, _| Vec::new(),
                    &mut |_, _, _| {},
                )?;
                let unembed = self.unembed(state)?;
                for place in places {
                    let mut of_set = Vec::new();
                    let mut from = 0;
                    for (stream, group) in streams[place..].iter().zip(&groups) {
                        let to = from + group.tokens.nrows();
                        let targets = targets.slice_axis(Axis(0), Slice::from(from..to));
                        let ids: Vec<i64> = targets.iter().map(|&id| i64::from(id)).collect();
                        let ids =
                            Tensor::from_slice(&ids).to_device(state.frame.device).unsqueeze(1);
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
            let wanted = |layer: usize, stream: &Stream| {
                // Those without interventions are there for their patterns alone.
                let only_kept = stream.set.is_empty() && first > 0;
                if only_kept { Vec::new() } else { in_layer(hooks, layer) }
            };
            let mut see = |_: usize, hook: Hook, value: Tensor| {
                seen.entry(hook).or_default().push(to_array(&value));
            };
            self.begin(state, &groups, &mut streams, &wanted, &mut see)?;
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
                self.begin(state, &groups, &mut streams, &|_, _| Vec::new(), &mut |_, _, _| {})?;
                let wanted = |layer: usize, stream: &Stream| {
                    let (batch, _) = places[stream.group];
                    batches[batch].hooks.iter().map(|hook| hook(layer)).collect()
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
                        let seen = hooks.iter().map(|hook| found[hook].view()).collect();
                        is_shown.set(true);
                        see(Sight { batch, first, layer, seen });
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
            let layers = self.config.n_layers;
            self.begin(state, &groups, &mut streams, &|_, _| Vec::new(), &mut |_, _, _| {})?;
            self.sweep(
                state,
                &groups,
                &mut streams,
                layers,
                &|_, _| Vec::new(),
                &mut |_, _, _| {},
            )?;
            let unembed = self.unembed(state)?;
            let parts: Vec<ArrayD<f32>> = streams[first..]
                .iter()
                .map(|stream| {
                    let x = stream.x.as_ref().expect("every stream has come through");
                    let h = state.frame.final_norm(x);
                    let of = &groups[stream.group].sequences;
                    let logits = Self::logits_of(state, &unembed, &h.flatten(0, 1));
                    to_array(&logits.view([of.batch, of.pos, -1]))
                })
                .collect();
            let whole = join(&parts.iter().map(|part| part.view()).collect::<Vec<_>>());
            Ok(whole.into_dimensionality().expect("logits have three axes"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_gets_smaller_parts_and_then_a_sentence() {
        let config = ModelConfig {
            d_model: 8,
            n_heads: 2,
            d_head: 4,
            n_ctx: 5,
            d_vocab: 7,
            ..ModelConfig::default()
        };
        let params = Arc::new(config.init_params(0).unwrap());
        let reader = || TorchReader::on(BurnDevice::Libtorch, &config, params.clone()).unwrap();
        // More than any machine has, until parts are an eighth.
        let work = |reader: &TorchReader, enough: u32| {
            let halved = reader.halved.load(Ordering::Relaxed);
            if halved < enough {
                drop(Tensor::zeros([1 << 50], (tch::Kind::Float, tch::Device::Cpu)));
            }
            Ok(halved)
        };
        let full = reader();
        assert_eq!(full.in_parts(|| true, |_| work(&full, 3)).unwrap(), 3);
        assert_eq!(full.numbers_at_once(), BurnDevice::Libtorch.numbers_at_once() / 8);
        let never = reader();
        let error = never.in_parts(|| true, |_| work(&never, u32::MAX)).unwrap_err().to_string();
        assert!(error.starts_with("device libtorch: ") && error.contains("memory"), "{error}");
        assert!(!error.contains('\n'), "{error}");
        // What cannot be done again is not.
        let once = reader();
        assert!(once.in_parts(|| false, |_| work(&once, 1)).is_err());
        assert_eq!(once.halved.load(Ordering::Relaxed), 0);
    }
}
