//! Mixtral: Mistral with a mixture of experts.

use super::{
    Family, HuggingFace, InFolder,
    llama::{self, DEFAULTS, Defaults, PREFIXES, within_window},
};
use crate::{
    Architecture, Error, Experts, ModelConfig,
    pretrained::{
        fields::Fields,
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Mixtral",
    huggingface: HuggingFace {
        model_type: "mixtral",
        prefixes: PREFIXES,
        config: |fields| {
            let llama = llama::config(fields, Defaults { n_ctx: 131_072, base: 1e6, ..DEFAULTS })?;
            let n_key_value_heads = match fields.says("num_key_value_heads") {
                true => llama.architecture.n_key_value_heads,
                false => 8,
            };
            let experts = experts(fields, ("num_local_experts", 8), 2, true)?;
            Ok(ModelConfig {
                n_ctx: within_window(fields, llama.n_ctx, None)?,
                layer_norm_eps: fields.number("rms_norm_eps", 1e-5)?,
                architecture: Architecture {
                    n_key_value_heads,
                    experts: Some(experts),
                    ..llama.architecture
                },
                ..llama
            })
        },
        recipe: |source, name| match name {
            "mlp.W_router" => {
                Some(source.in_layer("block_sparse_moe.gate.weight", Layout::Transposed))
            }
            "mlp.W_gate" => Some(expert(source, "block_sparse_moe", "w1")),
            "mlp.W_in" => Some(expert(source, "block_sparse_moe", "w3")),
            "mlp.W_out" => Some(expert(source, "block_sparse_moe", "w2")),
            _ => llama::recipe(source, name),
        },
    },
    gguf: None,
};

/// What a configuration says of experts; `count` is the field of their number and its default.
pub(super) fn experts(
    fields: &Fields,
    (count, default): (&str, usize),
    chosen: usize,
    normalized: bool,
) -> Result<Experts, Error> {
    let found = Experts {
        // `transformers` reads either name.
        count: fields.size_opt(fields.either(&[count, "num_local_experts"])?)?.unwrap_or(default),
        chosen: fields.size_opt("num_experts_per_tok")?.unwrap_or(chosen),
        normalized,
    };
    if found.chosen == 0 || found.chosen > found.count {
        let reason = format!("{}, expected 1 to {}, their number", found.chosen, found.count);
        return Err(fields.refuse("num_experts_per_tok", reason));
    }
    Ok(found)
}

/// A matrix of each expert.
pub(super) fn expert(source: &InFolder<'_>, within: &str, matrix: &str) -> Recipe {
    source.in_layer(&format!("{within}.experts.{{e}}.{matrix}.weight"), Layout::Experts)
}
