//! The copying score, against explicit loops and closed forms.

use crate::common::{pattern, uniform};
use approx::assert_relative_eq;
use induction_metrics::{Copying, Error, copying};
use ndarray::{Array3, Axis};
use proptest::prelude::*;

const HEADS: usize = 2;
const SOURCES: usize = 5;
const VOCAB: usize = 12;

/// The definition word for word: the logits of each pair at its weight, centred, ReLU, then summed.
fn twin(pattern: &Array3<f32>, logits: &Array3<f32>, tokens: &[u32], head: usize) -> (f64, f64) {
    let (mut a, mut s) = (0.0, 0.0);
    for i in 0..SOURCES {
        for j in 0..=i {
            let l: Vec<f64> = (0..VOCAB)
                .map(|t| f64::from(pattern[[head, i, j]]) * f64::from(logits[[head, j, t]]))
                .collect();
            let mean = l.iter().sum::<f64>() / VOCAB as f64;
            let raise: Vec<f64> = l.iter().map(|x| (x - mean).max(0.0)).collect();
            a += raise[tokens[j] as usize];
            s +=
                (0..VOCAB).filter(|&t| tokens.contains(&(t as u32))).map(|t| raise[t]).sum::<f64>();
        }
    }
    (a, s)
}

fn logits() -> impl Strategy<Value = Array3<f32>> {
    prop::collection::vec(-5.0f32..5.0, HEADS * SOURCES * VOCAB).prop_map(|flat| {
        Array3::from_shape_vec((HEADS, SOURCES, VOCAB), flat).expect("sizes agree")
    })
}

fn one_pattern() -> impl Strategy<Value = Array3<f32>> {
    pattern(1, HEADS, SOURCES).prop_map(|a| a.index_axis_move(Axis(0), 0))
}

fn measure(pattern: &Array3<f32>, logits: &Array3<f32>, tokens: &[u32]) -> Vec<Copying> {
    copying(pattern.view(), logits.view(), tokens).expect("valid")
}

fn assert_same_scores(left: &[Copying], right: &[Copying]) {
    for (l, r) in left.iter().zip(right) {
        // Shifted and scaled logits are rounded to f32 anew.
        assert_relative_eq!(l.score(), r.score(), epsilon = 1e-4);
        assert_relative_eq!(l.simple_score(), r.simple_score(), epsilon = 1e-4);
    }
}

proptest! {
    #[test]
    fn copying_is_its_definition(
        a in one_pattern(), logits in logits(), tokens in prop::collection::vec(0u32..VOCAB as u32, SOURCES),
    ) {
        for (head, found) in measure(&a, &logits, &tokens).iter().enumerate() {
            let (own, sample) = twin(&a, &logits, &tokens, head);
            assert_relative_eq!(found.own, own, epsilon = 1e-9, max_relative = 1e-9);
            assert_relative_eq!(found.sample, sample, epsilon = 1e-9, max_relative = 1e-9);
            let r = if sample > 0.0 { own / (own + sample) } else { 0.0 };
            assert_relative_eq!(found.score(), 4.0 * r - 1.0, epsilon = 1e-9);
        }
    }

    #[test]
    fn scores_stay_in_range(
        a in one_pattern(), logits in logits(), tokens in prop::collection::vec(0u32..VOCAB as u32, SOURCES),
    ) {
        for found in measure(&a, &logits, &tokens) {
            prop_assert!(0.0 <= found.own && found.own <= found.sample * (1.0 + 1e-12), "{found:?}");
            for score in [found.score(), found.simple_score()] {
                prop_assert!((-1.0..=1.0 + 1e-12).contains(&score), "{score}");
            }
        }
    }

    #[test]
    fn invariances(
        a in one_pattern(), logits in logits(), tokens in prop::collection::vec(0u32..VOCAB as u32, SOURCES),
        order in Just((0..VOCAB).collect::<Vec<_>>()).prop_shuffle(), shift in -10.0f32..10.0, scale in 0.01f32..100.0,
    ) {
        let base = measure(&a, &logits, &tokens);
        // Logits are compared with their mean.
        assert_same_scores(&base, &measure(&a, &(&logits + shift), &tokens));
        // The dropped scale of the layer norm, and the sizes of W_V and W_O, do not show.
        assert_same_scores(&base, &measure(&a, &(&logits * scale), &tokens));
        // Token ids are names: id t becomes order[t].
        let mut renamed = logits.clone();
        for (t, &name) in order.iter().enumerate() {
            renamed.index_axis_mut(Axis(2), name).assign(&logits.index_axis(Axis(2), t));
        }
        let new_tokens: Vec<u32> = tokens.iter().map(|&t| order[t as usize] as u32).collect();
        assert_same_scores(&base, &measure(&a, &renamed, &new_tokens));
    }
}

