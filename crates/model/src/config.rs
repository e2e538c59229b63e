use serde::{Deserialize, Serialize};

use crate::{Architecture, Clamps, Error};

/// What normalizes the residual stream before each sublayer and before the unembedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Normalization {
    /// Pre-LN with gain and bias, and a final layer norm (PyTorch's `LayerNorm`).
    LN,
    /// The same places, divided by the root mean square and times a gain: no centring, no bias
    /// (Zhang and Sennrich 2019).
    RMS,
    /// No normalization: every path through the model is linear given the attention patterns.
    #[serde(rename = "none")]
    None,
}

/// One member of the family (paper.md, 1 and 11), or a pretrained model, in TransformerLens' words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of blocks.
    pub n_layers: usize,
    /// Width of the residual stream; even, since positions come in pairs of sine and cosine.
    pub d_model: usize,
    /// Heads in each block.
    pub n_heads: usize,
    /// Width of a head. The paper's family has `n_heads * d_head == d_model`; other sizes are
    /// allowed when given.
    pub d_head: usize,
    /// Hidden width of the MLP; 0 for an attention-only model.
    #[serde(default)]
    pub d_mlp: usize,
    /// Longest sequence, in tokens.
    pub n_ctx: usize,
    /// Number of tokens.
    pub d_vocab: usize,
    /// What normalizes the residual stream; always at the same places.
    #[serde(default = "default_normalization")]
    pub normalization: Normalization,
    /// Each key mixed with its predecessor (paper.md, 1.4), one learned amount a head.
    #[serde(default)]
    pub smeared_keys: bool,
    /// Base of the sinusoidal positions' wavelengths.
    #[serde(default = "default_position_base")]
    pub position_base: f64,
    /// Initial positional gain of the first layer and of every later one. The paper leaves it open;
    /// 1 and 0.1 let previous-token heads form below the heads that need them.
    #[serde(default = "default_pos_gain_init")]
    pub pos_gain_init: [f64; 2],
    /// Added to the variance in layer norm.
    #[serde(default = "default_layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Constraints on heads; none in the paper's models.
    #[serde(default, skip_serializing_if = "is_free")]
    pub clamp: Clamps,
    /// What the model does otherwise than the paper's family.
    #[serde(default, skip_serializing_if = "Architecture::is_default")]
    pub architecture: Architecture,
}

fn is_free(clamps: &Clamps) -> bool {
    clamps.is_empty()
}
fn default_normalization() -> Normalization {
    Normalization::LN
}
fn default_position_base() -> f64 {
    10_000.0
}
fn default_pos_gain_init() -> [f64; 2] {
    [1.0, 0.1]
}
fn default_layer_norm_eps() -> f64 {
    1e-5
}

impl Default for ModelConfig {
    /// The laptop reproduction's 2-layer attention-only model.
    fn default() -> Self {
        Self {
            n_layers: 2,
            d_model: 128,
            n_heads: 4,
            d_head: 32,
            d_mlp: 0,
            n_ctx: 512,
            d_vocab: 512,
            normalization: default_normalization(),
            smeared_keys: false,
            position_base: default_position_base(),
            pos_gain_init: default_pos_gain_init(),
            layer_norm_eps: default_layer_norm_eps(),
            clamp: Clamps::default(),
            architecture: Architecture::default(),
        }
    }
}

impl ModelConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), Error> {
        let whole = |field, found: usize, low: usize, high: usize| {
            if (low..=high).contains(&found) {
                return Ok(());
            }
            Err(Error::Config {
                field,
                found: found.to_string(),
                expected: format!("a whole number from {low} to {high}"),
            })
        };
        whole("n_layers", self.n_layers, 1, 1024)?;
        whole("d_model", self.d_model, 2, 1 << 16)?;
        whole("n_heads", self.n_heads, 1, 1024)?;
        whole("d_head", self.d_head, 1, 1 << 14)?;
        whole("d_mlp", self.d_mlp, 0, 1 << 18)?;
        whole("n_ctx", self.n_ctx, 1, 1 << 20)?;
        // Ids of our own data are stored as u16; pretrained models have more.
        whole("d_vocab", self.d_vocab, 2, if self.is_paper_family() { 1 << 16 } else { 1 << 20 })?;
        if !self.d_model.is_multiple_of(2) {
            return Err(Error::Config {
                field: "d_model",
                found: self.d_model.to_string(),
                expected: "an even number".into(),
            });
        }
        let real = |field, found: f64, low: f64, high: f64| {
            if found >= low && found <= high {
                return Ok(());
            }
            Err(Error::Config {
                field,
                found: format!("{found:?}"),
                expected: format!("a number from {low} to {high}"),
            })
        };
        real("position_base", self.position_base, 1.0, 1e9)?;
        real("pos_gain_init", self.pos_gain_init[0], -1e3, 1e3)?;
        real("pos_gain_init", self.pos_gain_init[1], -1e3, 1e3)?;
        real("layer_norm_eps", self.layer_norm_eps, 0.0, 1.0)?;
        self.architecture.validate(self)?;
        self.clamp.validate(self)
    }

    /// True for a model without MLPs.
    pub fn attn_only(&self) -> bool {
        self.d_mlp == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_the_recipe_and_valid() {
        let config = ModelConfig::default();
        config.validate().unwrap();
        // 512*128 twice, 4 matrices of 128*128 in each of 2 layers, 5 layer-norm pairs... counted
        // by hand.
        assert_eq!(config.n_params(), 2 * 65536 + 2 * (4 * 16384 + 1 + 256) + 256);
    }

    #[test]
    fn every_field_is_checked() {
        type Break = fn(&mut ModelConfig);
        let cases: [(&str, Break); 11] = [
            ("n_layers", |c| c.n_layers = 0),
            ("d_model", |c| c.d_model = 0),
            ("d_model", |c| c.d_model = 127),
            ("n_heads", |c| c.n_heads = 0),
            ("d_head", |c| c.d_head = 0),
            ("d_mlp", |c| c.d_mlp = usize::MAX),
            ("n_ctx", |c| c.n_ctx = 0),
            ("d_vocab", |c| c.d_vocab = 1),
            ("position_base", |c| c.position_base = f64::NAN),
            ("pos_gain_init", |c| c.pos_gain_init[1] = f64::INFINITY),
            ("layer_norm_eps", |c| c.layer_norm_eps = -1.0),
        ];
        for (field, damage) in cases {
            let mut config = ModelConfig::default();
            damage(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("model.{field} = ")), "{field}: {message}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let json = r#"{"n_layers":1,"d_model":4,"n_heads":1,"d_head":4,"n_ctx":4,"d_vocab":4,"d_modle":8}"#;
        assert!(
            serde_json::from_str::<ModelConfig>(json).unwrap_err().to_string().contains("d_modle")
        );
    }
}
