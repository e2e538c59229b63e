//! Previous-token and prefix-matching scores, from attention patterns (paper.md, 3).
//!
//! Each score is given by example, `[example, head]`: patterns are large and come in batches,
//! scores are small and are put together. [`HeadScores::over_examples`] averages them.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView4, Axis};
use serde::{Deserialize, Serialize};

use crate::statistics::mean_stderr;
use crate::{Error, PrefixMatchingSample, Result};

/// How far the sum of an attention row may lie from 1: wide enough for half-precision patterns.
const ROW_TOLERANCE: f64 = 1e-2;

/// One score for each head of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadScores {
    /// Mean over examples, `[head]`.
    pub mean: Vec<f64>,
    /// Standard error over examples, `[head]`; `None` for one example.
    pub stderr: Option<Vec<f64>>,
}

impl HeadScores {
    /// Averages scores `[example, head]` over examples.
    ///
    /// # Errors
    /// If there is no example.
    pub fn over_examples(scores: ArrayView2<f64>) -> Result<Self> {
        if scores.nrows() == 0 {
            return Err(Error::NoExamples { what: "head scores [example, head]" });
        }
        let (mean, stderr): (Vec<f64>, Vec<Option<f64>>) =
            scores.columns().into_iter().map(|head| mean_stderr(&head.to_vec())).unzip();
        // With one example every entry is `None`, and so is the whole; a layer without heads has no
        // errors to miss.
        Ok(Self { mean, stderr: stderr.into_iter().collect() })
    }
}

/// Attention to the position just before, in `[0, 1]`, `[example, head]` (paper.md, 3: previous
/// token).
///
/// `pattern` is `[example, head, query, key]`. The mean over queries `i >= 1` of `A[i, i-1]`.
///
/// # Errors
/// If there is no example, fewer than two positions, or a row is not a causal distribution.
pub fn previous_token(pattern: ArrayView4<f32>) -> Result<Array2<f64>> {
    at_least_two(pattern)?;
    mean_mass(pattern, 1..pattern.dim().2, |_, query| vec![query - 1])
}

fn at_least_two(pattern: ArrayView4<f32>) -> Result<()> {
    match pattern.dim().2 {
        n @ ..2 => Err(Error::Shape {
            what: "pattern [example, head, query, key]",
            expected: "at least 2 queries".into(),
            found: format!("{n}"),
        }),
        _ => Ok(()),
    }
}

/// Attention to the first position, in `[0, 1]`, `[example, head]`: where heads rest that have
/// nothing to do (attention sinks; Xiao et al. 2023, arXiv 2309.17453).
///
/// `pattern` is `[example, head, query, key]`. The mean over queries `i >= 1` of `A[i, 0]`; a head
/// that attends to all positions alike has the mean of `1 / (i + 1)`.
///
/// # Errors
/// As [`previous_token`].
pub fn start_token(pattern: ArrayView4<f32>) -> Result<Array2<f64>> {
    at_least_two(pattern)?;
    mean_mass(pattern, 1..pattern.dim().2, |_, _| vec![0])
}

/// Attention to earlier copies of the token itself, in `[0, 1]`, `[example, head]` (duplicate-token
/// heads; Wang et al. 2022, arXiv 2211.00593).
///
/// `pattern` is `[example, head, query, key]`, `tokens` is `[example, position]` as
/// [`PrefixMatchingSample`] makes them. The mean over queries `i` from the second repeat on of the
/// sum of `A[i, j]` over every key `1 <= j < i` with `tokens[j] == tokens[i]`. Of distinct tokens, a
/// head that attends to all positions alike has the mean of `floor((i - 1) / block) / (i + 1)`.
///
/// # Errors
/// As [`prefix_matching`].
pub fn duplicate_token(
    pattern: ArrayView4<f32>,
    tokens: ArrayView2<u32>,
    sample: PrefixMatchingSample,
) -> Result<Array2<f64>> {
    check_sample(&pattern, &tokens, sample)?;
    mean_mass(pattern, 1 + sample.block..sample.len(), |example, query| {
        let row = tokens.row(example);
        (1..query).filter(|&key| row[key] == row[query]).collect()
    })
}

/// Attention to the tokens that induction suggests come next, in `[0, 1]`, `[example, head]`
/// (paper.md, 3: prefix matching; D1, D2).
///
/// `pattern` is `[example, head, query, key]`, `tokens` is `[example, position]` as
/// [`PrefixMatchingSample`] makes them. The mean over queries `i` from the second repeat on of the
/// *sum* of `A[i, j]` over every key `j <= i` whose predecessor is an earlier occurrence of the
/// query's token: `tokens[j-1] == tokens[i]`, `1 <= j-1 < i`.
///
/// The match is on identity, so tokens that repeat inside a block are counted right; when they are
/// distinct, the keys are `j = i - k * block + 1`, `k >= 1`. Two readings the paper leaves open:
///
/// * D1: the key *follows* the earlier occurrence. The paper's evaluator text says "preceded",
///   which its changelog admits to be wrong elsewhere; [`prefix_matching_literal`] measures that
///   reading.
/// * D2: mass is summed over keys, then averaged over queries. A mean over entries could not exceed
///   0.5, as 75 rows of mass at most 1 share 150 entries, while the paper prints 0.94.
///
/// The start token is no occurrence of anything: key 1, which follows it, is never a target.
///
/// # Errors
/// If the sample is not valid, the shapes do not fit it, there is no example, or a row is not a
/// causal distribution.
pub fn prefix_matching(
    pattern: ArrayView4<f32>,
    tokens: ArrayView2<u32>,
    sample: PrefixMatchingSample,
) -> Result<Array2<f64>> {
    check_sample(&pattern, &tokens, sample)?;
    mean_mass(pattern, 1 + sample.block..sample.len(), |example, query| {
        let row = tokens.row(example);
        (2..=query).filter(|&key| row[key - 1] == row[query]).collect()
    })
}

