//! A model to scan, whatever kind of file it is in.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use induction_engine::Engine;
use induction_gguf::{Array, Gguf, Value};
use induction_model::{ModelConfig, ReadParams, pretrained};
use induction_records::{HowRun, ModelFacts, RunSpec, StartFrom};
use induction_tokenizer::{PretrainedTokenizer, Tokenizer, TokenizerParts};

use super::find_snapshot;
use crate::{
    Error, cause,
    device::Device,
    source::{Source, data_of},
    stages::load_finite_model,
};

/// A model with all that a scan needs of it.
pub struct Opened {
    /// What it is.
    pub facts: ModelFacts,
    pub(super) config: ModelConfig,
    pub(super) weights: Arc<dyn ReadParams>,
    pub(super) tokenizer: Result<Box<dyn Tokenizer>, String>,
    /// What begins a sequence.
    pub(super) bos: u32,
    /// How it will be run, without what only running it says.
    pub(super) how: HowRun,
    /// Tokens that random samples are drawn from.
    pub(super) allowed: Vec<u32>,
}

impl Opened {
    /// Whether the weights are read layer by layer, so that what is asked for together costs no
    /// more than one thing.
    pub(super) fn is_streamed(&self) -> bool {
        !self.config.is_trainable()
    }

    /// Its engine.
    ///
    /// # Errors
    /// The engine's, and the weights'.
    pub fn engine(&self, device: Device) -> Result<Box<dyn Engine>, Error> {
        if self.is_streamed() {
            return device.reader(&self.config, self.weights.clone());
        }
        device.open(&self.config, &self.weights.load(&self.config)?)
    }

    /// Its parameters, read when they are asked for.
    pub fn weights(&self) -> &dyn ReadParams {
        self.weights.as_ref()
    }

    /// What it is asked with, of what its heads do by cause.
    pub fn source(&self) -> cause::Source<'_> {
        let tokenizer = self.tokenizer.as_ref().ok().map(|tokenizer| tokenizer.as_ref());
        cause::Source { start: self.bos, allowed: &self.allowed, tokenizer }
    }
}

/// Opens a run's folder (its newest snapshot), a snapshot, a HuggingFace or TransformerLens folder,
/// or a GGUF file.
///
/// # Errors
/// A file that is none of these or is damaged; a tokenizer with more tokens than the model.
pub fn open(path: &Path) -> Result<Opened, Error> {
    let of_ours = path.join("spec.toml").is_file()
        || path.join("state.json").is_file()
        || path.join("snapshots").is_dir();
    if !of_ours && pretrained::is_pretrained(path) {
        return open_pretrained(path);
    }
    let snapshot = find_snapshot(path)?;
    let (config, params) = load_finite_model(&snapshot)?;
    let data = run_data(&snapshot);
    let facts = facts(&config, name_of(&snapshot), "induction", "F32");
    // The model knows no token that is not its text's; of no text, any but the first, which is the
    // start token.
    let (tokenizer, allowed): (Result<Box<dyn Tokenizer>, String>, _) = match &data {
        Some(source) => match source.tokenizer() {
            Some(tokenizer) => (Ok(Box::new(tokenizer.clone())), source.allowed_tokens()?),
            None => (Err("the run's data are synthetic".into()), source.allowed_tokens()?),
        },
        None => (
            Err("no prepared data lie beside the run".into()),
            (1..config.d_vocab as u32).collect(),
        ),
    };
    let how = how(&config, 0, StartFrom::Training, &tokenizer);
    Ok(Opened { facts, config, weights: Arc::new(params), tokenizer, bos: 0, how, allowed })
}

/// The data of the run that a snapshot belongs to, where they are prepared.
fn run_data(snapshot: &Path) -> Option<Source> {
    let run = snapshot.parent()?.parent()?;
    let mut spec = RunSpec::read(&run.join("spec.toml")).ok()?;
    // Nothing is prepared for a look at a model.
    let data = Some(data_of(run)).filter(|data| data.is_dir())?;
    Source::open(&mut spec, &data).ok()
}

