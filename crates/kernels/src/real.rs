use std::{
    fmt::Debug,
    ops::{Add, AddAssign, Div, Mul, Sub},
};

use pulp::Simd;

/// A float type: `f32` for work, `f64` (the same code, slower) to check gradients with.
///
/// The vector operations are elementwise and fused multiply-adds round once on every instruction
/// set, so a kernel that fixes the order of its sums gives the same bits on all of them.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + 'static
{
    /// A register of them.
    type Vector<S: Simd>: Copy;
    /// Minus infinity.
    const NEG_INFINITY: Self;
    /// Not a number.
    const NAN: Self;

    /// How many fit in a register.
    fn lanes<S: Simd>() -> usize;
    /// Rounded.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// `self * b + c`, rounded once.
    fn fused(self, b: Self, c: Self) -> Self;
    /// Square root.
    fn root(self) -> Self;
    /// Natural logarithm.
    fn log(self) -> Self;
    /// The larger.
    fn larger(self, other: Self) -> Self;

    /// Whole registers of a slice.
    fn vectors<S: Simd>(slice: &[Self]) -> &[Self::Vector<S>];
    /// Whole registers of a slice.
    fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [Self::Vector<S>];
    /// `x` in every lane.
    fn splat<S: Simd>(s: S, x: Self) -> Self::Vector<S>;
    /// `a + b`.
    fn vadd<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a - b`.
    fn vsub<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a * b`.
    fn vmul<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a / b`.
    fn vdiv<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a * b + c`, rounded once.
    fn mul_add<S: Simd>(
        s: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// The larger, lane by lane.
    fn vmax<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `e^x` for `x` up to 88; 0 where the result would be below the smallest normal number; NaN
    /// stays NaN. Of several registers at once, so that each constant is loaded once for all of
    /// them.
    fn exp<S: Simd, const N: usize>(s: S, x: [Self::Vector<S>; N]) -> [Self::Vector<S>; N];
    /// The error function.
    fn erf<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
}

macro_rules! common {
    ($t:ty, $v:ident, $lanes:ident, $as:ident, $as_mut:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident,
     $div:ident, $fma:ident, $max:ident) => {
        type Vector<S: Simd> = S::$v;
        const NEG_INFINITY: Self = <$t>::NEG_INFINITY;
        const NAN: Self = <$t>::NAN;

        #[inline(always)]
        fn lanes<S: Simd>() -> usize {
            S::$lanes
        }
        #[inline(always)]
        fn from_f64(x: f64) -> Self {
            x as Self
        }
        #[inline(always)]
        fn to_f64(self) -> f64 {
            f64::from(self)
        }
        #[inline(always)]
        fn fused(self, b: Self, c: Self) -> Self {
            self.mul_add(b, c)
        }
        #[inline(always)]
        fn root(self) -> Self {
            self.sqrt()
        }
        #[inline(always)]
        fn log(self) -> Self {
            self.ln()
        }
        #[inline(always)]
        fn larger(self, other: Self) -> Self {
            if self > other { self } else { other }
        }
        #[inline(always)]
        fn vectors<S: Simd>(slice: &[Self]) -> &[S::$v] {
            S::$as(slice).0
        }
        #[inline(always)]
        fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [S::$v] {
            S::$as_mut(slice).0
        }
        #[inline(always)]
        fn splat<S: Simd>(s: S, x: Self) -> S::$v {
            s.$splat(x)
        }
        #[inline(always)]
        fn vadd<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            s.$add(a, b)
        }
        #[inline(always)]
        fn vsub<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            s.$sub(a, b)
        }
        #[inline(always)]
        fn vmul<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            s.$mul(a, b)
        }
        #[inline(always)]
        fn vdiv<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            s.$div(a, b)
        }
        #[inline(always)]
        fn mul_add<S: Simd>(s: S, a: S::$v, b: S::$v, c: S::$v) -> S::$v {
            s.$fma(a, b, c)
        }
        #[inline(always)]
        fn vmax<S: Simd>(s: S, a: S::$v, b: S::$v) -> S::$v {
            s.$max(a, b)
        }
    };
}

/// Horner's rule, highest power first.
#[inline(always)]
fn polynomial<S: Simd>(s: S, x: S::f32s, coefficients: &[f32]) -> S::f32s {
    let mut sum = s.splat_f32s(coefficients[0]);
    for &c in &coefficients[1..] {
        sum = s.mul_add_f32s(sum, x, s.splat_f32s(c));
    }
    sum
}

impl Real for f32 {
    common!(
        f32,
        f32s,
        F32_LANES,
        as_simd_f32s,
        as_mut_simd_f32s,
        splat_f32s,
        add_f32s,
        sub_f32s,
        mul_f32s,
        div_f32s,
        mul_add_f32s,
        max_f32s
    );

