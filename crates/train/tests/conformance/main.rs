//! One suite for every engine and every device that this build and this machine have: passes and
//! gradients against PyTorch in float64, ten steps of each optimizer against PyTorch's, and the first steps
//! of a run on one device beside another's.
//!
//! With a backend built in, this is its conformance suite (`cargo xtask libtorch --test`, `cargo
//! xtask cuda --test`, `fixtures/gpu.sh`); the largest differences that it prints are in
//! docs/BENCHMARKS.md. It is one binary, since linking a GPU's backend takes long and its size is
//! carried to the machine that has the GPU.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../../engine/tests/oracle/mod.rs"]
mod oracle;

mod adamw;
mod optimizers;
mod passes;
mod steps;
