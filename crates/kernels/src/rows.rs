//! What happens row by row: cross-entropy, smeared keys, rotary positions, sums. Norms are in
//! [`norms`](crate::norms).
//!
//! Matrices are panels of `rows` stored rows, of which the first `used` count.

use pulp::Simd;

use crate::{PANEL, Real, kernel, panels};

/// The sum of a row's lanes, as a tree: the same on every instruction set.
#[inline(always)]
pub(crate) fn lanes_sum<T: Real, S: Simd, const W: usize>(lanes: [T::Vector<S>; W]) -> T {
    tree::<T, S, W>(lanes, |a, b| a + b)
}

/// The largest of a row's lanes.
#[inline(always)]
pub(crate) fn lanes_max<T: Real, S: Simd, const W: usize>(lanes: [T::Vector<S>; W]) -> T {
    tree::<T, S, W>(lanes, T::larger)
}

#[inline(always)]
fn tree<T: Real, S: Simd, const W: usize>(lanes: [T::Vector<S>; W], join: impl Fn(T, T) -> T) -> T {
    let mut all = [T::default(); PANEL];
    T::vectors_mut::<S>(&mut all).copy_from_slice(&lanes);
    let mut half = PANEL / 2;
    while half > 0 {
        let (low, high) = all.split_at_mut(half);
        for (a, &b) in low.iter_mut().zip(&*high) {
            *a = join(*a, b);
        }
        half /= 2;
    }
    all[0]
}

/// The rows of each panel that count, one panel after the other.
#[inline(always)]
fn used_parts<T>(data: &[T], rows: usize, used: usize) -> impl Iterator<Item = &[T]> {
    data.chunks_exact(rows * PANEL).map(move |panel| &panel[..used * PANEL])
}

/// As [`used_parts`], to write.
#[inline(always)]
pub(crate) fn used_parts_mut<T>(
    data: &mut [T],
    rows: usize,
    used: usize,
) -> impl Iterator<Item = &mut [T]> {
    data.chunks_exact_mut(rows * PANEL).map(move |panel| &mut panel[..used * PANEL])
}

/// `e^(x factor + shift)` of a panel's row.
#[inline(always)]
fn of_row<T: Real, S: Simd, const W: usize>(
    s: S,
    row: &[T],
    factor: T::Vector<S>,
    shift: T::Vector<S>,
) -> [T::Vector<S>; W] {
    let mut logs: [T::Vector<S>; W] =
        T::vectors::<S>(row).try_into().expect("a panel's row has W registers");
    for x in &mut logs {
        *x = T::mul_add(s, *x, factor, shift);
    }
    T::exp(s, logs)
}

/// Adds `e^(x factor + shift)` of a panel's row to the sums of its lanes.
#[inline(always)]
fn add_exponentials<T: Real, S: Simd, const W: usize>(
    s: S,
    row: &[T],
    factor: T::Vector<S>,
    shift: T::Vector<S>,
    sums: &mut [T::Vector<S>; W],
) {
    for (sum, x) in sums.iter_mut().zip(of_row::<T, S, W>(s, row, factor, shift)) {
        *sum = T::vadd(s, *sum, x);
    }
}

/// The same, and makes the row its exponentials.
#[inline(always)]
pub(crate) fn exponentials<T: Real, S: Simd, const W: usize>(
    s: S,
    row: &mut [T],
    factor: T::Vector<S>,
    shift: T::Vector<S>,
    sums: &mut [T::Vector<S>; W],
) {
    let found = of_row::<T, S, W>(s, row, factor, shift);
    T::vectors_mut::<S>(row).copy_from_slice(&found);
    for (sum, x) in sums.iter_mut().zip(found) {
        *sum = T::vadd(s, *sum, x);
    }
}

