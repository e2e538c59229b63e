//! Does a curve over training make one step, and when?
//!
//! The question is put to models of the whole curve, least-squares fits in tokens:
//!
//! * a step, `before + (after - before) / (1 + exp(-(x - midpoint) / scale))`, `scale > 0`;
//! * a straight line, as a score that drifts;
//! * a decay towards a level, `a + b exp(-x / tau)`, `tau > 0`: what merely learns slows down like
//!   this, without any step.
//!
//! # Weights
//!
//! Snapshots are dense early (steps 1, 2, 4, ..), and a dozen of them over next to no training
//! would outweigh the run. So each weighs by the tokens it stands for, half of the gap on either
//! side, normalised to mean 1. What such weights leave of `n` snapshots is Kish's effective number,
//! `(sum w)^2 / sum w^2`: some 21 of 9 doubling and 21 even ones. It is the `n` of every AICc here,
//! so that the early snapshots don't count as evidence that they do not give.
//!
//! # What counts as a step
//!
//! AICc is `n ln(RSS / n) + 2k + 2k (k + 1) / (n - k - 1)`, with the weighted residual sum of
//! squares, and `k` counting the error's variance: 5 for a step, 3 for a line, 4 for a decay. A
//! step must beat both by 10. At 21 effective snapshots that asks for residual variances 2.2 and
//! 1.9 times less than theirs: more than independent errors call for, since errors that correlate
//! between snapshots favour the more flexible curve.
//!
//! And a step must be *seen on both sides*: two snapshots lie at or before its 10 % point, and two
//! at or after its 90 % point. A power law is fitted best by the tail of a logistic whose midpoint
//! lies before the run, a bend by one that ends after it; neither has happened where anyone looked.
//!
//! Simulated with 30 snapshots (9 doubling, 21 even), a height of 0.3 and errors of 0.002, 0.01,
//! 0.03 and 0.1, white or AR(1) with coefficient 0.5: of flat curves, lines, exponential decays and
//! power laws, at most 2.4 % are taken for a step, and none with white errors. With a coefficient
//! of 0.8 it is up to 14 % of lines. Steps of ten errors' height whose 10 % to 90 % take up to a
//! fifth of the run are found in over 95 %; slower ones less surely: over a third of the run, in 81
//! % (`tests/all/step.rs`).
//!
//! A drift beside the step is no part of the model, and shifts its midpoint towards the drift: by
//! 1.7 % of the run where the curve goes on falling by a third of the height after the step.

mod search;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};
pub use search::StepSearch;

/// The 10 % and 90 % points of a logistic lie `ln 9` scales from its midpoint.
const LN_9: f64 = 2.197_224_577_336_219_4;

/// Which way a curve steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepDirection {
    /// To lower values, as the in-context learning score.
    Falling,
    /// To higher values, as the prefix-matching score of a head that becomes an induction head.
    Rising,
}

/// The constants of [`find_step`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepConfig {
    /// Which way the step goes.
    pub direction: StepDirection,
    /// By how much a step's AICc must be lower than that of a line, and than that of a decay.
    pub min_delta_aicc: f64,
    /// The least height, in units of the curve.
    pub min_height: f64,
    /// The least height, in standard errors of it, where one is given.
    pub min_height_stderrs: f64,
    /// The least height, in root mean square residuals. The comparison with a line asks for more
    /// than 4 already where the run is seen evenly.
    pub min_contrast: f64,
    /// How many snapshots must lie at or before the 10 % point, and at or after the 90 % point.
    pub min_each_side: usize,
}

impl Default for StepConfig {
    fn default() -> Self {
        Self {
            direction: StepDirection::Falling,
            min_delta_aicc: 10.0,
            min_height: 0.05,
            min_height_stderrs: 3.0,
            min_contrast: 4.0,
            min_each_side: 2,
        }
    }
}

impl StepConfig {
    /// Checks every constant.
    ///
    /// # Errors
    /// If one is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("min_delta_aicc", self.min_delta_aicc),
            ("min_height", self.min_height),
            ("min_height_stderrs", self.min_height_stderrs),
            ("min_contrast", self.min_contrast),
        ];
        match sizes.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            Some((name, value)) => Err(Error::Setting {
                name,
                expected: "finite and not negative",
                found: value.to_string(),
            }),
            None => Ok(()),
        }
    }
}

/// The step that fits a curve best, and how it compares with a line and with a decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepFit {
    /// The level before the step, in units of the curve.
    pub before: f64,
    /// The level after it.
    pub after: f64,
    /// Training tokens at half of its height. May lie outside the run, by up to half of it.
    pub midpoint_tokens: f64,
    /// Its time constant in tokens, between a tenth of the mean gap of two snapshots, below which a
    /// step is a jump between snapshots wherever it lies, and the run.
    pub scale_tokens: f64,
    /// Residual sum of squares, with weights of mean 1.
    pub rss: f64,
    /// Root mean square residual, for the four fitted numbers: `sqrt(rss / snapshots * n / (n -
    /// 4))`, `n` the effective number.
    pub residual: f64,
    /// How many snapshots the weights leave (Kish).
    pub effective_snapshots: f64,
    /// AICc of a straight line less that of the step: above 0 the step describes the curve better.
    pub delta_aicc: f64,
    /// AICc of a decay towards a level less that of the step.
    pub delta_aicc_decay: f64,
}

impl StepFit {
    /// `after - before`: below 0 for a falling step.
    pub fn height(&self) -> f64 {
        self.after - self.before
    }

