//! The Model Analysis Table (paper.md, 8): every model, by series, in nine rows.

use induction_records::Downstream;
use serde::Serialize;

use crate::experiment::{Experiment, ONE, ONE_SMEARED, TWO, TWO_SMEARED, Trained};
use crate::figures::{
    Axis, Colours, Heat, Panel, axis, before_after_panel, bins, capital, colour, derivative_panel,
    effects_panel, head_lines, icl_band, icl_line, icl_range, line, own_window, tokens_axis,
    training_line,
};
use crate::text::{number, rounded};

/// A row of the table: its name, and what it shows.
pub(crate) const ROWS: [(&str, &str); 9] = [
    (
        "Losses, PCA",
        "one fixed random token's loss of each example, in the plane of all models of the text; thick: in the window",
    ),
    ("Loss", "nats a token, held out; faint: training batches"),
    ("Loss by place", "loss of the n-th token of the context, over training"),
    ("Its slope", "d loss / d ln place, from -0.3 (blue) to 0.3 (red)"),
    ("ICL score", "loss late in the context less loss early in it, nats, with its 95 % interval"),
    ("Prefix matching", "every head; first layer red, last blue"),
    ("QK trace", "trace of the QK circuit's previous-token term; heads after the first layer"),
    (
        "Removal, before and after",
        "along the change of the losses over the window; below 0 the removal undoes it",
    ),
    ("Removal, ICL score", "change without a head, patterns kept; above 0 it contributes"),
];

/// Models that belong together.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) title: String,
    pub(crate) models: Vec<Column>,
}

/// A model.
#[derive(Debug, Serialize)]
pub(crate) struct Column {
    pub(crate) label: String,
    /// One for each of [`ROWS`].
    pub(crate) panels: Vec<Panel>,
}

/// All series: the families, the smeared keys with their controls, other texts, other seeds,
/// clamped models.
pub(crate) fn analysis(experiments: &[Experiment<'_>]) -> Vec<Series> {
    let Some((lead, others)) = experiments.split_first() else { return Vec::new() };
    let mut all = Vec::new();
    let mut add = |title: String, trained: Vec<&Trained<'_>>| {
        if !trained.is_empty() {
            let range = loss_range(&trained);
            let models = trained.iter().map(|model| column(model, range)).collect();
            all.push(Series { title, models });
        }
    };
    add("Attention-only".to_string(), lead.vanilla().collect());
    add("With MLPs".to_string(), lead.with_mlps().collect());
    let smeared: Vec<&Trained<'_>> = [ONE, ONE_SMEARED, TWO, TWO_SMEARED]
        .into_iter()
        .filter_map(|part| lead.model(part))
        .collect();
    if smeared.iter().any(|model| model.variant.smeared) {
        add("Smeared keys, with controls".to_string(), smeared);
    }
    add(
        "Clamped attention".to_string(),
        lead.everybody().filter(|model| model.variant.clamp.is_some()).collect(),
    );
    for other in &lead.elsewhere {
        add(format!("On {}, attention-only", other.text), other.vanilla().collect());
        add(format!("On {}, with MLPs", other.text), other.with_mlps().collect());
    }
    for other in others {
        add(format!("Seed {}", other.seed), other.trained().collect());
    }
    all
}

/// Colours of the loss by place: from the lowest loss to where most of the first descent is over,
/// for a whole series.
fn loss_range(trained: &[&Trained<'_>]) -> [f64; 2] {
    let mut values: Vec<f64> = trained
        .iter()
        .flat_map(|model| &model.run.losses)
        .flat_map(|point| &point.loss_by_index)
        .copied()
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        values.get((share * (values.len().max(1) - 1) as f64) as usize).copied().unwrap_or_default()
    };
    [rounded(at(0.02)), rounded(at(0.75))]
}

fn column(model: &Trained<'_>, range: [f64; 2]) -> Column {
    let window = own_window(model);
    let mut panels = vec![
        path(model),
        loss(model),
        by_place(model, range),
        derivative_panel(model),
        icl(model),
        heads(model, "prefix-matching score", |head| Some(head.prefix_matching)),
        heads(model, "trace of the QK circuit", |head| head.qk_trace),
        before_after_panel(model),
        effects_panel(model, Downstream::PatternPreserving),
    ];
    panels[5].y.range = Some([0.0, 1.0]);
    for (panel, (row, _)) in panels.iter_mut().zip(ROWS) {
        panel.title = format!("{row}: {}", model.variant.label());
        // Time is on the other axis of none but the first.
        if panel.x.tokens {
            panel.window = window;
        }
    }
    Column { label: model.variant.label(), panels }
}

