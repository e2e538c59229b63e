//! Passes that differ from one without interventions at their last positions alone: only those
//! positions are computed, and attend to the keys and values of the other pass before them.
//!
//! All tails of one sequence pass a layer together, as rows of the same products: one patch of one
//! head at one position is a row, where the pass that it belongs to is a hundred.

use std::{collections::BTreeMap, ops::Range};

use induction_kernels::{Left, Out, PANEL, matmul, panels};
use induction_model::{Hook, ModelConfig, Positions};
use ndarray::{ArrayD, ArrayView3, Axis, Ix4};

use super::{
    Keep, Model,
    forward::{NoTap, Sizes, Start},
    tap::write_head,
    workspace::{Layer, stored_rows},
};
use crate::Intervention;

/// One set of interventions on one sequence.
pub(super) struct Tail<'a> {
    /// The number of the set.
    pub(super) set: usize,
    interventions: &'a [Intervention],
    /// The first layer that they touch, and the first position.
    layer: usize,
    from: usize,
    /// Its first row among those of all tails.
    first: usize,
}

/// All tails of one sequence.
pub(super) struct Tails<'a> {
    /// The sequence's place in the interventions' arrays.
    example: usize,
    /// Its positions.
    used: usize,
    /// Those that begin in lower layers first.
    pub(super) tails: Vec<Tail<'a>>,
    /// The residual stream of all their positions, `[row, d_model]` in panels of `rows` rows.
    pub(super) residual: Vec<f32>,
    pub(super) rows: usize,
    /// Rows of all tails.
    pub(super) all: usize,
}

/// Where a set's tail begins: layer and position. Nothing if the set is not to be taken so: it
/// touches something else than heads' queries, keys, values and results, or half of the positions
/// or more; or the model is of the paper's family, whose queries and keys know their positions, and
/// others' keys, otherwise. (Such models are small.)
pub(super) fn begins(
    config: &ModelConfig,
    set: &[Intervention],
    used: usize,
) -> Option<(usize, usize)> {
    let placed =
        matches!(config.architecture.positions, Positions::Sinusoidal | Positions::Shortformer);
    if set.is_empty() || config.smeared_keys || config.clamp.is_some() || placed {
        return None;
    }
    let begin = |i: &Intervention| match i {
        Intervention::ReplaceHead { hook, from, .. } => Some((hook.layer()?, *from)),
        _ => None,
    };
    let begins: Vec<(usize, usize)> = set.iter().map(begin).collect::<Option<_>>()?;
    let layer = begins.iter().map(|&(layer, _)| layer).min()?;
    let from = begins.iter().map(|&(_, from)| from).min()?;
    (2 * from > used).then_some((layer, from))
}

impl<'a> Tails<'a> {
    /// Of the sets `(number, interventions, (layer, position))` on an example of `used` positions.
    pub(super) fn new(
        config: &ModelConfig,
        example: usize,
        used: usize,
        sets: &[(usize, &'a [Intervention], (usize, usize))],
    ) -> Self {
        let tail = |&(set, interventions, (layer, from))| Tail {
            set,
            interventions,
            layer,
            from,
            first: 0,
        };
        let mut tails: Vec<Tail<'a>> = sets.iter().map(tail).collect();
        tails.sort_by_key(|tail| tail.layer);
        let mut all = 0;
        for tail in &mut tails {
            tail.first = all;
            all += used - tail.from;
        }
        let rows = stored_rows(all);
        let residual = vec![0.0; panels::len(rows, config.d_model)];
        Self { example, used, tails, residual, rows, all }
    }

    /// Positions of a tail as rows.
    fn rows_of(&self, tail: &Tail<'_>) -> Range<usize> {
        tail.first..tail.first + self.used - tail.from
    }

    /// The set and the position of each row.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.tails.iter().flat_map(|tail| (tail.from..self.used).map(|t| (tail.set, t)))
    }

    /// Rows of those that have begun by layer `l`.
    fn begun(&self, l: usize) -> usize {
        let last = self.tails.iter().take_while(|tail| tail.layer <= l).last();
        last.map_or(0, |tail| self.rows_of(tail).end)
    }

    /// Takes the residual stream of the other pass over, where a tail begins with layer `l`.
    pub(super) fn begin(&mut self, l: usize, residual: &[f32], rows: usize) {
        let (of_tails, tails) = (self.rows, &self.tails);
        for tail in tails.iter().filter(|tail| tail.layer == l) {
            let panels_of = residual.chunks_exact(rows * PANEL);
            for (to, from) in self.residual.chunks_exact_mut(of_tails * PANEL).zip(panels_of) {
                let from = &from[tail.from * PANEL..self.used * PANEL];
                to[tail.first * PANEL..][..from.len()].copy_from_slice(from);
            }
        }
    }

    /// Those that have begun through layer `l`; `keys` and `values` are the other pass' there,
    /// `[1, pos, head, d_head]`.
    pub(super) fn layer(
        &mut self,
        model: &Model<f32>,
        l: usize,
        keys: &ArrayD<f32>,
        values: &ArrayD<f32>,
    ) {
        let begun = self.begun(l);
        if begun == 0 {
            return;
        }
        let mut space = model.workspace(self.all, Keep::Nothing);
        let sizes = Sizes { used: begun, rows: space.rows };
        let turns = self.turns(model, l);
        let (layer, scratch) = (&mut space.layers[0], &mut space.scratch);
        layer.input.copy_from_slice(&self.residual);
        model.queries_keys_values(l, sizes, layer, scratch, &turns[..], true);
        self.replace(model, l, layer, sizes.rows);
        let of = |array: &'_ ArrayD<f32>| {
            let array = array.view().into_dimensionality::<Ix4>().expect("keys have rank 4");
            array.index_axis_move(Axis(0), 0).to_owned()
        };
        let (keys, values) = (of(keys), of(values));
        self.attend(model, l, layer, sizes, keys.view(), values.view());
        self.replace_read(model, l, layer, sizes.rows);
        let (scratch, forbidden) = (&mut space.scratch, &space.forbidden);
        let (layer, start) = (&mut space.layers[0], Start::Z(l));
        let out = &mut self.residual;
        model.layer(l, sizes, layer, scratch, forbidden, &[], out, start, false, &mut NoTap);
        model.give_back(space);
    }

