//! A snapshot whose files are changed one at a time, with a manifest that vouches for the change.

use std::{fs, path::Path};

use induction::{
    model::ModelConfig,
    train::{Optimizer, Snapshot, State},
};
use serde_json::json;

/// A snapshot's files; an input's first byte says which of them the rest is.
pub const FILES: [&str; 5] = ["MANIFEST.json", "config.json", "state.json", "model.safetensors", "optim.safetensors"];
/// The step of the snapshot.
pub const STEP: u64 = 3;

/// The content of each file of a sound snapshot, in the order of [`FILES`], saved below `run`.
pub fn sound(run: &Path) -> Vec<Vec<u8>> {
    let config = ModelConfig { n_layers: 1, d_model: 4, n_heads: 1, d_head: 2, n_ctx: 4, d_vocab: 3, ..Default::default() };
    let state = State {
        format: 1,
        step: STEP,
        tokens: 12,
        seed: 0,
        spec_hash: "0".repeat(32),
        code_version: "0.1.0".into(),
        engine: "cpu".into(),
        threads: 1,
        log_bytes: 0,
    };
    let params = config.init_params(0).expect("a small model");
    let mut optimizer = Optimizer::new(&config);
    optimizer.step = STEP;
    let snapshot = Snapshot { params, optimizer, state };
    fs::create_dir_all(run.join("snapshots")).expect("a folder of our own");
    snapshot.save(run, &config).expect("a folder of our own");
    let folder = induction::train::snapshot_folder(run, STEP);
    FILES.iter().map(|name| fs::read(folder.join(name)).expect("it was saved")).collect()
}

/// A manifest that vouches for these files.
pub fn manifest(files: &[Vec<u8>]) -> Vec<u8> {
    let entry = |(name, bytes): (&&str, &Vec<u8>)| {
        json!({"name": name, "bytes": bytes.len(), "blake3": blake3::hash(bytes).to_hex().as_str()})
    };
    let entries: Vec<_> = FILES.iter().zip(files).skip(1).map(entry).collect();
    serde_json::to_vec(&entries).expect("plain JSON")
}