kernel! {
    /// Each row's loss `-log softmax(logits)[target]` in nats; targets and losses are one a row.
    /// With `gradient: Some(scale)` the logits become the gradient of `scale` times the loss;
    /// without, what lies in the last panel beyond the columns is overwritten.
    pub fn cross_entropy(
        logits: &'a mut [T], rows: usize, columns: usize, targets: &'a [u32], losses: &'a mut [T], gradient: Option<T>,
    ) = run_cross_entropy;
}

#[inline(always)]
fn run_cross_entropy<T: Real, S: Simd, const W: usize>(
    s: S,
    logits: &mut [T],
    rows: usize,
    columns: usize,
    targets: &[u32],
    losses: &mut [T],
    gradient: Option<T>,
) {
    // Of a small vocabulary a row is in the cache, and its sums in registers.
    if panels::count(columns) > FAR {
        in_groups::<T, S, W, 16>(s, logits, rows, columns, targets, losses, gradient);
    } else {
        in_groups::<T, S, W, 1>(s, logits, rows, columns, targets, losses, gradient);
    }
}

/// Panels from which on losses are taken of 16 rows together: each row alone would fetch a line of
/// memory here and there.
const FAR: usize = 64;

#[inline(always)]
fn in_groups<T: Real, S: Simd, const W: usize, const TOGETHER: usize>(
    s: S,
    logits: &mut [T],
    rows: usize,
    columns: usize,
    targets: &[u32],
    losses: &mut [T],
    gradient: Option<T>,
) {
    let count = panels::count(columns);
    let width = columns - (count - 1) * PANEL;
    let (one, zero) = (T::splat(s, T::from_f64(1.0)), T::splat(s, T::default()));
    let groups = targets.chunks(TOGETHER).zip(losses.chunks_mut(TOGETHER));
    for (first, (targets, losses)) in (0..).step_by(TOGETHER).zip(groups) {
        let place =
            |p: usize| (p * rows + first) * PANEL..(p * rows + first + targets.len()) * PANEL;
        for row in logits[place(count - 1)].chunks_exact_mut(PANEL) {
            row[width..].fill(T::NEG_INFINITY);
        }
        let mut largest = [[T::splat(s, T::NEG_INFINITY); W]; TOGETHER];
        for p in 0..count {
            for (largest, row) in largest.iter_mut().zip(logits[place(p)].chunks_exact(PANEL)) {
                for (m, &x) in largest.iter_mut().zip(T::vectors::<S>(row)) {
                    *m = T::vmax(s, *m, x);
                }
            }
        }
        let (mut shifts, mut sums) = ([zero; TOGETHER], [[zero; W]; TOGETHER]);
        for (row, &target) in targets.iter().enumerate() {
            let largest = lanes_max::<T, S, W>(largest[row]);
            shifts[row] = T::splat(s, T::default() - largest);
            losses[row] = largest - logits[panels::at(rows, first + row, target as usize)];
        }
        for p in 0..count {
            let each = logits[place(p)].chunks_exact_mut(PANEL).zip(&mut sums).zip(&shifts);
            for ((row, sums), &shift) in each {
                if gradient.is_some() {
                    exponentials::<T, S, W>(s, row, one, shift, sums);
                } else {
                    add_exponentials::<T, S, W>(s, row, one, shift, sums);
                }
            }
        }
        for (row, (&target, loss)) in targets.iter().zip(losses).enumerate() {
            let sum = lanes_sum::<T, S, W>(sums[row]);
            *loss = sum.log() + *loss;
            if let Some(scale) = gradient {
                let factor = T::splat(s, scale / sum);
                for p in 0..count {
                    let at = panels::at(rows, first + row, p * PANEL);
                    for x in T::vectors_mut::<S>(&mut logits[at..at + PANEL]) {
                        *x = T::vmul(s, *x, factor);
                    }
                }
                let aim = panels::at(rows, first + row, target as usize);
                logits[aim] = logits[aim] - scale;
            }
        }
    }
}

