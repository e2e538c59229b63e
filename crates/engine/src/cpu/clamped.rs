//! What a model's clamps make of one sequence. Few models have any, so nothing here uses vectors.

use induction_kernels::{
    Left, Out, PANEL, Real,
    attention::{self, Forbidden, Shape},
    matmul, panels,
};
use induction_model::{Clamps, ForbiddenKeys, Given};

use super::{
    Model,
    forward::{Sizes, Tap, Wanted},
    workspace::{LOGIT_STRIDE, Layer, Scratch},
};

/// What clamps make of the sequence in a workspace.
pub(super) struct Clamped<T> {
    /// The keys that they take from each query; empty if they take none.
    pub(super) forbidden: ForbiddenKeys,
    /// The position that each query attends to, of each kind of [`Given`].
    sources: [Vec<u32>; 2],
    /// The sequence, where a head copies.
    tokens: Vec<u32>,
    /// The attention of all heads that copy, together, and the gradient of each of these patterns:
    /// `[used, used]` in panels; empty where no head copies.
    copied: Vec<T>,
    d_copied: Vec<T>,
}

impl<T: Real> Clamped<T> {
    pub(super) fn free() -> Self {
        Self {
            forbidden: ForbiddenKeys::default(),
            sources: [Vec::new(), Vec::new()],
            tokens: Vec::new(),
            copied: Vec::new(),
            d_copied: Vec::new(),
        }
    }

    /// Takes in another sequence.
    pub(super) fn follow(&mut self, clamps: &Clamps, tokens: &[u32], rows: usize) {
        self.forbidden.set(clamps, tokens);
        self.tokens.clear();
        for given in [Given::Previous, Given::Match] {
            if clamps.give(given) {
                given.sources(tokens, &mut self.sources[given as usize]);
            }
        }
        if clamps.any_copies() {
            self.tokens.extend_from_slice(tokens);
            self.copied.clear();
            self.copied.resize(panels::len(rows, tokens.len()), T::default());
        }
    }

    pub(super) fn forbidden(&self) -> Forbidden<'_> {
        let (spans, keys) = self.forbidden.parts();
        Forbidden { spans, keys }
    }

    /// What a head that is made to attend to single positions reads of its values.
    pub(super) fn read(&self, given: Given, v: &[T], z: &mut [T], rows: usize) {
        let sources = &self.sources[given as usize];
        for (z, v) in z.chunks_exact_mut(rows * PANEL).zip(v.chunks_exact(rows * PANEL)) {
            for (z, &source) in z.chunks_exact_mut(PANEL).zip(sources) {
                z.copy_from_slice(&v[source as usize * PANEL..][..PANEL]);
            }
        }
    }

    /// The gradient of its values.
    pub(super) fn read_backward(&self, given: Given, dz: &[T], dv: &mut [T], rows: usize) {
        let sources = &self.sources[given as usize];
        for (dv, dz) in dv.chunks_exact_mut(rows * PANEL).zip(dz.chunks_exact(rows * PANEL)) {
            dv[..sources.len() * PANEL].fill(T::default());
            for (dz, &source) in dz.chunks_exact(PANEL).zip(sources) {
                let dv = &mut dv[source as usize * PANEL..][..PANEL];
                dv.iter_mut().zip(dz).for_each(|(dv, &dz)| *dv += dz);
            }
        }
    }

    /// The pattern of such a head.
    pub(super) fn pattern(&self, given: Given, rows: usize, out: &mut Vec<T>) {
        let sources = &self.sources[given as usize];
        out.clear();
        out.resize(panels::len(rows, sources.len()), T::default());
        for (query, &source) in sources.iter().enumerate() {
            out[panels::at(rows, query, source as usize)] = T::from_f64(1.0);
        }
    }

    /// Adds the pattern of a head that copies.
    fn add(&mut self, pattern: &[T]) {
        self.copied.iter_mut().zip(pattern).for_each(|(sum, &x)| *sum += x);
    }

    /// Adds to a block of logits, of the positions from `from` on, what heads copy.
    pub(super) fn add_copies(
        &self,
        rows: usize,
        from: usize,
        to: usize,
        d_vocab: usize,
        logits: &mut [T],
    ) {
        if self.tokens.is_empty() {
            return;
        }
        let gain = T::from_f64((d_vocab as f64).ln());
        for query in from..to {
            for (key, &token) in self.tokens[..=query].iter().enumerate() {
                let logit = &mut logits[panels::at(LOGIT_STRIDE, query - from, token as usize)];
                *logit += gain * self.copied[panels::at(rows, query, key)];
            }
        }
    }

    /// Takes the gradient of the copying heads' patterns from the gradient of such a block.
    pub(super) fn copies_backward(
        &mut self,
        rows: usize,
        from: usize,
        to: usize,
        d_vocab: usize,
        d_logits: &[T],
    ) {
        if self.tokens.is_empty() {
            return;
        }
        self.d_copied.resize(self.copied.len(), T::default());
        let gain = T::from_f64((d_vocab as f64).ln());
        for query in from..to {
            for (key, &token) in self.tokens[..=query].iter().enumerate() {
                let d_logit = d_logits[panels::at(LOGIT_STRIDE, query - from, token as usize)];
                self.d_copied[panels::at(rows, query, key)] = gain * d_logit;
            }
        }
    }
}