fn open_pretrained(path: &Path) -> Result<Opened, Error> {
    let model = pretrained::look(path)?;
    let mut tokenizer = tokenizer_of(path)?;
    let mut notes = model.notes;
    let known = |bos: &u32| (*bos as usize) < model.config.d_vocab;
    let named = model.special.bos.filter(known);
    if let Some(bos) = model.special.bos.filter(|bos| !known(bos)) {
        notes.push(format!(
            "its files call token {bos} the one that a sequence begins with (bos_token_id), and it has no such token: that was left aside"
        ));
    }
    let (bos, allowed) = match &mut tokenizer {
        Ok(tokenizer) => {
            let beyond = tokenizer.fit(model.config.d_vocab)?;
            if beyond > 0 {
                notes.push(format!(
                    "{beyond} added tokens of its tokenizer have no embedding (its vocabulary has {}): texts are read without them",
                    model.config.d_vocab
                ));
            }
            let bos = tokenizer.bos().filter(known).or(named);
            let start = bos.unwrap_or(0);
            (start, words(tokenizer).into_iter().filter(|&id| id != start).collect())
        }
        Err(_) => {
            let d_vocab = model.config.d_vocab as u32;
            let bos = named;
            let text = |id: &u32| !model.special.ids.contains(id) && *id != bos.unwrap_or(0);
            (bos.unwrap_or(0), (0..d_vocab).filter(text).collect())
        }
    };
    let start_from = match &tokenizer {
        Ok(tokenizer) if tokenizer.bos() == Some(bos) => StartFrom::Tokenizer,
        _ if named == Some(bos) => StartFrom::File,
        _ => StartFrom::FirstId,
    };
    let usual = how(&model.config, bos, start_from, &tokenizer);
    let warnings = notes.into_iter().chain(usual.warnings).collect();
    let how = HowRun {
        warnings,
        declared_ctx: Some(model.declared_ctx).filter(|&n| n > model.config.n_ctx),
        ignored: model.ignored,
        tied_embeddings: model.is_tied,
        ..usual
    };
    Ok(Opened {
        how,
        facts: ModelFacts {
            n_params: model.n_params,
            ..facts(
                &model.config,
                name_in_cache(path).unwrap_or(model.name),
                &model.family,
                &model.encoding,
            )
        },
        config: model.config,
        weights: model.weights,
        tokenizer: tokenizer.map(|tokenizer| Box::new(tokenizer) as Box<dyn Tokenizer>),
        bos,
        allowed,
    })
}

/// Tokens that whole texts are made of: those that are text by themselves. Left out are special
/// tokens (no text gives them), parts of characters, and control characters.
fn words(tokenizer: &PretrainedTokenizer) -> Vec<u32> {
    let plain = |&id: &u32| {
        let Ok(bytes) = tokenizer.token_bytes(id) else { return false };
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        !text.is_empty() && !text.chars().any(char::is_control) && tokenizer.reads_back(id)
    };
    (0..tokenizer.d_vocab() as u32).filter(plain).collect()
}

/// A model's tokenizer, or why there is none to use.
fn tokenizer_of(path: &Path) -> Result<Result<PretrainedTokenizer, String>, Error> {
    if path.is_file() {
        return gguf_tokenizer(path);
    }
    let [json, model, vocab, merges] =
        ["tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"]
            .map(|name| path.join(name));
    if json.is_file() {
        return Ok(PretrainedTokenizer::from_json(&json).map_err(|e| e.to_string()));
    }
    if model.is_file() {
        return Ok(PretrainedTokenizer::from_sentencepiece(&model).map_err(|e| e.to_string()));
    }
    if vocab.is_file() && merges.is_file() {
        return Ok(PretrainedTokenizer::from_gpt2_files(&vocab, &merges).map_err(|e| e.to_string()));
    }
    Ok(Err(format!("{} has no tokenizer.json and no tokenizer.model", path.display())))
}