/// Attention to the tokens that *preceded* earlier occurrences: the paper's evaluator text to the
/// letter (paper.md, 0: D1).
///
/// A diagnostic, high for a head that attends one position before where an induction head does. As
/// [`prefix_matching`], with keys `j >= 1` such that `tokens[j+1] == tokens[i]`, `j + 1 < i`. The
/// start token does not count although it precedes the first block: heads with nothing to do rest
/// there.
///
/// # Errors
/// As [`prefix_matching`].
pub fn prefix_matching_literal(
    pattern: ArrayView4<f32>,
    tokens: ArrayView2<u32>,
    sample: PrefixMatchingSample,
) -> Result<Array2<f64>> {
    check_sample(&pattern, &tokens, sample)?;
    mean_mass(pattern, 1 + sample.block..sample.len(), |example, query| {
        let row = tokens.row(example);
        (1..query - 1).filter(|&key| row[key + 1] == row[query]).collect()
    })
}

fn check_sample(
    pattern: &ArrayView4<f32>,
    tokens: &ArrayView2<u32>,
    sample: PrefixMatchingSample,
) -> Result<()> {
    sample.validate()?;
    let (examples, _, queries, _) = pattern.dim();
    if queries != sample.len() {
        let what = "queries of pattern [example, head, query, key]";
        return Err(Error::Shape {
            what,
            expected: format!("1 + block * repeats = {}", sample.len()),
            found: queries.to_string(),
        });
    }
    if tokens.dim() != (examples, queries) {
        let (expected, found) =
            (format!("[{examples}, {queries}]"), format!("{:?}", tokens.shape()));
        return Err(Error::Shape { what: "tokens [example, position]", expected, found });
    }
    Ok(())
}

/// The mean over `queries` of the attention on `targets(example, query)`, `[example, head]`.
fn mean_mass(
    pattern: ArrayView4<f32>,
    queries: Range<usize>,
    targets: impl Fn(usize, usize) -> Vec<usize>,
) -> Result<Array2<f64>> {
    check_pattern(pattern)?;
    let (examples, heads, ..) = pattern.dim();
    let mut scores = Array2::<f64>::zeros((examples, heads));
    for (example, pattern) in pattern.outer_iter().enumerate() {
        for query in queries.clone() {
            let keys = targets(example, query);
            for (head, pattern) in pattern.outer_iter().enumerate() {
                scores[[example, head]] +=
                    keys.iter().map(|&key| f64::from(pattern[[query, key]])).sum::<f64>();
            }
        }
    }
    scores /= queries.len() as f64;
    Ok(scores)
}

/// Refuses a pattern whose rows are not distributions over the keys up to the query.
///
/// This is what catches scores taken before the softmax and axes in another order, which would
/// otherwise give a plausible number.
pub(crate) fn check_pattern(pattern: ArrayView4<f32>) -> Result<()> {
    let (examples, _, queries, keys) = pattern.dim();
    if examples == 0 {
        return Err(Error::NoExamples { what: "pattern [example, head, query, key]" });
    }
    if queries != keys {
        let (expected, found) = (format!("square, {queries} keys"), format!("{keys} keys"));
        return Err(Error::Shape { what: "pattern [example, head, query, key]", expected, found });
    }
    for (example, pattern) in pattern.outer_iter().enumerate() {
        for (head, pattern) in pattern.outer_iter().enumerate() {
            for (query, row) in pattern.outer_iter().enumerate() {
                if let Some(found) = row_fault(row, query) {
                    return Err(Error::Pattern { example, head, query, found });
                }
            }
        }
    }
    Ok(())
}

/// What keeps a row `[key]` from being a distribution over keys up to the query.
fn row_fault(row: ArrayView1<f32>, query: usize) -> Option<String> {
    let (past, future) = row.split_at(Axis(0), query + 1);
    let ((past, past_is_sound), (future, future_is_sound)) = (mass(past), mass(future));
    if !(past_is_sound && future_is_sound) {
        let (key, value) = row.indexed_iter().find(|(_, value)| !is_sound(**value))?;
        return Some(format!("{value} at key {key}"));
    }
    let wrong = (past - 1.0).abs() > ROW_TOLERANCE || future > ROW_TOLERANCE;
    wrong.then(|| format!("sums {past:.3} and {future:.3}"))
}

/// Not `value >= 0.0` alone, which an infinity passes.
fn is_sound(value: f32) -> bool {
    (0.0..=f32::MAX).contains(&value)
}

/// The sum of some attention, and whether all of it is finite and not negative.
fn mass(keys: ArrayView1<f32>) -> (f64, bool) {
    // Several sums side by side: one would wait for itself at every entry, and whole patterns pass
    // through here.
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let mut sound = true;
    let mut add = |lane: &mut f64, a: f32| {
        *lane += f64::from(a);
        sound &= is_sound(a);
    };
    match keys.as_slice() {
        Some(keys) => {
            let (whole, rest) = keys.as_chunks::<LANES>();
            whole
                .iter()
                .for_each(|chunk| sums.iter_mut().zip(chunk).for_each(|(lane, &a)| add(lane, a)));
            sums.iter_mut().zip(rest).for_each(|(lane, &a)| add(lane, a));
        }
        None => keys.iter().for_each(|&a| add(&mut sums[0], a)),
    }
    (sums.iter().sum(), sound)
}
