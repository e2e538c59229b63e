//! Four attention patterns made by hand, and what the head scores say of them:
//! `cargo run -p induction-metrics --example head_scores`
//!
//! ```text
//! 101 positions, 10 examples; each score is a share of attention
//! head               prefix matching to what preceded the match previous token
//! induction                    1.000                      0.000          0.010
//! blurred induction            0.515                      0.015          0.026
//! previous token               0.000                      0.000          1.000
//! uniform                      0.031                      0.030          0.042
//!
//! with a NaN in it: row (example 3, head 1, query 40) of the attention pattern is no causal distribution: expected entries >= 0 that sum to 1 over keys <= 40 and to 0 after, found NaN at key 7; pass the pattern after mask and softmax, with axes [example, head, query, key]
//! ```
//!
//! The patterns could be any model's: the functions take `[example, head, query, key]` and know of
//! nothing else.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use induction_metrics::{
    HeadScores, PrefixMatchingSample, prefix_matching, prefix_matching_literal, previous_token,
};
use ndarray::{Array2, Array4};

const HEADS: [&str; 4] = ["induction", "blurred induction", "previous token", "uniform"];

/// Attention from `query` to `key`. A token was last seen a block before; what followed it then is
/// one further.
fn attention(head: usize, block: usize, query: usize, key: usize) -> f32 {
    let uniform = 1.0 / (query + 1) as f32;
    // Where there is nothing to find yet, heads rest on the start token.
    let induction = f32::from(u8::from(key == if query > block { query - block + 1 } else { 0 }));
    match head {
        0 => induction,
        1 => 0.5 * induction + 0.5 * uniform,
        2 => f32::from(u8::from(key == query.saturating_sub(1))),
        _ => uniform,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The paper's sample: a start token, then 25 distinct random tokens four times over.
    let sample = PrefixMatchingSample::default();
    let tokens: Array2<u32> = sample.batch(0, 10, 0, &(1..512).collect::<Vec<_>>())?;
    let pattern = Array4::from_shape_fn(
        (10, HEADS.len(), sample.len(), sample.len()),
        |(_, head, query, key)| {
            if key <= query { attention(head, sample.block, query, key) } else { 0.0 }
        },
    );

    let mean =
        |scores: Array2<f64>| HeadScores::over_examples(scores.view()).map(|scores| scores.mean);
    let prefix = mean(prefix_matching(pattern.view(), tokens.view(), sample)?)?;
    let literal = mean(prefix_matching_literal(pattern.view(), tokens.view(), sample)?)?;
    let previous = mean(previous_token(pattern.view())?)?;

    println!(
        "{} positions, {} examples; each score is a share of attention",
        sample.len(),
        tokens.nrows()
    );
    println!(
        "{:18} {:>15} {:>26} {:>14}",
        "head", "prefix matching", "to what preceded the match", "previous token"
    );
    for (head, name) in HEADS.iter().enumerate() {
        println!("{name:18} {:15.3} {:26.3} {:14.3}", prefix[head], literal[head], previous[head]);
    }

    // What cannot give a meaningful number is an error that names the place.
    let mut broken = pattern;
    broken[[3, 1, 40, 7]] = f32::NAN;
    let error =
        previous_token(broken.view()).map_or_else(|error| error.to_string(), |_| "accepted".into());
    println!("\nwith a NaN in it: {error}");
    Ok(())
}
