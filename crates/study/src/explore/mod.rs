//! What the report's reader can explore: the losses of a text's tokens over training, and what
//! every head attends to and adds to the prediction, on that text and on argument 4's prompts
//! (docs/FORMATS.md: maps).

mod answers;
mod maps;
pub(crate) mod prompts;
mod text;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use induction_records::{
    ExploredFrom, FollowedText, Prompt, PromptRow, Row, RunSpec, Stage, TextRow, read_json,
    read_rows, step_file, write_json, write_rows,
};

use self::{
    answers::ask,
    maps::{Maps, write_maps},
    prompts::prompts,
    text::Text,
};
use crate::{
    Error,
    measure::tables::keep,
    source::Source,
    stages::{OverSnapshots, RunContext, Snapshot, drive, has_weights, manifest_hashes},
};

pub(crate) use self::answers::{answers, shown};

/// Positions of the text that maps are kept of, the start token among them. A page holds the maps
/// of every head of every model at many snapshots, and they grow with the square of this.
pub const MAP_TOKENS: usize = 128;

/// Raised whenever a definition here changes, so that stored maps are made again.
const VERSION: u32 = 2;

/// The same of the prompts alone, which can be put again to a run whose maps cannot be made again.
const PROMPTS_VERSION: u32 = 1;

/// Follows a text over every kept snapshot whose weights are there, keeps every head's maps at
/// those whose weights will stay, and puts the prompts to the last one. `text`: a file; without one
/// the last text, or a held-out example.
///
/// # Errors
/// A text that cannot be used, a run that another process works on, the engine's, the metrics' and
/// the system's; [`Error::Interrupted`] after a signal. Whatever the error, what is done is kept.
pub fn explore(context: &RunContext<'_>, text: Option<&Path>) -> Result<(), Error> {
    let RunContext { spec, source, run, .. } = context;
    let folder = context.measurements();
    let maps = context.measurements_in("maps")?;
    let lease = context.lease()?;
    let mut engine = context.engine()?;
    let text = Text::open(text, &folder, source, spec.model.n_ctx)?;
    let left = left(spec, run, &text, engine.name())?;
    if left.missing.is_empty() && left.asked {
        return Ok(());
    }
    let mut exploring = Exploring { context, text, left, folder, maps };
    if exploring.left.made.snapshots.is_empty() {
        // Another text's maps would be taken for this one's.
        exploring.remove_maps()?;
        exploring.left.made.prompts = None;
        exploring.write()?;
    }
    exploring.text.write(&exploring.folder, source)?;
    let left = &exploring.left;
    let last = (!left.asked || left.made.prompts.is_none()).then_some(left.last);
    let missing = left.missing.clone();
    drive(context, &lease, engine.as_mut(), Stage::Exploring, &missing, last, &mut exploring)
}

/// The stage in work.
struct Exploring<'a> {
    context: &'a RunContext<'a>,
    text: Text,
    left: Left,
    folder: PathBuf,
    maps: PathBuf,
}

impl Exploring<'_> {
    fn remove_maps(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.maps).map_err(Error::io(&self.maps))? {
            let path = entry.map_err(Error::io(&self.maps))?.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                induction_files::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }
}

impl OverSnapshots for Exploring<'_> {
    fn snapshot(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let losses = at.engine.losses(self.text.tokens.view(), &[])?;
        let losses = losses.iter().map(|&loss| f64::from(loss)).collect();
        self.left.rows.push(TextRow { step: at.step, tokens: at.tokens, losses });
        at.lease.check()?;
        if self.context.spec.weight_steps().contains(&at.step) {
            let tokens: Vec<u32> = self.text.tokens.iter().take(MAP_TOKENS + 1).copied().collect();
            let found = Maps::of(at.engine, at.params, &tokens, &format!("step {}", at.step))?;
            write_maps(&self.maps.join(step_file(at.step)), [(String::new(), &found)].into_iter())?;
        }
        self.left.made.snapshots.insert(at.step, self.left.hashes[&at.step].clone());
        Ok(())
    }

    fn last(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let n_ctx = self.context.spec.model.n_ctx;
        let prompts = self
            .context
            .source
            .tokenizer()
            .map_or_else(Vec::new, |tokenizer| prompts(tokenizer, n_ctx));
        at.lease.check()?;
        ask(at.engine, at.params, &prompts, &self.folder, at.step, at.tokens)?;
        self.left.made.prompts = self.left.hashes.get(&at.step).cloned();
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        write_rows(&self.folder, &mut self.left.rows)?;
        Ok(write_json(&self.folder.join(ExploredFrom::FILE), &self.left.made)?)
    }
}

/// What of a run is explored, and what is not.
struct Left {
    made: ExploredFrom,
    rows: Vec<TextRow>,
    /// Of every kept snapshot's manifest.
    hashes: BTreeMap<u64, String>,
    /// The last snapshot's step.
    last: u64,
    missing: Vec<u64>,
    /// Whether the prompts were put to it.
    asked: bool,
}

fn left(spec: &RunSpec, run: &Path, text: &Text, engine: &str) -> Result<Left, Error> {
    let folder = run.join("measurements");
    let fresh = ExploredFrom {
        version: VERSION,
        prompts_version: PROMPTS_VERSION,
        spec_hash: spec.training_hash(),
        engine: engine.to_string(),
        text: text.hash(),
        snapshots: BTreeMap::new(),
        prompts: None,
    };
    let (mut made, mut rows) = stored(&folder, &fresh).unwrap_or((fresh, Vec::new()));
    let (steps, mapped) = (spec.snapshot_steps(), spec.weight_steps());
    let hashes = manifest_hashes(run, &steps)?;
    let complete =
        |step: &u64| !mapped.contains(step) || folder.join("maps").join(step_file(*step)).exists();
    made.snapshots.retain(|step, hash| hashes.get(step) == Some(hash) && complete(step));
    keep(&mut rows, &made.snapshots);
    let missing = steps
        .iter()
        .copied()
        .filter(|&step| !made.snapshots.contains_key(&step) && has_weights(run, step))
        .collect();
    let last = steps[steps.len() - 1];
    let asked = made.prompts.as_ref() == hashes.get(&last)
        && [FollowedText::FILE, Prompt::FILE, PromptRow::FILE, "maps/prompts.safetensors"]
            .iter()
            .all(|name| folder.join(name).exists());
    Ok(Left { made, rows, hashes, last, missing, asked })
}

/// Whether [`explore`] of the last text with that engine would find nothing to do.
pub fn is_done(spec: &RunSpec, source: &Source, run: &Path, engine: &str) -> bool {
    Text::open(None, &run.join("measurements"), source, spec.model.n_ctx)
        .and_then(|text| left(spec, run, &text, engine))
        .is_ok_and(|left| left.missing.is_empty() && left.asked)
}

/// The table that is there, if it was made as `fresh` says.
fn stored(folder: &Path, fresh: &ExploredFrom) -> Option<(ExploredFrom, Vec<TextRow>)> {
    let mut made: ExploredFrom =
        read_json(&folder.join(ExploredFrom::FILE), Stage::Exploring).ok()?;
    if made.prompts_version != fresh.prompts_version {
        made.prompts_version = fresh.prompts_version;
        made.prompts = None;
    }
    let same = ExploredFrom { snapshots: BTreeMap::new(), prompts: None, ..made.clone() } == *fresh;
    same.then_some((made, read_rows(folder).ok()?))
}
