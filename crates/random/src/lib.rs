//! Every random choice as a pure function of `(seed, purpose, index)`.
//!
//! No generator is stored or passed around. Each random choice (an initial weight, the evaluators'
//! random tokens) calls [`stream`] with its own purpose and index; the order of training examples is
//! [`permute`], one entry of a random permutation at a time. So no choice depends on what was drawn
//! before it, on the number of threads, or on where a run was resumed.
//!
//! ```
//! use rand::Rng;
//! let mut a = induction_random::stream(0, "example", 7);
//! let mut b = induction_random::stream(0, "example", 7);
//! assert_eq!(a.random::<u64>(), b.random::<u64>());
//! ```
//!
//! Runnable: `cargo run -p induction-random --example streams`.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator for one choice: ChaCha8, a counter-based generator, keyed by a hash of the three
/// arguments.
///
/// Streams of different arguments are independent for every practical purpose.
pub fn stream(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key("induction random stream v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    hasher.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A pseudo-random permutation of `0..n`, evaluated at one point without building the whole of it.
///
/// A four-round Feistel network over the smallest even number of bits that holds `n`, walked until
/// it lands inside (at most four steps expected). Used for the order of training examples, where
/// the `k`-th example of an epoch must not cost a shuffle of the epoch.
///
/// # Panics
/// If `at >= n`.
pub fn permute(seed: u64, purpose: &str, epoch: u64, n: u64, at: u64) -> u64 {
    assert!(at < n, "permute: position {at} is outside 0..{n}");
    let mut keys = [0u64; 4];
    stream(seed, purpose, epoch).fill(&mut keys);
    let half_bits = (64 - (n - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1u64 << half_bits) - 1;
    let mut x = at;
    loop {
        let (mut left, mut right) = (x >> half_bits, x & mask);
        for key in keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        x = left << half_bits | right;
        if x < n {
            return x;
        }
    }
}

/// The finalizer of SplitMix64: every output bit depends on every input bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_in_every_argument() {
        let first = |seed, purpose, index| stream(seed, purpose, index).random::<u64>();
        let base = first(1, "init", 2);
        assert_eq!(base, first(1, "init", 2));
        for other in [first(2, "init", 2), first(1, "order", 2), first(1, "init", 3)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn permute_is_a_permutation() {
        for n in [1, 2, 3, 5, 64, 65, 1000] {
            let mut seen = vec![false; n as usize];
            for at in 0..n {
                let to = permute(3, "order", 0, n, at) as usize;
                assert!(!std::mem::replace(&mut seen[to], true), "{to} twice for n = {n}");
            }
        }
    }

    #[test]
    fn permute_mixes() {
        // Neighbours must not stay neighbours: of 1000 consecutive pairs a random permutation keeps
        // about one together.
        let n = 1000;
        let together = (1..n)
            .filter(|&i| permute(0, "order", 0, n, i) == permute(0, "order", 0, n, i - 1) + 1)
            .count();
        assert!(together < 10, "{together} pairs kept");
        assert_ne!(permute(0, "order", 0, n, 0), permute(0, "order", 1, n, 0));
    }
}
