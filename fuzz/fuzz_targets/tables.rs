//! A run folder as the report reads it, with one of its files changed; a scan.
#![no_main]

use std::{fs, path::PathBuf, sync::OnceLock};

use induction::report::{load_run, parse_scan};
use induction_fuzz::run_folder::{FILES, contents, sound};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    static SOUND: OnceLock<(PathBuf, Vec<Vec<u8>>)> = OnceLock::new();
    let Some((which, bytes)) = bytes.split_first() else { return };
    let (run, files) = SOUND.get_or_init(|| {
        let run = sound(induction_fuzz::folder());
        let files = contents(&run);
        (run, files)
    });
    let which = usize::from(*which) % FILES.len();
    if FILES[which] == "scan.json" {
        if let Ok(text) = str::from_utf8(bytes) {
            induction_fuzz::read(parse_scan(text, "scan.json".as_ref(), "x".into()), "scan.json");
        }
        return;
    }
    let path = run.join(FILES[which]);
    fs::write(&path, bytes).expect("a folder of our own");
    induction_fuzz::read(load_run(run), &run.display().to_string());
    fs::write(&path, &files[which]).expect("a folder of our own");
});
