//! Qwen3: Llama with normed queries and keys.

use super::{
    Family, GgufFamily, HuggingFace, InFolder,
    llama::{self, DEFAULTS, Defaults, PREFIXES, config, from_gguf},
};
use crate::{
    Architecture, ModelConfig, Pairs, QkNorm,
    pretrained::{
        gguf,
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Qwen3",
    huggingface: HuggingFace {
        model_type: "qwen3",
        prefixes: PREFIXES,
        config: |fields| {
            Ok(normed(config(fields, Defaults { n_ctx: 32_768, d_head: Some(128), ..DEFAULTS })?))
        },
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "qwen3",
        config: |header, common| Ok(normed(from_gguf(header, common, Pairs::Half)?)),
        recipe: gguf::recipe,
    }),
};

pub(super) fn normed(llama: ModelConfig) -> ModelConfig {
    ModelConfig {
        architecture: Architecture { qk_norm: QkNorm::Head, ..llama.architecture },
        ..llama
    }
}

pub(super) fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let tensor = match name {
        "attn.q_norm.w" => "q_norm",
        "attn.k_norm.w" => "k_norm",
        _ => return llama::recipe(source, name),
    };
    Some(source.in_layer(&format!("self_attn.{tensor}.weight"), Layout::AsIs))
}
