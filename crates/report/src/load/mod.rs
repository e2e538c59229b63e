//! Run folders into [`Run`]s. Everything is checked here, so that nothing downstream meets an
//! unvalidated number.

mod ablations;
mod explore;
mod history;
mod object;
mod scan;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use induction_metrics::CopyingCeiling;
use ndarray::Array2;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};

pub use self::ablations::{AblationPoint, ChangeVector, Downstream, HeadName, Knockout, Removal};
use self::ablations::{load_ablations, load_change, load_knockouts};
use self::explore::load_explored;
pub use self::explore::{Explored, Maps, Prompt, PromptScore, TextPoint};
pub(crate) use self::scan::BEHAVIOURS;
pub use self::scan::{
    RemovedKind, Scan, ScanHead, ScanIcl, ScanModel, ScanPrompt, ScanRemoval, ScanRepeated,
    load_scan, load_scans, parse_scan,
};
use self::table::{Length, Point, Row, Table, json_problem, order_problem, read};
use crate::ReportError;
use crate::text::visible;

/// What the report needs to know of a run's spec; every other key is only displayed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Spec {
    /// The run's name.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// `corpus` or `repeats`.
    pub source: String,
    /// Number of blocks.
    pub n_layers: usize,
    /// Hidden width of the MLP; 0 for an attention-only model.
    pub d_mlp: usize,
    /// Heads in each block.
    pub n_heads: usize,
    /// Longest sequence, in tokens.
    pub n_ctx: usize,
    /// Whether keys are smeared (paper.md, 1.4).
    pub smeared_keys: bool,
    /// How the model's attention is clamped, if it is.
    pub clamp: Option<Clamp>,
    /// What was taken out of its text, if anything: a negative control.
    pub control: Option<Control>,
    /// Training tokens the run was given.
    pub tokens: u64,
    /// Optimizer steps of learning-rate warm-up.
    pub warmup_steps: u64,
    /// Share of the steps, the last ones, over which the learning rate falls.
    pub decay_share: f64,
    /// The whole spec.
    pub table: toml::Table,
}

/// How a model's attention is clamped, in training and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clamp {
    /// One head attends to the previous token.
    PreviousToken,
    /// No head attends to what followed an earlier copy of the current token.
    ForbidInduction,
    /// In another way, that no claim is about: its kind and settings, as in "window, width 8".
    Other(&'static str),
}

impl Clamp {
    /// From `[model.clamp]`, whose `kind` the caller has found.
    fn of(kind: &str, table: &toml::Table) -> Self {
        match kind {
            "previous-token" => Self::PreviousToken,
            "forbid-induction" => Self::ForbidInduction,
            _ => {
                let settings = table.iter().filter(|(key, _)| *key != "kind");
                let said: String =
                    settings.map(|(key, value)| format!(", {key} {value}")).collect();
                // A model's kind is copied and compared everywhere; the few words that a report has
                // of these may stay.
                Self::Other(Box::leak(visible(&format!("{kind}{said}")).into_boxed_str()))
            }
        }
    }
}

/// What a negative control learns from: the same text without what induction needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Control {
    /// Each document's tokens in random order.
    Shuffled,
    /// Windows made of short pieces from all over the text.
    Fragments,
}

/// A line of `metrics.jsonl`: one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TrainPoint {
    /// Counted from 1.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// The training batch's loss, in nats a token.
    pub loss: f64,
}

/// A line of `icl.jsonl`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct IclPoint {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Loss late in the context minus loss early in it, in nats (paper.md, 2).
    pub score: f64,
    /// Its standard error over examples; `None` where there was only one.
    pub stderr: Option<f64>,
    /// The score of each example, the same ones at every snapshot.
    pub by_example: Vec<f64>,
    /// The score on the same tokens, late in a window and early in a fresh one, in nats: what
    /// claims are judged on.
    pub same_token: f64,
    /// Its standard error over examples; `None` where there was only one.
    pub same_token_stderr: Option<f64>,
    /// The score of each example.
    pub same_token_by_example: Vec<f64>,
    /// The same at every index of the fresh window.
    pub same_token_by_index: Vec<f64>,
    /// d loss / d ln index over the indices from the early one on, of each example, in nats.
    pub late_slope_by_example: Vec<f64>,
}

