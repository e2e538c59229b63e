//! Layer norm and its kin by root mean squares, row by row, forth and back.
//!
//! Matrices are panels of `rows` stored rows, of which the first `used` count.

use pulp::Simd;

use crate::{PANEL, Real, kernel, panels, rows::lanes_sum};

/// 1 for the columns of the last panel that exist, 0 for those that only fill it.
#[inline(always)]
fn existing<T: Real>(columns: usize) -> [T; PANEL] {
    let width = columns - (panels::count(columns) - 1) * PANEL;
    std::array::from_fn(|i| T::from_f64(if i < width { 1.0 } else { 0.0 }))
}

/// `x - mean`, 0 in columns that do not exist.
#[inline(always)]
fn centred<T: Real, S: Simd>(
    s: S,
    x: T::Vector<S>,
    mean: T::Vector<S>,
    last: bool,
    existing: T::Vector<S>,
) -> T::Vector<S> {
    let centred = T::vsub(s, x, mean);
    if last { T::vmul(s, centred, existing) } else { centred }
}

kernel! {
    /// `out = (x - mean) / sqrt(variance + eps) * w + b` along each row of `columns` columns; `w`
    /// and `b` are one row of panels. Each row's mean and reciprocal of the root are kept in
    /// `stats`, for [`layer_norm_backward`].
    pub fn layer_norm(
        x: &'a [T], rows: usize, used: usize, columns: usize, w: &'a [T], b: &'a [T], eps: f64,
        stats: &'a mut [[T; 2]], out: &'a mut [T],
    ) = run_layer_norm;
}

#[inline(always)]
fn run_layer_norm<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &[T],
    rows: usize,
    used: usize,
    columns: usize,
    w: &[T],
    b: &[T],
    eps: f64,
    stats: &mut [[T; 2]],
    out: &mut [T],
) {
    let existing = existing::<T>(columns);
    let existing = T::vectors::<S>(&existing);
    let count = panels::count(columns);
    let share = T::from_f64(1.0 / columns as f64);
    for row in 0..used {
        let place = |p: usize| (p * rows + row) * PANEL..(p * rows + row + 1) * PANEL;
        let mut sums = [T::splat(s, T::default()); W];
        for p in 0..count {
            for (sum, &x) in sums.iter_mut().zip(T::vectors::<S>(&x[place(p)])) {
                *sum = T::vadd(s, *sum, x);
            }
        }
        let mean = lanes_sum::<T, S, W>(sums) * share;
        let wide_mean = T::splat(s, mean);
        let mut squares = [T::splat(s, T::default()); W];
        for p in 0..count {
            for ((sum, &x), &e) in
                squares.iter_mut().zip(T::vectors::<S>(&x[place(p)])).zip(existing)
            {
                let x = centred::<T, S>(s, x, wide_mean, p + 1 == count, e);
                *sum = T::mul_add(s, x, x, *sum);
            }
        }
        let variance = lanes_sum::<T, S, W>(squares) * share;
        let inverse = T::from_f64(1.0) / (variance + T::from_f64(eps)).root();
        stats[row] = [mean, inverse];
        let inverse = T::splat(s, inverse);
        for p in 0..count {
            let gains = T::vectors::<S>(&w[p * PANEL..(p + 1) * PANEL]);
            let biases = T::vectors::<S>(&b[p * PANEL..(p + 1) * PANEL]);
            let out = T::vectors_mut::<S>(&mut out[place(p)]);
            for (((o, &x), &w), &b) in
                out.iter_mut().zip(T::vectors::<S>(&x[place(p)])).zip(gains).zip(biases)
            {
                *o = T::mul_add(s, T::vmul(s, T::vsub(s, x, wide_mean), inverse), w, b);
            }
        }
    }
}

/// The reciprocal of the root of a row's mean square and `eps`; `share` is 1 over its columns.
#[inline(always)]
fn inverse_rms<'a, T: Real, S: Simd, const W: usize>(
    s: S,
    row: impl Iterator<Item = &'a [T]>,
    share: T,
    eps: f64,
) -> T::Vector<S> {
    let mut squares = [T::splat(s, T::default()); W];
    for part in row {
        for (sum, &x) in squares.iter_mut().zip(T::vectors::<S>(part)) {
            *sum = T::mul_add(s, x, x, *sum);
        }
    }
    let mean = lanes_sum::<T, S, W>(squares) * share;
    T::splat(s, T::from_f64(1.0) / (mean + T::from_f64(eps)).root())
}

