//! What a reproduction trains: the runs of each scale, as a manifest (docs/FORMATS.md).
//!
//! A run may belong to several series. The paper's experiment with smeared keys, for one, compares
//! two new models with two that are the attention-only series' own; here these are trained once. So
//! 28 models of the paper are 26 runs.

use std::path::{Path, PathBuf};

use induction_metrics::IclIndices;
use induction_model::{Clamp, ModelConfig};
use induction_records::{
    Control, DataSpec, EvaluationSpec, FORMAT, Manifest, PlannedRun, RunSpec, SnapshotSpec, Text,
    TrainSpec,
};

use crate::Error;

/// How much to reproduce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scale {
    /// The synthetic repeat task: about 20 seconds, for CI and for a first look.
    Smoke,
    /// Small models on real text, three seeds of each that decides most, clamped models and
    /// negative controls: on a laptop.
    Laptop,
    /// The paper's families: attention-only and with MLPs, 1 to 6 layers, smeared keys, and both
    /// again on other text.
    Full,
    /// 1 to 3 layers, four times as wide, on all texts together: for a GPU.
    Gpu,
    /// The paper's own dimensions and token budget, on a text of yours. Look at its cost first
    /// (--dry-run).
    Paper,
}

/// The texts that a scale learns from; those that it does not use need not be there.
#[derive(Clone, Debug)]
pub struct Corpora {
    /// The text of the series.
    pub main: Text,
    /// What the series learn again (paper.md, 1.1: "other data").
    pub second: Text,
    /// Fiction and scripture: the paper's "books only".
    pub books: Text,
}

/// What to plan for.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// How much.
    pub scale: Scale,
    /// Also the 2-layer models whose attention is clamped while they learn, at a scale that has
    /// them not by itself.
    pub clamp: bool,
    /// The first seed.
    pub seed: u64,
    /// Seeds of the attention-only 1- and 2-layer models on the main text; the scale's own number
    /// if not given.
    pub seeds: Option<u64>,
    /// The texts.
    pub corpora: Corpora,
}

const ATTENTION_ONLY: &str = "attention-only";
const MLPS: &str = "with MLPs";
const SMEARED: &str = "smeared keys";
const CLAMPED: &str = "clamped attention";
const CONTROLS: &str = "negative controls";
const SECOND: &str = "second text";
const BOOKS: &str = "books only";

