//! The claims about the change itself: what comes before and after it, how abrupt it is, and what
//! changes with it (paper.md, 6: argument 1; 2 for smeared keys).

use induction_metrics::predicted_onset;

use super::{INDUCTION_HEAD_ABOVE, missing, need, no_window};
use crate::experiment::{Experiment, ONE, ONE_SMEARED, TWO, TWO_SMEARED, Trained, Variant, Window};
use crate::text::{number, percent, tokens};

pub(super) fn needs_two(experiment: &Experiment<'_>) -> Result<(), String> {
    need(experiment, &[TWO])
}

pub(super) fn needs_one_and_two(experiment: &Experiment<'_>) -> Result<(), String> {
    need(experiment, &[TWO, ONE])
}

pub(super) fn needs_smeared(experiment: &Experiment<'_>) -> Result<(), String> {
    need(experiment, &[TWO, ONE_SMEARED, TWO_SMEARED])
}

pub(super) fn needs_other_text(experiment: &Experiment<'_>) -> Result<(), String> {
    let Some(second) = experiment.elsewhere.first() else {
        return Err(
            "All runs are on one text: `reproduce --scale full` trains the families on a second one.".to_string()
        );
    };
    needs_one_and_two(second).map_err(|why| format!("On {}: {why}", second.text))
}

/// The 2-layer run and its window.
fn windowed<'c, 'a>(experiment: &'c Experiment<'a>) -> Option<(&'c Trained<'a>, &'c Window)> {
    let two = experiment.model(TWO)?;
    Some((two, two.window().ok()?))
}

pub(super) fn amount_before(experiment: &Experiment<'_>) -> Option<f64> {
    windowed(experiment).map(|(_, window)| -window.score_before)
}

pub(super) fn amount_after(experiment: &Experiment<'_>) -> Option<f64> {
    windowed(experiment).map(|(_, window)| -window.score_after)
}

pub(super) fn share_formed(experiment: &Experiment<'_>) -> Option<f64> {
    let (two, window) = windowed(experiment)?;
    let end = two.last_amount();
    (end > 0.0).then(|| (window.score_before - window.score_after) / end)
}

pub(super) fn window_width(experiment: &Experiment<'_>) -> Option<f64> {
    windowed(experiment).map(|(two, window)| window.width() / two.run.spec.train.tokens as f64)
}

/// From the warm-up's end to the window's start, as a share of the run.
pub(super) fn after_warmup(experiment: &Experiment<'_>) -> Option<f64> {
    let (two, window) = windowed(experiment)?;
    Some((window.start_tokens as f64 - two.warmup_tokens()) / two.run.spec.train.tokens as f64)
}

/// From the window's end to the start of the learning rate's decay (the run's end without one), as
/// a share of the run.
pub(super) fn before_decay(experiment: &Experiment<'_>) -> Option<f64> {
    let (two, window) = windowed(experiment)?;
    Some((two.decay_tokens() - window.end_tokens as f64) / two.run.spec.train.tokens as f64)
}

/// How much higher the best head of 2 layers ends than any head of 1 layer ever stands.
pub(super) fn matching_beyond_one(experiment: &Experiment<'_>) -> Option<f64> {
    let (one, two) = (experiment.model(ONE)?, experiment.model(TWO)?);
    Some(two.best_head().prefix_matching - one.max_prefix_matching().prefix_matching)
}

pub(super) fn one_layer_matching(experiment: &Experiment<'_>) -> Option<f64> {
    experiment.model(ONE).map(|one| one.max_prefix_matching().prefix_matching)
}

/// One run's last amount as a share of 2 layers', which must have gone through the change.
fn share_of_two(experiment: &Experiment<'_>, part: Variant) -> Option<f64> {
    let (two, _) = windowed(experiment)?;
    Some(experiment.model(part)?.last_amount() / Some(two.last_amount()).filter(|end| *end > 0.0)?)
}

pub(super) fn one_layer_share(experiment: &Experiment<'_>) -> Option<f64> {
    share_of_two(experiment, ONE)
}

