use induction_kernels::{
    Left, Out, PANEL, Real,
    attention::{self, Saved},
    matmul,
    norms::{layer_norm_backward, rms_norm_backward},
    panels,
    rows::{
        accumulate, column_sums, cross_entropy, dot, multiply, rotate_backward, smear_backward,
    },
};

use induction_model::Normalization;

use super::{
    Model,
    clamped::Clamped,
    forward::{NoTap, Sizes, Start, norm},
    layout::QK_NORMS,
    workspace::{Backward, LOGIT_ROWS, LOGIT_STRIDE, Layer, Scratch, Workspace},
};

fn set_or_add<'a, T>(set: bool) -> Out<'a, T> {
    if set { Out::Set } else { Out::Add }
}

/// What one sequence is to foretell.
#[derive(Clone, Copy)]
pub(super) struct Targets<'a, T> {
    pub(super) tokens: &'a [u32],
    /// Which of them count; all if it is not given.
    pub(super) counted: Option<&'a [bool]>,
    /// What each counts in the gradient.
    pub(super) weight: T,
}

impl<T: Real> Model<T> {
    /// Forward and backward for one sequence. The gradient is added to `gradients` (or written, for
    /// the `first` sequence of a buffer). Returns the sum of the losses that count.
    pub(super) fn train_on(
        &self,
        space: &mut Workspace<T>,
        gradients: &mut [T],
        tokens: &[u32],
        targets: Targets<'_, T>,
        first: bool,
    ) -> f64 {
        space.prepare_backward(&self.layout.dims);
        if first {
            self.clear(gradients);
        }
        self.layers(space, tokens, Start::Tokens, true, &mut NoTap);
        self.loss_backward(space, gradients, targets, first);

        let mut backward = space.backward.take().expect("prepared above");
        let sizes = Sizes { used: space.used, rows: space.rows };
        for l in (0..self.layout.n_layers).rev() {
            let (layer, scratch) = (&mut space.layers[l], &mut space.scratch);
            let gradients = &mut gradients[self.layout.layer_at(l)];
            if self.layout.dims.d_mlp > 0 {
                self.mlp_backward(l, sizes, layer, scratch, &mut backward, gradients, first);
            }
            self.attention_backward(
                l,
                sizes,
                layer,
                scratch,
                &space.turns[0],
                &space.clamped,
                &mut backward,
                gradients,
                first,
            );
        }
        self.embed_backward(&backward.residual, space.rows, tokens, gradients);
        space.backward = Some(backward);
        space.losses.iter().map(|x| x.to_f64()).sum()
    }

    /// Zeroes what is summed element by element; products write their part of the buffer instead.
    fn clear(&self, gradients: &mut [T]) {
        let (layout, at) = (&self.layout, &self.layout.layer);
        gradients[layout.embed.clone()].fill(T::default());
        gradients[layout.ln_final.clone()].fill(T::default());
        for l in 0..layout.n_layers {
            let layer = &mut gradients[layout.layer_at(l)];
            for range in [&at.ln1, &at.pos_gain, &at.smear, &at.ln2, &at.b_in, &at.b_out] {
                layer[range.clone()].fill(T::default());
            }
            for range in QK_NORMS.into_iter().filter_map(|name| at.find(name)) {
                layer[range].fill(T::default());
            }
        }
    }

