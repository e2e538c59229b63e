//! What is read and what is refused, on files written here.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Tensor, Writer};
use induction_gguf::{Array, Error, Gguf, Kind, TensorInfo, Value};
use induction_torture::write;
use proptest::prelude::*;

fn saved(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn opened(writer: &Writer) -> (tempfile::TempDir, Gguf) {
    let (folder, path) = saved(&writer.bytes());
    let file = Gguf::open(&path).unwrap();
    (folder, file)
}

/// The message of a file that must be refused; it names the file.
fn refusal(bytes: &[u8]) -> String {
    let (_folder, path) = saved(bytes);
    let message = Gguf::open(&path).unwrap_err().to_string();
    assert!(message.contains("x.gguf"), "{message}");
    message
}

fn refused(bytes: &[u8], words: &[&str]) {
    let message = refusal(bytes);
    assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
}

fn with(metadata: &[(&str, Value)]) -> Writer {
    Writer::new(
        metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        vec![],
    )
}

fn f32s(name: &str, rows: &[usize], row: usize) -> Tensor {
    Tensor::new(name, Kind::F32, rows, row, |k| k as u8 & 0x3f)
}

#[test]
fn both_versions_and_empty_files() {
    for version in [2, 3] {
        let (_folder, file) = opened(&Writer { version, ..Writer::small() });
        assert_eq!(
            (file.version(), file.tensors().count()),
            (version, Writer::small().tensors.len())
        );
        assert!(format!("{file:?}").contains("x.gguf"));
    }
    let (_folder, file) = opened(&with(&[]));
    assert_eq!((file.metadata().count(), file.tensors().count()), (0, 0));
}

#[test]
fn the_layout_is_as_the_format_says() {
    let writer = Writer::new(vec![("k".to_owned(), Value::U8(7))], vec![f32s("t", &[], 1)]);
    let expected = [
        &b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"[..],
        b"\x01\0\0\0\0\0\0\0k\0\0\0\0\x07",
        b"\x01\0\0\0\0\0\0\0t\x01\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        &[0; 25],
        &[0, 1, 2, 3],
    ];
    assert_eq!(writer.bytes(), expected.concat());
    let (_folder, file) = opened(&writer);
    let info = TensorInfo {
        name: "t".to_owned(),
        shape: vec![1],
        kind: Kind::F32,
        part: 0,
        offset: 96,
        bytes: 4,
    };
    assert_eq!(file.tensors().collect::<Vec<_>>(), [&info]);
    assert_eq!(file.read("t").unwrap(), [f32::from_le_bytes([0, 1, 2, 3])]);
}

/// Three parts as llama.cpp names them: metadata in the first, which has no tensors, `a` in the
/// second, `b` and `c` in the third.
fn in_parts(folder: &std::path::Path) -> Vec<PathBuf> {
    let tensors: [&[&str]; 3] = [&[], &["a"], &["b", "c"]];
    let save = |(number, names): (usize, &&[&str])| {
        let mut metadata = vec![
            ("split.no".to_owned(), Value::U16(number as u16)),
            ("split.count".to_owned(), Value::U16(3)),
            ("split.tensors.count".to_owned(), Value::I32(3)),
        ];
        if number == 0 {
            metadata.push(("general.architecture".to_owned(), Value::String("llama".to_owned())));
        }
        let tensors = names.iter().map(|name| f32s(name, &[], name.as_bytes()[0].into())).collect();
        let path = folder.join(format!("m-{:05}-of-00003.gguf", number + 1));
        fs::write(&path, Writer::new(metadata, tensors).bytes()).unwrap();
        path
    };
    tensors.iter().enumerate().map(save).collect()
}

#[test]
fn a_part_of_a_vector_may_begin_in_a_block() {
    let writer = Writer::new(vec![], vec![Tensor::new("v", Kind::Q8_0, &[], 3, |k| k as u8)]);
    let (_folder, file) = opened(&writer);
    let whole = file.read("v").unwrap();
    for (from, to) in [(0, 96), (5, 6), (31, 65), (64, 64), (95, 96)] {
        assert_eq!(file.read_rows("v", from..to).unwrap(), whole[from..to], "{from} to {to}");
    }
}

#[test]
fn any_part_of_a_split_file_opens_all() {
    let folder = tempfile::tempdir().unwrap();
    for path in in_parts(folder.path()) {
        let file = Gguf::open(&path).unwrap();
        assert_eq!(file.path(), path);
        assert_eq!(file.string("general.architecture").unwrap(), "llama");
        let found: Vec<_> = file.tensors().map(|t| (t.name.as_str(), t.part)).collect();
        assert_eq!(found, [("a", 1), ("b", 2), ("c", 2)]);
        for name in ["a", "b", "c"] {
            let bytes: Vec<u8> =
                file.read(name).unwrap().iter().flat_map(|x| x.to_le_bytes()).collect();
            let expected = f32s(name, &[], name.as_bytes()[0].into()).bytes;
            assert!(bytes == expected, "{name}");
        }
    }
}

#[test]
fn parts_that_are_missing_or_of_another_model_are_named() {
    type Damage = fn(&[PathBuf]);
    let cases: [(Damage, &[&str]); 6] = [
        (|parts| fs::remove_file(&parts[0]).unwrap(), &["m-00001-of-00003.gguf is not beside it"]),
        (|parts| fs::remove_file(&parts[1]).unwrap(), &["m-00002-of-00003.gguf is not beside it"]),
        (
            |parts| assert!(fs::copy(&parts[2], &parts[0]).is_ok()),
            &["m-00001-of-00003.gguf", "part 3 of 3, expected part 1 of 3"],
        ),
        (
            |parts| fs::write(&parts[1], Writer::small().bytes()).unwrap(),
            &["m-00002-of-00003.gguf", "no part of a split file, expected part 2 of 3"],
        ),
        (
            |parts| {
                let whole = fs::read(&parts[1]).unwrap();
                fs::write(&parts[1], &whole[..whole.len() - 1]).unwrap();
            },
            &["m-00002-of-00003.gguf", "cut short"],
        ),
        (
            |parts| {
                let metadata = ["split.no", "split.count"]
                    .map(|key| (key.to_owned(), Value::U16(if key == "split.no" { 1 } else { 3 })));
                fs::write(&parts[1], Writer::new(metadata.into(), vec![]).bytes()).unwrap();
            },
            &["split.tensors.count", "is 3, the parts have 2 tensors"],
        ),
    ];
    for (damage, words) in cases {
        let folder = tempfile::tempdir().unwrap();
        let parts = in_parts(folder.path());
        damage(&parts);
        let message = Gguf::open(&parts[2]).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
    }
    let metadata = [("split.no", u64::MAX), ("split.count", 2)];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), Value::U64(value)));
    refused(&Writer::new(metadata.into(), vec![]).bytes(), &["split.no", "of 2 parts"]);
    let folder = tempfile::tempdir().unwrap();
    let renamed = folder.path().join("model.gguf");
    fs::rename(&in_parts(folder.path())[0], &renamed).unwrap();
    let message = Gguf::open(&renamed).unwrap_err().to_string();
    assert!(message.contains("does not end in -00001-of-00003.gguf"), "{message}");
}

