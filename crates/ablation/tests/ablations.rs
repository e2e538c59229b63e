//! Ablations against closed forms, sums over paths, and another engine.

#![allow(clippy::unwrap_used)]

use induction_ablation::{
    Ablation, Downstream, Fill, HeadId, IdealPattern, Inputs, Reads, losses_under, single_heads,
};
use induction_engine::{BurnEngine, CpuEngine, Engine, Intervention};
use induction_model::{Architecture, HandBuilt, Hook, ModelConfig, Normalization, Params};
use ndarray::{Array2, Array3, ArrayView2, Axis, Ix4};
use proptest::prelude::*;

const BOTH: [Downstream; 2] = [Downstream::Full, Downstream::PatternPreserving];

fn head(layer: usize, head: usize) -> HeadId {
    HeadId { layer, head }
}

fn tokens(seed: u64, rows: usize, columns: usize, d_vocab: usize) -> Array2<u32> {
    let mut rng = induction_random::stream(seed, "tokens", 0);
    Array2::from_shape_simple_fn((rows, columns), || {
        rand::Rng::random_range(&mut rng, 0..d_vocab as u32)
    })
}

/// Without layer norm and MLPs, and with the patterns given, a model is linear: its logits are the
/// sum over all paths from the embedding through at most one head a layer, and a pattern-preserving
/// ablation leaves those that avoid the head (paper.md, 4).
#[test]
fn a_pattern_preserving_ablation_leaves_the_paths_without_the_head() {
    let config = ModelConfig {
        n_layers: 3,
        d_model: 16,
        n_heads: 2,
        d_head: 8,
        n_ctx: 12,
        d_vocab: 11,
        normalization: Normalization::None,
        ..ModelConfig::default()
    };
    let mut params = config.init_params(3).unwrap();
    // Larger than at the start of training, so that every path weighs something.
    params
        .iter_mut()
        .filter(|(name, _)| name.contains("W_"))
        .for_each(|(_, w)| w.mapv_inplace(|x| 2.0 * x));
    let engine = CpuEngine::new(&config, &params).unwrap();
    let tokens = tokens(1, 1, config.n_ctx, config.d_vocab);
    let hooks: Vec<Hook> = (0..config.n_layers).map(Hook::Pattern).collect();
    let patterns = engine.activations(tokens.view(), &hooks, &[]).unwrap();
    let pattern = |l: usize, h: usize| -> Array2<f64> {
        let all = patterns[&Hook::Pattern(l)].view().into_dimensionality::<Ix4>().unwrap();
        all.index_axis(Axis(0), 0).index_axis(Axis(0), h).mapv(f64::from)
    };
    let [w_e, w_u] = [params.embedding(), params.unembedding()].map(|w| w.mapv(f64::from));
    let embedded = Array2::from_shape_fn((config.n_ctx, config.d_model), |(t, x)| {
        w_e[[tokens[[0, t]] as usize, x]]
    });

    // Every path: the heads that it goes through, and what it adds to the logits.
    let mut paths: Vec<(Vec<HeadId>, Array2<f64>)> = vec![(Vec::new(), embedded)];
    for l in 0..config.n_layers {
        for (through, stream) in paths.clone() {
            for h in 0..config.n_heads {
                let [w_v, w_o] = [params.block(l).w_v(), params.block(l).w_o()]
                    .map(|w| w.index_axis(Axis(0), h).mapv(f64::from));
                let ov = w_v.dot(&w_o);
                let through = through.iter().copied().chain([head(l, h)]).collect();
                paths.push((through, pattern(l, h).dot(&stream).dot(&ov)));
            }
        }
    }
    assert_eq!(paths.len(), 27);
    let logits = |keep: &dyn Fn(&[HeadId]) -> bool| -> Array2<f64> {
        let kept = paths.iter().filter(|(through, _)| keep(through));
        kept.fold(Array2::zeros((config.n_ctx, config.d_vocab)), |sum, (_, stream)| {
            sum + stream.dot(&w_u)
        })
    };
    let close = |found: &Array3<f32>, expected: &Array2<f64>| {
        let found = found.index_axis(Axis(0), 0).mapv(f64::from);
        let largest = (&found - expected).iter().fold(0f64, |m, x| m.max(x.abs()));
        let scale = expected.iter().fold(1f64, |m, x| m.max(x.abs()));
        assert!(largest < 1e-5 * scale, "{largest:e} of {scale}");
    };
    close(&engine.logits(tokens.view(), &[]).unwrap(), &logits(&|_| true));
    for l in 0..config.n_layers {
        for h in 0..config.n_heads {
            let frozen = (0..config.n_layers).map(|layer| Intervention::FreezePatterns { layer });
            let set: Vec<Intervention> =
                frozen.chain([Intervention::ZeroHead { layer: l, head: h }]).collect();
            let found = engine.logits(tokens.view(), &set).unwrap();
            let whole = logits(&|_| true);
            let gone = logits(&|through| through.contains(&head(l, h)));
            close(&found, &(&whole - &gone));
            assert!(gone.iter().any(|x| x.abs() > 1e-2), "the test has nothing to find");
        }
    }
}

