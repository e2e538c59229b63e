//! Least squares by variable projection: for each shape of a curve its two levels are a linear fit,
//! so that only the shape is searched for, on a grid first, then from the best point of the grid.

use super::{NoStep, StepConfig, StepFit, judge};
use crate::phase::check_curve;
use crate::{Error, Result};

/// AICc of a step, of five parameters, needs more than six snapshots; with fewer than this its
/// correction is all there is.
const MIN_SNAPSHOTS: usize = 8;
const MIN_EFFECTIVE: f64 = 7.0;

/// Scales of the grid, from the narrowest that snapshots can tell to the run.
const SCALES: u32 = 8;
/// Time constants of decays, as shares of the run: what is over before most snapshots, to what is
/// nearly straight.
const DECAYS: u32 = 24;
const FASTEST_DECAY: f64 = 0.002;
const SLOWEST_DECAY: f64 = 10.0;

/// The search for a step among given snapshots, prepared once for any number of curves.
///
/// The grid holds every snapshot and every middle between two as midpoint, at eight scales. Its
/// shapes do not depend on the values, so they are computed here; a fit is then a sum of products
/// for each, and a Nelder-Mead search from the best.
#[derive(Debug, Clone)]
pub struct StepSearch {
    config: StepConfig,
    tokens: Vec<u64>,
    /// Snapshots as a share of the run.
    x: Vec<f64>,
    /// Of mean 1.
    weights: Vec<f64>,
    effective: f64,
    /// The logarithm of the narrowest scale, as a share of the run.
    narrowest: f64,
    line: Vec<f64>,
    /// Midpoint and logarithm of the scale, and the shape.
    steps: Vec<([f64; 2], Vec<f64>)>,
    /// Logarithm of the time constant, and the shape.
    decays: Vec<(f64, Vec<f64>)>,
}

impl StepSearch {
    /// Prepares the search among snapshots of these token counts.
    ///
    /// # Errors
    /// If the constants are not valid, tokens do not increase, or there are too few snapshots: 8,
    /// which weigh as much as 7 even ones.
    pub fn new(tokens: &[u64], config: &StepConfig) -> Result<Self> {
        config.validate()?;
        let n = tokens.len();
        check_curve(tokens, &vec![0.0; n])?;
        if n < MIN_SNAPSHOTS {
            return Err(Error::Curve {
                expected: "have at least 8 snapshots",
                found: n.to_string(),
            });
        }
        let run = (tokens[n - 1] - tokens[0]) as f64;
        let x: Vec<f64> = tokens.iter().map(|&t| (t - tokens[0]) as f64 / run).collect();
        // Half of the gaps on either side; together they are the run, of length 1.
        let stretch = |k: usize| (x[(k + 1).min(n - 1)] - x[k.saturating_sub(1)]) / 2.0;
        let weights: Vec<f64> = (0..n).map(|k| stretch(k) * n as f64).collect();
        let effective = (n as f64).powi(2) / weights.iter().map(|w| w * w).sum::<f64>();
        if effective < MIN_EFFECTIVE {
            let found = format!("{n} that weigh as much as {effective:.1}");
            return Err(Error::Curve {
                expected: "have snapshots that weigh as much as 7 even ones",
                found,
            });
        }

        let narrowest = (0.1 / (n - 1) as f64).ln();
        let middles = x.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
        let midpoints: Vec<f64> = x.iter().copied().chain(middles).collect();
        let at = |midpoint: f64| {
            (0..SCALES)
                .map(move |k| [midpoint, narrowest * (1.0 - f64::from(k) / f64::from(SCALES - 1))])
        };
        let mut shape = vec![0.0; n];
        let mut steps = Vec::new();
        for at in midpoints.into_iter().flat_map(at) {
            logistic(&x, at, &mut shape);
            steps.extend(unit(&weights, &shape).map(|unit| (at, unit)));
        }
        let mut decays = Vec::new();
        for k in 0..DECAYS {
            let along = f64::from(k) / f64::from(DECAYS - 1);
            let at = FASTEST_DECAY.ln() + along * (SLOWEST_DECAY / FASTEST_DECAY).ln();
            decay(&x, at, &mut shape);
            decays.extend(unit(&weights, &shape).map(|unit| (at, unit)));
        }
        let line = unit(&weights, &x).unwrap_or_default();
        let (config, tokens) = (*config, tokens.to_vec());
        Ok(Self { config, tokens, x, weights, effective, narrowest, line, steps, decays })
    }

