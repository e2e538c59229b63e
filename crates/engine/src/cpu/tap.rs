use std::collections::BTreeMap;

use induction_kernels::panels;
use induction_model::{ForbiddenKeys, Hook};
use ndarray::{ArrayView2, ArrayViewD, ArrayViewMutD, Axis};

use super::{
    forward::{Tap, Wanted},
    layout::Dims,
    workspace::Layer,
};
use crate::Intervention;

/// Applies interventions to one example, then captures what was asked for.
pub(super) struct ExampleTap<'a> {
    pub(super) dims: &'a Dims,
    /// Positions.
    pub(super) used: usize,
    /// The example's place in the interventions' arrays.
    pub(super) example: usize,
    pub(super) interventions: &'a [Intervention],
    /// Where each captured activation of this example goes.
    pub(super) captured: BTreeMap<Hook, ArrayViewMutD<'a, f32>>,
    /// Whether the pass is for the captured activations alone.
    pub(super) captures_only: bool,
    /// The layers of the pass without interventions, whose patterns are kept where a set freezes
    /// them.
    pub(super) clean: &'a [Layer<f32>],
}

impl ExampleTap<'_> {
    fn at(&self, hook: Hook) -> impl Iterator<Item = &Intervention> {
        self.interventions.iter().filter(move |i| i.hook() == hook)
    }
}

/// Calls `visit(array, panel)` for each entry of an example's activation: its index in the
/// row-major `[position, head, column]` (`[position, column]` without heads), and in the panels.
fn each(dims: &Dims, used: usize, hook: Hook, rows: usize, mut visit: impl FnMut(usize, usize)) {
    let (heads, width) = match hook {
        Hook::Q(_) | Hook::Z(_) => (dims.n_heads, dims.d_head),
        Hook::K(_) | Hook::V(_) => (dims.kv_heads, dims.d_head),
        Hook::Pattern(_) => (1, used),
        Hook::Embed | Hook::AttnOut(_) | Hook::MlpOut(_) | Hook::ResidPost(_) => (1, dims.d_model),
    };
    let head_len = panels::len(rows, width);
    for t in 0..used {
        for h in 0..heads {
            for x in 0..width {
                visit((t * heads + h) * width + x, h * head_len + panels::at(rows, t, x));
            }
        }
    }
}

fn write(dims: &Dims, used: usize, hook: Hook, rows: usize, from: ArrayViewD<f32>, to: &mut [f32]) {
    let from = from.as_standard_layout();
    let from = from.as_slice().expect("standard layout was just made");
    each(dims, used, hook, rows, |array, panel| to[panel] = from[array]);
}

/// One head's `[row, d_head]` into its panels, from row `first` on.
pub(super) fn write_head(first: usize, rows: usize, from: ArrayView2<f32>, to: &mut [f32]) {
    for (t, row) in from.rows().into_iter().enumerate() {
        for (x, &value) in row.iter().enumerate() {
            to[panels::at(rows, first + t, x)] = value;
        }
    }
}

fn read(
    dims: &Dims,
    used: usize,
    hook: Hook,
    rows: usize,
    from: &[f32],
    mut to: ArrayViewMutD<f32>,
) {
    let to = to.as_slice_mut().expect("one example of an array in standard layout");
    if let Hook::Pattern(_) = hook {
        // The largest of all activations by far: in blocks, not entry by entry.
        panels::unpack(from, rows, 0, used, to);
        return;
    }
    each(dims, used, hook, rows, |array, panel| to[array] = from[panel]);
}

/// Takes keys from a pattern; what is left of a row is as large a share of it as before.
fn forbid(keys: &ForbiddenKeys, used: usize, rows: usize, pattern: &mut [f32]) {
    for query in 0..used {
        let forbidden = keys.of(query);
        if forbidden.is_empty() {
            continue;
        }
        for &key in forbidden {
            pattern[panels::at(rows, query, key as usize)] = 0.0;
        }
        let left: f32 = (0..=query).map(|key| pattern[panels::at(rows, query, key)]).sum();
        if left > 0.0 {
            (0..=query).for_each(|key| pattern[panels::at(rows, query, key)] /= left);
        }
    }
}

