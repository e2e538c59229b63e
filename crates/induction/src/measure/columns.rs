//! The tables as Parquet, made from their JSON lines: one definition of a row, two files.

use std::{io::Cursor, path::Path, sync::Arc};

use arrow_json::{ReaderBuilder, reader::infer_json_schema_from_seekable};
use parquet::arrow::ArrowWriter;

use crate::Error;

/// Writes `NAME.parquet` beside `NAME.jsonl`.
pub(super) fn write(folder: &Path, table: &str) -> Result<(), Error> {
    let path = folder.join(table);
    let text = std::fs::read(&path).map_err(Error::io(&path))?;
    let target = path.with_extension("parquet");
    let bytes = convert(&text).map_err(|reason| Error::Input(format!("{}: {reason}", target.display())))?;
    induction_files::write_atomic(&target, &bytes).map_err(Error::io(target))
}

fn convert(text: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (schema, _) = infer_json_schema_from_seekable(Cursor::new(text), None)?;
    let schema = Arc::new(schema);
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None)?;
    for batch in ReaderBuilder::new(schema).build(Cursor::new(text))? {
        writer.write(&batch?)?;
    }
    Ok(writer.into_inner()?)
}
