//! The claims for a terminal.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};

use crate::text::visible;
use crate::{Claim, Verdict};

/// Below this the columns would be a few letters wide.
const LEAST_WIDTH: u16 = 60;

/// The claims as a table at most `width` columns wide (at least 60), one claim a row, then each
/// claim's reason.
///
/// Escape codes appear only with `colour`; what the claims quote from files can hold none. No line
/// break at the end.
pub fn table(claims: &[Claim], width: u16, colour: bool) -> String {
    let width = width.max(LEAST_WIDTH);
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width);
    table.set_header(["", "claim", "paper", "ours", "verdict"]);
    for claim in claims {
        let mut ours = visible(&claim.ours);
        if let Some(interval) = &claim.interval {
            ours = format!("{ours}\n(95 %: {})", visible(interval));
        }
        // A hyphen would be a place to break the word at.
        let verdict =
            format!("{} {}", claim.verdict.symbol(), claim.verdict.word().replace('-', "\u{2011}"));
        let said = [&claim.id, &claim.title, &claim.paper].map(|text| visible(text));
        table.add_row(said.into_iter().chain([ours, verdict]));
    }
    // Only the three columns of text give way.
    for column in [0, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let mut text: String = table.lines().map(|line| line.trim_end().to_string() + "\n").collect();
    text = text.replace('\u{2011}', "-");
    if colour {
        for verdict in [Verdict::Reproduced, Verdict::Partly, Verdict::Not, Verdict::OutOfReach] {
            let marked = format!("{} {}", verdict.symbol(), verdict.word());
            text = text.replace(&marked, &format!("\u{1b}[1;{}m{marked}\u{1b}[0m", tint(verdict)));
        }
    }
    let reasons: Vec<String> =
        claims.iter().map(|claim| paragraph(claim, usize::from(width))).collect();
    format!("{text}\n{}", reasons.join("\n"))
}

/// ANSI colours that people with any colour vision tell apart; the symbol and the word say the
/// same.
fn tint(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Reproduced => 34,
        Verdict::Partly => 33,
        Verdict::Not => 31,
        Verdict::OutOfReach => 90,
    }
}

/// "Q1  why", wrapped with a hanging indent.
fn paragraph(claim: &Claim, width: usize) -> String {
    let mut lines = vec![format!("{:<3}", claim.id)];
    for word in visible(&claim.why).split(' ') {
        let last = lines.len() - 1;
        if lines[last].chars().count() + 1 + word.chars().count() > width {
            lines.push(format!("    {word}"));
        } else {
            lines[last].push(' ');
            lines[last].push_str(word);
        }
    }
    lines.join("\n")
}
