//! What the weights of a head say by themselves: copying, K-composition with earlier heads, recall
//! (paper.md, 3 and 5).
//!
//! Weights act on row vectors, `x W`, as in TransformerLens. Layer norms are folded as its
//! `fold_ln` and `center_writing_weights` do: a gain multiplies the rows of the weights that read
//! it, everything written to the residual stream and everything read from it is centred, scales are
//! dropped, biases are no part of any head. The vocabulary is not centred.
//!
//! The circuits are `d_vocab x d_vocab`, and never formed: their non-zero eigenvalues are those of
//! the `d_head x d_head` matrix with the factors turned around, and so are traces and norms.

use nalgebra::{DMatrix, DVector, Schur};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView3, Axis, Slice};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The attention weights of one block, as the model stores them.
#[derive(Debug, Clone, Copy)]
pub struct BlockWeights<'a> {
    /// Gain of the layer norm before attention, `[d_model]`; `None` for a model without layer
    /// norms.
    pub ln1: Option<ArrayView1<'a, f32>>,
    /// `[head, d_model, d_head]`.
    pub w_q: ArrayView3<'a, f32>,
    /// `[head, d_model, d_head]`.
    pub w_k: ArrayView3<'a, f32>,
    /// `[head, d_model, d_head]`.
    pub w_v: ArrayView3<'a, f32>,
    /// `[head, d_head, d_model]`.
    pub w_o: ArrayView3<'a, f32>,
}

/// One head, layer norms folded.
#[derive(Debug, Clone)]
struct Head {
    w_q: Array2<f64>,
    w_k: Array2<f64>,
    w_v: Array2<f64>,
    w_o: Array2<f64>,
}

/// A model's embedding, heads and unembedding, layer norms folded.
#[derive(Debug, Clone)]
pub struct Circuits {
    w_e: Array2<f64>,
    w_u: Array2<f64>,
    heads: Vec<Vec<Head>>,
    /// `W_U W_E`, `[d_model, d_model]`: what lies between the two ends of the OV circuit.
    unembed_embed: Array2<f64>,
    /// `W_E^T W_E`, `[d_model, d_model]`.
    gram: Array2<f64>,
    /// Dimension of the space that heads write to and read from.
    dimension: usize,
}

/// Which input of the later head reads what the earlier one wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompositionKind {
    /// Its queries.
    Q,
    /// Its keys.
    K,
    /// Its values.
    V,
}

impl CompositionKind {
    /// `Q`, `K` or `V`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "Q",
            Self::K => "K",
            Self::V => "V",
        }
    }
}

/// How much of what one head writes is read by another (paper.md, 5: composition scores).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Composition {
    /// Layer and head that writes.
    pub from: (usize, usize),
    /// Layer and head that reads; a later layer.
    pub to: (usize, usize),
    /// With which input.
    pub kind: CompositionKind,
    /// `||AB||_F / (||A||_F ||B||_F)`, in `[0, 1]`; TransformerLens' composition score.
    pub raw: f64,
    /// `raw` less [`composition_baseline`].
    pub score: f64,
}

/// The composition score of random matrices: `1 / sqrt(dimension)`.
///
/// If one factor is turned by a random rotation, the mean of `||AB||^2` is `||A||^2 ||B||^2 /
/// dimension` whatever the factors are, so this is the root mean square for random matrices of any
/// rank.
pub fn composition_baseline(dimension: usize) -> f64 {
    1.0 / (dimension as f64).sqrt()
}

/// Rows of scores that are held at once; a row has an entry for each token of the vocabulary.
const ROWS_AT_ONCE: usize = 256;

