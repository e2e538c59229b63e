//! Loss and gradients by hand, over burn's tensors and without its autodiff.
//!
//! Autodiff takes softmax, layer norm and the losses apart into elementwise passes over the scores,
//! each of which writes an array as large as they are, forth and back. Here each is one operation
//! forth and two or three back. What a device does best is chosen in one place: how the embedding's
//! gradient is summed, and whether matrix products are taken in bfloat16.

use std::{collections::BTreeMap, f64::consts::PI};

use burn::tensor::{FloatDType, IndexingUpdateOp, Int, Tensor, TensorData, activation};

use super::{Attention, Block, Clamped, Norm, Transformer, side_by_side};
use crate::ModelConfig;

/// Queries that attend together. Shorter blocks skip more of the keys that no query of theirs may
/// see; longer ones keep the matrix products long.
const QUERY_BLOCK: usize = 128;

/// How gradients are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainingOptions {
    /// Take matrix products of the training pass in bfloat16; everything else, and evaluation,
    /// stays in float32.
    pub bf16: bool,
    /// Sum the embedding's gradient as a product with one-hot rows. For devices that otherwise add
    /// in any order.
    pub one_hot_embedding: bool,
}

/// What sequences are to foretell, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// A token each.
    pub tokens: &'a [u32],
    /// Which of them count; all if it is not given.
    pub counted: Option<&'a [bool]>,
    /// What each counts in the gradient.
    pub weight: f64,
}

/// What a norm's backward pass needs: the normalized input and the inverse of its standard deviation
/// or root mean square.
struct Normed {
    hat: Tensor<2>,
    inverse: Tensor<2>,
}

/// What a layer's backward pass needs; rows are `example * pos`, heads `example * head`.
struct Kept {
    ln1: Option<Normed>,
    /// What is attended to: `[row, d_model]`, without and with positions.
    input: Tensor<2>,
    positioned: Tensor<2>,
    /// Of queries and keys.
    qk_norms: [Option<Normed>; 2],
    q: Tensor<3>,
    /// Before smearing; only with it.
    k_raw: Option<Tensor<3>>,
    k: Tensor<3>,
    v: Tensor<3>,
    /// A block of queries each.
    patterns: Vec<Tensor<3>>,
    /// `[heads, pos, d_head]`, and as `[row, head * d_head]` after clamps.
    read: Tensor<3>,
    z: Tensor<2>,
    mlp: Option<KeptMlp>,
}

struct KeptMlp {
    ln2: Option<Normed>,
    input: Tensor<2>,
    before: Tensor<2>,
    /// The normal distribution's share below `before`.
    below: Tensor<2>,
}

/// Gradients by parameter name, flat.
type Found = BTreeMap<String, Tensor<1>>;

fn put<const D: usize>(found: &mut Found, name: String, value: Tensor<D>) {
    let length: usize = value.dims().iter().product();
    found.insert(name, value.reshape([length]));
}

/// The sizes of one pass.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    pos: usize,
    heads: usize,
    d_head: usize,
}

impl Sizes {
    /// `[row, head * d_head]` -> `[example * head, pos, d_head]`, contiguous: products of many
    /// small matrices then copy nothing.
    fn to_heads(self, x: Tensor<2>) -> Tensor<3> {
        let Self { batch, pos, heads, d_head } = self;
        x.reshape([batch, pos, heads, d_head]).swap_dims(1, 2).reshape([batch * heads, pos, d_head])
    }

    fn to_rows(self, x: Tensor<3>) -> Tensor<2> {
        let Self { batch, pos, heads, d_head } = self;
        x.reshape([batch, heads, pos, d_head])
            .swap_dims(1, 2)
            .reshape([batch * pos, heads * d_head])
    }

    fn by_example(self, x: Tensor<3>) -> Tensor<4> {
        x.reshape([self.batch, self.heads, self.pos, self.d_head])
    }

    fn together(self, x: Tensor<4>) -> Tensor<3> {
        x.reshape([self.batch * self.heads, self.pos, self.d_head])
    }
}

