//! The mixture of a bigram model and in-context matches, against explicit loops and texts whose
//! answer is known.

use approx::assert_relative_eq;
use induction_metrics::ceiling::LONGEST_MATCH;
use induction_metrics::{Bigram, Error, IclIndices, Mixture, icl_score, loss_by_index};
use induction_random::stream;
use ndarray::Array2;
use proptest::prelude::*;
use rand::Rng;

const VOCAB: usize = 5;

fn text(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..VOCAB as u32, length)
}

fn windows(examples: usize, n: usize) -> impl Strategy<Value = Array2<u32>> {
    text(examples * n)
        .prop_map(move |flat| Array2::from_shape_vec((examples, n), flat).expect("sizes agree"))
}

/// Witten-Bell, counted anew for each question.
fn bigram_twin(tokens: &[u32], current: u32, next: u32) -> f64 {
    let unigram = |t: u32| {
        (tokens.iter().filter(|&&x| x == t).count() as f64 + 1.0) / (tokens.len() + VOCAB) as f64
    };
    let count = |t: u32| tokens.windows(2).filter(|pair| pair == &[current, t]).count() as f64;
    let counts: Vec<f64> = (0..VOCAB as u32).map(count).collect();
    let (all, distinct) =
        (counts.iter().sum::<f64>(), counts.iter().filter(|&&n| n > 0.0).count() as f64);
    if all == 0.0 {
        unigram(next)
    } else {
        (counts[next as usize] + distinct * unigram(next)) / (all + distinct)
    }
}

/// The earlier occurrences of the longest suffix that has any: its length, and how often each token
/// followed.
fn match_twin(context: &[u32], longest: usize) -> Option<(usize, Vec<usize>)> {
    for length in (1..=longest.min(context.len())).rev() {
        let suffix = &context[context.len() - length..];
        let mut counts = vec![0; VOCAB];
        for end in length..context.len() {
            if &context[end - length..end] == suffix {
                counts[context[end] as usize] += 1;
            }
        }
        if counts.iter().sum::<usize>() > 0 {
            return Some((length, counts));
        }
    }
    None
}

proptest! {
    #[test]
    fn bigrams_are_witten_bell(tokens in text(1..60)) {
        let bigram = Bigram::fit(VOCAB, &tokens).expect("valid");
        for current in 0..VOCAB as u32 {
            let mut sum = 0.0;
            for next in 0..VOCAB as u32 {
                let found = bigram.probability(current, next).expect("in the vocabulary");
                assert_relative_eq!(found, bigram_twin(&tokens, current, next), epsilon = 1e-12);
                sum += found;
            }
            assert_relative_eq!(sum, 1.0, epsilon = 1e-12);
        }
    }

    /// Between the bigram model and the match there is a straight line; the weight itself is
    /// compared below.
    #[test]
    fn probabilities_mix_bigrams_and_matches(
        tokens in text(2..60), fit in windows(3, 30), context in text(1..30),
    ) {
        let whole = Mixture::fit(VOCAB, &tokens, fit.view()).expect("valid");
        let of_one = whole.of_one_token(fit.view()).expect("valid");
        for (mixture, longest) in [(whole, LONGEST_MATCH), (of_one, 1)] {
            let found = mixture.probabilities(&context).expect("valid");
            assert_relative_eq!(found.iter().sum::<f64>(), 1.0, epsilon = 1e-12);
            prop_assert!(found.iter().all(|&p| p > 0.0));
            let last = context[context.len() - 1];
            let by_bigram: Vec<f64> =
                (0..VOCAB as u32).map(|t| bigram_twin(&tokens, last, t)).collect();
            let by_match = match match_twin(&context, longest) {
                Some((_, counts)) => {
                    let n = counts.iter().sum::<usize>() as f64;
                    counts.iter().map(|&count| count as f64 / n).collect()
                }
                None => by_bigram.clone(),
            };
            // The weight by the token where the two differ most; all others must follow with it.
            let gap = |t: usize| by_match[t] - by_bigram[t];
            let widest = (0..VOCAB)
                .max_by(|&a, &b| gap(a).abs().total_cmp(&gap(b).abs()))
                .expect("tokens");
            let weight = if gap(widest) == 0.0 {
                0.0
            } else {
                (found[widest] - by_bigram[widest]) / gap(widest)
            };
            prop_assert!((-1e-9..1.0).contains(&weight), "{weight}");
            for t in 0..VOCAB {
                assert_relative_eq!(found[t], by_bigram[t] + weight * gap(t), epsilon = 1e-9);
            }
        }
    }

    #[test]
    fn losses_are_minus_log_probabilities(tokens in text(2..60), fit in windows(3, 20), examples in windows(2, 20)) {
        let mixture = Mixture::fit(VOCAB, &tokens, fit.view()).expect("valid");
        let (losses, bigram) = (
            mixture.losses(examples.view()).expect("valid"),
            mixture.bigram_losses(examples.view()).expect("valid"),
        );
        prop_assert_eq!(losses.dim(), (2, 19));
        for ((example, k), &loss) in losses.indexed_iter() {
            let row = examples.row(example).to_vec();
            let next = row[k + 1];
            let p = mixture.probabilities(&row[..=k]).expect("valid")[next as usize];
            assert_relative_eq!(f64::from(loss), -p.ln(), epsilon = 1e-6, max_relative = 1e-6);
            let p = bigram_twin(&tokens, row[k], next);
            assert_relative_eq!(f64::from(bigram[[example, k]]), -p.ln(), epsilon = 1e-6, max_relative = 1e-6);
        }
    }

    #[test]
    fn weights_never_cost_likelihood_where_they_were_learned(tokens in text(2..60), fit in windows(4, 40)) {
        let mixture = Mixture::fit(VOCAB, &tokens, fit.view()).expect("valid");
        let mean = |losses: Array2<f32>| losses.iter().map(|&l| f64::from(l)).sum::<f64>() / losses.len() as f64;
        let mixed = mean(mixture.losses(fit.view()).expect("valid"));
        let alone = mean(mixture.bigram_losses(fit.view()).expect("valid"));
        prop_assert!(mixed <= alone + 1e-6, "{mixed} {alone}");
    }

    #[test]
    fn sixteen_bits_do(tokens in text(2..60), fit in windows(2, 20)) {
        let narrow: Vec<u16> = tokens.iter().map(|&t| t as u16).collect();
        let losses = |mixture: Mixture| mixture.losses(fit.view()).expect("valid");
        prop_assert_eq!(
            losses(Mixture::fit(VOCAB, &narrow, fit.view()).expect("valid")),
            losses(Mixture::fit(VOCAB, &tokens, fit.view()).expect("valid"))
        );
    }
}

