//! The figures about what heads cause: removed one by one, and clamped in training.

use induction_records::{Downstream, HeadId};

use super::{
    ABLATIONS, Figure, ICL, KNOCKOUTS, Line, Panel, axis, capital, colour, files, icl_band,
    icl_line, icl_range, icl_summary, line, own_window, tokens_axis, verdicts, window_of,
};
use crate::Claim;
use crate::experiment::{Experiment, HeadKind, TWO, Trained};
use crate::load::AblationPoint;
use crate::text::{number, rounded};

/// The score and the highest prefix matching of some models beside the 2-layer one; what the second
/// says is the caller's.
pub(super) fn beside(lead: &Experiment<'_>, trained: &[&Trained<'_>]) -> [Panel; 2] {
    let mut icl = Panel::new("Same-token score", tokens_axis(), axis("same-token score (nats)"));
    let mut matching =
        Panel::new("Highest prefix matching", tokens_axis(), axis("prefix-matching score"));
    (icl.window, matching.window) = (window_of(lead), window_of(lead));
    for model in trained {
        icl.bands.push(icl_band(model));
        icl.lines.push(icl_line(model));
        let points = model.run.heads.iter().map(|point| {
            let best = point.rows.iter().map(|head| head.prefix_matching).fold(0.0, f64::max);
            (point.tokens as f64, best)
        });
        matching.lines.push(line(model.variant.label(), colour(model.variant), points));
    }
    icl.y.range = Some(icl_range(trained));
    matching.y.range = Some([0.0, 1.0]);
    icl.summary = trained.iter().map(|model| icl_summary(model)).collect::<Vec<_>>().join(" ");
    [icl, matching]
}

/// Argument 2 by intervention; nothing if no clamped model is there.
pub(super) fn clamps(lead: &Experiment<'_>, claims: &[Claim]) -> Option<Figure> {
    let trained: Vec<&Trained<'_>> = lead
        .everybody()
        .filter(|model| model.variant == TWO || model.variant.clamp.is_some())
        .collect();
    if trained.iter().all(|model| model.variant.clamp.is_none()) {
        return None;
    }
    let [icl, mut matching] = beside(lead, &trained);
    let ends: Vec<String> = trained
        .iter()
        .map(|model| {
            format!("{}: {}", model.variant.label(), number(model.best_head().prefix_matching))
        })
        .collect();
    matching.summary = format!("Highest prefix matching at the end. {}.", ends.join("; "));
    Some(Figure {
        id: "clamps",
        title: "Attention clamped while the model learns",
        drawn: "The 2-layer model, free and with its attention clamped from the first step on: one head of the first layer made a perfect previous-token head, or every head forbidden to attend to what followed an earlier copy of the current token. First the same-token score with 95 % interval, then the highest prefix matching of any head. Shaded: the free model's window. It shows what the change waits for and what it needs in these models; not that nothing else could take an induction head's place in larger ones.".to_string(),
        paper: "Not done. Argument 2 changes the architecture (smeared keys) and sees both curves move together.",
        here: format!("{} {} {}", icl.summary, matching.summary, verdicts(claims, &["P1", "P2"])),
        files: files(trained.iter().copied(), ICL),
        panels: vec![icl, matching],
        ..Figure::empty()
    })
}

/// Pink, dark purple and yellow-green, as in the paper; apart in lightness too.
fn kind_colour(kind: HeadKind) -> [String; 2] {
    let pair = match kind {
        HeadKind::PreviousToken => ["#d6489a", "#ff86c8"],
        HeadKind::Induction => ["#46177f", "#b48cff"],
        HeadKind::Other => ["#8a9a1c", "#c9d64f"],
    };
    pair.map(str::to_string)
}

fn kind_words(kind: HeadKind) -> &'static str {
    match kind {
        HeadKind::PreviousToken => "previous-token",
        HeadKind::Induction => "induction",
        HeadKind::Other => "other",
    }
}

/// A line a head over training, by what the head ends as.
fn kind_lines(
    model: &Trained<'_>,
    value: impl Fn(&AblationPoint) -> Option<Vec<(HeadId, f64)>>,
) -> Vec<Line> {
    let points: Vec<(f64, Vec<(HeadId, f64)>)> = model
        .run
        .ablations
        .iter()
        .filter_map(|point| Some((point.tokens as f64, value(point)?)))
        .collect();
    let Some((_, heads)) = points.first() else { return Vec::new() };
    let mut lines = Vec::new();
    // Induction heads last, so that they lie on top.
    for kind in [HeadKind::Other, HeadKind::PreviousToken, HeadKind::Induction] {
        let of_kind = heads.iter().enumerate().filter(|(_, (head, _))| model.kind(*head) == kind);
        for (nth, (k, (head, _))) in of_kind.enumerate() {
            let over = points.iter().map(|(tokens, heads)| (*tokens, heads[k].1));
            let mut line =
                line(format!("head {head} ({})", kind_words(kind)), kind_colour(kind), over);
            (line.group, line.legend) = (format!("{} heads", kind_words(kind)), nth == 0);
            line.width = if kind == HeadKind::Induction { 3.0 } else { 1.75 };
            line.dash = if kind == HeadKind::PreviousToken { "dash" } else { "solid" };
            lines.push(line);
        }
    }
    lines
}

fn effects_at(point: &AblationPoint, downstream: Downstream) -> Vec<(HeadId, f64)> {
    let of = point.rows.iter().filter(|removal| removal.downstream == downstream);
    of.map(|removal| (removal.id(), removal.same_token_change)).collect()
}

