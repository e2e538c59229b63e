//! Stages of fabricated curves, whose boundaries are known.

use approx::assert_relative_eq;
use induction_metrics::{Interval, Stages, StagesConfig, find_stages};
use induction_random::stream;
use nalgebra::{DMatrix, DVector};
use rand::Rng;

/// Snapshots as a run of 6 million tokens has them: doubling at first, even later.
fn snapshots() -> Vec<u64> {
    let steps = [0, 1, 2, 4, 8, 16, 32, 64].into_iter().chain((74..=1480).step_by(74));
    steps.map(|step| step * 4096).collect()
}

/// A line of straight pieces in the logarithm of tokens: its first value, slopes, boundaries.
fn pieces(tokens: &[u64], first: f64, slopes: &[f64], boundaries: &[f64]) -> Vec<f64> {
    let value = |tokens: u64| {
        let x = (tokens.max(1) as f64).ln();
        let from = std::iter::once(4096f64.ln()).chain(boundaries.iter().map(|at| at.ln()));
        let to = boundaries.iter().map(|at| at.ln()).chain([f64::INFINITY]);
        let along = from.zip(to).map(|(from, to)| (x.min(to) - from).max(0.0));
        first + along.zip(slopes).map(|(along, slope)| along * slope).sum::<f64>()
    };
    tokens.iter().map(|&tokens| value(tokens)).collect()
}

/// Errors of a standard deviation, of which neighbours share `correlation` (AR(1)).
fn errors(seed: u64, n: usize, deviation: f64, correlation: f64) -> Vec<f64> {
    let mut rng = stream(seed, "errors of a curve", 0);
    // Sums of twelve uniform numbers: near enough to a Gaussian for what is asked here.
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let mut last = normal();
    (0..n)
        .map(|_| {
            last = correlation * last + (1.0 - correlation * correlation).sqrt() * normal();
            deviation * last
        })
        .collect()
}

fn noisy(curve: &[f64], errors: Vec<f64>) -> Vec<f64> {
    curve.iter().zip(errors).map(|(value, error)| value + error).collect()
}

fn found(tokens: &[u64], curves: &[Vec<f64>]) -> Stages {
    let curves: Vec<&[f64]> = curves.iter().map(Vec::as_slice).collect();
    find_stages(tokens, &curves, &StagesConfig::default()).unwrap()
}

const BOUNDARIES: [f64; 3] = [5e4, 6e5, 2.4e6];

#[test]
fn stages_without_errors_are_found_to_the_place() {
    let tokens = snapshots();
    let at = |k: usize| tokens[k] as f64;
    for places in [vec![], vec![4], vec![4, 10], vec![4, 9, 15]] {
        let boundaries: Vec<f64> = places.iter().map(|&k| at(k)).collect();
        let slopes = &[-0.1, -1.0, 0.0, -2.0][..=places.len()];
        let stages = found(&tokens, &[pieces(&tokens, 6.0, slopes, &boundaries)]);
        assert_eq!(stages.boundaries.len(), places.len());
        for (boundary, expected) in stages.boundaries.iter().zip(&boundaries) {
            assert_relative_eq!(boundary.tokens, *expected, max_relative = 1e-9);
        }
        // The fit runs through the curve.
        let ends = std::iter::once(1).chain(places.iter().copied()).chain([tokens.len() - 1]);
        let curve = pieces(&tokens, 6.0, slopes, &boundaries);
        for (fitted, k) in stages.fitted[0].iter().zip(ends) {
            assert_relative_eq!(*fitted, curve[k], epsilon = 1e-8);
        }
    }
}

/// What was chosen among all combinations, against a least-squares fit of each by itself.
#[test]
fn the_search_is_the_best_of_all_fits() {
    let tokens: Vec<u64> = (0..12).map(|k| 1000 << k).collect();
    let x: Vec<f64> = tokens.iter().map(|&tokens| (tokens as f64).ln()).collect();
    for seed in 0..6 {
        let slopes = &[-0.2, -0.9, 0.1];
        let curves: Vec<Vec<f64>> = (0..2)
            .map(|k| {
                let curve = pieces(&tokens, 3.0, slopes, &[2e4, 3e5]);
                noisy(&curve, errors(10 * seed + k, 12, 0.15, 0.0))
            })
            .collect();
        let places: Vec<f64> = (1..2 * x.len() - 2)
            .map(|k| if k % 2 == 0 { x[k / 2] } else { 0.5 * (x[k / 2] + x[k / 2 + 1]) })
            .collect();
        let likelihood = |at: &[f64]| -> f64 {
            let design = DMatrix::from_fn(12, 2 + at.len(), |row, column| match column {
                0 => 1.0,
                1 => x[row],
                _ => (x[row] - at[column - 2]).max(0.0),
            });
            let of = |curve: &Vec<f64>| {
                let values = DVector::from_column_slice(curve);
                let solved = design.clone().svd(true, true).solve(&values, 1e-12).unwrap();
                12.0 * ((&design * solved - values).norm_squared() / 12.0).ln()
            };
            curves.iter().map(of).sum()
        };
        let enough = |at: &[f64]| {
            let all: Vec<f64> = std::iter::once(f64::NEG_INFINITY)
                .chain(at.iter().copied())
                .chain([f64::INFINITY])
                .collect();
            all.windows(2)
                .all(|ends| x.iter().filter(|&&x| x >= ends[0] && x < ends[1]).count() >= 3)
        };
        let mut best = vec![(f64::INFINITY, Vec::new()); 4];
        let mut combinations: Vec<Vec<f64>> = vec![Vec::new()];
        for best in &mut best {
            for at in &combinations {
                if enough(at) && likelihood(at) < best.0 {
                    *best = (likelihood(at), at.clone());
                }
            }
            combinations = combinations
                .iter()
                .flat_map(|at| {
                    let later = places.iter().filter(|&&p| at.last().is_none_or(|&last| p > last));
                    later.map(|&p| at.iter().copied().chain([p]).collect()).collect::<Vec<_>>()
                })
                .collect();
        }
        let bic: Vec<f64> = best
            .iter()
            .enumerate()
            .map(|(k, (value, _))| value + 4.0 * k as f64 * 12f64.ln())
            .collect();
        let chosen = (0..4).min_by(|&a, &b| bic[a].total_cmp(&bic[b])).unwrap();
        let stages = found(&tokens, &curves);
        for (delta, expected) in stages.delta_bic.iter().zip(&bic) {
            assert_relative_eq!(*delta, expected - bic[chosen], epsilon = 1e-8);
        }
        assert_eq!(stages.boundaries.len(), chosen);
        for (boundary, expected) in stages.boundaries.iter().zip(&best[chosen].1) {
            assert_relative_eq!(boundary.tokens.ln(), *expected, epsilon = 1e-9);
            assert!(boundary.interval.low < boundary.tokens);
            assert!(boundary.interval.high > boundary.tokens);
        }
    }
}

