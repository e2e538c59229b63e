//! A corpus is a list of documents, whatever file it comes from.

mod cut;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
mod table;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use self::cut::{cut_lone, cut_text, separated};
pub(crate) use self::json::mended;
use self::json::read_json;
use crate::zstd::Frames;
use crate::{Error, Result};

/// Most bytes of text a corpus may hold: 2 GiB.
///
/// Everything is held in memory, and the BPE trainer counts pairs in 32 signed bits: below this
/// none can overflow.
pub const MAX_TEXT_BYTES: u64 = (1 << 31) - 1;

/// One text, the unit that is held out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Unique in the corpus; decides whether the document is held out.
    pub id: String,
    /// Never empty in a loaded corpus.
    pub text: String,
}

/// Files or folders that make one corpus, and how they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// One, or several in their order.
    pub paths: Vec<PathBuf>,
    /// The key that holds the text of an object of JSON, or the column of a table or of Parquet.
    /// Without it the first of `text`, `content`, `story`, `body`, `document`, `messages`,
    /// `conversations` and `conversation` that is there.
    pub text_field: Option<String>,
}

impl<P: AsRef<Path>> From<P> for Texts {
    fn from(path: P) -> Self {
        Self { paths: vec![path.as_ref().to_owned()], text_field: None }
    }
}

impl Texts {
    /// The name by which `data.json` and messages know a corpus: without its folder, so that no
    /// machine's paths get into reports.
    pub fn name(&self) -> String {
        let first = self.paths.first().map_or("corpus".into(), |path| name_of(path));
        match self.paths.len() {
            0 | 1 => first,
            n => format!("{first} and {} more", n - 1),
        }
    }

    /// For messages: the path of one, the name of several.
    fn path(&self) -> PathBuf {
        match &self.paths[..] {
            [path] => path.clone(),
            _ => self.name().into(),
        }
    }
}

/// The documents of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// In the order of the file; a folder's by path.
    pub documents: Vec<Document>,
    /// Hash of every id and text, in hexadecimal; the same content gives the same hash whatever
    /// file it came from.
    pub blake3: String,
    /// What was not read as it is there.
    pub flaws: Flaws,
}

/// What of a corpus was not read as it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flaws {
    /// Lines or files that were left out because they hold no text (empty, or in a folder not a
    /// text).
    pub left_out: usize,
    /// Which was the first of them, and why.
    pub first: Option<String>,
    /// Documents that were left out because they are another one's, word for word: on both sides of
    /// the split, what was learned would be measured.
    pub repeated: usize,
    /// Halves of characters in JSON, read as U+FFFD.
    pub mended: usize,
    /// Markup that most documents contain, which is read as text, and how many do.
    pub markup: Option<(&'static str, usize)>,
}

/// What training data of chat models are marked up with, or what separates them; where it stands in
/// most documents, it is no text.
const MARKUP: [&str; 9] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<start_of_turn>",
    "[INST]",
    "</s>",
    "<bos>",
    "<|endoftext|>",
];

impl Flaws {
    fn leave_out(&mut self, which: impl FnOnce() -> String) {
        self.leave_out_all(1, which);
    }

    /// The same of several.
    fn leave_out_all(&mut self, count: usize, which: impl FnOnce() -> String) {
        if count > 0 {
            self.left_out += count;
            self.first.get_or_insert_with(which);
        }
    }

    fn add(&mut self, more: Self) {
        self.left_out += more.left_out;
        self.mended += more.mended;
        self.first = self.first.take().or(more.first);
    }

    /// "left out 3, the first line 7 of a.jsonl (no text)"
    fn said(&self) -> String {
        match (&self.first, self.left_out) {
            (Some(first), 1) => format!("left out {first}"),
            (Some(first), n) => format!("left out {n}, the first {first}"),
            (None, _) => "it is empty".to_owned(),
        }
    }
}

