use serde::{Deserialize, Serialize};

use crate::{Error, ModelConfig, Normalization, Rotary};

/// What pretrained models do otherwise than the paper's family, which is the default in every
/// field.
///
/// Between them, these options are the [`families`](crate::pretrained::families) of pretrained models
/// and TransformerLens' attention-only ones. Such models are run and measured; of those that have
/// [some of the options alone](ModelConfig::is_trainable), models are trained as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Architecture {
    /// How positions get in.
    pub positions: Positions,
    /// Heads that keys and values have; each serves `n_heads / n_key_value_heads` query heads. 0
    /// stands for `n_heads`.
    pub n_key_value_heads: usize,
    /// What stands between the two matrices of an MLP.
    pub act_fn: Activation,
    /// `act_fn(x W_gate) * (x W_in)` instead of `act_fn(x W_in)`: SwiGLU and its kin.
    pub gated_mlp: bool,
    /// Biases `b_Q`, `b_K`, `b_V`.
    pub qkv_bias: bool,
    /// Queries and keys divided by their root mean square and times the gains `q_norm` and
    /// `k_norm`, before positions turn them.
    #[serde(skip_serializing_if = "is_default")]
    pub qk_norm: QkNorm,
    /// Where the norms of sublayers stand.
    #[serde(skip_serializing_if = "is_default")]
    pub norms: Norms,
    /// Attention scores `x` become `cap * tanh(x / cap)` (Gemma 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attn_scores_soft_cap: Option<f64>,
    /// Logits `x` become `cap * tanh(x / cap)` (Gemma 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_logits_soft_cap: Option<f64>,
    /// Several MLPs a layer, of which each position is read by a few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
    /// Layers whose positions get in otherwise than [`positions`](Self::positions) says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_positions: Option<OtherPositions>,
    /// The bias `b_O`.
    pub out_bias: bool,
    /// Biases of the MLP: `b_in`, `b_out` and, if there is a gate, `b_gate`.
    pub mlp_bias: bool,
    /// The bias `b_U` of the logits.
    pub unembed_bias: bool,
    /// Attention and MLP both read the block's input.
    pub parallel: bool,
    /// `W_U` is the transpose of `W_E`, and no parameter of its own.
    pub tied_embeddings: bool,
}

impl Default for Architecture {
    fn default() -> Self {
        Self {
            positions: Positions::Sinusoidal,
            n_key_value_heads: 0,
            act_fn: Activation::Gelu,
            gated_mlp: false,
            qkv_bias: false,
            qk_norm: QkNorm::None,
            norms: Norms::Before,
            attn_scores_soft_cap: None,
            output_logits_soft_cap: None,
            experts: None,
            other_positions: None,
            out_bias: false,
            mlp_bias: true,
            unembed_bias: false,
            parallel: false,
            tied_embeddings: false,
        }
    }
}

/// A model without an option is written as before there was one.
fn is_default<T: Default + PartialEq>(option: &T) -> bool {
    *option == T::default()
}

/// Whether queries and keys are normed, and over what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QkNorm {
    /// Not.
    #[default]
    None,
    /// Each head by itself, with gains `[d_head]` that all heads share (Qwen 3, Gemma 3).
    Head,
    /// All heads together, with gains `[n_heads, d_head]` and `[n_key_value_heads, d_head]`
    /// (OLMo 2).
    Whole,
}

/// Where the norms of sublayers stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norms {
    /// Before each sublayer: `ln1` and `ln2`.
    #[default]
    Before,
    /// After each sublayer, before its output is added to the residual stream: `ln1_post` and
    /// `ln2_post` (OLMo 2).
    After,
    /// Both (Gemma 2 and 3).
    Around,
}

/// A mixture of experts: `W_router` scores each of a layer's MLPs for each position, and the best
/// are run, each times its share of a softmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    /// MLPs a layer, each of hidden width `d_mlp`.
    pub count: usize,
    /// How many a position is read by.
    pub chosen: usize,
    /// Whether the shares of those that are chosen are made to sum to 1.
    pub normalized: bool,
}

/// Positions of some layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherPositions {
    /// Which layers.
    pub layers: Vec<usize>,
    /// Their rotary positions, of the same entries and pairs as the other layers' (Gemma 3);
    /// nothing if they have no positions at all (SmolLM 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary: Option<Rotary>,
}

