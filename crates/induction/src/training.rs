//! One run, trained in its folder.

use std::path::Path;

use induction_train::{Continue, Observer, Outcome, RunSpec, StepMetrics, train};

use crate::{
    Error,
    device::Device,
    interrupt::Interrupt,
    progress::{Progress, Screen},
    source::Source,
};

struct Watch<'a> {
    progress: Progress,
    interrupt: &'a Interrupt,
}

impl Observer for Watch<'_> {
    fn step(&mut self, metrics: &StepMetrics) -> Continue {
        self.progress.at(metrics.step, || format!("loss {:.3}  {:.0} tokens/s", metrics.loss, metrics.tokens_per_s));
        if self.interrupt.signal().is_some() { Continue::Stop } else { Continue::Yes }
    }

    fn note(&mut self, message: &str) {
        self.progress.note(message);
    }
}

/// Trains a resolved spec (see [`Source::open`]) in the folder `run`, or goes on where an earlier call stopped.
///
/// # Errors
/// See [`induction_train::train`]; [`Error::Interrupted`] after a signal, with the state saved.
pub fn run(
    spec: &RunSpec,
    source: &Source,
    run: &Path,
    device: Device,
    interrupt: &Interrupt,
    screen: &Screen,
) -> Result<(), Error> {
    let mut engine = device.open(&spec.model, &spec.model.init_params(spec.seed)?)?;
    let progress = Progress::new(screen, &format!("{}: training", spec.name), spec.steps());
    let mut watch = Watch { progress, interrupt };
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
        Outcome::Stopped { .. } => interrupt.check(),
    }
}
