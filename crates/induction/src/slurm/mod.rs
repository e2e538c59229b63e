//! A plan's runs as Slurm jobs: an array for each stage, a task for each run (docs/ARCHITECTURE.md:
//! decisions).
//!
//! Nothing here works on a run. [`submit`] prepares what [`crate::executor`] needs, writes scripts
//! that call `induction run`, and hands them to `sbatch`; from then on Slurm starts tasks, and
//! starts them again, and each goes on from what is on disk.

mod client;
mod script;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use induction_files::{Lease, LeaseError};
use induction_records::{Manifest, Study};
use induction_study::{ablate, device::Device, explore, measure, source::Source};
use induction_train::is_finished;
use serde::{Deserialize, Serialize};

use self::client::Queued;
pub use self::script::quoted;
use crate::{Error, executor::Task, progress::Screen, reproduce::prepare};

/// What is asked of Slurm for each task; what is left out is the cluster's default.
#[derive(Clone, Debug)]
pub struct Options {
    /// The partition.
    pub partition: Option<String>,
    /// Generic resources of training, such as `gpu:1`; later stages run on CPUs.
    pub gres: Option<String>,
    /// The time limit of a task, as `sbatch` takes it.
    pub time: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// Tasks of an array at once.
    pub array_limit: Option<u16>,
    /// Cores of a task, and so its threads.
    pub cpus_per_task: u16,
    /// Seconds before its time limit at which a task is told to save its state.
    pub notice: u16,
    /// What models are trained on.
    pub device: Device,
    /// Whether matrix products of training are taken in bfloat16.
    pub bf16: bool,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Training.
    Train,
    /// Measuring snapshots.
    Measure,
    /// Removing heads, exploring, thinning.
    Ablate,
    /// The report.
    Report,
}

/// The stages of a run; the report is of all.
const OF_RUNS: [Stage; 3] = [Stage::Train, Stage::Measure, Stage::Ablate];

impl Stage {
    /// As in the names of jobs, scripts and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Measure => "measure",
            Self::Ablate => "ablate",
            Self::Report => "report",
        }
    }
}

/// A job of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Unlike that of any job of another sweep.
    pub name: String,
    /// What it does.
    pub stage: Stage,
    /// Its tasks: places in the list of runs. Empty for the report.
    pub tasks: Vec<usize>,
    /// The names of the jobs that must end well before it; with tasks, task by task.
    pub after: Vec<String>,
    /// Slurm's number, once it is submitted.
    pub id: Option<String>,
}

/// `jobs.json`: what was submitted last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    /// Every run of the plan, in its order.
    pub runs: Vec<String>,
    /// Every job, in the order of submission.
    pub jobs: Vec<Job>,
}

impl Jobs {
    fn is_complete(&self) -> bool {
        self.jobs.iter().all(|job| job.id.is_some())
    }
}

/// The folder of a sweep's scripts and logs.
#[derive(Clone, Debug)]
struct Sweep {
    /// The reproduction's folder.
    out: PathBuf,
    /// In every job's name.
    id: String,
}

