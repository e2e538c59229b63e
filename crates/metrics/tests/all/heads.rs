//! Previous-token and prefix-matching scores, against explicit loops and closed forms.

use crate::common::{one_hot, pattern, uniform};
use approx::assert_relative_eq;
use induction_metrics::{Error, HeadScores, PrefixMatchingSample};
use ndarray::{Array2, Array4, ArrayView2, ArrayView4};
use proptest::prelude::*;

const SMALL: PrefixMatchingSample = PrefixMatchingSample { block: 4, repeats: 3 };
const PAPER: PrefixMatchingSample = PrefixMatchingSample { block: 25, repeats: 4 };
const EXAMPLES: usize = 3;
const HEADS: usize = 2;

fn over_examples(scores: Result<Array2<f64>, Error>) -> Result<HeadScores, Error> {
    HeadScores::over_examples(scores?.view())
}

fn previous_token(a: ArrayView4<f32>) -> Result<HeadScores, Error> {
    over_examples(induction_metrics::previous_token(a))
}

fn prefix_matching(
    a: ArrayView4<f32>,
    tokens: ArrayView2<u32>,
    sample: PrefixMatchingSample,
) -> Result<HeadScores, Error> {
    over_examples(induction_metrics::prefix_matching(a, tokens, sample))
}

fn prefix_matching_literal(
    a: ArrayView4<f32>,
    tokens: ArrayView2<u32>,
    sample: PrefixMatchingSample,
) -> Result<HeadScores, Error> {
    over_examples(induction_metrics::prefix_matching_literal(a, tokens, sample))
}

/// Averages `score(example, head)` by hand.
fn assert_scores(found: &HeadScores, score: impl Fn(usize, usize) -> f64) {
    for head in 0..HEADS {
        let values: Vec<f64> = (0..EXAMPLES).map(|example| score(example, head)).collect();
        let n = EXAMPLES as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
        assert_relative_eq!(found.mean[head], mean, epsilon = 1e-9);
        let stderr = found.stderr.as_ref().expect("several examples")[head];
        assert_relative_eq!(stderr, (variance / n).sqrt(), epsilon = 1e-9);
    }
}

/// D1 and D2 word for word, over tokens that may repeat anywhere. `follows` is +1 for the key after
/// the earlier occurrence, -1 for the one before.
fn prefix_twin(
    a: &Array4<f32>,
    tokens: &Array2<u32>,
    sample: PrefixMatchingSample,
    follows: isize,
) -> HeadScores {
    let mut scores = Array2::zeros((EXAMPLES, HEADS));
    for example in 0..EXAMPLES {
        for head in 0..HEADS {
            let (mut sum, mut queries) = (0.0, 0.0);
            for i in 1 + sample.block..=sample.block * sample.repeats {
                queries += 1.0;
                // Every earlier occurrence, the start token aside; then the key beside it.
                for earlier in 1..i {
                    let key = (earlier as isize + follows) as usize;
                    if tokens[[example, earlier]] == tokens[[example, i]] && key >= 1 {
                        sum += f64::from(a[[example, head, i, key]]);
                    }
                }
            }
            scores[[example, head]] = sum / queries;
        }
    }
    HeadScores::over_examples(scores.view()).expect("examples")
}

/// The same by offsets, right when the tokens of a block are distinct: `j = i - block * k + 1`.
fn offset_twin(a: &Array4<f32>, sample: PrefixMatchingSample, example: usize, head: usize) -> f64 {
    let (mut sum, mut queries) = (0.0, 0.0);
    for i in 1 + sample.block..=sample.block * sample.repeats {
        queries += 1.0;
        for k in 1.. {
            if i <= sample.block * k {
                break;
            }
            sum += f64::from(a[[example, head, i, i - sample.block * k + 1]]);
        }
    }
    sum / queries
}

fn assert_close(found: &HeadScores, expected: &HeadScores) {
    for head in 0..HEADS {
        assert_relative_eq!(found.mean[head], expected.mean[head], epsilon = 1e-9);
        let stderr = |scores: &HeadScores| scores.stderr.as_ref().expect("several examples")[head];
        assert_relative_eq!(stderr(found), stderr(expected), epsilon = 1e-9);
    }
}

