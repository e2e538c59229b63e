//! What a head copies (Feucht et al. 2025, arXiv 2504.03022): its output is carried from a run in
//! which something can be copied into one in which it cannot, and what that brings is the head's.
//!
//! A prompt is a start token, random tokens and an entity of two to five tokens, thirty in all, a
//! separator, the last twenty-five of the random tokens again, and the entity's first token; what
//! should follow is its second. (So all prompts have one length. In the paper the second half has
//! all of the random tokens.) The other run has other random tokens before the separator, so that
//! nothing there can be copied.
//!
//! - **Token copying**: the entity is random tokens. The head's `z` at the last position is carried
//!   over; its score is what that does to the probability of the entity's second token.
//! - **Concept copying**: the entity is a word. The head's `z` is carried over one position earlier,
//!   where the word has not begun; its score is the change of the same probability, which the word
//!   as a whole, not its last token, must have brought.

use induction_random::stream;
use rand::seq::IndexedRandom;

use super::{Asked, Place, Source, begins, words::WORDS};
use crate::source::EVALUATION_SEED;

/// Tokens before the separator.
const HALF: usize = 30;

/// Tokens of an entity.
const ENTITY: std::ops::RangeInclusive<usize> = 2..=5;

impl Source<'_> {
    /// Tokens before the separator, as far as the context and the tokens allow; nothing if they do
    /// not allow an entity and a token before it.
    fn half(&self, n_ctx: usize) -> Option<usize> {
        let half = HALF.min(self.allowed.len() / 2).min(n_ctx.saturating_sub(2) / 2);
        (half > *ENTITY.end()).then_some(half)
    }

    /// The tokens of a text that goes on another: many tokenizers put a space before one that stands
    /// alone. Nothing where the other's last token takes a part of it.
    fn continued(&self, text: &str) -> Option<Vec<u32>> {
        let encode = |text: &str| self.tokenizer?.encode(text).ok();
        let (before, all) = (encode("a")?, encode(&format!("a{text}"))?);
        all.strip_prefix(&before[..]).map(<[u32]>::to_vec)
    }

    /// Whether tokens are a word, all of them and nothing else, the first more than a space.
    fn spells(&self, ids: &[u32], word: &str) -> bool {
        let Some(tokenizer) = self.tokenizer else { return false };
        let bytes = ids.iter().map(|&id| tokenizer.token_bytes(id).unwrap_or_default());
        begins(tokenizer, ids[0], word)
            && bytes.collect::<Vec<_>>().concat().trim_ascii() == word.as_bytes()
    }

    fn separator(&self) -> Option<u32> {
        match self.continued("\n")?[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The prompt for an entity, at whose position `back` from the end heads are changed.
    fn asked(
        &self,
        purpose: &str,
        number: usize,
        entity: &[u32],
        half: usize,
        back: usize,
    ) -> Option<Asked> {
        let pool: Vec<u32> = self
            .allowed
            .iter()
            .copied()
            .filter(|id| !entity.contains(id) && *id != self.start)
            .collect();
        let before = half - entity.len();
        let mut rng = stream(EVALUATION_SEED, purpose, number as u64);
        let drawn: Vec<u32> = pool.choose_multiple(&mut rng, before + half).copied().collect();
        if drawn.len() < before + half {
            return None;
        }
        let (random, other) = drawn.split_at(before);
        let again = &random[before - (half - ENTITY.end())..];
        let separator: Vec<u32> = self.separator().into_iter().collect();
        let run = |first: &[&[u32]]| {
            [&[self.start], &first.concat()[..], &separator, again, &entity[..1]].concat()
        };
        let tokens = run(&[other]);
        let at = tokens.len() - back;
        Some(Asked { tokens, target: entity[1], at, place: Place::OfRun(run(&[random, entity])) })
    }
}

/// Entities of random tokens, all lengths equally often.
pub(super) fn of_tokens(source: &Source<'_>, count: usize, n_ctx: usize) -> Vec<Asked> {
    let Some(half) = source.half(n_ctx) else { return Vec::new() };
    let asked = (0..count).filter_map(|k| {
        let length = ENTITY.start() + k % (ENTITY.end() - ENTITY.start() + 1);
        let mut rng = stream(EVALUATION_SEED, "entities of random tokens", k as u64);
        let entity: Vec<u32> = source.allowed.choose_multiple(&mut rng, length).copied().collect();
        let asked = source.asked("token copying", k, &entity, half, 1);
        asked.filter(|_| entity.len() == length)
    });
    asked.collect()
}

/// Words of several tokens; and how many were left out, being another number of tokens in this
/// vocabulary than an entity may have.
pub(super) fn of_words(source: &Source<'_>, count: usize, n_ctx: usize) -> (Vec<Asked>, usize) {
    let (Some(half), Some(_)) = (source.half(n_ctx), source.tokenizer) else {
        return (Vec::new(), 0);
    };
    let mut rng = stream(EVALUATION_SEED, "words", 0);
    let words: Vec<&str> = WORDS.choose_multiple(&mut rng, WORDS.len()).copied().collect();
    let (mut entities, mut left_out) = (Vec::new(), 0);
    for word in words {
        match source.continued(&format!(" {word}")) {
            Some(ids) if ENTITY.contains(&ids.len()) && source.spells(&ids, word) => {
                entities.push(ids);
            }
            _ => left_out += 1,
        }
    }
    // No word twice, or the prompts would not be independent.
    let asked = entities.iter().take(count).enumerate();
    let asked = asked.filter_map(|(k, ids)| source.asked("concept copying", k, ids, half, 2));
    (asked.collect(), left_out)
}

#[cfg(test)]
mod tests {
    use induction_engine::CpuEngine;
    use induction_model::HandBuilt;
    use induction_records::Cause;

    use super::*;
    use crate::cause::Prompts;

    /// In a model whose circuit was written down, its one induction head brings all that copying is,
    /// and no other head brings anything.
    #[test]
    fn the_induction_head_copies_and_no_other() {
        let model = HandBuilt::new(64, 96);
        let (config, params) = (model.config(), model.params().unwrap());
        let engine = CpuEngine::new(&config, &params).unwrap();
        let allowed: Vec<u32> = (1..64).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let measured = |cause| Prompts::new(cause, &engine, &source, 8).unwrap().measure(&engine);
        assert!(measured(Cause::ConceptCopying).unwrap().is_none(), "there are no words");
        let copied = measured(Cause::TokenCopying).unwrap().unwrap();
        let (with, without) = (copied.whole.with.unwrap(), copied.whole.plain);
        assert_eq!(copied.whole.prompts, 8);
        assert!(with > 0.5 && without < 0.05, "{with} {without}");
        for (layer, heads) in copied.heads.iter().enumerate() {
            for (head, &[(score, _), (nats, _)]) in heads.iter().enumerate() {
                let is_it = (layer, head) == (1, 0);
                let expected = if is_it { with - without } else { 0.0 };
                assert!((score - expected).abs() < 1e-4, "{layer}.{head}: {score} for {expected}");
                assert_eq!(nats > 1.0, is_it, "{layer}.{head}: {nats}");
            }
        }
    }

    /// Nothing is asked of a model that holds no such prompts, and both runs differ before the
    /// separator alone.
    #[test]
    fn prompts_are_pairs() {
        let allowed: Vec<u32> = (1..200).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let asked = of_tokens(&source, 9, 64);
        assert_eq!(asked.len(), 9);
        for Asked { tokens: without, target, at, place } in &asked {
            let Place::OfRun(with) = place else { panic!("{place:?}") };
            assert_eq!((with.len(), without.len(), *at), (57, 57, 56));
            assert_eq!((with[0], &with[31..]), (0, &without[31..]));
            assert!(with[1..31].iter().all(|id| !without[1..31].contains(id)));
            // What should follow followed before.
            let end = [with[56], *target];
            assert!(with[1..31].windows(2).any(|pair| pair == end));
            assert!(!without[1..31].contains(&end[0]));
        }
        assert!(of_tokens(&source, 9, 11).is_empty());
        let few = Source { allowed: &allowed[..11], ..source };
        assert!(of_tokens(&few, 9, 64).is_empty());
    }
}
