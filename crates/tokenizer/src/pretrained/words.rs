//! How a text is cut into words before pairs are merged: the patterns of the known models.
//!
//! The patterns come from files, but none is run from a file: those known are here, written for an
//! engine without look-ahead, so that no text can make one fail or run for long. All end in the
//! same two alternatives, `\s+(?!\S)|\s+`: white space up to a word leaves its last character to
//! the word. [`Pattern::split`] does that by hand.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::pieces::SPACE;

/// What all patterns end in.
const TAIL: &str = r"|\s+(?!\S)|\s+";

/// A pattern whose matches, with nothing between them, are the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    Gpt2,
    Llama3,
    Qwen2,
    Tekken,
    Gpt4o,
}

impl Pattern {
    const ALL: [Self; 5] = [Self::Gpt2, Self::Llama3, Self::Qwen2, Self::Tekken, Self::Gpt4o];

    /// What stands before the tail, in the spellings found in files; they mean the same.
    fn spellings(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &[
                r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+",
                r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+",
            ],
            Self::Llama3 => &[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
                r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
            ],
            Self::Qwen2 => &[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
            ],
            Self::Tekken => &[
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
            ],
            Self::Gpt4o => &[
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
            ],
        }
    }

    /// The pattern that is written so, if it is known.
    pub(super) fn known(regex: &str) -> Option<Self> {
        let head = regex.strip_suffix(TAIL)?;
        Self::ALL.into_iter().find(|pattern| pattern.spellings().contains(&head))
    }

    /// The head, and white space as group 1.
    fn regex(self) -> &'static Regex {
        static COMPILED: LazyLock<[Regex; 5]> = LazyLock::new(|| {
            Pattern::ALL.map(|pattern| {
                let written = format!(r"{}|(\s+)", pattern.spellings()[0]);
                Regex::new(&written).expect("the patterns above are regular")
            })
        });
        &COMPILED[self as usize]
    }

    /// The words of a text, which are the text when put together.
    fn split(self, text: &str) -> Vec<&str> {
        let regex = self.regex();
        let mut words = Vec::new();
        let mut groups = regex.capture_locations();
        let mut at = 0;
        while let Some(found) = regex.captures_read_at(&mut groups, text, at) {
            let mut end = found.end();
            // Before a word, all white space but the last character.
            if groups.get(1).is_some() && end < text.len() {
                let last = found.as_str().chars().next_back().map_or(0, char::len_utf8);
                if found.len() > last {
                    end -= last;
                }
            }
            // From `at`: a character that no alternative takes would be part of the next word, not
            // lost.
            words.push(&text[at..end]);
            at = end;
        }
        if at < text.len() {
            words.push(&text[at..]);
        }
        words
    }
}

/// One step of cutting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Numeric characters apart from all others, one by one or run by run.
    Digits {
        individual: bool,
    },
    Pattern(Pattern),
    /// A space ends a word.
    AfterSpaces,
    /// White space lies between words, and is lost.
    WhiteSpace,
}

/// A space becomes SentencePiece's character for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metaspace {
    /// Which words get one before them, if they have none.
    pub(super) before: Before,
    /// Each begins a word.
    pub(super) split: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Every,
    /// The one that the text begins with.
    First,
    None,
}

impl Metaspace {
    fn try_for_each<E>(
        self,
        word: &str,
        is_first: bool,
        mut each: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut word = word.replace(' ', SPACE.encode_utf8(&mut [0; 4]));
        let gets_one = match self.before {
            Before::Every => true,
            Before::First => is_first,
            Before::None => false,
        };
        if gets_one && !word.starts_with(SPACE) {
            word.insert(0, SPACE);
        }
        if !self.split {
            return each(&word);
        }
        let mut begin = 0;
        for (at, _) in word.match_indices(SPACE).filter(|&(at, _)| at > 0) {
            each(&word[begin..at])?;
            begin = at;
        }
        each(&word[begin..])
    }
}

