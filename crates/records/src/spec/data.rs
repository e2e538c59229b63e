//! Where training text comes from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

/// Where training text comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase", try_from = "Written")]
pub enum DataSpec {
    /// Text, byte-level BPE of `model.d_vocab` tokens, held out by document.
    Corpus {
        /// Where it lies.
        #[serde(flatten)]
        text: Text,
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

/// Files or folders that make one text, and where in them it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Text {
    /// One (`.jsonl`, `.txt`, ..., or a folder), or several in their order; in a spec a text, or a
    /// list of them.
    #[serde(serialize_with = "one_or_several")]
    pub path: Vec<PathBuf>,
    /// The key that holds the text in objects of JSON, if it is not one of the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_field: Option<String>,
}

impl<P: Into<PathBuf>> From<P> for Text {
    fn from(path: P) -> Self {
        Self { path: vec![path.into()], text_field: None }
    }
}

fn one_or_several<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    match paths {
        [one] => one.serialize(serializer),
        several => several.serialize(serializer),
    }
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
    pub fn text(&self) -> Option<&Text> {
        match self {
            Self::Corpus { text, .. } => Some(text),
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
    path: Option<WrittenPath>,
    text_field: Option<String>,
    held_out: Option<f64>,
    blake3: Option<String>,
    control: Option<Control>,
    min_period: Option<usize>,
    max_period: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a path, or a list of paths")]
enum WrittenPath {
    One(PathBuf),
    Several(Vec<PathBuf>),
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
        let Written { source, path, text_field, held_out, blake3, control, min_period, max_period } =
            written;
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
                let path = match path.ok_or_else(|| missing("path"))? {
                    WrittenPath::One(path) => vec![path],
                    WrittenPath::Several(paths) if paths.is_empty() => {
                        return Err("`path` is empty, expected at least one".to_string());
                    }
                    WrittenPath::Several(paths) => paths,
                };
                Ok(Self::Corpus {
                    text: Text { path, text_field },
                    held_out: held_out.unwrap_or(DEFAULT_HELD_OUT),
                    blake3,
                    control,
                })
            }
            WrittenSource::Repeats => {
                let of_text = [
                    ("path", path.is_some()),
                    ("text_field", text_field.is_some()),
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
