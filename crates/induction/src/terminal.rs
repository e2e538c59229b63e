//! Text on its way to a terminal. Paths, corpora, specs and tokenizers are other people's: what
//! they hold must not move the cursor, set a title, reorder a line or hide a part of it.

use std::fmt::Write as _;

use induction_records::{acts, visible};

/// Characters of a message: a file's line may be quoted in it, and be a megabyte long.
const LONGEST: usize = 4000;

/// Text whose characters do nothing but show, with its line ends and tabs.
pub fn inert(text: &str) -> String {
    let parts =
        text.split_inclusive(['\n', '\t']).map(|part| match part.strip_suffix(['\n', '\t']) {
            Some(before) => visible(before) + &part[before.len()..],
            None => visible(part),
        });
    parts.collect()
}

/// JSON of the same value that is [`inert`]: characters that act are escaped, as only strings hold
/// any.
pub fn inert_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if acts(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// A message: [`inert`], and not longer than anybody reads.
pub fn message(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => inert(&text[..end]) + "...",
        None => inert(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2J\u{7}\r\u{9b}\u{202e}\u{e0041}\tb\n";

    #[test]
    fn nothing_acts() {
        assert_eq!(inert(HOSTILE), "a\\u{1b}[2J\\u{7}\\u{d}\\u{9b}\\u{202e}\\u{e0041}\tb\n");
        assert_eq!(message(&"é".repeat(5000)), "é".repeat(4000) + "...");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"name": HOSTILE, "plain": ["Größe", 1]});
        let json = inert_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!json.chars().any(|c| acts(c) && c != '\n'), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }
}
