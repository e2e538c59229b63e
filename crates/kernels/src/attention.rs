//! Causal softmax attention of one head over one sequence, forward and backward, without storing
//! the pattern.
//!
//! Scores live only as tiles in the cache. The forward pass keeps each query's log-sum-exp, from
//! which the backward pass makes the pattern again: that is one of seven products, instead of
//! keeping a pattern that grows with the square of the context.

use pulp::{Arch, Simd};

use crate::{
    Left, Out, PANEL, Real, kernel, matmul,
    matmul::{TILE, strip, tile},
    panels,
    rows::{self, lanes_max, lanes_sum},
};

/// Sizes of one head's work.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Positions.
    pub used: usize,
    /// Rows that each activation stores, at least `used` rounded up to a multiple of 8.
    pub rows: usize,
    /// Width of the head.
    pub d_head: usize,
    /// What scores are multiplied by, `d_head^-0.5`.
    pub scale: f64,
    /// What else is done to them; [`backward`] knows of nothing.
    pub bend: Bend,
}

/// What some models do to scaled scores before the softmax: `cap tanh(x / cap)`, then `slope *
/// key` more. The default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bend {
    /// The soft cap; 0 for none.
    pub cap: f64,
    /// What each position brings (ALiBi); that of the query itself is the same for all its keys,
    /// and changes nothing.
    pub slope: f64,
}

/// Keys that queries may not attend to, beside those after them: query `i` has `keys[from..to]`
/// with `[from, to]` its span, ascending, and at least one that it sees is not among them. The
/// default forbids nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forbidden<'a> {
    /// One a query; empty if nothing is forbidden.
    pub spans: &'a [[u32; 2]],
    /// What the spans point into. They may share parts.
    pub keys: &'a [u32],
}

impl Forbidden<'_> {
    #[inline(always)]
    fn of(&self, query: usize) -> &[u32] {
        match self.spans.get(query) {
            Some(&[from, to]) => &self.keys[from as usize..to as usize],
            None => &[],
        }
    }
}

/// Queries whose scores are in the cache together. A multiple of [`PANEL`].
const FORWARD_QUERIES: usize = 32;
/// One row more than is used: rows of a power of two would put a query's panels into the same few
/// cache sets.
const FORWARD_ROWS: usize = FORWARD_QUERIES + 1;
/// As above, for the backward pass.
const BACKWARD_QUERIES: usize = 64;

/// Elements of scratch that [`forward`] and [`backward`] want for sequences of `used` positions.
pub fn scratch_len(used: usize) -> usize {
    panels::len(FORWARD_ROWS, used).max(2 * BACKWARD_QUERIES * PANEL)
}

kernel! {
    /// `z = softmax(scale q k^T, causal) v`. `q`, `v` and `z` are panels of `rows` rows; `k_t` is
    /// the transpose of the keys, panels of `d_head` rows. `log_sums[i]` becomes the logarithm of
    /// query `i`'s sum of exponentials.
    pub fn forward(
        shape: Shape, forbidden: Forbidden<'a>, q: &'a [T], k_t: &'a [T], v: &'a [T], z: &'a mut [T],
        log_sums: &'a mut [T], scratch: &'a mut [T],
    ) = run_forward;
}

#[inline(always)]
fn run_forward<T: Real, S: Simd, const W: usize>(
    s: S,
    shape: Shape,
    forbidden: Forbidden,
    q: &[T],
    k_t: &[T],
    v: &[T],
    z: &mut [T],
    log_sums: &mut [T],
    scratch: &mut [T],
) {
    let Shape { used, rows, d_head, scale, bend } = shape;
    let scale = T::from_f64(scale);
    for start in (0..used).step_by(FORWARD_QUERIES) {
        let end = (start + FORWARD_QUERIES).min(used);
        scores::<T, S, W>(s, start, end, rows, d_head, q, k_t, scratch, FORWARD_ROWS);
        let mut shares = [T::default(); FORWARD_QUERIES];
        for i in start..end {
            let (log_sum, share) = row_exponentials::<T, S, W>(
                s,
                forbidden.of(i),
                i,
                i - start,
                scale,
                bend,
                scratch,
                FORWARD_ROWS,
            );
            log_sums[i] = log_sum;
            shares[i - start] = share;
        }
        for i in (start..end).step_by(TILE) {
            let left = Left::Plain { data: scratch, rows: FORWARD_ROWS, first: 0 };
            weigh::<T, S, W>(s, shape, i, i - start, left, &shares[i - start..], v, z);
        }
    }
}