/// Uniform attention over the paper's 25 distinct tokens, of 100, and logits by `(source, token)`.
fn paper_case(logit: impl Fn(usize, usize) -> f32) -> Copying {
    let a = uniform(1, 1, 25).index_axis_move(Axis(0), 0);
    let tokens: Vec<u32> = (10..35).collect();
    let logits = Array3::from_shape_fn((1, 25, 100), |(_, source, token)| logit(source, token));
    measure(&a, &logits, &tokens)[0]
}

#[test]
fn end_points_of_the_scale() {
    let own = |source: usize, token: usize| token == 10 + source;
    let copier = paper_case(|s, t| if own(s, t) { 3.0 } else { 0.0 });
    assert_eq!((copier.score(), copier.simple_score()), (1.0, 1.0));
    // Raises every token but its own.
    let anti = paper_case(|s, t| if own(s, t) { -3.0 } else { 0.0 });
    assert_eq!((anti.score(), anti.simple_score()), (-1.0, -1.0));
    assert!(anti.sample > 0.0);
    // Raises no token of the sample, or nothing at all.
    for silent in [paper_case(|_, t| if t >= 50 { 3.0 } else { 0.0 }), paper_case(|_, _| 7.0)] {
        assert_eq!((silent.own, silent.sample), (0.0, 0.0));
        assert_eq!((silent.score(), silent.simple_score()), (-1.0, -1.0));
    }
    // Raises the whole sample alike: a = S / 25.
    let alike = paper_case(|_, t| if (10..35).contains(&t) { 3.0 } else { 0.0 });
    assert_relative_eq!(alike.score(), 4.0 / 26.0 - 1.0, epsilon = 1e-12);
    assert_relative_eq!(alike.simple_score(), 2.0 / 25.0 - 1.0, epsilon = 1e-12);
}

#[test]
fn raises_have_the_weight_of_attention() {
    // All attention on source 0, which copies; source 1 does the opposite and is never looked at.
    let a = Array3::from_shape_fn((1, 2, 2), |(_, _, key)| f32::from(u8::from(key == 0)));
    let logits =
        Array3::from_shape_vec((1, 2, 3), vec![6.0, 0.0, 0.0, 6.0, 0.0, 0.0]).expect("sizes agree");
    // Centred, token 0 is raised by 4; two queries look.
    assert_eq!(measure(&a, &logits, &[0, 1]), [Copying { own: 8.0, sample: 8.0 }]);
}

#[test]
fn bad_inputs_are_named() {
    let a = uniform(1, 2, 3).index_axis_move(Axis(0), 0);
    let logits = Array3::<f32>::zeros((2, 3, 7));
    let refuse = |logits: &Array3<f32>, tokens: &[u32]| {
        copying(a.view(), logits.view(), tokens).expect_err("refused")
    };
    assert_eq!(refuse(&logits, &[0, 7, 1]), Error::Token { token: 7, position: 1, d_vocab: 7 });
    assert!(matches!(refuse(&logits, &[0, 1]), Error::Shape { .. }));
    assert!(matches!(refuse(&Array3::zeros((2, 2, 7)), &[0, 1, 2]), Error::Shape { .. }));
    assert!(matches!(refuse(&Array3::zeros((1, 3, 7)), &[0, 1, 2]), Error::Shape { .. }));
    let mut infinite = logits.clone();
    infinite[[1, 2, 6]] = f32::INFINITY;
    let error = refuse(&infinite, &[0, 1, 2]);
    assert!(matches!(error, Error::Logit { head: 1, source_index: 2, token: 6, .. }), "{error}");
    let scores = Array3::<f32>::ones((2, 3, 3));
    assert!(matches!(
        copying(scores.view(), logits.view(), &[0, 1, 2]),
        Err(Error::Pattern { .. })
    ));
}
