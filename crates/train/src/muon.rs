//! Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"): the step
//! is the momentum's nearest semi-orthogonal matrix, about, so that all its directions are learned
//! equally fast. As `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"` (Liu et al. 2025, arXiv
//! 2502.16982), but for its products, which are in bfloat16 there and in float32 here.

use ndarray::{Array2, ArrayD, ArrayView2, Axis, concatenate, linalg::general_mat_mul};

/// Of the polynomial that brings singular values near 1, applied [`ITERATIONS`] times.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.775, 2.0315];
const ITERATIONS: usize = 5;
/// Smallest norm that is divided by.
const EPS: f32 = 1e-7;

/// The numbers of a step.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// What gradients are multiplied by first.
    pub(crate) gradient_scale: f32,
    pub(crate) momentum: f32,
    pub(crate) lr: f32,
    /// What the weights are multiplied by.
    pub(crate) decay: f32,
}

/// Where heads stand in a parameter. All heads together are one matrix, as they are one linear
/// layer elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heads {
    /// `[in, out]`.
    None,
    /// `[head, d_model, d_head]`, side by side: `W_Q`, `W_K`, `W_V`.
    Beside,
    /// `[head, d_head, d_model]`, one below the other: `W_O`.
    Below,
}

impl Heads {
    pub(crate) fn of(name: &str) -> Self {
        match name.rsplit('.').next() {
            Some("W_Q" | "W_K" | "W_V") => Self::Beside,
            Some("W_O") => Self::Below,
            _ => Self::None,
        }
    }
}

/// One step on the weights `p` with the gradient `g`; `m` is the momentum.
pub(crate) fn update(
    heads: Heads,
    p: &mut ArrayD<f32>,
    g: &ArrayD<f32>,
    m: &mut ArrayD<f32>,
    step: Step,
) {
    let Step { gradient_scale, momentum, lr, decay } = step;
    m.zip_mut_with(g, |m, &g| *m += (1.0 - momentum) * (gradient_scale * g - *m));
    // Nesterov's: where the momentum will be if the next gradient is this one.
    let mut ahead = m.clone();
    ahead.zip_mut_with(g, |m, &g| *m = (1.0 - momentum) * gradient_scale * g + momentum * *m);
    let towards = orthogonalized(matrix(heads, &ahead));
    let (rows, columns) = towards.dim();
    let lr = lr * 0.2 * (rows.max(columns) as f32).sqrt();
    let towards = towards.view();
    let parts = match heads {
        Heads::None => {
            let whole = towards.into_dyn();
            p.zip_mut_with(&whole, |p, o| *p = decay * *p - lr * o);
            return;
        }
        Heads::Beside => towards.axis_chunks_iter(Axis(1), p.shape()[2]),
        Heads::Below => towards.axis_chunks_iter(Axis(0), p.shape()[1]),
    };
    for (mut p, part) in p.outer_iter_mut().zip(parts) {
        p.zip_mut_with(&part.into_dyn(), |p, o| *p = decay * *p - lr * o);
    }
}

/// A parameter as one matrix.
fn matrix(heads: Heads, x: &ArrayD<f32>) -> Array2<f32> {
    let two = |x: ndarray::ArrayViewD<f32>| {
        x.into_dimensionality().map(|x: ArrayView2<f32>| x.to_owned())
    };
    let whole = match heads {
        Heads::None => two(x.view()),
        Heads::Beside => {
            let parts: Vec<_> = x.outer_iter().collect();
            concatenate(Axis(1), &parts).and_then(|x| two(x.view()))
        }
        Heads::Below => {
            let parts: Vec<_> = x.outer_iter().collect();
            concatenate(Axis(0), &parts).and_then(|x| two(x.view()))
        }
    };
    whole.expect("weight matrices have two axes, or three with heads")
}

/// `U S' V^T` of `x = U S V^T`, with all of `S'` near 1, by Newton and Schulz's iteration.
fn orthogonalized(x: Array2<f32>) -> Array2<f32> {
    let upright = x.nrows() > x.ncols();
    let mut x = if upright { x.reversed_axes().as_standard_layout().into_owned() } else { x };
    let norm = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32;
    x /= norm.max(EPS);
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let gram = x.dot(&x.t());
        let mut polynomial = &gram * b;
        general_mat_mul(c, &gram, &gram, 1.0, &mut polynomial);
        polynomial.diag_mut().mapv_inplace(|d| d + a);
        x = polynomial.dot(&x);
    }
    if upright { x.reversed_axes() } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_come_near_one() {
        // A tall matrix whose columns are of different sizes, and not orthogonal.
        let tall = Array2::from_shape_fn((12, 4), |(i, j)| {
            ((i * i * (j + 1) + j * 7) % 11) as f32 / 11.0 - 0.4
        });
        let scaled = Array2::from_shape_fn((12, 4), |(i, j)| tall[[i, j]] * 0.5f32.powi(j as i32));
        let near = orthogonalized(scaled);
        let gram = near.t().dot(&near);
        for ((i, j), &x) in gram.indexed_iter() {
            let (low, high) = if i == j { (0.4, 1.5) } else { (-0.4, 0.4) };
            assert!((low..high).contains(&x), "{i} {j}: {x}");
        }
    }

    #[test]
    fn heads_are_one_matrix() {
        let x = ArrayD::from_shape_fn(vec![2, 3, 2], |i| (i[0] * 6 + i[1] * 2 + i[2]) as f32);
        let beside = matrix(Heads::Beside, &x);
        assert_eq!(beside.row(1).to_vec(), [2.0, 3.0, 8.0, 9.0]);
        let below = matrix(Heads::Below, &x);
        assert_eq!((below.dim(), below[[3, 1]]), ((6, 2), 7.0));
    }
}
