//! Measurements of induction heads and in-context learning, as pure functions over arrays.
//!
//! # Design
//!
//! The crate reads no file and knows no engine: losses and attention patterns come in as
//! [`ndarray`] views, numbers go out. So a metric can be checked against a few explicit loops
//! (every one is, under random inputs), and a pattern taken from any other model is measured by the
//! same code as ours.
//!
//! * [`losses`]: from per-token losses `[example, index]` in nats to the loss by index, its
//!   derivative, the in-context learning score and the losses of random tokens.
//! * [`same_token`]: the in-context learning score on the same tokens, which is less noisy; the loss
//!   split into tokens that an earlier copy predicts, and others.
//! * [`mod@pca`]: a PCA of models over training, from the losses of random tokens, and the angle by
//!   which a trajectory turns.
//! * [`sample`]: the evaluators' random tokens, each a function of `(seed, example)` and of nothing
//!   else.
//! * [`heads`]: from attention patterns `[example, head, query, key]` to the previous-token and
//!   prefix-matching scores.
//! * [`detectors`]: TransformerLens' head detectors, under its names.
//! * [`mod@copying`]: from direct-path logits to the copying score.
//! * [`mod@copying_ceiling`]: how high that score can be between given embeddings.
//! * [`attribution`]: what attention to each position adds to the logit of the right token.
//! * [`circuits`]: what weights say by themselves: copying, K-composition, recall.
//! * [`roles`]: classifies heads: induction, previous-token, ...
//! * [`ceiling`]: what copying from the context can gain on a text, so that a score has a scale.
//! * [`references`]: how far a model's predictions are from those of uniform, unigram, bigram and
//!   induction predictors.
//! * [`mod@stages`]: the stages of training, and their boundaries by likelihood.
//! * [`mod@llc`]: the local learning coefficient, by stochastic gradient Langevin dynamics.
//! * [`mod@repeats`]: how often a text repeats itself within a context, and how reliably.
//! * [`phase`]: from curves over training to the loss's bump, half times and onsets.
//! * [`mod@step`]: whether a curve over training makes one step, and when.
//! * [`censored`]: a line through values of which some are only known to lie above a limit.
//! * [`seeds`]: means over seeds, and bootstrap draws of them that allow for how few they are.
//! * [`statistics`]: bootstrap intervals, rank correlation, odds ratios, change points.
//!
//! To find induction heads, begin with [`prefix_matching`]; for in-context learning, with
//! [`icl_score`].
//!
//! Three rules hold for whatever reads arrays of a model; functions that combine such results
//! ([`weighted_mean`], [`paired_change`], ...) do not check them again. Sums run in `f64`, whatever the input
//! holds. An input that cannot give a meaningful number (no example, a NaN, a pattern whose rows
//! are not probabilities) is an [`Error`] that names the place, never a panic and never a NaN in
//! the answer. A standard error is over examples, and is `None` for a single example rather than a
//! zero that would read as certainty.
//!
//! Where the paper is ambiguous (docs/paper.md, section 0: D1, D2, D3) the reading taken is argued at the
//! function.
//!
//! # Example
//!
//! An ideal induction head: it attends from each repeated token to the token that followed it last
//! time.
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
//! assert_eq!(prefix_matching(pattern.view(), tokens.view(), sample)?, ndarray::array![[1.0]]); // [example, head]
//! # Ok::<(), induction_metrics::Error>(())
//! ```
//!
//! Runnable: `cargo run -p induction-metrics --example head_scores`.

pub mod attribution;
pub mod ceiling;
pub mod censored;
pub mod circuits;
pub mod copying;
pub mod copying_ceiling;
pub mod detectors;
mod error;
pub mod evidence;
pub mod heads;
pub mod llc;
pub mod losses;
pub mod pca;
pub mod phase;
pub mod references;
pub mod repeats;
pub mod roles;
pub mod same_token;
pub mod sample;
pub mod seeds;
pub mod stages;
pub mod statistics;
pub mod step;

pub use attribution::{Attribution, attribution_scores, logit_attribution};
pub use ceiling::{Bigram, Mixture};
pub use censored::{CensoredFit, Observed, fit_censored};
pub use circuits::{
    BlockWeights, Circuits, Composition, CompositionKind, composition_baseline,
    previous_position_recall,
};
pub use copying::{Copying, copying, direct_path_logits};
pub use copying_ceiling::{CopyingCeiling, copying_ceiling};
pub use detectors::{
    Detection, DetectionPattern, DetectorOptions, detect_heads, detection_pattern,
};
pub use error::Error;
pub use evidence::{Evidence, evidence};
pub use heads::{
    HeadScores, duplicate_token, prefix_matching, prefix_matching_literal, previous_token,
    start_token,
};
pub use llc::{Llc, Sgld, llc, sgld_chain};
pub use losses::{
    IclIndices, IclScore, before_after_attribution, icl_by_example, icl_score, icl_sensitivity,
    late_slope, loss_by_index, loss_derivative, paired_change, random_token_losses,
};
pub use pca::{Pca, Pivot, pca, pivot};
pub use phase::{Bump, divergence, half_time, loss_bumps, predicted_onset, smoothed, time_to};
pub use references::{Crossing, Reference, References, crossings};
pub use repeats::{Repeats, excess_repeats, repeats};
pub use roles::{Role, RoleScores, RoleThresholds, role};
pub use same_token::{CopySplit, SameToken, copy_split, foretold};
pub use sample::{CopyingSample, DROP_LEAST, DROP_MOST, PrefixMatchingSample, allowed_tokens};
pub use seeds::{SeedDraws, mean_over_seeds};
pub use stages::{Boundary, Stages, StagesConfig, find_stages};
pub use statistics::{
    ChangePoint, Interval, TwoByTwo, binomial_tail, change_point, mean_interval, mean_stderr,
    percentile_interval, resample, spearman, weighted_mean,
};
pub use step::{NoStep, StepConfig, StepDirection, StepFit, StepSearch, find_step, fit_step};

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
