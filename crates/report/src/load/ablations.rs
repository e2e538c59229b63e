//! The tables that ablating leaves; a run need not have them.

use std::path::Path;

use serde_json::{Map, Value};

use super::{
    Spec,
    table::{Length, Row, Table, order_problem, read},
};
use crate::ReportError;

const ABLATE_AGAIN: &str = "delete the table and ablate the run again (`induction ablate RUN`)";

/// A head, counted from 0; shown as `1.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeadName {
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
}

impl std::fmt::Display for HeadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.layer, self.head)
    }
}

/// What the layers above a removed head do about it (paper.md, 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downstream {
    /// They see what is left.
    Full,
    /// Their patterns stay those of the whole model.
    PatternPreserving,
}

/// A line of `ablations.jsonl`: one head removed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Removal {
    /// Which.
    pub head: HeadName,
    /// How.
    pub downstream: Downstream,
    /// Change of the ICL score, in nats; above 0 the head contributes.
    pub icl_change: f64,
    /// Change of the same-token score, in nats.
    pub same_token_change: f64,
    /// The same of each example.
    pub same_token_by_example: Vec<f64>,
    /// Of each example, the change of all its losses along the direction in which the phase change
    /// moved them, in nats squared; empty if the run has no such change.
    pub undone_by_example: Vec<f64>,
}

/// What the removals are held against: how the losses moved over the phase change
/// (`ablations.json`).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ChangeVector {
    /// The step of the last snapshot before it.
    pub before_step: u64,
    /// The step of the first snapshot after it.
    pub after_step: u64,
    /// Squared length of each example's part, in nats squared.
    pub squares: Vec<f64>,
}

/// The lines of `ablations.jsonl` of one snapshot.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AblationPoint {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Every head in both ways, by layer and head, full first.
    pub removals: Vec<Removal>,
}

/// A line of `knockouts.jsonl`: the last snapshot under one ablation.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Knockout {
    /// What it is for.
    pub name: String,
    /// The heads concerned; of a path its two ends, of several into one head that head last.
    pub heads: Vec<HeadName>,
    /// For heads that are removed.
    pub downstream: Option<Downstream>,
    /// The fill, the pattern, or what a cut path leads into; empty for the whole model.
    pub detail: String,
    /// Mean loss of each example, in nats.
    pub loss_by_example: Vec<f64>,
    /// Same-token score of each example, in nats.
    pub same_token_by_example: Vec<f64>,
}

/// A table that need not be there.
fn optional_table(folder: &Path, name: &str) -> Result<Option<Table>, ReportError> {
    let path = folder.join("measurements").join(name);
    if path.exists() { Table::read(path, ABLATE_AGAIN, ABLATE_AGAIN).map(Some) } else { Ok(None) }
}

pub(super) fn load_ablations(
    folder: &Path,
    spec: &Spec,
) -> Result<Vec<AblationPoint>, ReportError> {
    let Some(table) = optional_table(folder, "ablations.jsonl")? else { return Ok(Vec::new()) };
    let mut points: Vec<AblationPoint> = Vec::new();
    let (mut examples, mut undone) = (Length::default(), Length::default());
    let each = spec.n_layers * spec.n_heads * 2;
    let cut_short = |row: &Row<'_>, last: &AblationPoint| {
        row.problem(format!(
            "step {} ends with {} removals, expected {each}",
            last.step,
            last.removals.len()
        ))
    };
    for row in table.parsed()? {
        let (step, tokens) = (row.count("step")?, row.count("tokens")?);
        let head = HeadName {
            layer: row.below("layer", spec.n_layers)?,
            head: row.below("head", spec.n_heads)?,
        };
        let downstream = row.downstream("downstream")?;
        let begins = match points.last() {
            Some(last)
                if last.removals.len() < each && (step, tokens) != (last.step, last.tokens) =>
            {
                return Err(cut_short(&row, last));
            }
            Some(last)
                if last.removals.len() == each && (step <= last.step || tokens <= last.tokens) =>
            {
                return Err(row.problem(order_problem(step, last.step, tokens, last.tokens)));
            }
            last => last.is_none_or(|last| last.removals.len() == each),
        };
        if begins {
            points.push(AblationPoint { step, tokens, removals: Vec::new() });
        }
        let Some(point) = points.last_mut() else { continue };
        let at = point.removals.len();
        let expected = HeadName { layer: at / 2 / spec.n_heads, head: at / 2 % spec.n_heads };
        let (kind, word) = match at % 2 {
            0 => (Downstream::Full, "full"),
            _ => (Downstream::PatternPreserving, "pattern-preserving"),
        };
        if (head, downstream) != (expected, kind) {
            return Err(row.problem(format!("expected head {expected}, {word}, in this place")));
        }
        point.removals.push(Removal {
            head,
            downstream,
            icl_change: row.number("icl_change")?,
            same_token_change: row.number("same_token_change")?,
            same_token_by_example: examples.same(&row, "same_token_change_by_example")?,
            undone_by_example: undone.same_or_none(&row, "undone_by_example")?,
        });
    }
    match points.last() {
        Some(last) if last.removals.len() < each => Err(cut_short(
            &Row { table: &table, line: table.text.lines().count(), fields: Map::new() },
            last,
        )),
        _ => Ok(points),
    }
}

