//! Arguments 1 and 2: what comes at the same time (F3 to F7), and what moves together (F10).

use super::curves::{above_optimum, optimum_lines};
use super::{
    Figure, HEADS, ICL, LOSSES, Line, Panel, RANDOM_TOKENS, absent, axis, capital, colour,
    derivative_panel, files, head_lines, icl_band, icl_line, icl_range, icl_summary, line,
    own_window, tokens_axis, training_line, verdicts, window_of,
};
use crate::Claim;
use crate::experiment::{Experiment, ONE, ONE_SMEARED, TWO, TWO_SMEARED, Trained, Variant};
use crate::text::{number, percent, tokens};

/// The two curves that the paper is about: in-context learning, and the heads of the 2-layer model.
pub(crate) fn brief(experiments: &[Experiment<'_>]) -> Figure {
    let figure = Figure { id: "brief", ..Figure::empty() };
    let Some((lead, two)) = experiments.first().and_then(|lead| Some((lead, lead.model(TWO)?)))
    else {
        return figure;
    };
    let trained: Vec<&Trained<'_>> =
        [ONE, TWO].into_iter().filter_map(|part| lead.model(part)).collect();
    let mut icl = Panel::new("In-context learning", tokens_axis(), axis("same-token score (nats)"));
    let mut heads =
        Panel::new("Heads of the 2-layer model", tokens_axis(), axis("prefix-matching score"));
    (icl.window, heads.window) = (window_of(lead), window_of(lead));
    for model in &trained {
        icl.bands.push(icl_band(model));
        icl.lines.push(icl_line(model));
    }
    icl.lines.extend(further_seeds(&experiments[1..], |part| [ONE, TWO].contains(&part)));
    icl.y.range = Some(icl_range(&trained));
    icl.summary = trained.iter().map(|model| icl_summary(model)).collect::<Vec<_>>().join(" ");
    heads.lines = head_lines(two, |head| Some(head.prefix_matching));
    heads.y.range = Some([0.0, 1.0]);
    let best = two.best_head();
    heads.summary =
        format!("Head {} ends highest, at {}.", best.id(), number(best.prefix_matching));
    let (after, window) = (number(-two.last_icl().same_token_score), two.window());
    let drawn = match window {
        Ok(window) => format!(
            "Between {} and {} training tokens (shaded) the 2-layer model learns to use its context (left: further down is more; {after} nats at the end), and in the same span head {} learns to find what followed the current token before (right).",
            tokens(window.start_tokens as f64),
            tokens(window.end_tokens as f64),
            best.id()
        ),
        Err(_) => format!(
            "In these runs the 2-layer model's use of its context (left) has no phase-change window; it ends at {after} nats. Right: how much each head attends to what followed the current token before; head {} ends highest.",
            best.id()
        ),
    };
    let seeds = if experiments.len() > 1 { " Thin lines are further seeds." } else { "" };
    Figure { drawn: drawn + seeds, panels: vec![icl, heads], ..figure }
}

/// Thin lines: the score of the same models with other seeds.
fn further_seeds(experiments: &[Experiment<'_>], of: impl Fn(Variant) -> bool) -> Vec<Line> {
    let models = experiments
        .iter()
        .flat_map(|experiment| experiment.vanilla().map(move |model| (experiment.seed, model)));
    let thin = |(seed, model): (u64, &Trained<'_>)| {
        let line = icl_line(model);
        let name = format!("{}, seed {seed}", model.variant.label());
        Line { name, width: 1.0, opacity: 0.6, legend: false, ..line }
    };
    models.filter(|(_, model)| of(model.variant)).map(thin).collect()
}

pub(super) fn f3(lead: &Experiment<'_>, others: &[Experiment<'_>], claims: &[Claim]) -> Figure {
    let trained: Vec<&Trained<'_>> = lead.vanilla().collect();
    let mut panel = Panel::new(
        "Score of vanilla models, same tokens",
        tokens_axis(),
        axis("same-token score (nats)"),
    );
    panel.window = window_of(lead);
    for model in &trained {
        panel.bands.push(icl_band(model));
        panel.lines.push(icl_line(model));
    }
    panel.lines.extend(further_seeds(others, |_| true));
    panel.y.range = Some(icl_range(&trained));
    panel.summary = trained.iter().map(|model| icl_summary(model)).collect::<Vec<_>>().join(" ");
    let further = |title: String, models: Vec<&Trained<'_>>| {
        let mut panel = Panel::new(title, tokens_axis(), axis("same-token score (nats)"));
        for model in &models {
            panel.bands.push(icl_band(model));
            panel.lines.push(icl_line(model));
        }
        panel.y.range = Some(icl_range(&models));
        panel.summary = models.iter().map(|model| icl_summary(model)).collect::<Vec<_>>().join(" ");
        panel
    };
    let mut panels =
        vec![panel, super::evidence::paper_score(lead, others), super::evidence::sensitivity(lead)];
    let mlps: Vec<&Trained<'_>> = lead.with_mlps().collect();
    if !mlps.is_empty() {
        panels.push(further("Score of models with MLPs, same tokens".to_string(), mlps));
    }
    for other in &lead.elsewhere {
        let (vanilla, mlps): (Vec<_>, Vec<_>) =
            (other.vanilla().collect(), other.with_mlps().collect());
        for (models, family) in [(vanilla, "attention-only"), (mlps, "with MLPs")] {
            if !models.is_empty() {
                panels.push(further(format!("on {}, {family}", other.text), models));
            }
        }
    }
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    let seeds = if others.is_empty() { "" } else { " Thin lines are further seeds." };
    Figure {
        id: "F3",
        title: "In-context learning over training",
        drawn: format!(
            "The in-context learning score on the same tokens (their loss at indices 490 to 512 of a window, less their loss where they stand at 40 to 62 of a fresh window; lower is more in-context learning), with its 95 % interval, against training tokens. The shaded span is the phase-change window of the 2-layer model: from 10 to 90 % of a logistic step fitted to its score.{seeds} Beside it the paper's own score, the loss at index 500 less that at 50, on other tokens, and the same-token score for every amount of context that a fresh window has."
        ),
        paper: "The 1-layer model's score stays near -0.1; with two layers or more it falls abruptly to about -0.4 and stays there.",
        here: format!(
            "{} {}",
            summary.join(" "),
            verdicts(claims, &["Q1", "Q2", "Q3", "Q4", "Q17", "Q21"])
        ),
        files: files(
            lead.trained()
                .filter(|model| !model.variant.smeared)
                .chain(others.iter().flat_map(Experiment::vanilla))
                .chain(lead.elsewhere.iter().flat_map(Experiment::trained)),
            ICL,
        ),
        panels,
        ..Figure::empty()
    }
}