pub(super) fn one_smeared_share(experiment: &Experiment<'_>) -> Option<f64> {
    share_of_two(experiment, ONE_SMEARED)
}

/// Where the middle of the best head's step lies in the window of the score: 0 its start, 1 its
/// end.
pub(super) fn place_in_window(experiment: &Experiment<'_>) -> Option<f64> {
    let (two, window) = windowed(experiment)?;
    Some(window.place(two.matching_midpoint()?))
}

/// How far the middles of the two steps are apart, as a share of the run.
pub(super) fn midpoints_apart(experiment: &Experiment<'_>) -> Option<f64> {
    let (two, window) = windowed(experiment)?;
    let middle = f64::midpoint(window.start_tokens as f64, window.end_tokens as f64);
    Some((two.matching_midpoint()? - middle).abs() / two.run.spec.train.tokens as f64)
}

pub(super) fn best_matching(experiment: &Experiment<'_>) -> Option<f64> {
    Some(experiment.model(TWO)?.best_head().prefix_matching)
}

/// How deep the loss's deepest bump that overlaps the window is, beyond twice the deepest
/// elsewhere, in nats.
pub(super) fn bump_beyond_others(experiment: &Experiment<'_>) -> Option<f64> {
    let (two, window) = windowed(experiment)?;
    let overlaps = |bump: &induction_metrics::Bump| {
        bump.start_tokens <= window.end_tokens && window.start_tokens <= bump.end_tokens
    };
    let (there, elsewhere): (Vec<_>, Vec<_>) = two.loss_bumps().into_iter().partition(overlaps);
    let deepest =
        |bumps: &[induction_metrics::Bump]| bumps.iter().map(|bump| bump.depth).fold(0.0, f64::max);
    Some(deepest(&there) - super::limits::Q7_DEPTH_RATIO * deepest(&elsewhere))
}

/// Where in the window the loss leaves 1 layer's.
pub(super) fn leaves_in_window(experiment: &Experiment<'_>) -> Option<f64> {
    let (two, window) = windowed(experiment)?;
    Some(window.place(two.leaves(experiment.model(ONE)?)?))
}

/// How much the path turns into the window.
fn turn(experiment: &Experiment<'_>, part: Variant) -> Option<f64> {
    let (_, window) = windowed(experiment)?;
    experiment.model(part)?.pivot(window)?.before_inside
}

pub(super) fn turn_of_two(experiment: &Experiment<'_>) -> Option<f64> {
    turn(experiment, TWO)
}

pub(super) fn turn_beyond_one(experiment: &Experiment<'_>) -> Option<f64> {
    Some(turn(experiment, TWO)? - turn(experiment, ONE)?)
}

/// How much sooner prefix matching is half-way with smeared keys.
pub(super) fn half_time_ratio(experiment: &Experiment<'_>) -> Option<f64> {
    let half =
        |part| experiment.model(part).filter(|model| model.has_induction_head())?.max_half_time();
    Some(half(TWO_SMEARED)? / half(TWO)?)
}

pub(super) fn slope_before(experiment: &Experiment<'_>) -> Option<f64> {
    windowed(experiment).map(|(two, window)| two.late_slope_near(window.start_tokens))
}

pub(super) fn slope_after(experiment: &Experiment<'_>) -> Option<f64> {
    windowed(experiment).map(|(two, window)| two.late_slope_near(window.end_tokens))
}

/// How much the loss of foretold tokens, and of the others, falls over the window, in nats.
fn falls(experiment: &Experiment<'_>) -> Option<[f64; 2]> {
    let (two, window) = windowed(experiment)?;
    let (before, after) =
        (two.copy_losses_near(window.start_tokens)?, two.copy_losses_near(window.end_tokens)?);
    Some([before[0] - after[0], before[1] - after[1]])
}

pub(super) fn foretold_fall(experiment: &Experiment<'_>) -> Option<f64> {
    falls(experiment).map(|[foretold, _]| foretold)
}

