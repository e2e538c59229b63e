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

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::{Error, Interval, Result, paired_change, percentile_interval, resample, weighted_mean};

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
    /// Points in the moving average of a grid of `points`.
    fn span(&self, points: usize) -> usize {
        self.smooth.max((self.smooth_share * points as f64).ceil() as usize)
    }

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
/// scored on the same examples ([`paired_change`]). The rule is argued in the [module documentation](self).
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
    let span = config.span(even.len());
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

/// Why a curve has no phase-change window.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum NoWindow {
    /// No descent meets the rule.
    #[error("its ICL score has no descent that is large, steep and lasting enough")]
    NoDescent,
    /// The descent may be noise.
    #[error(
        "its steepest lasting descent, of {drop:.3} nats, is less than {limit} standard errors of such a change ({stderr:.3} nats)"
    )]
    InsideNoise {
        /// How far the score falls, in nats.
        drop: f64,
        /// Standard error of the change between the snapshots nearest to its ends, on the same examples.
        stderr: f64,
        /// [`PhaseConfig::min_drop_stderrs`].
        limit: f64,
    },
}

/// The phase-change window of ICL scores whose examples are known: [`phase_change`], and a drop that stands out from the
/// noise of a change between two snapshots on the same examples ([`paired_change`]).
///
/// `by_example[k]` are the scores behind `scores[k]`.
///
/// # Errors
/// As [`phase_change`], and if snapshots differ in their number of examples.
pub fn icl_window(
    tokens: &[u64],
    scores: &[f64],
    by_example: &[&[f64]],
    config: &PhaseConfig,
) -> Result<std::result::Result<Window, NoWindow>> {
    let Some(window) = phase_change(tokens, scores, None, config)? else { return Ok(Err(NoWindow::NoDescent)) };
    if by_example.len() != tokens.len() {
        let (expected, found) = (format!("{} snapshots, as tokens", tokens.len()), by_example.len().to_string());
        return Err(Error::Shape { what: "scores by example [snapshot][example]", expected, found });
    }
    let near = |at: u64| {
        let k = (0..tokens.len()).min_by_key(|&k| tokens[k].abs_diff(at));
        by_example[k.expect("phase_change has refused a curve without snapshots")]
    };
    let drop = window.score_before - window.score_after;
    let limit = config.min_drop_stderrs;
    match paired_change(near(window.start_tokens), near(window.end_tokens))?.1 {
        Some(stderr) if drop < limit * stderr => Ok(Err(NoWindow::InsideNoise { drop, stderr, limit })),
        _ => Ok(Ok(window)),
    }
}

/// What the choice of examples leaves open about a window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowInterval {
    /// Share of the bootstrap draws that have a window; the intervals are over those.
    pub found: f64,
    /// 95 % interval of its start, in training tokens.
    pub start_tokens: Option<Interval>,
    /// Of its end.
    pub end_tokens: Option<Interval>,
    /// Of the score at its start, in nats.
    pub score_before: Option<Interval>,
    /// Of the score at its end.
    pub score_after: Option<Interval>,
}

/// The bootstrap interval of [`phase_change`]'s window over examples: the same `draws` resamples of them at every
/// snapshot. `by_example` is `[snapshot, example]`.
///
/// # Errors
/// As [`phase_change`], and if there are no examples.
pub fn window_interval(
    tokens: &[u64],
    by_example: ArrayView2<f64>,
    config: &PhaseConfig,
    seed: u64,
    draws: usize,
) -> Result<WindowInterval> {
    if by_example.ncols() == 0 {
        return Err(Error::NoExamples { what: "scores by example [snapshot, example]" });
    }
    let by_example = by_example.as_standard_layout();
    let mut windows = Vec::new();
    for draw in 0..draws as u64 {
        let counts = resample(seed, draw, by_example.ncols());
        let mean = |row: ndarray::ArrayView1<f64>| weighted_mean(row.to_slice().expect("standard layout"), &counts);
        let scores: Vec<f64> = by_example.outer_iter().map(mean).collect();
        windows.extend(phase_change(tokens, &scores, None, config)?);
    }
    let interval =
        |value: fn(&Window) -> f64| percentile_interval(&windows.iter().map(value).collect::<Vec<_>>(), 0.95);
    Ok(WindowInterval {
        found: windows.len() as f64 / draws.max(1) as f64,
        start_tokens: interval(|w| w.start_tokens as f64)?,
        end_tokens: interval(|w| w.end_tokens as f64)?,
        score_before: interval(|w| w.score_before)?,
        score_after: interval(|w| w.score_after)?,
    })
}

/// A curve on an even grid of tokens and smoothed, as [`phase_change`] looks at it: token counts and values.
///
/// # Errors
/// As [`phase_change`], but for the number of snapshots.
pub fn smoothed(tokens: &[u64], values: &[f64], config: &PhaseConfig) -> Result<(Vec<u64>, Vec<f64>)> {
    config.validate()?;
    check_curve(tokens, values)?;
    if tokens.len() < 2 {
        return Ok((tokens.to_vec(), values.to_vec()));
    }
    let (grid, even) = even_grid(tokens, values);
    Ok((grid.iter().map(|at| at.round() as u64).collect(), moving_average(&even, config.span(even.len()))))
}

/// A stretch of a loss curve that lies above the chord between its ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bump {
    /// Training tokens where the chord begins.
    pub start_tokens: u64,
    /// Training tokens where it ends.
    pub end_tokens: u64,
    /// Where the curve lies farthest above it.
    pub peak_tokens: u64,
    /// By how much, in nats.
    pub depth: f64,
}