impl Corpus {
    /// What a reader should know of how the corpus called `name` was read, a sentence each.
    pub fn notes(&self, name: &str) -> Vec<String> {
        let Flaws { left_out, repeated, mended, .. } = self.flaws;
        let notes = [
            (left_out, format!("{name}: {}", self.flaws.said())),
            (
                repeated,
                format!(
                    "{name}: left out {repeated} documents that repeat another word for word: held out, they would be measured as learned"
                ),
            ),
            (mended, format!("{name}: {mended} halves of characters are read as U+FFFD")),
            self.flaws.markup.map_or((0, String::new()), |(mark, n)| {
                (n, format!(
                    "{name}: {n} documents contain `{mark}`, which is read as text: what repeats in every window passes for in-context learning; take it out, for example with sed"
                ))
            }),
        ];
        notes.into_iter().filter(|(count, _)| *count > 0).map(|(_, note)| note).collect()
    }
}

/// Documents of a file or folder.
#[derive(Default)]
struct Found {
    documents: Vec<Document>,
    flaws: Flaws,
}

/// Reads a corpus: lines of JSON, a JSON list, a table, Parquet, a text, a folder, or several of
/// these.
///
/// - In JSON Lines (`.jsonl`, `.ndjson`, `.json` that begins with `{`, or any file that begins with
///   two objects), a line is `{"id": "...", "text": "..."}`, or a text. Any value is an id, and the
///   line's number if there is none; the text may be called otherwise ([`Texts::text_field`]).
///   Instead of a text there may be a chat's messages, objects with `content` (or `value`): what
///   they say is the text, without their roles. Other keys, blank lines and lines without text are
///   left out.
/// - A JSON list (`.json` that begins with `[`) is of texts, or of such objects. So are the rows of
///   `.csv`, `.tsv` and, with the feature `parquet`, `.parquet`.
/// - Any other file is one text, if it is UTF-8 (`.txt`, `.md`, ...). It is cut into about twenty
///   documents of near equal size at blank lines, or at line ends where blank lines are too few. A
///   single line is cut at ends of sentences, else at spaces, else anywhere.
/// - In a folder every file below it is a document; hidden entries, links to folders and files that
///   are not UTF-8 are left out. If more of it is rows than texts, the rows are the documents.
/// - Of several paths each text is a document; ids begin with the name of the path.
/// - A lone document, of rows or of a folder, is cut as a text is.
/// - Each of these but Parquet may be compressed: `.gz`, `.zst`.
/// - Documents are split where `<|endoftext|>`, `<|end_of_text|>` or `<|begin_of_text|>` is spelled
///   out outside quotes, and lose a byte-order mark that they begin with. Of documents that are the
///   same but for white space at their ends the first is read.
///
/// # Errors
/// If the corpus is missing, empty, damaged, larger than [`MAX_TEXT_BYTES`], of an unknown kind, or
/// holds nothing that could be cut in two; the message names the file and the line or byte.
pub fn load(texts: impl Into<Texts>) -> Result<Corpus> {
    load_bounded(&texts.into(), MAX_TEXT_BYTES)
}

