//! Causal attention of one head on panels, held against plain loops, for each instruction set:
//! `cargo run -p induction-kernels --example attention`
//!
//! ```text
//! one head of width 32, 512 positions
//!                           ms  GFLOP/s    off loops by
//!        plain loops     7.735      2.2
//!                 V3     0.472     35.6          1.3e-7
//!             Scalar    33.835      0.5          1.3e-7
//! the same bits on all of them: true
//! ```
//!
//! (V3 is AVX2, V4 AVX-512. Times differ from machine to machine; that the instruction sets agree
//! to the bit does not.)
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::time::Instant;

use induction_kernels::{archs, attention, panels};

const POSITIONS: usize = 512;
const D_HEAD: usize = 32;

/// Numbers in [-1, 1) of a linear congruential generator.
fn noise(mut state: u64) -> Vec<f32> {
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..POSITIONS * D_HEAD).map(next).collect()
}

/// `softmax(q k^T / sqrt(d), causal) v` by its definition.
fn plain(q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let mut z = vec![0.0; POSITIONS * D_HEAD];
    for (i, (z, q)) in z.chunks_exact_mut(D_HEAD).zip(q.chunks_exact(D_HEAD)).enumerate() {
        let score =
            |k: &[f32]| q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>() / (D_HEAD as f32).sqrt();
        let weights: Vec<f32> =
            k.chunks_exact(D_HEAD).take(i + 1).map(|k| score(k).exp()).collect();
        let sum: f32 = weights.iter().sum();
        for (weight, v) in weights.iter().zip(v.chunks_exact(D_HEAD)) {
            z.iter_mut().zip(v).for_each(|(z, v)| *z += weight / sum * v);
        }
    }
    z
}

fn main() {
    let [q, k, v] = [1, 2, 3].map(noise);
    let begun = Instant::now();
    let expected = plain(&q, &k, &v);
    println!("one head of width {D_HEAD}, {POSITIONS} positions");
    println!("{:>18}  {:>8}  {:>7}  {:>14}", "", "ms", "GFLOP/s", "off loops by");
    let line = |name: &str, seconds: f64, off: String| {
        // Two products of which half is below the diagonal, two operations for each of their terms.
        let gflop = 2.0 * (POSITIONS * (POSITIONS + 1) * D_HEAD) as f64 / 1e9;
        println!("{name:>18}  {:>8.3}  {:>7.1}  {off:>14}", seconds * 1e3, gflop / seconds);
    };
    line("plain loops", begun.elapsed().as_secs_f64(), String::new());

    // A panel is a strip of 32 columns, stored row by row; some rows more than needed, a multiple
    // of the kernels' tiles.
    let rows = POSITIONS + 8;
    let [q, k, v] = [q, k, v].map(|x| {
        let mut panels = vec![0.0; panels::len(rows, D_HEAD)];
        panels::pack(&x, D_HEAD, &mut panels, rows, 0);
        panels
    });
    let mut k_t = vec![0.0; panels::len(D_HEAD, POSITIONS)];
    panels::transpose(&k, rows, POSITIONS, D_HEAD, &mut k_t, D_HEAD, 0);
    let shape = attention::Shape {
        used: POSITIONS,
        rows,
        d_head: D_HEAD,
        scale: (D_HEAD as f64).powf(-0.5),
        bend: attention::Bend::default(),
    };
    let mut results: Vec<Vec<f32>> = Vec::new();
    for arch in archs() {
        let (mut z, mut log_sums) = (vec![0.0; panels::len(rows, D_HEAD)], vec![0.0; POSITIONS]);
        let mut scratch = vec![0.0; attention::scratch_len(POSITIONS)];
        let times = (0..20).map(|_| {
            let (begun, free) = (Instant::now(), attention::Forbidden::default());
            attention::forward(
                arch,
                shape,
                free,
                &q,
                &k_t,
                &v,
                &mut z,
                &mut log_sums,
                &mut scratch,
            );
            begun.elapsed().as_secs_f64()
        });
        let best = times.fold(f64::INFINITY, f64::min);
        let mut found = vec![0.0; POSITIONS * D_HEAD];
        panels::unpack(&z, rows, 0, D_HEAD, &mut found);
        let off = found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
        let name = format!("{arch:?}");
        line(name.split('(').next().unwrap_or(&name), best, format!("{off:.1e}"));
        results.push(found);
    }
    println!(
        "the same bits on all of them: {}",
        results.iter().all(|result| *result == results[0])
    );
}
