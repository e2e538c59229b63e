// Field names are TransformerLens' parameter names, so that a parameter's module path is its name
// in every file.
#![allow(non_snake_case)]

mod backward;
mod turns;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{
        Device, Gradients, Int, Tensor, TensorData, activation,
        module::{attention, embedding},
        ops::AttentionModuleOptions,
    },
};
use ndarray::{ArrayD, IxDyn};

pub use self::backward::{Targets, TrainingOptions};
use self::turns::Turns;
use crate::{
    Clamps, Error, ForbiddenKeys, Hook, ModelConfig, Normalization, Params, Positions, QkNorm,
    sinusoidal_positions,
};

/// Added to the attention scores of later positions: small enough that its exponential is exactly 0
/// in float32, finite so that no subtraction of infinities can make a NaN.
const MASKED: f32 = -1e9;

/// Sees, and may replace, the activations at the hook points it asks for.
///
/// The forward pass calls it only where [`wants`](Tap::wants) says so: what is not asked for costs
/// nothing.
pub trait Tap {
    /// Whether the activation at `hook` should be shown.
    fn wants(&self, hook: Hook) -> bool;
    /// An activation of rank 3, `[batch, pos, d_model]`; the returned value takes its place.
    fn rank3(&mut self, hook: Hook, value: Tensor<3>) -> Tensor<3>;
    /// An activation of rank 4, in the shape that [`Hook`] gives; the returned value takes its
    /// place.
    fn rank4(&mut self, hook: Hook, value: Tensor<4>) -> Tensor<4>;
    /// Whether a head is to write nothing, which one that a clamp makes copy has to be told: it does
    /// not write what it reads.
    fn zeroes(&self, layer: usize, head: usize) -> bool {
        let _ = (layer, head);
        false
    }
}

/// A [`Tap`] that wants nothing.
struct NoTap;

impl Tap for NoTap {
    fn wants(&self, _: Hook) -> bool {
        false
    }
    fn rank3(&mut self, _: Hook, value: Tensor<3>) -> Tensor<3> {
        value
    }
    fn rank4(&mut self, _: Hook, value: Tensor<4>) -> Tensor<4> {
        value
    }
}

#[derive(Module, Debug)]
struct Embed {
    W_E: Param<Tensor<2>>,
}

#[derive(Module, Debug)]
struct Unembed {
    W_U: Param<Tensor<2>>,
}

/// A gain, and of layer norm a bias: of root mean squares there is none, nor are they centred.
#[derive(Module, Debug)]
struct Norm {
    w: Param<Tensor<1>>,
    b: Option<Param<Tensor<1>>>,
}

#[derive(Module, Debug)]
struct Attention {
    W_Q: Param<Tensor<3>>,
    W_K: Param<Tensor<3>>,
    W_V: Param<Tensor<3>>,
    /// Of each head's queries and keys.
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    W_O: Param<Tensor<3>>,
    pos_gain: Option<Param<Tensor<1>>>,
    smear_alpha: Option<Param<Tensor<1>>>,
}

#[derive(Module, Debug)]
struct Mlp {
    W_in: Param<Tensor<2>>,
    b_in: Param<Tensor<1>>,
    W_out: Param<Tensor<2>>,
    b_out: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
struct Block {
    ln1: Option<Norm>,
    attn: Attention,
    ln2: Option<Norm>,
    mlp: Option<Mlp>,
}

/// The learned part of a model, as a burn module. Every parameter's path is its TransformerLens
/// name.
#[derive(Module, Debug)]
struct Weights {
    embed: Embed,
    blocks: Vec<Block>,
    ln_final: Option<Norm>,
    /// Where it is not the embedding's.
    unembed: Option<Unembed>,
}

/// A model that can be trained, on one device.
#[derive(Debug)]
pub struct Transformer {
    config: ModelConfig,
    weights: Weights,
    device: Device,
    /// `[1, n_ctx, d_model]`, which are added to what queries and keys are made of.
    positions: Option<Tensor<3>>,
    turns: Option<Turns>,
    /// `[1, 1, n_ctx, n_ctx]`: 0 on and below the diagonal, [`MASKED`] above.
    causal_mask: Tensor<4>,
}

impl Transformer {
    /// The model with these weights, on `device` (made with `.autodiff()` if gradients are wanted).
    ///
    /// # Errors
    /// An invalid configuration, or parameters that are not its own.
    pub fn from_params(
        config: &ModelConfig,
        params: &Params,
        device: &Device,
    ) -> Result<Self, Error> {
        config.validate()?;
        config.require_trainable("running on a burn device")?;
        let n_ctx = config.n_ctx;
        let (positions, turns) = match &config.architecture.positions {
            Positions::Rotary(rotary) => (None, Some(Turns::new(rotary, config, device))),
            _ => {
                let table = sinusoidal_positions(n_ctx, config.d_model, config.position_base);
                let table: Vec<f32> = table.iter().map(|&x| x as f32).collect();
                let table = TensorData::new(table, [1, n_ctx, config.d_model]);
                (Some(Tensor::from_data(table, device)), None)
            }
        };
        let mask = (0..n_ctx * n_ctx)
            .map(|at| if at % n_ctx > at / n_ctx { MASKED } else { 0.0 })
            .collect();
        Ok(Self {
            config: config.clone(),
            weights: Weights::new(config, params, device)?,
            device: device.clone(),
            positions,
            turns,
            causal_mask: Tensor::from_data(
                TensorData::new::<f32, _>(mask, [1, 1, n_ctx, n_ctx]),
                device,
            ),
        })
    }

