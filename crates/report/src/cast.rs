//! Which run plays which part, and what the claims ask of a run.
//!
//! A part is known by content - layers, MLP, smeared keys, seed, data - never by a run's name.
//!
//! What is read off a run can be read off a bootstrap resample of it as well ([`Cast::drawn`]): the same examples, some
//! taken several times and some not at all, and head scores that vary by their standard errors. So every number that
//! decides a claim has an interval, whatever lies between it and the losses.

use std::rc::Rc;

use induction_metrics::{
    Bump, Pca, PhaseConfig, Pivot, Window, before_after_attribution, divergence, half_time, icl_window, loss_bumps,
    pca, pivot, resample, smoothed, weighted_mean,
};
use ndarray::{Array2, ArrayView1, Axis};
use rand_distr::{Distribution, StandardNormal};

use crate::Run;
use crate::claims::{INDUCTION_HEAD_ABOVE, PREVIOUS_TOKEN_HEAD_ABOVE};
use crate::load::{
    AblationPoint, Clamp, Downstream, HeadName, HeadScore, HeadsPoint, IclPoint, Knockout, PromptScore, Removal,
};
use crate::text::visible;

/// Seed of the bootstrap.
const SEED: u64 = 0;

/// Depth and variant of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) mlp: bool,
    pub(crate) n_layers: usize,
    pub(crate) smeared: bool,
    pub(crate) clamp: Option<Clamp>,
}

const fn part(n_layers: usize, smeared: bool, clamp: Option<Clamp>) -> Part {
    Part { mlp: false, n_layers, smeared, clamp }
}
pub(crate) const ONE: Part = part(1, false, None);
pub(crate) const TWO: Part = part(2, false, None);
pub(crate) const ONE_SMEARED: Part = part(1, true, None);
pub(crate) const TWO_SMEARED: Part = part(2, true, None);
/// Given a previous-token head from the start.
pub(crate) const TWO_GIVEN: Part = part(2, false, Some(Clamp::PreviousToken));
/// Forbidden to attend to what followed an earlier copy.
pub(crate) const TWO_WITHOUT: Part = part(2, false, Some(Clamp::ForbidInduction));

/// What a head is by its scores at the last snapshot (paper.md, 11); the colours of the paper's ablation figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadKind {
    Induction,
    PreviousToken,
    Other,
}

impl Part {
    pub(crate) fn of(run: &Run) -> Self {
        let spec = &run.spec;
        Self { mlp: spec.d_mlp > 0, n_layers: spec.n_layers, smeared: spec.smeared_keys, clamp: spec.clamp }
    }

    /// "2 layers, smeared keys"
    pub(crate) fn label(self) -> String {
        let layers = if self.n_layers == 1 { "1 layer".to_string() } else { format!("{} layers", self.n_layers) };
        let layers = if self.mlp { format!("{layers}, MLPs") } else { layers };
        match (self.smeared, self.clamp) {
            (_, Some(Clamp::PreviousToken)) => format!("{layers}, given a previous-token head"),
            (_, Some(Clamp::ForbidInduction)) => format!("{layers}, forbidden induction"),
            (false, Some(Clamp::Other(said))) => format!("{layers}, {said}"),
            (true, Some(Clamp::Other(said))) => format!("{layers}, smeared keys, {said}"),
            (true, None) => format!("{layers}, smeared keys"),
            (false, None) => layers,
        }
    }

