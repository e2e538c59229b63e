//! The tokenizers of pretrained models.
//!
//! What a file says is checked and turned into a [`Description`]. The library gets the vocabulary
//! and merges of it, and does the merging and Unicode's normal forms. Cutting a text into added
//! tokens and words is done here, since the library does it with patterns from the file, and so are
//! SentencePiece's algorithms, which go by scores.

mod added;
mod beside;
mod bos;
mod charsmap;
mod json;
mod normalizer;
mod parts;
mod pieces;
mod sentencepiece;
mod trie;
mod vocabulary;
mod words;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

use self::added::{Added, Finder, check_added};
use self::beside::Beside;
use self::bos::Bos;
use self::normalizer::Normalizer;
use self::pieces::Pieces;
use self::vocabulary::{
    VocabJson, check_alphabet, check_merges, check_vocab, from_slice, of_file, pair,
};
use self::words::{Pattern, Words};
use crate::bpe::guarded;
use crate::tokenizer_file::{read, refuse};
use crate::{Error, Result, Tokenizer, bytes};

pub use self::parts::TokenizerParts;

/// What stood between the documents that GPT-2 and its heirs were trained on.
const END_OF_TEXT: &str = "<|endoftext|>";

/// A tokenizer as checked: nothing in it can make the library stumble.
struct Description {
    model: Model,
    added: Vec<Added>,
    normalizer: Normalizer,
    words: Words,
    bos: Bos,
}

/// What makes tokens of words. Special tokens are in none of the vocabularies: no text gives one,
/// and no merge makes one.
enum Model {
    /// Over the byte alphabet.
    Bytes(Merged),
    /// Over characters, as of SentencePiece.
    Characters(Merged, Unknown),
    /// By scores.
    Pieces(pieces::Vocabulary),
}

/// Pairs that become one, the first to be merged first.
struct Merged {
    vocab: HashMap<String, u32>,
    merges: Merges,
    ignore_merges: bool,
}

/// What becomes of a character that is no token.
#[derive(Default)]
struct Unknown {
    /// The token for it, which is not in the vocabulary.
    token: Option<(String, u32)>,
    /// One token for a run of such characters.
    fuse: bool,
    /// Its bytes, where all have tokens.
    bytes: bool,
}

impl Description {
    fn new(model: Model, added: Vec<Added>, bos: Bos) -> Self {
        Self { model, added, normalizer: Normalizer::default(), words: Words::default(), bos }
    }
}

impl Model {
    fn id_of(&self, token: &str) -> Option<u32> {
        match self {
            Self::Bytes(merged) | Self::Characters(merged, _) => merged.vocab.get(token).copied(),
            Self::Pieces(vocabulary) => {
                let is_it = |(piece, _): &(&pieces::Piece, u32)| piece.content == token;
                vocabulary.pieces.iter().zip(0..).find(is_it).map(|(_, id)| id)
            }
        }
    }

    /// The bytes of each token.
    fn bytes(&self) -> HashMap<u32, Vec<u8>> {
        let byte_of = bytes::bytes();
        let of_alphabet =
            |token: &str| token.chars().filter_map(|c| byte_of.get(&c).copied()).collect();
        match self {
            Self::Bytes(merged) => {
                merged.vocab.iter().map(|(token, &id)| (id, of_alphabet(token))).collect()
            }
            Self::Characters(merged, unknown) => {
                let of = |token: &str| pieces::bytes_of(token, unknown.bytes);
                merged.vocab.iter().map(|(token, &id)| (id, of(token))).collect()
            }
            Self::Pieces(vocabulary) => {
                let of = |piece: &pieces::Piece| {
                    pieces::bytes_of(&piece.content, vocabulary.byte_fallback)
                };
                (0..).zip(vocabulary.pieces.iter().map(of)).collect()
            }
        }
    }
}

/// A [`Model`], ready to read words.
#[derive(Debug)]
enum Ready {
    Bytes {
        model: BPE,
        /// For each byte its character, where that is a token.
        alphabet: Vec<Option<char>>,
    },
    Characters {
        model: BPE,
        /// For each byte whether it has a token; empty without byte fallback.
        bytes: Vec<bool>,
        /// Whether there is a token for what has none.
        unknown: bool,
    },
    Pieces(Pieces),
}

impl Ready {
    fn new(model: Model) -> Result<Self> {
        let library = |merged: Merged, Unknown { token, fuse, bytes }: Unknown| {
            let mut vocab: Vocab = merged.vocab.into_iter().collect();
            let mut builder = BPE::builder()
                .ignore_merges(merged.ignore_merges)
                .fuse_unk(fuse)
                .byte_fallback(bytes);
            if let Some((token, id)) = token {
                vocab.insert(token.clone(), id);
                builder = builder.unk_token(token);
            }
            guarded("load a tokenizer", || builder.vocab_and_merges(vocab, merged.merges).build())
        };
        Ok(match model {
            Model::Bytes(merged) => {
                let has = |c: &char| merged.vocab.contains_key(c.encode_utf8(&mut [0; 4]) as &str);
                let alphabet =
                    bytes::characters().into_iter().map(|c| Some(c).filter(has)).collect();
                Self::Bytes { model: library(merged, Unknown::default())?, alphabet }
            }
            Model::Characters(merged, unknown) => {
                let has = |byte: u8| merged.vocab.contains_key(&format!("<0x{byte:02X}>"));
                Self::Characters {
                    bytes: Vec::from_iter((0..=255).filter(|_| unknown.bytes).map(has)),
                    unknown: unknown.token.is_some(),
                    model: library(merged, unknown)?,
                }
            }
            Model::Pieces(vocabulary) => Self::Pieces(Pieces::new(vocabulary)),
        })
    }