    /// From the losses back to the residual stream after the last layer.
    fn loss_backward(
        &self,
        space: &mut Workspace<T>,
        gradients: &mut [T],
        targets: Targets<'_, T>,
        first: bool,
    ) {
        let (layout, dims, arch) = (&self.layout, &self.layout.dims, self.arch);
        let (rows, used, d) = (space.rows, space.used, dims.d_model);
        let mut logits = self.take_logits(space);
        let mut losses = std::mem::take(&mut space.losses);
        let mut backward = space.backward.take().expect("prepared by the caller");
        let mut clamped = std::mem::replace(&mut space.clamped, Clamped::free());
        let normal = self.final_norm(space);
        for from in (0..used).step_by(LOGIT_ROWS) {
            let to = (from + LOGIT_ROWS).min(used);
            let count = to - from;
            self.logits_of(normal, rows, from, to, &mut logits);
            clamped.add_copies(rows, from, to, dims.d_vocab, &mut logits);
            let losses = &mut losses[from..to];
            cross_entropy(
                arch,
                &mut logits,
                LOGIT_STRIDE,
                dims.d_vocab,
                &targets.tokens[from..to],
                losses,
                Some(targets.weight),
            );
            if let Some(counted) = targets.counted {
                leave_out(&counted[from..to], losses, &mut logits);
            }
            clamped.copies_backward(rows, from, to, dims.d_vocab, &logits);
            let d_logits = Left::Plain { data: &logits, rows: LOGIT_STRIDE, first: 0 };
            let out = &mut backward.normal[from * PANEL..];
            let unembed_t = &self.weights.unembed_t;
            matmul(
                arch,
                count,
                dims.d_vocab,
                d,
                d_logits,
                unembed_t,
                dims.d_vocab,
                out,
                rows,
                Out::Set,
            );
            let left = Left::Transposed { data: normal, rows, first: from };
            let out = &mut gradients[layout.unembed.clone()];
            let mode = set_or_add(first && from == 0);
            matmul(
                arch,
                d,
                count,
                dims.d_vocab,
                left,
                &logits,
                LOGIT_STRIDE,
                out,
                dims.model_rows,
                mode,
            );
        }
        if dims.normalization != Normalization::None {
            backward.residual.fill(T::default());
            let weights = &self.weights.packed[layout.ln_final.clone()];
            let (dx, dy) = (&mut backward.residual, &backward.normal);
            let sizes = Sizes { used, rows };
            let gradients = &mut gradients[layout.ln_final.clone()];
            self.norm_backward(sizes, &space.residual, &space.stats, weights, dy, dx, gradients);
        } else {
            std::mem::swap(&mut backward.residual, &mut backward.normal);
        }
        (space.logits, space.losses, space.backward) = (logits, losses, Some(backward));
        space.clamped = clamped;
    }

    /// Adds to `dx` the gradient of what a norm (or none) read, and to its gain's and bias's
    /// gradients.
    #[expect(clippy::too_many_arguments, reason = "a gradient's tensors")]
    fn norm_backward(
        &self,
        sizes: Sizes,
        input: &[T],
        stats: &[[T; 2]],
        gain_and_bias: &[T],
        dy: &[T],
        dx: &mut [T],
        gradients: &mut [T],
    ) {
        let (dims, arch, Sizes { used, rows }) = (&self.layout.dims, self.arch, sizes);
        let d = dims.d_model;
        match dims.normalization {
            Normalization::None => accumulate(arch, dy, dx),
            Normalization::RMS => {
                let (gain, dw) = (gain_and_bias, gradients);
                rms_norm_backward(arch, input, rows, used, d, gain, self.eps, dy, dx, dw);
            }
            Normalization::LN => {
                let gain = &gain_and_bias[..dims.model_width()];
                let (dw, db) = gradients.split_at_mut(dims.model_width());
                layer_norm_backward(arch, input, rows, used, d, gain, stats, dy, dx, dw, db);
            }
        }
    }

