//! A disk that refuses: no state is said to be saved that is not, and what was saved before stays.

use std::sync::Arc;

use induction_torture::{ANSWERS, Faults, cases};

use crate::{Listener, assert_whole, newest, train, train_in_pieces, undisturbed};

#[test]
fn a_disk_that_refuses_any_change() {
    let whole = undisturbed();
    let counter = induction_torture::scratch();
    let counted = Arc::new(Faults::none(counter.path()));
    let watching = induction_files::watch(counted.clone());
    train_in_pieces(&counter.path().join("run"), |_| {}).unwrap();
    drop(watching);
    let changes = counted.seen();
    assert!(changes > 200, "{changes}");

    // Each change once, with the answers and their lasting in turn; further seeds go through the
    // other combinations.
    cases("disk errors during training", changes, |seed| {
        let (at, kind) = (seed % changes, seed + seed / changes);
        let (name, error) = ANSWERS[kind as usize % ANSWERS.len()];
        let lasting = (kind / ANSWERS.len() as u64).is_multiple_of(2);
        let folder = induction_torture::scratch();
        let run = folder.path().join("run");
        let watching =
            induction_files::watch(Arc::new(Faults::new(folder.path(), at, lasting, error)));
        let mut saved = None;
        let result = train_in_pieces(&run, |step| saved = Some(step));
        drop(watching);
        let what = format!("{name} at change {at}, {}", if lasting { "lasting" } else { "once" });
        match result {
            // What was refused was not needed.
            Ok(()) => assert_whole(&run, &whole.path().join("run")),
            Err(error) => {
                let (message, folder) = (error.to_string(), folder.path().display().to_string());
                assert!(message.contains(&folder), "{what}: {message}");
            }
        }
        assert!(
            newest(&run) >= saved,
            "{what}: {saved:?} was said to be saved, {:?} is there",
            newest(&run)
        );
        let mut listener = Listener::default();
        train(&run, &mut listener).unwrap();
        assert!(
            !listener.notes.iter().any(|note| note.contains("damaged")),
            "{what}: {:?}",
            listener.notes
        );
        assert_whole(&run, &whole.path().join("run"));
    });
}
