//! Loss by index and the in-context learning score, against explicit loops and known values.

use approx::assert_relative_eq;
use induction_metrics::{Error, IclIndices, before_after_attribution, icl_score, loss_by_index};
use ndarray::Array2;
use proptest::prelude::*;

/// The score straight from its definition: mean of the window means, one number at a time.
fn icl_twin(losses: &Array2<f32>, at: IclIndices) -> (f64, f64) {
    let mut differences = Vec::new();
    for example in 0..losses.nrows() {
        let (mut early, mut late, mut count) = (0.0, 0.0, 0.0);
        for i in 1..=losses.ncols() {
            let loss = f64::from(losses[[example, i - 1]]);
            if i.abs_diff(at.early) <= at.half_width {
                early += loss;
                count += 1.0;
            }
            if i.abs_diff(at.late) <= at.half_width {
                late += loss;
            }
        }
        differences.push(late / count - early / count);
    }
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

fn losses() -> impl Strategy<Value = Array2<f32>> {
    (2usize..6, 11usize..150).prop_flat_map(|(examples, n_ctx)| {
        prop::collection::vec(0.0f32..15.0, examples * n_ctx).prop_map(move |flat| {
            Array2::from_shape_vec((examples, n_ctx), flat).expect("sizes agree")
        })
    })
}

proptest! {
    #[test]
    fn icl_score_is_its_definition(losses in losses()) {
        let indices = IclIndices::for_context(losses.ncols()).expect("long enough");
        let found = icl_score(losses.view(), &indices).expect("valid");
        let (score, stderr) = icl_twin(&losses, indices);
        assert_relative_eq!(found.score, score, epsilon = 1e-9);
        assert_relative_eq!(found.stderr.expect("several examples"), stderr, epsilon = 1e-9);
    }

    #[test]
    fn loss_by_index_is_its_definition(losses in losses()) {
        let found = loss_by_index(losses.view()).expect("valid");
        for i in 0..losses.ncols() {
            let mut sum = 0.0;
            for example in 0..losses.nrows() {
                sum += f64::from(losses[[example, i]]);
            }
            assert_relative_eq!(found[i], sum / losses.nrows() as f64, epsilon = 1e-9);
        }
    }

    #[test]
    fn score_agrees_with_loss_by_index(losses in losses()) {
        let indices = IclIndices { half_width: 0, ..IclIndices::for_context(losses.ncols()).expect("long enough") };
        let by_index = loss_by_index(losses.view()).expect("valid");
        let found = icl_score(losses.view(), &indices).expect("valid").score;
        assert_relative_eq!(found, by_index[indices.late - 1] - by_index[indices.early - 1], epsilon = 1e-9);
    }

    #[test]
    fn indices_fit_every_context(n_ctx in 11usize..2000) {
        IclIndices::for_context(n_ctx).expect("long enough").validate(n_ctx).expect("fits");
    }
}

#[test]
fn indices_keep_the_papers_ratio() {
    let at = |n_ctx| IclIndices::for_context(n_ctx).expect("long enough");
    for n_ctx in [512, 513, 8192] {
        assert_eq!(at(n_ctx), IclIndices { early: 50, late: 500, half_width: 5 });
    }
    assert_eq!(at(256), IclIndices { early: 25, late: 250, half_width: 5 });
    assert_eq!(at(128), IclIndices { early: 12, late: 125, half_width: 3 });
    assert_eq!(at(64), IclIndices { early: 6, late: 62, half_width: 2 });
    assert_eq!(at(11), IclIndices { early: 1, late: 10, half_width: 0 });
    for n_ctx in 0..11 {
        assert_eq!(
            IclIndices::for_context(n_ctx),
            Err(Error::ShortContext { expected: 11, found: n_ctx })
        );
    }
}

#[test]
fn index_i_is_column_i_minus_one() {
    // The loss of token i is i nats, so a score names the indices it read.
    let losses = Array2::from_shape_fn((3, 512), |(_, column)| (column + 1) as f32);
    let indices =
        IclIndices { half_width: 0, ..IclIndices::for_context(512).expect("long enough") };
    assert_eq!(icl_score(losses.view(), &indices).expect("valid").score, 450.0);
    let late_only =
        Array2::from_shape_fn((1, 512), |(_, column)| f32::from(u8::from(column == 499)));
    let found = icl_score(late_only.view(), &indices).expect("valid");
    assert_eq!((found.score, found.stderr), (1.0, None));
}

#[test]
fn difficulty_of_a_text_cancels() {
    // Each example is harder than the last by 3 nats everywhere: no spread is left in the
    // differences.
    let losses =
        Array2::from_shape_fn((4, 128), |(e, i)| 3.0 * e as f32 + if i < 64 { 1.0 } else { 0.5 });
    let found = icl_score(losses.view(), &IclIndices::for_context(128).expect("long enough"))
        .expect("valid");
    assert_eq!((found.score, found.stderr), (-0.5, Some(0.0)));
}

#[test]
fn bad_losses_are_named() {
    let mut losses = Array2::<f32>::zeros((3, 128));
    losses[[2, 41]] = f32::NAN;
    let indices = IclIndices::for_context(128).expect("long enough");
    let error = icl_score(losses.view(), &indices).expect_err("NaN");
    assert!(matches!(error, Error::Loss { example: 2, index: 42, .. }), "{error}");
    assert!(error.to_string().contains("example 2 at index 42"), "{error}");
    losses[[2, 41]] = f32::INFINITY;
    assert!(matches!(loss_by_index(losses.view()), Err(Error::Loss { example: 2, index: 42, .. })));
    let none = Array2::<f32>::zeros((0, 128));
    assert!(matches!(loss_by_index(none.view()), Err(Error::NoExamples { .. })));
    assert!(matches!(icl_score(none.view(), &indices), Err(Error::NoExamples { .. })));
}

#[test]
fn bad_indices_are_refused() {
    let indices = |early, late, half_width| IclIndices { early, late, half_width };
    let losses = Array2::<f32>::zeros((1, 100));
    for bad in [
        indices(0, 50, 0),
        indices(5, 50, 5),
        indices(6, 96, 5),
        indices(40, 50, 5),
        indices(50, 40, 0),
        indices(10, 10, 0),
        indices(usize::MAX, usize::MAX, usize::MAX),
    ] {
        assert!(
            matches!(icl_score(losses.view(), &bad), Err(Error::Indices { n_ctx: 100, .. })),
            "{bad:?}"
        );
    }
    for good in [indices(1, 2, 0), indices(6, 95, 5), indices(39, 50, 5)] {
        icl_score(losses.view(), &good).expect("fits");
    }
}

#[test]
fn a_paired_change_forgets_what_the_examples_have_in_common() {
    // Scores that differ wildly between examples, and fall by 0.1 +- 0.01 in each: deviations of
    // 0.01 around the change.
    let before = [5.0, -3.0, 0.5, 9.0];
    let after: Vec<f64> = before
        .iter()
        .zip([-0.09, -0.11, -0.09, -0.11])
        .map(|(score, change)| score + change)
        .collect();
    let (change, stderr) = induction_metrics::paired_change(&before, &after).unwrap();
    assert_relative_eq!(change, -0.1, epsilon = 1e-12);
    assert_relative_eq!(stderr.unwrap(), (4.0 * 1e-4f64 / 3.0 / 4.0).sqrt(), epsilon = 1e-12);
    assert_eq!(induction_metrics::paired_change(&[1.0], &[2.0]).unwrap(), (1.0, None));
    assert!(
        induction_metrics::paired_change(&[], &[]).is_err()
            && induction_metrics::paired_change(&[1.0], &[]).is_err()
    );
}

#[test]
fn what_undoes_a_change_is_negative_along_it() {
    let (before, after) = ([5.0, 5.0, 5.0], [2.0, 1.0, 5.0]);
    // Half of the change undone: half of its length, 5, backwards. The example that did not change
    // counts for nothing.
    let undone =
        before_after_attribution(&before, &after, &[1.5, 2.0, 9.0], None).expect("equal lengths");
    assert_eq!(undone, Some(-2.5));
    let furthered =
        before_after_attribution(&before, &after, &[-3.0, -4.0, 0.0], None).expect("equal lengths");
    assert_eq!(furthered, Some(5.0));
    // Taking the first example four times and the second never is having four of it.
    let drawn = before_after_attribution(&before, &after, &[1.5, 2.0, 9.0], Some(&[4, 0, 0]))
        .expect("equal lengths");
    let four =
        before_after_attribution(&[5.0; 4], &[2.0; 4], &[1.5; 4], None).expect("equal lengths");
    assert_eq!((drawn, four), (Some(-3.0), Some(-3.0)));
    assert_eq!(before_after_attribution(&before, &before, &[1.0; 3], None), Ok(None));
    assert!(before_after_attribution(&before, &after, &[1.0], None).is_err());
}
