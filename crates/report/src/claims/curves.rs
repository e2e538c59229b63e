//! The claims about curves over training: ICL, loss, the best head's prefix matching, the path in the PCA plane.

use induction_metrics::{Bump, Window, predicted_onset};

use super::rules::{
    Q1_PARTLY_BELOW, Q1_REPRODUCED_BELOW, Q2_PARTLY_ABOVE, Q2_REPRODUCED, Q3_PARTLY_ABOVE, Q3_REPRODUCED_ABOVE,
    Q4_PARTLY_BELOW, Q4_REPRODUCED_BELOW, Q5_PREFIX_MATCHING_BELOW, Q5_SHARE_BELOW, Q7_DEPTH_RATIO, Q8_ANGLE_ABOVE,
    Q9_SHARE_FROM, Q22_FALLING_BELOW, Q22_FLAT_ABOVE, Q22_RATIO,
};
use super::{Finding, INDUCTION_HEAD_ABOVE, Verdict, graded, need, window};
use crate::cast::{Cast, ONE, ONE_SMEARED, Part, Player, TWO, TWO_SMEARED};
use crate::text::{number, percent, tokens};

/// The 2-layer run and its window.
fn windowed<'c, 'a>(cast: &'c Cast<'a>) -> Option<(&'c Player<'a>, &'c Window)> {
    let two = cast.player(TWO)?;
    Some((two, two.window.as_ref().ok()?))
}

pub(super) fn amount_before(cast: &Cast<'_>) -> Option<f64> {
    windowed(cast).map(|(_, window)| -window.score_before)
}

pub(super) fn amount_after(cast: &Cast<'_>) -> Option<f64> {
    windowed(cast).map(|(_, window)| -window.score_after)
}

pub(super) fn share_formed(cast: &Cast<'_>) -> Option<f64> {
    let (two, window) = windowed(cast)?;
    let end = two.last_amount();
    (end > 0.0).then(|| (window.score_before - window.score_after) / end)
}

pub(super) fn window_width(cast: &Cast<'_>) -> Option<f64> {
    let (two, window) = windowed(cast)?;
    Some((window.end_tokens - window.start_tokens) as f64 / two.run.measured_tokens() as f64)
}

pub(super) fn window_start(cast: &Cast<'_>) -> Option<f64> {
    windowed(cast).map(|(_, window)| window.start_tokens as f64)
}

pub(super) fn window_end(cast: &Cast<'_>) -> Option<f64> {
    windowed(cast).map(|(_, window)| window.end_tokens as f64)
}

pub(super) fn one_layer_prefix_matching(cast: &Cast<'_>) -> Option<f64> {
    cast.player(ONE).map(|one| one.max_prefix_matching().prefix_matching)
}

pub(super) fn one_layer_share(cast: &Cast<'_>) -> Option<f64> {
    Ratio::of(cast.player(ONE)?, cast.player(TWO)?).defined()
}

pub(super) fn one_smeared_share(cast: &Cast<'_>) -> Option<f64> {
    Ratio::of(cast.player(ONE_SMEARED)?, cast.player(TWO)?).defined()
}

/// When the best head is half-way, from 0 at the window's start to 1 at its end.
pub(super) fn place_in_window(cast: &Cast<'_>) -> Option<f64> {
    let (two, window) = windowed(cast)?;
    let half = two.head_half_time(&two.best_head())?;
    Some((half - window.start_tokens as f64) / (window.end_tokens - window.start_tokens) as f64)
}

pub(super) fn bump_depth(cast: &Cast<'_>) -> Option<f64> {
    cast.player(TWO)?.loss_bumps().first().map(|bump| bump.depth)
}

pub(super) fn divergence_tokens(cast: &Cast<'_>) -> Option<f64> {
    cast.player(TWO)?.leaves(cast.player(ONE)?)
}

pub(super) fn angle_of_two(cast: &Cast<'_>) -> Option<f64> {
    let (two, window) = windowed(cast)?;
    two.pivot(window)?.before_after
}

pub(super) fn angle_of_one(cast: &Cast<'_>) -> Option<f64> {
    let (_, window) = windowed(cast)?;
    cast.player(ONE)?.pivot(window)?.before_after
}

/// How much sooner prefix matching is half-way with smeared keys.
pub(super) fn half_time_ratio(cast: &Cast<'_>) -> Option<f64> {
    let [vanilla, smeared] = [TWO, TWO_SMEARED].map(|part| cast.player(part).and_then(Player::max_half_time));
    Some(smeared? / vanilla?)
}

