use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use induction_model::{ModelConfig, Params, read_safetensors, write_safetensors};
use induction_records::RunSpec;
use serde::{Deserialize, Serialize};

use crate::{Error, Optimizer};

const MODEL: &str = "model.safetensors";
const OPTIM: &str = "optim.safetensors";
const CONFIG: &str = "config.json";
const STATE: &str = "state.json";
const MANIFEST: &str = "MANIFEST.json";

/// The newest snapshots of a run keep their optimizer state, so that training can go on from an
/// older one when the newest is damaged; the others, two thirds smaller, are for measuring.
const RESUMABLE: usize = 3;

/// `state.json`: where a run stood when the snapshot was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`induction_records::FORMAT`].
    pub format: u32,
    /// Optimizer steps taken.
    pub step: u64,
    /// Tokens learned from.
    pub tokens: u64,
    /// The run's seed.
    pub seed: u64,
    /// [`RunSpec::training_hash`].
    pub spec_hash: String,
    /// Version of the program that took it.
    pub code_version: String,
    /// Engine and device.
    #[serde(deserialize_with = "induction_records::engine_name")]
    pub engine: String,
    /// Threads it used.
    pub threads: usize,
    /// Length of `metrics.jsonl` in bytes.
    pub log_bytes: u64,
}

/// The whole state of a run after some step.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Weights.
    pub params: Params,
    /// Optimizer.
    pub optimizer: Optimizer,
    /// Everything else.
    pub state: State,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestEntry {
    name: String,
    bytes: u64,
    blake3: String,
}

/// The folder of the snapshot of `step`, inside a run's folder.
pub fn snapshot_folder(run: &Path, step: u64) -> PathBuf {
    run.join("snapshots").join(format!("step-{step:08}"))
}

