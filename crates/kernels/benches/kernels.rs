//! The parts of a training step, on one thread, at the laptop model's sizes: d_model 128, heads of
//! 32, context 512, vocabulary 512. Criterion's throughput is in floating-point operations for
//! products, in elements for the rest.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use induction_kernels::{
    AdamW, Arch, Left, Out,
    activations::gelu,
    adamw,
    attention::{self, Bend, Forbidden, Saved, Shape},
    matmul,
    norms::{layer_norm, layer_norm_backward},
    panels,
    rows::cross_entropy,
};

const USED: usize = 512;
const ROWS: usize = 520;
const D_MODEL: usize = 128;
const D_HEAD: usize = 32;
const D_VOCAB: usize = 512;

fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn products(criterion: &mut Criterion) {
    let arch = Arch::new();
    let mut group = criterion.benchmark_group("matmul");
    for (name, m, k, n, transposed) in [
        ("queries and keys", USED, D_MODEL, 2 * D_MODEL, false),
        ("logits", 64, D_MODEL, D_VOCAB, false),
        ("gradient of queries and keys", D_MODEL, USED, 2 * D_MODEL, true),
        ("1024 cubed", 1024, 1024, 1024, false),
        // A sequence through a large model's layer: a panel of the second is more than a cache.
        ("104 x 4096 x 14336", 104, 4096, 14336, false),
        ("104 x 14336 x 4096", 104, 14336, 4096, false),
    ] {
        let stored = m.max(if transposed { k } else { m }) + 8;
        let left = noise(panels::len(stored, m.max(k)));
        let (right, mut out) = (noise(panels::len(k, n)), noise(panels::len(m, n)));
        group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let data = black_box(&left);
                let left = if transposed {
                    Left::Transposed { data, rows: stored, first: 0 }
                } else {
                    Left::Plain { data, rows: stored, first: 0 }
                };
                matmul(arch, m, k, n, left, &right, k, &mut out, m, Out::Set);
            });
        });
    }
}

fn one_head(criterion: &mut Criterion) {
    let arch = Arch::new();
    let shape =
        Shape { used: USED, rows: ROWS, d_head: D_HEAD, scale: 0.18, bend: Bend::default() };
    let [q, k, v, dz] = [(); 4].map(|()| noise(panels::len(ROWS, D_HEAD)));
    let [mut z, mut dq, mut dk, mut dv] = [(); 4].map(|()| noise(panels::len(ROWS, D_HEAD)));
    let [mut k_t, mut v_t] = [(); 2].map(|()| noise(panels::len(D_HEAD, USED)));
    let mut log_sums = vec![0.0; USED];
    let free = Forbidden::default();
    let mut scratch = vec![0.0; attention::scratch_len(USED)];
    panels::transpose(&v, ROWS, USED, D_HEAD, &mut v_t, D_HEAD, 0);
    let mut group = criterion.benchmark_group("attention, one head");
    group.throughput(Throughput::Elements((USED * D_HEAD) as u64));
    group.bench_function("transpose", |bencher| {
        bencher.iter(|| panels::transpose(black_box(&k), ROWS, USED, D_HEAD, &mut k_t, D_HEAD, 0));
    });
    let pairs = (USED * (USED + 1) / 2) as u64;
    group.throughput(Throughput::Elements(pairs * 4 * D_HEAD as u64));
    group.bench_function("forward", |bencher| {
        bencher.iter(|| {
            attention::forward(
                arch,
                shape,
                free,
                black_box(&q),
                &k_t,
                &v,
                &mut z,
                &mut log_sums,
                &mut scratch,
            );
        });
    });
    group.throughput(Throughput::Elements(pairs * 8 * D_HEAD as u64));
    group.bench_function("backward", |bencher| {
        bencher.iter(|| {
            let saved =
                Saved { q: black_box(&q), k: &k, k_t: &k_t, v_t: &v_t, z: &z, log_sums: &log_sums };
            attention::backward(
                arch,
                shape,
                free,
                saved,
                &dz,
                &mut dq,
                &mut dk,
                &mut dv,
                &mut scratch,
            );
        });
    });
}

fn row_by_row(criterion: &mut Criterion) {
    let arch = Arch::new();
    let mut group = criterion.benchmark_group("rows");
    let [x, dy] = [(); 2].map(|()| noise(panels::len(ROWS, D_MODEL)));
    let [mut out, mut dx] = [(); 2].map(|()| noise(panels::len(ROWS, D_MODEL)));
    let (w, b, mut stats) = (noise(D_MODEL), noise(D_MODEL), vec![[0.0; 2]; USED]);
    let (mut dw, mut db) = (noise(D_MODEL), noise(D_MODEL));
    group.throughput(Throughput::Elements((USED * D_MODEL) as u64));
    group.bench_function("layer norm", |bencher| {
        bencher.iter(|| {
            layer_norm(
                arch,
                black_box(&x),
                ROWS,
                USED,
                D_MODEL,
                &w,
                &b,
                1e-5,
                &mut stats,
                &mut out,
            );
        });
    });
    group.bench_function("layer norm, backward", |bencher| {
        let mut run = || {
            layer_norm_backward(
                arch,
                &x,
                ROWS,
                USED,
                D_MODEL,
                &w,
                &stats,
                black_box(&dy),
                &mut dx,
                &mut dw,
                &mut db,
            );
        };
        bencher.iter(&mut run);
    });
    let (bias, mut hidden, mut slope) =
        (noise(512), noise(panels::len(ROWS, 512)), noise(panels::len(ROWS, 512)));
    group.throughput(Throughput::Elements((USED * 512) as u64));
    group.bench_function("gelu and its slope", |bencher| {
        bencher.iter(|| gelu(arch, black_box(&mut hidden), ROWS, USED, &bias, Some(&mut slope)));
    });
    let logits = noise(panels::len(65, D_VOCAB));
    let (targets, mut losses) = (vec![7; 64], vec![0.0; 64]);
    group.throughput(Throughput::Elements((64 * D_VOCAB) as u64));
    group.bench_function("cross-entropy and its gradient", |bencher| {
        bencher.iter_batched_ref(
            || logits.clone(),
            |logits| cross_entropy(arch, logits, 65, D_VOCAB, &targets, &mut losses, Some(1.0)),
            criterion::BatchSize::SmallInput,
        );
    });
    let [mut p, g, mut m, mut v] = [(); 4].map(|()| noise(1 << 18));
    v.iter_mut().for_each(|v| *v = v.abs());
    let step = AdamW {
        gradient_scale: 1.0,
        mix1: 0.1,
        beta2: 0.98,
        mix2: 0.02,
        step_size: 1e-6,
        root_correction2: 1.0,
        eps: 1e-8,
        decay: 1.0,
    };
    group.throughput(Throughput::Elements(1 << 18));
    group.bench_function("adamw", |bencher| {
        bencher.iter(|| adamw(arch, step, &mut p, black_box(&g), &mut m, &mut v));
    });
}

criterion_group!(benches, products, one_head, row_by_row);
criterion_main!(benches);
