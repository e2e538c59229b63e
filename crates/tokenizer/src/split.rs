//! Which documents are held out.

use std::path::PathBuf;

use crate::{Document, Error, Result};

/// A corpus in two parts, each in the corpus' order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What the tokenizer and the model are trained on: at least half of the bytes.
    pub train: Vec<Document>,
    /// What no training step sees.
    pub held_out: Vec<Document>,
}

/// Holds out whole documents until they make up `fraction` of the bytes.
///
/// By document, never by position: the two halves of one text share names and phrases, and a model
/// that had seen one half would be credited with learning in context what it remembers. Documents
/// are ranked by the hash of their id, so the choice depends on nothing else: every run, of
/// whatever seed, holds out the same ones, and adding a document to a corpus moves few others.
///
/// A document that would leave less than half of the bytes to train on is passed over, so less than
/// `fraction` can come out if single documents are huge.
///
/// # Errors
/// If `fraction` is not in (0, 0.5], or there are fewer than two documents.
pub fn split(documents: Vec<Document>, fraction: f64) -> Result<Split> {
    check_fraction(fraction)?;
    if documents.len() < 2 {
        return Err(Error::TooFewDocuments {
            path: PathBuf::from("to split"),
            found: documents.len(),
        });
    }
    let total: u64 = documents.iter().map(bytes).sum();
    let wanted = fraction * total as f64;
    let mut ranking: Vec<usize> = (0..documents.len()).collect();
    ranking.sort_by_cached_key(|&i| *blake3::hash(documents[i].id.as_bytes()).as_bytes());

    let mut is_held_out = vec![false; documents.len()];
    // Of two or more documents the smallest holds at most half, so at least one is always taken.
    let (mut taken, mut taken_bytes) = (0, 0);
    for i in ranking {
        if taken > 0 && taken_bytes as f64 >= wanted {
            break;
        }
        if (taken_bytes + bytes(&documents[i])) * 2 <= total {
            is_held_out[i] = true;
            taken += 1;
            taken_bytes += bytes(&documents[i]);
        }
    }
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for (document, is_held_out) in documents.into_iter().zip(is_held_out) {
        if is_held_out { held_out.push(document) } else { train.push(document) }
    }
    Ok(Split { train, held_out })
}

/// The range of the held-out fraction.
pub(crate) fn check_fraction(fraction: f64) -> Result<()> {
    if fraction > 0.0 && fraction <= 0.5 {
        return Ok(());
    }
    let expected = "a fraction above 0 and at most 0.5".to_owned();
    Err(Error::Setting { field: "held_out", given: fraction.to_string(), expected })
}

fn bytes(document: &Document) -> u64 {
    document.text.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn documents(sizes: &[usize]) -> Vec<Document> {
        let document =
            |(i, &n): (usize, &usize)| Document { id: format!("d{i}"), text: "x".repeat(n) };
        sizes.iter().enumerate().map(document).collect()
    }

    proptest! {
        #[test]
        fn both_sides_hold_what_they_should(
            sizes in prop::collection::vec(0usize..300, 2..40),
            fraction in 0.001f64..=0.5,
        ) {
            let all = documents(&sizes);
            let total: u64 = all.iter().map(bytes).sum();
            let Split { train, held_out } = split(all.clone(), fraction).unwrap();
            prop_assert!(!train.is_empty() && !held_out.is_empty());
            let held: u64 = held_out.iter().map(bytes).sum();
            prop_assert!(held * 2 <= total);
            let largest = all.iter().map(bytes).max().unwrap();
            // Enough is held out wherever no document is so large that it had to be passed over.
            prop_assert!(held as f64 >= (fraction * total as f64).min(total as f64 / 2.0 - largest as f64));
            // Every document is on one side, in its order.
            let (mut train, mut held_out) = (train.iter().peekable(), held_out.iter().peekable());
            for document in &all {
                let side = if train.peek() == Some(&document) { &mut train } else { &mut held_out };
                prop_assert_eq!(side.next(), Some(document));
            }
        }
    }

    #[test]
    fn the_choice_depends_on_ids_alone() {
        let all = documents(&[10; 30]);
        let ids = |documents: &[Document]| {
            let mut ids: Vec<_> = documents.iter().map(|d| d.id.clone()).collect();
            ids.sort();
            ids
        };
        let chosen = ids(&split(all.clone(), 0.2).unwrap().held_out);
        assert_eq!(chosen.len(), 6);
        assert_eq!(ids(&split(all.into_iter().rev().collect(), 0.2).unwrap().held_out), chosen);
        // The choice itself is part of the format: another would make prepared data and
        // measurements incomparable.
        assert_eq!(chosen, ["d0", "d18", "d24", "d26", "d27", "d3"]);
    }

    #[test]
    fn a_huge_document_is_trained_on() {
        for at in 0..5 {
            let mut sizes = [100; 5];
            sizes[at] = 10_000;
            let parts = split(documents(&sizes), 0.5).unwrap();
            assert!(parts.train.iter().any(|d| d.text.len() == 10_000));
            assert_eq!(parts.held_out.len(), 4);
        }
    }

    #[test]
    fn refuses_bad_fractions_and_a_lone_document() {
        for fraction in [0.0, -0.1, 0.500001, f64::NAN, f64::INFINITY] {
            let error = split(documents(&[1, 1]), fraction).unwrap_err().to_string();
            assert!(error.starts_with("held_out = "), "{error}");
        }
        assert!(matches!(
            split(documents(&[1]), 0.1),
            Err(Error::TooFewDocuments { found: 1, .. })
        ));
    }
}
