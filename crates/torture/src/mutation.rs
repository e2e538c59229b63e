use std::ops::Range;

use induction_random::stream;
use rand::Rng;

/// A file as accidents and attackers leave it: one to four changes of the kinds that break readers,
/// which are flipped bits, other bytes, cuts, repeats, runs of one byte, huge numbers, other
/// digits, deep nesting, swapped ranges.
pub fn mutated(original: &[u8], seed: u64) -> Vec<u8> {
    let mut random = stream(seed, "mutation", original.len() as u64);
    let mut bytes = original.to_vec();
    for _ in 0..random.random_range(1..=4u32) {
        let at = random.random_range(0..=bytes.len());
        let range = at..(at + random.random_range(0..64usize)).min(bytes.len());
        mutate(&mut bytes, range, random.random_range(0..11u32), &mut random);
    }
    bytes
}

/// A file that is as well formed as before, with other digits: up to four of them.
pub fn digits_changed(original: &[u8], seed: u64) -> Vec<u8> {
    let mut random = stream(seed, "digits", original.len() as u64);
    let mut bytes = original.to_vec();
    for _ in 0..random.random_range(1..=4u32) {
        change_a_digit(&mut bytes, &mut random);
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
        8 | 9 => change_a_digit(bytes, random),
        _ => {
            // Swapping two ranges keeps lengths and most of the structure.
            let other = random.random_range(0..=bytes.len() - range.len());
            for k in 0..range.len() {
                bytes.swap(at + k, other + k);
            }
        }
    }
}

fn change_a_digit(bytes: &mut [u8], random: &mut impl Rng) {
    let digits: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
    if let Some(&at) = digits.get(random.random_range(0..digits.len().max(1))) {
        bytes[at] = b'0' + random.random_range(0..10u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_mutation() {
        let original = br#"{"steps": [1, 20, 300], "name": "a"}"#;
        let changed = (0..1000).filter(|&seed| mutated(original, seed) != original).count();
        assert!(changed > 800, "{changed}");
        assert!((0..100).all(|seed| mutated(original, seed) == mutated(original, seed)));
        let same_shape =
            |bytes: Vec<u8>| bytes.iter().zip(original).all(|(a, b)| a == b || a.is_ascii_digit());
        assert!((0..100).all(|seed| same_shape(digits_changed(original, seed))));
    }
}
