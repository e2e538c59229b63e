//! What a bigram model with in-context matches gains from its context: a scale for in-context
//! learning scores (paper.md, 9: Q2).
//!
//! How much there is to learn in context is a matter of the text: code repeats itself more than
//! prose. A [`Mixture`] of bigram statistics, which a model without context learns, and of what
//! followed the same tokens earlier in the example, which an ideal induction head finds, says how
//! much of it is within reach of these two. Its losses are laid out as a model's, so
//! [`icl_score`](crate::icl_score) and [`loss_by_index`](crate::loss_by_index) apply to them
//! unchanged.
//!
//! It is no bound: a model may use its context in other ways.

use ndarray::{Array2, ArrayView2};

use crate::{Error, Result};

/// The longest match that is told apart from longer ones, in tokens. On Python code, telling more
/// apart gains nothing.
pub const LONGEST_MATCH: usize = 4;

/// Far more than any tokenizer has, and small enough to count by token.
const MAX_D_VOCAB: usize = 1 << 24;

/// Interpolated Witten-Bell bigram model.
///
/// ```text
/// p(t | c) = (n(c, t) + T(c) p(t)) / (n(c) + T(c))      p(t) = (n(t) + 1) / (N + V)
/// ```
///
/// with `T(c)` the number of distinct tokens seen after `c`: contexts with many followers trust
/// their counts less.
///
/// Counts are kept for pairs that occur, so memory grows with the text and not with the square of
/// the vocabulary.
#[derive(Debug, Clone)]
pub struct Bigram {
    /// `n(t)`, `[d_vocab]`.
    unigram: Vec<u32>,
    /// `N`.
    total: usize,
    /// `n(c)`: how often each token has a follower, `[d_vocab]`.
    contexts: Vec<usize>,
    /// Where the pairs of each context begin in `pairs`, `[d_vocab + 1]`.
    starts: Vec<usize>,
    /// `(t, n(c, t))`, by context and then by `t`.
    pairs: Vec<(u32, u32)>,
}

impl Bigram {
    /// Counts the pairs of neighbours in a text.
    ///
    /// # Errors
    /// If the text is empty, a token lies outside the vocabulary, the vocabulary has more than 2^24
    /// tokens, or the text 2^32 or more.
    pub fn fit<T: Copy + Into<u32>>(d_vocab: usize, tokens: &[T]) -> Result<Self> {
        if tokens.is_empty() {
            return Err(Error::NoExamples { what: "training tokens" });
        }
        if u32::try_from(tokens.len()).is_err() {
            let found = tokens.len().to_string();
            return Err(Error::Setting {
                name: "training tokens",
                expected: "fewer than 2^32",
                found,
            });
        }
        if d_vocab > MAX_D_VOCAB {
            return Err(Error::Setting {
                name: "d_vocab",
                expected: "at most 2^24",
                found: d_vocab.to_string(),
            });
        }
        check_tokens(d_vocab, tokens.iter().map(|&token| token.into()))?;

        let mut unigram = vec![0u32; d_vocab];
        let mut starts = vec![0; d_vocab + 1];
        for &token in tokens {
            unigram[token.into() as usize] += 1;
        }
        // A counting sort by context, then an ordinary one by follower inside each.
        for &context in &tokens[..tokens.len() - 1] {
            starts[context.into() as usize + 1] += 1;
        }
        for context in 0..d_vocab {
            starts[context + 1] += starts[context];
        }
        let mut followers = vec![0u32; tokens.len() - 1];
        let mut next = starts.clone();
        for pair in tokens.windows(2) {
            let at = &mut next[pair[0].into() as usize];
            followers[*at] = pair[1].into();
            *at += 1;
        }
        let (mut contexts, mut pairs, mut pair_starts) = (Vec::new(), Vec::new(), vec![0]);
        for range in starts.windows(2) {
            contexts.push(range[1] - range[0]);
            let followers = &mut followers[range[0]..range[1]];
            followers.sort_unstable();
            pairs.extend(followers.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)));
            pair_starts.push(pairs.len());
        }
        Ok(Self { unigram, total: tokens.len(), contexts, starts: pair_starts, pairs })
    }

    /// Size of the vocabulary.
    pub fn d_vocab(&self) -> usize {
        self.unigram.len()
    }

    /// `p(next | current)`; `None` if a token lies outside the vocabulary.
    pub fn probability(&self, current: u32, next: u32) -> Option<f64> {
        let known = (current.max(next) as usize) < self.d_vocab();
        known.then(|| self.known_probability(current, next))
    }

    fn known_probability(&self, current: u32, next: u32) -> f64 {
        let unigram = self.unigram(next);
        let (row, all) = self.followers(current);
        if row.is_empty() {
            return unigram;
        }
        let count = row.binary_search_by_key(&next, |&(token, _)| token).map_or(0, |at| row[at].1);
        let distinct = row.len() as f64;
        (f64::from(count) + distinct * unigram) / (all + distinct)
    }

    /// `p(t)` of a token of the vocabulary.
    pub(crate) fn unigram(&self, token: u32) -> f64 {
        (f64::from(self.unigram[token as usize]) + 1.0) / (self.total + self.d_vocab()) as f64
    }

    /// `(t, n(c, t))` of every token that was seen after one of the vocabulary, ascending, and
    /// `n(c)`.
    pub(crate) fn followers(&self, current: u32) -> (&[(u32, u32)], f64) {
        let current = current as usize;
        let row = &self.pairs[self.starts[current]..self.starts[current + 1]];
        (row, self.contexts[current] as f64)
    }
}

