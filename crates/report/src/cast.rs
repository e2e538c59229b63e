//! Which run plays which part, and what the claims ask of a run.
//!
//! A part is known by content - layers, MLP, smeared keys, seed, data - never by a run's name. Only attention-only runs
//! have one: the claims are about those.

use induction_metrics::{PhaseConfig, Window, half_time, paired_change, phase_change};

use crate::Run;
use crate::load::{HeadScore, IclPoint};
use crate::text::number;

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

/// The phase-change window of a run's ICL score, or why there is none.
///
/// It is sought from the end of the learning-rate warm-up on (paper.md, 2.1: "after warm region"): before that the score
/// moves by what an untrained model does not know of the tokens themselves. Its drop must stand out from the noise of a
/// change between two snapshots, which see the same examples.
fn find_window(run: &Run) -> Result<Window, String> {
    let searched = || searched(run);
    let (tokens, scores): (Vec<_>, Vec<_>) = searched().map(|point| (point.tokens, point.score)).unzip();
    let config = PhaseConfig::default();
    let window = match phase_change(&tokens, &scores, None, &config) {
        Ok(Some(window)) => window,
        Ok(None) => return Err("its ICL score has no descent that is large, steep and lasting enough".to_string()),
        Err(error) => return Err(error.to_string()),
    };
    let at =
        |tokens: u64| searched().min_by_key(|point| point.tokens.abs_diff(tokens)).map_or(&[][..], |p| &p.by_example);
    // Tables without the scores of each example say nothing about the noise of a change.
    if let Ok((_, Some(stderr))) = paired_change(at(window.start_tokens), at(window.end_tokens)) {
        let drop = window.score_before - window.score_after;
        if drop < config.min_drop_stderrs * stderr {
            return Err(format!(
                "its steepest lasting descent, of {} nats, is less than {} standard errors of such a change ({} nats)",
                number(drop),
                config.min_drop_stderrs,
                number(stderr)
            ));
        }
    }
    Ok(window)
}

/// The snapshots in which the window is sought.
fn searched(run: &Run) -> impl Iterator<Item = &IclPoint> {
    run.icl.iter().filter(|point| point.step >= run.spec.warmup_steps)
}

/// A run with what the claims derive from it.
#[derive(Debug)]
pub(crate) struct Player<'a> {
    pub(crate) run: &'a Run,
    pub(crate) part: Part,
    /// The phase-change window of its ICL score, or why there is none.
    pub(crate) window: Result<Window, String>,
}

impl<'a> Player<'a> {
    fn new(run: &'a Run, part: Part) -> Self {
        let window = find_window(run);
        Self { run, part, window }
    }

    /// The last snapshot's ICL.
    pub(crate) fn last_icl(&self) -> &'a IclPoint {
        &self.run.icl[self.run.icl.len() - 1]
    }

    /// The snapshot nearest to a number of tokens.
    pub(crate) fn icl_near(&self, tokens: u64) -> &'a IclPoint {
        self.run.icl.iter().min_by_key(|point| point.tokens.abs_diff(tokens)).unwrap_or(self.last_icl())
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
        let last = &self.run.heads[self.run.heads.len() - 1].heads;
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
        let all = self.run.heads.iter().flat_map(|point| &point.heads);
        let mut best = self.run.heads[0].heads[0];
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
            self.run.heads.iter().map(|point| (point.tokens, value(&point.heads))).unzip();
        // The reader has checked what half_time asks for, so an error can only mean "none".
        half_time(&tokens, &values).ok().flatten()
    }

    /// Whether the window starts where the search does, so that it may have begun in the warm-up.
    pub(crate) fn starts_in_warmup(&self, window: &Window) -> bool {
        searched(self.run).next().is_some_and(|first| window.start_tokens <= first.tokens)
    }

    /// Tokens seen when the learning rate had warmed up.
    pub(crate) fn warmup_tokens(&self) -> f64 {
        self.run.spec.warmup_steps as f64 * self.step_tokens()
    }

    /// Tokens a step; every step has as many.
    pub(crate) fn step_tokens(&self) -> f64 {
        let last = &self.run.metrics[self.run.metrics.len() - 1];
        last.tokens as f64 / last.step.max(1) as f64
    }
}

/// The runs of one experiment: same data, one seed where possible, each part at most once.
#[derive(Debug)]
pub(crate) struct Cast<'a> {
    pub(crate) seed: u64,
    players: Vec<Player<'a>>,
}

impl<'a> Cast<'a> {
    pub(crate) fn player(&self, part: Part) -> Option<&Player<'a>> {
        self.players.iter().find(|player| player.part == part)
    }

    /// Vanilla players, by depth.
    pub(crate) fn vanilla(&self) -> impl Iterator<Item = &Player<'a>> {
        self.players.iter().filter(|player| !player.part.smeared)
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

    let cast = |seed: u64| {
        let mut mine = candidates.clone();
        // A part that was trained with another seed only still serves the leading cast.
        mine.retain(|(_, run)| seed == lead.spec.seed || run.spec.seed == seed);
        mine.sort_by_key(|(part, run)| (*part, run.spec.seed != seed, run.spec.seed, run.folder.as_str()));
        mine.dedup_by_key(|(part, _)| *part);
        Cast { seed, players: mine.into_iter().map(|(part, run)| Player::new(run, part)).collect() }
    };
    seeds.into_iter().map(cast).collect()
}
