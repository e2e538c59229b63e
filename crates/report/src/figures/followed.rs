//! One text over training: where its tokens are predicted better after the change (F8), and two of
//! them (F9).

use induction_records::TextRow;

use super::{ColouredText, Figure, Panel, axis, colour, files, line, tokens_axis};
use crate::experiment::{Experiment, TWO, Trained};
use crate::load::Explored;
use crate::text::{number, rounded, tokens};

const TEXT: &str = "text.jsonl";

/// F8 and F9, of the 2-layer model; nothing if its text was not followed.
pub(super) fn followed(lead: &Experiment<'_>) -> Vec<Figure> {
    let Some(model) = lead.model(TWO) else { return Vec::new() };
    let Some(explored) = model.run.explored.as_ref() else { return Vec::new() };
    let Some((before, after)) = ends(model, explored) else { return Vec::new() };
    let change: Vec<f64> =
        before.losses.iter().zip(&after.losses).map(|(a, b)| rounded(b - a)).collect();
    vec![
        f8(model, explored, before, after, change.clone()),
        f9(model, explored, before, after, &change),
    ]
}

/// The snapshots A and B: the window's ends, or without one the first quarter's end and the last.
fn ends<'a>(model: &Trained<'_>, explored: &'a Explored) -> Option<(&'a TextRow, &'a TextRow)> {
    let last = explored.losses.last()?;
    let (from, to) = match model.window() {
        Ok(window) => (window.start_tokens, window.end_tokens),
        Err(_) => (last.tokens / 4, last.tokens),
    };
    let near = |at: u64| explored.losses.iter().min_by_key(|point| point.tokens.abs_diff(at));
    Some((near(from)?, near(to)?))
}

fn f8(
    model: &Trained<'_>,
    explored: &Explored,
    before: &TextRow,
    after: &TextRow,
    change: Vec<f64>,
) -> Figure {
    let mut panels = Vec::new();
    if let Some((at, path)) = model.path() {
        let mut panel = Panel::new("Where A and B lie", axis("PC1 (nats)"), axis("PC2 (nats)"));
        let place = |k: usize| (path[[k, 0]], path[[k, 1]]);
        let mut whole =
            line(model.variant.label(), colour(model.variant), (0..at.len()).map(place));
        (whole.width, whole.legend) = (1.5, false);
        panel.lines.push(whole);
        for (name, point, pair) in
            [("A", before, ["#c44601", "#ff9152"]), ("B", after, ["#007a5a", "#3fd0a4"])]
        {
            let nearest = (0..at.len()).min_by_key(|&k| at[k].abs_diff(point.tokens));
            let mut dot = line(name.to_string(), pair.map(str::to_string), nearest.map(place));
            (dot.points, dot.group) = (true, name.to_string());
            panel.lines.push(dot);
        }
        panel.summary = format!(
            "A at {}, B at {} tokens.",
            tokens(before.tokens as f64),
            tokens(after.tokens as f64)
        );
        panels.push(panel);
    }
    let better = change.iter().filter(|&&change| change < -0.5).count();
    let worse = change.iter().filter(|&&change| change > 0.5).count();
    let mean = change.iter().sum::<f64>() / change.len() as f64;
    Figure {
        id: "F8",
        title: "Which tokens the change makes easier",
        drawn: format!(
            "{}, by the 2-layer model: the loss of each token at B ({} tokens) less that at A ({}). Blue: easier at B; red: harder. The tool above draws it for any model and any two snapshots.",
            explored.text,
            tokens(after.tokens as f64),
            tokens(before.tokens as f64)
        ),
        paper: "Tokens in strings that came before get easier; tokens that break a repetition get harder.",
        here: format!(
            "{} of {} tokens are easier by more than half a nat, {} harder; on average {} nats.",
            better,
            change.len(),
            worse,
            number(mean)
        ),
        files: files(std::iter::once(model), TEXT),
        panels,
        text: Some(ColouredText {
            tokens: explored.tokens.clone(),
            values: change,
            limit: 4.0,
            unit: "nats",
        }),
        ..Figure::empty()
    }
}

fn f9(
    model: &Trained<'_>,
    explored: &Explored,
    before: &TextRow,
    after: &TextRow,
    change: &[f64],
) -> Figure {
    let mut panel = Panel::new("Loss of two tokens", tokens_axis(), axis("loss (nats)"));
    panel.window = super::own_window(model);
    let extreme = |better: fn(f64, f64) -> bool| {
        let mut best = 0;
        for (k, value) in change.iter().enumerate() {
            if better(*value, change[best]) {
                best = k;
            }
        }
        best
    };
    let two = [extreme(|a, b| a < b), extreme(|a, b| a > b)];
    let colours = [["#0060a8", "#5eb3f6"], ["#c44601", "#ff9152"]];
    let mut said = Vec::new();
    for (k, pair) in two.into_iter().zip(colours) {
        let name = format!("token {}: {}", k + 1, shown(&explored.tokens[k]));
        let points = explored.losses.iter().map(|point| (point.tokens as f64, point.losses[k]));
        panel.lines.push(line(name.clone(), pair.map(str::to_string), points));
        said.push(format!(
            "{name}, {} nats at A and {} at B",
            number(before.losses[k]),
            number(after.losses[k])
        ));
    }
    let mean = |point: &TextRow| point.losses.iter().sum::<f64>() / point.losses.len() as f64;
    let points = explored.losses.iter().map(|point| (point.tokens as f64, mean(point)));
    let mut all =
        line("mean of the text".to_string(), ["#57606a", "#aab4be"].map(str::to_string), points);
    all.dash = "dash";
    panel.lines.push(all);
    panel.summary = format!("{}.", said.join("; "));
    Figure {
        id: "F9",
        title: "Two tokens over training",
        drawn: "Of the text above, the token whose loss falls most from A to B and the one whose loss rises most; dashed, the mean of all its tokens.".to_string(),
        paper: "A token inside a repeated string falls from about 10 to 2 nats at the change; one that breaks a repetition rises from about 10 to 12.",
        here: panel.summary.clone(),
        files: files(std::iter::once(model), TEXT),
        panels: vec![panel],
        ..Figure::empty()
    }
}

/// A token between quotes, with signs for what cannot be seen.
pub(super) fn shown(token: &str) -> String {
    format!(
        "\u{201c}{}\u{201d}",
        token.replace('\n', "\u{21b5}").replace('\t', "\u{21e5}").replace(' ', "\u{b7}")
    )
}
