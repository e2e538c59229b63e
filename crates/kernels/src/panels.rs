//! The layout: element (row, column) of a matrix of `rows` rows stands at
//! `(column / PANEL * rows + row) * PANEL + column % PANEL`.
//!
//! The last panel's missing columns are stored too. Where a kernel reads them they must be zero;
//! [`pack`] and [`transpose`] make them so.

use std::ops::Range;

use crate::{PANEL, Real};

/// Panels of a matrix with that many columns.
pub const fn count(columns: usize) -> usize {
    columns.div_ceil(PANEL)
}

/// Elements that a matrix takes.
pub const fn len(rows: usize, columns: usize) -> usize {
    count(columns) * rows * PANEL
}

/// Where element (row, column) stands.
pub const fn at(rows: usize, row: usize, column: usize) -> usize {
    (column / PANEL * rows + row) * PANEL + column % PANEL
}

/// Row-major `source`, `[rows, columns]`, into panels that store `out_rows` rows, from row
/// `first_row` on; missing columns become zero.
pub fn pack<T: Real>(
    source: &[T],
    columns: usize,
    out: &mut [T],
    out_rows: usize,
    first_row: usize,
) {
    let rows = source.len() / columns;
    for (p, panel) in out[..len(out_rows, columns)].chunks_exact_mut(out_rows * PANEL).enumerate() {
        let from = p * PANEL;
        let width = PANEL.min(columns - from);
        let panel = &mut panel[first_row * PANEL..(first_row + rows) * PANEL];
        for (row, source) in panel.chunks_exact_mut(PANEL).zip(source.chunks_exact(columns)) {
            row[..width].copy_from_slice(&source[from..from + width]);
            row[width..].fill(T::default());
        }
    }
}

/// Up to [`PANEL`] columns as rows, `[column, height]`, of which rows `of` of the matrix go to the
/// beginning of a panel.
///
/// # Panics
/// If there are more columns, or the panel is too short.
pub fn pack_columns<T: Real>(columns: &[T], height: usize, of: Range<usize>, panel: &mut [T]) {
    // What a cache line of a column brings in is used while it is there.
    const AT_ONCE: usize = 16;
    let (rows, _) = panel.as_chunks_mut::<PANEL>();
    for (b, rows) in rows[..of.len()].chunks_mut(AT_ONCE).enumerate() {
        let from = of.start + b * AT_ONCE;
        for (j, column) in columns.chunks_exact(height).enumerate() {
            for (row, &x) in rows.iter_mut().zip(&column[from..]) {
                row[j] = x;
            }
        }
    }
}

/// The rows of panels (`rows` are stored) from `first_row` on, into row-major `out`, `[its rows,
/// columns]`.
pub fn unpack<T: Real>(panels: &[T], rows: usize, first_row: usize, columns: usize, out: &mut [T]) {
    for (p, panel) in panels[..len(rows, columns)].chunks_exact(rows * PANEL).enumerate() {
        let from = p * PANEL;
        let width = PANEL.min(columns - from);
        for (row, out) in
            panel[first_row * PANEL..].chunks_exact(PANEL).zip(out.chunks_exact_mut(columns))
        {
            out[from..from + width].copy_from_slice(&row[..width]);
        }
    }
}

/// The transpose of panels `[rows, columns]`, of which the first `used` rows count, into panels
/// `[columns, used]` that store `out_rows` rows, from row `first_row` on; missing columns become
/// zero.
pub fn transpose<T: Real>(
    panels: &[T],
    rows: usize,
    used: usize,
    columns: usize,
    out: &mut [T],
    out_rows: usize,
    first_row: usize,
) {
    for (q, out) in out[..len(out_rows, used)].chunks_exact_mut(out_rows * PANEL).enumerate() {
        let height = PANEL.min(used - q * PANEL);
        for p in 0..count(columns) {
            let width = PANEL.min(columns - p * PANEL);
            let block = &panels[(p * rows + q * PANEL) * PANEL..][..height * PANEL];
            let out = &mut out[(first_row + p * PANEL) * PANEL..][..width * PANEL];
            if (height, width) == (PANEL, PANEL) {
                transpose_block(
                    block.try_into().expect("a whole block"),
                    out.try_into().expect("a whole block"),
                );
                continue;
            }
            for (j, out) in out.chunks_exact_mut(PANEL).enumerate() {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = if i < height { block[i * PANEL + j] } else { T::default() };
                }
            }
        }
    }
}

const BLOCK: usize = PANEL * PANEL;

/// Four output rows at a time: what a cache line brings in is used while it is there.
fn transpose_block<T: Real>(block: &[T; BLOCK], out: &mut [T; BLOCK]) {
    for j in (0..PANEL).step_by(4) {
        for i in 0..PANEL {
            let from: [T; 4] = std::array::from_fn(|k| block[i * PANEL + j + k]);
            for (k, x) in from.into_iter().enumerate() {
                out[(j + k) * PANEL + i] = x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_element_in_its_place() {
        for (rows, columns) in [(1, 1), (3, 32), (33, 31), (40, 65), (64, 96)] {
            let source: Vec<f32> = (0..rows * columns).map(|i| i as f32 + 1.0).collect();
            let mut panels = vec![f32::NAN; len(rows, columns)];
            pack(&source, columns, &mut panels, rows, 0);
            let mut by_columns = panels.clone();
            for (p, panel) in by_columns.chunks_exact_mut(rows * PANEL).enumerate() {
                let of = p * PANEL..columns.min((p + 1) * PANEL);
                let column = |c: usize| (0..rows).map(move |r| (r * columns + c + 1) as f32);
                let columns: Vec<f32> = of.flat_map(column).collect();
                panel[..rows / 2 * PANEL].fill(0.0);
                pack_columns(&columns, rows, 0..rows / 2, panel);
                pack_columns(&columns, rows, rows / 2..rows, &mut panel[rows / 2 * PANEL..]);
            }
            assert_eq!(by_columns, panels);
            let mut flipped = vec![f32::NAN; len(columns, rows)];
            transpose(&panels, rows, rows, columns, &mut flipped, columns, 0);
            assert_eq!(
                flipped.iter().filter(|x| **x == 0.0).count(),
                flipped.len() - rows * columns
            );
            for r in 0..rows {
                for c in 0..columns {
                    assert_eq!(panels[at(rows, r, c)], source[r * columns + c]);
                    assert_eq!(flipped[at(columns, c, r)], source[r * columns + c]);
                }
            }
            assert_eq!(panels.iter().filter(|x| **x == 0.0).count(), panels.len() - rows * columns);
            let mut back = vec![0.0; source.len()];
            unpack(&panels, rows, 0, columns, &mut back);
            assert_eq!(back, source);
        }
    }
}
