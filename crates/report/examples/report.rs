//! Runs' measurements become claims, figures and a page: `cargo run -p induction-report --example
//! report [-- DIR]`
//!
//! With a folder that `induction reproduce` made, its report is built again. Without one, of two
//! runs that were never trained: their tables are written here, a 2-layer model whose scores change
//! at 3M tokens and a 1-layer model whose scores do not.
//!
//! ```text
//! Q1  Before the phase change there is little in-context learning                   ● reproduced
//! Q2  After it, in-context learning is at its full strength                         ● reproduced
//! Q3  The window forms most of the final in-context learning                        ◐ partly
//! Q4  The change is abrupt, and no artefact of the schedule                         ● reproduced
//! Q5  One layer forms no induction heads and learns little in context               ● reproduced
//! Q6  Induction heads form in the same window                                       ● reproduced
//! Q7  The loss has a bump there, and leaves the 1-layer curve                       ● reproduced
//! Q8  The models' losses change direction at the phase change                       ○ not
//! Q12 Induction heads lie in the last layer                                         ● reproduced
//! Q15 Heads that match prefixes are more likely to copy                             ◐ partly
//! Q16 Copying and prefix matching can be told from the weights                      ◐ partly
//! Q22 Before the change the loss is flat in the late context, after it it falls     ● reproduced
//! 17 claims need other runs
//! the page, with its figures: 1810 KB
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::{fmt::Write, fs, path::Path};

use induction_report::Verdict;

/// Writes what measuring leaves of a run of 100 snapshots, one every 100k tokens.
fn made_up(run: &Path, n_layers: usize) -> Result<(), Box<dyn std::error::Error>> {
    let measurements = run.join("measurements");
    fs::create_dir_all(&measurements)?;
    let model = format!("n_layers = {n_layers}\nn_heads = 1\nn_ctx = 512");
    let data = "[data]\nsource = 'corpus'\n[train]\ntokens = 10_000_000\nwarmup_steps = 1";
    fs::write(
        run.join("spec.toml"),
        format!("name = '{n_layers}L'\nseed = 0\n{data}\n[model]\n{model}\n"),
    )?;
    let [mut log, mut icl, mut losses, mut random, mut heads] = [const { String::new() }; 5];
    for step in 0..=100u32 {
        let tokens = step * 100_000;
        let at = format!(r#""step": {step}, "tokens": {tokens}"#);
        // From 0 to 1 around 3M tokens.
        let change = 1.0 / (1.0 + (15.0 - f64::from(step) / 2.0).exp());
        let formed = if n_layers == 2 { change } else { 0.0 };
        let score = -0.08 - 0.34 * formed;
        let loss = 5.0 - 0.5 * (f64::from(step) + 1.0).ln() + score;
        let examples = |middle: f64| [-0.01, -0.005, 0.005, 0.01].map(|off| middle + off);
        writeln!(
            icl,
            r#"{{{at}, "icl_score": {score}, "stderr": 0.004, "by_example": {:?}, "late_slope_by_example": {:?}}}"#,
            examples(score),
            examples(score / 2.3)
        )?;
        let by_index: Vec<f64> =
            (1..=512).map(|index| loss - score + score * f64::from(index).ln() / 6.2).collect();
        let loss = by_index.iter().sum::<f64>() / 512.0;
        writeln!(
            losses,
            r#"{{{at}, "loss": {loss}, "loss_by_index": {by_index:?}, "by_example": {:?}}}"#,
            examples(loss)
        )?;
        writeln!(random, r#"{{{at}, "loss": 6.0, "losses": {:?}}}"#, examples(6.0 - formed))?;
        for layer in 0..n_layers {
            let [prefix, previous] =
                if layer == 1 { [0.02 + 0.8 * formed, 0.1] } else { [0.02, 0.7] };
            let trace = if layer == 1 { (400.0 * prefix).to_string() } else { "null".into() };
            writeln!(
                heads,
                r#"{{{at}, "layer": {layer}, "head": 0, "prefix_matching": {prefix}, "prefix_matching_stderr": 0.003, "copying": {prefix}, "previous_token": {previous}, "ov_copying": {prefix}, "qk_trace": {trace}}}"#
            )?;
        }
        if step > 0 {
            writeln!(log, r#"{{{at}, "loss": {loss}}}"#)?;
        }
    }
    fs::write(run.join("metrics.jsonl"), log)?;
    for (name, text) in
        [("icl", icl), ("loss_by_index", losses), ("random_tokens", random), ("heads", heads)]
    {
        fs::write(measurements.join(format!("{name}.jsonl")), text)?;
    }
    ["meta.json", "summary.json"]
        .into_iter()
        .try_for_each(|name| fs::write(measurements.join(name), "{}"))?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let made = || -> Result<_, Box<dyn std::error::Error>> {
        (1..=2).try_for_each(|n_layers| {
            made_up(&folder.path().join(format!("runs/{n_layers}L")), n_layers)
        })?;
        Ok(folder.path().to_path_buf())
    };
    let dir = std::env::args_os().nth(1).map_or_else(made, |dir| Ok(dir.into()))?;
    let report = induction_report::build(&dir)?;
    // `induction_report::table` shows each with what the paper has, what was found, its interval
    // and its reason.
    let (told, not) =
        report.claims.iter().partition::<Vec<_>, _>(|claim| claim.verdict != Verdict::OutOfReach);
    for claim in told {
        println!(
            "{:3} {:77} {} {}",
            claim.id,
            claim.title,
            claim.verdict.symbol(),
            claim.verdict.word()
        );
    }
    println!("{} claims need other runs", not.len());
    println!("the page, with its figures: {} KB", fs::metadata(&report.page)?.len() / 1024);
    Ok(())
}
