//! The claims and the models as Markdown, for a repository or a message: `claims.md`.

use std::fmt::Write as _;

use crate::cast::Cast;
use crate::series::models;
use crate::text::{number, tokens, visible};
use crate::{Claim, Verdict};

/// The table of claims, what is open with its reason and the experiment that would decide it, and the models.
pub(crate) fn markdown(casts: &[Cast<'_>], claims: &[Claim]) -> String {
    let mut out =
        String::from("## Claims\n\n| | claim | paper | ours | 95 % interval | verdict |\n|---|---|---|---|---|---|\n");
    // Writing into a String cannot fail, which is why the results below are dropped.
    for Claim { id, title, paper, ours, interval, verdict, .. } in claims {
        let interval = interval.as_deref().unwrap_or_default();
        let cells = [title, paper, ours.as_str(), interval].map(cell).join(" | ");
        let _ = writeln!(out, "| {id} | {cells} | {} |", verdict.word());
    }
    let tally: Vec<String> = [Verdict::Reproduced, Verdict::Partly, Verdict::Not, Verdict::OutOfReach]
        .into_iter()
        .map(|verdict| (verdict, claims.iter().filter(|claim| claim.verdict == verdict).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| format!("{count} {}", verdict.word()))
        .collect();
    let _ = writeln!(out, "\n{}.\n\n## What is open\n", tally.join(", "));
    for claim in claims {
        let Some(decide) = claim.decide else { continue };
        let state = match claim.verdict {
            Verdict::Reproduced => "reproduced, inside the noise",
            verdict => verdict.phrase(),
        };
        let (why, title) = (cell(&claim.why), cell(claim.title));
        let _ = writeln!(out, "- **{}, {title}**: {state}. {why} *What would decide it:* {decide}", claim.id);
    }
    out += "\n## Models\n\n| model | text, seed | tokens | ICL score at the end | window | best head, prefix matching | half-way | the change |\n|---|---|---|---|---|---|---|---|\n";
    for row in models(casts) {
        let span = |[start, end]: [u64; 2]| format!("{} to {}", tokens(start as f64), tokens(end as f64));
        let _ = writeln!(
            out,
            "| {} | {}, {} | {} | {} ± {} | {} | {}, {} | {} | {} |",
            cell(&row.model),
            cell(&row.text),
            row.seed,
            tokens(row.tokens as f64),
            number(row.icl_score),
            number(1.96 * row.icl_stderr),
            row.window.map_or("none".to_string(), span),
            row.best_head,
            number(row.prefix_matching),
            row.half_time.map_or("–".to_string(), tokens),
            row.change.words()
        );
    }
    out
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    visible(text).replace('|', "\\|").replace('\n', " ")
}
