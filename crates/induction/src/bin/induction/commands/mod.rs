//! The commands, each with its arguments and what it does.

mod bench;
mod export;
mod forecast;
mod pilot;
mod report;
mod reproduce;
mod scan;
mod stages;
mod status;

use std::path::Path;

use induction::{
    Error,
    device::{self, Choice, Device, Listed},
    executor::Local,
    interrupt::Interrupt,
    progress::{Console, Screen},
    records::{Manifest, RunSpec},
    source::{Source, data_of},
    stages::RunContext,
    train::is_finished,
};

use crate::{
    arguments::{Arguments, Command},
    help,
    output::{print, print_line, show, tell},
};

pub(crate) use self::{
    bench::Bench,
    export::Export,
    forecast::Forecast,
    pilot::Pilot,
    report::Report,
    reproduce::Reproduce,
    scan::Scan,
    stages::{Ablate, Explore, Llc, Measure, Run, Train},
    status::{Cancel, Status},
};

/// What every command works with.
pub(crate) struct Program {
    pub(crate) device: Device,
    pub(crate) json: bool,
    pub(crate) console: Console,
}

/// Does what is asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let threads = arguments.threads.map_or(0, usize::from);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::Input(format!("--threads: {e}")))?;
    let console = Console {
        interrupt: match arguments.command {
            // These have nothing to bring to an end: a signal ends them as it ends any program.
            Command::Scan(_) | Command::Bench(_) | Command::Export(_) | Command::Forecast(_) => {
                Interrupt::default()
            }
            _ => Interrupt::listen().map_err(Error::io("signal handlers"))?,
        },
        screen: Screen::new(arguments.quiet || arguments.json),
    };
    let device = match arguments.device {
        Choice::Named(device) if arguments.bf16 => device.with_bf16()?,
        Choice::Named(device) => device,
        Choice::Auto => {
            let found = chosen_for(&arguments.command)?;
            let device = found.as_ref().map_or(Device::Cpu, |(device, _)| *device);
            if let Some((_, why)) = found {
                console.screen.say(&format!("--device auto: {why}"));
            }
            // What cannot be is not what was asked for, but no fault of one's.
            if arguments.bf16 { device.with_bf16().unwrap_or(device) } else { device }
        }
    };
    let program = Program { device, json: arguments.json, console };
    let needs_device = match &arguments.command {
        Command::Reproduce(reproduce) => !reproduce.runs_elsewhere(),
        Command::Devices | Command::Forecast(_) => false,
        _ => true,
    };
    if needs_device {
        program.device.check()?;
    }
    match &arguments.command {
        Command::Reproduce(command) => command.run(&program, arguments),
        Command::Forecast(command) => command.run(&program),
        Command::Pilot(command) => command.run(&program),
        Command::Status(command) => command.run(&program),
        Command::Run(command) => command.run(&program),
        Command::Cancel(command) => command.run(&program),
        Command::Train(command) => command.run(&program),
        Command::Measure(command) => command.run(&program),
        Command::Explore(command) => command.run(&program),
        Command::Ablate(command) => command.run(&program),
        Command::Llc(command) => command.run(&program),
        Command::Report(command) => command.run(&program),
        Command::Scan(command) => command.run(&program),
        Command::Devices => devices(&program),
        Command::Bench(command) => command.run(&program),
        Command::Export(command) => command.run(&program),
        Command::Completions { shell } => {
            let script = help::completions(*shell);
            // Its tabs are part of it.
            if program.json {
                show(&serde_json::json!({"script": script}))
            } else {
                print(script.trim_end())
            }
        }
        Command::Man { out } => {
            let pages = help::man(out)?;
            let said = format!("{} pages in {}", pages.len(), out.display());
            tell(program.json, &serde_json::json!({"pages": pages}), &said)
        }
    }
}

/// The device for a command's models, and why; nothing if it runs none.
fn chosen_for(command: &Command) -> Result<Option<(Device, String)>, Error> {
    let of_spec = |spec: &Path, run: &Path| {
        Ok::<_, Error>((Some(RunSpec::read(spec)?.model.d_model), device::of_run(run)))
    };
    let (widest, begun) = match command {
        Command::Reproduce(reproduce) => {
            let manifest = reproduce.manifest()?;
            let widest = manifest.runs.iter().map(|row| row.spec.model.d_model).max();
            let runs = manifest.runs.iter().map(|row| &row.spec.name);
            let begun =
                runs.filter_map(|run| device::of_run(&reproduce.out.join("runs").join(run)));
            (widest, begun.into_iter().next())
        }
        Command::Run(Run { spec, out, .. }) | Command::Train(Train { spec, out, .. }) => {
            of_spec(spec, out)?
        }
        Command::Measure(Measure { run, .. })
        | Command::Explore(Explore { run, .. })
        | Command::Ablate(Ablate { run, .. })
        | Command::Llc(Llc { run, .. }) => of_spec(&run.join("spec.toml"), run)?,
        Command::Scan(_) => (None, None),
        _ => return Ok(None),
    };
    Ok(Some(device::chosen(widest, begun)))
}

impl Program {
    /// The runs of a plan in this process.
    fn local(&self, jobs: usize, threads_per_job: usize) -> Local<'_> {
        Local { jobs, threads_per_job, device: self.device, console: &self.console }
    }

    /// What the stages of a run work with.
    fn context<'a>(
        &'a self,
        spec: &'a RunSpec,
        source: &'a Source,
        run: &'a Path,
    ) -> RunContext<'a> {
        RunContext { spec, source, run, device: self.device, caller: &self.console }
    }

    /// Refuses a plan that needs more memory than there is.
    fn check_memory(
        &self,
        manifest: &Manifest,
        jobs: usize,
        threads_per_job: usize,
    ) -> Result<(), Error> {
        induction::memory::check(
            manifest.runs.iter().map(|row| &row.spec),
            self.device,
            jobs,
            threads_per_job,
        )
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

/// The spec of a run that is trained, and its examples from `data` or where they are.
fn finished(run: &Path, data: Option<&Path>) -> Result<(RunSpec, Source), Error> {
    let mut spec = RunSpec::read(&run.join("spec.toml"))?;
    if !is_finished(&spec, run)? {
        return Err(Error::unfinished(run));
    }
    let source = Source::open(&mut spec, &data.map_or_else(|| data_of(run), Path::to_path_buf))?;
    Ok((spec, source))
}

fn devices(program: &Program) -> Result<(), Error> {
    let all = device::list();
    if program.json {
        return show(&all);
    }
    let line = |listed: &Listed| {
        format!(
            "{:<16} {:<6} {}",
            listed.device,
            if listed.ready { "ready" } else { "-" },
            listed.note
        )
    };
    print_line(&all.iter().map(line).collect::<Vec<_>>().join("\n"))
}
