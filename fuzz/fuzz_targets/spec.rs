//! A run's spec.
#![no_main]

use induction::records::RunSpec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(spec) = induction_fuzz::read(RunSpec::parse("x.toml".as_ref(), text), "x.toml") {
        assert_eq!(RunSpec::parse("x.toml".as_ref(), &spec.to_toml()).expect("what it wrote itself"), spec);
        assert!(spec.steps() > 0 && spec.lr(spec.steps()).is_finite());
    }
});
