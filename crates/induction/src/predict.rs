//! What a plan costs: operations, counted; time and memory, from a calibration on this machine.
//!
//! Each stage of a run is a known amount of arithmetic, done at a rate that depends on the machine,
//! the stage and on whether the model has MLPs. [`Rates::calibrate`] runs each stage on a small
//! share of its work - on as many models at once as the plan will, so that what they take from each
//! other is in the rates - and [`Cost`] scales up.

use std::time::Instant;

use induction_ablation::{Downstream, Inputs, losses_under, single_heads};
use induction_model::{Clamps, ModelConfig};
use induction_records::{DataSpec, Manifest, RunSpec};
use induction_study::{
    bench::{forward_flop_per_token, median},
    device::Device,
    explore::MAP_TOKENS,
    measure::{Probe, indices_of},
    source::Source,
};
use induction_train::{Learner, Optimizer};
use ndarray::Array2;
use serde::Serialize;

use crate::Error;

/// Entries of a head's maps on the three prompts that are kept: a few hundred tokens for the
/// pattern, fewer for the others.
const PROMPT_ENTRIES: f64 = 6e4;

/// The stages of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stages<T> {
    /// Training.
    pub train: T,
    /// Measuring its snapshots.
    pub measure: T,
    /// Removing its heads.
    pub ablate: T,
}

/// What one run asks for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Tokens that it learns from.
    pub tokens: u64,
    /// Numbers in the model.
    pub parameters: u64,
    /// Floating-point operations of matrix products and attention.
    pub flop: Stages<f64>,
    /// What the report reads of it, in bytes.
    pub report: f64,
    /// What it leaves on disk, in bytes.
    pub disk: f64,
}

impl Cost {
    /// Of a run by its spec alone.
    pub fn of(spec: &RunSpec) -> Self {
        let ModelConfig { n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab, .. } =
            spec.model;
        let e = &spec.evaluation;
        let tokens = spec.steps() * spec.tokens_per_step();
        let parameters = parameters(&spec.model);
        let forward = forward_flop_per_token(&spec.model);
        let (snapshots, sweeps) =
            (spec.snapshot_steps().len() as f64, spec.ablation_steps().len() as f64);
        // Losses of all examples and of the fresh windows in which their last tokens are predicted
        // again, and a pass for each example of the evaluators on text.
        let both = n_ctx + indices_of(e, n_ctx).map_or(0, |(_, same)| same.fresh_len());
        let measured = (e.examples * both + e.head_examples * n_ctx) as f64;
        let ablation_examples = e.ablation_examples.min(e.examples);
        let ablated = (ablation_examples * both) as f64;
        // Without a head of layer l, what lies above it is run again: layers x (layers - 1) / 2 of
        // them in all, in two kinds, each pass with the head's own layer's MLP and an unembedding.
        let layers = n_layers as f64;
        let attention = 2.0 * (4 * d_model * n_heads * d_head + n_heads * d_head * n_ctx) as f64;
        let mlp = 4.0 * (d_model * d_mlp) as f64;
        let unembed = 2.0 * (d_model * d_vocab) as f64;
        let passes = n_heads as f64;
        let sweep = passes
            * (layers * layers * attention
                + layers * (layers + 1.0) * mlp
                + 2.0 * layers * unembed);
        let flop = Stages {
            train: 3.0 * forward * tokens as f64,
            measure: snapshots * measured * forward,
            ablate: sweeps * ablated * sweep,
        };
        let weights = 4.0 * parameters as f64;
        // Losses and rows of the tables: about 80 kB and 2.6 kB a head; 5 kB a head and kind where
        // it is removed.
        let heads = (n_layers * n_heads) as f64;
        let losses = 4.0 * (e.examples * n_ctx) as f64;
        let tables =
            25.0 * (4 * n_ctx + 9 * e.examples) as f64 + 2600.0 * heads + 100.0 * heads * heads;
        let removals = heads * 2.0 * 36.0 * ablation_examples as f64 + 8.0 * heads * n_ctx as f64;
        // Attention and attribution, a byte an entry, on the text; on the prompts, at the last one.
        let maps = 2.0 * heads * (n_ctx.min(MAP_TOKENS) as f64).powi(2);
        let prompts = 2.0 * heads * PROMPT_ENTRIES;
        let kept = spec.weight_steps().len() as f64;
        let report = snapshots * tables + sweeps * removals + kept * maps + prompts;
        let disk = report + snapshots * losses + (kept + 6.0) * weights;
        Self { tokens, parameters, flop, report, disk }
    }
}

