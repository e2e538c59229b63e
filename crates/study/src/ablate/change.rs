//! What training did to the losses over the step of the same-token score: what the removals are
//! held against.

use std::{fs, path::Path};

use induction_metrics::{StepConfig, find_step};
use induction_model::read_safetensors;
use induction_records::{Change, IclRow, Row, RunSpec, read_rows, step_file};
use ndarray::{Array2, Axis, Ix2, Slice};

use super::held::examples_of;
use crate::Error;

/// The change of a measured run, and the differences that it is made of, `[example, index]`;
/// nothing if the same-token score makes no step after the warm-up.
///
/// # Errors
/// A run that is not measured, or losses that are not those of its examples.
pub(super) fn change(
    spec: &RunSpec,
    folder: &Path,
) -> Result<Option<(Change, Array2<f32>)>, Error> {
    let rows: Vec<IclRow> = read_rows(folder).unwrap_or_default();
    let kept = spec.snapshot_steps();
    if !rows.iter().map(|row| row.step).eq(kept.iter().copied()) {
        let table = folder.join(IclRow::FILE);
        return Err(Error::Input(format!(
            "{}: not the scores of every kept snapshot; measure the run first (`induction measure RUN`)",
            table.display()
        )));
    }
    let scores = rows.iter().map(|row| (row.step, row.same_token_score)).collect::<Vec<_>>();
    let Some([before_step, after_step]) =
        change_steps(&scores, spec.train.warmup_steps, spec.tokens_per_step())
    else {
        return Ok(None);
    };
    let shape = [examples_of(&spec.evaluation), spec.model.n_ctx];
    let [before, after] = [before_step, after_step].map(|step| losses_at(folder, step, shape));
    let difference = after? - before?;
    let square =
        |row: ndarray::ArrayView1<f32>| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    let squares = difference.outer_iter().map(square).collect();
    Ok(Some((Change { before_step, after_step, squares }, difference)))
}

/// The last of `scores`' snapshots, `(step, same-token score)`, at or before the step that the
/// scores make from the end of the warm-up on, and the first at or after it; nothing if they make
/// none, or are too few to tell.
fn change_steps(
    scores: &[(u64, f64)],
    warmup_steps: u64,
    tokens_per_step: u64,
) -> Option<[u64; 2]> {
    let learning = scores.iter().filter(|(step, _)| *step >= warmup_steps);
    let (tokens, values): (Vec<u64>, Vec<f64>) =
        learning.map(|&(step, score)| (step * tokens_per_step, score)).unzip();
    let fit = find_step(&tokens, &values, None, &StepConfig::default()).ok()?.ok()?;
    let at = |step: &u64| (step * tokens_per_step) as f64;
    let steps: Vec<u64> = scores.iter().map(|&(step, _)| step).collect();
    let before = steps.iter().rev().find(|step| at(step) <= fit.start_tokens())?;
    let after = steps.iter().find(|step| at(step) >= fit.end_tokens())?;
    Some([*before, *after])
}

/// The losses of a snapshot's first examples as they were measured, of that shape: `[example,
/// index]`.
fn losses_at(folder: &Path, step: u64, shape: [usize; 2]) -> Result<Array2<f32>, Error> {
    let path = folder.join("losses").join(step_file(step));
    let bytes = fs::read(&path).map_err(Error::io(&path))?;
    let stored = read_safetensors(&path, &bytes)?
        .remove("losses")
        .and_then(|l| l.into_dimensionality::<Ix2>().ok());
    let [examples, n_ctx] = shape;
    let fits = |losses: &Array2<f32>| losses.nrows() >= examples && losses.ncols() == n_ctx;
    let Some(stored) = stored.filter(fits) else {
        return Err(Error::Input(format!(
            "{}: not the losses of {examples} examples of {n_ctx} tokens; delete the file and measure the run again (`induction measure RUN`)",
            path.display()
        )));
    };
    Ok(stored.slice_axis(Axis(0), Slice::from(..examples)).to_owned())
}

#[cfg(test)]
mod tests {
    use induction_model::write_safetensors;

    use super::*;

    #[test]
    fn a_change_lies_between_the_snapshots_on_either_side_of_the_step() {
        let steps: Vec<u64> =
            [0, 1, 2, 4, 8, 16].into_iter().chain((1..=25).map(|k| 20 * k)).collect();
        let curve = |score: &dyn Fn(f64) -> f64| -> Vec<(u64, f64)> {
            steps.iter().map(|&step| (step, score(step as f64))).collect()
        };
        // A tenth of the fall is done at 250 - 10 ln 9 = 228, nine tenths at 272.
        let falls = |x: f64| -0.3 / (1.0 + (-(x - 250.0) / 10.0).exp());
        assert_eq!(change_steps(&curve(&falls), 50, 1000), Some([220, 280]));
        assert_eq!(change_steps(&curve(&|x| -0.001 * x), 50, 1000), None, "a drift");
        // What an untrained model unlearns before the learning rate is up is no part of it.
        let early = |x: f64| falls(x) - 5.0 * (-x / 10.0).exp();
        assert_eq!(change_steps(&curve(&early), 200, 1000), Some([220, 280]));
        assert_eq!(change_steps(&curve(&falls)[..6], 0, 1000), None, "too few to tell");
    }

    #[test]
    fn losses_must_be_those_of_the_examples() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("losses");
        fs::create_dir(&place).unwrap();
        let losses = Array2::from_shape_fn((4, 6), |(e, t)| (10 * e + t) as f32);
        let bytes = write_safetensors([("losses".to_string(), &losses.clone().into_dyn())]);
        fs::write(place.join(step_file(20)), bytes).unwrap();
        let found = losses_at(folder.path(), 20, [3, 6]).unwrap();
        assert_eq!(found, losses.slice_axis(Axis(0), Slice::from(..3)));
        for shape in [[5, 6], [4, 7]] {
            let error = losses_at(folder.path(), 20, shape).unwrap_err().to_string();
            assert!(
                error.contains("step-00000020") && error.contains("measure the run again"),
                "{error}"
            );
        }
        assert!(losses_at(folder.path(), 40, [3, 6]).is_err());
    }
}
