//! Which run plays which part, and what the claims ask of a run.
//!
//! A part is known by content - layers, MLP, smeared keys, seed, data - never by a run's name. Only attention-only runs
//! have one: the claims are about those.
//!
//! What is read off a run can be read off a bootstrap resample of it as well ([`Cast::drawn`]): the same examples, some
//! taken several times and some not at all, and head scores that vary by their standard errors. So every number that
//! decides a claim has an interval, whatever lies between it and the losses.

use std::rc::Rc;

use induction_metrics::{
    Bump, Pca, PhaseConfig, Pivot, Window, divergence, half_time, icl_window, loss_bumps, pca, pivot, resample,
    smoothed, weighted_mean,
};
use ndarray::{Array2, ArrayView1, Axis};
use rand_distr::{Distribution, StandardNormal};

use crate::Run;
use crate::load::{HeadScore, HeadsPoint, IclPoint};

/// Seed of the bootstrap.
const SEED: u64 = 0;

/// Depth and variant of an attention-only model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) n_layers: usize,
    pub(crate) smeared: bool,
}

pub(crate) const ONE: Part = Part { n_layers: 1, smeared: false };
pub(crate) const TWO: Part = Part { n_layers: 2, smeared: false };
pub(crate) const ONE_SMEARED: Part = Part { n_layers: 1, smeared: true };
pub(crate) const TWO_SMEARED: Part = Part { n_layers: 2, smeared: true };

impl Part {
    pub(crate) fn of(run: &Run) -> Option<Self> {
        let spec = &run.spec;
        (spec.d_mlp == 0).then_some(Self { n_layers: spec.n_layers, smeared: spec.smeared_keys })
    }

    /// "2 layers, smeared keys"
    pub(crate) fn label(self) -> String {
        let layers = if self.n_layers == 1 { "1 layer".to_string() } else { format!("{} layers", self.n_layers) };
        if self.smeared { format!("{layers}, smeared keys") } else { layers }
    }

    /// "2-layer smeared-key run"
    pub(crate) fn run(self) -> String {
        format!("{}-layer {} run", self.n_layers, if self.smeared { "smeared-key" } else { "vanilla" })
    }
}

/// The snapshots in which a change is sought: from the end of the learning-rate warm-up on (paper.md, 2.1: "after warm
/// region"). Before that the score moves by what an untrained model does not know of the tokens themselves.
fn searched<'a, T>(run: &Run, tokens: &'a [u64], values: &'a [T]) -> (&'a [u64], &'a [T]) {
    let first = tokens.partition_point(|&at| (at as f64) < warmup_tokens(run));
    (&tokens[first..], &values[first..])
}

fn warmup_tokens(run: &Run) -> f64 {
    run.spec.warmup_steps as f64 * step_tokens(run)
}

/// Tokens a step; every step has as many.
fn step_tokens(run: &Run) -> f64 {
    let last = &run.metrics[run.metrics.len() - 1];
    last.tokens as f64 / last.step.max(1) as f64
}

/// A run with what the claims derive from it, on all examples or on those of a draw.
#[derive(Debug)]
pub(crate) struct Player<'a> {
    pub(crate) run: &'a Run,
    pub(crate) part: Part,
    /// The phase-change window of its ICL score, or why there is none.
    pub(crate) window: Result<Window, String>,
    /// The ICL score of each snapshot, in nats.
    pub(crate) icl: Vec<f64>,
    /// d loss / d ln index over the late indices, of each snapshot.
    late_slope: Vec<f64>,
    /// Held-out loss of each snapshot.
    loss: Vec<f64>,
    /// The heads of each snapshot.
    heads: Vec<HeadsPoint>,
    /// Where each snapshot lies in the plane of the joint PCA, `[snapshot, 2]`.
    path: Option<Array2<f64>>,
    plane: Option<Rc<Pca>>,
}

/// Two components, as the paper draws (paper.md, 2).
const COMPONENTS: usize = 2;

