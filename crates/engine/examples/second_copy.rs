//! The loss of an induction model on repeated random tokens, with and without its heads, from two
//! engines: `cargo run -p induction-engine --example second_copy`
//!
//! ```text
//! loss in nats, mean over 32 examples; ln(d_vocab) is 3.689
//! copy                              1st      2nd      3rd      4th
//! whole                           3.855    0.235    0.235    0.235
//! without previous-token head     3.855    3.685    3.659    3.648
//! without induction head          3.689    3.689    3.689    3.689
//!
//! largest difference between `cpu` and `flex`: 1.9e-6 nats
//! position 30 of an example attends to position 6 with 0.999
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use induction_engine::{BurnEngine, CpuEngine, Engine, Intervention};
use induction_metrics::PrefixMatchingSample;
use induction_model::{HandBuilt, Hook};
use ndarray::{Array2, Axis, Slice};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Weights set by formula: layer 0 attends to the previous token, layer 1 to what followed the
    // last copy of this one.
    let model = HandBuilt::new(40, 101);
    let (config, params) = (model.config(), model.params()?);
    let cpu = CpuEngine::new(&config, &params)?;
    let burn = BurnEngine::flex(&config, &params)?;

    // A start token, then 25 distinct random tokens four times.
    let sample = PrefixMatchingSample::default();
    let examples = sample.batch(0, 32, 0, &(1..40).collect::<Vec<_>>())?;
    let without = |layer| [Intervention::ZeroHead { layer, head: 0 }];
    let (previous, induction) = (without(0), without(1));
    let sets: [(&str, &[Intervention]); 3] = [
        ("whole", &[]),
        ("without previous-token head", &previous),
        ("without induction head", &induction),
    ];

    // Asked for together, what the sets have in common is computed once.
    let losses = cpu.losses_under(examples.view(), &sets.map(|(_, set)| set))?;
    println!(
        "loss in nats, mean over {} examples; ln(d_vocab) is {:.3}",
        examples.nrows(),
        (config.d_vocab as f64).ln()
    );
    println!("{:28} {:>8} {:>8} {:>8} {:>8}", "copy", "1st", "2nd", "3rd", "4th");
    for ((name, _), losses) in sets.iter().zip(&losses) {
        // The first token of a copy cannot be known: no copy before it has said what follows.
        let of_copy = |copy: usize| {
            let from = copy * sample.block + 1;
            losses
                .slice_axis(Axis(1), Slice::from(from..from + sample.block - 1))
                .mean()
                .unwrap_or(f32::NAN)
        };
        let [a, b, c, d] = [0, 1, 2, 3].map(of_copy);
        println!("{name:28} {a:8.3} {b:8.3} {c:8.3} {d:8.3}");
    }

    let other = burn.losses_under(examples.view(), &sets.map(|(_, set)| set))?;
    let off = |(a, b): (&Array2<f32>, &Array2<f32>)| {
        (a - b).iter().fold(0.0, |max: f32, x| max.max(x.abs()))
    };
    let off = losses.iter().zip(&other).map(off).fold(0.0, f32::max);
    println!("\nlargest difference between `{}` and `{}`: {off:.1e} nats", cpu.name(), burn.name());

    // What a head attends to is a hook away.
    let read = examples.view().split_at(Axis(1), sample.len() - 1).0;
    let seen = cpu.activations(read, &[Hook::Pattern(1)], &[])?;
    // [example, head, query, key]
    let row: Vec<f32> =
        (0..sample.len() - 1).map(|key| seen[&Hook::Pattern(1)][[0, 0, 30, key]]).collect();
    let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).ok_or("no position")?;
    println!("position 30 of an example attends to position {best} with {:.3}", row[best]);
    Ok(())
}
