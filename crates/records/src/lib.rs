//! The data model on disk: one Rust type for each TOML, JSON and JSON Lines file of a run or a scan,
//! shared by the code that writes it and the code that reads it (docs/FORMATS.md describes them).
//! Snapshots are `induction-train`'s, token shards `induction-tokenizer`'s.
//!
//! - [`RunSpec`] is what one run depends on, `spec.toml`.
//! - [`Manifest`] lists the runs of a reproduction, `manifest.toml`.
//! - [`Row`] is a line of one of the tables of `measurements/`; [`read_rows`] and [`write_rows`]
//!   are the way in and out. Reading is strict: each complaint names the file, the line, the field,
//!   what was expected and what to do.
//! - [`Ablation`] is an ablation as researchers name it, as data: heads removed, a pattern
//!   substituted, a path cut.
//! - [`ModelScan`] is what a scan of a trained model leaves, `scan.json`.
//!
//! Nothing here runs a model or judges a number.
//!
//! ```
//! use induction_records::{RandomTokenRow, Row, read_rows, write_rows};
//!
//! let folder = tempfile::tempdir()?;
//! let mut rows = vec![RandomTokenRow { step: 1, tokens: 48, loss: 2.0, losses: vec![2.25, 1.75] }];
//! write_rows(folder.path(), &mut rows)?;
//! assert_eq!(read_rows::<RandomTokenRow>(folder.path())?, rows);
//!
//! // A table that was damaged is refused by the place of the damage.
//! let table = folder.path().join(RandomTokenRow::FILE);
//! std::fs::write(&table, r#"{"step": 1, "tokens": 48, "loss": null, "losses": [2.25]}"#)?;
//! let error = read_rows::<RandomTokenRow>(folder.path()).unwrap_err().to_string();
//! assert!(error.contains("line 1: `loss` is null, expected a finite number"), "{error}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Runnable: `cargo run -p induction-records --example best_heads -- RUN`.

mod ablation;
mod causes;
mod error;
mod folder;
mod inert;
mod manifest;
mod read;
mod scan;
mod single;
mod spec;
mod study;
mod tables;
mod write;

pub use ablation::{Ablation, Downstream, Fill, HeadId, IdealPattern, Reads};
pub use causes::{
    ByCause, Cause, CutHeads, CutOn, GoesWith, PathFrom, PathsAgree, PathsInto, StandsOut, WorthOn,
};
pub use error::{Error, Stage};
pub use folder::{MEASUREMENTS, SPEC, step_file};
pub use induction_tokenizer::Synthetic;
pub use inert::{acts, visible};
pub use manifest::{MANIFEST, Manifest, ManifestHead, PlannedRun};
pub use read::{Row, parse_rows, read_json, read_rows};
pub use scan::{
    HowRun, IclOnText, ModelFacts, ModelScan, Removals, RemovedHeads, RemovedKind, RepeatedLosses,
    ScanHead, ShownText, StartFrom, step_of,
};
pub use spec::{
    Control, DataSpec, Decay, EvaluationSpec, FORMAT, LossSpec, OptimizerKind, RunSpec,
    SnapshotSpec, Text, TimedClamp, TrainSpec, Without, in_words,
};
pub use study::{
    Compared, Limit, STUDY, Study, StudyClaim, StudyFigure, StudyMeasure, StudyVariant,
};
use tables::heads;
pub use tables::{
    AblatedFrom, AblationRow, BEHAVIOURS, BehaviourScores, BestHead, CeilingOfText, Change,
    CompositionRow, CopyRow, DistanceRow, DistancesFrom, ExploredFrom, FollowedText, HeadRow,
    HistoryRow, IclRow, KnockoutRow, LlcRow, LossRow, MeasuredFrom, NamedScores, Optimum,
    Predictor, Prompt, PromptRow, Query, RandomTokenRow, SampledFrom, StepRow, Summary, TextRow,
    engine_name,
};
pub use write::{write_json, write_rows};
