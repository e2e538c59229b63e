use induction_kernels::{PANEL, Real, attention, panels};

use super::clamped::Clamped;
use super::layout::{Dims, Layout};

/// Rows of logits that are in the cache together.
pub(super) const LOGIT_ROWS: usize = 64;
/// What a block of logits stores: a row more, so that a row's panels do not fall into the same few
/// cache sets.
pub(super) const LOGIT_STRIDE: usize = LOGIT_ROWS + 1;

/// Everything that one sequence needs on its way through the model and back. Made once a thread and
/// length, then used again and again.
pub(super) struct Workspace<T> {
    /// Positions.
    pub(super) used: usize,
    /// Rows that each activation stores.
    pub(super) rows: usize,
    /// One a layer where they are kept, else as many as a pass needs at a time: layer `l` has
    /// number `l % layers.len()`.
    pub(super) layers: Vec<Layer<T>>,
    /// The residual stream after the last layer, `[used, d_model]`.
    pub(super) residual: Vec<T>,
    /// Cosines and sines of rotary positions, a row of pairs a position, of most layers and of the
    /// others; empty without.
    pub(super) turns: [Vec<[T; 2]>; 2],
    pub(super) stats: Vec<[T; 2]>,
    /// A block of [`LOGIT_ROWS`] rows, where somebody asked for logits.
    pub(super) logits: Vec<T>,
    pub(super) losses: Vec<T>,
    pub(super) scratch: Scratch<T>,
    pub(super) backward: Option<Backward<T>>,
    /// What the model's clamps make of the sequence.
    pub(super) clamped: Clamped<T>,
}

/// What a layer keeps for the backward pass, or for a later pass that begins at this layer.
pub(super) struct Layer<T> {
    /// The residual stream before the layer.
    pub(super) input: Vec<T>,
    /// Queries, keys before smearing, values: `[used, heads_width + 2 * kv_width]`.
    pub(super) qkv: Vec<T>,
    /// Queries and keys before their norms; empty without, and until training keeps them.
    pub(super) raw_qk: Vec<T>,
    /// Smeared keys; empty without smearing.
    pub(super) smeared: Vec<T>,
    pub(super) z: Vec<T>,
    /// A row of `used` a head.
    pub(super) log_sums: Vec<T>,
    /// Mean and reciprocal root of the variance of each row, before attention and before the MLP.
    pub(super) stats: [Vec<[T; 2]>; 2],
    /// The residual stream between attention and MLP; empty without MLP.
    pub(super) middle: Vec<T>,
    /// The activation's results, `[used, d_mlp]`, and its slopes: only training keeps them.
    pub(super) hidden: Vec<T>,
    pub(super) slope: Vec<T>,
    /// Each head's pattern as [`attention::exponentials`] leaves it, and its shares, a row of
    /// `used` a head; empty until a pass keeps them.
    pub(super) exponentials: Vec<T>,
    pub(super) shares: Vec<T>,
}

/// Used and forgotten within a layer.
pub(super) struct Scratch<T> {
    /// The normalized residual stream.
    pub(super) normal: Vec<T>,
    /// The same with positions.
    pub(super) placed: Vec<T>,
    /// One head's keys and values, transposed.
    pub(super) k_t: Vec<T>,
    pub(super) v_t: Vec<T>,
    pub(super) attention: Vec<T>,
    /// One head's pattern, where somebody looks at it.
    pub(super) pattern: Vec<T>,
    /// A sublayer's output, where somebody looks at it.
    pub(super) out: Vec<T>,
    /// The same before its norm, where a model norms it.
    pub(super) raw: Vec<T>,
    /// What a layer with experts needs: scores of the experts, inputs and output of one.
    pub(super) router: Vec<T>,
    pub(super) chosen: Vec<T>,
    pub(super) written: Vec<T>,
    /// The MLP's hidden layer where no backward pass will want it, and its gate.
    pub(super) hidden: Vec<T>,
    pub(super) gate: Vec<T>,
}

