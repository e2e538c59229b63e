use std::path::PathBuf;

use induction_files::{Holder, LeaseError};

/// What can go wrong while training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A spec that cannot be read, or a value of one outside its range.
    #[error(transparent)]
    Spec(#[from] induction_records::Error),
    /// The run folder belongs to another spec.
    #[error(
        "{path} holds a run with another spec ({difference}): choose another folder, or remove this one"
    )]
    OtherSpec {
        /// The run folder.
        path: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// The run was begun by another version of this program.
    #[error(
        "{path} was begun by version {found}, this is {ours}: finish it with that version, or choose another folder"
    )]
    OtherVersion {
        /// The run folder.
        path: PathBuf,
        /// Its version.
        found: String,
        /// This program's.
        ours: &'static str,
    },
    /// The run was begun on another engine, whose rounding differs.
    #[error(
        "{path} was begun on the engine {found}, this is {ours}: finish it there, or choose another folder"
    )]
    OtherEngine {
        /// The run folder.
        path: PathBuf,
        /// Its engine.
        found: String,
        /// The one asked for.
        ours: String,
    },
    /// Another process works on the folder.
    #[error(
        "{path}: another process{} is working on this run; wait for it or stop it",
        holder.as_ref().map_or_else(String::new, |holder| format!(" ({holder})"))
    )]
    Locked {
        /// The run folder.
        path: PathBuf,
        /// Who holds it, where that can be read.
        holder: Option<Box<Holder>>,
    },
    /// Another process took the folder over.
    #[error(
        "{0}: another process took this run over, or its .lease can no longer be kept up; stopped before writing there again"
    )]
    Lost(PathBuf),
    /// No snapshot is left to go on from.
    #[error(
        "{0}: every snapshot is damaged; they were set aside as damaged-*. Remove the folder to begin again"
    )]
    NoSnapshot(PathBuf),
    /// A snapshot that is not what its manifest says.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// The metric log lost lines that a snapshot counts on.
    #[error(
        "{path} is {found} bytes long, the snapshot of step {step} expects {expected}: put it back, or remove the run folder"
    )]
    ShortLog {
        /// The log.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The snapshot's step.
        step: u64,
        /// The least length.
        expected: u64,
    },
    /// A loss, gradient or weight is not a number.
    #[error(
        "step {step}: {what} is not finite; the last good snapshot is step {last_good}. Try a smaller lr (details in {report})"
    )]
    Diverged {
        /// The step that was not taken.
        step: u64,
        /// The loss or the parameter.
        what: String,
        /// The newest snapshot's step.
        last_good: u64,
        /// The file with the details.
        report: PathBuf,
    },
    /// The system refused a file operation.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] induction_engine::Error),
    /// The model.
    #[error(transparent)]
    Model(#[from] induction_model::Error),
}

impl Error {
    /// Wraps a system error with the file it concerns.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl From<LeaseError> for Error {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Held { folder, holder } => Self::Locked { path: folder, holder },
            LeaseError::Lost { folder } => Self::Lost(folder),
            LeaseError::Io { path, source } => Self::Io { path, source },
        }
    }
}
