//! StableLM: Llama with layer norms, and rotary positions in a part of each head.

use serde_json::json;

use super::{
    Family, GgufFamily, HuggingFace,
    llama::{self, DEFAULTS, Defaults, PREFIXES, norm_bias},
};
use crate::{
    Activation, Architecture, ModelConfig, Normalization, Pairs, Positions,
    pretrained::{gguf, huggingface::rotary},
};

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
    gguf: Some(GgufFamily {
        architecture: "stablelm",
        config: |header, common| {
            if header.flag("use_parallel_residual", false)? {
                let reason = "true is not supported here, expected false".to_string();
                return Err(header.refuse("use_parallel_residual", reason));
            }
            let plain = header.layer_normed(common, Pairs::Half)?;
            let (act_fn, gated_mlp) = (Activation::Silu, true);
            let architecture = Architecture { act_fn, gated_mlp, ..plain.architecture };
            Ok(ModelConfig { architecture, ..plain })
        },
        recipe: gguf::recipe,
    }),
};