kernel! {
    /// The first half of [`forward`], for patterns that are read again and again: `exponentials`
    /// (panels of `rows` rows, a column a key, 0 above the diagonal within a panel) and what each
    /// query's must be multiplied by to sum to 1.
    pub fn exponentials(
        shape: Shape, forbidden: Forbidden<'a>, q: &'a [T], k_t: &'a [T], out: &'a mut [T], shares: &'a mut [T],
    ) = run_exponentials;
}

#[inline(always)]
fn run_exponentials<T: Real, S: Simd, const W: usize>(
    s: S,
    shape: Shape,
    forbidden: Forbidden,
    q: &[T],
    k_t: &[T],
    out: &mut [T],
    shares: &mut [T],
) {
    let Shape { used, rows, d_head, scale, bend } = shape;
    let scale = T::from_f64(scale);
    scores::<T, S, W>(s, 0, used, rows, d_head, q, k_t, out, rows);
    for (i, share) in shares[..used].iter_mut().enumerate() {
        (_, *share) = row_exponentials::<T, S, W>(s, forbidden.of(i), i, i, scale, bend, out, rows);
    }
}

kernel! {
    /// The second half of [`forward`]: `z` from what [`exponentials`] left, to the same bits as
    /// [`forward`]'s where the values are the same.
    pub fn read_exponentials(
        shape: Shape, exponentials: &'a [T], shares: &'a [T], v: &'a [T], z: &'a mut [T],
    ) = run_read_exponentials;
}

#[inline(always)]
fn run_read_exponentials<T: Real, S: Simd, const W: usize>(
    s: S,
    shape: Shape,
    exponentials: &[T],
    shares: &[T],
    v: &[T],
    z: &mut [T],
) {
    let Shape { used, rows, .. } = shape;
    let left = Left::Plain { data: exponentials, rows, first: 0 };
    for i in (0..used).step_by(TILE) {
        let mut tile_shares = [T::default(); TILE];
        let whole = (used - i).min(TILE);
        tile_shares[..whole].copy_from_slice(&shares[i..i + whole]);
        weigh::<T, S, W>(s, shape, i, i, left, &tile_shares, v, z);
    }
}

/// `z` of the queries from `i` on, a tile of them, from the exponentials in `left`'s rows from
/// `row` on.
#[inline(always)]
fn weigh<T: Real, S: Simd, const W: usize>(
    s: S,
    shape: Shape,
    i: usize,
    row: usize,
    left: Left<T>,
    shares: &[T],
    v: &[T],
    z: &mut [T],
) {
    let Shape { used, rows, d_head, .. } = shape;
    // No key after the last panel that the tile's queries see; no value after the last position.
    let keys = ((i / PANEL + 1) * PANEL).min(used);
    for p in 0..panels::count(d_head) {
        let values = &v[p * rows * PANEL..][..keys * PANEL];
        let z = &mut z[(p * rows + i) * PANEL..][..TILE * PANEL];
        tile!(s, row, left, values, |row, from, sums| {
            let share = T::splat(s, shares[row]);
            let out = T::vectors_mut::<S>(&mut z[row * PANEL..(row + 1) * PANEL]);
            for (x, &sum) in out[from..].iter_mut().zip(sums) {
                *x = T::vmul(s, sum, share);
            }
        });
    }
}

