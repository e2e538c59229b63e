//! The table of claims with their verdicts.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::figures::seen_in;
use super::unbroken;
use crate::claims::DECIDED_FROM;
use crate::figures::Figure;
use crate::text::{percent, visible};
use crate::{Claim, RULES, Verdict};

/// `made`: what made the data beside the page, where there are any.
pub(super) fn claims_section(
    claims: &[Claim],
    figures: &[Figure],
    made: Option<&Markup>,
) -> Markup {
    let there: BTreeSet<&str> = figures.iter().map(|figure| figure.id).collect();
    html! {
        section aria-labelledby="claims" { "\n"
            h2 id="claims" { "Claims" } "\n"
            p.soft {
                "Intervals are 95 %, over evaluation examples, and over seeds where there are \
                several; of one seed they tell how well the model was measured, not how far \
                another would differ. "
                (crate::markdown::tally(claims))
            } "\n"
            table.claims.cards { "\n"
                thead { tr {
                    th scope="col" class="what" { "Claim" }
                    th scope="col" class="paper" { "Paper" }
                    th scope="col" class="ours" { "Ours" }
                    th scope="col" class="interval" { "95 % interval" }
                    th scope="col" class="verdict" { "Verdict" }
                } } "\n"
                tbody { "\n"
                    @for claim in claims { (rows(claim, &there, made)) }
                } "\n"
            } "\n"
        } "\n"
    }
}

/// A claim's row, and the one below it with the reasons.
fn rows(claim: &Claim, there: &BTreeSet<&str>, made: Option<&Markup>) -> Markup {
    let rule = RULES.iter().find(|rule| rule.id == claim.id).map_or("", |rule| rule.rule);
    let why = match claim.decide {
        Some(decide) => format!("{} What would decide it: {decide}", claim.why),
        None => claim.why.clone(),
    };
    html! {
        tr id={ "claim-" (claim.id) } {
            th scope="row" { span.id { (claim.id) } (claim.title) } "\n"
            td data-label="Paper" { span { (claim.paper) } }
            td data-label="Ours" { span { (or_dash(&claim.ours)) } }
            td data-label="Interval" {
                span { (or_dash(claim.interval.as_deref().unwrap_or_default())) }
            }
            td data-label="Verdict" {
                (mark(claim.verdict))
                @if let Some(share) = claim.probability {
                    small.soft {
                        @if share < DECIDED_FROM { " inside the noise: " } @else { " " }
                        (percent(share)) " of draws"
                    }
                }
            }
        } "\n"
        tr.more {
            td colspan="5" {
                details {
                    summary { "Why; our rule; data and command" }
                    p { (or_dash(&why)) }
                    p { "Rule: " (rule) }
                    p {
                        (seen_in(claim.id, there, made.is_some()))
                        @if let Some(made) = made { (made) }
                    }
                }
            }
        } "\n"
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "–".to_string() } else { unbroken(&visible(text)) }
}

/// Shape, colour and word.
pub(super) fn mark(verdict: Verdict) -> Markup {
    let word = verdict.word();
    html! {
        span.mark.(word) {
            span aria-hidden="true" { (verdict.symbol()) } " " (word.replace('-', " "))
        }
    }
}
