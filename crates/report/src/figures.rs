//! The figures as data: panels of lines, with captions in words. `assets/page.js` turns them into plots.

mod ablations;
mod families;

use serde::Serialize;

use crate::cast::{Cast, ONE, ONE_SMEARED, Part, Player, TWO, TWO_SMEARED};
use crate::load::Clamp;
use crate::text::{number, percent, rounded, tokens};
use crate::{Claim, Run};

/// A figure of the page.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// The paper's figure as numbered in paper.md, section 8; also its anchor.
    pub(crate) id: &'static str,
    #[serde(skip)]
    pub(crate) title: &'static str,
    #[serde(skip)]
    pub(crate) drawn: String,
    #[serde(skip)]
    pub(crate) paper: &'static str,
    #[serde(skip)]
    pub(crate) here: String,
    /// Folder and table of every run behind it.
    #[serde(skip)]
    pub(crate) files: Vec<(String, &'static str)>,
    pub(crate) panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Debug, Serialize)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// What is seen, for those who cannot see it; and the text of a panel without data.
    #[serde(skip)]
    pub(crate) summary: String,
    x: Axis,
    y: Axis,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<[f64; 2]>,
    bands: Vec<Band>,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug, Clone, Serialize)]
struct Axis {
    title: &'static str,
    log: bool,
    /// Tokens: labelled with k, M, B.
    tokens: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<[f64; 2]>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// For a light and for a dark page.
    colour: [String; 2],
    dash: &'static str,
    width: f64,
    opacity: f64,
    /// Lines of one group share an entry in the legend: that of the one with `legend`.
    group: String,
    legend: bool,
    /// Single points rather than a line through them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    points: bool,
    x: Vec<f64>,
    y: Vec<f64>,
}

/// The area between two curves.
#[derive(Debug, Serialize)]
struct Band {
    colour: [String; 2],
    group: String,
    x: Vec<f64>,
    low: Vec<f64>,
    high: Vec<f64>,
}

const ICL: &str = "icl.jsonl";
const LOSSES: &str = "loss_by_index.jsonl";
const HEADS: &str = "heads.jsonl";
const ABLATIONS: &str = "ablations.jsonl";
const KNOCKOUTS: &str = "knockouts.jsonl";
const RANDOM_TOKENS: &str = "random_tokens.jsonl";

/// More points than a panel is pixels wide say nothing more.
const TRAINING_POINTS: usize = 300;

