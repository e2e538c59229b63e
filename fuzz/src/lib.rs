//! What the fuzz targets share: a folder for the file that a target reads, folders of several
//! files, what an error says.
#![allow(clippy::expect_used)]

pub mod run_folder;
pub mod snapshot_folder;

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// This process's folder; TMPDIR=/dev/shm keeps it in memory.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("induction-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a place for the target's file");
        folder
    })
}

/// Writes the file that a target reads.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, bytes).expect("the folder is this process's own");
    path
}

/// What was read; an error must name the file.
pub fn read<T, E: Display>(result: Result<T, E>, name: &str) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(name), "{message}");
            None
        }
    }
}
