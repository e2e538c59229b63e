use std::{fmt::Display, fs, path::Path};

use crate::{bounded, cases, memory_limit};

/// Damaged files of each format that a test reads.
pub const TIMES: u64 = 10_000;

/// How many damaged files were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Refused.
    pub refused: u64,
    /// Of so many.
    pub of: u64,
}

impl Tally {
    /// Refuses a share of refusals outside `least..=most`, less what chance may do to it: a reader
    /// that refuses all, or nothing, is not tested by what it does.
    ///
    /// # Panics
    /// If the share is outside.
    pub fn between(self, least: f64, most: f64) {
        let Self { refused, of } = self;
        let (share, chance) = (refused as f64 / of as f64, 2.0 / (of as f64).sqrt());
        assert!(
            (least - chance..=most + chance).contains(&share),
            "{refused} of {of} were refused"
        );
    }
}

/// Puts `damaged(seed)` in the place of the file at `path`, [`TIMES`] times, and has it read in
/// bounded time and memory ([`bounded`], [`memory_limit`]): an error must name the file.
///
/// # Panics
/// If a case fails, as [`cases`] does.
pub fn attack<T, E: Display>(
    name: &str,
    path: &Path,
    mut damaged: impl FnMut(u64) -> Vec<u8>,
    mut read: impl FnMut(&Path) -> Result<T, E>,
) -> Tally {
    let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).expect("a file");
    let mut refused = 0;
    let of = cases(name, TIMES, |seed| {
        let bytes = damaged(seed);
        write(path, &bytes);
        if let Err(error) = bounded(memory_limit(bytes.len()), || read(path)) {
            let message = error.to_string();
            assert!(message.contains(&file), "{message}");
            refused += 1;
        }
    });
    Tally { refused, of }
}

/// Writes a file anew: some file systems flush one that is overwritten, which takes longer than all
/// the rest.
///
/// # Panics
/// If the system refuses.
pub fn write(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_cases_that_ran() {
        Tally { refused: 5_000, of: 10_000 }.between(0.4, 0.6);
        Tally { refused: 0, of: 4 }.between(0.6, 0.9);
        assert!(
            std::panic::catch_unwind(|| Tally { refused: 5_000, of: 10_000 }.between(0.6, 0.9))
                .is_err()
        );
    }

    #[test]
    fn an_error_that_names_no_file_fails() {
        let path = std::env::temp_dir().join(format!("induction-torture-{}", std::process::id()));
        let refuse = |message: &'static str| {
            attack("refusals", &path, |_| vec![1], |_| Err::<(), _>(message))
        };
        assert!(std::panic::catch_unwind(|| refuse("no good")).is_err());
        let name = path.display().to_string();
        assert_eq!(attack("refusals", &path, |_| vec![1], |_| Err::<(), _>(&name)).refused, TIMES);
        let _ = fs::remove_file(&path);
    }
}