#[test]
fn a_weight_is_the_most_likely_one() {
    // Bigrams of a text without any pattern: 1/2 each, by symmetry. A match of length 1 that
    // occurred once is right in `right` of 20 windows, so the likelihood with one more miss is (1/2
    // + w/2)^right (1/2 - w/2)^wrong (1 - w).
    let text = [0u32, 0, 1, 1, 0];
    let bigram = Bigram::fit(2, &text).expect("valid");
    let p = |next| bigram.probability(0, next).expect("in the vocabulary");
    let likelihood = |w: f64, right: f64| {
        right * (p(0) + w * (1.0 - p(0))).ln()
            + (20.0 - right) * (p(1) * (1.0 - w)).ln()
            + (1.0 - w).ln()
    };
    for right in [8, 14, 17, 20] {
        // `0 0`: the second 0 matches the first, and says 0.
        let fit = Array2::from_shape_fn((20, 3), |(e, k)| u32::from(k == 2 && e >= right));
        let mixture = Mixture::fit(2, &text, fit.view()).expect("valid");
        let weight = (mixture.probabilities(&[0, 0]).expect("valid")[0] - p(0)) / (1.0 - p(0));
        let on_a_grid = (0..10_000).map(|i| f64::from(i) / 10_000.0);
        let best = on_a_grid
            .max_by(|&a, &b| likelihood(a, right as f64).total_cmp(&likelihood(b, right as f64)))
            .expect("a grid");
        assert!((weight - best).abs() < 1.01e-4, "{right} right: {weight}, best on a grid {best}");
    }
}

/// Blocks of `period` random tokens, repeated, after a start token: `[example, 1 + n_ctx]`.
fn repeats(seed: u64, examples: usize, n_ctx: usize, period: usize, d_vocab: u32) -> Array2<u32> {
    let mut all = Array2::zeros((examples, n_ctx + 1));
    for (example, mut row) in all.outer_iter_mut().enumerate() {
        let mut rng = stream(seed, "ceiling test", example as u64);
        let block: Vec<u32> = (0..period).map(|_| rng.random_range(1..d_vocab)).collect();
        for k in 0..n_ctx {
            row[k + 1] = block[k % period];
        }
    }
    all
}

