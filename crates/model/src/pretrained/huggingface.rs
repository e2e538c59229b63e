//! HuggingFace's folders. Defaults are those of `transformers`' configuration classes, as files
//! leave out what equals them.

use std::path::Path;

use serde_json::json;

use super::{
    Pretrained,
    fields::Fields,
    name_of,
    recipe::{Layout, Recipe, gather},
    tensors::{Safetensors, Tensors},
};
use crate::{
    Activation, Architecture, Error, ModelConfig, Normalization, Pairs, Positions, Rotary,
    RotaryScaling,
};

pub(super) fn open(folder: &Path, fields: &Fields) -> Result<Pretrained, Error> {
    let family = fields.text("model_type")?;
    let config = match family {
        "gpt2" => gpt2(fields)?,
        "gpt_neox" => gpt_neox(fields)?,
        "llama" | "mistral" | "qwen2" => llama(fields, family)?,
        other => {
            let known = "gpt2, gpt_neox, llama, mistral, qwen2";
            return Err(fields.refuse(
                "model_type",
                format!("{other:?} is not an architecture known here: {known}"),
            ));
        }
    };
    let tensors = Safetensors::open(folder)?;
    // GPT-2's own files have no prefix; what `transformers` saves has one.
    let prefix = match family {
        "gpt2" if tensors.shape("wte.weight").is_none() => "transformer.",
        "gpt2" => "",
        "gpt_neox" => "gpt_neox.",
        _ => "model.",
    };
    let tied = config.architecture.tied_embeddings;
    let recipe = |layer: usize, name: &str| match family {
        "gpt2" => gpt2_recipe(&config, prefix, layer, name),
        "gpt_neox" => gpt_neox_recipe(&config, prefix, layer, name),
        _ => llama_recipe(&config, prefix, layer, name),
    };
    // Causal masks and rotary frequencies that older versions saved, and a second copy of tied
    // embeddings.
    let ignored = |name: &str| {
        let mask = [".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"];
        mask.iter().any(|end| name.ends_with(end))
            || name.ends_with("rotary_emb.inv_freq")
            || (tied && matches!(name, "lm_head.weight" | "embed_out.weight"))
    };
    let params = gather(&config, &tensors, recipe, ignored)?;
    Ok(Pretrained {
        name: name_of(folder),
        family: family.to_string(),
        encoding: tensors.encoding(),
        config,
        params,
    })
}

fn activation(fields: &Fields, field: &str, default: &str) -> Result<Activation, Error> {
    match fields.text_opt(field)?.unwrap_or(default) {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluNew),
        "silu" | "swish" => Ok(Activation::Silu),
        "relu" => Ok(Activation::Relu),
        other => Err(fields.refuse(
            field,
            format!("{other:?} is not known here, expected gelu, gelu_new, silu or relu"),
        )),
    }
}

/// `whole / parts`, which must come out even.
fn share(fields: &Fields, field: &str, whole: usize, parts: usize) -> Result<usize, Error> {
    match whole.checked_div(parts) {
        Some(share) if share * parts == whole => Ok(share),
        _ => {
            Err(fields.refuse(field, format!("{parts}, which does not divide {whole}, the width")))
        }
    }
}

