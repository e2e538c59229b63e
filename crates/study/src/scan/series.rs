//! Several models, such as the checkpoints of one training run: where their scans go, which
//! checkpoints there are and in which order, and when heads that match prefixes came.

use std::path::{Path, PathBuf};

use induction_records::{ModelScan, step_of, write_json};

use super::{
    opened::name_in_cache,
    whole::{Settings, scan_model},
};
use crate::{Error, device::Device};

fn name_of_path(path: &Path) -> String {
    let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name_in_cache(path).unwrap_or_else(name)
}

fn step_of_path(path: &Path) -> Option<u64> {
    step_of(&name_of_path(path))
}

/// A checkpoint's name without its step; nothing if it has none.
fn stem_of(name: &str) -> Option<String> {
    let step = step_of(name)?.to_string();
    let at = name.rfind(&step)?;
    // Zeros before it are part of it.
    let before = name[..at].trim_end_matches('0');
    Some(format!("{before}*{}", &name[at + step.len()..]))
}

/// The models to scan: in place of a folder of checkpoints these, and all by their steps if each
/// has one, in which order a shell does not give them.
pub fn in_order(models: &[PathBuf]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = models.iter().flat_map(|path| checkpoints(path)).collect();
    // Only those of one run: their names are the same but for the step.
    let first = all.first().and_then(|path| stem_of(&name_of_path(path)));
    if first.is_some() && all.iter().all(|path| stem_of(&name_of_path(path)) == first) {
        all.sort_by_key(|path| step_of_path(path));
    }
    all
}

/// The checkpoints in a folder that is no model itself; else the path alone.
fn checkpoints(path: &Path) -> Vec<PathBuf> {
    let is_model = |path: &Path| {
        path.join("config.json").is_file()
            || path.join("model.safetensors").is_file()
            || path.join("spec.toml").is_file()
            || path.join("snapshots").is_dir()
    };
    let inner = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_checkpoint = |path: &PathBuf| {
        let is_file = path.extension().is_some_and(|ending| ending == "gguf");
        (is_model(path) || is_file) && step_of_path(path).is_some()
    };
    let found: Vec<PathBuf> = inner.filter(is_checkpoint).collect();
    if is_model(path) || found.is_empty() { vec![path.to_path_buf()] } else { found }
}

/// Between which steps heads that match prefixes came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Onset {
    /// The last step before it, and the best head's score there.
    pub before: (u64, f64),
    /// The next one.
    pub after: (u64, f64),
}

/// When the best head of a series first matched prefixes, above `limit` and half of the highest
/// score that any has. The two steps are the interval: nothing between them was looked at. Nothing
/// if these are not scans of one run in order, or if no head ever does.
pub fn onset(scans: &[ModelScan], limit: f64) -> Option<Onset> {
    let point = |scan: &ModelScan| {
        let best = scan.heads.iter().map(|head| head.prefix_matching()).fold(0.0, f64::max);
        Some((step_of(&scan.model.name)?, best))
    };
    let points: Vec<(u64, f64)> = scans.iter().map(point).collect::<Option<_>>()?;
    let highest = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let at = points.iter().position(|point| point.1 > limit && point.1 >= highest / 2.0)?;
    let of_run = |scan: &ModelScan| (stem_of(&scan.model.name), scan.model.n_params);
    if scans.iter().any(|scan| of_run(scan) != of_run(&scans[0])) {
        return None;
    }
    let ordered = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
    (ordered && at > 0).then(|| Onset { before: points[at - 1], after: points[at] })
}

/// Says of the last scan, if one before it has the same losses to the last digit, that they are of
/// the same weights.
pub(super) fn warn_of_equals(scans: &mut [ModelScan]) {
    let Some((last, before)) = scans.split_last_mut() else { return };
    let same = before.iter().find(|other| {
        other.model.n_params == last.model.n_params
            && other.repeated.by_position == last.repeated.by_position
    });
    if let Some(same) = same {
        let name = &same.model.name;
        last.how.warnings.push(format!(
            "the losses are those of {name} to the last digit: these are the same weights under two names"
        ));
    }
}

/// Scans models one after the other; `out` gets `scan.json`, of several a folder each.
///
/// # Errors
/// As [`scan_model`], and the system's. What was scanned before is written.
pub fn scan_models(
    models: &[PathBuf],
    settings: &Settings,
    device: Device,
    out: Option<&Path>,
    say: &dyn Fn(&str),
) -> Result<Vec<ModelScan>, Error> {
    if let Some(out) = out {
        check_folder(out, models.len())?;
    }
    let mut scans = Vec::new();
    for (k, path) in models.iter().enumerate() {
        scans.push(scan_model(super::open(path)?, settings, device, say)?);
        warn_of_equals(&mut scans);
        let scan = &scans[k];
        if let Some(out) = out {
            let folder = folder_of(out, k, models.len());
            induction_files::make_folders(&folder).map_err(Error::io(&folder))?;
            write_json(&folder.join(ModelScan::FILE), scan)?;
        }
    }
    Ok(scans)
}

/// Where model `k` of `count` goes.
fn folder_of(out: &Path, k: usize, count: usize) -> PathBuf {
    if count == 1 { out.to_path_buf() } else { out.join(format!("{k:03}")) }
}

