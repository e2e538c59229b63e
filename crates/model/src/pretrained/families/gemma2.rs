//! Gemma 2: Gemma with norms around the sublayers, soft caps of scores and logits, and windows in
//! every other layer, which are the context here where they are shorter.

use super::{
    Family, GgufFamily, HuggingFace, InFolder, gemma,
    llama::{PREFIXES, within_window},
};
use crate::{
    Architecture, Error, ModelConfig, Norms,
    pretrained::{
        fields::Fields,
        gguf,
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Gemma 2",
    huggingface: HuggingFace {
        model_type: "gemma2",
        prefixes: PREFIXES,
        config: |fields| {
            let [attention, logits] = [("attn", 50.0), ("final", 30.0)].map(|(which, default)| {
                let field = format!("{which}_logit_softcapping");
                match fields.says(&field) {
                    true if !fields.has(&field) => Ok(None),
                    _ => fields.number(&field, default).map(Some),
                }
            });
            let gemma = config(fields, 8192)?;
            Ok(ModelConfig {
                architecture: Architecture {
                    attn_scores_soft_cap: attention?,
                    output_logits_soft_cap: logits?,
                    ..gemma.architecture
                },
                ..gemma
            })
        },
        recipe: |source, name| {
            let recipe = recipe(source, name)?;
            match name {
                "attn.W_Q" | "attn.b_Q" => Some(recipe.times(scale(source))),
                _ => Some(recipe),
            }
        },
    },
    gguf: Some(GgufFamily {
        architecture: "gemma2",
        config: |header, common| {
            let gemma = gemma::from_gguf(header, common)?;
            let cap = |which: &str, default| {
                let found = header.multiplier(&format!("{which}_logit_softcapping"))?;
                Ok::<_, Error>(Some(found.unwrap_or(default)))
            };
            Ok(ModelConfig {
                architecture: Architecture {
                    norms: Norms::Around,
                    attn_scores_soft_cap: cap("attn", 50.0)?,
                    output_logits_soft_cap: cap("final", 30.0)?,
                    ..gemma.architecture
                },
                ..gemma
            })
        },
        recipe: |source, name| {
            let recipe = gemma::scaled(source.config, name, gguf::recipe(source, name)?);
            match name {
                "attn.W_Q" | "attn.b_Q" => Some(recipe.times(gguf_scale(source.config, 46))),
                _ => Some(recipe),
            }
        },
    }),
};

/// What Gemma 2 and 3 share.
pub(super) fn config(fields: &Fields, n_ctx: usize) -> Result<ModelConfig, Error> {
    let gemma = gemma::config(fields, n_ctx, "hidden_activation")?;
    let scalar = fields.number(SCALAR, 256.0)?;
    if !(scalar > 0.0 && scalar.is_finite()) {
        return Err(fields.refuse(SCALAR, format!("{scalar}, expected more than 0")));
    }
    Ok(ModelConfig {
        n_ctx: within_window(fields, gemma.n_ctx, Some(4096))?,
        architecture: Architecture { norms: Norms::Around, ..gemma.architecture },
        ..gemma
    })
}

/// Scores are divided by its root.
const SCALAR: &str = "query_pre_attn_scalar";

/// What queries are multiplied by, in place of what the engine divides scores by.
pub(super) fn scale(source: &InFolder<'_>) -> f64 {
    (source.config.d_head as f64 / source.number(SCALAR, 256.0)).sqrt()
}

/// The same of a GGUF file, which does not say the scalar: it is the head's width, but in the model
/// of 27B parameters, of so many layers, where it is the residual stream's width by the number of
/// heads.
pub(super) fn gguf_scale(config: &ModelConfig, layers_of_27b: usize) -> f64 {
    let scalar = match config.n_layers == layers_of_27b {
        true => config.d_model as f64 / config.n_heads as f64,
        false => config.d_head as f64,
    };
    (config.d_head as f64 / scalar).sqrt()
}

pub(super) fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let tensor = match name {
        "ln1_post.w" => "post_attention_layernorm.weight",
        "ln2.w" => "pre_feedforward_layernorm.weight",
        "ln2_post.w" => "post_feedforward_layernorm.weight",
        _ => return gemma::recipe(source, name),
    };
    Some(source.in_layer(tensor, Layout::AsIs).plus(1.0))
}
