//! What a run holds in memory, before it starts: counted from its spec, and held against what the
//! machine has.
//!
//! The sums below were fitted to the peaks of nine models of all shapes (docs/BENCHMARKS.md); a
//! test asks for 20 %.

use std::{collections::BTreeSet, fs};

use induction_engine::{BurnDevice, gpus};
use induction_records::{RunSpec, Text};
use induction_study::{device::Device, source::texts_of};

use crate::{Error, predict::Cost};

/// Bytes of a float32.
const NUMBER: f64 = 4.0;

/// What the process holds whatever it works on, in bytes: code, thread stacks, an allocator's rest.
const PROCESS: f64 = 12e6;

/// What one more run at once costs beside what it holds: an allocator's pools of its threads.
const JOB: f64 = 4e6;

/// Of a text's bytes, what reading it, learning its tokens and cutting it into them leaves with the
/// allocator.
const TEXT: f64 = 12.7;

/// Of the bytes that the report reads.
const REPORT: f64 = 0.6;

/// The CPU engine sums a batch's gradients in at most so many buffers.
const GRADIENT_BUFFERS: usize = 8;

/// Peak of what a run holds on the CPU engine with that many threads, in bytes, beside [`PROCESS`]:
/// the largest of its stages.
pub(crate) fn of(spec: &RunSpec, threads: usize) -> f64 {
    training(spec, threads).max(measuring(spec, threads)).max(removing(spec, threads))
}

/// Peak of a whole plan in one process, in bytes: its texts, the `jobs` largest runs, the report.
/// What was freed is counted, since allocators rarely give it back.
pub(crate) fn of_plan(specs: &[&RunSpec], jobs: usize, threads_per_job: usize) -> f64 {
    let runs = of_largest(specs.iter().map(|spec| of(spec, threads_per_job)), jobs);
    let report: f64 = specs.iter().map(|spec| Cost::of(spec).report).sum();
    PROCESS
        + JOB * jobs.min(specs.len()) as f64
        + TEXT * largest_text(specs)
        + runs
        + REPORT * report
}

/// Bytes of the largest text; 0 where it cannot be read, which is told when it is needed.
fn largest_text(specs: &[&RunSpec]) -> f64 {
    let texts: BTreeSet<&Text> = specs.iter().filter_map(|spec| spec.data.text()).collect();
    let bytes = |text: &Text| -> usize {
        induction_tokenizer::corpus::load(texts_of(text))
            .map_or(0, |found| found.documents.iter().map(|d| d.text.len()).sum())
    };
    texts.into_iter().map(bytes).max().unwrap_or(0) as f64
}

/// What training holds.
fn training(spec: &RunSpec, threads: usize) -> f64 {
    let c = &spec.model;
    // Weights, two moments, gradients, the engine's copies; a snapshot on its way to the disk, in
    // two forms.
    let states = 11.5 + GRADIENT_BUFFERS.min(spec.train.batch) as f64;
    let sequence = c.n_ctx * (c.n_layers * (10 * c.d_model + 3 * c.d_mlp) + 2 * c.d_vocab);
    states * weights(spec) + NUMBER * (sequence * threads.min(spec.train.batch)) as f64
}

fn measuring(spec: &RunSpec, threads: usize) -> f64 {
    let c = &spec.model;
    let losses = NUMBER * (spec.evaluation.examples * c.n_ctx) as f64;
    // A forward pass has room for two layers; every head's pattern is looked at.
    let sequence = c.n_ctx * (c.n_layers.min(2) * (5 * c.d_model + 2 * c.d_mlp) + 2 * c.d_vocab);
    let patterns = c.n_layers * c.n_heads * c.n_ctx * c.n_ctx;
    6.6 * weights(spec) + 6e6 + 3.0 * losses + NUMBER * ((sequence + patterns) * threads) as f64
}

fn removing(spec: &RunSpec, threads: usize) -> f64 {
    let c = &spec.model;
    let e = &spec.evaluation;
    let heads = c.n_layers * c.n_heads;
    let square = c.n_ctx * c.n_ctx;
    let losses = (5 * heads + 30) * e.ablation_examples.min(e.examples) * c.n_ctx;
    // Of an example: the patterns and queries, keys or values put in place.
    let replaced = 6 * square + 5 * c.n_layers * c.n_ctx * c.d_model;
    6.1 * weights(spec) + 6e6 + NUMBER * (losses + heads * square / 2 + replaced * threads) as f64
}

