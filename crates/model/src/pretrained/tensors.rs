use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use induction_gguf::{Gguf, read_exact_at};
use serde::Deserialize;

use super::fields::read_json;
use crate::{Encoding, Error};

/// Named tensors in files, of which nothing is read before it is asked for.
pub(super) trait Tensors: Send + Sync {
    /// For messages.
    fn path(&self) -> &Path;
    fn names(&self) -> Vec<&str>;
    fn shape(&self, name: &str) -> Option<&[usize]>;
    /// The values in float32, in C order.
    fn read(&self, name: &str) -> Result<Vec<f32>, Error>;
    /// The same of some of its rows, as many as its first axis has.
    fn read_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, Error>;
    /// Rows of a matrix into `values`, in the thread that asks.
    fn read_rows_into(
        &self,
        name: &str,
        rows: Range<usize>,
        values: &mut [f32],
    ) -> Result<(), Error>;
    /// Bytes of rows of a matrix after those in `bytes`, and their encoding; nothing is read where
    /// their values are not those bytes decoded.
    fn read_bytes(
        &self,
        name: &str,
        rows: Range<usize>,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Encoding>, Error>;
    /// The encodings that occur, e.g. `Q4_1, F32`, the one with the most values first.
    fn encoding(&self) -> String;
}

/// Names of encodings by how many values each has.
fn most_first(counts: BTreeMap<String, usize>) -> String {
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, values)| std::cmp::Reverse(values));
    counts.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

impl Tensors for Gguf {
    fn path(&self) -> &Path {
        Gguf::path(self)
    }

    fn names(&self) -> Vec<&str> {
        self.tensors().map(|tensor| tensor.name.as_str()).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensor(name).map(|tensor| tensor.shape.as_slice())
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, Error> {
        Ok(Gguf::read(self, name)?)
    }

    fn read_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        Ok(Gguf::read_rows(self, name, rows)?)
    }

    fn read_rows_into(
        &self,
        name: &str,
        rows: Range<usize>,
        values: &mut [f32],
    ) -> Result<(), Error> {
        Ok(Gguf::read_rows_into(self, name, rows, values)?)
    }

    fn read_bytes(
        &self,
        name: &str,
        rows: Range<usize>,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Encoding>, Error> {
        Ok(Some(Gguf::read_bytes(self, name, rows, bytes)?))
    }

    fn encoding(&self) -> String {
        let mut counts = BTreeMap::new();
        for tensor in self.tensors() {
            *counts.entry(tensor.kind.to_string()).or_default() += tensor.elements();
        }
        most_first(counts)
    }
}

/// One safetensors file or several, read tensor by tensor.
pub(super) struct Safetensors {
    path: PathBuf,
    tensors: BTreeMap<String, Place>,
    files: Vec<(PathBuf, File)>,
    /// Rows and columns that have a scale of their own, where weights of 8 bits have scales.
    scale_block: [usize; 2],
    /// Whether weights of 8 bits must have scales.
    scaled: bool,
}

/// What names of scales are made of: the name of what they scale, and one of these.
const SCALES: [&str; 2] = ["_scale_inv", "_scale"];

struct Place {
    file: usize,
    /// From the file's beginning.
    start: u64,
    bytes: usize,
    kind: Kind,
    shape: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[allow(clippy::upper_case_acronyms, non_camel_case_types, reason = "the format's names")]
enum Known {
    F64,
    F32,
    F16,
    BF16,
    F8_E4M3,
    F8_E5M2,
    I64,
    I32,
    I16,
    I8,
    U8,
    BOOL,
}

impl Known {
    fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::F8_E4M3 | Self::F8_E5M2 | Self::I8 | Self::U8 | Self::BOOL => 1,
        }
    }
}

/// How values are stored: what is not known here may still be in a file, as long as nothing asks
/// for it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
enum Kind {
    Known(Known),
    Other(String),
}