/// Turns pairs of columns, row `t` by the angles whose `[cosine, sine]` stand in `turns[t *
/// pairs.len()..]`: rotary positions.
///
/// # Panics
/// If a slice is too short.
pub fn rotate<T: Real>(
    x: &mut [T],
    rows: usize,
    used: usize,
    pairs: &[(usize, usize)],
    turns: &[[T; 2]],
) {
    // No vectors: it is a hundredth of the products around it.
    for (t, turns) in turns.chunks_exact(pairs.len()).take(used).enumerate() {
        for (&pair, &turn) in pairs.iter().zip(turns) {
            rotate_pair(x, rows, t, pair, turn);
        }
    }
}

/// Turns a gradient of what [`rotate`] makes into that of what it is given: by the same angles, the
/// other way.
///
/// # Panics
/// As [`rotate`].
pub fn rotate_backward<T: Real>(
    dx: &mut [T],
    rows: usize,
    used: usize,
    pairs: &[(usize, usize)],
    turns: &[[T; 2]],
) {
    for (t, turns) in turns.chunks_exact(pairs.len()).take(used).enumerate() {
        for (&pair, &[cosine, sine]) in pairs.iter().zip(turns) {
            rotate_pair(dx, rows, t, pair, [cosine, T::default() - sine]);
        }
    }
}

#[inline(always)]
fn rotate_pair<T: Real>(
    x: &mut [T],
    rows: usize,
    t: usize,
    (a, b): (usize, usize),
    [cosine, sine]: [T; 2],
) {
    let (a, b) = (panels::at(rows, t, a), panels::at(rows, t, b));
    let (left, right) = (x[a], x[b]);
    x[a] = left * cosine - right * sine;
    x[b] = right * cosine + left * sine;
}

kernel! {
    /// Adds a bias, one row of panels, to each row of `x`, and then `base`, if there is one, to
    /// `x`.
    pub fn add_bias(x: &'a mut [T], rows: usize, used: usize, bias: &'a [T], base: Option<&'a [T]>) = run_add_bias;
}

#[inline(always)]
fn run_add_bias<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &mut [T],
    rows: usize,
    used: usize,
    bias: &[T],
    base: Option<&[T]>,
) {
    for (p, (x, bias)) in used_parts_mut(x, rows, used).zip(bias.chunks_exact(PANEL)).enumerate() {
        for (row, x) in x.chunks_exact_mut(PANEL).enumerate() {
            let x = T::vectors_mut::<S>(x);
            for (x, &b) in x.iter_mut().zip(T::vectors::<S>(bias)) {
                *x = T::vadd(s, *x, b);
            }
            if let Some(base) = base {
                for (x, &b) in
                    x.iter_mut().zip(T::vectors::<S>(&base[(p * rows + row) * PANEL..][..PANEL]))
                {
                    *x = T::vadd(s, b, *x);
                }
            }
        }
    }
}

kernel! {
    /// Adds to `sums`, one row of panels, the sum of `x` over its rows.
    pub fn column_sums(x: &'a [T], rows: usize, used: usize, sums: &'a mut [T]) = run_column_sums;
}

#[inline(always)]
fn run_column_sums<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &[T],
    rows: usize,
    used: usize,
    sums: &mut [T],
) {
    for (x, sums) in used_parts(x, rows, used).zip(sums.chunks_exact_mut(PANEL)) {
        for x in x.chunks_exact(PANEL) {
            for (sum, &x) in T::vectors_mut::<S>(sums).iter_mut().zip(T::vectors::<S>(x)) {
                *sum = T::vadd(s, *sum, x);
            }
        }
    }
}

kernel! {
    /// `x *= by`, element by element.
    pub fn multiply(x: &'a mut [T], rows: usize, used: usize, by: &'a [T]) = run_multiply;
}