    /// [`fit_step`](super::fit_step) at these snapshots.
    ///
    /// # Errors
    /// If there is not one value for each snapshot, or one is not finite.
    pub fn fit(&self, values: &[f64]) -> Result<StepFit> {
        check_curve(&self.tokens, values)?;
        let (x, weights) = (&self.x, &self.weights);
        let n = values.len() as f64;
        let mean = weighted_sum(weights, values) / n;
        let y: Vec<f64> = values.iter().map(|value| value - mean).collect();
        let mut shape = vec![0.0; values.len()];

        let at = best(&self.steps, &y).unwrap_or([0.5, self.narrowest / 2.0]);
        let at = nelder_mead(at, [1.0 / n, 0.3], |at| {
            if !(-0.5..=1.5).contains(&at[0]) || !(self.narrowest..=0.0).contains(&at[1]) {
                return f64::INFINITY;
            }
            logistic(x, at, &mut shape);
            levels(weights, &y, &shape).rss
        });
        logistic(x, at, &mut shape);
        let step = levels(weights, &y, &shape);

        let around = best(&self.decays, &y).unwrap_or(0.0);
        let gap = (SLOWEST_DECAY / FASTEST_DECAY).ln() / f64::from(DECAYS - 1);
        let (fastest, slowest) = (FASTEST_DECAY.ln(), SLOWEST_DECAY.ln());
        let decayed =
            golden_section((around - gap).max(fastest), (around + gap).min(slowest), |at| {
                decay(x, at, &mut shape);
                levels(weights, &y, &shape).rss
            });
        let total: f64 = y.iter().zip(weights).map(|(y, w)| w * y * y).sum();
        let straight = total - product(&self.line, &y).powi(2);

        // What rounding leaves of a perfect fit has no logarithm to compare.
        let rounding =
            f64::EPSILON.powi(2) * values.iter().map(|v| v * v).sum::<f64>() + f64::MIN_POSITIVE;
        let aicc = |rss: f64, k: f64| {
            let fit = self.effective * (rss.max(rounding) / n).ln();
            fit + 2.0 * k + 2.0 * k * (k + 1.0) / (self.effective - k - 1.0)
        };
        let run = (self.tokens[self.tokens.len() - 1] - self.tokens[0]) as f64;
        let of_step = aicc(step.rss, 5.0);
        Ok(StepFit {
            before: mean + step.level,
            after: mean + step.level + step.height,
            midpoint_tokens: self.tokens[0] as f64 + run * at[0],
            scale_tokens: run * at[1].exp(),
            rss: step.rss,
            residual: (step.rss / n * self.effective / (self.effective - 4.0)).sqrt(),
            effective_snapshots: self.effective,
            delta_aicc: aicc(straight, 3.0) - of_step,
            delta_aicc_decay: aicc(decayed, 4.0) - of_step,
        })
    }

    /// [`find_step`](super::find_step) at these snapshots.
    ///
    /// # Errors
    /// As [`fit`](Self::fit), and if the standard error is negative or not finite.
    pub fn find(
        &self,
        values: &[f64],
        stderr_of_height: Option<f64>,
    ) -> Result<std::result::Result<StepFit, NoStep>> {
        if let Some(stderr) =
            stderr_of_height.filter(|stderr| !(stderr.is_finite() && *stderr >= 0.0))
        {
            let (expected, found) = ("finite and not negative", stderr.to_string());
            return Err(Error::Setting { name: "stderr_of_height", expected, found });
        }
        let fit = self.fit(values)?;
        let before = self.tokens.iter().filter(|&&t| t as f64 <= fit.start_tokens()).count();
        let after = self.tokens.iter().filter(|&&t| t as f64 >= fit.end_tokens()).count();
        Ok(judge(&fit, (before, after), stderr_of_height, &self.config).map(|()| fit))
    }
}

fn logistic(x: &[f64], [midpoint, ln_scale]: [f64; 2], shape: &mut [f64]) {
    let steepness = (-ln_scale).exp();
    for (shape, x) in shape.iter_mut().zip(x) {
        *shape = 1.0 / (1.0 + ((midpoint - x) * steepness).exp());
    }
}

fn decay(x: &[f64], ln_tau: f64, shape: &mut [f64]) {
    let rate = (-ln_tau).exp();
    for (shape, x) in shape.iter_mut().zip(x) {
        *shape = (-x * rate).exp();
    }
}

fn weighted_sum(weights: &[f64], values: &[f64]) -> f64 {
    weights.iter().zip(values).map(|(w, v)| w * v).sum()
}

