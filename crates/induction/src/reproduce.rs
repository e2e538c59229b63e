//! The main job: the runs of a plan, each trained, measured and ablated, and the report.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use induction_records::{DataSpec, MANIFEST, Manifest, RunSpec, STUDY, Study};
use induction_report::Report;
use induction_study::{
    device::Device,
    source::{Source, texts_of},
};
use induction_train::is_finished;
use serde::Serialize;

use crate::{
    Error,
    executor::{Executor, Task},
    memory::{self, bytes},
    predict::{Cost, FamilyRates, Rates, Stages, makespan},
    progress::Screen,
    status::duration,
};

/// What the report takes beside the runs, in bytes: the page's script and figures.
const REPORT_BYTES: f64 = 12e6;

/// Works off every run of the plan that is not done yet, then writes the report.
/// `out/manifest.toml` says what was asked, `out/study.toml` what `study` claims of the runs.
///
/// # Errors
/// A folder that holds other runs under these names, before any work; of the runs that fail, the
/// first one's error, after all others are done.
pub fn reproduce(
    manifest: &Manifest,
    study: Option<&Study>,
    out: &Path,
    executor: &dyn Executor,
    screen: &Screen,
) -> Result<Report, Error> {
    let tasks = prepare(manifest, study, out, screen)?;
    let reports = Reports { out, screen, finished: Mutex::new(Vec::new()), last: Mutex::new(None) };
    let mut failures = executor.execute(&tasks, &|task| reports.hear(task)).into_iter();
    if let Some(first) = failures.next() {
        return Err(first.error);
    }
    Ok(induction_report::build(out)?)
}

/// Reports while runs still learn, so that there is something to look at: of what is finished.
struct Reports<'a> {
    out: &'a Path,
    screen: &'a Screen,
    /// The folders' names.
    finished: Mutex<Vec<String>>,
    /// When the last one was written, and how long that took.
    last: Mutex<Option<(Instant, Duration)>>,
}

/// A report takes at most this share of the time between two.
const REPORTING: u32 = 10;
/// With fewer runs there is nothing to compare.
const FIRST_REPORT: usize = 2;

impl Reports<'_> {
    fn hear(&self, task: &Task) {
        let finished = {
            let mut finished = self.finished.lock().expect("no job panics while it holds this");
            finished.push(task.spec.name.clone());
            finished.clone()
        };
        // Another job that writes one has nearly the same to say.
        let Ok(mut last) = self.last.try_lock() else { return };
        let due = last.is_none_or(|(at, took)| at.elapsed() > took * REPORTING);
        if finished.len() < FIRST_REPORT || !due {
            return;
        }
        let begun = Instant::now();
        match induction_report::build_of(self.out, &finished) {
            Ok(report) if last.is_none() => {
                self.screen.note(&format!(
                    "a first report, of the runs that are done: {}",
                    report.page.display()
                ));
            }
            Ok(_) => {}
            Err(error) => self.screen.note(&format!("no report yet: {error}")),
        }
        *last = Some((Instant::now(), begun.elapsed()));
    }
}

