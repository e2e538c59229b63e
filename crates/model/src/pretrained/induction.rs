//! A model of the paper's family as `induction export --format huggingface` writes it:
//! `config.json` has [`ModelConfig`]'s fields beside HuggingFace's, the tensors are our parameters.

use std::path::Path;

use serde_json::json;

use super::{
    Stored, Unread,
    fields::Fields,
    name_of,
    recipe::{Layout, Recipe},
    tensors::{Safetensors, Tensors},
};
use crate::{Error, ModelConfig, Normalization};

pub(super) fn open(folder: &Path, fields: &Fields) -> Result<Unread, Error> {
    let config = configuration(fields)?;
    let tensors = Safetensors::open(folder, None)?;
    let recipe = |_: &dyn Tensors, layer: usize, name: &str| recipe(layer, name);
    let stored = Stored::new(&config, Box::new(tensors), recipe, |_| false)?;
    Ok(Unread::of(name_of(folder), "induction".into(), config, stored))
}

fn configuration(fields: &Fields) -> Result<ModelConfig, Error> {
    fields.only("tie_word_embeddings", &json!(false))?;
    for field in ["clamp", "architecture"] {
        if fields.has(field) {
            return Err(fields.refuse(field, "not supported here, expected nothing"));
        }
    }
    // The fields of a model of the family: all but the two above.
    let ours = serde_json::to_value(ModelConfig::default()).expect("configurations serialize");
    let config: ModelConfig =
        fields.as_struct(ours.as_object().into_iter().flat_map(|ours| ours.keys()))?;
    if config.normalization == Normalization::RMS {
        return Err(fields.refuse(
            "normalization",
            "\"RMS\" is not supported here, expected \"LN\" or \"none\"",
        ));
    }
    Ok(config)
}

/// Names and shapes are ours.
fn recipe(l: usize, name: &str) -> Option<Recipe> {
    let tensor = match name.split_once('.') {
        Some(("embed" | "unembed" | "ln_final", _)) => name.to_string(),
        _ => format!("blocks.{l}.{name}"),
    };
    Some(Recipe::new(tensor, Layout::Whole))
}