/// Every figure, for the experiments of the report (the first leads; the others are its further seeds).
pub(crate) fn figures(casts: &[Cast<'_>], claims: &[Claim]) -> Vec<Figure> {
    let Some((lead, others)) = casts.split_first() else {
        return Vec::new();
    };
    let mut all = vec![f3(lead, others, claims), f5(lead, claims), f6(lead), f7(lead, claims), f10(lead, claims)];
    all.extend(ablations::clamps(lead, claims));
    all.extend([
        ablations::f11(lead, claims),
        ablations::full_ablations(lead),
        ablations::before_after(lead, claims),
        by_index(lead),
    ]);
    all.extend(families::families(lead, claims));
    all
}

fn f3(lead: &Cast<'_>, others: &[Cast<'_>], claims: &[Claim]) -> Figure {
    let players: Vec<&Player<'_>> = lead.vanilla().collect();
    let mut panel = Panel::new("ICL score of vanilla models", tokens_axis(), axis("ICL score (nats)"));
    panel.window = window_of(lead);
    for player in &players {
        panel.bands.push(icl_band(player));
        panel.lines.push(icl_line(player));
    }
    for cast in others {
        for player in cast.vanilla() {
            let mut line = icl_line(player);
            line.name = format!("{}, seed {}", player.part.label(), cast.seed);
            (line.width, line.opacity, line.legend) = (1.0, 0.6, false);
            panel.lines.push(line);
        }
    }
    panel.y.range = Some(icl_range(&players));
    panel.summary = players.iter().map(|player| icl_summary(player)).collect::<Vec<_>>().join(" ");
    let further = |title: String, models: Vec<&Player<'_>>| {
        let mut panel = Panel::new(title, tokens_axis(), axis("ICL score (nats)"));
        for player in &models {
            panel.bands.push(icl_band(player));
            panel.lines.push(icl_line(player));
        }
        panel.y.range = Some(icl_range(&models));
        panel.summary = models.iter().map(|player| icl_summary(player)).collect::<Vec<_>>().join(" ");
        panel
    };
    let mut panels = vec![panel];
    let mlps: Vec<&Player<'_>> = lead.with_mlps().collect();
    if !mlps.is_empty() {
        panels.push(further("ICL score of models with MLPs".to_string(), mlps));
    }
    for other in &lead.elsewhere {
        let (vanilla, mlps): (Vec<_>, Vec<_>) = (other.vanilla().collect(), other.with_mlps().collect());
        for (models, family) in [(vanilla, "attention-only"), (mlps, "with MLPs")] {
            if !models.is_empty() {
                panels.push(further(format!("on {}, {family}", other.text), models));
            }
        }
    }
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    let seeds = if others.is_empty() { "" } else { " Thin lines are further seeds." };
    Figure {
        id: "F3",
        title: "In-context learning over training",
        drawn: format!(
            "The ICL score (loss late in the context minus loss early in it; lower is more in-context learning) of each held-out evaluation, with its 95 % interval, against training tokens. The shaded span is the phase-change window of the 2-layer model.{seeds}"
        ),
        paper: "The 1-layer model's score stays near -0.1; with two layers or more it falls abruptly to about -0.4 and stays there.",
        here: format!("{} {}", summary.join(" "), verdicts(claims, &["Q1", "Q2", "Q3", "Q4", "Q17", "Q21"])),
        files: files(
            lead.players()
                .filter(|player| !player.part.smeared)
                .chain(others.iter().flat_map(Cast::vanilla))
                .chain(lead.elsewhere.iter().flat_map(Cast::players)),
            ICL,
        ),
        panels,
    }
}

fn f5(lead: &Cast<'_>, claims: &[Claim]) -> Figure {
    let panel = |part: Part| {
        let mut panel = Panel::new(part.label(), tokens_axis(), axis("prefix-matching score"));
        panel.y.range = Some([0.0, 1.0]);
        let Some(player) = lead.player(part) else {
            panel.summary = absent(part);
            return panel;
        };
        panel.window = window_of(lead).filter(|_| part == TWO);
        panel.lines = head_lines(player);
        let best = player.best_head();
        let name = format!("{}.{}", best.layer, best.head);
        panel.summary =
            format!("{}: head {name} ends highest, at {}.", capital(&part.label()), number(best.prefix_matching));
        panel
    };
    let parts: Vec<Part> = [ONE, TWO]
        .into_iter()
        .chain(lead.vanilla().map(|player| player.part).filter(|part| part.n_layers > 2))
        .chain(lead.with_mlps().map(|player| player.part))
        .collect();
    let panels: Vec<Panel> = parts.into_iter().map(panel).collect();
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Figure {
        id: "F5",
        title: "Prefix matching of every head",
        drawn: "On random tokens repeated four times, the share of a head's attention that goes to what followed the current token before. A line a head; layer 0 is red, the last layer blue. Shaded: the ICL window of the 2-layer model.".to_string(),
        paper: "No head of the 1-layer model prefix-matches; in the 2-layer model, heads of the second layer rise to 0.8-0.9 inside the window.",
        here: format!("{} {}", summary.join(" "), verdicts(claims, &["Q5", "Q6"])),
        files: files(lead.vanilla().chain(lead.with_mlps()), HEADS),
        panels,
    }
}

