//! A corpus is a list of documents, whatever file it comes from.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::zstd::Frames;
use crate::{Error, Result};

/// Most bytes of text a corpus may hold: 2 GiB.
///
/// Everything is held in memory, and the BPE trainer counts pairs in 32 signed bits: below this
/// none can overflow.
pub const MAX_TEXT_BYTES: u64 = (1 << 31) - 1;

/// Into how many documents a lone text is cut: with twenty, holding out a tenth costs two places in
/// the text.
const TXT_DOCUMENTS: usize = 20;

/// One text, the unit that is held out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Unique in the corpus; decides whether the document is held out.
    pub id: String,
    /// Never empty in a loaded corpus.
    pub text: String,
}

/// The documents of one file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// In the order of the file; a folder's by path.
    pub documents: Vec<Document>,
    /// Hash of every id and text, in hexadecimal; the same content gives the same hash whatever
    /// file it came from.
    pub blake3: String,
    /// How many lines or files were left out because they hold no text (empty, or in a folder not
    /// UTF-8).
    pub skipped: usize,
}

/// Between documents, in texts that were made for training: what is around it was read apart.
const SEPARATORS: [&str; 3] = ["<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>"];

/// Keys that hold the text of a line of JSON, the first that is there.
const TEXT_KEYS: [&str; 5] = ["text", "content", "story", "body", "document"];

/// Reads a corpus: JSON Lines, a JSON list, a text, or a folder of text files or of JSON Lines.
///
/// - In JSON Lines (`.jsonl`, `.ndjson`, or `.json` that begins with `{`), a line is `{"id": "...",
///   "text": "..."}`. An id may be a whole number, or be left out for the line's; the text may be
///   called `content`, `story`, `body` or `document`. Other keys, blank lines and lines
///   whose text is null are left out.
/// - A JSON list (`.json` that begins with `[`) is of texts, or of such objects.
/// - Any other file is one text, if it is UTF-8 (`.txt`, `.md`, ...). It is cut into about twenty documents of near equal size at blank lines, or at line ends
///   where blank lines are too few. A single line is cut at ends of sentences, else at spaces, else
///   anywhere.
/// - In a folder every regular file below it is a document; hidden entries, links and files that
///   are not UTF-8 are left out. If any of them is `.jsonl` or `.jsonl.zst`, the folder is a
///   collection of those, and nothing else in it is read.
/// - A lone document, of JSON Lines or of a folder, is cut as a text is.
/// - Each of these may be compressed: `.gz`, `.zst`.
/// - Documents are split where `<|endoftext|>`, `<|end_of_text|>` or `<|begin_of_text|>` is spelled
///   out outside quotes, and lose a byte-order mark that they begin with.
///
/// # Errors
/// If the corpus is missing, empty, damaged, larger than [`MAX_TEXT_BYTES`], of an unknown kind,
/// repeats an id or holds nothing that could be cut in two; the message names the file and the line
/// or byte.
pub fn load(path: impl AsRef<Path>) -> Result<Corpus> {
    load_bounded(path.as_ref(), MAX_TEXT_BYTES)
}

