//! The head detector, against TransformerLens' own numbers, explicit loops and closed forms.

use crate::common::{one_hot, pattern, uniform};
use approx::assert_relative_eq;
use induction_metrics::{
    DetectionPattern, DetectorOptions, Error, PrefixMatchingSample, detect_heads,
    detection_pattern, previous_token,
};
use ndarray::{Array1, Array2, Array4, ArrayView4, Axis};
use proptest::prelude::*;
use serde::Deserialize;

const N: usize = 7;
const EXAMPLES: usize = 2;
const HEADS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ErrorMeasure {
    Mul,
    Abs,
}

/// `[example, head]`.
fn detect(
    a: ArrayView4<f32>,
    tokens: &Array2<u32>,
    kind: DetectionPattern,
    measure: ErrorMeasure,
    options: DetectorOptions,
) -> Array2<f64> {
    let found = detect_heads(a, tokens.view(), kind, options).expect("valid");
    match measure {
        ErrorMeasure::Mul => found.mul,
        ErrorMeasure::Abs => found.abs,
    }
}

#[derive(Deserialize)]
struct Case {
    tokens: Vec<u32>,
    pattern: Vec<Vec<Vec<f32>>>,
    detection: std::collections::BTreeMap<String, Vec<[usize; 2]>>,
    scores: Vec<Scores>,
}

#[derive(Deserialize)]
struct Scores {
    name: DetectionPattern,
    measure: ErrorMeasure,
    exclude_bos: bool,
    exclude_current_token: bool,
    score: Vec<Option<f64>>,
    unrounded: Vec<Option<f64>>,
}

#[test]
fn agrees_with_transformer_lens() {
    let json =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/oracle/detectors.json"));
    let cases: Vec<Case> = serde_json::from_str(json).expect("as detectors.py writes it");
    let (mut compared, mut largest) = (0, 0.0f64);
    for case in cases {
        let n = case.tokens.len();
        let tokens = Array1::from_vec(case.tokens);
        let a = Array4::from_shape_fn((1, case.pattern.len(), n, n), |(_, h, q, k)| {
            case.pattern[h][q].get(k).copied().unwrap_or(0.0)
        });
        for kind in DetectionPattern::ALL {
            let mut expected = Array2::zeros((n, n));
            case.detection[kind.name()].iter().for_each(|&entry| expected[entry] = 1.0);
            assert_eq!(detection_pattern(kind, tokens.view()), expected, "{}", kind.name());
        }
        let tokens = tokens.insert_axis(Axis(0));
        for Scores { name, measure, exclude_bos, exclude_current_token, score, unrounded } in
            case.scores
        {
            let options = DetectorOptions { exclude_bos, exclude_current_token };
            let found = detect(a.view(), &tokens, name, measure, options);
            for ((found, score), unrounded) in found.iter().zip(&score).zip(&unrounded) {
                let Some(unrounded) = unrounded else {
                    assert_eq!((*found, *score), (0.0, None), "TransformerLens divides 0 by 0");
                    continue;
                };
                let rounding = if measure == ErrorMeasure::Abs { 5e-4 } else { 0.0 };
                assert!(
                    (found - score.expect("a number")).abs() <= rounding + 1e-6,
                    "{name:?} {found} {score:?}"
                );
                largest = largest.max((found - unrounded).abs());
                compared += 1;
            }
        }
    }
    // f32 there.
    assert!(largest < 1e-6, "{largest}");
    assert_eq!(compared, 282);
}

