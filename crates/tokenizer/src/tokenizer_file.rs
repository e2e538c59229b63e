//! Reading a `tokenizer.json` without trusting it.
//!
//! The library's own reader accepts every kind of tokenizer and has panicked on crafted files. Only
//! one kind is usable here, so the file is read into the shape of that kind and checked; the
//! library then gets a vocabulary and merges that it cannot stumble over.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokenizers::models::bpe::Merges;

use crate::bpe::{BOS, MAX_D_VOCAB, MIN_D_VOCAB};
use crate::{Error, Result, bytes};

/// The largest known `tokenizer.json` (250,000 tokens and as many merges) has about 20 MB.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A field and what is wrong with it.
pub(crate) type Refusal = (String, String);

pub(crate) fn refuse<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, Refusal> {
    Err((field.into(), reason.into()))
}

/// A tokenizer's file, whoever made it: a file over the limit becomes an error by `of_file`.
pub(crate) fn read(path: &Path, of_file: impl Fn(Refusal) -> Error) -> Result<Vec<u8>> {
    let bytes = beginning(path, "read the tokenizer", MAX_FILE_BYTES + 1)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return refuse("(file)", format!("larger than {MAX_FILE_BYTES} bytes")).map_err(of_file);
    }
    Ok(bytes)
}

/// The first `limit` bytes of a file, or all that it has.
pub(crate) fn beginning(path: &Path, action: &'static str, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(action, path))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(Error::io(action, path))?;
    Ok(bytes)
}

/// For `map_err`: a refusal of something in the file.
pub(crate) fn of_file(path: &Path) -> impl Fn(Refusal) -> Error {
    move |(field, reason)| Error::Tokenizer { path: path.to_owned(), field, reason }
}

#[derive(Deserialize)]
struct TokenizerJson {
    truncation: Option<IgnoredAny>,
    padding: Option<IgnoredAny>,
    added_tokens: Vec<AddedJson>,
    normalizer: Option<IgnoredAny>,
    pre_tokenizer: Option<StepJson>,
    post_processor: Option<IgnoredAny>,
    decoder: Option<StepJson>,
    model: ModelJson,
}

#[derive(Deserialize)]
struct AddedJson {
    id: u32,
    content: String,
    special: bool,
}

#[derive(Deserialize)]
struct StepJson {
    r#type: String,
    add_prefix_space: Option<bool>,
    use_regex: Option<bool>,
}

#[derive(Deserialize)]
struct ModelJson {
    r#type: String,
    dropout: Option<IgnoredAny>,
    unk_token: Option<IgnoredAny>,
    continuing_subword_prefix: Option<IgnoredAny>,
    end_of_word_suffix: Option<IgnoredAny>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: HashMap<String, u32>,
    merges: Merges,
}

/// The tokens by id, and the merges in their order.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Vec<String>, Merges), Refusal> {
    let json: TokenizerJson =
        serde_json::from_slice(bytes).or_else(|e| refuse("(file)", e.to_string()))?;
    check_steps(&json)?;
    check_added(&json.added_tokens)?;
    let vocab = ordered(&json.model.vocab)?;
    check_bytes(&vocab, &json.model.vocab)?;
    check_merges(&json.model.merges, &json.model.vocab)?;
    Ok((vocab, json.model.merges))
}

