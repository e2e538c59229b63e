//! OLMoE: Llama with a mixture of experts, and queries and keys normed as wholes.

use super::{
    Family, GgufFamily, HuggingFace, InFolder,
    llama::{self, DEFAULTS, Defaults, PREFIXES, from_gguf},
    mixtral::{expert, experts},
    olmo2,
};
use crate::{
    Architecture, ModelConfig, Pairs, QkNorm,
    pretrained::{
        gguf,
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "OLMoE",
    huggingface: HuggingFace {
        model_type: "olmoe",
        prefixes: PREFIXES,
        config: |fields| {
            if fields.has("clip_qkv") {
                return Err(fields.refuse("clip_qkv", "not supported here, expected null"));
            }
            let llama = llama::config(fields, Defaults { n_ctx: 4096, ..DEFAULTS })?;
            let normalized = fields.flag("norm_topk_prob", false)?;
            let experts = Some(experts(fields, ("num_experts", 64), 8, normalized)?);
            let llama = wholly_normed(llama);
            Ok(ModelConfig {
                layer_norm_eps: fields.number("rms_norm_eps", 1e-5)?,
                architecture: Architecture { experts, ..llama.architecture },
                ..llama
            })
        },
        recipe: |source, name| mixture(source, name).or_else(|| olmo2::recipe(source, name)),
    },
    gguf: Some(GgufFamily {
        architecture: "olmoe",
        config: |header, common| {
            header.refuse_clamp()?;
            header.with_experts(wholly_normed(from_gguf(header, common, Pairs::Half)?), false)
        },
        recipe: gguf::recipe,
    }),
};

fn wholly_normed(llama: ModelConfig) -> ModelConfig {
    let architecture = Architecture { qk_norm: QkNorm::Whole, ..llama.architecture };
    ModelConfig { architecture, ..llama }
}

/// Experts as OLMoE and Qwen3's mixtures name them.
pub(super) fn mixture(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    Some(match name {
        "mlp.W_router" => source.in_layer("mlp.gate.weight", Layout::Transposed),
        "mlp.W_gate" => expert(source, "mlp", "gate_proj"),
        "mlp.W_in" => expert(source, "mlp", "up_proj"),
        "mlp.W_out" => expert(source, "mlp", "down_proj"),
        _ => return None,
    })
}
