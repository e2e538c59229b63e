//! The claims about trained models, from scans of them.

use induction_records::{
    BEHAVIOURS, BehaviourScores, Cause, CutHeads, CutOn, GoesWith, RemovedKind, ScanHead,
};

use super::limits::{
    M4_ERRORS, M4_TIMES_CHANCE, M6_PREFIX_MATCHING_FROM, M6_SECOND_BELOW, M6_TIMES_CONTROL,
    M8_AS_MUCH, M8_CONTROL_AT_MOST, M8_PARTLY, Q23_COPYING_BELOW, Q23_LAYERS_ABOVE,
};
use super::{Claim, Finding, INDUCTION_HEAD_ABOVE, Rule, Verdict, claim, graded};
use crate::load::Scan;
use crate::text::{number, percent};

/// How many standard errors an interval of 95 % reaches to each side.
const REACH: f64 = 1.96;

/// The models that claims are about: of each series (folders in a folder) the last.
pub(crate) fn last_of_each(scans: &[Scan]) -> Vec<&Scan> {
    let mut each: Vec<&Scan> = Vec::new();
    for scan in scans {
        match each.last_mut() {
            Some(last) if series_of(last).is_some() && series_of(last) == series_of(scan) => {
                *last = scan;
            }
            _ => each.push(scan),
        }
    }
    each
}

/// The folder that a scan's own lies in, if it is one of a series.
pub(crate) fn series_of(scan: &Scan) -> Option<&str> {
    scan.folder.split_once('/').map(|(series, _)| series)
}

/// Whether a model predicts plain text no better than one that knows nothing: random weights, as a
/// control, or files that are read wrongly.
pub(crate) fn is_untrained(scan: &Scan) -> bool {
    let uniform = (scan.found.model.d_vocab as f64).ln();
    scan.found.how.prompt_loss.is_some_and(|loss| loss > uniform)
}

/// The largest model that can answer decides, chosen without a look at the answer; the others are
/// told. Models that know nothing are told as controls.
pub(super) fn judge_one(rule: &Rule, judge: fn(&Scan) -> Finding, scans: &[&Scan]) -> Claim {
    let (controls, scans): (Vec<&Scan>, Vec<&Scan>) =
        scans.iter().partition(|scan| is_untrained(scan));
    let mut found: Vec<(&Scan, Finding)> =
        scans.into_iter().map(|scan| (scan, judge(scan))).collect();
    // A scan on some of the tokens is a variation, of which there could be many: it never speaks
    // for a model.
    let size = |(scan, finding): &(&Scan, Finding)| {
        (
            finding.verdict != Verdict::OutOfReach,
            scan.found.ids_below.is_none(),
            scan.found.model.n_params,
        )
    };
    // Of equals the last: checkpoints are named in order.
    let Some(lead) = (0..found.len()).max_by_key(|&k| size(&found[k])) else {
        let names: Vec<String> = controls.iter().map(|scan| scan.title()).collect();
        let why = match names.as_slice() {
            [] => {
                "No trained model is scanned: `induction scan MODEL --out DIR/models/NAME` does it."
                    .to_string()
            }
            names => format!(
                "What is scanned predicts plain text no better than chance would, so its weights are random, or its files are read wrongly: {}.",
                names.join(", ")
            ),
        };
        return claim(
            rule,
            Finding::new(Verdict::OutOfReach, String::new(), why),
            None,
            String::new(),
        );
    };
    let (scan, mut finding) = found.remove(lead);
    finding.why = format!("{}: {}", scan.title(), finding.why);
    let interval = finding.interval.take();
    let told: Vec<String> = found
        .iter()
        .filter(|(_, other)| other.verdict != Verdict::OutOfReach)
        .map(|(scan, other)| {
            format!("{}: {}, {}", scan.title(), other.ours, other.verdict.phrase())
        })
        .collect();
    let others = match told.as_slice() {
        _ if finding.verdict == Verdict::OutOfReach => String::new(),
        [] => " One model: how far another would differ is unknown.".to_string(),
        told => format!(" Other scans, same rule: {}.", told.join("; ")),
    };
    let controls: Vec<String> =
        controls.iter().map(|scan| format!("{} ({})", scan.title(), judge(scan).ours)).collect();
    let others = match controls.as_slice() {
        [] => others,
        names => format!(
            "{others} Not judged, since they predict plain text no better than chance would: {}.",
            names.join("; ")
        ),
    };
    claim(rule, finding, interval, others)
}

