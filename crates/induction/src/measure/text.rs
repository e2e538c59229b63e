//! The text whose every token's loss is followed over training (paper.md, 6: argument 1's anecdote).

use std::{fs, path::Path};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::tables::write_json;
use crate::{Error, source::Source};

const FILE: &str = "text.json";

/// The chosen text.
pub struct Text {
    /// `[1, length + 1]`, the start token first.
    pub tokens: Array2<u32>,
    name: String,
}

/// `text.json`: what the entries of `text.jsonl` are the losses of.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// A file, or which held-out example.
    name: String,
    /// Token ids without the start token.
    ids: Vec<u32>,
    /// Each token as text, where the data have text.
    tokens: Vec<String>,
}

impl Text {
    /// The text in `file`; without one, the text that `folder` was measured on last, or the first held-out example.
    ///
    /// At most `n_ctx` tokens are read: a model of this family sees no more at once.
    ///
    /// # Errors
    /// A file that cannot be read or is too short, or data without a tokenizer to read it with.
    pub fn open(file: Option<&Path>, folder: Option<&Path>, source: &Source, n_ctx: usize) -> Result<Self, Error> {
        if let Some(file) = file {
            let text = fs::read_to_string(file).map_err(Error::io(file))?;
            let Some(tokenizer) = source.tokenizer() else {
                return Err(Error::Input(format!(
                    "{}: the run's data are synthetic and have no tokenizer to read a text with; measure without --text",
                    file.display()
                )));
            };
            let mut ids = tokenizer.encode(&text);
            if ids.len() < 2 {
                return Err(Error::Input(format!(
                    "{}: the text has {} tokens, expected at least 2",
                    file.display(),
                    ids.len()
                )));
            }
            ids.truncate(n_ctx);
            return Ok(Self::new(file.display().to_string(), source.bos(), ids));
        }
        let stored = || -> Option<Stored> { serde_json::from_slice(&fs::read(folder?.join(FILE)).ok()?).ok() };
        let fits = |stored: &Stored| {
            (1..=n_ctx).contains(&stored.ids.len())
                && stored.ids.iter().all(|&id| source.tokenizer().is_none_or(|t| (id as usize) < t.d_vocab()))
        };
        if let Some(stored) = stored().filter(fits) {
            return Ok(Self::new(stored.name, source.bos(), stored.ids));
        }
        let example = source.held_out(1)?;
        Ok(Self::new("held-out example 0".to_string(), example[[0, 0]], example.iter().skip(1).copied().collect()))
    }

    fn new(name: String, bos: u32, ids: Vec<u32>) -> Self {
        let tokens: Vec<u32> = std::iter::once(bos).chain(ids).collect();
        Self { tokens: Array2::from_shape_vec((1, tokens.len()), tokens).expect("one row"), name }
    }

    /// Tells texts apart.
    pub(super) fn hash(&self) -> String {
        let bytes: Vec<u8> = self.tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
        blake3::hash(&bytes).to_hex().to_string()
    }

    pub(super) fn write(&self, folder: &Path, source: &Source) -> Result<(), Error> {
        let ids: Vec<u32> = self.tokens.iter().skip(1).copied().collect();
        let tokens = match source.tokenizer() {
            Some(tokenizer) => ids.iter().map(|&id| tokenizer.token_text(id)).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        write_json(&folder.join(FILE), &Stored { name: self.name.clone(), ids, tokens })
    }
}