impl Circuits {
    /// Takes a model's weights and folds its layer norms.
    ///
    /// `w_e [d_vocab, d_model]`, `w_u [d_model, d_vocab]`, `ln_final [d_model]`.
    ///
    /// # Errors
    /// If a parameter has another shape than the others demand, or a value is not finite; both name
    /// the parameter.
    pub fn fold(
        w_e: ArrayView2<f32>,
        blocks: &[BlockWeights<'_>],
        ln_final: Option<ArrayView1<f32>>,
        w_u: ArrayView2<f32>,
    ) -> Result<Self> {
        check(w_e, blocks, ln_final, w_u)?;
        let centres = ln_final.is_some() || blocks.iter().any(|block| block.ln1.is_some());
        let reads = |weights: ArrayView2<f32>, gain: Option<ArrayView1<f32>>| {
            let mut weights = weights.mapv(f64::from);
            if let Some(gain) = gain {
                for (mut row, &gain) in weights.rows_mut().into_iter().zip(gain) {
                    row *= f64::from(gain);
                }
                weights -= &weights.mean_axis(Axis(0)).expect("d_model is at least 1");
            }
            weights
        };
        let writes = |weights: ArrayView2<f32>| {
            let mut weights = weights.mapv(f64::from);
            if centres {
                weights -= &weights
                    .mean_axis(Axis(1))
                    .expect("d_model is at least 1")
                    .insert_axis(Axis(1));
            }
            weights
        };
        let block_heads = |block: &BlockWeights<'_>| {
            let of = |head: usize| Head {
                w_q: reads(block.w_q.index_axis(Axis(0), head), block.ln1),
                w_k: reads(block.w_k.index_axis(Axis(0), head), block.ln1),
                w_v: reads(block.w_v.index_axis(Axis(0), head), block.ln1),
                w_o: writes(block.w_o.index_axis(Axis(0), head)),
            };
            (0..block.w_q.len_of(Axis(0))).map(of).collect()
        };
        let heads = blocks.iter().map(block_heads).collect();
        let (w_e, w_u) = (writes(w_e), reads(w_u, ln_final));
        let dimension = w_e.ncols() - usize::from(centres && w_e.ncols() > 1);
        Ok(Self {
            unembed_embed: w_u.dot(&w_e),
            gram: w_e.t().dot(&w_e),
            w_e,
            w_u,
            heads,
            dimension,
        })
    }

    /// How much a head copies: `sum(lambda) / sum(|lambda|)` over the eigenvalues of its OV circuit
    /// `W_E W_V W_O W_U`, in `[-1, 1]` (paper.md, 3: OV eigenvalue copying measure). 0 for a head
    /// that writes nothing.
    ///
    /// # Errors
    /// If there is no such head, or the eigenvalues do not converge.
    pub fn ov_copying(&self, layer: usize, head: usize) -> Result<f64> {
        let head = self.head(layer, head)?;
        let turned = head.w_o.dot(&self.unembed_embed).dot(&head.w_v);
        let sizes = absolute_eigenvalues(&turned).ok_or(Error::Setting {
            name: "OV circuit",
            expected: "eigenvalues that converge",
            found: "some that do not".into(),
        })?;
        // The imaginary parts come in pairs that cancel.
        Ok(if sizes > 0.0 { (turned.diag().sum() / sizes).clamp(-1.0, 1.0) } else { 0.0 })
    }

    /// How much a head's keys, as earlier heads write them, match its queries token by token: the
    /// trace of `sum_e p_e W_e`, `W_e` the `d_vocab x d_vocab` matrix that takes the query token
    /// through the head's QK circuit to the token that head `e` has copied to the key's place
    /// (paper.md, 3: trace of QK eigenvalues). `None` in layer 0.
    ///
    /// `previous[layer][head]` is `p_e`, how much head `e` attends to the token before. Not divided
    /// by `sqrt(d_head)`; its scale is that of the weights.
    ///
    /// # Errors
    /// If there is no such head, or `previous` has no entry for an earlier one.
    pub fn qk_trace(
        &self,
        layer: usize,
        head: usize,
        previous: &[Vec<f64>],
    ) -> Result<Option<f64>> {
        let Some(keys) = self.keys_through(layer, head, previous)? else { return Ok(None) };
        // tr(W_E W_Q (W_E keys)^T) = sum of the entries of W_Q * (gram keys).
        Ok(Some((&self.head(layer, head)?.w_q * &self.gram.dot(&keys)).sum()))
    }

