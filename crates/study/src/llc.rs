//! The local learning coefficient of a run's snapshots, of whole models and restricted to heads
//! (docs/FORMATS.md: `llc.jsonl`).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

use induction_metrics::{Sgld, sgld_chain};
use induction_model::{ModelConfig, Params};
use induction_random::stream;
use induction_records::{
    HeadId, LlcRow, RunSpec, SampledFrom, Stage, read_json, read_rows, write_json, write_rows,
};
use induction_train::Examples as _;
use ndarray::{Array2, Axis};
use rand::Rng;
use rayon::prelude::*;

use crate::{
    Caller, Error,
    caller::check,
    device::Device,
    distances::stages_of,
    measure::{tables::keep, write_tokens},
    source::EVALUATION_SEED,
    stages::{OverSnapshots, RunContext, Snapshot, drive, has_weights, manifest_hashes},
};

/// Raised whenever a definition here changes, so that stored coefficients are sampled again.
const VERSION: u32 = 1;

/// What is sampled, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Training examples, the run's first, whose mean loss is meant. `n beta` is `n / ln n` of
    /// their number `n`.
    pub examples: usize,
    /// Of them, in each minibatch, drawn with replacement.
    pub batch: usize,
    /// `gamma`, how strongly weights are held near the model's.
    pub localization: f64,
    /// `epsilon`.
    pub step_size: f64,
    /// Chains, all from the model itself.
    pub chains: usize,
    /// Steps of each chain whose losses are not taken.
    pub burn_in: usize,
    /// Steps after them.
    pub draws: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            examples: 256,
            batch: 1,
            localization: 100.0,
            step_size: 1e-3,
            chains: 4,
            burn_in: 50,
            draws: 50,
        }
    }
}

impl Sampling {
    /// The constants of a chain.
    ///
    /// # Errors
    /// If one lies outside its range.
    pub fn sgld(&self) -> Result<Sgld, Error> {
        let refuse = |what: &str, found: usize, least: usize| {
            Err(Error::Input(format!("{what} {found}: expected {least} or more")))
        };
        if self.examples < 3 {
            return refuse("--examples", self.examples, 3);
        }
        if self.batch == 0 {
            return refuse("--batch", self.batch, 1);
        }
        let n = self.examples as f64;
        let sgld = Sgld {
            n_beta: n / n.ln(),
            localization: self.localization,
            step_size: self.step_size,
            chains: self.chains,
            burn_in: self.burn_in,
            draws: self.draws,
        };
        let place = |source| Error::Metric { place: "sampling".into(), source };
        sgld.validate().map_err(place)?;
        Ok(sgld)
    }
}

/// Samples what of `heads` and of the whole model is not sampled yet, at every `every`-th kept
/// snapshot, counted back from the last, whose weights are there. With another `sampling` than that
/// of the table which is there, the table is made anew.
///
/// # Errors
/// Heads that the model does not have, constants outside their ranges; a run that another process
/// works on; the engine's, the metrics' and the system's; [`Error::Interrupted`] after a signal.
/// Whatever the error, what is done is kept.
pub fn llc(
    context: &RunContext<'_>,
    sampling: &Sampling,
    heads: &[HeadId],
    every: usize,
) -> Result<(), Error> {
    let RunContext { spec, source, run, .. } = context;
    let sgld = sampling.sgld()?;
    for head in heads {
        if head.layer >= spec.model.n_layers || head.head >= spec.model.n_heads {
            return Err(Error::Input(format!(
                "head {head}: {} has {} layers of {} heads, counted from 0",
                run.display(),
                spec.model.n_layers,
                spec.model.n_heads
            )));
        }
    }
    let folder = context.measurements();
    induction_files::make_folders(&folder).map_err(Error::io(&folder))?;
    let lease = context.lease()?;
    let mut engine = context.engine()?;
    let targets: BTreeSet<Option<HeadId>> =
        std::iter::once(None).chain(heads.iter().copied().map(Some)).collect();
    let left = left(spec, run, engine.name(), (sampling, sgld), &targets, every)?;
    if left.missing.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<u32>> = (0..sampling.examples as u64).map(|i| source.example(i)).collect();
    let columns = rows[0].len();
    let examples = Array2::from_shape_vec((rows.len(), columns), rows.concat())
        .expect("examples have one length");
    write_tokens(&folder.join("llc.safetensors"), &[("examples", &examples)])?;
    let (missing, device, caller) = (left.missing.clone(), context.device, context.caller);
    let mut work = Work { sampling, sgld, targets, examples, left, folder, device, caller };
    drive(context, &lease, engine.as_mut(), Stage::Sampling, &missing, None, &mut work)
}

