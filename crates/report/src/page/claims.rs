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
            (claims_table(claims, ["Paper", "Ours"], |claim| reasons(claim, &there, made)))
        } "\n"
    }
}

/// A table of claims: what was said of each is under the first of `heads`, what was found under the
/// second. Below each claim stands what `more` makes of it, folded.
pub(super) fn claims_table(
    claims: &[Claim],
    heads: [&str; 2],
    more: impl Fn(&Claim) -> Markup,
) -> Markup {
    html! {
        table.claims.cards { "\n"
            thead { tr {
                th scope="col" class="what" { "Claim" }
                th scope="col" class="paper" { (heads[0]) }
                th scope="col" class="ours" { (heads[1]) }
                th scope="col" class="interval" { "95 % interval" }
                th scope="col" class="verdict" { "Verdict" }
            } } "\n"
            tbody { "\n"
                @for claim in claims {
                    (row(claim, heads))
                    tr.more { td colspan="5" { details { (more(claim)) } } } "\n"
                }
            } "\n"
        } "\n"
    }
}

fn row(claim: &Claim, heads: [&str; 2]) -> Markup {
    html! {
        tr id={ "claim-" (visible(&claim.id)) } {
            th scope="row" { span.id { (visible(&claim.id)) } (visible(&claim.title)) } "\n"
            td data-label=(heads[0]) { span { (visible(&claim.paper)) } }
            td data-label=(heads[1]) { span { (or_dash(&claim.ours)) } }
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
    }
}

fn reasons(claim: &Claim, there: &BTreeSet<&str>, made: Option<&Markup>) -> Markup {
    let rule = RULES.iter().find(|rule| rule.id == claim.id).map_or("", |rule| rule.rule);
    let why = match claim.decide {
        Some(decide) => format!("{} What would decide it: {decide}", claim.why),
        None => claim.why.clone(),
    };
    html! {
        summary { "Why; our rule; data and command" }
        p { (or_dash(&why)) }
        p { "Rule: " (rule) }
        p {
            (seen_in(&claim.id, there, made.is_some()))
            @if let Some(made) = made { (made) }
        }
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
