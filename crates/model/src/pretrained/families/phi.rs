//! Phi-1, Phi-1.5 and Phi-2: attention and MLP read one layer norm of the block's input; biases
//! everywhere.

use serde_json::json;

use super::{
    Family, GgufFamily, HuggingFace, InFolder,
    llama::{self, DEFAULTS, PREFIXES, norm_bias},
};
use crate::{
    Activation, Architecture, ModelConfig, Normalization, Pairs, Positions,
    pretrained::{
        gguf,
        huggingface::{activation, rotary},
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Phi-1, Phi-1.5, Phi-2",
    huggingface: HuggingFace {
        model_type: "phi",
        prefixes: PREFIXES,
        config: |fields| {
            fields.only("qk_layernorm", &json!(false))?;
            let llama = llama::config(fields, DEFAULTS)?;
            let rotary = rotary(fields, llama.d_head, ("rope_theta", 10_000.0), 0.5)?;
            Ok(ModelConfig {
                normalization: Normalization::LN,
                layer_norm_eps: fields.number("layer_norm_eps", 1e-5)?,
                architecture: Architecture {
                    positions: Positions::Rotary(rotary),
                    act_fn: activation(fields, "hidden_act", "gelu_new")?,
                    gated_mlp: false,
                    qkv_bias: true,
                    out_bias: true,
                    mlp_bias: true,
                    unembed_bias: true,
                    parallel: true,
                    ..llama.architecture
                },
                ..llama
            })
        },
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "phi2",
        config: |header, common| {
            let plain = header.layer_normed(common, Pairs::Half)?;
            let (act_fn, parallel) = (Activation::GeluNew, true);
            let architecture = Architecture { act_fn, parallel, ..plain.architecture };
            Ok(ModelConfig { architecture, ..plain })
        },
        recipe: |source, name| match name {
            "ln2.w" => Some(source.in_layer("attn_norm.weight", Layout::AsIs)),
            "ln2.b" => Some(source.in_layer("attn_norm.bias", Layout::AsIs)),
            // Older files have them in one.
            _ if source.header.has("blk.0.attn_qkv.weight") => {
                gguf::recipe_of_one_qkv(source, name)
            }
            _ => gguf::recipe(source, name),
        },
    }),
};

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let &InFolder { prefix, layer: l, .. } = source;
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}layers.{l}.{tensor}"), layout));
    match name {
        "ln1.w" | "ln2.w" => in_layer("input_layernorm.weight", Layout::AsIs),
        "ln1.b" | "ln2.b" => in_layer("input_layernorm.bias", Layout::AsIs),
        "attn.W_O" => in_layer("self_attn.dense.weight", Layout::Transposed),
        "attn.b_O" => in_layer("self_attn.dense.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("mlp.fc1.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("mlp.fc1.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("mlp.fc2.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("mlp.fc2.bias", Layout::AsIs),
        "ln_final.w" => Some(Recipe::new(format!("{prefix}final_layernorm.weight"), Layout::AsIs)),
        "ln_final.b" => Some(Recipe::new(format!("{prefix}final_layernorm.bias"), Layout::AsIs)),
        "unembed.b_U" => Some(Recipe::new("lm_head.bias", Layout::AsIs)),
        _ => norm_bias(source, name).or_else(|| llama::recipe(source, name)),
    }
}