/// Everything beside the vocabulary must be as `BpeTokenizer` builds it.
fn check_steps(json: &TokenizerJson) -> Result<(), Refusal> {
    let absent = [
        ("truncation", &json.truncation),
        ("padding", &json.padding),
        ("normalizer", &json.normalizer),
        ("post_processor", &json.post_processor),
        ("model.dropout", &json.model.dropout),
        ("model.unk_token", &json.model.unk_token),
        ("model.continuing_subword_prefix", &json.model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &json.model.end_of_word_suffix),
    ];
    if let Some((field, _)) = absent.iter().find(|(_, value)| value.is_some()) {
        return refuse(*field, "is set, expected null");
    }
    for (field, is_set) in [
        ("model.byte_fallback", json.model.byte_fallback),
        ("model.ignore_merges", json.model.ignore_merges),
    ] {
        if is_set {
            return refuse(field, "is true, expected false");
        }
    }
    if json.model.r#type != "BPE" {
        return refuse("model.type", format!("is {:?}, expected \"BPE\"", json.model.r#type));
    }
    match &json.pre_tokenizer {
        Some(StepJson { r#type, add_prefix_space: Some(false), use_regex: None | Some(true) })
            if r#type == "ByteLevel" => {}
        _ => {
            return refuse(
                "pre_tokenizer",
                "expected ByteLevel with add_prefix_space false and use_regex true",
            );
        }
    }
    match &json.decoder {
        Some(StepJson { r#type, .. }) if r#type == "ByteLevel" => Ok(()),
        _ => refuse("decoder", "expected ByteLevel"),
    }
}

fn check_added(added: &[AddedJson]) -> Result<(), Refusal> {
    match added {
        [AddedJson { id: 0, content, special: true }] if content == BOS => Ok(()),
        _ => refuse("added_tokens", format!("expected `{BOS}` alone, with id 0 and special")),
    }
}

/// The tokens in the order of their ids, which must be 0, 1, 2, ... with [`BOS`] first.
fn ordered(ids: &HashMap<String, u32>) -> Result<Vec<String>, Refusal> {
    if !(MIN_D_VOCAB..=MAX_D_VOCAB).contains(&ids.len()) {
        return refuse(
            "model.vocab",
            format!("{} tokens, expected {MIN_D_VOCAB} to {MAX_D_VOCAB}", ids.len()),
        );
    }
    let mut tokens = vec![None; ids.len()];
    for (token, &id) in ids {
        match tokens.get_mut(id as usize) {
            Some(place @ None) => *place = Some(token.clone()),
            _ => {
                return refuse(
                    "model.vocab",
                    format!("id {id} is used twice or not below {}", ids.len()),
                );
            }
        }
    }
    if tokens[0].as_deref() != Some(BOS) {
        return refuse("model.vocab", format!("token 0 is {:?}, expected `{BOS}`", tokens[0]));
    }
    // As many ids as places and none used twice: every place is filled.
    Ok(tokens.into_iter().flatten().collect())
}

/// A missing byte would be dropped from texts without a word, and a character that stands for no
/// byte cannot be decoded.
fn check_bytes(tokens: &[String], ids: &HashMap<String, u32>) -> Result<(), Refusal> {
    if let Some(byte) = bytes::characters()
        .iter()
        .position(|c| !ids.contains_key(c.encode_utf8(&mut [0; 4]) as &str))
    {
        return refuse("model.vocab", format!("no token for byte {byte:#04x}"));
    }
    let byte_of = bytes::bytes();
    match tokens
        .iter()
        .position(|token| token.is_empty() || token.chars().any(|c| !byte_of.contains_key(&c)))
    {
        Some(id) => refuse(
            "model.vocab",
            format!("token {id} ({:?}) is not in the byte alphabet", tokens[id]),
        ),
        None => Ok(()),
    }
}

fn check_merges(merges: &Merges, ids: &HashMap<String, u32>) -> Result<(), Refusal> {
    for (rank, (left, right)) in merges.iter().enumerate() {
        let merged = format!("{left}{right}");
        if let Some(unknown) =
            [left, right, &merged].into_iter().find(|token| !ids.contains_key(*token))
        {
            return refuse(
                format!("model.merges[{rank}]"),
                format!("{unknown:?} is not in the vocabulary"),
            );
        }
        if [left.as_str(), right, &merged].contains(&BOS) {
            return refuse(
                format!("model.merges[{rank}]"),
                format!("makes or takes `{BOS}`, which no text may give"),
            );
        }
    }
    Ok(())
}
