//! Measures of weights against NumPy's brute force over d_vocab x d_vocab matrices,
//! TransformerLens, and closed forms.

use approx::assert_relative_eq;
use induction_metrics::{
    BlockWeights, Circuits, Error, composition_baseline, previous_position_recall,
};
use ndarray::{Array1, Array2, Array3, Axis, array};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Clone)]
struct Model {
    w_e: Array2<f32>,
    blocks: Vec<Block>,
    ln_final: Option<Array1<f32>>,
    w_u: Array2<f32>,
}

#[derive(Clone)]
struct Block {
    ln1: Option<Array1<f32>>,
    w_q: Array3<f32>,
    w_k: Array3<f32>,
    w_v: Array3<f32>,
    w_o: Array3<f32>,
}

impl Model {
    fn circuits(&self) -> Result<Circuits, Error> {
        let blocks: Vec<BlockWeights<'_>> = self
            .blocks
            .iter()
            .map(|b| BlockWeights {
                ln1: b.ln1.as_ref().map(|gain| gain.view()),
                w_q: b.w_q.view(),
                w_k: b.w_k.view(),
                w_v: b.w_v.view(),
                w_o: b.w_o.view(),
            })
            .collect();
        Circuits::fold(
            self.w_e.view(),
            &blocks,
            self.ln_final.as_ref().map(|gain| gain.view()),
            self.w_u.view(),
        )
    }
}

#[derive(Deserialize)]
struct Case {
    model: StoredModel,
    previous: Vec<Vec<f64>>,
    positions: Vec<Vec<f64>>,
    smear: Option<f64>,
    numpy: Scores,
    transformer_lens: TheirScores,
}

#[derive(Deserialize)]
struct StoredModel {
    w_e: Vec<Vec<f32>>,
    blocks: Vec<StoredBlock>,
    ln_final: Option<Vec<f32>>,
    w_u: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct StoredBlock {
    ln1: Option<Vec<f32>>,
    w_q: Vec<Vec<Vec<f32>>>,
    w_k: Vec<Vec<Vec<f32>>>,
    w_v: Vec<Vec<Vec<f32>>>,
    w_o: Vec<Vec<Vec<f32>>>,
}

type Row = (String, usize, usize, usize, usize, f64);

#[derive(Deserialize)]
struct Scores {
    ov_copying: Vec<Vec<f64>>,
    qk_trace: Vec<Vec<Option<f64>>>,
    k_composition_recall: Vec<Vec<Option<f64>>>,
    ov_copy_recall: Vec<Vec<f64>>,
    previous_position_recall: Vec<Vec<f64>>,
    composition: Vec<Row>,
}

#[derive(Deserialize)]
struct TheirScores {
    ov_copying: Vec<Vec<f64>>,
    composition: Vec<Row>,
}

fn matrix<T: Copy>(rows: &[Vec<T>]) -> Array2<T> {
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).expect("rows of one length")
}

fn stack(heads: &[Vec<Vec<f32>>]) -> Array3<f32> {
    let shape = (heads.len(), heads[0].len(), heads[0][0].len());
    Array3::from_shape_vec(shape, heads.iter().flat_map(|head| head.concat()).collect())
        .expect("heads of one shape")
}

fn cases() -> Vec<(Model, Case)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/oracle/circuits.json");
    let cases: Vec<Case> =
        serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture is there"))
            .expect("it is sound");
    let model = |m: &StoredModel| Model {
        w_e: matrix(&m.w_e),
        blocks: m
            .blocks
            .iter()
            .map(|b| Block {
                ln1: b.ln1.clone().map(Array1::from),
                w_q: stack(&b.w_q),
                w_k: stack(&b.w_k),
                w_v: stack(&b.w_v),
                w_o: stack(&b.w_o),
            })
            .collect(),
        ln_final: m.ln_final.clone().map(Array1::from),
        w_u: matrix(&m.w_u),
    };
    cases.into_iter().map(|case| (model(&case.model), case)).collect()
}