pub(super) fn slope_before(cast: &Cast<'_>) -> Option<f64> {
    windowed(cast).map(|(two, window)| two.late_slope_near(window.start_tokens))
}

pub(super) fn slope_after(cast: &Cast<'_>) -> Option<f64> {
    windowed(cast).map(|(two, window)| two.late_slope_near(window.end_tokens))
}

pub(super) fn q1(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let amount = -window.score_before;
    let verdict = graded(amount < Q1_REPRODUCED_BELOW, amount < Q1_PARTLY_BELOW);
    let why = format!(
        "The window starts at {} tokens with {} nats of ICL.",
        tokens(window.start_tokens as f64),
        number(amount)
    );
    Finding::new(verdict, format!("{} nats", number(amount)), why)
}

pub(super) fn q2(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let amount = -window.score_after;
    let [low, high] = Q2_REPRODUCED;
    let verdict = graded((low..=high).contains(&amount), amount > Q2_PARTLY_ABOVE);
    let (at, amount_text) = (tokens(window.end_tokens as f64), number(amount));
    let end = number(two.last_amount());
    let ceiling = match two.run.ceiling {
        Some(ceiling) => format!(
            " For scale: a mixture of a bigram model and in-context matches, fitted on the training text, gains {} nats on the same examples.",
            number(-ceiling.icl_score)
        ),
        None => String::new(),
    };
    let why =
        format!("The window ends at {at} tokens with {amount_text} nats of ICL; the run ends with {end}.{ceiling}");
    Finding::new(verdict, format!("{amount_text} nats"), why)
}

pub(super) fn q3(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let (before, after, end) = (-window.score_before, -window.score_after, two.last_amount());
    let Some(share) = share_formed(cast) else {
        let why =
            format!("The run ends with no ICL at all ({} nats), so there is nothing to have a share of.", number(end));
        return Finding::new(Verdict::Not, "no share".to_string(), why);
    };
    let verdict = graded(share > Q3_REPRODUCED_ABOVE, share > Q3_PARTLY_ABOVE);
    let why = format!(
        "From {} to {} nats inside the window, {} at the end of the run.",
        number(before),
        number(after),
        number(end)
    );
    Finding::new(verdict, percent(share), why)
}

pub(super) fn q4(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let run = two.run.measured_tokens() as f64;
    let [start, end] = [window.start_tokens as f64, window.end_tokens as f64];
    let share = (end - start) / run;
    let warmup = two.warmup_tokens();
    let after_warmup = !two.starts_in_warmup(window);
    let verdict = graded(share < Q4_REPRODUCED_BELOW && after_warmup, share < Q4_PARTLY_BELOW);
    let why = format!(
        "The window takes {} of the run, from {} to {} of {} tokens; it starts {} the warm-up's end at {}, from where on it is sought. (The law published for other models, 10^5.7 sqrt(batch x context), has it begin at {}.)",
        percent(share),
        tokens(start),
        tokens(end),
        tokens(run),
        if after_warmup { "after" } else { "at" },
        tokens(warmup),
        tokens(predicted_onset(two.step_tokens().round() as u64, 1)),
    );
    let spacing = two.spacing_at(start).max(two.spacing_at(end)) / run;
    let near = [Q4_REPRODUCED_BELOW, Q4_PARTLY_BELOW].into_iter().find(|limit| (share - limit).abs() < spacing);
    let near_warmup = (start - warmup).abs() < two.spacing_at(start);
    Finding::new(verdict, format!("{} wide, from {} of the run", percent(share), percent(start / run)), why)
        .note_if(near.is_some(), || {
            format!(
                "The limit of {} is less than a snapshot away: the verdict is inside the resolution.",
                percent(near.unwrap_or_default())
            )
        })
        .note_if(near_warmup, || {
            "Start and warm-up end are less than a snapshot apart: their order is inside the resolution.".to_string()
        })
}

pub(super) fn q5(cast: &Cast<'_>) -> Finding {
    let (one, two) = (need!(cast, ONE), need!(cast, TWO));
    let best = one.max_prefix_matching();
    let no_head = best.prefix_matching < Q5_PREFIX_MATCHING_BELOW;
    let ratio = Ratio::of(one, two);
    let little = ratio.two > 0.0 && ratio.share < Q5_SHARE_BELOW;
    let verdict = graded(no_head && little, no_head || little);
    let why = format!(
        "The highest prefix matching in 1 layer is {} (head {}.{}), {} the limit of {}. {}",
        number(best.prefix_matching),
        best.layer,
        best.head,
        if no_head { "below" } else { "not below" },
        number(Q5_PREFIX_MATCHING_BELOW),
        ratio.sentence(ONE),
    );
    let ours = format!(
        "prefix matching at most {}; ICL {} nats, {}",
        number(best.prefix_matching),
        number(ratio.one),
        ratio.against()
    );
    Finding::new(verdict, ours, why)
}