/// d loss / d ln index over training (paper.md, 2: derivative map).
pub(super) fn f4(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let panels: Vec<Panel> = lead
        .vanilla()
        .map(|model| {
            let mut panel = derivative_panel(model);
            panel.window = window_of(lead).filter(|_| model.variant == TWO);
            panel
        })
        .collect();
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Figure {
        id: "F4",
        title: "Where in the context the loss falls",
        drawn: "The slope of the held-out loss against the logarithm of the place in the context, between bins of half an octave, over training. Blue: the loss falls from token to token; red: it rises. The lines bound the phase-change window of the 2-layer model.".to_string(),
        paper: "Before the change the loss is flat after about 50 tokens of context; after it, it goes on falling. In the 1-layer model it stays flat.",
        here: format!("{} {}", summary.join(" "), verdicts(claims, &["Q22"])),
        files: files(lead.vanilla(), LOSSES),
        panels,
        ..Figure::empty()
    }
}

pub(super) fn f5(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let panel = |part: Variant| {
        let mut panel = Panel::new(part.label(), tokens_axis(), axis("prefix-matching score"));
        panel.y.range = Some([0.0, 1.0]);
        let Some(model) = lead.model(part) else {
            panel.summary = absent(part);
            return panel;
        };
        panel.window = window_of(lead).filter(|_| part == TWO);
        panel.lines = head_lines(model, |head| Some(head.prefix_matching));
        let best = model.best_head();
        let name = format!("{}.{}", best.layer, best.head);
        panel.summary = format!(
            "{}: head {name} ends highest, at {}.",
            capital(&part.label()),
            number(best.prefix_matching)
        );
        panel
    };
    let parts: Vec<Variant> = [ONE, TWO]
        .into_iter()
        .chain(lead.vanilla().map(|model| model.variant).filter(|part| part.n_layers > 2))
        .chain(lead.with_mlps().map(|model| model.variant))
        .collect();
    let panels: Vec<Panel> = parts.into_iter().map(panel).collect();
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Figure {
        id: "F5",
        title: "Prefix matching of every head",
        drawn: "On random tokens repeated four times, the share of a head's attention that goes to what followed the current token before. A line a head; layer 0 is red, the last layer blue. Shaded: the ICL window of the 2-layer model.".to_string(),
        paper: "No head of the 1-layer model prefix-matches; in the 2-layer model, heads of the second layer rise to 0.8-0.9 inside the window.",
        here: format!("{} {}", summary.join(" "), verdicts(claims, &["Q5", "Q6"])),
        files: files(lead.vanilla().chain(lead.with_mlps()), HEADS),
        panels,
        ..Figure::empty()
    }
}

