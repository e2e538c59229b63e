//! The page: one file, no network, nothing foreign unescaped.
//!
//! Its sections are functions from data to [`Markup`]. A template escapes every text that is put
//! into it, so that no call can be forgotten; what goes in as it is does so in `document` alone.

mod arguments;
mod claims;
mod compare;
mod document;
mod explore;
mod figures;
mod models;
mod runs;
mod study;

use maud::{Markup, html};

use self::arguments::argument_section;
use self::claims::{claims_section, mark};
use self::document::{Drawn, document};
use self::explore::{analysis_section, explorer_section, scanned_section};
use self::runs::{models_section, models_table, repeat_section, runs_section, settings_section};
use crate::analysis::Series;
use crate::arguments::{ARGUMENTS, REAL_MODELS};
use crate::experiment::Experiment;
use crate::explorer::Model;
use crate::figures::Figure;
use crate::markdown::Rules;
use crate::scanned::Scanned;
use crate::text::visible;
use crate::{Claim, Run, Verdict};

pub(crate) use compare::compared;
pub(crate) use models::scanned;
pub(crate) use study::study;

/// What a page is made of.
pub(crate) struct Parts<'a> {
    pub(crate) runs: &'a [Run],
    pub(crate) experiments: &'a [Experiment<'a>],
    pub(crate) claims: &'a [Claim],
    pub(crate) figures: &'a [Figure],
    /// The result in one picture.
    pub(crate) brief: Figure,
    pub(crate) analysis: Vec<Series>,
    /// The models to explore, and of how many snapshots one with maps is in the page.
    pub(crate) explorer: (Vec<Model>, usize),
    /// The scanned models, head by head.
    pub(crate) scanned: Vec<Scanned>,
    /// What makes the runs.
    pub(crate) command: &'a str,
    pub(crate) rules: &'a Rules,
}

const TITLE: &str = "Induction heads: a reproduction";
const MADE: &str = "Made from the measurement tables beside this page; the same tables give the \
    same page, byte for byte.";
/// What is otherwise with claims about trained models.
const MODELS_LATE: &str = " Claims Q23, M4 and M6 to M8 are about real models; their rules were fixed \
    after a first one, SmolLM2-135M, had been scanned. Those of M7 and M8 were fixed after Gemma 3 270M, too.";

/// The page as HTML: claims on top, then the arguments with their figures, the table of all models,
/// the explorer, settings and specs. Links to tables are relative to the page.
pub(crate) fn page(parts: &Parts<'_>) -> String {
    let real = has_models(parts.figures).then_some(&REAL_MODELS);
    let made = html! { " Made by " code { (visible(parts.command)) } "." };
    let body = html! {
        (header(parts))
        main { "\n"
            (in_brief(&parts.brief))
            (claims_section(parts.claims, parts.figures, Some(&made)))
            (models_section(&models_table(parts.experiments)))
            (no_script())
            @for argument in ARGUMENTS.iter().chain(real) {
                (argument_section(argument, parts.claims, parts.figures, true))
            }
            (scanned_section(&parts.scanned))
            (analysis_section(&parts.analysis))
            (explorer_section(&parts.explorer))
            (settings_section(parts.runs))
            (repeat_section(parts.runs, parts.command, parts.rules))
            (runs_section(parts.runs, parts.experiments))
        } "\n"
    };
    let drawn = Drawn {
        figures: parts.figures.iter().chain([&parts.brief]).collect(),
        analysis: &parts.analysis,
        explorer: &parts.explorer.0,
        scanned: &parts.scanned,
    };
    document(TITLE, &body, MADE, &drawn)
}

