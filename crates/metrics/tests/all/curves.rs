//! Bumps, divergences, intervals of windows and what is read off losses by index: closed forms and
//! twins.

use approx::assert_relative_eq;
use induction_metrics::{
    Error, divergence, icl_sensitivity, late_slope, loss_bumps, loss_derivative, predicted_onset,
    random_token_losses, smoothed,
};
use ndarray::Array2;
use proptest::prelude::*;

const TOKENS: [u64; 41] = {
    let mut tokens = [0; 41];
    let mut k = 0;
    while k < 41 {
        tokens[k] = 1000 * k as u64;
        k += 1;
    }
    tokens
};

fn curve(f: impl Fn(f64) -> f64) -> Vec<f64> {
    TOKENS.iter().map(|&t| f(t as f64)).collect()
}

#[test]
fn a_convex_loss_has_no_bump() {
    assert_eq!(loss_bumps(&TOKENS, &curve(|t| 5.0 / (1.0 + t / 1e4))), Ok(vec![]));
    assert_eq!(loss_bumps(&TOKENS, &curve(|t| 5.0 - t / 1e4)), Ok(vec![]));
    assert_eq!(loss_bumps(&[3], &[1.0]), Ok(vec![]));
}

#[test]
fn a_bump_on_a_convex_loss_has_its_height() {
    let bump = |at: f64, height: f64| move |t: f64| height * (-((t - at) / 2e3).powi(2)).exp();
    let (large, small) = (bump(12_000.0, 0.3), bump(30_000.0, 0.1));
    let found =
        loss_bumps(&TOKENS, &curve(|t| 4.0 + 0.1 * (1.0 - t / 4e4).powi(2) + large(t) + small(t)))
            .expect("a curve");
    assert_eq!(found.iter().map(|b| b.peak_tokens).take(2).collect::<Vec<_>>(), [12_000, 30_000]);
    // The chord lies above the convex loss below it, by no more than this loss bends there.
    assert_relative_eq!(found[0].depth, 0.3, epsilon = 5e-3);
    assert_relative_eq!(found[1].depth, 0.1, epsilon = 5e-3);
    assert!(found[0].start_tokens < 12_000 && 12_000 < found[0].end_tokens);
}

/// The lower envelope at `k` word for word: the lowest of all chords over it.
fn envelope(tokens: &[u64], losses: &[f64], k: usize) -> f64 {
    let mut low = losses[k];
    for a in 0..k {
        for b in k + 1..tokens.len() {
            let along = (tokens[k] - tokens[a]) as f64 / (tokens[b] - tokens[a]) as f64;
            low = low.min(losses[a] + along * (losses[b] - losses[a]));
        }
    }
    low
}

proptest! {
    #[test]
    fn bumps_are_what_lies_above_the_envelope(losses in prop::collection::vec(0.0f64..1.0, 1..14)) {
        let tokens: Vec<u64> = (0..losses.len() as u64).map(|k| k * k + k).collect();
        let found = loss_bumps(&tokens, &losses)?;
        let above: Vec<f64> = (0..losses.len()).map(|k| losses[k] - envelope(&tokens, &losses, k)).collect();
        let deepest = above.iter().copied().fold(0.0, f64::max);
        assert_relative_eq!(found.first().map_or(0.0, |bump| bump.depth), deepest, epsilon = 1e-9);
        for bump in &found {
            let k = tokens.iter().position(|&t| t == bump.peak_tokens).expect("a snapshot");
            assert_relative_eq!(bump.depth, above[k], epsilon = 1e-9);
        }
        // Every snapshot that lies above the envelope belongs to a bump.
        for (k, _) in above.iter().enumerate().filter(|(_, above)| **above > 1e-9) {
            prop_assert!(found.iter().any(|b| b.start_tokens < tokens[k] && tokens[k] < b.end_tokens));
        }
    }

    /// A straight line added to a loss moves no bump.
    #[test]
    fn a_slope_is_no_bump(losses in prop::collection::vec(0.0f64..1.0, 3..14), slope in -1.0f64..1.0) {
        let tokens: Vec<u64> = (0..losses.len() as u64).map(|k| 3 * k).collect();
        let tilted: Vec<f64> = losses.iter().zip(&tokens).map(|(loss, &t)| loss + slope * t as f64).collect();
        let [a, b] = [loss_bumps(&tokens, &losses)?, loss_bumps(&tokens, &tilted)?];
        assert_relative_eq!(
            a.first().map_or(0.0, |bump| bump.depth),
            b.first().map_or(0.0, |bump| bump.depth),
            epsilon = 1e-9
        );
    }
}

