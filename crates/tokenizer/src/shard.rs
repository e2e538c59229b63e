//! Token shards: the ids of many documents in one checked file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;

use crate::bpe::MAX_D_VOCAB;
use crate::{BpeTokenizer, Document, Error, Result};

const MAGIC: &[u8; 8] = b"INDTOK1\n";
/// Magic, d_vocab, zero, count, hash.
const HEADER_BYTES: usize = 8 + 4 + 4 + 8 + 32;

/// Token ids, documents following each other, each preceded by one BOS (id 0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Every token is below this.
    pub d_vocab: u32,
    /// The ids.
    pub tokens: Vec<u16>,
}

impl Shard {
    /// Encodes documents one after the other, each preceded by BOS.
    pub fn from_documents(tokenizer: &BpeTokenizer, documents: &[Document]) -> Self {
        let narrow = |id: u32| u16::try_from(id).expect("a vocabulary has at most 65536 tokens");
        // In parallel, and collected in the documents' order: threads change the time taken and
        // nothing else.
        let encode = |document: &Document| -> Vec<u16> {
            std::iter::once(tokenizer.bos())
                .chain(tokenizer.encode(&document.text))
                .map(narrow)
                .collect()
        };
        let tokens = documents.par_iter().map(encode).collect::<Vec<_>>().concat();
        Self { d_vocab: tokenizer.d_vocab() as u32, tokens }
    }

    /// Writes the shard; whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Shard`] if a token is not below `d_vocab`, since nothing would read
    /// the file.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.check().map_err(refusal(path))?;
        induction_files::write_atomic(path, &self.to_bytes())
            .map_err(Error::io("write the shard", path))
    }

    /// The content of the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 2 * self.tokens.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.d_vocab.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&(self.tokens.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&[0; 32]);
        bytes.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        let hash = blake3::hash(&bytes[HEADER_BYTES..]);
        bytes[HEADER_BYTES - 32..HEADER_BYTES].copy_from_slice(hash.as_bytes());
        bytes
    }

    /// Reads a shard and verifies all of it: lengths before anything is allocated, then hash and
    /// ids.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Shard`] naming the field that is wrong.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(Error::io("read the shard", path))?;
        let length = file.metadata().map_err(Error::io("read the shard", path))?.len();
        let mut header = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Err(refusal(path)((
                "header",
                format!("{length} bytes, expected {HEADER_BYTES} or more"),
            )));
        }
        file.read_exact(&mut header).map_err(Error::io("read the shard", path))?;
        let (d_vocab, hash) = parse_header(&header, length).map_err(refusal(path))?;

        // Not `with_capacity(count)`: what is allocated grows with what is read.
        let mut bytes = Vec::new();
        file.take(length - HEADER_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read the shard", path))?;
        if blake3::hash(&bytes) != hash {
            return Err(refusal(path)((
                "hash",
                "the tokens do not match it; the file is damaged".to_owned(),
            )));
        }
        let tokens =
            bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let shard = Self { d_vocab, tokens };
        shard.check().map_err(refusal(path))?;
        Ok(shard)
    }

    fn check(&self) -> Result<(), Refusal> {
        if !(1..=MAX_D_VOCAB as u32).contains(&self.d_vocab) {
            return Err(("d_vocab", format!("is {}, expected 1 to {MAX_D_VOCAB}", self.d_vocab)));
        }
        match self.tokens.iter().position(|&token| u32::from(token) >= self.d_vocab) {
            Some(at) => Err((
                "tokens",
                format!("token {at} is {}, expected less than {}", self.tokens[at], self.d_vocab),
            )),
            None => Ok(()),
        }
    }
}

/// A field and what is wrong with it.
type Refusal = (&'static str, String);

fn refusal(path: &Path) -> impl Fn(Refusal) -> Error {
    move |(field, reason)| Error::Shard { path: path.to_owned(), field, reason }
}

/// `d_vocab` and the hash of a file of `length` bytes.
fn parse_header(header: &[u8; HEADER_BYTES], length: u64) -> Result<(u32, blake3::Hash), Refusal> {
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let count = u64::from(word(16)) | u64::from(word(20)) << 32;
    if &header[..8] != MAGIC {
        return Err(("magic", "expected `INDTOK1`; this is not a token shard".to_owned()));
    }
    if word(12) != 0 {
        return Err(("reserved word", format!("is {}, expected 0", word(12))));
    }
    if count.checked_mul(2).and_then(|bytes| bytes.checked_add(HEADER_BYTES as u64)) != Some(length)
    {
        return Err((
            "count",
            format!("{count} tokens do not make a file of {length} bytes; it was cut or extended"),
        ));
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(&header[24..]);
    Ok((word(8), blake3::Hash::from_bytes(hash)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(shard: &Shard) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.tokens");
        shard.write(&path).unwrap();
        (folder, path)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn reads_what_it_wrote(tokens in prop::collection::vec(any::<u16>(), 0..500)) {
            let shard = Shard { d_vocab: 1 << 16, tokens };
            let (_folder, path) = written(&shard);
            prop_assert_eq!(Shard::read(&path).unwrap(), shard);
        }
    }

    #[test]
    fn the_file_is_as_the_format_says() {
        let (_folder, path) = written(&Shard { d_vocab: 300, tokens: vec![0, 299, 256] });
        let tokens = [0, 0, 43, 1, 0, 1];
        let hash = blake3::hash(&tokens);
        let expected = [
            b"INDTOK1\n",
            &[44u8, 1, 0, 0, 0, 0, 0, 0][..],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            hash.as_bytes(),
            &tokens,
        ];
        assert_eq!(std::fs::read(path).unwrap(), expected.concat());
    }

    #[test]
    fn each_damage_names_its_field() {
        let (_folder, path) = written(&Shard { d_vocab: 4, tokens: vec![0, 1, 2, 3] });
        let good = std::fs::read(&path).unwrap();
        let refused = |field: &str, damage: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            damage(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            let error = Shard::read(&path).unwrap_err().to_string();
            assert!(error.contains("train.tokens") && error.contains(field), "{field}: {error}");
        };
        refused("header", &|bytes| bytes.truncate(55));
        refused("magic", &|bytes| bytes[0] = b'X');
        refused("d_vocab", &|bytes| bytes[10] = 9);
        refused("reserved", &|bytes| bytes[12] = 1);
        refused("count", &|bytes| bytes[16] = 5);
        refused("count", &|bytes| bytes[23] = 0x80);
        refused("count", &|bytes| bytes.truncate(57));
        refused("count", &|bytes| bytes.push(0));
        refused("hash", &|bytes| bytes[30] ^= 1);
        refused("hash", &|bytes| bytes[56] ^= 1);
        refused("tokens", &|bytes| bytes[8] = 3);
        assert!(matches!(Shard::read(path.with_extension("none")), Err(Error::Io { .. })));
    }

    #[test]
    fn does_not_write_what_it_would_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (d_vocab, token) in [(5, 5), (0, 0), (65537, 0)] {
            assert!(matches!(
                Shard { d_vocab, tokens: vec![token] }.write(&path),
                Err(Error::Shard { .. })
            ));
        }
        assert!(!path.exists());
    }
}
