//! Where training text comes from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where training text comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase", try_from = "Written")]
pub enum DataSpec {
    /// Text, byte-level BPE of `model.d_vocab` tokens, held out by document.
    Corpus {
        /// A `.jsonl`, `.jsonl.zst` or `.txt` file, or a folder of text files.
        path: PathBuf,
        /// Share of the text that is held out.
        held_out: f64,
        /// Hash of the documents; filled in when the spec is resolved, checked when it is given.
        #[serde(skip_serializing_if = "Option::is_none")]
        blake3: Option<String>,
        /// What is taken from the text, to see what is learned without it.
        #[serde(skip_serializing_if = "Option::is_none")]
        control: Option<Control>,
    },
    /// The synthetic task: random blocks of random length, repeated.
    Repeats {
        /// Shortest block.
        min_period: usize,
        /// Longest block.
        max_period: usize,
    },
}

/// A text from which something is taken that induction heads need: negative controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// The tokens of each document in random order, the same for all runs: the same unigrams, no
    /// order to predict by.
    Shuffled,
    /// Windows made of pieces of 12 to 16 tokens from all over the text: the same n-grams, and
    /// nothing that comes again in a window but by chance.
    Fragments,
}

impl DataSpec {
    /// The text, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Corpus { path, .. } => Some(path),
            Self::Repeats { .. } => None,
        }
    }

    /// What is taken from the text, if anything.
    pub fn control(&self) -> Option<Control> {
        match self {
            Self::Corpus { control, .. } => *control,
            Self::Repeats { .. } => None,
        }
    }
}

/// Data as files have them. serde forgets where a field stands while it looks for the variant, this
/// does not.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    source: WrittenSource,
    path: Option<PathBuf>,
    held_out: Option<f64>,
    blake3: Option<String>,
    control: Option<Control>,
    min_period: Option<usize>,
    max_period: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenSource {
    Corpus,
    Repeats,
}

impl TryFrom<Written> for DataSpec {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { source, path, held_out, blake3, control, min_period, max_period } = written;
        let missing = |field: &str| format!("missing field `{field}`");
        let surplus =
            |fields: &[(&str, bool)], source: &str| match fields.iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(format!("unknown field `{field}` of the source {source}")),
                None => Ok(()),
            };
        match source {
            WrittenSource::Corpus => {
                surplus(
                    &[("min_period", min_period.is_some()), ("max_period", max_period.is_some())],
                    "corpus",
                )?;
                Ok(Self::Corpus {
                    path: path.ok_or_else(|| missing("path"))?,
                    held_out: held_out.unwrap_or(DEFAULT_HELD_OUT),
                    blake3,
                    control,
                })
            }
            WrittenSource::Repeats => {
                let of_text = [
                    ("path", path.is_some()),
                    ("held_out", held_out.is_some()),
                    ("blake3", blake3.is_some()),
                    ("control", control.is_some()),
                ];
                surplus(&of_text, "repeats")?;
                Ok(Self::Repeats {
                    min_period: min_period.ok_or_else(|| missing("min_period"))?,
                    max_period: max_period.ok_or_else(|| missing("max_period"))?,
                })
            }
        }
    }
}

const DEFAULT_HELD_OUT: f64 = 0.1;
