//! OLMo: Llama with layer norms that have neither gain nor bias.

use super::{
    Family, GgufFamily, HuggingFace,
    llama::{self, DEFAULTS, PREFIXES},
};
use crate::{
    Activation, Architecture, ModelConfig, Normalization, Pairs,
    pretrained::{gguf, recipe::Recipe},
};

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
        recipe: |source, name| norm(name).or_else(|| llama::recipe(source, name)),
    },
    gguf: Some(GgufFamily {
        architecture: "olmo",
        config: |header, common| {
            header.refuse_clamp()?;
            let plain = header.layer_normed(common, Pairs::Adjacent)?;
            let (act_fn, gated_mlp) = (Activation::Silu, true);
            let architecture = Architecture { act_fn, gated_mlp, ..plain.architecture };
            Ok(ModelConfig { architecture, ..plain })
        },
        recipe: |source, name| norm(name).or_else(|| gguf::recipe(source, name)),
    }),
};

fn norm(name: &str) -> Option<Recipe> {
    match name {
        "ln1.w" | "ln2.w" | "ln_final.w" => Some(Recipe::constant(1)),
        "ln1.b" | "ln2.b" | "ln_final.b" => Some(Recipe::constant(0)),
        _ => None,
    }
}