#[test]
fn numpy_and_transformer_lens_agree() {
    for (model, case) in cases() {
        let circuits = model.circuits().expect("sound weights");
        let positions = matrix(&case.positions);
        for (l, block) in model.blocks.iter().enumerate() {
            for h in 0..2 {
                let ov = circuits.ov_copying(l, h).expect("converges");
                assert_relative_eq!(ov, case.numpy.ov_copying[l][h], epsilon = 1e-10);
                // TransformerLens casts what it folds to single precision.
                assert_relative_eq!(ov, case.transformer_lens.ov_copying[l][h], epsilon = 1e-7);
                assert_eq!(
                    circuits.ov_copy_recall(l, h).expect("a head"),
                    case.numpy.ov_copy_recall[l][h]
                );
                let trace = circuits.qk_trace(l, h, &case.previous).expect("a head");
                assert_eq!(trace.is_some(), l > 0);
                assert_relative_eq!(
                    trace.unwrap_or_default(),
                    case.numpy.qk_trace[l][h].unwrap_or_default(),
                    max_relative = 1e-10
                );
                let recall = circuits.k_composition_recall(l, h, &case.previous).expect("a head");
                assert_eq!(recall, case.numpy.k_composition_recall[l][h]);
                let [w_q, w_k] =
                    [&block.w_q, &block.w_k].map(|w| w.index_axis(Axis(0), h).mapv(f64::from));
                let recall =
                    previous_position_recall(w_q.view(), w_k.view(), positions.view(), case.smear);
                assert_eq!(
                    recall.expect("shapes agree"),
                    case.numpy.previous_position_recall[l][h]
                );
            }
        }
        let found = circuits.composition();
        assert_eq!(found.len(), case.numpy.composition.len());
        for (rows, epsilon) in
            [(&case.numpy.composition, 1e-10), (&case.transformer_lens.composition, 1e-7)]
        {
            for (kind, from_layer, from_head, to_layer, to_head, expected) in rows {
                let place = ((*from_layer, *from_head), (*to_layer, *to_head));
                let one = found
                    .iter()
                    .find(|c| c.kind.name() == kind && (c.from, c.to) == place)
                    .expect("every pair");
                assert_relative_eq!(one.raw, *expected, epsilon = epsilon);
                let dimension = if model.ln_final.is_some() { 11 } else { 12 };
                assert_eq!(one.score, one.raw - composition_baseline(dimension));
            }
        }
    }
}

/// A model without layer norms whose only head has `w_v w_o = turn`, and whose embedding and
/// unembedding are identities.
fn one_head(turn: Array2<f32>) -> Circuits {
    let eye = Array2::<f32>::eye(turn.nrows());
    let head = |w: Array2<f32>| w.insert_axis(Axis(0));
    let block = Block {
        ln1: None,
        w_q: head(eye.clone()),
        w_k: head(eye.clone()),
        w_v: head(eye.clone()),
        w_o: head(turn),
    };
    Model { w_e: eye.clone(), blocks: vec![block], ln_final: None, w_u: eye }
        .circuits()
        .expect("sound weights")
}

#[test]
fn roots_of_unity_converge() {
    // a + a cyclic permutation: eigenvalues a + w^k. Without a second attempt, QR stands still on
    // some of these.
    for n in 3..20 {
        for a in [0.0f32, 0.5] {
            let cycle =
                Array2::from_shape_fn((n, n), |(i, j)| f32::from(u8::from(j == (i + 1) % n)));
            let angle = |k: usize| std::f64::consts::TAU * k as f64 / n as f64;
            let found = one_head(&cycle + &(Array2::<f32>::eye(n) * a))
                .ov_copying(0, 0)
                .expect("converges");
            let a = f64::from(a);
            let absolute: f64 = (0..n).map(|k| (a + angle(k).cos()).hypot(angle(k).sin())).sum();
            assert_relative_eq!(found, a * n as f64 / absolute, epsilon = 1e-9);
        }
    }
}

#[test]
fn closed_forms() {
    let copies = one_head(array![[1.0, 0.0], [0.0, 1.0]]);
    assert_relative_eq!(copies.ov_copying(0, 0).expect("a head"), 1.0);
    assert_eq!(copies.ov_copy_recall(0, 0).expect("a head"), 1.0);
    let suppresses = one_head(array![[-1.0, 0.0], [0.0, -1.0]]);
    assert_relative_eq!(suppresses.ov_copying(0, 0).expect("a head"), -1.0);
    assert_eq!(suppresses.ov_copy_recall(0, 0).expect("a head"), 0.0);
    // A quarter turn has eigenvalues i and -i.
    assert_relative_eq!(
        one_head(array![[0.0, 1.0], [-1.0, 0.0]]).ov_copying(0, 0).expect("a head"),
        0.0
    );
    // A head that writes nothing copies nothing, and ties recall nothing.
    let silent = one_head(array![[0.0, 0.0], [0.0, 0.0]]);
    assert_eq!(silent.ov_copying(0, 0).expect("a head"), 0.0);
    assert_eq!(silent.ov_copy_recall(0, 0).expect("a head"), 0.0);
    assert_eq!(silent.qk_trace(0, 0, &[]).expect("a head"), None);
}

#[test]
fn positions_that_point_at_the_one_before_are_recalled() {
    // One-hot positions, and a key circuit that moves each one on by one.
    let n = 6;
    let positions = Array2::<f64>::eye(n);
    let shift =
        Array2::from_shape_fn((n, n), |(position, d)| f64::from(u8::from(d == position + 1)));
    let recall = |w_k: &Array2<f64>, smear| {
        previous_position_recall(Array2::eye(n).view(), w_k.view(), positions.view(), smear)
            .expect("shapes agree")
    };
    assert_eq!(recall(&shift, None), 1.0);
    // A head that looks at its own position, and one that cannot choose.
    assert_eq!(recall(&Array2::eye(n), None), 0.0);
    assert_eq!(recall(&Array2::zeros((n, n)), None), 0.0);
    // Smearing hands the key's content on: mostly its own, and the head still looks one back;
    // mostly its predecessor's, and it looks at itself. Only the first key, which has no
    // predecessor, stays what it was, for the query after it.
    assert_eq!(recall(&shift, Some(0.9)), 1.0);
    assert_eq!(recall(&shift, Some(0.1)), 0.2);
}

