use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

fn documents(texts: &[&str]) -> Vec<Document> {
    let document =
        |(i, text): (usize, &&str)| Document { id: i.to_string(), text: (*text).to_owned() };
    texts.iter().enumerate().map(document).collect()
}

static SMALL: LazyLock<BpeTokenizer> = LazyLock::new(|| {
    let text = "the cat and the other cat sat on the mat; naïve café — <|bos|> <|bos|> bos bos\n\n    return None\n";
    BpeTokenizer::train(&documents(&[&text.repeat(5)]), 300).unwrap()
});

/// Text as hostile as it gets: every character, and often those that the pattern and the format
/// treat apart.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ \t\r\n\u{85}\u{a0}\u{2028}\u{3000}]{0,6}",
        "[a-z']{0,8}",
        Just(BOS.to_owned()),
        Just("\0".to_owned()),
        Just("e\u{301}".to_owned()),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn every_text_comes_back(text in any_text()) {
        let ids = SMALL.encode(&text);
        prop_assert!(!ids.contains(&SMALL.bos()));
        prop_assert_eq!(SMALL.decode(&ids).unwrap(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_chunks_of_a_text_give_the_ids_of_the_text(pieces in prop::collection::vec(any_text(), 1..8), n in 1usize..3) {
        // Long enough for some cuts, with every kind of neighbourhood around them.
        let unit = pieces.join("\n") + "\n";
        let text = unit.repeat(n * CHUNK_BYTES / unit.len() + 1);
        prop_assert_eq!(chunks(&text).collect::<String>(), &text[..]);
        let whole = SMALL.inner.encode_fast(&text[..], false).unwrap();
        prop_assert_eq!(SMALL.encode(&text), whole.get_ids());
    }
}

#[test]
fn a_cut_never_falls_within_white_space() {
    // "\n\n   " is one token of SMALL; the place where a cut is looked for first moves through it.
    for shift in 0..10 {
        let text = "x".repeat(CHUNK_BYTES - 5 + shift) + "\n\n    return None\n";
        assert_eq!(
            SMALL.encode(&text),
            SMALL.inner.encode_fast(&text[..], false).unwrap().get_ids(),
            "{shift}"
        );
    }
}

#[test]
fn long_texts_are_cut() {
    let text = "a line of text\n\n  ".repeat(20_000);
    let pieces: Vec<_> = chunks(&text).collect();
    assert_eq!(pieces.len(), 6);
    assert!(pieces[1..].iter().all(|piece| piece.starts_with("\n\n")));
    assert_eq!(chunks("").count(), 0);
}

#[test]
fn the_vocabulary_is_bos_bytes_merges() {
    let t = &*SMALL;
    assert_eq!((t.d_vocab(), t.bos()), (300, 0));
    assert_eq!(t.token_text(0).unwrap(), BOS);
    assert_eq!(t.decode(&[0]).unwrap(), BOS);
    let singles =
        (1..257).map(|id| t.piece(id).unwrap().to_vec()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(singles, (0..=255).map(|byte| vec![byte]).collect());
    assert_eq!(t.decode(&t.encode("the cat")).unwrap(), "the cat");
    assert!(t.encode("the cat").len() <= 3);
    // One byte of a character has no text of its own.
    let first_byte = t.encode("€")[0];
    assert_eq!(t.token_text(first_byte).unwrap(), "\\xe2");
    assert!(matches!(t.decode(&[1, 300]), Err(Error::UnknownToken { id: 300, d_vocab: 300 })));
    assert!(matches!(t.token_text(u32::MAX), Err(Error::UnknownToken { .. })));
}

#[test]
fn training_again_gives_the_same_bytes() {
    let texts =
        documents(&[include_str!("bpe.rs"), include_str!("corpus.rs"), include_str!("order.rs")]);
    let first = BpeTokenizer::train(&texts, 1000).unwrap().to_json().unwrap();
    for _ in 0..4 {
        assert_eq!(BpeTokenizer::train(&texts, 1000).unwrap().to_json().unwrap(), first);
    }
}

#[test]
fn loading_gives_what_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    SMALL.save(&path).unwrap();
    let loaded = BpeTokenizer::load(&path).unwrap();
    assert_eq!(loaded.to_json().unwrap(), std::fs::read_to_string(&path).unwrap());
    assert_eq!(loaded.pieces, SMALL.pieces);
    let text = include_str!("bpe.rs");
    assert_eq!(loaded.encode(text), SMALL.encode(text));
}

#[test]
fn the_vocabulary_s_size_is_checked() {
    for d_vocab in [0, 256, 65537] {
        let error = BpeTokenizer::train(&documents(&["text"]), d_vocab).unwrap_err().to_string();
        assert!(error.starts_with(&format!("d_vocab = {d_vocab}: expected 257")), "{error}");
    }
    assert_eq!(BpeTokenizer::train(&documents(&["text"]), 257).unwrap().d_vocab(), 257);
    // "abab": only (a, b) and then (ab, ab) occur twice or more when it is repeated.
    let few = documents(&["abab abab"]);
    let Err(Error::TooLittleText { wanted: 400, supported }) = BpeTokenizer::train(&few, 400)
    else {
        panic!("accepted")
    };
    assert_eq!(BpeTokenizer::train(&few, supported).unwrap().d_vocab(), supported);
    assert!(matches!(BpeTokenizer::train(&few, supported + 1), Err(Error::TooLittleText { .. })));
}

#[test]
fn a_word_of_a_megabyte_does_not_stall_training() {
    let mut state = 1u32;
    let dna: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        ['A', 'C', 'G', 'T'][(state >> 30) as usize]
    })
    .take(1 << 20)
    .collect();
    let start = std::time::Instant::now();
    let tokenizer = BpeTokenizer::train(&documents(&[&dna]), 300).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode(&dna)).unwrap(), dna);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// A `tokenizer.json` with one change, loaded.
