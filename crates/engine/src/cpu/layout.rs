use std::ops::Range;

use induction_kernels::{PANEL, Real, panels};
use induction_model::{Architecture, ModelConfig, Normalization, Positions, Rotary};

/// The sizes of a model, with what padding makes of them.
#[derive(Clone, Debug)]
pub(super) struct Dims {
    pub(super) d_model: usize,
    /// Rows that a weight matrix stores for an input of `d_model`: a gradient is made in tiles of 8
    /// rows.
    pub(super) model_rows: usize,
    pub(super) n_heads: usize,
    /// Heads that keys and values have.
    pub(super) kv_heads: usize,
    pub(super) d_head: usize,
    /// Panels of one head.
    pub(super) head_panels: usize,
    /// Columns of all heads, each head padded to whole panels.
    pub(super) heads_width: usize,
    /// The same of keys, and of values.
    pub(super) kv_width: usize,
    pub(super) d_mlp: usize,
    pub(super) mlp_rows: usize,
    pub(super) d_vocab: usize,
    pub(super) normalization: Normalization,
    pub(super) smeared: bool,
    pub(super) architecture: Architecture,
}

impl Dims {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let head_panels = panels::count(config.d_head);
        let kv_heads = config.n_key_value_heads();
        Self {
            d_model: config.d_model,
            model_rows: config.d_model.next_multiple_of(8),
            n_heads: config.n_heads,
            kv_heads,
            d_head: config.d_head,
            head_panels,
            heads_width: config.n_heads * head_panels * PANEL,
            kv_width: kv_heads * head_panels * PANEL,
            d_mlp: config.d_mlp,
            mlp_rows: config.d_mlp.next_multiple_of(8),
            d_vocab: config.d_vocab,
            normalization: config.normalization,
            smeared: config.smeared_keys,
            architecture: config.architecture.clone(),
        }
    }

    /// Elements of one row of `d_model` columns, padded.
    pub(super) fn model_width(&self) -> usize {
        panels::count(self.d_model) * PANEL
    }

    pub(super) fn mlp_width(&self) -> usize {
        panels::count(self.d_mlp) * PANEL
    }

    /// Rows of panels that a norm's parameters take: gain and bias, or gain.
    fn norm_rows(&self) -> usize {
        match self.normalization {
            Normalization::LN => 2,
            Normalization::RMS => 1,
            Normalization::None => 0,
        }
    }

    /// A norm's parameters, one row each.
    fn norm(&self, start: usize) -> impl Iterator<Item = Place> + use<> {
        let (columns, width) = (self.d_model, self.model_width());
        let count = self.norm_rows();
        (0..count).map(move |which| Place::Matrix {
            start: start + which * width,
            columns,
            rows: 1,
        })
    }

    /// Whether queries and keys read other inputs than values do: the same with positions.
    pub(super) fn placed_inputs(&self) -> bool {
        matches!(self.architecture.positions, Positions::Sinusoidal | Positions::Shortformer)
    }

    /// The head whose keys and values query head `h` reads.
    pub(super) fn kv_head(&self, h: usize) -> usize {
        h * self.kv_heads / self.n_heads
    }

    /// Elements of the queries and of the keys (and of the values, which are as many) of `rows`
    /// stored rows.
    pub(super) fn qk_len(&self, rows: usize) -> [usize; 2] {
        [self.heads_width * rows, self.kv_width * rows]
    }

    /// The part of a buffer of `rows` stored rows that holds head `h`.
    pub(super) fn head(&self, h: usize, rows: usize) -> Range<usize> {
        let len = self.head_panels * rows * PANEL;
        h * len..(h + 1) * len
    }
}

