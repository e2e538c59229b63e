//! Random inputs for the tests.

// Each test file is a crate of its own and uses only some of these.
#![allow(dead_code)]

use ndarray::{Array4, Axis};
use proptest::prelude::*;

/// A causal pattern `[example, head, query, key]`: random positive weights, normalised over keys up
/// to the query.
pub(crate) fn pattern(
    examples: usize,
    heads: usize,
    n: usize,
) -> impl Strategy<Value = Array4<f32>> {
    prop::collection::vec(0.0f32..1.0, examples * heads * n * n).prop_map(move |weights| {
        let mut pattern =
            Array4::from_shape_vec((examples, heads, n, n), weights).expect("sizes agree");
        // Lanes come in the order of the other axes, queries fastest.
        for (lane, mut row) in pattern.lanes_mut(Axis(3)).into_iter().enumerate() {
            for (key, weight) in row.iter_mut().enumerate() {
                // The constant keeps the sum away from 0.
                *weight = if key <= lane % n { *weight + 0.01 } else { 0.0 };
            }
            let sum = row.sum();
            row /= sum;
        }
        pattern
    })
}

/// A pattern that attends from each query to one key.
pub(crate) fn one_hot(
    examples: usize,
    heads: usize,
    n: usize,
    key: impl Fn(usize) -> usize,
) -> Array4<f32> {
    Array4::from_shape_fn((examples, heads, n, n), |(_, _, q, k)| f32::from(u8::from(k == key(q))))
}

/// A pattern that attends equally to every key up to the query.
pub(crate) fn uniform(examples: usize, heads: usize, n: usize) -> Array4<f32> {
    Array4::from_shape_fn(
        (examples, heads, n, n),
        |(_, _, q, k)| if k <= q { 1.0 / (q + 1) as f32 } else { 0.0 },
    )
}