    /// Rotary turns of each row, by its position.
    fn turns(&self, model: &Model<f32>, l: usize) -> Vec<[f32; 2]> {
        let whole = model.workspace(self.used, Keep::Nothing);
        let of_layer = &whole.turns[model.layout.frequencies_of(l)];
        let pairs = of_layer.len() / self.used;
        let turns = self.places().flat_map(|(_, t)| of_layer[t * pairs..][..pairs].iter().copied());
        let turns = turns.collect();
        model.give_back(whole);
        turns
    }

    /// What layer `l`'s interventions say of queries, keys and values.
    fn replace(&self, model: &Model<f32>, l: usize, layer: &mut Layer<f32>, rows: usize) {
        let [of_q, of_k] = model.layout.dims.qk_len(rows);
        let parts = [
            (Hook::Q(l), 0..of_q),
            (Hook::K(l), of_q..of_q + of_k),
            (Hook::V(l), of_q + of_k..of_q + 2 * of_k),
        ];
        for (hook, part) in parts {
            self.write(model, hook, &mut layer.qkv[part], rows);
        }
    }

    /// What they say of what heads read.
    fn replace_read(&self, model: &Model<f32>, l: usize, layer: &mut Layer<f32>, rows: usize) {
        self.write(model, Hook::Z(l), &mut layer.z, rows);
    }

    fn write(&self, model: &Model<f32>, at: Hook, heads: &mut [f32], rows: usize) {
        for tail in &self.tails {
            for intervention in tail.interventions {
                let Intervention::ReplaceHead { hook, head, from, value } = intervention else {
                    continue;
                };
                if *hook == at {
                    let value = value.index_axis(Axis(0), self.example);
                    let heads = &mut heads[model.layout.dims.head(*head, rows)];
                    write_head(tail.first + from - tail.from, rows, value, heads);
                }
            }
        }
    }

