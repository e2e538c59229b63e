//! Texts from which something is taken that in-context learning needs: order, or repetition.

use rand::Rng;

use crate::{Result, TrainingOrder, example};

/// Most tokens of a piece in a window of [`FragmentOrder`]: enough for every n-gram that a small
/// model knows, too few for most of what a text says again.
pub const FRAGMENT_TOKENS: usize = 16;
/// Fewest tokens of a piece but the first and the last.
const FEWEST: usize = 12;

/// The same documents with the tokens of each in random order, their BOS still first: the unigrams
/// of every document stay, and no token says anything about the next. A pure function of its
/// arguments.
pub fn shuffled(tokens: &[u16], bos: u32, seed: u64, purpose: &str) -> Vec<u16> {
    let mut shuffled = tokens.to_vec();
    let documents = shuffled.chunk_by_mut(|_, &next| u32::from(next) != bos);
    for (index, document) in documents.enumerate() {
        let first = usize::from(document.first().is_some_and(|&token| u32::from(token) == bos));
        let text = &mut document[first..];
        let mut random = induction_random::stream(seed, purpose, index as u64);
        for last in (1..text.len()).rev() {
            text.swap(last, random.random_range(0..=last as u64) as usize);
        }
    }
    shuffled
}

/// The order of training examples that are made of pieces of 12 to [`FRAGMENT_TOKENS`] tokens from
/// all over a shard, a pure function of `(seed, example index)`: n-grams stay, and nothing comes
/// again in a window but by chance.
///
/// The pieces are the beginnings of the windows of a [`TrainingOrder`], taken in its order; no
/// token is used twice in an epoch. Their lengths are random, and that of the first from 1 on: were
/// they equal, pieces would begin at places that a model with positions knows, and the place in the
/// window would tell what nothing but the text should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentOrder {
    pieces: TrainingOrder,
    n_ctx: usize,
    examples_per_epoch: u64,
}

impl FragmentOrder {
    /// The order over a shard of `n_tokens` tokens; an example has `n_ctx` of them.
    ///
    /// # Errors
    /// As [`TrainingOrder::new`], or a shard of fewer pieces than one example has.
    pub fn new(seed: u64, n_tokens: usize, n_ctx: usize) -> Result<Self> {
        let windows = TrainingOrder::new(seed, n_tokens, n_ctx)?.examples_per_epoch();
        let pieces = TrainingOrder::new(seed, n_tokens, FRAGMENT_TOKENS)?;
        // What lengths leave of the pieces is not read, so that a pass is three quarters of the
        // text.
        let of_pieces = pieces.examples_per_epoch() / per_example(n_ctx);
        if of_pieces == 0 {
            let needed = (per_example(n_ctx) as usize)
                .saturating_mul(FRAGMENT_TOKENS)
                .saturating_add(FRAGMENT_TOKENS - 1);
            return Err(crate::Error::TooFewTokens { n_tokens, n_ctx, needed });
        }
        Ok(Self { pieces, n_ctx, examples_per_epoch: windows.min(of_pieces) })
    }

    /// Examples in one pass over the shard.
    pub fn examples_per_epoch(&self) -> u64 {
        self.examples_per_epoch
    }

    /// Where in the shard the pieces of an example start, and how many tokens each may give: their
    /// sum is at least `n_ctx`. Examples count from 0 through all epochs.
    pub fn pieces(&self, example: u64) -> impl Iterator<Item = (usize, usize)> {
        let (epoch, at) = (example / self.examples_per_epoch, example % self.examples_per_epoch);
        let per_example = per_example(self.n_ctx);
        let first = epoch * self.pieces.examples_per_epoch() + at * per_example;
        let pieces = self.pieces;
        let mut lengths = induction_random::stream(pieces.seed(), "piece lengths", example);
        (0..per_example).map(move |k| {
            let fewest = if k == 0 { 1 } else { FEWEST as u64 };
            (
                pieces.window_start(first + k),
                lengths.random_range(fewest..=FRAGMENT_TOKENS as u64) as usize,
            )
        })
    }

