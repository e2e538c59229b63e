//! From a head's values to the logits, without the rest of the model: the direct path.

use std::collections::BTreeSet;

use induction_metrics::direct_path_logits;
use induction_model::{ModelConfig, Normalization, Params};
use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayView3, Axis};

/// Vocabularies up to this size are taken whole.
const WHOLE: usize = 4096;

/// What takes the outputs of heads to the logits of some tokens: `W_U` with the final norm's gain
/// (and, of layer norm, its centring) folded in.
///
/// Of a large vocabulary only the tokens that are asked for have a column, less the mean over the
/// whole vocabulary, and one more column makes the sum of all zero: so what is a logit less the
/// mean logit stays exactly that, at a hundredth of the cost. Tokens then go by
/// [`rename`](Self::rename).
pub(crate) struct DirectPath {
    w_u: Array2<f32>,
    /// Layer norm's gain, which `direct_path_logits` folds with the centring.
    gain: Option<Array1<f32>>,
    /// The tokens of the columns, ascending; `None` for all.
    tokens: Option<Vec<u32>>,
}

impl DirectPath {
    pub(crate) fn new(
        config: &ModelConfig,
        params: &Params,
        tokens: impl IntoIterator<Item = u32>,
    ) -> Self {
        let whole = params.unembedding();
        let gain = params.ln_final().map(|gain| gain.to_owned());
        let (mut w_u, tokens) = if config.d_vocab <= WHOLE {
            (whole.to_owned(), None)
        } else {
            let tokens: Vec<u32> =
                tokens.into_iter().collect::<BTreeSet<u32>>().into_iter().collect();
            (centred_columns(whole, &tokens), Some(tokens))
        };
        if let (Normalization::RMS, Some(gain)) = (config.normalization, &gain) {
            w_u *= &gain.view().insert_axis(Axis(1));
        }
        Self { w_u, gain: gain.filter(|_| config.normalization == Normalization::LN), tokens }
    }

    /// The columns of some tokens.
    ///
    /// # Panics
    /// On a token that the path was not made for.
    pub(crate) fn rename(&self, tokens: ArrayView2<u32>) -> Array2<u32> {
        match &self.tokens {
            None => tokens.to_owned(),
            Some(known) => tokens.mapv(|token| {
                known.binary_search(&token).expect("the path was made for its tokens") as u32
            }),
        }
    }

    /// `W_O W_U` of each head of a layer, `[head][d_head, column]`.
    pub(crate) fn of_layer(
        &self,
        params: &Params,
        l: usize,
    ) -> induction_metrics::Result<Vec<Array2<f32>>> {
        let w_o = params.block(l).w_o();
        let gain = self.gain.as_ref().map(|gain| gain.view());
        w_o.outer_iter().map(|w_o| direct_path_logits(w_o, gain, self.w_u.view())).collect()
    }
}

/// The columns of some tokens less the mean column of all, and one that makes their sum zero.
fn centred_columns(w_u: ArrayView2<f32>, tokens: &[u32]) -> Array2<f32> {
    let mut columns = Array2::zeros((w_u.nrows(), tokens.len() + 1));
    for (row, mut out) in w_u.rows().into_iter().zip(columns.rows_mut()) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64;
        let mut sum = 0.0;
        for (out, &token) in out.iter_mut().zip(tokens) {
            let x = f64::from(row[token as usize]) - mean;
            *out = x as f32;
            sum += x;
        }
        out[tokens.len()] = -sum as f32;
    }
    columns
}

/// `[pos, head, d_head]` values -> `[head, pos, column]` direct-path logits, a head for each of
/// `unembed`; several heads may share values.
pub(crate) fn value_logits(v: ArrayView3<f32>, unembed: &[Array2<f32>]) -> Array3<f32> {
    let (pos, kv_heads) = (v.len_of(Axis(0)), v.len_of(Axis(1)));
    let mut logits = Array3::zeros((unembed.len(), pos, unembed[0].ncols()));
    for (head, (mut out, columns)) in logits.outer_iter_mut().zip(unembed).enumerate() {
        out.assign(&v.index_axis(Axis(1), head * kv_heads / unembed.len()).dot(columns));
    }
    logits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few columns of a large vocabulary say the same of their tokens as all of them.
    #[test]
    fn few_columns_say_what_all_do() {
        let random = |rows: usize, columns: usize| {
            Array2::from_shape_fn((rows, columns), |(i, j)| {
                (((i * 7919 + j * 104_729) % 1009) as f32 / 1009.0) - 0.4
            })
        };
        let (w_u, x) = (random(6, 5000), random(3, 6));
        let tokens = [4u32, 17, 4999];
        let (all, few) = (x.dot(&w_u), x.dot(&centred_columns(w_u.view(), &tokens)));
        for row in 0..3 {
            let mean = all.row(row).iter().map(|&x| f64::from(x)).sum::<f64>() / 5000.0;
            let mean_of_few = few.row(row).iter().map(|&x| f64::from(x)).sum::<f64>() / 4.0;
            assert!(mean_of_few.abs() < 1e-6);
            for (column, &token) in tokens.iter().enumerate() {
                let expected = f64::from(all[[row, token as usize]]) - mean;
                assert!((f64::from(few[[row, column]]) - mean_of_few - expected).abs() < 1e-5);
            }
        }
    }
}