impl<'a> Player<'a> {
    fn new(run: &'a Run, part: Part, plane: Option<Rc<Pca>>) -> Self {
        let tokens: Vec<u64> = run.icl.iter().map(|point| point.tokens).collect();
        let icl: Vec<f64> = run.icl.iter().map(|point| point.score).collect();
        let by_example: Vec<&[f64]> = run.icl.iter().map(|point| point.by_example.as_slice()).collect();
        let (at, scores) = searched(run, &tokens, &icl);
        let (_, by_example) = searched(run, &tokens, &by_example);
        let window = match icl_window(at, scores, by_example, &PhaseConfig::default()) {
            Ok(found) => found.map_err(|none| none.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let heads = run.heads.clone();
        let mut player =
            Self { run, part, window, icl, late_slope: Vec::new(), loss: Vec::new(), heads, path: None, plane };
        player.take(None);
        player
    }

    /// The same with the examples of one draw; its window is found again.
    fn drawn(&self, draw: u64) -> Self {
        let run = self.run;
        let tokens: Vec<u64> = run.icl.iter().map(|point| point.tokens).collect();
        let counts = resample(SEED, draw, run.icl[0].by_example.len());
        let icl: Vec<f64> = run.icl.iter().map(|point| weighted_mean(&point.by_example, &counts)).collect();
        let (at, scores) = searched(run, &tokens, &icl);
        let window = match induction_metrics::phase_change(at, scores, None, &PhaseConfig::default()) {
            Ok(Some(window)) => Ok(window),
            Ok(None) => Err("no descent in this draw".to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut heads = run.heads.clone();
        let mut normal = induction_random::stream(SEED, "head scores", draw);
        for score in heads.iter_mut().flat_map(|point| &mut point.heads) {
            let z: f64 = StandardNormal.sample(&mut normal);
            score.prefix_matching += z * score.prefix_matching_stderr.unwrap_or_default();
        }
        let plane = self.plane.clone();
        let mut player = Self {
            run,
            part: self.part,
            window,
            icl,
            late_slope: Vec::new(),
            loss: Vec::new(),
            heads,
            path: None,
            plane,
        };
        player.take(Some(draw));
        player
    }

    /// Averages the remaining tables over all examples, or over those of a draw.
    fn take(&mut self, draw: Option<u64>) {
        let run = self.run;
        // Every snapshot sees the same draw.
        let counts = |n: usize| draw.map(|draw| resample(SEED, draw, n));
        let mean = |values: &[f64], counts: &Option<Vec<u32>>| match counts {
            Some(counts) => weighted_mean(values, counts),
            None => values.iter().sum::<f64>() / values.len() as f64,
        };
        let slopes = counts(run.icl[0].late_slope_by_example.len());
        self.late_slope = run.icl.iter().map(|point| mean(&point.late_slope_by_example, &slopes)).collect();
        let losses = counts(run.losses[0].by_example.len());
        self.loss = run.losses.iter().map(|point| mean(&point.by_example, &losses)).collect();
        self.path = self.plane.as_ref().map(|plane| {
            let counts = counts(plane.mean.len());
            let mut path = Array2::zeros((run.random_tokens.len(), COMPONENTS));
            for (point, mut place) in run.random_tokens.iter().zip(path.rows_mut()) {
                // The axes stay those of all examples: a draw moves the points, not the plane.
                for (axis, place) in plane.axes.rows().into_iter().zip(&mut place) {
                    let each = point.losses.iter().zip(&plane.mean).zip(axis).enumerate();
                    *place = each
                        .map(|(e, ((loss, mean), axis))| {
                            let times = counts.as_ref().map_or(1.0, |counts| f64::from(counts[e]));
                            times * (loss - mean) * axis
                        })
                        .sum();
                }
            }
            path
        });
    }

    /// The last snapshot's ICL.
    pub(crate) fn last_icl(&self) -> &'a IclPoint {
        &self.run.icl[self.run.icl.len() - 1]
    }

    /// The last snapshot's amount of ICL (paper.md, 0: D7).
    pub(crate) fn last_amount(&self) -> f64 {
        -self.icl[self.icl.len() - 1]
    }

    /// d loss / d ln index at the snapshot nearest to a number of tokens, over the indices from the early one on.
    pub(crate) fn late_slope_near(&self, tokens: u64) -> f64 {
        let near = (0..self.run.icl.len()).min_by_key(|&k| self.run.icl[k].tokens.abs_diff(tokens));
        near.map_or(f64::NAN, |k| self.late_slope[k])
    }

    /// The places where the held-out loss, after the warm-up and smoothed as the ICL score is, lies above its convex
    /// envelope; the deepest first (paper.md, 9: Q7).
    pub(crate) fn loss_bumps(&self) -> Vec<Bump> {
        let (tokens, losses) = self.losses();
        let (tokens, losses) = searched(self.run, &tokens, &losses);
        smoothed(tokens, losses, &PhaseConfig::default())
            .and_then(|(tokens, losses)| loss_bumps(&tokens, &losses))
            .unwrap_or_default()
    }

    /// Tokens at which this run's loss comes to lie below another's by half of the gap at the end.
    pub(crate) fn leaves(&self, other: &Self) -> Option<f64> {
        let ((tokens, losses), (other_tokens, other_losses)) = (self.losses(), other.losses());
        let (tokens, losses) = searched(self.run, &tokens, &losses);
        let (other_tokens, other_losses) = searched(other.run, &other_tokens, &other_losses);
        divergence(other_tokens, other_losses, tokens, losses).ok().flatten()
    }

    fn losses(&self) -> (Vec<u64>, Vec<f64>) {
        (self.run.losses.iter().map(|point| point.tokens).collect(), self.loss.clone())
    }

    /// How the path in the plane of the joint PCA turns about a window.
    pub(crate) fn pivot(&self, window: &Window) -> Option<Pivot> {
        let tokens: Vec<u64> = self.run.random_tokens.iter().map(|point| point.tokens).collect();
        pivot(&tokens, self.path.as_ref()?.view(), window.start_tokens, window.end_tokens).ok().flatten()
    }

    /// The path in the plane of the joint PCA, `[snapshot, 2]`, and the tokens of each snapshot.
    pub(crate) fn path(&self) -> Option<(Vec<u64>, &Array2<f64>)> {
        Some((self.run.random_tokens.iter().map(|point| point.tokens).collect(), self.path.as_ref()?))
    }

    /// The heads at the last snapshot.
    pub(crate) fn last_heads(&self) -> &[HeadScore] {
        &self.heads[self.heads.len() - 1].heads
    }

    /// Tokens between the snapshots around a point: how finely a time can be told there.
    pub(crate) fn spacing_at(&self, tokens: f64) -> f64 {
        let times: Vec<f64> = self.run.heads.iter().map(|point| point.tokens as f64).collect();
        let after = times.iter().position(|&time| time >= tokens).unwrap_or(times.len() - 1);
        let before = after.saturating_sub(1);
        times[after] - times[before]
    }

    /// The head with the highest prefix-matching score at the last snapshot; the first of equals.
    pub(crate) fn best_head(&self) -> HeadScore {
        let last = self.last_heads();
        let mut best = last[0];
        for score in last {
            if score.prefix_matching > best.prefix_matching {
                best = *score;
            }
        }
        best
    }

    /// The highest prefix-matching score of any head at any snapshot.
    pub(crate) fn max_prefix_matching(&self) -> HeadScore {
        let all = self.heads.iter().flat_map(|point| &point.heads);
        let mut best = self.heads[0].heads[0];
        for score in all {
            if score.prefix_matching > best.prefix_matching {
                best = *score;
            }
        }
        best
    }

    /// The half time of one head's prefix-matching score, in tokens.
    pub(crate) fn head_half_time(&self, head: &HeadScore) -> Option<f64> {
        self.half_time_of(|scores| {
            let found = scores.iter().find(|score| (score.layer, score.head) == (head.layer, head.head));
            found.map_or(0.0, |score| score.prefix_matching)
        })
    }

    /// The half time of the highest prefix-matching score over heads, in tokens.
    pub(crate) fn max_half_time(&self) -> Option<f64> {
        self.half_time_of(|scores| scores.iter().map(|score| score.prefix_matching).fold(0.0, f64::max))
    }

    fn half_time_of(&self, value: impl Fn(&[HeadScore]) -> f64) -> Option<f64> {
        let (tokens, values): (Vec<_>, Vec<_>) =
            self.heads.iter().map(|point| (point.tokens, value(&point.heads))).unzip();
        // The reader has checked what half_time asks for, so an error can only mean "none".
        half_time(&tokens, &values).ok().flatten()
    }

    /// Whether the window starts where the search does, so that it may have begun in the warm-up.
    pub(crate) fn starts_in_warmup(&self, window: &Window) -> bool {
        let tokens: Vec<u64> = self.run.icl.iter().map(|point| point.tokens).collect();
        searched(self.run, &tokens, &self.icl).0.first().is_some_and(|&first| window.start_tokens <= first)
    }

    /// Tokens seen when the learning rate had warmed up.
    pub(crate) fn warmup_tokens(&self) -> f64 {
        warmup_tokens(self.run)
    }

    /// Tokens a step.
    pub(crate) fn step_tokens(&self) -> f64 {
        step_tokens(self.run)
    }
}

/// The runs of one experiment: same data, one seed where possible, each part at most once.
#[derive(Debug)]
pub(crate) struct Cast<'a> {
    pub(crate) seed: u64,
    players: Vec<Player<'a>>,
    /// Which bootstrap draw this is; `None` for the experiment itself.
    pub(crate) draw: Option<u64>,
}

impl<'a> Cast<'a> {
    pub(crate) fn player(&self, part: Part) -> Option<&Player<'a>> {
        self.players.iter().find(|player| player.part == part)
    }

    /// Vanilla players, by depth.
    pub(crate) fn vanilla(&self) -> impl Iterator<Item = &Player<'a>> {
        self.players.iter().filter(|player| !player.part.smeared)
    }

