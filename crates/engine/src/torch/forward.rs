//! The family's forward pass in PyTorch's operations, which records its own way back.

use std::collections::HashMap;

use induction_model::{Clamp, Hook, ModelConfig, Normalization, sinusoidal_positions};
use ndarray::ArrayView2;
use tch::{Device, Kind, Tensor};

use super::layer::{allowed, attend_to_previous, smear};
use super::taps::{Tap, tap};

/// Weights as the pass multiplies by them.
pub(super) struct Weights {
    /// `[d_vocab, d_model]`
    embed: Tensor,
    blocks: Vec<Block>,
    ln_final: Option<LayerNorm>,
    /// `[d_model, d_vocab]`
    pub(super) unembed: Tensor,
}

struct LayerNorm {
    w: Tensor,
    b: Tensor,
}

struct Block {
    ln1: Option<LayerNorm>,
    /// `[d_model, head * d_head]` each.
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// `[head * d_head, d_model]`
    o: Tensor,
    /// `[1]`, float32
    pos_gain: Tensor,
    /// `[head]`, float32
    smear_alpha: Option<Tensor>,
    ln2: Option<LayerNorm>,
    mlp: Option<Mlp>,
}

struct Mlp {
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
}

impl Weights {
    /// From `leaves` in the configuration's order and the shapes of the device.
    pub(super) fn new(config: &ModelConfig, leaves: &[Tensor]) -> Self {
        let names = config.parameter_shapes().into_iter().map(|(name, _)| name);
        let mut by_name: HashMap<String, &Tensor> = names.zip(leaves).collect();
        let mut take = |name: &str| {
            by_name.remove(name).expect("leaves are the configuration's").shallow_clone()
        };
        let normalizes = config.normalization == Normalization::LN;
        let blocks = (0..config.n_layers).map(|l| {
            let mut take = |name: &str| take(&format!("blocks.{l}.{name}"));
            let [q, k, v, o] = ["attn.W_Q", "attn.W_K", "attn.W_V", "attn.W_O"].map(&mut take);
            Block {
                q,
                k,
                v,
                o,
                pos_gain: take("attn.pos_gain"),
                smear_alpha: config.smeared_keys.then(|| take("attn.smear_alpha")),
                ln1: normalizes.then(|| LayerNorm { w: take("ln1.w"), b: take("ln1.b") }),
                ln2: (normalizes && !config.attn_only())
                    .then(|| LayerNorm { w: take("ln2.w"), b: take("ln2.b") }),
                mlp: (!config.attn_only()).then(|| {
                    let [w_in, b_in, w_out, b_out] =
                        ["mlp.W_in", "mlp.b_in", "mlp.W_out", "mlp.b_out"].map(&mut take);
                    Mlp { w_in, b_in, w_out, b_out }
                }),
            }
        });
        let blocks = blocks.collect();
        Self {
            blocks,
            embed: take("embed.W_E"),
            unembed: take("unembed.W_U"),
            ln_final: normalizes
                .then(|| LayerNorm { w: take("ln_final.w"), b: take("ln_final.b") }),
        }
    }
}

/// What the pass needs beside weights and tokens.
pub(super) struct Family {
    pub(super) config: ModelConfig,
    pub(super) device: Device,
    /// `[n_ctx, d_model]`, float32
    positions: Tensor,
}

/// Tokens on the device, and what attention makes of them.
pub(super) struct Inputs {
    /// `[batch, pos]`
    ids: Tensor,
    batch: i64,
    pos: i64,
    /// `[batch, 1, query, key]`, true where a query may read a key; nothing where all before it may
    /// be.
    allowed: Option<Tensor>,
}

impl Family {
    pub(super) fn new(config: &ModelConfig, device: Device) -> Self {
        let positions = sinusoidal_positions(config.n_ctx, config.d_model, config.position_base);
        let row: Vec<f32> = positions.iter().map(|&x| x as f32).collect();
        let positions = Tensor::from_slice(&row)
            .view([config.n_ctx as i64, config.d_model as i64])
            .to_device(device);
        Self { config: config.clone(), device, positions }
    }

    /// `[batch, pos]` ids, on the device.
    pub(super) fn ids(&self, tokens: ArrayView2<u32>) -> Tensor {
        let ids: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
        Tensor::from_slice(&ids)
            .view([tokens.nrows() as i64, tokens.ncols() as i64])
            .to_device(self.device)
    }

    pub(super) fn inputs(&self, tokens: ArrayView2<u32>) -> Inputs {
        let (batch, pos) = (tokens.nrows() as i64, tokens.ncols() as i64);
        let allowed = allowed(self.config.clamp, tokens, self.device);
        Inputs { ids: self.ids(tokens), batch, pos, allowed }
    }

    /// The residual stream below the first layer, `[batch, pos, d_model]`.
    pub(super) fn embedded(
        &self,
        weights: &Weights,
        inputs: &Inputs,
        taps: &mut dyn Tap,
    ) -> Tensor {
        tap(taps, Hook::Embed, Tensor::embedding(&weights.embed, &inputs.ids, -1, false, false))
    }

