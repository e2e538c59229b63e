//! What `induction ablate` says at its end.

use std::path::Path;

use induction_ablation::{Downstream, HeadId};
use induction_records::{AblationRow, HeadRow, read_rows};
use serde::Serialize;

use super::knockouts::heads_at;
use crate::Error;

/// What the last snapshot's same-token ICL score loses without a head.
#[derive(Clone, Debug, Serialize)]
pub struct HeadEffect {
    /// The head.
    pub head: HeadId,
    /// Its role, as `heads.jsonl` has it.
    pub role: String,
    /// Its prefix-matching score.
    pub prefix_matching: f64,
    /// Change of the score in nats, everything above the head free to change.
    pub full: f64,
    /// The same with every pattern kept.
    pub pattern_preserving: f64,
}

/// The effects of the heads of a run's last snapshot, from its tables.
///
/// # Errors
/// A run that is not ablated.
pub fn last_effects(run: &Path) -> Result<Vec<HeadEffect>, Error> {
    let folder = run.join("measurements");
    let rows: Vec<AblationRow> = read_rows(&folder).unwrap_or_default();
    let last = rows.iter().map(|row| row.step).max().ok_or_else(|| {
        let run = run.display();
        Error::Input(format!(
            "{run}: no head was removed here: evaluation.ablation_every in its spec.toml is 0, a spec with 1 or more removes them"
        ))
    })?;
    let change = |head: HeadId, kind: Downstream| {
        let of = |row: &&AblationRow| {
            (row.step, row.layer, row.head, row.downstream) == (last, head.layer, head.head, kind)
        };
        rows.iter().find(of).map_or(f64::NAN, |row| row.same_token_change)
    };
    let effect = |row: HeadRow| {
        let head = row.id();
        let role =
            serde_json::to_value(row.role).ok().and_then(|role| role.as_str().map(str::to_string));
        HeadEffect {
            head,
            role: role.unwrap_or_default(),
            prefix_matching: row.score("prefix_matching"),
            full: change(head, Downstream::Full),
            pattern_preserving: change(head, Downstream::PatternPreserving),
        }
    };
    Ok(heads_at(&folder, last)?.into_iter().map(effect).collect())
}
