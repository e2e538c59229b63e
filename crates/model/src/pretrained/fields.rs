use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;

/// Configurations take a few KB.
const MAX_BYTES: u64 = 4 << 20;

/// Layers that a model may have: families list them before anything else is checked.
pub(super) const MAX_LAYERS: usize = 1024;

/// A JSON object of settings: what is read is of the right type, or refused by name. A field that
/// is null is not there.
pub(super) struct Fields {
    path: PathBuf,
    /// What stands before a field's name in messages.
    within: String,
    values: Map<String, Value>,
}

/// A JSON file, of a size that a description has.
pub(super) fn read_json(path: &Path) -> Result<Value, Error> {
    let file = File::open(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    let format = |reason: String| Error::Format { path: path.to_path_buf(), reason };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format(format!(
            "larger than {MAX_BYTES} bytes: expected a model's description"
        )));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(format(
            "a pointer of git-lfs and not the file itself; run `git lfs pull`, or fetch the file"
                .into(),
        ));
    }
    let parsed = serde_json::from_slice(&bytes);
    // Python writes numbers that are none as words, which JSON does not have.
    let mended = |e: serde_json::Error| match without_words(&bytes) {
        Some(mended) => serde_json::from_slice(&mended).map_err(|_| e),
        None => Err(e),
    };
    parsed.or_else(mended).map_err(|e| format(format!("not valid JSON: {e}")))
}

/// The same with null for `NaN`, `Infinity` and `-Infinity`, if they are there outside strings.
fn without_words(json: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let (mut mended, mut rest, mut within, mut found) = (Vec::new(), json, false, false);
    while let Some((&byte, after)) = rest.split_first() {
        let word = WORDS.into_iter().find(|word| !within && rest.starts_with(word));
        if let Some(word) = word {
            mended.extend(b"null");
            (rest, found) = (&rest[word.len()..], true);
            continue;
        }
        let taken = if within && byte == b'\\' { rest.len().min(2) } else { 1 };
        within ^= byte == b'"';
        mended.extend(&rest[..taken]);
        rest = if taken == 1 { after } else { &rest[taken..] };
    }
    found.then_some(mended)
}

/// Whether two values are one: numbers by what they are, whatever their type.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

