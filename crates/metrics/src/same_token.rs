//! In-context learning measured on the same tokens, and the loss split by what an earlier copy
//! foretells.
//!
//! The paper's score holds the loss of late tokens against that of *other*, early tokens. On few
//! windows, which tokens stand where decides most of it: a bigram model, to which the context is
//! nothing, can score a tenth of a nat either way. Here the late tokens of a long window are held
//! against themselves: predicted again in a fresh window that begins `shift` tokens later, where
//! they stand at the early indices. What a token costs anyhow cancels within the pair, and a model
//! that looks no further back than a fresh window reaches scores 0 on every window.
//!
//! In expectation it is the paper's score, where the text is stationary: the token at index 501 of
//! a window is drawn as one at index 51 is.
//!
//! ```text
//! long window    bos t1 ....................... t450 t451 ....... t490 .. t512
//! fresh window                                    bos t451 ....... t490 .. t512
//!                                                     index 1      40     62
//! ```

use std::collections::HashSet;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use crate::losses::check;
use crate::{Error, IclIndices, Result};

/// Tokens of the paper's evaluation length that are predicted twice: indices 490 to 512, 12 beyond
/// its late one.
const PAPER_TOKENS: usize = 23;
const PAPER_BEYOND: usize = 12;
const PAPER_CONTEXT: usize = 512;

/// Which tokens are predicted twice: indices `first..=last` of a window, from 1, which are `first -
/// shift..=last - shift` of the fresh one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SameToken {
    /// How many tokens later the fresh window begins.
    pub shift: usize,
    /// The first index in the long window.
    pub first: usize,
    /// The last index in the long window.
    pub last: usize,
}

impl SameToken {
    /// Tokens around the late index of the ICL score, and a fresh window that begins as much later
    /// as its two indices lie apart: for the paper's, tokens 490 to 512, which are 40 to 62 of a
    /// window that begins 450 later. A shorter context keeps the ratio.
    ///
    /// # Errors
    /// If the indices do not fit the context.
    pub fn new(indices: &IclIndices, n_ctx: usize) -> Result<Self> {
        indices.validate(n_ctx)?;
        let shift = indices.late - indices.early;
        let scaled = |tokens: usize| (tokens * n_ctx.min(PAPER_CONTEXT)).div_ceil(PAPER_CONTEXT);
        let last = (indices.late + scaled(PAPER_BEYOND)).min(n_ctx);
        Ok(Self { shift, first: last + 1 - scaled(PAPER_TOKENS).min(last - shift), last })
    }

    /// Tokens of text in a fresh window.
    pub fn fresh_len(&self) -> usize {
        self.last - self.shift
    }

    /// The fresh windows of `examples` `[example, n_ctx + 1]`, each a start token and text:
    /// `[example, fresh_len + 1]`.
    ///
    /// # Errors
    /// If the examples are shorter than the last index.
    pub fn fresh(&self, examples: ArrayView2<u32>) -> Result<Array2<u32>> {
        if examples.ncols() <= self.last {
            let (expected, found) =
                (format!("more than {} columns", self.last), examples.ncols().to_string());
            return Err(Error::Shape { what: "examples [example, n_ctx + 1]", expected, found });
        }
        let (start, text) = [0..1, self.shift + 1..self.last + 1]
            .map(|columns| examples.slice_axis(Axis(1), columns.into()))
            .into();
        Ok(concatenate(Axis(1), &[start, text]).expect("two pieces of the same rows"))
    }

    /// The score of each example in nats: the mean over the tokens of their loss in the long window
    /// less that in the fresh one. Negative where the longer context helps. `long` is `[example,
    /// n_ctx]`, `fresh` `[example, fresh_len]`.
    ///
    /// # Errors
    /// If there is no example, shapes disagree, or a loss is not finite.
    pub fn by_example(&self, long: ArrayView2<f32>, fresh: ArrayView2<f32>) -> Result<Vec<f64>> {
        self.check(long, fresh)?;
        let tokens = self.first..=self.last;
        let n = tokens.clone().count() as f64;
        let one = |(long, fresh): (ArrayView1<f32>, ArrayView1<f32>)| {
            tokens
                .clone()
                .map(|i| f64::from(long[i - 1]) - f64::from(fresh[i - 1 - self.shift]))
                .sum::<f64>()
                / n
        };
        Ok(long.outer_iter().zip(fresh.outer_iter()).map(one).collect())
    }

