//! Random tokens, repeated. Only induction predicts the repetition.

use serde::{Deserialize, Serialize};

use super::{Draw, Process, Settings, Shape, nats, refusal};
use crate::Result;

/// Of ten tokens of a block, this many follow from the one two before.
const FOLLOWS_OF_TEN: u32 = 7;

/// One random block over and over.
///
/// A sequence is a few random tokens, fewer than the block's, then the block until the context is
/// full. A model can learn three things from it, as it can from text: how frequent each token is
/// (lower ids are more frequent), what tends to follow (seven in ten tokens are a fixed function of
/// the token two before, the same in all sequences), and, by an induction head, what came after this
/// token last time. Without the second, nothing pays for attention to nearby tokens before
/// induction does, and the phase change comes late or, for some seeds, not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeats {
    /// Shortest block, in tokens: 2 or more.
    pub min_period: usize,
    /// Longest block, in tokens: at most half of `n_ctx`, so that every sequence repeats something.
    pub max_period: usize,
}

impl Settings for Repeats {
    fn open(&self, shape: Shape) -> Result<Box<dyn Process>> {
        let Self { min_period, max_period } = *self;
        if min_period < 2 || max_period < min_period || max_period > shape.n_ctx / 2 {
            return Err(refusal(
                "data.max_period",
                format!("{max_period} (min_period {min_period})"),
                "2 <= min_period <= max_period <= model.n_ctx / 2",
            ));
        }
        // Zipf's law with exponent 1/2. Integers, so that every machine draws the same tokens.
        let weights = (1..shape.d_vocab as u64).map(|rank| (1 << 40) / (rank << 20).isqrt());
        let sums = weights
            .scan(0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        Ok(Box::new(RepeatedBlock { min_period, max_period, shape, sums }))
    }
}

struct RepeatedBlock {
    min_period: usize,
    max_period: usize,
    shape: Shape,
    /// Entry `t` is the summed weight of tokens `1..=t + 1`.
    sums: Vec<u64>,
}

impl RepeatedBlock {
    /// What tends to come two tokens after `token`: a fixed permutation of all tokens but BOS.
    fn successor(&self, token: u32) -> u32 {
        let others = self.shape.n_tokens() as u64;
        induction_random::permute(0, "repeats: successor", 0, others, u64::from(token) - 1) as u32
            + 1
    }

    /// The probability of a token that repeats nothing.
    fn fresh(&self, tokens: &[u32], at: usize) -> f64 {
        let rank = tokens[at] as usize - 1;
        let weight = self.sums[rank] - rank.checked_sub(1).map_or(0, |before| self.sums[before]);
        let total = self.sums[self.sums.len() - 1];
        let frequent = weight as f64 / total as f64;
        if at < 2 {
            return frequent;
        }
        let follows = f64::from(FOLLOWS_OF_TEN) / 10.0;
        let is_next = tokens[at] == self.successor(tokens[at - 2]);
        follows * f64::from(u8::from(is_next)) + (1.0 - follows) * frequent
    }
}

impl Process for RepeatedBlock {
    fn tokens(&self, draw: &mut dyn Draw) -> Vec<u32> {
        let period = self.min_period + draw.below(self.max_period - self.min_period + 1);
        let prefix = draw.below(period);
        let mut tokens = Vec::with_capacity(self.shape.n_ctx + 1);
        for at in 0..prefix + period {
            // Both are drawn for every token, so that one choice does not shift the next.
            let (fresh, follows) =
                (draw.weighted(&self.sums) as u32 + 1, draw.of_ten(FOLLOWS_OF_TEN));
            tokens.push(if follows && at >= 2 { self.successor(tokens[at - 2]) } else { fresh });
        }
        while tokens.len() < self.shape.n_ctx {
            tokens.push(tokens[tokens.len() - period]);
        }
        tokens
    }

