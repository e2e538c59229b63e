//! Files as accidents and attackers leave them.

use std::fs;
use std::ops::Range;
use std::path::Path;

use induction_random::stream;
use rand::Rng;

/// One to four changes of the kinds that break readers: flipped bits, other bytes, cuts, repeats, huge numbers, deep nesting.
pub(crate) fn mutated(original: &[u8], seed: u64) -> Vec<u8> {
    let mut random = stream(seed, "mutation", original.len() as u64);
    let mut bytes = original.to_vec();
    for _ in 0..random.random_range(1..=4u32) {
        let at = random.random_range(0..=bytes.len());
        let range = at..(at + random.random_range(0..64usize)).min(bytes.len());
        mutate(&mut bytes, range, random.random_range(0..9u32), &mut random);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, range: Range<usize>, kind: u32, random: &mut impl Rng) {
    let at = range.start;
    match kind {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8u32),
        1 if at < bytes.len() => bytes[at] = random.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(range)),
        4 => {
            let copy = bytes[range].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => bytes[range].fill(if random.random() { 0xff } else { 0 }),
        6 => drop(bytes.splice(at..at, *b"99999999999999999999")),
        7 => drop(bytes.splice(at..at, std::iter::repeat_n(b'[', 10_000))),
        _ => {
            // Swapping two ranges keeps lengths and most of the structure.
            let other = random.random_range(0..=bytes.len() - range.len());
            for k in 0..range.len() {
                bytes.swap(at + k, other + k);
            }
        }
    }
}

/// Writes a file anew: some file systems flush one that is overwritten, which takes longer than all the rest.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}