pub(super) fn f6(lead: &Experiment<'_>) -> Figure {
    let trained: Vec<&Trained<'_>> = lead.vanilla().collect();
    let mut panel =
        Panel::new("Loss of vanilla models", tokens_axis(), axis("loss (nats a token)"));
    panel.window = window_of(lead);
    for model in &trained {
        panel.lines.push(training_line(model));
    }
    for model in &trained {
        let points = model.run.losses.iter().map(|point| (point.tokens as f64, point.loss));
        panel.lines.push(line(model.variant.label(), colour(model.variant), points));
    }
    let seen = || trained.iter().flat_map(|model| &model.run.losses).map(|at| at.tokens as f64);
    let (first, last) = (seen().fold(f64::MAX, f64::min), seen().fold(0.0, f64::max));
    let ideal = optimum_lines(&trained, |of| [(first, of.loss), (last, of.loss)]);
    let to_reach = match ideal.is_empty() {
        true => "",
        false => {
            " Dashed, what predicts the tokens as well as can be, since it knows the process that generates them; dotted, simpler predictors."
        }
    };
    panel.lines.extend(ideal);
    let ends: Vec<String> = trained
        .iter()
        .map(|model| {
            let losses = &model.run.losses;
            let above = above_optimum(model).map_or(String::new(), |(above, stderr)| {
                let error = stderr
                    .map_or(String::new(), |error| format!(" \u{b1} {}", number(1.96 * error)));
                format!(", {}{error} above the optimum", number(above))
            });
            format!(
                "{}: {} nats a token at the end{above}",
                model.variant.label(),
                number(losses[losses.len() - 1].loss)
            )
        })
        .collect();
    panel.summary = if ends.is_empty() {
        "No vanilla run is here.".to_string()
    } else {
        format!("{}.", ends.join("; "))
    };
    Figure {
        id: "F6",
        title: "Loss over training",
        drawn: format!(
            "Held-out loss, the mean over all tokens of the context; faint, the loss of the training batches, averaged over short spans. 1 layer is laid over 2 layers.{to_reach}"
        ),
        paper: "The models with two layers and more bend away from the 1-layer curve at the phase change: a small bump, the only place where the loss is not convex.",
        here: format!("{}{}", panel.summary, gap_sentence(lead)),
        files: files(trained.iter().copied(), LOSSES),
        panels: vec![panel],
        ..Figure::empty()
    }
}

