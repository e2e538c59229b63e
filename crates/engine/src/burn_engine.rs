use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use induction_model::{
    Clamps, Hook, ModelConfig, Params, Tap, Targets, TrainingOptions, Transformer,
};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, IxDyn, Slice, concatenate};

use crate::{
    Batch, BurnDevice, Engine, Error, Exactness, Intervention, ParameterKind, Resident,
    ResidentStep, Stepped, check_tokens, failure,
    intervention::{allowed, check_hook, with_frozen_patterns},
    split,
};

/// An [`Engine`] on a burn device.
pub struct BurnEngine {
    name: String,
    on: BurnDevice,
    device: Device,
    model: Transformer,
    options: TrainingOptions,
    /// Whether training stays on the device.
    stays: bool,
    training: Option<Training>,
}

/// The state of training on the device, each a row with all parameters one after the other.
struct Training {
    weights: Tensor<1>,
    moments: [Tensor<1>; 2],
    /// Shares of the learning rate, and 1 where weight decay applies.
    lr_scales: Tensor<1>,
    decays: Tensor<1>,
}

impl BurnEngine {
    /// On burn's pure-Rust CPU backend.
    ///
    /// # Errors
    /// An invalid configuration, or parameters that are not its own.
    pub fn flex(config: &ModelConfig, params: &Params) -> Result<Self, Error> {
        Self::on(BurnDevice::Flex, false, config, params)
    }

    /// On any of burn's devices; with `bf16`, matrix products of training are taken in bfloat16.
    ///
    /// # Errors
    /// A device that this build or machine does not have, an invalid configuration, or parameters
    /// that are not its own.
    pub fn on(
        on: BurnDevice,
        bf16: bool,
        config: &ModelConfig,
        params: &Params,
    ) -> Result<Self, Error> {
        let device = on.open()?;
        Ok(Self {
            // libtorch's devices are named after the engine that uses it directly.
            name: format!(
                "{}{on}{}",
                if on.is_libtorch() { "burn on " } else { "" },
                if bf16 { " bf16" } else { "" }
            ),
            on,
            model: guarded(on, || Ok(Transformer::from_params(config, params, &device)?))?,
            options: TrainingOptions { bf16, one_hot_embedding: on.is_gpu() },
            device,
            stays: on.is_gpu(),
            training: None,
        })
    }

    /// The same engine, its training kept on the device ([`Resident`]) or not; GPUs keep theirs.
    pub fn kept_on_device(self, stays: bool) -> Self {
        Self { stays, ..self }
    }

    /// One row, the sum of the losses in nats and then the gradients of the mean loss, one
    /// parameter after the other; and the weight that makes a mean of that sum.
    fn loss_and_gradients_row(&self, batch: Batch<'_>) -> Result<(Tensor<1>, f64), Error> {
        batch.check(self.config())?;
        let (rows, pos) = (batch.examples.nrows(), batch.examples.ncols() - 1);
        let (group, weight) = (self.group(rows, pos), batch.weight());
        // A batch that is too large for the device at once is taken in parts, whose gradients are
        // added on it, in order.
        let parts = (0..rows).step_by(group).map(|from| {
            let part = batch.part(from..(from + group).min(rows));
            let (inputs, targets) = split(part.examples);
            let counted: Option<Vec<bool>> =
                part.counted.map(|counted| counted.iter().copied().collect());
            let targets = Targets { tokens: &flat(targets), counted: counted.as_deref(), weight };
            let (loss, gradients) = self.model.loss_and_gradients(
                &flat(inputs),
                targets,
                part.examples.nrows(),
                self.options,
            );
            Tensor::cat([vec![loss], gradients].concat(), 0)
        });
        Ok((parts.reduce(|sum, part| sum + part).expect("there is at least one example"), weight))
    }

    fn row(&self, params: &Params) -> Tensor<1> {
        upload(params.iter().flat_map(|(_, value)| value.iter().copied()).collect(), &self.device)
    }

