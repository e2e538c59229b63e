//! How high a copying score can be between given embeddings, so that a head's score has a scale.
//!
//! The copying score reaches 1 only for a head that raises, of the sample, its own token alone. An
//! OV circuit of rank `d_head` cannot: between `d_vocab` embeddings that are not orthogonal, what
//! raises one token raises others. In a small model this is most of what keeps scores low, for
//! every head alike.

use nalgebra::{DMatrix, SVD, SymmetricEigen};
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, Slice};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, copying};

/// The power of embeddings' sizes that decides between equal copiers: it moves no singular value by
/// more than 2e-5.
const TIE_BREAK: f64 = 1e-6;

/// The scale of a copying score: where chance lies, and what a perfect copier reaches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyingCeiling {
    /// The mean score of a least-squares copier of the given rank.
    pub ceiling: f64,
    /// The mean score of a head that raises all tokens of a sample alike: `4 / (n + 1) - 1` for `n`
    /// distinct tokens.
    pub chance: f64,
}

/// Tokens that are taken in float64 at once.
const ROWS: usize = 4096;

impl CopyingCeiling {
    /// How far a score is on the way from chance, 0, to the ceiling, 1. `None` if the ceiling isn't
    /// above chance.
    ///
    /// Below 0 for a head that raises other tokens than its own. A head may lie a little above 1:
    /// the ceiling is that of one copier, not a bound ([`copying_ceiling`]).
    pub fn share(&self, score: f64) -> Option<f64> {
        (self.ceiling > self.chance).then(|| (score - self.chance) / (self.ceiling - self.chance))
    }
}

/// The copying score of a perfect copier of rank `rank`, and that of chance (paper.md, 3: copying;
/// D3).
///
/// * `w_e [d_vocab, d_model]`, `w_u [d_model, d_vocab]`, layer norms folded by the caller: gains
///   and centring, as for [`copying`](crate::copying()).
/// * `rank`: that of an OV circuit, `d_head`; more than there are dimensions is as good as all of
///   them.
/// * `samples`: random distinct tokens each, without a start token
///   ([`CopyingSample`](crate::CopyingSample)).
///
/// The perfect copier is the OV matrix `M [d_model, d_model]` whose logits `W_E M W_U`, centred
/// over the vocabulary, are nearest to `I - 11^T / d_vocab` in least squares: to raising each token
/// itself and nothing else. It attends to the token itself, and is scored by
/// [`copying`](crate::copying()); the ceiling is the mean score over samples.
///
/// With `Q_E`, `Q_U` orthonormal bases of the columns of `W_E` and of the centred `W_U^T`, its
/// logits are `Q_E T Q_U^T`, with `T` the best approximation of rank `rank` to `Q_E^T Q_U` (Eckart
/// and Young): the target's projection, in which the mean is gone already. So nothing of size
/// `d_vocab x d_vocab` is formed. Directions of less than `f32`'s rounding, such as the one that
/// centring leaves, are no dimension.
///
/// Where `W_U` is the transpose of `W_E`, whatever the gain, the two columns' spaces are one and
/// any part of it is as near to the target as another. Of equal copiers, the one of the smallest
/// weights is taken (the limit of a ridge penalty on `M`): that of the directions in which
/// embeddings are large.
///
/// It is a scale and not a bound. Least squares spread the rank over all tokens, and count lowered
/// tokens, which the score does not see. A copier that is fitted to the score itself, by gradient
/// steps on random samples, comes higher: with random embeddings of 512 tokens in 128 dimensions
/// and a rank of 32, +0.22 for the closed form's +0.11 if `W_U` is the transpose of `W_E`, and
/// -0.03 for -0.04 if they have nothing in common (`fixtures/oracle/copying_ceiling.py
/// --optimise`). So a trained head may well pass it where embedding and unembedding are alike.
///
/// # Errors
/// If the shapes disagree, a weight is not finite, `rank` is 0, there is no sample or an empty one,
/// or a token lies outside the vocabulary.
pub fn copying_ceiling(
    w_e: ArrayView2<f32>,
    w_u: ArrayView2<f32>,
    rank: usize,
    samples: &[Vec<u32>],
) -> Result<CopyingCeiling> {
    check(w_e, w_u, rank, samples)?;
    let (from, to) = copier(w_e, w_u, rank)?;
    let (mut ceiling, mut chance) = (0.0, 0.0);
    for tokens in samples {
        let n = tokens.len();
        let rows = Array2::from_shape_fn((n, from.ncols()), |(j, k)| from[(tokens[j] as usize, k)]);
        let logits = rows.dot(&to).mapv(|logit| logit as f32);
        let to_itself =
            Array3::from_shape_fn((1, n, n), |(_, query, key)| f32::from(u8::from(query == key)));
        let head = copying(to_itself.view(), logits.insert_axis(Axis(0)).view(), tokens)?;
        ceiling += head.iter().map(crate::Copying::score).sum::<f64>();
        let mut distinct = tokens.clone();
        distinct.sort_unstable();
        distinct.dedup();
        chance += 4.0 / (distinct.len() as f64 + 1.0) - 1.0;
    }
    let n = samples.len() as f64;
    Ok(CopyingCeiling { ceiling: ceiling / n, chance: chance / n })
}

