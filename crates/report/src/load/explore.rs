//! What exploring leaves: a text's losses over training, and what heads attend to on it and on
//! argument 4's prompts. A run need not have it.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::table::{Length, Point, Row, Table};
use super::{HeadName, Spec, read};
use crate::ReportError;
use crate::text::visible;

const AGAIN: &str = "explore the run again (`induction explore RUN`)";

/// What a run's heads do on a text and on prompts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Explored {
    /// What the text is called: a file, or which held-out example.
    pub text: String,
    /// Its tokens, made visible, without the start token.
    pub tokens: Vec<String>,
    /// `text.jsonl`.
    pub losses: Vec<TextPoint>,
    /// Step of each snapshot with maps, and the maps of the text's first positions, the start token
    /// first.
    pub maps: Vec<(u64, Maps)>,
    /// Argument 4's prompts, put to the last snapshot.
    pub prompts: Vec<Prompt>,
    /// `prompts.jsonl`.
    pub scores: Vec<PromptScore>,
}

/// A line of `text.jsonl`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TextPoint {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// The loss of each token of the text, in nats.
    pub losses: Vec<f64>,
}

/// Attention and logit attribution of every head on one text (docs/FORMATS.md: maps), `[layer,
/// head, query, key]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Maps {
    /// Queries, and keys.
    pub positions: usize,
    /// In 255ths.
    pub attention: Vec<u8>,
    /// In units of the head.
    pub attribution: Vec<i8>,
    /// The unit of each head, in nats.
    pub unit: Vec<f32>,
}

impl Maps {
    /// What head number `head` (of all layers) gives to a key.
    pub(crate) fn attention(&self, head: usize, query: usize, key: usize) -> f64 {
        f64::from(self.attention[(head * self.positions + query) * self.positions + key]) / 255.0
    }

    /// What head number `head` adds to the logit of the token after the query through a key, in
    /// nats.
    pub(crate) fn attribution(&self, head: usize, query: usize, key: usize) -> f64 {
        f64::from(self.attribution[(head * self.positions + query) * self.positions + key])
            * f64::from(self.unit[head])
    }
}

/// The first prompt of a behaviour, with its maps.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Prompt {
    /// `literal copying`, `translation` or `pattern matching`.
    pub behaviour: String,
    /// Its tokens, made visible, the start token first.
    pub tokens: Vec<String>,
    /// Positions that are judged, and for each the right ones to attend to.
    pub queries: Vec<(usize, Vec<usize>)>,
    /// What every head does on it.
    pub maps: Maps,
}

/// A line of `prompts.jsonl`: a head on the prompts of one behaviour.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PromptScore {
    /// `literal copying`, `translation` or `pattern matching`.
    pub behaviour: String,
    /// Which.
    pub head: HeadName,
    /// Share of the attention that goes to right positions, its standard error over prompts, and
    /// its chance level.
    pub share: (f64, Option<f64>, f64),
    /// The same of the attention on positions of the right kind.
    pub among: (f64, Option<f64>, f64),
    /// Of the attention on positions of the right kind, what would go to right ones if the head
    /// copied literally.
    pub literal: Option<f64>,
    /// What the head adds to the right token's logit through right positions, and through all, in
    /// nats.
    pub attribution: (f64, f64),
}

impl Point for TextPoint {
    fn at(&self) -> (u64, u64) {
        (self.step, self.tokens)
    }
}

