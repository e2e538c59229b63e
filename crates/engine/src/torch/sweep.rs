//! Many passes at once: every example, under every set of interventions from the layer on at which
//! it leaves the others, goes through a layer as rows of few large products.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use induction_model::{Hook, ModelConfig};
use ndarray::{Array2, ArrayView2, Axis, Slice};
use tch::{Tensor, no_grad_guard};

use super::{
    TorchEngine, guarded,
    layer::{Sequences, uploaded},
    state::State,
    taps::{Tap, is_frozen, upload},
};
use crate::{Error, Intervention, check_tokens, intervention::allowed};

/// Rows that a layer's products should have, if there are so many.
const ROWS: usize = 512;

/// How often parts are halved before a device is said to be full.
const HALVINGS: u32 = 6;

/// Examples of one length that stay together.
pub(super) struct Group {
    pub(super) tokens: Array2<u32>,
    pub(super) sequences: Sequences,
}

/// A group on its way through the layers, under one set of interventions.
pub(super) struct Stream {
    pub(super) group: usize,
    pub(super) set: Vec<Intervention>,
    /// The stream whose residual this one takes over at layer `from`; nothing if it begins with the
    /// tokens.
    pub(super) follows: Option<usize>,
    pub(super) from: usize,
    /// `[example, pos, d_model]`; nothing before `from`.
    pub(super) x: Option<Tensor>,
}

impl Stream {
    pub(super) fn clean(group: usize) -> Self {
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
                    Intervention::ReplaceHead { head, from, value, .. } => {
                        let new = up(value.shape(), value.iter().copied().collect()).unsqueeze(2);
                        let positions = here.narrow(1, *from as i64, new.size()[1]);
                        positions.narrow(2, *head as i64, 1).copy_(&new);
                    }
                    Intervention::ZeroHead { head, .. } => {
                        let _ = here.narrow(2, *head as i64, 1).zero_();
                    }
                    Intervention::ForbidKeys { head, keys, .. } => {
                        let mut of_head = here.narrow(1, *head as i64, 1);
                        let allowed = allowed(keys, of_head.size()[2] as usize);
                        let allowed = up(allowed.shape(), allowed.iter().copied().collect());
                        let left = &of_head * allowed.unsqueeze(1);
                        // Of a row of which nothing is left, nothing.
                        let sum = left.sum_dim_intlist(&[3i64][..], true, None);
                        of_head.copy_(&(left / sum.clamp_min(f64::from(f32::MIN_POSITIVE))));
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
            // Nothing changes it after this in place.
            self.seen.insert(hook, value.shallow_clone());
        }
        value
    }
}

/// Which hooks of a layer, or of no layer, are wanted of a stream.
pub(super) type Hooks<'a> = dyn Fn(Option<usize>, &Stream) -> Vec<Hook> + 'a;

/// What is done with a stream's activations: its number, the hook, `[example, ...]`.
pub(super) type See<'a> = dyn FnMut(usize, Hook, Tensor) + 'a;

/// A layer that streams pass.
struct Here<'a> {
    l: usize,
    hooks: &'a Hooks<'a>,
    /// Groups whose clean pattern another stream is given.
    kept: Vec<usize>,
}

impl Here<'_> {
    fn is_kept(&self, stream: &Stream) -> bool {
        stream.set.is_empty() && self.kept.contains(&stream.group)
    }

    fn wants(&self, stream: &Stream) -> Vec<Hook> {
        let mut wanted = (self.hooks)(Some(self.l), stream);
        if self.is_kept(stream) && !wanted.contains(&Hook::Pattern(self.l)) {
            wanted.push(Hook::Pattern(self.l));
        }
        wanted
    }

    fn writes_patterns(&self, stream: &Stream) -> bool {
        let mut all = stream.set.iter().map(Intervention::hook).chain(self.wants(stream));
        all.any(|hook| hook == Hook::Pattern(self.l))
    }
}

/// Whether a stream is given the pattern that its group has without interventions.
fn keeps(stream: &Stream, l: usize) -> bool {
    stream.x.is_some() && stream.set.iter().any(|i| is_frozen(i) && i.hook() == Hook::Pattern(l))
}

