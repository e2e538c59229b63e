//! What must hold for any member of the family, of any size.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::{ops::Range, sync::Arc};

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use induction_engine::{BurnEngine, CpuEngine, Engine, Intervention, Model, StreamEngine, archs};
use induction_model::{
    Architecture, Clamp, Clamps, ForbiddenKeys, Hook, ModelConfig, Normalization, Pairs, Params,
    Positions, QkNorm, ReadParams, Rotary, Transformer,
};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis};
use oracle::engines;
use proptest::prelude::*;

prop_compose! {
    fn config()(
        n_layers in 1usize..4, half_d_model in 1usize..7, n_heads in 1usize..4, d_head in 1usize..6, d_mlp in 0usize..7,
        n_ctx in 1usize..9, d_vocab in 2usize..10, norm in normalization(), smeared_keys: bool, options in options(),
    ) -> ModelConfig {
        let d_model = 2 * half_d_model;
        let architecture = options.of(d_head);
        ModelConfig {
            n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab, normalization: norm, smeared_keys, architecture,
            ..ModelConfig::default()
        }
    }
}

fn normalization() -> impl Strategy<Value = Normalization> {
    prop_oneof![Just(Normalization::LN), Just(Normalization::RMS), Just(Normalization::None)]
}

/// What trained models may have otherwise than the paper's.
#[derive(Clone, Debug)]
struct Options {
    /// Share of each head that is turned, if any is, and in which pairs.
    rotary: Option<(f64, bool)>,
    qk_norm: bool,
    tied: bool,
}

prop_compose! {
    fn options()(rotary in prop::option::of((0.0..1.0, any::<bool>())), qk_norm: bool, tied: bool) -> Options {
        Options { rotary, qk_norm, tied }
    }
}

impl Options {
    fn of(self, d_head: usize) -> Architecture {
        let pairs = |share: f64| 1 + (share * (d_head / 2) as f64) as usize;
        let positions = match self.rotary.filter(|_| d_head > 1) {
            None => Positions::Sinusoidal,
            Some((share, adjacent)) => Positions::Rotary(Rotary {
                dim: (2 * pairs(share)).min(d_head - d_head % 2),
                base: 100.0,
                pairs: if adjacent { Pairs::Adjacent } else { Pairs::Half },
                scaling: None,
                attention_factor: None,
            }),
        };
        // Of heads of one or two numbers a norm leaves little but signs, and of their gradients little
        // but rounding.
        let qk_norm = if self.qk_norm && d_head > 2 { QkNorm::Head } else { QkNorm::None };
        Architecture { positions, qk_norm, tied_embeddings: self.tied, ..Architecture::default() }
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
    Array2::from_shape_simple_fn((rows, columns), || {
        rand::Rng::random_range(&mut rng, 0..config.d_vocab as u32)
    })
}

/// The keys that followed an earlier copy of each token.
fn forbidden(tokens: ndarray::ArrayView1<u32>) -> ForbiddenKeys {
    ForbiddenKeys::new(&[Clamp::ForbidInduction], &tokens.to_vec())
}

/// Mean loss and gradients by burn's own autodiff over the plain forward pass.
fn by_autodiff(config: &ModelConfig, params: &Params, examples: ArrayView2<u32>) -> (f32, Params) {
    let device = Device::flex().autodiff();
    let model = Transformer::from_params(config, params, &device).unwrap();
    let (batch, pos) = (examples.nrows(), examples.ncols() - 1);
    let part = |from: usize| -> Vec<u32> {
        examples
            .rows()
            .into_iter()
            .flat_map(|row| row.iter().skip(from).take(pos).copied().collect::<Vec<_>>())
            .collect()
    };
    let targets: Vec<i32> = part(1).iter().map(|&id| id as i32).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [batch * pos, 1]), &device);
    let logits = model.forward(&part(0), batch).reshape([batch * pos, config.d_vocab]);
    let loss = -activation::log_softmax(logits, 1).gather(1, targets).mean();
    let gradients = model.gradients(&loss.backward());
    (loss.into_scalar(), gradients)
}

/// Parameters of which matrices of blocks can be had by columns alone.
struct ByColumns(Params);

impl ReadParams for ByColumns {
    fn parameter(&self, name: &str) -> Result<ArrayD<f32>, induction_model::Error> {
        assert!(!name.contains(".W_") || !name.starts_with("blocks."), "{name} is asked for whole");
        self.0.parameter(name)
    }