/// How far a match is trusted: by how long it is, how often it occurred and how far its followers
/// agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket(usize);

impl Bucket {
    /// One occurrence, 2, 3 or 4, 5 to 8, more.
    const OCCURRENCES: usize = 5;
    /// The most frequent follower: less than half of them, at least half, all.
    const AGREEMENTS: usize = 3;
    const COUNT: usize = LONGEST_MATCH * Self::OCCURRENCES * Self::AGREEMENTS;

    fn new(length: usize, occurrences: usize, most_frequent: usize) -> Self {
        let agreement = if most_frequent == occurrences {
            2
        } else {
            usize::from(2 * most_frequent >= occurrences)
        };
        // The logarithm to base 2, rounded up.
        let many = (occurrences.next_power_of_two().ilog2() as usize).min(Self::OCCURRENCES - 1);
        Self(((length - 1) * Self::OCCURRENCES + many) * Self::AGREEMENTS + agreement)
    }
}

/// What followed the earlier occurrences of the longest suffix of a context that has any.
#[derive(Debug, Clone)]
struct Match {
    bucket: Bucket,
    /// The tokens that followed, ascending, one entry for each occurrence.
    followers: Vec<u32>,
}

impl Match {
    /// The match at the end of `context`, if its last token occurred before. Matches of more than
    /// `longest` tokens are not told apart.
    fn find(context: &[u32], longest: usize) -> Option<Self> {
        let last = context.len().checked_sub(1)?;
        let mut length = 1;
        let mut followers = Vec::new();
        for earlier in (0..last).filter(|&earlier| context[earlier] == context[last]) {
            let common = (1..longest.min(earlier + 1))
                .take_while(|k| context[earlier - k] == context[last - k]);
            let found = 1 + common.count();
            if found > length {
                length = found;
                followers.clear();
            }
            if found == length {
                followers.push(context[earlier + 1]);
            }
        }
        followers.sort_unstable();
        let most_frequent = followers.chunk_by(|a, b| a == b).map(<[u32]>::len).max()?;
        Some(Self { bucket: Bucket::new(length, followers.len(), most_frequent), followers })
    }

    /// The share of the occurrences that `next` followed.
    fn probability(&self, next: u32) -> f64 {
        let count = self.followers.iter().filter(|&&follower| follower == next).count();
        count as f64 / self.followers.len() as f64
    }
}

/// A bigram model mixed with in-context matches (paper.md, 9: Q2).
///
/// The next token has probability `(1 - w) p_bigram + w p_match`. `p_match` is the distribution of
/// the tokens that followed the earlier occurrences, in the same example, of the longest suffix of
/// the context that has any; suffixes of more than [`LONGEST_MATCH`] tokens are not told apart. The
/// weight `w` depends on the length of the match, the number of occurrences and how far they agree,
/// and is learned. Without a match the bigram model is alone.
#[derive(Debug, Clone)]
pub struct Mixture {
    bigram: Bigram,
    /// Matches of more tokens are not told apart.
    longest: usize,
    weights: [f64; Bucket::COUNT],
}

