//! GPT-Neo, and the TinyStories models: scores are not divided by the root of the head's width, and
//! every other layer attends within a window, which is the context here where it is shorter.

use super::{Family, HuggingFace, InFolder};
use crate::{
    Architecture, Error, ModelConfig, Positions,
    pretrained::{
        fields::Fields,
        huggingface::{activation, share},
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "GPT-Neo, TinyStories",
    huggingface: HuggingFace { model_type: "gpt_neo", prefixes: &["transformer."], config, recipe },
    gguf: None,
};

fn config(fields: &Fields) -> Result<ModelConfig, Error> {
    let others = [("num_heads", "num_attention_heads"), ("num_layers", "num_hidden_layers")];
    let fields = &fields.renamed(&others)?;
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_heads")?);
    let positions = fields.size_opt("max_position_embeddings")?.unwrap_or(2048);
    Ok(ModelConfig {
        n_layers: fields.size("num_layers")?,
        d_model,
        n_heads,
        d_head: share(fields, "num_heads", d_model, n_heads)?,
        d_mlp: fields.size_opt("intermediate_size")?.unwrap_or(4 * d_model),
        n_ctx: positions.min(fields.size_opt("window_size")?.unwrap_or(256)),
        d_vocab: fields.size("vocab_size")?,
        layer_norm_eps: fields.number("layer_norm_epsilon", 1e-5)?,
        architecture: Architecture {
            positions: Positions::Learned,
            act_fn: activation(fields, "activation_function", "gelu_new")?,
            out_bias: true,
            tied_embeddings: fields.flag("tie_word_embeddings", true)?,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let &InFolder { config, prefix, layer: l, .. } = source;
    let recipe = |tensor: &str, layout| Recipe::new(format!("{prefix}h.{l}.{tensor}"), layout);
    let in_layer = |tensor: &str, layout| Some(recipe(tensor, layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(format!("{prefix}{tensor}"), layout));
    let rows = config.n_heads * config.d_head;
    let rows = Layout::HeadRows { first: 0, stride: config.d_head, rows };
    match name {
        "embed.W_E" => outer("wte.weight", Layout::AsIs),
        "pos_embed.W_pos" => outer("wpe.weight", Layout::Part { first: 0 }),
        "ln1.w" => in_layer("ln_1.weight", Layout::AsIs),
        "ln1.b" => in_layer("ln_1.bias", Layout::AsIs),
        "attn.W_Q" => {
            Some(recipe("attn.attention.q_proj.weight", rows).times((config.d_head as f64).sqrt()))
        }
        "attn.W_K" => in_layer("attn.attention.k_proj.weight", rows),
        "attn.W_V" => in_layer("attn.attention.v_proj.weight", rows),
        "attn.W_O" => in_layer("attn.attention.out_proj.weight", Layout::Transposed),
        "attn.b_O" => in_layer("attn.attention.out_proj.bias", Layout::AsIs),
        "ln2.w" => in_layer("ln_2.weight", Layout::AsIs),
        "ln2.b" => in_layer("ln_2.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("mlp.c_fc.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("mlp.c_fc.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("mlp.c_proj.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("mlp.c_proj.bias", Layout::AsIs),
        "ln_final.w" => outer("ln_f.weight", Layout::AsIs),
        "ln_final.b" => outer("ln_f.bias", Layout::AsIs),
        "unembed.W_U" => Some(Recipe::new("lm_head.weight", Layout::Transposed)),
        _ => None,
    }
}
