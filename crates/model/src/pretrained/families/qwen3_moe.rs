//! Qwen3's mixtures of experts.

use serde_json::json;

use super::{
    Family, GgufFamily, HuggingFace,
    llama::{DEFAULTS, Defaults, PREFIXES, config, from_gguf},
    mixtral::experts,
    olmoe::mixture,
    qwen3::{self, normed},
};
use crate::{Architecture, ModelConfig, Pairs, pretrained::gguf};

pub(super) const FAMILY: Family = Family {
    title: "Qwen3 mixtures (30B-A3B)",
    huggingface: HuggingFace {
        model_type: "qwen3_moe",
        prefixes: PREFIXES,
        config: |fields| {
            fields.only("decoder_sparse_step", &json!(1))?;
            fields.only("mlp_only_layers", &json!([]))?;
            let llama = normed(config(fields, Defaults { n_ctx: 32_768, ..DEFAULTS })?);
            let n_key_value_heads = match fields.says("num_key_value_heads") {
                true => llama.architecture.n_key_value_heads,
                false => 4,
            };
            let normalized = fields.flag("norm_topk_prob", false)?;
            let experts = Some(experts(fields, ("num_experts", 128), 8, normalized)?);
            Ok(ModelConfig {
                d_mlp: fields.size_opt("moe_intermediate_size")?.unwrap_or(768),
                architecture: Architecture { experts, n_key_value_heads, ..llama.architecture },
                ..llama
            })
        },
        recipe: |source, name| mixture(source, name).or_else(|| qwen3::recipe(source, name)),
    },
    gguf: Some(GgufFamily {
        architecture: "qwen3moe",
        config: |header, common| {
            header.with_experts(normed(from_gguf(header, common, Pairs::Half)?), true)
        },
        recipe: gguf::recipe,
    }),
};
