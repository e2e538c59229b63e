//! A `HookedTransformer` of TransformerLens 3.x: `config.json` with its configuration's fields,
//! `model.safetensors` with its state dictionary. What `induction export --format transformer-lens`
//! writes can be read again.

use std::{path::Path, sync::Arc};

use ndarray::{Ix1, Ix2};
use serde_json::json;

use super::{
    Stored, Unread,
    fields::Fields,
    name_of,
    recipe::{Layout, Recipe},
    tensors::{Safetensors, Tensors},
};
use crate::{
    Activation, Architecture, Error, ModelConfig, Normalization, Pairs, Params, Positions, QkNorm,
    ReadParams, Rotary,
};

pub(super) fn open(folder: &Path, fields: &Fields) -> Result<Unread, Error> {
    let config = configuration(fields)?;
    let tensors = Safetensors::open(folder, None)?;
    let recipe =
        |tensors: &dyn Tensors, layer: usize, name: &str| recipe(&config, tensors, layer, name);
    // Constants that a state dictionary carries along.
    let ignored = |name: &str| {
        [".mask", ".IGNORE", ".rotary_sin", ".rotary_cos"].iter().any(|end| name.ends_with(end))
    };
    let stored = Stored::new(&config, Box::new(tensors), recipe, ignored)?;
    let (name, family) = (name_of(folder), "TransformerLens".to_string());
    if !config.architecture.gated_mlp {
        return Ok(Unread::of(name, family, config, stored));
    }
    let mut params = stored.load(&config)?;
    move_gated_biases(&config, &mut params);
    Ok(Unread { weights: Arc::new(params), ..Unread::of(name, family, config, stored) })
}

fn configuration(fields: &Fields) -> Result<ModelConfig, Error> {
    for (field, expected) in [
        ("use_attn_scale", json!(true)),
        ("use_local_attn", json!(false)),
        ("scale_attn_by_inverse_layer_idx", json!(false)),
        ("attention_dir", json!("causal")),
        ("use_logn_attn", json!(false)),
        ("post_embedding_ln", json!(false)),
        ("use_normalization_before_and_after", json!(false)),
        ("attn_scores_soft_cap", json!(-1)),
        ("output_logits_soft_cap", json!(-1)),
        ("use_NTK_by_parts_rope", json!(false)),
        ("use_yarn_rope", json!(false)),
        ("use_dynamic_ntk_rope", json!(false)),
        ("use_attention_sinks", json!(false)),
        ("rotary_scaling_factor", json!(1)),
        ("final_rms", json!(false)),
    ] {
        fields.only(field, &expected)?;
    }
    for field in ["num_experts", "clip_qkv"] {
        if fields.has(field) {
            return Err(fields.refuse(field, "not supported here, expected null"));
        }
    }
    let (n_heads, d_head) = (fields.size("n_heads")?, fields.size("d_head")?);
    let scale = fields.number("attn_scale", (d_head as f64).sqrt())?;
    if scale > 0.0 && (scale - (d_head as f64).sqrt()).abs() > 1e-6 * scale {
        return Err(fields.refuse("attn_scale", format!("{scale}, expected the root of d_head")));
    }
    let attn_only = fields.flag("attn_only", false)?;
    let d_vocab = fields.size("d_vocab")?;
    if fields.size_opt("d_vocab_out")?.is_some_and(|out| out != d_vocab) {
        return Err(fields.refuse("d_vocab_out", format!("expected {d_vocab}, as d_vocab")));
    }
    let positions = match fields.text("positional_embedding_type")? {
        "standard" => Positions::Learned,
        "shortformer" => Positions::Shortformer,
        "rotary" => {
            let adjacent = fields.flag("rotary_adjacent_pairs", false)?;
            Positions::Rotary(Rotary {
                dim: fields.size_opt("rotary_dim")?.unwrap_or(d_head),
                base: fields.number("rotary_base", 10_000.0)?,
                pairs: if adjacent { Pairs::Adjacent } else { Pairs::Half },
                scaling: None,
                attention_factor: None,
            })
        }
        other => {
            let reason =
                format!("{other:?} is not known here, expected standard, shortformer or rotary");
            return Err(fields.refuse("positional_embedding_type", reason));
        }
    };
    let normalization = match fields.text_opt("normalization_type")? {
        None => Normalization::None,
        Some("LN" | "LNPre") => Normalization::LN,
        Some("RMS" | "RMSPre") => Normalization::RMS,
        Some(other) => {
            let reason =
                format!("{other:?} is not known here, expected LN, LNPre, RMS, RMSPre or null");
            return Err(fields.refuse("normalization_type", reason));
        }
    };
    let act_fn = match fields.text_opt("act_fn")? {
        _ if attn_only => Activation::Gelu,
        Some("gelu") => Activation::Gelu,
        Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh") => Activation::GeluNew,
        Some("silu") => Activation::Silu,
        Some("relu") => Activation::Relu,
        other => {
            let reason =
                format!("{other:?} is not known here, expected gelu, gelu_new, silu or relu");
            return Err(fields.refuse("act_fn", reason));
        }
    };
    Ok(ModelConfig {
        n_layers: fields.size("n_layers")?,
        d_model: fields.size("d_model")?,
        n_heads,
        d_head,
        d_mlp: if attn_only { 0 } else { fields.size("d_mlp")? },
        n_ctx: fields.size("n_ctx")?,
        d_vocab,
        normalization,
        layer_norm_eps: fields.number("eps", 1e-5)?,
        architecture: Architecture {
            positions,
            n_key_value_heads: fields.size_opt("n_key_value_heads")?.unwrap_or(n_heads),
            act_fn,
            gated_mlp: !attn_only && fields.flag("gated_mlp", false)?,
            qkv_bias: true,
            qk_norm: if fields.flag("use_qk_norm", false)? { QkNorm::Head } else { QkNorm::None },
            out_bias: true,
            mlp_bias: true,
            unembed_bias: true,
            parallel: !attn_only && fields.flag("parallel_attn_mlp", false)?,
            // Its state has both matrices, whatever they were tied to in training.
            tied_embeddings: false,
            ..Architecture::default()
        },
        ..ModelConfig::default()
    })
}