impl Mixture {
    /// Counts bigrams in `training_tokens` and learns the weights on `fit_windows [example, 1 +
    /// n_ctx]`.
    ///
    /// The weights are those of greatest likelihood, given one pseudo-observation in each case that
    /// the match missed: so none reaches 1, where a first miss would cost infinitely much. The
    /// likelihood of a case is concave in its weight: there is one maximum, and bisection finds it.
    ///
    /// Neither text may hold the examples that [`losses`](Self::losses) will be asked for. Windows
    /// that are part of the training tokens flatter the bigram model and make the weights a little
    /// too small.
    ///
    /// # Errors
    /// If there is no token or no window, windows are shorter than 2 tokens, or a token lies
    /// outside the vocabulary.
    pub fn fit<T: Copy + Into<u32>>(
        d_vocab: usize,
        training_tokens: &[T],
        fit_windows: ArrayView2<u32>,
    ) -> Result<Self> {
        Self::fit_weights(Bigram::fit(d_vocab, training_tokens)?, LONGEST_MATCH, fit_windows)
    }

    /// The same with matches of one token alone: an induction head that knows of each place the
    /// token before it, and no more.
    ///
    /// # Errors
    /// As [`fit`](Self::fit), of the windows.
    pub fn of_one_token(&self, fit_windows: ArrayView2<u32>) -> Result<Self> {
        Self::fit_weights(self.bigram.clone(), 1, fit_windows)
    }

    fn fit_weights(bigram: Bigram, longest: usize, fit_windows: ArrayView2<u32>) -> Result<Self> {
        let d_vocab = bigram.d_vocab();
        check_examples(d_vocab, fit_windows)?;
        let mut cases = vec![Vec::new(); Bucket::COUNT];
        for example in fit_windows.outer_iter() {
            let example = example.to_vec();
            for (k, pair) in example.windows(2).enumerate() {
                if let Some(found) = Match::find(&example[..=k], longest) {
                    let by_bigram = bigram.known_probability(pair[0], pair[1]);
                    cases[found.bucket.0].push((by_bigram, found.probability(pair[1])));
                }
            }
        }
        let mut weights = [0.0; Bucket::COUNT];
        for (weight, cases) in weights.iter_mut().zip(&cases) {
            *weight = most_likely_weight(cases);
        }
        Ok(Self { bigram, longest, weights })
    }

    /// The loss of each token but the first, in nats: `[example, 1 + n_ctx] -> [example, n_ctx]`,
    /// laid out as the losses of a model (see [`losses`](crate::losses)).
    ///
    /// # Errors
    /// If there is no example, examples are shorter than 2 tokens, or a token lies outside the
    /// vocabulary.
    pub fn losses(&self, examples: ArrayView2<u32>) -> Result<Array2<f32>> {
        self.map_losses(examples, |context, next| {
            let by_bigram = self.bigram.known_probability(context[context.len() - 1], next);
            match Match::find(context, self.longest) {
                Some(found) => {
                    mix(by_bigram, found.probability(next), self.weights[found.bucket.0])
                }
                None => by_bigram,
            }
        })
    }

    /// As [`losses`](Self::losses), by the bigram model alone, which learns nothing in context.
    ///
    /// # Errors
    /// As [`losses`](Self::losses).
    pub fn bigram_losses(&self, examples: ArrayView2<u32>) -> Result<Array2<f32>> {
        self.map_losses(examples, |context, next| {
            self.bigram.known_probability(context[context.len() - 1], next)
        })
    }

    /// The probability of each next token after a context, `[d_vocab]`.
    ///
    /// # Errors
    /// If the context is empty or a token lies outside the vocabulary.
    pub fn probabilities(&self, context: &[u32]) -> Result<Vec<f64>> {
        let &last = context.last().ok_or(Error::NoExamples { what: "context [position]" })?;
        check_tokens(self.bigram.d_vocab(), context.iter().copied())?;
        let found = Match::find(context, self.longest);
        let probability = |next| {
            let by_bigram = self.bigram.known_probability(last, next);
            found.as_ref().map_or(by_bigram, |m| {
                mix(by_bigram, m.probability(next), self.weights[m.bucket.0])
            })
        };
        Ok((0..self.bigram.d_vocab()).map(|next| probability(next as u32)).collect())
    }

    /// The bigram model.
    pub(crate) fn bigram(&self) -> &Bigram {
        &self.bigram
    }

