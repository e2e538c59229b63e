//! What a scan of a trained model leaves: `scan.json`.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use induction_metrics::{CopyingCeiling, Role};
use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib_with_limit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    BehaviourScores, ByCause, CutHeads, Error, HeadId, PathsInto, StandsOut,
    heads::{NamedScores, take_head},
    read::{parse_value, stderr, within},
};

/// `scan.json`. Losses and scores are in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelScan {
    /// [`ModelScan::VERSION`].
    pub version: u32,
    /// The model.
    pub model: ModelFacts,
    /// What ran it.
    pub engine: String,
    /// How it was run.
    pub how: HowRun,
    /// Random tokens are drawn from ids below this; from the whole vocabulary if there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids_below: Option<usize>,
    /// Every head, once.
    pub heads: Vec<ScanHead>,
    /// The scale of the copying score of heads so wide between these embeddings; nothing where causes
    /// were not asked for, or of embeddings that are too wide for it.
    pub copying_ceiling: Option<CopyingCeiling>,
    /// What heads do by cause; empty where it was not asked, or the model's context or vocabulary is
    /// too small for the prompts.
    pub causes: Vec<ByCause>,
    /// The heads that stand out by what they do, measure by measure.
    pub roles: Vec<StandsOut>,
    /// What heads' induction patterns are worth together; empty where causes were not asked for.
    pub cut: Vec<CutHeads>,
    /// What feeds the heads that match prefixes best; empty where causes were not asked for or no
    /// head matches prefixes.
    pub paths: Vec<PathsInto>,
    /// Losses on random tokens that repeat.
    pub repeated: RepeatedLosses,
    /// In-context learning on a text, if one was given.
    pub icl: Option<IclOnText>,
    /// Without its induction heads; nothing if no head matches prefixes.
    pub ablation: Option<Removals>,
    /// Every head on argument 4's prompts; empty without a tokenizer.
    pub behaviours: Vec<BehaviourScores>,
    /// Attention of every head on repeated random tokens, on the first prompt of each behaviour, and
    /// on the beginning of the text.
    pub shown: Vec<ShownText>,
}

/// What a scan says of the model itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFacts {
    /// The file's or folder's name.
    pub name: String,
    /// Its kind: `llama`, `gpt2`, ..., `induction` for one of ours.
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

/// How a model was run, and what of its files was left aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HowRun {
    /// The token that begins every sample.
    pub start: u32,
    /// Where that is from.
    pub start_from: StartFrom,
    /// The context that the model's files give, in tokens, if it was run with fewer: as many as its
    /// window holds, or as one set of wavelengths is for.
    pub declared_ctx: Option<usize>,
    /// Whether embedding and unembedding are one matrix.
    pub tied_embeddings: bool,
    /// Tensors of the files that the model does not need, with `*` for numbers.
    pub ignored: Vec<String>,
    /// Mean loss on argument 4's prompts, one after the other; nothing without a tokenizer.
    pub prompt_loss: Option<f64>,
    /// What a reader of the scan should know first.
    pub warnings: Vec<String>,
}

/// Where a model's start token is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartFrom {
    /// The model's tokenizer.
    Tokenizer,
    /// One of ours: the token that began every window of its training.
    Training,
    /// The model's files beside the tokenizer, which could not be read or does not say.
    File,
    /// Nothing says one: the first id.
    FirstId,
}

impl HowRun {
    /// What is said of the start token's origin.
    pub fn start_said(&self) -> &'static str {
        match self.start_from {
            StartFrom::Tokenizer => "by its tokenizer",
            StartFrom::Training => "as in its training",
            StartFrom::File => "by its configuration, not its tokenizer",
            StartFrom::FirstId => "the first, since nothing names one",
        }
    }
}

