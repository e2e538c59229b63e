use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use induction_model::{ForbiddenKeys, Hook, ModelConfig};
use ndarray::{Array3, ArrayD};

use crate::Error;

/// A change to the forward pass, as data. Layers and heads count from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Intervention {
    /// The head writes nothing: its `z` is zero (paper.md, 4: ablation).
    ZeroHead {
        /// Layer.
        layer: usize,
        /// Head.
        head: usize,
    },
    /// The head attends by this pattern, `[example, query, key]`, whatever its queries and keys
    /// say.
    ForcePattern {
        /// Layer.
        layer: usize,
        /// Head.
        head: usize,
        /// One pattern an example; rows are used as they are.
        pattern: Array3<f32>,
    },
    /// The head does not attend to these keys; the rest of each row of its pattern is as large a
    /// share of what is left as before, as if the forbidden scores were minus infinity. A row of
    /// which nothing is left attends to nothing. Not beside [`FreezePatterns`](Self::FreezePatterns)
    /// of its layer.
    ForbidKeys {
        /// Layer.
        layer: usize,
        /// Head.
        head: usize,
        /// One an example.
        keys: Arc<[ForbiddenKeys]>,
    },
    /// All heads of the layer attend as in a pass without interventions: the second run of a
    /// pattern-preserving ablation (paper.md, 4). A pattern that another intervention of the set
    /// gives wins.
    FreezePatterns {
        /// Layer.
        layer: usize,
    },
    /// One head's part of the activation at `hook` (queries, keys, values or `z`) is this value at
    /// some positions. Where it is there at the last positions alone, engines need not compute the
    /// others again.
    ReplaceHead {
        /// Where.
        hook: Hook,
        /// Head.
        head: usize,
        /// The first of these positions.
        from: usize,
        /// `[example, position, d_head]`, as many positions as it has.
        value: Array3<f32>,
    },
    /// The activation at `hook` is this value, first axis by example.
    Replace {
        /// Where.
        hook: Hook,
        /// In the shape that [`Hook`] gives.
        value: ArrayD<f32>,
    },
}

impl Intervention {
    /// The hook point at which it acts.
    pub fn hook(&self) -> Hook {
        match self {
            Self::ZeroHead { layer, .. } => Hook::Z(*layer),
            Self::ForcePattern { layer, .. }
            | Self::ForbidKeys { layer, .. }
            | Self::FreezePatterns { layer } => Hook::Pattern(*layer),
            Self::Replace { hook, .. } | Self::ReplaceHead { hook, .. } => *hook,
        }
    }

    /// Checks a set against a model and `[example, pos]` tokens.
    pub(crate) fn check_set(
        set: &[Self],
        config: &ModelConfig,
        examples: usize,
        pos: usize,
    ) -> Result<(), Error> {
        set.iter().try_for_each(|i| i.check(config, examples, pos))?;
        let is_frozen = |hook| set.contains(&Self::FreezePatterns { layer: hook });
        match set.iter().find(|i| matches!(i, Self::ForbidKeys { layer, .. } if is_frozen(*layer)))
        {
            Some(cut) => Err(Error::Intervention(format!(
                "at {}: keys are forbidden to a head, and the layer's patterns are frozen; expected one of both",
                cut.hook()
            ))),
            None => Ok(()),
        }
    }

    fn check(&self, config: &ModelConfig, examples: usize, pos: usize) -> Result<(), Error> {
        check_hook(config, self.hook()).map_err(Error::Intervention)?;
        let expect = |found: &[usize], expected: &[usize]| {
            if found == expected {
                return Ok(());
            }
            Err(Error::Intervention(format!(
                "at {}: value of shape {found:?}, expected {expected:?}",
                self.hook()
            )))
        };
        let heads = heads_at(config, self.hook());
        match self {
            Self::ZeroHead { head, .. }
            | Self::ForcePattern { head, .. }
            | Self::ForbidKeys { head, .. }
            | Self::ReplaceHead { head, .. }
                if *head >= heads =>
            {
                Err(Error::Intervention(format!(
                    "at {}: head {head}, the model has {heads} heads there",
                    self.hook()
                )))
            }
            Self::ZeroHead { .. } | Self::FreezePatterns { .. } => Ok(()),
            Self::ReplaceHead {
                hook: Hook::Q(_) | Hook::K(_) | Hook::V(_) | Hook::Z(_),
                from,
                value,
                ..
            } => {
                let fits = 1..=pos.saturating_sub(*from);
                let positions = value.shape()[1];
                if !fits.contains(&positions) {
                    return Err(Error::Intervention(format!(
                        "at {}: {positions} positions from {from} on, the examples have {pos}",
                        self.hook()
                    )));
                }
                expect(value.shape(), &[examples, positions, config.d_head])
            }
            Self::ReplaceHead { hook, .. } => Err(Error::Intervention(format!(
                "at {hook}: it is not a head's own, expected hook_q, hook_k, hook_v or hook_z"
            ))),
            Self::ForbidKeys { keys, .. } => {
                if keys.len() != examples {
                    return Err(Error::Intervention(format!(
                        "at {}: keys of {} examples, expected {examples}",
                        self.hook(),
                        keys.len()
                    )));
                }
                Ok(())
            }
            Self::ForcePattern { pattern, .. } => expect(pattern.shape(), &[examples, pos, pos]),
            Self::Replace { hook, value } => {
                expect(value.shape(), &hook_shape(config, *hook, examples, pos))
            }
        }
    }