kernel! {
    /// `out = x / sqrt(mean(x^2) + eps) * w` along each row of `columns` columns; `w` is one row of
    /// panels. What fills the last panel of `x` must be zero.
    pub fn rms_norm(
        x: &'a [T], rows: usize, used: usize, columns: usize, w: &'a [T], eps: f64, out: &'a mut [T],
    ) = run_rms_norm;
}

#[inline(always)]
fn run_rms_norm<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &[T],
    rows: usize,
    used: usize,
    columns: usize,
    w: &[T],
    eps: f64,
    out: &mut [T],
) {
    let count = panels::count(columns);
    let share = T::from_f64(1.0 / columns as f64);
    for row in 0..used {
        let place = |p: usize| (p * rows + row) * PANEL..(p * rows + row + 1) * PANEL;
        let inverse = inverse_rms::<T, S, W>(s, (0..count).map(|p| &x[place(p)]), share, eps);
        for p in 0..count {
            let gains = T::vectors::<S>(&w[p * PANEL..(p + 1) * PANEL]);
            let out = T::vectors_mut::<S>(&mut out[place(p)]);
            for ((o, &x), &w) in out.iter_mut().zip(T::vectors::<S>(&x[place(p)])).zip(gains) {
                *o = T::vmul(s, T::vmul(s, x, inverse), w);
            }
        }
    }
}

kernel! {
    /// Adds to `dx` the gradient of [`layer_norm`]'s input, and to `dw` and `db` (one row of panels
    /// each) those of its gain and bias, from the gradient `dy` of its output.
    pub fn layer_norm_backward(
        x: &'a [T], rows: usize, used: usize, columns: usize, w: &'a [T], stats: &'a [[T; 2]], dy: &'a [T],
        dx: &'a mut [T], dw: &'a mut [T], db: &'a mut [T],
    ) = run_layer_norm_backward;
}

#[inline(always)]
fn run_layer_norm_backward<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &[T],
    rows: usize,
    used: usize,
    columns: usize,
    w: &[T],
    stats: &[[T; 2]],
    dy: &[T],
    dx: &mut [T],
    dw: &mut [T],
    db: &mut [T],
) {
    let existing = existing::<T>(columns);
    let existing = T::vectors::<S>(&existing);
    let count = panels::count(columns);
    let share = T::from_f64(1.0 / columns as f64);
    for row in 0..used {
        let place = |p: usize| (p * rows + row) * PANEL..(p * rows + row + 1) * PANEL;
        let (mean, inverse) = (T::splat(s, stats[row][0]), T::splat(s, stats[row][1]));
        let mut sums = [T::splat(s, T::default()); W];
        let mut products = [T::splat(s, T::default()); W];
        for p in 0..count {
            let columns = p * PANEL..(p + 1) * PANEL;
            let (x, dy) = (T::vectors::<S>(&x[place(p)]), T::vectors::<S>(&dy[place(p)]));
            let w = T::vectors::<S>(&w[columns.clone()]);
            let (dw, db) = (
                T::vectors_mut::<S>(&mut dw[columns.clone()]),
                T::vectors_mut::<S>(&mut db[columns]),
            );
            for k in 0..W {
                let hat = T::vmul(
                    s,
                    centred::<T, S>(s, x[k], mean, p + 1 == count, existing[k]),
                    inverse,
                );
                dw[k] = T::mul_add(s, dy[k], hat, dw[k]);
                db[k] = T::vadd(s, db[k], dy[k]);
                let d_hat = T::vmul(s, dy[k], w[k]);
                sums[k] = T::vadd(s, sums[k], d_hat);
                products[k] = T::mul_add(s, d_hat, hat, products[k]);
            }
        }
        let sum = T::splat(s, lanes_sum::<T, S, W>(sums) * share);
        let product = T::splat(s, T::default() - lanes_sum::<T, S, W>(products) * share);
        for p in 0..count {
            let w = T::vectors::<S>(&w[p * PANEL..(p + 1) * PANEL]);
            let (x, dy) = (T::vectors::<S>(&x[place(p)]), T::vectors::<S>(&dy[place(p)]));
            let dx = T::vectors_mut::<S>(&mut dx[place(p)]);
            for k in 0..W {
                let hat = T::vmul(
                    s,
                    centred::<T, S>(s, x[k], mean, p + 1 == count, existing[k]),
                    inverse,
                );
                let inner = T::mul_add(s, hat, product, T::vsub(s, T::vmul(s, dy[k], w[k]), sum));
                // Columns that only fill the last panel must stay zero.
                let inner = if p + 1 == count { T::vmul(s, inner, existing[k]) } else { inner };
                dx[k] = T::mul_add(s, inner, inverse, dx[k]);
            }
        }
    }
}

