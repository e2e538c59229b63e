//! Text for people: numbers at a sensible precision, and foreign text made inert.

use std::fmt::Write as _;

pub(crate) use induction_records::visible;

/// [`visible`], but line breaks stay: for text shown in a `<pre>`.
pub(crate) fn visible_lines(text: &str) -> String {
    text.lines().map(visible).collect::<Vec<_>>().join("\n")
}

/// Text as content of an SVG file, or as a quoted attribute's value. The page's templates escape by
/// themselves.
pub(crate) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// JSON that can stand inside `<script type="application/json">`: no `<`, so no tag and no comment
/// can begin there.
pub(crate) fn json_for_script(json: &str) -> String {
    // A `<` of valid JSON stands inside a string, where the escape means the same.
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// A folder's name as one segment of a relative URL.
pub(crate) fn url_segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A number of nats, or of another unit of that size: two decimals, a third below 0.1; never "-0".
pub(crate) fn number(value: f64) -> String {
    let text = if value.abs() < 0.0995 { format!("{value:.3}") } else { format!("{value:.2}") };
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_string(),
        _ => text,
    }
}

/// A share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0 + 0.0)
}

/// A number of tokens: `950`, `12.3k`, `4.10M`, `2.50B`.
pub(crate) fn tokens(count: f64) -> String {
    if count < 0.0 {
        return format!("-{}", tokens(-count));
    }
    let (scaled, unit) = match count {
        c if c >= 999.5e6 => (c / 1e9, "B"),
        c if c >= 999.5e3 => (c / 1e6, "M"),
        c if c >= 999.5 => (c / 1e3, "k"),
        c => return format!("{c:.0}"),
    };
    match scaled {
        s if s >= 99.95 => format!("{s:.0}{unit}"),
        s if s >= 9.995 => format!("{s:.1}{unit}"),
        s => format!("{s:.2}{unit}"),
    }
}

/// The value to about five digits: what a figure can show, at a third of the bytes.
pub(crate) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    // Through text, so that the shortest decimal is what the JSON holds.
    format!("{value:.4e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(visible("a\u{202e}b\u{1b}[31mc\u{7}\n"), "a\\u{202e}b\\u{1b}[31mc\\u{7}\\u{a}");
        assert_eq!(visible("Größe 東京 שלום"), "Größe 東京 שלום");
        assert_eq!(visible_lines("a\r\nb\u{1b}"), "a\nb\\u{1b}");
        assert_eq!(xml("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        assert_eq!(json_for_script("[\"</script><!--\"]"), "[\"\\u003c/script>\\u003c!--\"]");
        assert_eq!(url_segment("2L #1/é"), "2L%20%231%2F%C3%A9");
    }

    #[test]
    fn numbers() {
        assert_eq!(
            [number(0.4123), number(-0.0001), number(0.0512), number(0.0999)],
            ["0.41", "0.000", "0.051", "0.10"]
        );
        assert_eq!(
            [tokens(950.0), tokens(12_345.0), tokens(4.1e6), tokens(2.5e9)],
            ["950", "12.3k", "4.10M", "2.50B"]
        );
        assert_eq!(tokens(999_999.0), "1.00M");
        assert_eq!(percent(0.256), "26 %");
        assert_eq!(rounded(0.123_456_789), 0.12346);
    }
}