/// The streams' residuals along one axis of examples.
fn joined<'a>(groups: &'a [Group], streams: &'a [Stream]) -> (Tensor, Sequences, Vec<Part<'a>>) {
    let mut examples = 0;
    let of = |stream: &'a Stream| {
        let (first, group) = (examples, stream.group);
        examples += groups[group].sequences.batch;
        Part { first, examples: examples - first, group, set: &stream.set }
    };
    let parts: Vec<Part<'_>> = streams.iter().map(of).collect();
    let xs: Vec<&Tensor> = streams.iter().flat_map(|stream| &stream.x).collect();
    let x = if let [x] = xs[..] { x.shallow_clone() } else { Tensor::cat(&xs, 0) };
    let sequences = |stream: &Stream| &groups[stream.group].sequences;
    // Of all or of none: it is the model's clamps that decide.
    let together = |of: &dyn Fn(&'a Sequences) -> Option<&'a Tensor>| {
        let all: Option<Vec<&Tensor>> = streams.iter().map(|s| of(sequences(s))).collect();
        all.map(|all| match all[..] {
            [one] => one.shallow_clone(),
            _ => Tensor::cat(&all, 0),
        })
    };
    let allowed = together(&|of| of.allowed.as_ref());
    let sources = [0, 1].map(|given| together(&|of| of.sources[given].as_ref()));
    let pos = streams.first().map_or(0, |stream| sequences(stream).pos);
    (x, Sequences { batch: examples, pos, allowed, sources }, parts)
}

impl TorchEngine {
    /// Examples of `pos` tokens that pass a layer at once, if it writes patterns down or does not.
    pub(super) fn at_once(&self, pos: usize, patterns: bool) -> usize {
        let ModelConfig { n_heads, d_model, d_mlp, .. } = self.config;
        let each = pos * (8 * d_model + 2 * d_mlp).max(if patterns { n_heads * pos } else { 0 });
        // Few rows would be no work beside that of fetching the weights.
        (self.numbers_at_once() / each).max((ROWS >> self.halvings()) / pos.max(1)).max(1)
    }

    /// Rows whose logits are written down at once.
    pub(super) fn logits_at_once(&self) -> i64 {
        let fit = self.numbers_at_once() / 2 / self.config.d_vocab;
        fit.max((ROWS / 2) >> self.halvings()).max(1) as i64
    }

    /// Numbers that what passes a layer at once may fill.
    pub(super) fn numbers_at_once(&self) -> usize {
        self.on.numbers_at_once() >> self.halvings()
    }

    /// Numbers that streams which are there together may fill: half a gigabyte on a CPU, eight on a
    /// GPU.
    pub(super) fn numbers_of_streams(&self) -> usize {
        (if self.on.is_gpu() { 1 << 31 } else { 1 << 27 }) >> self.halvings()
    }

    fn halvings(&self) -> u32 {
        self.halved.load(Ordering::Relaxed)
    }

