//! The stages of training: into how many pieces curves over training fall, and where they join.
//!
//! The model is a continuous line of straight pieces in the logarithm of training tokens, as many
//! for each curve and with common boundaries, and independent Gaussian errors of a variance of each
//! curve's own. (Segmented, or joinpoint, regression: Lerman 1980, Applied Statistics 29; Kim et al.
//! 2000, Statistics in Medicine 19. Hoogland et al. 2024, arXiv 2402.02364, take stages from one
//! curve's critical points, which asks for curves without noise, and gives no interval.)
//!
//! # How many
//!
//! Boundaries are sought among the snapshots and the middles between them, all combinations, for
//! each number of stages. Their number has the least `-2 ln L + 3 k ln n` for one curve, with `k`
//! boundaries and `n` snapshots: BIC with three parameters for a boundary, its slope, its place and
//! one more for the search (Zhang and Siegmund 2007, Biometrics 63; Kim and Kim 2016, Statistics in
//! Medicine 35). Of `c` curves it is `c + 2` parameters.
//!
//! # Where
//!
//! The interval of a boundary is that of its profile likelihood: all places where, with the other
//! boundaries wherever they then fit best, `-2 ln L` lies above its minimum by at most `n ln(1 +
//! t^2 / f)`, `t` the quantile of Student's distribution of the `f` degrees of freedom that a curve
//! leaves. It is widened to the next places sought on both sides, between which it may end.
//!
//! # What the likelihood leaves out
//!
//! Curves over training are smooth and their errors small, so that what a straight piece leaves is
//! for the most part its misfit, which neighbouring snapshots share. Errors that correlate make
//! more stages and narrower intervals than are right (`tests/all/stages.rs` counts how often).

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::{Error, Interval, Result, phase::check_increasing};

/// Most places that boundaries are sought at: all threes of them are some hundred thousand.
const MOST_PLACES: usize = 96;

/// What of a curve's spread a fit that leaves less is taken to leave: nothing is measured better.
const LEAST_RESIDUAL: f64 = 1e-6;

/// The constants of [`find_stages`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StagesConfig {
    /// Most stages that are looked for, from 1 to 4.
    pub max_stages: usize,
    /// Fewest snapshots in a stage: fewer make a piece of whatever lies apart.
    pub min_snapshots: usize,
    /// Coverage that the intervals aim at.
    pub level: f64,
}

impl Default for StagesConfig {
    fn default() -> Self {
        Self { max_stages: 4, min_snapshots: 3, level: 0.95 }
    }
}

/// Where one stage ends and the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boundary {
    /// In training tokens.
    pub tokens: f64,
    /// By profile likelihood.
    pub interval: Interval,
}

/// The stages of curves over training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// In order; one fewer than stages.
    pub boundaries: Vec<Boundary>,
    /// The criterion of one stage, two, and so on, less that of those chosen: above 0 but for
    /// these. As many as there are snapshots for.
    pub delta_bic: Vec<f64>,
    /// The fit of each curve at the first snapshot with tokens, at every boundary and at the last
    /// snapshot: straight between them in the logarithm of tokens.
    pub fitted: Vec<Vec<f64>>,
}

/// The stages of `curves` over training, each with a value a snapshot; `tokens[k]` is how many
/// training tokens snapshot `k` has seen. The untrained model, of no tokens, is left out: it lies
/// infinitely far from all others.
///
/// # Errors
/// If there is no curve, the lengths differ, tokens do not increase, a value is not finite, fewer
/// than five snapshots have tokens, or a constant is not valid.
pub fn find_stages(tokens: &[u64], curves: &[&[f64]], config: &StagesConfig) -> Result<Stages> {
    check(tokens, curves, config)?;
    let first = usize::from(tokens[0] == 0);
    let x: Vec<f64> = tokens[first..].iter().map(|&tokens| (tokens as f64).ln()).collect();
    let n = x.len();
    if n < FEWEST {
        return Err(Error::Curve {
            expected: "have at least 5 snapshots with tokens to fall into stages",
            found: n.to_string(),
        });
    }
    let curves: Vec<&[f64]> = curves.iter().map(|curve| &curve[first..]).collect();
    let places = places(&x);
    let fits = Fits::new(&x, &places, &curves);
    let found: Vec<Best> = (1..=config.max_stages)
        .map_while(|stages| fits.best(&x, &places, stages - 1, config.min_snapshots))
        .collect();

    let each = (curves.len() + 2) as f64 * (n as f64).ln();
    let bic = |(k, best): (usize, &Best)| best.minus_two_ln_l + each * k as f64;
    let bics: Vec<f64> = found.iter().enumerate().map(bic).collect();
    let chosen = (0..bics.len())
        .min_by(|&a, &b| bics[a].total_cmp(&bics[b]))
        .expect("one stage always fits");
    let best = &found[chosen];
    // Of a curve: its line, and a slope and a place for each boundary.
    let freedom = n.saturating_sub(2 + 2 * chosen).max(1) as f64;
    let t = StudentsT::new(0.0, 1.0, freedom)
        .expect("at least one degree of freedom")
        .inverse_cdf(0.5 + config.level / 2.0);
    let allowed = best.minus_two_ln_l + n as f64 * (1.0 + t * t / freedom).ln();
    let boundaries = best.places.iter().zip(&best.profiles).map(|(&place, profile)| {
        let inside = |at: &usize| profile[*at] <= allowed;
        let low = (0..places.len()).find(inside).expect("the best place lies inside");
        let high = (0..places.len()).rfind(inside).expect("the best place lies inside");
        let at = |place: usize| places[place.min(places.len() - 1)].exp();
        Boundary {
            tokens: at(place),
            interval: Interval { low: at(low.saturating_sub(1)), high: at(high + 1) },
        }
    });
    Ok(Stages {
        boundaries: boundaries.collect(),
        delta_bic: bics.iter().map(|bic| bic - bics[chosen]).collect(),
        fitted: curves
            .iter()
            .map(|curve| fitted(&x, curve, best.places.iter().map(|&place| places[place])))
            .collect(),
    })
}