/// The definitions, entry by entry.
fn twin(
    a: &Array4<f32>,
    tokens: &Array2<u32>,
    (example, head): (usize, usize),
    kind: DetectionPattern,
    measure: ErrorMeasure,
    options: DetectorOptions,
) -> f64 {
    let (mut hit, mut total, mut difference) = (0.0, 0.0, 0.0);
    for i in 0..N {
        for j in 0..=i {
            if options.exclude_bos && j == 0 || options.exclude_current_token && j == i {
                continue;
            }
            let t = tokens.row(example);
            let expected = match kind {
                DetectionPattern::PreviousTokenHead => j + 1 == i,
                DetectionPattern::DuplicateTokenHead => j < i && t[j] == t[i],
                DetectionPattern::InductionHead => j >= 1 && t[j - 1] == t[i],
            };
            let attention = f64::from(a[[example, head, i, j]]);
            let expected = f64::from(u8::from(expected));
            hit += attention * expected;
            total += attention;
            difference += (attention - expected).abs();
        }
    }
    match measure {
        ErrorMeasure::Mul => hit / total,
        ErrorMeasure::Abs => 1.0 - difference / N as f64,
    }
}

fn any_tokens() -> impl Strategy<Value = Array2<u32>> {
    prop::collection::vec(0u32..4, EXAMPLES * N)
        .prop_map(|flat| Array2::from_shape_vec((EXAMPLES, N), flat).expect("sizes agree"))
}

proptest! {
    #[test]
    fn detectors_are_their_definitions(
        a in pattern(EXAMPLES, HEADS, N), tokens in any_tokens(), exclude_bos: bool, exclude_current_token: bool,
    ) {
        let options = DetectorOptions { exclude_bos, exclude_current_token };
        for kind in DetectionPattern::ALL {
            for measure in [ErrorMeasure::Mul, ErrorMeasure::Abs] {
                let found = detect(a.view(), &tokens, kind, measure, options);
                for (place, found) in found.indexed_iter() {
                    assert_relative_eq!(*found, twin(&a, &tokens, place, kind, measure, options), epsilon = 1e-9);
                }
            }
        }
    }

    /// Patterns cut out of larger arrays have rows that are not contiguous.
    #[test]
    fn layout_does_not_matter(a in pattern(EXAMPLES, HEADS, N), tokens in any_tokens()) {
        let stored = a.view().permuted_axes([3, 2, 1, 0]).as_standard_layout().into_owned();
        let strided = stored.view().permuted_axes([3, 2, 1, 0]);
        prop_assert!(strided.as_slice().is_none());
        for kind in DetectionPattern::ALL {
            let [found, expected] =
                [strided, a.view()].map(|a| detect(a, &tokens, kind, ErrorMeasure::Abs, DetectorOptions::default()));
            for (found, expected) in found.iter().zip(&expected) {
                assert_relative_eq!(found, expected, epsilon = 1e-12);
            }
        }
    }
}

const PAPER: PrefixMatchingSample = PrefixMatchingSample { block: 25, repeats: 4 };

fn paper_tokens() -> Array2<u32> {
    PAPER.batch(0, 2, 0, &(1..100).collect::<Vec<_>>()).expect("enough tokens")
}

#[test]
fn ideal_heads_have_their_scores() {
    let n = PAPER.len();
    let score = |a: &Array4<f32>, kind, measure, options| {
        detect(a.view(), &paper_tokens(), kind, measure, options)[[0, 0]]
    };
    use DetectionPattern::{DuplicateTokenHead, InductionHead, PreviousTokenHead};
    let no_bos = DetectorOptions { exclude_bos: true, ..Default::default() };

    // Query 0 has no previous token: it misses its only entry, a difference of 1, in both measures.
    let previous = one_hot(2, 1, n, |q| q.saturating_sub(1));
    let share = (n - 1) as f64 / n as f64;
    assert_relative_eq!(
        score(&previous, PreviousTokenHead, ErrorMeasure::Mul, DetectorOptions::default()),
        share
    );
    assert_relative_eq!(
        score(&previous, PreviousTokenHead, ErrorMeasure::Abs, DetectorOptions::default()),
        share
    );
    // Without position 0, which the first two queries attend to, the rest is perfect.
    assert_relative_eq!(score(&previous, PreviousTokenHead, ErrorMeasure::Mul, no_bos), 1.0);
    assert_relative_eq!(score(&previous, PreviousTokenHead, ErrorMeasure::Abs, no_bos), 1.0);

    // Rests on the start token in the first block: 26 of 101 queries.
    let induction = one_hot(2, 1, n, |q| if q > 25 { q - 24 } else { 0 });
    assert_relative_eq!(
        score(&induction, InductionHead, ErrorMeasure::Mul, DetectorOptions::default()),
        75.0 / 101.0
    );
    assert_relative_eq!(score(&induction, InductionHead, ErrorMeasure::Mul, no_bos), 1.0);
    assert_relative_eq!(score(&induction, DuplicateTokenHead, ErrorMeasure::Mul, no_bos), 0.0);
    // Of 150 targets 75 are met.
    assert_relative_eq!(
        score(&induction, InductionHead, ErrorMeasure::Abs, no_bos),
        1.0 - 75.0 / 101.0
    );

    let duplicate = one_hot(2, 1, n, |q| q.saturating_sub(25));
    assert_relative_eq!(score(&duplicate, DuplicateTokenHead, ErrorMeasure::Mul, no_bos), 1.0);
    assert_relative_eq!(score(&duplicate, InductionHead, ErrorMeasure::Mul, no_bos), 0.0);
}

