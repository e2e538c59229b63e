//! Gemma: Llama with a GELU, gains that are stored less one, and an embedding that is scaled by the
//! root of its width.

use serde_json::json;

use super::{
    Family, GgufFamily, HuggingFace, InFolder,
    llama::{self, DEFAULTS, Defaults, PREFIXES},
};
use crate::{
    Activation, Architecture, Error, ModelConfig, Pairs,
    pretrained::{
        fields::Fields,
        gguf::{self, Header},
        huggingface::activation,
        recipe::Recipe,
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Gemma",
    huggingface: HuggingFace {
        model_type: "gemma",
        prefixes: PREFIXES,
        config: |fields| config(fields, 8192, "hidden_act"),
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "gemma",
        config: from_gguf,
        recipe: |source, name| Some(scaled(source.config, name, gguf::recipe(source, name)?)),
    }),
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

/// What all Gemmas share. The gains of norms are stored whole.
pub(super) fn from_gguf(header: &Header<'_>, common: ModelConfig) -> Result<ModelConfig, Error> {
    let llama = llama::from_gguf(header, common, Pairs::Half)?;
    let act_fn = Activation::GeluNew;
    Ok(ModelConfig { architecture: Architecture { act_fn, ..llama.architecture }, ..llama })
}

pub(super) fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let recipe = scaled(source.config, name, llama::recipe(source, name)?);
    Some(if matches!(name, "ln1.w" | "ln2.w" | "ln_final.w") { recipe.plus(1.0) } else { recipe })
}

/// The embedding times the root of its width. A tied unembedding is scaled with it, and the last
/// norm takes that back.
pub(super) fn scaled(config: &ModelConfig, name: &str, recipe: Recipe) -> Recipe {
    let scale = (config.d_model as f64).sqrt();
    match name {
        "embed.W_E" => recipe.times(scale),
        "ln_final.w" if config.architecture.tied_embeddings => recipe.times(1.0 / scale),
        _ => recipe,
    }
}
