use std::ops::Range;

use induction_kernels::{PANEL, Real, panels};
use induction_model::{ModelConfig, Normalization};

/// The sizes of a model, with what padding makes of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dims {
    pub(super) d_model: usize,
    /// Rows that a weight matrix stores for an input of `d_model`: a gradient is made in tiles of 8 rows.
    pub(super) model_rows: usize,
    pub(super) n_heads: usize,
    pub(super) d_head: usize,
    /// Panels of one head.
    pub(super) head_panels: usize,
    /// Columns of all heads, each head padded to whole panels.
    pub(super) heads_width: usize,
    pub(super) d_mlp: usize,
    pub(super) mlp_rows: usize,
    pub(super) d_vocab: usize,
    pub(super) layer_norm: bool,
    pub(super) smeared: bool,
}

impl Dims {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let head_panels = panels::count(config.d_head);
        Self {
            d_model: config.d_model,
            model_rows: config.d_model.next_multiple_of(8),
            n_heads: config.n_heads,
            d_head: config.d_head,
            head_panels,
            heads_width: config.n_heads * head_panels * PANEL,
            d_mlp: config.d_mlp,
            mlp_rows: config.d_mlp.next_multiple_of(8),
            d_vocab: config.d_vocab,
            layer_norm: config.normalization == Normalization::LN,
            smeared: config.smeared_keys,
        }
    }

    /// Elements of one row of `d_model` columns, padded.
    pub(super) fn model_width(&self) -> usize {
        panels::count(self.d_model) * PANEL
    }

    pub(super) fn mlp_width(&self) -> usize {
        panels::count(self.d_mlp) * PANEL
    }

    /// A layer norm's gain and bias, one row each; nothing without layer norm.
    fn norm(&self, start: usize) -> impl Iterator<Item = Place> + use<> {
        let (columns, width) = (self.d_model, self.model_width());
        let count = if self.layer_norm { 2 } else { 0 };
        (0..count).map(move |which| Place::Matrix { start: start + which * width, columns, rows: 1 })
    }

    /// The part of a buffer of `rows` stored rows that holds head `h`.
    pub(super) fn head(&self, h: usize, rows: usize) -> Range<usize> {
        let len = self.head_panels * rows * PANEL;
        h * len..(h + 1) * len
    }
}

/// Where each parameter stands in one flat buffer of panels. Weights and gradients share it, so groups of gradients are
/// summed as whole buffers: `[embedding | layer 0 | layer 1 | ... | final norm, unembedding]`.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) dims: Dims,
    /// `[d_vocab, d_model]`.
    pub(super) embed: Range<usize>,
    pub(super) n_layers: usize,
    pub(super) layer_len: usize,
    pub(super) layer: LayerLayout,
    /// Gain and bias, one row of panels each; empty without layer norm.
    pub(super) ln_final: Range<usize>,
    /// `[d_model, d_vocab]`.
    pub(super) unembed: Range<usize>,
    pub(super) len: usize,
}

