//! Passes that differ from one without interventions at their last positions alone: only those
//! positions are computed, and attend to the keys and values of the other pass before them.
//!
//! All tails of one sequence pass a layer together, as rows of the same products: one patch of one
//! head at one position is a row, where the pass that it belongs to is a hundred.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

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

/// Rows that pass a layer together: enough for products that fetch each weight once, few enough for
/// what is between them to stay in the cache.
pub(super) const ROWS: usize = 192;

/// One set of interventions on one sequence.
struct Tail<'a> {
    /// The number of the set.
    set: usize,
    interventions: &'a [Intervention],
    /// The first layer that they touch, and the first position.
    layer: usize,
    from: usize,
    /// Its first row among those of all tails.
    first: usize,
}

/// Tails of one sequence.
pub(super) struct Tails<'a> {
    /// The sequence's place in the interventions' arrays.
    pub(super) example: usize,
    /// Its positions.
    used: usize,
    /// Those that begin in lower layers first.
    tails: Vec<Tail<'a>>,
    /// The residual stream of all their positions, `[row, d_model]` in panels of `rows` rows.
    residual: Vec<f32>,
    rows: usize,
}

/// What comes out of the last layer, of some positions.
pub(super) struct End {
    pub(super) example: usize,
    /// The set and the position of each row.
    pub(super) places: Vec<(usize, usize)>,
    /// In panels of as many rows as are stored for so many.
    pub(super) residual: Vec<f32>,
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
    if set.is_empty() || config.smeared_keys || !config.clamp.is_empty() || placed {
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
    /// Of the sets `(number, interventions, (layer, position))` on an example of `used` positions:
    /// some that begin in neighbouring layers together.
    pub(super) fn new(
        config: &ModelConfig,
        example: usize,
        used: usize,
        sets: &[(usize, &'a [Intervention], (usize, usize))],
    ) -> Vec<Self> {
        let mut sets = sets.to_vec();
        sets.sort_by_key(|&(_, _, (layer, _))| layer);
        let mut groups: Vec<(Vec<Tail<'a>>, usize)> = Vec::new();
        for (set, interventions, (layer, from)) in sets {
            let has_room = |(_, rows): &&mut (Vec<_>, usize)| *rows + used - from <= ROWS / 2;
            if groups.last_mut().as_ref().is_none_or(|last| !has_room(last)) {
                groups.push((Vec::new(), 0));
            }
            let (tails, rows) = groups.last_mut().expect("there is one with room");
            tails.push(Tail { set, interventions, layer, from, first: *rows });
            *rows += used - from;
        }
        let made = |(tails, all)| {
            let rows = stored_rows(all);
            let residual = vec![0.0; panels::len(rows, config.d_model)];
            Self { example, used, tails, residual, rows }
        };
        groups.into_iter().map(made).collect()
    }

    /// Positions of a tail as rows.
    fn rows_of(&self, tail: &Tail<'_>) -> Range<usize> {
        tail.first..tail.first + self.used - tail.from
    }

    /// The set and the position of each row.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.tails.iter().flat_map(|tail| (tail.from..self.used).map(|t| (tail.set, t)))
    }

    /// The residual streams after the last layer from position `first` on.
    pub(super) fn end(&self, first: usize) -> End {
        let wanted: Vec<(usize, (usize, usize))> =
            self.places().enumerate().filter(|&(_, (_, t))| t >= first).collect();
        let rows = stored_rows(wanted.len());
        let mut residual = vec![0.0; self.residual.len() / self.rows * rows];
        for (to, &(from, _)) in wanted.iter().enumerate() {
            copy_rows(1, (&self.residual, self.rows, from), (&mut residual, rows, to));
        }
        let places = wanted.into_iter().map(|(_, place)| place).collect();
        End { example: self.example, places, residual }
    }

    /// Rows of those that have begun by layer `l`.
    pub(super) fn begun(&self, l: usize) -> usize {
        let last = self.tails.iter().take_while(|tail| tail.layer <= l).last();
        last.map_or(0, |tail| self.rows_of(tail).end)
    }

    /// Takes the residual stream of the other pass over, where a tail begins with layer `l`.
    pub(super) fn begin(&mut self, l: usize, residual: &[f32], rows: usize) {
        let of_tails = self.rows;
        for tail in self.tails.iter().filter(|tail| tail.layer == l) {
            let to = (&mut self.residual[..], of_tails, tail.first);
            copy_rows(self.used - tail.from, (residual, rows, tail.from), to);
        }
    }

    /// Rotary turns of each row that has begun, by its position.
    fn turns(&self, model: &Model<f32>, l: usize) -> Vec<[f32; 2]> {
        let whole = model.workspace(self.used, Keep::Nothing);
        let of_layer = &whole.turns[model.layout.frequencies_of(l)];
        let pairs = of_layer.len() / self.used;
        let places = self.places().take(self.begun(l));
        let turns = places.flat_map(|(_, t)| of_layer[t * pairs..][..pairs].iter().copied());
        let turns = turns.collect();
        model.give_back(whole);
        turns
    }

    /// What the interventions say of the heads at a hook, whose rows begin with row `first`.
    fn replace(&self, model: &Model<f32>, at: Hook, heads: &mut [f32], rows: usize, first: usize) {
        for tail in &self.tails {
            for intervention in tail.interventions {
                let Intervention::ReplaceHead { hook, head, from, value } = intervention else {
                    continue;
                };
                if *hook == at {
                    let value = value.index_axis(Axis(0), self.example);
                    let heads = &mut heads[model.layout.dims.head(*head, rows)];
                    write_head(first + tail.first + from - tail.from, rows, value, heads);
                }
            }
        }
    }

    /// What each row's heads read of the other pass' keys before its tail, and of its own; the rows
    /// begin with row `place`, a multiple of 8.
    fn attend(
        &self,
        model: &Model<f32>,
        l: usize,
        layer: &mut Layer<f32>,
        rows: usize,
        place: usize,
        [keys, values]: [ArrayView3<'_, f32>; 2],
    ) {
        let (dims, arch, begun) = (&model.layout.dims, model.arch, self.begun(l));
        let (d_head, used) = (dims.d_head, self.used);
        let [of_q, of_k] = dims.qk_len(rows);
        let (q, rest) = layer.qkv.split_at(of_q);
        let (own_keys, own_values) = rest.split_at(of_k);
        let active: Vec<&Tail<'_>> = self.tails.iter().take_while(|tail| tail.layer <= l).collect();
        let shape = model.shape(Sizes { used, rows });
        let of_scores = begun.next_multiple_of(8);
        let mut scores = vec![0.0; panels::len(of_scores, used)];
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
            let left = Left::Plain { data: q, rows, first: place };
            let out = &mut scores;
            matmul(arch, begun, d_head, used, left, &keys_t, d_head, out, of_scores, Out::Set);
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
                    let product = |key| dot(d_head, rows, q, place + row, own_k, place + key);
                    let own_scores = keys.clone().map(product);
                    let mut own_scores: Vec<f32> =
                        own_scores.zip(tail.from..).map(|(score, key)| bent(score, key)).collect();
                    softmax(&mut scores, of_scores, row, tail.from, used, &mut own_scores, &bent);
                    own.push(own_scores);
                }
            }
            let left = Left::Plain { data: &scores, rows: of_scores, first: 0 };
            let (z, stored) = (&mut layer.z[head][place * PANEL..], used.next_multiple_of(8));
            matmul(arch, begun, used, d_head, left, &values_of, stored, z, rows, Out::Set);
            for tail in &active {
                for row in self.rows_of(tail) {
                    for (key, &share) in (tail.first..).zip(&own[row]) {
                        add_row(d_head, rows, own_v, place + key, share, z, row);
                    }
                }
            }
        }
    }
}

/// Keys and values of a sequence in a layer, by their hooks.
pub(super) type Seen = BTreeMap<Hook, ArrayD<f32>>;

/// Those of several sequences that have begun through layer `l`, as rows of the same products.
/// `seen` has the keys and values of the other passes there, `[1, pos, head, d_head]`.
pub(super) fn layer(all: &mut [&mut Tails<'_>], model: &Model<f32>, l: usize, seen: &[Arc<Seen>]) {
    // Each begins where a product may begin.
    let mut places = Vec::new();
    let mut used = 0;
    for tails in all.iter() {
        places.push(used);
        used += tails.begun(l).next_multiple_of(8);
    }
    if used == 0 {
        return;
    }
    // Mostly room for as many rows, so that it is made once.
    let mut space = model.workspace(used.max(ROWS), Keep::Nothing);
    let sizes = Sizes { used, rows: space.rows };
    let mut turns = Vec::new();
    for (tails, &place) in all.iter().zip(&places) {
        let begun = tails.begun(l);
        let input = &mut space.layers[0].input;
        copy_rows(begun, (&tails.residual, tails.rows, 0), (input, sizes.rows, place));
        let of_rows = tails.turns(model, l);
        // Rows between those of two sequences are nobody's.
        let pairs = of_rows.len() / begun.max(1);
        turns.extend(of_rows);
        turns.resize((place + begun.next_multiple_of(8)) * pairs, [0.0; 2]);
    }
    let (of_layer, scratch) = (&mut space.layers[0], &mut space.scratch);
    model.queries_keys_values(l, sizes, of_layer, scratch, &turns, true, false);
    let [of_q, of_k] = model.layout.dims.qk_len(sizes.rows);
    let parts = [
        (Hook::Q(l), 0..of_q),
        (Hook::K(l), of_q..of_q + of_k),
        (Hook::V(l), of_q + of_k..of_q + 2 * of_k),
    ];
    for ((tails, &place), seen) in all.iter().zip(&places).zip(seen) {
        for (hook, part) in parts.clone() {
            tails.replace(model, hook, &mut of_layer.qkv[part], sizes.rows, place);
        }
        let of = |hook: Hook| {
            let array = seen[&hook].view().into_dimensionality::<Ix4>();
            array.expect("keys have rank 4").index_axis_move(Axis(0), 0)
        };
        tails.attend(model, l, of_layer, sizes.rows, place, [of(Hook::K(l)), of(Hook::V(l))]);
        tails.replace(model, Hook::Z(l), &mut of_layer.z, sizes.rows, place);
    }
    let mut output = std::mem::take(&mut space.residual);
    let (scratch, clamped) = (&mut space.scratch, &mut space.clamped);
    let (of_layer, start, out) = (&mut space.layers[0], Start::Z(l), &mut output);
    model.layer(l, sizes, of_layer, scratch, clamped, &[], out, start, false, &mut NoTap);
    for (tails, &place) in all.iter_mut().zip(&places) {
        let (begun, to) = (tails.begun(l), (&mut tails.residual[..], tails.rows, 0));
        copy_rows(begun, (&output, sizes.rows, place), to);
    }
    space.residual = output;
    model.give_back(space);
}

/// Copies rows of panels: of each side its panels, the rows that they store, and the first row.
fn copy_rows(
    count: usize,
    (from, from_rows, from_row): (&[f32], usize, usize),
    (to, to_rows, to_row): (&mut [f32], usize, usize),
) {
    let from = from.chunks_exact(from_rows * PANEL);
    for (to, from) in to.chunks_exact_mut(to_rows * PANEL).zip(from) {
        let from = &from[from_row * PANEL..][..count * PANEL];
        to[to_row * PANEL..][..count * PANEL].copy_from_slice(from);
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
pub(super) fn asked(shape: impl Fn(Hook) -> Vec<usize>, l: usize) -> Seen {
    let hooks = [Hook::K(l), Hook::V(l)];
    hooks.into_iter().map(|hook| (hook, ArrayD::zeros(shape(hook)))).collect()
}