    /// Examples that are worked on at once: their attention scores fit what the device takes at
    /// once.
    fn group(&self, examples: usize, pos: usize) -> usize {
        (self.on.numbers_at_once() / (self.config().n_heads * pos * pos)).clamp(1, examples)
    }

    /// Checks once, then runs `examples` in groups, with each group's part of the interventions.
    fn in_groups<T>(
        &self,
        tokens: ArrayView2<u32>,
        pos: usize,
        interventions: &[Intervention],
        mut run: impl FnMut(ArrayView2<u32>, &[Intervention]) -> T,
    ) -> Result<Vec<T>, Error> {
        let config = self.config();
        check_tokens(config, tokens, pos)?;
        Intervention::check_set(interventions, config, tokens.nrows(), pos)?;
        let group = self.group(tokens.nrows(), pos);
        let starts = (0..tokens.nrows()).step_by(group);
        starts
            .map(|from| {
                let to = (from + group).min(tokens.nrows());
                let part: Vec<_> = interventions.iter().map(|i| i.for_examples(from, to)).collect();
                let group = tokens.slice_axis(Axis(0), Slice::from(from..to));
                let (read, _) = group.split_at(Axis(1), pos);
                let part =
                    with_frozen_patterns(&part, |hooks| Ok(self.captured(read, hooks, &[])))?;
                Ok(run(group, &part))
            })
            .collect()
    }

    fn losses_under_one(
        &self,
        examples: ArrayView2<u32>,
        interventions: &[Intervention],
    ) -> Result<Array2<f32>, Error> {
        let pos = examples.ncols().saturating_sub(1);
        let groups = self.in_groups(examples, pos, interventions, |group, interventions| {
            let (inputs, targets) = split(group);
            let logits =
                self.forward(inputs, &mut Interventions::new(interventions, &[], &self.device));
            let losses = next_token_losses(logits, targets, &self.device);
            Array2::from_shape_vec((group.nrows(), pos), to_host(losses))
                .expect("one loss a target")
        })?;
        Ok(join(&groups))
    }

    fn captured(
        &self,
        tokens: ArrayView2<u32>,
        hooks: &[Hook],
        interventions: &[Intervention],
    ) -> BTreeMap<Hook, ArrayD<f32>> {
        let mut tap = Interventions::new(interventions, hooks, &self.device);
        self.forward(tokens, &mut tap);
        tap.captured
    }

    fn forward(&self, tokens: ArrayView2<u32>, tap: &mut Interventions) -> Tensor<3> {
        self.model.forward_with(&flat(tokens), tokens.nrows(), tap)
    }
}

impl Engine for BurnEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn exactness(&self) -> Exactness {
        self.on.exactness()
    }

    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    fn set_params(&mut self, params: &Params) -> Result<(), Error> {
        guarded(self.on, || Ok(self.model.set_params(params)?))
    }

    fn set_clamps(&mut self, clamps: &Clamps) -> Result<(), Error> {
        Ok(self.model.set_clamps(clamps)?)
    }

    fn loss_and_gradients(
        &mut self,
        batch: Batch<'_>,
        gradients: &mut Params,
    ) -> Result<f32, Error> {
        guarded(self.on, || {
            gradients.check(self.config())?;
            let (sum, weight) = self.loss_and_gradients_row(batch)?;
            let sum = to_host(sum);
            fill(gradients, &sum[1..]);
            Ok((f64::from(sum[0]) * weight) as f32)
        })
    }

    fn losses_under(
        &self,
        examples: ArrayView2<u32>,
        sets: &[&[Intervention]],
    ) -> Result<Vec<Array2<f32>>, Error> {
        guarded(self.on, || sets.iter().map(|set| self.losses_under_one(examples, set)).collect())
    }

    fn activations(
        &self,
        tokens: ArrayView2<u32>,
        hooks: &[Hook],
        interventions: &[Intervention],
    ) -> Result<BTreeMap<Hook, ArrayD<f32>>, Error> {
        guarded(self.on, || {
            for hook in hooks {
                check_hook(self.config(), *hook).map_err(Error::Hook)?;
            }
            let groups =
                self.in_groups(tokens, tokens.ncols(), interventions, |group, interventions| {
                    self.captured(group, hooks, interventions)
                })?;
            let by_hook = |hook: &Hook| {
                join(&groups.iter().map(|group| group[hook].clone()).collect::<Vec<_>>())
            };
            Ok(hooks.iter().map(|hook| (*hook, by_hook(hook))).collect())
        })
    }

    fn logits(
        &self,
        tokens: ArrayView2<u32>,
        interventions: &[Intervention],
    ) -> Result<Array3<f32>, Error> {
        guarded(self.on, || {
            let groups =
                self.in_groups(tokens, tokens.ncols(), interventions, |group, interventions| {
                    let logits = self
                        .forward(group, &mut Interventions::new(interventions, &[], &self.device));
                    let shape = logits.dims();
                    Array3::from_shape_vec(shape, to_host(logits)).expect("data fills its shape")
                })?;
            Ok(join(&groups))
        })
    }

    fn resident(&mut self) -> Option<&mut dyn Resident> {
        self.stays.then_some(self)
    }
}