/// The same within a layer, from the layer's beginning.
#[derive(Clone, Debug)]
pub(super) struct LayerLayout {
    pub(super) ln1: Range<usize>,
    /// `[d_model, heads_width]` three times over: queries, keys, values.
    pub(super) qkv: Range<usize>,
    /// `[heads_width, d_model]`.
    pub(super) o: Range<usize>,
    pub(super) pos_gain: usize,
    /// One a head.
    pub(super) smear: Range<usize>,
    pub(super) ln2: Range<usize>,
    /// `[d_model, d_mlp]`.
    pub(super) w_in: Range<usize>,
    pub(super) b_in: Range<usize>,
    /// `[d_mlp, d_model]`.
    pub(super) w_out: Range<usize>,
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
        let norm = if dims.layer_norm { 2 * dims.model_width() } else { 0 };
        let if_mlp = |len: usize| if dims.d_mlp > 0 { len } else { 0 };
        let mut within = Ranges(0);
        let layer = LayerLayout {
            ln1: within.take(norm),
            qkv: within.take(3 * panels::len(dims.model_rows, dims.heads_width)),
            o: within.take(panels::len(dims.heads_width, dims.d_model)),
            pos_gain: within.take(1).start,
            smear: within.take(if dims.smeared { dims.n_heads } else { 0 }),
            ln2: within.take(if_mlp(norm)),
            w_in: within.take(panels::len(dims.model_rows, dims.d_mlp)),
            b_in: within.take(dims.mlp_width()),
            w_out: within.take(if_mlp(panels::len(dims.mlp_rows, dims.d_model))),
            b_out: within.take(if_mlp(dims.model_width())),
        };
        let mut whole = Ranges(0);
        Self {
            dims,
            embed: whole.take(panels::len(dims.d_vocab, dims.d_model)),
            n_layers: config.n_layers,
            layer_len: within.0,
            layer,
            ln_final: {
                whole.take(config.n_layers * within.0);
                whole.take(norm)
            },
            unembed: whole.take(panels::len(dims.model_rows, dims.d_vocab)),
            len: whole.0,
        }
    }

    /// Where layer `l` stands.
    pub(super) fn layer_at(&self, l: usize) -> Range<usize> {
        let start = self.embed.end + l * self.layer_len;
        start..start + self.layer_len
    }

    /// Parameters that a layer has in [`ModelConfig::parameter_shapes`].
    pub(super) fn parameters_per_layer(&self) -> usize {
        5 + 2 * usize::from(self.dims.layer_norm)
            + usize::from(self.dims.smeared)
            + if self.dims.d_mlp > 0 { 4 + 2 * usize::from(self.dims.layer_norm) } else { 0 }
    }

    /// What stands where: calls `visit` for each parameter of a layer in the order of
    /// [`ModelConfig::parameter_shapes`], with its place in the layer's buffer.
    pub(super) fn visit_layer(&self, mut visit: impl FnMut(Place)) {
        let (dims, at) = (&self.dims, &self.layer);
        let row = |start: usize, columns: usize| Place::Matrix { start, columns, rows: 1 };
        dims.norm(at.ln1.start).for_each(&mut visit);
        let third = panels::len(dims.model_rows, dims.heads_width);
        for part in 0..3 {
            visit(Place::Reads { start: at.qkv.start + part * third });
        }
        visit(Place::Writes { start: at.o.start });
        visit(Place::Plain { start: at.pos_gain, len: 1 });
        if dims.smeared {
            visit(Place::Plain { start: at.smear.start, len: dims.n_heads });
        }
        if dims.d_mlp > 0 {
            dims.norm(at.ln2.start).for_each(&mut visit);
            visit(Place::Matrix { start: at.w_in.start, columns: dims.d_mlp, rows: dims.model_rows });
            visit(row(at.b_in.start, dims.d_mlp));
            visit(Place::Matrix { start: at.w_out.start, columns: dims.d_model, rows: dims.mlp_rows });
            visit(row(at.b_out.start, dims.d_model));
        }
    }

    /// The parameters of the final norm and the unembedding, likewise; places count from the buffer's beginning.
    pub(super) fn visit_final(&self, mut visit: impl FnMut(Place)) {
        let dims = &self.dims;
        dims.norm(self.ln_final.start).for_each(&mut visit);
        visit(Place::Matrix { start: self.unembed.start, columns: dims.d_vocab, rows: dims.model_rows });
    }

    /// The embedding.
    pub(super) fn embedding(&self) -> Place {
        Place::Matrix { start: self.embed.start, columns: self.dims.d_model, rows: self.dims.d_vocab }
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
    /// `[head, d_head, d_model]`: the heads' rows below each other, each head padded to whole panels.
    Writes { start: usize },
}

impl Place {
    /// A parameter into its place.
    pub(super) fn pack<T: Real>(self, dims: &Dims, source: &[T], buffer: &mut [T]) {
        match self {
            Self::Plain { start, len } => buffer[start..start + len].copy_from_slice(source),
            Self::Matrix { start, columns, rows } => panels::pack(source, columns, &mut buffer[start..], rows, 0),
            Self::Reads { start } => {
                for (h, source) in source.chunks_exact(dims.d_model * dims.d_head).enumerate() {
                    let head = &mut buffer[start..][dims.head(h, dims.model_rows)];
                    panels::pack(source, dims.d_head, head, dims.model_rows, 0);
                }
            }
            Self::Writes { start } => {
                for (h, source) in source.chunks_exact(dims.d_head * dims.d_model).enumerate() {
                    let first = h * dims.head_panels * PANEL;
                    panels::pack(source, dims.d_model, &mut buffer[start..], dims.heads_width, first);
                }
            }
        }
    }

    /// A parameter out of its place.
    pub(super) fn unpack<T: Real>(self, dims: &Dims, buffer: &[T], out: &mut [T]) {
        match self {
            Self::Plain { start, len } => out.copy_from_slice(&buffer[start..start + len]),
            Self::Matrix { start, columns, rows } => panels::unpack(&buffer[start..], rows, 0, columns, out),
            Self::Reads { start } => {
                for (h, out) in out.chunks_exact_mut(dims.d_model * dims.d_head).enumerate() {
                    let head = &buffer[start..][dims.head(h, dims.model_rows)];
                    panels::unpack(head, dims.model_rows, 0, dims.d_head, out);
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
