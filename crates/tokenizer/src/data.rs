//! The data folder: what one corpus and one vocabulary size give, prepared once and shared by all
//! runs.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::corpus::{Corpus, Texts};
use crate::split::{Split, check_fraction, split};
use crate::{BpeTokenizer, Document, Error, Result, Shard, bpe, corpus, tokenizer_file};

/// Part of the key: raised when the same corpus would give other files.
const FORMAT_VERSION: u32 = 1;

/// How often a folder is looked for again: each time is one that another process changed under us.
const ATTEMPTS: usize = 4;

/// The content of `data.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The corpus' file name; of several files the first one's, and how many more.
    pub corpus: String,
    /// Hash of its ids and texts, in hexadecimal.
    pub corpus_blake3: String,
    /// Hash of `tokenizer.json`, in hexadecimal.
    pub tokenizer_blake3: String,
    /// Size of the vocabulary.
    pub d_vocab: usize,
    /// Share of the bytes that was asked to be held out.
    pub held_out: f64,
    /// Documents trained on.
    pub train_documents: usize,
    /// Documents held out.
    pub held_out_documents: usize,
    /// Tokens trained on, one BOS a document included.
    pub train_tokens: usize,
    /// Tokens held out, one BOS a document included.
    pub held_out_tokens: usize,
    /// Bytes of text trained on.
    pub train_bytes: u64,
    /// Bytes of text held out.
    pub held_out_bytes: u64,
}

/// A prepared data folder, loaded and verified.
#[derive(Debug, Clone)]
pub struct Data {
    /// Where it is: `data_root/<key>`.
    pub folder: PathBuf,
    /// Trained on the training documents alone.
    pub tokenizer: BpeTokenizer,
    /// What models are trained on.
    pub train: Shard,
    /// What they are measured on.
    pub held_out: Shard,
    /// The numbers.
    pub summary: Summary,
    /// What the user should hear about: documents left out, a damaged folder set aside.
    pub notes: Vec<String>,
}

/// Loads the data folder of a corpus, making it first if it is not there.
///
/// The folder is built beside its final name and renamed once, so a process that dies leaves no
/// half of one; two processes may prepare the same data at once. A folder that is damaged is
/// renamed, never deleted, and made again.
///
/// # Errors
/// Whatever is wrong with the corpus, `d_vocab`, `held_out` (a fraction of the bytes) or the disk.
pub fn prepare(
    texts: impl Into<Texts>,
    d_vocab: usize,
    held_out: f64,
    data_root: impl AsRef<Path>,
) -> Result<Data> {
    let (texts, data_root) = (texts.into(), data_root.as_ref());
    // Before minutes are spent on reading.
    bpe::check_d_vocab(d_vocab)?;
    check_fraction(held_out)?;
    let name = texts.name();
    let wanted = Wanted { name, corpus: corpus::load(texts)?, d_vocab, held_out };
    induction_files::make_folders(data_root).map_err(Error::io("create", data_root))?;
    let folder = data_root.join(wanted.key());

    let mut notes = wanted.corpus.notes(&wanted.name);
    let mut attempt = 1;
    loop {
        if !folder.exists() {
            wanted.build(&folder)?;
        }
        match wanted.read(&folder) {
            Ok((tokenizer, train, held_out, summary)) => {
                return Ok(Data { folder, tokenizer, train, held_out, summary, notes });
            }
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(error) => notes.extend(set_aside(&folder, &error)?),
        }
        attempt += 1;
    }
}

/// What a data folder must hold.
struct Wanted {
    name: String,
    corpus: Corpus,
    d_vocab: usize,
    held_out: f64,
}

