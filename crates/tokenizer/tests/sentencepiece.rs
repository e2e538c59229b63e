//! SentencePiece's tokenizers give the ids that SentencePiece and HuggingFace's library give, and
//! damaged ones are refused.
//!
//! `fixtures/oracle/sentencepiece_tokenizers.py` made the tokenizers and the ids.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use induction_tokenizer::{Error, PretrainedTokenizer, Tokenizer, TokenizerParts};
use induction_torture::{attack, digits_changed, mutated, write};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(serde::Deserialize)]
struct Oracle {
    texts: Vec<String>,
    models: Vec<Case>,
    tokenizers: Vec<Case>,
    gguf: Vec<Gguf>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    bos: Option<u32>,
    /// In base64.
    model: Option<String>,
    tokenizer: Option<Value>,
    ids: Vec<Vec<u32>>,
}

#[derive(serde::Deserialize)]
struct Gguf {
    ids_of: (String, String),
    parts: Value,
}

static ORACLE: LazyLock<Oracle> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/oracle/sentencepiece_tokenizers.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
});

fn case(cases: &'static [Case], name: &str) -> &'static Case {
    cases.iter().find(|case| case.name == name).unwrap()
}

fn model(name: &str) -> Vec<u8> {
    STANDARD.decode(case(&ORACLE.models, name).model.as_ref().unwrap()).unwrap()
}

fn tokenizer(name: &str) -> Value {
    case(&ORACLE.tokenizers, name).tokenizer.clone().unwrap()
}

fn load(file: &str, bytes: &[u8]) -> Result<PretrainedTokenizer, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    fs::write(&path, bytes).unwrap();
    if file == "tokenizer.json" {
        PretrainedTokenizer::from_json(path)
    } else {
        PretrainedTokenizer::from_sentencepiece(path)
    }
}

fn parts(json: &Value) -> TokenizerParts {
    let list = |name: &str| json[name].as_array().unwrap().iter();
    let id = |name: &str| json[name].as_u64().map(|id| id as u32);
    let charsmap = json["precompiled_charsmap"].as_str().unwrap_or_default();
    TokenizerParts {
        model: json["model"].as_str().unwrap().to_owned(),
        tokens: list("tokens").map(|token| token.as_str().unwrap().to_owned()).collect(),
        scores: list("scores").map(|score| score.as_f64().unwrap() as f32).collect(),
        token_types: list("token_type").map(|kind| kind.as_i64().unwrap() as i32).collect(),
        add_space_prefix: json["add_space_prefix"].as_bool(),
        remove_extra_whitespaces: json["remove_extra_whitespaces"].as_bool(),
        precompiled_charsmap: STANDARD.decode(charsmap).unwrap(),
        unknown: id("unknown_token_id"),
        bos: id("bos_token_id"),
        ..TokenizerParts::default()
    }
}

fn assert_ids(of: &str, tokenizer: &PretrainedTokenizer, ids: &[Vec<u32>]) {
    let mut wrong = Vec::new();
    for (text, ids) in ORACLE.texts.iter().zip(ids) {
        let found = tokenizer.encode(text).unwrap();
        if found != *ids {
            wrong.push((text, found, ids));
        }
    }
    assert!(wrong.is_empty(), "{of}: {} differ: {:?}", wrong.len(), &wrong[..wrong.len().min(4)]);
}

#[test]
fn ids_of_tokenizer_model_are_sentencepiece_s() {
    assert!(ORACLE.texts.len() >= 60 && ORACLE.models.len() == 6);
    for case in &ORACLE.models {
        let tokenizer = load("tokenizer.model", &model(&case.name)).unwrap();
        assert_eq!(tokenizer.bos(), case.bos, "{}", case.name);
        assert_ids(&case.name, &tokenizer, &case.ids);
    }
}

#[test]
fn ids_of_tokenizer_json_are_those_of_the_python_library() {
    assert_eq!(ORACLE.tokenizers.len(), 12);
    for case in &ORACLE.tokenizers {
        let json = case.tokenizer.as_ref().unwrap().to_string();
        let tokenizer = load("tokenizer.json", json.as_bytes()).unwrap();
        assert_eq!(tokenizer.bos(), case.bos, "{}", case.name);
        assert_ids(&case.name, &tokenizer, &case.ids);
    }
}