/// In four sums side by side: in one, each addition waits for the last.
fn product(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a4, a_rest) = a.as_chunks::<4>();
    let (b4, b_rest) = b.as_chunks::<4>();
    for (a, b) in a4.iter().zip(b4) {
        for k in 0..4 {
            sums[k] += a[k] * b[k];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// The shape centred, of length 1, times the weights: its product with centred values, squared, is
/// what the shape explains of their sum of squares. `None` for a shape that is flat at all
/// snapshots.
fn unit(weights: &[f64], shape: &[f64]) -> Option<Vec<f64>> {
    let mean = weighted_sum(weights, shape) / shape.len() as f64;
    let length = shape.iter().zip(weights).map(|(s, w)| w * (s - mean).powi(2)).sum::<f64>().sqrt();
    (length > 1e-5)
        .then(|| shape.iter().zip(weights).map(|(s, w)| w * (s - mean) / length).collect())
}

/// The point of the grid whose shape explains most; `None` if none explains anything.
fn best<P: Copy>(grid: &[(P, Vec<f64>)], y: &[f64]) -> Option<P> {
    let mut best = (0.0, None);
    for (at, unit) in grid {
        let explained = product(unit, y).powi(2);
        if explained > best.0 {
            best = (explained, Some(*at));
        }
    }
    best.1
}

/// The least-squares fit `level + height * shape`.
struct Levels {
    level: f64,
    height: f64,
    rss: f64,
}

/// Infinite residuals for a shape that is flat at all snapshots.
fn levels(weights: &[f64], y: &[f64], shape: &[f64]) -> Levels {
    let n = y.len() as f64;
    let (mean, mean_y) = (weighted_sum(weights, shape) / n, weighted_sum(weights, y) / n);
    let (mut square, mut dot) = (0.0, 0.0);
    for ((w, s), y) in weights.iter().zip(shape).zip(y) {
        square += w * (s - mean) * (s - mean);
        dot += w * (s - mean) * y;
    }
    if square < 1e-12 {
        return Levels { level: mean_y, height: 0.0, rss: f64::INFINITY };
    }
    let height = dot / square;
    let level = mean_y - height * mean;
    let residual = |((w, s), y): ((&f64, &f64), &f64)| w * (y - level - height * s).powi(2);
    Levels { level, height, rss: weights.iter().zip(shape).zip(y).map(residual).sum() }
}

/// The least value of a function with one valley between two points.
fn golden_section(mut low: f64, mut high: f64, mut value: impl FnMut(f64) -> f64) -> f64 {
    const RATIO: f64 = 0.618_033_988_749_895;
    let (mut a, mut b) = (high - RATIO * (high - low), low + RATIO * (high - low));
    let (mut at_a, mut at_b) = (value(a), value(b));
    for _ in 0..16 {
        if at_a < at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - RATIO * (high - low);
            at_a = value(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + RATIO * (high - low);
            at_b = value(b);
        }
    }
    at_a.min(at_b)
}

/// Nelder and Mead's simplex search in the plane, from `start` with sides of `size`. Points that
/// are not allowed have an infinite value.
fn nelder_mead(
    start: [f64; 2],
    size: [f64; 2],
    mut value: impl FnMut([f64; 2]) -> f64,
) -> [f64; 2] {
    let mut evaluated = |at: [f64; 2]| (value(at), at);
    // A side that leaves the allowed points turns around.
    let mut corner = |at: [f64; 2], back: [f64; 2]| {
        let found = evaluated(at);
        if found.0.is_finite() { found } else { evaluated(back) }
    };
    let mut simplex = [
        corner(start, start),
        corner([start[0] + size[0], start[1]], [start[0] - size[0], start[1]]),
        corner([start[0], start[1] + size[1]], [start[0], start[1] - size[1]]),
    ];
    // Some 50 steps are usual.
    for _ in 0..120 {
        simplex.sort_by(|a, b| a.0.total_cmp(&b.0));
        let [best, middle, worst] = simplex;
        let near =
            |k: usize| (middle.1[k] - best.1[k]).abs().max((worst.1[k] - best.1[k]).abs()) < 1e-5;
        if near(0) && near(1) || worst.0 - best.0 <= 1e-10 * best.0 && worst.0.is_finite() {
            break;
        }
        // On the line from the worst corner through the middle of the others: 1 is the corner, 0
        // the middle.
        let mut along = |t: f64| {
            let at = |k: usize| {
                let centre = f64::midpoint(best.1[k], middle.1[k]);
                centre + t * (worst.1[k] - centre)
            };
            evaluated([at(0), at(1)])
        };
        let reflected = along(-1.0);
        if reflected.0 < best.0 {
            let further = along(-2.0);
            simplex[2] = if further.0 < reflected.0 { further } else { reflected };
        } else if reflected.0 < middle.0 {
            simplex[2] = reflected;
        } else {
            let inside = if reflected.0 < worst.0 { along(-0.5) } else { along(0.5) };
            if inside.0 < worst.0.min(reflected.0) {
                simplex[2] = inside;
            } else {
                for corner in &mut simplex[1..] {
                    *corner = evaluated([0, 1].map(|k| f64::midpoint(corner.1[k], best.1[k])));
                }
            }
        }
    }
    simplex.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(start, |(_, at)| at)
}
