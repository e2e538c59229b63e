use burn::tensor::{Device, Tensor, TensorData};

use crate::{ModelConfig, Rotary};

/// Rotary positions, as a product: `x * cos + (x exchange) * sin`, where `exchange` brings each entry
/// of a pair to the other's place, one of them with another sign.
#[derive(Debug)]
pub(super) struct Turns {
    /// `[1, n_ctx, 1, d_head]`, 1 and 0 for entries that are not turned.
    cos: Tensor<4>,
    sin: Tensor<4>,
    /// `[d_head, d_head]`
    exchange: Tensor<2>,
}

impl Turns {
    pub(super) fn new(rotary: &Rotary, config: &ModelConfig, device: &Device) -> Self {
        let (n_ctx, d_head) = (config.n_ctx, config.d_head);
        let mut tables = [vec![1f32; n_ctx * d_head], vec![0f32; n_ctx * d_head]];
        let mut exchange = vec![0f32; d_head * d_head];
        let factor = rotary.attention_factor.unwrap_or(1.0);
        for (i, frequency) in rotary.frequencies().into_iter().enumerate() {
            let (a, b) = rotary.pair(i);
            (exchange[b * d_head + a], exchange[a * d_head + b]) = (-1.0, 1.0);
            for t in 0..n_ctx {
                let (sine, cosine) = (t as f64 * frequency).sin_cos();
                for (table, value) in tables.iter_mut().zip([cosine, sine]) {
                    let value = (factor * value) as f32;
                    (table[t * d_head + a], table[t * d_head + b]) = (value, value);
                }
            }
        }
        let [cos, sin] = tables
            .map(|table| Tensor::from_data(TensorData::new(table, [1, n_ctx, 1, d_head]), device));
        let exchange = Tensor::from_data(TensorData::new(exchange, [d_head, d_head]), device);
        Self { cos, sin, exchange }
    }

    /// `[batch, pos, head, d_head]`
    pub(super) fn turned(&self, x: Tensor<4>) -> Tensor<4> {
        let pos = x.dims()[1];
        let [cos, sin] = [&self.cos, &self.sin].map(|table| table.clone().narrow(1, 0, pos));
        x.clone() * cos + self.exchanged(x, self.exchange.clone()) * sin
    }

    /// The gradient of [`turned`](Self::turned) by its argument, from that by its result.
    pub(super) fn turned_back(&self, dy: Tensor<4>) -> Tensor<4> {
        let pos = dy.dims()[1];
        let [cos, sin] = [&self.cos, &self.sin].map(|table| table.clone().narrow(1, 0, pos));
        dy.clone() * cos + self.exchanged(dy * sin, self.exchange.clone().transpose())
    }

    fn exchanged(&self, x: Tensor<4>, by: Tensor<2>) -> Tensor<4> {
        let [batch, pos, heads, d_head] = x.dims();
        x.reshape([batch * pos * heads, d_head]).matmul(by).reshape([batch, pos, heads, d_head])
    }
}
