//! `scan.json`: what a scan of a trained model leaves (docs/FORMATS.md). A report need not have
//! one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use induction_metrics::Role;
use serde_json::Value;

use super::explore::texts;
use super::object::{Object, finite};
use super::table::{json_problem, read};
use super::{HeadName, PromptScore};
use crate::ReportError;

const VERSION: u64 = 2;
const FILE: &str = "scan.json";
const MISSING: &str = "scan a model first (`induction scan MODEL --out DIR`)";

/// The behaviours of argument 4, as prompts are named.
pub(crate) const BEHAVIOURS: [&str; 3] = ["literal copying", "translation", "pattern matching"];

/// A trained model, as a scan found it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Scan {
    /// Its folder under `models/`; of a series `SERIES/FOLDER`.
    pub folder: String,
    /// The model.
    pub model: ScanModel,
    /// What ran it.
    pub engine: String,
    /// Random tokens are drawn from ids below this; from the whole vocabulary if there is no limit.
    pub ids_below: Option<usize>,
    /// Every head, once, by layer and head.
    pub heads: Vec<ScanHead>,
    /// Losses on random tokens that repeat.
    pub repeated: ScanRepeated,
    /// In-context learning on a text, if one was given.
    pub icl: Option<ScanIcl>,
    /// Sets of heads removed; empty if no head matches prefixes.
    pub removed: Vec<ScanRemoval>,
    /// Every head on argument 4's prompts; empty without a tokenizer.
    pub behaviours: Vec<PromptScore>,
    /// Attention of a few heads on the first prompt of each behaviour.
    pub shown: Vec<ScanPrompt>,
}

/// What a scan says of the model itself; foreign text is made inert.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScanModel {
    /// The file's or folder's name.
    pub name: String,
    /// Its kind, such as `llama`.
    pub family: String,
    /// The encodings of its weights.
    pub encoding: String,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads in each.
    pub n_heads: usize,
    /// Heads that keys and values have.
    pub n_key_value_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Hidden width of the MLP, 0 without.
    pub d_mlp: usize,
    /// Tokens of the vocabulary.
    pub d_vocab: usize,
    /// Longest sequence, in tokens.
    pub n_ctx: usize,
    /// Learned scalars.
    pub n_params: u64,
}

/// One head's scores that the report shows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScanHead {
    /// Which.
    pub name: HeadName,
    /// What it is.
    pub role: Role,
    /// The prefix-matching score (paper.md, 3).
    pub prefix_matching: f64,
    /// Its standard error over examples; `None` where there was only one.
    pub prefix_matching_stderr: Option<f64>,
    /// The copying score (paper.md, 3); `None` for a head that adds nothing.
    pub copying: Option<f64>,
    /// Its standard error over examples.
    pub copying_stderr: Option<f64>,
    /// The previous-token score (paper.md, 3).
    pub previous_token: f64,
}

/// Losses in nats on a start token and two copies of a block of random tokens.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScanRepeated {
    /// How many such sequences.
    pub examples: usize,
    /// Tokens of a copy.
    pub block: usize,
    /// Mean loss of the first copy, and its standard error.
    pub first: (f64, Option<f64>),
    /// Of the second, without its first token.
    pub second: (f64, Option<f64>),
    /// Mean loss of each token after the start.
    pub by_position: Vec<f64>,
}

/// In-context learning on windows of a text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScanIcl {
    /// The text's name.
    pub text: String,
    /// Windows.
    pub examples: usize,
    /// The late index and the early one.
    pub indices: [usize; 2],
    /// Loss at the late index less that at the early one, in nats, and its standard error.
    pub score: (f64, Option<f64>),
    /// Mean loss of the (k+1)-th token of a window.
    pub by_index: Vec<f64>,
}

/// Which heads were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovedKind {
    /// All that match prefixes.
    Induction,
    /// As many others of the same layers.
    Matched,
    /// As many others of any layer.
    Any,
}

/// The model without a set of heads, everything above them free to change.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScanRemoval {
    /// Which heads, in words.
    pub kind: RemovedKind,
    /// Which.
    pub heads: Vec<HeadName>,
    /// Mean loss of the first copy of repeated random tokens, in nats.
    pub first: f64,
    /// Of the second.
    pub second: f64,
    /// By how much the second rises, and the standard error of that over examples, paired.
    pub second_change: (f64, Option<f64>),
    /// The ICL score, where it was taken.
    pub icl: Option<f64>,
}

/// What a few heads attend to on a prompt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScanPrompt {
    /// One of argument 4's.
    pub behaviour: String,
    /// Its tokens, made visible.
    pub tokens: Vec<String>,
    /// Each head with the attention of each position on those up to it, in 255ths.
    pub heads: Vec<(HeadName, Vec<Vec<u8>>)>,
}

