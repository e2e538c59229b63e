//! What the facade itself reads: manifests of runs, lists of tokens, patterns.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use induction::{
    plan::{Corpora, PlanOptions, Scale, plan},
    records::Manifest,
    scan::{Patterns, read_tokens},
    status,
};
use induction_torture::{
    TIMES, attack, bounded, cases, digits_changed, memory_limit, mutated, write,
};

fn damaged(original: &[u8]) -> impl Fn(u64) -> Vec<u8> {
    move |seed| {
        if seed.is_multiple_of(2) {
            mutated(original, seed)
        } else {
            digits_changed(original, seed)
        }
    }
}

/// Two runs, one of them on a text.
fn manifest() -> Manifest {
    let corpora = || Corpora { main: "a.txt".into(), second: "b.txt".into(), books: "c".into() };
    let of = |scale| {
        plan(&PlanOptions { scale, clamp: true, seed: 0, seeds: Some(1), corpora: corpora() }).runs
    };
    let runs = vec![of(Scale::Laptop).swap_remove(0), of(Scale::Smoke).swap_remove(4)];
    Manifest { format: 1, name: "two".into(), rules: None, runs }
}

#[test]
fn manifests() {
    let folder = tempfile::tempdir().unwrap();
    let original = manifest().to_toml();
    let read = |path: &Path| {
        let read = Manifest::read(path);
        read.inspect(|manifest| {
            assert_eq!(&Manifest::parse(path, &manifest.to_toml()).unwrap(), manifest);
        })
    };
    let path = folder.path().join("manifest.toml");
    attack("manifest of runs", &path, damaged(original.as_bytes()), read).between(0.3, 0.9);
}

#[test]
fn lists_of_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let original =
        serde_json::to_vec(&(0..200).map(|k| k * 37 % 512).collect::<Vec<u32>>()).unwrap();
    attack("list of tokens", &folder.path().join("tokens.json"), damaged(&original), read_tokens)
        .between(0.2, 0.9);
}

#[test]
fn patterns() {
    cases("pattern on the command line", TIMES, |seed| {
        let text = String::from_utf8_lossy(&mutated(b"12:3", seed)).into_owned();
        let read = bounded(memory_limit(text.len()), || text.parse::<Patterns>());
        if let Err(message) = read {
            assert!(message.contains("expected LAYER:HEAD"), "{message}");
        }
    });
}

/// A state is for people to look at: one that cannot be read is as good as none.
#[test]
fn states_of_runs() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest();
    write(&folder.path().join("manifest.toml"), manifest.to_toml().as_bytes());
    let run = folder.path().join("runs").join(&manifest.runs[0].spec.name);
    std::fs::create_dir_all(&run).unwrap();
    let original = br#"{"stage":"failed","at":3,"of":17,"seconds_left":12.5,"seen":{"loss":2.5},"reason":"a disk"}"#;
    let tally = attack("status.json", &run.join("status.json"), damaged(original), |_| {
        let states = status::status(folder.path()).map_err(|error| error.to_string())?;
        assert_eq!(status::table(&states).lines().count(), 4);
        Ok::<_, String>(())
    });
    assert_eq!(tally.refused, 0);
}
