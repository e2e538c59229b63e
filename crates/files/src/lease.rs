//! One process a folder, also where hosts share it over a network.

use std::{
    fmt, fs,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{change, write_atomic};

/// How often a holder gives a sign of life, in milliseconds.
static BEAT_MS: AtomicU64 = AtomicU64::new(10_000);

/// Beats for which a lease of another host must stand still before it is taken over.
const SILENT_BEATS: u32 = 3;

/// Beats that a holder may miss. Fewer than [`SILENT_BEATS`]: it stops before another one may
/// begin.
const MISSED_BEATS: u32 = 2;

/// Lets all leases of this process beat so often, for tests: they are to wait for milliseconds
/// where users wait for seconds.
pub fn set_beat(beat: Duration) {
    BEAT_MS.store(beat.as_millis() as u64, Ordering::Relaxed);
}

fn beat() -> Duration {
    Duration::from_millis(BEAT_MS.load(Ordering::Relaxed))
}

/// Who holds a folder: the content of its `.lease`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host's name, for people.
    pub host: String,
    /// What tells this start of the host's kernel from any other; empty where the system has none.
    #[serde(default)]
    pub boot: String,
    /// The process.
    pub pid: u32,
    /// The Slurm job that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// No other lease has this one.
    pub nonce: String,
    /// Signs of life so far.
    pub beat: u64,
}

impl Holder {
    fn this_process() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let line = |path: &str| {
            fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default()
        };
        let host = line("/proc/sys/kernel/hostname");
        let pid = std::process::id();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let nonce = format!("{host}-{pid}-{}-{now:x}", COUNT.fetch_add(1, Ordering::Relaxed));
        let job = std::env::var("SLURM_JOB_ID").ok();
        Self { host, boot: line("/proc/sys/kernel/random/boot_id"), pid, job, nonce, beat: 0 }
    }

    /// Whether both are on one running kernel, whose locks then say all.
    fn shares_kernel(&self, other: &Self) -> bool {
        if self.boot.is_empty() { self.host == other.host } else { self.boot == other.boot }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.is_empty() { "this host" } else { &self.host };
        write!(f, "process {} on {host}", self.pid)?;
        self.job.as_ref().map_or(Ok(()), |job| write!(f, ", Slurm job {job}"))
    }
}

/// Why a folder cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process works there.
    #[error(
        "{folder}: another process{} is working there; wait for it or stop it",
        holder.as_ref().map_or_else(String::new, |holder| format!(" ({holder})"))
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who holds it, where that can be read.
        holder: Option<Box<Holder>>,
    },
    /// It was held, and another process took it over, or the lease can no longer be kept up.
    #[error(
        "{folder}: another process took it over, or its .lease can no longer be kept up; nothing may be written there"
    )]
    Lost {
        /// The folder.
        folder: PathBuf,
    },
    /// The system refused a file operation.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A folder that no other process works in while this lives.
///
/// Two things keep others off. A lock on `.lock`, which the kernel lets go when the process ends,
/// however it ends: between processes of one host it is all that counts. And `.lease`, whose `beat`
/// the holder raises every ten seconds, since a lock may not reach over a network file system: who
/// finds a lease of another host watches it for three beats of its own time, and takes over only if
/// it stands still. Clocks of two hosts are never compared.
#[derive(Debug)]
pub struct Lease {
    folder: PathBuf,
    shared: Arc<Shared>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Let go last.
    _lock: File,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    lost: AtomicBool,
    holder: Mutex<Holder>,
    /// When the lease was last known to be this process's. Apart from the above: who asks must not
    /// wait for a disk.
    seen: Mutex<Instant>,
}

impl Lease {
    /// Takes the folder, which must exist. `note` is told if that will take a while.
    ///
    /// # Errors
    /// [`LeaseError::Held`] within a second by a process of this host, within three beats by one of
    /// another; the system's.
    pub fn take(folder: &Path, note: &mut dyn FnMut(&str)) -> Result<Self, LeaseError> {
        Self::take_as(folder, Holder::this_process(), note)
    }

