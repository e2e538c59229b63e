//! What lies beside a tokenizer's file and says more of it: `tokenizer_config.json`, and the
//! `added_tokens.json` of older folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::added::{Added, AddedJson, TokenJson};
use super::pieces::Vocabulary;
use super::vocabulary::{from_slice, of_file};
use super::{Description, Model};
use crate::Result;
use crate::corpus::mended;
use crate::tokenizer_file::{Refusal, read, refuse};

/// What `tokenizer_config.json` says.
#[derive(Default, Deserialize)]
struct ConfigJson {
    tokenizer_class: Option<String>,
    add_bos_token: Option<bool>,
    add_prefix_space: Option<bool>,
    bos_token: Option<NamedJson>,
    eos_token: Option<NamedJson>,
    unk_token: Option<NamedJson>,
    pad_token: Option<NamedJson>,
    /// Tokens by their ids, which are written as texts.
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, TokenJson>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NamedJson {
    Text(String),
    Token { content: String },
}

impl NamedJson {
    fn content(&self) -> &str {
        match self {
            Self::Text(content) | Self::Token { content } => content,
        }
    }
}

/// What the files beside a tokenizer's say.
#[derive(Default)]
pub(super) struct Beside {
    config: ConfigJson,
    config_path: PathBuf,
    /// Of `added_tokens.json`.
    added: BTreeMap<String, u32>,
}

impl Beside {
    /// Of a tokenizer's file at `path`; nothing if it lies alone.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let config_path = path.with_file_name("tokenizer_config.json");
        let config = match config_path.is_file() {
            true => {
                let bytes = read(&config_path, of_file(&config_path))?;
                // Python writes numbers that are none as words, which JSON does not have.
                let bytes = mended(&bytes).map_or(bytes, |(mended, _)| mended);
                from_slice(&bytes).map_err(of_file(&config_path))?
            }
            false => ConfigJson::default(),
        };
        let mut config: ConfigJson = config;
        let map_path = path.with_file_name("special_tokens_map.json");
        if map_path.is_file() {
            let map: ConfigJson =
                from_slice(&read(&map_path, of_file(&map_path))?).map_err(of_file(&map_path))?;
            for (ours, theirs) in [
                (&mut config.bos_token, map.bos_token),
                (&mut config.eos_token, map.eos_token),
                (&mut config.unk_token, map.unk_token),
                (&mut config.pad_token, map.pad_token),
            ] {
                *ours = ours.take().or(theirs);
            }
        }
        let model_path = path.with_file_name("config.json");
        if config.tokenizer_class.is_none() && model_path.is_file() {
            // As `transformers` finds it.
            let model: serde_json::Value = read(&model_path, of_file(&model_path))
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .unwrap_or_default();
            let kind = model["model_type"].as_str().unwrap_or_default();
            if kind.starts_with("qwen2") || kind.starts_with("qwen3") {
                config.tokenizer_class = Some("Qwen2Tokenizer".to_owned());
            }
        }
        let added_path = path.with_file_name("added_tokens.json");
        let added = match added_path.is_file() {
            true => from_slice(&read(&added_path, of_file(&added_path))?)
                .map_err(of_file(&added_path))?,
            false => BTreeMap::new(),
        };
        Ok(Self { config, config_path, added })
    }

    /// The class that reads the tokenizer, without the "Fast" that it may end in.
    pub(super) fn class(&self) -> Option<&str> {
        let class = self.config.tokenizer_class.as_deref()?;
        Some(class.strip_suffix("Fast").unwrap_or(class))
    }

    /// What is called begin, end, unknown or padding.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let ConfigJson { bos_token, eos_token, unk_token, pad_token, .. } = &self.config;
        [bos_token, eos_token, unk_token, pad_token].into_iter().flatten().map(NamedJson::content)
    }

    /// Tokens that the files add to those of `known`, which come first where they differ.
    pub(super) fn added(&self, known: &[Added]) -> Result<Vec<Added>> {
        let mut more: Vec<Added> = Vec::new();
        let add = |added: Added, more: &mut Vec<Added>| {
            let is_it = |other: &&Added| other.id == added.id || other.content == added.content;
            if known.iter().chain(more.iter()).find(is_it).is_none() {
                more.push(added);
            }
        };
        for (id, token) in &self.config.added_tokens_decoder {
            let Ok(id) = id.parse() else {
                let reason = "is no id, expected a whole number".to_owned();
                let field = format!("added_tokens_decoder.{id:?}");
                return Err(of_file(&self.config_path)((field, reason)));
            };
            add(AddedJson { id, token: token.clone() }.read(), &mut more);
        }
        for (content, &id) in &self.added {
            let special = self.named().any(|name| name == content);
            add(Added { special, ..Added::special(id, content.clone()) }, &mut more);
        }
        Ok(more)
    }

    /// Adds what is said of a tokenizer whose own file has been read.
    /// `has_json`: it is a tokenizer.json, which says how words are cut.
    pub(super) fn configure(&self, described: &mut Description, has_json: bool) -> Result<()> {
        // Of other classes the tokenizer's own file says it.
        let by_class = matches!(self.class(), Some("GPT2Tokenizer" | "CodeGenTokenizer"));
        match (self.config.add_prefix_space, &mut described.model) {
            (Some(prefix), Model::Bytes(_)) if by_class || !has_json => {
                described.words.prefix_space = prefix;
            }
            (Some(prefix), Model::Pieces(Vocabulary { spacing: Some(spacing), .. })) => {
                spacing.prefix = prefix;
            }
            _ => {}
        }
        if described.bos.first.is_some() {
            return Ok(());
        }
        self.begin(described).map_err(of_file(&self.config_path))
    }

    fn begin(&self, described: &mut Description) -> Result<(), Refusal> {
        let Some(name) = self.config.bos_token.as_ref().map(NamedJson::content) else {
            return Ok(());
        };
        let added = described.added.iter().find(|added| added.content == name);
        let id = added.map(|added| added.id).or_else(|| described.model.id_of(name));
        if self.config.add_bos_token == Some(true) {
            if id.is_none() {
                return refuse("bos_token", format!("{name:?} is not a token of the tokenizer"));
            }
            described.bos.first = id;
        }
        described.bos.named = id;
        Ok(())
    }
}
