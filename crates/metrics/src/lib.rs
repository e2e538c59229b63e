//! Measurements of induction heads and in-context learning, as pure functions over arrays.
//!
//! # Design
//!
//! The crate reads no file and knows no engine: losses and attention patterns come in as [`ndarray`] views, numbers go
//! out. So a metric can be checked against a few explicit loops (every one is, under random inputs), and a pattern
//! taken from any other model is measured by the same code as ours.
//!
//! * [`losses`]: from per-token losses `[example, index]` in nats to the loss by index and the in-context learning score.
//! * [`sample`]: the evaluators' random tokens, each a function of `(seed, example)` and of nothing else.
//! * [`heads`]: from attention patterns `[example, head, query, key]` to the previous-token and prefix-matching scores.
//! * [`mod@copying`]: from direct-path logits to the copying score.
//! * [`phase`]: from a score over training to the phase-change window.
//!
//! Three rules hold everywhere. Sums run in `f64`, whatever the input holds. An input that cannot give a meaningful
//! number (no example, a NaN, a pattern whose rows are not probabilities) is an [`Error`] that names the place, never a
//! panic and never a NaN in the answer. A standard error is over examples, and is `None` for a single example rather
//! than a zero that would read as certainty.
//!
//! Where the paper is ambiguous (paper.md, 0: D1, D2, D3) the reading taken is argued at the function.
//!
//! # Example
//!
//! An ideal induction head: it attends from each repeated token to the token that followed it last time.
//!
//! ```
//! use induction_metrics::{PrefixMatchingSample, prefix_matching};
//! use ndarray::Array4;
//!
//! let sample = PrefixMatchingSample { block: 3, repeats: 2 };
//! let tokens = sample.batch(0, 1, 99, &[10, 11, 12, 13, 14])?;
//! let mut pattern = Array4::<f32>::zeros((1, 1, sample.len(), sample.len()));
//! for query in 0..sample.len() {
//!     // Rest on the start token until there is an earlier repeat to look into.
//!     let key = if query > sample.block { query - sample.block + 1 } else { 0 };
//!     pattern[[0, 0, query, key]] = 1.0;
//! }
//! assert_eq!(prefix_matching(pattern.view(), tokens.view(), sample)?.mean, [1.0]);
//! # Ok::<(), induction_metrics::Error>(())
//! ```

pub mod copying;
mod error;
pub mod heads;
pub mod losses;
pub mod phase;
pub mod sample;
mod stats;

pub use copying::{Copying, CopyingScores, copying, copying_scores, direct_path_logits};
pub use error::Error;
pub use heads::{HeadScores, prefix_matching, prefix_matching_literal, previous_token};
pub use losses::{IclIndices, IclScore, icl_by_example, icl_score, loss_by_index, paired_change};
pub use phase::{PhaseConfig, Window, half_time, phase_change};
pub use sample::{CopyingSample, DROP_LEAST, DROP_MOST, PrefixMatchingSample, allowed_tokens};

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
