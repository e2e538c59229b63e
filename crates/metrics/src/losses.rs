//! Loss by context index, and the in-context learning score (paper.md, 2).
//!
//! Losses are `[example, index]` in nats. Column `k` is the loss of text token `k + 1`, so *index i* of the paper is
//! column `i - 1`: with inputs `[bos, t_1, .., t_{n_ctx-1}]` and targets `[t_1, .., t_{n_ctx}]`, the model has read the
//! start token and `i - 1` tokens of text when it predicts token `i`.

use ndarray::{Array1, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::stats::mean_stderr;
use crate::{Error, Result};

/// The evaluation length of the paper (paper.md, 1.5), for which it names indices 50 and 500.
const PAPER_CONTEXT: usize = 512;
const PAPER_EARLY: usize = 50;
const PAPER_LATE: usize = 500;
const HALF_WIDTH: usize = 5;

/// Where the in-context learning score looks: two windows of context indices, counted from 1 as in the paper.
///
/// The paper reads single indices, 50 and 500. A window of `+-half_width` around each cuts the noise of few examples
/// (paper.md, 10); it raises the early mean a little, as the loss is convex in the index there. `half_width: 0` is the
/// paper's own definition.
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
    /// 50 and 500 for a context of at least 512; a shorter one keeps their ratio to the context (paper.md, 10): 25 and
    /// 250 for 256, 12 and 125 for 128. The half width is 5, or what fits.
    ///
    /// # Errors
    /// If the context is so short (below 11) that index `50/512` of it rounds to nothing.
    pub fn for_context(n_ctx: usize) -> Result<Self> {
        let span = n_ctx.min(PAPER_CONTEXT);
        let early = PAPER_EARLY * span / PAPER_CONTEXT;
        let late = PAPER_LATE * span / PAPER_CONTEXT;
        if early == 0 {
            return Err(Error::ShortContext { expected: PAPER_CONTEXT.div_ceil(PAPER_EARLY), found: n_ctx });
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
        // Rearranged so that no subtraction can go below zero; saturating, as the fields may come from a config file.
        let fits = early > half_width
            && early.saturating_add(half_width.saturating_mul(2)) < late
            && late.saturating_add(half_width) <= n_ctx;
        if fits { Ok(()) } else { Err(Error::Indices { early, late, half_width, n_ctx }) }
    }
}

/// The in-context learning score in nats, `loss[late] - loss[early]` (paper.md, 2: ICL score).
///
/// Negative when the model uses its context; the *amount* of in-context learning is `-score` (paper.md, 0: D7).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IclScore {
    /// Late minus early mean loss, in nats.
    pub score: f64,
    /// Standard error over examples, in nats; `None` for one example.
    ///
    /// It describes the choice of examples. Snapshots are scored on the same ones, so the difference of two snapshots
    /// is usually known better than this.
    pub stderr: Option<f64>,
}

/// The mean loss at each context index, in nats: `[example, index] -> [index]` (paper.md, 1.5: context-index average).
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
/// Each example gives the mean loss of its late window minus that of its early window; score and standard error are the
/// mean and its error over examples. Taking the difference inside an example first makes the error that of a paired
/// comparison: how hard a text is as a whole cancels.
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

/// How much a score changed between two snapshots that were scored on the same examples, and the standard error of that
/// change; `None` for one example.
///
/// What the two have in common, how hard the early and late tokens of these very examples are, cancels. So a change is
/// known much better than either score.
///
/// # Errors
/// If there is no example, or the snapshots have different numbers of them.
pub fn paired_change(before: &[f64], after: &[f64]) -> Result<(f64, Option<f64>)> {
    if before.is_empty() {
        return Err(Error::NoExamples { what: "scores by example" });
    }
    if before.len() != after.len() {
        let (expected, found) = (format!("{} examples, as before", before.len()), format!("{} after", after.len()));
        return Err(Error::Shape { what: "scores by example", expected, found });
    }
    let changes: Vec<f64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    Ok(mean_stderr(&changes))
}

fn check(losses: ArrayView2<f32>) -> Result<()> {
    if losses.len_of(Axis(0)) == 0 {
        return Err(Error::NoExamples { what: "losses [example, index]" });
    }
    match losses.indexed_iter().find(|(_, loss)| !loss.is_finite()) {
        Some(((example, column), &value)) => Err(Error::Loss { example, index: column + 1, value }),
        None => Ok(()),
    }
}
