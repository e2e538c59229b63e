//! Byte-level BPE: the `tokenizers` library, held to what this project needs of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    TokenizerBuilder, TokenizerImpl, Trainer,
};

use crate::{Document, Error, Result, Tokenizer, bytes, tokenizer_file};

/// The token before every document and every example. It never comes out of a text.
pub const BOS: &str = "<|bos|>";

/// [`BOS`] and the 256 bytes: the vocabulary before the first merge.
pub const MIN_D_VOCAB: usize = 257;

/// Shards store ids as `u16`.
pub const MAX_D_VOCAB: usize = 1 << 16;

/// A pair seen once is no pattern; the library's own byte-level default.
const MIN_PAIR_COUNT: u64 = 2;

/// The trainer's cost is quadratic in the length of a word, and a text without spaces (DNA, base64)
/// is one word.
const MAX_TRAINING_WORD: usize = 1024;

/// The library keeps about a hundred bytes of bookkeeping a byte of text; in chunks that is
/// nothing.
const CHUNK_BYTES: usize = 1 << 16;

type Inner = TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>;

/// Text to token ids and back, without loss for any text.
#[derive(Debug, Clone)]
pub struct BpeTokenizer {
    inner: Inner,
    /// The bytes of each token, by id.
    pieces: Vec<Vec<u8>>,
}

impl BpeTokenizer {
    /// Learns a vocabulary of exactly `d_vocab` tokens: [`BOS`], the 256 bytes, and the merges of
    /// the most frequent pairs (pairs that occur at least twice; ties go to the pair of lower ids).
    /// The same texts give the same tokenizer.
    ///
    /// # Errors
    /// If `d_vocab` is outside [`MIN_D_VOCAB`]..=[`MAX_D_VOCAB`], or more than the texts support.
    pub fn train<'a>(
        documents: impl IntoIterator<Item = &'a Document>,
        d_vocab: usize,
    ) -> Result<Self> {
        check_d_vocab(d_vocab)?;
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .min_frequency(MIN_PAIR_COUNT)
            .vocab_size(d_vocab)
            .initial_alphabet(bytes::characters().into_iter().collect())
            .special_tokens(vec![AddedToken::from(BOS, true)])
            .build();
        let chunks: Vec<&str> = documents.into_iter().flat_map(|d| chunks(&d.text)).collect();
        let model = guarded("train", || {
            let mut model = BPE::default();
            trainer.feed(chunks.into_iter(), words)?;
            trainer.train(&mut model)?;
            Ok(model)
        })?;
        let supported = tokenizers::Model::get_vocab_size(&model);
        if supported < d_vocab {
            return Err(Error::TooLittleText { wanted: d_vocab, supported });
        }
        Self::from_model(model)
    }

    /// Reads the `tokenizer.json` that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Tokenizer`] if the file is damaged, or a tokenizer of another kind:
    /// it would give a model other ids, or lose bytes.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(path, &tokenizer_file::read(path, tokenizer_file::of_file(path))?)
    }

    /// As [`load`](Self::load), from what the file at `path` holds.
    pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let (vocab, merges) =
            tokenizer_file::parse(bytes).map_err(tokenizer_file::of_file(path))?;
        Self::from_parts(vocab, merges)
    }

    fn from_parts(vocab: Vec<String>, merges: Merges) -> Result<Self> {
        let vocab: Vocab = vocab.into_iter().zip(0..).collect();
        Self::from_model(guarded("load a tokenizer", || {
            BPE::builder().vocab_and_merges(vocab, merges).build()
        })?)
    }

    fn from_model(model: BPE) -> Result<Self> {
        let inner = guarded("build a tokenizer", || {
            let mut inner: Inner = TokenizerBuilder::new()
                .with_model(model)
                .with_normalizer(None)
                .with_pre_tokenizer(Some(byte_level()))
                .with_post_processor(None)
                .with_decoder(Some(ByteLevel::default()))
                .build()?;
            inner.add_special_tokens(&[AddedToken::from(BOS, true)]);
            // A `<|bos|>` written in a document is seven characters; only this crate places the
            // token.
            inner.set_encode_special_tokens(true);
            Ok(inner)
        })?;
        let byte_of = bytes::bytes();
        let mut pieces = vec![Vec::new(); inner.get_vocab_size(true)];
        for (token, id) in inner.get_vocab(true) {
            // BOS happens to be made of characters that stand for themselves, so it needs no case
            // of its own.
            pieces[id as usize] = token.chars().filter_map(|c| byte_of.get(&c).copied()).collect();
        }
        Ok(Self { inner, pieces })
    }

    /// The ids of a text. [`BOS`] is neither added nor recognised: a text that contains its
    /// characters gives theirs.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        for chunk in chunks(text) {
            let encoding = self
                .inner
                .encode_fast(chunk, false)
                .expect("all 256 bytes are tokens, so no text is unknown");
            ids.extend_from_slice(encoding.get_ids());
        }
        ids
    }

    /// The text of some ids. Bytes that are not UTF-8, as when a character is cut in half, become
    /// U+FFFD.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] for an id of `d_vocab` or more.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.decode_bytes(ids)?).into_owned())
    }

    pub(crate) fn piece(&self, id: u32) -> Result<&[u8]> {
        let d_vocab = self.d_vocab();
        self.pieces.get(id as usize).map(Vec::as_slice).ok_or(Error::UnknownToken { id, d_vocab })
    }

    /// How many tokens there are; ids are `0..d_vocab`.
    pub fn d_vocab(&self) -> usize {
        self.pieces.len()
    }

    /// The id of [`BOS`]: always 0.
    pub fn bos(&self) -> u32 {
        0
    }

    /// Writes a `tokenizer.json` that every HuggingFace `tokenizers` reads; whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        induction_files::write_atomic(path, self.to_json()?.as_bytes())
            .map_err(Error::io("write the tokenizer", path))
    }

    pub(crate) fn to_json(&self) -> Result<String> {
        guarded("write a tokenizer", || self.inner.to_string(true))
    }
}

