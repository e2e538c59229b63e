//! Gradients, and steps that stay on the device.

use induction_model::Params;
use tch::{Kind, Tensor, no_grad_guard};

use super::{
    TorchEngine, guarded,
    state::{State, Trained, fill, part, row, to_host},
    taps::{NoTap, upload},
};
use crate::{Batch, Engine, Error, ParameterKind, Resident, ResidentStep, Stepped, split};

/// The state of training on the device.
pub(super) struct Training {
    /// A row each, like the weights.
    pub(super) moments: [Tensor; 2],
    /// One a parameter.
    pub(super) kinds: Vec<ParameterKind>,
}

/// An engine that trains was made with weights to train.
const TRAINED: &str = "only a model that is trained is asked for steps";

fn known(trained: &Option<Trained>) -> &Trained {
    trained.as_ref().expect(TRAINED)
}

/// What [`TorchEngine::unembed_and_back`] finds.
struct Unembedded {
    /// Sum of the losses in nats, `[1]`.
    loss: Tensor,
    /// Its derivative by what is unembedded, `[row, d_model]`, and by the unembedding, `[d_model,
    /// d_vocab]` in float32.
    d_h: Tensor,
    d_unembed: Tensor,
}

impl TorchEngine {
    /// The sum of the losses in nats, `[1]`, its gradient, all parameters in a row like the
    /// weights, and the weight that makes means of both.
    pub(super) fn loss_and_gradient(
        &self,
        state: &State,
        batch: Batch<'_>,
    ) -> Result<(Tensor, Tensor, f64), Error> {
        batch.check(&self.config)?;
        let (rows, pos) = (batch.examples.nrows(), batch.examples.ncols() - 1);
        let weight = batch.weight();
        let group = self.on.training_sequences(&self.config, pos);
        // A batch that is too large for the device at once is taken in parts, whose gradients are
        // added in order.
        let parts = (0..rows)
            .step_by(group)
            .map(|from| self.part_of_gradient(state, batch.part(from..(from + group).min(rows))));
        let (loss, gradient) =
            parts.reduce(|(a, b), (c, d)| (a + c, b + d)).expect("there is at least one example");
        Ok((loss, gradient, weight))
    }

    fn part_of_gradient(&self, state: &State, batch: Batch<'_>) -> (Tensor, Tensor) {
        let (read, targets) = split(batch.examples);
        let State { frame, trained, .. } = state;
        let Trained { weights, places, parameters, leaves, .. } = known(trained);
        let sequences = frame.sequences(read);
        let embedded = Tensor::embedding(&leaves.embed, &frame.ids(read), -1, false, false);
        let mut x = frame.begin(embedded, sequences.pos, &mut NoTap);
        for (l, block) in leaves.blocks.iter().enumerate() {
            x = frame.layer(l, block, &x, &sequences, &mut NoTap);
        }
        let h = frame.final_norm(&leaves.after, &x).flatten(0, 1); // [row, d_model]
        let targets = frame.ids(targets).flatten(0, 1).unsqueeze(1);
        let counted = batch.counted.map(|counted| {
            let counted: Vec<f32> = counted.iter().map(|&c| f32::from(u8::from(c))).collect();
            Tensor::from_slice(&counted).unsqueeze(1).to_device(frame.device)
        });
        let Unembedded { loss, d_h, d_unembed } = self.unembed_and_back(
            &h.detach(),
            &leaves.unembed.detach(),
            &targets,
            counted.as_ref(),
        );
        // The way back from here on is PyTorch's. It starts at a number whose derivative by `h` is
        // what was found.
        let found = Tensor::run_backward(&[(&h * d_h).sum(None)], &leaves.all, false, false);
        let _no_grad = no_grad_guard();
        let gradient = weights.zeros_like();
        for (found, (parameter, &place)) in found.iter().zip(parameters.iter().zip(places)) {
            if found.defined() {
                part(&gradient, place, &parameter.size()).copy_(found);
            } // else it took no part
        }
        // The unembedding is the last parameter, or the transpose of the first.
        let tied = self.config.architecture.tied_embeddings;
        let at = if tied { 0 } else { parameters.len() - 1 };
        let mut view = part(&gradient, places[at], &parameters[at].size());
        if tied {
            let _ = view.g_add_(&d_unembed.transpose(0, 1));
        } else {
            view.copy_(&d_unembed);
        }
        (loss, gradient)
    }