/// A line of `loss_by_index.jsonl`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LossPoint {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Held-out loss, the mean over the context.
    pub loss: f64,
    /// Held-out loss of the (k+1)-th token of an example.
    pub by_index: Vec<f64>,
    /// Mean loss of each example.
    pub by_example: Vec<f64>,
}

/// A line of `copies.jsonl`: losses by whether an earlier copy in the window foretells the token.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CopyPoint {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Losses of each example's foretold tokens, summed, in nats; and how many these are.
    pub foretold: (Vec<f64>, Vec<f64>),
    /// The same of the others.
    pub others: (Vec<f64>, Vec<f64>),
}

/// A line of `random_tokens.jsonl`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RandomTokenPoint {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// The loss of one fixed random token of each example (paper.md, 1.5).
    pub losses: Vec<f64>,
}

/// What a bigram with in-context matches gains on the same text (`summary.json`).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Ceiling {
    /// Its ICL score in nats.
    pub icl_score: f64,
    /// The standard error over examples.
    pub stderr: Option<f64>,
}

/// One head's scores at one snapshot.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HeadScore {
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// The prefix-matching score (paper.md, 3).
    pub prefix_matching: f64,
    /// Its standard error over examples; `None` where there was only one.
    pub prefix_matching_stderr: Option<f64>,
    /// The copying score (paper.md, 3).
    pub copying: f64,
    /// The previous-token score (paper.md, 3).
    pub previous_token: f64,
    /// The eigenvalue ratio of the OV circuit (paper.md, 3).
    pub ov_copying: f64,
    /// The trace of the QK circuit's previous-token term (paper.md, 3); `None` in layer 0.
    pub qk_trace: Option<f64>,
    /// How often the QK circuit, reading through earlier previous-token heads, finds the token
    /// before; `None` in layer 0.
    pub k_composition_recall: Option<f64>,
}

impl HeadScore {
    pub(crate) fn name(&self) -> HeadName {
        HeadName { layer: self.layer, head: self.head }
    }
}

/// The lines of `heads.jsonl` of one snapshot, ordered by layer and head.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HeadsPoint {
    /// The snapshot's step.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Every head of the model, once.
    pub heads: Vec<HeadScore>,
}

/// A trained and measured run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// The folder's name under `runs/`, as it is on disk.
    pub folder: String,
    /// The spec.
    pub spec: Spec,
    /// The spec's text.
    pub spec_text: String,
    /// `metrics.jsonl`, at least one line.
    pub metrics: Vec<TrainPoint>,
    /// `icl.jsonl`, at least one line.
    pub icl: Vec<IclPoint>,
    /// `loss_by_index.jsonl`, at least one line, each with as many entries.
    pub losses: Vec<LossPoint>,
    /// `copies.jsonl`, at least one line, each with as many entries.
    pub copies: Vec<CopyPoint>,
    /// `random_tokens.jsonl`, at least one line, each with as many entries.
    pub random_tokens: Vec<RandomTokenPoint>,
    /// Every loss of the last snapshot, `[example, index]`, if they were kept.
    pub last_losses: Option<Array2<f32>>,
    /// `heads.jsonl`, at least one snapshot, each with every head.
    pub heads: Vec<HeadsPoint>,
    /// Every measure of the last snapshot in that table by name, without standard errors and means
    /// over fewer examples: one an head, in the order of `heads`; `None` where a head has none.
    pub last_measures: BTreeMap<String, Vec<Option<f64>>>,
    /// `ablations.jsonl`, each snapshot with every head; empty if the run is not ablated.
    pub ablations: Vec<AblationPoint>,
    /// How the losses moved over the phase change; nothing if it did not come, or the run is not
    /// ablated.
    pub change: Option<ChangeVector>,
    /// `knockouts.jsonl`; empty if the run is not ablated.
    pub knockouts: Vec<Knockout>,
    /// What its heads do on a text and on prompts, if that was looked at.
    pub explored: Option<Explored>,
    /// What trained it, where and for how long, in words, if that was kept.
    pub made: Option<String>,
    /// The ceiling of the run's data, if it was measured.
    pub ceiling: Option<Ceiling>,
    /// What heads of this width can reach of the copying score, if that was measured.
    pub copying_ceiling: Option<CopyingCeiling>,
    /// How often each token of the text was read, on average; `None` for endless data.
    pub passes: Option<f64>,
    /// `meta.json`: what the tables were made with.
    pub meta: Map<String, Value>,
}