fn check(
    w_e: ArrayView2<f32>,
    w_u: ArrayView2<f32>,
    rank: usize,
    samples: &[Vec<u32>],
) -> Result<()> {
    let (d_vocab, d_model) = w_e.dim();
    if w_u.dim() != (d_model, d_vocab) || d_vocab == 0 || d_model == 0 {
        return Err(Error::Shape {
            what: "w_e [d_vocab, d_model] and w_u [d_model, d_vocab]",
            expected: "the transpose of each other's, of at least one token and dimension".into(),
            found: format!("{:?} and {:?}", w_e.shape(), w_u.shape()),
        });
    }
    for (name, weights) in [("w_e", w_e), ("w_u", w_u)] {
        if let Some((at, value)) = weights.indexed_iter().find(|(_, value)| !value.is_finite()) {
            let (name, expected) = (name.to_string(), "finite weights".to_string());
            return Err(Error::Weight { name, expected, found: format!("{value} at {at:?}") });
        }
    }
    if rank == 0 {
        return Err(Error::Setting { name: "rank", expected: "at least 1", found: "0".into() });
    }
    if samples.is_empty() || samples.iter().any(Vec::is_empty) {
        return Err(Error::NoExamples { what: "samples, or one token in each" });
    }
    let tokens = samples.iter().flat_map(|sample| sample.iter().enumerate());
    match tokens.into_iter().find(|&(_, &token)| token as usize >= d_vocab) {
        Some((position, &token)) => Err(Error::Token { token, position, d_vocab }),
        None => Ok(()),
    }
}

