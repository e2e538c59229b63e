//! What a model's weights say of its heads, without running it.

use induction_metrics::{
    BlockWeights, Circuits, CompositionKind, CopyingCeiling, copying_ceiling,
    previous_position_recall,
};
use induction_model::{
    Clamps, ModelConfig, Normalization, Params, Positions, sinusoidal_positions,
};
use induction_records::CompositionRow;
use ndarray::{Array2, Array3, ArrayView1, ArrayView2, ArrayView3, Axis};
use rayon::prelude::*;

/// A head's measures by name.
pub(super) type Scores = Vec<(&'static str, Option<f64>)>;

/// The model's circuits, with all norms folded: their gains go into the weights that read them or
/// write before them, their scales are dropped, and layer norms are left to centre. Rotary positions
/// are left out, as they are between a query and a key of one position.
///
/// # Errors
/// Weights that are not finite.
pub fn circuits(config: &ModelConfig, params: &Params) -> induction_metrics::Result<Circuits> {
    // Layer norms are `Circuits`' to fold; other gains are folded here.
    let centred = config.normalization == Normalization::LN;
    let folded = |w: ArrayView3<'_, f32>, rows: Option<ArrayView1<'_, f32>>, columns| {
        let mut w = w.to_owned();
        if let Some(rows) = rows.filter(|_| !centred) {
            w *= &rows.insert_axis(Axis(1));
        }
        if let Some(columns) = columns {
            w *= &columns;
        }
        w
    };
    let weights = (0..config.n_layers).map(|l| params.block(l)).map(|block| {
        let [q_norm, k_norm] = block.qk_norm().map_or([None, None], |gains| gains.map(Some));
        [
            folded(block.w_q(), block.ln1(), q_norm),
            folded(block.w_k(), block.ln1(), k_norm),
            folded(block.w_v(), block.ln1(), None),
            folded(block.w_o(), None, block.ln1_post()),
        ]
    });
    let weights: Vec<[Array3<f32>; 4]> = weights.collect();
    let blocks: Vec<BlockWeights<'_>> = weights
        .iter()
        .enumerate()
        .map(|(l, [w_q, w_k, w_v, w_o])| BlockWeights {
            ln1: params.block(l).ln1().filter(|_| centred),
            w_q: w_q.view(),
            w_k: w_k.view(),
            w_v: w_v.view(),
            w_o: w_o.view(),
        })
        .collect();
    let mut w_u = params.unembedding().to_owned();
    if let Some(gain) = params.ln_final().filter(|_| !centred) {
        w_u *= &gain.insert_axis(Axis(1));
    }
    let ln_final = params.ln_final().filter(|_| centred);
    Circuits::fold(params.embedding(), &blocks, ln_final, w_u.view())
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
    /// Of every position, `[pos, d_model]`, where they are added.
    positions: Option<ArrayView2<'a, f64>>,
    /// Each head's previous-token score, `[layer][head]`.
    previous: &'a [Vec<f64>],
    layer: usize,
    head: usize,
}

/// Which of a head's circuits a measure is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// What it attends to.
    Qk,
    /// What it writes; of a head that copies the identity, which scores 1, and of one that is off
    /// nothing, which scores 0.
    Ov,
}

