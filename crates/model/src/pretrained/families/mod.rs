//! What is known of each family of models, a file a family: how its configuration is read, and
//! which tensor holds which parameter, in HuggingFace's files and in GGUF's.

mod gemma;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod llama;
mod mistral;
mod olmo;
mod opt;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod stablelm;
mod starcoder2;

use super::{fields::Fields, gguf::Header, recipe::Recipe};
use crate::{Error, ModelConfig};

/// A family.
pub(super) struct Family {
    /// What people call it, and the best-known models of other names.
    pub(super) title: &'static str,
    pub(super) huggingface: HuggingFace,
    /// Nothing if llama.cpp has no such architecture, or another's.
    pub(super) gguf: Option<GgufFamily>,
}

/// A family in HuggingFace's folders.
pub(super) struct HuggingFace {
    /// `model_type` in its `config.json`.
    pub(super) model_type: &'static str,
    /// What stands before the names of its tensors: the first with which the embedding is found.
    pub(super) prefixes: &'static [&'static str],
    /// The configuration. Defaults are those of `transformers`' classes, as files leave out what
    /// equals them.
    pub(super) config: fn(&Fields) -> Result<ModelConfig, Error>,
    /// Where a parameter is, by prefix, layer and name.
    pub(super) recipe: fn(&ModelConfig, &str, usize, &str) -> Option<Recipe>,
}

/// A family in GGUF files, whose tensors have the same names in all families.
pub(super) struct GgufFamily {
    /// `general.architecture`.
    pub(super) architecture: &'static str,
    /// The configuration, from what all families say alike.
    pub(super) config: fn(&Header<'_>, ModelConfig) -> Result<ModelConfig, Error>,
    /// Whether queries, keys and values are one tensor, one after the other.
    pub(super) one_qkv: bool,
}

/// Every family.
pub(super) const FAMILIES: &[Family] = &[
    gemma::FAMILY,
    gpt2::FAMILY,
    gpt_neo::FAMILY,
    gpt_neox::FAMILY,
    gptj::FAMILY,
    llama::FAMILY,
    mistral::FAMILY,
    olmo::FAMILY,
    opt::FAMILY,
    phi::FAMILY,
    phi3::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    stablelm::FAMILY,
    starcoder2::FAMILY,
];