    /// The same at every index of the fresh window, the mean over examples: `[fresh_len]` in nats.
    /// What `shift` tokens more are worth to a token that has so many already: the score for every
    /// choice of the early index.
    ///
    /// # Errors
    /// As [`by_example`](Self::by_example).
    pub fn by_index(&self, long: ArrayView2<f32>, fresh: ArrayView2<f32>) -> Result<Vec<f64>> {
        self.check(long, fresh)?;
        let mean = |k: usize| {
            let pairs = long.column(k + self.shift).into_iter().zip(fresh.column(k));
            pairs.map(|(long, fresh)| f64::from(*long) - f64::from(*fresh)).sum::<f64>()
                / long.nrows() as f64
        };
        Ok((0..self.fresh_len()).map(mean).collect())
    }

    fn check(&self, long: ArrayView2<f32>, fresh: ArrayView2<f32>) -> Result<()> {
        check(long)?;
        check(fresh)?;
        let Self { shift, first, last } = *self;
        if shift == 0 || first <= shift || first > last || last > long.ncols() {
            let found = format!("shift {shift}, tokens {first} to {last} of {}", long.ncols());
            let expected =
                "a shift of at least 1 and below the first token, which is not after the last";
            return Err(Error::Setting { name: "same-token windows", expected, found });
        }
        let expected = [long.nrows(), self.fresh_len()];
        if fresh.shape() != expected {
            let (expected, found) = (format!("{expected:?}"), format!("{:?}", fresh.shape()));
            return Err(Error::Shape {
                what: "losses of the fresh windows [example, index]",
                expected,
                found,
            });
        }
        Ok(())
    }
}

/// Which tokens of a window an earlier copy foretells: those that stood after an earlier copy of
/// the token before them, `[A] [B] .. [A] -> [B]` (paper.md, 5). `tokens` begins with the start
/// token; the answer is one shorter, a flag for each prediction.
pub fn foretold(tokens: ArrayView1<u32>) -> Vec<bool> {
    let mut seen = HashSet::new();
    tokens.iter().zip(tokens.iter().skip(1)).map(|pair| !seen.insert(pair)).collect()
}

/// The losses of one example, summed over the tokens that an earlier copy foretells and over the
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopySplit {
    /// Loss of the foretold tokens, summed, in nats.
    pub foretold: f64,
    /// Loss of the others, summed.
    pub others: f64,
    /// How many are foretold.
    pub n_foretold: usize,
    /// How many are not.
    pub n_others: usize,
}

/// Splits losses `[example, n_ctx]` by what an earlier copy in the window foretells; `examples` are
/// their tokens, `[example, n_ctx + 1]`.
///
/// # Errors
/// If there is no example, the shapes disagree, or a loss is not finite.
pub fn copy_split(losses: ArrayView2<f32>, examples: ArrayView2<u32>) -> Result<Vec<CopySplit>> {
    check(losses)?;
    if examples.dim() != (losses.nrows(), losses.ncols() + 1) {
        let expected = format!("[{}, {}]", losses.nrows(), losses.ncols() + 1);
        let found = format!("{:?}", examples.shape());
        return Err(Error::Shape { what: "examples [example, n_ctx + 1]", expected, found });
    }
    let one = |(losses, tokens): (ArrayView1<f32>, ArrayView1<u32>)| {
        let mut split = CopySplit { foretold: 0.0, others: 0.0, n_foretold: 0, n_others: 0 };
        for (&loss, foretold) in losses.iter().zip(foretold(tokens)) {
            let (sum, n) = if foretold {
                (&mut split.foretold, &mut split.n_foretold)
            } else {
                (&mut split.others, &mut split.n_others)
            };
            *sum += f64::from(loss);
            *n += 1;
        }
        split
    };
    Ok(losses.outer_iter().zip(examples.outer_iter()).map(one).collect())
}
