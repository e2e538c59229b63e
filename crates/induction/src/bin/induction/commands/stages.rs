//! The stages of one run: `induction run`, `train`, `measure`, `explore`, `ablate`.

use std::path::PathBuf;

use induction::{
    Error,
    ablate::{ablate, last_effects},
    executor::{self, Part, Task},
    explore::explore,
    measure::measure,
    memory,
    records::RunSpec,
    slurm,
    source::Source,
    training,
};

use super::{Program, finished};
use crate::output::{print_line, show, tell, tell_path};

/// Train, measure and ablate one run, or go on with it: what a reproduction does of each.
#[derive(clap::Args)]
pub(crate) struct Run {
    /// The run's spec (docs/FORMATS.md shows one).
    pub(super) spec: PathBuf,
    /// The run's folder.
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Where prepared data are kept [default: OUT/data].
    #[arg(long)]
    data: Option<PathBuf>,
    /// Only this part of it; each needs those before it.
    #[arg(long, value_enum, default_value = "all")]
    stage: Part,
    /// Refuse another spec than the one of this content.
    #[arg(long, hide = true)]
    blake3: Option<String>,
}

impl Run {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        if let Some(expected) = &self.blake3 {
            slurm::check_spec(&self.spec, expected)?;
        }
        let Program { device, json, console } = program;
        let spec = RunSpec::read(&self.spec)?;
        memory::check(std::iter::once(&spec), *device, 1, rayon::current_num_threads())?;
        let data = self.data.clone().unwrap_or_else(|| self.out.join("data"));
        let source = Source::open(&mut spec.clone(), &data)?;
        source.notes().iter().for_each(|note| console.screen.note(note));
        let task = Task { spec, run: self.out.clone(), data };
        executor::run(&task, self.stage, *device, console)?;
        let what = if self.stage == Part::All { "" } else { ": its part" };
        let said = format!("{}{what} is done (on {})", self.out.display(), device.promise());
        tell(*json, &serde_json::json!({"run": self.out}), &said)
    }
}

/// Train one run, or go on with it.
#[derive(clap::Args)]
pub(crate) struct Train {
    /// The run's spec (docs/FORMATS.md shows one).
    pub(super) spec: PathBuf,
    /// The run's folder.
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Where prepared data are kept [default: OUT/data].
    #[arg(long)]
    data: Option<PathBuf>,
}

impl Train {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let Self { out, .. } = self;
        let mut spec = RunSpec::read(&self.spec)?;
        memory::check(std::iter::once(&spec), program.device, 1, rayon::current_num_threads())?;
        let source = Source::open(&mut spec, self.data.as_ref().unwrap_or(&out.join("data")))?;
        source.notes().iter().for_each(|note| program.console.screen.note(note));
        training::run(&program.context(&spec, &source, out))?;
        let (steps, tokens) = (spec.steps(), spec.steps() * spec.tokens_per_step());
        let on = program.device.promise();
        let said = format!("{} trained: {steps} steps in {} (on {on})", spec.name, out.display());
        tell(
            program.json,
            &serde_json::json!({"run": out, "steps": steps, "tokens": tokens}),
            &said,
        )
    }
}

/// Measure every snapshot of a run that is not measured yet.
#[derive(clap::Args)]
pub(crate) struct Measure {
    /// The run's folder.
    pub(super) run: PathBuf,
    /// Where prepared data are kept [default: RUN/data, or data/ beside a reproduction's runs/].
    #[arg(long)]
    data: Option<PathBuf>,
}

impl Measure {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let (spec, source) = finished(&self.run, self.data.as_deref())?;
        measure(&program.context(&spec, &source, &self.run))?;
        tell_path(program.json, "measurements", &self.run.join("measurements"))
    }
}

/// Follow a text over the snapshots of a run, and keep what its heads attend to on it and on
/// argument 4's prompts.
#[derive(clap::Args)]
pub(crate) struct Explore {
    /// The run's folder.
    pub(super) run: PathBuf,
    /// Where prepared data are kept [default: RUN/data, or data/ beside a reproduction's runs/].
    #[arg(long)]
    data: Option<PathBuf>,
    /// The text [default: the last one, else a held-out example].
    #[arg(long)]
    text: Option<PathBuf>,
}

impl Explore {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let (spec, source) = finished(&self.run, self.data.as_deref())?;
        explore(&program.context(&spec, &source, &self.run), self.text.as_deref())?;
        tell_path(program.json, "measurements", &self.run.join("measurements"))
    }
}

/// Remove every head of the snapshots that a run's spec says (evaluation.ablation_every), and put
/// the last one through the other ablations.
#[derive(clap::Args)]
pub(crate) struct Ablate {
    /// The run's folder.
    pub(super) run: PathBuf,
    /// Where prepared data are kept [default: RUN/data, or data/ beside a reproduction's runs/].
    #[arg(long)]
    data: Option<PathBuf>,
}

impl Ablate {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let (spec, source) = finished(&self.run, self.data.as_deref())?;
        let context = program.context(&spec, &source, &self.run);
        // Which heads are induction heads is read off the measurements.
        measure(&context)?;
        ablate(&context)?;
        let effects = last_effects(&self.run)?;
        if program.json {
            return show(
                &serde_json::json!({"measurements": self.run.join("measurements"), "heads": effects}),
            );
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
}
