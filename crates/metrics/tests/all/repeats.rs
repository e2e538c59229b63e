//! Repeats within a window, against explicit loops and windows whose answer is known.

use approx::assert_relative_eq;
use induction_metrics::{Error, Repeats, excess_repeats, repeats};
use ndarray::{Array2, array};
use proptest::prelude::*;

/// The definition, place by place.
fn repeats_twin(windows: &Array2<u32>) -> Repeats {
    let mut found = Repeats { places: 0, with_copy: 0, repeated: 0, as_last: 0 };
    for window in windows.outer_iter() {
        for at in 1..window.len() - 1 {
            let copies: Vec<usize> = (1..at).filter(|&k| window[k] == window[at]).collect();
            let follows = |k: usize| window[k + 1] == window[at + 1];
            found.places += 1;
            found.with_copy += u64::from(!copies.is_empty());
            found.repeated += u64::from(copies.iter().any(|&k| follows(k)));
            found.as_last += u64::from(copies.last().is_some_and(|&k| follows(k)));
        }
    }
    found
}

fn excess_twin(windows: &Array2<u32>) -> f64 {
    let (rows, places) = (windows.nrows(), windows.ncols() - 2);
    let half = places / 2;
    let occurs = |row: usize, a: u32, b: u32| {
        (1..=half).any(|k| windows[[row, k]] == a && windows[[row, k + 1]] == b)
    };
    let mut sum = 0.0;
    for row in 0..rows {
        for at in half + 1..=places {
            let (a, b) = (windows[[row, at]], windows[[row, at + 1]]);
            let share = |row| f64::from(u8::from(occurs(row, a, b)));
            sum += share(row) - share((row + 1) % rows);
        }
    }
    sum / (rows * (places - half)) as f64
}

fn windows() -> impl Strategy<Value = Array2<u32>> {
    (2usize..5, 4usize..40, 1u32..7).prop_flat_map(|(rows, columns, vocabulary)| {
        prop::collection::vec(0..vocabulary, rows * columns).prop_map(move |tokens| {
            Array2::from_shape_vec((rows, columns), tokens).expect("sizes agree")
        })
    })
}

proptest! {
    #[test]
    fn repeats_are_those_of_the_twin(windows in windows()) {
        prop_assert_eq!(repeats(windows.view()).unwrap(), repeats_twin(&windows));
        let (ours, twin) = (excess_repeats(windows.view()).unwrap(), excess_twin(&windows));
        prop_assert!((ours - twin).abs() < 1e-12, "{ours} {twin}");
    }

    /// A token called by another name is as often repeated.
    #[test]
    fn names_of_tokens_do_not_matter(windows in windows()) {
        let renamed = windows.mapv(|token| 1000 - 7 * token);
        prop_assert_eq!(repeats(windows.view()).unwrap(), repeats(renamed.view()).unwrap());
        prop_assert_eq!(
            excess_repeats(windows.view()).unwrap(),
            excess_repeats(renamed.view()).unwrap()
        );
    }
}

/// A block of `n` distinct tokens told `k` times: `k n - 1` places, of which the first `n` have no
/// copy; every other is foretold.
#[test]
fn a_block_told_again_is_foretold() {
    for (n, k) in [(3, 2), (5, 4), (1, 6)] {
        let window: Vec<u32> =
            std::iter::once(99).chain((0..k * n).map(|at| (at % n) as u32)).collect();
        let windows = Array2::from_shape_vec((1, 1 + k * n), window).unwrap();
        let found = repeats(windows.view()).unwrap();
        assert_eq!(found.places, (k * n - 1) as u64);
        assert_eq!(found.with_copy, (k * n - 1 - n) as u64);
        assert_relative_eq!(found.frequency(), 1.0 - n as f64 / (k * n - 1) as f64);
        assert_eq!(found.reliability(), 1.0);
    }
}

#[test]
fn distinct_tokens_never_repeat() {
    let windows = Array2::from_shape_fn((3, 20), |(row, at)| (row * 20 + at) as u32);
    let found = repeats(windows.view()).unwrap();
    assert_eq!((found.frequency(), found.reliability()), (0.0, 0.0));
    assert_eq!(excess_repeats(windows.view()).unwrap(), 0.0);
}

/// What every window says, weights can learn: no excess. What only one says twice is all excess.
#[test]
fn excess_is_of_this_context_alone() {
    let same = Array2::from_shape_fn((4, 10), |(_, at)| (at % 2) as u32);
    assert!(repeats(same.view()).unwrap().frequency() > 0.7);
    assert_eq!(excess_repeats(same.view()).unwrap(), 0.0);
    let own = array![[9, 0, 1, 0, 1, 0], [9, 2, 3, 2, 3, 2]];
    // Four bigrams, of which the first two are the first half: 01 10 | 01 10.
    assert_eq!(excess_repeats(own.view()).unwrap(), 1.0);
}

#[test]
fn the_start_token_is_no_place() {
    let found = repeats(array![[7, 1, 7, 1]].view()).unwrap();
    assert_eq!(found, Repeats { places: 2, with_copy: 0, repeated: 0, as_last: 0 });
}

#[test]
fn unusable_windows_are_refused() {
    let none = Array2::<u32>::zeros((0, 8));
    assert!(matches!(repeats(none.view()), Err(Error::NoExamples { .. })));
    let short = Array2::<u32>::zeros((3, 2));
    assert!(matches!(repeats(short.view()), Err(Error::Shape { .. })));
    assert!(matches!(excess_repeats(Array2::zeros((3, 3)).view()), Err(Error::Shape { .. })));
    assert!(matches!(excess_repeats(Array2::zeros((1, 9)).view()), Err(Error::Shape { .. })));
}
