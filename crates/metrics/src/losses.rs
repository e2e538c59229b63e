//! Loss by context index, and the in-context learning score (paper.md, 2).
//!
//! Losses are `[example, index]` in nats. Column `k` is the loss of text token `k + 1`, so *index
//! i* of the paper is column `i - 1`: with inputs `[bos, t_1, .., t_{n_ctx-1}]` and targets `[t_1,
//! .., t_{n_ctx}]`, the model has read the start token and `i - 1` tokens of text when it predicts
//! token `i`.

use induction_random::stream;
use ndarray::{Array1, ArrayView1, ArrayView2, Axis};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::statistics::mean_stderr;
use crate::{Error, Result};

/// The evaluation length of the paper (paper.md, 1.5), for which it names indices 50 and 500.
const PAPER_CONTEXT: usize = 512;
const PAPER_EARLY: usize = 50;
const PAPER_LATE: usize = 500;
const HALF_WIDTH: usize = 5;

/// Where the in-context learning score looks: two windows of context indices, counted from 1 as in
/// the paper.
///
/// The paper reads single indices, 50 and 500. A window of `+-half_width` around each cuts the
/// noise of few examples (paper.md, 10); it raises the early mean a little, as the loss is convex
/// in the index there. `half_width: 0` is the paper's own definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IclIndices {
    /// Centre of the early window (paper: 50).
    pub early: usize,
    /// Centre of the late window (paper: 500).
    pub late: usize,
    /// Indices on either side of each centre.
    pub half_width: usize,
}

impl IclIndices {
    /// 50 and 500 for a context of at least 512; a shorter one keeps their ratio to the context
    /// (paper.md, 10): 25 and 250 for 256, 12 and 125 for 128. The half width is 5, or what fits.
    ///
    /// # Errors
    /// If the context is so short (below 11) that index `50/512` of it rounds to nothing.
    pub fn for_context(n_ctx: usize) -> Result<Self> {
        let span = n_ctx.min(PAPER_CONTEXT);
        let early = PAPER_EARLY * span / PAPER_CONTEXT;
        let late = PAPER_LATE * span / PAPER_CONTEXT;
        if early == 0 {
            return Err(Error::ShortContext {
                expected: PAPER_CONTEXT.div_ceil(PAPER_EARLY),
                found: n_ctx,
            });
        }
        let room = (early - 1).min(n_ctx - late).min((late - early - 1) / 2);
        Ok(Self { early, late, half_width: HALF_WIDTH.min(room) })
    }

    /// Checks that both windows lie in a context of `n_ctx` and do not overlap.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self, n_ctx: usize) -> Result<()> {
        let Self { early, late, half_width } = *self;
        // Rearranged so that no subtraction can go below zero; saturating, as the fields may come
        // from a config file.
        let fits = early > half_width
            && early.saturating_add(half_width.saturating_mul(2)) < late
            && late.saturating_add(half_width) <= n_ctx;
        if fits { Ok(()) } else { Err(Error::Indices { early, late, half_width, n_ctx }) }
    }
}

/// The in-context learning score in nats, `loss[late] - loss[early]` (paper.md, 2: ICL score).
///
/// Negative when the model uses its context; the *amount* of in-context learning is `-score`
/// (paper.md, 0: D7).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IclScore {
    /// Late minus early mean loss, in nats.
    pub score: f64,
    /// Standard error over examples, in nats; `None` for one example.
    ///
    /// It describes the choice of examples. Snapshots are scored on the same ones, so the
    /// difference of two snapshots is usually known better than this.
    pub stderr: Option<f64>,
}

/// The mean loss at each context index, in nats: `[example, index] -> [index]` (paper.md, 1.5:
/// context-index average).
///
/// # Errors
/// If there is no example, or a loss is not finite.
pub fn loss_by_index(losses: ArrayView2<f32>) -> Result<Array1<f64>> {
    check(losses)?;
    let mut sum = Array1::zeros(losses.ncols());
    for example in losses.rows() {
        sum.zip_mut_with(&example, |total, &loss| *total += f64::from(loss));
    }
    Ok(sum / losses.nrows() as f64)
}

