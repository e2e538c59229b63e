//! Weights of a file's encoding, decoded on the device: what travels there is a quarter of their
//! values' bytes, or an eighth, and a GPU decodes them faster than the processor beside it.
//!
//! Layouts of blocks and the order of the arithmetic are those of `induction_gguf`, whose functions
//! say what they are; so the values are the same to the bit.

use induction_model::{Encoded, Encoding};
use tch::{Device, Kind, Tensor};

/// Values that are decoded at once; a whole number of every encoding's blocks.
const PIECE: usize = 1 << 24;

/// What the four-bit numbers of IQ4_NL and IQ4_XS stand for, and twice what those of MXFP4 do.
const IQ4_LEVELS: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];
const MXFP4_LEVELS: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// Whether [`decoded`] knows an encoding.
pub(super) fn is_known(encoding: Encoding) -> bool {
    encoding.is_decoded() && encoding != Encoding::F64
}

/// `[column, input]` as `kind`.
///
/// # Panics
/// On an encoding that is not known.
pub(super) fn decoded(of: &Encoded, kind: Kind, device: Device) -> Tensor {
    let (values, bytes) = of.encoding.block();
    let columns = of.bytes.len() / bytes * values / of.width.max(1);
    let out = Tensor::empty([(columns * of.width) as i64], (kind, device));
    for (k, piece) in of.bytes.chunks(PIECE / values * bytes).enumerate() {
        let raw = Tensor::from_slice(piece).to_device(device);
        let found = values_of(of.encoding, &raw.view([-1, bytes as i64])).flatten(0, -1);
        out.narrow(0, (k * PIECE) as i64, found.size()[0]).copy_(&found);
    }
    out.view([columns as i64, of.width as i64])
}

/// Values of blocks `[block, byte]`, `[block, ...]` in their order.
fn values_of(encoding: Encoding, b: &Tensor) -> Tensor {
    match encoding {
        Encoding::F32 => b.view_dtype(Kind::Float),
        Encoding::F16 => b.view_dtype(Kind::Half).to_kind(Kind::Float),
        Encoding::Bf16 => b.view_dtype(Kind::BFloat16).to_kind(Kind::Float),
        Encoding::Q8_0 => half(b, 0) * signed(&b.narrow(1, 2, 32)),
        Encoding::Q4_0 => half(b, 0) * (number(&halves(&b.narrow(1, 2, 16))) - 8.0),
        Encoding::Q4_1 => half(b, 0) * number(&halves(&b.narrow(1, 4, 16))) + half(b, 2),
        Encoding::Q5_0 => half(b, 0) * (number(&fives(&b.narrow(1, 2, 20))) - 16.0),
        Encoding::Q5_1 => half(b, 0) * number(&fives(&b.narrow(1, 4, 20))) + half(b, 2),
        Encoding::Q2K => {
            let packed = b.narrow(1, 0, 16);
            let scale = half(b, 80) * number(&low(&packed));
            let min = half(b, 82) * number(&high(&packed));
            let q = number(&pairs(&b.narrow(1, 16, 64))).view([-1, 16, 16]);
            scale.unsqueeze(2) * q - min.unsqueeze(2)
        }
        Encoding::Q3K => {
            let packed = b.narrow(1, 96, 12);
            let fours = packed.narrow(1, 0, 8);
            let twos = shifted(&packed.narrow(1, 8, 4), -2, &TWOS, 3);
            let six = Tensor::cat(&[low(&fours), high(&fours)], 1)
                .bitwise_or_tensor(&up(&twos.flatten(1, 2), 4));
            let scale = half(b, 108) * (number(&six) - 32.0);
            let third = shifted(&b.narrow(1, 0, 32), -2, &EIGHT, 1).flatten(1, 2);
            let q = pairs(&b.narrow(1, 32, 64)).bitwise_or_tensor(&up(&third, 2));
            scale.unsqueeze(2) * (number(&q) - 4.0).view([-1, 16, 16])
        }
        Encoding::Q4K => {
            let (scale, min) = scales_and_mins(b);
            scale * number(&fours(&b.narrow(1, 16, 128))) - min
        }
        Encoding::Q5K => {
            let (scale, min) = scales_and_mins(b);
            let fifth = shifted(&b.narrow(1, 16, 32), -2, &EIGHT, 1);
            let q = fours(&b.narrow(1, 48, 128)).bitwise_or_tensor(&up(&fifth, 4));
            scale * number(&q) - min
        }
        Encoding::Q6K => {
            let bytes = b.narrow(1, 0, 128).reshape([-1, 2, 2, 32]);
            let low = Tensor::stack(&[low(&bytes), high(&bytes)], 2).view([-1, 2, 4, 32]);
            let twos = b.narrow(1, 128, 64).reshape([-1, 2, 32]);
            let q = low.bitwise_or_tensor(&up(&shifted(&twos, -2, &TWOS, 3), 4));
            let scale = half(b, 208) * signed(&b.narrow(1, 192, 16));
            scale.unsqueeze(2) * (number(&q) - 32.0).view([-1, 16, 16])
        }
        Encoding::Iq4Nl => half(b, 0) * levels(&halves(&b.narrow(1, 2, 16)), IQ4_LEVELS),
        Encoding::Iq4Xs => {
            let bytes = b.narrow(1, 4, 4);
            let low = Tensor::stack(&[low(&bytes), high(&bytes)], 2).flatten(1, 2);
            let twos = shifted(&b.narrow(1, 2, 2), -1, &TWOS, 3);
            let six = low.bitwise_or_tensor(&up(&shaped_as(&twos, &low), 4));
            let scale = half(b, 0) * (number(&six) - 32.0);
            let q = halves(&b.narrow(1, 8, 128).reshape([-1, 16])).view([-1, 8, 32]);
            scale.unsqueeze(2) * levels(&q, IQ4_LEVELS)
        }
        Encoding::Mxfp4 => {
            let e = b.narrow(1, 0, 1).to_kind(Kind::Int);
            let normal = (&e - 1).bitwise_left_shift_tensor_scalar(23);
            let subnormal = (&e + 1) * 0x0020_0000;
            let power = normal.where_self(&e.ge(2), &subnormal).view_dtype(Kind::Float);
            power * levels(&halves(&b.narrow(1, 1, 16)), MXFP4_LEVELS)
        }
        other => unreachable!("{other} is not decoded on a device"),
    }
}

