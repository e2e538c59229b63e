//! What heads of a trained model do by cause.

use induction_records::{Cause, CutOn, ScanHead, StandsOut};

use super::super::{Axis, Colours, Figure, Heat, Panel, axis};
use super::{Models, loss};
use crate::load::Scan;
use crate::text::{number, rounded};

/// Heads that are named of each measure.
const NAMED: usize = 6;

/// The heads that stand out by each measure; none where no scan has any.
pub(super) fn roles(models: &Models<'_>) -> Option<Figure> {
    let mut table = vec![
        ["model", "what the heads do", "how many", "the first of them"]
            .map(str::to_string)
            .to_vec(),
    ];
    for scan in &models.each {
        for (measure, what) in StandsOut::MEASURES {
            let heads: Vec<&StandsOut> =
                scan.found.roles.iter().filter(|of| of.measure == measure).collect();
            if heads.is_empty() {
                continue;
            }
            let unit = if measure.ends_with("_nats") { " nats" } else { "" };
            let one = |of: &&StandsOut| {
                let (effect, margin) = (number(of.effect), number(of.margin));
                format!("{}.{} +{effect} \u{b1} {margin}{unit}", of.layer, of.head)
            };
            let first: Vec<String> = heads.iter().take(NAMED).map(one).collect();
            table.push(vec![
                models.label(scan),
                what.to_string(),
                heads.len().to_string(),
                first.join(", "),
            ]);
        }
    }
    (table.len() > 1).then(|| Figure {
        id: "R-roles",
        title: "What each head does",
        drawn: "Heads whose score is above the mean of the other heads of their layer by more than any of as many random heads would be. The effect with an interval that holds for all heads together at 95 %.".to_string(),
        paper: "Names heads by thresholds, and gives none.",
        here: models.said(|scan| {
            let of = |name: &str| scan.found.roles.iter().filter(|of| of.measure == name).count();
            format!(
                "{} heads match prefixes, {} copy random tokens by cause, {} copy words",
                of("prefix_matching"),
                of(Cause::TokenCopying.nats()),
                of(Cause::ConceptCopying.nats())
            )
        }),
        files: models.files(),
        table,
        ..Figure::empty()
    })
}

/// A grid of heads for each cause; none where no scan has any.
pub(super) fn grids(models: &Models<'_>) -> Option<Figure> {
    let panels: Vec<Panel> = models
        .each
        .iter()
        .flat_map(|scan| scan.found.causes.iter().map(|of| grid(models, scan, of.cause)))
        .collect();
    (!panels.is_empty()).then(|| Figure {
        id: "R-causes",
        title: "What each head does, by cause",
        drawn: "A square is a head. At the last position of prompts something takes the place of what this head alone reads there, and the colour is what that does to the logarithm of the probability of what should follow, in nats: its output from a prompt in which a token or a word can be copied; its own without what followed an earlier copy (what is lost), or without copies of what the model expects already (what is won); its mean over examples of a task.".to_string(),
        paper: "Removes heads; it changes nothing that a single head reads.",
        here: models.said(|scan| {
            let best = |cause: Cause| {
                let score = |head: &&ScanHead| head.measure(cause.nats()).unwrap_or(f64::MIN);
                let best = scan.found.heads.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
                Some(format!("{} {} ({})", cause.title(), best.id(), number(score(&best))))
            };
            let found: Vec<String> =
                scan.found.causes.iter().filter_map(|of| best(of.cause)).collect();
            format!("the highest are {}", found.join(", "))
        }),
        files: models.files(),
        panels,
        ..Figure::empty()
    })
}

fn grid(models: &Models<'_>, scan: &Scan, cause: Cause) -> Panel {
    let (layers, heads) = (scan.found.model.n_layers, scan.found.model.n_heads);
    let mut z = vec![vec![f64::NAN; heads]; layers];
    for head in &scan.found.heads {
        if let Some(score) = head.measure(cause.nats()) {
            z[head.layer][head.head] = rounded(score);
        }
    }
    let title = match models.each.len() {
        1 => cause.title().to_string(),
        _ => format!("{}, {}", models.label(scan), cause.title()),
    };
    let far =
        z.iter().flatten().filter(|x| x.is_finite()).fold(0.1, |far: f64, x| far.max(x.abs()));
    let mut panel = Panel::new(title, axis("head"), Axis { down: true, ..axis("layer") });
    panel.summary = format!("{} of {layers} layers of {heads} heads, in nats.", cause.title());
    let places = |n: usize| (0..n).map(|k| k as f64).collect();
    panel.heat = Some(Heat {
        x: places(heads),
        y: places(layers),
        z,
        range: [-far, far],
        colours: Colours::Diverging,
        unit: "nats",
        labels: Vec::new(),
    });
    panel
}

/// What heads' induction patterns are worth beside the heads; none where no scan has any.
pub(super) fn cut(models: &Models<'_>) -> Option<Figure> {
    let head = ["model", "heads", "on", "without their pattern", "without them"];
    let mut table = vec![head.map(str::to_string).to_vec()];
    for scan in &models.each {
        for set in &scan.found.cut {
            let which = match set.is_control {
                true => format!("{} others of the same layers", set.heads.len()),
                false => format!("the {} that match prefixes best", set.heads.len()),
            };
            for of in &set.worth {
                let on = match of.on {
                    CutOn::Repeats => "the second copy of random tokens",
                    CutOn::Text => "copied tokens of prose",
                    CutOn::Patterns => "labels of patterns",
                };
                table.push(vec![
                    models.label(scan),
                    which.clone(),
                    on.to_string(),
                    loss(of.cut, of.cut_stderr),
                    loss(of.removed, of.removed_stderr),
                ]);
            }
        }
    }
    (table.len() > 1).then(|| Figure {
        id: "R-cut",
        title: "What is lost with heads' induction pattern alone",
        drawn: "By how much the loss rises, in nats a token, if heads are there but may not attend to what followed an earlier copy of the token that they read, and if they are not there at all (\u{201c}\u{b1}\u{201d}: 95 %).".to_string(),
        paper: "Removes heads.",
        here: models.said(|scan| {
            let largest = scan.found.cut.iter().rfind(|set| !set.is_control);
            let worth = largest.and_then(|set| set.worth.first().map(|of| (set, of)));
            worth.map_or("not asked".to_string(), |(set, of)| {
                format!(
                    "on random tokens that repeat, the pattern of the {} heads that match prefixes best is worth {} nats of the {} that the heads are worth",
                    set.heads.len(),
                    number(of.cut),
                    number(of.removed)
                )
            })
        }),
        files: models.files(),
        table,
        ..Figure::empty()
    })
}
