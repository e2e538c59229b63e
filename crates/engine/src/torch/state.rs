//! Weights on the device: where they lie, and the way to the host and back.

use induction_model::{ModelConfig, Params, ReadParams};
use tch::{Device, Kind, Tensor};

use super::{
    layer::{Frame, W_U, Weights},
    taps::upload,
    training::Training,
};
use crate::Error;

/// What is on the device.
pub(super) struct State {
    pub(super) frame: Frame,
    /// `[token, d_model]`, if it is there.
    pub(super) embed: Option<Tensor>,
    /// Those that are there.
    pub(super) blocks: Vec<Option<Weights>>,
    pub(super) after: Weights,
    /// `W_U` as rows `[token, d_model]`, in pieces; empty where it is not there.
    pub(super) unembed: Vec<Tensor>,
    /// Of a model that is trained; then all is there, as views of it.
    pub(super) trained: Option<Trained>,
}

/// The weights of a model that is trained.
pub(super) struct Trained {
    /// All in float32, one parameter after the other, each in the order of its [`device_shape`] and
    /// at its place of [`places`].
    pub(super) weights: Tensor,
    /// Where each parameter begins.
    pub(super) places: Vec<usize>,
    /// Each parameter, a view of `weights`.
    pub(super) parameters: Vec<Tensor>,
    /// What training multiplies by and derives by.
    pub(super) leaves: Leaves,
    /// The weights in the format of training, if that is not float32: what `leaves` are views of,
    /// but for those that stay float32.
    rounded: Option<Tensor>,
    pub(super) training: Option<Training>,
}

/// Parameters that derivatives are taken by.
pub(super) struct Leaves {
    /// In the configuration's order.
    pub(super) all: Vec<Tensor>,
    /// `[token, d_model]`
    pub(super) embed: Tensor,
    pub(super) blocks: Vec<Weights>,
    pub(super) after: Weights,
    /// `[d_model, token]`
    pub(super) unembed: Tensor,
}

impl Leaves {
    fn new(config: &ModelConfig, all: Vec<Tensor>) -> Self {
        let names: Vec<String> =
            config.parameter_shapes().into_iter().map(|(name, _)| name).collect();
        let of = |name: &str| {
            let at = names.iter().position(|known| known == name);
            all[at.expect("a parameter of the configuration")].shallow_clone()
        };
        let block = |l| Weights::of(config, Some(l), of);
        let embed = of("embed.W_E");
        let unembed = match config.architecture.tied_embeddings {
            true => embed.transpose(0, 1),
            false => of(W_U),
        };
        Self {
            embed,
            blocks: (0..config.n_layers).map(block).collect(),
            after: Weights::of(config, None, of),
            unembed,
            all,
        }
    }
}

impl State {
    /// Of a model that is trained, in the format `kind`.
    pub(super) fn trained(
        config: &ModelConfig,
        params: &Params,
        kind: Kind,
        device: Device,
    ) -> Result<Self, Error> {
        let weights = upload(&row(params), device);
        let (places, _) = places(params);
        let views = |row: &Tensor, others: &Tensor| {
            let each = params.iter().zip(&places).map(|((name, value), &place)| {
                let from = if stays_float32(name) { others } else { row };
                part(from, place, &device_shape(name, value.shape()))
                    .detach()
                    .set_requires_grad(true)
            });
            each.collect::<Vec<_>>()
        };
        let rounded = (kind != Kind::Float).then(|| weights.to_kind(kind));
        let leaves = Leaves::new(config, views(rounded.as_ref().unwrap_or(&weights), &weights));
        let parameters = views(&weights, &weights);
        let clones = parameters.iter().map(Tensor::shallow_clone).collect();
        // Evaluation multiplies by the weights themselves.
        let Leaves { embed, blocks, after, unembed, .. } = Leaves::new(config, clones);
        Ok(Self {
            frame: Frame::read(config, params, device)?,
            embed: Some(embed),
            blocks: blocks.into_iter().map(Some).collect(),
            after,
            unembed: vec![unembed.transpose(0, 1)],
            trained: Some(Trained { weights, places, parameters, leaves, rounded, training: None }),
        })
    }

    /// Of a model that is read and not trained: nothing of its layers is there yet.
    pub(super) fn unread(
        config: &ModelConfig,
        weights: &dyn ReadParams,
        device: Device,
    ) -> Result<Self, Error> {
        Ok(Self {
            frame: Frame::read(config, weights, device)?,
            embed: None,
            blocks: (0..config.n_layers).map(|_| None).collect(),
            after: Weights::read_after(config, weights, device)?,
            unembed: Vec::new(),
            trained: None,
        })
    }

