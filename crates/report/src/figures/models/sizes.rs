//! Scanned models side by side, by their size.

use induction_records::RemovedKind;

use super::super::{Axis, Figure, Panel, axis};
use super::{FIRST, GREY, Line, Models, SECOND, THIRD, coloured, first_middle_last};
use crate::claims::{INDUCTION_HEAD_ABOVE, models::is_untrained};
use crate::load::Scan;
use crate::text::{number, percent, tokens};

/// How heads that match prefixes go with the number of parameters; nothing of one size alone.
pub(super) fn sizes(models: &Models<'_>) -> Option<Figure> {
    let trained = |scan: &&Scan| scan.found.ids_below.is_none() && !is_untrained(scan);
    let mut each: Vec<&Scan> = models.each.iter().copied().filter(trained).collect();
    each.sort_by_key(|scan| scan.found.model.n_params);
    let sizes = |two: &[&Scan]| two[0].found.model.n_params < two[1].found.model.n_params;
    if !each.windows(2).any(sizes) {
        return None;
    }
    let by_size = |of: &dyn Fn(&Scan) -> Option<f64>| -> Vec<(f64, f64)> {
        each.iter().filter_map(|scan| Some((scan.found.model.n_params as f64, of(scan)?))).collect()
    };
    let place = || Axis { log: true, tokens: true, ..axis("parameters") };
    let panel = |title: &str, y: Axis| Panel::new(title.to_string(), place(), y);
    let share = |scan: &Scan| {
        scan.matching(INDUCTION_HEAD_ABOVE).count() as f64 / scan.found.heads.len() as f64
    };

    let mut strength = panel("Best prefix matching", axis("prefix-matching score"));
    strength.y.range = Some([0.0, 1.0]);
    strength.lines.push(dots(
        "best head",
        SECOND,
        by_size(&|scan| Some(scan.best_head().prefix_matching())),
    ));
    strength.lines.push(dots("share of all heads", GREY, by_size(&|scan| Some(share(scan)))));
    let mut depth =
        panel("Where heads that match prefixes are", axis("place of the layer (1: last)"));
    depth.y.range = Some([0.0, 1.0]);
    for (k, (name, colour)) in
        [("first", FIRST), ("middle", THIRD), ("last", SECOND)].into_iter().enumerate()
    {
        let at = by_size(&|scan| first_middle_last(scan).map(|places| places[k]));
        depth.lines.push(dots(name, colour, at));
    }
    let mut without = panel("What is lost without them", axis("second copy, change (nats)"));
    let mean = |scan: &Scan, kinds: &[RemovedKind]| {
        let sets = scan.found.ablation.iter().flat_map(|removals| &removals.sets);
        let changes: Vec<f64> =
            sets.filter(|set| kinds.contains(&set.kind)).map(|set| set.second_change).collect();
        (!changes.is_empty()).then(|| changes.iter().sum::<f64>() / changes.len() as f64)
    };
    for (name, colour, kinds) in [
        ("without them", SECOND, &[RemovedKind::Induction][..]),
        ("without as many others, mean", GREY, &[RemovedKind::Matched, RemovedKind::Any]),
    ] {
        without.lines.push(dots(name, colour, by_size(&|scan| mean(scan, kinds))));
    }
    let panels = [strength, depth, without].map(|mut panel| {
        panel.summary = format!("{} models.", each.len());
        panel
    });
    let told = each.iter().map(|scan| {
        let places = first_middle_last(scan).map_or(String::new(), |[_, middle, _]| {
            format!(", in the middle at {} of the depth", percent(middle))
        });
        format!(
            "{} ({}): {} of the heads match prefixes, the best at {}{places}.",
            models.label(scan),
            tokens(scan.found.model.n_params as f64),
            percent(share(scan)),
            number(scan.best_head().prefix_matching())
        )
    });
    Some(Figure {
        id: "R-sizes",
        title: "Scanned models by their size",
        drawn: "A point is a model; the axis of parameters is logarithmic. Models differ in more than their size: text, tokenizer, training.".to_string(),
        paper: "In models of 13M to 13B parameters on one text, heads that match prefixes come earlier as depth grows, and in-context learning is about the same.",
        here: told.collect::<Vec<_>>().join(" "),
        files: models.files(),
        panels: panels.into(),
        ..Figure::empty()
    })
}

fn dots(name: &str, colour: [&str; 2], points: Vec<(f64, f64)>) -> Line {
    Line { points: true, ..coloured(name, colour, points) }
}