/// The in-context learning score of losses `[example, index]` in nats (paper.md, 2: ICL score).
///
/// Each example gives the mean loss of its late window minus that of its early window; score and
/// standard error are the mean and its error over examples. Taking the difference inside an example
/// first makes the error that of a paired comparison: how hard a text is as a whole cancels.
///
/// # Errors
/// If there is no example, the windows do not fit, or a loss is not finite.
pub fn icl_score(losses: ArrayView2<f32>, indices: &IclIndices) -> Result<IclScore> {
    let (score, stderr) = mean_stderr(&icl_by_example(losses, indices)?);
    Ok(IclScore { score, stderr })
}

/// The in-context learning score of each example, in nats; [`icl_score`] is their mean.
///
/// # Errors
/// If there is no example, the windows do not fit, or a loss is not finite.
pub fn icl_by_example(losses: ArrayView2<f32>, indices: &IclIndices) -> Result<Vec<f64>> {
    check(losses)?;
    indices.validate(losses.ncols())?;
    let IclIndices { early, late, half_width } = *indices;
    let window = |example: ArrayView1<f32>, centre: usize| {
        let columns = centre - 1 - half_width..centre + half_width;
        columns.clone().map(|k| f64::from(example[k])).sum::<f64>() / columns.len() as f64
    };
    Ok(losses.outer_iter().map(|e| window(e, late) - window(e, early)).collect())
}

/// How much a score changed between two snapshots that were scored on the same examples, and the
/// standard error of that change; `None` for one example.
///
/// What the two have in common, how hard the early and late tokens of these very examples are,
/// cancels. So a change is known much better than either score.
///
/// # Errors
/// If there is no example, or the snapshots have different numbers of them.
pub fn paired_change(before: &[f64], after: &[f64]) -> Result<(f64, Option<f64>)> {
    if before.is_empty() {
        return Err(Error::NoExamples { what: "scores by example" });
    }
    if before.len() != after.len() {
        let (expected, found) =
            (format!("{} examples, as before", before.len()), format!("{} after", after.len()));
        return Err(Error::Shape { what: "scores by example", expected, found });
    }
    let changes: Vec<f64> =
        before.iter().zip(after).map(|(before, after)| after - before).collect();
    Ok(mean_stderr(&changes))
}

/// The loss of one fixed random token of each example, in nats (paper.md, 1.5: random token per
/// example).
///
/// Which token is a function of `seed` and the example's place, so all snapshots and models give
/// the losses of the same tokens. The mean of these is the paper's Loss(n); as a vector it is a row
/// of the joint [`pca`](crate::pca()).
///
/// # Errors
/// If there is no example or no index, or a loss is not finite.
pub fn random_token_losses(losses: ArrayView2<f32>, seed: u64) -> Result<Vec<f32>> {
    check(losses)?;
    let n_ctx = losses.ncols();
    if n_ctx == 0 {
        return Err(Error::ShortContext { expected: 1, found: 0 });
    }
    let one = |(example, row): (usize, ArrayView1<f32>)| {
        row[stream(seed, "random token", example as u64).random_range(0..n_ctx)]
    };
    Ok(losses.outer_iter().enumerate().map(one).collect())
}

/// Along the before-and-after vector: `u . change` with `u = (after - before) / ||after -
/// before||`, each a loss by example (paper.md, 2: before-and-after attribution; its sign is that
/// of 0: D11). Below 0 the change undoes what happened between the two. `counts` says how often
/// each example is taken; `None`, if nothing happened between the two.
///
/// # Errors
/// If the lists differ in length.
pub fn before_after_attribution(
    before: &[f64],
    after: &[f64],
    change: &[f64],
    counts: Option<&[u32]>,
) -> Result<Option<f64>> {
    for found in [after.len(), change.len(), counts.map_or(before.len(), <[u32]>::len)] {
        if found != before.len() {
            return Err(Error::Shape {
                what: "losses by example",
                expected: before.len().to_string(),
                found: found.to_string(),
            });
        }
    }
    let (mut square, mut dot) = (0.0, 0.0);
    for (e, ((before, after), change)) in before.iter().zip(after).zip(change).enumerate() {
        let times = counts.map_or(1.0, |counts| f64::from(counts[e]));
        square += times * (after - before).powi(2);
        dot += times * (after - before) * change;
    }
    Ok((square > 0.0).then(|| dot / f64::sqrt(square)))
}