fn hand_built(ablations: &[Ablation]) -> (HandBuilt, Array2<u32>, induction_ablation::Losses) {
    let model = HandBuilt::new(40, 50);
    let (config, params) = (model.config(), model.params().unwrap());
    let engine = CpuEngine::new(&config, &params).unwrap();
    // A start token and 25 tokens, twice.
    let examples =
        Array2::from_shape_fn(
            (3, 51),
            |(e, t)| if t == 0 { 0 } else { 1 + ((t - 1) % 25 + 3 * e) as u32 },
        );
    let inputs = Inputs { engine: &engine, params: &params, examples: examples.view() };
    let losses = losses_under(&inputs, ablations).unwrap();
    (model, examples, losses)
}

/// The mean loss of the second copy.
fn repeated(losses: &Array2<f32>) -> f32 {
    losses.view().split_at(Axis(1), 26).1.mean().unwrap()
}

#[test]
fn the_hand_built_circuit_fails_at_either_knockout() {
    let (previous, induction) = (head(0, 0), head(1, 0));
    let path = |into| Ablation::Path { from: previous, to: induction, into };
    let (model, _, losses) = hand_built(&[
        Ablation::zero(induction, Downstream::Full),
        Ablation::zero(induction, Downstream::PatternPreserving),
        Ablation::zero(previous, Downstream::Full),
        Ablation::zero(previous, Downstream::PatternPreserving),
        path(Reads::Keys),
        path(Reads::Queries),
        path(Reads::Values),
        Ablation::Substitute { head: previous, pattern: IdealPattern::PreviousToken },
        Ablation::Substitute { head: induction, pattern: IdealPattern::InductionOneToken },
    ]);
    let clean = &losses.clean;
    let [no_induction, preserving, no_previous, kept, keys, queries, values, ideal, simple] =
        &losses.ablated[..]
    else {
        panic!("nine were asked for")
    };
    let uniform = (model.d_vocab as f32).ln();
    assert!(repeated(clean) < 0.4);
    assert!(
        no_induction.iter().all(|loss| (loss - uniform).abs() < 1e-5),
        "no other path leads to the logits"
    );
    assert_eq!(no_induction, preserving, "nothing attends after the last layer");
    // Without matches the induction head spreads evenly over at least 26 positions: close to no
    // copying at all.
    assert!(repeated(no_previous) > 3.0);
    // It acts through the keys alone: with the patterns kept, or its path cut elsewhere, nothing is
    // lost, to the bit.
    assert_eq!(kept, clean);
    let apart = |a: &Array2<f32>, b: &Array2<f32>| (a - b).iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!(apart(keys, no_previous) < 1e-5);
    assert!(apart(queries, clean) < 1e-5);
    assert!(apart(values, clean) < 1e-5);
    assert!(
        apart(ideal, clean) < 1e-3,
        "its head is the ideal pattern to within 1e-6 of attention"
    );
    // The ideal pattern puts all weight on the one follower, the head nearly all.
    assert!(repeated(simple) <= repeated(clean));
}