/// The stage in work.
struct Work<'a> {
    sampling: &'a Sampling,
    sgld: Sgld,
    /// Heads, and nothing for the whole model.
    targets: BTreeSet<Option<HeadId>>,
    /// `[example, 1 + n_ctx]`.
    examples: Array2<u32>,
    left: Left,
    folder: PathBuf,
    device: Device,
    caller: &'a dyn Caller,
}

impl OverSnapshots for Work<'_> {
    fn snapshot(&mut self, at: &Snapshot<'_>) -> Result<(), Error> {
        let there: BTreeSet<Option<HeadId>> =
            self.left.rows.iter().filter(|row| row.step == at.step).map(LlcRow::of).collect();
        let losses = at.engine.losses(self.examples.view(), &[])?;
        let at_center: Vec<f64> = losses
            .outer_iter()
            .map(|row| row.iter().map(|&loss| f64::from(loss)).sum::<f64>() / row.len() as f64)
            .collect();
        let missing: Vec<Option<HeadId>> = self.targets.difference(&there).copied().collect();
        for target in missing {
            let found = self.sample(at, target, &at_center)?;
            let (layer, head) = (target.map(|head| head.layer), target.map(|head| head.head));
            self.left.rows.push(LlcRow {
                step: at.step,
                tokens: at.tokens,
                layer,
                head,
                llc: found.as_ref().map(|found| found.llc),
                llc_stderr: found.as_ref().and_then(|found| found.stderr),
                by_chain: found.as_ref().map_or(Vec::new(), |found| found.by_chain.clone()),
                drift: found.as_ref().map(|found| found.drift),
                drift_stderr: found.as_ref().and_then(|found| found.drift_stderr),
            });
        }
        self.left.made.snapshots.insert(at.step, self.left.hashes[&at.step].clone());
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        // A snapshot that was left in the middle has some of its rows.
        keep(&mut self.left.rows, &self.left.made.snapshots);
        write_rows(&self.folder, &mut self.left.rows)?;
        let whole = self.left.rows.iter().filter(|row| row.layer.is_none());
        let (tokens, values): (Vec<u64>, Vec<f64>) =
            whole.filter_map(|row| Some((row.tokens, row.llc?))).unzip();
        self.left.made.stages = stages_of(&tokens, &[&values])?;
        Ok(write_json(&self.folder.join(SampledFrom::FILE), &self.left.made)?)
    }
}

impl Work<'_> {
    /// The coefficient of one target; nothing where a chain left the finite numbers. Chains of all
    /// snapshots have the same noise and minibatches, so that what these do cancels in differences.
    fn sample(
        &self,
        at: &Snapshot<'_>,
        target: Option<HeadId>,
        at_center: &[f64],
    ) -> Result<Option<induction_metrics::Llc>, Error> {
        let config = at.engine.config();
        let center: Vec<f32> =
            at.params.iter().flat_map(|(_, value)| value.iter().copied()).collect();
        let free = ranges(config, target);
        // What tells the streams of a target from those of others.
        let number = target.map_or(0, |head| 1 + head.layer * config.n_heads + head.head) as u64;
        let chains = (0..self.sgld.chains).into_par_iter().with_max_len(1).map(|chain| {
            let chain = number << 16 | chain as u64;
            let mut engine = self.device.open(config, at.params)?;
            let (mut params, mut gradients) = (at.params.clone(), Params::zeros(config));
            let excess = |step: usize, weights: &[f32], gradient: &mut [f32]| {
                check(self.caller)?;
                let (batch, before) = self.minibatch(chain, step, at_center);
                fill(&mut params, weights);
                engine.set_params(&params)?;
                let loss = engine.loss_and_gradients(batch.view().into(), &mut gradients)?;
                let mut rest = gradient;
                for (_, value) in gradients.iter() {
                    let (part, left) = rest.split_at_mut(value.len());
                    part.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
                    rest = left;
                }
                Ok::<f64, Error>(f64::from(loss) - before)
            };
            sgld_chain(&self.sgld, (EVALUATION_SEED, chain), &center, &free, excess)
        });
        let chains: Vec<Vec<f64>> = chains.collect::<Result<_, Error>>()?;
        let place = |source| Error::Metric { place: format!("step {}", at.step), source };
        induction_metrics::llc(&self.sgld, &chains).map_err(place)
    }

    /// The examples of a step, and their mean loss at the model's own weights.
    fn minibatch(&self, chain: u64, step: usize, at_center: &[f64]) -> (Array2<u32>, f64) {
        let mut rng = stream(EVALUATION_SEED, "sgld minibatch", chain << 32 | step as u64);
        let rows: Vec<usize> =
            (0..self.sampling.batch).map(|_| rng.random_range(0..at_center.len())).collect();
        let before = rows.iter().map(|&row| at_center[row]).sum::<f64>() / rows.len() as f64;
        (self.examples.select(Axis(0), &rows), before)
    }
}

