//! Damaged tables of a run: each is read, or refused with an error that names the file.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{SMALL, small};
use induction_report::{load_run, parse_scan};
use induction_torture::{attack, digits_changed, mutated, scratch};

/// What need not be there; without `explore.json` no text is read.
const OPTIONAL: [&str; 4] =
    ["ablations.jsonl", "ablations.json", "knockouts.jsonl", "explore.json"];

/// Damages each of these files by itself, in a run that has no other of the [`OPTIONAL`] ones than
/// this.
fn attack_files(optional: Option<&str>, chosen: impl Fn(&str) -> bool) {
    let dir = scratch();
    let run = small(dir.path());
    for file in OPTIONAL.into_iter().filter(|file| optional != Some(file)) {
        fs::remove_file(run.join("measurements").join(file)).unwrap();
    }
    load_run(&run).unwrap();
    let folder = run.display().to_string();
    for file in SMALL.into_iter().filter(|file| chosen(file)) {
        let path = run.join(file);
        let original = fs::read(&path).unwrap();
        // Every other file is as well formed as before, with other digits.
        let damaged = |seed: u64| {
            if seed.is_multiple_of(2) {
                mutated(&original, seed)
            } else {
                digits_changed(&original, seed)
            }
        };
        let tally = attack(&format!("report: {file}"), &path, damaged, |path| {
            load_run(&run).map_err(|error| {
                let message = error.to_string();
                // A table may no longer fit another one, which is named then.
                assert!(
                    message.contains(&folder)
                        && !message.chars().any(|c| c.is_control() && c != '\n'),
                    "{message}"
                );
                format!("{}: {message}", path.display())
            })
        });
        // Meta data, digits of numbers and the bytes of arrays are free.
        tally.between(0.02, 1.0);
        fs::write(&path, &original).unwrap();
    }
}

#[test]
fn specs_and_logs() {
    attack_files(None, |file| !file.contains('/') && file != "scan.json");
}

#[test]
fn tables_of_snapshots() {
    attack_files(None, |file| {
        ["icl", "loss_by", "copies", "random", "heads"].iter().any(|name| file.contains(name))
    });
}

#[test]
fn summaries_and_losses() {
    attack_files(None, |file| {
        ["summary", "meta", "losses/"].iter().any(|name| file.contains(name))
    });
}

#[test]
fn ablations() {
    attack_files(Some("ablations.jsonl"), |file| file.contains("ablations.jsonl"));
    attack_files(Some("ablations.json"), |file| file.ends_with("ablations.json"));
    attack_files(Some("knockouts.jsonl"), |file| file.contains("knockouts"));
}

#[test]
fn texts() {
    attack_files(Some("explore.json"), |file| file.contains("text") || file.contains("maps/step"));
}

#[test]
fn prompts() {
    attack_files(Some("explore.json"), |file| file.contains("prompts"));
}

#[test]
fn scans() {
    let dir = scratch();
    let path = small(dir.path()).join("scan.json");
    let original = fs::read(&path).unwrap();
    let damaged = |seed: u64| {
        if seed.is_multiple_of(2) {
            mutated(&original, seed)
        } else {
            digits_changed(&original, seed)
        }
    };
    let read = |path: &std::path::Path| match String::from_utf8(fs::read(path).unwrap()) {
        Ok(text) => {
            parse_scan(&text, path, "x".into()).map(drop).map_err(|error| error.to_string())
        }
        Err(_) => Err("scan.json: the reader of files refuses it".into()),
    };
    attack("report: scan.json", &path, damaged, read).between(0.3, 0.95);
}

/// Found by mutation: the library's message quotes what the header holds.
#[test]
fn a_header_with_control_characters_is_quoted_without_them() {
    let dir = scratch();
    let run = small(dir.path());
    let header =
        br#"{"pattern": {"dtype": "\u0007\u001b[2J", "shape": [0], "data_offsets": [0, 0]}}"#;
    let path = run.join("measurements/maps/step-00000000.safetensors");
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header].concat()).unwrap();
    let message = load_run(&run).err().unwrap().to_string();
    assert!(message.contains("step-00000000.safetensors") && message.contains("u{7}"), "{message}");
    assert!(!message.chars().any(char::is_control), "{message}");
}
