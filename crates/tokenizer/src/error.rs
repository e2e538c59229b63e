//! The one error of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a corpus, a tokenizer, a shard or a setting; each message says what to do
/// about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `rename`.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },

    /// A file that begins as no text does.
    #[error("corpus {}: {kind}, not a text; {help}", path.display())]
    NotText {
        /// The corpus.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
        /// What to do.
        help: &'static str,
    },

    /// An item of a JSON list that is not a document.
    #[error("corpus {} item {item}: {reason}; expected a list of texts, or of objects with a text", path.display())]
    List {
        /// The corpus.
        path: PathBuf,
        /// Counted from 1; 0 of the list itself.
        item: usize,
        /// What is wrong.
        reason: String,
    },

    /// No text at all.
    #[error("corpus {}: no text in it ({left_out}); give UTF-8 text", path.display())]
    Empty {
        /// The corpus.
        path: PathBuf,
        /// How many lines or files were left out, and why the first.
        left_out: String,
    },

    /// A `.txt` corpus that is not UTF-8.
    #[error("corpus {}: not UTF-8 at byte {offset}; convert it, for example with `iconv -t utf-8`", path.display())]
    NotUtf8 {
        /// The corpus.
        path: PathBuf,
        /// Bytes before the first invalid one.
        offset: usize,
    },

    /// A line of a `.jsonl` corpus that is not a document.
    #[error(r#"corpus {} line {line}: {reason}; expected {{"id": "...", "text": "..."}}"#, path.display())]
    Line {
        /// The corpus.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the JSON reader said.
        reason: String,
    },

    /// The compressed stream does not decompress.
    #[error("corpus {}: damaged {kind} stream: {reason}; fetch it again, `{test}` must accept it", path.display())]
    Damaged {
        /// The corpus.
        path: PathBuf,
        /// `gzip` or `zstd`.
        kind: &'static str,
        /// What tests it.
        test: &'static str,
        /// What the decoder said.
        reason: String,
    },

    /// More text than is read into memory.
    #[error("corpus {}: holds more than {limit} bytes of text, the limit for {why}; use less", path.display())]
    TooLarge {
        /// The corpus.
        path: PathBuf,
        /// Most bytes of text accepted.
        limit: u64,
        /// What the limit is for.
        why: &'static str,
    },

    /// Nothing to hold out from.
    #[error("corpus {}: {found} document(s); at least 2 are needed, one to train on and one to hold out", path.display())]
    TooFewDocuments {
        /// The corpus, or a description of it.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },

    /// A setting outside its range.
    #[error("{field} = {given}: expected {expected}")]
    Setting {
        /// The name of the setting.
        field: &'static str,
        /// Its value.
        given: String,
        /// Which values are accepted.
        expected: String,
    },

    /// The training text does not hold enough different pairs.
    #[error(
        "d_vocab = {wanted}: the text supports {supported} tokens only; set d_vocab = {supported} or less, or use more text"
    )]
    TooLittleText {
        /// Tokens asked for.
        wanted: usize,
        /// Tokens that could be made, `<|bos|>` and the 256 bytes included.
        supported: usize,
    },

    /// The BPE library refused, or panicked.
    #[error("the tokenizers library failed to {action}: {reason}; this is a bug, please report it")]
    Library {
        /// What it was asked for.
        action: &'static str,
        /// What it said.
        reason: String,
    },

    /// Not a tokenizer this crate can use.
    #[error("tokenizer {} field {field}: {reason}; only byte-level BPE files written by this program are read, prepare the data again", path.display())]
    Tokenizer {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// Where in it.
        field: String,
        /// What is wrong and what was expected.
        reason: String,
    },

    /// A pretrained model's tokenizer that is damaged or of a kind that is not read.
    #[error("tokenizer {} field {field}: {reason}; byte-level BPE of known patterns and SentencePiece are read, and `--tokens FILE` with ids works for every model", path.display())]
    Pretrained {
        /// The file.
        path: PathBuf,
        /// Where in it.
        field: String,
        /// What is wrong and what was expected.
        reason: String,
    },

    /// A text with a character that the tokenizer has never seen: HuggingFace's library drops it
    /// without a word.
    #[error(
        "the text has {character:?}, for which the tokenizer has no token; leave that character out of the text"
    )]
    UnknownCharacter {
        /// The character.
        character: char,
    },

    /// A tokenizer with ids that the model has no embedding for.
    #[error(
        "the tokenizer has ids up to {largest}, but the model's vocabulary is 0..{d_vocab}: a tokenizer that doesn't fit the vocabulary; give the model's own, or ids with `--tokens FILE`"
    )]
    VocabularyMismatch {
        /// The tokenizer's largest id.
        largest: usize,
        /// The model's vocabulary.
        d_vocab: usize,
    },

    /// A token id beyond the vocabulary.
    #[error(
        "token {id} is outside the vocabulary 0..{d_vocab}; was it made with another tokenizer?"
    )]
    UnknownToken {
        /// The id.
        id: u32,
        /// The vocabulary's size.
        d_vocab: usize,
    },

    /// Not a token shard, or a damaged one.
    #[error("shard {} {field}: {reason}; prepare the data again", path.display())]
    Shard {
        /// The shard.
        path: PathBuf,
        /// Where in it.
        field: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },

    /// A prepared data folder whose files do not belong together.
    #[error("data folder {} {field}: {reason}; rename the folder and prepare the data again", path.display())]
    DataFolder {
        /// The folder.
        path: PathBuf,
        /// The key of `data.json` that does not fit.
        field: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },

    /// Fewer tokens than one training example needs.
    #[error(
        "{n_tokens} training tokens are too few for n_ctx = {n_ctx}: at least {needed} are needed; use more text or a shorter context"
    )]
    TooFewTokens {
        /// Tokens in the shard.
        n_tokens: usize,
        /// Tokens of a context.
        n_ctx: usize,
        /// Fewest tokens that work.
        needed: usize,
    },
}

impl Error {
    /// For `map_err`: an [`Error::Io`] of `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
