//! The local learning coefficient: how many directions in weight space matter near a model.
//!
//! Lau et al. 2023 (arXiv 2308.12108) estimate it as
//!
//! ```text
//! llc = n beta (E[L(w)] - L(w*)),    beta = 1 / ln n
//! ```
//!
//! with the mean of the loss `L` over weights `w` near the model's, `w*`, drawn from the density
//! proportional to `exp(-n beta L(w) - gamma / 2 |w - w*|^2)` by stochastic gradient Langevin
//! dynamics (SGLD; Welling and Teh 2011):
//!
//! ```text
//! w += -epsilon / 2 (n beta grad L(w) + gamma (w - w*)) + sqrt(epsilon) normal
//! ```
//!
//! with the gradient of a minibatch. Restricted to some of the weights, the others held at `w*`, it
//! is the weight-refined coefficient of Wang et al. 2024 (arXiv 2410.02984). Both are what the
//! library devinterp computes.
//!
//! # What it is of a quadratic
//!
//! Where `L(w) = L(w*) + h w^2 / 2` along a direction, the density is Gaussian, and the direction
//! adds `n beta h / (n beta h + gamma) / 2`: a half where it is curved by far more than `gamma / (n
//! beta)`, nothing where it is flat. So a form of rank `r` has `r / 2` in the limit of large `n
//! beta / gamma`, and an estimate counts what is curved by more than that quotient. It is a
//! property of the model and of these constants; estimates compare where the constants are the same.
//!
//! Steps of finite size draw from a wider Gaussian: of `a = n beta h + gamma`, the variance is
//! `1 / (a (1 - epsilon a / 4))` ([`quadratic`] has both), and nothing holds the chain where
//! `epsilon a >= 4`.
//!
//! # The loss at the model itself
//!
//! Losses of different minibatches differ by far more than the coefficient. [`sgld_chain`] asks for
//! the loss of a minibatch at `w` less that of the same minibatch at `w*`, whose expectation is the
//! same, and whose noise is that of the small difference alone. (devinterp subtracts a mean over
//! other minibatches.)

use std::ops::Range;

use induction_random::stream;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, mean_stderr};

/// How weights near a model are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgld {
    /// `n beta`, the inverse temperature.
    pub n_beta: f64,
    /// `gamma`, how strongly weights are held near the model's.
    pub localization: f64,
    /// `epsilon`.
    pub step_size: f64,
    /// Chains, all from the model itself.
    pub chains: usize,
    /// Steps of each chain whose losses are not taken.
    pub burn_in: usize,
    /// Steps after them, each with a loss that is.
    pub draws: usize,
}

impl Sgld {
    /// Checks every constant.
    ///
    /// # Errors
    /// If one is not finite, or outside its range.
    pub fn validate(&self) -> Result<()> {
        let positive = [("n_beta", self.n_beta), ("step_size", self.step_size)];
        if let Some((name, value)) =
            positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0))
        {
            let (expected, found) = ("finite and above 0", value.to_string());
            return Err(Error::Setting { name, expected, found });
        }
        if !(self.localization.is_finite() && self.localization >= 0.0) {
            let (name, expected) = ("localization", "finite and not negative");
            return Err(Error::Setting { name, expected, found: self.localization.to_string() });
        }
        if self.chains == 0 || self.draws < 2 {
            let found = format!("{} and {}", self.chains, self.draws);
            let (name, expected) = ("chains and draws", "at least 1 and 2");
            return Err(Error::Setting { name, expected, found });
        }
        Ok(())
    }

    /// Steps of a chain.
    pub fn steps(&self) -> usize {
        self.burn_in + self.draws
    }
}

