//! A study's claims and numbers as Markdown: `claims.md`.

use std::fmt::Write as _;

use induction_records::StudyMeasure;

use super::{Absent, OverSeeds, Studied, about};
use crate::Claim;
use crate::markdown::cell;
use crate::text::{number, tokens, visible};

/// The table of claims with their reasons, and every measure of every variant.
pub(crate) fn markdown(studied: &Studied<'_>, claims: &[Claim]) -> String {
    let study = studied.study;
    let mut out = format!("# {}\n\n{}\n", visible(&study.title), about(study));
    // Writing into a String cannot fail, which is why the results below are dropped.
    if !claims.is_empty() {
        out += "\n## Claims\n\n| | claim | expected | found | 95 % interval | verdict | why |\n|---|---|---|---|---|---|---|\n";
        for Claim { id, title, paper, ours, interval, verdict, why, .. } in claims {
            let interval = interval.as_deref().unwrap_or_default();
            let cells = [&**id, &**title, &**paper, ours, interval].map(cell).join(" | ");
            let _ = writeln!(out, "| {cells} | {} | {} |", verdict.word(), cell(why));
        }
    }
    let [head, rows] = table(studied);
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|text| cell(text)).collect::<Vec<_>>().join(" | "))
    };
    out += "\n## Variants\n\n";
    for head in &head {
        out += &line(head);
        out += &format!("|{}\n", "---|".repeat(head.len()));
    }
    rows.iter().for_each(|row| out += &line(row));
    if !studied.absent.is_empty() {
        out += "\nRuns that are planned and have no part in this:\n\n";
        for Absent { name, why } in &studied.absent {
            let _ = writeln!(out, "- {} {why}", cell(name));
        }
    }
    out
}

/// The measures of every variant at the end of training: the head, and a row a variant.
pub(crate) fn table(studied: &Studied<'_>) -> [Vec<Vec<String>>; 2] {
    let head = ["variant", "seeds"].into_iter().chain(StudyMeasure::ALL.map(StudyMeasure::label));
    let rows = studied.study.variants.iter().map(|variant| {
        let mut row = vec![visible(&variant.label), studied.of(&variant.name).len().to_string()];
        row.extend(StudyMeasure::ALL.map(|measure| {
            let found = studied.over_seeds(measure, &variant.name);
            let beyond = studied.beyond(measure, &variant.name);
            match (found, beyond) {
                (None, _) => "–".to_string(),
                (Some(_), n) if n > 0 && n == studied.of(&variant.name).len() => {
                    "did not come".to_string()
                }
                (Some(found), n) => {
                    let not = if n > 0 { format!(", {n} did not come") } else { String::new() };
                    format!("{}{not}", shown(measure, found))
                }
            }
        }));
        row
    });
    [vec![head.map(str::to_string).collect()], rows.collect()]
}

/// "0.62 ± 0.03"; the interval over seeds is symmetric.
fn shown(measure: StudyMeasure, OverSeeds { mean, interval }: OverSeeds) -> String {
    let show = if measure == StudyMeasure::TimeToHalf { tokens } else { number };
    match interval {
        Some(ends) => format!("{} ± {}", show(mean), show((ends.high - ends.low) / 2.0)),
        None => show(mean),
    }
}