/// A measure of a head that is taken from weights.
pub(super) struct WeightMeasure {
    pub(super) name: &'static str,
    of: Of,
    take: fn(&OfHead<'_>) -> induction_metrics::Result<Option<f64>>,
}

pub(super) const MEASURES: &[WeightMeasure] = &[
    WeightMeasure {
        name: "ov_copying",
        of: Of::Ov,
        take: |of| of.circuits.ov_copying(of.layer, of.head).map(Some),
    },
    WeightMeasure {
        name: "qk_trace",
        of: Of::Qk,
        take: |of| of.circuits.qk_trace(of.layer, of.head, of.previous),
    },
    WeightMeasure { name: "previous_position_recall", of: Of::Qk, take: positional_recall },
    WeightMeasure {
        name: "k_composition_recall",
        of: Of::Qk,
        take: |of| of.circuits.k_composition_recall(of.layer, of.head, of.previous),
    },
    WeightMeasure {
        name: "ov_copy_recall",
        of: Of::Ov,
        take: |of| of.circuits.ov_copy_recall(of.layer, of.head).map(Some),
    },
];

fn positional_recall(of: &OfHead<'_>) -> induction_metrics::Result<Option<f64>> {
    let Some(positions) = of.positions else { return Ok(None) };
    let block = of.params.block(of.layer);
    let [mut queries, mut keys] =
        [block.w_q(), block.w_k()].map(|w| w.index_axis_move(Axis(0), of.head).mapv(f64::from));
    if let Some([q, k]) = block.qk_norm() {
        queries *= &q.mapv(f64::from);
        keys *= &k.mapv(f64::from);
    }
    let smear = block.smear_alpha().map(|alpha| 1.0 / (1.0 + (-f64::from(alpha[of.head])).exp()));
    previous_position_recall(queries.view(), keys.view(), positions, smear).map(Some)
}

/// `[layer][head]`; `previous` is each head's previous-token score. A head whose attention is given
/// has nothing of its QK circuit; a silent one brings nothing to other heads' keys.
pub(super) fn scores(
    config: &ModelConfig,
    params: &Params,
    circuits: &Circuits,
    previous: &[Vec<f64>],
) -> induction_metrics::Result<Vec<Vec<Scores>>> {
    let sinusoidal = config.architecture.positions == Positions::Sinusoidal;
    let positions = sinusoidal
        .then(|| sinusoidal_positions(config.n_ctx, config.d_model, config.position_base));
    let clamps = &config.clamp;
    let heard = |layer: usize, head: usize, score: f64| {
        if clamps.silent(layer, head) { 0.0 } else { score }
    };
    let previous: Vec<Vec<f64>> = (0..)
        .zip(previous)
        .map(|(layer, scores)| (0..).zip(scores).map(|(h, &s)| heard(layer, h, s)).collect())
        .collect();
    let of_head = |(layer, head): (usize, usize)| -> induction_metrics::Result<Scores> {
        let positions = positions.as_ref().map(|positions| positions.view());
        let of = OfHead { params, circuits, positions, previous: &previous, layer, head };
        let take = |measure: &WeightMeasure| match measure.of {
            Of::Qk if clamps.given(layer, head).is_some() => Ok(None),
            Of::Ov if clamps.copies(layer, head) => Ok(Some(1.0)),
            Of::Ov if clamps.silent(layer, head) => Ok(Some(0.0)),
            _ => (measure.take)(&of),
        };
        MEASURES.iter().map(|measure| Ok((measure.name, take(measure)?))).collect()
    };
    let places: Vec<(usize, usize)> =
        (0..config.n_layers).flat_map(|l| (0..config.n_heads).map(move |h| (l, h))).collect();
    let flat: Vec<Scores> = places.into_par_iter().map(of_head).collect::<Result<_, _>>()?;
    Ok(flat.chunks(config.n_heads).map(<[Scores]>::to_vec).collect())
}

/// The composition scores of every pair of heads whose weights play a part in it: a silent head
/// writes nothing, and what a head attends to may be given.
pub(super) fn composition(
    clamps: &Clamps,
    circuits: &Circuits,
    step: u64,
    tokens: u64,
) -> Vec<CompositionRow> {
    let is_there = |c: &induction_metrics::Composition| {
        let (from, to) = (c.from, c.to);
        let read = match c.kind {
            CompositionKind::V => !clamps.silent(to.0, to.1),
            CompositionKind::Q | CompositionKind::K => clamps.given(to.0, to.1).is_none(),
        };
        read && !clamps.silent(from.0, from.1)
    };
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
    circuits.composition().into_iter().filter(is_there).map(row).collect()
}

#[cfg(test)]
mod tests {
    use induction_model::{Architecture, Clamp, QkNorm};

    use super::*;

