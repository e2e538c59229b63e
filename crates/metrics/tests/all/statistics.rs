//! Statistics and principal components against NumPy, SciPy and scikit-learn, explicit loops and
//! closed forms.

use approx::assert_relative_eq;
use induction_metrics::{
    Error, TwoByTwo, binomial_tail, change_point, late_slope, pca, percentile_interval, pivot,
    resample, spearman, weighted_mean,
};
use ndarray::{Array2, array};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Oracle {
    percentiles: Vec<Percentiles>,
    correlations: Vec<Correlation>,
    tables: Vec<Table>,
    components: Vec<Components>,
    slopes: Slopes,
}

#[derive(Deserialize)]
struct Percentiles {
    values: Vec<f64>,
    low: f64,
    high: f64,
}

#[derive(Deserialize)]
struct Correlation {
    x: Vec<f64>,
    y: Vec<f64>,
    rho: f64,
}

#[derive(Deserialize)]
struct Table {
    cells: [u64; 4],
    p: f64,
}

#[derive(Deserialize)]
struct Components {
    rows: Vec<Vec<f32>>,
    axes: Vec<Vec<f64>>,
    explained: Vec<f64>,
    coordinates: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Slopes {
    losses: Vec<Vec<f32>>,
    from: usize,
    slopes: Vec<f64>,
}

fn oracle() -> Oracle {
    let json =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/oracle/statistics.json"));
    serde_json::from_str(json).expect("as statistics_and_pca.py writes it")
}

fn matrix<T: Copy>(rows: &[Vec<T>]) -> Array2<T> {
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).expect("rows of one length")
}

#[track_caller]
fn assert_near(found: &Array2<f64>, expected: &Array2<f64>, epsilon: f64) {
    assert_eq!(found.dim(), expected.dim());
    found.iter().zip(expected).for_each(|(a, b)| assert_relative_eq!(*a, *b, epsilon = epsilon));
}

fn table([both, first_only, second_only, neither]: [u64; 4]) -> TwoByTwo {
    TwoByTwo { both, first_only, second_only, neither }
}

#[test]
fn intervals_are_numpys() {
    for Percentiles { values, low, high } in oracle().percentiles {
        let found = percentile_interval(&values, 0.95).expect("finite").expect("values");
        assert_relative_eq!(found.low, low, epsilon = 1e-12);
        assert_relative_eq!(found.high, high, epsilon = 1e-12);
    }
    assert_eq!(percentile_interval(&[], 0.95), Ok(None));
    assert!(matches!(percentile_interval(&[1.0], 1.0), Err(Error::Setting { name: "level", .. })));
    assert!(percentile_interval(&[f64::NAN], 0.95).is_err());
}

#[test]
fn rank_correlations_are_scipys() {
    for Correlation { x, y, rho } in oracle().correlations {
        assert_relative_eq!(
            spearman(&x, &y).expect("finite").expect("not constant"),
            rho,
            epsilon = 1e-12
        );
    }
    assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), Ok(None));
    assert_eq!(spearman(&[1.0], &[1.0]), Ok(None));
    assert!(matches!(spearman(&[1.0], &[]), Err(Error::Shape { .. })));
    assert!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]).is_err());
}

#[test]
fn fishers_test_is_scipys() {
    for Table { cells, p } in oracle().tables {
        assert_relative_eq!(table(cells).fisher(), p, epsilon = 1e-10);
    }
}

#[test]
fn odds_ratios() {
    assert_eq!(table([6, 2, 1, 15]).odds_ratio(), Some(45.0));
    // An empty cell: half an item everywhere.
    assert_eq!(table([1, 5, 0, 18]).odds_ratio(), Some(1.5 * 18.5 / (5.5 * 0.5)));
    assert_eq!(table([0, 0, 3, 4]).odds_ratio(), None);
    assert_eq!(table([2, 0, 3, 0]).odds_ratio(), None);
    assert_eq!(TwoByTwo::default().fisher(), 1.0);
}

#[test]
fn principal_components_are_scikit_learns() {
    for Components { rows, axes, explained, coordinates } in oracle().components {
        let (rows, axes, coordinates) = (matrix(&rows), matrix(&axes), matrix(&coordinates));
        let found = pca(rows.view(), 3).expect("finite rows");
        assert_near(&found.axes, &axes, 1e-9);
        assert_near(&found.coordinates, &coordinates, 1e-8);
        for (found, expected) in found.explained.iter().zip(explained) {
            assert_relative_eq!(*found, expected, epsilon = 1e-12);
        }
    }
}

