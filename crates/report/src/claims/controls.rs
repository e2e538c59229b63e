//! The negative controls: the same text without what induction needs. There the change must not
//! come.

use super::{missing, need, no_window};
use crate::cast::{Cast, Part, TWO, TWO_FRAGMENTS, TWO_SHUFFLED};
use crate::text::{number, tokens};

pub(super) fn needs_shuffled(cast: &Cast<'_>) -> Result<(), String> {
    need(cast, &[TWO, TWO_SHUFFLED])?;
    comes(cast)
}

pub(super) fn needs_fragments(cast: &Cast<'_>) -> Result<(), String> {
    need(cast, &[TWO, TWO_FRAGMENTS])?;
    comes(cast)
}

/// That the real text brings the change: else its absence elsewhere says nothing.
pub(super) fn comes(cast: &Cast<'_>) -> Result<(), String> {
    match cast.player(TWO).map(|two| (two, two.window())) {
        Some((two, Err(reason))) => {
            Err(format!("{} So there is nothing that could be absent.", no_window(two, reason)))
        }
        _ => Ok(()),
    }
}

/// The highest prefix matching of any head at any time, where the model of the real text went
/// through the change.
fn matching(cast: &Cast<'_>, part: Part) -> Option<f64> {
    cast.player(TWO)?.window().ok()?;
    Some(cast.player(part)?.max_prefix_matching().prefix_matching)
}

/// 1 if there is a window, where the model of the real text has one.
fn window(cast: &Cast<'_>, part: Part) -> Option<f64> {
    cast.player(TWO)?.window().ok()?;
    Some(f64::from(u8::from(cast.player(part)?.window().is_ok())))
}

pub(super) fn shuffled_matching(cast: &Cast<'_>) -> Option<f64> {
    matching(cast, TWO_SHUFFLED)
}

pub(super) fn shuffled_window(cast: &Cast<'_>) -> Option<f64> {
    window(cast, TWO_SHUFFLED)
}

pub(super) fn fragments_matching(cast: &Cast<'_>) -> Option<f64> {
    matching(cast, TWO_FRAGMENTS)
}

pub(super) fn fragments_window(cast: &Cast<'_>) -> Option<f64> {
    window(cast, TWO_FRAGMENTS)
}

fn in_words(cast: &Cast<'_>, part: Part) -> String {
    let Some(player) = cast.player(part) else { return missing(part) };
    let best = player.max_prefix_matching();
    let window = match player.window() {
        Ok(window) => format!(
            "Its score has a window, from {} to {} tokens and from {} to {} nats.",
            tokens(window.start_tokens as f64),
            tokens(window.end_tokens as f64),
            number(-window.score_before),
            number(-window.score_after)
        ),
        Err(reason) => no_window(player, reason),
    };
    let [own, real] = [Some(player), cast.player(TWO)]
        .map(|player| player.map_or(f64::NAN, |player| player.last_amount()));
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

pub(super) fn shuffled_in_words(cast: &Cast<'_>) -> String {
    in_words(cast, TWO_SHUFFLED)
}

pub(super) fn fragments_in_words(cast: &Cast<'_>) -> String {
    in_words(cast, TWO_FRAGMENTS)
}
