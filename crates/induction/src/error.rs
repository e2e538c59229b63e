//! What can go wrong, and the exit code that says so.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use induction_study::{Error as StudyError, Signal};

/// Any error of any command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A stage.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// The report.
    #[error(transparent)]
    Report(#[from] induction_report::ReportError),
    /// An input that no command can use.
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
}

/// What stages pass on from the crates below them.
macro_rules! of_a_stage {
    ($($error:ty),*) => { $(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::Study(error.into())
            }
        }
    )* };
}
of_a_stage!(
    induction_ablation::Error,
    induction_engine::Error,
    induction_files::LeaseError,
    induction_model::Error,
    induction_records::Error,
    induction_tokenizer::Error,
    induction_train::Error
);

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

    /// The signal that stopped the work, if one did.
    pub fn interrupted(&self) -> Option<Signal> {
        match self {
            Self::Study(StudyError::Interrupted(signal)) => Some(*signal),
            _ => None,
        }
    }

    /// The exit code: 2 bad input (or a machine that refuses, such as a full disk), 3 diverged, 75
    /// try again, 130 interrupted. 1 is left to bugs.
    pub fn exit_code(&self) -> ExitCode {
        use induction_train::Error::{Diverged, Locked, Lost};
        ExitCode::from(match self {
            Self::Study(StudyError::Train(Diverged { .. })) => 3,
            Self::Study(
                StudyError::Train(Locked { .. } | Lost(_))
                | StudyError::Interrupted(Signal::Terminate),
            )
            | Self::Later(_) => 75,
            Self::Study(StudyError::Interrupted(Signal::Interrupt)) => 130,
            _ => 2,
        })
    }
}