/// TransformerLens adds `b_in` of a gated MLP after the gate, `(act(x W_gate) * (x W_in) + b_in)
/// W_out + b_out`, others before it: what it then writes is a part of `b_out`.
fn move_gated_biases(config: &ModelConfig, params: &mut Params) {
    for layer in 0..config.n_layers {
        let name = |part: &str| format!("blocks.{layer}.mlp.{part}");
        let parts = [name("b_in"), name("W_out")].map(|name| params.get(&name).cloned());
        let [Some(b_in), Some(w_out)] = parts else { continue };
        let row = b_in.into_dimensionality::<Ix1>().expect("a bias is a row").mapv(f64::from);
        let w_out = w_out.into_dimensionality::<Ix2>().expect("a matrix").mapv(f64::from);
        if let Some(b_out) = params.get_mut(&name("b_out")) {
            for (out, moved) in b_out.iter_mut().zip(row.dot(&w_out)) {
                *out = (f64::from(*out) + moved) as f32;
            }
        }
        if let Some(b_in) = params.get_mut(&name("b_in")) {
            b_in.fill(0.0);
        }
    }
}

/// Names and shapes are ours.
fn recipe(config: &ModelConfig, tensors: &dyn Tensors, l: usize, name: &str) -> Option<Recipe> {
    let whole = |name: &str| match name.split_once('.') {
        Some(("embed" | "pos_embed" | "unembed" | "ln_final", _)) => name.to_string(),
        _ => format!("blocks.{l}.{name}"),
    };
    let shared = config.n_key_value_heads() != config.n_heads;
    let tensor = match name {
        "attn.W_K" | "attn.W_V" | "attn.b_K" | "attn.b_V" if shared => {
            whole(&name.replace("attn.", "attn._"))
        }
        _ => whole(name),
    };
    // A norm without gain, which folding leaves, and biases that a gated MLP lacks.
    if tensors.shape(&tensor).is_none() {
        return match name {
            "ln1.w" | "ln2.w" | "ln_final.w" => Some(Recipe::constant(1)),
            "ln1.b" | "ln2.b" | "ln_final.b" | "mlp.b_gate" | "mlp.b_in" | "mlp.b_out" => {
                Some(Recipe::constant(0))
            }
            _ => Some(Recipe::new(tensor, Layout::Whole)),
        };
    }
    Some(Recipe::new(tensor, Layout::Whole))
}
