//! Models that were trained elsewhere: HuggingFace folders, GGUF files, TransformerLens exports.
//!
//! Each family (`families`) is two things: how its configuration is read, and a table that says in
//! which tensor, and how laid out, each of our parameters stands (`recipe`). Everything is checked
//! before a tensor's values are read: shapes against the configuration, tensors that nothing uses.
//! A model is run as its files say, or refused.
//!
//! [`open`] reads all weights, [`look`] none: [`Unread::weights`] gives them as they are asked for,
//! so that a model may be larger than the memory.

mod families;
mod fields;
mod gguf;
mod huggingface;
mod induction;
mod recipe;
mod stored;
mod tensors;
mod transformer_lens;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use stored::Stored;

use crate::{Error, ModelConfig, Params, ReadParams};

/// A model that was trained elsewhere, without its weights in memory.
pub struct Unread {
    /// The file's or folder's own name.
    pub name: String,
    /// Its kind, in its files' words: `llama`, `gpt2`, ...
    pub family: String,
    /// The encodings of its weights, e.g. `BF16` or `Q4_1, F32`.
    pub encoding: String,
    /// What the model is.
    pub config: ModelConfig,
    /// Its weights.
    pub weights: Arc<dyn ReadParams>,
    /// The context that its files give, in tokens: more than `config`'s where a window, or the
    /// context that one set of wavelengths is for, is shorter.
    pub declared_ctx: usize,
    /// Tensors of its files that are not needed, with `*` for numbers.
    pub ignored: Vec<String>,
    /// Learned scalars of its files.
    pub n_params: u64,
    /// Whether embedding and unembedding are one matrix in its files.
    pub is_tied: bool,
    /// Tokens that are no text, as far as its files say so beside the tokenizer.
    pub special: SpecialTokens,
    /// What a reader should know of how it is read, a sentence each.
    pub notes: Vec<String>,
}

/// Tokens that are no text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// What begins a sequence.
    pub bos: Option<u32>,
    /// All of them.
    pub ids: BTreeSet<u32>,
}

impl Unread {
    fn of(name: String, family: String, config: ModelConfig, stored: Stored) -> Self {
        let (encoding, ignored) = (stored.encoding(), stored.ignored());
        let declared_ctx = config.n_ctx;
        let (n_params, is_tied) = (stored.n_params(), stored.is_tied());
        let weights = Arc::new(stored);
        let special = SpecialTokens::default();
        Self {
            name,
            family,
            encoding,
            config,
            weights,
            declared_ctx,
            ignored,
            n_params,
            is_tied,
            special,
            notes: Vec::new(),
        }
    }
}

/// A model that was trained elsewhere.
#[derive(Debug)]
pub struct Pretrained {
    /// The file's or folder's own name.
    pub name: String,
    /// Its kind, in its files' words: `llama`, `gpt2`, ...
    pub family: String,
    /// The encodings of its weights, e.g. `BF16` or `Q4_1, F32`.
    pub encoding: String,
    /// What the model is.
    pub config: ModelConfig,
    /// Its weights, in float32.
    pub params: Params,
}

/// A family of models that [`look`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyNames {
    /// What people call it, and the best-known models of other names.
    pub title: &'static str,
    /// `model_type` in HuggingFace's `config.json`.
    pub huggingface: &'static str,
    /// `general.architecture` in GGUF files, where they are read.
    pub gguf: Option<&'static str>,
}

/// The families that [`look`] reads, in the order of their names.
pub fn families() -> impl Iterator<Item = FamilyNames> {
    families::FAMILIES.iter().map(|family| FamilyNames {
        title: family.title,
        huggingface: family.huggingface.model_type,
        gguf: family.gguf.as_ref().map(|gguf| gguf.architecture),
    })
}

/// Whether `path` looks like something that [`open`] reads: any file (taken for GGUF), or a folder
/// with a `config.json`, if only an adapter's, which is refused by name.
pub fn is_pretrained(path: &Path) -> bool {
    let has = |name: &str| path.join(name).is_file();
    path.is_file() || has("config.json") || has("adapter_config.json")
}

/// Reads a pretrained model whole; what it may be is what [`look`] reads.
///
/// # Errors
/// As [`look`].
pub fn open(path: &Path) -> Result<Pretrained, Error> {
    let Unread { name, family, encoding, config, weights, .. } = look(path)?;
    let params = weights.load(&config)?;
    Ok(Pretrained { name, family, encoding, config, params })
}

/// Reads what a pretrained model is, and none of its weights: a GGUF file; a HuggingFace folder (`config.json`, `model.safetensors`
/// or its shards) of one of the [`families`]; a folder as `induction export` makes it, in either
/// format.
///
/// # Errors
/// A file that is missing, damaged or of another kind (pickles are never loaded), an architecture
/// or an option of one that is not known, a configuration that contradicts the tensors.
pub fn look(path: &Path) -> Result<Unread, Error> {
    let config = if path.is_file() { path.to_path_buf() } else { path.join("config.json") };
    look_as(path, &config).map_err(|error| match error {
        // A configuration does not know the file that it is from.
        Error::Config { .. } => Error::Format { path: config, reason: error.to_string() },
        error => error,
    })
}

fn look_as(path: &Path, config: &Path) -> Result<Unread, Error> {
    if path.is_file() {
        return gguf::open(path);
    }
    if !config.is_file() && path.join("adapter_config.json").is_file() {
        let reason = "no such file, but adapter_config.json: a model's changes and not a model; merge them into it (`PeftModel.merge_and_unload()`), and save that".to_string();
        return Err(Error::Format { path: config.to_path_buf(), reason });
    }
    if !config.is_file() {
        let reason =
            "no such file; expected a .gguf file, or a folder with config.json and model.safetensors".to_string();
        return Err(Error::Format { path: config.to_path_buf(), reason });
    }
    let fields = fields::Fields::read(config)?;
    if fields.has("positional_embedding_type") {
        transformer_lens::open(path, &fields)
    } else if fields.is("model_type", "induction") {
        induction::open(path, &fields)
    } else {
        huggingface::open(path, &fields)
    }
}

/// A path's last part.
fn name_of(path: &Path) -> String {
    let whole: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole
        .file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
