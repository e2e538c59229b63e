//! The metadata and tensors of a GGUF file: `cargo run -p induction-gguf --example tensors [--
//! FILE]`
//!
//! Without a file, of one that is made here, whose matrix is quantised to 8.5 bits a weight:
//!
//! ```text
//! GGUF version 3, 2 tensors
//!   general.architecture = string "llama"
//!   llama.block_count = u32 1
//! tensor                                  shape  kind        bytes        rms
//! output_norm.weight                       [64]  F32           256     1.0000
//! output.weight                         [4, 64]  Q8_0          272     0.5916
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use induction_gguf::{Gguf, Kind};

/// A string as GGUF has it: its length in 8 bytes, then itself.
fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A norm of ones, and a matrix of 4 rows of 64 as Q8_0: blocks of a half-precision scale and 32
/// signed bytes.
fn tiny() -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes()); // version
    file.extend([2u64, 2].map(u64::to_le_bytes).concat()); // tensors, keys
    file.extend(
        [string("general.architecture"), 8u32.to_le_bytes().into(), string("llama")].concat(),
    );
    file.extend(
        [string("llama.block_count"), 4u32.to_le_bytes().into(), 1u32.to_le_bytes().into()]
            .concat(),
    );
    // Sizes from the fastest on, as ggml counts; offsets from where the data begins.
    for (name, sizes, kind, offset) in [
        ("output_norm.weight", &[64u64][..], Kind::F32, 0u64),
        ("output.weight", &[64, 4], Kind::Q8_0, 256),
    ] {
        file.extend([string(name), (sizes.len() as u32).to_le_bytes().into()].concat());
        sizes.iter().for_each(|size| file.extend(size.to_le_bytes()));
        file.extend(kind.number().to_le_bytes());
        file.extend(offset.to_le_bytes());
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(1f32.to_le_bytes().repeat(64));
    for block in 0..8u8 {
        file.extend([0x00, 0x20]); // 2^-7 in half precision
        file.extend((0..32u8).map(|at| at.wrapping_mul(37).wrapping_add(block * 11)));
    }
    file
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let made = folder.path().join("tiny.gguf");
    std::fs::write(&made, tiny())?;
    let path = std::env::args_os().nth(1).map_or(made, Into::into);

    let file = Gguf::open(&path)?;
    println!("GGUF version {}, {} tensors", file.version(), file.tensors().count());
    // A vocabulary is a value, too.
    let short = |value: String| {
        if value.len() > 60 { format!("{} characters", value.len()) } else { value }
    };
    file.metadata().for_each(|(key, value)| println!("  {key} = {}", short(value.to_string())));
    println!("{:32} {:>12}  {:6} {:>10}  {:>9}", "tensor", "shape", "kind", "bytes", "rms");
    for tensor in file.tensors() {
        let rms = match file.read(&tensor.name) {
            Ok(values) => {
                let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
                format!("{:.4}", (squares / values.len() as f64).sqrt())
            }
            Err(_) => "unread".into(),
        };
        let (name, shape, kind, bytes) =
            (&tensor.name, format!("{:?}", tensor.shape), tensor.kind, tensor.bytes);
        println!("{name:32} {shape:>12}  {kind:6} {bytes:>10}  {rms:>9}");
    }
    Ok(())
}
