//! The phase-change window on synthetic training runs whose window is known, and half times.

use approx::assert_relative_eq;
use induction_metrics::{Error, PhaseConfig, Window, half_time, phase_change};
use proptest::prelude::*;
use rand::Rng;

const RUN: u64 = 10_000_000_000;
/// Where the slope of a logistic falls to 20 % of its peak, in units of its scale: solves `4 s (1 - s) = 0.2`.
const LOGISTIC_EDGE: f64 = 2.887;

/// Snapshots evenly over the run, from its start.
fn even(snapshots: u64) -> Vec<u64> {
    (0..=snapshots).map(|k| k * RUN / snapshots).collect()
}

/// Doubling steps, then even ones: the schedule of a run that also watches its first steps.
fn dense_early(snapshots: u64) -> Vec<u64> {
    let every = RUN / snapshots;
    let early = (0..12).map(|k| (every / 4096) << k);
    std::iter::once(0).chain(early).chain((1..=snapshots).map(|k| k * every)).collect()
}

/// A curve over the run as a share, with normal noise (Irwin-Hall).
fn curve(tokens: &[u64], noise: f64, seed: u64, value: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut rng = induction_random::stream(seed, "curve", 0);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    tokens.iter().map(|&t| value(t as f64 / RUN as f64) + noise * normal()).collect()
}

/// A logistic fall from 0 to `-drop` about `centre`.
fn fall(x: f64, drop: f64, centre: f64, scale: f64) -> f64 {
    -drop / (1.0 + (-(x - centre) / scale).exp())
}

fn find(tokens: &[u64], scores: &[f64]) -> Option<Window> {
    phase_change(tokens, scores, None, &PhaseConfig::default()).expect("a valid curve")
}

fn shares(window: Window) -> (f64, f64) {
    (window.start_tokens as f64 / RUN as f64, window.end_tokens as f64 / RUN as f64)
}

/// The least share of a logistic's drop that its window holds. Between its edges it makes 89 % of its way, and the moving
/// average takes some of that; a window that the grid makes a cell too narrow lacks a cell of the edges' slope, a fifth of
/// the peak's `1 / (4 scale)`.
fn least_found(snapshots: u64, scale: f64) -> f64 {
    0.86 - 0.2 / (4.0 * scale * snapshots as f64)
}

/// Once found among random falls: steep for its grid, between two of whose points the edges lie.
#[test]
fn a_fall_of_few_cells() {
    let (snapshots, drop, centre, scale) = (61, 0.1, 0.4508506481410212, 0.013928462958930089);
    let tokens = even(snapshots);
    let window = find(&tokens, &curve(&tokens, 0.0, 0, |x| fall(x, drop, centre, scale))).expect("a fall");
    let share = (window.score_before - window.score_after) / drop;
    assert!((least_found(snapshots, scale)..0.86).contains(&share), "{share}");
}

