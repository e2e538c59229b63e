//! Specs and snapshots as accidents and attackers leave them: read, or refused with an error that
//! names the file.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use induction_model::ModelConfig;
use induction_records::{FORMAT, RunSpec};
use induction_torture::{
    Tally, attack, bounded, cases, digits_changed, memory_limit, mutated, write,
};
use induction_train::{CODE_VERSION, Optimizer, Snapshot, State, load_model, snapshot_folder};
use serde_json::{Value, json};

const SPEC: &str = include_str!("hostile.toml");
const STEP: u64 = 3;
const FILES: [&str; 4] = ["config.json", "state.json", "model.safetensors", "optim.safetensors"];

/// Every other file is as well formed as before, with other digits.
fn damaged(original: &[u8], seed: u64) -> Vec<u8> {
    if seed.is_multiple_of(2) { mutated(original, seed) } else { digits_changed(original, seed) }
}

#[test]
fn specs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spec.toml");
    let tally = attack(
        "run spec",
        &path,
        |seed| damaged(SPEC.as_bytes(), seed),
        |path| {
            RunSpec::read(path)
                .inspect(|spec| assert_eq!(&RunSpec::parse(path, &spec.to_toml()).unwrap(), spec))
        },
    );
    tally.between(0.4, 0.9);
}

/// A snapshot of a small model; the run's folder and the content of [`FILES`].
fn snapshot(run: &Path) -> Vec<Vec<u8>> {
    let config = ModelConfig {
        n_layers: 1,
        d_model: 4,
        n_heads: 1,
        d_head: 2,
        n_ctx: 4,
        d_vocab: 3,
        ..ModelConfig::default()
    };
    let state = State {
        format: FORMAT,
        step: STEP,
        tokens: 12,
        seed: 0,
        spec_hash: "0".repeat(32),
        code_version: CODE_VERSION.into(),
        engine: "cpu".into(),
        threads: 1,
        log_bytes: 0,
    };
    let optimizer = Optimizer { step: STEP, ..Optimizer::new(&config) };
    fs::create_dir_all(run.join("snapshots")).unwrap();
    Snapshot { params: config.init_params(0).unwrap(), optimizer, state }
        .save(run, &config)
        .unwrap();
    let folder = snapshot_folder(run, STEP);
    FILES.iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

fn entry(name: &str, bytes: &[u8]) -> Value {
    json!({"name": name, "bytes": bytes.len(), "blake3": blake3::hash(bytes).to_hex().as_str()})
}

/// Damages the file that `which` chooses by the seed; with `vouched`, the manifest says that it is
/// as it should be.
fn attack_snapshot(name: &str, which: impl Fn(u64) -> usize, vouched: bool) -> Tally {
    let run = tempfile::tempdir().unwrap();
    let files = snapshot(run.path());
    let folder = snapshot_folder(run.path(), STEP);
    let mut refused = 0;
    let of = cases(name, induction_torture::TIMES, |seed| {
        let which = which(seed);
        let (file, bytes) = (FILES[which], damaged(&files[which], seed));
        write(&folder.join(file), &bytes);
        if vouched {
            let mut entries: Vec<Value> =
                FILES.iter().zip(&files).map(|(name, bytes)| entry(name, bytes)).collect();
            entries[which] = entry(file, &bytes);
            write(&folder.join("MANIFEST.json"), &serde_json::to_vec(&entries).unwrap());
        }
        match bounded(memory_limit(bytes.len()), || Snapshot::load(run.path(), STEP)) {
            Ok((config, snapshot)) => {
                assert!(vouched || bytes == files[which], "damage was not seen");
                snapshot.params.check(&config).unwrap();
            }
            Err(error) => {
                // Another file may be what no longer fits the one that was changed.
                let message = error.to_string();
                let named = if vouched {
                    FILES.iter().any(|file| message.contains(file))
                } else {
                    message.contains(file)
                };
                assert!(named && message.contains("step-00000003"), "{message}");
                refused += 1;
            }
        }
        if !vouched {
            write(&folder.join(file), &files[which]);
        }
    });
    Tally { refused, of }
}

#[test]
fn snapshots_that_their_manifest_does_not_vouch_for() {
    attack_snapshot(
        "snapshot without its manifest's word",
        |seed| (seed / 2) as usize % FILES.len(),
        false,
    )
    .between(0.8, 1.0);
}

#[test]
fn configurations_of_snapshots() {
    attack_snapshot("snapshot: config.json", |_| 0, true).between(0.4, 0.95);
}

#[test]
fn states_of_snapshots() {
    attack_snapshot("snapshot: state.json", |_| 1, true).between(0.3, 0.9);
}

#[test]
fn weights_of_snapshots() {
    attack_snapshot("snapshot: model.safetensors", |_| 2, true).between(0.2, 0.99);
}

#[test]
fn optimizer_states_of_snapshots() {
    attack_snapshot("snapshot: optim.safetensors", |_| 3, true).between(0.2, 0.99);
}

#[test]
fn manifests_of_snapshots() {
    let run = tempfile::tempdir().unwrap();
    let files = snapshot(run.path());
    let path = snapshot_folder(run.path(), STEP).join("MANIFEST.json");
    let original = fs::read(&path).unwrap();
    let (_, sound) = Snapshot::load(run.path(), STEP).unwrap();
    let tally = attack(
        "snapshot: MANIFEST.json",
        &path,
        |seed| damaged(&original, seed),
        |path| {
            // An error may name the file that a damaged entry is about.
            match Snapshot::load(run.path(), STEP) {
                Ok((_, found)) => {
                    assert_eq!(found, sound);
                    Ok(())
                }
                Err(error) => {
                    Err(format!("{}: {error}", named(&error.to_string(), path).display()))
                }
            }
        },
    );
    tally.between(0.7, 1.0);
    assert_eq!(files.len(), FILES.len());
}

fn named(message: &str, manifest: &Path) -> PathBuf {
    let folder = manifest.parent().unwrap().display().to_string();
    assert!(message.contains(&folder), "{message}");
    manifest.to_path_buf()
}

/// Names in a manifest are looked up, never followed.
#[test]
fn a_manifest_leads_nowhere() {
    let run = tempfile::tempdir().unwrap();
    let files = snapshot(run.path());
    let folder = snapshot_folder(run.path(), STEP);
    let outside = run.path().join("outside");
    write(&outside, b"not yours");
    let sound: Vec<Value> =
        FILES.iter().zip(&files).map(|(name, bytes)| entry(name, bytes)).collect();
    let absolute = outside.display().to_string();
    for name in [
        "../../outside",
        &absolute,
        "./../../outside",
        "/etc/passwd",
        "..",
        "",
        "\0",
        "model.safetensors/../x",
    ] {
        let further: Vec<Value> =
            sound.iter().cloned().chain([entry(name, b"not yours")]).collect();
        write(&folder.join("MANIFEST.json"), &serde_json::to_vec(&further).unwrap());
        Snapshot::load(run.path(), STEP).unwrap();
        // In place of a file that must be there.
        let mut instead = sound.clone();
        instead[2] = entry(name, b"not yours");
        write(&folder.join("MANIFEST.json"), &serde_json::to_vec(&instead).unwrap());
        let message = load_model(&folder).unwrap_err().to_string();
        assert!(
            message.contains("MANIFEST.json: does not list model.safetensors"),
            "{name}: {message}"
        );
    }
    assert_eq!(fs::read(&outside).unwrap(), b"not yours");
}