fn any_tokens() -> impl Strategy<Value = Array2<u32>> {
    // Few ids, the start token 0 among them, so that tokens meet inside a block and the start token
    // recurs.
    prop::collection::vec(0u32..4, EXAMPLES * SMALL.len()).prop_map(|flat| {
        let mut tokens =
            Array2::from_shape_vec((EXAMPLES, SMALL.len()), flat).expect("sizes agree");
        tokens.column_mut(0).fill(0);
        tokens
    })
}

proptest! {
    #[test]
    fn previous_token_is_its_definition(a in pattern(EXAMPLES, HEADS, 7)) {
        assert_scores(&previous_token(a.view()).expect("valid"), |example, head| {
            let mut sum = 0.0;
            for i in 1..7 {
                sum += f64::from(a[[example, head, i, i - 1]]);
            }
            sum / 6.0
        });
    }

    #[test]
    fn prefix_matching_is_its_definition(a in pattern(EXAMPLES, HEADS, SMALL.len()), tokens in any_tokens()) {
        let found = prefix_matching(a.view(), tokens.view(), SMALL).expect("valid");
        assert_close(&found, &prefix_twin(&a, &tokens, SMALL, 1));
        let found = prefix_matching_literal(a.view(), tokens.view(), SMALL).expect("valid");
        assert_close(&found, &prefix_twin(&a, &tokens, SMALL, -1));
    }

    #[test]
    fn identity_equals_offset_for_distinct_tokens(a in pattern(EXAMPLES, HEADS, SMALL.len()), seed: u64) {
        let allowed: Vec<u32> = (1..50).collect();
        let tokens = SMALL.batch(seed, EXAMPLES, 0, &allowed).expect("enough tokens");
        let found = prefix_matching(a.view(), tokens.view(), SMALL).expect("valid");
        assert_scores(&found, |example, head| offset_twin(&a, SMALL, example, head));
    }

    #[test]
    fn scores_are_shares_of_attention(a in pattern(EXAMPLES, HEADS, SMALL.len()), tokens in any_tokens()) {
        let all = [
            previous_token(a.view()),
            prefix_matching(a.view(), tokens.view(), SMALL),
            prefix_matching_literal(a.view(), tokens.view(), SMALL),
        ];
        for score in all.into_iter().flat_map(|scores| scores.expect("valid").mean) {
            prop_assert!((0.0..=1.0 + 1e-5).contains(&score), "{score}");
        }
    }

    #[test]
    fn names_of_tokens_do_not_matter(a in pattern(EXAMPLES, HEADS, SMALL.len()), tokens in any_tokens(), shift: u32) {
        let renamed = tokens.mapv(|token| token.wrapping_mul(7).wrapping_add(shift));
        let score = |tokens: &Array2<u32>| prefix_matching(a.view(), tokens.view(), SMALL).expect("valid");
        prop_assert_eq!(score(&tokens), score(&renamed));
    }
}

fn paper_tokens() -> Array2<u32> {
    PAPER.batch(0, 2, 0, &(1..100).collect::<Vec<_>>()).expect("enough tokens")
}

#[test]
fn perfect_heads_score_one() {
    let n = PAPER.len();
    assert_eq!(n, 101);
    let previous = one_hot(2, 3, n, |q| q.saturating_sub(1));
    let induction = one_hot(2, 3, n, |q| if q > 25 { q - 24 } else { 0 });
    let furthest = one_hot(2, 3, n, |q| if q > 25 { (q - 1) % 25 + 2 } else { 0 });
    let before = one_hot(2, 3, n, |q| q.saturating_sub(26));
    let perfect = HeadScores { mean: vec![1.0; 3], stderr: Some(vec![0.0; 3]) };

    assert_eq!(previous_token(previous.view()).expect("valid"), perfect);
    let tokens = paper_tokens();
    let score = |a: &Array4<f32>| prefix_matching(a.view(), tokens.view(), PAPER).expect("valid");
    assert_eq!(score(&induction), perfect);
    // Looking into the first repeat rather than the last is induction as well.
    assert_eq!(score(&furthest), perfect);
    assert_eq!(score(&before).mean, [0.0; 3]);
    // A head at offset 24 is not a previous-token head; the one exception, query 1 to the start
    // token, is a rest.
    assert_relative_eq!(previous_token(induction.view()).expect("valid").mean[0], 0.01);

    // The literal reading loses query 26, whose match is preceded by the start token.
    let literal =
        |a: &Array4<f32>| prefix_matching_literal(a.view(), tokens.view(), PAPER).expect("valid");
    assert_relative_eq!(literal(&before).mean[0], 74.0 / 75.0);
    assert_eq!(literal(&induction).mean, [0.0; 3]);
}