proptest! {
    #[test]
    fn finds_a_clean_fall(
        snapshots in 60u64..250, drop in 0.1f64..0.6, centre in 0.3f64..0.7, scale in 0.01f64..0.04, dense: bool,
    ) {
        let tokens = if dense { dense_early(snapshots) } else { even(snapshots) };
        let scores = curve(&tokens, 0.0, 0, |x| fall(x, drop, centre, scale));
        let window = find(&tokens, &scores).expect("a fall");
        let (start, end) = shares(window);
        // The moving average and the grid widen a window, never shift or narrow it by more than a cell.
        let (cell, blur) = (1.5 / snapshots as f64, 0.04 + 3.0 / snapshots as f64);
        let (left, right) = (centre - LOGISTIC_EDGE * scale, centre + LOGISTIC_EDGE * scale);
        prop_assert!(left - blur < start && start < left + cell, "{start} for {left}");
        prop_assert!(right - cell < end && end < right + blur, "{end} for {right}");
        let found = window.score_before - window.score_after;
        prop_assert!((least_found(snapshots, scale) * drop..1.0001 * drop).contains(&found), "{found} of {drop}");
    }

    #[test]
    fn finds_a_noisy_fall(
        snapshots in 80u64..250, drop in 0.2f64..0.6, centre in 0.2f64..0.8, scale in 0.01f64..0.03,
        noise in 0.0f64..0.008, seed: u64, dense: bool,
    ) {
        let tokens = if dense { dense_early(snapshots) } else { even(snapshots) };
        let scores = curve(&tokens, noise, seed, |x| fall(x, drop, centre, scale));
        let window = find(&tokens, &scores).expect("a fall");
        let (start, end) = shares(window);
        prop_assert!(start < centre && centre < end, "{start}..{end} misses {centre}");
        prop_assert!(end - start < 2.0 * LOGISTIC_EDGE * scale + 0.2, "{start}..{end} for a scale of {scale}");
        let found = window.score_before - window.score_after;
        prop_assert!((0.5 * drop..1.2 * drop).contains(&found), "{found} of {drop}");
    }

    #[test]
    fn a_flat_run_has_none(snapshots in 20u64..250, noise in 0.0f64..0.01, seed: u64, dense: bool) {
        let tokens = if dense { dense_early(snapshots) } else { even(snapshots) };
        let scores = curve(&tokens, noise, seed, |_| -0.1);
        prop_assert_eq!(find(&tokens, &scores), None);
    }

    #[test]
    fn a_drift_has_none(
        snapshots in 40u64..250, drift in -0.3f64..0.2, noise in 0.0f64..0.005, seed: u64, dense: bool,
    ) {
        let tokens = if dense { dense_early(snapshots) } else { even(snapshots) };
        let scores = curve(&tokens, noise, seed, |x| -drift * x);
        prop_assert_eq!(find(&tokens, &scores), None);
    }

    #[test]
    fn an_early_transient_is_not_the_window(
        snapshots in 80u64..250, dip in -0.15f64..0.08, rise in -0.05f64..0.1, drop in 0.25f64..0.5,
        centre in 0.3f64..0.7, scale in 0.01f64..0.04, noise in 0.0f64..0.004, seed: u64, dense: bool,
    ) {
        // N-gram statistics first move the score quickly, for good (a steep step in the first 3 % of the run); then
        // it drifts slowly, in either direction, until the phase change.
        let tokens = if dense { dense_early(snapshots) } else { even(snapshots) };
        let scores = curve(&tokens, noise, seed, |x| {
            fall(x, dip, 0.015, 0.003) + rise * x + fall(x, drop, centre, scale)
        });
        let (start, end) = shares(find(&tokens, &scores).expect("a fall"));
        prop_assert!(start > 0.05 && start < centre && centre < end, "{start}..{end} for {centre}");
    }

    #[test]
    fn a_dip_that_recovers_is_not_the_window(
        snapshots in 100u64..250, dip in 0.1f64..0.4, drop in 0.2f64..0.5, noise in 0.0f64..0.004, seed: u64,
    ) {
        let tokens = even(snapshots);
        let scores = curve(&tokens, noise, seed, |x| {
            -dip * (-((x - 0.15) / 0.03).powi(2)).exp() + fall(x, drop, 0.6, 0.03)
        });
        let (start, end) = shares(find(&tokens, &scores).expect("a fall"));
        prop_assert!(0.3 < start && start < 0.6 && 0.6 < end, "{start}..{end}");
    }

    #[test]
    fn a_long_drift_beside_it_neither_hides_nor_widens_it(
        snapshots in 80u64..250, drift in 0.0f64..0.3, centre in 0.2f64..0.8, noise in 0.0f64..0.004, seed: u64,
    ) {
        let tokens = even(snapshots);
        let scores = curve(&tokens, noise, seed, |x| -drift * x + fall(x, 0.3, centre, 0.015));
        let (start, end) = shares(find(&tokens, &scores).expect("a fall"));
        prop_assert!(start < centre && centre < end && end - start < 0.3, "{start}..{end} for {centre}");
    }

    #[test]
    fn half_time_is_its_definition(values in prop::collection::vec(-1.0f64..1.0, 1..12), start in 0u64..50) {
        let tokens: Vec<u64> = (0..values.len() as u64).map(|k| start + 10 * k * k).collect();
        let found = half_time(&tokens, &values).expect("valid");
        let half = values[values.len() - 1] / 2.0;
        // Walk the polygon in small steps until it passes half, seen from 0.
        let past = |value: f64| if half > 0.0 { value >= half } else { value <= half };
        let mut walked = past(values[0]).then_some(tokens[0] as f64);
        for k in 1..values.len() {
            for step in 0..=1000 {
                let along = f64::from(step) / 1000.0;
                let value = values[k - 1] + along * (values[k] - values[k - 1]);
                if walked.is_none() && past(value) {
                    walked = Some(tokens[k - 1] as f64 + along * (tokens[k] - tokens[k - 1]) as f64);
                }
            }
        }
        // A step is a thousandth of at most 10 * (11^2 - 10^2) tokens.
        assert_relative_eq!(found.expect("a last value"), walked.expect("the last passes"), epsilon = 0.25);
    }
}