fn load_bounded(texts: &Texts, limit: u64) -> Result<Corpus> {
    let text_field = texts.text_field.as_deref();
    let wrong = |given: &str, expected: &str| {
        let (given, expected) = (given.to_owned(), expected.to_owned());
        Error::Setting { field: "text_field", given, expected }
    };
    if text_field == Some("") {
        return Err(wrong("\"\"", "the name of a key, or nothing"));
    }
    // What one text says twice is no document twice.
    let mut is_cut = false;
    let Found { documents, mut flaws } = match &texts.paths[..] {
        [path] => match read(path, text_field, limit)? {
            Content::Text(_) if text_field.is_some() => {
                let given = text_field.unwrap_or_default();
                return Err(wrong(
                    given,
                    &format!("nothing: {} is a text without keys", path.display()),
                ));
            }
            Content::Text(text) => {
                let parts = separated(Document { id: String::new(), text });
                is_cut = parts.len() == 1;
                let documents = if is_cut { cut_text(&parts[0].text) } else { parts };
                Found { documents, flaws: Flaws::default() }
            }
            Content::Documents(found) => found,
        },
        paths => read_several(paths, text_field, limit)?,
    };
    let mut documents: Vec<Document> = documents.into_iter().flat_map(separated).collect();
    let (all, mut seen) = (documents.len(), HashSet::new());
    // White space at its ends makes no other document.
    let words = |document: &Document| blake3::hash(document.text.trim().as_bytes());
    documents.retain(|document| is_cut || seen.insert(words(document)));
    flaws.repeated = all - documents.len();
    let with = |mark: &'static str| {
        let count = documents.iter().filter(|document| document.text.contains(mark)).count();
        (2 * count > documents.len()).then_some((mark, count))
    };
    flaws.markup = MARKUP.into_iter().find_map(with);
    if let [whole] = &documents[..] {
        documents = cut_lone(whole);
    }
    match documents.len() {
        0 => Err(Error::Empty { path: texts.path(), left_out: flaws.said() }),
        1 => Err(Error::TooFewDocuments { path: texts.path(), found: 1 }),
        _ => Ok(Corpus { blake3: content_hash(&documents), documents, flaws }),
    }
}

/// What a file or folder holds.
enum Content {
    /// One text.
    Text(String),
    /// Documents.
    Documents(Found),
}

fn read(path: &Path, text_field: Option<&str>, limit: u64) -> Result<Content> {
    let metadata = fs::metadata(path).map_err(Error::io("read the corpus", path))?;
    if metadata.is_dir() {
        return read_folder(path, text_field, limit).map(Content::Documents);
    }
    match Kind::of(&path.to_string_lossy()) {
        Kind::Lines | Kind::Json => read_json(path, text_field, limit).map(Content::Documents),
        Kind::Table => table::read_table(path, text_field, limit).map(Content::Documents),
        #[cfg(feature = "parquet")]
        Kind::Parquet => parquet::read_parquet(path, text_field, limit).map(Content::Documents),
        Kind::Arrow => Err(Error::NotText {
            path: path.to_owned(),
            kind: "an Arrow file, as `save_to_disk` of `datasets` writes it",
            help: "`datasets.load_from_disk(FOLDER).to_json(\"OUT.jsonl\")` makes JSON lines of it",
        }),
        // What is called otherwise may still be lines of JSON.
        _ if begins_with_objects(path, limit)? => {
            let (reader, limit) = reader(path, limit)?;
            json::read_lines(path, text_field, reader, limit).map(Content::Documents)
        }
        // Parquet that is not built in is told what it is.
        _ => read_text(path, limit).map(Content::Text),
    }
}

/// What a file's name says that it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Objects, a line each.
    Lines,
    /// Such lines, a list, or anything else in JSON.
    Json,
    Parquet,
    Arrow,
    /// Values between commas or tabs.
    Table,
    Text,
}

impl Kind {
    fn of(path: &str) -> Self {
        let name = path.to_lowercase();
        let packed = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end));
        let ends = |end: &str| packed.unwrap_or(&name).ends_with(end);
        if ends(".jsonl") || ends(".ndjson") {
            Self::Lines
        } else if ends(".json") {
            // A program has no packed files of settings.
            if packed.is_some() { Self::Lines } else { Self::Json }
        } else if ends(".csv") || ends(".tsv") {
            Self::Table
        } else if name.ends_with(".arrow") || name.ends_with(".feather") {
            Self::Arrow
        } else if name.ends_with(".parquet") {
            Self::Parquet
        } else {
            Self::Text
        }
    }
}

/// Whether the first two lines are objects of JSON, each whole.
fn begins_with_objects(path: &Path, limit: u64) -> Result<bool> {
    let (mut reader, _) = reader(path, limit)?;
    let start = reader.fill_buf().map_err(|source| read_error(path, source))?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let mut lines = start.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let is_object = |line: &[u8]| {
        line.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
    };
    Ok(lines.next().is_some_and(is_object)
        && lines.next().is_some_and(|line| line.starts_with(b"{")))
}