/// Makes the folder, before anything is measured, and refuses one with scans that this one would not
/// write over: a reader of the folder would take them for part of it.
fn check_folder(out: &Path, count: usize) -> Result<(), Error> {
    let refuse = |why: String| {
        Err(Error::Input(format!("--out {}: {why}; choose another folder", out.display())))
    };
    if let Err(error) = induction_files::make_folders(out) {
        return refuse(format!("no such folder can be made ({error})"));
    }
    let is_scan = |folder: &Path| folder.join(ModelScan::FILE).is_file();
    let mut others = (0..1000).map(|k| out.join(format!("{k:03}")));
    let first = if count == 1 { 0 } else { count };
    let stale = others.by_ref().skip(first).find(|folder| is_scan(folder));
    let stale = stale.or_else(|| (count > 1 && is_scan(out)).then(|| out.to_path_buf()));
    match stale {
        Some(stale) => {
            refuse(format!("{} is of another scan", stale.join(ModelScan::FILE).display()))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn checkpoints_come_by_their_steps() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["step200", "step1000", "step30", "logs"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            if name != "logs" {
                std::fs::write(folder.path().join(name).join("config.json"), "{}").unwrap();
            }
        }
        let names = |models: &[PathBuf]| -> Vec<String> {
            let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            in_order(models).iter().map(name).collect()
        };
        assert_eq!(names(&[folder.path().to_path_buf()]), ["step30", "step200", "step1000"]);
        // A model, and what has no step, stay as they are.
        let model = folder.path().join("step200");
        assert_eq!(in_order(std::slice::from_ref(&model)), [model]);
        assert_eq!(names(&["b.gguf".into(), "a.gguf".into()]), ["b.gguf", "a.gguf"]);
        // Nor do steps of different runs make one.
        let two = ["stage2-step10", "stage1-step9000"];
        assert_eq!(names(&two.map(PathBuf::from)), two);
        assert_eq!(stem_of("step-00000391").unwrap(), stem_of("step-00001000").unwrap());
    }

    fn scan_of(name: &str, best: f64) -> ModelScan {
        let head = |head: usize, score: f64| {
            serde_json::json!({
                "layer": 0, "head": head, "role": "other", "prefix_matching": score,
                "previous_token": 0.1,
            })
        };
        let scan = serde_json::json!({
            "version": ModelScan::VERSION,
            "model": {
                "name": name, "family": "gpt2", "encoding": "F32", "n_layers": 1, "n_heads": 2,
                "n_key_value_heads": 2, "d_model": 8, "d_head": 4, "d_mlp": 0, "d_vocab": 9,
                "n_ctx": 12, "n_params": 100,
            },
            "engine": "cpu",
            "how": {
                "start": 0, "start_from": "first-id", "declared_ctx": null,
                "tied_embeddings": false, "ignored": [], "prompt_loss": null, "warnings": [],
            },
            "heads": [head(0, 0.01), head(1, best)],
            "repeated": {
                "examples": 1, "block": 1, "first": 2.0, "first_stderr": null, "second": 1.0,
                "second_stderr": null, "by_position": [2.0, 1.0 - best],
            },
            "copying_ceiling": null, "causes": [], "roles": [], "cut": [], "paths": [], "icl": null, "ablation": null, "behaviours": [], "shown": [],
        });
        ModelScan::parse(&scan.to_string(), Path::new("scan.json")).unwrap()
    }

    #[test]
    fn an_onset_lies_between_two_checkpoints() {
        let scans = |scores: &[(&str, f64)]| -> Vec<ModelScan> {
            scores.iter().map(|(name, best)| scan_of(name, *best)).collect()
        };
        let rising = [("step10", 0.02), ("step20", 0.3), ("step30", 0.5), ("step40", 0.8)];
        let found = onset(&scans(&rising), 0.3);
        assert_eq!(found, Some(Onset { before: (20, 0.3), after: (30, 0.5) }));
        // Half of a low score is not above the limit, and steps of two runs are not one's.
        let low = [("step10", 0.02), ("step20", 0.26), ("step30", 0.4)];
        let found = onset(&scans(&low), 0.3);
        assert_eq!(found, Some(Onset { before: (20, 0.26), after: (30, 0.4) }));
        assert_eq!(onset(&scans(&[("a@step10", 0.02), ("b@step20", 0.5)]), 0.3), None);
        // No head, a head from the start, a model without a step.
        assert_eq!(onset(&scans(&[("step10", 0.02), ("step20", 0.2)]), 0.3), None);
        assert_eq!(onset(&scans(&[("step10", 0.8), ("step20", 0.8)]), 0.3), None);
        assert_eq!(onset(&scans(&[("step10", 0.1), ("final", 0.8)]), 0.3), None);
    }

    #[test]
    fn equal_weights_under_two_names_are_noticed() {
        let mut scans = vec![scan_of("main", 0.5), scan_of("step10", 0.4), scan_of("step20", 0.5)];
        warn_of_equals(&mut scans);
        let [warning] = scans[2].how.warnings.as_slice() else { panic!("one warning") };
        assert!(warning.contains("those of main"), "{warning}");
        scans.pop();
        warn_of_equals(&mut scans);
        assert!(scans[1].how.warnings.is_empty());
    }
}
