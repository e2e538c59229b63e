//! Logit attribution by source position (paper.md, 3: logit attribution).

use ndarray::{Array2, Array3, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use crate::copying::{check, mean_logit};
use crate::{Error, PrefixMatchingSample, Result};

/// How much each source position raises the logit of each query's target, `[head, query, key]`
/// (paper.md, 3: logit attribution).
///
/// * `pattern [head, query, key]`: the attention on one example.
/// * `value_logits [head, source, d_vocab]`: row `(h, j)` is `v_j W_O W_U`, as for
///   [`copying`](crate::copying()).
/// * `targets [query]`: the token whose logit is explained, usually the next one. Row `i` then
///   shows what predicts token `i + 1`; row `i - 1` shows which positions had contributed to the
///   prediction of the current token.
///
/// Entry `(h, i, j)` is `A_ij (l_j[target_i] - mean over the vocabulary of l_j)`: without the mean,
/// a head that raises all logits alike, which changes no prediction, would seem to contribute.
///
/// The unit is that of `value_logits`. With the final layer norm's scale left out of them it is
/// arbitrary, the same for all sources of a query; dividing row `(h, i)` by the standard deviation
/// that the norm found at query `i` gives logits.
///
/// # Errors
/// As [`copying`](crate::copying()), with `targets` for its tokens.
pub fn logit_attribution(
    pattern: ArrayView3<f32>,
    value_logits: ArrayView3<f32>,
    targets: &[u32],
) -> Result<Array3<f64>> {
    check(pattern, value_logits, targets)?;
    let raises = Raises::new(value_logits)?;
    let mut attribution = Array3::zeros(pattern.dim());
    for ((head, query, key), entry) in attribution.indexed_iter_mut() {
        if key <= query {
            *entry =
                f64::from(pattern[[head, query, key]]) * raises.raise(head, key, targets[query]);
        }
    }
    Ok(attribution)
}

/// What one head contributes to the next token's logit on repeated random tokens, by where it comes
/// from.
///
/// Units as [`logit_attribution`]. Both are means over the queries that have an earlier repeat to
/// look into and a next token inside the sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribution {
    /// From the positions after earlier occurrences of the query's token, where
    /// [`prefix_matching`](crate::prefix_matching) looks.
    pub matched: f64,
    /// From all others.
    pub other: f64,
}

/// [`logit_attribution`] of the *next* token on one prefix-matching example, summed over the
/// sources where induction looks and over the others, averaged over queries; one entry for each
/// head.
///
/// `pattern [head, query, key]` and `value_logits [head, source, d_vocab]` as there, `tokens
/// [position]` as [`PrefixMatchingSample`] makes them. An induction head that copies has all of its
/// contribution in [`matched`](Attribution::matched).
///
/// # Errors
/// If the sample is not valid or has no such query (`block: 1, repeats: 2`), and as
/// [`copying`](crate::copying()).
pub fn attribution_scores(
    pattern: ArrayView3<f32>,
    value_logits: ArrayView3<f32>,
    tokens: &[u32],
    sample: PrefixMatchingSample,
) -> Result<Vec<Attribution>> {
    sample.validate()?;
    if tokens.len() != sample.len() {
        return Err(Error::Shape {
            what: "tokens [position]",
            expected: format!("1 + block * repeats = {}", sample.len()),
            found: tokens.len().to_string(),
        });
    }
    check(pattern, value_logits, tokens)?;
    let queries = 1 + sample.block..tokens.len() - 1;
    if queries.is_empty() {
        let expected = "a block of 2 or 3 repeats, so that a repeated token has a next one";
        return Err(Error::Setting { name: "sample", expected, found: format!("{sample:?}") });
    }
    let raises = Raises::new(value_logits)?;

    let mut heads = Vec::with_capacity(pattern.len_of(Axis(0)));
    for (head, pattern) in pattern.outer_iter().enumerate() {
        let (mut matched, mut other) = (0.0, 0.0);
        for query in queries.clone() {
            for key in 0..=query {
                let part =
                    f64::from(pattern[[query, key]]) * raises.raise(head, key, tokens[query + 1]);
                // As in prefix matching, the start token is no occurrence of anything.
                let is_match = key >= 2 && tokens[key - 1] == tokens[query];
                *if is_match { &mut matched } else { &mut other } += part;
            }
        }
        let n = queries.len() as f64;
        heads.push(Attribution { matched: matched / n, other: other / n });
    }
    Ok(heads)
}

/// Value logits with their means over the vocabulary, `[head, source]`.
struct Raises<'a> {
    value_logits: ArrayView3<'a, f32>,
    means: Array2<f64>,
}

impl<'a> Raises<'a> {
    fn new(value_logits: ArrayView3<'a, f32>) -> Result<Self> {
        let (heads, sources, _) = value_logits.dim();
        let mut means = Array2::zeros((heads, sources));
        for ((head, source), mean) in means.indexed_iter_mut() {
            let row = value_logits.index_axis(Axis(0), head);
            *mean = mean_logit(row.index_axis(Axis(0), source), head, source)?;
        }
        Ok(Self { value_logits, means })
    }

    /// How far full attention to `source` raises `token` above the mean of the vocabulary.
    fn raise(&self, head: usize, source: usize, token: u32) -> f64 {
        f64::from(self.value_logits[[head, source, token as usize]]) - self.means[[head, source]]
    }
}