    fn take_as(
        folder: &Path,
        mut holder: Holder,
        note: &mut dyn FnMut(&str),
    ) -> Result<Self, LeaseError> {
        let (path, lock_path) = (folder.join(".lease"), folder.join(".lock"));
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| LeaseError::Io { path, source }
        };
        let held = |bytes: Option<&[u8]>| LeaseError::Held {
            folder: folder.to_path_buf(),
            holder: bytes.and_then(parse).map(Box::new),
        };
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        let locked = match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                return Err(held(read(&path).ok().flatten().as_deref()));
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => false,
            Err(TryLockError::Error(source)) => {
                return Err(LeaseError::Io { path: lock_path, source });
            }
        };
        let there = read(&path).map_err(io(&path))?;
        let ended = |bytes: &Vec<u8>| {
            locked && parse(bytes).is_some_and(|other| other.shares_kernel(&holder))
        };
        let foreign = there.filter(|bytes| !ended(bytes));
        if let Some(first) = &foreign {
            let who = parse(first)
                .map_or_else(|| "an unreadable .lease".to_string(), |other| other.to_string());
            let seconds = (beat() * SILENT_BEATS).as_secs();
            note(&format!(
                "{}: held by {who}; waiting {seconds} s for a sign of life",
                folder.display()
            ));
            let begun = Instant::now();
            while begun.elapsed() < beat() * SILENT_BEATS {
                std::thread::sleep(beat() / 4);
                match read(&path).map_err(io(&path))? {
                    None => break,
                    Some(now) if now != *first => return Err(held(Some(&now))),
                    Some(_) => {}
                }
            }
        }
        holder.beat = 1;
        write(&path, &holder).map_err(io(&path))?;
        if foreign.is_some() || !locked {
            // Another taker may have come to the same end at the same time: the last to write has
            // it.
            std::thread::sleep(beat() / 4);
            let now = read(&path).map_err(io(&path))?;
            if now.as_deref().and_then(parse).is_none_or(|now| now.nonce != holder.nonce) {
                return Err(held(now.as_deref()));
            }
        }
        let (holder, seen) = (Mutex::new(holder), Mutex::new(Instant::now()));
        let shared = Arc::new(Shared { path, lost: AtomicBool::new(false), holder, seen });
        let (stop, stopped) = channel();
        let beating = shared.clone();
        let work = move || {
            while stopped.recv_timeout(beat()) == Err(RecvTimeoutError::Timeout) && !beating.lost()
            {
                beating.beat();
            }
        };
        let thread =
            std::thread::Builder::new().name("lease".into()).spawn(work).map_err(io(folder))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            shared,
            stop: Some(stop),
            thread: Some(thread),
            _lock: lock,
        })
    }

    /// Whether another process has the folder now, or may have it: nothing more is to be written
    /// there.
    pub fn lost(&self) -> bool {
        // The thread may not have run of late: a process that was stopped and goes on looks before
        // it writes.
        let stale = !self.shared.lost() && guard(&self.shared.seen).elapsed() > beat() * 3 / 2;
        if stale {
            self.shared.beat();
        }
        self.shared.lost()
    }

    /// [`lost`](Self::lost) as an error.
    ///
    /// # Errors
    /// [`LeaseError::Lost`].
    pub fn check(&self) -> Result<(), LeaseError> {
        if self.lost() { Err(LeaseError::Lost { folder: self.folder.clone() }) } else { Ok(()) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // A lease that stays behind costs the next host a wait, and nothing else.
        if !self.shared.lost() && self.shared.is_ours().unwrap_or(false) {
            let _ = change::remove(&self.shared.path);
        }
    }
}

impl Shared {
    fn lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    fn is_ours(&self) -> io::Result<bool> {
        let nonce = guard(&self.holder).nonce.clone();
        Ok(read(&self.path)?.as_deref().and_then(parse).is_some_and(|there| there.nonce == nonce))
    }

