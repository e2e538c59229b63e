//! OLMoE: Llama with a mixture of experts, and queries and keys normed as wholes.

use super::{
    Family, HuggingFace, InFolder,
    llama::{self, DEFAULTS, Defaults, PREFIXES},
    mixtral::{expert, experts},
    olmo2::whole,
};
use crate::{
    Architecture, Experts, ModelConfig, QkNorm,
    pretrained::recipe::{Layout, Recipe},
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
            let experts = experts(fields, ("num_experts", 64), 8, normalized)?;
            Ok(ModelConfig {
                layer_norm_eps: fields.number("rms_norm_eps", 1e-5)?,
                ..mixed(llama, experts)
            })
        },
        recipe: |source, name| match name {
            "attn.q_norm.w" => {
                Some(source.in_layer("self_attn.q_norm.weight", whole(source.config, name)))
            }
            "attn.k_norm.w" => {
                Some(source.in_layer("self_attn.k_norm.weight", whole(source.config, name)))
            }
            _ => mixture(source, name).or_else(|| llama::recipe(source, name)),
        },
    },
    gguf: None,
};

fn mixed(llama: ModelConfig, experts: Experts) -> ModelConfig {
    let (experts, qk_norm) = (Some(experts), QkNorm::Whole);
    ModelConfig { architecture: Architecture { experts, qk_norm, ..llama.architecture }, ..llama }
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
