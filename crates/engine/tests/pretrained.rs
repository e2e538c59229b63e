//! Pretrained models against `transformers` and TransformerLens in float64
//! (`fixtures/oracle/pretrained.py`).

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use induction_engine::{CpuEngine, Engine, Intervention, Sight, StreamEngine, Watched, archs};
use induction_model::{Clamp, ForbiddenKeys, Hook, Params, pretrained};
use ndarray::{Array2, ArrayD, Axis, IxDyn};
use safetensors::{Dtype, SafeTensors};

/// Logits reach about 20 here; float32 rounds them to 1e-6.
const TOLERANCE: f32 = 1e-4;

fn models() -> Vec<(String, PathBuf)> {
    let folder =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/oracle/pretrained"));
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_string(), path)
        })
        .collect();
    found.sort();
    assert_eq!(found.len(), 93);
    found
}

/// The folder, or the GGUF file in it.
fn model_in(folder: &std::path::Path) -> PathBuf {
    let file = folder.join("model.gguf");
    if file.exists() { file } else { folder.to_path_buf() }
}

/// No family is without a model that a library was asked about, and the README names them all.
#[test]
fn every_family_has_its_oracle() {
    let found: BTreeSet<String> = models()
        .iter()
        .map(|(_, folder)| pretrained::look(&model_in(folder)).unwrap().family)
        .collect();
    let readme =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let mut table = String::from("| family | `model_type` | GGUF |\n|---|---|---|\n");
    for family in pretrained::families() {
        let gguf = family.gguf.map_or(String::new(), |name| format!("`{name}`"));
        table += &format!("| {} | `{}` | {gguf} |\n", family.title, family.huggingface);
        for name in [Some(family.huggingface), family.gguf].into_iter().flatten() {
            assert!(found.contains(name), "no model of {name} in fixtures/oracle/pretrained");
        }
    }
    assert!(readme.contains(&table), "README.md should have this table:\n{table}");
}

struct Expected {
    tokens: Array2<u32>,
    logits: ArrayD<f32>,
    /// Layer, `[example, head, query, key]`.
    patterns: Vec<(usize, ArrayD<f32>)>,
}

fn expected(folder: &std::path::Path) -> Expected {
    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let float = |name: &str| {
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::F32);
        let values = view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap()
    };
    let tokens = file.tensor("tokens").unwrap();
    let ids = tokens
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|&b| u32::try_from(i64::from_le_bytes(b)).unwrap())
        .collect();
    let layers = (0..8).filter(|l| file.tensor(&format!("pattern.{l}")).is_ok());
    Expected {
        tokens: Array2::from_shape_vec((tokens.shape()[0], tokens.shape()[1]), ids).unwrap(),
        logits: float("logits"),
        patterns: layers.map(|l| (l, float(&format!("pattern.{l}")))).collect(),
    }
}

fn largest_difference(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f32 {
    assert_eq!(a.shape(), b.shape());
    // `max` would pass over what is no number.
    let larger = |most: f32, x: f32| if x <= most { most } else { x + 0.0 * most };
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, larger)
}