impl Fields {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        match read_json(path)? {
            Value::Object(values) => {
                Ok(Self { path: path.to_path_buf(), within: String::new(), values })
            }
            _ => Err(Error::Format {
                path: path.to_path_buf(),
                reason: "expected a JSON object".into(),
            }),
        }
    }

    /// An error that names a field.
    pub(super) fn refuse(&self, field: &str, reason: impl AsRef<str>) -> Error {
        let reason = format!("{}{field}: {}", self.within, reason.as_ref());
        Error::Format { path: self.path.clone(), reason }
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.values.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// The names of all that is there.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Whether a field is there, be it null.
    pub(super) fn says(&self, field: &str) -> bool {
        self.values.contains_key(field)
    }

    /// Whether a field is this string.
    pub(super) fn is(&self, field: &str, text: &str) -> bool {
        self.get(field).and_then(Value::as_str) == Some(text)
    }

    fn typed<'a, T>(
        &'a self,
        field: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => {
                let mut found = value.to_string();
                if let Some((at, _)) = found.char_indices().nth(60) {
                    found.truncate(at);
                }
                Err(self.refuse(field, format!("{found}, expected {expected}")))
            }
        }
    }

    /// A size, up to 2^31.
    pub(super) fn size_opt(&self, field: &str) -> Result<Option<usize>, Error> {
        self.typed(field, "a whole number", |value| {
            value.as_u64().filter(|&n| n <= 1 << 31).and_then(|n| usize::try_from(n).ok())
        })
    }

    pub(super) fn size(&self, field: &str) -> Result<usize, Error> {
        self.size_opt(field)?.ok_or_else(|| self.refuse(field, "missing, expected a whole number"))
    }

    /// The number of layers: bounded, as families list them.
    pub(super) fn layers(&self, field: &str) -> Result<usize, Error> {
        match self.size(field)? {
            n if n <= MAX_LAYERS => Ok(n),
            n => Err(self.refuse(field, format!("{n}, expected at most {MAX_LAYERS}"))),
        }
    }

    pub(super) fn number_opt(&self, field: &str) -> Result<Option<f64>, Error> {
        self.typed(field, "a number", Value::as_f64)
    }

    pub(super) fn number(&self, field: &str, default: f64) -> Result<f64, Error> {
        Ok(self.number_opt(field)?.unwrap_or(default))
    }

    /// A number that must be there.
    pub(super) fn number_there(&self, field: &str) -> Result<f64, Error> {
        self.number_opt(field)?.ok_or_else(|| self.refuse(field, "missing, expected a number"))
    }

    /// A list of numbers.
    pub(super) fn numbers(&self, field: &str) -> Result<Vec<f64>, Error> {
        let found = self.typed(field, "a list of numbers", |value| {
            value.as_array()?.iter().map(Value::as_f64).collect()
        })?;
        found.ok_or_else(|| self.refuse(field, "missing, expected a list of numbers"))
    }

    /// A list of sizes.
    pub(super) fn sizes_opt(&self, field: &str) -> Result<Option<Vec<usize>>, Error> {
        let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.typed(field, "a list of whole numbers", |value| {
            value.as_array()?.iter().map(size).collect()
        })
    }

    /// A list of strings.
    pub(super) fn texts_opt(&self, field: &str) -> Result<Option<Vec<&str>>, Error> {
        self.typed(field, "a list of strings", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// The same without a field.
    pub(super) fn without(&self, field: &str) -> Self {
        let mut values = self.values.clone();
        values.remove(field);
        Self { path: self.path.clone(), within: self.within.clone(), values }
    }

    /// The same with settings by their first names that are given by their second.
    pub(super) fn renamed(&self, names: &[(&str, &str)]) -> Result<Self, Error> {
        let mut values = self.values.clone();
        for (name, other) in names {
            self.agrees(name, self, other)?;
            if let Some(value) = self.get(other).filter(|_| !self.has(name)) {
                values.insert((*name).to_string(), value.clone());
            }
        }
        Ok(Self { path: self.path.clone(), within: self.within.clone(), values })
    }

    pub(super) fn flag(&self, field: &str, default: bool) -> Result<bool, Error> {
        Ok(self.typed(field, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    pub(super) fn text_opt(&self, field: &str) -> Result<Option<&str>, Error> {
        self.typed(field, "a string", Value::as_str)
    }

    pub(super) fn text(&self, field: &str) -> Result<&str, Error> {
        self.text_opt(field)?.ok_or_else(|| self.refuse(field, "missing, expected a string"))
    }

    /// The fields of these names, in a type of their own. What is null is not there.
    pub(super) fn as_struct<'a, T: DeserializeOwned>(
        &self,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<T, Error> {
        let named = |name: &String| Some((name.clone(), self.get(name)?.clone()));
        let values: Map<String, Value> = names.into_iter().filter_map(named).collect();
        serde_json::from_value(Value::Object(values)).map_err(|e| Error::Format {
            path: self.path.clone(),
            reason: format!("{}{e}", self.within),
        })
    }

    /// Refuses two fields that say different things of one setting: an older name beside a newer,
    /// or one within an object beside one outside.
    pub(super) fn agrees(&self, field: &str, other: &Self, theirs: &str) -> Result<(), Error> {
        match (self.get(field), other.get(theirs)) {
            (Some(ours), Some(found)) if !same(ours, found) => Err(self.refuse(
                field,
                format!(
                    "{ours}, but {}{theirs} is {found}, which says the same setting; leave the right one",
                    other.within
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The name of a setting that files give, of several; they must agree.
    pub(super) fn either<'n>(&self, names: &[&'n str]) -> Result<&'n str, Error> {
        let found = names.iter().find(|name| self.has(name)).unwrap_or(&names[0]);
        names.iter().try_for_each(|name| self.agrees(found, self, name))?;
        Ok(found)
    }

    /// An object within this one.
    pub(super) fn inner(&self, field: &str) -> Result<Option<Self>, Error> {
        let values = self.typed(field, "an object", Value::as_object)?;
        let within = format!("{}{field}.", self.within);
        Ok(values.map(|values| Self { path: self.path.clone(), within, values: values.clone() }))
    }

    /// Refuses a field that is set to anything but `expected`, as it would change what the model
    /// computes.
    pub(super) fn only(&self, field: &str, expected: &Value) -> Result<(), Error> {
        match self.get(field) {
            Some(value) if !same(value, expected) => Err(self.refuse(
                field,
                format!("{value} is not supported here, expected {expected} or nothing"),
            )),
            _ => Ok(()),
        }
    }
}
