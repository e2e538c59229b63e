//! Gemma 3, the text models: Gemma 2 with normed queries and keys, and shorter wavelengths in the
//! layers that have a window.

use super::{
    Family, GgufFamily, HuggingFace, InFolder, gemma,
    gemma2::{self, gguf_scale, scale},
    llama::PREFIXES,
};
use crate::{
    Architecture, Error, ModelConfig, Norms, OtherPositions, Positions, QkNorm, Rotary,
    pretrained::{
        fields::Fields,
        gguf::{self, Header},
        huggingface::rotary_of,
        recipe::{Layout, Recipe},
    },
};

pub(super) const FAMILY: Family = Family {
    title: "Gemma 3 (text)",
    huggingface: HuggingFace { model_type: "gemma3_text", prefixes: PREFIXES, config, recipe },
    gguf: Some(GgufFamily {
        architecture: "gemma3",
        config: from_gguf,
        recipe: |source, name| {
            let recipe = gemma::scaled(source.config, name, gguf::recipe(source, name)?);
            match name {
                "attn.q_norm.w" => Some(recipe.times(gguf_scale(source.config, 62))),
                _ => Some(recipe),
            }
        },
    }),
};

fn config(fields: &Fields) -> Result<ModelConfig, Error> {
    // The two sets of wavelengths are not those of one `rope_parameters`.
    let gemma = gemma2::config(&fields.without("rope_parameters"), 131_072)?;
    let windowed = match fields.texts_opt("layer_types")? {
        Some(types) if types.len() != gemma.n_layers => {
            let reason = format!("{} names, expected one a layer", types.len());
            return Err(fields.refuse("layer_types", reason));
        }
        Some(types) => (0..gemma.n_layers).filter(|&l| types[l] == "sliding_attention").collect(),
        None => {
            let every = fields.size_opt("sliding_window_pattern")?.unwrap_or(6).max(1);
            (0..gemma.n_layers).filter(|l| (l + 1) % every != 0).collect()
        }
    };
    let new = fields.inner("rope_parameters")?;
    let of = |kind: &str, base_field: &str, base: f64| {
        let base = fields.number(base_field, base)?;
        let within = match &new {
            Some(new) => new.inner(kind)?,
            None => None,
        };
        let older = if kind == "full_attention" { fields.inner("rope_scaling")? } else { None };
        if let Some(within) = &within {
            within.agrees("rope_theta", fields, base_field)?;
            if let Some(older) = &older {
                older.agrees("factor", within, "factor")?;
            }
        }
        rotary_of(fields, older.or(within), gemma.d_head, base, 1.0)
    };
    let rotary = of("full_attention", "rope_theta", 1e6)?;
    let local = of("sliding_attention", "rope_local_base_freq", 1e4)?;
    Ok(ModelConfig {
        architecture: Architecture {
            positions: Positions::Rotary(rotary),
            other_positions: Some(OtherPositions { layers: windowed, rotary: Some(local) }),
            qk_norm: QkNorm::Head,
            attn_scores_soft_cap: fields.number_opt("attn_logit_softcapping")?,
            output_logits_soft_cap: fields.number_opt("final_logit_softcapping")?,
            ..gemma.architecture
        },
        ..gemma
    })
}

fn from_gguf(header: &Header<'_>, common: ModelConfig) -> Result<ModelConfig, Error> {
    let gemma = gemma::from_gguf(header, common)?;
    let windowed = header.size_opt("attention.sliding_window")?.filter(|&n| n > 0);
    let every = header.size_opt("attention.sliding_window_pattern")?.unwrap_or(6).max(1);
    let layers = (0..gemma.n_layers).filter(|l| (l + 1) % every != 0).collect();
    let base = header.number_opt("rope.freq_base_swa")?.unwrap_or(1e4);
    let local = match &gemma.architecture.positions {
        Positions::Rotary(rotary) => {
            Rotary { base, scaling: None, attention_factor: None, ..rotary.clone() }
        }
        _ => unreachable!("a Llama's positions are rotary"),
    };
    Ok(ModelConfig {
        architecture: Architecture {
            norms: Norms::Around,
            qk_norm: QkNorm::Head,
            other_positions: windowed.map(|_| OtherPositions { layers, rotary: Some(local) }),
            attn_scores_soft_cap: header.multiplier("attn_logit_softcapping")?,
            output_logits_soft_cap: header.multiplier("final_logit_softcapping")?,
            ..gemma.architecture
        },
        ..gemma
    })
}

fn recipe(source: &InFolder<'_>, name: &str) -> Option<Recipe> {
    let norm = |tensor| source.in_layer(tensor, Layout::AsIs).plus(1.0);
    match name {
        // What queries are multiplied by before they are normed is lost.
        "attn.q_norm.w" => Some(norm("self_attn.q_norm.weight").times(scale(source))),
        "attn.k_norm.w" => Some(norm("self_attn.k_norm.weight")),
        _ => gemma2::recipe(source, name),
    }
}