#[test]
fn examples_that_are_all_alike_lose_nothing_to_their_own_mean_or_to_another() {
    let config = ModelConfig {
        n_layers: 2,
        d_model: 8,
        n_heads: 2,
        d_head: 4,
        n_ctx: 6,
        d_vocab: 5,
        ..ModelConfig::default()
    };
    let params = config.init_params(0).unwrap();
    let engine = CpuEngine::new(&config, &params).unwrap();
    let examples = Array2::from_shape_fn((70, 7), |(_, t)| (t * t % 5) as u32);
    let inputs = Inputs { engine: &engine, params: &params, examples: examples.view() };
    let fill = |fill, downstream| Ablation::Heads {
        heads: vec![head(0, 1), head(1, 0)],
        fill,
        downstream,
    };
    let ablations = [Fill::Mean, Fill::Resample].into_iter().flat_map(|f| BOTH.map(|d| fill(f, d)));
    let losses = losses_under(&inputs, &ablations.collect::<Vec<_>>()).unwrap();
    for ablated in &losses.ablated {
        assert!((ablated - &losses.clean).iter().all(|x| x.abs() < 1e-6));
    }
    // With another example among them, the mean moves and somebody is given a stranger's values.
    let mut mixed = examples.clone();
    mixed.row_mut(3).fill(2);
    let inputs = Inputs { examples: mixed.view(), ..inputs };
    let losses = losses_under(
        &inputs,
        &[fill(Fill::Mean, Downstream::Full), fill(Fill::Resample, Downstream::Full)],
    )
    .unwrap();
    for ablated in &losses.ablated {
        assert!((ablated - &losses.clean).iter().any(|x| x.abs() > 1e-6));
    }
}

#[test]
fn the_sweep_runs_equal_ablations_once_and_in_any_blocks() {
    let config = ModelConfig {
        n_layers: 2,
        d_model: 16,
        n_heads: 2,
        d_head: 8,
        n_ctx: 20,
        d_vocab: 9,
        ..ModelConfig::default()
    };
    let params = config.init_params(5).unwrap();
    let engine = CpuEngine::new(&config, &params).unwrap();
    let examples = tokens(2, 70, 21, 9);
    let all = single_heads(&config, &BOTH);
    let run = |examples: ArrayView2<u32>| {
        losses_under(&Inputs { engine: &engine, params: &params, examples }, &all).unwrap()
    };
    let whole = run(examples.view());
    assert_eq!(
        whole.clean,
        engine.losses(examples.view(), &[]).unwrap(),
        "the bits of a plain evaluation"
    );
    let one = run(examples.view().split_at(Axis(0), 1).0);
    for (whole, one) in whole.ablated.iter().zip(&one.ablated) {
        assert_eq!(whole.row(0), one.row(0));
    }
    assert_eq!(whole.ablated[4], whole.ablated[5]);
    assert_ne!(whole.ablated[0], whole.ablated[1]);
}