fn gpt2(fields: &Fields) -> Result<ModelConfig, Error> {
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

fn gpt_neox(fields: &Fields) -> Result<ModelConfig, Error> {
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let d_head = share(fields, "num_attention_heads", d_model, n_heads)?;
    let attention_bias = fields.flag("attention_bias", true)?;
    Ok(ModelConfig {
        n_layers: fields.size("num_hidden_layers")?,
        d_model,
        n_heads,
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        n_ctx: fields.size_opt("max_position_embeddings")?.unwrap_or(2048),
        d_vocab: fields.size("vocab_size")?,
        layer_norm_eps: fields.number("layer_norm_eps", 1e-5)?,
        architecture: Architecture {
            positions: Positions::Rotary(rotary(fields, d_head, "rotary_emb_base", 0.25)?),
            act_fn: activation(fields, "hidden_act", "gelu")?,
            qkv_bias: attention_bias,
            out_bias: attention_bias,
            parallel: fields.flag("use_parallel_residual", true)?,
            tied_embeddings: fields.flag("tie_word_embeddings", false)?,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

/// Llama, and what differs from it in a bias or two.
fn llama(fields: &Fields, family: &str) -> Result<ModelConfig, Error> {
    let (d_model, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let d_head = match fields.size_opt("head_dim")? {
        Some(d_head) => d_head,
        None => share(fields, "num_attention_heads", d_model, n_heads)?,
    };
    let n_ctx = fields.size_opt("max_position_embeddings")?.unwrap_or(2048);
    // A window as long as the context leaves nothing out.
    let windowed = family == "mistral" || fields.flag("use_sliding_window", false)?;
    if let (true, Some(window)) = (windowed, fields.size_opt("sliding_window")?)
        && window < n_ctx
    {
        let reason =
            format!("{window}: attention within a window is not supported here, expected null");
        return Err(fields.refuse("sliding_window", reason));
    }
    let attention_bias = fields.flag("attention_bias", false)?;
    Ok(ModelConfig {
        n_layers: fields.size("num_hidden_layers")?,
        d_model,
        n_heads,
        d_head,
        d_mlp: fields.size("intermediate_size")?,
        n_ctx,
        d_vocab: fields.size("vocab_size")?,
        normalization: Normalization::RMS,
        layer_norm_eps: fields.number("rms_norm_eps", 1e-6)?,
        architecture: Architecture {
            positions: Positions::Rotary(rotary(fields, d_head, "rope_theta", 1.0)?),
            n_key_value_heads: fields.size_opt("num_key_value_heads")?.unwrap_or(n_heads),
            act_fn: activation(fields, "hidden_act", "silu")?,
            gated_mlp: true,
            qkv_bias: attention_bias || family == "qwen2",
            out_bias: attention_bias && family != "qwen2",
            mlp_bias: fields.flag("mlp_bias", false)?,
            tied_embeddings: fields.flag("tie_word_embeddings", false)?,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

/// Rotary positions: `rope_parameters` (transformers 5), or the older separate fields.
fn rotary(
    fields: &Fields,
    d_head: usize,
    base_field: &str,
    default_share: f64,
) -> Result<Rotary, Error> {
    let parameters = fields.inner("rope_parameters")?;
    let (base, share) = match &parameters {
        Some(new) => (
            new.number("rope_theta", 10_000.0)?,
            new.number("partial_rotary_factor", default_share)?,
        ),
        None => {
            let share_field =
                if fields.has("rotary_pct") { "rotary_pct" } else { "partial_rotary_factor" };
            (fields.number(base_field, 10_000.0)?, fields.number(share_field, default_share)?)
        }
    };
    let scaling = match parameters {
        Some(parameters) => Some(parameters),
        None => fields.inner("rope_scaling")?,
    };
    let kind = match &scaling {
        Some(scaling) => {
            scaling.text_opt("rope_type")?.or(scaling.text_opt("type")?).unwrap_or("default")
        }
        None => "default",
    };
    let scaling = match (kind, &scaling) {
        ("default", _) | (_, None) => None,
        ("linear", Some(scaling)) => {
            Some(RotaryScaling::Linear { factor: scaling.number("factor", f64::NAN)? })
        }
        ("llama3", Some(scaling)) => Some(RotaryScaling::Llama3 {
            factor: scaling.number("factor", f64::NAN)?,
            low_freq_factor: scaling.number("low_freq_factor", f64::NAN)?,
            high_freq_factor: scaling.number("high_freq_factor", f64::NAN)?,
            original_context: scaling.number("original_max_position_embeddings", f64::NAN)?,
        }),
        (other, Some(scaling)) => {
            let reason = format!("{other:?} is not known here, expected default, linear or llama3");
            return Err(scaling.refuse("rope_type", reason));
        }
    };
    Ok(Rotary { dim: (d_head as f64 * share) as usize, base, pairs: Pairs::Half, scaling })
}

fn gpt2_recipe(config: &ModelConfig, prefix: &str, l: usize, name: &str) -> Option<Recipe> {
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

fn gpt_neox_recipe(config: &ModelConfig, prefix: &str, l: usize, name: &str) -> Option<Recipe> {
    let (d_head, all) = (config.d_head, 3 * config.n_heads * config.d_head);
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}layers.{l}.{tensor}"), layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(format!("{prefix}{tensor}"), layout));
    // Head by head its query, key and value.
    let rows =
        |part: usize| Layout::HeadRows { first: part * d_head, stride: 3 * d_head, rows: all };
    let entries = |part: usize| Layout::HeadEntries {
        first: part * d_head,
        stride: 3 * d_head,
        entries: all,
    };
    match name {
        "embed.W_E" => outer("embed_in.weight", Layout::AsIs),
        "ln1.w" => in_layer("input_layernorm.weight", Layout::AsIs),
        "ln1.b" => in_layer("input_layernorm.bias", Layout::AsIs),
        "attn.W_Q" => in_layer("attention.query_key_value.weight", rows(0)),
        "attn.W_K" => in_layer("attention.query_key_value.weight", rows(1)),
        "attn.W_V" => in_layer("attention.query_key_value.weight", rows(2)),
        "attn.b_Q" => in_layer("attention.query_key_value.bias", entries(0)),
        "attn.b_K" => in_layer("attention.query_key_value.bias", entries(1)),
        "attn.b_V" => in_layer("attention.query_key_value.bias", entries(2)),
        "attn.W_O" => in_layer("attention.dense.weight", Layout::Transposed),
        "attn.b_O" => in_layer("attention.dense.bias", Layout::AsIs),
        "ln2.w" => in_layer("post_attention_layernorm.weight", Layout::AsIs),
        "ln2.b" => in_layer("post_attention_layernorm.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("mlp.dense_h_to_4h.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("mlp.dense_h_to_4h.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("mlp.dense_4h_to_h.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("mlp.dense_4h_to_h.bias", Layout::AsIs),
        "ln_final.w" => outer("final_layer_norm.weight", Layout::AsIs),
        "ln_final.b" => outer("final_layer_norm.bias", Layout::AsIs),
        "unembed.W_U" => Some(Recipe::new("embed_out.weight", Layout::Transposed)),
        _ => None,
    }
}

fn llama_recipe(config: &ModelConfig, prefix: &str, l: usize, name: &str) -> Option<Recipe> {
    let d_head = config.d_head;
    let in_layer =
        |tensor: &str, layout| Some(Recipe::new(format!("{prefix}layers.{l}.{tensor}"), layout));
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
