//! What a head reads when the outputs of earlier heads are taken out of the residual stream before
//! it.

use std::collections::BTreeMap;

use induction_model::{Hook, ModelConfig, Params};
use ndarray::{Array2, Array3, ArrayD, ArrayView4, Axis, Ix3, Ix4};
use rayon::prelude::*;

use crate::{HeadId, HeadReading, Reads};

/// Where what a head of a layer reads is found.
pub(crate) fn read_at(reads: Reads, layer: usize) -> Hook {
    match reads {
        Reads::Queries => Hook::Q(layer),
        Reads::Keys => Hook::K(layer),
        Reads::Values => Hook::V(layer),
    }
}

/// The activations of a pass without interventions, by hook.
pub(crate) type Clean = BTreeMap<Hook, ArrayD<f32>>;

/// The residual stream that a layer reads.
pub(crate) fn input_of(layer: usize) -> Hook {
    layer.checked_sub(1).map_or(Hook::Embed, Hook::ResidPost)
}

/// The queries, keys or values of `to` without what the heads `from` wrote, taken out one after the
/// other, `[example, pos, d_head]`. `clean` holds the `z` of each and `to`'s [`input_of`].
pub(crate) fn without(
    config: &ModelConfig,
    params: &Params,
    clean: &Clean,
    from: &[HeadId],
    to: HeadId,
    into: Reads,
) -> Array3<f32> {
    let input = clean[&input_of(to.layer)]
        .view()
        .into_dimensionality::<Ix3>()
        .expect("the residual stream has rank 3");
    let written: Vec<(ArrayView4<f32>, usize, Array2<f64>)> = from
        .iter()
        .map(|&head| {
            let w_o = params.block(head.layer).w_o().index_axis_move(Axis(0), head.head);
            (by_head(&clean[&Hook::Z(head.layer)]), head.head, w_o.mapv(f64::from))
        })
        .collect();
    let (examples, pos) = (input.len_of(Axis(0)), input.len_of(Axis(1)));
    let reading =
        HeadReading::new(config, params, to, pos).expect("a model's parameters are all there");

    let mut out = Array3::zeros((examples, pos, config.d_head));
    let rows: Vec<_> = out.outer_iter_mut().zip(input.outer_iter()).enumerate().collect();
    rows.into_par_iter().for_each(|(example, (mut out, input))| {
        let mut stream = input.mapv(f64::from);
        for (z, head, w_o) in &written {
            let z = z.index_axis(Axis(0), example).index_axis_move(Axis(1), *head);
            stream -= &z.mapv(f64::from).dot(w_o);
        }
        let read = reading.read(into, reading.normed(stream.view()).view());
        out.zip_mut_with(&read, |out, read| *out = *read as f32);
    });
    out
}

fn by_head(array: &ArrayD<f32>) -> ArrayView4<'_, f32> {
    array.view().into_dimensionality::<Ix4>().expect("a vector a head")
}

