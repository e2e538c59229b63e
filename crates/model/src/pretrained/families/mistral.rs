//! Mistral: Llama with a window, which is the context here where it is shorter. In GGUF files it is
//! a Llama.

use super::{
    Family, HuggingFace,
    llama::{DEFAULTS, PREFIXES, config, recipe, within_window},
};

pub(super) const FAMILY: Family = Family {
    title: "Mistral",
    huggingface: HuggingFace {
        model_type: "mistral",
        prefixes: PREFIXES,
        config: |fields| {
            let config = config(fields, DEFAULTS)?;
            let n_ctx = within_window(fields, config.n_ctx, Some(4096))?;
            Ok(crate::ModelConfig { n_ctx, ..config })
        },
        recipe,
    },
    gguf: None,
};