    fn encode(&self, word: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut by_library = |model: &BPE, word: &str| {
            let tokens = guarded("encode a text", || model.tokenize(word))?;
            ids.extend(tokens.iter().map(|token| token.id));
            Ok(())
        };
        match self {
            Self::Bytes { model, alphabet } => {
                let mut in_alphabet = String::new();
                for character in word.chars() {
                    for &byte in character.encode_utf8(&mut [0; 4]).as_bytes() {
                        let c = alphabet[usize::from(byte)];
                        in_alphabet.push(c.ok_or(Error::UnknownCharacter { character })?);
                    }
                }
                by_library(model, &in_alphabet)
            }
            Self::Characters { model, bytes, unknown } => {
                // The library would leave it out without a word.
                let lost = |&character: &char| {
                    let mut buffer = [0; 4];
                    let c: &str = character.encode_utf8(&mut buffer);
                    let has = |byte: u8| bytes.get(usize::from(byte)).is_some_and(|&has| has);
                    model.token_to_id(c).is_none() && !c.bytes().all(has)
                };
                match word.chars().find(lost).filter(|_| !unknown) {
                    Some(character) => Err(Error::UnknownCharacter { character }),
                    None => by_library(model, word),
                }
            }
            Self::Pieces(pieces) => pieces.encode(word, ids),
        }
    }
}

/// The tokenizer of a pretrained model: byte-level BPE, or one of SentencePiece's two kinds.
///
/// The ids are those of HuggingFace's `tokenizers` for a `tokenizer.json`, of SentencePiece for a
/// `tokenizer.model`, and of llama.cpp for a GGUF file, but that no text gives a special token
/// (other than the unknown one).
///
/// *What begins a sequence*, [`bos`](Tokenizer::bos), is the token that the model's own tokenizer
/// puts first: a special token that leads the template of `tokenizer.json`, or `bos_token` where
/// `add_bos_token` is true (in `tokenizer_config.json` beside it, or in a GGUF file; with
/// `llama-bpe` it need not say so). Failing that it is `<|endoftext|>`, if the vocabulary has it as
/// a special token, since it stood before each document in training; failing that, `bos_token`;
/// failing that, nothing.
#[derive(Debug)]
pub struct PretrainedTokenizer {
    model: Ready,
    words: Words,
    normalizer: Normalizer,
    /// Looked for in the text as it is, then in the normalised text.
    added: [Finder; 2],
    /// The bytes of each token.
    pieces: HashMap<u32, Vec<u8>>,
    d_vocab: usize,
    /// The same without added tokens, without which texts can be read.
    d_vocab_of_texts: usize,
    bos: Option<u32>,
}

impl PretrainedTokenizer {
    /// Reads a HuggingFace `tokenizer.json` with byte-level BPE (the words of GPT-2, Llama 3, Qwen2,
    /// SmolLM2, Tekken or GPT-4o), SentencePiece's BPE (Llama 2, Mistral, Gemma, Phi-3) or Unigram
    /// (T5). Truncation and padding that it asks for are not done.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Pretrained`] if the file is damaged or describes a tokenizer of
    /// another kind.
    pub fn from_json(path: impl AsRef<Path>) -> Result<Self> {
        Self::build(json::describe(path.as_ref())?)
    }

    /// Reads SentencePiece's `tokenizer.model`, BPE or Unigram.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Pretrained`] if the file is damaged or describes a tokenizer of
    /// another kind.
    pub fn from_sentencepiece(path: impl AsRef<Path>) -> Result<Self> {
        Self::build(sentencepiece::describe(path.as_ref())?)
    }

