//! What is done to each number by itself: nonlinearities and caps.

use pulp::Simd;

use crate::{PANEL, Real, kernel, rows::used_parts_mut};

kernel! {
    /// Adds a bias (one row of panels) to `x`, then makes `x` GELU of that (the exact one, `x
    /// Phi(x)`), and `slope`, if there is one, its derivative.
    pub fn gelu(x: &'a mut [T], rows: usize, used: usize, bias: &'a [T], slope: Option<&'a mut [T]>) = run_gelu;
}

/// The share of a standard normal distribution below `x`. A function, not a closure: a closure that
/// takes or returns a register is never inlined, and so not compiled for the instruction set.
#[inline(always)]
fn normal_cdf<T: Real, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let root_half = T::splat(s, T::from_f64(std::f64::consts::FRAC_1_SQRT_2));
    let erf = T::erf(s, T::vmul(s, x, root_half));
    let half = T::splat(s, T::from_f64(0.5));
    T::mul_add(s, half, erf, half)
}

#[inline(always)]
fn run_gelu<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &mut [T],
    rows: usize,
    used: usize,
    bias: &[T],
    slope: Option<&mut [T]>,
) {
    let (minus_half, density) =
        (T::splat(s, T::from_f64(-0.5)), T::splat(s, T::from_f64(0.398_942_280_401_432_7)));
    let bias = bias.chunks_exact(PANEL).map(T::vectors::<S>);
    let parts = used_parts_mut(x, rows, used).zip(bias);
    match slope {
        None => {
            for (x, bias) in parts {
                for x in x.chunks_exact_mut(PANEL) {
                    for (x, &b) in T::vectors_mut::<S>(x).iter_mut().zip(bias) {
                        let sum = T::vadd(s, *x, b);
                        let phi = normal_cdf::<T, S>(s, sum);
                        *x = T::vmul(s, sum, phi);
                    }
                }
            }
        }
        Some(slope) => {
            for ((x, bias), slope) in parts.zip(used_parts_mut(slope, rows, used)) {
                for (x, slope) in x.chunks_exact_mut(PANEL).zip(slope.chunks_exact_mut(PANEL)) {
                    let slope = T::vectors_mut::<S>(slope);
                    for ((x, slope), &b) in T::vectors_mut::<S>(x).iter_mut().zip(slope).zip(bias) {
                        let sum = T::vadd(s, *x, b);
                        let phi = normal_cdf::<T, S>(s, sum);
                        *x = T::vmul(s, sum, phi);
                        let bell = T::exp(s, [T::vmul(s, minus_half, T::vmul(s, sum, sum))])[0];
                        *slope = T::mul_add(s, T::vmul(s, sum, density), bell, phi);
                    }
                }
            }
        }
    }
}

/// A nonlinearity for [`activate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)`.
    Gelu,
    /// `x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))`, the approximation of GELU that is usually
    /// written with a tanh.
    GeluTanh,
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

kernel! {
    /// Adds a bias (one row of panels) to `x`, then makes `x` the activation of that.
    pub fn activate(x: &'a mut [T], rows: usize, used: usize, bias: &'a [T], kind: Activation) = run_activate;
}

/// `x sigmoid(y)`. Below -80 the exponential would leave the range of a float; the result is 0 to
/// its precision anyway.
#[inline(always)]
fn times_sigmoid<T: Real, S: Simd>(s: S, x: T::Vector<S>, y: T::Vector<S>) -> T::Vector<S> {
    let (zero, one) = (T::splat(s, T::default()), T::splat(s, T::from_f64(1.0)));
    let y = T::vmax(s, y, T::splat(s, T::from_f64(-80.0)));
    T::vdiv(s, x, T::vadd(s, one, T::exp(s, [T::vsub(s, zero, y)])[0]))
}

