//! Scans of trained models (`scan.json`). A report need not have one.

use std::fs;
use std::path::{Path, PathBuf};

use induction_records::{HeadId, ModelScan, RemovedHeads, ScanHead};

use super::explore::inert;
use crate::ReportError;
use crate::text::visible;

/// A trained model, as a scan found it; foreign text in it is inert.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Scan {
    /// Its folder under `models/`; of a series `SERIES/FOLDER`.
    pub folder: String,
    /// What was found.
    pub found: ModelScan,
}

impl Scan {
    /// The model's name, and what else tells this scan of it from others.
    pub(crate) fn title(&self) -> String {
        let name = &self.found.model.name;
        match self.found.ids_below {
            Some(limit) => format!("{name}, random tokens below {limit}"),
            None => name.clone(),
        }
    }

    /// The head that matches prefixes best; a scan has at least one head.
    pub(crate) fn best_head(&self) -> &ScanHead {
        let better =
            |best: &ScanHead, head: &ScanHead| head.prefix_matching() > best.prefix_matching();
        let heads = &self.found.heads;
        heads.iter().fold(&heads[0], |best, head| if better(best, head) { head } else { best })
    }

    /// Heads that match prefixes above a limit.
    pub(crate) fn matching(&self, above: f64) -> impl Iterator<Item = &ScanHead> {
        self.found.heads.iter().filter(move |head| head.prefix_matching() > above)
    }

    /// The sets of heads that were removed; none if no head matches prefixes.
    pub(crate) fn removed(&self) -> &[RemovedHeads] {
        self.found.ablation.as_ref().map_or(&[], |ablation| &ablation.sets)
    }

    pub(crate) fn head(&self, id: HeadId) -> Option<&ScanHead> {
        self.found.heads.iter().find(|head| head.id() == id)
    }

    /// The models of one kind that training or compressing made otherwise.
    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        let shape = |scan: &Self| {
            let m = &scan.found.model;
            [m.n_layers, m.n_heads, m.d_model, m.d_mlp, m.d_vocab]
        };
        shape(self) == shape(other)
    }
}

/// Reads `dir/models/NAME/scan.json` and, of series, `dir/models/NAME/FOLDER/scan.json`, ordered by
/// folder; nothing if there is no `models`.
///
/// # Errors
/// If a scan cannot be read or is damaged.
pub fn load_scans(dir: &Path) -> Result<Vec<Scan>, ReportError> {
    let models = dir.join("models");
    if !models.exists() {
        return Ok(Vec::new());
    }
    let mut scans = Vec::new();
    for (folder, name) in folders(&models)? {
        scans.extend(scans_in(&folder, &name)?);
    }
    Ok(scans)
}

/// Reads `folder/scan.json`, or of several models that were scanned into one folder
/// `folder/*/scan.json`, in order.
///
/// # Errors
/// If there is none, or one cannot be read or is damaged.
pub fn load_scan(folder: &Path) -> Result<Vec<Scan>, ReportError> {
    let name =
        folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let scans = if folder.is_dir() { scans_in(folder, &name)? } else { Vec::new() };
    if scans.is_empty() {
        return Err(ReportError::NoScan { path: folder.join(ModelScan::FILE) });
    }
    Ok(scans)
}

fn scans_in(folder: &Path, name: &str) -> Result<Vec<Scan>, ReportError> {
    let file = |folder: &Path| folder.join(ModelScan::FILE);
    if file(folder).exists() {
        return Ok(vec![read(&file(folder), name.to_string())?]);
    }
    let members = folders(folder)?.into_iter().filter(|(member, _)| file(member).exists());
    members.map(|(member, own)| read(&file(&member), format!("{name}/{own}"))).collect()
}

/// The folders in a folder that are nobody's temporaries, by name.
fn folders(parent: &Path) -> Result<Vec<(PathBuf, String)>, ReportError> {
    let read = |source| ReportError::Read { path: parent.to_path_buf(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(parent).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name =
            path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if path.is_dir() && !name.starts_with('.') {
            found.push((path, name));
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path, folder: String) -> Result<Scan, ReportError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ReportError::Read { path: path.to_path_buf(), source })?;
    parse_scan(&text, path, folder)
}

/// Reads the text of a scan.json, which errors say to be in `path`; `folder` is its name among
/// others.
///
/// # Errors
/// If it is damaged.
pub fn parse_scan(text: &str, path: &Path, folder: String) -> Result<Scan, ReportError> {
    Ok(scan_of(ModelScan::parse(text, path)?, folder))
}

/// A scan for the report; `folder` is its name among others.
pub fn scan_of(mut found: ModelScan, folder: String) -> Scan {
    for text in [
        &mut found.model.name,
        &mut found.model.family,
        &mut found.model.encoding,
        &mut found.engine,
    ]
    .into_iter()
    .chain(found.icl.as_mut().map(|icl| &mut icl.text))
    {
        *text = visible(text);
    }
    for shown in &mut found.shown {
        shown.text = visible(&shown.text);
        shown.tokens.iter_mut().for_each(|token| *token = inert(token));
    }
    found.heads.sort_by_key(ScanHead::id);
    Scan { folder, found }
}