/// Where each parameter stands in one flat buffer of panels. Weights and gradients share it, so
/// groups of gradients are summed as whole buffers: `[embedding | layer 0 | layer 1 | ... | final
/// norm, unembedding]`.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) dims: Dims,
    /// `[d_vocab, d_model]`.
    pub(super) embed: Range<usize>,
    pub(super) n_layers: usize,
    pub(super) layer_len: usize,
    pub(super) layer: LayerLayout,
    /// Gain and bias, one row of panels each, as far as the norm has them.
    pub(super) ln_final: Range<usize>,
    /// `[d_model, d_vocab]`.
    pub(super) unembed: Range<usize>,
    /// One row; empty without a bias.
    pub(super) b_u: Range<usize>,
    /// Which columns rotary positions turn together, in each head, and by how many radians a
    /// position; empty without.
    pub(super) rotary_pairs: Vec<(usize, usize)>,
    pub(super) rotary_frequencies: Vec<f64>,
    pub(super) len: usize,
}

/// The same within a layer, from the layer's beginning.
#[derive(Clone, Debug)]
pub(super) struct LayerLayout {
    pub(super) ln1: Range<usize>,
    /// `[d_model, heads_width]` for queries, `[d_model, kv_width]` for keys and for values.
    pub(super) qkv: Range<usize>,
    /// Their biases, one row; empty without.
    pub(super) b_qkv: Range<usize>,
    /// `[heads_width, d_model]`.
    pub(super) o: Range<usize>,
    /// Empty without a bias.
    pub(super) b_o: Range<usize>,
    /// One number, or none.
    pub(super) pos_gain: Range<usize>,
    /// One a head.
    pub(super) smear: Range<usize>,
    pub(super) ln2: Range<usize>,
    /// `[d_model, d_mlp]` and a bias, which is zero where the model has none; empty without a gate.
    pub(super) w_gate: Range<usize>,
    pub(super) b_gate: Range<usize>,
    /// `[d_model, d_mlp]`, and a bias as above.
    pub(super) w_in: Range<usize>,
    pub(super) b_in: Range<usize>,
    /// `[d_mlp, d_model]`.
    pub(super) w_out: Range<usize>,
    /// Empty without a bias.
    pub(super) b_out: Range<usize>,
}

/// Hands out one range after the other.
struct Ranges(usize);

impl Ranges {
    fn take(&mut self, len: usize) -> Range<usize> {
        self.0 += len;
        self.0 - len..self.0
    }
}