#[test]
fn ids_of_gguf_files_are_those_of_the_same_model_elsewhere() {
    for Gguf { ids_of: (list, name), parts: json } in &ORACLE.gguf {
        let tokenizer = PretrainedTokenizer::from_parts(parts(json), "model.gguf").unwrap();
        let cases = if list == "models" { &ORACLE.models } else { &ORACLE.tokenizers };
        let case = case(cases, name);
        assert_eq!(tokenizer.bos(), json["bos_token_id"].as_u64().map(|id| id as u32), "{name}");
        assert_ids(&format!("{name} in GGUF"), &tokenizer, &case.ids);
    }
}

/// Characters of all kinds, and often those that files and algorithms treat apart.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ \u{2581}\t\r\n\u{a0}\u{3000}]{0,6}",
        "[a-zA-Z0-9']{0,8}",
        "[\u{ff01}-\u{ff5e}\u{fb01}\u{300}-\u{32f}\u{915}\u{94d}]{0,4}",
        Just("<mask>".to_owned()),
        Just("<sep>".to_owned()),
        Just("<0x41></s>\0".to_owned()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

static ALL: LazyLock<Vec<(String, PretrainedTokenizer)>> = LazyLock::new(|| {
    let models = ORACLE
        .models
        .iter()
        .map(|case| (case.name.clone(), load("tokenizer.model", &model(&case.name)).unwrap()));
    let tokenizers = ORACLE.tokenizers.iter().map(|case| {
        let json = tokenizer(&case.name).to_string();
        (case.name.clone(), load("tokenizer.json", json.as_bytes()).unwrap())
    });
    let gguf = ORACLE.gguf.iter().map(|gguf| {
        let name = format!("{} in GGUF", gguf.ids_of.1);
        (name, PretrainedTokenizer::from_parts(parts(&gguf.parts), "model.gguf").unwrap())
    });
    models.chain(tokenizers).chain(gguf).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_text_has_ids_and_keeps_its_bytes_where_all_bytes_have_tokens(text in any_text()) {
        assert_eq!(ALL.len(), 21);
        for (name, tokenizer) in &*ALL {
            let ids = tokenizer.encode(&text).unwrap();
            let decoded = tokenizer.decode_bytes(&ids).unwrap();
            let spaced = text.replace('\u{2581}', " ");
            let prefixed = format!(" {spaced}");
            match name.as_str() {
                "llama" | "llama, legacy" if !text.is_empty() => {
                    prop_assert_eq!(&decoded, prefixed.as_bytes(), "{}", name);
                }
                "gemma" | "gemma in GGUF" => {
                    prop_assert_eq!(&decoded, spaced.as_bytes(), "{}", name);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for file in ["tokenizer.model", "tokenizer.json"] {
            let error = load(file, &bytes).unwrap_err();
            prop_assert!(error.to_string().contains(&format!("{file} field ")), "{}", error);
        }
    }
}

#[test]
fn texts_are_made_of_tokens_that_read_back() {
    let tokenizer = load("tokenizer.model", &model("llama")).unwrap();
    let id = |text: &str| {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids.len(), 1, "{text}");
        ids[0]
    };
    assert_eq!(tokenizer.token_bytes(id("the")).unwrap(), b" the");
    assert!(tokenizer.reads_back(id("the")));
    // The unknown token, the start, a byte that is part of a character, and no token at all.
    let part = tokenizer.encode("\u{20000}").unwrap()[1];
    for id in [0, 1, part, 100_000] {
        assert!(!tokenizer.reads_back(id), "{id}");
    }
    let whole = (0..tokenizer.d_vocab() as u32).filter(|&id| tokenizer.reads_back(id)).count();
    assert!(whole > 400, "{whole}");
}

#[test]
fn a_model_cut_short_is_refused_wherever_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.model");
    for case in &ORACLE.models {
        let bytes = model(&case.name);
        let last = bytes.len().saturating_sub(200)..bytes.len();
        for cut in (0..bytes.len()).step_by(37).chain(last) {
            write(&path, &bytes[..cut]);
            let error = PretrainedTokenizer::from_sentencepiece(&path).unwrap_err().to_string();
            assert!(error.contains("tokenizer.model field "), "{error}");
        }
    }
    let error = load("tokenizer.model", &[]).unwrap_err().to_string();
    assert!(error.contains("field pieces: are missing"), "{error}");
}

#[test]
fn damaged_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.model");
    let originals: Vec<Vec<u8>> = ORACLE.models.iter().map(|case| model(&case.name)).collect();
    let damaged = |seed: u64| mutated(&originals[seed as usize % originals.len()], seed);
    let tally = attack("SentencePiece model", &path, damaged, |path| {
        let read = PretrainedTokenizer::from_sentencepiece(path).inspect_err(|error| {
            let named = error.to_string().contains("tokenizer.model field ");
            assert!(named && matches!(error, Error::Pretrained { .. }), "{error}");
        });
        read.inspect(check)
    });
    tally.between(0.3, 0.99);
}

/// What is accepted reads texts.
fn check(tokenizer: &PretrainedTokenizer) {
    let text = "every text: na\u{ef}ve \u{fb01} <mask> 12 \u{1f9e0}\n\0  \u{2581}is read";
    if let Ok(ids) = tokenizer.encode(text) {
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.d_vocab()));
        tokenizer.decode_bytes(&ids).unwrap();
    }
}

