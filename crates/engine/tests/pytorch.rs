//! The engine against PyTorch in float64: logits, losses, activations, every gradient, ablations.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod oracle;

use induction_engine::{BurnEngine, Engine, Intervention};
use induction_model::Hook;
use ndarray::Axis;
use oracle::{CASES, Oracle};

/// Largest absolute difference allowed of float32 to float64; the dumped values are of order 1.
const TOLERANCE: f64 = 1e-5;

fn each_case(check: impl Fn(&Oracle, &mut BurnEngine) -> f64) {
    let mut largest = 0f64;
    for case in CASES {
        let oracle = Oracle::load(case);
        let mut engine = BurnEngine::flex(&oracle.config, &oracle.params("param.")).unwrap();
        largest = largest.max(check(&oracle, &mut engine));
    }
    println!("largest difference {largest:.1e}");
}

#[test]
fn logits_losses_and_activations() {
    each_case(|oracle, engine| {
        let inputs = oracle.tokens.view().split_at(Axis(1), oracle.config.n_ctx).0;
        let mut largest = oracle.close("logits", &engine.logits(inputs, &[]).unwrap(), TOLERANCE);
        largest = largest.max(oracle.close("losses", &engine.losses(oracle.tokens.view(), &[]).unwrap(), TOLERANCE));
        let layers = 0..oracle.config.n_layers;
        let hooks: Vec<Hook> = layers.flat_map(|l| [Hook::Pattern(l), Hook::Z(l), Hook::ResidPost(l)]).collect();
        for (hook, value) in engine.activations(inputs, &hooks, &[]).unwrap() {
            let name = match hook {
                Hook::Pattern(l) => format!("pattern.{l}"),
                Hook::Z(l) => format!("z.{l}"),
                Hook::ResidPost(l) => format!("resid_post.{l}"),
                other => panic!("{other} was not asked for"),
            };
            largest = largest.max(oracle.close(&name, &value, TOLERANCE));
        }
        largest
    });
}

#[test]
fn every_gradient() {
    each_case(|oracle, engine| {
        let (loss, gradients) = engine.loss_and_gradients(oracle.tokens.view()).unwrap();
        let mut largest = oracle.close("loss", &[loss], TOLERANCE);
        for (name, gradient) in gradients.iter() {
            largest = largest.max(oracle.close(&format!("grad.{name}"), gradient, TOLERANCE));
        }
        largest
    });
}

#[test]
fn ablations_full_and_pattern_preserving() {
    each_case(|oracle, engine| {
        let inputs = oracle.tokens.view().split_at(Axis(1), oracle.config.n_ctx).0;
        let hooks: Vec<Hook> = (0..oracle.config.n_layers).map(Hook::Pattern).collect();
        let patterns = engine.activations(inputs, &hooks, &[]).unwrap();
        let mut largest = 0f64;
        for layer in 0..oracle.config.n_layers {
            for head in 0..oracle.config.n_heads {
                let zero = Intervention::ZeroHead { layer, head };
                let full = engine.losses(oracle.tokens.view(), std::slice::from_ref(&zero)).unwrap();
                largest = largest.max(oracle.close(&format!("ablate.{layer}.{head}.full"), &full, TOLERANCE));
                let forced = patterns.iter().map(|(&hook, value)| Intervention::Replace { hook, value: value.clone() });
                let preserving =
                    engine.losses(oracle.tokens.view(), &forced.chain([zero]).collect::<Vec<_>>()).unwrap();
                let name = format!("ablate.{layer}.{head}.pattern_preserving");
                largest = largest.max(oracle.close(&name, &preserving, TOLERANCE));
            }
        }
        largest
    });
}

#[test]
fn one_forced_head_is_the_whole_pattern_replaced() {
    let oracle = Oracle::load("two_layer");
    let engine = BurnEngine::flex(&oracle.config, &oracle.params("param.")).unwrap();
    let (examples, n_ctx) = (oracle.tokens.nrows(), oracle.config.n_ctx);
    let inputs = oracle.tokens.view().split_at(Axis(1), n_ctx).0;
    let mut whole = engine.activations(inputs, &[Hook::Pattern(1)], &[]).unwrap().remove(&Hook::Pattern(1)).unwrap();
    // Head 1 attends to itself only.
    let own = ndarray::Array3::from_shape_fn((examples, n_ctx, n_ctx), |(_, q, k)| f32::from(q == k));
    whole.index_axis_mut(Axis(1), 1).assign(&own);
    let by_head =
        engine.losses(oracle.tokens.view(), &[Intervention::ForcePattern { layer: 1, head: 1, pattern: own }]).unwrap();
    let by_layer =
        engine.losses(oracle.tokens.view(), &[Intervention::Replace { hook: Hook::Pattern(1), value: whole }]).unwrap();
    assert!((&by_head - &by_layer).iter().all(|x| x.abs() < 1e-6));
    let plain = engine.losses(oracle.tokens.view(), &[]).unwrap();
    assert!((&by_head - &plain).iter().any(|x| x.abs() > 1e-3));
}