/// Of the heads that match prefixes, the one with the largest share of its attention on a
/// behaviour's right places.
pub(crate) fn best_matching<'s>(scan: &'s Scan, behaviour: &str) -> Option<&'s BehaviourScores> {
    let matches = |score: &&BehaviourScores| {
        scan.head(score.id()).is_some_and(|head| head.prefix_matching() > INDUCTION_HEAD_ABOVE)
    };
    best(scan.found.behaviours.iter().filter(|score| score.behaviour == behaviour).filter(matches))
}

/// The same of all heads.
pub(crate) fn best_of_all<'s>(scan: &'s Scan, behaviour: &str) -> Option<&'s BehaviourScores> {
    best(scan.found.behaviours.iter().filter(|score| score.behaviour == behaviour))
}

fn best<'s>(scores: impl Iterator<Item = &'s BehaviourScores>) -> Option<&'s BehaviourScores> {
    scores.reduce(|best, score| if score.share > best.share { score } else { best })
}

fn count_matching(scan: &Scan) -> usize {
    scan.matching(INDUCTION_HEAD_ABOVE).count()
}

/// What no head matching prefixes means.
fn no_head(scan: &Scan) -> Finding {
    let best = scan.best_head();
    let why = format!(
        "no head's prefix matching is above {}; the best is that of head {}, {}.",
        number(INDUCTION_HEAD_ABOVE),
        best.id(),
        number(best.prefix_matching())
    );
    Finding::new(Verdict::Not, "no head that matches prefixes".to_string(), why)
}

/// Notes that a number's interval reaches across a limit.
fn hold_against(
    finding: &mut Finding,
    name: &str,
    value: f64,
    stderr: Option<f64>,
    limit: f64,
    shown: &str,
) {
    let reach = REACH * stderr.unwrap_or_default();
    if reach > 0.0 && (value - limit).abs() < reach {
        finding.inside_noise = true;
        finding.notes.push(format!(
            "The 95 % interval of {name} reaches across the limit of {shown}: the verdict is inside the noise."
        ));
    }
}

/// "0.10 to 0.20"
fn interval_of(value: f64, stderr: Option<f64>, show: fn(f64) -> String) -> Option<String> {
    let reach = REACH * stderr?;
    Some(format!("{} to {}", show(value - reach), show(value + reach)))
}

