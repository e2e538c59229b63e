//! GGUF files: their metadata, and their tensors as f32.
//!
//! GGUF is what llama.cpp writes: a header of counts, metadata as typed key and value, descriptions
//! of tensors, and then the tensors, most of them quantised in blocks. Versions 2 and 3 are read,
//! little-endian.
//!
//! *Strict.* Such files come from strangers. Every length is held against the bytes that are left
//! before anything is allocated; types, dimensions, alignment, bounds and overlap are checked when
//! a file is opened, and what is wrong is refused by name, with what was expected. Opening takes at
//! most ten times the header's size and a few kilobytes; reading a tensor takes its values, at most
//! thirteen times its bytes, and a small buffer for each thread. A tensor in an encoding that ggml has
//! and this crate does not decode is refused when it is read, not before.
//!
//! *Streaming.* Nothing is mapped into memory, for this project has no `unsafe`: the file stays
//! open, and threads read pieces of a tensor at their places and decode them there. A model of 135M
//! parameters takes a fraction of a second.
//!
//! *Exact.* The values are those that ggml's Python package `gguf` makes, to the bit, whatever the
//! number of threads.
//!
//! *Not checked*: whether the values make sense (a flipped bit in the data is another value; the
//! format has no checksum), whether metadata and tensors fit each other or an architecture, names
//! of keys and tensors beyond being unique, what the padding holds, bytes after the last tensor.
//!
//! *Split files.* Of a model in several files (`NAME-00001-of-00003.gguf`) any part opens all of
//! them: the metadata are those of the first, the tensors those of all.
//!
//! ```
//! use induction_gguf::{Gguf, Kind};
//! # let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle/gguf_writer.gguf");
//! # // The published crate goes without the repository's fixtures.
//! # if !path.exists() { return Ok(()); }
//! let file = Gguf::open(&path)?;
//! assert_eq!(file.string("general.architecture")?, "llama");
//! assert_eq!(file.unsigned_opt("llama.block_count")?, Some(2));
//! for tensor in file.tensors() {
//!     println!("{} {:?} {}", tensor.name, tensor.shape, tensor.kind);
//! }
//! let embedding = file.tensor("token_embd.weight").unwrap();
//! assert_eq!((embedding.shape.as_slice(), embedding.kind), (&[2, 256][..], Kind::Q4K));
//! assert_eq!(file.read("token_embd.weight")?.len(), 512);
//! let error = file.float("llama.rope.freq_base").unwrap_err().to_string();
//! assert!(error.contains("key llama.rope.freq_base: missing, expected a float"));
//! # Ok::<(), induction_gguf::Error>(())
//! ```
//!
//! Runnable: `cargo run -p induction-gguf --example tensors`.

mod blocks;
mod error;
mod kind;
mod parse;
mod split;
mod value;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use rayon::prelude::*;
use split::Split;

pub use error::{Error, Result};
pub use kind::Kind;
pub use value::{Array, Value};

/// Values that one thread reads and decodes at once: a multiple of every block, and 256 KB as f32,
/// which stays in its cache.
const PIECE: usize = 1 << 16;

/// A file, or all parts of a split one, of which everything but the tensors' values has been read
/// and checked. It stays open.
pub struct Gguf {
    path: PathBuf,
    /// One, or those of a split file in order.
    parts: Vec<Part>,
    version: u32,
    metadata: Vec<(String, Value)>,
    /// Indices into `metadata`, by key.
    keys: Vec<usize>,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, by name.
    names: Vec<usize>,
}

/// An open file.
struct Part {
    path: PathBuf,
    file: File,
}

/// What a file says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, as `blk.0.attn_q.weight`.
    pub name: String,
    /// 1 to 4 sizes, none 0, the last index fastest (GGUF's own order is the reverse). A matrix is
    /// (outputs, inputs).
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub kind: Kind,
    /// Which part of a split file it is in, from 0; 0 of a file that is whole.
    pub part: usize,
    /// Where it begins, in bytes of that file.
    pub offset: u64,
    /// Bytes it takes there.
    pub bytes: u64,
}

