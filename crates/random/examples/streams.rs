//! What one choice draws does not depend on what others drew, nor in which order: `cargo run -p
//! induction-random --example streams`
//!
//! ```text
//! 1000 examples drawn in order, backwards, by four threads
//!   the same tokens: true
//!
//! the stream is a function of three names:
//!   seed 0, "example", 0: [36, 11, 95, 32, 63]
//!   seed 1, "example", 0: [6, 34, 13, 91, 74]
//!   seed 0, "weights", 0: [24, 60, 85, 77, 20]
//!   seed 0, "example", 1: [93, 47, 31, 99, 6]
//!
//! correlation of neighbouring streams over 1000000 draws: -0.0009
//!
//! of 1,000,000,000 windows, read as the 123,456,789th:
//!   epoch 0: window 638977413
//!   epoch 1: window 653900219
//!   epoch 2: window 765455688
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::thread;

use rand::Rng;

/// What example `index` draws: five tokens of 100.
fn tokens(seed: u64, purpose: &str, index: u64) -> Vec<u32> {
    let mut random = induction_random::stream(seed, purpose, index);
    (0..5).map(|_| random.random_range(0..100)).collect()
}

fn main() {
    let in_order: Vec<_> = (0..1000).map(|index| tokens(0, "example", index)).collect();
    let mut backwards: Vec<_> = (0..1000).rev().map(|index| tokens(0, "example", index)).collect();
    backwards.reverse();
    let by_threads: Vec<_> = thread::scope(|scope| {
        let quarters = [0, 250, 500, 750].map(|from| {
            scope.spawn(move || {
                (from..from + 250).map(|index| tokens(0, "example", index)).collect::<Vec<_>>()
            })
        });
        quarters
            .into_iter()
            .flat_map(|quarter| quarter.join().expect("it draws and returns"))
            .collect()
    });
    println!("1000 examples drawn in order, backwards, by four threads");
    println!("  the same tokens: {}", in_order == backwards && in_order == by_threads);

    println!("\nthe stream is a function of three names:");
    for (seed, purpose, index) in
        [(0, "example", 0), (1, "example", 0), (0, "weights", 0), (0, "example", 1)]
    {
        println!("  seed {seed}, {purpose:?}, {index}: {:?}", tokens(seed, purpose, index));
    }

    // Two streams as pairs of points: a correlation of independent ones is 0 within a few 1 /
    // sqrt(n).
    let n = 1_000_000;
    let [mut a, mut b] = [0, 1].map(|index| induction_random::stream(0, "example", index));
    let sum: f64 = (0..n).map(|_| (a.random::<f64>() - 0.5) * (b.random::<f64>() - 0.5)).sum();
    println!(
        "\ncorrelation of neighbouring streams over {n} draws: {:+.4}",
        sum / f64::from(n) * 12.0
    );

    // The order of an epoch is a permutation that is asked at one place, not a list that is
    // shuffled and kept.
    let at = |epoch, k| induction_random::permute(0, "order", epoch, 1_000_000_000, k);
    println!("\nof 1,000,000,000 windows, read as the 123,456,789th:");
    (0..3).for_each(|epoch| println!("  epoch {epoch}: window {:>9}", at(epoch, 123_456_788)));
}
