//! The direct path against layer norm itself: with the scale held fixed, layer norm is linear, so
//! the folded product must equal the difference that a head's output makes to the logits.

#![allow(clippy::unwrap_used)]

use induction_metrics::direct_path_logits;
use ndarray::{Array1, Array2};

#[test]
fn equals_the_difference_a_head_makes_through_a_frozen_layer_norm() {
    let (d_head, d_model, d_vocab) = (3, 8, 5);
    let number = |i: usize, j: usize| ((7 * i + 3 * j + i * j) as f32 * 0.37).sin();
    let (w_o, w_u) = (
        Array2::from_shape_fn((d_head, d_model), |(i, j)| number(i, j)),
        Array2::from_shape_fn((d_model, d_vocab), |(i, j)| number(i + 9, j)),
    );
    let gain = Array1::from_shape_fn(d_model, |i| 0.5 + number(i, 20).abs());
    let (x, v) = (
        Array1::from_shape_fn(d_model, |i| number(i, 30)),
        Array1::from_shape_fn(d_head, |i| number(i, 40)),
    );

    // Layer norm with scale 1, written out.
    let logits = |x: &Array1<f32>| {
        let mean = x.mean().unwrap();
        ((x - mean) * &gain).dot(&w_u)
    };
    let difference = logits(&(&x + &v.dot(&w_o))) - logits(&x);
    let folded = v.dot(&direct_path_logits(w_o.view(), Some(gain.view()), w_u.view()).unwrap());
    assert!(
        difference.iter().zip(&folded).all(|(a, b)| (a - b).abs() < 1e-5),
        "{difference} {folded}"
    );
    let plain = v.dot(&direct_path_logits(w_o.view(), None, w_u.view()).unwrap());
    assert!(plain.iter().zip(v.dot(&w_o).dot(&w_u).iter()).all(|(a, b)| (a - b).abs() < 1e-5));
    assert!(direct_path_logits(w_o.view(), Some(Array1::zeros(7).view()), w_u.view()).is_err());
}
