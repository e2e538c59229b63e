//! Half times, and curves that are none.

use approx::assert_relative_eq;
use induction_metrics::{Error, half_time, smoothed};
use proptest::prelude::*;

proptest! {
    #[test]
    fn half_time_is_its_definition(values in prop::collection::vec(-1.0f64..1.0, 1..12), start in 0u64..50) {
        let tokens: Vec<u64> = (0..values.len() as u64).map(|k| start + 10 * k * k).collect();
        let found = half_time(&tokens, &values).expect("valid");
        let half = values[values.len() - 1] / 2.0;
        // Walk the polygon in small steps until it passes half, seen from 0.
        let past = |value: f64| if half > 0.0 { value >= half } else { value <= half };
        let mut walked = past(values[0]).then_some(tokens[0] as f64);
        for k in 1..values.len() {
            for step in 0..=1000 {
                let along = f64::from(step) / 1000.0;
                let value = values[k - 1] + along * (values[k] - values[k - 1]);
                if walked.is_none() && past(value) {
                    walked = Some(tokens[k - 1] as f64 + along * (tokens[k] - tokens[k - 1]) as f64);
                }
            }
        }
        // A step is a thousandth of at most 10 * (11^2 - 10^2) tokens.
        assert_relative_eq!(found.expect("a last value"), walked.expect("the last passes"), epsilon = 0.25);
    }
}

#[test]
fn half_times() {
    let tokens = [0, 10, 30, 40];
    assert_eq!(half_time(&tokens, &[0.0, 0.0, 0.4, 0.4]), Ok(Some(20.0)));
    assert_eq!(half_time(&tokens, &[0.0, 0.0, -0.4, -0.4]), Ok(Some(20.0)));
    assert_eq!(half_time(&tokens, &[0.3, 0.0, 0.4, 0.4]), Ok(Some(0.0)));
    assert_eq!(half_time(&tokens, &[0.3, 0.1, 0.2, 0.0]), Ok(None));
    assert_eq!(half_time(&[7], &[1.0]), Ok(Some(7.0)));
}

#[test]
fn bad_curves_are_refused() {
    let tokens = [0, 1, 2, 3, 4, 5];
    let refuse = |tokens: &[u64], values: &[f64]| {
        let error = half_time(tokens, values).expect_err("refused");
        assert!(matches!(error, Error::Curve { .. }), "{error}");
        assert_eq!(smoothed(tokens, values), Err(error.clone()));
        error.to_string()
    };
    assert!(refuse(&tokens, &[0.0; 5]).contains("6 token counts and 5 values"));
    assert!(refuse(&[0, 1, 1, 3, 4, 5], &[0.0; 6]).contains("1 after 1 at snapshot 2"));
    assert!(
        refuse(&tokens, &[0.0, 0.0, 0.0, f64::INFINITY, 0.0, 0.0]).contains("inf at snapshot 3")
    );
    assert!(refuse(&[], &[]).contains("at least one"));
}