impl Run {
    /// The name for people: inert in a terminal and on a page.
    pub fn label(&self) -> String {
        visible(&self.folder)
    }

    /// The knockouts of a name, in the order of the table.
    pub(crate) fn knockout<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Knockout> {
        self.knockouts.iter().filter(move |knockout| knockout.name == name)
    }

    /// Training tokens at the last measured snapshot.
    pub fn measured_tokens(&self) -> u64 {
        self.icl.last().map_or(0, |point| point.tokens)
    }
}

const MEASURE: &str = "measure the run (`induction measure RUN`), then report again";
const MEASURE_AGAIN: &str = "delete the table and measure the run again (`induction measure RUN`)";
const RESUME: &str =
    "resume the run from its last snapshot (`induction train`), which cuts a damaged tail off";

/// Reads every run folder of `dir/runs`, ordered by folder name.
///
/// Folders whose name starts with a dot are somebody's temporaries and left out.
///
/// # Errors
/// If there is no run, or a run's file is missing or damaged.
pub fn load_runs(dir: &Path) -> Result<Vec<Run>, ReportError> {
    let runs = dir.join("runs");
    let read = |source| ReportError::Read { path: runs.clone(), source };
    let entries = match fs::read_dir(&runs) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(ReportError::NoRuns { path: runs });
        }
        entries => entries.map_err(read)?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(read)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            folders.push(path);
        }
    }
    folders.sort();
    if folders.is_empty() {
        return Err(ReportError::NoRuns { path: runs });
    }
    folders.iter().map(|folder| load_run(folder)).collect()
}

/// Reads one run folder.
///
/// # Errors
/// If one of its files is missing or damaged.
pub fn load_run(folder: &Path) -> Result<Run, ReportError> {
    let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
        let problem = "the run folder's name is not UTF-8 text: rename the folder".to_string();
        return Err(ReportError::Spec { path: folder.to_path_buf(), problem });
    };
    let spec_path = folder.join("spec.toml");
    let spec_text = read(
        &spec_path,
        "this is not a run folder, or training never started; move it out of runs/",
    )?;
    let spec = parse_spec(&spec_path, &spec_text)?;

    let metrics = Table::read(
        folder.join("metrics.jsonl"),
        "the run has no training log; train it again",
        RESUME,
    )?;
    let metrics = metrics.rows(|row| {
        Ok(TrainPoint {
            step: row.count("step")?,
            tokens: row.count("tokens")?,
            loss: row.number("loss")?,
        })
    })?;

    let table =
        |name: &str| Table::read(folder.join("measurements").join(name), MEASURE, MEASURE_AGAIN);
    let [mut examples, mut slopes, mut same, mut by_index] = [(); 4].map(|()| Length::default());
    let icl = table("icl.jsonl")?.rows(|row| {
        Ok(IclPoint {
            step: row.count("step")?,
            tokens: row.count("tokens")?,
            score: row.number("icl_score")?,
            stderr: row.stderr("stderr")?,
            by_example: examples.same(row, "by_example")?,
            same_token: row.number("same_token_score")?,
            same_token_stderr: row.stderr("same_token_stderr")?,
            same_token_by_example: same.same(row, "same_token_by_example")?,
            same_token_by_index: by_index.same(row, "same_token_by_index")?,
            late_slope_by_example: slopes.same(row, "late_slope_by_example")?,
        })
    })?;
    let (mut entries, mut examples) = (Length::default(), Length::default());
    let losses = table("loss_by_index.jsonl")?.rows(|row| {
        Ok(LossPoint {
            step: row.count("step")?,
            tokens: row.count("tokens")?,
            loss: row.number("loss")?,
            by_index: entries.same(row, "loss_by_index")?,
            by_example: examples.same(row, "by_example")?,
        })
    })?;
    let mut examples = Length::default();
    let copies = table("copies.jsonl")?.rows(|row| {
        let mut of =
            |sums: &str, counts: &str| Ok((examples.same(row, sums)?, examples.same(row, counts)?));
        Ok(CopyPoint {
            step: row.count("step")?,
            tokens: row.count("tokens")?,
            foretold: of("foretold_by_example", "n_foretold_by_example")?,
            others: of("others_by_example", "n_others_by_example")?,
        })
    })?;
    let mut examples = Length::default();
    let random_tokens = table("random_tokens.jsonl")?.rows(|row| {
        let losses = examples.same(row, "losses")?;
        Ok(RandomTokenPoint { step: row.count("step")?, tokens: row.count("tokens")?, losses })
    })?;

    let last_losses =
        losses.last().map_or(Ok(None), |point: &LossPoint| load_losses(folder, point))?;
    let (heads, last_measures) = load_heads(folder, &spec)?;
    let ablations = load_ablations(folder, &spec)?;
    let change = load_change(folder)?;
    let knockouts = load_knockouts(folder, &spec)?;
    let explored = load_explored(folder, &spec)?;
    let made = history::load_made(folder)?;
    let meta = load_object(folder, "meta.json")?;
    let summary = load_summary(folder)?;
    let (ceiling, copying_ceiling, passes) =
        (summary.ceiling, summary.copying_ceiling, summary.passes);
    Ok(Run {
        folder: name.to_string(),
        spec,
        spec_text,
        metrics,
        icl,
        losses,
        copies,
        random_tokens,
        last_losses,
        heads,
        last_measures,
        ablations,
        change,
        knockouts,
        explored,
        made,
        ceiling,
        copying_ceiling,
        passes,
        meta,
    })
}

