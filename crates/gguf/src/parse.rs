//! From bytes to metadata and tensor descriptions; no length in the file is believed before it fits
//! into what is left.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::{Array, Error, Kind, Result, TensorInfo, Value};

/// Arrays in arrays in arrays: more than any writer makes, and a recursion that no stack minds.
const DEEPEST: usize = 4;
/// Where `general.alignment` is not said.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Fewest bytes of a metadata entry: an empty key, a type, a byte.
const SMALLEST_ENTRY: u64 = 8 + 4 + 1;
/// Fewest bytes of a tensor's description: an empty name, one dimension, type and offset.
const SMALLEST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;

/// All of a file before its tensors' data.
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) tensors: Vec<TensorInfo>,
}

/// Reads and checks everything but the values of tensors.
pub(crate) fn header(file: &File, length: u64, path: &Path) -> Result<Header> {
    let mut input = Input { reader: BufReader::new(file), left: length, path };
    let version = input.magic_and_version()?;
    let n_tensors = input.u64("tensor_count")?;
    let n_entries = input.count("metadata_kv_count", SMALLEST_ENTRY)?;

    let mut metadata = Vec::with_capacity(n_entries);
    for k in 0..n_entries {
        let key = input.string(&format!("metadata key {k}"))?;
        let field = format!("key {}", shown(&key));
        let kind = input.u32(&field)?;
        metadata.push((key, input.value(kind, &field)?));
    }

    let n_tensors = input.fits(n_tensors, "tensor_count", SMALLEST_TENSOR)?;
    let mut tensors = Vec::with_capacity(n_tensors);
    for k in 0..n_tensors {
        tensors.push(input.tensor(k)?);
    }
    Layout { start: length - input.left, length, path }.place(&metadata, &mut tensors)?;
    Ok(Header { version, metadata, tensors })
}

/// What is left of the file to read.
struct Input<'a> {
    reader: BufReader<&'a File>,
    left: u64,
    path: &'a Path,
}

