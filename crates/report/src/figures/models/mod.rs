//! Trained models, from scans of them (R-...): the paper's figures that one snapshot can show, and
//! what is ours.

mod causes;
mod grid;
mod maps;
mod series;
mod sizes;

use grid::head_grid;
use maps::maps;
use series::series;
use sizes::sizes;

use induction_records::{BEHAVIOURS, BehaviourScores, IclOnText, RemovedKind, ScanHead};

use std::collections::BTreeMap;

use super::behaviours::with_error;
use super::families::unit;
use super::{Axis, Figure, Line, Panel, axis, capital, head_colour, line, thinned, verdicts};
use crate::Claim;
use crate::claims::INDUCTION_HEAD_ABOVE;
use crate::claims::models::{best_matching, best_of_all, last_of_each, series_of};
use crate::load::Scan;
use crate::text::{number, percent, rounded, tokens, visible};

/// The table behind every figure of this module.
pub(crate) const SCAN: &str = "scan.json";

/// Of a longer series of one model only the last is shown in full.
const IN_FULL: usize = 4;

/// The scans of a page: those that are shown in full, and the series.
pub(crate) struct Models<'a> {
    pub(crate) each: Vec<&'a Scan>,
    /// Name and members, in order.
    series: Vec<(String, Vec<&'a Scan>)>,
}

impl<'a> Models<'a> {
    /// As a reproduction's folders have them: a series is a folder of folders.
    pub(crate) fn of_folders(scans: &'a [Scan]) -> Self {
        let mut series: Vec<(String, Vec<&Scan>)> = Vec::new();
        for (scan, name) in scans.iter().filter_map(|scan| Some((scan, series_of(scan)?))) {
            match series.last_mut() {
                Some((last, members)) if last == name => members.push(scan),
                _ => series.push((name.to_string(), vec![scan])),
            }
        }
        series.retain(|(_, members)| members.len() > 1);
        Self { each: last_of_each(scans), series }
    }

    /// As one series, in the order given.
    pub(crate) fn of_series(scans: &'a [Scan]) -> Self {
        let same = scans.windows(2).all(|two| two[0].same_shape(&two[1]));
        let each = match scans.last() {
            Some(last) if same && scans.len() > IN_FULL => vec![last],
            _ => scans.iter().collect(),
        };
        let series = if scans.len() > 1 {
            vec![("in this order".to_string(), scans.iter().collect())]
        } else {
            Vec::new()
        };
        Self { each, series }
    }

    /// A model's name, with its folder where another has the same.
    pub(crate) fn label(&self, scan: &Scan) -> String {
        let same = self.each.iter().filter(|other| other.title() == scan.title()).count();
        let name = scan.title();
        if same > 1 { format!("{name} ({})", visible(&scan.folder)) } else { name }
    }

    pub(super) fn files(&self) -> Vec<(String, &'static str)> {
        self.each.iter().map(|scan| (scan.folder.clone(), SCAN)).collect()
    }

