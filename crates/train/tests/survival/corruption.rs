//! Files that rot: every flipped bit and every cut is seen, the snapshot set aside, an older one
//! used.

use std::{fs, path::Path};

use induction_random::stream;
use induction_torture::cases;
use induction_train::snapshot_folder;
use rand::Rng;

use crate::{Listener, STEPS, assert_whole, train, undisturbed};

const FILES: [&str; 5] =
    ["model.safetensors", "optim.safetensors", "config.json", "state.json", "MANIFEST.json"];

/// Damages a file of the newest snapshot for each seed, the same of the one before it at each
/// tenth.
fn attack(name: &str, times: u64, damage: impl Fn(&mut Vec<u8>, &mut dyn rand::RngCore)) {
    let whole = undisturbed();
    let folder = undisturbed();
    let run = folder.path().join("run");
    cases(name, times, |seed| {
        let mut random = stream(seed, "damage", 0);
        let file = FILES[random.random_range(0..FILES.len())];
        let steps: &[u64] = if seed % 10 == 0 { &[STEPS, 35] } else { &[STEPS] };
        for &step in steps {
            let path = snapshot_folder(&run, step).join(file);
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes, &mut random);
            fs::write(&path, bytes).unwrap();
        }
        let mut listener = Listener::default();
        train(&run, &mut listener).unwrap();
        assert_eq!(take_damaged(&run), steps.len(), "what was set aside is kept");
        for step in steps {
            let named =
                |note: &String| note.contains(&format!("step-{step:08}")) && note.contains(file);
            assert!(
                listener.notes.iter().any(named),
                "{file} of step {step}: {:?}",
                listener.notes
            );
        }
        assert_whole(&run, &whole.path().join("run"));
    });
}

/// Removes the snapshots that were set aside; how many.
fn take_damaged(run: &Path) -> usize {
    let entries = fs::read_dir(run.join("snapshots")).unwrap().map(|entry| entry.unwrap());
    let damaged: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("damaged-"))
        .collect();
    damaged.iter().for_each(|entry| fs::remove_dir_all(entry.path()).unwrap());
    damaged.len()
}

#[test]
fn every_flipped_bit_is_seen() {
    attack("bit flips in snapshots", 1000, |bytes, random| {
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8u32);
    });
}

#[test]
fn every_cut_is_seen() {
    attack("snapshot files cut short", 200, |bytes, random| {
        bytes.truncate(random.random_range(0..bytes.len()));
    });
}