/// Fewest snapshots with tokens that [`find_stages`] takes: a line leaves something of them to judge
/// it by.
pub const FEWEST: usize = 5;

fn check(tokens: &[u64], curves: &[&[f64]], config: &StagesConfig) -> Result<()> {
    let setting = |name, expected, found: String| Err(Error::Setting { name, expected, found });
    if !(1..=4).contains(&config.max_stages) {
        return setting("max_stages", "from 1 to 4", config.max_stages.to_string());
    }
    if config.min_snapshots < 2 {
        return setting("min_snapshots", "2 or more", config.min_snapshots.to_string());
    }
    if !(config.level > 0.0 && config.level < 1.0) {
        return setting("level", "a share in (0, 1)", config.level.to_string());
    }
    if curves.is_empty() || tokens.is_empty() {
        let found = format!("{} curves of {} snapshots", curves.len(), tokens.len());
        return Err(Error::Curve { expected: "be there, with at least one snapshot", found });
    }
    check_increasing(tokens)?;
    curves.iter().try_for_each(|curve| crate::phase::check_curve(tokens, curve))
}

/// The snapshots but for the ends, and the middles between neighbours; every second or so of these
/// where there are many.
fn places(x: &[f64]) -> Vec<f64> {
    let mut all = Vec::new();
    for pair in x.windows(2) {
        all.extend([pair[0], 0.5 * (pair[0] + pair[1])]);
    }
    let inner = &all[1..];
    inner.iter().copied().step_by(inner.len().div_ceil(MOST_PLACES)).collect()
}

/// What the fits of all combinations of places have in common: each hinge `max(x - place, 0)` and
/// each curve less its own straight line.
struct Fits {
    /// Products of the hinges, `[place, place]`.
    hinges: DMatrix<f64>,
    /// Products of hinges and curves, `[place, curve]`.
    along: DMatrix<f64>,
    /// Squares of the curves.
    squares: Vec<f64>,
    /// What a fit of each leaves at least.
    least: Vec<f64>,
    snapshots: usize,
}

/// The best fit of a number of boundaries.
struct Best {
    minus_two_ln_l: f64,
    /// Of each boundary, in `places`.
    places: Vec<usize>,
    /// The least `-2 ln L` with each boundary at each place.
    profiles: Vec<Vec<f64>>,
}

impl Fits {
    fn new(x: &[f64], places: &[f64], curves: &[&[f64]]) -> Self {
        let n = x.len();
        let mean = x.iter().sum::<f64>() / n as f64;
        let x_squares: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
        let without_line = |values: &mut dyn Iterator<Item = f64>| {
            let values: Vec<f64> = values.collect();
            let level = values.iter().sum::<f64>() / n as f64;
            let slope = x.iter().zip(&values).map(|(x, y)| (x - mean) * y).sum::<f64>() / x_squares;
            let left = x.iter().zip(&values).map(|(x, y)| y - level - slope * (x - mean));
            DVector::from_iterator(n, left)
        };
        let hinge = |place: &f64| without_line(&mut x.iter().map(|x| (x - place).max(0.0)));
        let hinges: Vec<_> = places.iter().map(hinge).collect();
        let left: Vec<_> =
            curves.iter().map(|curve| without_line(&mut curve.iter().copied())).collect();
        let spread = |curve: &&[f64]| {
            let level = curve.iter().sum::<f64>() / n as f64;
            curve.iter().map(|y| (y - level).powi(2)).sum::<f64>()
        };
        Self {
            hinges: DMatrix::from_fn(places.len(), places.len(), |a, b| hinges[a].dot(&hinges[b])),
            along: DMatrix::from_fn(places.len(), curves.len(), |a, c| hinges[a].dot(&left[c])),
            squares: left.iter().map(|left| left.norm_squared()).collect(),
            least: curves.iter().map(|curve| spread(curve) * LEAST_RESIDUAL.powi(2)).collect(),
            snapshots: n,
        }
    }