#[inline(always)]
fn run_multiply<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &mut [T],
    rows: usize,
    used: usize,
    by: &[T],
) {
    for (x, by) in used_parts_mut(x, rows, used).zip(used_parts(by, rows, used)) {
        for (x, &by) in T::vectors_mut::<S>(x).iter_mut().zip(T::vectors::<S>(by)) {
            *x = T::vmul(s, *x, by);
        }
    }
}

kernel! {
    /// `out = x + gain * positions`; `positions` are panels of `position_rows` rows.
    pub fn add_positions(
        x: &'a [T], rows: usize, used: usize, gain: T, positions: &'a [T], position_rows: usize, out: &'a mut [T],
    ) = run_add_positions;
}

#[inline(always)]
fn run_add_positions<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &[T],
    rows: usize,
    used: usize,
    gain: T,
    positions: &[T],
    position_rows: usize,
    out: &mut [T],
) {
    let gain = T::splat(s, gain);
    let parts = used_parts(x, rows, used).zip(used_parts(positions, position_rows, used));
    for ((x, at), out) in parts.zip(used_parts_mut(out, rows, used)) {
        for ((out, &x), &at) in
            T::vectors_mut::<S>(out).iter_mut().zip(T::vectors::<S>(x)).zip(T::vectors::<S>(at))
        {
            *out = T::mul_add(s, gain, at, x);
        }
    }
}

kernel! {
    /// The sum of the products of the elements of `x` and `y`; `y` has `y_rows` rows.
    pub fn dot(x: &'a [T], rows: usize, used: usize, y: &'a [T], y_rows: usize) -> T = run_dot;
}

#[inline(always)]
fn run_dot<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &[T],
    rows: usize,
    used: usize,
    y: &[T],
    y_rows: usize,
) -> T {
    let mut sums = [T::splat(s, T::default()); W];
    for (x, y) in used_parts(x, rows, used).zip(used_parts(y, y_rows, used)) {
        for (x, y) in x.chunks_exact(PANEL).zip(y.chunks_exact(PANEL)) {
            for ((sum, &x), &y) in sums.iter_mut().zip(T::vectors::<S>(x)).zip(T::vectors::<S>(y)) {
                *sum = T::mul_add(s, x, y, *sum);
            }
        }
    }
    lanes_sum::<T, S, W>(sums)
}

kernel! {
    /// `out += x`, over whole slices of the same length.
    pub fn accumulate(x: &'a [T], out: &'a mut [T]) = run_accumulate;
}

#[inline(always)]
fn run_accumulate<T: Real, S: Simd, const W: usize>(s: S, x: &[T], out: &mut [T]) {
    for (out, &x) in T::vectors_mut::<S>(out).iter_mut().zip(T::vectors::<S>(x)) {
        *out = T::vadd(s, *out, x);
    }
    let whole = x.len() / T::lanes::<S>() * T::lanes::<S>();
    for (out, &x) in out[whole..].iter_mut().zip(&x[whole..]) {
        *out += x;
    }
}

kernel! {
    /// One head's smeared keys (paper.md, 1.4): `out_j = s k_j + (1 - s) k_(j-1)`, `out_0 = k_0`.
    pub fn smear(k: &'a [T], rows: usize, used: usize, amount: T, out: &'a mut [T]) = run_smear;
}

#[inline(always)]
fn run_smear<T: Real, S: Simd, const W: usize>(
    s: S,
    k: &[T],
    rows: usize,
    used: usize,
    amount: T,
    out: &mut [T],
) {
    let amount = T::splat(s, amount);
    for (k, out) in used_parts(k, rows, used).zip(used_parts_mut(out, rows, used)) {
        out[..PANEL].copy_from_slice(&k[..PANEL]);
        let pairs = k.chunks_exact(PANEL).zip(k[PANEL..].chunks_exact(PANEL));
        for ((before, k), out) in pairs.zip(out[PANEL..].chunks_exact_mut(PANEL)) {
            let (before, k) = (T::vectors::<S>(before), T::vectors::<S>(k));
            for ((out, &before), &k) in T::vectors_mut::<S>(out).iter_mut().zip(before).zip(k) {
                *out = T::mul_add(s, T::vsub(s, k, before), amount, before);
            }
        }
    }
}