#[test]
fn curves_part_where_half_of_the_gap_is_there() {
    // The gap opens from 10,000 to 20,000, to 1.
    let gap = |t: f64| ((t - 1e4) / 1e4).clamp(0.0, 1.0);
    let (one, two) = (curve(|_| 3.0), curve(|t| 3.0 - gap(t)));
    assert_relative_eq!(
        divergence(&TOKENS, &one, &TOKENS, &two).expect("curves").expect("parts"),
        15_000.0
    );
    // Snapshots of their own make no difference to straight lines.
    let coarse: Vec<u64> = TOKENS.iter().copied().step_by(5).collect();
    let flat = vec![3.0; coarse.len()];
    assert_relative_eq!(
        divergence(&coarse, &flat, &TOKENS, &two).expect("curves").expect("parts"),
        15_000.0
    );
    // The other way round, and for a curve with itself, nothing ends below.
    assert_eq!(divergence(&TOKENS, &two, &TOKENS, &one), Ok(None));
    assert_eq!(divergence(&TOKENS, &one, &TOKENS, &one), Ok(None));
    // An early lead that is lost again does not count.
    let lost = curve(|t| if t < 5e3 { 2.0 } else { 3.0 - gap(t) });
    assert_relative_eq!(
        divergence(&TOKENS, &one, &TOKENS, &lost).expect("curves").expect("parts"),
        15_000.0
    );
}

#[test]
fn smoothing_keeps_a_line() {
    let (tokens, values) = smoothed(&TOKENS, &curve(|t| 1.0 - t / 1e5)).expect("a curve");
    assert_eq!(tokens, TOKENS);
    for (value, expected) in values.iter().zip(curve(|t| 1.0 - t / 1e5)) {
        assert_relative_eq!(*value, expected, epsilon = 1e-12);
    }
}

#[test]
fn the_published_onset() {
    assert_relative_eq!(predicted_onset(4, 512), 10f64.powf(5.7) * 2048f64.sqrt());
    // Of four times the tokens a step, twice the tokens.
    assert_relative_eq!(predicted_onset(16, 512), 2.0 * predicted_onset(4, 512));
}

#[test]
fn a_logarithmic_loss_has_a_constant_derivative() {
    let by_index: Vec<f64> = (1..=512).map(|i| 4.0 - 0.3 * f64::from(i).ln()).collect();
    let found = loss_derivative(&by_index).expect("finite");
    // From the first index to the last, each place once.
    assert!(
        found[0].0 < 2.0
            && found[found.len() - 1].0 > 450.0
            && found.windows(2).all(|p| p[0].0 < p[1].0)
    );
    for (place, slope) in found {
        assert_relative_eq!(slope, -0.3, epsilon = 1e-9);
        assert!((1.0..512.0).contains(&place));
    }
    assert!(matches!(loss_derivative(&[1.0]), Err(Error::ShortContext { .. })));
    assert!(matches!(loss_derivative(&[1.0, f64::NAN]), Err(Error::Loss { index: 2, .. })));
}

#[test]
fn sensitivity_is_the_score_from_every_index() {
    assert_eq!(icl_sensitivity(&[5.0, 4.0, 3.5]), Ok(vec![-1.5, -0.5, 0.0]));
    assert!(icl_sensitivity(&[5.0]).is_err());
}

#[test]
fn late_slopes_look_at_late_indices_only() {
    let losses = Array2::from_shape_fn((2, 64), |(e, k)| {
        let index = (k + 1) as f64;
        if k < 9 { 100.0 } else { (3.0 + e as f64 - 0.2 * (e + 1) as f64 * index.ln()) as f32 }
    });
    let found = late_slope(losses.view(), 10).expect("finite");
    assert_relative_eq!(found[0], -0.2, epsilon = 1e-5);
    assert_relative_eq!(found[1], -0.4, epsilon = 1e-5);
    for from in [0, 64, 65] {
        assert!(matches!(
            late_slope(losses.view(), from),
            Err(Error::Setting { name: "from", .. })
        ));
    }
}

#[test]
fn random_tokens_are_the_same_for_every_snapshot() {
    let index = Array2::from_shape_fn((300, 32), |(_, k)| k as f32);
    let chosen = random_token_losses(index.view(), 0).expect("finite");
    assert_eq!(chosen, random_token_losses(index.view(), 0).expect("finite"));
    assert_ne!(chosen, random_token_losses(index.view(), 1).expect("finite"));
    // Every index has its turn, and the first examples do not depend on how many follow.
    assert!((0..32).all(|k| chosen.contains(&(k as f32))));
    let few = index.view().split_at(ndarray::Axis(0), 10).0;
    assert_eq!(random_token_losses(few, 0).expect("finite"), chosen[..10]);
    assert!(matches!(
        random_token_losses(Array2::zeros((0, 4)).view(), 0),
        Err(Error::NoExamples { .. })
    ));
    assert!(random_token_losses(Array2::zeros((4, 0)).view(), 0).is_err());
}