impl Transformer {
    /// The sum over all targets that count of the loss in nats, `[1]`, and the gradient of
    /// [`Targets::weight`] times it: flat, one a parameter, in the order of
    /// [`ModelConfig::parameter_shapes`]. `tokens` and `targets` are `batch` sequences of equal
    /// length, one after the other. The model's device is one without autodiff.
    ///
    /// # Panics
    /// As [`forward`](Self::forward), and if there are not as many targets as tokens.
    pub fn loss_and_gradients(
        &self,
        tokens: &[u32],
        targets: Targets<'_>,
        batch: usize,
        options: TrainingOptions,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        assert!(
            batch > 0 && tokens.len().is_multiple_of(batch),
            "{} tokens in {batch} sequences",
            tokens.len()
        );
        let Targets { tokens: targets, counted, weight } = targets;
        assert_eq!(tokens.len(), targets.len());
        let ModelConfig { n_heads: heads, d_head, .. } = self.config;
        let pass = Pass {
            model: self,
            sizes: Sizes { batch, pos: tokens.len() / batch, heads, d_head },
            bf16: options.bf16,
            mask: self.mask(tokens, batch),
            clamped: (0..self.config.n_layers).map(|l| self.clamped(l, tokens, batch)).collect(),
        };
        let copies = self.config.clamp.any_copies().then(|| self.copies_of(tokens, batch));
        let rows = tokens.len();
        let ids = self.ids(tokens);
        let targets = self.ids(targets).reshape([rows, 1]);

        let mut x = self.weights.embed.W_E.val().select(0, ids.clone());
        let mut kept = Vec::new();
        for (l, block) in self.weights.blocks.iter().enumerate() {
            let (layer, out) = pass.layer(l, block, x);
            kept.push(layer);
            x = out;
        }
        let (normed, last) = pass.norm(&self.weights.ln_final, x);
        let w_u = self.unembedding();
        let mut logits = pass.product(last.clone(), w_u.clone());
        if let Some(copies) = &copies {
            let copied = kept.iter().zip(&pass.clamped).filter_map(|(kept, clamped)| {
                Some(clamped.as_ref()?.copied(pass.whole_patterns(&kept.patterns)))
            });
            if let Some(copied) = copied.reduce(|sum, of_layer| sum + of_layer) {
                logits =
                    logits + copied.matmul(copies.clone()).reshape([rows, self.config.d_vocab]);
            }
        }
        let log_probabilities = activation::log_softmax(logits, 1);
        let mut losses = -log_probabilities.clone().gather(1, targets.clone());
        let hit = Tensor::<2>::full([rows, 1], -1.0, &self.device);
        let mut d_logits =
            log_probabilities.exp().scatter(1, targets, hit, IndexingUpdateOp::Add) * weight;
        if let Some(counted) = counted {
            let counted: Vec<f32> = counted.iter().map(|&c| f32::from(u8::from(c))).collect();
            let counted = Tensor::<2>::from_data(TensorData::new(counted, [rows, 1]), &self.device);
            losses = losses * counted.clone();
            d_logits = d_logits * counted;
        }
        let loss = losses.sum();
        let mut found = Found::new();
        let d_w_u = pass.product(last.transpose(), d_logits.clone());
        let d_copied = copies.map(|copies| {
            let d_logits = d_logits.clone().reshape([batch, rows / batch, self.config.d_vocab]);
            d_logits.matmul(copies.swap_dims(1, 2)) // [batch, query, key]
        });
        let d_last = pass.product(d_logits, w_u.transpose());
        let mut dx = pass.norm_back("ln_final", &self.weights.ln_final, normed, d_last, &mut found);
        for (l, (block, kept)) in self.weights.blocks.iter().zip(kept).enumerate().rev() {
            dx = pass.layer_back(l, block, kept, dx, d_copied.as_ref(), &mut found);
        }
        let mut d_w_e = self.embedding_gradient(ids, dx, options.one_hot_embedding);
        if self.weights.unembed.is_some() {
            put(&mut found, "unembed.W_U".into(), d_w_u);
        } else {
            d_w_e = d_w_e + d_w_u.transpose();
        }
        put(&mut found, "embed.W_E".into(), d_w_e);
        let ordered = self.config.parameter_shapes().into_iter();
        (
            loss,
            ordered
                .map(|(name, _)| found.remove(&name).expect("every parameter has a gradient"))
                .collect(),
        )
    }

    fn ids(&self, tokens: &[u32]) -> Tensor<1, Int> {
        let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
        Tensor::from_data(TensorData::new(ids, [tokens.len()]), &self.device)
    }

    fn embedding_gradient(&self, ids: Tensor<1, Int>, dx: Tensor<2>, one_hot: bool) -> Tensor<2> {
        let d_vocab = self.config.d_vocab;
        if one_hot {
            let all =
                Tensor::<1, Int>::arange(0..d_vocab as i64, &self.device).unsqueeze_dim::<2>(1);
            let rows = all.equal(ids.unsqueeze_dim::<2>(0)).float(); // [d_vocab, row]
            return rows.matmul(dx);
        }
        let none = Tensor::<2>::zeros([d_vocab, self.config.d_model], &self.device);
        none.select_assign(0, ids, dx, IndexingUpdateOp::Add)
    }
}

