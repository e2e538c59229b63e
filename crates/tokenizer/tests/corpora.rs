//! The corpora in the repository are what `fixtures/corpora/SOURCES.md` says.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/corpora")
}

#[test]
fn every_corpus_has_the_documents_it_is_listed_with() {
    let sources = std::fs::read_to_string(folder().join("SOURCES.md")).unwrap();
    let mut seen = 0;
    for row in sources.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (name, documents, megabytes) = (cells[1].trim_matches('`'), cells[2], cells[3]);
        let corpus = induction_tokenizer::corpus::load(folder().join(name)).unwrap();
        assert_eq!(corpus.documents.len().to_string(), documents, "{name}");
        assert_eq!(corpus.flaws, Default::default(), "{name}");
        let bytes: usize = corpus.documents.iter().map(|d| d.text.len()).sum();
        let listed: f64 = megabytes.trim_end_matches(" MB").parse().unwrap();
        // What is listed is the JSON: its escapes and keys add a few percent to the text.
        assert!(
            (0.9 * listed..=listed + 0.05).contains(&(bytes as f64 / 1e6)),
            "{name}: {bytes} bytes of text"
        );
        seen += 1;
    }
    assert_eq!(seen, 7);
}
