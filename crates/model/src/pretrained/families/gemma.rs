//! Gemma: Llama with a GELU, gains that are stored less one, and an embedding that is scaled by the
//! root of its width.

use serde_json::json;

use super::{
    Family, HuggingFace, Source,
    llama::{self, DEFAULTS, Defaults, PREFIXES},
};
use crate::{
    Activation, Architecture, Error, ModelConfig,
    pretrained::{fields::Fields, huggingface::activation, recipe::Recipe},
};

pub(super) const FAMILY: Family = Family {
    title: "Gemma",
    huggingface: HuggingFace {
        model_type: "gemma",
        prefixes: PREFIXES,
        config: |fields| config(fields, 8192, "hidden_act"),
        recipe,
    },
    gguf: None,
};

/// What all Gemmas share; `act` is the field of the activation.
pub(super) fn config(fields: &Fields, n_ctx: usize, act: &str) -> Result<ModelConfig, Error> {
    let defaults = Defaults { n_ctx, d_head: Some(256), tied: true, ..DEFAULTS };
    let llama = llama::config(fields, defaults)?;
    fields.only("use_bidirectional_attention", &json!(false))?;
    // The official releases say "gelu" and mean its approximation, and so `transformers` takes it.
    let act_fn = match activation(fields, act, "gelu_pytorch_tanh")? {
        Activation::Gelu => Activation::GeluNew,
        other => other,
    };
    Ok(ModelConfig { architecture: Architecture { act_fn, ..llama.architecture }, ..llama })
}

pub(super) fn recipe(source: &Source<'_>, name: &str) -> Option<Recipe> {
    let config = source.config;
    let recipe = llama::recipe(source, name)?;
    let scale = (config.d_model as f64).sqrt();
    // A tied unembedding is scaled with the embedding, and the last norm takes it back.
    let tied = if config.architecture.tied_embeddings { scale } else { 1.0 };
    Some(match name {
        "embed.W_E" => recipe.times(scale),
        "ln1.w" | "ln2.w" => recipe.plus(1.0),
        "ln_final.w" => recipe.plus(1.0).times(1.0 / tied),
        _ => recipe,
    })
}