#[test]
fn rows_without_components_are_refused() {
    assert!(matches!(pca(Array2::zeros((1, 3)).view(), 1), Err(Error::Shape { .. })));
    let refused = |rows: Array2<f32>| pca(rows.view(), 2).expect_err("refused").to_string();
    let line = refused(array![[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]);
    assert!(line.contains("differ in 1 directions"), "{line}");
    assert!(refused(Array2::ones((3, 3))).contains("differ in 0 directions"));
    let nan = refused(array![[0.0, 0.0], [1.0, f32::NAN]]);
    assert!(nan.contains("row 1, column 1"), "{nan}");
}

#[test]
fn a_right_angle_is_a_right_angle() {
    // East until 2, north until 4, east again.
    let path = array![[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 1.0], [2.0, 2.0], [3.0, 2.0]];
    let tokens = [0, 1, 2, 3, 4, 5];
    let found =
        pivot(&tokens, path.view(), 2, 4).expect("a path").expect("snapshots on both sides");
    assert_relative_eq!(found.before_inside.expect("moves"), 90.0, epsilon = 1e-9);
    assert_relative_eq!(found.before_after.expect("moves"), 0.0, epsilon = 1e-6);
    // Between snapshots the path is straight; a window of one width around the first corner sees it
    // turn.
    let found =
        pivot(&[0, 10, 20, 30, 40, 50], path.view(), 15, 25).expect("a path").expect("both sides");
    assert_relative_eq!(found.before_after.expect("moves"), 90.0, epsilon = 1e-9);
    assert_relative_eq!(found.before_inside.expect("moves"), 45.0, epsilon = 1e-9);
    // Nothing before the window, nothing after it, a path that stands still, a window that is none.
    assert_eq!(pivot(&tokens, path.view(), 0, 2), Ok(None));
    assert_eq!(pivot(&tokens, path.view(), 4, 5), Ok(None));
    let still =
        pivot(&tokens, Array2::zeros((6, 2)).view(), 2, 4).expect("a path").expect("both sides");
    assert_eq!(still.before_after, None);
    assert!(pivot(&tokens, path.view(), 3, 3).is_err());
    assert!(pivot(&[0, 0, 1, 2, 3, 4], path.view(), 1, 2).is_err());
}

#[test]
fn slopes_are_numpys() {
    let Slopes { losses, from, slopes } = oracle().slopes;
    for (found, expected) in
        late_slope(matrix(&losses).view(), from).expect("finite").iter().zip(slopes)
    {
        assert_relative_eq!(*found, expected, epsilon = 1e-9);
    }
}

#[test]
fn a_resample_is_a_function_of_its_arguments() {
    let counts = resample(7, 3, 50);
    assert_eq!(counts, resample(7, 3, 50));
    assert_ne!(counts, resample(7, 4, 50));
    assert_ne!(counts, resample(8, 3, 50));
    assert_eq!(counts.iter().sum::<u32>(), 50);
    assert!(resample(0, 0, 0).is_empty());
    // The spread of resampled means is the standard error: sigma / sqrt(n).
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    let means: Vec<f64> =
        (0..2000).map(|draw| weighted_mean(&values, &resample(0, draw, 100))).collect();
    let mean = means.iter().sum::<f64>() / 2000.0;
    let spread = (means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / 1999.0).sqrt();
    assert_relative_eq!(mean, 49.5, max_relative = 0.01);
    assert_relative_eq!(spread, (9999.0f64 / 12.0).sqrt() / 10.0, max_relative = 0.05);
}

/// Every split, its two means and what they leave.
fn change_point_twin(values: &[f64]) -> (usize, f64) {
    let error = |part: &[f64]| {
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        part.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
    };
    let left = |k: usize| error(&values[..k]) + error(&values[k..]);
    let best = (1..values.len()).min_by(|&a, &b| left(a).total_cmp(&left(b))).expect("two values");
    (best, 1.0 - left(best) / error(values))
}

proptest! {
    #[test]
    fn change_points_leave_the_least_error(values in prop::collection::vec(-5.0f64..5.0, 2..40)) {
        let found = change_point(&values)?.expect("not constant");
        let (index, explained) = change_point_twin(&values);
        prop_assert!(found.index == index || (found.explained - explained).abs() < 1e-12);
        assert_relative_eq!(found.explained, explained, epsilon = 1e-9);
        assert_relative_eq!(found.after, values[found.index..].iter().sum::<f64>() / (values.len() - found.index) as f64, epsilon = 1e-9);
    }

    /// Ranks are all that counts.
    #[test]
    fn rank_correlation_is_of_ranks(x in prop::collection::vec(-3.0f64..3.0, 3..30)) {
        let y: Vec<f64> = x.iter().map(|x| x.exp()).collect();
        if let Some(rho) = spearman(&x, &y)? {
            assert_relative_eq!(rho, 1.0, epsilon = 1e-12);
            let falling: Vec<f64> = y.iter().map(|y| -y).collect();
            assert_relative_eq!(spearman(&x, &falling)?.expect("not constant"), -1.0, epsilon = 1e-12);
        }
    }

    /// The axes are orthonormal, the coordinates rebuild what they should, and a constant added to
    /// a token's losses does not matter.
    #[test]
    fn axes_are_orthonormal(values in prop::collection::vec(-2.0f32..2.0, 5 * 7), offset in -3.0f32..3.0) {
        let rows = Array2::from_shape_vec((5, 7), values).expect("35 values");
        let found = pca(rows.view(), 2)?;
        assert_near(&found.axes.dot(&found.axes.t()), &Array2::eye(2), 1e-9);
        prop_assert!(found.explained[0] >= found.explained[1] && found.explained.iter().sum::<f64>() <= 1.0 + 1e-12);
        let mut moved = rows.clone();
        moved.column_mut(3).mapv_inplace(|x| x + offset);
        let moved = pca(moved.view(), 2)?;
        for (a, b) in found.explained.iter().zip(moved.explained) {
            assert_relative_eq!(*a, b, epsilon = 1e-4);
        }
    }
}

#[test]
fn constants_do_not_change() {
    assert_eq!(change_point(&[2.0, 2.0, 2.0]), Ok(None));
    assert_eq!(change_point(&[2.0]), Ok(None));
    let step = change_point(&[1.0, 1.0, 1.0, 4.0, 4.0]).expect("finite").expect("a step");
    assert_eq!((step.index, step.before, step.after), (3, 1.0, 4.0));
    assert_relative_eq!(step.explained, 1.0);
    assert!(change_point(&[f64::NAN, 1.0]).is_err());
}

#[test]
fn a_sign_test_is_its_sum_of_binomials() {
    // 2^-6 times 1, 7 and all 64 ways.
    for (successes, ways) in [(6, 1.0), (5, 7.0), (0, 64.0)] {
        assert_relative_eq!(binomial_tail(6, successes), ways / 64.0, epsilon = 1e-12);
    }
    assert_relative_eq!(binomial_tail(0, 0), 1.0);
}
