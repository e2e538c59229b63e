//! Values from blocks.
//!
//! Each function takes whole blocks and as many values as they hold. The order of the arithmetic is
//! that of ggml's plain code: a scale is multiplied out in f32 before it meets a value, and nothing
//! is fused.

/// From the bytes of some blocks to their values.
pub(crate) type Decode = fn(&[u8], &mut [f32]);

/// Calls `decode` with each block and its values.
fn each<const B: usize, const V: usize>(
    bytes: &[u8],
    values: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; V]),
) {
    let (blocks, rest) = bytes.as_chunks::<B>();
    let (values, rest_of_values) = values.as_chunks_mut::<V>();
    debug_assert!(rest.is_empty() && rest_of_values.is_empty() && blocks.len() == values.len());
    for (block, values) in blocks.iter().zip(values) {
        decode(block, values);
    }
}

/// Half precision, exactly; without branches, so that a loop over it is vectorised.
#[inline]
pub(crate) fn f16(bytes: [u8; 2]) -> f32 {
    let shifted = u32::from(u16::from_le_bytes(bytes)) << 16;
    let magnitude = shifted << 1;
    // Exponent 5 bits to 8 by an exact product; infinities and NaN land where f32 has them.
    let normal = f32::from_bits((magnitude >> 4) + (0xe0 << 23)) * f32::from_bits(0x0780_0000);
    // Subnormal: the mantissa becomes the low bits of a number between 0.5 and 1.
    let subnormal = f32::from_bits((magnitude >> 17) | (126 << 23)) - 0.5;
    let value = if magnitude < 1 << 27 { subnormal } else { normal };
    f32::from_bits((shifted & 0x8000_0000) | value.to_bits())
}

pub(crate) fn f32s(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |&four, [value]| *value = f32::from_le_bytes(four));
}

pub(crate) fn f16s(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |&two, [value]| *value = f16(two));
}

pub(crate) fn bf16s(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |&[low, high], [value]| *value = f32::from_le_bytes([0, 0, low, high]));
}

/// Rounded to the nearest f32.
pub(crate) fn f64s(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |&eight, [value]| *value = f64::from_le_bytes(eight) as f32);
}

/// Scale, 32 signed bytes.
pub(crate) fn q8_0(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 34], values: &mut [f32; 32]| {
        let d = f16([block[0], block[1]]);
        for (value, &q) in values.iter_mut().zip(&block[2..]) {
            *value = d * f32::from(q.cast_signed());
        }
    });
}

/// Scale, 16 bytes: the low halves are the first 16 values, the high halves the others.
pub(crate) fn q4_0(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 18], values: &mut [f32; 32]| {
        let d = f16([block[0], block[1]]);
        let (first, second) = values.split_at_mut(16);
        for ((first, second), &q) in first.iter_mut().zip(second).zip(&block[2..]) {
            *first = d * (f32::from(q & 15) - 8.0);
            *second = d * (f32::from(q >> 4) - 8.0);
        }
    });
}

/// Scale, minimum, then as Q4_0.
pub(crate) fn q4_1(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 20], values: &mut [f32; 32]| {
        let (d, m) = (f16([block[0], block[1]]), f16([block[2], block[3]]));
        let (first, second) = values.split_at_mut(16);
        for ((first, second), &q) in first.iter_mut().zip(second).zip(&block[4..]) {
            *first = d * f32::from(q & 15) + m;
            *second = d * f32::from(q >> 4) + m;
        }
    });
}

/// The 32 five-bit numbers of Q5_0 and Q5_1: a word of fifth bits, then as Q4_0.
#[inline]
fn fives(bytes: &[u8; 20]) -> [u8; 32] {
    let fifth = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut fives = [0; 32];
    for (k, five) in fives.iter_mut().enumerate() {
        let four = (bytes[4 + k % 16] >> (k / 16 * 4)) & 15;
        *five = four | ((fifth >> k & 1) << 4) as u8;
    }
    fives
}

/// Scale, five-bit numbers.
pub(crate) fn q5_0(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 22], values: &mut [f32; 32]| {
        let [d0, d1, q @ ..] = block;
        let d = f16([*d0, *d1]);
        for (value, q) in values.iter_mut().zip(fives(q)) {
            *value = d * (f32::from(q) - 16.0);
        }
    });
}

/// Scale, minimum, five-bit numbers.
pub(crate) fn q5_1(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 24], values: &mut [f32; 32]| {
        let [d0, d1, m0, m1, q @ ..] = block;
        let (d, m) = (f16([*d0, *d1]), f16([*m0, *m1]));
        for (value, q) in values.iter_mut().zip(fives(q)) {
            *value = d * f32::from(q) + m;
        }
    });
}

/// What the four-bit numbers of IQ4_NL and IQ4_XS stand for.
const IQ4_LEVELS: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

