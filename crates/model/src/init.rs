use ndarray::{ArrayD, IxDyn};
use rand_distr::{Distribution, StandardNormal};

use crate::{Error, ModelConfig, Params};

impl ModelConfig {
    /// The initial weights: a pure function of the configuration and the seed, made on the host, so
    /// the same bits start a run on every device. Each parameter has a random stream of its own
    /// name, so adding one to the family changes no other.
    ///
    /// Normal with standard deviation 1 for `W_E`, `d_model^-0.5` for what reads the residual
    /// stream (and for a `W_E` that is `W_U` as well: the first logits are of order 1), `d_model^-0.5 / sqrt(2 n_layers)` for `W_O` and `d_mlp^-0.5 / sqrt(2 n_layers)` for
    /// `W_out`; layer norm 1 and 0; biases and smear amounts 0.
    ///
    /// # Errors
    /// The configuration's, if it is not valid.
    pub fn init_params(&self, seed: u64) -> Result<Params, Error> {
        self.validate()?;
        let reads = (self.d_model as f64).powf(-0.5);
        let write_scale = (2.0 * self.n_layers as f64).powf(-0.5);
        Ok(Params::from_fn(self, |name, shape| {
            let constant = |value: f64| ArrayD::from_elem(IxDyn(shape), value as f32);
            let normal = |std: f64| {
                let mut rng = induction_random::stream(seed, name, 0);
                ArrayD::from_shape_simple_fn(IxDyn(shape), || {
                    let x: f64 = StandardNormal.sample(&mut rng);
                    (x * std) as f32
                })
            };
            match name.rsplit('.').next().expect("split gives at least one part") {
                "W_E" => normal(if self.architecture.tied_embeddings { reads } else { 1.0 }),
                "W_Q" | "W_K" | "W_V" | "W_U" | "W_in" | "W_gate" => normal(reads),
                "W_pos" => normal(reads),
                "W_O" => normal(reads * write_scale),
                "W_out" => normal((self.d_mlp as f64).powf(-0.5) * write_scale),
                "w" => constant(1.0),
                "pos_gain" => {
                    constant(self.pos_gain_init[usize::from(name != "blocks.0.attn.pos_gain")])
                }
                _ => constant(0.0),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_every_bit() {
        let config = ModelConfig::default();
        assert_eq!(config.init_params(3).unwrap(), config.init_params(3).unwrap());
        assert_ne!(config.init_params(3).unwrap(), config.init_params(4).unwrap());
    }

    #[test]
    fn spread_is_the_recipes() {
        let config = ModelConfig { d_mlp: 512, smeared_keys: true, ..ModelConfig::default() };
        let params = config.init_params(0).unwrap();
        let std = |name: &str| {
            let x = params.get(name).unwrap();
            (x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64).sqrt()
        };
        let reads = 128f64.powf(-0.5);
        for (name, expected) in [
            ("embed.W_E", 1.0),
            ("blocks.1.attn.W_K", reads),
            ("blocks.0.attn.W_O", reads / 2.0),
            ("blocks.0.mlp.W_in", reads),
            ("blocks.0.mlp.W_out", 512f64.powf(-0.5) / 2.0),
            ("unembed.W_U", reads),
            ("blocks.0.attn.pos_gain", 1.0),
            ("blocks.1.attn.pos_gain", 0.1),
            ("blocks.1.attn.smear_alpha", 0.0),
            ("ln_final.w", 1.0),
        ] {
            assert!(
                (std(name) - expected).abs() <= 0.02 * expected,
                "{name}: {} is not {expected}",
                std(name)
            );
        }
    }
}
