//! A run with what the claims and figures derive from it.
//!
//! What is read off a run can be read off a bootstrap resample of it as well ([`Trained::drawn`]):
//! the same examples, some taken several times and some not at all, and head scores that vary by
//! their standard errors. So every number that decides a claim has an interval, whatever lies
//! between it and the losses. Nothing is computed before it is asked for, since a draw is asked for
//! little.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
};

use induction_metrics::{
    Bump, Pca, Pivot, StepConfig, StepDirection, StepFit, StepSearch, divergence, half_time,
    loss_bumps, mean_stderr, pivot, resample, smoothed,
};
use induction_records::{AblationRow, Downstream, HeadId, IclRow, KnockoutRow};
use ndarray::Array2;
use rand_distr::{Distribution, StandardNormal};

use crate::Run;
use crate::claims::limits::{INDUCTION_HEAD_ABOVE, PREVIOUS_TOKEN_HEAD_ABOVE};
use crate::experiment::Variant;
use crate::load::{AblationPoint, HeadScore};

/// Seed of the bootstrap.
const SEED: u64 = 0;

/// Two components, as the paper draws (paper.md, 2).
pub(crate) const COMPONENTS: usize = 2;

/// What a head is by its scores at the last snapshot (paper.md, 11); the colours of the paper's
/// ablation figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadKind {
    Induction,
    PreviousToken,
    Other,
}

/// A bootstrap resample of examples: how often each is taken, the same for every table with as many
/// of them.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    pub(crate) index: u64,
    weights: Arc<Mutex<BTreeMap<usize, Arc<[f64]>>>>,
}

impl Draw {
    pub(crate) fn new(index: u64) -> Self {
        Self { index, weights: Arc::default() }
    }

    fn weights(&self, n: usize) -> Arc<[f64]> {
        let mut known = self.weights.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let drawn = || resample(SEED, self.index, n).into_iter().map(f64::from).collect();
        known.entry(n).or_insert_with(drawn).clone()
    }
}

/// The mean over examples, or over those of a draw.
fn mean(draw: Option<&Draw>, values: &[f64]) -> f64 {
    sum(draw, values) / values.len() as f64
}

fn sum(draw: Option<&Draw>, values: &[f64]) -> f64 {
    match draw {
        None => values.iter().sum(),
        Some(draw) => values
            .iter()
            .zip(&*draw.weights(values.len()))
            .map(|(value, times)| value * times)
            .sum(),
    }
}

/// A phase-change window: where a logistic step fitted to the same-token score has come 10 % and 90
/// % of its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    /// Training tokens at its start.
    pub(crate) start_tokens: u64,
    /// Training tokens at its end.
    pub(crate) end_tokens: u64,
    /// The score's level before the change, in nats.
    pub(crate) score_before: f64,
    /// Its level after it.
    pub(crate) score_after: f64,
}

impl Window {
    fn of(step: &StepFit) -> Self {
        let tokens = |at: f64| at.round().max(0.0) as u64;
        Self {
            start_tokens: tokens(step.start_tokens()),
            end_tokens: tokens(step.end_tokens()).max(tokens(step.start_tokens()) + 1),
            score_before: step.before,
            score_after: step.after,
        }
    }

    pub(crate) fn width(&self) -> f64 {
        (self.end_tokens - self.start_tokens) as f64
    }

    /// Where a time lies: 0 at the window's start, 1 at its end.
    pub(crate) fn place(&self, tokens: f64) -> f64 {
        (tokens - self.start_tokens as f64) / self.width()
    }
}

/// A trained run with what claims and figures derive from it, on all examples or on those of a
/// draw.
#[derive(Debug)]
pub(crate) struct Trained<'a> {
    pub(crate) run: &'a Run,
    pub(crate) variant: Variant,
    plane: Option<Arc<Pca>>,
    /// `None` for all examples.
    draw: Option<Draw>,
    same_token: OnceLock<Vec<f64>>,
    window: OnceLock<Result<Window, String>>,
    matching: OnceLock<Option<f64>>,
    path: OnceLock<Option<Array2<f64>>>,
    /// Shared with every draw: what the fits of steps know of the snapshots alone.
    searches: Arc<Searches>,
    /// What the standard error of each head's prefix matching is multiplied by in this draw.
    noise: OnceLock<Vec<f64>>,
}

/// Fits of steps to the score and to prefix matching, prepared for a run's snapshots.
#[derive(Debug, Default)]
struct Searches {
    score: OnceLock<Result<StepSearch, String>>,
    matching: OnceLock<Result<StepSearch, String>>,
}

