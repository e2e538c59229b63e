//! What a model's weights say of its heads, without running it.

use induction_metrics::{
    BlockWeights, Circuits, CopyingCeiling, copying_ceiling, previous_position_recall,
};
use induction_model::{ModelConfig, Normalization, Params, sinusoidal_positions};
use ndarray::{Array2, ArrayView, ArrayView1, ArrayView2, Axis, Dimension, Ix1, Ix2, Ix3};
use rayon::prelude::*;

use super::tables::CompositionRow;

/// A head's measures by name.
pub(super) type Scores = Vec<(&'static str, Option<f64>)>;

/// The model's circuits, with layer norms folded.
///
/// # Errors
/// Weights that are not finite.
pub fn circuits(config: &ModelConfig, params: &Params) -> induction_metrics::Result<Circuits> {
    let blocks: Vec<BlockWeights<'_>> = (0..config.n_layers)
        .map(|l| BlockWeights {
            ln1: gain(params, &format!("blocks.{l}.ln1.w")),
            w_q: get::<Ix3>(params, &format!("blocks.{l}.attn.W_Q")),
            w_k: get::<Ix3>(params, &format!("blocks.{l}.attn.W_K")),
            w_v: get::<Ix3>(params, &format!("blocks.{l}.attn.W_V")),
            w_o: get::<Ix3>(params, &format!("blocks.{l}.attn.W_O")),
        })
        .collect();
    let (w_e, w_u) = (get::<Ix2>(params, "embed.W_E"), get::<Ix2>(params, "unembed.W_U"));
    Circuits::fold(w_e, &blocks, gain(params, "ln_final.w"), w_u)
}

/// What heads of the model can be expected to score of the copying measure on these samples
/// `[example, token]`.
///
/// Gains need no folding: an OV matrix takes any scale of its inputs and outputs into itself. What
/// layer norms centre away is no direction, though.
///
/// # Errors
/// Weights that are not finite.
pub(super) fn ceiling(
    config: &ModelConfig,
    params: &Params,
    samples: ArrayView2<u32>,
) -> induction_metrics::Result<CopyingCeiling> {
    let mut w_e: Array2<f32> = get::<Ix2>(params, "embed.W_E").to_owned();
    let mut w_u: Array2<f32> = get::<Ix2>(params, "unembed.W_U").to_owned();
    if let Some(gain) = gain(params, "ln_final.w") {
        w_u *= &gain.insert_axis(Axis(1));
    }
    if config.normalization == Normalization::LN {
        let centre = |weights: &mut Array2<f32>, axis: Axis| {
            weights.lanes_mut(axis).into_iter().for_each(|mut lane| {
                let mean = lane.sum() / lane.len() as f32;
                lane -= mean;
            });
        };
        centre(&mut w_e, Axis(1));
        centre(&mut w_u, Axis(0));
    }
    let samples: Vec<Vec<u32>> = samples.rows().into_iter().map(|row| row.to_vec()).collect();
    copying_ceiling(w_e.view(), w_u.view(), config.d_head, &samples)
}

/// `[layer][head]`; `previous` is each head's previous-token score.
pub(super) fn scores(
    config: &ModelConfig,
    params: &Params,
    circuits: &Circuits,
    previous: &[Vec<f64>],
) -> induction_metrics::Result<Vec<Vec<Scores>>> {
    let positions = sinusoidal_positions(config.n_ctx, config.d_model, config.position_base);
    let of_head = |(layer, head): (usize, usize)| -> induction_metrics::Result<Scores> {
        let weight = |name: &str| {
            let w = get::<Ix3>(params, &format!("blocks.{layer}.attn.{name}"))
                .index_axis_move(ndarray::Axis(0), head);
            w.mapv(f64::from)
        };
        let smear = params
            .get(&format!("blocks.{layer}.attn.smear_alpha"))
            .map(|alpha| 1.0 / (1.0 + (-f64::from(alpha[[head]])).exp()));
        let positional = previous_position_recall(
            weight("W_Q").view(),
            weight("W_K").view(),
            positions.view(),
            smear,
        )?;
        Ok(vec![
            ("ov_copying", Some(circuits.ov_copying(layer, head)?)),
            ("qk_trace", circuits.qk_trace(layer, head, previous)?),
            ("previous_position_recall", Some(positional)),
            ("k_composition_recall", circuits.k_composition_recall(layer, head, previous)?),
            ("ov_copy_recall", Some(circuits.ov_copy_recall(layer, head)?)),
        ])
    };
    let places: Vec<(usize, usize)> =
        (0..config.n_layers).flat_map(|l| (0..config.n_heads).map(move |h| (l, h))).collect();
    let flat: Vec<Scores> = places.into_par_iter().map(of_head).collect::<Result<_, _>>()?;
    Ok(flat.chunks(config.n_heads).map(<[Scores]>::to_vec).collect())
}

/// The composition scores of every pair of heads.
pub(super) fn composition(circuits: &Circuits, step: u64, tokens: u64) -> Vec<CompositionRow> {
    let row = |c: induction_metrics::Composition| CompositionRow {
        step,
        tokens,
        kind: c.kind.name().to_string(),
        from_layer: c.from.0,
        from_head: c.from.1,
        to_layer: c.to.0,
        to_head: c.to.1,
        score: c.score,
        raw: c.raw,
    };
    circuits.composition().into_iter().map(row).collect()
}

/// A parameter, in the number of dimensions that its name stands for.
pub(super) fn get<'a, D: Dimension>(params: &'a Params, name: &str) -> ArrayView<'a, f32, D> {
    let value = params.get(name).expect("a parameter of the configuration");
    value.view().into_dimensionality().expect("parameters have their configuration's shape")
}

/// A layer norm's gain; `None` for a model without.
pub(super) fn gain<'a>(params: &'a Params, name: &str) -> Option<ArrayView1<'a, f32>> {
    params.get(name).map(|_| get::<Ix1>(params, name))
}
