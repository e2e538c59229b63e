//! What is checked of a vocabulary, whatever file it is in, before the library gets it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokenizers::models::bpe::Merges;

use super::added::Added;
use crate::tokenizer_file::{Refusal, refuse};
use crate::{Error, bytes};

/// Four times the largest vocabulary of a known model.
pub(super) const MAX_TOKENS: usize = 1 << 20;

/// The longest token of a known model is a run of 512 dashes.
const MAX_TOKEN_BYTES: usize = 1024;

/// Characters of a reason.
const MAX_QUOTED: usize = 300;

/// For `map_err`: a refusal of something in the file.
pub(super) fn of_file(path: &Path) -> impl Fn(Refusal) -> Error {
    // A reason quotes what the file says, which may be all of its megabytes.
    let short = |text: String| text.chars().take(MAX_QUOTED).collect();
    move |(field, reason)| Error::Pretrained {
        path: path.to_owned(),
        field: short(field),
        reason: short(reason),
    }
}

/// The content as JSON.
pub(super) fn from_slice<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).or_else(|e| refuse("(file)", e.to_string()))
}

/// `model.vocab`.
pub(super) enum VocabJson {
    Ids(HashMap<String, u32>),
    /// Of Unigram: the pieces with their scores, by id.
    Scores(Vec<(String, f64)>),
}

impl<'de> Deserialize<'de> for VocabJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = VocabJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens with their ids, or a list of pieces with their scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabJson, A::Error> {
                let mut vocab = HashMap::new();
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    if let Some(other) = vocab.insert(token, id) {
                        return Err(A::Error::custom(format!(
                            "a token has the ids {other} and {id}"
                        )));
                    }
                }
                Ok(VocabJson::Ids(vocab))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<VocabJson, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = list.next_element()? {
                    pieces.push(piece);
                }
                Ok(VocabJson::Scores(pieces))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Tokens are of a sensible size and number, and no two have the same id.
pub(super) fn check_vocab(field: &str, vocab: &HashMap<String, u32>) -> Result<(), Refusal> {
    if vocab.is_empty() || vocab.len() > MAX_TOKENS {
        return refuse(field, format!("{} tokens, expected 1 to {MAX_TOKENS}", vocab.len()));
    }
    let mut ids = HashSet::with_capacity(vocab.len());
    for (token, &id) in vocab {
        check_token(field, token, id)?;
        if !ids.insert(id) {
            return refuse(field, format!("id {id} is used twice"));
        }
    }
    Ok(())
}

/// Every token that is not an added one is written in the byte alphabet.
pub(super) fn check_alphabet(
    field: &str,
    vocab: &HashMap<String, u32>,
    added: &[Added],
) -> Result<(), Refusal> {
    let added: HashSet<&str> = added.iter().map(|added| added.content.as_str()).collect();
    let byte_of = bytes::bytes();
    let in_alphabet = |token: &str| token.chars().all(|c| byte_of.contains_key(&c));
    let other =
        vocab.iter().find(|(token, _)| !added.contains(token.as_str()) && !in_alphabet(token));
    match other {
        Some((token, id)) => refuse(
            field,
            format!("token {id} ({token:?}) is not in the byte alphabet, as byte-level BPE has it"),
        ),
        None => Ok(()),
    }
}

pub(super) fn check_token(field: &str, token: &str, id: u32) -> Result<(), Refusal> {
    if id as usize >= MAX_TOKENS {
        return refuse(field, format!("id {id}, expected below {MAX_TOKENS}"));
    }
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return refuse(
            field,
            format!("token {id} has {} bytes, expected 1 to {MAX_TOKEN_BYTES}", token.len()),
        );
    }
    Ok(())
}

/// Merges take and make tokens of `vocab`, from which special tokens must have been left out.
pub(super) fn check_merges(
    field: &str,
    merges: &Merges,
    vocab: &HashMap<String, u32>,
) -> Result<(), Refusal> {
    for (rank, (left, right)) in merges.iter().enumerate() {
        let merged = format!("{left}{right}");
        if let Some(unknown) =
            [left, right, &merged].into_iter().find(|token| !vocab.contains_key(*token))
        {
            let reason = format!("{unknown:?} is not a token that texts can have, expected one");
            return refuse(format!("{field}[{rank}]"), reason);
        }
    }
    Ok(())
}

/// `"a b"` as a pair.
pub(super) fn pair(merge: &str) -> Option<(String, String)> {
    let (left, right) = merge.split_once(' ')?;
    let is_pair = !left.is_empty() && !right.is_empty() && !right.contains(' ');
    is_pair.then(|| (left.to_owned(), right.to_owned()))
}