fn changed(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut json = serde_json::from_str(&SMALL.to_json().unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    match BpeTokenizer::load(&path) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn other_tokenizers_are_refused_with_the_field() {
    use serde_json::json;
    assert_eq!(changed(|_| ()), "accepted");
    let set = |pointer: &str, value: serde_json::Value, field: &str| {
        let error = changed(|json| *json.pointer_mut(pointer).unwrap() = value);
        assert!(error.contains("tokenizer.json") && error.contains(field), "{pointer}: {error}");
    };
    set("/truncation", json!({"max_length": 5}), "truncation");
    set("/padding", json!({}), "padding");
    set("/normalizer", json!({"type": "NFC"}), "normalizer");
    set("/post_processor", json!({"type": "ByteLevel"}), "post_processor");
    set("/pre_tokenizer", json!(null), "pre_tokenizer");
    set("/pre_tokenizer/add_prefix_space", json!(true), "pre_tokenizer");
    set("/pre_tokenizer/use_regex", json!(false), "pre_tokenizer");
    set("/pre_tokenizer/type", json!("Whitespace"), "pre_tokenizer");
    set("/decoder/type", json!("WordPiece"), "decoder");
    set("/added_tokens", json!([]), "added_tokens");
    set("/added_tokens/0/content", json!("<s>"), "added_tokens");
    set("/added_tokens/0/id", json!(3), "added_tokens");
    set("/added_tokens/0/special", json!(false), "added_tokens");
    set("/model/type", json!("WordPiece"), "model.type");
    set("/model/dropout", json!(0.1), "model.dropout");
    set("/model/unk_token", json!("a"), "model.unk_token");
    // With a prefix the library slices inside a character of a shorter token, and panics.
    set("/model/continuing_subword_prefix", json!("##"), "model.continuing_subword_prefix");
    set("/model/end_of_word_suffix", json!("</w>"), "model.end_of_word_suffix");
    set("/model/byte_fallback", json!(true), "model.byte_fallback");
    set("/model/ignore_merges", json!(true), "model.ignore_merges");
    set("/model/vocab", json!({}), "model.vocab");
    set("/model/vocab/a", json!(4_000_000_000u32), "model.vocab");
    set("/model/vocab/a", json!(1), "model.vocab");
    set("/model/vocab/a", json!(-1), "(file)");
    set("/model/merges/0", json!(["a", "zzz"]), "model.merges[0]");
    set("/model/merges/1", json!(["z", "q"]), "model.merges[1]");
    set("/model/merges", json!(["a b"]), "(file)");
    set("/model", json!(null), "(file)");
    // Renamed tokens: BOS gone, a byte gone, a character of no byte, BOS as the result of a merge.
    let rename = |from: &str, to: &str, field: &str| {
        let error = changed(|json| {
            let vocab = json["model"]["vocab"].as_object_mut().unwrap();
            let id = vocab.remove(from).unwrap();
            vocab.insert(to.to_owned(), id);
        });
        assert!(error.contains(field), "{from} -> {to}: {error}");
    };
    rename(BOS, "<s>", "token 0 is");
    rename("a", "xyzzy", "no token for byte 0x61");
    let last = SMALL.inner.id_to_token(299).unwrap();
    rename(&last, "日本", "not in the byte alphabet");
    rename(&last, "", "not in the byte alphabet");
    let error = changed(|json| {
        let vocab = json["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove(&last).unwrap();
        vocab.insert("<|bos|".to_owned(), id);
        json["model"]["merges"] = json!([["<|bos|", ">"]]);
    });
    assert!(error.contains("model.merges[0]") && error.contains("makes or takes"), "{error}");
}

#[test]
fn a_panic_of_the_library_is_an_error() {
    let error = guarded::<()>("test", || panic!("as it does on some files")).unwrap_err();
    assert!(matches!(error, Error::Library { action: "test", .. }));
}
