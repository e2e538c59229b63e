//! What can go wrong, and the exit code that says so.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Any error of any stage.
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
    /// The report.
    #[error(transparent)]
    Report(#[from] induction_report::ReportError),
    /// An input that no stage can use.
    #[error("{0}")]
    Input(String),
    /// Nothing is wrong with the input, but it cannot be done now.
    #[error("{0}")]
    Later(String),
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

/// The signals that stop a run cleanly.
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
    /// A run that something was asked of which needs it trained.
    pub fn unfinished(run: &Path) -> Self {
        let run = run.display();
        Self::Input(format!(
            "{run}: its training is not finished; `induction train {run}/spec.toml --out {run}` goes on with it"
        ))
    }

    /// Wraps a system error with the file it concerns.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// Says where: a metric knows its arrays, not the file that they came from.
    pub(crate) fn at(self, path: &std::path::Path) -> Self {
        match self {
            Self::Metric { source, .. } => {
                Self::Metric { place: path.display().to_string(), source }
            }
            other => other,
        }
    }

    /// The exit code: 2 bad input (or a machine that refuses, such as a full disk), 3 diverged, 75
    /// try again, 130 interrupted. 1 is left to bugs.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Train(induction_train::Error::Diverged { .. }) => 3,
            Self::Train(
                induction_train::Error::Locked { .. } | induction_train::Error::Lost(_),
            )
            | Self::Interrupted(Signal::Terminate)
            | Self::Later(_) => 75,
            Self::Interrupted(Signal::Interrupt) => 130,
            _ => 2,
        })
    }
}