fn intervals(parts: impl Iterator<Item = (&'static str, Option<String>)>) -> Option<String> {
    let shown: Vec<String> =
        parts.filter_map(|(name, interval)| Some(format!("{name} {}", interval?))).collect();
    (!shown.is_empty()).then(|| shown.join("; "))
}

pub(super) fn m4(scan: &Scan) -> Finding {
    if scan.found.behaviours.is_empty() {
        let why = "its heads did not read the prompts: they need a tokenizer, and a context that holds them.";
        return Finding::new(Verdict::OutOfReach, String::new(), why.to_string());
    }
    if count_matching(scan) == 0 {
        return no_head(scan);
    }
    let found: Vec<(&'static str, &BehaviourScores)> =
        BEHAVIOURS.iter().filter_map(|name| Some((*name, best_matching(scan, name)?))).collect();
    let beyond = |score: &BehaviourScores| score.share_among - score.chance_among;
    let holds = |score: &BehaviourScores| {
        score.share > M4_TIMES_CHANCE * score.chance
            // Of one prompt nothing is known of the noise.
            && score.share_among_stderr.is_some_and(|stderr| beyond(score) > M4_ERRORS * stderr)
    };
    let held = found.iter().filter(|(_, score)| holds(score)).count();
    let ours: Vec<String> = found
        .iter()
        .map(|(name, score)| {
            format!("{name} {} (chance {})", percent(score.share), percent(score.chance))
        })
        .collect();
    let each: Vec<String> = found
        .iter()
        .map(|(name, score)| {
            format!(
                "{name} {}, head {}: {} of its attention on right places ({} by chance), of that on places of the kind {} ({} by chance)",
                if holds(score) { "holds" } else { "does not hold" },
                score.id(),
                percent(score.share),
                percent(score.chance),
                percent(score.share_among),
                percent(score.chance_among)
            )
        })
        .collect();
    let missing: Vec<&str> = BEHAVIOURS
        .into_iter()
        .filter(|name| found.iter().all(|(other, _)| other != name))
        .collect();
    let why = format!(
        "{}. Each is the largest of {} heads with prefix matching above {}, so expect it to lie a little high.",
        each.join("; "),
        count_matching(scan),
        number(INDUCTION_HEAD_ABOVE)
    );
    let mut finding =
        Finding::new(graded(held == BEHAVIOURS.len(), held > 0), ours.join(", "), why)
            .note_if(!missing.is_empty(), || format!("Not read: {}.", missing.join(", ")));
    for (name, score) in &found {
        let limit = M4_TIMES_CHANCE * score.chance;
        hold_against(&mut finding, name, score.share, score.share_stderr, limit, &percent(limit));
    }
    finding.interval = intervals(
        found
            .iter()
            .map(|(name, score)| (*name, interval_of(score.share, score.share_stderr, percent))),
    );
    finding
}

pub(super) fn m6(scan: &Scan) -> Finding {
    let best = scan.best_head();
    let (first, second) = (scan.found.repeated.first, scan.found.repeated.second);
    let of_kind = |kind: RemovedKind| scan.removed().iter().filter(move |set| set.kind == kind);
    let without = of_kind(RemovedKind::Induction).next();
    let matched = of_kind(RemovedKind::Matched).next().is_some();
    let kind = if matched { RemovedKind::Matched } else { RemovedKind::Any };
    let control = of_kind(kind).map(|set| set.second_change).reduce(f64::max);
    let forms = best.prefix_matching() >= M6_PREFIX_MATCHING_FROM;
    let copies = second < M6_SECOND_BELOW * first;
    let carried = match (without, control) {
        (Some(set), Some(control)) => {
            set.second_change > 0.0 && set.second_change >= M6_TIMES_CONTROL * control
        }
        _ => false,
    };
    let held = [forms, copies, carried].into_iter().filter(|holds| *holds).count();
    let losses =
        format!("{} and {} nats for the first and second copy", number(first), number(second));
    let layers = if matched { "of the same layers" } else { "of any layer" };
    let (change, removal) = match (without, control) {
        (Some(set), Some(control)) => (
            format!("; without {} heads {} more", set.heads.len(), number(set.second_change)),
            format!(
                "without the {} heads with prefix matching above {} the second copy costs {} nats more, without as many random heads {layers} {} at most",
                set.heads.len(),
                number(INDUCTION_HEAD_ABOVE),
                number(set.second_change),
                number(control)
            ),
        ),
        (Some(_), None) => (String::new(), "there are too few other heads to remove".to_string()),
        (None, _) => (
            String::new(),
            format!("no head matches prefixes above {}", number(INDUCTION_HEAD_ABOVE)),
        ),
    };
    let ours = format!("prefix matching {}; {losses}{change}", number(best.prefix_matching()));
    let why = format!(
        "head {} matches prefixes best, {} (at least {} asked); repeated random tokens cost {losses} (less than {} of the first asked); {removal} (at least {M6_TIMES_CONTROL:.0} times asked).",
        best.id(),
        number(best.prefix_matching()),
        number(M6_PREFIX_MATCHING_FROM),
        percent(M6_SECOND_BELOW)
    );
    let mut finding = Finding::new(graded(held == 3, held > 0), ours, why);
    let limit = M6_PREFIX_MATCHING_FROM;
    let name = "prefix matching";
    hold_against(
        &mut finding,
        name,
        best.prefix_matching(),
        best.measure("prefix_matching_stderr"),
        limit,
        &number(limit),
    );
    let limit = M6_SECOND_BELOW * first;
    hold_against(
        &mut finding,
        "the second copy",
        second,
        scan.found.repeated.second_stderr,
        limit,
        &number(limit),
    );
    if let (Some(set), Some(control)) = (without, control) {
        let limit = (M6_TIMES_CONTROL * control).max(0.0);
        hold_against(
            &mut finding,
            "the rise",
            set.second_change,
            set.second_change_stderr,
            limit,
            &number(limit),
        );
    }
    finding.interval = intervals(
        [
            (
                "prefix matching",
                interval_of(best.prefix_matching(), best.measure("prefix_matching_stderr"), number),
            ),
            ("second copy", interval_of(second, scan.found.repeated.second_stderr, number)),
            (
                "rise",
                without.and_then(|set| {
                    interval_of(set.second_change, set.second_change_stderr, number)
                }),
            ),
        ]
        .into_iter(),
    );
    finding
}

/// What a scan with `--prompts 0` lacks.
fn not_asked() -> Finding {
    let why = "what its heads do by cause was not asked, or it has no tokenizer, or too short a context: `induction scan MODEL --prompts 16` asks.";
    Finding::new(Verdict::OutOfReach, String::new(), why.to_string())
}

pub(super) fn m7(scan: &Scan) -> Finding {
    let of = |cause: Cause| scan.found.causes.iter().find(|of| of.cause == cause)?.matching;
    let (Some(tokens), Some(words)) = (of(Cause::TokenCopying), of(Cause::ConceptCopying)) else {
        return not_asked();
    };
    let lower = words.rank_correlation < tokens.rank_correlation;
    let apart = words.high < tokens.low;
    let said = |of: &GoesWith| {
        format!("{} ({} to {})", number(of.rank_correlation), number(of.low), number(of.high))
    };
    let ours = format!(
        "rho {} for words, {} for tokens",
        number(words.rank_correlation),
        number(tokens.rank_correlation)
    );
    let why = format!(
        "over {} heads, prefix matching goes with copying random tokens by a rank correlation of {}, with copying words by {}; the intervals {}.",
        scan.found.heads.len(),
        said(&tokens),
        said(&words),
        if apart { "do not meet" } else { "meet" }
    );
    let mut finding = Finding::new(graded(lower && apart, lower), ours, why);
    let shown = |of: &GoesWith| Some(format!("{} to {}", number(of.low), number(of.high)));
    finding.interval =
        intervals([("words", shown(&words)), ("tokens", shown(&tokens))].into_iter());
    finding
}

pub(super) fn m8(scan: &Scan) -> Finding {
    let on_repeats =
        |set: &CutHeads| set.worth.iter().find(|worth| worth.on == CutOn::Repeats).cloned();
    let sets = &scan.found.cut;
    let Some(at) = sets.iter().rposition(|set| !set.is_control) else { return not_asked() };
    let Some(best) = on_repeats(&sets[at]) else { return not_asked() };
    let control = sets.get(at + 1).and_then(on_repeats);
    let count = sets[at].heads.len();
    let (heads, them) = match count {
        1 => ("head that matches prefixes best".to_string(), "it"),
        count => (format!("{count} heads that match prefixes best"), "them"),
    };
    if best.removed <= 0.0 {
        let why = format!("without the {heads} nothing is lost.");
        return Finding::new(Verdict::Not, "nothing is lost".to_string(), why);
    }
    let share = best.cut / best.removed;
    let within = |[low, high]: [f64; 2]| (low..=high).contains(&share);
    let few = control.as_ref().is_some_and(|control| control.cut <= M8_CONTROL_AT_MOST * best.cut);
    let ours = format!("{} of {} nats", number(best.cut), number(best.removed));
    let why = format!(
        "without the pattern of the {heads} the second copy costs {} nats more, without {them} {} ({}; {} to {} asked); without that of as many random heads of the same layers {} (at most {} asked).",
        number(best.cut),
        number(best.removed),
        percent(share),
        percent(M8_AS_MUCH[0]),
        percent(M8_AS_MUCH[1]),
        control.as_ref().map_or("it was not measured".to_string(), |control| number(control.cut)),
        number(M8_CONTROL_AT_MOST * best.cut)
    );
    let mut finding = Finding::new(graded(within(M8_AS_MUCH) && few, within(M8_PARTLY)), ours, why);
    // The cut's alone: both costs are taken on the same sequences, and go together.
    let stderr = best.cut_stderr.map(|stderr| stderr / best.removed);
    for limit in M8_AS_MUCH {
        hold_against(&mut finding, "the share", share, stderr, limit, &percent(limit));
    }
    finding.interval = intervals([("share", interval_of(share, stderr, percent))].into_iter());
    finding
}

pub(super) fn q23(scan: &Scan) -> Finding {
    let n_layers = scan.found.model.n_layers;
    let copying = |head: &ScanHead| head.copying().unwrap_or_default();
    let negative: Vec<&ScanHead> =
        scan.matching(INDUCTION_HEAD_ABOVE).filter(|head| copying(head) < 0.0).collect();
    let opposite = negative.iter().filter(|head| copying(head) < Q23_COPYING_BELOW).count();
    let lowest = negative
        .iter()
        .copied()
        .reduce(|low, head| if copying(head) < copying(low) { head } else { low });
    let deep = n_layers > Q23_LAYERS_ABOVE;
    let verdict = graded(deep && opposite > 0, !negative.is_empty());
    let ours = format!("{opposite} of {} heads that match prefixes", count_matching(scan));
    let why = format!(
        "of {} heads with prefix matching above {}, {} have a copying score below 0 and {opposite} one below {}{}; {n_layers} layers. So low a score says that the token attended to is raised less than others; whether it is lowered, the score does not see.",
        count_matching(scan),
        number(INDUCTION_HEAD_ABOVE),
        negative.len(),
        number(Q23_COPYING_BELOW),
        lowest.map_or(String::new(), |head| format!(
            " (the lowest: head {}, {})",
            head.id(),
            number(copying(head))
        ))
    );
    let mut finding = Finding::new(verdict, ours, why);
    if let Some(head) = lowest {
        let limit = Q23_COPYING_BELOW;
        hold_against(
            &mut finding,
            "the lowest score",
            copying(head),
            head.measure("copying_stderr"),
            limit,
            &number(limit),
        );
        finding.interval = intervals(
            [("lowest score", interval_of(copying(head), head.measure("copying_stderr"), number))]
                .into_iter(),
        );
    }
    finding
}