/// Gradients on their way back.
pub(super) struct Backward<T> {
    /// Of the residual stream.
    pub(super) residual: Vec<T>,
    /// Of the normalized residual stream.
    pub(super) normal: Vec<T>,
    pub(super) z: Vec<T>,
    pub(super) qkv: Vec<T>,
    pub(super) hidden: Vec<T>,
}

/// Rows to store for `used` positions: whole tiles of 8, and not a multiple of 32, so that the
/// panels of one row do not fall into the same few cache sets.
pub(super) fn stored_rows(used: usize) -> usize {
    let rows = used.next_multiple_of(8);
    if rows.is_multiple_of(32) { rows + 8 } else { rows }
}

impl<T: Real> Workspace<T> {
    /// With room for `kept` layers.
    pub(super) fn new(layout: &Layout, used: usize, kept: usize) -> Self {
        let dims = &layout.dims;
        let rows = stored_rows(used);
        // Fresh memory is not a number: what is read before it is written shows.
        let fresh = |len: usize| vec![T::NAN; len];
        let [model, heads, mlp] = widths(dims, rows);
        let stats = || vec![[T::NAN; 2]; used];
        let if_mlp = |len: usize| fresh(if dims.d_mlp > 0 { len } else { 0 });
        let turn = |t: usize, frequency: f64, factor: f64| {
            let (sine, cosine) = (t as f64 * frequency).sin_cos();
            [T::from_f64(cosine * factor), T::from_f64(sine * factor)]
        };
        let layer = |_| Layer {
            input: fresh(model),
            qkv: fresh(dims.qk_len(rows)[0] + 2 * dims.qk_len(rows)[1]),
            raw_qk: Vec::new(),
            smeared: fresh(if dims.smeared { heads } else { 0 }),
            z: fresh(heads),
            log_sums: fresh(dims.n_heads * used),
            stats: [stats(), stats()],
            middle: if_mlp(model),
            hidden: Vec::new(),
            slope: Vec::new(),
            exponentials: Vec::new(),
            shares: Vec::new(),
        };
        Self {
            used,
            rows,
            layers: (0..kept).map(layer).collect(),
            residual: fresh(model),
            turns: [0, 1].map(|which| {
                let (frequencies, factor) =
                    (&layout.rotary_frequencies[which], layout.rotary_factors[which]);
                let turns_at = |t| frequencies.iter().map(move |&f| turn(t, f, factor));
                (0..used).flat_map(turns_at).collect()
            }),
            stats: stats(),
            logits: Vec::new(),
            losses: fresh(used),
            scratch: Scratch {
                normal: fresh(model),
                placed: fresh(if dims.placed_inputs() { model } else { 0 }),
                k_t: fresh(panels::len(dims.d_head, used)),
                v_t: Vec::new(),
                attention: fresh(attention::scratch_len(used)),
                pattern: Vec::new(),
                out: Vec::new(),
                raw: Vec::new(),
                router: Vec::new(),
                chosen: Vec::new(),
                written: Vec::new(),
                hidden: fresh(mlp),
                gate: fresh(if dims.architecture.gated_mlp { mlp } else { 0 }),
            },
            backward: None,
            clamped: Clamped::free(),
        }
    }

    /// Room for the backward pass, which evaluation does without.
    pub(super) fn prepare_backward(&mut self, dims: &Dims) {
        if self.backward.is_some() {
            return;
        }
        let [model, heads, mlp] = widths(dims, self.rows);
        let fresh = |len: usize| vec![T::NAN; len];
        for layer in &mut self.layers {
            layer.hidden = fresh(mlp);
            layer.slope = fresh(mlp);
        }
        self.scratch.v_t = fresh(panels::len(dims.d_head, self.used));
        self.backward = Some(Backward {
            residual: fresh(model),
            normal: fresh(model),
            z: fresh(heads),
            qkv: fresh(3 * heads),
            hidden: fresh(mlp),
        });
    }
}

/// Elements of an activation as wide as the residual stream, as all heads, as the MLP.
fn widths(dims: &Dims, rows: usize) -> [usize; 3] {
    [
        panels::len(rows, dims.d_model),
        dims.heads_width / PANEL * rows * PANEL,
        panels::len(rows, dims.d_mlp),
    ]
}
