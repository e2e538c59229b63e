//! The phase-change window of a score over training (paper.md, 2.1), and half times.
//!
//! The paper selects its window "based on the derivative of the in-context learning score" and gives no formula. Ours:
//!
//! 1. Put the curve on an even grid of training tokens. Snapshots are dense early (steps 1, 2, 4, ..); there, a slope
//!    between neighbours is noise over next to nothing, and a moving average over snapshots is one over no time at all.
//! 2. Smooth it with a moving average.
//! 3. Starting from the steepest descent, grow a region while the descent stays above a share of its peak. Repeat on
//!    what is left, so that every descent of the curve belongs to one candidate, and a slow drift cannot absorb the
//!    steep part beside it.
//! 4. Drop the candidates that are too small, that the score recovers from, or that are a drift: most of the run, or
//!    hardly steeper than the rest of it. Of the others, those within reach of the largest count as *sustained*; the steepest of these is
//!    the window. So neither an early dip, steep but small, nor a long slope, large but flat, takes its place.
//!
//! What the rule cannot tell: a score that falls from its very first snapshot, as n-gram statistics alone may make it,
//! gets a window like any other once it falls by more than [`PhaseConfig::min_drop`]: leave out the warm-up (paper.md, 2.1:
//! "after warm region"). On an even grid, a schedule of
//! powers of two alone leaves the early run in a single cell; give such runs evenly spaced snapshots too.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// With fewer snapshots, a slope, its neighbours and the rest of the run are the same few differences.
const MIN_SNAPSHOTS: usize = 5;

/// The constants of [`phase_change`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhaseConfig {
    /// Grid points in the moving average, at least; the grid has as many points as there are snapshots (paper.md, 2.1:
    /// 3 to 5).
    pub smooth: usize,
    /// The same as a share of the run: with many snapshots, the fixed number spans too little time to average out the
    /// noise of slopes. The larger of the two holds. A window is widened by about as much.
    pub smooth_share: f64,
    /// The region lasts while the descent is above this share of its peak (paper.md, 2.1: 20 %).
    pub slope_share: f64,
    /// The least drop across the window, in nats (or units of the score).
    pub min_drop: f64,
    /// The least drop across the window, in standard errors of a change of the score, where one is given.
    pub min_drop_stderrs: f64,
    /// The longest window, as a share of the run (paper.md, 9: Q4 asks for less than 25 %; this only excludes drifts).
    pub max_share: f64,
    /// How many times steeper than the rest of the run the window must be on average. Noise breaks a drift into pieces,
    /// the steepest of which are some twice as steep as the whole.
    pub min_contrast: f64,
    /// The share of its drop a descent must keep, on average over three times as long as it took.
    pub keep_share: f64,
    /// A descent of at least this share of the largest one's drop is sustained; the steepest sustained one is the window.
    pub sustained_share: f64,
}

impl Default for PhaseConfig {
    fn default() -> Self {
        Self {
            smooth: 3,
            smooth_share: 0.04,
            slope_share: 0.2,
            min_drop: 0.05,
            min_drop_stderrs: 3.0,
            max_share: 0.5,
            min_contrast: 3.0,
            keep_share: 0.5,
            sustained_share: 0.5,
        }
    }
}

impl PhaseConfig {
    /// Checks every constant.
    ///
    /// # Errors
    /// If one lies outside the values that make sense.
    pub fn validate(&self) -> Result<()> {
        if self.smooth == 0 {
            return Err(Error::Setting { name: "smooth", expected: "at least 1", found: "0".into() });
        }
        let shares = [
            ("smooth_share", self.smooth_share),
            ("slope_share", self.slope_share),
            ("max_share", self.max_share),
            ("keep_share", self.keep_share),
            ("sustained_share", self.sustained_share),
        ];
        if let Some((name, value)) = shares.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return Err(Error::Setting { name, expected: "a share in [0, 1]", found: value.to_string() });
        }
        let sizes = [
            ("min_drop", self.min_drop),
            ("min_drop_stderrs", self.min_drop_stderrs),
            ("min_contrast", self.min_contrast),
        ];
        match sizes.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            Some((name, value)) => {
                Err(Error::Setting { name, expected: "finite and not negative", found: value.to_string() })
            }
            None => Ok(()),
        }
    }
}

