//! The claims and the models as Markdown, for a repository or a message: `claims.md`.

use std::fmt::Write as _;

use crate::claims::DECIDED_FROM;
use crate::experiment::Experiment;
use crate::series::models;
use crate::text::{number, percent, tokens, visible};
use crate::{Claim, RULES, Verdict};

/// The table of claims, what is open with its reason and the experiment that would decide it, and
/// the models.
pub(crate) fn markdown(experiments: &[Experiment<'_>], claims: &[Claim], rules: &Rules) -> String {
    let mut out = String::from(
        "## Claims\n\n| | claim | paper | ours | 95 % interval | verdict | draws that agree |\n|---|---|---|---|---|---|---|\n",
    );
    // Writing into a String cannot fail, which is why the results below are dropped.
    for Claim { id, title, paper, ours, interval, verdict, probability, .. } in claims {
        let interval = interval.as_deref().unwrap_or_default();
        let cells = [&**title, &**paper, ours, interval].map(cell).join(" | ");
        let agree = probability.map_or(String::new(), percent);
        let _ = writeln!(out, "| {id} | {cells} | {} | {agree} |", verdict.word());
    }
    let _ = writeln!(out, "\n{} {}\n\n## What is open\n", tally(claims), rules.in_words());
    for claim in claims {
        let Some(decide) = claim.decide else { continue };
        let state = match claim.verdict {
            Verdict::Reproduced => "reproduced, inside the noise",
            verdict => verdict.phrase(),
        };
        let (why, title) = (cell(&claim.why), cell(&claim.title));
        let _ = writeln!(
            out,
            "- **{}, {title}**: {state}. {why} *What would decide it:* {decide}",
            claim.id
        );
    }
    out += "\n## Models\n\n| model | text, seed | tokens | same-token score at the end | window | best head, prefix matching | half-way | the change |\n|---|---|---|---|---|---|---|---|\n";
    for row in models(experiments) {
        let span =
            |[start, end]: [u64; 2]| format!("{} to {}", tokens(start as f64), tokens(end as f64));
        let _ = writeln!(
            out,
            "| {} | {}, {} | {} | {} ± {} | {} | {}, {} | {} | {} |",
            cell(&row.model),
            cell(&row.text),
            row.seed,
            tokens(row.tokens as f64),
            number(row.same_token_score),
            number(1.96 * row.same_token_stderr),
            row.window.map_or("none".to_string(), span),
            row.best_head,
            number(row.prefix_matching),
            row.half_time.map_or("–".to_string(), tokens),
            row.change.words()
        );
    }
    out
}

/// How many claims came out how, how many of these are decided, and what so many limits mean for
/// that.
pub(crate) fn tally(claims: &[Claim]) -> String {
    let each: Vec<String> =
        [Verdict::Reproduced, Verdict::Partly, Verdict::Not, Verdict::OutOfReach]
            .into_iter()
            .map(|verdict| {
                (verdict, claims.iter().filter(|claim| claim.verdict == verdict).count())
            })
            .filter(|(_, count)| *count > 0)
            .map(|(verdict, count)| format!("{count} {}", verdict.word()))
            .collect();
    let judged: Vec<f64> = claims.iter().filter_map(|claim| claim.probability).collect();
    let decided = judged.iter().filter(|&&share| share >= DECIDED_FROM).count();
    let limits: usize = RULES
        .iter()
        .filter(|rule| {
            claims.iter().any(|claim| claim.id == rule.id && claim.probability.is_some())
        })
        .map(|rule| rule.limits().len())
        .sum();
    if judged.is_empty() {
        return format!("{}.", each.join(", "));
    }
    // What each verdict has left of doubt, summed: the errors to expect if draws are what they
    // stand for.
    let doubt: f64 = judged.iter().map(|share| 1.0 - share).sum();
    format!(
        "{}. Of the {} that were judged from runs, {decided} are decided ({} of the draws agree) and {} are inside the noise. They rest on {limits} limits; by their own draws, expect {doubt:.1} of these verdicts to come out otherwise on other examples and seeds.",
        each.join(", "),
        judged.len(),
        percent(DECIDED_FROM),
        judged.len() - decided
    )
}

/// Which rules the runs were planned under, and which judged them.
pub(crate) struct Rules {
    /// From the manifest, if it says so.
    pub(crate) planned: Option<String>,
}

impl Rules {
    pub(crate) fn in_words(&self) -> String {
        let now = crate::revision();
        match &self.planned {
            Some(planned) if *planned == now => {
                format!("The rules are revision {now}, and were when these runs were planned.")
            }
            Some(planned) => format!(
                "The rules are revision {now}; these runs were planned under revision {}, so rules were changed after that.",
                visible(planned)
            ),
            None => format!(
                "The rules are revision {now}; which were in force when these runs were planned is not on record."
            ),
        }
    }
}

/// Text that stays in its cell.
pub(crate) fn cell(text: &str) -> String {
    visible(text).replace('|', "\\|").replace('\n', " ")
}