#[test]
fn last_token_of_a_repeat_counts() {
    // Its follower opens the next repeat, which has been read already (paper.md, 3): query 50, key
    // 26.
    let only_last = one_hot(2, 1, PAPER.len(), |q| if q > 25 && q % 25 == 0 { q - 24 } else { 0 });
    let found = prefix_matching(only_last.view(), paper_tokens().view(), PAPER).expect("valid");
    assert_relative_eq!(found.mean[0], 3.0 / 75.0);
}

#[test]
fn start_token_is_no_match() {
    // Key 1 follows the start token; at the last token of a repeat an offset rule would reach it, i
    // - 25k = 0.
    let to_first = one_hot(2, 1, PAPER.len(), |q| if q % 25 == 0 { q.min(1) } else { 0 });
    assert_eq!(
        prefix_matching(to_first.view(), paper_tokens().view(), PAPER).expect("valid").mean,
        [0.0]
    );
}

#[test]
fn uniform_attention_has_its_analytic_scores() {
    let n = PAPER.len();
    let a = uniform(2, 1, n);
    // 1 / (i + 1) on the previous token: (H_n - 1) / (n - 1).
    let harmonic: f64 = (1..=n).map(|i| 1.0 / i as f64).sum();
    let found = previous_token(a.view()).expect("valid").mean[0];
    assert_relative_eq!(found, (harmonic - 1.0) / (n - 1) as f64, epsilon = 1e-7);
    // A query in repeat r has r - 1 earlier occurrences.
    let expected: f64 =
        (26..=100).map(|i| ((i - 1) / 25) as f64 / (i + 1) as f64).sum::<f64>() / 75.0;
    let found = prefix_matching(a.view(), paper_tokens().view(), PAPER).expect("valid").mean[0];
    assert_relative_eq!(found, expected, epsilon = 1e-7);
}

#[test]
fn one_example_has_no_standard_error() {
    assert_eq!(previous_token(uniform(1, 2, 5).view()).expect("valid").stderr, None);
}

#[test]
fn patterns_that_are_none_are_refused() {
    let good = uniform(2, 2, 5);
    let with = |at: [usize; 4], value: f32| {
        let mut bad = good.clone();
        bad[at] = value;
        previous_token(bad.view()).expect_err("refused")
    };
    let at = |error: &Error| match error {
        Error::Pattern { example, head, query, .. } => (*example, *head, *query),
        other => panic!("{other}"),
    };
    for value in [f32::NAN, f32::INFINITY, -0.2, 5.0] {
        assert_eq!(at(&with([1, 0, 3, 2], value)), (1, 0, 3), "{value}");
    }
    // Attention to the future, with the past intact.
    assert_eq!(at(&with([0, 1, 2, 4], 0.1)), (0, 1, 2));
    assert!(with([1, 0, 3, 2], f32::NAN).to_string().contains("example 1, head 0, query 3"));
    assert!(with([1, 0, 3, 2], f32::INFINITY).to_string().contains("found inf at key 2"));

    let transposed = good.clone().permuted_axes([0, 1, 3, 2]);
    assert!(matches!(previous_token(transposed.view()), Err(Error::Pattern { .. })));
    let none = Array4::<f32>::zeros((0, 2, 5, 5));
    assert!(matches!(previous_token(none.view()), Err(Error::NoExamples { .. })));
    for shape in [(1, 1, 5, 4), (1, 1, 1, 1), (1, 1, 0, 0)] {
        let odd = Array4::<f32>::zeros(shape);
        assert!(matches!(previous_token(odd.view()), Err(Error::Shape { .. })), "{shape:?}");
    }
}

#[test]
fn samples_that_do_not_fit_are_refused() {
    let a = uniform(2, 1, PAPER.len());
    let tokens = paper_tokens();
    let score = |tokens: &Array2<u32>, sample| {
        prefix_matching(a.view(), tokens.view(), sample).expect_err("refused")
    };
    assert!(matches!(score(&tokens, SMALL), Error::Shape { .. }));
    assert!(matches!(score(&Array2::zeros((1, 101)), PAPER), Error::Shape { .. }));
    for bad in [
        PrefixMatchingSample { block: 0, repeats: 4 },
        PrefixMatchingSample { block: 100, repeats: 1 },
    ] {
        assert!(matches!(score(&tokens, bad), Error::Setting { .. }), "{bad:?}");
    }
}
