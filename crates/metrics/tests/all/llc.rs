//! The local learning coefficient of losses whose answer is known.

use std::convert::Infallible;

use approx::assert_relative_eq;
use induction_metrics::{Llc, Sgld, llc, llc::quadratic, mean_stderr, sgld_chain};
use induction_random::stream;
use rand::Rng;

const SGLD: Sgld = Sgld {
    n_beta: 40.0,
    localization: 2.0,
    step_size: 8e-4,
    chains: 8,
    burn_in: 2000,
    draws: 20_000,
};

/// The estimate for a loss with gradient, `f(w - center)`.
fn estimate(
    sgld: &Sgld,
    seed: u64,
    dimensions: usize,
    loss: impl Fn(&[f64], &mut [f64]) -> f64,
) -> Llc {
    // Not at 0, so that a center that is left out would show.
    let center: Vec<f32> = (0..dimensions).map(|k| 0.5 - 0.25 * (k % 5) as f32).collect();
    let chains: Vec<Vec<f64>> = (0..sgld.chains as u64)
        .map(|chain| {
            let (mut away, mut slope) = (vec![0.0; dimensions], vec![0.0; dimensions]);
            let all = 0..dimensions;
            let found = sgld_chain(sgld, (seed, chain), &center, &[all], |_, w, gradient| {
                for ((away, w), c) in away.iter_mut().zip(w).zip(&center) {
                    *away = f64::from(w - c);
                }
                let value = loss(&away, &mut slope);
                for (gradient, slope) in gradient.iter_mut().zip(&slope) {
                    *gradient = *slope as f32;
                }
                Ok::<f64, Infallible>(value)
            });
            found.unwrap()
        })
        .collect();
    llc(sgld, &chains).unwrap().unwrap()
}

fn of_form(sgld: &Sgld, seed: u64, curvatures: &[f64]) -> Llc {
    estimate(sgld, seed, curvatures.len(), |w, slope| {
        let mut value = 0.0;
        for ((w, h), slope) in w.iter().zip(curvatures).zip(slope) {
            value += 0.5 * h * w * w;
            *slope = h * w;
        }
        value
    })
}

#[track_caller]
fn agrees(found: &Llc, expected: f64) {
    let stderr = found.stderr.unwrap();
    println!("{:.4} +- {stderr:.4}, expected {expected:.4}; drift {:.4}", found.llc, found.drift);
    assert!((found.llc - expected).abs() < 4.0 * stderr, "{found:?}, expected {expected}");
    // An error that would let anything pass is no test.
    assert!(stderr < 0.02 * expected.max(1.0), "{found:?}");
    assert!(found.drift.abs() < 4.0 * found.drift_stderr.unwrap(), "{found:?}");
}

/// Full rank, and of rank 5 among 12: half a coefficient for each curved direction, less what the
/// localization takes of it, more what the steps' size adds; nothing for the flat ones.
#[test]
fn quadratic_forms_have_half_their_rank() {
    let full: Vec<f64> = (1..=12).map(f64::from).collect();
    let mut deficient = full.clone();
    deficient[5..].fill(0.0);
    for (form, rank) in [(full, 12.0), (deficient, 5.0)] {
        let (exact, stepped) = quadratic(&SGLD, &form);
        agrees(&of_form(&SGLD, 1, &form), stepped.unwrap());
        // In the limit of a large n beta it is half of the rank; here the smallest curvature is 20
        // times what holds the chain.
        assert!((0.5 * rank - exact) > 0.0 && exact > 0.48 * rank, "{exact}");
        let sharp = Sgld { n_beta: 4e4, step_size: 4e-6, ..SGLD };
        let (exact, _) = quadratic(&sharp, &form);
        assert_relative_eq!(exact, 0.5 * rank, max_relative = 1e-4);
    }
}

/// `w^4 / 4` has a quarter, though its curvature at 0 is none; against the integral over the density
/// on a fine grid.
#[test]
fn a_quartic_has_a_quarter() {
    let sgld = Sgld {
        n_beta: 2000.0,
        localization: 1.0,
        step_size: 4e-4,
        chains: 64,
        burn_in: 2000,
        draws: 20_000,
    };
    let density = |w: f64| (-sgld.n_beta * w.powi(4) / 4.0 - sgld.localization * w * w / 2.0).exp();
    let grid = || (-40_000..=40_000).map(|k| f64::from(k) * 5e-5);
    let norm: f64 = grid().map(density).sum();
    let expected = sgld.n_beta * grid().map(|w| density(w) * w.powi(4) / 4.0).sum::<f64>() / norm;
    assert_relative_eq!(expected, 0.25, max_relative = 0.05);
    let found = estimate(&sgld, 0, 1, |w, slope| {
        slope[0] = w[0].powi(3);
        w[0].powi(4) / 4.0
    });
    println!("{:.4} +- {:.4}, expected {expected:.4}", found.llc, found.stderr.unwrap());
    assert!((found.llc - expected).abs() < 4.0 * found.stderr.unwrap(), "{found:?} {expected}");
    assert!(found.stderr.unwrap() < 0.01);
}