    /// The same experiment on a bootstrap resample of its evaluation examples. Every run sees the same draw, as they share
    /// their examples.
    pub(crate) fn drawn(&self, draw: u64) -> Self {
        let players = self.players.iter().map(|player| player.drawn(draw)).collect();
        Self { seed: self.seed, players, draw: Some(draw) }
    }

    /// Whether there are several examples to draw from.
    pub(crate) fn has_examples(&self) -> bool {
        self.players.iter().all(|player| player.run.icl[0].by_example.len() > 1)
    }

    /// Share of the variance that each axis of the joint PCA explains.
    pub(crate) fn explained(&self) -> Option<&[f64]> {
        self.players.iter().find_map(|player| player.plane.as_ref()).map(|plane| plane.explained.as_slice())
    }

    pub(crate) fn players(&self) -> impl Iterator<Item = &Player<'a>> {
        self.players.iter()
    }
}

/// The experiments in `runs`: first the leading one, which decides the verdicts, then the same with other seeds.
///
/// The leading run is chosen without a look at any result: 2 layers vanilla before anything else, a corpus before the
/// synthetic task, then the lowest seed, then the folder's name. The others share its data; among those, its seed comes
/// first. Runs on other data stay out of the comparison.
pub(crate) fn casts(runs: &[Run]) -> Vec<Cast<'_>> {
    let mut candidates: Vec<(Part, &Run)> = runs.iter().filter_map(|run| Some((Part::of(run)?, run))).collect();
    candidates
        .sort_by_key(|(part, run)| (*part != TWO, run.spec.source != "corpus", run.spec.seed, run.folder.as_str()));
    let Some(&(_, lead)) = candidates.first() else {
        return Vec::new();
    };
    candidates.retain(|(_, run)| run.spec.table.get("data") == lead.spec.table.get("data"));
    let mut seeds: Vec<u64> = candidates.iter().map(|(_, run)| run.spec.seed).collect();
    seeds.sort_by_key(|&seed| (seed != lead.spec.seed, seed));
    seeds.dedup();

    let plane = joint_pca(candidates.iter().map(|(_, run)| *run)).map(Rc::new);
    let cast = |seed: u64| {
        let mut mine = candidates.clone();
        // A part that was trained with another seed only still serves the leading cast.
        mine.retain(|(_, run)| seed == lead.spec.seed || run.spec.seed == seed);
        mine.sort_by_key(|(part, run)| (*part, run.spec.seed != seed, run.spec.seed, run.folder.as_str()));
        mine.dedup_by_key(|(part, _)| *part);
        let players = mine.into_iter().map(|(part, run)| Player::new(run, part, plane.clone())).collect();
        Cast { seed, players, draw: None }
    };
    seeds.into_iter().map(cast).collect()
}

/// The plane in which the random-token losses of all snapshots of all runs differ most (paper.md, 2), if they were taken
/// on the same examples and differ at all.
fn joint_pca<'a>(runs: impl Iterator<Item = &'a Run>) -> Option<Pca> {
    let snapshots: Vec<&[f64]> = runs.flat_map(|run| &run.random_tokens).map(|point| point.losses.as_slice()).collect();
    let columns = snapshots.first()?.len();
    let mut rows = Array2::<f32>::zeros((snapshots.len(), columns));
    for (mut row, losses) in rows.axis_iter_mut(Axis(0)).zip(snapshots) {
        if losses.len() != columns {
            return None;
        }
        row.zip_mut_with(&ArrayView1::from(losses), |to, &from| *to = from as f32);
    }
    pca(rows.view(), COMPONENTS).ok()
}