impl Tap<f32> for ExampleTap<'_> {
    fn zeroes(&self, layer: usize, head: usize) -> bool {
        let zeroed = Intervention::ZeroHead { layer, head };
        self.interventions.contains(&zeroed)
    }

    fn wants(&self, hook: Hook) -> bool {
        self.captured.contains_key(&hook) || self.at(hook).next().is_some()
    }

    fn see(&mut self, hook: Hook, value: &mut [f32], rows: usize) {
        for intervention in self.at(hook) {
            match intervention {
                Intervention::Replace { value: new, .. } => {
                    write(
                        self.dims,
                        self.used,
                        hook,
                        rows,
                        new.index_axis(Axis(0), self.example),
                        value,
                    );
                }
                Intervention::ZeroHead { head, .. } => value[self.dims.head(*head, rows)].fill(0.0),
                Intervention::ReplaceHead { head, from, value: new, .. } => {
                    let head = &mut value[self.dims.head(*head, rows)];
                    write_head(*from, rows, new.index_axis(Axis(0), self.example), head);
                }
                Intervention::ForcePattern { .. }
                | Intervention::ForbidKeys { .. }
                | Intervention::FreezePatterns { .. } => {
                    unreachable!("patterns are shown head by head")
                }
            }
        }
        if let Some(to) = self.captured.get_mut(&hook) {
            read(self.dims, self.used, hook, rows, value, to.view_mut());
        }
    }

    fn wants_pattern(&self, layer: usize, head: usize) -> Wanted {
        let hook = Hook::Pattern(layer);
        let given = |i: &Intervention| match i {
            Intervention::ForcePattern { head: forced, .. } => *forced == head,
            Intervention::ForbidKeys { .. } | Intervention::FreezePatterns { .. } => false,
            _ => true,
        };
        let cut = |i: &Intervention| matches!(i, Intervention::ForbidKeys { head: cut, .. } if *cut == head);
        if self.at(hook).any(given) {
            Wanted::Given
        } else if self.at(hook).any(cut) {
            Wanted::Changed
        } else if self.at(hook).any(|i| matches!(i, Intervention::FreezePatterns { .. })) {
            Wanted::Frozen
        } else if self.captured.contains_key(&hook) {
            Wanted::Shown
        } else {
            Wanted::Nothing
        }
    }

    fn frozen(&self, layer: usize) -> (&[f32], &[f32]) {
        (&self.clean[layer].exponentials, &self.clean[layer].shares)
    }

    fn stops_at_patterns(&self, layer: usize) -> bool {
        let comes_before_reading = |hook: &Hook| match *hook {
            Hook::Embed => true,
            Hook::Q(l) | Hook::K(l) | Hook::V(l) | Hook::Pattern(l) => l <= layer,
            Hook::Z(l) | Hook::AttnOut(l) | Hook::MlpOut(l) | Hook::ResidPost(l) => l < layer,
        };
        self.captures_only && self.captured.keys().all(comes_before_reading)
    }

    fn see_pattern(&mut self, layer: usize, head: usize, value: &mut [f32], rows: usize) {
        let hook = Hook::Pattern(layer);
        for intervention in self.at(hook) {
            let new = match intervention {
                Intervention::ForbidKeys { head: cut, keys, .. } if *cut == head => {
                    forbid(&keys[self.example], self.used, rows, value);
                    continue;
                }
                Intervention::Replace { value: new, .. } => {
                    new.index_axis(Axis(0), self.example).index_axis_move(Axis(0), head)
                }
                Intervention::ForcePattern { head: forced, pattern, .. } if *forced == head => {
                    pattern.index_axis(Axis(0), self.example).into_dyn()
                }
                _ => continue,
            };
            write(self.dims, self.used, hook, rows, new, value);
        }
        if let Some(to) = self.captured.get_mut(&hook) {
            read(
                self.dims,
                self.used,
                hook,
                rows,
                value,
                to.view_mut().index_axis_move(Axis(0), head),
            );
        }
    }
}