fn read_several(paths: &[PathBuf], text_field: Option<&str>, limit: u64) -> Result<Found> {
    let (mut found, mut left) = (Found::default(), limit);
    let mut names = HashSet::new();
    for (k, path) in paths.iter().enumerate() {
        if paths[..k].contains(path) {
            return Err(Error::Setting {
                field: "corpus",
                given: path.display().to_string(),
                expected: "each file once".to_owned(),
            });
        }
        let name = name_of(path);
        let name = if names.insert(name.clone()) { name } else { format!("{name}#{}", k + 1) };
        let documents = match read(path, text_field, left)? {
            Content::Text(text) => vec![Document { id: name, text }],
            Content::Documents(of_path) => {
                found.flaws.add(of_path.flaws);
                below(&name, of_path.documents)
            }
        };
        left = left.saturating_sub(bytes_of(&documents));
        found.documents.extend(documents);
    }
    Ok(found)
}

/// Documents of a file among others.
fn below(name: &str, documents: Vec<Document>) -> Vec<Document> {
    documents.into_iter().map(|d| Document { id: format!("{name}/{}", d.id), ..d }).collect()
}

fn bytes_of(documents: &[Document]) -> u64 {
    documents.iter().map(|document| document.text.len() as u64).sum()
}

/// A file's content, unpacked, and how many bytes of it may be read.
fn reader(path: &Path, limit: u64) -> Result<(Box<dyn BufRead>, u64)> {
    let file = File::open(path).map_err(Error::io("read the corpus", path))?;
    let bytes = file.metadata().map_err(Error::io("read the corpus", path))?.len();
    let mut file = BufReader::new(file);
    let first = file.fill_buf().map_err(Error::io("read the corpus", path))?;
    let name = path.to_string_lossy().to_lowercase();
    let packed = [(".gz", &b"\x1f\x8b"[..], "gzip"), (".zst", b"\x28\xb5\x2f\xfd", "zstd")];
    for (end, magic, kind) in packed {
        let is_skippable = kind == "zstd" && matches!(first, [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..]);
        if name.ends_with(end) && !first.is_empty() && !first.starts_with(magic) && !is_skippable {
            let reason =
                format!("it does not begin as one; if it is not packed, take {end} off its name");
            return Err(damaged(path, kind, reason));
        }
    }
    // Text compresses five to twenty-fold. A file that claims far more is an attack on memory, or
    // damaged.
    let unpacked = limit.min(bytes.saturating_mul(200).saturating_add(64 << 20));
    Ok(if name.ends_with(".zst") {
        (Box::new(BufReader::new(Frames::new(file))), unpacked)
    } else if name.ends_with(".gz") {
        (Box::new(BufReader::new(Members { now: Some(GzDecoder::new(file)) })), unpacked)
    } else {
        (Box::new(file), limit)
    })
}

/// The members of a gzip file, one after the other; what pads the last one, zeros, is none.
struct Members<R: BufRead> {
    now: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.now {
            let read = member.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            let mut rest = self.now.take().map(GzDecoder::into_inner);
            while let Some(file) = &mut rest {
                let bytes = file.fill_buf()?;
                let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
                let (all, is_end) = (zeros == bytes.len(), bytes.is_empty());
                file.consume(zeros);
                if is_end {
                    rest = None;
                } else if !all {
                    self.now = rest.take().map(GzDecoder::new);
                }
            }
        }
        Ok(0)
    }
}

fn too_large(path: &Path, limit: u64) -> Error {
    let why = if limit == MAX_TEXT_BYTES { "any corpus" } else { "a file of its size" };
    Error::TooLarge { path: path.to_owned(), limit, why }
}

/// The reader is either a file or a decoder over one; only decoders make errors of these kinds.
fn read_error(path: &Path, source: io::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    if matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof) {
        let gz = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"));
        damaged(path, if gz { "gzip" } else { "zstd" }, source.to_string())
    } else {
        Error::Io { action: "read the corpus", path: path.to_owned(), source }
    }
}