    /// Replaces all weights.
    ///
    /// # Errors
    /// Parameters that are not this configuration's.
    pub fn set_params(&mut self, params: &Params) -> Result<(), Error> {
        self.weights = Weights::new(&self.config, params, &self.device)?;
        Ok(())
    }

    /// Replaces all weights by those in `flat`, one parameter after the other in the
    /// configuration's order, on this model's device.
    ///
    /// # Panics
    /// If there are too few.
    pub fn set_flat(&mut self, flat: &Tensor<1>) {
        let mut end = 0;
        let shapes = self.config.parameter_shapes().into_iter();
        let at = shapes.map(|(name, shape)| {
            let begin = end;
            end += shape.iter().product::<usize>();
            (name, begin)
        });
        let mut visitor = Flat { path: Vec::new(), at: at.collect(), flat };
        self.weights = self.weights.clone().map(&mut visitor);
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Logits `[batch, pos, d_vocab]` of `batch` sequences of equal length, one after the other in
    /// `tokens`.
    ///
    /// # Panics
    /// If the tokens do not divide into `batch` sequences of at most `n_ctx`, or an id is not below
    /// `d_vocab` (an engine checks both and returns an error).
    pub fn forward(&self, tokens: &[u32], batch: usize) -> Tensor<3> {
        self.forward_with(tokens, batch, &mut NoTap)
    }

    /// [`forward`](Self::forward), with the activations at hook points shown to `tap` and replaced
    /// by what it returns.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_with(&self, tokens: &[u32], batch: usize, tap: &mut dyn Tap) -> Tensor<3> {
        assert!(
            batch > 0 && tokens.len().is_multiple_of(batch),
            "{} tokens in {batch} sequences",
            tokens.len()
        );
        let pos = tokens.len() / batch;
        assert!(
            pos > 0 && pos <= self.config.n_ctx,
            "{pos} positions in a context of {}",
            self.config.n_ctx
        );
        let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, pos]), &self.device);

        let mut x = tap3(tap, Hook::Embed, embedding(self.weights.embed.W_E.val(), ids)); // [batch, pos, d_model]
        let mask = self.mask(tokens, batch);
        let mut copied: Option<Tensor<3>> = None;
        for (l, block) in self.weights.blocks.iter().enumerate() {
            let clamped = self.clamped(l, tokens, batch);
            let (attn_out, patterns) = self.attention(
                l,
                &block.attn,
                self.norm(&block.ln1, x.clone()),
                &mask,
                clamped.as_ref(),
                tap,
            );
            if let (Some(clamped), Some(patterns)) = (clamped, patterns) {
                let kept = (0..self.config.n_heads).map(|h| f32::from(u8::from(!tap.zeroes(l, h))));
                let kept =
                    TensorData::new(kept.collect::<Vec<_>>(), [1, self.config.n_heads, 1, 1]);
                let of_layer = clamped.copied(patterns * Tensor::from_data(kept, &self.device));
                copied = Some(copied.map_or(of_layer.clone(), |sum| sum + of_layer));
            }
            x = x + tap3(tap, Hook::AttnOut(l), attn_out);
            if let Some(mlp) = &block.mlp {
                let mlp_out = mlp.forward(self.norm(&block.ln2, x.clone()));
                x = x + tap3(tap, Hook::MlpOut(l), mlp_out);
            }
            x = tap3(tap, Hook::ResidPost(l), x);
        }
        let logits = project(self.norm(&self.weights.ln_final, x), self.unembedding());
        match copied {
            Some(copied) if self.config.clamp.any_copies() => {
                logits + copied.matmul(self.copies_of(tokens, batch))
            }
            _ => logits,
        }
    }

    /// Replaces the constraints on heads.
    ///
    /// # Errors
    /// Clamps that do not fit the model, or each other.
    pub fn set_clamps(&mut self, clamps: &Clamps) -> Result<(), Error> {
        let config = ModelConfig { clamp: clamps.clone(), ..self.config.clone() };
        config.validate()?;
        self.config = config;
        Ok(())
    }

    /// Gradients of every parameter after a backward pass; zero where a parameter took no part.
    pub fn gradients(&self, gradients: &Gradients) -> Params {
        let mut visitor = Collect { path: Vec::new(), gradients, found: Default::default() };
        self.weights.visit(&mut visitor);
        Params::from_fn(&self.config, |name, shape| {
            visitor.found.remove(name).unwrap_or_else(|| ArrayD::zeros(IxDyn(shape)))
        })
    }

    fn norm<const D: usize>(&self, norm: &Option<Norm>, x: Tensor<D>) -> Tensor<D> {
        let Some(norm) = norm else { return x };
        let (hat, _) = norm.normalized(x, self.config.layer_norm_eps);
        norm.scaled(hat)
    }

    /// `[d_model, d_vocab]`
    fn unembedding(&self) -> Tensor<2> {
        match &self.weights.unembed {
            Some(unembed) => unembed.W_U.val(),
            None => self.weights.embed.W_E.val().transpose(),
        }
    }

    /// Whether queries lack more keys than those after them.
    fn forbids(&self) -> bool {
        self.config.clamp.forbid()
    }

    /// What is added to the scores: `[1 or batch, 1, pos, pos]`.
    fn mask(&self, tokens: &[u32], batch: usize) -> Tensor<4> {
        let pos = tokens.len() / batch;
        let causal = self.causal_mask.clone().slice([0..1, 0..1, 0..pos, 0..pos]);
        if !self.forbids() {
            return causal;
        }
        let mut forbidden = vec![0f32; batch * pos * pos];
        for (tokens, out) in tokens.chunks_exact(pos).zip(forbidden.chunks_exact_mut(pos * pos)) {
            let keys = ForbiddenKeys::new(&self.config.clamp, tokens);
            for (query, row) in out.chunks_exact_mut(pos).enumerate() {
                keys.of(query).iter().for_each(|&key| row[key as usize] = MASKED);
            }
        }
        Tensor::from_data(TensorData::new(forbidden, [batch, 1, pos, pos]), &self.device) + causal
    }

    /// What clamps make of the heads of a layer; nothing where all are free. `tokens` are `batch`
    /// sequences, one after the other.
    fn clamped(&self, l: usize, tokens: &[u32], batch: usize) -> Option<Clamped> {
        let (clamps, heads, pos) = (&self.config.clamp, self.config.n_heads, tokens.len() / batch);
        if !clamps.any_in(l) {
            return None;
        }
        let flags = |flag: &dyn Fn(usize) -> bool| {
            let flags: Vec<f32> = (0..heads).map(|h| f32::from(u8::from(flag(h)))).collect();
            Tensor::from_data(TensorData::new(flags, [1, heads, 1, 1]), &self.device)
        };
        let (mut given, mut sources) = (vec![0f32; batch * heads * pos * pos], Vec::new());
        for (at, rows) in given.chunks_exact_mut(pos * pos).enumerate() {
            let Some(kind) = clamps.given(l, at % heads) else { continue };
            kind.sources(&tokens[at / heads * pos..][..pos], &mut sources);
            for (row, &source) in rows.chunks_exact_mut(pos).zip(&sources) {
                row[source as usize] = 1.0;
            }
        }
        Some(Clamped {
            given: Tensor::from_data(
                TensorData::new(given, [batch, heads, pos, pos]),
                &self.device,
            ),
            free: flags(&|h| clamps.given(l, h).is_none()),
            heard: flags(&|h| !clamps.silent(l, h)),
            copies: flags(&|h| clamps.copies(l, h)),
        })
    }

    /// The tokens as rows, times what a copied token's logit gains, `[batch, pos, d_vocab]`.
    fn copies_of(&self, tokens: &[u32], batch: usize) -> Tensor<3> {
        let (pos, d_vocab) = (tokens.len() / batch, self.config.d_vocab);
        let mut rows = vec![0f32; tokens.len() * d_vocab];
        for (row, &token) in rows.chunks_exact_mut(d_vocab).zip(tokens) {
            row[token as usize] = (d_vocab as f32).ln();
        }
        Tensor::from_data(TensorData::new(rows, [batch, pos, d_vocab]), &self.device)
    }

    /// One attention layer on the normalized residual stream `x`, `[batch, pos, d_model]`; and the
    /// patterns of a layer with clamped heads.
    fn attention(
        &self,
        l: usize,
        attn: &Attention,
        x: Tensor<3>,
        mask: &Tensor<4>,
        clamped: Option<&Clamped>,
        tap: &mut dyn Tap,
    ) -> (Tensor<3>, Option<Tensor<4>>) {
        let [batch, pos, d_model] = x.dims();
        let (heads, d_head) = (self.config.n_heads, self.config.d_head);
        // Positions go to queries and keys only, never to values or the residual stream (paper.md,
        // 1.2).
        let with_positions = match self.positions_of(attn, pos) {
            Some(at) => x.clone() + at,
            None => x.clone(),
        };
        // [batch, pos, d_model] x [head, d_model, d_head] -> [batch, pos, head, d_head], as one
        // matrix product
        let per_head = |x: Tensor<3>, w: &Param<Tensor<3>>| {
            project(x, side_by_side(w.val())).reshape([batch, pos, heads, d_head])
        };
        let turned = |x: Tensor<4>| match &self.turns {
            Some(turns) => turns.turned(x),
            None => x,
        };
        let q = self.norm(&attn.q_norm, per_head(with_positions.clone(), &attn.W_Q));
        let q = tap4(tap, Hook::Q(l), turned(q));
        let k = turned(self.norm(&attn.k_norm, per_head(with_positions, &attn.W_K)));
        let k = tap4(tap, Hook::K(l), self.smear(attn, k));
        let v = tap4(tap, Hook::V(l), per_head(x, &attn.W_V));

        let by_head = |y: Tensor<4>| y.swap_dims(1, 2); // [batch, head, pos, d_head]
        let (z, patterns) = self.read(l, by_head(q), by_head(k), by_head(v), mask, clamped, tap);
        let z = tap4(tap, Hook::Z(l), by_head(z)); // [batch, pos, head, d_head]
        let out = project(
            z.reshape([batch, pos, heads * d_head]),
            attn.W_O.val().reshape([heads * d_head, d_model]),
        );
        (out, patterns)
    }

    /// What is added to what the first `pos` queries and keys are made of, `[1, pos, d_model]`.
    fn positions_of(&self, attn: &Attention, pos: usize) -> Option<Tensor<3>> {
        let (at, gain) = self.positions.as_ref().zip(attn.pos_gain.as_ref())?;
        Some(at.clone().narrow(1, 0, pos) * gain.val().unsqueeze::<3>())
    }

    /// `k_j <- s k_j + (1 - s) k_{j-1}` with `s = sigmoid(alpha)`, one `alpha` a head; `k_0` stays
    /// (paper.md, 1.4).
    fn smear(&self, attn: &Attention, k: Tensor<4>) -> Tensor<4> {
        let Some(alpha) = &attn.smear_alpha else { return k };
        let [_, pos, heads, _] = k.dims();
        if pos == 1 {
            return k; // k_0 has no predecessor
        }
        let s = activation::sigmoid(alpha.val()).reshape([1, 1, heads, 1]);
        let before =
            Tensor::cat(vec![k.clone().narrow(1, 0, 1), k.clone().narrow(1, 0, pos - 1)], 1);
        before.clone() + (k - before) * s
    }

    /// Causal softmax attention: `[batch, head, pos, d_head]` each, in and out; and the patterns of a
    /// layer with clamped heads.
    #[expect(clippy::too_many_arguments, reason = "what attention is made of")]
    fn read(
        &self,
        l: usize,
        q: Tensor<4>,
        k: Tensor<4>,
        v: Tensor<4>,
        mask: &Tensor<4>,
        clamped: Option<&Clamped>,
        tap: &mut dyn Tap,
    ) -> (Tensor<4>, Option<Tensor<4>>) {
        if clamped.is_some() || tap.wants(Hook::Pattern(l)) {
            let scores = (q * (self.config.d_head as f64).powf(-0.5)).matmul(k.swap_dims(2, 3))
                + mask.clone();
            let pattern = activation::softmax(scores, 3);
            let pattern = match clamped {
                Some(Clamped { given, free, .. }) => pattern * free.clone() + given.clone(),
                None => pattern,
            };
            let pattern = tap4(tap, Hook::Pattern(l), pattern);
            let z = pattern.clone().matmul(v);
            return match clamped {
                Some(clamped) => (z * clamped.heard.clone(), Some(pattern)),
                None => (z, None),
            };
        }
        // Nobody needs the pattern: the device's own attention, which need not write it down.
        let z = if self.forbids() {
            let mask = mask.clone().repeat_dim(1, self.config.n_heads);
            attention(q, k, v, None, Some(mask), AttentionModuleOptions::default())
        } else {
            let causal =
                AttentionModuleOptions { is_causal: true, ..AttentionModuleOptions::default() };
            attention(q, k, v, None, None, causal)
        };
        (z, None)
    }
}

