//! The stages of training: distances to simple predictors and the local learning coefficient.

use induction_metrics::{Crossing, Stages};
use induction_records::{DistanceRow, LlcRow};

use super::{
    Axis, Band, Figure, Line, Panel, axis, colour, files, head_colour, line, own_window,
    tokens_axis,
};
use crate::experiment::{Experiment, TWO, Trained};
use crate::text::{number, rounded, tokens};

/// Of the 2-layer model; nothing if its distances were not taken.
pub(super) fn stages(lead: &Experiment<'_>) -> Option<Figure> {
    let model = lead.model(TWO)?;
    let staged = model.run.staged.as_ref()?;
    let distances =
        distances(model, &staged.distances, &staged.crossings, staged.of_distances.as_ref());
    let mut panels = vec![distances];
    let mut tables = files(std::iter::once(model), "distances.jsonl");
    if !staged.llc.is_empty() {
        let (whole, heads) = coefficients(model, &staged.llc, staged.of_llc.as_ref());
        panels.push(whole);
        panels.extend(heads);
        tables.extend(files(std::iter::once(model), "llc.jsonl"));
    }
    let here: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Some(Figure {
        id: "stages",
        title: "Stages of training",
        drawn: "How far the 2-layer model's predictions are from those of simple predictors fitted on the training text: tokens by their frequency, by their frequency after the current one, and the latter mixed with what followed earlier copies in the context. Thin: the straight pieces that fit best, in the logarithm of tokens; dashed: where they join; dotted: the ends of the phase-change window. Where it was sampled, the local learning coefficient with its 95 % interval over chains, which depends on the sampler's constants. The boundaries' intervals take errors to be independent, which those of smooth curves are not: they are too narrow.".to_string(),
        paper: "Not done. Hoogland et al. 2024 tell stages of a 2-layer model apart by this coefficient.",
        here: here.join(" "),
        files: tables,
        panels,
        ..Figure::empty()
    })
}

fn time() -> Axis {
    Axis { log: true, ..tokens_axis() }
}

const COLOURS: [(&str, [&str; 2]); 3] = [
    ("unigram", ["#c44601", "#ff9152"]),
    ("bigram", ["#0060a8", "#5eb3f6"]),
    ("induction", ["#007a5a", "#3fd0a4"]),
];

fn distances(
    model: &Trained<'_>,
    rows: &[DistanceRow],
    crossings: &[Crossing],
    found: Option<&Stages>,
) -> Panel {
    let title = "Distance to simple predictors";
    let mut panel = Panel::new(title, time(), axis("distance (nats)"));
    let first = rows.iter().find(|row| row.tokens > 0).map_or(1, |row| row.tokens);
    let last = rows.last().map_or(1, |row| row.tokens);
    for (k, (name, pair)) in COLOURS.into_iter().enumerate() {
        let pair = pair.map(str::to_string);
        let points = rows
            .iter()
            .filter(|row| row.tokens > 0)
            .map(|row| (row.tokens as f64, row.distances()[k + 1]));
        panel.lines.push(line(name.to_string(), pair.clone(), points));
        if let Some(found) = found {
            let mut fit = line(name.to_string(), pair, fit(found, k, first, last));
            (fit.width, fit.legend, fit.opacity) = (1.0, false, 0.6);
            panel.lines.push(fit);
        }
    }
    let top = rows.iter().flat_map(|row| row.distances()[1..].to_vec()).fold(0.0, f64::max);
    panel.lines.extend(marks(model, found, [0.0, top]));
    let each: Vec<String> = crossings
        .iter()
        .map(|crossing| match (crossing.tokens, crossing.interval) {
            (Some(at), Some(interval)) => {
                let [at, low, high] = [at, interval.low, interval.high].map(tokens);
                format!("{} to {} at {at} tokens ({low} to {high})", crossing.from, crossing.to)
            }
            (Some(at), None) => {
                format!("{} to {} at {} tokens", crossing.from, crossing.to, tokens(at))
            }
            (None, _) => format!("{} to {} at no time", crossing.from, crossing.to),
        })
        .collect();
    panel.summary =
        format!("The nearer predictor changes from {}. {}", each.join("; from "), said(found));
    panel
}