impl Sweep {
    /// The sweep of a folder, if there is one.
    fn find(out: &Path) -> Option<Self> {
        let id = fs::read_to_string(out.join("slurm/token")).ok()?.trim().to_string();
        let valid = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| Self { out: out.to_path_buf(), id })
    }

    /// The one that is there, else a new one.
    fn open(out: &Path) -> Result<Self, Error> {
        if let Some(found) = Self::find(out) {
            return Ok(found);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let unique = format!("{} {} {now}", out.display(), std::process::id());
        let id = blake3::hash(unique.as_bytes()).to_hex()[..12].to_string();
        let sweep = Self { out: out.to_path_buf(), id };
        sweep.write("token", sweep.id.as_bytes())?;
        Ok(sweep)
    }

    fn folder(&self) -> PathBuf {
        self.out.join("slurm")
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.folder().join(name);
        induction_files::write_atomic(&path, bytes).map_err(Error::io(path))
    }

    fn read_jobs(&self) -> Option<Jobs> {
        serde_json::from_slice(&fs::read(self.folder().join("jobs.json")).ok()?).ok()
    }

    fn write_jobs(&self, jobs: &Jobs) -> Result<(), Error> {
        self.write("jobs.json", &serde_json::to_vec_pretty(jobs).expect("plain structs serialize"))
    }

    /// The name of a stage's job; a stage has one for each stage that a run may still have to begin
    /// with.
    fn name(&self, first: Stage, stage: Stage) -> String {
        let from = if first == Stage::Train || stage == Stage::Report {
            String::new()
        } else {
            format!("-of-{}", first.name())
        };
        format!("induction-{}-{}{from}", self.id, stage.name())
    }

    /// Every name that a job of this sweep can have.
    fn names(&self) -> Vec<String> {
        let mut names = vec![self.name(Stage::Train, Stage::Report)];
        for first in OF_RUNS {
            names.extend(
                OF_RUNS
                    .into_iter()
                    .filter(|stage| *stage >= first)
                    .map(|stage| self.name(first, stage)),
            );
        }
        names
    }

    fn queue(&self) -> Result<Vec<Queued>, Error> {
        client::queue(&self.names())
    }
}

