use pulp::{Arch, Simd, WithSimd};

/// The numbers of one AdamW step, the same for every element of a parameter.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// What gradients are multiplied by first (clipping).
    pub gradient_scale: f32,
    /// `1 - beta1`.
    pub mix1: f32,
    /// `beta2`.
    pub beta2: f32,
    /// `1 - beta2`.
    pub mix2: f32,
    /// Learning rate over the first moment's bias correction.
    pub step_size: f32,
    /// Square root of the second moment's bias correction.
    pub root_correction2: f32,
    /// Added to the denominator.
    pub eps: f32,
    /// What the parameter is multiplied by (decoupled weight decay).
    pub decay: f32,
}

/// One AdamW step on a parameter and its moments, all slices of one length: a single pass over
/// memory.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(arch: Arch, step: AdamW, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert!(g.len() == p.len() && m.len() == p.len() && v.len() == p.len(), "slices of one length");
    arch.dispatch(Task { step, p, g, m, v });
}

struct Task<'a> {
    step: AdamW,
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { step, p, g, m, v } = self;
        let AdamW { gradient_scale, mix1, beta2, mix2, step_size, root_correction2, eps, decay } =
            step;
        // Plain arithmetic without a sum across elements: the compiler vectorises it for each
        // instruction set.
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * gradient_scale;
            *m += mix1 * (g - *m);
            *v = beta2 * *v + mix2 * g * g;
            *p = *p * decay - step_size * *m / (v.sqrt() / root_correction2 + eps);
        }
    }
}

/// The sum of squares, in `f64`: each element is squared exactly, and the order of the sum is
/// fixed.
pub fn sum_of_squares(arch: Arch, x: &[f32]) -> f64 {
    arch.dispatch(Squares(x))
}

struct Squares<'a>(&'a [f32]);

impl WithSimd for Squares<'_> {
    type Output = f64;
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        const LANES: usize = 16;
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        let mut sums = [0f64; LANES];
        for chunk in chunks {
            for (sum, &x) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(x) * f64::from(x);
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        sums.iter().sum::<f64>() + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archs;

    #[test]
    fn every_instruction_set_takes_the_same_step() {
        let noise = |seed: usize| -> Vec<f32> {
            (0..1003).map(|i| ((i * 7919 + seed) % 997) as f32 / 500.0 - 1.0).collect()
        };
        let step = AdamW {
            gradient_scale: 0.7,
            mix1: 0.1,
            beta2: 0.98,
            mix2: 0.02,
            step_size: 3e-3,
            root_correction2: 0.3,
            eps: 1e-8,
            decay: 0.999,
        };
        let (p, g, m, v) =
            (noise(1), noise(2), noise(3), noise(4).iter().map(|x| x * x).collect::<Vec<_>>());
        let exact: f64 = g.iter().map(|&x| f64::from(x).powi(2)).sum();
        for arch in archs() {
            assert!((sum_of_squares(arch, &g) - exact).abs() < 1e-12 * exact);
            assert_eq!(sum_of_squares(arch, &g), sum_of_squares(Arch::Scalar, &g));
            let (mut new_p, mut new_m, mut new_v) = (p.clone(), m.clone(), v.clone());
            adamw(arch, step, &mut new_p, &g, &mut new_m, &mut new_v);
            for i in 0..p.len() {
                let g = g[i] * 0.7;
                let first = m[i] + 0.1 * (g - m[i]);
                let second = 0.98 * v[i] + 0.02 * g * g;
                assert_eq!((new_m[i], new_v[i]), (first, second));
                assert_eq!(
                    new_p[i],
                    p[i] * 0.999 - 3e-3 * first / (second.sqrt() / 0.3 + 1e-8),
                    "{arch:?}"
                );
            }
        }
    }
}
