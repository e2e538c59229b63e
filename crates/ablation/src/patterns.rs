//! Ideal patterns, made from the tokens alone (paper.md, 9: R1).

use induction_records::IdealPattern;
use ndarray::{Array2, ArrayView1};

/// An ideal pattern on these tokens, `[query, key]`; rows are causal shares that sum to 1.
pub fn ideal_pattern(pattern: IdealPattern, tokens: ArrayView1<u32>) -> Array2<f32> {
    match pattern {
        IdealPattern::PreviousToken => previous_token_pattern(tokens.len()),
        IdealPattern::InductionOneToken => induction_pattern(tokens, 1),
        IdealPattern::InductionTwoTokens => induction_pattern(tokens, 2),
    }
}

/// Every position attends to the one before it, position 0 to itself: `[query, key]`.
pub fn previous_token_pattern(pos: usize) -> Array2<f32> {
    Array2::from_shape_fn((pos, pos), |(query, key)| f32::from(key == query.saturating_sub(1)))
}

/// Every position attends to what followed an earlier copy of the `matched` tokens up to it, evenly
/// over all such places; where there is none, to what followed fewer; where the token itself is
/// new, to position 0. `[query, key]`.
///
/// With one token matched this is "attend to the token after an earlier copy of this one", with two
/// "after an earlier copy of this pair" (paper.md, 9: R1; which of several copies, and where a head
/// rests, it leaves open).
pub fn induction_pattern(tokens: ArrayView1<u32>, matched: usize) -> Array2<f32> {
    let pos = tokens.len();
    let mut pattern = Array2::zeros((pos, pos));
    for query in 0..pos {
        // The copy ends at `key - 1`, before the query.
        let agrees = |key: usize, count: usize| {
            count <= key && (0..count).all(|back| tokens[key - 1 - back] == tokens[query - back])
        };
        let follows =
            |count: usize| (1..=query).filter(|&key| agrees(key, count)).collect::<Vec<_>>();
        let keys = (1..=matched)
            .rev()
            .map(follows)
            .find(|keys| !keys.is_empty())
            .unwrap_or_else(|| vec![0]);
        for &key in &keys {
            pattern[[query, key]] = 1.0 / keys.len() as f32;
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, arr1, array};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(
            previous_token_pattern(3),
            array![[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
        );
        let tokens = arr1(&[7, 1, 2, 1, 3, 2, 1]);
        let one = induction_pattern(tokens.view(), 1);
        assert_eq!(
            one.row(2),
            arr1(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            "a new token rests at position 0"
        );
        assert_eq!(
            one.row(3),
            arr1(&[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
            "after the first 1 came 2"
        );
        assert_eq!(one.row(6), arr1(&[0.0, 0.0, 0.5, 0.0, 0.5, 0.0, 0.0]), "both earlier 1s");
        let two = induction_pattern(tokens.view(), 2);
        assert_eq!(
            two.row(6),
            arr1(&[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
            "only one of them came after a 2"
        );
        assert_eq!(two.row(3), one.row(3), "1 came after 2 here only: one token must do");
    }

    #[test]
    fn a_token_that_repeats_at_once_follows_itself() {
        let pattern = induction_pattern(arr1(&[5, 5]).view(), 1);
        assert_eq!(pattern, array![[1.0, 0.0], [0.0, 1.0]]);
    }

    proptest! {
        #[test]
        fn rows_are_causal_shares_and_only_true_followers_get_any(
            tokens in prop::collection::vec(0u32..4, 1..30), matched in 1usize..4,
        ) {
            let tokens = arr1(&tokens);
            let pattern = induction_pattern(tokens.view(), matched);
            for (query, row) in pattern.axis_iter(Axis(0)).enumerate() {
                prop_assert!((row.sum() - 1.0).abs() < 1e-5);
                for (key, &share) in row.iter().enumerate() {
                    let follows = key >= 1 && tokens[key - 1] == tokens[query];
                    prop_assert!(share == 0.0 || key == 0 || (key <= query && follows));
                }
                let copies = (1..=query).any(|key| tokens[key - 1] == tokens[query]);
                prop_assert_eq!(row[0] > 0.0, !copies);
            }
        }
    }
}
