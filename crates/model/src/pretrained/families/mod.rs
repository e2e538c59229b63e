//! What is known of each family of models, a file a family: how its configuration is read, and
//! which tensor holds which parameter, in HuggingFace's files and in GGUF's.

mod bloom;
mod cohere;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod granite;
mod llama;
mod mistral;
mod mixtral;
mod olmo;
mod olmo2;
mod olmoe;
mod opt;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod smollm3;
mod stablelm;
mod starcoder2;

use super::{
    fields::Fields,
    gguf::{self, Header},
    recipe::{Layout, Recipe},
};
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
    /// Where the parameter of that name is.
    pub(super) recipe: fn(&InFolder<'_>, &str) -> Option<Recipe>,
}

/// A place in a HuggingFace folder, where a parameter is asked for.
#[derive(Clone, Copy)]
pub(super) struct InFolder<'a> {
    pub(super) config: &'a ModelConfig,
    /// What the configuration was made from, and has been checked: multipliers are in there.
    pub(super) fields: &'a Fields,
    /// What stands before all names.
    pub(super) prefix: &'a str,
    /// The parameter's layer; 0 of what is in none.
    pub(super) layer: usize,
}

impl InFolder<'_> {
    /// A tensor of the layer, where layers are called so.
    fn in_layer(&self, tensor: &str, layout: Layout) -> Recipe {
        Recipe::new(format!("{}layers.{}.{tensor}", self.prefix, self.layer), layout)
    }

    /// A number of the configuration file.
    fn number(&self, field: &str, default: f64) -> f64 {
        self.fields.number(field, default).unwrap_or(default)
    }
}

/// A family in GGUF files, whose tensors have the same names in all families.
pub(super) struct GgufFamily {
    /// `general.architecture`.
    pub(super) architecture: &'static str,
    /// The configuration, from what all families say alike.
    pub(super) config: fn(&Header<'_>, ModelConfig) -> Result<ModelConfig, Error>,
    /// Where the parameter of that name is.
    pub(super) recipe: fn(&gguf::InFile<'_>, &str) -> Option<Recipe>,
}

/// Every family.
pub(super) const FAMILIES: &[Family] = &[
    bloom::FAMILY,
    cohere::FAMILY,
    cohere::SECOND,
    falcon::FAMILY,
    gemma::FAMILY,
    gemma2::FAMILY,
    gemma3::FAMILY,
    gpt2::FAMILY,
    gpt_neo::FAMILY,
    gpt_neox::FAMILY,
    gptj::FAMILY,
    granite::FAMILY,
    llama::FAMILY,
    mistral::FAMILY,
    mixtral::FAMILY,
    olmo::FAMILY,
    olmo2::FAMILY,
    olmoe::FAMILY,
    opt::FAMILY,
    phi::FAMILY,
    phi3::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    qwen3_moe::FAMILY,
    smollm3::FAMILY,
    stablelm::FAMILY,
    starcoder2::FAMILY,
];