    /// Share of the vocabulary's tokens that a head finds by K-composition: of all tokens that
    /// earlier heads may have copied to a key's place, the query's own scores highest, alone. The
    /// matrix is that of [`qk_trace`](Self::qk_trace); the measure is memory recall as in Bietti et
    /// al. 2023, "Birth of a Transformer". `None` in layer 0; chance is one token.
    ///
    /// # Errors
    /// As [`qk_trace`](Self::qk_trace).
    pub fn k_composition_recall(
        &self,
        layer: usize,
        head: usize,
        previous: &[Vec<f64>],
    ) -> Result<Option<f64>> {
        let Some(keys) = self.keys_through(layer, head, previous)? else { return Ok(None) };
        let queries = self.w_e.dot(&self.head(layer, head)?.w_q);
        Ok(Some(recall(queries.view(), self.w_e.dot(&keys).t())))
    }

    /// Share of the vocabulary's tokens that a head copies: of all logits, what it writes for a
    /// token raises that token's own highest, alone (memory recall of the OV circuit, Bietti et al.
    /// 2023). Chance is one token.
    ///
    /// # Errors
    /// If there is no such head.
    pub fn ov_copy_recall(&self, layer: usize, head: usize) -> Result<f64> {
        let head = self.head(layer, head)?;
        let written = self.w_e.dot(&head.w_v);
        let raised = head.w_o.dot(&self.w_u);
        Ok(recall(written.view(), raised.view()))
    }

    /// The composition scores of every pair of heads in different layers, for all three inputs
    /// (paper.md, 5).
    pub fn composition(&self) -> Vec<Composition> {
        // ||X M Y||^2 = tr(M^T (X^T X) M (Y Y^T)): all factors d_head x d_head.
        let norm = |left: &Array2<f64>, middle: &Array2<f64>, right: &Array2<f64>| {
            (&middle.dot(right) * &left.dot(middle)).sum().max(0.0).sqrt()
        };
        struct Grams {
            q: Array2<f64>,
            k: Array2<f64>,
            v: Array2<f64>,
            o: Array2<f64>,
            ov: f64,
            qk: f64,
        }
        let grams = |head: &Head| {
            let of = |w: &Array2<f64>| w.t().dot(w);
            let (q, k, v, o) =
                (of(&head.w_q), of(&head.w_k), of(&head.w_v), head.w_o.dot(&head.w_o.t()));
            let product = |a: &Array2<f64>, b: &Array2<f64>| (a * b).sum().max(0.0).sqrt();
            let (ov, qk) = (product(&v, &o), product(&q, &k));
            Grams { q, k, v, o, ov, qk }
        };
        let all: Vec<Vec<Grams>> =
            self.heads.iter().map(|heads| heads.iter().map(grams).collect()).collect();
        let baseline = composition_baseline(self.dimension);
        let mut found = Vec::new();
        for (to_layer, to_heads) in self.heads.iter().enumerate() {
            for (to_head, to) in to_heads.iter().enumerate() {
                let b = &all[to_layer][to_head];
                for (from_layer, from_heads) in self.heads[..to_layer].iter().enumerate() {
                    for (from_head, from) in from_heads.iter().enumerate() {
                        let a = &all[from_layer][from_head];
                        let through = [
                            (CompositionKind::Q, norm(&a.v, &from.w_o.dot(&to.w_q), &b.k), b.qk),
                            (CompositionKind::K, norm(&a.v, &from.w_o.dot(&to.w_k), &b.q), b.qk),
                            (CompositionKind::V, norm(&a.v, &from.w_o.dot(&to.w_v), &b.o), b.ov),
                        ];
                        for (kind, norm, size) in through {
                            // A head that is all zeros composes with nothing.
                            let raw = if a.ov * size > 0.0 { norm / (a.ov * size) } else { 0.0 };
                            let (from, to) = ((from_layer, from_head), (to_layer, to_head));
                            found.push(Composition { from, to, kind, raw, score: raw - baseline });
                        }
                    }
                }
            }
        }
        found
    }