/// What clamps make of a layer's heads; each flag 1 or 0, `[1, head, 1, 1]`.
#[derive(Clone)]
struct Clamped {
    /// `[batch, head, pos, pos]`, 0 for heads whose patterns are free.
    given: Tensor<4>,
    free: Tensor<4>,
    /// Whether what a head reads is written.
    heard: Tensor<4>,
    copies: Tensor<4>,
}

impl Clamped {
    /// The attention of all heads that copy, together: `[batch, pos, pos]`.
    fn copied(&self, patterns: Tensor<4>) -> Tensor<3> {
        let [batch, _, pos, _] = patterns.dims();
        (patterns * self.copies.clone()).sum_dim(1).reshape([batch, pos, pos])
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = activation::gelu(project(x, self.W_in.val()) + self.b_in.val().unsqueeze());
        project(hidden, self.W_out.val()) + self.b_out.val().unsqueeze()
    }
}

/// `[batch, pos, n] x [n, m] -> [batch, pos, m]` as one flat matrix product.
fn project(x: Tensor<3>, w: Tensor<2>) -> Tensor<3> {
    let [batch, pos, n] = x.dims();
    let m = w.dims()[1];
    x.reshape([batch * pos, n]).matmul(w).reshape([batch, pos, m])
}

/// `[head, d_model, d_head] -> [d_model, head * d_head]`: all heads from one matrix product.
fn side_by_side(w: Tensor<3>) -> Tensor<2> {
    let [heads, d_model, d_head] = w.dims();
    w.permute([1, 0, 2]).reshape([d_model, heads * d_head])
}

