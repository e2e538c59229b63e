use ndarray::Array2;

/// The sinusoidal position vectors, `[n_ctx, d_model]`, amplitude 1: entry `2i` is `sin(t *
/// base^(-2i / d_model))`, entry `2i + 1` the cosine of the same (paper.md, 1.2).
pub fn sinusoidal_positions(n_ctx: usize, d_model: usize, base: f64) -> Array2<f64> {
    Array2::from_shape_fn((n_ctx, d_model), |(t, i)| {
        let angle = t as f64 * base.powf(-((i / 2 * 2) as f64) / d_model as f64);
        if i % 2 == 0 { angle.sin() } else { angle.cos() }
    })
}
