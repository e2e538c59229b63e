use pulp::Simd;

use crate::{PANEL, Real, kernel, panels};

/// The left factor of a product.
#[derive(Clone, Copy)]
pub enum Left<'a, T> {
    /// Panels of `rows` rows, read from row `first` on.
    Plain {
        /// The matrix.
        data: &'a [T],
        /// Its rows.
        rows: usize,
        /// The row that is row 0 of the product.
        first: usize,
    },
    /// The transpose of panels of `rows` rows: row `i` of the factor is column `i` of `data`, and
    /// the sum runs over `data`'s rows from `first` on.
    Transposed {
        /// The matrix.
        data: &'a [T],
        /// Its rows.
        rows: usize,
        /// The row where the sum begins.
        first: usize,
    },
}

/// What becomes of a product.
pub enum Out<'a, T> {
    /// Written.
    Set,
    /// Added to what is there.
    Add,
    /// Written, with this matrix (of the result's layout) added.
    Plus(&'a [T]),
}

kernel! {
    /// `out[i, j] = sum over k of left[i, k] * right[k, j]` for `i < m`, `k < depth`, `j < n`, all
    /// in panels; `right` has `right_rows` rows, `out` has `out_rows`.
    ///
    /// `m` is rounded up to a multiple of 8, `n` to whole panels: the factors and the result must
    /// have room for it, and what lies beyond is not meaningful. Each element is one chain of fused
    /// multiply-adds in the order of `k`, begun at 0, so it does not depend on how the work is cut.
    pub fn matmul(
        m: usize, depth: usize, n: usize, left: Left<'a, T>, right: &'a [T], right_rows: usize, out: &'a mut [T],
        out_rows: usize, mode: Out<'a, T>,
    ) = run;
}

#[inline(always)]
fn run<T: Real, S: Simd, const W: usize>(
    s: S,
    m: usize,
    depth: usize,
    n: usize,
    left: Left<T>,
    right: &[T],
    right_rows: usize,
    out: &mut [T],
    out_rows: usize,
    mode: Out<T>,
) {
    for p in 0..panels::count(n) {
        let right = &right[p * right_rows * PANEL..][..depth * PANEL];
        // A result that begins below its matrix' first row has a shorter last panel.
        let panel = p * out_rows * PANEL..out.len().min((p + 1) * out_rows * PANEL);
        let target = &mut out[panel.clone()];
        let mode = match &mode {
            Out::Set => Out::Set,
            Out::Add => Out::Add,
            Out::Plus(base) => Out::Plus(&base[panel]),
        };
        strip::<T, S, W>(s, m, left, right, target, mode);
    }
}

/// Rows of a tile: with two registers a row, 16 sums are in flight, enough to hide a multiply-add's
/// latency on machines that start two a cycle.
pub(crate) const TILE: usize = 8;

/// `out[0..m] (+)= left x right` for one panel of columns.
#[inline(always)]
pub(crate) fn strip<T: Real, S: Simd, const W: usize>(
    s: S,
    m: usize,
    left: Left<T>,
    right: &[T],
    out: &mut [T],
    mode: Out<T>,
) {
    for i in (0..m).step_by(TILE) {
        tile!(s, i, left, right, |row, from, sums| {
            let at = (i + row) * PANEL;
            let target = T::vectors_mut::<S>(&mut out[at..at + PANEL]);
            match mode {
                Out::Set => target[from..from + sums.len()].copy_from_slice(sums),
                Out::Add => {
                    for (x, &sum) in target[from..].iter_mut().zip(sums) {
                        *x = T::vadd(s, *x, sum);
                    }
                }
                Out::Plus(base) => {
                    let base = T::vectors::<S>(&base[at..at + PANEL]);
                    for ((x, &sum), &b) in target[from..].iter_mut().zip(sums).zip(&base[from..]) {
                        *x = T::vadd(s, b, sum);
                    }
                }
            }
        });
    }
}

/// Rows `i..i + TILE` of `left` times one panel, given row by row to the code after `|row, first
/// register, sums|`.
///
/// The tile is cut so that its sums fit the instruction set's registers. A macro, as a closure
/// cannot be told to be inlined, and what is not inlined into the function compiled for an
/// instruction set is compiled without it.
macro_rules! tile {
    ($s:expr, $i:expr, $left:expr, $right:expr, |$row:ident, $from:ident, $sums:ident| $store:block) => {{
        use $crate::matmul::{TILE, piece};
        let (i, left, right) = ($i, $left, $right);
        // Rows `at..at + M`, `N` registers at a time.
        macro_rules! rows {
            ($at:expr, $m:literal, $n:literal) => {
                for $from in (0..W).step_by($n) {
                    let sums = piece::<T, S, W, $m, $n>($s, i + $at, $from, left, right);
                    for (k, $sums) in sums.iter().enumerate() {
                        let $row = $at + k;
                        $store
                    }
                }
            };
        }
        // 32 registers of 512 bits; 16 of 256 bits; 32 of 128 bits on NEON. Scalar code runs for
        // correctness only.
        match W {
            2 => rows!(0, 8, 2),
            8 if S::REGISTER_COUNT >= 32 => {
                for at in (0..TILE).step_by(4) {
                    rows!(at, 4, 4);
                }
            }
            _ => {
                rows!(0, 6, 2);
                rows!(6, 2, 4);
            }
        }
    }};
}
pub(crate) use tile;

