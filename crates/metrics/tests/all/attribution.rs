//! Logit attribution by source position, against explicit loops and closed forms.

use crate::common::{one_hot, pattern, uniform};
use approx::assert_relative_eq;
use induction_metrics::{
    Attribution, Error, PrefixMatchingSample, attribution_scores, logit_attribution,
    prefix_matching,
};
use ndarray::{Array2, Array3, Axis};
use proptest::prelude::*;

const SAMPLE: PrefixMatchingSample = PrefixMatchingSample { block: 3, repeats: 3 };
const N: usize = 10;
const HEADS: usize = 2;
const VOCAB: usize = 6;

fn logits() -> impl Strategy<Value = Array3<f32>> {
    prop::collection::vec(-5.0f32..5.0, HEADS * N * VOCAB)
        .prop_map(|flat| Array3::from_shape_vec((HEADS, N, VOCAB), flat).expect("sizes agree"))
}

fn one_pattern(n: usize) -> impl Strategy<Value = Array3<f32>> {
    pattern(1, HEADS, n).prop_map(|a| a.index_axis_move(Axis(0), 0))
}

fn any_tokens() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..VOCAB as u32, N)
}

/// The logits of each pair at its weight, less their own mean.
fn contribution(
    a: &Array3<f32>,
    logits: &Array3<f32>,
    head: usize,
    i: usize,
    j: usize,
    target: u32,
) -> f64 {
    let l: Vec<f64> =
        (0..VOCAB).map(|t| f64::from(a[[head, i, j]]) * f64::from(logits[[head, j, t]])).collect();
    l[target as usize] - l.iter().sum::<f64>() / VOCAB as f64
}

proptest! {
    #[test]
    fn attribution_is_its_definition(a in one_pattern(N), logits in logits(), targets in any_tokens()) {
        let found = logit_attribution(a.view(), logits.view(), &targets).expect("valid");
        for ((head, i, j), &found) in found.indexed_iter() {
            assert_relative_eq!(found, contribution(&a, &logits, head, i, j, targets[i]), epsilon = 1e-9);
        }
    }

    #[test]
    fn scores_are_their_definition(a in one_pattern(N), logits in logits(), tokens in any_tokens()) {
        let found = attribution_scores(a.view(), logits.view(), &tokens, SAMPLE).expect("valid");
        prop_assert_eq!(found.len(), HEADS);
        for (head, found) in found.iter().enumerate() {
            let (mut matched, mut other, mut queries) = (0.0, 0.0, 0.0);
            for i in 4..9 {
                queries += 1.0;
                for j in 0..=i {
                    let part = contribution(&a, &logits, head, i, j, tokens[i + 1]);
                    // The key follows an occurrence, at 1 or later, of the query's token.
                    let is_match = (1..i).any(|earlier| tokens[earlier] == tokens[i] && earlier + 1 == j);
                    if is_match { matched += part } else { other += part }
                }
            }
            assert_relative_eq!(found.matched, matched / queries, epsilon = 1e-9);
            assert_relative_eq!(found.other, other / queries, epsilon = 1e-9);
        }
    }

    #[test]
    fn a_constant_raise_contributes_nothing(
        a in one_pattern(N), logits in logits(), tokens in any_tokens(),
        shifts in prop::collection::vec(-10.0f32..10.0, N),
    ) {
        let mut shifted = logits.clone();
        for (mut source, shift) in shifted.axis_iter_mut(Axis(1)).zip(&shifts) {
            source += *shift;
        }
        let score = |logits: &Array3<f32>| attribution_scores(a.view(), logits.view(), &tokens, SAMPLE).expect("valid");
        for (left, right) in score(&logits).iter().zip(score(&shifted)) {
            // Shifted logits are rounded to f32 anew.
            assert_relative_eq!(left.matched, right.matched, epsilon = 1e-5);
            assert_relative_eq!(left.other, right.other, epsilon = 1e-5);
        }
    }
}

const PAPER: PrefixMatchingSample = PrefixMatchingSample { block: 25, repeats: 4 };

/// Distinct tokens in a block, and the logits of a head that raises the attended token by `raise`.
fn copying_head(raise: f32) -> (Vec<u32>, Array3<f32>) {
    let tokens = PAPER.tokens(0, 0, 0, &(1..40).collect::<Vec<_>>()).expect("enough tokens");
    let logits = Array3::from_shape_fn((1, tokens.len(), 40), |(_, j, t)| {
        if tokens[j] as usize == t { raise } else { 0.0 }
    });
    (tokens, logits)
}

#[test]
fn a_perfect_induction_head_is_all_matched() {
    let (tokens, logits) = copying_head(4.0);
    let a = one_hot(1, 1, PAPER.len(), |q| if q > 25 { q - 24 } else { 0 });
    let a = a.index_axis(Axis(0), 0);
    let found = attribution_scores(a, logits.view(), &tokens, PAPER).expect("valid");
    // One of 40 logits is raised by 4, their mean by 0.1.
    assert_relative_eq!(found[0].matched, 3.9, epsilon = 1e-9);
    assert_eq!(found[0].other, 0.0);

    // The same, entry by entry: all of it on the key that holds the next token.
    let mut next = tokens[1..].to_vec();
    next.push(0);
    let map = logit_attribution(a, logits.view(), &next).expect("valid");
    for query in 26..100 {
        assert_relative_eq!(map[[0, query, query - 24]], 3.9, epsilon = 1e-9);
    }
}

