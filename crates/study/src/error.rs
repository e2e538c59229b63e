//! What can go wrong while a model is asked something.

use std::path::{Path, PathBuf};

/// Any error of a stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Training.
    #[error(transparent)]
    Train(#[from] induction_train::Error),
    /// The corpus or the tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] induction_tokenizer::Error),
    /// The model.
    #[error(transparent)]
    Model(#[from] induction_model::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] induction_engine::Error),
    /// The ablations.
    #[error(transparent)]
    Ablation(#[from] induction_ablation::Error),
    /// A measurement.
    #[error("{place}: {source}")]
    Metric {
        /// The run and snapshot.
        place: String,
        /// The measurement's reason.
        source: induction_metrics::Error,
    },
    /// A file of a run or of a scan.
    #[error(transparent)]
    Records(#[from] induction_records::Error),
    /// An input that no stage can use.
    #[error("{0}")]
    Input(String),
    /// The system refused a file operation.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Stopped by a signal, with the state saved; the same command goes on.
    #[error("stopped by {0}; the same command goes on from here")]
    Interrupted(Signal),
}

/// The signals that stop a stage cleanly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What a scheduler sends before it takes the machine away.
    Terminate,
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
        })
    }
}

impl From<induction_files::LeaseError> for Error {
    fn from(error: induction_files::LeaseError) -> Self {
        Self::Train(error.into())
    }
}

impl Error {
    /// Wraps a system error with the file it concerns.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// Says where: a metric knows its arrays, not the file that they came from.
    pub(crate) fn at(self, path: &Path) -> Self {
        match self {
            Self::Metric { source, .. } => {
                Self::Metric { place: path.display().to_string(), source }
            }
            other => other,
        }
    }
}