/// The losses of one snapshot; `None` if they are not there.
fn load_losses(folder: &Path, point: &LossPoint) -> Result<Option<Array2<f32>>, ReportError> {
    let path = folder.join(format!("measurements/losses/step-{:08}.safetensors", point.step));
    if !path.exists() {
        return Ok(None);
    }
    let bytes =
        fs::read(&path).map_err(|source| ReportError::Read { path: path.clone(), source })?;
    let expected = [point.by_example.len(), point.by_index.len()];
    let parse = || -> Result<Array2<f32>, String> {
        let file = SafeTensors::deserialize(&bytes).map_err(|error| visible(&error.to_string()))?;
        let tensor = file.tensor("losses").map_err(|error| error.to_string())?;
        if (tensor.dtype(), tensor.shape()) != (Dtype::F32, expected.as_slice()) {
            return Err(format!(
                "`losses` is {:?} of shape {:?}, expected F32 of {expected:?}",
                tensor.dtype(),
                tensor.shape()
            ));
        }
        let values: Vec<f32> = tensor
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err("`losses` holds a value that is not finite".to_string());
        }
        Array2::from_shape_vec(expected, values).map_err(|error| error.to_string())
    };
    parse().map(Some).map_err(|problem| ReportError::Line {
        path,
        line: 1,
        problem,
        help: MEASURE_AGAIN,
    })
}

/// One number a head, by the measure's name.
type Measures = BTreeMap<String, Vec<Option<f64>>>;