/// Where the bits of a byte begin, and its pairs of bits.
const EIGHT: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
const TWOS: [u8; 4] = [0, 2, 4, 6];

/// Half precision at a byte of each block, `[block, 1]`.
fn half(b: &Tensor, at: i64) -> Tensor {
    b.narrow(1, at, 2).contiguous().view_dtype(Kind::Half).to_kind(Kind::Float)
}

fn number(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float)
}

fn signed(x: &Tensor) -> Tensor {
    x.view_dtype(Kind::Int8).to_kind(Kind::Float)
}

fn low(x: &Tensor) -> Tensor {
    x.bitwise_and(15)
}

fn high(x: &Tensor) -> Tensor {
    x.bitwise_right_shift_tensor_scalar(4)
}

fn up(x: &Tensor, by: i64) -> Tensor {
    x.bitwise_left_shift_tensor_scalar(by)
}

fn shaped_as(x: &Tensor, like: &Tensor) -> Tensor {
    x.reshape(like.size().as_slice())
}

/// `x` moved down by each of `by`, along a new axis, the last or the last but one, and masked.
fn shifted(x: &Tensor, axis: i64, by: &[u8], mask: i64) -> Tensor {
    let by = Tensor::from_slice(by).to_device(x.device());
    let by = if axis == -1 { by } else { by.unsqueeze(1) };
    x.unsqueeze(axis).bitwise_right_shift(&by).bitwise_and(mask)
}

/// Of some bytes the low halves, then the high ones.
fn halves(x: &Tensor) -> Tensor {
    Tensor::cat(&[low(x), high(x)], 1)
}

/// A word of fifth bits, then 16 bytes of halves.
fn fives(x: &Tensor) -> Tensor {
    let fifth = shifted(&x.narrow(1, 0, 4), -1, &EIGHT, 1).flatten(1, 2);
    halves(&x.narrow(1, 4, 16)).bitwise_or_tensor(&up(&fifth, 4))
}

