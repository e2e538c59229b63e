use std::{collections::BTreeMap, ops::Range};

use induction_kernels::{PANEL, Real, panels};
use induction_model::{
    Architecture, Axes, ModelConfig, Normalization, Parameter, Positions, Rotary, alibi_slopes,
};

/// The gains of the norms of queries and of keys.
pub(super) const QK_NORMS: [&str; 2] = ["attn.q_norm.w", "attn.k_norm.w"];

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

    /// Elements that a parameter takes.
    fn stored(&self, parameter: &Parameter) -> usize {
        let shape = &parameter.shape;
        match parameter.axes {
            Axes::Numbers => shape[0],
            Axes::Row => panels::count(shape[0]) * PANEL,
            // A gradient is made in tiles of 8 rows.
            Axes::Matrix => panels::len(shape[0].next_multiple_of(8), shape[1]),
            Axes::HeadsRead => panels::len(self.model_rows, shape[0] * self.head_panels * PANEL),
            Axes::HeadsBias => shape[0] * self.head_panels * PANEL,
            Axes::HeadsWrite => panels::len(self.heads_width, shape[2]),
            Axes::Experts => shape[0] * panels::len(shape[1].next_multiple_of(8), shape[2]),
        }
    }

    /// Where a parameter stands that begins at `start`.
    fn place(&self, parameter: &Parameter, start: usize) -> Place {
        let shape = &parameter.shape;
        match parameter.axes {
            Axes::Numbers => Place::Plain { start, len: shape[0] },
            Axes::Row => Place::Matrix { start, columns: shape[0], rows: 1 },
            Axes::Matrix => {
                Place::Matrix { start, columns: shape[1], rows: shape[0].next_multiple_of(8) }
            }
            Axes::HeadsRead => Place::Reads { start },
            Axes::HeadsBias => Place::HeadRows { start },
            Axes::HeadsWrite => Place::Writes { start },
            Axes::Experts => {
                let (inputs, columns) = (shape[1], shape[2]);
                Place::Matrices { start, inputs, columns, rows: inputs.next_multiple_of(8) }
            }
        }
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
/// norm, unembedding]`, each in the order of the model's list of parameters.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) dims: Dims,
    /// `[d_vocab, d_model]`.
    pub(super) embed: Range<usize>,
    pub(super) n_layers: usize,
    /// Layers that are there at once: all, or the one that a sweep is at.
    resident: usize,
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
    /// Radians a position, of most layers and of the others; empty where nothing is turned.
    pub(super) rotary_frequencies: [Vec<f64>; 2],
    /// What their cosines and sines are multiplied by.
    pub(super) rotary_factors: [f64; 2],
    /// One a head, or none.
    pub(super) alibi_slopes: Vec<f64>,
    /// Layers that have the second frequencies.
    other_layers: Vec<usize>,
    pub(super) len: usize,
    /// Parameters before those of the first layer: the embedding, and learned positions.
    pub(super) before: usize,
    /// The parameters of a layer, in order; places count from the layer's beginning.
    pub(super) of_layer: Vec<Place>,
    /// The parameters after the last layer, in order; places count from the buffer's beginning.
    pub(super) after: Vec<Place>,
}

/// The same within a layer, from the layer's beginning; what the model has not is empty.
#[derive(Clone, Debug)]
pub(super) struct LayerLayout {
    pub(super) ln1: Range<usize>,
    /// `[d_model, heads_width]` for queries, `[d_model, kv_width]` for keys and for values.
    pub(super) qkv: Range<usize>,
    /// Their biases, one row.
    pub(super) b_qkv: Range<usize>,
    /// `[heads_width, d_model]`.
    pub(super) o: Range<usize>,
    pub(super) b_o: Range<usize>,
    /// One number.
    pub(super) pos_gain: Range<usize>,
    /// One a head.
    pub(super) smear: Range<usize>,
    pub(super) ln2: Range<usize>,
    /// `[d_model, d_mlp]` and a bias, which is zero where a model with a gate has none.
    pub(super) w_gate: Range<usize>,
    pub(super) b_gate: Range<usize>,
    /// `[d_model, d_mlp]` and a bias, which is zero where the model has none.
    pub(super) w_in: Range<usize>,
    pub(super) b_in: Range<usize>,
    /// `[d_mlp, d_model]`.
    pub(super) w_out: Range<usize>,
    pub(super) b_out: Range<usize>,
    /// All parameters, for steps of a pass that few models have.
    named: BTreeMap<&'static str, Range<usize>>,
}

impl LayerLayout {
    /// Where the parameter of that name is, if the model has it.
    pub(super) fn find(&self, name: &str) -> Option<Range<usize>> {
        self.named.get(name).cloned()
    }
}

/// Parameters one after the other.
struct Row {
    /// Where each is, by its name.
    ranges: BTreeMap<&'static str, Range<usize>>,
    places: Vec<Place>,
    end: usize,
}

impl Row {
    fn new(dims: &Dims, parameters: &[Parameter], start: usize) -> Self {
        let mut row = Self { ranges: BTreeMap::new(), places: Vec::new(), end: start };
        for parameter in parameters {
            row.places.push(dims.place(parameter, row.end));
            let range = row.take(dims.stored(parameter));
            row.ranges.insert(parameter.name, range);
        }
        row
    }

    /// More room at the end.
    fn take(&mut self, len: usize) -> Range<usize> {
        self.end += len;
        self.end - len..self.end
    }

