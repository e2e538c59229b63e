//! Distances to simple predictors, against the sums written out over the whole vocabulary.

use approx::assert_relative_eq;
use induction_metrics::{Error, Mixture, Reference, References, crossings};
use induction_random::stream;
use ndarray::{Array2, Array3, Axis};
use proptest::prelude::*;
use rand::Rng;

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

/// Distances of predictors whose means cross where told: of the k-th in logarithms of tokens, `|x -
/// k|`, so that it and the next cross at `k + 1/2`; each example with errors of its own.
fn crossing_at_halves(seed: u64, examples: usize, error: f64) -> (Vec<u64>, Vec<Array2<f64>>) {
    let mut rng = stream(seed, "errors of examples", 0);
    let tokens: Vec<u64> = (0..13).map(|k| f64::from(k).mul_add(0.3, 7.0).exp() as u64).collect();
    let distances = tokens.iter().map(|&tokens| {
        let x = (tokens as f64).ln() - 7.0;
        Array2::from_shape_fn((examples, 4), |(_, k)| {
            (x - k as f64).abs() + error * (rng.random::<f64>() - 0.5)
        })
    });
    (tokens.clone(), distances.collect())
}

#[test]
fn crossings_are_found_to_the_place_and_their_intervals_hold_them() {
    let (tokens, distances) = crossing_at_halves(0, 8, 0.0);
    let found = crossings(&tokens, &distances, 0).unwrap();
    let names: Vec<(&str, &str)> =
        found.iter().map(|crossing| (&*crossing.from, &*crossing.to)).collect();
    assert_eq!(names, [("uniform", "unigram"), ("unigram", "bigram"), ("bigram", "induction")]);
    for (k, crossing) in found.iter().enumerate() {
        // Between snapshots the gap is straight in ln tokens, rounded to whole tokens.
        assert_relative_eq!(crossing.tokens.unwrap().ln(), 7.5 + k as f64, epsilon = 2e-3);
    }
    // With errors, 95 % of the intervals hold the place.
    let (mut held, mut asked) = (0, 0);
    for seed in 0..100 {
        let (tokens, distances) = crossing_at_halves(seed, 40, 2.0);
        for (k, crossing) in crossings(&tokens, &distances, seed).unwrap().iter().enumerate() {
            let interval = crossing.interval.unwrap();
            let place = (7.5 + k as f64).exp();
            asked += 1;
            held += usize::from(interval.low <= place && place <= interval.high);
        }
    }
    println!("{held} of {asked} held");
    assert!((0.88..=0.99).contains(&(f64::from(held as u32) / f64::from(asked))), "{held} {asked}");
    // One that is nearest to the end gives way to none, nor does the next come before it.
    let (tokens, mut distances) = crossing_at_halves(0, 8, 0.0);
    distances.iter_mut().for_each(|found| found.column_mut(3).fill(9.0));
    let found = crossings(&tokens, &distances, 0).unwrap();
    assert!(found[1].tokens.is_some() && found[2].tokens.is_none() && found[2].interval.is_none());
    // The untrained model is left out, and what does not fit is refused.
    let with_untrained: Vec<u64> = std::iter::once(0).chain(tokens[1..].iter().copied()).collect();
    assert_eq!(crossings(&with_untrained, &distances, 0).unwrap()[1], found[1]);
    assert!(crossings(&tokens[1..], &distances, 0).is_err());
    assert!(crossings(&[], &[], 0).is_err());
    distances[3][[0, 0]] = f64::NAN;
    assert!(crossings(&tokens, &distances, 0).is_err());
}
