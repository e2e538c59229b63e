//! Checked reading of one JSON object: every complaint names the file, the field's place in it and
//! what was expected.

use std::path::Path;

use serde_json::{Map, Value};

use crate::ReportError;
use crate::text::visible;

/// An object of the file, and where it stands in it.
pub(super) struct Object<'a> {
    pub(super) path: &'a Path,
    pub(super) at: String,
    pub(super) fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn name(&self, key: &str) -> String {
        if self.at.is_empty() { key.to_string() } else { format!("{}.{key}", self.at) }
    }

    pub(super) fn problem(&self, problem: String) -> ReportError {
        ReportError::Scan { path: self.path.to_path_buf(), problem }
    }

    pub(super) fn wrong(&self, key: &str, expected: &str, found: &Value) -> ReportError {
        let found: String = visible(&found.to_string()).chars().take(60).collect();
        self.problem(format!("`{}` is {found}, expected {expected}", self.name(key)))
    }

    /// Refuses fields that a reader of this version does not know.
    pub(super) fn only(&self, keys: &[&str]) -> Result<(), ReportError> {
        match self.fields.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => {
                Err(self.problem(format!("`{}` is no field of a scan", visible(&self.name(key)))))
            }
            None => Ok(()),
        }
    }

    pub(super) fn value<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, ReportError> {
        let missing =
            || self.problem(format!("`{}` is missing, expected {expected}", self.name(key)));
        let value = self.fields.get(key).ok_or_else(missing)?;
        read(value).ok_or_else(|| self.wrong(key, expected, value))
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, ReportError> {
        self.value(key, "a finite number", finite)
    }

    pub(super) fn within(&self, key: &str, low: f64, high: f64) -> Result<f64, ReportError> {
        // Scores are sums of rounded shares.
        let inside = |x: &f64| (low - 1e-6..=high + 1e-6).contains(x);
        self.value(key, &format!("a number from {low} to {high}"), |value| {
            finite(value).filter(inside)
        })
    }

    pub(super) fn optional<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ReportError> {
        let expected = format!("{expected} or null");
        self.value(
            key,
            &expected,
            |value| if value.is_null() { Some(None) } else { read(value).map(Some) },
        )
    }

    pub(super) fn stderr(&self, key: &str) -> Result<Option<f64>, ReportError> {
        self.optional(key, "a number from 0 upwards", |value| finite(value).filter(|x| *x >= 0.0))
    }

    pub(super) fn loss(&self, key: &str) -> Result<(f64, Option<f64>), ReportError> {
        Ok((self.number(key)?, self.stderr(&format!("{key}_stderr"))?))
    }

    pub(super) fn text(&self, key: &str) -> Result<String, ReportError> {
        self.value(key, "a text", |value| value.as_str().map(visible))
    }

    pub(super) fn size(&self, key: &str, low: usize, high: usize) -> Result<usize, ReportError> {
        let read = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.value(key, &format!("a whole number from {low} to {high}"), |value| {
            read(value).filter(|n| (low..=high).contains(n))
        })
    }

    pub(super) fn numbers(&self, key: &str, length: usize) -> Result<Vec<f64>, ReportError> {
        self.value(key, &format!("a list of {length} finite numbers"), |value| {
            let list = value.as_array()?.iter().map(finite).collect::<Option<Vec<f64>>>()?;
            (list.len() == length).then_some(list)
        })
    }

    pub(super) fn object(&self, key: &str) -> Result<Self, ReportError> {
        let fields = self.value(key, "an object", Value::as_object)?;
        Ok(Self { path: self.path, at: self.name(key), fields })
    }

    pub(super) fn optional_object(&self, key: &str) -> Result<Option<Self>, ReportError> {
        let fields = self.optional(key, "an object", Value::as_object)?;
        Ok(fields.map(|fields| Self { path: self.path, at: self.name(key), fields }))
    }

    pub(super) fn objects(&self, key: &str) -> Result<Vec<Self>, ReportError> {
        let list = self.value(key, "a list of objects", Value::as_array)?;
        let each = list.iter().enumerate().map(|(k, value)| {
            let at = format!("{key}[{k}]");
            match value.as_object() {
                Some(fields) => Ok(Self { path: self.path, at: self.name(&at), fields }),
                None => Err(self.wrong(&at, "an object", value)),
            }
        });
        each.collect()
    }
}

pub(super) fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}
