use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use serde_json::{Value, json};

use crate::{
    Error, ModelConfig, Normalization, Pairs, Params, Positions, QkNorm, sinusoidal_positions,
    write_safetensors,
};

/// A model in TransformerLens' layout: `config.json` with `HookedTransformerConfig`'s field names
/// and `model.safetensors` with its state-dict names and shapes (TransformerLens 3.x). Returns the
/// two files' contents.
///
/// The family's positions are TransformerLens' "shortformer" positions, but for the learned gain
/// `g` of each layer, which is folded in exactly: `LN(x) + g p = g (LN(x) / g + p)`, so layer
/// norm's gain and bias are divided by `g`, and `W_Q`, `W_K`, `W_V` multiplied by it. Rotary
/// positions have no gain; a tied unembedding is written out.
///
/// # Errors
/// [`Error::Export`] for what TransformerLens cannot express: smeared keys, a clamp, a gain of 0, a
/// gain without a norm, scaled rotary positions; [`Error::NotTheFamily`]; a configuration that is not valid; parameters
/// that are not this configuration's.
pub fn export_transformer_lens(
    config: &ModelConfig,
    params: &Params,
) -> Result<[(&'static str, Vec<u8>); 2], Error> {
    config.validate()?;
    config.require_trainable("this export")?;
    params.check(config)?;
    let cannot = |what: String| Error::Export { target: "TransformerLens", what };
    if config.smeared_keys {
        return Err(cannot("smeared keys; use `induction scan` on the run itself".into()));
    }
    if !config.clamp.is_empty() {
        return Err(cannot("a clamp; use `induction scan` on the run itself".into()));
    }
    let rotary = match &config.architecture.positions {
        Positions::Rotary(rotary) => Some(rotary),
        _ => None,
    };
    if rotary.is_some_and(|r| r.scaling.is_some() || r.attention_factor.is_some_and(|f| f != 1.0)) {
        return Err(cannot("scaled rotary positions".into()));
    }
    let (heads, d_model, d_head, d_vocab) =
        (config.n_heads, config.d_model, config.d_head, config.d_vocab);
    let mut state: BTreeMap<String, ArrayD<f32>> = params
        .iter()
        .filter(|(name, _)| !name.ends_with("pos_gain"))
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect();
    for l in 0..config.n_layers {
        // Without one there is nothing to fold.
        let gain = params.block(l).pos_gain().unwrap_or(1.0);
        match config.normalization {
            Normalization::LN | Normalization::RMS if !(1.0 / gain).is_finite() => {
                return Err(cannot(format!(
                    "a positional gain of {gain} (layer {l}), which it would have to divide by"
                )));
            }
            Normalization::None if gain != 1.0 => {
                return Err(cannot(format!(
                    "a positional gain of {gain} (layer {l}) in a model without layer norm"
                )));
            }
            Normalization::None => {}
            Normalization::LN | Normalization::RMS => {
                for name in ["ln1.w", "ln1.b"] {
                    // Of root mean squares there is no bias.
                    if let Some(value) = state.get_mut(&format!("blocks.{l}.{name}")) {
                        *value /= gain;
                    }
                }
                for name in ["W_Q", "W_K", "W_V"] {
                    *state
                        .get_mut(&format!("blocks.{l}.attn.{name}"))
                        .expect("attention has all") *= gain;
                }
            }
        }
        let mut zeros = |name: &str, shape: &[usize]| {
            state.insert(format!("blocks.{l}.attn.{name}"), ArrayD::zeros(IxDyn(shape)))
        };
        for name in ["b_Q", "b_K", "b_V"] {
            zeros(name, &[heads, d_head]);
        }
        zeros("b_O", &[d_model]);
    }
    state.insert("unembed.b_U".into(), ArrayD::zeros(IxDyn(&[d_vocab])));
    state.insert("unembed.W_U".into(), params.unembedding().to_owned().into_dyn());
    if rotary.is_none() {
        let positions = sinusoidal_positions(config.n_ctx, d_model, config.position_base);
        state.insert("pos_embed.W_pos".into(), positions.mapv(|x| x as f32).into_dyn());
    }

    let mut json = json!({
        "n_layers": config.n_layers,
        "d_model": d_model,
        "n_ctx": config.n_ctx,
        "d_head": d_head,
        "n_heads": heads,
        "d_vocab": d_vocab,
        "d_mlp": if config.attn_only() { Value::Null } else { json!(config.d_mlp) },
        "act_fn": "gelu",
        "attn_only": config.attn_only(),
        "normalization_type": match config.normalization {
            Normalization::LN => json!("LN"),
            Normalization::RMS => json!("RMS"),
            Normalization::None => Value::Null,
        },
        "eps": config.layer_norm_eps,
        "positional_embedding_type": "shortformer",
        "attention_dir": "causal",
        "use_attn_scale": true,
        "d_vocab_out": d_vocab,
        "default_prepend_bos": true,
        "model_name": "induction",
        "init_weights": false,
    });
    let fields = json.as_object_mut().expect("an object");
    if let Some(rotary) = rotary {
        for (name, value) in [
            ("positional_embedding_type", json!("rotary")),
            ("rotary_dim", json!(rotary.dim)),
            ("rotary_base", json!(rotary.base)),
            ("rotary_adjacent_pairs", json!(rotary.pairs == Pairs::Adjacent)),
        ] {
            fields.insert(name.into(), value);
        }
    }
    if config.architecture.qk_norm == QkNorm::Head {
        fields.insert("use_qk_norm".into(), json!(true));
    }
    let weights = write_safetensors(state.iter().map(|(name, value)| (name.clone(), value)));
    Ok([("config.json", format!("{json:#}\n").into_bytes()), ("model.safetensors", weights)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Architecture;

    #[test]
    fn other_configurations_and_parameters_are_refused() {
        let config = ModelConfig {
            d_model: 6,
            n_heads: 2,
            d_head: 5,
            n_ctx: 4,
            d_vocab: 7,
            ..ModelConfig::default()
        };
        let params = config.init_params(5).unwrap();
        export_transformer_lens(&config, &params).unwrap();
        let refusal = |config: ModelConfig| export_transformer_lens(&config, &params).unwrap_err();
        let deeper = ModelConfig { n_layers: config.n_layers + 1, ..config.clone() };
        assert!(matches!(refusal(deeper), Error::MissingParameter { .. }));
        assert!(matches!(
            refusal(ModelConfig { d_vocab: 8, ..config.clone() }),
            Error::Shape { .. }
        ));
        assert!(matches!(
            refusal(ModelConfig { d_model: 7, ..config.clone() }),
            Error::Config { .. }
        ));
        let architecture = Architecture { out_bias: true, ..Architecture::default() };
        assert!(matches!(
            refusal(ModelConfig { architecture, ..config }),
            Error::NotTheFamily { .. }
        ));
    }
}
