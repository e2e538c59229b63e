//! The scale of the copying score against NumPy's full matrices, and where it is known.

use approx::assert_relative_eq;
use induction_metrics::{CopyingCeiling, CopyingSample, Error, copying_ceiling};
use ndarray::Array2;
use rand::Rng;
use serde::Deserialize;

#[derive(Deserialize)]
struct Oracle {
    w_e: Vec<Vec<f32>>,
    w_u: Vec<Vec<f32>>,
    rank: usize,
    samples: Vec<Vec<u32>>,
    ceiling: f64,
    chance: f64,
}

fn matrix(rows: &[Vec<f32>]) -> Array2<f32> {
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).expect("rows of one length")
}

/// Normal entries (Irwin-Hall).
fn random(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
    let mut rng = induction_random::stream(seed, "copying ceiling", 0);
    Array2::from_shape_simple_fn((rows, columns), || {
        (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0
    })
}

fn samples(d_vocab: u32, length: usize, n: u64) -> Vec<Vec<u32>> {
    let allowed: Vec<u32> = (0..d_vocab).collect();
    (0..n)
        .map(|k| CopyingSample { length }.tokens(0, k, &allowed).expect("enough tokens"))
        .collect()
}

#[test]
fn ceilings_are_numpys() {
    let json = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/oracle/copying_ceiling.json"
    ));
    let cases: Vec<Oracle> = serde_json::from_str(json).expect("as copying_ceiling.py writes it");
    for case in cases {
        let found = copying_ceiling(
            matrix(&case.w_e).view(),
            matrix(&case.w_u).view(),
            case.rank,
            &case.samples,
        );
        let found = found.expect("valid");
        assert_relative_eq!(found.ceiling, case.ceiling, epsilon = 1e-6);
        assert_relative_eq!(found.chance, case.chance, epsilon = 1e-12);
    }
}

#[test]
fn orthogonal_embeddings_are_copied_perfectly() {
    let identity = Array2::<f32>::eye(30);
    let found =
        copying_ceiling(identity.view(), identity.view(), 30, &samples(30, 10, 4)).expect("valid");
    assert_relative_eq!(found.ceiling, 1.0, epsilon = 1e-6);
}

#[test]
fn random_embeddings_hold_it_down() {
    let samples = samples(512, 25, 20);
    let (w_e, w_u) = (random(0, 512, 128), random(1, 128, 512));
    let ceiling = |w_u: &Array2<f32>, rank| {
        copying_ceiling(w_e.view(), w_u.view(), rank, &samples).expect("valid")
    };
    let tied = w_e.t().to_owned();
    for (found, expected) in
        [(ceiling(&w_u, 32), -0.04), (ceiling(&w_u, 128), 0.11), (ceiling(&tied, 32), 0.10)]
    {
        println!("{found:?}");
        assert_relative_eq!(found.ceiling, expected, epsilon = 0.03);
        assert_relative_eq!(found.chance, 4.0 / 26.0 - 1.0, epsilon = 1e-12);
    }
}

#[test]
fn neither_rotations_nor_sizes_matter() {
    let samples = samples(40, 10, 5);
    let (w_e, w_u) = (random(2, 40, 12), random(3, 12, 40));
    let base = copying_ceiling(w_e.view(), w_u.view(), 4, &samples).expect("valid");
    // Any invertible change of basis between the two is the OV matrix's to undo, and so is an
    // offset of every logit.
    let (turned_e, turned_u) =
        (w_e.dot(&random(4, 12, 12)), random(5, 12, 12).dot(&w_u) * 50.0 + 3.0);
    let turned = copying_ceiling(turned_e.view(), turned_u.view(), 4, &samples).expect("valid");
    assert_relative_eq!(turned.ceiling, base.ceiling, epsilon = 1e-3);
}

#[test]
fn shares() {
    let scale = CopyingCeiling { ceiling: 0.1, chance: -0.9 };
    assert_relative_eq!(scale.share(0.1).expect("a scale"), 1.0);
    assert_relative_eq!(scale.share(-0.4).expect("a scale"), 0.5);
    assert_relative_eq!(scale.share(-0.9).expect("a scale"), 0.0);
    assert_eq!(CopyingCeiling { ceiling: -0.9, chance: -0.9 }.share(0.0), None);
    assert_eq!(CopyingCeiling { ceiling: -1.0, chance: -0.9 }.share(0.0), None);
}

#[test]
fn weights_without_a_copier_have_no_scale() {
    // All tokens alike, or nothing at all: no sample has a raise.
    for weights in [Array2::<f32>::ones((6, 3)), Array2::zeros((6, 3))] {
        let found =
            copying_ceiling(weights.view(), weights.t(), 2, &samples(6, 4, 2)).expect("valid");
        assert_eq!(found.ceiling, -1.0);
        assert_eq!(found.share(0.0), None);
    }
}

#[test]
fn bad_inputs_are_named() {
    let (w_e, w_u) = (random(0, 6, 3), random(1, 3, 6));
    let refuse = |w_e: &Array2<f32>, w_u: &Array2<f32>, rank, samples: &[Vec<u32>]| {
        copying_ceiling(w_e.view(), w_u.view(), rank, samples).expect_err("refused")
    };
    assert!(matches!(refuse(&w_e, &random(1, 3, 7), 2, &[vec![0, 1]]), Error::Shape { .. }));
    assert!(matches!(
        refuse(&Array2::zeros((0, 3)), &Array2::zeros((3, 0)), 2, &[vec![0]]),
        Error::Shape { .. }
    ));
    assert!(matches!(refuse(&w_e, &w_u, 0, &[vec![0, 1]]), Error::Setting { name: "rank", .. }));
    assert!(matches!(refuse(&w_e, &w_u, 2, &[]), Error::NoExamples { .. }));
    assert!(matches!(refuse(&w_e, &w_u, 2, &[vec![0], vec![]]), Error::NoExamples { .. }));
    assert_eq!(
        refuse(&w_e, &w_u, 2, &[vec![0, 6]]),
        Error::Token { token: 6, position: 1, d_vocab: 6 }
    );
    let mut infinite = w_u.clone();
    infinite[[1, 2]] = f32::INFINITY;
    let error = refuse(&w_e, &infinite, 2, &[vec![0, 1]]);
    assert!(error.to_string().contains("inf at (1, 2)"), "{error}");
}
