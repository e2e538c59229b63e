//! The evaluators' random tokens.

use std::collections::BTreeSet;

use induction_metrics::{
    CopyingSample, DROP_LEAST, DROP_MOST, Error, PrefixMatchingSample, allowed_tokens,
};
use proptest::prelude::*;

const BOS: u32 = 3;

proptest! {
    #[test]
    fn prefix_sample_is_a_repeated_block(seed: u64, example: u64, block in 1usize..20, repeats in 2usize..5) {
        let allowed: Vec<u32> = (0..40).collect();
        let sample = PrefixMatchingSample { block, repeats };
        let tokens = sample.tokens(seed, example, BOS, &allowed).expect("enough tokens");
        prop_assert_eq!(tokens.len(), sample.len());
        prop_assert_eq!(tokens[0], BOS);
        let first = &tokens[1..=block];
        prop_assert!(tokens[1..].chunks(block).all(|repeat| repeat == first));
        prop_assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), block);
        prop_assert!(first.iter().all(|token| allowed.contains(token) && *token != BOS));
    }

    #[test]
    fn copying_sample_is_distinct(seed: u64, example: u64, length in 1usize..30) {
        let allowed: Vec<u32> = (100..130).collect();
        let tokens = CopyingSample { length }.tokens(seed, example, &allowed).expect("enough tokens");
        prop_assert_eq!(tokens.len(), length);
        prop_assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), length);
        prop_assert!(tokens.iter().all(|token| allowed.contains(token)));
    }

    #[test]
    fn allowed_tokens_are_the_middle_of_the_ranking(
        counts in prop::collection::vec(0u64..30, 1..60), most in 0.0f64..0.4, least in 0.0f64..0.5,
    ) {
        let found = allowed_tokens(&counts, BOS, most, least).expect("valid shares");
        let ids = 0..counts.len() as u32;
        let seen: Vec<u32> = ids.filter(|&id| id != BOS && counts[id as usize] > 0).collect();
        let n = seen.len() as f64;
        // Rank: how many seen ids are more frequent, or as frequent with a lower id.
        let rank = |id: u32| {
            let key = |id: u32| (u64::MAX - counts[id as usize], id);
            seen.iter().filter(|&&other| key(other) < key(id)).count()
        };
        let (first, end) = ((most * n).round() as usize, seen.len() - (least * n).round() as usize);
        let expected: Vec<u32> = seen.iter().copied().filter(|&id| (first..end).contains(&rank(id))).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_sample_depends_on_seed_and_example_alone() {
    let allowed: Vec<u32> = (0..1000).collect();
    let sample = PrefixMatchingSample::default();
    let tokens =
        |seed, example| sample.tokens(seed, example, BOS, &allowed).expect("enough tokens");
    assert_eq!(tokens(1, 2), tokens(1, 2));
    assert_ne!(tokens(1, 2), tokens(1, 3));
    assert_ne!(tokens(1, 2), tokens(2, 2));
    assert_eq!(
        sample.batch(1, 5, BOS, &allowed).expect("enough tokens").row(2).to_vec(),
        tokens(1, 2)
    );
    // The list is a set: order and repeats in it do not show.
    let mut shuffled: Vec<u32> = allowed.iter().rev().copied().collect();
    shuffled.extend(&allowed);
    assert_eq!(sample.tokens(1, 2, BOS, &shuffled).expect("enough tokens"), tokens(1, 2));
    // The two evaluators do not share their draws.
    let copying = CopyingSample::default();
    assert_ne!(copying.tokens(1, 2, &allowed).expect("enough tokens"), tokens(1, 2)[1..26]);
    let batch = copying.batch(1, 3, &allowed).expect("enough tokens");
    assert_eq!(
        (batch.dim(), batch.row(2).to_vec()),
        ((3, 25), copying.tokens(1, 2, &allowed).expect("enough tokens"))
    );
}

#[test]
fn samples_are_pinned() {
    // Scores are compared across runs and versions: a change of the draw must be a decision.
    let allowed: Vec<u32> = (0..1000).collect();
    let prefix = PrefixMatchingSample { block: 4, repeats: 2 }
        .tokens(0, 0, BOS, &allowed)
        .expect("enough tokens");
    assert_eq!(prefix, [3, 972, 426, 560, 817, 972, 426, 560, 817]);
    let copying = CopyingSample { length: 4 }.tokens(0, 0, &allowed).expect("enough tokens");
    assert_eq!(copying, [365, 218, 965, 962]);
}

#[test]
fn every_allowed_token_is_drawn_alike() {
    let allowed: Vec<u32> = (0..10).collect();
    let mut counts = [0u32; 10];
    for example in 0..3000 {
        for token in
            (CopyingSample { length: 3 }).tokens(0, example, &allowed).expect("enough tokens")
        {
            counts[token as usize] += 1;
        }
    }
    // 9000 draws, 900 expected each, standard deviation 25.
    assert!(counts.iter().all(|count| count.abs_diff(900) < 125), "{counts:?}");
}

#[test]
fn defaults_drop_the_ends_of_the_ranking() {
    // Of 100 seen ids besides the start token, 5 + 20 go; the never-seen ones do not count.
    let mut counts: Vec<u64> = (0..101).map(|id| 1000 - id).collect();
    counts[BOS as usize] = 1_000_000;
    counts.extend([0; 50]);
    let found = allowed_tokens(&counts, BOS, DROP_MOST, DROP_LEAST).expect("valid");
    assert_eq!(found, (6..=80).collect::<Vec<u32>>());
}

#[test]
fn short_lists_and_bad_settings_are_refused() {
    // Of 26 the start token does not count, nor does a repeat.
    let allowed: Vec<u32> = (0..25).chain([24]).collect();
    let error =
        PrefixMatchingSample::default().tokens(0, 0, BOS, &allowed).expect_err("24 are left");
    assert_eq!(error, Error::TooFewTokens { expected: 25, found: 24 });
    assert!(matches!(
        CopyingSample { length: 26 }.batch(0, 1, &allowed),
        Err(Error::TooFewTokens { .. })
    ));
    assert!(matches!(
        CopyingSample { length: 0 }.tokens(0, 0, &allowed),
        Err(Error::Setting { .. })
    ));
    for (most, least) in [(-0.1, 0.2), (f64::NAN, 0.2), (0.1, 1.0), (0.5, 0.5)] {
        assert!(
            matches!(allowed_tokens(&[1, 2], 0, most, least), Err(Error::Setting { .. })),
            "{most} {least}"
        );
    }
    assert_eq!(allowed_tokens(&[], 0, DROP_MOST, DROP_LEAST), Ok(vec![]));
}
