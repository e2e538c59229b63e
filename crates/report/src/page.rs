//! The page: one file, no network, nothing foreign unescaped.

mod compare;
mod explore;
mod figures;
mod models;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use self::explore::{analysis_section, data, explorer_section};
use self::figures::{figure_element, link, seen_in};
use crate::analysis::Series;
use crate::arguments::{ARGUMENTS, Argument, REAL_MODELS};
use crate::claims::DECIDED_FROM;
use crate::experiment::{Experiment, Trained};
use crate::explorer::Model;
use crate::figures::Figure;
use crate::markdown::Rules;
use crate::series::models;
use crate::settings::settings;
use crate::text::{
    html, json_for_script, number, percent, tokens, url_segment, visible, visible_lines,
};
use crate::{Claim, RULES, Run, Verdict};

const STYLE: &str = include_str!("../assets/page.css");
const PLOTLY: &str = include_str!("../assets/plotly-cartesian.min.js");
const PLOTLY_LICENSE: &str = include_str!("../assets/plotly-LICENSE.txt");
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n",
    include_str!("../assets/figures.js"),
    include_str!("../assets/analysis.js"),
    include_str!("../assets/explorer.js"),
    "})();\n"
);

pub(crate) use compare::compared;
pub(crate) use models::scanned;

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
    /// What makes the runs.
    pub(crate) command: &'a str,
    pub(crate) rules: &'a Rules,
}

/// The page as HTML: claims on top, then the arguments with their figures, the table of all models,
/// the explorer, settings and specs. Links to tables are relative to the page.
pub(crate) fn page(parts: &Parts<'_>) -> String {
    let mut out = begin(TITLE);
    header(&mut out, parts);
    out.push_str("<main>\n");
    in_brief(&mut out, parts);
    let made = format!(" Made by <code>{}</code>.", html(&visible(parts.command)));
    claims_section(&mut out, parts.claims, parts.figures, Some(&made));
    out.push_str("<section aria-labelledby=\"models\">\n<h2 id=\"models\">Models</h2>\n");
    out.push_str(MODELS);
    models_table(&mut out, parts.experiments);
    out.push_str("</section>\n");
    out.push_str(NO_SCRIPT);
    for argument in &ARGUMENTS {
        argument_section(&mut out, argument, parts.claims, parts.figures, true);
    }
    if has_models(parts.figures) {
        argument_section(&mut out, &REAL_MODELS, parts.claims, parts.figures, true);
    }
    analysis_section(&mut out, &parts.analysis);
    explorer_section(&mut out, &parts.explorer);
    settings_section(&mut out, parts.runs);
    repeat_section(&mut out, parts);
    runs_section(&mut out, parts.runs, parts.experiments);
    out.push_str("</main>\n");
    let figures: Vec<&Figure> = parts.figures.iter().chain([&parts.brief]).collect();
    end(out, &figures, &parts.analysis, &parts.explorer.0, MADE)
}

const TITLE: &str = "Induction heads: a reproduction";
const MADE: &str = "Made from the measurement tables beside this page; the same tables give the same page, byte for byte.";

/// Whether trained models are in the report.
fn has_models(figures: &[Figure]) -> bool {
    figures.iter().any(|figure| REAL_MODELS.figures.contains(&figure.id))
}

/// What is otherwise with claims about trained models.
const MODELS_LATE: &str = " Claims Q23, M4 and M6 are about real models; their rules were fixed after a first one, SmolLM2-135M, had been scanned.";
const MODELS_LINK: &str = "<li><a href=\"#real-models\">Real models</a></li>";

const NO_SCRIPT: &str = "<noscript><p>Figures, the table of all models and the explorer are drawn by a script in this file. Without it, captions and linked tables say the same.</p></noscript>\n";

