//! GPT-NeoX: Pythia.

use super::{Family, GgufFamily, HuggingFace, InFolder};
use crate::{
    Activation, Architecture, Error, ModelConfig, Pairs, Positions,
    pretrained::{
        fields::Fields,
        gguf::{Header, recipe_of_one_qkv},
        huggingface::{activation, rotary, share},
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "GPT-NeoX: Pythia",
    huggingface: HuggingFace { model_type: "gpt_neox", prefixes: &["gpt_neox."], config, recipe },
    gguf: Some(GgufFamily { architecture: "gptneox", config: gguf, recipe: recipe_of_one_qkv }),
};

fn config(fields: &Fields) -> Result<ModelConfig, Error> {
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let d_head = share(fields, "num_attention_heads", d_model, n_heads)?;
    let attention_bias = fields.flag("attention_bias", true)?;
    Ok(ModelConfig {
        n_layers: fields.size("num_hidden_layers")?,
        d_model,
        n_heads,
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        n_ctx: fields.size_opt("max_position_embeddings")?.unwrap_or(2048),
        d_vocab: fields.size("vocab_size")?,
        layer_norm_eps: fields.number("layer_norm_eps", 1e-5)?,
        architecture: Architecture {
            positions: Positions::Rotary(rotary(
                fields,
                d_head,
                ("rotary_emb_base", 10_000.0),
                0.25,
            )?),
            act_fn: activation(fields, "hidden_act", "gelu")?,
            qkv_bias: attention_bias,
            out_bias: attention_bias,
            parallel: fields.flag("use_parallel_residual", true)?,
            tied_embeddings: fields.flag("tie_word_embeddings", false)?,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

fn gguf(header: &Header<'_>, common: ModelConfig) -> Result<ModelConfig, Error> {
    Ok(ModelConfig {
        layer_norm_eps: header.number("attention.layer_norm_epsilon")?,
        architecture: Architecture {
            positions: Positions::Rotary(header.rotary(common.d_head, Pairs::Half)?),
            act_fn: Activation::Gelu,
            parallel: header.flag("use_parallel_residual", true)?,
            ..common.architecture
        },
        ..common
    })
}

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let &InFolder { config, prefix, layer: l, .. } = source;
    let (d_head, all) = (config.d_head, 3 * config.n_heads * config.d_head);
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}layers.{l}.{tensor}"), layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(format!("{prefix}{tensor}"), layout));
    // Head by head its query, key and value.
    let rows =
        |part: usize| Layout::HeadRows { first: part * d_head, stride: 3 * d_head, rows: all };
    let entries = |part: usize| Layout::HeadEntries {
        first: part * d_head,
        stride: 3 * d_head,
        entries: all,
    };
    match name {
        "embed.W_E" => outer("embed_in.weight", Layout::AsIs),
        "ln1.w" => in_layer("input_layernorm.weight", Layout::AsIs),
        "ln1.b" => in_layer("input_layernorm.bias", Layout::AsIs),
        "attn.W_Q" => in_layer("attention.query_key_value.weight", rows(0)),
        "attn.W_K" => in_layer("attention.query_key_value.weight", rows(1)),
        "attn.W_V" => in_layer("attention.query_key_value.weight", rows(2)),
        "attn.b_Q" => in_layer("attention.query_key_value.bias", entries(0)),
        "attn.b_K" => in_layer("attention.query_key_value.bias", entries(1)),
        "attn.b_V" => in_layer("attention.query_key_value.bias", entries(2)),
        "attn.W_O" => in_layer("attention.dense.weight", Layout::Transposed),
        "attn.b_O" => in_layer("attention.dense.bias", Layout::AsIs),
        "ln2.w" => in_layer("post_attention_layernorm.weight", Layout::AsIs),
        "ln2.b" => in_layer("post_attention_layernorm.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("mlp.dense_h_to_4h.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("mlp.dense_h_to_4h.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("mlp.dense_4h_to_h.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("mlp.dense_4h_to_h.bias", Layout::AsIs),
        "ln_final.w" => outer("final_layer_norm.weight", Layout::AsIs),
        "ln_final.b" => outer("final_layer_norm.bias", Layout::AsIs),
        "unembed.W_U" => Some(Recipe::new("embed_out.weight", Layout::Transposed)),
        _ => None,
    }
}
