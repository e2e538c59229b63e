//! The transformer family of "In-context Learning and Induction Heads" (Olsson et al. 2022;
//! paper.md, 1) on burn.
//!
//! One small, fixed family: token embedding, attention-only blocks or blocks with an MLP,
//! sinusoidal positions that are added to the inputs of `W_Q` and `W_K` only, optional smeared
//! keys, untied unembedding. Fixed, so that every part of it has a closed form to be tested against
//! and a name that interpretability researchers know: parameters and hook points carry
//! TransformerLens' names and shapes.
//!
//! The weights are exchanged as [`Params`], named arrays on the host in one fixed order: initial
//! weights and the layout of every file depend on no device. [`Transformer`], the burn module with
//! gradients made by hand, is made from them for one device.
//!
//! Around the family stand:
//!
//! * [`Architecture`]: what the models that other people trained do otherwise (Llama, GPT-2,
//!   GPT-NeoX, Qwen2, Qwen3), as part of the same [`ModelConfig`]; [`pretrained`] reads them from
//!   GGUF, safetensors and TransformerLens folders.
//! * [`export_huggingface`] and [`export_transformer_lens`]: our models in other libraries'
//!   layouts.
//! * [`Clamp`]: a constraint on attention patterns, obeyed in training and after.
//! * [`HandBuilt`]: an induction model whose weights were written down rather than learned.
//!
//! # Features
//!
//! - `burn` (default): [`Transformer`]. Everything else is without it.
//!
//! ```
//! use induction_model::{ModelConfig, Transformer};
//!
//! let config = ModelConfig { n_layers: 1, d_model: 8, n_heads: 2, d_head: 4, n_ctx: 6, d_vocab: 5, ..ModelConfig::default() };
//! let params = config.init_params(0)?;
//! let device = burn::tensor::Device::flex();
//! let model = Transformer::from_params(&config, &params, &device)?;
//! let logits = model.forward(&[0, 1, 2, 3, 4, 0], 1);
//! assert_eq!(logits.dims(), [1, 6, 5]);
//! # Ok::<(), induction_model::Error>(())
//! ```
//!
//! Runnable: `cargo run -p induction-model --example hand_built`.

mod architecture;
mod blocks;
mod clamp;
mod config;
mod error;
mod export;
mod hand_built;
mod hooks;
mod init;
mod params;
mod positions;
pub mod pretrained;
#[cfg(feature = "burn")]
mod transformer;

pub use architecture::{Activation, Architecture, Pairs, Positions, Rotary, RotaryScaling};
pub use blocks::{Axes, Parameter};
pub use clamp::{Clamp, ForbiddenKeys};
pub use config::{ModelConfig, Normalization};
pub use error::Error;
pub use export::{
    export_huggingface, export_transformer_lens, write_export_huggingface,
    write_export_transformer_lens,
};
pub use hand_built::HandBuilt;
pub use hooks::Hook;
pub use params::{BlockParams, Params, read_safetensors, write_safetensors};
pub use positions::sinusoidal_positions;
#[cfg(feature = "burn")]
pub use transformer::{Tap, TrainingOptions, Transformer};