/// The perfect copier's logits as a product `[d_vocab, rank] x [rank, d_vocab]`, row by token
/// attended to.
///
/// With `W_E = Q_E S_E V_E^T`, and the centred `W_U^T` likewise, all that is taken from a whole
/// vocabulary are products `[d_model, d_model]`, from which `S` and `V` follow.
fn copier(
    w_e: ArrayView2<f32>,
    w_u: ArrayView2<f32>,
    rank: usize,
) -> Result<(Array2<f64>, Array2<f64>)> {
    let (d_vocab, d_model) = w_e.dim();
    let mean = Array1::from_iter(
        w_u.rows()
            .into_iter()
            .map(|row| row.iter().map(|&x| f64::from(x)).sum::<f64>() / d_vocab as f64),
    );
    let mut of_e = Array2::<f64>::zeros((d_model, d_model));
    let (mut of_u, mut across) = (of_e.clone(), of_e.clone());
    for from in (0..d_vocab).step_by(ROWS) {
        let rows = Slice::from(from..(from + ROWS).min(d_vocab));
        let e = w_e.slice_axis(Axis(0), rows).mapv(f64::from);
        let u = w_u.slice_axis(Axis(1), rows).mapv(f64::from).reversed_axes() - &mean;
        of_e += &e.t().dot(&e);
        of_u += &u.t().dot(&u);
        across += &e.t().dot(&u);
    }
    let longer = d_vocab.max(d_model) as f64;
    let ((v_e, sizes_e), (v_u, sizes_u)) = (directions(&of_e, longer), directions(&of_u, longer));
    if sizes_e.is_empty() || sizes_u.is_empty() {
        return Ok((Array2::zeros((d_vocab, 1)), Array2::zeros((1, d_vocab))));
    }
    let (v_e, v_u) = (v_e / &Array1::from(sizes_e.clone()), v_u / &Array1::from(sizes_u.clone()));
    let target = v_e.t().dot(&across).dot(&v_u);
    let tied = DMatrix::from_fn(target.nrows(), target.ncols(), |i, j| {
        target[(i, j)] * (sizes_e[i] / sizes_e[0] * sizes_u[j] / sizes_u[0]).powf(TIE_BREAK)
    });
    let (u, _) = decompose(tied)?;
    let u = to_array(&u);
    let u = u.slice_axis(Axis(1), Slice::from(..rank.min(u.ncols())));
    let from = v_e.dot(&u);
    let to = u.t().dot(&target).dot(&v_u.t());
    let (mut all_from, mut all_to) =
        (Array2::zeros((d_vocab, from.ncols())), Array2::zeros((to.nrows(), d_vocab)));
    for begin in (0..d_vocab).step_by(ROWS) {
        let rows = Slice::from(begin..(begin + ROWS).min(d_vocab));
        let e = w_e.slice_axis(Axis(0), rows).mapv(f64::from);
        let u = w_u.slice_axis(Axis(1), rows).mapv(f64::from) - mean.view().insert_axis(Axis(1));
        all_from.slice_axis_mut(Axis(0), rows).assign(&e.dot(&from));
        all_to.slice_axis_mut(Axis(1), rows).assign(&to.dot(&u));
    }
    Ok((all_from, all_to))
}

/// The right singular vectors of a matrix as columns, from the product of it with itself, and its
/// singular values, from the largest down: those that are more than `f32`'s rounding, for a matrix
/// whose longer side is `longer`.
fn directions(product: &Array2<f64>, longer: f64) -> (Array2<f64>, Vec<f64>) {
    let n = product.nrows();
    let eigen = SymmetricEigen::new(DMatrix::from_fn(n, n, |i, j| product[(i, j)]));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let size = |k: usize| eigen.eigenvalues[k].max(0.0).sqrt();
    let least = f64::from(f32::EPSILON) * longer * order.first().map_or(0.0, |&k| size(k));
    order.retain(|&k| size(k) > least);
    let vectors =
        Array2::from_shape_fn((n, order.len()), |(i, j)| eigen.eigenvectors[(i, order[j])]);
    (vectors, order.into_iter().map(size).collect())
}

/// The left singular vectors, and the singular values from the largest down.
fn decompose(matrix: DMatrix<f64>) -> Result<(DMatrix<f64>, Vec<f64>)> {
    // Many times what a matrix of its size needs; a bound, so that nothing runs forever.
    let turns = 1000 + 100 * matrix.nrows().max(matrix.ncols());
    let svd = SVD::try_new(matrix, true, false, f64::EPSILON, turns);
    let found = svd.and_then(|svd| Some((svd.u?, svd.singular_values.iter().copied().collect())));
    found.ok_or_else(|| Error::Setting {
        name: "w_e and w_u",
        expected: "matrices whose singular values converge",
        found: "some that do not".into(),
    })
}

fn to_array(matrix: &DMatrix<f64>) -> Array2<f64> {
    Array2::from_shape_fn(matrix.shape(), |at| matrix[at])
}
