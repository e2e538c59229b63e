//! A GGUF file: as one, and as a model.
#![no_main]

use induction::model::pretrained;
use induction_gguf::{Error, Gguf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = induction_fuzz::file("x.gguf", bytes);
    if let Some(file) = induction_fuzz::read(Gguf::open(&path), "x.gguf") {
        for tensor in file.tensors() {
            match file.read(&tensor.name) {
                Ok(values) => assert_eq!(values.len(), tensor.elements()),
                Err(error) => assert!(matches!(error, Error::Undecoded { .. }), "{error}"),
            }
        }
        induction_fuzz::read(pretrained::open(&path), "x.gguf");
    }
});