impl Kind {
    fn is_f8(&self) -> bool {
        matches!(self, Self::Known(Known::F8_E4M3 | Known::F8_E5M2))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(kind) => write!(f, "{kind:?}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// A file's description of one tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: Kind,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The library's own limit on a header.
const MAX_HEADER: u64 = 100_000_000;

impl Safetensors {
    /// The weights of a model's folder: `model.safetensors`, or the shards that
    /// `model.safetensors.index.json` names.
    /// `scale_block` is of weights of 8 bits, where the configuration says that they have scales.
    pub(super) fn open(folder: &Path, scale_block: Option<[usize; 2]>) -> Result<Self, Error> {
        let (whole, index) =
            (folder.join("model.safetensors"), folder.join("model.safetensors.index.json"));
        let (tensors, files) = (BTreeMap::new(), Vec::new());
        let (scale_block, scaled) = (scale_block.unwrap_or([128; 2]), scale_block.is_some());
        let mut found = Self { path: whole.clone(), tensors, files, scale_block, scaled };
        if whole.is_file() {
            found.add(&whole, |_| false)?;
            found.unwrap();
            return Ok(found);
        }
        if !index.is_file() {
            let pickled = [
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
                "model.pt",
                "pytorch_model.pt",
            ];
            let adapter = ["adapter_model.safetensors", "adapter_model.bin"];
            if adapter.into_iter().any(|name| folder.join(name).exists()) {
                let reason = "no such file, only an adapter, a model's changes and not a model; merge them into it (`PeftModel.merge_and_unload()`), and save that".to_string();
                return Err(Error::Format { path: whole, reason });
            }
            let reason = match pickled.into_iter().find(|name| folder.join(name).exists()) {
                Some(name) => format!(
                    "no such file, only {name}, a pickle, which can run any code and is never loaded; save the model with `save_pretrained(..., safe_serialization=True)`"
                ),
                None => {
                    "no such file, nor model.safetensors.index.json; expected a model's weights as safetensors".into()
                }
            };
            return Err(Error::Format { path: whole, reason });
        }
        let format = |reason: String| Error::Format { path: index.clone(), reason };
        let parsed: Index = serde_json::from_value(read_json(&index)?)
            .map_err(|e| format(format!("weight_map: {e}")))?;
        let names: BTreeSet<&String> = parsed.weight_map.values().collect();
        for name in names {
            // Nothing outside the folder is opened.
            let is_below = |part: &str| !part.is_empty() && !part.starts_with('.');
            if name.contains(['\\', ':'])
                || !name.split('/').all(is_below)
                || !name.ends_with(".safetensors")
            {
                return Err(format(format!(
                    "weight_map: {name:?} is not the name of a safetensors file in this folder"
                )));
            }
            let file = folder.join(name);
            if !file.is_file() {
                return Err(format(format!(
                    "weight_map: {name:?} is not in this folder; fetch all of the model's files"
                )));
            }
            found
                .add(&file, |tensor| parsed.weight_map.get(tensor).is_some_and(|of| of != name))?;
        }
        // A tensor that the index names and no file has is missed where it is needed.
        found.path = index.clone();
        found.unwrap();
        Ok(found)
    }

    /// Takes off what training wraps around a model before it is saved, where all names have it.
    fn unwrap(&mut self) {
        const WRAPPERS: [&str; 2] = ["_orig_mod.", "module."];
        while let Some(wrapper) = WRAPPERS.into_iter().find(|wrapper| {
            !self.tensors.is_empty() && self.tensors.keys().all(|name| name.starts_with(wrapper))
        }) {
            let tensors = std::mem::take(&mut self.tensors);
            let bare = |name: String| name[wrapper.len()..].to_owned();
            self.tensors = tensors.into_iter().map(|(name, place)| (bare(name), place)).collect();
        }
    }

    /// Multiplies weights of 8 bits, rows of a matrix from `first` on, with their scales: one in
    /// all, one a row, or one a block.
    fn scale(&self, name: &str, first: usize, values: &mut [f32]) -> Result<(), Error> {
        let named = |end| format!("{name}{end}");
        let Some(scale) = SCALES.map(named).into_iter().find(|s| self.tensors.contains_key(s))
        else {
            if self.scaled {
                let reason = format!(
                    "tensor {name} is of 8 bits and has no scale ({name}_scale or {name}_scale_inv), which the configuration says (quantization_config)"
                );
                return Err(Error::Format { path: self.path.clone(), reason });
            }
            return Ok(());
        };
        let Place { shape, kind, .. } = &self.tensors[&scale];
        // Nor is there a scale of scales.
        if kind.is_f8() {
            let reason = format!("tensor {scale} is {kind}: expected F32, F16, BF16 or F64");
            return Err(Error::Format { path: self.path.clone(), reason });
        }
        let of = self.tensors[name].shape.as_slice();
        let blocks = |axis: usize| of[axis].div_ceil(self.scale_block[axis].max(1));
        let [rows, columns] = match (shape.as_slice(), of) {
            ([] | [1] | [1, 1], _) => [usize::MAX; 2],
            (&[n] | &[n, 1], &[rows, _]) if n == rows => [1, usize::MAX],
            (&[n, m], &[_, _]) if [n, m] == [blocks(0), blocks(1)] => self.scale_block,
            _ => {
                let reason = format!(
                    "tensor {scale} has shape {shape:?}, expected one number, one a row, or one a block of {:?} of {of:?}",
                    self.scale_block
                );
                return Err(Error::Format { path: self.path.clone(), reason });
            }
        };
        let scales = self.read(&scale)?;
        let width = of.last().copied().unwrap_or(1).max(1);
        let in_row = width.div_ceil(columns);
        for (k, row) in values.chunks_mut(width).enumerate() {
            for (j, x) in row.iter_mut().enumerate() {
                *x *= scales[(first + k) / rows * in_row + j / columns];
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, of_another: impl Fn(&str) -> bool) -> Result<(), Error> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let format = |reason: String| Error::Format { path: path.to_path_buf(), reason };
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut prefix = [0; 8];
        if length < 8 {
            return Err(format(format!("{length} bytes: cut short, expected a safetensors file")));
        }
        file.read_exact(&mut prefix).map_err(io)?;
        // A header of 640 bytes begins as a pickle does, so that one is only one if it is no
        // safetensors file.
        let pickled = prefix.starts_with(b"PK\x03\x04") || prefix.starts_with(b"\x80\x02");
        let unread = |reason: String| match pickled {
            true => format(
                "a pickle, which can run any code and is never loaded; convert it to safetensors"
                    .into(),
            ),
            false => format(reason),
        };
        if prefix == *b"version " {
            return Err(format(
                "a pointer of git-lfs and not the file itself; run `git lfs pull`, or fetch the file"
                    .into(),
            ));
        }
        let header = u64::from_le_bytes(prefix);
        if header > MAX_HEADER || header > length - 8 {
            let left = length - 8;
            return Err(unread(format!(
                "header of {header} bytes, {left} are left: cut short, or not a safetensors file"
            )));
        }
        let mut text = vec![0; usize::try_from(header).expect("bounded above")];
        file.read_exact(&mut text).map_err(io)?;
        let mut entries: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&text).map_err(|e| unread(format!("header: {e}")))?;
        entries.remove("__metadata__");
        let (base, mut ends) = (8 + header, Vec::new());
        for (name, entry) in entries {
            let place = |reason: String| format(format!("tensor {name}: {reason}"));
            let Entry { dtype, shape, data_offsets: [from, to] } =
                serde_json::from_value(entry).map_err(|e| place(e.to_string()))?;
            let elements = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
            let bytes = match &dtype {
                Kind::Known(kind) => elements.and_then(|n| n.checked_mul(kind.bytes())),
                Kind::Other(_) => usize::try_from(to.saturating_sub(from)).ok(),
            };
            let fits = from <= to && to <= length - base;
            if !fits {
                let left = length - base;
                return Err(place(format!(
                    "bytes {from} to {to} of {left}: the file is cut short, fetch it again"
                )));
            }
            let Some(bytes) = bytes.filter(|&bytes| bytes as u64 == to - from) else {
                return Err(place(format!(
                    "shape {shape:?} of {dtype} does not take {} bytes",
                    to - from
                )));
            };
            ends.push([from, to]);
            let place =
                Place { file: self.files.len(), start: base + from, bytes, kind: dtype, shape };
            // Of a tensor in two files the index says which it is.
            if of_another(&name) {
                continue;
            }
            if self.tensors.insert(name.clone(), place).is_some() {
                return Err(format(format!("tensor {name} is in two files")));
            }
        }
        ends.sort_unstable();
        if let Some(pair) = ends.windows(2).find(|pair| pair[0][1] > pair[1][0]) {
            return Err(format(format!(
                "two tensors share bytes {} to {}",
                pair[1][0], pair[0][1]
            )));
        }
        self.files.push((path.to_path_buf(), file));
        Ok(())
    }
}

/// Values of so many bytes each.
fn convert<const N: usize>(bytes: &[u8], values: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (out, &bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *out = value(bytes);
    }
}

/// A number of 4 bits of exponent and 3 of fraction, which has no infinities.
fn e4m3(bits: u8) -> f32 {
    let fraction = f32::from(bits & 7) / 8.0;
    let size = match (bits >> 3 & 15, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction * 2f32.powi(-6),
        (exponent, _) => (1.0 + fraction) * 2f32.powi(i32::from(exponent) - 7),
    };
    if bits >> 7 == 0 { size } else { -size }
}

/// A number of 5 bits of exponent and 2 of fraction: the upper half of an F16.
fn e5m2(bits: u8) -> f32 {
    f16::from_bits(u16::from(bits) << 8).to_f32()
}

impl Tensors for Safetensors {
    fn path(&self) -> &Path {
        &self.path
    }

    /// Scales are part of what they scale.
    fn names(&self) -> Vec<&str> {
        let is_scale = |name: &str| {
            SCALES
                .iter()
                .filter_map(|end| self.tensors.get(name.strip_suffix(end)?))
                .any(|scaled| scaled.kind.is_f8())
        };
        self.tensors.keys().map(String::as_str).filter(|name| !is_scale(name)).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|place| place.shape.as_slice())
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, Error> {
        let rows = self.shape(name).and_then(|shape| shape.first()).copied();
        self.read_rows(name, 0..rows.unwrap_or(1))
    }

    fn read_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        let row = self.shape(name).map_or(0, |shape| shape.iter().skip(1).product());
        let mut values = vec![0.0; rows.len() * row];
        self.read_rows_into(name, rows, &mut values)?;
        Ok(values)
    }

    fn read_rows_into(
        &self,
        name: &str,
        rows: Range<usize>,
        values: &mut [f32],
    ) -> Result<(), Error> {
        let format =
            |path: &Path, reason: String| Error::Format { path: path.to_path_buf(), reason };
        let Some(place) = self.tensors.get(name) else {
            return Err(format(&self.path, format!("tensor {name} is missing")));
        };
        let (path, file) = &self.files[place.file];
        let row = place.bytes / place.shape.first().copied().unwrap_or(1).max(1);
        let mut bytes = vec![0; rows.len() * row];
        read_exact_at(file, &mut bytes, place.start + (rows.start * row) as u64)
            .map_err(|source| Error::Io { path: path.clone(), source })?;
        let kind = match &place.kind {
            Kind::Known(kind) => *kind,
            Kind::Other(_) => Known::U8,
        };
        match kind {
            Known::F32 => convert(&bytes, values, f32::from_le_bytes),
            Known::F16 => convert(&bytes, values, |b| f16::from_le_bytes(b).to_f32()),
            Known::BF16 => convert(&bytes, values, |b| bf16::from_le_bytes(b).to_f32()),
            Known::F64 => convert(&bytes, values, |b| f64::from_le_bytes(b) as f32),
            Known::F8_E4M3 | Known::F8_E5M2 => {
                let decode = if kind == Known::F8_E4M3 { e4m3 } else { e5m2 };
                let table: Vec<f32> = (0..=255).map(decode).collect();
                convert(&bytes, values, |[b]: [u8; 1]| table[usize::from(b)]);
                self.scale(name, rows.start, values)?;
            }
            _ => {
                let kind = &place.kind;
                return Err(format(
                    path,
                    format!("tensor {name} is {kind}: expected F32, F16, BF16, F64 or F8"),
                ));
            }
        }
        Ok(())
    }

    fn read_bytes(
        &self,
        name: &str,
        rows: Range<usize>,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Encoding>, Error> {
        let Some(place) = self.tensors.get(name) else { return Ok(None) };
        let kind = match place.kind {
            Kind::Known(Known::F32) => Encoding::F32,
            Kind::Known(Known::F16) => Encoding::F16,
            Kind::Known(Known::BF16) => Encoding::Bf16,
            _ => return Ok(None),
        };
        let (path, file) = &self.files[place.file];
        let row = place.bytes / place.shape.first().copied().unwrap_or(1).max(1);
        let from = bytes.len();
        bytes.resize(from + rows.len() * row, 0);
        read_exact_at(file, &mut bytes[from..], place.start + (rows.start * row) as u64)
            .map_err(|source| Error::Io { path: path.clone(), source })?;
        Ok(Some(kind))
    }

    fn encoding(&self) -> String {
        let mut counts = BTreeMap::new();
        for place in self.tensors.values() {
            *counts.entry(place.kind.to_string()).or_default() +=
                place.shape.iter().product::<usize>();
        }
        most_first(counts)
    }
}
