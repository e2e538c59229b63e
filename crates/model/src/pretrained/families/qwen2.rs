//! Qwen2: Llama with biases where heads read.

use super::{
    Family, GgufFamily, HuggingFace,
    llama::{DEFAULTS, PREFIXES, config, from_gguf, recipe},
};
use crate::{Architecture, ModelConfig, Pairs, pretrained::gguf};

pub(super) const FAMILY: Family = Family {
    title: "Qwen2, Qwen2.5",
    huggingface: HuggingFace {
        model_type: "qwen2",
        prefixes: PREFIXES,
        config: |fields| {
            let llama = config(fields, DEFAULTS)?;
            let architecture =
                Architecture { qkv_bias: true, out_bias: false, ..llama.architecture };
            Ok(ModelConfig { architecture, ..llama })
        },
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "qwen2",
        config: |header, common| from_gguf(header, common, Pairs::Half),
        recipe: gguf::recipe,
    }),
};
