//! A figure as files: a picture (SVG) and its numbers (CSV, a line a point).

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::figures::{Axis, ColouredText, Colours, Figure, Heat, Panel};
use crate::text::{number, tokens as token_count, xml};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 360.0;
/// Left, top, right, bottom of the axes within a panel.
const MARGIN: [f64; 4] = [62.0, 58.0, 16.0, 50.0];

/// The numbers of a figure, column names first: `panel, series, x, y, low, high, value`, a point
/// each, where of a map of colours `value` is the entry at `x` and `y`; of a table its own columns;
/// of coloured text `token, text, value`.
fn grid(figure: &Figure) -> (Vec<String>, Vec<Vec<Value>>) {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>();
    if let Some((head, rows)) = figure.table.split_first() {
        let mut head = head.clone();
        for k in 1..head.len() {
            if head[..k].contains(&head[k]) {
                head[k] = format!("{} ({k})", head[k]);
            }
        }
        return (
            head,
            rows.iter().map(|row| row.iter().map(|cell| json!(cell)).collect()).collect(),
        );
    }
    if let Some(text) = &figure.text {
        let each = text.tokens.iter().zip(&text.values).enumerate();
        let rows = each
            .map(|(k, (token, value))| vec![json!(k + 1), json!(token), json!(value)])
            .collect();
        return (names(&["token", "text", "value"]), rows);
    }
    let mut rows = Vec::new();
    for panel in &figure.panels {
        let title = json!(panel.title);
        for line in &panel.lines {
            // A band belongs to the line of its group, point by point.
            let band = panel.bands.iter().find(|band| band.group == line.group && band.x == line.x);
            for (k, (x, y)) in line.x.iter().zip(&line.y).enumerate() {
                let [low, high] = band.map_or([Value::Null, Value::Null], |band| {
                    [json!(band.low[k]), json!(band.high[k])]
                });
                rows.push(vec![
                    title.clone(),
                    json!(line.name),
                    json!(x),
                    json!(y),
                    low,
                    high,
                    Value::Null,
                ]);
            }
        }
        if let Some(heat) = &panel.heat {
            for (y, row) in heat.y.iter().zip(&heat.z) {
                // Of a text, the later ones cannot be seen.
                let seen =
                    heat.x.iter().zip(row).filter(|(x, _)| heat.labels.is_empty() || *x <= y);
                let null = Value::Null;
                rows.extend(seen.map(|(x, z)| {
                    vec![
                        title.clone(),
                        null.clone(),
                        json!(x),
                        json!(y),
                        null.clone(),
                        null.clone(),
                        json!(z),
                    ]
                }));
            }
        }
    }
    (names(&["panel", "series", "x", "y", "low", "high", "value"]), rows)
}

/// The numbers of a figure as CSV.
pub(crate) fn csv(figure: &Figure) -> String {
    let (names, rows) = grid(figure);
    let mut out = names.iter().map(|name| field(name)).collect::<Vec<_>>().join(",") + "\n";
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .map(|cell| match cell {
                Value::Null => String::new(),
                Value::String(text) => field(text),
                number => number.as_f64().map_or(String::new(), |number| number.to_string()),
            })
            .collect();
        out += &(cells.join(",") + "\n");
    }
    out
}

/// The same as Parquet; nothing for a figure without numbers.
#[cfg(feature = "parquet")]
pub(crate) fn parquet(figure: &Figure) -> std::io::Result<Option<Vec<u8>>> {
    let (names, rows) = grid(figure);
    let lines = rows.into_iter().map(|row| {
        let object: serde_json::Map<String, Value> = names.iter().cloned().zip(row).collect();
        Value::Object(object).to_string() + "\n"
    });
    let text: String = lines.collect();
    if text.is_empty() {
        Ok(None)
    } else {
        induction_files::parquet_of_json_lines(text.as_bytes()).map(Some)
    }
}

