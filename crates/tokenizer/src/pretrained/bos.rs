//! What a sequence begins with, as far as files say it.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Description;
use super::added::Added;
use super::vocabulary::{from_slice, of_file};
use crate::Result;
use crate::tokenizer_file::{Refusal, read, refuse};

/// What is known of a sequence's first token.
#[derive(Default)]
pub(super) struct Bos {
    /// What the model's own tokenizer puts first.
    pub(super) first: Option<u32>,
    /// What is called BOS, put first or not.
    pub(super) named: Option<u32>,
}

/// The special token that the post-processor puts before a sequence.
pub(super) fn first_special(
    processor: Option<&Value>,
    added: &[Added],
) -> Result<Option<u32>, Refusal> {
    let Some(processor) = processor else { return Ok(None) };
    let kind = |processor: &Value| {
        processor.get("type").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let processors = match processor.get("processors").and_then(Value::as_array) {
        Some(processors) if kind(processor) == "Sequence" => processors.as_slice(),
        _ => std::slice::from_ref(processor),
    };
    let Some(template) =
        processors.iter().find(|processor| kind(processor) == "TemplateProcessing")
    else {
        return Ok(None);
    };
    let name = |k: usize| template.get("single")?.get(k)?.get("SpecialToken")?.get("id")?.as_str();
    let Some(first) = name(0) else { return Ok(None) };
    let ids =
        template.get("special_tokens").and_then(|tokens| tokens.get(first)?.get("ids")?.as_array());
    let id = match (ids.map(Vec::as_slice), name(1)) {
        (Some([id]), None) => id.as_u64(),
        _ => None,
    };
    match added.iter().find(|added| added.special && Some(u64::from(added.id)) == id) {
        Some(added) => Ok(Some(added.id)),
        None => refuse(
            "post_processor",
            format!("begins with {first:?}, expected one special token with its id"),
        ),
    }
}

#[derive(Deserialize)]
struct ConfigJson {
    add_bos_token: Option<bool>,
    bos_token: Option<NamedJson>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NamedJson {
    Text(String),
    Token { content: String },
}

/// Adds what `tokenizer_config.json` beside the tokenizer's file says.
pub(super) fn beside(path: &Path, described: &mut Description) -> Result<()> {
    let config = path.with_file_name("tokenizer_config.json");
    if described.bos.first.is_none() && config.is_file() {
        configure(&read(&config, of_file(&config))?, described).map_err(of_file(&config))?;
    }
    Ok(())
}

fn configure(bytes: &[u8], described: &mut Description) -> Result<(), Refusal> {
    let config: ConfigJson = from_slice(bytes)?;
    let Some(NamedJson::Text(name) | NamedJson::Token { content: name }) = config.bos_token else {
        return Ok(());
    };
    let added = described.added.iter().find(|added| added.content == name).map(|added| added.id);
    let id = added.or_else(|| described.model.id_of(&name));
    if config.add_bos_token == Some(true) {
        if id.is_none() {
            return refuse("bos_token", format!("{name:?} is not a token of the tokenizer"));
        }
        described.bos.first = id;
    }
    described.bos.named = id;
    Ok(())
}
