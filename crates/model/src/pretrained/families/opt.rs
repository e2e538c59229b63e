//! OPT: learned positions, the first two of which are never used.

use serde_json::json;

use super::{Family, HuggingFace, InFolder};
use crate::{
    Architecture, Error, ModelConfig, Positions,
    pretrained::{
        fields::Fields,
        huggingface::{activation, share},
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "OPT",
    huggingface: HuggingFace {
        model_type: "opt",
        prefixes: &["model.decoder.", "decoder."],
        config,
        recipe,
    },
    gguf: None,
};

fn config(fields: &Fields) -> Result<ModelConfig, Error> {
    for field in ["do_layer_norm_before", "layer_norm_elementwise_affine"] {
        fields.only(field, &json!(true))?;
    }
    fields.only("_remove_final_layer_norm", &json!(false))?;
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    fields.only("word_embed_proj_dim", &json!(d_model))?;
    let bias = fields.flag("enable_bias", true)?;
    Ok(ModelConfig {
        n_layers: fields.size("num_hidden_layers")?,
        d_model,
        n_heads,
        d_head: share(fields, "num_attention_heads", d_model, n_heads)?,
        d_mlp: fields.size("ffn_dim")?,
        n_ctx: fields.size_opt("max_position_embeddings")?.unwrap_or(2048),
        d_vocab: fields.size("vocab_size")?,
        architecture: Architecture {
            positions: Positions::Learned,
            act_fn: activation(fields, "activation_function", "relu")?,
            qkv_bias: bias,
            out_bias: bias,
            mlp_bias: bias,
            tied_embeddings: fields.flag("tie_word_embeddings", true)?,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let &InFolder { config, prefix, layer: l, .. } = source;
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}layers.{l}.{tensor}"), layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(format!("{prefix}{tensor}"), layout));
    let (all, stride) = (config.n_heads * config.d_head, config.d_head);
    let rows = Layout::HeadRows { first: 0, stride, rows: all };
    let entries = Layout::HeadEntries { first: 0, stride, entries: all };
    match name {
        "embed.W_E" => outer("embed_tokens.weight", Layout::AsIs),
        "pos_embed.W_pos" => outer("embed_positions.weight", Layout::Part { first: 2 }),
        "ln1.w" => in_layer("self_attn_layer_norm.weight", Layout::AsIs),
        "ln1.b" => in_layer("self_attn_layer_norm.bias", Layout::AsIs),
        "attn.W_Q" => in_layer("self_attn.q_proj.weight", rows),
        "attn.W_K" => in_layer("self_attn.k_proj.weight", rows),
        "attn.W_V" => in_layer("self_attn.v_proj.weight", rows),
        "attn.b_Q" => in_layer("self_attn.q_proj.bias", entries),
        "attn.b_K" => in_layer("self_attn.k_proj.bias", entries),
        "attn.b_V" => in_layer("self_attn.v_proj.bias", entries),
        "attn.W_O" => in_layer("self_attn.out_proj.weight", Layout::Transposed),
        "attn.b_O" => in_layer("self_attn.out_proj.bias", Layout::AsIs),
        "ln2.w" => in_layer("final_layer_norm.weight", Layout::AsIs),
        "ln2.b" => in_layer("final_layer_norm.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("fc1.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("fc1.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("fc2.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("fc2.bias", Layout::AsIs),
        "ln_final.w" => outer("final_layer_norm.weight", Layout::AsIs),
        "ln_final.b" => outer("final_layer_norm.bias", Layout::AsIs),
        "unembed.W_U" => Some(Recipe::new("lm_head.weight", Layout::Transposed)),
        _ => None,
    }
}
