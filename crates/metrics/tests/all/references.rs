//! Distances to simple predictors, against the sums written out over the whole vocabulary.

use approx::assert_relative_eq;
use induction_metrics::{Error, Mixture, Reference, References};
use ndarray::{Array2, Array3, Axis};
use proptest::prelude::*;

const VOCAB: usize = 5;

fn tokens(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u32>> {
    // Token 4 is rare in what is fitted, so that some contexts have no follower.
    prop::collection::vec(0..VOCAB as u32 - 1, length)
}

fn windows(examples: usize, n: usize) -> impl Strategy<Value = Array2<u32>> {
    prop::collection::vec(0..VOCAB as u32, examples * n)
        .prop_map(move |flat| Array2::from_shape_vec((examples, n), flat).unwrap())
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let all: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    logits.iter().map(|&l| f64::from(l).exp() / all).collect()
}

fn kl(q: &[f64], p: &[f64]) -> f64 {
    q.iter().zip(p).filter(|(q, _)| **q > 0.0).map(|(q, p)| q * (q.ln() - p.ln())).sum()
}

fn unigram(text: &[u32]) -> Vec<f64> {
    let count = |t: u32| text.iter().filter(|&&x| x == t).count() as f64;
    (0..VOCAB as u32).map(|t| (count(t) + 1.0) / (text.len() + VOCAB) as f64).collect()
}

proptest! {
    #[test]
    fn distances_are_the_sums_written_out(
        text in tokens(2..60), fit in windows(3, 20), examples in windows(3, 12),
        logits in prop::collection::vec(-6.0f32..6.0, 3 * 11 * VOCAB), first in 0usize..3,
    ) {
        let mixture = Mixture::fit(VOCAB, &text, fit.view()).unwrap();
        let references = References::new(&mixture, examples.view()).unwrap();
        let logits = Array3::from_shape_vec((3, 11, VOCAB), logits).unwrap();
        // A part of the examples at a time gives the same as all at once.
        let (_, part) = logits.view().split_at(Axis(0), first);
        let found = references.distances(first, part).unwrap();
        for (row, example) in found.outer_iter().zip(first..3) {
            let mut expected = [0.0; 4];
            for k in 0..11 {
                let context = examples.row(example).to_vec();
                let p = softmax(logits.index_axis(Axis(0), example).row(k).as_slice().unwrap());
                let bigram: Vec<f64> =
                    (0..VOCAB as u32).map(|t| bigram_of(&mixture, &text, context[k], t)).collect();
                let induction = mixture.probabilities(&context[..=k]).unwrap();
                let all = [vec![1.0 / VOCAB as f64; VOCAB], unigram(&text), bigram, induction];
                for (sum, q) in expected.iter_mut().zip(&all) {
                    *sum += kl(q, &p) / 11.0;
                }
            }
            for (found, expected) in row.iter().zip(expected) {
                assert_relative_eq!(*found, expected, epsilon = 1e-10);
            }
        }
    }

    /// A model that predicts as a predictor does is at no distance from it.
    #[test]
    fn a_predictor_is_at_no_distance_from_itself(
        text in tokens(20..60), fit in windows(3, 20), examples in windows(2, 15), which in 0usize..4,
    ) {
        let mixture = Mixture::fit(VOCAB, &text, fit.view()).unwrap();
        let references = References::new(&mixture, examples.view()).unwrap();
        let logits = Array3::from_shape_fn((2, 14, VOCAB), |(example, k, t)| {
            let context = examples.row(example).to_vec();
            let p = match Reference::ALL[which] {
                Reference::Uniform => 1.0,
                Reference::Unigram => unigram(&text)[t],
                Reference::Bigram => bigram_of(&mixture, &text, context[k], t as u32),
                Reference::Induction => mixture.probabilities(&context[..=k]).unwrap()[t],
            };
            // What is added to all logits does not matter.
            (p.ln() + 2.5) as f32
        });
        let found = references.distances(0, logits.view()).unwrap();
        for example in 0..2 {
            prop_assert!(found[[example, which]] < 1e-12, "{found}");
            prop_assert!(found.row(example).iter().all(|&distance| distance >= 0.0), "{found}");
        }
    }
}

/// Interpolated Witten-Bell, counted anew.
fn bigram_of(_: &Mixture, text: &[u32], current: u32, next: u32) -> f64 {
    let unigram = unigram(text);
    let count = |t: u32| text.windows(2).filter(|pair| pair == &[current, t]).count() as f64;
    let counts: Vec<f64> = (0..VOCAB as u32).map(count).collect();
    let all: f64 = counts.iter().sum();
    let distinct = counts.iter().filter(|&&n| n > 0.0).count() as f64;
    if all == 0.0 {
        return unigram[next as usize];
    }
    (counts[next as usize] + distinct * unigram[next as usize]) / (all + distinct)
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = [0u32, 1, 2, 3, 1, 2];
    let examples = Array2::from_shape_fn((2, 6), |(row, k)| ((row + k) % 4) as u32);
    let mixture = Mixture::fit(VOCAB, &text, examples.view()).unwrap();
    let references = References::new(&mixture, examples.view()).unwrap();
    let shape = |first, shape| references.distances(first, Array3::zeros(shape).view());
    assert!(shape(0, (2, 5, VOCAB)).is_ok() && shape(1, (1, 5, VOCAB)).is_ok());
    for (first, wrong) in [(1, (2, 5, VOCAB)), (0, (2, 4, VOCAB)), (0, (2, 5, 4))] {
        assert!(matches!(shape(first, wrong), Err(Error::Shape { .. })), "{first} {wrong:?}");
    }
    assert!(matches!(shape(0, (0, 5, VOCAB)), Err(Error::NoExamples { .. })));
    let mut logits = Array3::zeros((1, 5, VOCAB));
    logits[[0, 3, 2]] = f32::NAN;
    let error = references.distances(1, logits.view()).unwrap_err().to_string();
    assert!(error.contains("NaN for token 2 in example 1"), "{error}");
    let outside = Array2::from_elem((1, 3), VOCAB as u32);
    assert!(References::new(&mixture, outside.view()).is_err());
}