#[test]
fn the_window_of_a_straight_fall_is_exact() {
    // 0 until 40 %, a straight line to -0.3 at 60 %, flat after; smoothing off.
    let tokens = even(10);
    let scores = [0.0, 0.0, 0.0, 0.0, 0.0, -0.15, -0.3, -0.3, -0.3, -0.3, -0.3];
    let config = PhaseConfig { smooth: 1, smooth_share: 0.0, ..PhaseConfig::default() };
    let window = phase_change(&tokens, &scores, None, &config).expect("valid");
    let (start_tokens, end_tokens) = (4 * RUN / 10, 6 * RUN / 10);
    assert_eq!(window, Some(Window { start_tokens, end_tokens, score_before: 0.0, score_after: -0.3 }));
    // The default average over 3 snapshots reaches one further on either side.
    let (start_tokens, end_tokens) = (3 * RUN / 10, 7 * RUN / 10);
    let window = find(&tokens, &scores).expect("a fall");
    assert_eq!((window.start_tokens, window.end_tokens), (start_tokens, end_tokens));
    assert_relative_eq!(window.score_after, -0.3, epsilon = 1e-12);
}

#[test]
fn dense_early_snapshots_make_no_window() {
    // One noisy snapshot among steps 1, 2, 4, ..: the steepest slope of the run by far, over no training at all.
    let tokens = dense_early(100);
    let mut scores = curve(&tokens, 0.0, 0, |x| fall(x, 0.3, 0.5, 0.02));
    scores[2] += 0.2;
    let (start, end) = shares(find(&tokens, &scores).expect("a fall"));
    assert!(0.3 < start && end < 0.7, "{start}..{end}");
    let mut flat = vec![0.0; tokens.len()];
    flat[2] = 0.2;
    assert_eq!(find(&tokens, &flat), None);
}

#[test]
fn uneven_snapshots_make_no_window() {
    // A straight line over tokens, which falls 13 times faster by snapshot where snapshots are sparse.
    let sparse = (0..10).map(|k| 3 * RUN / 100 * k);
    let tokens: Vec<u64> = sparse.chain((0..=300).map(|k| 3 * RUN / 10 + 7 * RUN / 3000 * k)).collect();
    assert_eq!(find(&tokens, &curve(&tokens, 0.0, 0, |x| -0.3 * x)), None);
}

#[test]
fn the_steepest_wins_over_a_larger_slow_fall() {
    let tokens = even(200);
    let scores = curve(&tokens, 0.0, 0, |x| fall(x, 0.3, 0.3, 0.045) + fall(x, 0.2, 0.8, 0.006));
    let (start, end) = shares(find(&tokens, &scores).expect("a fall"));
    assert!(0.7 < start && end < 0.9, "{start}..{end}");
}