    /// "2-layer smeared-key run"
    pub(crate) fn run(self) -> String {
        let variant = match (self.smeared, self.clamp) {
            (_, Some(Clamp::PreviousToken)) => "previous-token-clamped (`reproduce --clamp`)",
            (_, Some(Clamp::ForbidInduction)) => "induction-forbidden (`reproduce --clamp`)",
            (_, Some(Clamp::Other(said))) => said,
            (true, None) => "smeared-key",
            (false, None) => "vanilla",
        };
        let family = if self.mlp { " with MLPs" } else { "" };
        format!("{}-layer {variant} run{family}", self.n_layers)
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
    /// Which bootstrap draw it is on; `None` for all examples.
    draw: Option<u64>,
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
        let mut player = Self {
            run,
            part,
            window,
            icl,
            late_slope: Vec::new(),
            loss: Vec::new(),
            heads,
            path: None,
            plane,
            draw: None,
        };
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
            draw: Some(draw),
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

    /// The mean over the examples that heads were removed on, or over those of the draw.
    fn ablation_mean(&self, by_example: &[f64]) -> f64 {
        match self.draw {
            Some(draw) => weighted_mean(by_example, &resample(SEED, draw, by_example.len())),
            None => by_example.iter().sum::<f64>() / by_example.len() as f64,
        }
    }

    /// How the ICL score changes without each head at the last snapshot, in nats; `None` if the run is not ablated.
    pub(crate) fn removal_effects(&self, downstream: Downstream) -> Option<Vec<(HeadName, f64)>> {
        let last = self.run.ablations.last()?;
        let effect = |removal: &Removal| (removal.head, self.ablation_mean(&removal.icl_by_example));
        Some(last.removals.iter().filter(|removal| removal.downstream == downstream).map(effect).collect())
    }

    /// Each head's attribution along the before-and-after vector of a window, at one snapshot; `None` without the
    /// window's snapshots.
    pub(crate) fn before_after(
        &self,
        window: &Window,
        downstream: Downstream,
        point: &AblationPoint,
    ) -> Option<Vec<(HeadName, f64)>> {
        let at = |tokens: u64| self.run.random_tokens.iter().min_by_key(|point| point.tokens.abs_diff(tokens));
        let (before, after) = (at(window.start_tokens)?, at(window.end_tokens)?);
        let along = |removal: &Removal| {
            let n = removal.random_tokens.len();
            let counts = self.draw.map(|draw| resample(SEED, draw, n));
            let (before, after) = (before.losses.get(..n)?, after.losses.get(..n)?);
            let along = before_after_attribution(before, after, &removal.random_tokens, counts.as_deref()).ok()??;
            Some((removal.head, along))
        };
        point.removals.iter().filter(|removal| removal.downstream == downstream).map(along).collect()
    }

    /// The ICL score of the last snapshot under a knockout.
    pub(crate) fn knockout_icl(&self, knockout: &Knockout) -> f64 {
        self.ablation_mean(&knockout.icl_by_example)
    }

    /// The mean loss of the last snapshot under a knockout.
    pub(crate) fn knockout_loss(&self, knockout: &Knockout) -> f64 {
        self.ablation_mean(&knockout.loss_by_example)
    }

    /// What a head ends as, the same in every draw: the ablations were chosen by it.
    pub(crate) fn kind(&self, head: HeadName) -> HeadKind {
        let last = &self.run.heads[self.run.heads.len() - 1].heads;
        match last.iter().find(|score| score.name() == head) {
            Some(score) if score.prefix_matching > INDUCTION_HEAD_ABOVE => HeadKind::Induction,
            Some(score) if score.previous_token > PREVIOUS_TOKEN_HEAD_ABOVE => HeadKind::PreviousToken,
            _ => HeadKind::Other,
        }
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

    /// Whether an induction head formed: the best head ends above the limit.
    pub(crate) fn has_induction_head(&self) -> bool {
        self.best_head().prefix_matching > INDUCTION_HEAD_ABOVE
    }

    /// The last snapshot's loss at some context indices (from 1), the mean over them.
    pub(crate) fn last_loss_at(&self, indices: std::ops::RangeInclusive<usize>) -> Option<f64> {
        let columns = indices.start().checked_sub(1)?..*indices.end();
        let values: Vec<f64> = match self.draw {
            None => self.run.losses.last()?.by_index.get(columns)?.to_vec(),
            Some(draw) => {
                let losses = self.run.last_losses.as_ref()?;
                let counts = resample(SEED, draw, losses.nrows());
                let column = |k: usize| {
                    let of = losses.column(k).iter().map(|&loss| f64::from(loss)).collect::<Vec<_>>();
                    weighted_mean(&of, &counts)
                };
                if columns.end > losses.ncols() { None } else { Some(columns.map(column).collect()) }?
            }
        };
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// d loss / d ln tokens over a span of training, by least squares, in nats an e-fold; `None` with fewer than three
    /// snapshots there.
    pub(crate) fn learning_slope(&self, from: f64, to: f64) -> Option<f64> {
        let points = self.run.losses.iter().zip(&self.loss);
        let inside = points.filter(|(point, _)| (from..=to).contains(&(point.tokens as f64)) && point.tokens > 0);
        let (x, y): (Vec<f64>, Vec<f64>) = inside.map(|(point, loss)| ((point.tokens as f64).ln(), *loss)).unzip();
        if x.len() < 3 {
            return None;
        }
        let n = x.len() as f64;
        let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let covariance: f64 = x.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum();
        let variance: f64 = x.iter().map(|x| (x - mx).powi(2)).sum();
        Some(covariance / variance)
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
    /// What its text is called: the corpus's file or folder.
    pub(crate) text: String,
    players: Vec<Player<'a>>,
    /// The same models on other texts, of the leading experiment only; that with the most models first.
    pub(crate) elsewhere: Vec<Cast<'a>>,
    /// Which bootstrap draw this is; `None` for the experiment itself.
    pub(crate) draw: Option<u64>,
}

impl<'a> Cast<'a> {
    pub(crate) fn player(&self, part: Part) -> Option<&Player<'a>> {
        self.players.iter().find(|player| player.part == part)
    }

    /// The attention-only family, by depth: neither smeared nor clamped.
    pub(crate) fn vanilla(&self) -> impl Iterator<Item = &Player<'a>> {
        self.attention_only().filter(|player| !player.part.smeared)
    }

    /// The family with MLPs, by depth.
    pub(crate) fn with_mlps(&self) -> impl Iterator<Item = &Player<'a>> {
        self.players().filter(|player| player.part.mlp && !player.part.smeared)
    }

    /// Attention-only models, smeared ones too.
    pub(crate) fn attention_only(&self) -> impl Iterator<Item = &Player<'a>> {
        self.players().filter(|player| !player.part.mlp)
    }

