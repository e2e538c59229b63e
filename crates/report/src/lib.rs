//! Claims with verdicts, figures and one page, from the measurements of runs.
//!
//! # Design
//!
//! The report is a pure function of files. It reads what measuring left in `runs/NAME/` (docs/FORMATS.md) and nothing
//! else: it runs no model, reads no clock, asks no network, and the same runs give the same bytes. So a report can be
//! rebuilt years later, or elsewhere, and compared.
//!
//! Four stages, each ignorant of the next:
//!
//! - [`load_runs`] turns folders into checked [`Run`]s. A damaged line stops the report with its file and number: a
//!   verdict over half a table would be worth less than none.
//! - [`claims()`] is where results are interpreted. [`RULES`] holds each claim of the paper with our pass rule; the limits
//!   stand beside it and nowhere else. A run's part is told by its spec, never by its name or its results.
//! - [`table`] shows the claims in a terminal.
//! - The page shows the same claims with the figures behind them, as one file that works offline. Everything foreign in
//!   it - names, specs, corpora - is escaped, and its content security policy admits the two scripts we ship by hash, so
//!   that even a hole in the escaping would run nothing.
//!
//! # Example
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::fs;
//!
//! let dir = tempfile::tempdir()?;
//! let run = dir.path().join("runs/two-layers");
//! fs::create_dir_all(run.join("measurements"))?;
//! fs::write(
//!     run.join("spec.toml"),
//!     "name = 'two-layers'\nseed = 0\n[data]\nsource = 'repeats'\n[model]\nn_layers = 2\nn_heads = 1\nn_ctx = 2\n[train]\ntokens = 8\n",
//! )?;
//! fs::write(run.join("metrics.jsonl"), "{\"step\": 1, \"tokens\": 8, \"loss\": 2.0}\n")?;
//! for (table, line) in [
//!     (
//!         "icl.jsonl",
//!         r#"{"step": 1, "tokens": 8, "icl_score": -0.01, "stderr": 0.02, "by_example": [0.01, -0.03], "late_slope_by_example": [0.0, 0.1]}"#,
//!     ),
//!     (
//!         "loss_by_index.jsonl",
//!         r#"{"step": 1, "tokens": 8, "loss": 2.0, "loss_by_index": [2.1, 1.9], "by_example": [2.2, 1.8]}"#,
//!     ),
//!     ("random_tokens.jsonl", r#"{"step": 1, "tokens": 8, "loss": 2.0, "losses": [2.2, 1.8]}"#),
//!     (
//!         "heads.jsonl",
//!         r#"{"step": 1, "tokens": 8, "layer": 0, "head": 0, "prefix_matching": 0.1, "prefix_matching_stderr": 0.01, "copying": 0.1, "previous_token": 0.5, "ov_copying": 0.2, "qk_trace": null}
//! {"step": 1, "tokens": 8, "layer": 1, "head": 0, "prefix_matching": 0.2, "prefix_matching_stderr": 0.01, "copying": 0.1, "previous_token": 0.1, "ov_copying": 0.2, "qk_trace": 3.0}"#,
//!     ),
//!     ("meta.json", "{}"),
//!     ("summary.json", "{}"),
//! ] {
//!     fs::write(run.join("measurements").join(table), line)?;
//! }
//!
//! let report = induction_report::build(dir.path())?;
//! assert!(report.page.is_file());
//! // One snapshot shows no phase change, and without the other runs some claims cannot be judged.
//! assert_eq!(report.claims[0].verdict, induction_report::Verdict::Not);
//! assert_eq!(report.claims[4].verdict, induction_report::Verdict::OutOfReach);
//! assert!(induction_report::table(&report.claims, 100, false).contains("out-of-reach"));
//! # Ok(())
//! # }
//! ```

mod cast;
mod claims;
mod error;
mod figures;
mod load;
mod markdown;
mod page;
mod series;
mod settings;
mod terminal;
mod text;

use std::path::{Path, PathBuf};

pub use claims::{Claim, RULES, Rule, Verdict, claims};
pub use error::ReportError;
pub use load::{
    AblationPoint, Ceiling, Clamp, Downstream, HeadName, HeadScore, HeadsPoint, IclPoint, Knockout, LossPoint,
    RandomTokenPoint, Removal, Run, Spec, TrainPoint, load_run, load_runs,
};
pub use page::page;
pub use terminal::table;
pub use text::visible;

/// What [`build`] made.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Every claim, in the order of [`RULES`].
    pub claims: Vec<Claim>,
    /// `DIR/report.html`.
    pub page: PathBuf,
    /// `DIR/claims.json`.
    pub claims_file: PathBuf,
}

/// Reads `dir/runs/*` and writes `dir/claims.json`, `dir/claims.md`, `dir/series/pca.jsonl`, `dir/series/models.jsonl` and `dir/report.html`, each whole or not at all.
///
/// # Errors
/// If there is no run, a run's file is missing or damaged, or a result cannot be written.
pub fn build(dir: &Path) -> Result<Report, ReportError> {
    let runs = load_runs(dir)?;
    let claims = claims(&runs);
    let series = dir.join("series");
    std::fs::create_dir_all(&series).map_err(|source| ReportError::Write { path: series.clone(), source })?;
    write(&series.join("pca.jsonl"), &series::pca_rows(&runs))?;
    write(&series.join("models.jsonl"), &series::model_rows(&runs))?;
    let html = page(&runs, &claims);
    let mut json = serde_json::to_string_pretty(&claims).expect("claims are texts and optional texts");
    json.push('\n');
    let report = Report { claims, page: dir.join("report.html"), claims_file: dir.join("claims.json") };
    write(&report.claims_file, &json)?;
    write(&dir.join("claims.md"), &markdown::markdown(&runs, &report.claims))?;
    write(&report.page, &html)?;
    Ok(report)
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    induction_files::write_atomic(path, text.as_bytes())
        .map_err(|source| ReportError::Write { path: path.to_path_buf(), source })
}