    /// Does `work` where PyTorch records no way back; again in smaller parts, where the device has no
    /// memory for these and `again` says that it may be.
    pub(super) fn in_parts<T>(
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

    /// Examples of one length, in groups that pass a layer at once.
    pub(super) fn groups(
        &self,
        state: &State,
        tokens: ArrayView2<u32>,
        at_once: usize,
    ) -> Vec<Group> {
        let starts = (0..tokens.nrows()).step_by(at_once);
        let of = |from: usize| {
            let to = (from + at_once).min(tokens.nrows());
            let tokens = tokens.slice_axis(Axis(0), Slice::from(from..to)).to_owned();
            Group { sequences: state.frame.sequences(tokens.view()), tokens }
        };
        starts.map(of).collect()
    }

    /// All streams through all layers, and nobody looks.
    pub(super) fn pass(
        &self,
        state: &mut State,
        groups: &[Group],
        streams: &mut [Stream],
    ) -> Result<(), Error> {
        self.sweep(
            state,
            groups,
            streams,
            self.config.n_layers,
            &|_, _| Vec::new(),
            &mut |_, _, _| {},
        )
    }

    /// All streams through the first `layers` layers. Those that others follow come before these.
    pub(super) fn sweep(
        &self,
        state: &mut State,
        groups: &[Group],
        streams: &mut [Stream],
        layers: usize,
        hooks: &Hooks<'_>,
        see: &mut See<'_>,
    ) -> Result<(), Error> {
        self.begin(state, groups, streams, hooks, see)?;
        for l in 0..layers {
            let block = self.block(state, l)?;
            for k in 0..streams.len() {
                if let Some(clean) = streams[k].follows.filter(|_| streams[k].from == l) {
                    streams[k].x = streams[clean].x.as_ref().map(Tensor::copy);
                }
            }
            let kept = streams
                .iter()
                .filter(|stream| keeps(stream, l))
                .map(|stream| stream.group)
                .collect();
            let here = Here { l, hooks, kept };
            let mut clean = BTreeMap::new();
            let mut from = 0;
            while from < streams.len() {
                if streams[from].x.is_none() {
                    from += 1;
                    continue;
                }
                let to = self.together(&here, groups, streams, from);
                let (x, of, parts) = joined(groups, &streams[from..to]);
                let wanted = here.wants(&streams[from]);
                let mut taps =
                    Together { parts, hooks: wanted, seen: BTreeMap::new(), clean: &clean };
                let out = state.frame.layer(l, &block, &x, &of, &mut taps);
                let Together { parts, seen, .. } = taps;
                let (mut patterns, mut outs) = (Vec::new(), Vec::new());
                for (k, part) in (from..to).zip(&parts) {
                    for (&hook, value) in &seen {
                        let value = value.narrow(0, part.first, part.examples);
                        if hook == Hook::Pattern(l) && here.is_kept(&streams[k]) {
                            patterns.push((part.group, value.shallow_clone()));
                        }
                        if hooks(Some(l), &streams[k]).contains(&hook) {
                            see(k, hook, value);
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
        }
        Ok(())
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
        // Rows of the embedding: all of them where they are on the device, otherwise those that
        // occur.
        let mut occur: Vec<u32> = Vec::new();
        let read;
        let table = match &state.embed {
            Some(table) => table,
            None => {
                occur.extend(groups.iter().flat_map(|group| &group.tokens));
                occur.sort_unstable();
                occur.dedup();
                read = uploaded(&self.embedding_of(&occur)?, state.frame.device);
                &read
            }
        };
        let row = |&id: &u32| match state.embed {
            Some(_) => i64::from(id),
            None => occur.binary_search(&id).expect("every token was read") as i64,
        };
        let none = BTreeMap::new();
        for (k, stream) in streams.iter_mut().enumerate().filter(|(_, s)| s.follows.is_none()) {
            let Group { tokens, sequences } = &groups[stream.group];
            let ids: Vec<i64> = tokens.iter().map(row).collect();
            let ids = Tensor::from_slice(&ids).to_device(state.frame.device);
            let shape = [sequences.batch, sequences.pos, -1];
            let embedded = table.index_select(0, &ids).view(shape);
            let part =
                Part { first: 0, examples: sequences.batch, group: stream.group, set: &stream.set };
            let (hooks, seen) = (hooks(None, stream), BTreeMap::new());
            let mut taps = Together { parts: vec![part], hooks, seen, clean: &none };
            let x = state.frame.begin(embedded, sequences.pos, &mut taps);
            taps.seen.into_iter().for_each(|(hook, value)| see(k, hook, value));
            stream.x = Some(x);
        }
        Ok(())
    }

    /// The end of the streams that pass a layer with the one at `from`: as many of the next ones as
    /// may.
    fn together(
        &self,
        here: &Here<'_>,
        groups: &[Group],
        streams: &[Stream],
        from: usize,
    ) -> usize {
        let first = &streams[from];
        let (wanted, patterns) = (here.wants(first), here.writes_patterns(first));
        let pos = groups[first.group].sequences.pos;
        let at_once = self.at_once(pos as usize, patterns) as i64;
        let mut examples = groups[first.group].sequences.batch;
        let joins = |stream: &&Stream| {
            let of = &groups[stream.group].sequences;
            examples += of.batch;
            examples <= at_once
                && of.pos == pos
                && stream.x.is_some()
                && here.wants(stream) == wanted
                && here.writes_patterns(stream) == patterns
                // One that is given a clean pattern waits until the clean one has passed.
                && keeps(stream, here.l) == keeps(first, here.l)
        };
        from + 1 + streams[from + 1..].iter().take_while(joins).count()
    }

    /// The streams' losses in nats, `[example, pos]` of each one's group, in a row; logits in parts.
    pub(super) fn losses_of(
        &self,
        state: &State,
        unembed: &[Tensor],
        x: &Tensor,
        targets: &Tensor,
    ) -> Tensor {
        let h = state.frame.final_norm(&state.after, x).flatten(0, 1);
        let (rows, at_once) = (h.size()[0], self.logits_at_once());
        let parts = (0..rows).step_by(at_once as usize).map(|from| {
            let part = |x: &Tensor| x.narrow(0, from, at_once.min(rows - from));
            -state
                .logits_of(unembed, &part(&h))
                .log_softmax(1, None)
                .gather(1, &part(targets), false)
                .squeeze_dim(1)
        });
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    }

    /// Checks, and does `work`.
    pub(super) fn run<T>(
        &self,
        tokens: ArrayView2<u32>,
        pos: usize,
        sets: &[&[Intervention]],
        work: impl FnMut(&mut State) -> Result<T, Error>,
    ) -> Result<T, Error> {
        check_tokens(&self.config, tokens, pos)?;
        for set in sets {
            Intervention::check_set(set, &self.config, tokens.nrows(), pos)?;
        }
        self.in_parts(|| true, work)
    }

    /// The streams of `groups` under one set, and those without it that they need.
    pub(super) fn under_one(groups: &[Group], set: &[Intervention]) -> Vec<Stream> {
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
pub(super) fn parts_of<'a>(
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

/// Those of `hooks` that are in a layer, or in none.
pub(super) fn in_layer(hooks: &[Hook], layer: Option<usize>) -> Vec<Hook> {
    hooks.iter().filter(|hook| hook.layer() == layer).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::BurnDevice;

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
        let reader =
            || TorchEngine::reading(BurnDevice::Libtorch, false, &config, params.clone()).unwrap();
        // More than any machine has, until parts are an eighth.
        let work = |reader: &TorchEngine, enough: u32| {
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
