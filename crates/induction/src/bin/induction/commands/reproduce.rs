//! `induction reproduce`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use induction::{
    Error,
    device::{Choice, Device},
    plan::{Corpora, PlanOptions, Scale, plan},
    records::{Manifest, Study, Text},
    reproduce::{forecast, order, reproduce},
    slurm::{self, Job, Submitted},
    source::texts_of,
    tokenizer::corpus::load,
};

use super::{Jobs, Program};
use crate::{
    arguments::Arguments,
    output::{print_line, show, show_forecast, show_report},
};

/// Train, measure and ablate all models of a scale, and write the report.
#[derive(clap::Args)]
pub(crate) struct Reproduce {
    /// How much to reproduce.
    #[arg(long, value_enum, default_value = "laptop")]
    scale: Scale,
    /// Work off a manifest of your own (docs/FORMATS.md) instead of a scale.
    #[arg(long, conflicts_with_all = ["scale", "clamp", "seed", "seeds", "corpus", "text_field", "second_corpus", "books"])]
    manifest: Option<PathBuf>,
    /// Make a study (docs/FORMATS.md) instead: its runs, and the report of its own claims and
    /// figures.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["manifest", "scale", "clamp", "seed", "seeds", "corpus", "text_field", "second_corpus", "books"])]
    study: Option<PathBuf>,
    /// Only say what it would do: models, tokens, operations, and by a calibration of some seconds
    /// time, memory, disk.
    #[arg(long)]
    dry_run: bool,
    /// Also train 2-layer models with clamped attention, which laptop and full have anyway: one has
    /// a previous-token head from the start, one may not attend to what followed an earlier copy.
    #[arg(long)]
    clamp: bool,
    /// Seed of every run; the first one where there are several [default: 1 at laptop and full,
    /// whose settings come from other seeds; else 0].
    #[arg(long)]
    seed: Option<u64>,
    /// Seeds of the attention-only 1- and 2-layer models on the main text [default: 3 at laptop and
    /// full, else 1].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: Option<u64>,
    /// The text to learn: files (.jsonl, .json, .txt, .md, ..., each also as .gz or .zst; .parquet
    /// where it is built in) or folders of them [default:
    /// fixtures/corpora/python-packages.jsonl.zst].
    #[arg(long, num_args = 1.., value_name = "PATH")]
    corpus: Vec<PathBuf>,
    /// The key of that text's lines of JSON that holds the text [default: text, content, story,
    /// body, document, messages, conversations or conversation, whichever is there first].
    #[arg(long, value_name = "KEY", requires = "corpus")]
    text_field: Option<String>,
    /// The text that the families learn again, at full and paper [default:
    /// fixtures/corpora/python-docs.jsonl.zst].
    #[arg(long, num_args = 1.., value_name = "PATH")]
    second_corpus: Vec<PathBuf>,
    /// The books of the "books only" runs, at full [default: fixtures/corpora/books].
    #[arg(long, num_args = 1.., value_name = "PATH")]
    books: Vec<PathBuf>,
    /// Where data, runs and report go.
    #[arg(long)]
    pub(super) out: PathBuf,
    #[command(flatten)]
    jobs: Jobs,
    /// Who works the runs off.
    #[arg(long, value_enum, default_value = "local")]
    executor: ExecutorKind,
    #[command(flatten)]
    slurm: SlurmOptions,
}

impl Reproduce {
    /// Whether jobs are submitted from here, which need not be where the device is that they run
    /// on.
    pub(crate) fn runs_elsewhere(&self) -> bool {
        matches!(self.executor, ExecutorKind::Slurm) && !self.dry_run
    }

