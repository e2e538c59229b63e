//! `induction pilot`.

use std::path::PathBuf;

use induction::{Error, pilot, records::Text, reproduce::forecast};

use super::{Jobs, Program};
use crate::output::{print_line, show, show_forecast};

/// The search behind the defaults: small models that differ in one choice each, and a table of what
/// they did.
#[derive(clap::Args)]
pub(crate) struct Pilot {
    /// The text to learn: files or folders.
    #[arg(long, num_args = 1.., value_name = "PATH", default_value = "fixtures/corpora/python.jsonl.zst")]
    corpus: Vec<PathBuf>,
    /// The key of its lines of JSON that holds the text [default: text, content, story, body, document,
    /// messages, conversations or conversation, whichever is there first].
    #[arg(long, value_name = "KEY")]
    text_field: Option<String>,
    /// Tokens that each run gets.
    #[arg(long, default_value_t = pilot::TOKENS, value_parser = clap::value_parser!(u64).range(1..))]
    tokens: u64,
    /// Seed of every run.
    #[arg(long, default_value_t = pilot::SEED)]
    seed: u64,
    /// Only say what it would cost.
    #[arg(long)]
    dry_run: bool,
    /// Where data, runs and tables go.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    jobs: Jobs,
}

impl Pilot {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let Program { device, json, console, .. } = program;
        let screen = &console.screen;
        let (jobs, threads_per_job) = self.jobs.shared();
        let text = Text { path: self.corpus.clone(), text_field: self.text_field.clone() };
        let manifest = pilot::plan(&text, self.seed, self.tokens);
        if self.dry_run {
            return show_forecast(&forecast(&manifest, *device, jobs, threads_per_job)?, *json);
        }
        program.check_memory(&manifest, jobs, threads_per_job)?;
        let found =
            pilot::pilot(&manifest, &self.out, &program.local(jobs, threads_per_job), screen)?;
        if *json {
            return show(&found);
        }
        let text = std::fs::read_to_string(&found.table).map_err(Error::io(&found.table))?;
        print_line(&format!("{text}\n{}", found.table.display()))
    }
}
