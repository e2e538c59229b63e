//! GGUF files, with the names that llama.cpp gives to metadata and tensors.

use std::path::Path;

use induction_gguf::Gguf;

use super::{
    Pretrained, name_of,
    recipe::{Layout, Recipe, gather},
    tensors::Tensors,
};
use crate::{
    Activation, Architecture, Error, ModelConfig, Normalization, Pairs, Positions, Rotary,
    RotaryScaling,
};

pub(super) fn open(path: &Path) -> Result<Pretrained, Error> {
    let file = Gguf::open(path)?;
    let family = file.string("general.architecture")?.to_string();
    let config = match family.as_str() {
        "llama" | "qwen2" | "gpt2" | "gptneox" => configuration(&file, &family)?,
        other => {
            let reason = format!(
                "general.architecture: {other:?} is not an architecture known here: llama, qwen2, gpt2, gptneox"
            );
            return Err(Error::Format { path: path.to_path_buf(), reason });
        }
    };
    let recipe = |layer: usize, name: &str| recipe(&config, layer, name);
    let params = gather(&config, &file, recipe, |name| name == "rope_freqs.weight")?;
    let name = name_of(path);
    Ok(Pretrained { name, family, encoding: file.encoding(), config, params })
}

fn configuration(file: &Gguf, family: &str) -> Result<ModelConfig, Error> {
    let key = |field: &str| format!("{family}.{field}");
    let refuse = |field: &str, reason: String| Error::Format {
        path: file.path().to_path_buf(),
        reason: format!("{}: {reason}", key(field)),
    };
    let size_opt = |field: &str| -> Result<Option<usize>, Error> {
        let Some(n) = file.unsigned_opt(&key(field))? else { return Ok(None) };
        let fits = usize::try_from(n).ok().filter(|&n| n <= 1 << 31);
        fits.map(Some).ok_or_else(|| refuse(field, format!("{n}, expected at most 2^31")))
    };
    let size = |field: &str| -> Result<usize, Error> {
        size_opt(field)?.ok_or_else(|| refuse(field, "missing, expected a whole number".into()))
    };
    let (d_model, n_heads) = (size("embedding_length")?, size("attention.head_count")?);
    let d_head = match size_opt("attention.key_length")? {
        Some(d_head) => d_head,
        None if n_heads > 0 && d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => {
            return Err(refuse(
                "attention.head_count",
                format!("{n_heads}, which does not divide {d_model}, the width"),
            ));
        }
    };
    if let Some(value) = size_opt("attention.value_length")?
        && value != d_head
    {
        return Err(refuse(
            "attention.value_length",
            format!("{value}, expected {d_head}, as keys have"),
        ));
    }
    for field in ["expert_count", "attention.sliding_window"] {
        if let Some(n) = size_opt(field)?.filter(|&n| n > 0) {
            return Err(refuse(field, format!("{n} is not supported here, expected nothing")));
        }
    }
    let embedding = Tensors::shape(file, "token_embd.weight").map(<[usize]>::to_vec);
    let Some(&[d_vocab, _]) = embedding.as_deref() else {
        let reason =
            "tensor token_embd.weight is missing, or no matrix: expected [d_vocab, d_model]"
                .to_string();
        return Err(Error::Format { path: file.path().to_path_buf(), reason });
    };
    if let Some(said) = size_opt("vocab_size")?
        && said != d_vocab
    {
        return Err(refuse(
            "vocab_size",
            format!("{said}, but token_embd.weight has {d_vocab} rows"),
        ));
    }
    let has = |tensor: &str| file.tensor(tensor).is_some();
    let eps = |kind: &str| file.float(&key(&format!("attention.{kind}")));
    let llama_like = matches!(family, "llama" | "qwen2");
    let eps = if llama_like { eps("layer_norm_rms_epsilon")? } else { eps("layer_norm_epsilon")? };
    let positions = match family {
        "gpt2" => Positions::Learned,
        // Queries and keys of Llama models are written in an order that makes pairs neighbours.
        "llama" => Positions::Rotary(rotary(file, family, d_head, Pairs::Adjacent)?),
        _ => Positions::Rotary(rotary(file, family, d_head, Pairs::Half)?),
    };
    Ok(ModelConfig {
        n_layers: size("block_count")?,
        d_model,
        n_heads,
        d_head,
        d_mlp: size("feed_forward_length")?,
        n_ctx: size("context_length")?,
        d_vocab,
        normalization: if llama_like { Normalization::RMS } else { Normalization::LN },
        layer_norm_eps: eps,
        architecture: Architecture {
            positions,
            n_key_value_heads: size_opt("attention.head_count_kv")?.unwrap_or(n_heads),
            act_fn: match family {
                "gpt2" => Activation::GeluNew,
                "gptneox" => Activation::Gelu,
                _ => Activation::Silu,
            },
            gated_mlp: llama_like,
            qkv_bias: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
            out_bias: has("blk.0.attn_output.bias"),
            mlp_bias: has("blk.0.ffn_down.bias"),
            unembed_bias: false,
            parallel: family == "gptneox"
                && file.bool_opt(&key("use_parallel_residual"))?.unwrap_or(true),
            tied_embeddings: !has("output.weight"),
        },
        ..ModelConfig::default()
    })
}

