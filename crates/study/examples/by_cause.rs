//! What every head of a model does by cause, with the prompts that say so, as JSON: `cargo run
//! --release -p induction-study --example by_cause -- MODEL [PROMPTS]`
//!
//! The model is whatever `induction scan` opens, and the scores are those of its `scan.json`.
//! `fixtures/oracle/by_cause.py` computes them once more in another library.
//!
//! ```text
//! [
//!   {
//!     "prompts": {
//!       "cause": "token-copying",
//!       "asked": [{ "tokens": [0, 17, ...], "target": 31415, "at": 57, "place": { "of-run": [0, 4, ...] } }, ...],
//!       "examples": [], "left_out": 0
//!     },
//!     "seconds": 6.9,
//!     "plain": 0.0001, "with": 0.44,         // the target's probability, means
//!     "heads": [[[0.0, 0.02], ...], ...]     // [layer][head]: change of it, and of its logarithm
//!   },
//!   ...
//! ]
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::{path::Path, time::Instant};

use induction_records::Cause;
use induction_study::{cause::Prompts, device::Device, scan};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("expected MODEL [PROMPTS]")?;
    let count = args.next().map_or(Ok(scan::PROMPTS), |count| count.parse())?;
    let opened = scan::open(Path::new(&path))?;
    let engine = opened.engine(Device::Cpu)?;
    let mut all = Vec::new();
    for cause in Cause::ALL {
        let begun = Instant::now();
        let prompts = Prompts::new(cause, engine.as_ref(), &opened.source(), count)?;
        let Some(found) = prompts.measure(engine.as_ref())? else { continue };
        let seconds = begun.elapsed().as_secs_f64();
        let layer = |heads: &Vec<[(f64, Option<f64>); 2]>| -> Value {
            heads.iter().map(|scores| json!(scores.map(|(score, _)| score))).collect()
        };
        all.push(json!({
            "prompts": prompts,
            "seconds": seconds,
            "plain": found.whole.plain,
            "with": found.whole.with,
            "heads": found.heads.iter().map(layer).collect::<Vec<_>>(),
        }));
    }
    println!("{}", Value::Array(all));
    Ok(())
}
