//! Mutated files: each is read or refused with an error that names it; none panics, hangs, or is silently misread.
#![allow(clippy::unwrap_used)]

mod mutations;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use induction_tokenizer::{BpeTokenizer, Error, Shard, corpus};
use mutations::{mutated, write};

const MUTATIONS: u64 = 4000;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Reads every mutation of `original`; gives how many were refused.
fn attack(name: &str, original: &[u8], read: impl Fn(&Path) -> Result<(), Error>) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut refused = 0;
    for seed in 0..MUTATIONS {
        write(&path, &mutated(original, seed));
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
