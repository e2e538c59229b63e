//! What sees and replaces activations on their way.

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

pub(super) fn is_frozen(intervention: &Intervention) -> bool {
    matches!(intervention, Intervention::FreezePatterns { .. })
}

pub(super) fn upload(row: &[f32], device: Device) -> Tensor {
    Tensor::from_slice(row).to_device(device)
}
