//! The single changes that all writing is made of, each through one function, so that a test can
//! hear of them, refuse one, and know what a power cut between two of them leaves.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// One change to what is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A folder is made.
    MakeFolder(&'a Path),
    /// A file is made, empty.
    Create(&'a Path),
    /// Bytes are added at a file's end.
    Append(&'a Path, &'a [u8]),
    /// A file is cut to that many bytes.
    Cut(&'a Path, u64),
    /// A file's content is made durable.
    Sync(&'a Path),
    /// A folder's entries are made durable: what was created, renamed or removed in it.
    SyncFolder(&'a Path),
    /// A file or folder gets another name in the same folder.
    Rename(&'a Path, &'a Path),
    /// A file is removed.
    Remove(&'a Path),
    /// An empty folder is removed.
    RemoveFolder(&'a Path),
}

impl<'a> Change<'a> {
    /// What is changed; of a renaming, what it was called before.
    pub fn path(&self) -> &'a Path {
        match *self {
            Self::MakeFolder(path)
            | Self::Create(path)
            | Self::Append(path, _)
            | Self::Cut(path, _)
            | Self::Sync(path)
            | Self::SyncFolder(path)
            | Self::Rename(path, _)
            | Self::Remove(path)
            | Self::RemoveFolder(path) => path,
        }
    }
}

/// Hears of every change; for tests of what a failing disk or a power cut does.
pub trait Watch: Send + Sync {
    /// Before a change. An error is what the disk answers: the change is then not made, an
    /// [`Change::Append`] by half.
    ///
    /// # Errors
    /// As the test pleases.
    fn before(&self, change: &Change) -> io::Result<()> {
        let _ = change;
        Ok(())
    }
    /// After a change was made.
    fn after(&self, change: &Change) {
        let _ = change;
    }
}

static WATCHED: AtomicBool = AtomicBool::new(false);
static WATCHER: RwLock<Option<Arc<dyn Watch>>> = RwLock::new(None);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Ends the watching when it is dropped.
pub struct Watching {
    _only: MutexGuard<'static, ()>,
}

/// Lets `watcher` hear of all changes in this process until the result is dropped; waits for an
/// earlier one's end.
pub fn watch(watcher: Arc<dyn Watch>) -> Watching {
    // A test that failed while it watched has left nothing that matters.
    let only = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    *WATCHER.write().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
    WATCHED.store(true, Ordering::Release);
    Watching { _only: only }
}

impl Drop for Watching {
    fn drop(&mut self) {
        WATCHED.store(false, Ordering::Release);
        *WATCHER.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn watcher() -> Option<Arc<dyn Watch>> {
    if !WATCHED.load(Ordering::Acquire) {
        return None;
    }
    WATCHER.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Makes one change, unless the watcher refuses it.
fn make<T>(change: Change, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(watcher) = watcher() else { return work() };
    watcher.before(&change)?;
    let result = work()?;
    watcher.after(&change);
    Ok(result)
}

pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    make(Change::MakeFolder(path), || fs::create_dir(path))
}

pub(crate) fn create(path: &Path) -> io::Result<File> {
    make(Change::Create(path), || File::create_new(path))
}

pub(crate) fn append(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(watcher) = watcher() else { return file.write_all(bytes) };
    if let Err(refused) = watcher.before(&Change::Append(path, bytes)) {
        // A disk that is full took something first.
        let half = &bytes[..bytes.len() / 2];
        file.write_all(half)?;
        watcher.after(&Change::Append(path, half));
        return Err(refused);
    }
    file.write_all(bytes)?;
    watcher.after(&Change::Append(path, bytes));
    Ok(())
}

pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    make(Change::Sync(path), || file.sync_all())
}

pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    make(Change::SyncFolder(path), || File::open(path)?.sync_all())
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    make(Change::Rename(from, to), || fs::rename(from, to))
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    make(Change::Remove(path), || fs::remove_file(path))
}

/// Removes a folder and all that is in it; links are removed, not followed.
pub(crate) fn remove_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_all(&entry.path())?;
        } else {
            remove(&entry.path())?;
        }
    }
    make(Change::RemoveFolder(folder), || fs::remove_dir(folder))
}

/// A file that grows at its end, for logs.
#[derive(Debug)]
pub struct AppendFile {
    path: PathBuf,
    file: File,
}

impl AppendFile {
    /// Opens `path`, or makes it, durably.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = match OpenOptions::new().append(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = make(Change::Create(path), || {
                    OpenOptions::new().create_new(true).append(true).open(path)
                })?;
                sync_folder(&parent(path))?;
                file
            }
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Cuts it to `length` bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        make(Change::Cut(&self.path, length), || self.file.set_len(length))
    }

    /// Makes its content durable.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        sync(&self.file, &self.path)
    }
}

impl Write for AppendFile {
    /// Adds all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        append(&mut self.file, &self.path, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The folder that `path` is in.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
