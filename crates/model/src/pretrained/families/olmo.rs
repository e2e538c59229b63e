//! OLMo: Llama with layer norms that have neither gain nor bias.

use super::{
    Family, HuggingFace,
    llama::{self, DEFAULTS, PREFIXES},
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
            let llama = llama::config(fields, DEFAULTS)?;
            Ok(ModelConfig { normalization: Normalization::LN, layer_norm_eps: 1e-5, ..llama })
        },
        recipe: |source, name| match name {
            "ln1.w" | "ln2.w" | "ln_final.w" => Some(Recipe::constant(1)),
            "ln1.b" | "ln2.b" | "ln_final.b" => Some(Recipe::constant(0)),
            _ => llama::recipe(source, name),
        },
    },
    gguf: None,
};