impl TensorInfo {
    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Gguf {
    /// Opens a file, and with a part of a split one all of them, and reads and checks all but the
    /// tensors' values.
    ///
    /// # Errors
    /// [`Error::NotGguf`] for another kind of file, [`Error::CutShort`] if bytes are missing,
    /// [`Error::Format`] naming the field that is wrong or the part that is missing,
    /// [`Error::Field`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let (part, mut header) = Part::open(path)?;
        let parts = match Split::of(&header, path)? {
            None => vec![part],
            Some(split) => {
                let paths = split.paths(path)?;
                let mut parts = Vec::with_capacity(paths.len());
                let (mut first, mut tensors) = (None, Vec::new());
                for (number, path) in paths.iter().enumerate() {
                    let (part, mut header) = Part::open(path)?;
                    split.check(Split::of(&header, path)?.as_ref(), number, path)?;
                    let of_part = header.tensors.drain(..);
                    tensors.extend(of_part.map(|tensor| TensorInfo { part: number, ..tensor }));
                    parts.push(part);
                    first.get_or_insert(header);
                }
                split.check_tensors(tensors.len(), path)?;
                header = first.expect("a split file has parts");
                header.tensors = tensors;
                parts
            }
        };
        let parse::Header { version, metadata, tensors } = header;
        let twice = |field: String| {
            let reason =
                "is there twice, expected once; the file is damaged, fetch it again".to_owned();
            Error::Format { path: path.to_owned(), field, reason }
        };
        let keys = by_name(&metadata, |(key, _)| key)
            .map_err(|key| twice(format!("key {}", parse::shown(key))))?;
        let names = by_name(&tensors, |tensor| &tensor.name)
            .map_err(|name| twice(format!("tensor {}", parse::shown(name))))?;
        Ok(Self { path: path.to_owned(), parts, version, metadata, keys, tensors, names })
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata, in the file's order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The metadata of this key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let at = self.keys.binary_search_by(|&k| self.metadata[k].0.as_str().cmp(key)).ok()?;
        Some(&self.metadata[self.keys[at]].1)
    }

    /// A string.
    ///
    /// # Errors
    /// [`Error::Field`] if it is missing or something else.
    pub fn string(&self, key: &str) -> Result<&str> {
        self.required(key, "a string", self.string_opt(key)?)
    }

