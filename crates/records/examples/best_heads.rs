//! How the best head of a run grew, read from its tables: `cargo run -p induction-records --example
//! best_heads -- RUN`, RUN being a run's folder (`out/laptop/runs/2L`).
//!
//! A line a snapshot; of the 2-layer model of `cargo xtask reproduce` the last ones are
//!
//! ```text
//!   7.7M tokens  head 1.2  prefix matching 0.67  ICL -0.40
//!   8.0M tokens  head 1.2  prefix matching 0.68  ICL -0.40
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::path::PathBuf;

use induction_records::{HeadRow, IclRow, MEASUREMENTS, RunSpec, SPEC, read_rows};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(run) = std::env::args_os().nth(1).map(PathBuf::from) else {
        println!("name the folder of a run that was measured");
        return Ok(());
    };
    let spec = RunSpec::read(&run.join(SPEC))?;
    let tables = run.join(MEASUREMENTS);
    let (icl, heads): (Vec<IclRow>, Vec<HeadRow>) = (read_rows(&tables)?, read_rows(&tables)?);
    println!("{}, seed {}: {} layers", spec.name, spec.seed, spec.model.n_layers);
    for row in icl {
        let of = heads.iter().filter(|head| head.step == row.step);
        let matching = |head: &&HeadRow| head.score("prefix_matching");
        let Some(best) = of.max_by(|a, b| matching(a).total_cmp(&matching(b))) else { continue };
        println!(
            "{:>5.1}M tokens  head {}  prefix matching {:.2}  ICL {:.2}",
            row.tokens as f64 / 1e6,
            best.id(),
            matching(&best),
            row.same_token_score
        );
    }
    Ok(())
}
