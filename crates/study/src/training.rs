//! One run, trained in its folder.

use induction_engine::Engine;
use induction_records::{Stage, StepRow};
use induction_train::{Continue, Observer, Outcome, train};

use crate::{
    Error,
    caller::{Caller, Progress, Seen, check},
    measure::Probe,
    stages::RunContext,
};

struct Watch<'a> {
    progress: Box<dyn Progress>,
    /// `None` where the data are too few for it.
    probe: Option<Probe>,
    /// What the probe saw at the last snapshot.
    seen: Seen,
    caller: &'a dyn Caller,
}

impl Observer for Watch<'_> {
    fn step(&mut self, metrics: &StepRow) -> Continue {
        let (loss, tokens_per_s) = (Some(metrics.loss), Some(metrics.tokens_per_s));
        let seen = &self.seen;
        self.progress.at(metrics.step, &|| Seen { loss, tokens_per_s, ..seen.clone() });
        if self.caller.signal().is_some() { Continue::Stop } else { Continue::Yes }
    }

    fn snapshot(&mut self, _: u64, engine: &dyn Engine) -> Result<(), induction_train::Error> {
        // A look that fails is no reason to stop a run; measuring will say why.
        self.seen =
            self.probe.as_ref().and_then(|probe| probe.look(engine).ok()).unwrap_or_default();
        Ok(())
    }

    fn note(&mut self, message: &str) {
        self.caller.note(message);
    }
}

/// Trains a run in its folder, or goes on where an earlier call stopped.
///
/// # Errors
/// See [`induction_train::train`]; [`Error::Interrupted`] after a signal, with the state saved.
pub fn run(context: &RunContext<'_>) -> Result<(), Error> {
    let RunContext { spec, source, run, caller, .. } = *context;
    let mut engine = context.engine()?;
    let progress = caller.begin(&spec.name, run, Stage::Training, spec.steps());
    let mut watch =
        Watch { progress, probe: Probe::few(spec, source).ok(), seen: Seen::default(), caller };
    let threads = rayon::current_num_threads();
    let outcome = train(spec, source, engine.as_mut(), threads, run, &mut watch);
    watch.progress.finish();
    if let Some(tokenizer) = source.tokenizer() {
        let path = run.join("tokenizer.json");
        if !path.exists() && run.is_dir() {
            tokenizer.save(&path)?;
        }
    }
    match outcome? {
        Outcome::Finished => Ok(()),
        Outcome::Stopped { .. } => check(caller),
    }
}
