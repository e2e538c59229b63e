//! What is written in TOML, against what is read of it; and its reader's complaints in words.

use std::collections::BTreeMap;

/// What is wrong with a spec's or manifest's TOML, with the types as its reader knows them.
pub fn in_words(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let text = text.trim_end();
    // The reason is the last line; what comes before shows the place.
    let (place, reason) =
        text.rsplit_once('\n').map_or(("", text), |(place, reason)| (place, reason));
    let reason = reason
        .replace("unknown variant", "unknown value")
        .replace("invalid type: unit variant,", "no text,")
        .replace("wanted string or table", "expected a text, or a table of one key")
        .replace("wanted exactly 1 element, ", "expected one key, ")
        .replace("invalid type: map,", "invalid type: table,")
        .replace("invalid type: sequence,", "invalid type: list,");
    let reason = match reason.split_once("expected ") {
        None => reason,
        Some((found, expected)) => {
            let of = |kind: &str| expected.starts_with(kind);
            let expected = match expected {
                "usize" | "u64" | "u32" => "a whole number from 0",
                "f64" => "a number",
                "a sequence" => "a list",
                "a map" => "a table",
                "variant identifier" | "string or map" | "string only" => "a text",
                _ if of("struct ") || of("internally tagged enum ") => "a table",
                _ if of("variant of enum ") || of("enum ") => "a text",
                other => other,
            };
            format!("{found}expected {expected}")
        }
    };
    if place.is_empty() { reason } else { format!("{place}\n{reason}") }
}

/// Refuses what is written and would not be used, by its line, its key and why; `kept` is what was
/// read, written again.
pub(crate) fn all_used(written: &str, kept: &str) -> Result<(), String> {
    let values = |text: &str| toml::from_str::<toml::Value>(text).ok();
    let Some((key, reason)) = values(written).zip(values(kept)).and_then(|(a, b)| lost(&a, &b, ""))
    else {
        return Ok(());
    };
    let own = key.rsplit('.').next().unwrap_or(&key);
    let names = |line: &str| {
        line.trim_start().strip_prefix(own).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let line = written.lines().position(names);
    let line = line.map_or(String::new(), |k| format!("line {}: ", k + 1));
    Err(format!("{line}`{key}`: {reason}"))
}

/// What a spec says, by its whole keys.
pub(super) fn flat(key: &str, value: &toml::Value, out: &mut BTreeMap<String, String>) {
    let toml::Value::Table(table) = value else {
        out.insert(key.to_string(), value.to_string());
        return;
    };
    for (name, value) in table {
        let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        flat(&below, value, out);
    }
}

/// A list of one clamp is kept as that clamp.
fn is_one_clamp(written: &[toml::Value], key: &str) -> bool {
    key.ends_with("model.clamp") && matches!(written, [toml::Value::Table(_)])
}

/// What is written and would not be used: the key, and why. A list may have more entries than are
/// read, and a number more digits than are kept.
fn lost(written: &toml::Value, kept: &toml::Value, key: &str) -> Option<(String, String)> {
    use toml::Value::{Array, Float, Integer, Table};
    let number = |value: &toml::Value| match *value {
        Integer(n) => Some(n as f64),
        Float(x) => Some(x),
        _ => None,
    };
    match (written, kept) {
        (Table(written), Table(kept)) => written.iter().find_map(|(name, value)| {
            let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            lost(value, kept.get(name)?, &below)
        }),
        (Array(written), Array(kept)) if written.len() != kept.len() => {
            let (found, read) = (written.len(), kept.len());
            Some((key.to_string(), format!("{found} entries, of which {read} would be read")))
        }
        // serde reads the entries of a list as the values of a table's keys, in their order.
        (Array(written), Table(_)) if !is_one_clamp(written, key) => {
            Some((key.to_string(), "a list, where a table is meant".to_string()))
        }
        (Array(written), Array(kept)) => {
            written.iter().zip(kept).find_map(|(written, kept)| lost(written, kept, key))
        }
        _ => match (number(written)?, number(kept)?) {
            (written, kept) if written != kept => {
                Some((key.to_string(), format!("{written} would be kept as {kept}")))
            }
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_kept() {
        assert_eq!(
            all_used("a = 0.1\n\nb = [1, 16777217]\n", "a = 0.1\nb = [1.0, 16777216.0]\n"),
            Err("line 3: `b`: 16777217 would be kept as 16777216".to_string())
        );
        // What the resolved spec leaves out, as it is a default, is used.
        assert_eq!(all_used("a = 1\n[t]\nb = 2", "[t]\nb = 2.0"), Ok(()));
        // A list of one clamp is kept as that clamp, of a manifest's runs, too; no other list is.
        let clamp = "{ kind = \"forbid-induction\" }";
        let of = |value: &str| format!("[[runs]]\nmodel = {{ clamp = {value}, other = {value} }}");
        let list = format!("[{clamp}]");
        let written = of(clamp).replace(&format!("clamp = {clamp}"), &format!("clamp = {list}"));
        assert_eq!(all_used(&written, &of(clamp)), Ok(()));
        let refused = all_used(&of(&list), &of(clamp)).unwrap_err();
        assert!(
            refused.contains("`runs.model.other`: a list, where a table is meant"),
            "{refused}"
        );
    }
}