kernel! {
    /// Adds to `dx` the gradient of [`rms_norm`]'s input, and to `dw`, one row of panels, that of its
    /// gain, from the gradient `dy` of its output. What fills the last panel of `x` must be zero.
    pub fn rms_norm_backward(
        x: &'a [T], rows: usize, used: usize, columns: usize, w: &'a [T], eps: f64, dy: &'a [T],
        dx: &'a mut [T], dw: &'a mut [T],
    ) = run_rms_norm_backward;
}

#[inline(always)]
fn run_rms_norm_backward<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &[T],
    rows: usize,
    used: usize,
    columns: usize,
    w: &[T],
    eps: f64,
    dy: &[T],
    dx: &mut [T],
    dw: &mut [T],
) {
    let existing = existing::<T>(columns);
    let existing = T::vectors::<S>(&existing);
    let count = panels::count(columns);
    let share = T::from_f64(1.0 / columns as f64);
    for row in 0..used {
        let place = |p: usize| (p * rows + row) * PANEL..(p * rows + row + 1) * PANEL;
        let inverse = inverse_rms::<T, S, W>(s, (0..count).map(|p| &x[place(p)]), share, eps);
        let mut products = [T::splat(s, T::default()); W];
        for p in 0..count {
            let columns = p * PANEL..(p + 1) * PANEL;
            let (x, dy) = (T::vectors::<S>(&x[place(p)]), T::vectors::<S>(&dy[place(p)]));
            let w = T::vectors::<S>(&w[columns.clone()]);
            let dw = T::vectors_mut::<S>(&mut dw[columns]);
            for k in 0..W {
                let hat = T::vmul(s, x[k], inverse);
                dw[k] = T::mul_add(s, dy[k], hat, dw[k]);
                products[k] = T::mul_add(s, T::vmul(s, dy[k], w[k]), hat, products[k]);
            }
        }
        let product = T::splat(s, T::default() - lanes_sum::<T, S, W>(products) * share);
        for p in 0..count {
            let w = T::vectors::<S>(&w[p * PANEL..(p + 1) * PANEL]);
            let (x, dy) = (T::vectors::<S>(&x[place(p)]), T::vectors::<S>(&dy[place(p)]));
            let dx = T::vectors_mut::<S>(&mut dx[place(p)]);
            for k in 0..W {
                let hat = T::vmul(s, x[k], inverse);
                let inner = T::mul_add(s, hat, product, T::vmul(s, dy[k], w[k]));
                // Columns that only fill the last panel must stay zero.
                let inner = if p + 1 == count { T::vmul(s, inner, existing[k]) } else { inner };
                dx[k] = T::mul_add(s, inner, inverse, dx[k]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        archs,
        rows::tests::{noise, packed, plain},
    };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn rms_norm_is_its_definition(rows in 1usize..5, columns in 1usize..70, seed: u64) {
            let (values, gain) = (noise(seed, rows * columns, 3.0), noise(seed ^ 5, columns, 2.0));
            let (gain_row, _) = packed(&gain, columns);
            let mut first = None;
            for arch in archs() {
                let (x, stored) = packed(&values, columns);
                let mut out = vec![f32::NAN; x.len()];
                rms_norm(arch, &x, stored, rows, columns, &gain_row, 1e-5, &mut out);
                let found = plain(&out, stored, columns);
                for (row, found) in values.chunks(columns).zip(found.chunks(columns)) {
                    let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / columns as f64;
                    for ((&x, &w), &y) in row.iter().zip(&gain).zip(found) {
                        let expected = f64::from(x) / (mean + 1e-5).sqrt() * f64::from(w);
                        prop_assert!((f64::from(y) - expected).abs() <= 1e-5, "{y} is not {expected}");
                    }
                }
                prop_assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{:?}", arch);
            }
        }
    }
}
