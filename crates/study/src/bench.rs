//! How fast an engine is here: training steps and evaluations on random tokens, in tokens a second
//! and in its own units.

use std::time::Instant;

use induction_engine::library_sgemm;
use induction_model::ModelConfig;
use induction_records::TrainSpec;
use induction_train::{Learner, Optimizer};
use ndarray::Array2;
use rand::Rng;
use serde::Serialize;

use crate::{Error, device::Device};

/// What to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Steps of training: forward, backward, clipping by the global norm, AdamW.
    Train,
    /// Losses of every token, without gradients.
    Evaluate,
}

/// One JSON line of `induction bench`, with the fields of fixtures/bench/pytorch.py and more.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// The engine.
    pub engine: String,
    /// How it multiplies matrices in this work.
    pub products: &'static str,
    /// Threads it worked on.
    pub threads: usize,
    /// Tokens a second, by the median of the timed repetitions.
    pub tokens_per_s: f64,
    /// GFLOP/s of a library's product of two 1024 x 1024 matrices on the same threads: a ceiling.
    /// Only with the feature `burn`, which brings the library.
    pub sgemm_gflops: Option<f64>,
    /// Floating-point operations that the model asks for, a token; causal attention counted at
    /// half.
    pub mflop_per_token: f64,
    /// Those, a second.
    pub gflops: f64,
    /// `gflops / sgemm_gflops`.
    pub share_of_sgemm: Option<f64>,
}

/// Times `work` on `batch` sequences of `config.n_ctx` random tokens, on the current threads.
///
/// # Errors
/// An invalid configuration.
pub fn time(
    device: Device,
    work: Work,
    config: &ModelConfig,
    batch: usize,
    repetitions: usize,
) -> Result<Timing, Error> {
    const WARM_UP: usize = 5;
    let params = config.init_params(0)?;
    let mut engine = device.open(config, &params)?;
    let spec = TrainSpec::new(u64::MAX, batch, 1e-3);
    let mut learner = Learner::new(engine.as_mut(), params, Optimizer::new(config), &spec)?;
    let mut rng = induction_random::stream(0, "bench", 0);
    let mut seconds = Vec::new();
    for repetition in 0..WARM_UP + repetitions {
        let examples = Array2::from_shape_simple_fn((batch, config.n_ctx + 1), || {
            rng.random_range(
                0..u32::try_from(config.d_vocab).expect("a vocabulary is at most 65,536"),
            )
        });
        let begun = Instant::now();
        match work {
            Work::Train => {
                learner.step(engine.as_mut(), examples.view(), spec.lr, &spec)?;
            }
            Work::Evaluate => {
                engine.losses(examples.view(), &[])?;
            }
        }
        if repetition >= WARM_UP {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    let tokens_per_s = (batch * config.n_ctx) as f64 / median(seconds);
    let sgemm_gflops = library_sgemm();
    let flop = forward_flop_per_token(config) * if work == Work::Train { 3.0 } else { 1.0 };
    let gflops = tokens_per_s * flop / 1e9;
    Ok(Timing {
        engine: engine.name().to_string(),
        products: device.products(work == Work::Train),
        threads: rayon::current_num_threads(),
        tokens_per_s: tokens_per_s.round(),
        sgemm_gflops: sgemm_gflops.map(|ceiling| rounded(ceiling, 1)),
        mflop_per_token: rounded(flop / 1e6, 3),
        gflops: rounded(gflops, 1),
        share_of_sgemm: sgemm_gflops.map(|ceiling| rounded(gflops / ceiling, 3)),
    })
}

/// Multiply-adds of the forward pass's matrix products, twice over; causal attention at half. The
/// backward pass takes twice as many.
pub fn forward_flop_per_token(config: &ModelConfig) -> f64 {
    let ModelConfig { n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab, .. } = *config;
    let heads = n_heads * d_head;
    let layer = 4 * d_model * heads + 2 * d_model * d_mlp + heads * n_ctx;
    2.0 * (n_layers * layer + d_model * d_vocab) as f64
}

fn rounded(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}

/// The median; of an even number the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flop_are_those_counted_by_hand() {
        // 2 layers, d_model 128, 4 heads of 32, context 512, vocabulary 512: 655,360 a token
        // forward.
        assert_eq!(forward_flop_per_token(&ModelConfig::default()), 655_360.0);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
