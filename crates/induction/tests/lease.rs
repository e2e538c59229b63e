//! A run that another host takes over: whoever had it stops before it writes again, and the bits
//! stay the same. In process, with beats of milliseconds.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path, time::Duration};

use common::{TINY, assert_same_run};
use induction::{
    Error,
    device::Device,
    executor::{Part, Task, run},
    progress::Console,
    records::RunSpec,
    study::Error as StudyError,
    train::Error as TrainError,
};

const BEAT: Duration = Duration::from_millis(40);

fn task(root: &Path) -> Task {
    let text = TINY.replace("tokens = 9600", "tokens = 96000");
    let spec = RunSpec::parse(Path::new("tiny.toml"), &text).unwrap();
    Task { spec, run: root.join("run"), data: root.join("data") }
}

fn work(task: &Task, part: Part) -> Result<(), Error> {
    run(task, part, Device::default(), &Console::quiet())
}

/// Lets another host take the run over once `sign` is there; what the part ends with.
fn lose(task: &Task, part: Part, sign: &Path) -> Result<(), Error> {
    let lease = task.run.join(".lease");
    let other = r#"{"host": "n7", "boot": "another", "pid": 1, "nonce": "theirs", "beat": 3}"#;
    std::thread::scope(|scope| {
        let working = scope.spawn(|| work(task, part));
        while !(sign.exists() && lease.exists()) {
            assert!(!working.is_finished(), "it is over too soon");
            std::thread::sleep(BEAT / 20);
        }
        // As its owner may just be writing a beat, until it is seen.
        while !working.is_finished() {
            fs::write(&lease, other).unwrap();
            std::thread::sleep(BEAT / 4);
        }
        assert_eq!(fs::read_to_string(&lease).unwrap(), other, "another's lease is left alone");
        working.join().unwrap()
    })
}

#[test]
fn whoever_lost_a_run_writes_no_more() {
    induction_files::set_beat(BEAT);
    let (whole, lost) = (induction_torture::scratch(), induction_torture::scratch());
    work(&task(whole.path()), Part::All).unwrap();
    let task = task(lost.path());
    let tables = task.run.join("measurements");
    for (part, sign, last) in [
        (Part::Train, "snapshots/step-00000008", "snapshots/step-00002000"),
        (
            Part::Measure,
            "measurements/losses/step-00000001.safetensors",
            "measurements/summary.json",
        ),
        (
            Part::Ablate,
            "measurements/ablations/step-00000001.safetensors",
            "measurements/ablations.json",
        ),
    ] {
        let result = lose(&task, part, &task.run.join(sign));
        let Err(error @ Error::Study(StudyError::Train(TrainError::Lost(_)))) = result else {
            panic!("{part:?}: {result:?}")
        };
        assert_eq!(
            format!("{:?}", error.exit_code()),
            format!("{:?}", std::process::ExitCode::from(75))
        );
        assert!(!task.run.join(last).exists(), "{part:?} went on");
        // That host dies: its lease stands still, and is taken over.
        work(&task, part).unwrap();
        assert!(task.run.join(last).exists());
    }
    assert_same_run(&whole.path().join("run"), &task.run);
    for table in ["icl.jsonl", "heads.jsonl", "ablations.jsonl", "knockouts.jsonl", "text.jsonl"] {
        let there = fs::read(whole.path().join("run/measurements").join(table)).unwrap();
        assert!(fs::read(tables.join(table)).unwrap() == there, "{table} differs");
    }
}
