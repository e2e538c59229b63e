//! Against the Python package `gguf`: its values of random blocks, its writer's file.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use induction_gguf::{Array, Error, Gguf, Kind, Value};
use safetensors::SafeTensors;

fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle").join(name)
}

fn open() -> Gguf {
    Gguf::open(&oracle("gguf_writer.gguf")).unwrap()
}

#[test]
fn every_encoding_to_the_bit() {
    let bytes = fs::read(oracle("gguf_blocks.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let file = open();
    let mut compared = 0;
    for &kind in Kind::ALL.iter().filter(|kind| kind.is_decoded()) {
        let name = if kind == Kind::Q4K {
            "token_embd.weight".to_owned()
        } else {
            format!("{kind}.weight")
        };
        let expected = expected.tensor(&format!("{kind}.values")).unwrap();
        let info = file.tensor(&name).unwrap();
        assert_eq!((info.kind, info.shape.as_slice()), (kind, expected.shape()), "{name}");
        let found: Vec<_> =
            file.read(&name).unwrap().iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(found, expected.data(), "{kind}");
        let rows = info.shape[0];
        for (from, to) in [(0, rows), (0, 1), (1, rows), (1, 1)] {
            let part = file.read_rows(&name, from..to).unwrap();
            let part: Vec<_> = part.iter().flat_map(|value| value.to_le_bytes()).collect();
            let row = found.len() / rows;
            assert_eq!(part, found[from * row..to * row], "{kind}, rows {from} to {to}");
        }
        compared += 1;
    }
    assert_eq!((compared, expected.len()), (17, 34));
}

#[test]
fn metadata_of_every_type() {
    let file = open();
    assert_eq!(file.version(), 3);
    let array = |array| Value::Array(array);
    let expected = [
        ("general.architecture", Value::String("llama".to_owned())),
        ("general.alignment", Value::U32(64)),
        ("llama.block_count", Value::U32(2)),
        ("a.u8", Value::U8(255)),
        ("a.i8", Value::I8(-128)),
        ("a.u16", Value::U16(65535)),
        ("a.i16", Value::I16(-32768)),
        ("a.i32", Value::I32(i32::MIN)),
        ("a.u64", Value::U64(u64::MAX)),
        ("a.i64", Value::I64(i64::MIN)),
        ("a.f32", Value::F32(0.1)),
        ("a.f64", Value::F64(0.1)),
        ("a.bool", Value::Bool(true)),
        ("a.string", Value::String("naïve \u{1f9e0}".to_owned())),
        (
            "an.array.of.strings",
            array(Array::String(["<|bos|>", "", "Ġthe"].map(str::to_owned).to_vec())),
        ),
        ("an.array.of.i32", array(Array::I32(vec![1, -2, 3]))),
        ("an.array.of.f32", array(Array::F32(vec![0.5, -1.5]))),
        ("an.array.of.bool", array(Array::Bool(vec![true, false]))),
        ("an.array.of.u64", array(Array::U64(vec![0, u64::MAX]))),
        ("an.array.of.u8", array(Array::U8(vec![0, 128, 255]))),
    ];
    assert_eq!(
        file.metadata().collect::<Vec<_>>(),
        expected.iter().map(|(k, v)| (*k, v)).collect::<Vec<_>>()
    );
    for (key, value) in &expected {
        assert_eq!(file.get(key), Some(value));
    }
}

#[test]
fn shapes_are_row_major_and_what_is_not_decoded_is_named() {
    let file = open();
    assert_eq!(file.tensors().count(), 19);
    let info = file.tensor("three.dimensions").unwrap();
    assert_eq!((info.shape.as_slice(), info.elements()), (&[2, 3, 4][..], 24));
    assert_eq!(
        file.read("three.dimensions").unwrap(),
        (0..24u8).map(f32::from).collect::<Vec<_>>()
    );

    let error = file.read("not.decoded").unwrap_err();
    assert!(matches!(error, Error::Undecoded { kind: Kind::I32, .. }));
    let message = error.to_string();
    assert!(
        message.contains("gguf_writer.gguf tensor not.decoded: is I32") && message.contains("Q4_K"),
        "{message}"
    );
    let message = file.read("absent").unwrap_err().to_string();
    assert!(
        message.contains("gguf_writer.gguf tensor absent: missing, the file has 19 others"),
        "{message}"
    );
}
