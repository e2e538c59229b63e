//! What the paper calls unexplained curiosities (C1 to C4): how losses depend on the place in the
//! context and on time.

use super::curves::optimum_lines;
use super::{Axis, Figure, LOSSES, Line, Panel, axis, colour, files, line, thinned, verdicts};
use crate::Claim;
use crate::experiment::{Experiment, TWO, Trained};
use crate::text::{number, tokens};

/// C1 to C4.
pub(super) fn curiosities(lead: &Experiment<'_>, claims: &[Claim]) -> Vec<Figure> {
    vec![c1(lead, claims), c2(lead, claims), c3(lead, claims), c4(lead, claims)]
}

fn place_axis() -> Axis {
    Axis { log: true, ..axis("place in the context (tokens)") }
}

/// A panel for attention-only models and one for those with MLPs, where there are any.
fn by_family(
    lead: &Experiment<'_>,
    (x, y): (Axis, Axis),
    lines: impl Fn(&Trained<'_>) -> Option<Line>,
    said: impl Fn(&Trained<'_>) -> Option<String>,
) -> Vec<Panel> {
    let of = |title: &str, trained: Vec<&Trained<'_>>| {
        let mut panel = Panel::new(title, x.clone(), y.clone());
        panel.lines = trained.iter().filter_map(|model| lines(model)).collect();
        let words: Vec<String> = trained.iter().filter_map(|model| said(model)).collect();
        panel.summary = if words.is_empty() {
            format!("{title}: no model is here.")
        } else {
            format!("{}.", words.join("; "))
        };
        panel
    };
    let mut panels = vec![of("Attention-only", lead.attention_only().collect())];
    let mlps: Vec<&Trained<'_>> = lead.with_mlps().collect();
    if !mlps.is_empty() {
        panels.push(of("With MLPs", mlps));
    }
    panels
}

fn dashed(mut line: Line, model: &Trained<'_>) -> Line {
    line.dash = if model.variant.smeared { "dash" } else { "solid" };
    line
}

fn last_by_index<'a>(model: &Trained<'a>) -> &'a [f64] {
    &model.run.losses[model.run.losses.len() - 1].loss_by_index
}

fn summaries(panels: &[Panel]) -> String {
    panels.iter().map(|panel| panel.summary.as_str()).collect::<Vec<_>>().join(" ")
}

fn c1(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    // The last places averaged, as one is noisy.
    let end = |by_index: &[f64]| {
        let late = &by_index[by_index.len() - (by_index.len() / 50).max(1)..];
        late.iter().sum::<f64>() / late.len() as f64
    };
    let panels = by_family(
        lead,
        (place_axis(), axis("loss at the end less loss here (nats)")),
        |model| {
            let by_index = last_by_index(model);
            let end = end(by_index);
            let curve = thinned(by_index).map(|(place, loss)| (place, end - loss));
            Some(dashed(line(model.variant.label(), colour(model.variant), curve), model))
        },
        |model| {
            let by_index = last_by_index(model);
            let early =
                thinned(by_index).find(|(place, _)| *place >= (by_index.len() / 10) as f64)?;
            Some(format!(
                "{}: {} nats from a tenth of the context on",
                model.variant.label(),
                number(end(by_index) - early.1)
            ))
        },
    );
    Figure {
        id: "C1",
        title: "How the ICL score depends on its definition",
        drawn: "The last snapshot's loss at the end of the context less the loss at each earlier place: what the ICL score would be if its early index were another.".to_string(),
        paper: "The curves of models of all sizes are nearly the same.",
        here: format!("{} {}", summaries(&panels), verdicts(claims, &["Q17"])),
        files: files(lead.trained(), LOSSES),
        panels,
        ..Figure::empty()
    }
}

