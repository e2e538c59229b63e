//! What a figure is made of: the one description that the page, the pictures and the files are
//! drawn from.

use induction_records::Control;
use serde::Serialize;

use crate::experiment::Clamped;
use crate::experiment::Variant;
use crate::text::rounded;

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
    /// A figure that is a table: its head, then its rows.
    #[serde(skip)]
    pub(crate) table: Vec<Vec<String>>,
    /// A figure that is coloured text.
    #[serde(skip)]
    pub(crate) text: Option<ColouredText>,
}

/// Text of which each token has a value.
#[derive(Debug)]
pub(crate) struct ColouredText {
    pub(crate) tokens: Vec<String>,
    pub(crate) values: Vec<f64>,
    /// Where the colours end, on both sides of 0.
    pub(crate) limit: f64,
    pub(crate) unit: &'static str,
}

/// One pair of axes.
#[derive(Debug, Serialize)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// What is seen, for those who cannot see it; and the text of a panel without data.
    #[serde(skip)]
    pub(crate) summary: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) bands: Vec<Band>,
    pub(crate) lines: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heat: Option<Heat>,
}

/// A map of colours instead of lines.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Heat {
    pub(crate) x: Vec<f64>,
    pub(crate) y: Vec<f64>,
    /// A row for each `y`.
    pub(crate) z: Vec<Vec<f64>>,
    /// Where the colours end.
    pub(crate) range: [f64; 2],
    pub(crate) colours: Colours,
    /// What a value is.
    pub(crate) unit: &'static str,
    /// Names of the places on both axes, where these are positions in a text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) labels: Vec<String>,
}

/// Scales that stay in order for colour-blind readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Colours {
    /// Dark blue to yellow.
    Sequential,
    /// Blue below 0, red above it.
    Diverging,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Axis {
    pub(crate) title: &'static str,
    pub(crate) log: bool,
    /// Tokens: labelled with k, M, B.
    pub(crate) tokens: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<[f64; 2]>,
    /// From top to bottom.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) down: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// For a light and for a dark page.
    pub(crate) colour: [String; 2],
    pub(crate) dash: &'static str,
    pub(crate) width: f64,
    pub(crate) opacity: f64,
    /// Lines of one group share an entry in the legend: that of the one with `legend`.
    pub(crate) group: String,
    pub(crate) legend: bool,
    /// Single points rather than a line through them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) points: bool,
    pub(crate) x: Vec<f64>,
    pub(crate) y: Vec<f64>,
}

/// The area between two curves.
#[derive(Debug, Serialize)]
pub(crate) struct Band {
    pub(crate) colour: [String; 2],
    pub(crate) group: String,
    pub(crate) x: Vec<f64>,
    pub(crate) low: Vec<f64>,
    pub(crate) high: Vec<f64>,
}

impl Figure {
    pub(crate) fn empty() -> Self {
        Self {
            id: "",
            title: "",
            drawn: String::new(),
            paper: "",
            here: String::new(),
            files: Vec::new(),
            panels: Vec::new(),
            table: Vec::new(),
            text: None,
        }
    }
}

impl Panel {
    pub(crate) fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self {
            title: title.into(),
            summary: String::new(),
            x,
            y,
            window: None,
            bands: Vec::new(),
            lines: Vec::new(),
            heat: None,
        }
    }
}

pub(crate) fn axis(title: &'static str) -> Axis {
    Axis { title, log: false, tokens: false, range: None, down: false }
}

pub(crate) fn tokens_axis() -> Axis {
    Axis { tokens: true, ..axis("training tokens") }
}

/// Okabe and Ito's colours, brightened for a dark page where that is needed.
pub(crate) fn colour(part: Variant) -> [String; 2] {
    if let Some(clamp) = part.clamp {
        let pair = match clamp {
            Clamped::PreviousToken => ["#d6489a", "#ff86c8"],
            Clamped::ForbidInduction => ["#57606a", "#aab4be"],
            Clamped::Other(_) => ["#8a5a2b", "#d9a066"],
        };
        return pair.map(str::to_string);
    }
    if let Some(control) = part.control {
        let pair = match control {
            Control::Shuffled => ["#8a5a2b", "#d9a066"],
            Control::Fragments => ["#57606a", "#aab4be"],
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
pub(super) fn head_colour(
    layer: usize,
    n_layers: usize,
    head: usize,
    n_heads: usize,
) -> [String; 2] {
    const LIGHT: [[f64; 3]; 4] =
        [[190.0, 40.0, 20.0], [214.0, 118.0, 0.0], [40.0, 130.0, 140.0], [10.0, 80.0, 170.0]];
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

pub(crate) fn line(
    name: String,
    colour: [String; 2],
    points: impl IntoIterator<Item = (f64, f64)>,
) -> Line {
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
