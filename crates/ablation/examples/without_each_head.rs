//! What an induction model loses without each of its heads, by each kind of ablation, and without
//! each path between them: `cargo run -p induction-ablation --example without_each_head`
//!
//! ```text
//! removed                                    loss on the second copy
//! nothing                                                 0.235 nats
//! head 0.0 by zero                                        3.685 nats (+3.450)
//! head 0.0 by zero, patterns kept                         0.235 nats (+0.000)
//! head 0.0 by its mean                                    3.643 nats (+3.408)
//! head 1.0 by zero                                        3.689 nats (+3.454)
//! head 1.0 by zero, patterns kept                         3.689 nats (+3.454)
//! head 1.0 by its mean                                    3.558 nats (+3.322)
//! path 0.0 to 1.0's queries                               0.235 nats (+0.000)
//! path 0.0 to 1.0's keys                                  3.685 nats (+3.450)
//! path 0.0 to 1.0's values                                0.235 nats (+0.000)
//! 0.0's pattern, PreviousToken                            0.235 nats (+0.000)
//! 1.0's pattern, InductionOneToken                        0.233 nats (-0.002)
//! ```
//!
//! The previous-token head does nothing but tell the induction head where to look: removed with all
//! patterns kept, it is not missed. It acts through the keys alone (K-composition).
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use induction_ablation::{
    Ablation, Downstream, Fill, HeadId, IdealPattern, Inputs, Reads, losses_under,
};
use induction_engine::CpuEngine;
use induction_model::HandBuilt;
use ndarray::{Array2, Axis};
use rand::seq::SliceRandom;

const BLOCK: usize = 25;

/// A start token and 25 distinct random tokens, twice.
fn repeated(example: u64) -> Vec<u32> {
    let mut tokens: Vec<u32> = (1..40).collect();
    tokens.shuffle(&mut induction_random::stream(0, "repeated", example));
    [&[0], &tokens[..BLOCK], &tokens[..BLOCK]].concat()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = HandBuilt::new(40, 2 * BLOCK);
    let params = model.params()?;
    let engine = CpuEngine::new(&model.config(), &params)?;
    let examples =
        Array2::from_shape_vec((32, 2 * BLOCK + 1), (0..32).flat_map(repeated).collect())?;

    let (previous, induction) = (HeadId { layer: 0, head: 0 }, HeadId { layer: 1, head: 0 });
    let mut ablations = Vec::new();
    for head in [previous, induction] {
        for (downstream, said) in
            [(Downstream::Full, ""), (Downstream::PatternPreserving, ", patterns kept")]
        {
            ablations
                .push((format!("head {head} by zero{said}"), Ablation::zero(head, downstream)));
        }
        let by_mean =
            Ablation::Heads { heads: vec![head], fill: Fill::Mean, downstream: Downstream::Full };
        ablations.push((format!("head {head} by its mean"), by_mean));
    }
    for into in [Reads::Queries, Reads::Keys, Reads::Values] {
        let said =
            format!("path {previous} to {induction}'s {}", format!("{into:?}").to_lowercase());
        ablations.push((said, Ablation::Path { from: previous, to: induction, into }));
    }
    for (head, pattern) in
        [(previous, IdealPattern::PreviousToken), (induction, IdealPattern::InductionOneToken)]
    {
        ablations.push((
            format!("{head}'s pattern, {pattern:?}"),
            Ablation::Substitute { head, pattern },
        ));
    }

    let inputs = Inputs { engine: &engine, params: &params, examples: examples.view() };
    let asked: Vec<Ablation> = ablations.iter().map(|(_, ablation)| ablation.clone()).collect();
    let losses = losses_under(&inputs, &asked)?;
    // The second copy but its first token, which nothing foretells.
    let second = |losses: &Array2<f32>| {
        losses.view().split_at(Axis(1), BLOCK + 1).1.mean().unwrap_or(f32::NAN)
    };
    let clean = second(&losses.clean);
    println!("{:40} {:>25}", "removed", "loss on the second copy");
    println!("{:40} {clean:20.3} nats", "nothing");
    for ((name, _), losses) in ablations.iter().zip(&losses.ablated) {
        println!("{name:40} {:20.3} nats ({:+.3})", second(losses), second(losses) - clean);
    }
    Ok(())
}
