//! `induction bench`.

use std::path::PathBuf;

use clap::Subcommand;
use induction::{
    Error,
    ablate::time_ablate,
    bench::{Work, time},
    measure::time_measure,
    model::ModelConfig,
    records::RunSpec,
    scan,
    source::{Source, data_of},
    train::snapshot_folder,
};

use super::Program;
use crate::output::{json_line, print_json};

/// Time an engine; one JSON line.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// What to time.
    #[command(subcommand)]
    work: BenchWork,
}

impl Bench {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let device = program.device;
        let of_model = |work, model: &BenchModel| -> Result<String, Error> {
            let timing =
                time(device, work, &model.config(), model.batch.max(1), model.steps.max(1))?;
            Ok(json_line(&timing))
        };
        let of_run = |run: &PathBuf| -> Result<(RunSpec, Source), Error> {
            let mut spec = RunSpec::read(&run.join("spec.toml"))?;
            let source = Source::open(&mut spec, &data_of(run))?;
            Ok((spec, source))
        };
        print_json(&match &self.work {
            BenchWork::Train(model) => of_model(Work::Train, model)?,
            BenchWork::Evaluate(model) => of_model(Work::Evaluate, model)?,
            BenchWork::Ablate(BenchAblate { run, step, examples, steps, losses }) => {
                let (_, source) = of_run(run)?;
                let snapshot = snapshot_folder(run, *step);
                let steps = (*steps).max(1);
                json_line(&time_ablate(
                    &source,
                    &snapshot,
                    device,
                    *examples,
                    steps,
                    losses.as_deref(),
                )?)
            }
            BenchWork::Scan { model, sequences, length, steps } => {
                json_line(&scan::time_scan(model, device, *sequences, *length, (*steps).max(1))?)
            }
            BenchWork::Measure { run, step, steps } => {
                let (spec, source) = of_run(run)?;
                json_line(&time_measure(&spec, &source, run, *step, device, (*steps).max(1))?)
            }
        })
    }
}

#[derive(Subcommand)]
pub(crate) enum BenchWork {
    /// Steps of training on random tokens.
    Train(BenchModel),
    /// Losses of random tokens, without gradients.
    Evaluate(BenchModel),
    /// Every head of one snapshot removed, in both kinds.
    Ablate(BenchAblate),
    /// A model that is there: how long it loads, losses, and the attention of every head.
    Scan {
        /// As `induction scan` takes it.
        model: PathBuf,
        /// Sequences of random tokens: a start token and a block that repeats.
        #[arg(long, default_value_t = 10)]
        sequences: usize,
        /// Tokens of a sequence.
        #[arg(long, default_value_t = 101)]
        length: usize,
        /// Timed repetitions, after one that is not; the best counts.
        #[arg(long, default_value_t = 5)]
        steps: usize,
    },
    /// Every measurement of one snapshot of a run, without files.
    Measure {
        /// The run's folder.
        run: PathBuf,
        /// The snapshot's step.
        #[arg(long)]
        step: u64,
        /// Timed repetitions, after one that is not.
        #[arg(long, default_value_t = 5)]
        steps: usize,
    },
}

/// Which losses `bench ablate` leaves behind, and how often it runs.
#[derive(clap::Args)]
pub(crate) struct BenchAblate {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// The snapshot's step.
    #[arg(long)]
    pub(crate) step: u64,
    /// Examples of the evaluation set.
    #[arg(long, default_value_t = 128)]
    pub(crate) examples: usize,
    /// Timed repetitions, after one that is not.
    #[arg(long, default_value_t = 3)]
    pub(crate) steps: usize,
    /// Write the losses under each ablation here, to be compared with another program's
    /// (safetensors).
    #[arg(long)]
    pub(crate) losses: Option<PathBuf>,
}

/// The model to time, and on what.
#[derive(clap::Args)]
pub(crate) struct BenchModel {
    /// Vocabulary.
    #[arg(long, default_value_t = 512)]
    pub(crate) vocab: usize,
    /// Width of the residual stream.
    #[arg(long, default_value_t = 128)]
    pub(crate) d_model: usize,
    /// Heads of a layer; they share the width.
    #[arg(long, default_value_t = 4)]
    pub(crate) heads: usize,
    /// Layers.
    #[arg(long, default_value_t = 2)]
    pub(crate) layers: usize,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = 512)]
    pub(crate) ctx: usize,
    /// Sequences of a step.
    #[arg(long, default_value_t = 4)]
    pub(crate) batch: usize,
    /// With MLPs, four times as wide as the residual stream.
    #[arg(long)]
    pub(crate) mlp: bool,
    /// Timed repetitions, after five that are not.
    #[arg(long, default_value_t = 20)]
    pub(crate) steps: usize,
}

impl BenchModel {
    pub(crate) fn config(&self) -> ModelConfig {
        ModelConfig {
            n_layers: self.layers,
            d_model: self.d_model,
            n_heads: self.heads,
            d_head: self.d_model / self.heads.max(1),
            d_mlp: if self.mlp { 4 * self.d_model } else { 0 },
            n_ctx: self.ctx,
            d_vocab: self.vocab,
            ..ModelConfig::default()
        }
    }
}
