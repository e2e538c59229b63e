//! A figure on the page: its panels, text or table, and its caption.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::unbroken;
use crate::RULES;
use crate::figures::{ColouredText, Figure, SCAN};
use crate::text::{html, number, url_segment, visible};

/// Where a claim is seen, and its data where they lie beside the page.
pub(super) fn seen_in(claim: &str, there: &BTreeSet<&str>, linked: bool) -> String {
    let data = |id: &str| {
        if linked { format!(" (<a href=\"figures/{id}.csv\">data</a>)") } else { String::new() }
    };
    let rule = RULES.iter().find(|rule| rule.id == claim);
    let links: Vec<String> = rule
        .map_or(&[][..], |rule| rule.figures)
        .iter()
        .filter(|id| there.contains(*id))
        .map(|id| format!("<a href=\"#{id}\">{}</a>{}", figure_name(id), data(id)))
        .collect();
    if links.is_empty() {
        "No figure: a run is missing.".to_string()
    } else {
        format!("Seen in {}.", links.join(", "))
    }
}

/// "figure F3"; "before-after" has no number in the paper.
fn figure_name(id: &str) -> String {
    let own = id.strip_prefix("R-").unwrap_or(id);
    let numbered =
        own.strip_prefix(['F', 'A', 'C', 'T']).is_some_and(|rest| rest.parse::<u8>().is_ok());
    let word = if own.starts_with('T') { "table" } else { "figure" };
    if numbered {
        format!("{word} {id}")
    } else {
        format!("\u{201c}{}\u{201d}", own.replace('-', " "))
    }
}

/// `linked`: its files lie beside the page.
pub(super) fn figure_element(out: &mut String, figure: &Figure, linked: bool) {
    let id = figure.id;
    let name = figure_name(id);
    let number = if name.starts_with('\u{201c}') {
        String::new()
    } else {
        format!(" <span class=\"soft\">({name})</span>")
    };
    let one = if figure.panels.len() == 1 { " one" } else { "" };
    let _ = write!(
        out,
        "<figure id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h3 id=\"{id}-title\">{}{number}</h3>\n",
        html(figure.title)
    );
    if let Some(text) = &figure.text {
        coloured(out, text);
    }
    if !figure.table.is_empty() {
        table_element(out, &figure.table);
    }
    if !figure.panels.is_empty() {
        let _ = writeln!(out, "<div class=\"panels{one}\">");
    }
    for (k, panel) in figure.panels.iter().enumerate() {
        let summary = html(&panel.summary);
        out.push_str("<div class=\"panel\">");
        if figure.panels.len() > 1 {
            let _ = write!(out, "<h4>{}</h4>", html(&panel.title));
        }
        if panel.lines.is_empty() && panel.heat.is_none() {
            let _ =
                writeln!(out, "<div class=\"blank\"><p class=\"empty\">{summary}</p></div></div>");
        } else {
            let square = if panel.heat.as_ref().is_some_and(|heat| !heat.labels.is_empty()) {
                " square"
            } else {
                ""
            };
            let _ = writeln!(
                out,
                "<div class=\"plot{square}\" id=\"{id}-{k}\" role=\"img\" aria-label=\"{}: {summary}\"></div></div>",
                html(&panel.title)
            );
        }
    }
    if !figure.panels.is_empty() {
        out.push_str("</div>\n");
    }
    let tables: Vec<String> = figure
        .files
        .iter()
        .map(|(folder, table)| link(folder, table, &format!("{folder}/{table}")))
        .collect();
    let _ = write!(
        out,
        "<figcaption><dl>\n<dt>Drawn</dt><dd>{}</dd>\n<dt>In the paper</dt><dd>{}</dd>\n<dt>Here</dt><dd>{}</dd>\n",
        unbroken(&html(&figure.drawn)),
        html(figure.paper),
        unbroken(&html(&figure.here)),
    );
    if !linked {
        out.push_str("</dl></figcaption>\n</figure>\n");
        return;
    }
    let _ = write!(
        out,
        "<dt>Files</dt><dd><a href=\"figures/{id}.svg\">{id}.svg</a>, <a href=\"figures/{id}.csv\">{id}.csv</a>{}</dd>\n</dl></figcaption>\n</figure>\n",
        if tables.is_empty() {
            String::new()
        } else {
            format!(
                "; <details class=\"inline\"><summary>the tables behind them</summary>{}</details>",
                tables.join(", ")
            )
        },
    );
}

/// Text with a background a token: blue below 0, red above.
fn coloured(out: &mut String, text: &ColouredText) {
    out.push_str("<div class=\"tokens still\">");
    for (token, value) in text.tokens.iter().zip(&text.values) {
        let part = (value.abs() / text.limit).min(1.0) * 75.0;
        let colour = if *value < 0.0 { "better" } else { "worse" };
        let shown = token.replace('\n', "\u{21b5}\n").replace('\t', "\u{21e5}\t");
        let _ = write!(
            out,
            "<span class=\"token\" style=\"background:color-mix(in srgb,var(--{colour}) {part:.0}%,transparent)\" title=\"{} {}\">{}</span>",
            number(*value),
            text.unit,
            html(&shown)
        );
    }
    out.push_str("</div>\n");
}

fn table_element(out: &mut String, rows: &[Vec<String>]) {
    let Some((head, rows)) = rows.split_first() else { return };
    out.push_str("<div class=\"wide\"><table class=\"cards plain\"><thead><tr>");
    head.iter().for_each(|cell| {
        let _ = write!(out, "<th scope=\"col\">{}</th>", html(cell));
    });
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (k, (cell, label)) in row.iter().zip(head).enumerate() {
            let cell = unbroken(&html(&visible(cell)));
            let _ = match k {
                0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                _ => write!(out, "<td data-label=\"{}\"><span>{cell}</span></td>", html(label)),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// A link to one of a run's measurement tables, or to a scan.
pub(super) fn link(folder: &str, table: &str, text: &str) -> String {
    let place = match table {
        SCAN => format!(
            "models/{}/{SCAN}",
            folder.split('/').map(url_segment).collect::<Vec<_>>().join("/")
        ),
        _ => format!("runs/{}/measurements/{table}", url_segment(folder)),
    };
    format!("<a href=\"{place}\"><bdi>{}</bdi></a>", html(&visible(text)))
}