    /// The part that concerns examples `from..to`.
    #[cfg(feature = "burn")]
    pub(crate) fn for_examples(&self, from: usize, to: usize) -> Self {
        let part = ndarray::Slice::from(from..to);
        match self {
            Self::ZeroHead { .. } | Self::FreezePatterns { .. } => self.clone(),
            Self::ReplaceHead { hook, head, from: first, value } => Self::ReplaceHead {
                hook: *hook,
                head: *head,
                from: *first,
                value: value.slice_axis(ndarray::Axis(0), part).to_owned(),
            },
            Self::ForbidKeys { layer, head, keys } => {
                Self::ForbidKeys { layer: *layer, head: *head, keys: keys[from..to].into() }
            }
            Self::ForcePattern { layer, head, pattern } => Self::ForcePattern {
                layer: *layer,
                head: *head,
                pattern: pattern.slice_axis(ndarray::Axis(0), part).to_owned(),
            },
            Self::Replace { hook, value } => Self::Replace {
                hook: *hook,
                value: value.slice_axis(ndarray::Axis(0), part).to_owned(),
            },
        }
    }
}

/// The set with each [`Intervention::FreezePatterns`] made a replacement by what `clean` gives for
/// its hook: for passes that have no pass without interventions at hand. They come first, so that
/// any other pattern of the set wins.
pub(crate) fn with_frozen_patterns(
    set: &[Intervention],
    clean: impl FnOnce(&[Hook]) -> Result<BTreeMap<Hook, ArrayD<f32>>, Error>,
) -> Result<Cow<'_, [Intervention]>, Error> {
    let frozen = |i: &Intervention| matches!(i, Intervention::FreezePatterns { .. });
    let hooks: Vec<Hook> = set.iter().filter(|i| frozen(i)).map(Intervention::hook).collect();
    if hooks.is_empty() {
        return Ok(Cow::Borrowed(set));
    }
    let patterns =
        clean(&hooks)?.into_iter().map(|(hook, value)| Intervention::Replace { hook, value });
    Ok(patterns.chain(set.iter().filter(|i| !frozen(i)).cloned()).collect())
}

/// Heads that the activation at `hook` has: keys and values may be shared by several.
fn heads_at(config: &ModelConfig, hook: Hook) -> usize {
    match hook {
        Hook::K(_) | Hook::V(_) => config.n_key_value_heads(),
        _ => config.n_heads,
    }
}

/// The shape of the activation at `hook`.
pub(crate) fn hook_shape(
    config: &ModelConfig,
    hook: Hook,
    examples: usize,
    pos: usize,
) -> Vec<usize> {
    match hook {
        Hook::Q(_) | Hook::K(_) | Hook::V(_) | Hook::Z(_) => {
            vec![examples, pos, heads_at(config, hook), config.d_head]
        }
        Hook::Pattern(_) => vec![examples, config.n_heads, pos, pos],
        Hook::Embed | Hook::AttnOut(_) | Hook::MlpOut(_) | Hook::ResidPost(_) => {
            vec![examples, pos, config.d_model]
        }
    }
}

/// The layer after which nobody looks any more, counted from 1.
pub(crate) fn layers_for(hooks: &[Hook]) -> usize {
    hooks.iter().map(|hook| hook.layer().map_or(0, |l| l + 1)).max().unwrap_or(0)
}

/// Says why the model has no such hook point, if it has none.
pub(crate) fn check_hook(config: &ModelConfig, hook: Hook) -> Result<(), String> {
    let layer = match hook {
        Hook::Embed => 0,
        Hook::MlpOut(_) if config.attn_only() => {
            return Err(format!("at {hook}: the model is attention-only"));
        }
        Hook::Q(l) | Hook::K(l) | Hook::V(l) | Hook::Pattern(l) | Hook::Z(l) => l,
        Hook::AttnOut(l) | Hook::MlpOut(l) | Hook::ResidPost(l) => l,
    };
    if layer < config.n_layers {
        Ok(())
    } else {
        Err(format!("at {hook}: the model has {} layers", config.n_layers))
    }
}

/// `[example, query, key]`, 0 where a key is forbidden and 1 elsewhere.
#[cfg(feature = "burn")]
pub(crate) fn allowed(keys: &[ForbiddenKeys], pos: usize) -> Array3<f32> {
    let mut allowed = Array3::ones((keys.len(), pos, pos));
    for (mut allowed, keys) in allowed.outer_iter_mut().zip(keys) {
        for query in 0..pos {
            keys.of(query).iter().for_each(|&key| allowed[[query, key as usize]] = 0.0);
        }
    }
    allowed
}