/// How far 1 and 2 layers are apart before and after the window.
fn gap_sentence(lead: &Experiment<'_>) -> String {
    let (Some(one), Some(two)) = (lead.model(ONE), lead.model(TWO)) else {
        return String::new();
    };
    let Ok(window) = two.window() else {
        return String::new();
    };
    let loss = |model: &Trained<'_>, at: u64| {
        let near = model.run.losses.iter().min_by_key(|point| point.tokens.abs_diff(at));
        near.map_or(0.0, |point| point.loss)
    };
    let gap = |at: u64| number(loss(one, at) - loss(two, at));
    let (start, end) = (gap(window.start_tokens), gap(window.end_tokens));
    format!(" 2 layers lead by {start} nats at the window's start and by {end} at its end.")
}

pub(super) fn f7(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let mut panel = Panel::new("Paths of vanilla models", axis("PC1 (nats)"), axis("PC2 (nats)"));
    let window = lead.model(TWO).and_then(|two| two.window().ok());
    for model in lead.vanilla() {
        let Some((tokens, path)) = model.path() else { continue };
        let place = |k: usize| (path[[k, 0]], path[[k, 1]]);
        let mut whole =
            line(model.variant.label(), colour(model.variant), (0..tokens.len()).map(place));
        whole.width = 1.5;
        panel.lines.push(whole);
        if let Some(window) = window {
            let inside = (0..tokens.len())
                .filter(|&k| (window.start_tokens..=window.end_tokens).contains(&tokens[k]));
            let mut inside = line(
                format!("{}, in the window", model.variant.label()),
                colour(model.variant),
                inside.map(place),
            );
            (inside.width, inside.group) = (5.0, format!("{} window", model.variant.label()));
            panel.lines.push(inside);
        }
    }
    let explained: Vec<String> =
        lead.explained().unwrap_or_default().iter().map(|&share| percent(share)).collect();
    panel.summary = if panel.lines.is_empty() {
        "The runs' random-token losses have no common plane.".to_string()
    } else {
        format!("The two axes hold {} of the variance of all snapshots.", explained.join(" and "))
    };
    Figure {
        id: "F7",
        title: "Where the models' losses go",
        drawn: "Each snapshot is a point: its losses on one fixed random token of each evaluation example, projected on the two directions in which all snapshots of all runs on this text differ most. Thick: the span of the 2-layer model's phase-change window.".to_string(),
        paper: "The models set out together; those with two layers or more turn, about orthogonally, at the phase change.",
        here: format!("{} {}", panel.summary, verdicts(claims, &["Q8"])),
        files: files(lead.vanilla(), RANDOM_TOKENS),
        panels: vec![panel],
        ..Figure::empty()
    }
}

pub(super) fn f10(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let parts = [ONE, ONE_SMEARED, TWO, TWO_SMEARED];
    let trained: Vec<&Trained<'_>> = parts.iter().filter_map(|&part| lead.model(part)).collect();
    let range = icl_range(&trained);
    let last = trained.iter().map(|model| model.run.measured_tokens() as f64).fold(0.0, f64::max);
    let panel = |part: Variant| {
        let variant = if part.smeared { "" } else { ", vanilla" };
        let mut panel = Panel::new(
            format!("{}{variant}", part.label()),
            tokens_axis(),
            axis("same-token score (nats)"),
        );
        panel.y.range = Some(range);
        panel.x.range = Some([0.0, last]);
        let Some(model) = lead.model(part) else {
            panel.summary = absent(part);
            return panel;
        };
        panel.window = own_window(model);
        panel.bands.push(icl_band(model));
        panel.lines.push(icl_line(model));
        panel.summary = icl_summary(model);
        panel
    };
    let panels = parts.map(panel);
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Figure {
        id: "F10",
        title: "What smeared keys change",
        drawn: "The ICL score with 95 % interval, by depth and by whether each key is mixed with its predecessor, which hands a head what it otherwise needs a second layer for. Shaded: each model's own window, where it has one; a window at the very start is the first learning, not a later change.".to_string(),
        paper: "With smeared keys the 1-layer model goes through the change too, and the 2-layer model earlier than without.",
        here: format!("{} {}", summary.join(" "), verdicts(claims, &["Q9"])),
        files: files(trained.iter().copied(), ICL),
        panels: panels.into(),
        ..Figure::empty()
    }
}
