use std::path::Path;

use serde::Serialize;

use crate::{Error, Row};

/// Writes the rows of one table into `folder`, in their order, the file whole or not at all.
///
/// # Errors
/// [`Error::Io`]; the table is then as it was before.
pub fn write_rows<R: Row>(folder: &Path, rows: &mut [R]) -> Result<(), Error> {
    rows.sort_by_key(Row::key);
    let mut text = Vec::new();
    for row in &*rows {
        serde_json::to_writer(&mut text, row).expect("plain structs serialize");
        text.push(b'\n');
    }
    let path = folder.join(R::FILE);
    induction_files::write_atomic(&path, &text).map_err(Error::io(path))
}

/// Writes one JSON value as a file, whole or not at all.
///
/// # Errors
/// [`Error::Io`]; the file is then as it was before.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).expect("plain structs serialize");
    induction_files::write_atomic(path, &text).map_err(Error::io(path))
}
