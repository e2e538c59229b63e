//! A straight line through values of which some are only known to be larger than a limit: when a
//! change comes, where some runs ended before it came.

use nalgebra::{DMatrix, DVector};
use statrs::distribution::{Continuous, ContinuousCDF, Normal};

use crate::{Error, Result};

/// Steps of the maximisation, at most.
const STEPS: usize = 100_000;
/// Changes below this end it; parameters are of the order of 1.
const SETTLED: f64 = 1e-12;

/// What is known of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observed {
    /// It was seen.
    At(f64),
    /// It is larger than this, where looking ended.
    Above(f64),
}

/// `y = intercept + slopes . x + sigma e` with normal `e`.
#[derive(Debug, Clone, PartialEq)]
pub struct CensoredFit {
    /// The value at `x = 0`.
    pub intercept: f64,
    /// One for each column of `x`.
    pub slopes: Vec<f64>,
    /// The standard deviation about the line.
    pub sigma: f64,
}

impl CensoredFit {
    /// The median of `y` at `x`.
    ///
    /// # Panics
    /// If `x` has not one value for each slope.
    pub fn predict(&self, x: &[f64]) -> f64 {
        assert_eq!(x.len(), self.slopes.len(), "one value for each slope");
        self.intercept + self.slopes.iter().zip(x).map(|(slope, x)| slope * x).sum::<f64>()
    }

    /// The probability that `y` at `x` is at most `limit`.
    ///
    /// # Panics
    /// As [`predict`](Self::predict).
    pub fn probability_below(&self, x: &[f64], limit: f64) -> f64 {
        standard().cdf((limit - self.predict(x)) / self.sigma)
    }
}

fn standard() -> Normal {
    Normal::new(0.0, 1.0).expect("a standard deviation of 1")
}

/// The line and spread of greatest likelihood, censored values counting with the probability to lie
/// above their limit (Tobin 1958's model, with a limit for each value).
///
/// By expectation and maximisation (Dempster, Laird and Rubin 1977): censored values are replaced by
/// their mean given that they lie above the limit, the line is fitted anew, and so on. The
/// likelihood has one maximum (Olsen 1978), if there is one: columns must differ, and at least as
/// many values as parameters must be seen, else the line could go anywhere.
///
/// # Errors
/// If lengths differ, a number is not finite, or too few values are seen.
pub fn fit_censored(x: &[Vec<f64>], y: &[Observed]) -> Result<CensoredFit> {
    let columns = x.first().map_or(0, Vec::len);
    let wrong = |expected: &'static str, found: String| {
        Err(Error::Setting { name: "observations", expected, found })
    };
    if x.len() != y.len() || x.iter().any(|row| row.len() != columns) {
        return wrong("one row of equal length for each value", format!("{} rows", x.len()));
    }
    let limit = |value: &Observed| match *value {
        Observed::At(value) | Observed::Above(value) => value,
    };
    if !x.iter().flatten().all(|x| x.is_finite()) || !y.iter().all(|y| limit(y).is_finite()) {
        return wrong("finite", "NaN or infinity".into());
    }
    let seen = y.iter().filter(|y| matches!(y, Observed::At(_))).count();
    if seen < columns + 2 {
        return wrong("two more seen than there are columns", format!("{seen} of {columns}"));
    }

    let design = DMatrix::from_fn(x.len(), columns + 1, |row, column| match column {
        0 => 1.0,
        _ => x[row][column - 1],
    });
    let Some(inverse) = (design.transpose() * &design).try_inverse() else {
        return wrong("columns that do not depend on each other", format!("{columns} columns"));
    };
    let solve = |values: &DVector<f64>| &inverse * (design.transpose() * values);
    let mut filled = DVector::from_iterator(y.len(), y.iter().map(limit));
    let mut line = solve(&filled);
    let mut variance = (&filled - &design * &line).norm_squared() / y.len() as f64;
    let normal = standard();
    for _ in 0..STEPS {
        let (mean, sigma) = (&design * &line, variance.sqrt());
        let mut hidden = 0.0;
        for (row, value) in y.iter().enumerate() {
            if let Observed::Above(limit) = *value {
                let below = (limit - mean[row]) / sigma;
                // The inverse Mills ratio; far out, where both are 0, its limit.
                let tail = normal.sf(below);
                let ratio = if tail > 0.0 { normal.pdf(below) / tail } else { below };
                filled[row] = mean[row] + sigma * ratio;
                hidden += variance * (1.0 + below * ratio - ratio * ratio).max(0.0);
            }
        }
        let next = solve(&filled);
        let spread = ((&filled - &design * &next).norm_squared() + hidden) / y.len() as f64;
        let moved = (&next - &line).amax().max((spread - variance).abs());
        (line, variance) = (next, spread);
        if moved < SETTLED {
            break;
        }
    }
    Ok(CensoredFit {
        intercept: line[0],
        slopes: line.iter().skip(1).copied().collect(),
        sigma: variance.sqrt(),
    })
}