    /// Reads GPT-2's `vocab.json` and `merges.txt`, with what `tokenizer_config.json` and
    /// `added_tokens.json` beside them say; Qwen2's files of these names, too, where the first says
    /// that they are.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Pretrained`] if a file is damaged or they do not belong together.
    pub fn from_gpt2_files(vocab: impl AsRef<Path>, merges: impl AsRef<Path>) -> Result<Self> {
        let path = vocab.as_ref();
        let beside = Beside::of(path)?;
        let pattern = match beside.class() {
            None | Some("GPT2Tokenizer" | "PreTrainedTokenizer" | "TokenizersBackend") => {
                Pattern::Gpt2
            }
            Some("Qwen2Tokenizer") => Pattern::Qwen2,
            Some(other) => {
                let reason = format!(
                    "is {other:?}, which is not read from a vocabulary and merges; save the tokenizer as tokenizer.json (`AutoTokenizer.from_pretrained(...).save_pretrained(...)`)"
                );
                let config = path.with_file_name("tokenizer_config.json");
                return refuse("tokenizer_class", reason).map_err(of_file(&config));
            }
        };
        let parsed = from_slice(&read(path, of_file(path))?).map_err(of_file(path))?;
        let VocabJson::Ids(mut vocab) = parsed else {
            return Err(of_file(path)((
                "(file)".to_owned(),
                "a list, expected tokens with their ids".to_owned(),
            )));
        };
        let mut added = beside.added(&[])?;
        let special: HashSet<&str> = beside.named().chain([END_OF_TEXT]).collect();
        for content in special {
            let known = added.iter().any(|added| added.content == content);
            if let Some(&id) = vocab.get(content).filter(|_| !known) {
                added.push(Added::special(id, content.to_owned()));
            }
        }
        added.sort_by_key(|added| added.id);
        let checked = check_added(|k| format!("{:?}", added[k].content), &added, &vocab)
            .and_then(|()| check_vocab("(vocab)", &vocab))
            .and_then(|()| check_alphabet("(vocab)", &vocab, &added));
        checked.map_err(of_file(path))?;
        for special in added.iter().filter(|added| added.special) {
            vocab.remove(&special.content);
        }
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
        let words = Words { last: Some(pattern), ..Words::default() };
        let normalizer = match pattern {
            Pattern::Qwen2 => Normalizer::nfc(),
            _ => Normalizer::default(),
        };
        let merged = Merged { vocab, merges, ignore_merges: false };
        let described = Description::new(Model::Bytes(merged), added, Bos::default());
        let mut described = Description { words, normalizer, ..described };
        beside.configure(&mut described, false)?;
        Self::build(described)
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
        let Description { model, added, normalizer, words, bos } = described;
        let mut pieces = model.bytes();
        for added in &added {
            // SentencePiece's pieces write a space otherwise than added tokens do.
            if matches!(model, Model::Bytes(_)) || !pieces.contains_key(&added.id) {
                pieces.insert(added.id, added.content.as_bytes().to_vec());
            }
        }
        let is_added: HashSet<u32> = added.iter().map(|added| added.id).collect();
        let of_texts = pieces.keys().filter(|id| !is_added.contains(id)).max();
        let d_vocab_of_texts = of_texts.map_or(0, |&id| id as usize + 1);
        let end_of_text = added.iter().find(|added| added.special && added.content == END_OF_TEXT);
        Ok(Self {
            model: Ready::new(model)?,
            added: [false, true].map(|normalized| Finder::new(&added, normalized, &normalizer)),
            words,
            normalizer,
            d_vocab: pieces.keys().max().map_or(0, |&id| id as usize + 1),
            d_vocab_of_texts,
            pieces,
            bos: bos.first.or(end_of_text.map(|added| added.id)).or(bos.named),
        })
    }

    /// Fits the tokenizer to a model of so many embeddings. It may have more than the tokenizer has
    /// ids: many models pad their vocabulary. And added tokens may be beyond it, as those for images
    /// of a model that reads none: texts are read without them. How many tokens that are no special
    /// ones are passed over is returned, so that it can be told.
    ///
    /// # Errors
    /// [`Error::VocabularyMismatch`] if there are other ids beyond `d_vocab`.
    pub fn fit(&mut self, d_vocab: usize) -> Result<usize> {
        if self.d_vocab_of_texts > d_vocab {
            let largest = self.d_vocab_of_texts - 1;
            return Err(Error::VocabularyMismatch { largest, d_vocab });
        }
        Ok(self.added.iter_mut().map(|added| added.limit(d_vocab)).sum())
    }

    /// Whether the token's own text, in the middle of a word, is this token: then texts may be made
    /// of such tokens. Special tokens and parts of characters are not so, and neither is a token
    /// that merges do not lead to.
    pub fn reads_back(&self, id: u32) -> bool {
        let Some(Ok(text)) = self.pieces.get(&id).map(|bytes| std::str::from_utf8(bytes)) else {
            return false;
        };
        let mut ids = Vec::new();
        let in_pieces = || text.replace(' ', pieces::SPACE.encode_utf8(&mut [0; 4]));
        let read = match &self.model {
            Ready::Bytes { .. } => self.encode(text).map(|found| ids = found),
            // As it is in a longer text: with nothing put before it.
            Ready::Characters { .. } => self.model.encode(&in_pieces(), &mut ids),
            Ready::Pieces(model) => model.encode_prepared(&in_pieces(), &mut ids),
        };
        read.is_ok() && ids == [id]
    }
}

impl Tokenizer for PretrainedTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let [as_is, normalized] = &self.added;
        as_is.try_for_each(text, |at, piece, token| {
            if let Some(id) = token {
                ids.push(id);
                return Ok(());
            }
            let is_first = at == 0;
            normalized.try_for_each(&self.normalizer.apply(piece), |at, piece, token| match token {
                Some(id) => {
                    ids.push(id);
                    Ok(())
                }
                None => self.words.try_for_each(piece, is_first && at == 0, |word| {
                    self.model.encode(word, &mut ids)
                }),
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
