//! Reading `tokenizer.model`, SentencePiece's own file, without trusting it.
//!
//! The file is a message of Protocol Buffers: fields with numbers, some of which are messages
//! themselves. What is needed of `ModelProto`, `TrainerSpec` and `NormalizerSpec` is read here, and
//! fields that no text depends on are passed over.

use std::collections::HashSet;
use std::path::Path;

use super::added::Added;
use super::beside::Beside;
use super::bos::Bos;
use super::charsmap::Charsmap;
use super::pieces::{Algorithm, Kind, Piece, Spacing, Vocabulary, byte_of};
use super::vocabulary::{MAX_TOKENS, check_token, of_file};
use super::{Description, Model};
use crate::Result;
use crate::tokenizer_file::{Refusal, read, refuse};

/// What the file describes, and what `tokenizer_config.json` beside it says of BOS.
pub(super) fn describe(path: &Path) -> Result<Description> {
    let mut described = parse(&read(path, of_file(path))?).map_err(of_file(path))?;
    let beside = Beside::of(path)?;
    let Model::Pieces(vocabulary) = &described.model else {
        unreachable!("SentencePiece's models are of pieces")
    };
    let n_pieces = vocabulary.pieces.len();
    let mut more = beside.added(&described.added)?;
    more.retain(|added| added.id as usize >= n_pieces);
    described.added.extend(more);
    beside.configure(&mut described, false)?;
    Ok(described)
}

/// A value as it lies in the file.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    /// Eight bytes, which no field that is read has.
    Eight,
}

/// The fields of a message, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
    /// The message's name, for a refusal.
    of: &'a str,
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Refusal> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let Some((&byte, rest)) = self.rest.split_first() else { return self.cut() };
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        refuse(self.of, "has a number of more than ten bytes, expected protobuf")
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Refusal> {
        let taken = usize::try_from(length).ok().and_then(|n| self.rest.split_at_checked(n));
        let Some((taken, rest)) = taken else { return self.cut() };
        self.rest = rest;
        Ok(taken)
    }

    fn cut<T>(&self) -> Result<T, Refusal> {
        refuse(self.of, "ends within a field: the file is cut short or damaged; fetch it again")
    }

    /// The next field's number and value.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Refusal> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Eight
            }
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                let bytes = self.take(4)?.try_into().unwrap_or_default();
                Value::Float(f32::from_le_bytes(bytes))
            }
            kind => {
                return refuse(
                    self.of,
                    format!("has a field of the wire type {kind}, expected protobuf"),
                );
            }
        };
        Ok(Some((key >> 3, value)))
    }
}

impl<'a> Value<'a> {
    fn wrong<T>(self, field: &str, expected: &str) -> Result<T, Refusal> {
        let found = match self {
            Self::Number(_) => "a whole number",
            Self::Float(_) => "four bytes",
            Self::Bytes(_) => "bytes",
            Self::Eight => "eight bytes",
        };
        refuse(field, format!("is {found}, expected {expected}"))
    }

    fn number(self, field: &str) -> Result<i64, Refusal> {
        // Negative ones are stored as their complement of two.
        if let Self::Number(number) = self {
            Ok(number as i64)
        } else {
            self.wrong(field, "a whole number")
        }
    }

    fn bool(self, field: &str) -> Result<bool, Refusal> {
        Ok(self.number(field)? != 0)
    }

    fn bytes(self, field: &str) -> Result<&'a [u8], Refusal> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { self.wrong(field, "bytes") }
    }
}

fn parse(bytes: &[u8]) -> Result<Description, Refusal> {
    let mut file = Fields { rest: bytes, of: "(file)" };
    let (mut pieces, mut trainer, mut normalizer) = (Vec::new(), None, None);
    while let Some((number, value)) = file.next()? {
        match number {
            1 => {
                let k = pieces.len();
                if k == MAX_TOKENS {
                    return refuse("pieces", format!("more than {MAX_TOKENS}, expected fewer"));
                }
                let field = format!("pieces[{k}]");
                pieces.push(piece(&field, value.bytes(&field)?)?);
            }
            2 => trainer = Some(Trainer::parse(value.bytes("trainer_spec")?)?),
            3 => normalizer = Some(spacing(value.bytes("normalizer_spec")?)?),
            _ => {}
        }
    }
    if pieces.is_empty() {
        return refuse("pieces", "are missing: is it a SentencePiece model?");
    }
    // They come after the pieces, so that a file that was cut between two fields lacks one.
    let Some(trainer) = trainer else {
        return refuse("trainer_spec", "is missing: the file is cut short; fetch it again");
    };
    let Some(spacing) = normalizer else {
        return refuse("normalizer_spec", "is missing: the file is cut short; fetch it again");
    };
    described(pieces, &trainer, spacing)
}

