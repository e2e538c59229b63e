//! The report's files, its claims and its page, from the folders that they are built from. One test
//! program: building each of these by itself takes longer than it runs.

use std::fs;
use std::path::Path;

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod claims;
mod damage;
mod page;
mod scans;
mod study;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("it was written")
}