impl Step {
    fn split(self, text: &str) -> Vec<&str> {
        match self {
            Self::Pattern(pattern) => pattern.split(text),
            Self::AfterSpaces => text.split_inclusive(' ').collect(),
            Self::WhiteSpace => text.split_whitespace().collect(),
            Self::Digits { individual } => {
                let mut words = Vec::new();
                let (mut start, mut was_numeric) = (0, None);
                for (at, c) in text.char_indices() {
                    let numeric = c.is_numeric();
                    if was_numeric.is_some_and(|was| was != numeric || (numeric && individual)) {
                        words.push(&text[start..at]);
                        start = at;
                    }
                    was_numeric = Some(numeric);
                }
                if start < text.len() {
                    words.push(&text[start..]);
                }
                words
            }
        }
    }
}

/// All of the cutting, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) steps: Vec<Step>,
    /// Then each piece gets a space before it, if it has none ...
    pub(super) prefix_space: bool,
    /// ... and is cut once more, ...
    pub(super) last: Option<Pattern>,
    /// ... or else its spaces are marked.
    pub(super) metaspace: Option<Metaspace>,
}

impl Words {
    /// Hands over each word in turn, until one fails. `is_first`: nothing was before the text.
    pub(super) fn try_for_each<E>(
        &self,
        text: &str,
        is_first: bool,
        mut each: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pieces = Vec::from_iter((!text.is_empty()).then_some(text));
        for step in &self.steps {
            pieces = pieces.into_iter().flat_map(|piece| step.split(piece)).collect();
        }
        for piece in pieces {
            if let Some(metaspace) = self.metaspace {
                let is_first = is_first && piece.as_ptr() == text.as_ptr();
                metaspace.try_for_each(piece, is_first, &mut each)?;
                continue;
            }
            let needs_space = self.prefix_space && !piece.starts_with(' ');
            let piece =
                if needs_space { Cow::Owned(format!(" {piece}")) } else { Cow::Borrowed(piece) };
            match self.last {
                Some(pattern) => pattern.split(&piece).into_iter().try_for_each(&mut each)?,
                None => each(&piece)?,
            }
        }
        Ok(())
    }
}

/// What the name in a GGUF file's `tokenizer.ggml.pre` stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) words: Words,
    /// The model's `tokenizer.json` normalises; the file does not say.
    pub(super) nfc: bool,
    /// A word that is a token is that token, whether merges lead there or not.
    pub(super) ignore_merges: bool,
    /// Whether a sequence begins with BOS where the file does not say.
    pub(super) add_bos: bool,
}

const NAMES: [&str; 24] = [
    "gpt-2",
    "mpt",
    "phi-2",
    "gpt-neox",
    "olmo",
    "smollm",
    "starcoder",
    "refact",
    "command-r",
    "codeshell",
    "qwen2",
    "stablelm2",
    "deepseek-r1-qwen",
    "llama-bpe",
    "llama3",
    "llama-v3",
    "falcon3",
    "lfm2",
    "pixtral",
    "smaug-bpe",
    "dbrx",
    "tekken",
    "gpt-4o",
    "llama4",
];

/// The one of that name.
///
/// # Errors
/// The names that are known.
pub(super) fn named(name: &str) -> Result<Named, String> {
    let of = |steps: &[Step], pattern| {
        let words = Words { steps: steps.to_vec(), last: Some(pattern), ..Words::default() };
        Named { words, ..Named::default() }
    };
    let digits = [Step::Digits { individual: true }];
    Ok(match name {
        "gpt-2" | "mpt" | "phi-2" => of(&[], Pattern::Gpt2),
        "gpt-neox" | "olmo" => Named { nfc: true, ..of(&[], Pattern::Gpt2) },
        "smollm" | "starcoder" | "refact" | "codeshell" => of(&digits, Pattern::Gpt2),
        "command-r" => Named { nfc: true, ..of(&digits, Pattern::Gpt2) },
        "qwen2" | "deepseek-r1-qwen" => Named { nfc: true, ..of(&[], Pattern::Qwen2) },
        "stablelm2" => of(&[], Pattern::Qwen2),
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "lfm2" | "pixtral" => {
            Named { ignore_merges: true, add_bos: true, ..of(&[], Pattern::Llama3) }
        }
        "smaug-bpe" | "dbrx" => of(&[], Pattern::Llama3),
        "tekken" => Named { ignore_merges: true, add_bos: true, ..of(&[], Pattern::Tekken) },
        "gpt-4o" | "llama4" => of(&[], Pattern::Gpt4o),
        _ => return Err(format!("{name:?} is not known, expected one of {}", NAMES.join(", "))),
    })
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
