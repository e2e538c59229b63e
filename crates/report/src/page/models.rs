//! The page about trained models alone.

use maud::html;

use super::arguments::argument_section;
use super::claims::claims_section;
use super::document::{Drawn, document};
use super::explore::scanned_section;
use super::{MODELS_LATE, link_to, listed, no_script};
use crate::Claim;
use crate::arguments::REAL_MODELS;
use crate::figures::Figure;
use crate::scanned::Scanned;

const TITLE: &str = "Induction heads of trained models";
const MADE: &str =
    "Made from scans of the models; the same scans give the same page, byte for byte.";

/// The verdicts about trained models, and the section with their figures; nothing lies beside the
/// page.
pub(crate) fn scanned(
    names: &[&str],
    claims: &[Claim],
    figures: &[Figure],
    each: &[Scanned],
) -> String {
    let names = names.iter().map(|name| html! { bdi { (name) } });
    let body = html! {
        header { "\n"
            h1 { (TITLE) } "\n"
            p { (listed(names)) "." (MODELS_LATE) } "\n"
            nav aria-label="Contents" { ul {
                (link_to("claims", "Claims"))
                @if !each.is_empty() { (link_to("scanned-title", "Heads")) }
                (link_to(REAL_MODELS.id, REAL_MODELS.title))
            } } "\n"
        } "\n"
        main { "\n"
            (claims_section(claims, figures, None))
            (no_script())
            (scanned_section(each))
            (argument_section(&REAL_MODELS, claims, figures, false))
        } "\n"
    };
    let drawn =
        Drawn { figures: figures.iter().collect(), analysis: &[], explorer: &[], scanned: each };
    document(TITLE, &body, MADE, &drawn)
}