    /// `e^x = 2^n e^r` with `|r| <= ln(2) / 2` and a polynomial for `e^r`: within 2 units in the
    /// last place.
    #[inline(always)]
    fn exp<S: Simd, const N: usize>(s: S, x: [S::f32s; N]) -> [S::f32s; N] {
        // Adding 1.5 * 2^23 leaves the rounded integer in the low bits of the sum.
        const ROUND: f32 = 12_582_912.0;
        const COEFFICIENTS: [f32; 6] = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
        let (mut shifted, mut r, mut e) = (x, x, [s.splat_f32s(1.0 / 720.0); N]);
        for i in 0..N {
            shifted[i] =
                s.mul_add_f32s(x[i], s.splat_f32s(std::f32::consts::LOG2_E), s.splat_f32s(ROUND));
        }
        // ln 2 in two parts, the first with few enough bits that its product with n is exact.
        for i in 0..N {
            let n = s.sub_f32s(shifted[i], s.splat_f32s(ROUND));
            r[i] = s.mul_add_f32s(n, s.splat_f32s(-0.693_359_4), x[i]);
            r[i] = s.mul_add_f32s(n, s.splat_f32s(2.121_944_4e-4), r[i]);
        }
        for c in COEFFICIENTS {
            for i in 0..N {
                e[i] = s.mul_add_f32s(e[i], r[i], s.splat_f32s(c));
            }
        }
        for i in 0..N {
            let exponent =
                s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(shifted[i]), s.splat_u32s(23));
            let scaled = s.transmute_f32s_u32s(s.add_u32s(s.transmute_u32s_f32s(e[i]), exponent));
            let underflows = s.less_than_f32s(x[i], s.splat_f32s(-87.0));
            e[i] = s.select_f32s(underflows, s.splat_f32s(0.0), scaled);
        }
        e
    }

    /// The rational approximation of Eigen and XLA on [-4, 4], beyond which erf is 1 to 2e-8:
    /// within 5e-7.
    #[inline(always)]
    fn erf<S: Simd>(s: S, x: S::f32s) -> S::f32s {
        const ABOVE: [f32; 7] = [
            -2.726_142_3e-10,
            2.770_681_4e-8,
            -2.101_024e-6,
            -5.692_506_5e-5,
            -7.349_906e-4,
            -2.954_6e-3,
            -1.609_603_3e-2,
        ];
        const BELOW: [f32; 5] =
            [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_474e-2];
        let x = s.min_f32s(s.max_f32s(x, s.splat_f32s(-4.0)), s.splat_f32s(4.0));
        let square = s.mul_f32s(x, x);
        let above = s.mul_f32s(x, polynomial(s, square, &ABOVE));
        s.div_f32s(above, polynomial(s, square, &BELOW))
    }
}

impl Real for f64 {
    common!(
        f64,
        f64s,
        F64_LANES,
        as_simd_f64s,
        as_mut_simd_f64s,
        splat_f64s,
        add_f64s,
        sub_f64s,
        mul_f64s,
        div_f64s,
        mul_add_f64s,
        max_f64s
    );

    #[inline(always)]
    fn exp<S: Simd, const N: usize>(_: S, x: [S::f64s; N]) -> [S::f64s; N] {
        x.map(|x| lane_by_lane::<S>(x, |x| if x < -708.0 { 0.0 } else { libm::exp(x) }))
    }

    #[inline(always)]
    fn erf<S: Simd>(_: S, x: S::f64s) -> S::f64s {
        lane_by_lane::<S>(x, libm::erf)
    }
}

#[inline(always)]
fn lane_by_lane<S: Simd>(x: S::f64s, f: impl Fn(f64) -> f64) -> S::f64s {
    // 8 lanes are the widest register there is.
    let mut lanes = [0.0; 8];
    S::as_mut_simd_f64s(&mut lanes).0[0] = x;
    lanes[..S::F64_LANES].iter_mut().for_each(|x| *x = f(*x));
    S::as_simd_f64s(&lanes).0[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archs;

    struct Map<'a, T>(&'a mut [T], bool);
    impl<T: Real> pulp::WithSimd for Map<'_, T> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, s: S) {
            for v in T::vectors_mut::<S>(self.0) {
                *v = if self.1 { T::exp(s, [*v])[0] } else { T::erf(s, *v) };
            }
        }
    }

    #[test]
    fn exp_and_erf_are_those_of_libm() {
        for arch in archs() {
            let inputs: Vec<f32> = (0..200_000).map(|i| (i - 170_000) as f32 * 5.1e-4).collect();
            let mut found = inputs.clone();
            arch.dispatch(Map(&mut found, true));
            for (&x, &y) in inputs.iter().zip(&found) {
                let exact = libm::exp(f64::from(x));
                assert!(
                    (f64::from(y) - exact).abs() <= 2.5e-7 * exact + 1e-37,
                    "{arch:?} exp({x}) = {y}, not {exact}"
                );
            }
            let inputs: Vec<f32> = (-64_000..64_000).map(|i| i as f32 * 1e-4).collect();
            let mut found = inputs.clone();
            arch.dispatch(Map(&mut found, false));
            for (&x, &y) in inputs.iter().zip(&found) {
                let exact = libm::erf(f64::from(x));
                assert!(
                    (f64::from(y) - exact).abs() <= 5e-7 * exact.abs(),
                    "{arch:?} erf({x}) = {y}, not {exact}"
                );
            }
        }
    }

    #[test]
    fn exp_at_the_edges() {
        for arch in archs() {
            let mut x = [0.0, -86.9, -87.1, -1e30, f32::NEG_INFINITY, f32::NAN, 87.5, 1.0];
            x = std::array::from_fn(|i| x[i]);
            let mut whole = [0f32; 32];
            whole[..8].copy_from_slice(&x);
            arch.dispatch(Map(&mut whole, true));
            assert_eq!(whole[0], 1.0);
            assert!(whole[1] > 0.0);
            assert_eq!(whole[2..5], [0.0; 3]);
            assert!(whole[5].is_nan());
            assert!(whole[6].is_finite() && whole[6] > 9e37);
        }
    }
}