/// A phase change: where training passed through it, and the smoothed score at either end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Training tokens seen when it starts.
    pub start_tokens: u64,
    /// Training tokens seen when it ends.
    pub end_tokens: u64,
    /// The score at its start, in nats.
    pub score_before: f64,
    /// The score at its end, in nats; below `score_before`.
    pub score_after: f64,
}

/// The phase-change window of in-context learning scores over training (paper.md, 2.1), or `None` for a curve without.
///
/// `tokens[k]` is how many training tokens snapshot `k` has seen, `scores[k]` its score in nats, and `stderr`, where
/// known, the standard error of a *change* of the score between snapshots: not of the score itself, if all snapshots are
/// scored on the same examples ([`paired_change`](crate::paired_change)). The rule is argued in the [module documentation](self).
///
/// # Errors
/// If the constants are not valid, there are fewer than 5 snapshots, the lengths differ, tokens do not increase, or a
/// score is not finite.
pub fn phase_change(
    tokens: &[u64],
    scores: &[f64],
    stderr: Option<f64>,
    config: &PhaseConfig,
) -> Result<Option<Window>> {
    config.validate()?;
    check_curve(tokens, scores)?;
    if tokens.len() < MIN_SNAPSHOTS {
        return Err(Error::Curve { expected: "have at least 5 snapshots", found: tokens.len().to_string() });
    }
    let min_drop = match stderr {
        Some(stderr) if !(stderr.is_finite() && stderr >= 0.0) => {
            return Err(Error::Setting {
                name: "stderr",
                expected: "finite and not negative",
                found: stderr.to_string(),
            });
        }
        Some(stderr) => config.min_drop.max(config.min_drop_stderrs * stderr),
        None => config.min_drop,
    };

    let (grid, even) = even_grid(tokens, scores);
    let span = config.smooth.max((config.smooth_share * even.len() as f64).ceil() as usize);
    let level = moving_average(&even, span);
    let found: Vec<Descent> = descents(&level, config.slope_share)
        .into_iter()
        .filter(|d| d.drop(&level) >= min_drop && d.keeps(&level, config.keep_share, span))
        .filter(|d| d.stands_out(&level, config.max_share, config.min_contrast))
        .collect();
    let largest = found.iter().map(|d| d.drop(&level)).fold(0.0, f64::max);
    let window = found
        .iter()
        .filter(|d| d.drop(&level) >= config.sustained_share * largest)
        .max_by(|a, b| a.peak.total_cmp(&b.peak))
        .map(|d| Window {
            start_tokens: grid[d.start].round() as u64,
            end_tokens: grid[d.end].round() as u64,
            score_before: level[d.start],
            score_after: level[d.end],
        });
    Ok(window)
}

/// The first token count at which `values` have come half of the way from 0 to their last value, interpolated between
/// snapshots; `None` if the last value is 0.
///
/// For comparing when something formed (paper.md, 9: Q9). The values may be of either sign. The first snapshot's count
/// is the answer when its value is past half already.
///
/// # Errors
/// If there is no snapshot, the lengths differ, tokens do not increase, or a value is not finite.
pub fn half_time(tokens: &[u64], values: &[f64]) -> Result<Option<f64>> {
    check_curve(tokens, values)?;
    let last = values[values.len() - 1];
    if last == 0.0 {
        return Ok(None);
    }
    // Dividing by the last value turns "past half" of either sign into one comparison.
    let share = |k: usize| values[k] / last;
    let first = (0..values.len()).find(|&k| share(k) >= 0.5);
    Ok(first.map(|k| {
        if k == 0 {
            return tokens[0] as f64;
        }
        let along = (0.5 - share(k - 1)) / (share(k) - share(k - 1));
        tokens[k - 1] as f64 + along * (tokens[k] - tokens[k - 1]) as f64
    }))
}

/// A stretch of the grid over which the level falls, from point `start` to point `end`.
struct Descent {
    start: usize,
    end: usize,
    /// Its steepest fall over one cell.
    peak: f64,
}

