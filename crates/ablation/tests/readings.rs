//! A head's reading apart from its model is the engine's, and its slope that of differences.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use induction_ablation::{HeadId, HeadReading, Reads};
use induction_engine::{CpuEngine, Engine};
use induction_model::{Hook, ModelConfig, Normalization, Params, pretrained};
use ndarray::{Array1, Array2, Array3, Axis, Ix3, Ix4};
use proptest::prelude::*;
use rand::Rng;

const POS: usize = 7;

/// The streams that the last layer reads, `[example, pos, d_model]`, and what the engine has of it at
/// `hook`.
fn seen(engine: &CpuEngine, layer: usize, seed: u64) -> (Array3<f64>, [ndarray::Array4<f64>; 4]) {
    let config = engine.config();
    let mut rng = induction_random::stream(seed, "tokens", 0);
    let pos = POS.min(config.n_ctx);
    let tokens =
        Array2::from_shape_simple_fn((2, pos), || rng.random_range(0..config.d_vocab as u32));
    let input = Hook::ResidPost(layer - 1);
    let hooks = [Hook::Q(layer), Hook::K(layer), Hook::V(layer), Hook::Pattern(layer)];
    let all: Vec<Hook> = hooks.into_iter().chain([input]).collect();
    let mut seen = engine.activations(tokens.view(), &all, &[]).unwrap();
    let stream = seen.remove(&input).unwrap().into_dimensionality::<Ix3>().unwrap();
    let of = hooks.map(|hook| {
        seen.remove(&hook).unwrap().into_dimensionality::<Ix4>().unwrap().mapv(f64::from)
    });
    (stream.mapv(f64::from), of)
}

fn softmax(scores: &Array2<f64>) -> Array2<f64> {
    let mut pattern = scores.clone();
    for mut row in pattern.rows_mut() {
        let top = row.fold(f64::MIN, |a, &b| a.max(b));
        row.mapv_inplace(|x| (x - top).exp());
        row /= row.sum();
    }
    pattern
}

fn random(shape: (usize, usize), seed: u64) -> Array2<f64> {
    let mut rng = induction_random::stream(seed, "directions", 0);
    Array2::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0))
}

/// Holds every head's reading of the last layer against the engine's, and one slope of each kind
/// against differences.
fn check(name: &str, config: &ModelConfig, params: &Params, seed: u64) {
    let engine = CpuEngine::new(config, params).unwrap();
    let layer = config.n_layers - 1;
    let (streams, [q, k, v, pattern]) = seen(&engine, layer, seed);
    let group = config.n_heads / config.n_key_value_heads();
    for head in 0..config.n_heads {
        let pos = streams.len_of(Axis(1));
        let id = HeadId { layer, head };
        let reading = HeadReading::new(config, params, id, pos).unwrap();
        let shared = head / group;
        for (example, stream) in streams.outer_iter().enumerate() {
            let normed = reading.normed(stream);
            let close =
                |what: &str, found: &Array2<f64>, expected: &ndarray::Array4<f64>, head, axis| {
                    let expected = expected.index_axis(Axis(0), example);
                    let expected = expected.index_axis(Axis(axis), head);
                    let largest = expected.iter().fold(1.0f64, |a, x| a.max(x.abs()));
                    for (found, expected) in found.iter().zip(&expected) {
                        let off = (found - expected).abs();
                        assert!(off <= 2e-5 * largest, "{name} {id} {what}: {found}, {expected}");
                    }
                };
            let read = |reads| reading.read(reads, normed.view());
            let [queries, keys] = [Reads::Queries, Reads::Keys].map(read);
            close("queries", &queries, &q, head, 1);
            close("keys", &keys, &k, shared, 1);
            close("values", &read(Reads::Values), &v, shared, 1);
            let scores = reading.scores(queries.view(), keys.view());
            close("pattern", &softmax(&scores), &pattern, head, 0);
        }
        let stream = streams.index_axis(Axis(0), 0);
        slopes(&format!("{name} {id}"), &reading, stream, config.d_head, seed);
    }
}

