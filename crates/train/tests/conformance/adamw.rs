//! Ten AdamW steps with warm-up and global-norm clipping, against PyTorch in float64.

use induction_engine::{Engine, Exactness};
use induction_model::Params;
use induction_records::TrainSpec;
use induction_train::{Optimizer, clip_by_global_norm};

use crate::oracle::{CASES, Oracle, devices, engines, engines_on, equal, tolerance};

#[test]
fn ten_steps() {
    let mut largest = 0f64;
    for case in CASES {
        let oracle = Oracle::load(case);
        let setting = |key: &str| oracle.adamw[key].as_f64().unwrap();
        let spec = TrainSpec {
            warmup_steps: setting("warmup_steps") as u64,
            beta1: setting("beta1"),
            beta2: setting("beta2"),
            eps: setting("eps"),
            weight_decay: setting("weight_decay"),
            pos_gain_lr_scale: 1.0,
            clip_norm: setting("max_norm"),
            ..TrainSpec::new(1, 2, setting("lr"))
        };
        let params = oracle.params("param.");
        let mut all = engines(&oracle.config, &params);
        all.extend(
            devices().flat_map(|device| engines_on(device, false, true, &oracle.config, &params)),
        );
        for engine in all {
            largest = largest.max(ten_steps_on(engine, &oracle, &spec));
        }
    }
    println!("largest difference of a loss, norm or parameter in ten steps {largest:.1e}");
}

fn ten_steps_on(mut engine: Box<dyn Engine>, oracle: &Oracle, spec: &TrainSpec) -> f64 {
    let mut params = oracle.params("param.");
    let mut gradients = Params::zeros(&oracle.config);
    let mut optimizer = Optimizer::new(&oracle.config);
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    if let Some(device) = engine.resident() {
        device.load(&params, [&optimizer.m, &optimizer.v], &optimizer.kinds(spec)).unwrap();
    }
    for step in 1..=oracle.adamw["steps"].as_u64().unwrap() {
        let lr = spec.lr * (step as f64 / spec.warmup_steps as f64).min(1.0);
        if let Some(device) = engine.resident() {
            let found = device
                .step(oracle.tokens.view().into(), &optimizer.resident_step(lr, spec))
                .unwrap();
            losses.push(found.loss);
            norms.push(found.grad_norm as f32);
            continue;
        }
        losses
            .push(engine.loss_and_gradients(oracle.tokens.view().into(), &mut gradients).unwrap());
        let clip = clip_by_global_norm(&gradients, spec.clip_norm);
        norms.push(clip.norm as f32);
        optimizer.update(&mut params, &gradients, clip.scale, lr, spec);
        engine.set_params(&params).unwrap();
    }
    if let Some(device) = engine.resident() {
        device.fetch(&mut params, [&mut optimizer.m, &mut optimizer.v]).unwrap();
        // What the engine computes with is what was fetched.
        let with = engine.losses(oracle.tokens.view(), &[]).unwrap();
        engine.set_params(&params).unwrap();
        let again = engine.losses(oracle.tokens.view(), &[]).unwrap();
        let largest = (&with - &again).iter().fold(0f32, |m, x| m.max(x.abs()));
        let limit =
            if engine.exactness() == Exactness::Exact { 0.0 } else { equal(engine.as_ref()) };
        assert!(f64::from(largest) <= limit, "{}: {largest:e}", engine.name());
    }
    // The case must exercise both branches of the clipping.
    assert!(norms.iter().any(|&n| f64::from(n) > spec.clip_norm), "{}: never clipped", oracle.name);
    // Float32 against float64: rounding of ten steps adds up, in the norms of order 3 most.
    let of_one = tolerance(engine.as_ref());
    let close = |name: &str, found: &[f32], tolerance| oracle.close(name, found, tolerance);
    let mut largest = close("adamw.losses", &losses, of_one).max(close(
        "adamw.grad_norms",
        &norms,
        10.0 * of_one,
    ));
    for (name, value) in params.iter() {
        largest = largest.max(oracle.close(&format!("adamw.param.{name}"), value, 10.0 * of_one));
    }
    largest
}
