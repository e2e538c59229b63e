//! Draws of means over seeds: what they are, and how often their intervals hold the truth.

use approx::assert_relative_eq;
use induction_metrics::{SeedDraws, mean_over_seeds, percentile_interval, resample};
use ndarray::Array2;
use rand::Rng;
use statrs::distribution::{ContinuousCDF, StudentsT};

const SEEDS: usize = 3;
const EXAMPLES: usize = 200;
const DRAWS: usize = 1000;
const EXPERIMENTS: usize = 2000;
/// Sets of draws that experiments take turns with: drawing anew for each would take most of the
/// time.
const SETS: usize = 10;

fn normal(rng: &mut impl Rng) -> f64 {
    (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt()
        * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

fn all(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().copied().map(Some).collect()
}

/// Normal noise of each example, `[example, experiment]`.
fn noise(purpose: &str, set: u64) -> Array2<f64> {
    let mut rng = induction_random::stream(0, purpose, set);
    Array2::from_shape_simple_fn((EXAMPLES, EXPERIMENTS / SETS), || normal(&mut rng))
}

/// Draws of examples and of seeds for some experiments, and what they make of unit noise in each.
struct Set {
    draws: SeedDraws,
    /// For the classical bootstrap.
    resampled: Vec<Vec<u32>>,
    /// Mean noise `[draw, experiment]`, the whole set as the last row: of the noise that seeds
    /// share, and of each seed's own.
    shared: Array2<f64>,
    own: Vec<Array2<f64>>,
}

impl Set {
    fn new(set: u64) -> Self {
        let shares = Array2::from_shape_vec(
            (DRAWS + 1, EXAMPLES),
            (0..DRAWS as u64)
                .flat_map(|draw| resample(set, draw, EXAMPLES))
                .chain(vec![1; EXAMPLES])
                .map(|count| f64::from(count) / EXAMPLES as f64)
                .collect(),
        )
        .expect("a count for each");
        Self {
            draws: SeedDraws::new(set, DRAWS, SEEDS),
            resampled: (0..DRAWS as u64).map(|draw| resample(100 + set, draw, SEEDS)).collect(),
            shared: shares.dot(&noise("shared", set)),
            own: (0..SEEDS).map(|s| shares.dot(&noise(&format!("own {s}"), set))).collect(),
        }
    }
}

/// Shares of experiments whose 95 % interval holds the truth, 0: by our draws, and if seeds are
/// resampled.
///
/// Standard deviations: `between` seeds, of the noise of an example that seeds share, and of that
/// of each seed for itself.
fn coverage(sets: &[Set], between: f64, shared: f64, own: f64) -> (f64, f64) {
    let (mut ours, mut classical) = (0, 0);
    for (k, set) in sets.iter().enumerate() {
        let mut rng = induction_random::stream(0, "effects", k as u64);
        for experiment in 0..EXPERIMENTS / SETS {
            let effects: Vec<f64> = (0..SEEDS).map(|_| between * normal(&mut rng)).collect();
            let value = |row: usize, s: usize| {
                effects[s]
                    + shared * set.shared[[row, experiment]]
                    + own * set.own[s][[row, experiment]]
            };
            let at =
                |row: usize| std::array::from_fn::<Option<f64>, SEEDS, _>(|s| Some(value(row, s)));
            let drawn: Vec<_> = (0..DRAWS).map(at).collect();
            let means: Vec<f64> =
                set.draws.means(&at(DRAWS), &drawn).into_iter().flatten().collect();
            assert_eq!(means.len(), DRAWS);
            let resampled: Vec<f64> = (0..DRAWS)
                .map(|row| {
                    (0..SEEDS)
                        .map(|s| f64::from(set.resampled[row][s]) * value(row, s))
                        .sum::<f64>()
                        / SEEDS as f64
                })
                .collect();
            let holds = |draws: &[f64]| {
                let interval = percentile_interval(draws, 0.95).expect("finite").expect("draws");
                u32::from(interval.low <= 0.0 && 0.0 <= interval.high)
            };
            ours += holds(&means);
            classical += holds(&resampled);
        }
    }
    (f64::from(ours) / EXPERIMENTS as f64, f64::from(classical) / EXPERIMENTS as f64)
}

#[test]
fn intervals_hold_the_truth() {
    let sets: Vec<Set> = (0..SETS as u64).map(Set::new).collect();
    // By examples the mean's standard deviation is that of the noise over sqrt(200), by seeds
    // `between / sqrt(3)`.
    let equal = (SEEDS as f64).sqrt() / (EXAMPLES as f64).sqrt();
    let fair = 0.93..=0.97;
    // With noise of the seeds' own and nothing else, too wide; never too narrow.
    let wide = 0.94..=0.995;
    for (name, between, shared, own, expected) in [
        ("no seed effect", 0.0, 1.0, 0.0, &fair),
        ("a third of the examples' effect", equal / 3.0, 1.0, 0.0, &fair),
        ("as much as the examples", equal, 1.0, 0.0, &fair),
        ("three times the examples' effect", 3.0 * equal, 1.0, 0.0, &fair),
        ("nearly all", 100.0 * equal, 1.0, 0.0, &fair),
        ("none, and half of the noise is the seeds' own", 0.0, 1.0, 1.0, &wide),
        ("none, and all noise is the seeds' own", 0.0, 0.0, 1.0, &wide),
        ("as much as noise of both kinds", equal, 1.0, 1.0, &fair),
    ] {
        let (ours, classical) = coverage(&sets, between, shared, own);
        println!("{name}: {:.1} %, seeds resampled {:.1} %", 100.0 * ours, 100.0 * classical);
        assert!(expected.contains(&ours), "{name}: {ours}");
        // What these draws are for.
        assert!(between < 2.0 * equal || classical < 0.82, "{name}: {classical}");
    }
}
/// Means of a quantity whose examples are certain.
fn certain(draws: &SeedDraws, values: &[Option<f64>], n: usize) -> Vec<Option<f64>> {
    draws.means(values, &vec![values; n])
}

#[test]
fn draws_are_a_function_of_their_arguments() {
    let values = all(&[1.0, 2.0, 4.0]);
    let of = |seed, draws| certain(&SeedDraws::new(seed, draws, 3), &values, 20);
    assert_eq!(of(7, 20), of(7, 20));
    // Neither the number of draws, nor what others were asked for before.
    assert_eq!(of(7, 20)[..10], of(7, 10));
    assert_ne!(of(7, 20), of(8, 20));
    let mut distinct = of(7, 20);
    distinct.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    distinct.dedup();
    assert_eq!(distinct.len(), 20);
}

#[test]
fn one_seed_is_its_example_draw() {
    let draws = SeedDraws::new(0, 3, 1);
    let drawn = [[Some(5.25)], [None], [Some(4.0)], [Some(1.0)]];
    assert_eq!(draws.means(&[Some(5.0)], &drawn), [Some(5.25), None, Some(4.0)]);
}

#[test]
fn equal_seeds_spread_nothing() {
    let drawn: Vec<_> = (0..100).map(|draw| all(&[f64::from(draw) / 4.0; 4])).collect();
    let means = SeedDraws::new(0, 100, 4).means(&all(&[2.5; 4]), &drawn);
    assert!(means.iter().zip(&drawn).all(|(mean, drawn)| *mean == drawn[0]));
}

/// A deviation of three seeds is that of Student's t with 2 degrees of freedom, times the standard
/// error; and so on.
#[test]
fn deviations_are_students() {
    for (values, freedom) in [
        (vec![1.0, 5.0], 1.0),
        (vec![1.0, 2.0, 6.0], 2.0),
        (vec![0.0, 1.0, 4.0, 2.0, 8.0, 3.0], 5.0),
    ] {
        let n = values.len();
        let centre = values.iter().sum::<f64>() / n as f64;
        let stderr =
            (values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / freedom / n as f64).sqrt();
        let means = certain(&SeedDraws::new(1, 20_000, n), &all(&values), 20_000);
        let draws: Vec<f64> =
            means.into_iter().flatten().map(|mean| (mean - centre) / stderr).collect();
        assert_eq!(draws.len(), 20_000);
        let student = StudentsT::new(0.0, 1.0, freedom).expect("a distribution");
        for level in [0.5, 0.8, 0.9] {
            let found = percentile_interval(&draws, level).expect("finite").expect("draws");
            let quantile = student.inverse_cdf(f64::midpoint(1.0, level));
            assert_relative_eq!(found.high, quantile, max_relative = 0.08);
            assert_relative_eq!(found.low, -quantile, max_relative = 0.08);
        }
    }
}

#[test]
fn quantities_of_a_draw_stay_together() {
    let draws = SeedDraws::new(2, 50, 3);
    let of = |values: [f64; 3]| certain(&draws, &all(&values), 50).into_iter().flatten();
    // The second is twice the first less one, in every seed and so in every draw.
    for (first, second) in of([1.0, 2.0, 6.0]).zip(of([1.0, 3.0, 11.0])) {
        assert_relative_eq!(second, 2.0 * first - 1.0, epsilon = 1e-9, max_relative = 1e-9);
    }
}

#[test]
fn undefined_seeds() {
    assert_eq!(mean_over_seeds(&[Some(1.0), None, Some(3.0)]), Some(2.0));
    assert_eq!(mean_over_seeds(&[Some(1.0), None]), None);
    assert_eq!(mean_over_seeds(&[Some(1.0), None, None]), None);
    assert_eq!(mean_over_seeds(&[]), None);
    let draws = SeedDraws::new(3, 20_000, 3);
    // Defined in k of 3 seeds: two or more of three seeds drawn with replacement have it in 7/27 or
    // 20/27 of draws.
    for (values, share) in [
        ([None, None, None], 0.0),
        ([Some(1.0), None, None], 7.0 / 27.0),
        ([Some(1.0), None, Some(1.0)], 20.0 / 27.0),
        ([Some(1.0); 3], 1.0),
    ] {
        let found: Vec<f64> = certain(&draws, &values, 20_000).into_iter().flatten().collect();
        assert_relative_eq!(found.len() as f64 / 20_000.0, share, epsilon = 0.01);
        assert!(found.iter().all(|&mean| mean == 1.0));
    }
    // Two of three are a sample of two: Cauchy's distribution, of quartiles +-1 standard error.
    let found: Vec<f64> =
        certain(&draws, &[Some(1.0), None, Some(3.0)], 20_000).into_iter().flatten().collect();
    let quartiles = percentile_interval(&found, 0.5).expect("finite").expect("draws");
    assert_relative_eq!(quartiles.low, 1.0, epsilon = 0.05);
    assert_relative_eq!(quartiles.high, 3.0, epsilon = 0.05);
    // Defined under a draw of examples alone; lists that lack a seed; no seed at all.
    assert_eq!(draws.means(&[None; 3], &[all(&[1.0, 2.0, 3.0])]), [Some(2.0)]);
    assert_eq!(draws.means(&[], &[all(&[1.0, 2.0, 3.0])]), [Some(2.0)]);
    assert_eq!(draws.means(&all(&[1.0, 2.0]), &[[]]), [None]);
    assert_eq!(SeedDraws::new(0, 2, 0).means(&[], &[[], []]), [None, None]);
}