fn damaged(path: &Path, kind: &'static str, reason: String) -> Error {
    let path = path.to_owned();
    if reason.contains("window_size") {
        let kind = "packed with `zstd --long`, whose window is larger than is read here";
        return Error::NotText { path, kind, help: "unpack it with `zstd -d --long=31 IN.zst`" };
    }
    let test = if kind == "gzip" { "gzip -t" } else { "zstd -t" };
    Error::Damaged { path, kind, test, reason }
}

/// How files begin that people give in place of a text, what they are, and what to do.
const NOT_TEXT: [(&[u8], &str, &str); 12] = [
    (b"version https://git-lfs", "a pointer of git-lfs", "run `git lfs pull`"),
    (
        b"PAR1",
        "a Parquet file",
        "build with `--features parquet`, which reads it, or make JSON lines: python -c 'import pandas, sys; pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], orient=\"records\", lines=True)' IN.parquet OUT.jsonl",
    ),
    (b"ARROW1", "an Arrow file", "`to_json` of `datasets` makes JSON lines of it"),
    (b"%PDF", "a PDF", "`pdftotext IN.pdf OUT.txt` makes one"),
    (
        b"PK\x03\x04",
        "a zip archive",
        "unzip it, and give the folder; of a .docx, `pandoc IN.docx -t plain -o OUT.txt` makes a text",
    ),
    (b"\x1f\x8b", "packed with gzip", "rename it to end in .gz"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "rename it to end in .zst"),
    (b"BZh", "packed with bzip2", "bunzip2 it"),
    (b"\xfd7zXZ", "packed with xz", "unxz it"),
    (b"\xff\xfe\0\0", "UTF-32", "`iconv -f utf-32 -t utf-8 IN > OUT` makes one"),
    (b"\xff\xfe", "UTF-16", "`iconv -f utf-16 -t utf-8 IN > OUT` makes one"),
    (b"\xfe\xff", "UTF-16", "`iconv -f utf-16 -t utf-8 IN > OUT` makes one"),
];

/// What a file is that begins like this, if it is no text, and what makes one of it.
fn kind_of(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if bytes.get(257..).is_some_and(|at| at.starts_with(b"ustar")) {
        return Some(("a tar archive", "`tar xf` it, and give the folder"));
    }
    let start = &bytes[..bytes.len().min(4096)];
    // A text may begin with the same letters, but for what says that it is no text.
    let is_plain = std::str::from_utf8(start).map_or_else(|e| e.error_len().is_none(), |_| true)
        && !start.iter().any(|&byte| byte < 9);
    let is_it = |(magic, ..): &&(&[u8], &str, &str)| {
        bytes.starts_with(magic) && (!is_plain || magic.starts_with(b"version "))
    };
    let magic = NOT_TEXT.iter().find(is_it);
    let nulls = start.iter().filter(|&&byte| byte == 0).count();
    match magic {
        Some(&(_, kind, help)) => Some((kind, help)),
        // Half of the bytes of most texts in it.
        None if nulls * 10 > start.len() => Some((
            "UTF-16, or no text at all",
            "of UTF-16, `iconv -f utf-16le -t utf-8 IN > OUT` makes one",
        )),
        None => None,
    }
}

fn read_text(path: &Path, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    let (reader, limit) = reader(path, limit)?;
    let read = reader.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|source| read_error(path, source))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    if let Some((kind, help)) = kind_of(&bytes) {
        return Err(Error::NotText { path: path.to_owned(), kind, help });
    }
    String::from_utf8(bytes)
        .map_err(|e| Error::NotUtf8 { path: path.to_owned(), offset: e.utf8_error().valid_up_to() })
}

