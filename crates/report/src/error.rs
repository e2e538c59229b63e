use std::path::PathBuf;

use crate::text::visible;

/// Everything that can stop a report. Each message names the file, the place in it, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file or folder exists but cannot be read.
    #[error("cannot read {}: {source}; check that it is readable and try again", show(path))]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file that every run folder holds is not there.
    #[error("{} is missing: {help}", show(path))]
    Missing {
        /// Where it was expected.
        path: PathBuf,
        /// How to get it.
        help: &'static str,
    },
    /// The report folder holds no run.
    #[error(
        "no run in {}: expected folders runs/NAME, each with a spec.toml; train and measure a run first",
        show(path)
    )]
    NoRuns {
        /// The folder that was searched.
        path: PathBuf,
    },
    /// A run's spec is not TOML or lacks a value that the report needs.
    #[error("{}: {problem}; the spec is written by training and must not be edited", show(path))]
    Spec {
        /// The spec.
        path: PathBuf,
        /// What is wrong, with the field or the line.
        problem: String,
    },
    /// A line of a table is damaged.
    #[error("{}, line {line}: {problem}; {help}", show(path))]
    Line {
        /// The table.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, with the field.
        problem: String,
        /// What to do.
        help: &'static str,
    },
    /// A scan of a trained model is damaged, or of another version.
    #[error("{}: {problem}; scan the model again (`induction scan MODEL --out DIR`)", show(path))]
    Scan {
        /// The scan.
        path: PathBuf,
        /// What is wrong, with the field.
        problem: String,
    },
    /// A result could not be written. The previous one, if any, is untouched.
    #[error("cannot write {}: {source}; the previous file, if any, is untouched", show(path))]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// A path for a terminal: file names are user input too.
fn show(path: &std::path::Path) -> String {
    visible(&path.to_string_lossy())
}
