//! A snapshot with one of its files changed, and a manifest that vouches for it.
#![no_main]

use std::{fs, sync::OnceLock};

use induction::train::{Snapshot, snapshot_folder};
use induction_fuzz::snapshot_folder::{FILES, STEP, manifest, sound};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    static SOUND: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let Some((which, bytes)) = bytes.split_first() else { return };
    let which = usize::from(*which) % FILES.len();
    let mut files = SOUND.get_or_init(|| sound(induction_fuzz::folder())).clone();
    files[which] = bytes.to_vec();
    if which > 0 {
        files[0] = manifest(&files);
    }
    let folder = snapshot_folder(induction_fuzz::folder(), STEP);
    for (name, bytes) in FILES.iter().zip(&files) {
        fs::write(folder.join(name), bytes).expect("a folder of our own");
    }
    induction_fuzz::read(Snapshot::load(induction_fuzz::folder(), STEP), "step-00000003");
});
