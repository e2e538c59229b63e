//! SmolLM 3: Llama with layers that have no positions.

use super::{
    Family, GgufFamily, HuggingFace,
    llama::{self, DEFAULTS, Defaults, PREFIXES, from_gguf},
};
use crate::{Architecture, ModelConfig, OtherPositions, Pairs, pretrained::gguf};

pub(super) const FAMILY: Family = Family {
    title: "SmolLM 3",
    huggingface: HuggingFace {
        model_type: "smollm3",
        prefixes: PREFIXES,
        config: |fields| {
            let defaults = Defaults { n_ctx: 32_768, base: 2e6, tied: true, ..DEFAULTS };
            let llama = llama::config(fields, defaults)?;
            let n_key_value_heads = match fields.says("num_key_value_heads") {
                true => llama.architecture.n_key_value_heads,
                false => 4,
            };
            let layers = match fields.sizes_opt("no_rope_layers")? {
                // 1 where a layer has positions, 0 where it has none.
                Some(rotary) if rotary.len() < llama.n_layers => {
                    let reason = format!("{} numbers, expected one a layer", rotary.len());
                    return Err(fields.refuse("no_rope_layers", reason));
                }
                Some(rotary) => (0..llama.n_layers).filter(|&l| rotary[l] == 0).collect(),
                None => {
                    let every = fields.size_opt("no_rope_layer_interval")?.unwrap_or(4).max(1);
                    (0..llama.n_layers).filter(|l| (l + 1) % every == 0).collect()
                }
            };
            Ok(ModelConfig {
                architecture: Architecture {
                    n_key_value_heads,
                    other_positions: Some(OtherPositions { layers, rotary: None }),
                    ..llama.architecture
                },
                ..llama
            })
        },
        recipe: llama::recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "smollm3",
        config: |header, common| {
            let llama = from_gguf(header, common, Pairs::Adjacent)?;
            // Files do not say which, and llama.cpp takes every fourth.
            let layers = (0..llama.n_layers).filter(|l| (l + 1) % 4 == 0).collect();
            let other_positions = Some(OtherPositions { layers, rotary: None });
            let architecture = Architecture { other_positions, ..llama.architecture };
            Ok(ModelConfig { architecture, ..llama })
        },
        recipe: gguf::recipe,
    }),
};
