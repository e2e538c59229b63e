//! The one error of this crate.

use std::io;
use std::path::{Path, PathBuf};

use crate::Kind;

/// The result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a GGUF file or a question to it; each message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `read`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },

    /// Another kind of file.
    #[error("{} is not a GGUF file: {found}", path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// What it seems to be, and what to do with that.
        found: String,
    },

    /// Fewer bytes than the file itself announces.
    #[error(
        "GGUF {} {field}: cut short: {needed} bytes needed and {left} left, {} bytes missing; fetch the file again",
        path.display(),
        needed.saturating_sub(*left)
    )]
    CutShort {
        /// The file.
        path: PathBuf,
        /// Where in it.
        field: String,
        /// Bytes that this field takes, by the lengths in the file.
        needed: u64,
        /// Bytes that there are; fewer.
        left: u64,
    },

    /// A field that no valid file has.
    #[error("GGUF {} {field}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where in it.
        field: String,
        /// What was found, what was expected and what to do.
        reason: String,
    },

    /// Metadata that is needed and is not there, or not of the type it must have.
    #[error("GGUF {} key {key}: {found}, expected {expected}; convert the model again, this file does not describe it", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: String,
        /// What is there instead.
        found: String,
        /// The type asked for.
        expected: &'static str,
    },

    /// A tensor that was asked for and is not there.
    #[error("GGUF {} tensor {name}: missing, the file has {count} others; is it another architecture, or one part of a split file?", path.display())]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// How many tensors there are.
        count: usize,
    },

    /// A tensor in an encoding that is not decoded here.
    #[error("GGUF {} tensor {name}: is {kind}, which is not decoded here; quantise the model as one of {}", path.display(), Kind::decoded_names())]
    Undecoded {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its encoding.
        kind: Kind,
    },

    /// The system has no memory for a tensor.
    #[error("GGUF {} tensor {name}: no memory for its {elements} values, {} bytes; free some, or use a smaller model", path.display(), elements.saturating_mul(4))]
    Memory {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its number of values.
        elements: usize,
    },
}

impl Error {
    /// For `map_err`: an [`Error::Io`] of `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
