//! Power cuts and failing disks anywhere in a whole run: training, measuring, removing heads,
//! exploring. In process; the other tests of this crate run the real binary.

#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use common::{TINY, assert_same_run};
use induction::{
    device::Device,
    error::Error,
    executor::{Part, Task, run},
    progress::Console,
    records::RunSpec,
};
use induction_random::stream;
use induction_torture::{ANSWERS, Faults, Recorder, cases};
use rand::Rng;

/// The task of a short run in `root`.
fn task(root: &Path) -> Task {
    let text = TINY
        .replace("tokens = 9600", "tokens = 2400")
        .replace("n_ctx = 24", "n_ctx = 24\nsmeared_keys = true");
    Task {
        spec: RunSpec::parse(Path::new("tiny.toml"), &text).unwrap(),
        run: root.join("run"),
        data: root.join("data"),
    }
}

fn work(task: &Task) -> Result<(), Error> {
    // One thread: what is recorded is then in the order of what is done.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| run(task, Part::All, Device::default(), &Console::quiet()))
}

/// What a run is for: the tables and maps that were measured. Each list of what a table was made
/// from names snapshots by their hashes, which the length of the log is in, and so how fast the
/// machine was: those are left out.
fn tables(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn collect(folder: &Path, name: &str, into: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let file = entry.file_name().into_string().unwrap();
            let name = format!("{name}/{file}");
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), &name, into);
            } else if !file.starts_with(".tmp-") {
                let bytes = fs::read(entry.path()).unwrap();
                let bytes = if file.ends_with(".json") { without_hashes(&bytes) } else { bytes };
                into.insert(name, bytes);
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(&root.join("run/measurements"), "", &mut found);
    found
}

fn without_hashes(json: &[u8]) -> Vec<u8> {
    fn clean(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text)
                if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                *text = "a hash".into();
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(clean),
            serde_json::Value::Object(map) => map.values_mut().for_each(clean),
            _ => {}
        }
    }
    let mut value = serde_json::from_slice(json).unwrap();
    clean(&mut value);
    value.to_string().into_bytes()
}

fn assert_same(a: &Path, b: &Path) {
    assert_same_run(&a.join("run"), &b.join("run"));
    let (a, b) = (tables(a), tables(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(b[name] == *bytes, "{name} differs");
    }
}

#[test]
fn a_whole_run_ends_the_same_after_a_power_cut() {
    let whole = induction_torture::scratch();
    let recorder = Arc::new(Recorder::new(whole.path()));
    let watching = induction_files::watch(recorder.clone());
    work(&task(whole.path())).unwrap();
    drop(watching);
    let journal = recorder.journal();
    assert!(
        tables(whole.path()).len() > 20 && journal.points() > 400,
        "{} points",
        journal.points()
    );
    cases("power cuts during a whole run", 50, |seed| {
        let point = stream(seed, "point", 1).random_range(0..journal.points());
        let folder = induction_torture::scratch();
        let disk = folder.path().join("disk");
        journal.cut(point, seed, &disk).unwrap();
        work(&task(&disk)).unwrap_or_else(|error| panic!("cut at {point}: {error}"));
        assert_same(&disk, whole.path());
    });
}

#[test]
fn a_whole_run_ends_the_same_after_a_disk_refused() {
    let whole = induction_torture::scratch();
    let counted = Arc::new(Faults::none(whole.path()));
    let watching = induction_files::watch(counted.clone());
    work(&task(whole.path())).unwrap();
    drop(watching);
    let changes = counted.seen();
    cases("disk errors during a whole run", 50, |seed| {
        let mut random = stream(seed, "fault", 1);
        let at = random.random_range(0..changes);
        let (name, error) = ANSWERS[random.random_range(0..ANSWERS.len())];
        let folder = induction_torture::scratch();
        let watching = induction_files::watch(Arc::new(Faults::new(
            folder.path(),
            at,
            random.random(),
            error,
        )));
        let result = work(&task(folder.path()));
        drop(watching);
        if let Err(error) = result {
            assert!(error.to_string().contains("run"), "{name} at {at}: {error}");
        } else {
            assert_same(folder.path(), whole.path());
        }
        work(&task(folder.path())).unwrap();
        assert_same(folder.path(), whole.path());
    });
}