#[test]
fn a_head_that_does_not_copy_is_matched_to_its_harm() {
    let (tokens, logits) = copying_head(-4.0);
    let a = one_hot(1, 1, PAPER.len(), |q| if q > 25 { q - 24 } else { 0 });
    let found =
        attribution_scores(a.index_axis(Axis(0), 0), logits.view(), &tokens, PAPER).expect("valid");
    assert_relative_eq!(found[0].matched, -3.9, epsilon = 1e-9);
}

#[test]
fn a_uniform_head_has_its_analytic_scores() {
    let (tokens, logits) = copying_head(4.0);
    let a = uniform(1, 1, PAPER.len());
    let found = attribution_scores(a.index_axis(Axis(0), 0), logits.view(), &tokens, PAPER)
        .expect("valid")[0];
    // Query i has (i - 1) / 25 matched keys of i + 1, each raising the next token by 3.9. Every
    // other key lowers it by 0.1, but for the next token's occurrences where no match leads to: at
    // the last token of a repeat, position 1.
    let (mut matched, mut other) = (0.0, 0.0);
    for i in 26..100usize {
        let matches = ((i - 1) / 25) as f64;
        let unmatched_copies = f64::from(u8::from(i % 25 == 0));
        matched += 3.9 * matches / (i + 1) as f64;
        other += (3.9 * unmatched_copies - 0.1 * ((i + 1) as f64 - matches - unmatched_copies))
            / (i + 1) as f64;
    }
    assert_relative_eq!(found.matched, matched / 74.0, epsilon = 1e-6);
    assert_relative_eq!(found.other, other / 74.0, epsilon = 1e-6);
}

#[test]
fn a_head_that_raises_one_token_from_everywhere_measures_attention() {
    // Every source raises every target by 1: what is matched is then the prefix-matching score,
    // less its last query.
    let (tokens, _) = copying_head(1.0);
    let logits =
        Array3::from_shape_fn(
            (1, 101, 40),
            |(_, _, t)| if tokens.contains(&(t as u32)) { 1.0 } else { 0.0 },
        );
    let raise = 1.0 - 26.0 / 40.0;
    let a = uniform(1, 1, 101);
    let found = attribution_scores(a.index_axis(Axis(0), 0), logits.view(), &tokens, PAPER)
        .expect("valid")[0];
    let table = Array2::from_shape_vec((1, 101), tokens).expect("sizes agree");
    let score = prefix_matching(a.view(), table.view(), PAPER).expect("valid")[[0, 0]];
    let last = 3.0 / 101.0;
    assert_relative_eq!(found.matched, raise * (score * 75.0 - last) / 74.0, epsilon = 1e-6);
    assert_relative_eq!(found.matched + found.other, raise, epsilon = 1e-6);
}

#[test]
fn what_does_not_fit_is_refused() {
    let a = uniform(1, HEADS, N).index_axis_move(Axis(0), 0);
    let logits = Array3::<f32>::zeros((HEADS, N, VOCAB));
    let score = |logits: &Array3<f32>, tokens: &[u32], sample| {
        attribution_scores(a.view(), logits.view(), tokens, sample).expect_err("refused")
    };
    let map = |logits: &Array3<f32>, targets: &[u32]| {
        logit_attribution(a.view(), logits.view(), targets).expect_err("refused")
    };
    assert!(matches!(score(&logits, &[0; N - 1], SAMPLE), Error::Shape { .. }));
    assert!(matches!(map(&logits, &[0; N - 1]), Error::Shape { .. }));
    assert!(matches!(score(&logits, &[0; N], PAPER), Error::Shape { .. }));
    assert!(matches!(
        score(&logits, &[0; N], PrefixMatchingSample { block: 9, repeats: 1 }),
        Error::Setting { .. }
    ));
    assert!(matches!(score(&logits, &[VOCAB as u32; N], SAMPLE), Error::Token { .. }));
    assert!(matches!(map(&logits, &[VOCAB as u32; N]), Error::Token { .. }));
    assert!(matches!(map(&Array3::zeros((HEADS, N + 1, VOCAB)), &[0; N]), Error::Shape { .. }));
    let mut bad = logits.clone();
    bad[[1, 2, 3]] = f32::NAN;
    let place = |error| matches!(error, Error::Logit { head: 1, source_index: 2, token: 3, .. });
    assert!(place(score(&bad, &[0; N], SAMPLE)) && place(map(&bad, &[0; N])));
    let unnormalised = &a * 2.0;
    assert!(matches!(
        logit_attribution(unnormalised.view(), logits.view(), &[0; N]),
        Err(Error::Pattern { .. })
    ));

    // The one valid sample without a query that has both an earlier repeat and a next token.
    let a = uniform(1, 1, 3).index_axis_move(Axis(0), 0);
    let (logits, sample) =
        (Array3::<f32>::zeros((1, 3, VOCAB)), PrefixMatchingSample { block: 1, repeats: 2 });
    assert!(matches!(
        attribution_scores(a.view(), logits.view(), &[0, 1, 1], sample),
        Err(Error::Setting { .. })
    ));
    let a = uniform(1, 1, 4).index_axis_move(Axis(0), 0);
    let (logits, sample) =
        (Array3::<f32>::zeros((1, 4, VOCAB)), PrefixMatchingSample { block: 1, repeats: 3 });
    let found = attribution_scores(a.view(), logits.view(), &[0, 1, 1, 1], sample).expect("valid");
    assert_eq!(found, [Attribution { matched: 0.0, other: 0.0 }]);
}
