//! MLPs, and mixtures of them: where a layer has several, each position is read by a few.

use induction_kernels::{
    Left, Out, PANEL, Real,
    activations::{Activation, activate, gelu},
    matmul, panels,
    rows::{add_bias, multiply},
};
use induction_model::Experts;

use super::{Model, forward::Sizes, workspace::Scratch};

impl<T: Real> Model<T> {
    /// An MLP's hidden layer after its nonlinearity, from `left` by `[W_in, W_gate]` (the latter
    /// empty without a gate); into `slope`, if there is one, the nonlinearity's derivative.
    #[expect(clippy::too_many_arguments, reason = "a layer's buffers, borrowed apart")]
    pub(super) fn hidden(
        &self,
        weights: &[T],
        [w_in, w_gate]: [&[T]; 2],
        left: Left<T>,
        sizes: Sizes,
        hidden: &mut [T],
        gate: &mut [T],
        slope: Option<&mut [T]>,
    ) {
        let Sizes { used, rows } = sizes;
        let (dims, arch, at) = (&self.layout.dims, self.arch, &self.layout.layer);
        let (d, d_mlp, stored) = (dims.d_model, dims.d_mlp, dims.model_rows);
        let (b_in, b_gate) = (&weights[at.b_in.clone()], &weights[at.b_gate.clone()]);
        let kind = activation(dims.architecture.act_fn);
        matmul(arch, used, d, d_mlp, left, w_in, stored, hidden, rows, Out::Set);
        if dims.architecture.gated_mlp {
            matmul(arch, used, d, d_mlp, left, w_gate, stored, gate, rows, Out::Set);
            activate(arch, gate, rows, used, b_gate, kind);
            if dims.architecture.mlp_bias {
                add_bias(arch, hidden, rows, used, b_in, None);
            }
            multiply(arch, hidden, rows, used, gate);
        } else if slope.is_some() {
            gelu(arch, hidden, rows, used, b_in, slope);
        } else {
            activate(arch, hidden, rows, used, b_in, kind);
        }
    }

    /// What the experts of a layer write, into `scratch.out`, from the normalized residual stream.
    pub(super) fn mixture(
        &self,
        experts: Experts,
        weights: &[T],
        normal: &[T],
        sizes: Sizes,
        scratch: &mut Scratch<T>,
    ) {
        let Sizes { used, rows } = sizes;
        let (dims, arch, at) = (&self.layout.dims, self.arch, &self.layout.layer);
        let (d, d_mlp) = (dims.d_model, dims.d_mlp);
        let find = |name: &str| at.find(name).expect("every layer has the experts' parameters");
        let left = Left::Plain { data: normal, rows, first: 0 };
        let router = &weights[find("mlp.W_router")];
        scratch.router.resize(panels::len(rows, experts.count), T::NAN);
        let scores = &mut scratch.router;
        matmul(arch, used, d, experts.count, left, router, dims.model_rows, scores, rows, Out::Set);
        let readers = readers(experts, scores, sizes);

        let [w_gate, w_in, w_out] = ["mlp.W_gate", "mlp.W_in", "mlp.W_out"].map(find);
        let reads = panels::len(dims.model_rows, d_mlp);
        let writes = panels::len(dims.mlp_rows, d);
        let model = panels::len(rows, d);
        scratch.chosen.resize(model, T::NAN);
        scratch.written.resize(model, T::NAN);
        scratch.out.clear();
        scratch.out.resize(model, T::default());
        // In the order of the experts, so that sums have one order.
        for (e, readers) in readers.iter().enumerate().filter(|(_, readers)| !readers.is_empty()) {
            let n = readers.len();
            let input = &mut scratch.chosen;
            for (k, &(t, _)) in readers.iter().enumerate() {
                for p in (0..d).step_by(PANEL) {
                    let (from, to) = (panels::at(rows, t, p), panels::at(rows, k, p));
                    input[to..to + PANEL].copy_from_slice(&normal[from..from + PANEL]);
                }
            }
            let of = |range: &std::ops::Range<usize>, len: usize| {
                &weights[range.start + e * len..range.start + (e + 1) * len]
            };
            let left = Left::Plain { data: &scratch.chosen, rows, first: 0 };
            let (gate, hidden) = (&mut scratch.gate, &mut scratch.hidden);
            let matrices = [of(&w_in, reads), of(&w_gate, reads)];
            let few = Sizes { used: n, rows };
            self.hidden(weights, matrices, left, few, hidden, gate, None);
            let left = Left::Plain { data: hidden, rows, first: 0 };
            let w = of(&w_out, writes);
            let written = &mut scratch.written;
            matmul(arch, n, d_mlp, d, left, w, dims.mlp_rows, written, rows, Out::Set);
            for (k, &(t, share)) in readers.iter().enumerate() {
                for p in (0..d).step_by(PANEL) {
                    let (from, to) = (panels::at(rows, k, p), panels::at(rows, t, p));
                    let out = &mut scratch.out[to..to + PANEL];
                    for (out, &x) in out.iter_mut().zip(&scratch.written[from..from + PANEL]) {
                        *out += share * x;
                    }
                }
            }
        }
    }
}

fn activation(kind: induction_model::Activation) -> Activation {
    match kind {
        induction_model::Activation::Gelu => Activation::Gelu,
        induction_model::Activation::GeluNew => Activation::GeluTanh,
        induction_model::Activation::Silu => Activation::Silu,
        induction_model::Activation::Relu => Activation::Relu,
    }
}

/// Of each expert the positions that it reads, with its share of each.
fn readers<T: Real>(experts: Experts, scores: &[T], sizes: Sizes) -> Vec<Vec<(usize, T)>> {
    let mut readers = vec![Vec::new(); experts.count];
    for t in 0..sizes.used {
        let score = |e: usize| scores[panels::at(sizes.rows, t, e)].to_f64();
        let mut order: Vec<usize> = (0..experts.count).collect();
        // Stable: of equals the first.
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        let largest = score(order[0]);
        let exponential = |e: usize| (score(e) - largest).exp();
        let chosen = &order[..experts.chosen];
        let over = if experts.normalized { chosen } else { &order[..] };
        let sum: f64 = over.iter().map(|&e| exponential(e)).sum();
        for &e in chosen {
            readers[e].push((t, T::from_f64(exponential(e) / sum)));
        }
    }
    readers
}
