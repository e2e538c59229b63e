//! Where training text comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use induction_model::ModelConfig;
use induction_tokenizer::Synthetic;
use induction_tokenizer::synthetic::{Repeats, Shape};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::range::fail;
use crate::Error;

/// Where training text comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "source", rename_all = "lowercase")]
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
    /// Data on purpose: sequences that a process generates, which is known.
    #[serde(untagged)]
    Synthetic(Synthetic),
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
    /// The first of the synthetic sources: random blocks of so many tokens, repeated.
    pub fn repeats(min_period: usize, max_period: usize) -> Self {
        Self::Synthetic(Synthetic::Repeats(Repeats { min_period, max_period }))
    }

    /// Checks every field, for sequences of that model's shape.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first that does not fit.
    pub(super) fn validate(&self, model: &ModelConfig) -> Result<(), Error> {
        match self {
            Self::Corpus { held_out, .. } if *held_out > 0.0 && *held_out <= 0.5 => Ok(()),
            Self::Corpus { held_out, .. } => {
                fail("data.held_out", held_out, "a share above 0, up to 0.5")
            }
            Self::Synthetic(source) => {
                let shape = Shape { d_vocab: model.d_vocab, n_ctx: model.n_ctx };
                source.open(shape).map(|_| ()).or_else(|error| match error {
                    induction_tokenizer::Error::Setting { field, given, expected } => {
                        fail(field, &given, &expected)
                    }
                    other => fail("data", &source.name(), &other.to_string()),
                })
            }
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&Text> {
        match self {
            Self::Corpus { text, .. } => Some(text),
            Self::Synthetic(_) => None,
        }
    }

    /// What is taken from the text, if anything.
    pub fn control(&self) -> Option<Control> {
        match self {
            Self::Corpus { control, .. } => *control,
            Self::Synthetic(_) => None,
        }
    }
}

/// A path, or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a path, or a list of paths")]
enum WrittenPath {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

/// Data as files have them. A text's keys are read as they come, so that a complaint knows their
/// line; a synthetic source reads its own once it is known which one it is.
#[derive(Default)]
struct Written {
    source: Option<String>,
    path: Option<WrittenPath>,
    text_field: Option<String>,
    held_out: Option<f64>,
    blake3: Option<String>,
    control: Option<Control>,
    others: BTreeMap<String, toml::Value>,
}

impl<'de> Deserialize<'de> for DataSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = DataSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table of data")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DataSpec, A::Error> {
                let mut written = Written::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "source" => written.source = Some(map.next_value()?),
                        "path" => written.path = Some(map.next_value()?),
                        "text_field" => written.text_field = Some(map.next_value()?),
                        "held_out" => written.held_out = Some(map.next_value()?),
                        "blake3" => written.blake3 = Some(map.next_value()?),
                        "control" => written.control = Some(map.next_value()?),
                        _ => drop(written.others.insert(key, map.next_value()?)),
                    }
                }
                DataSpec::try_from(written).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

impl TryFrom<Written> for DataSpec {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { source, path, text_field, held_out, blake3, control, others } = written;
        let missing = |field: &str| format!("missing field `{field}`");
        let source = source.ok_or_else(|| missing("source"))?;
        let surplus = |field: &str| format!("unknown field `{field}` of the source {source}");
        if source == "corpus" {
            if let Some((field, _)) = others.first_key_value() {
                return Err(surplus(field));
            }
            let path = match path.ok_or_else(|| missing("path"))? {
                WrittenPath::One(path) => vec![path],
                WrittenPath::Several(paths) if paths.is_empty() => {
                    return Err("`path` is empty, expected at least one".to_string());
                }
                WrittenPath::Several(paths) => paths,
            };
            return Ok(Self::Corpus {
                text: Text { path, text_field },
                held_out: held_out.unwrap_or(DEFAULT_HELD_OUT),
                blake3,
                control,
            });
        }
        let of_text = [
            ("path", path.is_some()),
            ("text_field", text_field.is_some()),
            ("held_out", held_out.is_some()),
            ("blake3", blake3.is_some()),
            ("control", control.is_some()),
        ];
        let is_synthetic = Synthetic::NAMES.contains(&source.as_str());
        if let Some((field, _)) = of_text.iter().find(|(_, given)| is_synthetic && *given) {
            return Err(surplus(field));
        }
        let settings = toml::Value::Table(others.into_iter().collect());
        match Synthetic::read(&source, settings) {
            Some(Ok(source)) => Ok(Self::Synthetic(source)),
            Some(Err(error)) => {
                // As of a text: "unknown field `x` of the source y, expected ...".
                let text = error.to_string();
                let of_source = format!("` of the source {source}, expected");
                Err(match text.starts_with("unknown field") {
                    true => text.replacen("`, expected", &of_source, 1),
                    false => text,
                })
            }
            None => Err(format!(
                "unknown source `{source}`, expected one of `corpus`, `{}`",
                Synthetic::NAMES.join("`, `")
            )),
        }
    }
}

const DEFAULT_HELD_OUT: f64 = 0.1;