#[test]
fn damaged_tokenizers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let originals: Vec<String> =
        ORACLE.tokenizers.iter().map(|case| tokenizer(&case.name).to_string()).collect();
    let damaged = |seed: u64| {
        let original = originals[seed as usize % originals.len()].as_bytes();
        // Often only digits and letters change, so that it is still JSON.
        if seed.is_multiple_of(2) {
            mutated(original, seed)
        } else {
            digits_changed(original, seed)
        }
    };
    let tally = attack("SentencePiece tokenizer.json", &path, damaged, |path| {
        let read = PretrainedTokenizer::from_json(path).inspect_err(|error| {
            let named = error.to_string().contains("tokenizer.json field ");
            assert!(named && matches!(error, Error::Pretrained { .. }), "{error}");
        });
        read.inspect(check)
    });
    tally.between(0.2, 0.99);
}

/// A field of a message of Protocol Buffers: bytes.
fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut length = bytes.len();
    let mut out = vec![number << 3 | 2];
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

fn piece(content: &str, score: f32, kind: u8) -> Vec<u8> {
    let mut fields = bytes_field(1, content.as_bytes());
    fields.push(2 << 3 | 5);
    fields.extend(score.to_le_bytes());
    fields.extend([3 << 3, kind]);
    bytes_field(1, &fields)
}