    #[test]
    fn weights_that_play_no_part_have_no_scores() {
        let config = ModelConfig {
            n_layers: 2,
            d_model: 6,
            n_heads: 3,
            d_head: 2,
            n_ctx: 4,
            d_vocab: 7,
            clamp: [
                Clamp::PreviousToken { layer: 0, head: 0 },
                Clamp::Off { layer: 0, head: 1 },
                Clamp::Copy { layer: 1, head: 0 },
                Clamp::Match { layer: 1, head: 0 },
            ]
            .into_iter()
            .collect(),
            ..ModelConfig::default()
        };
        let free = ModelConfig { clamp: Clamps::default(), ..config.clone() };
        let params = config.init_params(3).unwrap();
        let circuits = circuits(&config, &params).unwrap();
        let previous = vec![vec![0.9, 0.4, 0.2]; 2];
        let of = |config: &ModelConfig, previous: &[Vec<f64>]| {
            let scores = scores(config, &params, &circuits, previous).unwrap();
            move |layer: usize, head: usize, name: &str| {
                scores[layer][head].iter().find(|(found, _)| *found == name).unwrap().1
            }
        };
        let (found, unclamped) = (of(&config, &previous), of(&free, &previous));
        for (layer, head, name, expected) in [
            (0, 0, "previous_position_recall", None),
            (0, 1, "ov_copying", Some(0.0)),
            (1, 0, "ov_copying", Some(1.0)),
            (1, 0, "ov_copy_recall", Some(1.0)),
            (1, 0, "qk_trace", None),
            (1, 0, "k_composition_recall", None),
        ] {
            assert_eq!(found(layer, head, name), expected, "{layer}.{head} {name}");
            assert_ne!(unclamped(layer, head, name), expected, "{layer}.{head} {name}");
        }
        // What is free is as before; the head that is off brings nothing to later keys.
        for name in ["ov_copying", "ov_copy_recall"] {
            assert_eq!(found(0, 0, name), unclamped(0, 0, name));
        }
        let without = of(&free, &[vec![0.9, 0.0, 0.2], vec![0.9, 0.4, 0.2]]);
        assert_eq!(found(1, 1, "qk_trace"), without(1, 1, "qk_trace"));
        assert_ne!(found(1, 1, "qk_trace"), unclamped(1, 1, "qk_trace"));
        let pairs: Vec<_> = composition(&config.clamp, &circuits, 0, 0)
            .into_iter()
            .map(|row| (row.kind, row.from_head, row.to_head))
            .collect();
        assert_eq!(composition(&free.clamp, &circuits, 0, 0).len(), 27);
        // From heads 0 and 2, into nothing of head 1.0, which copies what is given.
        assert_eq!(pairs.len(), 12);
        assert!(pairs.iter().all(|&(_, from, to)| from != 1 && to != 0));
    }

    /// A gain is folded: a model whose weights hold it, and whose gain is 1, has the same circuits.
    /// Root mean squares centre nothing, so those are the circuits of a model without norms.
    #[test]
    fn gains_of_root_mean_squares_are_the_weights() {
        let architecture = Architecture {
            qk_norm: QkNorm::Head,
            tied_embeddings: true,
            ..Architecture::default()
        };
        let plain = ModelConfig {
            n_layers: 2,
            d_model: 6,
            n_heads: 2,
            d_head: 3,
            n_ctx: 4,
            d_vocab: 7,
            normalization: Normalization::None,
            ..ModelConfig::default()
        };
        let normed =
            ModelConfig { normalization: Normalization::RMS, architecture, ..plain.clone() };
        let mut params = normed.init_params(3).unwrap();
        for (at, (_, value)) in
            params.iter_mut().filter(|(name, _)| name.ends_with(".w")).enumerate()
        {
            value.iter_mut().enumerate().for_each(|(i, x)| *x += 0.1 * ((at + 3 * i) % 5) as f32);
        }
        let without = Params::from_fn(&plain, |name, _| {
            let (block, own) = match name.strip_prefix("blocks.") {
                Some(rest) => rest.split_once('.').unwrap(),
                None => ("0", name),
            };
            let block = params.block(block.parse().unwrap());
            let ln1 = block.ln1().unwrap().insert_axis(Axis(1));
            let [q, k] = block.qk_norm().unwrap();
            match own {
                "attn.W_Q" => (&(&block.w_q() * &ln1) * &q).into_dyn(),
                "attn.W_K" => (&(&block.w_k() * &ln1) * &k).into_dyn(),
                "attn.W_V" => (&block.w_v() * &ln1).into_dyn(),
                "attn.pos_gain" => ndarray::arr1(&[1.0]).into_dyn(),
                "unembed.W_U" => {
                    let gain = params.ln_final().unwrap().insert_axis(Axis(1));
                    (&params.unembedding() * &gain).into_dyn()
                }
                _ => params.get(name).unwrap().clone(),
            }
        });
        let [found, expected] = [(&normed, &params), (&plain, &without)].map(|(config, params)| {
            let circuits = circuits(config, params).unwrap();
            let previous = vec![vec![0.3, 0.6]; 2];
            let scores = scores(config, params, &circuits, &previous).unwrap();
            (scores, circuits.composition())
        });
        assert!(found == expected, "{found:?} is not {expected:?}");
    }
}
