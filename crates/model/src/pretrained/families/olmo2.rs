//! OLMo 2: Llama with its norms after the sublayers, and queries and keys normed as wholes.

use super::{
    Family, HuggingFace, Source,
    llama::{self, DEFAULTS, PREFIXES},
};
use crate::{
    Architecture, ModelConfig, Norms, QkNorm,
    pretrained::recipe::{Layout, Recipe},
};

pub(super) const FAMILY: Family = Family {
    title: "OLMo 2",
    huggingface: HuggingFace {
        model_type: "olmo2",
        prefixes: PREFIXES,
        config: |fields| {
            let llama = llama::config(fields, DEFAULTS)?;
            Ok(ModelConfig {
                layer_norm_eps: fields.number("rms_norm_eps", 1e-5)?,
                architecture: Architecture {
                    norms: Norms::After,
                    qk_norm: QkNorm::Whole,
                    ..llama.architecture
                },
                ..llama
            })
        },
        recipe,
    },
    gguf: None,
};

fn recipe(source: &Source<'_>, name: &str) -> Option<Recipe> {
    let d_head = source.config.d_head;
    let heads = |tensor: &str, heads: usize| {
        let layout = Layout::HeadEntries { first: 0, stride: d_head, entries: heads * d_head };
        Some(source.in_layer(tensor, layout))
    };
    match name {
        "ln1_post.w" => Some(source.in_layer("post_attention_layernorm.weight", Layout::AsIs)),
        "ln2_post.w" => Some(source.in_layer("post_feedforward_layernorm.weight", Layout::AsIs)),
        "attn.q_norm.w" => heads("self_attn.q_norm.weight", source.config.n_heads),
        "attn.k_norm.w" => heads("self_attn.k_norm.weight", source.config.n_key_value_heads()),
        _ => llama::recipe(source, name),
    }
}