    /// A string, or `None` if the key is not there.
    ///
    /// # Errors
    /// [`Error::Field`] if it is something else.
    pub fn string_opt(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(string) => Some(string.as_str()),
            _ => None,
        })
    }

    /// An integer of any type, 0 or more.
    ///
    /// # Errors
    /// [`Error::Field`] if it is missing or something else.
    pub fn unsigned(&self, key: &str) -> Result<u64> {
        self.required(key, "an integer, 0 or more", self.unsigned_opt(key)?)
    }

    /// An integer of any type, 0 or more, or `None` if the key is not there.
    ///
    /// # Errors
    /// [`Error::Field`] if it is something else.
    pub fn unsigned_opt(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an integer, 0 or more", |value| value.integer()?.try_into().ok())
    }

    /// A float of either type. An integer is none.
    ///
    /// # Errors
    /// [`Error::Field`] if it is missing or something else.
    pub fn float(&self, key: &str) -> Result<f64> {
        self.required(key, "a float", self.float_opt(key)?)
    }

    /// A float of either type, or `None` if the key is not there.
    ///
    /// # Errors
    /// [`Error::Field`] if it is something else.
    pub fn float_opt(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", Value::float)
    }

    /// A bool, or `None` if the key is not there.
    ///
    /// # Errors
    /// [`Error::Field`] if it is something else.
    pub fn bool_opt(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(bool) => Some(*bool),
            _ => None,
        })
    }

    /// An array of strings.
    ///
    /// # Errors
    /// [`Error::Field`] if it is missing or something else.
    pub fn strings(&self, key: &str) -> Result<&[String]> {
        let expected = "an array of strings";
        let strings = self.typed(key, expected, |value| match value {
            Value::Array(Array::String(strings)) => Some(strings.as_slice()),
            _ => None,
        })?;
        self.required(key, expected, strings)
    }

    /// An array of integers of any type that i64 holds, or `None` if the key is not there.
    ///
    /// # Errors
    /// [`Error::Field`] if it is something else.
    pub fn integers_opt(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Array(array) => array.integers(),
            _ => None,
        })
    }

    /// All tensors, in the file's order.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self.names.binary_search_by(|&k| self.tensors[k].name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.names[at]])
    }

    /// Bytes of some rows of a tensor, as the file has them, after those in `bytes`; and their
    /// encoding.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Panics
    /// On rows that the tensor does not have, and rows that are no whole number of its encoding's
    /// blocks (of a matrix every row is).
    pub fn read_bytes(&self, name: &str, rows: Range<usize>, bytes: &mut Vec<u8>) -> Result<Kind> {
        let info = self.info(name)?;
        assert!(rows.start <= rows.end && rows.end <= info.shape[0], "rows {rows:?} of {info:?}");
        let (block, block_bytes) = info.kind.block();
        let row = info.elements() / info.shape[0];
        assert!(row.is_multiple_of(block), "rows of {info:?} are no whole blocks");
        let (row, from) = (row / block * block_bytes, bytes.len());
        let part = &self.parts[info.part];
        bytes.resize(from + rows.len() * row, 0);
        read_exact_at(&part.file, &mut bytes[from..], info.offset + (rows.start * row) as u64)
            .map_err(Error::io("read", &part.path))?;
        Ok(info.kind)
    }

    /// A tensor's values as f32, the last index of its shape fastest.
    ///
    /// Read and decoded by rayon's threads, piece by piece: memory is that of the values and 256 KB
    /// at most for each thread.
    ///
    /// # Errors
    /// [`Error::NoTensor`]; [`Error::Undecoded`] for an encoding that is not known here;
    /// [`Error::Memory`]; [`Error::Io`], also if the file was cut since it was opened.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.info(name)?;
        self.values(info, 0, info.elements())
    }

    /// The values of some rows of a tensor, a row being all values of one first index.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Panics
    /// On rows that the tensor does not have.
    pub fn read_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>> {
        let info = self.info(name)?;
        assert!(rows.start <= rows.end && rows.end <= info.shape[0], "rows {rows:?} of {info:?}");
        let row = info.elements() / info.shape[0];
        // Only of a vector can a row be a part of a block.
        let block = info.kind.block().0;
        let (from, to) = (rows.start * row, rows.end * row);
        let (first, last) = (from / block * block, to.next_multiple_of(block).min(info.elements()));
        let mut values = self.values(info, first, last)?;
        values.truncate(to - first);
        Ok(if from == first { values } else { values.split_off(from - first) })
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.tensor(name).ok_or_else(|| {
            let (name, count) = (name.to_owned(), self.tensors.len());
            Error::NoTensor { path: self.path.clone(), name, count }
        })
    }

    /// The same into `values`, in the thread that asks.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Panics
    /// On rows that the tensor does not have, rows that are no whole number of its encoding's
    /// blocks (of a matrix every row is), and another number of values than the rows have.
    pub fn read_rows_into(&self, name: &str, rows: Range<usize>, values: &mut [f32]) -> Result<()> {
        let info = self.info(name)?;
        assert!(rows.start <= rows.end && rows.end <= info.shape[0], "rows {rows:?} of {info:?}");
        let row = info.elements() / info.shape[0];
        assert_eq!(values.len(), rows.len() * row, "values of rows {rows:?} of {info:?}");
        let mut buffer = Vec::new();
        for (piece, values) in values.chunks_mut(PIECE).enumerate() {
            self.fill(info, &mut buffer, rows.start * row + piece * PIECE, values)?;
        }
        Ok(())
    }

    /// Values `from..to` of a tensor, whole blocks.
    fn values(&self, info: &TensorInfo, from: usize, to: usize) -> Result<Vec<f32>> {
        let (name, elements) = (&info.name, to - from);
        self.decoder(info)?;
        // `vec!` would abort where there is no memory, but is zeroed by the system, page by page,
        // in the threads that fill it; hence a reservation just to be told.
        if Vec::<f32>::new().try_reserve_exact(elements).is_err() {
            return Err(Error::Memory { path: self.path.clone(), name: name.clone(), elements });
        }
        let mut values = vec![0.0; elements];
        if elements <= PIECE {
            self.fill(info, &mut Vec::new(), from, &mut values)?; // Not worth waking anyone.
        } else {
            values
                .par_chunks_mut(PIECE)
                .enumerate()
                .try_for_each_init(Vec::new, |buffer, (piece, values)| {
                    self.fill(info, buffer, from + piece * PIECE, values)
                })?;
        }
        Ok(values)
    }

    fn decoder(&self, info: &TensorInfo) -> Result<blocks::Decode> {
        info.kind.decoder().ok_or_else(|| {
            let (path, name) = (self.path.clone(), info.name.clone());
            Error::Undecoded { path, name, kind: info.kind }
        })
    }

    /// Reads and decodes a tensor's values from one on, the first of a block; the buffer is for the
    /// file's bytes.
    fn fill(
        &self,
        info: &TensorInfo,
        buffer: &mut Vec<u8>,
        from: usize,
        values: &mut [f32],
    ) -> Result<()> {
        let decode = self.decoder(info)?;
        let part = &self.parts[info.part];
        let (block, block_bytes) = info.kind.block();
        assert!(from.is_multiple_of(block) && values.len().is_multiple_of(block));
        buffer.resize(values.len() / block * block_bytes, 0);
        read_exact_at(&part.file, buffer, info.offset + (from / block * block_bytes) as u64)
            .map_err(Error::io("read", &part.path))?;
        decode(buffer, values);
        Ok(())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(self.field(key, format!("is {value}"), expected)),
        }
    }

    fn required<T>(&self, key: &str, expected: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.field(key, "missing".to_owned(), expected))
    }

    fn field(&self, key: &str, found: String, expected: &'static str) -> Error {
        Error::Field { path: self.path.clone(), key: key.to_owned(), found, expected }
    }
}

