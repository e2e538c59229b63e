//! A small model learns to repeat, is stopped half-way, and goes on: `cargo run -p induction-train
//! --example toy_run`
//!
//! ```text
//! 600 steps; chance is ln(31) = 3.434 nats a token
//!  step   loss, first 16 tokens   the same, once more
//!     1                    3.873                    3.865
//!     2                    3.865                    3.859
//!     4                    3.840                    3.837
//!     8                    3.771                    3.774
//!    16                    3.578                    3.574
//!    32                    3.466                    3.453
//!    64                    3.493                    3.431
//!   100                    3.500                    0.629
//!   200                    3.256                    0.019
//!       Stopped { step: 250 }
//!       toy: going on from step 250 of 600
//!   300                    3.238                    0.012
//!   400                    3.244                    0.015
//!   500                    3.243                    0.004
//!   600                    3.246                    0.007
//!       Finished
//! snapshots kept: [0, 1, 2, 4, 8, 16, 32, 64, 100, 200, 300, 400, 500, 600]
//! ```
//!
//! Random tokens cannot be predicted the first time; the second time an induction head can. Smeared
//! keys let it form early.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use induction_engine::{CpuEngine, Engine};
use induction_records::{RunSpec, StepRow};
use induction_train::{Continue, Error, Observer, list_snapshots, train};
use ndarray::{Array2, Axis};
use rand::Rng;

const BLOCK: usize = 16;

/// A start token and 16 random tokens, twice: a pure function of the index, so there is no loader
/// whose state must be kept.
fn example(purpose: &str, index: u64) -> Vec<u32> {
    let mut random = induction_random::stream(0, purpose, index);
    let block: Vec<u32> = (0..BLOCK).map(|_| random.random_range(1..32)).collect();
    [&[0], &block[..], &block].concat()
}

struct Watch {
    held_out: Array2<u32>,
    stop_at: u64,
}

impl Observer for Watch {
    fn step(&mut self, metrics: &StepRow) -> Continue {
        if metrics.step == self.stop_at { Continue::Stop } else { Continue::Yes }
    }

    fn snapshot(&mut self, step: u64, engine: &dyn Engine) -> Result<(), Error> {
        let losses = engine.losses(self.held_out.view(), &[])?;
        // A match is found from the second token of the copy on.
        let (first, second) = losses.view().split_at(Axis(1), BLOCK + 1);
        let [first, second] = [first, second].map(|half| half.mean().unwrap_or(f32::NAN));
        println!("{step:5} {first:24.3} {second:24.3}");
        Ok(())
    }

    fn note(&mut self, message: &str) {
        println!("      {message}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spec = RunSpec::parse(
        "toy.toml".as_ref(),
        r#"
        format = 1
        name = "toy"
        seed = 0
        data = { source = "repeats", min_period = 16, max_period = 16 }
        model = { n_layers = 2, d_model = 64, n_heads = 4, d_head = 16, n_ctx = 32, d_vocab = 32, smeared_keys = true }
        train = { tokens = 307200, batch = 16, lr = 0.01 }
        snapshots = { every = 100 }
        evaluation = { examples = 64, icl_early = 4, icl_late = 30, icl_half_width = 1, prefix_block = 10, prefix_repeats = 3 }
        "#,
    )?;
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("toy");
    let held_out = Array2::from_shape_vec(
        (64, 2 * BLOCK + 1),
        (0..64).flat_map(|i| example("held out", i)).collect(),
    )?;
    let mut watch = Watch { held_out, stop_at: 250 };
    println!("{} steps; chance is ln(31) = {:.3} nats a token", spec.steps(), 31f64.ln());
    println!(" step   loss, first 16 tokens   the same, once more");
    let learned = |index| example("train", index);
    for _ in 0..2 {
        let mut engine = CpuEngine::new(&spec.model, &spec.model.init_params(spec.seed)?)?;
        let outcome = train(&spec, &learned, &mut engine, 1, &run, &mut watch)?;
        println!("      {outcome:?}");
        watch.stop_at = u64::MAX;
    }
    println!("snapshots kept: {:?}", list_snapshots(&run)?);
    Ok(())
}
