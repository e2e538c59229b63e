//! The tokenizers of pretrained models.
//!
//! What a file says is checked and turned into a [`Description`]; the library gets the vocabulary
//! and merges of it, and does the merging and NFC. Cutting a text into added tokens and words is
//! done here: the library does it with patterns from the file.

mod added;
mod bos;
mod json;
mod parts;
mod vocabulary;
mod words;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

use self::added::{Added, Finder, check_added, composed};
use self::bos::Bos;
use self::vocabulary::{IdsByToken, check_merges, check_vocab, from_slice, of_file, pair};
use self::words::{Pattern, Words};
use crate::bpe::guarded;
use crate::tokenizer_file::{read, refuse};
use crate::{Error, Result, Tokenizer, bytes};

pub use self::parts::TokenizerParts;

/// What stood between the documents that GPT-2 and its heirs were trained on.
const END_OF_TEXT: &str = "<|endoftext|>";

/// A tokenizer as checked: nothing in it can make the library stumble.
struct Description {
    /// Without special tokens: no text gives one, and no merge makes one.
    vocab: HashMap<String, u32>,
    merges: Merges,
    ignore_merges: bool,
    added: Vec<Added>,
    nfc: bool,
    words: Words,
    bos: Bos,
}

/// The byte-level BPE tokenizer of a pretrained model: the ids are those of HuggingFace's
/// `tokenizers`.
///
/// *What begins a sequence*, [`bos`](Tokenizer::bos), is the token that the model's own tokenizer
/// puts first: a special token that leads the template of `tokenizer.json`, or `bos_token` where
/// `add_bos_token` is true (in `tokenizer_config.json` beside it, or in a GGUF file; with
/// `llama-bpe` it need not say so). Failing that it is `<|endoftext|>`, if the vocabulary has it as
/// a special token, since it stood before each document in training; failing that, `bos_token`;
/// failing that, nothing.
#[derive(Debug)]
pub struct PretrainedTokenizer {
    model: BPE,
    words: Words,
    nfc: bool,
    /// Looked for in the text as it is, then in the normalised text.
    added: [Finder; 2],
    /// The bytes of each token.
    pieces: HashMap<u32, Vec<u8>>,
    d_vocab: usize,
    bos: Option<u32>,
    /// For each byte its character, where that is a token.
    alphabet: Vec<Option<char>>,
}

impl PretrainedTokenizer {
    /// Reads a HuggingFace `tokenizer.json` with byte-level BPE: GPT-2's words, Llama 3's, Qwen2's,
    /// or SmolLM2's, with or without NFC. Truncation and padding that it asks for are not done.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Pretrained`] if the file is damaged or describes a tokenizer of
    /// another kind.
    pub fn from_json(path: impl AsRef<Path>) -> Result<Self> {
        Self::build(json::describe(path.as_ref())?)
    }

    /// Reads GPT-2's `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Pretrained`] if a file is damaged or they do not belong together.
    pub fn from_gpt2_files(vocab: impl AsRef<Path>, merges: impl AsRef<Path>) -> Result<Self> {
        let path = vocab.as_ref();
        let parsed = from_slice(&read(path, of_file(path))?).map_err(of_file(path))?;
        let IdsByToken(Some(mut vocab)) = parsed else {
            return Err(of_file(path)((
                "(file)".to_owned(),
                "a list, expected tokens with their ids".to_owned(),
            )));
        };
        let end_of_text =
            vocab.get_key_value(END_OF_TEXT).map(|(content, &id)| (content.clone(), id));
        let special = |(content, id)| Added { id, content, special: true, normalized: false };
        let added = Vec::from_iter(end_of_text.map(special));
        let checked = check_added(|_| END_OF_TEXT.to_owned(), &added, &vocab)
            .and_then(|()| check_vocab("(vocab)", &vocab, &added));
        checked.map_err(of_file(path))?;
        vocab.remove(END_OF_TEXT);
        let path = merges.as_ref();
        let text = String::from_utf8(read(path, of_file(path))?);
        let text = text.or_else(|e| refuse("(file)", e.to_string())).map_err(of_file(path))?;
        let lines = text
            .lines()
            .enumerate()
            .filter(|(n, line)| !(line.is_empty() || *n == 0 && line.starts_with("#version")));
        let parsed = lines.map(|(n, line)| {
            pair(line).ok_or_else(|| {
                (format!("line {}", n + 1), format!("is {line:?}, expected two tokens"))
            })
        });
        let merges = parsed.collect::<Result<Merges, _>>().map_err(of_file(path))?;
        check_merges("(merges)", &merges, &vocab).map_err(of_file(path))?;
        let words = Words { last: Some(Pattern::Gpt2), ..Words::default() };
        Self::build(Description {
            vocab,
            merges,
            ignore_merges: false,
            added,
            nfc: false,
            words,
            bos: Bos::default(),
        })
    }

