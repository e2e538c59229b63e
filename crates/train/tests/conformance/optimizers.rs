//! Ten steps of SGD and of Muon, against PyTorch's in float64.

use induction_model::{ModelConfig, Params};
use induction_records::{OptimizerKind, TrainSpec};
use induction_train::Optimizer;

use crate::oracle::arrays;

#[test]
fn ten_steps_of_each() {
    let config = ModelConfig {
        n_layers: 1,
        d_model: 6,
        n_heads: 3,
        d_head: 4,
        d_mlp: 10,
        n_ctx: 4,
        d_vocab: 7,
        ..ModelConfig::default()
    };
    let arrays = arrays("optimizers");
    let params = |prefix: &str| {
        Params::from_fn(&config, |name, _| arrays[&format!("{prefix}{name}")].mapv(|x| x as f32))
    };
    for (optimizer, prefix) in [(OptimizerKind::Sgd, "sgd."), (OptimizerKind::Muon, "muon.")] {
        let spec = TrainSpec {
            optimizer,
            weight_decay: 0.1,
            pos_gain_lr_scale: 1.0,
            ..TrainSpec::new(1, 1, 0.02)
        };
        let mut found = params("param.");
        let mut state = Optimizer::new(&config);
        for step in 0..10 {
            // As if clipping had asked for a quarter.
            let mut gradients = params(&format!("grad.{step}."));
            gradients.iter_mut().for_each(|(_, g)| g.mapv_inplace(|g| 4.0 * g));
            state.update(&mut found, &gradients, 0.25, 0.02, &spec);
        }
        let mut largest = 0f64;
        for (name, found) in found.iter() {
            let expected = &arrays[&format!("{prefix}{name}")];
            for (&found, &expected) in found.iter().zip(expected) {
                let error = (f64::from(found) - expected).abs();
                assert!(error <= 1e-5, "{prefix}{name}: {found} is not {expected}");
                largest = largest.max(error);
            }
        }
        println!("largest difference of a parameter in ten steps, {prefix} {largest:.1e}");
    }
}
