//! What a few heads of a trained model attend to on a prompt.

use induction_records::{HeadId, ScanHead, ShownHead, ShownPrompt};

use super::super::{Axis, Colours, Figure, Heat, Panel, axis};
use super::Models;
use crate::claims::INDUCTION_HEAD_ABOVE;
use crate::load::Scan;
use crate::text::{number, percent};

pub(super) fn maps(
    models: &Models<'_>,
    id: &'static str,
    title: &'static str,
    drawn: &str,
    behaviour: &str,
) -> Option<Figure> {
    let mut panels = Vec::new();
    let mut here = Vec::new();
    for scan in &models.each {
        let Some(prompt) = scan.found.shown.iter().find(|prompt| prompt.behaviour == behaviour)
        else {
            continue;
        };
        for head in chosen(scan, prompt) {
            let name = head.id();
            let score = scan
                .found
                .behaviours
                .iter()
                .find(|score| score.behaviour == behaviour && score.id() == name);
            let said = score.map_or(String::new(), |score| {
                format!(", {} on right places", percent(score.share))
            });
            let matching = scan.head(name).map_or(f64::NAN, ScanHead::prefix_matching);
            here.push(format!(
                "{}: head {name}, prefix matching {}{said}.",
                models.label(scan),
                number(matching)
            ));
            panels.push(map(
                format!("{}, head {name}", models.label(scan)),
                &prompt.tokens,
                &head.attention,
            ));
        }
    }
    (!panels.is_empty()).then(|| Figure {
        id,
        title,
        drawn: format!("{drawn} Of each model the head that matches prefixes best, and the best on this behaviour, of the few that match best and of all; the first prompt of several."),
        paper: "Heads of the 40-layer model, chosen by hand.",
        here: here.join(" "),
        files: models.files(),
        panels,
        ..Figure::empty()
    })
}

/// Of the heads with attention: the one that matches prefixes best, of those that match the best
/// here, and the best here.
fn chosen<'s>(scan: &Scan, prompt: &'s ShownPrompt) -> Vec<&'s ShownHead> {
    let matching = |name: HeadId| scan.head(name).map_or(0.0, ScanHead::prefix_matching);
    let here = |name: HeadId| {
        let score = scan
            .found
            .behaviours
            .iter()
            .find(|s| s.behaviour == prompt.behaviour && s.id() == name);
        score.map_or(0.0, |score| score.share)
    };
    let both = |name: HeadId| if matching(name) > INDUCTION_HEAD_ABOVE { here(name) } else { 0.0 };
    let of: [&dyn Fn(HeadId) -> f64; 3] = [&matching, &both, &here];
    let largest = |of: &dyn Fn(HeadId) -> f64| {
        prompt
            .heads
            .iter()
            .reduce(|best, head| if of(head.id()) > of(best.id()) { head } else { best })
    };
    let mut all: Vec<&ShownHead> = Vec::new();
    for head in of.into_iter().filter_map(largest) {
        if all.iter().all(|other| other.id() != head.id()) {
            all.push(head);
        }
    }
    all
}

fn map(title: String, tokens: &[String], rows: &[Vec<u8>]) -> Panel {
    let n = tokens.len();
    let mut panel =
        Panel::new(title, axis("is attended to"), Axis { down: true, ..axis("attends") });
    let places: Vec<f64> = (0..n).map(|k| k as f64).collect();
    // Three digits tell 255ths apart, and are half of the bytes.
    let share =
        |byte: Option<&u8>| (byte.map_or(0.0, |byte| f64::from(*byte)) / 0.255).round() / 1000.0;
    let z = rows.iter().map(|row| (0..n).map(|key| share(row.get(key))).collect()).collect();
    panel.summary = format!("Attention of {} on {n} tokens.", panel.title);
    panel.heat = Some(Heat {
        x: places.clone(),
        y: places,
        z,
        range: [0.0, 1.0],
        colours: Colours::Sequential,
        unit: "",
        labels: tokens.to_vec(),
    });
    panel
}
