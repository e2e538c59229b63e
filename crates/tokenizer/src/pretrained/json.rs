//! Reading a pretrained model's `tokenizer.json` without trusting it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::added::{Added, AddedJson, check_added};
use super::beside::Beside;
use super::bos::{Bos, first_special};
use super::normalizer::{Normalizer, NormalizerJson};
use super::pieces::{Algorithm, Kind, Piece, SPACE, Vocabulary};
use super::vocabulary::{
    MAX_TOKENS, VocabJson, check_alphabet, check_merges, check_vocab, from_slice, of_file, pair,
};
use super::words::{Before, Metaspace, Pattern, Step, Words};
use super::{Description, Merged, Model, Unknown};
use crate::Result;
use crate::tokenizer_file::{Refusal, read, refuse};

#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedJson>,
    normalizer: Option<NormalizerJson>,
    pre_tokenizer: Option<StepJson>,
    post_processor: Option<Value>,
    model: ModelJson,
}

#[derive(Deserialize)]
struct StepJson {
    r#type: String,
    add_prefix_space: Option<bool>,
    use_regex: Option<bool>,
    individual_digits: Option<bool>,
    pattern: Option<PatternJson>,
    behavior: Option<String>,
    invert: Option<bool>,
    replacement: Option<String>,
    prepend_scheme: Option<String>,
    split: Option<bool>,
    #[serde(default)]
    pretokenizers: Vec<StepJson>,
}

#[derive(Deserialize)]
struct PatternJson {
    #[serde(rename = "Regex")]
    regex: Option<String>,
    #[serde(rename = "String")]
    string: Option<String>,
}

#[derive(Deserialize)]
struct ModelJson {
    /// Old files leave it out.
    r#type: Option<String>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    unk_token: Option<String>,
    fuse_unk: Option<bool>,
    /// Of Unigram.
    unk_id: Option<u32>,
    vocab: VocabJson,
    #[serde(default)]
    merges: Vec<MergeJson>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MergeJson {
    Pair(String, String),
    Text(String),
}

/// What the file describes, and what `tokenizer_config.json` beside it says of BOS.
pub(super) fn describe(path: &Path) -> Result<Description> {
    let beside = Beside::of(path)?;
    let mut json: TokenizerJson = from_slice(&read(path, of_file(path))?).map_err(of_file(path))?;
    let mut added: Vec<Added> = json.added_tokens.drain(..).map(AddedJson::read).collect();
    added.extend(beside.added(&added)?);
    let mut described = parse(json, added).map_err(of_file(path))?;
    beside.configure(&mut described, true)?;
    Ok(described)
}

fn parse(json: TokenizerJson, added: Vec<Added>) -> Result<Description, Refusal> {
    let byte_fallback = json.model.byte_fallback.unwrap_or(false);
    let (model, words) = match json.model.r#type.as_deref() {
        None | Some("BPE") if byte_fallback => (characters(json.model, &added)?, false),
        None | Some("BPE") => (byte_level(json.model, &added)?, true),
        Some("Unigram") => (unigram(json.model, &added)?, false),
        Some(other) => {
            return refuse("model.type", format!("is {other:?}, expected \"BPE\" or \"Unigram\""));
        }
    };
    let words =
        if words { words_of_bytes(json.pre_tokenizer)? } else { spaced(json.pre_tokenizer)? };
    let normalizer = Normalizer::from_json(json.normalizer)?;
    let bos = Bos { first: first_special(json.post_processor.as_ref(), &added)?, named: None };
    Ok(Description { model, added, normalizer, words, bos })
}

/// Over the byte alphabet.
fn byte_level(model: ModelJson, added: &[Added]) -> Result<Model, Refusal> {
    let merged = merged(model, added)?;
    check_merges("model.merges", &merged.merges, &merged.vocab)?;
    check_alphabet("model.vocab", &merged.vocab, added)?;
    Ok(Model::Bytes(merged))
}

