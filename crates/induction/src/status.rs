//! How far the runs of a reproduction are, from what they leave on disk: works while they run, and
//! after.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use induction_records::{MANIFEST, Manifest, RunSpec, Stage};
use induction_study::Seen;

use crate::{Error, plan::runs_of};

/// What becomes of a run: `stage` in its `status.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    Waiting,
    /// A stage is in work.
    Working(Stage),
    /// All done.
    Done,
    /// Ended by an error; tried again by the next call.
    Failed,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Working(Stage::Training),
        Self::Working(Stage::Measuring),
        Self::Working(Stage::Ablating),
        Self::Working(Stage::Exploring),
        Self::Working(Stage::Sampling),
        Self::Done,
        Self::Failed,
    ];

    /// As files and tables have it.
    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Working(stage) => stage.word(),
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl Serialize for State {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        let known = Self::ALL.into_iter().find(|state| state.word() == word);
        known.ok_or_else(|| serde::de::Error::custom(format!("{word:?} is no state of a run")))
    }
}

/// A run's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// What it is doing.
    pub stage: State,
    /// Steps or snapshots done.
    pub at: u64,
    /// Of how many.
    pub of: u64,
    /// Seconds that this stage will still take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
    /// What was seen last.
    #[serde(default)]
    pub seen: Seen,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How often a [`Heartbeat`] gives a sign of life.
const BEAT: Duration = Duration::from_secs(20);

/// A run without one for so long is not being worked on.
const SILENT: Duration = Duration::from_secs(60);

/// Keeps the time of a run's `status.json` recent for as long as it lives, however long one step of
/// the work takes.
#[derive(Debug)]
pub struct Heartbeat {
    _stop: Sender<()>,
}

impl Heartbeat {
    /// Begins, for the run in a folder. A disk that refuses is no reason to stop the work.
    pub fn new(run: &Path) -> Self {
        let (stop, stopped) = channel();
        let path = run.join(FILE);
        let beat = move || {
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                let _ = fs::File::options()
                    .append(true)
                    .open(&path)
                    .and_then(|f| f.set_modified(SystemTime::now()));
            }
        };
        let _ = std::thread::Builder::new().name("heartbeat".into()).spawn(beat);
        Self { _stop: stop }
    }
}

impl Status {
    /// A state of which no more is known.
    pub fn new(stage: State, at: u64, of: u64) -> Self {
        Self { stage, at, of, seconds_left: None, seen: Seen::default(), reason: None }
    }

    /// Writes it into a run's folder. It is for people to look at: a disk that refuses it is no
    /// reason to stop a run, and will refuse what matters, too.
    pub fn write(&self, run: &Path) {
        if run.is_dir() {
            let text = serde_json::to_vec(self).expect("plain structs serialize");
            let _ = induction_files::write_atomic(&run.join(FILE), &text);
        }
    }

    fn read(run: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(run.join(FILE)).ok()?).ok()
    }
}

const FILE: &str = "status.json";

/// A line of `induction status`.
#[derive(Clone, Debug, Serialize)]
pub struct RunStatus {
    /// The run's name.
    pub name: String,
    /// Its state; waiting, if it left none.
    pub status: Status,
    /// Whether somebody works on it.
    pub live: bool,
    /// What Slurm says of it, if it was submitted there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slurm: Option<String>,
}

/// The state of every run of a reproduction, in the order of its manifest; without one, of the runs
/// that are there.
///
/// # Errors
/// A folder without `runs/`, a manifest or a spec that cannot be read.
pub fn status(dir: &Path) -> Result<Vec<RunStatus>, Error> {
    let manifest = dir.join(MANIFEST);
    let runs: Vec<(PathBuf, RunSpec)> = if manifest.exists() {
        let specs = Manifest::read(&manifest)?.runs.into_iter().map(|row| row.spec);
        specs.map(|spec| (dir.join("runs").join(&spec.name), spec)).collect()
    } else {
        let read = |run: PathBuf| {
            let spec = RunSpec::read(&run.join("spec.toml"))?;
            Ok((run, spec))
        };
        runs_of(dir)?.into_iter().map(read).collect::<Result<_, Error>>()?
    };
    let mut slurm = crate::slurm::states(dir);
    let of = |(run, spec): (PathBuf, RunSpec)| {
        let status =
            Status::read(&run).unwrap_or_else(|| Status::new(State::Waiting, 0, spec.steps()));
        let works = matches!(status.stage, State::Working(_));
        let live = works && is_fresh(&run.join(FILE));
        let slurm = slurm.remove(&spec.name);
        RunStatus { name: spec.name, status, live, slurm }
    };
    Ok(runs.into_iter().map(of).collect())
}

/// Whether a file was touched of late; one from the future - clocks of two machines differ - was.
fn is_fresh(path: &Path) -> bool {
    let touched = fs::metadata(path).and_then(|meta| meta.modified());
    touched.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < SILENT)
}

/// The states as a table for a terminal.
pub fn table(runs: &[RunStatus]) -> String {
    let mut text = format!("{:<22} {:<10} {:>13} {:>8}  last seen\n", "run", "stage", "at", "left");
    for RunStatus { name, status, live, slurm } in runs {
        let stage = match (status.stage, live) {
            (State::Working(_), false) => "stopped",
            (state, _) => state.word(),
        };
        let at = format!("{}/{}", status.at, status.of);
        let left = status.seconds_left.filter(|_| *live).map_or(String::new(), duration);
        // A reason of several lines is a row all the same.
        let one_line = |reason: &String| reason.split_whitespace().collect::<Vec<_>>().join(" ");
        let seen = status.reason.as_ref().map_or_else(|| status.seen.to_string(), one_line);
        text += format!("{name:<22} {stage:<10} {at:>13} {left:>8}  {seen}").trim_end();
        text.push('\n');
        if let Some(slurm) = slurm {
            text += &format!("{:22}   slurm: {slurm}\n", "");
        }
    }
    let count = |stage: State| runs.iter().filter(|run| run.status.stage == stage).count();
    let (done, failed) = (count(State::Done), count(State::Failed));
    text + &format!("{done} of {} done, {failed} failed", runs.len())
}

/// "1 h 05 min", "4 min 10 s", "12 s"
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!([12.4, 250.0, 3900.0].map(duration), ["12 s", "4 min 10 s", "1 h 05 min"]);
    }

    #[test]
    fn a_state_comes_back_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut status = Status::new(State::Failed, 3, 7);
        status.reason = Some("the disk is full".into());
        status.seen.icl_score = Some(-0.25);
        status.write(folder.path());
        assert_eq!(Status::read(folder.path()), Some(status.clone()));
        let shown = table(&[RunStatus { name: "2L".into(), status, live: false, slurm: None }]);
        assert!(
            shown.contains("failed")
                && shown.contains("the disk is full")
                && shown.contains("1 failed"),
            "{shown}"
        );
    }

    /// A run whose worker was killed is not live for long; one in the middle of a long step is.
    #[test]
    fn liveness_is_the_age_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        Status::new(State::Working(Stage::Ablating), 0, 3).write(folder.path());
        let path = folder.path().join(FILE);
        assert!(is_fresh(&path));
        let aged = |seconds| {
            let at = SystemTime::now() - Duration::from_secs(seconds);
            fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
            is_fresh(&path)
        };
        assert!(aged(50) && !aged(70));
        assert!(!is_fresh(&folder.path().join("missing")));
        assert!(BEAT * 2 < SILENT);
    }
}
