use std::path::{Path, PathBuf};

use crate::visible;

/// The stages of a run that leave tables: who makes one can make it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `induction train`.
    Training,
    /// `induction measure`.
    Measuring,
    /// `induction ablate`.
    Ablating,
    /// `induction explore`.
    Exploring,
    /// `induction llc`.
    Sampling,
}

impl Stage {
    /// The stage in a word, as `status.json` and `history.jsonl` have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Measuring => "measuring",
            Self::Ablating => "ablating",
            Self::Exploring => "exploring",
            Self::Sampling => "sampling",
        }
    }

    /// What to do about a table that is not there.
    fn make(self) -> &'static str {
        match self {
            Self::Training => "the run has no training log; train it again (`induction train`)",
            Self::Measuring => "measure the run (`induction measure RUN`), then report again",
            Self::Ablating => "ablate the run (`induction ablate RUN`)",
            Self::Exploring => "explore the run (`induction explore RUN`)",
            Self::Sampling => "sample the run (`induction llc RUN`)",
        }
    }

    /// What to do about one that cannot be read.
    fn make_again(self) -> &'static str {
        match self {
            Self::Training => {
                "resume the run from its last snapshot (`induction train`), which cuts a damaged tail off"
            }
            Self::Measuring => {
                "delete the table and measure the run again (`induction measure RUN`)"
            }
            Self::Ablating => "delete the table and ablate the run again (`induction ablate RUN`)",
            Self::Exploring => {
                "delete the table and explore the run again (`induction explore RUN`)"
            }
            Self::Sampling => "delete the table and sample the run again (`induction llc RUN`)",
        }
    }
}

/// What can be wrong with a file. Each message names it, the place in it and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A spec that cannot be read.
    #[error("{}: {}", show(path), lines(reason))]
    Spec {
        /// The file, or "spec" for one that is not from a file.
        path: PathBuf,
        /// The place and what was expected.
        reason: String,
    },
    /// A manifest that cannot be read, or that could not run.
    #[error("{}: {}", show(path), lines(reason))]
    Manifest {
        /// The file, or the manifest's name for one that is not from a file.
        path: PathBuf,
        /// The place and what was expected.
        reason: String,
    },
    /// A study that cannot be read, or whose parts do not go together.
    #[error("{}: {}", show(path), lines(reason))]
    Study {
        /// The file, or the study's name for one that is not from a file.
        path: PathBuf,
        /// The place and what was expected.
        reason: String,
    },
    /// A value of a spec outside its range.
    #[error("{field} = {found}: expected {expected}")]
    Field {
        /// Section and field, as in the file.
        field: &'static str,
        /// The value found.
        found: String,
        /// The allowed values, in words.
        expected: String,
    },
    /// The spec's model.
    #[error(transparent)]
    Model(#[from] induction_model::Error),
    /// A table that is not there.
    #[error("{} is missing: {}", show(path), stage.make())]
    Missing {
        /// Where it was expected.
        path: PathBuf,
        /// Who makes it.
        stage: Stage,
    },
    /// A line of a table, or a file of one JSON value, is damaged.
    #[error("{}, line {line}: {problem}; {}", show(path), stage.make_again())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, with the field.
        problem: String,
        /// Who makes it.
        stage: Stage,
    },
    /// A line of a run's history is damaged.
    #[error(
        "{}, line {line}: {problem}; delete the line: only the report's word on machines and times depends on it",
        show(path)
    )]
    History {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, with the field.
        problem: String,
    },
    /// A scan of a trained model is damaged, or of another version.
    #[error("{}: {problem}; scan the model again (`induction scan MODEL --out DIR`)", show(path))]
    Scan {
        /// The scan.
        path: PathBuf,
        /// What is wrong, with the field.
        problem: String,
    },
    /// The system refused to read or to write.
    #[error("{}: {source}", show(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// Wraps a system error with the file it concerns.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// A path for a terminal: file names are user input, too.
fn show(path: &Path) -> String {
    visible(&path.to_string_lossy())
}

/// Lines of a reason, which may quote a file.
fn lines(reason: &str) -> String {
    reason.lines().map(visible).collect::<Vec<_>>().join("\n")
}
