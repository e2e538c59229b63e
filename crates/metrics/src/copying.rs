//! The copying score, from direct-path logits (paper.md, 3: copying; D3).

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use crate::heads::check_pattern;
use crate::{Error, Result};

/// What one head raises on one example: the two sums that every copying score is made of.
///
/// Units are those of the direct-path logits, which are arbitrary by the dropped scale of the final
/// layer norm; the scores are ratios and have none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copying {
    /// `a`: how much the head raises the tokens it attends to.
    pub own: f64,
    /// `S`: how much it raises the tokens of the sample, the attended one included, so `S >= a`.
    pub sample: f64,
}

impl Copying {
    /// `4r - 1` in `[-1, 1]`, with `r = a / (a + S)` in `[0, 1/2]` (paper.md, 0: D3).
    ///
    /// +1 for a head that raises, of the sample, only the token it attends to; -1 for one that
    /// never raises it. A head that raises no token of the sample (`S = 0`) never raises its own:
    /// -1. One that raises all `n` tokens alike has `4 / (n + 1) - 1`, below 0 for `n > 3`.
    pub fn score(&self) -> f64 {
        if self.sample > 0.0 { 4.0 * self.own / (self.own + self.sample) - 1.0 } else { -1.0 }
    }

    /// `2a/S - 1` in `[-1, 1]`: the same end points without the paper's "0 to 0.5"; -1 for `S = 0`
    /// (paper.md, 0: D3).
    pub fn simple_score(&self) -> f64 {
        if self.sample > 0.0 { 2.0 * self.own / self.sample - 1.0 } else { -1.0 }
    }
}

/// What each head of one layer raises on one example (paper.md, 3: copying; D3).
///
/// * `pattern [head, query, key]`: the attention on the sample.
/// * `value_logits [head, source, d_vocab]`: row `(h, j)` is `v_j W_O W_U`, what head `h` would add
///   to the logits if it attended to position `j` alone.
/// * `tokens [source]`: the sample, as [`CopyingSample`](crate::CopyingSample) makes it.
///
/// With `c_j` the row centred over the vocabulary,
///
/// ```text
/// a = sum_ij A_ij relu(c_j[t_j])      S = sum_ij A_ij sum over distinct t of the sample of relu(c_j[t])
/// ```
///
/// The paper takes the ReLU of the logits *at* weight `A_ij`. Since `A_ij >= 0` and ReLU is
/// positively homogeneous, `relu(A_ij c_j) = A_ij relu(c_j)`: the weight factors out, and the sum
/// over queries needs only the attention each source receives, `sum_i A_ij`.
///
/// The final layer norm is the caller's: its gain and its centring belong folded into `W_U`. Its
/// scale, one positive number for each query, is dropped: no raise changes sign by it, and every
/// query then weighs by its attention alone.
///
/// # Errors
/// If the shapes disagree, a row of the pattern is not a causal distribution, a logit is not
/// finite, or a token lies outside the vocabulary.
pub fn copying(
    pattern: ArrayView3<f32>,
    value_logits: ArrayView3<f32>,
    tokens: &[u32],
) -> Result<Vec<Copying>> {
    check(pattern, value_logits, tokens)?;
    let mut types = tokens.to_vec();
    types.sort_unstable();
    types.dedup();

    let mut heads = Vec::with_capacity(pattern.len_of(Axis(0)));
    for (head, (attention, logits)) in
        pattern.outer_iter().zip(value_logits.outer_iter()).enumerate()
    {
        let (mut own, mut sample) = (0.0, 0.0);
        for (source, row) in logits.outer_iter().enumerate() {
            let mean = mean_logit(row, head, source)?;
            let received: f64 = attention.column(source).iter().map(|&a| f64::from(a)).sum();
            let raise = |token: u32| (f64::from(row[token as usize]) - mean).max(0.0);
            own += received * raise(tokens[source]);
            sample += received * types.iter().map(|&token| raise(token)).sum::<f64>();
        }
        heads.push(Copying { own, sample });
    }
    Ok(heads)
}

/// The mean over the vocabulary of a row of value logits, all of which must be finite.
pub(crate) fn mean_logit(row: ArrayView1<f32>, head: usize, source_index: usize) -> Result<f64> {
    if let Some((token, &value)) = row.indexed_iter().find(|(_, logit)| !logit.is_finite()) {
        return Err(Error::Logit { head, source_index, token, value });
    }
    Ok(row.iter().map(|&logit| f64::from(logit)).sum::<f64>() / row.len() as f64)
}

/// Checks a pattern `[head, query, key]`, its value logits `[head, source, d_vocab]`, and a token
/// for each position.
pub(crate) fn check(
    pattern: ArrayView3<f32>,
    value_logits: ArrayView3<f32>,
    tokens: &[u32],
) -> Result<()> {
    check_pattern(pattern.insert_axis(Axis(0)))?;
    let (heads, sources, _) = pattern.dim();
    let (logit_heads, logit_sources, d_vocab) = value_logits.dim();
    if (logit_heads, logit_sources) != (heads, sources) {
        let (expected, found) =
            (format!("[{heads}, {sources}, _]"), format!("{:?}", value_logits.shape()));
        return Err(Error::Shape { what: "value_logits [head, source, d_vocab]", expected, found });
    }
    if tokens.len() != sources {
        let (expected, found) = (format!("[{sources}]"), format!("[{}]", tokens.len()));
        return Err(Error::Shape { what: "tokens [source]", expected, found });
    }
    match tokens.iter().enumerate().find(|&(_, &token)| token as usize >= d_vocab) {
        Some((position, &token)) => Err(Error::Token { token, position, d_vocab }),
        None => Ok(()),
    }
}

/// `W_O W_U` of one head, `[d_head, d_vocab]`: what multiplies a value vector into the logits that
/// the head adds directly.
///
/// * `w_o [d_head, d_model]`, `w_u [d_model, d_vocab]`.
/// * `final_gain [d_model]`: the final layer norm's gain where there is one. Its centring (each row
///   of `w_o` loses its mean) and its gain are folded in; its scale is dropped, and its bias is no
///   part of any head.
///
/// # Errors
/// If the shapes disagree.
pub fn direct_path_logits(
    w_o: ArrayView2<f32>,
    final_gain: Option<ArrayView1<f32>>,
    w_u: ArrayView2<f32>,
) -> Result<Array2<f32>> {
    let d_model = w_o.ncols();
    if w_u.nrows() != d_model || final_gain.is_some_and(|gain| gain.len() != d_model) {
        return Err(Error::Shape {
            what: "w_o [d_head, d_model], final_gain [d_model], w_u [d_model, d_vocab]",
            expected: format!("one d_model, {d_model} as in w_o"),
            found: format!(
                "w_u {:?}, final_gain {:?}",
                w_u.shape(),
                final_gain.map(|gain| gain.len())
            ),
        });
    }
    let mut written = w_o.to_owned();
    if let Some(gain) = final_gain {
        for mut row in written.rows_mut() {
            let mean = (row.iter().map(|&x| f64::from(x)).sum::<f64>() / d_model as f64) as f32;
            row.zip_mut_with(&gain, |x, &g| *x = (*x - mean) * g);
        }
    }
    Ok(written.dot(&w_u))
}