    /// From the gradients of a layer's queries and keys as attention reads them to those of what
    /// `W_Q` and `W_K` make: back through rotary positions and norms.
    #[expect(clippy::too_many_arguments, reason = "a layer's buffers, borrowed apart")]
    fn queries_keys_backward(
        &self,
        l: usize,
        sizes: Sizes,
        raw: &[T],
        turns: &[[T; 2]],
        d_qk: &mut [T],
        spare: &mut Vec<T>,
        gradients: &mut [T],
    ) {
        let (dims, Sizes { used, rows }) = (&self.layout.dims, sizes);
        let head = dims.head(0, rows).len();
        if !turns.is_empty() {
            for head in d_qk.chunks_exact_mut(head) {
                rotate_backward(head, rows, used, &self.layout.rotary_pairs, turns);
            }
        }
        let weights = &self.weights.packed[self.layout.layer_at(l)];
        let heads = dims.heads_width * rows;
        let halves = d_qk.chunks_exact_mut(heads).zip(raw.chunks_exact(heads));
        for ((d_heads, raw), name) in halves.zip(QK_NORMS) {
            let Some(gain) = self.layout.layer.find(name) else { continue };
            for (d_head, raw) in d_heads.chunks_exact_mut(head).zip(raw.chunks_exact(head)) {
                spare.clear();
                spare.extend_from_slice(d_head);
                d_head.fill(T::default());
                let (arch, columns) = (self.arch, dims.d_head);
                let (w, dw) = (&weights[gain.clone()], &mut gradients[gain.clone()]);
                rms_norm_backward(arch, raw, rows, used, columns, w, self.eps, spare, d_head, dw);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a layer's buffers, borrowed apart")]
    fn mlp_backward(
        &self,
        l: usize,
        sizes: Sizes,
        layer: &mut Layer<T>,
        scratch: &mut Scratch<T>,
        backward: &mut Backward<T>,
        gradients: &mut [T],
        first: bool,
    ) {
        let (dims, arch, Sizes { used, rows }) = (&self.layout.dims, self.arch, sizes);
        let (weights, transposed) =
            (&self.weights.packed[self.layout.layer_at(l)], &self.weights.transposed[l]);
        let at = &self.layout.layer;
        let (d, d_mlp) = (dims.d_model, dims.d_mlp);
        let Backward { residual: dx, normal: d_normal, hidden: d_hidden, .. } = backward;

        column_sums(arch, dx, rows, used, &mut gradients[at.b_out.clone()]);
        let hidden = Left::Transposed { data: &layer.hidden, rows, first: 0 };
        matmul(
            arch,
            d_mlp,
            used,
            d,
            hidden,
            dx,
            rows,
            &mut gradients[at.w_out.clone()],
            dims.mlp_rows,
            set_or_add(first),
        );
        let left = Left::Plain { data: dx, rows, first: 0 };
        matmul(arch, used, d, d_mlp, left, &transposed.w_out, d, d_hidden, rows, Out::Set);
        multiply(arch, d_hidden, rows, used, &layer.slope);
        column_sums(arch, d_hidden, rows, used, &mut gradients[at.b_in.clone()]);

        let ln2 = &weights[at.ln2.clone()];
        let stats = &mut layer.stats[1];
        let normal = norm(
            arch,
            &self.layout,
            ln2,
            self.eps,
            &layer.middle,
            sizes,
            stats,
            &mut scratch.normal,
        );
        let left = Left::Transposed { data: normal, rows, first: 0 };
        let out = &mut gradients[at.w_in.clone()];
        matmul(arch, d, used, d_mlp, left, d_hidden, rows, out, dims.model_rows, set_or_add(first));
        let left = Left::Plain { data: d_hidden, rows, first: 0 };
        matmul(arch, used, d_mlp, d, left, &transposed.w_in, d_mlp, d_normal, rows, Out::Set);
        let gradients = &mut gradients[at.ln2.clone()];
        self.norm_backward(sizes, &layer.middle, &layer.stats[1], ln2, d_normal, dx, gradients);
    }

    #[expect(clippy::too_many_arguments, reason = "a layer's buffers, borrowed apart")]
    fn attention_backward(
        &self,
        l: usize,
        sizes: Sizes,
        layer: &mut Layer<T>,
        scratch: &mut Scratch<T>,
        turns: &[[T; 2]],
        clamped: &Clamped<T>,
        backward: &mut Backward<T>,
        gradients: &mut [T],
        first: bool,
    ) {
        let (dims, arch, Sizes { used, rows }) = (&self.layout.dims, self.arch, sizes);
        let (weights, transposed) =
            (&self.weights.packed[self.layout.layer_at(l)], &self.weights.transposed[l]);
        let at = &self.layout.layer;
        let (d, d_head, width) = (dims.d_model, dims.d_head, dims.heads_width);
        let Backward { residual: dx, normal: d_normal, z: dz, qkv: d_qkv, .. } = backward;
        let heads = layer.z.len();

        let z = Left::Transposed { data: &layer.z, rows, first: 0 };
        matmul(
            arch,
            width,
            used,
            d,
            z,
            dx,
            rows,
            &mut gradients[at.o.clone()],
            width,
            set_or_add(first),
        );
        let left = Left::Plain { data: dx, rows, first: 0 };
        matmul(arch, used, d, width, left, &transposed.o, d, dz, rows, Out::Set);

        let (qk, values) = layer.qkv.split_at(2 * heads);
        let (queries, raw_keys) = qk.split_at(heads);
        let keys = if dims.smeared { &layer.smeared } else { raw_keys };
        let (dq, d_kv) = d_qkv.split_at_mut(heads);
        let (dk, dv) = d_kv.split_at_mut(heads);
        let any_clamped = self.clamp.any_in(l);
        for h in 0..dims.n_heads {
            let head = dims.head(h, rows);
            let gradients_of =
                [&mut dq[head.clone()], &mut dk[head.clone()], &mut dv[head.clone()]];
            let tensors = [&queries[head.clone()], &keys[head.clone()], &dz[head.clone()]];
            let done = any_clamped && {
                let (at, shape) = ((l, h), self.shape(sizes));
                self.clamped_backward(at, sizes, shape, tensors, gradients_of, scratch, clamped)
            };
            if !done {
                panels::transpose(
                    &keys[head.clone()],
                    rows,
                    used,
                    d_head,
                    &mut scratch.k_t,
                    d_head,
                    0,
                );
                panels::transpose(
                    &values[head.clone()],
                    rows,
                    used,
                    d_head,
                    &mut scratch.v_t,
                    d_head,
                    0,
                );
                let saved = Saved {
                    q: &queries[head.clone()],
                    k: &keys[head.clone()],
                    k_t: &scratch.k_t,
                    v_t: &scratch.v_t,
                    z: &layer.z[head.clone()],
                    log_sums: &layer.log_sums[h * used..(h + 1) * used],
                };
                let (dq, dk, dv) =
                    (&mut dq[head.clone()], &mut dk[head.clone()], &mut dv[head.clone()]);
                let dz = &dz[head.clone()];
                attention::backward(
                    arch,
                    self.shape(sizes),
                    clamped.forbidden(),
                    saved,
                    dz,
                    dq,
                    dk,
                    dv,
                    &mut scratch.attention,
                );
            }
            if dims.smeared {
                let dk = &mut dk[head.clone()];
                let amount = self.smear_amount(l, h);
                let d_amount =
                    smear_backward(arch, &raw_keys[head.clone()], rows, used, amount, dk);
                gradients[at.smear.start + h] += d_amount * amount * (T::from_f64(1.0) - amount);
            }
        }

        let (d_qk, dv) = d_qkv.split_at_mut(2 * heads);
        let spare = &mut scratch.out;
        self.queries_keys_backward(l, sizes, &layer.raw_qk, turns, d_qk, spare, gradients);
        let Scratch { normal, placed, .. } = scratch;
        let normal =
            self.attention_input(l, sizes, &layer.input, &mut layer.stats[0], normal, placed);
        let placed = if dims.placed_inputs() { placed } else { normal };
        let (w_qk, w_v) =
            gradients[at.qkv.clone()].split_at_mut(2 * panels::len(dims.model_rows, width));
        let left = Left::Transposed { data: placed, rows, first: 0 };
        matmul(
            arch,
            d,
            used,
            2 * width,
            left,
            d_qk,
            rows,
            w_qk,
            dims.model_rows,
            set_or_add(first),
        );
        let left = Left::Transposed { data: normal, rows, first: 0 };
        matmul(arch, d, used, width, left, dv, rows, w_v, dims.model_rows, set_or_add(first));

        // Queries and keys first: what positions were added to is theirs alone.
        let left = Left::Plain { data: d_qk, rows, first: 0 };
        matmul(
            arch,
            used,
            2 * width,
            d,
            left,
            &transposed.qkv,
            3 * width,
            d_normal,
            rows,
            Out::Set,
        );
        if !at.pos_gain.is_empty() {
            gradients[at.pos_gain.start] +=
                dot(arch, d_normal, rows, used, &self.positions, self.n_ctx);
        }
        let (left, below) =
            (Left::Plain { data: dv, rows, first: 0 }, &transposed.qkv[2 * width * PANEL..]);
        matmul(arch, used, width, d, left, below, 3 * width, d_normal, rows, Out::Add);
        let ln1 = &weights[at.ln1.clone()];
        let gradients = &mut gradients[at.ln1.clone()];
        self.norm_backward(sizes, &layer.input, &layer.stats[0], ln1, d_normal, dx, gradients);
    }

    fn embed_backward(&self, dx: &[T], rows: usize, tokens: &[u32], gradients: &mut [T]) {
        let dims = &self.layout.dims;
        let table = &mut gradients[self.layout.embed.clone()];
        for p in 0..panels::count(dims.d_model) {
            for (t, &token) in tokens.iter().enumerate() {
                let (from, to) = (
                    panels::at(rows, t, p * PANEL),
                    panels::at(dims.d_vocab, token as usize, p * PANEL),
                );
                for (sum, &x) in table[to..to + PANEL].iter_mut().zip(&dx[from..from + PANEL]) {
                    *sum += x;
                }
            }
        }
    }
}

/// Takes from a block what does not count: its losses, and its rows of the logits' gradient.
fn leave_out<T: Real>(counted: &[bool], losses: &mut [T], d_logits: &mut [T]) {
    for (row, loss) in losses.iter_mut().enumerate().filter(|&(row, _)| !counted[row]) {
        *loss = T::default();
        for panel in d_logits.chunks_exact_mut(LOGIT_STRIDE * PANEL) {
            panel[row * PANEL..][..PANEL].fill(T::default());
        }
    }
}
