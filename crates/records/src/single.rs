//! Numbers of an example each, kept in single precision: a table holds the digits that tell an
//! `f32` from its neighbours, and memory what these digits say.

use serde::{Deserialize as _, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(|&value| value as f32))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    Vec::deserialize(from)
}

/// The same of a single number.
pub(crate) mod one {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f32(*value as f32)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        f64::deserialize(from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Kept(#[serde(with = "super")] Vec<f64>);

    proptest! {
        #[test]
        fn what_was_read_is_written_as_it_was(values: Vec<f32>) {
            let finite: Vec<f32> = values.into_iter().filter(|value| value.is_finite()).collect();
            let text = serde_json::to_string(&finite).unwrap();
            let read: Kept = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(serde_json::to_string(&read).unwrap(), text);
            prop_assert!(read.0.iter().zip(&finite).all(|(read, value)| *read as f32 == *value));
        }
    }

    #[test]
    fn memory_holds_what_the_digits_say() {
        let read: Kept = serde_json::from_str("[0.1]").unwrap();
        assert_eq!(read.0, [0.1]);
        assert_eq!(serde_json::to_string(&Kept(vec![0.1])).unwrap(), "[0.1]");
        assert_eq!(serde_json::to_string(&Kept(vec![1.0 / 3.0])).unwrap(), "[0.33333334]");
    }
}