pub(super) fn q6(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let best = two.best_head();
    let head = format!("Head {}.{} ends highest, at {}", best.layer, best.head, number(best.prefix_matching));
    let half = two.head_half_time(&best).filter(|_| best.prefix_matching > INDUCTION_HEAD_ABOVE);
    let Some(half) = half else {
        let why = format!("{head}: no head ends above {}, so none formed in the window.", number(INDUCTION_HEAD_ABOVE));
        return Finding::new(Verdict::Not, format!("no induction head (best {})", number(best.prefix_matching)), why);
    };
    let [start, end] = [window.start_tokens as f64, window.end_tokens as f64];
    let outside = (start - half).max(half - end).max(0.0);
    let verdict = graded(outside == 0.0, outside <= end - start);
    let place = if outside == 0.0 { "inside".to_string() } else { format!("{} tokens outside", tokens(outside)) };
    let why = format!(
        "{head}, and is half-way at {} tokens: {place} the window of {} to {}.",
        tokens(half),
        tokens(start),
        tokens(end)
    );
    let spacing = two.spacing_at(half);
    let near =
        [start, end, start - (end - start), end + (end - start)].into_iter().any(|edge| (half - edge).abs() < spacing);
    Finding::new(verdict, format!("half-way at {} tokens; ends at {}", tokens(half), number(best.prefix_matching)), why)
        .note_if(near, || "A limit is less than a snapshot away: the verdict is inside the resolution.".to_string())
}

pub(super) fn q7(cast: &Cast<'_>) -> Finding {
    let (two, one) = (need!(cast, TWO), need!(cast, ONE));
    let window = window!(two);
    let [start, end] = [window.start_tokens as f64, window.end_tokens as f64];
    let bumps = two.loss_bumps();
    let (bump_there, bump_text, ours) = match bumps.as_slice() {
        [] => (false, "The smoothed loss is convex throughout.".to_string(), "no bump".to_string()),
        [deepest, others @ ..] => {
            let Bump { start_tokens, end_tokens, depth, .. } = deepest;
            let overlaps = *start_tokens <= window.end_tokens && window.start_tokens <= *end_tokens;
            let next = others.first().map_or(0.0, |bump| bump.depth);
            let text = format!(
                "The loss departs from its convex envelope most between {} and {} tokens, by {depth:.4} nats ({} the window); the next place has {next:.4}.",
                tokens(*start_tokens as f64),
                tokens(*end_tokens as f64),
                if overlaps { "overlapping" } else { "away from" },
            );
            (overlaps && *depth >= Q7_DEPTH_RATIO * next, text, format!("{depth:.3} nats deep"))
        }
    };
    let left = two.leaves(one);
    let leaves_there = left.is_some_and(|at| (start - (end - start)..=end + (end - start)).contains(&at));
    let left_text = match left {
        Some(at) => format!("Half of the final gap to 1 layer is there at {} tokens", tokens(at)),
        None => "The loss does not end below 1 layer's".to_string(),
    };
    let why = format!("{bump_text} {left_text}; the window spans {} to {}.", tokens(start), tokens(end));
    let left_short =
        left.map_or("never below 1 layer".to_string(), |at| format!("leaves 1 layer at {} tokens", tokens(at)));
    Finding::new(graded(bump_there && leaves_there, bump_there || leaves_there), format!("{ours}; {left_short}"), why)
}

pub(super) fn q8(cast: &Cast<'_>) -> Finding {
    let (two, one) = (need!(cast, TWO), need!(cast, ONE));
    let window = window!(two);
    let (Some(pivot), Some(other)) = (two.pivot(window), one.pivot(window)) else {
        let why = "The runs' random-token losses have no common plane, or no snapshot on one side of the window.";
        return Finding::new(Verdict::Not, "no angle".to_string(), why.to_string());
    };
    let (Some(angle), Some(one_angle)) = (pivot.before_after, other.before_after) else {
        let why = "A path stands still on one side of the window, so it has no direction there.".to_string();
        return Finding::new(Verdict::Not, "no angle".to_string(), why);
    };
    let (turns, less) = (angle > Q8_ANGLE_ABOVE, one_angle < angle);
    let inside = pivot.before_inside.map_or(String::new(), |angle| {
        format!(" Between the stretch before the window and the window itself it turns by {angle:.0} degrees.")
    });
    let explained = cast.explained().unwrap_or_default();
    let share = explained.iter().sum::<f64>();
    let why = format!(
        "The path of 2 layers turns by {angle:.0} degrees about the window, that of 1 layer by {one_angle:.0}.{inside} The plane holds {} of the variance of all snapshots.",
        percent(share)
    );
    let ours = format!("{angle:.0} degrees; 1 layer {one_angle:.0}");
    Finding::new(graded(turns && less, turns || less), ours, why)
}

