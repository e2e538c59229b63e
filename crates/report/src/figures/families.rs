//! The figures about families of models: where heads form, and how their scores go together.

use super::{Axis, Figure, HEADS, Line, Panel, axis, capital, colour, files, verdicts};
use crate::Claim;
use crate::experiment::{Experiment, Trained, Variant};
use crate::load::HeadScore;
use crate::text::{number, rounded};

/// A1 to A4.
pub(super) fn families(lead: &Experiment<'_>, claims: &[Claim]) -> Vec<Figure> {
    let mut all = vec![a1(lead, claims), a2(lead, claims)];
    all.extend(a5(lead, claims));
    all.extend([a3(lead, claims), a4(lead, claims)]);
    all
}

fn scatter(model: &Trained<'_>, of: impl Fn(&HeadScore) -> Option<(f64, f64)>) -> Line {
    let (x, y) =
        model.last_heads().iter().filter_map(of).map(|(x, y)| (rounded(x), rounded(y))).unzip();
    let name = model.variant.label();
    Line {
        group: name.clone(),
        name,
        colour: colour(model.variant),
        dash: "solid",
        width: 1.0,
        opacity: 0.85,
        legend: true,
        points: true,
        x,
        y,
    }
}

fn panel<'c, 'a: 'c>(
    title: String,
    (x, y): (Axis, Axis),
    models: impl Iterator<Item = &'c Trained<'a>>,
    of: impl Fn(&HeadScore, Variant) -> Option<(f64, f64)>,
) -> Panel {
    let mut panel = Panel::new(title, x, y);
    let models: Vec<&Trained<'_>> = models.collect();
    panel.lines = models
        .iter()
        .map(|model| scatter(model, |head| of(head, model.variant)))
        .filter(|line| !line.x.is_empty())
        .collect();
    let heads: usize = panel.lines.iter().map(|line| line.x.len()).sum();
    panel.summary = if models.is_empty() {
        format!("{}: no model is here.", capital(&panel.title))
    } else {
        let of = if models.len() == 1 {
            "1 model".to_string()
        } else {
            format!("{} models", models.len())
        };
        format!("{}: {heads} heads of {of}.", capital(&panel.title))
    };
    panel
}

pub(super) fn unit(title: &'static str, low: f64) -> Axis {
    Axis { range: Some([low - 0.04, 1.04]), ..axis(title) }
}

/// The layer of each model's best head, in words.
fn best_places<'c, 'a: 'c>(models: impl Iterator<Item = &'c Trained<'a>>) -> String {
    let each: Vec<String> = models
        .filter(|model| model.has_induction_head())
        .map(|model| {
            let best = model.best_head();
            format!(
                "{} in layer {} ({})",
                model.variant.label(),
                best.layer,
                number(best.prefix_matching)
            )
        })
        .collect();
    if each.is_empty() { "no head above the limit".to_string() } else { each.join(", ") }
}

fn a1(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let place = |head: &HeadScore, part: Variant| {
        Some(((head.layer + 1) as f64 / part.n_layers as f64, head.prefix_matching))
    };
    let axes = || (unit("place of the layer (1: last)", 0.0), unit("prefix-matching score", 0.0));
    let mut panels = vec![panel("attention-only".to_string(), axes(), lead.vanilla(), place)];
    let mut here = format!("Attention-only: {}.", best_places(lead.vanilla()));
    if lead.with_mlps().next().is_some() {
        panels.push(panel("with MLPs".to_string(), axes(), lead.with_mlps(), place));
        here += &format!(" With MLPs: {}.", best_places(lead.with_mlps()));
    }
    for other in &lead.elsewhere {
        panels.push(panel(format!("on {}", other.text), axes(), other.trained(), place));
        here += &format!(" On {}: {}.", other.text, best_places(other.trained()));
    }
    let runs = lead
        .vanilla()
        .chain(lead.with_mlps())
        .chain(lead.elsewhere.iter().flat_map(Experiment::trained));
    Figure {
        id: "A1",
        title: "Where induction heads form",
        drawn: "Each point is a head at the end of training: its prefix matching against the place of its layer in its model, from the first to the last. A colour a depth.".to_string(),
        paper: "In attention-only models the best heads lie in the last layer; with MLPs, in 5 and 6 layers, in the second-to-last.",
        here: format!("{here} {}", verdicts(claims, &["Q12", "Q13"])),
        files: files(runs, HEADS),
        panels,
        ..Figure::empty()
    }
}

