//! The same-token score: closed forms, an explicit-loop twin, and models to which the far context
//! is nothing, or all.

use std::collections::HashMap;

use induction_metrics::{
    IclIndices, SameToken, copy_split, foretold, icl_by_example, loss_by_index,
};
use ndarray::{Array1, Array2, array};
use proptest::prelude::*;
use rand::Rng;

#[test]
fn the_papers_context_gives_the_papers_tokens() {
    let new =
        |n_ctx: usize| SameToken::new(&IclIndices::for_context(n_ctx).unwrap(), n_ctx).unwrap();
    let paper = new(512);
    assert_eq!(paper, SameToken { shift: 450, first: 490, last: 512 });
    assert_eq!((paper.first - paper.shift, paper.fresh_len()), (40, 62));
    assert_eq!(new(64), SameToken { shift: 56, first: 62, last: 64 });
    // Of a longer context the paper looks at the beginning.
    assert_eq!(new(8192), paper);
}

/// Tokens of a second-order chain that copies what followed an earlier token half of the time.
fn text(examples: usize, n_ctx: usize, seed: u64) -> Array2<u32> {
    let mut out = Array2::zeros((examples, n_ctx + 1));
    for (e, mut row) in out.rows_mut().into_iter().enumerate() {
        let mut rng = induction_random::stream(seed, "text", e as u64);
        let mut after: HashMap<u32, u32> = HashMap::new();
        for i in 1..=n_ctx {
            let previous: u32 = row[i - 1];
            let token = match after.get(&previous) {
                Some(&token) if rng.random_range(0..2) == 0 => token,
                _ => rng.random_range(1..40),
            };
            after.insert(previous, token);
            row[i] = token;
        }
    }
    out
}

/// Losses of a model that reads the token before and no further: a table of bigrams.
fn bigram_losses(examples: &Array2<u32>) -> Array2<f32> {
    let loss = |a: u32, b: u32| ((a * 31 + b * 17) % 23) as f32 / 4.0;
    Array2::from_shape_fn((examples.nrows(), examples.ncols() - 1), |(e, i)| {
        loss(examples[[e, i]], examples[[e, i + 1]])
    })
}

/// Losses of a model that does nothing but induction: cheap where the last copy of the current
/// token foretells.
fn induction_losses(examples: &Array2<u32>) -> Array2<f32> {
    let mut out = Array2::zeros((examples.nrows(), examples.ncols() - 1));
    for (e, mut row) in out.rows_mut().into_iter().enumerate() {
        let mut after = HashMap::new();
        for i in 0..examples.ncols() - 1 {
            let (a, b) = (examples[[e, i]], examples[[e, i + 1]]);
            row[i] = if after.insert(a, b) == Some(b) { 0.5 } else { 4.0 };
        }
    }
    out
}

#[test]
fn a_bigram_model_scores_nothing_and_an_induction_model_what_the_far_copies_give() {
    let examples = text(400, 128, 1);
    let indices = IclIndices::for_context(128).unwrap();
    let same = SameToken::new(&indices, 128).unwrap();
    let fresh = same.fresh(examples.view()).unwrap();
    assert_eq!(fresh.ncols(), same.fresh_len() + 1);

    let bigram =
        same.by_example(bigram_losses(&examples).view(), bigram_losses(&fresh).view()).unwrap();
    assert!(
        bigram.iter().all(|score| *score == 0.0),
        "the tokens are the same, and so is the token before each"
    );
    let paper = icl_by_example(bigram_losses(&examples).view(), &indices).unwrap();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let spread = |values: &[f64]| {
        (values.iter().map(|v| (v - mean(values)).powi(2)).sum::<f64>() / values.len() as f64)
            .sqrt()
    };
    assert!(spread(&paper) > 0.3, "which tokens stand where is most of the paper's score");

    // In expectation both estimators measure the same, and the sharp one does it with less noise.
    let (long, short) = (induction_losses(&examples), induction_losses(&fresh));
    let sharp = same.by_example(long.view(), short.view()).unwrap();
    let paper = icl_by_example(long.view(), &indices).unwrap();
    let n = (sharp.len() as f64).sqrt();
    assert!(mean(&sharp) < -0.3, "{}", mean(&sharp));
    // The late tokens have read a whole window, wherever in it they stand; early ones stand at 10
    // to 15, 12 on average.
    assert!(
        (mean(&sharp) - mean(&paper)).abs() < 4.0 * (spread(&paper) + spread(&sharp)) / n,
        "{} {}",
        mean(&sharp),
        mean(&paper)
    );
    assert!(spread(&sharp) < spread(&paper), "{} {}", spread(&sharp), spread(&paper));
}

