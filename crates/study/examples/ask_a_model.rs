//! Which heads of a model are induction heads, asked of a model in memory: `cargo run -p
//! induction-study --example ask_a_model`
//!
//! The model is the induction circuit whose every weight is set by formula
//! (`induction_model::HandBuilt`), so what comes out is known beforehand: head 0.0 attends to the
//! token before, head 1.0 completes what it has seen.
//!
//! ```text
//! head 0.0 (previous-token): prefix matching 0.02, previous token 1.00
//! head 1.0 (induction): prefix matching 0.97, previous token 0.00
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example shows its result")]

use induction_model::HandBuilt;
use induction_records::{EvaluationSpec, HeadRow};
use induction_study::{device::Device, measure::Evaluators};
use ndarray::Array2;

fn heads() -> Result<Vec<HeadRow>, Box<dyn std::error::Error>> {
    let model = HandBuilt::new(40, 64);
    let (config, params) = (model.config(), model.params()?);
    let engine = Device::Cpu.open(&config, &params)?;
    // Four copies of twelve random tokens, which repeat nothing else.
    let spec = EvaluationSpec {
        examples: 2,
        icl_early: 1,
        icl_late: 2,
        icl_half_width: 0,
        head_examples: 20,
        ablation_examples: 1,
        ablation_every: 0,
        weights_every: 1,
        prefix_block: 12,
        prefix_repeats: 4,
    };
    // Token 0 begins a sequence. The previous-token score is taken on a text: any tokens will do.
    let text = Array2::from_shape_fn((20, 40), |(row, at)| (1 + (row * 7 + at * at) % 39) as u32);
    let allowed: Vec<u32> = (1..40).collect();
    let evaluators = Evaluators::new(&spec, text, 0, &allowed)?;
    Ok(evaluators.heads(engine.as_ref(), &params, None, 0, 0)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for row in heads()? {
        let [prefix, previous] = ["prefix_matching", "previous_token"].map(|name| row.score(name));
        let role = serde_json::to_value(row.role)?;
        println!(
            "head {} ({}): prefix matching {prefix:.2}, previous token {previous:.2}",
            row.id(),
            role.as_str().unwrap_or_default()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_head_does_what_it_was_built_for() {
        let [previous, induction] = &super::heads().unwrap()[..] else { panic!("two heads") };
        assert!(previous.score("previous_token") > 0.99 && previous.score("prefix_matching") < 0.1);
        assert!(
            induction.score("prefix_matching") > 0.9 && induction.score("previous_token") < 0.1
        );
    }
}