pub(super) fn others_share_of_fall(experiment: &Experiment<'_>) -> Option<f64> {
    let [foretold, others] = falls(experiment)?;
    (foretold > 0.0).then(|| others / foretold)
}

pub(super) fn elsewhere_place(experiment: &Experiment<'_>) -> Option<f64> {
    place_in_window(experiment.elsewhere.first()?)
}

pub(super) fn elsewhere_share(experiment: &Experiment<'_>) -> Option<f64> {
    one_layer_share(experiment.elsewhere.first()?)
}

pub(super) fn elsewhere_beyond_one(experiment: &Experiment<'_>) -> Option<f64> {
    matching_beyond_one(experiment.elsewhere.first()?)
}

// What was seen, in sentences.

/// The window of the 2-layer run, or why there is none.
pub(super) fn window_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let window = match two.window() {
        Ok(window) => window,
        Err(reason) => return no_window(two, reason),
    };
    let [start, end] = [window.start_tokens, window.end_tokens].map(|at| tokens(at as f64));
    let [before, after, end_amount] =
        [-window.score_before, -window.score_after, two.last_amount()].map(number);
    let paper = number(two.last_paper_amount());
    format!(
        "The same-token amount of ICL goes from {before} to {after} nats, 10 % of the way at {start} tokens and 90 % at {end}; the run ends with {end_amount} ({paper} by the paper's score, on other tokens)."
    )
}

pub(super) fn after_in_words(experiment: &Experiment<'_>) -> String {
    let ceiling = experiment.model(TWO).map_or(String::new(), |two| {
        format!(
            " For scale: a mixture of a bigram model and in-context matches, fitted on the training text, gains {} nats on the same examples by the paper's score.",
            number(-two.run.ceiling.icl_score)
        )
    });
    window_in_words(experiment) + &ceiling
}

pub(super) fn schedule_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let onset = predicted_onset(two.step_tokens().round() as u64, 1);
    format!(
        "{} The warm-up ends at {} tokens, the decay begins at {}. (The law published for other models, 10^5.7 sqrt(batch x context), has the change begin at {}.)",
        window_in_words(experiment),
        tokens(two.warmup_tokens()),
        tokens(two.decay_tokens()),
        tokens(onset)
    )
}

pub(super) fn one_layer_in_words(experiment: &Experiment<'_>) -> String {
    let (Some(one), Some(two)) = (experiment.model(ONE), experiment.model(TWO)) else {
        return missing(ONE);
    };
    let best = one.max_prefix_matching();
    let window = match one.window() {
        Ok(window) => format!(
            "1 layer has a step in its score, from {} to {} nats about {} tokens.",
            number(-window.score_before),
            number(-window.score_after),
            tokens(f64::midpoint(window.start_tokens as f64, window.end_tokens as f64))
        ),
        Err(reason) => no_window(one, reason),
    };
    format!(
        "The highest prefix matching in 1 layer at any time is {} (head {}.{}), 2 layers end at {}. 1 layer ends with {} nats of ICL, 2 layers with {}. {window}",
        number(best.prefix_matching),
        best.layer,
        best.head,
        number(two.best_head().prefix_matching),
        number(one.last_amount()),
        number(two.last_amount())
    )
}

pub(super) fn heads_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let best = two.best_head();
    let step = match two.matching_midpoint() {
        Some(at) => format!("the middle of its step is at {} tokens", tokens(at)),
        None => "its prefix matching makes no step".to_string(),
    };
    format!(
        "Head {}.{} ends highest, at {} ({} the {} from which we call it an induction head); {step}. {}",
        best.layer,
        best.head,
        number(best.prefix_matching),
        if two.has_induction_head() { "above" } else { "below" },
        number(INDUCTION_HEAD_ABOVE),
        window_in_words(experiment)
    )
}

