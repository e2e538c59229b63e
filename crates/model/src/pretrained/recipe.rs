use rayon::prelude::*;

use crate::ModelConfig;

/// How a parameter stands in a tensor of its file. "Of head `h`" rows or columns begin at `first +
/// h * stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In the same order; what has heads, as `W_O`, with them as part of the first axis.
    AsIs,
    /// In the same order and shape.
    Whole,
    /// `[in, out]` as `[out, in]`; what has heads, as `W_O`, with them as one axis.
    Transposed,
    /// `[head, in, d_head]` as rows of `[out, in]`: PyTorch's linear layers.
    HeadRows {
        /// Row of head 0.
        first: usize,
        /// Rows from head to head.
        stride: usize,
        /// Rows in all.
        rows: usize,
    },
    /// [`HeadRows`](Self::HeadRows) of heads in groups: head `h` begins at row `first + (h /
    /// in_group) * stride + (h % in_group) * d_head`.
    GroupRows {
        /// Row of head 0.
        first: usize,
        /// Heads in a group, one after the other.
        in_group: usize,
        /// Rows from group to group.
        stride: usize,
        /// Rows in all.
        rows: usize,
    },
    /// `[head, in, d_head]` as columns of `[in, out]`: GPT-2's.
    HeadColumns {
        /// Column of head 0.
        first: usize,
        /// Columns from head to head.
        stride: usize,
        /// Columns in all.
        columns: usize,
    },
    /// `[head, d_head]` within a vector.
    HeadEntries {
        /// Entry of head 0.
        first: usize,
        /// Entries from head to head.
        stride: usize,
        /// Entries in all.
        entries: usize,
    },
    /// [`HeadEntries`](Self::HeadEntries) of heads in groups, as [`GroupRows`](Self::GroupRows).
    GroupEntries {
        /// Entry of head 0.
        first: usize,
        /// Heads in a group.
        in_group: usize,
        /// Entries from group to group.
        stride: usize,
        /// Entries in all.
        entries: usize,
    },
    /// `[in, out]` as some rows of `[out, in]`.
    TransposedPart {
        /// The first row.
        first: usize,
        /// Rows in all.
        rows: usize,
    },
    /// `[expert, in, out]` as `[out, in]` of each expert: one tensor of all, or one each where the
    /// name has [`EXPERT`] for its number.
    Experts,
    /// Some rows of at least as many as there must be.
    Part {
        /// The first row.
        first: usize,
    },
    /// All ones or zeros: what the model lacks and the family has.
    Constant(i8),
}

/// What stands for an expert's number in the name of a tensor.
pub(super) const EXPERT: &str = "{e}";

/// Where a parameter is found: `factor * (value + addend)` for each value there.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) tensor: String,
    pub(super) layout: Layout,
    factor: f64,
    addend: f64,
    /// Gain and bias of a layer norm that each row then goes through.
    pub(super) norm: Option<[String; 2]>,
}

impl Recipe {
    pub(super) fn new(tensor: impl Into<String>, layout: Layout) -> Self {
        Self { tensor: tensor.into(), layout, factor: 1.0, addend: 0.0, norm: None }
    }

    /// For what a family multiplies in the pass, and this project in the weights.
    pub(super) fn times(self, factor: f64) -> Self {
        Self { factor: self.factor * factor, ..self }
    }

    /// For gains that are stored less one.
    pub(super) fn plus(self, addend: f64) -> Self {
        Self { addend, ..self }
    }

    /// For an embedding that a model norms: a row of the norm's result depends on its row alone.
    pub(super) fn normed(self, gain: String, bias: String) -> Self {
        Self { norm: Some([gain, bias]), ..self }
    }

    /// Makes a tensor's values the parameter's.
    pub(super) fn adjust(&self, values: &mut [f32]) {
        if (self.factor, self.addend) != (1.0, 0.0) {
            let adjusted = |x: f32| (self.factor * (f64::from(x) + self.addend)) as f32;
            values.par_iter_mut().for_each(|x| *x = adjusted(*x));
        }
    }

    /// Whether values are as the tensor has them.
    pub(super) fn is_plain(&self) -> bool {
        (self.factor, self.addend) == (1.0, 0.0) && self.norm.is_none()
    }

