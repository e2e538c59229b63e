//! Qwen3: Llama with normed queries and keys.

use super::{
    Family, GgufFamily, HuggingFace,
    llama::{self, Defaults, PREFIXES, config, gguf},
};
use crate::{
    Architecture, ModelConfig, Pairs,
    pretrained::recipe::{Layout, Recipe},
};

pub(super) const FAMILY: Family = Family {
    title: "Qwen3",
    huggingface: HuggingFace {
        model_type: "qwen3",
        prefixes: PREFIXES,
        config: |fields| Ok(normed(config(fields, Defaults { n_ctx: 32_768, d_head: Some(128) })?)),
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "qwen3",
        config: |header, common| Ok(normed(gguf(header, common, Pairs::Half)?)),
        one_qkv: false,
    }),
};

fn normed(llama: ModelConfig) -> ModelConfig {
    ModelConfig { architecture: Architecture { qk_norm: true, ..llama.architecture }, ..llama }
}

fn recipe(config: &ModelConfig, prefix: &str, l: usize, name: &str) -> Option<Recipe> {
    let tensor = match name {
        "attn.q_norm.w" => "q_norm",
        "attn.k_norm.w" => "k_norm",
        _ => return llama::recipe(config, prefix, l, name),
    };
    Some(Recipe::new(format!("{prefix}layers.{l}.self_attn.{tensor}.weight"), Layout::AsIs))
}