/// Twice what the four-bit floats of MXFP4 (a sign, two bits of exponent, one of mantissa) stand
/// for.
const MXFP4_LEVELS: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// 32 values of one scale from 16 bytes, which choose among `levels`, in the order of Q4_0.
#[inline]
fn chosen(scale: f32, q: &[u8], levels: &[f32; 16], values: &mut [f32]) {
    let (first, second) = values.split_at_mut(16);
    for ((first, second), &q) in first.iter_mut().zip(second).zip(q) {
        *first = scale * levels[usize::from(q & 15)];
        *second = scale * levels[usize::from(q >> 4)];
    }
}

/// Scale, four-bit numbers of uneven levels.
pub(crate) fn iq4_nl(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 18], values: &mut [f32; 32]| {
        chosen(f16([block[0], block[1]]), &block[2..], &IQ4_LEVELS, values);
    });
}

/// Scale, then for 8 groups the high two bits of their six-bit scales in a word and the low four in
/// 4 bytes, then 16 bytes a group.
pub(crate) fn iq4_xs(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 136], values: &mut [f32; 256]| {
        let d = f16([block[0], block[1]]);
        let high = u16::from_le_bytes([block[2], block[3]]);
        let (low, q) = block[4..].split_at(4);
        let groups = values.as_chunks_mut::<32>().0.iter_mut().zip(q.as_chunks::<16>().0);
        for (k, (values, q)) in groups.enumerate() {
            let low = (low[k / 2] >> (k % 2 * 4)) & 15;
            let scale = low | ((high >> (2 * k) & 3) << 4) as u8;
            chosen(d * (f32::from(scale) - 32.0), q, &IQ4_LEVELS, values);
        }
    });
}

/// A power of two as its exponent's byte, four-bit floats.
pub(crate) fn mxfp4(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 17], values: &mut [f32; 32]| {
        // Half the power, 2^(e - 128), as the levels are doubled; the two smallest are subnormal.
        let half = match u32::from(block[0]) {
            e @ 0..2 => f32::from_bits(0x0020_0000 << e),
            e => f32::from_bits((e - 1) << 23),
        };
        chosen(half, &block[1..], &MXFP4_LEVELS, values);
    });
}

/// 16 bytes of four-bit scale and minimum of 16 values each, 64 bytes of two-bit numbers, the scale
/// of scales, that of minima. Value `j` of the `k`-th 32 is in pair `k % 4` of byte `j` of the
/// `k / 4`-th 32 bytes.
pub(crate) fn q2_k(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 84], values: &mut [f32; 256]| {
        let (d, m) = (f16([block[80], block[81]]), f16([block[82], block[83]]));
        let (packed, q) = block[..80].split_at(16);
        for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * f32::from(packed[group] & 15);
            let min = m * f32::from(packed[group] >> 4);
            let (k, at) = (group / 2, group % 2 * 16);
            for (value, &q) in values.iter_mut().zip(&q[k / 4 * 32 + at..]) {
                *value = scale * f32::from(q >> (k % 4 * 2) & 3) - min;
            }
        }
    });
}

/// 32 bytes of third bits, 64 of two-bit numbers as Q2_K has them, 12 of six-bit scales of 16
/// values each, the scale of scales. Third bit `k` of byte `j` belongs to value `j` of the `k`-th
/// 32, and takes 4 away where it is not set. Scales have their low four bits in bytes 0 to 8, eight
/// in the low halves and eight in the high ones, and their high two in the pairs of bytes 8 to 12.
pub(crate) fn q3_k(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 110], values: &mut [f32; 256]| {
        let (third, rest) = block.split_at(32);
        let (q, rest) = rest.split_at(64);
        let d = f16([rest[12], rest[13]]);
        for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let low = (rest[group % 8] >> (group / 8 * 4)) & 15;
            let high = (rest[8 + group % 4] >> (group / 4 * 2)) & 3;
            let scale = d * (f32::from(low | high << 4) - 32.0);
            let (k, at) = (group / 2, group % 2 * 16);
            let (q, third) = (&q[k / 4 * 32 + at..][..16], &third[at..][..16]);
            for ((value, &q), &third) in values.iter_mut().zip(q).zip(third) {
                let q = (q >> (k % 4 * 2) & 3) | (third >> k & 1) << 2;
                *value = scale * (f32::from(q) - 4.0);
            }
        }
    });
}

/// Six-bit scale and minimum of the `k`-th of 8 groups of a Q4_K or Q5_K block; four groups have
/// them whole in the low bits of bytes 0 to 8, the others in halves: low in bytes 8 to 12, high in
/// what the first four leave free.
#[inline]
fn scale_and_min(packed: &[u8], k: usize) -> (f32, f32) {
    let (scale, min) = if k < 4 {
        (packed[k] & 63, packed[k + 4] & 63)
    } else {
        let low = packed[k + 4];
        ((low & 15) | (packed[k - 4] >> 6 << 4), (low >> 4) | (packed[k] >> 6 << 4))
    };
    (f32::from(scale), f32::from(min))
}

