//! What heads of a trained model do by cause.

use induction_records::{
    Cause, CutOn, PathFrom, PathsAgree, PathsInto, Reads, ScanHead, StandsOut,
};

use super::super::{Figure, Panel};
use super::{Models, grid::of_heads, loss};
use crate::load::Scan;
use crate::text::{number, percent};

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
    let of = |head: &ScanHead| Some((head.layer, head.head, head.measure(cause.nats())?));
    let scores = scan.found.heads.iter().filter_map(of);
    of_heads(models, scan, cause.title(), "nats", None, scores)
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

/// What feeds the heads that match prefixes best; none where no scan has any.
pub(super) fn paths(models: &Models<'_>) -> Option<Figure> {
    /// Parts that are named of each kind.
    const NAMED: usize = 5;
    let head = ["model", "head", "reads for its", "from", "is lost", "to first order", "agreement"];
    let mut table = vec![head.map(str::to_string).to_vec()];
    let mut panels = Vec::new();
    for (scan, of) in
        models.each.iter().flat_map(|scan| scan.found.paths.iter().map(move |of| (scan, of)))
    {
        for PathsAgree { into, rank_correlation } in &of.agreement {
            let here = || of.paths.iter().filter(|path| path.into == *into);
            let what = format!("what {}.{} reads for its {into}", of.layer, of.head);
            let cells = here().filter_map(|path| Some((path.layer?, path.head?, path.exact)));
            let unit = unit(*into);
            panels.push(of_heads(models, scan, &what, unit, None, cells));
            let mut most: Vec<&PathFrom> = here().collect();
            most.sort_by(|a, b| b.exact.total_cmp(&a.exact));
            for path in most.into_iter().take(NAMED) {
                table.push(vec![
                    models.label(scan),
                    format!("{}.{}", of.layer, of.head),
                    into.to_string(),
                    path.part(),
                    match into {
                        // Shares of next to nothing say nothing.
                        Reads::Values => format!(
                            "{} logits of {}",
                            loss(path.exact, path.exact_stderr),
                            number(of.raises)
                        ),
                        _ => format!(
                            "{} nats: {} of the attention",
                            loss(path.exact, path.exact_stderr),
                            percent(path.lost)
                        ),
                    },
                    format!("{} {unit}", number(path.first_order)),
                    rank_correlation.map_or_else(|| "-".to_string(), number),
                ]);
            }
        }
    }
    (table.len() > 1).then(|| Figure {
        id: "R-paths",
        title: "What feeds the heads that match prefixes best",
        drawn: "A square is an earlier head. Its output is taken from another sequence in what one head's queries, keys or values are made of, and nowhere else. The colour is what that takes from the logarithm of the odds of the head's attention on what followed the earlier copy (queries and keys, in nats), or from the logit of the next token that the head raises (values, in logits). The table has the embedding and MLPs, too, the share of the attention or of the logits that is lost, and the same to first order, from one backward pass; agreement is the rank correlation of the two over all parts (\u{201c}\u{b1}\u{201d}: 95 %).".to_string(),
        paper: "Shows K-composition from weights, in its small attention-only models.",
        here: models.said(|scan| {
            let keys = |of: &PathsInto| {
                let keys = of.paths.iter().filter(|path| path.into == Reads::Keys);
                let most = keys.max_by(|a, b| a.exact.total_cmp(&b.exact))?;
                Some(format!(
                    "{}.{} loses {} of its attention without {} in its keys",
                    of.layer,
                    of.head,
                    percent(most.lost),
                    most.part()
                ))
            };
            let said: Vec<String> = scan.found.paths.iter().filter_map(keys).collect();
            if said.is_empty() { "not asked".to_string() } else { said.join(", ") }
        }),
        files: models.files(),
        table,
        panels,
        ..Figure::empty()
    })
}

/// What a path's effect is measured in.
fn unit(into: Reads) -> &'static str {
    if into == Reads::Values { "logits" } else { "nats" }
}
