//! The page that shows several reproductions side by side.

use maud::{Markup, html};

use super::arguments::figures_of;
use super::claims::mark;
use super::document::{Drawn, document};
use super::explore::analysis_section;
use super::runs::{models_section, models_table};
use super::{MADE, TITLE, has_models, link_to, links_to_arguments, listed, no_script, unbroken};
use crate::analysis::Series;
use crate::arguments::{ARGUMENTS, REAL_MODELS};
use crate::compare::{Side, differ};
use crate::figures::Figure;
use crate::text::visible;

/// Claims by claim and figure by figure; `figures` are those of all sides.
pub(crate) fn compared(sides: &[Side<'_>], figures: &[Figure], analysis: &[Series]) -> String {
    let real = has_models(figures).then_some(&REAL_MODELS);
    let names = sides.iter().map(|side| html! { bdi { (side.name) } });
    let models = html! {
        @for side in sides {
            h3 { bdi { (side.name) } } "\n"
            (models_table(&side.experiments))
        }
    };
    let body = html! {
        header { "\n"
            h1 { "Reproductions side by side" } "\n"
            p {
                (listed(names))
                ". The same rules are applied to each; each has a report of its own, with its \
                heads to explore, its settings and its data."
            } "\n"
            nav aria-label="Contents" { ul {
                (link_to("claims", "Claims"))
                (link_to("models", "Models"))
                (links_to_arguments(real.is_some()))
                (link_to("analysis-title", "All models"))
            } } "\n"
        } "\n"
        main { "\n"
            (claims(sides))
            (models_section(&models))
            (no_script())
            @for argument in ARGUMENTS.iter().chain(real) {
                section aria-labelledby=(argument.id) { "\n"
                    h2 id=(argument.id) { (argument.title) } "\n"
                    p { (argument.claim) } "\n"
                    (figures_of(argument, figures, true))
                } "\n"
            }
            (analysis_section(analysis))
        } "\n"
    };
    let drawn = Drawn { figures: figures.iter().collect(), analysis, explorer: &[], scanned: &[] };
    document(TITLE, &body, MADE, &drawn)
}

fn claims(sides: &[Side<'_>]) -> Markup {
    let all = sides.first().map_or(&[][..], |first| &first.claims);
    html! {
        section aria-labelledby="claims" { "\n"
            h2 id="claims" { "Claims" } "\n"
            p.soft {
                "Ours with its 95 % interval, and the verdict. Where verdicts differ, the claim \
                has a bar."
            } "\n"
            div.wide { table.cards.plain.compared { "\n"
                thead { tr {
                    th scope="col" { "Claim" }
                    th scope="col" { "Paper" }
                    @for side in sides { th scope="col" { bdi { (side.name) } } }
                } } "\n"
                tbody { "\n"
                    @for (k, claim) in all.iter().enumerate() {
                        @let class = differ(sides, k).then_some("differs");
                        tr id={ "claim-" (claim.id) } class=[class] {
                            th scope="row" { span.id { (claim.id) } " " (claim.title) }
                            td data-label="Paper" { span { (claim.paper) } }
                            @for side in sides { (cell(side, k)) }
                        } "\n"
                    }
                } "\n"
            } } "\n"
        } "\n"
    }
}

/// What one side found for a claim.
fn cell(side: &Side<'_>, claim: usize) -> Markup {
    let claim = &side.claims[claim];
    let ours = if claim.ours.is_empty() { "–" } else { &claim.ours };
    html! {
        td data-label=(side.name) {
            span {
                (mark(claim.verdict)) " " (unbroken(&visible(ours)))
                @if let Some(interval) = &claim.interval {
                    small { (unbroken(&visible(interval))) }
                }
            }
        }
    }
}
