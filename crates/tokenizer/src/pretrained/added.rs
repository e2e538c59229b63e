//! Tokens beside the byte-level ones.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use tokenizers::NormalizedString;

use super::vocabulary::check_token;
use crate::Result;
use crate::tokenizer_file::{Refusal, refuse};

/// The automaton that finds added tokens takes some fifty bytes for each of theirs.
const MAX_ADDED_BYTES: usize = 256 << 10;

/// A token beside the byte-level ones. Its content is plain text.
#[derive(Debug, Clone)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    /// Never comes out of a text.
    pub(super) special: bool,
    /// Looked for in the normalised text.
    pub(super) normalized: bool,
}

/// Added tokens fit the vocabulary: an id is one token's, and a token has one id. `field` names the
/// k-th.
pub(super) fn check_added(
    field: impl Fn(usize) -> String,
    added: &[Added],
    vocab: &HashMap<String, u32>,
) -> Result<(), Refusal> {
    let by_id: HashSet<u32> = vocab.values().copied().collect();
    let (mut ids, mut contents) = (HashSet::new(), HashSet::new());
    for (k, Added { id, content, .. }) in added.iter().enumerate() {
        check_token(&field(k), content, *id)?;
        let taken = match vocab.get(content) {
            Some(of_content) => of_content != id,
            None => by_id.contains(id),
        };
        if taken || !ids.insert(id) || !contents.insert(content) {
            return refuse(
                field(k),
                format!(
                    "{content:?} with id {id} contradicts another token, expected one id a token"
                ),
            );
        }
    }
    if added.iter().map(|added| added.content.len()).sum::<usize>() > MAX_ADDED_BYTES {
        return refuse(
            field(0),
            format!("it and those after it are longer than {MAX_ADDED_BYTES} bytes in all"),
        );
    }
    Ok(())
}

/// A text's characters composed (NFC).
pub(super) fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut text = NormalizedString::from(text);
    text.nfc();
    Cow::Owned(text.get().to_owned())
}

/// Finds added tokens in a text: the leftmost, and of those that begin there the longest.
#[derive(Debug)]
pub(super) struct Finder {
    /// Nothing if there are none to find.
    automaton: Option<AhoCorasick>,
    /// Of each token, in the automaton's order; nothing for a special one, which is passed over.
    ids: Vec<Option<u32>>,
}

impl Finder {
    pub(super) fn new(added: &[Added], normalized: bool, nfc: bool) -> Self {
        let ours: Vec<&Added> =
            added.iter().filter(|added| added.normalized == normalized).collect();
        if ours.iter().all(|added| added.special) {
            return Self { automaton: None, ids: Vec::new() };
        }
        let contents = ours.iter().map(|added| {
            if normalized && nfc { composed(&added.content) } else { added.content.as_str().into() }
        });
        // The small kind: others trade memory for speed as they see fit.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(contents.map(Cow::into_owned));
        let ids = ours.iter().map(|added| (!added.special).then_some(added.id)).collect();
        Self {
            automaton: Some(automaton.expect("a quarter of a megabyte is far from the limits")),
            ids,
        }
    }

    /// Hands over the text piece by piece, each with its id if it is an added token.
    pub(super) fn try_for_each(
        &self,
        text: &str,
        mut each: impl FnMut(&str, Option<u32>) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        for found in self.automaton.iter().flat_map(|automaton| automaton.find_iter(text)) {
            let Some(id) = self.ids[found.pattern().as_usize()] else { continue };
            if start < found.start() {
                each(&text[start..found.start()], None)?;
            }
            each(&text[found.range()], Some(id))?;
            start = found.end();
        }
        if start < text.len() { each(&text[start..], None) } else { Ok(()) }
    }
}
