//! What a spec's numbers may be.

use crate::Error;

pub(super) fn fail(
    field: &'static str,
    found: &dyn std::fmt::Display,
    expected: &str,
) -> Result<(), Error> {
    Err(Error::Field { field, found: found.to_string(), expected: expected.to_string() })
}

pub(super) fn whole(field: &'static str, x: u64, low: u64, high: u64) -> Result<(), Error> {
    if (low..=high).contains(&x) {
        return Ok(());
    }
    fail(field, &x, &format!("a whole number from {low} to {high}"))
}

pub(super) fn positive(field: &'static str, x: f64, high: f64) -> Result<(), Error> {
    if x > 0.0 && x <= high {
        return Ok(());
    }
    fail(field, &x, &format!("a number above 0, up to {high}"))
}

pub(super) fn below_one(field: &'static str, x: f64) -> Result<(), Error> {
    if (0.0..1.0).contains(&x) {
        return Ok(());
    }
    fail(field, &x, "a number from 0 to below 1")
}

/// From 0.
pub(super) fn up_to(field: &'static str, x: f64, high: f64) -> Result<(), Error> {
    if (0.0..=high).contains(&x) {
        return Ok(());
    }
    fail(field, &x, &format!("a number from 0 to {high}"))
}