/// The step that a checkpoint's name says: `step1000`, `checkpoint-500`, `step-00000391`, or a
/// revision `@step512`.
pub fn step_of(name: &str) -> Option<u64> {
    let lower = name.to_ascii_lowercase();
    let after = ["step", "checkpoint", "ckpt"]
        .iter()
        .filter_map(|word| lower.rfind(word).map(|at| at + word.len()))
        .max()?;
    let digits = lower[after..].trim_start_matches(['-', '_', ' ', '=']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// One head's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct ScanHead {
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// What it is.
    pub role: Role,
    /// Every measure by its name.
    #[serde(flatten)]
    pub scores: NamedScores,
}

impl ScanHead {
    /// Which head.
    pub fn id(&self) -> HeadId {
        HeadId { layer: self.layer, head: self.head }
    }

    /// The prefix-matching score (paper.md, 3).
    pub fn prefix_matching(&self) -> f64 {
        self.score("prefix_matching")
    }

    /// The copying score (paper.md, 3); nothing for a head that adds nothing.
    pub fn copying(&self) -> Option<f64> {
        self.measure("copying")
    }

    /// A measure by name; NaN if the head has none.
    pub fn score(&self, name: &str) -> f64 {
        self.measure(name).unwrap_or(f64::NAN)
    }

    /// A measure by name, if the head has it.
    pub fn measure(&self, name: &str) -> Option<f64> {
        self.scores.get(name).copied().flatten()
    }
}

impl TryFrom<Map<String, Value>> for ScanHead {
    type Error = String;

    fn try_from(mut fields: Map<String, Value>) -> Result<Self, String> {
        let (id, role) = take_head(&mut fields)?;
        let scores = crate::heads::scores(fields)?;
        Ok(Self { layer: id.layer, head: id.head, role, scores })
    }
}

/// Losses on a start token and two copies of a block of random tokens, means over examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepeatedLosses {
    /// How many such sequences.
    pub examples: usize,
    /// Tokens of a copy.
    pub block: usize,
    /// Of the first copy.
    pub first: f64,
    /// Its standard error over examples.
    pub first_stderr: Option<f64>,
    /// Of the second, but for its first token, which nothing foretells.
    pub second: f64,
    /// Its standard error over examples.
    pub second_stderr: Option<f64>,
    /// Of each token after the start.
    pub by_position: Vec<f64>,
}

/// In-context learning on windows of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IclOnText {
    /// The text's name.
    pub text: String,
    /// How many windows.
    pub examples: usize,
    /// Tokens of a window.
    pub length: usize,
    /// The early index of the score.
    pub early: usize,
    /// The late one.
    pub late: usize,
    /// Neighbours that each is averaged over, on both sides.
    pub half_width: usize,
    /// Loss at the late index less that at the early one.
    pub score: f64,
    /// Its standard error over windows.
    pub stderr: Option<f64>,
    /// The score of each window.
    pub by_example: Vec<f64>,
    /// Mean loss.
    pub loss: f64,
    /// Mean loss of the (k+1)-th token of a window.
    pub by_index: Vec<f64>,
}

/// What is lost without some heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removals {
    /// The induction heads first.
    pub sets: Vec<RemovedHeads>,
}

/// Which heads were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemovedKind {
    /// All that match prefixes.
    Induction,
    /// As many random others of the same layers.
    Matched,
    /// As many random others of any layer.
    Any,
}

/// A set of heads removed (their outputs zero, everything above free to change).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedHeads {
    /// Which heads, in words.
    pub kind: RemovedKind,
    /// `[layer, head]` of each.
    pub heads: Vec<[usize; 2]>,
    /// Loss of the first copy of repeated random tokens.
    pub first: f64,
    /// Of the second.
    pub second: f64,
    /// By how much the second rises.
    pub second_change: f64,
    /// Its standard error over examples, paired.
    pub second_change_stderr: Option<f64>,
    /// The ICL score; of the induction heads and the first of each other kind, where there is a
    /// text.
    pub icl: Option<f64>,
}

impl RemovedHeads {
    /// The heads.
    pub fn ids(&self) -> impl Iterator<Item = HeadId> + '_ {
        self.heads.iter().map(|&[layer, head]| HeadId { layer, head })
    }
}

/// Tokens that a text with attention may have.
const MAX_SHOWN: usize = 512;

/// A text, and what every head attends to on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShownText {
    /// What it is: one of [`BEHAVIOURS`](crate::BEHAVIOURS), [`REPEATED`](Self::REPEATED), or the name of a text.
    pub text: String,
    /// Its tokens for a reader's eyes, the start token first.
    pub tokens: Vec<String>,
    /// Shares of attention in 255ths, `[layer][head][query][key up to the query]`, a byte each:
    /// compressed (zlib), then in base64.
    pub attention: String,
}

