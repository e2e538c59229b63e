//! Runs the measurements: evaluates every attention head, removes heads, and puts prompts to a
//! model, at each snapshot of a run or for a model that was trained elsewhere.
//!
//! Begin with one of these:
//!
//! - [`measure::Evaluators`]: the head scores of a model in memory.
//! - [`scan::scan_model`]: everything about one trained model.
//! - [`measure::measure`], [`ablate::ablate`], [`explore::explore`], [`llc::llc`]: the stages of a run on disk.
//!   Each goes once over the snapshots that [`training`] made, and writes the tables of
//!   docs/FORMATS.md.
//!
//! [`forecast::forecast`] says of a text, before any training, whether the change will come on it.
//!
//! [`source`] gives their examples, [`device`] says what they run on. The crate prints nothing:
//! whoever calls a stage implements [`Caller`], through which a stage reports its progress and can
//! be stopped.
//!
//! ```
//! use induction_model::HandBuilt;
//! use induction_records::EvaluationSpec;
//! use induction_study::{device::Device, measure::Evaluators};
//! use ndarray::Array2;
//!
//! // A model whose induction circuit was written down: head 1.0 is the induction head.
//! let model = HandBuilt::new(40, 64);
//! let (config, params) = (model.config(), model.params()?);
//! let engine = Device::Cpu.open(&config, &params)?;
//! let spec = EvaluationSpec {
//!     examples: 2, icl_early: 1, icl_late: 2, icl_half_width: 0,
//!     head_examples: 10, prefix_block: 12, prefix_repeats: 4, // four copies of twelve random tokens
//!     ablation_examples: 1, ablation_every: 0, weights_every: 1,
//! };
//! let text = Array2::from_shape_fn((10, 40), |(row, at)| (1 + (row * 7 + at * at) % 39) as u32);
//! let allowed: Vec<u32> = (1..40).collect(); // token 0 begins each sequence
//! let heads = Evaluators::new(&spec, text, 0, &allowed)?.heads(engine.as_ref(), &params, None, 0, 0)?;
//! assert!(heads[1].score("prefix_matching") > 0.9);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! Off by default, since it takes minutes to build.
//!
//! - `parquet`: every measurement table as Parquet, too.
//!
//! Runnable: `cargo run -p induction-study --example ask_a_model`.

pub mod ablate;
pub mod bench;
mod caller;
pub mod cause;
pub mod device;
mod distances;
mod error;
pub mod explore;
pub mod forecast;
pub mod history;
pub mod llc;
pub mod measure;
pub mod paths;
pub mod relatives;
pub mod scan;
pub mod source;
pub mod stages;
pub mod training;

pub use caller::{Caller, Nobody, Progress, Seen};
pub use error::{Error, Signal};
