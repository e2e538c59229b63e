//! HuggingFace's folders.

use std::path::Path;

use serde_json::json;

use super::{
    SpecialTokens, Stored, Unread,
    families::{FAMILIES, HuggingFace, InFolder},
    fields::Fields,
    name_of,
    recipe::{Layout, Recipe},
    tensors::{Safetensors, Tensors},
};
use crate::{Activation, Error, ModelConfig, Pairs, Rotary, RotaryScaling};

pub(super) fn open(folder: &Path, fields: &Fields) -> Result<Unread, Error> {
    let model_type = fields.text("model_type")?;
    let known = FAMILIES.iter().map(|family| &family.huggingface);
    let Some(family) = known.clone().find(|family| family.model_type == model_type) else {
        let known: Vec<&str> = known.map(|family| family.model_type).collect();
        let known = known.join(", ");
        return Err(fields.refuse(
            "model_type",
            format!("{model_type:?} is not an architecture known here: {known}"),
        ));
    };
    // It is the attention of all families here.
    fields.only("is_causal", &json!(true))?;
    let mut config = (family.config)(fields)?;
    let tensors = Safetensors::open(folder, scale_block(fields)?)?;
    let (mut notes, mut own_head) = (Vec::new(), false);
    // Bloom's is always its embedding.
    let is_tied = config.architecture.tied_embeddings || model_type == "bloom";
    if is_tied && has_own_unembedding(family, fields, &config, &tensors)? {
        config.architecture.tied_embeddings = false;
        own_head = true;
        notes.push(
            "its configuration says that embedding and unembedding are one (tie_word_embeddings), and its file has an unembedding of other values: that one is used, as `transformers` does".to_string(),
        );
    }
    let prefix = prefix_of(family, fields, &config, &tensors);
    let recipe = |tensors: &dyn Tensors, layer: usize, name: &str| match name {
        "unembed.W_U" if own_head => own_head_of(tensors),
        _ => (family.recipe)(&InFolder { config: &config, fields, prefix, layer }, name),
    };
    // Causal masks and rotary frequencies that older versions saved, and a second copy of tied
    // embeddings (an unembedding of its own would be used).
    let ignored = |name: &str| {
        let mask = [".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"];
        mask.iter().any(|end| name.ends_with(end))
            || ["inv_freq", "cos_cached", "sin_cached"]
                .iter()
                .any(|end| name.ends_with(&format!("rotary_emb.{end}")))
            // A second head, which gives a value to a text.
            || name.starts_with("v_head.")
            // How coarse what is multiplied with weights of 8 bits was made: here it is not.
            || name.ends_with(".input_scale")
            || matches!(name, "lm_head.weight" | "embed_out.weight")
    };
    let stored = Stored::new(&config, Box::new(tensors), recipe, ignored)?;
    let unread = Unread::of(name_of(folder), model_type.to_string(), config, stored);
    let declared = ["max_position_embeddings", "n_positions", "seq_length"]
        .iter()
        .find_map(|field| fields.size_opt(field).ok().flatten());
    let declared_ctx = declared.unwrap_or_default().max(unread.declared_ctx);
    Ok(Unread { declared_ctx, special: special(fields), notes, ..unread })
}

/// What stands before the names of tensors: the first with which the embedding is found. A base
/// model that is saved without its head has nothing there.
fn prefix_of(
    family: &HuggingFace,
    fields: &Fields,
    config: &ModelConfig,
    tensors: &Safetensors,
) -> &'static str {
    let holds_embedding = |prefix: &&str| {
        let source = InFolder { config, fields, prefix, layer: 0 };
        (family.recipe)(&source, "embed.W_E")
            .is_some_and(|recipe| tensors.shape(&recipe.tensor).is_some())
    };
    let all = family.prefixes.iter().copied().chain([""]);
    all.clone().find(holds_embedding).or(family.prefixes.last().copied()).unwrap_or_default()
}

/// An unembedding of the file's own.
fn own_head_of(tensors: &dyn Tensors) -> Option<Recipe> {
    let head = ["lm_head.weight", "embed_out.weight"].into_iter();
    head.filter(|name| tensors.shape(name).is_some())
        .map(|name| Recipe::new(name, Layout::Transposed))
        .next()
}