#[cfg(test)]
mod tests {
    use induction_engine::{CpuEngine, Engine, Intervention};
    use induction_model::{Architecture, Normalization, Pairs, Positions, QkNorm, Rotary};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Without layer norm, what is read without a set of heads lacks the sum of what it lacks
        /// without each.
        #[test]
        fn what_is_cut_together_adds_up(seed: u64, smeared_keys: bool, count in 0usize..5) {
            let config = ModelConfig {
                n_layers: 3, d_model: 12, n_heads: 2, d_head: 5, d_mlp: 10, n_ctx: 9, d_vocab: 7, smeared_keys,
                normalization: Normalization::None, ..ModelConfig::default()
            };
            let mut params = config.init_params(seed).unwrap();
            params.iter_mut().filter(|(name, _)| name.contains("W_")).for_each(|(_, w)| *w *= 5.0);
            let engine = CpuEngine::new(&config, &params).unwrap();
            let tokens = Array2::from_shape_fn((3, 9), |(i, j)| ((seed >> 3) as usize % 5 + i * j + j) as u32 % 7);
            let clean = engine.activations(tokens.view(), &[Hook::Z(0), Hook::Z(1), input_of(2)], &[]).unwrap();
            let all = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(layer, head)| HeadId { layer, head });
            for into in [Reads::Queries, Reads::Keys, Reads::Values] {
                let read = |from: &[HeadId]| without(&config, &params, &clean, from, HeadId { layer: 2, head: 1 }, into);
                let whole = read(&[]);
                let each = all[..count].iter().map(|&head| &whole - &read(&[head]));
                let expected = each.fold(whole.clone(), |rest, lacks| rest - lacks);
                // Large terms may cancel in any one sum, so rounding is held against the largest of
                // all.
                let largest = whole.iter().chain(&expected).fold(1.0f32, |largest, x| largest.max(x.abs()));
                for (found, expected) in read(&all[..count]).iter().zip(&expected) {
                    prop_assert!((found - expected).abs() <= 1e-4 * largest, "{} is not {}", found, expected);
                }
            }
        }

        /// A head whose queries, keys and values all lack the output of every head below reads the
        /// embedding alone: what it reads in a model without those heads.
        #[test]
        fn cutting_all_paths_is_reading_a_model_without_the_heads(
            seed: u64, norm in 0usize..3, smeared_keys: bool, below in 1usize..3, n_heads in 1usize..4,
            rotary: bool, qk_norm: bool,
        ) {
            let normalization = [Normalization::LN, Normalization::RMS, Normalization::None][norm];
            let mut architecture = Architecture::default();
            if rotary {
                architecture.positions = Positions::Rotary(Rotary {
                    dim: 4, base: 100.0, pairs: Pairs::Half, scaling: None, attention_factor: None,
                });
            }
            if qk_norm {
                architecture.qk_norm = QkNorm::Head;
            }
            let config = ModelConfig {
                n_layers: below + 1, d_model: 12, n_heads, d_head: 5, n_ctx: 9, d_vocab: 7, normalization, smeared_keys,
                architecture, ..ModelConfig::default()
            };
            let mut params = config.init_params(seed).unwrap();
            for (name, value) in params.iter_mut() {
                if !name.contains("W_") {
                    let mut rng = induction_random::stream(seed, name, 1);
                    value.mapv_inplace(|x| x + rand::Rng::random_range(&mut rng, -0.5f32..0.5));
                }
            }
            let engine = CpuEngine::new(&config, &params).unwrap();
            let tokens = Array2::from_shape_fn((3, 9), |(i, j)| ((seed >> 3) as usize % 5 + i * j + j) as u32 % 7);
            let from: Vec<HeadId> =
                (0..below).flat_map(|layer| (0..n_heads).map(move |head| HeadId { layer, head })).collect();
            let to = HeadId { layer: below, head: n_heads - 1 };
            let hooks: Vec<Hook> = (0..below).map(Hook::Z).chain([input_of(below)]).collect();
            let clean = engine.activations(tokens.view(), &hooks, &[]).unwrap();
            let cut = [Reads::Queries, Reads::Keys, Reads::Values].map(|into| {
                let value = without(&config, &params, &clean, &from, to, into);
                Intervention::ReplaceHead { hook: read_at(into, to.layer), head: to.head, from: 0, value }
            });
            let removed: Vec<_> =
                from.iter().map(|&HeadId { layer, head }| Intervention::ZeroHead { layer, head }).collect();
            let [found, expected] = [&cut[..], &removed].map(|set| {
                let seen = engine.activations(tokens.view(), &[Hook::Z(to.layer)], set).unwrap();
                by_head(&seen[&Hook::Z(to.layer)]).index_axis(Axis(2), to.head).to_owned()
            });
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((found - expected).abs() <= 1e-4 * (1.0 + expected.abs()), "{} is not {}", found, expected);
            }
        }
    }
}