impl Descent {
    fn drop(&self, level: &[f64]) -> f64 {
        level[self.start] - level[self.end]
    }

    /// Whether it takes at most `max_share` of the run, and falls at least `contrast` times as steeply as the rest.
    fn stands_out(&self, level: &[f64], max_share: f64, contrast: f64) -> bool {
        let (inside, cells) = ((self.end - self.start) as f64, (level.len() - 1) as f64);
        let rest = level[0] - level[level.len() - 1] - self.drop(level);
        // Slopes are compared multiplied out: the rest may have no cell.
        inside <= max_share * cells && self.drop(level) * (cells - inside) >= contrast * rest * inside
    }

    /// Whether it keeps `share` of its drop on average over the points after it: three times as many as it has, or
    /// `span` if that is more, or what is left of the run.
    fn keeps(&self, level: &[f64], share: f64, span: usize) -> bool {
        let long = span.max(3 * (self.end - self.start));
        let after = &level[self.end..level.len().min(self.end.saturating_add(long))];
        let mean = after.iter().sum::<f64>() / after.len() as f64;
        level[self.start] - mean >= share * self.drop(level)
    }
}

/// Splits the falling parts of the curve into descents, steepest first.
fn descents(level: &[f64], slope_share: f64) -> Vec<Descent> {
    let fall: Vec<f64> = level.windows(2).map(|pair| pair[0] - pair[1]).collect();
    let mut taken = vec![false; fall.len()];
    let mut found = Vec::new();
    let mut order: Vec<usize> = (0..fall.len()).filter(|&cell| fall[cell] > 0.0).collect();
    order.sort_by(|&a, &b| fall[b].total_cmp(&fall[a]));
    for at in order {
        if taken[at] {
            continue;
        }
        let belongs = |cell: usize| !taken[cell] && fall[cell] > slope_share * fall[at];
        let start = (0..at).rev().take_while(|&cell| belongs(cell)).last().unwrap_or(at);
        let last = (at + 1..fall.len()).take_while(|&cell| belongs(cell)).last().unwrap_or(at);
        taken[start..=last].fill(true);
        found.push(Descent { start, end: last + 1, peak: fall[at] });
    }
    found
}

/// As many evenly spaced points as there are snapshots, from the first to the last, with values interpolated linearly.
fn even_grid(tokens: &[u64], values: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let last = tokens.len() - 1;
    let step = (tokens[last] - tokens[0]) as f64 / last as f64;
    let mut left = 0;
    (0..=last)
        .map(|point| {
            let at = tokens[0] as f64 + point as f64 * step;
            while left + 1 < last && (tokens[left + 1] as f64) < at {
                left += 1;
            }
            let along = (at - tokens[left] as f64) / (tokens[left + 1] - tokens[left]) as f64;
            (at, values[left] + along.clamp(0.0, 1.0) * (values[left + 1] - values[left]))
        })
        .unzip()
}

/// A centred moving average over `span` points (rounded up to odd), over fewer at the ends so that it stays centred:
/// a one-sided average would bend the ends of a straight line.
fn moving_average(values: &[f64], span: usize) -> Vec<f64> {
    let n = values.len();
    (0..n)
        .map(|i| {
            let half = (span / 2).min(i).min(n - 1 - i);
            let near = &values[i - half..=i + half];
            near.iter().sum::<f64>() / near.len() as f64
        })
        .collect()
}

fn check_curve(tokens: &[u64], values: &[f64]) -> Result<()> {
    if tokens.is_empty() || tokens.len() != values.len() {
        let found = format!("{} token counts and {} values", tokens.len(), values.len());
        return Err(Error::Curve { expected: "have one value for each snapshot, and at least one", found });
    }
    if let Some(k) = (1..tokens.len()).find(|&k| tokens[k] <= tokens[k - 1]) {
        let found = format!("{} after {} at snapshot {k}", tokens[k], tokens[k - 1]);
        return Err(Error::Curve { expected: "have increasing token counts", found });
    }
    if let Some(k) = values.iter().position(|value| !value.is_finite()) {
        return Err(Error::Curve { expected: "have finite values", found: format!("{} at snapshot {k}", values[k]) });
    }
    Ok(())
}
