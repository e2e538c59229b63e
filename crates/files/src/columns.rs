//! Tables as Parquet, made from their JSON lines: one definition of a row, two files.

use std::{
    io::{Cursor, Error, Result},
    sync::Arc,
};

use arrow_json::{ReaderBuilder, reader::infer_json_schema_from_seekable};
use parquet::arrow::ArrowWriter;

/// The same table as Parquet; columns and their types are found from the lines.
///
/// # Errors
/// Text that is not JSON lines, or lines that disagree about a column.
pub fn parquet_of_json_lines(text: &[u8]) -> Result<Vec<u8>> {
    let (schema, _) =
        infer_json_schema_from_seekable(Cursor::new(text), None).map_err(Error::other)?;
    let schema = Arc::new(schema);
    let mut writer =
        ArrowWriter::try_new(Vec::new(), schema.clone(), None).map_err(Error::other)?;
    for batch in ReaderBuilder::new(schema).build(Cursor::new(text)).map_err(Error::other)? {
        writer.write(&batch.map_err(Error::other)?).map_err(Error::other)?;
    }
    writer.into_inner().map_err(Error::other)
}
