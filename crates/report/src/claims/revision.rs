//! Which rules these are: so that a report can say whether they were fixed before the runs that
//! they judge.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::RULES;

/// A hash of every rule in words with its limits. A manifest keeps it from the day its runs were
/// planned (`rules`), a report prints it beside the one that judged.
pub fn revision() -> String {
    let mut text = String::new();
    for rule in RULES {
        let _ = writeln!(text, "{} | {} | {}", rule.id, rule.rule, rule.limits().join(" "));
    }
    let mut short = String::new();
    for byte in &Sha256::digest(text.as_bytes())[..6] {
        let _ = write!(short, "{byte:02x}");
    }
    short
}