/// Everything up to the page's own content.
fn begin(title: &str) -> String {
    let mut out = String::with_capacity(8 << 20);
    let [plotly, script] = [PLOTLY, SCRIPT].map(|script| STANDARD.encode(Sha256::digest(script)));
    // Writing into a String cannot fail, which is why the results below are dropped.
    let _ = write!(
        out,
        r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'sha256-{plotly}' 'sha256-{script}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{}</title>
<link rel="icon" href="data:,">
<style>
{STYLE}</style>
</head>
<body>
<a class="skip" href="#claims">Skip to the claims</a>
"##,
        html(title)
    );
    out
}

/// The footer, what the scripts draw, and the scripts.
fn end(
    mut out: String,
    figures: &[&Figure],
    analysis: &[Series],
    explorer: &[Model],
    made: &str,
) -> String {
    let figures = serde_json::to_string(figures).expect("figures are texts and finite numbers");
    let _ = write!(
        out,
        r#"<footer>
<p>{made} It loads nothing from a network.</p>
<details><summary>Plotly.js, which draws the figures: licence</summary><pre>{}</pre></details>
</footer>
<script type="application/json" id="figures">{}</script>
"#,
        html(PLOTLY_LICENSE),
        json_for_script(&figures),
    );
    data(&mut out, analysis, explorer);
    let _ = write!(out, "<script>{PLOTLY}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    out
}

fn header(out: &mut String, parts: &Parts<'_>) {
    let (experiments, claims) = (parts.experiments, parts.claims);
    let mut tally = String::new();
    for verdict in [Verdict::Reproduced, Verdict::Partly, Verdict::Not, Verdict::OutOfReach] {
        let count = claims.iter().filter(|claim| claim.verdict == verdict).count();
        if count > 0 {
            let _ = writeln!(tally, "<li><b>{count}</b> {}</li>", mark(verdict));
        }
    }
    let lead = match experiments.first() {
        Some(experiment) => {
            let names: Vec<String> = experiment
                .trained()
                .map(|model| format!("{} ({})", model.variant.label(), model.run.label()))
                .collect();
            let seeds = match experiments.len() {
                1 => String::new(),
                n => format!(
                    " Repeated with {} further {}.",
                    n - 1,
                    if n == 2 { "seed" } else { "seeds" }
                ),
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
        None => "There are no runs, so no claim can be judged.".to_string(),
    };
    let _ = write!(
        out,
        r##"<header>
<h1>In-context learning and induction heads: a reproduction</h1>
<p>Olsson et al. (2022) report that small transformers go through an abrupt change early in training: in-context learning appears, and with it attention heads that find what followed the current token before, and copy it. Each claim below is tested on much smaller models, against a rule that was fixed before its numbers were first measured.{late}</p>
<ul class="tally" aria-label="Verdicts">
{tally}</ul>
<p class="soft"><bdi>{}</bdi></p>
<nav aria-label="Contents"><ul><li><a href="#claims">Claims</a></li><li><a href="#models">Models</a></li>{arguments}{real}<li><a href="#analysis-title">All models</a></li>{explore}<li><a href="#settings">Choices</a></li><li><a href="#repeat">Repeat it</a></li><li><a href="#runs">Runs and data</a></li></ul></nav>
</header>
"##,
        html(&lead),
        arguments = (1..=ARGUMENTS.len())
            .map(|n| format!("<li><a href=\"#argument-{n}\">Argument {n}</a></li>"))
            .collect::<String>(),
        real = if has_models(parts.figures) { MODELS_LINK } else { "" },
        late = if has_models(parts.figures) { MODELS_LATE } else { "" },
        explore = if parts.explorer.0.is_empty() {
            ""
        } else {
            "<li><a href=\"#explorer-title\">Heads</a></li><li><a href=\"#text-title\">Text</a></li>"
        },
    );
}

/// Keeps a number and its percent sign on one line.
fn unbroken(text: &str) -> String {
    text.replace(" %", "\u{a0}%")
}

/// Shape, colour and word.
fn mark(verdict: Verdict) -> String {
    let (word, symbol) = (verdict.word(), verdict.symbol());
    format!(
        r#"<span class="mark {word}"><span aria-hidden="true">{symbol}</span> {}</span>"#,
        word.replace('-', " ")
    )
}

/// The first thing to see: the two curves that the paper is about, side by side.
fn in_brief(out: &mut String, parts: &Parts<'_>) {
    let shown: Vec<_> = parts.brief.panels.iter().enumerate().collect();
    if shown.is_empty() {
        return;
    }
    out.push_str("<figure class=\"brief\" aria-label=\"The result in one picture\">\n<div class=\"panels\">\n");
    for (k, panel) in shown {
        let _ = writeln!(
            out,
            "<div class=\"panel\"><h3>{}</h3><div class=\"plot low\" id=\"brief-{k}\" role=\"img\" aria-label=\"{}: {}\"></div></div>",
            html(&panel.title),
            html(&panel.title),
            html(&panel.summary)
        );
    }
    let _ = writeln!(
        out,
        "</div>\n<figcaption>{}</figcaption>\n</figure>",
        unbroken(&html(&parts.brief.drawn))
    );
}

/// `made`: what made the data beside the page, where there are any.
fn claims_section(out: &mut String, claims: &[Claim], figures: &[Figure], made: Option<&str>) {
    let there: BTreeSet<&str> = figures.iter().map(|figure| figure.id).collect();
    let _ = write!(
        out,
        r#"<section aria-labelledby="claims">
<h2 id="claims">Claims</h2>
<p class="soft">Intervals are 95 %, over evaluation examples, and over seeds where there are several; of one seed they tell how well the model was measured, not how far another would differ. {tally}</p>
<table class="claims cards">
<thead><tr><th scope="col" class="what">Claim</th><th scope="col" class="paper">Paper</th><th scope="col" class="ours">Ours</th><th scope="col" class="interval">95 % interval</th><th scope="col" class="verdict">Verdict</th></tr></thead>
<tbody>
"#,
        tally = html(&crate::markdown::tally(claims)),
    );
    for claim in claims {
        let rule = RULES.iter().find(|rule| rule.id == claim.id).map_or("", |rule| rule.rule);
        let or_dash = |text: &str| {
            if text.is_empty() { "–".to_string() } else { unbroken(&html(&visible(text))) }
        };
        let _ = write!(
            out,
            r#"<tr id="claim-{id}"><th scope="row"><span class="id">{id}</span>{title}</th>
<td data-label="Paper"><span>{paper}</span></td><td data-label="Ours"><span>{ours}</span></td><td data-label="Interval"><span>{interval}</span></td><td data-label="Verdict">{mark}{agree}</td></tr>
<tr class="more"><td colspan="5"><details><summary>Why; our rule; data and command</summary><p>{why}</p><p>Rule: {rule}</p><p>{seen}{made}</p></details></td></tr>
"#,
            id = html(claim.id),
            title = html(claim.title),
            rule = html(rule),
            seen = seen_in(claim.id, &there, made.is_some()),
            made = made.unwrap_or_default(),
            agree = claim.probability.map_or(String::new(), |share| {
                let state = if share < DECIDED_FROM { "inside the noise: " } else { "" };
                format!(r#"<small class="soft"> {state}{} of draws</small>"#, percent(share))
            }),
            paper = html(claim.paper),
            ours = or_dash(&claim.ours),
            interval = or_dash(claim.interval.as_deref().unwrap_or_default()),
            mark = mark(claim.verdict),
            why = or_dash(&match claim.decide {
                Some(decide) => format!("{} What would decide it: {decide}", claim.why),
                None => claim.why.clone(),
            }),
        );
    }
    out.push_str("</tbody>\n</table>\n</section>\n");
}

const MODELS: &str = "<p class=\"soft\">Every model, and whether its change came within the tokens that it was given. The change: a phase-change window of the ICL score, and a head with prefix matching above 0.3 at the end. One seed, one line.</p>\n";

/// What became of each model, whether the change came or not.
fn models_table(out: &mut String, experiments: &[Experiment<'_>]) {
    out.push_str(
        r#"<table class="models cards">
<thead><tr><th scope="col">Model</th><th scope="col">Text, seed</th><th scope="col">Tokens</th><th scope="col">ICL score at the end</th><th scope="col">Window</th><th scope="col">Best head, prefix matching</th><th scope="col">Half-way</th><th scope="col">The change</th></tr></thead>
<tbody>
"#,
    );
    for row in models(experiments) {
        let span = row.window.map_or("none".to_string(), |[start, end]| {
            format!("{} to {}", tokens(start as f64), tokens(end as f64))
        });
        let half = row.half_time.map_or("–".to_string(), tokens);
        let cells = [
            ("Text, seed", format!("{}, {}", row.text, row.seed)),
            ("Tokens", tokens(row.tokens as f64)),
            (
                "ICL score at the end",
                format!("{} ± {}", number(row.icl_score), number(1.96 * row.icl_stderr)),
            ),
            ("Window", span),
            ("Best head", format!("{}, {}", row.best_head, number(row.prefix_matching))),
            ("Half-way", half),
            ("The change", row.change.words().to_string()),
        ];
        let _ = write!(out, "<tr><th scope=\"row\"><bdi>{}</bdi></th>", html(&row.model));
        for (label, text) in cells {
            let _ = write!(
                out,
                "<td data-label=\"{label}\"><span><bdi>{}</bdi></span></td>",
                html(&text)
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n");
}

fn argument_section(
    out: &mut String,
    argument: &Argument,
    claims: &[Claim],
    figures: &[Figure],
    linked: bool,
) {
    let Argument { id, title, claim, experiment, not_shown, .. } = argument;
    let _ = write!(
        out,
        "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{}</h2>\n<dl class=\"argument\">\n<dt>Claim</dt><dd>{}</dd>\n<dt>Experiment</dt><dd>{}</dd>\n<dt>Found</dt><dd>\n<ul>\n",
        html(title),
        html(claim),
        html(experiment)
    );
    for claim in claims.iter().filter(|claim| argument.rests_on(claim.id)) {
        let ours =
            if claim.ours.is_empty() { "nothing measured".to_string() } else { claim.ours.clone() };
        let interval = claim
            .interval
            .as_ref()
            .map_or(String::new(), |interval| format!(" (95 %: {interval})"));
        let _ = writeln!(
            out,
            "<li><a href=\"#claim-{id}\">{id}</a> {}: {} {}</li>",
            html(claim.title),
            unbroken(&html(&visible(&format!("{ours}{interval}")))),
            mark(claim.verdict),
            id = html(claim.id)
        );
    }
    let _ = write!(out, "</ul></dd>\n<dt>Not shown</dt><dd>{}</dd>\n</dl>\n", html(not_shown));
    let of =
        argument.figures.iter().filter_map(|id| figures.iter().find(|figure| figure.id == *id));
    of.for_each(|figure| figure_element(out, figure, linked));
    out.push_str("</section>\n");
}

/// What makes the runs again, and how alike they come out.
fn repeat_section(out: &mut String, parts: &Parts<'_>) {
    let seeds: BTreeSet<u64> = parts.runs.iter().map(|run| run.spec.seed).collect();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let engines: BTreeSet<String> =
        parts.runs.iter().map(|run| run.meta.engine.as_str()).map(visible).collect();
    let engines: Vec<String> = engines.into_iter().collect();
    let mut rows = vec![
        ("Command", format!("<code>{}</code>", html(&visible(parts.command)))),
        ("Report's version", html(env!("CARGO_PKG_VERSION"))),
        ("Rules", html(&parts.rules.in_words())),
        ("Seeds", html(&seeds.join(", "))),
        ("Engine", html(&engines.join(", "))),
        (
            "How exactly it repeats",
            "On an exact engine (named with each run's time below) the same spec and program give the same weights and tables, bit for bit, with any number of threads, and however often the run was interrupted; <code>cpu</code> does so whatever the processor's vector instructions. Another engine may add in another order, and so may all but <code>cpu</code> on another processor: the losses of one model then agree to about five digits, and training drifts apart. This page is a function of the tables alone.".to_string(),
        ),
    ];
    let history: Vec<String> = parts
        .runs
        .iter()
        .filter_map(|run| {
            let made = run.made.as_ref()?;
            Some(format!("<li><bdi>{}</bdi>: {}</li>", html(&run.label()), html(made)))
        })
        .collect();
    if !history.is_empty() {
        rows.push(("Training: machine and time", format!("<ul>{}</ul>", history.join("\n"))));
    }
    out.push_str("<section aria-labelledby=\"repeat\">\n<h2 id=\"repeat\">Repeat it</h2>\n<dl class=\"argument\">\n");
    for (name, text) in rows {
        let _ = writeln!(out, "<dt>{name}</dt><dd>{text}</dd>");
    }
    out.push_str("</dl>\n</section>\n");
}

fn settings_section(out: &mut String, runs: &[Run]) {
    out.push_str(
        r#"<section aria-labelledby="settings">
<h2 id="settings">Settings the paper leaves open, and where we differ</h2>
<p class="soft">Values are read from the runs' specs.</p>
<table class="settings cards">
<thead><tr><th scope="col">Setting</th><th scope="col" class="paper">Paper</th><th scope="col">Ours</th></tr></thead>
<tbody>
"#,
    );
    for setting in settings(runs) {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td data-label=\"Paper\"><span>{}</span></td><td data-label=\"Ours\"><span><bdi>{}</bdi></span></td></tr>",
            html(setting.name),
            html(setting.paper),
            html(&setting.ours),
        );
    }
    out.push_str("</tbody>\n</table>\n</section>\n");
}

fn runs_section(out: &mut String, runs: &[Run], experiments: &[Experiment<'_>]) {
    out.push_str("<section aria-labelledby=\"runs\">\n<h2 id=\"runs\">Runs and data</h2>\n");
    for run in runs {
        let part = experiments.iter().enumerate().find_map(|(k, experiment)| {
            let is_it = |model: &&Trained<'_>| std::ptr::eq(model.run, run);
            if let Some(model) = experiment.everybody().find(is_it) {
                let role = if k == 0 { "decides the verdicts" } else { "further seed" };
                return Some(format!("{}; {role}", model.variant.label()));
            }
            let model = experiment.elsewhere.iter().flat_map(Experiment::everybody).find(is_it)?;
            Some(format!("{}; other text", model.variant.label()))
        });
        let part = part.unwrap_or_else(|| "not part of any claim: a duplicate".to_string());
        let tables = ["loss_by_index.jsonl", "icl.jsonl", "heads.jsonl", "meta.json"]
            .map(|table| link(&run.folder, table, table));
        let segment = url_segment(&run.folder);
        let meta = serde_json::to_string_pretty(&run.meta).expect("plain structs serialize");
        let _ = write!(
            out,
            r#"<details class="run"><summary><b><bdi>{name}</bdi></b> <span class="soft">– {part}; seed {seed}, {seen} of {planned} tokens</span></summary>
<p>Data: {tables}, <a href="runs/{segment}/metrics.jsonl">metrics.jsonl</a>, <a href="runs/{segment}/spec.toml">spec.toml</a></p>
<p>Spec:</p>
<pre tabindex="0" aria-label="Spec"><bdi>{spec}</bdi></pre>
<p>Measured with:</p>
<pre tabindex="0" aria-label="Measured with"><bdi>{meta}</bdi></pre>
</details>
"#,
            name = html(&run.label()),
            part = html(&part),
            seed = run.spec.seed,
            seen = tokens(run.measured_tokens() as f64),
            planned = tokens(run.spec.train.tokens as f64),
            tables = tables.join(", "),
            spec = html(&visible_lines(&run.spec_text)),
            meta = html(&visible_lines(&meta)),
        );
    }
    out.push_str("</section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_scripts_do_not_end_their_element() {
        for script in [PLOTLY, SCRIPT] {
            let script = script.to_lowercase();
            assert!(
                !script.contains("</script") && !script.contains("<!--") && !script.contains('\r')
            );
        }
    }
}
