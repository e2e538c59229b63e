//! Arrays of a safetensors file.
#![no_main]

use induction::model::{read_safetensors, write_safetensors};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(arrays) = induction_fuzz::read(read_safetensors("x.st".as_ref(), bytes), "x.st") {
        let again = write_safetensors(arrays.iter().map(|(name, value)| (name.clone(), value)));
        let again = read_safetensors("x.st".as_ref(), &again).expect("what it wrote itself");
        assert!(again.keys().eq(arrays.keys()));
    }
});
