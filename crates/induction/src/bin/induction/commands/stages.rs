//! The stages of one run: `induction run`, `train`, `measure`, `explore`, `ablate`, `llc`.

use std::path::PathBuf;

use induction::{
    Error,
    ablate::{ablate, last_effects},
    executor::{self, Part, Task},
    explore::explore,
    llc::{Sampling, llc},
    measure::measure,
    memory,
    records::{HeadId, LlcRow, RunSpec, read_rows},
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

/// Estimate the local learning coefficient of a run's snapshots, of the whole model and restricted
/// to heads, by stochastic gradient Langevin dynamics (Lau et al. 2023; Wang et al. 2024).
///
/// It depends on the constants below: compare estimates with the same ones alone. With others than
/// those of the table which is there, the table is made anew.
#[derive(clap::Args)]
pub(crate) struct Llc {
    /// The run's folder.
    pub(super) run: PathBuf,
    /// Where prepared data are kept [default: RUN/data, or data/ beside a reproduction's runs/].
    #[arg(long)]
    data: Option<PathBuf>,
    /// Heads beside the whole model, such as 1.0,1.3, or all.
    #[arg(long, value_delimiter = ',')]
    heads: Vec<String>,
    /// At every n-th kept snapshot, counted back from the last.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    every: u16,
    /// Training examples n whose mean loss is meant; the inverse temperature is n / ln n.
    #[arg(long, default_value_t = Sampling::default().examples)]
    examples: usize,
    /// Examples in each minibatch.
    #[arg(long, default_value_t = Sampling::default().batch)]
    batch: usize,
    /// How strongly weights are held near the model's (gamma).
    #[arg(long, default_value_t = Sampling::default().localization)]
    localization: f64,
    /// Step size (epsilon).
    #[arg(long, default_value_t = Sampling::default().step_size)]
    step_size: f64,
    /// Chains.
    #[arg(long, default_value_t = Sampling::default().chains)]
    chains: usize,
    /// First steps of each chain whose losses are not taken.
    #[arg(long, default_value_t = Sampling::default().burn_in)]
    burn_in: usize,
    /// Steps of each chain after them.
    #[arg(long, default_value_t = Sampling::default().draws)]
    draws: usize,
}

impl Llc {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let (spec, source) = finished(&self.run, self.data.as_deref())?;
        let sampling = Sampling {
            examples: self.examples,
            batch: self.batch,
            localization: self.localization,
            step_size: self.step_size,
            chains: self.chains,
            burn_in: self.burn_in,
            draws: self.draws,
        };
        let all = (0..spec.model.n_layers)
            .flat_map(|layer| (0..spec.model.n_heads).map(move |head| HeadId { layer, head }));
        let heads: Vec<HeadId> = match self.heads.as_slice() {
            [word] if word == "all" => all.collect(),
            words => words.iter().map(|word| head(word)).collect::<Result<_, _>>()?,
        };
        llc(
            &program.context(&spec, &source, &self.run),
            &sampling,
            &heads,
            usize::from(self.every),
        )?;
        let rows: Vec<LlcRow> = read_rows(&self.run.join("measurements"))?;
        let last = rows.iter().map(|row| row.step).max();
        let last: Vec<&LlcRow> = rows.iter().filter(|row| Some(row.step) == last).collect();
        if program.json {
            return show(
                &serde_json::json!({"measurements": self.run.join("measurements"), "last": last}),
            );
        }
        let mut text = format!(
            "local learning coefficients of the last snapshot; all are in {}\nof           llc    stderr     drift    stderr\n",
            self.run.join("measurements").join("llc.jsonl").display()
        );
        for row in last {
            let of = row.of().map_or_else(|| "model".to_string(), |head| head.to_string());
            let number =
                |value: Option<f64>| value.map_or_else(|| "-".to_string(), |x| format!("{x:.2}"));
            text += &format!(
                "{of:<6} {:>9} {:>9} {:>9} {:>9}\n",
                number(row.llc),
                number(row.llc_stderr),
                number(row.drift),
                number(row.drift_stderr)
            );
        }
        print_line(text.trim_end())
    }
}

/// A head as people write it.
fn head(word: &str) -> Result<HeadId, Error> {
    let parts = word.split_once('.').map(|(layer, head)| (layer.parse(), head.parse()));
    match parts {
        Some((Ok(layer), Ok(head))) => Ok(HeadId { layer, head }),
        _ => Err(Error::Input(format!(
            "--heads: {word:?}: expected all, or heads as layer.head, counted from 0, with commas between: 1.0,1.3"
        ))),
    }
}