#[test]
fn models_of_other_kinds_are_refused_by_field() {
    let pieces = [piece("<unk>", 0.0, 2), piece("a", -1.0, 1)].concat();
    let model = |pieces: &[u8], trainer: &[u8], normalizer: &[u8]| {
        [pieces.to_vec(), bytes_field(2, trainer), bytes_field(3, normalizer)].concat()
    };
    let unigram = load("tokenizer.model", &model(&pieces, &[], &[])).unwrap();
    assert_eq!(unigram.encode("a").unwrap(), [0, 1]);
    let with = |more: Vec<u8>| model(&[pieces.clone(), more].concat(), &[], &[]);
    for (bytes, expected) in [
        (vec![0xff; 11], "(file): has a number of more than ten bytes"),
        (vec![1 << 3 | 3], "(file): has a field of the wire type 3"),
        (vec![1 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x7f], "(file): ends within a field"),
        (vec![1 << 3, 1], "pieces[0]: is a whole number, expected bytes"),
        (pieces.clone(), "trainer_spec: is missing"),
        ([pieces.clone(), bytes_field(2, &[])].concat(), "normalizer_spec: is missing"),
        (with(piece("b", f32::NAN, 1)), "pieces[2].score: is NaN"),
        (with(piece("b", 0.0, 7)), "pieces[2].type: is 7, expected 1 to 6"),
        (with(piece("a", 0.0, 1)), "pieces[2].piece: is \"a\" again"),
        (with(piece("", 0.0, 1)), "pieces[2].piece: token 2 has 0 bytes"),
        (with(piece("<0xG0>", 0.0, 6)), "pieces[2].piece: is \"<0xG0>\", expected <0x00>"),
        (with(piece("b", 0.0, 2)), "pieces[2].type: is unknown, which another piece is"),
        (with(bytes_field(1, &bytes_field(1, &[0xff]))), "pieces[2].piece: is not UTF-8"),
        (with(bytes_field(1, &[2 << 3, 0])), "pieces[2].score: is a whole number"),
        (model(&piece("a", 0.0, 1), &[], &[]), "pieces: none has the type unknown"),
        (model(&pieces, &[3 << 3, 3], &[]), "trainer_spec.model_type: is 3, expected 1"),
        (model(&pieces, &[0xc0, 1, 1], &[]), "trainer_spec.treat_whitespace_as_suffix: is true"),
        (model(&pieces, &[0x98, 2, 1], &[]), "pieces: 0 are bytes, expected 256"),
        (
            model(&pieces, &[], &bytes_field(2, &[9, 0, 0, 0, 1])),
            "normalizer_spec.precompiled_charsmap: its 5 bytes end within the trie",
        ),
        (
            model(&pieces, &[], &bytes_field(2, &[2, 0, 0, 0, 1, 1])),
            "normalizer_spec.precompiled_charsmap: has a trie of 2 bytes",
        ),
        (
            model(
                &pieces,
                &[],
                &bytes_field(2, &[&[4, 0, 0, 0, 0, 0, 0, 0][..], &[b'x'; 300]].concat()),
            ),
            "normalizer_spec.precompiled_charsmap: has a replacement of 300 bytes",
        ),
        (
            model(&pieces, &[], &bytes_field(2, &[4, 0, 0, 0, 0, 0, 0, 0, 0xff])),
            "normalizer_spec.precompiled_charsmap: has replacements that are not UTF-8",
        ),
    ] {
        let error = load("tokenizer.model", &bytes).unwrap_err().to_string();
        let named = format!("tokenizer.model field {expected}");
        assert!(error.contains(&named) && error.contains("`--tokens FILE` with ids"), "{error}");
    }
}

