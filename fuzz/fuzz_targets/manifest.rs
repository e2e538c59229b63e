//! A manifest of runs.
#![no_main]

use induction::records::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(manifest) = induction_fuzz::read(Manifest::parse("x.toml".as_ref(), text), "x.toml") {
        assert_eq!(Manifest::parse("x.toml".as_ref(), &manifest.to_toml()).expect("what it wrote itself"), manifest);
    }
});
