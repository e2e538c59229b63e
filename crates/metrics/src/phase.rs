//! Curves over training: the loss's departures from convexity, when one curve leaves another, half
//! times, and the onset by a published law. Where a curve makes a step is [`step`](crate::step)'s
//! question.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Grid points in the moving average of [`smoothed`], at least (paper.md, 2.1: 3 to 5), and the
/// same as a share of the run: with many snapshots, a fixed number spans too little time to average
/// out the noise of slopes.
const SMOOTH: usize = 3;
const SMOOTH_SHARE: f64 = 0.04;

/// A curve on an even grid of tokens and smoothed: token counts and values. Snapshots are dense
/// early (steps 1, 2, 4, ..), where a moving average over them would be one over no time at all.
///
/// # Errors
/// If there is no snapshot, the lengths differ, tokens do not increase, or a value is not finite.
pub fn smoothed(tokens: &[u64], values: &[f64]) -> Result<(Vec<u64>, Vec<f64>)> {
    check_curve(tokens, values)?;
    if tokens.len() < 2 {
        return Ok((tokens.to_vec(), values.to_vec()));
    }
    let (grid, even) = even_grid(tokens, values);
    Ok((
        grid.iter().map(|at| at.round() as u64).collect(),
        moving_average(&even, SMOOTH.max((SMOOTH_SHARE * even.len() as f64).ceil() as usize)),
    ))
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

/// The bumps of a loss curve: where it lies above its lower convex envelope, the deepest first
/// (paper.md, 9: Q7, "the only place where the loss is non-convex").
///
/// A convex curve has none. Noise makes small ones everywhere, so a depth means something only
/// beside that of the others, or beside its interval over examples.
///
/// # Errors
/// If there is no snapshot, the lengths differ, tokens do not increase, or a loss is not finite.
pub fn loss_bumps(tokens: &[u64], losses: &[f64]) -> Result<Vec<Bump>> {
    check_curve(tokens, losses)?;
    let x = |k: usize| tokens[k] as f64;
    // What rounding alone can lift a point above a chord that it lies on.
    let rounding =
        16.0 * f64::EPSILON * losses.iter().fold(0.0, |most: f64, loss| most.max(loss.abs()));
    // Andrew's monotone chain: the corner between two edges goes if it does not turn upwards.
    let mut hull: Vec<usize> = Vec::new();
    for k in 0..tokens.len() {
        while let [.., a, b] = hull[..] {
            let turn =
                (x(b) - x(a)) * (losses[k] - losses[a]) - (losses[b] - losses[a]) * (x(k) - x(a));
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
        let peak = (a + 1..b)
            .max_by(|&i, &j| (losses[i] - chord(i)).total_cmp(&(losses[j] - chord(j))))?;
        let depth = losses[peak] - chord(peak);
        let (start_tokens, end_tokens, peak_tokens) = (tokens[a], tokens[b], tokens[peak]);
        (depth > rounding).then_some(Bump { start_tokens, end_tokens, peak_tokens, depth })
    };
    let mut bumps: Vec<Bump> = hull.windows(2).filter_map(bump).collect();
    bumps.sort_by(|a, b| b.depth.total_cmp(&a.depth));
    Ok(bumps)
}

/// Training tokens from which on the loss of `b` lies below that of `a` by at least half of the gap
/// at the end (paper.md, 9: Q7, "leaves the 1L curve there"); `None` if `b` does not end below `a`.
///
/// The curves may have snapshots of their own; they are compared where both are known, straight
/// between snapshots.
///
/// # Errors
/// If a curve has no snapshot, lengths differ, tokens do not increase, or a loss is not finite.
pub fn divergence(
    tokens_a: &[u64],
    losses_a: &[f64],
    tokens_b: &[u64],
    losses_b: &[f64],
) -> Result<Option<f64>> {
    check_curve(tokens_a, losses_a)?;
    check_curve(tokens_b, losses_b)?;
    let first = tokens_a[0].max(tokens_b[0]);
    let last = tokens_a[tokens_a.len() - 1].min(tokens_b[tokens_b.len() - 1]);
    let mut times: Vec<u64> =
        tokens_a.iter().chain(tokens_b).copied().filter(|t| (first..=last).contains(t)).collect();
    times.sort_unstable();
    times.dedup();
    let gap: Vec<f64> = times
        .iter()
        .map(|&t| value_at(tokens_a, losses_a, t) - value_at(tokens_b, losses_b, t))
        .collect();
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

/// Training tokens at which in-context learning should begin, `10^5.7 sqrt(batch * n_ctx)`, for a
/// batch of sequences of `n_ctx` tokens: a fit to other models than ours (Aoyama et al., arXiv
/// 2511.16893), to be held beside what is observed.
pub fn predicted_onset(batch: u64, n_ctx: u64) -> f64 {
    10f64.powf(5.7) * (batch as f64 * n_ctx as f64).sqrt()
}

/// The first token count at which `values` have come half of the way from 0 to their last value,
/// interpolated between snapshots; `None` if the last value is 0.
///
/// For comparing when something formed (paper.md, 9: Q9). The values may be of either sign. The
/// first snapshot's count is the answer when its value is past half already.
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

/// Where values first come to a goal from below, interpolated between snapshots; `None` if they do
/// not. The first snapshot is the answer if it is there already.
///
/// Where [`half_time`] measures a curve by its own end, this holds several to one mark.
pub fn time_to(at: &[f64], values: &[f64], goal: f64) -> Option<f64> {
    let k = values.iter().position(|&value| value >= goal)?;
    let Some(before) = k.checked_sub(1) else { return at.first().copied() };
    let along = (goal - values[before]) / (values[k] - values[before]);
    Some(at.get(before)? + along * (at.get(k)? - at[before]))
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

/// As many evenly spaced points as there are snapshots, from the first to the last, with values
/// interpolated linearly.
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

/// A centred moving average over `span` points (rounded up to odd), over fewer at the ends so that
/// it stays centred: a one-sided average would bend the ends of a straight line.
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
        return Err(Error::Curve {
            expected: "have one value for each snapshot, and at least one",
            found,
        });
    }
    check_increasing(tokens)?;
    if let Some(k) = values.iter().position(|value| !value.is_finite()) {
        return Err(Error::Curve {
            expected: "have finite values",
            found: format!("{} at snapshot {k}", values[k]),
        });
    }
    Ok(())
}

pub(crate) fn check_increasing(tokens: &[u64]) -> Result<()> {
    let Some(k) = (1..tokens.len()).find(|&k| tokens[k] <= tokens[k - 1]) else { return Ok(()) };
    let found = format!("{} after {} at snapshot {k}", tokens[k], tokens[k - 1]);
    Err(Error::Curve { expected: "have increasing token counts", found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_between_snapshots() {
        let (at, values) = ([0.0, 10.0, 20.0, 40.0], [0.0, 1.0, 0.5, 3.0]);
        let found = |goal| time_to(&at, &values, goal);
        assert_eq!(
            [found(0.0), found(0.5), found(1.0), found(1.75)],
            [Some(0.0), Some(5.0), Some(10.0), Some(30.0)]
        );
        assert_eq!((found(3.1), time_to(&[], &[], 0.0)), (None, None));
    }
}