impl Norm {
    /// `x` with mean 0 and variance 1 along its last axis, and the inverse of the standard deviation
    /// that it had; where there is no bias, of its root mean square, and the mean stays.
    fn normalized<const D: usize>(&self, x: Tensor<D>, eps: f64) -> (Tensor<D>, Tensor<D>) {
        let x = if self.b.is_some() { x.clone() - x.mean_dim(D - 1) } else { x };
        let variance = (x.clone() * x.clone()).mean_dim(D - 1);
        let inverse = (variance + eps).sqrt().recip();
        (x * inverse.clone(), inverse)
    }

    fn scaled<const D: usize>(&self, hat: Tensor<D>) -> Tensor<D> {
        let scaled = hat * self.w.val().unsqueeze();
        match &self.b {
            Some(b) => scaled + b.val().unsqueeze(),
            None => scaled,
        }
    }
}

fn tap3(tap: &mut dyn Tap, hook: Hook, value: Tensor<3>) -> Tensor<3> {
    if tap.wants(hook) { tap.rank3(hook, value) } else { value }
}

fn tap4(tap: &mut dyn Tap, hook: Hook, value: Tensor<4>) -> Tensor<4> {
    if tap.wants(hook) { tap.rank4(hook, value) } else { value }
}

impl Weights {
    fn new(config: &ModelConfig, params: &Params, device: &Device) -> Result<Self, Error> {
        let source = Source { params, device };
        let gain = |name: &str, width: usize| source.take(&format!("{name}.w"), [width]);
        let norm = |name: &str| -> Result<Option<Norm>, Error> {
            let b = match config.normalization {
                Normalization::None => return Ok(None),
                Normalization::RMS => None,
                Normalization::LN => Some(source.take(&format!("{name}.b"), [config.d_model])?),
            };
            Ok(Some(Norm { w: gain(name, config.d_model)?, b }))
        };
        let head_norm = |name: &str| -> Result<Option<Norm>, Error> {
            match config.architecture.qk_norm {
                QkNorm::None => Ok(None),
                _ => Ok(Some(Norm { w: gain(name, config.d_head)?, b: None })),
            }
        };
        let sinusoidal = config.architecture.positions == Positions::Sinusoidal;
        let ModelConfig { d_model, n_heads, d_head, d_mlp, d_vocab, .. } = *config;
        let block = |l: usize| -> Result<Block, Error> {
            let attn = |name: &str| format!("blocks.{l}.attn.{name}");
            let mlp = |name: &str| format!("blocks.{l}.mlp.{name}");
            Ok(Block {
                ln1: norm(&format!("blocks.{l}.ln1"))?,
                attn: Attention {
                    W_Q: source.take(&attn("W_Q"), [n_heads, d_model, d_head])?,
                    W_K: source.take(&attn("W_K"), [n_heads, d_model, d_head])?,
                    W_V: source.take(&attn("W_V"), [n_heads, d_model, d_head])?,
                    q_norm: head_norm(&attn("q_norm"))?,
                    k_norm: head_norm(&attn("k_norm"))?,
                    W_O: source.take(&attn("W_O"), [n_heads, d_head, d_model])?,
                    pos_gain: sinusoidal
                        .then(|| source.take(&attn("pos_gain"), [1]))
                        .transpose()?,
                    smear_alpha: config
                        .smeared_keys
                        .then(|| source.take(&attn("smear_alpha"), [n_heads]))
                        .transpose()?,
                },
                ln2: if d_mlp > 0 { norm(&format!("blocks.{l}.ln2"))? } else { None },
                mlp: if d_mlp > 0 {
                    Some(Mlp {
                        W_in: source.take(&mlp("W_in"), [d_model, d_mlp])?,
                        b_in: source.take(&mlp("b_in"), [d_mlp])?,
                        W_out: source.take(&mlp("W_out"), [d_mlp, d_model])?,
                        b_out: source.take(&mlp("b_out"), [d_model])?,
                    })
                } else {
                    None
                },
            })
        };
        Ok(Self {
            embed: Embed { W_E: source.take("embed.W_E", [d_vocab, d_model])? },
            blocks: (0..config.n_layers).map(block).collect::<Result<_, _>>()?,
            ln_final: norm("ln_final")?,
            unembed: match config.architecture.tied_embeddings {
                true => None,
                false => Some(Unembed { W_U: source.take("unembed.W_U", [d_model, d_vocab])? }),
            },
        })
    }
}