/// Where the weights of a head lie among all, in the configuration's order: its `W_Q`, `W_K`, `W_V`
/// and `W_O`; without a head, all weights.
fn ranges(config: &ModelConfig, head: Option<HeadId>) -> Vec<Range<usize>> {
    let all = 0..config.n_params();
    let Some(head) = head else { return Vec::from([all]) };
    let names =
        ["W_Q", "W_K", "W_V", "W_O"].map(|name| format!("blocks.{}.attn.{name}", head.layer));
    let mut at = 0;
    let mut found = Vec::new();
    for (name, shape) in config.parameter_shapes() {
        let size = shape.iter().product::<usize>();
        if names.contains(&name) {
            // The first axis is that of the heads.
            let each = size / shape[0];
            found.push(at + head.head * each..at + (head.head + 1) * each);
        }
        at += size;
    }
    found
}

fn fill(params: &mut Params, mut weights: &[f32]) {
    for (_, value) in params.iter_mut() {
        let (part, rest) = weights.split_at(value.len());
        value.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        weights = rest;
    }
}

/// What of a run is sampled, and what is not.
struct Left {
    made: SampledFrom,
    rows: Vec<LlcRow>,
    /// Of every kept snapshot's manifest.
    hashes: BTreeMap<u64, String>,
    missing: Vec<u64>,
}

fn left(
    spec: &RunSpec,
    run: &Path,
    engine: &str,
    (sampling, sgld): (&Sampling, Sgld),
    targets: &BTreeSet<Option<HeadId>>,
    every: usize,
) -> Result<Left, Error> {
    let folder = run.join("measurements");
    let fresh = SampledFrom {
        version: VERSION,
        spec_hash: spec.training_hash(),
        engine: engine.to_string(),
        examples: sampling.examples,
        batch: sampling.batch,
        sgld,
        snapshots: BTreeMap::new(),
        stages: None,
    };
    let stored = || -> Option<(SampledFrom, Vec<LlcRow>)> {
        let made: SampledFrom = read_json(&folder.join(SampledFrom::FILE), Stage::Sampling).ok()?;
        let same =
            SampledFrom { snapshots: BTreeMap::new(), stages: None, ..made.clone() } == fresh;
        same.then_some((made, read_rows(&folder).ok()?))
    };
    let (mut made, mut rows) = stored().unwrap_or_else(|| (fresh.clone(), Vec::new()));
    let steps = spec.snapshot_steps();
    let hashes = manifest_hashes(run, &steps)?;
    made.snapshots.retain(|step, hash| hashes.get(step) == Some(hash));
    keep(&mut rows, &made.snapshots);
    let done = |step: u64| {
        let there: BTreeSet<Option<HeadId>> =
            rows.iter().filter(|row| row.step == step).map(LlcRow::of).collect();
        targets.is_subset(&there)
    };
    let mut missing: Vec<u64> = steps
        .into_iter()
        .rev()
        .step_by(every.max(1))
        .filter(|&step| !done(step) && has_weights(run, step))
        .collect();
    missing.reverse();
    Ok(Left { made, rows, hashes, missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heads_weights_are_its_own() {
        let config = ModelConfig {
            n_layers: 2,
            d_model: 6,
            n_heads: 3,
            d_head: 2,
            n_ctx: 4,
            d_vocab: 5,
            ..ModelConfig::default()
        };
        let params = config.init_params(1).unwrap();
        let flat: Vec<f32> = params.iter().flat_map(|(_, value)| value.iter().copied()).collect();
        for (layer, head) in [(0, 0), (1, 2)] {
            let found: Vec<f32> = ranges(&config, Some(HeadId { layer, head }))
                .into_iter()
                .flat_map(|range| flat[range].to_vec())
                .collect();
            let block = params.block(layer);
            let expected: Vec<f32> = [block.w_q(), block.w_k(), block.w_v(), block.w_o()]
                .iter()
                .flat_map(|w| w.index_axis(Axis(0), head).iter().copied().collect::<Vec<_>>())
                .collect();
            assert_eq!(found, expected);
        }
        let all = 0..flat.len();
        assert_eq!(ranges(&config, None), [all]);
        let mut back = Params::zeros(&config);
        fill(&mut back, &flat);
        assert_eq!(back, params);
    }
}