/// How positions get into a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", from = "WrittenPositions")]
pub enum Positions {
    /// Sinusoids, times a learned gain, added to the inputs of `W_Q` and `W_K` (paper.md, 1.2).
    Sinusoidal,
    /// Learned vectors `W_pos`, added to the inputs of `W_Q` and `W_K`: TransformerLens'
    /// `shortformer`.
    Shortformer,
    /// Learned vectors `W_pos`, added to the embedding: GPT-2's.
    Learned,
    /// Queries and keys turned by angles that grow with the position.
    Rotary(Rotary),
    /// Scores of head `h` less `slope(h)` for each position between query and key (Press et al.
    /// 2022): see [`alibi_slopes`].
    Alibi,
}

/// [`Positions`] as they are written: serde lets keys that it does not know stand beside a kind that
/// has none, but not beside one that has an empty list of them.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum WrittenPositions {
    Sinusoidal {},
    Shortformer {},
    Learned {},
    Rotary(Rotary),
    Alibi {},
}

impl From<WrittenPositions> for Positions {
    fn from(written: WrittenPositions) -> Self {
        match written {
            WrittenPositions::Sinusoidal {} => Self::Sinusoidal,
            WrittenPositions::Shortformer {} => Self::Shortformer,
            WrittenPositions::Learned {} => Self::Learned,
            WrittenPositions::Rotary(rotary) => Self::Rotary(rotary),
            WrittenPositions::Alibi {} => Self::Alibi,
        }
    }
}

/// What each position between query and key takes from the scores of a head: powers of two, and
/// for a number of heads that is none, those of the next power below and every other one of the
/// next power above.
pub fn alibi_slopes(n_heads: usize) -> Vec<f64> {
    let below = if n_heads.is_power_of_two() { n_heads } else { n_heads.next_power_of_two() / 2 };
    let slope = |k: usize, of: usize| 2f64.powf(-8.0 * k as f64 / of as f64);
    let first = (1..=below).map(|k| slope(k, below));
    first.chain((1..).step_by(2).map(|k| slope(k, 2 * below))).take(n_heads).collect()
}

/// An MLP's nonlinearity, with the names that TransformerLens and HuggingFace use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Phi(x)`.
    Gelu,
    /// GELU by its approximation with tanh.
    GeluNew,
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

impl Architecture {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// An option that models that are trained do not have, and what it is set to.
    fn not_trained(&self) -> Option<(&'static str, String)> {
        // All fields by name: whoever adds one says here whether it is trained.
        let Self {
            positions,
            n_key_value_heads,
            act_fn,
            gated_mlp,
            qkv_bias,
            qk_norm,
            norms,
            attn_scores_soft_cap,
            output_logits_soft_cap,
            experts,
            other_positions,
            out_bias,
            mlp_bias,
            unembed_bias,
            parallel,
            tied_embeddings: _,
        } = self;
        let trained = matches!(positions, Positions::Sinusoidal | Positions::Rotary(_));
        [
            ("architecture.positions", !trained, written(positions)),
            ("architecture.n_key_value_heads", *n_key_value_heads != 0, written(n_key_value_heads)),
            ("architecture.act_fn", *act_fn != Activation::Gelu, written(act_fn)),
            ("architecture.gated_mlp", *gated_mlp, written(gated_mlp)),
            ("architecture.qkv_bias", *qkv_bias, written(qkv_bias)),
            ("architecture.qk_norm", *qk_norm == QkNorm::Whole, written(qk_norm)),
            ("architecture.norms", *norms != Norms::Before, written(norms)),
            (
                "architecture.attn_scores_soft_cap",
                attn_scores_soft_cap.is_some(),
                written(attn_scores_soft_cap),
            ),
            (
                "architecture.output_logits_soft_cap",
                output_logits_soft_cap.is_some(),
                written(output_logits_soft_cap),
            ),
            ("architecture.experts", experts.is_some(), written(experts)),
            ("architecture.other_positions", other_positions.is_some(), written(other_positions)),
            ("architecture.out_bias", *out_bias, written(out_bias)),
            ("architecture.mlp_bias", !*mlp_bias, written(mlp_bias)),
            ("architecture.unembed_bias", *unembed_bias, written(unembed_bias)),
            ("architecture.parallel", *parallel, written(parallel)),
        ]
        .into_iter()
        .find_map(|(field, differs, found)| differs.then_some((field, found)))
    }

