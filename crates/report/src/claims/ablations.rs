//! The claims about what heads cause: removed, replaced by simple patterns, cut from each other,
//! clamped in training.

use induction_records::{Ablation, Downstream, HeadId, IdealPattern, KnockoutRow, Reads};

use super::{INDUCTION_HEAD_ABOVE, missing, need};
use crate::experiment::{
    Experiment, HeadKind, THREE, TWO, TWO_GIVEN, TWO_MLP, TWO_WITHOUT, Trained, Variant,
};
use crate::load::AblationPoint;
use crate::text::{number, percent, tokens};

const PLOTTED: Downstream = Downstream::PatternPreserving;

fn ablated(experiment: &Experiment<'_>, part: Variant) -> Result<(), String> {
    need(experiment, &[part])?;
    match experiment.model(part) {
        Some(model)
            if !model.run.ablations.is_empty() && model.run.knockout("clean").next().is_some() =>
        {
            Ok(())
        }
        _ => Err(format!(
            "The {} is not ablated: ablate it (`induction ablate RUN`), then report again.",
            part.run()
        )),
    }
}

pub(super) fn needs_ablated(experiment: &Experiment<'_>) -> Result<(), String> {
    ablated(experiment, TWO)
}

pub(super) fn needs_others_ablated(experiment: &Experiment<'_>) -> Result<(), String> {
    ablated(experiment, THREE)?;
    ablated(experiment, TWO_MLP)
}

pub(super) fn needs_given(experiment: &Experiment<'_>) -> Result<(), String> {
    need(experiment, &[TWO, TWO_GIVEN])
}

pub(super) fn needs_without(experiment: &Experiment<'_>) -> Result<(), String> {
    need(experiment, &[TWO, TWO_WITHOUT])?;
    super::controls::comes(experiment)
}

fn no_induction_head(model: &Trained<'_>) -> String {
    format!("No head of the {} ends above {}.", model.variant.run(), number(INDUCTION_HEAD_ABOVE))
}