#[test]
fn logits_and_patterns_are_those_of_the_libraries() {
    let mut wrong = Vec::new();
    for (name, folder) in models() {
        let model = pretrained::open(&model_in(&folder)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let Expected { tokens, logits, patterns } = expected(&folder);
        for arch in archs() {
            let engine = CpuEngine::on(arch, &model.config, &model.params).unwrap();
            let found = engine.logits(tokens.view(), &[]).unwrap().into_dyn();
            let difference = largest_difference(&found, &logits);
            println!(
                "{name} {arch:?}: {} {} logits {difference:.1e}",
                model.family, model.encoding
            );
            if difference.is_nan() || difference > TOLERANCE {
                wrong.push(format!("{name}, {arch:?}: logits differ by {difference}"));
            }
            for (l, expected) in &patterns {
                let seen = engine.activations(tokens.view(), &[Hook::Pattern(*l)], &[]).unwrap();
                let difference = largest_difference(&seen[&Hook::Pattern(*l)], expected);
                if difference.is_nan() || difference > TOLERANCE / 10.0 {
                    wrong.push(format!("{name}, {arch:?}: pattern {l} differs by {difference}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn losses_are_those_of_the_logits() {
    for (name, folder) in models() {
        let model = pretrained::open(&model_in(&folder)).unwrap();
        let Expected { tokens, logits, .. } = expected(&folder);
        let engine = CpuEngine::new(&model.config, &model.params).unwrap();
        let losses = engine.losses(tokens.view(), &[]).unwrap();
        for ((example, at), &loss) in losses.indexed_iter() {
            let row = logits.index_axis(Axis(0), example);
            let row = row.index_axis(Axis(0), at);
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let target = f64::from(row[tokens[[example, at + 1]] as usize]);
            let expected = sum.ln() - target;
            assert!((f64::from(loss) - expected).abs() < 1e-4, "{name}: {loss} is not {expected}");
        }
    }
}

/// Removing a head is the same as a model whose head writes nothing, alone or among other sets.
#[test]
fn a_removed_head_is_a_model_without_it() {
    for (name, folder) in models() {
        let model = pretrained::open(&model_in(&folder)).unwrap();
        let tokens = expected(&folder).tokens;
        let engine = CpuEngine::new(&model.config, &model.params).unwrap();
        let places: Vec<(usize, usize)> = (0..model.config.n_layers)
            .flat_map(|l| (0..model.config.n_heads).map(move |h| (l, h)))
            .collect();
        let single: Vec<[Intervention; 1]> =
            places.iter().map(|&(layer, head)| [Intervention::ZeroHead { layer, head }]).collect();
        let sets: Vec<&[Intervention]> = single.iter().map(|set| &set[..]).collect();
        let together = engine.losses_under(tokens.view(), &sets).unwrap();
        for ((&(layer, head), set), found) in places.iter().zip(&sets).zip(together) {
            let mut params: Params = model.params.clone();
            let w_o = params.get_mut(&format!("blocks.{layer}.attn.W_O")).unwrap();
            w_o.index_axis_mut(Axis(0), head).fill(0.0);
            let without =
                CpuEngine::new(&model.config, &params).unwrap().losses(tokens.view(), &[]).unwrap();
            let alone = engine.losses(tokens.view(), set).unwrap();
            assert_eq!(alone, found, "{name}: head {layer}.{head}");
            let difference = largest_difference(&without.into_dyn(), &found.into_dyn());
            assert!(difference < 1e-5, "{name}: head {layer}.{head}: {difference}");
        }
    }
}

/// A model whose weights stay in its files, read layer by layer, is the same to the bit.
#[test]
fn streamed_is_as_resident() {
    for (name, folder) in models() {
        let model = pretrained::open(&model_in(&folder)).unwrap();
        let unread = pretrained::look(&model_in(&folder)).unwrap();
        assert_eq!((&unread.config, &unread.encoding), (&model.config, &model.encoding), "{name}");
        let resident = CpuEngine::new(&model.config, &model.params).unwrap();
        let streamed = StreamEngine::new(&unread.config, unread.weights.clone()).unwrap();
        // Frozen patterns are read from their exponentials by one, and as patterns by the other.
        assert_same(&name, [&resident, &streamed], &expected(&folder).tokens, 0.0, 1e-5);
    }
}

/// What is replaced at the last positions alone is computed there alone, and is what a whole pass
/// gives; what comes before is what it was.
#[test]
fn last_positions_alone_are_whole_passes() {
    for (name, folder) in models() {
        let model = pretrained::open(&model_in(&folder)).unwrap();
        let unread = pretrained::look(&model_in(&folder)).unwrap();
        let config = &model.config;
        let tokens = expected(&folder).tokens;
        let whole = CpuEngine::new(config, &model.params).unwrap();
        let short = StreamEngine::new(config, unread.weights.clone()).unwrap();
        let used = tokens.ncols() - 1;
        let (inputs, _) = tokens.view().split_at(Axis(1), used);
        // Activations of other tokens: those of the examples the other way round.
        let others = inputs.slice_axis(Axis(0), ndarray::Slice::new(0, None, -1)).to_owned();
        let last = config.n_layers - 1;
        let of_layer = |l| [Hook::Q(l), Hook::K(l), Hook::V(l), Hook::Z(l)];
        let hooks: Vec<Hook> = [0, last].into_iter().flat_map(of_layer).collect();
        let seen = whole.activations(others.view(), &hooks, &[]).unwrap();
        let replaced = |hook: Hook, from: usize, to: usize| {
            let all = seen[&hook].view().into_dimensionality::<ndarray::Ix4>().unwrap();
            let head = all.len_of(Axis(2)) - 1;
            let value = all.index_axis(Axis(2), head);
            let value = value.slice_axis(Axis(1), (from..to).into()).to_owned();
            Intervention::ReplaceHead { hook, head, from, value }
        };
        let mut sets = Vec::new();
        for &hook in &hooks {
            sets.push(vec![replaced(hook, used - 1, used)]);
            sets.push(vec![replaced(hook, used - 3, used - 2)]);
        }
        sets.push(vec![
            replaced(Hook::Z(last), used - 2, used),
            replaced(Hook::V(0), used - 4, used - 1),
        ]);
        sets.push(vec![]);
        // One that must be a whole pass, between the others.
        sets.push(vec![replaced(Hook::Z(0), 2, used)]);
        sets.push(vec![replaced(Hook::K(0), used * 2 / 3, used)]);
        let views: Vec<&[Intervention]> = sets.iter().map(Vec::as_slice).collect();
        let found = short.losses_under(tokens.view(), &views).unwrap();
        let clean = short.losses(tokens.view(), &[]).unwrap();
        let last = short.last_losses_under(tokens.view(), &views, used - 2).unwrap();
        for (found, last) in found.iter().zip(last) {
            assert_eq!(found.slice_axis(Axis(1), (used - 2..).into()), last, "{name}");
        }
        for (set, found) in sets.iter().zip(found) {
            let expected = whole.losses(tokens.view(), set).unwrap();
            let hooks: Vec<Hook> = set.iter().map(Intervention::hook).collect();
            let difference =
                largest_difference(&found.clone().into_dyn(), &expected.clone().into_dyn());
            assert!(difference < TOLERANCE, "{name}: {hooks:?}: {difference}");
            let from = |i: &Intervention| match i {
                Intervention::ReplaceHead { from, .. } => *from,
                _ => 0,
            };
            let from = set.iter().map(from).min().unwrap_or(used);
            let before = |x: &Array2<f32>| x.slice_axis(Axis(1), (..from).into()).to_owned();
            assert_eq!(before(&found), before(&clean), "{name}: {hooks:?}");
            // It does something, but for the keys of the last position, which only itself reads.
            if from < used && !hooks.iter().all(|hook| matches!(hook, Hook::K(_))) {
                assert_ne!(found, clean, "{name}: {hooks:?}");
            }
        }
    }
}

/// PyTorch's library computes the same, whether it keeps the weights or not.
#[cfg(feature = "libtorch")]
#[test]
fn on_pytorchs_library_it_is_the_same() {
    use induction_engine::{BurnDevice, TorchEngine};
    let on = if BurnDevice::LibtorchCuda(0).missing().is_none() {
        BurnDevice::LibtorchCuda(0)
    } else {
        BurnDevice::Libtorch
    };
    // Its sums have another order, and logits reach some tens.
    const WIDER: f32 = 3.0 * TOLERANCE;
    let mut largest = 0.0f32;
    for (k, (name, folder)) in models().into_iter().enumerate() {
        let model = pretrained::open(&model_in(&folder)).unwrap();
        let unread = pretrained::look(&model_in(&folder)).unwrap();
        let Expected { tokens, logits, .. } = expected(&folder);
        let cpu = CpuEngine::new(&model.config, &model.params).unwrap();
        let torch =
            TorchEngine::reading(on, false, &unread.config, unread.weights.clone()).unwrap();
        let torch = torch.kept_on_device(k % 2 == 0);
        let found = torch.logits(tokens.view(), &[]).unwrap().into_dyn();
        let difference = largest_difference(&found, &logits);
        assert!(difference < WIDER, "{name}: logits differ by {difference}");
        largest = largest.max(difference);
        assert_same(&name, [&cpu, &torch], &tokens, WIDER, WIDER);
    }
    println!("{on}: logits within {largest:.1e} of the libraries'");
}

/// With matrices in bfloat16, logits are off by its rounding, and everything can be asked for.
#[cfg(feature = "libtorch")]
#[test]
fn in_bfloat16_it_is_nearly_the_same() {
    use induction_engine::{BurnDevice, TorchEngine};
    let mut largest = 0.0f64;
    for (name, folder) in models() {
        let unread = pretrained::look(&model_in(&folder)).unwrap();
        let Expected { tokens, logits, .. } = expected(&folder);
        let on = BurnDevice::Libtorch;
        let torch = TorchEngine::reading(on, true, &unread.config, unread.weights.clone()).unwrap();
        assert!(torch.name().ends_with(" bf16"));
        let found = torch.logits(tokens.view(), &[]).unwrap().into_dyn();
        let norm = |x: &ArrayD<f32>| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let difference = norm(&(&found - &logits)) / norm(&logits);
        println!("{name}: {difference:.1e}");
        largest = largest.max(difference);
        let hooks = [Hook::Q(0), Hook::K(0), Hook::V(0), Hook::Pattern(0), Hook::Z(0)];
        let seen = torch.activations(tokens.view(), &hooks, &[]).unwrap();
        assert!(seen.values().all(|value| value.iter().all(|x| x.is_finite())), "{name}");
        let off = [Intervention::ZeroHead { layer: 0, head: 0 }];
        let losses = torch.losses_under(tokens.view(), &[&[], &off]).unwrap();
        assert!(losses.iter().flatten().all(|x| x.is_finite()), "{name}");
    }
    println!("logits within {largest:.1e} of their norm");
    assert!(largest < 0.05);
}

/// The paper's own family has steps that no pretrained one has.
#[cfg(feature = "libtorch")]
#[test]
fn the_papers_family_is_read_there_too() {
    use std::sync::Arc;

    use induction_engine::{BurnDevice, TorchEngine};
    use induction_model::{Clamp, ModelConfig, Normalization};
    let plain = ModelConfig {
        n_layers: 2,
        d_model: 24,
        n_heads: 3,
        d_head: 8,
        n_ctx: 24,
        d_vocab: 20,
        ..ModelConfig::default()
    };
    let tokens = Array2::from_shape_fn((3, 24), |(k, at)| ((at * (k + 3)) % 9 + 1) as u32);
    for config in [
        plain.clone(),
        ModelConfig { smeared_keys: true, normalization: Normalization::None, ..plain.clone() },
        ModelConfig { d_mlp: 40, ..plain.clone() },
        ModelConfig { clamp: Clamp::PreviousToken { layer: 0, head: 1 }.into(), ..plain.clone() },
        ModelConfig { clamp: Clamp::ForbidInduction.into(), ..plain.clone() },
        ModelConfig {
            clamp: [Clamp::Match { layer: 1, head: 0 }, Clamp::Off { layer: 1, head: 1 }]
                .into_iter()
                .collect(),
            ..plain.clone()
        },
    ] {
        let params = config.init_params(3).unwrap();
        let cpu = CpuEngine::new(&config, &params).unwrap();
        let torch =
            TorchEngine::reading(BurnDevice::Libtorch, false, &config, Arc::new(params)).unwrap();
        assert_same(&format!("{config:?}"), [&cpu, &torch], &tokens, TOLERANCE, TOLERANCE);
    }
}

/// Both engines give the same, to a tolerance: logits, activations, what is watched, losses under
/// interventions.
fn assert_same(
    name: &str,
    both: [&dyn Engine; 2],
    tokens: &Array2<u32>,
    tolerance: f32,
    of_frozen: f32,
) {
    let close = |a: &ArrayD<f32>, b: &ArrayD<f32>, what: &str| {
        let difference = largest_difference(a, b);
        // Of 0 and of no tolerance the bits are compared.
        assert!(difference <= tolerance, "{name}: {what}: {difference}");
    };
    let config = both[0].config();
    let [a, b] = both.map(|engine| engine.logits(tokens.view(), &[]).unwrap().into_dyn());
    close(&a, &b, "logits");
    let last = config.n_layers - 1;
    let hooks: Vec<Hook> = [0, last]
        .into_iter()
        .flat_map(|l| [Hook::Q(l), Hook::K(l), Hook::V(l), Hook::Pattern(l), Hook::Z(l)])
        .chain([Hook::Embed, Hook::AttnOut(0), Hook::ResidPost(0), Hook::ResidPost(last)])
        .collect();
    for hooks in [&hooks[..], &[Hook::Pattern(0)], &[Hook::Embed], &[Hook::V(last)]] {
        let [a, b] = both.map(|engine| engine.activations(tokens.view(), hooks, &[]).unwrap());
        assert!(a.keys().eq(b.keys()), "{name}: {hooks:?}");
        a.iter().for_each(|(hook, a)| close(a, &b[hook], &hook.to_string()));
    }

    // What is kept may be asked for, too.
    let kept = [
        Intervention::FreezePatterns { layer: last },
        Intervention::ZeroHead { layer: 0, head: 0 },
    ];
    let hooks = [Hook::Pattern(last)];
    let [a, b] = both.map(|engine| engine.activations(tokens.view(), &hooks, &kept).unwrap());
    let difference = largest_difference(&a[&hooks[0]], &b[&hooks[0]]);
    assert!(difference <= of_frozen, "{name}: a pattern that is kept: {difference}");

    // Batches of other lengths and hooks beside each other.
    let short = tokens.slice_axis(Axis(1), (..5).into());
    let batches: [Watched<'_>; 2] = [
        Watched { tokens: tokens.view(), hooks: &[Hook::Pattern, Hook::V] },
        Watched { tokens: short, hooks: &[Hook::ResidPost] },
    ];
    let [a, b] = both.map(|engine| {
        let all = Mutex::new(BTreeMap::new());
        let see = |sight: Sight<'_>| {
            for (hook, seen) in sight.seen.iter().enumerate() {
                for (k, example) in seen.outer_iter().enumerate() {
                    let place = (sight.batch, sight.first + k, sight.layer, hook);
                    assert!(all.lock().unwrap().insert(place, example.to_owned()).is_none());
                }
            }
        };
        engine.watch(&batches, &see).unwrap();
        all.into_inner().unwrap()
    });
    assert_eq!(a.len(), 3 * tokens.nrows() * config.n_layers, "{name}");
    assert!(a.keys().eq(b.keys()), "{name}: watched");
    a.iter().for_each(|(place, a)| close(a, &b[place], "watched"));

    let zero = |layer, head| Intervention::ZeroHead { layer, head };
    let embedding = both[0].activations(tokens.view(), &[Hook::Embed], &[]).unwrap();
    let pos = tokens.ncols() - 1;
    let mut replaced = embedding[&Hook::Embed].slice_axis(Axis(1), (..pos).into()).to_owned();
    replaced *= 0.5;
    let keys = |row: ndarray::ArrayView1<u32>| {
        ForbiddenKeys::new(&[Clamp::ForbidInduction], &row.to_vec()[..pos])
    };
    let keys: Arc<[ForbiddenKeys]> = tokens.rows().into_iter().map(keys).collect();
    let forbid = |layer, head| Intervention::ForbidKeys { layer, head, keys: keys.clone() };
    let sets: [&[Intervention]; 7] = [
        &[forbid(0, 1), forbid(last, 0), forbid(last, 1)],
        &[zero(0, 0)],
        &[],
        &[zero(last, 1), zero(0, 1)],
        &[zero(last, 0)],
        &[Intervention::FreezePatterns { layer: last }, zero(0, 0)],
        &[Intervention::Replace { hook: Hook::Embed, value: replaced }],
    ];
    let [a, b] = both.map(|engine| engine.losses_under(tokens.view(), &sets).unwrap());
    for (k, (a, b)) in a.into_iter().zip(b).enumerate() {
        let frozen = sets[k].iter().any(|i| matches!(i, Intervention::FreezePatterns { .. }));
        let difference = largest_difference(&a.clone().into_dyn(), &b.into_dyn());
        // Losses of models that are broken so are large.
        let most = a.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        let tolerance = if frozen { of_frozen } else { tolerance } * most;
        assert!(difference <= tolerance, "{name}: set {k}: {difference}");
    }
    let [a, b] = both.map(|engine| engine.losses(tokens.view(), &[zero(0, 0)]).unwrap().into_dyn());
    close(&a, &b, "losses under one set");
}

/// Keys and values have fewer heads than queries where several read the same.
#[test]
fn shared_keys_have_their_own_number_of_heads() {
    let (_, folder) = models().into_iter().find(|(name, _)| name == "llama_gqa").unwrap();
    let model = pretrained::open(&folder).unwrap();
    let tokens = expected(&folder).tokens;
    let engine = CpuEngine::new(&model.config, &model.params).unwrap();
    let seen = engine
        .activations(tokens.view(), &[Hook::Q(1), Hook::K(1), Hook::V(1), Hook::Z(1)], &[])
        .unwrap();
    let heads = |hook| seen[&hook].shape()[2];
    assert_eq!(
        [heads(Hook::Q(1)), heads(Hook::K(1)), heads(Hook::V(1)), heads(Hook::Z(1))],
        [4, 2, 2, 4]
    );
    let value = ndarray::Array3::zeros((2, 24, 16));
    let bad = Intervention::ReplaceHead { hook: Hook::V(1), head: 2, from: 0, value };
    let message = engine.losses(tokens.view(), &[bad]).unwrap_err().to_string();
    assert!(message.contains("head 2"), "{message}");
}

#[test]
fn such_models_are_not_trained() {
    let (_, folder) = models().into_iter().find(|(name, _)| name == "gpt2").unwrap();
    let model = pretrained::open(&folder).unwrap();
    let mut engine = CpuEngine::new(&model.config, &model.params).unwrap();
    let mut gradients = Params::zeros(&model.config);
    let message = engine
        .loss_and_gradients(expected(&folder).tokens.view().into(), &mut gradients)
        .unwrap_err()
        .to_string();
    assert!(message.starts_with("training needs a model of the paper's family"), "{message}");
    let message =
        induction_engine::BurnEngine::flex(&model.config, &model.params).err().unwrap().to_string();
    assert!(message.contains("burn"), "{message}");
}