impl Scan {
    /// The model's name, and what else tells this scan of it from others.
    pub(crate) fn title(&self) -> String {
        match self.ids_below {
            Some(limit) => format!("{}, random tokens below {limit}", self.model.name),
            None => self.model.name.clone(),
        }
    }

    /// The head that matches prefixes best; a scan has at least one head.
    pub(crate) fn best_head(&self) -> &ScanHead {
        let better = |best: &ScanHead, head: &ScanHead| head.prefix_matching > best.prefix_matching;
        self.heads
            .iter()
            .fold(&self.heads[0], |best, head| if better(best, head) { head } else { best })
    }

    /// Heads that match prefixes above a limit.
    pub(crate) fn matching(&self, above: f64) -> impl Iterator<Item = &ScanHead> {
        self.heads.iter().filter(move |head| head.prefix_matching > above)
    }

    pub(crate) fn head(&self, name: HeadName) -> Option<&ScanHead> {
        self.heads.iter().find(|head| head.name == name)
    }

    /// The models of one kind that training or compressing made otherwise.
    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        let shape = |scan: &Self| {
            let m = &scan.model;
            [m.n_layers, m.n_heads, m.d_model, m.d_mlp, m.d_vocab]
        };
        shape(self) == shape(other)
    }
}

/// Reads `dir/models/NAME/scan.json` and, of series, `dir/models/NAME/FOLDER/scan.json`, ordered by
/// folder; nothing if there is no `models`.
///
/// # Errors
/// If a scan cannot be read or is damaged.
pub fn load_scans(dir: &Path) -> Result<Vec<Scan>, ReportError> {
    let models = dir.join("models");
    if !models.exists() {
        return Ok(Vec::new());
    }
    let mut scans = Vec::new();
    for (folder, name) in folders(&models)? {
        scans.extend(scans_in(&folder, &name)?);
    }
    Ok(scans)
}

/// Reads `folder/scan.json`, or of several models that were scanned into one folder
/// `folder/*/scan.json`, in order.
///
/// # Errors
/// If there is none, or one cannot be read or is damaged.
pub fn load_scan(folder: &Path) -> Result<Vec<Scan>, ReportError> {
    let name =
        folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let scans = if folder.is_dir() { scans_in(folder, &name)? } else { Vec::new() };
    if scans.is_empty() {
        return Err(ReportError::Missing { path: folder.join(FILE), help: MISSING });
    }
    Ok(scans)
}

fn scans_in(folder: &Path, name: &str) -> Result<Vec<Scan>, ReportError> {
    if folder.join(FILE).exists() {
        return Ok(vec![parse(&folder.join(FILE), name.to_string())?]);
    }
    let members = folders(folder)?.into_iter().filter(|(member, _)| member.join(FILE).exists());
    members.map(|(member, own)| parse(&member.join(FILE), format!("{name}/{own}"))).collect()
}

/// The folders in a folder that are nobody's temporaries, by name.
fn folders(parent: &Path) -> Result<Vec<(PathBuf, String)>, ReportError> {
    let read = |source| ReportError::Read { path: parent.to_path_buf(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(parent).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name =
            path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if path.is_dir() && !name.starts_with('.') {
            found.push((path, name));
        }
    }
    found.sort();
    Ok(found)
}

fn parse(path: &Path, folder: String) -> Result<Scan, ReportError> {
    parse_scan(&read(path, MISSING)?, path, folder)
}

/// Reads the text of a scan.json, which errors say to be in `path`; `folder` is its name among
/// others.
///
/// # Errors
/// If it is damaged.
pub fn parse_scan(text: &str, path: &Path, folder: String) -> Result<Scan, ReportError> {
    let problem = |problem: String| ReportError::Scan { path: path.to_path_buf(), problem };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        problem(format!("line {}: expected JSON, found {}", error.line(), json_problem(&error)))
    })?;
    let Value::Object(fields) = &value else {
        return Err(problem("expected a JSON object".to_string()));
    };
    let file = Object { path, at: String::new(), fields };
    // Before anything else: of another version everything else may be otherwise.
    file.value("version", "2, which this report reads (scan the model again)", |value| {
        value.as_u64().filter(|n| *n == VERSION)
    })?;
    file.only(&[
        "version",
        "model",
        "engine",
        "ids_below",
        "heads",
        "repeated",
        "icl",
        "ablation",
        "behaviours",
        "shown",
    ])?;
    let ids_below = match file.fields.get("ids_below") {
        None => None,
        Some(_) => Some(file.size("ids_below", 1, 1 << 30)?),
    };
    let model = model(&file.object("model")?)?;
    Ok(Scan {
        engine: file.text("engine")?,
        ids_below,
        heads: heads(&file, &model)?,
        repeated: repeated(&file.object("repeated")?)?,
        icl: file.optional_object("icl")?.map(|icl| in_context(&icl)).transpose()?,
        removed: removed(&file, &model)?,
        behaviours: behaviours(&file, &model)?,
        shown: shown(&file, &model)?,
        folder,
        model,
    })
}