    /// The weight of the match after a context, and the tokens that followed the earlier
    /// occurrences, ascending, one entry for each; `None` where there is no match.
    pub(crate) fn matched(&self, context: &[u32]) -> Option<(f64, Vec<u32>)> {
        let found = Match::find(context, self.longest)?;
        Some((self.weights[found.bucket.0], found.followers))
    }

    fn map_losses(
        &self,
        examples: ArrayView2<u32>,
        probability: impl Fn(&[u32], u32) -> f64,
    ) -> Result<Array2<f32>> {
        check_examples(self.bigram.d_vocab(), examples)?;
        let mut losses = Array2::zeros((examples.nrows(), examples.ncols() - 1));
        for (example, mut losses) in examples.outer_iter().zip(losses.outer_iter_mut()) {
            let example = example.to_vec();
            for (k, loss) in losses.iter_mut().enumerate() {
                *loss = -probability(&example[..=k], example[k + 1]).ln() as f32;
            }
        }
        Ok(losses)
    }
}

fn mix(by_bigram: f64, by_match: f64, weight: f64) -> f64 {
    by_bigram + weight * (by_match - by_bigram)
}

/// The weight in `[0, 1)` that makes the next tokens, given as `(p_bigram, p_match)`, and one miss
/// most likely.
fn most_likely_weight(cases: &[(f64, f64)]) -> f64 {
    // The derivative of the log likelihood, which falls everywhere; the miss alone gives ln(1 - w).
    let slope =
        |w: f64| cases.iter().map(|&(b, m)| (m - b) / mix(b, m, w)).sum::<f64>() - 1.0 / (1.0 - w);
    let (mut low, mut high) = (0.0, 1.0);
    // To 1e-9: far below what the number of cases can tell, and half the steps that the type would
    // allow.
    for _ in 0..30 {
        let middle = 0.5 * (low + high);
        if slope(middle) > 0.0 { low = middle } else { high = middle }
    }
    // Where the likelihood still rises, or 0: no worse than the bigram model alone.
    low
}

pub(crate) fn check_examples(d_vocab: usize, examples: ArrayView2<u32>) -> Result<()> {
    if examples.nrows() == 0 {
        return Err(Error::NoExamples { what: "examples [example, position]" });
    }
    if examples.ncols() < 2 {
        let found = format!("{:?}", examples.shape());
        return Err(Error::Shape {
            what: "examples [example, position]",
            expected: "at least 2 positions".into(),
            found,
        });
    }
    examples.outer_iter().try_for_each(|example| check_tokens(d_vocab, example.iter().copied()))
}

fn check_tokens(d_vocab: usize, tokens: impl Iterator<Item = u32>) -> Result<()> {
    match tokens.enumerate().find(|&(_, token)| token as usize >= d_vocab) {
        Some((position, token)) => Err(Error::Token { token, position, d_vocab }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_match_has_its_bucket() {
        // Occurrences and most frequent follower, by rising number and agreement.
        let kinds = [
            vec![(1, 1)],
            vec![(2, 1), (2, 2)],
            vec![(3, 1), (4, 2), (4, 4)],
            vec![(5, 2), (8, 4), (8, 8)],
            vec![(9, 4), (300, 150), (300, 300)],
        ];
        let mut found = Vec::new();
        for length in 1..=LONGEST_MATCH {
            for &(occurrences, most_frequent) in kinds.iter().flatten() {
                found.push(Bucket::new(length, occurrences, most_frequent).0);
            }
        }
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        assert!(found.iter().all(|&bucket| bucket < Bucket::COUNT));
        assert_eq!(Bucket::new(2, 3, 1), Bucket::new(2, 4, 1));
        assert_eq!(Bucket::new(2, 9, 9), Bucket::new(2, 10_000, 10_000));
    }

    #[test]
    fn the_longest_suffix_decides() {
        // `1 2` was followed by 3 and 4; `2` alone also by 5.
        let found = Match::find(&[1, 2, 3, 1, 2, 4, 2, 5, 1, 2], LONGEST_MATCH).expect("a match");
        assert_eq!(found.followers, [3, 4]);
        assert_eq!(found.bucket, Bucket::new(2, 2, 1));
        // Occurrences may overlap the suffix.
        assert_eq!(Match::find(&[7, 7, 7], LONGEST_MATCH).expect("a match").followers, [7]);
        assert!(
            Match::find(&[1, 2, 3], LONGEST_MATCH).is_none()
                && Match::find(&[], LONGEST_MATCH).is_none()
        );
    }
}
