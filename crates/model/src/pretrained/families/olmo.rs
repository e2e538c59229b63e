//! OLMo: Llama with layer norms that have neither gain nor bias.

use super::{
    Family, HuggingFace,
    llama::{self, Defaults, PREFIXES},
};
use crate::{ModelConfig, Normalization, pretrained::recipe::Recipe};

pub(super) const FAMILY: Family = Family {
    title: "OLMo",
    huggingface: HuggingFace {
        model_type: "olmo",
        prefixes: PREFIXES,
        config: |fields| {
            if fields.has("clip_qkv") {
                return Err(fields.refuse("clip_qkv", "not supported here, expected null"));
            }
            let llama = llama::config(fields, Defaults { n_ctx: 2048, d_head: None })?;
            Ok(ModelConfig { normalization: Normalization::LN, layer_norm_eps: 1e-5, ..llama })
        },
        recipe: |config, prefix, l, name| match name {
            "ln1.w" | "ln2.w" | "ln_final.w" => Some(Recipe::constant(1)),
            "ln1.b" | "ln2.b" | "ln_final.b" => Some(Recipe::constant(0)),
            _ => llama::recipe(config, prefix, l, name),
        },
    },
    gguf: None,
};
