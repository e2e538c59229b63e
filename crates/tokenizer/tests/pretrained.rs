//! Tokenizers of pretrained models give the ids that HuggingFace's library gives, and what is not
//! one is refused.
//!
//! `fixtures/oracle/pretrained_tokenizers.py` made the tokenizers and the ids.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use induction_tokenizer::{
    BpeTokenizer, Document, Error, PretrainedTokenizer, Tokenizer, TokenizerParts,
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(serde::Deserialize)]
struct Oracle {
    texts: Vec<String>,
    tokenizers: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    pre: Option<String>,
    bos: u32,
    tokenizer: Value,
    ids: Vec<Vec<u32>>,
}

static ORACLE: LazyLock<Oracle> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/oracle/pretrained_tokenizers.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
});

fn case(name: &str) -> &'static Case {
    ORACLE.tokenizers.iter().find(|case| case.name == name).unwrap()
}

/// Reads a `tokenizer.json`, with a `tokenizer_config.json` beside it if there is one.
fn load(tokenizer: &Value, config: Option<Value>) -> Result<PretrainedTokenizer, Error> {
    let folder = tempfile::tempdir().unwrap();
    if let Some(config) = config {
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    }
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, tokenizer.to_string()).unwrap();
    PretrainedTokenizer::from_json(path)
}

impl Case {
    /// As a converter to GGUF would write it.
    fn parts(&self) -> Option<TokenizerParts> {
        let model = &self.tokenizer["model"];
        let added = self.tokenizer["added_tokens"].as_array().unwrap();
        let mut tokens: Vec<(u64, String, i32)> = model["vocab"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, id)| (id.as_u64().unwrap(), k.clone(), 1))
            .collect();
        for token in added {
            let id = token["id"].as_u64().unwrap();
            tokens.retain(|(other, ..)| *other != id);
            let kind = if token["special"] == true { 3 } else { 4 };
            tokens.push((id, token["content"].as_str().unwrap().to_owned(), kind));
        }
        tokens.sort();
        assert!(tokens.iter().zip(0..).all(|((id, ..), k)| *id == k));
        let merge = |merge: &Value| match merge {
            Value::String(text) => text.clone(),
            pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
        };
        Some(TokenizerParts {
            model: "gpt2".to_owned(),
            merges: model["merges"].as_array().unwrap().iter().map(merge).collect(),
            token_types: tokens.iter().map(|(.., kind)| *kind).collect(),
            tokens: tokens.into_iter().map(|(_, token, _)| token).collect(),
            pre: self.pre.clone()?,
            bos: Some(self.bos),
            add_bos: None,
            ..TokenizerParts::default()
        })
    }

    fn gguf(&self) -> Option<PretrainedTokenizer> {
        self.parts().map(|parts| PretrainedTokenizer::from_parts(parts, "model.gguf").unwrap())
    }
}

#[test]
fn ids_are_those_of_the_python_library() {
    assert!(ORACLE.texts.len() >= 30 && ORACLE.tokenizers.len() == 9);
    for case in &ORACLE.tokenizers {
        let from_json = load(&case.tokenizer, None).unwrap();
        for tokenizer in std::iter::once(from_json).chain(case.gguf()) {
            assert_eq!(tokenizer.bos(), Some(case.bos), "{}", case.name);
            for (text, ids) in ORACLE.texts.iter().zip(&case.ids) {
                assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{} {text:?}", case.name);
            }
        }
    }
    assert_eq!(ORACLE.tokenizers.iter().filter(|case| case.pre.is_some()).count(), 5);
}

