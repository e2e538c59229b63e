//! Models that are the same, written otherwise: every score of every head must be, too.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use induction_engine::CpuEngine;
use induction_metrics::PrefixMatchingSample;
use induction_model::{Architecture, ModelConfig, Params, pretrained};
use induction_records::{EvaluationSpec, HeadRow};
use ndarray::{Array2, ArrayD, Axis, concatenate};
use rand::Rng;

use induction_study::measure::Evaluators;

/// What heads do in a model of these weights, on random tokens.
fn scores(config: &ModelConfig, params: &Params) -> Vec<HeadRow> {
    let evaluation: EvaluationSpec = serde_json::from_value(serde_json::json!({
        "examples": 2, "icl_early": 3, "icl_late": 20, "icl_half_width": 1, "head_examples": 4,
        "prefix_block": 5, "prefix_repeats": 4,
    }))
    .unwrap();
    let allowed: Vec<u32> = (1..config.d_vocab as u32).collect();
    let sample = PrefixMatchingSample { block: 10, repeats: 2 };
    let text: Array2<u32> = sample.batch(7, 4, 0, &allowed).unwrap();
    let evaluators = Evaluators::new(&evaluation, text, 0, &allowed).unwrap();
    let engine = CpuEngine::new(config, params).unwrap();
    evaluators.heads(&engine, params, None, 0, 0).unwrap()
}

fn assert_same(name: &str, one: &[HeadRow], other: &[HeadRow], tolerance: f64) {
    assert_eq!(one.len(), other.len());
    let mut copying = Vec::new();
    for (a, b) in one.iter().zip(other) {
        assert_eq!((a.layer, a.head, a.scores.len()), (b.layer, b.head, b.scores.len()));
        for (measure, a_score) in &a.scores {
            let (a_score, b_score) = (a_score.unwrap_or(0.0), b.scores[measure].unwrap_or(0.0));
            let close = (a_score - b_score).abs() <= tolerance * (1.0 + a_score.abs());
            assert!(close, "{name} head {}.{} {measure}: {a_score} and {b_score}", a.layer, a.head);
            if measure == "copying" {
                copying.push(a_score);
            }
        }
    }
    // Heads differ, so that another head's score would show.
    copying.sort_by(f64::total_cmp);
    assert!(copying.windows(2).all(|pair| pair[1] - pair[0] > 1e-5), "{name}: {copying:?}");
}

fn fixture(name: &str) -> pretrained::Pretrained {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle/pretrained");
    pretrained::open(&root.join(name)).unwrap()
}

fn rebuilt(
    config: &ModelConfig,
    params: &Params,
    mut change: impl FnMut(&str, ArrayD<f32>) -> ArrayD<f32>,
) -> Params {
    let entries: BTreeMap<String, ArrayD<f32>> = params
        .iter()
        .map(|(name, value)| (name.to_string(), change(name, value.to_owned())))
        .collect();
    Params::new(config, entries).unwrap()
}

/// Query head `h` reads key-value head `h / group`: a model that has each of those as often as it is
/// read is the same. Groups of two, three and seven heads, and one for all.
#[test]
fn heads_of_a_group_read_one_key_value_head() {
    for (name, group) in [
        ("llama_gqa", 2),
        ("llama_three", 3),
        ("llama_seven", 7),
        ("qwen3_bias", 3),
        ("falcon_multi_query", 4),
    ] {
        let pretrained::Pretrained { config, params, .. } = fixture(name);
        assert_eq!(config.n_heads / config.n_key_value_heads(), group, "{name}");
        let whole = ModelConfig {
            architecture: Architecture {
                n_key_value_heads: config.n_heads,
                ..config.architecture.clone()
            },
            ..config.clone()
        };
        let expanded = rebuilt(&whole, &params, |parameter, value| {
            let short = parameter.rsplit('.').next().unwrap_or_default();
            if !["W_K", "W_V", "b_K", "b_V"].contains(&short) {
                return value;
            }
            let heads = (0..config.n_heads).map(|h| value.index_axis(Axis(0), h / group));
            let heads: Vec<_> = heads.map(|head| head.insert_axis(Axis(0))).collect();
            concatenate(Axis(0), &heads).unwrap()
        });
        assert_same(name, &scores(&config, &params), &scores(&whole, &expanded), 1e-4);
    }
}

/// A gain is a factor of the weights that read after it, however far from one, of either sign, in
/// gated MLPs, too: a model with all of them there and gains of one is the same.
#[test]
fn gains_are_factors_of_what_reads_them() {
    for name in ["llama_three", "llama_mha", "mistral"] {
        let pretrained::Pretrained { config, params, .. } = fixture(name);
        assert!(config.architecture.gated_mlp && !config.architecture.tied_embeddings, "{name}");
        let mut random = induction_random::stream(5, "gains", 0);
        let gained = rebuilt(&config, &params, |parameter, mut value| {
            if parameter.ends_with("ln1.w")
                || parameter.ends_with("ln2.w")
                || parameter.ends_with("ln_final.w")
            {
                value.mapv_inplace(|_| {
                    let sign = if random.random_range(0..4) == 0 { -1.0 } else { 1.0 };
                    sign * 10f32.powf(random.random_range(-2.0..1.5))
                });
            }
            value
        });
        let gain = |name: &str| gained.get(name).unwrap().clone();
        let folded = rebuilt(&config, &gained, |parameter, mut value| {
            let block = parameter.rsplit_once('.').map_or("", |(block, _)| block);
            let block = block.rsplit_once('.').map_or("", |(block, _)| block);
            let short = parameter.rsplit('.').next().unwrap_or_default();
            let (by, axis) = match short {
                "W_Q" | "W_K" | "W_V" => (gain(&format!("{block}.ln1.w")), 1),
                "W_gate" | "W_in" => (gain(&format!("{block}.ln2.w")), 0),
                "W_U" => (gain("ln_final.w"), 0),
                "w" => {
                    value.fill(1.0);
                    return value;
                }
                _ => return value,
            };
            for (mut part, &by) in value.axis_iter_mut(Axis(axis)).zip(&by) {
                part *= by;
            }
            value
        });
        assert_same(name, &scores(&config, &gained), &scores(&config, &folded), 2e-3);
    }
}
