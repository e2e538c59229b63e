//! Mutated tokenizers of pretrained models: each is read or refused with an error that names file
//! and field.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use induction_random::stream;
use induction_tokenizer::{Error, PretrainedTokenizer, Tokenizer, TokenizerParts};
use induction_torture::{TIMES, Tally, attack, bounded, cases, memory_limit, mutated};
use rand::Rng;
use serde_json::{Value, json};

/// Replaces a value somewhere in a document, near the root as often as deep in it.
fn transplant(root: &mut Value, random: &mut impl Rng) {
    let mut at = root;
    loop {
        let stop = random.random_range(0..4u32) == 0;
        let inside = match at {
            Value::Object(map) => map.len(),
            Value::Array(list) => list.len(),
            _ => 0,
        };
        if stop || inside == 0 {
            *at = match random.random_range(0..16u32) {
                0 => Value::Null,
                1 => json!(true),
                2 => json!(false),
                3 => json!(random.random_range(0..400u32)),
                4 => json!(-1),
                5 => json!(u64::MAX),
                6 => json!(1e300),
                7 => json!(""),
                8 => json!("a"),
                9 => json!("\u{120} t"),
                10 => json!("<|endoftext|>"),
                11 => json!([]),
                12 => json!({}),
                13 => json!({"type": "ByteLevel", "add_prefix_space": true}),
                14 => {
                    json!({"type": "Sequence", "pretokenizers": [], "processors": [], "normalizers": []})
                }
                _ => json!("x".repeat(5000)),
            };
            return;
        }
        let k = random.random_range(0..inside);
        at = match at {
            Value::Object(map) => map.values_mut().nth(k).unwrap(),
            other => &mut other[k],
        };
    }
}

const TEXT: &str = "every text: naïve <|endoftext|> 1234 \u{1f9e0}\n\n\0 is read   or refused";

/// What is accepted reads texts, or says which character it has no token for.
fn check(tokenizer: &PretrainedTokenizer) {
    match tokenizer.encode(TEXT) {
        Ok(ids) => {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.d_vocab()));
            let bytes = tokenizer.decode_bytes(&ids).unwrap();
            // A prefix space may have been put before pieces.
            let visible = |bytes: &[u8]| {
                bytes.iter().copied().filter(|&byte| byte != b' ').collect::<Vec<u8>>()
            };
            assert_eq!(visible(&bytes), visible(TEXT.as_bytes()));
        }
        Err(error) => assert!(matches!(error, Error::UnknownCharacter { .. }), "{error}"),
    }
    if let Some(bos) = tokenizer.bos() {
        tokenizer.token_text(bos).unwrap();
    }
}

fn pretrained() -> Vec<Value> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/oracle/pretrained_tokenizers.json");
    let json = fs::read(fixture).unwrap();
    let mut oracle: Value = serde_json::from_slice(&json).unwrap();
    oracle["tokenizers"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .map(|case| case["tokenizer"].take())
        .collect()
}

#[test]
fn pretrained_tokenizers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let originals = pretrained();
    let damaged = |seed: u64| {
        let original = &originals[seed as usize % originals.len()];
        // Half of them are still JSON.
        if seed.is_multiple_of(2) {
            return mutated(original.to_string().as_bytes(), seed);
        }
        let mut random = stream(seed, "transplant", 0);
        let mut value = original.clone();
        for _ in 0..random.random_range(1..=3u32) {
            transplant(&mut value, &mut random);
        }
        value.to_string().into_bytes()
    };
    let tally = attack("pretrained tokenizer", &path, damaged, |path| {
        let read = PretrainedTokenizer::from_json(path).inspect_err(|error| {
            let named = error.to_string().contains("tokenizer.json field ");
            assert!(named && matches!(error, Error::Pretrained { .. }), "{error}");
        });
        read.inspect(check)
    });
    tally.between(0.6, 0.99);
}

#[test]
fn parts_of_gguf_files() {
    let mut tokens = vec!["<|endoftext|>".to_owned()];
    let model = pretrained().into_iter().next().unwrap()["model"].take();
    let vocab = model["vocab"].as_object().unwrap();
    tokens.resize(vocab.len(), String::new());
    for (token, id) in vocab {
        tokens[id.as_u64().unwrap() as usize].clone_from(token);
    }
    let merges: Vec<String> = model["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| merge.as_str().unwrap().to_owned())
        .collect();
    let mut types = vec![1; tokens.len()];
    types[0] = 3;
    let mut refused = 0;
    let of = cases("tokenizer of a GGUF file", TIMES, |seed| {
        let mut random = stream(seed, "parts", 0);
        let mut parts = TokenizerParts {
            model: "gpt2".to_owned(),
            tokens: tokens.clone(),
            merges: merges.clone(),
            token_types: types.clone(),
            pre: ["gpt-2", "smollm", "qwen2", "llama-bpe"][seed as usize % 4].to_owned(),
            bos: Some(0),
            add_bos: None,
            ..TokenizerParts::default()
        };
        for _ in 0..random.random_range(1..=3u32) {
            let (at, to) =
                (random.random_range(0..tokens.len()), random.random_range(0..tokens.len()));
            let merge = random.random_range(0..merges.len());
            let there = at % parts.tokens.len();
            let change = random.random_range(0..13u32);
            match change {
                0 => parts.tokens[there].push('\u{2581}'),
                1 => parts.tokens[there] = tokens[to].clone(),
                2 => parts.tokens.swap(there, 0),
                3 => parts.tokens.truncate(to.max(1)),
                4 => parts.merges[merge] = mutated_text(&merges[merge], seed),
                5 => parts.merges.swap(merge, 0),
                6 => parts.merges[merge] = format!("{} {}", tokens[at], tokens[to]),
                7 => parts.token_types = vec![],
                8 => parts.token_types = vec![random.random_range(-2..8); tokens.len()],
                9 => parts.pre = mutated_text(&parts.pre, seed),
                10 => parts.bos = Some(random.random()),
                11 => parts.tokens[there] = "y".repeat(random.random_range(0..2000)),
                _ => {
                    if let Some(kind) = parts.token_types.get_mut(at) {
                        *kind = random.random_range(-1..7);
                    }
                }
            }
        }
        let size = parts.tokens.iter().chain(&parts.merges).map(String::len).sum();
        let read = bounded(memory_limit(size), || {
            PretrainedTokenizer::from_parts(parts, "some/model.gguf").inspect(check)
        });
        if let Err(error) = read {
            let named =
                error.to_string().starts_with("tokenizer some/model.gguf field tokenizer.ggml.");
            assert!(named && matches!(error, Error::Pretrained { .. }), "{error}");
            refused += 1;
        }
    });
    Tally { refused, of }.between(0.5, 0.99);
}

fn mutated_text(text: &str, seed: u64) -> String {
    String::from_utf8_lossy(&mutated(text.as_bytes(), seed)).into_owned()
}
