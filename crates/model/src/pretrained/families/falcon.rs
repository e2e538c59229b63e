//! Falcon: layer norms without biases beside them, attention and MLP side by side, and queries,
//! keys and values as one tensor, group of heads by group of heads.

use serde_json::json;

use super::{Family, GgufFamily, HuggingFace, InFolder};
use crate::{
    Architecture, Error, ModelConfig, Pairs, Positions,
    pretrained::{
        fields::Fields,
        gguf,
        huggingface::{activation, rotary, share},
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Falcon",
    huggingface: HuggingFace { model_type: "falcon", prefixes: &["transformer."], config, recipe },
    gguf: Some(GgufFamily {
        architecture: "falcon",
        config: |header, common| {
            let plain = header.layer_normed(common, Pairs::Half)?;
            let architecture = Architecture { parallel: true, ..plain.architecture };
            Ok(ModelConfig { architecture, ..plain })
        },
        // One norm is the MLP's, and attention's where that has none of its own.
        recipe: |source, name| {
            let two = source.header.has("blk.0.attn_norm_2.weight");
            let tensor = match name {
                "ln1.w" if two => "attn_norm_2.weight",
                "ln1.b" if two => "attn_norm_2.bias",
                "ln2.w" => "attn_norm.weight",
                "ln2.b" => "attn_norm.bias",
                _ => return gguf::recipe_of_one_qkv(source, name),
            };
            Some(source.in_layer(tensor, Layout::AsIs))
        },
    }),
};

/// What stands before the layer's attention and before its MLP.
fn norms(fields: &Fields) -> Result<[&'static str; 2], Error> {
    let new = fields.flag("new_decoder_architecture", false)?;
    let two = fields.size_opt("num_ln_in_parallel_attn")?.unwrap_or(2) == 2;
    Ok(match (new, fields.flag("parallel_attn", true)?) {
        (true, _) if two => ["ln_attn", "ln_mlp"],
        (true, _) | (false, true) => ["input_layernorm"; 2],
        (false, false) => ["input_layernorm", "post_attention_layernorm"],
    })
}

fn config(fields: &Fields) -> Result<ModelConfig, Error> {
    fields.only("alibi", &json!(false))?;
    let d_model = fields.size(fields.either(&["hidden_size", "n_embed"])?)?;
    let n_heads = fields.size("num_attention_heads")?;
    let d_head = share(fields, "num_attention_heads", d_model, n_heads)?;
    let new = fields.flag("new_decoder_architecture", false)?;
    let n_key_value_heads = match new {
        true => fields.size_opt("num_kv_heads")?.unwrap_or(n_heads),
        false if fields.flag("multi_query", true)? => 1,
        false => n_heads,
    };
    if n_key_value_heads == 0 || !n_heads.is_multiple_of(n_key_value_heads) {
        let reason = format!("{n_key_value_heads}, expected a divisor of {n_heads}");
        return Err(fields.refuse("num_kv_heads", reason));
    }
    norms(fields)?;
    let bias = fields.flag("bias", false)?;
    Ok(ModelConfig {
        n_layers: fields.size("num_hidden_layers")?,
        d_model,
        n_heads,
        d_head,
        d_mlp: fields.size_opt("ffn_hidden_size")?.unwrap_or(4 * d_model),
        n_ctx: fields.size_opt("max_position_embeddings")?.unwrap_or(2048),
        d_vocab: fields.size("vocab_size")?,
        layer_norm_eps: fields.number("layer_norm_epsilon", 1e-5)?,
        architecture: Architecture {
            positions: Positions::Rotary(rotary(fields, d_head, ("rope_theta", 10_000.0), 1.0)?),
            n_key_value_heads,
            act_fn: activation(fields, "activation", "gelu")?,
            qkv_bias: bias,
            out_bias: bias,
            mlp_bias: bias,
            parallel: new || fields.flag("parallel_attn", true)?,
            tied_embeddings: fields.flag("tie_word_embeddings", true)?,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    recipe_with(source, norms(source.fields).ok()?, name)
}

/// What Falcon shares with Bloom, all of whose heads are groups of their own; `norms` stand before
/// attention and before the MLP.
pub(super) fn recipe_with(
    source: &InFolder<'_>,
    [first_norm, second_norm]: [&str; 2],
    name: &str,
) -> Option<Recipe> {
    let &InFolder { config, prefix, layer, .. } = source;
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}h.{layer}.{tensor}"), layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(format!("{prefix}{tensor}"), layout));
    // Of each group its queries, its key, its value.
    let (d_head, groups) = (config.d_head, config.n_key_value_heads());
    let queries = config.n_heads / groups;
    let (stride, all) = ((queries + 2) * d_head, groups * (queries + 2) * d_head);
    let place = |part: &str| match part {
        "Q" => (0, queries),
        "K" => (queries * d_head, 1),
        _ => ((queries + 1) * d_head, 1),
    };
    let norm = |norm: &str, part: &str| in_layer(&format!("{norm}.{part}"), Layout::AsIs);
    match name {
        "embed.W_E" => outer("word_embeddings.weight", Layout::AsIs),
        "ln1.w" => norm(first_norm, "weight"),
        "ln1.b" => norm(first_norm, "bias"),
        "ln2.w" => norm(second_norm, "weight"),
        "ln2.b" => norm(second_norm, "bias"),
        "attn.W_Q" | "attn.W_K" | "attn.W_V" => {
            let (first, in_group) = place(&name[7..]);
            let layout = Layout::GroupRows { first, in_group, stride, rows: all };
            in_layer("self_attention.query_key_value.weight", layout)
        }
        "attn.b_Q" | "attn.b_K" | "attn.b_V" => {
            let (first, in_group) = place(&name[7..]);
            let layout = Layout::GroupEntries { first, in_group, stride, entries: all };
            in_layer("self_attention.query_key_value.bias", layout)
        }
        "attn.W_O" => in_layer("self_attention.dense.weight", Layout::Transposed),
        "attn.b_O" => in_layer("self_attention.dense.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("mlp.dense_h_to_4h.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("mlp.dense_h_to_4h.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("mlp.dense_4h_to_h.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("mlp.dense_4h_to_h.bias", Layout::AsIs),
        "ln_final.w" => outer("ln_f.weight", Layout::AsIs),
        "ln_final.b" => outer("ln_f.bias", Layout::AsIs),
        "unembed.W_U" => Some(Recipe::new("lm_head.weight", Layout::Transposed)),
        _ => None,
    }
}