/// Unscaled scores of the queries `start..end` into `out`, for the panels of keys that any query of
/// its tile may see.
#[inline(always)]
fn scores<T: Real, S: Simd, const W: usize>(
    s: S,
    start: usize,
    end: usize,
    rows: usize,
    d_head: usize,
    q: &[T],
    k_t: &[T],
    out: &mut [T],
    out_rows: usize,
) {
    let queries = Left::Plain { data: q, rows, first: 0 };
    for p in 0..=(end - 1) / PANEL {
        let keys = &k_t[p * d_head * PANEL..][..d_head * PANEL];
        let out = &mut out[p * out_rows * PANEL..][..out_rows * PANEL];
        for i in (start.max(p * PANEL)..end).step_by(TILE) {
            tile!(s, i, queries, keys, |row, from, sums| {
                let at = (i - start + row) * PANEL;
                T::vectors_mut::<S>(&mut out[at..at + PANEL])[from..from + sums.len()]
                    .copy_from_slice(sums);
            });
        }
    }
}

/// Makes query `i`'s scores, in row `row` of `out`, exponentials (0 after the diagonal, up to the
/// panel's end). Returns the logarithm of their sum, and what they must be multiplied by to sum to
/// 1.
#[inline(always)]
fn row_exponentials<T: Real, S: Simd, const W: usize>(
    s: S,
    forbidden: &[u32],
    i: usize,
    row: usize,
    scale: T,
    bend: Bend,
    out: &mut [T],
    out_rows: usize,
) -> (T, T) {
    let last = i / PANEL;
    let at = |p: usize| (p * out_rows + row) * PANEL;
    if bend != Bend::default() {
        let keys = |p: usize| p * PANEL..(i + 1).min((p + 1) * PANEL);
        for p in 0..=last {
            bend_scores(scale, bend, keys(p), &mut out[at(p)..at(p) + PANEL]);
        }
    }
    out[at(last) + i % PANEL + 1..at(last) + PANEL].fill(T::NEG_INFINITY);
    for &key in forbidden {
        let key = key as usize;
        out[at(key / PANEL) + key % PANEL] = T::NEG_INFINITY;
    }
    let mut largest = [T::splat(s, T::NEG_INFINITY); W];
    for p in 0..=last {
        for (m, &x) in largest.iter_mut().zip(T::vectors::<S>(&out[at(p)..at(p) + PANEL])) {
            *m = T::vmax(s, *m, x);
        }
    }
    let unscaled = lanes_max::<T, S, W>(largest);
    let mut largest = unscaled * scale;
    // What the product lost is the largest score's exponent below. It is nothing, unless scores are
    // of hundreds of millions: those are made differences first.
    if unscaled.fused(scale, T::default() - largest).to_f64().abs() > 1.0 {
        for p in 0..=last {
            out[at(p)..at(p) + PANEL].iter_mut().for_each(|x| *x = *x - unscaled);
        }
        largest = T::default();
    }
    let (shift, factor) = (T::splat(s, T::default() - largest), T::splat(s, scale));
    let mut sums = [T::splat(s, T::default()); W];
    for p in 0..=last {
        rows::exponentials::<T, S, W>(s, &mut out[at(p)..at(p) + PANEL], factor, shift, &mut sums);
    }
    let sum = lanes_sum::<T, S, W>(sums);
    (unscaled * scale + sum.log(), T::from_f64(1.0) / sum)
}

/// Bends a query's scores of some keys, and leaves them unscaled as they were. No vectors: few
/// models have such scores.
#[inline(never)]
fn bend_scores<T: Real>(scale: T, bend: Bend, keys: std::ops::Range<usize>, scores: &mut [T]) {
    let scale = scale.to_f64();
    for (key, x) in keys.zip(scores) {
        let mut score = x.to_f64() * scale;
        if bend.cap > 0.0 {
            score = bend.cap * (score / bend.cap).tanh();
        }
        *x = T::from_f64((score + bend.slope * key as f64) / scale);
    }
}