/// The tasks of a plan: texts read and tokenized, folders checked, the resolved manifest written,
/// and the study that it is made of, if there is one. Nothing that is there is replaced before all
/// is checked.
///
/// # Errors
/// A text that cannot be used, a folder of another seed or scale, a study in the folder of another
/// reproduction or the other way round, a disk that refuses.
pub fn prepare(
    manifest: &Manifest,
    study: Option<&Study>,
    out: &Path,
    screen: &Screen,
) -> Result<Vec<Task>, Error> {
    manifest.check()?;
    let study_path = out.join(STUDY);
    let refused = match (study, study_path.exists(), out.join(MANIFEST).exists()) {
        (None, true, _) => Some("is a study's; go on with --study"),
        (Some(_), false, true) => Some("holds another reproduction"),
        _ => None,
    };
    if let Some(why) = refused {
        let folder = out.display();
        return Err(Error::Input(format!("{folder}: this folder {why}, or choose another --out")));
    }
    let (runs, data) = (out.join("runs"), out.join("data"));
    induction_files::make_folders(&runs).map_err(Error::io(&runs))?;
    let mut resolved = manifest.clone();
    // Each text once, before the jobs, so that they do not all train the same tokenizer.
    let (mut known, mut said) = (BTreeMap::<String, Source>::new(), BTreeSet::new());
    for row in &mut resolved.runs {
        let key =
            format!("{:?} {} {}", row.spec.data, row.spec.model.d_vocab, row.spec.model.n_ctx);
        let notes = match known.get(&key) {
            Some(source) => source.resolve(&mut row.spec),
            None => {
                let source = Source::open(&mut row.spec, &data)?;
                known.entry(key).or_insert(source).notes().to_vec()
            }
        };
        // Runs of one budget on one text say the same.
        for note in notes.into_iter().filter(|note| said.insert(note.clone())) {
            screen.note(&note);
        }
        row.hash = Some(row.spec.training_hash());
        // A folder of another seed or scale is refused before any work is done.
        is_finished(&row.spec, &runs.join(&row.spec.name))?;
    }
    resolved.check()?;
    let path = out.join(MANIFEST);
    // The rules of the day the runs were planned stay on record, whatever judges them later.
    let known = Manifest::read(&path).ok().and_then(|earlier| earlier.rules);
    resolved.rules = Some(known.unwrap_or_else(induction_report::revision));
    if let Some(study) = study {
        induction_files::write_atomic(&study_path, study.to_toml().as_bytes())
            .map_err(Error::io(&study_path))?;
    }
    induction_files::write_atomic(&path, resolved.to_toml().as_bytes())
        .map_err(Error::io(&path))?;
    Ok(resolved
        .runs
        .into_iter()
        .map(|row| Task { run: runs.join(&row.spec.name), data: data.clone(), spec: row.spec })
        .collect())
}

/// Sorts the runs so that the first seed's come first: of those the pair that a first report
/// compares (1 and 2 layers), then the longest, since a long run begun last would leave the other
/// jobs idle.
pub fn order(manifest: &mut Manifest) {
    let seed = manifest.runs.iter().map(|row| row.spec.seed).min().unwrap_or_default();
    manifest.runs.sort_by_cached_key(|row| {
        let Stages { train, measure, ablate } = Cost::of(&row.spec).flop;
        let first_pair = ["1L", "2L"].contains(&row.spec.name.as_str());
        (row.spec.seed != seed, !first_pair, std::cmp::Reverse((train + measure + ablate) as u128))
    });
}

/// What a plan asks of this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// The plan's name.
    pub name: String,
    /// The series, with how many models each has; a run can serve several.
    pub series: BTreeMap<String, usize>,
    /// Each run, in the order in which they are begun.
    pub runs: Vec<RunForecast>,
    /// Runs at once.
    pub jobs: usize,
    /// What one job was seen to reach here, in operations a second.
    pub rates: Rates,
    /// Training tokens of all runs.
    pub tokens: u64,
    /// Operations of all stages of all runs.
    pub flop: f64,
    /// Wall-clock time of the whole plan, in seconds.
    pub seconds: f64,
    /// Largest resident memory, in bytes.
    pub memory: f64,
    /// Bytes on disk at the end.
    pub disk: f64,
}

/// A run's share of a [`Forecast`].
#[derive(Clone, Debug, Serialize)]
pub struct RunForecast {
    /// The run's name.
    pub name: String,
    /// The first digits of its content's hash.
    pub hash: String,
    /// What it asks for.
    pub cost: Cost,
    /// Peak of what the process holds for it, in bytes.
    pub memory: f64,
    /// Snapshots that it keeps.
    pub snapshots: usize,
    /// Seconds of each stage, on one job.
    pub seconds: Stages<f64>,
}

