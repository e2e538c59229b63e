//! The tokenizer of a run: what is accepted loses nothing of a text.
#![no_main]

use induction::tokenizer::BpeTokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = induction_fuzz::file("tokenizer.json", bytes);
    if let Some(tokenizer) = induction_fuzz::read(BpeTokenizer::load(path), "tokenizer.json") {
        let text = "every text: naïve <|bos|> \u{1f9e0}\n\n\0";
        assert_eq!(tokenizer.decode(&tokenizer.encode(text)).expect("its own ids"), text);
    }
});
