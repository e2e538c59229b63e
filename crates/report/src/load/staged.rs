//! What tells the stages of training apart. A run need not have it.

use std::path::Path;

use induction_metrics::{Crossing, Stages};
use induction_records::{
    DistanceRow, DistancesFrom, LlcRow, Row, RunSpec, SampledFrom, Stage, read_json, read_rows,
};

use super::damaged;
use crate::ReportError;

/// A run's distances to simple predictors, and its local learning coefficients.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Staged {
    /// `distances.jsonl`, at least one line.
    pub distances: Vec<DistanceRow>,
    /// When each predictor gives way to the next as the nearer one.
    pub crossings: Vec<Crossing>,
    /// The stages into which the distances from unigrams, bigrams and induction fall.
    pub of_distances: Option<Stages>,
    /// `llc.jsonl`; empty if nothing was sampled.
    pub llc: Vec<LlcRow>,
    /// The stages into which the whole model's coefficient falls.
    pub of_llc: Option<Stages>,
}

pub(super) fn load_staged(tables: &Path, spec: &RunSpec) -> Result<Option<Staged>, ReportError> {
    if !tables.join(DistanceRow::FILE).exists() {
        return Ok(None);
    }
    let made: DistancesFrom = read_json(&tables.join(DistancesFrom::FILE), Stage::Measuring)?;
    check(&tables.join(DistancesFrom::FILE), made.stages.as_ref(), 3, Stage::Measuring)?;
    let mut staged = Staged {
        distances: read_rows(tables)?,
        crossings: made.crossings,
        of_distances: made.stages,
        llc: Vec::new(),
        of_llc: None,
    };
    let table = tables.join(LlcRow::FILE);
    if table.exists() {
        let made: SampledFrom = read_json(&tables.join(SampledFrom::FILE), Stage::Sampling)?;
        check(&tables.join(SampledFrom::FILE), made.stages.as_ref(), 1, Stage::Sampling)?;
        staged.llc = read_rows(tables)?;
        staged.of_llc = made.stages;
        let [layers, heads] = [spec.model.n_layers, spec.model.n_heads];
        let there = |row: &LlcRow| row.of().is_none_or(|id| id.layer < layers && id.head < heads);
        if let Some(line) = staged.llc.iter().position(|row| !there(row)) {
            let problem = format!("its head is none of the {layers} layers of {heads} heads");
            return Err(damaged(&table, line + 1, problem, Stage::Sampling));
        }
    }
    Ok(Some(staged))
}

/// Refuses stages that are not those of so many curves.
fn check(
    path: &Path,
    stages: Option<&Stages>,
    curves: usize,
    stage: Stage,
) -> Result<(), ReportError> {
    let Some(stages) = stages else { return Ok(()) };
    let ends = stages.boundaries.len() + 2;
    if stages.fitted.len() == curves && stages.fitted.iter().all(|curve| curve.len() == ends) {
        return Ok(());
    }
    let problem = format!("`stages.fitted` is not {curves} lists of {ends} numbers");
    Err(damaged(path, 1, problem, stage))
}
