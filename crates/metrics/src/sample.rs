//! The evaluators' random tokens (paper.md, 3; 11).

use induction_random::stream;
use ndarray::Array2;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Share of the seen token ids, from the most frequent down, that evaluators never draw (paper.md,
/// 11).
pub const DROP_MOST: f64 = 0.05;
/// Share of the seen token ids, from the least frequent up, that evaluators never draw (paper.md,
/// 11).
pub const DROP_LEAST: f64 = 0.20;

/// The token ids an evaluator may draw, ascending: neither the most nor the least common ones
/// (paper.md, 3; 11).
///
/// `counts[id]` is how often the training corpus holds the id. Ids never seen and the start token
/// `bos` go first; of the `n` left, the `round(drop_most * n)` most frequent and the
/// `round(drop_least * n)` least frequent go too. Ids of equal count rank by id, so the list is a
/// function of the counts. It can come out empty; the samplers say so.
///
/// # Errors
/// If a share, or their sum, is not in `[0, 1)`, or ids do not fit in 32 bits.
pub fn allowed_tokens(
    counts: &[u64],
    bos: u32,
    drop_most: f64,
    drop_least: f64,
) -> Result<Vec<u32>> {
    for (name, share) in [
        ("drop_most", drop_most),
        ("drop_least", drop_least),
        ("drop_most + drop_least", drop_most + drop_least),
    ] {
        if !(0.0..1.0).contains(&share) {
            return Err(Error::Setting {
                name,
                expected: "a share in [0, 1)",
                found: share.to_string(),
            });
        }
    }
    let too_large = |_| Error::Setting {
        name: "counts",
        expected: "at most 2^32 token ids",
        found: counts.len().to_string(),
    };
    let vocabulary = u32::try_from(counts.len()).map_err(too_large)?;
    let mut seen: Vec<u32> =
        (0..vocabulary).filter(|&id| id != bos && counts[id as usize] > 0).collect();
    seen.sort_by_key(|&id| (std::cmp::Reverse(counts[id as usize]), id));
    let share = |of: f64| (of * seen.len() as f64).round() as usize;
    let (first, last) = (share(drop_most), seen.len() - share(drop_least).min(seen.len()));
    let mut kept = seen.get(first..last).unwrap_or_default().to_vec();
    kept.sort_unstable();
    Ok(kept)
}

/// What the prefix-matching evaluator reads: a start token, then a block of distinct random tokens,
/// repeated (paper.md, 3: prefix matching).
///
/// The paper's sample is the default. Short contexts and small vocabularies can take a smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixMatchingSample {
    /// Distinct tokens in a block (paper: 25).
    pub block: usize,
    /// How often the block occurs (paper: 4).
    pub repeats: usize,
}

impl Default for PrefixMatchingSample {
    fn default() -> Self {
        Self { block: 25, repeats: 4 }
    }
}

impl PrefixMatchingSample {
    /// Positions of a sample: `1 + block * repeats` (paper: 101).
    #[expect(clippy::len_without_is_empty, reason = "a sample always holds its start token")]
    pub fn len(&self) -> usize {
        self.block.saturating_mul(self.repeats).saturating_add(1)
    }

    /// Checks that there is a block, and an earlier repeat to look into.
    ///
    /// # Errors
    /// If `block` is 0 or `repeats` is below 2.
    pub fn validate(&self) -> Result<()> {
        if self.block == 0 {
            return Err(Error::Setting {
                name: "block",
                expected: "at least 1",
                found: "0".into(),
            });
        }
        if self.repeats < 2 {
            return Err(Error::Setting {
                name: "repeats",
                expected: "at least 2",
                found: self.repeats.to_string(),
            });
        }
        Ok(())
    }

    /// The tokens of one example, `[1 + block * repeats]`: a function of its arguments alone.
    ///
    /// # Errors
    /// If the sample is not valid, or `allowed` holds fewer than `block` distinct tokens besides
    /// `bos`.
    pub fn tokens(&self, seed: u64, example: u64, bos: u32, allowed: &[u32]) -> Result<Vec<u32>> {
        self.validate()?;
        let pool = allowed.iter().copied().filter(|&token| token != bos).collect();
        let block = distinct(seed, "prefix matching", example, pool, self.block)?;
        let mut tokens = vec![bos];
        tokens.extend(block.iter().cycle().take(self.len() - 1));
        Ok(tokens)
    }

    /// Examples `0..examples`, `[example, position]`.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens).
    pub fn batch(
        &self,
        seed: u64,
        examples: usize,
        bos: u32,
        allowed: &[u32],
    ) -> Result<Array2<u32>> {
        stack(examples, self.len(), |example| self.tokens(seed, example, bos, allowed))
    }
}

/// What the copying evaluator reads: distinct random tokens, not repeated, without a start token
/// (paper.md, 3: copying).
///
/// The paper calls the missing start token a mistake (its footnote 31) that depresses some heads;
/// it is kept, so that scores compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyingSample {
    /// Tokens in a sample (paper: 25).
    pub length: usize,
}

impl Default for CopyingSample {
    fn default() -> Self {
        Self { length: 25 }
    }
}

impl CopyingSample {
    /// The tokens of one example, `[source]`: a function of its arguments alone.
    ///
    /// # Errors
    /// If `length` is 0, or `allowed` holds fewer distinct tokens than that.
    pub fn tokens(&self, seed: u64, example: u64, allowed: &[u32]) -> Result<Vec<u32>> {
        if self.length == 0 {
            return Err(Error::Setting {
                name: "length",
                expected: "at least 1",
                found: "0".into(),
            });
        }
        distinct(seed, "copying", example, allowed.to_vec(), self.length)
    }

    /// Examples `0..examples`, `[example, source]`.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens).
    pub fn batch(&self, seed: u64, examples: usize, allowed: &[u32]) -> Result<Array2<u32>> {
        stack(examples, self.length, |example| self.tokens(seed, example, allowed))
    }
}

/// `n` distinct tokens of the pool, in random order: the first `n` steps of a Fisher-Yates shuffle.
fn distinct(
    seed: u64,
    purpose: &str,
    example: u64,
    mut pool: Vec<u32>,
    n: usize,
) -> Result<Vec<u32>> {
    // The list is a set: neither a repeat in it nor its order may show in the sample.
    pool.sort_unstable();
    pool.dedup();
    if pool.len() < n {
        return Err(Error::TooFewTokens { expected: n, found: pool.len() });
    }
    let mut rng = stream(seed, purpose, example);
    for i in 0..n {
        let j = rng.random_range(i..pool.len());
        pool.swap(i, j);
    }
    pool.truncate(n);
    Ok(pool)
}

fn stack(
    examples: usize,
    len: usize,
    tokens: impl Fn(u64) -> Result<Vec<u32>>,
) -> Result<Array2<u32>> {
    let mut flat = Vec::new();
    for example in 0..examples as u64 {
        flat.extend(tokens(example)?);
    }
    Ok(Array2::from_shape_vec((examples, len), flat)
        .expect("every example has the length of its sample"))
}
