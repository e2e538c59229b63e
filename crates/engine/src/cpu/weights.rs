use induction_kernels::{Real, panels};
use rayon::prelude::*;

use super::layout::Layout;

/// A model's weights as panels, and transposed where the backward pass wants them so.
pub(super) struct Weights<T> {
    pub(super) packed: Vec<T>,
    pub(super) transposed: Vec<LayerTransposed<T>>,
    /// `[d_vocab, d_model]`.
    pub(super) unembed_t: Vec<T>,
    /// Whether the transposes are those of `packed`: evaluation never needs them.
    is_transposed: bool,
}

#[derive(Default)]
pub(super) struct LayerTransposed<T> {
    /// `[3 * heads_width, d_model]`.
    pub(super) qkv: Vec<T>,
    /// `[d_model, heads_width]`.
    pub(super) o: Vec<T>,
    /// `[d_mlp, d_model]`.
    pub(super) w_in: Vec<T>,
    /// `[d_model, d_mlp]`.
    pub(super) w_out: Vec<T>,
}

impl<T: Real> Weights<T> {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            packed: vec![T::default(); layout.len],
            transposed: Vec::new(),
            unembed_t: Vec::new(),
            is_transposed: false,
        }
    }

    /// From row-major parameters in the order of `ModelConfig::parameter_shapes`.
    pub(super) fn set(&mut self, layout: &Layout, parameters: &[&[T]]) {
        let dims = &layout.dims;
        self.is_transposed = false;
        let (before, rest) = parameters.split_at(layout.before);
        let (layers, last) = rest.split_at(layout.n_layers * layout.of_layer.len());
        let (embed, buffer) = self.packed.split_at_mut(layout.embed.end);
        let (blocks, _) = buffer.split_at_mut(layout.n_layers * layout.layer_len);
        let pack_layers = || {
            let sources = layers.par_chunks_exact(layout.of_layer.len());
            blocks.par_chunks_exact_mut(layout.layer_len).zip(sources).for_each(
                |(block, sources)| {
                    for (place, source) in layout.of_layer.iter().zip(sources) {
                        place.pack(dims, source, block);
                    }
                },
            );
        };
        rayon::join(|| layout.embedding().pack(dims, before[0], embed), pack_layers);
        for (place, source) in layout.after.iter().zip(last) {
            place.pack(dims, source, &mut self.packed);
        }
        if dims.architecture.tied_embeddings {
            let (embed, rest) = self.packed.split_at_mut(layout.embed.end);
            let unembed =
                &mut rest[layout.unembed.start - layout.embed.end..][..layout.unembed.len()];
            panels::transpose(
                embed,
                dims.d_vocab,
                dims.d_vocab,
                dims.d_model,
                unembed,
                dims.model_rows,
                0,
            );
        }
    }

    /// Makes the transposes of what was [`set`](Self::set).
    pub(super) fn transpose(&mut self, layout: &Layout) {
        if self.is_transposed {
            return;
        }
        let (dims, at) = (&layout.dims, &layout.layer);
        let (d, width, rows) = (dims.d_model, dims.heads_width, dims.model_rows);
        if self.unembed_t.is_empty() {
            self.unembed_t = vec![T::default(); panels::len(dims.d_vocab, d)];
            self.transposed = (0..layout.n_layers)
                .map(|_| LayerTransposed {
                    qkv: vec![T::default(); panels::len(3 * width, d)],
                    o: vec![T::default(); panels::len(d, width)],
                    w_in: vec![T::default(); panels::len(dims.d_mlp, d)],
                    w_out: vec![T::default(); panels::len(d, dims.d_mlp)],
                })
                .collect();
        }
        let packed = &self.packed;
        let unembed = || {
            let unembed = &packed[layout.unembed.clone()];
            panels::transpose(unembed, rows, d, dims.d_vocab, &mut self.unembed_t, dims.d_vocab, 0);
        };
        let layers = || {
            self.transposed.par_iter_mut().enumerate().for_each(|(l, out)| {
                let layer = &packed[layout.layer_at(l)];
                // A head's padding is zero in the weights, so whole panels can be transposed.
                panels::transpose(
                    &layer[at.qkv.clone()],
                    rows,
                    d,
                    3 * width,
                    &mut out.qkv,
                    3 * width,
                    0,
                );
                panels::transpose(&layer[at.o.clone()], width, width, d, &mut out.o, d, 0);
                if dims.d_mlp > 0 {
                    panels::transpose(
                        &layer[at.w_in.clone()],
                        rows,
                        d,
                        dims.d_mlp,
                        &mut out.w_in,
                        dims.d_mlp,
                        0,
                    );
                    let w_out = &layer[at.w_out.clone()];
                    panels::transpose(w_out, dims.mlp_rows, dims.d_mlp, d, &mut out.w_out, d, 0);
                }
            });
        };
        rayon::join(unembed, layers);
        self.is_transposed = true;
    }
}
