//! What every tokenizer does, whoever trained it.

use crate::{BpeTokenizer, Result};

/// What reads texts for a model.
///
/// Where tokens lie in a text follows from [`token_bytes`](Self::token_bytes): the bytes of a
/// text's tokens, one after the other, are the text's, unless the tokenizer normalises or puts a
/// space first.
pub trait Tokenizer: Send + Sync {
    /// The ids of a text. No special token is added, and none recognised: the text `<|endoftext|>`
    /// gives its characters.
    ///
    /// # Errors
    /// [`Error::UnknownCharacter`](crate::Error::UnknownCharacter) if no token stands for a byte of
    /// the text.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// The bytes that one token stands for: its name for a special one, part of a character for
    /// some.
    ///
    /// # Errors
    /// [`Error::UnknownToken`](crate::Error::UnknownToken) for an id without a token.
    fn token_bytes(&self, id: u32) -> Result<&[u8]>;

    /// What begins a sequence, if the model has such a token.
    fn bos(&self) -> Option<u32>;

    /// One more than the largest id.
    fn d_vocab(&self) -> usize;

    /// The bytes that some ids stand for.
    ///
    /// # Errors
    /// [`Error::UnknownToken`](crate::Error::UnknownToken) for an id without a token.
    fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        for &id in ids {
            text.extend_from_slice(self.token_bytes(id)?);
        }
        Ok(text)
    }

    /// One token for a reader's eyes: its text, with bytes that are not UTF-8 on their own written
    /// `\xNN`.
    ///
    /// # Errors
    /// [`Error::UnknownToken`](crate::Error::UnknownToken) for an id without a token.
    fn token_text(&self, id: u32) -> Result<String> {
        self.token_bytes(id).map(crate::bytes::escaped)
    }
}

impl Tokenizer for BpeTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encode(text))
    }

    fn token_bytes(&self, id: u32) -> Result<&[u8]> {
        self.piece(id)
    }

    fn bos(&self) -> Option<u32> {
        Some(self.bos())
    }

    fn d_vocab(&self) -> usize {
        self.d_vocab()
    }
}
