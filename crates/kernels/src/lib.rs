//! Vectorised arithmetic of a small transformer on a CPU.
//!
//! Everything stands on one memory layout, the panel ([`panels`]): a matrix is cut into strips of
//! [`PANEL`] columns, each strip stored row after row. A strip serves as the right factor of a
//! matrix product (a row is two AVX-512 registers), as its left factor, plain or transposed, without
//! copying, and as the data of one head of width 32. So the products here need no packing, except of
//! the weights, once a step.
//!
//! Products, norms and attention are written once over [`pulp`]'s registers and compiled for
//! AVX-512, AVX2, NEON and scalar code; the processor chooses at run time. Each sum has one order,
//! fixed by the code and not by the width of a register (an element of a product is one chain of
//! fused multiply-adds; a sum along a row has 32 lanes, then a tree), so every instruction set
//! gives the same bits. No `unsafe`: bounds are checked once a tile, outside the inner loops.
//!
//! Kernels of the model are generic over [`Real`]: `f64` is the same code, slower, for checking
//! gradients. The optimizer's are `f32` loops that the compiler vectorises. What is compiled for an
//! instruction set takes it ([`Arch`]) as an argument, so tests compare all that a processor has
//! ([`archs`]).
//!
//! ```
//! use induction_kernels::{Arch, Left, Out, matmul, panels};
//!
//! // [2, 3] times [3, 2]; a product writes a multiple of 8 rows, and the left factor must have as many to read.
//! let (mut left, mut right) = (vec![0.0f32; panels::len(8, 3)], vec![0.0; panels::len(3, 2)]);
//! panels::pack(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, &mut left, 8, 0);
//! panels::pack(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], 2, &mut right, 3, 0);
//! let mut product = vec![0.0; panels::len(8, 2)];
//! let left = Left::Plain { data: &left, rows: 8, first: 0 };
//! matmul(Arch::new(), 2, 3, 2, left, &right, 3, &mut product, 8, Out::Set);
//! let row = |i| &product[panels::at(8, i, 0)..][..2];
//! assert_eq!([row(0), row(1)], [[4.0, 5.0], [10.0, 11.0]]);
//! ```
//!
//! Runnable: `cargo run -p induction-kernels --example attention`.

#![allow(
    clippy::too_many_arguments,
    reason = "a kernel has as many tensors and sizes as its definition"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "rows and registers are counted: several slices share one index"
)]

pub mod activations;
pub mod attention;
mod matmul;
pub mod norms;
mod optimizer;
pub mod panels;
mod real;
pub mod rows;

pub use matmul::{Left, Out, matmul};
pub use optimizer::{AdamW, adamw, sum_of_squares};
pub use pulp::Arch;
pub use real::Real;

/// Columns of a panel.
pub const PANEL: usize = 32;

/// The instruction sets that this processor has, the best first.
pub fn archs() -> Vec<Arch> {
    let mut archs = vec![Arch::new()];
    #[cfg(target_arch = "x86_64")]
    if matches!(archs[0], Arch::V4(_)) {
        archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
    }
    if !matches!(archs[0], Arch::Scalar) {
        archs.push(Arch::Scalar);
    }
    archs
}

/// A public kernel from a function that is generic over the registers `S` and the number `W` of
/// them in a panel's row: arrays of `W` registers are what the compiler keeps out of memory.
macro_rules! kernel {
    ($(#[$doc:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $out:ty)? = $run:ident;) => {
        $(#[$doc])*
        ///
        /// # Panics
        /// If a slice is too short.
        pub fn $name<'a, T: $crate::Real>(arch: $crate::Arch, $($argument: $type),*) $(-> $out)? {
            struct Task<'a, T> { $($argument: $type,)* marker: std::marker::PhantomData<&'a T> }
            impl<'a, T: $crate::Real> pulp::WithSimd for Task<'a, T> {
                type Output = $crate::kernel!(@out $($out)?);
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, s: S) -> Self::Output {
                    let Self { $($argument,)* marker: _ } = self;
                    match $crate::PANEL / T::lanes::<S>() {
                        2 => $run::<T, S, 2>(s, $($argument),*),
                        4 => $run::<T, S, 4>(s, $($argument),*),
                        8 => $run::<T, S, 8>(s, $($argument),*),
                        16 => $run::<T, S, 16>(s, $($argument),*),
                        _ => $run::<T, S, 32>(s, $($argument),*),
                    }
                }
            }
            arch.dispatch(Task { $($argument,)* marker: std::marker::PhantomData })
        }
    };
    (@out) => { () };
    (@out $out:ty) => { $out };
}
pub(crate) use kernel;
