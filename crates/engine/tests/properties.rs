//! What must hold for any member of the family, of any size.

#![allow(clippy::unwrap_used)]

use induction_engine::{BurnEngine, Engine, Intervention};
use induction_model::{ModelConfig, Normalization, Params};
use ndarray::{Array2, Axis};
use proptest::prelude::*;

prop_compose! {
    fn config()(
        n_layers in 1usize..4, half_d_model in 1usize..7, n_heads in 1usize..4, d_head in 1usize..6, d_mlp in 0usize..7,
        n_ctx in 1usize..9, d_vocab in 2usize..10, norm: bool, smeared_keys: bool,
    ) -> ModelConfig {
        let normalization = if norm { Normalization::LN } else { Normalization::None };
        let d_model = 2 * half_d_model;
        ModelConfig { n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab, normalization, smeared_keys, ..ModelConfig::default() }
    }
}

/// Random weights everywhere, gains and smear amounts included.
fn params(config: &ModelConfig, seed: u64) -> Params {
    let mut params = config.init_params(seed).unwrap();
    for (name, value) in params.iter_mut() {
        if !name.contains("W_") {
            let mut rng = induction_random::stream(seed, name, 1);
            value.mapv_inplace(|x| x + rand::Rng::random_range(&mut rng, -0.5f32..0.5));
        }
    }
    params
}

fn tokens(config: &ModelConfig, seed: u64, rows: usize, columns: usize) -> Array2<u32> {
    let mut rng = induction_random::stream(seed, "tokens", 0);
    Array2::from_shape_simple_fn((rows, columns), || rand::Rng::random_range(&mut rng, 0..config.d_vocab as u32))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_future_cannot_reach_the_past(config in config(), seed: u64) {
        let engine = BurnEngine::flex(&config, &params(&config, seed)).unwrap();
        let first = tokens(&config, seed, 2, config.n_ctx);
        let cut = config.n_ctx / 2;
        let mut second = tokens(&config, seed ^ 1, 2, config.n_ctx);
        second.view_mut().split_at(Axis(1), cut).0.assign(&first.view().split_at(Axis(1), cut).0);
        let (a, b) = (engine.logits(first.view(), &[]).unwrap(), engine.logits(second.view(), &[]).unwrap());
        let before = |x: &ndarray::Array3<f32>| x.view().split_at(Axis(1), cut).0.to_owned();
        let (a, b) = (before(&a), before(&b));
        prop_assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + a.abs())));
    }

    #[test]
    fn a_head_that_writes_nothing_can_be_removed_to_the_bit(config in config(), seed: u64) {
        let (layer, head) = ((seed % config.n_layers as u64) as usize, (seed / 8 % config.n_heads as u64) as usize);
        let mut params = params(&config, seed);
        params.get_mut(&format!("blocks.{layer}.attn.W_O")).unwrap().index_axis_mut(Axis(0), head).fill(0.0);
        let engine = BurnEngine::flex(&config, &params).unwrap();
        let examples = tokens(&config, seed, 2, config.n_ctx + 1);
        let whole = engine.losses(examples.view(), &[]).unwrap();
        let without = engine.losses(examples.view(), &[Intervention::ZeroHead { layer, head }]).unwrap();
        prop_assert_eq!(whole, without);
    }

    #[test]
    fn training_and_evaluation_agree(config in config(), seed: u64) {
        let mut engine = BurnEngine::flex(&config, &params(&config, seed)).unwrap();
        let examples = tokens(&config, seed, 3, config.n_ctx + 1);
        let (loss, gradients) = engine.loss_and_gradients(examples.view()).unwrap();
        let mean = engine.losses(examples.view(), &[]).unwrap().mean().unwrap();
        prop_assert!((loss - mean).abs() <= 1e-5 * (1.0 + mean.abs()), "{loss} {mean}");
        prop_assert!(gradients.first_not_finite().is_none());
    }
}
