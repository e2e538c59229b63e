//! Our models in other libraries' layouts.

mod huggingface;
mod transformer_lens;

use std::path::Path;

pub use huggingface::export_huggingface;
pub use transformer_lens::export_transformer_lens;

use crate::{Error, ModelConfig, Params};

/// Writes [`export_transformer_lens`]'s files into the folder `out`, which is made.
///
/// # Errors
/// As there, and the system's.
pub fn write_export_transformer_lens(
    config: &ModelConfig,
    params: &Params,
    out: &Path,
) -> Result<(), Error> {
    write_files(export_transformer_lens(config, params)?, out)
}

/// Writes [`export_huggingface`]'s files into the folder `out`, which is made.
///
/// # Errors
/// As there, and the system's.
pub fn write_export_huggingface(
    config: &ModelConfig,
    params: &Params,
    out: &Path,
) -> Result<(), Error> {
    write_files(export_huggingface(config, params)?, out)
}

fn write_files(
    files: impl IntoIterator<Item = (&'static str, Vec<u8>)>,
    out: &Path,
) -> Result<(), Error> {
    let io = |source| Error::Io { path: out.to_path_buf(), source };
    induction_files::make_folders(out).map_err(io)?;
    for (name, bytes) in files {
        induction_files::write_atomic(&out.join(name), &bytes).map_err(io)?;
    }
    Ok(())
}
