//! Every engine against PyTorch in float64: logits, losses, activations, every gradient, ablations.

use std::collections::BTreeMap;

use induction_engine::{Arch, Batch, Engine, Intervention, Model, archs};
use induction_model::{Hook, Params};
use ndarray::{Array1, Array2, Axis, Slice};

use crate::oracle::{CASES, Oracle, engines, equal, tolerance};

/// `check` gives the largest difference; each engine's is printed.
fn each_case(what: &str, check: impl Fn(&Oracle, &mut dyn Engine) -> f64) {
    let mut largest = BTreeMap::<String, f64>::new();
    for case in CASES {
        let oracle = Oracle::load(case);
        for mut engine in engines(&oracle.config, &oracle.params("param.")) {
            let found = check(&oracle, engine.as_mut());
            let largest = largest.entry(engine.name().to_string()).or_default();
            *largest = largest.max(found);
        }
    }
    largest.iter().for_each(|(engine, largest)| println!("| {what} | {engine} | {largest:.1e} |"));
}

#[test]
fn logits_losses_and_activations() {
    each_case("logits, losses, activations", |oracle, engine| {
        let tolerance = tolerance(engine);
        let inputs = oracle.tokens.view().split_at(Axis(1), oracle.config.n_ctx).0;
        let mut largest = oracle.close("logits", &engine.logits(inputs, &[]).unwrap(), tolerance);
        largest = largest.max(oracle.close(
            "losses",
            &engine.losses(oracle.tokens.view(), &[]).unwrap(),
            tolerance,
        ));
        let layers = 0..oracle.config.n_layers;
        let hooks: Vec<Hook> =
            layers.flat_map(|l| [Hook::Pattern(l), Hook::Z(l), Hook::ResidPost(l)]).collect();
        for (hook, value) in engine.activations(inputs, &hooks, &[]).unwrap() {
            let name = match hook {
                Hook::Pattern(l) => format!("pattern.{l}"),
                Hook::Z(l) => format!("z.{l}"),
                Hook::ResidPost(l) => format!("resid_post.{l}"),
                other => panic!("{other} was not asked for"),
            };
            largest = largest.max(oracle.close(&name, &value, tolerance));
        }
        largest
    });
}

#[test]
fn every_gradient() {
    each_case("gradients, relative to their norm", |oracle, engine| {
        let tolerance = tolerance(engine);
        let mut gradients = Params::zeros(&oracle.config);
        let loss = engine.loss_and_gradients(oracle.tokens.view().into(), &mut gradients).unwrap();
        oracle.close("loss", &[loss], tolerance);
        let whole: f64 = gradients
            .iter()
            .map(|(name, _)| norm(oracle.get(&format!("grad.{name}"))).powi(2))
            .sum();
        let mut largest = 0f64;
        for (name, gradient) in gradients.iter() {
            oracle.close(&format!("grad.{name}"), gradient, tolerance);
            // A gain is one number, a sum whose terms may cancel: that of two_layer_odd_heads is
            // 8e-4 where the whole gradient is 2.6, and PyTorch's own float32 misses it by 7e-5 of
            // it. So nothing is held to less than a hundredth of the whole.
            let expected = oracle.get(&format!("grad.{name}"));
            let error = relative_error(gradient.iter().map(|&x| f64::from(x)), expected);
            let error = error * (norm(expected) / (0.01 * whole.sqrt())).min(1.0);
            assert!(
                error <= 10.0 * tolerance,
                "{} {}: grad.{name} is off by {error:e} of its norm",
                engine.name(),
                oracle.name
            );
            largest = largest.max(error);
        }
        largest
    });
}

/// Targets that do not count have no loss and no gradient: taken apart into two parts, a batch's
/// gradient is the sum of theirs, and an example that alone counts is that example alone.
#[test]
fn what_counts() {
    each_case("gradients of targets that count, relative to their norm", |oracle, engine| {
        let examples = oracle.tokens.view();
        let size = (examples.nrows(), examples.ncols() - 1);
        let losses = engine.losses(examples, &[]).unwrap();
        let tolerance = tolerance(engine);
        let mut of = |examples, counted: Option<&Array2<bool>>| {
            let mut gradients = Params::zeros(&oracle.config);
            let batch = Batch { examples, counted: counted.map(|counted| counted.view()) };
            let loss = engine.loss_and_gradients(batch, &mut gradients).unwrap();
            let flat = gradients.iter().flat_map(|(_, g)| g).map(|&g| f64::from(g));
            (f64::from(loss), Array1::from_iter(flat).into_dyn())
        };
        let (_, whole) = of(examples, None);
        let counted = Array2::from_shape_fn(size, |(i, j)| (i * 5 + j * 3) % 7 < 3);
        let others = counted.mapv(|counts| !counts);
        let mut sum = whole.mapv(|_| 0.0);
        for part in [&counted, &others] {
            let (loss, gradient) = of(examples, Some(part));
            let count = part.iter().filter(|&&counts| counts).count() as f64;
            let each = losses.iter().zip(part).filter(|&(_, &counts)| counts);
            let mean = each.map(|(&loss, _)| f64::from(loss)).sum::<f64>() / count;
            assert!((loss - mean).abs() <= tolerance, "{}: {loss} is not {mean}", oracle.name);
            sum = sum + gradient * (count / (size.0 * size.1) as f64);
        }
        let first = Array2::from_shape_fn(size, |(i, _)| i == 0);
        let (_, by_flags) = of(examples, Some(&first));
        let (_, alone) = of(examples.slice_axis(Axis(0), Slice::from(0..1)), None);
        let (loss, none) = of(examples, Some(&Array2::from_elem(size, false)));
        assert!(loss == 0.0 && none.iter().all(|&g| g == 0.0), "{}: nothing counts", oracle.name);
        let error = relative_error(sum.iter().copied(), &whole)
            .max(relative_error(by_flags.iter().copied(), &alone));
        assert!(error <= 10.0 * tolerance, "{} {}: {error:e}", engine.name(), oracle.name);
        error
    });
}

