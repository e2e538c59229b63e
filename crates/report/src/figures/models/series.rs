//! A series of scans, such as the checkpoints of a training run.

use induction_records::{Cause, HeadId, ModelScan, ScanHead, step_of};

use super::super::{Axis, Figure, Panel, axis};
use super::{FIRST, Models, SCAN, SECOND, coloured};
use crate::load::Scan;
use crate::text::{number, visible};

/// Heads that are followed back.
const FOLLOWED: usize = 2;

/// What the heads that tell the task most at the end of a series matched before, and what those told
/// that match prefixes best: do heads of the one kind begin as the other (Yin and Steinhardt 2025,
/// arXiv 2502.14010)? Nothing where causes were not asked for, or models differ in their heads.
fn began(
    name: &str,
    members: &[&Scan],
    at: &dyn Fn(usize) -> f64,
    place: &dyn Fn() -> Axis,
) -> Option<([Panel; 2], String)> {
    const TASK: &str = Cause::FunctionVector.nats();
    let last = &members.last()?.found;
    let shape = |scan: &ModelScan| (scan.model.n_layers, scan.model.n_heads);
    if members.len() < 2 || members.iter().any(|scan| shape(&scan.found) != shape(last)) {
        return None;
    }
    let score = |head: &ScanHead, name: &str| head.measure(name);
    let most = |name: &str| -> Vec<HeadId> {
        let mut heads: Vec<&ScanHead> =
            last.heads.iter().filter(|head| score(head, TASK).is_some()).collect();
        heads.sort_by(|a, b| b.score(name).total_cmp(&a.score(name)));
        heads.into_iter().take(FOLLOWED).map(ScanHead::id).collect()
    };
    let (tell, matching) = (most(TASK), most("prefix_matching"));
    if tell.is_empty() {
        return None;
    }
    let along = |id: HeadId, name: &str| -> Vec<(f64, f64)> {
        let each = members.iter().enumerate();
        each.filter_map(|(k, scan)| Some((at(k), scan.head(id)?.measure(name)?))).collect()
    };
    let panel = |title: &str, unit: &'static str, heads: &[HeadId], name: &str| {
        let mut panel = Panel::new(title.to_string(), place(), axis(unit));
        let colours = [FIRST, SECOND];
        let lines = heads.iter().zip(colours);
        panel.lines =
            lines.map(|(id, colour)| coloured(id.to_string(), colour, along(*id, name))).collect();
        panel.summary = format!("{} scans.", members.len());
        panel
    };
    let panels = [
        panel(
            &format!("Prefix matching of the heads that tell the task most at the end, {name}"),
            "prefix-matching score",
            &tell,
            "prefix_matching",
        ),
        panel(
            &format!("Telling the task, of the heads that match prefixes best at the end, {name}"),
            "nats",
            &matching,
            TASK,
        ),
    ];
    let highest = |id: &HeadId, name: &str| {
        along(*id, name).into_iter().map(|(_, score)| score).fold(f64::MIN, f64::max)
    };
    let of = |heads: &[HeadId], name: &str| -> String {
        let each = heads.iter().map(|id| format!("{id} {}", number(highest(id, name))));
        each.collect::<Vec<_>>().join(", ")
    };
    let said = format!(
        "Highest prefix matching ever of the heads that tell the task most at the end: {}; most nats ever, of telling the task, of those that match prefixes best at the end: {}.",
        of(&tell, "prefix_matching"),
        of(&matching, TASK)
    );
    Some((panels, said))
}

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
        if let Some((began, said)) = began(&name, members, &at, &place) {
            panels.extend(began);
            here.push(said);
        }
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
