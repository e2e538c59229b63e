//! GPT-J: attention and MLP read one layer norm of the block's input.

use super::{Family, HuggingFace, InFolder};
use crate::{
    Architecture, Error, ModelConfig, Pairs, Positions, Rotary,
    pretrained::{
        fields::Fields,
        huggingface::{activation, share},
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "GPT-J",
    huggingface: HuggingFace { model_type: "gptj", prefixes: &["transformer."], config, recipe },
    gguf: None,
};

fn config(fields: &Fields) -> Result<ModelConfig, Error> {
    let fields = &fields.renamed(&super::gpt2::NAMES)?;
    let (d_model, n_heads) = (fields.size("n_embd")?, fields.size("n_head")?);
    let d_head = share(fields, "n_head", d_model, n_heads)?;
    let dim = fields.size_opt("rotary_dim")?.unwrap_or(64);
    let rotary = Rotary {
        dim,
        base: 10_000.0,
        pairs: Pairs::Adjacent,
        scaling: None,
        attention_factor: None,
    };
    Ok(ModelConfig {
        n_layers: fields.size("n_layer")?,
        d_model,
        n_heads,
        d_head,
        d_mlp: fields.size_opt("n_inner")?.unwrap_or(4 * d_model),
        n_ctx: fields.size_opt("n_positions")?.unwrap_or(2048),
        d_vocab: fields.size("vocab_size")?,
        layer_norm_eps: fields.number("layer_norm_epsilon", 1e-5)?,
        architecture: Architecture {
            positions: Positions::Rotary(rotary),
            act_fn: activation(fields, "activation_function", "gelu_new")?,
            unembed_bias: true,
            parallel: true,
            tied_embeddings: fields.flag("tie_word_embeddings", false)?,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let &InFolder { config, prefix, layer: l, .. } = source;
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}h.{l}.{tensor}"), layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(format!("{prefix}{tensor}"), layout));
    let rows = config.n_heads * config.d_head;
    let rows = Layout::HeadRows { first: 0, stride: config.d_head, rows };
    match name {
        "embed.W_E" => outer("wte.weight", Layout::AsIs),
        "ln1.w" | "ln2.w" => in_layer("ln_1.weight", Layout::AsIs),
        "ln1.b" | "ln2.b" => in_layer("ln_1.bias", Layout::AsIs),
        "attn.W_Q" => in_layer("attn.q_proj.weight", rows),
        "attn.W_K" => in_layer("attn.k_proj.weight", rows),
        "attn.W_V" => in_layer("attn.v_proj.weight", rows),
        "attn.W_O" => in_layer("attn.out_proj.weight", Layout::Transposed),
        "mlp.W_in" => in_layer("mlp.fc_in.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("mlp.fc_in.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("mlp.fc_out.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("mlp.fc_out.bias", Layout::AsIs),
        "ln_final.w" => outer("ln_f.weight", Layout::AsIs),
        "ln_final.b" => outer("ln_f.bias", Layout::AsIs),
        "unembed.W_U" => Some(Recipe::new("lm_head.weight", Layout::Transposed)),
        "unembed.b_U" => Some(Recipe::new("lm_head.bias", Layout::AsIs)),
        _ => None,
    }
}