impl Object<'_> {
    fn head_name(&self, model: &ScanModel) -> Result<HeadName, ReportError> {
        Ok(HeadName {
            layer: self.size("layer", 0, model.n_layers - 1)?,
            head: self.size("head", 0, model.n_heads - 1)?,
        })
    }

    fn behaviour(&self) -> Result<String, ReportError> {
        let known =
            |value: &Value| BEHAVIOURS.into_iter().find(|name| value.as_str() == Some(name));
        self.value("behaviour", &BEHAVIOURS.join(", "), known).map(str::to_string)
    }
}

fn model(object: &Object<'_>) -> Result<ScanModel, ReportError> {
    object.only(&[
        "name",
        "family",
        "encoding",
        "n_layers",
        "n_heads",
        "n_key_value_heads",
        "d_model",
        "d_head",
        "d_mlp",
        "d_vocab",
        "n_ctx",
        "n_params",
    ])?;
    let width = |key: &str, low: usize| object.size(key, low, 1 << 30);
    Ok(ScanModel {
        name: object.text("name")?,
        family: object.text("family")?,
        encoding: object.text("encoding")?,
        n_layers: object.size("n_layers", 1, 1024)?,
        n_heads: object.size("n_heads", 1, 1024)?,
        n_key_value_heads: object.size("n_key_value_heads", 1, 1024)?,
        d_model: width("d_model", 1)?,
        d_head: width("d_head", 1)?,
        d_mlp: width("d_mlp", 0)?,
        d_vocab: width("d_vocab", 1)?,
        n_ctx: width("n_ctx", 1)?,
        n_params: object.value("n_params", "a whole number", Value::as_u64)?,
    })
}

/// Refuses a scan that lacks heads: a maximum over some of them would pass for one over all.
fn heads(file: &Object<'_>, model: &ScanModel) -> Result<Vec<ScanHead>, ReportError> {
    let (mut heads, mut seen) = (Vec::new(), BTreeSet::new());
    for object in file.objects("heads")? {
        let name = object.head_name(model)?;
        if !seen.insert(name) {
            return Err(
                object.problem(format!("`{}` is head {name}, which is there twice", object.at))
            );
        }
        // Further scores may come and go: they are numbers, and the report shows none of them.
        for key in
            object.fields.keys().filter(|key| !["layer", "head", "role"].contains(&key.as_str()))
        {
            object.optional(key, "a finite number", finite)?;
        }
        heads.push(ScanHead {
            name,
            role: object.value("role", "a head's role", |value| {
                serde_json::from_value(value.clone()).ok()
            })?,
            prefix_matching: object.within("prefix_matching", 0.0, 1.0)?,
            prefix_matching_stderr: object.stderr("prefix_matching_stderr")?,
            copying: object.optional("copying", "a number from -1 to 1", |value| {
                finite(value).filter(|x| x.abs() < 1.0 + 1e-6)
            })?,
            copying_stderr: object.stderr("copying_stderr")?,
            previous_token: object.within("previous_token", 0.0, 1.0)?,
        });
    }
    let expected = model.n_layers * model.n_heads;
    if heads.len() != expected {
        return Err(file.problem(format!(
            "`heads` has {} entries, expected {expected}, one a head",
            heads.len()
        )));
    }
    heads.sort_by_key(|head| head.name);
    Ok(heads)
}

fn repeated(object: &Object<'_>) -> Result<ScanRepeated, ReportError> {
    object.only(&[
        "examples",
        "block",
        "first",
        "first_stderr",
        "second",
        "second_stderr",
        "by_position",
    ])?;
    let block = object.size("block", 1, 1 << 20)?;
    Ok(ScanRepeated {
        examples: object.size("examples", 1, 1 << 30)?,
        block,
        first: object.loss("first")?,
        second: object.loss("second")?,
        by_position: object.numbers("by_position", 2 * block)?,
    })
}

fn in_context(object: &Object<'_>) -> Result<ScanIcl, ReportError> {
    object.only(&[
        "text",
        "examples",
        "length",
        "early",
        "late",
        "half_width",
        "score",
        "stderr",
        "by_example",
        "loss",
        "by_index",
    ])?;
    let (examples, length) =
        (object.size("examples", 1, 1 << 30)?, object.size("length", 1, 1 << 30)?);
    object.size("half_width", 0, length)?;
    object.numbers("by_example", examples)?;
    object.number("loss")?;
    Ok(ScanIcl {
        text: object.text("text")?,
        examples,
        indices: [object.size("late", 1, length)?, object.size("early", 1, length)?],
        score: (object.number("score")?, object.stderr("stderr")?),
        by_index: object.numbers("by_index", length)?,
    })
}