/// Predicts a plan's time, memory and disk, after a calibration of some seconds.
///
/// # Errors
/// The calibration's.
pub fn forecast(
    manifest: &Manifest,
    device: Device,
    jobs: usize,
    threads_per_job: usize,
) -> Result<Forecast, Error> {
    let rates = Rates::calibrate(manifest, device, jobs, threads_per_job)?;
    let runs: Vec<RunForecast> = manifest
        .runs
        .iter()
        .map(|row| {
            let cost = Cost::of(&row.spec);
            let hash = content_hash(&row.spec)[..8].to_string();
            let (name, snapshots) = (row.spec.name.clone(), row.spec.snapshot_steps().len());
            let memory = memory::of(&row.spec, threads_per_job);
            RunForecast {
                name,
                hash,
                cost,
                memory,
                snapshots,
                seconds: rates.seconds(&row.spec, &cost),
            }
        })
        .collect();
    let sum = |take: fn(&RunForecast) -> f64| runs.iter().map(take).sum::<f64>();
    Ok(Forecast {
        name: manifest.name.clone(),
        series: manifest
            .series()
            .into_iter()
            .map(|(name, count)| (name.to_string(), count))
            .collect(),
        jobs,
        rates,
        tokens: runs.iter().map(|run| run.cost.tokens).sum(),
        flop: sum(|run| run.cost.flop.train + run.cost.flop.measure + run.cost.flop.ablate),
        seconds: makespan(runs.iter().map(|run| total(&run.seconds)), jobs),
        memory: memory::of_plan(
            &manifest.runs.iter().map(|row| &row.spec).collect::<Vec<_>>(),
            jobs,
            threads_per_job,
        ),
        disk: REPORT_BYTES + sum(|run| run.cost.disk),
        runs,
    })
}

fn total(stages: &Stages<f64>) -> f64 {
    stages.train + stages.measure + stages.ablate
}

/// The spec's content, the text's hash in it where the text is there.
fn content_hash(spec: &RunSpec) -> String {
    let mut spec = spec.clone();
    let found =
        spec.data.text().and_then(|text| induction_tokenizer::corpus::load(texts_of(text)).ok());
    if let (DataSpec::Corpus { blake3, .. }, Some(corpus)) = (&mut spec.data, found) {
        *blake3 = Some(corpus.blake3);
    }
    spec.training_hash()
}

impl std::fmt::Display for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:<20} {:<8} {:>7} {:>8} {:>5} {:>9} {:>13} {:>13} {:>13} {:>8}",
            "run",
            "hash",
            "params",
            "tokens",
            "kept",
            "TFLOP",
            "train",
            "measure",
            "ablate",
            "disk"
        )?;
        for run in &self.runs {
            let Stages { train, measure, ablate } = run.cost.flop;
            let [seconds, measuring, ablating] =
                [run.seconds.train, run.seconds.measure, run.seconds.ablate].map(duration);
            writeln!(
                f,
                "{:<20} {:<8} {:>7} {:>8} {:>5} {:>9.1} {seconds:>13} {measuring:>13} {ablating:>13} {:>8}",
                run.name,
                run.hash,
                millions(run.cost.parameters as f64),
                millions(run.cost.tokens as f64),
                run.snapshots,
                (train + measure + ablate) / 1e12,
                bytes(run.cost.disk),
            )?;
        }
        let series: Vec<String> =
            self.series.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "\nmodels by series (a run can serve two): {}", series.join("; "))?;
        let rate = |rates: &FamilyRates| {
            let Stages { train, measure, ablate } = rates.flop_per_s;
            format!("{:.0}, {:.0}, {:.0}", train / 1e9, measure / 1e9, ablate / 1e9)
        };
        writeln!(
            f,
            "one job here reaches, in GFLOP/s of training, measuring and ablating: attention-only {}; with MLPs {}",
            rate(&self.rates.attention_only),
            rate(&self.rates.mlp)
        )?;
        write!(
            f,
            "{} runs, {} tokens, {:.0} TFLOP: about {} with {} at once, {} of memory, {} on disk",
            self.runs.len(),
            millions(self.tokens as f64),
            self.flop / 1e12,
            duration(self.seconds),
            self.jobs,
            bytes(self.memory),
            bytes(self.disk)
        )
    }
}

/// "6.0M", "10.5B"
fn millions(count: f64) -> String {
    if count < 1e9 { format!("{:.1}M", count / 1e6) } else { format!("{:.1}B", count / 1e9) }
}
