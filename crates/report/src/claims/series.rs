//! The claims about families of models: what stays the same from small to large, and on other text.

use induction_metrics::spearman;

use super::rules::{Q17_DRIFT_BELOW, Q17_SPREAD_BELOW, Q18_INDICES, Q18_SHARE_FROM, Q19_RHO_FROM, SIZES_FROM};
use super::{Finding, Verdict, curves, graded, missing, need};
use crate::cast::{Cast, Player, TWO};
use crate::load::lookup;
use crate::text::{number, percent, tokens};

/// Models of 2 layers or more, attention-only and with MLPs, that went through the change.
fn changed<'c, 'a>(cast: &'c Cast<'a>) -> Vec<&'c Player<'a>> {
    let families = cast.vanilla().chain(cast.with_mlps());
    families.filter(|player| player.part.n_layers > 1 && player.has_induction_head()).collect()
}

fn too_few(found: usize, of: &str) -> Finding {
    let why = format!(
        "{found} {of} here, expected at least {SIZES_FROM}; `reproduce --scale full` trains 5 depths of each family."
    );
    Finding::new(Verdict::OutOfReach, String::new(), why)
}

/// Standard deviation of the models' last amounts of ICL, over their mean.
pub(super) fn spread(cast: &Cast<'_>) -> Option<f64> {
    let amounts: Vec<f64> = changed(cast).iter().map(|player| player.last_amount()).collect();
    let n = amounts.len() as f64;
    let mean = amounts.iter().sum::<f64>() / n;
    let variance = amounts.iter().map(|amount| (amount - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (amounts.len() >= SIZES_FROM && mean > 0.0).then(|| variance.sqrt() / mean)
}

/// The middle one of the models' changes of the amount after their windows, as shares of their last amounts.
pub(super) fn drift(cast: &Cast<'_>) -> Option<f64> {
    let mut shares: Vec<f64> = changed(cast)
        .iter()
        .filter_map(|player| {
            let (window, end) = (player.window.as_ref().ok()?, player.last_amount());
            (end > 0.0).then(|| (end + window.score_after).abs() / end)
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    (shares.len() >= SIZES_FROM).then(|| shares[shares.len() / 2])
}

pub(super) fn q17(cast: &Cast<'_>) -> Finding {
    let models = changed(cast);
    if models.len() < SIZES_FROM {
        return too_few(models.len(), "models of 2 layers or more with an induction head are");
    }
    let (spread, drift) = (spread(cast), drift(cast));
    let [alike, stays] =
        [(spread, Q17_SPREAD_BELOW), (drift, Q17_DRIFT_BELOW)].map(|(x, limit)| x.is_some_and(|x| x < limit));
    let each: Vec<String> =
        models.iter().map(|player| format!("{} {}", player.part.label(), number(player.last_amount()))).collect();
    let mean = models.iter().map(|player| player.last_amount()).sum::<f64>() / models.len() as f64;
    let shown = |value: Option<f64>| value.map_or("undefined".to_string(), number);
    let after = match drift {
        Some(drift) => format!("After the window the middle model's amount changes by {} of its end.", percent(drift)),
        None => format!("Fewer than {SIZES_FROM} of them have a window, so what comes after it is not judged."),
    };
    let why = format!(
        "Last amounts of ICL in nats: {}; their mean is {}, their standard deviation {} of it. {after}",
        each.join(", "),
        number(mean),
        spread.map_or("undefined".to_string(), percent)
    );
    let after = drift.map_or("too few windows to say what comes after".to_string(), |drift| {
        format!("after the window {}", number(drift))
    });
    let ours = format!("mean {} nats, spread {}, {after}", number(mean), shown(spread));
    Finding::new(graded(alike && stays, alike || stays), ours, why)
}

fn deepest<'c, 'a>(cast: &'c Cast<'a>) -> Option<&'c Player<'a>> {
    cast.vanilla().filter(|player| player.part.n_layers > 2).max_by_key(|player| player.part.n_layers)
}

/// How much lower the deepest model's loss is than 2 layers', around the tenth token and around the late index.
fn advantages(cast: &Cast<'_>) -> Option<[f64; 2]> {
    let (two, deep) = (cast.player(TWO)?, deepest(cast)?);
    let key = |name: &str| {
        let found = lookup(&two.run.spec.table, &format!("evaluation.{name}")).and_then(toml::Value::as_integer);
        found.and_then(|value| usize::try_from(value).ok())
    };
    let (late, half_width) = (key("icl_late")?, key("icl_half_width").unwrap_or_default());
    let [first, last] = Q18_INDICES;
    let at = |indices: std::ops::RangeInclusive<usize>| {
        Some(two.last_loss_at(indices.clone())? - deep.last_loss_at(indices)?)
    };
    Some([at(first..=last)?, at(late.saturating_sub(half_width).max(1)..=late + half_width)?])
}

pub(super) fn early_share(cast: &Cast<'_>) -> Option<f64> {
    let [early, late] = advantages(cast)?;
    (late > 0.0).then(|| early / late)
}

pub(super) fn q18(cast: &Cast<'_>) -> Finding {
    need!(cast, TWO);
    let Some(deep) = deepest(cast) else {
        let why = "No vanilla model of 3 layers or more is here.".to_string();
        return Finding::new(Verdict::OutOfReach, String::new(), why);
    };
    let Some([early, late]) = advantages(cast) else {
        let why = "The context ends before the index that this asks for.".to_string();
        return Finding::new(Verdict::OutOfReach, String::new(), why);
    };
    let label = deep.part.label();
    let why = format!(
        "{label} have a loss that is {early:.3} nats below 2 layers' around the tenth token and {late:.3} below around the late index."
    );
    let Some(share) = early_share(cast) else {
        return Finding::new(Verdict::Not, "no advantage at the end of the context".to_string(), why);
    };
    Finding::new(graded(share >= Q18_SHARE_FROM, false), format!("{} by the tenth token", percent(share)), why)
}

/// Depth and learning speed before and after the window of each vanilla model that has one.
fn slopes(cast: &Cast<'_>) -> Vec<(f64, f64, f64)> {
    let deep = cast.vanilla().filter(|player| player.part.n_layers > 1);
    deep.filter_map(|player| {
        let window = player.window.as_ref().ok()?;
        let [start, end] = [window.start_tokens as f64, window.end_tokens as f64];
        let before = player.learning_slope(start / 3.0, start)?;
        let after = player.learning_slope(end, player.run.measured_tokens() as f64)?;
        Some((player.part.n_layers as f64, before, after))
    })
    .collect()
}

fn rho(cast: &Cast<'_>, take: fn(&(f64, f64, f64)) -> f64) -> Option<f64> {
    let slopes = slopes(cast);
    let (depth, slope): (Vec<f64>, Vec<f64>) = slopes.iter().map(|row| (row.0, take(row))).unzip();
    if depth.len() < SIZES_FROM { None } else { spearman(&depth, &slope).ok().flatten() }
}

pub(super) fn rho_before(cast: &Cast<'_>) -> Option<f64> {
    rho(cast, |row| row.1)
}

pub(super) fn rho_after(cast: &Cast<'_>) -> Option<f64> {
    rho(cast, |row| row.2)
}

pub(super) fn q19(cast: &Cast<'_>) -> Finding {
    let slopes = slopes(cast);
    if slopes.len() < SIZES_FROM {
        return too_few(
            slopes.len(),
            "vanilla models of 2 layers or more with a window, and snapshots on both sides of it, are",
        );
    }
    let (before, after) = (rho_before(cast), rho_after(cast));
    let [slower, faster] =
        [before.is_some_and(|rho| rho >= Q19_RHO_FROM), after.is_some_and(|rho| rho <= -Q19_RHO_FROM)];
    let each: Vec<String> = slopes
        .iter()
        .map(|(depth, before, after)| format!("{depth} layers {before:.2} before, {after:.2} after"))
        .collect();
    let why = format!(
        "d loss / d ln tokens in nats an e-fold: {}. Each model has its own window; a later window leaves a shorter and later span behind it.",
        each.join("; ")
    );
    let shown = |rho: Option<f64>| rho.map_or("undefined".to_string(), number);
    let ours = format!("rho {} before, {} after", shown(before), shown(after));
    Finding::new(graded(slower && faster, slower || faster), ours, why)
}

pub(super) fn q21(cast: &Cast<'_>) -> Finding {
    let Some((second, others)) = cast.elsewhere.split_first() else {
        let why = "All runs are on one text: `reproduce --scale full` trains the families on a second one.".to_string();
        return Finding::new(Verdict::OutOfReach, String::new(), why);
    };
    let findings = [("Q5", curves::q5(second)), ("Q6", curves::q6(second))];
    let reached = |verdict: Verdict| matches!(verdict, Verdict::Reproduced | Verdict::Partly);
    if findings.iter().all(|(_, finding)| finding.verdict == Verdict::OutOfReach) {
        return missing(TWO);
    }
    let all = findings.iter().all(|(_, finding)| finding.verdict == Verdict::Reproduced);
    let any = findings.iter().any(|(_, finding)| reached(finding.verdict));
    let told: Vec<String> =
        findings.iter().map(|(id, finding)| format!("{id} {} ({})", finding.verdict.phrase(), finding.ours)).collect();
    let beside: String = others.iter().map(|other| format!(" On {}: {}.", other.text, state(other))).collect();
    let why = format!("On {}: {}. {}.{beside}", second.text, told.join(", "), state(second));
    Finding::new(graded(all, any), format!("{}: {}", second.text, told.join("; ")), why)
}

/// "2 layers: best prefix matching 0.46, half-way at 4.0M; .."
fn state(cast: &Cast<'_>) -> String {
    let each: Vec<String> = cast
        .players()
        .map(|player| {
            let (label, best) = (player.part.label(), number(player.best_head().prefix_matching));
            let half = player.max_half_time().filter(|_| player.has_induction_head());
            let half = half.map_or(String::new(), |at| format!(", half-way at {} tokens", tokens(at)));
            format!("{label}: best prefix matching {best}{half}, ICL {} nats", number(player.last_amount()))
        })
        .collect();
    each.join("; ")
}