/// Along a random direction, everything changes as its slope says.
fn slopes(
    name: &str,
    reading: &HeadReading,
    stream: ndarray::ArrayView2<'_, f64>,
    d_head: usize,
    seed: u64,
) {
    const STEP: f64 = 1e-5;
    let pos = stream.nrows();
    let along = random(stream.dim(), seed);
    let (weights, of_scores) = (random((pos, d_head), seed ^ 1), random((pos, pos), seed ^ 2));
    let at = |by: f64| reading.normed((&stream + &(by * &along)).view());
    let agree = |what: &str, of: &dyn Fn(f64) -> f64, found: f64| {
        let expected = (of(STEP) - of(-STEP)) / (2.0 * STEP);
        let off = (found - expected).abs();
        assert!(off <= 1e-5 * (1.0 + expected.abs()), "{name} {what}: {found}, {expected}");
    };
    for reads in [Reads::Queries, Reads::Keys, Reads::Values] {
        let of = |by: f64| (reading.read(reads, at(by).view()) * &weights).sum();
        let slope = reading.slope(reads, stream, weights.clone());
        agree(&reads.to_string(), &of, (slope * &along).sum());
    }
    let scores = |queries: &Array2<f64>, keys: &Array2<f64>| {
        let scores = reading.scores(queries.view(), keys.view());
        let finite = scores.iter().zip(&of_scores).filter(|(score, _)| score.is_finite());
        finite.map(|(score, weight)| score * weight).sum::<f64>()
    };
    let read = |reads| reading.read(reads, at(0.0).view());
    let [q, k] = [Reads::Queries, Reads::Keys].map(read);
    let [of_q, of_k] = reading.slope_of_scores(q.view(), k.view(), of_scores.clone());
    agree("scores by queries", &|by| scores(&(&q + &(by * &weights)), &k), (of_q * &weights).sum());
    agree("scores by keys", &|by| scores(&q, &(&k + &(by * &weights))), (of_k * &weights).sum());
}

/// Of all families: grouped heads, norms of heads and after sublayers, capped scores, all kinds of
/// positions.
#[test]
fn readings_of_pretrained_models_are_the_engines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle/pretrained");
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let folder = entry.unwrap().path();
        let file = folder.join("model.gguf");
        let path = if file.exists() { file } else { folder.clone() };
        let pretrained::Pretrained { config, params, .. } = pretrained::open(&path).unwrap();
        // The first layer's stream has no name of its own where positions are added to it.
        if config.n_layers > 1 {
            check(&folder.display().to_string(), &config, &params, 3);
            checked += 1;
        }
    }
    assert!(checked > 80, "{checked} models");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn readings_of_the_family_are_the_engines(seed: u64, norm: bool, smeared_keys: bool, d_mlp in 0usize..5) {
        let normalization = if norm { Normalization::LN } else { Normalization::None };
        let config = ModelConfig {
            n_layers: 2, d_model: 12, n_heads: 2, d_head: 5, d_mlp, n_ctx: 9, d_vocab: 7, normalization, smeared_keys,
            ..ModelConfig::default()
        };
        let mut params = config.init_params(seed).unwrap();
        for (name, value) in params.iter_mut().filter(|(name, _)| !name.contains("W_")) {
            let mut rng = induction_random::stream(seed, name, 1);
            value.mapv_inplace(|x| x + rng.random_range(-0.5f32..0.5));
        }
        check("", &config, &params, seed);
    }
}

/// A stream of zeros has a slope, too, where the norm's `eps` is all that it is divided by.
#[test]
fn a_stream_of_zeros_has_a_slope() {
    let config = ModelConfig {
        n_layers: 1,
        d_model: 6,
        n_heads: 1,
        d_head: 3,
        n_ctx: 4,
        d_vocab: 5,
        ..ModelConfig::default()
    };
    let params = config.init_params(0).unwrap();
    let reading = HeadReading::new(&config, &params, HeadId { layer: 0, head: 0 }, 4).unwrap();
    let slope = reading.slope(Reads::Values, Array2::zeros((4, 6)).view(), Array2::ones((4, 3)));
    assert!(slope.iter().all(|x| x.is_finite()));
    assert_eq!(Array1::from_iter(slope.iter()).len(), 24);
}