fn f6(lead: &Cast<'_>) -> Figure {
    let players: Vec<&Player<'_>> = lead.vanilla().collect();
    let mut panel = Panel::new("Loss of vanilla models", tokens_axis(), axis("loss (nats a token)"));
    panel.window = window_of(lead);
    for player in &players {
        panel.lines.push(training_line(player));
    }
    for player in &players {
        let points = player.run.losses.iter().map(|point| (point.tokens as f64, point.loss));
        panel.lines.push(line(player.part.label(), colour(player.part), points));
    }
    let ends: Vec<String> = players
        .iter()
        .map(|player| {
            let losses = &player.run.losses;
            format!("{}: {} nats a token at the end", player.part.label(), number(losses[losses.len() - 1].loss))
        })
        .collect();
    panel.summary =
        if ends.is_empty() { "No vanilla run is here.".to_string() } else { format!("{}.", ends.join("; ")) };
    Figure {
        id: "F6",
        title: "Loss over training",
        drawn: "Held-out loss, the mean over all tokens of the context; faint, the loss of the training batches, averaged over short spans. 1 layer is laid over 2 layers.".to_string(),
        paper: "The models with two layers and more bend away from the 1-layer curve at the phase change: a small bump, the only place where the loss is not convex.",
        here: format!("{}{}", panel.summary, gap_sentence(lead)),
        files: files(players.iter().copied(), LOSSES),
        panels: vec![panel],
    }
}

/// How far 1 and 2 layers are apart before and after the window.
fn gap_sentence(lead: &Cast<'_>) -> String {
    let (Some(one), Some(two)) = (lead.player(ONE), lead.player(TWO)) else {
        return String::new();
    };
    let Ok(window) = &two.window else {
        return String::new();
    };
    let loss = |player: &Player<'_>, at: u64| {
        let near = player.run.losses.iter().min_by_key(|point| point.tokens.abs_diff(at));
        near.map_or(0.0, |point| point.loss)
    };
    let gap = |at: u64| number(loss(one, at) - loss(two, at));
    let (start, end) = (gap(window.start_tokens), gap(window.end_tokens));
    format!(" 2 layers lead by {start} nats at the window's start and by {end} at its end.")
}

fn f7(lead: &Cast<'_>, claims: &[Claim]) -> Figure {
    let mut panel = Panel::new("Paths of vanilla models", axis("PC1 (nats)"), axis("PC2 (nats)"));
    let window = lead.player(TWO).and_then(|two| two.window.as_ref().ok());
    for player in lead.vanilla() {
        let Some((tokens, path)) = player.path() else { continue };
        let place = |k: usize| (path[[k, 0]], path[[k, 1]]);
        let mut whole = line(player.part.label(), colour(player.part), (0..tokens.len()).map(place));
        whole.width = 1.5;
        panel.lines.push(whole);
        if let Some(window) = window {
            let inside = (0..tokens.len()).filter(|&k| (window.start_tokens..=window.end_tokens).contains(&tokens[k]));
            let mut inside =
                line(format!("{}, in the window", player.part.label()), colour(player.part), inside.map(place));
            (inside.width, inside.group) = (5.0, format!("{} window", player.part.label()));
            panel.lines.push(inside);
        }
    }
    let explained: Vec<String> = lead.explained().unwrap_or_default().iter().map(|&share| percent(share)).collect();
    panel.summary = if panel.lines.is_empty() {
        "The runs' random-token losses have no common plane.".to_string()
    } else {
        format!("The two axes hold {} of the variance of all snapshots.", explained.join(" and "))
    };
    Figure {
        id: "F7",
        title: "Where the models' losses go",
        drawn: "Each snapshot is a point: its losses on one fixed random token of each evaluation example, projected on the two directions in which all snapshots of all runs on this text differ most. Thick: the span of the 2-layer model's phase-change window.".to_string(),
        paper: "The models set out together; those with two layers or more turn, about orthogonally, at the phase change.",
        here: format!("{} {}", panel.summary, verdicts(claims, &["Q8"])),
        files: files(lead.vanilla(), RANDOM_TOKENS),
        panels: vec![panel],
    }
}

