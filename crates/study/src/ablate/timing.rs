//! How long a sweep takes.

use std::{path::Path, time::Instant};

use induction_ablation::single_heads;
use induction_metrics::{IclIndices, SameToken};
use induction_model::write_safetensors;
use ndarray::Array4;
use serde::Serialize;

use super::{held::Held, sweep::KINDS};
use crate::{Error, bench::median, device::Device, source::Source, stages::load_finite_model};

/// How long the removal of every head of one snapshot takes: one JSON line of `induction bench
/// ablate`.
#[derive(Clone, Debug, Serialize)]
pub struct AblateTiming {
    /// The engine.
    pub engine: String,
    /// Threads it worked on.
    pub threads: usize,
    /// Heads times kinds.
    pub ablations: usize,
    /// Tokens that each is run on, those of the fresh windows among them.
    pub tokens: usize,
    /// All of them, with the run without any, on examples and fresh windows, in seconds; the
    /// median.
    pub sweep_s: f64,
    /// Of it, one ablation's share.
    pub ablation_s: f64,
}

/// Times the removal of every head of a snapshot, in both kinds, on the current threads; leaves the
/// examples' losses in a file if asked: `clean` `[example, index]` and `ablated` `[layer, head,
/// kind, example * index]`, full before pattern-preserving.
///
/// # Errors
/// A damaged snapshot, too few held-out examples, or a file that cannot be written.
pub fn time_ablate(
    source: &Source,
    snapshot: &Path,
    device: Device,
    examples: usize,
    repetitions: usize,
    losses_file: Option<&Path>,
) -> Result<AblateTiming, Error> {
    let (config, params) = load_finite_model(snapshot)?;
    let engine = device.open(&config, &params)?;
    let held_out = source.held_out(examples)?;
    let n_ctx = held_out.ncols() - 1;
    let place = |source| Error::Metric { place: "ablation examples".into(), source };
    let indices = IclIndices::for_context(n_ctx).map_err(place)?;
    let held = Held::on(held_out, indices, SameToken::new(&indices, n_ctx).map_err(place)?)?;
    let ablations = single_heads(&config, &KINDS);
    let mut seconds = Vec::new();
    let mut losses = held.under(engine.as_ref(), &params, &ablations)?.long;
    for _ in 0..repetitions {
        let begun = Instant::now();
        losses = held.under(engine.as_ref(), &params, &ablations)?.long;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    if let Some(path) = losses_file {
        let each = losses.clean.len();
        let flat: Vec<f32> = losses.ablated.iter().flatten().copied().collect();
        let shape = (config.n_layers, config.n_heads, KINDS.len(), each);
        let ablated =
            Array4::from_shape_vec(shape, flat).expect("one loss a token and ablation").into_dyn();
        let clean = losses.clean.into_dyn();
        let bytes =
            write_safetensors([("clean".to_string(), &clean), ("ablated".to_string(), &ablated)]);
        induction_files::write_atomic(path, &bytes).map_err(Error::io(path))?;
    }
    let sweep_s = median(seconds);
    Ok(AblateTiming {
        engine: engine.name().to_string(),
        threads: rayon::current_num_threads(),
        ablations: ablations.len(),
        tokens: held.examples.nrows() * (n_ctx + held.same.fresh_len()),
        sweep_s,
        ablation_s: sweep_s / ablations.len() as f64,
    })
}