fn load_heads(folder: &Path, spec: &Spec) -> Result<(Vec<HeadsPoint>, Measures), ReportError> {
    let table = Table::read(folder.join("measurements/heads.jsonl"), MEASURE, MEASURE_AGAIN)?;
    let mut points: Vec<HeadsPoint> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut last_measures = Measures::new();
    for row in table.parsed()? {
        let (step, tokens) = (row.count("step")?, row.count("tokens")?);
        let layer = row.below("layer", spec.n_layers)?;
        let head = row.below("head", spec.n_heads)?;
        match points.last() {
            Some(last) if last.step == step && last.tokens != tokens => {
                return Err(row.problem(format!(
                    "`tokens` is {tokens}, expected {} as above for step {step}",
                    last.tokens
                )));
            }
            Some(last) if last.step == step => {}
            Some(last) if step < last.step || tokens <= last.tokens => {
                return Err(row.problem(order_problem(step, last.step, tokens, last.tokens)));
            }
            last => {
                if let Some(last) = last {
                    whole(&row, last, spec)?;
                }
                seen.clear();
                last_measures.clear();
                points.push(HeadsPoint { step, tokens, heads: Vec::new() });
            }
        }
        if !seen.insert((layer, head)) {
            return Err(
                row.problem(format!("layer {layer}, head {head} is there twice for step {step}"))
            );
        }
        let score = HeadScore {
            layer,
            head,
            prefix_matching: row.in_range("prefix_matching", -1e-6, 1.0 + 1e-6)?,
            prefix_matching_stderr: row.stderr("prefix_matching_stderr")?,
            copying: row.in_range("copying", -1.0 - 1e-6, 1.0 + 1e-6)?,
            previous_token: row.in_range("previous_token", -1e-6, 1.0 + 1e-6)?,
            ov_copying: row.in_range("ov_copying", -1.0 - 1e-6, 1.0 + 1e-6)?,
            qk_trace: row.optional("qk_trace")?,
            k_composition_recall: row.optional("k_composition_recall")?,
        };
        if let Some(point) = points.last_mut() {
            point.heads.push(score);
        }
        let known = ["step", "tokens", "layer", "head", "role"];
        let measures = row.fields.iter().filter(|(name, _)| {
            !known.contains(&name.as_str()) && !name.ends_with("_stderr") && !name.ends_with("_10")
        });
        for (name, value) in measures {
            let column = last_measures
                .entry(name.clone())
                .or_insert_with(|| vec![None; spec.n_layers * spec.n_heads]);
            column[layer * spec.n_heads + head] = value.as_f64();
        }
    }
    if let Some(last) = points.last() {
        whole(
            &Row { table: &table, line: table.text.lines().count(), fields: Map::new() },
            last,
            spec,
        )?;
    }
    for point in &mut points {
        point.heads.sort_by_key(|score| (score.layer, score.head));
    }
    Ok((points, last_measures))
}

/// Refuses a snapshot that lacks heads: a maximum over some of them would pass for one over all.
fn whole(row: &Row<'_>, point: &HeadsPoint, spec: &Spec) -> Result<(), ReportError> {
    let expected = spec.n_layers * spec.n_heads;
    if point.heads.len() == expected {
        return Ok(());
    }
    Err(row.problem(format!(
        "step {} ends with {} heads, expected {expected}",
        point.step,
        point.heads.len()
    )))
}

fn load_object(folder: &Path, name: &str) -> Result<Map<String, Value>, ReportError> {
    let path = folder.join("measurements").join(name);
    let text = read(&path, MEASURE)?;
    serde_json::from_str(&text).map_err(|error| ReportError::Line {
        path,
        line: error.line().max(1),
        problem: format!("expected a JSON object, found {}", json_problem(&error)),
        help: MEASURE_AGAIN,
    })
}

/// What the report reads of `summary.json`.
struct Summary {
    ceiling: Option<Ceiling>,
    copying_ceiling: Option<CopyingCeiling>,
    passes: Option<f64>,
}

fn load_summary(folder: &Path) -> Result<Summary, ReportError> {
    let summary = load_object(folder, "summary.json")?;
    let path = folder.join("measurements/summary.json");
    let table = Table { path, text: String::new(), help: MEASURE_AGAIN };
    let row = |fields: &Map<String, Value>| Row { table: &table, line: 1, fields: fields.clone() };
    let part = |key: &str| summary.get(key).and_then(Value::as_object).map(row);
    let ceiling = part("ceiling")
        .map(|row| {
            Ok(Ceiling { icl_score: row.number("icl_score")?, stderr: row.stderr("stderr")? })
        })
        .transpose()?;
    let copying_ceiling = part("copying_ceiling")
        .map(|row| {
            let of = |key: &str| row.in_range(key, -1.0 - 1e-6, 1.0 + 1e-6);
            Ok(CopyingCeiling { ceiling: of("ceiling")?, chance: of("chance")? })
        })
        .transpose()?;
    let passes =
        if summary.contains_key("passes") { row(&summary).optional("passes")? } else { None };
    Ok(Summary { ceiling, copying_ceiling, passes })
}

