//! Describes a transformer: its configuration, its named parameters, its hook points, constraints on
//! its attention. Reads models that were trained elsewhere, and exports ours. To run a model, see
//! `induction-engine`.
//!
//! [`ModelConfig`] by itself is a member of the family of "In-context Learning and Induction Heads"
//! (Olsson et al. 2022; section 1 of docs/paper.md): token embedding, attention-only blocks or
//! blocks with an MLP, sinusoidal positions that are added to the inputs of `W_Q` and `W_K` only,
//! optional smeared keys, untied unembedding. Parameters and hook points have TransformerLens' names
//! and shapes. Weights are [`Params`], named arrays on the host in one fixed order, so that initial
//! weights and the layout of every file depend on no device.
//!
//! Around the family stand:
//!
//! * [`Architecture`]: what the models that other people trained do otherwise, as part of the same
//!   [`ModelConfig`]; [`pretrained`] reads two dozen families of them from GGUF, safetensors and
//!   TransformerLens folders.
//! * [`export_huggingface`] and [`export_transformer_lens`]: our models in other libraries'
//!   layouts.
//! * [`Clamp`]: a constraint on attention patterns, obeyed in training and after.
//! * [`HandBuilt`]: an induction model whose weights were written down rather than learned.
//!
//! ```
//! use induction_model::{HandBuilt, ModelConfig, pretrained};
//!
//! let config = ModelConfig { n_layers: 2, d_model: 8, n_heads: 2, d_head: 4, n_ctx: 6, d_vocab: 5, ..ModelConfig::default() };
//! let params = config.init_params(0)?; // the same for the same seed, on every device
//! assert_eq!(params.block(1).w_q().dim(), (2, 8, 4)); // [head, d_model, d_head]
//!
//! let induction = HandBuilt::new(40, 64);
//! assert_eq!(induction.config().n_layers, 2);
//!
//! let error = pretrained::open("no/such/model.gguf".as_ref()).unwrap_err();
//! assert!(error.to_string().contains("no/such/model.gguf"));
//! # Ok::<(), induction_model::Error>(())
//! ```
//!
//! # Features
//!
//! - `burn` (default): `Transformer`, what can be trained as a burn module with gradients made by
//!   hand. Nothing else needs this feature.
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
mod read;
mod rotary;
#[cfg(feature = "burn")]
mod transformer;

pub use architecture::{
    Activation, Architecture, Experts, Norms, OtherPositions, Positions, QkNorm, alibi_slopes,
};
pub use blocks::{Axes, Parameter};
pub use clamp::{Clamp, Clamps, ForbiddenKeys, Given};
pub use config::{ModelConfig, Normalization};
pub use error::Error;
pub use export::{
    export_huggingface, export_transformer_lens, write_export_huggingface,
    write_export_transformer_lens,
};
pub use hand_built::HandBuilt;
pub use hooks::Hook;
pub use induction_gguf::Kind as Encoding;
pub use params::{BlockParams, Params, read_safetensors, write_safetensors};
pub use positions::sinusoidal_positions;
pub use read::{Encoded, ReadParams};
pub use rotary::{Pairs, Rotary, RotaryScaling};
#[cfg(feature = "burn")]
pub use transformer::{Tap, Targets, TrainingOptions, Transformer};
