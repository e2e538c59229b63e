//! The censored fit against PyTorch (fixtures/oracle/censored.py), ordinary least squares and
//! simulated values whose line is known.

use approx::assert_relative_eq;
use induction_metrics::{Error, Observed, fit_censored};
use rand::Rng;

use Observed::{Above, At};

#[test]
fn the_likelihoods_maximum_is_pytorchs() {
    let x = [
        [0.1, -1.2],
        [0.4, 0.3],
        [0.9, 0.8],
        [1.3, -0.4],
        [1.7, 1.1],
        [2.2, -0.9],
        [2.6, 0.2],
        [3.1, 0.5],
        [3.3, -1.5],
        [3.9, 1.4],
    ]
    .map(|row| row.to_vec());
    let y = [
        At(1.05),
        At(1.9),
        At(2.6),
        At(1.95),
        At(3.2),
        At(2.0),
        At(2.9),
        Above(3.0),
        At(2.5),
        Above(3.0),
    ];
    let fit = fit_censored(&x, &y).unwrap();
    assert_relative_eq!(fit.intercept, 1.615934542430987, epsilon = 1e-8);
    assert_relative_eq!(fit.slopes[0], 0.4883057038859167, epsilon = 1e-8);
    assert_relative_eq!(fit.slopes[1], 0.5820417798071754, epsilon = 1e-8);
    assert_relative_eq!(fit.sigma, 0.11036434950147972, epsilon = 1e-8);
}

/// Where everything is seen: the closed form of one column.
#[test]
fn nothing_censored_is_least_squares() {
    let (x, y) = ([1.0, 2.0, 4.0, 5.0, 8.0], [2.1, 2.9, 5.2, 5.8, 9.4]);
    let fit = fit_censored(&x.map(|x| vec![x]), &y.map(At)).unwrap();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (x_mean, y_mean) = (mean(&x), mean(&y));
    let products = x.iter().zip(&y).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>();
    let slope = products / x.iter().map(|x| (x - x_mean).powi(2)).sum::<f64>();
    assert_relative_eq!(fit.slopes[0], slope, epsilon = 1e-10);
    assert_relative_eq!(fit.intercept, y_mean - slope * x_mean, epsilon = 1e-10);
    let left = |(x, y): (&f64, &f64)| (y - fit.predict(&[*x])).powi(2);
    let variance = x.iter().zip(&y).map(left).sum::<f64>() / 5.0;
    assert_relative_eq!(fit.sigma, variance.sqrt(), epsilon = 1e-10);
}

/// Half of the values hidden above a limit: the line is found all the same, where least squares on
/// what is seen, or on the limits, is off.
#[test]
fn a_known_line_is_found_behind_a_limit() {
    let mut random = induction_random::stream(5, "censored", 0);
    let mut normal = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for k in 0..4000 {
        let at = f64::from(k % 100) / 25.0 - 2.0;
        let value = 1.0 + 0.7 * at + 0.5 * normal();
        x.push(vec![at]);
        y.push(if value > 1.0 { Above(1.0) } else { At(value) });
    }
    let fit = fit_censored(&x, &y).unwrap();
    assert!((fit.intercept - 1.0).abs() < 0.05, "{fit:?}");
    assert!((fit.slopes[0] - 0.7).abs() < 0.05, "{fit:?}");
    assert!((fit.sigma - 0.5).abs() < 0.03, "{fit:?}");
    assert_relative_eq!(fit.probability_below(&[0.0], fit.intercept), 0.5, epsilon = 1e-12);
    let by_limits: Vec<Observed> = y
        .iter()
        .map(|y| {
            At(match *y {
                At(y) | Above(y) => y,
            })
        })
        .collect();
    assert!(fit_censored(&x, &by_limits).unwrap().slopes[0] < 0.45);
}

#[test]
fn what_has_no_maximum_is_refused() {
    let rows = |n: usize| (0..n).map(|k| vec![k as f64]).collect::<Vec<_>>();
    let refused =
        |x: &[Vec<f64>], y: &[Observed]| matches!(fit_censored(x, y), Err(Error::Setting { .. }));
    assert!(refused(&rows(3), &[At(1.0), At(2.0)]));
    assert!(refused(&rows(3), &[At(1.0), At(2.0), Above(2.0)]));
    assert!(refused(&rows(3), &[At(1.0), At(2.0), At(f64::NAN)]));
    assert!(refused(&vec![vec![1.0]; 4], &[At(1.0), At(2.0), At(3.0), At(4.0)]));
    assert!(refused(&[], &[]));
}