/// Over characters, with bytes for those that are no tokens.
fn characters(mut model: ModelJson, added: &[Added]) -> Result<Model, Refusal> {
    let fuse = model.fuse_unk.unwrap_or(false);
    let token = match (model.unk_token.take(), &model.vocab) {
        (Some(token), VocabJson::Ids(vocab)) => match vocab.get(&token) {
            Some(&id) => Some((token, id)),
            None => {
                return refuse(
                    "model.unk_token",
                    format!("is {token:?}, which is not in model.vocab, expected null or a token"),
                );
            }
        },
        _ => None,
    };
    let mut merged = merged(model, added)?;
    if let Some((token, _)) = &token {
        merged.vocab.remove(token);
    }
    // Converters make merges of whatever pieces there are. Those that lead to special tokens are of
    // no use, since texts give none.
    let special: HashSet<&str> = added
        .iter()
        .filter(|added| added.special)
        .map(|added| added.content.as_str())
        .chain(token.as_ref().map(|(token, _)| token.as_str()))
        .collect();
    merged.merges.retain(|(left, right)| {
        ![left.as_str(), right, &format!("{left}{right}")].iter().any(|it| special.contains(it))
    });
    check_merges("model.merges", &merged.merges, &merged.vocab)?;
    Ok(Model::Characters(merged, Unknown { token, fuse, bytes: true }))
}

/// The vocabulary less special tokens, and merges of which nothing is checked yet.
fn merged(model: ModelJson, added: &[Added]) -> Result<Merged, Refusal> {
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return refuse("model.dropout", "is set, expected null");
    }
    let marks = [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ];
    if let Some((field, mark)) =
        marks.iter().find(|(_, mark)| mark.as_ref().is_some_and(|mark| !mark.is_empty()))
    {
        return refuse(*field, format!("is {mark:?}, expected null"));
    }
    let VocabJson::Ids(mut vocab) = model.vocab else {
        return refuse("model.vocab", "is a list (Unigram), expected tokens with their ids");
    };
    check_added(|k| format!("added_tokens[{k}]"), added, &vocab)?;
    check_vocab("model.vocab", &vocab)?;
    for special in added.iter().filter(|added| added.special) {
        vocab.remove(&special.content);
    }
    let mut merges = Vec::with_capacity(model.merges.len());
    for (rank, merge) in model.merges.into_iter().enumerate() {
        merges.push(match merge {
            MergeJson::Pair(left, right) => (left, right),
            MergeJson::Text(text) => match pair(&text) {
                Some(pair) => pair,
                None => {
                    return refuse(
                        format!("model.merges[{rank}]"),
                        format!("is {text:?}, expected two tokens"),
                    );
                }
            },
        });
    }
    let ignore_merges = model.ignore_merges.unwrap_or(false);
    Ok(Merged { vocab, merges, ignore_merges })
}

/// Pieces with scores, by id.
fn unigram(model: ModelJson, added: &[Added]) -> Result<Model, Refusal> {
    let VocabJson::Scores(scores) = model.vocab else {
        return refuse("model.vocab", "is a map, expected a list of pieces with their scores");
    };
    if scores.len() > MAX_TOKENS {
        let reason = format!("{} tokens, expected 1 to {MAX_TOKENS}", scores.len());
        return refuse("model.vocab", reason);
    }
    let mut ids = HashMap::with_capacity(scores.len());
    for ((piece, score), id) in scores.iter().zip(0..) {
        if let Some(other) = ids.insert(piece.clone(), id) {
            return refuse(format!("model.vocab[{id}]"), format!("is token {other} again"));
        }
        if !score.is_finite() {
            return refuse(format!("model.vocab[{id}]"), "has no finite score, expected one");
        }
    }
    check_added(|k| format!("added_tokens[{k}]"), added, &ids)?;
    check_vocab("model.vocab", &ids)?;
    let n_tokens = scores.len();
    if model.unk_id.is_some_and(|unk| unk as usize >= n_tokens) {
        let reason = format!("is {:?}, expected null or below {n_tokens}", model.unk_id);
        return refuse("model.unk_id", reason);
    }
    let special: HashSet<&str> =
        added.iter().filter(|added| added.special).map(|added| added.content.as_str()).collect();
    let piece = |(content, score): (String, f64)| {
        let silent = special.contains(content.as_str());
        Piece { kind: if silent { Kind::Silent } else { Kind::Normal }, content, score }
    };
    Ok(Model::Pieces(Vocabulary {
        pieces: scores.into_iter().map(piece).collect(),
        algorithm: Algorithm::Unigram { single: false },
        unk: model.unk_id,
        byte_fallback: model.byte_fallback.unwrap_or(false),
        spacing: None,
    }))
}

fn steps_of(pre_tokenizer: Option<StepJson>) -> Vec<StepJson> {
    match pre_tokenizer {
        Some(step) if step.r#type == "Sequence" => step.pretokenizers,
        step => Vec::from_iter(step),
    }
}