#[test]
fn a_set_of_one_is_the_path_and_a_set_has_no_order() {
    let config = ModelConfig {
        n_layers: 3,
        d_model: 16,
        n_heads: 2,
        d_head: 8,
        n_ctx: 12,
        d_vocab: 11,
        ..ModelConfig::default()
    };
    let mut params = config.init_params(4).unwrap();
    params
        .iter_mut()
        .filter(|(name, _)| name.contains("W_"))
        .for_each(|(_, w)| w.mapv_inplace(|x| 5.0 * x));
    let engine = CpuEngine::new(&config, &params).unwrap();
    let examples = tokens(3, 4, config.n_ctx + 1, config.d_vocab);
    let inputs = Inputs { engine: &engine, params: &params, examples: examples.view() };
    let to = head(2, 1);
    let paths = |from: &[HeadId], into| Ablation::Paths { from: from.to_vec(), to, into };
    for into in [Reads::Queries, Reads::Keys, Reads::Values] {
        // Asked for apart, so that neither is given the other's losses.
        let alone =
            |ablation: Ablation| losses_under(&inputs, &[ablation]).unwrap().ablated.remove(0);
        let single = alone(Ablation::Path { from: head(1, 0), to, into });
        assert_eq!(
            alone(paths(&[head(1, 0)], into)),
            single,
            "a set of one is the path, to the bit"
        );
        let both = alone(paths(&[head(0, 1), head(1, 0)], into));
        assert_ne!(both, single);
        assert_eq!(
            both,
            alone(paths(&[head(1, 0), head(0, 1), head(1, 0)], into)),
            "a set has no order and no copies"
        );
    }
}

#[test]
fn bad_ablations_are_errors() {
    let config = ModelConfig {
        n_layers: 2,
        d_model: 8,
        n_heads: 2,
        d_head: 4,
        n_ctx: 6,
        d_vocab: 5,
        ..ModelConfig::default()
    };
    let params = config.init_params(0).unwrap();
    let engine = CpuEngine::new(&config, &params).unwrap();
    let examples = tokens(0, 1, 7, 5);
    let inputs = Inputs { engine: &engine, params: &params, examples: examples.view() };
    let message = |ablation: Ablation| losses_under(&inputs, &[ablation]).unwrap_err().to_string();
    let heads =
        |heads: Vec<HeadId>, fill| Ablation::Heads { heads, fill, downstream: Downstream::Full };
    assert!(message(heads(vec![], Fill::Zero)).contains("no head"));
    assert!(message(heads(vec![head(2, 0)], Fill::Zero)).contains("head 2.0"));
    assert!(message(heads(vec![head(0, 2)], Fill::Mean)).contains("head 0.2"));
    assert!(message(heads(vec![head(0, 1)], Fill::Resample)).contains("at least 2"));
    let pattern = IdealPattern::PreviousToken;
    assert!(message(Ablation::Substitute { head: head(9, 9), pattern }).contains("head 9.9"));
    let path = Ablation::Path { from: head(1, 0), to: head(1, 1), into: Reads::Keys };
    assert!(message(path).contains("later layer"));
    let paths = |from: Vec<HeadId>| Ablation::Paths { from, to: head(1, 1), into: Reads::Keys };
    assert!(message(paths(vec![])).contains("no path"));
    assert!(message(paths(vec![head(0, 0), head(1, 0)])).contains("from head 1.0 to 1.1"));
    assert!(message(paths(vec![head(0, 0), head(0, 2)])).contains("head 0.2"));
}

/// What a head reads is made again by the rules of models that can be trained; another
/// architecture's would be made wrongly.
#[test]
fn a_path_is_cut_in_models_that_can_be_trained_alone() {
    let architecture = Architecture { out_bias: true, ..Architecture::default() };
    let config = ModelConfig {
        n_layers: 2,
        d_model: 8,
        n_heads: 2,
        d_head: 4,
        n_ctx: 6,
        d_vocab: 5,
        architecture,
        ..ModelConfig::default()
    };
    let params = config.init_params(0).unwrap();
    let engine = CpuEngine::new(&config, &params).unwrap();
    let examples = tokens(0, 1, 7, 5);
    let inputs = Inputs { engine: &engine, params: &params, examples: examples.view() };
    let path = Ablation::Path { from: head(0, 0), to: head(1, 1), into: Reads::Keys };
    let message = losses_under(&inputs, &[path]).unwrap_err().to_string();
    assert!(message.contains("cutting a path needs a model of the paper's family"), "{message}");
    assert!(losses_under(&inputs, &single_heads(&config, &BOTH)).is_ok());
}