fn read_folder(root: &Path, text_field: Option<&str>, limit: u64) -> Result<Found> {
    let mut files = Vec::new();
    list_files(root, &mut Vec::new(), &mut files)?;
    // By id and not by the operating system's order, so that the corpus is the same on every
    // machine.
    files.sort();
    let (mut found, mut left) = (Found::default(), limit);
    let (rows, beside) = collection(&files, text_field);
    let is_collection = !rows.is_empty();
    let why = match rows.first() {
        Some((first, _)) => format!("beside {first}, whose rows are the documents"),
        None => "rows, beside more text".to_owned(),
    };
    let which = || beside.first().map_or_else(String::new, |(id, _)| format!("{id} ({why})"));
    found.flaws.leave_out_all(beside.len(), which);
    if !is_collection {
        files.retain(|file| !beside.contains(file));
    }
    for (id, path) in if is_collection { rows } else { files } {
        let content = if is_collection {
            read(&path, text_field, left)
        } else {
            read_text(&path, left).map(Content::Text)
        };
        let documents = match content {
            Ok(Content::Documents(of_file)) => {
                found.flaws.add(of_file.flaws);
                below(&id, of_file.documents)
            }
            Ok(Content::Text(text)) if text.is_empty() => {
                found.flaws.leave_out(|| format!("{id} (empty)"));
                continue;
            }
            Ok(Content::Text(text)) => vec![Document { id, text }],
            Err(Error::NotUtf8 { .. }) if !is_collection => {
                found.flaws.leave_out(|| format!("{id} (not UTF-8)"));
                continue;
            }
            Err(Error::NotText { kind, .. }) if !is_collection => {
                found.flaws.leave_out(|| format!("{id} ({kind})"));
                continue;
            }
            Err(Error::TooLarge { .. }) if !is_collection || left < limit => {
                return Err(too_large(root, limit));
            }
            Err(error) => return Err(error),
        };
        left = left.saturating_sub(bytes_of(&documents));
        found.documents.extend(documents);
    }
    Ok(found)
}

/// Whether a file says what others are.
fn is_about(id: &str) -> bool {
    let name = id.rsplit('/').next().unwrap_or(id).to_lowercase();
    Kind::of(id) == Kind::Text && ["readme", "licen"].iter().any(|n| name.starts_with(n))
}

/// The files of a folder whose rows are the documents, if it is a collection of such: lines of
/// JSON, Parquet, tables and lists of objects, where they are more than the texts beside them. A
/// program's folder may have its settings in JSON.
fn collection(files: &[(String, PathBuf)], text_field: Option<&str>) -> (Files, Files) {
    let size = |(id, path): &(String, PathBuf)| {
        // What is packed holds several times as much.
        let name = id.to_lowercase();
        let packed = [".gz", ".zst", ".parquet", ".arrow"].iter().any(|end| name.ends_with(end));
        fs::metadata(path).map_or(0, |file| file.len()) * if packed { 4 } else { 1 }
    };
    let is_list = |path: &Path| {
        read_json(path, text_field, MAX_TEXT_BYTES).is_ok_and(|found| found.documents.len() > 1)
    };
    let is_rows = |(id, path): &(String, PathBuf)| match Kind::of(id) {
        Kind::Lines | Kind::Parquet | Kind::Arrow | Kind::Table => true,
        Kind::Json => is_list(path),
        Kind::Text => false,
    };
    let (rows, others): (Vec<_>, Vec<_>) =
        files.iter().filter(|(id, _)| !is_about(id)).cloned().partition(|file| is_rows(file));
    let all = |files: &[(String, PathBuf)]| files.iter().map(size).sum::<u64>();
    if all(&rows) >= all(&others) { (rows, others) } else { (Vec::new(), rows) }
}

/// Files of a folder, each with its id, the path below it.
type Files = Vec<(String, PathBuf)>;

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
        // Links to folders are not followed: they can form cycles. Those to files are what the
        // folders of a download's cache are made of.
        let mut kind = entry.file_type().map_err(Error::io("read", &entry.path()))?;
        if kind.is_symlink()
            && let Ok(metadata) = fs::metadata(entry.path())
            && metadata.is_file()
        {
            kind = metadata.file_type();
        }
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

fn content_hash(documents: &[Document]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in documents.iter().flat_map(|d| [&d.id, &d.text]) {
        // The length in front keeps ("ab", "c") and ("a", "bc") apart.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The last part of a path.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(OsStr::new("corpus")).to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod tests;
