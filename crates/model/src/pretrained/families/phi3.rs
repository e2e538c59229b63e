//! Phi-3 and Phi-4: Llama whose queries, keys and values are one tensor, as are the two that an MLP
//! begins with.

use super::{
    Family, GgufFamily, HuggingFace, InFolder,
    llama::{self, DEFAULTS, Defaults, PREFIXES, from_gguf, within_window},
};
use crate::{
    ModelConfig, Pairs,
    pretrained::{
        gguf,
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Phi-3, Phi-4",
    huggingface: HuggingFace {
        model_type: "phi3",
        prefixes: PREFIXES,
        config: |fields| {
            let llama = llama::config(fields, Defaults { n_ctx: 4096, ..DEFAULTS })?;
            Ok(ModelConfig {
                n_ctx: within_window(fields, llama.n_ctx, None)?,
                layer_norm_eps: fields.number("rms_norm_eps", 1e-5)?,
                ..llama
            })
        },
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "phi3",
        config: |header, common| from_gguf(header, common, Pairs::Half),
        recipe: |source, name| {
            let (d_mlp, tensor) = (source.config.d_mlp, "ffn_up.weight");
            let part = |first| {
                let layout = Layout::TransposedPart { first, rows: 2 * d_mlp };
                Some(source.in_layer(tensor, layout))
            };
            match name {
                "mlp.W_gate" => part(0),
                "mlp.W_in" => part(d_mlp),
                _ => gguf::recipe_of_one_qkv(source, name),
            }
        },
    }),
};

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let &InFolder { config, prefix, layer: l, .. } = source;
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}layers.{l}.{tensor}"), layout));
    let (stride, d_mlp) = (config.d_head, config.d_mlp);
    let (of_q, of_kv) = (config.n_heads * stride, config.n_key_value_heads() * stride);
    let heads = |first| {
        let layout = Layout::HeadRows { first, stride, rows: of_q + 2 * of_kv };
        in_layer("self_attn.qkv_proj.weight", layout)
    };
    let part = |first| {
        in_layer("mlp.gate_up_proj.weight", Layout::TransposedPart { first, rows: 2 * d_mlp })
    };
    match name {
        "attn.W_Q" => heads(0),
        "attn.W_K" => heads(of_q),
        "attn.W_V" => heads(of_q + of_kv),
        "mlp.W_gate" => part(0),
        "mlp.W_in" => part(d_mlp),
        _ => llama::recipe(source, name),
    }
}