    pub(crate) fn run(&self, program: &Program, arguments: &Arguments) -> Result<(), Error> {
        let on_slurm = matches!(self.executor, ExecutorKind::Slurm);
        if let Some(option) = self.slurm.given().filter(|_| !on_slurm) {
            return Err(Error::Input(format!("{option}: it is for --executor slurm")));
        }
        if on_slurm && self.jobs.jobs.is_some() {
            return Err(Error::Input(
                "--jobs: with --executor slurm, --array-limit says how many runs at once".into(),
            ));
        }
        let Program { device, json, console, .. } = program;
        let screen = &console.screen;
        let (jobs, threads_per_job) = self.jobs.shared();
        let manifest = self.manifest()?;
        manifest.check()?;
        let study = self.study()?;
        if self.dry_run {
            // A forecast needs no text, and whoever asks for one wants to know what is wrong with it.
            let texts: BTreeSet<&Text> =
                manifest.runs.iter().filter_map(|row| row.spec.data.text()).collect();
            for error in texts.into_iter().filter_map(|text| load(texts_of(text)).err()) {
                screen.note(&format!("{error}; the forecast is for a text that can be read"));
            }
            return show_forecast(&forecast(&manifest, *device, jobs, threads_per_job)?, *json);
        }
        if on_slurm {
            let Choice::Named(device) = arguments.device else {
                return Err(Error::Input(
                    "--device auto: jobs run elsewhere; name the device that they have there"
                        .into(),
                ));
            };
            let options = self.slurm.options(device, arguments.bf16);
            let submitted = slurm::submit(
                &manifest,
                study.as_ref(),
                &self.out,
                &options,
                self.slurm.print,
                screen,
            )?;
            return show_submitted(&submitted, &self.out, *json);
        }
        program.check_memory(&manifest, jobs, threads_per_job)?;
        screen.say(&format!("{} runs on {}", manifest.runs.len(), device.promise()));
        show_report(
            &reproduce(
                &manifest,
                study.as_ref(),
                &self.out,
                &program.local(jobs, threads_per_job),
                screen,
            )?,
            *json,
        )
    }

    fn study(&self) -> Result<Option<Study>, Error> {
        Ok(self.study.as_ref().map(|path| Study::read(path)).transpose()?)
    }

    /// The runs, checked no further than their plan, manifest or study is.
    pub(super) fn manifest(&self) -> Result<Manifest, Error> {
        if let Some(study) = self.study()? {
            return Ok(study.manifest()?);
        }
        self.manifest.as_ref().map_or_else(|| self.plan(), |path| Ok(Manifest::read(path)?))
    }

    /// The runs of the scale. A text that it would not read is refused: the run would not be the
    /// one that was asked for.
    fn plan(&self) -> Result<Manifest, Error> {
        let scale = self.scale.to_possible_value().expect("every scale has a name");
        let text = |flag: &str, given: &[PathBuf], usual: &str, scales: &[Scale]| {
            if given.is_empty() {
                return Ok(Text::from(usual));
            }
            if !scales.contains(&self.scale) {
                return Err(Error::Input(format!(
                    "{flag}: --scale {} does not read it{}",
                    scale.get_name(),
                    if self.scale == Scale::Smoke {
                        ", it learns a synthetic task; name another scale, such as laptop"
                    } else {
                        ""
                    }
                )));
            }
            Ok(Text { path: given.to_vec(), text_field: None })
        };
        let all = [Scale::Laptop, Scale::Gpu, Scale::Full, Scale::Paper];
        let usual = "fixtures/corpora/python-packages.jsonl.zst";
        let main = text("--corpus", &self.corpus, usual, &all)?;
        let main = Text { text_field: self.text_field.clone(), ..main };
        let usual = "fixtures/corpora/python-docs.jsonl.zst";
        let second =
            text("--second-corpus", &self.second_corpus, usual, &[Scale::Full, Scale::Paper])?;
        let books = text("--books", &self.books, "fixtures/corpora/books", &[Scale::Full])?;
        let seed =
            self.seed.unwrap_or(u64::from(matches!(self.scale, Scale::Laptop | Scale::Full)));
        let mut manifest = plan(&PlanOptions {
            scale: self.scale,
            clamp: self.clamp,
            seed,
            seeds: self.seeds,
            corpora: Corpora { main, second, books },
        });
        order(&mut manifest);
        Ok(manifest)
    }
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
    /// What training needs beside cores, such as gpu:1. Later stages run on cores alone, --device
    /// is for training.
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
    /// Seconds before its time limit at which a task saves its state: more than a step, or the
    /// measuring of one snapshot, takes [default: 90].
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
        let Self { partition, gres, time, array_limit, account, cpus_per_task, notice, print: _ } =
            self.clone();
        let (cpus_per_task, notice) = (cpus_per_task.unwrap_or(1), notice.unwrap_or(90));
        slurm::Options {
            partition,
            gres,
            time,
            account,
            array_limit,
            cpus_per_task,
            notice,
            device,
            bf16,
        }
    }
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