/// The steps that have a snapshot folder, ascending; nothing is verified.
///
/// # Errors
/// The folder cannot be listed.
pub fn list_snapshots(run: &Path) -> Result<Vec<u64>, Error> {
    let folder = run.join("snapshots");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
        let name = entry.map_err(Error::io(&folder))?.file_name();
        if let Some(step) =
            name.to_str().and_then(|n| n.strip_prefix("step-")).and_then(|n| n.parse().ok())
        {
            steps.push(step);
        }
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Takes the optimizer state out of all but the newest snapshots of a run.
///
/// # Errors
/// The system's.
pub(crate) fn thin(run: &Path) -> Result<(), Error> {
    let steps = list_snapshots(run)?;
    for &step in steps.iter().rev().skip(RESUMABLE) {
        let path = snapshot_folder(run, step).join(OPTIM);
        if path.exists() {
            // One unlink: whenever a kill comes, the snapshot has its optimizer state or has not.
            induction_files::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Takes the weights out of the kept snapshots of a run that are not among
/// [`RunSpec::weight_steps`]: for a run whose every snapshot is measured. What they hashed to stays
/// in their manifests.
///
/// # Errors
/// The system's.
pub fn thin_weights(spec: &RunSpec, run: &Path) -> Result<(), Error> {
    let stay = spec.weight_steps();
    for step in spec.snapshot_steps().into_iter().filter(|step| !stay.contains(step)) {
        for name in [OPTIM, MODEL] {
            let path = snapshot_folder(run, step).join(name);
            if path.exists() {
                induction_files::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
    }
    Ok(())
}

/// Whether a snapshot holds weights only, by [`thin`].
pub(crate) fn is_thinned(run: &Path, step: u64) -> bool {
    let folder = snapshot_folder(run, step);
    folder.join(MANIFEST).exists() && !folder.join(OPTIM).exists()
}

impl Snapshot {
    /// Writes the snapshot's folder: all of it, or none.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, run: &Path, config: &ModelConfig) -> Result<(), Error> {
        let moments = self.optimizer.m.iter().map(|(n, a)| (format!("m.{n}"), a));
        let moments = moments.chain(self.optimizer.v.iter().map(|(n, a)| (format!("v.{n}"), a)));
        let mut files = vec![
            (MODEL, write_safetensors(self.params.iter().map(|(n, a)| (n.to_string(), a)))),
            (OPTIM, write_safetensors(moments)),
            (CONFIG, to_json(config)),
            (STATE, to_json(&self.state)),
        ];
        let manifest: Vec<_> = files
            .iter()
            .map(|(name, bytes)| ManifestEntry {
                name: (*name).to_string(),
                bytes: bytes.len() as u64,
                blake3: blake3::hash(bytes).to_hex().to_string(),
            })
            .collect();
        files.push((MANIFEST, to_json(&manifest)));
        let path = snapshot_folder(run, self.state.step);
        induction_files::write_folder_atomic(&path, &files).map_err(Error::io(path))
    }

    /// Reads and verifies the snapshot of `step`.
    ///
    /// # Errors
    /// [`Error::Damaged`] or the model's, naming the file.
    pub fn load(run: &Path, step: u64) -> Result<(ModelConfig, Self), Error> {
        let folder = snapshot_folder(run, step);
        let files = read_verified(&folder)?;
        let (config, params) = model_from(&folder, &files)?;
        let path = folder.join(OPTIM);
        let optim = files.get(OPTIM).ok_or_else(|| Error::Damaged {
            path: path.clone(),
            reason: "it was thinned out: this snapshot is for measuring, not for going on from"
                .into(),
        })?;
        let (mut m, mut v) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in read_safetensors(&path, optim)? {
            if let Some(name) = name.strip_prefix("m.") {
                m.insert(name.to_string(), value);
            } else if let Some(name) = name.strip_prefix("v.") {
                v.insert(name.to_string(), value);
            } else {
                let reason = format!("tensor {name}: expected names m.* and v.*");
                return Err(Error::Damaged { path, reason });
            }
        }
        let state: State = from_json(&folder, STATE, &files)?;
        if state.step != step || state.format != induction_records::FORMAT {
            let reason = format!(
                "step {} in format {}: expected step {step} in format {}",
                state.step,
                state.format,
                induction_records::FORMAT
            );
            return Err(Error::Damaged { path: folder.join(STATE), reason });
        }
        let moments = |values| Params::new(&config, values).map_err(damaged(&path));
        let optimizer = Optimizer { m: moments(m)?, v: moments(v)?, step };
        Ok((config, Self { params, optimizer, state }))
    }
}

/// Reads and verifies the weights of a snapshot folder.
///
/// # Errors
/// [`Error::Damaged`] or the model's, naming the file.
pub fn load_model(folder: &Path) -> Result<(ModelConfig, Params), Error> {
    model_from(folder, &read_verified(folder)?)
}

/// A hash of a snapshot's manifest, so of everything in it.
///
/// # Errors
/// The manifest cannot be read.
pub fn manifest_hash(folder: &Path) -> Result<String, Error> {
    let path = folder.join(MANIFEST);
    Ok(blake3::hash(&fs::read(&path).map_err(Error::io(path))?).to_hex().to_string())
}

/// The files of a snapshot, each as its manifest says; without the optimizer state if it was
/// thinned out. Names are compared with the fixed list, never used as paths.
fn read_verified(folder: &Path) -> Result<BTreeMap<&'static str, Vec<u8>>, Error> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(Error::io(path))
    };
    let damaged = |name: &str, reason: String| Error::Damaged { path: folder.join(name), reason };
    let manifest: Vec<ManifestEntry> = serde_json::from_slice(&read(MANIFEST)?)
        .map_err(|e| damaged(MANIFEST, format!("not a manifest: {e}")))?;
    let mut files = BTreeMap::new();
    for name in [MODEL, OPTIM, CONFIG, STATE] {
        if !folder.join(name).exists() {
            match name {
                OPTIM => continue,
                MODEL => {
                    let reason = "the weights were taken out once they were measured (evaluation.weights_every): take a snapshot that has them, or train the run again with 1";
                    return Err(damaged(MODEL, reason.into()));
                }
                _ => {}
            }
        }
        let entry = manifest
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| damaged(MANIFEST, format!("does not list {name}")))?;
        let bytes = read(name)?;
        if bytes.len() as u64 != entry.bytes {
            return Err(damaged(
                name,
                format!("{} bytes, {MANIFEST} says {}", bytes.len(), entry.bytes),
            ));
        }
        if blake3::hash(&bytes).to_hex().as_str() != entry.blake3 {
            return Err(damaged(
                name,
                format!("its content does not have the hash that {MANIFEST} says"),
            ));
        }
        files.insert(name, bytes);
    }
    Ok(files)
}

fn model_from(
    folder: &Path,
    files: &BTreeMap<&'static str, Vec<u8>>,
) -> Result<(ModelConfig, Params), Error> {
    let config: ModelConfig = from_json(folder, CONFIG, files)?;
    config.validate().map_err(damaged(&folder.join(CONFIG)))?;
    let path = folder.join(MODEL);
    let params =
        Params::new(&config, read_safetensors(&path, &files[MODEL])?).map_err(damaged(&path))?;
    Ok((config, params))
}

/// Says which file: a model knows its parameters, not where they are from.
fn damaged(path: &Path) -> impl Fn(induction_model::Error) -> Error {
    move |error| Error::Damaged { path: path.to_path_buf(), reason: error.to_string() }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("plain structs serialize")
}

fn from_json<T: serde::de::DeserializeOwned>(
    folder: &Path,
    name: &'static str,
    files: &BTreeMap<&'static str, Vec<u8>>,
) -> Result<T, Error> {
    serde_json::from_slice(&files[name])
        .map_err(|e| Error::Damaged { path: folder.join(name), reason: e.to_string() })
}