    /// Where a parameter is; empty if there is none.
    fn at(&self, name: &str) -> Range<usize> {
        self.ranges.get(name).cloned().unwrap_or_default()
    }

    /// Where parameters are that follow each other, as far as there are any.
    fn span(&self, names: &[&str]) -> Range<usize> {
        let all = || names.iter().filter_map(|name| self.ranges.get(name));
        let (first, last) = (all().next(), all().next_back());
        first.zip(last).map_or(0..0, |(first, last)| first.start..last.end)
    }
}

impl Layout {
    /// Of a whole model.
    pub(super) fn new(config: &ModelConfig) -> Self {
        Self::of(config, true)
    }

    /// Of a model that is read layer by layer: of one layer and what is small beside it, without
    /// embedding and unembedding.
    pub(super) fn of_one_layer(config: &ModelConfig) -> Self {
        Self::of(config, false)
    }

    fn of(config: &ModelConfig, whole: bool) -> Self {
        let dims = Dims::new(config);
        let mut within = Row::new(&dims, &config.block_parameters(), 0);
        let mlp = |gated: bool| dims.d_mlp > 0 && (!gated || dims.architecture.gated_mlp);
        // A bias is added with the nonlinearity, so there is one to add.
        let mut bias = |name: &str, there: bool| match within.at(name) {
            none if none.is_empty() && there => within.take(dims.mlp_width()),
            there => there,
        };
        let (b_in, b_gate) = (bias("mlp.b_in", mlp(false)), bias("mlp.b_gate", mlp(true)));
        let layer = LayerLayout {
            ln1: within.span(&["ln1.w", "ln1.b"]),
            qkv: within.span(&["attn.W_Q", "attn.W_K", "attn.W_V"]),
            b_qkv: within.span(&["attn.b_Q", "attn.b_K", "attn.b_V"]),
            o: within.at("attn.W_O"),
            b_o: within.at("attn.b_O"),
            pos_gain: within.at("attn.pos_gain"),
            smear: within.at("attn.smear_alpha"),
            ln2: within.span(&["ln2.w", "ln2.b"]),
            w_gate: within.at("mlp.W_gate"),
            b_gate,
            w_in: within.at("mlp.W_in"),
            b_in,
            w_out: within.at("mlp.W_out"),
            b_out: within.at("mlp.b_out"),
            named: within.ranges.clone(),
        };
        // Looked up, not multiplied with: no rows beside its own. Learned positions are added from
        // a buffer of their own.
        let embed = if whole { panels::len(dims.d_vocab, dims.d_model) } else { 0 };
        let resident = if whole { config.n_layers } else { 1 };
        let first_after = embed + resident * within.end;
        let mut parameters = config.parameters_after();
        parameters.retain(|parameter| whole || parameter.name != "unembed.W_U");
        let mut after = Row::new(&dims, &parameters, first_after);
        let mut unembed = after.at("unembed.W_U");
        if unembed.is_empty() && whole {
            unembed = after.take(panels::len(dims.model_rows, dims.d_vocab));
        }
        let rotary = match &dims.architecture.positions {
            Positions::Rotary(rotary) => Some(rotary),
            _ => None,
        };
        let other = dims.architecture.other_positions.as_ref();
        Self {
            embed: 0..embed,
            n_layers: config.n_layers,
            resident,
            layer_len: within.end,
            layer,
            ln_final: after.span(&["ln_final.w", "ln_final.b"]),
            unembed,
            b_u: after.at("unembed.b_U"),
            rotary_pairs: rotary
                .map_or(Vec::new(), |r| (0..r.dim / 2).map(|i| r.pair(i)).collect()),
            rotary_frequencies: [rotary, other.and_then(|other| other.rotary.as_ref())]
                .map(|rotary| rotary.map_or(Vec::new(), Rotary::frequencies)),
            rotary_factors: [rotary, other.and_then(|other| other.rotary.as_ref())]
                .map(|rotary| rotary.and_then(|rotary| rotary.attention_factor).unwrap_or(1.0)),
            alibi_slopes: match dims.architecture.positions {
                Positions::Alibi => alibi_slopes(dims.n_heads),
                _ => Vec::new(),
            },
            other_layers: other.map_or(Vec::new(), |other| other.layers.clone()),
            len: after.end,
            before: config.parameters_before().len(),
            of_layer: within.places,
            after: after.places,
            dims,
        }
    }

    /// Which of the [`rotary_frequencies`](Self::rotary_frequencies) layer `l` has.
    pub(super) fn frequencies_of(&self, l: usize) -> usize {
        usize::from(self.other_layers.contains(&l))
    }

    /// Where layer `l` stands.
    pub(super) fn layer_at(&self, l: usize) -> Range<usize> {
        let start = self.embed.end + l % self.resident * self.layer_len;
        start..start + self.layer_len
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
    /// Matrices of `inputs` rows one after the other, each as panels that store `rows` rows.
    Matrices { start: usize, inputs: usize, columns: usize, rows: usize },
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
            Self::Matrices { start, inputs, columns, rows } => {
                let (each, len) = (inputs * columns, panels::len(rows, columns));
                for (k, source) in source.chunks_exact(each).enumerate() {
                    panels::pack(source, columns, &mut buffer[start + k * len..], rows, 0);
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
            Self::Matrices { start, inputs, columns, rows } => {
                let (each, len) = (inputs * columns, panels::len(rows, columns));
                for (k, out) in out.chunks_exact_mut(each).enumerate() {
                    panels::unpack(&buffer[start + k * len..], rows, 0, columns, out);
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
