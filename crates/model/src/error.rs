use std::path::PathBuf;

/// What can go wrong with a model's configuration or weights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value outside its range.
    #[error("model.{field} = {found}: expected {expected}")]
    Config {
        /// The field, as in the file.
        field: &'static str,
        /// The value found.
        found: String,
        /// The allowed values, in words.
        expected: String,
    },
    /// A parameter that the configuration asks for is missing.
    #[error("parameter {name} is missing: the configuration expects it with shape {shape:?}")]
    MissingParameter {
        /// TransformerLens name.
        name: String,
        /// Expected shape.
        shape: Vec<usize>,
    },
    /// A parameter with another shape than the configuration's.
    #[error("parameter {name} has shape {found:?}: the configuration expects {expected:?}")]
    Shape {
        /// TransformerLens name.
        name: String,
        /// Shape found.
        found: Vec<usize>,
        /// Shape expected.
        expected: Vec<usize>,
    },
    /// A parameter that the configuration does not have.
    #[error("parameter {name} is not one of this configuration's: is this another model's file?")]
    UnknownParameter {
        /// The name found.
        name: String,
    },
    /// Something that is done with [models that can be trained](crate::ModelConfig::is_trainable)
    /// alone.
    #[error(
        "{what} needs a model of the paper's family, or one that differs from it by rotary positions, RMS norm, QK norm head by head or tied embeddings alone; this one has another architecture: measure it with `induction scan`"
    )]
    NotTheFamily {
        /// What was asked for.
        what: &'static str,
    },
    /// A file that could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file whose content is not what its name says.
    #[error("{path}: {}", short(reason))]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A GGUF file that cannot be read.
    #[error(transparent)]
    Gguf(#[from] induction_gguf::Error),
    /// A model that a target format cannot express.
    #[error("{target} cannot express {what}")]
    Export {
        /// The format.
        target: &'static str,
        /// What it lacks, and what to do instead.
        what: String,
    },
}

/// Files hold names of any length; a message quotes the beginning.
fn short(reason: &str) -> String {
    match reason.char_indices().nth(1000) {
        Some((end, _)) => format!("{}...", &reason[..end]),
        None => reason.to_string(),
    }
}