/// Whether there is an unembedding beside the embedding that it is said to be, and it is not: then
/// it was trained.
fn has_own_unembedding(
    family: &HuggingFace,
    fields: &Fields,
    config: &ModelConfig,
    tensors: &Safetensors,
) -> Result<bool, Error> {
    let prefix = prefix_of(family, fields, config, tensors);
    let source = InFolder { config, fields, prefix, layer: 0 };
    let (Some(embedding), Some(unembedding)) =
        ((family.recipe)(&source, "embed.W_E"), own_head_of(tensors))
    else {
        return Ok(false);
    };
    let shapes = [&embedding, &unembedding].map(|recipe| tensors.shape(&recipe.tensor));
    let [Some(shape), Some(other)] = shapes else { return Ok(false) };
    if shape != other {
        return Ok(true);
    }
    const ROWS: usize = 1024;
    for from in (0..shape[0]).step_by(ROWS) {
        let rows = from..shape[0].min(from + ROWS);
        let read = |recipe: &Recipe| tensors.read_rows(&recipe.tensor, rows.clone());
        if read(&embedding)? != read(&unembedding)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a configuration says of special tokens; a field may hold one id or several.
fn special(fields: &Fields) -> SpecialTokens {
    let of = |field: &str| -> Vec<u32> {
        let one = fields.size_opt(field).ok().flatten().map(|id| vec![id]);
        let ids = one.or_else(|| fields.sizes_opt(field).ok().flatten()).unwrap_or_default();
        ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect()
    };
    let bos = of("bos_token_id").first().copied();
    let ids = ["bos_token_id", "eos_token_id", "pad_token_id"].into_iter().flat_map(of).collect();
    SpecialTokens { bos, ids }
}

/// The blocks that have a scale of their own, of weights of 8 bits. What else a folder's weights
/// may be packed into is refused.
fn scale_block(fields: &Fields) -> Result<Option<[usize; 2]>, Error> {
    if fields.has("quantization") {
        let reason = "MLX's packed weights are not read here; fetch the model that it was converted from, or its GGUF file";
        return Err(fields.refuse("quantization", reason));
    }
    let Some(found) = fields.inner("quantization_config")? else { return Ok(None) };
    let method = found.text_opt("quant_method")?.unwrap_or("of no name");
    let format = found.text_opt("format")?.unwrap_or_default();
    if !(method == "fp8" || method == "compressed-tensors" && format == "float-quantized") {
        let name = match method {
            "gptq" => "GPTQ's",
            "awq" => "AWQ's",
            "bitsandbytes" => "bitsandbytes'",
            other => &format!("{other:?}"),
        };
        let reason = format!(
            "{name} packed weights are not read here; fetch the model that was quantized, or its GGUF file"
        );
        return Err(found.refuse("quant_method", reason));
    }
    match found.sizes_opt("weight_block_size")?.as_deref() {
        None => Ok(Some([128; 2])),
        Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok(Some([rows, columns])),
        Some(other) => {
            Err(found.refuse("weight_block_size", format!("{other:?}, expected two numbers")))
        }
    }
}

pub(super) fn activation(fields: &Fields, field: &str, default: &str) -> Result<Activation, Error> {
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
pub(super) fn share(
    fields: &Fields,
    field: &str,
    whole: usize,
    parts: usize,
) -> Result<usize, Error> {
    match whole.checked_div(parts) {
        Some(share) if share * parts == whole => Ok(share),
        _ => {
            Err(fields.refuse(field, format!("{parts}, which does not divide {whole}, the width")))
        }
    }
}

/// Rotary positions: `rope_parameters` (transformers 5), or the older separate fields: the base in
/// a field of this name, which has this default, and the share of each head that is turned.
pub(super) fn rotary(
    fields: &Fields,
    d_head: usize,
    (base_field, default_base): (&str, f64),
    default_share: f64,
) -> Result<Rotary, Error> {
    let share_field = fields.either(&["rotary_pct", "partial_rotary_factor"])?;
    let base = fields.number(base_field, default_base)?;
    let share = fields.number(share_field, default_share)?;
    let scaling = within_rotary(fields)?;
    if let Some(within) = &scaling {
        within.agrees("rope_theta", fields, base_field)?;
        within.agrees("partial_rotary_factor", fields, share_field)?;
    }
    rotary_of(fields, scaling, d_head, base, share)
}

/// What is said of rotary positions in an object of its own: by the older of its two names, as
/// `transformers` takes them, if there are both. They must agree.
fn within_rotary(fields: &Fields) -> Result<Option<Fields>, Error> {
    let (older, newer) = (fields.inner("rope_scaling")?, fields.inner("rope_parameters")?);
    if let (Some(older), Some(newer)) = (&older, &newer) {
        for field in newer.names() {
            older.agrees(field, newer, field)?;
        }
        older.agrees("type", newer, "rope_type")?;
    }
    Ok(older.or(newer))
}

/// Rotary positions by what is within `rope_parameters`, if it is there.
pub(super) fn rotary_of(
    fields: &Fields,
    scaling: Option<Fields>,
    d_head: usize,
    base: f64,
    share: f64,
) -> Result<Rotary, Error> {
    let (base, share) = match &scaling {
        Some(new) => (new.number("rope_theta", base)?, new.number("partial_rotary_factor", share)?),
        None => (base, share),
    };
    let kind = match &scaling {
        Some(scaling) => {
            scaling.text_opt("rope_type")?.or(scaling.text_opt("type")?).unwrap_or("default")
        }
        None => "default",
    };
    let mut attention_factor = None;
    let scaling = match (kind, &scaling) {
        // The dynamic one changes nothing within the context.
        ("default" | "dynamic", _) | (_, None) => None,
        ("yarn", Some(scaling)) => {
            let original_context = original_number(fields, scaling)?;
            let factor = match scaling.number_opt("factor")? {
                Some(factor) => factor,
                None => fields.number_there("max_position_embeddings")? / original_context,
            };
            let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
            let [given, mscale, all] = ["attention_factor", "mscale", "mscale_all_dim"]
                .map(|field| scaling.number_opt(field));
            attention_factor = Some(match (given?, mscale?, all?) {
                (Some(given), _, _) => given,
                (None, Some(m), Some(all)) if m != 0.0 && all != 0.0 => scale(m) / scale(all),
                _ => scale(1.0),
            });
            Some(RotaryScaling::Yarn {
                factor,
                beta_fast: scaling.number("beta_fast", 32.0)?,
                beta_slow: scaling.number("beta_slow", 1.0)?,
                original_context,
                truncate: scaling.flag("truncate", true)?,
            })
        }
        ("longrope" | "su", Some(scaling)) => {
            let original = original_context(fields, scaling)?;
            let factor = match scaling.number_opt("factor")? {
                Some(factor) => factor,
                None => fields.number_there("max_position_embeddings")? / original as f64,
            };
            attention_factor = Some(match scaling.number_opt("attention_factor")? {
                Some(given) => given,
                None if factor <= 1.0 => 1.0,
                None => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
            });
            // Those of a text within the first context, which `within_original` sees to.
            let by = scaling.numbers("short_factor")?.into_iter().map(|x| x as f32).collect();
            Some(RotaryScaling::Divisors { by })
        }
        ("linear", Some(scaling)) => {
            Some(RotaryScaling::Linear { factor: scaling.number_there("factor")? })
        }
        ("llama3", Some(scaling)) => Some(RotaryScaling::Llama3 {
            factor: scaling.number_there("factor")?,
            low_freq_factor: scaling.number_there("low_freq_factor")?,
            high_freq_factor: scaling.number_there("high_freq_factor")?,
            original_context: original_number(fields, scaling)?,
        }),
        (other, Some(scaling)) => {
            let reason = format!(
                "{other:?} is not known here, expected default, linear, dynamic, llama3, yarn or longrope"
            );
            return Err(scaling.refuse("rope_type", reason));
        }
    };
    let (dim, pairs) = ((d_head as f64 * share) as usize, Pairs::Half);
    Ok(Rotary {
        dim,
        base,
        pairs,
        scaling,
        attention_factor: attention_factor.filter(|&x| x != 1.0),
    })
}

const ORIGINAL: &str = "original_max_position_embeddings";

/// The context before it was made longer: within `rope_parameters`, or beside it.
fn original_context(fields: &Fields, scaling: &Fields) -> Result<usize, Error> {
    match scaling.size_opt(ORIGINAL)? {
        Some(original) => Ok(original),
        None => fields.size(ORIGINAL),
    }
}

/// The same where it may also be the context that the file gives, as `transformers` takes it.
fn original_number(fields: &Fields, scaling: &Fields) -> Result<f64, Error> {
    let beside = fields.number_opt(ORIGINAL)?.or(fields.number_opt("max_position_embeddings")?);
    match scaling.number_opt(ORIGINAL)?.or(beside) {
        Some(original) => Ok(original),
        None => scaling.number_there(ORIGINAL),
    }
}

/// The context within which one set of wavelengths holds, where a model has another for longer
/// texts.
pub(super) fn within_original(fields: &Fields, n_ctx: usize) -> Result<usize, Error> {
    for field in ["rope_scaling", "rope_parameters"] {
        let Some(scaling) = fields.inner(field)? else { continue };
        if ["rope_type", "type"].iter().any(|t| scaling.is(t, "longrope") || scaling.is(t, "su")) {
            return Ok(n_ctx.min(original_context(fields, &scaling)?));
        }
    }
    Ok(n_ctx)
}
