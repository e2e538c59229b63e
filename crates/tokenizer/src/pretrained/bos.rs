//! What a sequence begins with, as far as a tokenizer's own file says it.

use serde_json::Value;

use super::added::Added;
use crate::Result;
use crate::tokenizer_file::{Refusal, refuse};

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
    match added.iter().find(|added| Some(u64::from(added.id)) == id) {
        Some(added) => Ok(Some(added.id)),
        None => refuse(
            "post_processor",
            format!("begins with {first:?}, expected one added token with its id"),
        ),
    }
}
