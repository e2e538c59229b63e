//! Checked reading of JSON Lines: every complaint names the file, the line, the field and what was
//! expected.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ablations::Downstream;
use crate::ReportError;
use crate::text::visible;

pub(super) fn read(path: &Path, missing: &'static str) -> Result<String, ReportError> {
    let bytes = fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            ReportError::Missing { path: path.to_path_buf(), help: missing }
        }
        _ => ReportError::Read { path: path.to_path_buf(), source },
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let problem = "expected UTF-8 text, found other bytes".to_string();
        ReportError::Line {
            path: path.to_path_buf(),
            line,
            problem,
            help: "the file is damaged: make it again",
        }
    })
}

/// A JSON Lines file.
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) help: &'static str,
}

/// One of its lines, parsed.
pub(super) struct Row<'a> {
    pub(super) table: &'a Table,
    pub(super) line: usize,
    pub(super) fields: Map<String, Value>,
}

/// A point of a table with a line a snapshot or a step.
pub(super) trait Point {
    fn at(&self) -> (u64, u64);
}

impl Table {
    pub(super) fn read(
        path: PathBuf,
        missing: &'static str,
        help: &'static str,
    ) -> Result<Self, ReportError> {
        let text = read(&path, missing)?;
        Ok(Self { path, text, help })
    }

    pub(super) fn parsed(&self) -> Result<Vec<Row<'_>>, ReportError> {
        let rows: Result<Vec<_>, _> =
            self.text.lines().enumerate().map(|(k, line)| Row::parse(self, k + 1, line)).collect();
        match rows {
            Ok(rows) if rows.is_empty() => {
                let problem = "the table is empty, expected at least one line".to_string();
                Err(ReportError::Line {
                    path: self.path.clone(),
                    line: 1,
                    problem,
                    help: self.help,
                })
            }
            rows => rows,
        }
    }

    /// Every line as a point; refuses steps or tokens that do not increase.
    pub(super) fn rows<T: Point>(
        &self,
        mut read: impl FnMut(&Row<'_>) -> Result<T, ReportError>,
    ) -> Result<Vec<T>, ReportError> {
        let mut points: Vec<T> = Vec::new();
        for row in self.parsed()? {
            let point = read(&row)?;
            let (step, tokens) = point.at();
            match points.last().map(Point::at) {
                Some((last, last_tokens)) if step <= last || tokens <= last_tokens => {
                    return Err(row.problem(order_problem(step, last, tokens, last_tokens)));
                }
                _ => points.push(point),
            }
        }
        Ok(points)
    }
}

impl<'a> Row<'a> {
    pub(super) fn parse(table: &'a Table, line: usize, text: &str) -> Result<Self, ReportError> {
        let mut row = Self { table, line, fields: Map::new() };
        row.fields = serde_json::from_str(text).map_err(|error| {
            // serde_json stops at the `N` of NaN with "expected value": say what it most likely
            // was.
            let hint = if text.contains("NaN") || text.to_lowercase().contains("inf") {
                " (NaN and infinity are not JSON; they point at a run that diverged)"
            } else {
                ""
            };
            row.problem(format!("expected a JSON object, found {}{hint}", json_problem(&error)))
        })?;
        Ok(row)
    }

    pub(super) fn problem(&self, problem: String) -> ReportError {
        ReportError::Line {
            path: self.table.path.clone(),
            line: self.line,
            problem,
            help: self.table.help,
        }
    }

    pub(super) fn field(&self, key: &str, expected: &str) -> Result<&Value, ReportError> {
        self.fields
            .get(key)
            .ok_or_else(|| self.problem(format!("`{key}` is missing, expected {expected}")))
    }

    pub(super) fn wrong(&self, key: &str, expected: &str, found: &Value) -> ReportError {
        let found: String = visible(&found.to_string()).chars().take(60).collect();
        self.problem(format!("`{key}` is {found}, expected {expected}"))
    }

    pub(super) fn count(&self, key: &str) -> Result<u64, ReportError> {
        let expected = "a whole number";
        let value = self.field(key, expected)?;
        value.as_u64().ok_or_else(|| self.wrong(key, expected, value))
    }

