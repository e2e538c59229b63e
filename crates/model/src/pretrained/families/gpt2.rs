//! GPT-2.

use serde_json::json;

use super::{Family, GgufFamily, HuggingFace, InFolder};
use crate::{
    Activation, Architecture, Error, ModelConfig, Positions,
    pretrained::{
        fields::Fields,
        gguf::{Header, recipe_of_one_qkv},
        huggingface::{activation, share},
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "GPT-2",
    huggingface: HuggingFace {
        model_type: "gpt2",
        // GPT-2's own files have no prefix; what `transformers` saves has one.
        prefixes: &["", "transformer."],
        config,
        recipe,
    },
    gguf: Some(GgufFamily { architecture: "gpt2", config: gguf, recipe: recipe_of_one_qkv }),
};

/// What `transformers` also reads for the names of GPT-2's sizes.
pub(super) const NAMES: [(&str, &str); 4] = [
    ("n_embd", "hidden_size"),
    ("n_head", "num_attention_heads"),
    ("n_layer", "num_hidden_layers"),
    ("n_positions", "max_position_embeddings"),
];

fn config(fields: &Fields) -> Result<ModelConfig, Error> {
    let fields = &fields.renamed(&NAMES)?;
    fields.only("scale_attn_weights", &json!(true))?;
    fields.only("scale_attn_by_inverse_layer_idx", &json!(false))?;
    fields.only("add_cross_attention", &json!(false))?;
    let (d_model, n_heads) = (fields.size("n_embd")?, fields.size("n_head")?);
    Ok(ModelConfig {
        n_layers: fields.size("n_layer")?,
        d_model,
        n_heads,
        d_head: share(fields, "n_head", d_model, n_heads)?,
        d_mlp: fields.size_opt("n_inner")?.unwrap_or(4 * d_model),
        n_ctx: fields.size_opt("n_positions")?.unwrap_or(1024),
        d_vocab: fields.size("vocab_size")?,
        layer_norm_eps: fields.number("layer_norm_epsilon", 1e-5)?,
        architecture: Architecture {
            positions: Positions::Learned,
            act_fn: activation(fields, "activation_function", "gelu_new")?,
            qkv_bias: true,
            out_bias: true,
            tied_embeddings: fields.flag("tie_word_embeddings", true)?,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

fn gguf(header: &Header<'_>, common: ModelConfig) -> Result<ModelConfig, Error> {
    Ok(ModelConfig {
        layer_norm_eps: header.number("attention.layer_norm_epsilon")?,
        architecture: Architecture {
            positions: Positions::Learned,
            act_fn: Activation::GeluNew,
            ..common.architecture
        },
        ..common
    })
}

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let &InFolder { config, prefix, layer: l, .. } = source;
    let width = config.n_heads * config.d_head;
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}h.{l}.{tensor}"), layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(format!("{prefix}{tensor}"), layout));
    let part = |part: usize| (part * width, config.d_head, 3 * width);
    let columns = |which| {
        let (first, stride, columns) = part(which);
        Layout::HeadColumns { first, stride, columns }
    };
    let entries = |which| {
        let (first, stride, entries) = part(which);
        Layout::HeadEntries { first, stride, entries }
    };
    match name {
        "embed.W_E" => outer("wte.weight", Layout::AsIs),
        "pos_embed.W_pos" => outer("wpe.weight", Layout::AsIs),
        "ln1.w" => in_layer("ln_1.weight", Layout::AsIs),
        "ln1.b" => in_layer("ln_1.bias", Layout::AsIs),
        "attn.W_Q" => in_layer("attn.c_attn.weight", columns(0)),
        "attn.W_K" => in_layer("attn.c_attn.weight", columns(1)),
        "attn.W_V" => in_layer("attn.c_attn.weight", columns(2)),
        "attn.b_Q" => in_layer("attn.c_attn.bias", entries(0)),
        "attn.b_K" => in_layer("attn.c_attn.bias", entries(1)),
        "attn.b_V" => in_layer("attn.c_attn.bias", entries(2)),
        "attn.W_O" => in_layer("attn.c_proj.weight", Layout::AsIs),
        "attn.b_O" => in_layer("attn.c_proj.bias", Layout::AsIs),
        "ln2.w" => in_layer("ln_2.weight", Layout::AsIs),
        "ln2.b" => in_layer("ln_2.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("mlp.c_fc.weight", Layout::AsIs),
        "mlp.b_in" => in_layer("mlp.c_fc.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("mlp.c_proj.weight", Layout::AsIs),
        "mlp.b_out" => in_layer("mlp.c_proj.bias", Layout::AsIs),
        "ln_final.w" => outer("ln_f.weight", Layout::AsIs),
        "ln_final.b" => outer("ln_f.bias", Layout::AsIs),
        "unembed.W_U" => Some(Recipe::new("lm_head.weight", Layout::Transposed)),
        _ => None,
    }
}