    /// BOS and the `n_ctx` tokens of an example's pieces.
    ///
    /// # Panics
    /// If `shard_tokens` are fewer than the order was made for.
    pub fn example(&self, shard_tokens: &[u16], index: u64, bos: u32) -> Vec<u32> {
        let pieces = self.pieces(index).flat_map(|(start, length)| {
            let piece = example(shard_tokens, start, length, bos);
            piece.into_iter().skip(1)
        });
        std::iter::once(bos).chain(pieces).take(self.n_ctx + 1).collect()
    }
}

/// Pieces that are enough for a window, however short they come out.
fn per_example(n_ctx: usize) -> u64 {
    1 + n_ctx.saturating_sub(1).div_ceil(FEWEST) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rand::Rng;

    use super::*;

    /// Documents of a vocabulary of their own each, in which phrases come again: what induction
    /// heads live on.
    fn repetitive() -> Vec<u16> {
        let mut tokens = Vec::new();
        for document in 0..40u64 {
            let mut random = induction_random::stream(1, "repetitive text", document);
            let phrases: Vec<Vec<u16>> = (0..12)
                .map(|_| {
                    (0..random.random_range(3..9)).map(|_| random.random_range(1..400)).collect()
                })
                .collect();
            tokens.push(0);
            for _ in 0..200 {
                tokens.extend(&phrases[random.random_range(0..phrases.len())]);
            }
        }
        tokens
    }

    /// Of all tokens of all windows, the share that follows a token that it has followed before in
    /// the window.
    fn repeated(windows: impl Iterator<Item = Vec<u32>>) -> f64 {
        let (mut again, mut all) = (0, 0);
        for window in windows {
            let mut seen = HashSet::new();
            for pair in window[1..].windows(2) {
                again += usize::from(!seen.insert([pair[0], pair[1]]));
                all += 1;
            }
        }
        again as f64 / all as f64
    }

    fn sorted_documents(tokens: &[u16]) -> Vec<Vec<u16>> {
        tokens
            .chunk_by(|_, &next| next != 0)
            .map(|document| {
                let mut document = document.to_vec();
                document[1..].sort_unstable();
                document
            })
            .collect()
    }

    #[test]
    fn shuffling_keeps_each_documents_unigrams_and_nothing_of_its_order() {
        let tokens = repetitive();
        let mixed = shuffled(&tokens, 0, 0, "test");
        assert_eq!(sorted_documents(&mixed), sorted_documents(&tokens));
        let windows = |tokens: &[u16]| {
            let order = TrainingOrder::new(0, tokens.len(), 128).unwrap();
            let tokens = tokens.to_vec();
            repeated(
                (0..order.examples_per_epoch())
                    .map(move |k| example(&tokens, order.window_start(k), 128, 0)),
            )
        };
        // A document has some fifty different tokens, so that of 128 in random order a few pairs
        // come again.
        let (before, after) = (windows(&tokens), windows(&mixed));
        assert!(before > 0.4 && after < 0.03, "{before} {after}");
    }

    #[test]
    fn the_same_shuffle_forever() {
        // Another one would be another text: stored runs would go on with it.
        assert_eq!(
            shuffled(&[0, 1, 2, 3, 4, 5, 0, 6, 7, 8, 9], 0, 0, "test"),
            [0, 2, 5, 3, 4, 1, 0, 9, 8, 6, 7]
        );
        let tokens = repetitive();
        assert_ne!(shuffled(&tokens, 0, 0, "test"), shuffled(&tokens, 0, 0, "other"));
        assert_ne!(shuffled(&tokens, 0, 0, "test"), shuffled(&tokens, 0, 1, "test"));
        // A text that does not begin with BOS has all of its tokens shuffled.
        let headless = shuffled(&tokens[1..100], 0, 0, "test");
        assert_ne!(headless, tokens[1..100]);
        assert!(shuffled(&[], 0, 0, "test").is_empty());
    }

    #[test]
    fn fragments_repeat_no_more_than_texts_that_have_nothing_to_do_with_each_other() {
        let tokens = repetitive();
        let n_ctx = 128;
        let order = FragmentOrder::new(0, tokens.len(), n_ctx).unwrap();
        let fragments =
            repeated((0..order.examples_per_epoch()).map(|k| order.example(&tokens, k, 0)));
        // Windows of pieces of as many documents, each from a place of its own.
        let documents: Vec<&[u16]> = tokens.chunk_by(|_, &next| next != 0).collect();
        let unrelated = repeated((0..100).map(|k| {
            let mut random = induction_random::stream(0, "unrelated", k);
            let pieces = documents[..].iter().skip(k as usize % 32).take(8).flat_map(|document| {
                let start = random.random_range(1..document.len() - 16);
                document[start..start + 16]
                    .iter()
                    .map(|&token| u32::from(token))
                    .collect::<Vec<_>>()
            });
            std::iter::once(0).chain(pieces).collect()
        }));
        let whole = TrainingOrder::new(0, tokens.len(), n_ctx).unwrap();
        let text = repeated(
            (0..whole.examples_per_epoch())
                .map(|k| example(&tokens, whole.window_start(k), n_ctx, 0)),
        );
        // Pieces of one document meet in a window now and then: eight of them from forty documents.
        assert!(
            text > 0.4 && unrelated < 0.08 && fragments < unrelated + 0.05,
            "{text} {unrelated} {fragments}"
        );
    }

    proptest! {
        #[test]
        fn a_pass_of_fragments_repeats_no_token(
            seed: u64, n_ctx in 1usize..80, extra in 0usize..2000, epoch in 0u64..1000,
        ) {
            let n_tokens = (per_example(n_ctx) as usize + 1).max(2 * n_ctx) * FRAGMENT_TOKENS + extra;
            let order = FragmentOrder::new(seed, n_tokens, n_ctx).unwrap();
            let tokens: Vec<u16> = (1..=n_tokens as u16).collect();
            let mut seen = HashSet::new();
            for k in epoch * order.examples_per_epoch()..(epoch + 1) * order.examples_per_epoch() {
                let example = order.example(&tokens, k, 0);
                prop_assert_eq!((example.len(), example[0]), (n_ctx + 1, 0));
                prop_assert!(example[1..].iter().all(|&token| seen.insert(token)));
                let breaks = example[1..].windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
                prop_assert!(breaks < per_example(n_ctx) as usize);
                prop_assert!((breaks + 1) * FRAGMENT_TOKENS * 2 >= n_ctx);
            }
        }
    }

    /// Were pieces to begin at the same places of every window, the place would tell them.
    #[test]
    fn where_pieces_begin_no_place_can_tell() {
        let order = FragmentOrder::new(3, 400_000, 128).unwrap();
        let mut begin = [0u32; 128];
        for k in 0..order.examples_per_epoch() {
            let mut at = 0;
            for (_, length) in order.pieces(k) {
                at += length;
                if at < 128 {
                    begin[at] += 1;
                }
            }
        }
        let (n, mean) = (order.examples_per_epoch(), begin[1..].iter().sum::<u32>() as f64 / 127.0);
        let away = |count: u32| (f64::from(count) - mean).abs() / mean;
        assert!(
            n > 1500 && begin[20..].iter().all(|&count| away(count) < 0.45),
            "{n} {mean} {begin:?}"
        );
    }

    #[test]
    fn a_pass_is_three_quarters_of_one_of_windows() {
        for n_tokens in [5000, 100_000] {
            let fragments = FragmentOrder::new(3, n_tokens, 512).unwrap();
            let windows = TrainingOrder::new(3, n_tokens, 512).unwrap();
            let share = fragments.examples_per_epoch() as f64 / windows.examples_per_epoch() as f64;
            assert!(share > 0.7 && share < 0.8 || n_tokens == 5000, "{n_tokens}: {share}");
        }
        for (n_tokens, n_ctx) in [(700, 512), (34, 18), (16, 1), (0, 5)] {
            assert!(FragmentOrder::new(3, n_tokens, n_ctx).is_err(), "{n_tokens}, {n_ctx}");
        }
        assert!(FragmentOrder::new(3, 1000, 0).is_err());
        assert!(FragmentOrder::new(3, 1000, usize::MAX).is_err());
    }
}
