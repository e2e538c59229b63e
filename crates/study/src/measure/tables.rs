//! The tables that measuring makes (docs/FORMATS.md), as it works on them.

use std::{collections::BTreeMap, path::Path};

use induction_metrics::CopySplit;
use induction_records::{
    CompositionRow, CopyRow, EvaluationSpec, HeadRow, IclRow, LossRow, MeasuredFrom,
    RandomTokenRow, Row, Stage, read_json, read_rows, write_json, write_rows,
};

use super::heads;
use crate::{Error, caller::Seen};

/// Raised whenever a measurement's definition changes, so that stored tables are made again. (A new
/// measure of heads is seen by its name, be it from activations or from weights.)
const MEASURES: u32 = 6;

/// Every table's file.
pub(super) const FILES: [&str; 6] = [
    LossRow::FILE,
    IclRow::FILE,
    CopyRow::FILE,
    RandomTokenRow::FILE,
    HeadRow::FILE,
    CompositionRow::FILE,
];

/// What tables are made with that hold nothing yet.
pub(super) fn nothing_yet(
    spec_hash: String,
    engine: String,
    evaluation: EvaluationSpec,
) -> MeasuredFrom {
    MeasuredFrom { measures: MEASURES, spec_hash, engine, evaluation, snapshots: BTreeMap::new() }
}

/// The row of a snapshot's losses, split by whether a copy foretells the token; an entry of `split`
/// is an example.
pub(super) fn copy_row(step: u64, tokens: u64, split: &[CopySplit]) -> CopyRow {
    let (n_foretold, n_others): (usize, usize) =
        split.iter().fold((0, 0), |(a, b), split| (a + split.n_foretold, b + split.n_others));
    let mean =
        |sum: fn(&CopySplit) -> f64, n: usize| split.iter().map(sum).sum::<f64>() / n.max(1) as f64;
    CopyRow {
        step,
        tokens,
        foretold_loss: mean(|split| split.foretold, n_foretold),
        others_loss: mean(|split| split.others, n_others),
        foretold_by_example: split.iter().map(|split| split.foretold).collect(),
        others_by_example: split.iter().map(|split| split.others).collect(),
        n_foretold_by_example: split.iter().map(|split| split.n_foretold as u32).collect(),
        n_others_by_example: split.iter().map(|split| split.n_others as u32).collect(),
    }
}

/// Every table of one run.
pub(super) struct Tables {
    pub(super) made: MeasuredFrom,
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
    pub(super) fn read(folder: &Path, fresh: MeasuredFrom) -> Self {
        let same = |tables: &Self| {
            MeasuredFrom { snapshots: BTreeMap::new(), ..tables.made.clone() } == fresh
                && tables.heads.first().is_none_or(|row| heads::is_current(&row.scores))
        };
        Self::stored(folder).filter(same).unwrap_or_else(|| Self::new(fresh))
    }

    /// Without a row.
    pub(super) fn new(made: MeasuredFrom) -> Self {
        Self {
            made,
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
            made: read_json(&folder.join(MeasuredFrom::FILE), Stage::Measuring).ok()?,
            losses: read_rows(folder).ok()?,
            icl: read_rows(folder).ok()?,
            copies: read_rows(folder).ok()?,
            random_tokens: read_rows(folder).ok()?,
            heads: read_rows(folder).ok()?,
            composition: read_rows(folder).ok()?,
        })
    }

    /// Drops what was not measured on exactly these snapshots.
    pub(super) fn keep_only(&mut self, hashes: &BTreeMap<u64, String>) {
        self.made.snapshots.retain(|step, hash| hashes.get(step) == Some(hash));
        let kept = &self.made.snapshots;
        keep(&mut self.losses, kept);
        keep(&mut self.icl, kept);
        keep(&mut self.copies, kept);
        keep(&mut self.random_tokens, kept);
        keep(&mut self.heads, kept);
        keep(&mut self.composition, kept);
    }

    /// Drops these snapshots, so that they can be measured again.
    pub(super) fn drop_steps(&mut self, steps: &[u64]) {
        let mut kept = self.made.snapshots.clone();
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
        Ok(write_json(&folder.join(MeasuredFrom::FILE), &self.made)?)
    }
}

/// Drops the rows of steps that are not among these.
pub(crate) fn keep<R: Row>(rows: &mut Vec<R>, snapshots: &BTreeMap<u64, String>) {
    rows.retain(|row| snapshots.contains_key(&row.at().0));
}