impl<'a> Trained<'a> {
    pub(crate) fn new(run: &'a Run, variant: Variant, plane: Option<Arc<Pca>>) -> Self {
        Self::on(run, variant, plane, None, Arc::default())
    }

    fn on(
        run: &'a Run,
        variant: Variant,
        plane: Option<Arc<Pca>>,
        draw: Option<Draw>,
        searches: Arc<Searches>,
    ) -> Self {
        Self {
            run,
            variant,
            plane,
            draw,
            same_token: OnceLock::new(),
            window: OnceLock::new(),
            matching: OnceLock::new(),
            path: OnceLock::new(),
            noise: OnceLock::new(),
            searches,
        }
    }

    /// The same with the examples of one draw; everything is found again.
    pub(crate) fn drawn(&self, draw: &Draw) -> Self {
        Self::on(
            self.run,
            self.variant,
            self.plane.clone(),
            Some(draw.clone()),
            self.searches.clone(),
        )
    }

    fn mean(&self, by_example: &[f64]) -> f64 {
        mean(self.draw.as_ref(), by_example)
    }

    // The in-context learning score.

    /// The same-token score of each snapshot, in nats.
    pub(crate) fn same_token(&self) -> &[f64] {
        self.same_token.get_or_init(|| {
            self.run.icl.iter().map(|point| self.mean(&point.same_token_by_example)).collect()
        })
    }

    /// The last snapshot's amount of in-context learning on the same tokens, in nats (paper.md, 0:
    /// D7).
    pub(crate) fn last_amount(&self) -> f64 {
        let scores = self.same_token();
        -scores[scores.len() - 1]
    }

    /// The same by the paper's score.
    pub(crate) fn last_paper_amount(&self) -> f64 {
        -self.mean(&self.last_icl().by_example)
    }

    /// The phase-change window of the same-token score, or why there is none.
    pub(crate) fn window(&self) -> Result<&Window, &str> {
        self.window.get_or_init(|| self.find_window()).as_ref().map_err(String::as_str)
    }

    fn find_window(&self) -> Result<Window, String> {
        let (tokens, scores) = self.searched(&self.icl_tokens(), self.same_token());
        let prepared =
            || StepSearch::new(&tokens, &StepConfig::default()).map_err(|error| error.to_string());
        let search = self.searches.score.get_or_init(prepared).as_ref().map_err(String::clone)?;
        // How large a height is noise is a property of the examples; a draw is held to the same.
        let found = search.find(&scores, self.height_error(&tokens, &scores));
        found
            .map_err(|error| error.to_string())?
            .map(|step| Window::of(&step))
            .map_err(|none| none.to_string())
    }

    /// The standard error of the fall between the first and the last third of the searched
    /// snapshots, over the run's examples; a fit's height is known about as well.
    fn height_error(&self, tokens: &[u64], scores: &[f64]) -> Option<f64> {
        let third = (scores.len() / 3).max(1);
        let searched: Vec<&IclRow> = self
            .run
            .icl
            .iter()
            .filter(|point| tokens.first().is_some_and(|first| point.tokens >= *first))
            .collect();
        let (early, late) =
            (searched.get(..third)?, searched.get(searched.len().checked_sub(third)?..)?);
        let over = |points: &[&IclRow], e: usize| {
            points.iter().map(|point| point.same_token_by_example[e]).sum::<f64>()
                / points.len() as f64
        };
        let examples = self.run.icl[0].same_token_by_example.len();
        mean_stderr(&(0..examples).map(|e| over(late, e) - over(early, e)).collect::<Vec<_>>()).1
    }

    fn icl_tokens(&self) -> Vec<u64> {
        self.run.icl.iter().map(|point| point.tokens).collect()
    }

