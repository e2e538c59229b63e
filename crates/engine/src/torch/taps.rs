//! What sees and replaces activations on their way.

use std::collections::BTreeMap;

use induction_model::Hook;
use tch::{Device, Tensor};

use crate::Intervention;

/// Sees, and may replace, the activations at the hook points that it asks for, in the shapes that
/// [`Hook`] gives.
pub(super) trait Tap {
    /// Whether the activation at `hook` should be shown.
    fn wants(&self, hook: Hook) -> bool;
    /// The returned value takes the activation's place.
    fn at(&mut self, hook: Hook, value: Tensor) -> Tensor;
}

/// A [`Tap`] that asks for nothing.
pub(super) struct NoTap;

impl Tap for NoTap {
    fn wants(&self, _: Hook) -> bool {
        false
    }
    fn at(&mut self, _: Hook, value: Tensor) -> Tensor {
        value
    }
}

pub(super) fn tap(tap: &mut dyn Tap, hook: Hook, value: Tensor) -> Tensor {
    if tap.wants(hook) { tap.at(hook, value) } else { value }
}

/// Applies interventions, then captures what was asked for.
pub(super) struct Interventions<'a> {
    interventions: &'a [Intervention],
    hooks: &'a [Hook],
    device: Device,
    pub(super) captured: BTreeMap<Hook, Tensor>,
    /// Patterns of the pass without interventions, for those that are kept.
    clean: &'a BTreeMap<Hook, Tensor>,
}

impl<'a> Interventions<'a> {
    pub(super) fn new(
        interventions: &'a [Intervention],
        hooks: &'a [Hook],
        device: Device,
        clean: &'a BTreeMap<Hook, Tensor>,
    ) -> Self {
        Self { interventions, hooks, device, captured: BTreeMap::new(), clean }
    }

    fn at(&self, hook: Hook) -> impl Iterator<Item = &'a Intervention> + use<'a> {
        self.interventions.iter().filter(move |i| i.hook() == hook)
    }

    fn upload<D: ndarray::Dimension>(&self, value: &ndarray::Array<f32, D>) -> Tensor {
        let shape: Vec<i64> = value.shape().iter().map(|&n| n as i64).collect();
        upload(&value.iter().copied().collect::<Vec<_>>(), self.device).view(shape.as_slice())
    }
}

impl Tap for Interventions<'_> {
    fn wants(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook) || self.at(hook).next().is_some()
    }

    fn at(&mut self, hook: Hook, mut value: Tensor) -> Tensor {
        // Any other pattern of the set wins over one that is kept.
        let (kept, others): (Vec<_>, Vec<_>) =
            Interventions::at(self, hook).partition(|i| is_frozen(i));
        for intervention in kept.into_iter().chain(others) {
            match intervention {
                Intervention::Replace { value: new, .. } => value = self.upload(new),
                Intervention::FreezePatterns { .. } => {
                    // A copy: heads of it may be written over.
                    value = self.clean[&hook].copy();
                }
                // z and a head's vectors are [batch, pos, head, d_head], a pattern [batch, head,
                // query, key].
                Intervention::ReplaceHead { head, value: new, .. } => {
                    value.narrow(2, *head as i64, 1).copy_(&self.upload(new).unsqueeze(2));
                }
                Intervention::ZeroHead { head, .. } => {
                    let _ = value.narrow(2, *head as i64, 1).zero_();
                }
                Intervention::ForcePattern { head, pattern, .. } => {
                    value.narrow(1, *head as i64, 1).copy_(&self.upload(pattern).unsqueeze(1));
                }
            }
        }
        if self.hooks.contains(&hook) {
            self.captured.insert(hook, value.copy());
        }
        value
    }
}

/// The layer at whose input a pass with a change at `hook` leaves the one without; none for a
/// change below all layers.
pub(super) fn first_layer(hook: Hook) -> Option<usize> {
    match hook {
        Hook::Embed => None,
        Hook::Q(l) | Hook::K(l) | Hook::V(l) | Hook::Pattern(l) | Hook::Z(l) => Some(l),
        Hook::AttnOut(l) | Hook::MlpOut(l) | Hook::ResidPost(l) => Some(l),
    }
}

pub(super) fn is_frozen(intervention: &Intervention) -> bool {
    matches!(intervention, Intervention::FreezePatterns { .. })
}

pub(super) fn upload(row: &[f32], device: Device) -> Tensor {
    Tensor::from_slice(row).to_device(device)
}
