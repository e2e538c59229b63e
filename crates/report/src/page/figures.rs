//! A figure on the page: its panels, text or table, and its caption.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{listed, unbroken};
use crate::RULES;
use crate::figures::{ColouredText, Figure, Panel, SCAN};
use crate::text::{number, url_segment, visible};

/// Where a claim is seen, and its data where they lie beside the page.
pub(super) fn seen_in(claim: &str, there: &BTreeSet<&str>, linked: bool) -> Markup {
    let rule = RULES.iter().find(|rule| rule.id == claim);
    let figures = rule.map_or(&[][..], |rule| rule.figures);
    let mut seen = figures.iter().filter(|id| there.contains(*id)).peekable();
    if seen.peek().is_none() {
        return html! { "No figure: a run is missing." };
    }
    let links = seen.map(|id| {
        html! {
            a href={ "#" (id) } { (figure_name(id)) }
            @if linked { " (" a href={ "figures/" (id) ".csv" } { "data" } ")" }
        }
    });
    html! { "Seen in " (listed(links)) "." }
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
pub(super) fn figure_element(figure: &Figure, linked: bool) -> Markup {
    let id = figure.id;
    let name = figure_name(id);
    html! {
        figure id=(id) aria-labelledby={ (id) "-title" } { "\n"
            h3 id={ (id) "-title" } {
                (figure.title)
                @if !name.starts_with('\u{201c}') { " " span.soft { "(" (name) ")" } }
            } "\n"
            @if let Some(text) = &figure.text { (coloured(text)) }
            @if let Some((head, rows)) = figure.table.split_first() { (table(head, rows)) }
            @if !figure.panels.is_empty() { (panels(figure)) }
            figcaption { dl { "\n"
                dt { "Drawn" } dd { (unbroken(&figure.drawn)) } "\n"
                @if !figure.paper.is_empty() { dt { "In the paper" } dd { (figure.paper) } "\n" }
                dt { "Here" } dd { (unbroken(&figure.here)) } "\n"
                @if linked { dt { "Files" } dd { (files(figure)) } "\n" }
            } } "\n"
        } "\n"
    }
}

fn panels(figure: &Figure) -> Markup {
    let several = figure.panels.len() > 1;
    html! {
        div.panels.one[!several] { "\n"
            @for (k, panel) in figure.panels.iter().enumerate() {
                div.panel {
                    @if several { h4 { (panel.title) } }
                    (plot(figure.id, k, panel))
                } "\n"
            }
        } "\n"
    }
}

/// Where the script draws a panel; one without numbers says why.
fn plot(figure: &str, k: usize, panel: &Panel) -> Markup {
    let square = panel.heat.as_ref().is_some_and(|heat| !heat.labels.is_empty());
    html! {
        @if panel.lines.is_empty() && panel.heat.is_none() {
            div.blank { p.empty { (panel.summary) } }
        } @else {
            div.plot.square[square] #{ (figure) "-" (k) } role="img"
                aria-label={ (panel.title) ": " (panel.summary) } {}
        }
    }
}

fn files(figure: &Figure) -> Markup {
    let file = |kind: &str| {
        let name = format!("{}.{kind}", figure.id);
        html! { a href={ "figures/" (name) } { (name) } }
    };
    let tables = figure
        .files
        .iter()
        .map(|(folder, table)| link(folder, table, &format!("{folder}/{table}")));
    html! {
        (file("svg")) ", " (file("csv"))
        @if !figure.files.is_empty() {
            "; " details.inline { summary { "the tables behind them" } (listed(tables)) }
        }
    }
}

/// Text with a background a token: blue below 0, red above.
fn coloured(text: &ColouredText) -> Markup {
    html! {
        div.tokens.still {
            @for (token, value) in text.tokens.iter().zip(&text.values) {
                @let part = (value.abs() / text.limit).min(1.0) * 75.0;
                @let colour = if *value < 0.0 { "better" } else { "worse" };
                span.token
                    style={
                        "background:color-mix(in srgb,var(--" (colour) ") "
                        (format_args!("{part:.0}")) "%,transparent)"
                    }
                    title={ (number(*value)) " " (text.unit) }
                    { (token.replace('\n', "\u{21b5}\n").replace('\t', "\u{21e5}\t")) }
            }
        } "\n"
    }
}

pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> Markup {
    html! {
        div.wide { table.cards.plain {
            thead { tr { @for cell in head { th scope="col" { (cell) } } } }
            tbody { "\n"
                @for row in rows {
                    tr {
                        @for (k, (cell, label)) in row.iter().zip(head).enumerate() {
                            @let cell = unbroken(&visible(cell));
                            @if k == 0 {
                                th scope="row" { (cell) }
                            } @else {
                                td data-label=(label) { span { (cell) } }
                            }
                        }
                    } "\n"
                }
            }
        } } "\n"
    }
}

/// A link to one of a run's measurement tables, or to a scan.
pub(super) fn link(folder: &str, table: &str, text: &str) -> Markup {
    let place = match table {
        SCAN => format!(
            "models/{}/{SCAN}",
            folder.split('/').map(url_segment).collect::<Vec<_>>().join("/")
        ),
        _ => format!("runs/{}/measurements/{table}", url_segment(folder)),
    };
    html! { a href=(place) { bdi { (visible(text)) } } }
}