/// Twice 32 bytes of four pairs each, `[block, 256]`.
fn pairs(x: &Tensor) -> Tensor {
    shifted(&x.reshape([-1, 2, 32]), -2, &TWOS, 3).flatten(1, 3)
}

/// Four times 32 bytes of halves, `[block, 8, 32]`.
fn fours(x: &Tensor) -> Tensor {
    let x = x.reshape([-1, 4, 32]);
    Tensor::stack(&[low(&x), high(&x)], 2).flatten(1, 2)
}

/// Of Q4_K and Q5_K: each group's, `[block, 8, 1]`.
fn scales_and_mins(b: &Tensor) -> (Tensor, Tensor) {
    let packed = |at: i64| b.narrow(1, at, 4);
    let (first, second, third) = (packed(4), packed(8), packed(12));
    let six = |x: &Tensor| x.bitwise_and(63);
    let top = |x: &Tensor| up(&x.bitwise_right_shift_tensor_scalar(6), 4);
    let scale = [six(&first), low(&third).bitwise_or_tensor(&top(&first))];
    let min = [six(&second), high(&third).bitwise_or_tensor(&top(&second))];
    let times = |at, part: &[Tensor]| (half(b, at) * number(&Tensor::cat(part, 1))).unsqueeze(2);
    (times(0, &scale), times(2, &min))
}

fn levels(q: &Tensor, levels: [f32; 16]) -> Tensor {
    let levels = Tensor::from_slice(&levels).to_device(q.device());
    let found = levels.index_select(0, &q.flatten(0, -1).to_kind(Kind::Int64));
    shaped_as(&found, q)
}

#[cfg(test)]
mod tests {
    use induction_gguf::Gguf;
    use rand::RngCore;

    use super::*;

    /// A file with one matrix.
    fn gguf(encoding: Encoding, rows: usize, width: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3u32.to_le_bytes());
        file.extend([1u64, 0, 1].map(u64::to_le_bytes).concat());
        file.extend(b"x");
        file.extend(2u32.to_le_bytes());
        file.extend([width as u64, rows as u64].map(u64::to_le_bytes).concat());
        file.extend(encoding.number().to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(bytes);
        file
    }

    /// Every encoding that the file's reader knows, on bytes that nobody chose: the same bits.
    #[test]
    fn values_are_those_of_the_reader_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut random = induction_random::stream(7, "blocks", 0);
        let mut known = 0;
        for &encoding in Encoding::ALL.iter().filter(|&&encoding| is_known(encoding)) {
            let (rows, width) = (5, 512);
            let (values, size) = encoding.block();
            let mut bytes = vec![0; rows * width / values * size];
            random.fill_bytes(&mut bytes);
            let path = folder.path().join(format!("{encoding}.gguf"));
            std::fs::write(&path, gguf(encoding, rows, width, &bytes)).unwrap();
            let file = Gguf::open(&path).unwrap();
            let expected = file.read("x").unwrap();
            let (from, mut part) = (1..4, Vec::new());
            assert_eq!(file.read_bytes("x", from, &mut part).unwrap(), encoding);
            for (bytes, expected) in [(bytes, &expected[..]), (part, &expected[width..4 * width])] {
                let encoded = Encoded { encoding, bytes, width };
                let found = decoded(&encoded, Kind::Float, Device::Cpu);
                let found = super::super::state::to_host(&found);
                assert_eq!(found.len(), expected.len(), "{encoding}");
                for (k, (a, b)) in found.iter().zip(expected).enumerate() {
                    let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                    assert!(same, "{encoding}: value {k}: {a} for {b}");
                }
            }
            known += 1;
        }
        assert_eq!(known, 16);
    }

    #[test]
    fn more_than_a_piece_is_whole() {
        let width = 1 << 12;
        let rows = PIECE / width + 3;
        let bytes: Vec<u8> =
            (0..rows * width).flat_map(|k| ((k % 977) as f32).to_le_bytes()).collect();
        let encoded = Encoded { encoding: Encoding::F32, bytes, width };
        let found = decoded(&encoded, Kind::Float, Device::Cpu).flatten(0, 1);
        for k in [0, PIECE - 1, PIECE, rows * width - 1] {
            assert_eq!(found.double_value(&[k as i64]), (k % 977) as f64);
        }
    }
}
