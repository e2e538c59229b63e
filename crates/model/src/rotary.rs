use serde::{Deserialize, Serialize};

use crate::{Error, ModelConfig, architecture::written};

/// Rotary positions (Su et al. 2021): pair `i` of a query or key at position `t` is turned by `t *
/// base^(-2i / dim)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotary {
    /// Entries of each head that are turned, the first ones; even.
    pub dim: usize,
    /// Base of the wavelengths.
    #[serde(default = "default_base")]
    pub base: f64,
    /// Which entries are a pair.
    #[serde(default)]
    pub pairs: Pairs,
    /// How the angles of a longer context were made from those of a shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<RotaryScaling>,
    /// What cosines and sines are multiplied by, and scores by its square; nothing for 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
}

fn default_base() -> f64 {
    10_000.0
}

/// Which entries of a head rotary positions turn together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// `i` and `i + dim / 2`: HuggingFace's layout.
    #[default]
    Half,
    /// `2i` and `2i + 1`: the layout of the paper and of Llama models in GGUF files.
    Adjacent,
}

/// Changed rotary frequencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RotaryScaling {
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Each divided by a number of its own, `[dim / 2]`: longrope's, and how GGUF files say Llama 3.1's.
    Divisors {
        /// The numbers.
        by: Vec<f32>,
    },
    /// YaRN's (Peng et al. 2023): pairs that turn often within the first context stay, those that
    /// turn seldom are divided, with a passage that is linear in the pair's number.
    Yarn {
        /// What the longest are divided by.
        factor: f64,
        /// Pairs that turn as often as this within the first context stay.
        beta_fast: f64,
        /// Pairs that turn as seldom as this are divided wholly.
        beta_slow: f64,
        /// The context that the model was first trained with.
        original_context: f64,
        /// Whether the passage begins and ends with whole pairs.
        truncate: bool,
    },
    /// Llama 3.1's: only long wavelengths are divided, with a smooth passage.
    Llama3 {
        /// What the longest are divided by.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are divided wholly.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` stay.
        high_freq_factor: f64,
        /// The context that the model was first trained with.
        original_context: f64,
    },
}

impl Rotary {
    /// Radians a position of each pair, `[dim / 2]`.
    pub fn frequencies(&self) -> Vec<f64> {
        let plain = (0..self.dim / 2).map(|i| self.base.powf(-((2 * i) as f64) / self.dim as f64));
        plain
            .enumerate()
            .map(|(i, frequency)| match &self.scaling {
                None => frequency,
                Some(RotaryScaling::Linear { factor }) => frequency / factor,
                Some(RotaryScaling::Divisors { by }) => {
                    frequency / by.get(i).map_or(1.0, |&by| f64::from(by))
                }
                Some(RotaryScaling::Yarn {
                    factor,
                    beta_fast,
                    beta_slow,
                    original_context,
                    truncate,
                }) => {
                    let last = self.dim as f64 - 1.0;
                    let pair_of = |turns: &f64| {
                        let wavelength = original_context / (turns * std::f64::consts::TAU);
                        self.dim as f64 * wavelength.ln() / (2.0 * self.base.ln())
                    };
                    let (low, high) = (pair_of(beta_fast), pair_of(beta_slow));
                    let (low, high) =
                        if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
                    let (low, high) = (low.max(0.0), high.min(last));
                    let width = if low == high { 0.001 } else { high - low };
                    let divided = ((i as f64 - low) / width).clamp(0.0, 1.0);
                    divided * frequency / factor + (1.0 - divided) * frequency
                }
                Some(RotaryScaling::Llama3 {
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_context,
                }) => {
                    // Turns within the first context: many stay as they are, few are slowed down.
                    let turns = original_context * frequency / std::f64::consts::TAU;
                    let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor))
                        .clamp(0.0, 1.0);
                    kept * frequency + (1.0 - kept) * frequency / factor
                }
            })
            .collect()
    }

    /// The two entries of pair `i`.
    pub fn pair(&self, i: usize) -> (usize, usize) {
        match self.pairs {
            Pairs::Half => (i, i + self.dim / 2),
            Pairs::Adjacent => (2 * i, 2 * i + 1),
        }
    }
}

impl Rotary {
    pub(crate) fn validate(&self, config: &ModelConfig) -> Result<(), Error> {
        let fail = |field, found: String, expected: &str| {
            Err(Error::Config { field, found, expected: expected.into() })
        };
        let rotary = self;
        if rotary.dim == 0 || rotary.dim > config.d_head || !rotary.dim.is_multiple_of(2) {
            return fail(
                "architecture.positions.dim",
                rotary.dim.to_string(),
                "an even number from 2 to d_head",
            );
        }
        if !(rotary.base >= 1.0 && rotary.base <= 1e12) {
            return fail(
                "architecture.positions.base",
                format!("{:?}", rotary.base),
                "a number from 1 to 1e12",
            );
        }
        if let Some(factor) = rotary.attention_factor.filter(|x| !(1e-3..=1e3).contains(x)) {
            let field = "architecture.positions.attention_factor";
            return fail(field, format!("{factor:?}"), "a number from 0.001 to 1000, or nothing");
        }
        let positive = |x: f64| (1e-6..=1e12).contains(&x);
        let fits = match &rotary.scaling {
            None => true,
            Some(RotaryScaling::Linear { factor }) => positive(*factor),
            Some(RotaryScaling::Divisors { by }) => {
                by.len() == rotary.dim / 2 && by.iter().all(|&by| positive(f64::from(by)))
            }
            Some(RotaryScaling::Yarn {
                factor, beta_fast, beta_slow, original_context, ..
            }) => {
                let all = [factor, beta_fast, beta_slow, original_context];
                all.into_iter().all(|&x| positive(x)) && beta_fast > beta_slow && rotary.base > 1.0
            }
            Some(RotaryScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            }) => {
                [factor, low_freq_factor, original_context].into_iter().all(|&x| positive(x))
                    && high_freq_factor > low_freq_factor
                    && high_freq_factor.is_finite()
            }
        };
        if fits {
            Ok(())
        } else {
            let expected = match &rotary.scaling {
                Some(RotaryScaling::Divisors { .. }) => {
                    "a number from 1e-6 to 1e12 for each pair, of which there are dim / 2"
                }
                Some(RotaryScaling::Yarn { .. }) => {
                    "numbers from 1e-6 to 1e12, beta_fast above beta_slow, and a base above 1"
                }
                Some(RotaryScaling::Llama3 { .. }) => {
                    "numbers from 1e-6 to 1e12, high_freq_factor above low_freq_factor"
                }
                _ => "a factor from 1e-6 to 1e12",
            };
            fail("architecture.positions.scaling", written(&rotary.scaling), expected)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_slows_long_wavelengths_alone() {
        // Llama 3.2's numbers.
        let scaling = RotaryScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        let plain = Rotary {
            dim: 64,
            base: 500_000.0,
            pairs: Pairs::Half,
            scaling: None,
            attention_factor: None,
        };
        let scaled = Rotary { scaling: Some(scaling), ..plain.clone() };
        let (plain, scaled) = (plain.frequencies(), scaled.frequencies());
        assert_eq!(plain[0], scaled[0]);
        assert_eq!(plain[31] / 32.0, scaled[31]);
        assert!(plain.iter().zip(&scaled).all(|(p, s)| s <= p && *s >= p / 32.0));
        assert!(plain.iter().zip(&scaled).any(|(p, s)| s < p && *s > p / 32.0 * 1.01));
    }
}