    /// The tensors, with the shape of each; nothing of a constant.
    pub(super) fn tensors(&self, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
        let Some(expected) = expected_shape(shape, self.layout) else { return Vec::new() };
        if !self.tensor.contains(EXPERT) {
            return vec![(self.tensor.clone(), expected)];
        }
        let named = |e: usize| self.tensor.replace(EXPERT, &e.to_string());
        (0..shape[0]).map(|e| (named(e), expected[1..].to_vec())).collect()
    }

    /// The row of the tensor that is a column of the parameter of shape `shape`, where columns are
    /// rows; they are counted through all heads.
    pub(super) fn row_of(&self, shape: &[usize], column: usize) -> Option<usize> {
        let d_head = *shape.last()?;
        let (head, entry) = (column / d_head.max(1), column % d_head.max(1));
        match self.layout {
            _ if self.norm.is_some() => None,
            Layout::Transposed => Some(column),
            Layout::TransposedPart { first, .. } => Some(first + column),
            Layout::HeadRows { first, stride, .. } => Some(first + head * stride + entry),
            Layout::GroupRows { first, in_group, stride, .. } => {
                Some(first + head / in_group * stride + head % in_group * d_head + entry)
            }
            _ => None,
        }
    }

    pub(super) fn constant(value: i8) -> Self {
        Self::new("", Layout::Constant(value))
    }
}

/// A parameter's layer and its name within it: `blocks.3.attn.W_Q` is `(3, "attn.W_Q")`; what is in
/// no layer has layer 0.
pub(super) fn split_name(name: &str) -> (usize, &str) {
    let inner = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
    match inner.and_then(|(layer, rest)| Some((layer.parse().ok()?, rest))) {
        Some((layer, rest)) => (layer, rest),
        None => (0, name),
    }
}

/// How the gains of queries' or keys' norm stand in one row of all heads.
pub(super) fn norm_of_heads(config: &ModelConfig, name: &str) -> Layout {
    let stride = config.d_head;
    let heads = if name == "attn.q_norm.w" { config.n_heads } else { config.n_key_value_heads() };
    Layout::HeadEntries { first: 0, stride, entries: heads * stride }
}

/// The shape that the tensor must have.
fn expected_shape(shape: &[usize], layout: Layout) -> Option<Vec<usize>> {
    Some(match layout {
        Layout::Constant(_) => return None,
        Layout::AsIs if shape.len() == 3 => vec![shape[0] * shape[1], shape[2]],
        Layout::AsIs | Layout::Whole => shape.to_vec(),
        Layout::Transposed => {
            let (last, rest) = shape.split_last().expect("matrices have two axes");
            vec![*last, rest.iter().product()]
        }
        Layout::Experts => vec![shape[0], shape[2], shape[1]],
        Layout::TransposedPart { rows, .. } => vec![rows, shape[0]],
        Layout::Part { first } => vec![first + shape[0], shape[1]],
        Layout::HeadRows { rows, .. } | Layout::GroupRows { rows, .. } => vec![rows, shape[1]],
        Layout::HeadColumns { columns, .. } => vec![shape[1], columns],
        Layout::HeadEntries { entries, .. } | Layout::GroupEntries { entries, .. } => vec![entries],
    })
}

/// A tensor's values in the order of the parameter of shape `shape`.
pub(super) fn arrange(values: Vec<f32>, shape: &[usize], layout: Layout) -> Vec<f32> {
    match layout {
        Layout::AsIs | Layout::Whole | Layout::Constant(_) => values,
        Layout::Transposed => {
            let rows = *shape.last().expect("matrices have two axes");
            transpose(&values, rows, values.len() / rows.max(1))
        }
        Layout::Experts => {
            let (d_in, d_out) = (shape[1], shape[2]);
            let each = values.chunks_exact((d_in * d_out).max(1));
            each.flat_map(|expert| transpose(expert, d_out, d_in)).collect()
        }
        Layout::TransposedPart { first, .. } => {
            let (d_in, d_out) = (shape[0], shape[1]);
            transpose(&values[first * d_in..][..d_out * d_in], d_out, d_in)
        }
        Layout::Part { first } => values[first * shape[1]..][..shape[0] * shape[1]].to_vec(),
        Layout::HeadRows { first, stride, .. } => head_rows(&values, shape, |h| first + h * stride),
        Layout::GroupRows { first, in_group, stride, .. } => {
            let begin = |h| first + h / in_group * stride + h % in_group * shape[2];
            head_rows(&values, shape, begin)
        }
        Layout::HeadColumns { first, stride, columns } => {
            let d_head = shape[2];
            let mut out = Vec::with_capacity(shape.iter().product());
            for h in 0..shape[0] {
                let from = first + h * stride;
                for row in values.chunks_exact(columns) {
                    out.extend_from_slice(&row[from..from + d_head]);
                }
            }
            out
        }
        Layout::HeadEntries { first, stride, .. } => {
            (0..shape[0]).flat_map(|h| values[first + h * stride..][..shape[1]].to_vec()).collect()
        }
        Layout::GroupEntries { first, in_group, stride, .. } => {
            let begin = |h: usize| first + h / in_group * stride + h % in_group * shape[1];
            (0..shape[0]).flat_map(|h| values[begin(h)..][..shape[1]].to_vec()).collect()
        }
    }
}

