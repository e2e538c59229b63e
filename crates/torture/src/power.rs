use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use induction_files::{Change, Watch};
use induction_random::stream;
use rand::{Rng, RngCore};

/// What disks write whole.
const SECTOR: usize = 512;

/// A change with its paths, relative to the recorded folder.
#[derive(Clone, Debug)]
enum Recorded {
    MakeFolder(PathBuf),
    Create(PathBuf),
    Append(PathBuf, Vec<u8>),
    Cut(PathBuf, u64),
    Sync(PathBuf),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Acknowledged(u64),
}

/// Keeps every change under one folder, which must be empty when the recording begins.
pub struct Recorder {
    root: PathBuf,
    events: Mutex<Vec<Recorded>>,
}

impl Recorder {
    /// Of what happens under `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), events: Mutex::default() }
    }

    /// Something was said to be safe now; larger numbers are later ones.
    pub fn acknowledge(&self, number: u64) {
        self.push(Recorded::Acknowledged(number));
    }

    /// Everything so far, for [`Journal::cut`].
    pub fn journal(&self) -> Journal {
        Journal { events: self.events.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    fn push(&self, event: Recorded) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Watch for Recorder {
    fn after(&self, change: &Change) {
        let inside = |path: &Path| path.strip_prefix(&self.root).map(Path::to_path_buf);
        let event = match *change {
            Change::MakeFolder(path) => inside(path).map(Recorded::MakeFolder),
            Change::Create(path) => inside(path).map(Recorded::Create),
            Change::Append(path, bytes) => {
                inside(path).map(|path| Recorded::Append(path, bytes.to_vec()))
            }
            Change::Cut(path, length) => inside(path).map(|path| Recorded::Cut(path, length)),
            Change::Sync(path) => inside(path).map(Recorded::Sync),
            Change::SyncFolder(path) => inside(path).map(Recorded::SyncFolder),
            Change::Rename(from, to) => {
                inside(from).and_then(|from| Ok(Recorded::Rename(from, inside(to)?)))
            }
            Change::Remove(path) | Change::RemoveFolder(path) => inside(path).map(Recorded::Remove),
        };
        if let Ok(event) = event {
            self.push(event);
        }
    }
}

/// A recorded series of changes.
pub struct Journal {
    events: Vec<Recorded>,
}

impl Journal {
    /// How many points a power cut can come at.
    pub fn points(&self) -> usize {
        self.events.len() + 1
    }

    /// Makes in `target` what a disk may hold if the power is cut after the first `point` changes,
    /// and gives the largest number that had been acknowledged by then.
    ///
    /// What was synced is there. Of the rest, by `seed`, anything may be: no entry of a folder,
    /// all, the first few, or any of them; of a file's bytes the old ones, the new ones, the first
    /// part, or any sectors of them with zeros between.
    ///
    /// # Errors
    /// The system's, writing `target`.
    ///
    /// # Panics
    /// If the recording did not begin with an empty folder.
    pub fn cut(&self, point: usize, seed: u64, target: &Path) -> io::Result<Option<u64>> {
        let mut disk = Disk { nodes: vec![Node::folder()] };
        let mut acknowledged = None;
        for event in &self.events[..point] {
            match event {
                Recorded::Acknowledged(number) => acknowledged = acknowledged.max(Some(*number)),
                event => disk.apply(event),
            }
        }
        let mut random = stream(seed, "power", point as u64);
        disk.write(0, target, &mut random)?;
        Ok(acknowledged)
    }
}

/// Files and folders by number, as they are and as the disk has them for certain.
struct Disk {
    nodes: Vec<Node>,
}

enum Node {
    File { durable: Vec<u8>, now: Vec<u8> },
    Folder { durable: BTreeMap<String, usize>, now: BTreeMap<String, usize>, pending: Vec<Entry> },
}

/// A change of a folder's entries that is not durable yet.
enum Entry {
    Put(String, usize),
    Move(String, String, usize),
    Take(String),
}

impl Entry {
    fn apply(&self, entries: &mut BTreeMap<String, usize>) {
        match self {
            Self::Put(name, node) => {
                entries.insert(name.clone(), *node);
            }
            Self::Move(from, to, node) => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
            Self::Take(name) => {
                entries.remove(name);
            }
        }
    }
}

impl Node {
    fn folder() -> Self {
        Self::Folder { durable: BTreeMap::new(), now: BTreeMap::new(), pending: Vec::new() }
    }
}

impl Disk {
    fn apply(&mut self, event: &Recorded) {
        match event {
            Recorded::MakeFolder(path) => self.put(path, Node::folder()),
            Recorded::Create(path) => {
                self.put(path, Node::File { durable: Vec::new(), now: Vec::new() });
            }
            Recorded::Append(path, bytes) => self.file(path).1.extend_from_slice(bytes),
            Recorded::Cut(path, length) => self.file(path).1.truncate(*length as usize),
            Recorded::Sync(path) => {
                let (durable, now) = self.file(path);
                durable.clone_from(now);
            }
            Recorded::SyncFolder(path) => {
                let at = self.find(path);
                let Node::Folder { durable, now, pending } = &mut self.nodes[at] else {
                    panic!("{} is no folder", path.display())
                };
                durable.clone_from(now);
                pending.clear();
            }
            Recorded::Rename(from, to) => {
                assert_eq!(from.parent(), to.parent(), "renames stay in their folder");
                let node = self.find(from);
                self.change(from, Entry::Move(name(from), name(to), node));
            }
            Recorded::Remove(path) => self.change(path, Entry::Take(name(path))),
            Recorded::Acknowledged(_) => {}
        }
    }

    fn find(&self, path: &Path) -> usize {
        path.iter().fold(0, |at, part| match &self.nodes[at] {
            Node::Folder { now, .. } => *now.get(&*part.to_string_lossy()).unwrap_or_else(|| {
                panic!("{} was not made while this was recorded", path.display())
            }),
            Node::File { .. } => panic!("{} leads through a file", path.display()),
        })
    }

    fn file(&mut self, path: &Path) -> (&mut Vec<u8>, &mut Vec<u8>) {
        let at = self.find(path);
        match &mut self.nodes[at] {
            Node::File { durable, now } => (durable, now),
            Node::Folder { .. } => panic!("{} is a folder", path.display()),
        }
    }

    fn put(&mut self, path: &Path, node: Node) {
        self.nodes.push(node);
        self.change(path, Entry::Put(name(path), self.nodes.len() - 1));
    }

    fn change(&mut self, path: &Path, entry: Entry) {
        let at = self.find(path.parent().expect("the root itself is not changed"));
        let Node::Folder { now, pending, .. } = &mut self.nodes[at] else {
            panic!("{} is in no folder", path.display())
        };
        entry.apply(now);
        pending.push(entry);
    }

    fn write(&self, at: usize, target: &Path, random: &mut impl RngCore) -> io::Result<()> {
        match &self.nodes[at] {
            Node::File { durable, now } => fs::write(target, content(durable, now, random)),
            Node::Folder { durable, pending, .. } => {
                let mut entries = durable.clone();
                let (kind, first) =
                    (random.random_range(0..4u32), random.random_range(0..=pending.len()));
                for (k, entry) in pending.iter().enumerate() {
                    let arrived = match kind {
                        0 => false,
                        1 => true,
                        2 => k < first,
                        _ => random.random(),
                    };
                    if arrived {
                        entry.apply(&mut entries);
                    }
                }
                fs::create_dir_all(target)?;
                entries
                    .iter()
                    .try_for_each(|(name, node)| self.write(*node, &target.join(name), random))
            }
        }
    }
}

/// What a file may hold.
fn content(durable: &[u8], now: &[u8], random: &mut impl RngCore) -> Vec<u8> {
    if durable == now {
        return now.to_vec();
    }
    match random.random_range(0..5u32) {
        0 => durable.to_vec(),
        1 => now.to_vec(),
        // The first part; whatever was synced and not cut off since is in it.
        2 => now[..random.random_range(durable.len().min(now.len())..=now.len())].to_vec(),
        // The length arrived, the data did not.
        kind => {
            let mut bytes = now.to_vec();
            for (k, sector) in bytes.chunks_mut(SECTOR).enumerate() {
                if kind == 3 || random.random() {
                    for (j, byte) in sector.iter_mut().enumerate() {
                        *byte = durable.get(k * SECTOR + j).copied().unwrap_or(0);
                    }
                }
            }
            bytes
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc};

    use induction_files::{AppendFile, make_folders, watch, write_atomic};

    use super::*;

    /// Records `work` in a fresh folder.
    fn recorded(work: impl FnOnce(&Path)) -> Journal {
        let folder = crate::scratch();
        let recorder = Arc::new(Recorder::new(folder.path()));
        let watching = watch(recorder.clone());
        work(folder.path());
        drop(watching);
        recorder.journal()
    }

    /// Contents of `name` over many power cuts at `point`; `None` where it is not there.
    fn outcomes(
        journal: &Journal,
        point: usize,
        name: &str,
    ) -> std::collections::BTreeSet<Option<Vec<u8>>> {
        (0..200)
            .map(|seed| {
                let folder = crate::scratch();
                let target = folder.path().join("disk");
                journal.cut(point, seed, &target).expect("the copy is written");
                fs::read(target.join(name)).ok()
            })
            .collect()
    }

    #[test]
    fn what_is_not_synced_may_be_anything_and_what_is_synced_stays() {
        let journal = recorded(|folder| {
            let path = folder.join("log");
            let mut log = AppendFile::open(&path).expect("it opens");
            log.write_all(b"safe").expect("it takes bytes");
            log.sync().expect("it syncs");
            log.write_all(&[b'x'; 2000]).expect("it takes bytes");
        });
        let end = outcomes(&journal, journal.points() - 1, "log");
        assert!(
            end.len() > 20
                && end.iter().all(|bytes| bytes.as_ref().is_some_and(|b| b.starts_with(b"safe")))
        );
        // A file whose folder is not synced yet may not be there at all.
        assert!(outcomes(&journal, 1, "log").contains(&None));
    }

    #[test]
    fn a_file_is_the_old_one_or_the_new_one() {
        let journal = recorded(|folder| {
            make_folders(&folder.join("a/b")).expect("folders");
            write_atomic(&folder.join("a/b/c"), b"old").expect("a file");
            write_atomic(&folder.join("a/b/c"), b"new").expect("a file");
        });
        let mut seen = std::collections::BTreeSet::new();
        for point in 0..journal.points() {
            seen.extend(outcomes(&journal, point, "a/b/c"));
        }
        let expected = [None, Some(b"new".to_vec()), Some(b"old".to_vec())];
        assert_eq!(seen, expected.into_iter().collect());
        assert_eq!(outcomes(&journal, journal.points() - 1, "a/b/c").len(), 1);
    }

    #[test]
    fn a_plain_write_and_rename_is_caught() {
        // Without the syncs, the new name may hold half a file: the simulation must be able to show
        // that.
        let journal = Journal {
            events: vec![
                Recorded::Create("t".into()),
                Recorded::Append("t".into(), vec![7; 3000]),
                Recorded::Rename("t".into(), "a".into()),
            ],
        };
        let seen = outcomes(&journal, 3, "a");
        assert!(seen.iter().flatten().any(|bytes| !bytes.is_empty() && *bytes != vec![7; 3000]));
    }
}
