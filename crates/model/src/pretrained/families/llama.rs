//! Llama, and what others share with it.

use super::{Family, GgufFamily, HuggingFace, InFolder};
use crate::{
    Activation, Architecture, Error, ModelConfig, Normalization, Pairs, Positions,
    pretrained::{
        fields::Fields,
        gguf::{self, Header},
        huggingface::{activation, rotary, share, within_original},
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Llama: SmolLM2, TinyLlama",
    huggingface: HuggingFace {
        model_type: "llama",
        prefixes: PREFIXES,
        config: |fields| config(fields, DEFAULTS),
        recipe,
    },
    gguf: Some(GgufFamily {
        architecture: "llama",
        // Queries and keys are written in an order that makes pairs neighbours.
        // Mixtral is written as a Llama, too.
        config: |header, common| {
            header.with_experts(from_gguf(header, common, Pairs::Adjacent)?, true)
        },
        recipe: gguf::recipe,
    }),
};

pub(super) const PREFIXES: &[&str] = &["model."];

/// What a family's configuration has where its file says nothing.
pub(super) struct Defaults {
    pub(super) n_ctx: usize,
    /// `d_model / n_heads` without.
    pub(super) d_head: Option<usize>,
    /// Base of rotary positions.
    pub(super) base: f64,
    pub(super) tied: bool,
}

/// Llama's.
pub(super) const DEFAULTS: Defaults =
    Defaults { n_ctx: 2048, d_head: None, base: 10_000.0, tied: false };

pub(super) fn config(fields: &Fields, defaults: Defaults) -> Result<ModelConfig, Error> {
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let d_head = match fields.size_opt("head_dim")?.or(defaults.d_head) {
        Some(d_head) => d_head,
        None => share(fields, "num_attention_heads", d_model, n_heads)?,
    };
    let n_ctx = fields.size_opt("max_position_embeddings")?.unwrap_or(defaults.n_ctx);
    let n_ctx = within_original(fields, n_ctx)?;
    let n_layers = fields.layers("num_hidden_layers")?;
    let n_ctx = match slides(fields, n_layers)? {
        true => within_window(fields, n_ctx, Some(4096))?,
        false => n_ctx,
    };
    let attention_bias = fields.flag("attention_bias", false)?;
    Ok(ModelConfig {
        n_layers,
        d_model,
        n_heads,
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        n_ctx,
        d_vocab: fields.size("vocab_size")?,
        normalization: Normalization::RMS,
        layer_norm_eps: fields.number("rms_norm_eps", 1e-6)?,
        architecture: Architecture {
            positions: Positions::Rotary(rotary(
                fields,
                d_head,
                ("rope_theta", defaults.base),
                1.0,
            )?),
            n_key_value_heads: fields.size_opt("num_key_value_heads")?.unwrap_or(n_heads),
            act_fn: activation(fields, "hidden_act", "silu")?,
            gated_mlp: true,
            qkv_bias: attention_bias,
            out_bias: attention_bias,
            mlp_bias: fields.flag("mlp_bias", false)?,
            tied_embeddings: fields.flag("tie_word_embeddings", defaults.tied)?,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

/// Whether any layer attends within a window: the list of layers says so, or a flag with the first
/// layer that does.
fn slides(fields: &Fields, n_layers: usize) -> Result<bool, Error> {
    if let Some(kinds) = fields.texts_opt("layer_types")? {
        return Ok(kinds.contains(&"sliding_attention"));
    }
    let first = fields.size_opt("max_window_layers")?.unwrap_or(0);
    Ok(fields.flag("use_sliding_window", false)? && first < n_layers)
}

/// The context within which a window leaves nothing out: a model that attends within a window is
/// run as far as its window goes. `default` is the class's window, where the file does not say
/// whether there is one; one that is null is none.
pub(super) fn within_window(
    fields: &Fields,
    n_ctx: usize,
    default: Option<usize>,
) -> Result<usize, Error> {
    let window = match fields.says("sliding_window") {
        true => fields.size_opt("sliding_window")?,
        false => default,
    };
    Ok(window.filter(|&window| window > 0).map_or(n_ctx, |window| window.min(n_ctx)))
}

pub(super) fn from_gguf(
    header: &Header<'_>,
    common: ModelConfig,
    pairs: Pairs,
) -> Result<ModelConfig, Error> {
    Ok(ModelConfig {
        normalization: Normalization::RMS,
        layer_norm_eps: header.number("attention.layer_norm_rms_epsilon")?,
        architecture: Architecture {
            positions: Positions::Rotary(header.rotary(common.d_head, pairs)?),
            act_fn: Activation::Silu,
            gated_mlp: true,
            ..common.architecture
        },
        ..common
    })
}

pub(super) fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let &InFolder { config, prefix, .. } = source;
    let d_head = config.d_head;
    let in_layer = |tensor: &str, layout| Some(source.in_layer(tensor, layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(format!("{prefix}{tensor}"), layout));
    let (of_q, of_kv) = (config.n_heads * d_head, config.n_key_value_heads() * d_head);
    let rows = |rows| Layout::HeadRows { first: 0, stride: d_head, rows };
    let entries = |entries| Layout::HeadEntries { first: 0, stride: d_head, entries };
    match name {
        "embed.W_E" => outer("embed_tokens.weight", Layout::AsIs),
        "ln1.w" => in_layer("input_layernorm.weight", Layout::AsIs),
        "attn.W_Q" => in_layer("self_attn.q_proj.weight", rows(of_q)),
        "attn.W_K" => in_layer("self_attn.k_proj.weight", rows(of_kv)),
        "attn.W_V" => in_layer("self_attn.v_proj.weight", rows(of_kv)),
        "attn.b_Q" => in_layer("self_attn.q_proj.bias", entries(of_q)),
        "attn.b_K" => in_layer("self_attn.k_proj.bias", entries(of_kv)),
        "attn.b_V" => in_layer("self_attn.v_proj.bias", entries(of_kv)),
        "attn.W_O" => in_layer("self_attn.o_proj.weight", Layout::Transposed),
        "attn.b_O" => in_layer("self_attn.o_proj.bias", Layout::AsIs),
        "ln2.w" => in_layer("post_attention_layernorm.weight", Layout::AsIs),
        "mlp.W_gate" => in_layer("mlp.gate_proj.weight", Layout::Transposed),
        "mlp.b_gate" => in_layer("mlp.gate_proj.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("mlp.up_proj.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("mlp.up_proj.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("mlp.down_proj.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("mlp.down_proj.bias", Layout::AsIs),
        "ln_final.w" => outer("norm.weight", Layout::AsIs),
        "unembed.W_U" => Some(Recipe::new("lm_head.weight", Layout::Transposed)),
        _ => None,
    }
}

/// Biases of norms, which Llama does not have, by the names that others give them beside its own.
pub(super) fn norm_bias(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    Some(match name {
        "ln1.b" => source.in_layer("input_layernorm.bias", Layout::AsIs),
        "ln2.b" => source.in_layer("post_attention_layernorm.bias", Layout::AsIs),
        "ln_final.b" => Recipe::new(format!("{}norm.bias", source.prefix), Layout::AsIs),
        _ => return None,
    })
}
