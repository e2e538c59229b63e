//! The lines that several figures and the table of all models share.

use induction_metrics::mean_stderr;
use induction_records::{Optimum, Predictor};

use super::{
    Axis, Band, Colours, Heat, Line, Panel, axis, capital, colour, head_colour, line, tokens_axis,
};
use crate::experiment::Trained;
use crate::load::HeadScore;
use crate::text::{number, rounded, tokens};

/// The in-context learning score on the same tokens.
pub(crate) fn icl_line(model: &Trained<'_>) -> Line {
    let points = model.run.icl.iter().map(|point| (point.tokens as f64, point.same_token_score));
    line(model.variant.label(), colour(model.variant), points)
}

pub(crate) fn icl_band(model: &Trained<'_>) -> Band {
    let icl = &model.run.icl;
    let side = |sign: f64| {
        icl.iter()
            .map(|point| {
                rounded(
                    point.same_token_score
                        + sign * 1.96 * point.same_token_stderr.unwrap_or_default(),
                )
            })
            .collect()
    };
    Band {
        colour: colour(model.variant),
        group: model.variant.label(),
        x: icl.iter().map(|point| rounded(point.tokens as f64)).collect(),
        low: side(-1.0),
        high: side(1.0),
    }
}

/// From a little above 0 to a little below the lowest score, at least to the paper's -0.4.
pub(crate) fn icl_range(trained: &[&Trained<'_>]) -> [f64; 2] {
    let scores =
        || trained.iter().flat_map(|model| &model.run.icl).map(|point| point.same_token_score);
    let low = scores().fold(-0.45, f64::min);
    let high = scores().fold(0.0, f64::max);
    let margin = 0.06 * (high - low);
    [rounded(low - margin), rounded(high + margin)]
}

pub(super) fn icl_summary(model: &Trained<'_>) -> String {
    let last = model.last_icl();
    let window = match model.window() {
        Ok(window) => {
            let [start, end] = [window.start_tokens, window.end_tokens].map(|at| tokens(at as f64));
            format!(
                "falls from {} to {} between {start} and {end} tokens",
                number(window.score_before),
                number(window.score_after)
            )
        }
        Err(_) => "has no phase-change window".to_string(),
    };
    format!(
        "{}: the score {window} and ends at {} nats.",
        capital(&model.variant.label()),
        number(last.same_token_score)
    )
}

/// A line a head over training; nothing for heads that have no such score.
pub(crate) fn head_lines(
    model: &Trained<'_>,
    score: impl Fn(&HeadScore) -> Option<f64>,
) -> Vec<Line> {
    let spec = &model.run.spec;
    let best = model.best_head();
    (0..spec.model.n_layers * spec.model.n_heads)
        .filter(|&k| model.run.heads.iter().all(|point| score(&point.rows[k]).is_some()))
        .map(|k| {
            let (layer, head) = (k / spec.model.n_heads, k % spec.model.n_heads);
            // The reader has checked that every point holds every head, in this order.
            let points = model
                .run
                .heads
                .iter()
                .filter_map(|point| Some((point.tokens as f64, score(&point.rows[k])?)));
            let mut line = line(
                format!("head {layer}.{head}"),
                head_colour(layer, spec.model.n_layers, head, spec.model.n_heads),
                points,
            );
            line.group = format!("layer {layer}");
            line.legend = head == 0;
            line.width = if (layer, head) == (best.layer, best.head) { 3.0 } else { 1.75 };
            line
        })
        .collect()
}

/// More points than a panel is pixels wide say nothing more.
const TRAINING_POINTS: usize = 300;

/// The training loss, averaged over equal numbers of steps.
pub(crate) fn training_line(model: &Trained<'_>) -> Line {
    let metrics = &model.run.metrics;
    let span = metrics.len().div_ceil(TRAINING_POINTS);
    let points = metrics.chunks(span).map(|chunk| {
        let loss = chunk.iter().map(|point| point.loss).sum::<f64>() / chunk.len() as f64;
        (chunk[chunk.len() / 2].tokens as f64, loss)
    });
    let name = format!("{}, training batches", model.variant.label());
    let mut line = line(name, colour(model.variant), points);
    (line.width, line.opacity) = (1.0, 0.45);
    line
}

/// What predictors of synthetic data that know their process reach: dashed the ideal one, dotted
/// simpler ones. Nothing for a text. `curve` has the points of one, given the range of the x axis
/// that the models are on.
pub(super) fn optimum_lines<P: IntoIterator<Item = (f64, f64)>>(
    trained: &[&Trained<'_>],
    curve: impl Fn(&Predictor) -> P,
) -> Vec<Line> {
    let Some(optimum) = trained.iter().find_map(|model| model.run.optimum.as_ref()) else {
        return Vec::new();
    };
    let of = |predictor: &Predictor| {
        let grey = ["#57606a", "#aab4be"].map(str::to_string);
        let mut line = line(predictor.name.clone(), grey, curve(predictor));
        let is_ideal = predictor.name == Optimum::IDEAL;
        (line.dash, line.width) = if is_ideal { ("dash", 2.0) } else { ("dot", 1.5) };
        line
    };
    optimum.predictors.iter().map(of).collect()
}

/// How far the model's loss lies above the ideal predictor's at the end, on the same examples; in
/// nats, with its standard error over them.
pub(super) fn above_optimum(model: &Trained<'_>) -> Option<(f64, Option<f64>)> {
    let ideal = model.run.optimum.as_ref()?.ideal()?;
    let last = &model.run.losses.last()?.by_example;
    let differences: Vec<f64> = last.iter().zip(&ideal.by_example).map(|(a, b)| a - b).collect();
    (last.len() == ideal.by_example.len() && !last.is_empty()).then(|| mean_stderr(&differences))
}

/// The curve at about 20 places a factor of two, each the mean of the entries nearest to it.
pub(super) fn thinned(by_index: &[f64]) -> impl Iterator<Item = (f64, f64)> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= by_index.len() {
            return None;
        }
        let end = (start + 1 + start / 20).min(by_index.len());
        let entries = &by_index[start..end];
        let place = (start + 1 + end) as f64 / 2.0;
        start = end;
        Some((place, entries.iter().sum::<f64>() / entries.len() as f64))
    })
}

