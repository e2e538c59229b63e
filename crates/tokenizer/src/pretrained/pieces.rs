//! SentencePiece's two algorithms: BPE by the scores of pieces, and the likeliest pieces (Unigram).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use super::charsmap::Charsmap;
use super::trie::Trie;
use crate::{Error, Result};

/// What stands for a space in pieces.
pub(super) const SPACE: char = '\u{2581}';

/// How much less likely an unknown character is than the least likely piece.
const UNKNOWN_PENALTY: f64 = 10.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    /// Kept whole wherever it is in a text.
    UserDefined,
    Byte,
    /// Never comes out of a text, but for the unknown token.
    Silent,
}

/// A piece; its id is its place.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) content: String,
    pub(super) score: f64,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Of all neighbours those whose common piece has the highest score become one, again and
    /// again.
    Bpe,
    /// The pieces with the highest sum of scores.
    Unigram {
        /// Sums are of single precision, and unlikeliness is measured against normal pieces alone:
        /// SentencePiece does it so, and HuggingFace's library does not.
        single: bool,
    },
}

/// How SentencePiece prepares a text.
#[derive(Debug, Default)]
pub(super) struct Spacing {
    pub(super) charsmap: Option<Charsmap>,
    /// A space before the text.
    pub(super) prefix: bool,
    /// No space at either end, and no two in a row.
    pub(super) remove_extra: bool,
    /// Spaces become [`SPACE`].
    pub(super) escape: bool,
}

/// What of a vocabulary the algorithms need to know.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) pieces: Vec<Piece>,
    pub(super) algorithm: Algorithm,
    pub(super) unk: Option<u32>,
    /// A character without a piece becomes its bytes, if all of them have pieces.
    pub(super) byte_fallback: bool,
    /// Of a text as SentencePiece gets it; nothing if it is prepared by other steps.
    pub(super) spacing: Option<Spacing>,
}

/// A vocabulary, ready to read texts.
#[derive(Debug)]
pub(super) struct Pieces {
    algorithm: Algorithm,
    /// What texts can be made of.
    trie: Trie,
    user_defined: Trie,
    /// By id.
    scores: Vec<f64>,
    unk_score: f64,
    unk: Option<u32>,
    bytes: Vec<Option<u32>>,
    spacing: Option<Spacing>,
}

/// A part of a text, with its id if it has one.
type Part = (Range<usize>, Option<u32>);

