//! The tokenizer of a pretrained model.
#![no_main]

use induction::tokenizer::{PretrainedTokenizer, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = induction_fuzz::file("tokenizer.json", bytes);
    if let Some(tokenizer) = induction_fuzz::read(PretrainedTokenizer::from_json(path), "tokenizer.json") {
        // A character without a token is an error; ids that it gives are its own.
        if let Ok(ids) = tokenizer.encode("every text: naïve <|endoftext|> 1234 \u{1f9e0}\n\n\0") {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.d_vocab()));
            tokenizer.decode_bytes(&ids).expect("its own ids");
        }
    }
});
