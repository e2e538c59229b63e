//! Tables as Parquet, made from their JSON lines: one definition of a row, two files. And back.

use std::{
    fs::File,
    io::{Cursor, Error, Result},
    path::Path,
    sync::Arc,
};

use arrow_json::{
    ReaderBuilder, WriterBuilder, reader::infer_json_schema_from_seekable, writer::LineDelimited,
};
use arrow_schema::{DataType, Schema};
use parquet::arrow::{
    ArrowWriter, ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
};

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

/// Texts, and lists, which may be of messages.
fn holds_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::List(_) | DataType::LargeList(_) | DataType::Null => true,
        DataType::Dictionary(_, values) => holds_text(values),
        _ => false,
    }
}

/// The rows of a Parquet file as JSON lines, some at a time, of the columns that `wanted` names of
/// all there are, each with whether it may hold texts; a value that is missing is null. Bytes that
/// nobody called text are read as text.
///
/// # Errors
/// Those of `wanted`, the system's, and of kind [`Other`](std::io::ErrorKind::Other) if it is not Parquet or damaged.
pub fn json_lines_of_parquet(
    path: &Path,
    wanted: impl FnOnce(&[(String, bool)]) -> Result<Vec<String>>,
) -> Result<impl Iterator<Item = Result<Vec<u8>>>> {
    let opened = File::open(path)?;
    let as_it_is = ArrowReaderMetadata::load(
        &opened,
        ArrowReaderOptions::new().with_skip_arrow_metadata(true),
    )
    .map_err(Error::other)?;
    let texts = as_it_is.schema().fields().iter().map(|field| {
        let kind = match field.data_type() {
            DataType::Binary => DataType::Utf8,
            DataType::LargeBinary => DataType::LargeUtf8,
            kind => kind.clone(),
        };
        field.as_ref().clone().with_data_type(kind)
    });
    let schema = Arc::new(Schema::new(texts.collect::<Vec<_>>()));
    let options = ArrowReaderOptions::new().with_schema(schema);
    let file = ParquetRecordBatchReaderBuilder::try_new_with_options(opened, options)
        .map_err(Error::other)?;
    let columns: Vec<(String, bool)> = file
        .schema()
        .fields()
        .iter()
        .map(|field| (field.name().clone(), holds_text(field.data_type())))
        .collect();
    let wanted = wanted(&columns)?;
    let places = (0..columns.len()).filter(|&k| wanted.contains(&columns[k].0));
    let mask = ProjectionMask::roots(file.parquet_schema(), places);
    let batches = file.with_projection(mask).build().map_err(Error::other)?;
    Ok(batches.map(|batch| {
        let builder = WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, LineDelimited>(Vec::new());
        writer.write(&batch.map_err(Error::other)?).map_err(Error::other)?;
        writer.finish().map_err(Error::other)?;
        Ok(writer.into_inner())
    }))
}
