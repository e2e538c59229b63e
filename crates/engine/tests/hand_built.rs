//! The hand-built induction model through the engine and the metrics, against its closed forms.

#![allow(clippy::unwrap_used)]

use induction_engine::{CpuEngine, Engine, Intervention};
use induction_metrics::{
    PrefixMatchingSample, copying, direct_path_logits, prefix_matching, previous_token,
};
use induction_model::{HandBuilt, Hook};
use ndarray::{Array2, Array3, Axis, Ix3, Ix4};

const SAMPLE: PrefixMatchingSample = PrefixMatchingSample { block: 25, repeats: 4 };

fn model() -> (HandBuilt, CpuEngine) {
    let model = HandBuilt::new(40, 101);
    let engine = CpuEngine::new(&model.config(), &model.params().unwrap()).unwrap();
    (model, engine)
}

fn repeated(examples: usize) -> Array2<u32> {
    SAMPLE.batch(0, examples, 0, &(1..40).collect::<Vec<u32>>()).unwrap()
}

#[test]
fn patterns_are_the_closed_forms() {
    let (model, engine) = model();
    let tokens = repeated(2);
    let seen =
        engine.activations(tokens.view(), &[Hook::Pattern(0), Hook::Pattern(1)], &[]).unwrap();
    for (example, row) in tokens.outer_iter().enumerate() {
        let ids = row.to_vec();
        for query in 0..ids.len() {
            for key in 0..=query {
                let found = |l: usize| f64::from(seen[&Hook::Pattern(l)][[example, 0, query, key]]);
                let previous = model.previous_token_attention(query, key);
                assert!(
                    (found(0) - previous).abs() < 1e-4,
                    "layer 0, {query} -> {key}: {} is not {previous}",
                    found(0)
                );
                let induction = model.induction_attention(&ids, query, key);
                assert!(
                    (found(1) - induction).abs() < 1e-4,
                    "layer 1, {query} -> {key}: {} is not {induction}",
                    found(1)
                );
            }
        }
    }
}

#[test]
fn scores_are_the_closed_forms() {
    let (model, engine) = model();
    let tokens = repeated(3);
    let seen =
        engine.activations(tokens.view(), &[Hook::Pattern(0), Hook::Pattern(1)], &[]).unwrap();
    let pattern = |l: usize| seen[&Hook::Pattern(l)].view().into_dimensionality::<Ix4>().unwrap();

    let n = SAMPLE.len();
    let previous =
        (1..n).map(|q| model.previous_token_attention(q, q - 1)).sum::<f64>() / (n - 1) as f64;
    assert!((previous_token(pattern(0)).unwrap().mean().unwrap() - previous).abs() < 1e-6);
    assert!(previous > 1.0 - 1e-6);

    // A query in repeat r sees r - 1 matches of weight e^s among i + 1 keys; the others weigh 1.
    let e = model.match_sharpness.exp();
    let first = 1 + SAMPLE.block;
    let expected = (first..n)
        .map(|i| {
            let matches = ((i - 1) / SAMPLE.block) as f64;
            matches * e / (matches * e + (i + 1) as f64 - matches)
        })
        .sum::<f64>()
        / (n - first) as f64;
    let found = prefix_matching(pattern(1), tokens.view(), SAMPLE).unwrap().mean().unwrap();
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

#[test]
fn copying_is_perfect_in_layer_1_and_absent_in_layer_0() {
    let (model, engine) = model();
    let params = model.params().unwrap();
    let tokens = Array2::from_shape_fn((1, 25), |(_, i)| (3 + i) as u32);
    for (l, expected) in [(0, -1.0), (1, 1.0)] {
        let seen = engine.activations(tokens.view(), &[Hook::Pattern(l), Hook::V(l)], &[]).unwrap();
        let w_o = params.block(l).w_o();
        let direct =
            direct_path_logits(w_o.index_axis(Axis(0), 0), None, params.unembedding()).unwrap();
        let v = seen[&Hook::V(l)].view().into_dimensionality::<Ix4>().unwrap();
        let logits: Array3<f32> =
            v.index_axis(Axis(0), 0).index_axis(Axis(1), 0).dot(&direct).insert_axis(Axis(0));
        let pattern =
            seen[&Hook::Pattern(l)].index_axis(Axis(0), 0).into_dimensionality::<Ix3>().unwrap();
        let score = copying(pattern, logits.view(), &tokens.row(0).to_vec()).unwrap()[0].score();
        assert!((score - expected).abs() < 1e-6, "layer {l}: {score} is not {expected}");
    }
}

#[test]
fn it_predicts_the_repetition_and_either_knockout_ends_it() {
    let (model, engine) = model();
    let tokens = repeated(4);
    let from_second_repeat = |interventions: &[Intervention]| {
        let losses = engine.losses(tokens.view(), interventions).unwrap();
        // Entry k is the loss of token k + 1; the second repeat begins at token 1 + block, whose
        // first token is a surprise.
        losses.view().split_at(Axis(1), SAMPLE.block + 1).1.mean().unwrap()
    };
    assert!(from_second_repeat(&[]) < 0.4);
    // Without its last head the model has no path from tokens to logits at all: uniform, to the bit
    // of the logarithm.
    let uniform = (model.d_vocab as f32).ln();
    assert!(
        (from_second_repeat(&[Intervention::ZeroHead { layer: 1, head: 0 }]) - uniform).abs()
            < 1e-5
    );
    // Without the previous-token head nothing matches: the last head spreads evenly over all it
    // sees, and copies that.
    let spread =
        engine.losses(tokens.view(), &[Intervention::ZeroHead { layer: 0, head: 0 }]).unwrap();
    for (example, row) in tokens.outer_iter().enumerate() {
        for at in 0..SAMPLE.len() - 1 {
            let share = |t: u32| {
                row.iter().take(at + 1).filter(|&&x| x == t).count() as f64 / (at + 1) as f64
            };
            let logit = |t: u32| model.copy_strength * share(t);
            let expected = (0..model.d_vocab as u32).map(|t| logit(t).exp()).sum::<f64>().ln()
                - logit(row[at + 1]);
            let found = f64::from(spread[[example, at]]);
            assert!((found - expected).abs() < 1e-4, "{at}: {found} is not {expected}");
        }
    }
}
