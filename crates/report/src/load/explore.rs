//! What exploring leaves: a text's losses over training, and what heads attend to on it and on
//! argument 4's prompts. A run need not have it.

use std::fs;
use std::path::Path;

use induction_records::{
    BEHAVIOURS, BehaviourScores, ExploredFrom, FollowedText, Prompt as StoredPrompt, PromptRow,
    Row, RunSpec, Stage, TextRow, read_json, read_rows, step_file,
};
use safetensors::{Dtype, SafeTensors};

use super::{check_head, damaged};
use crate::ReportError;
use crate::text::visible;

/// What a run's heads do on a text and on prompts.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Explored {
    /// What the text is called: a file, or which held-out example.
    pub text: String,
    /// Its tokens, made visible, without the start token.
    pub tokens: Vec<String>,
    /// `text.jsonl`.
    pub losses: Vec<TextRow>,
    /// Step of each snapshot with maps, and the maps of the text's first positions, the start token
    /// first.
    pub maps: Vec<(u64, Maps)>,
    /// Argument 4's prompts, put to the last snapshot.
    pub prompts: Vec<Prompt>,
    /// What every head does on them.
    pub scores: Vec<BehaviourScores>,
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

pub(super) fn load_explored(
    tables: &Path,
    spec: &RunSpec,
) -> Result<Option<Explored>, ReportError> {
    let place = tables.join(FollowedText::FILE);
    if !tables.join(ExploredFrom::FILE).exists() || !place.exists() {
        return Ok(None);
    }
    let wrong =
        |path: &Path, problem: &str| damaged(path, 1, problem.to_string(), Stage::Exploring);
    let text: FollowedText = read_json(&place, Stage::Exploring)?;
    let losses: Vec<TextRow> = read_rows(tables)?;
    if let Some(row) = losses.iter().find(|row| row.losses.len() != text.tokens.len()) {
        let (found, expected) = (row.losses.len(), text.tokens.len());
        let problem = format!("{found} losses for the {expected} tokens of {}", FollowedText::FILE);
        return Err(wrong(&tables.join(TextRow::FILE), &problem));
    }
    let mut maps = Vec::new();
    for row in &losses {
        let path = tables.join("maps").join(step_file(row.step));
        if path.exists() {
            let found = load_maps(&path, "", spec)?;
            if found.positions > text.tokens.len() {
                return Err(wrong(&path, "the maps are of more positions than the text has"));
            }
            maps.push((row.step, found));
        }
    }
    Ok(Some(Explored {
        text: visible(&text.name),
        tokens: text.tokens.iter().map(|token| inert(token)).collect(),
        losses,
        maps,
        prompts: load_prompts(tables, spec)?,
        scores: load_scores(tables, spec)?,
    }))
}

fn load_prompts(tables: &Path, spec: &RunSpec) -> Result<Vec<Prompt>, ReportError> {
    let place = tables.join(StoredPrompt::FILE);
    if !place.exists() {
        return Ok(Vec::new());
    }
    let stored: Vec<StoredPrompt> = read_json(&place, Stage::Exploring)?;
    let path = tables.join("maps/prompts.safetensors");
    let prompt = |stored: StoredPrompt| {
        let wrong = |path: &Path, problem: String| Err(damaged(path, 1, problem, Stage::Exploring));
        if !BEHAVIOURS.contains(&stored.behaviour.as_str()) {
            let found = visible(&stored.behaviour);
            let expected = BEHAVIOURS.join(", ");
            return wrong(&place, format!("`behaviour` is {found:?}, expected {expected}"));
        }
        let suffix = format!(".{}", stored.behaviour.replace(' ', "_"));
        let maps = load_maps(&path, &suffix, spec)?;
        if stored.tokens.len() != maps.positions + 1 {
            return wrong(&path, "the maps are of another prompt than prompts.json".to_string());
        }
        let positions =
            stored.queries.iter().flat_map(|query| query.targets.iter().chain([&query.at]));
        if let Some(at) = positions.into_iter().find(|&&at| at > maps.positions) {
            let length = stored.tokens.len();
            return wrong(
                &place,
                format!("a query at position {at} of a prompt of {length} tokens"),
            );
        }
        // The last position predicts nothing.
        let asked = stored.queries.into_iter().filter(|query| query.at < maps.positions);
        Ok(Prompt {
            behaviour: stored.behaviour,
            tokens: stored.tokens.iter().map(|token| inert(token)).collect(),
            queries: asked.map(|query| (query.at, query.targets)).collect(),
            maps,
        })
    };
    stored.into_iter().map(prompt).collect()
}

fn load_scores(tables: &Path, spec: &RunSpec) -> Result<Vec<BehaviourScores>, ReportError> {
    let path = tables.join(PromptRow::FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let rows: Vec<PromptRow> = read_rows(tables)?;
    let scores = rows.into_iter().enumerate().map(|(k, row)| {
        check_head(row.scores.id(), spec)
            .map_err(|problem| damaged(&path, k + 1, problem, Stage::Exploring))?;
        Ok(row.scores)
    });
    scores.collect()
}

/// A token made inert. Line ends and tabs stay: they are part of a text's shape, and the page shows
/// them by a sign.
pub(super) fn inert(token: &str) -> String {
    let kept = token.split_inclusive(['\n', '\t']);
    kept.map(|part| match part.strip_suffix(['\n', '\t']) {
        Some(before) => visible(before) + &part[before.len()..],
        None => visible(part),
    })
    .collect()
}

fn load_maps(path: &Path, suffix: &str, spec: &RunSpec) -> Result<Maps, ReportError> {
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
        let expected = [spec.model.n_layers, spec.model.n_heads, positions, positions];
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
    parse().map_err(|problem| damaged(path, 1, problem, Stage::Exploring))
}
