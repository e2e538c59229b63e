//! An argument's section: its claim, how it is tested, what was found, and its figures.

use maud::{Markup, html};

use super::claims::mark;
use super::figures::figure_element;
use super::unbroken;
use crate::Claim;
use crate::arguments::Argument;
use crate::figures::Figure;
use crate::text::visible;

/// `linked`: the figures' files lie beside the page.
pub(super) fn argument_section(
    argument: &Argument,
    claims: &[Claim],
    figures: &[Figure],
    linked: bool,
) -> Markup {
    html! {
        section aria-labelledby=(argument.id) { "\n"
            h2 id=(argument.id) { (argument.title) } "\n"
            dl.argument { "\n"
                dt { "Claim" } dd { (argument.claim) } "\n"
                dt { "Experiment" } dd { (argument.experiment) } "\n"
                dt { "Found" }
                dd { "\n"
                    ul { "\n"
                        @for claim in claims.iter().filter(|claim| argument.rests_on(&claim.id)) {
                            (found(claim)) "\n"
                        }
                    }
                } "\n"
                dt { "Not shown" } dd { (argument.not_shown) } "\n"
            } "\n"
            (figures_of(argument, figures, linked))
        } "\n"
    }
}

fn found(claim: &Claim) -> Markup {
    let ours = if claim.ours.is_empty() { "nothing measured" } else { &claim.ours };
    let interval =
        claim.interval.as_ref().map_or(String::new(), |interval| format!(" (95 %: {interval})"));
    html! {
        li {
            a href={ "#claim-" (claim.id) } { (claim.id) } " " (claim.title) ": "
            (unbroken(&visible(&format!("{ours}{interval}")))) " " (mark(claim.verdict))
        }
    }
}

/// An argument's figures, as far as they are there.
pub(super) fn figures_of(argument: &Argument, figures: &[Figure], linked: bool) -> Markup {
    let there = |id: &&str| figures.iter().find(|figure| figure.id == *id);
    html! {
        @for figure in argument.figures.iter().filter_map(there) {
            (figure_element(figure, linked))
        }
    }
}