    /// The best of all combinations of `boundaries` places with enough snapshots between; `None`
    /// where there are not so many snapshots.
    fn best(
        &self,
        x: &[f64],
        places: &[f64],
        boundaries: usize,
        min_snapshots: usize,
    ) -> Option<Best> {
        // Snapshots before each place; one at a place belongs to what follows.
        let before: Vec<usize> =
            places.iter().map(|&place| x.partition_point(|&x| x < place)).collect();
        let mut best = Best {
            minus_two_ln_l: f64::INFINITY,
            places: Vec::new(),
            profiles: vec![vec![f64::INFINITY; places.len()]; boundaries],
        };
        let mut at: Vec<usize> = Vec::with_capacity(boundaries);
        let mut next = 0;
        loop {
            if at.len() == boundaries {
                let after_last = at.last().map_or(x.len(), |&place| x.len() - before[place]);
                if after_last >= min_snapshots.min(x.len()) {
                    let value = self.minus_two_ln_l(&at);
                    for (profile, &place) in best.profiles.iter_mut().zip(&at) {
                        profile[place] = profile[place].min(value);
                    }
                    if value < best.minus_two_ln_l {
                        (best.minus_two_ln_l, best.places) = (value, at.clone());
                    }
                }
            } else {
                let from = at.last().map_or(0, |&place| before[place]);
                let enough = |place: &usize| before[*place] >= from + min_snapshots;
                if let Some(place) = (next..places.len()).find(enough) {
                    at.push(place);
                    next = place + 1;
                    continue;
                }
            }
            match at.pop() {
                Some(place) => next = place + 1,
                None => break,
            }
        }
        best.minus_two_ln_l.is_finite().then_some(best)
    }

    /// `-2 ln L` but for a constant: `n ln(RSS / n)`, summed over the curves. Infinite where the
    /// hinges at these places are not told apart by the snapshots.
    fn minus_two_ln_l(&self, at: &[usize]) -> f64 {
        let k = at.len();
        // Cholesky's factor of the hinges' products; a hinge is squared on the diagonal.
        let mut factor = [[0.0; 3]; 3];
        for i in 0..k {
            for j in 0..=i {
                let sum: f64 = (0..j).map(|m| factor[i][m] * factor[j][m]).sum();
                let value = self.hinges[(at[i], at[j])] - sum;
                if i == j {
                    if value <= 1e-10 * self.hinges[(at[i], at[i])] {
                        return f64::INFINITY;
                    }
                    factor[i][i] = value.sqrt();
                } else {
                    factor[i][j] = value / factor[j][j];
                }
            }
        }
        let mut total = 0.0;
        for (curve, &square) in self.squares.iter().enumerate() {
            let mut left = square;
            let mut solved = [0.0; 3];
            for i in 0..k {
                let sum: f64 = (0..i).map(|m| factor[i][m] * solved[m]).sum();
                solved[i] = (self.along[(at[i], curve)] - sum) / factor[i][i];
                left -= solved[i] * solved[i];
            }
            // A constant curve says nothing of stages.
            if self.least[curve] > 0.0 {
                let n = self.snapshots as f64;
                total += n * (left.max(self.least[curve]) / n).ln();
            }
        }
        total
    }
}

/// The best line of straight pieces that join at these places: at the first snapshot, at each
/// place, at the last.
fn fitted(x: &[f64], curve: &[f64], places: impl Iterator<Item = f64>) -> Vec<f64> {
    let places: Vec<f64> = places.collect();
    let row = |x: f64| {
        let hinges = places.iter().map(move |place| (x - place).max(0.0));
        [1.0, x - places.first().copied().unwrap_or_default()].into_iter().chain(hinges)
    };
    let columns = 2 + places.len();
    let design = DMatrix::from_row_iterator(x.len(), columns, x.iter().flat_map(|&x| row(x)));
    let values = DVector::from_column_slice(curve);
    let solved = design
        .svd(true, true)
        .solve(&values, 1e-12)
        .expect("both factors of the decomposition were asked for");
    let at = |x: f64| row(x).zip(&solved).map(|(a, b)| a * b).sum::<f64>();
    let ends = (x[0], x[x.len() - 1]);
    std::iter::once(ends.0).chain(places.iter().copied()).chain([ends.1]).map(at).collect()
}
