//! Where the runs of a plan are worked on.
//!
//! A [`Task`] is one run from its spec to its last table, [`run`] works it off wherever it is
//! called, and is idempotent: whatever killed it, the next call goes on from what is on disk. So an
//! [`Executor`] has only to see that each task is run somewhere, and to say which failed.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use induction_records::{RunSpec, Stage};
use induction_study::{
    Error as StudyError, ablate::ablate, device::Device, explore::explore, history::timed,
    measure::measure, source::Source, stages::RunContext, training,
};
use induction_train::{is_finished, thin_weights};

use crate::{
    Error,
    progress::Console,
    status::{State, Status},
};

/// One run, and where it belongs.
#[derive(Clone, Debug)]
pub struct Task {
    /// The run.
    pub spec: RunSpec,
    /// Its folder.
    pub run: PathBuf,
    /// The folder of prepared data, shared with others.
    pub data: PathBuf,
}

/// How far a task is taken: a scheduler may give each part a machine of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Training alone.
    Train,
    /// Measuring a trained run.
    Measure,
    /// Removing heads of a measured run, exploring and thinning it.
    Ablate,
    /// All of it.
    #[default]
    All,
}

/// A task that ended with an error.
#[derive(Debug)]
pub struct Failure {
    /// The run's name.
    pub name: String,
    /// What happened.
    pub error: Error,
}

/// Gets tasks done.
pub trait Executor {
    /// Runs every task, beginning with the first; a failure stops no other. `done` hears of each
    /// that succeeded, from whatever thread. Returns the failures.
    fn execute(&self, tasks: &[Task], done: &(dyn Fn(&Task) + Sync)) -> Vec<Failure>;
}

/// This process: `jobs` tasks at once, each on a pool of its own.
pub struct Local<'a> {
    /// Tasks at once.
    pub jobs: usize,
    /// Threads of each.
    pub threads_per_job: usize,
    /// What the models run on.
    pub device: Device,
    /// Who they work for.
    pub console: &'a Console,
}

impl Executor for Local<'_> {
    fn execute(&self, tasks: &[Task], done: &(dyn Fn(&Task) + Sync)) -> Vec<Failure> {
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        let work = || {
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                match run(task, Part::All, self.device, self.console) {
                    Ok(()) => done(task),
                    Err(error) => {
                        let name = task.spec.name.clone();
                        if error.interrupted().is_none() {
                            self.console.screen.note(&format!("{name} failed: {error}"));
                        }
                        failures
                            .lock()
                            .expect("no job panics while it holds this")
                            .push(Failure { name, error });
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(tasks.len()) {
                scope.spawn(|| {
                    match rayon::ThreadPoolBuilder::new().num_threads(self.threads_per_job).build()
                    {
                        // The kernels of a job use the pool that they are called in.
                        Ok(pool) => pool.install(work),
                        Err(_) => work(),
                    }
                });
            }
        });
        failures.into_inner().expect("no job panicked")
    }
}

/// Trains, measures, ablates, explores and thins one run, or does a part of that, as far as it is
/// not done; its folder's `status.json` says how it went.
///
/// # Errors
/// Any stage's, a part that another one must come before, [`StudyError::Interrupted`] after a
/// signal; what is done stays done.
pub fn run(task: &Task, part: Part, device: Device, console: &Console) -> Result<(), Error> {
    console.interrupt.check()?;
    let takes = |wanted: Part| part == Part::All || part == wanted;
    let mut spec = task.spec.clone();
    let mut stages = || -> Result<(), Error> {
        let source = Source::open(&mut spec, &task.data)?;
        let run = &task.run;
        let trained = is_finished(&spec, run)?;
        let context = RunContext { spec: &spec, source: &source, run, device, caller: console };
        if takes(Part::Train) {
            // The report tells of this line, so a second call must not add one.
            if trained {
                training::run(&context)?;
            } else {
                timed(run, Stage::Training, device, || training::run(&context))?;
            }
        } else if !trained {
            return Err(Error::unfinished(run));
        }
        if takes(Part::Measure) {
            timed(run, Stage::Measuring, device, || measure(&context))?;
        }
        if takes(Part::Ablate) {
            timed(run, Stage::Ablating, device, || ablate(&context))?;
            timed(run, Stage::Exploring, device, || explore(&context, None))?;
            let _lease = context.lease()?;
            thin_weights(&spec, run)?;
        }
        Ok(())
    };
    let result = stages();
    let steps = spec.steps();
    match &result {
        Ok(()) => {
            // A run that waits for its next part has lost nothing.
            let state = if takes(Part::Ablate) { State::Done } else { State::Waiting };
            Status {
                seen: induction_study::measure::last_seen(&task.run),
                ..Status::new(state, steps, steps)
            }
            .write(&task.run);
        }
        // The last state stands: it says where the run was stopped.
        Err(error) if error.interrupted().is_some() => {}
        // Another process works on it and writes its own.
        Err(Error::Study(StudyError::Train(
            induction_train::Error::Locked { .. } | induction_train::Error::Lost(_),
        ))) => {}
        Err(error) => {
            let reason = Some(error.to_string());
            Status { reason, ..Status::new(State::Failed, 0, steps) }.write(&task.run);
        }
    }
    result
}
