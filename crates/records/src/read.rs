//! Strict reading: every complaint names the file, the line, the field and what was expected.

use std::{fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Stage, visible};

/// A line of a table (JSON Lines, an object a line; keys that are not known are ignored).
pub trait Row: Serialize + DeserializeOwned {
    /// The table's file, in the folder of the tables.
    const FILE: &'static str;

    /// Who makes it.
    const STAGE: Stage = Stage::Measuring;

    /// Whether a table without a line is sound: there may be nothing to say.
    const MAY_BE_EMPTY: bool = false;

    /// Whether lines come in the order of their [`key`](Self::key), no two at one place.
    const IN_ORDER: bool = true;

    /// The optimizer step and the training tokens that the line is about.
    fn at(&self) -> (u64, u64);

    /// The step, then what tells the lines of a step apart: the order in the file.
    fn key(&self) -> [u64; 6] {
        [self.at().0, 0, 0, 0, 0, 0]
    }

    /// Its lists and their lengths, which must be those of the first line.
    fn lists(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }

    /// What else must hold of a line; else what is wrong, with the field.
    ///
    /// # Errors
    /// A value outside its range.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Reads a table of `folder`.
///
/// # Errors
/// A table that is not there or cannot be read; a line that is not as its [`Row`] says, or not in
/// order.
pub fn read_rows<R: Row>(folder: &Path) -> Result<Vec<R>, Error> {
    let path = folder.join(R::FILE);
    parse_rows(&path, &read_text(&path, R::STAGE)?)
}

/// The rows in the text of a table, which errors say to be in `path`.
///
/// # Errors
/// As [`read_rows`].
pub fn parse_rows<R: Row>(path: &Path, text: &str) -> Result<Vec<R>, Error> {
    let damaged =
        |line, problem| Error::Line { path: path.to_path_buf(), line, problem, stage: R::STAGE };
    let mut rows: Vec<R> = Vec::new();
    let mut lengths = None;
    for (k, line) in text.lines().enumerate() {
        let row: R = parse(line).map_err(|problem| damaged(k + 1, problem))?;
        let lists = row.lists();
        let problem = row.check().err().or_else(|| {
            let expected: &Vec<(&str, usize)> = lengths.get_or_insert_with(|| lists.clone());
            let other = lists.iter().zip(expected).find(|(found, expected)| found != expected);
            other.map(|(&(name, found), &(_, expected))| {
                format!("`{name}` has {found} entries, expected {expected} as above")
            })
        });
        let problem = problem.or_else(|| out_of_order(rows.last()?, &row));
        if let Some(problem) = problem {
            return Err(damaged(k + 1, problem));
        }
        rows.push(row);
    }
    if rows.is_empty() && !R::MAY_BE_EMPTY {
        return Err(damaged(1, "the table is empty, expected at least one line".to_string()));
    }
    Ok(rows)
}

/// What is wrong with one line after another.
fn out_of_order<R: Row>(last: &R, row: &R) -> Option<String> {
    let ((step, tokens), (last_step, last_tokens)) = (row.at(), last.at());
    let (key, last_key) = (row.key(), last.key());
    if step == last_step && tokens != last_tokens {
        return Some(format!(
            "`tokens` is {tokens}, expected {last_tokens} as above for step {step}"
        ));
    }
    if step != last_step && (step < last_step || tokens <= last_tokens) {
        return Some(format!(
            "step {step} ({tokens} tokens) after step {last_step} ({last_tokens} tokens), expected both to increase"
        ));
    }
    if !R::IN_ORDER {
        return None;
    }
    let place = || format!("the line of step {step} at {:?}", &key[1..]);
    match key.cmp(&last_key) {
        std::cmp::Ordering::Greater => None,
        std::cmp::Ordering::Equal => Some(format!("{} is there twice", place())),
        std::cmp::Ordering::Less => Some(format!("{} is not in order", place())),
    }
}

/// Reads a file of one JSON value.
///
/// # Errors
/// A file that is not there, cannot be read or holds something else.
pub fn read_json<T: DeserializeOwned>(path: &Path, stage: Stage) -> Result<T, Error> {
    let text = read_text(path, stage)?;
    parse_value(&text).map_err(|(line, problem)| Error::Line {
        path: path.to_path_buf(),
        line,
        problem,
        stage,
    })
}

pub(crate) fn read_text(path: &Path, stage: Stage) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing { path: path.to_path_buf(), stage },
        _ => Error::Io { path: path.to_path_buf(), source },
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let problem = "expected UTF-8 text, found other bytes".to_string();
        Error::Line { path: path.to_path_buf(), line, problem, stage }
    })
}

pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    parse_value(line).map_err(|(_, problem)| problem)
}

/// A value, or the line of the text that is wrong and what is wrong there.
pub(crate) fn parse_value<T: DeserializeOwned>(text: &str) -> Result<T, (usize, String)> {
    // Following the path costs time; it is only wanted where something is wrong.
    serde_json::from_str(text).or_else(|_| {
        let mut from = serde_json::Deserializer::from_str(text);
        let value = serde_path_to_error::deserialize(&mut from).map_err(|error| {
            let path = error.path().to_string();
            let error = error.into_inner();
            (error.line().max(1), in_words(text, &path, &error))
        })?;
        // What stands after the value.
        from.end().map_err(|error| (error.line().max(1), in_words(text, ".", &error)))?;
        Ok(value)
    })
}

/// serde's complaint for people, with the field it is about.
fn in_words(text: &str, path: &str, error: &serde_json::Error) -> String {
    let message = visible(&error.to_string());
    let message = message.split(" at line ").next().unwrap_or_default();
    if !error.is_data() {
        // serde_json stops at the `N` of NaN with "expected value": say what it most likely was.
        let hint = if text.contains("NaN") || text.to_lowercase().contains("inf") {
            " (NaN and infinity are not JSON; they point at a run that diverged)"
        } else {
            ""
        };
        return format!(
            "expected a JSON object, found \"{message}\" at column {}{hint}",
            error.column()
        );
    }
    let field = match path {
        "." => String::new(),
        path => visible(path),
    };
    let whole = field.is_empty();
    if let Some(name) =
        message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'))
    {
        let dot = if whole { "" } else { "." };
        return format!("`{field}{dot}{name}` is missing");
    }
    let wrong = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix)?.rsplit_once(", expected "));
    match wrong {
        Some(_) if whole => "expected a JSON object".to_string(),
        Some((found, expected)) => {
            let expected = match expected {
                "f64" | "f32" => "a finite number",
                "u64" | "u32" | "usize" => "a whole number from 0",
                "u8" => "a whole number from 0 to 255",
                "a sequence" => "a list",
                "a string" => "a text",
                "a map" => "an object",
                other if other.starts_with("struct ") => "an object",
                other => other,
            };
            let found: String = found.chars().take(60).collect();
            format!("`{field}` is {found}, expected {expected}")
        }
        None if whole => message.to_string(),
        None => format!("`{field}`: {message}"),
    }
}

/// Refuses a number outside a range; scores are sums of rounded shares, so by a hair is none.
pub(crate) fn within(name: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low - 1e-6..=high + 1e-6).contains(&value) {
        return Ok(());
    }
    Err(format!("`{name}` is {value}, expected a number from {low} to {high}"))
}

/// Refuses a standard error below 0.
pub(crate) fn stderr(name: &str, value: Option<f64>) -> Result<(), String> {
    match value {
        Some(value) if value < 0.0 => {
            Err(format!("`{name}` is {value}, expected a number from 0 upwards"))
        }
        _ => Ok(()),
    }
}

/// Refuses a list without an entry.
pub(crate) fn some(name: &str, list: &[f64]) -> Result<(), String> {
    if list.is_empty() {
        return Err(format!("`{name}` has 0 entries, expected 1 or more"));
    }
    Ok(())
}
