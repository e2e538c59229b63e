//! Objects of JSON as documents: one a line, a list of them, or a row of Parquet each.

use std::collections::HashSet;
use std::fmt;
use std::io::BufRead;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{Document, Found, kind_of, read_error, read_text, reader, too_large};
use crate::{Error, Result};

/// Keys that hold the text of an object, the first in which there is any.
const TEXT_KEYS: [&str; 8] =
    ["text", "content", "story", "body", "document", "messages", "conversations", "conversation"];

/// Reads JSON Lines, or a list.
pub(super) fn read_json(path: &Path, text_field: Option<&str>, limit: u64) -> Result<Found> {
    let (mut reader, limit) = reader(path, limit)?;
    let first = reader.fill_buf().map_err(|source| read_error(path, source))?;
    if let Some((kind, help)) = kind_of(first) {
        return Err(Error::NotText { path: path.to_owned(), kind, help });
    }
    let first = first.strip_prefix(MARK).unwrap_or(first);
    if first.trim_ascii_start().first() == Some(&b'[') && !is_line(first) {
        return read_list(path, text_field, limit);
    }
    read_lines(path, text_field, reader, limit)
}

/// A byte-order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether a file begins with a whole list and has more lines: then it has one a line, which is no
/// document.
fn is_line(first: &[u8]) -> bool {
    let mut lines = first.splitn(2, |&byte| byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let more = lines.next().is_some_and(|rest| !rest.trim_ascii().is_empty());
    more && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// A list of texts or of objects with a text.
fn read_list(path: &Path, text_field: Option<&str>, limit: u64) -> Result<Found> {
    let text = read_text(path, limit)?;
    let looked_for = looked_for(text_field.as_slice());
    let text = text.trim_start_matches('\u{feff}').as_bytes();
    let items = parsed(text, |json| list_of(json, looked_for));
    let (items, mended) = items.map_err(|error| {
        let mut reason = error.to_string();
        if reason.starts_with("trailing characters") {
            reason +=
                "; of several lists this makes lines, which are read: `jq -c '.[]' IN > OUT.jsonl`";
        }
        Error::List { path: path.to_owned(), item: 0, reason }
    })?;
    let mut documents = Documents::default();
    documents.found.flaws.mended = mended;
    for (item, value) in (1..).zip(items) {
        let wrong = |reason: String| Error::List { path: path.to_owned(), item, reason };
        let which = || format!("item {item} of {}", path.display());
        documents.add_item(value, item, looked_for, which).map_err(wrong)?;
    }
    documents.all(looked_for).map_err(|reason| Error::List {
        path: path.to_owned(),
        item: 1,
        reason,
    })
}

pub(super) fn read_lines(
    path: &Path,
    text_field: Option<&str>,
    reader: impl BufRead,
    limit: u64,
) -> Result<Found> {
    let looked_for = looked_for(text_field.as_slice());
    let mut reader = reader.take(limit + 1);
    let mut documents = Documents::default();
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
        let bytes = bytes.strip_prefix(MARK).unwrap_or(&bytes);
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |reason: String| Error::Line { path: path.to_owned(), line, reason };
        let (item, mended) =
            parsed(bytes, |json| item_of(json, looked_for)).map_err(|e| wrong(why(&e, bytes)))?;
        documents.found.flaws.mended += mended;
        let which = || format!("line {line} of {}", path.display());
        documents.add_item(item, line, looked_for, which).map_err(wrong)?;
    }
    documents.all(looked_for).map_err(|reason| Error::Line {
        path: path.to_owned(),
        line: 1,
        reason,
    })
}

/// What is wrong with a line, in words that lead to the fault.
fn why(error: &serde_json::Error, line: &[u8]) -> String {
    if let Err(at) = std::str::from_utf8(line) {
        let at = at.valid_up_to();
        return format!(
            "not UTF-8 at its byte {at}; convert the file, for example with `iconv -f latin1 -t utf-8`"
        );
    }
    // serde_json sees one line at a time, so its "at line 1 column 7" would contradict the real
    // line number.
    let reason = error
        .to_string()
        .replace("at line 1 column", "at column")
        .replace("at line 2 column 0", "at the line's end");
    if reason.starts_with("trailing characters") {
        return format!(
            "{reason}: several objects on one line; `jq -c . IN > OUT.jsonl` makes lines"
        );
    }
    if error.is_eof() && matches!(line.trim_ascii(), b"{" | b"[" | [b'{', .., b',' | b'[' | b'{']) {
        return format!(
            "{reason}: an object over several lines, where each line is to be one; `jq -c . IN > OUT.jsonl` makes that of several objects, `jq -c '.KEY[]'` of a list within one"
        );
    }
    reason
}

/// Documents as they come: each with an id of its own.
#[derive(Default)]
pub(super) struct Documents {
    pub(super) found: Found,
    ids: HashSet<String>,
    /// The keys of an object without any that is looked for.
    without: Option<Vec<String>>,
}

impl Documents {
    /// Adds the document of an item at a place, or notes that there is none.
    fn add_item(
        &mut self,
        item: Item,
        place: usize,
        looked_for: &[&str],
        which: impl FnOnce() -> String,
    ) -> Result<(), String> {
        let mut which = Some(which);
        let mut which = || which.take().map_or_else(String::new, |which| which());
        if let Item::Object(row) = &item
            && row.texts.is_empty()
        {
            self.without.get_or_insert_with(|| row.keys.clone());
            self.found.flaws.leave_out(|| format!("{} (no `{}`)", which(), looked_for[0]));
            return Ok(());
        }
        let found = item.document(place, looked_for)?;
        self.add(found, place, which);
        Ok(())
    }

    /// All of them; if there are none since no object has a key that is looked for, that.
    fn all(self, looked_for: &[&str]) -> Result<Found, String> {
        match self.without {
            Some(keys) if self.found.documents.is_empty() => Err(no_text(&keys, looked_for)),
            _ => Ok(self.found),
        }
    }

    /// Adds the document at a place, or notes that there is none.
    pub(super) fn add(
        &mut self,
        found: Option<Document>,
        place: usize,
        which: impl FnOnce() -> String,
    ) {
        match found.filter(|document| !document.text.is_empty()) {
            None => self.found.flaws.leave_out(|| format!("{} (no text)", which())),
            Some(mut document) => {
                // An id that is a label, or a line's number that is another line's id.
                while !self.ids.insert(document.id.clone()) {
                    document.id = format!("{}#{place}", document.id);
                }
                self.found.documents.push(document);
            }
        }
    }
}

/// The keys in which a text is looked for.
pub(super) fn looked_for<'a>(asked: &'a [&'a str]) -> &'a [&'a str] {
    if asked.is_empty() { &TEXT_KEYS } else { asked }
}

/// A key's place among those that are looked for: first as it is written there, then otherwise.
pub(super) fn rank(looked_for: &[&str], key: &str) -> Option<usize> {
    let exact = looked_for.iter().position(|wanted| *wanted == key);
    let alike = || looked_for.iter().position(|wanted| wanted.eq_ignore_ascii_case(key));
    exact.map(|at| 2 * at).or_else(|| alike().map(|at| 2 * at + 1))
}

/// That an object has none of them.
pub(super) fn no_text(keys: &[String], looked_for: &[&str]) -> String {
    let quoted = |key: &str| format!("`{key}`");
    let there: Vec<String> = keys.iter().take(8).map(|key| quoted(key)).collect();
    let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
    let none = match looked_for {
        [one] => format!("no {}", quoted(one)),
        several => format!(
            "none of {}",
            several.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(", ")
        ),
    };
    format!(
        "no text: it has {there}, and {none}; name the one that holds the text (--text-field, or `text_field` in a spec), or make one of several with `jq -c '{{text: (.A + \"\\n\\n\" + .B)}}'`"
    )
}

/// What is read of an object. Values of other keys are passed over, whatever they are.
#[derive(Default)]
pub(super) struct Row {
    pub(super) id: Value,
    /// Values of the keys that are looked for, each with its rank.
    pub(super) texts: Vec<(usize, Value)>,
    keys: Vec<String>,
}

impl Row {
    /// Its document, by the place that it has if it has no id; nothing if it holds no text.
    pub(super) fn document(
        mut self,
        place: usize,
        looked_for: &[&str],
    ) -> Result<Option<Document>, String> {
        let id = match self.id {
            Value::Null => place.to_string(),
            Value::String(id) if id.trim().is_empty() => place.to_string(),
            Value::String(id) => id,
            other => other.to_string(),
        };
        self.texts.sort_by_key(|(rank, _)| *rank);
        let (mut wrong, mut is_empty) = (None, false);
        for (rank, value) in self.texts {
            let text = match &value {
                Value::Null => Some(String::new()),
                Value::String(text) => Some(messages_in(looked_for[rank / 2], text)),
                Value::Array(messages) => said(messages),
                _ => None,
            };
            match text {
                Some(text) if text.is_empty() => is_empty = true,
                Some(text) => return Ok(Some(Document { id, text })),
                None => {
                    let mut shown = value.to_string();
                    if let Some((at, _)) = shown.char_indices().nth(40) {
                        shown.truncate(at);
                    }
                    wrong.get_or_insert(format!(
                        "`{}` is {shown}, expected a text, or a list of messages with `content`",
                        looked_for[rank / 2]
                    ));
                }
            }
        }
        wrong.filter(|_| !is_empty).map_or(Ok(None), Err)
    }
}

/// Messages may be written as a text of JSON; any other text is one.
fn messages_in(key: &str, text: &str) -> String {
    let is_chat = ["messages", "conversations", "conversation"].contains(&key);
    let parsed = Some(text).filter(|text| is_chat && text.trim_start().starts_with('['));
    let parsed = parsed.and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
    parsed.and_then(|messages| said(&messages)).unwrap_or_else(|| text.to_owned())
}

/// What the messages of a chat say, each a paragraph. Their roles are left out: a few names that
/// come again in every message would be taken for what the text repeats.
fn said(messages: &[Value]) -> Option<String> {
    let content = |message: &Value| {
        // One that calls a tool may say nothing.
        let speaks = ["role", "from"].iter().any(|key| message.get(key).is_some());
        let mut said = speaks.then(String::new);
        for key in ["content", "value", "text"] {
            match message.get(key) {
                Some(Value::String(text)) if text.is_empty() => said = Some(String::new()),
                Some(Value::String(text)) => return Some(text.clone()),
                // Parts, of which some are pictures.
                Some(Value::Array(parts)) => {
                    let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
                    return Some(texts.collect::<Vec<_>>().join("\n\n"));
                }
                Some(Value::Null) => said = Some(String::new()),
                Some(_) => return None,
                None => {}
            }
        }
        said
    };
    let said: Vec<String> = messages.iter().map(content).collect::<Option<_>>()?;
    Some(said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n"))
}

/// Reads JSON as its writers write it: also with what JSON does not have, words for numbers that
/// are none, and halves of characters, which become U+FFFD. How many of these is returned.
fn parsed<T>(
    json: &[u8],
    read: impl Fn(&[u8]) -> serde_json::Result<T>,
) -> serde_json::Result<(T, usize)> {
    let error = match read(json) {
        Ok(value) => return Ok((value, 0)),
        Err(error) => error,
    };
    match mended(json) {
        Some((json, halves)) => read(&json).map(|value| (value, halves)).map_err(|_| error),
        None => Err(error),
    }
}

/// The same with null for `NaN`, `Infinity` and `-Infinity` outside strings, and in strings with
/// U+FFFD for escapes of half a character; how many halves there were. Nothing if there is neither.
pub(crate) fn mended(json: &[u8]) -> Option<(Vec<u8>, usize)> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let (mut mended, mut rest) = (Vec::with_capacity(json.len()), json);
    let (mut within, mut words, mut halves) = (false, 0, 0);
    while let Some(&byte) = rest.first() {
        let mut taken = 1;
        if let Some(word) = WORDS.into_iter().find(|word| !within && rest.starts_with(word)) {
            mended.extend(b"null");
            words += 1;
            rest = &rest[word.len()..];
            continue;
        }
        if within && byte == b'\\' {
            match (unit(rest), rest.get(6..).and_then(unit)) {
                (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => taken = 12,
                (Some(0xD800..=0xDFFF), _) => {
                    mended.extend(b"\\ufffd");
                    halves += 1;
                    rest = &rest[6..];
                    continue;
                }
                _ => taken = rest.len().min(2),
            }
        }
        within ^= byte == b'"';
        mended.extend(&rest[..taken]);
        rest = &rest[taken..];
    }
    (words + halves > 0).then_some((mended, halves))
}

/// The number of the escape (`\u` and four hexadecimal digits) at the beginning.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn item_of(json: &[u8], looked_for: &[&str]) -> serde_json::Result<Item> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let item = Seed(looked_for).deserialize(&mut deserializer)?;
    deserializer.end().map(|()| item)
}

fn list_of(json: &[u8], looked_for: &[&str]) -> serde_json::Result<Vec<Item>> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let items = deserializer.deserialize_seq(ListSeed(looked_for))?;
    deserializer.end().map(|()| items)
}

/// A line, or an item of a list.
enum Item {
    Text(String),
    Nothing,
    Object(Row),
    /// Messages, perhaps.
    List(Vec<Value>),
    Other,
}

impl Item {
    fn document(self, place: usize, looked_for: &[&str]) -> Result<Option<Document>, String> {
        match self {
            Self::Text(text) => Ok(Some(Document { id: place.to_string(), text })),
            Self::Nothing => Ok(None),
            Self::Object(row) => row.document(place, looked_for),
            Self::List(messages) => match said(&messages) {
                Some(text) => Ok(Some(Document { id: place.to_string(), text })),
                None => Err("it is a list, and not of messages".to_owned()),
            },
            Self::Other => Err("it is neither a text nor an object".to_owned()),
        }
    }
}

/// Reads an item, and of an object the values of these keys.
#[derive(Clone, Copy)]
struct Seed<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an object")
    }

    fn visit_str<E>(self, text: &str) -> Result<Item, E> {
        Ok(Item::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Item, E> {
        Ok(Item::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let mut row = Row { id: Value::Null, texts: Vec::new(), keys: Vec::new() };
        while let Some(key) = map.next_key::<String>()? {
            if let Some(rank) = rank(self.0, &key) {
                // As other readers do: of a key that is there twice the last.
                row.texts.retain(|(other, _)| *other != rank);
                row.texts.push((rank, map.next_value()?));
            } else if key == "id" {
                row.id = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            row.keys.push(key);
        }
        Ok(Item::Object(row))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Item::List(list))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item, E> {
        Ok(Item::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Item, E> {
        Ok(Item::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Item, E> {
        Ok(Item::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Item, E> {
        Ok(Item::Other)
    }
}

struct ListSeed<'a>(&'a [&'a str]);

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = Vec<Item>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Item>, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element_seed(Seed(self.0))? {
            found.push(item);
        }
        Ok(found)
    }
}