impl ShownText {
    /// Random tokens twice.
    pub const REPEATED: &str = "repeated random tokens";

    /// Bytes of each head on so many tokens.
    pub const fn bytes_of_head(tokens: usize) -> usize {
        tokens * (tokens + 1) / 2
    }

    /// Bytes as [`attention`](Self::attention) has them.
    pub fn pack(bytes: &[u8]) -> String {
        const COMPRESSION: u8 = 6;
        STANDARD.encode(compress_to_vec_zlib(bytes, COMPRESSION))
    }

    /// The bytes of [`attention`](Self::attention), of so many heads in all layers.
    ///
    /// # Errors
    /// What is wrong with them, for the end of a sentence that begins with the field.
    pub fn unpack(&self, heads: usize) -> Result<Vec<u8>, String> {
        let expected = heads.saturating_mul(Self::bytes_of_head(self.tokens.len()));
        let packed = STANDARD.decode(&self.attention).map_err(|e| format!("is no base64: {e}"))?;
        let unpacked = decompress_to_vec_zlib_with_limit(&packed, expected.max(1))
            .map_err(|e| format!("is no zlib stream of {expected} bytes: {e}"))?;
        if unpacked.len() != expected {
            let found = unpacked.len();
            return Err(format!("has {found} bytes, expected {expected}, those of {heads} heads"));
        }
        Ok(unpacked)
    }
}

/// Of another version everything else may be otherwise.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl ModelScan {
    /// The file.
    pub const FILE: &'static str = "scan.json";

    /// Raised whenever a definition of a scan changes.
    pub const VERSION: u32 = 7;

    /// The scan in the text of a `scan.json`, which errors say to be in `path`.
    ///
    /// # Errors
    /// [`Error::Scan`]: a scan that is damaged, or of another version.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let refused = |problem: String| Error::Scan { path: path.to_path_buf(), problem };
        let damaged = |(line, problem): (usize, String)| refused(format!("line {line}: {problem}"));
        let Version { version } = parse_value(text).map_err(damaged)?;
        if version != u64::from(Self::VERSION) {
            let read = Self::VERSION;
            return Err(refused(format!(
                "`version` is {version}, expected {read}, which this program reads"
            )));
        }
        let scan: Self = parse_value(text).map_err(damaged)?;
        scan.check().map_err(refused)?;
        Ok(scan)
    }

    /// What must hold of a scan besides its fields' types; else what is wrong, with the field.
    fn check(&self) -> Result<(), String> {
        self.model.check()?;
        let model = &self.model;
        if self.ids_below == Some(0) {
            return Err("`ids_below` is 0, expected 1 or more".to_string());
        }
        if self.how.start as usize >= model.d_vocab {
            let (start, d_vocab) = (self.how.start, model.d_vocab);
            return Err(format!("`how.start` is {start} of a vocabulary of {d_vocab} tokens"));
        }
        self.check_heads()?;
        length("repeated.by_position", self.repeated.by_position.len(), 2 * self.repeated.block)?;
        whole("repeated.block", self.repeated.block, 1, 1 << 20)?;
        whole("repeated.examples", self.repeated.examples, 1, 1 << 30)?;
        stderr("repeated.first_stderr", self.repeated.first_stderr)?;
        stderr("repeated.second_stderr", self.repeated.second_stderr)?;
        if let Some(icl) = &self.icl {
            whole("icl.examples", icl.examples, 1, 1 << 30)?;
            whole("icl.length", icl.length, 1, 1 << 30)?;
            whole("icl.early", icl.early, 1, icl.length)?;
            whole("icl.late", icl.late, 1, icl.length)?;
            length("icl.by_example", icl.by_example.len(), icl.examples)?;
            length("icl.by_index", icl.by_index.len(), icl.length)?;
            stderr("icl.stderr", icl.stderr)?;
        }
        if let Some(Removals { sets }) = &self.ablation {
            for (k, set) in sets.iter().enumerate() {
                let place = format!("ablation.sets[{k}]");
                if set.heads.is_empty() {
                    return Err(format!(
                        "`{place}.heads` is empty, expected [layer, head] of some"
                    ));
                }
                set.ids().try_for_each(|head| model.has(&format!("{place}.heads"), head))?;
                stderr(&format!("{place}.second_change_stderr"), set.second_change_stderr)?;
            }
            let induction = sets.iter().filter(|set| set.kind == RemovedKind::Induction).count();
            if induction != 1 {
                return Err(format!(
                    "`ablation.sets` has {induction} sets of kind induction, expected 1"
                ));
            }
        }
        for (k, scores) in self.behaviours.iter().enumerate() {
            let place = format!("behaviours[{k}]");
            model.has(&place, scores.id())?;
            scores.check().map_err(|problem| format!("{place}: {problem}"))?;
        }
        for (k, shown) in self.shown.iter().enumerate() {
            let place = format!("shown[{k}]");
            whole(&format!("{place}.tokens"), shown.tokens.len(), 1, MAX_SHOWN)?;
            shown
                .unpack(model.n_layers * model.n_heads)
                .map_err(|problem| format!("`{place}.attention` {problem}"))?;
        }
        Ok(())
    }

    /// Refuses a scan that lacks heads: a maximum over some of them would pass for one over all.
    fn check_heads(&self) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for (k, head) in self.heads.iter().enumerate() {
            let place = format!("heads[{k}]");
            self.model.has(&place, head.id())?;
            if seen.insert(head.id(), ()).is_some() {
                return Err(format!("`{place}` is head {}, which is there twice", head.id()));
            }
            for (name, bottom) in [("prefix_matching", 0.0), ("previous_token", 0.0)] {
                let score = head
                    .measure(name)
                    .ok_or_else(|| format!("`{place}.{name}` is not there, expected a number"))?;
                within(&format!("{place}.{name}"), score, bottom, 1.0)?;
            }
            if let Some(copying) = head.measure("copying") {
                within(&format!("{place}.copying"), copying, -1.0, 1.0)?;
            }
            for (name, value) in &head.scores {
                if name.ends_with("_stderr") {
                    stderr(&format!("{place}.{}", crate::visible(name)), *value)?;
                }
            }
        }
        let expected = self.model.n_layers * self.model.n_heads;
        if self.heads.len() != expected {
            return Err(format!(
                "`heads` has {} entries, expected {expected}, one a head",
                self.heads.len()
            ));
        }
        Ok(())
    }
}