fn weights(spec: &RunSpec) -> f64 {
    tensors(spec).iter().map(|tensor| tensor.bytes).sum()
}

/// A named array of a model.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    bytes: f64,
}

fn tensors(spec: &RunSpec) -> Vec<Tensor> {
    let shapes = spec.model.parameter_shapes().into_iter();
    shapes
        .map(|(name, shape)| {
            let bytes = NUMBER * shape.iter().map(|&n| n as f64).product::<f64>();
            Tensor { name, shape, bytes }
        })
        .collect()
}

/// Refuses runs that need more memory than the machine has free, or its GPU; `jobs` of them at
/// once.
///
/// # Errors
/// [`Error::Input`] with both figures, the largest run, its largest tensor, and what helps.
pub fn check<'a>(
    specs: impl Iterator<Item = &'a RunSpec>,
    device: Device,
    jobs: usize,
    threads_per_job: usize,
) -> Result<(), Error> {
    let specs: Vec<&RunSpec> = specs.collect();
    if let Device::Burn { on, bf16 } = device
        && let Some(index) = on.gpu()
        && let Some(gpu) =
            gpus().ok().and_then(|found| found.into_iter().find(|gpu| gpu.index == index))
    {
        let free = gpu.free as f64 * 1024.0 * 1024.0;
        let needed = of_largest(specs.iter().map(|spec| on_gpu(on, bf16, spec)), jobs);
        refuse(&specs, jobs, needed, free, &format!("device {on}"), |spec| on_gpu(on, bf16, spec))?;
    }
    let Some(free) = available() else { return Ok(()) };
    let needed = of_plan(&specs, jobs, threads_per_job);
    refuse(&specs, jobs, needed, free, "this machine", |spec| of(spec, threads_per_job))
}

fn refuse(
    specs: &[&RunSpec],
    jobs: usize,
    needed: f64,
    free: f64,
    place: &str,
    needs: impl Fn(&RunSpec) -> f64,
) -> Result<(), Error> {
    let largest = specs.iter().max_by(|a, b| needs(a).total_cmp(&needs(b)));
    let (Some(largest), true) = (largest, needed > free) else { return Ok(()) };
    let tensor = tensors(largest).into_iter().max_by(|a, b| a.bytes.total_cmp(&b.bytes));
    let tensor = tensor.map_or(String::new(), |t| {
        format!(
            "; its largest tensor is {} {:?} with {}, of which training holds over a dozen",
            t.name,
            t.shape,
            bytes(t.bytes)
        )
    });
    Err(Error::Input(format!(
        "about {} of memory are needed with {jobs} runs at once, {place} has {} free; the largest run is {} with {}{tensor}: lower --jobs, train a smaller model, or use a larger machine",
        bytes(needed),
        bytes(free),
        largest.name,
        bytes(needs(largest)),
    )))
}

/// The sum of the `jobs` largest: what is held when they meet.
fn of_largest(each: impl Iterator<Item = f64>, jobs: usize) -> f64 {
    let mut each: Vec<f64> = each.collect();
    each.sort_by(|a, b| b.total_cmp(a));
    each.iter().take(jobs).sum()
}

/// What a spec's run holds on a GPU, in bytes: in training, or while patterns are looked at.
fn on_gpu(on: BurnDevice, bf16: bool, spec: &RunSpec) -> f64 {
    let c = &spec.model;
    let scores = c.n_heads * c.n_ctx * c.n_ctx;
    let examples = (on.numbers_at_once() / scores).clamp(1, spec.evaluation.examples);
    // Scores, their mask applied, patterns, and a copy of them.
    let looking = context(on) + weights(spec) + NUMBER * (4 * examples * scores) as f64;
    training_on_gpu(on, bf16, spec).max(looking)
}

/// What a library holds on a GPU before it is given anything.
fn context(on: BurnDevice) -> f64 {
    if on.is_libtorch() { 0.65e9 } else { 1.5e9 }
}

