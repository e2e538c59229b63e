//! The negative controls: the same text without what induction needs. There the change must not
//! come.

use super::{missing, need, no_window};
use crate::experiment::{Experiment, TWO, TWO_FRAGMENTS, TWO_SHUFFLED, Variant};
use crate::text::{number, tokens};

pub(super) fn needs_shuffled(experiment: &Experiment<'_>) -> Result<(), String> {
    need(experiment, &[TWO, TWO_SHUFFLED])?;
    comes(experiment)
}

pub(super) fn needs_fragments(experiment: &Experiment<'_>) -> Result<(), String> {
    need(experiment, &[TWO, TWO_FRAGMENTS])?;
    comes(experiment)
}

/// That the real text brings the change: else its absence elsewhere says nothing.
pub(super) fn comes(experiment: &Experiment<'_>) -> Result<(), String> {
    match experiment.model(TWO).map(|two| (two, two.window())) {
        Some((two, Err(reason))) => {
            Err(format!("{} So there is nothing that could be absent.", no_window(two, reason)))
        }
        _ => Ok(()),
    }
}

/// The highest prefix matching of any head at any time, where the model of the real text went
/// through the change.
fn matching(experiment: &Experiment<'_>, part: Variant) -> Option<f64> {
    experiment.model(TWO)?.window().ok()?;
    Some(experiment.model(part)?.max_prefix_matching().prefix_matching)
}

/// 1 if there is a window, where the model of the real text has one.
fn window(experiment: &Experiment<'_>, part: Variant) -> Option<f64> {
    experiment.model(TWO)?.window().ok()?;
    Some(f64::from(u8::from(experiment.model(part)?.window().is_ok())))
}

pub(super) fn shuffled_matching(experiment: &Experiment<'_>) -> Option<f64> {
    matching(experiment, TWO_SHUFFLED)
}

pub(super) fn shuffled_window(experiment: &Experiment<'_>) -> Option<f64> {
    window(experiment, TWO_SHUFFLED)
}

pub(super) fn fragments_matching(experiment: &Experiment<'_>) -> Option<f64> {
    matching(experiment, TWO_FRAGMENTS)
}

pub(super) fn fragments_window(experiment: &Experiment<'_>) -> Option<f64> {
    window(experiment, TWO_FRAGMENTS)
}

fn in_words(experiment: &Experiment<'_>, part: Variant) -> String {
    let Some(model) = experiment.model(part) else { return missing(part) };
    let best = model.max_prefix_matching();
    let window = match model.window() {
        Ok(window) => format!(
            "Its score has a window, from {} to {} tokens and from {} to {} nats.",
            tokens(window.start_tokens as f64),
            tokens(window.end_tokens as f64),
            number(-window.score_before),
            number(-window.score_after)
        ),
        Err(reason) => no_window(model, reason),
    };
    let [own, real] = [Some(model), experiment.model(TWO)]
        .map(|model| model.map_or(f64::NAN, |model| model.last_amount()));
    format!(
        "The highest prefix matching of the {} at any time is {} (head {}.{}). It ends with {} nats of ICL on its own text, the model of the real text with {}. {window}",
        part.run(),
        number(best.prefix_matching),
        best.layer,
        best.head,
        number(own),
        number(real)
    )
}

pub(super) fn shuffled_in_words(experiment: &Experiment<'_>) -> String {
    in_words(experiment, TWO_SHUFFLED)
}

pub(super) fn fragments_in_words(experiment: &Experiment<'_>) -> String {
    in_words(experiment, TWO_FRAGMENTS)
}