/// How byte-level BPE cuts a text.
fn words_of_bytes(pre_tokenizer: Option<StepJson>) -> Result<Words, Refusal> {
    let mut steps = steps_of(pre_tokenizer);
    let last = steps.pop().filter(|step| step.r#type == "ByteLevel");
    let Some(StepJson { add_prefix_space: Some(prefix_space), use_regex, .. }) = last else {
        return refuse(
            "pre_tokenizer",
            "does not end in ByteLevel with add_prefix_space, which byte-level BPE does",
        );
    };
    let steps = steps
        .iter()
        .enumerate()
        .map(|(k, json)| step(&format!("pre_tokenizer.pretokenizers[{k}]"), json));
    let last = use_regex.unwrap_or(true).then_some(Pattern::Gpt2);
    Ok(Words { steps: steps.collect::<Result<_, _>>()?, prefix_space, last, metaspace: None })
}

/// How a text is cut whose spaces are pieces' own.
fn spaced(pre_tokenizer: Option<StepJson>) -> Result<Words, Refusal> {
    let mut words = Words::default();
    for (k, json) in steps_of(pre_tokenizer).into_iter().enumerate() {
        let field = format!("pre_tokenizer[{k}]");
        if words.metaspace.is_some() {
            let reason =
                format!("is {:?} after Metaspace, expected that to be the last", json.r#type);
            return refuse(field, reason);
        }
        match json.r#type.as_str() {
            "WhitespaceSplit" => words.steps.push(Step::WhiteSpace),
            "Digits" => words.steps.push(step(&field, &json)?),
            "Split" => words.steps.push(after_spaces(&field, &json)?),
            "Metaspace" => words.metaspace = Some(metaspace(&field, &json)?),
            other => {
                return refuse(
                    format!("{field}.type"),
                    format!("is {other:?}, expected Metaspace, WhitespaceSplit, Digits or Split"),
                );
            }
        }
    }
    Ok(words)
}

fn after_spaces(field: &str, json: &StepJson) -> Result<Step, Refusal> {
    let pattern = json.pattern.as_ref().and_then(|pattern| pattern.string.as_deref());
    let (behavior, invert) = (json.behavior.as_deref(), json.invert.unwrap_or(false));
    match (pattern, behavior, invert) {
        (Some(" "), Some("MergedWithPrevious"), false) => Ok(Step::AfterSpaces),
        _ => refuse(
            field,
            format!(
                "is a Split at {pattern:?}, behavior {behavior:?}, invert {invert}, expected \" \", MergedWithPrevious, false"
            ),
        ),
    }
}

fn metaspace(field: &str, json: &StepJson) -> Result<Metaspace, Refusal> {
    if json.replacement.as_deref() != Some(SPACE.encode_utf8(&mut [0; 4])) {
        let reason = format!("is {:?}, expected {SPACE:?}", json.replacement);
        return refuse(format!("{field}.replacement"), reason);
    }
    let before = match (json.prepend_scheme.as_deref(), json.add_prefix_space) {
        (Some("never"), _) | (None, Some(false)) => Before::None,
        (Some("always") | None, None | Some(true)) => Before::Every,
        (Some("first"), None | Some(true)) => Before::First,
        (scheme, prefix) => {
            return refuse(
                format!("{field}.prepend_scheme"),
                format!(
                    "is {scheme:?} with add_prefix_space {prefix:?}, expected always, first or never"
                ),
            );
        }
    };
    Ok(Metaspace { before, split: json.split.unwrap_or(true) })
}

fn step(field: &str, json: &StepJson) -> Result<Step, Refusal> {
    match json.r#type.as_str() {
        "Digits" => Ok(Step::Digits { individual: json.individual_digits.unwrap_or(false) }),
        "Split" => {
            let regex = json.pattern.as_ref().and_then(|pattern| pattern.regex.as_deref());
            let Some(pattern) = regex.and_then(Pattern::known) else {
                return refuse(
                    format!("{field}.pattern"),
                    format!(
                        "is {regex:?}, expected that of GPT-2, Llama 3, Qwen2, Tekken or GPT-4o"
                    ),
                );
            };
            // The known patterns leave nothing between their matches, so both of these say the
            // same.
            match (json.behavior.as_deref(), json.invert.unwrap_or(false)) {
                (Some("Isolated"), _) | (Some("Removed"), true) => Ok(Step::Pattern(pattern)),
                (behavior, invert) => {
                    let reason = format!(
                        "behavior {behavior:?} with invert {invert}, expected \"Isolated\""
                    );
                    refuse(field, reason)
                }
            }
        }
        other => refuse(format!("{field}.type"), format!("is {other:?}, expected Split or Digits")),
    }
}
