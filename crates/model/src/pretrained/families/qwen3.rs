//! Qwen3: Llama with normed queries and keys.

use super::{
    Family, GgufFamily, HuggingFace,
    llama::{Defaults, PREFIXES, config, gguf, recipe},
};
use crate::{Architecture, ModelConfig, Pairs};

pub(super) const FAMILY: Family = Family {
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
