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

use induction_engine::Engine;
use induction_random::stream;
use induction_records::Cause;
use ndarray::Axis;
use rand::seq::IndexedRandom;

use super::{Changes, Found, Source, at_once, own_z, parts, rows, table, words::WORDS};
use crate::{Error, source::EVALUATION_SEED};

/// Tokens before the separator.
const HALF: usize = 30;

/// Prompts whose probability is taken in the run in which something can be copied, at least, if
/// there are so many: all that this says is whether the model copies at all.
const OF_THE_OTHER: usize = 16;

/// Tokens of an entity.
const ENTITY: std::ops::RangeInclusive<usize> = 2..=5;

/// One prompt in both runs, each with the token that should follow.
struct Pair {
    with: Vec<u32>,
    without: Vec<u32>,
}

impl Source<'_> {
    /// Tokens before the separator, as far as the context and the tokens allow; nothing if they do
    /// not allow an entity and a token before it.
    fn half(&self, n_ctx: usize) -> Option<usize> {
        let half = HALF.min(self.allowed.len() / 2).min(n_ctx.saturating_sub(2) / 2);
        (half > *ENTITY.end()).then_some(half)
    }

    fn separator(&self) -> Option<u32> {
        match self.tokenizer?.encode("\n").ok()?[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The pair for an entity.
    fn pair(&self, purpose: &str, number: usize, entity: &[u32], half: usize) -> Option<Pair> {
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
        let end = [&separator[..], again, &entity[..2]].concat();
        let run = |first: &[&[u32]]| {
            let first = first.concat();
            std::iter::once(self.start).chain(first).chain(end.iter().copied()).collect()
        };
        Some(Pair { with: run(&[random, entity]), without: run(&[other]) })
    }

    /// Entities of random tokens, all lengths equally often.
    fn of_tokens(&self, count: usize, n_ctx: usize) -> Vec<Pair> {
        let Some(half) = self.half(n_ctx) else { return Vec::new() };
        let pairs = (0..count).filter_map(|k| {
            let length = ENTITY.start() + k % (ENTITY.end() - ENTITY.start() + 1);
            let mut rng = stream(EVALUATION_SEED, "entities of random tokens", k as u64);
            let entity: Vec<u32> =
                self.allowed.choose_multiple(&mut rng, length).copied().collect();
            self.pair("token copying", k, &entity, half).filter(|_| entity.len() == length)
        });
        pairs.collect()
    }

    /// Words of several tokens; and how many were left out, being another number of tokens in this
    /// vocabulary than an entity may have.
    fn of_words(&self, count: usize, n_ctx: usize) -> (Vec<Pair>, usize) {
        let (Some(half), Some(tokenizer)) = (self.half(n_ctx), self.tokenizer) else {
            return (Vec::new(), 0);
        };
        let mut rng = stream(EVALUATION_SEED, "words", 0);
        let words: Vec<&str> = WORDS.choose_multiple(&mut rng, WORDS.len()).copied().collect();
        let (mut entities, mut left_out) = (Vec::new(), 0);
        for word in words {
            match tokenizer.encode(&format!(" {word}")) {
                Ok(ids) if ENTITY.contains(&ids.len()) => entities.push(ids),
                _ => left_out += 1,
            }
        }
        // Each word again, among other tokens, if there are fewer than prompts.
        let pairs = entities.iter().cycle().take(if entities.is_empty() { 0 } else { count });
        let pairs = pairs.enumerate();
        let pairs = pairs.filter_map(|(k, ids)| self.pair("concept copying", k, ids, half));
        (pairs.collect(), left_out)
    }
}

/// Token copying of every head, if the model's context and vocabulary hold such prompts.
///
/// # Errors
/// The engine's.
pub fn of_tokens(
    engine: &dyn Engine,
    source: &Source<'_>,
    prompts: usize,
) -> Result<Option<Found>, Error> {
    let pairs = source.of_tokens(prompts, engine.config().n_ctx);
    of_pairs(engine, Cause::TokenCopying, &pairs, 1, 0)
}

/// Concept copying of every head, if there is a tokenizer whose words are of several tokens.
///
/// # Errors
/// The engine's.
pub fn of_words(
    engine: &dyn Engine,
    source: &Source<'_>,
    prompts: usize,
) -> Result<Option<Found>, Error> {
    let (pairs, left_out) = source.of_words(prompts, engine.config().n_ctx);
    of_pairs(engine, Cause::ConceptCopying, &pairs, 2, left_out)
}

/// The heads' `z` is carried over `back` positions from the end.
fn of_pairs(
    engine: &dyn Engine,
    cause: Cause,
    pairs: &[Pair],
    back: usize,
    left_out: usize,
) -> Result<Option<Found>, Error> {
    let config = engine.config();
    let with = table(pairs.iter().map(|pair| &pair.with[..]));
    let without = table(pairs.iter().map(|pair| &pair.without[..]));
    // Positions that are read; the last token is what should follow.
    let read = with.ncols().saturating_sub(1);
    let mut changes = Changes::none(config);
    let mut can_copy = Vec::new();
    for part in parts(pairs.len(), at_once(config, back)) {
        let with = rows(&with, part.clone());
        let at = read - back;
        let z = own_z(engine, with.split_at(Axis(1), read).0, at)?;
        changes.add(engine, rows(&without, part), at, &z)?;
        if can_copy.len() < OF_THE_OTHER {
            let losses = engine.last_losses_under(with, &[&[]], read - 1)?;
            can_copy.extend(losses[0].iter().map(|&loss| (-f64::from(loss)).exp()));
        }
    }
    Ok(changes.found(cause, 1.0, left_out, Some(&can_copy)))
}

#[cfg(test)]
mod tests {
    use induction_engine::CpuEngine;
    use induction_model::HandBuilt;

    use super::*;

    /// In a model whose circuit was written down, its one induction head brings all that copying is,
    /// and no other head brings anything.
    #[test]
    fn the_induction_head_copies_and_no_other() {
        let model = HandBuilt::new(64, 96);
        let (config, params) = (model.config(), model.params().unwrap());
        let engine = CpuEngine::new(&config, &params).unwrap();
        let allowed: Vec<u32> = (1..64).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let copied = of_tokens(&engine, &source, 8).unwrap().unwrap();
        assert!(of_words(&engine, &source, 8).unwrap().is_none());
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
        let pairs = source.of_tokens(9, 64);
        assert_eq!(pairs.len(), 9);
        for Pair { with, without } in &pairs {
            assert_eq!((with.len(), without.len()), (58, 58));
            assert_eq!((with[0], &with[31..]), (0, &without[31..]));
            assert!(with[1..31].iter().all(|id| !without[1..31].contains(id)));
            // What should follow followed before.
            let end = &with[with.len() - 2..];
            assert!(with[1..31].windows(2).any(|pair| pair == end));
            assert!(!without[1..31].contains(&end[0]));
        }
        assert!(source.of_tokens(9, 11).is_empty());
        let few = Source { allowed: &allowed[..11], ..source };
        assert!(few.of_tokens(9, 64).is_empty());
    }
}