    fn head(&self, layer: usize, head: usize) -> Result<&Head> {
        self.heads.get(layer).and_then(|heads| heads.get(head)).ok_or_else(|| Error::Setting {
            name: "layer and head",
            expected: "those of the model, from 0",
            found: format!("{layer}.{head}"),
        })
    }

    /// `sum_e p_e W_V^e W_O^e W_K`, `[d_model, d_head]`: the keys that earlier heads make of a
    /// token.
    fn keys_through(
        &self,
        layer: usize,
        head: usize,
        previous: &[Vec<f64>],
    ) -> Result<Option<Array2<f64>>> {
        let reader = self.head(layer, head)?;
        if layer == 0 {
            return Ok(None);
        }
        let mut keys = Array2::zeros(reader.w_k.raw_dim());
        for (l, heads) in self.heads[..layer].iter().enumerate() {
            let scores =
                previous.get(l).filter(|scores| scores.len() == heads.len()).ok_or_else(|| {
                    Error::Shape {
                        what: "previous [layer][head]",
                        expected: format!("{} heads in layer {l}", heads.len()),
                        found: format!("{:?}", previous.iter().map(Vec::len).collect::<Vec<_>>()),
                    }
                })?;
            for (earlier, &p) in heads.iter().zip(scores) {
                keys.scaled_add(p, &earlier.w_v.dot(&earlier.w_o.dot(&reader.w_k)));
            }
        }
        Ok(Some(keys))
    }
}

/// The sum of the absolute values of all eigenvalues; `None` if the QR iteration finds no end.
///
/// nalgebra's has no exceptional shifts, so it stands still on some matrices (a cyclic permutation
/// is one). The same matrix in another basis has the same eigenvalues, and sets it going again.
fn absolute_eigenvalues(matrix: &Array2<f64>) -> Option<f64> {
    const ATTEMPTS: usize = 4;
    let n = matrix.nrows();
    let mut current = DMatrix::from_fn(n, n, |i, j| matrix[[i, j]]);
    for attempt in 1..=ATTEMPTS {
        // LAPACK's limit.
        if let Some(schur) = Schur::try_new(current.clone(), f64::EPSILON, 30 * n.max(10)) {
            return Some(schur.complex_eigenvalues().iter().map(|lambda| lambda.norm()).sum());
        }
        // A Householder reflection along no direction in particular: multiples of the golden ratio,
        // modulo 1.
        let axis = DVector::from_fn(n, |i, _| {
            ((attempt * n + i) as f64 * 1.618_033_988_749_895).fract() - 0.5
        });
        let scale = 2.0 / axis.norm_squared();
        current -= &axis * (axis.transpose() * &current) * scale;
        current -= (&current * &axis) * axis.transpose() * scale;
    }
    None
}

/// Share of the rows `i` of `left right` whose entry `i` is the largest, alone.
fn recall(left: ArrayView2<f64>, right: ArrayView2<f64>) -> f64 {
    let mut right_ones = 0;
    for (block, left) in left.axis_chunks_iter(Axis(0), ROWS_AT_ONCE).enumerate() {
        let scores = left.dot(&right);
        right_ones += scores
            .rows()
            .into_iter()
            .enumerate()
            .filter(|(i, row)| peaks_at(*row, block * ROWS_AT_ONCE + i))
            .count();
    }
    right_ones as f64 / left.nrows() as f64
}

fn peaks_at(row: ArrayView1<f64>, at: usize) -> bool {
    row.iter().enumerate().all(|(other, score)| other == at || *score < row[at])
}

