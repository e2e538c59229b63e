//! What goes beside the paper's figures: the score on its own tokens, the losses that copies
//! foretell, the order in which the circuit comes, and the negative controls.

use super::{
    Figure, HEADS, ICL, Line, Panel, ablations::beside, axis, colour, files, line, tokens_axis,
    verdicts, window_of,
};
use crate::Claim;
use crate::experiment::{Experiment, ONE, TWO, Trained};
use crate::text::number;

const COPIES: &str = "copies.jsonl";

/// The loss of tokens that an earlier copy foretells, and of the others.
pub(super) fn copies(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let trained: Vec<&Trained<'_>> =
        [ONE, TWO].into_iter().filter_map(|part| lead.model(part)).collect();
    let panel = |title: &str, which: usize| {
        let mut panel = Panel::new(title, tokens_axis(), axis("loss (nats a token)"));
        panel.window = window_of(lead);
        for model in &trained {
            let at = |tokens: u64| {
                model.copy_losses_near(tokens).map(|losses| (tokens as f64, losses[which]))
            };
            let points = model.run.copies.iter().filter_map(|point| at(point.tokens));
            panel.lines.push(line(model.variant.label(), colour(model.variant), points));
        }
        let ends: Vec<String> = trained
            .iter()
            .filter_map(|model| {
                let end = model.copy_losses_near(model.run.measured_tokens())?[which];
                Some(format!("{} ends with {}", model.variant.label(), number(end)))
            })
            .collect();
        panel.summary = format!("{title}: {}.", ends.join(", "));
        panel
    };
    let panels = vec![panel("Tokens that an earlier copy foretells", 0), panel("All others", 1)];
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Figure {
        id: "copies",
        title: "The tokens that get cheaper",
        drawn: "Held-out loss of the tokens that stood, earlier in the same window, after a copy of the token before them ([A][B] .. [A] -> [B]), and of all other tokens. Shaded: the window of the 2-layer model.".to_string(),
        paper: "Shown on single texts (F8, F9): what repeats gets cheaper.",
        here: format!("{} {}", summary.join(" "), verdicts(claims, &["L1"])),
        files: files(trained.iter().copied(), COPIES),
        panels,
        ..Figure::empty()
    }
}

/// The parts of the circuit over training, each as a share of its end.
pub(super) fn progress(lead: &Experiment<'_>, claims: &[Claim]) -> Option<Figure> {
    let two = lead.model(TWO)?;
    let best = two.best_head();
    let mut panel = Panel::new("2 layers", tokens_axis(), axis("share of the end"));
    panel.window = window_of(lead);
    let of_heads = |value: &dyn Fn(&[crate::load::HeadScore]) -> f64| -> Vec<(f64, f64)> {
        two.run.heads.iter().map(|point| (point.tokens as f64, value(&point.rows))).collect()
    };
    let previous = of_heads(&|heads| {
        heads
            .iter()
            .filter(|head| head.layer < best.layer)
            .map(|head| head.previous_token)
            .fold(0.0, f64::max)
    });
    let composition = of_heads(&|heads| {
        let own = heads.iter().find(|head| head.id() == best.id());
        own.and_then(|head| head.k_composition_recall).unwrap_or_default()
    });
    let matching =
        of_heads(&|heads| heads.iter().map(|head| head.prefix_matching).fold(0.0, f64::max));
    let score: Vec<(f64, f64)> = two
        .run
        .icl
        .iter()
        .zip(two.same_token())
        .map(|(point, score)| (point.tokens as f64, -score))
        .collect();
    type Curve<'c> = (&'c str, Vec<(f64, f64)>, [&'c str; 2], &'static str);
    let curves: [Curve<'_>; 4] = [
        (
            "highest previous-token score below the best head",
            previous,
            ["#cc79a7", "#ff9fd0"],
            "dash",
        ),
        ("best head's recall through K-composition", composition, ["#009e73", "#4fd6ac"], "dot"),
        ("highest prefix matching", matching, ["#0072b2", "#56b4e9"], "solid"),
        ("amount of in-context learning, same tokens", score, ["#d55e00", "#ff9a4d"], "solid"),
    ];
    let mut ends = Vec::new();
    for (name, points, colours, dash) in curves {
        let end = points.last().map_or(0.0, |point| point.1);
        ends.push(format!("{name} {}", number(end)));
        if end > 0.0 {
            let share = points.into_iter().map(|(at, value)| (at, value / end));
            let of = line(name.to_string(), colours.map(str::to_string), share);
            panel.lines.push(Line { dash, ..of });
        }
    }
    panel.y.range = Some([-0.2, 1.2]);
    panel.summary = format!("At the end: {}.", ends.join(", "));
    Some(Figure {
        id: "progress",
        title: "The circuit as it forms",
        drawn: format!(
            "Of the 2-layer model, each as a share of its value at the end: the highest previous-token score below head {} (which ends with the highest prefix matching), how often that head's keys, reading through the previous-token heads, tell the token before (from the weights alone), the highest prefix matching, and the amount of in-context learning.",
            best.id()
        ),
        paper: "Not shown over training; the circuit of argument 5 needs the previous-token head.",
        here: format!("{} {}", panel.summary, verdicts(claims, &["K2"])),
        files: files([two].into_iter(), HEADS),
        panels: vec![panel],
        ..Figure::empty()
    })
}

