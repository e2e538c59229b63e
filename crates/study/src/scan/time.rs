//! How fast a model that is there is read and run: the counterpart of fixtures/bench/scan_peer.py.

use std::{path::Path, time::Instant};

use induction_metrics::{PrefixMatchingSample, prefix_matching, previous_token};
use induction_model::Hook;
use ndarray::Ix4;
use serde::Serialize;

use crate::{Error, device::Device, source::EVALUATION_SEED};

/// One JSON line of `induction bench scan`.
#[derive(Clone, Debug, Serialize)]
pub struct ScanTiming {
    /// The engine.
    pub engine: String,
    /// Threads it worked on.
    pub threads: usize,
    /// Tokens of all sequences.
    pub tokens: usize,
    /// Seconds from the file to an engine that is ready, and what its first pass took beyond the
    /// best one: weights that stay on a device are read in that.
    pub load_s: f64,
    /// Tokens a second, by the best of the repetitions.
    pub tokens_per_s: Rates,
}

/// Tokens a second of each piece of work.
#[derive(Clone, Debug, Serialize)]
pub struct Rates {
    /// The loss of every token.
    pub losses: f64,
    /// Prefix matching and attention to the previous token of every head, from all attention
    /// patterns; no logits.
    pub heads: f64,
}

/// Times loading, and both kinds of work on `sequences` rows of `length` random tokens: a start
/// token and a block four times.
///
/// # Errors
/// As [`open`](super::open); lengths that hold no block or that the model cannot read.
pub fn time_scan(
    path: &Path,
    device: Device,
    sequences: usize,
    length: usize,
    repetitions: usize,
) -> Result<ScanTiming, Error> {
    let begun = Instant::now();
    let opened = super::open(path)?;
    let engine = opened.engine(device)?;
    let opened_s = begun.elapsed().as_secs_f64();
    let place = |source| Error::Metric { place: "random tokens".into(), source };
    let sample = PrefixMatchingSample { block: length.saturating_sub(1) / 4, repeats: 4 };
    let tokens =
        sample.batch(EVALUATION_SEED, sequences, opened.bos, &opened.allowed).map_err(place)?;
    let losses = || engine.losses(tokens.view(), &[]).map(drop).map_err(Error::from);
    let hooks: Vec<Hook> = (0..opened.config.n_layers).map(Hook::Pattern).collect();
    let heads = || {
        let seen = engine.activations(tokens.view(), &hooks, &[])?;
        for pattern in seen.values() {
            let pattern =
                pattern.view().into_dimensionality::<Ix4>().expect("patterns have rank 4");
            let matching = prefix_matching(pattern, tokens.view(), sample).map_err(place)?;
            std::hint::black_box((matching, previous_token(pattern).map_err(place)?));
        }
        Ok(())
    };
    let works: [&dyn Fn() -> Result<(), Error>; 2] = [&losses, &heads];
    let mut best = [f64::INFINITY; 2];
    let begun = Instant::now();
    losses()?;
    let first_s = begun.elapsed().as_secs_f64();
    heads()?;
    for _ in 0..repetitions {
        for (work, best) in works.iter().zip(&mut best) {
            let begun = Instant::now();
            work()?;
            *best = best.min(begun.elapsed().as_secs_f64());
        }
    }
    let load_s = opened_s + (first_s - best[0]).max(0.0);
    let [losses, heads] = best.map(|seconds| (10.0 * tokens.len() as f64 / seconds).round() / 10.0);
    Ok(ScanTiming {
        engine: engine.name().to_string(),
        threads: rayon::current_num_threads(),
        tokens: tokens.len(),
        load_s: (100.0 * load_s).round() / 100.0,
        tokens_per_s: Rates { losses, heads },
    })
}