pub(super) fn bump_in_words(experiment: &Experiment<'_>) -> String {
    let (Some(two), Some(one)) = (experiment.model(TWO), experiment.model(ONE)) else {
        return missing(ONE);
    };
    let bumps = two.loss_bumps();
    let bump = match bumps.as_slice() {
        [] => "The smoothed loss is convex throughout.".to_string(),
        [deepest, others @ ..] => format!(
            "The loss departs from its convex envelope most between {} and {} tokens, by {:.4} nats; the next place has {:.4}.",
            tokens(deepest.start_tokens as f64),
            tokens(deepest.end_tokens as f64),
            deepest.depth,
            others.first().map_or(0.0, |bump| bump.depth)
        ),
    };
    let left = match two.leaves(one) {
        Some(at) => format!("Half of the final gap to 1 layer is there at {} tokens.", tokens(at)),
        None => "The loss does not end below 1 layer's.".to_string(),
    };
    format!("{bump} {left} {}", window_in_words(experiment))
}

pub(super) fn turn_in_words(experiment: &Experiment<'_>) -> String {
    let (Some(two), Some(one)) = (experiment.model(TWO), experiment.model(ONE)) else {
        return missing(ONE);
    };
    let window = match two.window() {
        Ok(window) => window,
        Err(reason) => return no_window(two, reason),
    };
    let turn = |model: &Trained<'_>| match model.pivot(window) {
        Some(pivot) => {
            let shown = |angle: Option<f64>| {
                angle.map_or("undefined".to_string(), |angle| format!("{angle:.0} degrees"))
            };
            format!(
                "{} turns by {} into the window, and from before it to after it by {}",
                model.variant.label(),
                shown(pivot.before_inside),
                shown(pivot.before_after)
            )
        }
        None => format!(
            "{} has no path of half a window's width between the warm-up and the window, and after it",
            model.variant.label()
        ),
    };
    let explained = experiment.explained().unwrap_or_default().iter().sum::<f64>();
    format!(
        "In the plane of the joint PCA, {}; {}. The plane holds {} of the variance of all snapshots.",
        turn(two),
        turn(one),
        percent(explained)
    )
}

pub(super) fn smeared_in_words(experiment: &Experiment<'_>) -> String {
    let each: Vec<String> = [ONE_SMEARED, TWO, TWO_SMEARED]
        .into_iter()
        .filter_map(|part| {
            let model = experiment.model(part)?;
            let half = model
                .max_half_time()
                .map_or("never".to_string(), |at| format!("{} tokens", tokens(at)));
            Some(format!(
                "{} ends with {} nats of ICL and prefix matching {}, half of it at {half}",
                part.label(),
                number(model.last_amount()),
                number(model.best_head().prefix_matching)
            ))
        })
        .collect();
    format!("{}.", each.join("; "))
}

pub(super) fn slopes_in_words(experiment: &Experiment<'_>) -> String {
    match (slope_before(experiment), slope_after(experiment)) {
        (Some(before), Some(after)) => format!(
            "The loss changes by {before:.3} nats an e-fold of the index at the window's start and by {after:.3} at its end."
        ),
        _ => window_in_words(experiment),
    }
}

pub(super) fn falls_in_words(experiment: &Experiment<'_>) -> String {
    match falls(experiment) {
        Some([foretold, others]) => format!(
            "Over the window the loss of tokens that an earlier copy in their window foretells falls by {} nats, that of the others by {}.",
            number(foretold),
            number(others)
        ),
        None => window_in_words(experiment),
    }
}

pub(super) fn elsewhere_in_words(experiment: &Experiment<'_>) -> String {
    let each: Vec<String> = experiment
        .elsewhere
        .iter()
        .map(|other| {
            let models: Vec<String> = other
                .trained()
                .map(|model| {
                    let half = model.max_half_time().filter(|_| model.has_induction_head());
                    format!(
                        "{}: best prefix matching {}{}, ICL {} nats",
                        model.variant.label(),
                        number(model.best_head().prefix_matching),
                        half.map_or(String::new(), |at| format!(
                            ", half-way at {} tokens",
                            tokens(at)
                        )),
                        number(model.last_amount())
                    )
                })
                .collect();
            format!("On {}: {}.", other.text, models.join("; "))
        })
        .collect();
    each.join(" ")
}
