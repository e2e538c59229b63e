//! Files that are either there and whole, or not there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Writes `parts` one after the other to `path`: to a temporary sibling, synced, then renamed over `path`.
///
/// # Errors
/// [`Error::Io`]; `path` is then as it was before.
pub(crate) fn write(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let temporary = sibling(path, "tmp");
    let written = write_and_rename(&temporary, path, parts);
    if written.is_err() {
        // The first failure is the one to report; what cannot be removed stays as a hidden file.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_and_rename(temporary: &Path, path: &Path, parts: &[&[u8]]) -> Result<()> {
    let mut file = File::create_new(temporary).map_err(Error::io("create", temporary))?;
    for part in parts {
        file.write_all(part).map_err(Error::io("write", temporary))?;
    }
    file.sync_all().map_err(Error::io("sync", temporary))?;
    fs::rename(temporary, path).map_err(Error::io("rename a finished file to", path))?;
    sync_folder(&parent(path))
}

/// Makes the names in `folder` survive a power loss.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    // Only Unix opens folders as files; elsewhere the rename itself is all there is.
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder))?;
    }
    Ok(())
}

/// The folder that holds `path`.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A hidden name beside `path` that no other process and no other call uses.
pub(crate) fn sibling(path: &Path, why: &str) -> PathBuf {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The clock tells a process from an earlier one that had the same id, died, and left its file.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let (process, call) = (std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    parent(path).join(format!(".{name}.{why}-{process}-{now:x}-{call}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a");
        write(&path, &[b"old and longer"]).expect("first");
        write(&path, &[b"n", b"ew"]).expect("second");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        // A folder that is not empty cannot be replaced by a file.
        let path = folder.path().join("a");
        fs::create_dir_all(path.join("b")).expect("folder");
        let error = write(&path, &[b"new"]).expect_err("rename must fail").to_string();
        assert!(error.contains("cannot rename a finished file to"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
    }
}