    /// What the unembedding reads of the last residual stream.
    pub(super) fn final_norm(&self, weights: &Weights, x: &Tensor) -> Tensor {
        self.layer_norm(weights.ln_final.as_ref(), x)
    }

    /// Layer `l`, from the residual stream below it to that above it.
    pub(super) fn layer(
        &self,
        l: usize,
        weights: &Weights,
        x: &Tensor,
        inputs: &Inputs,
        taps: &mut dyn Tap,
    ) -> Tensor {
        let block = &weights.blocks[l];
        let attn_out =
            self.attention(l, block, &self.layer_norm(block.ln1.as_ref(), x), inputs, taps);
        let mut x = x + tap(taps, Hook::AttnOut(l), attn_out);
        if let Some(mlp) = &block.mlp {
            let hidden = (self.layer_norm(block.ln2.as_ref(), &x).matmul(&mlp.w_in) + &mlp.b_in)
                .gelu("none");
            let mlp_out = tap(taps, Hook::MlpOut(l), hidden.matmul(&mlp.w_out) + &mlp.b_out);
            // Not in place: the way back needs what the norm read.
            x = &x + mlp_out;
        }
        tap(taps, Hook::ResidPost(l), x)
    }

    fn layer_norm(&self, layer_norm: Option<&LayerNorm>, x: &Tensor) -> Tensor {
        let Some(LayerNorm { w, b }) = layer_norm else { return x.shallow_clone() };
        x.layer_norm(
            [self.config.d_model as i64],
            Some(w),
            Some(b),
            self.config.layer_norm_eps,
            false,
        )
    }

    /// Attention on the normalized residual stream `x`, `[batch, pos, d_model]`.
    fn attention(
        &self,
        l: usize,
        block: &Block,
        x: &Tensor,
        inputs: &Inputs,
        taps: &mut dyn Tap,
    ) -> Tensor {
        let (Inputs { batch, pos, .. }, d_model) = (inputs, self.config.d_model as i64);
        let (heads, d_head) = (self.config.n_heads as i64, self.config.d_head as i64);
        // Positions go to queries and keys only, never to values or the residual stream (paper.md,
        // 1.2).
        let placed = x + (self.positions.narrow(0, 0, *pos) * &block.pos_gain).to_kind(x.kind());
        let per_head = |x: &Tensor, w: &Tensor| x.matmul(w).view([*batch, *pos, heads, d_head]);
        let q = tap(taps, Hook::Q(l), per_head(&placed, &block.q));
        let k =
            tap(taps, Hook::K(l), smear(block.smear_alpha.as_ref(), per_head(&placed, &block.k)));
        let v = tap(taps, Hook::V(l), per_head(x, &block.v));
        let [q, k, v] = [q, k, v].map(|y| y.transpose(1, 2)); // [batch, head, pos, d_head]
        let z = self.read(l, &q, &k, &v, inputs, taps).transpose(1, 2);
        let z = tap(taps, Hook::Z(l), z);
        z.reshape([batch * pos, heads * d_head]).matmul(&block.o).view([*batch, *pos, d_model])
    }

    /// What heads read, `[batch, head, pos, d_head]`, as are its arguments.
    fn read(
        &self,
        l: usize,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        inputs: &Inputs,
        taps: &mut dyn Tap,
    ) -> Tensor {
        let clamped = match self.config.clamp {
            Some(Clamp::PreviousToken { layer, head }) if layer == l => Some(head as i64),
            _ => None,
        };
        if taps.wants(Hook::Pattern(l)) {
            let scores = (q * (self.config.d_head as f64).powf(-0.5)).matmul(&k.transpose(2, 3));
            let before =
                || Tensor::ones([inputs.pos, inputs.pos], (Kind::Bool, self.device)).tril(0);
            let allowed = inputs.allowed.as_ref().map_or_else(before, Tensor::shallow_clone);
            let pattern =
                scores.masked_fill(&allowed.logical_not(), f64::NEG_INFINITY).softmax(3, None);
            if let Some(head) = clamped {
                attend_to_previous(&pattern, head);
            }
            return taps.at(Hook::Pattern(l), pattern).matmul(v);
        }
        // Nobody needs the pattern: PyTorch's own attention, which does not write it down.
        let z = Tensor::scaled_dot_product_attention(
            q,
            k,
            v,
            inputs.allowed.as_ref(),
            0.0,
            inputs.allowed.is_none(),
            None,
            false,
        );
        let Some(head) = clamped else { return z };
        let v = v.narrow(1, head, 1);
        let previous = Tensor::cat(&[v.narrow(2, 0, 1), v.narrow(2, 0, inputs.pos - 1)], 2);
        let after = self.config.n_heads as i64 - head - 1;
        Tensor::cat(&[z.narrow(1, 0, head), previous, z.narrow(1, head + 1, after)], 1)
    }
}
