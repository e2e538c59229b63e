//! Every parameter of a model, once: its name, its shape and how its numbers lie. Files, optimizers
//! and engines read this list, in this order.

use crate::{ModelConfig, Normalization, Norms, Positions, QkNorm};

/// A parameter, or its namesakes in all blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As TransformerLens names it; of a block's without `blocks.N.` before it.
    pub name: &'static str,
    /// Row-major.
    pub shape: Vec<usize>,
    /// What its axes are.
    pub axes: Axes,
}

/// What the axes of a parameter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    /// Single numbers.
    Numbers,
    /// One row, as wide as what it is added to or multiplied with.
    Row,
    /// `[input, output]`.
    Matrix,
    /// `[head, input, d_head]`: what heads read by.
    HeadsRead,
    /// `[head, d_head]`: what is added to what heads read.
    HeadsBias,
    /// `[head, d_head, output]`: what heads write by.
    HeadsWrite,
    /// `[expert, input, output]`.
    Experts,
}

/// A list of parameters in the making.
struct List(Vec<Parameter>);

impl List {
    fn add(&mut self, there: bool, name: &'static str, axes: Axes, shape: &[usize]) {
        if there {
            self.0.push(Parameter { name, shape: shape.to_vec(), axes });
        }
    }

    /// Gain and bias, as far as the normalization has them.
    fn norm(&mut self, config: &ModelConfig, [gain, bias]: [&'static str; 2]) {
        let kind = config.normalization;
        self.add(kind != Normalization::None, gain, Axes::Row, &[config.d_model]);
        self.add(kind == Normalization::LN, bias, Axes::Row, &[config.d_model]);
    }
}

impl ModelConfig {
    /// The parameters before the first block.
    pub fn parameters_before(&self) -> Vec<Parameter> {
        let mut list = List(Vec::new());
        list.add(true, "embed.W_E", Axes::Matrix, &[self.d_vocab, self.d_model]);
        let learned =
            matches!(self.architecture.positions, Positions::Learned | Positions::Shortformer);
        list.add(learned, "pos_embed.W_pos", Axes::Matrix, &[self.n_ctx, self.d_model]);
        list.0
    }

    /// The parameters of each block.
    pub fn block_parameters(&self) -> Vec<Parameter> {
        use Axes::{HeadsBias, HeadsRead, HeadsWrite, Matrix, Numbers, Row};
        let Self { d_model, n_heads, d_head, d_mlp, architecture: a, .. } = self;
        let kv = &self.n_key_value_heads();
        let mut list = List(Vec::new());
        let (before, after) = (a.norms != Norms::After, a.norms != Norms::Before);
        if before {
            list.norm(self, ["ln1.w", "ln1.b"]);
        }
        list.add(true, "attn.W_Q", HeadsRead, &[*n_heads, *d_model, *d_head]);
        list.add(true, "attn.W_K", HeadsRead, &[*kv, *d_model, *d_head]);
        list.add(true, "attn.W_V", HeadsRead, &[*kv, *d_model, *d_head]);
        list.add(a.qkv_bias, "attn.b_Q", HeadsBias, &[*n_heads, *d_head]);
        list.add(a.qkv_bias, "attn.b_K", HeadsBias, &[*kv, *d_head]);
        list.add(a.qkv_bias, "attn.b_V", HeadsBias, &[*kv, *d_head]);
        list.add(a.qk_norm == QkNorm::Head, "attn.q_norm.w", Row, &[*d_head]);
        list.add(a.qk_norm == QkNorm::Head, "attn.k_norm.w", Row, &[*d_head]);
        list.add(a.qk_norm == QkNorm::Whole, "attn.q_norm.w", HeadsBias, &[*n_heads, *d_head]);
        list.add(a.qk_norm == QkNorm::Whole, "attn.k_norm.w", HeadsBias, &[*kv, *d_head]);
        list.add(true, "attn.W_O", HeadsWrite, &[*n_heads, *d_head, *d_model]);
        list.add(a.out_bias, "attn.b_O", Row, &[*d_model]);
        list.add(a.positions == Positions::Sinusoidal, "attn.pos_gain", Numbers, &[1]);
        list.add(self.smeared_keys, "attn.smear_alpha", Numbers, &[*n_heads]);
        list.add(after, "ln1_post.w", Row, &[*d_model]);
        if self.attn_only() {
            return list.0;
        }
        if before {
            list.norm(self, ["ln2.w", "ln2.b"]);
        }
        if let Some(experts) = a.experts {
            let count = experts.count;
            list.add(true, "mlp.W_router", Matrix, &[*d_model, count]);
            list.add(true, "mlp.W_gate", Axes::Experts, &[count, *d_model, *d_mlp]);
            list.add(true, "mlp.W_in", Axes::Experts, &[count, *d_model, *d_mlp]);
            list.add(true, "mlp.W_out", Axes::Experts, &[count, *d_mlp, *d_model]);
            list.add(after, "ln2_post.w", Row, &[*d_model]);
            return list.0;
        }
        list.add(a.gated_mlp, "mlp.W_gate", Matrix, &[*d_model, *d_mlp]);
        list.add(a.gated_mlp && a.mlp_bias, "mlp.b_gate", Row, &[*d_mlp]);
        list.add(true, "mlp.W_in", Matrix, &[*d_model, *d_mlp]);
        list.add(a.mlp_bias, "mlp.b_in", Row, &[*d_mlp]);
        list.add(true, "mlp.W_out", Matrix, &[*d_mlp, *d_model]);
        list.add(a.mlp_bias, "mlp.b_out", Row, &[*d_model]);
        list.add(after, "ln2_post.w", Row, &[*d_model]);
        list.0
    }

    /// The parameters after the last block.
    pub fn parameters_after(&self) -> Vec<Parameter> {
        let a = &self.architecture;
        let mut list = List(Vec::new());
        list.norm(self, ["ln_final.w", "ln_final.b"]);
        let tied = a.tied_embeddings;
        list.add(!tied, "unembed.W_U", Axes::Matrix, &[self.d_model, self.d_vocab]);
        list.add(a.unembed_bias, "unembed.b_U", Axes::Row, &[self.d_vocab]);
        list.0
    }

    /// Name and shape of every parameter, in the one order used everywhere: files, optimizer,
    /// gradients.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let plain = |p: Parameter| (p.name.to_string(), p.shape);
        let block = self.block_parameters();
        let blocks = (0..self.n_layers).flat_map(|l| {
            block.iter().map(move |p| (format!("blocks.{l}.{}", p.name), p.shape.clone()))
        });
        let before = self.parameters_before().into_iter().map(plain);
        before.chain(blocks).chain(self.parameters_after().into_iter().map(plain)).collect()
    }

    /// Number of learned scalars.
    pub fn n_params(&self) -> usize {
        self.parameter_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}
