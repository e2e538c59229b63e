//! The command line: what can be asked for.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use induction::{device::Device, executor::Part, model::ModelConfig, pilot, plan::Scale, scan::Patterns, slurm};

/// Reproduces "In-context Learning and Induction Heads": trains small transformers, measures every snapshot, and
/// reports what becomes of the paper's claims.
///
/// Exit codes: 0 done; 1 a bug; 2 bad input, or a disk that refuses; 3 the training diverged; 75 stopped by SIGTERM,
/// another process holds the run, or Slurm does not answer: try again; 130 stopped by Ctrl-C.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Worker threads [default: all cores]. Results do not depend on it.
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// What models run on: cpu (the fused engine), or burn on flex, ndarray, libtorch, libtorch:cuda:N or cuda:N; see
    /// `induction devices`.
    #[arg(long, global = true, default_value = "cpu")]
    pub(crate) device: Device,
    /// Take the matrix products of training in bfloat16 (burn's devices; meant for GPUs).
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
    /// Train, measure and ablate all models of a scale, and write the report.
    Reproduce {
        /// How much to reproduce.
        #[arg(long, value_enum, default_value = "laptop")]
        scale: Scale,
        /// Work off a manifest of your own (docs/FORMATS.md) instead of a scale.
        #[arg(long, conflicts_with_all = ["scale", "clamp", "seed", "seeds", "corpus", "second_corpus", "books"])]
        manifest: Option<PathBuf>,
        /// Only say what it would do: models, tokens, operations, and by a calibration of some seconds time, memory, disk.
        #[arg(long)]
        dry_run: bool,
        /// Also train 2-layer models with clamped attention, which laptop and full have anyway: one has a previous-token head
        /// from the start, one may not attend to what followed an earlier copy.
        #[arg(long)]
        clamp: bool,
        /// Seed of every run; the first one where there are several [default: 1 at laptop and full, whose settings come
        /// from other seeds; else 0].
        #[arg(long)]
        seed: Option<u64>,
        /// Seeds of the attention-only 1- and 2-layer models on the main text [default: 3 at laptop and full, else 1].
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
        seeds: Option<u64>,
        /// The text to learn: .jsonl.zst, .jsonl, .txt, or a folder.
        #[arg(long, default_value = "fixtures/corpora/python-packages.jsonl.zst")]
        corpus: PathBuf,
        /// The text that the families learn again, at full and paper.
        #[arg(long, default_value = "fixtures/corpora/python-docs.jsonl.zst")]
        second_corpus: PathBuf,
        /// The books of the "books only" runs, at full.
        #[arg(long, default_value = "fixtures/corpora/books")]
        books: PathBuf,
        /// Where data, runs and report go.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        jobs: Jobs,
        /// Who works the runs off.
        #[arg(long, value_enum, default_value = "local")]
        executor: ExecutorKind,
        #[command(flatten)]
        slurm: SlurmOptions,
    },
    /// The search behind the defaults: small models that differ in one choice each, and a table of what they did.
    Pilot {
        /// The text to learn.
        #[arg(long, default_value = "fixtures/corpora/python.jsonl.zst")]
        corpus: PathBuf,
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
    },
    /// How far the runs of a reproduction or a pilot are.
    Status {
        /// The folder that holds runs/.
        dir: PathBuf,
        /// Show it again every so many seconds.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        watch: Option<u64>,
    },
    /// Train, measure and ablate one run, or go on with it: what a reproduction does of each.
    Run {
        /// The run's spec (docs/FORMATS.md shows one).
        spec: PathBuf,
        /// The run's folder.
        #[arg(long)]
        out: PathBuf,
        /// Where prepared data are kept [default: OUT/data].
        #[arg(long)]
        data: Option<PathBuf>,
        /// Only this part of it; each needs those before it.
        #[arg(long, value_enum, default_value = "all")]
        stage: Part,
        /// Refuse another spec than the one of this content.
        #[arg(long, hide = true)]
        blake3: Option<String>,
    },
    /// Cancel the Slurm jobs of a reproduction that have not ended.
    Cancel {
        /// The folder that holds runs/.
        dir: PathBuf,
    },
    /// Train one run, or go on with it.
    Train {
        /// The run's spec (docs/FORMATS.md shows one).
        spec: PathBuf,
        /// The run's folder.
        #[arg(long)]
        out: PathBuf,
        /// Where prepared data are kept [default: OUT/data].
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Measure every snapshot of a run that is not measured yet.
    Measure {
        /// The run's folder.
        run: PathBuf,
        /// Where prepared data are kept [default: RUN/data, or data/ beside a reproduction's runs/].
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Follow a text over the snapshots of a run, and keep what its heads attend to on it and on argument 4's prompts.
    Explore {
        /// The run's folder.
        run: PathBuf,
        /// Where prepared data are kept [default: RUN/data, or data/ beside a reproduction's runs/].
        #[arg(long)]
        data: Option<PathBuf>,
        /// The text [default: the last one, else a held-out example].
        #[arg(long)]
        text: Option<PathBuf>,
    },
    /// Remove every head of the snapshots that a run's spec says (evaluation.ablation_every), and put the last one through
    /// the other ablations.
    Ablate {
        /// The run's folder.
        run: PathBuf,
        /// Where prepared data are kept [default: RUN/data, or data/ beside a reproduction's runs/].
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Rebuild the report of a reproduction from its measurements; of several, one beside the other.
    Report {
        /// Folders that hold runs/.
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
        /// First put this text into the explorer, in place of the last one: every model reads it at every snapshot whose
        /// weights are there. The last text's losses at snapshots without weights (`full` keeps a third) are gone then.
        #[arg(long)]
        text: Option<PathBuf>,
        /// Of several folders: where the report that compares them goes.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Which heads of a trained model are induction heads, and what they do.
    ///
    /// A model is a run, a snapshot, a GGUF file, or a folder as HuggingFace (GPT-2, GPT-NeoX, Llama, Mistral, Qwen2) or
    /// TransformerLens store it; hf:OWNER/NAME[/FILE.gguf][@REVISION] is one on HuggingFace's hub (feature `hub`). With
    /// --tokens: the losses and head scores on those tokens. Without: head scores, losses on
    /// repeated random tokens, in-context learning on --text, what is lost without the induction heads, and argument 4's
    /// prompts.
    Scan {
        /// The model; several, such as a run's snapshots, make a curve.
        #[arg(required = true)]
        models: Vec<PathBuf>,
        /// A JSON list of token ids, used as they are.
        #[arg(long, conflicts_with_all = ["text", "windows", "out", "html", "ids_below"])]
        tokens: Option<PathBuf>,
        /// Also the attention pattern of a head (LAYER:HEAD from 0), or of all.
        #[arg(long, value_name = "L:H|all", requires = "tokens")]
        pattern: Option<Patterns>,
        /// A corpus for the ICL score: .txt, .jsonl, .jsonl.zst or a folder of them.
        #[arg(long)]
        text: Option<PathBuf>,
        /// Windows of the text [default: 16].
        #[arg(long, requires = "text", value_parser = clap::value_parser!(u16).range(1..))]
        windows: Option<u16>,
        /// Draw random tokens from ids below N alone; a BPE gives its common tokens the low ids.
        #[arg(long, value_name = "N")]
        ids_below: Option<usize>,
        /// A folder for scan.json (of several models, a folder each).
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Also a page with the figures, in one file that works offline.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// What models can run on: what this build and this machine have, and how to add what is missing.
    Devices,
    /// Time an engine; one JSON line.
    Bench {
        /// What to time.
        #[command(subcommand)]
        work: BenchWork,
    },
    /// Write a snapshot in another library's layout, or the curves of runs for TensorBoard.
    Export {
        /// The run's folder; for TensorBoard also the folder that holds runs/.
        run: PathBuf,
        /// The snapshot's step [default: the last].
        #[arg(long)]
        step: Option<u64>,
        /// The layout.
        #[arg(long, value_enum)]
        format: Format,
        /// The folder to write.
        #[arg(long)]
        out: PathBuf,
    },
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

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ExecutorKind {
    /// This process.
    Local,
    /// Slurm: an array of jobs for each stage, a task for each run. This process only submits them.
    Slurm,
}

/// What is asked of Slurm.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "With --executor slurm")]
pub(crate) struct SlurmOptions {
    /// The partition [default: the cluster's].
    #[arg(long)]
    partition: Option<String>,
    /// What training needs beside cores, such as gpu:1. Later stages run on cores alone, --device is for training.
    #[arg(long)]
    gres: Option<String>,
    /// Time limit of a task. A task that comes near it saves its state and is started again.
    #[arg(long)]
    time: Option<String>,
    /// Tasks of a stage at once [default: as many as the cluster gives].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    array_limit: Option<u16>,
    /// The account [default: yours].
    #[arg(long)]
    account: Option<String>,
    /// Cores of a task, and its threads [default: 1].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    cpus_per_task: Option<u16>,
    /// Seconds before its time limit at which a task saves its state: more than a step, or the measuring of one snapshot, takes
    /// [default: 90].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    notice: Option<u16>,
    /// Only write the scripts, and print the commands that submit them.
    #[arg(long)]
    pub(crate) print: bool,
}

impl SlurmOptions {
    /// The first option that was given, for a refusal.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let all = [
            ("--partition", self.partition.is_some()),
            ("--gres", self.gres.is_some()),
            ("--time", self.time.is_some()),
            ("--array-limit", self.array_limit.is_some()),
            ("--account", self.account.is_some()),
            ("--cpus-per-task", self.cpus_per_task.is_some()),
            ("--notice", self.notice.is_some()),
            ("--print", self.print),
        ];
        all.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    pub(crate) fn options(&self, device: Device, bf16: bool) -> slurm::Options {
        let Self { partition, gres, time, array_limit, account, cpus_per_task, notice, print: _ } = self.clone();
        let (cpus_per_task, notice) = (cpus_per_task.unwrap_or(1), notice.unwrap_or(90));
        slurm::Options { partition, gres, time, account, array_limit, cpus_per_task, notice, device, bf16 }
    }
}

/// How many runs are worked on at once.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Jobs {
    /// Runs worked on at once; they share the threads [default: one a thread].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: Option<u16>,
}

impl Jobs {
    /// Jobs, and threads of each.
    pub(crate) fn shared(self) -> (usize, usize) {
        let threads = rayon::current_num_threads();
        let jobs = self.jobs.map_or(threads, usize::from);
        (jobs, (threads / jobs).max(1))
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
    /// Write the losses under each ablation here, to be compared with another program's (safetensors).
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

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// TransformerLens 3.x: config.json and model.safetensors.
    TransformerLens,
    /// HuggingFace transformers (4.50 to 5.x): a folder with its own modelling code.
    Huggingface,
    /// TensorBoard: training's curves, the measurements of every snapshot, and every measure of every head.
    Tensorboard,
}
