//! From a head's values to the logits, without the rest of the model: the direct path.

use std::collections::BTreeSet;

use induction_metrics::direct_path_logits;
use induction_model::{ModelConfig, Normalization, Norms, ReadParams};
use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayView3, Axis, Ix3, Slice};
use rayon::prelude::*;

use crate::Error;

/// Vocabularies up to this size are taken whole.
const WHOLE: usize = 4096;

/// Columns of `W_U` that are read at once of larger ones.
const PIECE: usize = 4096;

/// Dimensions of the residual stream that a thread sums over the vocabulary at once.
const DIMENSIONS: usize = 256;

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
    /// Whether what attention writes is normed.
    norms_after: bool,
}

impl DirectPath {
    /// # Errors
    /// The weights'.
    pub(crate) fn new(
        config: &ModelConfig,
        weights: &dyn ReadParams,
        tokens: impl IntoIterator<Item = u32>,
    ) -> Result<Self, Error> {
        let (mut w_u, tokens) = if config.d_vocab <= WHOLE {
            (weights.unembedding_of(0..config.d_vocab)?.reversed_axes(), None)
        } else {
            let tokens: BTreeSet<u32> = tokens.into_iter().collect();
            let tokens: Vec<u32> = tokens.into_iter().collect();
            (centred_columns(config, weights, &tokens)?, Some(tokens))
        };
        let gain = match config.normalization {
            Normalization::None => None,
            _ => Some(weights.parameter("ln_final.w")?.into_dimensionality().expect("a row")),
        };
        if let (Normalization::RMS, Some(gain)) = (config.normalization, &gain) {
            let gain: &Array1<f32> = gain;
            w_u *= &gain.view().insert_axis(Axis(1));
        }
        let gain = gain.filter(|_| config.normalization == Normalization::LN);
        let norms_after = config.architecture.norms != Norms::Before;
        Ok(Self { w_u, gain, tokens, norms_after })
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

    /// [`of_layer`](Self::of_layer) of every layer. They are made before a model is watched, since
    /// whoever watches must not wait for work that all threads share.
    ///
    /// # Errors
    /// As [`of_layer`](Self::of_layer).
    pub(crate) fn of_layers(
        &self,
        weights: &dyn ReadParams,
        n_layers: usize,
    ) -> Result<Vec<Vec<Array2<f32>>>, Error> {
        (0..n_layers).map(|l| self.of_layer(weights, l)).collect()
    }

    /// `W_O W_U` of each head of a layer, `[head][d_head, column]`.
    ///
    /// # Errors
    /// The weights', and the metric's.
    pub(crate) fn of_layer(
        &self,
        weights: &dyn ReadParams,
        l: usize,
    ) -> Result<Vec<Array2<f32>>, Error> {
        let w_o = weights.parameter(&format!("blocks.{l}.attn.W_O"))?;
        let mut w_o = w_o.into_dimensionality::<Ix3>().expect("[head, d_head, d_model]");
        // A norm after attention scales its heads together, as the last norm does, and each
        // direction by its gain.
        if self.norms_after {
            w_o *= &weights.parameter(&format!("blocks.{l}.ln1_post.w"))?;
        }
        let gain = self.gain.as_ref().map(|gain| gain.view());
        let of = |w_o| direct_path_logits(w_o, gain, self.w_u.view());
        let place = |source| Error::Metric { place: format!("layer {l}"), source };
        let heads: Vec<_> = w_o.outer_iter().collect();
        heads.into_par_iter().map(of).collect::<Result<_, _>>().map_err(place)
    }
}

/// The columns of some tokens less the mean column of all, and one that makes their sum zero. `W_U`
/// is read in pieces.
fn centred_columns(
    config: &ModelConfig,
    weights: &dyn ReadParams,
    tokens: &[u32],
) -> Result<Array2<f32>, Error> {
    let mut sums = vec![0.0; config.d_model];
    let mut wide = Array2::<f64>::zeros((tokens.len(), config.d_model));
    for from in (0..config.d_vocab).step_by(PIECE) {
        let piece = from..(from + PIECE).min(config.d_vocab);
        let rows = weights.unembedding_of(piece.clone())?;
        sums.par_chunks_mut(DIMENSIONS).enumerate().for_each(|(k, sums)| {
            let of = Slice::from(k * DIMENSIONS..k * DIMENSIONS + sums.len());
            for row in rows.slice_axis(Axis(1), of).rows() {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
        });
        let here =
            tokens.iter().enumerate().filter(|(_, token)| piece.contains(&(**token as usize)));
        for (k, &token) in here {
            wide.row_mut(k).assign(&rows.row(token as usize - from).mapv(f64::from));
        }
    }
    let mut columns = Array2::zeros((config.d_model, tokens.len() + 1));
    for (d, (sum, mut out)) in sums.iter().zip(columns.rows_mut()).enumerate() {
        let mean = sum / config.d_vocab as f64;
        let mut rest = 0.0;
        for (k, out) in out.iter_mut().take(tokens.len()).enumerate() {
            let x = wide[[k, d]] - mean;
            *out = x as f32;
            rest += x;
        }
        out[tokens.len()] = -rest as f32;
    }
    Ok(columns)
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
    use induction_model::Params;

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
        let config = ModelConfig { d_model: 6, d_vocab: 5000, ..ModelConfig::default() };
        let mut params = Params::zeros(&config);
        params.get_mut("unembed.W_U").unwrap().assign(&w_u.view().into_dyn());
        let few = centred_columns(&config, &params, &tokens).unwrap();
        let (all, few) = (x.dot(&w_u), x.dot(&few));
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