/// `<0x1F>` is the piece of byte 0x1f.
pub(super) fn byte_of(content: &str) -> Option<u8> {
    let digits = content.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_written_so = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
    (digits.len() == 2 && digits.chars().all(is_written_so))
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// A piece as text: its spaces, or its byte.
pub(super) fn bytes_of(content: &str, byte_fallback: bool) -> Vec<u8> {
    match byte_of(content).filter(|_| byte_fallback) {
        Some(byte) => vec![byte],
        None => content.replace(SPACE, " ").into_bytes(),
    }
}

impl Pieces {
    pub(super) fn new(vocabulary: Vocabulary) -> Self {
        let Vocabulary { pieces, algorithm, unk, byte_fallback, spacing } = vocabulary;
        let single = algorithm == (Algorithm::Unigram { single: true });
        let mut bytes = vec![None; 256];
        for (piece, id) in pieces.iter().zip(0..) {
            if let Some(byte) = byte_of(&piece.content)
                && byte_fallback
                && piece.kind != Kind::Silent
            {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        let of = |kinds: &'static [Kind]| {
            let all = pieces.iter().zip(0..);
            all.filter(|(piece, id)| kinds.contains(&piece.kind) && Some(*id) != unk)
                .map(|(piece, id)| (piece.content.as_str(), id))
        };
        let counts = |piece: &&Piece| !single || piece.kind == Kind::Normal;
        let counted = pieces.iter().filter(counts).map(|piece| piece.score);
        let least = counted.reduce(f64::min).unwrap_or_default();
        Self {
            algorithm,
            trie: Trie::new(of(&[Kind::Normal, Kind::UserDefined])),
            user_defined: Trie::new(of(&[Kind::UserDefined])),
            unk_score: rounded(least - UNKNOWN_PENALTY, single),
            // No -0, which would not be equal to 0.
            scores: pieces.iter().map(|piece| piece.score + 0.0).collect(),
            unk,
            bytes,
            spacing,
        }
    }

    /// The ids of a text, however it is spaced.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        match &self.spacing {
            Some(spacing) => self.encode_prepared(&self.prepared(spacing, text), ids),
            None => self.encode_prepared(text, ids),
        }
    }

    /// The ids of a text of which spaces are as in pieces.
    pub(super) fn encode_prepared(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let parts = match self.algorithm {
            Algorithm::Bpe => self.merged(text),
            Algorithm::Unigram { single } => self.likeliest(text, single),
        };
        let mut parts = parts.into_iter().peekable();
        while let Some((mut range, id)) = parts.next() {
            if let Some(id) = id {
                ids.push(id);
                continue;
            }
            while let Some((more, _)) = parts.next_if(|(_, id)| id.is_none()) {
                range.end = more.end;
            }
            let unknown = &text[range];
            let bytes = unknown.bytes().map(|byte| self.bytes[usize::from(byte)]);
            match bytes.collect::<Option<Vec<u32>>>() {
                Some(bytes) => ids.extend(bytes),
                None => ids.push(self.unk.ok_or_else(|| Error::UnknownCharacter {
                    character: unknown.chars().next().unwrap_or_default(),
                })?),
            }
        }
        Ok(())
    }

    /// What a text goes on with, and how many of its bytes that was.
    fn next<'a>(&'a self, spacing: &'a Spacing, text: &'a str) -> (usize, &'a str) {
        if let Some((length, _)) = self.user_defined.prefixes(text).last() {
            return (length, &text[..length]);
        }
        let replaced = spacing.charsmap.as_ref().and_then(|map| map.longest(text));
        replaced.unwrap_or_else(|| {
            let length = text.chars().next().map_or(0, char::len_utf8);
            (length, &text[..length])
        })
    }

    /// As SentencePiece's normaliser goes through it.
    fn prepared(&self, spacing: &Spacing, text: &str) -> String {
        let space = if spacing.escape { SPACE } else { ' ' };
        let mut rest = text;
        while spacing.remove_extra && !rest.is_empty() {
            match self.next(spacing, rest) {
                (length, " ") => rest = &rest[length..],
                _ => break,
            }
        }
        let mut out = String::with_capacity(rest.len() + rest.len() / 4);
        if spacing.prefix && !rest.is_empty() {
            out.push(space);
        }
        let mut after_space = spacing.remove_extra;
        while !rest.is_empty() {
            let (length, chunk) = self.next(spacing, rest);
            rest = &rest[length..];
            let chunk = if after_space { chunk.trim_start_matches(' ') } else { chunk };
            if !chunk.is_empty() {
                out.extend(chunk.chars().map(|c| if c == ' ' { space } else { c }));
                after_space = spacing.remove_extra && chunk.ends_with(' ');
            }
        }
        if spacing.remove_extra {
            out.truncate(out.trim_end_matches(space).len());
        }
        out
    }

    fn merged(&self, text: &str) -> Vec<Part> {
        let mut symbols: Vec<Symbol> = Vec::new();
        let mut start = 0;
        while start < text.len() {
            let rest = &text[start..];
            let whole = self.user_defined.prefixes(rest).last().map(|(length, _)| length);
            let length = whole.or_else(|| Some(rest.chars().next()?.len_utf8())).unwrap_or(1);
            let k = symbols.len();
            symbols.push(Symbol {
                range: start..start + length,
                before: k.checked_sub(1),
                after: (start + length < text.len()).then_some(k + 1),
                frozen: whole.is_some(),
            });
            start += length;
        }
        let pair = |symbols: &[Symbol], left: usize, right: usize| {
            let (a, b) = (&symbols[left], &symbols[right]);
            let range = a.range.start..b.range.end;
            if a.frozen || b.frozen {
                return None;
            }
            let id = self.trie.get(&text[range.clone()])?;
            Some(Pair { score: self.scores[id as usize], left: Reverse(left), right, range })
        };
        let mut pairs: BinaryHeap<Pair> =
            (1..symbols.len()).filter_map(|k| pair(&symbols, k - 1, k)).collect();
        while let Some(Pair { left: Reverse(left), right, range, .. }) = pairs.pop() {
            // Either may have become part of another since.
            if symbols[left].range.start != range.start
                || symbols[left].range.end != symbols[right].range.start
                || symbols[right].range.end != range.end
                || symbols[left].range.is_empty()
                || symbols[right].range.is_empty()
            {
                continue;
            }
            symbols[left].range = range;
            symbols[right].range = 0..0;
            let after = symbols[right].after;
            symbols[left].after = after;
            if let Some(after) = after {
                symbols[after].before = Some(left);
                pairs.extend(pair(&symbols, left, after));
            }
            if let Some(before) = symbols[left].before {
                pairs.extend(pair(&symbols, before, left));
            }
        }
        let left = symbols.into_iter().filter(|symbol| !symbol.range.is_empty());
        left.map(|symbol| {
            let id = self.trie.get(&text[symbol.range.clone()]);
            (symbol.range, id)
        })
        .collect()
    }

    fn likeliest(&self, text: &str, single: bool) -> Vec<Part> {
        // Of each place where a part can end: the sum up to there, and the last part.
        let mut best: Vec<Option<(f64, usize, Option<u32>)>> = vec![None; text.len() + 1];
        best[0] = Some((0.0, 0, None));
        for (start, c) in text.char_indices() {
            // Every character has been ended at, by a piece or as unknown.
            let Some((sum, ..)) = best[start] else { continue };
            let mut reach = |length: usize, score: f64, id| {
                let there = &mut best[start + length];
                let sum = rounded(sum + score, single);
                if there.is_none_or(|(other, ..)| sum > other) {
                    *there = Some((sum, start, id));
                }
            };
            let mut alone = false;
            for (length, id) in self.trie.prefixes(&text[start..]) {
                alone |= length == c.len_utf8();
                reach(length, self.scores[id as usize], Some(id));
            }
            if !alone {
                reach(c.len_utf8(), self.unk_score, None);
            }
        }
        let mut parts = Vec::new();
        let mut end = text.len();
        while let Some((_, start, id)) = best[end].filter(|_| end > 0) {
            parts.push((start..end, id));
            end = start;
        }
        parts.reverse();
        parts
    }
}

/// A sum of two numbers of single precision, in that precision: rounding twice does no harm.
fn rounded(sum: f64, single: bool) -> f64 {
    if single { f64::from(sum as f32) } else { sum }
}

#[derive(Debug)]
struct Symbol {
    /// Empty if it has become part of another.
    range: Range<usize>,
    before: Option<usize>,
    after: Option<usize>,
    /// User-defined: never merged.
    frozen: bool,
}

/// Neighbours that have a piece in common.
#[derive(Debug, PartialEq)]
struct Pair {
    score: f64,
    left: Reverse<usize>,
    right: usize,
    range: Range<usize>,
}

impl Eq for Pair {}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pair {
    /// The highest score, and of equal ones the leftmost, is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(self.left.cmp(&other.left))
    }
}