/// Share of query positions whose positional score is highest, alone, for the position before:
/// memory recall of the QK circuit over positions (Bietti et al. 2023), for positions that are
/// added to the inputs of `W_Q` and `W_K` only.
///
/// * `w_q`, `w_k` are `[d_model, d_head]` without the layer norm's gain, which acts before
///   positions are added. The positional gain scales all scores alike and plays no part.
/// * `positions` is `[n_ctx, d_model]`; keys up to the query compete. Queries from position 1 on
///   count, so with one choice to make the first always has an even chance.
/// * `smear` is the share of its own key that each position keeps (paper.md, 1.4), for a model with
///   smeared keys.
///
/// # Errors
/// If the shapes disagree, or there are fewer than two positions.
pub fn previous_position_recall(
    w_q: ArrayView2<f64>,
    w_k: ArrayView2<f64>,
    positions: ArrayView2<f64>,
    smear: Option<f64>,
) -> Result<f64> {
    let (n_ctx, d_model) = positions.dim();
    if w_q.dim() != w_k.dim() || w_q.nrows() != d_model || n_ctx < 2 {
        return Err(Error::Shape {
            what: "w_q, w_k [d_model, d_head], positions [n_ctx, d_model]",
            expected: format!(
                "one d_model, {d_model} as in positions, one d_head, and 2 positions or more"
            ),
            found: format!("{:?}, {:?}, {:?}", w_q.shape(), w_k.shape(), positions.shape()),
        });
    }
    let queries = positions.dot(&w_q);
    let mut keys = positions.dot(&w_k);
    if let Some(own) = smear {
        let before = keys.slice_axis(Axis(0), Slice::from(..n_ctx - 1)).to_owned();
        let mut after = keys.slice_axis_mut(Axis(0), Slice::from(1..));
        after.zip_mut_with(&before, |key, before| *key = own * *key + (1.0 - own) * before);
    }
    let scores = queries.dot(&keys.t());
    let causal = |query: usize| scores.row(query).split_at(Axis(0), query + 1).0;
    let recalled = (1..n_ctx).filter(|&query| peaks_at(causal(query), query - 1)).count();
    Ok(recalled as f64 / (n_ctx - 1) as f64)
}

fn check(
    w_e: ArrayView2<f32>,
    blocks: &[BlockWeights<'_>],
    ln_final: Option<ArrayView1<f32>>,
    w_u: ArrayView2<f32>,
) -> Result<()> {
    let (d_vocab, d_model) = w_e.dim();
    if d_vocab == 0 || d_model == 0 {
        let found = format!("{:?}", w_e.shape());
        return Err(Error::Shape {
            what: "W_E [d_vocab, d_model]",
            expected: "not empty".into(),
            found,
        });
    }
    same("W_E", w_e.iter(), w_e.shape(), &[d_vocab, d_model])?;
    same("W_U", w_u.iter(), w_u.shape(), &[d_model, d_vocab])?;
    if let Some(gain) = ln_final {
        same("ln_final.w", gain.iter(), gain.shape(), &[d_model])?;
    }
    for (l, block) in blocks.iter().enumerate() {
        let (heads, _, d_head) = block.w_q.dim();
        let reads = [heads, d_model, d_head];
        let name = |parameter: &str| format!("blocks.{l}.{parameter}");
        if let Some(gain) = block.ln1 {
            same(&name("ln1.w"), gain.iter(), gain.shape(), &[d_model])?;
        }
        same(&name("attn.W_Q"), block.w_q.iter(), block.w_q.shape(), &reads)?;
        same(&name("attn.W_K"), block.w_k.iter(), block.w_k.shape(), &reads)?;
        same(&name("attn.W_V"), block.w_v.iter(), block.w_v.shape(), &reads)?;
        same(&name("attn.W_O"), block.w_o.iter(), block.w_o.shape(), &[heads, d_head, d_model])?;
    }
    Ok(())
}

fn same<'a>(
    name: &str,
    mut values: impl Iterator<Item = &'a f32>,
    found: &[usize],
    expected: &[usize],
) -> Result<()> {
    if found != expected {
        return Err(Error::Weight {
            name: name.to_string(),
            expected: format!("the shape {expected:?}"),
            found: format!("{found:?}"),
        });
    }
    match values.find(|value| !value.is_finite()) {
        Some(value) => Err(Error::Weight {
            name: name.to_string(),
            expected: "finite values".to_string(),
            found: value.to_string(),
        }),
        None => Ok(()),
    }
}
