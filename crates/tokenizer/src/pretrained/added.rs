//! Tokens beside those that the model makes of words.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::Regex;
use serde::Deserialize;

use super::normalizer::Normalizer;

use super::vocabulary::check_token;
use crate::Result;
use crate::tokenizer_file::{Refusal, refuse};

/// The automaton that finds added tokens takes some fifty bytes for each of theirs.
const MAX_ADDED_BYTES: usize = 256 << 10;

/// A token beside those that the model makes of words. Its content is plain text.
#[derive(Debug, Clone, Default)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    /// Never comes out of a text.
    pub(super) special: bool,
    /// Looked for in the normalised text.
    pub(super) normalized: bool,
    pub(super) edges: Edges,
}

impl Added {
    pub(super) fn special(id: u32, content: String) -> Self {
        Self { id, content, special: true, ..Self::default() }
    }
}

/// A token as files write it.
#[derive(Deserialize)]
pub(super) struct AddedJson {
    pub(super) id: u32,
    #[serde(flatten)]
    pub(super) token: TokenJson,
}

/// The same without its id.
#[derive(Clone, Deserialize)]
pub(super) struct TokenJson {
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

impl AddedJson {
    pub(super) fn read(self) -> Added {
        let TokenJson { content, special, normalized, single_word, lstrip, rstrip } = self.token;
        let edges = Edges { single_word, lstrip, rstrip };
        Added { id: self.id, content, special, normalized, edges }
    }
}

/// What an added token does at its ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Edges {
    /// Found only where no letter, digit or `_` is next to it.
    pub(super) single_word: bool,
    /// White space before it is its own.
    pub(super) lstrip: bool,
    /// White space after it is its own.
    pub(super) rstrip: bool,
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

/// Finds added tokens in a text: the leftmost, and of those that begin there the longest.
#[derive(Debug)]
pub(super) struct Finder {
    /// Nothing if there are none to find.
    automaton: Option<AhoCorasick>,
    /// Of each token, in the automaton's order; nothing for a special one, which is passed over.
    ids: Vec<Option<(u32, Edges)>>,
}

impl Finder {
    pub(super) fn new(added: &[Added], normalized: bool, normalizer: &Normalizer) -> Self {
        let ours: Vec<&Added> =
            added.iter().filter(|added| added.normalized == normalized).collect();
        if ours.iter().all(|added| added.special) {
            return Self { automaton: None, ids: Vec::new() };
        }
        let contents = ours.iter().map(|added| match normalized {
            true => normalizer.apply(&added.content),
            false => added.content.as_str().into(),
        });
        // The small kind: others trade memory for speed as they see fit.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(contents.map(|content| content.into_owned()));
        let ids = ours.iter().map(|added| (!added.special).then_some((added.id, added.edges)));
        Self {
            automaton: Some(automaton.expect("some megabytes are far from the limits")),
            ids: ids.collect(),
        }
    }

    /// Finds no token whose id is `d_vocab` or more, and says how many that are.
    pub(super) fn limit(&mut self, d_vocab: usize) -> usize {
        let beyond =
            |id: &&mut Option<(u32, Edges)>| id.is_some_and(|(id, _)| id as usize >= d_vocab);
        self.ids.iter_mut().filter(beyond).map(|id| *id = None).count()
    }

    /// Hands over the text piece by piece, each with its place, and with its id if it is an added
    /// token.
    pub(super) fn try_for_each(
        &self,
        text: &str,
        mut each: impl FnMut(usize, &str, Option<u32>) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        for found in self.automaton.iter().flat_map(|automaton| automaton.find_iter(text)) {
            let Some((id, edges)) = self.ids[found.pattern().as_usize()] else { continue };
            let (before, after) = (&text[..found.start()], &text[found.end()..]);
            if edges.single_word && (ends_in_word(before) || begins_with_word(after)) {
                continue;
            }
            let stripped = |strip: bool, longer: usize, shorter: usize| {
                if strip { longer - shorter } else { 0 }
            };
            let begin =
                found.start() - stripped(edges.lstrip, before.len(), before.trim_end().len());
            let end = found.end() + stripped(edges.rstrip, after.len(), after.trim_start().len());
            // White space may be the token's before, and so may the begin of this one.
            let begin = begin.max(start);
            if start < begin {
                each(start, &text[start..begin], None)?;
            }
            each(begin, &text[begin.min(end)..end], Some(id))?;
            start = end;
        }
        if start < text.len() { each(start, &text[start..], None) } else { Ok(()) }
    }
}

fn begins_with_word(text: &str) -> bool {
    static WORD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\w").expect("the pattern is regular"));
    WORD.is_match(text)
}

fn ends_in_word(text: &str) -> bool {
    let last = text.char_indices().next_back().map_or(0, |(at, _)| at);
    begins_with_word(&text[last..])
}