fn load_bounded(path: &Path, limit: u64) -> Result<Corpus> {
    let metadata = fs::metadata(path).map_err(Error::io("read the corpus", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let (documents, skipped) = if metadata.is_dir() {
        read_folder(path, limit)?
    } else if is_json_lines(&name) {
        read_json(path, limit)?
    } else {
        let text = read_text(path, limit)?;
        let lone = Document { id: String::new(), text };
        match &separated(lone)[..] {
            [one] => (cut_text(&one.text), 0),
            several => (several.to_vec(), 0),
        }
    };
    let mut documents: Vec<Document> = documents.into_iter().flat_map(separated).collect();
    if let [whole] = &documents[..] {
        documents = cut_lone(whole);
    }
    match documents.len() {
        0 => Err(Error::Empty { path: path.to_owned(), skipped }),
        1 => Err(Error::TooFewDocuments { path: path.to_owned(), found: 1 }),
        _ => Ok(Corpus { blake3: content_hash(&documents), documents, skipped }),
    }
}

/// The parts of a document between separators, numbered if there are several; a byte-order mark at
/// the beginning of each is no text.
fn separated(document: Document) -> Vec<Document> {
    let Document { id, text } = document;
    let mut parts = vec![&text[..]];
    for separator in SEPARATORS {
        parts = parts.into_iter().flat_map(|part| split(part, separator)).collect();
    }
    let unmarked = |part: &&str| part.trim_start_matches('\u{feff}').to_owned();
    if let [whole] = &parts[..] {
        let text = if whole.starts_with('\u{feff}') { unmarked(whole) } else { text };
        return Vec::from_iter((!text.is_empty()).then_some(Document { id, text }));
    }
    let above = if id.is_empty() { id } else { format!("{id}/") };
    let parts = parts.iter().map(unmarked).filter(|part| !part.trim().is_empty());
    let named = |(k, text): (usize, String)| Document { id: format!("{above}{}", k + 1), text };
    parts.enumerate().map(named).collect()
}

/// The parts between the separators that are not in quotes: those are what a text is about, such as
/// a program's.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let quote = |c: Option<char>| c.is_some_and(|c| matches!(c, '"' | '\'' | '`'));
    let (mut parts, mut from) = (Vec::new(), 0);
    for (at, _) in text.match_indices(separator) {
        let after = at + separator.len();
        if !quote(text[..at].chars().next_back()) && !quote(text[after..].chars().next()) {
            parts.push(&text[from..at]);
            from = after;
        }
    }
    parts.push(&text[from..]);
    parts
}

fn is_json_lines(name: &str) -> bool {
    let name = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    [".jsonl", ".ndjson", ".json"].iter().any(|end| name.ends_with(end))
}

/// A file's content, unpacked, and how many bytes of it may be read.
fn reader(path: &Path, limit: u64) -> Result<(Box<dyn BufRead>, u64)> {
    let file = File::open(path).map_err(Error::io("read the corpus", path))?;
    let bytes = file.metadata().map_err(Error::io("read the corpus", path))?.len();
    let file = BufReader::new(file);
    // Text compresses five to twenty-fold. A file that claims far more is an attack on memory, or
    // damaged.
    let unpacked = limit.min(bytes.saturating_mul(200).saturating_add(64 << 20));
    let name = path.to_string_lossy().to_lowercase();
    Ok(if name.ends_with(".zst") {
        (Box::new(BufReader::new(Frames::new(file))), unpacked)
    } else if name.ends_with(".gz") {
        (Box::new(BufReader::new(MultiGzDecoder::new(file))), unpacked)
    } else {
        (Box::new(file), limit)
    })
}

fn read_json(path: &Path, limit: u64) -> Result<(Vec<Document>, usize)> {
    let (mut reader, limit) = reader(path, limit)?;
    let first = reader.fill_buf().map_err(|source| read_error(path, source))?;
    let first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    if first.trim_ascii_start().first() == Some(&b'[') {
        return read_list(path, limit);
    }
    read_jsonl(path, reader, limit)
}

/// A JSON list of texts or of objects with a text.
fn read_list(path: &Path, limit: u64) -> Result<(Vec<Document>, usize)> {
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
            Value::Object(fields) => document_of(fields, item).map_err(wrong)?,
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

/// A document of an object, by the place that it has if it has no id; nothing if its text is null.
fn document_of(fields: Map<String, Value>, place: usize) -> Result<Option<Document>, String> {
    let id = match fields.get("id") {
        None | Some(Value::Null) => place.to_string(),
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) if !id.is_f64() => id.to_string(),
        Some(other) => return Err(format!("`id` is {other}, expected a text or a whole number")),
    };
    let Some(key) = TEXT_KEYS.into_iter().find(|key| fields.contains_key(*key)) else {
        let keys: Vec<String> = fields.keys().take(8).map(|key| format!("`{key}`")).collect();
        let has = if keys.is_empty() { "nothing".to_string() } else { keys.join(", ") };
        return Err(format!(
            "no text: it has {has}, and none of {}; rename the one that holds the text, for example with `jq -c '{{text: .KEY}}'`",
            TEXT_KEYS.map(|key| format!("`{key}`")).join(", ")
        ));
    };
    match &fields[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Document { id, text: text.clone() })),
        other => {
            let mut shown = other.to_string();
            if let Some((at, _)) = shown.char_indices().nth(40) {
                shown.truncate(at);
            }
            Err(format!("`{key}` is {shown}, expected a text"))
        }
    }
}

fn too_large(path: &Path, limit: u64) -> Error {
    let why = if limit == MAX_TEXT_BYTES { "any corpus" } else { "a file of its size" };
    Error::TooLarge { path: path.to_owned(), limit, why }
}

