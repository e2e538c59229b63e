//! The page: one file, no network, nothing foreign unescaped.

use std::fmt::Write as _;

use crate::cast::{Cast, Player, casts};
use crate::figures::{Figure, figures};
use crate::series::models;
use crate::settings::settings;
use crate::text::{html, json_for_script, number, tokens, url_segment, visible, visible_lines};
use crate::{Claim, RULES, Run, Verdict};

const STYLE: &str = include_str!("../assets/page.css");
const PLOTLY: &str = include_str!("../assets/plotly-basic.min.js");
const PLOTLY_LICENSE: &str = include_str!("../assets/plotly-LICENSE.txt");
const SCRIPT: &str = include_str!("../assets/page.js");

/// SHA-256 of the two scripts: the page's policy lets these run and no other. A test recomputes them.
const PLOTLY_HASH: &str = "sha256-mXhOOr+wexQqFeUhpDnm2a3c6ts/eVU/0kxyd08GSbo=";
const SCRIPT_HASH: &str = "sha256-bfQH+N+jX3AwZE7dvvMJiVrfk4VWSH/nvjmFWrpq2Zw=";

/// The page as HTML: claims on top, then figures, settings and specs; links to the tables are relative to the page.
pub fn page(runs: &[Run], claims: &[Claim]) -> String {
    let casts = casts(runs);
    let figures = figures(&casts, claims);
    let data = serde_json::to_string(&figures).expect("figures are texts and finite numbers");
    let mut out = String::with_capacity(PLOTLY.len() + data.len() + (64 << 10));
    // Writing into a String cannot fail, which is why the results below are dropped.
    let _ = write!(
        out,
        r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src '{PLOTLY_HASH}' '{SCRIPT_HASH}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>Induction heads: a reproduction</title>
<link rel="icon" href="data:,">
<style>
{STYLE}</style>
</head>
<body>
<a class="skip" href="#claims">Skip to the claims</a>
"##
    );
    header(&mut out, &casts, claims);
    out.push_str("<main>\n");
    claims_section(&mut out, claims);
    models_section(&mut out, &casts);
    figures_section(&mut out, &figures);
    settings_section(&mut out, runs);
    runs_section(&mut out, runs, &casts);
    out.push_str("</main>\n");
    let _ = write!(
        out,
        r#"<footer>
<p>Made from the measurement tables beside this page; the same tables give the same page, byte for byte. It loads nothing from a network.</p>
<details><summary>Plotly.js, which draws the figures: licence</summary><pre>{}</pre></details>
</footer>
<script type="application/json" id="figures">{}</script>
<script>{PLOTLY}</script>
<script>{SCRIPT}</script>
</body>
</html>
"#,
        html(PLOTLY_LICENSE),
        json_for_script(&data),
    );
    out
}

