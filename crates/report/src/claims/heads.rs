//! The claims about heads at the end of training: where they lie, and how their scores go together.

use induction_metrics::{TwoByTwo, resample, spearman};

use rand_distr::{Distribution, StandardNormal};

use super::rules::{
    Q12_PARTLY_FROM, Q15_P_BELOW, Q15_PREFIX_MATCHING_ABOVE, Q16_RHO_FROM, Q20_ABOVE_CHANCE, Q20_SHARE_FROM,
};
use super::{Finding, INDUCTION_HEAD_ABOVE, Verdict, graded, need};
use crate::cast::{Cast, Player, TWO, best_on};
use crate::load::HeadScore;
use crate::text::{number, percent};

/// Seed of the draws of heads.
const SEED: u64 = 1;

/// Vanilla models of 2 layers or more that have an induction head, and that head.
fn with_induction_head<'c, 'a>(cast: &'c Cast<'a>) -> impl Iterator<Item = (&'c Player<'a>, HeadScore)> {
    let deep = cast.vanilla().filter(|player| player.part.n_layers > 1 && player.has_induction_head());
    deep.map(|player| (player, player.best_head()))
}

/// Models of 5 and 6 layers with MLPs that have an induction head, and that head.
fn deep_with_mlps<'c, 'a>(cast: &'c Cast<'a>) -> impl Iterator<Item = (&'c Player<'a>, HeadScore)> {
    let deep = cast.with_mlps().filter(|player| player.part.n_layers >= 5 && player.has_induction_head());
    deep.map(|player| (player, player.best_head()))
}

pub(super) fn share_in_second_to_last_layer(cast: &Cast<'_>) -> Option<f64> {
    let there: Vec<bool> = deep_with_mlps(cast).map(|(player, best)| best.layer + 2 == player.part.n_layers).collect();
    let count = there.iter().filter(|&&there| there).count();
    (!there.is_empty()).then(|| count as f64 / there.len() as f64)
}

/// "2 layers: head 1.3, prefix matching 0.69" of each.
fn places<'a, 'c>(found: impl Iterator<Item = (&'c Player<'a>, HeadScore)>) -> Vec<String>
where
    'a: 'c,
{
    found
        .map(|(player, best)| {
            let (label, score) = (player.part.label(), number(best.prefix_matching));
            format!("{label}: head {}.{}, prefix matching {score}", best.layer, best.head)
        })
        .collect()
}

pub(super) fn q13(cast: &Cast<'_>) -> Finding {
    if !cast.with_mlps().any(|player| player.part.n_layers >= 5) {
        let why = "No model of 5 or 6 layers with MLPs is here: `reproduce --scale full` trains them.";
        return Finding::new(Verdict::OutOfReach, String::new(), why.to_string());
    }
    let ends: Vec<String> = cast
        .with_mlps()
        .filter(|player| player.part.n_layers >= 5)
        .map(|player| format!("{} {}", player.part.label(), number(player.best_head().prefix_matching)))
        .collect();
    let Some(share) = share_in_second_to_last_layer(cast) else {
        let limit = number(INDUCTION_HEAD_ABOVE);
        let why = format!(
            "No head of theirs ends above {limit} within the budget (best: {}), so where induction heads form is not seen. More tokens would decide it.",
            ends.join("; ")
        );
        return Finding::new(Verdict::OutOfReach, "no induction head yet".to_string(), why);
    };
    let places = places(deep_with_mlps(cast));
    let count = places.len();
    let ours = format!("{} of {count} models", (share * count as f64).round());
    let why = format!("{} (layers count from 0).", places.join("; "));
    Finding::new(graded(share == 1.0, share >= Q12_PARTLY_FROM), ours, why)
}

pub(super) fn share_in_last_layer(cast: &Cast<'_>) -> Option<f64> {
    let last: Vec<bool> =
        with_induction_head(cast).map(|(player, best)| best.layer + 1 == player.part.n_layers).collect();
    let count = last.iter().filter(|&&last| last).count();
    (!last.is_empty()).then(|| count as f64 / last.len() as f64)
}

pub(super) fn q12(cast: &Cast<'_>) -> Finding {
    need!(cast, TWO);
    let Some(share) = share_in_last_layer(cast) else {
        let why = format!("No vanilla model ends with a head above {}.", number(INDUCTION_HEAD_ABOVE));
        return Finding::new(Verdict::Not, "no induction head".to_string(), why);
    };
    let places = places(with_induction_head(cast));
    let count = places.len();
    let ours = format!("{} of {count} models", (share * count as f64).round());
    let why = format!("{} (layers count from 0).", places.join("; "));
    Finding::new(graded(share == 1.0, share >= Q12_PARTLY_FROM), ours, why)
}

/// Two scores of every head of some models at the last snapshot, or of a draw among these heads.
fn pairs<'c, 'a: 'c>(
    cast: &'c Cast<'a>,
    models: impl Iterator<Item = &'c Player<'a>>,
    scores: impl Fn(&HeadScore) -> Option<(f64, f64)>,
) -> (Vec<f64>, Vec<f64>) {
    let all: Vec<(f64, f64)> = models.flat_map(Player::last_heads).filter_map(scores).collect();
    match cast.draw {
        None => all.into_iter().unzip(),
        Some(draw) => {
            let counts = resample(SEED, draw, all.len());
            all.into_iter().zip(counts).flat_map(|(pair, count)| std::iter::repeat_n(pair, count as usize)).unzip()
        }
    }
}

fn rho((x, y): (Vec<f64>, Vec<f64>)) -> Option<f64> {
    spearman(&x, &y).ok().flatten()
}