/// One pass over one batch.
struct Pass<'a> {
    model: &'a Transformer,
    sizes: Sizes,
    bf16: bool,
    /// `[1 or batch, 1, pos, pos]`.
    mask: Tensor<4>,
    /// One a layer.
    clamped: Vec<Option<Clamped>>,
}

impl Pass<'_> {
    fn product<const D: usize>(&self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        if self.bf16 {
            return a.cast(FloatDType::BF16).matmul(b.cast(FloatDType::BF16)).cast(FloatDType::F32);
        }
        a.matmul(b)
    }

    fn norm(&self, norm: &Option<Norm>, x: Tensor<2>) -> (Option<Normed>, Tensor<2>) {
        let Some(norm) = norm else { return (None, x) };
        let (hat, inverse) = norm.normalized(x, self.model.config.layer_norm_eps);
        let out = norm.scaled(hat.clone());
        (Some(Normed { hat, inverse }), out)
    }

    fn norm_back(
        &self,
        name: &str,
        norm: &Option<Norm>,
        normed: Option<Normed>,
        dy: Tensor<2>,
        found: &mut Found,
    ) -> Tensor<2> {
        let (Some(Norm { w, b }), Some(Normed { hat, inverse })) = (norm, normed) else {
            return dy;
        };
        put(found, format!("{name}.w"), (dy.clone() * hat.clone()).sum_dim(0));
        let centred = b.is_some();
        if centred {
            put(found, format!("{name}.b"), dy.clone().sum_dim(0));
        }
        let dy = dy * w.val().unsqueeze();
        let along = (dy.clone() * hat.clone()).mean_dim(1);
        let dy = if centred { dy.clone() - dy.mean_dim(1) } else { dy };
        (dy - hat * along) * inverse
    }

    /// Queries or keys of all heads, normed and turned; and what the way back needs.
    fn placed(&self, norm: &Option<Norm>, x: Tensor<3>) -> (Option<Normed>, Tensor<3>) {
        let [all, pos, d_head] = x.dims();
        let (normed, x) = match norm {
            None => (None, x),
            Some(_) => {
                let (normed, x) = self.norm(norm, x.reshape([all * pos, d_head]));
                (normed, x.reshape([all, pos, d_head]))
            }
        };
        let turned = match &self.model.turns {
            None => x,
            // Positions on the second axis, as the forward pass has them.
            Some(turns) => self
                .sizes
                .together(turns.turned(self.sizes.by_example(x).swap_dims(1, 2)).swap_dims(1, 2)),
        };
        (normed, turned)
    }

    /// The way back of [`placed`](Self::placed).
    fn placed_back(
        &self,
        name: &str,
        norm: &Option<Norm>,
        normed: Option<Normed>,
        dy: Tensor<3>,
        found: &mut Found,
    ) -> Tensor<3> {
        let dy = match &self.model.turns {
            None => dy,
            Some(turns) => {
                let back = turns.turned_back(self.sizes.by_example(dy).swap_dims(1, 2));
                self.sizes.together(back.swap_dims(1, 2))
            }
        };
        if norm.is_none() {
            return dy;
        }
        let [all, pos, d_head] = dy.dims();
        let dy = dy.reshape([all * pos, d_head]);
        self.norm_back(name, norm, normed, dy, found).reshape([all, pos, d_head])
    }

    /// The way back of [`side_by_side`].
    fn by_head(&self, w: Tensor<2>) -> Tensor<3> {
        let Sizes { heads, d_head, .. } = self.sizes;
        let d_model = w.dims()[0];
        w.reshape([d_model, heads, d_head]).permute([1, 0, 2])
    }

    /// Queries and keys from one product: the scaled `W_Q` beside `W_K`, `[d_model, 2 * head *
    /// d_head]`.
    fn query_key_weights(&self, attn: &Attention) -> Tensor<2> {
        let [scale, _] = self.scales(attn);
        Tensor::cat(vec![side_by_side(attn.W_Q.val()) * scale, side_by_side(attn.W_K.val())], 1)
    }

    /// What `W_Q` is multiplied by, and what queries are after their norm, if they have one: it
    /// would take away what came before.
    fn scales(&self, attn: &Attention) -> [f64; 2] {
        let scale = (self.sizes.d_head as f64).powf(-0.5);
        if attn.q_norm.is_some() { [1.0, scale] } else { [scale, 1.0] }
    }

    fn layer(&self, l: usize, block: &Block, x: Tensor<2>) -> (Kept, Tensor<2>) {
        let (sizes, attn) = (self.sizes, &block.attn);
        let Sizes { batch, pos, heads, d_head } = sizes;
        let (width, d_model) = (heads * d_head, x.dims()[1]);
        let (ln1, input) = self.norm(&block.ln1, x.clone());
        let positioned = match self.model.positions_of(attn, pos) {
            Some(at) => {
                (input.clone().reshape([batch, pos, d_model]) + at).reshape([batch * pos, d_model])
            }
            None => input.clone(),
        };
        let qk = self.product(positioned.clone(), self.query_key_weights(attn));
        let q = sizes.to_heads(qk.clone().narrow(1, 0, width));
        let (q_normed, mut q) = self.placed(&attn.q_norm, q);
        if attn.q_norm.is_some() {
            q = q * self.scales(attn)[1];
        }
        let k_raw = sizes.to_heads(qk.narrow(1, width, width));
        let (k_normed, k_raw) = self.placed(&attn.k_norm, k_raw);
        let v = sizes.to_heads(self.product(input.clone(), side_by_side(attn.W_V.val())));
        let (k, k_raw) = match &attn.smear_alpha {
            Some(_) if pos > 1 => {
                // Positions on the second axis, as the forward pass has them.
                let smeared =
                    self.model.smear(attn, sizes.by_example(k_raw.clone()).swap_dims(1, 2));
                (sizes.together(smeared.swap_dims(1, 2)), Some(k_raw))
            }
            _ => (k_raw, None),
        };
        let (patterns, read) = self.attend(l, &q, &k, &v);
        let z = match &self.clamped[l] {
            Some(clamped) => sizes.together(sizes.by_example(read.clone()) * clamped.heard.clone()),
            None => read.clone(),
        };
        let z = sizes.to_rows(z);
        let mut x = x + self.product(z.clone(), attn.W_O.val().reshape([width, d_model]));
        let mlp = block.mlp.as_ref().map(|mlp| {
            let (ln2, input) = self.norm(&block.ln2, x.clone());
            let before = self.product(input.clone(), mlp.W_in.val()) + mlp.b_in.val().unsqueeze();
            let below = ((before.clone() * 0.5f64.sqrt()).erf() + 1.0) * 0.5;
            let hidden = before.clone() * below.clone();
            x = x.clone() + self.product(hidden, mlp.W_out.val()) + mlp.b_out.val().unsqueeze();
            KeptMlp { ln2, input, before, below }
        });
        let qk_norms = [q_normed, k_normed];
        (Kept { ln1, input, positioned, qk_norms, q, k_raw, k, v, patterns, read, z, mlp }, x)
    }

    /// A layer's pattern of its blocks, `[batch, head, pos, pos]`.
    fn whole_patterns(&self, blocks: &[Tensor<3>]) -> Tensor<4> {
        let Sizes { batch, pos, heads, .. } = self.sizes;
        let whole = blocks.iter().map(|block| {
            let [all, queries, to] = block.dims();
            let after = Tensor::zeros([all, queries, pos - to], &self.model.device);
            if to == pos { block.clone() } else { Tensor::cat(vec![block.clone(), after], 2) }
        });
        Tensor::cat(whole.collect(), 1).reshape([batch, heads, pos, pos])
    }

    /// Blocks of queries with the keys that some query of theirs may see: `(from, to)`.
    fn blocks(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> + ExactSizeIterator {
        let pos = self.sizes.pos;
        (0..pos.div_ceil(QUERY_BLOCK))
            .map(move |at| (at * QUERY_BLOCK, ((at + 1) * QUERY_BLOCK).min(pos)))
    }

    fn attend(
        &self,
        l: usize,
        q: &Tensor<3>,
        k: &Tensor<3>,
        v: &Tensor<3>,
    ) -> (Vec<Tensor<3>>, Tensor<3>) {
        let Sizes { batch, heads, .. } = self.sizes;
        let (mut patterns, mut read) = (Vec::new(), Vec::new());
        for (from, to) in self.blocks() {
            let queries = to - from;
            let scores = self.product(
                q.clone().narrow(1, from, queries),
                k.clone().narrow(1, 0, to).swap_dims(1, 2),
            );
            let mask = self.mask.clone().narrow(2, from, queries).narrow(3, 0, to);
            let scores = match mask.dims()[0] {
                1 => scores + mask.reshape([1, queries, to]),
                _ => (scores.reshape([batch, heads, queries, to]) + mask).reshape([
                    batch * heads,
                    queries,
                    to,
                ]),
            };
            let mut pattern = activation::softmax(scores, 2);
            if let Some(Clamped { given, free, .. }) = &self.clamped[l] {
                let given = given.clone().narrow(2, from, queries).narrow(3, 0, to);
                let free = pattern.reshape([batch, heads, queries, to]) * free.clone();
                pattern = (free + given).reshape([batch * heads, queries, to]);
            }
            read.push(self.product(pattern.clone(), v.clone().narrow(1, 0, to)));
            patterns.push(pattern);
        }
        (patterns, Tensor::cat(read, 1))
    }

    /// Gradients of queries, keys and values. `d_copied`: the gradient of the patterns of heads that
    /// copy, `[batch, query, key]`.
    fn attend_back(
        &self,
        l: usize,
        kept: &Kept,
        d_read: Tensor<3>,
        d_copied: Option<&Tensor<3>>,
    ) -> [Tensor<3>; 3] {
        let Sizes { batch, heads, .. } = self.sizes;
        let add = |sum: Option<Tensor<3>>, part: Tensor<3>, to: usize| {
            let Some(sum) = sum else { return part };
            let [all, _, d_head] = sum.dims();
            let part = sum.clone().narrow(1, 0, to) + part;
            sum.slice_assign([0..all, 0..to, 0..d_head], part)
        };
        // What a pattern's row gains by growing altogether, which softmax does not let it.
        let along = (d_read.clone() * kept.read.clone()).sum_dim(2);
        let (mut dq, mut dk, mut dv) = (Vec::new(), None, None);
        // From the last block, which sees all keys.
        for ((from, to), pattern) in self.blocks().zip(&kept.patterns).rev() {
            let block = |x: &Tensor<3>| x.clone().narrow(1, from, to - from);
            let seen = |x: &Tensor<3>| x.clone().narrow(1, 0, to);
            let d_out = block(&d_read);
            dv = Some(add(dv, self.product(pattern.clone().swap_dims(1, 2), d_out.clone()), to));
            let d_pattern = self.product(d_out, seen(&kept.v).swap_dims(1, 2));
            let d_scores = match &self.clamped[l] {
                None => (d_pattern - block(&along)) * pattern.clone(),
                Some(Clamped { free, copies, .. }) => {
                    let by_head = |x: Tensor<3>| x.reshape([batch, heads, to - from, to]);
                    let (pattern, mut d_pattern) = (by_head(pattern.clone()), by_head(d_pattern));
                    if let Some(d_copied) = d_copied {
                        let part = d_copied.clone().narrow(1, from, to - from).narrow(2, 0, to);
                        d_pattern = d_pattern + part.unsqueeze_dim::<4>(1) * copies.clone();
                    }
                    let along = (d_pattern.clone() * pattern.clone()).sum_dim(3);
                    let d_scores = (d_pattern - along) * pattern * free.clone();
                    d_scores.reshape([batch * heads, to - from, to])
                }
            };
            dk = Some(add(dk, self.product(d_scores.clone().swap_dims(1, 2), block(&kept.q)), to));
            dq.push(self.product(d_scores, seen(&kept.k)));
        }
        dq.reverse();
        [Tensor::cat(dq, 1), dk.expect("there is a block"), dv.expect("there is a block")]
    }

    fn layer_back(
        &self,
        l: usize,
        block: &Block,
        mut kept: Kept,
        dx: Tensor<2>,
        d_copied: Option<&Tensor<3>>,
        found: &mut Found,
    ) -> Tensor<2> {
        let (sizes, attn) = (self.sizes, &block.attn);
        let Sizes { batch, pos, heads, d_head } = sizes;
        let (width, d_model) = (heads * d_head, dx.dims()[1]);
        let mut dx = dx;
        if let (Some(mlp), Some(kept)) = (&block.mlp, kept.mlp.take()) {
            let name = |name: &str| format!("blocks.{l}.mlp.{name}");
            let hidden = kept.before.clone() * kept.below.clone();
            put(found, name("W_out"), self.product(hidden.transpose(), dx.clone()));
            put(found, name("b_out"), dx.clone().sum_dim(0));
            let density = (kept.before.clone() * kept.before.clone() * -0.5).exp()
                * (2.0 * PI).sqrt().recip();
            let slope = kept.below + kept.before * density;
            let d_before = self.product(dx.clone(), mlp.W_out.val().transpose()) * slope;
            put(found, name("W_in"), self.product(kept.input.transpose(), d_before.clone()));
            put(found, name("b_in"), d_before.clone().sum_dim(0));
            let d_input = self.product(d_before, mlp.W_in.val().transpose());
            dx = dx
                + self.norm_back(&format!("blocks.{l}.ln2"), &block.ln2, kept.ln2, d_input, found);
        }
        let name = |name: &str| format!("blocks.{l}.attn.{name}");
        put(found, name("W_O"), self.product(kept.z.clone().transpose(), dx.clone()));
        let dz = sizes.to_heads(
            self.product(dx.clone(), attn.W_O.val().reshape([width, d_model]).transpose()),
        );
        let d_read = match &self.clamped[l] {
            Some(clamped) => sizes.together(sizes.by_example(dz) * clamped.heard.clone()),
            None => dz,
        };
        let [mut dq, dk, dv] = self.attend_back(l, &kept, d_read, d_copied);
        let dk = self.smear_back(attn, kept.k_raw.take(), dk, |alpha| {
            put(found, name("smear_alpha"), alpha);
        });
        let [scale, after_norm] = self.scales(attn);
        if attn.q_norm.is_some() {
            dq = dq * after_norm;
        }
        let [q_normed, k_normed] = kept.qk_norms;
        let dq = self.placed_back(&name("q_norm"), &attn.q_norm, q_normed, dq, found);
        let dk = self.placed_back(&name("k_norm"), &attn.k_norm, k_normed, dk, found);

        let d_qk = Tensor::cat(vec![sizes.to_rows(dq), sizes.to_rows(dk)], 1);
        let w_qk = self.product(kept.positioned.transpose(), d_qk.clone());
        put(found, name("W_Q"), self.by_head(w_qk.clone().narrow(1, 0, width) * scale));
        put(found, name("W_K"), self.by_head(w_qk.narrow(1, width, width)));
        let d_positioned = self.product(d_qk, self.query_key_weights(attn).transpose());
        if let Some(at) = &self.model.positions {
            let over_examples = d_positioned.clone().reshape([batch, pos, d_model]).sum_dim(0);
            let at = at.clone().narrow(1, 0, pos);
            put(found, name("pos_gain"), (over_examples * at).sum());
        }
        let dv = sizes.to_rows(dv);
        put(found, name("W_V"), self.by_head(self.product(kept.input.transpose(), dv.clone())));
        let d_input = d_positioned + self.product(dv, side_by_side(attn.W_V.val()).transpose());
        dx + self.norm_back(&format!("blocks.{l}.ln1"), &block.ln1, kept.ln1, d_input, found)
    }

    /// The gradient of keys before smearing; `alpha` is given its own.
    fn smear_back(
        &self,
        attn: &Attention,
        raw: Option<Tensor<3>>,
        dk: Tensor<3>,
        alpha: impl FnOnce(Tensor<1>),
    ) -> Tensor<3> {
        let (sizes, Sizes { batch, pos, heads, d_head }) = (self.sizes, self.sizes);
        let Some(learned) = &attn.smear_alpha else { return dk };
        let Some(raw) = raw else {
            alpha(learned.val().zeros_like());
            return dk;
        };
        let (raw, dk) = (sizes.by_example(raw), sizes.by_example(dk));
        let s = activation::sigmoid(learned.val());
        let before =
            Tensor::cat(vec![raw.clone().narrow(2, 0, 1), raw.clone().narrow(2, 0, pos - 1)], 2);
        let ds = (dk.clone() * (raw - before))
            .swap_dims(0, 1)
            .reshape([heads, batch * pos * d_head])
            .sum_dim(1);
        alpha(ds.reshape([heads]) * s.clone() * (s.clone() * -1.0 + 1.0));
        let s = s.reshape([1, heads, 1, 1]);
        let to_before = dk.clone() * (s.clone() * -1.0 + 1.0);
        // The first key is its own predecessor.
        let first = to_before.clone().narrow(2, 0, 1);
        let shifted = Tensor::cat(vec![to_before.narrow(2, 1, pos - 1), first.zeros_like()], 2);
        let own = dk * s + shifted;
        let here = [0..batch, 0..heads, 0..1, 0..d_head];
        let first = own.clone().narrow(2, 0, 1) + first;
        sizes.together(own.slice_assign(here, first))
    }
}