fn gguf_tokenizer(path: &Path) -> Result<Result<PretrainedTokenizer, String>, Error> {
    let file = Gguf::open(path).map_err(induction_model::Error::from)?;
    let parts = || -> Result<Option<TokenizerParts>, induction_gguf::Error> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let model = file.string_opt(&key("model"))?;
        let Some(model) = model.filter(|model| !matches!(*model, "none" | "no_vocab")) else {
            return Ok(None);
        };
        // One that is none, as -1, stands for no such token.
        let id = |name: &str| {
            let id = file.unsigned_opt(&key(name)).ok().flatten();
            id.and_then(|id| u32::try_from(id).ok())
        };
        let types = file.integers_opt(&key("token_type"))?.unwrap_or_default();
        // Bytes, which some writers call signed.
        let charsmap = file.integers_opt(&key("precompiled_charsmap"))?.unwrap_or_default();
        let strings = |name: &str| match file.get(&key(name)) {
            Some(_) => file.strings(&key(name)).map(<[String]>::to_vec),
            None => Ok(Vec::new()),
        };
        Ok(Some(TokenizerParts {
            model: model.to_string(),
            tokens: file.strings(&key("tokens"))?.to_vec(),
            merges: strings("merges")?,
            scores: match file.get(&key("scores")) {
                Some(Value::Array(Array::F32(scores))) => scores.clone(),
                _ => Vec::new(),
            },
            token_types: types.into_iter().map(|kind| i32::try_from(kind).unwrap_or(-1)).collect(),
            pre: file.string_opt(&key("pre"))?.unwrap_or("default").to_string(),
            add_space_prefix: file.bool_opt(&key("add_space_prefix"))?,
            remove_extra_whitespaces: file.bool_opt(&key("remove_extra_whitespaces"))?,
            precompiled_charsmap: charsmap.into_iter().map(|byte| byte as u8).collect(),
            unknown: id("unknown_token_id"),
            bos: id("bos_token_id"),
            add_bos: file.bool_opt(&key("add_bos_token"))?,
        }))
    };
    match parts().map_err(induction_model::Error::from)? {
        Some(parts) => Ok(PretrainedTokenizer::from_parts(parts, path).map_err(|e| e.to_string())),
        None => Ok(Err("the file has no tokenizer (tokenizer.ggml.model)".into())),
    }
}

fn how<T>(
    config: &ModelConfig,
    start: u32,
    start_from: StartFrom,
    tokenizer: &Result<T, String>,
) -> HowRun {
    // A run of ours has no text where its data are synthetic, which its reader knows.
    let unread = tokenizer.as_ref().err().filter(|_| start_from != StartFrom::Training);
    HowRun {
        start,
        start_from,
        declared_ctx: None,
        tied_embeddings: config.architecture.tied_embeddings,
        ignored: Vec::new(),
        prompt_loss: None,
        warnings: unread
            .map(|why| {
                format!(
                    "no text was read, and no prompt, word, task or password asked: {why}; random tokens are drawn from all ids that its files do not call special"
                )
            })
            .into_iter()
            .collect(),
    }
}

fn facts(config: &ModelConfig, name: String, family: &str, encoding: &str) -> ModelFacts {
    ModelFacts {
        name,
        family: family.to_string(),
        encoding: encoding.to_string(),
        n_layers: config.n_layers,
        n_heads: config.n_heads,
        n_key_value_heads: config.n_key_value_heads(),
        d_model: config.d_model,
        d_head: config.d_head,
        d_mlp: config.d_mlp,
        d_vocab: config.d_vocab,
        n_ctx: config.n_ctx,
        n_params: config.n_params() as u64,
    }
}

/// `RUN/snapshots/step-N` is `RUN, step-N`.
fn name_of(snapshot: &Path) -> String {
    let whole: PathBuf = snapshot.canonicalize().unwrap_or_else(|_| snapshot.to_path_buf());
    let part = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
    };
    match (part(whole.parent().and_then(Path::parent)), part(Some(&whole))) {
        (Some(run), Some(step)) if step.starts_with("step-") => format!("{run}, {step}"),
        (_, Some(name)) => name,
        _ => snapshot.display().to_string(),
    }
}

/// What a model in the hub's cache (`models--OWNER--NAME/snapshots/COMMIT`) is called there; files
/// in it have their names.
pub(super) fn name_in_cache(path: &Path) -> Option<String> {
    let whole = std::path::absolute(path).ok()?;
    let snapshots = whole
        .ancestors()
        .find(|ancestor| ancestor.file_name().is_some_and(|name| name == "snapshots"))?;
    let repository = snapshots.parent()?;
    let name = repository.file_name()?.to_str()?.strip_prefix("models--")?.replace("--", "/");
    let mut below = whole.strip_prefix(snapshots).ok()?.components();
    let commit = below.next()?.as_os_str().to_str()?.to_string();
    // The branch or tag that it was asked for by; `main` goes without saying. (hf-hub has a
    // reference for a commit's own name, too.)
    let named = |entry: std::fs::DirEntry| {
        let of = std::fs::read_to_string(entry.path()).ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        (of.trim() == commit && name != commit).then_some(name)
    };
    let refs = std::fs::read_dir(repository.join("refs"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(named);
    let revision = match refs.min() {
        Some(name) if name == "main" => String::new(),
        Some(name) => format!("@{name}"),
        None => format!("@{}", commit.get(..8).unwrap_or(&commit)),
    };
    let file = below.as_path();
    let file =
        if file.as_os_str().is_empty() { String::new() } else { format!("/{}", file.display()) };
    Some(format!("{name}{file}{revision}"))
}
