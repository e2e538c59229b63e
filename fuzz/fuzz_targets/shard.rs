//! A token shard. A hash guards its tokens, so the input is put into a sound one, too.
#![no_main]

use induction::tokenizer::Shard;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    induction_fuzz::read(Shard::read(induction_fuzz::file("x.tokens", bytes)), "x.tokens");
    if let Some((header, tokens)) = bytes.split_at_checked(4) {
        let hash = *blake3::hash(tokens).as_bytes();
        let count = (tokens.len() as u64 / 2).to_le_bytes();
        let whole = [&b"INDTOK1\n"[..], header, &[0; 4], &count, &hash, tokens].concat();
        if let Some(shard) = induction_fuzz::read(Shard::read(induction_fuzz::file("x.tokens", &whole)), "x.tokens") {
            assert!(shard.tokens.iter().all(|&token| u32::from(token) < shard.d_vocab));
        }
    }
});
