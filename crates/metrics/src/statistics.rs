//! Intervals, associations and change points.
//!
//! A bootstrap resample is a list of counts, how often each item is taken: a mean over the resample
//! is then one weighted sum, and the same counts serve every snapshot and model that was measured
//! on the same examples, so that what they have in common cancels in their differences.

use induction_random::stream;
use rand::Rng;
use serde::{Deserialize, Serialize};
use statrs::{
    distribution::{ContinuousCDF, StudentsT},
    statistics::{Data, OrderStatistics, RankTieBreaker},
    stats_tests::{Alternative, fishers_exact},
};

use crate::{Error, Result};

/// The mean, and the standard error of that mean; `None` for fewer than two values, which say
/// nothing about spread.
///
/// Two passes: the one-pass formula loses every digit when values agree to the precision of their
/// squares.
pub fn mean_stderr(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()))
}

/// The range that holds the mean behind some values at a level, by Student's t: exact for normal
/// ones. `None` for fewer than two values, or a level that is not between 0 and 1.
pub fn mean_interval(values: &[f64], level: f64) -> Option<Interval> {
    let (mean, stderr) = mean_stderr(values);
    if !(0.0 < level && level < 1.0) {
        return None;
    }
    let student = StudentsT::new(0.0, 1.0, values.len() as f64 - 1.0).ok()?;
    let margin = student.inverse_cdf((1.0 + level) / 2.0) * stderr?;
    Some(Interval { low: mean - margin, high: mean + margin })
}

/// A range of values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How often each of `n` items is taken in a bootstrap resample of as many: counts that sum to `n`,
/// a function of the arguments alone.
pub fn resample(seed: u64, draw: u64, n: usize) -> Vec<u32> {
    let mut rng = stream(seed, "bootstrap", draw);
    let mut counts = vec![0; n];
    for _ in 0..n {
        counts[rng.random_range(0..n)] += 1;
    }
    counts
}

/// The mean of values taken `counts` times each; NaN if none is taken.
pub fn weighted_mean(values: &[f64], counts: &[u32]) -> f64 {
    let (mut sum, mut total) = (0.0, 0.0);
    for (value, &count) in values.iter().zip(counts) {
        sum += value * f64::from(count);
        total += f64::from(count);
    }
    sum / total
}

/// The percentile interval that holds `level` of the values: quantiles `(1 - level) / 2` and `(1 +
/// level) / 2`, interpolated linearly between order statistics (Hyndman and Fan's type 7, NumPy's
/// default). `None` for no values.
///
/// # Errors
/// If `level` is not in `(0, 1)`, or a value is not finite.
pub fn percentile_interval(values: &[f64], level: f64) -> Result<Option<Interval>> {
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::Setting {
            name: "level",
            expected: "a share in (0, 1)",
            found: level.to_string(),
        });
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(Error::Setting {
            name: "values",
            expected: "finite",
            found: value.to_string(),
        });
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return Ok(None) };
    // Not statrs' quantile, which is type 8 and has no other.
    let quantile = |share: f64| {
        let at = share * last as f64;
        let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        below + (at - at.floor()) * (above - below)
    };
    Ok(Some(Interval { low: quantile((1.0 - level) / 2.0), high: quantile((1.0 + level) / 2.0) }))
}

/// How likely `successes` or more of `n` fair coins are: the one-sided p-value of a sign test.
pub fn binomial_tail(n: u64, successes: u64) -> f64 {
    use statrs::distribution::{Binomial, DiscreteCDF};
    if successes == 0 {
        return 1.0;
    }
    Binomial::new(0.5, n).map_or(1.0, |coins| coins.sf(successes - 1))
}

/// Spearman's rank correlation, ties sharing their mean rank; `None` if either list is constant or
/// has fewer than two values.
///
/// # Errors
/// If the lists differ in length, or a value is not finite.
pub fn spearman(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    if x.len() != y.len() {
        let (expected, found) =
            (format!("{} values, as the first", x.len()), format!("{}", y.len()));
        return Err(Error::Shape { what: "the second list of a correlation", expected, found });
    }
    if let Some(value) = x.iter().chain(y).find(|value| !value.is_finite()) {
        return Err(Error::Setting {
            name: "values to correlate",
            expected: "finite",
            found: value.to_string(),
        });
    }
    let ranks = |values: &[f64]| Data::new(values.to_vec()).ranks(RankTieBreaker::Average);
    let (x, y) = (ranks(x), ranks(y));
    let mean = (x.len() as f64 + 1.0) / 2.0;
    let product =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let scale = (product(&x, &x) * product(&y, &y)).sqrt();
    Ok((scale > 0.0).then(|| (product(&x, &y) / scale).clamp(-1.0, 1.0)))
}