/// The runs of a scale.
///
/// All runs on one text see the same examples in the same order, as the paper's do; further seeds
/// see other orders.
pub fn plan(options: &PlanOptions) -> Manifest {
    let PlanOptions { scale, clamp, seed, seeds, ref corpora } = *options;
    let base = Base::of(scale, &corpora.main, seed);
    let mut runs = Vec::new();
    match scale {
        Scale::Smoke => runs.extend(smeared_experiment(&base, &[ATTENTION_ONLY])),
        Scale::Laptop => {
            runs.extend(smeared_experiment(&base, &[ATTENTION_ONLY]));
            runs.push(PlannedRun::new(base.run(3, false, false), &[ATTENTION_ONLY]));
            runs.push(PlannedRun::new(base.run(2, true, false), &[MLPS]));
        }
        Scale::Full | Scale::Paper => {
            runs.extend(family(&base, &[ATTENTION_ONLY], &[MLPS]));
            runs.extend(
                (1..=2).map(|layers| PlannedRun::new(base.run(layers, false, true), &[SMEARED])),
            );
            let second = Base {
                text: Some(corpora.second.clone()),
                suffix: "-second".into(),
                ..base.clone()
            };
            let on_second = |name: &str| format!("{name}, {SECOND}");
            runs.extend(family(
                &second.seen_only(),
                &[&on_second(ATTENTION_ONLY)],
                &[&on_second(MLPS)],
            ));
            if scale == Scale::Full {
                // The paper's own other data. Here it pays too little to learn copying within the
                // budget (fixtures/corpora/SOURCES.md).
                let books = Base {
                    text: Some(corpora.books.clone()),
                    suffix: "-books".into(),
                    ..base.clone()
                };
                let layers = [(1, false), (2, false), (2, true)];
                runs.extend(layers.map(|(l, mlp)| {
                    PlannedRun::new(books.seen_only().run(l, mlp, false), &[BOOKS])
                }));
            }
        }
        Scale::Gpu => {
            for layers in 1..=3 {
                runs.push(PlannedRun::new(base.run(layers, false, false), &[ATTENTION_ONLY]));
            }
            runs.push(PlannedRun::new(base.run(2, true, false), &[MLPS]));
            runs.push(PlannedRun::new(base.run(1, false, true), &[SMEARED]));
            runs.push(PlannedRun::new(base.run(2, false, true), &[SMEARED]));
        }
    }
    let judged = matches!(scale, Scale::Laptop | Scale::Full);
    if clamp || judged {
        runs.extend(clamped(&base).into_iter().map(|spec| PlannedRun::new(spec, &[CLAMPED])));
    }
    if judged {
        runs.extend(controls(&base).into_iter().map(|spec| PlannedRun::new(spec, &[CONTROLS])));
    }
    let first: Vec<PlannedRun> = runs.clone();
    let seeds = seeds.unwrap_or(if judged { 3 } else { 1 }).max(1);
    for seed in seed + 1..seed + seeds {
        for row in &first {
            if is_repeated(&base, &row.spec) {
                let mut row = row.clone();
                row.series.clear();
                row.spec.seed = seed;
                row.spec.name += &format!("-seed-{seed}");
                if row.spec.model.n_layers == 1 {
                    row.spec.evaluation.ablation_every = 0;
                }
                runs.push(row);
            }
        }
    }
    let name = clap::ValueEnum::to_possible_value(&scale).map(|value| value.get_name().to_string());
    Manifest { format: FORMAT, name: name.unwrap_or_default(), rules: None, runs }
}

/// Whether further seeds repeat a run: the attention-only models of 1 and 2 layers on the main
/// text, which decide most.
fn is_repeated(base: &Base, spec: &RunSpec) -> bool {
    let model = &spec.model;
    let plain =
        matches!(&spec.data, DataSpec::Synthetic(_) | DataSpec::Corpus { control: None, .. });
    let of_the_paper = model.d_mlp == 0 && model.clamp.is_empty();
    plain && of_the_paper && model.n_layers <= 2 && spec.data.text() == base.text.as_ref()
}

/// 1 to 6 layers, attention-only and with MLPs.
fn family(base: &Base, attention_only: &[&str], mlps: &[&str]) -> Vec<PlannedRun> {
    let of = |mlp: bool, series: &[&str]| -> Vec<PlannedRun> {
        (1..=6).map(|layers| PlannedRun::new(base.run(layers, mlp, false), series)).collect()
    };
    let mut rows = of(false, attention_only);
    if base.suffix.is_empty() {
        // The smeared experiment's controls.
        rows[..2].iter_mut().for_each(|row| row.series.push(SMEARED.to_string()));
    }
    rows.extend(of(true, mlps));
    rows
}

/// 1 and 2 layers, with and without smeared keys (paper.md, 6: arguments 1 and 2).
fn smeared_experiment(base: &Base, controls: &[&str]) -> Vec<PlannedRun> {
    let controls: Vec<&str> = controls.iter().copied().chain([SMEARED]).collect();
    let rows = [(1, false), (2, false), (1, true), (2, true)].map(|(layers, smeared)| {
        PlannedRun::new(
            base.run(layers, false, smeared),
            if smeared { &[SMEARED] } else { &controls },
        )
    });
    rows.into()
}

