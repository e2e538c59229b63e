//! OLMo 2: Llama with its norms after the sublayers, and queries and keys normed as wholes.

use super::{
    Family, GgufFamily, HuggingFace, InFolder,
    llama::{self, DEFAULTS, PREFIXES, from_gguf},
};
use crate::{
    Architecture, ModelConfig, Norms, Pairs, QkNorm,
    pretrained::{
        gguf,
        recipe::{Layout, Recipe, norm_of_heads},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "OLMo 2",
    huggingface: HuggingFace {
        model_type: "olmo2",
        prefixes: PREFIXES,
        config: |fields| {
            let llama = placed(llama::config(fields, DEFAULTS)?);
            Ok(ModelConfig { layer_norm_eps: fields.number("rms_norm_eps", 1e-5)?, ..llama })
        },
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "olmo2",
        config: |header, common| {
            // OLMo 3 goes by this name, and its layers with windows have wavelengths of their own.
            if let Some(n) = header.size_opt("attention.sliding_window")?.filter(|&n| n > 0) {
                let reason = format!("{n} is not supported here (OLMo 3), expected nothing");
                return Err(header.refuse("attention.sliding_window", reason));
            }
            Ok(placed(from_gguf(header, common, Pairs::Half)?))
        },
        recipe: gguf::recipe,
    }),
};

fn placed(llama: ModelConfig) -> ModelConfig {
    let (norms, qk_norm) = (Norms::After, QkNorm::Whole);
    ModelConfig { architecture: Architecture { norms, qk_norm, ..llama.architecture }, ..llama }
}

pub(super) fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let layout = || norm_of_heads(source.config, name);
    Some(match name {
        "ln1_post.w" => source.in_layer("post_attention_layernorm.weight", Layout::AsIs),
        "ln2_post.w" => source.in_layer("post_feedforward_layernorm.weight", Layout::AsIs),
        "attn.q_norm.w" => source.in_layer("self_attn.q_norm.weight", layout()),
        "attn.k_norm.w" => source.in_layer("self_attn.k_norm.weight", layout()),
        _ => return llama::recipe(source, name),
    })
}