    /// The last snapshot's ICL.
    pub(crate) fn last_icl(&self) -> &'a IclRow {
        &self.run.icl[self.run.icl.len() - 1]
    }

    /// d loss / d ln index at the snapshot nearest to a number of tokens, over the indices from the
    /// early one on.
    pub(crate) fn late_slope_near(&self, tokens: u64) -> f64 {
        let near = self.run.icl.iter().min_by_key(|point| point.tokens.abs_diff(tokens));
        near.map_or(f64::NAN, |point| self.mean(&point.late_slope_by_example))
    }

    // Losses.

    /// Tokens and held-out losses of the snapshots in which a change is sought.
    fn losses(&self) -> (Vec<u64>, Vec<f64>) {
        let tokens: Vec<u64> = self.run.losses.iter().map(|point| point.tokens).collect();
        let losses: Vec<f64> =
            self.run.losses.iter().map(|point| self.mean(&point.by_example)).collect();
        self.searched(&tokens, &losses)
    }

    /// The places where the held-out loss, after the warm-up and smoothed, lies above its convex
    /// envelope; the deepest first (paper.md, 9: Q7).
    pub(crate) fn loss_bumps(&self) -> Vec<Bump> {
        let (tokens, losses) = self.losses();
        smoothed(&tokens, &losses)
            .and_then(|(tokens, losses)| loss_bumps(&tokens, &losses))
            .unwrap_or_default()
    }

    /// Tokens at which this run's loss comes to lie below another's by half of the gap at the end.
    pub(crate) fn leaves(&self, other: &Self) -> Option<f64> {
        let ((tokens, losses), (other_tokens, other_losses)) = (self.losses(), other.losses());
        divergence(&other_tokens, &other_losses, &tokens, &losses).ok().flatten()
    }

    /// Mean loss, near a number of tokens, of what an earlier copy foretells and of the rest.
    pub(crate) fn copy_losses_near(&self, tokens: u64) -> Option<[f64; 2]> {
        let near = self.run.copies.iter().min_by_key(|point| point.tokens.abs_diff(tokens))?;
        let draw = self.draw.as_ref();
        let of = |sums: &[f64], counts: &[u32]| {
            let counts: Vec<f64> = counts.iter().copied().map(f64::from).collect();
            sum(draw, sums) / sum(draw, &counts)
        };
        Some([
            of(&near.foretold_by_example, &near.n_foretold_by_example),
            of(&near.others_by_example, &near.n_others_by_example),
        ])
    }

    /// The last snapshot's loss at some context indices (from 1), the mean over them.
    pub(crate) fn last_loss_at(&self, indices: std::ops::RangeInclusive<usize>) -> Option<f64> {
        let columns = indices.start().checked_sub(1)?..*indices.end();
        let values: Vec<f64> = match &self.draw {
            None => self.run.losses.last()?.loss_by_index.get(columns)?.to_vec(),
            Some(draw) => {
                let losses = self.run.last_losses.as_ref()?;
                let column = |k: usize| {
                    let of =
                        losses.column(k).iter().map(|&loss| f64::from(loss)).collect::<Vec<_>>();
                    mean(Some(draw), &of)
                };
                if columns.end > losses.ncols() {
                    None
                } else {
                    Some(columns.map(column).collect())
                }?
            }
        };
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// d loss / d ln tokens over a span of training, by least squares, in nats an e-fold; `None`
    /// with fewer than three snapshots there.
    pub(crate) fn learning_slope(&self, from: f64, to: f64) -> Option<f64> {
        let (tokens, losses) = self.losses();
        let points = tokens.iter().zip(&losses).map(|(tokens, loss)| (*tokens as f64, *loss));
        let inside = points.filter(|(tokens, _)| (from..=to).contains(tokens) && *tokens > 0.0);
        let (x, y): (Vec<f64>, Vec<f64>) = inside.map(|(tokens, loss)| (tokens.ln(), loss)).unzip();
        if x.len() < 3 {
            return None;
        }
        let n = x.len() as f64;
        let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let covariance: f64 = x.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum();
        let variance: f64 = x.iter().map(|x| (x - mx).powi(2)).sum();
        Some(covariance / variance)
    }

    // The path of the losses.

    pub(crate) fn plane(&self) -> Option<&Pca> {
        self.plane.as_deref()
    }

    /// Where each snapshot lies in the plane of the joint PCA, `[snapshot, 2]`, with its tokens.
    pub(crate) fn path(&self) -> Option<(Vec<u64>, &Array2<f64>)> {
        let path = self.path.get_or_init(|| {
            let plane = self.plane.as_ref()?;
            let mut path = Array2::zeros((self.run.random_tokens.len(), COMPONENTS));
            for (point, mut place) in self.run.random_tokens.iter().zip(path.rows_mut()) {
                // The axes stay those of all examples: a draw moves the points, not the plane.
                for (axis, place) in plane.axes.rows().into_iter().zip(&mut place) {
                    let each = point.losses.iter().zip(&plane.mean).zip(axis);
                    let along: Vec<f64> =
                        each.map(|((loss, mean), axis)| (loss - mean) * axis).collect();
                    *place = sum(self.draw.as_ref(), &along);
                }
            }
            Some(path)
        });
        Some((self.run.random_tokens.iter().map(|point| point.tokens).collect(), path.as_ref()?))
    }

    /// How the path turns about a window, the stretch before it not reaching back into the warm-up.
    pub(crate) fn pivot(&self, window: &Window) -> Option<Pivot> {
        let (tokens, path) = self.path()?;
        let first = tokens.partition_point(|&at| (at as f64) < self.warmup_tokens());
        let [begin, end] = [tokens.get(first)?, tokens.last()?].map(|&at| at as f64);
        let beside = (window.start_tokens as f64 - begin).min(end - window.end_tokens as f64);
        if beside < window.width() / 2.0 {
            return None;
        }
        let path = path.slice_axis(ndarray::Axis(0), (first..).into());
        pivot(&tokens[first..], path, window.start_tokens, window.end_tokens).ok().flatten()
    }

    // Heads.

    /// The heads at the last snapshot, as they were measured.
    pub(crate) fn last_heads(&self) -> &'a [HeadScore] {
        &self.run.heads[self.run.heads.len() - 1].rows
    }

    /// A head's prefix matching at a snapshot. Snapshots share the evaluator's tokens, so a draw
    /// moves all of a head's scores the same way.
    fn prefix_matching(&self, k: usize, score: &HeadScore) -> f64 {
        let Some(draw) = &self.draw else { return score.prefix_matching };
        let noise = self.noise.get_or_init(|| {
            let purpose = format!("head scores of {}", self.run.folder);
            let mut normal = induction_random::stream(SEED, &purpose, draw.index);
            self.last_heads().iter().map(|_| StandardNormal.sample(&mut normal)).collect()
        });
        score.prefix_matching + noise[k] * score.prefix_matching_stderr.unwrap_or_default()
    }

    /// The number, in the order of the tables, of the head with the highest prefix matching at the
    /// end; the first of equals.
    fn best(&self) -> usize {
        let heads = self.last_heads();
        let at = |k: usize| self.prefix_matching(k, &heads[k]);
        (1..heads.len()).fold(0, |best, k| if at(k) > at(best) { k } else { best })
    }

    /// The head with the highest prefix-matching score at the last snapshot, with its score of this
    /// draw.
    pub(crate) fn best_head(&self) -> HeadScore {
        let best = self.best();
        let score = self.last_heads()[best];
        HeadScore { prefix_matching: self.prefix_matching(best, &score), ..score }
    }

    /// Whether an induction head formed: the best head ends above the limit.
    pub(crate) fn has_induction_head(&self) -> bool {
        self.best_head().prefix_matching > INDUCTION_HEAD_ABOVE
    }

    /// The highest prefix-matching score of any head at any snapshot.
    pub(crate) fn max_prefix_matching(&self) -> HeadScore {
        let all = self.run.heads.iter().flat_map(|point| point.rows.iter().enumerate());
        let scored = all.map(|(k, score)| HeadScore {
            prefix_matching: self.prefix_matching(k, score),
            ..*score
        });
        scored
            .reduce(
                |best, score| {
                    if score.prefix_matching > best.prefix_matching { score } else { best }
                },
            )
            .unwrap_or_else(|| self.best_head())
    }

    /// Training tokens half-way through the step that the best head's prefix matching makes; `None`
    /// if it makes none.
    pub(crate) fn matching_midpoint(&self) -> Option<f64> {
        *self.matching.get_or_init(|| {
            let best = self.best();
            let (tokens, values): (Vec<u64>, Vec<f64>) = self
                .run
                .heads
                .iter()
                .map(|point| (point.tokens, self.prefix_matching(best, &point.rows[best])))
                .unzip();
            let (tokens, values) = self.searched(&tokens, &values);
            let rising = StepConfig { direction: StepDirection::Rising, ..StepConfig::default() };
            let prepared = || StepSearch::new(&tokens, &rising).map_err(|error| error.to_string());
            let search = self.searches.matching.get_or_init(prepared).as_ref().ok()?;
            let step = search.find(&values, None).ok()?.ok()?;
            Some(step.midpoint_tokens)
        })
    }

    /// The half time of the highest prefix-matching score over heads, in tokens.
    pub(crate) fn max_half_time(&self) -> Option<f64> {
        let value = |heads: &[HeadScore]| {
            heads
                .iter()
                .enumerate()
                .map(|(k, score)| self.prefix_matching(k, score))
                .fold(0.0, f64::max)
        };
        self.half_time_of(value)
    }

    /// The half time of the highest previous-token score below the best head's layer, in tokens.
    pub(crate) fn previous_half_time(&self) -> Option<f64> {
        let layer = self.best_head().layer;
        let below = |heads: &[HeadScore]| {
            heads
                .iter()
                .filter(|head| head.layer < layer)
                .map(|head| head.previous_token)
                .fold(0.0, f64::max)
        };
        let ends_high = below(self.last_heads()) > PREVIOUS_TOKEN_HEAD_ABOVE;
        self.half_time_of(below).filter(|_| ends_high)
    }

    /// The half time of the best head's recall through K-composition, in tokens.
    pub(crate) fn composition_half_time(&self) -> Option<f64> {
        let best = self.best();
        self.last_heads()[best].k_composition_recall?;
        self.half_time_of(|heads| heads[best].k_composition_recall.unwrap_or_default())
    }

    fn half_time_of(&self, value: impl Fn(&[HeadScore]) -> f64) -> Option<f64> {
        let (tokens, values): (Vec<_>, Vec<_>) =
            self.run.heads.iter().map(|point| (point.tokens, value(&point.rows))).unzip();
        // The reader has checked what half_time asks for, so an error can only mean "none".
        half_time(&tokens, &values).ok().flatten()
    }

    /// What a head ends as, the same in every draw: the ablations were chosen by it.
    pub(crate) fn kind(&self, head: HeadId) -> HeadKind {
        match self.last_heads().iter().find(|score| score.id() == head) {
            Some(score) if score.prefix_matching > INDUCTION_HEAD_ABOVE => HeadKind::Induction,
            Some(score) if score.previous_token > PREVIOUS_TOKEN_HEAD_ABOVE => {
                HeadKind::PreviousToken
            }
            _ => HeadKind::Other,
        }
    }

    // Ablations.

    /// How the same-token score changes without each head at a snapshot, in nats.
    pub(crate) fn removal_effects(
        &self,
        point: &AblationPoint,
        downstream: Downstream,
    ) -> Vec<(HeadId, f64)> {
        let effect = |removal: &AblationRow| {
            (removal.id(), self.mean(&removal.same_token_change_by_example))
        };
        point.rows.iter().filter(|removal| removal.downstream == downstream).map(effect).collect()
    }

    /// How each head's removal moves all tokens' losses along the direction in which the change
    /// moved them, at one snapshot, as a share of the change: -1 undoes it (paper.md, 2:
    /// before-and-after vector); `None` without a change.
    pub(crate) fn before_after(
        &self,
        downstream: Downstream,
        point: &AblationPoint,
    ) -> Option<Vec<(HeadId, f64)>> {
        let change = self.run.change.as_ref()?;
        let squares = sum(self.draw.as_ref(), &change.squares);
        let along = |removal: &AblationRow| {
            let dot =
                sum(self.draw.as_ref(), removal.undone_by_example.get(..change.squares.len())?);
            Some((removal.id(), dot / squares))
        };
        point.rows.iter().filter(|removal| removal.downstream == downstream).map(along).collect()
    }

    /// The same-token score of the last snapshot under a knockout.
    pub(crate) fn knockout_score(&self, knockout: &KnockoutRow) -> f64 {
        self.mean(&knockout.same_token_by_example)
    }

    /// The mean loss of the last snapshot under a knockout.
    pub(crate) fn knockout_loss(&self, knockout: &KnockoutRow) -> f64 {
        self.mean(&knockout.loss_by_example)
    }

    // The schedule.

    /// The snapshots in which a change is sought: from the end of the learning-rate warm-up on
    /// (paper.md, 2.1: "after warm region"). Before that the score moves by what an untrained model
    /// does not know of the tokens themselves.
    fn searched(&self, tokens: &[u64], values: &[f64]) -> (Vec<u64>, Vec<f64>) {
        let first = tokens.partition_point(|&at| (at as f64) < self.warmup_tokens());
        (tokens[first..].to_vec(), values[first..].to_vec())
    }

    /// Tokens seen when the learning rate had warmed up.
    pub(crate) fn warmup_tokens(&self) -> f64 {
        self.run.spec.train.warmup_steps as f64 * self.step_tokens()
    }

    /// Tokens seen when the learning rate begins to fall; the run's end if it does not.
    pub(crate) fn decay_tokens(&self) -> f64 {
        self.run.spec.train.tokens as f64 * (1.0 - self.run.spec.train.decay_share)
    }

    /// Tokens a step; every step has as many.
    pub(crate) fn step_tokens(&self) -> f64 {
        let last = &self.run.metrics[self.run.metrics.len() - 1];
        last.tokens as f64 / last.step.max(1) as f64
    }
}