fn f10(lead: &Cast<'_>, claims: &[Claim]) -> Figure {
    let parts = [ONE, ONE_SMEARED, TWO, TWO_SMEARED];
    let players: Vec<&Player<'_>> = parts.iter().filter_map(|&part| lead.player(part)).collect();
    let range = icl_range(&players);
    let last = players.iter().map(|player| player.run.measured_tokens() as f64).fold(0.0, f64::max);
    let panel = |part: Part| {
        let variant = if part.smeared { "" } else { ", vanilla" };
        let mut panel = Panel::new(format!("{}{variant}", part.label()), tokens_axis(), axis("ICL score (nats)"));
        panel.y.range = Some(range);
        panel.x.range = Some([0.0, last]);
        let Some(player) = lead.player(part) else {
            panel.summary = absent(part);
            return panel;
        };
        panel.window = player.window.as_ref().ok().map(|window| [window.start_tokens as f64, window.end_tokens as f64]);
        panel.bands.push(icl_band(player));
        panel.lines.push(icl_line(player));
        panel.summary = icl_summary(player);
        panel
    };
    let panels = parts.map(panel);
    let summary: Vec<&str> = panels.iter().map(|panel| panel.summary.as_str()).collect();
    Figure {
        id: "F10",
        title: "What smeared keys change",
        drawn: "The ICL score with 95 % interval, by depth and by whether each key is mixed with its predecessor, which hands a head what it otherwise needs a second layer for. Shaded: each model's own window, where it has one; a window at the very start is the first learning, not a later change.".to_string(),
        paper: "With smeared keys the 1-layer model goes through the change too, and the 2-layer model earlier than without.",
        here: format!("{} {}", summary.join(" "), verdicts(claims, &["Q9"])),
        files: files(players.iter().copied(), ICL),
        panels: panels.into(),
    }
}

fn by_index(lead: &Cast<'_>) -> Figure {
    let mut panel =
        Panel::new("Loss by place in the context", axis("place in the context (tokens)"), axis("loss (nats a token)"));
    panel.x.log = true;
    let curve = |by_index: &[f64]| thinned(by_index).collect::<Vec<_>>();
    if let Some(two) = lead.player(TWO)
        && let Ok(window) = &two.window
        && let Some(before) = two.run.losses.iter().min_by_key(|point| point.tokens.abs_diff(window.start_tokens))
    {
        let mut line = line("2 layers, as the window starts".to_string(), colour(TWO), curve(&before.by_index));
        (line.dash, line.width, line.group) = ("dot", 1.5, "before".to_string());
        panel.lines.push(line);
    }
    for player in lead.attention_only() {
        let last = &player.run.losses[player.run.losses.len() - 1];
        let mut line = line(player.part.label(), colour(player.part), curve(&last.by_index));
        line.dash = if player.part.smeared { "dash" } else { "solid" };
        panel.lines.push(line);
    }
    let ends: Vec<String> = lead
        .attention_only()
        .map(|player| {
            let by_index = &player.run.losses[player.run.losses.len() - 1].by_index;
            let early = by_index[(by_index.len() / 10).min(by_index.len() - 1)];
            let late = by_index[by_index.len() - 1];
            format!("{}: {} nats, {}", player.part.label(), number(early), number(late))
        })
        .collect();
    panel.summary = format!("Loss a tenth into the context and at its end. {}.", ends.join("; "));
    Figure {
        id: "by-index",
        title: "Loss by place in the context",
        drawn: "Held-out loss of the n-th token of an example at the last snapshot, on a logarithmic axis, averaged over neighbouring places; dotted, the 2-layer model as its window starts.".to_string(),
        paper: "Before the change the loss stops improving after about 50 tokens; after it, every further token of context keeps helping.",
        here: panel.summary.clone(),
        files: files(lead.attention_only(), LOSSES),
        panels: vec![panel],
    }
}

impl Panel {
    fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), summary: String::new(), x, y, window: None, bands: Vec::new(), lines: Vec::new() }
    }
}