/// The 2-layer model with clamped attention: given a previous-token head from the start, and
/// forbidden to attend to what followed an earlier copy. Argument 2 by intervention: the change
/// should come earlier, and not at all.
fn clamped(base: &Base) -> Vec<RunSpec> {
    let clamps = [
        ("previous-token", Clamp::PreviousToken { layer: 0, head: 0 }),
        ("no-induction", Clamp::ForbidInduction),
    ];
    clamps
        .into_iter()
        .map(|(name, clamp)| {
            let mut spec = base.run(2, false, false);
            spec.name = format!("2L-{name}");
            spec.model.clamp = clamp.into();
            spec.evaluation.ablation_every = 0;
            spec
        })
        .collect()
}

/// The 2-layer model on the same text without what induction needs: order, or repetition. There the
/// change must not come.
fn controls(base: &Base) -> Vec<RunSpec> {
    let of = |name: &str, what: Control| {
        let mut spec = base.run(2, false, false);
        spec.name = format!("2L-{name}");
        if let DataSpec::Corpus { control, .. } = &mut spec.data {
            *control = Some(what);
        }
        // Of a model without induction heads there is nothing to remove.
        spec.evaluation.ablation_every = 0;
        spec
    };
    vec![of("shuffled", Control::Shuffled), of("fragments", Control::Fragments)]
}

/// What the runs of a scale have in common. Where a value comes from stands in docs/PILOT.md.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// `None`: the synthetic task.
    pub(crate) text: Option<Text>,
    /// Of the runs' names.
    pub(crate) suffix: String,
    pub(crate) seed: u64,
    /// The 2-layer attention-only model.
    pub(crate) model: ModelConfig,
    pub(crate) train: TrainSpec,
    /// Token budget of models with MLPs, which change later.
    pub(crate) mlp_tokens: u64,
    /// What their learning rate is of the others'.
    pub(crate) mlp_lr: f64,
    /// Warm-up of attention-only models of more than three layers, in steps: after a short one, some
    /// seeds stay at the loss of a bigram model.
    pub(crate) deep_warmup: u64,
    /// Snapshots that an attention-only run keeps, those below the first distance apart.
    pub(crate) snapshots: u64,
    pub(crate) evaluation: EvaluationSpec,
}

/// How the small models learn: at a constant rate, which falls in the last fifth so that the end is
/// no draw of its jitter.
fn small(tokens: u64) -> TrainSpec {
    TrainSpec { decay_share: 0.2, ..TrainSpec::new(tokens, 8, 1e-2) }
}

impl Base {
    pub(crate) fn of(scale: Scale, text: &Text, seed: u64) -> Self {
        let (model, train, mlp_tokens, snapshots, examples, block) = match scale {
            Scale::Smoke => {
                let model = ModelConfig {
                    d_model: 64,
                    d_head: 16,
                    n_ctx: 64,
                    d_vocab: 64,
                    ..ModelConfig::default()
                };
                (model, TrainSpec::new(400_000, 16, 1e-2), 400_000, 20, 128, 12)
            }
            Scale::Laptop => (ModelConfig::default(), small(6_000_000), 6_000_000, 20, 1000, 25),
            Scale::Full => (ModelConfig::default(), small(8_000_000), 8_000_000, 20, 1000, 25),
            Scale::Gpu => {
                let model = ModelConfig {
                    d_model: 512,
                    n_heads: 8,
                    d_head: 64,
                    d_vocab: 4096,
                    ..ModelConfig::default()
                };
                // A quarter of the learning rate at four times the width: the step of a weight's
                // effect stays.
                (model, TrainSpec::new(200_000_000, 32, 2.5e-3), 300_000_000, 60, 1024, 25)
            }
            Scale::Paper => {
                let model = ModelConfig {
                    d_model: 768,
                    n_heads: 12,
                    d_head: 64,
                    n_ctx: 8192,
                    d_vocab: 1 << 16,
                    ..ModelConfig::default()
                };
                // 10,000 steps of 2^20 tokens, warmed up over 1.5e9 (paper.md, 1.2); the rate
                // itself is not stated.
                let train =
                    TrainSpec { warmup_steps: 1430, ..TrainSpec::new(10_000 << 20, 128, 1e-3) };
                (model, train, 10_000 << 20, 200, 10_000, 25)
            }
        };
        let n_ctx = model.n_ctx;
        // The paper evaluates on 512 tokens of its 8192; ours evaluate on the whole context.
        let icl = IclIndices::for_context(n_ctx).expect("every scale's context is long enough");
        let evaluation = EvaluationSpec {
            examples,
            icl_early: icl.early,
            icl_late: icl.late,
            icl_half_width: icl.half_width,
            head_examples: 100,
            ablation_examples: if scale == Scale::Laptop { 256 } else { 128 },
            ablation_every: match scale {
                Scale::Laptop | Scale::Full => 5,
                _ => 1,
            },
            weights_every: if scale == Scale::Full { 3 } else { 1 },
            prefix_block: block,
            prefix_repeats: 4,
        };
        let text = (scale != Scale::Smoke).then(|| text.clone());
        let on_a_laptop = matches!(scale, Scale::Laptop | Scale::Full);
        let mlp_lr = if on_a_laptop { 0.5 } else { 1.0 };
        let deep_warmup = if on_a_laptop { 400 } else { train.warmup_steps };
        Self {
            text,
            suffix: String::new(),
            seed,
            model,
            train,
            mlp_tokens,
            mlp_lr,
            deep_warmup,
            snapshots,
            evaluation,
        }
    }