fn c2(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let mut panels = by_family(
        lead,
        (place_axis(), axis("loss (nats a token)")),
        |model| {
            Some(dashed(
                line(model.variant.label(), colour(model.variant), thinned(last_by_index(model))),
                model,
            ))
        },
        |model| {
            let by_index = last_by_index(model);
            let early = by_index[(by_index.len() / 10).min(by_index.len() - 1)];
            Some(format!(
                "{}: {} nats, {}",
                model.variant.label(),
                number(early),
                number(by_index[by_index.len() - 1])
            ))
        },
    );
    if let Some(two) = lead.model(TWO)
        && let Ok(window) = two.window()
        && let Some(before) =
            two.run.losses.iter().min_by_key(|point| point.tokens.abs_diff(window.start_tokens))
    {
        let mut line = line(
            "2 layers, as the window starts".to_string(),
            colour(TWO),
            thinned(&before.loss_by_index),
        );
        (line.dash, line.width, line.group) = ("dot", 1.5, "before".to_string());
        panels[0].lines.insert(0, line);
    }
    let all: Vec<&Trained<'_>> = lead.trained().collect();
    for panel in &mut panels {
        let ideal = optimum_lines(&all, |of| thinned(&of.loss_by_index).collect::<Vec<_>>());
        panel.lines.extend(ideal);
    }
    let to_reach = match all.iter().any(|model| model.run.optimum.is_some()) {
        true => {
            " Dashed grey, the ideal predictor, which knows the process that generates the tokens; dotted grey, simpler ones."
        }
        false => "",
    };
    Figure {
        id: "C2",
        title: "Loss by place in the context",
        drawn: format!(
            "Held-out loss of the n-th token of an example at the last snapshot, averaged over neighbouring places; dotted, the 2-layer model as its window starts. The sentence below gives it a tenth into the context and at its end.{to_reach}"
        ),
        paper: "Before the change the loss stops improving after about 50 tokens; after it, every further token of context keeps helping.",
        here: format!("{} {}", summaries(&panels), verdicts(claims, &["Q22"])),
        files: files(lead.trained(), LOSSES),
        panels,
        ..Figure::empty()
    }
}

fn c3(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let deepest = |model: &Trained<'_>| {
        let family = lead
            .trained()
            .filter(|other| other.variant.mlp == model.variant.mlp && !other.variant.smeared);
        family.max_by_key(|other| other.variant.n_layers)
    };
    let difference = |model: &Trained<'_>| -> Option<Vec<f64>> {
        let deepest = deepest(model)?;
        let (mine, theirs) = (last_by_index(model), last_by_index(deepest));
        let comparable = !std::ptr::eq(deepest.run, model.run) && mine.len() == theirs.len();
        comparable.then(|| mine.iter().zip(theirs).map(|(a, b)| a - b).collect())
    };
    let panels = by_family(
        lead,
        (place_axis(), axis("loss less the deepest model's (nats)")),
        |model| {
            let difference = difference(model)?;
            Some(dashed(
                line(model.variant.label(), colour(model.variant), thinned(&difference)),
                model,
            ))
        },
        |model| {
            let difference = difference(model)?;
            let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
            let tenth = 10.min(difference.len() - 1);
            Some(format!(
                "{}: {} nats over the first ten tokens, {} after",
                model.variant.label(),
                number(mean(&difference[..tenth.max(1)])),
                number(mean(&difference[tenth..]))
            ))
        },
    );
    Figure {
        id: "C3",
        title: "Where larger models are better",
        drawn: "The curves of the figure before, less that of the deepest model of the family."
            .to_string(),
        paper: "Larger models gain most of their advantage within the first ten tokens; at later ones the difference stays.",
        here: format!("{} {}", summaries(&panels), verdicts(claims, &["Q18"])),
        files: files(lead.trained(), LOSSES),
        panels,
        ..Figure::empty()
    }
}

/// Snapshots on each side of a slope.
const NEIGHBOURS: usize = 2;

fn c4(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let slopes = |model: &Trained<'_>| -> Vec<(f64, f64)> {
        let losses: Vec<_> = model.run.losses.iter().filter(|point| point.tokens > 0).collect();
        (NEIGHBOURS..losses.len().saturating_sub(NEIGHBOURS))
            .filter_map(|k| {
                let (from, to) =
                    (losses[k - NEIGHBOURS].tokens as f64, losses[k + NEIGHBOURS].tokens as f64);
                Some((losses[k].tokens as f64, model.learning_slope(from, to)?))
            })
            .collect()
    };
    let axes = (Axis { log: true, ..super::tokens_axis() }, axis("d loss / d ln tokens (nats)"));
    let mut panels = by_family(
        lead,
        axes,
        |model| {
            Some(dashed(line(model.variant.label(), colour(model.variant), slopes(model)), model))
        },
        |model| {
            let steepest = slopes(model).into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
            Some(format!(
                "{}: steepest at {} tokens, {}",
                model.variant.label(),
                tokens(steepest.0),
                number(steepest.1)
            ))
        },
    );
    for panel in &mut panels {
        panel.window = super::window_of(lead).filter(|_| panel.title == "Attention-only");
    }
    Figure {
        id: "C4",
        title: "How fast models of each size learn",
        drawn:
            "The slope of the held-out loss against the logarithm of training tokens, over two snapshots on each side."
                .to_string(),
        paper: "Before the change small models learn faster, after it large ones: the order turns round.",
        here: format!("{} {}", summaries(&panels), verdicts(claims, &["Q19"])),
        files: files(lead.trained(), LOSSES),
        panels,
        ..Figure::empty()
    }
}
