//! Models in several files, as llama.cpp's `gguf-split` makes them: `NAME-00001-of-00003.gguf` and
//! so on. The first has the metadata; each has some of the tensors.

use std::path::{Path, PathBuf};

use crate::{Error, Result, parse::Header};

/// What a part says of itself.
pub(crate) struct Split {
    /// Parts that there are, 2 or more.
    count: u64,
    /// Which of them this is, from 0.
    number: u64,
    /// Tensors in all of them.
    tensors: Option<u64>,
}

impl Split {
    /// What a header says; `None` of a file that is whole.
    pub(crate) fn of(header: &Header, path: &Path) -> Result<Option<Self>> {
        let integer = |key: &str| -> Result<Option<u64>> {
            let Some((_, value)) = header.metadata.iter().find(|(found, _)| found == key) else {
                return Ok(None);
            };
            let fits = value.integer().and_then(|n| u64::try_from(n).ok());
            fits.map(Some).ok_or_else(|| Error::Field {
                path: path.to_owned(),
                key: key.to_owned(),
                found: format!("is {value}"),
                expected: "an integer, 0 or more",
            })
        };
        let Some(count) = integer("split.count")?.filter(|&count| count > 1) else {
            return Ok(None);
        };
        let number = integer("split.no")?.unwrap_or(0);
        if number >= count {
            return Err(Error::Format {
                path: path.to_owned(),
                field: "key split.no".to_owned(),
                reason: format!("is {number}, of {count} parts; expected a number below theirs"),
            });
        }
        Ok(Some(Self { count, number, tensors: integer("split.tensors.count")? }))
    }

    /// The files of all parts, by the name of the one at `path`; each is there.
    pub(crate) fn paths(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let count = self.count;
        let bad = |reason: String| Error::Format {
            path: path.to_owned(),
            field: "key split.count".to_owned(),
            reason,
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let end = format!("-{:05}-of-{count:05}.gguf", self.number + 1);
        let Some(stem) = name.strip_suffix(&end) else {
            return Err(bad(format!(
                "is {count}: this is part {} of a model in {count} files, but the file's name does not end in {end}; give it back its name, so that the others are found by theirs",
                self.number + 1
            )));
        };
        let part = |k: u64| path.with_file_name(format!("{stem}-{k:05}-of-{count:05}.gguf"));
        let paths: Vec<_> = (1..=count).map(part).take_while(|part| part.is_file()).collect();
        match u64::try_from(paths.len()) {
            Ok(found) if found == count => Ok(paths),
            _ => {
                let missing = part(paths.len() as u64 + 1);
                let missing = missing.file_name().unwrap_or_default().to_string_lossy();
                Err(bad(format!(
                    "is {count}, and {missing} is not beside it; fetch all parts into one folder"
                )))
            }
        }
    }

    /// Refuses a part at `path` that is not the `number`-th of as many as this one says.
    pub(crate) fn check(&self, other: Option<&Self>, number: usize, path: &Path) -> Result<()> {
        let found = match other {
            None => "no part of a split file".to_owned(),
            Some(other) if other.count == self.count && other.number == number as u64 => {
                return Ok(());
            }
            Some(other) => format!("part {} of {}", other.number + 1, other.count),
        };
        let reason = format!(
            "the file is {found}, expected part {} of {}; fetch all parts of one model again",
            number + 1,
            self.count
        );
        Err(Error::Format { path: path.to_owned(), field: "key split.no".to_owned(), reason })
    }

    /// Refuses another number of tensors than was announced.
    pub(crate) fn check_tensors(&self, found: usize, path: &Path) -> Result<()> {
        match self.tensors {
            Some(expected) if expected != found as u64 => Err(Error::Format {
                path: path.to_owned(),
                field: "key split.tensors.count".to_owned(),
                reason: format!(
                    "is {expected}, the parts have {found} tensors; fetch all parts of one model again"
                ),
            }),
            _ => Ok(()),
        }
    }
}