/// Of how many curves without a boundary some are found.
fn found_in_lines(curves: u64, correlation: f64, draws: u64) -> usize {
    let tokens = snapshots();
    let line = pieces(&tokens, 5.0, &[-0.3], &[]);
    (0..draws)
        .filter(|draw| {
            let of = |k| noisy(&line, errors(1000 * draw + k, tokens.len(), 0.05, correlation));
            !found(&tokens, &(0..curves).map(of).collect::<Vec<_>>()).boundaries.is_empty()
        })
        .count()
}

#[test]
fn noise_alone_is_one_stage() {
    let (one, three) = (found_in_lines(1, 0.0, 200), found_in_lines(3, 0.0, 200));
    let correlated = (found_in_lines(1, 0.5, 200), found_in_lines(1, 0.8, 200));
    println!("of 200: {one} of one curve, {three} of three; correlated {correlated:?}");
    assert!(one <= 14 && three <= 14, "{one} {three}");
}

#[test]
fn intervals_hold_the_boundaries() {
    let tokens = snapshots();
    let draws = 60;
    for (curves, correlation, least) in [(1, 0.0, 0.9), (3, 0.0, 0.9), (3, 0.5, 0.0)] {
        let (mut right, mut held, mut asked) = (0, 0, 0);
        let mut widths = Vec::new();
        for draw in 0..draws {
            let of = |k: u64| {
                let slopes = &[-0.1, -0.8 - 0.2 * k as f64, -0.05, -0.5];
                let curve = pieces(&tokens, 5.0, slopes, &BOUNDARIES);
                noisy(&curve, errors(1000 * draw + k, tokens.len(), 0.04, correlation))
            };
            let stages = found(&tokens, &(0..curves).map(of).collect::<Vec<_>>());
            if stages.boundaries.len() == 3 {
                right += 1;
                for (boundary, at) in stages.boundaries.iter().zip(BOUNDARIES) {
                    asked += 1;
                    let Interval { low, high } = boundary.interval;
                    held += usize::from(low <= at && at <= high);
                    widths.push((high / low).ln());
                }
            }
        }
        widths.sort_by(f64::total_cmp);
        println!(
            "{curves} curves, correlation {correlation}: four stages in {right} of {draws}; {held} of {asked} held; median width {:.2} in ln tokens",
            widths[widths.len() / 2]
        );
        assert!(
            held as f64 >= least * asked as f64 && (correlation > 0.0 || right * 10 >= draws * 8)
        );
    }
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let tokens = snapshots();
    let curve = vec![1.0; tokens.len()];
    let with = |config: StagesConfig| find_stages(&tokens, &[&curve], &config).is_err();
    let config = StagesConfig::default();
    assert!(!with(config));
    assert!(with(StagesConfig { max_stages: 0, ..config }));
    assert!(with(StagesConfig { max_stages: 5, ..config }));
    assert!(with(StagesConfig { min_snapshots: 1, ..config }));
    assert!(with(StagesConfig { level: 1.0, ..config }));
    assert!(find_stages(&tokens, &[], &config).is_err());
    assert!(find_stages(&tokens, &[&curve[1..]], &config).is_err());
    assert!(find_stages(&[0, 1, 2, 3, 4], &[&curve[..5]], &config).is_err());
    assert!(find_stages(&[1, 2, 3, 4, 4], &[&curve[..5]], &config).is_err());
    let mut wrong = curve.clone();
    wrong[3] = f64::NAN;
    assert!(find_stages(&tokens, &[&wrong], &config).is_err());
    // A constant curve has one stage, and few snapshots have room for one.
    assert!(find_stages(&tokens, &[&curve], &config).unwrap().boundaries.is_empty());
    let few = find_stages(&[1, 2, 3, 4, 5], &[&[1.0, 2.0, 4.0, 2.0, 1.0]], &config).unwrap();
    assert_eq!(few.delta_bic.len(), 1);
}
