//! What measuring finds of heads.

use std::collections::BTreeMap;

use induction_metrics::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    HeadId, Row,
    read::{stderr, within},
    visible,
};

/// Measures of a head by name; `None` where it has none.
pub type NamedScores = BTreeMap<String, Option<f64>>;

/// A line of `heads.jsonl`: one head of one snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct HeadRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// What the head is at this snapshot.
    pub role: Role,
    /// Every measure by its name; `None` where the head has none (a composition in layer 0, an
    /// error of one example).
    #[serde(flatten)]
    pub scores: NamedScores,
}

impl HeadRow {
    /// Which head.
    pub fn id(&self) -> HeadId {
        HeadId { layer: self.layer, head: self.head }
    }

    /// A measure by name; NaN if the head has none.
    pub fn score(&self, name: &str) -> f64 {
        self.scores.get(name).copied().flatten().unwrap_or(f64::NAN)
    }
}

/// serde forgets where a field stands while it looks for those that have a name of their own; this
/// does not.
impl TryFrom<Map<String, Value>> for HeadRow {
    type Error = String;

    fn try_from(mut fields: Map<String, Value>) -> Result<Self, String> {
        let (step, tokens) = (count(&mut fields, "step")?, count(&mut fields, "tokens")?);
        let (HeadId { layer, head }, role) = take_head(&mut fields)?;
        Ok(Self { step, tokens, layer, head, role, scores: scores(fields)? })
    }
}

/// Takes out which head it is, and its role.
pub(crate) fn take_head(fields: &mut Map<String, Value>) -> Result<(HeadId, Role), String> {
    let layer = count(fields, "layer")? as usize;
    let head = count(fields, "head")? as usize;
    let role = take(fields, "role")?;
    let known = Role::deserialize(&role).map_err(|_| wrong("role", &role, "a head's role"))?;
    Ok((HeadId { layer, head }, known))
}

/// All fields as scores.
pub(crate) fn scores(fields: Map<String, Value>) -> Result<NamedScores, String> {
    let scores = fields.into_iter().map(|(name, value)| match (value.is_null(), value.as_f64()) {
        (true, _) => Ok((name, None)),
        (_, Some(score)) => Ok((name, Some(score))),
        _ => Err(wrong(&visible(&name), &value, "a number or null")),
    });
    scores.collect()
}

fn take(fields: &mut Map<String, Value>, name: &str) -> Result<Value, String> {
    fields.remove(name).ok_or_else(|| format!("`{name}` is missing"))
}

fn count(fields: &mut Map<String, Value>, name: &str) -> Result<u64, String> {
    let value = take(fields, name)?;
    value.as_u64().ok_or_else(|| wrong(name, &value, "a whole number from 0"))
}

fn wrong(name: &str, found: &Value, expected: &str) -> String {
    let found: String = visible(&found.to_string()).chars().take(60).collect();
    format!("`{name}` is {found}, expected {expected}")
}

impl Row for HeadRow {
    const FILE: &'static str = "heads.jsonl";

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn key(&self) -> [u64; 6] {
        [self.step, self.layer as u64, self.head as u64, 0, 0, 0]
    }

    /// Scores are shares: what is named so must be one, wherever it is there.
    fn check(&self) -> Result<(), String> {
        for (name, value) in &self.scores {
            let Some(value) = *value else { continue };
            match name.as_str() {
                "prefix_matching" | "previous_token" => within(name, value, 0.0, 1.0)?,
                "copying" | "ov_copying" => within(name, value, -1.0, 1.0)?,
                name if name.ends_with("_stderr") => stderr(name, Some(value))?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A line of `composition.jsonl`: what one head reads of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompositionRow {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// `Q`, `K` or `V`: the input of the later head.
    pub kind: String,
    /// Layer of the head that writes, from 0.
    pub from_layer: usize,
    /// The head that writes, from 0.
    pub from_head: usize,
    /// Layer of the head that reads.
    pub to_layer: usize,
    /// The head that reads.
    pub to_head: usize,
    /// The ratio of norms less that of random matrices.
    pub score: f64,
    /// The ratio of norms.
    pub raw: f64,
}

impl Row for CompositionRow {
    const FILE: &'static str = "composition.jsonl";
    const MAY_BE_EMPTY: bool = true; // One layer composes with nothing.

    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }

    fn key(&self) -> [u64; 6] {
        let kind = u64::from(self.kind.bytes().next().unwrap_or_default());
        let [a, b, c, d] =
            [self.to_layer, self.to_head, self.from_layer, self.from_head].map(|n| n as u64);
        [self.step, a, b, c, d, kind]
    }
}
