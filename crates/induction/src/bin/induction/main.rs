//! The `induction` program: arguments in, the facade's functions, results and exit codes out.

mod arguments;
mod help;

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use induction::{
    Error,
    ablate::{ablate, last_effects, time_ablate},
    bench::{Work, time},
    executor::{Local, Part, Task, run as run_task},
    explore::explore,
    interrupt::Interrupt,
    measure::{measure, time_measure},
    memory,
    model::{write_export_huggingface, write_export_transformer_lens},
    pilot::{self, pilot},
    plan::{Corpora, Manifest, PlanOptions, Scale, plan},
    progress::Screen,
    report::{Report, table},
    reproduce::{Forecast, forecast, order, reproduce, runs_of},
    scan::{self, Patterns, Settings, read_tokens, scan_models},
    slurm::{self, Job, Submitted},
    source::{Source, data_of},
    status, tensorboard,
    terminal::{inert, inert_json, message},
    train::{RunSpec, is_finished, list_snapshots, load_model, snapshot_folder},
    training,
};

use self::arguments::{Arguments, BenchAblate, BenchModel, BenchWork, Command, ExecutorKind, Format};

fn main() -> ExitCode {
    let arguments = match help::parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    outcome(|| run(&arguments))
}

/// Does the work; its exit code, which for a panic is that of a bug.
fn outcome(work: impl FnOnce() -> Result<(), Error>) -> ExitCode {
    // Nothing is used again after a panic.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("induction: {}", message(&error.to_string()));
            error.exit_code()
        }
        Err(_) => {
            eprintln!(
                "induction: this is a bug in induction {}: please report the lines above; what was done before is kept",
                env!("CARGO_PKG_VERSION")
            );
            ExitCode::from(1)
        }
    }
}