struct Source<'a> {
    params: &'a Params,
    device: &'a Device,
}

impl Source<'_> {
    fn take<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Param<Tensor<D>>, Error> {
        let value = self.params.get(name).ok_or_else(|| Error::MissingParameter {
            name: name.to_string(),
            shape: shape.to_vec(),
        })?;
        if value.shape() != shape {
            return Err(Error::Shape {
                name: name.to_string(),
                found: value.shape().to_vec(),
                expected: shape.to_vec(),
            });
        }
        Ok(Param::from_data(
            TensorData::new(value.iter().copied().collect::<Vec<f32>>(), shape),
            self.device,
        ))
    }
}

/// Takes each parameter out of one long row.
struct Flat<'a> {
    path: Vec<String>,
    at: std::collections::HashMap<String, usize>,
    flat: &'a Tensor<1>,
}

impl ModuleMapper for Flat<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let at = self.at[&self.path.join(".")];
        param.map(|old| {
            let shape = old.dims();
            self.flat.clone().narrow(0, at, shape.iter().product()).reshape(shape)
        })
    }
}

/// Reads each parameter's gradient, under its path.
struct Collect<'a> {
    path: Vec<String>,
    gradients: &'a Gradients,
    found: std::collections::HashMap<String, ArrayD<f32>>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let shape = gradient.dims();
            let data = gradient.try_into_vec_as::<f32>().expect("parameters are float32");
            let value = ArrayD::from_shape_vec(IxDyn(&shape), data).expect("data fills its shape");
            self.found.insert(self.path.join("."), value);
        }
    }
}