impl<T: Real> Model<T> {
    /// Once a head has attended: what its clamp makes of what it read. `wanted` is what was asked of
    /// its pattern, which is in scratch where somebody was shown it or a clamp gives it.
    #[expect(clippy::too_many_arguments, reason = "a layer's buffers, borrowed apart")]
    #[inline(never)]
    pub(super) fn silence(
        &self,
        (l, h): (usize, usize),
        sizes: Sizes,
        layer: &mut Layer<T>,
        scratch: &mut Scratch<T>,
        clamped: &mut Clamped<T>,
        wanted: Wanted,
        tap: &dyn Tap<T>,
    ) {
        let (Sizes { used, rows }, dims, arch) = (sizes, &self.layout.dims, self.arch);
        let head = dims.head(h, rows);
        if self.clamp.copies(l, h) && !tap.zeroes(l, h) {
            let kept = panels::len(rows, used);
            let unshared = match wanted {
                Wanted::Frozen => Some(tap.frozen(l)),
                Wanted::Nothing if tap.keeps_patterns(l) => {
                    Some((&layer.exponentials[..], &layer.shares[..]))
                }
                _ => None,
            };
            match (self.clamp.given(l, h), unshared) {
                // Somebody saw it, or gave it.
                _ if !matches!(wanted, Wanted::Nothing | Wanted::Frozen) => {}
                (Some(given), _) => clamped.pattern(given, rows, &mut scratch.pattern),
                (None, Some((exponentials, shares))) => {
                    scratch.pattern.clear();
                    scratch.pattern.extend_from_slice(&exponentials[h * kept..][..kept]);
                    for panel in scratch.pattern.chunks_exact_mut(rows * PANEL) {
                        let shares = &shares[h * used..][..used];
                        for (row, &share) in panel.chunks_exact_mut(PANEL).zip(shares) {
                            row.iter_mut().for_each(|x| *x = *x * share);
                        }
                    }
                }
                (None, None) => {
                    scratch.pattern.resize(kept, T::NAN);
                    let (shape, q) = (self.shape(sizes), &layer.qkv[head.clone()]);
                    let (forbidden, k_t) = (clamped.forbidden(), &scratch.k_t);
                    attention::pattern(arch, shape, forbidden, q, k_t, &mut scratch.pattern);
                }
            }
            clamped.add(&scratch.pattern);
        }
        layer.z[head].fill(T::default());
    }

    /// The gradients of a clamped head's queries, keys and values; false if it is free, and nothing
    /// was done.
    #[expect(clippy::too_many_arguments, reason = "a head's tensors")]
    #[inline(never)]
    pub(super) fn clamped_backward(
        &self,
        (l, h): (usize, usize),
        sizes: Sizes,
        shape: Shape,
        [q, k, dz]: [&[T]; 3],
        [dq, dk, dv]: [&mut [T]; 3],
        scratch: &mut Scratch<T>,
        clamped: &Clamped<T>,
    ) -> bool {
        let (Sizes { used, rows }, arch, d_head) = (sizes, self.arch, shape.d_head);
        let (given, silent) = (self.clamp.given(l, h), self.clamp.silent(l, h));
        if given.is_none() && !silent {
            return false;
        }
        dq.fill(T::default());
        dk.fill(T::default());
        dv.fill(T::default());
        match given {
            Some(given) if !silent => clamped.read_backward(given, dz, dv, rows),
            None if self.clamp.copies(l, h) => {
                panels::transpose(k, rows, used, d_head, &mut scratch.k_t, d_head, 0);
                let pattern = &mut scratch.pattern;
                pattern.resize(panels::len(rows, used), T::NAN);
                attention::pattern(arch, shape, clamped.forbidden(), q, &scratch.k_t, pattern);
                // The pattern becomes the gradient of the scores.
                let scale = T::from_f64(shape.scale);
                for query in 0..used {
                    let at = |key| panels::at(rows, query, key);
                    let along = (0..=query).fold(T::default(), |sum, key| {
                        sum + pattern[at(key)] * clamped.d_copied[at(key)]
                    });
                    for key in 0..=query {
                        let gain = clamped.d_copied[at(key)] - along;
                        pattern[at(key)] = scale * pattern[at(key)] * gain;
                    }
                }
                let left = Left::Plain { data: pattern, rows, first: 0 };
                matmul(arch, used, used, d_head, left, k, rows, dq, rows, Out::Set);
                let left = Left::Transposed { data: pattern, rows, first: 0 };
                matmul(arch, used, used, d_head, left, q, rows, dk, rows, Out::Set);
            }
            _ => {}
        }
        true
    }
}