/// What is wrong with the arguments: in colours, unless one of them would add its own.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if inert(&text) == text {
        error.exit();
    }
    eprint!("{}", inert(&text));
    ExitCode::from(2)
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
    // Where jobs are submitted from there need not be the device that they run on.
    let elsewhere =
        matches!(arguments.command, Command::Reproduce { executor: ExecutorKind::Slurm, dry_run: false, .. });
    if !elsewhere && !matches!(arguments.command, Command::Devices) {
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
            executor,
            slurm: slurm_options,
        } => {
            let given = slurm_options.given().filter(|_| matches!(executor, ExecutorKind::Local));
            if let Some(option) = given {
                return Err(Error::Input(format!("{option}: it is for --executor slurm")));
            }
            if matches!(executor, ExecutorKind::Slurm) && jobs.jobs.is_some() {
                return Err(Error::Input(
                    "--jobs: with --executor slurm, --array-limit says how many runs at once".into(),
                ));
            }
            let (jobs, threads_per_job) = jobs.shared();
            let manifest = if let Some(path) = manifest {
                Manifest::read(path)?
            } else {
                let (main, second) = (corpus.clone(), second_corpus.clone());
                let (scale, clamp, seed, seeds) = (*scale, *clamp, *seed, *seeds);
                let corpora = Corpora { main, second, books: books.clone() };
                let seed = seed.unwrap_or(u64::from(matches!(scale, Scale::Laptop | Scale::Full)));
                let mut manifest = plan(&PlanOptions { scale, clamp, seed, seeds, corpora });
                order(&mut manifest);
                manifest
            };
            manifest.check()?;
            if *dry_run {
                return show_forecast(&forecast(&manifest, device, jobs, threads_per_job)?, json);
            }
            if matches!(executor, ExecutorKind::Slurm) {
                let options = slurm_options.options(arguments.device, arguments.bf16);
                let submitted = slurm::submit(&manifest, out, &options, slurm_options.print, &screen)?;
                return show_submitted(&submitted, out, json);
            }
            memory::check(manifest.runs.iter().map(|row| &row.spec), device, jobs, threads_per_job)?;
            screen.say(&format!("{} runs on {}", manifest.runs.len(), device.promise()));
            let executor = Local { jobs, threads_per_job, device, interrupt: &interrupt, screen: &screen };
            show_report(&reproduce(&manifest, out, &executor, &screen)?, json)
        }
        Command::Pilot { corpus, tokens, seed, dry_run, out, jobs } => {
            let (jobs, threads_per_job) = jobs.shared();
            let manifest = pilot::plan(corpus, *seed, *tokens);
            if *dry_run {
                return show_forecast(&forecast(&manifest, device, jobs, threads_per_job)?, json);
            }
            memory::check(manifest.runs.iter().map(|row| &row.spec), device, jobs, threads_per_job)?;
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
        Command::Cancel { dir } => {
            let cancelled = slurm::cancel(dir)?;
            let said = match slurm::in_words(&cancelled) {
                none if none.is_empty() => "nothing to cancel".to_string(),
                jobs => format!("cancelled {jobs}"),
            };
            tell(json, &serde_json::json!({"cancelled": cancelled}), &said)
        }
        Command::Run { spec, out, data, stage, blake3 } => {
            if let Some(expected) = blake3 {
                slurm::check_spec(spec, expected)?;
            }
            let spec = RunSpec::read(spec)?;
            memory::check(std::iter::once(&spec), device, 1, rayon::current_num_threads())?;
            let data = data.clone().unwrap_or_else(|| out.join("data"));
            let source = Source::open(&mut spec.clone(), &data)?;
            source.notes().iter().for_each(|note| screen.note(note));
            let task = Task { spec, run: out.clone(), data };
            run_task(&task, *stage, device, &interrupt, &screen)?;
            let what = if *stage == Part::All { "" } else { ": its part" };
            let said = format!("{}{what} is done (on {})", out.display(), device.promise());
            tell(json, &serde_json::json!({"run": out}), &said)
        }
        Command::Train { spec, out, data } => {
            let mut spec = RunSpec::read(spec)?;
            memory::check(std::iter::once(&spec), device, 1, rayon::current_num_threads())?;
            let source = Source::open(&mut spec, data.as_ref().unwrap_or(&out.join("data")))?;
            source.notes().iter().for_each(|note| screen.note(note));
            training::run(&spec, &source, out, device, &interrupt, &screen)?;
            let (steps, tokens) = (spec.steps(), spec.steps() * spec.tokens_per_step());
            let said = format!("{} trained: {steps} steps in {} (on {})", spec.name, out.display(), device.promise());
            tell(json, &serde_json::json!({"run": out, "steps": steps, "tokens": tokens}), &said)
        }
        Command::Measure { run, data } => {
            let (spec, source) = finished(run, data.as_deref())?;
            measure(&spec, &source, run, device, &interrupt, &screen)?;
            tell_path(json, "measurements", &run.join("measurements"))
        }
        Command::Explore { run, data, text } => {
            let (spec, source) = finished(run, data.as_deref())?;
            explore(&spec, &source, run, text.as_deref(), device, &interrupt, &screen)?;
            tell_path(json, "measurements", &run.join("measurements"))
        }
        Command::Ablate { run, data } => {
            let (spec, source) = finished(run, data.as_deref())?;
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
                    let (spec, source) = finished(&run, None)?;
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
                    tell_path(json, "report", &page)
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
                windows: windows.map_or(scan::WINDOWS, usize::from),
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
            let of_model = |work, model: &BenchModel| -> Result<String, Error> {
                let timing = time(device, work, &model.config(), model.batch.max(1), model.steps.max(1))?;
                Ok(json_line(&timing))
            };
            print_json(&match work {
                BenchWork::Train(model) => of_model(Work::Train, model)?,
                BenchWork::Evaluate(model) => of_model(Work::Evaluate, model)?,
                BenchWork::Ablate(BenchAblate { run, step, examples, steps, losses }) => {
                    let mut spec = RunSpec::read(&run.join("spec.toml"))?;
                    let source = Source::open(&mut spec, &data_of(run))?;
                    let snapshot = snapshot_folder(run, *step);
                    let timing =
                        time_ablate(&source, &snapshot, device, *examples, (*steps).max(1), losses.as_deref())?;
                    json_line(&timing)
                }
                BenchWork::Scan { model, sequences, length, steps } => {
                    let timing = scan::time_scan(model, device, *sequences, *length, (*steps).max(1))?;
                    json_line(&timing)
                }
                BenchWork::Measure { run, step, steps } => {
                    let mut spec = RunSpec::read(&run.join("spec.toml"))?;
                    let source = Source::open(&mut spec, &data_of(run))?;
                    let timing = time_measure(&spec, &source, run, *step, device, (*steps).max(1))?;
                    json_line(&timing)
                }
            })
        }
        Command::Export { run, step, format, out } => {
            let made = export(run, *step, *format, out)?;
            let said: Vec<String> = made.iter().map(|folder| folder.display().to_string()).collect();
            tell(json, &serde_json::json!({"out": made}), &said.join("\n"))
        }
        Command::Completions { shell } => {
            let script = help::completions(*shell);
            // Its tabs are part of it.
            if json { show(&serde_json::json!({"script": script})) } else { print(script.trim_end()) }
        }
        Command::Man { out } => {
            let pages = help::man(out)?;
            tell(json, &serde_json::json!({"pages": pages}), &format!("{} pages in {}", pages.len(), out.display()))
        }
    }
}