/// One chain: how far the loss lies above the model's at each step, in the loss's unit, from the
/// first step on, at which it is 0. `center` are the model's weights, of which those in `free` move.
/// `excess` is given a step's number and weights, and gives the loss of a minibatch there less that
/// of the same minibatch at `center`, and the gradient of the former for all weights (what is there
/// for weights that do not move is not read).
///
/// The noise is a function of `seed`, `chain` and the step alone. A chain that leaves the finite
/// numbers ends there with what is not finite.
///
/// # Errors
/// Those of `excess`.
///
/// # Panics
/// If a range in `free` lies outside the weights.
pub fn sgld_chain<E>(
    sgld: &Sgld,
    (seed, chain): (u64, u64),
    center: &[f32],
    free: &[Range<usize>],
    mut excess: impl FnMut(usize, &[f32], &mut [f32]) -> std::result::Result<f64, E>,
) -> std::result::Result<Vec<f64>, E> {
    let mut weights = center.to_vec();
    let mut gradient = vec![0.0; center.len()];
    let (pull, toward) =
        (0.5 * sgld.step_size * sgld.n_beta, 0.5 * sgld.step_size * sgld.localization);
    let (pull, toward, noise) = (pull as f32, toward as f32, sgld.step_size.sqrt() as f32);
    let mut found = Vec::with_capacity(sgld.steps());
    for step in 0..sgld.steps() {
        let value = excess(step, &weights, &mut gradient)?;
        found.push(value);
        if !value.is_finite() {
            break;
        }
        let mut rng = stream(seed, "sgld noise", chain << 32 | step as u64);
        for range in free {
            let each = weights[range.clone()].iter_mut();
            for ((w, g), c) in each.zip(&gradient[range.clone()]).zip(&center[range.clone()]) {
                let normal: f32 = StandardNormal.sample(&mut rng);
                *w += noise * normal - pull * g - toward * (*w - c);
            }
        }
    }
    Ok(found)
}

/// A local learning coefficient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llc {
    /// The estimate: the mean over chains.
    pub llc: f64,
    /// Its standard error, from how chains differ; `None` of a single chain.
    pub stderr: Option<f64>,
    /// Each chain's own.
    pub by_chain: Vec<f64>,
    /// The mean over the second half of the draws less that over the first, over all chains: far
    /// from 0 where burn-in was too short for the chains to settle.
    pub drift: f64,
    /// Its standard error, from how chains differ.
    pub drift_stderr: Option<f64>,
}

/// The coefficient from chains of [`sgld_chain`]; `None` if one of them left the finite numbers:
/// the step was too large.
///
/// # Errors
/// If the constants are not valid, or there are not as many chains as they say.
pub fn llc(sgld: &Sgld, chains: &[Vec<f64>]) -> Result<Option<Llc>> {
    sgld.validate()?;
    if chains.len() != sgld.chains {
        return Err(Error::Shape {
            what: "the chains",
            expected: format!("{}", sgld.chains),
            found: format!("{}", chains.len()),
        });
    }
    let whole = |chain: &Vec<f64>| {
        chain.len() == sgld.steps() && chain.iter().all(|value| value.is_finite())
    };
    if !chains.iter().all(whole) {
        return Ok(None);
    }
    let mean = |values: &[f64]| sgld.n_beta * values.iter().sum::<f64>() / values.len() as f64;
    let by_chain: Vec<f64> = chains.iter().map(|chain| mean(&chain[sgld.burn_in..])).collect();
    let drifts: Vec<f64> = chains
        .iter()
        .map(|chain| {
            let (first, second) = chain[sgld.burn_in..].split_at(sgld.draws / 2);
            mean(second) - mean(first)
        })
        .collect();
    let (llc, stderr) = mean_stderr(&by_chain);
    let (drift, drift_stderr) = mean_stderr(&drifts);
    Ok(Some(Llc { llc, stderr, by_chain, drift, drift_stderr }))
}

/// The coefficient of a quadratic form with these curvatures (eigenvalues of its Hessian, not
/// negative), that settled chains of these constants have on average: `exact` draws from the density
/// itself, `stepped` with the steps' finite size; `None` where a step is too large for any
/// curvature.
pub fn quadratic(sgld: &Sgld, curvatures: &[f64]) -> (f64, Option<f64>) {
    let (mut exact, mut stepped) = (0.0, Some(0.0));
    for &h in curvatures {
        let a = sgld.n_beta * h + sgld.localization;
        if a == 0.0 {
            continue;
        }
        let half = 0.5 * sgld.n_beta * h / a;
        exact += half;
        let room = 1.0 - sgld.step_size * a / 4.0;
        stepped = stepped.filter(|_| room > 0.0).map(|sum| sum + half / room);
    }
    (exact, stepped)
}