fn header(parts: &Parts<'_>) -> Markup {
    let real = has_models(parts.figures);
    html! {
        header { "\n"
            h1 { "In-context learning and induction heads: a reproduction" } "\n"
            p {
                "Olsson et al. (2022) report that small transformers go through an abrupt change \
                early in training: in-context learning appears, and with it attention heads that \
                find what followed the current token before, and copy it. Each claim below is \
                tested on much smaller models, against a rule that was fixed before its numbers \
                were first measured."
                @if real { (MODELS_LATE) }
            } "\n"
            ul.tally aria-label="Verdicts" { "\n"
                @for verdict in
                    [Verdict::Reproduced, Verdict::Partly, Verdict::Not, Verdict::OutOfReach]
                {
                    @let count = parts.claims.iter().filter(|c| c.verdict == verdict).count();
                    @if count > 0 { li { b { (count) } " " (mark(verdict)) } "\n" }
                }
            } "\n"
            p.soft { bdi { (lead(parts.experiments)) } } "\n"
            nav aria-label="Contents" { ul {
                (link_to("claims", "Claims"))
                (link_to("models", "Models"))
                (links_to_arguments(real))
                @if !parts.scanned.is_empty() { (link_to("scanned-title", "Heads of real models")) }
                (link_to("analysis-title", "All models"))
                @if !parts.explorer.0.is_empty() {
                    (link_to("explorer-title", "Heads"))
                    (link_to("text-title", "Text"))
                }
                (link_to("settings", "Choices"))
                (link_to("repeat", "Repeat it"))
                (link_to("runs", "Runs and data"))
            } } "\n"
        } "\n"
    }
}

/// Which models are compared.
fn lead(experiments: &[Experiment<'_>]) -> String {
    let Some(experiment) = experiments.first() else {
        return "There are no runs, so no claim can be judged.".to_string();
    };
    let names: Vec<String> = experiment
        .trained()
        .map(|model| format!("{} ({})", model.variant.label(), model.run.label()))
        .collect();
    let seeds = match experiments.len() {
        1 => String::new(),
        n => format!(" Repeated with {} further {}.", n - 1, if n == 2 { "seed" } else { "seeds" }),
    };
    let elsewhere: Vec<String> = experiment
        .elsewhere
        .iter()
        .map(|other| format!("{} on {}", other.everybody().count(), other.text))
        .collect();
    let elsewhere = if elsewhere.is_empty() {
        String::new()
    } else {
        format!(" Beside them, models on other text: {}.", elsewhere.join(", "))
    };
    format!(
        "Models compared here: {}; seed {}, text {}.{seeds}{elsewhere}",
        names.join(", "),
        experiment.seed,
        experiment.text
    )
}

/// The first thing to see: the two curves that the paper is about, side by side.
fn in_brief(brief: &Figure) -> Markup {
    if brief.panels.is_empty() {
        return Markup::default();
    }
    html! {
        figure.brief aria-label="The result in one picture" { "\n"
            div.panels { "\n"
                @for (k, panel) in brief.panels.iter().enumerate() {
                    div.panel {
                        h3 { (panel.title) }
                        div.plot.low #{ "brief-" (k) } role="img"
                            aria-label={ (panel.title) ": " (panel.summary) } {}
                    } "\n"
                }
            } "\n"
            figcaption { (unbroken(&brief.drawn)) } "\n"
        } "\n"
    }
}

/// Whether trained models are in the report.
fn has_models(figures: &[Figure]) -> bool {
    figures.iter().any(|figure| REAL_MODELS.figures.contains(&figure.id))
}

fn no_script() -> Markup {
    html! {
        noscript {
            p {
                "Figures, the table of all models and the explorer are drawn by a script in this \
                file. Without it, captions and linked tables say the same."
            }
        } "\n"
    }
}

/// An entry of the contents.
fn link_to(id: &str, text: &str) -> Markup {
    html! { li { a href={ "#" (id) } { (text) } } }
}

/// Entries of all arguments; `real`: of trained models, too.
fn links_to_arguments(real: bool) -> Markup {
    html! {
        @for n in 1..=ARGUMENTS.len() {
            (link_to(&format!("argument-{n}"), &format!("Argument {n}")))
        }
        @if real { (link_to(REAL_MODELS.id, REAL_MODELS.title)) }
    }
}

/// One after another, with commas.
fn listed(items: impl IntoIterator<Item = Markup>) -> Markup {
    html! {
        @for (k, item) in items.into_iter().enumerate() {
            @if k > 0 { ", " }
            (item)
        }
    }
}

/// Keeps a number and its percent sign on one line.
fn unbroken(text: &str) -> String {
    text.replace(" %", "\u{a0}%")
}