    /// What a figure says of each model.
    pub(super) fn said(&self, of: impl Fn(&Scan) -> String) -> String {
        self.each
            .iter()
            .map(|scan| format!("{}: {}.", self.label(scan), of(scan)))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Every figure; none without a scan.
pub(crate) fn models(models: &Models<'_>, claims: &[Claim]) -> Vec<Figure> {
    if models.each.is_empty() {
        return Vec::new();
    }
    let mut all = vec![
        facts(models),
        head_grid(models),
        a1(models, claims),
        a2(models, claims),
        repeats(models),
        removed(models, claims),
    ];
    all.extend(causes::roles(models));
    all.extend(causes::grids(models));
    all.extend(causes::cut(models));
    all.extend(causes::paths(models));
    all.extend(abilities(models, claims));
    all.extend(
        MAPS.iter()
            .filter_map(|(id, title, drawn, behaviour)| maps(models, id, title, drawn, behaviour)),
    );
    all.extend(by_index(models));
    all.extend(sizes(models));
    all.extend(series(models));
    all
}

fn facts(models: &Models<'_>) -> Figure {
    let head = [
        "model",
        "kind, weights, engine",
        "parameters",
        "layers and heads",
        "widths",
        "how it was run",
        "heads that match prefixes",
        "best",
        "repeats: first and second copy",
        "ICL score",
    ];
    let mut table = vec![head.map(str::to_string).to_vec()];
    for scan in &models.each {
        let m = &scan.found.model;
        let keys = if m.n_key_value_heads == m.n_heads {
            String::new()
        } else {
            format!(" ({} for keys)", m.n_key_value_heads)
        };
        let best = scan.best_head();
        let matching = scan.matching(INDUCTION_HEAD_ABOVE).count();
        table.push(vec![
            models.label(scan),
            format!("{}; {}; {}", m.family, m.encoding, scan.found.engine),
            tokens(m.n_params as f64),
            format!("{} of {}{keys}", m.n_layers, m.n_heads),
            format!(
                "{}, heads {}, MLP {}, vocabulary {}, context {}",
                m.d_model, m.d_head, m.d_mlp, m.d_vocab, m.n_ctx
            ),
            how_run(scan),
            format!("{matching} of {}", scan.found.heads.len()),
            format!("{}, {}", best.id(), number(best.prefix_matching())),
            format!("{}, {} nats", first_copy(scan), second_copy(scan)),
            scan.found
                .icl
                .as_ref()
                .map_or("no text".to_string(), |icl| loss(icl.score, icl.stderr)),
        ]);
    }
    Figure {
        id: "R-T1",
        title: "The models",
        drawn: format!(
            "What was scanned. A head matches prefixes if its score is above {}. Repeats: the loss of random tokens, the first time and again. \u{201c}\u{b1}\u{201d}: 95 %.",
            number(INDUCTION_HEAD_ABOVE)
        ),
        paper: "Its own models, up to 40 layers and 13 billion parameters.",
        here: models.said(|scan| {
            let role = |role| scan.found.heads.iter().filter(|head| head.role == role).count();
            format!(
                "{} induction heads, {} that match prefixes and have a negative copying score, {} previous-token heads",
                role(induction_metrics::Role::Induction),
                role(induction_metrics::Role::AntiCopyingPrefix),
                role(induction_metrics::Role::PreviousToken)
            )
        }),
        files: models.files(),
        table,
        ..Figure::empty()
    }
}

fn how_run(scan: &Scan) -> String {
    let how = &scan.found.how;
    let mut said = vec![format!("start token {}, {}", how.start, how.start_said())];
    if let Some(declared) = how.declared_ctx {
        said.push(format!("context {declared} in its files, run with {}", scan.found.model.n_ctx));
    }
    if how.tied_embeddings {
        said.push("embeddings tied".to_string());
    }
    if let Some(mean) = how.prompt_loss {
        said.push(format!("{} nats a token on the prompts", number(mean)));
    }
    if !how.ignored.is_empty() {
        said.push(format!("not needed: {}", how.ignored.join(", ")));
    }
    said.extend(how.warnings.iter().map(|warning| format!("Warning: {warning}")));
    visible(&said.join("; "))
}

fn first_copy(scan: &Scan) -> String {
    loss(scan.found.repeated.first, scan.found.repeated.first_stderr)
}

fn second_copy(scan: &Scan) -> String {
    loss(scan.found.repeated.second, scan.found.repeated.second_stderr)
}

fn loss(value: f64, stderr: Option<f64>) -> String {
    stderr.map_or_else(
        || number(value),
        |stderr| format!("{} ± {}", number(value), number(1.96 * stderr)),
    )
}

/// A point a head. Heads that match prefixes have names of their own; the others go by layer.
fn scatter(scan: &Scan, of: impl Fn(&ScanHead) -> Option<(f64, f64)>) -> Vec<Line> {
    let n_layers = scan.found.model.n_layers;
    let points = |name: String, layer: usize, points: Vec<(f64, f64)>| {
        let mut line = line(name, head_colour(layer, n_layers, 0, 1), points);
        (line.group, line.points, line.opacity, line.legend) =
            (format!("layer {layer}"), true, 0.85, false);
        line
    };
    let mut named = Vec::new();
    let mut rest: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    for head in &scan.found.heads {
        let Some(place) = of(head) else { continue };
        if head.prefix_matching() > INDUCTION_HEAD_ABOVE {
            named.push(points(format!("head {}", head.id()), head.layer, vec![place]));
        } else {
            rest.entry(head.layer).or_default().push(place);
        }
    }
    let rest = rest
        .into_iter()
        .map(|(layer, places)| points(format!("layer {layer}, other heads"), layer, places));
    let mut lines: Vec<Line> = rest.chain(named).collect();
    // A legend of every layer would be longer than the figure.
    for layer in [0, n_layers / 2, n_layers - 1] {
        if let Some(line) = lines.iter_mut().find(|line| line.group == format!("layer {layer}")) {
            line.legend = true;
        }
    }
    lines
}

fn scatters(
    models: &Models<'_>,
    (x, y): (Axis, Axis),
    of: impl Fn(&Scan, &ScanHead) -> Option<(f64, f64)>,
) -> Vec<Panel> {
    let panel = |scan: &&Scan| {
        let mut panel = Panel::new(models.label(scan), x.clone(), y.clone());
        panel.lines = scatter(scan, |head| of(scan, head));
        panel.summary = format!("{} heads.", scan.found.heads.len());
        panel
    };
    models.each.iter().map(panel).collect()
}

fn a1(models: &Models<'_>, claims: &[Claim]) -> Figure {
    let axes = (unit("place of the layer (1: last)", 0.0), unit("prefix-matching score", 0.0));
    Figure {
        id: "R-A1",
        title: "Where heads that match prefixes are, in real models",
        drawn: "Each point is a head: its prefix matching on random tokens against the place of its layer, first layer red, last blue.".to_string(),
        paper: "In larger models such heads come earlier; in those of 24 and 40 layers mostly before the middle.",
        here: format!(
            "{} {}",
            models.said(|scan| {
                let count = scan.matching(INDUCTION_HEAD_ABOVE).count();
                match first_middle_last(scan) {
                    None => "no head above the limit".to_string(),
                    Some([first, _, last]) => format!("{count} heads above the limit, at {} to {} of the depth", percent(first), percent(last)),
                }
            }),
            verdicts(claims, &["M6"])
        ),
        files: models.files(),
        panels: scatters(models, axes, |scan, head| {
            Some(((head.layer + 1) as f64 / scan.found.model.n_layers as f64, head.prefix_matching()))
        }),
        ..Figure::empty()
    }
}

/// The places of the layers whose heads match prefixes, 1 being the last layer: the first, the
/// median head's, the last.
fn first_middle_last(scan: &Scan) -> Option<[f64; 3]> {
    let mut layers: Vec<usize> =
        scan.matching(INDUCTION_HEAD_ABOVE).map(|head| head.layer).collect();
    layers.sort_unstable();
    let place = |layer: usize| (layer + 1) as f64 / scan.found.model.n_layers as f64;
    let (first, last) = (*layers.first()?, *layers.last()?);
    Some([place(first), place(layers[layers.len() / 2]), place(last)])
}

fn a2(models: &Models<'_>, claims: &[Claim]) -> Figure {
    let axes = (unit("prefix-matching score", 0.0), unit("copying score", -1.0));
    Figure {
        id: "R-A2",
        title: "Prefix matching and copying, in real models",
        drawn: "Each point is a head, both scores on random tokens. A head that raises all tokens of the sample alike has a copying score of -0.85.".to_string(),
        paper: "Heads that match prefixes mostly copy; models above 16 layers have some that match and do the opposite.",
        here: format!(
            "{} {}",
            models.said(|scan| {
                let matching: Vec<&ScanHead> = scan.matching(INDUCTION_HEAD_ABOVE).collect();
                let copying = matching.iter().filter(|head| head.copying().is_some_and(|score| score > 0.0)).count();
                format!("of {} heads that match prefixes {copying} have a copying score above 0", matching.len())
            }),
            verdicts(claims, &["Q23"])
        ),
        files: models.files(),
        panels: scatters(models, axes, |_, head| Some((head.prefix_matching(), head.copying()?))),
        ..Figure::empty()
    }
}

const FIRST: [&str; 2] = ["#c44601", "#ff9152"];
const SECOND: [&str; 2] = ["#0060a8", "#5eb3f6"];
const THIRD: [&str; 2] = ["#007a5a", "#3fd0a4"];
const GREY: [&str; 2] = ["#57606a", "#aab4be"];

fn coloured(
    name: impl Into<String>,
    colour: [&str; 2],
    points: impl IntoIterator<Item = (f64, f64)>,
) -> Line {
    line(name.into(), colour.map(str::to_string), points)
}

/// Places from 1.
fn places(values: &[f64]) -> impl Iterator<Item = (f64, f64)> + '_ {
    values.iter().enumerate().map(|(k, value)| ((k + 1) as f64, *value))
}

fn repeats(models: &Models<'_>) -> Figure {
    let panel = |scan: &&Scan| {
        let (first, second) = scan.found.repeated.by_position.split_at(scan.found.repeated.block);
        let even = (scan.found.model.d_vocab as f64).ln();
        let mut guess =
            coloured("all tokens alike", GREY, [(1.0, even), (first.len() as f64, even)]);
        (guess.dash, guess.width) = ("dot", 1.5);
        let mut panel =
            Panel::new(models.label(scan), axis("place in the copy"), axis("loss (nats a token)"));
        panel.lines = vec![
            coloured("first copy", FIRST, places(first)),
            coloured("second copy", SECOND, places(second)),
            guess,
        ];
        let high = first.iter().chain(second).copied().fold(even, f64::max);
        panel.y.range = Some([0.0, rounded(1.05 * high)]);
        panel.summary = format!(
            "First copy {} nats, second {}.",
            number(scan.found.repeated.first),
            number(scan.found.repeated.second)
        );
        panel
    };
    Figure {
        id: "R-repeats",
        title: "Random tokens that repeat",
        drawn: "A block of random tokens, then the same block: the loss at each place, averaged over examples. Nothing but the earlier copy foretells the second; its first token nothing foretells.".to_string(),
        paper: "Not drawn; induction heads are defined by what they do on such a sequence.",
        here: models.said(|scan| {
            format!(
                "{} nats a token the first time, {} the second ({} examples of {} tokens)",
                first_copy(scan),
                second_copy(scan),
                scan.found.repeated.examples,
                scan.found.repeated.block
            )
        }),
        files: models.files(),
        panels: models.each.iter().map(panel).collect(),
        ..Figure::empty()
    }
}

fn removed(models: &Models<'_>, claims: &[Claim]) -> Figure {
    let kinds = [
        (RemovedKind::Induction, "without heads that match prefixes", SECOND),
        (RemovedKind::Matched, "without as many others of the same layers", FIRST),
        (RemovedKind::Any, "without as many others of any layer", THIRD),
    ];
    let panel = |scan: &&Scan| {
        let mut panel = Panel::new(
            models.label(scan),
            axis("first copy, nats a token"),
            axis("second copy, nats a token"),
        );
        panel.summary = "No head matches prefixes, so none was removed.".to_string();
        if scan.removed().is_empty() {
            return panel;
        }
        let whole = (scan.found.repeated.first, scan.found.repeated.second);
        panel.lines.push(coloured("the whole model", GREY, [whole]));
        for (kind, name, colour) in kinds {
            let sets = scan.removed().iter().filter(|set| set.kind == kind);
            panel.lines.push(coloured(name, colour, sets.map(|set| (set.first, set.second))));
        }
        panel.lines.retain(|line| !line.x.is_empty());
        panel.lines.iter_mut().for_each(|line| line.points = true);
        // From 0 and alike on both axes: what lies on the diagonal gains nothing from the first
        // copy.
        let all = panel.lines.iter().flat_map(|line| line.x.iter().chain(&line.y));
        let high = rounded(1.06 * all.copied().fold(0.0, f64::max));
        let mut even = coloured("both alike", GREY, [(0.0, 0.0), (high, high)]);
        (even.dash, even.width) = ("dot", 1.0);
        panel.lines.push(even);
        (panel.x.range, panel.y.range) = (Some([0.0, high]), Some([0.0, high]));
        panel.summary = capital(&what_is_lost(scan));
        panel
    };
    Figure {
        id: "R-removed",
        title: "Without the heads that match prefixes",
        drawn: "Each point is the model without a set of heads (their outputs zero, everything above free to change), by its losses on the two copies of random tokens. On the dotted line the second copy costs as much as the first: nothing is copied.".to_string(),
        paper: "Heads were removed in small models only.",
        here: format!("{} {}", models.said(what_is_lost), verdicts(claims, &["M6"])),
        files: models.files(),
        panels: models.each.iter().map(panel).collect(),
        ..Figure::empty()
    }
}

fn what_is_lost(scan: &Scan) -> String {
    let of = |kind: RemovedKind| scan.removed().iter().filter(move |set| set.kind == kind);
    let Some(set) = of(RemovedKind::Induction).next() else {
        return "no head to remove".to_string();
    };
    let rises = |kind, of_which: &str| {
        let changes: Vec<String> = of(kind).map(|set| number(set.second_change)).collect();
        if changes.is_empty() {
            String::new()
        } else {
            format!(", without as many others {of_which} by {}", changes.join(" / "))
        }
    };
    let whole = scan.found.icl.as_ref().map(|icl| icl.score);
    let icl = whole.zip(set.icl).map_or(String::new(), |(whole, without)| {
        let others = |kind, of_which: &str| {
            let other = of(kind).find_map(|set| set.icl);
            other.map_or(String::new(), |score| {
                format!(", without others {of_which} {}", number(score))
            })
        };
        format!(
            "; the ICL score is {}, without them {}{}{}",
            number(whole),
            number(without),
            others(RemovedKind::Matched, "of the same layers"),
            others(RemovedKind::Any, "of any layer")
        )
    });
    format!(
        "without {} heads the second copy's loss rises by {} nats, to {}{}{}{icl}",
        set.heads.len(),
        loss(set.second_change, set.second_change_stderr),
        number(set.second),
        rises(RemovedKind::Matched, "of the same layers"),
        rises(RemovedKind::Any, "of any layer")
    )
}

/// T1 of the real models; nothing if none read the prompts.
fn abilities(models: &Models<'_>, claims: &[Claim]) -> Option<Figure> {
    let head = [
        "behaviour, model",
        "head",
        "prefix matching",
        "copying",
        "attention on right places",
        "chance",
        "of that on such places",
        "chance",
        "added to the right logit",
        "best of all heads",
    ];
    let mut table = vec![head.map(str::to_string).to_vec()];
    for (behaviour, scan) in
        BEHAVIOURS.iter().flat_map(|name| models.each.iter().map(move |scan| (*name, *scan)))
    {
        let Some(best) = best_of_all(scan, behaviour) else { continue };
        let row = |score: &BehaviourScores| {
            let head = scan.head(score.id());
            vec![
                format!("{behaviour}, {}", models.label(scan)),
                score.id().to_string(),
                head.map_or("–".to_string(), |head| number(head.prefix_matching())),
                head.and_then(|head| head.copying()).map_or("–".to_string(), number),
                with_error(score.share, score.share_stderr),
                percent(score.chance),
                with_error(score.share_among, score.share_among_stderr),
                percent(score.chance_among),
                format!("{} nats", number(score.attribution)),
                format!("{}, {}", best.id(), percent(best.share)),
            ]
        };
        table.push(row(best_matching(scan, behaviour).unwrap_or(best)));
    }
    (table.len() > 1).then(|| Figure {
        id: "R-T2",
        title: "Three behaviours, and the heads that do them in real models",
        drawn: format!(
            "For each behaviour, of the heads with prefix matching above {} (of all, where there is none), the one with the largest share of its attention on right places; the last column has the best of all heads. Chance: attention spread evenly over all earlier positions, and over those of the right kind. The largest of many lies a little high. \u{201c}\u{b1}\u{201d}: 95 %, over prompts.",
            number(INDUCTION_HEAD_ABOVE)
        ),
        paper: "Three heads of the 40-layer model that match prefixes and copy: one copies literally, one translates, one gives 65 % of its attention to the right class of a pattern (25 % by chance).",
        here: verdicts(claims, &["M4"]),
        files: models.files(),
        table,
        ..Figure::empty()
    })
}

/// Id, title, what is seen, behaviour.
const MAPS: [(&str, &str, &str, &str); 3] = [
    (
        "R-F12",
        "Literal copying, in real models",
        "A passage told twice: a copying head attends to what followed the same word the first time, a diagonal below the main one.",
        "literal copying",
    ),
    (
        "R-F13",
        "Translation, in real models",
        "One sentence in English, French and German: the right place to look is the same word in the earlier lines.",
        "translation",
    ),
    (
        "R-F14",
        "Pattern matching, in real models",
        "Lines such as \u{201c}april frog:0\u{201d}: before a digit the right places to look are the digits of earlier lines of the same kinds.",
        "pattern matching",
    ),
];

/// C2 of the real models; nothing if none read a text.
fn by_index(models: &Models<'_>) -> Option<Figure> {
    let with_text: Vec<_> =
        models.each.iter().filter_map(|scan| Some((*scan, scan.found.icl.as_ref()?))).collect();
    let panels: Vec<Panel> = with_text
        .iter()
        .map(|(scan, icl)| {
            let place = Axis { log: true, ..axis("place in the context (tokens)") };
            let mut panel = Panel::new(models.label(scan), place, axis("loss (nats a token)"));
            panel.lines.push(coloured(icl.text.clone(), SECOND, thinned(&icl.by_index)));
            panel.summary = format!("ICL score {} nats.", number(icl.score));
            panel
        })
        .collect();
    let said: Vec<String> = with_text
        .iter()
        .map(|(scan, icl)| {
            let IclOnText { late, early, .. } = icl;
            let (name, score) = (models.label(scan), loss(icl.score, icl.stderr));
            format!(
                "{name}: {score} nats from index {early} to {late}, {} windows of {}.",
                icl.examples, icl.text
            )
        })
        .collect();
    (!panels.is_empty()).then(|| Figure {
        id: "R-C2",
        title: "Loss by place in the context, in real models",
        drawn: "Loss of the n-th token of windows of a text, averaged over neighbouring places. Models with other tokens have other losses; only the shapes compare.".to_string(),
        paper: "The loss keeps falling along the context; the ICL score of models of all sizes is about -0.4 nats.",
        here: said.join(" "),
        files: models.files(),
        panels,
        ..Figure::empty()
    })
}
