//! The tables of `measurements/`, a JSON line a row (docs/FORMATS.md).

use std::{collections::BTreeMap, fs, path::Path};

use induction_metrics::{CopySplit, Role};
use induction_train::EvaluationSpec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::heads;
use crate::{Error, status::Seen};

/// Raised whenever a measurement's definition changes, so that stored tables are made again. (A new
/// head measure is seen by its name.)
const MEASURES: u32 = 5;

const META: &str = "meta.json";

/// `meta.json`: what the tables were made with, and from which snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    measures: u32,
    spec_hash: String,
    #[serde(deserialize_with = "induction_engine::engine_name")]
    engine: String,
    evaluation: EvaluationSpec,
    /// Hash of each measured snapshot's manifest, by step.
    pub(super) snapshots: BTreeMap<u64, String>,
}

impl Meta {
    pub(super) fn new(spec_hash: String, engine: String, evaluation: EvaluationSpec) -> Self {
        Self { measures: MEASURES, spec_hash, engine, evaluation, snapshots: BTreeMap::new() }
    }
}

/// A line of a table.
pub(crate) trait Row: Serialize + DeserializeOwned {
    /// The table's file.
    const FILE: &'static str;

    /// The snapshot, then what tells the lines of a snapshot apart: the order in the file.
    fn key(&self) -> [u64; 6];
}

/// Every table's file.
pub(super) const FILES: [&str; 6] = [
    LossRow::FILE,
    IclRow::FILE,
    CopyRow::FILE,
    RandomTokenRow::FILE,
    HeadRow::FILE,
    CompositionRow::FILE,
];

/// A line of `loss_by_index.jsonl`: what the losses of a snapshot say by index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LossRow {
    pub(crate) step: u64,
    pub(super) tokens: u64,
    /// Mean over examples and indices.
    pub(crate) loss: f64,
    pub(super) loss_by_index: Vec<f64>,
    /// Mean over indices of each example, the same ones at every snapshot.
    pub(super) by_example: Vec<f32>,
    /// Where `d_loss_d_ln_index` was taken, in indices.
    pub(super) derivative_index: Vec<f64>,
    pub(super) d_loss_d_ln_index: Vec<f64>,
    /// Loss at the last index minus loss at each: what the ICL score would be for another early
    /// index.
    pub(super) icl_sensitivity: Vec<f64>,
}

/// A line of `icl.jsonl`. The examples are the same at every snapshot, so changes can be compared
/// in pairs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IclRow {
    pub(crate) step: u64,
    pub(super) tokens: u64,
    pub(crate) icl_score: f64,
    pub(super) stderr: f64,
    pub(super) by_example: Vec<f32>,
    /// The score on the same tokens: their loss late in a window less that in a fresh one, where
    /// they stand early.
    pub(crate) same_token_score: f64,
    pub(super) same_token_stderr: f64,
    pub(super) same_token_by_example: Vec<f32>,
    /// The same difference at every index of the fresh window.
    pub(super) same_token_by_index: Vec<f64>,
    /// d loss / d ln index over the indices from the early one on.
    pub(crate) late_slope: f64,
    pub(super) late_slope_by_example: Vec<f32>,
}

/// A line of `copies.jsonl`: the loss of the tokens that an earlier copy in their window foretells,
/// and that of the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyRow {
    pub(crate) step: u64,
    pub(super) tokens: u64,
    /// Mean loss of the foretold tokens; of the others.
    pub(super) foretold_loss: f64,
    pub(super) others_loss: f64,
    /// Losses of each example's foretold tokens, summed; of its others.
    pub(super) foretold_by_example: Vec<f32>,
    pub(super) others_by_example: Vec<f32>,
    /// How many of each example's tokens are foretold.
    pub(super) n_foretold_by_example: Vec<u32>,
    pub(super) n_others_by_example: Vec<u32>,
}