#[test]
fn getters_convert_widths_and_name_what_does_not_fit() {
    let (_folder, file) = opened(&with(&[
        ("s", Value::String("x".to_owned())),
        ("u8", Value::U8(5)),
        ("i64", Value::I64(6)),
        ("negative", Value::I32(-5)),
        ("f32", Value::F32(0.5)),
        ("f64", Value::F64(0.1)),
        ("b", Value::Bool(false)),
        ("strings", Value::Array(Array::String(vec!["a".to_owned()]))),
        ("i8s", Value::Array(Array::I8(vec![-1, 1]))),
        ("f32s", Value::Array(Array::F32(vec![0.25]))),
        ("none", Value::Array(Array::U64(vec![]))),
    ]));
    assert_eq!(file.string("s").unwrap(), "x");
    assert_eq!(file.string_opt("absent").unwrap(), None);
    assert_eq!((file.unsigned("u8").unwrap(), file.unsigned_opt("i64").unwrap()), (5, Some(6)));
    assert_eq!((file.float("f32").unwrap(), file.float_opt("f64").unwrap()), (0.5, Some(0.1)));
    assert_eq!(
        (file.bool_opt("b").unwrap(), file.bool_opt("absent").unwrap()),
        (Some(false), None)
    );
    assert_eq!(file.strings("strings").unwrap(), ["a"]);
    assert_eq!(file.integers_opt("i8s").unwrap(), Some(vec![-1, 1]));
    assert_eq!(file.integers_opt("none").unwrap(), Some(vec![]));
    let message = |error: Error| {
        assert!(matches!(error, Error::Field { .. }));
        error.to_string()
    };
    for (message, words) in [
        (
            message(file.unsigned("negative").unwrap_err()),
            "x.gguf key negative: is i32 -5, expected an integer, 0 or more",
        ),
        (message(file.unsigned("absent").unwrap_err()), "key absent: missing, expected an integer"),
        (message(file.string("u8").unwrap_err()), "key u8: is u8 5, expected a string"),
        (message(file.float("u8").unwrap_err()), "expected a float"),
        (message(file.bool_opt("u8").unwrap_err()), "expected a bool"),
        (
            message(file.strings("s").unwrap_err()),
            "key s: is string \"x\", expected an array of strings",
        ),
        (message(file.strings("absent").unwrap_err()), "missing"),
        (
            message(file.integers_opt("f32s").unwrap_err()),
            "is array of 1 f32, expected an array of integers",
        ),
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[test]
fn many_pieces_are_put_together_in_order() {
    let row = 64 * 1000;
    let halves = Tensor::new("halves", Kind::F16, &[7], row, |k| {
        if k % 2 == 0 { (k / 2 % 251) as u8 } else { 0x3c }
    });
    // Scale 1 in each block of 34 bytes.
    let q8 = Tensor::new("q8", Kind::Q8_0, &[9], row / 32, |k| match k % 34 {
        0 => 0,
        1 => 0x3c,
        _ => (k % 127) as u8,
    });
    let (_folder, file) = opened(&Writer::new(vec![], vec![f32s("first", &[3], 5), halves, q8]));
    let halves = file.read("halves").unwrap();
    let expected = |k: usize| 1.0 + (k % 251) as f32 / 1024.0;
    assert!(halves.len() == 7 * row && (0..halves.len()).all(|k| halves[k] == expected(k)));
    let q8 = file.read("q8").unwrap();
    let expected = |k: usize| ((k / 32 * 34 + 2 + k % 32) % 127) as f32;
    assert!(q8.len() == 9 * row && (0..q8.len()).all(|k| q8[k] == expected(k)));
    // A file cut after it was opened.
    fs::OpenOptions::new().write(true).open(file.path()).unwrap().set_len(500_000).unwrap();
    assert!(matches!(file.read("q8"), Err(Error::Io { action: "read", .. })));
    assert!(file.read("first").is_ok());
}

#[test]
fn other_kinds_of_file_are_refused() {
    refused(b"", &["not a GGUF file", "empty"]);
    refused(b"PK\x03\x04rest", &["zip", "pickle", "safetensors"]);
    refused(b"\x80\x02}q", &["pickle", "never loads"]);
    refused(b"GGUF", &["version", "4 bytes missing"]);
    refused(b"GGUF\x03\0\0\0", &["tensor_count", "8 bytes needed and 0 left, 8 bytes missing"]);
    refused(b"GGUF\x01\0\0\0", &["version", "is 0x1, expected 2 or 3"]);
    refused(b"GGUF\x04\0\0\0", &["version", "is 0x4"]);
    refused(b"GGUF\0\0\0\x03", &["version", "big-endian"]);
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Gguf::open(folder.path()), Err(Error::NotGguf { .. })));
    assert!(matches!(
        Gguf::open(&folder.path().join("none")),
        Err(Error::Io { action: "open", .. })
    ));
}