#[test]
fn a_slow_fall_does_not_absorb_the_steep_one_it_leads_to() {
    let tokens = even(200);
    let scores = curve(&tokens, 0.0, 0, |x| {
        -0.22 * ((x - 0.2) / 0.35).clamp(0.0, 1.0) - 0.2 * ((x - 0.55) / 0.03).clamp(0.0, 1.0)
    });
    let (start, end) = shares(find(&tokens, &scores).expect("a fall"));
    assert!(0.5 < start && end < 0.62, "{start}..{end}");
}

#[test]
fn the_drop_must_exceed_threshold_and_noise() {
    let tokens = even(100);
    let scores = curve(&tokens, 0.0, 0, |x| fall(x, 0.1, 0.5, 0.02));
    let with = |min_drop, stderr| {
        let config = PhaseConfig { min_drop, ..PhaseConfig::default() };
        phase_change(&tokens, &scores, stderr, &config).expect("valid").is_some()
    };
    assert!(with(0.05, None) && with(0.08, Some(0.02)));
    assert!(!with(0.12, None) && !with(0.05, Some(0.04)));
}

#[test]
fn a_rising_score_has_none() {
    let tokens = even(100);
    assert_eq!(find(&tokens, &curve(&tokens, 0.0, 0, |x| -fall(x, 0.5, 0.5, 0.02))), None);
}

#[test]
fn half_times() {
    let tokens = [0, 10, 30, 40];
    assert_eq!(half_time(&tokens, &[0.0, 0.0, 0.4, 0.4]), Ok(Some(20.0)));
    assert_eq!(half_time(&tokens, &[0.0, 0.0, -0.4, -0.4]), Ok(Some(20.0)));
    assert_eq!(half_time(&tokens, &[0.3, 0.0, 0.4, 0.4]), Ok(Some(0.0)));
    assert_eq!(half_time(&tokens, &[0.3, 0.1, 0.2, 0.0]), Ok(None));
    assert_eq!(half_time(&[7], &[1.0]), Ok(Some(7.0)));
}

#[test]
fn bad_curves_are_refused() {
    let config = PhaseConfig::default();
    let tokens = [0, 1, 2, 3, 4, 5];
    let refuse = |tokens: &[u64], scores: &[f64]| {
        let error = phase_change(tokens, scores, None, &config).expect_err("refused");
        assert!(matches!(error, Error::Curve { .. }), "{error}");
        error.to_string()
    };
    assert!(refuse(&tokens, &[0.0; 5]).contains("6 token counts and 5 values"));
    assert!(refuse(&[0, 1, 1, 3, 4, 5], &[0.0; 6]).contains("1 after 1 at snapshot 2"));
    assert!(refuse(&tokens, &[0.0, 0.0, 0.0, f64::NAN, 0.0, 0.0]).contains("NaN at snapshot 3"));
    assert!(refuse(&tokens[..4], &[0.0; 4]).contains("at least 5 snapshots, found 4"));
    assert!(refuse(&[], &[]).contains("at least one"));
    assert!(matches!(half_time(&[], &[]), Err(Error::Curve { .. })));
    assert!(matches!(half_time(&[1, 2], &[0.0, f64::INFINITY]), Err(Error::Curve { .. })));

    let with = |config: PhaseConfig, stderr| phase_change(&tokens, &[0.0; 6], stderr, &config);
    for bad in [
        PhaseConfig { smooth: 0, ..config },
        PhaseConfig { slope_share: 1.5, ..config },
        PhaseConfig { keep_share: f64::NAN, ..config },
        PhaseConfig { min_drop: -1.0, ..config },
        PhaseConfig { min_contrast: f64::INFINITY, ..config },
    ] {
        assert!(matches!(with(bad, None), Err(Error::Setting { .. })), "{bad:?}");
    }
    assert!(matches!(with(config, Some(f64::NAN)), Err(Error::Setting { .. })));
    // More smoothing than there are snapshots is harmless.
    assert_eq!(with(PhaseConfig { smooth: usize::MAX, ..config }, Some(0.0)), Ok(None));
}
