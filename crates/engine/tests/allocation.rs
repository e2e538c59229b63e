//! A step that has been made before allocates next to nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use induction_engine::{CpuEngine, Engine};
use induction_model::{Clamp, Clamps, ModelConfig, Params};
use ndarray::Array2;

#[test]
fn steps_and_evaluations_reuse_their_memory() {
    let (layer, head) = (0, 0);
    for clamp in [
        Clamps::default(),
        Clamp::PreviousToken { layer, head }.into(),
        Clamp::ForbidInduction.into(),
        Clamp::Copy { layer, head }.into(),
    ] {
        reuses_its_memory(&ModelConfig {
            d_mlp: 512,
            smeared_keys: true,
            n_ctx: 256,
            clamp,
            ..ModelConfig::default()
        });
    }
}

fn reuses_its_memory(config: &ModelConfig) {
    let params = config.init_params(0).unwrap();
    let examples = Array2::from_shape_fn((6, config.n_ctx + 1), |(row, at)| {
        ((row * 31 + at * at) % 512) as u32
    });
    // The same token again and again: as many repetitions as there can be.
    let repetitive = Array2::from_elem((6, config.n_ctx + 1), 7);
    let mut gradients = Params::zeros(config);
    let mut engine = CpuEngine::new(config, &params).unwrap();
    // One thread, so that the thread that counts does all the work.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let [first, later, evaluation] = pool.install(|| {
        let mut step = |examples: &Array2<u32>| {
            allocation_counter::measure(|| {
                engine.set_params(&params).unwrap();
                engine.loss_and_gradients(examples.view().into(), &mut gradients).unwrap();
            })
        };
        let (first, later) = (step(&examples), step(&repetitive));
        let evaluation =
            allocation_counter::measure(|| drop(engine.losses(examples.view(), &[]).unwrap()));
        [first, later, evaluation].map(|info| info.bytes_total)
    });
    println!(
        "{:?}, bytes: first step {first}, second {later}, evaluation {evaluation}",
        config.clamp
    );
    assert!(first > 10_000_000, "the first step must make the buffers: {first}");
    // Names and shapes of parameters, lists of slices, one row of losses an example.
    assert!(later < 50_000, "a second step allocated {later} bytes");
    assert!(evaluation < 50_000, "an evaluation allocated {evaluation} bytes");
}
