//! Weights from where they are stored into the layout that the products read, a layer or a piece of
//! the unembedding at a time.

use std::ops::Range;

use induction_kernels::{Arch, PANEL, panels};
use induction_model::{ModelConfig, ReadParams};
use rayon::prelude::*;

use super::{
    Model,
    layout::{Dims, Layout, Place},
};
use crate::Error;

/// Brings layer `l` into memory.
pub(super) fn read_layer(
    config: &ModelConfig,
    weights: &dyn ReadParams,
    model: &mut Model<f32>,
    l: usize,
) -> Result<(), Error> {
    let parameters = config.block_parameters();
    let layout = &model.layout;
    let block = &mut model.weights.packed[layout.layer_at(l)];
    // One after the other: reading and decoding one use all threads, and two would be there
    // twice.
    for (parameter, place) in parameters.iter().zip(&layout.of_layer) {
        let name = format!("blocks.{l}.{}", parameter.name);
        if pack_stored(weights, &name, &parameter.shape, *place, &layout.dims, block)? {
            continue;
        }
        let value = weights.parameter(&name)?;
        let value = value.as_slice().expect("parameters are in standard layout");
        pack(*place, &layout.dims, value, block);
    }
    Ok(())
}

/// Columns of the unembedding as panels, which begin at a panel's first column.
pub(super) fn read_unembedding(
    weights: &dyn ReadParams,
    columns: Range<usize>,
    dims: &Dims,
    out: &mut [f32],
) -> Result<(), Error> {
    const NAME: &str = "unembed.W_U";
    let d = dims.d_model;
    let out = &mut out[..panels::len(dims.model_rows, columns.len())];
    let panels = out.par_chunks_exact_mut(dims.model_rows * PANEL).enumerate();
    let of_panel = |p: usize| {
        let from = columns.start + p * PANEL;
        from..(from + PANEL).min(columns.end)
    };
    if weights.columns_into(NAME, 0..0, &mut [])? {
        return panels.try_for_each_init(Vec::new, |values, (p, panel)| {
            values.resize(of_panel(p).len() * d, 0.0);
            weights.columns_into(NAME, of_panel(p), values)?;
            panels::pack_columns(values, d, 0..d, panel);
            Ok(())
        });
    }
    let all = weights.unembedding_of(columns.clone())?;
    let all = all.as_slice().expect("rows as they were read");
    panels.for_each(|(p, panel)| {
        let of = of_panel(p);
        let of = (of.start - columns.start) * d..(of.end - columns.start) * d;
        panels::pack_columns(&all[of], d, 0..d, panel);
    });
    Ok(())
}

/// [`Place::pack`] by all threads: the parameters of a large model are packed one after the other.
fn pack(place: Place, dims: &Dims, source: &[f32], buffer: &mut [f32]) {
    match place {
        Place::Matrix { start, columns, rows } if rows > 1 => {
            let out = &mut buffer[start..][..panels::len(rows, columns)];
            out.par_chunks_exact_mut(rows * PANEL).enumerate().for_each(|(p, panel)| {
                let from = p * PANEL;
                let width = PANEL.min(columns - from);
                for (row, source) in panel.chunks_exact_mut(PANEL).zip(source.chunks_exact(columns))
                {
                    row[..width].copy_from_slice(&source[from..from + width]);
                }
            });
        }
        Place::Reads { start } => {
            let (of_head, len) = (dims.d_model * dims.d_head, dims.head(0, dims.model_rows).len());
            let heads = source.par_chunks_exact(of_head).zip(buffer[start..].par_chunks_mut(len));
            heads.for_each(|(source, head)| {
                panels::pack(source, dims.d_head, head, dims.model_rows, 0);
            });
        }
        Place::Matrices { start, inputs, columns, rows } => {
            let len = panels::len(rows, columns);
            let each = source.par_chunks_exact(inputs * columns);
            each.zip(buffer[start..].par_chunks_mut(len)).for_each(|(source, out)| {
                panels::pack(source, columns, out, rows, 0);
            });
        }
        Place::Writes { start } => {
            let (rows, columns) = (dims.heads_width, dims.d_model);
            let out = &mut buffer[start..][..panels::len(rows, columns)];
            out.par_chunks_exact_mut(rows * PANEL).enumerate().for_each(|(p, panel)| {
                let from = p * PANEL;
                let width = PANEL.min(columns - from);
                for (k, source) in source.chunks_exact(columns).enumerate() {
                    let row = k / dims.d_head * dims.head_panels * PANEL + k % dims.d_head;
                    panel[row * PANEL..][..width].copy_from_slice(&source[from..from + width]);
                }
            });
        }
        place => place.pack(dims, source, buffer),
    }
}

/// The same straight from the file, a panel at a time, where a matrix is stored with its columns as
/// rows, so that nothing of it is there twice. Returns whether it is stored so.
fn pack_stored(
    weights: &dyn ReadParams,
    name: &str,
    shape: &[usize],
    place: Place,
    dims: &Dims,
    buffer: &mut [f32],
) -> Result<bool, Error> {
    // Inputs lie in runs, each of which begins so many rows after the one before.
    let (start, rows, columns, run, stride) = match place {
        Place::Matrix { start, columns, rows } if rows > 1 => {
            (start, rows, columns, shape[0], shape[0])
        }
        Place::Reads { start } => (start, dims.model_rows, dims.d_head, shape[1], shape[1]),
        Place::Writes { start } => {
            (start, dims.heads_width, dims.d_model, dims.d_head, dims.head_panels * PANEL)
        }
        _ => return Ok(false),
    };
    if !weights.columns_into(name, 0..0, &mut [])? {
        return Ok(false);
    }
    let all = shape.iter().product::<usize>();
    let in_matrix = panels::count(columns);
    let (inputs, matrices) = match place {
        Place::Reads { .. } => (shape[1], shape[0]),
        _ => (all / columns, 1),
    };
    let out = &mut buffer[start..][..matrices * panels::len(rows, columns)];
    out.par_chunks_exact_mut(rows * PANEL).enumerate().with_max_len(1).try_for_each_init(
        Vec::new,
        |values, (p, panel)| {
            let (matrix, from) = (p / in_matrix, p % in_matrix * PANEL);
            let width = PANEL.min(columns - from);
            let first = matrix * columns + from;
            values.resize(width * inputs, 0.0);
            weights.columns_into(name, first..first + width, values)?;
            for (k, panel) in panel.chunks_mut(stride * PANEL).take(inputs / run).enumerate() {
                panels::pack_columns(values, inputs, k * run..(k + 1) * run, panel);
            }
            Ok::<(), Error>(())
        },
    )?;
    Ok(true)
}

/// Room for one layer, and what is small: the last norm, the bias of the logits, learned positions.
pub(super) fn one_layer(
    config: &ModelConfig,
    weights: &dyn ReadParams,
) -> Result<Model<f32>, Error> {
    let mut model = Model::of(config, Arch::new(), Layout::of_one_layer)?;
    let after = config.parameters_after();
    let small = after.iter().filter(|parameter| parameter.name != "unembed.W_U");
    for (parameter, place) in small.zip(&model.layout.after) {
        let value = weights.parameter(parameter.name)?;
        let value = value.as_slice().expect("parameters are in standard layout");
        place.pack(&model.layout.dims, value, &mut model.weights.packed);
    }
    if model.layout.before == 2 {
        let positions = weights.parameter("pos_embed.W_pos")?;
        model.set_positions(positions.as_slice().expect("parameters are in standard layout"));
    }
    Ok(model)
}
