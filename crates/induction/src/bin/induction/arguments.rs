//! The command line: what can be asked for.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use induction::device::Choice;

use crate::commands::{
    Ablate, Bench, Cancel, Explore, Export, Forecast, Llc, Measure, Pilot, Report, Reproduce, Run,
    Scan, Status, Train,
};

/// Reproduces "In-context Learning and Induction Heads": trains small transformers, measures every
/// snapshot, and reports what becomes of the paper's claims.
///
/// Exit codes: 0 done; 1 a bug; 2 bad input, or a disk that refuses; 3 the training diverged; 75
/// stopped by SIGTERM, another process holds the run, or Slurm does not answer: try again; 130
/// stopped by Ctrl-C.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Worker threads [default: all cores]. Results do not depend on it.
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// What models run on: cpu (the fused engine), libtorch, libtorch:cuda:N or libtorch:mps
    /// (PyTorch's library), or burn: flex, ndarray, cuda:N; see `induction devices`. auto is a GPU where there is one
    /// that works and the models are wide enough for it to pay, else cpu; it says which.
    #[arg(long, global = true, default_value = "cpu")]
    pub(crate) device: Choice,
    /// Train in bfloat16, on another device than cpu; meant for GPUs. Evaluation stays in float32. On
    /// PyTorch's library also: the layers of a model that is scanned.
    #[arg(long, global = true)]
    pub(crate) bf16: bool,
    /// Machine-readable results on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress.
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Reproduce(Reproduce),
    Forecast(Forecast),
    Pilot(Pilot),
    Status(Status),
    Run(Run),
    Cancel(Cancel),
    Train(Train),
    Measure(Measure),
    Explore(Explore),
    Ablate(Ablate),
    Llc(Llc),
    Report(Report),
    Scan(Scan),
    /// What models can run on: what this build and this machine have, and how to add what is
    /// missing.
    Devices,
    Bench(Bench),
    Export(Export),
    /// Print a completion script for a shell.
    Completions {
        /// Whose.
        shell: Shell,
    },
    /// Write man pages, one a command.
    Man {
        /// The folder to write them into.
        out: PathBuf,
    },
}