/// How the ICL score changes without each head, over training.
pub(crate) fn effects_panel(model: &Trained<'_>, downstream: Downstream) -> Panel {
    let title = format!("{}: change without a head", model.variant.label());
    let mut panel = Panel::new(title, tokens_axis(), axis("change of the same-token score (nats)"));
    panel.window = own_window(model).filter(|_| model.variant == TWO);
    panel.lines = kind_lines(model, |point| Some(effects_at(point, downstream)));
    let values = || panel.lines.iter().flat_map(|line| &line.y).copied();
    // The paper's axis, unless something lies outside.
    let (low, high) = (values().fold(-0.15, f64::min), values().fold(0.15, f64::max));
    panel.y.range = Some([rounded(low * 1.05), rounded(high * 1.05)]);
    let Some(last) = model.run.ablations.last() else {
        panel.summary = format!("The {} is not ablated.", model.variant.run());
        return panel;
    };
    let (others, named): (Vec<_>, Vec<_>) = effects_at(last, downstream)
        .into_iter()
        .partition(|(head, _)| model.kind(*head) == HeadKind::Other);
    let mut said: Vec<String> = named
        .iter()
        .map(|(head, effect)| {
            format!("head {head} ({}) {effect:+.3}", kind_words(model.kind(*head)))
        })
        .collect();
    let ends =
        |choose: fn(f64, f64) -> f64| others.iter().map(|(_, effect)| *effect).reduce(choose);
    if let (Some(low), Some(high)) = (ends(f64::min), ends(f64::max)) {
        said.push(format!("others {low:+.3} to {high:+.3}"));
    }
    panel.summary =
        format!("{} at the end: {} nats.", capital(&model.variant.label()), said.join(", "));
    panel
}

pub(super) fn f11(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let mut panels: Vec<Panel> = lead
        .vanilla()
        .map(|model| {
            let title = format!("{}: same-token score", model.variant.label());
            let mut panel = Panel::new(title, tokens_axis(), axis("same-token score (nats)"));
            panel.window = window_of(lead).filter(|_| model.variant == TWO);
            panel.bands.push(icl_band(model));
            panel.lines.push(icl_line(model));
            panel.y.range = Some(icl_range(&[model]));
            panel.summary = icl_summary(model);
            panel
        })
        .collect();
    let effects: Vec<Panel> =
        lead.vanilla().map(|model| effects_panel(model, Downstream::PatternPreserving)).collect();
    let summary: Vec<String> = effects.iter().map(|panel| panel.summary.clone()).collect();
    panels.extend(effects);
    Figure {
        id: "F11",
        title: "What in-context learning loses without a head",
        drawn: "First the same-token score; then, a line a head, how it changes when the head's output is zero while every attention pattern stays as it was. Above 0 the head contributes to in-context learning. Colours by what a head ends as: previous-token heads pink and dashed, induction heads purple and thick, all others, the controls, yellow-green.".to_string(),
        paper: "Almost all in-context learning of small attention-only models comes from induction heads, from the phase change on; without most other heads there is more of it.",
        here: format!("{} {}", summary.join(" "), verdicts(claims, &["Q10", "A1", "A2", "A3", "A4", "S1", "R1", "K1"])),
        files: files(lead.vanilla(), ABLATIONS).into_iter().chain(files(lead.vanilla(), KNOCKOUTS)).collect(),
        panels,
        ..Figure::empty()
    }
}

pub(super) fn full_ablations(lead: &Experiment<'_>) -> Figure {
    let panels: Vec<Panel> =
        lead.vanilla().map(|model| effects_panel(model, Downstream::Full)).collect();
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Figure {
        id: "full-ablations",
        title: "The same with everything above the head free to change",
        drawn: "As above, but later layers see what is left, so that their patterns change too. A previous-token head's part in the circuit shows here only: above, the pattern that it makes possible is kept.".to_string(),
        paper: "Announced for an appendix, and not published.",
        here: summary.join(" "),
        files: files(lead.vanilla(), ABLATIONS),
        panels,
        ..Figure::empty()
    }
}

pub(super) fn before_after(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let deep = || lead.vanilla().filter(|model| model.variant.n_layers > 1);
    let panels: Vec<Panel> = deep().map(before_after_panel).collect();
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Figure {
        id: "before-after",
        title: "Which head's removal undoes the phase change",
        drawn: "How removing a head (patterns kept) moves the losses of all tokens of the examples along the direction in which they moved from the last snapshot before the window to the first after it, as a share of that change. Below 0, removing the head takes the model back to before; -1 would undo the change.".to_string(),
        paper: "Negative for induction heads, from the phase change on.",
        here: format!("{} {}", summary.join(" "), verdicts(claims, &["Q11"])),
        files: files(deep(), ABLATIONS),
        panels,
        ..Figure::empty()
    }
}

/// Each head's removal along the model's own before-and-after vector, over training.
pub(crate) fn before_after_panel(model: &Trained<'_>) -> Panel {
    let mut panel = Panel::new(model.variant.label(), tokens_axis(), axis("share of the change"));
    if model.window().is_err() {
        panel.summary = format!("{}: no window, so no vector.", capital(&model.variant.label()));
        return panel;
    }
    panel.window = own_window(model);
    let at = |point: &AblationPoint| model.before_after(Downstream::PatternPreserving, point);
    panel.lines = kind_lines(model, at);
    let lowest = model.run.ablations.last().and_then(at).and_then(|along| {
        let lowest = along.iter().min_by(|a, b| a.1.total_cmp(&b.1)).copied();
        lowest.map(|(head, along)| {
            let (label, kind) = (capital(&model.variant.label()), kind_words(model.kind(head)));
            format!("{label} at the end: head {head} ({kind}) is lowest, {along:+.2}.")
        })
    });
    panel.summary =
        lowest.unwrap_or_else(|| format!("The {} is not ablated.", model.variant.run()));
    panel
}
