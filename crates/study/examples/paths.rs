//! Which parts of a model feed some of its heads, with the sequences that say so, as JSON: `cargo run
//! -p induction-study --example paths -- MODEL LAYER.HEAD ...`
//!
//! The model is whatever `induction scan` opens, and what is written is what stands under `paths` in
//! its `scan.json`. `fixtures/oracle/paths.py` computes it once more in another library.
//!
//! ```text
//! { "tokens": [[1, 4021, ...], ...], "paths": [{ "layer": 18, "head": 6, "attention": 0.92, "paths": [...], ... }] }
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::path::Path;

use induction_ablation::HeadId;
use induction_study::{device::Device, paths, scan};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("expected MODEL LAYER.HEAD ...")?;
    let head = |name: String| -> Result<HeadId, Box<dyn std::error::Error>> {
        let (layer, head) = name.split_once('.').ok_or("expected LAYER.HEAD")?;
        Ok(HeadId { layer: layer.parse()?, head: head.parse()? })
    };
    let heads = args.map(head).collect::<Result<Vec<_>, _>>()?;
    let opened = scan::open(Path::new(&path))?;
    let engine = opened.engine(Device::Cpu)?;
    let source = opened.source();
    let tokens =
        paths::sequences(&source, engine.config().n_ctx)?.ok_or("the context is too short")?;
    let found = paths::into(engine.as_ref(), opened.weights(), &source, &heads)?;
    let rows: Vec<Vec<u32>> = tokens.outer_iter().map(|row| row.to_vec()).collect();
    println!("{}", json!({ "tokens": rows, "paths": found }));
    Ok(())
}
