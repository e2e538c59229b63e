//! Foreign text made inert.

use std::fmt::Write as _;

/// `text` with everything that could act on a terminal or reorder a page replaced by a visible
/// escape.
///
/// That is: control characters (ANSI sequences start with one), bidirectional marks and overrides,
/// and characters of no width. Ordinary text in any script passes unchanged.
///
/// ```
/// assert_eq!(induction_records::visible("2 layers \u{1b}[31m"), "2 layers \\u{1b}[31m");
/// ```
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a character does something else than show: what [`visible`] replaces.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