    pub(crate) fn validate(&self, config: &ModelConfig) -> Result<(), Error> {
        let fail = |field, found: String, expected: &str| {
            Err(Error::Config { field, found, expected: expected.into() })
        };
        let kv = self.n_key_value_heads;
        if kv > 0 && !config.n_heads.is_multiple_of(kv) {
            return fail(
                "architecture.n_key_value_heads",
                kv.to_string(),
                "0, or a divisor of n_heads",
            );
        }
        if config.smeared_keys && (kv > 0 && kv != config.n_heads) {
            return fail("smeared_keys", "true".into(), "false where heads share keys");
        }
        if self.gated_mlp && config.d_mlp == 0 {
            return fail(
                "architecture.gated_mlp",
                "true".into(),
                "false in a model without MLPs (d_mlp = 0)",
            );
        }
        if self.parallel && config.d_mlp == 0 {
            return fail(
                "architecture.parallel",
                "true".into(),
                "false in a model without MLPs (d_mlp = 0)",
            );
        }
        if self.norms != Norms::Before && config.normalization != Normalization::RMS {
            let found = format!("{:?}", self.norms).to_lowercase();
            return fail("architecture.norms", found, "before, where norms are not RMS");
        }
        for (field, cap) in [
            ("architecture.attn_scores_soft_cap", self.attn_scores_soft_cap),
            ("architecture.output_logits_soft_cap", self.output_logits_soft_cap),
        ] {
            if let Some(cap) = cap.filter(|cap| !(1e-3..=1e6).contains(cap)) {
                return fail(field, cap.to_string(), "a number from 0.001 to 1e6, or nothing");
            }
        }
        if let Some(Experts { count, chosen, .. }) = self.experts {
            if !(1..=4096).contains(&count) || chosen == 0 || chosen > count {
                let found = format!("{chosen} of {count}");
                return fail("architecture.experts", found, "1 or more of up to 4096");
            }
            let plain = self.norms == Norms::Before && self.gated_mlp && !self.mlp_bias;
            if config.d_mlp == 0 || !plain {
                let expected =
                    "nothing without gated MLPs that have no biases and a norm before them";
                return fail("architecture.experts", format!("{chosen} of {count}"), expected);
            }
        }
        let other = self.other_positions.as_ref();
        if let Some(&layer) = other.and_then(|o| o.layers.iter().find(|&&l| l >= config.n_layers)) {
            let expected = "layers that the model has";
            return fail("architecture.other_positions.layers", layer.to_string(), expected);
        }
        let Positions::Rotary(rotary) = &self.positions else {
            let expected = "nothing where positions are not rotary";
            return match other {
                Some(_) => fail("architecture.other_positions", "set".into(), expected),
                None => Ok(()),
            };
        };
        if let Some(other) = other.and_then(|other| other.rotary.as_ref()) {
            if (other.dim, other.pairs) != (rotary.dim, rotary.pairs) {
                let found = format!("{} of {:?}", other.dim, other.pairs);
                let expected = "dim and pairs of architecture.positions";
                return fail("architecture.other_positions.rotary", found, expected);
            }
            other.validate(config)?;
        }
        rotary.validate(config)
    }
}

/// A value for people, as it would be written.
pub(crate) fn written(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    text.trim_matches('"').to_string()
}

impl ModelConfig {
    /// Heads that keys and values have.
    pub fn n_key_value_heads(&self) -> usize {
        match self.architecture.n_key_value_heads {
            0 => self.n_heads,
            n => n,
        }
    }

    /// Whether this is a model of the paper's family.
    pub fn is_paper_family(&self) -> bool {
        self.architecture.is_default() && self.normalization != Normalization::RMS
    }

    /// Whether this is a model of the paper's family but for what trained models may have
    /// otherwise: rotary positions, RMS norm, queries and keys normed head by head
    /// ([`QkNorm::Head`]), tied embeddings. Such models can be trained, and run by every engine.
    pub fn is_trainable(&self) -> bool {
        self.architecture.not_trained().is_none()
    }

