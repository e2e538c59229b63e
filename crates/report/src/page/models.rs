//! The page about trained models alone.

use std::fmt::Write as _;

use super::{
    MODELS_LATE, NO_SCRIPT, REAL_MODELS, argument_section, begin, claims_section, end, html,
};
use crate::Claim;
use crate::figures::Figure;

/// The verdicts about trained models, and the section with their figures; nothing lies beside the
/// page.
pub(crate) fn scanned(names: &[&str], claims: &[Claim], figures: &[Figure]) -> String {
    let mut out = begin("Induction heads of trained models");
    let names: Vec<String> =
        names.iter().map(|name| format!("<bdi>{}</bdi>", html(name))).collect();
    let _ = write!(
        out,
        "<header>\n<h1>Induction heads of trained models</h1>\n<p>{}.{MODELS_LATE}</p>\n<nav aria-label=\"Contents\"><ul><li><a href=\"#claims\">Claims</a></li><li><a href=\"#real-models\">Real models</a></li></ul></nav>\n</header>\n<main>\n",
        names.join(", ")
    );
    claims_section(&mut out, claims, figures, None);
    out.push_str(NO_SCRIPT);
    argument_section(&mut out, &REAL_MODELS, claims, figures, false);
    out.push_str("</main>\n");
    let figures: Vec<&Figure> = figures.iter().collect();
    end(
        out,
        &figures,
        &[],
        &[],
        "Made from scans of the models; the same scans give the same page, byte for byte.",
    )
}
