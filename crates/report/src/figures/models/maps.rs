//! What a few heads of a trained model attend to on a prompt.

use induction_records::{BehaviourScores, HeadId, ScanHead, ShownText};

use super::super::{Axis, Colours, Figure, Heat, Panel, axis};
use super::Models;
use crate::claims::models::{best_matching, best_of_all};
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
        let model = &scan.found.model;
        let Some((shown, attention)) =
            scan.found.shown.iter().find(|shown| shown.text == behaviour).and_then(|shown| {
                Some((shown, shown.unpack(model.n_layers * model.n_heads).ok()?))
            })
        else {
            continue;
        };
        let of_head = ShownText::bytes_of_head(shown.tokens.len());
        for name in chosen(scan, behaviour) {
            let from = (name.layer * model.n_heads + name.head) * of_head;
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
                &shown.tokens,
                &attention[from..from + of_head],
            ));
        }
    }
    (!panels.is_empty()).then(|| Figure {
        id,
        title,
        drawn: format!("{drawn} Of each model the head that matches prefixes best, and the best on this behaviour, of those that match prefixes and of all; the first prompt of several."),
        paper: "Heads of the 40-layer model, chosen by hand.",
        here: here.join(" "),
        files: models.files(),
        panels,
        ..Figure::empty()
    })
}

/// The head that matches prefixes best, of those that match the best here, and the best here.
fn chosen(scan: &Scan, behaviour: &str) -> Vec<HeadId> {
    let best = scan.best_head().id();
    let of = [best_matching(scan, behaviour), best_of_all(scan, behaviour)];
    let mut all = vec![best];
    for head in of.into_iter().flatten().map(BehaviourScores::id) {
        if !all.contains(&head) {
            all.push(head);
        }
    }
    all
}

/// `attention`: the rows of a head, each up to its own token.
fn map(title: String, tokens: &[String], attention: &[u8]) -> Panel {
    let n = tokens.len();
    let mut panel =
        Panel::new(title, axis("is attended to"), Axis { down: true, ..axis("attends") });
    let places: Vec<f64> = (0..n).map(|k| k as f64).collect();
    // Three digits tell 255ths apart, and are half of the bytes.
    let share =
        |byte: Option<&u8>| (byte.map_or(0.0, |byte| f64::from(*byte)) / 0.255).round() / 1000.0;
    let row = |i: usize| &attention[i * (i + 1) / 2..][..=i];
    let z = (0..n).map(|i| (0..n).map(|key| share(row(i).get(key))).collect()).collect();
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
