//! `cargo xtask scale`: what the paper's own models would cost, and a sweep of them on machines
//! that are taken away (docs/SCALE.md). Arithmetic and a simulation: no model is run.

mod models;
mod sweep;
mod tables;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

pub(crate) const USAGE: &str = "
  scale [--peak TFLOP/S] [--share PERCENT] [--float32 TFLOP/S] [--write GB/S] [--interval STEPS] [--draws N] [--seed N]
        [--only TABLE]
            the tables of docs/SCALE.md, with other assumptions if asked: a GPU's bfloat16 peak and the share of it that
            training reaches, its rate in float32, what one run writes alone, steps between snapshots (of which all are
            measured) in the sweeps, how often each sweep is drawn [default: 989, 25, 33.5, 1, 50, 200, seed 0, all tables]
";

/// What the tables stand on.
struct Assumptions {
    /// FLOP/s of a GPU in bfloat16, dense.
    peak: f64,
    /// Of it, what training reaches.
    share: f64,
    /// FLOP/s in float32, in which this project measures.
    float32: f64,
    /// Bytes a second that one run alone writes.
    write: f64,
    /// Steps between snapshots of the paper's small models in the sweeps.
    interval: u64,
    draws: u64,
    seed: u64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            peak: 989e12,
            share: 0.25,
            float32: 33.5e12,
            write: 1e9,
            interval: 50,
            draws: 200,
            seed: 0,
        }
    }
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

pub(crate) fn scale(arguments: &[String]) -> ExitCode {
    let (assumptions, only) = match parse(arguments) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprint!("xtask scale: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut out = io::stdout().lock();
    for (name, table) in
        SECTIONS.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name))
    {
        // A reader such as `head` may have seen enough.
        if writeln!(out, "{name}\n\n{}", table(&assumptions)).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Result<(Assumptions, Option<&str>), String> {
    let (mut assumptions, mut only) = (Assumptions::default(), None);
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let Some(text) = rest.next() else {
            return Err(format!("{flag} is unknown, or lacks its value"));
        };
        let positive = || match text.parse::<f64>() {
            Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
            _ => Err(format!("{flag} takes a number above 0, not {text:?}")),
        };
        let whole = |least: u64, most: u64| match text.parse::<u64>() {
            Ok(value) if (least..=most).contains(&value) => Ok(value),
            _ => Err(format!("{flag} takes a whole number from {least} to {most}, not {text:?}")),
        };
        match flag.as_str() {
            "--peak" => assumptions.peak = 1e12 * positive()?,
            "--share" => assumptions.share = positive()? / 100.0,
            "--float32" => assumptions.float32 = 1e12 * positive()?,
            "--write" => assumptions.write = 1e9 * positive()?,
            "--interval" => assumptions.interval = whole(1, 10_000)?,
            "--draws" => assumptions.draws = whole(2, 1_000_000)?,
            "--seed" => assumptions.seed = whole(0, u64::from(u32::MAX))?,
            "--only" if SECTIONS.iter().any(|(name, _)| name == text) => only = Some(text.as_str()),
            "--only" => {
                let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
                return Err(format!("--only takes one of {}, not {text:?}", names.join(", ")));
            }
            _ => return Err(format!("{flag} is unknown")),
        }
    }
    Ok((assumptions, only))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_these_tables() {
        let document = std::fs::read_to_string(crate::root().join("docs/SCALE.md")).unwrap();
        for (name, table) in SECTIONS {
            let table = table(&Assumptions::default());
            assert!(
                document.contains(&table),
                "docs/SCALE.md lacks the table {name}: cargo xtask scale --only {name}\n{table}"
            );
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for wrong in [
            &["--peak"][..],
            &["--peak", "0"],
            &["--share", "x"],
            &["--only", "x"],
            &["--what", "1"],
        ] {
            let arguments: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            assert!(parse(&arguments).is_err(), "{wrong:?}");
        }
    }
}