impl Resident for BurnEngine {
    fn load(
        &mut self,
        params: &Params,
        moments: [&Params; 2],
        kinds: &[ParameterKind],
    ) -> Result<(), Error> {
        guarded(self.on, || {
            for params in [params, moments[0], moments[1]] {
                params.check(self.config())?;
            }
            let of_kind = |number: fn(&ParameterKind) -> f32| {
                let each = params.iter().zip(kinds);
                upload(
                    each.flat_map(|((_, value), kind)| vec![number(kind); value.len()]).collect(),
                    &self.device,
                )
            };
            let training = Training {
                weights: self.row(params),
                moments: moments.map(|moment| self.row(moment)),
                lr_scales: of_kind(|kind| kind.lr_scale as f32),
                decays: of_kind(|kind| f32::from(u8::from(kind.decays))),
            };
            self.model.set_flat(&training.weights);
            self.training = Some(training);
            Ok(())
        })
    }

    fn step(&mut self, batch: Batch<'_>, step: &ResidentStep) -> Result<Stepped, Error> {
        guarded(self.on, || {
            let (row, weight) = self.loss_and_gradients_row(batch)?;
            let loss = row.clone().narrow(0, 0, 1);
            let gradient = row.clone().narrow(0, 1, row.dims()[0] - 1);
            let norm = (gradient.clone() * gradient.clone()).sum().sqrt();
            let clip = ((norm.clone() + 1e-6).recip() * step.clip_norm).clamp_max(1.0);
            let gradient = gradient * clip;
            let Training { weights, moments: [m, v], lr_scales, decays } =
                self.training.take().expect("load comes first");
            let [beta1, beta2] = step.betas;
            let m = m * beta1 + gradient.clone() * (1.0 - beta1);
            let v = v * beta2 + gradient.clone() * gradient * (1.0 - beta2);
            let root = v.clone().sqrt() * step.corrections[1].sqrt().recip() + step.eps;
            let change = m.clone() / root * lr_scales.clone() * (step.lr / step.corrections[0]);
            let weights =
                weights.clone() * (decays.clone() * (-step.lr * step.weight_decay) + 1.0) - change;
            let found = to_host(Tensor::cat(
                vec![loss, norm, (weights.clone() * weights.clone()).sum()],
                0,
            ));
            self.model.set_flat(&weights);
            self.training = Some(Training { weights, moments: [m, v], lr_scales, decays });
            Ok(Stepped {
                loss: (f64::from(found[0]) * weight) as f32,
                grad_norm: f64::from(found[1]),
                weights_squared: f64::from(found[2]),
            })
        })
    }

    fn fetch(&self, params: &mut Params, moments: [&mut Params; 2]) -> Result<(), Error> {
        guarded(self.on, || {
            let training = self.training.as_ref().expect("load comes first");
            let [m, v] = moments;
            for (row, to) in
                [(&training.weights, params), (&training.moments[0], m), (&training.moments[1], v)]
            {
                to.check(self.config())?;
                fill(to, &to_host(row.clone()));
            }
            Ok(())
        })
    }
}

