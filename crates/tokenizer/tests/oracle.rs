//! HuggingFace's Python library reads the tokenizer this crate trains and gives the same ids.
//!
//! `fixtures/oracle/tokenizer.json` is this crate's; `fixtures/oracle/tokenizer_ids.json` is what
//! `tokenizer_ids.py` says of it.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use induction_tokenizer::{BpeTokenizer, corpus};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

#[test]
fn training_gives_the_committed_tokenizer() {
    let documents = corpus::load(fixtures().join("corpora/python.jsonl.zst")).unwrap().documents;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    BpeTokenizer::train(&documents, 512).unwrap().save(&path).unwrap();
    let (ours, committed) =
        (std::fs::read(path).unwrap(), fixtures().join("oracle/tokenizer.json"));
    // Set to write the fixture anew; `tokenizer_ids.py` must follow.
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&committed, &ours).unwrap();
    }
    assert!(
        ours == std::fs::read(committed).unwrap(),
        "training on python.jsonl.zst gives another tokenizer.json"
    );
}

#[test]
fn ids_are_those_of_the_python_library() {
    let tokenizer = BpeTokenizer::load(fixtures().join("oracle/tokenizer.json")).unwrap();
    let json = std::fs::read(fixtures().join("oracle/tokenizer_ids.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&json).unwrap();
    assert!(cases.len() >= 30);
    for Case { text, ids } in cases {
        assert_eq!(tokenizer.encode(&text), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}
