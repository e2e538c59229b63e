//! Encodings of tensors: their numbers, names and sizes.

use std::fmt;

use crate::blocks::{self, Decode};

macro_rules! kinds {
    ($($kind:ident $number:literal $name:literal $values:literal in $bytes:literal $(by $decode:expr)?;)*) => {
        /// How a tensor's values are stored; named as ggml names them, shown likewise (`Q4_K`).
        ///
        /// All of ggml's encodings have their size here, so that a file can be checked whatever is
        /// in it; [`Kind::is_decoded`] says which can be read. One of a number that is not known
        /// here has no size: a file may have such a tensor as long as nothing reads it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs)] // The names are all there is to say.
        pub enum Kind { $($kind,)* Unknown(u32) }

        impl Kind {
            /// All that are known, by number.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The one that files give this number.
            pub fn from_number(number: u32) -> Self {
                match number { $($number => Self::$kind,)* _ => Self::Unknown(number) }
            }

            /// Its number in files.
            pub fn number(self) -> u32 {
                match self { $(Self::$kind => $number,)* Self::Unknown(number) => number }
            }

            /// ggml's name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* Self::Unknown(_) => "unknown" }
            }

            /// Values in a block, bytes of a block; (1, n) for what is stored value by value, and
            /// (1, 0) where that is not known.
            pub fn block(self) -> (usize, usize) {
                match self { $(Self::$kind => ($values, $bytes),)* Self::Unknown(_) => (1, 0) }
            }

            pub(crate) fn decoder(self) -> Option<Decode> {
                let decode: &[Decode] = match self {
                    $(Self::$kind => &[$($decode)?],)*
                    Self::Unknown(_) => &[],
                };
                decode.first().copied()
            }
        }
    };
}

kinds! {
    F32 0 "F32" 1 in 4 by blocks::f32s;
    F16 1 "F16" 1 in 2 by blocks::f16s;
    Q4_0 2 "Q4_0" 32 in 18 by blocks::q4_0;
    Q4_1 3 "Q4_1" 32 in 20 by blocks::q4_1;
    Q5_0 6 "Q5_0" 32 in 22 by blocks::q5_0;
    Q5_1 7 "Q5_1" 32 in 24 by blocks::q5_1;
    Q8_0 8 "Q8_0" 32 in 34 by blocks::q8_0;
    Q8_1 9 "Q8_1" 32 in 40;
    Q2K 10 "Q2_K" 256 in 84 by blocks::q2_k;
    Q3K 11 "Q3_K" 256 in 110 by blocks::q3_k;
    Q4K 12 "Q4_K" 256 in 144 by blocks::q4_k;
    Q5K 13 "Q5_K" 256 in 176 by blocks::q5_k;
    Q6K 14 "Q6_K" 256 in 210 by blocks::q6_k;
    Q8K 15 "Q8_K" 256 in 292;
    Iq2Xxs 16 "IQ2_XXS" 256 in 66;
    Iq2Xs 17 "IQ2_XS" 256 in 74;
    Iq3Xxs 18 "IQ3_XXS" 256 in 98;
    Iq1S 19 "IQ1_S" 256 in 50;
    Iq4Nl 20 "IQ4_NL" 32 in 18 by blocks::iq4_nl;
    Iq3S 21 "IQ3_S" 256 in 110;
    Iq2S 22 "IQ2_S" 256 in 82;
    Iq4Xs 23 "IQ4_XS" 256 in 136 by blocks::iq4_xs;
    I8 24 "I8" 1 in 1;
    I16 25 "I16" 1 in 2;
    I32 26 "I32" 1 in 4;
    I64 27 "I64" 1 in 8;
    F64 28 "F64" 1 in 8 by blocks::f64s;
    Iq1M 29 "IQ1_M" 256 in 56;
    Bf16 30 "BF16" 1 in 2 by blocks::bf16s;
    Tq1_0 34 "TQ1_0" 256 in 54;
    Tq2_0 35 "TQ2_0" 256 in 66;
    Mxfp4 39 "MXFP4" 32 in 17 by blocks::mxfp4;
    Nvfp4 40 "NVFP4" 64 in 36;
    Q1_0 41 "Q1_0" 128 in 18;
}

impl Kind {
    /// Whether [`crate::Gguf::read`] knows it.
    pub fn is_decoded(self) -> bool {
        self.decoder().is_some()
    }

    /// The names of those that can be read, for messages.
    pub(crate) fn decoded_names() -> String {
        let names: Vec<_> =
            Self::ALL.iter().filter(|kind| kind.is_decoded()).map(|kind| kind.name()).collect();
        names.join(", ")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(number) => f.pad(&format!("type {number}")),
            known => f.pad(known.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_a_bijection_and_gaps_are_none() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), kind);
        }
        assert!(
            [4, 5, 31, 32, 33, 36, 37, 38, 42, u32::MAX]
                .iter()
                .all(|&n| Kind::from_number(n) == Kind::Unknown(n))
        );
        assert_eq!(format!("{}", Kind::Q4K), "Q4_K");
        assert_eq!(
            Kind::decoded_names(),
            "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, F64, BF16, MXFP4"
        );
    }

    #[test]
    fn pieces_hold_whole_blocks() {
        for &kind in Kind::ALL {
            assert_eq!(crate::PIECE % kind.block().0, 0, "{kind}");
        }
    }
}