#[test]
fn repeated_text_is_learned_in_context() {
    let (n_ctx, period, d_vocab) = (128, 40, 100);
    let train = repeats(0, 50, n_ctx, period, d_vocab);
    let tokens: Vec<u32> = train.iter().copied().collect();
    let mixture = Mixture::fit(d_vocab as usize, &tokens, train.view()).expect("valid");
    let held_out = repeats(1, 50, n_ctx, period, d_vocab);
    let by_index =
        loss_by_index(mixture.losses(held_out.view()).expect("valid").view()).expect("valid");
    let mean = |from: usize, to: usize| {
        by_index.iter().skip(from).take(to - from).sum::<f64>() / (to - from) as f64
    };
    // Nothing is known of new random tokens: ln 99 = 4.6. After a few tokens of the second repeat
    // all is known.
    assert!(mean(0, period) > 4.5, "{}", mean(0, period));
    assert!(
        mean(period + LONGEST_MATCH, 2 * period) < 0.05,
        "{}",
        mean(period + LONGEST_MATCH, 2 * period)
    );
    assert!(mean(2 * period, n_ctx) < 0.05, "{}", mean(2 * period, n_ctx));
    let alone = loss_by_index(mixture.bigram_losses(held_out.view()).expect("valid").view())
        .expect("valid");
    assert!(alone.iter().skip(1).all(|&loss| loss > 4.0));
}

#[test]
fn random_text_has_nothing_to_learn_in_context() {
    let (n_ctx, d_vocab) = (128, 10);
    // A period as long as the context: independent, uniform tokens.
    let tokens: Vec<u32> = repeats(0, 400, n_ctx, n_ctx, d_vocab).iter().copied().collect();
    let fit = repeats(2, 200, n_ctx, n_ctx, d_vocab);
    let mixture = Mixture::fit(d_vocab as usize, &tokens, fit.view()).expect("valid");
    let held_out = repeats(1, 200, n_ctx, n_ctx, d_vocab);
    let losses = mixture.losses(held_out.view()).expect("valid");
    let score = icl_score(losses.view(), &IclIndices::for_context(n_ctx).expect("long enough"))
        .expect("valid");
    assert!(score.score.abs() < 0.01, "{score:?}");
    let mean = losses.iter().map(|&l| f64::from(l)).sum::<f64>() / losses.len() as f64;
    assert!((mean - 9f64.ln()).abs() < 0.01, "{mean}");
}

#[test]
fn large_vocabularies_fit() {
    let tokens: Vec<u16> = (0..=u16::MAX).collect();
    let fit = Array2::from_shape_fn((1, 3), |(_, k)| 65533 + k as u32);
    let mixture = Mixture::fit(1 << 16, &tokens, fit.view()).expect("valid");
    // Each pair occurs once: (1 + p(t)) / 2, with p(t) = 2^-16.
    assert_relative_eq!(
        mixture.probabilities(&[7]).expect("valid")[8],
        (1.0 + 1.0 / 65536.0) / 2.0,
        epsilon = 1e-12
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let fit = |d_vocab, tokens: &[u32], shape, token| {
        Mixture::fit(d_vocab, tokens, Array2::from_elem(shape, token).view()).expect_err("refused")
    };
    assert!(matches!(fit(5, &[], (1, 3), 0), Error::NoExamples { .. }));
    assert!(matches!(
        fit(5, &[1, 5], (1, 3), 0),
        Error::Token { token: 5, position: 1, d_vocab: 5 }
    ));
    assert!(matches!(fit(5, &[1], (1, 3), 9), Error::Token { token: 9, .. }));
    assert!(matches!(fit(5, &[1], (0, 3), 0), Error::NoExamples { .. }));
    assert!(matches!(fit(5, &[1], (1, 1), 0), Error::Shape { .. }));
    assert!(matches!(fit(0, &[0], (1, 3), 0), Error::Token { .. }));
    assert!(matches!(fit(usize::MAX, &[0], (1, 3), 0), Error::Setting { .. }));

    let mixture =
        Mixture::fit(5, &[1u32], Array2::zeros((1, 2)).view()).expect("one token is a text");
    let losses =
        |shape, token| mixture.losses(Array2::from_elem(shape, token).view()).expect_err("refused");
    assert!(matches!(losses((1, 3), 5), Error::Token { .. }));
    assert!(matches!(losses((0, 3), 0), Error::NoExamples { .. }));
    assert!(matches!(losses((1, 0), 0), Error::Shape { .. }));
    assert!(matches!(
        mixture.bigram_losses(Array2::zeros((0, 3)).view()),
        Err(Error::NoExamples { .. })
    ));
    assert!(matches!(mixture.probabilities(&[]), Err(Error::NoExamples { .. })));
    assert!(matches!(mixture.probabilities(&[5]), Err(Error::Token { .. })));
    assert_eq!(Bigram::fit(5, &[1u32]).expect("valid").probability(5, 0), None);
}