#[test]
fn metadata_is_refused_by_key() {
    let bool = with(&[("a.b", Value::Bool(true))]).bytes();
    refused(&[&bool[..bool.len() - 1], &[2]].concat(), &["key a.b", "a bool is 2"]);
    refused(&with(&[("k", Value::U8(1)), ("k", Value::U8(2))]).bytes(), &["key k", "twice"]);

    let text =
        Writer::new(vec![("k".to_owned(), Value::String("abc".to_owned()))], vec![]).written();
    let mut bytes = text.bytes.clone();
    *bytes.last_mut().unwrap() = 0xff;
    refused(&bytes, &["key k", "not UTF-8 at byte 2"]);
    let mut bytes = text.bytes.clone();
    bytes[text.words[0]] = 13;
    refused(&bytes, &["key k", "of type 13, expected 0 to 12"]);
    let mut bytes = text.bytes.clone();
    bytes[text.lengths[3]] = 4;
    refused(&bytes, &["key k", "4 bytes needed and 3 left"]);

    let nested = |depth| (1..depth).fold(Array::U8(vec![1]), |inner, _| Array::Array(vec![inner]));
    assert!(opened(&with(&[("k", Value::Array(nested(4)))])).1.get("k").is_some());
    refused(&with(&[("k", Value::Array(nested(5)))]).bytes(), &["key k", "arrays in arrays"]);
}

