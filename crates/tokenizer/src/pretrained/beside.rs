//! What lies beside a tokenizer's file and says more of it: `tokenizer_config.json`, and the
//! `added_tokens.json` of older folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::added::{Added, AddedJson, TokenJson};
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
    pub(super) fn configure(&self, described: &mut Description) -> Result<()> {
        if let (Some(prefix_space), Model::Bytes(_)) =
            (self.config.add_prefix_space, &described.model)
        {
            described.words.prefix_space = prefix_space;
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