#[test]
fn tokenizers_of_other_kinds_are_refused_by_field() {
    let prepend = json!({"type": "Prepend", "prepend": "x".repeat(17)});
    let thirds =
        json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaaaaaaaa"});
    let regex = json!({"type": "Replace", "pattern": {"Regex": "(a|a)*b"}, "content": ""});
    for (name, pointer, value, expected) in [
        ("llama, legacy", "/model/unk_token", json!("<x>"), "model.unk_token: is \"<x>\""),
        ("llama, legacy", "/model/dropout", json!(0.1), "model.dropout: is set"),
        ("llama, legacy", "/model/vocab", json!([["a", 1.0]]), "model.vocab: is a list (Unigram)"),
        ("llama, legacy", "/model/merges/3", json!(["q", "qq"]), "model.merges[3]: \"qq"),
        ("llama, legacy", "/normalizer", prepend, "normalizer.prepend: is Some(\"xxx"),
        (
            "llama, legacy",
            "/normalizer/normalizers",
            json!([thirds, thirds, thirds]),
            "normalizer: its steps may make a text more than 1024 times as long",
        ),
        (
            "llama, legacy",
            "/normalizer/normalizers/1",
            regex,
            "normalizer.normalizers[1].pattern: is Some(Regex(\"(a|a)*b\")), expected a String",
        ),
        (
            "llama, legacy",
            "/normalizer/normalizers/1/type",
            json!("StripAccents"),
            "normalizer.normalizers[1]: has \"StripAccents\", expected NFC",
        ),
        (
            "llama, first",
            "/pre_tokenizer/replacement",
            json!("_"),
            "pre_tokenizer[0].replacement: is Some(\"_\")",
        ),
        (
            "llama, first",
            "/pre_tokenizer/prepend_scheme",
            json!("last"),
            "pre_tokenizer[0].prepend_scheme: is Some(\"last\")",
        ),
        (
            "t5, older",
            "/pre_tokenizer/pretokenizers/0",
            json!({"type": "Metaspace", "replacement": "\u{2581}"}),
            "pre_tokenizer[1]: is \"Metaspace\" after Metaspace",
        ),
        (
            "t5, older",
            "/pre_tokenizer/pretokenizers/0/type",
            json!("Whitespace"),
            "pre_tokenizer[0].type: is \"Whitespace\", expected Metaspace",
        ),
        (
            "gemma",
            "/pre_tokenizer/behavior",
            json!("Removed"),
            "pre_tokenizer[0]: is a Split at Some(\" \"), behavior Some(\"Removed\")",
        ),
        ("t5", "/model/unk_id", json!(100_000), "model.unk_id: is Some(100000)"),
        ("t5", "/model/vocab", json!({"a": 1}), "model.vocab: is a map"),
        ("t5", "/model/vocab/5/0", json!("</s>"), "model.vocab[5]: is token 1 again"),
        ("t5", "/model/vocab/5/1", json!("x"), "(file): invalid type"),
        (
            "t5",
            "/normalizer/normalizers/0/precompiled_charsmap",
            json!("?"),
            "normalizer.normalizers[0].precompiled_charsmap: is not base64",
        ),
        (
            "t5",
            "/normalizer/normalizers/0/precompiled_charsmap",
            json!(null),
            "normalizer.normalizers[0].precompiled_charsmap: is missing",
        ),
    ] {
        let mut json = tokenizer(name);
        *json.pointer_mut(pointer).unwrap() = value;
        let error = load("tokenizer.json", json.to_string().as_bytes()).unwrap_err().to_string();
        let named = format!("tokenizer.json field {expected}");
        assert!(error.contains(&named) && error.contains("`--tokens FILE` with ids"), "{error}");
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    type Change = &'static dyn Fn(&mut TokenizerParts);
    let cases: [(usize, Change, &str); 9] = [
        (0, &|parts| parts.scores.truncate(3), "scores: 3 scores of 600 tokens"),
        (0, &|parts| parts.scores[7] = f32::INFINITY, "scores[7]: is inf"),
        (0, &|parts| parts.tokens[9] = "<s>".into(), "tokens[9]: is token 1 again"),
        (0, &|parts| parts.tokens[9] = String::new(), "tokens[9]: token 9 has 0 bytes"),
        (0, &|parts| parts.token_types[300] = 6, "tokens[300]: is "),
        (0, &|parts| parts.token_types[9] = 7, "token_type[9]: is 7, expected 1 to 6"),
        (0, &|parts| parts.unknown = Some(600), "unknown_token_id: is Some(600), expected below"),
        (
            0,
            &|parts| *parts = TokenizerParts { model: "llama".into(), ..Default::default() },
            "tokens: 0 tokens",
        ),
        (
            2,
            &|parts| parts.precompiled_charsmap.truncate(9),
            "precompiled_charsmap: its 9 bytes end",
        ),
    ];
    for (k, change, expected) in cases {
        let mut parts = parts(&ORACLE.gguf[k].parts);
        change(&mut parts);
        let error = PretrainedTokenizer::from_parts(parts, "some/model.gguf").unwrap_err();
        let named = format!("tokenizer some/model.gguf field tokenizer.ggml.{expected}");
        assert!(error.to_string().contains(&named), "{error}");
    }
}

#[test]
fn a_long_word_takes_no_time() {
    // As one word: nothing may be quadratic in it.
    let text = "ab".repeat(100_000);
    for (name, tokenizer) in &*ALL {
        let begun = std::time::Instant::now();
        let ids = tokenizer.encode(&text).unwrap();
        assert!(!ids.is_empty());
        assert!(begun.elapsed().as_secs() < 10, "{name}: {:?}", begun.elapsed());
    }
}