#[test]
fn alignment_is_a_power_of_two() {
    for alignment in [1, 8, 4096] {
        let (_folder, file) = opened(&Writer { alignment, ..Writer::small() });
        assert!(file.tensors().all(|tensor| tensor.offset.is_multiple_of(alignment.into())));
    }
    for value in [Value::U32(0), Value::U32(48), Value::U64(32), Value::String("32".to_owned())] {
        refused(
            &with(&[("general.alignment", value)]).bytes(),
            &["key general.alignment", "power of two"],
        );
    }
    // The largest one puts the data far beyond the end.
    let far = ("general.alignment".to_owned(), Value::U32(1 << 31));
    refused(
        &Writer::new(vec![far], vec![f32s("t", &[], 1)]).bytes(),
        &["tensor t", "4 bytes missing"],
    );
}

#[test]
fn tensors_are_refused_by_name() {
    let good = Writer::new(vec![], vec![f32s("a", &[3], 8), f32s("b", &[2], 8)]);
    let written = good.written();
    let set = |at: usize, to: u64| {
        let mut bytes = written.bytes.clone();
        bytes[at..at + 8].copy_from_slice(&to.to_le_bytes());
        bytes
    };
    let set_word = |at: usize, to: u32| {
        let mut bytes = written.bytes.clone();
        bytes[at..at + 4].copy_from_slice(&to.to_le_bytes());
        bytes
    };
    // Lengths: two counts, then for each tensor its name's and its dimensions, the fastest first.
    let (dim, offset, n_dims, kind) =
        (written.lengths[3], written.offsets[1], written.words[0], written.words[1]);
    refused(&set(dim, 0), &["tensor a", "expected none to be 0"]);
    refused(&set(dim, 1 << 62), &["tensor a", "overflows"]);
    refused(&set(dim, u64::MAX), &["tensor a", "overflows"]);
    refused(&set(dim, 1 << 20), &["tensor a", "bytes missing"]);
    refused(&set_word(n_dims, 0), &["tensor a", "has 0 dimensions"]);
    refused(&set_word(n_dims, 5), &["tensor a", "has 5 dimensions, expected 1 to 4"]);
    // One of a newer ggml may be there, as long as nothing reads it.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    std::fs::write(&path, set_word(kind, 77)).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!(file.tensor("a").unwrap().kind, Kind::Unknown(77));
    let message = file.read("a").unwrap_err().to_string();
    assert!(message.contains("tensor a") && message.contains("type 77"), "{message}");
    refused(
        &set_word(kind, 12),
        &["tensor a", "rows of 8 values, expected a multiple of 256, the block of Q4_K"],
    );
    refused(&set(offset, 100), &["tensor b", "offset 100, expected a multiple of 32"]);
    refused(&set(offset, 64), &["tensor b", "lies over tensor a"]);
    refused(&set(offset, 128), &["tensor b", "64 bytes needed and 32 left, 32 bytes missing"]);
    refused(&set(offset, u64::MAX - 31), &["tensor b", "64 bytes missing"]);
    refused(&written.bytes[..written.bytes.len() - 1], &["tensor b", "1 bytes missing; fetch"]);
    refused(
        &Writer::new(vec![], vec![f32s("a", &[], 1), f32s("a", &[], 1)]).bytes(),
        &["tensor a", "twice"],
    );
    // Bytes after the last tensor are nobody's.
    let (_folder, path) = saved(&[&written.bytes[..], b"more"].concat());
    assert!(Gguf::open(&path).unwrap().read("b").is_ok());
}

