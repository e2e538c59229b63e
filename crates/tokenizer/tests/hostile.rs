//! Mutated files: each is read or refused with an error that names it; none panics, hangs, or is silently misread.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use induction_random::stream;
use induction_tokenizer::{BpeTokenizer, Error, Shard, corpus};
use rand::Rng;

const MUTATIONS: u64 = 4000;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// One to four changes of the kinds that break readers: flipped bits, other bytes, cuts, repeats, huge numbers, deep nesting.
fn mutated(original: &[u8], seed: u64) -> Vec<u8> {
    let mut random = stream(seed, "mutation", original.len() as u64);
    let mut bytes = original.to_vec();
    for _ in 0..random.random_range(1..=4u32) {
        let at = random.random_range(0..=bytes.len());
        let range = at..(at + random.random_range(0..64usize)).min(bytes.len());
        mutate(&mut bytes, range, random.random_range(0..9u32), &mut random);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, range: Range<usize>, kind: u32, random: &mut impl Rng) {
    let at = range.start;
    match kind {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8u32),
        1 if at < bytes.len() => bytes[at] = random.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(range)),
        4 => {
            let copy = bytes[range].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => bytes[range].fill(if random.random() { 0xff } else { 0 }),
        6 => drop(bytes.splice(at..at, *b"99999999999999999999")),
        7 => drop(bytes.splice(at..at, std::iter::repeat_n(b'[', 10_000))),
        _ => {
            // Swapping two ranges keeps lengths and most of the structure.
            let other = random.random_range(0..=bytes.len() - range.len());
            for k in 0..range.len() {
                bytes.swap(at + k, other + k);
            }
        }
    }
}

/// Reads every mutation of `original`; gives how many were refused.
fn attack(name: &str, original: &[u8], read: impl Fn(&Path) -> Result<(), Error>) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut refused = 0;
    for seed in 0..MUTATIONS {
        fs::write(&path, mutated(original, seed)).unwrap();
        let start = Instant::now();
        let result = read(&path);
        assert!(start.elapsed() < Duration::from_secs(2), "mutation {seed} of {name} took {:?}", start.elapsed());
        if let Err(error) = result {
            assert!(error.to_string().contains(name), "mutation {seed}: {error}");
            assert!(!matches!(error, Error::Library { .. }), "mutation {seed} reached the library: {error}");
            refused += 1;
        }
    }
    refused
}

#[test]
fn tokenizers() {
    let original = fs::read(fixtures().join("oracle/tokenizer.json")).unwrap();
    let text = "every text: naïve <|bos|> \u{1f9e0}\n\n\0 must still come back";
    let refused = attack("tokenizer.json", &original, |path| {
        let tokenizer = BpeTokenizer::load(path)?;
        // What is accepted may merge otherwise, but loses nothing and never makes a BOS.
        let ids = tokenizer.encode(text);
        assert!(!ids.contains(&0));
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        Ok(())
    });
    assert!(refused > MUTATIONS * 8 / 10, "{refused}");
}

#[test]
fn shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good");
    let shard = Shard { d_vocab: 512, tokens: (0..400).map(|k| k * 7 % 512).collect() };
    shard.write(&path).unwrap();
    let refused = attack("x.tokens", &fs::read(&path).unwrap(), |path| {
        let read = Shard::read(path)?;
        // Its vocabulary's size is the one thing that the hash does not cover.
        assert!(read.tokens == shard.tokens && read.d_vocab > 511);
        Ok(())
    });
    assert!(refused > MUTATIONS * 8 / 10, "{refused}");
}

const LINES: &str = "{\"id\": \"a\", \"text\": \"some text of a first document\"}\n{\"id\": \"b\", \"text\": \"\\ud83d\\ude00 \
    and \\\"more\\\"\\n of it\"}\n{\"id\": \"c\", \"text\": \"the last\", \"language\": [\"en\", {}]}\n";

#[test]
fn json_lines() {
    let refused = attack("x.jsonl", LINES.as_bytes(), |path| {
        let corpus = corpus::load(path)?;
        assert!(corpus.documents.len() >= 2 && corpus.documents.iter().all(|d| !d.text.is_empty()));
        Ok(())
    });
    assert!(refused > MUTATIONS / 2, "{refused}");
}

#[test]
fn zstd_files() {
    let text = LINES.to_owned() + &LINES.replace("\"id\": \"", "\"id\": \"again-");
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let original = ruzstd::encoding::compress_to_vec(text.as_bytes(), level);
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.jsonl.zst");
    fs::write(&good, &original).unwrap();
    let expected = corpus::load(&good).unwrap().documents;
    let refused = attack("x.jsonl.zst", &original, |path| {
        // The checksum: what is accepted is what was written, once or cut between frames.
        assert_eq!(corpus::load(path)?.documents, expected);
        Ok(())
    });
    assert!(refused > MUTATIONS * 8 / 10, "{refused}");
    // A real file, whose blocks are compressed with tables and repeated matches; fewer times, it takes longer.
    let real = fs::read(fixtures().join("corpora/books/kjv.jsonl.zst")).unwrap();
    let path = folder.path().join("real.jsonl.zst");
    let name = "real.jsonl.zst";
    for seed in 0..30 {
        let bytes = mutated(&real, seed);
        let changed = bytes != real;
        fs::write(&path, bytes).unwrap();
        match corpus::load(&path) {
            Ok(_) => assert!(!changed, "mutation {seed} was not seen"),
            Err(error) => assert!(error.to_string().contains(name), "mutation {seed}: {error}"),
        }
    }
}

#[test]
fn texts() {
    let original = "Déjà vu.\n\nA second paragraph — of two.\n".repeat(12);
    let refused = attack("x.txt", original.as_bytes(), |path| {
        let whole: String = corpus::load(path)?.documents.into_iter().map(|d| d.text).collect();
        assert_eq!(whole.as_bytes(), fs::read(path).unwrap());
        Ok(())
    });
    assert!(refused > MUTATIONS / 10, "{refused}");
}
