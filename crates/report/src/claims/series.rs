//! The claims about families of models: what stays the same from small to large.

use induction_metrics::spearman;

use super::limits::{Q18_ADVANTAGE_FROM, Q18_INDICES, SIZES_FROM};
use super::need;
use crate::experiment::{Experiment, TWO, Trained};
use crate::text::{number, percent};

/// Models of 2 layers or more, attention-only and with MLPs, that went through the change.
fn changed<'c, 'a>(experiment: &'c Experiment<'a>) -> Vec<&'c Trained<'a>> {
    let families = experiment.vanilla().chain(experiment.with_mlps());
    families.filter(|model| model.variant.n_layers > 1 && model.has_induction_head()).collect()
}

fn enough(found: usize, of: &str) -> Result<(), String> {
    if found >= SIZES_FROM {
        return Ok(());
    }
    Err(format!(
        "{found} {of} here, expected at least {SIZES_FROM}; `reproduce --scale full` trains 5 depths of each family."
    ))
}

pub(super) fn needs_changed(experiment: &Experiment<'_>) -> Result<(), String> {
    enough(changed(experiment).len(), "models of 2 layers or more with an induction head are")
}

/// Standard deviation of the models' last amounts of ICL, over their mean.
pub(super) fn spread(experiment: &Experiment<'_>) -> Option<f64> {
    let amounts: Vec<f64> = changed(experiment).iter().map(|model| model.last_amount()).collect();
    let n = amounts.len() as f64;
    let mean = amounts.iter().sum::<f64>() / n;
    let variance = amounts.iter().map(|amount| (amount - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (amounts.len() >= SIZES_FROM && mean > 0.0).then(|| variance.sqrt() / mean)
}

/// The middle one of the models' changes of the amount after their windows, as shares of their last
/// amounts.
pub(super) fn drift(experiment: &Experiment<'_>) -> Option<f64> {
    let mut shares: Vec<f64> = changed(experiment)
        .iter()
        .filter_map(|model| {
            let (window, end) = (model.window().ok()?, model.last_amount());
            (end > 0.0).then(|| (end + window.score_after).abs() / end)
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    (shares.len() >= SIZES_FROM).then(|| shares[shares.len() / 2])
}

pub(super) fn amounts_in_words(experiment: &Experiment<'_>) -> String {
    let models = changed(experiment);
    let each: Vec<String> = models
        .iter()
        .map(|model| format!("{} {}", model.variant.label(), number(model.last_amount())))
        .collect();
    let mean = models.iter().map(|model| model.last_amount()).sum::<f64>() / models.len() as f64;
    let windows = models.iter().filter(|model| model.window().is_ok()).count();
    format!(
        "Last same-token amounts of ICL in nats: {}; their mean is {}. {windows} of them have a window.",
        each.join(", "),
        number(mean)
    )
}

fn deepest<'c, 'a>(experiment: &'c Experiment<'a>) -> Option<&'c Trained<'a>> {
    experiment
        .vanilla()
        .filter(|model| model.variant.n_layers > 2)
        .max_by_key(|model| model.variant.n_layers)
}

/// How much lower the deepest model's loss is than 2 layers', around the tenth token and around the
/// late index.
fn advantages(experiment: &Experiment<'_>) -> Option<[f64; 2]> {
    let (two, deep) = (experiment.model(TWO)?, deepest(experiment)?);
    let (late, half_width) =
        (two.run.spec.evaluation.icl_late, two.run.spec.evaluation.icl_half_width);
    let [first, last] = Q18_INDICES;
    let at = |indices: std::ops::RangeInclusive<usize>| {
        Some(two.last_loss_at(indices.clone())? - deep.last_loss_at(indices)?)
    };
    Some([at(first..=last)?, at(late.saturating_sub(half_width).max(1)..=late + half_width)?])
}

pub(super) fn needs_advantage(experiment: &Experiment<'_>) -> Result<(), String> {
    need(experiment, &[TWO])?;
    if deepest(experiment).is_none() {
        return Err("No vanilla model of 3 layers or more is here.".to_string());
    }
    let kept = |model: &Trained<'_>| model.run.last_losses.is_some();
    if !experiment.model(TWO).is_some_and(kept) || !deepest(experiment).is_some_and(kept) {
        return Err(
            "The losses of the last snapshots were not kept, so how sure this would be cannot be told.".to_string()
        );
    }
    match advantages(experiment) {
        None => Err("The context ends before the index that this asks for.".to_string()),
        Some([_, late]) if late < Q18_ADVANTAGE_FROM => Err(format!(
            "{} So there is no advantage to have a share of (asked: {Q18_ADVANTAGE_FROM} nats late in the context).",
            advantage_in_words(experiment)
        )),
        Some(_) => Ok(()),
    }
}

pub(super) fn early_share(experiment: &Experiment<'_>) -> Option<f64> {
    let [early, late] = advantages(experiment)?;
    (late > 0.0).then(|| early / late)
}

pub(super) fn late_advantage(experiment: &Experiment<'_>) -> Option<f64> {
    advantages(experiment).map(|[_, late]| late)
}

pub(super) fn advantage_in_words(experiment: &Experiment<'_>) -> String {
    match (deepest(experiment), advantages(experiment)) {
        (Some(deep), Some([early, late])) => format!(
            "{} have a loss that is {early:.3} nats below 2 layers' around the tenth token and {late:.3} below around the late index.",
            deep.variant.label()
        ),
        _ => String::new(),
    }
}

/// Depth and learning speed before and after the window of each vanilla model that has one.
fn slopes(experiment: &Experiment<'_>) -> Vec<(f64, f64, f64)> {
    let deep = experiment.vanilla().filter(|model| model.variant.n_layers > 1);
    deep.filter_map(|model| {
        let window = model.window().ok()?;
        let [start, end] = [window.start_tokens as f64, window.end_tokens as f64];
        let before = model.learning_slope(start / 3.0, start)?;
        let after = model.learning_slope(end, model.decay_tokens())?;
        Some((model.variant.n_layers as f64, before, after))
    })
    .collect()
}

pub(super) fn needs_slopes(experiment: &Experiment<'_>) -> Result<(), String> {
    enough(
        slopes(experiment).len(),
        "vanilla models of 2 layers or more with a window, and snapshots between the warm-up and the decay on both sides of it, are",
    )
}

fn rho(experiment: &Experiment<'_>, take: fn(&(f64, f64, f64)) -> f64) -> Option<f64> {
    let slopes = slopes(experiment);
    let (depth, slope): (Vec<f64>, Vec<f64>) = slopes.iter().map(|row| (row.0, take(row))).unzip();
    if depth.len() < SIZES_FROM { None } else { spearman(&depth, &slope).ok().flatten() }
}

pub(super) fn rho_before(experiment: &Experiment<'_>) -> Option<f64> {
    rho(experiment, |row| row.1)
}

pub(super) fn rho_after(experiment: &Experiment<'_>) -> Option<f64> {
    rho(experiment, |row| row.2)
}

pub(super) fn slopes_in_words(experiment: &Experiment<'_>) -> String {
    let each: Vec<String> = slopes(experiment)
        .iter()
        .map(|(depth, before, after)| {
            format!("{depth} layers {before:.2} before, {after:.2} after")
        })
        .collect();
    format!(
        "d loss / d ln tokens in nats an e-fold: {}. Each model has its own window; a later window leaves a shorter and later span behind it.",
        each.join("; ")
    )
}

pub(super) fn spread_in_words(experiment: &Experiment<'_>) -> String {
    let after =
        drift(experiment).map_or("Too few windows to say what comes after.".to_string(), |drift| {
            format!(
                "After its window the middle model's amount changes by {} of its end.",
                percent(drift)
            )
        });
    format!("{} {after}", amounts_in_words(experiment))
}