fn axis(title: &'static str) -> Axis {
    Axis { title, log: false, tokens: false, range: None }
}

fn tokens_axis() -> Axis {
    Axis { tokens: true, ..axis("training tokens") }
}

fn absent(part: Part) -> String {
    format!("The {} on this data is missing.", part.run())
}

/// Okabe and Ito's colours, brightened for a dark page where that is needed.
fn colour(part: Part) -> [String; 2] {
    if let Some(clamp) = part.clamp {
        let pair = match clamp {
            Clamp::PreviousToken => ["#d6489a", "#ff86c8"],
            Clamp::ForbidInduction => ["#57606a", "#aab4be"],
        };
        return pair.map(str::to_string);
    }
    let pair = match (part.n_layers, part.smeared) {
        (1, false) => ["#c44601", "#ff9152"],
        (1, true) => ["#9a6700", "#f0c419"],
        (2, false) => ["#0060a8", "#5eb3f6"],
        (2, true) => ["#007a5a", "#3fd0a4"],
        (3, _) => ["#9c3f80", "#e58fc7"],
        (4, _) => ["#00808a", "#4fd6e0"],
        (5, _) => ["#6a7a00", "#c3d64a"],
        (6, _) => ["#3d3d8f", "#a5a5f5"],
        (_, _) => ["#57606a", "#aab4be"],
    };
    pair.map(str::to_string)
}

/// Layer 0 red, the last layer blue, as in the paper; a layer's heads differ a little in lightness.
fn head_colour(layer: usize, n_layers: usize, head: usize, n_heads: usize) -> [String; 2] {
    const LIGHT: [[f64; 3]; 4] = [[190.0, 40.0, 20.0], [214.0, 118.0, 0.0], [40.0, 130.0, 140.0], [10.0, 80.0, 170.0]];
    const DARK: [[f64; 3]; 4] =
        [[255.0, 110.0, 90.0], [255.0, 180.0, 70.0], [90.0, 205.0, 205.0], [100.0, 170.0, 255.0]];
    let place = if n_layers > 1 { layer as f64 / (n_layers - 1) as f64 } else { 0.0 };
    let shade = if n_heads > 1 { head as f64 / (n_heads - 1) as f64 } else { 0.5 };
    let mix = |stops: &[[f64; 3]; 4]| {
        let at = place * 3.0;
        let below = (at as usize).min(2);
        let along = at - below as f64;
        let channel = |c: usize| {
            let value = stops[below][c] + along * (stops[below + 1][c] - stops[below][c]);
            (value * (0.82 + 0.3 * shade)).clamp(0.0, 255.0).round() as u8
        };
        format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2))
    };
    [mix(&LIGHT), mix(&DARK)]
}

fn line(name: String, colour: [String; 2], points: impl IntoIterator<Item = (f64, f64)>) -> Line {
    let (x, y) = points.into_iter().map(|(x, y)| (rounded(x), rounded(y))).unzip();
    Line {
        group: name.clone(),
        name,
        colour,
        dash: "solid",
        width: 2.25,
        opacity: 1.0,
        legend: true,
        points: false,
        x,
        y,
    }
}

fn icl_line(player: &Player<'_>) -> Line {
    let points = player.run.icl.iter().map(|point| (point.tokens as f64, point.score));
    line(player.part.label(), colour(player.part), points)
}

fn icl_band(player: &Player<'_>) -> Band {
    let icl = &player.run.icl;
    let side = |sign: f64| {
        icl.iter().map(|point| rounded(point.score + sign * 1.96 * point.stderr.unwrap_or_default())).collect()
    };
    Band {
        colour: colour(player.part),
        group: player.part.label(),
        x: icl.iter().map(|point| rounded(point.tokens as f64)).collect(),
        low: side(-1.0),
        high: side(1.0),
    }
}