impl Wanted {
    fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.corpus.blake3.as_bytes());
        hasher.update(&(self.d_vocab as u64).to_le_bytes());
        hasher.update(&self.held_out.to_bits().to_le_bytes());
        hasher.update(&FORMAT_VERSION.to_le_bytes());
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// Makes `folder`. Another process having made it meanwhile is success: both hold the same
    /// bytes.
    fn build(&self, folder: &Path) -> Result<()> {
        let Split { train, held_out } = split(self.corpus.documents.clone(), self.held_out)?;
        // On the training documents alone: merges are learned parameters too.
        let tokenizer = BpeTokenizer::train(&train, self.d_vocab)?;
        let tokenizer_json = tokenizer.to_json()?.into_bytes();
        let train_shard = Shard::from_documents(&tokenizer, &train);
        let held_out_shard = Shard::from_documents(&tokenizer, &held_out);
        let summary = Summary {
            corpus: self.name.clone(),
            corpus_blake3: self.corpus.blake3.clone(),
            tokenizer_blake3: blake3::hash(&tokenizer_json).to_hex().to_string(),
            d_vocab: self.d_vocab,
            held_out: self.held_out,
            train_documents: train.len(),
            held_out_documents: held_out.len(),
            train_tokens: train_shard.tokens.len(),
            held_out_tokens: held_out_shard.tokens.len(),
            train_bytes: bytes(&train),
            held_out_bytes: bytes(&held_out),
        };
        let mut data_json = serde_json::to_vec_pretty(&summary)
            .map_err(|e| refusal(folder, "data.json", format!("cannot be written: {e}")))?;
        data_json.push(b'\n');
        let files = [
            ("tokenizer.json", tokenizer_json),
            ("train.tokens", train_shard.to_bytes()),
            ("held_out.tokens", held_out_shard.to_bytes()),
            ("data.json", data_json),
        ];
        match induction_files::write_folder_atomic(folder, &files) {
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Ok(())
            }
            result => result.map_err(Error::io("write the data folder", folder)),
        }
    }

    /// Reads a folder and checks that its files are whole and belong together.
    fn read(&self, folder: &Path) -> Result<(BpeTokenizer, Shard, Shard, Summary)> {
        let data_json = tokenizer_file::beginning(&folder.join("data.json"), "read", 1 << 16)?;
        let summary: Summary = serde_json::from_slice(&data_json)
            .map_err(|e| refusal(folder, "data.json", e.to_string()))?;
        let path = folder.join("tokenizer.json");
        let tokenizer_json = tokenizer_file::read(&path, tokenizer_file::of_file(&path))?;
        let tokenizer_blake3 = blake3::hash(&tokenizer_json).to_hex().to_string();
        let tokenizer = BpeTokenizer::from_bytes(&path, &tokenizer_json)?;
        let train = Shard::read(folder.join("train.tokens"))?;
        let held_out = Shard::read(folder.join("held_out.tokens"))?;
        let vocabularies = [tokenizer.d_vocab(), train.d_vocab as usize, held_out.d_vocab as usize];
        let fits = [
            ("corpus_blake3", summary.corpus_blake3 == self.corpus.blake3),
            ("tokenizer_blake3", summary.tokenizer_blake3 == tokenizer_blake3),
            ("d_vocab", summary.d_vocab == self.d_vocab && vocabularies == [self.d_vocab; 3]),
            ("held_out", summary.held_out == self.held_out),
            ("train_tokens", summary.train_tokens == train.tokens.len()),
            ("held_out_tokens", summary.held_out_tokens == held_out.tokens.len()),
        ];
        match fits.iter().find(|(_, fits)| !fits) {
            Some((field, _)) => {
                Err(refusal(folder, field, "does not match the other files".to_owned()))
            }
            None => Ok((tokenizer, train, held_out, summary)),
        }
    }
}

/// Renames a damaged folder out of the way; the note says where to. No note if another process was
/// faster.
fn set_aside(folder: &Path, error: &Error) -> Result<Option<String>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    for n in 1.. {
        let aside = folder.with_file_name(format!("{name}.damaged-{n}"));
        if aside.exists() {
            continue;
        }
        match induction_files::rename(folder, &aside) {
            Ok(()) => {
                return Ok(Some(format!(
                    "prepared data was damaged and is made again ({error}); moved to {}",
                    aside.display()
                )));
            }
            Err(_) if !folder.exists() => break,
            Err(_) if aside.exists() => {}
            Err(source) => {
                return Err(Error::Io {
                    action: "set aside the damaged folder",
                    path: folder.to_owned(),
                    source,
                });
            }
        }
    }
    Ok(None)
}

fn refusal(folder: &Path, field: &'static str, reason: String) -> Error {
    Error::DataFolder { path: folder.to_owned(), field, reason }
}

fn bytes(documents: &[Document]) -> u64 {
    documents.iter().map(|d| d.text.len() as u64).sum()
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
