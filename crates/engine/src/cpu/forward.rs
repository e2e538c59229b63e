use induction_kernels::{
    Arch, Left, Out, PANEL, Real,
    activations::soft_cap,
    attention::{self, Bend, Shape},
    matmul,
    norms::{layer_norm, rms_norm},
    panels,
    rows::{accumulate, add_bias, add_positions, cross_entropy, rotate, smear},
};
use induction_model::{Hook, Normalization, Positions, QkNorm};

use super::{
    Model,
    clamped::Clamped,
    layout::{Layout, QK_NORMS},
    workspace::{LOGIT_ROWS, LOGIT_STRIDE, Layer, Scratch, Workspace},
};

/// Sees, and may replace, one sequence's activations, in panels of `rows` rows (heads one after the
/// other).
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
    /// The patterns that an earlier pass kept of this layer, and their shares; asked where a head's
    /// is [`Wanted::Frozen`].
    fn frozen(&self, _layer: usize) -> (&[T], &[T]) {
        (&[], &[])
    }
    /// Whether a head is to write nothing, which one that a clamp makes copy has to be told: it
    /// does not write what it reads.
    fn zeroes(&self, _layer: usize, _head: usize) -> bool {
        false
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
    /// To be shown it, and to change it.
    Changed,
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
    /// The residual stream after the last layer, from `start` on. `slopes` for a backward pass to
    /// follow.
    pub(super) fn layers(
        &self,
        space: &mut Workspace<T>,
        tokens: &[u32],
        start: Start,
        slopes: bool,
        tap: &mut dyn Tap<T>,
    ) {
        space.clamped.follow(&self.clamp, tokens, space.rows);
        let first = match start {
            Start::Tokens => {
                self.embed(space, tokens);
                let (rows, used) = (space.rows, space.used);
                let input = &mut space.layers[0].input;
                if tap.wants(Hook::Embed) {
                    tap.see(Hook::Embed, input, rows);
                }
                if self.layout.dims.architecture.positions == Positions::Learned {
                    for (x, at) in input
                        .chunks_exact_mut(rows * PANEL)
                        .zip(self.positions.chunks_exact(self.n_ctx * PANEL))
                    {
                        accumulate(self.arch, &at[..used * PANEL], &mut x[..used * PANEL]);
                    }
                }
                0
            }
            Start::Input(l) | Start::Qkv(l) | Start::Z(l) => l,
        };
        for l in first..self.layout.n_layers {
            let begin = if l == first { start } else { Start::Input(l) };
            let sizes = Sizes { used: space.used, rows: space.rows };
            let kept = space.layers.len();
            let (layer, output) = if l + 1 == self.layout.n_layers {
                (&mut space.layers[l % kept], &mut space.residual)
            } else {
                let pair = space.layers.get_disjoint_mut([l % kept, (l + 1) % kept]);
                let [layer, next] = pair.expect("a workspace keeps two layers where there are two");
                (layer, &mut next.input)
            };
            let turns = &space.turns[self.layout.frequencies_of(l)];
            let (scratch, clamped) = (&mut space.scratch, &mut space.clamped);
            self.layer(l, sizes, layer, scratch, clamped, turns, output, begin, slopes, tap);
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
    pub(super) fn layer(
        &self,
        l: usize,
        sizes: Sizes,
        layer: &mut Layer<T>,
        scratch: &mut Scratch<T>,
        clamped: &mut Clamped<T>,
        turns: &[[T; 2]],
        output: &mut [T],
        start: Start,
        slopes: bool,
        tap: &mut dyn Tap<T>,
    ) {
        let Sizes { used, rows } = sizes;
        let (dims, arch) = (&self.layout.dims, self.arch);
        let weights = &self.weights.packed[self.layout.layer_at(l)];
        let at = &self.layout.layer;
        let (d, width, eps) = (dims.d_model, dims.heads_width, self.eps);
        if start <= Start::Input(l) {
            let given = |h| matches!(tap.wants_pattern(l, h), Wanted::Given | Wanted::Frozen);
            let with_qk =
                tap.wants(Hook::Q(l)) || tap.wants(Hook::K(l)) || !(0..dims.n_heads).all(given);
            self.queries_keys_values(l, sizes, layer, scratch, turns, with_qk, slopes);
            let [of_q, of_k] = dims.qk_len(rows);
            let parts = [0..of_q, of_q..of_q + of_k, of_q + of_k..of_q + 2 * of_k];
            for (part, hook) in parts.into_iter().zip([Hook::Q(l), Hook::K(l), Hook::V(l)]) {
                if tap.wants(hook) {
                    let smeared = dims.smeared && hook == Hook::K(l);
                    let value = if smeared { &mut layer.smeared[..] } else { &mut layer.qkv[part] };
                    tap.see(hook, value, rows);
                }
            }
        }
        if start <= Start::Qkv(l) {
            self.attention(l, sizes, layer, scratch, clamped, tap);
        }
        if tap.stops_at_patterns(l) {
            return;
        }
        if tap.wants(Hook::Z(l)) {
            tap.see(Hook::Z(l), &mut layer.z, rows);
        }
        let mut sublayer = |input: &[T],
                            depth,
                            weights: &[T],
                            stored,
                            base: &[T],
                            out: &mut [T],
                            bias: Option<&[T]>,
                            post: Option<&[T]>,
                            hook| {
            let left = Left::Plain { data: input, rows, first: 0 };
            if tap.wants(hook) || post.is_some() {
                // Somebody looks at what the sublayer writes, or it is normed: first make it, then
                // add it. The sums are the same.
                scratch.out.resize(base.len(), T::NAN);
                matmul(
                    arch,
                    used,
                    depth,
                    d,
                    left,
                    weights,
                    stored,
                    &mut scratch.out,
                    rows,
                    Out::Set,
                );
                if let Some(bias) = bias {
                    add_bias(arch, &mut scratch.out, rows, used, bias, None);
                }
                if let Some(gain) = post {
                    scratch.raw.clear();
                    scratch.raw.extend_from_slice(&scratch.out);
                    rms_norm(arch, &scratch.raw, rows, used, d, gain, eps, &mut scratch.out);
                }
                if tap.wants(hook) {
                    tap.see(hook, &mut scratch.out, rows);
                }
                out.copy_from_slice(base);
                accumulate(arch, &scratch.out, out);
            } else if let Some(bias) = bias {
                matmul(arch, used, depth, d, left, weights, stored, out, rows, Out::Set);
                add_bias(arch, out, rows, used, bias, Some(base));
            } else {
                matmul(arch, used, depth, d, left, weights, stored, out, rows, Out::Plus(base));
            }
        };
        let optional =
            |range: &std::ops::Range<usize>| (!range.is_empty()).then(|| &weights[range.clone()]);
        let (o, b_o) = (&weights[at.o.clone()], optional(&at.b_o));
        let post = at.find("ln1_post.w").map(|gain| &weights[gain]);
        if dims.d_mlp == 0 {
            sublayer(&layer.z, width, o, width, &layer.input, output, b_o, post, Hook::AttnOut(l));
        } else {
            sublayer(
                &layer.z,
                width,
                o,
                width,
                &layer.input,
                &mut layer.middle,
                b_o,
                post,
                Hook::AttnOut(l),
            );
            let a = &dims.architecture;
            let normal = norm(
                arch,
                &self.layout,
                &weights[at.ln2.clone()],
                self.eps,
                if a.parallel { &layer.input } else { &layer.middle },
                sizes,
                &mut layer.stats[1],
                &mut scratch.normal,
            );
            if let Some(experts) = a.experts {
                // Few models have experts: a copy costs less than another way to lend the scratch.
                let normal = normal.to_vec();
                self.mixture(experts, weights, &normal, sizes, scratch);
                if tap.wants(Hook::MlpOut(l)) {
                    tap.see(Hook::MlpOut(l), &mut scratch.out, rows);
                }
                output.copy_from_slice(&layer.middle);
                accumulate(arch, &scratch.out, output);
            } else {
                let left = Left::Plain { data: normal, rows, first: 0 };
                let matrices = [&weights[at.w_in.clone()], &weights[at.w_gate.clone()]];
                let (hidden, slope) = if slopes {
                    (&mut layer.hidden, Some(&mut layer.slope[..]))
                } else {
                    (&mut scratch.hidden, None)
                };
                self.hidden(weights, matrices, left, sizes, hidden, &mut scratch.gate, slope);
                let (w_out, b_out) = (&weights[at.w_out.clone()], optional(&at.b_out));
                let post = at.find("ln2_post.w").map(|gain| &weights[gain]);
                sublayer(
                    hidden,
                    dims.d_mlp,
                    w_out,
                    dims.mlp_rows,
                    &layer.middle,
                    output,
                    b_out,
                    post,
                    Hook::MlpOut(l),
                );
            }
        }
        if tap.wants(Hook::ResidPost(l)) {
            tap.see(Hook::ResidPost(l), output, rows);
        }
    }

    /// Without `with_qk`, only the values: nobody looks at the others. `keeps_raw`: for a backward
    /// pass to follow.
    #[expect(clippy::too_many_arguments, reason = "a layer's buffers, borrowed apart")]
    pub(super) fn queries_keys_values(
        &self,
        l: usize,
        sizes: Sizes,
        layer: &mut Layer<T>,
        scratch: &mut Scratch<T>,
        turns: &[[T; 2]],
        with_qk: bool,
        keeps_raw: bool,
    ) {
        let Sizes { used, rows } = sizes;
        let (dims, arch, at) = (&self.layout.dims, self.arch, &self.layout.layer);
        let weights = &self.weights.packed[self.layout.layer_at(l)];
        let (d, stored) = (dims.d_model, dims.model_rows);
        let [of_q, of_k] = dims.qk_len(rows);
        let qk_width = dims.heads_width + dims.kv_width;
        let (to_qk, to_v) = weights[at.qkv.clone()].split_at(panels::len(stored, qk_width));
        let (qk, v) = layer.qkv.split_at_mut(of_q + of_k);
        let normal = self.attention_input(
            l,
            sizes,
            &layer.input,
            &mut layer.stats[0],
            &mut scratch.normal,
            &mut scratch.placed,
        );
        let biases = (!at.b_qkv.is_empty()).then(|| weights[at.b_qkv.clone()].split_at(qk_width));
        let left = Left::Plain { data: normal, rows, first: 0 };
        matmul(arch, used, d, dims.kv_width, left, to_v, stored, v, rows, Out::Set);
        if let Some((_, bias)) = biases {
            add_bias(arch, v, rows, used, bias, None);
        }
        if !with_qk {
            return;
        }
        let placed = if dims.placed_inputs() { &scratch.placed } else { normal };
        let left = Left::Plain { data: placed, rows, first: 0 };
        matmul(arch, used, d, qk_width, left, to_qk, stored, qk, rows, Out::Set);
        if let Some((bias, _)) = biases {
            add_bias(arch, qk, rows, used, bias, None);
        }
        if keeps_raw && dims.architecture.qk_norm != QkNorm::None {
            layer.raw_qk.clear();
            layer.raw_qk.extend_from_slice(qk);
        }
        for (heads, gain) in [0..of_q, of_q..of_q + of_k].into_iter().zip(QK_NORMS) {
            if let Some(gain) = at.find(gain) {
                self.norm_heads(sizes, &mut qk[heads], &weights[gain], &mut scratch.out);
            }
        }
        if !turns.is_empty() {
            for head in qk.chunks_exact_mut(dims.head_panels * rows * PANEL) {
                rotate(head, rows, used, &self.layout.rotary_pairs, turns);
            }
        }
        if dims.smeared {
            self.smear(l, sizes, &layer.qkv[of_q..of_q + of_k], &mut layer.smeared);
        }
    }

    /// Divides each head's row, or those of all heads together, by its root mean square and
    /// multiplies it with a gain. Few models do.
    #[inline(never)]
    fn norm_heads(&self, sizes: Sizes, heads: &mut [T], gain: &[T], copy: &mut Vec<T>) {
        let (Sizes { used, rows }, dims) = (sizes, &self.layout.dims);
        let head = dims.head_panels * rows * PANEL;
        let whole = dims.architecture.qk_norm == QkNorm::Whole;
        let (len, width) = if whole {
            (heads.len(), heads.len() / head * dims.d_head)
        } else {
            (head, dims.d_head)
        };
        for part in heads.chunks_exact_mut(len) {
            copy.clear();
            copy.extend_from_slice(part);
            // Each head ends with zeros that fill its last panel, and a mean over more numbers is
            // smaller.
            let stored = len / rows;
            let share = if whole { width as f64 / stored as f64 } else { 1.0 };
            let columns = if whole { stored } else { width };
            rms_norm(self.arch, copy, rows, used, columns, gain, self.eps * share, part);
            if share != 1.0 {
                let factor = T::from_f64(share.sqrt());
                part.iter_mut().for_each(|x| *x = *x * factor);
            }
        }
    }

    /// What attention reads: the normalized residual stream (returned), and the same with positions
    /// (`placed`), where that is what queries and keys read.
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
        let normal = norm(
            self.arch,
            &self.layout,
            &weights[at.ln1.clone()],
            self.eps,
            input,
            sizes,
            stats,
            normal,
        );
        if self.layout.dims.placed_inputs() {
            // Learned vectors have no gain beside them.
            let gain = weights[at.pos_gain.clone()].first().copied().unwrap_or(T::from_f64(1.0));
            let Sizes { used, rows } = sizes;
            add_positions(self.arch, normal, rows, used, gain, &self.positions, self.n_ctx, placed);
        }
        normal
    }

    fn smear(&self, l: usize, sizes: Sizes, keys: &[T], smeared: &mut [T]) {
        let dims = &self.layout.dims;
        for h in 0..dims.n_heads {
            let head = dims.head(h, sizes.rows);
            let amount = self.smear_amount(l, h);
            smear(
                self.arch,
                &keys[head.clone()],
                sizes.rows,
                sizes.used,
                amount,
                &mut smeared[head],
            );
        }
    }

    /// `sigmoid(alpha)` of a head (paper.md, 1.4).
    pub(super) fn smear_amount(&self, l: usize, h: usize) -> T {
        let alpha =
            self.weights.packed[self.layout.layer_at(l)][self.layout.layer.smear.clone()][h];
        T::from_f64(1.0 / (1.0 + (-alpha.to_f64()).exp()))
    }

    pub(super) fn shape(&self, sizes: Sizes) -> Shape {
        let d_head = self.layout.dims.d_head;
        let Sizes { used, rows } = sizes;
        let cap = self.layout.dims.architecture.attn_scores_soft_cap.unwrap_or(0.0);
        let scale = (d_head as f64).powf(-0.5);
        Shape { used, rows, d_head, scale, bend: Bend { cap, slope: 0.0 } }
    }

    fn attention(
        &self,
        l: usize,
        sizes: Sizes,
        layer: &mut Layer<T>,
        scratch: &mut Scratch<T>,
        clamped: &mut Clamped<T>,
        tap: &mut dyn Tap<T>,
    ) {
        let Sizes { used, rows } = sizes;
        let (dims, arch, shape) = (&self.layout.dims, self.arch, self.shape(sizes));
        let [of_q, of_k] = dims.qk_len(rows);
        // Whose keys are in `k_t`: those of some heads are the same.
        let mut transposed = None;
        let any_clamped = self.clamp.any_in(l);
        for h in 0..dims.n_heads {
            let wanted = tap.wants_pattern(l, h);
            'read: {
                let (qk, values) = layer.qkv.split_at(of_q + of_k);
                let keys = if dims.smeared { &layer.smeared[..] } else { &qk[of_q..] };
                let (head, kv_head) = (dims.head(h, rows), dims.kv_head(h));
                let read = dims.head(kv_head, rows);
                let (q, k, v, z) =
                    (&qk[head.clone()], &keys[read.clone()], &values[read], &mut layer.z[head]);
                let slope = self.layout.alibi_slopes.get(h).copied().unwrap_or(0.0);
                let shape = Shape { bend: Bend { slope, ..shape.bend }, ..shape };
                let given = if any_clamped { self.clamp.given(l, h) } else { None };
                if let Some(given) = given.filter(|_| wanted != Wanted::Given) {
                    if matches!(wanted, Wanted::Shown | Wanted::Changed) {
                        clamped.pattern(given, rows, &mut scratch.pattern);
                        tap.see_pattern(l, h, &mut scratch.pattern, rows);
                    }
                    if wanted == Wanted::Changed {
                        attention::read(arch, shape, &scratch.pattern, v, z);
                        break 'read;
                    }
                    clamped.read(given, v, z, rows);
                    break 'read;
                }
                let forbidden = clamped.forbidden();
                let kept_len = panels::len(rows, used);
                let kept = h * kept_len..(h + 1) * kept_len;
                if wanted == Wanted::Frozen {
                    let (exponentials, shares) = tap.frozen(l);
                    let shares = &shares[h * used..(h + 1) * used];
                    attention::read_exponentials(arch, shape, &exponentials[kept], shares, v, z);
                    break 'read;
                }
                if wanted != Wanted::Given && transposed.replace(kv_head) != Some(kv_head) {
                    panels::transpose(k, rows, used, dims.d_head, &mut scratch.k_t, dims.d_head, 0);
                }
                if tap.keeps_patterns(l) {
                    layer.exponentials.resize(dims.n_heads * kept_len, T::NAN);
                    layer.shares.resize(dims.n_heads * used, T::NAN);
                    let (exponentials, shares) = (
                        &mut layer.exponentials[kept],
                        &mut layer.shares[h * used..(h + 1) * used],
                    );
                    attention::exponentials(
                        arch,
                        shape,
                        forbidden,
                        q,
                        &scratch.k_t,
                        exponentials,
                        shares,
                    );
                    attention::read_exponentials(arch, shape, exponentials, shares, v, z);
                    break 'read;
                }
                if wanted == Wanted::Nothing {
                    let log_sums = &mut layer.log_sums[h * used..(h + 1) * used];
                    attention::forward(
                        arch,
                        shape,
                        forbidden,
                        q,
                        &scratch.k_t,
                        v,
                        z,
                        log_sums,
                        &mut scratch.attention,
                    );
                    break 'read;
                }
                scratch.pattern.resize(panels::len(rows, used), T::NAN);
                if wanted != Wanted::Given {
                    attention::pattern(
                        arch,
                        shape,
                        forbidden,
                        q,
                        &scratch.k_t,
                        &mut scratch.pattern,
                    );
                }
                tap.see_pattern(l, h, &mut scratch.pattern, rows);
                if tap.stops_at_patterns(l) {
                    break 'read;
                }
                attention::read(arch, shape, &scratch.pattern, v, z);
            }
            if any_clamped && self.clamp.silent(l, h) && !tap.stops_at_patterns(l) {
                self.silence((l, h), sizes, layer, scratch, clamped, wanted, tap);
            }
        }
    }

    /// The final norm, into scratch.
    pub(super) fn final_norm<'a>(&self, space: &'a mut Workspace<T>) -> &'a [T] {
        let weights = &self.weights.packed[self.layout.ln_final.clone()];
        let sizes = Sizes { used: space.used, rows: space.rows };
        let (stats, normal) = (&mut space.stats, &mut space.scratch.normal);
        norm(self.arch, &self.layout, weights, self.eps, &space.residual, sizes, stats, normal)
    }

    /// A workspace's block of logits, made when it is first asked for.
    pub(super) fn take_logits(&self, space: &mut Workspace<T>) -> Vec<T> {
        let mut logits = std::mem::take(&mut space.logits);
        logits.resize(panels::len(LOGIT_STRIDE, self.layout.dims.d_vocab), T::NAN);
        logits
    }

    /// The logits of positions `from..to` of a normalized residual stream, into a block of
    /// `LOGIT_STRIDE` rows.
    pub(super) fn logits_of(
        &self,
        normal: &[T],
        rows: usize,
        from: usize,
        to: usize,
        out: &mut [T],
    ) {
        let Layout { dims, unembed, .. } = &self.layout;
        let left = Left::Plain { data: normal, rows, first: from };
        let weights = &self.weights.packed[unembed.clone()];
        let (d, stored) = (dims.d_model, dims.model_rows);
        matmul(
            self.arch,
            to - from,
            d,
            dims.d_vocab,
            left,
            weights,
            stored,
            out,
            LOGIT_STRIDE,
            Out::Set,
        );
        self.finish_logits(to - from, out);
    }

    /// What comes after the product with the unembedding: a bias, a cap.
    pub(super) fn finish_logits(&self, used: usize, out: &mut [T]) {
        let Layout { dims, b_u, .. } = &self.layout;
        if !b_u.is_empty() {
            let bias = &self.weights.packed[b_u.clone()];
            add_bias(self.arch, out, LOGIT_STRIDE, used, bias, None);
        }
        if let Some(cap) = dims.architecture.output_logits_soft_cap {
            soft_cap(self.arch, out, LOGIT_STRIDE, used, cap);
        }
    }

    /// The losses of all targets, from the residual stream after the last layer.
    pub(super) fn losses_of(&self, space: &mut Workspace<T>, targets: &[u32]) {
        let (mut logits, mut losses) = (self.take_logits(space), std::mem::take(&mut space.losses));
        let (rows, d_vocab) = (space.rows, self.layout.dims.d_vocab);
        let clamped = std::mem::replace(&mut space.clamped, Clamped::free());
        let normal = self.final_norm(space);
        for from in (0..targets.len()).step_by(LOGIT_ROWS) {
            let to = (from + LOGIT_ROWS).min(targets.len());
            self.logits_of(normal, rows, from, to, &mut logits);
            clamped.add_copies(rows, from, to, d_vocab, &mut logits);
            let (targets, losses) = (&targets[from..to], &mut losses[from..to]);
            cross_entropy(self.arch, &mut logits, LOGIT_STRIDE, d_vocab, targets, losses, None);
        }
        (space.logits, space.losses, space.clamped) = (logits, losses, clamped);
    }
}

/// A sequence's positions and the rows stored for them.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) used: usize,
    pub(super) rows: usize,
}

/// The norm into `out`, or nothing at all: returns what the sublayer reads.
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
    let d = layout.dims.d_model;
    if gain_and_bias.is_empty() {
        return input;
    }
    match layout.dims.normalization {
        Normalization::None => return input,
        Normalization::LN => {
            let (w, b) = gain_and_bias.split_at(layout.dims.model_width());
            layer_norm(arch, input, sizes.rows, sizes.used, d, w, b, eps, stats, out);
        }
        Normalization::RMS => {
            rms_norm(arch, input, sizes.rows, sizes.used, d, gain_and_bias, eps, out);
        }
    }
    out
}
