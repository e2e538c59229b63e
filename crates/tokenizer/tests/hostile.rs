//! Mutated files: each is read or refused with an error that names it; none panics, hangs, or is
//! silently misread.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use induction_tokenizer::{BpeTokenizer, Error, Shard, corpus};
use induction_torture::{Tally, bounded, cases, memory_limit, mutated, write};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Reads every mutation of `original`; none reaches the library.
fn attack(
    name: &str,
    file: &str,
    original: &[u8],
    read: impl Fn(&Path) -> Result<(), Error>,
) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    induction_torture::attack(
        name,
        &folder.path().join(file),
        |seed| mutated(original, seed),
        |path| {
            read(path)
                .inspect_err(|error| assert!(!matches!(error, Error::Library { .. }), "{error}"))
        },
    )
}

#[test]
fn tokenizers() {
    let original = fs::read(fixtures().join("oracle/tokenizer.json")).unwrap();
    let text = "every text: naïve <|bos|> \u{1f9e0}\n\n\0 must still come back";
    let tally = attack("tokenizer", "tokenizer.json", &original, |path| {
        let tokenizer = BpeTokenizer::load(path)?;
        // What is accepted may merge otherwise, but loses nothing and never makes a BOS.
        let ids = tokenizer.encode(text);
        assert!(!ids.contains(&0));
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        Ok(())
    });
    tally.between(0.8, 1.0);
}

#[test]
fn shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good");
    let shard = Shard { d_vocab: 512, tokens: (0..400).map(|k| k * 7 % 512).collect() };
    shard.write(&path).unwrap();
    let tally = attack("shard", "x.tokens", &fs::read(&path).unwrap(), |path| {
        let read = Shard::read(path)?;
        // Its vocabulary's size is the one thing that the hash does not cover.
        assert!(read.tokens == shard.tokens && read.d_vocab > 511);
        Ok(())
    });
    tally.between(0.8, 1.0);
}

const LINES: &str = "{\"id\": \"a\", \"text\": \"some text of a first document\"}\n{\"id\": \"b\", \"text\": \"\\ud83d\\ude00 \
    and \\\"more\\\"\\n of it\"}\n{\"id\": \"c\", \"text\": \"the last\", \"language\": [\"en\", {}]}\n";

#[test]
fn json_lines() {
    let tally = attack("corpus of JSON lines", "x.jsonl", LINES.as_bytes(), |path| {
        let corpus = corpus::load(path)?;
        assert!(corpus.documents.len() >= 2 && corpus.documents.iter().all(|d| !d.text.is_empty()));
        Ok(())
    });
    tally.between(0.5, 1.0);
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
    let tally = attack("compressed corpus", "x.jsonl.zst", &original, |path| {
        // The checksum: what is accepted is what was written, once or cut between frames.
        assert_eq!(corpus::load(path)?.documents, expected);
        Ok(())
    });
    tally.between(0.8, 1.0);
    // A real file, whose blocks are compressed with tables and repeated matches; fewer times, it
    // takes longer.
    let real = fs::read(fixtures().join("corpora/books/kjv.jsonl.zst")).unwrap();
    let path = folder.path().join("real.jsonl.zst");
    cases("compressed corpus of a real text", 30, |seed| {
        let bytes = mutated(&real, seed);
        write(&path, &bytes);
        // What it holds is ten times the file by itself.
        match bounded(10 * memory_limit(bytes.len()), || corpus::load(&path)) {
            Ok(_) => assert!(bytes == real, "it was not seen"),
            Err(error) => assert!(error.to_string().contains("real.jsonl.zst"), "{error}"),
        }
    });
}

#[test]
fn texts() {
    let original = "Déjà vu.\n\nA second paragraph — of two.\n".repeat(12);
    let tally = attack("corpus of plain text", "x.txt", original.as_bytes(), |path| {
        let whole: String = corpus::load(path)?.documents.into_iter().map(|d| d.text).collect();
        assert_eq!(whole.as_bytes(), fs::read(path).unwrap());
        Ok(())
    });
    tally.between(0.1, 1.0);
}
