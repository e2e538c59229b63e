//! The claims about what heads cause: removed, replaced by simple patterns, cut from each other, clamped in training.

use induction_metrics::binomial_tail;

use super::rules::{
    K1_SHARE_ABOVE, P2_SHARE_BELOW, Q10_OTHERS_FROM, Q10_SHARE_ABOVE, R1_ONE_TOKEN_FROM, R1_PREVIOUS_FROM,
    S1_SHARE_ABOVE,
};
use super::{Finding, INDUCTION_HEAD_ABOVE, Verdict, graded, need, window};
use crate::cast::{Cast, HeadKind, Player, TWO, TWO_GIVEN, TWO_WITHOUT};
use crate::load::{Downstream, HeadName, Knockout};
use crate::text::{number, percent, tokens};

const PLOTTED: Downstream = Downstream::PatternPreserving;

fn not_ablated() -> Finding {
    let why = format!("The {} is not ablated: ablate it (`induction ablate RUN`), then report again.", TWO.run());
    Finding::new(Verdict::OutOfReach, String::new(), why)
}

fn no_induction_head() -> Finding {
    let why = format!("No head of the {} ends above {}.", TWO.run(), number(INDUCTION_HEAD_ABOVE));
    Finding::new(Verdict::Not, "no induction head".to_string(), why)
}

