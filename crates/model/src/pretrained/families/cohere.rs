//! Cohere's Command R and its successors: Llama with layer norms that have no bias, attention and
//! MLP side by side behind one norm, neighbouring entries as rotary pairs, and scaled logits.

use serde_json::json;

use super::{
    Family, GgufFamily, HuggingFace, InFolder,
    llama::{self, DEFAULTS, Defaults, PREFIXES, within_window},
};
use crate::{
    Activation, Architecture, Error, ModelConfig, Normalization, OtherPositions, Pairs, Positions,
    Rotary,
    pretrained::{
        fields::Fields,
        gguf::{self, Header},
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Command R",
    huggingface: HuggingFace {
        model_type: "cohere",
        prefixes: PREFIXES,
        config: |fields| config(fields, Defaults { n_ctx: 8192, base: 5e5, ..TIED }),
        recipe,
    },
    gguf: Some(GgufFamily { architecture: "command-r", config: from_gguf, recipe: gguf_recipe }),
};

/// The second generation has a window in three layers of four, which is the context here where it
/// is shorter, and no positions in the fourth.
pub(super) const SECOND: Family = Family {
    title: "Command R7B, Command A",
    huggingface: HuggingFace {
        model_type: "cohere2",
        prefixes: PREFIXES,
        config: |fields| {
            let first = config(fields, Defaults { n_ctx: 8192, ..TIED })?;
            let whole = match fields.texts_opt("layer_types")? {
                Some(types) if types.len() != first.n_layers => {
                    let reason = format!("{} names, expected one a layer", types.len());
                    return Err(fields.refuse("layer_types", reason));
                }
                Some(types) => {
                    (0..first.n_layers).filter(|&l| types[l] == "full_attention").collect()
                }
                None => {
                    let every = fields.size_opt("sliding_window_pattern")?.unwrap_or(4).max(1);
                    (0..first.n_layers).filter(|l| (l + 1) % every == 0).collect()
                }
            };
            Ok(ModelConfig {
                n_ctx: within_window(fields, first.n_ctx, Some(4096))?,
                architecture: Architecture {
                    other_positions: Some(OtherPositions { layers: whole, rotary: None }),
                    ..first.architecture
                },
                ..first
            })
        },
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "cohere2",
        config: |header, common| {
            let first = from_gguf(header, common)?;
            let layers = (0..first.n_layers).filter(|l| (l + 1) % 4 == 0).collect();
            let other_positions = Some(OtherPositions { layers, rotary: None });
            let architecture = Architecture { other_positions, ..first.architecture };
            Ok(ModelConfig { architecture, ..first })
        },
        recipe: gguf_recipe,
    }),
};

const TIED: Defaults = Defaults { tied: true, ..DEFAULTS };

fn config(fields: &Fields, defaults: Defaults) -> Result<ModelConfig, Error> {
    fields.only("use_qk_norm", &json!(false))?;
    fields.number("logit_scale", 1.0)?;
    let llama = llama::config(fields, defaults)?;
    let positions = match llama.architecture.positions {
        Positions::Rotary(rotary) => Positions::Rotary(Rotary { pairs: Pairs::Adjacent, ..rotary }),
        other => other,
    };
    Ok(ModelConfig {
        normalization: Normalization::LN,
        layer_norm_eps: fields.number("layer_norm_eps", 1e-5)?,
        architecture: Architecture { positions, parallel: true, ..llama.architecture },
        ..llama
    })
}

fn from_gguf(header: &Header<'_>, common: ModelConfig) -> Result<ModelConfig, Error> {
    header.multiplier("logit_scale")?;
    let plain = header.layer_normed(common, Pairs::Adjacent)?;
    Ok(ModelConfig {
        architecture: Architecture {
            act_fn: Activation::Silu,
            gated_mlp: true,
            parallel: true,
            ..plain.architecture
        },
        ..plain
    })
}

fn gguf_recipe(source: &gguf::InFile<'_>, name: &str) -> Option<Recipe> {
    match name {
        "ln1.b" | "ln2.b" | "ln_final.b" => Some(Recipe::constant(0)),
        "ln2.w" => Some(source.in_layer("attn_norm.weight", Layout::AsIs)),
        "ln_final.w" => {
            let scale = source.header.multiplier("logit_scale").ok().flatten().unwrap_or(1.0);
            Some(gguf::recipe(source, name)?.times(scale))
        }
        _ => gguf::recipe(source, name),
    }
}

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    match name {
        "ln1.b" | "ln2.b" | "ln_final.b" => Some(Recipe::constant(0)),
        "ln2.w" => Some(source.in_layer("input_layernorm.weight", Layout::AsIs)),
        "ln_final.w" => {
            Some(llama::recipe(source, name)?.times(source.number("logit_scale", 0.0625)))
        }
        _ => llama::recipe(source, name),
    }
}