    /// The unembedding, the losses and the way back through both: by hand, so that logits are
    /// written down once and in parts. `counted` is 0 where a row does not count, `[row, 1]`.
    fn unembed_and_back(
        &self,
        h: &Tensor,
        unembed: &Tensor,
        targets: &Tensor,
        counted: Option<&Tensor>,
    ) -> Unembedded {
        let _no_grad = no_grad_guard();
        let (rows, at_once) = (h.size()[0], self.logits_at_once());
        let mut d_hs = Vec::new();
        let mut sums: Option<(Tensor, Tensor)> = None;
        for from in (0..rows).step_by(at_once as usize) {
            let part = |x: &Tensor| x.narrow(0, from, at_once.min(rows - from));
            let (h, targets) = (part(h), part(targets));
            // The derivative of a loss by the logits: probabilities, less 1 at the target.
            let mut d_logits = h.matmul(unembed).softmax(1, None);
            let right = d_logits.gather(1, &targets, false).to_kind(Kind::Float);
            let mut losses = -right.clamp_min(f64::from(f32::MIN_POSITIVE)).log();
            let _ = d_logits.scatter_(1, &targets, &(right - 1.0).to_kind(self.kind));
            if let Some(counted) = counted.map(part) {
                losses = losses * &counted;
                let _ = d_logits.g_mul_(&counted.to_kind(self.kind));
            }
            let loss = losses.sum(None).view([1]);
            d_hs.push(d_logits.matmul(&unembed.transpose(0, 1)));
            let d_unembed = h.transpose(0, 1).matmul(&d_logits).to_kind(Kind::Float);
            sums = Some(match sums {
                Some((a, b)) => (a + loss, b + d_unembed),
                None => (loss, d_unembed),
            });
        }
        let (loss, d_unembed) = sums.expect("there is at least one row");
        let d_h = if d_hs.len() == 1 { d_hs.remove(0) } else { Tensor::cat(&d_hs, 0) };
        Unembedded { loss, d_h, d_unembed }
    }
}

impl Resident for TorchEngine {
    fn load(
        &mut self,
        params: &Params,
        moments: [&Params; 2],
        kinds: &[ParameterKind],
    ) -> Result<(), Error> {
        for params in moments {
            params.check(&self.config)?;
        }
        self.set_params(params)?;
        guarded(self.on, || {
            let mut state = self.state();
            let device = state.frame.device;
            let moments = moments.map(|moment| upload(&row(moment), device));
            let training = Some(Training { moments, kinds: kinds.to_vec() });
            state.trained.as_mut().expect(TRAINED).training = training;
            Ok(())
        })
    }

    fn step(&mut self, batch: Batch<'_>, step: &ResidentStep) -> Result<Stepped, Error> {
        guarded(self.on, || {
            let mut state = self.state();
            let (loss, mut gradient, weight) = self.loss_and_gradient(&state, batch)?;
            let _no_grad = no_grad_guard();
            let trained = state.trained.as_mut().expect(TRAINED);
            let Trained { weights, places, parameters, training, .. } = trained;
            let Training { moments: [m, v], kinds } = training.as_mut().expect("load comes first");
            let norm = gradient.norm() * weight;
            let clip = ((&norm + 1e-6).reciprocal() * step.clip_norm).clamp_max(1.0);
            let _ = gradient.g_mul_(&(clip * weight));
            let [beta1, beta2] = step.betas;
            let _ = m.lerp_(&gradient, 1.0 - beta1);
            let _ = v.lerp_(&gradient.square(), 1.0 - beta2);
            // As m / c1 / (sqrt(v / c2) + eps) * lr, with few passes over the row.
            let root_of_c2 = step.corrections[1].sqrt();
            let mut divisor = v.sqrt();
            let _ = divisor.g_add_scalar_(step.eps * root_of_c2);
            let _ = divisor.g_mul_scalar_(-step.corrections[0] / (step.lr * root_of_c2));
            for ((parameter, &place), kind) in parameters.iter_mut().zip(&*places).zip(kinds) {
                if kind.lr_scale != 1.0 {
                    let _ = part(&divisor, place, &parameter.size())
                        .g_mul_scalar_(kind.lr_scale.recip());
                }
                if kind.decays && step.weight_decay != 0.0 {
                    let _ = parameter.g_mul_scalar_(1.0 - step.lr * step.weight_decay);
                }
            }
            let _ = weights.addcdiv_(m, &divisor);
            let found = Tensor::cat(&[loss, norm.view([1]), weights.norm().view([1])], 0);
            trained.round();
            let found = to_host(&found);
            Ok(Stepped {
                loss: (f64::from(found[0]) * weight) as f32,
                grad_norm: f64::from(found[1]),
                weights_squared: f64::from(found[2]).powi(2),
            })
        })
    }

    fn fetch(&self, params: &mut Params, moments: [&mut Params; 2]) -> Result<(), Error> {
        guarded(self.on, || {
            let state = self.state();
            let Trained { weights, training, .. } = known(&state.trained);
            let training = training.as_ref().expect("load comes first");
            let [m, v] = moments;
            for (row, to) in
                [(weights, params), (&training.moments[0], m), (&training.moments[1], v)]
            {
                to.check(&self.config)?;
                fill(to, &to_host(row));
            }
            Ok(())
        })
    }
}