    /// Makes the tokenizer of a GGUF file, at `path`, from what the file says of it.
    ///
    /// # Errors
    /// [`Error::Pretrained`], with the file's name and key, if the parts do not belong together, or
    /// `pre` is not known.
    pub fn from_parts(parts: TokenizerParts, path: impl AsRef<Path>) -> Result<Self> {
        Self::build(parts::describe(parts).map_err(of_file(path.as_ref()))?)
    }

    fn build(described: Description) -> Result<Self> {
        let Description { vocab, merges, ignore_merges, added, nfc, words, bos } = described;
        let byte_of = bytes::bytes();
        let mut pieces: HashMap<u32, Vec<u8>> = vocab
            .iter()
            .map(|(token, &id)| {
                (id, token.chars().filter_map(|c| byte_of.get(&c).copied()).collect())
            })
            .collect();
        pieces.extend(added.iter().map(|added| (added.id, added.content.as_bytes().to_vec())));
        let has = |c: &char| vocab.contains_key(c.encode_utf8(&mut [0; 4]) as &str);
        let alphabet = bytes::characters().into_iter().map(|c| Some(c).filter(has)).collect();
        let end_of_text = added.iter().find(|added| added.special && added.content == END_OF_TEXT);
        let vocab: Vocab = vocab.into_iter().collect();
        let model = guarded("load a tokenizer", || {
            BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(ignore_merges).build()
        })?;
        Ok(Self {
            model,
            words,
            nfc,
            added: [false, true].map(|normalized| Finder::new(&added, normalized, nfc)),
            d_vocab: pieces.keys().max().map_or(0, |&id| id as usize + 1),
            pieces,
            bos: bos.first.or(end_of_text.map(|added| added.id)).or(bos.named),
            alphabet,
        })
    }

    /// The model has an embedding for each id. It may have more: many models pad their vocabulary.
    ///
    /// # Errors
    /// [`Error::VocabularyMismatch`] if the model's `d_vocab` is too small.
    pub fn check_d_vocab(&self, d_vocab: usize) -> Result<()> {
        if self.d_vocab > d_vocab {
            return Err(Error::VocabularyMismatch { largest: self.d_vocab - 1, d_vocab });
        }
        Ok(())
    }

    /// The ids of a text in which no added token is left.
    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut in_alphabet = String::new();
        self.words.try_for_each(text, |word| {
            in_alphabet.clear();
            for character in word.chars() {
                for &byte in character.encode_utf8(&mut [0; 4]).as_bytes() {
                    in_alphabet.push(
                        self.alphabet[usize::from(byte)]
                            .ok_or(Error::UnknownCharacter { character })?,
                    );
                }
            }
            let tokens = guarded("encode a text", || self.model.tokenize(&in_alphabet))?;
            ids.extend(tokens.iter().map(|token| token.id));
            Ok(())
        })
    }

    fn normalized<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.nfc { composed(text) } else { Cow::Borrowed(text) }
    }
}

impl Tokenizer for PretrainedTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let [as_is, normalized] = &self.added;
        as_is.try_for_each(text, |piece, token| {
            if let Some(id) = token {
                ids.push(id);
                return Ok(());
            }
            normalized.try_for_each(&self.normalized(piece), |piece, token| match token {
                Some(id) => {
                    ids.push(id);
                    Ok(())
                }
                None => self.encode_words(piece, &mut ids),
            })
        })?;
        Ok(ids)
    }

    fn token_bytes(&self, id: u32) -> Result<&[u8]> {
        let d_vocab = self.d_vocab;
        self.pieces.get(&id).map(Vec::as_slice).ok_or(Error::UnknownToken { id, d_vocab })
    }

    fn bos(&self) -> Option<u32> {
        self.bos
    }

    fn d_vocab(&self) -> usize {
        self.d_vocab
    }
}