pub(super) fn load_explored(folder: &Path, spec: &Spec) -> Result<Option<Explored>, ReportError> {
    let measurements = folder.join("measurements");
    let place = measurements.join("text.json");
    if !measurements.join("explore.json").exists() || !place.exists() {
        return Ok(None);
    }
    let chosen = json(&place)?;
    let damaged = |path: &Path, problem: &str| ReportError::Line {
        path: path.to_path_buf(),
        line: 1,
        problem: problem.to_string(),
        help: AGAIN,
    };
    let name = chosen.get("name").and_then(Value::as_str);
    let tokens = chosen.get("tokens").and_then(texts);
    let Some((name, tokens)) = name.zip(tokens).filter(|(_, tokens)| !tokens.is_empty()) else {
        return Err(damaged(&place, "expected a name and a list of tokens"));
    };
    let mut length = Length::default();
    let losses = Table::read(measurements.join("text.jsonl"), AGAIN, AGAIN)?.rows(|row| {
        let losses = length.same(row, "losses")?;
        if losses.len() != tokens.len() {
            return Err(row.problem(format!(
                "{} losses for the {} tokens of text.json",
                losses.len(),
                tokens.len()
            )));
        }
        Ok(TextPoint { step: row.count("step")?, tokens: row.count("tokens")?, losses })
    })?;
    let mut maps = Vec::new();
    for point in &losses {
        let path = measurements.join(format!("maps/step-{:08}.safetensors", point.step));
        if path.exists() {
            let found = load_maps(&path, "", spec)?;
            if found.positions > tokens.len() {
                return Err(damaged(&path, "the maps are of more positions than the text has"));
            }
            maps.push((point.step, found));
        }
    }
    let scores = load_scores(&measurements, spec)?;
    let place = measurements.join("prompts.json");
    let mut prompts = Vec::new();
    let listed = if place.exists() { json(&place)? } else { Value::Array(Vec::new()) };
    for entry in listed.as_array().into_iter().flatten() {
        let problem = || damaged(&place, "expected prompts with a behaviour, tokens and queries");
        let behaviour = entry.get("behaviour").and_then(Value::as_str).ok_or_else(problem)?;
        let tokens = entry.get("tokens").and_then(texts).ok_or_else(problem)?;
        let queries = entry.get("queries").and_then(Value::as_array).ok_or_else(problem)?;
        let path = measurements.join("maps/prompts.safetensors");
        let maps = load_maps(&path, &format!(".{}", behaviour.replace(' ', "_")), spec)?;
        let below =
            |value: &Value| value.as_u64().map(|n| n as usize).filter(|&n| n <= maps.positions);
        let queries = queries
            .iter()
            .map(|query| {
                let at = below(query.get("at")?)?;
                let targets = query
                    .get("targets")?
                    .as_array()?
                    .iter()
                    .map(below)
                    .collect::<Option<Vec<usize>>>()?;
                Some((at, targets))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(problem)?;
        if tokens.len() != maps.positions + 1 {
            return Err(damaged(&path, "the maps are of another prompt than prompts.json"));
        }
        // The last position predicts nothing.
        let queries = queries.into_iter().filter(|(at, _)| *at < maps.positions).collect();
        prompts.push(Prompt { behaviour: visible(behaviour), tokens, queries, maps });
    }
    Ok(Some(Explored { text: visible(name), tokens, losses, maps, prompts, scores }))
}

fn json(path: &Path) -> Result<Value, ReportError> {
    let text = read(path, AGAIN)?;
    serde_json::from_str(&text).map_err(|error| ReportError::Line {
        path: path.to_path_buf(),
        line: error.line().max(1),
        problem: "expected JSON".to_string(),
        help: AGAIN,
    })
}

/// A list of tokens, each made inert. Line ends and tabs stay: they are part of a text's shape, and
/// the page shows them by a sign.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    let inert = |text: &str| {
        let kept = text.split_inclusive(['\n', '\t']);
        kept.map(|part| match part.strip_suffix(['\n', '\t']) {
            Some(before) => visible(before) + &part[before.len()..],
            None => visible(part),
        })
        .collect::<String>()
    };
    value.as_array()?.iter().map(|token| token.as_str().map(inert)).collect()
}

fn load_maps(path: &Path, suffix: &str, spec: &Spec) -> Result<Maps, ReportError> {
    let bytes =
        fs::read(path).map_err(|source| ReportError::Read { path: path.to_path_buf(), source })?;
    let parse = || -> Result<Maps, String> {
        let file = SafeTensors::deserialize(&bytes).map_err(|error| visible(&error.to_string()))?;
        let tensor = |name: &str, dtype: Dtype| {
            let tensor =
                file.tensor(&format!("{name}{suffix}")).map_err(|error| error.to_string())?;
            if tensor.dtype() == dtype {
                Ok(tensor)
            } else {
                Err(format!("`{name}` is not {dtype:?}"))
            }
        };
        let (attention, attribution) =
            (tensor("attention", Dtype::U8)?, tensor("attribution", Dtype::I8)?);
        let unit = tensor("attribution_unit", Dtype::F32)?;
        let positions = attention.shape().last().copied().unwrap_or_default();
        let expected = [spec.n_layers, spec.n_heads, positions, positions];
        if attention.shape() != expected
            || attribution.shape() != expected
            || unit.shape() != &expected[..2]
        {
            return Err(format!(
                "shape {:?}, expected {expected:?} for the spec's model",
                attention.shape()
            ));
        }
        let unit: Vec<f32> = unit
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        if unit.iter().any(|unit| !unit.is_finite()) {
            return Err("`attribution_unit` holds a value that is not finite".to_string());
        }
        let attribution = attribution.data().iter().map(|&byte| byte as i8).collect();
        Ok(Maps { positions, attention: attention.data().to_vec(), attribution, unit })
    };
    parse().map_err(|problem| ReportError::Line {
        path: path.to_path_buf(),
        line: 1,
        problem,
        help: AGAIN,
    })
}

fn load_scores(measurements: &Path, spec: &Spec) -> Result<Vec<PromptScore>, ReportError> {
    let path = measurements.join("prompts.jsonl");
    // Empty for data without text.
    if fs::metadata(&path).map_or(true, |file| file.len() == 0) {
        return Ok(Vec::new());
    }
    let table = Table::read(path, AGAIN, AGAIN)?;
    let score = |row: &Row<'_>| {
        Ok(PromptScore {
            behaviour: visible(&row.text("behaviour")?),
            head: HeadName {
                layer: row.below("layer", spec.n_layers)?,
                head: row.below("head", spec.n_heads)?,
            },
            share: (row.number("share")?, row.stderr("share_stderr")?, row.number("chance")?),
            among: (
                row.number("share_among")?,
                row.stderr("share_among_stderr")?,
                row.number("chance_among")?,
            ),
            literal: row.optional("literal_share_among")?,
            attribution: (row.number("attribution")?, row.number("attribution_total")?),
        })
    };
    table.parsed()?.iter().map(score).collect()
}
