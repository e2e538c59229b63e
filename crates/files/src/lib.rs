//! Files that are either whole or not there.
//!
//! Everything this project writes and later reads goes through here: [`write_atomic`] for a file,
//! [`write_folder_atomic`] for a folder of files, [`AppendFile`] for a log, [`make_folders`],
//! [`rename`], [`remove_file`] and [`remove_folder`] around them. [`Lease`] keeps two processes
//! from working in one folder. The first two write to a temporary sibling, fsync, rename once and
//! fsync the parent, so a kill or a power cut at any instant leaves the old state or the new one,
//! never a mixture.
//!
//! A test can observe or refuse each operation on the disk ([`Change`]) by installing a [`Watch`]:
//! tests ask what is left after a power cut between any two operations, and what happens when the
//! disk fails at any of them.
//!
//! ```
//! let folder = std::env::temp_dir().join(format!("induction-files-doc-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! induction_files::write_atomic(&folder.join("a.json"), b"{}")?;
//! assert_eq!(std::fs::read(folder.join("a.json"))?, b"{}");
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Features
//!
//! Off by default, since it takes minutes to build.
//!
//! - `parquet`: `parquet_of_json_lines`, JSON lines as a Parquet file, and `json_lines_of_parquet`.
//!
//! Runnable: `cargo run -p induction-files --example whole_or_not`.

mod change;
#[cfg(feature = "parquet")]
mod columns;
mod lease;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

pub use change::{AppendFile, Change, Watch, Watching, watch};
#[cfg(feature = "parquet")]
pub use columns::{json_lines_of_parquet, parquet_of_json_lines};
pub use lease::{Holder, Lease, LeaseError, set_beat};

/// Names of temporary siblings begin with this; whoever lists a folder skips them.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Writes `bytes` to `path`, replacing what was there. The parent folder must exist.
///
/// # Errors
/// The system's; `path` is then as it was before.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_sibling(path)?;
    let result = write_synced(&temporary, bytes).and_then(|()| change::rename(&temporary, path));
    if result.is_err() {
        // The error that matters is the first one; a leftover temporary file is harmless.
        let _ = change::remove(&temporary);
    }
    result?;
    sync_parent(path)
}

/// Makes the folder `path` with these files in it; it must not exist yet, its parent must.
///
/// # Errors
/// The system's; `path` then does not exist.
pub fn write_folder_atomic(path: &Path, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    let temporary = temporary_sibling(path)?;
    let write = || {
        change::make_folder(&temporary)?;
        for (name, bytes) in files {
            write_synced(&temporary.join(name), bytes)?;
        }
        change::sync_folder(&temporary)?;
        // rename(2) would silently replace an empty folder; refuse any.
        if path.exists() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} exists already", path.display()),
            ));
        }
        change::rename(&temporary, path)
    };
    let result = write();
    if result.is_err() {
        let _ = change::remove_all(&temporary);
    }
    result?;
    sync_parent(path)
}

/// Makes the folder `path` and those above it that are missing, durably.
///
/// # Errors
/// The system's.
pub fn make_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = change::parent(path);
    if path.parent().is_some() {
        make_folders(&parent)?;
    }
    match change::make_folder(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.and_then(|()| change::sync_folder(&parent)),
    }
}

/// Gives a file or folder another name in the same folder, durably.
///
/// # Errors
/// The system's.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    change::rename(from, to)?;
    sync_parent(to)
}

/// Removes a file. A power cut may bring it back.
///
/// # Errors
/// The system's.
pub fn remove_file(path: &Path) -> io::Result<()> {
    change::remove(path)
}

/// Removes a folder with all that is in it: first its name, so that a kill in the middle leaves no
/// half of it.
///
/// # Errors
/// The system's.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    let hidden = temporary_sibling(path)?;
    rename(path, &hidden)?;
    change::remove_all(&hidden)
}

/// Removes the temporary files and folders that killed processes left in `folder`. Only for who
/// knows that nobody is writing there now.
///
/// # Errors
/// The system's.
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                change::remove_all(&path)?;
            } else {
                change::remove(&path)?;
            }
        }
    }
    Ok(())
}

/// A name beside `path` that no other process uses, and none used before: process ids come again
/// (in a container, often the same one at each start), and a killed process may have left its file
/// behind, so the time is part of the name.
///
/// # Errors
/// If `path` has no file name.
pub fn temporary_sibling(path: &Path) -> io::Result<PathBuf> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display()))
    })?;
    let mut temporary = OsString::from(TEMPORARY_PREFIX);
    temporary.push(name);
    temporary.push(format!(
        "-{}-{}-{now:x}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    Ok(path.with_file_name(temporary))
}

/// Makes a rename inside `path`'s folder durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    change::sync_folder(&change::parent(path))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = change::create(path)?;
    change::append(&mut file, path, bytes)?;
    change::sync(&file, path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_name_is_never_used_twice() {
        let path = Path::new("folder/a");
        let names: std::collections::BTreeSet<_> =
            (0..1000).map(|_| temporary_sibling(path).unwrap()).collect();
        assert_eq!(names.len(), 1000);
        // What another start of a process with this id would have left.
        let stem = format!("{TEMPORARY_PREFIX}a-{}-0", std::process::id());
        assert!(names.iter().all(|name| name.parent() == path.parent() && !name.ends_with(&stem)));
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        write_folder_atomic(&path, &[("x", b"1".to_vec()), ("y", b"2".to_vec())]).unwrap();
        assert_eq!(names(&path), ["x", "y"]);
        // A second one of that name is refused, and the first stays.
        assert_eq!(
            write_folder_atomic(&path, &[("z", vec![])]).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(names(&path), ["x", "y"]);
        // A file that cannot be written takes the whole folder with it.
        assert!(
            write_folder_atomic(&folder.path().join("t"), &[("x", vec![]), ("no/such", vec![])])
                .is_err()
        );
        assert_eq!(names(folder.path()), ["s"]);
    }
}
