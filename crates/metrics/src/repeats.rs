//! How a text repeats itself within a context: what decides whether and when induction heads form
//! (Aoyama et al. 2025, arXiv 2511.16893).
//!
//! Both numbers are of tokens alone: no model is asked. What copying could gain beyond what a bigram
//! model knows is [`ceiling`](crate::ceiling)'s question.

use std::collections::{HashMap, HashSet};

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How often bigrams come again within a window, and how far an earlier copy can be relied on.
///
/// A *place* is a position of a window that has a next token; position 0 holds the start token and
/// is none. All counts are over all windows together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeats {
    /// Places.
    pub places: u64,
    /// Places whose token occurred earlier in the window, as a place.
    pub with_copy: u64,
    /// Of these, those at which the next token followed some earlier copy: the bigram comes again.
    pub repeated: u64,
    /// Of these, those at which it followed the most recent copy.
    pub as_last: u64,
}

impl Repeats {
    /// The share of bigrams that occurred earlier in their window, in `[0, 1]`.
    pub fn frequency(&self) -> f64 {
        self.repeated as f64 / self.places as f64
    }

    /// Where a token occurred earlier, how often what followed its most recent copy follows again,
    /// in `[0, 1]`; 0 if no token ever comes again.
    pub fn reliability(&self) -> f64 {
        self.as_last as f64 / self.with_copy.max(1) as f64
    }
}

/// Counts repeats in windows `[window, 1 + n_ctx]`, whose first token is the start token.
///
/// # Errors
/// If there is no window, or windows have fewer than three tokens.
pub fn repeats(windows: ArrayView2<u32>) -> Result<Repeats> {
    check(windows, 3)?;
    let mut found = Repeats { places: 0, with_copy: 0, repeated: 0, as_last: 0 };
    for window in windows.outer_iter() {
        let tokens: Vec<u32> = window.iter().skip(1).copied().collect();
        let mut bigrams = HashSet::new();
        let mut last = HashMap::new();
        for pair in tokens.windows(2) {
            let followed = last.insert(pair[0], pair[1]);
            found.places += 1;
            found.with_copy += u64::from(followed.is_some());
            found.as_last += u64::from(followed == Some(pair[1]));
            found.repeated += u64::from(!bigrams.insert([pair[0], pair[1]]));
        }
    }
    Ok(found)
}

/// How much more often a bigram of a window's second half occurred in its own first half than in
/// another window's, as a share of all places of second halves, in `[-1, 1]`.
///
/// What weights can learn of a text repeats in any window of it; what is left is known from this
/// context alone. `windows` are `[window, 1 + n_ctx]`, in an order in which neighbours have nothing
/// to do with each other: the other window is the next one, and the first after the last. The first
/// half ends with the place `(n_ctx - 1) / 2`, rounded down.
///
/// # Errors
/// If there are fewer than two windows, or they have fewer than four tokens.
pub fn excess_repeats(windows: ArrayView2<u32>) -> Result<f64> {
    check(windows, 4)?;
    if windows.nrows() < 2 {
        let found = format!("{:?}", windows.shape());
        return Err(Error::Shape {
            what: "windows [window, position]",
            expected: "at least 2 windows".into(),
            found,
        });
    }
    let bigrams: Vec<Vec<[u32; 2]>> = windows
        .outer_iter()
        .map(|window| {
            let tokens: Vec<u32> = window.iter().skip(1).copied().collect();
            tokens.windows(2).map(|pair| [pair[0], pair[1]]).collect()
        })
        .collect();
    let half = bigrams[0].len() / 2;
    let firsts: Vec<HashSet<&[u32; 2]>> =
        bigrams.iter().map(|bigrams| bigrams[..half].iter().collect()).collect();
    let (mut own, mut other, mut all) = (0i64, 0i64, 0i64);
    for (at, bigrams) in bigrams.iter().enumerate() {
        let next = &firsts[(at + 1) % firsts.len()];
        for bigram in &bigrams[half..] {
            own += i64::from(firsts[at].contains(bigram));
            other += i64::from(next.contains(bigram));
            all += 1;
        }
    }
    Ok((own - other) as f64 / all as f64)
}

fn check(windows: ArrayView2<u32>, fewest: usize) -> Result<()> {
    if windows.nrows() == 0 {
        return Err(Error::NoExamples { what: "windows [window, position]" });
    }
    if windows.ncols() < fewest {
        let found = format!("{:?}", windows.shape());
        return Err(Error::Shape {
            what: "windows [window, position]",
            expected: format!("at least {fewest} tokens a window"),
            found,
        });
    }
    Ok(())
}
