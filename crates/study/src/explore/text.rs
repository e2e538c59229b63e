//! The text whose tokens are followed over training (paper.md, 6: argument 1's anecdote).

use std::{fs, path::Path};

use induction_records::{FollowedText, write_json};
use induction_tokenizer::Tokenizer;
use ndarray::Array2;

use crate::{Error, source::Source};

/// The chosen text.
pub(super) struct Text {
    /// `[1, length + 1]`, the start token first.
    pub(super) tokens: Array2<u32>,
    name: String,
}

impl Text {
    /// The text in `file`; without one, the text that `folder` was explored with last, or a
    /// held-out example.
    ///
    /// At most `n_ctx` tokens are read: a model of this family sees no more at once.
    ///
    /// # Errors
    /// A file that cannot be read or is too short, or data without a tokenizer to read it with.
    pub(super) fn open(
        file: Option<&Path>,
        folder: &Path,
        source: &Source,
        n_ctx: usize,
    ) -> Result<Self, Error> {
        if let Some(file) = file {
            let text = fs::read_to_string(file).map_err(Error::io(file))?;
            let Some(tokenizer) = source.tokenizer() else {
                return Err(Error::Input(format!(
                    "{}: the run's data are synthetic and have no tokenizer to read a text with; leave --text out",
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
        let stored = || -> Option<FollowedText> {
            serde_json::from_slice(&fs::read(folder.join(FollowedText::FILE)).ok()?).ok()
        };
        let fits = |stored: &FollowedText| {
            (1..=n_ctx).contains(&stored.ids.len())
                && stored
                    .ids
                    .iter()
                    .all(|&id| source.tokenizer().is_none_or(|t| (id as usize) < t.d_vocab()))
        };
        if let Some(stored) = stored().filter(fits) {
            return Ok(Self::new(stored.name, source.bos(), stored.ids));
        }
        let (index, example) = repetitive_example(source)?;
        Ok(Self::new(format!("held-out example {index}"), example[0], example[1..].to_vec()))
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
            Some(tokenizer) => {
                ids.iter().map(|&id| tokenizer.token_text(id)).collect::<Result<_, _>>()?
            }
            None => ids.iter().map(u32::to_string).collect(),
        };
        let text = FollowedText { name: self.name.clone(), ids, tokens };
        Ok(write_json(&folder.join(FollowedText::FILE), &text)?)
    }
}

/// Held-out examples among which a text is chosen.
const CANDIDATES: usize = 64;

/// The held-out example of which nearest to half of the pairs of neighbours have come before in it:
/// one that has both something to complete and something new. Few examples have as many, and a list
/// of numbers has more.
fn repetitive_example(source: &Source) -> Result<(usize, Vec<u32>), Error> {
    let examples = source.held_out(1).and_then(|one| source.held_out(CANDIDATES).or(Ok(one)))?;
    let distance = |row: &[u32]| {
        let mut seen = std::collections::BTreeSet::new();
        let pairs = row[1..].windows(2).take(super::MAP_TOKENS);
        let (mut all, mut again) = (0u64, 0u64);
        for pair in pairs {
            all += 1;
            again += u64::from(!seen.insert([pair[0], pair[1]]));
        }
        (2 * again).abs_diff(all)
    };
    let rows: Vec<Vec<u32>> = examples.rows().into_iter().map(|row| row.to_vec()).collect();
    let nearest = rows.into_iter().enumerate().min_by_key(|(_, row)| distance(row));
    Ok(nearest.expect("at least one example was asked for"))
}