pub(super) fn load_change(folder: &Path) -> Result<Option<ChangeVector>, ReportError> {
    let path = folder.join("measurements/ablations.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = read(&path, ABLATE_AGAIN)?;
    let table = Table { path, text: String::new(), help: ABLATE_AGAIN };
    let fields = Row::parse(&table, 1, &text)?.fields;
    let Some(change) = fields.get("change").and_then(Value::as_object) else { return Ok(None) };
    let row = Row { table: &table, line: 1, fields: change.clone() };
    let squares = Length::default().same(&row, "squares")?;
    Ok(Some(ChangeVector {
        before_step: row.count("before_step")?,
        after_step: row.count("after_step")?,
        squares,
    }))
}

pub(super) fn load_knockouts(folder: &Path, spec: &Spec) -> Result<Vec<Knockout>, ReportError> {
    let Some(table) = optional_table(folder, "knockouts.jsonl")? else { return Ok(Vec::new()) };
    let (mut losses, mut same_token) = (Length::default(), Length::default());
    let read = |row: &Row<'_>| {
        let mut knockout = Knockout {
            name: row.text("name")?,
            heads: Vec::new(),
            downstream: None,
            detail: String::new(),
            loss_by_example: losses.same(row, "loss_by_example")?,
            same_token_by_example: same_token.same(row, "same_token_by_example")?,
        };
        let value = row.field("ablation", "an ablation or null")?;
        if value.is_null() {
            return Ok(knockout);
        }
        let fields =
            value.as_object().ok_or_else(|| row.wrong("ablation", "an ablation or null", value))?;
        let ablation = Row { table: row.table, line: row.line, fields: fields.clone() };
        let head = |value: &Value| {
            let below = |key: &str, end: usize| {
                value
                    .get(key)
                    .and_then(Value::as_u64)
                    .and_then(|n| usize::try_from(n).ok())
                    .filter(|&n| n < end)
            };
            let found = below("layer", spec.n_layers).zip(below("head", spec.n_heads));
            let found = found.map(|(layer, head)| HeadName { layer, head });
            found.ok_or_else(|| ablation.wrong("head", "a layer and a head of the model", value))
        };
        let one = |key: &str| ablation.field(key, "a head").and_then(head);
        match ablation.text("kind")?.as_str() {
            "heads" => {
                let list = ablation.field("heads", "a list of heads")?;
                let list = list
                    .as_array()
                    .ok_or_else(|| ablation.wrong("heads", "a list of heads", list))?;
                knockout.heads = list.iter().map(head).collect::<Result<_, _>>()?;
                knockout.downstream = Some(ablation.downstream("downstream")?);
                knockout.detail = ablation.text("fill")?;
            }
            "substitute" => {
                knockout.heads = vec![one("head")?];
                knockout.detail = ablation.text("pattern")?;
            }
            "paths" => {
                let list = ablation.field("from", "a list of heads")?;
                let list = list
                    .as_array()
                    .ok_or_else(|| ablation.wrong("from", "a list of heads", list))?;
                knockout.heads = list.iter().map(head).collect::<Result<_, _>>()?;
                knockout.heads.push(one("to")?);
                knockout.detail = ablation.text("into")?;
            }
            "path" => {
                knockout.heads = vec![one("from")?, one("to")?];
                knockout.detail = ablation.text("into")?;
            }
            _ => {
                return Err(ablation.wrong(
                    "kind",
                    "heads, substitute, path or paths",
                    ablation.field("kind", "a kind")?,
                ));
            }
        }
        Ok(knockout)
    };
    let rows = table.parsed()?;
    rows.iter().map(read).collect()
}
