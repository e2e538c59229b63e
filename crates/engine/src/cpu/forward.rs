use induction_kernels::{
    Arch, Left, Out, PANEL, Real,
    attention::{self, Forbidden, Shape},
    matmul, panels,
    rows::{accumulate, add_bias, add_positions, cross_entropy, gelu, layer_norm, smear},
};
use induction_model::{Clamp, ForbiddenKeys, Hook};

use super::{
    Model,
    layout::Layout,
    workspace::{LOGIT_ROWS, LOGIT_STRIDE, Layer, Scratch, Workspace},
};

/// Sees, and may replace, one sequence's activations, in panels of `rows` rows (heads one after the other).
pub(super) trait Tap<T> {
    /// Whether the activation at `hook` should be shown to [`see`](Self::see).
    fn wants(&self, _hook: Hook) -> bool {
        false
    }
    /// An activation other than a pattern.
    fn see(&mut self, _hook: Hook, _value: &mut [T], _rows: usize) {}
    /// What is asked of a head's pattern.
    fn wants_pattern(&self, _layer: usize, _head: usize) -> Wanted {
        Wanted::Nothing
    }
    /// One head's pattern, a column a key.
    fn see_pattern(&mut self, _layer: usize, _head: usize, _value: &mut [T], _rows: usize) {}
    /// Whether this layer's patterns are to be kept in the workspace.
    fn keeps_patterns(&self, _layer: usize) -> bool {
        false
    }
    /// The patterns that an earlier pass kept of this layer, and their shares; asked where a head's is
    /// [`Wanted::Frozen`].
    fn frozen(&self, _layer: usize) -> (&[T], &[T]) {
        (&[], &[])
    }
    /// Whether nobody needs what comes after this layer's patterns.
    fn stops_at_patterns(&self, _layer: usize) -> bool {
        false
    }
}

/// What is asked of a head's pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing.
    Nothing,
    /// To be shown it.
    Shown,
    /// To give it: it need not be computed.
    Given,
    /// That it be the one that an earlier pass kept.
    Frozen,
}

/// Wants nothing.
pub(super) struct NoTap;

impl<T> Tap<T> for NoTap {}

/// Wants the patterns of some layers kept.
pub(super) struct KeepPatterns<'a>(pub(super) &'a [bool]);

impl<T> Tap<T> for KeepPatterns<'_> {
    fn keeps_patterns(&self, layer: usize) -> bool {
        self.0[layer]
    }
}

/// Where a pass through the layers begins; what comes before was computed by an earlier pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Start {
    /// With the tokens.
    Tokens,
    /// With this layer's input.
    Input(usize),
    /// With this layer's queries, keys and values.
    Qkv(usize),
    /// With what this layer's heads read.
    Z(usize),
}

impl<T: Real> Model<T> {
    /// The residual stream after the last layer, from `start` on. `slopes` for a backward pass to follow.
    pub(super) fn layers(
        &self,
        space: &mut Workspace<T>,
        tokens: &[u32],
        start: Start,
        slopes: bool,
        tap: &mut dyn Tap<T>,
    ) {
        if self.clamp == Some(Clamp::ForbidInduction) {
            space.forbidden.set(tokens);
        }
        let first = match start {
            Start::Tokens => {
                self.embed(space, tokens);
                let rows = space.rows;
                if tap.wants(Hook::Embed) {
                    tap.see(Hook::Embed, &mut space.layers[0].input, rows);
                }
                0
            }
            Start::Input(l) | Start::Qkv(l) | Start::Z(l) => l,
        };
        for l in first..self.layout.n_layers {
            let begin = if l == first { start } else { Start::Input(l) };
            let (before, after) = space.layers.split_at_mut(l + 1);
            let output = after.first_mut().map_or(&mut space.residual, |next| &mut next.input);
            let sizes = Sizes { used: space.used, rows: space.rows };
            self.layer(l, sizes, &mut before[l], &mut space.scratch, &space.forbidden, output, begin, slopes, tap);
            if tap.stops_at_patterns(l) {
                return;
            }
        }
    }