/// A CSV field. Quoted where it must be; what a spreadsheet would run as a formula is told to be
/// text.
fn field(text: &str) -> String {
    let text = match text.chars().next() {
        Some('=' | '+' | '-' | '@') if text.parse::<f64>().is_err() => format!("'{text}"),
        _ => text.to_string(),
    };
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// The figure as a picture, in the colours of a light page.
pub(crate) fn svg(figure: &Figure) -> String {
    let columns = figure.panels.len().clamp(1, 2);
    let rows = figure.panels.len().div_ceil(columns);
    let text = figure
        .text
        .as_ref()
        .map_or((String::new(), 0.0), |text| coloured(text, columns as f64 * WIDTH));
    let table = table(&figure.table);
    let (width, top) = ((columns as f64 * WIDTH).max(table.1), 40.0);
    let height = top + rows as f64 * HEIGHT + text.1 + table.2;
    let mut out = String::new();
    let _ = writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif" font-size="12" fill="#1c2024">
<title>{title}</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="16" y="26" font-size="16" font-weight="bold">{title}</text>"##,
        title = xml(figure.title)
    );
    for (k, panel) in figure.panels.iter().enumerate() {
        let (x, y) = ((k % columns) as f64 * WIDTH, top + (k / columns) as f64 * HEIGHT);
        let _ = writeln!(out, r#"<g transform="translate({x:.0} {y:.0})">"#);
        draw(&mut out, panel);
        out.push_str("</g>\n");
    }
    let below = top + rows as f64 * HEIGHT;
    let _ = writeln!(out, r#"<g transform="translate(0 {below:.0})">{}{}</g>"#, text.0, table.0);
    out.push_str("</svg>\n");
    out
}

/// From values to places along an axis.
struct Scale {
    log: bool,
    from: [f64; 2],
    to: [f64; 2],
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let of = |x: f64| if self.log { x.max(1e-12).ln() } else { x };
        let (a, b) = (of(self.from[0]), of(self.from[1]));
        let part = if b > a { (of(value) - a) / (b - a) } else { 0.5 };
        self.to[0] + part.clamp(-0.02, 1.02) * (self.to[1] - self.to[0])
    }
}

fn reach(axis: &Axis, values: impl Iterator<Item = f64> + Clone) -> [f64; 2] {
    if let Some(range) = axis.range {
        return range;
    }
    let positive = |x: &f64| !axis.log || *x > 0.0;
    let (low, high) = values
        .filter(positive)
        .fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    match (low < high, axis.tokens && !axis.log) {
        (true, true) => [low.min(0.0), high],
        (true, false) => [low, high],
        (false, _) if low == high => [low - 0.5, low + 0.5],
        (false, _) => [0.0, 1.0],
    }
}

/// About five round values inside a range.
fn ticks(axis: &Axis, [low, high]: [f64; 2]) -> Vec<f64> {
    if axis.log {
        let decades =
            (low.max(1e-12).log10().floor() as i32)..=(high.max(1e-12).log10().ceil() as i32);
        let all: Vec<f64> =
            decades.flat_map(|n| [1.0, 2.0, 5.0].map(|x| x * 10f64.powi(n))).collect();
        let inside: Vec<f64> = all.into_iter().filter(|x| (low..=high).contains(x)).collect();
        let keep = inside.len().div_ceil(8).max(1);
        return inside.into_iter().step_by(keep).collect();
    }
    let rough = (high - low) / 5.0;
    let ten = 10f64.powf(rough.abs().max(1e-300).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|x| x * ten)
        .find(|step| *step >= rough)
        .unwrap_or(ten);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last.min(first + 20)).map(|k| k as f64 * step).collect()
}