kernel! {
    /// Makes `dk`, the gradient of [`smear`]'s result, that of its input; returns the gradient of
    /// the amount.
    pub fn smear_backward(k: &'a [T], rows: usize, used: usize, amount: T, dk: &'a mut [T]) -> T = run_smear_backward;
}

#[inline(always)]
fn run_smear_backward<T: Real, S: Simd, const W: usize>(
    s: S,
    k: &[T],
    rows: usize,
    used: usize,
    amount: T,
    dk: &mut [T],
) -> T {
    let (keep, give) = (T::splat(s, amount), T::splat(s, T::from_f64(1.0) - amount));
    let mut sums = [T::splat(s, T::default()); W];
    for (k, dk) in used_parts(k, rows, used).zip(used_parts_mut(dk, rows, used)) {
        for j in 0..used {
            let (row, after) = dk[j * PANEL..].split_at_mut(PANEL);
            let row = T::vectors_mut::<S>(row);
            if j > 0 {
                let pair = T::vectors::<S>(&k[(j - 1) * PANEL..(j + 1) * PANEL]);
                for i in 0..W {
                    sums[i] = T::mul_add(s, T::vsub(s, pair[W + i], pair[i]), row[i], sums[i]);
                    row[i] = T::vmul(s, row[i], keep);
                }
            }
            if j + 1 < used {
                for (x, &next) in row.iter_mut().zip(T::vectors::<S>(&after[..PANEL])) {
                    *x = T::mul_add(s, next, give, *x);
                }
            }
        }
    }
    lanes_sum::<T, S, W>(sums)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn noise(seed: u64, n: usize, scale: f32) -> Vec<f32> {
        let mut x = seed | 1;
        let next = |_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((x >> 33) as f32 / (1u64 << 30) as f32 - 1.0) * scale
        };
        (0..n).map(next).collect()
    }

    pub(crate) fn packed(plain: &[f32], columns: usize) -> (Vec<f32>, usize) {
        let rows = plain.len() / columns;
        let mut out = vec![f32::NAN; panels::len(rows, columns)];
        panels::pack(plain, columns, &mut out, rows, 0);
        (out, rows)
    }

    pub(crate) fn plain(packed: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        let mut out = vec![0.0; rows * columns];
        panels::unpack(packed, rows, 0, columns, &mut out);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn turning_keeps_lengths_and_adds_angles(used in 1usize..6, seed: u64) {
            let columns = 40;
            let values = noise(seed, used * columns, 1.0);
            let pairs: Vec<(usize, usize)> = (0..18).map(|i| (i, i + 18)).collect();
            let turn = |t: usize, i: usize| (t as f32 * 0.9f32.powi(i as i32)).sin_cos();
            let turns: Vec<[f32; 2]> =
                (0..used).flat_map(|t| (0..18).map(move |i| { let (sine, cosine) = turn(t, i); [cosine, sine] })).collect();
            let (mut x, stored) = packed(&values, columns);
            rotate(&mut x, stored, used, &pairs, &turns);
            let found = plain(&x, stored, columns);
            for t in 0..used {
                for (i, &(a, b)) in pairs.iter().enumerate() {
                    let (a0, b0) = (values[t * columns + a], values[t * columns + b]);
                    let angle = b0.atan2(a0) + t as f32 * 0.9f32.powi(i as i32);
                    let length = a0.hypot(b0);
                    prop_assert!((found[t * columns + a] - length * angle.cos()).abs() < 1e-5);
                    prop_assert!((found[t * columns + b] - length * angle.sin()).abs() < 1e-5);
                }
                prop_assert_eq!(&found[t * columns + 36..(t + 1) * columns], &values[t * columns + 36..(t + 1) * columns]);
            }
        }
    }
}