    /// One sign of life, unless the lease is another's by now.
    fn beat(&self) {
        let kept = match self.is_ours() {
            Ok(true) => {
                let mut holder = guard(&self.holder);
                holder.beat += 1;
                write(&self.path, &holder)
            }
            Ok(false) => {
                self.lost.store(true, Ordering::Release);
                return;
            }
            Err(error) => Err(error),
        };
        match kept {
            Ok(()) => *guard(&self.seen) = Instant::now(),
            // Others see no sign of life either, and will take over.
            Err(_) if guard(&self.seen).elapsed() > beat() * MISSED_BEATS - beat() / 2 => {
                self.lost.store(true, Ordering::Release);
            }
            Err(_) => {}
        }
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(bytes: &[u8]) -> Option<Holder> {
    serde_json::from_slice(bytes).ok()
}

/// The lease's bytes, if it is there.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let found = fs::read(path).or_else(|error| match error.kind() {
        // Replaced on the server while it was read.
        io::ErrorKind::StaleNetworkFileHandle => fs::read(path),
        _ => Err(error),
    });
    match found {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, holder: &Holder) -> io::Result<()> {
    write_atomic(path, &serde_json::to_vec(holder).map_err(io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Once;

    use super::*;

    const BEAT: Duration = Duration::from_millis(100);

    fn folder() -> tempfile::TempDir {
        static SHORT: Once = Once::new();
        SHORT.call_once(|| set_beat(BEAT));
        tempfile::tempdir().unwrap()
    }

    fn take(folder: &Path) -> Result<Lease, LeaseError> {
        Lease::take(folder, &mut |_| {})
    }

    /// What a process of another host leaves.
    fn elsewhere() -> Holder {
        let job = Some("12".to_string());
        Holder { host: "n7".into(), boot: "another kernel".into(), job, ..Holder::this_process() }
    }

    fn there(folder: &Path) -> Option<Holder> {
        read(&folder.join(".lease")).unwrap().as_deref().and_then(parse)
    }

    #[test]
    fn on_one_host_the_lock_says_all() {
        let folder = folder();
        let first = take(folder.path()).unwrap();
        let begun = Instant::now();
        let Err(LeaseError::Held { holder: Some(holder), .. }) = take(folder.path()) else {
            panic!("taken twice")
        };
        assert_eq!(holder.pid, std::process::id());
        std::thread::sleep(4 * BEAT);
        assert!(there(folder.path()).unwrap().beat > 2 && !first.lost());
        drop(first);
        assert_eq!(there(folder.path()), None);
        // What a killed process of this host left holds nobody up.
        write(&folder.path().join(".lease"), &Holder::this_process()).unwrap();
        let begun = begun.elapsed() - 4 * BEAT;
        let again = Instant::now();
        take(folder.path()).unwrap();
        assert!(begun < Duration::from_secs(1) && again.elapsed() < 2 * BEAT);
    }

    #[test]
    fn a_lease_of_another_host_is_respected_while_it_beats() {
        let folder = folder();
        let path = folder.path().join(".lease");
        let mut other = elsewhere();
        write(&path, &other).unwrap();
        let beating = std::thread::scope(|scope| {
            let taker = scope.spawn(|| take(folder.path()));
            std::thread::sleep(BEAT);
            other.beat += 1;
            write(&path, &other).unwrap();
            taker.join().unwrap()
        });
        let Err(LeaseError::Held { holder: Some(holder), .. }) = beating else {
            panic!("taken from a live host")
        };
        assert_eq!(holder.to_string(), format!("process {} on n7, Slurm job 12", other.pid));
        // Now it stands still.
        let (begun, mut notes) = (Instant::now(), Vec::new());
        let lease = Lease::take(folder.path(), &mut |note| notes.push(note.to_string())).unwrap();
        assert!(begun.elapsed() >= 3 * BEAT && notes[0].contains("n7"), "{notes:?}");
        assert_eq!(there(folder.path()).unwrap().pid, std::process::id());
        drop(lease);
        // One that cannot be read is watched, too.
        std::fs::write(&path, b"\0\0\0").unwrap();
        let begun = Instant::now();
        take(folder.path()).unwrap();
        assert!(begun.elapsed() >= 3 * BEAT);
    }

    #[test]
    fn a_holder_notices_that_another_host_took_over() {
        let folder = folder();
        let lease = take(folder.path()).unwrap();
        lease.check().unwrap();
        let other = elsewhere();
        write(&folder.path().join(".lease"), &other).unwrap();
        std::thread::sleep(2 * BEAT);
        assert!(matches!(lease.check(), Err(LeaseError::Lost { .. })));
        drop(lease);
        assert_eq!(there(folder.path()), Some(other), "another's lease is left alone");
    }

    #[test]
    fn of_two_takers_the_last_to_write_has_it() {
        let folder = folder();
        let path = folder.path().join(".lease");
        write(&path, &elsewhere()).unwrap();
        let other = elsewhere();
        let result = std::thread::scope(|scope| {
            let taker = scope.spawn(|| take(folder.path()));
            while there(folder.path()).is_some_and(|holder| holder.host == "n7") {
                std::thread::sleep(BEAT / 50);
            }
            write(&path, &other).unwrap();
            taker.join().unwrap()
        });
        assert!(matches!(result, Err(LeaseError::Held { .. })), "{result:?}");
        assert_eq!(there(folder.path()), Some(other));
    }

    #[test]
    fn a_holder_that_can_no_longer_beat_stops_before_another_begins() {
        let folder = folder();
        let lease = take(folder.path()).unwrap();
        let path = folder.path().join(".lease");
        // A folder in the file's place: it can be neither read nor replaced.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let begun = Instant::now();
        while !lease.lost() {
            assert!(begun.elapsed() < SILENT_BEATS * BEAT, "it would still write");
            std::thread::sleep(BEAT / 10);
        }
        assert!(begun.elapsed() > BEAT / 2);
    }

    #[test]
    fn a_disk_that_refuses_names_the_file() {
        let folder = folder();
        std::fs::create_dir(folder.path().join(".lease")).unwrap();
        let Err(LeaseError::Io { path, .. }) = take(folder.path()) else {
            panic!("a folder was taken for a lease")
        };
        assert_eq!(path, folder.path().join(".lease"));
    }
}
