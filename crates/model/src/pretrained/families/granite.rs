//! Granite: Llama with four multipliers, which go into the weights here.

use super::{
    Family, HuggingFace, Source,
    llama::{self, DEFAULTS, PREFIXES},
};
use crate::pretrained::recipe::Recipe;

const EMBEDDING: &str = "embedding_multiplier";
const ATTENTION: &str = "attention_multiplier";
const RESIDUAL: &str = "residual_multiplier";
/// What logits are divided by.
const LOGITS: &str = "logits_scaling";

pub(super) const FAMILY: Family = Family {
    title: "Granite",
    huggingface: HuggingFace {
        model_type: "granite",
        prefixes: PREFIXES,
        config: |fields| {
            for field in [EMBEDDING, ATTENTION, RESIDUAL, LOGITS] {
                let found = fields.number(field, 1.0)?;
                if !(found > 0.0 && found.is_finite()) {
                    return Err(fields.refuse(field, format!("{found}, expected more than 0")));
                }
            }
            llama::config(fields, DEFAULTS)
        },
        recipe,
    },
    gguf: None,
};

fn recipe(source: &Source<'_>, name: &str) -> Option<Recipe> {
    let recipe = llama::recipe(source, name)?;
    let number = |field| source.number(field, 1.0);
    let embedding = number(EMBEDDING);
    // A tied unembedding is multiplied with the embedding, and the last norm takes it back.
    let tied = if source.config.architecture.tied_embeddings { embedding } else { 1.0 };
    Some(match name {
        "embed.W_E" => recipe.times(embedding),
        // In place of one over the root of the head's width, which the engine divides by.
        "attn.W_Q" | "attn.b_Q" => {
            recipe.times(number(ATTENTION) * (source.config.d_head as f64).sqrt())
        }
        "attn.W_O" | "attn.b_O" | "mlp.W_out" | "mlp.b_out" => recipe.times(number(RESIDUAL)),
        "ln_final.w" => recipe.times(1.0 / (number(LOGITS) * tied)),
        _ => recipe,
    })
}
