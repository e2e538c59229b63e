//! Every head of a trained model in its place: a grid of layers and heads for each measure.

use induction_records::ScanHead;

use super::super::{Axis, Colours, Figure, Heat, Panel, axis};
use super::Models;
use crate::load::Scan;
use crate::text::{number, rounded};

/// A measure with a grid of its own.
struct Measure {
    /// Its name in `scan.json`.
    name: &'static str,
    title: &'static str,
    range: [f64; 2],
    colours: Colours,
}

const MEASURES: [Measure; 4] = [
    Measure {
        name: "prefix_matching",
        title: "prefix matching",
        range: [0.0, 1.0],
        colours: Colours::Sequential,
    },
    Measure {
        name: "induction_head_mul",
        title: "induction pattern",
        range: [0.0, 1.0],
        colours: Colours::Sequential,
    },
    Measure {
        name: "previous_token",
        title: "previous token",
        range: [0.0, 1.0],
        colours: Colours::Sequential,
    },
    Measure { name: "copying", title: "copying", range: [-1.0, 1.0], colours: Colours::Diverging },
];

/// The grids of every model that is shown in full.
pub(super) fn head_grid(models: &Models<'_>) -> Figure {
    Figure {
        id: "R-heads",
        title: "Every head in its place",
        drawn: "A square is a head, its layer from the top, its number from the left. Prefix matching and copying are the paper's scores on repeated random tokens; the induction pattern is TransformerLens' detector; previous token is the mean attention to the token before.".to_string(),
        paper: "Models of up to 40 layers, a point a head.",
        here: models.said(|scan| {
            let best = |measure: &Measure| {
                let score = |head: &&ScanHead| head.measure(measure.name).unwrap_or(f64::MIN);
                let heads = scan.found.heads.iter();
                let best = heads.max_by(|a, b| score(a).total_cmp(&score(b)))?;
                Some(format!("{} {} ({})", measure.title, best.id(), number(score(&best))))
            };
            let found: Vec<String> = MEASURES.iter().filter_map(best).collect();
            format!("the highest are {}", found.join(", "))
        }),
        files: models.files(),
        panels: models
            .each
            .iter()
            .flat_map(|scan| MEASURES.iter().map(|measure| grid(models, scan, measure)))
            .collect(),
        ..Figure::empty()
    }
}

fn grid(models: &Models<'_>, scan: &Scan, measure: &Measure) -> Panel {
    // A head that adds nothing has no copying score, and no colour.
    let of = |head: &ScanHead| Some((head.layer, head.head, head.measure(measure.name)?));
    let scores = scan.found.heads.iter().filter_map(of);
    of_heads(models, scan, measure.title, "", Some((measure.range, measure.colours)), scores)
}

/// A square for each head, of `(layer, head, score)`; of others none. Unless told otherwise, colours
/// diverge from 0, as far as the scores go.
pub(super) fn of_heads(
    models: &Models<'_>,
    scan: &Scan,
    what: &str,
    unit: &'static str,
    shades: Option<([f64; 2], Colours)>,
    scores: impl Iterator<Item = (usize, usize, f64)>,
) -> Panel {
    let (layers, heads) = (scan.found.model.n_layers, scan.found.model.n_heads);
    let mut z = vec![vec![f64::NAN; heads]; layers];
    for (layer, head, score) in scores {
        z[layer][head] = rounded(score);
    }
    let title = match models.each.len() {
        1 => what.to_string(),
        _ => format!("{}, {what}", models.label(scan)),
    };
    let in_unit = if unit.is_empty() { String::new() } else { format!(", in {unit}") };
    let mut panel = Panel::new(title, axis("head"), Axis { down: true, ..axis("layer") });
    panel.summary = format!("{what} of {layers} layers of {heads} heads{in_unit}.");
    let far =
        z.iter().flatten().filter(|x| x.is_finite()).fold(0.1, |far: f64, x| far.max(x.abs()));
    let (range, colours) = shades.unwrap_or(([-far, far], Colours::Diverging));
    let places = |n: usize| (0..n).map(|k| k as f64).collect();
    panel.heat = Some(Heat {
        x: places(heads),
        y: places(layers),
        z,
        range,
        colours,
        unit,
        labels: Vec::new(),
    });
    panel
}