fn read_jsonl(path: &Path, reader: impl BufRead, limit: u64) -> Result<(Vec<Document>, usize)> {
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
        let Some(document) = document_of(fields, line).map_err(wrong)? else {
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

/// The reader is either a file or a decoder over one; only decoders make errors of these kinds.
fn read_error(path: &Path, source: io::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    if matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof) {
        let gz = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"));
        let (kind, test) = if gz { ("gzip", "gzip -t") } else { ("zstd", "zstd -t") };
        Error::Damaged { path: path.to_owned(), kind, test, reason: source.to_string() }
    } else {
        Error::Io { action: "read the corpus", path: path.to_owned(), source }
    }
}

/// serde_json sees one line at a time, so its "at line 1 column 7" would contradict the real line
/// number.
fn without_line(error: &serde_json::Error) -> String {
    error
        .to_string()
        .replace("at line 1 column", "at column")
        .replace("at line 2 column 0", "at the line's end")
}

/// How files begin that people give in place of a text, what they are, and what makes a text of
/// them.
const NOT_TEXT: [(&[u8], &str, &str); 9] = [
    (b"version https://git-lfs", "a pointer of git-lfs", "git lfs pull"),
    (
        b"PAR1",
        "a Parquet file",
        "python -c 'import pandas, sys; pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], orient=\"records\", lines=True)' IN.parquet OUT.jsonl",
    ),
    (b"ARROW1", "an Arrow file", "datasets' `to_json`"),
    (b"%PDF", "a PDF", "pdftotext IN.pdf OUT.txt"),
    (b"PK\x03\x04", "a zip archive", "unzip it, and give the folder"),
    (b"\x1f\x8b", "packed with gzip", "give it a name that ends in .gz"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "give it a name that ends in .zst"),
    (b"BZh", "packed with bzip2", "bunzip2 it"),
    (b"\xfd7zXZ", "packed with xz", "unxz it"),
];

fn read_text(path: &Path, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    let (reader, limit) = reader(path, limit)?;
    let read = reader.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|source| read_error(path, source))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    if let Some((_, kind, help)) = NOT_TEXT.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return Err(Error::NotText { path: path.to_owned(), kind, help });
    }
    String::from_utf8(bytes)
        .map_err(|e| Error::NotUtf8 { path: path.to_owned(), offset: e.utf8_error().valid_up_to() })
}

fn read_folder(root: &Path, limit: u64) -> Result<(Vec<Document>, usize)> {
    let mut files = Vec::new();
    list_files(root, &mut Vec::new(), &mut files)?;
    // By id and not by the operating system's order, so that the corpus is the same on every
    // machine.
    files.sort();
    let (mut documents, mut skipped, mut left) = (Vec::new(), 0, limit);
    if files.iter().any(|(id, _)| is_json_lines(&id.to_lowercase())) {
        for (id, path) in files.into_iter().filter(|(id, _)| is_json_lines(&id.to_lowercase())) {
            let (found, empty) = read_json(&path, left).map_err(|error| match error {
                Error::TooLarge { .. } if left < limit => too_large(root, limit),
                error => error,
            })?;
            left =
                left.saturating_sub(found.iter().map(|document| document.text.len() as u64).sum());
            skipped += empty;
            documents.extend(
                found
                    .into_iter()
                    .map(|document| Document { id: format!("{id}/{}", document.id), ..document }),
            );
        }
        return Ok((documents, skipped));
    }
    for (id, path) in files {
        let text = match read_text(&path, left) {
            Ok(text) => text,
            Err(Error::NotUtf8 { .. } | Error::NotText { .. }) => {
                skipped += 1;
                continue;
            }
            Err(Error::TooLarge { .. }) => return Err(too_large(root, limit)),
            Err(error) => return Err(error),
        };
        left -= text.len() as u64;
        if text.is_empty() {
            skipped += 1;
        } else {
            documents.push(Document { id, text });
        }
    }
    Ok((documents, skipped))
}

/// Adds `(id, path)` of every regular file below `folder`; `above` is the relative path of
/// `folder`.
fn list_files(
    folder: &Path,
    above: &mut Vec<String>,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        // An id is text: an entry whose name is not has none. Hidden entries are version control
        // and editor state.
        let Some(name) =
            entry.file_name().to_str().filter(|n| !n.starts_with('.')).map(str::to_owned)
        else {
            continue;
        };
        // Links are not followed: they can form cycles, and lead out of the folder.
        let kind = entry.file_type().map_err(Error::io("read", &entry.path()))?;
        above.push(name);
        if kind.is_dir() {
            list_files(&entry.path(), above, files)?;
        } else if kind.is_file() {
            files.push((above.join("/"), entry.path()));
        }
        above.pop();
    }
    Ok(())
}

