//! Reading a pretrained model's `tokenizer.json` without trusting it.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Description;
use super::added::{Added, check_added};
use super::bos::{Bos, configure, first_special};
use super::vocabulary::{IdsByToken, check_merges, check_vocab, from_slice, of_file, pair};
use super::words::{Pattern, Step, Words};
use crate::Result;
use crate::tokenizer_file::{Refusal, read, refuse};

#[derive(Deserialize)]
struct TokenizerJson {
    #[serde(default)]
    added_tokens: Vec<AddedJson>,
    normalizer: Option<NormalizerJson>,
    pre_tokenizer: Option<StepJson>,
    post_processor: Option<Value>,
    decoder: Option<TypeJson>,
    model: ModelJson,
}

#[derive(Deserialize)]
struct AddedJson {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct TypeJson {
    r#type: String,
}

#[derive(Deserialize)]
struct NormalizerJson {
    r#type: String,
    #[serde(default)]
    normalizers: Vec<TypeJson>,
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
    #[serde(default)]
    pretokenizers: Vec<StepJson>,
}

#[derive(Deserialize)]
struct PatternJson {
    #[serde(rename = "Regex")]
    regex: Option<String>,
}

#[derive(Deserialize)]
struct ModelJson {
    /// Old files leave it out.
    r#type: Option<String>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: IdsByToken,
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
    let mut described = parse(&read(path, of_file(path))?).map_err(of_file(path))?;
    let config = path.with_file_name("tokenizer_config.json");
    if described.bos.first.is_none() && config.is_file() {
        configure(&read(&config, of_file(&config))?, &mut described).map_err(of_file(&config))?;
    }
    Ok(described)
}

fn parse(bytes: &[u8]) -> Result<Description, Refusal> {
    let json: TokenizerJson = from_slice(bytes)?;
    check_model(&json)?;
    let IdsByToken(Some(mut vocab)) = json.model.vocab else {
        return refuse("model.vocab", "is a list (Unigram), expected tokens with their ids");
    };
    let added = added(json.added_tokens)?;
    check_added(|k| format!("added_tokens[{k}]"), &added, &vocab)?;
    check_vocab("model.vocab", &vocab, &added)?;
    for special in added.iter().filter(|added| added.special) {
        vocab.remove(&special.content);
    }
    let mut merges = Vec::with_capacity(json.model.merges.len());
    for (rank, merge) in json.model.merges.into_iter().enumerate() {
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
    check_merges("model.merges", &merges, &vocab)?;
    let words = words(json.pre_tokenizer)?;
    let nfc = nfc(json.normalizer)?;
    let bos = Bos { first: first_special(json.post_processor.as_ref(), &added)?, named: None };
    Ok(Description {
        vocab,
        merges,
        ignore_merges: json.model.ignore_merges,
        added,
        nfc,
        words,
        bos,
    })
}

/// Byte-level BPE, with nothing that would cut or mark words otherwise.
fn check_model(json: &TokenizerJson) -> Result<(), Refusal> {
    let model = &json.model;
    match model.r#type.as_deref() {
        None | Some("BPE") => {}
        Some(other) => return refuse("model.type", format!("is {other:?}, expected \"BPE\"")),
    }
    if model.byte_fallback {
        return refuse("model.byte_fallback", "is true (SentencePiece), expected byte-level BPE");
    }
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
    match &json.decoder {
        Some(TypeJson { r#type }) if r#type == "ByteLevel" => Ok(()),
        other => {
            let given = other.as_ref().map(|decoder| &decoder.r#type);
            refuse("decoder", format!("is {given:?}, expected ByteLevel"))
        }
    }
}

fn added(added: Vec<AddedJson>) -> Result<Vec<Added>, Refusal> {
    let read = |(k, json): (usize, AddedJson)| {
        // Of special tokens these do not matter: no text is searched for them.
        if !json.special && (json.single_word || json.lstrip || json.rstrip) {
            return refuse(
                format!("added_tokens[{k}]"),
                "single_word, lstrip or rstrip is set, expected false",
            );
        }
        Ok(Added {
            id: json.id,
            content: json.content,
            special: json.special,
            normalized: json.normalized,
        })
    };
    added.into_iter().enumerate().map(read).collect()
}

fn nfc(normalizer: Option<NormalizerJson>) -> Result<bool, Refusal> {
    let Some(NormalizerJson { r#type, normalizers }) = normalizer else { return Ok(false) };
    let steps = if r#type == "Sequence" { normalizers } else { vec![TypeJson { r#type }] };
    match steps.iter().find(|step| step.r#type != "NFC") {
        Some(other) => {
            refuse("normalizer", format!("has {:?}, expected null or NFC", other.r#type))
        }
        None => Ok(!steps.is_empty()),
    }
}

fn words(pre_tokenizer: Option<StepJson>) -> Result<Words, Refusal> {
    let mut steps = match pre_tokenizer {
        Some(step) if step.r#type == "Sequence" => step.pretokenizers,
        step => Vec::from_iter(step),
    };
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
    Ok(Words { steps: steps.collect::<Result<_, _>>()?, prefix_space, last })
}

fn step(field: &str, json: &StepJson) -> Result<Step, Refusal> {
    match json.r#type.as_str() {
        "Digits" => Ok(Step::Digits { individual: json.individual_digits.unwrap_or(false) }),
        "Split" => {
            let regex = json.pattern.as_ref().and_then(|pattern| pattern.regex.as_deref());
            let Some(pattern) = regex.and_then(Pattern::known) else {
                return refuse(
                    format!("{field}.pattern"),
                    format!("is {regex:?}, expected that of GPT-2, Llama 3 or Qwen2"),
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