pub(super) fn rho_copying(cast: &Cast<'_>) -> Option<f64> {
    rho(pairs(cast, cast.players(), |head| Some((head.prefix_matching, head.copying))))
}

pub(super) fn rho_ov(cast: &Cast<'_>) -> Option<f64> {
    rho(pairs(cast, cast.attention_only(), |head| Some((head.copying, head.ov_copying))))
}

pub(super) fn rho_qk(cast: &Cast<'_>) -> Option<f64> {
    rho(pairs(cast, cast.attention_only(), |head| Some((head.prefix_matching, head.qk_trace?))))
}

pub(super) fn q15(cast: &Cast<'_>) -> Finding {
    need!(cast, TWO);
    let (matching, copying) = pairs(cast, cast.players(), |head| Some((head.prefix_matching, head.copying)));
    let mut table = TwoByTwo::default();
    for (matching, copying) in matching.iter().zip(&copying) {
        let cell = match (*matching > Q15_PREFIX_MATCHING_ABOVE, *copying > 0.0) {
            (true, true) => &mut table.both,
            (true, false) => &mut table.first_only,
            (false, true) => &mut table.second_only,
            (false, false) => &mut table.neither,
        };
        *cell += 1;
    }
    let (odds, p, rho) = (table.odds_ratio(), table.fisher(), rho_copying(cast));
    let (above, together) = (odds.is_some_and(|odds| odds > 1.0), rho.is_some_and(|rho| rho > 0.0));
    let verdict = graded(above && p < Q15_P_BELOW && together, above || together);
    let shown = |value: Option<f64>| value.map_or("undefined".to_string(), number);
    let matched = table.both + table.first_only;
    let others = table.second_only + table.neither;
    let why = format!(
        "Of {matched} heads with prefix matching above {Q15_PREFIX_MATCHING_ABOVE}, {} copy (score above 0); of the {others} others, {}. Odds ratio {}{}, Fisher's one-sided p {p:.3}; rank correlation {}.",
        table.both,
        table.second_only,
        shown(odds),
        if [table.both, table.first_only, table.second_only, table.neither].contains(&0) {
            " (with half a head added to each cell, as one is empty)"
        } else {
            ""
        },
        shown(rho)
    );
    Finding::new(verdict, format!("odds ratio {}, p {p:.3}, rho {}", shown(odds), shown(rho)), why)
}

pub(super) fn q16(cast: &Cast<'_>) -> Finding {
    need!(cast, TWO);
    let (ov, qk) = (rho_ov(cast), rho_qk(cast));
    let [ov_holds, qk_holds] = [ov, qk].map(|rho| rho.is_some_and(|rho| rho >= Q16_RHO_FROM));
    let shown = |value: Option<f64>| value.map_or("undefined".to_string(), number);
    let heads = cast.attention_only().flat_map(Player::last_heads).count();
    let later = cast.attention_only().flat_map(Player::last_heads).filter(|head| head.qk_trace.is_some()).count();
    let why = format!(
        "Over {heads} heads of attention-only models, copying and the OV eigenvalue ratio have a rank correlation of {}; over the {later} after the first layer, prefix matching and the QK trace have {}. To be reproduced, both at least {}.",
        shown(ov),
        shown(qk),
        number(Q16_RHO_FROM)
    );
    Finding::new(
        graded(ov_holds && qk_holds, ov_holds || qk_holds),
        format!("rho {} (OV), {} (QK)", shown(ov), shown(qk)),
        why,
    )
}

const PATTERN: &str = "pattern matching";

/// A score with its standard error over prompts; in a bootstrap draw, one drawn from it.
fn drawn(cast: &Cast<'_>, value: f64, stderr: Option<f64>) -> f64 {
    let Some(draw) = cast.draw else { return value };
    let z: f64 = StandardNormal.sample(&mut induction_random::stream(0, "prompt scores", draw));
    value + z * stderr.unwrap_or_default()
}

pub(super) fn pattern_share(cast: &Cast<'_>) -> Option<f64> {
    let (_, score) = best_on(cast, PATTERN)?;
    Some(drawn(cast, score.share.0, score.share.1))
}

pub(super) fn pattern_beyond_chance(cast: &Cast<'_>) -> Option<f64> {
    let (_, score) = best_on(cast, PATTERN)?;
    Some(drawn(cast, score.among.0, score.among.1) - score.among.2)
}

pub(super) fn q20(cast: &Cast<'_>) -> Finding {
    let Some((player, score)) = best_on(cast, PATTERN) else {
        let why = "No model on this data read the prompts: they need text, and a context that holds them.";
        return Finding::new(Verdict::OutOfReach, String::new(), why.to_string());
    };
    let why = format!(
        "Head {} of {}: {} of its attention goes to right digits ({} if spread over all earlier positions), and {} of what goes to digits ({} if spread over them). It is the largest of {} heads, so expect it to lie a little high.",
        score.head,
        player.part.label(),
        percent(score.share.0),
        percent(score.share.2),
        percent(score.among.0),
        percent(score.among.2),
        cast.players().map(|player| player.last_heads().len()).sum::<usize>()
    );
    let beyond = score.among.0 - score.among.2;
    let verdict = graded(score.share.0 >= Q20_SHARE_FROM, beyond > Q20_ABOVE_CHANCE);
    let ours = format!(
        "{}; of that on digits {} (chance {})",
        percent(score.share.0),
        percent(score.among.0),
        percent(score.among.2)
    );
    Finding::new(verdict, ours, why)
}