impl Part {
    fn open(path: &Path) -> Result<(Self, parse::Header)> {
        // Asked before opening: to open a pipe is to wait for its writer.
        let about = std::fs::metadata(path).map_err(Error::io("open", path))?;
        if !about.is_file() {
            return Err(Error::NotGguf {
                path: path.to_owned(),
                found: "it is not a file; give a .gguf file".to_owned(),
            });
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("open", path))?.len();
        let header = parse::header(&file, length, path)?;
        Ok((Self { path: path.to_owned(), file }, header))
    }
}

/// Without the vocabulary and the list of tensors.
impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("path", &self.path)
            .field("version", &self.version)
            .field("metadata", &self.metadata.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

/// Indices in the order of their names, or a name that two have.
fn by_name<T>(items: &[T], name: fn(&T) -> &String) -> Result<Vec<usize>, &String> {
    let mut order: Vec<_> = (0..items.len()).collect();
    order.sort_unstable_by_key(|&k| name(&items[k]));
    match order.windows(2).find(|pair| name(&items[pair[0]]) == name(&items[pair[1]])) {
        Some(pair) => Err(name(&items[pair[0]])),
        None => Ok(order),
    }
}

/// Fills `buffer` from byte `at` of `file` on, whatever other threads read: for readers of other
/// formats, too.
///
/// # Errors
/// The system's; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
#[cfg(unix)]
pub fn read_exact_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

/// Fills `buffer` from byte `at` of `file` on, whatever other threads read: for readers of other
/// formats, too.
///
/// # Errors
/// The system's; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
#[cfg(windows)]
pub fn read_exact_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