/// The range of the vocabulary's size.
pub(crate) fn check_d_vocab(d_vocab: usize) -> Result<()> {
    if (MIN_D_VOCAB..=MAX_D_VOCAB).contains(&d_vocab) {
        return Ok(());
    }
    let expected = format!("{MIN_D_VOCAB} (`{BOS}` and the 256 bytes) to {MAX_D_VOCAB}");
    Err(Error::Setting { field: "d_vocab", given: d_vocab.to_string(), expected })
}

fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// The library has panicked on crafted input before; what it is given here is validated, and this
/// is the second line.
pub(crate) fn guarded<T>(
    action: &'static str,
    work: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T> {
    let reason = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked".to_owned(),
    };
    Err(Error::Library { action, reason })
}

/// The words that merges are counted in, in the byte alphabet.
fn words(text: &str) -> tokenizers::Result<Vec<String>> {
    let mut text = PreTokenizedString::from(text);
    byte_level().pre_tokenize(&mut text)?;
    let words = text.get_splits(OffsetReferential::Original, OffsetType::None);
    Ok(words.into_iter().flat_map(|(word, ..)| shortened(word)).collect())
}

fn shortened(word: &str) -> Vec<String> {
    if word.len() <= MAX_TRAINING_WORD {
        return vec![word.to_owned()];
    }
    let characters: Vec<char> = word.chars().collect();
    characters.chunks(MAX_TRAINING_WORD).map(|piece| piece.iter().collect()).collect()
}

/// Cuts a text where no word can reach across: before a line end that follows a visible character.
///
/// There GPT-2's pattern always starts a new match, and its only look-ahead is about what follows
/// white space. So the ids of the chunks are the ids of the text.
fn chunks(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (chunk, after) = rest.split_at(first_cut(rest));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn first_cut(text: &str) -> usize {
    let after_visible = |&at: &usize| text[..at].ends_with(|c: char| !c.is_whitespace());
    let line_ends = text
        .bytes()
        .enumerate()
        .skip(CHUNK_BYTES)
        .filter(|(_, byte)| *byte == b'\n')
        .map(|(at, _)| at);
    line_ends.into_iter().find(after_visible).unwrap_or(text.len())
}

#[cfg(test)]
#[path = "bpe_tests.rs"]
mod tests;