    /// Checks a model that is to be trained: every field, that
    /// [`is_trainable`](Self::is_trainable), and that no field is given that these positions do not
    /// read.
    ///
    /// # Errors
    /// [`Error::Config`] with the field.
    pub fn validate_to_train(&self) -> Result<(), Error> {
        self.validate()?;
        let refuse = |field, found: String, expected: &str| {
            Err(Error::Config { field, found, expected: expected.into() })
        };
        if let Some((field, found)) = self.architecture.not_trained() {
            let expected = "what a model that is trained may have: sinusoidal or rotary positions, qk_norm of each head or none, tied embeddings or not, and nothing else of `architecture`";
            return refuse(field, found, expected);
        }
        if self.architecture.positions != Positions::Sinusoidal {
            let default = Self::default();
            let expected = "nothing, since it is of sinusoidal positions alone";
            if self.pos_gain_init != default.pos_gain_init {
                return refuse("pos_gain_init", format!("{:?}", self.pos_gain_init), expected);
            }
            if self.position_base != default.position_base {
                let expected =
                    "nothing, since it is of sinusoidal positions alone: rotary ones have `base`";
                return refuse("position_base", self.position_base.to_string(), expected);
            }
        }
        Ok(())
    }

    /// Checks that [`is_trainable`](Self::is_trainable).
    ///
    /// # Errors
    /// [`Error::NotTheFamily`] with what cannot be done.
    pub fn require_trainable(&self, what: &'static str) -> Result<(), Error> {
        if self.is_trainable() { Ok(()) } else { Err(Error::NotTheFamily { what }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pairs, RotaryScaling};

    #[test]
    fn what_is_trained_is_said() {
        let rotary = |dim| {
            Positions::Rotary(Rotary {
                dim,
                base: 1e4,
                pairs: Pairs::Half,
                scaling: None,
                attention_factor: None,
            })
        };
        let with = |architecture| ModelConfig { architecture, ..ModelConfig::default() };
        let all = Architecture {
            positions: rotary(32),
            qk_norm: QkNorm::Head,
            tied_embeddings: true,
            ..Architecture::default()
        };
        let all = ModelConfig { normalization: Normalization::RMS, ..with(all) };
        assert!(all.is_trainable() && !all.is_paper_family());
        all.validate_to_train().unwrap();
        let refused = |config: ModelConfig| {
            config.validate().unwrap();
            config.validate_to_train().unwrap_err().to_string()
        };
        let one = |qk_norm, parallel| Architecture { qk_norm, parallel, ..Architecture::default() };
        let whole = refused(with(one(QkNorm::Whole, false)));
        assert!(whole.starts_with("model.architecture.qk_norm = whole: expected"), "{whole}");
        let parallel = with(one(QkNorm::None, true));
        let parallel = refused(ModelConfig { d_mlp: 8, ..parallel });
        assert!(parallel.starts_with("model.architecture.parallel = true: expected"), "{parallel}");
        let gain = refused(ModelConfig { pos_gain_init: [1.0, 1.0], ..all.clone() });
        assert!(gain.starts_with("model.pos_gain_init = [1.0, 1.0]: expected nothing"), "{gain}");
        let base = refused(ModelConfig { position_base: 500.0, ..all });
        assert!(base.contains("rotary ones have `base`"), "{base}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        type Break = fn(&mut ModelConfig);
        let cases: [(&str, Break); 4] = [
            ("architecture.n_key_value_heads", |c| c.architecture.n_key_value_heads = 3),
            ("architecture.gated_mlp", |c| c.architecture.gated_mlp = true),
            ("architecture.parallel", |c| c.architecture.parallel = true),
            ("architecture.positions.dim", |c| {
                c.architecture.positions = Positions::Rotary(Rotary {
                    dim: 34,
                    base: 1e4,
                    pairs: Pairs::Half,
                    scaling: None,
                    attention_factor: None,
                });
            }),
        ];
        for (field, damage) in cases {
            let mut config = ModelConfig::default();
            damage(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("model.{field} = ")), "{field}: {message}");
        }
        for (field, rotary) in [
            (
                "base",
                Rotary {
                    dim: 32,
                    base: f64::NAN,
                    pairs: Pairs::Half,
                    scaling: None,
                    attention_factor: None,
                },
            ),
            (
                "scaling",
                Rotary {
                    dim: 32,
                    base: 1e4,
                    pairs: Pairs::Half,
                    scaling: Some(RotaryScaling::Linear { factor: 0.0 }),
                    attention_factor: None,
                },
            ),
        ] {
            let mut config = ModelConfig::default();
            config.architecture.positions = Positions::Rotary(rotary);
            let message = config.validate().unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("model.architecture.positions.{field} = ")),
                "{message}"
            );
        }
    }
}
