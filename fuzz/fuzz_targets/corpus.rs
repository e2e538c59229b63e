//! A corpus; the first byte says of which kind.
#![no_main]

use induction::tokenizer::corpus;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let name = ["x.jsonl", "x.jsonl.zst", "x.txt"][usize::from(kind % 3)];
    if let Some(corpus) = induction_fuzz::read(corpus::load(induction_fuzz::file(name, bytes)), name) {
        assert!(corpus.documents.len() > 1 && corpus.documents.iter().all(|document| !document.text.is_empty()));
    }
});
