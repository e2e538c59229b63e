//! The sections about runs: what became of each, its settings, how to repeat it, its files.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::figures::link;
use super::listed;
use crate::Run;
use crate::experiment::{Experiment, Trained};
use crate::markdown::Rules;
use crate::series::models;
use crate::settings::settings;
use crate::text::{number, tokens, url_segment, visible, visible_lines};

/// `tables`: what [`models_table`] makes, one or several.
pub(super) fn models_section(tables: &Markup) -> Markup {
    html! {
        section aria-labelledby="models" { "\n"
            h2 id="models" { "Models" } "\n"
            p.soft {
                "Every model, and whether its change came within the tokens that it was given. \
                The change: a phase-change window of the ICL score, and a head with prefix \
                matching above 0.3 at the end. One seed, one line."
            } "\n"
            (tables)
        } "\n"
    }
}

/// What became of each model, whether the change came or not.
pub(super) fn models_table(experiments: &[Experiment<'_>]) -> Markup {
    html! {
        table.models.cards { "\n"
            thead { tr {
                @for name in [
                    "Model",
                    "Text, seed",
                    "Tokens",
                    "ICL score at the end",
                    "Window",
                    "Best head, prefix matching",
                    "Half-way",
                    "The change",
                ] {
                    th scope="col" { (name) }
                }
            } } "\n"
            tbody { "\n"
                @for row in models(experiments) {
                    @let span = row.window.map_or("none".to_string(), |[start, end]| {
                        format!("{} to {}", tokens(start as f64), tokens(end as f64))
                    });
                    @let [score, error] = [row.icl_score, 1.96 * row.icl_stderr].map(number);
                    @let best = format!("{}, {}", row.best_head, number(row.prefix_matching));
                    tr {
                        th scope="row" { bdi { (row.model) } }
                        (cell("Text, seed", &format!("{}, {}", row.text, row.seed)))
                        (cell("Tokens", &tokens(row.tokens as f64)))
                        (cell("ICL score at the end", &format!("{score} ± {error}")))
                        (cell("Window", &span))
                        (cell("Best head", &best))
                        (cell("Half-way", &row.half_time.map_or("–".to_string(), tokens)))
                        (cell("The change", row.change.words()))
                    } "\n"
                }
            } "\n"
        } "\n"
    }
}

fn cell(label: &str, text: &str) -> Markup {
    html! { td data-label=(label) { span { bdi { (text) } } } }
}

pub(super) fn settings_section(runs: &[Run]) -> Markup {
    html! {
        section aria-labelledby="settings" { "\n"
            h2 id="settings" { "Settings the paper leaves open, and where we differ" } "\n"
            p.soft { "Values are read from the runs' specs." } "\n"
            table.settings.cards { "\n"
                thead { tr {
                    th scope="col" { "Setting" }
                    th scope="col" class="paper" { "Paper" }
                    th scope="col" { "Ours" }
                } } "\n"
                tbody { "\n"
                    @for setting in settings(runs) {
                        tr {
                            th scope="row" { (setting.name) }
                            td data-label="Paper" { span { (setting.paper) } }
                            (cell("Ours", &setting.ours))
                        } "\n"
                    }
                } "\n"
            } "\n"
        } "\n"
    }
}

/// What makes the runs again, and how alike they come out.
pub(super) fn repeat_section(runs: &[Run], command: &str, rules: &Rules) -> Markup {
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.spec.seed).collect();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let engines: BTreeSet<String> =
        runs.iter().map(|run| run.meta.engine.as_str()).map(visible).collect();
    let engines: Vec<String> = engines.into_iter().collect();
    let history: Vec<(&Run, &String)> =
        runs.iter().filter_map(|run| Some((run, run.made.as_ref()?))).collect();
    html! {
        section aria-labelledby="repeat" { "\n"
            h2 id="repeat" { "Repeat it" } "\n"
            dl.argument { "\n"
                dt { "Command" } dd { code { (visible(command)) } } "\n"
                dt { "Report's version" } dd { (env!("CARGO_PKG_VERSION")) } "\n"
                dt { "Rules" } dd { (rules.in_words()) } "\n"
                dt { "Seeds" } dd { (seeds.join(", ")) } "\n"
                dt { "Engine" } dd { (engines.join(", ")) } "\n"
                dt { "How exactly it repeats" }
                dd {
                    "On an exact engine (named with each run's time below) the same spec and \
                    program give the same weights and tables, bit for bit, with any number of \
                    threads, and however often the run was interrupted; " code { "cpu" } " does \
                    so whatever the processor's vector instructions. Another engine may add in \
                    another order, and so may all but " code { "cpu" } " on another processor: \
                    the losses of one model then agree to about five digits, and training drifts \
                    apart. This page is a function of the tables alone."
                } "\n"
                @if !history.is_empty() {
                    dt { "Training: machine and time" }
                    dd { ul {
                        @for (run, made) in history {
                            li { bdi { (run.label()) } ": " (made) } "\n"
                        }
                    } } "\n"
                }
            } "\n"
        } "\n"
    }
}

pub(super) fn runs_section(runs: &[Run], experiments: &[Experiment<'_>]) -> Markup {
    html! {
        section aria-labelledby="runs" { "\n"
            h2 id="runs" { "Runs and data" } "\n"
            @for run in runs { (run_element(run, &part(run, experiments))) }
        } "\n"
    }
}

/// Which claims a run is for.
fn part(run: &Run, experiments: &[Experiment<'_>]) -> String {
    let is_it = |model: &&Trained<'_>| std::ptr::eq(model.run, run);
    let part = experiments.iter().enumerate().find_map(|(k, experiment)| {
        if let Some(model) = experiment.everybody().find(is_it) {
            let role = if k == 0 { "decides the verdicts" } else { "further seed" };
            return Some(format!("{}; {role}", model.variant.label()));
        }
        let model = experiment.elsewhere.iter().flat_map(Experiment::everybody).find(is_it)?;
        Some(format!("{}; other text", model.variant.label()))
    });
    part.unwrap_or_else(|| "not part of any claim: a duplicate".to_string())
}

fn run_element(run: &Run, part: &str) -> Markup {
    let tables = ["loss_by_index.jsonl", "icl.jsonl", "heads.jsonl", "meta.json"]
        .map(|table| link(&run.folder, table, table));
    let meta = serde_json::to_string_pretty(&run.meta).expect("plain structs serialize");
    let beside = |file: &str| {
        html! { a href={ "runs/" (url_segment(&run.folder)) "/" (file) } { (file) } }
    };
    let text = |label: &str, text: &str| {
        html! {
            p { (label) ":" } "\n"
            pre tabindex="0" aria-label=(label) { bdi { (visible_lines(text)) } } "\n"
        }
    };
    html! {
        details.run {
            summary {
                b { bdi { (run.label()) } } " "
                span.soft {
                    "– " (part) "; seed " (run.spec.seed) ", "
                    (tokens(run.measured_tokens() as f64)) " of "
                    (tokens(run.spec.train.tokens as f64)) " tokens"
                }
            } "\n"
            p {
                "Data: " (listed(tables)) ", " (beside("metrics.jsonl")) ", "
                (beside("spec.toml"))
            } "\n"
            (text("Spec", &run.spec_text))
            (text("Measured with", &meta))
        } "\n"
    }
}
