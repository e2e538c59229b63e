//! The program from outside, as its users call it. One test program: linking each of these by itself
//! takes longer than some of them run.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod forecast;
mod hub;
mod scan;
mod terminal;
mod texts;
mod whole;
