//! Helpers for robustness tests: run a test over many seeds ([`cases`]), damage files ([`mutated`],
//! [`attack`]), simulate a power cut ([`Recorder`], [`Journal`]) or a failing disk ([`Faults`]),
//! bound time and memory ([`bounded`]).
//!
//! Only tests depend on this crate. A robustness test is a name, a number of cases and a function
//! of a seed ([`cases`]); `cargo test` runs that number, `cargo xtask torture --minutes N` goes on
//! with further seeds.

mod attack;
mod faults;
mod mutation;
mod power;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

pub use attack::{TIMES, Tally, attack, write};
pub use faults::{ANSWERS, Faults};
pub use mutation::{digits_changed, mutated};
pub use power::{Journal, Recorder};

/// Seconds that each test goes on for, instead of its number of cases; set by `cargo xtask
/// torture`.
const SECONDS: &str = "INDUCTION_TORTURE_SECONDS";
/// The first seed, 0 if it is not set.
const FIRST_SEED: &str = "INDUCTION_TORTURE_SEED";
/// Failures after which a test gives up.
const ENOUGH: usize = 10;

/// Runs `case` for `times` seeds from 0 on; a case fails by panicking. Prints
/// `torture | NAME | N passed | N failed | seeds A to B`; gives how many passed.
///
/// With `INDUCTION_TORTURE_SECONDS` the cases go on until so many seconds are over, from the seed
/// in `INDUCTION_TORTURE_SEED` on.
///
/// # Panics
/// If a case failed, with the seeds of those that did.
#[allow(clippy::print_stdout)] // the count is what the test is for
pub fn cases(name: &str, times: u64, mut case: impl FnMut(u64)) -> u64 {
    let first: u64 = variable(FIRST_SEED).unwrap_or(0);
    let end = variable(SECONDS).map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let more = |done: u64| end.map_or(done < times, |end| done == 0 || Instant::now() < end);
    let mut failed = Vec::new();
    let mut done = 0;
    while more(done) && failed.len() < ENOUGH {
        let seed = first + done;
        // A case leaves nothing behind that the next one reads.
        if catch_unwind(AssertUnwindSafe(|| case(seed))).is_err() {
            failed.push(seed);
        }
        done += 1;
    }
    let passed = done - failed.len() as u64;
    println!(
        "torture | {name} | {passed} passed | {} failed | seeds {first} to {}",
        failed.len(),
        (first + done).saturating_sub(1)
    );
    assert!(
        failed.is_empty(),
        "{name}: seeds {failed:?} failed; {FIRST_SEED}=SEED begins with one"
    );
    passed
}

/// A temporary folder, in memory where the system has a place for that: a real disk takes
/// milliseconds for each of the thousands of fsyncs that such tests ask for, and would answer the
/// same.
///
/// # Panics
/// If it cannot be made.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.or_else(|_| tempfile::tempdir()).expect("a temporary folder can be made")
}

/// Runs `read`, which is to take less than `limit` bytes of memory at once and two seconds.
///
/// # Panics
/// If it takes more.
pub fn bounded<T>(limit: u64, read: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let mut result = None;
    let memory = allocation_counter::measure(|| result = Some(read()));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    assert!(
        memory.bytes_max < limit,
        "it took {} bytes at once, the limit is {limit}",
        memory.bytes_max
    );
    result.expect("measure calls what it is given")
}

/// The bound on memory for a reader of a file of `bytes`: ten times the file and 64 MB.
pub fn memory_limit(bytes: usize) -> u64 {
    10 * bytes as u64 + 64_000_000
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, expected a whole number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_counted_and_named() {
        assert_eq!(cases("nothing", 5, |_| {}), 5);
        let failure =
            catch_unwind(|| cases("odd seeds", 6, |seed| assert!(seed % 2 == 0))).unwrap_err();
        let message = failure.downcast_ref::<String>().expect("a formatted message");
        assert!(message.contains("seeds [1, 3, 5] failed"), "{message}");
    }

    #[test]
    fn what_takes_too_much_fails() {
        assert_eq!(bounded(100, || 1), 1);
        assert!(catch_unwind(|| bounded(100, || vec![0u8; 1000].len())).is_err());
    }
}
