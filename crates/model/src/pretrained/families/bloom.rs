//! Bloom: scores that fall with distance (ALiBi), and a norm of the embedding, which goes into the
//! embedding here.

use serde_json::json;

use super::{Family, GgufFamily, HuggingFace, Source};
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
    let either = |a: &str, b: &str| fields.size(if fields.has(a) { a } else { b });
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

fn recipe(source: &Source<'_>, name: &str) -> Option<Recipe> {
    let &Source { config, prefix, layer, .. } = source;
    let (d_head, all) = (config.d_head, 3 * config.n_heads * config.d_head);
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}h.{layer}.{tensor}"), layout));
    let named = |tensor: &str| format!("{prefix}{tensor}");
    let outer = |tensor: &str, layout| Some(Recipe::new(named(tensor), layout));
    // Head by head its query, key and value.
    let rows = |part: usize| {
        let layout = Layout::HeadRows { first: part * d_head, stride: 3 * d_head, rows: all };
        in_layer("self_attention.query_key_value.weight", layout)
    };
    let entries = |part: usize| {
        let layout = Layout::HeadEntries { first: part * d_head, stride: 3 * d_head, entries: all };
        in_layer("self_attention.query_key_value.bias", layout)
    };
    match name {
        "embed.W_E" => Some(outer("word_embeddings.weight", Layout::AsIs)?.normed(
            named("word_embeddings_layernorm.weight"),
            named("word_embeddings_layernorm.bias"),
        )),
        "ln1.w" => in_layer("input_layernorm.weight", Layout::AsIs),
        "ln1.b" => in_layer("input_layernorm.bias", Layout::AsIs),
        "attn.W_Q" => rows(0),
        "attn.W_K" => rows(1),
        "attn.W_V" => rows(2),
        "attn.b_Q" => entries(0),
        "attn.b_K" => entries(1),
        "attn.b_V" => entries(2),
        "attn.W_O" => in_layer("self_attention.dense.weight", Layout::Transposed),
        "attn.b_O" => in_layer("self_attention.dense.bias", Layout::AsIs),
        "ln2.w" => in_layer("post_attention_layernorm.weight", Layout::AsIs),
        "ln2.b" => in_layer("post_attention_layernorm.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("mlp.dense_h_to_4h.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("mlp.dense_h_to_4h.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("mlp.dense_4h_to_h.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("mlp.dense_4h_to_h.bias", Layout::AsIs),
        "ln_final.w" => outer("ln_f.weight", Layout::AsIs),
        "ln_final.b" => outer("ln_f.bias", Layout::AsIs),
        "unembed.W_U" => outer("word_embeddings.weight", Layout::Transposed),
        _ => None,
    }
}
