//! Granite: Llama with four multipliers, which go into the weights here.

use super::{
    Family, GgufFamily, HuggingFace,
    llama::{self, DEFAULTS, PREFIXES, from_gguf},
};
use crate::{
    Architecture, ModelConfig, OtherPositions, Pairs,
    pretrained::{gguf, recipe::Recipe},
};

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
        recipe: |source, name| {
            let number = |field| source.number(field, 1.0);
            let multipliers = Multipliers {
                embedding: number(EMBEDDING),
                attention: number(ATTENTION),
                residual: number(RESIDUAL),
                logits: number(LOGITS),
            };
            Some(multipliers.put(source.config, name, llama::recipe(source, name)?))
        },
    },
    gguf: Some(GgufFamily {
        architecture: "granite",
        config: |header, common| {
            for field in ["embedding_scale", "attention.scale", "residual_scale", "logit_scale"] {
                header.multiplier(field)?;
            }
            let llama = from_gguf(header, common, Pairs::Adjacent)?;
            // So Granite 4 says that it has no positions.
            let other_positions = match header.flag("rope.scaling.finetuned", true)? {
                true => None,
                false => {
                    let layers = (0..llama.n_layers).collect();
                    Some(OtherPositions { layers, rotary: None })
                }
            };
            let architecture = Architecture { other_positions, ..llama.architecture };
            Ok(ModelConfig { architecture, ..llama })
        },
        recipe: |source, name| {
            let number = |field| source.header.multiplier(field).ok().flatten();
            let multipliers = Multipliers {
                embedding: number("embedding_scale").unwrap_or(1.0),
                attention: number("attention.scale")
                    .unwrap_or_else(|| (source.config.d_head as f64).powf(-0.5)),
                residual: number("residual_scale").unwrap_or(1.0),
                logits: number("logit_scale").unwrap_or(1.0),
            };
            Some(multipliers.put(source.config, name, gguf::recipe(source, name)?))
        },
    }),
};

/// What the model multiplies with.
struct Multipliers {
    embedding: f64,
    attention: f64,
    residual: f64,
    /// What logits are divided by.
    logits: f64,
}

impl Multipliers {
    /// In the weights.
    fn put(&self, config: &ModelConfig, name: &str, recipe: Recipe) -> Recipe {
        // A tied unembedding is multiplied with the embedding, and the last norm takes it back.
        let tied = if config.architecture.tied_embeddings { self.embedding } else { 1.0 };
        match name {
            "embed.W_E" => recipe.times(self.embedding),
            // In place of one over the root of the head's width, which the engine multiplies by.
            "attn.W_Q" | "attn.b_Q" => recipe.times(self.attention * (config.d_head as f64).sqrt()),
            "attn.W_O" | "attn.b_O" | "mlp.W_out" | "mlp.b_out" => recipe.times(self.residual),
            "ln_final.w" => recipe.times(1.0 / (self.logits * tied)),
            _ => recipe,
        }
    }
}
