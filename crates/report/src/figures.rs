//! The figures as data: panels of lines, with captions in words. `assets/figures.js` turns them
//! into plots.

mod ablations;
mod behaviours;
mod curiosities;
mod curves;
mod evidence;
mod families;
mod followed;
mod models;
mod panel;
mod stages;
mod together;

pub(crate) use ablations::{before_after_panel, effects_panel};
pub(crate) use curves::{
    bins, derivative_panel, head_lines, icl_band, icl_line, icl_range, training_line,
};
use curves::{icl_summary, thinned};
pub(crate) use models::{Models, SCAN, models};
use panel::head_colour;
pub(crate) use panel::{
    Axis, Band, ColouredText, Colours, Figure, Heat, Line, Panel, axis, colour, line, tokens_axis,
};
pub(crate) use together::brief;
use together::{f3, f4, f5, f6, f7, f10};

use crate::experiment::{Experiment, TWO, Trained, Variant};
use crate::{Claim, Run};

const ICL: &str = "icl.jsonl";
const LOSSES: &str = "loss_by_index.jsonl";
const HEADS: &str = "heads.jsonl";
const ABLATIONS: &str = "ablations.jsonl";
const KNOCKOUTS: &str = "knockouts.jsonl";
const RANDOM_TOKENS: &str = "random_tokens.jsonl";

/// Every figure, for the experiments of the report (the first leads; the others are its further
/// seeds).
pub(crate) fn figures(experiments: &[Experiment<'_>], claims: &[Claim]) -> Vec<Figure> {
    let Some((lead, others)) = experiments.split_first() else {
        return Vec::new();
    };
    let mut all = vec![
        f3(lead, others, claims),
        f4(lead, claims),
        f5(lead, claims),
        f6(lead),
        f7(lead, claims),
    ];
    all.extend(followed::followed(lead));
    all.extend(stages::stages(lead));
    all.push(evidence::copies(lead, claims));
    all.extend(evidence::controls(lead, claims));
    all.push(f10(lead, claims));
    all.extend(ablations::clamps(lead, claims));
    all.extend([
        ablations::f11(lead, claims),
        ablations::full_ablations(lead),
        ablations::before_after(lead, claims),
    ]);
    all.extend(behaviours::behaviours(lead, claims));
    all.extend(evidence::progress(lead, claims));
    all.extend(curiosities::curiosities(lead, claims));
    all.extend(families::families(lead, claims));
    all
}

fn absent(part: Variant) -> String {
    format!("The {} on this data is missing.", part.run())
}

pub(crate) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn window_of(lead: &Experiment<'_>) -> Option<[f64; 2]> {
    own_window(lead.model(TWO)?)
}

pub(crate) fn own_window(model: &Trained<'_>) -> Option<[f64; 2]> {
    let window = model.window().ok()?;
    Some([window.start_tokens as f64, window.end_tokens as f64])
}

/// "Q1 reproduced, Q2 partly reproduced."
fn verdicts(claims: &[Claim], ids: &[&str]) -> String {
    let found = claims.iter().filter(|claim| ids.contains(&&*claim.id));
    let words: Vec<String> =
        found.map(|claim| format!("{} {}", claim.id, claim.verdict.phrase())).collect();
    format!("Claims: {}.", words.join(", "))
}

fn files<'a>(
    trained: impl Iterator<Item = &'a Trained<'a>>,
    table: &'static str,
) -> Vec<(String, &'static str)> {
    let is_there = |model: &&Trained<'_>| match table {
        ABLATIONS => !model.run.ablations.is_empty(),
        KNOCKOUTS => !model.run.knockouts.is_empty(),
        _ => true,
    };
    trained.filter(is_there).map(|model| folder(model.run, table)).collect()
}

fn folder(run: &Run, table: &'static str) -> (String, &'static str) {
    (run.folder.clone(), table)
}