fn label(axis: &Axis, value: f64) -> String {
    if axis.tokens && value.abs() >= 1.0 {
        let text = token_count(value);
        let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
        let short = if digits.contains('.') {
            digits.trim_end_matches('0').trim_end_matches('.')
        } else {
            digits
        };
        return format!("{short}{unit}");
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

fn draw(out: &mut String, panel: &Panel) {
    let [left, top, right, bottom] = MARGIN;
    let _ =
        writeln!(out, r#"<text x="{left}" y="20" font-weight="bold">{}</text>"#, xml(&panel.title));
    if panel.lines.is_empty() && panel.heat.is_none() {
        let _ = writeln!(
            out,
            r##"<text x="{left}" y="60" fill="#565e67">{}</text>"##,
            xml(&panel.summary)
        );
        return;
    }
    let (xs, ys): (Vec<f64>, Vec<f64>) = match &panel.heat {
        Some(heat) => (heat.x.clone(), heat.y.clone()),
        None => {
            let lines = || panel.lines.iter();
            let bands = || panel.bands.iter();
            (
                lines().flat_map(|line| line.x.iter().copied()).collect(),
                lines()
                    .flat_map(|line| line.y.iter().copied())
                    .chain(bands().flat_map(|band| band.low.iter().chain(&band.high).copied()))
                    .collect(),
            )
        }
    };
    let x = Scale {
        log: panel.x.log,
        from: reach(&panel.x, xs.iter().copied()),
        to: [left, WIDTH - right],
    };
    let mut to = [HEIGHT - bottom, top];
    if panel.y.down {
        to.reverse();
    }
    let y = Scale { log: panel.y.log, from: reach(&panel.y, ys.iter().copied()), to };
    if let Some(heat) = &panel.heat {
        map(out, heat, &x, &y);
    }
    if let Some([start, end]) = panel.window {
        let (a, b) = (x.at(start), x.at(end));
        let _ = match panel.heat {
            None => writeln!(
                out,
                r##"<rect x="{a:.1}" y="{top}" width="{:.1}" height="{:.1}" fill="#5b6b7b" opacity="0.16"/>"##,
                b - a,
                HEIGHT - top - bottom
            ),
            Some(_) => writeln!(
                out,
                r##"<path d="M{a:.1} {top}V{h}M{b:.1} {top}V{h}" stroke="#1c2024" stroke-dasharray="2 3"/>"##,
                h = HEIGHT - bottom
            ),
        };
    }
    for value in ticks(&panel.x, x.from) {
        let at = x.at(value);
        let (from, to) = (HEIGHT - bottom, HEIGHT - bottom + 5.0);
        let _ = writeln!(
            out,
            r##"<path d="M{at:.1} {from}V{to}" stroke="#8a9096"/><text x="{at:.1}" y="{}" text-anchor="middle">{}</text>"##,
            to + 13.0,
            label(&panel.x, value)
        );
    }
    for value in ticks(&panel.y, y.from) {
        let at = y.at(value);
        let _ = writeln!(
            out,
            r##"<path d="M{left} {at:.1}H{}" stroke="#e7e9e4"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"##,
            if panel.heat.is_some() { left - 5.0 } else { WIDTH - right },
            left - 7.0,
            at + 4.0,
            label(&panel.y, value)
        );
    }
    let _ = writeln!(
        out,
        r##"<path d="M{left} {top}V{h}H{w}" fill="none" stroke="#8a9096"/><text x="{mid}" y="{}" text-anchor="middle" fill="#565e67">{}</text><text transform="translate(15 {}) rotate(-90)" text-anchor="middle" fill="#565e67">{}</text>"##,
        HEIGHT - 12.0,
        xml(panel.x.title),
        (top + HEIGHT - bottom) / 2.0,
        xml(panel.y.title),
        h = HEIGHT - bottom,
        w = WIDTH - right,
        mid = (left + WIDTH - right) / 2.0,
    );
    for band in &panel.bands {
        let there = band.x.iter().zip(&band.high);
        let back = band.x.iter().zip(&band.low).rev();
        let points: Vec<String> = there
            .chain(back)
            .map(|(px, py)| format!("{:.1},{:.1}", x.at(*px), y.at(*py)))
            .collect();
        let _ = writeln!(
            out,
            r#"<polygon points="{}" fill="{}" opacity="0.18"/>"#,
            points.join(" "),
            band.colour[0]
        );
    }
    let mut legend: Vec<(&str, &str, &str)> = Vec::new();
    for line in &panel.lines {
        let colour = &line.colour[0];
        if line.points || line.x.len() == 1 {
            for (px, py) in line.x.iter().zip(&line.y) {
                let _ = writeln!(
                    out,
                    r#"<circle cx="{:.1}" cy="{:.1}" r="3.2" fill="{colour}" opacity="{}"/>"#,
                    x.at(*px),
                    y.at(*py),
                    line.opacity
                );
            }
        } else {
            let points: Vec<String> = line
                .x
                .iter()
                .zip(&line.y)
                .map(|(px, py)| format!("{:.1},{:.1}", x.at(*px), y.at(*py)))
                .collect();
            let dash = dashed(line.dash);
            let _ = writeln!(
                out,
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{}" opacity="{}"{dash}/>"#,
                points.join(" "),
                line.width * 0.8,
                line.opacity
            );
        }
        if line.legend && panel.lines.len() > 1 {
            let whole = line.group.starts_with("layer") || line.group.ends_with("heads");
            legend.push((if whole { &line.group } else { &line.name }, colour, line.dash));
        }
    }
    let (mut at, mut row) = (left, 36.0);
    for (name, colour, dash) in legend {
        let width = 22.0 + 6.3 * name.chars().count() as f64;
        if at + width > WIDTH && at > left {
            (at, row) = (left, row + 14.0);
        }
        let _ = writeln!(
            out,
            r#"<path d="M{at:.0} {:.0}h12" stroke="{colour}" stroke-width="{}"{}/><text x="{:.0}" y="{row}" font-size="11">{}</text>"#,
            row - 4.0,
            if dashed(dash).is_empty() { 3 } else { 2 },
            dashed(dash),
            at + 16.0,
            xml(name)
        );
        at += width + 8.0;
    }
}

fn dashed(kind: &str) -> &'static str {
    match kind {
        "dash" => r#" stroke-dasharray="5 2""#,
        "dot" => r#" stroke-dasharray="2 3""#,
        _ => "",
    }
}

const SEQUENTIAL: [[f64; 3]; 5] = [
    [0.0, 34.0, 78.0],
    [59.0, 73.0, 108.0],
    [122.0, 121.0, 118.0],
    [187.0, 175.0, 113.0],
    [254.0, 232.0, 56.0],
];
const DIVERGING: [[f64; 3]; 5] = [
    [11.0, 83.0, 148.0],
    [111.0, 168.0, 220.0],
    [255.0, 255.0, 255.0],
    [230.0, 154.0, 122.0],
    [168.0, 38.0, 12.0],
];

fn colour(colours: Colours, part: f64) -> String {
    let stops = if colours == Colours::Diverging { DIVERGING } else { SEQUENTIAL };
    let at = part.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let low = (at as usize).min(stops.len() - 2);
    let mix = |c: usize| {
        (stops[low][c] + (at - low as f64) * (stops[low + 1][c] - stops[low][c])).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

fn map(out: &mut String, heat: &Heat, x: &Scale, y: &Scale) {
    let middle = |a: f64, b: f64| (a + b) / 2.0;
    let edges = |places: &[f64], scale: &Scale| -> Vec<f64> {
        let at: Vec<f64> = places.iter().map(|&place| scale.at(place)).collect();
        let mut edges = vec![at[0]];
        edges.extend(at.windows(2).map(|two| middle(two[0], two[1])));
        edges.push(at[at.len() - 1]);
        edges
    };
    let (xe, ye) = (edges(&heat.x, x), edges(&heat.y, y));
    // Most of an attention map is nothing: one rectangle below all.
    let ground = if heat.colours == Colours::Diverging { 0.5 } else { 0.0 };
    let _ = writeln!(
        out,
        r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{}"/>"#,
        xe[0],
        ye[0].min(ye[ye.len() - 1]),
        xe[xe.len() - 1] - xe[0],
        (ye[ye.len() - 1] - ye[0]).abs(),
        colour(heat.colours, ground)
    );
    for (r, row) in heat.z.iter().enumerate() {
        for (c, value) in row.iter().enumerate() {
            let part = (value - heat.range[0]) / (heat.range[1] - heat.range[0]);
            if (part - ground).abs() < 0.004 {
                continue;
            }
            let (top, bottom) = (ye[r].min(ye[r + 1]), ye[r].max(ye[r + 1]));
            let _ = write!(
                out,
                r#"<rect x="{:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{}"/>"#,
                xe[c],
                xe[c + 1] - xe[c] + 0.3,
                bottom - top + 0.3,
                colour(heat.colours, part)
            );
        }
    }
    let _ = writeln!(
        out,
        r##"<text x="{}" y="36" text-anchor="end" fill="#565e67">colours from {} to {} {}</text>"##,
        WIDTH - MARGIN[2],
        number(heat.range[0]),
        number(heat.range[1]),
        xml(heat.unit)
    );
}

/// Coloured text in a fixed-width font, and its height.
fn coloured(text: &ColouredText, width: f64) -> (String, f64) {
    const LETTER: f64 = 7.3;
    const LINE: f64 = 20.0;
    let (mut out, mut x, mut y) = (String::new(), 16.0, 24.0);
    for (token, value) in text.tokens.iter().zip(&text.values) {
        let shown = token.replace('\n', "\u{21b5}").replace('\t', "\u{21e5}");
        let wide = LETTER * shown.chars().count() as f64;
        if x + wide > width - 16.0 {
            (x, y) = (16.0, y + LINE);
        }
        let fill = if *value < 0.0 { "#2b78c5" } else { "#d13a12" };
        let part = (value.abs() / text.limit).min(1.0) * 0.75;
        let _ = write!(
            out,
            r#"<rect x="{x:.1}" y="{:.1}" width="{wide:.1}" height="17" fill="{fill}" opacity="{part:.2}"/><text x="{x:.1}" y="{y:.1}" font-family="'DejaVu Sans Mono', monospace" xml:space="preserve" textLength="{wide:.1}">{}</text>"#,
            y - 13.0,
            xml(&shown)
        );
        x += wide;
        if token.contains('\n') {
            (x, y) = (16.0, y + LINE);
        }
    }
    (out, y + LINE)
}

/// A table as text, its width and its height.
fn table(rows: &[Vec<String>]) -> (String, f64, f64) {
    if rows.is_empty() {
        return (String::new(), 0.0, 0.0);
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<f64> = (0..columns)
        .map(|c| {
            rows.iter()
                .filter_map(|row| row.get(c))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
        .map(|letters| 18.0 + 6.6 * letters as f64)
        .collect();
    let mut out = String::new();
    for (r, row) in rows.iter().enumerate() {
        let mut x = 16.0;
        for (cell, width) in row.iter().zip(&widths) {
            let weight = if r == 0 { " font-weight=\"bold\"" } else { "" };
            let _ =
                write!(out, r#"<text x="{x:.0}" y="{}"{weight}>{}</text>"#, 20 + 22 * r, xml(cell));
            x += width;
        }
    }
    (out, 32.0 + widths.iter().sum::<f64>(), 20.0 + 22.0 * rows.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_break_out_or_be_run() {
        assert_eq!(
            [field("a"), field("a,\"b\""), field("=1+1"), field("-0.5")],
            ["a", "\"a,\"\"b\"\"\"", "'=1+1", "-0.5"]
        );
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let linear = Axis { range: None, ..crate::figures::axis("") };
        assert_eq!(ticks(&linear, [0.0, 1.0]), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        let log = Axis { log: true, ..linear.clone() };
        assert_eq!(
            ticks(&log, [1.0, 500.0]),
            [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
                .into_iter()
                .step_by(2)
                .collect::<Vec<_>>()
        );
        let tokens = Axis { tokens: true, ..linear };
        assert_eq!(
            [label(&tokens, 2e6), label(&tokens, 1.5e6), label(&tokens, 0.0)],
            ["2M", "1.5M", "0"]
        );
    }
}
