//! Tables of values between commas or tabs, with a row of names: each row is an object.

use std::path::Path;

use super::json::{Documents, Row, looked_for, no_text, rank};
use super::{Found, read_text};
use crate::{Error, Result};

/// Reads a table, of which `id` and the text are needed.
pub(super) fn read_table(path: &Path, text_field: Option<&str>, limit: u64) -> Result<Found> {
    let looked_for = looked_for(text_field.as_slice());
    let text = read_text(path, limit)?;
    let text = text.trim_start_matches('\u{feff}');
    let is_tabs = path.to_string_lossy().to_lowercase().contains(".tsv");
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(if is_tabs { b'\t' } else { b',' })
        .from_reader(text.as_bytes());
    let wrong = |line: usize, reason: String| Error::Line { path: path.to_owned(), line, reason };
    let names = reader.headers().map_err(|e| wrong(1, e.to_string()))?.clone();
    let rank = |name: &str| rank(looked_for, name.trim());
    let mut documents = Documents::default();
    if !names.iter().any(|name| rank(name).is_some()) {
        let names: Vec<String> = names.iter().map(str::to_owned).collect();
        return Err(wrong(1, no_text(&names, looked_for)));
    }
    for (place, record) in (1..).zip(reader.records()) {
        let record = record.map_err(|e| {
            let line = e.position().map_or(place, |at| at.line() as usize);
            wrong(line, e.to_string())
        })?;
        let mut row = Row::default();
        for (name, value) in names.iter().zip(&record) {
            if let Some(rank) = rank(name) {
                row.texts.push((rank, value.into()));
            } else if name.trim() == "id" {
                row.id = value.into();
            }
        }
        let found = row.document(place, looked_for).map_err(|e| wrong(place, e))?;
        documents.add(found, place, || format!("row {place} of {}", path.display()));
    }
    Ok(documents.found)
}