    /// Bayes' rule over all periods and all lengths of what comes before the first repetition.
    fn optimum(&self, tokens: &[u32]) -> Vec<f64> {
        let periods = self.min_period..=self.max_period;
        let prior = |period: usize| 1.0 / (periods.clone().count() * period) as f64;
        // Of a hypothesis that has repeated nothing yet: what it gives the tokens so far, over what
        // all together give them.
        let mut fresh_weight = 1.0;
        // Of each period, the weight of its hypotheses that repeat already.
        let mut repeating = vec![0.0; periods.clone().count()];
        let mut losses = Vec::with_capacity(tokens.len());
        for at in 0..tokens.len() {
            let fresh = self.fresh(tokens, at);
            let mut probability = 0.0;
            for (period, weight) in periods.clone().zip(&mut repeating) {
                // The first repeated token is at `period + prefix`, with a prefix below the period.
                if (period..2 * period).contains(&at) {
                    *weight += prior(period) * fresh_weight;
                }
                if at >= period && tokens[at] != tokens[at - period] {
                    *weight = 0.0;
                }
                let still_fresh = (2 * period).saturating_sub(period.max(at + 1));
                probability += *weight + prior(period) * fresh_weight * still_fresh as f64 * fresh;
            }
            losses.push(nats(probability));
            fresh_weight *= fresh / probability;
            repeating.iter_mut().for_each(|weight| *weight /= probability);
        }
        losses
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Synthetic, SyntheticTask};
    use super::*;

    fn task(min_period: usize, max_period: usize, d_vocab: usize, n_ctx: usize) -> SyntheticTask {
        let source = Synthetic::Repeats(Repeats { min_period, max_period });
        SyntheticTask::new(&source, Shape { d_vocab, n_ctx }, 0, "train").unwrap()
    }

    proptest! {
        #[test]
        fn an_example_is_bos_then_prefix_then_repeats(
            d_vocab in 3usize..2000, n_ctx in 4usize..200, periods in (2usize..100, 2usize..100), index: u64,
        ) {
            let max_period = periods.0.min(n_ctx / 2);
            let min_period = periods.1.min(max_period);
            let task = task(min_period, max_period, d_vocab, n_ctx);
            let example = task.example(index);
            prop_assert_eq!(&example, &task.example(index));
            prop_assert_eq!(example.len(), n_ctx + 1);
            prop_assert_eq!(example[0], 0);
            prop_assert!(example[1..].iter().all(|&token| token > 0 && (token as usize) < d_vocab));
            let repeats = |period: usize| (0..period).any(|prefix| {
                let body = &example[1 + prefix..];
                body.len() > period && body.iter().zip(&body[period..]).all(|(a, b)| a == b)
            });
            prop_assert!((min_period..=max_period).any(repeats));
        }
    }

    #[test]
    fn periods_and_prefixes_take_every_length() {
        let task = task(4, 12, 64, 64);
        let examples: Vec<_> = (0..2000).map(|k| task.example(k)).collect();
        // The period as the smallest shift under which the end of the example repeats.
        let period = |e: &Vec<u32>| (1..=12).find(|p| (40..65).all(|k| e[k] == e[k - p]));
        let found: std::collections::BTreeSet<_> = examples.iter().filter_map(period).collect();
        assert!((4..=12).all(|p| found.contains(&p)), "{found:?}");
        // The prefix of an example of period 12 as the tokens that do not come again 12 later.
        let prefix = |e: &Vec<u32>| (1..=20).rev().find(|&k| e[k] != e[k + 12]).unwrap_or(0);
        let prefixes: std::collections::BTreeSet<_> =
            examples.iter().filter(|e| period(e) == Some(12)).map(prefix).collect();
        assert_eq!(prefixes, (0..12).collect());
    }

    #[test]
    fn lower_tokens_are_more_frequent() {
        let task = task(4, 12, 64, 32);
        let mut counts = [0.0; 64];
        for index in 0..40_000 {
            // The first two tokens follow from nothing.
            task.example(index)[1..3].iter().for_each(|&token| counts[token as usize] += 1.0);
        }
        assert_eq!(counts[0], 0.0);
        let share = |range: std::ops::Range<usize>| counts[range].iter().sum::<f64>() / 80_000.0;
        let weight =
            |range: std::ops::Range<usize>| range.map(|t| (t as f64).powf(-0.5)).sum::<f64>();
        for range in [1..8, 57..64] {
            let expected = weight(range.clone()) / weight(1..64);
            assert!((share(range) - expected).abs() < 0.01, "{expected}");
        }
    }

    #[test]
    fn seven_in_ten_follow_from_two_before() {
        let task = task(4, 12, 64, 32);
        let successor = |token: u32| {
            induction_random::permute(0, "repeats: successor", 0, 63, u64::from(token) - 1) as u32
                + 1
        };
        let successors: std::collections::BTreeSet<_> = (1..64).map(successor).collect();
        assert_eq!(successors, (1..64).collect());
        let followed: usize = (0..10_000)
            .filter(|&k| {
                let e = task.example(k);
                e[3] == successor(e[1])
            })
            .count();
        // 0.7 and the few that are drawn by chance.
        assert!((7_000..7_250).contains(&followed), "{followed}");
    }
}
