//! StableLM: Llama with layer norms, and rotary positions in a part of each head.

use serde_json::json;

use super::{
    Family, HuggingFace,
    llama::{self, DEFAULTS, Defaults, PREFIXES, norm_bias},
};
use crate::{Architecture, ModelConfig, Normalization, Positions, pretrained::huggingface::rotary};

pub(super) const FAMILY: Family = Family {
    title: "StableLM",
    huggingface: HuggingFace {
        model_type: "stablelm",
        prefixes: PREFIXES,
        config: |fields| {
            for field in ["use_parallel_residual", "qk_layernorm"] {
                fields.only(field, &json!(false))?;
            }
            let llama = llama::config(fields, Defaults { n_ctx: 4096, ..DEFAULTS })?;
            let rotary = rotary(fields, llama.d_head, ("rope_theta", 10_000.0), 0.25)?;
            Ok(ModelConfig {
                normalization: Normalization::LN,
                layer_norm_eps: fields.number("layer_norm_eps", 1e-5)?,
                architecture: Architecture {
                    positions: Positions::Rotary(rotary),
                    qkv_bias: fields.flag("use_qkv_bias", false)?,
                    out_bias: false,
                    mlp_bias: false,
                    ..llama.architecture
                },
                ..llama
            })
        },
        recipe: |source, name| norm_bias(source, name).or_else(|| llama::recipe(source, name)),
    },
    gguf: None,
};