fn names<'a>(heads: impl IntoIterator<Item = &'a HeadName>) -> String {
    heads.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What each head contributes to the ICL score at the last snapshot, split by what the heads are.
struct Effects {
    induction: Vec<(HeadName, f64)>,
    others: Vec<(HeadName, f64)>,
}

impl Effects {
    fn of(player: &Player<'_>, downstream: Downstream) -> Option<Self> {
        let effects = player.removal_effects(downstream)?;
        let (induction, others) = effects.into_iter().partition(|(head, _)| player.kind(*head) == HeadKind::Induction);
        Some(Self { induction, others })
    }

    /// The induction heads' share of all that heads contribute.
    fn share(&self) -> Option<f64> {
        let induction: f64 = self.induction.iter().map(|(_, effect)| effect).sum();
        let positive: f64 = self.induction.iter().chain(&self.others).map(|(_, effect)| effect.max(0.0)).sum();
        (positive > 0.0).then(|| induction / positive)
    }

    fn not_helping(&self) -> usize {
        self.others.iter().filter(|(_, effect)| *effect <= 0.0).count()
    }

    fn show(&self) -> String {
        let each = |heads: &[(HeadName, f64)]| {
            heads.iter().map(|(head, effect)| format!("{head} {effect:+.3}")).collect::<Vec<_>>().join(", ")
        };
        format!("induction heads {}; others {}", each(&self.induction), each(&self.others))
    }
}

pub(super) fn share_of_effects(cast: &Cast<'_>) -> Option<f64> {
    Effects::of(cast.player(TWO)?, PLOTTED)?.share()
}

pub(super) fn q10(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let Some(effects) = Effects::of(two, PLOTTED) else { return not_ablated() };
    if effects.induction.is_empty() {
        return no_induction_head();
    }
    let share = effects.share();
    let carries = share.is_some_and(|share| share > Q10_SHARE_ABOVE);
    let (count, not_helping) = (effects.others.len(), effects.not_helping());
    let spared = not_helping as f64 >= Q10_OTHERS_FROM * count as f64;
    let full = Effects::of(two, Downstream::Full).map_or(String::new(), |full| {
        let share = full.share().map_or("undefined".to_string(), percent);
        format!(" With full ablations, which the paper did not publish: {share}; {}.", full.show())
    });
    let why = format!(
        "Change of the ICL score in nats without the head, patterns kept (above 0 it contributes): {}. {not_helping} of {count} other heads contribute nothing or less; if each side were as likely, so many or more would come with p = {:.3}.{full}",
        effects.show(),
        binomial_tail(count as u64, not_helping as u64)
    );
    let ours = format!("{} of what heads contribute", share.map_or("undefined share".to_string(), percent));
    Finding::new(graded(carries && spared, carries || spared), ours, why)
}

/// The least negative induction head's attribution along the before-and-after vector.
pub(super) fn weakest_undoing(cast: &Cast<'_>) -> Option<f64> {
    let two = cast.player(TWO)?;
    let along = two.before_after(two.window.as_ref().ok()?, PLOTTED, two.run.ablations.last()?)?;
    let induction = along.into_iter().filter(|(head, _)| two.kind(*head) == HeadKind::Induction);
    induction.map(|(_, along)| along).reduce(f64::max)
}

pub(super) fn q11(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    let window = window!(two);
    let Some(along) = two.run.ablations.last().and_then(|last| two.before_after(window, PLOTTED, last)) else {
        return not_ablated();
    };
    let is_induction = |head: &HeadName| two.kind(*head) == HeadKind::Induction;
    if !along.iter().any(|(head, _)| is_induction(head)) {
        return no_induction_head();
    }
    let negative = along.iter().filter(|(head, _)| is_induction(head)).all(|(_, along)| *along < 0.0);
    let lowest = along.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let first = lowest.is_some_and(|(head, _)| is_induction(head));
    let mut sorted = along.clone();
    sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
    let shown: Vec<String> = sorted
        .iter()
        .map(|(head, along)| format!("{head}{} {along:+.2}", if is_induction(head) { " (induction)" } else { "" }))
        .collect();
    let why = format!(
        "Change of the losses without a head along the direction in which they changed over the window, last snapshot, patterns kept, in nats times the root of the number of examples: {}.",
        shown.join(", ")
    );
    let ours = lowest.map_or(String::new(), |(head, along)| format!("most negative: head {head}, {along:+.2}"));
    Finding::new(graded(negative && first, negative || first), ours, why)
}

/// The share of the amount of ICL that is lost under a knockout.
fn lost(player: &Player<'_>, knockout: &Knockout) -> Option<f64> {
    let clean = player.knockout_icl(player.run.knockout("clean").next()?);
    (clean < 0.0).then(|| (player.knockout_icl(knockout) - clean) / -clean)
}

fn lost_under(player: &Player<'_>, name: &str, downstream: Downstream) -> Vec<f64> {
    let of = player.run.knockout(name).filter(|knockout| knockout.downstream == Some(downstream));
    of.filter_map(|knockout| lost(player, knockout)).collect()
}

/// Control sets of the best sort that there is.
fn controls(player: &Player<'_>, downstream: Downstream) -> (&'static str, Vec<f64>) {
    let matched = lost_under(player, "control-matched", downstream);
    if matched.is_empty() {
        return ("from any layer", lost_under(player, "control", downstream));
    }
    ("of the same layers", matched)
}

fn largest(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(f64::max)
}

pub(super) fn share_lost(cast: &Cast<'_>) -> Option<f64> {
    lost_under(cast.player(TWO)?, "induction-heads", PLOTTED).first().copied()
}

pub(super) fn lost_beyond_controls(cast: &Cast<'_>) -> Option<f64> {
    Some(share_lost(cast)? - largest(&controls(cast.player(TWO)?, PLOTTED).1)?)
}

pub(super) fn s1(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    if two.run.knockout("clean").next().is_none() {
        return not_ablated();
    }
    let Some(share) = share_lost(cast) else { return no_induction_head() };
    let beyond = lost_beyond_controls(cast);
    let (most, more) = (share > S1_SHARE_ABOVE, beyond.is_some_and(|beyond| beyond > 0.0));
    let heads = two.run.knockout("induction-heads").next().map_or(String::new(), |set| names(&set.heads));
    let each = |downstream: Downstream, words: &str| {
        let one = |name: &str| lost_under(two, name, downstream).first().map_or("none".to_string(), |&x| percent(x));
        let range = |values: &[f64]| match (values.iter().copied().reduce(f64::min), largest(values)) {
            (Some(low), Some(high)) => format!(
                "{} on average over {} ({} to {})",
                percent(values.iter().sum::<f64>() / values.len() as f64),
                if values.len() == 1 { "1 set".to_string() } else { format!("{} sets", values.len()) },
                percent(low),
                percent(high)
            ),
            _ => "none can be drawn".to_string(),
        };
        let (sort, matched) = controls(two, downstream);
        let mut text = format!(
            "{words}: without the induction heads {} is lost, without the previous-token heads {}, without as many other heads {sort} {}",
            one("induction-heads"),
            one("previous-token-heads"),
            range(&matched)
        );
        let any = lost_under(two, "control", downstream);
        if sort != "from any layer" && !any.is_empty() {
            text += &format!(", from any layer {}", range(&any));
        }
        text
    };
    let why = format!(
        "Share of the amount of ICL that is lost at the last snapshot; induction heads {heads}. {}. {}. A negative share means more ICL than before.",
        each(Downstream::PatternPreserving, "Patterns kept"),
        each(Downstream::Full, "Everything above free to change")
    );
    Finding::new(graded(most && more, most || more), format!("{} lost", percent(share)), why)
}

/// (removed - substituted) / (removed - whole), in mean loss.
fn recovered(player: &Player<'_>, pattern: &str) -> Option<(HeadName, f64)> {
    // They are in the order of their scores: the first is the strongest.
    let substitute = player.run.knockout("substitute").find(|knockout| knockout.detail == pattern)?;
    let head = *substitute.heads.first()?;
    let removed = player.run.knockout("remove").find(|knockout| knockout.heads == [head])?;
    let clean = player.knockout_loss(player.run.knockout("clean").next()?);
    let (removed, substituted) = (player.knockout_loss(removed), player.knockout_loss(substitute));
    (removed > clean).then(|| (head, (removed - substituted) / (removed - clean)))
}

fn recovered_share(cast: &Cast<'_>, pattern: &str) -> Option<f64> {
    recovered(cast.player(TWO)?, pattern).map(|(_, share)| share)
}

pub(super) fn recovered_previous(cast: &Cast<'_>) -> Option<f64> {
    recovered_share(cast, "previous-token")
}

pub(super) fn recovered_one(cast: &Cast<'_>) -> Option<f64> {
    recovered_share(cast, "induction-one-token")
}

pub(super) fn recovered_gain(cast: &Cast<'_>) -> Option<f64> {
    Some(recovered_share(cast, "induction-two-tokens")? - recovered_one(cast)?)
}

pub(super) fn r1(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    if two.run.knockout("clean").next().is_none() {
        return not_ablated();
    }
    let (previous, one, gain) = (recovered_previous(cast), recovered_one(cast), recovered_gain(cast));
    let holds = [
        previous.is_some_and(|share| share >= R1_PREVIOUS_FROM),
        one.is_some_and(|share| share >= R1_ONE_TOKEN_FROM),
        gain.is_some_and(|gain| gain > 0.0),
    ];
    let count = holds.iter().filter(|&&holds| holds).count();
    let shown = |share: Option<f64>| share.map_or("undefined".to_string(), percent);
    let head = |pattern: &str| recovered(two, pattern).map_or("none".to_string(), |(head, _)| head.to_string());
    let why = format!(
        "Share of the loss that removing a head costs, and that a pattern made from the tokens alone wins back, the head's values and output as they are. Previous token (head {}): {}. After an earlier copy of the token (head {}): {}; of the last two tokens: {} points more. Below 0 the pattern is worse than no head; undefined means that removing the head costs nothing, or that there is no such head.",
        head("previous-token"),
        shown(previous),
        head("induction-one-token"),
        shown(one),
        gain.map_or("undefined".to_string(), |gain| format!("{:.0}", 100.0 * gain)),
    );
    let two_tokens = one.zip(gain).map(|(one, gain)| one + gain);
    let ours = format!("{}, {}, {}", shown(previous), shown(one), shown(two_tokens));
    Finding::new(graded(count == 3, count == 2), ours, why)
}

/// What each cut path costs in ICL, in nats.
fn path_costs(player: &Player<'_>) -> Option<Vec<(HeadName, HeadName, String, f64)>> {
    let clean = player.knockout_icl(player.run.knockout("clean").next()?);
    let cost = |knockout: &Knockout| match knockout.heads[..] {
        [from, to] => Some((from, to, knockout.detail.clone(), player.knockout_icl(knockout) - clean)),
        _ => None,
    };
    Some(player.run.knockout("path").filter_map(cost).collect())
}

/// Cost of the path from the strongest previous-token head into the best induction head's keys, over that of removing
/// the induction head; and the largest cost of any other path.
fn composition(player: &Player<'_>) -> Option<(HeadName, HeadName, f64, f64)> {
    let costs = path_costs(player)?;
    let &(_, to, ..) = costs.first()?;
    let earlier = |kind: HeadKind| player.last_heads().iter().filter(move |head| player.kind(head.name()) == kind);
    let strongest = earlier(HeadKind::PreviousToken)
        .filter(|head| head.layer < to.layer)
        .max_by(|a, b| a.previous_token.total_cmp(&b.previous_token))?
        .name();
    let clean = player.knockout_icl(player.run.knockout("clean").next()?);
    let removed = player.run.knockout("remove").find(|knockout| knockout.heads == [to])?;
    let whole = player.knockout_icl(removed) - clean;
    let keys = costs.iter().find(|(from, _, into, _)| *from == strongest && into == "keys")?.3;
    let others = costs.iter().filter(|(from, _, into, _)| !(*from == strongest && into == "keys"));
    let other = others.map(|cost| cost.3).reduce(f64::max)?;
    (whole > 0.0).then(|| (strongest, to, keys / whole, other / whole))
}

pub(super) fn share_through_keys(cast: &Cast<'_>) -> Option<f64> {
    composition(cast.player(TWO)?).map(|(.., keys, _)| keys)
}

pub(super) fn keys_beyond_others(cast: &Cast<'_>) -> Option<f64> {
    composition(cast.player(TWO)?).map(|(.., keys, other)| keys - other)
}

pub(super) fn k1(cast: &Cast<'_>) -> Finding {
    let two = need!(cast, TWO);
    if two.run.knockout("clean").next().is_none() {
        return not_ablated();
    }
    let Some((from, to, keys, other)) = composition(two) else {
        let why = "There is no induction head that costs ICL when it is removed, or no previous-token head below it.";
        return Finding::new(Verdict::Not, "no such pair".to_string(), why.to_string());
    };
    let costs = path_costs(two).unwrap_or_default();
    let shown: Vec<String> =
        costs.iter().map(|(from, _, into, cost)| format!("{from} into {into} {cost:+.3}")).collect();
    let why = format!(
        "Cutting only what head {from} adds to head {to}'s keys costs {} of what removing head {to} costs, the largest other cut {}. Change of the ICL score in nats by cut: {}.",
        percent(keys),
        percent(other),
        shown.join(", ")
    );
    let (most, first) = (keys > K1_SHARE_ABOVE, keys > other);
    Finding::new(graded(most && first, most || first), format!("{} through the keys", percent(keys)), why)
}

pub(super) fn half_time_given(cast: &Cast<'_>) -> Option<f64> {
    let [vanilla, given] = [TWO, TWO_GIVEN].map(|part| cast.player(part).and_then(Player::max_half_time));
    Some(given? / vanilla?)
}

pub(super) fn p1(cast: &Cast<'_>) -> Finding {
    let (two, given) = (need!(cast, TWO), need!(cast, TWO_GIVEN));
    let ends = [two, given].map(|player| player.best_head().prefix_matching);
    let ratio = half_time_given(cast).filter(|_| ends.iter().all(|&end| end > INDUCTION_HEAD_ABOVE));
    let Some(ratio) = ratio else {
        let [vanilla, given] = ends.map(number);
        let why = format!(
            "Prefix matching ends at {vanilla} without and {given} with the given head; both must pass {INDUCTION_HEAD_ABOVE}."
        );
        return Finding::new(Verdict::Not, "no half time to compare".to_string(), why);
    };
    let half = |player: &Player<'_>| player.max_half_time().map_or("never".to_string(), tokens);
    let start = |player: &Player<'_>| match &player.window {
        Ok(window) => format!("{} to {}", tokens(window.start_tokens as f64), tokens(window.end_tokens as f64)),
        Err(reason) => format!("none ({reason})"),
    };
    let why = format!(
        "The highest prefix matching is half-way at {} tokens with the given head and at {} without; the window of the ICL score is {} with it and {} without. One run of each.",
        half(given),
        half(two),
        start(given),
        start(two)
    );
    Finding::new(graded(ratio < 1.0, false), format!("at {} of the tokens", percent(ratio)), why)
}

pub(super) fn share_without(cast: &Cast<'_>) -> Option<f64> {
    let (two, without) = (cast.player(TWO)?.last_amount(), cast.player(TWO_WITHOUT)?.last_amount());
    (two > 0.0).then(|| without / two)
}

pub(super) fn p2(cast: &Cast<'_>) -> Finding {
    let (_, without) = (need!(cast, TWO), need!(cast, TWO_WITHOUT));
    let share = share_without(cast);
    let little = share.is_some_and(|share| share < P2_SHARE_BELOW);
    let shown = share.map_or("undefined".to_string(), percent);
    let window = match &without.window {
        Ok(window) => format!(
            "its ICL score still has a window, from {} to {} tokens",
            tokens(window.start_tokens as f64),
            tokens(window.end_tokens as f64)
        ),
        Err(reason) => format!("there is no window: {reason}"),
    };
    let why = format!(
        "Forbidden to attend to what followed an earlier copy, the 2-layer run ends with {} nats of ICL, {shown} of what it has when free; {window}. It can still copy in other ways, for example by attending to the copy itself.",
        number(without.last_amount())
    );
    let none = without.window.is_err();
    Finding::new(graded(little && none, little || none), format!("{shown} of 2 layers' ICL"), why)
}