/// Rows `i..i + M` of `left` times registers `from..from + N` of each of a panel's rows.
#[inline(always)]
pub(crate) fn piece<T: Real, S: Simd, const W: usize, const M: usize, const N: usize>(
    s: S,
    i: usize,
    from: usize,
    left: Left<T>,
    right: &[T],
) -> [[T::Vector<S>; N]; M] {
    let mut sums = [[T::splat(s, T::default()); N]; M];
    let (right, _) = T::vectors::<S>(right).as_chunks::<W>();
    match left {
        Left::Plain { data, rows, first } => {
            for (p, right) in right.chunks(PANEL).enumerate() {
                let block = &data[(p * rows + first + i) * PANEL..][..M * PANEL];
                let (block, _) = block.as_chunks::<PANEL>();
                let block: &[[T; PANEL]; M] = block.try_into().expect("M rows were cut");
                if right.len() == PANEL {
                    // The common case has a constant length: no bound is checked inside.
                    let right: &[[T::Vector<S>; W]; PANEL] =
                        right.try_into().expect("just compared");
                    for (k, right) in right.iter().enumerate() {
                        step::<T, S, W, M, N>(s, |m| block[m][k], right, from, &mut sums);
                    }
                } else {
                    for (k, right) in right.iter().enumerate() {
                        step::<T, S, W, M, N>(s, |m| block[m][k], right, from, &mut sums);
                    }
                }
            }
        }
        Left::Transposed { data, rows, first } => {
            // Tiles divide panels, so the M columns stand in one row of one panel.
            let (p, column) = (i / PANEL, i % PANEL);
            let data = &data[(p * rows + first) * PANEL..];
            for (row, right) in data.chunks_exact(PANEL).zip(right) {
                let row: &[T; M] = row[column..column + M].try_into().expect("M columns were cut");
                step::<T, S, W, M, N>(s, |m| row[m], right, from, &mut sums);
            }
        }
    }
    sums
}

#[inline(always)]
fn step<T: Real, S: Simd, const W: usize, const M: usize, const N: usize>(
    s: S,
    left: impl Fn(usize) -> T,
    right: &[T::Vector<S>; W],
    from: usize,
    sums: &mut [[T::Vector<S>; N]; M],
) {
    let right: &[T::Vector<S>] = if N == W { right } else { &right[from..from + N] };
    for m in 0..M {
        let x = T::splat(s, left(m));
        for n in 0..N {
            sums[m][n] = T::mul_add(s, x, right[n], sums[m][n]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::archs;

    fn noise<T: Real>(seed: u64, n: usize) -> Vec<T> {
        let mut x = seed | 1;
        let next = |_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::from_f64((x >> 33) as f64 / (1u64 << 30) as f64 - 1.0)
        };
        (0..n).map(next).collect()
    }

    /// The definition, one element at a time.
    fn brute<T: Real>(
        m: usize,
        depth: usize,
        n: usize,
        left: &dyn Fn(usize, usize) -> T,
        right: &[T],
    ) -> Vec<T> {
        let mut out = vec![T::default(); m * n];
        for i in 0..m {
            for j in 0..n {
                for k in 0..depth {
                    out[i * n + j] = left(i, k).fused(right[k * n + j], out[i * n + j]);
                }
            }
        }
        out
    }

    fn check<T: Real>(m: usize, depth: usize, n: usize, seed: u64) {
        let plain: Vec<T> = noise(seed, m * depth);
        let right: Vec<T> = noise(seed ^ 9, depth * n);
        let expected = brute(m, depth, n, &|i, k| plain[i * depth + k], &right);
        let rounded = m.next_multiple_of(TILE);
        let mut packed = vec![T::NAN; panels::len(depth, n)];
        panels::pack(&right, n, &mut packed, depth, 0);
        // What no element of the product may read stays NaN.
        let mut left = vec![T::NAN; panels::len(rounded, depth)];
        let mut across = vec![T::NAN; panels::len(depth, rounded)];
        for i in 0..m {
            for k in 0..depth {
                left[panels::at(rounded, i, k)] = plain[i * depth + k];
                across[panels::at(depth, k, i)] = plain[i * depth + k];
            }
        }
        let base: Vec<T> = noise(seed ^ 5, panels::len(rounded, n));
        for arch in archs() {
            let factors = [
                Left::Plain { data: &left, rows: rounded, first: 0 },
                Left::Transposed { data: &across, rows: depth, first: 0 },
            ];
            for left in factors {
                for mode in 0..3 {
                    let mut out = if mode == 1 { base.clone() } else { vec![T::NAN; base.len()] };
                    let how = [Out::Set, Out::Add, Out::Plus(&base)];
                    let how = how.into_iter().nth(mode).unwrap();
                    matmul(arch, m, depth, n, left, &packed, depth, &mut out, rounded, how);
                    for i in 0..m {
                        for j in 0..n {
                            let at = panels::at(rounded, i, j);
                            let sum = expected[i * n + j];
                            let sum = if mode == 0 { sum } else { base[at] + sum };
                            assert!(
                                out[at] == sum,
                                "{arch:?} mode {mode} ({i}, {j}): {:?} is not {sum:?}",
                                out[at]
                            );
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// Bit for bit, on every instruction set, in both float types.
        #[test]
        fn products_are_their_definition(m in 1usize..40, depth in 1usize..70, n in 1usize..70, seed: u64) {
            check::<f32>(m, depth, n, seed);
            check::<f64>(m, depth, n, seed);
        }
    }
}