fn parse_spec(path: &Path, text: &str) -> Result<Spec, ReportError> {
    let problem = |problem: String| ReportError::Spec { path: path.to_path_buf(), problem };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        problem(format!("line {line} is not TOML: {}", visible(error.message())))
    })?;
    let get = |key: &str| lookup(&table, key);
    let missing =
        |key: &str, expected: &str| problem(format!("`{key}` is missing, expected {expected}"));
    let wrong = |key: &str, expected: &str, found: &toml::Value| {
        problem(format!("`{key}` is {}, expected {expected}", visible(&found.to_string())))
    };
    let string = |key: &str| match get(key) {
        Some(toml::Value::String(value)) => Ok(value.clone()),
        Some(found) => Err(wrong(key, "a text", found)),
        None => Err(missing(key, "a text")),
    };
    let whole = |key: &str, low: u64, high: u64| {
        let expected = format!("a whole number from {low} to {high}");
        let value = get(key).ok_or_else(|| missing(key, &expected))?;
        let number = value
            .as_integer()
            .and_then(|n| u64::try_from(n).ok())
            .filter(|n| (low..=high).contains(n));
        number.ok_or_else(|| wrong(key, &expected, value))
    };
    let size = |key: &str, low: u64, high: u64| whole(key, low, high).map(|n| n as usize);
    Ok(Spec {
        name: string("name")?,
        seed: whole("seed", 0, i64::MAX as u64)?,
        source: string("data.source")?,
        n_layers: size("model.n_layers", 1, 1024)?,
        d_mlp: if get("model.d_mlp").is_some() { size("model.d_mlp", 0, 1 << 18)? } else { 0 },
        n_heads: size("model.n_heads", 1, 1024)?,
        n_ctx: size("model.n_ctx", 1, 1 << 20)?,
        smeared_keys: match get("model.smeared_keys") {
            None => false,
            Some(toml::Value::Boolean(value)) => *value,
            Some(found) => return Err(wrong("model.smeared_keys", "true or false", found)),
        },
        clamp: match get("model.clamp") {
            None => None,
            Some(toml::Value::Table(clamp)) => Some(Clamp::of(&string("model.clamp.kind")?, clamp)),
            Some(found) => return Err(wrong("model.clamp", "a table", found)),
        },
        control: match get("data.control") {
            None => None,
            Some(toml::Value::String(word)) if word == "shuffled" => Some(Control::Shuffled),
            Some(toml::Value::String(word)) if word == "fragments" => Some(Control::Fragments),
            Some(found) => return Err(wrong("data.control", "shuffled or fragments", found)),
        },
        tokens: whole("train.tokens", 1, i64::MAX as u64)?,
        warmup_steps: if get("train.warmup_steps").is_some() {
            whole("train.warmup_steps", 0, i64::MAX as u64)?
        } else {
            0
        },
        decay_share: match get("train.decay_share") {
            None => 0.0,
            Some(found) => found
                .as_float()
                .filter(|share| (0.0..1.0).contains(share))
                .ok_or_else(|| wrong("train.decay_share", "a number from 0 to below 1", found))?,
        },
        table: table.clone(),
    })
}

/// The value at a dotted path such as `train.lr`.
pub(crate) fn lookup<'a>(table: &'a toml::Table, path: &str) -> Option<&'a toml::Value> {
    let mut keys = path.split('.');
    let mut value = table.get(keys.next()?)?;
    for key in keys {
        value = value.as_table()?.get(key)?;
    }
    Some(value)
}

macro_rules! point {
    ($($name:ident),*) => { $(impl Point for $name { fn at(&self) -> (u64, u64) { (self.step, self.tokens) } })* };
}
point!(TrainPoint, IclPoint, LossPoint, CopyPoint, RandomTokenPoint);