#[inline(always)]
fn run_activate<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &mut [T],
    rows: usize,
    used: usize,
    bias: &[T],
    kind: Activation,
) {
    if kind == Activation::Gelu {
        return run_gelu::<T, S, W>(s, x, rows, used, bias, None);
    }
    let constant = |x: f64| T::splat(s, T::from_f64(x));
    // 2 sqrt(2 / pi), and 0.044715 times that.
    let (linear, cubic) = (constant(1.595_769_121_605_730_8), constant(0.071_354_816_272_600_25));
    for (x, bias) in
        used_parts_mut(x, rows, used).zip(bias.chunks_exact(PANEL).map(T::vectors::<S>))
    {
        for x in x.chunks_exact_mut(PANEL) {
            for (x, &b) in T::vectors_mut::<S>(x).iter_mut().zip(bias) {
                let sum = T::vadd(s, *x, b);
                *x = match kind {
                    Activation::GeluTanh => {
                        let square = T::vmul(s, sum, sum);
                        let y = T::vmul(s, sum, T::mul_add(s, square, cubic, linear));
                        times_sigmoid::<T, S>(s, sum, y)
                    }
                    Activation::Silu => times_sigmoid::<T, S>(s, sum, sum),
                    Activation::Relu => T::vmax(s, sum, T::splat(s, T::default())),
                    Activation::Gelu => unreachable!("returned above"),
                };
            }
        }
    }
}

kernel! {
    /// `cap tanh(x / cap)` in place of each `x`.
    pub fn soft_cap(x: &'a mut [T], rows: usize, used: usize, cap: f64) = run_soft_cap;
}

#[inline(always)]
fn run_soft_cap<T: Real, S: Simd, const W: usize>(
    s: S,
    x: &mut [T],
    rows: usize,
    used: usize,
    cap: f64,
) {
    // tanh(y) = 2 sigmoid(2 y) - 1.
    let constant = |x: f64| T::splat(s, T::from_f64(x));
    let (inner, outer, less) = (constant(2.0 / cap), constant(2.0 * cap), constant(cap));
    for x in used_parts_mut(x, rows, used) {
        for x in T::vectors_mut::<S>(x) {
            let share = times_sigmoid::<T, S>(s, outer, T::vmul(s, *x, inner));
            *x = T::vsub(s, share, less);
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

    fn definition(kind: Activation, x: f64) -> f64 {
        match kind {
            Activation::Gelu => x * 0.5 * (1.0 + libm::erf(x / 2f64.sqrt())),
            Activation::GeluTanh => {
                0.5 * x
                    * (1.0
                        + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Relu => x.max(0.0),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn activations_are_their_definitions(rows in 1usize..5, columns in 1usize..70, seed: u64, scale in 0.1f32..120.0) {
            let values = noise(seed, rows * columns, scale);
            let bias = noise(seed ^ 3, columns, 1.0);
            let (bias_row, _) = packed(&bias, columns);
            for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu] {
                let mut first = None;
                for arch in archs() {
                    let (mut x, stored) = packed(&values, columns);
                    activate(arch, &mut x, stored, rows, &bias_row, kind);
                    let found = plain(&x, stored, columns);
                    for (at, &found) in found.iter().enumerate() {
                        let x = f64::from(values[at] + bias[at % columns]);
                        let expected = definition(kind, x);
                        let error = (f64::from(found) - expected).abs();
                        prop_assert!(error <= 2e-6 * x.abs() + 1e-30, "{kind:?}({x}) = {found}, not {expected}");
                    }
                    prop_assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{:?}", arch);
                }
            }
        }

        #[test]
        fn a_soft_cap_is_its_definition(rows in 1usize..5, columns in 1usize..70, seed: u64) {
            let values = noise(seed, rows * columns, 90.0);
            let mut first = None;
            for arch in archs() {
                let (mut x, stored) = packed(&values, columns);
                soft_cap(arch, &mut x, stored, rows, 30.0);
                let found = plain(&x, stored, columns);
                for (&x, &y) in values.iter().zip(&found) {
                    let expected = 30.0 * (f64::from(x) / 30.0).tanh();
                    prop_assert!((f64::from(y) - expected).abs() <= 1e-5, "{y} is not {expected}");
                }
                prop_assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{:?}", arch);
            }
        }
    }
}
