//! What a run's curves say as a whole: `summary.json`.

use std::path::Path;

use induction_metrics::{
    IclIndices, Mixture, StepConfig, change_point, find_step, half_time, icl_score, loss_bumps,
    loss_by_index, predicted_onset, smoothed,
};
use induction_model::Params;
use induction_records::{BestHead, CeilingOfText, RunSpec, Summary, write_json};
use ndarray::ArrayView2;

use super::{Evaluation, tables::Tables, weights::ceiling as ceiling_of_copying};
use crate::{Error, source::Source};

/// Departures from convexity that are told; the rest are smaller.
const BUMPS: usize = 3;

pub(super) fn write(
    folder: &Path,
    spec: &RunSpec,
    source: &Source,
    evaluation: &Evaluation,
    tables: &Tables,
    last: &Params,
) -> Result<(), Error> {
    let place = |source| Error::Metric { place: folder.display().to_string(), source };
    let summary = summarise(spec, source, evaluation, tables, last).map_err(place)?;
    Ok(write_json(&folder.join(Summary::FILE), &summary)?)
}

fn summarise(
    spec: &RunSpec,
    source: &Source,
    evaluation: &Evaluation,
    tables: &Tables,
    last: &Params,
) -> induction_metrics::Result<Summary> {
    // From the end of the warm-up on (paper.md, 2.1: "after warm region").
    let searched: Vec<_> =
        tables.icl.iter().filter(|row| row.step >= spec.train.warmup_steps).collect();
    let tokens: Vec<u64> = searched.iter().map(|row| row.tokens).collect();
    let scores: Vec<f64> = searched.iter().map(|row| row.same_token_score).collect();
    let (window, no_window) = match find_step(&tokens, &scores, None, &StepConfig::default()) {
        Ok(Ok(window)) => (Some(window), None),
        Ok(Err(none)) => (None, Some(none.to_string())),
        // Too few snapshots to have a curve: a fact about the run, not a failure.
        Err(error) => (None, Some(error.to_string())),
    };
    let losses: Vec<f64> = tables
        .losses
        .iter()
        .filter(|row| row.step >= spec.train.warmup_steps)
        .map(|row| row.loss)
        .collect();
    let mut bumps = smoothed(&tokens, &losses)
        .and_then(|(tokens, losses)| loss_bumps(&tokens, &losses))
        .unwrap_or_default();
    bumps.truncate(BUMPS);
    Ok(Summary {
        observed_onset_tokens: window.map(|window| window.start_tokens()),
        window,
        no_window,
        loss_bumps: bumps,
        best_head: best_head(tables)?,
        predicted_onset_tokens: predicted_onset(spec.train.batch as u64, spec.model.n_ctx as u64),
        ceiling: ceiling(spec, source, evaluation.held_out.view(), &evaluation.indices)?,
        copying_ceiling: ceiling_of_copying(
            &spec.model,
            last,
            evaluation.evaluators.random.view(),
        )?,
        passes: source.passes(spec),
    })
}

fn best_head(tables: &Tables) -> induction_metrics::Result<BestHead> {
    let last = tables.heads.iter().map(|row| row.step).max().unwrap_or_default();
    let at_end = tables.heads.iter().filter(|row| row.step == last);
    let best = at_end
        .max_by(|a, b| a.score("prefix_matching").total_cmp(&b.score("prefix_matching")))
        .expect("every snapshot has heads");
    let (tokens, values): (Vec<u64>, Vec<f64>) = tables
        .heads
        .iter()
        .filter(|row| (row.layer, row.head) == (best.layer, best.head))
        .map(|row| (row.tokens, row.score("prefix_matching")))
        .unzip();
    Ok(BestHead {
        layer: best.layer,
        head: best.head,
        prefix_matching: best.score("prefix_matching"),
        half_time_tokens: half_time(&tokens, &values)?,
        change_point_tokens: change_point(&values)?.map(|change| tokens[change.index]),
    })
}

fn ceiling(
    spec: &RunSpec,
    source: &Source,
    examples: ArrayView2<u32>,
    indices: &IclIndices,
) -> induction_metrics::Result<CeilingOfText> {
    let (training, windows) = source.training_sample();
    let mixture = Mixture::fit(spec.model.d_vocab, &training, windows.view())?;
    let (losses, bigram) = (mixture.losses(examples)?, mixture.bigram_losses(examples)?);
    let icl = icl_score(losses.view(), indices)?;
    let by_index = loss_by_index(losses.view())?;
    Ok(CeilingOfText {
        loss: by_index.mean().unwrap_or(f64::NAN),
        icl_score: icl.score,
        stderr: icl.stderr,
        loss_by_index: by_index.to_vec(),
        bigram_loss: loss_by_index(bigram.view())?.mean().unwrap_or(f64::NAN),
        bigram_icl_score: icl_score(bigram.view(), indices)?.score,
    })
}