/// Jobs that were submitted, or the commands that would do it.
#[derive(Clone, Debug, Serialize)]
pub struct Submitted {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The folder of their scripts and logs.
    pub folder: PathBuf,
    /// Instead of submitting: lines for a shell that do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// Prepares a plan in `out`, as [`crate::reproduce::reproduce`] does, and submits what is not done
/// yet; with `print`, only writes the scripts. Called again after a failure it submits the rest,
/// and nothing twice.
///
/// # Errors
/// [`Error::Later`] while jobs of this folder are in the queue or Slurm does not answer; no Slurm
/// here, an option that it refuses, a plan with more runs than an array may have tasks; those of
/// [`prepare`].
pub fn submit(
    manifest: &Manifest,
    study: Option<&Study>,
    out: &Path,
    options: &Options,
    print: bool,
    screen: &Screen,
) -> Result<Submitted, Error> {
    manifest.check()?;
    if !print {
        client::check()?;
        let most = client::max_array_size()?;
        if let Some(most) = most.filter(|most| manifest.runs.len() > *most) {
            return Err(Error::Input(format!(
                "the plan has {} runs, an array here at most {most} tasks (MaxArraySize): split its manifest, a folder for each part",
                manifest.runs.len()
            )));
        }
    }
    let folder = out.join("slurm");
    for path in [folder.join("logs"), folder.join("specs")] {
        induction_files::make_folders(&path).map_err(Error::io(path))?;
    }
    let out = out.canonicalize().map_err(Error::io(out))?;
    let folder = out.join("slurm");
    // Two submissions at once would each find nothing in the queue.
    let _lease =
        Lease::take(&folder, &mut |note| screen.note(note)).map_err(|error| match error {
            LeaseError::Held { .. } => Error::Later(format!("{error} (it submits this sweep)")),
            other => other.into(),
        })?;
    let sweep = Sweep::open(&out)?;
    let before = sweep.read_jobs().filter(|jobs| !jobs.is_complete());
    let active = if print { Vec::new() } else { active(sweep.queue()?) };
    let mut jobs = match (active.is_empty(), before) {
        // A submission that stopped in the middle.
        (false, Some(mut jobs)) => {
            for job in jobs.jobs.iter_mut().filter(|job| job.id.is_none()) {
                // The answer to its submission may have been lost.
                job.id = active
                    .iter()
                    .find(|queued| queued.name == job.name)
                    .map(|queued| queued.id.clone());
            }
            jobs
        }
        (false, None) => {
            let (words, name) = (in_words(&by_job(&active)), quoted(utf8(&out)?));
            return Err(Error::Later(format!(
                "{name}: its jobs are in the queue already: {words}. Look with `induction status {name}`, stop them with `induction cancel {name}`"
            )));
        }
        (true, _) => {
            let tasks = prepare(manifest, study, &out, screen)?;
            let jobs = plan(&sweep, &tasks)?;
            write_scripts(&sweep, &tasks, options)?;
            jobs
        }
    };
    let total = jobs.jobs.len();
    let mut commands = Vec::new();
    for at in 0..total {
        let job = &jobs.jobs[at];
        if job.id.is_some() {
            continue;
        }
        if print {
            commands.push(command_line(&sweep, job, options)?);
            continue;
        }
        // Written first: if this process is killed now, the next one knows what was meant to be
        // submitted.
        sweep.write_jobs(&jobs)?;
        let ids: BTreeMap<&str, &str> = jobs
            .jobs
            .iter()
            .filter_map(|job| Some((job.name.as_str(), job.id.as_deref()?)))
            .collect();
        let after = job
            .after
            .iter()
            .filter_map(|name| ids.get(name.as_str()).map(|id| (*id).to_string()))
            .collect();
        let id =
            client::submit(&arguments(&sweep, job, options, after)?, options).map_err(|error| {
                let so_far = if at == 0 {
                    String::new()
                } else {
                    format!(" ({at} of {total} jobs are submitted)")
                };
                match error {
                    Error::Later(reason) => Error::Later(reason + &so_far),
                    Error::Input(reason) => Error::Input(reason + &so_far),
                    other => other,
                }
            })?;
        jobs.jobs[at].id = Some(id);
    }
    if !print {
        sweep.write_jobs(&jobs)?;
    }
    Ok(Submitted { jobs: jobs.jobs, folder, commands })
}

fn active(queue: Vec<Queued>) -> Vec<Queued> {
    queue.into_iter().filter(|queued| !queued.ended()).collect()
}

fn by_job(queued: &[Queued]) -> Vec<ActiveJob> {
    let mut jobs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for task in queued {
        *jobs.entry((&task.id, &task.name)).or_default() += usize::from(task.task.is_some());
    }
    let job = |((id, name), tasks): ((&str, &str), usize)| ActiveJob {
        id: id.into(),
        name: name.into(),
        tasks,
    };
    jobs.into_iter().map(job).collect()
}

/// "12 (3 tasks of induction-x-train), 15 (induction-x-report)"; nothing of none.
pub fn in_words(jobs: &[ActiveJob]) -> String {
    let words = jobs.iter().map(|ActiveJob { id, name, tasks }| match tasks {
        0 => format!("{id} ({name})"),
        1 => format!("{id} (1 task of {name})"),
        n => format!("{id} ({n} tasks of {name})"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The jobs that get the tasks done, from the first stage that each of them still needs, and the
/// report.
fn plan(sweep: &Sweep, tasks: &[Task]) -> Result<Jobs, Error> {
    let mut by_first: BTreeMap<Stage, Vec<usize>> = BTreeMap::new();
    for (at, task) in tasks.iter().enumerate() {
        if let Some(first) = first_missing(task)? {
            by_first.entry(first).or_default().push(at);
        }
    }
    let mut jobs: Vec<Job> = Vec::new();
    let mut last = Vec::new();
    for (first, tasks) in by_first {
        let mut before: Option<String> = None;
        for stage in OF_RUNS.into_iter().filter(|stage| *stage >= first) {
            let name = sweep.name(first, stage);
            jobs.push(Job {
                name: name.clone(),
                stage,
                tasks: tasks.clone(),
                after: before.into_iter().collect(),
                id: None,
            });
            before = Some(name);
        }
        last.extend(before);
    }
    let name = sweep.name(Stage::Train, Stage::Report);
    jobs.push(Job { name, stage: Stage::Report, tasks: Vec::new(), after: last, id: None });
    Ok(Jobs { runs: tasks.iter().map(|task| task.spec.name.clone()).collect(), jobs })
}

/// The stage that a run goes on with.
fn first_missing(task: &Task) -> Result<Option<Stage>, Error> {
    let engine = Device::Cpu.name();
    let Task { spec, run, data } = task;
    if !is_finished(spec, run)? {
        return Ok(Some(Stage::Train));
    }
    if !measure::is_done(spec, run, &engine) {
        return Ok(Some(Stage::Measure));
    }
    let source = Source::open(&mut spec.clone(), data)?;
    let done = ablate::is_done(spec, run, &engine) && explore::is_done(spec, &source, run, &engine);
    Ok((!done).then_some(Stage::Ablate))
}

/// The specs, resolved, and a script for each stage.
fn write_scripts(sweep: &Sweep, tasks: &[Task], options: &Options) -> Result<(), Error> {
    let mut runs = Vec::new();
    for Task { spec, .. } in tasks {
        let text = spec.to_toml();
        sweep.write(&format!("specs/{}.toml", spec.name), text.as_bytes())?;
        runs.push((spec.name.clone(), blake3::hash(text.as_bytes()).to_hex().to_string()));
    }
    let program = std::env::current_exe().map_err(Error::io("the path of this program"))?;
    let here = std::env::current_dir().map_err(Error::io("the current folder"))?;
    let (program, out, here) = (utf8(&program)?, utf8(&sweep.out)?, utf8(&here)?);
    for stage in OF_RUNS.into_iter().chain([Stage::Report]) {
        let content =
            script::Content { stage, options, program, out, here, sweep: &sweep.id, runs: &runs };
        sweep.write(&script_name(stage), content.script().as_bytes())?;
    }
    Ok(())
}

fn script_name(stage: Stage) -> String {
    format!("{}.sh", stage.name())
}

fn utf8(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| {
        Error::Input(format!(
            "{}: the name of this path is not UTF-8 text, which scripts need; rename it",
            path.display()
        ))
    })
}

/// What `sbatch` is called with, but for the dependency.
fn arguments(
    sweep: &Sweep,
    job: &Job,
    options: &Options,
    after: Vec<String>,
) -> Result<Vec<String>, Error> {
    let folder = sweep.folder();
    let folder = utf8(&folder)?;
    if folder.contains('\\') {
        return Err(Error::Input(format!(
            "{folder}: Slurm cannot write logs below a folder with a backslash; rename it"
        )));
    }
    let log =
        if job.stage == Stage::Report { "report" } else { &format!("{}-%a", job.stage.name()) };
    let mut all: Vec<String> = [
        "--parsable".to_string(),
        format!("--job-name={}", job.name),
        // In a pattern %% is a percent sign.
        format!("--output={}/logs/{log}.log", folder.replace('%', "%%")),
        "--open-mode=append".to_string(),
        "--requeue".to_string(),
        "--kill-on-invalid-dep=yes".to_string(),
        format!("--signal=B:USR1@{}", options.notice),
        "--export=ALL".to_string(),
        // The script changes it, and says so if it cannot.
        "--chdir=/".to_string(),
        format!("--cpus-per-task={}", options.cpus_per_task),
    ]
    .into();
    if !job.tasks.is_empty() {
        let limit = options.array_limit.map_or_else(String::new, |limit| format!("%{limit}"));
        all.push(format!("--array={}{limit}", ranges(&job.tasks)));
    }
    let gres = options.gres.as_ref().filter(|_| job.stage == Stage::Train);
    let given = [
        ("--partition", options.partition.as_ref()),
        ("--gres", gres),
        ("--time", options.time.as_ref()),
        ("--account", options.account.as_ref()),
    ];
    all.extend(given.into_iter().filter_map(|(flag, value)| Some(format!("{flag}={}", value?))));
    if !after.is_empty() {
        // The report waits for all tasks, a task for the same run's.
        let kind = if job.stage == Stage::Report { "afterok" } else { "aftercorr" };
        all.push(format!("--dependency={kind}:{}", after.join(":")));
    }
    all.push(format!("{folder}/{}", script_name(job.stage)));
    Ok(all)
}

/// A line for a shell that submits a job and keeps its number in a variable for those that wait for
/// it.
fn command_line(sweep: &Sweep, job: &Job, options: &Options) -> Result<String, Error> {
    let prefix = format!("induction-{}-", sweep.id);
    let variable = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).replace('-', "_");
    // With several clusters the cluster's name follows the number.
    let after = job.after.iter().map(|name| format!("${{{}%%;*}}", variable(name))).collect();
    let words: Vec<String> =
        arguments(sweep, job, options, after)?
            .iter()
            .map(|word| {
                if word.starts_with("--dependency=") { format!("\"{word}\"") } else { quoted(word) }
            })
            .collect();
    Ok(format!("{}=$(sbatch {})", variable(&job.name), words.join(" ")))
}

/// "0-2,5"
fn ranges(tasks: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &task in tasks {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == task => *end = task,
            _ => ranges.push((task, task)),
        }
    }
    let word = |(begin, end): &(usize, usize)| {
        if begin == end { begin.to_string() } else { format!("{begin}-{end}") }
    };
    ranges.iter().map(word).collect::<Vec<_>>().join(",")
}

/// Whether a spec's file is the one that was submitted: a node may have another folder of that
/// name.
///
/// # Errors
/// A file that cannot be read, or has another content.
pub fn check_spec(path: &Path, blake3: &str) -> Result<(), Error> {
    let found = fs::read(path).map_err(Error::io(path))?;
    if blake3::hash(&found).to_hex().as_str() == blake3 {
        return Ok(());
    }
    Err(Error::Input(format!(
        "{}: not the spec that was submitted: the folder must be on a file system that all nodes share",
        path.display()
    )))
}

/// What Slurm says of each run of a folder, in words, by the run's name; empty if it says nothing,
/// or was never asked.
pub fn states(out: &Path) -> BTreeMap<String, String> {
    let Some(sweep) = out.canonicalize().ok().and_then(|out| Sweep::find(&out)) else {
        return BTreeMap::new();
    };
    let Some(jobs) = sweep.read_jobs() else { return BTreeMap::new() };
    let mut known =
        if client::check().is_ok() { sweep.queue().unwrap_or_default() } else { Vec::new() };
    let forgotten: Vec<String> = jobs
        .jobs
        .iter()
        .filter_map(|job| job.id.clone())
        .filter(|id| !known.iter().any(|queued| queued.id == *id))
        .collect();
    if !forgotten.is_empty() {
        known.extend(client::accounted(&forgotten));
    }
    let mut states = BTreeMap::new();
    for job in &jobs.jobs {
        for &task in &job.tasks {
            let Some(run) = jobs.runs.get(task) else { continue };
            let Some(found) =
                known.iter().find(|q| Some(&q.id) == job.id.as_ref() && q.task == Some(task))
            else {
                continue;
            };
            // Stages come in their order; the first that has not ended well is where the run is.
            let earlier: &mut Option<(bool, String)> = states.entry(run.clone()).or_default();
            if earlier.as_ref().is_none_or(|(completed, _)| *completed) {
                let words =
                    format!("{} {}_{task} {}", job.stage.name(), found.id, found.describe());
                *earlier = Some((found.completed(), words));
            }
        }
    }
    states.into_iter().filter_map(|(run, state)| Some((run, state?.1))).collect()
}

/// A job that has not ended.
#[derive(Clone, Debug, Serialize)]
pub struct ActiveJob {
    /// Slurm's number.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its tasks that have not ended; 0: it is no array.
    pub tasks: usize,
}

/// Cancels what of a folder's jobs has not ended; which jobs those were.
///
/// # Errors
/// A folder that nothing was ever submitted from, no Slurm here, or one that does not answer.
pub fn cancel(out: &Path) -> Result<Vec<ActiveJob>, Error> {
    let path = out.canonicalize().map_err(Error::io(out))?;
    let Some(sweep) = Sweep::find(&path) else {
        return Err(Error::Input(format!(
            "{}: nothing was submitted from here (there is no slurm/token)",
            out.display()
        )));
    };
    client::check()?;
    let active = by_job(&active(sweep.queue()?));
    if !active.is_empty() {
        client::cancel(&active.iter().map(|job| job.id.clone()).collect::<Vec<_>>())?;
    }
    Ok(active)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_written_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[3]), "3");
    }

    #[test]
    fn every_name_of_a_plan_is_known() {
        let sweep = Sweep { out: "/out".into(), id: "abc".into() };
        let names = sweep.names();
        assert_eq!(names.len(), 7);
        assert!(names.contains(&"induction-abc-measure-of-measure".to_string()), "{names:?}");
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 7);
    }
}