kernel! {
    /// The attention pattern itself: panels of `rows` rows, a column a key, 0 above the diagonal.
    pub fn pattern(shape: Shape, forbidden: Forbidden<'a>, q: &'a [T], k_t: &'a [T], out: &'a mut [T]) = run_pattern;
}

#[inline(always)]
fn run_pattern<T: Real, S: Simd, const W: usize>(
    s: S,
    shape: Shape,
    forbidden: Forbidden,
    q: &[T],
    k_t: &[T],
    out: &mut [T],
) {
    let Shape { used, rows, d_head, scale, bend } = shape;
    out.fill(T::default());
    scores::<T, S, W>(s, 0, used, rows, d_head, q, k_t, out, rows);
    for i in 0..used {
        let scale = T::from_f64(scale);
        let (_, share) =
            row_exponentials::<T, S, W>(s, forbidden.of(i), i, i, scale, bend, out, rows);
        let share = T::splat(s, share);
        for p in 0..=i / PANEL {
            for x in T::vectors_mut::<S>(&mut out[(p * rows + i) * PANEL..][..PANEL]) {
                *x = T::vmul(s, *x, share);
            }
        }
    }
}

/// What each query reads by a given pattern (any rows, causal or not): `z = pattern v`.
///
/// # Panics
/// If a slice is too short.
pub fn read<T: Real>(arch: Arch, shape: Shape, pattern: &[T], v: &[T], z: &mut [T]) {
    let Shape { used, rows, d_head, .. } = shape;
    let left = Left::Plain { data: pattern, rows, first: 0 };
    matmul(arch, used, used, d_head, left, v, rows, z, rows, Out::Set);
}

/// A head's activations, as [`forward`] had and left them, for [`backward`].
#[derive(Clone, Copy)]
pub struct Saved<'a, T> {
    /// Queries.
    pub q: &'a [T],
    /// Keys.
    pub k: &'a [T],
    /// Keys, transposed.
    pub k_t: &'a [T],
    /// Values, transposed.
    pub v_t: &'a [T],
    /// What was read.
    pub z: &'a [T],
    /// Logarithms of the sums of exponentials.
    pub log_sums: &'a [T],
}

kernel! {
    /// Gradients of the queries, keys and values (written) from the gradient of `z`.
    ///
    /// Tile by tile of queries and keys, everything a tile needs in the innermost cache: with `p`
    /// the pattern and `g` the gradient of `z`, `dp = g v^T`, `ds = scale p (dp - sum(g z))`, `dv
    /// += p^T g`, `dk += ds^T q`, `dq += ds k`.
    pub fn backward(
        shape: Shape, forbidden: Forbidden<'a>, saved: Saved<'a, T>, dz: &'a [T], dq: &'a mut [T], dk: &'a mut [T], dv: &'a mut [T],
        scratch: &'a mut [T],
    ) = run_backward;
}