/// d loss / d ln index between neighbouring bins of half an octave. The tables' bins of an eighth
/// are too noisy to look at: a few hundred examples know each slope between them to about 0.5 nats.
fn half_octave_slopes(by_index: &[f64]) -> Vec<(f64, f64)> {
    let bins: Vec<(f64, f64)> = bins(by_index.len(), 2.0)
        .into_iter()
        .map(|(from, to)| {
            let mean_ln =
                (from..to).map(|k| ((k + 1) as f64).ln()).sum::<f64>() / (to - from) as f64;
            (mean_ln, by_index[from..to].iter().sum::<f64>() / (to - from) as f64)
        })
        .collect();
    bins.windows(2)
        .map(|two| {
            (((two[0].0 + two[1].0) / 2.0).exp(), (two[1].1 - two[0].1) / (two[1].0 - two[0].0))
        })
        .collect()
}

/// Ranges of indices, so many to an octave, at least one index each.
pub(crate) fn bins(n: usize, an_octave: f64) -> Vec<(usize, usize)> {
    let (mut bins, mut from) = (Vec::new(), 0);
    while from < n {
        let to = (((from + 1) as f64 * f64::exp2(1.0 / an_octave)).round() as usize - 1)
            .clamp(from + 1, n);
        bins.push((from, to));
        from = to;
    }
    bins
}

/// The slopes of the loss by index of every snapshot.
pub(crate) fn derivative_panel(model: &Trained<'_>) -> Panel {
    let mut panel = Panel::new(
        model.variant.label(),
        tokens_axis(),
        Axis { log: true, ..axis("place in the context") },
    );
    let losses = &model.run.losses;
    let slopes: Vec<Vec<(f64, f64)>> =
        losses.iter().map(|point| half_octave_slopes(&point.loss_by_index)).collect();
    let Some(last) = slopes.last().filter(|last| !last.is_empty()) else {
        panel.summary = format!("{}: the context is too short for slopes.", capital(&panel.title));
        return panel;
    };
    panel.heat = Some(Heat {
        x: losses.iter().map(|point| point.tokens as f64).collect(),
        y: last.iter().map(|(index, _)| rounded(*index)).collect(),
        z: (0..last.len())
            .map(|bin| slopes.iter().map(|of| rounded(of[bin].1)).collect())
            .collect(),
        // The paper's colours end there.
        range: [-0.3, 0.3],
        colours: Colours::Diverging,
        unit: "nats an e-fold of the index",
        labels: Vec::new(),
    });
    let late: Vec<f64> =
        last.iter().filter(|(index, _)| *index >= 50.0).map(|(_, slope)| *slope).collect();
    if !late.is_empty() {
        let mean = late.iter().sum::<f64>() / late.len() as f64;
        panel.summary = format!(
            "{}: {} nats an e-fold of the index after the 50th token, at the end.",
            capital(&panel.title),
            number(mean)
        );
    }
    panel
}