impl CopyRow {
    pub(super) fn new(step: u64, tokens: u64, split: &[CopySplit]) -> Self {
        let (n_foretold, n_others): (usize, usize) =
            split.iter().fold((0, 0), |(a, b), split| (a + split.n_foretold, b + split.n_others));
        let mean = |sum: fn(&CopySplit) -> f64, n: usize| {
            split.iter().map(sum).sum::<f64>() / n.max(1) as f64
        };
        Self {
            step,
            tokens,
            foretold_loss: mean(|split| split.foretold, n_foretold),
            others_loss: mean(|split| split.others, n_others),
            foretold_by_example: split.iter().map(|split| split.foretold as f32).collect(),
            others_by_example: split.iter().map(|split| split.others as f32).collect(),
            n_foretold_by_example: split.iter().map(|split| split.n_foretold as u32).collect(),
            n_others_by_example: split.iter().map(|split| split.n_others as u32).collect(),
        }
    }
}

/// A line of `random_tokens.jsonl`: the loss of one fixed random token an example.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RandomTokenRow {
    pub(crate) step: u64,
    pub(super) tokens: u64,
    /// The paper's loss: the mean of `losses`.
    pub(crate) loss: f64,
    pub(super) losses: Vec<f32>,
}

/// A line of `heads.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    pub scores: BTreeMap<String, Option<f64>>,
}

impl HeadRow {
    /// A measure by name; NaN if the head has none.
    pub fn score(&self, name: &str) -> f64 {
        self.scores.get(name).copied().flatten().unwrap_or(f64::NAN)
    }
}

/// A line of `composition.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CompositionRow {
    pub(super) step: u64,
    pub(super) tokens: u64,
    /// `Q`, `K` or `V`: the input of the later head.
    pub(super) kind: String,
    pub(super) from_layer: usize,
    pub(super) from_head: usize,
    pub(super) to_layer: usize,
    pub(super) to_head: usize,
    /// The ratio of norms less that of random matrices.
    pub(super) score: f64,
    pub(super) raw: f64,
}

macro_rules! one_a_snapshot {
    ($($row:ident: $file:literal),*) => { $(
        impl Row for $row {
            const FILE: &'static str = $file;

            fn key(&self) -> [u64; 6] {
                [self.step, 0, 0, 0, 0, 0]
            }
        }
    )* };
}
one_a_snapshot!(
    LossRow: "loss_by_index.jsonl",
    IclRow: "icl.jsonl",
    CopyRow: "copies.jsonl",
    RandomTokenRow: "random_tokens.jsonl"
);

impl Row for HeadRow {
    const FILE: &'static str = "heads.jsonl";

    fn key(&self) -> [u64; 6] {
        [self.step, self.layer as u64, self.head as u64, 0, 0, 0]
    }
}

impl Row for CompositionRow {
    const FILE: &'static str = "composition.jsonl";

    fn key(&self) -> [u64; 6] {
        let kind = u64::from(self.kind.bytes().next().unwrap_or_default());
        let [a, b, c, d] =
            [self.to_layer, self.to_head, self.from_layer, self.from_head].map(|n| n as u64);
        [self.step, a, b, c, d, kind]
    }
}

/// Every table of one run.
pub(super) struct Tables {
    pub(super) meta: Meta,
    pub(super) losses: Vec<LossRow>,
    pub(super) icl: Vec<IclRow>,
    pub(super) copies: Vec<CopyRow>,
    pub(super) random_tokens: Vec<RandomTokenRow>,
    pub(super) heads: Vec<HeadRow>,
    pub(super) composition: Vec<CompositionRow>,
}

impl Tables {
    /// The stored tables if they were made as `fresh` says, else empty ones: a table is never mixed
    /// from two definitions, and one that cannot be read is made again from the snapshots.
    pub(super) fn read(folder: &Path, fresh: Meta) -> Self {
        let same = |tables: &Self| {
            Meta { snapshots: BTreeMap::new(), ..tables.meta.clone() } == fresh
                && tables.heads.first().is_none_or(|row| heads::is_current(&row.scores))
        };
        Self::stored(folder).filter(same).unwrap_or_else(|| Self::new(fresh))
    }

