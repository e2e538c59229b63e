//! The synthetic task: random tokens, repeated. Only induction predicts the repetition.

use rand::Rng;

use crate::bpe::MAX_D_VOCAB;
use crate::{Error, Result};

/// Of ten tokens of a block, this many follow from the one two before.
const FOLLOWS_OF_TEN: u32 = 7;

/// What a [`RepeatsTask`] generates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatsConfig {
    /// Tokens including BOS, which is 0: 3 to 65536.
    pub d_vocab: usize,
    /// Tokens of an example without its BOS.
    pub n_ctx: usize,
    /// Shortest repeated block, in tokens: 1 or more.
    pub min_period: usize,
    /// Longest repeated block, in tokens: at most half of `n_ctx`, so that every example repeats
    /// something.
    pub max_period: usize,
    /// With `purpose`, chooses the stream of examples.
    pub seed: u64,
    /// Keeps streams apart: `train` and `held out` of one seed share no example.
    pub purpose: String,
}

/// Examples of repeated random blocks, a pure function of `(seed, purpose, index)`.
///
/// An example is BOS, a few random tokens, then one random block over and over until the context is
/// full. A model can learn three things from it, as it can from text: how frequent each token is
/// (lower ids are more frequent), what tends to follow (seven in ten tokens are a fixed function of
/// the token two before, the same in all examples), and, by an induction head, what came after this
/// token last time. Without the second, nothing pays for attention to nearby tokens before
/// induction does, and the phase change comes late or, for some seeds, not at all.
#[derive(Debug, Clone)]
pub struct RepeatsTask {
    config: RepeatsConfig,
    /// Entry `t` is the summed weight of tokens `1..=t + 1`.
    cumulative_weights: Vec<u64>,
}

impl RepeatsTask {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the field and its range.
    pub fn new(config: RepeatsConfig) -> Result<Self> {
        let RepeatsConfig { d_vocab, n_ctx, min_period, max_period, .. } = config;
        check("d_vocab", d_vocab, 3, MAX_D_VOCAB)?;
        check("n_ctx", n_ctx, 2, usize::MAX - 1)?;
        check("max_period", max_period, 1, n_ctx / 2)?;
        check("min_period", min_period, 1, max_period)?;
        // Zipf's law with exponent 1/2. Integers, so that every machine draws the same tokens.
        let mut sum = 0;
        let weights = (1..d_vocab as u64).map(|rank| (1 << 40) / (rank << 20).isqrt());
        let cumulative_weights = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        Ok(Self { config, cumulative_weights })
    }

    /// The settings.
    pub fn config(&self) -> &RepeatsConfig {
        &self.config
    }

    /// The example of an index: `n_ctx + 1` tokens, BOS (0) first and only there.
    pub fn example(&self, index: u64) -> Vec<u32> {
        let RepeatsConfig { n_ctx, min_period, max_period, seed, .. } = self.config;
        let mut random = induction_random::stream(seed, &self.config.purpose, index);
        // Drawn as u64: a draw of usize depends on the width of the machine's words.
        let period = random.random_range(min_period as u64..=max_period as u64) as usize;
        let prefix = random.random_range(0..period as u64) as usize;
        let mut example = Vec::with_capacity(n_ctx + 1);
        example.push(0);
        for at in 1..=prefix + period {
            // Both are drawn for every token, so that one choice does not shift the next.
            let (fresh, follows) =
                (self.token(&mut random), random.random_range(0..10u32) < FOLLOWS_OF_TEN);
            example.push(if follows && at > 2 { self.successor(example[at - 2]) } else { fresh });
        }
        while example.len() <= n_ctx {
            example.push(example[example.len() - period]);
        }
        example
    }

    /// What tends to come two tokens after `token`: a fixed permutation of all tokens but BOS.
    fn successor(&self, token: u32) -> u32 {
        let others = self.config.d_vocab as u64 - 1;
        induction_random::permute(0, "repeats: successor", 0, others, u64::from(token) - 1) as u32
            + 1
    }

    fn token(&self, random: &mut impl Rng) -> u32 {
        let total = self.cumulative_weights.last().copied().unwrap_or(1);
        let at = random.random_range(0..total);
        self.cumulative_weights.partition_point(|&sum| sum <= at) as u32 + 1
    }
}

fn check(field: &'static str, given: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    let expected = format!("{least} to {most} in the synthetic task");
    Err(Error::Setting { field, given: given.to_string(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> RepeatsConfig {
        RepeatsConfig {
            d_vocab: 64,
            n_ctx: 32,
            min_period: 4,
            max_period: 12,
            seed: 0,
            purpose: "train".to_owned(),
        }
    }

    proptest! {
        #[test]
        fn an_example_is_bos_then_prefix_then_repeats(
            d_vocab in 3usize..2000, n_ctx in 2usize..200, periods in (1usize..100, 1usize..100), seed: u64, index: u64,
        ) {
            let max_period = periods.0.min(n_ctx / 2);
            let min_period = periods.1.min(max_period);
            let config = RepeatsConfig { d_vocab, n_ctx, min_period, max_period, seed, ..config() };
            let task = RepeatsTask::new(config).unwrap();
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
    fn every_argument_of_the_stream_matters() {
        let base = RepeatsTask::new(config()).unwrap();
        let seed = RepeatsTask::new(RepeatsConfig { seed: 1, ..config() }).unwrap();
        let purpose =
            RepeatsTask::new(RepeatsConfig { purpose: "held out".to_owned(), ..config() }).unwrap();
        let others = [base.example(1), seed.example(0), purpose.example(0)];
        assert!(others.iter().all(|other| *other != base.example(0)));
    }

    #[test]
    fn periods_and_prefixes_take_every_length() {
        let task = RepeatsTask::new(RepeatsConfig { n_ctx: 64, ..config() }).unwrap();
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
        let task = RepeatsTask::new(config()).unwrap();
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
        let task = RepeatsTask::new(config()).unwrap();
        let successors: std::collections::BTreeSet<_> =
            (1..64).map(|token| task.successor(token)).collect();
        assert_eq!(successors, (1..64).collect());
        let followed: usize = (0..10_000)
            .filter(|&k| {
                let e = task.example(k);
                e[3] == task.successor(e[1])
            })
            .count();
        // 0.7 and the few that are drawn by chance.
        assert!((7_000..7_250).contains(&followed), "{followed}");
    }

    #[test]
    fn each_field_is_checked() {
        let refused = |field: &str, config: RepeatsConfig| {
            let error = RepeatsTask::new(config).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        };
        refused("d_vocab = 2", RepeatsConfig { d_vocab: 2, ..config() });
        refused("d_vocab = 65537", RepeatsConfig { d_vocab: 65537, ..config() });
        refused("n_ctx = 1", RepeatsConfig { n_ctx: 1, ..config() });
        refused("n_ctx = ", RepeatsConfig { n_ctx: usize::MAX, ..config() });
        refused("max_period = 17", RepeatsConfig { max_period: 17, ..config() });
        refused("max_period = 0", RepeatsConfig { max_period: 0, ..config() });
        refused("min_period = 0", RepeatsConfig { min_period: 0, ..config() });
        refused("min_period = 13", RepeatsConfig { min_period: 13, ..config() });
    }
}