fn parameters(config: &ModelConfig) -> u64 {
    let ModelConfig { n_layers, d_model, n_heads, d_head, d_mlp, d_vocab, .. } = *config;
    let block = 4 * d_model * n_heads * d_head + 2 * d_model * d_mlp + d_mlp + d_model * 5;
    (2 * d_model * d_vocab + n_layers * block) as u64
}

/// How fast one job is, with models of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FamilyRates {
    /// Operations a second, by stage.
    pub flop_per_s: Stages<f64>,
    /// What measuring a snapshot takes beside them, in seconds a layer: some measures are taken on
    /// ten examples, whatever the number of the others.
    pub measure_layer_s: f64,
}

/// How fast one job is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// With attention-only models.
    pub attention_only: FamilyRates,
    /// With models that have MLPs.
    pub mlp: FamilyRates,
}

/// What the calibration does of each stage.
const STEPS: usize = 12;
const EXAMPLES: usize = 16;

impl Rates {
    /// Runs each stage on a small model of the plan's width, on `jobs` of them at once with
    /// `threads` each.
    ///
    /// # Errors
    /// The engine's.
    pub fn calibrate(
        manifest: &Manifest,
        device: Device,
        jobs: usize,
        threads: usize,
    ) -> Result<Self, Error> {
        let first = &manifest.runs[0].spec;
        let any_mlp = manifest.runs.iter().any(|row| row.spec.model.d_mlp > 0);
        let of = |d_mlp: usize| -> Result<FamilyRates, Error> {
            let each: Vec<Result<FamilyRates, Error>> = std::thread::scope(|scope| {
                let handles: Vec<_> = (0..jobs)
                    .map(|_| {
                        scope.spawn(|| {
                            let pool = rayon::ThreadPoolBuilder::new()
                                .num_threads(threads)
                                .build()
                                .map_err(|e| Error::Input(format!("--jobs, --threads: {e}")))?;
                            pool.install(|| stage_rates(first, d_mlp, device))
                        })
                    })
                    .collect();
                handles
                    .into_iter()
                    .map(|handle| handle.join().expect("a calibration does not panic"))
                    .collect()
            });
            let each = each.into_iter().collect::<Result<Vec<_>, _>>()?;
            let mean = |take: fn(&FamilyRates) -> f64| {
                each.iter().map(take).sum::<f64>() / each.len() as f64
            };
            let flop_per_s = Stages {
                train: mean(|rates| rates.flop_per_s.train),
                measure: mean(|rates| rates.flop_per_s.measure),
                ablate: mean(|rates| rates.flop_per_s.ablate),
            };
            Ok(FamilyRates { flop_per_s, measure_layer_s: mean(|rates| rates.measure_layer_s) })
        };
        let attention_only = of(0)?;
        let mlp = if any_mlp { of(4 * first.model.d_model.min(256))? } else { attention_only };
        Ok(Self { attention_only, mlp })
    }

    /// Seconds of each stage of a run.
    pub fn seconds(&self, spec: &RunSpec, cost: &Cost) -> Stages<f64> {
        let rates = if spec.model.d_mlp > 0 { self.mlp } else { self.attention_only };
        let layers = (spec.snapshot_steps().len() * spec.model.n_layers) as f64;
        Stages {
            train: cost.flop.train / rates.flop_per_s.train,
            measure: cost.flop.measure / rates.flop_per_s.measure + layers * rates.measure_layer_s,
            ablate: cost.flop.ablate / rates.flop_per_s.ablate,
        }
    }
}