/// d loss / d ln index of a loss by index, in nats an e-fold: places and slopes (paper.md, 2:
/// derivative map).
///
/// The paper gives no discretisation. Ours: indices are put into bins of an eighth of an octave, at
/// least one index each; a slope is the difference of neighbouring bins' mean losses over that of
/// their mean `ln index`, and stands at the geometric mean of the two.
///
/// # Errors
/// If there are fewer than two indices, or a loss is not finite.
pub fn loss_derivative(by_index: &[f64]) -> Result<Vec<(f64, f64)>> {
    const BINS_AN_OCTAVE: f64 = 8.0;
    check_by_index(by_index)?;
    let mut bins: Vec<(f64, f64)> = Vec::new();
    let mut first = 1;
    while first <= by_index.len() {
        let mut next =
            ((first as f64 * (1.0 / BINS_AN_OCTAVE).exp2()).round() as usize).max(first + 1);
        // What is left over after the last whole bin joins it: a few indices by themselves would be
        // noise.
        if next + (next - first) > by_index.len() + 1 {
            next = by_index.len() + 1;
        }
        let indices = first..next;
        let n = indices.len() as f64;
        bins.push((
            indices.clone().map(|i| (i as f64).ln()).sum::<f64>() / n,
            indices.map(|i| by_index[i - 1]).sum::<f64>() / n,
        ));
        first = next;
    }
    let slope = |pair: &[(f64, f64)]| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        (f64::midpoint(x0, x1).exp(), (y1 - y0) / (x1 - x0))
    };
    Ok(bins.windows(2).map(slope).collect())
}

/// Loss at the last index minus the loss at each, in nats: the ICL score for every choice of the
/// early index (paper.md, 8: C1).
///
/// # Errors
/// If there are fewer than two indices, or a loss is not finite.
pub fn icl_sensitivity(by_index: &[f64]) -> Result<Vec<f64>> {
    check_by_index(by_index)?;
    let last = by_index[by_index.len() - 1];
    Ok(by_index.iter().map(|loss| last - loss).collect())
}

/// The least-squares slope of each example's loss on ln index, over the indices `from..` (from 1),
/// in nats an e-fold (paper.md, 9: Q22).
///
/// Linear in the losses, so the mean over examples is the slope of the mean loss.
///
/// # Errors
/// If there is no example, `from` leaves fewer than two indices, or a loss is not finite.
pub fn late_slope(losses: ArrayView2<f32>, from: usize) -> Result<Vec<f64>> {
    check(losses)?;
    let n_ctx = losses.ncols();
    if from == 0 || from >= n_ctx {
        let found = format!("{from} of {n_ctx}");
        return Err(Error::Setting {
            name: "from",
            expected: "an index from 1 to below the last",
            found,
        });
    }
    let x: Vec<f64> = (from..=n_ctx).map(|i| (i as f64).ln()).collect();
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let spread: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
    let slope = |row: ArrayView1<f32>| {
        let late = row.iter().skip(from - 1);
        x.iter().zip(late).map(|(x, &loss)| (x - mean) * f64::from(loss)).sum::<f64>() / spread
    };
    Ok(losses.outer_iter().map(slope).collect())
}

fn check_by_index(by_index: &[f64]) -> Result<()> {
    if by_index.len() < 2 {
        return Err(Error::ShortContext { expected: 2, found: by_index.len() });
    }
    match by_index.iter().position(|loss| !loss.is_finite()) {
        Some(k) => Err(Error::Loss { example: 0, index: k + 1, value: by_index[k] as f32 }),
        None => Ok(()),
    }
}

pub(crate) fn check(losses: ArrayView2<f32>) -> Result<()> {
    if losses.len_of(Axis(0)) == 0 {
        return Err(Error::NoExamples { what: "losses [example, index]" });
    }
    match losses.indexed_iter().find(|(_, loss)| !loss.is_finite()) {
        Some(((example, column), &value)) => Err(Error::Loss { example, index: column + 1, value }),
        None => Ok(()),
    }
}
