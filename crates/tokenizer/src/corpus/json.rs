//! Objects of JSON as documents: one a line, a list of them, or a row of Parquet each.

use std::collections::HashSet;
use std::io::BufRead;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Document, read_error, read_text, reader, too_large};
use crate::{Error, Result};

/// Keys that hold the text of an object, the first that is there.
pub(super) const TEXT_KEYS: [&str; 8] =
    ["text", "content", "story", "body", "document", "messages", "conversations", "conversation"];

/// Documents of one file, and how many of its items hold no text.
pub(super) type Found = (Vec<Document>, usize);

/// Reads JSON Lines, or a list.
pub(super) fn read_json(path: &Path, text_field: Option<&str>, limit: u64) -> Result<Found> {
    let (mut reader, limit) = reader(path, limit)?;
    let first = reader.fill_buf().map_err(|source| read_error(path, source))?;
    let first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    if first.trim_ascii_start().first() == Some(&b'[') {
        return read_list(path, text_field, limit);
    }
    read_lines(path, text_field, reader, limit)
}

/// A list of texts or of objects with a text.
fn read_list(path: &Path, text_field: Option<&str>, limit: u64) -> Result<Found> {
    let text = read_text(path, limit)?;
    let items: Vec<Value> = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|e| Error::List { path: path.to_owned(), item: 0, reason: e.to_string() })?;
    let mut ids = HashSet::new();
    let (mut documents, mut skipped) = (Vec::new(), 0);
    for (item, value) in (1..).zip(items) {
        let wrong = |reason: String| Error::List { path: path.to_owned(), item, reason };
        let found = match value {
            Value::String(text) => Some(Document { id: item.to_string(), text }),
            Value::Null => None,
            Value::Object(fields) => document_of(fields, item, text_field).map_err(wrong)?,
            _ => return Err(wrong("it is neither a text nor an object".into())),
        };
        match found.filter(|document| !document.text.is_empty()) {
            Some(document) if !ids.insert(document.id.clone()) => {
                return Err(wrong(format!("the id {:?} was used before", document.id)));
            }
            Some(document) => documents.push(document),
            None => skipped += 1,
        }
    }
    Ok((documents, skipped))
}

pub(super) fn read_lines(
    path: &Path,
    text_field: Option<&str>,
    reader: impl BufRead,
    limit: u64,
) -> Result<Found> {
    let mut reader = reader.take(limit + 1);
    let (mut documents, mut ids, mut skipped) = (Vec::new(), HashSet::new(), 0);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        reader.read_until(b'\n', &mut bytes).map_err(|source| read_error(path, source))?;
        if reader.limit() == 0 {
            return Err(too_large(path, limit));
        }
        if bytes.is_empty() {
            break;
        }
        // A byte-order mark begins a file, or one of several that were put after each other.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |reason: String| Error::Line { path: path.to_owned(), line, reason };
        let fields: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| wrong(without_line(&e)))?;
        let Some(document) = document_of(fields, line, text_field).map_err(wrong)? else {
            skipped += 1;
            continue;
        };
        if !ids.insert(document.id.clone()) {
            return Err(Error::DuplicateId { path: path.to_owned(), line, id: document.id });
        }
        if document.text.is_empty() {
            skipped += 1;
        } else {
            documents.push(document);
        }
    }
    Ok((documents, skipped))
}

/// A document of an object, by the place that it has if it has no id; nothing if its text is null.
pub(super) fn document_of(
    fields: Map<String, Value>,
    place: usize,
    text_field: Option<&str>,
) -> Result<Option<Document>, String> {
    let id = match fields.get("id") {
        None | Some(Value::Null) => place.to_string(),
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) if !id.is_f64() => id.to_string(),
        Some(other) => return Err(format!("`id` is {other}, expected a text or a whole number")),
    };
    let key = text_key(fields.keys().map(String::as_str), text_field)?;
    let text = match &fields[key] {
        Value::Null => return Ok(None),
        Value::String(text) => Some(text.clone()),
        Value::Array(messages) => said(messages),
        _ => None,
    };
    text.map(|text| Some(Document { id, text })).ok_or_else(|| {
        let mut shown = fields[key].to_string();
        if let Some((at, _)) = shown.char_indices().nth(40) {
            shown.truncate(at);
        }
        format!("`{key}` is {shown}, expected a text, or a list of messages with `content`")
    })
}

/// The key that holds the text: the one that was asked for, or the first of [`TEXT_KEYS`].
pub(super) fn text_key<'a>(
    keys: impl Iterator<Item = &'a str> + Clone,
    text_field: Option<&'a str>,
) -> Result<&'a str, String> {
    let has = |key: &&str| keys.clone().any(|found| found == *key);
    let asked: &[&str] = text_field.as_slice();
    let looked_for = if asked.is_empty() { &TEXT_KEYS } else { asked };
    looked_for.iter().copied().find(has).ok_or_else(|| {
        let quoted = |key: &str| format!("`{key}`");
        let there: Vec<String> = keys.clone().take(8).map(quoted).collect();
        let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
        let none: Vec<String> = looked_for.iter().copied().map(quoted).collect();
        format!(
            "no text: it has {there}, and none of {}; name the one that holds the text (--text-field, or `text_field` in a spec)",
            none.join(", ")
        )
    })
}

/// What the messages of a chat say, each a paragraph. Their roles are left out: a few names that
/// come again in every message would be taken for what the text repeats.
fn said(messages: &[Value]) -> Option<String> {
    let content = |message: &Value| {
        let of = |key: &str| message.get(key);
        match of("content").or_else(|| of("value")).or_else(|| of("text"))? {
            Value::String(text) => Some(text.clone()),
            Value::Null => Some(String::new()),
            _ => None,
        }
    };
    let said: Vec<String> = messages.iter().map(content).collect::<Option<_>>()?;
    Some(said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n"))
}

/// serde_json sees one line at a time, so its "at line 1 column 7" would contradict the real line
/// number.
fn without_line(error: &serde_json::Error) -> String {
    error
        .to_string()
        .replace("at line 1 column", "at column")
        .replace("at line 2 column 0", "at the line's end")
}
