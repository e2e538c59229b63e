//! Every test of the crate from outside, as one program: linking each by itself would take longer than
//! all of them run.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod attribution;
mod ceiling;
mod censored;
mod circuits;
mod common;
mod copying;
mod copying_ceiling;
mod curves;
mod detectors;
mod direct_path;
mod heads;
mod llc;
mod losses;
mod phase;
mod references;
mod repeats;
mod roles;
mod same_token;
mod sample;
mod seeds;
mod stages;
mod statistics;
mod step;
