//! Mean and standard error over examples.

/// The mean, and the standard error of that mean; `None` for fewer than two values, which say nothing about spread.
///
/// Two passes: the one-pass formula loses every digit when values agree to the precision of their squares.
pub(crate) fn mean_stderr(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // Deviations -1, 0, 1: variance 1, standard error 1 / sqrt(3).
        assert_eq!(mean_stderr(&[1.0, 2.0, 3.0]), (2.0, Some((1.0f64 / 3.0).sqrt())));
        assert_eq!(mean_stderr(&[4.0]), (4.0, None));
    }

    #[test]
    fn survives_a_large_offset() {
        let (_, stderr) = mean_stderr(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]);
        assert_eq!(stderr, Some((1.0f64 / 3.0).sqrt()));
    }
}