/// How many items have each of two properties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoByTwo {
    /// Items with both.
    pub both: u64,
    /// Items with the first only.
    pub first_only: u64,
    /// Items with the second only.
    pub second_only: u64,
    /// Items with neither.
    pub neither: u64,
}

impl TwoByTwo {
    /// The odds of the second property with the first, to those without it; half an item is added
    /// to every cell if one is empty (Haldane and Anscombe). `None` if all or none of the items
    /// have a property, so that nothing compares.
    pub fn odds_ratio(&self) -> Option<f64> {
        let cells = [self.both, self.first_only, self.second_only, self.neither];
        let [a, b, c, d] = cells.map(|n| n as f64 + if cells.contains(&0) { 0.5 } else { 0.0 });
        let compares = self.both + self.first_only > 0
            && self.second_only + self.neither > 0
            && self.both + self.second_only > 0
            && self.first_only + self.neither > 0;
        compares.then(|| a * d / (b * c))
    }

    /// Fisher's exact test that the properties go together: the one-sided p-value. 1 where nothing
    /// compares.
    pub fn fisher(&self) -> f64 {
        let cells = [self.both, self.first_only, self.second_only, self.neither];
        // The only error is a table that is no contingency table, which counts always are.
        fishers_exact(&cells, Alternative::Greater).unwrap_or(1.0)
    }
}

/// Where a list of values changes its mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePoint {
    /// The first value after the change.
    pub index: usize,
    /// Mean of the values before it.
    pub before: f64,
    /// Mean of the values from it on.
    pub after: f64,
    /// Share of the values' variance that the two means explain.
    pub explained: f64,
}

/// The single change in mean that leaves the least squared error; `None` for a constant list or
/// fewer than two values.
///
/// # Errors
/// If a value is not finite.
pub fn change_point(values: &[f64]) -> Result<Option<ChangePoint>> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(Error::Setting {
            name: "values",
            expected: "finite",
            found: value.to_string(),
        });
    }
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let total: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    if n < 2 || total == 0.0 {
        return Ok(None);
    }
    // The error left is the total less k (n - k) / n (after - before)^2: largest where the means
    // are furthest apart.
    let mut sum = 0.0;
    let best = (1..n)
        .map(|k| {
            // Deviations from the mean, so that a large offset costs no digits.
            sum += values[k - 1] - mean;
            let (before, after) = (sum / k as f64, -sum / (n - k) as f64);
            let between = (k * (n - k)) as f64 / n as f64 * (after - before).powi(2);
            (
                between,
                ChangePoint {
                    index: k,
                    before: mean + before,
                    after: mean + after,
                    explained: between / total,
                },
            )
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Ok(best.map(|(_, change)| change))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_a_mean_is_students() {
        // The textbook's 0.975 quantile for 2 degrees of freedom.
        let interval = mean_interval(&[1.0, 2.0, 3.0], 0.95).unwrap();
        let margin = 4.302_652_73 / 3f64.sqrt();
        assert!((interval.low - (2.0 - margin)).abs() < 1e-6, "{interval:?}");
        assert!((interval.high - (2.0 + margin)).abs() < 1e-6, "{interval:?}");
        assert_eq!((mean_interval(&[1.0], 0.95), mean_interval(&[1.0, 2.0], 1.0)), (None, None));
    }

    #[test]
    fn known_values() {
        // Deviations -1, 0, 1: variance 1, standard error 1 / sqrt(3).
        assert_eq!(mean_stderr(&[1.0, 2.0, 3.0]), (2.0, Some((1.0f64 / 3.0).sqrt())));
        assert_eq!(mean_stderr(&[4.0]), (4.0, None));
    }

    #[test]
    fn survives_a_large_offset() {
        let (_, stderr) = mean_stderr(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]);
        assert_eq!(stderr, Some((1.0f64 / 3.0).sqrt()));
    }
}