/// Cuts a text into about [`TXT_DOCUMENTS`] documents at blank lines or line ends; their texts
/// concatenated are the text.
fn cut_text(text: &str) -> Vec<Document> {
    parts(text, &at_lines(text)).map(|(id, text)| Document { id, text: text.to_owned() }).collect()
}

/// Cuts a lone document likewise, at lines if there are enough of them, else at the best places
/// that there are.
fn cut_lone(whole: &Document) -> Vec<Document> {
    let text = &whole.text;
    let fits = |starts: &[usize]| longest(starts, text.len()) <= text.len() / 4;
    let mut starts = at_lines(text);
    for is_end in [ends_sentence, ends_word, |_: &str| true] {
        if fits(&starts) {
            break;
        }
        starts = near_ends(text, is_end);
    }
    parts(text, &starts)
        .map(|(id, text)| Document { id: format!("{}/{id}", whole.id), text: text.to_owned() })
        .collect()
}

/// The texts from each start to the next, with names that say which.
fn parts<'a>(text: &'a str, starts: &'a [usize]) -> impl Iterator<Item = (String, &'a str)> {
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let parts = starts.iter().zip(ends).filter(|(start, end)| *start < end);
    parts.enumerate().map(|(k, (&start, end))| (format!("part-{:02}", k + 1), &text[start..end]))
}

fn at_lines(text: &str) -> Vec<usize> {
    // Lines of old Macintosh files end with a carriage return alone.
    let end = if text.contains('\n') { '\n' } else { '\r' };
    let lines: Vec<usize> = text.match_indices(end).map(|(at, _)| at + 1).collect();
    let blank =
        |at: &usize| text[..at - 1].rsplit(end).next().is_some_and(|line| line.trim().is_empty());
    let paragraphs: Vec<usize> = lines.iter().copied().filter(blank).collect();
    let starts = near_equal(&paragraphs, text.len());
    // Too few blank lines, or in the wrong places: a piece of a quarter of the text is no unit to
    // hold out.
    if longest(&starts, text.len()) > text.len() / 4 {
        near_equal(&lines, text.len())
    } else {
        starts
    }
}

fn ends_sentence(before: &str) -> bool {
    [". ", "! ", "? ", "\u{3002}", "\u{ff01}", "\u{ff1f}"].iter().any(|end| before.ends_with(end))
}

fn ends_word(before: &str) -> bool {
    before.ends_with(char::is_whitespace)
}

/// Equal steps through the text, each moved to the nearest place that `is_end` knows by the text
/// before it, if there is one within half a step; 0 first, strictly rising.
fn near_ends(text: &str, is_end: fn(&str) -> bool) -> Vec<usize> {
    let mut starts = vec![0];
    let reach = text.len() / TXT_DOCUMENTS / 2;
    for ideal in (1..TXT_DOCUMENTS).map(|k| ideal(k, text.len())) {
        // A character has at most four bytes, so that one of the first places is between two.
        let places =
            (0..=reach.max(3)).flat_map(|d| [ideal.checked_sub(d), Some(ideal + d)]).flatten();
        let mut places = places.filter(|&at| at > starts[starts.len() - 1] && at < text.len());
        let found = places.find(|&at| text.is_char_boundary(at) && is_end(&text[..at]));
        starts.extend(found);
    }
    starts
}

/// The `k`-th of [`TXT_DOCUMENTS`] equal steps through `0..length`.
fn ideal(k: usize, length: usize) -> usize {
    (k as u128 * length as u128 / TXT_DOCUMENTS as u128) as usize
}

/// Of the sorted `candidates`, those nearest to equal steps through `0..length`; 0 first, strictly
/// rising.
fn near_equal(candidates: &[usize], length: usize) -> Vec<usize> {
    let mut starts = vec![0];
    for ideal in (1..TXT_DOCUMENTS).map(|k| ideal(k, length)) {
        let after = candidates.partition_point(|&c| c < ideal);
        let nearest =
            candidates[after.saturating_sub(1)..].iter().take(2).min_by_key(|c| c.abs_diff(ideal));
        starts.extend(nearest.filter(|&&c| c > starts[starts.len() - 1] && c < length));
    }
    starts
}

fn longest(starts: &[usize], length: usize) -> usize {
    let ends = starts.iter().skip(1).copied().chain([length]);
    starts.iter().zip(ends).map(|(start, end)| end - start).max().unwrap_or(0)
}

fn content_hash(documents: &[Document]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in documents.iter().flat_map(|d| [&d.id, &d.text]) {
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The name by which `data.json` knows a corpus: without its folder, so that no machine's paths get
/// into reports.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(OsStr::new("corpus")).to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod tests;
