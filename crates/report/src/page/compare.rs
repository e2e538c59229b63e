//! The page that shows several reproductions side by side.

use std::fmt::Write as _;

use super::{
    ARGUMENTS, MADE, MODELS, MODELS_LINK, NO_SCRIPT, REAL_MODELS, TITLE, analysis_section, begin,
    end, figure_element, has_models, html, mark, models_table, unbroken, visible,
};
use crate::analysis::Series;
use crate::compare::{Side, differ};
use crate::figures::Figure;

/// Claims by claim and figure by figure; `figures` are those of all sides.
pub(crate) fn compared(sides: &[Side<'_>], figures: &[Figure], analysis: &[Series]) -> String {
    let mut out = begin(TITLE);
    let real = has_models(figures).then_some(&REAL_MODELS);
    let names: Vec<String> =
        sides.iter().map(|side| format!("<bdi>{}</bdi>", html(&side.name))).collect();
    let _ = write!(
        out,
        "<header>\n<h1>Reproductions side by side</h1>\n<p>{}. The same rules are applied to each; each has a report of its own, with its heads to explore, its settings and its data.</p>\n<nav aria-label=\"Contents\"><ul><li><a href=\"#claims\">Claims</a></li><li><a href=\"#models\">Models</a></li>{}{}<li><a href=\"#analysis-title\">All models</a></li></ul></nav>\n</header>\n<main>\n",
        names.join(", "),
        (1..=ARGUMENTS.len())
            .map(|n| format!("<li><a href=\"#argument-{n}\">Argument {n}</a></li>"))
            .collect::<String>(),
        if real.is_some() { MODELS_LINK } else { "" },
    );
    claims(&mut out, sides, &names);
    let _ = writeln!(
        out,
        "<section aria-labelledby=\"models\">\n<h2 id=\"models\">Models</h2>\n{MODELS}"
    );
    for (side, name) in sides.iter().zip(&names) {
        let _ = writeln!(out, "<h3>{name}</h3>");
        models_table(&mut out, &side.experiments);
    }
    out.push_str("</section>\n");
    out.push_str(NO_SCRIPT);
    for argument in ARGUMENTS.iter().chain(real) {
        let id = argument.id;
        let _ = writeln!(
            out,
            "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{}</h2>\n<p>{}</p>",
            html(argument.title),
            html(argument.claim)
        );
        let of =
            argument.figures.iter().filter_map(|id| figures.iter().find(|figure| figure.id == *id));
        of.for_each(|figure| figure_element(&mut out, figure, true));
        out.push_str("</section>\n");
    }
    analysis_section(&mut out, analysis);
    out.push_str("</main>\n");
    let figures: Vec<&Figure> = figures.iter().collect();
    end(out, &figures, analysis, &[], MADE)
}

fn claims(out: &mut String, sides: &[Side<'_>], names: &[String]) {
    let head: String = names.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
    let _ = write!(
        out,
        "<section aria-labelledby=\"claims\">\n<h2 id=\"claims\">Claims</h2>\n<p class=\"soft\">Ours with its 95 % interval, and the verdict. Where verdicts differ, the claim has a bar.</p>\n<div class=\"wide\"><table class=\"cards plain compared\">\n<thead><tr><th scope=\"col\">Claim</th><th scope=\"col\">Paper</th>{head}</tr></thead>\n<tbody>\n"
    );
    let Some(first) = sides.first() else { return };
    for (k, claim) in first.claims.iter().enumerate() {
        let class = if differ(sides, k) { " class=\"differs\"" } else { "" };
        let _ = write!(
            out,
            "<tr id=\"claim-{id}\"{class}><th scope=\"row\"><span class=\"id\">{id}</span> {}</th><td data-label=\"Paper\"><span>{}</span></td>",
            html(claim.title),
            html(claim.paper),
            id = html(claim.id)
        );
        for (side, name) in sides.iter().zip(names) {
            let claim = &side.claims[k];
            let ours = if claim.ours.is_empty() { "–" } else { &claim.ours };
            let interval = claim.interval.as_ref().map_or(String::new(), |text| {
                format!("<small>{}</small>", unbroken(&html(&visible(text))))
            });
            let label = name.replace("<bdi>", "").replace("</bdi>", "");
            let _ = write!(
                out,
                "<td data-label=\"{label}\"><span>{} {}{interval}</span></td>",
                mark(claim.verdict),
                unbroken(&html(&visible(ours)))
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n</section>\n");
}