/// The negative controls beside the model of the real text; nothing if none is there.
pub(super) fn controls(lead: &Experiment<'_>, claims: &[Claim]) -> Option<Figure> {
    let trained: Vec<&Trained<'_>> = lead
        .everybody()
        .filter(|model| model.variant == TWO || model.variant.control.is_some())
        .collect();
    if trained.iter().all(|model| model.variant.control.is_none()) {
        return None;
    }
    let [icl, mut matching] = beside(lead, &trained);
    let highest: Vec<String> = trained
        .iter()
        .map(|model| {
            format!(
                "{} {}",
                model.variant.label(),
                number(model.max_prefix_matching().prefix_matching)
            )
        })
        .collect();
    matching.summary = format!("Highest prefix matching at any time: {}.", highest.join("; "));
    Some(Figure {
        id: "controls",
        title: "Where the change must not come",
        drawn: "The 2-layer model on the text, and on two of its shadows: each document's tokens shuffled (no order, the same tokens), and windows made of pieces of 12 to 16 tokens from all over the text (order within a piece, and nothing that repeats beyond chance). Each is measured on held-out text of its own kind. First the same-token score, then the highest prefix matching of any head.".to_string(),
        paper: "Not done.",
        here: format!("{} {} {}", icl.summary, matching.summary, verdicts(claims, &["N1", "N2"])),
        files: files(trained.iter().copied(), ICL),
        panels: vec![icl, matching],
        ..Figure::empty()
    })
}

/// The paper's own score, on other tokens late than early: what the same-token score is to be held
/// beside.
pub(super) fn paper_score(lead: &Experiment<'_>, others: &[Experiment<'_>]) -> Panel {
    let mut panel =
        Panel::new("The paper's score, on other tokens", tokens_axis(), axis("ICL score (nats)"));
    panel.window = window_of(lead);
    let mut ends = Vec::new();
    for model in lead.vanilla() {
        let points = model.run.icl.iter().map(|point| (point.tokens as f64, point.icl_score));
        panel.lines.push(line(model.variant.label(), colour(model.variant), points));
        ends.push(format!("{} {}", model.variant.label(), number(model.last_icl().icl_score)));
    }
    for model in others.iter().flat_map(Experiment::vanilla) {
        let points = model.run.icl.iter().map(|point| (point.tokens as f64, point.icl_score));
        let mut further = line(
            format!("{}, seed {}", model.variant.label(), model.run.spec.seed),
            colour(model.variant),
            points,
        );
        (further.width, further.opacity, further.legend) = (1.0, 0.6, false);
        panel.lines.push(further);
    }
    panel.summary =
        format!("By the paper's score the models end with, in nats: {}.", ends.join("; "));
    panel
}

/// The score for every choice of the early index, at the end: how much 450 tokens more are worth to
/// a token that has so many.
pub(super) fn sensitivity(lead: &Experiment<'_>) -> Panel {
    let mut panel = Panel::new(
        "At the end, by how much context the token has anyway",
        super::Axis { log: true, ..axis("tokens of context in the fresh window") },
        axis("same-token score (nats)"),
    );
    let mut said = Vec::new();
    for model in lead.vanilla() {
        let by_index = &model.last_icl().same_token_by_index;
        panel.lines.push(line(
            model.variant.label(),
            colour(model.variant),
            super::thinned(by_index),
        ));
        let mean = |range: std::ops::Range<usize>| {
            let of = by_index.get(range)?;
            Some(of.iter().sum::<f64>() / of.len() as f64)
        };
        if let (Some(early), Some(late)) = (mean(9..20), mean(45..56)) {
            said.push(format!("{} {} and {}", model.variant.label(), number(early), number(late)));
        }
    }
    panel.summary = match said.as_slice() {
        [] => "The fresh windows are too short for indices 10 to 20 and 46 to 56.".to_string(),
        said => format!(
            "At indices 10 to 20, and 46 to 56, of the fresh window, in nats: {}.",
            said.join("; ")
        ),
    };
    panel
}