    fn embed(&self, space: &mut Workspace<T>, tokens: &[u32]) {
        let Layout { dims, embed, .. } = &self.layout;
        let table = &self.weights.packed[embed.clone()];
        let rows = space.rows;
        let input = &mut space.layers[0].input;
        for p in 0..panels::count(dims.d_model) {
            for (t, &token) in tokens.iter().enumerate() {
                let from = panels::at(dims.d_vocab, token as usize, p * PANEL);
                let to = panels::at(rows, t, p * PANEL);
                input[to..to + PANEL].copy_from_slice(&table[from..from + PANEL]);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one layer's buffers, borrowed apart")]
    fn layer(
        &self,
        l: usize,
        sizes: Sizes,
        layer: &mut Layer<T>,
        scratch: &mut Scratch<T>,
        forbidden: &ForbiddenKeys,
        output: &mut [T],
        start: Start,
        slopes: bool,
        tap: &mut dyn Tap<T>,
    ) {
        let Sizes { used, rows } = sizes;
        let (dims, arch) = (&self.layout.dims, self.arch);
        let weights = &self.weights.packed[self.layout.layer_at(l)];
        let at = &self.layout.layer;
        let (d, width) = (dims.d_model, dims.heads_width);
        if start <= Start::Input(l) {
            let given = |h| matches!(tap.wants_pattern(l, h), Wanted::Given | Wanted::Frozen);
            let with_qk = tap.wants(Hook::Q(l)) || tap.wants(Hook::K(l)) || !(0..dims.n_heads).all(given);
            self.queries_keys_values(l, sizes, layer, scratch, with_qk);
            let heads = layer.z.len();
            for (part, hook) in [Hook::Q(l), Hook::K(l), Hook::V(l)].into_iter().enumerate() {
                if tap.wants(hook) {
                    let smeared = dims.smeared && part == 1;
                    let value =
                        if smeared { &mut layer.smeared } else { &mut layer.qkv[part * heads..(part + 1) * heads] };
                    tap.see(hook, value, rows);
                }
            }
        }
        if start <= Start::Qkv(l) {
            self.attention(l, sizes, layer, scratch, forbidden, tap);
        }
        if tap.stops_at_patterns(l) {
            return;
        }
        if tap.wants(Hook::Z(l)) {
            tap.see(Hook::Z(l), &mut layer.z, rows);
        }
        let mut sublayer =
            |input: &[T], depth, weights: &[T], stored, base: &[T], out: &mut [T], bias: Option<&[T]>, hook| {
                let left = Left::Plain { data: input, rows, first: 0 };
                if tap.wants(hook) {
                    // Somebody looks at what the sublayer writes: first make it, then add it. The sums are the same.
                    scratch.out.resize(base.len(), T::NAN);
                    matmul(arch, used, depth, d, left, weights, stored, &mut scratch.out, rows, Out::Set);
                    if let Some(bias) = bias {
                        add_bias(arch, &mut scratch.out, rows, used, bias, None);
                    }
                    tap.see(hook, &mut scratch.out, rows);
                    out.copy_from_slice(base);
                    accumulate(arch, &scratch.out, out);
                } else if let Some(bias) = bias {
                    matmul(arch, used, depth, d, left, weights, stored, out, rows, Out::Set);
                    add_bias(arch, out, rows, used, bias, Some(base));
                } else {
                    matmul(arch, used, depth, d, left, weights, stored, out, rows, Out::Plus(base));
                }
            };
        let o = &weights[at.o.clone()];
        if dims.d_mlp == 0 {
            sublayer(&layer.z, width, o, width, &layer.input, output, None, Hook::AttnOut(l));
        } else {
            sublayer(&layer.z, width, o, width, &layer.input, &mut layer.middle, None, Hook::AttnOut(l));
            let normal = norm(
                arch,
                &self.layout,
                &weights[at.ln2.clone()],
                self.eps,
                &layer.middle,
                sizes,
                &mut layer.stats[1],
                &mut scratch.normal,
            );
            let left = Left::Plain { data: normal, rows, first: 0 };
            let w_in = &weights[at.w_in.clone()];
            matmul(arch, used, d, dims.d_mlp, left, w_in, dims.model_rows, &mut layer.hidden, rows, Out::Set);
            let slope = slopes.then_some(&mut layer.slope[..]);
            gelu(arch, &mut layer.hidden, rows, used, &weights[at.b_in.clone()], slope);
            let (w_out, b_out) = (&weights[at.w_out.clone()], Some(&weights[at.b_out.clone()]));
            let stored = dims.mlp_rows;
            sublayer(&layer.hidden, dims.d_mlp, w_out, stored, &layer.middle, output, b_out, Hook::MlpOut(l));
        }
        if tap.wants(Hook::ResidPost(l)) {
            tap.see(Hook::ResidPost(l), output, rows);
        }
    }

    /// Without `with_qk`, only the values: nobody looks at the others.
    fn queries_keys_values(
        &self,
        l: usize,
        sizes: Sizes,
        layer: &mut Layer<T>,
        scratch: &mut Scratch<T>,
        with_qk: bool,
    ) {
        let Sizes { used, rows } = sizes;
        let (dims, arch) = (&self.layout.dims, self.arch);
        let weights = &self.weights.packed[self.layout.layer_at(l)];
        let (d, width, stored) = (dims.d_model, dims.heads_width, dims.model_rows);
        let qkv = &weights[self.layout.layer.qkv.clone()];
        let (to_qk, to_v) = qkv.split_at(2 * panels::len(stored, width));
        let heads = layer.z.len();
        let (qk, v) = layer.qkv.split_at_mut(2 * heads);
        let normal =
            self.attention_input(l, sizes, &layer.input, &mut layer.stats[0], &mut scratch.normal, &mut scratch.placed);
        let normal = Left::Plain { data: normal, rows, first: 0 };
        matmul(arch, used, d, width, normal, to_v, stored, v, rows, Out::Set);
        if !with_qk {
            return;
        }
        let placed = Left::Plain { data: &scratch.placed, rows, first: 0 };
        matmul(arch, used, d, 2 * width, placed, to_qk, stored, qk, rows, Out::Set);
        if dims.smeared {
            self.smear(l, sizes, &layer.qkv[heads..2 * heads], &mut layer.smeared);
        }
    }

    /// What attention reads: the normalized residual stream (returned), and the same with positions (`placed`).
    pub(super) fn attention_input<'a>(
        &self,
        l: usize,
        sizes: Sizes,
        input: &'a [T],
        stats: &mut [[T; 2]],
        normal: &'a mut [T],
        placed: &mut [T],
    ) -> &'a [T] {
        let weights = &self.weights.packed[self.layout.layer_at(l)];
        let at = &self.layout.layer;
        let normal = norm(self.arch, &self.layout, &weights[at.ln1.clone()], self.eps, input, sizes, stats, normal);
        let (gain, Sizes { used, rows }) = (weights[at.pos_gain], sizes);
        add_positions(self.arch, normal, rows, used, gain, &self.positions, self.n_ctx, placed);
        normal
    }

    fn smear(&self, l: usize, sizes: Sizes, keys: &[T], smeared: &mut [T]) {
        let dims = &self.layout.dims;
        for h in 0..dims.n_heads {
            let head = dims.head(h, sizes.rows);
            let amount = self.smear_amount(l, h);
            smear(self.arch, &keys[head.clone()], sizes.rows, sizes.used, amount, &mut smeared[head]);
        }
    }

    /// `sigmoid(alpha)` of a head (paper.md, 1.4).
    pub(super) fn smear_amount(&self, l: usize, h: usize) -> T {
        let alpha = self.weights.packed[self.layout.layer_at(l)][self.layout.layer.smear.clone()][h];
        T::from_f64(1.0 / (1.0 + (-alpha.to_f64()).exp()))
    }

    pub(super) fn shape(&self, sizes: Sizes) -> Shape {
        let d_head = self.layout.dims.d_head;
        Shape { used: sizes.used, rows: sizes.rows, d_head, scale: (d_head as f64).powf(-0.5) }
    }

    /// Whether the model's clamp has this head attend to the previous token.
    pub(super) fn is_shift(&self, l: usize, h: usize) -> bool {
        matches!(self.clamp, Some(Clamp::PreviousToken { layer, head }) if (layer, head) == (l, h))
    }

    fn attention(
        &self,
        l: usize,
        sizes: Sizes,
        layer: &mut Layer<T>,
        scratch: &mut Scratch<T>,
        forbidden: &ForbiddenKeys,
        tap: &mut dyn Tap<T>,
    ) {
        let forbidden = forbidden_of(forbidden);
        let Sizes { used, rows } = sizes;
        let (dims, arch, shape) = (&self.layout.dims, self.arch, self.shape(sizes));
        let heads = layer.z.len();
        let (qk, values) = layer.qkv.split_at(2 * heads);
        let keys = if dims.smeared { &layer.smeared[..] } else { &qk[heads..] };
        for h in 0..dims.n_heads {
            let head = dims.head(h, rows);
            let (q, k, v, z) = (&qk[head.clone()], &keys[head.clone()], &values[head.clone()], &mut layer.z[head]);
            let wanted = tap.wants_pattern(l, h);
            if self.is_shift(l, h) && wanted != Wanted::Given {
                if wanted == Wanted::Shown {
                    scratch.pattern.clear();
                    scratch.pattern.resize(panels::len(rows, used), T::default());
                    for i in 0..used {
                        scratch.pattern[panels::at(rows, i, i.saturating_sub(1))] = T::from_f64(1.0);
                    }
                    tap.see_pattern(l, h, &mut scratch.pattern, rows);
                }
                for (z, v) in z.chunks_exact_mut(rows * PANEL).zip(v.chunks_exact(rows * PANEL)) {
                    z[..PANEL].copy_from_slice(&v[..PANEL]);
                    z[PANEL..used * PANEL].copy_from_slice(&v[..(used - 1) * PANEL]);
                }
                continue;
            }
            let kept_len = panels::len(rows, used);
            let kept = h * kept_len..(h + 1) * kept_len;
            if wanted == Wanted::Frozen {
                let (exponentials, shares) = tap.frozen(l);
                let shares = &shares[h * used..(h + 1) * used];
                attention::read_exponentials(arch, shape, &exponentials[kept], shares, v, z);
                continue;
            }
            if wanted != Wanted::Given {
                panels::transpose(k, rows, used, dims.d_head, &mut scratch.k_t, dims.d_head, 0);
            }
            if tap.keeps_patterns(l) {
                layer.exponentials.resize(dims.n_heads * kept_len, T::NAN);
                layer.shares.resize(dims.n_heads * used, T::NAN);
                let (exponentials, shares) =
                    (&mut layer.exponentials[kept], &mut layer.shares[h * used..(h + 1) * used]);
                attention::exponentials(arch, shape, forbidden, q, &scratch.k_t, exponentials, shares);
                attention::read_exponentials(arch, shape, exponentials, shares, v, z);
                continue;
            }
            if wanted == Wanted::Nothing {
                let log_sums = &mut layer.log_sums[h * used..(h + 1) * used];
                attention::forward(arch, shape, forbidden, q, &scratch.k_t, v, z, log_sums, &mut scratch.attention);
                continue;
            }
            scratch.pattern.resize(panels::len(rows, used), T::NAN);
            if wanted == Wanted::Shown {
                attention::pattern(arch, shape, forbidden, q, &scratch.k_t, &mut scratch.pattern);
            }
            tap.see_pattern(l, h, &mut scratch.pattern, rows);
            if tap.stops_at_patterns(l) {
                continue;
            }
            attention::read(arch, shape, &scratch.pattern, v, z);
        }
    }

    /// The final norm, into scratch.
    pub(super) fn final_norm<'a>(&self, space: &'a mut Workspace<T>) -> &'a [T] {
        let weights = &self.weights.packed[self.layout.ln_final.clone()];
        let sizes = Sizes { used: space.used, rows: space.rows };
        let (stats, normal) = (&mut space.stats, &mut space.scratch.normal);
        norm(self.arch, &self.layout, weights, self.eps, &space.residual, sizes, stats, normal)
    }

    /// The logits of positions `from..to` of a normalized residual stream, into a block of `LOGIT_STRIDE` rows.
    pub(super) fn logits_of(&self, normal: &[T], rows: usize, from: usize, to: usize, out: &mut [T]) {
        let Layout { dims, unembed, .. } = &self.layout;
        let left = Left::Plain { data: normal, rows, first: from };
        let weights = &self.weights.packed[unembed.clone()];
        let (d, stored) = (dims.d_model, dims.model_rows);
        matmul(self.arch, to - from, d, dims.d_vocab, left, weights, stored, out, LOGIT_STRIDE, Out::Set);
    }

    /// The losses of all targets, from the residual stream after the last layer.
    pub(super) fn losses_of(&self, space: &mut Workspace<T>, targets: &[u32]) {
        let (mut logits, mut losses) = (std::mem::take(&mut space.logits), std::mem::take(&mut space.losses));
        let (rows, d_vocab) = (space.rows, self.layout.dims.d_vocab);
        let normal = self.final_norm(space);
        for from in (0..targets.len()).step_by(LOGIT_ROWS) {
            let to = (from + LOGIT_ROWS).min(targets.len());
            self.logits_of(normal, rows, from, to, &mut logits);
            let (targets, losses) = (&targets[from..to], &mut losses[from..to]);
            cross_entropy(self.arch, &mut logits, LOGIT_STRIDE, d_vocab, targets, losses, None);
        }
        (space.logits, space.losses) = (logits, losses);
    }
}

/// What the kernels are told of forbidden keys.
pub(super) fn forbidden_of(keys: &ForbiddenKeys) -> Forbidden<'_> {
    let (spans, keys) = keys.parts();
    Forbidden { spans, keys }
}

/// A sequence's positions and the rows stored for them.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) used: usize,
    pub(super) rows: usize,
}

/// Layer norm into `out`, or nothing at all: returns what the sublayer reads.
#[expect(clippy::too_many_arguments, reason = "a layer's buffers, borrowed apart")]
pub(super) fn norm<'a, T: Real>(
    arch: Arch,
    layout: &Layout,
    gain_and_bias: &[T],
    eps: f64,
    input: &'a [T],
    sizes: Sizes,
    stats: &mut [[T; 2]],
    out: &'a mut [T],
) -> &'a [T] {
    if !layout.dims.layer_norm {
        return input;
    }
    let (w, b) = gain_and_bias.split_at(layout.dims.model_width());
    layer_norm(arch, input, sizes.rows, sizes.used, layout.dims.d_model, w, b, eps, stats, out);
    out
}
