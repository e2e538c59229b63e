//! What a scan of a trained model leaves: `scan.json`.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use induction_metrics::{CopyingCeiling, Role};
use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib_with_limit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    BehaviourScores, Error, HeadId,
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

/// One measure of heads by cause: what the model expects of its prompts, with no head changed. Each
/// head's share is among its scores, by the [name](Cause::score) of the measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByCause {
    /// Which.
    pub cause: Cause,
    /// How many prompts.
    pub prompts: usize,
    /// Prompts or words that this vocabulary has no fitting tokens for, or this context no room, and
    /// that were left out.
    pub left_out: usize,
    /// The probability of what should follow, a mean over prompts.
    pub plain: f64,
    /// Its standard error.
    pub plain_stderr: Option<f64>,
    /// The probability in those prompts from which something is carried over; nothing where nothing
    /// is.
    pub with: Option<f64>,
    /// Its standard error.
    pub with_stderr: Option<f64>,
    /// Whether the heads that do it are those that match prefixes; nothing where all heads are
    /// alike.
    pub matching: Option<GoesWith>,
}

/// How two scores go together over all heads of a model: Spearman's rank correlation, with a
/// bootstrap's 95 % interval over heads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoesWith {
    /// The correlation, between -1 and 1.
    pub rank_correlation: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What a head may bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It copies random tokens.
    TokenCopying,
    /// It copies words of several tokens.
    ConceptCopying,
    /// It attends to what followed an earlier copy, and that is of use.
    InductionCut,
    /// It attends to a token that is expected already, and that makes it less expected.
    CopySuppression,
    /// It carries what a task is.
    FunctionVector,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::TokenCopying,
        Self::ConceptCopying,
        Self::InductionCut,
        Self::CopySuppression,
        Self::FunctionVector,
    ];

    /// The name of a head's score, the change of a probability; with `_nats`, that of its logarithm,
    /// and with `_stderr` after either, its standard error.
    pub fn score(self) -> &'static str {
        match self {
            Self::TokenCopying => "token_copying",
            Self::ConceptCopying => "concept_copying",
            Self::InductionCut => "induction_cut",
            Self::CopySuppression => "copy_suppression",
            Self::FunctionVector => "function_vector",
        }
    }

    /// The name of the same in nats.
    pub const fn nats(self) -> &'static str {
        match self {
            Self::TokenCopying => "token_copying_nats",
            Self::ConceptCopying => "concept_copying_nats",
            Self::InductionCut => "induction_cut_nats",
            Self::CopySuppression => "copy_suppression_nats",
            Self::FunctionVector => "function_vector_nats",
        }
    }

    /// What it is, in words.
    pub fn title(self) -> &'static str {
        match self {
            Self::TokenCopying => "copying random tokens",
            Self::ConceptCopying => "copying words of several tokens",
            Self::InductionCut => "attending to what followed an earlier copy",
            Self::CopySuppression => "holding back what is expected already",
            Self::FunctionVector => "carrying what a task is",
        }
    }

    /// What a head does that has it, as the heading of a column.
    pub fn verb(self) -> &'static str {
        match self {
            Self::TokenCopying => "copies tokens",
            Self::ConceptCopying => "copies words",
            Self::InductionCut => "pattern is worth",
            Self::CopySuppression => "holds back",
            Self::FunctionVector => "tells the task",
        }
    }
}

/// A head that stands out by a measure: even the lower end of its effect's interval is more than a
/// head among as many random ones shows ([`evidence`](induction_metrics::evidence())).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandsOut {
    /// The name of a score.
    pub measure: String,
    /// From 0.
    pub layer: usize,
    /// From 0.
    pub head: usize,
    /// The head's score less the mean of the other heads' of its layer.
    pub effect: f64,
    /// Half the width of its interval, which holds for all heads of the model together at 95 %.
    pub margin: f64,
}

impl StandsOut {
    /// The measures that tell what a head does, each with what a head does that stands out by it. All
    /// are means over samples.
    pub const MEASURES: [(&str, &str); 11] = [
        ("prefix_matching", "matches prefixes"),
        ("previous_token", "attends to the token before"),
        ("duplicate_token", "attends to copies of the token itself"),
        ("start_token", "rests on the first token"),
        ("retrieval", "attends to what is asked for"),
        ("successor", "raises what comes next in an order"),
        (Cause::TokenCopying.nats(), "copies tokens"),
        (Cause::ConceptCopying.nats(), "copies words"),
        (Cause::InductionCut.nats(), "is needed where it matches prefixes"),
        (Cause::CopySuppression.nats(), "holds back what is expected already"),
        (Cause::FunctionVector.nats(), "tells what the task is"),
    ];
}

/// What is lost without some heads, and without their induction pattern alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutHeads {
    /// Whether these are random heads of the same layers as those of the set before.
    pub is_control: bool,
    /// `[layer, head]` of each.
    pub heads: Vec<[usize; 2]>,
    /// On each kind of text.
    pub worth: Vec<WorthOn>,
}

/// By how much the loss of tokens rises that an earlier copy has something to say of, in nats a
/// token, means over examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorthOn {
    /// Which.
    pub on: CutOn,
    /// Without the heads.
    pub removed: f64,
    /// Its standard error, paired.
    pub removed_stderr: Option<f64>,
    /// With the heads, which may not attend to what followed an earlier copy.
    pub cut: f64,
    /// Its standard error, paired.
    pub cut_stderr: Option<f64>,
}

/// A kind of text, and which of its tokens count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutOn {
    /// Random tokens that repeat; those of the second copy.
    Repeats,
    /// Prose; tokens that stood after an earlier copy of the token before them.
    Text,
    /// Argument 4's patterns; the labels.
    Patterns,
}

impl CutOn {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Repeats, Self::Text, Self::Patterns];
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
    pub const VERSION: u32 = 6;

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