impl ModelFacts {
    fn check(&self) -> Result<(), String> {
        whole("model.n_layers", self.n_layers, 1, 1024)?;
        whole("model.n_heads", self.n_heads, 1, 1024)?;
        whole("model.n_key_value_heads", self.n_key_value_heads, 1, 1024)?;
        whole("model.d_model", self.d_model, 1, 1 << 30)?;
        whole("model.d_head", self.d_head, 1, 1 << 30)?;
        whole("model.d_mlp", self.d_mlp, 0, 1 << 30)?;
        whole("model.d_vocab", self.d_vocab, 1, 1 << 30)?;
        whole("model.n_ctx", self.n_ctx, 1, 1 << 30)
    }

    /// Refuses a head that the model has not.
    fn has(&self, place: &str, head: HeadId) -> Result<(), String> {
        let [layers, heads] = [self.n_layers, self.n_heads];
        if head.layer < layers && head.head < heads {
            return Ok(());
        }
        Err(format!("`{place}` is of head {head} of a model of {layers} layers of {heads} heads"))
    }
}

fn whole(name: &str, value: usize, low: usize, high: usize) -> Result<(), String> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("`{name}` is {value}, expected a whole number from {low} to {high}"))
}

fn length(name: &str, found: usize, expected: usize) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("`{name}` has {found} entries, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_steps() {
        for (name, step) in [
            ("step1000", Some(1000)),
            ("checkpoint-500", Some(500)),
            ("2L, step-00000391", Some(391)),
            ("EleutherAI/pythia-70m-deduped@step512", Some(512)),
            ("Step_7", Some(7)),
            ("model-step12-f16.gguf", Some(12)),
            ("pythia-70m", None),
            ("steps", None),
            ("checkpoint-final", None),
        ] {
            assert_eq!(step_of(name), step, "{name}");
        }
    }
}