/// The folders that were written.
fn export(run: &Path, step: Option<u64>, format: Format, out: &Path) -> Result<Vec<PathBuf>, Error> {
    let write = match format {
        Format::Tensorboard => {
            return match step {
                Some(step) => Err(Error::Input(format!("--step {step}: TensorBoard gets all of them"))),
                None => tensorboard::export(run, out),
            };
        }
        Format::TransformerLens => write_export_transformer_lens,
        Format::Huggingface => write_export_huggingface,
    };
    let last = || list_snapshots(run).map(|steps| steps.last().copied());
    let step = step.map_or_else(last, |step| Ok(Some(step)))?;
    let step = step.ok_or_else(|| Error::Input(format!("{}: it has no snapshot; train it first", run.display())))?;
    let (config, params) = load_model(&snapshot_folder(run, step))?;
    write(&config, &params, out)?;
    // The synthetic task has none.
    let tokenizer = run.join("tokenizer.json");
    if matches!(format, Format::Huggingface) && tokenizer.exists() {
        let bytes = std::fs::read(&tokenizer).map_err(Error::io(&tokenizer))?;
        let copy = out.join("tokenizer.json");
        induction_files::write_atomic(&copy, &bytes).map_err(Error::io(&copy))?;
    }
    Ok(vec![out.to_path_buf()])
}

/// The spec of a run that is trained, and its examples from `data` or where they are.
fn finished(run: &Path, data: Option<&Path>) -> Result<(RunSpec, Source), Error> {
    let mut spec = RunSpec::read(&run.join("spec.toml"))?;
    if !is_finished(&spec, run)? {
        return Err(Error::unfinished(run));
    }
    let source = Source::open(&mut spec, &data.map_or_else(|| data_of(run), Path::to_path_buf))?;
    Ok((spec, source))
}

fn show_forecast(forecast: &Forecast, json: bool) -> Result<(), Error> {
    if json { show(forecast) } else { print_line(&forecast.to_string()) }
}

fn show_report(report: &Report, json: bool) -> Result<(), Error> {
    if json {
        return show(&serde_json::json!({"report": report.page, "claims": report.claims}));
    }
    // What the claims quote from files holds no escape codes; the table's own are wanted.
    print(&table(&report.claims, 100, colours()))?;
    print_line(&format!("\nreport: {}", report.page.display()))
}

fn show_submitted(submitted: &Submitted, out: &Path, json: bool) -> Result<(), Error> {
    if json {
        return show(submitted);
    }
    if !submitted.commands.is_empty() {
        return print_line(&submitted.commands.join("\n"));
    }
    let line = |job: &Job| {
        let tasks = match job.tasks.len() {
            0 => String::new(),
            1 => "1 run".to_string(),
            n => format!("{n} runs"),
        };
        format!("{:<8} job {:<8} {tasks}", job.stage.name(), job.id.as_deref().unwrap_or_default())
            .trim_end()
            .to_string()
    };
    let lines: Vec<String> = submitted.jobs.iter().map(line).collect();
    print_line(&format!(
        "{}\n\nlook: induction status {out}\nstop: induction cancel {out}\nlogs: {}",
        lines.join("\n"),
        submitted.folder.join("logs").display(),
        out = slurm::quoted(&out.display().to_string())
    ))
}

/// A result, for a program or a reader.
fn tell(json: bool, value: &serde_json::Value, said: &str) -> Result<(), Error> {
    if json { show(value) } else { print_line(said) }
}

fn tell_path(json: bool, name: &str, path: &Path) -> Result<(), Error> {
    tell(json, &serde_json::json!({name: path}), &path.display().to_string())
}

/// Whether standard output is a terminal that wants colours (https://no-color.org).
fn colours() -> bool {
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    std::io::stdout().is_terminal() && unset("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn json_line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("results serialize")
}

fn show(value: &impl serde::Serialize) -> Result<(), Error> {
    print_json(&serde_json::to_string_pretty(value).expect("results serialize"))
}

fn print_json(json: &str) -> Result<(), Error> {
    print(&inert_json(json))
}

fn print_line(text: &str) -> Result<(), Error> {
    print(&inert(text))
}

/// `println!` without its panic when the reader of a pipe has gone.
fn print(text: &str) -> Result<(), Error> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output")(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_bug_and_ends_with_1() {
        assert_eq!(outcome(|| Ok(())), ExitCode::SUCCESS);
        assert_eq!(outcome(|| Err(Error::Input("x".into()))), ExitCode::from(2));
        assert_eq!(outcome(|| panic!("as if by a bug")), ExitCode::from(1));
    }
}