#[test]
fn every_cut_is_refused() {
    let bytes = Writer::small().bytes();
    let (_folder, path) = saved(b"");
    for length in 0..bytes.len() {
        write(&path, &bytes[..length]);
        let message = Gguf::open(&path).unwrap_err().to_string();
        assert!(
            message.contains("missing") || message.contains("not a GGUF file"),
            "{length}: {message}"
        );
    }
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        (-1e30f32..1e30).prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        ".{0,20}".prop_map(Value::String),
        arrays().prop_map(Value::Array),
    ]
}

fn arrays() -> impl Strategy<Value = Array> {
    let flat = prop_oneof![
        prop::collection::vec(any::<i8>(), 0..9).prop_map(Array::I8),
        prop::collection::vec(any::<u16>(), 0..9).prop_map(Array::U16),
        prop::collection::vec(any::<i32>(), 0..9).prop_map(Array::I32),
        prop::collection::vec(any::<u64>(), 0..9).prop_map(Array::U64),
        prop::collection::vec(-1e300f64..1e300, 0..9).prop_map(Array::F64),
        prop::collection::vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        prop::collection::vec(".{0,9}", 0..9).prop_map(Array::String),
    ];
    flat.prop_recursive(3, 20, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Array::Array))
}

fn tensors() -> impl Strategy<Value = Vec<Tensor>> {
    let tensor = (
        prop::sample::select(Kind::ALL),
        prop::collection::vec(1..4usize, 0..4),
        1..3usize,
        any::<u8>(),
    );
    prop::collection::btree_map(".{1,12}", tensor, 0..6).prop_map(|tensors| {
        let make = |(name, (kind, rows, blocks, seed)): (String, (Kind, Vec<usize>, usize, u8))| {
            Tensor::new(&name, kind, &rows, blocks, |k| (k as u8).wrapping_mul(97) ^ seed)
        };
        tensors.into_iter().map(make).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn reads_what_was_written(
        metadata in prop::collection::btree_map("[a-z.]{0,12}", values(), 0..8),
        tensors in tensors(),
        version in 2..4u32,
        log_alignment in 0..9u32,
    ) {
        let writer =
            Writer { version, alignment: 1 << log_alignment, metadata: metadata.into_iter().collect(), tensors };
        let (_folder, file) = opened(&writer);
        let found: Vec<_> = file.metadata().filter(|(key, _)| *key != "general.alignment").collect();
        prop_assert_eq!(found, writer.metadata.iter().map(|(k, v)| (k.as_str(), v)).collect::<Vec<_>>());
        for (tensor, info) in writer.tensors.iter().zip(file.tensors()) {
            prop_assert_eq!((&info.name, &info.shape, info.kind), (&tensor.name, &tensor.shape, tensor.kind));
            prop_assert_eq!(file.tensor(&tensor.name), Some(info));
            prop_assert_eq!(info.bytes, tensor.bytes.len() as u64);
            match file.read(&tensor.name) {
                Ok(values) if tensor.kind == Kind::F32 => {
                    prop_assert_eq!(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(), &tensor.bytes[..]);
                }
                Ok(values) => prop_assert_eq!(values.len(), info.elements()),
                Err(error) => {
                    let undecoded = matches!(error, Error::Undecoded { .. });
                    prop_assert!(undecoded && !tensor.kind.is_decoded());
                }
            }
        }
        prop_assert_eq!(file.tensors().count(), writer.tensors.len());
    }
}