/// The bumps of a loss curve: where it lies above its lower convex envelope, the deepest first (paper.md, 9: Q7, "the only
/// place where the loss is non-convex").
///
/// A convex curve has none. Noise makes small ones everywhere, so a depth means something only beside that of the others,
/// or beside its interval over examples.
///
/// # Errors
/// If there is no snapshot, the lengths differ, tokens do not increase, or a loss is not finite.
pub fn loss_bumps(tokens: &[u64], losses: &[f64]) -> Result<Vec<Bump>> {
    check_curve(tokens, losses)?;
    let x = |k: usize| tokens[k] as f64;
    // What rounding alone can lift a point above a chord that it lies on.
    let rounding = 16.0 * f64::EPSILON * losses.iter().fold(0.0, |most: f64, loss| most.max(loss.abs()));
    // Andrew's monotone chain: the corner between two edges goes if it does not turn upwards.
    let mut hull: Vec<usize> = Vec::new();
    for k in 0..tokens.len() {
        while let [.., a, b] = hull[..] {
            let turn = (x(b) - x(a)) * (losses[k] - losses[a]) - (losses[b] - losses[a]) * (x(k) - x(a));
            if turn > 0.0 {
                break;
            }
            hull.pop();
        }
        hull.push(k);
    }
    let bump = |edge: &[usize]| {
        let (a, b) = (edge[0], edge[1]);
        let chord = |k: usize| losses[a] + (x(k) - x(a)) / (x(b) - x(a)) * (losses[b] - losses[a]);
        let peak = (a + 1..b).max_by(|&i, &j| (losses[i] - chord(i)).total_cmp(&(losses[j] - chord(j))))?;
        let depth = losses[peak] - chord(peak);
        let (start_tokens, end_tokens, peak_tokens) = (tokens[a], tokens[b], tokens[peak]);
        (depth > rounding).then_some(Bump { start_tokens, end_tokens, peak_tokens, depth })
    };
    let mut bumps: Vec<Bump> = hull.windows(2).filter_map(bump).collect();
    bumps.sort_by(|a, b| b.depth.total_cmp(&a.depth));
    Ok(bumps)
}

/// Training tokens from which on the loss of `b` lies below that of `a` by at least half of the gap at the end (paper.md,
/// 9: Q7, "leaves the 1L curve there"); `None` if `b` does not end below `a`.
///
/// The curves may have snapshots of their own; they are compared where both are known, straight between snapshots.
///
/// # Errors
/// If a curve has no snapshot, lengths differ, tokens do not increase, or a loss is not finite.
pub fn divergence(tokens_a: &[u64], losses_a: &[f64], tokens_b: &[u64], losses_b: &[f64]) -> Result<Option<f64>> {
    check_curve(tokens_a, losses_a)?;
    check_curve(tokens_b, losses_b)?;
    let first = tokens_a[0].max(tokens_b[0]);
    let last = tokens_a[tokens_a.len() - 1].min(tokens_b[tokens_b.len() - 1]);
    let mut times: Vec<u64> = tokens_a.iter().chain(tokens_b).copied().filter(|t| (first..=last).contains(t)).collect();
    times.sort_unstable();
    times.dedup();
    let gap: Vec<f64> =
        times.iter().map(|&t| value_at(tokens_a, losses_a, t) - value_at(tokens_b, losses_b, t)).collect();
    let Some(&end) = gap.last() else { return Ok(None) };
    if end <= 0.0 {
        return Ok(None);
    }
    // The last time below half of the gap; it cannot be the end.
    Ok(Some(match gap.iter().rposition(|&gap| gap < end / 2.0) {
        None => times[0] as f64,
        Some(k) => {
            let along = (end / 2.0 - gap[k]) / (gap[k + 1] - gap[k]);
            times[k] as f64 + along * (times[k + 1] - times[k]) as f64
        }
    }))
}

/// Training tokens at which in-context learning should begin, `10^5.7 sqrt(batch * n_ctx)`, for a batch of sequences of
/// `n_ctx` tokens: a fit to other models than ours (Aoyama et al., arXiv 2511.16893), to be held beside what is observed.
pub fn predicted_onset(batch: u64, n_ctx: u64) -> f64 {
    10f64.powf(5.7) * (batch as f64 * n_ctx as f64).sqrt()
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

/// The value of a curve between its snapshots; `at` lies within them.
fn value_at(tokens: &[u64], values: &[f64], at: u64) -> f64 {
    match tokens.binary_search(&at) {
        Ok(k) => values[k],
        Err(k) => {
            let along = (at - tokens[k - 1]) as f64 / (tokens[k] - tokens[k - 1]) as f64;
            values[k - 1] + along * (values[k] - values[k - 1])
        }
    }
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

pub(crate) fn check_curve(tokens: &[u64], values: &[f64]) -> Result<()> {
    if tokens.is_empty() || tokens.len() != values.len() {
        let found = format!("{} token counts and {} values", tokens.len(), values.len());
        return Err(Error::Curve { expected: "have one value for each snapshot, and at least one", found });
    }
    check_increasing(tokens)?;
    if let Some(k) = values.iter().position(|value| !value.is_finite()) {
        return Err(Error::Curve { expected: "have finite values", found: format!("{} at snapshot {k}", values[k]) });
    }
    Ok(())
}

pub(crate) fn check_increasing(tokens: &[u64]) -> Result<()> {
    let Some(k) = (1..tokens.len()).find(|&k| tokens[k] <= tokens[k - 1]) else { return Ok(()) };
    let found = format!("{} after {} at snapshot {k}", tokens[k], tokens[k - 1]);
    Err(Error::Curve { expected: "have increasing token counts", found })
}