fn names<'a>(heads: impl IntoIterator<Item = &'a HeadId>) -> String {
    heads.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What each head contributes to the same-token amount of ICL, in nats, split by what the heads
/// are.
struct Effects {
    induction: Vec<(HeadId, f64)>,
    others: Vec<(HeadId, f64)>,
}

impl Effects {
    fn new(model: &Trained<'_>, effects: Vec<(HeadId, f64)>) -> Self {
        let (induction, others) =
            effects.into_iter().partition(|(head, _)| model.kind(*head) == HeadKind::Induction);
        Self { induction, others }
    }

    fn at(model: &Trained<'_>, point: &AblationPoint, downstream: Downstream) -> Self {
        Self::new(model, model.removal_effects(point, downstream))
    }

    fn last(model: &Trained<'_>, downstream: Downstream) -> Option<Self> {
        Some(Self::at(model, model.run.ablations.last()?, downstream))
    }

    /// The same where a head is replaced by its mean, or by what it writes in another example.
    fn filled(model: &Trained<'_>, fill: &str) -> Option<Self> {
        let clean = model.knockout_score(model.run.knockout("clean").next()?);
        let of = model.run.knockout(fill).filter(|knockout| knockout.downstream() == Some(PLOTTED));
        let effects: Vec<_> = of
            .filter_map(|knockout| {
                Some((*knockout.heads().first()?, model.knockout_score(knockout) - clean))
            })
            .collect();
        (!effects.is_empty()).then(|| Self::new(model, effects))
    }

    /// The induction heads' share of what all heads contribute. The others count together, those
    /// among them that take from it included; where together they contribute nothing, all of it is
    /// the induction heads'.
    fn share(&self) -> Option<f64> {
        let sum = |heads: &[(HeadId, f64)]| heads.iter().map(|(_, effect)| effect).sum::<f64>();
        let (induction, others) = (sum(&self.induction), sum(&self.others));
        (induction > 0.0).then(|| induction / (induction + others.max(0.0)))
    }

    fn show(&self) -> String {
        let each = |heads: &[(HeadId, f64)]| {
            heads
                .iter()
                .map(|(head, effect)| format!("{head} {effect:+.3}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!("induction heads {}; others {}", each(&self.induction), each(&self.others))
    }
}

fn shown(share: Option<f64>) -> String {
    share.map_or("undefined".to_string(), percent)
}

fn share_in(experiment: &Experiment<'_>, part: Variant) -> Option<f64> {
    Effects::last(experiment.model(part)?, PLOTTED)?.share()
}

pub(super) fn share_of_effects(experiment: &Experiment<'_>) -> Option<f64> {
    share_in(experiment, TWO)
}

pub(super) fn share_in_three(experiment: &Experiment<'_>) -> Option<f64> {
    share_in(experiment, THREE)
}

pub(super) fn share_with_mlps(experiment: &Experiment<'_>) -> Option<f64> {
    share_in(experiment, TWO_MLP)
}

/// The share of the other heads that contribute nothing or less.
pub(super) fn others_not_helping(experiment: &Experiment<'_>) -> Option<f64> {
    let effects = Effects::last(experiment.model(TWO)?, PLOTTED)?;
    let sparing = effects.others.iter().filter(|(_, effect)| *effect <= 0.0).count();
    (!effects.induction.is_empty() && !effects.others.is_empty())
        .then(|| sparing as f64 / effects.others.len() as f64)
}

/// The share at each snapshot with removals from the window's end on.
fn shares_along(model: &Trained<'_>) -> Option<Vec<(u64, Option<f64>)>> {
    let end = model.window().ok()?.end_tokens;
    let after = model.run.ablations.iter().filter(|point| point.tokens >= end);
    Some(after.map(|point| (point.tokens, Effects::at(model, point, PLOTTED).share())).collect())
}

pub(super) fn least_share_along(experiment: &Experiment<'_>) -> Option<f64> {
    let shares = shares_along(experiment.model(TWO)?)?;
    shares
        .into_iter()
        .map(|(_, share)| share)
        .collect::<Option<Vec<f64>>>()?
        .into_iter()
        .reduce(f64::min)
}

pub(super) fn share_by_mean(experiment: &Experiment<'_>) -> Option<f64> {
    Effects::filled(experiment.model(TWO)?, "mean")?.share()
}

pub(super) fn share_by_resample(experiment: &Experiment<'_>) -> Option<f64> {
    Effects::filled(experiment.model(TWO)?, "resample")?.share()
}

pub(super) fn effects_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let (Some(kept), Some(full)) =
        (Effects::last(two, PLOTTED), Effects::last(two, Downstream::Full))
    else {
        return String::new();
    };
    if kept.induction.is_empty() {
        return no_induction_head(two);
    }
    format!(
        "Change of the same-token score in nats without the head, patterns kept (above 0 it contributes): {}. With everything above free to change, which the paper did not publish: {} of the sum; {}.",
        kept.show(),
        shown(full.share()),
        full.show()
    )
}

pub(super) fn along_in_words(experiment: &Experiment<'_>) -> String {
    let Some(shares) = experiment.model(TWO).and_then(shares_along) else {
        return effects_in_words(experiment);
    };
    let each: Vec<String> = shares
        .iter()
        .map(|(at, share)| format!("{} at {} tokens", shown(*share), tokens(*at as f64)))
        .collect();
    format!(
        "The induction heads' share of what all heads contribute, patterns kept: {}.",
        each.join(", ")
    )
}

pub(super) fn others_in_words(experiment: &Experiment<'_>) -> String {
    let each: Vec<String> = [THREE, TWO_MLP]
        .into_iter()
        .filter_map(|part| {
            let effects = Effects::last(experiment.model(part)?, PLOTTED)?;
            Some(format!("{}: {} ({})", part.label(), shown(effects.share()), effects.show()))
        })
        .collect();
    format!(
        "The induction heads' share of what all heads contribute, patterns kept. {}.",
        each.join(". ")
    )
}

pub(super) fn fills_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let each: Vec<String> = ["mean", "resample"]
        .into_iter()
        .filter_map(|fill| Some(format!("{fill}: {}", Effects::filled(two, fill)?.show())))
        .collect();
    format!(
        "Change of the same-token score in nats with each head's output replaced by its mean over examples, or by that in another example, patterns kept. {}.",
        each.join(". ")
    )
}

/// Each head's removal along the change, at the last snapshot.
fn along(model: &Trained<'_>) -> Option<(Vec<f64>, Vec<f64>)> {
    let along = model.before_after(PLOTTED, model.run.ablations.last()?)?;
    let (induction, others): (Vec<_>, Vec<_>) =
        along.into_iter().partition(|(head, _)| model.kind(*head) == HeadKind::Induction);
    let values = |heads: Vec<(HeadId, f64)>| heads.into_iter().map(|(_, along)| along).collect();
    Some((values(induction), values(others)))
}

/// The least negative induction head's.
pub(super) fn weakest_undoing(experiment: &Experiment<'_>) -> Option<f64> {
    along(experiment.model(TWO)?)?.0.into_iter().reduce(f64::max)
}

/// The most negative induction head's, less the most negative other head's.
pub(super) fn undoing_beyond_others(experiment: &Experiment<'_>) -> Option<f64> {
    let (induction, others) = along(experiment.model(TWO)?)?;
    Some(induction.into_iter().reduce(f64::min)? - others.into_iter().reduce(f64::min)?)
}

pub(super) fn undoing_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let Some(mut along) = two.run.ablations.last().and_then(|last| two.before_after(PLOTTED, last))
    else {
        return format!(
            "The {} has no change to be undone, or no induction head.",
            two.variant.run()
        );
    };
    along.sort_by(|a, b| a.1.total_cmp(&b.1));
    let shown: Vec<String> = along
        .iter()
        .map(|(head, along)| {
            let kind = if two.kind(*head) == HeadKind::Induction { " (induction)" } else { "" };
            format!("{head}{kind} {along:+.3}")
        })
        .collect();
    format!(
        "How removing a head moves the losses of all tokens along the direction in which the change moved them, as a share of the change (-1 undoes it); last snapshot, patterns kept: {}.",
        shown.join(", ")
    )
}

/// The share of the amount of ICL that is lost under a knockout.
fn lost(model: &Trained<'_>, knockout: &KnockoutRow) -> Option<f64> {
    let clean = model.knockout_score(model.run.knockout("clean").next()?);
    (clean < 0.0).then(|| (model.knockout_score(knockout) - clean) / -clean)
}

fn lost_under(model: &Trained<'_>, name: &str, downstream: Downstream) -> Vec<f64> {
    let of = model.run.knockout(name).filter(|knockout| knockout.downstream() == Some(downstream));
    of.filter_map(|knockout| lost(model, knockout)).collect()
}

/// Control sets of the best sort that there is.
fn controls(model: &Trained<'_>, downstream: Downstream) -> (&'static str, Vec<f64>) {
    let matched = lost_under(model, "control-matched", downstream);
    if matched.is_empty() {
        return ("from any layer", lost_under(model, "control", downstream));
    }
    ("of the same layers", matched)
}

fn largest(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(f64::max)
}

pub(super) fn share_lost(experiment: &Experiment<'_>) -> Option<f64> {
    lost_under(experiment.model(TWO)?, "induction-heads", PLOTTED).first().copied()
}

pub(super) fn lost_beyond_controls(experiment: &Experiment<'_>) -> Option<f64> {
    Some(share_lost(experiment)? - largest(&controls(experiment.model(TWO)?, PLOTTED).1)?)
}

pub(super) fn sets_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let Some(set) = two.run.knockout("induction-heads").next() else {
        return no_induction_head(two);
    };
    let each = |downstream: Downstream, words: &str| {
        let one = |name: &str| {
            lost_under(two, name, downstream).first().map_or("none".to_string(), |&x| percent(x))
        };
        let range =
            |values: &[f64]| match (values.iter().copied().reduce(f64::min), largest(values)) {
                (Some(low), Some(high)) => format!(
                    "{} on average over {} ({} to {})",
                    percent(values.iter().sum::<f64>() / values.len() as f64),
                    if values.len() == 1 {
                        "1 set".to_string()
                    } else {
                        format!("{} sets", values.len())
                    },
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
    format!(
        "Share of the same-token amount of ICL that is lost at the last snapshot; induction heads {}. {}. {}. A negative share means more ICL than before.",
        names(&set.heads()),
        each(Downstream::PatternPreserving, "Patterns kept"),
        each(Downstream::Full, "Everything above free to change")
    )
}

/// (removed - substituted) / (removed - whole), in mean loss.
fn recovered(model: &Trained<'_>, pattern: IdealPattern) -> Option<(HeadId, f64)> {
    // They are in the order of their scores: the first is the strongest.
    let (substitute, head) =
        model.run.knockout("substitute").find_map(|knockout| match knockout.ablation {
            Some(Ablation::Substitute { head, pattern: of }) if of == pattern => {
                Some((knockout, head))
            }
            _ => None,
        })?;
    let removed = model.run.knockout("remove").find(|knockout| knockout.heads() == [head])?;
    let clean = model.knockout_loss(model.run.knockout("clean").next()?);
    let (removed, substituted) = (model.knockout_loss(removed), model.knockout_loss(substitute));
    (removed > clean).then(|| (head, (removed - substituted) / (removed - clean)))
}

fn recovered_share(experiment: &Experiment<'_>, pattern: IdealPattern) -> Option<f64> {
    recovered(experiment.model(TWO)?, pattern).map(|(_, share)| share)
}

pub(super) fn recovered_previous(experiment: &Experiment<'_>) -> Option<f64> {
    recovered_share(experiment, IdealPattern::PreviousToken)
}

pub(super) fn recovered_one(experiment: &Experiment<'_>) -> Option<f64> {
    recovered_share(experiment, IdealPattern::InductionOneToken)
}

pub(super) fn recovered_gain(experiment: &Experiment<'_>) -> Option<f64> {
    Some(
        recovered_share(experiment, IdealPattern::InductionTwoTokens)? - recovered_one(experiment)?,
    )
}

pub(super) fn recovered_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let head = |pattern: IdealPattern| {
        recovered(two, pattern).map_or("none".to_string(), |(head, _)| head.to_string())
    };
    format!(
        "Share of the loss that removing a head costs, and that a pattern made from the tokens alone wins back, the head's values and output as they are. Previous token (head {}): {}. After an earlier copy of the token (head {}): {}; of the last two tokens: {} points more. Below 0 the pattern is worse than no head; undefined means that removing the head costs nothing, or that there is no such head.",
        head(IdealPattern::PreviousToken),
        shown(recovered_previous(experiment)),
        head(IdealPattern::InductionOneToken),
        shown(recovered_one(experiment)),
        recovered_gain(experiment)
            .map_or("undefined".to_string(), |gain| format!("{:.0}", 100.0 * gain)),
    )
}

/// What each cut costs in same-token ICL, in nats: what it cut, into what.
fn cut_costs(model: &Trained<'_>, name: &str) -> Option<Vec<(Vec<HeadId>, Reads, f64)>> {
    let clean = model.knockout_score(model.run.knockout("clean").next()?);
    let cost = |knockout: &KnockoutRow| {
        let (from, into) = match knockout.ablation.as_ref()? {
            Ablation::Path { from, into, .. } => (vec![*from], *into),
            Ablation::Paths { from, into, .. } => (from.clone(), *into),
            _ => return None,
        };
        Some((from, into, model.knockout_score(knockout) - clean))
    };
    Some(model.run.knockout(name).filter_map(cost).collect())
}

/// The best induction head; what cutting all previous-token heads out of its keys costs, over what
/// removing it costs; and the largest cost of any cut that leaves this path whole.
fn composition(model: &Trained<'_>) -> Option<(HeadId, f64, f64)> {
    let to = *model.run.knockout("paths-previous-token").next()?.heads().last()?;
    let clean = model.knockout_score(model.run.knockout("clean").next()?);
    let removed = model.run.knockout("remove").find(|knockout| knockout.heads() == [to])?;
    let whole = model.knockout_score(removed) - clean;
    let (keys, beside): (Vec<_>, Vec<_>) = cut_costs(model, "paths-previous-token")?
        .into_iter()
        .partition(|(_, into, _)| *into == Reads::Keys);
    let (previous, _, keys) = keys.into_iter().next()?;
    let single = cut_costs(model, "path")?.into_iter();
    let elsewhere = single.filter(|(from, into, _)| {
        *into != Reads::Keys || from.iter().all(|head| !previous.contains(head))
    });
    let others = cut_costs(model, "paths-others")?.into_iter().chain(beside).chain(elsewhere);
    let other = others.map(|(.., cost)| cost).reduce(f64::max)?;
    (whole > 0.0).then(|| (to, keys / whole, other / whole))
}

pub(super) fn share_through_keys(experiment: &Experiment<'_>) -> Option<f64> {
    composition(experiment.model(TWO)?).map(|(_, keys, _)| keys)
}

pub(super) fn keys_beyond_others(experiment: &Experiment<'_>) -> Option<f64> {
    composition(experiment.model(TWO)?).map(|(_, keys, other)| keys - other)
}

pub(super) fn paths_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let Some((to, keys, other)) = composition(two) else {
        return "There is no induction head that costs ICL when it is removed, or no previous-token head below it."
            .to_string();
    };
    let each = ["paths-previous-token", "paths-others", "path"]
        .into_iter()
        .flat_map(|name| cut_costs(two, name).unwrap_or_default());
    let costs: Vec<String> =
        each.map(|(from, into, cost)| format!("{} into {into} {cost:+.3}", names(&from))).collect();
    format!(
        "Cutting only what the previous-token heads add to head {to}'s keys costs {} of what removing head {to} costs, the largest other cut {}. Change of the same-token score in nats by cut: {}.",
        percent(keys),
        percent(other),
        costs.join(", ")
    )
}

/// When the previous-token head is half-way, over when prefix matching is.
pub(super) fn previous_to_matching(experiment: &Experiment<'_>) -> Option<f64> {
    let two = experiment.model(TWO).filter(|two| two.has_induction_head())?;
    Some(two.previous_half_time()? / two.max_half_time()?)
}

/// Where the best head's recall through K-composition is half-way, in the window.
pub(super) fn composition_place(experiment: &Experiment<'_>) -> Option<f64> {
    let two = experiment.model(TWO).filter(|two| two.has_induction_head())?;
    Some(two.window().ok()?.place(two.composition_half_time()?))
}

pub(super) fn progress_in_words(experiment: &Experiment<'_>) -> String {
    let Some(two) = experiment.model(TWO) else { return missing(TWO) };
    let at = |time: Option<f64>| {
        time.map_or("at no time".to_string(), |at| format!("at {} tokens", tokens(at)))
    };
    format!(
        "The highest previous-token score below the best head is half-way {}, the highest prefix matching {}, what the best head's keys recall through K-composition {}. {}",
        at(two.previous_half_time()),
        at(two.max_half_time()),
        at(two.composition_half_time()),
        super::change::window_in_words(experiment)
    )
}

pub(super) fn half_time_given(experiment: &Experiment<'_>) -> Option<f64> {
    let half =
        |part| experiment.model(part).filter(|model| model.has_induction_head())?.max_half_time();
    Some(half(TWO_GIVEN)? / half(TWO)?)
}

pub(super) fn given_in_words(experiment: &Experiment<'_>) -> String {
    let each: Vec<String> = [TWO_GIVEN, TWO]
        .into_iter()
        .filter_map(|part| {
            let model = experiment.model(part)?;
            let half = model
                .max_half_time()
                .map_or("never".to_string(), |at| format!("at {} tokens", tokens(at)));
            let window = match model.window() {
                Ok(window) => format!(
                    "its window is {} to {}",
                    tokens(window.start_tokens as f64),
                    tokens(window.end_tokens as f64)
                ),
                Err(reason) => format!("there is no window: {reason}"),
            };
            let best = number(model.best_head().prefix_matching);
            Some(format!(
                "{}: the highest prefix matching ends at {best}, half of it {half}; {window}",
                part.label()
            ))
        })
        .collect();
    format!("{}.", each.join(". "))
}

/// What is left of the amount without induction, as a share of the free model's, which must have
/// gone through the change.
pub(super) fn share_without(experiment: &Experiment<'_>) -> Option<f64> {
    let two = experiment.model(TWO).filter(|two| two.window().is_ok())?;
    Some(
        experiment.model(TWO_WITHOUT)?.last_amount()
            / Some(two.last_amount()).filter(|end| *end > 0.0)?,
    )
}

/// 1 if the model that may not attend so has a window, too.
pub(super) fn window_without(experiment: &Experiment<'_>) -> Option<f64> {
    experiment.model(TWO)?.window().ok()?;
    Some(f64::from(u8::from(experiment.model(TWO_WITHOUT)?.window().is_ok())))
}

pub(super) fn without_in_words(experiment: &Experiment<'_>) -> String {
    let Some(without) = experiment.model(TWO_WITHOUT) else { return missing(TWO_WITHOUT) };
    let window = match without.window() {
        Ok(window) => format!(
            "its score still has a window, from {} to {} tokens",
            tokens(window.start_tokens as f64),
            tokens(window.end_tokens as f64)
        ),
        Err(reason) => format!("there is no window: {reason}"),
    };
    format!(
        "Forbidden to attend to what followed an earlier copy, the 2-layer run ends with {} nats of ICL, {} of what it has when free; {window}. It can still copy in other ways, for example by attending to the copy itself.",
        number(without.last_amount()),
        shown(share_without(experiment))
    )
}
