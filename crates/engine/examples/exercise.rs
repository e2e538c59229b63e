//! Everything that an engine can do, once, on a device, for models of different shapes: training
//! steps with the optimizer on the host and on the device, losses, every hook point, every kind of
//! intervention. `cargo run --release -p induction-engine --example exercise -- flex [--bf16]`
//!
//! ```text
//! flex: plain, d_model 48: trained 2 steps, 15 activations, losses under 6 sets of interventions
//! flex: smeared keys and MLPs, d_model 48: trained 2 steps, 17 activations, losses under 6 sets of interventions
//! ...
//! ```
//!
//! What comes out is not looked at: the tests do that. This shows that a device has every kernel,
//! and has them compiled: `cargo xtask ci --cuda` runs it on a driver that keeps the kernels and
//! computes nothing.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use induction_engine::{BurnDevice, Engine, Intervention, ParameterKind, ResidentStep};
use induction_model::{Clamp, Hook, ModelConfig, Normalization, Params};
use ndarray::{Array2, Array3, ArrayD, Axis};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let device: BurnDevice =
        arguments.next().ok_or("expected a device, such as flex or cuda:0")?.parse()?;
    let bf16 = match arguments.next().as_deref() {
        None => false,
        Some("--bf16") => true,
        Some(other) => return Err(format!("expected --bf16 or nothing, found {other}").into()),
    };
    for (name, config, batch) in models() {
        // On a GPU training stays on the device; elsewhere that path is asked for.
        let mut engine = device.engine_kept(true, bf16, &config, &config.init_params(0)?)?;
        let (activations, sets) = everything(engine.as_mut(), batch)?;
        println!(
            "{device}: {name}, d_model {}: trained 2 steps, {activations} activations, losses under {sets} sets of \
             interventions",
            config.d_model
        );
    }
    Ok(())
}

/// Every option of the family, at sizes that divide nothing; and the paper's width, for which other
/// kernels are chosen.
fn models() -> Vec<(&'static str, ModelConfig, usize)> {
    let small = ModelConfig {
        d_model: 48,
        n_heads: 3,
        d_head: 16,
        n_ctx: 33,
        d_vocab: 61,
        ..ModelConfig::default()
    };
    let wide = ModelConfig {
        d_model: 768,
        n_heads: 12,
        d_head: 64,
        n_ctx: 512,
        d_vocab: 4096,
        ..ModelConfig::default()
    };
    vec![
        ("plain", small.clone(), 5),
        (
            "smeared keys and MLPs",
            ModelConfig { smeared_keys: true, d_mlp: 80, ..small.clone() },
            5,
        ),
        ("no layer norm", ModelConfig { normalization: Normalization::None, ..small.clone() }, 5),
        (
            "a head clamped to the previous token",
            ModelConfig {
                clamp: Clamp::PreviousToken { layer: 0, head: 1 }.into(),
                ..small.clone()
            },
            5,
        ),
        ("induction forbidden", ModelConfig { clamp: Clamp::ForbidInduction.into(), ..small }, 5),
        ("wide", wide.clone(), 4),
        ("wide with MLPs", ModelConfig { d_mlp: 3072, ..wide }, 4),
    ]
}

/// The numbers of activations captured and of sets of interventions.
fn everything(
    engine: &mut dyn Engine,
    batch: usize,
) -> Result<(usize, usize), induction_engine::Error> {
    let config = engine.config().clone();
    let (n_ctx, d_head) = (config.n_ctx, config.d_head);
    let examples = Array2::from_shape_fn((batch, n_ctx + 1), |(i, j)| {
        ((7 * i + 3 * j + j * j) % config.d_vocab) as u32
    });
    let (params, zeros) = (config.init_params(0)?, Params::zeros(&config));

    // The optimizer on the host, then on the device.
    engine.loss_and_gradients(examples.view().into(), &mut zeros.clone())?;
    engine.set_params(&params)?;
    let kinds = vec![ParameterKind { lr_scale: 1.0, decays: true }; params.iter().count()];
    let step = ResidentStep {
        lr: 1e-3,
        betas: [0.9, 0.98],
        corrections: [0.1, 0.02],
        eps: 1e-8,
        weight_decay: 0.01,
        clip_norm: 1.0,
    };
    if let Some(device) = engine.resident() {
        device.load(&params, [&zeros, &zeros], &kinds)?;
        for _ in 0..2 {
            device.step(examples.view().into(), &step)?;
        }
        device.fetch(&mut zeros.clone(), [&mut zeros.clone(), &mut zeros.clone()])?;
    }

    let read = examples.view().split_at(Axis(1), n_ctx).0;
    let layers = 0..config.n_layers;
    let mut hooks: Vec<Hook> = layers
        .clone()
        .flat_map(|l| {
            [
                Hook::Q(l),
                Hook::K(l),
                Hook::V(l),
                Hook::Pattern(l),
                Hook::Z(l),
                Hook::AttnOut(l),
                Hook::ResidPost(l),
            ]
        })
        .collect();
    hooks.push(Hook::Embed);
    if config.d_mlp > 0 {
        hooks.extend(layers.clone().map(Hook::MlpOut));
    }
    engine.logits(read, &[])?;
    let seen = engine.activations(read, &hooks, &[])?;

    let zero = Intervention::ZeroHead { layer: 0, head: 1 };
    let pattern =
        Array3::from_shape_fn((batch, n_ctx, n_ctx), |(_, query, key)| f32::from(query == key));
    let forced = Intervention::ForcePattern { layer: 1, head: 0, pattern };
    let frozen = layers.map(|layer| Intervention::FreezePatterns { layer });
    let values = Intervention::ReplaceHead {
        hook: Hook::V(0),
        head: 0,
        from: 0,
        value: Array3::zeros((batch, n_ctx, d_head)),
    };
    let residual: ArrayD<f32> = seen[&Hook::ResidPost(0)].clone();
    let sets = [
        vec![],
        vec![zero.clone()],
        frozen.chain([zero]).collect(),
        vec![forced],
        vec![values],
        vec![Intervention::Replace { hook: Hook::ResidPost(0), value: residual }],
    ];
    engine.losses_under(examples.view(), &sets.each_ref().map(Vec::as_slice))?;
    Ok((seen.len(), sets.len()))
}
