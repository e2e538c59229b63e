//! A series of scans, such as the checkpoints of a training run.

use induction_records::step_of;

use super::super::{Figure, Panel, axis};
use super::{FIRST, Models, SCAN, SECOND, coloured};
use crate::load::Scan;
use crate::text::{number, visible};

/// What a series of checkpoints shows of training; nothing without one.
pub(super) fn series(models: &Models<'_>) -> Option<Figure> {
    let (mut panels, mut here) = (Vec::new(), Vec::new());
    for (name, members) in &models.series {
        let name = visible(name);
        // By their steps if each has one, else by their places.
        let steps: Option<Vec<f64>> =
            members.iter().map(|scan| Some(step_of(&scan.found.model.name)? as f64)).collect();
        let of_one_run =
            |scan: &&Scan| scan.found.model.n_params == members[0].found.model.n_params;
        let steps = steps.filter(|_| members.iter().all(of_one_run));
        let place = || axis(if steps.is_some() { "training step" } else { "place in the series" });
        let at = |k: usize| steps.as_ref().map_or((k + 1) as f64, |steps| steps[k]);
        let along = |of: &dyn Fn(&Scan) -> Option<f64>| -> Vec<(f64, f64)> {
            let each = members.iter().enumerate();
            each.filter_map(|(k, scan)| Some((at(k), of(scan)?))).collect()
        };
        let mut heads = Panel::new(
            format!("Best prefix matching, {name}"),
            place(),
            axis("prefix-matching score"),
        );
        heads.lines.push(coloured(
            "best head",
            SECOND,
            along(&|scan| Some(scan.best_head().prefix_matching())),
        ));
        heads.y.range = Some([0.0, 1.0]);
        let mut copies = Panel::new(
            format!("Repeated random tokens, {name}"),
            place(),
            axis("loss (nats a token)"),
        );
        copies.lines = vec![
            coloured("first copy", FIRST, along(&|scan| Some(scan.found.repeated.first))),
            coloured("second copy", SECOND, along(&|scan| Some(scan.found.repeated.second))),
        ];
        let mut icl = Panel::new(format!("ICL score, {name}"), place(), axis("ICL score (nats)"));
        let scores = along(&|scan| Some(scan.found.icl.as_ref()?.score));
        icl.summary = "No text was given to these scans.".to_string();
        if !scores.is_empty() {
            icl.lines.push(coloured("ICL score", SECOND, scores));
        }
        let ends = [members.first(), members.last()].into_iter().flatten();
        let told: Vec<String> = ends
            .map(|scan| {
                let icl = scan
                    .found
                    .icl
                    .as_ref()
                    .map_or(String::new(), |icl| format!(", ICL score {}", number(icl.score)));
                format!(
                    "{}: prefix matching {}, second copy {} nats{icl}",
                    scan.found.model.name,
                    number(scan.best_head().prefix_matching()),
                    number(scan.found.repeated.second)
                )
            })
            .collect();
        for panel in [&mut heads, &mut copies] {
            panel.summary = format!("{} scans.", members.len());
        }
        here.push(format!("{} scans {name}; from {}.", members.len(), told.join(" to ")));
        panels.extend([heads, copies, icl]);
    }
    (!panels.is_empty()).then(|| Figure {
        id: "R-series",
        title: "A series of models",
        drawn: "The same measurements on each scan of a series, such as the checkpoints of a training run, in order."
            .to_string(),
        paper: "Prefix matching and in-context learning rise in the same window of training.",
        here: here.join(" "),
        files: models
            .series
            .iter()
            .flat_map(|(_, members)| members.iter().map(|scan| (scan.folder.clone(), SCAN)))
            .collect(),
        panels,
        ..Figure::empty()
    })
}