    /// Without a row.
    pub(super) fn new(meta: Meta) -> Self {
        Self {
            meta,
            losses: Vec::new(),
            icl: Vec::new(),
            copies: Vec::new(),
            random_tokens: Vec::new(),
            heads: Vec::new(),
            composition: Vec::new(),
        }
    }

    /// Whatever tables are there, if all of them can be read.
    pub(super) fn stored(folder: &Path) -> Option<Self> {
        Some(Self {
            meta: serde_json::from_slice(&fs::read(folder.join(META)).ok()?).ok()?,
            losses: read_rows(folder)?,
            icl: read_rows(folder)?,
            copies: read_rows(folder)?,
            random_tokens: read_rows(folder)?,
            heads: read_rows(folder)?,
            composition: read_rows(folder)?,
        })
    }

    /// Drops what was not measured on exactly these snapshots.
    pub(super) fn keep_only(&mut self, hashes: &BTreeMap<u64, String>) {
        self.meta.snapshots.retain(|step, hash| hashes.get(step) == Some(hash));
        let kept = &self.meta.snapshots;
        keep(&mut self.losses, kept);
        keep(&mut self.icl, kept);
        keep(&mut self.copies, kept);
        keep(&mut self.random_tokens, kept);
        keep(&mut self.heads, kept);
        keep(&mut self.composition, kept);
    }

    /// Drops these snapshots, so that they can be measured again.
    pub(super) fn drop_steps(&mut self, steps: &[u64]) {
        let mut kept = self.meta.snapshots.clone();
        kept.retain(|step, _| !steps.contains(step));
        self.keep_only(&kept);
    }

    /// The last measured snapshot.
    pub(super) fn last_seen(&self) -> Seen {
        let (Some(loss), Some(icl)) = (self.losses.last(), self.icl.last()) else {
            return Seen::default();
        };
        let heads = self.heads.iter().filter(|row| row.step == loss.step);
        let best = heads.map(|row| row.score("prefix_matching")).fold(0.0, f64::max);
        let (loss, icl_score) = (Some(loss.loss), Some(icl.same_token_score));
        Seen { loss, icl_score, prefix_matching: Some(best), tokens_per_s: None }
    }

    /// The tables first, the list of what they hold last: a kill between them costs what was
    /// measured since the last write.
    pub(super) fn write(&mut self, folder: &Path) -> Result<(), Error> {
        write_rows(folder, &mut self.losses)?;
        write_rows(folder, &mut self.icl)?;
        write_rows(folder, &mut self.copies)?;
        write_rows(folder, &mut self.random_tokens)?;
        write_rows(folder, &mut self.heads)?;
        write_rows(folder, &mut self.composition)?;
        write_json(&folder.join(META), &self.meta)
    }
}

pub(crate) fn keep<R: Row>(rows: &mut Vec<R>, snapshots: &BTreeMap<u64, String>) {
    rows.retain(|row| snapshots.contains_key(&row.key()[0]));
}

pub(crate) fn read_rows<R: Row>(folder: &Path) -> Option<Vec<R>> {
    fs::read_to_string(folder.join(R::FILE))
        .ok()?
        .lines()
        .map(|line| serde_json::from_str(line).ok())
        .collect()
}

pub(crate) fn write_rows<R: Row>(folder: &Path, rows: &mut [R]) -> Result<(), Error> {
    rows.sort_by_key(Row::key);
    let mut text = Vec::new();
    for row in &*rows {
        serde_json::to_writer(&mut text, row).expect("plain structs serialize");
        text.push(b'\n');
    }
    let path = folder.join(R::FILE);
    induction_files::write_atomic(&path, &text).map_err(Error::io(path))
}

/// One JSON value as a file.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).expect("plain structs serialize");
    induction_files::write_atomic(path, &text).map_err(Error::io(path))
}