pub(super) fn q22(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let [before, after] = [window.start_tokens, window.end_tokens].map(|at| two.late_slope_near(at));
    let reproduced = before >= Q22_FLAT_ABOVE && after <= Q22_FALLING_BELOW;
    let partly = after < 0.0 && after <= Q22_RATIO * before.min(0.0);
    let why = format!(
        "The loss changes by {before:.3} nats an e-fold of the index at the window's start and by {after:.3} at its end; to be reproduced, at least {Q22_FLAT_ABOVE} and at most {Q22_FALLING_BELOW}."
    );
    Finding::new(graded(reproduced, partly), format!("{before:.3} before, {after:.3} after"), why)
}

pub(super) fn q9(cast: &Cast<'_>) -> Finding {
    let (one, two) = (need!(cast, ONE_SMEARED), need!(cast, TWO));
    let two_smeared = need!(cast, TWO_SMEARED);
    let ratio = Ratio::of(one, two);
    let forms = ratio.two > 0.0 && ratio.share >= Q9_SHARE_FROM;

    let [vanilla, smeared] = [two, two_smeared].map(|player| {
        let end = player.best_head().prefix_matching;
        player.max_half_time().filter(|_| end > INDUCTION_HEAD_ABOVE).ok_or(end)
    });
    let (earlier, times, when) = match (smeared, vanilla) {
        (Ok(smeared), Ok(vanilla)) => {
            let [a, b] = [smeared, vanilla].map(tokens);
            let why = format!("The highest prefix matching is half-way at {a} tokens with smeared keys, {b} without.");
            (smeared < vanilla, why, format!("half-way at {a} against {b} tokens"))
        }
        (Err(end), _) => none_formed(TWO_SMEARED, end),
        (_, Err(end)) => none_formed(TWO, end),
    };
    let close = match (smeared, vanilla) {
        (Ok(a), Ok(b)) => (a - b).abs() < two.spacing_at(b).max(two_smeared.spacing_at(a)),
        _ => false,
    };
    let why = format!("{} {times}", ratio.sentence(ONE_SMEARED));
    let ours = format!("1 layer smeared {} nats, {}; {when}", number(ratio.one), ratio.against());
    Finding::new(graded(forms && earlier, forms || earlier), ours, why).note_if(close, || {
        "The half times are less than a snapshot apart: their order is inside the resolution.".to_string()
    })
}

fn none_formed(part: Part, end: f64) -> (bool, String, String) {
    let [end, limit] = [end, INDUCTION_HEAD_ABOVE].map(number);
    let why =
        format!("No head of the {} ends above {limit} (best {end}), so when it formed means nothing.", part.run());
    (false, why, "no induction head to time".to_string())
}

/// One run's last amount of ICL as a share of the 2-layer run's.
struct Ratio {
    one: f64,
    two: f64,
    share: f64,
}

impl Ratio {
    fn of(one: &Player<'_>, two: &Player<'_>) -> Self {
        let [one, two] = [one, two].map(Player::last_amount);
        Self { one, two, share: one / two }
    }

    /// The share, where there is something to have a share of.
    fn defined(&self) -> Option<f64> {
        (self.two > 0.0).then_some(self.share)
    }

    fn sentence(&self, part: Part) -> String {
        let (one, two, label) = (number(self.one), number(self.two), part.label());
        if self.two <= 0.0 {
            return format!("2 layers end with no ICL ({two} nats) to compare {label} with.");
        }
        format!("At the end, {label} has {one} nats of ICL, {} of the {two} of 2 layers.", percent(self.share))
    }

    /// "24 % of 2 layers' 0.42"
    fn against(&self) -> String {
        if self.two <= 0.0 {
            return format!("2 layers {}", number(self.two));
        }
        format!("{} of 2 layers' {}", percent(self.share), number(self.two))
    }
}
