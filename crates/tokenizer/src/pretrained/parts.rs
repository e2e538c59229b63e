//! A tokenizer from the parts that a GGUF file keeps of it.

use std::collections::HashMap;

use super::added::{Added, check_added};
use super::bos::Bos;
use super::charsmap::Charsmap;
use super::normalizer::Normalizer;
use super::pieces::{Algorithm, Kind, Piece, Spacing, Vocabulary, byte_of};
use super::vocabulary::{MAX_TOKENS, check_alphabet, check_merges, check_token, check_vocab, pair};
use super::{Description, Merged, Model, words};
use crate::tokenizer_file::{Refusal, refuse};

/// What a GGUF file says of its tokenizer, under the keys named here (each begins
/// `tokenizer.ggml.`).
#[derive(Debug, Clone, Default)]
pub struct TokenizerParts {
    /// `model`: `gpt2` (byte-level BPE), `llama` (SentencePiece's BPE) or `t5` (its Unigram).
    pub model: String,
    /// `tokens`: by id, of `gpt2` in the byte alphabet.
    pub tokens: Vec<String>,
    /// `merges`, of `gpt2`: `"a b"`, the first to be merged first.
    pub merges: Vec<String>,
    /// `scores`, of SentencePiece: one a token.
    pub scores: Vec<f32>,
    /// `token_type`: one a token (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 a
    /// byte); empty if all are normal.
    pub token_types: Vec<i32>,
    /// `pre`, of `gpt2`: the name of the way texts are cut into words.
    pub pre: String,
    /// `add_space_prefix`, of SentencePiece: yes where nothing is said.
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces`, of `t5`: no where nothing is said.
    pub remove_extra_whitespaces: Option<bool>,
    /// `precompiled_charsmap`, of `t5`: characters to be replaced; empty if there are none.
    pub precompiled_charsmap: Vec<u8>,
    /// `unknown_token_id`.
    pub unknown: Option<u32>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

pub(super) fn describe(mut parts: TokenizerParts) -> Result<Description, Refusal> {
    // A token that there is not begins nothing.
    parts.bos = parts.bos.filter(|&bos| (bos as usize) < parts.tokens.len());
    let TokenizerParts { tokens, token_types, .. } = &parts;
    let n_tokens = tokens.len();
    if n_tokens > MAX_TOKENS {
        return refuse(
            "tokenizer.ggml.tokens",
            format!("{n_tokens} tokens, expected at most {MAX_TOKENS}"),
        );
    }
    if !token_types.is_empty() && token_types.len() != n_tokens {
        let reason = format!("{} types of {n_tokens} tokens, expected one each", token_types.len());
        return refuse("tokenizer.ggml.token_type", reason);
    }
    if parts.unknown.is_some_and(|id| id as usize >= n_tokens) {
        return refuse(
            "tokenizer.ggml.unknown_token_id",
            format!("is {:?}, expected below {n_tokens}", parts.unknown),
        );
    }
    match parts.model.as_str() {
        "gpt2" => byte_level(parts),
        "llama" => by_scores(parts, Algorithm::Bpe),
        "t5" => by_scores(parts, Algorithm::Unigram { single: true }),
        other => {
            refuse("tokenizer.ggml.model", format!("is {other:?}, expected gpt2, llama or t5"))
        }
    }
}

fn byte_level(parts: TokenizerParts) -> Result<Description, Refusal> {
    let TokenizerParts { tokens, merges, token_types, pre, bos, add_bos, .. } = parts;
    let named = words::named(&pre).or_else(|reason| refuse("tokenizer.ggml.pre", reason))?;
    if merges.is_empty() {
        return refuse("tokenizer.ggml.merges", "is missing or empty, expected merges");
    }
    let (mut vocab, mut added) = (HashMap::with_capacity(tokens.len()), Vec::new());
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
            // Neither does a token that is unknown or unused come out of a text.
            kind @ 2..=5 => {
                let special = kind != USER_DEFINED;
                added.push(Added { special, ..Added::special(id, token) });
            }
            kind => {
                let reason = format!("is {kind}, expected 1 to 5 (6, a byte, is SentencePiece's)");
                return refuse(format!("tokenizer.ggml.token_type[{k}]"), reason);
            }
        }
    }
    check_added(|k| format!("tokenizer.ggml.tokens[{}]", added[k].id), &added, &vocab)?;
    check_vocab("tokenizer.ggml.tokens", &vocab)?;
    check_alphabet("tokenizer.ggml.tokens", &vocab, &[])?;
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
    let normalizer = if nfc { Normalizer::nfc() } else { Normalizer::default() };
    let model = Model::Bytes(Merged { vocab, merges, ignore_merges });
    Ok(Description { normalizer, words, ..Description::new(model, added, bos) })
}

/// SentencePiece's two kinds. As in llama.cpp, user-defined tokens are cut out of a text first, and
/// what lies between them is a text of its own, with a space before it.
fn by_scores(parts: TokenizerParts, algorithm: Algorithm) -> Result<Description, Refusal> {
    let TokenizerParts { tokens, scores, token_types, bos, add_bos, .. } = parts;
    if scores.len() != tokens.len() {
        let reason =
            format!("{} scores of {} tokens, expected one each", scores.len(), tokens.len());
        return refuse("tokenizer.ggml.scores", reason);
    }
    let (mut pieces, mut added) = (Vec::with_capacity(tokens.len()), Vec::new());
    let (mut ids, mut unk) = (HashMap::with_capacity(tokens.len()), parts.unknown);
    for ((content, score), k) in tokens.into_iter().zip(scores).zip(0usize..) {
        let (id, field) = (k as u32, format!("tokenizer.ggml.tokens[{k}]"));
        check_token(&field, &content, id)?;
        if let Some(other) = ids.insert(content.clone(), id) {
            return refuse(field, format!("is token {other} again"));
        }
        if !score.is_finite() {
            let reason = format!("is {score}, expected a number");
            return refuse(format!("tokenizer.ggml.scores[{k}]"), reason);
        }
        let kind = match token_types.get(k).copied().unwrap_or(NORMAL) {
            NORMAL => Kind::Normal,
            USER_DEFINED => Kind::UserDefined,
            BYTE if byte_of(&content).is_some() => Kind::Byte,
            BYTE => return refuse(field, format!("is {content:?}, expected <0x00> to <0xFF>")),
            kind @ 2..=5 => {
                if kind == UNKNOWN {
                    unk = unk.or(Some(id));
                }
                Kind::Silent
            }
            kind => {
                let field = format!("tokenizer.ggml.token_type[{k}]");
                return refuse(field, format!("is {kind}, expected 1 to 6"));
            }
        };
        match kind {
            Kind::Silent => added.push(Added::special(id, content.clone())),
            Kind::UserDefined => {
                added.push(Added { special: false, ..Added::special(id, content.clone()) });
            }
            Kind::Normal | Kind::Byte => {}
        }
        pieces.push(Piece { content, score: score.into(), kind });
    }
    if pieces.is_empty() {
        return refuse("tokenizer.ggml.tokens", format!("0 tokens, expected 1 to {MAX_TOKENS}"));
    }
    check_added(|k| format!("tokenizer.ggml.tokens[{}]", added[k].id), &added, &ids)?;
    let charsmap = (!parts.precompiled_charsmap.is_empty())
        .then(|| Charsmap::parse(&parts.precompiled_charsmap))
        .transpose()
        .or_else(|reason| refuse("tokenizer.ggml.precompiled_charsmap", reason))?;
    let spacing = Spacing {
        charsmap,
        prefix: parts.add_space_prefix.unwrap_or(true),
        remove_extra: parts.remove_extra_whitespaces.unwrap_or(false),
        escape: true,
    };
    let byte_fallback = pieces.iter().any(|piece| piece.kind == Kind::Byte);
    let model =
        Model::Pieces(Vocabulary { pieces, algorithm, unk, byte_fallback, spacing: Some(spacing) });
    let bos = Bos { first: bos.filter(|_| add_bos != Some(false)), named: bos };
    Ok(Description::new(model, added, bos))
}