#[test]
fn gpt_2_s_own_two_files_are_read() {
    let case = case("gpt-2");
    let folder = tempfile::tempdir().unwrap();
    let [vocab, merges] = ["vocab.json", "merges.txt"].map(|name| folder.path().join(name));
    fs::write(&vocab, case.tokenizer["model"]["vocab"].to_string()).unwrap();
    let lines = case.parts().unwrap().merges.join("\n");
    fs::write(&merges, format!("#version: 0.2\n{lines}\n")).unwrap();
    let tokenizer = PretrainedTokenizer::from_gpt2_files(&vocab, &merges).unwrap();
    assert_eq!(tokenizer.bos(), Some(case.bos));
    for (text, ids) in ORACLE.texts.iter().zip(&case.ids) {
        assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{text:?}");
    }
    let refused = |vocab_text: &str, merges_text: &str| {
        let (vocab, merges) = (folder.path().join("v.json"), folder.path().join("m.txt"));
        fs::write(&vocab, vocab_text).unwrap();
        fs::write(&merges, merges_text).unwrap();
        PretrainedTokenizer::from_gpt2_files(vocab, merges).unwrap_err().to_string()
    };
    let small = r#"{"a": 0, "b": 1, "ab": 2}"#;
    for (vocab, merges, expected) in [
        ("[]", "", "v.json field (file): a list"),
        ("{", "", "v.json field (file): EOF"),
        (r#"{"a": 0, "a": 1}"#, "", "v.json field (file): a token has the ids 0 and 1"),
        (r#"{"a": 0, "b": 0}"#, "", "v.json field (vocab): id 0 is used twice"),
        (
            r#"{"a": 0, "▁b": 1}"#,
            "",
            "v.json field (vocab): token 1 (\"▁b\") is not in the byte alphabet",
        ),
        (r#"{"a": 1048576}"#, "", "v.json field (vocab): id 1048576"),
        ("{}", "", "v.json field (vocab): 0 tokens"),
        (
            small,
            "#version: 0.2\na b\na b c\n",
            "m.txt field line 3: is \"a b c\", expected two tokens",
        ),
        (small, "a ab", "m.txt field (merges)[0]: \"aab\" is not a token"),
    ] {
        let error = refused(vocab, merges);
        assert!(error.contains(expected) && error.contains("`--tokens FILE`"), "{error}");
    }
    assert!(matches!(
        PretrainedTokenizer::from_gpt2_files("/nowhere/v", "/nowhere/m"),
        Err(Error::Io { .. })
    ));
}

/// Text as hostile as it gets: every character, and often those that patterns and formats treat
/// apart.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ \t\r\n\u{85}\u{a0}\u{2028}\u{3000}]{0,6}",
        "[a-zA-Z']{0,8}",
        "[0-9\u{660}\u{bd}]{0,5}",
        Just("<|endoftext|>".to_owned()),
        Just("\0".to_owned()),
        Just("e\u{301}".to_owned()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

type Loaded = (PretrainedTokenizer, HashSet<u32>);

static EXACT: LazyLock<Vec<Loaded>> = LazyLock::new(|| {
    let exact = ORACLE.tokenizers.iter().filter(|case| {
        case.tokenizer["normalizer"].is_null()
            && !case.tokenizer["pre_tokenizer"].to_string().contains("space\":true")
    });
    let both = exact.flat_map(|case| {
        let added = case.tokenizer["added_tokens"].as_array().unwrap().iter();
        let special = added
            .filter(|token| token["special"] == true)
            .map(|token| token["id"].as_u64().unwrap() as u32);
        let special: HashSet<u32> = special.collect();
        let from_json = load(&case.tokenizer, None).unwrap();
        std::iter::once(from_json)
            .chain(case.gguf())
            .map(move |tokenizer| (tokenizer, special.clone()))
    });
    both.collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn every_text_comes_back(text in any_text()) {
        assert_eq!(EXACT.len(), 8);
        for (tokenizer, special) in &*EXACT {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert!(!ids.iter().any(|id| special.contains(id)));
            prop_assert_eq!(tokenizer.decode_bytes(&ids).unwrap(), text.as_bytes());
        }
    }
}

#[test]
fn the_trait_is_one_for_both_kinds() {
    let document = |id: &str| Document {
        id: id.to_owned(),
        text: "the cat sat on the mat, the cat ".repeat(5),
    };
    let ours = BpeTokenizer::train(&[document("a")], 262).unwrap();
    let theirs = load(&case("gpt-neox").tokenizer, None).unwrap();
    let both: [&dyn Tokenizer; 2] = [&ours, &theirs];
    for tokenizer in both {
        let ids = tokenizer.encode("the café  cat").unwrap();
        assert_eq!(tokenizer.decode_bytes(&ids).unwrap(), "the café  cat".as_bytes());
        assert_eq!(tokenizer.bos(), Some(0));
        assert_eq!(tokenizer.token_text(tokenizer.encode("€").unwrap()[0]).unwrap(), "\\xe2");
        let d_vocab = tokenizer.d_vocab();
        let error = tokenizer.token_bytes(d_vocab as u32).unwrap_err();
        assert!(matches!(error, Error::UnknownToken { d_vocab: d, .. } if d == d_vocab));
    }
    assert_eq!(ours.encode("the cat"), Tokenizer::encode(&ours, "the cat").unwrap());
    // Special tokens and runs of spaces are what they are called.
    assert_eq!(theirs.token_text(0).unwrap(), "<|endoftext|>");
    assert_eq!(theirs.token_bytes(theirs.encode("x    y").unwrap()[1]).unwrap(), b"    ");
}

#[test]
fn a_model_needs_a_row_for_each_token() {
    let mut tokenizer = load(&case("qwen2").tokenizer, None).unwrap();
    assert_eq!(tokenizer.d_vocab(), 332);
    // The last are special, and no text gives them.
    for d_vocab in [384, 332, 331] {
        assert_eq!(tokenizer.fit(d_vocab).unwrap(), 0);
    }
    let error = tokenizer.fit(200).unwrap_err().to_string();
    assert!(error.contains("but the model's vocabulary is 0..200"), "{error}");
    assert!(error.contains("a tokenizer that doesn't fit the vocabulary"), "{error}");
}

#[test]
fn a_character_without_a_token_is_an_error() {
    // SmolLM2 lacks ten bytes; HuggingFace's library drops what has them.
    let mut parts = case("smollm").parts().unwrap();
    let at = parts.tokens.iter().position(|token| token == "Ą").unwrap();
    parts.token_types[at] = 5;
    let tokenizer = PretrainedTokenizer::from_parts(parts, "model.gguf").unwrap();
    assert!(tokenizer.encode("a\u{3}b").is_ok());
    let error = tokenizer.encode("a\u{4}b").unwrap_err();
    assert!(matches!(error, Error::UnknownCharacter { character: '\u{4}' }), "{error}");
}

#[test]
fn what_begins_a_sequence_follows_the_rule() {
    // llama-bpe: the template's, whatever the configuration says.
    let llama = case("llama-bpe");
    assert_eq!(
        load(&llama.tokenizer, Some(json!({"bos_token": null}))).unwrap().bos(),
        Some(llama.bos)
    );
    let two = &case("smollm").tokenizer;
    let start = load(two, None).unwrap().bos().unwrap() + 1;
    let bos = |config: Value| load(two, Some(config)).unwrap().bos();
    assert_eq!(bos(json!({"add_bos_token": true, "bos_token": "<|im_start|>"})), Some(start));
    assert_eq!(
        bos(json!({"add_bos_token": true, "bos_token": {"content": "<|im_start|>"}})),
        Some(start)
    );
    assert_eq!(bos(json!({"add_bos_token": false, "bos_token": "<|im_start|>"})), Some(start - 1));
    assert_eq!(bos(json!({"bos_token": null, "add_bos_token": null})), Some(start - 1));
    // Without `<|endoftext|>`: what is called BOS, or nothing.
    let mut none = llama.tokenizer.clone();
    none["post_processor"] = Value::Null;
    assert_eq!(load(&none, None).unwrap().bos(), None);
    assert_eq!(load(&none, Some(json!({"bos_token": "<s>"}))).unwrap().bos(), Some(llama.bos));
    let error = load(&none, Some(json!({"bos_token": "<x>", "add_bos_token": true})))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokenizer_config.json field bos_token: \"<x>\" is not a token"),
        "{error}"
    );
    // GGUF files have the same rule.
    let bos = |pre: &str, add_bos, bos| {
        let parts = TokenizerParts { add_bos, bos, ..case(pre).parts().unwrap() };
        PretrainedTokenizer::from_parts(parts, "model.gguf").unwrap().bos()
    };
    assert_eq!(bos("smollm", Some(true), Some(start)), Some(start));
    assert_eq!(bos("smollm", Some(false), Some(start)), Some(start - 1));
    assert_eq!(bos("smollm", None, None), Some(start - 1));
    assert_eq!(bos("llama-bpe", None, Some(llama.bos)), Some(llama.bos));
    assert_eq!(bos("llama-bpe", Some(false), None), None);
}

/// A `tokenizer.json` of the name with the value at a pointer replaced; the error.
fn changed(name: &str, pointer: &str, value: Value) -> String {
    let mut tokenizer = case(name).tokenizer.clone();
    *tokenizer.pointer_mut(pointer).unwrap() = value;
    load(&tokenizer, None).unwrap_err().to_string()
}

/// What makes a text of ids has no say in what makes ids of a text.
#[test]
fn a_decoder_does_not_matter() {
    let case = case("qwen2");
    for decoder in [Value::Null, json!({"type": "Metaspace"})] {
        let mut tokenizer = case.tokenizer.clone();
        tokenizer["decoder"] = decoder;
        let tokenizer = load(&tokenizer, None).unwrap();
        for (text, ids) in ORACLE.texts.iter().zip(&case.ids) {
            assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{text:?}");
        }
    }
}

#[test]
fn other_kinds_are_refused_by_field() {
    let endless = json!({"type": "Split", "pattern": {"Regex": "(a|a)*b"}, "behavior": "Isolated", "invert": false});
    for (name, pointer, value, expected) in [
        (
            "qwen2",
            "/model/type",
            json!("Unigram"),
            "field model.vocab: is a map, expected a list of pieces",
        ),
        ("qwen2", "/model/type", json!("WordPiece"), "field model.type: is \"WordPiece\""),
        ("gpt-2", "/model/vocab", json!([["a", -1.5]]), "field model.vocab: is a list (Unigram)"),
        (
            "qwen2",
            "/model/byte_fallback",
            json!(true),
            "field pre_tokenizer[0]: is a Split at None",
        ),
        ("qwen2", "/model/dropout", json!(0.1), "field model.dropout"),
        ("qwen2", "/model/end_of_word_suffix", json!("</w>"), "field model.end_of_word_suffix"),
        (
            "qwen2",
            "/model/continuing_subword_prefix",
            json!("##"),
            "field model.continuing_subword_prefix",
        ),
        (
            "qwen2",
            "/normalizer",
            json!({"type": "BertNormalizer"}),
            "field normalizer: has \"BertNormalizer\", expected NFC, NFD",
        ),
        (
            "qwen2",
            "/pre_tokenizer",
            json!({"type": "Metaspace"}),
            "field pre_tokenizer: does not end in ByteLevel",
        ),
        ("qwen2", "/pre_tokenizer", Value::Null, "field pre_tokenizer"),
        (
            "qwen2",
            "/pre_tokenizer/pretokenizers/0",
            endless,
            "field pre_tokenizer.pretokenizers[0].pattern: is Some(\"(a|a)*b\")",
        ),
        (
            "qwen2",
            "/pre_tokenizer/pretokenizers/0/behavior",
            json!("Removed"),
            "field pre_tokenizer.pretokenizers[0]",
        ),
        (
            "qwen2",
            "/pre_tokenizer/pretokenizers/0/type",
            json!("Punctuation"),
            "pretokenizers[0].type: is \"Punctuation\"",
        ),
        (
            "qwen2",
            "/added_tokens/0/id",
            json!(0),
            "field added_tokens[0]: \"<|endoftext|>\" with id 0 contradicts",
        ),
        (
            "qwen2",
            "/added_tokens/0/id",
            json!(u32::MAX),
            "field added_tokens[0]: id 4294967295, expected below",
        ),
        ("qwen2", "/added_tokens/1/content", json!("<|endoftext|>"), "field added_tokens[1]"),
        (
            "qwen2",
            "/added_tokens/1/content",
            json!(""),
            "field added_tokens[1]: token 331 has 0 bytes",
        ),
        (
            "qwen2",
            "/added_tokens/1/content",
            json!("x".repeat(1025)),
            "field added_tokens[1]: token 331 has 1025 bytes",
        ),
        (
            "gpt-2",
            "/model/merges/3",
            json!("Ġ t x"),
            "field model.merges[3]: is \"Ġ t x\", expected two tokens",
        ),
        (
            "gpt-2",
            "/model/merges/3",
            json!("q x"),
            "field model.merges[3]: \"qx\" is not a token that texts can have",
        ),
        (
            "llama-bpe",
            "/post_processor/processors/1/special_tokens/<s>/ids",
            json!([5]),
            "field post_processor: begins with",
        ),
        (
            "llama-bpe",
            "/post_processor/processors/1/special_tokens/<s>/ids",
            json!([1, 2]),
            "field post_processor",
        ),
    ] {
        let error = changed(name, pointer, value);
        assert!(error.contains(expected), "{error}");
        assert!(
            error.contains("tokenizer.json field") && error.contains("`--tokens FILE` with ids"),
            "{error}"
        );
    }
}

#[test]
fn an_error_quotes_no_megabytes() {
    let error = changed("qwen2", "/model/type", json!("x".repeat(1 << 20)));
    assert!(error.len() < 1000);
}

#[test]
fn no_merge_makes_a_special_token() {
    // `ignore_merges` would give the whole text, and the last merge its end.
    let mut tokenizer = case("no words").tokenizer.clone();
    tokenizer["model"]["ignore_merges"] = json!(true);
    let loaded = load(&tokenizer, None).unwrap();
    assert!(!loaded.encode("<|endoftext|>").unwrap().contains(&0));
    let merges = tokenizer["model"]["merges"].as_array_mut().unwrap();
    merges.push(json!(["<|endoftext|", ">"]));
    let error = load(&tokenizer, None).unwrap_err().to_string();
    assert!(error.contains("\"<|endoftext|\" is not a token that texts can have"), "{error}");
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let refused = |change: &dyn Fn(&mut TokenizerParts)| {
        let mut parts = case("smollm").parts().unwrap();
        change(&mut parts);
        PretrainedTokenizer::from_parts(parts, PathBuf::from("some/model.gguf"))
            .unwrap_err()
            .to_string()
    };
    type Change = &'static dyn Fn(&mut TokenizerParts);
    let cases: [(Change, &str); 10] = [
        (&|parts| parts.merges.clear(), "merges: is missing or empty"),
        (
            &|parts| parts.pre = "default".into(),
            "pre: \"default\" is not known, expected one of gpt-2, mpt",
        ),
        (&|parts| parts.model = "bert".into(), "model: is \"bert\", expected gpt2, llama or t5"),
        (&|parts| parts.token_types.truncate(3), "token_type: 3 types of 330 tokens"),
        (&|parts| parts.token_types[9] = 6, "token_type[9]: is 6"),
        (&|parts| parts.tokens[9] = "!".into(), "is token"),
        (
            &|parts| parts.tokens[1] = "<|endoftext|>".into(),
            "tokens[1]: \"<|endoftext|>\" with id 1 contradicts",
        ),
        (
            &|parts| parts.tokens[300] = "▁the".into(),
            "tokens: token 300 (\"▁the\") is not in the byte alphabet",
        ),
        (&|parts| parts.merges[2] = "ab".into(), "merges[2]: is \"ab\", expected two tokens"),
        (&|parts| parts.tokens.clear(), "token_type: 330 types of 0 tokens"),
    ];
    for (change, expected) in cases {
        let error = refused(change);
        assert!(error.starts_with("tokenizer some/model.gguf field tokenizer.ggml."), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_start_token_that_there_is_not_begins_nothing() {
    let mut parts = case("smollm").parts().unwrap();
    (parts.bos, parts.add_bos) = (Some(u32::MAX), Some(true));
    let tokenizer = PretrainedTokenizer::from_parts(parts, "model.gguf").unwrap();
    assert_eq!(tokenizer.bos(), Some(case("smollm").bos), "<|endoftext|>, as without");
}

/// A folder with GPT-2's two files, and what may lie beside them.
fn folder_of_two_files(beside: &[(&str, Value)]) -> Result<PretrainedTokenizer, Error> {
    let case = case("gpt-2");
    let folder = tempfile::tempdir().unwrap();
    let [vocab, merges] = ["vocab.json", "merges.txt"].map(|name| folder.path().join(name));
    fs::write(&vocab, case.tokenizer["model"]["vocab"].to_string()).unwrap();
    fs::write(&merges, case.parts().unwrap().merges.join("\n")).unwrap();
    for (name, content) in beside {
        fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    PretrainedTokenizer::from_gpt2_files(&vocab, &merges)
}

#[test]
fn what_lies_beside_a_vocabulary_is_read() {
    let tokens = |tokenizer: &PretrainedTokenizer, text: &str| -> Vec<String> {
        let ids = tokenizer.encode(text).unwrap();
        ids.into_iter().map(|id| tokenizer.token_text(id).unwrap()).collect()
    };
    let config = |content: Value| [("tokenizer_config.json", content)];
    let plain = folder_of_two_files(&[]).unwrap();
    // OPT's start token is another one than GPT-2's, and put first.
    let begun =
        json!({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": true, "bos_token": "!"});
    let begun = folder_of_two_files(&config(begun)).unwrap();
    assert_eq!(begun.bos(), Some(plain.encode("!").unwrap()[0]));
    assert!(begun.encode("!").is_err(), "no text gives it");
    // Tokens of its own, by either file; what is named is special.
    let n = plain.d_vocab() as u32;
    let added = [
        ("added_tokens.json", json!({"<pad>": n, "quick": n + 1})),
        (
            "tokenizer_config.json",
            json!({
                "pad_token": "<pad>",
                "added_tokens_decoder": {(n + 2).to_string(): {"content": "brown", "special": false}},
            }),
        ),
    ];
    let tokenizer = folder_of_two_files(&added).unwrap();
    assert_eq!(tokenizer.encode("quickbrown").unwrap(), [n + 1, n + 2]);
    assert_eq!(tokenizer.encode("<pad>").unwrap(), plain.encode("<pad>").unwrap());
    // A model may have no embeddings for them: then texts are read without, and how many is said.
    let mut fitted = folder_of_two_files(&added).unwrap();
    assert_eq!(fitted.fit(n as usize).unwrap(), 2);
    assert_eq!(fitted.encode("quickbrown").unwrap(), plain.encode("quickbrown").unwrap());
    assert!(!fitted.reads_back(n + 1) && fitted.reads_back(5));
    assert!(fitted.fit(n as usize - 1).is_err());
    // A space before, and digits one by one, as the configuration and the class say.
    let spaced = folder_of_two_files(&config(json!({"add_prefix_space": true}))).unwrap();
    assert_eq!(spaced.encode("the").unwrap(), plain.encode(" the").unwrap());
    let qwen =
        folder_of_two_files(&config(json!({"tokenizer_class": "Qwen2TokenizerFast"}))).unwrap();
    assert_eq!(tokens(&qwen, "x 12"), ["x", " ", "1", "2"]);
    let error = folder_of_two_files(&config(json!({"tokenizer_class": "RobertaTokenizer"})));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("tokenizer_class: is \"Roberta") && error.contains("save_pretrained"),
        "{error}"
    );
    // The same beside a tokenizer.json.
    let case = case("gpt-2");
    let more = json!({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": true, "added_tokens_decoder": {n.to_string(): {"content": "quick"}}});
    let tokenizer = load(&case.tokenizer, Some(more)).unwrap();
    assert_eq!(tokenizer.encode("quick").unwrap(), [n]);
    assert_eq!(tokenizer.encode("the").unwrap(), plain.encode(" the").unwrap());
}

#[test]
fn a_file_of_a_gigabyte_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let error = PretrainedTokenizer::from_json(&path).unwrap_err().to_string();
    assert!(error.contains("field (file): larger than"), "{error}");
}
