use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use induction_files::{Change, Watch};

/// What a disk may answer to a change: full, broken, not allowed, read-only.
pub const ANSWERS: [(&str, i32); 4] = [("ENOSPC", 28), ("EIO", 5), ("EACCES", 13), ("EROFS", 30)];

/// A folder whose disk refuses one change, or all from that one on.
pub struct Faults {
    root: PathBuf,
    at: u64,
    lasting: bool,
    error: i32,
    seen: AtomicU64,
}

impl Faults {
    /// Answers the change number `at` (from 0) under `root` with the system's error `error`, and
    /// each later one if it is `lasting`.
    pub fn new(root: &Path, at: u64, lasting: bool, error: i32) -> Self {
        Self { root: root.to_path_buf(), at, lasting, error, seen: AtomicU64::new(0) }
    }

    /// Refuses nothing, and counts.
    pub fn none(root: &Path) -> Self {
        Self::new(root, u64::MAX, false, 0)
    }

    /// Changes asked for so far.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Watch for Faults {
    fn before(&self, change: &Change) -> io::Result<()> {
        if !change.path().starts_with(&self.root) {
            return Ok(());
        }
        let k = self.seen.fetch_add(1, Ordering::SeqCst);
        if k == self.at || (self.lasting && k > self.at) {
            Err(io::Error::from_raw_os_error(self.error))
        } else {
            Ok(())
        }
    }
}
