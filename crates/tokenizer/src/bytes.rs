//! Byte-level BPE's alphabet: one printable character for each byte.

use std::collections::HashMap;

/// The character that stands for each byte in `tokenizer.json`.
///
/// GPT-2's table: printable Latin-1 stands for itself; the other 68 bytes take the characters from
/// U+0100 on, in order.
pub(crate) fn characters() -> [char; 256] {
    let mut next = 0x100..;
    std::array::from_fn(|byte| {
        let itself = matches!(byte as u8, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if itself { byte as u32 } else { next.next().unwrap_or_default() };
        char::from_u32(code).unwrap_or_default()
    })
}

/// The inverse of [`characters`].
pub(crate) fn bytes() -> HashMap<char, u8> {
    characters().into_iter().zip(0..=255).collect()
}

/// A token's bytes as text: what is not UTF-8 on its own is written `\xNN`, so that no two tokens
/// look alike as `\u{fffd}`.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let chunk = |chunk: std::str::Utf8Chunk<'_>| {
        let invalid: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        chunk.valid().to_owned() + &invalid
    };
    bytes.utf8_chunks().map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn the_table_is_the_library_s() {
        let library = ByteLevel::alphabet();
        assert_eq!(characters().into_iter().collect::<std::collections::HashSet<_>>().len(), 256);
        assert!(characters().iter().all(|c| library.contains(c)));
        assert_eq!((characters()[b' ' as usize], characters()[b'\n' as usize]), ('Ġ', 'Ċ'));
        assert!(bytes().iter().all(|(&c, &b)| characters()[b as usize] == c));
    }

    #[test]
    fn partial_characters_are_escaped() {
        assert_eq!(escaped("né".as_bytes()), "né");
        assert_eq!(escaped(&[b'a', 0xe2, 0x82]), "a\\xe2\\x82");
    }
}
