//! What `tokenizer.json` has done to a text before it is cut into words.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokenizers::normalizers::Nmt;
use tokenizers::{NormalizedString, Normalizer as _};

use super::charsmap::Charsmap;
use crate::tokenizer_file::{Refusal, refuse};

/// Those that are read, for a refusal.
const KNOWN: &str = "expected NFC, NFD, NFKC, NFKD, Nmt, Lowercase, Strip, Prepend, Replace, Precompiled or a Sequence of them";

/// What a step puts into a text at one place.
const MAX_CONTENT_BYTES: usize = 16;

/// By how much all steps together may make a text longer.
const MAX_GROWTH: usize = 1024;

#[derive(Debug, Deserialize)]
pub(super) struct NormalizerJson {
    r#type: String,
    #[serde(default)]
    normalizers: Vec<NormalizerJson>,
    prepend: Option<String>,
    pattern: Option<PatternJson>,
    content: Option<String>,
    strip_left: Option<bool>,
    strip_right: Option<bool>,
    precompiled_charsmap: Option<String>,
}

#[derive(Debug, Deserialize)]
enum PatternJson {
    String(String),
    Regex(String),
}

#[derive(Debug)]
enum Step {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    /// Control characters dropped, other white space made spaces.
    Nmt,
    Lowercase,
    Strip {
        left: bool,
        right: bool,
    },
    /// Before a text that is not empty.
    Prepend(String),
    Replace {
        from: String,
        to: String,
    },
    /// Two spaces or more become this.
    Spaces(String),
    Precompiled(Charsmap),
}

/// Steps, in their order.
#[derive(Debug, Default)]
pub(super) struct Normalizer(Vec<Step>);

impl Normalizer {
    pub(super) fn nfc() -> Self {
        Self(vec![Step::Nfc])
    }

    pub(super) fn from_json(json: Option<NormalizerJson>) -> Result<Self, Refusal> {
        let Some(json) = json else { return Ok(Self::default()) };
        let mut steps = Vec::new();
        if json.r#type == "Sequence" {
            for (k, json) in json.normalizers.into_iter().enumerate() {
                steps.push(step(&format!("normalizer.normalizers[{k}]"), json)?);
            }
        } else {
            steps.push(step("normalizer", json)?);
        }
        let growth = steps.iter().try_fold(1usize, |all, step| all.checked_mul(step.growth()));
        if growth.is_none_or(|growth| growth > MAX_GROWTH) {
            let reason = format!("its steps may make a text more than {MAX_GROWTH} times as long");
            return refuse("normalizer", reason);
        }
        Ok(Self(steps))
    }

    pub(super) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for step in &self.0 {
            text = match step.apply(&text) {
                Some(changed) => Cow::Owned(changed),
                None => text,
            };
        }
        text
    }
}

impl Step {
    /// How many bytes may come in the place of one.
    fn growth(&self) -> usize {
        let growth = match self {
            Self::Replace { from, to } => to.len().div_ceil(from.len()),
            Self::Spaces(to) => to.len().div_ceil(2),
            Self::Precompiled(map) => map.growth(),
            // The library's own, and what is done once.
            _ => 1,
        };
        growth.max(1)
    }

    /// The text, if it may have changed.
    fn apply(&self, text: &str) -> Option<String> {
        // Composing and decomposing leave ASCII alone; the library keeps its alignment.
        let by_library = |work: fn(&mut NormalizedString)| {
            let mut normalized = NormalizedString::from(text);
            work(&mut normalized);
            normalized.get().to_owned()
        };
        let unless_ascii =
            |work: fn(&mut NormalizedString)| (!text.is_ascii()).then(|| by_library(work));
        match self {
            Self::Nfc => unless_ascii(|text| {
                text.nfc();
            }),
            Self::Nfd => unless_ascii(|text| {
                text.nfd();
            }),
            Self::Nfkc => unless_ascii(|text| {
                text.nfkc();
            }),
            Self::Nfkd => unless_ascii(|text| {
                text.nfkd();
            }),
            Self::Nmt => Some(by_library(|text| {
                let _ = Nmt.normalize(text);
            })),
            Self::Lowercase => Some(text.chars().flat_map(char::to_lowercase).collect()),
            Self::Strip { left, right } => {
                let text = if *left { text.trim_start() } else { text };
                Some(if *right { text.trim_end() } else { text }.to_owned())
            }
            Self::Prepend(prefix) => (!text.is_empty()).then(|| format!("{prefix}{text}")),
            Self::Replace { from, to } => Some(text.replace(from.as_str(), to)),
            Self::Spaces(to) => Some(without_runs(text, to)),
            Self::Precompiled(map) => Some(map.replace(text)),
        }
    }
}

fn without_runs(text: &str, to: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("  ") {
        out.push_str(&rest[..at]);
        out.push_str(to);
        rest = rest[at..].trim_start_matches(' ');
    }
    out + rest
}

fn step(field: &str, json: NormalizerJson) -> Result<Step, Refusal> {
    let content = |name: &str, content: Option<String>| match content {
        Some(content) if content.len() <= MAX_CONTENT_BYTES => Ok(content),
        other => refuse(
            format!("{field}.{name}"),
            format!("is {other:?}, expected a text of at most {MAX_CONTENT_BYTES} bytes"),
        ),
    };
    Ok(match json.r#type.as_str() {
        "NFC" => Step::Nfc,
        "NFD" => Step::Nfd,
        "NFKC" => Step::Nfkc,
        "NFKD" => Step::Nfkd,
        "Nmt" => Step::Nmt,
        "Lowercase" => Step::Lowercase,
        "Strip" => Step::Strip {
            left: json.strip_left.unwrap_or(false),
            right: json.strip_right.unwrap_or(false),
        },
        "Prepend" => Step::Prepend(content("prepend", json.prepend)?),
        "Replace" => {
            let to = content("content", json.content)?;
            match json.pattern {
                Some(PatternJson::String(from)) if !from.is_empty() => Step::Replace { from, to },
                Some(PatternJson::Regex(regex)) if regex == " {2,}" => Step::Spaces(to),
                other => {
                    return refuse(
                        format!("{field}.pattern"),
                        format!("is {other:?}, expected a String, or the Regex \" {{2,}}\""),
                    );
                }
            }
        }
        "Precompiled" => {
            let field = format!("{field}.precompiled_charsmap");
            let Some(encoded) = json.precompiled_charsmap else {
                return refuse(field, "is missing, expected base64");
            };
            let parsed = STANDARD
                .decode(encoded)
                .map_err(|e| format!("is not base64 ({e})"))
                .and_then(|bytes| Charsmap::parse(&bytes));
            Step::Precompiled(parsed.or_else(|reason| refuse(field, reason))?)
        }
        other => return refuse(field, format!("has {other:?}, {KNOWN}")),
    })
}