    /// Everybody, clamped models too.
    pub(crate) fn everybody(&self) -> impl Iterator<Item = &Player<'a>> {
        self.players.iter()
    }

    /// The same experiment on a bootstrap resample of its evaluation examples. Every run sees the same draw, as they share
    /// their examples.
    pub(crate) fn drawn(&self, draw: u64) -> Self {
        let players = self.players.iter().map(|player| player.drawn(draw)).collect();
        let elsewhere = self.elsewhere.iter().map(|cast| cast.drawn(draw)).collect();
        Self { seed: self.seed, text: self.text.clone(), players, elsewhere, draw: Some(draw) }
    }

    /// Whether there are several examples to draw from.
    pub(crate) fn has_examples(&self) -> bool {
        self.players.iter().all(|player| player.run.icl[0].by_example.len() > 1)
    }

    /// Share of the variance that each axis of the joint PCA explains.
    pub(crate) fn explained(&self) -> Option<&[f64]> {
        self.players.iter().find_map(|player| player.plane.as_ref()).map(|plane| plane.explained.as_slice())
    }

    /// The paper's kinds of models: none whose attention was clamped.
    pub(crate) fn players(&self) -> impl Iterator<Item = &Player<'a>> {
        self.players.iter().filter(|player| player.part.clamp.is_none())
    }
}