impl Layout {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let dims = Dims::new(config);
        let norm = dims.norm_rows() * dims.model_width();
        let has = |condition: bool, len: usize| if condition { len } else { 0 };
        let (a, mlp) = (&dims.architecture, dims.d_mlp > 0);
        let rotary = if let Positions::Rotary(rotary) = &a.positions { Some(rotary) } else { None };
        let qkv_width = dims.heads_width + 2 * dims.kv_width;
        let mut within = Ranges(0);
        let layer = LayerLayout {
            ln1: within.take(norm),
            qkv: within.take(panels::len(dims.model_rows, qkv_width)),
            b_qkv: within.take(has(a.qkv_bias, qkv_width)),
            o: within.take(panels::len(dims.heads_width, dims.d_model)),
            b_o: within.take(has(a.out_bias, dims.model_width())),
            pos_gain: within.take(has(a.positions == Positions::Sinusoidal, 1)),
            smear: within.take(has(dims.smeared, dims.n_heads)),
            ln2: within.take(has(mlp, norm)),
            w_gate: within.take(has(a.gated_mlp, panels::len(dims.model_rows, dims.d_mlp))),
            b_gate: within.take(has(a.gated_mlp, dims.mlp_width())),
            w_in: within.take(panels::len(dims.model_rows, dims.d_mlp)),
            b_in: within.take(dims.mlp_width()),
            w_out: within.take(has(mlp, panels::len(dims.mlp_rows, dims.d_model))),
            b_out: within.take(has(mlp && a.mlp_bias, dims.model_width())),
        };
        let mut whole = Ranges(0);
        Self {
            embed: whole.take(panels::len(dims.d_vocab, dims.d_model)),
            n_layers: config.n_layers,
            layer_len: within.0,
            ln_final: {
                whole.take(config.n_layers * within.0);
                whole.take(norm)
            },
            unembed: whole.take(panels::len(dims.model_rows, dims.d_vocab)),
            b_u: whole.take(has(a.unembed_bias, panels::count(dims.d_vocab) * PANEL)),
            rotary_pairs: rotary
                .map_or(Vec::new(), |r| (0..r.dim / 2).map(|i| r.pair(i)).collect()),
            rotary_frequencies: rotary.map_or(Vec::new(), Rotary::frequencies),
            len: whole.0,
            layer,
            dims,
        }
    }

    /// Where layer `l` stands.
    pub(super) fn layer_at(&self, l: usize) -> Range<usize> {
        let start = self.embed.end + l * self.layer_len;
        start..start + self.layer_len
    }

    /// Parameters that a layer has in [`ModelConfig::parameter_shapes`].
    pub(super) fn parameters_per_layer(&self) -> usize {
        let mut count = 0;
        self.visit_layer(|_| count += 1);
        count
    }

    /// Parameters before those of the first layer: the embedding, and learned positions.
    pub(super) fn parameters_before_layers(&self) -> usize {
        1 + usize::from(matches!(
            self.dims.architecture.positions,
            Positions::Learned | Positions::Shortformer
        ))
    }

    /// What stands where: calls `visit` for each parameter of a layer in the order of
    /// [`ModelConfig::parameter_shapes`], with its place in the layer's buffer.
    pub(super) fn visit_layer(&self, mut visit: impl FnMut(Place)) {
        let (dims, at) = (&self.dims, &self.layer);
        let row = |start: usize, columns: usize| Place::Matrix { start, columns, rows: 1 };
        dims.norm(at.ln1.start).for_each(&mut visit);
        let (a, qkv, b_qkv) = (&dims.architecture, at.qkv.start, at.b_qkv.start);
        let of_queries = panels::len(dims.model_rows, dims.heads_width);
        let of_keys = panels::len(dims.model_rows, dims.kv_width);
        for start in [qkv, qkv + of_queries, qkv + of_queries + of_keys] {
            visit(Place::Reads { start });
        }
        if a.qkv_bias {
            for start in [b_qkv, b_qkv + dims.heads_width, b_qkv + dims.heads_width + dims.kv_width]
            {
                visit(Place::HeadRows { start });
            }
        }
        visit(Place::Writes { start: at.o.start });
        if a.out_bias {
            visit(row(at.b_o.start, dims.d_model));
        }
        if !at.pos_gain.is_empty() {
            visit(Place::Plain { start: at.pos_gain.start, len: 1 });
        }
        if dims.smeared {
            visit(Place::Plain { start: at.smear.start, len: dims.n_heads });
        }
        if dims.d_mlp == 0 {
            return;
        }
        dims.norm(at.ln2.start).for_each(&mut visit);
        if a.gated_mlp {
            visit(Place::Matrix {
                start: at.w_gate.start,
                columns: dims.d_mlp,
                rows: dims.model_rows,
            });
        }
        if a.gated_mlp && a.mlp_bias {
            visit(row(at.b_gate.start, dims.d_mlp));
        }
        visit(Place::Matrix { start: at.w_in.start, columns: dims.d_mlp, rows: dims.model_rows });
        if a.mlp_bias {
            visit(row(at.b_in.start, dims.d_mlp));
        }
        visit(Place::Matrix { start: at.w_out.start, columns: dims.d_model, rows: dims.mlp_rows });
        if a.mlp_bias {
            visit(row(at.b_out.start, dims.d_model));
        }
    }

    /// The parameters of the final norm and the unembedding, likewise; places count from the
    /// buffer's beginning.
    pub(super) fn visit_final(&self, mut visit: impl FnMut(Place)) {
        let dims = &self.dims;
        dims.norm(self.ln_final.start).for_each(&mut visit);
        if !dims.architecture.tied_embeddings {
            visit(Place::Matrix {
                start: self.unembed.start,
                columns: dims.d_vocab,
                rows: dims.model_rows,
            });
        }
        if dims.architecture.unembed_bias {
            visit(Place::Matrix { start: self.b_u.start, columns: dims.d_vocab, rows: 1 });
        }
    }

    /// The embedding.
    pub(super) fn embedding(&self) -> Place {
        Place::Matrix {
            start: self.embed.start,
            columns: self.dims.d_model,
            rows: self.dims.d_vocab,
        }
    }
}

