//! Which tokens the `k`-th training example holds: arithmetic, not state.

use rand::Rng;

use crate::{Error, Result};

/// The order of training examples, a pure function of `(seed, example index)`.
///
/// An epoch cuts the shard into consecutive windows of `n_ctx` tokens, starting at an offset of the
/// epoch's own so that the same text does not always fall on the same positions of the context, and
/// visits them in the epoch's own order. Nothing is remembered between examples, so a resumed run,
/// another batch split or another number of threads cannot change what is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingOrder {
    seed: u64,
    n_ctx: usize,
    examples_per_epoch: u64,
}

impl TrainingOrder {
    /// The order over a shard of `n_tokens` tokens, in windows of `n_ctx` tokens.
    ///
    /// # Errors
    /// If `n_ctx` is 0, or there is not one whole window at every offset: `n_tokens < 2 n_ctx - 1`.
    pub fn new(seed: u64, n_tokens: usize, n_ctx: usize) -> Result<Self> {
        if n_ctx == 0 {
            return Err(Error::Setting {
                field: "n_ctx",
                given: "0".to_owned(),
                expected: "1 or more".to_owned(),
            });
        }
        // The largest offset is n_ctx - 1. Every epoch has as many windows as fit behind that one,
        // so that the epoch of an example is a division; at most one window of tokens an epoch is
        // left unused, and another each time.
        let examples_per_epoch = (n_tokens.saturating_sub(n_ctx - 1) / n_ctx) as u64;
        if examples_per_epoch == 0 {
            return Err(Error::TooFewTokens {
                n_tokens,
                n_ctx,
                needed: n_ctx.saturating_mul(2) - 1,
            });
        }
        Ok(Self { seed, n_ctx, examples_per_epoch })
    }

    /// The seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Examples in one pass over the shard.
    pub fn examples_per_epoch(&self) -> u64 {
        self.examples_per_epoch
    }

    /// Where in the shard the window of an example starts; `n_ctx` tokens follow. Examples count
    /// from 0 through all epochs.
    pub fn window_start(&self, example: u64) -> usize {
        let (epoch, at) = (example / self.examples_per_epoch, example % self.examples_per_epoch);
        let window = induction_random::permute(
            self.seed,
            "example order",
            epoch,
            self.examples_per_epoch,
            at,
        );
        let mut offsets = induction_random::stream(self.seed, "example offset", epoch);
        let offset = offsets.random_range(0..self.n_ctx as u64);
        (offset + window * self.n_ctx as u64) as usize
    }
}

/// The example whose window starts at `start`: BOS and `n_ctx` consecutive tokens, `n_ctx + 1` in
/// all.
///
/// The first `n_ctx` are the model's input and the last `n_ctx` its targets, so each token of the
/// window is predicted once.
///
/// # Panics
/// If the window does not end within `shard_tokens`; [`TrainingOrder::window_start`] gives starts
/// that do.
pub fn example(shard_tokens: &[u16], start: usize, n_ctx: usize, bos: u32) -> Vec<u32> {
    let window = shard_tokens[start..start + n_ctx].iter().map(|&token| u32::from(token));
    std::iter::once(bos).chain(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_is_in_range_and_repeats_no_token(
            seed: u64, n_ctx in 1usize..40, extra in 0usize..800, epoch in 0u64..1000,
        ) {
            let n_tokens = 2 * n_ctx - 1 + extra;
            let order = TrainingOrder::new(seed, n_tokens, n_ctx).unwrap();
            let per_epoch = order.examples_per_epoch();
            let mut used = vec![false; n_tokens];
            for example in epoch * per_epoch..(epoch + 1) * per_epoch {
                let start = order.window_start(example);
                prop_assert!(start + n_ctx <= n_tokens);
                for place in &mut used[start..start + n_ctx] {
                    prop_assert!(!std::mem::replace(place, true));
                }
            }
            // What is left over is less than two windows.
            prop_assert!(used.iter().filter(|&&u| !u).count() < 2 * n_ctx);
        }

        #[test]
        fn needs_one_window_at_every_offset(seed: u64, n_tokens in 0usize..100, n_ctx in 1usize..60) {
            let order = TrainingOrder::new(seed, n_tokens, n_ctx);
            prop_assert_eq!(order.is_ok(), n_tokens + 1 >= 2 * n_ctx);
        }
    }

    #[test]
    fn batches_and_threads_cannot_matter() {
        let order = TrainingOrder::new(7, 10_000, 16).unwrap();
        let all: Vec<_> = (0..2000).map(|k| order.window_start(k)).collect();
        // Asked in another order, from several threads, each in pieces of its own.
        std::thread::scope(|scope| {
            for size in [1, 3, 32, 500] {
                let (all, order) = (&all, &order);
                scope.spawn(move || {
                    for (batch, expected) in all.chunks(size).enumerate().rev() {
                        let starts = (0..expected.len())
                            .map(|k| order.window_start((batch * size + k) as u64));
                        assert!(starts.eq(expected.iter().copied()));
                    }
                });
            }
        });
    }

    #[test]
    fn epochs_and_seeds_differ_in_order_and_offset() {
        let starts = |seed, epoch: u64| {
            let order = TrainingOrder::new(seed, 10_000, 64).unwrap();
            let n = order.examples_per_epoch();
            (epoch * n..(epoch + 1) * n).map(|k| order.window_start(k)).collect::<Vec<_>>()
        };
        let windows = |starts: Vec<usize>| starts.into_iter().map(|s| s / 64).collect::<Vec<_>>();
        for (seed, epoch) in [(0, 1), (1, 0)] {
            assert_ne!(windows(starts(seed, epoch)), windows(starts(0, 0)));
        }
        let offsets: std::collections::HashSet<_> =
            (0..50).map(|epoch| starts(0, epoch)[0] % 64).collect();
        assert!(offsets.len() > 20, "{offsets:?}");
        // The first choices of seed 0: others would mean that stored runs no longer resume as they
        // began.
        assert_eq!(starts(0, 0)[..4], [2514, 146, 5714, 2706]);
    }

    #[test]
    fn an_example_is_bos_and_the_window() {
        assert_eq!(example(&[5, 6, 7, 8, 9], 1, 3, 0), [0, 6, 7, 8]);
    }

    #[test]
    fn refuses_what_cannot_work() {
        assert!(matches!(TrainingOrder::new(0, 10, 0), Err(Error::Setting { field: "n_ctx", .. })));
        assert!(matches!(TrainingOrder::new(0, 10, usize::MAX), Err(Error::TooFewTokens { .. })));
        let error = TrainingOrder::new(0, 14, 8).unwrap_err().to_string();
        assert!(error.contains("14 training tokens") && error.contains("at least 15"), "{error}");
    }
}