/// Does `work`, which uses `on`. On a GPU what burn panics of is an error: its memory and its
/// driver are other people's, too. On a CPU a panic is a bug and stays one.
fn guarded<T>(on: BurnDevice, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    if !on.is_gpu() {
        return work();
    }
    failure::caught(work).unwrap_or_else(|reason| Err(on.failed(&reason)))
}

fn flat(tokens: ArrayView2<u32>) -> Vec<u32> {
    tokens.iter().copied().collect()
}

/// `[example, pos, d_vocab]` logits and `[example, pos]` targets -> `[example * pos]` losses in
/// nats.
fn next_token_losses(logits: Tensor<3>, targets: ArrayView2<u32>, device: &Device) -> Tensor<1> {
    let [batch, pos, d_vocab] = logits.dims();
    let rows = batch * pos;
    let targets: Vec<i32> = targets.iter().map(|&id| id as i32).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [rows, 1]), device);
    let log_probabilities = activation::log_softmax(logits.reshape([rows, d_vocab]), 1);
    -log_probabilities.gather(1, targets).reshape([rows])
}

fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("every activation is float32")
}

fn upload(row: Vec<f32>, device: &Device) -> Tensor<1> {
    let length = row.len();
    Tensor::from_data(TensorData::new(row, [length]), device)
}

/// One parameter after the other from `row`.
fn fill(params: &mut Params, mut row: &[f32]) {
    for (_, value) in params.iter_mut() {
        let (own, rest) = row.split_at(value.len());
        value.iter_mut().zip(own).for_each(|(to, &from)| *to = from);
        row = rest;
    }
}

fn join<D: ndarray::RemoveAxis>(groups: &[ndarray::Array<f32, D>]) -> ndarray::Array<f32, D> {
    let views: Vec<_> = groups.iter().map(|group| group.view()).collect();
    concatenate(Axis(0), &views).expect("groups differ only in their number of examples")
}

/// Applies interventions, then captures what was asked for.
struct Interventions<'a> {
    interventions: &'a [Intervention],
    hooks: &'a [Hook],
    device: &'a Device,
    captured: BTreeMap<Hook, ArrayD<f32>>,
}

impl<'a> Interventions<'a> {
    fn new(interventions: &'a [Intervention], hooks: &'a [Hook], device: &'a Device) -> Self {
        Self { interventions, hooks, device, captured: BTreeMap::new() }
    }

    fn at(&self, hook: Hook) -> impl Iterator<Item = &'a Intervention> + use<'a> {
        self.interventions.iter().filter(move |i| i.hook() == hook)
    }

    fn capture<const D: usize>(&mut self, hook: Hook, value: Tensor<D>) {
        if self.hooks.contains(&hook) {
            let shape = value.dims();
            let value = ArrayD::from_shape_vec(IxDyn(&shape), to_host(value))
                .expect("data fills its shape");
            self.captured.insert(hook, value);
        }
    }

    fn upload<const D: usize>(&self, value: &ArrayD<f32>) -> Tensor<D> {
        let data =
            TensorData::new(value.iter().copied().collect::<Vec<f32>>(), value.shape().to_vec());
        Tensor::from_data(data, self.device)
    }
}