#[test]
fn chains_of_different_seeds_agree_within_their_errors() {
    let form: Vec<f64> = (1..=6).map(f64::from).collect();
    let short = Sgld { chains: 4, burn_in: 500, draws: 2000, ..SGLD };
    let found: Vec<Llc> = (0..20).map(|seed| of_form(&short, seed, &form)).collect();
    let values: Vec<f64> = found.iter().map(|found| found.llc).collect();
    // How estimates of different seeds scatter is the error that each states, as far as twenty of
    // four chains tell: a ratio of variances between a half and twice.
    let (_, scatter) = mean_stderr(&values);
    let scatter = scatter.unwrap() * (values.len() as f64).sqrt();
    let stated: f64 =
        found.iter().map(|found| found.stderr.unwrap().powi(2)).sum::<f64>() / found.len() as f64;
    let ratio = scatter.powi(2) / stated;
    println!("scatter {scatter:.4}, stated {:.4}", stated.sqrt());
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
    // The same seed gives the same bits, another one others.
    assert_eq!(of_form(&short, 0, &form), found[0]);
    assert_ne!(found[0].by_chain, found[1].by_chain);
    assert!(found[0].by_chain[0] != found[0].by_chain[1]);
}

/// Minibatches of noisy data: the loss at the model's own weights on the same minibatch takes the
/// noise off, and the mean is that of the whole data.
#[test]
fn minibatches_change_the_noise_and_not_the_mean() {
    let (dimensions, n) = (4, 64);
    let mut rng = stream(5, "targets", 0);
    // L(w) = mean over data of |w - y|^2 / 2 has curvature 1 in each direction about the mean of y.
    let mut data: Vec<Vec<f64>> =
        (0..n).map(|_| (0..dimensions).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    for d in 0..dimensions {
        let mean = data.iter().map(|y| y[d]).sum::<f64>() / n as f64;
        data.iter_mut().for_each(|y| y[d] -= mean);
    }
    let sgld = Sgld { n_beta: 10.0, localization: 1.0, step_size: 5e-3, ..SGLD };
    let (center, all) = (vec![0.0; dimensions], 0..dimensions);
    let chains: Vec<Vec<f64>> = (0..sgld.chains as u64)
        .map(|chain| {
            sgld_chain(
                &sgld,
                (9, chain),
                &center,
                std::slice::from_ref(&all),
                |step, w, gradient| {
                    let mut rng = stream(9, "batch", chain << 32 | step as u64);
                    let mut value = 0.0;
                    gradient.fill(0.0);
                    for _ in 0..8 {
                        let y = &data[rng.random_range(0..n)];
                        for ((w, y), g) in w.iter().zip(y).zip(gradient.iter_mut()) {
                            let w = f64::from(*w);
                            value += ((w - y).powi(2) - y * y) / 16.0;
                            *g += ((w - y) / 8.0) as f32;
                        }
                    }
                    Ok::<f64, Infallible>(value)
                },
            )
            .unwrap()
        })
        .collect();
    assert!(chains.iter().all(|chain| chain[0] == 0.0));
    let found = llc(&sgld, &chains).unwrap().unwrap();
    // The minibatch's noise adds to that of the steps: of variance (epsilon n beta / 2)^2 s^2 / 8.
    let s2 = data.iter().flatten().map(|y| y * y).sum::<f64>() / (n * dimensions) as f64;
    let a = sgld.n_beta + sgld.localization;
    let noise = sgld.step_size + (0.5 * sgld.step_size * sgld.n_beta).powi(2) * s2 / 8.0;
    let variance = noise / (1.0 - (1.0 - 0.5 * sgld.step_size * a).powi(2));
    agrees(&found, sgld.n_beta * 0.5 * variance * dimensions as f64);
}

#[test]
fn weights_that_are_held_do_not_move() {
    let center = [1.0f32, 2.0, 3.0, 4.0, 5.0];
    let mut seen = 0;
    let sgld = Sgld { burn_in: 0, draws: 10, chains: 1, ..SGLD };
    let chain = sgld_chain(&sgld, (0, 0), &center, &[1..2, 3..5], |step, w, gradient| {
        // A gradient of what is held is not read.
        gradient.fill(f32::NAN);
        for k in [1, 3, 4] {
            gradient[k] = 0.0;
            assert_eq!(w[k] == center[k], step == 0);
        }
        assert!(w[0] == 1.0 && w[2] == 3.0);
        seen += 1;
        Ok::<f64, Infallible>(0.0)
    });
    assert_eq!((chain.unwrap().len(), seen), (10, 10));
}

#[test]
fn steps_that_are_too_large_have_no_answer() {
    let wild = Sgld { step_size: 1.0, draws: 3000, chains: 1, ..SGLD };
    let (center, all) = ([0.0f32; 2], 0..2);
    let chain = sgld_chain(&wild, (0, 0), &center, &[all], |_, w, gradient| {
        gradient.copy_from_slice(w);
        Ok::<f64, Infallible>(f64::from(w[0] * w[0] + w[1] * w[1]) / 2.0)
    });
    assert_eq!(llc(&wild, &[chain.unwrap()]).unwrap(), None);
    assert_eq!(quadratic(&wild, &[1.0, 1.0]).1, None);
    for wrong in [
        Sgld { n_beta: 0.0, ..SGLD },
        Sgld { step_size: f64::NAN, ..SGLD },
        Sgld { localization: -1.0, ..SGLD },
        Sgld { chains: 0, ..SGLD },
        Sgld { draws: 1, ..SGLD },
    ] {
        assert!(wrong.validate().is_err(), "{wrong:?}");
    }
    assert!(llc(&SGLD, &[]).is_err());
    assert!(sgld_chain(&SGLD, (0, 0), &center, &[], |_, _, _| Err("stop")).is_err());
}