    /// Training tokens at a tenth of the height: `midpoint - ln 9 * scale`.
    pub fn start_tokens(&self) -> f64 {
        self.midpoint_tokens - LN_9 * self.scale_tokens
    }

    /// Training tokens at nine tenths of the height: `midpoint + ln 9 * scale`.
    pub fn end_tokens(&self) -> f64 {
        self.midpoint_tokens + LN_9 * self.scale_tokens
    }
}

/// Why a curve makes no step, and the number that says so.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum NoStep {
    /// The curve may as well be a straight line.
    #[error(
        "a step describes it no better than a straight line: AICc lower by {delta:.1}, less than {limit}"
    )]
    Line {
        /// [`StepFit::delta_aicc`].
        delta: f64,
        /// [`StepConfig::min_delta_aicc`].
        limit: f64,
    },
    /// The curve may as well decay towards a level.
    #[error(
        "a step describes it no better than a decay towards a level: AICc lower by {delta:.1}, less than {limit}"
    )]
    Decay {
        /// [`StepFit::delta_aicc_decay`].
        delta: f64,
        /// [`StepConfig::min_delta_aicc`].
        limit: f64,
    },
    /// It steps the other way.
    #[error("it steps the other way, by {height:+.3}")]
    Direction {
        /// [`StepFit::height`].
        height: f64,
    },
    /// Too small to matter.
    #[error("its step, of {height:+.3}, is smaller than {limit}")]
    Small {
        /// [`StepFit::height`].
        height: f64,
        /// [`StepConfig::min_height`].
        limit: f64,
    },
    /// The height may be noise.
    #[error(
        "its step, of {height:+.3}, is less than {limit} standard errors of its height ({stderr:.3})"
    )]
    InsideNoise {
        /// [`StepFit::height`].
        height: f64,
        /// The standard error given.
        stderr: f64,
        /// [`StepConfig::min_height_stderrs`].
        limit: f64,
    },
    /// The step is not seen on both sides.
    #[error(
        "its step is not seen on both sides: {before} snapshots before and {after} after it, of {limit} each"
    )]
    OneSided {
        /// Snapshots at or before its 10 % point.
        before: usize,
        /// Snapshots at or after its 90 % point.
        after: usize,
        /// [`StepConfig::min_each_side`].
        limit: usize,
    },
    /// The curve scatters too much about the step.
    #[error(
        "its step, of {height:+.3}, is less than {limit} times as high as the curve scatters about it ({residual:.3})"
    )]
    Scatter {
        /// [`StepFit::height`].
        height: f64,
        /// [`StepFit::residual`].
        residual: f64,
        /// [`StepConfig::min_contrast`].
        limit: f64,
    },
}

/// The step that fits a curve best, whether or not it makes one; [`find_step`] decides that.
///
/// `tokens[k]` is how many training tokens snapshot `k` has seen, `values[k]` its value. The fit
/// and its weights are argued in the [module documentation](self). For many curves at the same
/// snapshots, as bootstrap draws are, build one [`StepSearch`].
///
/// # Errors
/// If the constants are not valid, the lengths differ, tokens do not increase, a value is not
/// finite, or there are too few snapshots: 8, which weigh as much as 7 even ones.
pub fn fit_step(tokens: &[u64], values: &[f64], config: &StepConfig) -> Result<StepFit> {
    StepSearch::new(tokens, config)?.fit(values)
}

/// The step that a curve makes over training, or why it makes none.
///
/// `stderr_of_height` is the standard error of a *change* of the curve between snapshots, where
/// known: not of its values, if all snapshots are measured on the same examples
/// ([`paired_change`](crate::paired_change)).
///
/// # Errors
/// As [`fit_step`], and if the standard error is negative or not finite.
pub fn find_step(
    tokens: &[u64],
    values: &[f64],
    stderr_of_height: Option<f64>,
    config: &StepConfig,
) -> Result<std::result::Result<StepFit, NoStep>> {
    StepSearch::new(tokens, config)?.find(values, stderr_of_height)
}

/// Holds a fit against the rule. `before` and `after` count the snapshots on either side of the
/// step.
fn judge(
    fit: &StepFit,
    (before, after): (usize, usize),
    stderr: Option<f64>,
    config: &StepConfig,
) -> std::result::Result<(), NoStep> {
    let (height, residual) = (fit.height(), fit.residual);
    let size = height.abs();
    // The comparisons come first: what a curve is not says more than how large the step is that it
    // does not make.
    if fit.delta_aicc < config.min_delta_aicc {
        return Err(NoStep::Line { delta: fit.delta_aicc, limit: config.min_delta_aicc });
    }
    if fit.delta_aicc_decay < config.min_delta_aicc {
        return Err(NoStep::Decay { delta: fit.delta_aicc_decay, limit: config.min_delta_aicc });
    }
    if before.min(after) < config.min_each_side {
        return Err(NoStep::OneSided { before, after, limit: config.min_each_side });
    }
    if (height < 0.0) != (config.direction == StepDirection::Falling) {
        return Err(NoStep::Direction { height });
    }
    if size < config.min_height {
        return Err(NoStep::Small { height, limit: config.min_height });
    }
    if let Some(stderr) = stderr.filter(|stderr| size < config.min_height_stderrs * stderr) {
        return Err(NoStep::InsideNoise { height, stderr, limit: config.min_height_stderrs });
    }
    if size < config.min_contrast * residual {
        return Err(NoStep::Scatter { height, residual, limit: config.min_contrast });
    }
    Ok(())
}
