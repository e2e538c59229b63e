//! Reproduces "In-context Learning and Induction Heads" (Olsson et al. 2022): trains small
//! transformers, measures every attention head at every snapshot, removes heads, and writes a
//! report that judges the paper's claims. It also measures models that were trained elsewhere.
//!
//! [`reproduce::reproduce`] does everything. For one model, make a [`stages::RunContext`] and call
//! the stages in this order; each is a function over folders (docs/FORMATS.md), so each can be
//! called alone, killed, and called again:
//!
//! - [`training::run`] trains the model in its folder, or goes on where it stopped;
//! - [`measure::measure`] measures every kept snapshot, once;
//! - [`ablate::ablate`] removes every head at the snapshots that the spec names, once;
//! - [`explore::explore`] records what the heads attend to, on a text and on the prompts of
//!   argument 4.
//!
//! Around them stand [`plan::plan`] (the runs of a scale), [`reproduce::forecast`] (what they
//! cost), [`executor`] (one run after the other, or several at once), [`slurm::submit`] (the same
//! as jobs of a cluster) and [`status::status`] (how far they are). [`scan::scan_model`] measures a
//! pretrained model. The crates below can be used alone and are re-exported here; the binary
//! `induction` is this crate's command line.
//!
//! ```no_run
//! use induction::{
//!     device::Device, interrupt::Interrupt, measure::measure, progress::{Console, Screen},
//!     records::RunSpec, source::Source, stages::RunContext, training,
//! };
//!
//! // Any run's `spec.toml` is a spec to start from.
//! let mut spec = RunSpec::read("books.toml".as_ref())?;
//! let source = Source::open(&mut spec, "out/data".as_ref())?;
//! let console = Console { interrupt: Interrupt::listen()?, screen: Screen::new(false) };
//! let context = RunContext {
//!     spec: &spec, source: &source, run: "out/books".as_ref(), device: Device::Cpu, caller: &console,
//! };
//! training::run(&context)?;
//! measure(&context)?; // out/books/measurements/heads.jsonl, icl.jsonl, ...
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
    self as study, ablate, bench, device, explore, forecast, llc, measure, scan, source, stages,
    training,
};
pub use induction_tokenizer as tokenizer;
pub use induction_train as train;