fn rotary(file: &Gguf, family: &str, d_head: usize, pairs: Pairs) -> Result<Rotary, Error> {
    let key = |field: &str| format!("{family}.rope.{field}");
    let refuse = |field: &str, reason: String| Error::Format {
        path: file.path().to_path_buf(),
        reason: format!("{}: {reason}", key(field)),
    };
    let dim = file
        .unsigned_opt(&key("dimension_count"))?
        .map_or(d_head, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let base = file.float_opt(&key("freq_base"))?.unwrap_or(10_000.0);
    let factor = match file.float_opt(&key("scaling.factor"))? {
        Some(factor) => Some(factor),
        None => file.float_opt(&key("scale_linear"))?,
    };
    let kind = file.string_opt(&key("scaling.type"))?;
    let scaling = match (kind, factor) {
        (Some("linear") | None, Some(factor)) => Some(RotaryScaling::Linear { factor }),
        (Some("none") | None, _) => None,
        (Some("linear"), None) => {
            return Err(refuse("scaling.factor", "missing, expected a number".into()));
        }
        (Some(other), _) => {
            return Err(refuse(
                "scaling.type",
                format!("{other:?} is not known here, expected none or linear"),
            ));
        }
    };
    let scaling = match file.tensor("rope_freqs.weight") {
        None => scaling,
        Some(tensor) if tensor.elements() == dim / 2 && scaling.is_none() => {
            Some(RotaryScaling::Divisors { by: file.read("rope_freqs.weight")? })
        }
        Some(tensor) => {
            let reason = format!(
                "tensor rope_freqs.weight has {} values, expected {}, and no other scaling beside it",
                tensor.elements(),
                dim / 2
            );
            return Err(Error::Format { path: file.path().to_path_buf(), reason });
        }
    };
    Ok(Rotary { dim, base, pairs, scaling })
}

fn recipe(config: &ModelConfig, l: usize, name: &str) -> Option<Recipe> {
    let a = &config.architecture;
    let in_layer = |tensor: &str, layout| Some(Recipe::new(format!("blk.{l}.{tensor}"), layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(tensor, layout));
    // GPT-2 and GPT-NeoX have queries, keys and values in one tensor, one after the other.
    let one = !a.gated_mlp;
    let (of_q, of_kv) =
        (config.n_heads * config.d_head, config.n_key_value_heads() * config.d_head);
    let part = |which: &str| match (which, one) {
        ("q", true) => ("attn_qkv".to_string(), 0, of_q + 2 * of_kv),
        ("k", true) => ("attn_qkv".to_string(), of_q, of_q + 2 * of_kv),
        ("v", true) => ("attn_qkv".to_string(), of_q + of_kv, of_q + 2 * of_kv),
        ("q", false) => ("attn_q".to_string(), 0, of_q),
        (which, _) => (format!("attn_{which}"), 0, of_kv),
    };
    let weight = |which: &str| {
        let (tensor, first, rows) = part(which);
        in_layer(
            &format!("{tensor}.weight"),
            Layout::HeadRows { first, stride: config.d_head, rows },
        )
    };
    let bias = |which: &str| {
        let (tensor, first, entries) = part(which);
        in_layer(
            &format!("{tensor}.bias"),
            Layout::HeadEntries { first, stride: config.d_head, entries },
        )
    };
    match name {
        "embed.W_E" => outer("token_embd.weight", Layout::AsIs),
        "pos_embed.W_pos" => outer("position_embd.weight", Layout::AsIs),
        "ln1.w" => in_layer("attn_norm.weight", Layout::AsIs),
        "ln1.b" => in_layer("attn_norm.bias", Layout::AsIs),
        "attn.W_Q" => weight("q"),
        "attn.W_K" => weight("k"),
        "attn.W_V" => weight("v"),
        "attn.b_Q" => bias("q"),
        "attn.b_K" => bias("k"),
        "attn.b_V" => bias("v"),
        "attn.W_O" => in_layer("attn_output.weight", Layout::Transposed),
        "attn.b_O" => in_layer("attn_output.bias", Layout::AsIs),
        "ln2.w" => in_layer("ffn_norm.weight", Layout::AsIs),
        "ln2.b" => in_layer("ffn_norm.bias", Layout::AsIs),
        "mlp.W_gate" => in_layer("ffn_gate.weight", Layout::Transposed),
        "mlp.b_gate" => in_layer("ffn_gate.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("ffn_up.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("ffn_up.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("ffn_down.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("ffn_down.bias", Layout::AsIs),
        "ln_final.w" => outer("output_norm.weight", Layout::AsIs),
        "ln_final.b" => outer("output_norm.bias", Layout::AsIs),
        "unembed.W_U" => outer("output.weight", Layout::Transposed),
        _ => None,
    }
}
