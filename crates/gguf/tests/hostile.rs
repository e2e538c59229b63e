//! Mutated files: each is read or refused with an error that names it; none panics, hangs or takes
//! memory it does not fill.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{Writer, Written};
use induction_gguf::{Error, Gguf};
use induction_random::stream;
use induction_torture::{TIMES, Tally, bounded, cases, mutated, write};
use rand::Rng;

/// What a reader needs whatever the file: a buffered reader, messages.
const FIXED_BYTES: u64 = 64 << 10;

/// Lengths that a reader must not believe.
fn lie(random: &mut impl Rng) -> u64 {
    match random.random_range(0..6u32) {
        0 => u64::MAX,
        1 => 1 << random.random_range(0..64u32),
        2 => (1 << random.random_range(0..64u32)) - 1,
        3 => u64::MAX / random.random_range(1..64u64),
        4 => random.random_range(0..5000),
        _ => random.random(),
    }
}

/// Half of the time a field that lies, sometimes arrays in arrays; then damage.
fn damaged(original: &Written, seed: u64) -> Vec<u8> {
    let mut random = stream(seed, "structure", original.bytes.len() as u64);
    let mut bytes = original.bytes.clone();
    if random.random() {
        let fields =
            [&original.lengths, &original.offsets, &original.words][random.random_range(0..3usize)];
        if let Some(&at) = fields.get(random.random_range(0..fields.len().max(1))) {
            let width = if std::ptr::eq(fields, &original.words) { 4 } else { 8 };
            bytes[at..at + width].copy_from_slice(&lie(&mut random).to_le_bytes()[..width]);
        }
    }
    // Mostly the header: the data is any bytes.
    let end = if random.random_bool(0.9) { original.data } else { bytes.len() };
    if random.random_bool(0.1) {
        // An array in an array, many times: type 9, one element.
        let at = random.random_range(0..=end);
        drop(bytes.splice(at..at, [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(1000)));
    }
    [mutated(&bytes[..end], seed), bytes[end..].to_vec()].concat()
}

/// Opens a file and reads all of it, in bounded time and memory; whether it was accepted.
fn attacked(path: &Path, bytes: &[u8]) -> bool {
    write(path, bytes);
    bounded(13 * bytes.len() as u64 + FIXED_BYTES, || match Gguf::open(path) {
        Ok(file) => {
            for tensor in file.tensors() {
                match file.read(&tensor.name) {
                    Ok(values) => assert_eq!(values.len(), tensor.elements()),
                    Err(error) => assert!(matches!(error, Error::Undecoded { .. }), "{error}"),
                }
            }
            true
        }
        Err(error) => {
            assert!(error.to_string().contains("x.gguf"), "{error}");
            assert!(!matches!(error, Error::Io { .. }), "it went past the checks: {error}");
            false
        }
    })
}

fn attack(name: &str, original: &Written) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    assert!(attacked(&path, &original.bytes), "the original");
    let mut refused = 0;
    let of =
        cases(name, TIMES, |seed| refused += u64::from(!attacked(&path, &damaged(original, seed))));
    // Most are seen; some hit padding, data or a value, and are another valid file.
    Tally { refused, of }.between(0.75, 0.99);
}

#[test]
fn version_3() {
    attack("gguf, version 3", &Writer::small().written());
}

#[test]
fn version_2_with_another_alignment() {
    attack("gguf, version 2", &Writer { version: 2, alignment: 8, ..Writer::small() }.written());
}

#[test]
fn a_file_of_another_writer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle/gguf_writer.gguf");
    let bytes = fs::read(path).unwrap();
    let data = bytes.len() / 3;
    attack(
        "gguf of another writer",
        &Written { bytes, lengths: vec![8, 16, 24], data, ..Written::default() },
    );
}

#[test]
fn every_length_that_is_beyond_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let original = Writer::small().written();
    for &at in original.lengths.iter().chain(&original.offsets) {
        for lie in [u64::MAX, u64::MAX / 2, 1 << 61, 1 << 58, 1 << 32, 1 << 31, 1 << 20] {
            let mut bytes = original.bytes.clone();
            bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            assert!(!attacked(&path, &bytes), "{lie:#x} at {at} was believed");
        }
    }
}

#[test]
fn memory_is_bounded_where_a_file_is_all_structure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let header = |n_tensors: u64, n_entries: u64| {
        [&b"GGUF\x03\0\0\0"[..], &n_tensors.to_le_bytes(), &n_entries.to_le_bytes()].concat()
    };
    // A million empty strings, then a million empty arrays, in one entry; many of the smallest
    // entries and tensors.
    let million = 1_000_000u64;
    let array = |kind: u32, item: &[u8]| {
        let start = [
            &header(0, 1)[..],
            &[0; 8],
            &9u32.to_le_bytes(),
            &kind.to_le_bytes(),
            &million.to_le_bytes(),
        ];
        [&start.concat()[..], &item.repeat(million as usize)].concat()
    };
    assert!(attacked(&path, &array(8, &[0; 8])));
    assert!(attacked(&path, &array(9, &[0; 12])));
    let mut entries = header(0, 100_000);
    let mut tensors = header(100_000, 0);
    for k in 0..100_000u64 {
        let name = [&3u64.to_le_bytes()[..], &k.to_le_bytes()[..3]].concat();
        // Digits of base 128, so that they are UTF-8.
        let name: Vec<_> =
            name[..8].iter().copied().chain((0..3).map(|d| (k >> (7 * d) & 127) as u8)).collect();
        entries.extend([&name[..], &[0; 5]].concat());
        tensors.extend(
            [&name[..], &1u32.to_le_bytes(), &1u64.to_le_bytes(), &[0; 4], &(32 * k).to_le_bytes()]
                .concat(),
        );
    }
    tensors.resize(tensors.len().next_multiple_of(32) + 32 * 100_000, 0);
    assert!(attacked(&path, &entries));
    assert!(attacked(&path, &tensors));
}
