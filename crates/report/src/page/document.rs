//! The document around a page's content: policy, style, footer, the scripts and what they draw.
//!
//! `PreEscaped` is used here and nowhere else: for our style and our scripts, and for JSON in which
//! no `<` is left.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::analysis::{ROWS, Series};
use crate::explorer::Model;
use crate::figures::{Figure, Panel};
use crate::scanned::Scanned;
use crate::text::json_for_script;

const STYLE: &str = include_str!("../../assets/page.css");
const PLOTLY: &str = include_str!("../../assets/plotly-cartesian.min.js");
const PLOTLY_LICENSE: &str = include_str!("../../assets/plotly-LICENSE.txt");
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n",
    include_str!("../../assets/figures.js"),
    include_str!("../../assets/analysis.js"),
    include_str!("../../assets/tokens.js"),
    include_str!("../../assets/explorer.js"),
    include_str!("../../assets/scanned.js"),
    "})();\n"
);

/// What the scripts draw.
pub(super) struct Drawn<'a> {
    pub(super) figures: Vec<&'a Figure>,
    pub(super) analysis: &'a [Series],
    pub(super) explorer: &'a [Model],
    pub(super) scanned: &'a [Scanned],
}

/// The whole file; `made`: what it was made from.
pub(super) fn document(title: &str, body: &Markup, made: &str, drawn: &Drawn<'_>) -> String {
    let [plotly, script] = [PLOTLY, SCRIPT].map(|script| STANDARD.encode(Sha256::digest(script)));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{plotly}' 'sha256-{script}'; \
        style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    );
    let page = html! {
        (DOCTYPE) "\n"
        html lang="en" { "\n"
            head { "\n"
                meta charset="utf-8"; "\n"
                meta http-equiv="Content-Security-Policy" content=(policy); "\n"
                meta name="viewport" content="width=device-width, initial-scale=1"; "\n"
                meta name="color-scheme" content="light dark"; "\n"
                meta name="referrer" content="no-referrer"; "\n"
                title { (title) } "\n"
                link rel="icon" href="data:,"; "\n"
                style { "\n" (PreEscaped(STYLE)) } "\n"
            } "\n"
            body { "\n"
                a.skip href="#claims" { "Skip to the claims" } "\n"
                (body)
                footer { "\n"
                    p { (made) " It loads nothing from a network." } "\n"
                    details {
                        summary { "Plotly.js, which draws the figures: licence" }
                        pre { (PLOTLY_LICENSE) }
                    } "\n"
                } "\n"
                (data(drawn))
                // Text of a script ends at the first end tag, of which the test below finds none.
                script { (PreEscaped(PLOTLY)) } "\n"
                script { (PreEscaped(SCRIPT)) } "\n"
            } "\n"
        } "\n"
    };
    page.into_string()
}

/// What the figures, the table of all models and the explorer work on.
fn data(drawn: &Drawn<'_>) -> Markup {
    #[derive(serde::Serialize)]
    struct Shown<'a> {
        label: &'a str,
        panels: &'a [Panel],
        said: Vec<String>,
    }
    #[derive(serde::Serialize)]
    struct Group<'a> {
        title: &'a str,
        models: Vec<Shown<'a>>,
    }
    let groups = drawn.analysis.iter().map(|series| Group {
        title: &series.title,
        models: series
            .models
            .iter()
            .map(|model| Shown {
                label: &model.label,
                panels: &model.panels,
                said: (0..ROWS.len()).map(|row| model.said(row)).collect(),
            })
            .collect(),
    });
    let groups: Vec<Group<'_>> = groups.collect();
    html! {
        (json_script("figures", &drawn.figures))
        @if !groups.is_empty() {
            (json_script("analysis", &serde_json::json!({ "rows": ROWS, "series": groups })))
        }
        @if !drawn.explorer.is_empty() {
            (json_script("explorer-data", &drawn.explorer))
            @for (k, model) in drawn.explorer.iter().enumerate() {
                // Base64, which escaping leaves as it is.
                script type="text/plain" id={ "packed-" (k) } { (model.packed) } "\n"
            }
        }
        @if !drawn.scanned.is_empty() {
            (json_script("scanned-data", &drawn.scanned))
            @for (k, model) in drawn.scanned.iter().enumerate() {
                @for (text, packed) in model.packed().enumerate() {
                    script type="text/plain" id={ "scanned-" (k) "-" (text) } { (packed) } "\n"
                }
            }
        }
    }
}

/// A value that the scripts read, by the id of its element.
fn json_script(id: &str, value: &impl serde::Serialize) -> Markup {
    let json = serde_json::to_string(value).expect("texts and finite numbers");
    html! {
        script type="application/json" id=(id) { (PreEscaped(json_for_script(&json))) } "\n"
    }
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