fn norm(values: &ndarray::ArrayD<f64>) -> f64 {
    values.iter().map(|x| x.powi(2)).sum::<f64>().sqrt()
}

/// The norm of the difference over the norm of what is expected, or itself where that is nothing:
/// the queries of a layer whose heads are all clamped.
fn relative_error(found: impl Iterator<Item = f64>, expected: &ndarray::ArrayD<f64>) -> f64 {
    let difference: f64 = found.zip(expected).map(|(f, e)| (f - e).powi(2)).sum();
    let expected = norm(expected);
    difference.sqrt() / if expected == 0.0 { 1.0 } else { expected }
}

/// The CPU engine's code in float64, where rounding cannot hide a wrong term.
#[test]
fn every_gradient_in_float64() {
    let mut largest = 0f64;
    for case in CASES {
        let oracle = Oracle::load(case);
        let shapes = oracle.config.parameter_shapes();
        let weights: Vec<_> =
            shapes.iter().map(|(name, _)| oracle.get(&format!("param.{name}"))).collect();
        let weights: Vec<&[f64]> = weights.iter().map(|w| w.as_slice().unwrap()).collect();
        let run = |arch: Arch| {
            let mut model = Model::<f64>::new(&oracle.config, arch).unwrap();
            model.set(&weights);
            let mut gradients: Vec<Vec<f64>> =
                weights.iter().map(|w| vec![f64::NAN; w.len()]).collect();
            let mut out: Vec<&mut [f64]> = gradients.iter_mut().map(Vec::as_mut_slice).collect();
            let loss = model.loss_and_gradients(oracle.tokens.view().into(), &mut out);
            (loss, gradients)
        };
        let (loss, gradients) = run(Arch::new());
        assert!((loss - oracle.get("loss").iter().next().unwrap()).abs() < 1e-12);
        for ((name, _), gradient) in shapes.iter().zip(&gradients) {
            let error =
                relative_error(gradient.iter().copied(), oracle.get(&format!("grad.{name}")));
            assert!(error <= 1e-9, "{case}: grad.{name} is off by {error:e} of its norm");
            largest = largest.max(error);
        }
        for arch in archs() {
            assert!(run(arch) == (loss, gradients.clone()), "{case}: {arch:?} gives other bits");
        }
    }
    println!("largest relative error of a gradient in float64 {largest:.1e}");
}

#[test]
fn ablations_full_and_pattern_preserving() {
    each_case("ablations", |oracle, engine| {
        let tolerance = tolerance(engine);
        let mut largest = 0f64;
        for layer in 0..oracle.config.n_layers {
            for head in 0..oracle.config.n_heads {
                let zero = Intervention::ZeroHead { layer, head };
                let full =
                    engine.losses(oracle.tokens.view(), std::slice::from_ref(&zero)).unwrap();
                largest = largest.max(oracle.close(
                    &format!("ablate.{layer}.{head}.full"),
                    &full,
                    tolerance,
                ));
                let frozen =
                    (0..oracle.config.n_layers).map(|layer| Intervention::FreezePatterns { layer });
                let preserving = engine
                    .losses(oracle.tokens.view(), &frozen.chain([zero]).collect::<Vec<_>>())
                    .unwrap();
                let name = format!("ablate.{layer}.{head}.pattern_preserving");
                largest = largest.max(oracle.close(&name, &preserving, tolerance));
            }
        }
        largest
    });
}

#[test]
fn one_forced_head_is_the_whole_pattern_replaced() {
    let oracle = Oracle::load("two_layer");
    for engine in engines(&oracle.config, &oracle.params("param.")) {
        one_forced_head(&oracle, engine.as_ref());
    }
}

fn one_forced_head(oracle: &Oracle, engine: &dyn Engine) {
    let (examples, n_ctx) = (oracle.tokens.nrows(), oracle.config.n_ctx);
    let inputs = oracle.tokens.view().split_at(Axis(1), n_ctx).0;
    let mut whole = engine
        .activations(inputs, &[Hook::Pattern(1)], &[])
        .unwrap()
        .remove(&Hook::Pattern(1))
        .unwrap();
    // Head 1 attends to itself only.
    let own =
        ndarray::Array3::from_shape_fn((examples, n_ctx, n_ctx), |(_, q, k)| f32::from(q == k));
    whole.index_axis_mut(Axis(1), 1).assign(&own);
    let by_head = engine
        .losses(
            oracle.tokens.view(),
            &[Intervention::ForcePattern { layer: 1, head: 1, pattern: own }],
        )
        .unwrap();
    let by_layer = engine
        .losses(
            oracle.tokens.view(),
            &[Intervention::Replace { hook: Hook::Pattern(1), value: whole }],
        )
        .unwrap();
    let largest = (&by_head - &by_layer).iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!(
        f64::from(largest) < equal(engine),
        "{}: one head differs from the layer by {largest:e}",
        engine.name()
    );
    let plain = engine.losses(oracle.tokens.view(), &[]).unwrap();
    assert!((&by_head - &plain).iter().any(|x| x.abs() > 1e-2));
}
