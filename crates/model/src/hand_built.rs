use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use crate::{Error, ModelConfig, Normalization, Params};

/// An induction circuit with every weight set by formula (paper.md, 5): two attention-only layers
/// of one head each, no layer norm, no learning. What its heads do is known in closed form, so
/// every measurement can be held against it.
///
/// The residual stream has four parts: the highest-frequency position pairs (empty, read by layer 0
/// only), the token itself, the token before it, and the prediction.
///
/// - Layer 0, the previous-token head: `W_Q` turns each position pair back by one step, so the
///   score between query `i` and key `j` is `position_sharpness * sum_f cos(w_f (i - 1 - j))`,
///   largest at `j = i - 1`. Its OV circuit copies the token at `j` into the "token before" part.
/// - Layer 1, the induction head: queries read the token, keys read the token before
///   (K-composition); the score is `match_sharpness` where the token before `j` is the token at
///   `i`. Its OV circuit copies the token at `j` into the prediction with weight `copy_strength`.
#[derive(Clone, Debug, PartialEq)]
pub struct HandBuilt {
    /// Vocabulary.
    pub d_vocab: usize,
    /// Longest sequence.
    pub n_ctx: usize,
    /// Position pairs that layer 0 compares.
    pub position_pairs: usize,
    /// Scale of layer 0's scores.
    pub position_sharpness: f64,
    /// Score of a match in layer 1.
    pub match_sharpness: f64,
    /// Logit of a token that layer 1 attends to with weight 1.
    pub copy_strength: f64,
}

impl HandBuilt {
    /// Sharp enough that layer 0 attends to the previous token to within 1e-9 in any context up to
    /// a few hundred tokens.
    pub fn new(d_vocab: usize, n_ctx: usize) -> Self {
        Self {
            d_vocab,
            n_ctx,
            position_pairs: 8,
            position_sharpness: 100.0,
            match_sharpness: 10.0,
            copy_strength: 5.0,
        }
    }

    /// The configuration: `d_model = 2 * position_pairs + 3 * d_vocab`, rounded up to an even
    /// number.
    pub fn config(&self) -> ModelConfig {
        ModelConfig {
            n_layers: 2,
            d_model: (2 * self.position_pairs + 3 * self.d_vocab).next_multiple_of(2),
            n_heads: 1,
            d_head: self.d_vocab.max(2 * self.position_pairs),
            d_mlp: 0,
            n_ctx: self.n_ctx,
            d_vocab: self.d_vocab,
            normalization: Normalization::None,
            smeared_keys: false,
            pos_gain_init: [1.0, 0.0],
            ..ModelConfig::default()
        }
    }

    /// The angular frequency of position pair `f`, as in [`crate::sinusoidal_positions`].
    pub fn frequency(&self, f: usize) -> f64 {
        let config = self.config();
        config.position_base.powf(-((2 * f) as f64) / config.d_model as f64)
    }

    /// The weights.
    ///
    /// # Errors
    /// A size outside the configuration's ranges.
    pub fn params(&self) -> Result<Params, Error> {
        let config = self.config();
        config.validate()?;
        let (v, d_model, d_head) = (self.d_vocab, config.d_model, config.d_head);
        let token = 2 * self.position_pairs;
        let (before, prediction) = (token + v, token + 2 * v);
        // Scores are divided by sqrt(d_head); the factor takes it out again.
        let root = (d_head as f64).sqrt();

        let mut entries: BTreeMap<String, ArrayD<f32>> = config
            .parameter_shapes()
            .into_iter()
            .map(|(name, shape)| (name, ArrayD::zeros(IxDyn(&shape))))
            .collect();
        let mut set = |name: &str, at: &[usize], value: f64| {
            entries.get_mut(name).expect("a parameter of the configuration")[IxDyn(at)] =
                value as f32;
        };
        for t in 0..v {
            set("embed.W_E", &[t, token + t], 1.0);
            set("unembed.W_U", &[prediction + t, t], 1.0);
        }
        set("blocks.0.attn.pos_gain", &[0], 1.0);
        for f in 0..self.position_pairs {
            // (sin, cos) of w i turned back by w is (sin, cos) of w (i - 1): row vector times
            // matrix.
            let (sin, cos) = self.frequency(f).sin_cos();
            let (s, c) = (2 * f, 2 * f + 1);
            let beta = self.position_sharpness * root;
            for (row, column, value) in [(s, s, cos), (s, c, sin), (c, s, -sin), (c, c, cos)] {
                set("blocks.0.attn.W_Q", &[0, row, column], beta * value);
            }
            set("blocks.0.attn.W_K", &[0, s, s], 1.0);
            set("blocks.0.attn.W_K", &[0, c, c], 1.0);
        }
        for t in 0..v {
            set("blocks.0.attn.W_V", &[0, token + t, t], 1.0);
            set("blocks.0.attn.W_O", &[0, t, before + t], 1.0);
            set("blocks.1.attn.W_Q", &[0, token + t, t], self.match_sharpness * root);
            set("blocks.1.attn.W_K", &[0, before + t, t], 1.0);
            set("blocks.1.attn.W_V", &[0, token + t, t], 1.0);
            set("blocks.1.attn.W_O", &[0, t, prediction + t], self.copy_strength);
        }
        debug_assert!(prediction + v <= d_model);
        Params::new(&config, entries)
    }

    /// Layer 0's attention from `query` to `key`, in closed form.
    pub fn previous_token_attention(&self, query: usize, key: usize) -> f64 {
        let score = |j: usize| {
            let cosines = (0..self.position_pairs)
                .map(|f| (self.frequency(f) * (query as f64 - 1.0 - j as f64)).cos());
            self.position_sharpness * cosines.sum::<f64>()
        };
        let largest = (0..=query).map(score).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = (0..=query).map(|j| (score(j) - largest).exp()).sum();
        (score(key) - largest).exp() / total
    }

    /// Layer 1's attention from `query` to `key` on `tokens` with a perfect layer 0, in closed
    /// form. (Position 0 has no previous token; its only source is itself.)
    pub fn induction_attention(&self, tokens: &[u32], query: usize, key: usize) -> f64 {
        let weight = |j: usize| {
            if tokens[j.saturating_sub(1)] == tokens[query] {
                self.match_sharpness.exp()
            } else {
                1.0
            }
        };
        weight(key) / (0..=query).map(weight).sum::<f64>()
    }
}