    /// What each row's heads read of the other pass' keys before its tail, and of its own.
    fn attend(
        &self,
        model: &Model<f32>,
        l: usize,
        layer: &mut Layer<f32>,
        sizes: Sizes,
        keys: ArrayView3<'_, f32>,
        values: ArrayView3<'_, f32>,
    ) {
        let (dims, arch, Sizes { used: begun, rows }) = (&model.layout.dims, model.arch, sizes);
        let (d_head, used) = (dims.d_head, self.used);
        let [of_q, of_k] = dims.qk_len(rows);
        let (q, rest) = layer.qkv.split_at(of_q);
        let (own_keys, own_values) = rest.split_at(of_k);
        let active: Vec<&Tail<'_>> = self.tails.iter().take_while(|tail| tail.layer <= l).collect();
        let shape = model.shape(Sizes { used, rows });
        let mut scores = vec![0.0; panels::len(rows, used)];
        let mut keys_t = vec![0.0; panels::len(d_head, used)];
        let mut values_of = vec![0.0; panels::len(used.next_multiple_of(8), d_head)];
        let mut of_head = None;
        for h in 0..dims.n_heads {
            let (head, kv_head) = (dims.head(h, rows), dims.kv_head(h));
            let read = dims.head(kv_head, rows);
            if of_head.replace(kv_head) != Some(kv_head) {
                let flat = |of: &ArrayView3<'_, f32>| -> Vec<f32> {
                    of.index_axis(Axis(1), kv_head).iter().copied().collect()
                };
                let transposed: Vec<f32> =
                    keys.index_axis(Axis(1), kv_head).t().iter().copied().collect();
                panels::pack(&transposed, used, &mut keys_t, d_head, 0);
                let stored = used.next_multiple_of(8);
                panels::pack(&flat(&values), d_head, &mut values_of, stored, 0);
            }
            let q = &q[head.clone()];
            let left = Left::Plain { data: q, rows, first: 0 };
            matmul(arch, begun, d_head, used, left, &keys_t, d_head, &mut scores, rows, Out::Set);
            let slope = model.layout.alibi_slopes.get(h).copied().unwrap_or(0.0);
            let bent = |score: f32, key: usize| {
                let score = shape.scale * f64::from(score);
                let score = match shape.bend.cap {
                    0.0 => score,
                    cap => cap * (score / cap).tanh(),
                };
                (score + slope * key as f64) as f32
            };
            let (own_k, own_v) = (&own_keys[read.clone()], &own_values[read]);
            let mut own: Vec<Vec<f32>> = Vec::with_capacity(begun);
            for tail in &active {
                for row in self.rows_of(tail) {
                    let keys = tail.first..row + 1;
                    let own_scores = keys.clone().map(|key| dot(d_head, rows, q, row, own_k, key));
                    let mut own_scores: Vec<f32> =
                        own_scores.zip(tail.from..).map(|(score, key)| bent(score, key)).collect();
                    softmax(&mut scores, rows, row, tail.from, used, &mut own_scores, &bent);
                    own.push(own_scores);
                }
            }
            let left = Left::Plain { data: &scores, rows, first: 0 };
            let (z, stored) = (&mut layer.z[head], used.next_multiple_of(8));
            matmul(arch, begun, used, d_head, left, &values_of, stored, z, rows, Out::Set);
            for tail in &active {
                for row in self.rows_of(tail) {
                    for (key, &share) in (tail.first..).zip(&own[row]) {
                        add_row(d_head, rows, own_v, key, share, z, row);
                    }
                }
            }
        }
    }
}

/// Makes a row of scores and those of its own keys shares that add up to 1; of the scores only the
/// first `before` count.
fn softmax(
    scores: &mut [f32],
    rows: usize,
    row: usize,
    before: usize,
    used: usize,
    own: &mut [f32],
    bent: &impl Fn(f32, usize) -> f32,
) {
    let mut largest = own.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for key in 0..before {
        let score = &mut scores[panels::at(rows, row, key)];
        *score = bent(*score, key);
        largest = largest.max(*score);
    }
    let mut sum = 0.0;
    for key in 0..used {
        let score = &mut scores[panels::at(rows, row, key)];
        *score = if key < before { (*score - largest).exp() } else { 0.0 };
        sum += *score;
    }
    for score in own.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    let share = sum.recip();
    (0..before).for_each(|key| scores[panels::at(rows, row, key)] *= share);
    own.iter_mut().for_each(|score| *score *= share);
}

fn dot(columns: usize, rows: usize, a: &[f32], row_a: usize, b: &[f32], row_b: usize) -> f32 {
    let product = |x| a[panels::at(rows, row_a, x)] * b[panels::at(rows, row_b, x)];
    (0..columns).map(product).sum()
}

fn add_row(
    columns: usize,
    rows: usize,
    from: &[f32],
    row: usize,
    share: f32,
    to: &mut [f32],
    to_row: usize,
) {
    for x in 0..columns {
        to[panels::at(rows, to_row, x)] += share * from[panels::at(rows, row, x)];
    }
}

/// Keys and values that a pass without interventions is asked for: `[1, pos, head, d_head]`.
pub(super) fn asked(shape: impl Fn(Hook) -> Vec<usize>, l: usize) -> BTreeMap<Hook, ArrayD<f32>> {
    let hooks = [Hook::K(l), Hook::V(l)];
    hooks.into_iter().map(|hook| (hook, ArrayD::zeros(shape(hook)))).collect()
}