#[test]
fn random_matrices_compose_as_the_baseline_says() {
    use rand::Rng;
    let mut rng = induction_random::stream(0, "baseline", 0);
    let (d, k, heads) = (32, 4, 12);
    let mut draw = |shape: (usize, usize, usize)| {
        // Sums of uniform numbers are close enough to normal ones to have no direction.
        Array3::from_shape_simple_fn(shape, || (0..8).map(|_| rng.random_range(-1.0f32..1.0)).sum())
    };
    let mut block = || Block {
        ln1: None,
        w_q: draw((heads, d, k)),
        w_k: draw((heads, d, k)),
        w_v: draw((heads, d, k)),
        w_o: draw((heads, k, d)),
    };
    let blocks = vec![block(), block()];
    let model = Model { w_e: Array2::eye(d), blocks, ln_final: None, w_u: Array2::eye(d) };
    let found = model.circuits().expect("sound weights").composition();
    assert_eq!(found.len(), 3 * heads * heads);
    let mean_square = found.iter().map(|c| c.raw * c.raw).sum::<f64>() / found.len() as f64;
    assert_relative_eq!(mean_square.sqrt(), composition_baseline(d), max_relative = 0.03);
}

#[test]
fn what_is_wrong_with_weights_is_named() {
    let (model, _) = cases().swap_remove(0);
    let message = |change: &dyn Fn(&mut Model)| {
        let mut model = model.clone();
        change(&mut model);
        model.circuits().expect_err("refused").to_string()
    };
    let nan = message(&|m| m.blocks[1].w_o[[1, 0, 2]] = f32::NAN);
    assert!(nan.contains("blocks.1.attn.W_O") && nan.contains("NaN"), "{nan}");
    let heads = message(&|m| m.blocks[0].w_v = Array3::zeros((3, 12, 4)));
    assert!(heads.contains("blocks.0.attn.W_V") && heads.contains("[3, 12, 4]"), "{heads}");
    let width = message(&|m| m.w_u = Array2::zeros((11, 24)));
    assert!(width.contains("W_U"), "{width}");
    let circuits = model.circuits().expect("sound weights");
    assert!(circuits.ov_copying(2, 0).is_err());
    let short = circuits.qk_trace(1, 0, &[vec![0.5]]).expect_err("refused").to_string();
    assert!(short.contains("2 heads in layer 0"), "{short}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Renaming the tokens changes nothing.
    #[test]
    fn token_ids_are_names(order in Just((0..24usize).collect::<Vec<_>>()).prop_shuffle()) {
        let (model, case) = cases().swap_remove(0);
        let mut renamed = model.clone();
        for (new, &old) in order.iter().enumerate() {
            renamed.w_e.row_mut(new).assign(&model.w_e.row(old));
            renamed.w_u.column_mut(new).assign(&model.w_u.column(old));
        }
        let [a, b] = [model, renamed].map(|m| m.circuits().expect("sound weights"));
        for (l, h) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_relative_eq!(a.ov_copying(l, h)?, b.ov_copying(l, h)?, epsilon = 1e-9);
            assert_eq!(a.ov_copy_recall(l, h)?, b.ov_copy_recall(l, h)?);
            assert_eq!(a.k_composition_recall(l, h, &case.previous)?, b.k_composition_recall(l, h, &case.previous)?);
            let traces = [&a, &b].map(|c| c.qk_trace(l, h, &case.previous).expect("a head").unwrap_or_default());
            assert_relative_eq!(traces[0], traces[1], max_relative = 1e-9);
        }
    }

    /// The scale of a head's output leaves every ratio; its sign turns copying around.
    #[test]
    fn scale_is_no_matter(scale in 0.01f32..100.0, flip: bool) {
        let (model, _) = cases().swap_remove(1);
        let mut scaled = model.clone();
        let sign = if flip { -1.0 } else { 1.0 };
        scaled.blocks[0].w_v *= sign * scale;
        let [a, b] = [model, scaled].map(|m| m.circuits().expect("sound weights"));
        for h in 0..2 {
            let ratio = a.ov_copying(0, h)?;
            prop_assert!((-1.0..=1.0).contains(&ratio));
            assert_relative_eq!(f64::from(sign) * ratio, b.ov_copying(0, h)?, epsilon = 1e-5);
        }
        for (a, b) in a.composition().iter().zip(b.composition()) {
            prop_assert!((0.0..=1.0 + 1e-12).contains(&a.raw));
            assert_relative_eq!(a.raw, b.raw, max_relative = 1e-5);
        }
    }
}