#[test]
fn previous_token_is_the_paper_s_but_for_the_first_query() {
    let a = uniform(2, 1, 9);
    let tokens = Array2::zeros((2, 9));
    let (kind, measure) = (DetectionPattern::PreviousTokenHead, ErrorMeasure::Mul);
    let found = detect(a.view(), &tokens, kind, measure, DetectorOptions::default())[[0, 0]];
    assert_relative_eq!(
        found * 9.0 / 8.0,
        previous_token(a.view()).expect("valid")[[0, 0]],
        epsilon = 1e-7
    );
}

#[test]
fn a_head_left_with_nothing_has_no_share() {
    let rest = one_hot(1, 1, N, |_| 0);
    let tokens = Array2::zeros((1, N));
    let options = DetectorOptions { exclude_bos: true, exclude_current_token: true };
    for kind in DetectionPattern::ALL {
        let found = detect_heads(rest.view(), tokens.view(), kind, options).expect("valid");
        assert!(found.abs[[0, 0]].is_finite());
        assert_eq!(found.mul[[0, 0]], 0.0);
    }
    // What little is left is measured in full, however much was left out.
    let mut rest = rest;
    rest[[0, 0, 3, 2]] = 1e-20;
    let (kind, measure) = (DetectionPattern::PreviousTokenHead, ErrorMeasure::Mul);
    assert_eq!(detect(rest.view(), &tokens, kind, measure, options)[[0, 0]], 1.0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |a: &Array4<f32>, tokens: Array2<u32>| {
        let kind = DetectionPattern::InductionHead;
        detect_heads(a.view(), tokens.view(), kind, DetectorOptions::default())
            .expect_err("refused")
    };
    let a = uniform(2, 1, N);
    assert!(matches!(refused(&a, Array2::zeros((2, N - 1))), Error::Shape { .. }));
    assert!(matches!(refused(&a, Array2::zeros((1, N))), Error::Shape { .. }));
    assert!(matches!(refused(&uniform(2, 1, 1), Array2::zeros((2, 1))), Error::Shape { .. }));
    assert!(matches!(refused(&uniform(0, 1, N), Array2::zeros((0, N))), Error::NoExamples { .. }));
    assert!(matches!(
        refused(&Array4::zeros((2, 1, N, N + 1)), Array2::zeros((2, N))),
        Error::Shape { .. }
    ));
    assert!(matches!(refused(&(a * 2.0), Array2::zeros((2, N))), Error::Pattern { .. }));
    assert!(
        detection_pattern(DetectionPattern::PreviousTokenHead, Array1::zeros(0).view()).is_empty()
    );
}

#[test]
fn names_are_transformer_lens() {
    for kind in DetectionPattern::ALL {
        assert_eq!(serde_json::to_value(kind).expect("a name"), kind.name());
    }
}