    fn embedding_of(&self, tokens: &[u32]) -> Result<Array2<f32>, induction_model::Error> {
        self.0.embedding_of(tokens)
    }

    fn unembedding_of(&self, tokens: Range<usize>) -> Result<Array2<f32>, induction_model::Error> {
        self.0.unembedding_of(tokens)
    }

    fn columns_into(
        &self,
        name: &str,
        columns: Range<usize>,
        values: &mut [f32],
    ) -> Result<bool, induction_model::Error> {
        if !name.contains(".W_") || self.0.get(name).is_none() {
            return Ok(false);
        }
        let all = self.0.parameter(name)?;
        let last = Axis(all.ndim() - 1);
        let of_head = all.len_of(last);
        let per_column = if name.ends_with("W_O") {
            all.len()
        } else {
            all.len_of(Axis(all.ndim() - 2)) * of_head
        } / of_head;
        for (column, values) in columns.zip(values.chunks_exact_mut(per_column)) {
            let found = all.index_axis(last, column % of_head);
            let mut found = found.iter().skip(column / of_head * per_column);
            values.fill_with(|| *found.next().unwrap());
        }
        Ok(true)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_model_read_by_columns_is_the_same_to_the_bit(
        config in config(), wider in 0usize..80, d_mlp in 1usize..80, gated_mlp: bool, seed: u64,
    ) {
        let architecture = Architecture { gated_mlp, ..config.architecture.clone() };
        // What of a head is turned was drawn for the narrower one.
        let config = ModelConfig { d_head: config.d_head + wider, d_mlp, architecture, ..config };
        let params = params(&config, seed);
        let tokens = tokens(&config, seed, 2, config.n_ctx);
        let whole = CpuEngine::new(&config, &params).unwrap().logits(tokens.view(), &[]).unwrap();
        let streamed = StreamEngine::new(&config, Arc::new(ByColumns(params))).unwrap();
        prop_assert_eq!(whole, streamed.logits(tokens.view(), &[]).unwrap());
    }

    #[test]
    fn the_future_cannot_reach_the_past(config in config(), seed: u64) {
        let engine = CpuEngine::new(&config, &params(&config, seed)).unwrap();
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
        let engine = CpuEngine::new(&config, &params).unwrap();
        let examples = tokens(&config, seed, 2, config.n_ctx + 1);
        let zero = Intervention::ZeroHead { layer, head };
        let frozen = (0..config.n_layers).map(|layer| Intervention::FreezePatterns { layer });
        let preserving: Vec<Intervention> = frozen.chain([zero.clone()]).collect();
        let losses = engine.losses_under(examples.view(), &[&[], &[zero], &preserving]).unwrap();
        prop_assert_eq!(&losses[0], &losses[1]);
        prop_assert_eq!(&losses[0], &losses[2]);
    }

    #[test]
    fn training_and_evaluation_agree(config in config(), seed: u64) {
        let examples = tokens(&config, seed, 3, config.n_ctx + 1);
        for mut engine in engines(&config, &params(&config, seed)) {
            let mut gradients = Params::zeros(&config);
            let loss = engine.loss_and_gradients(examples.view().into(), &mut gradients).unwrap();
            let mean = engine.losses(examples.view(), &[]).unwrap().mean().unwrap();
            prop_assert!((loss - mean).abs() <= 1e-5 * (1.0 + mean.abs()), "{loss} {mean}");
            prop_assert!(gradients.first_not_finite().is_none());
        }
    }
}

prop_compose! {
    /// Sizes on both sides of a tile, a panel and a block of logits. No d_model of 2 or 4: layer
    /// norm leaves so little of a gradient there that two correct float32 programs differ by more
    /// than the tolerance.
    fn awkward()(
        n_layers in 1usize..3, half_d_model in 3usize..36, n_heads in 1usize..4, d_head in 1usize..40,
        d_mlp in prop_oneof![Just(0usize), 1usize..70], n_ctx in 1usize..140,
        d_vocab in prop_oneof![2usize..70, Just(257usize)], normalization in normalization(), smeared_keys: bool,
        clamp in 0usize..12, place: u64, options in options(),
    ) -> ModelConfig {
        let at = |place: u64| ((place % n_layers as u64) as usize, (place / 8 % n_heads as u64) as usize);
        let ((layer, head), (other_layer, other)) = (at(place), at(place >> 32));
        let copy = Clamp::Copy { layer: other_layer, head: other };
        let clamp = match clamp {
            0 => vec![Clamp::ForbidInduction],
            1 => vec![Clamp::PreviousToken { layer, head }],
            2 => vec![Clamp::Match { layer, head }, Clamp::ForbidPreviousToken],
            3 => vec![Clamp::Off { layer, head }],
            4 => vec![copy, Clamp::ForbidInduction, Clamp::ForbidPreviousToken],
            5 => vec![Clamp::Match { layer, head }, copy],
            _ => vec![],
        };
        let clamp = clamp.into_iter().collect();
        let d_model = 2 * half_d_model;
        let architecture = options.of(d_head);
        ModelConfig {
            n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab, normalization, smeared_keys, clamp, architecture,
            ..ModelConfig::default()
        }
    }
}

/// The norm of the difference over the norm of `expected`, or the difference itself where that is
/// nothing.
fn relative_error(found: &ndarray::ArrayD<f32>, expected: &ndarray::ArrayD<f32>) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let difference =
        norm(&mut found.iter().zip(expected).map(|(f, e)| f64::from(*f) - f64::from(*e)));
    difference / norm(&mut expected.iter().map(|&e| f64::from(e))).max(1e-3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What a clamp says of the patterns holds of them, in every layer and head.
    #[test]
    fn clamps_hold(config in awkward(), seed: u64) {
        let tokens = tokens(&config, seed, 2, config.n_ctx);
        let hooks: Vec<Hook> = (0..config.n_layers).map(Hook::Pattern).collect();
        for engine in engines(&config, &params(&config, seed)) {
            for (hook, patterns) in engine.activations(tokens.view(), &hooks, &[]).unwrap() {
                let patterns = patterns.into_dimensionality::<ndarray::Ix4>().unwrap();
                for (patterns, tokens) in patterns.outer_iter().zip(tokens.rows()) {
                    let keys = ForbiddenKeys::new(&config.clamp, &tokens.to_vec());
                    for (head, pattern) in patterns.outer_iter().enumerate() {
                        for (query, row) in pattern.outer_iter().enumerate() {
                            prop_assert!((row.sum() - 1.0).abs() < 1e-4);
                            let Some(given) = config.clamp.given(hook.layer().unwrap(), head) else {
                                prop_assert!(keys.of(query).iter().all(|&key| row[key as usize] == 0.0));
                                continue;
                            };
                            let mut sources = Vec::new();
                            given.sources(&tokens.to_vec(), &mut sources);
                            prop_assert!(row[sources[query] as usize] == 1.0);
                        }
                    }
                }
            }
        }
    }

    /// A model without what followed earlier copies is one whose heads are all forbidden it.
    #[test]
    fn forbidding_all_heads_is_the_clamp(config in awkward(), seed: u64) {
        let free = ModelConfig { clamp: Clamps::default(), ..config.clone() };
        let clamped = ModelConfig { clamp: Clamp::ForbidInduction.into(), ..config };
        let params = params(&free, seed);
        let examples = tokens(&free, seed, 2, free.n_ctx + 1);
        let keys: Arc<[ForbiddenKeys]> =
            examples.view().split_at(Axis(1), free.n_ctx).0.rows().into_iter().map(forbidden).collect();
        let all = (0..free.n_layers).flat_map(|layer| (0..free.n_heads).map(move |head| (layer, head)));
        let cut: Vec<_> = all.map(|(layer, head)| Intervention::ForbidKeys { layer, head, keys: keys.clone() }).collect();
        for (engine, other) in engines(&free, &params).into_iter().zip(engines(&clamped, &params)) {
            let found = engine.losses(examples.view(), &cut).unwrap();
            let expected = other.losses(examples.view(), &[]).unwrap();
            let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f32::max);
            prop_assert!(largest <= 2e-5, "{}: {:e}", engine.name(), largest);
        }
    }

