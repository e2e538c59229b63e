//! `cargo xtask scale`: what the paper's own models would cost, and a sweep of them on machines
//! that are taken away (docs/SCALE.md). Arithmetic and a simulation: no model is run.

mod models;
mod sweep;
mod tables;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::above_zero;

/// The tables of docs/SCALE.md, with other assumptions if asked
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    assumptions: Assumptions,
    /// Of one name alone
    #[arg(long, value_name = "TABLE", value_parser = SECTIONS.map(|(name, _)| name))]
    only: Option<String>,
}

/// What the tables stand on.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Assumptions {
    /// A GPU's peak in bfloat16, dense
    #[arg(long, value_name = "TFLOP/S", default_value = "989", value_parser = tera)]
    peak: f64,
    /// Of it, what training reaches
    #[arg(long, value_name = "PERCENT", default_value = "25", value_parser = percent)]
    share: f64,
    /// A GPU's rate in float32, in which this project measures
    #[arg(long, value_name = "TFLOP/S", default_value = "33.5", value_parser = tera)]
    float32: f64,
    /// What one run alone writes
    #[arg(long, value_name = "GB/S", default_value = "1", value_parser = giga)]
    write: f64,
    /// Steps between snapshots, of which all are measured, of the paper's small models in the sweeps
    #[arg(long, value_name = "STEPS", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    interval: u64,
    /// How often each sweep is drawn
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    draws: u64,
    #[arg(long, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=0xffff_ffff))]
    seed: u64,
}

fn tera(text: &str) -> Result<f64, String> {
    Ok(1e12 * above_zero(text)?)
}

fn giga(text: &str) -> Result<f64, String> {
    Ok(1e9 * above_zero(text)?)
}

fn percent(text: &str) -> Result<f64, String> {
    Ok(above_zero(text)? / 100.0)
}

impl Assumptions {
    /// FLOP/s of training on a GPU.
    fn train(&self) -> f64 {
        self.peak * self.share
    }
}

type Section = (&'static str, fn(&Assumptions) -> String);

const SECTIONS: [Section; 14] = [
    ("models", tables::models_table),
    ("families", tables::families),
    ("measuring", tables::measuring),
    ("storage", tables::storage),
    ("writing", tables::writing),
    ("memory", tables::memory),
    ("evidence", tables::evidence),
    ("shares", tables::shares),
    ("check", tables::check),
    ("sweep-paper", tables::sweep_paper),
    ("sweep-seeds", tables::sweep_seeds),
    ("sweep-full", tables::sweep_full),
    ("limits", tables::limits),
    ("intervals", tables::intervals),
];

/// `cargo xtask scale`.
pub(crate) fn scale(Options { assumptions, only }: &Options) -> ExitCode {
    let mut out = io::stdout().lock();
    for (name, table) in
        SECTIONS.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name))
    {
        // A reader such as `head` may have seen enough.
        if writeln!(out, "{name}\n\n{}", table(assumptions)).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(line: &str) -> Result<Options, clap::Error> {
        let words = std::iter::once("scale").chain(line.split_whitespace());
        Ok(Line::try_parse_from(words)?.options)
    }

    #[test]
    fn the_document_has_these_tables() {
        let document = std::fs::read_to_string(crate::root().join("docs/SCALE.md")).unwrap();
        let Options { assumptions, .. } = parsed("").unwrap();
        for (name, table) in SECTIONS {
            let table = table(&assumptions);
            assert!(
                document.contains(&table),
                "docs/SCALE.md lacks the table {name}: cargo xtask scale --only {name}\n{table}"
            );
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for wrong in ["--peak", "--peak 0", "--share x", "--write inf", "--only x", "--what 1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
