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
    /// The report folder holds no run.
    #[error(
        "no run in {}: expected folders runs/NAME, each with a spec.toml; train and measure a run first",
        show(path)
    )]
    NoRuns {
        /// The folder that was searched.
        path: PathBuf,
    },
    /// A folder among the runs has no spec.
    #[error(
        "{} is missing: this is not a run folder, or training never started; move it out of runs/",
        show(path)
    )]
    NoSpec {
        /// Where it was expected.
        path: PathBuf,
    },
    /// A run folder's name is not text.
    #[error("{}: the run folder's name is not UTF-8 text: rename the folder", show(path))]
    Name {
        /// The folder.
        path: PathBuf,
    },
    /// There is no scan.
    #[error("{} is missing: scan a model first (`induction scan MODEL --out DIR`)", show(path))]
    NoScan {
        /// Where it was expected.
        path: PathBuf,
    },
    /// A file of a run or of a scan is missing, damaged or of another version.
    #[error(transparent)]
    Records(#[from] induction_records::Error),
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