impl Input<'_> {
    fn bad(&self, field: &str, reason: String) -> Error {
        Error::Format { path: self.path.to_owned(), field: field.to_owned(), reason }
    }

    fn magic_and_version(&mut self) -> Result<u32> {
        let mut start = Vec::new();
        self.reader
            .by_ref()
            .take(24)
            .read_to_end(&mut start)
            .map_err(Error::io("read", self.path))?;
        let Some((b"GGUF", rest)) = start.split_first_chunk() else {
            return Err(Error::NotGguf { path: self.path.to_owned(), found: seems(&start) });
        };
        let Some((&version, _)) = rest.split_first_chunk() else {
            return Err(self.cut("version", 8));
        };
        let version = u32::from_le_bytes(version);
        let advice = match version {
            2 | 3 => {
                self.left = self.left.saturating_sub(8);
                // What was read ahead is read again: the fields have one reader.
                self.reader
                    .seek_relative(8 - start.len() as i64)
                    .map_err(Error::io("read", self.path))?;
                return Ok(version);
            }
            0 | 1 => "convert the model again with a current llama.cpp",
            _ if (1..=0xff).contains(&version.swap_bytes()) => {
                "it is big-endian, convert it to little-endian"
            }
            _ => "this program is older than the file, or the file is damaged",
        };
        Err(self.bad("version", format!("is {version:#x}, expected 2 or 3; {advice}")))
    }

    fn cut(&self, field: &str, needed: u64) -> Error {
        Error::CutShort {
            path: self.path.to_owned(),
            field: field.to_owned(),
            needed,
            left: self.left,
        }
    }

    /// Takes `bytes` off what is left, or refuses.
    fn claim(&mut self, bytes: u64, field: &str) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| self.cut(field, bytes))?;
        Ok(())
    }

    fn fixed<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        self.claim(N as u64, field)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(Error::io("read", self.path))?;
        Ok(bytes)
    }

    fn u32(&mut self, field: &str) -> Result<u32> {
        self.fixed(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &str) -> Result<u64> {
        self.fixed(field).map(u64::from_le_bytes)
    }

    /// A number of things that take at least `smallest` bytes each.
    fn count(&mut self, field: &str, smallest: u64) -> Result<usize> {
        let count = self.u64(field)?;
        self.fits(count, field, smallest)
    }

    fn fits(&self, count: u64, field: &str, smallest: u64) -> Result<usize> {
        let needed = count.saturating_mul(smallest);
        if needed > self.left {
            return Err(self.cut(field, needed));
        }
        usize::try_from(count)
            .map_err(|_| self.bad(field, format!("is {count}, more than this machine can address")))
    }

    fn bytes(&mut self, count: usize, field: &str) -> Result<Vec<u8>> {
        self.claim(count as u64, field)?;
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).map_err(Error::io("read", self.path))?;
        Ok(bytes)
    }

    fn string(&mut self, field: &str) -> Result<String> {
        let count = self.count(field, 1)?;
        let bytes = self.bytes(count, field)?;
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            self.bad(field, format!("not UTF-8 at byte {at}; the file is damaged, fetch it again"))
        })
    }

    fn bool(&mut self, field: &str) -> Result<bool> {
        match self.fixed(field)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.bad(
                field,
                format!("a bool is {other}, expected 0 or 1; the file is damaged, fetch it again"),
            )),
        }
    }

    fn value(&mut self, kind: u32, field: &str) -> Result<Value> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.fixed(field)?)),
            1 => Value::I8(i8::from_le_bytes(self.fixed(field)?)),
            2 => Value::U16(u16::from_le_bytes(self.fixed(field)?)),
            3 => Value::I16(i16::from_le_bytes(self.fixed(field)?)),
            4 => Value::U32(self.u32(field)?),
            5 => Value::I32(i32::from_le_bytes(self.fixed(field)?)),
            6 => Value::F32(f32::from_le_bytes(self.fixed(field)?)),
            7 => Value::Bool(self.bool(field)?),
            8 => Value::String(self.string(field)?),
            9 => Value::Array(self.array(field, 1)?),
            10 => Value::U64(self.u64(field)?),
            11 => Value::I64(i64::from_le_bytes(self.fixed(field)?)),
            12 => Value::F64(f64::from_le_bytes(self.fixed(field)?)),
            _ => return Err(self.bad_type(kind, field)),
        })
    }

    fn bad_type(&self, kind: u32, field: &str) -> Error {
        self.bad(
            field,
            format!("is of type {kind}, expected 0 to 12; the file is damaged, fetch it again"),
        )
    }

    fn array(&mut self, field: &str, depth: usize) -> Result<Array> {
        let kind = self.u32(field)?;
        Ok(match kind {
            0 => Array::U8(self.numbers(field, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(field, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(field, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(field, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(field, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(field, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(field, f32::from_le_bytes)?),
            7 => Array::Bool(self.items(field, 1, |input| input.bool(field))?),
            8 => Array::String(self.items(field, 8, |input| input.string(field))?),
            9 if depth < DEEPEST => {
                Array::Array(self.items(field, 12, |input| input.array(field, depth + 1))?)
            }
            9 => {
                let reason = format!(
                    "arrays in arrays, more than {DEEPEST} deep; the file is damaged, fetch it again"
                );
                return Err(self.bad(field, reason));
            }
            10 => Array::U64(self.numbers(field, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(field, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(field, f64::from_le_bytes)?),
            _ => return Err(self.bad_type(kind, field)),
        })
    }

    fn numbers<const N: usize, T>(
        &mut self,
        field: &str,
        from: fn([u8; N]) -> T,
    ) -> Result<Vec<T>> {
        let count = self.count(field, N as u64)?;
        let bytes = self.bytes(count * N, field)?;
        Ok(bytes.as_chunks().0.iter().map(|&chunk| from(chunk)).collect())
    }

    fn items<T>(
        &mut self,
        field: &str,
        smallest: u64,
        read: impl Fn(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.count(field, smallest)?;
        // The count fits the file, so this is a few times as large as the file at most.
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// A tensor's description; its offset is still the file's, relative to the data.
    fn tensor(&mut self, k: usize) -> Result<TensorInfo> {
        let name = self.string(&format!("name of tensor {k}"))?;
        let field = format!("tensor {}", shown(&name));
        let n_dims = self.u32(&field)?;
        if !(1..=4).contains(&n_dims) {
            return Err(self.bad(
                &field,
                format!("has {n_dims} dimensions, expected 1 to 4; fetch the file again"),
            ));
        }
        let mut dims = Vec::with_capacity(n_dims as usize);
        for _ in 0..n_dims {
            dims.push(self.u64(&field)?);
        }
        let number = self.u32(&field)?;
        let kind = Kind::from_number(number);
        let offset = self.u64(&field)?;

        let (block, block_bytes) = kind.block();
        let sizes = || {
            let shape: Option<Vec<usize>> =
                dims.iter().rev().map(|&dim| dim.try_into().ok()).collect();
            let elements =
                dims.iter().try_fold(1, |product: u64, &dim| product.checked_mul(dim))?;
            // As f32 they must be addressable, too.
            usize::try_from(elements.checked_mul(4)?)
                .ok()
                .filter(|&bytes| bytes <= isize::MAX as usize)?;
            let bytes = (elements / block as u64).checked_mul(block_bytes as u64)?;
            Some((shape?, bytes))
        };
        let Some((shape, bytes)) = sizes() else {
            return Err(self.bad(
                &field,
                format!("has dimensions {dims:?}, whose product overflows; fetch the file again"),
            ));
        };
        if dims.contains(&0) {
            return Err(self.bad(
                &field,
                format!("has dimensions {dims:?}, expected none to be 0; fetch the file again"),
            ));
        }
        // Rows are made of whole blocks, as in ggml; so is the tensor then.
        if !dims[0].is_multiple_of(block as u64) {
            let reason = format!(
                "rows of {} values, expected a multiple of {block}, the block of {kind}",
                dims[0]
            );
            return Err(self.bad(&field, reason));
        }
        Ok(TensorInfo { name, shape, kind, part: 0, offset, bytes })
    }
}

/// Where tensors lie.
struct Layout<'a> {
    /// Bytes before the data, without padding.
    start: u64,
    /// Of the file.
    length: u64,
    path: &'a Path,
}

impl Layout<'_> {
    fn bad(&self, field: String, reason: String) -> Error {
        Error::Format { path: self.path.to_owned(), field, reason }
    }

    /// Makes offsets those of the file, having checked that each tensor lies in it, aligned and
    /// alone.
    fn place(&self, metadata: &[(String, Value)], tensors: &mut [TensorInfo]) -> Result<()> {
        let alignment = self.alignment(metadata)?;
        let data = self.start.next_multiple_of(alignment);
        for tensor in &mut *tensors {
            let field = || format!("tensor {}", shown(&tensor.name));
            if !tensor.offset.is_multiple_of(alignment) {
                let reason = format!(
                    "offset {}, expected a multiple of {alignment}; fetch the file again",
                    tensor.offset
                );
                return Err(self.bad(field(), reason));
            }
            // A sum beyond 64 bits is beyond the file, too.
            tensor.offset = tensor.offset.saturating_add(data);
            let left = self.length.saturating_sub(tensor.offset);
            if tensor.bytes > left {
                return Err(Error::CutShort {
                    path: self.path.to_owned(),
                    field: field(),
                    needed: tensor.bytes,
                    left,
                });
            }
        }
        let mut order: Vec<_> = tensors.iter().collect();
        order.sort_by_key(|tensor| tensor.offset);
        for pair in order.windows(2) {
            if pair[0].offset + pair[0].bytes > pair[1].offset {
                let reason = format!(
                    "lies over tensor {}; the file is damaged, fetch it again",
                    shown(&pair[0].name)
                );
                return Err(self.bad(format!("tensor {}", shown(&pair[1].name)), reason));
            }
        }
        Ok(())
    }

    fn alignment(&self, metadata: &[(String, Value)]) -> Result<u64> {
        match metadata.iter().find(|(key, _)| key == "general.alignment") {
            None => Ok(DEFAULT_ALIGNMENT),
            Some((_, Value::U32(alignment))) if alignment.is_power_of_two() => {
                Ok(u64::from(*alignment))
            }
            Some((key, other)) => {
                let reason = format!(
                    "is {other}, expected a u32 that is a power of two; fetch the file again"
                );
                Err(self.bad(format!("key {key}"), reason))
            }
        }
    }
}

/// A name out of a file, for a message: a stranger's file must not flood a terminal or command it.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 80;
    name.escape_debug().take(LONGEST).collect()
}

/// What a file that begins like this is, and what to do with it.
fn seems(start: &[u8]) -> String {
    let it_is = match start {
        [] => "it is empty; fetch it again",
        [b'P', b'K', 3 | 5, ..] => {
            "it is a zip archive, in which PyTorch keeps a pickle, which this project never loads; convert it to safetensors"
        }
        [0x80, 2..=5, ..] => {
            "it is a pickle, which this project never loads; convert it to safetensors"
        }
        [b'F', b'U', b'G', b'G', ..] => "it is a big-endian one; convert it to little-endian",
        [b'l', b'm', b'g', b'g', ..]
        | [b't', b'j' | b'm', b'g', b'g', ..]
        | [b'f', b'm', b'g', b'g', ..] => {
            "it is in a format of ggml before GGUF; convert the model again with a current llama.cpp"
        }
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => {
            "it is a safetensors file; give the folder that it is in, with its config.json"
        }
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed; decompress it",
        _ if start.starts_with(b"version https://git-lfs") => {
            "it is a pointer of git-lfs; run `git lfs pull`"
        }
        _ if start.starts_with(b"\x89HDF") => "it is HDF5; convert it to safetensors",
        _ if start.trim_ascii_start().starts_with(b"<") => {
            "it is a web page; fetch it again, its address needs a login"
        }
        _ => {
            let first = &start[..start.len().min(4)];
            return format!(
                "it begins with {}, expected \"GGUF\"; give a .gguf file",
                first.escape_ascii()
            );
        }
    };
    it_is.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_harmless() {
        assert_eq!(shown("blk.0.é"), "blk.0.é");
        assert_eq!(shown("\x1b[31m\n"), r"\u{1b}[31m\n");
        assert_eq!(shown(&"x".repeat(1 << 20)).len(), 80);
    }

    #[test]
    fn other_files_are_told_apart() {
        for (start, word) in [
            (&b""[..], "empty"),
            (b"PK\x03\x04...", "zip"),
            (b"\x80\x02}q\x00", "pickle"),
            (b"FUGG\0\0\0\x03", "big-endian"),
            (b"tjgg\x03\0\0\0", "before GGUF"),
            (b"\x10\x01\0\0\0\0\0\0{\"a\":", "safetensors"),
            (b"\x1f\x8b\x08", "compressed"),
            (b"version https://git-lfs.", "git lfs pull"),
            (b"\n<!DOCTYPE html>", "web page"),
            (b"GG", "begins with GG"),
            (b"\x01\xffab", r"begins with \x01\xffab"),
        ] {
            assert!(seems(start).contains(word), "{word}: {}", seems(start));
        }
    }
}
