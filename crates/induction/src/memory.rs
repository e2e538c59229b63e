//! What a run holds in memory, before it starts: counted from its spec, and held against what the machine has.
//!
//! The sums below were fitted to the peaks of nine models of all shapes (docs/BENCHMARKS.md); a test asks for 20 %.

use std::{collections::BTreeSet, fs, path::Path};

use induction_engine::{BurnDevice, gpus};
use induction_train::RunSpec;

use crate::{Error, device::Device, plan::corpus, predict::Cost};

/// Bytes of a float32.
const NUMBER: f64 = 4.0;

/// What the process holds whatever it works on, in bytes: code, thread stacks, an allocator's rest.
const PROCESS: f64 = 12e6;

/// What one more run at once costs beside what it holds: an allocator's pools of its threads.
const JOB: f64 = 4e6;

/// Of a text's bytes, what reading it, learning its tokens and cutting it into them leaves with the allocator.
const TEXT: f64 = 12.7;

/// Of the bytes that the report reads.
const REPORT: f64 = 0.6;

/// The CPU engine sums a batch's gradients in at most so many buffers.
const GRADIENT_BUFFERS: usize = 8;

/// Peak of what a run holds on the CPU engine with that many threads, in bytes, beside [`PROCESS`]: the largest of its stages.
pub(crate) fn of(spec: &RunSpec, threads: usize) -> f64 {
    training(spec, threads).max(measuring(spec, threads)).max(removing(spec, threads))
}

/// Peak of a whole plan in one process, in bytes: its texts, the `jobs` largest runs, the report. What was freed is counted,
/// since allocators rarely give it back.
pub(crate) fn of_plan(specs: &[&RunSpec], jobs: usize, threads_per_job: usize) -> f64 {
    let runs = of_largest(specs.iter().map(|spec| of(spec, threads_per_job)), jobs);
    let report: f64 = specs.iter().map(|spec| Cost::of(spec).report).sum();
    PROCESS + JOB * jobs.min(specs.len()) as f64 + TEXT * largest_text(specs) + runs + REPORT * report
}

/// Bytes of the largest text; 0 where it cannot be read, which is told when it is needed.
fn largest_text(specs: &[&RunSpec]) -> f64 {
    let paths: BTreeSet<&Path> = specs.iter().filter_map(|spec| corpus(spec)).collect();
    let bytes = |path: &Path| -> usize {
        induction_tokenizer::corpus::load(path).map_or(0, |found| found.documents.iter().map(|d| d.text.len()).sum())
    };
    paths.into_iter().map(bytes).max().unwrap_or(0) as f64
}

/// What training holds.
fn training(spec: &RunSpec, threads: usize) -> f64 {
    let c = &spec.model;
    // Weights, two moments, gradients, the engine's copies; a snapshot on its way to the disk, in two forms.
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

/// Refuses runs that need more memory than the machine has free, or its GPU; `jobs` of them at once.
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
    if let Device::Burn { on, .. } = device
        && let Some(index) = on.gpu()
        && let Some(gpu) = gpus().ok().and_then(|found| found.into_iter().find(|gpu| gpu.index == index))
    {
        let free = gpu.free as f64 * 1024.0 * 1024.0;
        let needed = of_largest(specs.iter().map(|spec| on_gpu(on, spec)), jobs);
        refuse(&specs, jobs, needed, free, &format!("device {on}"), |spec| on_gpu(on, spec))?;
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

/// What training a spec holds on a GPU, in bytes: its context and workspace, weights and gradients, and the activations of
/// as many sequences as are worked on at once.
fn on_gpu(on: BurnDevice, spec: &RunSpec) -> f64 {
    const CONTEXT: f64 = 1.5e9;
    let c = &spec.model;
    let scores = c.n_heads * c.n_ctx * c.n_ctx;
    let batch = (on.numbers_at_once() / scores).clamp(1, spec.train.batch);
    // Patterns of every layer are kept; three more arrays of their size come and go.
    let square = (scores * (c.n_layers + 3)) as f64;
    let rows = (c.n_ctx * (c.n_layers * (14 * c.d_model + 5 * c.d_mlp) + 4 * c.d_vocab)) as f64;
    CONTEXT + 3.0 * weights(spec) + NUMBER * batch as f64 * (square + rows)
}

/// What Linux says can be had without swapping, and what a container may still take; `None` elsewhere.
fn available() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0;
    let number = |file: &str| {
        fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok().and_then(|text| text.trim().parse::<f64>().ok())
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
    use super::*;
    use crate::plan::{Corpora, PlanOptions, Scale, plan};

    #[test]
    fn the_largest_meet() {
        assert_eq!(of_largest([1.0, 5.0, 3.0].into_iter(), 2), 8.0);
        assert_eq!(of_largest([1.0].into_iter(), 4), 1.0);
    }

    #[test]
    fn what_cannot_fit_is_refused_with_its_largest_tensor() {
        let corpora = Corpora { main: "".into(), second: "".into(), books: "".into() };
        let mut spec = plan(&PlanOptions { scale: Scale::Smoke, clamp: false, seed: 0, seeds: Some(1), corpora })
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
