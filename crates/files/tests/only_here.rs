//! Nothing writes past this crate, where no test would hear of it.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What changes a disk, in Rust's standard library.
const WRITES: [&str; 14] = [
    "fs::write(",
    "fs::copy(",
    "fs::rename(",
    "fs::remove_file(",
    "fs::remove_dir(",
    "fs::remove_dir_all(",
    "fs::create_dir(",
    "fs::create_dir_all(",
    "fs::hard_link(",
    "File::create(",
    "File::create_new(",
    "OpenOptions",
    "File::options(",
    "fs::symlink(",
];

/// Those that must: this crate; the sign of life that a file's time is.
const ALLOWED: [&str; 2] = ["crates/files/src/", "crates/induction/src/status.rs"];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
        {
            into.push(path);
        }
    }
}

#[test]
fn every_change_of_a_disk_goes_through_this_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        // Tests' own crate writes what a disk may hold after a power cut.
        if !folder.ends_with("torture") && folder.join("src").is_dir() {
            sources(&folder.join("src"), &mut files);
        }
    }
    assert!(files.len() > 150, "{}", files.len());
    let mut found = Vec::new();
    for path in files {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        if ALLOWED.iter().any(|allowed| name.starts_with(allowed)) || name.ends_with("_tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        // What follows is tests.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (k, line) in
            code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            if WRITES.iter().any(|write| line.contains(write)) {
                found.push(format!("{name}:{}: {}", k + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "use induction_files instead:\n{}", found.join("\n"));
}