/// From a little above 0 to a little below the lowest score, at least to the paper's -0.4.
fn icl_range(players: &[&Player<'_>]) -> [f64; 2] {
    let scores = || players.iter().flat_map(|player| &player.run.icl).map(|point| point.score);
    let low = scores().fold(-0.45, f64::min);
    let high = scores().fold(0.0, f64::max);
    let margin = 0.06 * (high - low);
    [rounded(low - margin), rounded(high + margin)]
}

fn icl_summary(player: &Player<'_>) -> String {
    let last = player.last_icl();
    let window = match &player.window {
        Ok(window) => {
            let [start, end] = [window.start_tokens, window.end_tokens].map(|at| tokens(at as f64));
            format!(
                "falls from {} to {} between {start} and {end} tokens",
                number(window.score_before),
                number(window.score_after)
            )
        }
        Err(_) => "has no phase-change window".to_string(),
    };
    format!("{}: the score {window} and ends at {} nats.", capital(&player.part.label()), number(last.score))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn head_lines(player: &Player<'_>) -> Vec<Line> {
    let spec = &player.run.spec;
    let best = player.best_head();
    (0..spec.n_layers * spec.n_heads)
        .map(|k| {
            let (layer, head) = (k / spec.n_heads, k % spec.n_heads);
            // The reader has checked that every point holds every head, in this order.
            let points = player.run.heads.iter().map(|point| (point.tokens as f64, point.heads[k].prefix_matching));
            let mut line =
                line(format!("head {layer}.{head}"), head_colour(layer, spec.n_layers, head, spec.n_heads), points);
            line.group = format!("layer {layer}");
            line.legend = head == 0;
            line.width = if (layer, head) == (best.layer, best.head) { 3.0 } else { 1.75 };
            line
        })
        .collect()
}

/// The training loss, averaged over equal numbers of steps.
fn training_line(player: &Player<'_>) -> Line {
    let metrics = &player.run.metrics;
    let span = metrics.len().div_ceil(TRAINING_POINTS);
    let points = metrics.chunks(span).map(|chunk| {
        let loss = chunk.iter().map(|point| point.loss).sum::<f64>() / chunk.len() as f64;
        (chunk[chunk.len() / 2].tokens as f64, loss)
    });
    let name = format!("{}, training batches", player.part.label());
    let mut line = line(name, colour(player.part), points);
    (line.width, line.opacity) = (1.0, 0.45);
    line
}

/// The curve at about 20 places a factor of two, each the mean of the entries nearest to it.
fn thinned(by_index: &[f64]) -> impl Iterator<Item = (f64, f64)> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= by_index.len() {
            return None;
        }
        let end = (start + 1 + start / 20).min(by_index.len());
        let entries = &by_index[start..end];
        let place = (start + 1 + end) as f64 / 2.0;
        start = end;
        Some((place, entries.iter().sum::<f64>() / entries.len() as f64))
    })
}

fn window_of(lead: &Cast<'_>) -> Option<[f64; 2]> {
    let window = lead.player(TWO)?.window.as_ref().ok()?;
    Some([window.start_tokens as f64, window.end_tokens as f64])
}

/// "Q1 reproduced, Q2 partly reproduced."
fn verdicts(claims: &[Claim], ids: &[&str]) -> String {
    let found = claims.iter().filter(|claim| ids.contains(&claim.id));
    let words: Vec<String> = found.map(|claim| format!("{} {}", claim.id, claim.verdict.phrase())).collect();
    format!("Claims: {}.", words.join(", "))
}

fn files<'a>(players: impl Iterator<Item = &'a Player<'a>>, table: &'static str) -> Vec<(String, &'static str)> {
    let is_there = |player: &&Player<'_>| match table {
        ABLATIONS => !player.run.ablations.is_empty(),
        KNOCKOUTS => !player.run.knockouts.is_empty(),
        _ => true,
    };
    players.filter(is_there).map(|player| folder(player.run, table)).collect()
}

fn folder(run: &Run, table: &'static str) -> (String, &'static str) {
    (run.folder.clone(), table)
}