#[test]
fn by_index_holds_the_score() {
    let examples = text(20, 128, 2);
    let same = SameToken::new(&IclIndices::for_context(128).unwrap(), 128).unwrap();
    let fresh = same.fresh(examples.view()).unwrap();
    let (long, short) = (induction_losses(&examples), induction_losses(&fresh));
    let by_index = same.by_index(long.view(), short.view()).unwrap();
    let by_example = same.by_example(long.view(), short.view()).unwrap();
    let columns = &by_index[same.first - 1 - same.shift..];
    let (a, b) =
        (columns.iter().sum::<f64>() / columns.len() as f64, by_example.iter().sum::<f64>() / 20.0);
    assert!((a - b).abs() < 1e-12);
    let (all, few) = (loss_by_index(long.view()).unwrap(), loss_by_index(short.view()).unwrap());
    for (k, value) in by_index.iter().enumerate() {
        assert!((value - (all[k + same.shift] - few[k])).abs() < 1e-12);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let same = SameToken { shift: 4, first: 6, last: 8 };
    let (long, fresh) = (Array2::zeros((2, 8)), Array2::zeros((2, 4)));
    same.by_example(long.view(), fresh.view()).unwrap();
    let refused = |same: SameToken, long: &Array2<f32>, fresh: &Array2<f32>| {
        same.by_example(long.view(), fresh.view()).unwrap_err().to_string()
    };
    assert!(refused(same, &long, &Array2::zeros((2, 5))).contains("[2, 4]"));
    assert!(refused(same, &Array2::zeros((0, 8)), &Array2::zeros((0, 4))).contains("example"));
    assert!(refused(SameToken { shift: 6, ..same }, &long, &fresh).contains("shift 6"));
    assert!(refused(SameToken { last: 9, ..same }, &long, &fresh).contains("6 to 9 of 8"));
    let mut hole = fresh.clone();
    hole[[1, 2]] = f32::NAN;
    assert!(refused(same, &long, &hole).contains("NaN"));
    assert!(same.fresh(Array2::zeros((2, 8)).view()).is_err());
    assert!(copy_split(long.view(), Array2::zeros((2, 8)).view()).is_err());
}

#[test]
fn an_earlier_copy_foretells() {
    // bos A B A B B A C A B: after an A stood a B, after a B an A and a B.
    let tokens = array![0, 1, 2, 1, 2, 2, 1, 3, 1, 2];
    let expected = [false, false, false, true, false, true, false, false, true];
    assert_eq!(foretold(tokens.view()), expected);
    let losses = Array2::from_shape_fn((1, 9), |(_, i)| i as f32);
    let split = copy_split(losses.view(), tokens.insert_axis(ndarray::Axis(0)).view()).unwrap()[0];
    assert_eq!(
        (split.foretold, split.n_foretold, split.others, split.n_others),
        (16.0, 3, 20.0, 6)
    );
}

proptest! {
    #[test]
    fn foretold_is_what_two_loops_say(tokens in prop::collection::vec(0u32..6, 1..40)) {
        let found = foretold(Array1::from(tokens.clone()).view());
        let twin: Vec<bool> = (1..tokens.len())
            .map(|i| (1..i).any(|k| tokens[k - 1] == tokens[i - 1] && tokens[k] == tokens[i]))
            .collect();
        prop_assert_eq!(found, twin);
    }
}