/// libtorch's was fitted to four peaks on an H100 (docs/BENCHMARKS.md), burn's is counted.
fn training_on_gpu(on: BurnDevice, bf16: bool, spec: &RunSpec) -> f64 {
    let c = &spec.model;
    let sequences = on.training_sequences(c, c.n_ctx).min(spec.train.batch);
    if on.is_libtorch() {
        let tokens = sequences * c.n_ctx;
        let logits = 2 * c.d_vocab * tokens.min(on.numbers_at_once() / 2 / c.d_vocab);
        let activations =
            tokens * (c.n_layers * (7 * c.d_model + 3 * c.d_mlp) + 6 * c.d_model) + logits;
        let number = if bf16 { NUMBER / 2.0 } else { NUMBER };
        // Weights, two moments, gradients, and what one step of the optimizer makes of them.
        return context(on) + 8.0 * weights(spec) + number * activations as f64;
    }
    // Patterns of every layer are kept; three more arrays of their size come and go.
    let square = c.n_heads * c.n_ctx * c.n_ctx * (c.n_layers + 3);
    let rows = c.n_ctx * (c.n_layers * (14 * c.d_model + 5 * c.d_mlp) + 4 * c.d_vocab);
    context(on) + 3.0 * weights(spec) + NUMBER * (sequences * (square + rows)) as f64
}

/// What Linux says can be had without swapping, and what a container may still take; `None`
/// elsewhere.
fn available() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0;
    let number = |file: &str| {
        fs::read_to_string(format!("/sys/fs/cgroup/{file}"))
            .ok()
            .and_then(|text| text.trim().parse::<f64>().ok())
    };
    // "max" where there is no limit, no file outside a container.
    Some(match (number("memory.max"), number("memory.current")) {
        (Some(limit), Some(used)) => free.min((limit - used).max(0.0)),
        _ => free,
    })
}

/// "1.2 GB"
pub fn bytes(count: f64) -> String {
    match count {
        c if c < 1e6 => format!("{:.0} kB", c / 1e3),
        c if c < 1e9 => format!("{:.0} MB", c / 1e6),
        c if c < 1e12 => format!("{:.1} GB", c / 1e9),
        c => format!("{:.1} TB", c / 1e12),
    }
}

#[cfg(test)]
mod tests {
    use induction_model::ModelConfig;

    use super::*;
    use crate::plan::{Corpora, PlanOptions, Scale, plan};

    #[test]
    fn the_largest_meet() {
        assert_eq!(of_largest([1.0, 5.0, 3.0].into_iter(), 2), 8.0);
        assert_eq!(of_largest([1.0].into_iter(), 4), 1.0);
    }

    /// MiB that training took on an H100, by the layers, the context, the batch, and whether it was
    /// in bfloat16.
    #[test]
    fn training_on_a_gpu_holds_what_was_measured() {
        let corpora = Corpora { main: "".into(), second: "".into(), books: "".into() };
        let options =
            PlanOptions { scale: Scale::Smoke, clamp: false, seed: 0, seeds: Some(1), corpora };
        let mut spec = plan(&options).runs.remove(0).spec;
        for (n_layers, n_ctx, batch, bf16, measured) in [
            (2, 512, 64, true, 2493.0),
            (6, 512, 64, true, 3983.0),
            (2, 8192, 4, true, 2553.0),
            (2, 512, 64, false, 3991.0),
        ] {
            let model = ModelConfig {
                n_layers,
                n_ctx,
                d_model: 768,
                n_heads: 12,
                d_head: 64,
                d_vocab: 4096,
                ..spec.model
            };
            spec.model = ModelConfig { d_mlp: 0, ..model };
            spec.train.batch = batch;
            let found =
                training_on_gpu(BurnDevice::LibtorchCuda(0), bf16, &spec) / f64::from(1 << 20);
            assert!((found - measured).abs() < 0.1 * measured, "{found} for {measured}");
        }
    }

    #[test]
    fn what_cannot_fit_is_refused_with_its_largest_tensor() {
        let corpora = Corpora { main: "".into(), second: "".into(), books: "".into() };
        let mut spec = plan(&PlanOptions {
            scale: Scale::Smoke,
            clamp: false,
            seed: 0,
            seeds: Some(1),
            corpora,
        })
        .runs
        .remove(0)
        .spec;
        check(std::iter::once(&spec), Device::Cpu, 1, 1).unwrap();
        spec.model.d_vocab = 1 << 26;
        let message = check(std::iter::once(&spec), Device::Cpu, 1, 1).unwrap_err().to_string();
        assert!(message.contains("W_E") || message.contains("W_U"), "{message}");
        assert!(message.contains("lower --jobs") && message.contains(&spec.name), "{message}");
    }
}