fn a2(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let scores = |head: &HeadScore, _: Variant| Some((head.prefix_matching, head.copying));
    let axes = || (unit("prefix-matching score", 0.0), unit("copying score", -1.0));
    let mut panels =
        vec![panel("attention-only".to_string(), axes(), lead.attention_only(), scores)];
    if lead.with_mlps().next().is_some() {
        panels.push(panel("with MLPs".to_string(), axes(), lead.with_mlps(), scores));
    }
    let said: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Figure {
        id: "A2",
        title: "Prefix matching and copying",
        drawn: "Each point is a head at the end of training.".to_string(),
        paper: "Heads that match prefixes mostly copy; models above 16 layers have some that match and do the opposite of copying.",
        here: format!("{} {}", said.join(" "), verdicts(claims, &["Q15"])),
        files: files(lead.trained(), HEADS),
        panels,
        ..Figure::empty()
    }
}

/// None of runs that were measured without it.
fn a5(lead: &Experiment<'_>, claims: &[Claim]) -> Option<Figure> {
    let scores =
        |head: &HeadScore, _: Variant| Some((head.prefix_matching, head.token_copying_nats?.0));
    let asked = |model: &&Trained<'_>| {
        model.last_heads().iter().any(|head| head.token_copying_nats.is_some())
    };
    let axes = || (unit("prefix-matching score", 0.0), axis("copying by cause (nats)"));
    let families: [(&str, Vec<&Trained<'_>>); 2] = [
        ("attention-only", lead.attention_only().filter(asked).collect()),
        ("with MLPs", lead.with_mlps().filter(asked).collect()),
    ];
    let panels: Vec<_> = families
        .into_iter()
        .filter(|(_, models)| !models.is_empty())
        .map(|(name, models)| panel(name.to_string(), axes(), models.into_iter(), scores))
        .collect();
    let said: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    if panels.is_empty() {
        return None;
    }
    let here = format!("{} {}", said.join(" "), verdicts(claims, &["B1", "B2"]));
    Some(Figure {
        id: "A5",
        title: "Prefix matching and copying, by cause",
        drawn: "Each point is a head at the end of training. What it reads at the last token of a prompt in which random tokens can be copied is carried into one in which they cannot, and nothing else: the height is what that does to the logarithm of the probability of the token to copy. A head of the first layer can do it only through the layers above.".to_string(),
        paper: "Reads copying off weights and logits.",
        here,
        files: files(lead.trained().filter(asked), HEADS),
        panels,
        ..Figure::empty()
    })
}

fn a3(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let axes = (unit("copying score", -1.0), unit("OV eigenvalue ratio", -1.0));
    let panel = panel("attention-only".to_string(), axes, lead.attention_only(), |head, _| {
        Some((head.copying, head.ov_copying))
    });
    Figure {
        id: "A3",
        title: "Copying by what a head does, and by its weights",
        drawn: "Each point is a head of an attention-only model at the end of training: the copying score, taken from activations, against the eigenvalue ratio of its OV circuit, taken from weights.".to_string(),
        paper: "The two correlate well.",
        here: format!("{} {}", panel.summary, verdicts(claims, &["Q16"])),
        files: files(lead.attention_only(), HEADS),
        panels: vec![panel],
        ..Figure::empty()
    }
}

fn a4(lead: &Experiment<'_>, claims: &[Claim]) -> Figure {
    let axes = (unit("prefix-matching score", 0.0), axis("trace of the QK circuit"));
    let panel = panel(
        "attention-only, after the first layer".to_string(),
        axes,
        lead.attention_only(),
        |head, _| Some((head.prefix_matching, head.qk_trace?)),
    );
    Figure {
        id: "A4",
        title: "Prefix matching by what a head does, and by its weights",
        drawn: "Each point is a head of an attention-only model, after the first layer, at the end of training: prefix matching against the trace of the QK circuit's previous-token term. The trace's scale depends on the weights, so only the order compares between models.".to_string(),
        paper: "The two correlate well; heads with traces above about 500 match prefixes.",
        here: format!("{} {}", panel.summary, verdicts(claims, &["Q16"])),
        files: files(lead.attention_only(), HEADS),
        panels: vec![panel],
        ..Figure::empty()
    }
}