/// Scale, minimum, 12 bytes of [`scale_and_min`], then 4 times 32 bytes, each 32 values in its low
/// halves and 32 in its high ones.
pub(crate) fn q4_k(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 144], values: &mut [f32; 256]| {
        let (d, m) = (f16([block[0], block[1]]), f16([block[2], block[3]]));
        let (packed, q) = block[4..].split_at(12);
        let pairs = values.as_chunks_mut::<64>().0;
        for (k, (values, q)) in pairs.iter_mut().zip(q.as_chunks::<32>().0).enumerate() {
            let (low_scale, low_min) = scale_and_min(packed, 2 * k);
            let (high_scale, high_min) = scale_and_min(packed, 2 * k + 1);
            let (low_scale, low_min, high_scale, high_min) =
                (d * low_scale, m * low_min, d * high_scale, m * high_min);
            let (low, high) = values.split_at_mut(32);
            for ((low, high), &q) in low.iter_mut().zip(high).zip(q) {
                *low = low_scale * f32::from(q & 15) - low_min;
                *high = high_scale * f32::from(q >> 4) - high_min;
            }
        }
    });
}

/// As Q4_K, with 32 bytes of fifth bits before the numbers: bit `k` of byte `i` belongs to the
/// `i`-th value of group `k`.
pub(crate) fn q5_k(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 176], values: &mut [f32; 256]| {
        let (d, m) = (f16([block[0], block[1]]), f16([block[2], block[3]]));
        let (packed, rest) = block[4..].split_at(12);
        let (fifth, q) = rest.split_at(32);
        for (k, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = scale_and_min(packed, k);
            let (scale, min) = (d * scale, m * min);
            for ((value, &q), &fifth) in values.iter_mut().zip(&q[k / 2 * 32..]).zip(fifth) {
                *value = scale * f32::from((q >> (k % 2 * 4)) & 15 | (fifth >> k & 1) << 4) - min;
            }
        }
    });
}

/// 128 bytes of low four bits, 64 of high two, 16 signed scales of 16 values each, the scale of
/// scales. Each half of the values has half of each: value `j` of its `k`-th 32 has the low bits in
/// half `k / 2` of byte `j + k % 2 * 32` and the high ones in pair `k` of byte `j`.
pub(crate) fn q6_k(bytes: &[u8], values: &mut [f32]) {
    each(bytes, values, |block: &[u8; 210], values: &mut [f32; 256]| {
        let d = f16([block[208], block[209]]);
        let (low, rest) = block.split_at(128);
        let (high, scales) = rest.split_at(64);
        for (half, values) in values.as_chunks_mut::<128>().0.iter_mut().enumerate() {
            let (low, high) = (&low[64 * half..][..64], &high[32 * half..][..32]);
            for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(scales[8 * half + group].cast_signed());
                let (k, at) = (group / 2, group % 2 * 16);
                let (low, high) = (&low[k % 2 * 32 + at..][..16], &high[at..][..16]);
                for ((value, &low), &high) in values.iter_mut().zip(low).zip(high) {
                    let q = (low >> (k / 2 * 4)) & 15 | (high >> (2 * k) & 3) << 4;
                    *value = scale * (f32::from(q) - 32.0);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_exact() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits).to_f32();
            let found = f16(bits.to_le_bytes());
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{bits:#x}: {found}"
            );
        }
    }

    #[test]
    fn bfloats_are_the_upper_half() {
        let mut values = [0.0; 3];
        bf16s(&[0x80, 0x3f, 0x49, 0xc0, 0x80, 0x7f], &mut values);
        assert_eq!(values, [1.0, -3.140625, f32::INFINITY]);
    }

    /// By hand, a block of each of the two layouts that others vary; all are held against another
    /// reader in tests/oracle.rs.
    #[test]
    fn blocks_by_hand() {
        let mut block = [0; 18];
        block[..2].copy_from_slice(&half::f16::from_f32(0.5).to_le_bytes());
        block[2] = 0xf0;
        let mut values = [0.0; 32];
        q4_0(&block, &mut values);
        let expected = |k| if k == 16 { 3.5 } else { -4.0 };
        assert!((0..32).all(|k| values[k] == expected(k)), "{values:?}");

        let mut block = [0; 144];
        block[..2].copy_from_slice(&half::f16::ONE.to_le_bytes());
        block[2..4].copy_from_slice(&half::f16::from_f32(0.25).to_le_bytes());
        // Group 0: scale 3, min 4. Group 7: scale 0b10_0001, min 0b01_0010.
        block[4] = 3;
        block[8] = 4;
        (block[7], block[11], block[15]) = (0b1000_0000, 0b0100_0000, 0b0010_0001);
        block[16] = 5;
        block[143] = 0xa0;
        let mut values = [0.0; 256];
        q4_k(&block, &mut values);
        assert_eq!(values[..2], [15.0 - 1.0, -1.0]);
        assert_eq!(values[254..], [-4.5, 330.0 - 4.5]);
        assert!(values[32..224].iter().all(|&v| v == 0.0));
    }
}
