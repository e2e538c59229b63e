//! Training: optimizer, schedule, loop, snapshots, resume, metric log.
//!
//! A run is one validated [`RunSpec`](induction_records::RunSpec) and nothing else. The learning
//! rate, the order of examples, the steps that are kept are pure functions of it, so [`train`] can
//! be killed at any instant and called again: it goes on from the newest snapshot that verifies and
//! ends in the same bits.
//!
//! This crate knows no corpus and no device: it asks for examples by index ([`Examples`]) and for
//! gradients through [`induction_engine::Engine`]. It prints nothing; an [`Observer`] hears of each
//! step.
//!
//! ```
//! use induction_engine::CpuEngine;
//! use induction_records::RunSpec;
//! use induction_train::{Outcome, Quiet, list_snapshots, train};
//!
//! let spec = RunSpec::parse("tiny.toml".as_ref(), r#"
//!     format = 1
//!     name = "tiny"
//!     seed = 0
//!     data = { source = "repeats", min_period = 2, max_period = 4 }
//!     model = { n_layers = 1, d_model = 8, n_heads = 2, d_head = 4, n_ctx = 12, d_vocab = 9 }
//!     train = { tokens = 96, batch = 2, lr = 0.01 }
//!     snapshots = { every = 2 }
//!     evaluation = { examples = 4, icl_early = 2, icl_late = 11, icl_half_width = 1, prefix_block = 2 }
//! "#)?;
//! let run = std::env::temp_dir().join(format!("induction-train-doc-{}", std::process::id()));
//! let mut engine = CpuEngine::new(&spec.model, &spec.model.init_params(spec.seed)?)?;
//! let counting = |index: u64| (0..13).map(|i| ((index + i) % 9) as u32).collect::<Vec<_>>();
//! assert_eq!(train(&spec, &counting, &mut engine, 1, &run, &mut Quiet)?, Outcome::Finished);
//! assert_eq!(list_snapshots(&run)?, [0, 1, 2, 4]);
//! # std::fs::remove_dir_all(&run)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Runnable: `cargo run -p induction-train --example toy_run`.

mod error;
mod log;
mod muon;
mod optimizer;
mod run;
mod snapshot;
mod step;

pub use error::Error;
pub use optimizer::{Clip, Optimizer, clip_by_global_norm};
pub use run::{CODE_VERSION, Continue, Examples, Observer, Outcome, Quiet, is_finished, train};
pub use snapshot::{
    Snapshot, State, list_snapshots, load_model, manifest_hash, snapshot_folder, thin_weights,
};
pub use step::{Learner, Step};
