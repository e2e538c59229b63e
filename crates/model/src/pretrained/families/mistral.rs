//! Mistral: Llama with a window, which is refused where it is shorter than the context. In GGUF
//! files it is a Llama.

use super::{
    Family, HuggingFace,
    llama::{Defaults, PREFIXES, config, recipe, refuse_window},
};

pub(super) const FAMILY: Family = Family {
    huggingface: HuggingFace {
        model_type: "mistral",
        prefixes: PREFIXES,
        config: |fields| {
            let config = config(fields, Defaults { n_ctx: 2048, d_head: None })?;
            refuse_window(fields, config.n_ctx)?;
            Ok(config)
        },
        recipe,
    },
    gguf: None,
};
