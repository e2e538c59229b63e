//! Bloom: scores that fall with distance (ALiBi), and a norm of the embedding, which goes into the
//! embedding here.

use serde_json::json;

use super::{Family, GgufFamily, HuggingFace, InFolder, falcon};
use crate::{
    Activation, Architecture, Error, ModelConfig, Positions,
    pretrained::{
        fields::Fields,
        gguf,
        huggingface::share,
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Bloom",
    huggingface: HuggingFace {
        model_type: "bloom",
        prefixes: &["transformer.", ""],
        config,
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "bloom",
        config: |header, common| {
            Ok(ModelConfig {
                layer_norm_eps: header.number("attention.layer_norm_epsilon")?,
                architecture: Architecture {
                    positions: Positions::Alibi,
                    act_fn: Activation::GeluNew,
                    // The unembedding is the embedding before its norm.
                    tied_embeddings: false,
                    ..common.architecture
                },
                ..common
            })
        },
        recipe: |source, name| match name {
            "embed.W_E" => Some(
                gguf::recipe(source, name)?
                    .normed("token_embd_norm.weight".into(), "token_embd_norm.bias".into()),
            ),
            "unembed.W_U" if !source.header.has("output.weight") => {
                Some(Recipe::new("token_embd.weight", Layout::Transposed))
            }
            _ => gguf::recipe_of_one_qkv(source, name),
        },
    }),
};

fn config(fields: &Fields) -> Result<ModelConfig, Error> {
    fields.only("apply_residual_connection_post_layernorm", &json!(false))?;
    // The unembedding is the embedding before its norm, so the two are two here.
    fields.only("tie_word_embeddings", &json!(true))?;
    // One name or the other, by the age of the file.
    let either = |a: &str, b: &str| fields.size(fields.either(&[a, b])?);
    let d_model = either("hidden_size", "n_embed")?;
    let n_heads = either("n_head", "num_attention_heads")?;
    Ok(ModelConfig {
        n_layers: either("n_layer", "num_hidden_layers")?,
        d_model,
        n_heads,
        d_head: share(fields, "n_head", d_model, n_heads)?,
        d_mlp: 4 * d_model,
        // It could be run further, and was trained on so much.
        n_ctx: fields.size_opt("seq_length")?.unwrap_or(2048),
        d_vocab: fields.size("vocab_size")?,
        layer_norm_eps: fields.number("layer_norm_epsilon", 1e-5)?,
        architecture: Architecture {
            positions: Positions::Alibi,
            act_fn: Activation::GeluNew,
            qkv_bias: true,
            out_bias: true,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let named = |tensor: &str| format!("{}{tensor}", source.prefix);
    let found =
        || falcon::recipe_with(source, ["input_layernorm", "post_attention_layernorm"], name);
    match name {
        "embed.W_E" => Some(found()?.normed(
            named("word_embeddings_layernorm.weight"),
            named("word_embeddings_layernorm.bias"),
        )),
        "unembed.W_U" => Some(Recipe::new(named("word_embeddings.weight"), Layout::Transposed)),
        _ => found(),
    }
}
