//! The `induction` program: arguments in, the facade's functions, results and exit codes out.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use induction::{
    Error,
    ablate::{ablate, last_effects, time_ablate},
    bench::{Work, time},
    device::Device,
    executor::{Local, Task, run as run_task},
    explore::explore,
    interrupt::Interrupt,
    measure::{measure, time_measure},
    model::{ModelConfig, write_export, write_export_huggingface},
    pilot::{self, pilot},
    plan::{Corpora, Manifest, PlanOptions, Scale, plan},
    progress::Screen,
    report::{Report, table},
    reproduce::{check_memory, forecast, order, reproduce},
    scan::{self, Patterns, Settings, read_tokens, scan_models},
    source::Source,
    status,
    train::{RunSpec, is_finished, load_model, snapshot_folder},
    training,
};

/// Reproduces "In-context Learning and Induction Heads": trains small transformers, measures every snapshot, and
/// reports what becomes of the paper's claims.
///
/// Exit codes: 0 done; 1 a bug; 2 bad input, or a disk that refuses; 3 the training diverged; 75 stopped by SIGTERM or
/// another process holds the run, try again; 130 stopped by Ctrl-C.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Worker threads [default: all cores]. Results do not depend on it.
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// What models run on: cpu (the fused engine), or burn on flex, ndarray, libtorch, libtorch:cuda:N or cuda:N; see
    /// `induction devices`.
    #[arg(long, visible_alias = "engine", global = true, default_value = "cpu")]
    device: Device,
    /// Take the matrix products of training in bfloat16 (burn's devices; meant for GPUs).
    #[arg(long, global = true)]
    bf16: bool,
    /// Machine-readable results on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// No progress.
    #[arg(long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
        /// Also train 2-layer models with clamped attention: one has a previous-token head from the start, one may not
        /// attend to what followed an earlier copy.
        #[arg(long)]
        clamp: bool,
        /// Seed of every run; the first one where there are several.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Seeds of the 1- and 2-layer models on the main text [default: 3 at full, else 1].
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
        seeds: Option<u64>,
        /// The text to learn: .jsonl.zst, .jsonl, .txt, or a folder.
        #[arg(long, default_value = "fixtures/corpora/python.jsonl.zst")]
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
    },
    /// The search behind the defaults: 2-layer models that differ in one choice each, and a table of what they did.
    Pilot {
        /// The text to learn.
        #[arg(long, default_value = "fixtures/corpora/python.jsonl.zst")]
        corpus: PathBuf,
        /// Tokens that each run gets.
        #[arg(long, default_value_t = pilot::TOKENS, value_parser = clap::value_parser!(u64).range(1..))]
        tokens: u64,
        /// Seed of every run.
        #[arg(long, default_value_t = 0)]
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
    /// Remove every head of every snapshot of a run, and put its last snapshot through the other ablations.
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
        #[arg(long, conflicts_with_all = ["text", "out", "html", "ids_below"])]
        tokens: Option<PathBuf>,
        /// Also the attention pattern of a head (LAYER:HEAD from 0), or of all.
        #[arg(long, value_name = "L:H|all", requires = "tokens")]
        pattern: Option<Patterns>,
        /// A corpus for the ICL score: .txt, .jsonl, .jsonl.zst or a folder of them.
        #[arg(long)]
        text: Option<PathBuf>,
        /// Windows of the text.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
        windows: u16,
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
    /// Write a snapshot in another library's layout.
    Export {
        /// The run's folder.
        run: PathBuf,
        /// The snapshot's step.
        #[arg(long)]
        step: u64,
        /// The layout.
        #[arg(long, value_enum)]
        format: Format,
        /// The folder to write.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum ExecutorKind {
    /// This process.
    Local,
}

/// How many runs are worked on at once.
#[derive(clap::Args, Clone, Copy)]
struct Jobs {
    /// Runs worked on at once; they share the threads [default: one a thread].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

impl Jobs {
    /// Jobs, and threads of each.
    fn shared(self) -> (usize, usize) {
        let threads = rayon::current_num_threads();
        let jobs = self.jobs.map_or(threads, usize::from);
        (jobs, (threads / jobs).max(1))
    }
}

#[derive(Subcommand)]
enum BenchWork {
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
struct BenchAblate {
    /// The run's folder.
    run: PathBuf,
    /// The snapshot's step.
    #[arg(long)]
    step: u64,
    /// Examples of the evaluation set.
    #[arg(long, default_value_t = 128)]
    examples: usize,
    /// Timed repetitions, after one that is not.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Write the losses under each ablation here, to be compared with another program's (safetensors).
    #[arg(long)]
    losses: Option<PathBuf>,
}

/// The model to time, and on what.
#[derive(clap::Args)]
struct BenchModel {
    /// Vocabulary.
    #[arg(long, default_value_t = 512)]
    vocab: usize,
    /// Width of the residual stream.
    #[arg(long, default_value_t = 128)]
    d_model: usize,
    /// Heads of a layer; they share the width.
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Layers.
    #[arg(long, default_value_t = 2)]
    layers: usize,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = 512)]
    ctx: usize,
    /// Sequences of a step.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// With MLPs, four times as wide as the residual stream.
    #[arg(long)]
    mlp: bool,
    /// Timed repetitions, after five that are not.
    #[arg(long, default_value_t = 20)]
    steps: usize,
}

impl BenchModel {
    fn config(&self) -> ModelConfig {
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
enum Format {
    /// TransformerLens 3.x: config.json and model.safetensors.
    TransformerLens,
    /// HuggingFace transformers (4.50 to 5.x): a folder with its own modelling code.
    Huggingface,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("induction: {}", visible(&error.to_string()));
            error.exit_code()
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let threads = arguments.threads.map_or(0, usize::from);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::Input(format!("--threads: {e}")))?;
    let interrupt = Interrupt::listen().map_err(Error::io("signal handlers"))?;
    let json = arguments.json;
    let device = if arguments.bf16 { arguments.device.with_bf16()? } else { arguments.device };
    if !matches!(arguments.command, Command::Devices) {
        device.check()?;
    }
    let screen = Screen::new(arguments.quiet || json);
    match &arguments.command {
        Command::Reproduce {
            scale,
            manifest,
            dry_run,
            clamp,
            seed,
            seeds,
            corpus,
            second_corpus,
            books,
            out,
            jobs,
            executor: ExecutorKind::Local,
        } => {
            let (jobs, threads_per_job) = jobs.shared();
            let manifest = if let Some(path) = manifest {
                Manifest::read(path)?
            } else {
                let (main, second) = (corpus.clone(), second_corpus.clone());
                let (scale, clamp, seed) = (*scale, *clamp, *seed);
                let seeds = seeds.unwrap_or(if scale == Scale::Full { 3 } else { 1 });
                let corpora = Corpora { main, second, books: books.clone() };
                let mut manifest = plan(&PlanOptions { scale, clamp, seed, seeds, corpora });
                order(&mut manifest);
                manifest
            };
            manifest.check()?;
            if *dry_run {
                let forecast = forecast(&manifest, device, jobs, threads_per_job)?;
                return if json { show(&forecast) } else { print_line(&forecast.to_string()) };
            }
            check_memory(&manifest, jobs)?;
            device.check_memory(manifest.runs.iter().map(|row| &row.spec), jobs)?;
            let executor = Local { jobs, threads_per_job, device, interrupt: &interrupt, screen: &screen };
            show_report(&reproduce(&manifest, out, &executor, &screen)?, json)
        }
        Command::Pilot { corpus, tokens, seed, dry_run, out, jobs } => {
            let (jobs, threads_per_job) = jobs.shared();
            let manifest = pilot::plan(corpus, *seed, *tokens);
            if *dry_run {
                let forecast = forecast(&manifest, device, jobs, threads_per_job)?;
                return if json { show(&forecast) } else { print_line(&forecast.to_string()) };
            }
            let executor = Local { jobs, threads_per_job, device, interrupt: &interrupt, screen: &screen };
            let found = pilot(&manifest, out, &executor, &screen)?;
            if json {
                return show(&found);
            }
            let text = std::fs::read_to_string(&found.table).map_err(Error::io(&found.table))?;
            print_line(&format!("{text}\n{}", found.table.display()))
        }
        Command::Status { dir, watch } => loop {
            let runs = status::status(dir)?;
            if json {
                show(&runs)?;
            } else {
                print_line(&status::table(&runs))?;
            }
            let Some(seconds) = watch else { break Ok(()) };
            std::thread::sleep(std::time::Duration::from_secs(*seconds));
            interrupt.check()?;
        },
        Command::Run { spec, out, data } => {
            let spec = RunSpec::read(spec)?;
            let data = data.clone().unwrap_or_else(|| out.join("data"));
            let task = Task { spec, run: out.clone(), data };
            run_task(&task, device, &interrupt, &screen)?;
            if json {
                show(&serde_json::json!({"run": out}))
            } else {
                print_line(&format!("{} is done", out.display()))
            }
        }
        Command::Train { spec, out, data } => {
            let mut spec = RunSpec::read(spec)?;
            device.check_memory(std::iter::once(&spec), 1)?;
            let source = Source::open(&mut spec, data.as_ref().unwrap_or(&out.join("data")))?;
            source.notes().iter().for_each(|note| screen.note(note));
            training::run(&spec, &source, out, device, &interrupt, &screen)?;
            if json {
                return show(
                    &serde_json::json!({"run": out, "steps": spec.steps(), "tokens": spec.steps() * spec.tokens_per_step()}),
                );
            }
            print_line(&format!("{} trained: {} steps in {}", spec.name, spec.steps(), out.display()))
        }
        Command::Measure { run, data } => {
            let mut spec = finished_spec(run)?;
            let source = Source::open(&mut spec, &data.clone().unwrap_or_else(|| data_beside(run)))?;
            measure(&spec, &source, run, device, &interrupt, &screen)?;
            let folder = run.join("measurements");
            if json {
                show(&serde_json::json!({"measurements": folder}))
            } else {
                print_line(&folder.display().to_string())
            }
        }
        Command::Explore { run, data, text } => {
            let mut spec = finished_spec(run)?;
            let source = Source::open(&mut spec, &data.clone().unwrap_or_else(|| data_beside(run)))?;
            explore(&spec, &source, run, text.as_deref(), device, &interrupt, &screen)?;
            let folder = run.join("measurements");
            if json {
                show(&serde_json::json!({"measurements": folder}))
            } else {
                print_line(&folder.display().to_string())
            }
        }
        Command::Ablate { run, data } => {
            let mut spec = finished_spec(run)?;
            let source = Source::open(&mut spec, &data.clone().unwrap_or_else(|| data_beside(run)))?;
            // Which heads are induction heads is read off the measurements.
            measure(&spec, &source, run, device, &interrupt, &screen)?;
            ablate(&spec, &source, run, device, &interrupt, &screen)?;
            let effects = last_effects(run)?;
            if json {
                return show(&serde_json::json!({"measurements": run.join("measurements"), "heads": effects}));
            }
            let mut text = String::from(
                "change of the ICL score (nats) without the head; above 0 it contributes\nhead  role                 prefix matching      full  pattern-preserving\n",
            );
            for effect in &effects {
                text += &format!(
                    "{:<5} {:<20} {:>15.3}  {:>+8.4}  {:>+18.4}\n",
                    effect.head.to_string(),
                    effect.role,
                    effect.prefix_matching,
                    effect.full,
                    effect.pattern_preserving
                );
            }
            print_line(text.trim_end())
        }
        Command::Report { dirs, text, out } => {
            if let Some(text) = text {
                for run in dirs.iter().map(|dir| runs_of(dir)).collect::<Result<Vec<_>, _>>()?.concat() {
                    let mut spec = finished_spec(&run)?;
                    let source = Source::open(&mut spec, &data_beside(&run))?;
                    explore(&spec, &source, &run, Some(text), device, &interrupt, &screen)?;
                }
            }
            match (dirs.as_slice(), out) {
                ([dir], None) => show_report(&induction::report::build(dir)?, json),
                ([_], Some(out)) => Err(Error::Input(format!(
                    "--out {}: a report lies beside its runs; --out is for one that compares several folders",
                    out.display()
                ))),
                (_, None) => {
                    Err(Error::Input("several folders: say with --out where their comparison goes".to_string()))
                }
                (dirs, Some(out)) => {
                    let page = induction::report::compare(dirs, out)?;
                    if json {
                        show(&serde_json::json!({"report": page}))
                    } else {
                        print_line(&page.display().to_string())
                    }
                }
            }
        }
        Command::Scan { models, tokens: Some(tokens), pattern, .. } => {
            let [model] = models.as_slice() else {
                return Err(Error::Input(format!("--tokens: expected one model, found {}", models.len())));
            };
            let tokens = read_tokens(tokens)?;
            let model = scan::hub::fetch(model, &screen)?;
            let result = scan::scan(scan::open(&model)?, &tokens, pattern.unwrap_or(Patterns::None), device)?;
            if json { show(&result) } else { print_line(&scan::text::of_tokens(&result)) }
        }
        Command::Scan { models, text, windows, ids_below, out, html, .. } => {
            let settings = Settings {
                text: text.clone(),
                windows: usize::from(*windows),
                examples: scan::EXAMPLES,
                ids_below: *ids_below,
            };
            // All downloads first: nobody waits for a scan to learn that the next model is not there.
            let models: Vec<PathBuf> =
                models.iter().map(|model| scan::hub::fetch(model, &screen)).collect::<Result<_, _>>()?;
            let scans = scan_models(&models, &settings, device, out.as_deref(), &|line| screen.say(line))?;
            match (json, scans.as_slice()) {
                (true, [one]) => show(one),
                (true, all) => show(&all),
                (false, all) => print_line(&scan::text::of_models(all)),
            }?;
            // Last: what was found is not lost with a page that cannot be written.
            html.as_ref().map_or(Ok(()), |path| scan::write_page(&scans, path))
        }
        Command::Devices => {
            let all = induction::device::list();
            if json {
                return show(&all);
            }
            let line = |listed: &induction::device::Listed| {
                format!("{:<16} {:<6} {}", listed.device, if listed.ready { "ready" } else { "-" }, listed.note)
            };
            print_line(&all.iter().map(line).collect::<Vec<_>>().join("\n"))
        }
        Command::Bench { work } => {
            let model_timing = |work, model: &BenchModel| -> Result<String, Error> {
                let timing = time(device, work, &model.config(), model.batch.max(1), model.steps.max(1))?;
                Ok(serde_json::to_string(&timing).expect("results serialize"))
            };
            print_line(&match work {
                BenchWork::Train(model) => model_timing(Work::Train, model)?,
                BenchWork::Evaluate(model) => model_timing(Work::Evaluate, model)?,
                BenchWork::Ablate(BenchAblate { run, step, examples, steps, losses }) => {
                    let mut spec = RunSpec::read(&run.join("spec.toml"))?;
                    let source = Source::open(&mut spec, &data_beside(run))?;
                    let snapshot = snapshot_folder(run, *step);
                    let timing =
                        time_ablate(&source, &snapshot, device, *examples, (*steps).max(1), losses.as_deref())?;
                    serde_json::to_string(&timing).expect("results serialize")
                }
                BenchWork::Scan { model, sequences, length, steps } => {
                    let timing = scan::time_scan(model, device, *sequences, *length, (*steps).max(1))?;
                    serde_json::to_string(&timing).expect("results serialize")
                }
                BenchWork::Measure { run, step, steps } => {
                    let mut spec = RunSpec::read(&run.join("spec.toml"))?;
                    let source = Source::open(&mut spec, &data_beside(run))?;
                    let timing = time_measure(&spec, &source, run, *step, device, (*steps).max(1))?;
                    serde_json::to_string(&timing).expect("results serialize")
                }
            })
        }
        Command::Export { run, step, format, out } => {
            let (config, params) = load_model(&snapshot_folder(run, *step))?;
            match format {
                Format::TransformerLens => write_export(&config, &params, out)?,
                Format::Huggingface => {
                    write_export_huggingface(&config, &params, out)?;
                    // The synthetic task has none.
                    let tokenizer = run.join("tokenizer.json");
                    if tokenizer.exists() {
                        std::fs::copy(&tokenizer, out.join("tokenizer.json")).map_err(Error::io(&tokenizer))?;
                    }
                }
            }
            if json { show(&serde_json::json!({"out": out})) } else { print_line(&out.display().to_string()) }
        }
    }
}

fn finished_spec(run: &Path) -> Result<RunSpec, Error> {
    let spec = RunSpec::read(&run.join("spec.toml"))?;
    if is_finished(&spec, run)? {
        return Ok(spec);
    }
    Err(Error::Input(format!("{}: its training is not finished; finish it first", run.display())))
}

/// The run folders of a reproduction, by name.
fn runs_of(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let runs = dir.join("runs");
    let entries = std::fs::read_dir(&runs).map_err(Error::io(&runs))?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join("spec.toml").exists());
    folders.sort();
    Ok(folders)
}

/// A run inside a reproduction shares the data folder beside `runs/`; any other has its own.
fn data_beside(run: &Path) -> PathBuf {
    let shared = run.parent().and_then(Path::parent).map(|dir| dir.join("data"));
    match shared {
        Some(data) if data.is_dir() && !run.join("data").exists() => data,
        _ => run.join("data"),
    }
}

fn show_report(report: &Report, json: bool) -> Result<(), Error> {
    if json {
        return show(&serde_json::json!({"report": report.page, "claims": report.claims}));
    }
    print_line(&format!("{}\n\nreport: {}", table(&report.claims, 100, false), report.page.display()))
}

fn show(value: &impl serde::Serialize) -> Result<(), Error> {
    print_line(&serde_json::to_string_pretty(value).expect("results serialize"))
}

/// `println!` without its panic when the reader of a pipe has gone.
fn print_line(text: &str) -> Result<(), Error> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output")(e)),
        _ => Ok(()),
    }
}

/// Control characters in a message (a path's or a file's) must not reach the terminal.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
