//! A writer of GGUF files that remembers where the fields are that a reader must not believe.
#![allow(dead_code, clippy::unwrap_used)]

use induction_gguf::{Array, Kind, Value};

/// A file to be: everything it holds, in its order.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) version: u32,
    /// Tensors begin at multiples of it; `general.alignment` says so unless it is the default, 32.
    pub(crate) alignment: u32,
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// The last index fastest.
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
}

/// A file's bytes, and where fields lie in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    /// Lengths, counts, dimensions, 8 bytes each.
    pub(crate) lengths: Vec<usize>,
    /// Offsets of tensors, 8 bytes each.
    pub(crate) offsets: Vec<usize>,
    /// Types and numbers of dimensions, 4 bytes each.
    pub(crate) words: Vec<usize>,
    /// Where the data begins, and the header with its padding ends.
    pub(crate) data: usize,
}

impl Tensor {
    /// A tensor of `blocks` blocks a row.
    pub(crate) fn new(
        name: &str,
        kind: Kind,
        rows: &[usize],
        blocks: usize,
        byte: impl FnMut(usize) -> u8,
    ) -> Self {
        let (values, size) = kind.block();
        let count: usize = rows.iter().product::<usize>() * blocks * size;
        let shape = rows.iter().copied().chain([blocks * values]).collect();
        Self { name: name.to_owned(), shape, kind, bytes: (0..count).map(byte).collect() }
    }
}

impl Writer {
    pub(crate) fn new(metadata: Vec<(String, Value)>, tensors: Vec<Tensor>) -> Self {
        Self { version: 3, alignment: 32, metadata, tensors }
    }

    /// A small file with all there is.
    pub(crate) fn small() -> Self {
        let strings = ["<|bos|>", "", "Ġthe", "naïve"].map(str::to_owned).to_vec();
        let nested = Array::Array(vec![
            Array::Array(vec![Array::I32(vec![1, 2])]),
            Array::String(vec!["a".to_owned()]),
        ]);
        let entry = |key: &str, value| (key.to_owned(), value);
        let metadata = vec![
            entry("general.architecture", Value::String("llama".to_owned())),
            entry("u8", Value::U8(1)),
            entry("i8", Value::I8(-1)),
            entry("u16", Value::U16(2)),
            entry("i16", Value::I16(-2)),
            entry("u32", Value::U32(3)),
            entry("i32", Value::I32(-3)),
            entry("f32", Value::F32(0.5)),
            entry("bool", Value::Bool(true)),
            entry("u64", Value::U64(4)),
            entry("i64", Value::I64(-4)),
            entry("f64", Value::F64(0.25)),
            entry("tokens", Value::Array(Array::String(strings))),
            entry("scores", Value::Array(Array::F32(vec![0.0, -1.0, 2.5]))),
            entry("types", Value::Array(Array::I32(vec![1, 2, 3, 6]))),
            entry("bools", Value::Array(Array::Bool(vec![true, false, true]))),
            entry("nested", Value::Array(nested)),
        ];
        let byte = |k: usize| (k * 37 + 11) as u8;
        let mut tensors: Vec<_> = Kind::ALL
            .iter()
            .filter(|kind| kind.is_decoded())
            .map(|&kind| Tensor::new(&format!("{kind}.weight"), kind, &[2], 1, byte))
            .collect();
        tensors.push(Tensor::new("four", Kind::F16, &[2, 1, 3], 2, byte));
        tensors.push(Tensor::new("not.decoded", Kind::Iq2S, &[1], 1, byte));
        Self::new(metadata, tensors)
    }

    pub(crate) fn written(&self) -> Written {
        let mut out = Written::default();
        let mut metadata = self.metadata.clone();
        if self.alignment != 32 {
            metadata.push(("general.alignment".to_owned(), Value::U32(self.alignment)));
        }
        out.bytes.extend(b"GGUF");
        out.bytes.extend(self.version.to_le_bytes());
        out.length(self.tensors.len());
        out.length(metadata.len());
        for (key, value) in &metadata {
            out.string(key);
            out.value(value);
        }
        let alignment = self.alignment as usize;
        let mut offset = 0;
        for tensor in &self.tensors {
            out.string(&tensor.name);
            out.word(tensor.shape.len() as u32);
            for &size in tensor.shape.iter().rev() {
                out.length(size);
            }
            out.word(tensor.kind.number());
            out.offsets.push(out.bytes.len());
            out.bytes.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.bytes.len()).next_multiple_of(alignment);
        }
        for tensor in &self.tensors {
            out.bytes.resize(out.bytes.len().next_multiple_of(alignment), 0);
            if out.data == 0 {
                out.data = out.bytes.len();
            }
            out.bytes.extend(&tensor.bytes);
        }
        out
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.written().bytes
    }
}

impl Written {
    fn length(&mut self, length: usize) {
        self.lengths.push(self.bytes.len());
        self.bytes.extend((length as u64).to_le_bytes());
    }

    fn word(&mut self, word: u32) {
        self.words.push(self.bytes.len());
        self.bytes.extend(word.to_le_bytes());
    }

    fn string(&mut self, string: &str) {
        self.length(string.len());
        self.bytes.extend(string.as_bytes());
    }

    fn value(&mut self, value: &Value) {
        let single = match value.clone() {
            Value::U8(x) => Array::U8(vec![x]),
            Value::I8(x) => Array::I8(vec![x]),
            Value::U16(x) => Array::U16(vec![x]),
            Value::I16(x) => Array::I16(vec![x]),
            Value::U32(x) => Array::U32(vec![x]),
            Value::I32(x) => Array::I32(vec![x]),
            Value::F32(x) => Array::F32(vec![x]),
            Value::Bool(x) => Array::Bool(vec![x]),
            Value::String(x) => Array::String(vec![x]),
            Value::Array(x) => Array::Array(vec![x]),
            Value::U64(x) => Array::U64(vec![x]),
            Value::I64(x) => Array::I64(vec![x]),
            Value::F64(x) => Array::F64(vec![x]),
        };
        self.word(type_of_items(&single));
        self.items(&single);
    }

    fn items(&mut self, array: &Array) {
        match array {
            Array::U8(items) => self.bytes.extend(items),
            Array::I8(items) => self.bytes.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Array::U16(items) => self.bytes.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Array::I16(items) => self.bytes.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Array::U32(items) => self.bytes.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Array::I32(items) => self.bytes.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Array::F32(items) => self.bytes.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Array::Bool(items) => self.bytes.extend(items.iter().map(|&x| u8::from(x))),
            Array::String(items) => items.iter().for_each(|x| self.string(x)),
            Array::Array(items) => {
                for inner in items {
                    self.word(type_of_items(inner));
                    self.length(inner.len());
                    self.items(inner);
                }
            }
            Array::U64(items) => self.bytes.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Array::I64(items) => self.bytes.extend(items.iter().flat_map(|x| x.to_le_bytes())),
            Array::F64(items) => self.bytes.extend(items.iter().flat_map(|x| x.to_le_bytes())),
        }
    }
}

fn type_of_items(array: &Array) -> u32 {
    match array {
        Array::U8(_) => 0,
        Array::I8(_) => 1,
        Array::U16(_) => 2,
        Array::I16(_) => 3,
        Array::U32(_) => 4,
        Array::I32(_) => 5,
        Array::F32(_) => 6,
        Array::Bool(_) => 7,
        Array::String(_) => 8,
        Array::Array(_) => 9,
        Array::U64(_) => 10,
        Array::I64(_) => 11,
        Array::F64(_) => 12,
    }
}
