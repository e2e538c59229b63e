//! The first steps of a run on each engine, and on any number of threads.

use induction_engine::{BurnEngine, CpuEngine, Engine};
use induction_model::{ModelConfig, Params};
use induction_records::{RunSpec, StepRow, TrainSpec};
use induction_train::{
    Continue, Observer, Optimizer, Outcome, Quiet, Snapshot, clip_by_global_norm, list_snapshots,
};
use ndarray::Array2;

use crate::oracle::{devices, engines_on};

const STEPS: u64 = 50;
const BATCH: usize = 5;

fn config() -> ModelConfig {
    ModelConfig {
        d_model: 64,
        d_head: 16,
        d_mlp: 96,
        n_ctx: 72,
        d_vocab: 64,
        smeared_keys: true,
        ..ModelConfig::default()
    }
}

/// Sequences whose second half repeats the first: there is something to learn.
fn batch(config: &ModelConfig, step: u64) -> Array2<u32> {
    let mut rng = induction_random::stream(3, "engines", step);
    let half = config.n_ctx / 2;
    let mut examples = Array2::from_shape_simple_fn((BATCH, config.n_ctx + 1), || {
        rand::Rng::random_range(&mut rng, 0..config.d_vocab as u32)
    });
    for mut row in examples.rows_mut() {
        (half..row.len()).for_each(|at| row[at] = row[at - half]);
    }
    examples
}

/// The loss of each step, and the weights after the last; on the device, where the engine keeps its
/// training there.
fn train(engine: &mut dyn Engine) -> (Vec<f32>, Params) {
    let config = engine.config().clone();
    let spec = TrainSpec::new(u64::MAX, BATCH, 3e-3);
    let mut params = config.init_params(0).unwrap();
    let mut gradients = Params::zeros(&config);
    let mut optimizer = Optimizer::new(&config);
    if let Some(device) = engine.resident() {
        device.load(&params, [&optimizer.m, &optimizer.v], &optimizer.kinds(&spec)).unwrap();
    }
    let losses = (1..=STEPS).map(|step| {
        let (examples, lr) = (batch(&config, step), spec.lr * (step as f64 / 20.0).min(1.0));
        if let Some(device) = engine.resident() {
            return device
                .step(examples.view().into(), &optimizer.resident_step(lr, &spec))
                .unwrap()
                .loss;
        }
        let loss = engine.loss_and_gradients(examples.view().into(), &mut gradients).unwrap();
        let clip = clip_by_global_norm(&gradients, spec.clip_norm);
        optimizer.update(&mut params, &gradients, clip.scale, lr, &spec);
        engine.set_params(&params).unwrap();
        loss
    });
    let losses = losses.collect();
    if let Some(device) = engine.resident() {
        device.fetch(&mut params, [&mut optimizer.m, &mut optimizer.v]).unwrap();
    }
    (losses, params)
}

#[test]
fn fifty_steps_are_those_of_every_device() {
    let config = config();
    let params = config.init_params(0).unwrap();
    let (ours, _) = train(&mut CpuEngine::new(&config, &params).unwrap());
    assert!(ours[49] < ours[0] - 0.1, "nothing was learned: {} to {}", ours[0], ours[49]);
    for device in devices() {
        // Rounding differs by 1e-7 a step and grows with the steps; an error in a gradient would
        // show in the first digits. A GPU's products may round to 10 bits, bfloat16 rounds to 8.
        let limits = [(false, if device.is_gpu() { 1e-2 } else { 1e-3 }), (true, 5e-2)];
        for (bf16, limit) in limits.into_iter().filter(|(bf16, _)| !bf16 || device.has_bf16()) {
            for kept in [false, true] {
                for mut engine in engines_on(device, bf16, kept, &config, &params) {
                    let name =
                        format!("{}{}", engine.name(), if kept { ", kept there" } else { "" });
                    let (theirs, _) = train(engine.as_mut());
                    let largest =
                        ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                    println!(
                        "| {STEPS} steps, loss from {:.3} to {:.3} | {name} | {largest:.1e} |",
                        ours[0], ours[49]
                    );
                    assert!(largest < limit, "{name}: losses differ by {largest}");
                }
            }
        }
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads_ten_times() {
    let config = config();
    let params = config.init_params(0).unwrap();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train(&mut CpuEngine::new(&config, &params).unwrap()))
    };
    let first = on(1);
    for repeat in 0..10 {
        for threads in [1, 2, 3, 8] {
            assert!(on(threads) == first, "repeat {repeat} on {threads} threads gives other bits");
        }
    }
}

const SPEC: &str = "format = 1\nname = 'kept'\nseed = 7\n[data]\nsource = 'repeats'\nmin_period = 3\nmax_period = 8\n[model]\n\
n_layers = 2\nd_model = 16\nn_heads = 2\nd_head = 8\nn_ctx = 24\nd_vocab = 16\n[train]\ntokens = 1920\nbatch = 2\nlr = 0.01\n\
[snapshots]\nevery = 20\n[evaluation]\nexamples = 8\nicl_early = 3\nicl_late = 22\nicl_half_width = 1\nhead_examples = 3\n\
prefix_block = 5\n";

struct StopAt(u64);

impl Observer for StopAt {
    fn step(&mut self, metrics: &StepRow) -> Continue {
        if metrics.step == self.0 { Continue::Stop } else { Continue::Yes }
    }
}

/// Training that stays on a device: what is stopped and gone on from ends where the whole run does,
/// to the bit.
#[test]
fn a_run_kept_on_a_device_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let spec = RunSpec::parse(&folder.path().join("spec.toml"), SPEC).unwrap();
    let examples = |index: u64| -> Vec<u32> {
        (0..25).map(|at| ((index * 5 + at * at + at) % 15 + 1) as u32).collect()
    };
    let engine = || {
        let params = spec.model.init_params(spec.seed).unwrap();
        BurnEngine::flex(&spec.model, &params).unwrap().kept_on_device(true)
    };
    let run = |name: &str, observer: &mut dyn Observer| {
        induction_train::train(
            &spec,
            &examples,
            &mut engine(),
            1,
            &folder.path().join(name),
            observer,
        )
        .unwrap()
    };
    let last = |name: &str| {
        let run = folder.path().join(name);
        let step = *list_snapshots(&run).unwrap().last().unwrap();
        let (_, Snapshot { params, optimizer, .. }) = Snapshot::load(&run, step).unwrap();
        (step, params, optimizer)
    };
    assert_eq!(run("whole", &mut Quiet), Outcome::Finished);
    assert_eq!(run("pieces", &mut StopAt(13)), Outcome::Stopped { step: 13 });
    assert_eq!(run("pieces", &mut StopAt(31)), Outcome::Stopped { step: 31 });
    assert_eq!(run("pieces", &mut Quiet), Outcome::Finished);
    assert!(last("whole") == last("pieces"));
    assert!(last("whole").1 != spec.model.init_params(spec.seed).unwrap());
}