    /// Logits of rows `[row, d_model]` that went through the final norm.
    pub(super) fn logits_of(&self, unembed: &[Tensor], rows: &Tensor) -> Tensor {
        let parts: Vec<Tensor> =
            unembed.iter().map(|piece| rows.matmul(&piece.transpose(0, 1))).collect();
        let logits = match &parts[..] {
            [one] => one.shallow_clone(),
            _ => Tensor::cat(&parts, 1),
        };
        self.frame.finish(&self.after, logits)
    }
}

impl Trained {
    /// After the weights have changed.
    pub(super) fn round(&mut self) {
        if let Some(row) = &mut self.rounded {
            row.copy_(&self.weights);
        }
    }
}

/// A parameter's shape on the device: all heads side by side, so that one product serves them.
fn device_shape(name: &str, shape: &[usize]) -> Vec<i64> {
    let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    match (shape.as_slice(), name.rsplit('.').next()) {
        (&[heads, d_model, d_head], Some("W_Q" | "W_K" | "W_V")) => vec![d_model, heads * d_head],
        (&[heads, d_head, d_model], Some("W_O")) => vec![heads * d_head, d_model],
        _ => shape,
    }
}

/// Whether the device's order of a parameter's numbers is the host's with the first two axes
/// exchanged.
fn exchanged(name: &str) -> bool {
    ["W_Q", "W_K", "W_V"].iter().any(|end| name.ends_with(end))
}

/// Parameters that stay float32 where the others are bfloat16: few numbers that many activations
/// are multiplied by.
fn stays_float32(name: &str) -> bool {
    name.ends_with("pos_gain") || name.ends_with("smear_alpha")
}

/// Where each parameter begins in a row, and the row's length. Each begins at a multiple of 128
/// bytes of bfloat16: products of matrices that do not lie at a multiple of 16 are several times
/// slower on a GPU.
fn places(params: &Params) -> (Vec<usize>, usize) {
    let mut end = 0;
    let places = params.iter().map(|(_, value)| {
        let begin = end;
        end += value.len().next_multiple_of(64);
        begin
    });
    (places.collect(), end)
}

/// A parameter's part of a row.
pub(super) fn part(row: &Tensor, place: usize, shape: &[i64]) -> Tensor {
    row.narrow(0, place as i64, shape.iter().product()).view(shape)
}

/// All parameters, each in the order of its [`device_shape`] and at its place; 0 between them.
pub(super) fn row(params: &Params) -> Vec<f32> {
    let (places, length) = places(params);
    let mut row = vec![0.0; length];
    for ((name, value), place) in params.iter().zip(places) {
        let mut value = value.view();
        if exchanged(name) {
            value.swap_axes(0, 1);
        }
        row[place..].iter_mut().zip(value).for_each(|(to, &from)| *to = from);
    }
    row
}

/// The reverse of [`row`].
pub(super) fn fill(params: &mut Params, row: &[f32]) {
    let (places, _) = places(params);
    for ((name, value), place) in params.iter_mut().zip(places) {
        let mut value = value.view_mut();
        if exchanged(name) {
            value.swap_axes(0, 1);
        }
        value.iter_mut().zip(&row[place..]).for_each(|(to, &from)| *to = from);
    }
}

pub(super) fn to_host(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_kind(Kind::Float).to_device(Device::Cpu).contiguous();
    let mut values = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut values, tensor.numel());
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_each_parameter_where_products_are_fast() {
        let config = ModelConfig {
            d_model: 12,
            n_heads: 3,
            d_head: 5,
            d_mlp: 7,
            n_ctx: 6,
            d_vocab: 11,
            smeared_keys: true,
            ..ModelConfig::default()
        };
        let params = config.init_params(1).unwrap();
        let (places, length) = places(&params);
        assert!(places.iter().all(|place| place % 64 == 0));
        let row = row(&params);
        assert_eq!(row.len(), length);
        let mut back = Params::zeros(&config);
        fill(&mut back, &row);
        assert!(back == params);
        // Heads lie side by side: [d_model, head * d_head].
        let at = params.iter().position(|(name, _)| name == "blocks.1.attn.W_K").unwrap();
        let w_k = params.get("blocks.1.attn.W_K").unwrap();
        assert_eq!(row[places[at] + 4 * 15 + 2 * 5 + 3], w_k[[2, 4, 3]]);
    }
}