/// The panel of the whole model, and that of its heads, if any were sampled.
fn coefficients(
    model: &Trained<'_>,
    rows: &[LlcRow],
    found: Option<&Stages>,
) -> (Panel, Option<Panel>) {
    let title = "Local learning coefficient";
    let mut whole = Panel::new(title, time(), axis("local learning coefficient"));
    let of = |head| {
        rows.iter()
            .filter(move |row| row.of() == head && row.tokens > 0)
            .filter_map(|row| Some((row.tokens as f64, row.llc?, row.llc_stderr)))
    };
    let all: Vec<(f64, f64, Option<f64>)> = of(None).collect();
    let pair = colour(model.variant);
    let side = |sign: f64| {
        all.iter()
            .map(|(_, llc, stderr)| rounded(llc + sign * 1.96 * stderr.unwrap_or_default()))
            .collect()
    };
    whole.bands.push(Band {
        colour: pair.clone(),
        group: model.variant.label(),
        x: all.iter().map(|(at, ..)| rounded(*at)).collect(),
        low: side(-1.0),
        high: side(1.0),
    });
    whole.lines.push(line(
        model.variant.label(),
        pair.clone(),
        all.iter().map(|&(at, llc, _)| (at, llc)),
    ));
    if let (Some(found), [(first, ..), .., (last, ..)]) = (found, all.as_slice()) {
        let mut fit = line(model.variant.label(), pair, fit(found, 0, *first as u64, *last as u64));
        (fit.width, fit.legend, fit.opacity) = (1.0, false, 0.6);
        whole.lines.push(fit);
    }
    let ends = |values: &[(f64, f64, Option<f64>)]| {
        let low = values.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
        let high = values.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
        [low, high]
    };
    whole.lines.extend(marks(model, found, ends(&all)));
    let last = all.last().map_or_else(
        || "No chain stayed finite.".to_string(),
        |&(_, llc, _)| format!("The coefficient of the whole model ends at {}.", number(llc)),
    );
    whole.summary = format!("{last} {}", said(found));

    let spec = &model.run.spec.model;
    let mut panel =
        Panel::new("The same, restricted to a head", time(), axis("local learning coefficient"));
    let mut sampled: Vec<_> = rows.iter().filter_map(LlcRow::of).collect();
    sampled.sort_unstable();
    sampled.dedup();
    for head in &sampled {
        let points = of(Some(*head)).map(|(at, llc, _)| (at, llc));
        let pair = head_colour(head.layer, spec.n_layers, head.head, spec.n_heads);
        panel.lines.push(line(format!("head {head}"), pair, points));
    }
    let every: Vec<_> = sampled.iter().flat_map(|head| of(Some(*head))).collect();
    panel.lines.extend(marks(model, None, ends(&every)));
    let last: Vec<String> = sampled
        .iter()
        .filter_map(|head| Some(format!("{head}: {}", number(of(Some(*head)).next_back()?.1))))
        .collect();
    panel.summary = format!("Heads at the end: {}.", last.join(", "));
    (whole, (!sampled.is_empty()).then_some(panel))
}

/// The fit of a curve as points.
fn fit(found: &Stages, curve: usize, first: u64, last: u64) -> Vec<(f64, f64)> {
    let at = std::iter::once(first as f64)
        .chain(found.boundaries.iter().map(|boundary| boundary.tokens))
        .chain([last as f64]);
    let values = found.fitted.get(curve).into_iter().flatten();
    at.zip(values).map(|(at, &value)| (at, value)).collect()
}

/// Upright lines at the boundaries and at the ends of the window.
fn marks(model: &Trained<'_>, found: Option<&Stages>, [low, high]: [f64; 2]) -> Vec<Line> {
    let grey = || ["#57606a", "#aab4be"].map(str::to_string);
    let mark = |at: f64, name: &str, dash: &'static str, legend: bool| {
        let mut upright = line(name.to_string(), grey(), [(at, low), (at, high)]);
        (upright.dash, upright.width, upright.legend) = (dash, 1.25, legend);
        upright
    };
    let boundaries = found.map_or(&[][..], |found| &found.boundaries);
    let window = own_window(model).into_iter().flatten().filter(|&at| at > 0.0);
    boundaries
        .iter()
        .enumerate()
        .map(|(k, boundary)| mark(boundary.tokens, "a stage ends", "dash", k == 0))
        .chain(window.enumerate().map(|(k, at)| mark(at, "the change's ends", "dot", k == 0)))
        .collect()
}

fn said(found: Option<&Stages>) -> String {
    let Some(found) = found else { return "Too few snapshots tell stages.".to_string() };
    if found.boundaries.is_empty() {
        return "It makes one stage.".to_string();
    }
    let each: Vec<String> = found
        .boundaries
        .iter()
        .map(|boundary| {
            let [at, low, high] =
                [boundary.tokens, boundary.interval.low, boundary.interval.high].map(tokens);
            format!("{at} ({low} to {high})")
        })
        .collect();
    format!("{} stages, which join at {} tokens.", each.len() + 1, each.join(", "))
}
