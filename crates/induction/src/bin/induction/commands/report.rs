//! `induction report`.

use std::path::PathBuf;

use induction::{Error, explore::explore, plan::runs_of, report};

use super::{Program, finished};
use crate::output::{show_report, tell_path};

/// Rebuild the report of a reproduction from its measurements; of several, one beside the other.
#[derive(clap::Args)]
pub(crate) struct Report {
    /// Folders that hold runs/.
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// First put this text into the explorer, in place of the last one: every model reads it at
    /// every snapshot whose weights are there. The last text's losses at snapshots without weights
    /// (`full` keeps a third) are gone then.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Of several folders: where the report that compares them goes.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Report {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        if let Some(text) = &self.text {
            for run in
                self.dirs.iter().map(|dir| runs_of(dir)).collect::<Result<Vec<_>, _>>()?.concat()
            {
                let (spec, source) = finished(&run, None)?;
                explore(&program.context(&spec, &source, &run), Some(text))?;
            }
        }
        match (self.dirs.as_slice(), &self.out) {
            ([dir], None) => show_report(&report::build(dir)?, program.json),
            ([_], Some(out)) => Err(Error::Input(format!(
                "--out {}: a report lies beside its runs; --out is for one that compares several folders",
                out.display()
            ))),
            (_, None) => Err(Error::Input(
                "several folders: say with --out where their comparison goes".to_string(),
            )),
            (dirs, Some(out)) => tell_path(program.json, "report", &report::compare(dirs, out)?),
        }
    }
}