fn header(out: &mut String, casts: &[Cast<'_>], claims: &[Claim]) {
    let mut tally = String::new();
    for verdict in [Verdict::Reproduced, Verdict::Partly, Verdict::Not, Verdict::OutOfReach] {
        let count = claims.iter().filter(|claim| claim.verdict == verdict).count();
        if count > 0 {
            let _ = writeln!(tally, "<li><b>{count}</b> {}</li>", mark(verdict));
        }
    }
    let lead = match casts.first() {
        Some(cast) => {
            let names: Vec<String> =
                cast.players().map(|player| format!("{} ({})", player.part.label(), player.run.label())).collect();
            let seeds = match casts.len() {
                1 => String::new(),
                n => format!(" Repeated with {} further {}.", n - 1, if n == 2 { "seed" } else { "seeds" }),
            };
            let elsewhere: Vec<String> =
                cast.elsewhere.iter().map(|other| format!("{} on {}", other.everybody().count(), other.text)).collect();
            let elsewhere = if elsewhere.is_empty() {
                String::new()
            } else {
                format!(" Beside them, models on other text: {}.", elsewhere.join(", "))
            };
            format!(
                "Models compared here: {}; seed {}, text {}.{seeds}{elsewhere}",
                names.join(", "),
                cast.seed,
                cast.text
            )
        }
        None => "There are no runs, so no claim can be judged.".to_string(),
    };
    let _ = write!(
        out,
        r##"<header>
<h1>In-context learning and induction heads: a reproduction</h1>
<p>Olsson et al. (2022) report that small transformers go through an abrupt change early in training: in-context learning appears, and with it attention heads that find what followed the current token before, and copy it. Each claim below is tested on much smaller models, against a rule that was fixed before its numbers were first measured.</p>
<ul class="tally" aria-label="Verdicts">
{tally}</ul>
<p class="soft"><bdi>{}</bdi></p>
<nav aria-label="Contents"><ul><li><a href="#claims">Claims</a></li><li><a href="#models">Models</a></li><li><a href="#figures-title">Figures</a></li><li><a href="#settings">Settings the paper leaves open</a></li><li><a href="#runs">Runs and data</a></li></ul></nav>
</header>
"##,
        html(&lead)
    );
}

/// Keeps a number and its percent sign on one line.
fn unbroken(text: &str) -> String {
    text.replace(" %", "\u{a0}%")
}

/// Shape, colour and word.
fn mark(verdict: Verdict) -> String {
    let (word, symbol) = (verdict.word(), verdict.symbol());
    format!(r#"<span class="mark {word}"><span aria-hidden="true">{symbol}</span> {}</span>"#, word.replace('-', " "))
}

fn claims_section(out: &mut String, claims: &[Claim]) {
    out.push_str(
        r#"<section aria-labelledby="claims">
<h2 id="claims">Claims</h2>
<p class="soft">Intervals are 95 %, over evaluation examples, and over seeds where there are several; of one seed they tell how well the model was measured, not how far another would differ.</p>
<table class="claims cards">
<thead><tr><th scope="col" class="what">Claim</th><th scope="col" class="paper">Paper</th><th scope="col" class="ours">Ours</th><th scope="col" class="interval">Interval</th><th scope="col" class="verdict">Verdict</th><th scope="col">Why</th></tr></thead>
<tbody>
"#,
    );
    for claim in claims {
        let rule = RULES.iter().find(|rule| rule.id == claim.id).map_or("", |rule| rule.rule);
        let or_dash = |text: &str| if text.is_empty() { "–".to_string() } else { unbroken(&html(&visible(text))) };
        let _ = write!(
            out,
            r#"<tr id="{id}"><th scope="row"><span class="id">{id}</span>{title}<details><summary>Our rule</summary>{rule}</details></th>
<td data-label="Paper"><span>{paper}</span></td><td data-label="Ours"><span>{ours}</span></td><td data-label="Interval"><span>{interval}</span></td><td data-label="Verdict">{mark}</td><td data-label="Why"><span>{why}</span></td></tr>
"#,
            id = html(claim.id),
            title = html(claim.title),
            rule = html(rule),
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

/// What became of each model, whether the change came or not.
fn models_section(out: &mut String, casts: &[Cast<'_>]) {
    out.push_str(
        r#"<section aria-labelledby="models">
<h2 id="models">Models</h2>
<p class="soft">Every model, and whether its change came within the tokens that it was given. The change: a phase-change window of the ICL score, and a head with prefix matching above 0.3 at the end. One seed, one line.</p>
<table class="models cards">
<thead><tr><th scope="col">Model</th><th scope="col">Text, seed</th><th scope="col">Tokens</th><th scope="col">ICL score at the end</th><th scope="col">Window</th><th scope="col">Best head, prefix matching</th><th scope="col">Half-way</th><th scope="col">The change</th></tr></thead>
<tbody>
"#,
    );
    for row in models(casts) {
        let span = row
            .window
            .map_or("none".to_string(), |[start, end]| format!("{} to {}", tokens(start as f64), tokens(end as f64)));
        let half = row.half_time.map_or("–".to_string(), tokens);
        let cells = [
            ("Text, seed", format!("{}, {}", row.text, row.seed)),
            ("Tokens", tokens(row.tokens as f64)),
            ("ICL score at the end", format!("{} ± {}", number(row.icl_score), number(1.96 * row.icl_stderr))),
            ("Window", span),
            ("Best head", format!("{}, {}", row.best_head, number(row.prefix_matching))),
            ("Half-way", half),
            ("The change", row.change.words().to_string()),
        ];
        let _ = write!(out, "<tr><th scope=\"row\"><bdi>{}</bdi></th>", html(&row.model));
        for (label, text) in cells {
            let _ = write!(out, "<td data-label=\"{label}\"><span><bdi>{}</bdi></span></td>", html(&text));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</section>\n");
}

fn figures_section(out: &mut String, figures: &[Figure]) {
    out.push_str("<section aria-labelledby=\"figures-title\">\n<h2 id=\"figures-title\">Figures</h2>\n");
    out.push_str("<noscript><p>The figures are drawn by a script in this file. Without it, the captions and the linked tables say the same.</p></noscript>\n");
    if figures.is_empty() {
        out.push_str("<p>There are no runs, so there is nothing to draw.</p>\n");
    }
    for figure in figures {
        let id = figure.id;
        // "F3", "A1": the paper's, as paper.md numbers them.
        let numbered = id.strip_prefix(['F', 'A']).is_some_and(|rest| rest.parse::<u8>().is_ok());
        let number = if numbered { format!(" <span class=\"soft\">(figure {id})</span>") } else { String::new() };
        let one = if figure.panels.len() == 1 { " one" } else { "" };
        let _ = write!(
            out,
            "<figure id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h3 id=\"{id}-title\">{}{number}</h3>\n<div class=\"panels{one}\">\n",
            figure.title
        );
        for (k, panel) in figure.panels.iter().enumerate() {
            let summary = html(&panel.summary);
            out.push_str("<div class=\"panel\">");
            if figure.panels.len() > 1 {
                let _ = write!(out, "<h4>{}</h4>", html(&panel.title));
            }
            if panel.lines.is_empty() {
                let _ = writeln!(out, "<div class=\"plot\"><p class=\"empty\">{summary}</p></div></div>");
            } else {
                let _ = writeln!(
                    out,
                    "<div class=\"plot\" id=\"{id}-{k}\" role=\"img\" aria-label=\"{}: {summary}\"></div></div>",
                    html(&panel.title)
                );
            }
        }
        let links: Vec<String> =
            figure.files.iter().map(|(folder, table)| link(folder, table, &format!("{folder}/{table}"))).collect();
        let _ = write!(
            out,
            "</div>\n<figcaption><dl>\n<dt>Drawn</dt><dd>{}</dd>\n<dt>In the paper</dt><dd>{}</dd>\n<dt>Here</dt><dd>{}</dd>\n<dt>Data</dt><dd>{}</dd>\n</dl></figcaption>\n</figure>\n",
            unbroken(&html(&figure.drawn)),
            html(figure.paper),
            unbroken(&html(&figure.here)),
            if links.is_empty() { "–".to_string() } else { links.join(", ") },
        );
    }
    out.push_str("</section>\n");
}

/// A link to one of a run's measurement tables.
fn link(folder: &str, table: &str, text: &str) -> String {
    format!("<a href=\"runs/{}/measurements/{table}\"><bdi>{}</bdi></a>", url_segment(folder), html(&visible(text)))
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

fn runs_section(out: &mut String, runs: &[Run], casts: &[Cast<'_>]) {
    out.push_str("<section aria-labelledby=\"runs\">\n<h2 id=\"runs\">Runs and data</h2>\n");
    for run in runs {
        let part = casts.iter().enumerate().find_map(|(k, cast)| {
            let is_it = |player: &&Player<'_>| std::ptr::eq(player.run, run);
            if let Some(player) = cast.everybody().find(is_it) {
                let role = if k == 0 { "decides the verdicts" } else { "further seed" };
                return Some(format!("{}; {role}", player.part.label()));
            }
            let player = cast.elsewhere.iter().flat_map(Cast::everybody).find(is_it)?;
            Some(format!("{}; other text", player.part.label()))
        });
        let part = part.unwrap_or_else(|| "not part of any claim: a duplicate".to_string());
        let tables = ["loss_by_index.jsonl", "icl.jsonl", "heads.jsonl", "meta.json"]
            .map(|table| link(&run.folder, table, table));
        let segment = url_segment(&run.folder);
        let meta = serde_json::to_string_pretty(&run.meta).expect("it was read from JSON");
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
            planned = tokens(run.spec.tokens as f64),
            tables = tables.join(", "),
            spec = html(&visible_lines(&run.spec_text)),
            meta = html(&visible_lines(&meta)),
        );
    }
    out.push_str("</section>\n");
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_names_our_scripts() {
        for (script, hash) in [(PLOTLY, PLOTLY_HASH), (SCRIPT, SCRIPT_HASH)] {
            assert_eq!(format!("sha256-{}", STANDARD.encode(Sha256::digest(script))), hash);
        }
    }

    #[test]
    fn our_scripts_do_not_end_their_element() {
        for script in [PLOTLY, SCRIPT] {
            let script = script.to_lowercase();
            assert!(!script.contains("</script") && !script.contains("<!--") && !script.contains('\r'));
        }
    }
}
