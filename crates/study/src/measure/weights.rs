//! What a model's weights say of its heads, without running it.

use induction_metrics::{
    BlockWeights, Circuits, CopyingCeiling, copying_ceiling, previous_position_recall,
};
use induction_model::{ModelConfig, Normalization, Params, sinusoidal_positions};
use induction_records::CompositionRow;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, CowArray, Ix3};
use rayon::prelude::*;

/// A head's measures by name.
pub(super) type Scores = Vec<(&'static str, Option<f64>)>;

/// The model's circuits, with the norms before and after attention folded.
///
/// # Errors
/// Weights that are not finite.
pub fn circuits(config: &ModelConfig, params: &Params) -> induction_metrics::Result<Circuits> {
    let written: Vec<CowArray<'_, f32, Ix3>> = (0..config.n_layers)
        .map(|l| params.block(l))
        .map(|block| match block.ln1_post() {
            Some(gain) => (&block.w_o() * &gain).into(),
            None => block.w_o().into(),
        })
        .collect();
    let blocks: Vec<BlockWeights<'_>> = (0..config.n_layers)
        .map(|l| (params.block(l), &written[l]))
        .map(|(block, w_o)| BlockWeights {
            ln1: block.ln1(),
            w_q: block.w_q(),
            w_k: block.w_k(),
            w_v: block.w_v(),
            w_o: w_o.view(),
        })
        .collect();
    Circuits::fold(params.embedding(), &blocks, params.ln_final(), params.unembedding())
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
    let (w_e, w_u) = (params.embedding().to_owned(), params.unembedding().to_owned());
    ceiling_between(config, [w_e, w_u], params.ln_final(), samples)
}

/// As [`ceiling`], between embeddings `[d_vocab, d_model]` and an unembedding `[d_model, d_vocab]`
/// with the final norm's gain before it.
///
/// # Errors
/// As [`ceiling`].
pub(crate) fn ceiling_between(
    config: &ModelConfig,
    [mut w_e, mut w_u]: [Array2<f32>; 2],
    gain: Option<ArrayView1<'_, f32>>,
    samples: ArrayView2<u32>,
) -> induction_metrics::Result<CopyingCeiling> {
    if let Some(gain) = gain {
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

/// A head, and what its measures are taken from.
pub(super) struct OfHead<'a> {
    params: &'a Params,
    circuits: &'a Circuits,
    /// Of every position, `[pos, d_model]`.
    positions: ArrayView2<'a, f64>,
    /// Each head's previous-token score, `[layer][head]`.
    previous: &'a [Vec<f64>],
    layer: usize,
    head: usize,
}

/// A measure of a head that is taken from weights.
pub(super) struct WeightMeasure {
    pub(super) name: &'static str,
    take: fn(&OfHead<'_>) -> induction_metrics::Result<Option<f64>>,
}

pub(super) const MEASURES: &[WeightMeasure] = &[
    WeightMeasure {
        name: "ov_copying",
        take: |of| of.circuits.ov_copying(of.layer, of.head).map(Some),
    },
    WeightMeasure {
        name: "qk_trace",
        take: |of| of.circuits.qk_trace(of.layer, of.head, of.previous),
    },
    WeightMeasure { name: "previous_position_recall", take: positional_recall },
    WeightMeasure {
        name: "k_composition_recall",
        take: |of| of.circuits.k_composition_recall(of.layer, of.head, of.previous),
    },
    WeightMeasure {
        name: "ov_copy_recall",
        take: |of| of.circuits.ov_copy_recall(of.layer, of.head).map(Some),
    },
];

fn positional_recall(of: &OfHead<'_>) -> induction_metrics::Result<Option<f64>> {
    let block = of.params.block(of.layer);
    let [queries, keys] =
        [block.w_q(), block.w_k()].map(|w| w.index_axis_move(Axis(0), of.head).mapv(f64::from));
    let smear = block.smear_alpha().map(|alpha| 1.0 / (1.0 + (-f64::from(alpha[of.head])).exp()));
    previous_position_recall(queries.view(), keys.view(), of.positions, smear).map(Some)
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
        let positions = positions.view();
        let of = OfHead { params, circuits, positions, previous, layer, head };
        MEASURES.iter().map(|measure| Ok((measure.name, (measure.take)(&of)?))).collect()
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
