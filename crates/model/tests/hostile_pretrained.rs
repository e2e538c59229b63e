//! Pretrained models' files as accidents and attackers leave them: no panic, an error that names the file.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use induction_model::pretrained;
use rand::{Rng, RngCore};

/// Changed files of each kind.
const MUTATIONS: u64 = 10_000;

/// Flipped bits, other bytes, cuts, repeats, other digits: one to four of them.
fn mutated(original: &[u8], random: &mut impl RngCore) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..40)).min(bytes.len());
        match random.random_range(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8u8),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            5 => bytes[at..end].fill(0xff),
            6 => drop(bytes.splice(at..at, *b"9999999999")),
            _ => {
                // Another digit somewhere: the file stays valid, what it says does not.
                let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
                if let Some(&i) = digits.get(random.random_range(0..digits.len().max(1))) {
                    bytes[i] = b'0' + random.random_range(0..10u8);
                }
            }
        }
    }
    bytes
}

/// Opens the model again and again with one of its files changed.
fn survives(fixture: &str, file: &str, header_only: Option<usize>) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle/pretrained").join(fixture);
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join(file);
    let original = fs::read(&path).unwrap();
    let model = if file.ends_with(".gguf") { path.clone() } else { folder.path().to_path_buf() };
    let mut random = induction_random::stream(0, file, 0);
    let (mut refused, mut read) = (0, 0);
    for _ in 0..MUTATIONS {
        let bytes = match header_only {
            // Most of a file is values, of which every bit pattern is one.
            Some(header) => [mutated(&original[..header], &mut random), original[header..].to_vec()].concat(),
            None => mutated(&original, &mut random),
        };
        // Some file systems flush a file that is overwritten.
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        match pretrained::open(&model) {
            Ok(_) => read += 1,
            Err(error) => {
                refused += 1;
                let message = error.to_string();
                // The file that was changed, another one that it no longer fits, or the setting that it is about.
                let names = ["config.json", "model", "GGUF"].iter().any(|name| message.contains(name));
                assert!(names && message.len() < 4096, "{message}");
            }
        }
    }
    assert!(refused > MUTATIONS / 4, "{fixture}/{file}: {refused} refused, {read} read");
}

#[test]
fn configurations() {
    survives("llama_llama3", "config.json", None);
}

#[test]
fn transformer_lens_configurations() {
    survives("lens_attn_only_shortformer", "config.json", None);
}

#[test]
fn safetensors_headers() {
    survives("gpt2_hub", "model.safetensors", Some(2552));
}

#[test]
fn lists_of_shards() {
    survives("qwen2", "model.safetensors.index.json", None);
}

#[test]
fn gguf_files() {
    survives("llama_gqa_gguf_q4_0", "model.gguf", Some(2000));
}