    /// Without ablations: of its models on other data the paper shows losses only.
    fn seen_only(&self) -> Self {
        let evaluation = EvaluationSpec { ablation_every: 0, ..self.evaluation.clone() };
        Self { evaluation, ..self.clone() }
    }

    pub(crate) fn run(&self, n_layers: usize, mlp: bool, smeared_keys: bool) -> RunSpec {
        let mut train = self.train.clone();
        if mlp {
            train.tokens = self.mlp_tokens;
            train.lr *= self.mlp_lr;
        } else if n_layers > 3 {
            train.warmup_steps = self.deep_warmup;
        }
        let model = ModelConfig {
            n_layers,
            smeared_keys,
            d_mlp: if mlp { 4 * self.model.d_model } else { 0 },
            ..self.model.clone()
        };
        let data = match &self.text {
            Some(text) => {
                DataSpec::Corpus { text: text.clone(), held_out: 0.1, blake3: None, control: None }
            }
            None => DataSpec::repeats(8, 24),
        };
        let variant = match (mlp, smeared_keys) {
            (false, false) => "",
            (true, _) => "-mlp",
            (false, true) => "-smeared",
        };
        let mut spec = RunSpec {
            format: FORMAT,
            name: format!("{n_layers}L{variant}{}", self.suffix),
            seed: self.seed,
            data,
            model,
            train,
            snapshots: SnapshotSpec { every: 1 },
            evaluation: self.evaluation.clone(),
        };
        spec.snapshots.every = spec.steps().div_ceil(self.snapshots);
        if smeared_keys && self.text.is_some() {
            // What smeared models lose without a head decides no claim, nor does the paper show it.
            spec.evaluation.ablation_every = 0;
        }
        spec
    }
}

