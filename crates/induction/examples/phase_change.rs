//! A model is trained on repeated random tokens and measured at every snapshot; its best heads by
//! the paper's scores: `cargo run -p induction --example phase_change`
//!
//! ```text
//! 2L: 2 layers of 4 heads, 400000 tokens
//!  step   tokens   previous token   prefix matching   ICL score, nats
//!     0        0       0.06 (0.1)        0.08 (0.3)             -0.04
//!     1     1024       0.06 (0.1)        0.08 (0.3)             -0.03
//!     2     2048       0.06 (0.1)        0.08 (0.3)             -0.03
//!     4     4096       0.06 (0.1)        0.08 (0.3)             -0.02
//!     8     8192       0.06 (0.0)        0.08 (0.3)              0.00
//!    16    16384       0.06 (0.0)        0.07 (0.3)              0.05
//!    20    20480       0.07 (0.0)        0.08 (0.3)              0.06
//!    40    40960       0.08 (0.0)        0.08 (0.3)              0.24
//!    60    61440       0.10 (0.0)        0.08 (1.2)              0.16
//!    80    81920       0.13 (0.2)        0.07 (1.2)              0.21
//!   100   102400       0.17 (0.2)        0.09 (1.2)              0.45
//!   120   122880       0.22 (0.2)        0.15 (1.1)              0.42
//!   140   143360       0.32 (0.2)        0.24 (1.1)              0.24
//!   160   163840       0.43 (0.2)        0.48 (1.1)             -0.63
//!   180   184320       0.48 (0.2)        0.66 (1.1)             -1.44
//!   200   204800       0.53 (0.2)        0.77 (1.1)             -1.90
//!   220   225280       0.56 (0.2)        0.80 (1.1)             -2.03
//!   240   245760       0.58 (0.2)        0.80 (1.1)             -1.96
//!   260   266240       0.60 (0.2)        0.74 (1.1)             -1.88
//!   280   286720       0.61 (0.2)        0.86 (1.1)             -2.11
//!   300   307200       0.63 (0.2)        0.85 (1.1)             -2.03
//!   320   327680       0.65 (0.2)        0.83 (1.0)             -2.09
//!   340   348160       0.67 (0.2)        0.86 (1.0)             -2.03
//!   360   368640       0.69 (0.2)        0.88 (1.0)             -2.00
//!   380   389120       0.71 (0.2)        0.85 (1.1)             -2.03
//!   391   400384       0.72 (0.1)        0.87 (1.0)             -2.06
//! ```
//!
//! First a head attends to the previous token, then one in the layer above matches prefixes: the
//! change that `cargo xtask reproduce` shows on text.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::fs;

use induction::{
    device::Device,
    interrupt::Interrupt,
    measure::measure,
    plan::{Corpora, PlanOptions, Scale, plan},
    progress::{Console, Screen},
    records::HeadRow,
    source::Source,
    stages::RunContext,
    training,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The 2-layer attention-only model of the smallest scale; a spec can as well be read:
    // `RunSpec::read(path)`.
    let corpora = Corpora { main: "".into(), second: "".into(), books: "".into() };
    let manifest =
        plan(&PlanOptions { scale: Scale::Smoke, clamp: false, seed: 0, seeds: Some(1), corpora });
    let mut spec =
        manifest.runs.into_iter().find(|row| row.spec.name == "2L").ok_or("no such run")?.spec;
    (spec.evaluation.examples, spec.evaluation.head_examples) = (32, 10);

    // Each stage is a function over folders: killed and called again it goes on where it was.
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let source = Source::open(&mut spec, &folder.path().join("data"))?;
    let console = Console { interrupt: Interrupt::listen()?, screen: Screen::new(true) };
    let context = RunContext {
        spec: &spec,
        source: &source,
        run: &run,
        device: Device::Cpu,
        caller: &console,
    };
    training::run(&context)?;
    measure(&context)?;

    // Tables are JSON lines, which pandas and polars read, too.
    let heads = fs::read_to_string(run.join("measurements/heads.jsonl"))?;
    let heads = heads.lines().map(serde_json::from_str).collect::<Result<Vec<HeadRow>, _>>()?;
    let icl = fs::read_to_string(run.join("measurements/icl.jsonl"))?;
    println!(
        "{}: {} layers of {} heads, {} tokens",
        spec.name, spec.model.n_layers, spec.model.n_heads, spec.train.tokens
    );
    println!(" step   tokens   previous token   prefix matching   ICL score, nats");
    for (of_step, icl) in heads.chunk_by(|a, b| a.step == b.step).zip(icl.lines()) {
        let best = |measure: &str| {
            let score = |row: &&HeadRow| row.score(measure);
            let best = of_step.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
            best.map_or(String::new(), |row| {
                format!("{:.2} ({}.{})", row.score(measure), row.layer, row.head)
            })
        };
        let icl: serde_json::Value = serde_json::from_str(icl)?;
        let (step, tokens, score) =
            (of_step[0].step, of_step[0].tokens, icl["icl_score"].as_f64().unwrap_or(f64::NAN));
        println!(
            "{step:5} {tokens:8} {:>16} {:>17} {score:17.2}",
            best("previous_token"),
            best("prefix_matching")
        );
    }
    Ok(())
}
