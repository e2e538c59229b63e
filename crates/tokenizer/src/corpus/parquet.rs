//! Parquet files: each row is an object.

use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::Found;
use super::json::{looked_for, no_text, rank, read_lines};
use crate::{Error, Result};

/// Reads the rows of a Parquet file as lines of JSON, of which `id` and the text are needed.
pub(super) fn read_parquet(path: &Path, text_field: Option<&str>, limit: u64) -> Result<Found> {
    let damaged = |reason: String| Error::Damaged {
        path: path.to_owned(),
        kind: "Parquet",
        test: "python -c 'import pandas, sys; pandas.read_parquet(sys.argv[1])' FILE",
        reason,
    };
    let wanted = |columns: &[(String, bool)]| {
        let looked_for = looked_for(text_field.as_slice());
        // Numbers and dates are no texts, whatever their column is called.
        let is_text =
            |(name, is_text): &&(String, bool)| *is_text && rank(looked_for, name).is_some();
        let mut wanted: Vec<String> =
            columns.iter().filter(is_text).map(|(name, _)| name.clone()).collect();
        if wanted.is_empty() {
            let named = |(name, is_text): &(String, bool)| match is_text {
                true => name.clone(),
                false => format!("{name} (no texts)"),
            };
            let names: Vec<String> = columns.iter().map(named).collect();
            let reason = no_text(&names, looked_for);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        wanted.push("id".to_owned());
        Ok(wanted)
    };
    let opened = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidInput => {
            Error::Line { path: path.to_owned(), line: 1, reason: error.to_string() }
        }
        io::ErrorKind::Other => damaged(error.to_string()),
        _ => Error::io("read the corpus", path)(error),
    };
    let read = || {
        let lines = induction_files::json_lines_of_parquet(path, wanted).map_err(opened)?;
        let lines = BufReader::new(Joined { lines, now: Vec::new(), at: 0 });
        read_lines(path, text_field, lines, limit)
    };
    // The library is not made for files of strangers.
    let read = catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(damaged("its reader panicked".into())));
    read.map_err(|error| match error {
        Error::Io { source, .. } if source.to_string().contains("Disabled feature") => {
            Error::NotText {
                path: path.to_owned(),
                kind: "Parquet with columns packed in a way that is not read here",
                help: "write it again, for example with pandas' `to_parquet(compression=\"zstd\")`; snappy, gzip and zstd are read",
            }
        }
        error => error,
    })
}

/// Pieces one after the other.
struct Joined<I> {
    lines: I,
    now: Vec<u8>,
    at: usize,
}

impl<I: Iterator<Item = io::Result<Vec<u8>>>> Read for Joined<I> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.now.len() {
            match self.lines.next() {
                Some(piece) => (self.now, self.at) = (piece?, 0),
                None => return Ok(0),
            }
        }
        let read = (&self.now[self.at..]).read(into)?;
        self.at += read;
        Ok(read)
    }
}