/// `[head, in, d_head]` from rows of `[out, in]`, of which those of head `h` begin at `begin(h)`.
fn head_rows(values: &[f32], shape: &[usize], begin: impl Fn(usize) -> usize + Sync) -> Vec<f32> {
    let (d_in, d_head) = (shape[1], shape[2]);
    let mut out = vec![0.0; shape.iter().product()];
    out.par_chunks_exact_mut(d_in * d_head).enumerate().for_each(|(h, out)| {
        let from = begin(h) * d_in;
        transpose_into(&values[from..from + d_head * d_in], d_head, d_in, out);
    });
    out
}

/// Row-major `[rows, columns]` as `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    transpose_into(values, rows, columns, &mut out);
    out
}

/// Block by block, as one of the two is read or written across the lines; some rows of `out` are a
/// task.
fn transpose_into(values: &[f32], rows: usize, columns: usize, out: &mut [f32]) {
    const BLOCK: usize = 32;
    out.par_chunks_mut((BLOCK * rows).max(1)).enumerate().for_each(|(k, out)| {
        for r0 in (0..rows).step_by(BLOCK) {
            for (c, out) in out.chunks_exact_mut(rows).enumerate() {
                for r in r0..(r0 + BLOCK).min(rows) {
                    out[r] = values[r * columns + k * BLOCK + c];
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layout_finds_its_entries() {
        // [out, in] with entry out * 100 + in.
        let (d_in, d_head, heads) = (5, 3, 2);
        let linear = |rows: usize| -> Vec<f32> {
            (0..rows * d_in).map(|i| (i / d_in * 100 + i % d_in) as f32).collect()
        };
        let layout = Layout::HeadRows { first: 3, stride: 9, rows: 18 };
        let shape = [heads, d_in, d_head];
        assert_eq!(expected_shape(&shape, layout), Some(vec![18, 5]));
        let found = arrange(linear(18), &shape, layout);
        for h in 0..heads {
            for m in 0..d_in {
                for i in 0..d_head {
                    assert_eq!(
                        found[(h * d_in + m) * d_head + i],
                        ((3 + h * 9 + i) * 100 + m) as f32
                    );
                }
            }
        }
        // One head a group is the same.
        let grouped = Layout::GroupRows { first: 3, in_group: 1, stride: 9, rows: 18 };
        assert_eq!(arrange(linear(18), &shape, grouped), found);
        // Two heads side by side, after three other rows.
        let grouped = Layout::GroupRows { first: 3, in_group: 2, stride: 15, rows: 18 };
        let side_by_side = Layout::HeadRows { first: 3, stride: 3, rows: 18 };
        assert_eq!(arrange(linear(18), &shape, grouped), arrange(linear(18), &shape, side_by_side));
        // The same from [in, out].
        let columns = transpose(&linear(18), 18, d_in);
        assert_eq!(
            arrange(columns, &shape, Layout::HeadColumns { first: 3, stride: 9, columns: 18 }),
            found
        );
        // W_O [head, d_head, d_model] from [d_model, heads * d_head].
        let shape = [heads, d_head, 4];
        assert_eq!(expected_shape(&shape, Layout::Transposed), Some(vec![4, 6]));
        let source: Vec<f32> = (0..24).map(|i| (i / 6 * 100 + i % 6) as f32).collect();
        let found = arrange(source, &shape, Layout::Transposed);
        assert_eq!(found[(d_head + 2) * 4 + 3], 305.0);
        let bias = arrange(
            (0..18).map(|i| i as f32).collect(),
            &[2, 3],
            Layout::HeadEntries { first: 6, stride: 9, entries: 18 },
        );
        assert_eq!(bias, [6.0, 7.0, 8.0, 15.0, 16.0, 17.0]);
    }
}