/// The head of the leading experiment with the highest share on a behaviour, and its model.
pub(crate) fn best_on<'c, 'a>(lead: &'c Cast<'a>, behaviour: &str) -> Option<(&'c Player<'a>, &'a PromptScore)> {
    let of = |player: &'c Player<'a>| {
        let run = player.run;
        let scores = run.explored.iter().flat_map(|explored| &explored.scores);
        scores.filter(|score| score.behaviour == behaviour).map(move |score| (player, score))
    };
    let mut best: Option<(&Player<'a>, &PromptScore)> = None;
    for (player, score) in lead.players().flat_map(of) {
        if best.is_none_or(|(_, so_far)| score.share.0 > so_far.share.0) {
            best = Some((player, score));
        }
    }
    best
}

/// The experiments in `runs`: first the leading one, which decides the verdicts, then the same with other seeds.
///
/// The leading run is chosen without a look at any result: 2 layers vanilla before anything else, a corpus before the
/// synthetic task, then the lowest seed, then the folder's name. The others share its data; among those, its seed comes
/// first. Runs on other data are experiments of their own beside the leading one.
pub(crate) fn casts(runs: &[Run]) -> Vec<Cast<'_>> {
    let mut candidates: Vec<(Part, &Run)> = runs.iter().map(|run| (Part::of(run), run)).collect();
    candidates
        .sort_by_key(|(part, run)| (*part != TWO, run.spec.source != "corpus", run.spec.seed, run.folder.as_str()));
    let Some(&(_, lead)) = candidates.first() else {
        return Vec::new();
    };
    let (candidates, others): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|(_, run)| data_of(run) == data_of(lead));
    let mut seeds: Vec<u64> = candidates.iter().map(|(_, run)| run.spec.seed).collect();
    seeds.sort_by_key(|&seed| (seed != lead.spec.seed, seed));
    seeds.dedup();

    let plane = joint_pca(candidates.iter().filter(|(part, _)| part.clamp.is_none()).map(|(_, run)| *run)).map(Rc::new);
    let cast = |seed: u64| {
        let mut mine = candidates.clone();
        // A part that was trained with another seed only still serves the leading cast.
        mine.retain(|(_, run)| seed == lead.spec.seed || run.spec.seed == seed);
        mine.sort_by_key(|(part, run)| (*part, run.spec.seed != seed, run.spec.seed, run.folder.as_str()));
        mine.dedup_by_key(|(part, _)| *part);
        let players = mine.into_iter().map(|(part, run)| Player::new(run, part, plane.clone())).collect();
        Cast { seed, text: text_of(lead), players, elsewhere: Vec::new(), draw: None }
    };
    let mut casts: Vec<Cast<'_>> = seeds.into_iter().map(cast).collect();
    casts[0].elsewhere = elsewhere(others, lead.spec.seed);
    casts
}

/// The experiments on other texts, one each; the paper's PCA is of one text, so these have none.
fn elsewhere(mut others: Vec<(Part, &Run)>, seed: u64) -> Vec<Cast<'_>> {
    let mut casts = Vec::new();
    while let Some(&(_, first)) = others.first() {
        let (mut mine, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(_, run)| data_of(run) == data_of(first));
        others = rest;
        mine.sort_by_key(|(part, run)| (*part, run.spec.seed != seed, run.spec.seed, run.folder.as_str()));
        mine.dedup_by_key(|(part, _)| *part);
        let players: Vec<_> = mine.into_iter().map(|(part, run)| Player::new(run, part, None)).collect();
        casts.push(Cast { seed, text: text_of(first), players, elsewhere: Vec::new(), draw: None });
    }
    casts.sort_by_key(|cast| (std::cmp::Reverse(cast.players.len()), cast.text.clone()));
    casts
}

/// What tells data apart: the text's hash with how it is split, wherever the text lies; else the whole section.
fn data_of(run: &Run) -> String {
    let mut data = run.spec.table.get("data").cloned().unwrap_or(toml::Value::Boolean(false));
    if let Some(table) = data.as_table_mut().filter(|table| table.contains_key("blake3")) {
        table.remove("path");
    }
    data.to_string()
}

/// "python-docs" of `fixtures/corpora/python-docs.jsonl.zst`
fn text_of(run: &Run) -> String {
    let path = run.spec.table.get("data").and_then(|data| data.get("path")).and_then(toml::Value::as_str);
    let Some(path) = path else { return "synthetic".to_string() };
    let name = path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(path);
    visible(name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(name))
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
