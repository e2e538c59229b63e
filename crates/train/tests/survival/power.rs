//! Power cuts between any two changes: what was said to be safe is there, and training ends in the
//! same bits.

use std::sync::Arc;

use induction_random::stream;
use induction_torture::{Recorder, cases};
use rand::Rng;

use crate::{Listener, assert_whole, newest, train, train_in_pieces, undisturbed};

#[test]
fn what_was_saved_is_there_after_a_power_cut() {
    let whole = undisturbed();
    let folder = induction_torture::scratch();
    let recorder = Arc::new(Recorder::new(folder.path()));
    let watching = induction_files::watch(recorder.clone());
    train_in_pieces(&folder.path().join("run"), |step| recorder.acknowledge(step)).unwrap();
    drop(watching);
    let journal = recorder.journal();
    assert!(journal.points() > 200, "{} points", journal.points());

    cases("power cuts during training", 200, |seed| {
        let point = stream(seed, "point", 0).random_range(0..journal.points());
        let folder = induction_torture::scratch();
        let disk = folder.path().join("disk");
        let saved = journal.cut(point, seed, &disk).unwrap();
        let run = disk.join("run");
        assert!(
            newest(&run) >= saved,
            "cut at {point}: {saved:?} was saved, {:?} is there",
            newest(&run)
        );
        let mut listener = Listener::default();
        train(&run, &mut listener).unwrap();
        // Nothing half written ever gets a snapshot's name.
        assert!(
            !listener.notes.iter().any(|note| note.contains("damaged")),
            "cut at {point}: {:?}",
            listener.notes
        );
        assert_whole(&run, &whole.path().join("run"));
    });
}
