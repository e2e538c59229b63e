//! The facade: specs become data, data become trained models, models become measurements,
//! measurements a report.
//!
//! Each stage is a function over folders (docs/FORMATS.md), so each can be called alone, killed,
//! and called again:
//!
//! - [`source::Source`]: a spec's training and held-out examples;
//! - [`stages::RunContext`]: what the stages of a run work with;
//! - [`training::run`]: one run, trained in its folder or taken up where it stopped;
//! - [`measure::measure`]: every kept snapshot of a run, measured once;
//! - [`ablate::ablate`]: every head removed at the snapshots that the spec says, once;
//! - [`explore::explore`]: what its heads attend to, on a text and on argument 4's prompts;
//! - [`plan::plan`]: the runs of a scale; [`reproduce::forecast`]: what they cost;
//! - [`reproduce::reproduce`]: all of them, each trained, measured, ablated and explored by an
//!   [`executor`], and the report;
//! - [`slurm::submit`]: the same as jobs of a cluster;
//! - [`status::status`]: how far they are.
//!
//! The binary `induction` is glue over them; the crates below stand for themselves and are
//! re-exported here.
//!
//! ```
//! use induction::plan::{Corpora, PlanOptions, Scale, plan};
//!
//! let corpora = Corpora { main: "".into(), second: "".into(), books: "".into() };
//! let manifest = plan(&PlanOptions { scale: Scale::Smoke, clamp: false, seed: 0, seeds: Some(1), corpora });
//! let names: Vec<_> = manifest.runs.into_iter().map(|row| row.spec.name).collect();
//! assert_eq!(names, ["1L", "2L", "1L-smeared", "2L-smeared"]);
//! ```
//!
//! # Features
//!
//! All are off by default, since each takes minutes to build.
//!
//! - `parquet`: every measurement table and every figure's numbers as Parquet, too.
//! - `hub`: [`scan`] takes models by `hf:OWNER/NAME` and downloads them.
//! - `burn`, `ndarray`, `libtorch`, `cuda`: burn's backends beside our own engine, see [`engine`].
//!
//! Runnable: `cargo run -p induction --example phase_change`.

pub mod error;
pub mod executor;
pub mod hub;
pub mod interrupt;
pub mod memory;
pub mod pilot;
pub mod plan;
pub mod predict;
pub mod progress;
pub mod reproduce;
pub mod slurm;
pub mod status;
pub mod tensorboard;
pub mod terminal;

pub use error::Error;
pub use induction_ablation as ablation;
pub use induction_engine as engine;
pub use induction_metrics as metrics;
pub use induction_model as model;
pub use induction_records as records;
pub use induction_report as report;
pub use induction_study::{
    self as study, ablate, bench, device, explore, measure, scan, source, stages, training,
};
pub use induction_tokenizer as tokenizer;
pub use induction_train as train;