/// The run folders of a reproduction, by name.
///
/// # Errors
/// A folder that does not hold `runs/`.
pub fn runs_of(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(dir.join("runs")).map_err(|_| {
        Error::Input(format!(
            "{}: expected a reproduction's folder, which holds runs/",
            dir.display()
        ))
    })?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join("spec.toml").exists());
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(scale: Scale, seeds: u64, clamp: bool) -> Manifest {
        let corpora = Corpora { main: "a".into(), second: "b".into(), books: "c".into() };
        plan(&PlanOptions { scale, clamp, seed: 3, seeds: Some(seeds), corpora })
    }

    #[test]
    fn every_scale_is_valid() {
        for scale in [Scale::Smoke, Scale::Laptop, Scale::Full, Scale::Gpu, Scale::Paper] {
            let manifest = manifest(scale, 1, true);
            manifest.check().unwrap();
            assert_eq!(toml::from_str::<Manifest>(&manifest.to_toml()).unwrap(), manifest);
        }
    }

    /// Its numbers hold for what the laptop scale trains.
    #[test]
    fn a_forecast_is_for_the_laptop_scale() {
        let manifest = manifest(Scale::Laptop, 1, false);
        let spec = &manifest.runs.iter().find(|row| row.spec.name == "2L").unwrap().spec;
        let settings = induction_study::forecast::Settings {
            n_ctx: spec.model.n_ctx,
            batch: spec.train.batch as u64,
            d_vocab: spec.model.d_vocab,
            tokens: spec.train.tokens,
        };
        assert_eq!(settings, induction_study::forecast::Settings::default());
    }

    #[test]
    fn full_has_the_papers_28_models() {
        let manifest = manifest(Scale::Full, 1, false);
        let series = manifest.series();
        let of = |name: &str| series.get(name).copied().unwrap_or_default();
        let both = |name: &str| of(name) + of(&format!("{name}, {SECOND}"));
        assert_eq!([both(ATTENTION_ONLY), both(MLPS), of(SMEARED), of(BOOKS)], [12, 12, 4, 3]);
        assert_eq!([of(CLAMPED), of(CONTROLS)], [2, 2]);
        assert_eq!(manifest.runs.len(), 28 - 2 + 3 + 4);
    }

    #[test]
    fn further_seeds_are_those_of_small_models_on_the_main_text() {
        let names: Vec<String> = manifest(Scale::Full, 3, true)
            .runs
            .into_iter()
            .filter(|row| row.spec.seed != 3)
            .map(|row| row.spec.name)
            .collect();
        let each = |seed: u64| {
            ["1L", "2L", "1L-smeared", "2L-smeared"].map(|name| format!("{name}-seed-{seed}"))
        };
        assert_eq!(names, [each(4), each(5)].concat());
    }

    #[test]
    fn the_laptop_has_three_seeds_of_what_decides_most_and_its_controls() {
        let corpora = Corpora { main: "a".into(), second: "b".into(), books: "c".into() };
        let options =
            PlanOptions { scale: Scale::Laptop, clamp: false, seed: 0, seeds: None, corpora };
        let names: Vec<String> = plan(&options).runs.into_iter().map(|row| row.spec.name).collect();
        assert_eq!(names.len(), 3 * 4 + 2 + 2 + 2, "{names:?}");
        for name in [
            "2L-seed-2",
            "2L-previous-token",
            "2L-no-induction",
            "2L-shuffled",
            "2L-fragments",
            "2L-mlp",
            "3L",
        ] {
            assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
        }
    }

    #[test]
    fn the_papers_budget_is_the_papers() {
        let spec = &manifest(Scale::Paper, 1, false).runs[0].spec;
        assert_eq!(
            (spec.steps(), spec.tokens_per_step(), spec.snapshots.every),
            (10_000, 1 << 20, 50)
        );
    }

    #[test]
    fn what_would_mix_two_runs_is_refused() {
        let refused = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest(Scale::Laptop, 1, false);
            change(&mut manifest);
            manifest.check().unwrap_err().to_string()
        };
        let named = refused(&|m| m.runs[1].spec.name = "1l".into());
        assert!(
            named.contains("run 2 (\"1l\")") && named.contains("run 1 has this name"),
            "{named}"
        );
        let twice = refused(&|m| {
            let spec = RunSpec { name: "again".into(), ..m.runs[0].spec.clone() };
            m.runs.push(PlannedRun::new(spec, &[]));
        });
        assert!(twice.contains("run 1 trains the same model"), "{twice}");
        assert!(refused(&|m| m.runs[0].spec.train.tokens = 0).contains("train.tokens"));
        assert!(refused(&|m| m.runs[0].hash = Some("0".into())).contains("hash"));
        assert!(refused(&|m| m.runs.clear()).contains("no runs"));
    }
}
