//! TransformerLens' head detectors, under its names (`transformer_lens.head_detector`, 3.9).
//!
//! They look at every query, also those with nothing to match, and at the start token as at any
//! other; the paper's evaluators (paper.md, 3) leave both out.

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView4};
use serde::{Deserialize, Serialize};

use crate::heads::check_pattern;
use crate::{Error, Result};

/// Where a kind of head is expected to attend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectionPattern {
    /// To the position just before.
    PreviousTokenHead,
    /// To every earlier occurrence of the query's token.
    DuplicateTokenHead,
    /// To every position that follows an earlier occurrence of the query's token.
    InductionHead,
}

impl DetectionPattern {
    /// All of them, in TransformerLens' order.
    pub const ALL: [Self; 3] =
        [Self::PreviousTokenHead, Self::DuplicateTokenHead, Self::InductionHead];

    /// TransformerLens' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreviousTokenHead => "previous_token_head",
            Self::DuplicateTokenHead => "duplicate_token_head",
            Self::InductionHead => "induction_head",
        }
    }
}

/// How much each head is of a kind, by TransformerLens' two error measures of a pattern `A` and a
/// detection pattern `D`.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// `sum(A D) / sum(A)`, in `[0, 1]`, `[example, head]`.
    pub mul: Array2<f64>,
    /// `1 - sum |A - D| / queries`, `[example, head]`: 1 for equality, below 0 where a query has
    /// several targets. TransformerLens rounds it to three digits, we don't.
    pub abs: Array2<f64>,
}

/// What a detector leaves out.
///
/// A left-out entry counts neither as attention nor as a difference; with all attention left out,
/// `mul` is 0. TransformerLens before 3.0 dropped these options for lists of prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectorOptions {
    /// Leaves out attention to the first position.
    pub exclude_bos: bool,
    /// Leaves out attention of each position to itself.
    pub exclude_current_token: bool,
}

/// The detection pattern for `tokens`, `[query, key]`: 1 where the head is expected to attend, 0
/// elsewhere.
pub fn detection_pattern(kind: DetectionPattern, tokens: ArrayView1<u32>) -> Array2<f32> {
    let n = tokens.len();
    let expected = |query: usize, key: usize| match kind {
        DetectionPattern::PreviousTokenHead => key + 1 == query,
        DetectionPattern::DuplicateTokenHead => key < query && tokens[key] == tokens[query],
        DetectionPattern::InductionHead => {
            (1..=query).contains(&key) && tokens[key - 1] == tokens[query]
        }
    };
    Array2::from_shape_fn((n, n), |(query, key)| f32::from(u8::from(expected(query, key))))
}

/// How much each head is of a kind: TransformerLens' `detect_head` on each example.
///
/// `pattern` is `[example, head, query, key]`, `tokens` is `[example, position]`.
///
/// # Errors
/// If there is no example, the tokens do not fit, or a row is not a causal distribution.
pub fn detect_heads(
    pattern: ArrayView4<f32>,
    tokens: ArrayView2<u32>,
    kind: DetectionPattern,
    options: DetectorOptions,
) -> Result<Detection> {
    check_pattern(pattern)?;
    let (examples, heads, n, _) = pattern.dim();
    if n < 2 {
        let what = "pattern [example, head, query, key]";
        return Err(Error::Shape {
            what,
            expected: "at least 2 queries".into(),
            found: n.to_string(),
        });
    }
    if tokens.dim() != (examples, n) {
        let (expected, found) = (format!("[{examples}, {n}]"), format!("{:?}", tokens.shape()));
        return Err(Error::Shape { what: "tokens [example, position]", expected, found });
    }
    let mut found =
        Detection { mul: Array2::zeros((examples, heads)), abs: Array2::zeros((examples, heads)) };
    for (example, pattern) in pattern.outer_iter().enumerate() {
        let wanted = detection_pattern(kind, tokens.row(example));
        for (head, pattern) in pattern.outer_iter().enumerate() {
            let (mut all, mut there, mut difference) = (0.0, 0.0, 0.0);
            for (query, (row, wanted)) in pattern.outer_iter().zip(wanted.outer_iter()).enumerate()
            {
                // Nothing is expected of keys after the query, and a causal pattern has nothing
                // there.
                for (key, (&a, &d)) in row.iter().zip(wanted).enumerate().take(query + 1) {
                    if (options.exclude_bos && key == 0)
                        || (options.exclude_current_token && key == query)
                    {
                        continue;
                    }
                    let (a, d) = (f64::from(a), f64::from(d));
                    all += a;
                    there += a * d;
                    difference += (a - d).abs();
                }
            }
            found.mul[[example, head]] = if all > 0.0 { there / all } else { 0.0 };
            found.abs[[example, head]] = 1.0 - difference / n as f64;
        }
    }
    Ok(found)
}