fn removed(file: &Object<'_>, model: &ScanModel) -> Result<Vec<ScanRemoval>, ReportError> {
    let Some(ablation) = file.optional_object("ablation")? else { return Ok(Vec::new()) };
    ablation.only(&["sets"])?;
    let sets = ablation.objects("sets")?;
    let mut all = Vec::new();
    for set in &sets {
        set.only(&[
            "kind",
            "heads",
            "first",
            "second",
            "second_change",
            "second_change_stderr",
            "icl",
        ])?;
        let kind =
            set.value("kind", "induction, matched or any", |value| match value.as_str()? {
                "induction" => Some(RemovedKind::Induction),
                "matched" => Some(RemovedKind::Matched),
                "any" => Some(RemovedKind::Any),
                _ => None,
            })?;
        let pair = |value: &Value| {
            let [layer, head] = value.as_array()?.as_slice() else { return None };
            let below =
                |value: &Value, end: usize| value.as_u64().map(|n| n as usize).filter(|n| *n < end);
            Some(HeadName {
                layer: below(layer, model.n_layers)?,
                head: below(head, model.n_heads)?,
            })
        };
        let pairs = |value: &Value| value.as_array()?.iter().map(pair).collect::<Option<Vec<_>>>();
        all.push(ScanRemoval {
            kind,
            heads: set.value("heads", "[layer, head] of heads of the model", |value| {
                pairs(value).filter(|heads| !heads.is_empty())
            })?,
            first: set.number("first")?,
            second: set.number("second")?,
            second_change: set.loss("second_change")?,
            icl: set.optional("icl", "a finite number", finite)?,
        });
    }
    let whole = all.iter().filter(|set| set.kind == RemovedKind::Induction).count();
    if whole != 1 {
        return Err(ablation
            .problem(format!("`ablation.sets` has {whole} sets of kind induction, expected 1")));
    }
    Ok(all)
}

fn behaviours(file: &Object<'_>, model: &ScanModel) -> Result<Vec<PromptScore>, ReportError> {
    let score = |object: &Object<'_>| {
        object.only(&[
            "behaviour",
            "layer",
            "head",
            "share",
            "share_stderr",
            "chance",
            "share_among",
            "share_among_stderr",
            "chance_among",
            "literal_share_among",
            "queries",
            "attribution",
            "attribution_total",
        ])?;
        let share = |name: &str, chance: &str| {
            let stderr = object.stderr(&format!("{name}_stderr"))?;
            Ok::<_, ReportError>((
                object.within(name, 0.0, 1.0)?,
                stderr,
                object.within(chance, 0.0, 1.0)?,
            ))
        };
        Ok(PromptScore {
            behaviour: object.behaviour()?,
            head: object.head_name(model)?,
            share: share("share", "chance")?,
            among: share("share_among", "chance_among")?,
            literal: object.optional("literal_share_among", "a share", finite)?,
            attribution: (object.number("attribution")?, object.number("attribution_total")?),
        })
    };
    file.objects("behaviours")?.iter().map(score).collect()
}

fn shown(file: &Object<'_>, model: &ScanModel) -> Result<Vec<ScanPrompt>, ReportError> {
    let prompt = |object: &Object<'_>| {
        object.only(&["behaviour", "tokens", "heads"])?;
        let tokens = object.value("tokens", "a list of texts", |value| {
            texts(value).filter(|list| !list.is_empty())
        })?;
        let rows = |value: &Value| -> Option<Vec<Vec<u8>>> {
            let byte = |value: &Value| value.as_u64().and_then(|n| u8::try_from(n).ok());
            let row = |(i, row): (usize, &Value)| {
                let row = row.as_array()?.iter().map(byte).collect::<Option<Vec<u8>>>()?;
                (row.len() == i + 1).then_some(row)
            };
            let rows = value.as_array()?.iter().enumerate().map(row).collect::<Option<Vec<_>>>()?;
            (rows.len() == tokens.len()).then_some(rows)
        };
        let mut heads = Vec::new();
        for head in object.objects("heads")? {
            head.only(&["layer", "head", "attention"])?;
            let expected = format!("{} rows of 1, 2, .. entries from 0 to 255", tokens.len());
            heads.push((head.head_name(model)?, head.value("attention", &expected, rows)?));
        }
        Ok(ScanPrompt { behaviour: object.behaviour()?, tokens, heads })
    };
    file.objects("shown")?.iter().map(prompt).collect()
}