    /// A head that attends to the previous token whatever its queries and keys say learns neither;
    /// a given pattern comes after the clamp.
    #[test]
    fn a_clamped_head_has_no_queries_and_keys_to_learn(config in awkward(), seed: u64) {
        let (layer, head) = ((seed % config.n_layers as u64) as usize, (seed / 8 % config.n_heads as u64) as usize);
        let free = ModelConfig { clamp: Clamps::default(), ..config.clone() };
        let config = ModelConfig { clamp: Clamp::PreviousToken { layer, head }.into(), ..config };
        let params = params(&config, seed);
        let examples = tokens(&config, seed, 2, config.n_ctx + 1);
        let shift = |(_, query, key): (usize, usize, usize)| f32::from(u8::from(key == query.saturating_sub(1)));
        let own = |(_, query, key): (usize, usize, usize)| f32::from(u8::from(key == query));
        let forced = |pattern: &dyn Fn((usize, usize, usize)) -> f32| {
            let pattern = ndarray::Array3::from_shape_fn((2, config.n_ctx, config.n_ctx), pattern);
            [Intervention::ForcePattern { layer, head, pattern }]
        };
        for (mut engine, other) in engines(&config, &params).into_iter().zip(engines(&free, &params)) {
            let mut gradients = Params::zeros(&config);
            engine.loss_and_gradients(examples.view().into(), &mut gradients).unwrap();
            for name in ["W_Q", "W_K"] {
                let gradient = gradients.get(&format!("blocks.{layer}.attn.{name}")).unwrap().index_axis(Axis(0), head);
                prop_assert!(gradient.iter().all(|&x| x == 0.0), "{} of the clamped head", name);
            }
            let smear = gradients.get(&format!("blocks.{layer}.attn.smear_alpha"));
            prop_assert!(smear.is_none_or(|gradient| gradient[[head]] == 0.0));
            // The clamp is what forcing the pattern is, and gives way where another is forced.
            let close = |a: Array2<f32>, b: Array2<f32>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()));
            let (mine, others) = (|set: &[Intervention]| engine.losses(examples.view(), set).unwrap(), |set: &[Intervention]| other.losses(examples.view(), set).unwrap());
            prop_assert!(close(mine(&[]), others(&forced(&shift))));
            prop_assert!(close(mine(&forced(&own)), others(&forced(&own))));
        }
    }

    /// To remove a head that copies is to turn it off, whether patterns are kept or not; the other
    /// copying heads go on.
    #[test]
    fn a_copying_head_that_is_removed_is_off(config in awkward(), seed: u64) {
        let at = ((seed % config.n_layers as u64) as usize, (seed / 8 % config.n_heads as u64) as usize);
        let (layer, head) = at;
        let others: Vec<Clamp> = config.clamp.iter().copied().filter(|clamp| clamp.head() != Some(at)).collect();
        let with = |own: Clamp| ModelConfig { clamp: others.iter().copied().chain([own]).collect(), ..config.clone() };
        let (copying, off) = (with(Clamp::Copy { layer, head }), with(Clamp::Off { layer, head }));
        let params = params(&config, seed);
        let examples = tokens(&config, seed, 2, config.n_ctx + 1);
        let zero = Intervention::ZeroHead { layer, head };
        for (engine, other) in engines(&copying, &params).into_iter().zip(engines(&off, &params)) {
            let expected = other.losses(examples.view(), &[]).unwrap();
            let close = |found: &Array2<f32>| found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()));
            prop_assert!(close(&engine.losses(examples.view(), std::slice::from_ref(&zero)).unwrap()));
            // The last layer's patterns are the same without the head.
            if layer + 1 == config.n_layers {
                let kept = [Intervention::FreezePatterns { layer }, zero.clone()];
                prop_assert!(close(&engine.losses(examples.view(), &kept).unwrap()));
            }
        }
    }

    /// Every gradient and activation of the hand-written passes, ours and burn's, against burn's
    /// autodiff; the instruction sets against each other to the bit. Its fresh buffers are NaN, so
    /// what is read unwritten shows here.
    #[test]
    fn the_cpu_engine_is_burn(config in awkward(), seed: u64, rows in 1usize..11) {
        let params = params(&config, seed);
        let examples = tokens(&config, seed, rows, config.n_ctx + 1);
        let inputs = examples.view().split_at(Axis(1), config.n_ctx).0;
        let mut burn = BurnEngine::flex(&config, &params).unwrap();
        let (loss, expected) = by_autodiff(&config, &params, examples.view());
        let mut hooks = vec![Hook::Embed];
        for l in 0..config.n_layers {
            hooks.extend([Hook::Q(l), Hook::K(l), Hook::V(l), Hook::Pattern(l), Hook::Z(l), Hook::AttnOut(l), Hook::ResidPost(l)]);
            hooks.extend((config.d_mlp > 0).then_some(Hook::MlpOut(l)));
        }
        let seen = burn.activations(inputs, &hooks, &[]).unwrap();
        let mut first = None;
        // Where terms cancel (a query with one key to see has no gradient), what is left is
        // rounding: a tensor whose gradient is under a hundredth of the whole is held against that
        // hundredth.
        let norm = |x: &ndarray::ArrayD<f32>| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let whole = expected.iter().map(|(_, x)| norm(x)).sum::<f64>().sqrt();
        let same = |found: &Params| {
            for ((name, found), (_, expected)) in found.iter().zip(expected.iter()) {
                let own = norm(expected).sqrt().max(1e-3);
                let error = relative_error(found, expected) * own / own.max(0.01 * whole);
                prop_assert!(error <= 1e-4, "gradient of {}: {:e}", name, error);
            }
            Ok(())
        };
        let mut by_hand = Params::zeros(&config);
        let burn_loss = burn.loss_and_gradients(examples.view().into(), &mut by_hand).unwrap();
        prop_assert!((loss - burn_loss).abs() <= 1e-5 * (1.0 + loss.abs()), "{} {}", loss, burn_loss);
        same(&by_hand)?;
        for arch in archs() {
            let mut engine = CpuEngine::on(arch, &config, &params).unwrap();
            let mut found = Params::zeros(&config);
            let mut again = Params::zeros(&config);
            let own_loss = engine.loss_and_gradients(examples.view().into(), &mut found).unwrap();
            prop_assert_eq!(own_loss, engine.loss_and_gradients(examples.view().into(), &mut again).unwrap());
            prop_assert!(found == again, "a second step in used buffers gives other bits");
            prop_assert!((loss - own_loss).abs() <= 1e-5 * (1.0 + loss.abs()), "{} {}", loss, own_loss);
            same(&found)?;
            for (hook, value) in engine.activations(inputs, &hooks, &[]).unwrap() {
                let error = relative_error(&value, &seen[&hook]);
                prop_assert!(error <= 1e-4, "{}: {:e}", hook, error);
            }
            let logits = engine.logits(inputs, &[]).unwrap();
            prop_assert!(relative_error(&logits.clone().into_dyn(), &burn.logits(inputs, &[]).unwrap().into_dyn()) <= 1e-4);
            let losses = engine.losses(examples.view(), &[]).unwrap();
            let results = (own_loss, found, logits, losses);
            let first = first.get_or_insert_with(|| results.clone());
            prop_assert!(*first == results, "{:?} gives other bits", arch);
        }
    }

    /// The float64 build's gradient along a random direction against the central difference of its
    /// loss.
    #[test]
    fn gradients_are_central_differences(config in awkward(), seed: u64) {
        let start = params(&config, seed);
        let weights: Vec<Vec<f64>> = start.iter().map(|(_, w)| w.iter().map(|&x| f64::from(x)).collect()).collect();
        let mut rng = induction_random::stream(seed, "direction", 0);
        let direction: Vec<Vec<f64>> =
            weights.iter().map(|w| w.iter().map(|_| rand::Rng::random_range(&mut rng, -1.0..1.0)).collect()).collect();
        let examples = tokens(&config, seed, 2, config.n_ctx + 1);
        let mut model = Model::<f64>::new(&config, archs()[0]).unwrap();
        let mut at = |distance: f64| {
            let moved: Vec<Vec<f64>> = weights
                .iter()
                .zip(&direction)
                .map(|(w, d)| w.iter().zip(d).map(|(w, d)| w + distance * d).collect())
                .collect();
            model.set(&moved.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let mut gradients: Vec<Vec<f64>> = weights.iter().map(|w| vec![f64::NAN; w.len()]).collect();
            let mut out: Vec<&mut [f64]> = gradients.iter_mut().map(Vec::as_mut_slice).collect();
            (model.loss_and_gradients(examples.view().into(), &mut out), gradients)
        };
        let (_, gradients) = at(0.0);
        let slope: f64 = gradients.iter().flatten().zip(direction.iter().flatten()).map(|(g, d)| g * d).sum();
        let step = 1e-5;
        let difference = (at(step).0 - at(-step).0) / (2.0 * step);
        prop_assert!((slope - difference).abs() <= 1e-5 * (1.0 + slope.abs()), "{} is not {}", slope, difference);
    }

    /// Sets of interventions asked for together, where layers below are not computed again, against
    /// one at a time.
    #[test]
    fn interventions_together_are_interventions_apart(config in awkward(), seed: u64) {
        let params = params(&config, seed);
        let examples = tokens(&config, seed, 3, config.n_ctx + 1);
        let inputs = examples.view().split_at(Axis(1), config.n_ctx).0;
        let engine = CpuEngine::new(&config, &params).unwrap();
        let burn = BurnEngine::flex(&config, &params).unwrap();
        let other = tokens(&config, seed ^ 7, 3, config.n_ctx);
        let layer = (seed % config.n_layers as u64) as usize;
        let head = (seed / 8 % config.n_heads as u64) as usize;
        let mut hooks = vec![Hook::Embed, Hook::Q(layer), Hook::K(layer), Hook::V(layer), Hook::Pattern(layer)];
        hooks.extend([Hook::Z(layer), Hook::AttnOut(layer), Hook::ResidPost(layer)]);
        hooks.extend((config.d_mlp > 0).then_some(Hook::MlpOut(layer)));
        let replaced = engine.activations(other.view(), &hooks, &[]).unwrap();
        let pattern = replaced[&Hook::Pattern(layer)].index_axis(Axis(1), head).into_dimensionality().unwrap().to_owned();
        let mut sets = vec![vec![], vec![Intervention::ZeroHead { layer, head }]];
        sets.push(vec![Intervention::ForcePattern { layer, head, pattern }, Intervention::ZeroHead { layer: 0, head: 0 }]);
        // Keys that followed an earlier copy, and others: those of other tokens.
        let keys = |of: &Array2<u32>| of.rows().into_iter().map(forbidden).collect();
        sets.push(vec![Intervention::ForbidKeys { layer, head, keys: keys(&other) }]);
        let all = (0..config.n_layers).flat_map(|layer| (0..config.n_heads).map(move |head| (layer, head)));
        let everywhere: Vec<_> = all.map(|(layer, head)| Intervention::ForbidKeys { layer, head, keys: keys(&inputs.to_owned()) }).collect();
        sets.push(everywhere);
        let cut_and_forced = vec![sets[2][0].clone(), sets[3][0].clone()];
        sets.push(cut_and_forced);
        let frozen = |from: usize| (from..config.n_layers).map(|layer| Intervention::FreezePatterns { layer });
        sets.push(frozen(0).chain([Intervention::ZeroHead { layer, head }]).collect());
        sets.push(frozen(1).chain([Intervention::ZeroHead { layer: 0, head: 0 }]).collect());
        // A pattern that is given wins over a frozen one, wherever it stands in the set.
        sets.push(frozen(0).chain(sets[2].clone()).collect());
        for hook in [Hook::Q(layer), Hook::K(layer), Hook::V(layer), Hook::Z(layer)] {
            let value = replaced[&hook].index_axis(Axis(2), head).into_dimensionality().unwrap().to_owned();
            let last: Array3<f32> = value;
            let from = (seed % config.n_ctx as u64) as usize;
            let some = last.slice_axis(Axis(1), (from..).into()).to_owned();
            sets.push(vec![Intervention::ReplaceHead { hook, head, from: 0, value: last }]);
            sets.push(vec![Intervention::ReplaceHead { hook, head, from, value: some }]);
        }
        sets.extend(replaced.into_iter().map(|(hook, value)| vec![Intervention::Replace { hook, value }]));
        sets.push(vec![]);
        let views: Vec<&[Intervention]> = sets.iter().map(Vec::as_slice).collect();
        let together = engine.losses_under(examples.view(), &views).unwrap();
        for (set, together) in sets.iter().zip(together) {
            let apart = engine.losses(examples.view(), set).unwrap();
            prop_assert!(apart == together, "{:?}", set.iter().map(Intervention::hook).collect::<Vec<_>>());
            let expected = burn.losses(examples.view(), set).unwrap();
            prop_assert!(apart.iter().zip(&expected).all(|(a, e)| (a - e).abs() <= 2e-4 * (1.0 + e.abs())));
            let seen = engine.activations(inputs, &[Hook::ResidPost(layer)], set).unwrap().into_values().next().unwrap();
            let expected = burn.activations(inputs, &[Hook::ResidPost(layer)], set).unwrap().into_values().next().unwrap();
            prop_assert!(relative_error(&seen, &expected) <= 1e-4);
        }
    }
}
