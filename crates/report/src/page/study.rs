//! The page of a study.

use maud::{Markup, html};

use super::claims::claims_table;
use super::document::{Drawn, document};
use super::figures::{figure_element, table};
use super::{link_to, no_script, unbroken};
use crate::figures::Figure;
use crate::study::{Absent, Studied, about, numbers};
use crate::text::{url_segment, visible};
use crate::{Claim, Run};

const MADE: &str = "Made from the measurement tables beside this page; the same tables give the \
    same page, byte for byte.";

/// Claims on top, then the figures, every measure of every variant, and the runs.
pub(crate) fn study(
    studied: &Studied<'_>,
    claims: &[Claim],
    figures: &[Figure],
    runs: &[Run],
) -> String {
    let title = visible(&studied.study.title);
    let [head, rows] = numbers(studied);
    let body = html! {
        header { "\n"
            h1 { (title) } "\n"
            p { (about(studied.study)) } "\n"
            nav aria-label="Contents" { ul {
                (link_to("claims", "Claims"))
                @if !figures.is_empty() { (link_to("curves", "Figures")) }
                (link_to("variants", "Variants"))
                (link_to("runs", "Runs"))
            } } "\n"
        } "\n"
        main { "\n"
            (claims_section(claims))
            (no_script())
            @if !figures.is_empty() {
                // "figures" is where their data are.
                section aria-labelledby="curves" { "\n"
                    h2 id="curves" { "Figures" } "\n"
                    @for figure in figures { (figure_element(figure, true)) }
                } "\n"
            }
            section aria-labelledby="variants" { "\n"
                h2 id="variants" { "Variants" } "\n"
                p.soft { "At the end of training; means over seeds, with 95 % intervals over seeds." } "\n"
                @for head in &head { (table(head, &rows)) }
            } "\n"
            section aria-labelledby="runs" { "\n"
                h2 id="runs" { "Runs" } "\n"
                p { "Each run's folder holds its spec and its tables; "
                    a href="study.toml" { "study.toml" } " is what they were made of." } "\n"
                ul { @for run in runs {
                    li { a href={ "runs/" (url_segment(&run.folder)) "/spec.toml" } { (run.label()) } }
                } } "\n"
                @if !studied.absent.is_empty() {
                    p { "Planned, and with no part in this:" } "\n"
                    ul { @for Absent { name, why } in &studied.absent { li { (visible(name)) " " (why) } } } "\n"
                }
            } "\n"
        } "\n"
    };
    let drawn =
        Drawn { figures: figures.iter().collect(), analysis: &[], explorer: &[], scanned: &[] };
    document(&title, &body, MADE, &drawn)
}

fn claims_section(claims: &[Claim]) -> Markup {
    html! {
        section aria-labelledby="claims" { "\n"
            h2 id="claims" { "Claims" } "\n"
            @if claims.is_empty() { p { "The study claims nothing." } }
            @else {
                p.soft { "Verdicts are those of the mean over seeds, by rules that the study names; \
                    intervals are 95 %, over seeds, by Student's t." } "\n"
                (claims_table(claims, ["Expected", "Found"], |claim| html! {
                    summary { "Why; the rule" }
                    p { (unbroken(&visible(&claim.why))) }
                }))
            }
        } "\n"
    }
}
