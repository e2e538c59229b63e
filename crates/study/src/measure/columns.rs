//! The tables as Parquet, beside their JSON lines.

use std::path::Path;

use crate::Error;

/// Writes `NAME.parquet` beside `NAME.jsonl`.
pub(super) fn write(folder: &Path, table: &str) -> Result<(), Error> {
    let path = folder.join(table);
    let text = std::fs::read(&path).map_err(Error::io(&path))?;
    let target = path.with_extension("parquet");
    let made = induction_files::parquet_of_json_lines(&text);
    let bytes = made.map_err(|reason| Error::Input(format!("{}: {reason}", target.display())))?;
    induction_files::write_atomic(&target, &bytes).map_err(Error::io(target))
}