fn described(
    pieces: Vec<(Piece, bool)>,
    trainer: &Trainer,
    spacing: Spacing,
) -> Result<Description, Refusal> {
    let mut contents = HashSet::with_capacity(pieces.len());
    let (mut unk, mut byte_pieces) = (None, 0);
    for ((piece, is_unknown), id) in pieces.iter().zip(0..) {
        let field = format!("pieces[{id}]");
        check_token(&format!("{field}.piece"), &piece.content, id)?;
        if !contents.insert(piece.content.as_str()) {
            return refuse(format!("{field}.piece"), format!("is {:?} again", piece.content));
        }
        if piece.kind == Kind::Byte {
            byte_pieces += 1;
            if byte_of(&piece.content).is_none() {
                let reason = format!("is {:?}, expected <0x00> to <0xFF>", piece.content);
                return refuse(format!("{field}.piece"), reason);
            }
        }
        if *is_unknown && unk.replace(id).is_some() {
            return refuse(format!("{field}.type"), "is unknown, which another piece is, too");
        }
    }
    if unk.is_none() {
        return refuse("pieces", "none has the type unknown, expected one");
    }
    if trainer.byte_fallback && byte_pieces != 256 {
        return refuse(
            "pieces",
            format!("{byte_pieces} are bytes, expected 256 with byte_fallback"),
        );
    }
    let pieces: Vec<Piece> = pieces.into_iter().map(|(piece, _)| piece).collect();
    let bos = usize::try_from(trainer.bos).ok().and_then(|bos| Some((bos, pieces.get(bos)?)));
    let bos = bos.filter(|(_, piece)| piece.kind == Kind::Silent).map(|(bos, _)| bos as u32);
    let added = pieces.iter().zip(0..).filter(|(piece, _)| piece.kind == Kind::Silent);
    let added = added.map(|(piece, id)| Added::special(id, piece.content.clone())).collect();
    let vocabulary = Vocabulary {
        pieces,
        algorithm: trainer.algorithm,
        unk,
        byte_fallback: trainer.byte_fallback,
        spacing: Some(spacing),
    };
    let bos = Bos { first: None, named: bos };
    Ok(Description::new(Model::Pieces(vocabulary), added, bos))
}

/// A piece, and whether it is the unknown one.
fn piece(field: &str, bytes: &[u8]) -> Result<(Piece, bool), Refusal> {
    let mut fields = Fields { rest: bytes, of: field };
    let (mut content, mut score, mut kind) = ("", 0.0, 1);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                let name = format!("{field}.piece");
                content = std::str::from_utf8(value.bytes(&name)?)
                    .or_else(|e| refuse(name, format!("is not UTF-8 ({e})")))?;
            }
            2 => match value {
                Value::Float(number) if number.is_finite() => score = f64::from(number),
                Value::Float(number) => {
                    return refuse(
                        format!("{field}.score"),
                        format!("is {number}, expected a number"),
                    );
                }
                other => return other.wrong(&format!("{field}.score"), "four bytes"),
            },
            3 => kind = value.number(&format!("{field}.type"))?,
            _ => {}
        }
    }
    let silent = Kind::Silent;
    let (kind, is_unknown) = match kind {
        1 => (Kind::Normal, false),
        2 => (silent, true),
        // Control, and unused.
        3 | 5 => (silent, false),
        4 => (Kind::UserDefined, false),
        6 => (Kind::Byte, false),
        other => return refuse(format!("{field}.type"), format!("is {other}, expected 1 to 6")),
    };
    Ok((Piece { content: content.to_owned(), score, kind }, is_unknown))
}

/// How the model was made, as far as it says how it is used.
struct Trainer {
    algorithm: Algorithm,
    byte_fallback: bool,
    bos: i64,
}

impl Trainer {
    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields { rest: bytes, of: "trainer_spec" };
        let (mut kind, mut byte_fallback, mut bos) = (1, false, 1);
        while let Some((number, value)) = fields.next()? {
            match number {
                3 => kind = value.number("trainer_spec.model_type")?,
                24 if value.bool("trainer_spec.treat_whitespace_as_suffix")? => {
                    return refuse(
                        "trainer_spec.treat_whitespace_as_suffix",
                        "is true, expected false",
                    );
                }
                35 => byte_fallback = value.bool("trainer_spec.byte_fallback")?,
                41 => bos = value.number("trainer_spec.bos_id")?,
                _ => {}
            }
        }
        let algorithm = match kind {
            1 => Algorithm::Unigram { single: true },
            2 => Algorithm::Bpe,
            other => {
                return refuse(
                    "trainer_spec.model_type",
                    format!("is {other}, expected 1 (unigram) or 2 (BPE)"),
                );
            }
        };
        Ok(Self { algorithm, byte_fallback, bos })
    }
}

fn spacing(bytes: &[u8]) -> Result<Spacing, Refusal> {
    let mut fields = Fields { rest: bytes, of: "normalizer_spec" };
    let mut spacing = Spacing { charsmap: None, prefix: true, remove_extra: true, escape: true };
    while let Some((number, value)) = fields.next()? {
        match number {
            2 => {
                let field = "normalizer_spec.precompiled_charsmap";
                let bytes = value.bytes(field)?;
                let parse = || Charsmap::parse(bytes).or_else(|reason| refuse(field, reason));
                spacing.charsmap = (!bytes.is_empty()).then(parse).transpose()?;
            }
            3 => spacing.prefix = value.bool("normalizer_spec.add_dummy_prefix")?,
            4 => spacing.remove_extra = value.bool("normalizer_spec.remove_extra_whitespaces")?,
            5 => spacing.escape = value.bool("normalizer_spec.escape_whitespaces")?,
            _ => {}
        }
    }
    Ok(spacing)
}
