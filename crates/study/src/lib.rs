//! What is asked of models: measures from activations and from weights, ablations, prompts.
//!
//! - [`measure`](measure::measure), [`ablate`](ablate::ablate) and [`explore`](explore::explore)
//!   ask it of every kept snapshot of a run, each in one pass, and write the tables of
//!   docs/FORMATS.md; [`training`] makes the snapshots.
//! - [`scan`] asks it of a model that was trained elsewhere.
//! - [`source`] is where their examples come from, [`device`] what they run on.
//!
//! Nothing here knows of a terminal: whoever calls a stage is a [`Caller`], who hears how far it is
//! and may stop it.
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
pub mod device;
mod error;
pub mod explore;
pub mod history;
pub mod measure;
pub mod scan;
pub mod source;
pub mod stages;
pub mod training;

pub use caller::{Caller, Nobody, Progress, Seen};
pub use error::{Error, Signal};