fn path(model: &Trained<'_>) -> Panel {
    let mut panel = Panel::new("", axis("PC1 (nats)"), axis("PC2 (nats)"));
    let Some((tokens, path)) = model.path() else {
        panel.summary = "Not in a plane with others: its text is another.".to_string();
        return panel;
    };
    let place = |k: usize| (path[[k, 0]], path[[k, 1]]);
    let mut whole =
        line(model.variant.label(), colour(model.variant), (0..tokens.len()).map(place));
    whole.width = 1.5;
    panel.lines.push(whole);
    if let Ok(window) = model.window() {
        let inside = (0..tokens.len())
            .filter(|&k| (window.start_tokens..=window.end_tokens).contains(&tokens[k]));
        let mut inside =
            line("in the window".to_string(), colour(model.variant), inside.map(place));
        inside.width = 5.0;
        panel.lines.push(inside);
    }
    panel
}

fn loss(model: &Trained<'_>) -> Panel {
    let mut panel = Panel::new("", tokens_axis(), axis("loss (nats a token)"));
    let points = model.run.losses.iter().map(|point| (point.tokens as f64, point.loss));
    panel.lines =
        vec![training_line(model), line("held out".to_string(), colour(model.variant), points)];
    // What comes before is the first descent, off the top in the paper, too.
    let late = model
        .run
        .losses
        .iter()
        .filter(|point| point.tokens as f64 >= 0.02 * model.run.measured_tokens() as f64);
    let (low, high) = late.fold((f64::MAX, f64::MIN), |(low, high), point| {
        (low.min(point.loss), high.max(point.loss))
    });
    if low < high {
        panel.y.range =
            Some([rounded(low - 0.08 * (high - low)), rounded(high + 0.08 * (high - low))]);
    }
    panel
}

/// Bins of a quarter of an octave.
fn by_place(model: &Trained<'_>, range: [f64; 2]) -> Panel {
    let mut panel =
        Panel::new("", tokens_axis(), Axis { log: true, ..axis("place in the context") });
    let losses = &model.run.losses;
    let bins = bins(losses[0].loss_by_index.len(), 4.0);
    let mean = |of: &[f64]| rounded(of.iter().sum::<f64>() / of.len() as f64);
    panel.heat = Some(Heat {
        x: losses.iter().map(|point| point.tokens as f64).collect(),
        y: bins.iter().map(|&(from, to)| rounded(((from + 1) as f64 * to as f64).sqrt())).collect(),
        z: bins
            .iter()
            .map(|&(from, to)| {
                losses.iter().map(|point| mean(&point.loss_by_index[from..to])).collect()
            })
            .collect(),
        range,
        colours: Colours::Sequential,
        unit: "nats",
        labels: Vec::new(),
    });
    panel
}

fn icl(model: &Trained<'_>) -> Panel {
    let mut panel = Panel::new("", tokens_axis(), axis("ICL score (nats)"));
    panel.bands.push(icl_band(model));
    panel.lines.push(icl_line(model));
    panel.y.range = Some(icl_range(&[model]));
    panel
}

fn heads(
    model: &Trained<'_>,
    title: &'static str,
    score: fn(&crate::HeadScore) -> Option<f64>,
) -> Panel {
    let mut panel = Panel::new("", tokens_axis(), axis(title));
    panel.lines = head_lines(model, score);
    if panel.lines.is_empty() {
        panel.summary = "One layer has nothing to compose with.".to_string();
    }
    panel
}

impl Column {
    /// What the panel of a row says, for those who cannot see it.
    pub(crate) fn said(&self, row: usize) -> String {
        let panel = &self.panels[row];
        if panel.lines.is_empty() && panel.heat.is_none() {
            return capital(&panel.summary);
        }
        let ends: Vec<f64> = panel.lines.iter().filter_map(|line| line.y.last().copied()).collect();
        match (panel.heat.is_some(), ends.as_slice()) {
            (true, _) => "A map of colours.".to_string(),
            (false, []) => String::new(),
            (false, ends) => format!(
                "At the end between {} and {}.",
                number(ends.iter().copied().fold(f64::MAX, f64::min)),
                number(ends.iter().copied().fold(f64::MIN, f64::max))
            ),
        }
    }
}
