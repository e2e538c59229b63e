//! Gemma: Llama with a GELU, gains that are stored less one, and an embedding that is scaled by the
//! root of its width.

use serde_json::json;

use super::{
    Family, HuggingFace,
    llama::{self, Defaults, PREFIXES},
};
use crate::{
    Activation, Architecture, ModelConfig,
    pretrained::{huggingface::activation, recipe::Recipe},
};

pub(super) const FAMILY: Family = Family {
    title: "Gemma",
    huggingface: HuggingFace {
        model_type: "gemma",
        prefixes: PREFIXES,
        config: |fields| {
            let llama = llama::config(fields, Defaults { n_ctx: 8192, d_head: Some(256) })?;
            fields.only("use_bidirectional_attention", &json!(false))?;
            // The official releases say "gelu" and mean its approximation, and so `transformers`
            // takes it.
            let act_fn = match activation(fields, "hidden_act", "gelu_pytorch_tanh")? {
                Activation::Gelu => Activation::GeluNew,
                other => other,
            };
            Ok(ModelConfig {
                architecture: Architecture {
                    act_fn,
                    tied_embeddings: fields.flag("tie_word_embeddings", true)?,
                    ..llama.architecture
                },
                ..llama
            })
        },
        recipe,
    },
    gguf: None,
};

fn recipe(config: &ModelConfig, prefix: &str, l: usize, name: &str) -> Option<Recipe> {
    let recipe = llama::recipe(config, prefix, l, name)?;
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
