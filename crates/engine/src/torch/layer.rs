//! A layer of any architecture, in PyTorch's operations; and what begins and ends a model.

use std::{collections::HashMap, ops::Range};

use induction_model::{
    Activation, Axes, Clamps, Experts, ForbiddenKeys, Given, Hook, ModelConfig, Normalization,
    Pairs, Positions, QkNorm, ReadParams, Rotary, alibi_slopes, sinusoidal_positions,
};
use ndarray::{ArrayD, ArrayView2};
use tch::{Device, Kind, Tensor};

use super::{
    decode,
    taps::{Tap, tap, upload},
};
use crate::Error;

/// Parameters by their names without the layer; all heads side by side, so that one product serves
/// them. Those of a block, or those that come after the last.
pub(super) struct Weights(HashMap<&'static str, Tensor>);

impl Weights {
    /// Of a block, on the device, its matrices as `kind`.
    pub(super) fn read(
        config: &ModelConfig,
        weights: &dyn ReadParams,
        layer: usize,
        kind: Kind,
        device: Device,
    ) -> Result<Self, Error> {
        let mut block = HashMap::new();
        for parameter in config.block_parameters() {
            let name = format!("blocks.{layer}.{}", parameter.name);
            let columns = match (parameter.axes, parameter.shape.as_slice()) {
                (Axes::HeadsRead, &[heads, _, d_head]) => heads * d_head,
                (Axes::HeadsWrite, &[.., columns]) | (Axes::Matrix, &[_, columns]) => columns,
                _ => 0,
            };
            // A router decides by small differences.
            let kind = if parameter.name == "mlp.W_router" { Kind::Float } else { kind };
            if columns > 0
                && let Some(rows) = decoded_rows(weights, &name, 0..columns, kind, device)?
            {
                block.insert(parameter.name, rows.transpose(0, 1));
                continue;
            }
            let value = uploaded(&weights.parameter(&name)?, device);
            let value = match (parameter.axes, value.size().as_slice()) {
                (Axes::HeadsRead, &[heads, input, d_head]) => {
                    value.permute([1, 0, 2]).reshape([input, heads * d_head])
                }
                (Axes::HeadsWrite, &[heads, d_head, output]) => {
                    value.view([heads * d_head, output])
                }
                (Axes::HeadsBias, _) => value.flatten(0, 1),
                _ => value,
            };
            let value = if value.dim() > 1 { value.to_kind(kind) } else { value };
            block.insert(parameter.name, value);
        }
        Ok(Self(block))
    }

    /// What comes after the last block, without the unembedding's matrix.
    pub(super) fn read_after(
        config: &ModelConfig,
        weights: &dyn ReadParams,
        device: Device,
    ) -> Result<Self, Error> {
        let names = config.parameters_after().into_iter().map(|parameter| parameter.name);
        let read = |name| Ok((name, uploaded(&weights.parameter(name)?, device)));
        Ok(Self(names.filter(|&name| name != W_U).map(read).collect::<Result<_, Error>>()?))
    }

    /// Those of a block, or without a layer those after the last, by what `tensor` has for each
    /// name.
    pub(super) fn of(
        config: &ModelConfig,
        layer: Option<usize>,
        tensor: impl Fn(&str) -> Tensor,
    ) -> Self {
        let (parameters, before) = match layer {
            Some(layer) => (config.block_parameters(), format!("blocks.{layer}.")),
            None => (config.parameters_after(), String::new()),
        };
        let named = |name: &'static str| (name, tensor(&format!("{before}{name}")));
        Self(parameters.into_iter().map(|parameter| named(parameter.name)).collect())
    }

    pub(super) fn shallow_clone(&self) -> Self {
        Self(self.0.iter().map(|(&name, value)| (name, value.shallow_clone())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// `x W` in the matrix's format, and the bias if there is one.
    fn product(&self, x: &Tensor, weight: &str, bias: &str) -> Tensor {
        let weight = &self.0[weight];
        let product = x.to_kind(weight.kind()).matmul(weight);
        match self.get(bias) {
            Some(bias) => product + bias,
            None => product,
        }
    }
}

/// The unembedding's matrix.
pub(super) const W_U: &str = "unembed.W_U";

/// Columns of a parameter as rows, decoded on the device; nothing where their file's encoding is
/// not all that there is to know, or a value is not finite, which is told by whoever reads all.
pub(super) fn decoded_rows(
    weights: &dyn ReadParams,
    name: &str,
    columns: Range<usize>,
    kind: Kind,
    device: Device,
) -> Result<Option<Tensor>, Error> {
    let Some(encoded) = weights.encoded_columns(name, columns)? else { return Ok(None) };
    if !decode::is_known(encoded.encoding) {
        return Ok(None);
    }
    let rows = decode::decoded(&encoded, kind, device);
    let is_finite = rows.isfinite().all();
    Ok((is_finite.int64_value(&[]) == 1).then_some(rows))
}

pub(super) fn uploaded(value: &ArrayD<f32>, device: Device) -> Tensor {
    let shape: Vec<i64> = value.shape().iter().map(|&n| n as i64).collect();
    match value.as_slice() {
        Some(row) => upload(row, device).view(shape.as_slice()),
        None => upload(&value.iter().copied().collect::<Vec<_>>(), device).view(shape.as_slice()),
    }
}

/// What is there once for all layers.
pub(super) struct Frame {
    pub(super) config: ModelConfig,
    pub(super) device: Device,
    /// `[n_ctx, d_model]`: sinusoids, or learned vectors.
    positions: Option<Tensor>,
    /// Cosines and sines `[n_ctx, dim / 2]` of the layers' rotary positions, and of the others'.
    turns: [Option<[Tensor; 2]>; 2],
    /// `[head, 1, 1]`
    slopes: Option<Tensor>,
}

/// Sequences of one length on their way, and what attention makes of their tokens.
pub(super) struct Sequences {
    pub(super) batch: i64,
    pub(super) pos: i64,
    /// `[batch, 1, query, key]`, true where a query may read a key; nothing where all before it may
    /// be.
    pub(super) allowed: Option<Tensor>,
    /// The position that each query of a clamped head attends to, `[batch, pos]`, of each kind of
    /// [`Given`]; nothing of those that no clamp gives.
    pub(super) sources: [Option<Tensor>; 2],
}

impl Frame {
    pub(super) fn read(
        config: &ModelConfig,
        weights: &dyn ReadParams,
        device: Device,
    ) -> Result<Self, Error> {
        let read = |name: &str| Ok::<_, Error>(uploaded(&weights.parameter(name)?, device));
        let (n_ctx, d_model) = (config.n_ctx as i64, config.d_model as i64);
        let positions = match config.architecture.positions {
            Positions::Sinusoidal => {
                let rows = sinusoidal_positions(config.n_ctx, config.d_model, config.position_base);
                let rows: Vec<f32> = rows.iter().map(|&x| x as f32).collect();
                Some(upload(&rows, device).view([n_ctx, d_model]))
            }
            Positions::Learned | Positions::Shortformer => Some(read("pos_embed.W_pos")?),
            Positions::Rotary(_) | Positions::Alibi => None,
        };
        let turns_of = |rotary: &Rotary| turns(rotary, config.n_ctx, device);
        let rotary = match &config.architecture.positions {
            Positions::Rotary(rotary) => Some(turns_of(rotary)),
            _ => None,
        };
        let other = config.architecture.other_positions.as_ref();
        let other = other.and_then(|other| other.rotary.as_ref()).map(turns_of);
        let slopes = (config.architecture.positions == Positions::Alibi).then(|| {
            let slopes: Vec<f32> =
                alibi_slopes(config.n_heads).into_iter().map(|x| x as f32).collect();
            upload(&slopes, device).view([-1, 1, 1])
        });
        let (config, turns) = (config.clone(), [rotary, other]);
        Ok(Self { config, device, positions, turns, slopes })
    }

    /// `[batch, pos]` ids, on the device.
    pub(super) fn ids(&self, tokens: ArrayView2<u32>) -> Tensor {
        let ids: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
        let shape = [tokens.nrows() as i64, tokens.ncols() as i64];
        Tensor::from_slice(&ids).view(shape).to_device(self.device)
    }

    /// Of `[batch, pos]` tokens.
    pub(super) fn sequences(&self, tokens: ArrayView2<u32>) -> Sequences {
        let (batch, pos) = tokens.dim();
        let allowed = allowed(&self.config.clamp, tokens, self.device);
        let sources = [Given::Previous, Given::Match].map(|given| {
            self.config.clamp.give(given).then(|| {
                let (mut all, mut of_row) = (Vec::new(), Vec::new());
                for row in tokens.rows() {
                    given.sources(&row.to_vec(), &mut of_row);
                    all.extend(of_row.iter().map(|&at| i64::from(at)));
                }
                Tensor::from_slice(&all).view([batch as i64, pos as i64]).to_device(self.device)
            })
        });
        Sequences { batch: batch as i64, pos: pos as i64, allowed, sources }
    }

    /// The residual stream below the first layer, `[batch, pos, d_model]`, of the tokens'
    /// embeddings.
    pub(super) fn begin(&self, embedded: Tensor, pos: i64, taps: &mut dyn Tap) -> Tensor {
        let x = tap(taps, Hook::Embed, embedded);
        match (&self.config.architecture.positions, &self.positions) {
            (Positions::Learned, Some(at)) => x + at.narrow(0, 0, pos),
            _ => x,
        }
    }

    /// What the unembedding reads of the last residual stream.
    pub(super) fn final_norm(&self, after: &Weights, x: &Tensor) -> Tensor {
        self.norm(x, after.get("ln_final.w"), after.get("ln_final.b"))
    }

    /// What comes after the product with the unembedding.
    pub(super) fn finish(&self, after: &Weights, logits: Tensor) -> Tensor {
        let logits = match after.get("unembed.b_U") {
            Some(bias) => logits + bias,
            None => logits,
        };
        match self.config.architecture.output_logits_soft_cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    fn norm(&self, x: &Tensor, gain: Option<&Tensor>, bias: Option<&Tensor>) -> Tensor {
        // A sublayer without a norm before it has no gain there.
        let Some(gain) = gain else { return x.shallow_clone() };
        match self.config.normalization {
            Normalization::None => x.shallow_clone(),
            Normalization::LN => {
                let (width, eps) = (self.config.d_model as i64, self.config.layer_norm_eps);
                x.layer_norm([width], Some(gain), bias, eps, false)
            }
            Normalization::RMS => self.rms(x, gain),
        }
    }

    /// Divided by the root mean square over the last axis, times a gain.
    fn rms(&self, x: &Tensor, gain: &Tensor) -> Tensor {
        let mean = x.square().mean_dim(&[-1i64][..], true, Kind::Float);
        x * (mean + self.config.layer_norm_eps).rsqrt() * gain
    }

    /// Layer `l`, from the residual stream below it to that above it.
    pub(super) fn layer(
        &self,
        l: usize,
        block: &Weights,
        x: &Tensor,
        of: &Sequences,
        taps: &mut dyn Tap,
    ) -> Tensor {
        let a = &self.config.architecture;
        let normed = self.norm(x, block.get("ln1.w"), block.get("ln1.b"));
        let mut attn_out = self.attention(l, block, &normed, of, taps);
        if let Some(gain) = block.get("ln1_post.w") {
            attn_out = self.rms(&attn_out, gain);
        }
        let middle = x + tap(taps, Hook::AttnOut(l), attn_out);
        if self.config.attn_only() {
            return tap(taps, Hook::ResidPost(l), middle);
        }
        let read = if a.parallel { x } else { &middle };
        let normed = self.norm(read, block.get("ln2.w"), block.get("ln2.b"));
        let mut mlp_out = match a.experts {
            Some(experts) => self.mixture(experts, block, &normed),
            None => {
                let hidden = block.product(&normed, "mlp.W_in", "mlp.b_in");
                let hidden = match a.gated_mlp {
                    true => {
                        activate(a.act_fn, &block.product(&normed, "mlp.W_gate", "mlp.b_gate"))
                            * hidden
                    }
                    false => activate(a.act_fn, &hidden),
                };
                block.product(&hidden, "mlp.W_out", "mlp.b_out")
            }
        };
        if let Some(gain) = block.get("ln2_post.w") {
            mlp_out = self.rms(&mlp_out, gain);
        }
        let output = middle + tap(taps, Hook::MlpOut(l), mlp_out);
        tap(taps, Hook::ResidPost(l), output)
    }

    /// Attention on the normalized residual stream, `[batch, pos, d_model]`.
    fn attention(
        &self,
        l: usize,
        block: &Weights,
        x: &Tensor,
        of: &Sequences,
        taps: &mut dyn Tap,
    ) -> Tensor {
        let &Sequences { batch, pos, .. } = of;
        let (heads, d_head) = (self.config.n_heads as i64, self.config.d_head as i64);
        // Positions go to queries and keys only, never to values or the residual stream (paper.md,
        // 1.2).
        let placed = match (&self.config.architecture.positions, &self.positions) {
            (Positions::Sinusoidal, Some(at)) => {
                x + (at.narrow(0, 0, pos) * &block.0["attn.pos_gain"]).to_kind(x.kind())
            }
            (Positions::Shortformer, Some(at)) => x + at.narrow(0, 0, pos),
            _ => x.shallow_clone(),
        };
        let per_head = |x: Tensor| x.view([batch, pos, -1, d_head]);
        let q = self.normed(block.product(&placed, "attn.W_Q", "attn.b_Q"), block, "attn.q_norm.w");
        let k = self.normed(block.product(&placed, "attn.W_K", "attn.b_K"), block, "attn.k_norm.w");
        let [q, k] = [q, k].map(|x| self.turned(l, per_head(x)));
        let q = tap(taps, Hook::Q(l), q);
        let k = tap(taps, Hook::K(l), smear(block.get("attn.smear_alpha"), k));
        let v = tap(taps, Hook::V(l), per_head(block.product(x, "attn.W_V", "attn.b_V")));
        // Each key-value head as often as query heads read it, one after the other.
        let group = heads / self.config.n_key_value_heads() as i64;
        let repeated = |x: Tensor| match group {
            1 => x,
            _ => x.repeat_interleave_self_int(group, 2, None),
        };
        let [q, k, v] = [q, repeated(k), repeated(v)].map(|y| y.transpose(1, 2));
        let kind = block.0["attn.W_Q"].kind();
        let z = self.read_heads(l, [&q, &k, &v], kind, of, taps).transpose(1, 2);
        let z = tap(taps, Hook::Z(l), z);
        block.product(&z.reshape([batch, pos, heads * d_head]), "attn.W_O", "attn.b_O")
    }

    /// Queries or keys, `[batch, pos, head * d_head]`, normed if the model does.
    fn normed(&self, x: Tensor, block: &Weights, gain: &str) -> Tensor {
        let Some(gain) = block.get(gain) else { return x };
        match self.config.architecture.qk_norm {
            QkNorm::None => x,
            QkNorm::Whole => self.rms(&x, gain),
            QkNorm::Head => {
                let shape = x.size();
                let heads = x.view([shape[0], shape[1], -1, self.config.d_head as i64]);
                self.rms(&heads, gain).view(shape.as_slice())
            }
        }
    }

    /// `[batch, pos, head, d_head]`, turned by the layer's rotary positions.
    fn turned(&self, l: usize, x: Tensor) -> Tensor {
        let other = self.config.architecture.other_positions.as_ref();
        let is_other = other.is_some_and(|other| other.layers.contains(&l));
        let Some([cos, sin]) = &self.turns[usize::from(is_other)] else { return x };
        let Positions::Rotary(rotary) = &self.config.architecture.positions else { return x };
        let (pos, dim, d_head) = (x.size()[1], rotary.dim as i64, self.config.d_head as i64);
        let half = dim / 2;
        let [cos, sin] = [cos, sin].map(|y| y.narrow(0, 0, pos).view([1, pos, 1, half]));
        let part = x.narrow(3, 0, dim);
        let turned = match rotary.pairs {
            Pairs::Half => {
                let (a, b) = (part.narrow(3, 0, half), part.narrow(3, half, half));
                Tensor::cat(&[&a * &cos - &b * &sin, &b * &cos + &a * &sin], 3)
            }
            Pairs::Adjacent => {
                let mut shape = part.size();
                shape[3] = half;
                shape.push(2);
                let pairs = part.reshape(shape.as_slice());
                let (a, b) = (pairs.select(4, 0), pairs.select(4, 1));
                Tensor::stack(&[&a * &cos - &b * &sin, &b * &cos + &a * &sin], 4).flatten(3, 4)
            }
        };
        if dim == d_head {
            return turned;
        }
        Tensor::cat(&[turned, x.narrow(3, dim, d_head - dim)], 3)
    }

    /// What heads read, `[batch, head, pos, d_head]`, as are its arguments; `kind` is the format in
    /// which PyTorch's own attention takes them.
    fn read_heads(
        &self,
        l: usize,
        [q, k, v]: [&Tensor; 3],
        kind: Kind,
        of: &Sequences,
        taps: &mut dyn Tap,
    ) -> Tensor {
        let clamps = &self.config.clamp;
        let source = |h: usize| {
            let given = clamps.given(l, h)?;
            of.sources[given as usize].as_ref()
        };
        let (cap, pos) = (self.config.architecture.attn_scores_soft_cap, of.pos);
        if cap.is_none() && self.slopes.is_none() && !taps.wants(Hook::Pattern(l)) {
            // Nobody needs the pattern: PyTorch's own attention, which does not write it down.
            let mask = of.allowed.as_ref();
            let before = mask.is_none();
            let [q, k, v] = [q, k, v].map(|x| x.to_kind(kind));
            let z =
                Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, before, None, false);
            if !clamps.any_in(l) {
                return z;
            }
            let of_head = |h: usize| {
                let (free, v) = (z.narrow(1, h as i64, 1), v.narrow(1, h as i64, 1));
                match source(h) {
                    _ if clamps.silent(l, h) => free.zeros_like(),
                    Some(at) => v.gather(2, &at.view([-1, 1, pos, 1]).expand_as(&v), false),
                    None => free,
                }
            };
            return Tensor::cat(&(0..self.config.n_heads).map(of_head).collect::<Vec<_>>(), 1);
        }
        let [q, k, v] = [q, k, v].map(|x| x.to_kind(Kind::Float));
        let mut scores = (q * (self.config.d_head as f64).powf(-0.5)).matmul(&k.transpose(2, 3));
        if let Some(cap) = cap {
            scores = (scores / cap).tanh() * cap;
        }
        if let Some(slopes) = &self.slopes {
            let at = Tensor::arange(pos, (Kind::Float, self.device));
            scores -= slopes * (at.view([-1, 1]) - at.view([1, -1]));
        }
        let before = || Tensor::ones([pos, pos], (Kind::Bool, self.device)).tril(0);
        let allowed = of.allowed.as_ref().map_or_else(before, Tensor::shallow_clone);
        let _ = scores.masked_fill_(&allowed.logical_not(), f64::NEG_INFINITY);
        let pattern = scores.softmax(3, None);
        let heads = 0..self.config.n_heads;
        for (h, at) in heads.clone().filter_map(|h| Some((h, source(h)?))) {
            let mut of_head = pattern.narrow(1, h as i64, 1);
            let _ = of_head.zero_();
            let _ = of_head.scatter_value_(3, &at.view([-1, 1, pos, 1]), 1.0);
        }
        let z = tap(taps, Hook::Pattern(l), pattern).matmul(&v);
        for h in heads.filter(|&h| clamps.silent(l, h)) {
            let _ = z.narrow(1, h as i64, 1).zero_();
        }
        z
    }

    /// What the experts of a layer write: each position is read by the best few, each times its
    /// share of a softmax.
    fn mixture(&self, experts: Experts, block: &Weights, normed: &Tensor) -> Tensor {
        let Experts { count, chosen, normalized } = experts;
        let rows = normed.flatten(0, 1);
        // Metal has no float64.
        let exact = if self.device == Device::Mps { Kind::Float } else { Kind::Double };
        let scores = rows.matmul(&block.0["mlp.W_router"]).to_kind(exact);
        let (best, which) = scores.topk(chosen as i64, 1, true, true);
        let shares = match normalized {
            true => best.softmax(1, None),
            false => scores.softmax(1, None).gather(1, &which, false),
        }
        .to_kind(Kind::Float);
        let mut out = rows.zeros_like();
        for e in 0..count as i64 {
            let readers = which.eq(e);
            let place = readers.any_dim(1, false).nonzero().flatten(0, 1);
            if place.size()[0] == 0 {
                continue;
            }
            let share = (&shares * readers.to_kind(Kind::Float))
                .sum_dim_intlist(&[1i64][..], true, None)
                .index_select(0, &place);
            let of = |name: &str| block.0[name].select(0, e);
            let x = rows.index_select(0, &place).to_kind(block.0["mlp.W_in"].kind());
            let hidden = activate(self.config.architecture.act_fn, &x.matmul(&of("mlp.W_gate")))
                * x.matmul(&of("mlp.W_in"));
            let written = hidden.matmul(&of("mlp.W_out")) * share;
            let _ = out.index_add_(0, &place, &written.to_kind(out.kind()));
        }
        out.view_as(normed)
    }
}

/// `[batch, 1, query, key]`, true where a query may read a key; nothing where all before it may be.
fn allowed(clamps: &Clamps, tokens: ArrayView2<u32>, device: Device) -> Option<Tensor> {
    if !clamps.forbid() {
        return None;
    }
    let (batch, pos) = tokens.dim();
    let mut allowed = vec![false; batch * pos * pos];
    for (row, out) in tokens.rows().into_iter().zip(allowed.chunks_exact_mut(pos * pos)) {
        let keys = ForbiddenKeys::new(clamps, &row.to_vec());
        for (query, out) in out.chunks_exact_mut(pos).enumerate() {
            out[..=query].fill(true);
            keys.of(query).iter().for_each(|&key| out[key as usize] = false);
        }
    }
    let shape = [batch as i64, 1, pos as i64, pos as i64];
    Some(Tensor::from_slice(&allowed).view(shape).to_device(device))
}

/// `k_j <- s k_j + (1 - s) k_{j-1}` with `s = sigmoid(alpha)`, one `alpha` a head; `k_0` stays
/// (paper.md, 1.4).
fn smear(alpha: Option<&Tensor>, k: Tensor) -> Tensor {
    let Some(alpha) = alpha else { return k };
    let pos = k.size()[1];
    let before = Tensor::cat(&[k.narrow(1, 0, 1), k.narrow(1, 0, pos - 1)], 1);
    let s = alpha.sigmoid().to_kind(k.kind()).view([1, 1, -1, 1]);
    &before + (k - &before) * s
}

fn activate(kind: Activation, x: &Tensor) -> Tensor {
    match kind {
        Activation::Gelu => x.gelu("none"),
        Activation::GeluNew => x.gelu("tanh"),
        Activation::Silu => x.silu(),
        Activation::Relu => x.relu(),
    }
}

/// Cosines and sines of every position and pair, taken in float64.
fn turns(rotary: &Rotary, n_ctx: usize, device: Device) -> [Tensor; 2] {
    let frequencies = rotary.frequencies();
    let factor = rotary.attention_factor.unwrap_or(1.0);
    let table = |of: fn(f64) -> f64| {
        let row = (0..n_ctx).flat_map(|t| frequencies.iter().map(move |f| (t as f64, f)));
        let values: Vec<f32> = row.map(|(t, f)| (of(t * f) * factor) as f32).collect();
        upload(&values, device).view([n_ctx as i64, frequencies.len() as i64])
    };
    [table(f64::cos), table(f64::sin)]
}
