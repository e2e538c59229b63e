//! A tokenizer from the parts that a GGUF file keeps of it.

use std::collections::HashMap;

use super::added::{Added, check_added};
use super::bos::Bos;
use super::vocabulary::{MAX_TOKENS, check_merges, check_vocab, pair};
use super::{Description, words};
use crate::tokenizer_file::{Refusal, refuse};

/// What a GGUF file says of its tokenizer, under the keys named here (each begins
/// `tokenizer.ggml.`).
#[derive(Debug, Clone, Default)]
pub struct TokenizerParts {
    /// `tokens`: in the byte alphabet, by id.
    pub tokens: Vec<String>,
    /// `merges`: `"a b"`, the first to be merged first.
    pub merges: Vec<String>,
    /// `token_type`: one a token (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused); empty
    /// if all are normal.
    pub token_types: Vec<i32>,
    /// `pre`: the name of the way texts are cut into words.
    pub pre: String,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
}

const NORMAL: i32 = 1;
const USER_DEFINED: i32 = 4;

pub(super) fn describe(parts: TokenizerParts) -> Result<Description, Refusal> {
    let TokenizerParts { tokens, merges, token_types, pre, bos, add_bos } = parts;
    let named = words::named(&pre).or_else(|reason| refuse("tokenizer.ggml.pre", reason))?;
    if tokens.len() > MAX_TOKENS {
        return refuse(
            "tokenizer.ggml.tokens",
            format!("{} tokens, expected at most {MAX_TOKENS}", tokens.len()),
        );
    }
    if !token_types.is_empty() && token_types.len() != tokens.len() {
        let reason =
            format!("{} types of {} tokens, expected one each", token_types.len(), tokens.len());
        return refuse("tokenizer.ggml.token_type", reason);
    }
    let n_tokens = tokens.len();
    if bos.is_some_and(|bos| bos as usize >= n_tokens) {
        return refuse(
            "tokenizer.ggml.bos_token_id",
            format!("is {bos:?}, expected below {n_tokens}"),
        );
    }
    let (mut vocab, mut added) = (HashMap::with_capacity(n_tokens), Vec::new());
    for (id, (token, k)) in (0..).zip(tokens.into_iter().zip(0usize..)) {
        match token_types.get(k).copied().unwrap_or(NORMAL) {
            NORMAL => {
                if let Some(other) = vocab.insert(token, id) {
                    return refuse(
                        format!("tokenizer.ggml.tokens[{id}]"),
                        format!("is token {other} again"),
                    );
                }
            }
            kind @ 2..=5 => added.push(Added {
                id,
                content: token,
                // Neither does a token that is unknown or unused come out of a text.
                special: kind != USER_DEFINED,
                normalized: false,
            }),
            kind => {
                let reason = format!("is {kind}, expected 1 to 5 (6, a byte, is SentencePiece's)");
                return refuse(format!("tokenizer.ggml.token_type[{k}]"), reason);
            }
        }
    }
    check_added(|k| format!("tokenizer.ggml.tokens[{}]", added[k].id), &added, &vocab)?;
    check_vocab("tokenizer.ggml.tokens", &vocab, &[])?;
    let parsed = merges.iter().enumerate().map(|(rank, merge)| {
        let expected = || {
            (format!("tokenizer.ggml.merges[{rank}]"), format!("is {merge:?}, expected two tokens"))
        };
        pair(merge).ok_or_else(expected)
    });
    let merges = parsed.collect::<Result<Vec<_>, _>>()?;
    check_merges("tokenizer.ggml.merges", &merges, &vocab)?;
    let bos = Bos { first: bos.filter(|_| add_bos.unwrap_or(named.add_bos)), named: bos };
    let words::Named { words, nfc, ignore_merges, .. } = named;
    Ok(Description { vocab, merges, ignore_merges, added, nfc, words, bos })
}
