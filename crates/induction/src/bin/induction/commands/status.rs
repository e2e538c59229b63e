//! `induction status` and `induction cancel`.

use std::path::PathBuf;

use induction::{Error, slurm, status};

use super::Program;
use crate::output::{print_line, show, tell};

/// How far the runs of a reproduction or a pilot are.
#[derive(clap::Args)]
pub(crate) struct Status {
    /// The folder that holds runs/.
    dir: PathBuf,
    /// Show it again every so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

impl Status {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        loop {
            let runs = status::status(&self.dir)?;
            if program.json {
                show(&runs)?;
            } else {
                print_line(&status::table(&runs))?;
            }
            let Some(seconds) = self.watch else { return Ok(()) };
            std::thread::sleep(std::time::Duration::from_secs(seconds));
            program.console.interrupt.check()?;
        }
    }
}

/// Cancel the Slurm jobs of a reproduction that have not ended.
#[derive(clap::Args)]
pub(crate) struct Cancel {
    /// The folder that holds runs/.
    dir: PathBuf,
}

impl Cancel {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let cancelled = slurm::cancel(&self.dir)?;
        let said = match slurm::in_words(&cancelled) {
            none if none.is_empty() => "nothing to cancel".to_string(),
            jobs => format!("cancelled {jobs}"),
        };
        tell(program.json, &serde_json::json!({"cancelled": cancelled}), &said)
    }
}