#[test]
fn ablations_are_data() {
    let ablation = Ablation::Heads {
        heads: vec![head(1, 3)],
        fill: Fill::Zero,
        downstream: Downstream::PatternPreserving,
    };
    let json = serde_json::to_string(&ablation).unwrap();
    assert_eq!(
        json,
        r#"{"kind":"heads","heads":[{"layer":1,"head":3}],"fill":"zero","downstream":"pattern-preserving"}"#
    );
    assert_eq!(serde_json::from_str::<Ablation>(&json).unwrap(), ablation);
    assert!(serde_json::from_str::<Ablation>(&json.replace("heads\":[", "haeds\":[")).is_err());
    let paths =
        Ablation::Paths { from: vec![head(0, 1), head(0, 2)], to: head(1, 3), into: Reads::Keys };
    let json = serde_json::to_string(&paths).unwrap();
    assert_eq!(
        json,
        r#"{"kind":"paths","from":[{"layer":0,"head":1},{"layer":0,"head":2}],"to":{"layer":1,"head":3},"into":"keys"}"#
    );
    assert_eq!(serde_json::from_str::<Ablation>(&json).unwrap(), paths);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_ablation_on_both_engines(seed: u64, d_mlp in prop_oneof![Just(0usize), Just(10)], smeared_keys: bool, pos in 2usize..40) {
        let config = ModelConfig {
            n_layers: 3, d_model: 12, n_heads: 2, d_head: 6, d_mlp, n_ctx: pos, d_vocab: 7, smeared_keys,
            ..ModelConfig::default()
        };
        let mut params = config.init_params(seed).unwrap();
        params.iter_mut().filter(|(name, _)| name.contains("W_")).for_each(|(_, w)| w.mapv_inplace(|x| 5.0 * x));
        let examples = tokens(seed, 5, pos + 1, config.d_vocab);
        let mut ablations = single_heads(&config, &BOTH);
        let heads = vec![head(0, 1), head(1, 0)];
        for fill in [Fill::Zero, Fill::Mean, Fill::Resample] {
            ablations.extend(BOTH.map(|downstream| Ablation::Heads { heads: heads.clone(), fill, downstream }));
        }
        for pattern in [IdealPattern::PreviousToken, IdealPattern::InductionOneToken, IdealPattern::InductionTwoTokens] {
            ablations.push(Ablation::Substitute { head: head(1, 1), pattern });
        }
        for into in [Reads::Queries, Reads::Keys, Reads::Values] {
            ablations.push(Ablation::Path { from: head(0, 1), to: head(2, 0), into });
            ablations.push(Ablation::Paths { from: vec![head(0, 1), head(1, 0)], to: head(2, 0), into });
        }
        let run = |engine: &dyn Engine, params: &Params| {
            losses_under(&Inputs { engine, params, examples: examples.view() }, &ablations).unwrap().ablated
        };
        let cpu = run(&CpuEngine::new(&config, &params).unwrap(), &params);
        let burn = run(&BurnEngine::flex(&config, &params).unwrap(), &params);
        // How much the last bit of the weights decides: with weights as large as these patterns can
        // hang on nearly equal scores, and two ways of rounding then differ by more.
        let mut moved = params.clone();
        for (_, weights) in moved.iter_mut() {
            weights.iter_mut().enumerate().for_each(|(i, x)| *x *= 1.0 + f32::EPSILON * ((i % 3) as f32 - 1.0));
        }
        let moved = run(&CpuEngine::new(&config, &moved).unwrap(), &moved);
        for (((a, b), moved), ablation) in cpu.iter().zip(&burn).zip(&moved).zip(&ablations) {
            let by_rounding = (a - moved).iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let allowed = 2e-4 + 20.0 * by_rounding;
            for (a, b) in a.iter().zip(b) {
                prop_assert!((a - b).abs() <= allowed * (1.0 + b.abs()), "{:?}: {} is not {}", ablation, a, b);
            }
        }
    }
}