#[inline(always)]
fn run_backward<T: Real, S: Simd, const W: usize>(
    s: S,
    shape: Shape,
    forbidden: Forbidden,
    saved: Saved<T>,
    dz: &[T],
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
    scratch: &mut [T],
) {
    let Shape { used, rows, d_head, scale, .. } = shape;
    let Saved { q, k, k_t, v_t, z, log_sums } = saved;
    let scale = T::splat(s, T::from_f64(scale));
    let (pattern, scratch) = scratch.split_at_mut(BACKWARD_QUERIES * PANEL);
    let d_scores = &mut scratch[..BACKWARD_QUERIES * PANEL];
    let columns = panels::count(d_head);
    for start in (0..used).step_by(BACKWARD_QUERIES) {
        let end = (start + BACKWARD_QUERIES).min(used);
        let mut means = [T::default(); BACKWARD_QUERIES];
        for i in start..end {
            let mut sums = [T::splat(s, T::default()); W];
            for p in 0..columns {
                let at = (p * rows + i) * PANEL;
                let (g, z) =
                    (T::vectors::<S>(&dz[at..at + PANEL]), T::vectors::<S>(&z[at..at + PANEL]));
                for ((sum, &g), &z) in sums.iter_mut().zip(g).zip(z) {
                    *sum = T::mul_add(s, g, z, *sum);
                }
            }
            means[i - start] = lanes_sum::<T, S, W>(sums);
        }
        for p in 0..=(end - 1) / PANEL {
            let (first_key, first) = (p * PANEL, start.max(p * PANEL));
            let keys = &k_t[first_key * d_head..][..d_head * PANEL];
            let values = &v_t[first_key * d_head..][..d_head * PANEL];
            for i in (first..end).step_by(TILE) {
                let at = (i - start) * PANEL;
                let pattern = &mut pattern[at..at + TILE * PANEL];
                let d_scores = &mut d_scores[at..at + TILE * PANEL];
                tile!(s, i, Left::Plain { data: q, rows, first: 0 }, keys, |row, from, sums| {
                    // A tile may reach past the last position, where nothing was kept.
                    let log_sum = log_sums.get(i + row).copied().unwrap_or_default();
                    let shift = T::splat(s, T::default() - log_sum);
                    let out = T::vectors_mut::<S>(&mut pattern[row * PANEL..(row + 1) * PANEL]);
                    let mut logs = *sums;
                    for x in &mut logs {
                        *x = T::mul_add(s, *x, scale, shift);
                    }
                    out[from..from + logs.len()].copy_from_slice(&T::exp(s, logs));
                });
                if i < first_key + PANEL {
                    for row in 0..TILE {
                        let seen = (i + row - first_key + 1).min(PANEL);
                        pattern[row * PANEL + seen..(row + 1) * PANEL].fill(T::default());
                    }
                }
                for row in 0..TILE {
                    let keys = forbidden.of(i + row);
                    let from = keys.partition_point(|&key| (key as usize) < first_key);
                    for &key in
                        keys[from..].iter().take_while(|&&key| (key as usize) < first_key + PANEL)
                    {
                        pattern[row * PANEL + key as usize - first_key] = T::default();
                    }
                }
                tile!(s, i, Left::Plain { data: dz, rows, first: 0 }, values, |row, from, sums| {
                    let mean = T::splat(s, means[i - start + row]);
                    let at = row * PANEL..(row + 1) * PANEL;
                    let pattern = &T::vectors::<S>(&pattern[at.clone()])[from..];
                    let out = T::vectors_mut::<S>(&mut d_scores[at]);
                    for ((x, &sum), &p) in out[from..].iter_mut().zip(sums).zip(pattern) {
                        *x = T::vmul(s, T::vmul(s, p, scale), T::vsub(s, sum, mean));
                    }
                });
            }
            let key_rows = (used - first_key).min(PANEL);
            for c in 0..columns {
                let begin = |row: usize| (c * rows + row) * PANEL;
                let queries = begin(first)..begin(end);
                let these = begin(first_key)..begin((first_key + PANEL).min(rows));
                // The first queries that see these keys write, later ones add.
                let mode = || if first_key >= start { Out::Set } else { Out::Add };
                let left =
                    |data| Left::Transposed { data, rows: BACKWARD_QUERIES, first: first - start };
                strip::<T, S, W>(
                    s,
                    key_rows,
                    left(pattern),
                    &dz[queries.clone()],
                    &mut dv[these.clone()],
                    mode(),
                );
                strip::<T, S, W>(s, key_rows, left(d_scores), &q[queries], &mut dk[these], mode());
                let left =
                    Left::Plain { data: d_scores, rows: BACKWARD_QUERIES, first: first - start };
                let keys = &k[begin(first_key)..begin(first_key + key_rows)];
                let target = &mut dq[begin(first)..begin(end.next_multiple_of(TILE))];
                strip::<T, S, W>(
                    s,
                    end - first,
                    left,
                    keys,
                    target,
                    if p == 0 { Out::Set } else { Out::Add },
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::archs;

    /// Attention and its gradient by definition, float64, row-major `[position][d_head]`.
    struct Twin {
        z: Vec<f64>,
        pattern: Vec<f64>,
        dq: Vec<f64>,
        dk: Vec<f64>,
        dv: Vec<f64>,
    }

    /// Forbids about a third of the keys, never key 0.
    fn forbid(n: usize, seed: u64) -> (Vec<[u32; 2]>, Vec<u32>) {
        let (mut spans, mut keys) = (Vec::new(), Vec::new());
        for i in 0..n as u64 {
            let from = keys.len() as u32;
            keys.extend(
                (1..=i as u32)
                    .filter(|&j| ((seed >> 7) ^ (i * 31) ^ (u64::from(j) * 17)).is_multiple_of(3)),
            );
            spans.push([from, keys.len() as u32]);
        }
        (spans, keys)
    }

    fn twin(
        n: usize,
        d: usize,
        scale: f64,
        forbidden: Forbidden,
        q: &[f64],
        k: &[f64],
        v: &[f64],
        g: &[f64],
    ) -> Twin {
        let dot = |a: &[f64], i: usize, b: &[f64], j: usize| {
            (0..d).map(|x| a[i * d + x] * b[j * d + x]).sum::<f64>()
        };
        let mut out = Twin {
            z: vec![0.0; n * d],
            pattern: vec![0.0; n * n],
            dq: vec![0.0; n * d],
            dk: vec![0.0; n * d],
            dv: vec![0.0; n * d],
        };
        for i in 0..n {
            let seen = |j: usize| f64::from(u8::from(!forbidden.of(i).contains(&(j as u32))));
            let e: Vec<f64> = (0..=i).map(|j| seen(j) * (scale * dot(q, i, k, j)).exp()).collect();
            let sum: f64 = e.iter().sum();
            let p: Vec<f64> = e.iter().map(|e| e / sum).collect();
            out.pattern[i * n..i * n + i + 1].copy_from_slice(&p);
            let dp: Vec<f64> = (0..=i).map(|j| dot(g, i, v, j)).collect();
            let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
            for j in 0..=i {
                let ds = scale * p[j] * (dp[j] - mean);
                for x in 0..d {
                    out.z[i * d + x] += p[j] * v[j * d + x];
                    out.dv[j * d + x] += p[j] * g[i * d + x];
                    out.dq[i * d + x] += ds * k[j * d + x];
                    out.dk[j * d + x] += ds * q[i * d + x];
                }
            }
        }
        out
    }

    fn noise(seed: u64, n: usize) -> Vec<f64> {
        let mut x = seed | 1;
        let next = |_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Numbers that float32 holds exactly, so that both types start from the same.
            ((x >> 44) as f64) / f64::from(1u32 << 19) - 1.0
        };
        (0..n).map(next).collect()
    }

    /// All results of the kernels, row-major, for every instruction set.
    fn kernels<T: Real>(
        n: usize,
        d: usize,
        scale: f64,
        forbidden: Forbidden,
        tensors: [&[f64]; 4],
    ) -> Vec<[Vec<f64>; 6]> {
        let rows = n.next_multiple_of(8) + 1;
        let stored = panels::len(rows, d);
        let into = |x: &[f64]| {
            // What no result may depend on is NaN; missing columns are zero, as a product leaves
            // them.
            let mut out = vec![T::NAN; stored];
            for i in 0..n {
                for j in 0..panels::count(d) * PANEL {
                    out[panels::at(rows, i, j)] =
                        T::from_f64(if j < d { x[i * d + j] } else { 0.0 });
                }
            }
            out
        };
        let back = |x: &[T]| -> Vec<f64> {
            (0..n * d).map(|at| x[panels::at(rows, at / d, at % d)].to_f64()).collect()
        };
        let [q, k, v, g] = tensors.map(into);
        let mut k_t = vec![T::NAN; panels::len(d, n)];
        let mut v_t = k_t.clone();
        panels::transpose(&k, rows, n, d, &mut k_t, d, 0);
        panels::transpose(&v, rows, n, d, &mut v_t, d, 0);
        let shape = Shape { used: n, rows, d_head: d, scale, bend: Bend::default() };
        let run = |arch| {
            let poisoned = || vec![T::NAN; stored];
            let mut scratch = vec![T::NAN; scratch_len(n)];
            let (mut z, mut log_sums) = (poisoned(), vec![T::NAN; n]);
            forward(arch, shape, forbidden, &q, &k_t, &v, &mut z, &mut log_sums, &mut scratch);
            let (mut kept, mut shares, mut again) =
                (vec![T::NAN; panels::len(rows, n)], vec![T::NAN; n], poisoned());
            exponentials(arch, shape, forbidden, &q, &k_t, &mut kept, &mut shares);
            read_exponentials(arch, shape, &kept, &shares, &v, &mut again);
            assert_eq!(back(&z), back(&again), "what is kept reads as what is not");
            let mut whole = vec![T::NAN; panels::len(rows, n)];
            pattern(arch, shape, forbidden, &q, &k_t, &mut whole);
            let mut read_z = poisoned();
            read(arch, shape, &whole, &v, &mut read_z);
            let pattern: Vec<f64> =
                (0..n * n).map(|at| whole[panels::at(rows, at / n, at % n)].to_f64()).collect();
            let (mut dq, mut dk, mut dv) = (poisoned(), poisoned(), poisoned());
            let saved = Saved { q: &q, k: &k, k_t: &k_t, v_t: &v_t, z: &z, log_sums: &log_sums };
            scratch.fill(T::NAN);
            backward(arch, shape, forbidden, saved, &g, &mut dq, &mut dk, &mut dv, &mut scratch);
            [back(&z), pattern, back(&read_z), back(&dq), back(&dk), back(&dv)]
        };
        archs().into_iter().map(run).collect()
    }

    fn assert_close(found: &[Vec<f64>; 6], twin: &Twin, tolerance: f64) {
        let expected = [&twin.z, &twin.pattern, &twin.z, &twin.dq, &twin.dk, &twin.dv];
        for (which, (found, expected)) in found.iter().zip(expected).enumerate() {
            for (at, (f, e)) in found.iter().zip(expected).enumerate() {
                assert!(
                    (f - e).abs() <= tolerance * (1.0 + e.abs()),
                    "result {which} at {at}: {f} is not {e}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn attention_is_its_definition(n in 1usize..150, d in 1usize..70, seed: u64, free: bool) {
            let tensors = [1, 2, 3, 4].map(|i| noise(seed ^ (i << 32), n * d));
            let scale = (d as f64).powf(-0.5);
            let [q, k, v, g] = &tensors;
            let (spans, keys) = forbid(n, seed);
            let forbidden = if free { Forbidden::default() } else { Forbidden { spans: &spans, keys: &keys } };
            let twin = twin(n, d, scale, forbidden, q, k, v, g);
            let single = kernels::<f32>(n, d, scale, forbidden, [q, k, v, g]);
            let double = kernels::<f64>(n, d, scale, forbidden, [q, k, v, g]);
            assert_close(&single[0], &twin, 1e-5);
            assert_close(&double[0], &twin, 1e-12);
            prop_assert!(single.iter().all(|x| *x == single[0]), "instruction sets differ in f32");
            prop_assert!(double.iter().all(|x| *x == double[0]), "instruction sets differ in f64");
        }
    }

    /// Scores whose product with the scale is rounded by more than exponentials hold: each query
    /// attends to its largest scores in equal parts.
    #[test]
    fn scores_of_billions_are_still_a_pattern() {
        let (n, d, scale) = (45usize, 2, 0.3);
        let whole = |seed: u64| -> Vec<f64> {
            noise(seed, n * d).iter().map(|x| (x * 8.0).round() * f64::from(1 << 15)).collect()
        };
        let (q, k, v) = (whole(1 << 32), whole(2 << 32), noise(3 << 32, n * d));
        let tensors = [&q[..], &k, &v, &v];
        for found in kernels::<f32>(n, d, scale, Forbidden::default(), tensors) {
            for i in 0..n {
                let score = |j: usize| q[i * d] * k[j * d] + q[i * d + 1] * k[j * d + 1];
                let largest = (0..=i).map(score).fold(f64::NEG_INFINITY, f64::max);
                let ties = (0..=i).filter(|&j| score(j) == largest).count();
                for j in 0..=i {
                    let expected = if score(j) == largest { 1.0 / ties as f64 } else { 0.0 };
                    let share = found[1][i * n + j];
                    assert!((share - expected).abs() < 1e-6, "{i} {j}: {share} is not {expected}");
                }
            }
            assert!(found[0].iter().all(|x| x.is_finite()));
        }
    }

    /// Bent scores are those of the definition, in all three forms.
    #[test]
    fn bent_scores_are_their_definition() {
        let (n, d) = (45usize, 20);
        let rows = n.next_multiple_of(8) + 1;
        let [q, k, v] = [1, 2, 3].map(|seed| noise(seed << 32, n * d));
        let scale = 4.0 * (d as f64).powf(-0.5);
        for bend in [
            Bend { cap: 1.5, slope: 0.0 },
            Bend { cap: 0.0, slope: 0.25 },
            Bend { cap: 2.0, slope: 0.1 },
        ] {
            let into = |x: &[f64]| {
                let mut out = vec![0.0f64; panels::len(rows, d)];
                for at in 0..n * d {
                    out[panels::at(rows, at / d, at % d)] = x[at];
                }
                out
            };
            let [q_in, k_in, v_in] = [&q, &k, &v].map(|x| into(x));
            let mut k_t = vec![0.0; panels::len(d, n)];
            panels::transpose(&k_in, rows, n, d, &mut k_t, d, 0);
            let shape = Shape { used: n, rows, d_head: d, scale, bend };
            for arch in archs() {
                let none = Forbidden::default();
                let mut whole = vec![f64::NAN; panels::len(rows, n)];
                pattern(arch, shape, none, &q_in, &k_t, &mut whole);
                let (mut z, mut log_sums) = (vec![f64::NAN; q_in.len()], vec![f64::NAN; n]);
                let mut scratch = vec![f64::NAN; scratch_len(n)];
                forward(arch, shape, none, &q_in, &k_t, &v_in, &mut z, &mut log_sums, &mut scratch);
                let (mut kept, mut shares) = (vec![f64::NAN; whole.len()], vec![f64::NAN; n]);
                exponentials(arch, shape, none, &q_in, &k_t, &mut kept, &mut shares);
                for i in 0..n {
                    let score = |j: usize| {
                        let dot: f64 = (0..d).map(|x| q[i * d + x] * k[j * d + x]).sum();
                        let x = dot * scale;
                        let x = if bend.cap > 0.0 { bend.cap * (x / bend.cap).tanh() } else { x };
                        // As ALiBi is defined: less the further the key is.
                        (x - bend.slope * (i - j) as f64).exp()
                    };
                    let sum: f64 = (0..=i).map(score).sum();
                    for j in 0..=i {
                        let at = panels::at(rows, i, j);
                        assert!((whole[at] - score(j) / sum).abs() < 1e-12);
                        assert!((kept[at] * shares[i] - score(j) / sum).abs() < 1e-12);
                    }
                    for x in 0..d {
                        let expected: f64 = (0..=i).map(|j| score(j) / sum * v[j * d + x]).sum();
                        assert!((z[panels::at(rows, i, x)] - expected).abs() < 1e-12);
                    }
                }
            }
        }
    }
}
