//! The main job: the runs of a scale, each trained and measured, and the report.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use induction_metrics::IclIndices;
use induction_model::{Clamp, ModelConfig};
use induction_report::Report;
use induction_train::{DataSpec, EvaluationSpec, FORMAT, RunSpec, SnapshotSpec, TrainSpec, is_finished};

use crate::{
    Error, ablate::ablate, device::Device, interrupt::Interrupt, measure::measure, progress::Screen, source::Source,
    training,
};

/// How much to reproduce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scale {
    /// The synthetic repeat task: about a minute, for CI and for a first look.
    Smoke,
    /// Real text, on a laptop.
    Laptop,
}

/// What to reproduce, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much.
    pub scale: Scale,
    /// Also the 2-layer models whose attention is clamped while they learn.
    pub clamp: bool,
    /// Seed of every run.
    pub seed: u64,
    /// The corpus of the scales that use text.
    pub corpus: PathBuf,
    /// Where everything goes.
    pub out: PathBuf,
    /// What the models run on.
    pub device: Device,
    /// Runs worked on at once.
    pub jobs: usize,
    /// Threads of each.
    pub threads_per_job: usize,
}

impl Scale {
    /// The runs: 1 and 2 layers, attention-only, vanilla and with smeared keys (paper.md, 6: arguments 1 and 2).
    ///
    /// All runs of a scale see the same examples in the same order, as the paper's do.
    pub fn plan(self, corpus: &Path, seed: u64) -> Vec<RunSpec> {
        [(1, false), (2, false), (1, true), (2, true)]
            .into_iter()
            .map(|(n_layers, smeared_keys)| self.spec(corpus, seed, n_layers, smeared_keys))
            .collect()
    }

    /// The 2-layer model with clamped attention: given a previous-token head from the start, and forbidden to attend to
    /// what followed an earlier copy. Argument 2 by intervention: the change should come earlier, and not at all.
    pub fn clamped(self, corpus: &Path, seed: u64) -> Vec<RunSpec> {
        let clamps =
            [("previous-token", Clamp::PreviousToken { layer: 0, head: 0 }), ("no-induction", Clamp::ForbidInduction)];
        clamps
            .into_iter()
            .map(|(name, clamp)| {
                let mut spec = self.spec(corpus, seed, 2, false);
                spec.name = format!("2L-{name}");
                spec.model.clamp = Some(clamp);
                spec
            })
            .collect()
    }

    fn spec(self, corpus: &Path, seed: u64, n_layers: usize, smeared_keys: bool) -> RunSpec {
        let smeared = if smeared_keys { "-smeared" } else { "" };
        let (data, model, train, every, examples, block, repeats) = match self {
            Self::Smoke => (
                DataSpec::Repeats { min_period: 8, max_period: 24 },
                ModelConfig {
                    n_layers,
                    smeared_keys,
                    d_model: 64,
                    n_heads: 4,
                    d_head: 16,
                    n_ctx: 64,
                    d_vocab: 64,
                    ..ModelConfig::default()
                },
                TrainSpec::new(400_000, 16, 1e-2),
                20,
                128,
                12,
                4,
            ),
            Self::Laptop => (
                DataSpec::Corpus { path: corpus.to_path_buf(), held_out: 0.1, blake3: None },
                ModelConfig { n_layers, smeared_keys, ..ModelConfig::default() },
                TrainSpec::new(6_000_000, 4, 1e-2),
                100,
                256,
                25,
                4,
            ),
        };
        let icl = IclIndices::for_context(model.n_ctx).expect("both contexts are long enough");
        RunSpec {
            format: FORMAT,
            name: format!("{n_layers}L{smeared}"),
            seed,
            data,
            model,
            train,
            snapshots: SnapshotSpec { every },
            evaluation: EvaluationSpec {
                examples,
                icl_early: icl.early,
                icl_late: icl.late,
                icl_half_width: icl.half_width,
                head_examples: 100,
                ablation_examples: 128,
                prefix_block: block,
                prefix_repeats: repeats,
            },
        }
    }
}

/// Trains and measures every run of the scale that is not done yet, `jobs` at a time, then writes the report.
///
/// # Errors
/// Any stage's. A run that fails does not stop the others; the first failure is returned, what is done stays done.
pub fn reproduce(options: &Options, interrupt: &Interrupt, screen: &Screen) -> Result<Report, Error> {
    let runs = options.out.join("runs");
    fs::create_dir_all(&runs).map_err(Error::io(&runs))?;
    let mut specs = options.scale.plan(&options.corpus, options.seed);
    if options.clamp {
        specs.extend(options.scale.clamped(&options.corpus, options.seed));
    }
    // The longest first: a long run begun last would leave the other jobs idle.
    specs.sort_by_key(|spec| std::cmp::Reverse(spec.model.n_layers));
    // Once before the jobs, so that they do not all train the same tokenizer; all runs of a scale share their data.
    let first = specs.first_mut().expect("a plan has runs");
    Source::open(first, &options.out.join("data"))?.notes().iter().for_each(|note| screen.note(note));
    let data = first.data.clone();
    for spec in &mut specs {
        spec.data = data.clone();
        // A folder of another seed, scale or version is refused before any work is done.
        is_finished(spec, &runs.join(&spec.name))?;
    }

    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some(spec) = specs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = run_one(spec.clone(), options, interrupt, screen) {
                failures.lock().expect("no job panics while it holds this").push(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| match rayon::ThreadPoolBuilder::new().num_threads(options.threads_per_job).build() {
                // The kernels of a job use the pool that they are called in.
                Ok(pool) => pool.install(work),
                Err(_) => work(),
            });
        }
    });
    let failures = failures.into_inner().expect("no job panicked");
    let mut failures = failures.into_iter();
    if let Some(first) = failures.next() {
        let others = failures.filter(|other| !matches!(other, Error::Interrupted(_)));
        others.for_each(|other| screen.note(&other.to_string()));
        return Err(first);
    }
    Ok(induction_report::build(&options.out)?)
}

fn run_one(mut spec: RunSpec, options: &Options, interrupt: &Interrupt, screen: &Screen) -> Result<(), Error> {
    interrupt.check()?;
    let run = options.out.join("runs").join(&spec.name);
    let source = Source::open(&mut spec, &options.out.join("data"))?;
    training::run(&spec, &source, &run, options.device, interrupt, screen)?;
    measure(&spec, &source, &run, None, options.device, interrupt, screen)?;
    ablate(&spec, &source, &run, options.device, interrupt, screen)
}
