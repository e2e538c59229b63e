//! The runs of a reproduction, `manifest.toml`.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Error, FORMAT, RunSpec, in_words, spec::all_used};

/// The manifest's file in a reproduction's folder.
pub const MANIFEST: &str = "manifest.toml";

/// A validated list of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// Who planned it: a scale, `pilot`, or a name of your own.
    pub name: String,
    /// Revision of the report's rules on the day the runs were planned; filled in when the manifest
    /// is resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// The runs, in the order in which they are begun.
    pub runs: Vec<PlannedRun>,
}

/// A run of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// The series that it belongs to, in words.
    #[serde(default)]
    pub series: Vec<String>,
    /// Hash of all that its weights depend on; checked where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The run itself.
    pub spec: RunSpec,
}

impl PlannedRun {
    /// A run of these series, in words.
    pub fn new(spec: RunSpec, series: &[&str]) -> Self {
        Self { series: series.iter().map(|name| (*name).to_string()).collect(), hash: None, spec }
    }
}

impl Manifest {
    /// Reads and checks a manifest; relative corpus paths start at the current folder, as in a
    /// spec.
    ///
    /// # Errors
    /// A file that is no manifest, with its place; what [`check`](Self::check) refuses.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(path, &fs::read_to_string(path).map_err(Error::io(path))?)
    }

    /// Parses and checks a manifest; `path` is for the messages.
    ///
    /// # Errors
    /// As [`read`](Self::read), less the system's.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::Manifest { path: path.to_path_buf(), reason };
        let manifest: Self = toml::from_str(text).map_err(|e| refused(in_words(&e)))?;
        all_used(text, &manifest.to_toml()).map_err(refused)?;
        manifest.checked().map_err(refused)?;
        Ok(manifest)
    }

    /// The manifest as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a manifest holds only tables, numbers and strings")
    }

    /// Refuses what could not run, or would mix two runs.
    ///
    /// # Errors
    /// Another format, no run, two runs of one name or of one content, a spec outside its ranges, a
    /// hash that is not the spec's.
    pub fn check(&self) -> Result<(), Error> {
        let refused = |reason| Error::Manifest { path: self.name.clone().into(), reason };
        self.checked().map_err(refused)
    }

    fn checked(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format = {}: this version reads {FORMAT}", self.format));
        }
        if self.runs.is_empty() {
            return Err("the manifest has no runs".into());
        }
        let (mut names, mut hashes) = (BTreeMap::new(), BTreeMap::new());
        for (index, PlannedRun { spec, hash, .. }) in self.runs.iter().enumerate() {
            let place = |reason: String| format!("run {} ({:?}): {reason}", index + 1, spec.name);
            spec.validate().map_err(|error| place(error.to_string()))?;
            if let Some(first) = names.insert(spec.name.to_lowercase(), index) {
                let why = "two runs of one name would share a folder: rename one";
                return Err(place(format!("run {} has this name, too; {why}", first + 1)));
            }
            // Specs of one text hash alike only once both know the text's own hash, so its path
            // counts here.
            let content = (spec.training_hash(), spec.data.text().cloned());
            if let Some(first) = hashes.insert(content, index) {
                return Err(place(format!(
                    "run {} trains the same model: leave one out",
                    first + 1
                )));
            }
            let found = spec.training_hash();
            if hash.as_ref().is_some_and(|hash| *hash != found) {
                return Err(place(format!(
                    "its hash is {found}, not the one given: the spec was changed, or the text"
                )));
            }
        }
        Ok(())
    }

    /// How often each series is served, by its name: the paper's way of counting models.
    pub fn series(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        for name in self.runs.iter().flat_map(|row| &row.series) {
            *count.entry(name.as_str()).or_default() += 1;
        }
        count
    }
}

/// What a manifest of any version says of the whole.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ManifestHead {
    /// As [`Manifest::name`].
    pub name: Option<String>,
    /// As [`Manifest::rules`].
    pub rules: Option<String>,
}

impl ManifestHead {
    /// That of the reproduction in `dir`; nothing if there is no manifest, or one that cannot be
    /// read.
    pub fn of(dir: &Path) -> Option<Self> {
        toml::from_str(&fs::read_to_string(dir.join(MANIFEST)).ok()?).ok()
    }
}