impl Tap for Interventions<'_> {
    fn zeroes(&self, layer: usize, head: usize) -> bool {
        let zeroed = Intervention::ZeroHead { layer, head };
        self.at(Hook::Z(layer)).any(|intervention| *intervention == zeroed)
    }

    fn wants(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook) || self.at(hook).next().is_some()
    }

    fn rank3(&mut self, hook: Hook, mut value: Tensor<3>) -> Tensor<3> {
        for intervention in self.at(hook) {
            if let Intervention::Replace { value: new, .. } = intervention {
                value = self.upload(new);
            }
        }
        self.capture(hook, value.clone());
        value
    }

    fn rank4(&mut self, hook: Hook, mut value: Tensor<4>) -> Tensor<4> {
        for intervention in self.at(hook) {
            let [a, b, c, d] = value.dims();
            value = match intervention {
                Intervention::Replace { value: new, .. } => self.upload(new),
                // z is [batch, pos, head, d_head]
                Intervention::ReplaceHead { head, from, value: new, .. } => {
                    let positions = *from..from + new.len_of(Axis(1));
                    let new = self.upload(&new.clone().insert_axis(Axis(2)).into_dyn());
                    value.slice_assign([0..a, positions, *head..head + 1, 0..d], new)
                }
                Intervention::FreezePatterns { .. } => {
                    unreachable!("made a replacement before the pass")
                }
                Intervention::ForbidKeys { head, keys, .. } => {
                    let range = [0..a, *head..head + 1, 0..c, 0..d];
                    let allowed = self.upload(&allowed(keys, c).insert_axis(Axis(1)).into_dyn());
                    let left = value.clone().slice(range.clone()) * allowed;
                    // Of a row of which nothing is left, nothing.
                    let sum = left.clone().sum_dim(3).clamp_min(f32::MIN_POSITIVE);
                    value.slice_assign(range, left / sum)
                }
                Intervention::ZeroHead { head, .. } => {
                    value.slice_fill([0..a, 0..b, *head..head + 1, 0..d], 0.0)
                }
                // a pattern is [batch, head, query, key]
                Intervention::ForcePattern { head, pattern, .. } => {
                    let forced = self.upload(&pattern.clone().insert_axis(Axis(1)).into_dyn());
                    value.slice_assign([0..a, *head..head + 1, 0..c, 0..d], forced)
                }
            };
        }
        self.capture(hook, value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervention::hook_shape;

    #[test]
    fn groups_do_not_change_the_numbers() {
        let config = ModelConfig {
            n_layers: 2,
            d_model: 8,
            n_heads: 2,
            d_head: 4,
            n_ctx: 6,
            d_vocab: 7,
            ..ModelConfig::default()
        };
        let engine = BurnEngine::flex(&config, &config.init_params(0).unwrap()).unwrap();
        let examples = Array2::from_shape_fn((5, 7), |(i, j)| ((3 * i + j * j) % 7) as u32);
        let all = engine.losses(examples.view(), &[]).unwrap();
        for row in 0..5 {
            let one = engine
                .losses(examples.slice_axis(Axis(0), Slice::from(row..row + 1)), &[])
                .unwrap();
            let largest = (&one.row(0) - &all.row(row)).iter().fold(0f32, |m, x| m.max(x.abs()));
            assert!(largest < 1e-5, "{largest}");
        }
    }

    #[test]
    fn blocks_of_queries_do_not_change_the_numbers() {
        // Longer than two blocks of queries; asking for the pattern takes the path without blocks.
        let config = ModelConfig {
            n_layers: 2,
            d_model: 8,
            n_heads: 2,
            d_head: 4,
            n_ctx: 300,
            d_vocab: 7,
            ..ModelConfig::default()
        };
        let engine = BurnEngine::flex(&config, &config.init_params(0).unwrap()).unwrap();
        let tokens = Array2::from_shape_fn((2, 300), |(i, j)| ((3 * i + j * j) % 7) as u32);
        let blocks = engine.activations(tokens.view(), &[Hook::ResidPost(1)], &[]).unwrap();
        let whole = [Hook::ResidPost(1), Hook::Pattern(0), Hook::Pattern(1)];
        let whole = engine.activations(tokens.view(), &whole, &[]).unwrap();
        let largest = (&blocks[&Hook::ResidPost(1)] - &whole[&Hook::ResidPost(1)])
            .iter()
            .fold(0f32, |m, x| m.max(x.abs()));
        assert!(largest < 1e-5, "{largest}");
    }

    #[test]
    fn smeared_keys_of_a_single_position() {
        let model = |smeared_keys| ModelConfig {
            n_layers: 1,
            d_model: 8,
            n_heads: 2,
            d_head: 4,
            n_ctx: 6,
            d_vocab: 7,
            smeared_keys,
            ..ModelConfig::default()
        };
        let engine = |config: ModelConfig| {
            BurnEngine::flex(&config, &config.init_params(0).unwrap()).unwrap()
        };
        let examples = Array2::from_elem((1, 2), 3);
        let losses = [false, true]
            .map(|smeared| engine(model(smeared)).losses(examples.view(), &[]).unwrap());
        assert_eq!(losses[0], losses[1], "the first key has no predecessor to mix with");
    }

    #[test]
    fn shapes_are_the_hooks() {
        let config = ModelConfig {
            n_layers: 1,
            d_model: 8,
            n_heads: 2,
            d_head: 3,
            d_mlp: 5,
            n_ctx: 6,
            d_vocab: 7,
            ..ModelConfig::default()
        };
        let engine = BurnEngine::flex(&config, &config.init_params(0).unwrap()).unwrap();
        let tokens = Array2::from_shape_fn((2, 4), |(i, j)| (i + j) as u32);
        use Hook::*;
        let hooks =
            [Embed, Q(0), K(0), V(0), Pattern(0), Z(0), AttnOut(0), MlpOut(0), ResidPost(0)];
        let seen = engine.activations(tokens.view(), &hooks, &[]).unwrap();
        for hook in hooks {
            assert_eq!(seen[&hook].shape(), hook_shape(&config, hook, 2, 4), "{hook}");
        }
    }

    #[test]
    fn bad_requests_are_errors() {
        let config = ModelConfig {
            n_layers: 1,
            d_model: 8,
            n_heads: 2,
            d_head: 3,
            n_ctx: 4,
            d_vocab: 7,
            ..ModelConfig::default()
        };
        let mut engine = BurnEngine::flex(&config, &config.init_params(0).unwrap()).unwrap();
        let tokens = |rows, columns, id| Array2::from_elem((rows, columns), id);
        let message = |r: Result<Array2<f32>, Error>| r.unwrap_err().to_string();
        assert!(message(engine.losses(tokens(1, 5, 7).view(), &[])).contains("token id 7"));
        assert!(message(engine.losses(tokens(1, 6, 0).view(), &[])).contains("n_ctx"));
        assert!(message(engine.losses(tokens(0, 3, 0).view(), &[])).contains("at least one"));
        assert!(message(engine.losses(tokens(1, 1, 0).view(), &[])).contains("at least one"));
        assert!(message(engine.losses(tokens(1, 0, 0).view(), &[])).contains("at least one"));
        assert!(
            engine
                .loss_and_gradients(tokens(1, 0, 0).view().into(), &mut Params::zeros(&config))
                .is_err()
        );
        let bad = [
            Intervention::ZeroHead { layer: 1, head: 0 },
            Intervention::ZeroHead { layer: 0, head: 2 },
            Intervention::ForcePattern { layer: 0, head: 0, pattern: Array3::zeros((1, 2, 3)) },
            Intervention::Replace {
                hook: Hook::MlpOut(0),
                value: ArrayD::zeros(IxDyn(&[1, 4, 8])),
            },
            Intervention::FreezePatterns { layer: 1 },
            Intervention::ReplaceHead {
                hook: Hook::Z(0),
                head: 2,
                from: 0,
                value: Array3::zeros((1, 4, 3)),
            },
            Intervention::ReplaceHead {
                hook: Hook::Z(0),
                head: 0,
                from: 0,
                value: Array3::zeros((1, 4, 4)),
            },
            Intervention::ReplaceHead {
                hook: Hook::Embed,
                head: 0,
                from: 0,
                value: Array3::zeros((1, 4, 3)),
            },
        ];
        for intervention in bad {
            assert!(
                engine.losses(tokens(1, 5, 0).view(), std::slice::from_ref(&intervention)).is_err(),
                "{intervention:?}"
            );
        }
        assert!(engine.activations(tokens(1, 4, 0).view(), &[Hook::Z(1)], &[]).is_err());
    }
}
