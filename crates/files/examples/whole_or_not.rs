//! A file is whole or not there, and a folder has one worker: `cargo run -p induction-files
//! --example whole_or_not`
//!
//! ```text
//! 1 MB written 100 times while it is read:
//!   fs::write     8500 of 8560 reads torn
//!   write_atomic     0 of 1741 reads torn
//!
//! written on a full disk: no storage space; the file holds "old"
//! left beside it: 0 files
//!
//! the folder is held: true; a second worker gets it: false
//! once it is let go: true
//! ```
//!
//! (How many reads are torn differs between runs.)
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use induction_files::{Change, Lease, Watch, watch, write_atomic};

/// Rewrites a file a hundred times while another thread reads it; of its reads, those that found no
/// whole file.
fn torn(path: &Path, write: impl Fn(&Path, &[u8]) -> io::Result<()>) -> io::Result<(usize, usize)> {
    const BYTES: usize = 1 << 20;
    write(path, &[0; BYTES])?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut torn) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let whole = fs::read(path)
                    .is_ok_and(|it| it.len() == BYTES && it.iter().all(|byte| *byte == it[0]));
                (reads, torn) = (reads + 1, torn + usize::from(!whole));
            }
            (torn, reads)
        });
        let written = (0..100).try_for_each(|version| write(path, &[version; BYTES]));
        done.store(true, Ordering::Relaxed);
        written.map(|()| reader.join().expect("it reads and returns"))
    })
}

/// A disk that is full when a temporary file takes the place of the old one.
struct FullDisk;
impl Watch for FullDisk {
    fn before(&self, change: &Change) -> io::Result<()> {
        if matches!(change, Change::Rename(..)) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("table.json");
    println!("1 MB written 100 times while it is read:");
    for (name, (torn, reads)) in [
        ("fs::write", torn(&path, |path, bytes| fs::write(path, bytes))?),
        ("write_atomic", torn(&path, write_atomic)?),
    ] {
        println!("  {name:12} {torn:>5} of {reads} reads torn");
    }

    write_atomic(&path, b"old")?;
    let watching = watch(Arc::new(FullDisk));
    let refused =
        write_atomic(&path, b"new").map_or_else(|error| error.to_string(), |()| "written".into());
    drop(watching);
    println!(
        "\nwritten on a full disk: {refused}; the file holds {:?}",
        fs::read_to_string(&path)?
    );
    println!("left beside it: {} files", fs::read_dir(folder.path())?.count() - 1);

    let lease = Lease::take(folder.path(), &mut |note| println!("{note}"))?;
    let second = Lease::take(folder.path(), &mut |_| {});
    println!(
        "\nthe folder is held: {}; a second worker gets it: {}",
        !lease.lost(),
        second.is_ok()
    );
    drop(lease);
    println!("once it is let go: {}", Lease::take(folder.path(), &mut |_| {}).is_ok());
    Ok(())
}
