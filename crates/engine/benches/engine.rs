//! A training step's gradient and an evaluation at the laptop model's sizes, on all threads;
//! elements are tokens.

#![allow(clippy::unwrap_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use induction_engine::{BurnEngine, CpuEngine, Engine, Intervention};
use induction_model::{ModelConfig, Params};
use ndarray::Array2;

fn tokens(config: &ModelConfig, rows: usize) -> Array2<u32> {
    Array2::from_shape_fn((rows, config.n_ctx + 1), |(row, at)| {
        ((row * 31 + at * at * 7) % config.d_vocab) as u32
    })
}

fn engines(criterion: &mut Criterion) {
    let config = ModelConfig::default();
    let params = config.init_params(0).unwrap();
    let cpu: Box<dyn Engine> = Box::new(CpuEngine::new(&config, &params).unwrap());
    let flex: Box<dyn Engine> = Box::new(BurnEngine::flex(&config, &params).unwrap());
    for mut engine in [cpu, flex] {
        let mut group = criterion.benchmark_group(engine.name().to_string());
        group.sample_size(10);
        let (batch, held_out) = (tokens(&config, 4), tokens(&config, 16));
        let mut gradients = Params::zeros(&config);
        group.throughput(Throughput::Elements((4 * config.n_ctx) as u64));
        group.bench_function("weights in, gradient of a batch", |bencher| {
            bencher.iter(|| {
                engine.set_params(&params).unwrap();
                engine.loss_and_gradients(batch.view().into(), &mut gradients).unwrap()
            });
        });
        group.throughput(Throughput::Elements((16 * config.n_ctx) as u64));
        group.bench_function("losses", |bencher| {
            bencher.iter(|| engine.losses(held_out.view(), &[]).unwrap());
        });
        let heads: Vec<[Intervention; 1]> = (0..config.n_layers)
            .flat_map(|layer| {
                (0..config.n_heads).map(move |head| [Intervention::ZeroHead { layer, head }])
            })
            .collect();
        let sets: Vec<&[Intervention]> = heads.iter().map(|set| &set[..]).collect();
        group.bench_function("losses without each of the 8 heads", |bencher| {
            bencher.iter(|| engine.losses_under(held_out.view(), &sets).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, engines);
criterion_main!(benches);