    pub(super) fn below(&self, key: &str, end: usize) -> Result<usize, ReportError> {
        let expected = format!("a whole number below {end}");
        let value = self.field(key, &expected)?;
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n < end);
        number.ok_or_else(|| self.wrong(key, &expected, value))
    }

    pub(super) fn text(&self, key: &str) -> Result<String, ReportError> {
        let value = self.field(key, "a text")?;
        value.as_str().map(str::to_string).ok_or_else(|| self.wrong(key, "a text", value))
    }

    pub(super) fn downstream(&self, key: &str) -> Result<Downstream, ReportError> {
        match self.text(key)?.as_str() {
            "full" => Ok(Downstream::Full),
            "pattern-preserving" => Ok(Downstream::PatternPreserving),
            _ => Err(self.wrong(key, "full or pattern-preserving", self.field(key, "a text")?)),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, ReportError> {
        let expected = "a finite number";
        let value = self.field(key, expected)?;
        finite(value).ok_or_else(|| self.wrong(key, expected, value))
    }

    pub(super) fn in_range(&self, key: &str, low: f64, high: f64) -> Result<f64, ReportError> {
        let value = self.number(key)?;
        if (low..=high).contains(&value) {
            return Ok(value);
        }
        let high = if high == f64::MAX { "upwards".to_string() } else { format!("to {high:.0}") };
        Err(self.problem(format!(
            "`{key}` is {value}, expected a number from {:.0} {high}",
            low.round() + 0.0
        )))
    }

    /// A number or null.
    pub(super) fn optional(&self, key: &str) -> Result<Option<f64>, ReportError> {
        if self.field(key, "a number or null")?.is_null() {
            Ok(None)
        } else {
            self.number(key).map(Some)
        }
    }

    /// A standard error. A single example has none, which is written as null or as 0.
    pub(super) fn stderr(&self, key: &str) -> Result<Option<f64>, ReportError> {
        if self.field(key, "a number or null")?.is_null() {
            return Ok(None);
        }
        self.in_range(key, 0.0, f64::MAX).map(|stderr| Some(stderr).filter(|&stderr| stderr > 0.0))
    }

    pub(super) fn numbers(&self, key: &str) -> Result<Vec<f64>, ReportError> {
        let expected = "a list of finite numbers";
        let value = self.field(key, expected)?;
        let list = value.as_array().ok_or_else(|| self.wrong(key, expected, value))?;
        let entry = |(k, entry): (usize, &Value)| {
            finite(entry)
                .ok_or_else(|| self.wrong(&format!("{key}[{k}]"), "a finite number", entry))
        };
        list.iter().enumerate().map(entry).collect()
    }
}

/// The length of a list that every line of a table must have.
#[derive(Default)]
pub(super) struct Length(Option<usize>);

impl Length {
    pub(super) fn same(&mut self, row: &Row<'_>, key: &str) -> Result<Vec<f64>, ReportError> {
        let list = row.numbers(key)?;
        let expected = *self.0.get_or_insert(list.len());
        if list.is_empty() || list.len() != expected {
            let found = list.len();
            return Err(row.problem(format!(
                "`{key}` has {found} entries, expected {} as above",
                expected.max(1)
            )));
        }
        Ok(list)
    }

    /// The same, where every line may have an empty list.
    pub(super) fn same_or_none(
        &mut self,
        row: &Row<'_>,
        key: &str,
    ) -> Result<Vec<f64>, ReportError> {
        let list = row.numbers(key)?;
        if list.is_empty() && self.0.is_none_or(|expected| expected == 0) {
            self.0 = Some(0);
            return Ok(list);
        }
        self.same(row, key)
    }
}

fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

pub(super) fn order_problem(step: u64, last: u64, tokens: u64, last_tokens: u64) -> String {
    format!(
        "step {step} ({tokens} tokens) after step {last} ({last_tokens} tokens), expected both to increase"
    )
}

/// serde_json's message without the position, which counts from the line's own start.
pub(super) fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    format!("\"{}\" at column {}", visible(message), error.column())
}
