//! A study's curves: one line a variant, the mean over its seeds, and the range of the seeds.

use induction_records::{StudyMeasure, StudyVariant};

use super::{Studied, curve};
use crate::figures::{Band, Figure, Panel, axis, capital, line, tokens_axis};
use crate::text::{number, rounded, visible};

/// Okabe and Ito's colours and some more, for a light and for a dark page.
const COLOURS: [[&str; 2]; 10] = [
    ["#0060a8", "#5eb3f6"],
    ["#c44601", "#ff9152"],
    ["#007a5a", "#3fd0a4"],
    ["#9c3f80", "#e58fc7"],
    ["#9a6700", "#f0c419"],
    ["#57606a", "#aab4be"],
    ["#3d3d8f", "#a5a5f5"],
    ["#00808a", "#4fd6e0"],
    ["#6a7a00", "#c3d64a"],
    ["#8a5a2b", "#d9a066"],
];
/// Beyond so many lines, colours come again in another dash.
const DASHES: [&str; 3] = ["solid", "dash", "dot"];

/// The figures that the study asks for.
pub(crate) fn figures(studied: &Studied<'_>) -> Vec<Figure> {
    let study = studied.study;
    let each = study.figures.iter().enumerate().map(|(k, asked)| {
        let all: Vec<(usize, &StudyVariant)> = study
            .variants
            .iter()
            .enumerate()
            .filter(|(_, variant)| {
                asked.variants.is_empty() || asked.variants.contains(&variant.name)
            })
            .collect();
        let panels: Vec<Panel> =
            asked.measures.iter().map(|&measure| panel(studied, measure, &all)).collect();
        let kept = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        Figure {
            id: kept(format!("S{}", k + 1)),
            title: kept(visible(&asked.title)),
            drawn: "A line a variant: the mean over its seeds at each snapshot; shaded, from the lowest of them to the highest.".to_string(),
            here: panels.iter().map(|panel| panel.summary.clone()).collect::<Vec<_>>().join(" "),
            panels,
            ..Figure::empty()
        }
    });
    each.collect()
}

fn panel(
    studied: &Studied<'_>,
    measure: StudyMeasure,
    variants: &[(usize, &StudyVariant)],
) -> Panel {
    let mut panel = Panel::new(measure.label(), tokens_axis(), axis(measure.label()));
    let mut ends = Vec::new();
    for &(nth, variant) in variants {
        let curves: Vec<Vec<(f64, f64)>> =
            studied.of(&variant.name).values().map(|run| curve(measure, run)).collect();
        // Seeds of one variant have the same snapshots, once they are finished.
        let Some(shortest) = curves.iter().map(Vec::len).min() else { continue };
        let at = |k: usize| curves[0][k].0;
        let column = |k: usize| curves.iter().map(|curve| curve[k].1).collect::<Vec<f64>>();
        let mean = |k: usize| column(k).iter().sum::<f64>() / curves.len() as f64;
        let label = visible(&variant.label);
        let colour = COLOURS[nth % COLOURS.len()].map(str::to_string);
        let mut drawn =
            line(label.clone(), colour.clone(), (0..shortest).map(|k| (at(k), mean(k))));
        drawn.dash = DASHES[nth / COLOURS.len() % DASHES.len()];
        if let Some(last) = shortest.checked_sub(1) {
            ends.push(format!("{label} {}", number(mean(last))));
        }
        if curves.len() > 1 {
            let side = |pick: fn(f64, f64) -> f64| {
                let of = |k| rounded(column(k).into_iter().reduce(pick).unwrap_or(f64::NAN));
                (0..shortest).map(of).collect()
            };
            panel.bands.push(Band {
                colour,
                group: label,
                x: (0..shortest).map(|k| rounded(at(k))).collect(),
                low: side(f64::min),
                high: side(f64::max),
            });
        }
        panel.lines.push(drawn);
    }
    panel.summary = if ends.is_empty() {
        "No run of these variants is there.".to_string()
    } else {
        format!("{} at the end: {}.", capital(measure.label()), ends.join("; "))
    };
    panel
}
