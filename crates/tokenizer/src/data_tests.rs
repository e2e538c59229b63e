use std::{cell::Cell, fs};

use induction_torture::{Tally, bounded, cases, digits_changed, memory_limit, mutated, write};

use super::*;

/// Of a folder with one damaged file either all that models learn from is what was written, or it
/// is refused.
#[test]
fn damaged_folders() {
    let root = tempfile::tempdir().unwrap();
    let text = |k: usize| {
        format!(
            "document {k} of some words, and {k} of them again; a word like {}\n",
            "ab".repeat(k % 7)
        )
    };
    let documents = (0..30).map(|k| Document { id: k.to_string(), text: text(k) }).collect();
    let corpus = Corpus { documents, blake3: "00".repeat(32), flaws: crate::Flaws::default() };
    let wanted = Wanted { name: "words.jsonl".into(), corpus, d_vocab: 270, held_out: 0.2 };
    let folder = root.path().join(wanted.key());
    wanted.build(&folder).unwrap();
    let (_, train, held_out, summary) = wanted.read(&folder).unwrap();
    for file in ["data.json", "tokenizer.json", "train.tokens", "held_out.tokens"] {
        let path = folder.join(file);
        let original = fs::read(&path).unwrap();
        let refused = Cell::new(0);
        let of = cases(&format!("prepared data: {file}"), 10_000, |seed| {
            let damage = if seed.is_multiple_of(2) { mutated } else { digits_changed };
            let bytes = damage(&original, seed);
            write(&path, &bytes);
            match bounded(memory_limit(bytes.len()), || wanted.read(&folder)) {
                Ok((tokenizer, found_train, found_held_out, found)) => {
                    assert!(
                        found_train == train
                            && found_held_out == held_out
                            && tokenizer.d_vocab() == 270
                    );
                    // Counts that nothing else knows may differ.
                    assert!(found.corpus_blake3 == summary.corpus_blake3 && found.d_vocab == 270);
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.contains(&folder.display().to_string()), "{message}");
                    assert!(!matches!(error, Error::Library { .. }), "{message}");
                    refused.set(refused.get() + 1);
                }
            }
        });
        // A changed digit is often the same digit, and half of data.json is counts.
        Tally { refused: refused.get(), of }.between(0.3, 1.0);
        write(&path, &original);
    }
}