/// A 2-layer model put through a share of each stage. It learns, but nothing of it is kept.
fn stage_rates(like: &RunSpec, d_mlp: usize, device: Device) -> Result<FamilyRates, Error> {
    let mut spec = like.clone();
    spec.model = ModelConfig {
        n_layers: 2,
        d_mlp,
        // Larger models reach the same rates; a calibration should take seconds.
        d_model: like.model.d_model.min(256),
        n_heads: like.model.n_heads.min(8),
        n_ctx: like.model.n_ctx.min(512),
        d_vocab: like.model.d_vocab.min(1024),
        smeared_keys: false,
        clamp: Clamps::default(),
        ..like.model.clone()
    };
    spec.model.d_head = spec.model.d_model / spec.model.n_heads;
    spec.data = DataSpec::repeats(8, 24.min(spec.model.n_ctx / 2));
    spec.train.batch = like.train.batch.min(4);
    spec.evaluation.ablation_examples = EXAMPLES;
    // Made data: no folder is read.
    let source = Source::open(&mut spec, std::path::Path::new(""))?;
    let params = spec.model.init_params(0)?;
    let mut engine = device.open(&spec.model, &params)?;

    // The step that training takes on this device: on a GPU weights and optimizer stay there.
    let examples: Array2<u32> = source.held_out(spec.train.batch)?;
    let mut learner =
        Learner::new(engine.as_mut(), params, Optimizer::new(&spec.model), &spec.train)?;
    let mut seconds = Vec::new();
    for step in 0..2 + STEPS {
        let begun = Instant::now();
        learner.step(engine.as_mut(), examples.view(), 1e-3, &spec.train)?;
        // The first warm up.
        if step >= 2 {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    learner.fetch(engine.as_mut(), &spec.train)?;
    let params = learner.params;
    let forward = forward_flop_per_token(&spec.model);
    let train = 3.0 * forward * examples.len() as f64 / median(seconds);

    // On some examples and on three times as many: what is left at none is what does not depend on
    // their number.
    let mut measured = |examples: usize| -> Result<f64, Error> {
        (spec.evaluation.examples, spec.evaluation.head_examples) = (examples, examples);
        let probe = Probe::whole(&spec, &source)?;
        let begun = Instant::now();
        probe.time(engine.as_ref(), &params)?;
        Ok(begun.elapsed().as_secs_f64())
    };
    measured(EXAMPLES)?;
    let (few, many) = (measured(EXAMPLES)?, measured(3 * EXAMPLES)?);
    let slope = ((many - few) / (2 * EXAMPLES) as f64).max(many / (6 * EXAMPLES) as f64);
    let measure = 2.0 * spec.model.n_ctx as f64 * forward / slope;
    let measure_layer_s = (few - slope * EXAMPLES as f64).max(0.0) / spec.model.n_layers as f64;

    let held_out = source.held_out(EXAMPLES)?;
    let inputs = Inputs { engine: engine.as_ref(), params: &params, examples: held_out.view() };
    let begun = Instant::now();
    losses_under(
        &inputs,
        &single_heads(&spec.model, &[Downstream::Full, Downstream::PatternPreserving]),
    )?;
    let elapsed = begun.elapsed().as_secs_f64();
    spec.evaluation.ablation_every = 1;
    let all = Cost::of(&spec);
    let ablate = all.flop.ablate / spec.ablation_steps().len() as f64 / elapsed;
    Ok(FamilyRates { flop_per_s: Stages { train, measure, ablate }, measure_layer_s })
}

/// The end of the last of `seconds`, taken in their order by whichever job is free.
pub fn makespan(seconds: impl IntoIterator<Item = f64>, jobs: usize) -> f64 {
    let mut free = vec![0.0f64; jobs.max(1)];
    for run in seconds {
        let first = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("there is a job");
        *first += run;
    }
    free.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_take_the_next_run_when_they_are_free() {
        assert_eq!(makespan([5.0, 3.0, 2.0, 1.0], 1), 11.0);
        assert_eq!(makespan([5.0, 3.0, 2.0, 1.0], 2), 6.0);
        assert_eq!(makespan([], 2), 0.0);
    }

    #[test]
    fn plans_cost_what_the_document_on_scale_says() {
        use crate::plan::{Corpora, PlanOptions, Scale, plan};
        let said = include_str!("../../../fixtures/plans.json");
        let said: serde_json::Value = serde_json::from_str(said).unwrap();
        for (name, scale) in [("full", Scale::Full), ("paper", Scale::Paper)] {
            let corpora = Corpora { main: "".into(), second: "".into(), books: "".into() };
            let runs =
                plan(&PlanOptions { scale, clamp: false, seed: 0, seeds: Some(1), corpora }).runs;
            let costs: Vec<Cost> = runs.iter().map(|row| Cost::of(&row.spec)).collect();
            let flop = |cost: &Cost| cost.flop.train + cost.flop.measure + cost.flop.ablate;
            let sums = [
                ("flop", costs.iter().map(flop).sum::<f64>()),
                ("disk", costs.iter().map(|cost| cost.disk).sum()),
            ];
            assert_eq!(said[name]["runs"], costs.len());
            assert_eq!(said[name]["tokens"], costs.iter().map(|cost| cost.tokens).sum::<u64>());
            for (what, ours) in sums {
                let theirs = said[name][what].as_f64().unwrap();
                assert!(
                    (ours / theirs - 1.0).abs() < 1e-12,
                    "{name}: {what} {ours}; fixtures/plans.json says {theirs}"
                );
            }
        }
    }

    #[test]
    fn parameters_are_those_of_the_model() {
        for d_mlp in [0, 64] {
            let config = ModelConfig { n_layers: 3, d_mlp, ..ModelConfig::default() };
            let params = config.init_params(0).unwrap();
            let exact: usize = params.iter().map(|(_, value)| value.len()).sum();
            let counted = parameters(&config) as usize;
            assert!(counted.abs_diff(exact) * 100 < exact, "{counted}, in truth {exact}");
        }
    }
}
