//! A byte-level BPE learned from a text, and what its size buys: `cargo run -p induction-tokenizer
//! --example bpe`
//!
//! ```text
//! d_vocab  characters a token, learned text   next verse
//!     257                               1.00         1.00
//!     280                               1.60         1.35
//!     320                               2.35         1.61
//!     380                               3.45         1.87
//!
//! 29 characters, 11 tokens: the| even|ing| of| the| s|e|c|o|nd| day
//! ids [258, 360, 292, 306, 259, 280, 69, 67, 79, 260, 370]
//! decoded: "the evening of the second day", the same: true
//!
//! 31 characters, 25 tokens: A|be|nd| u|nd| |M|or|g|en|,| |z|w|e|i|ter| |T|a|g| |\xe2|\x98|\x80
//! ids [33, 310, 260, 299, 260, 221, 45, 325, 71, 274, 12, 221, 90, 87, 69, 73, 279, 221, 52, 65, 71, 221, 159, 247, 223]
//! decoded: "Abend und Morgen, zweiter Tag ☀", the same: true
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use induction_tokenizer::{BpeTokenizer, Document, Tokenizer};

/// Genesis 1, 1-10 (King James Version).
const TEXT: &str = "In the beginning God created the heaven and the earth. And the earth was without form, and void; and \
darkness was upon the face of the deep. And the Spirit of God moved upon the face of the waters. And God said, Let there be \
light: and there was light. And God saw the light, that it was good: and God divided the light from the darkness. And God \
called the light Day, and the darkness he called Night. And the evening and the morning were the first day. And God said, Let \
there be a firmament in the midst of the waters, and let it divide the waters from the waters. And God made the firmament, \
and divided the waters which were under the firmament from the waters which were above the firmament: and it was so. And God \
called the firmament Heaven. And the evening and the morning were the second day. And God said, Let the waters under the \
heaven be gathered together unto one place, and let the dry land appear: and it was so. And God called the dry land Earth; \
and the gathering together of the waters called he Seas: and God saw that it was good.";

/// The verse after.
const NEXT: &str = "And God said, Let the earth bring forth grass, the herb yielding seed, and the fruit tree yielding fruit \
after his kind, whose seed is in itself, upon the earth: and it was so.";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let documents = [Document { id: "genesis 1, 1-10".into(), text: TEXT.into() }];
    println!("d_vocab  characters a token, learned text   next verse");
    let mut largest = None;
    for d_vocab in [257, 280, 320, 380] {
        let tokenizer = BpeTokenizer::train(&documents, d_vocab)?;
        let length = |text: &str| text.chars().count() as f64 / tokenizer.encode(text).len() as f64;
        println!("{d_vocab:7}  {:33.2}   {:10.2}", length(TEXT), length(NEXT));
        largest = Some(tokenizer);
    }
    let tokenizer = largest.ok_or("four were trained")?;

    // No text is unknown: what no merge covers is bytes.
    for text in ["the evening of the second day", "Abend und Morgen, zweiter Tag ☀"] {
        let ids = tokenizer.encode(text);
        let pieces =
            ids.iter().map(|&id| tokenizer.token_text(id)).collect::<Result<Vec<_>, _>>()?;
        println!(
            "\n{} characters, {} tokens: {}",
            text.chars().count(),
            ids.len(),
            pieces.join("|")
        );
        println!("ids {ids:?}");
        println!(
            "decoded: {:?}, the same: {}",
            tokenizer.decode(&ids)?,
            tokenizer.decode(&ids)? == text
        );
    }
    Ok(())
}
