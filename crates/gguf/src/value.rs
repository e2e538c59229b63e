//! Values of metadata.

use std::fmt;

/// A value of the metadata, in the type that the file gives it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The types are all there is to say.
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of the metadata: all elements have one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The types are all there is to say.
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Does the same with an array whatever its type.
macro_rules! any_array {
    ($array:expr, $items:ident => $do:expr) => {
        match $array {
            Array::U8($items) => $do,
            Array::I8($items) => $do,
            Array::U16($items) => $do,
            Array::I16($items) => $do,
            Array::U32($items) => $do,
            Array::I32($items) => $do,
            Array::F32($items) => $do,
            Array::Bool($items) => $do,
            Array::String($items) => $do,
            Array::Array($items) => $do,
            Array::U64($items) => $do,
            Array::I64($items) => $do,
            Array::F64($items) => $do,
        }
    };
}

impl Value {
    /// An integer of any type.
    pub fn integer(&self) -> Option<i128> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::I8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U64(n) => Some(n.into()),
            Self::I64(n) => Some(n.into()),
            _ => None,
        }
    }

    /// A float of either type.
    pub fn float(&self) -> Option<f64> {
        match *self {
            Self::F32(x) => Some(x.into()),
            Self::F64(x) => Some(x),
            _ => None,
        }
    }
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        any_array!(self, items => items.len())
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Integers of any type that i64 holds.
    pub fn integers(&self) -> Option<Vec<i64>> {
        fn widened<T: Copy + Into<i64>>(items: &[T]) -> Option<Vec<i64>> {
            Some(items.iter().map(|&n| n.into()).collect())
        }
        match self {
            Self::U8(items) => widened(items),
            Self::I8(items) => widened(items),
            Self::U16(items) => widened(items),
            Self::I16(items) => widened(items),
            Self::U32(items) => widened(items),
            Self::I32(items) => widened(items),
            Self::U64(items) => items.iter().map(|&n| n.try_into().ok()).collect(),
            Self::I64(items) => Some(items.clone()),
            _ => None,
        }
    }

    /// The type of an element, in ggml's words.
    fn name_of_items(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::F32(_) => "f32",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F64(_) => "f64",
        }
    }
}

/// For messages: type and value, a long string cut, an array by its length: `u32 7`, `string
/// "llama"`, `array of 3 f32`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 40;
        match self {
            Self::U8(n) => write!(f, "u8 {n}"),
            Self::I8(n) => write!(f, "i8 {n}"),
            Self::U16(n) => write!(f, "u16 {n}"),
            Self::I16(n) => write!(f, "i16 {n}"),
            Self::U32(n) => write!(f, "u32 {n}"),
            Self::I32(n) => write!(f, "i32 {n}"),
            Self::F32(x) => write!(f, "f32 {x}"),
            Self::Bool(b) => write!(f, "bool {b}"),
            Self::String(s) if s.chars().count() <= LONGEST => write!(f, "string {s:?}"),
            Self::String(s) => {
                write!(f, "string {:?}...", s.chars().take(LONGEST).collect::<String>())
            }
            Self::Array(a) => write!(f, "array of {} {}", a.len(), a.name_of_items()),
            Self::U64(n) => write!(f, "u64 {n}"),
            Self::I64(n) => write!(f, "i64 {n}"),
            Self::F64(x) => write!(f, "f64 {x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_widen_and_nothing_else_does() {
        assert_eq!(Value::U64(u64::MAX).integer(), Some(u64::MAX.into()));
        assert_eq!(Value::I8(-1).integer(), Some(-1));
        assert_eq!(Value::Bool(true).integer(), None);
        assert_eq!(Value::F32(1.0).integer(), None);
        assert_eq!(Value::U8(1).float(), None);
        assert_eq!(Array::U64(vec![1, 1 << 63]).integers(), None);
        assert_eq!(Array::U64(vec![1, 2]).integers(), Some(vec![1, 2]));
        assert_eq!(Array::Bool(vec![true]).integers(), None);
    }

    #[test]
    fn values_show_short() {
        assert_eq!(
            Value::String("é".repeat(1000)).to_string(),
            format!("string \"{}\"...", "é".repeat(40))
        );
        assert_eq!(Value::Array(Array::F32(vec![0.0; 3])).to_string(), "array of 3 f32");
        assert_eq!(Value::I32(-5).to_string(), "i32 -5");
    }
}
