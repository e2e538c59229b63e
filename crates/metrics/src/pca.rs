//! Joint principal components of per-token losses, and how a path through them turns (paper.md, 2;
//! 9: Q8).

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::{Error, Result, phase::check_increasing};

/// The directions in which rows differ most.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Mean row, `[column]`.
    pub mean: Vec<f64>,
    /// Orthonormal, by falling variance, `[component, column]`. The entry of largest magnitude is
    /// positive.
    pub axes: Array2<f64>,
    /// Share of the total variance along each axis.
    pub explained: Vec<f64>,
    /// The rows, centred and projected on the axes, `[row, component]`.
    pub coordinates: Array2<f64>,
}

/// The first principal components of `rows`, centred and not scaled (paper.md, 2: PCA).
///
/// A row is one snapshot's losses of the random tokens, `[snapshot of any model, token]`. The
/// eigenvectors are those of the smaller of the two Gram matrices.
///
/// # Errors
/// If there are fewer than two rows, a value is not finite, the eigenvalues do not converge, or the
/// rows differ in fewer directions than are asked for.
pub fn pca(rows: ArrayView2<f32>, components: usize) -> Result<Pca> {
    let (n, columns) = rows.dim();
    if n < 2 {
        return Err(Error::Shape {
            what: "rows [row, column]",
            expected: "at least 2 rows".into(),
            found: n.to_string(),
        });
    }
    if let Some(((row, column), value)) = rows.indexed_iter().find(|(_, value)| !value.is_finite())
    {
        let found = format!("{value} in row {row}, column {column}");
        return Err(Error::Setting { name: "rows of a PCA", expected: "finite", found });
    }
    let rows = rows.mapv(f64::from);
    let mean = rows.mean_axis(Axis(0)).expect("at least two rows");
    let centred = &rows - &mean;
    let by_row = n <= columns;
    let gram = if by_row { centred.dot(&centred.t()) } else { centred.t().dot(&centred) };
    let side = gram.nrows();
    let total: f64 = gram.diag().sum();
    // The convergence of QR iterations is a matter of a few a value; the bound is only there so
    // that nothing can hang.
    let eigen = SymmetricEigen::try_new(
        DMatrix::from_fn(side, side, |i, j| gram[[i, j]]),
        f64::EPSILON,
        1000 * side.max(10),
    );
    let eigen = eigen.ok_or(Error::Setting {
        name: "rows of a PCA",
        expected: "a Gram matrix whose eigenvalues converge",
        found: "one whose eigenvalues do not".into(),
    })?;
    let mut order: Vec<usize> = (0..side).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let rank = order
        .iter()
        .filter(|&&k| eigen.eigenvalues[k] > total * side as f64 * f64::EPSILON)
        .count();
    if components > rank {
        let found = format!("{components}, of rows that differ in {rank} directions");
        return Err(Error::Setting {
            name: "components",
            expected: "at most the rank of the centred rows",
            found,
        });
    }

    let mut axes = Array2::zeros((components, columns));
    let mut explained = Vec::new();
    for (mut axis, &k) in axes.rows_mut().into_iter().zip(&order) {
        let vector = Array1::from_iter(eigen.eigenvectors.column(k).iter().copied());
        let direction = if by_row { centred.t().dot(&vector) } else { vector };
        let largest =
            direction.iter().fold(0.0f64, |best, &x| if x.abs() > best.abs() { x } else { best });
        let norm = direction.dot(&direction).sqrt() * largest.signum();
        axis.assign(&(direction / norm));
        explained.push(eigen.eigenvalues[k] / total);
    }
    let coordinates = centred.dot(&axes.t());
    Ok(Pca { mean: mean.to_vec(), axes, explained, coordinates })
}

/// The angle between two displacements in a plane, in degrees from 0 to 180; `None` if either is
/// zero.
fn angle(a: [f64; 2], b: [f64; 2]) -> Option<f64> {
    let [length_a, length_b] = [a, b].map(|v| v[0].hypot(v[1]));
    let cosine = (a[0] * b[0] + a[1] * b[1]) / (length_a * length_b);
    cosine.is_finite().then(|| cosine.clamp(-1.0, 1.0).acos().to_degrees())
}

/// How a path turns about a window, in degrees; `None` where it stands still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pivot {
    /// Between the stretch before the window and that after it (paper.md, 9: Q8).
    pub before_after: Option<f64>,
    /// Between the stretch before the window and the window.
    pub before_inside: Option<f64>,
}

/// How the path `[snapshot, 2]` turns about the window from `start` to `end` training tokens
/// (paper.md, 9: Q8).
///
/// Before and after are displacements over one width of the window on either side, or what there is
/// of it; between snapshots the path is straight. `None` if there is no snapshot before the window
/// or none after it.
///
/// # Errors
/// If the shapes disagree, tokens do not increase, or the window is empty.
pub fn pivot(tokens: &[u64], path: ArrayView2<f64>, start: u64, end: u64) -> Result<Option<Pivot>> {
    if path.dim() != (tokens.len(), 2) {
        let (expected, found) = (format!("[{}, 2]", tokens.len()), format!("{:?}", path.shape()));
        return Err(Error::Shape { what: "path [snapshot, 2]", expected, found });
    }
    check_increasing(tokens)?;
    if start >= end {
        let found = format!("{start} to {end}");
        return Err(Error::Setting { name: "window", expected: "a start before its end", found });
    }
    let (Some(&first), Some(&last)) = (tokens.first(), tokens.last()) else { return Ok(None) };
    if first >= start || last <= end {
        return Ok(None);
    }
    let at = |when: u64| {
        let right = tokens.partition_point(|&t| t < when).clamp(1, tokens.len() - 1);
        let (t0, t1) = (tokens[right - 1], tokens[right]);
        let along = (when as f64 - t0 as f64) / (t1 - t0) as f64;
        [0, 1].map(|c| path[[right - 1, c]] + along * (path[[right, c]] - path[[right - 1, c]]))
    };
    let width = end - start;
    let (before, after) =
        (start.saturating_sub(width).max(first), end.saturating_add(width).min(last));
    let step = |from: u64, to: u64| {
        let (a, b) = (at(from), at(to));
        [b[0] - a[0], b[1] - a[1]]
    };
    let (before, inside, after) = (step(before, start), step(start, end), step(end, after));
    Ok(Some(Pivot { before_after: angle(before, after), before_inside: angle(before, inside) }))
}