/// How a row-major parameter stands in a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// As it is.
    Plain { start: usize, len: usize },
    /// A matrix as panels that store `rows` rows.
    Matrix { start: usize, columns: usize, rows: usize },
    /// `[head, d_model, d_head]`: each head's matrix as its own panels.
    Reads { start: usize },
    /// `[head, d_head, d_model]`: the heads' rows below each other, each head padded to whole
    /// panels.
    Writes { start: usize },
    /// `[head, d_head]`: one row, each head padded to whole panels.
    HeadRows { start: usize },
}

impl Place {
    /// A parameter into its place.
    pub(super) fn pack<T: Real>(self, dims: &Dims, source: &[T], buffer: &mut [T]) {
        match self {
            Self::Plain { start, len } => buffer[start..start + len].copy_from_slice(source),
            Self::Matrix { start, columns, rows } => {
                panels::pack(source, columns, &mut buffer[start..], rows, 0);
            }
            Self::Reads { start } => {
                for (h, source) in source.chunks_exact(dims.d_model * dims.d_head).enumerate() {
                    let head = &mut buffer[start..][dims.head(h, dims.model_rows)];
                    panels::pack(source, dims.d_head, head, dims.model_rows, 0);
                }
            }
            Self::HeadRows { start } => {
                let width = dims.head_panels * PANEL;
                for (head, source) in
                    buffer[start..].chunks_mut(width).zip(source.chunks_exact(dims.d_head))
                {
                    head[..dims.d_head].copy_from_slice(source);
                }
            }
            Self::Writes { start } => {
                for (h, source) in source.chunks_exact(dims.d_head * dims.d_model).enumerate() {
                    let first = h * dims.head_panels * PANEL;
                    panels::pack(
                        source,
                        dims.d_model,
                        &mut buffer[start..],
                        dims.heads_width,
                        first,
                    );
                }
            }
        }
    }

    /// A parameter out of its place.
    pub(super) fn unpack<T: Real>(self, dims: &Dims, buffer: &[T], out: &mut [T]) {
        match self {
            Self::Plain { start, len } => out.copy_from_slice(&buffer[start..start + len]),
            Self::Matrix { start, columns, rows } => {
                panels::unpack(&buffer[start..], rows, 0, columns, out);
            }
            Self::Reads { start } => {
                for (h, out) in out.chunks_exact_mut(dims.d_model * dims.d_head).enumerate() {
                    let head = &buffer[start..][dims.head(h, dims.model_rows)];
                    panels::unpack(head, dims.model_rows, 0, dims.d_head, out);
                }
            }
            Self::HeadRows { start } => {
                let width = dims.head_panels * PANEL;
                for (head, out) in
                    buffer[start..].chunks(width).zip(out.chunks_exact_mut(dims.d_head))
                {
                    out.copy_from_slice(&head[..dims.d_head]);
                }
            }
            Self::Writes { start } => {
                for (h, out) in out.chunks_exact_mut(dims.d_head * dims.d_model).enumerate() {
                    let first = h * dims.head_panels * PANEL;
                    panels::unpack(&buffer[start..], dims.heads_width, first, dims.d_model, out);
                }
            }
        }
    }
}
