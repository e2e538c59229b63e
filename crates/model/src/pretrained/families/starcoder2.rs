//! StarCoder2: Llama with layer norms, biases and plain MLPs.

use super::{
    Family, GgufFamily, HuggingFace, InFolder,
    llama::{self, DEFAULTS, Defaults, PREFIXES, norm_bias, within_window},
};
use crate::{
    Activation, Architecture, ModelConfig, Normalization, Pairs,
    pretrained::{
        gguf,
        huggingface::activation,
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "StarCoder2",
    huggingface: HuggingFace {
        model_type: "starcoder2",
        prefixes: PREFIXES,
        config: |fields| {
            let llama = llama::config(fields, Defaults { n_ctx: 4096, ..DEFAULTS })?;
            let bias = fields.flag("use_bias", true)?;
            Ok(ModelConfig {
                n_ctx: within_window(fields, llama.n_ctx, None)?,
                normalization: Normalization::LN,
                layer_norm_eps: fields.number("norm_epsilon", 1e-5)?,
                architecture: Architecture {
                    act_fn: activation(fields, "hidden_act", "gelu_pytorch_tanh")?,
                    gated_mlp: false,
                    qkv_bias: bias,
                    out_bias: bias,
                    mlp_bias: bias,
                    tied_embeddings: fields.flag("tie_word_embeddings", true)?,
                    n_key_value_heads: match fields.says("num_key_value_heads") {
                        true => llama.architecture.n_key_value_heads,
                        false => 2,
                    },
                    ..llama.architecture
                },
                ..llama
            })
        },
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "starcoder2",
        config: |header, common| {
            let plain = header.layer_normed(common, Pairs::Half)?;
            let act_fn = Activation::GeluNew;
            Ok(ModelConfig { architecture: Architecture { act_fn, ..plain.architecture }, ..plain })
        },
        recipe: gguf::recipe,
    }),
};

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let &InFolder { prefix, layer: l, .. } = source;
    let mlp = |tensor: &str, layout| {
        Some(Recipe::new(format!("{prefix}layers.{l}.mlp.{tensor}"), layout))
    };
    match name {
        "mlp.W_in" => mlp("c_fc.weight", Layout::Transposed),
        "mlp.b_in" => mlp("c_fc.bias", Layout::AsIs),
        "mlp.W_out" => mlp("c_proj.weight", Layout::Transposed),
        "mlp.b_out" => mlp("c_proj.bias", Layout::AsIs),
        _ => norm_bias(source, name).or_else(|| llama::recipe(source, name)),
    }
}
