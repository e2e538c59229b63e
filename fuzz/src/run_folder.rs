//! A measured run whose tables are changed one at a time.

use std::{
    fs,
    path::{Path, PathBuf},
};

#[path = "../../crates/report/tests/common/mod.rs"]
mod common;

/// What the report reads of a run, and a scan; an input's first byte says which of them the rest
/// is.
pub const FILES: [&str; common::SMALL.len()] = common::SMALL;

/// A small sound run in `folder`, and a scan beside it; the folder of the run.
pub fn sound(folder: &Path) -> PathBuf {
    common::small(folder)
}

/// The content of each file, in the order of [`FILES`].
pub fn contents(run: &Path) -> Vec<Vec<u8>> {
    FILES.iter().map(|name| fs::read(run.join(name)).expect("it was written")).collect()
}
