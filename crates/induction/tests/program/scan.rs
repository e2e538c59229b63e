//! `induction scan` on models of every kind, through the real binary.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::common::{TINY, fail, fixtures, induction, spec, succeed};
use safetensors::SafeTensors;
use serde_json::Value;

fn pretrained(name: &str) -> PathBuf {
    let folder = fixtures().join("oracle/pretrained").join(name);
    let file = folder.join("model.gguf");
    if file.exists() { file } else { folder }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Losses of the first example of an oracle, by its logits.
fn expected(name: &str) -> (Vec<u32>, Vec<f64>) {
    let bytes =
        fs::read(fixtures().join("oracle/pretrained").join(name).join("expected.safetensors"))
            .unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (tokens, logits) = (file.tensor("tokens").unwrap(), file.tensor("logits").unwrap());
    let (used, d_vocab) = (tokens.shape()[1], logits.shape()[2]);
    let ids: Vec<u32> = tokens
        .data()
        .as_chunks()
        .0
        .iter()
        .take(used)
        .map(|&b| i64::from_le_bytes(b) as u32)
        .collect();
    let logits: Vec<f64> =
        logits.data().as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect();
    let loss = |at: usize| {
        let row = &logits[at * d_vocab..(at + 1) * d_vocab];
        row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[ids[at + 1] as usize]
    };
    let losses = (0..used - 1).map(loss).collect();
    (ids, losses)
}

#[test]
fn losses_of_pretrained_models_are_the_libraries() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("ids.json");
    for name in ["gpt2_hub", "neox_parallel", "qwen2", "lens_attn_only_shortformer", "llama_k_gguf"]
    {
        let (ids, losses) = expected(name);
        fs::write(&tokens, serde_json::to_string(&ids).unwrap()).unwrap();
        let mut scan = induction();
        scan.args(["--json", "scan"])
            .arg(pretrained(name))
            .arg("--tokens")
            .arg(&tokens)
            .args(["--pattern", "0:1"]);
        let scan = json(&succeed(&mut scan));
        for (found, expected) in numbers(&scan["nll"]).iter().zip(&losses) {
            assert!((found - expected).abs() < 1e-4, "{name}: {found} is not {expected}");
        }
        assert_eq!(scan["nll"].as_array().unwrap().len(), losses.len());
        let row = numbers(&scan["pattern"][5]);
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    }
}

/// A tokenizer that cannot be read leaves the experiment as it was, as far as the file says how: the
/// start token, and the ids that are no text. And it is told.
#[test]
fn a_tokenizer_that_cannot_be_read_moves_no_start_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut bytes = fs::read(pretrained("gpt2_gguf_tokenizer")).unwrap();
    let at = bytes.windows(5).position(|window| window == b"gpt-2").expect("the pre-tokenizer");
    bytes[at..at + 5].copy_from_slice(b"gpt-9");
    fs::write(&path, bytes).unwrap();
    let mut scan = induction();
    scan.args(["--json", "scan"]).arg(&path);
    let scan = json(&succeed(&mut scan));
    let how = &scan["how"];
    assert_eq!((&how["start"], &how["start_from"]), (&287.into(), &"file".into()));
    let warning = how["warnings"][0].as_str().unwrap();
    assert!(warning.contains("gpt-9") && warning.contains("that its files do not call special"));
    // The start token is in no sample, whose tokens have their numbers for names.
    let shown = scan["shown"][0]["tokens"].as_array().unwrap();
    assert_eq!(shown.iter().filter(|token| **token == "#287").count(), 1, "{shown:?}");
}

/// A GGUF file with a tokenizer: everything, with a text.
#[test]
fn a_model_with_a_tokenizer_is_measured_whole() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::create_dir(&text).unwrap();
    for k in 0..3 {
        fs::write(
            text.join(format!("{k}.txt")),
            format!("the cat sat on the mat, and the cat sat again. {k} ").repeat(20),
        )
        .unwrap();
    }
    let out = folder.path().join("out");
    let run = || {
        let mut scan = induction();
        scan.args(["--json", "scan"]).arg(pretrained("gpt2_gguf_tokenizer"));
        scan.arg("--text").arg(&text).args(["--windows", "5"]).arg("--out").arg(&out);
        json(&succeed(&mut scan))
    };
    let scan = run();
    assert_eq!(scan, json(&fs::read_to_string(out.join("scan.json")).unwrap()));
    assert_eq!(scan, run(), "the same again");
    assert_eq!(scan["version"], 7);
    // The context holds fifteen tokens before the separator.
    let causes: Vec<&str> =
        scan["causes"].as_array().unwrap().iter().map(|of| of["cause"].as_str().unwrap()).collect();
    assert!(causes.starts_with(&["token-copying"]), "{causes:?}");
    assert!(causes.contains(&"induction-cut") && scan["causes"][0]["prompts"] == 16, "{causes:?}");
    assert!(scan["heads"][0]["token_copying_nats"].is_f64());
    // Attention on random tokens twice, the prompts that fit, and the text as far as the context goes.
    let shown = scan["shown"].as_array().unwrap();
    assert_eq!(shown[0]["text"], "repeated random tokens");
    let last = shown.last().unwrap();
    assert_eq!((&last["text"], last["tokens"].as_array().unwrap().len()), (&"text".into(), 32));
    // How it was run, and that weights of noise say worse than nothing.
    let how = &scan["how"];
    assert_eq!((&how["start"], &how["start_from"]), (&287.into(), &"tokenizer".into()));
    assert_eq!(how["tied_embeddings"], true);
    let uniform = 288f64.ln();
    assert!(how["prompt_loss"].as_f64().unwrap() > uniform && how["declared_ctx"].is_null());
    let warnings = how["warnings"].as_array().unwrap();
    let warned = |what: &str| warnings.iter().any(|w| w.as_str().unwrap().contains(what));
    assert!(warned("on the prompts") && warned("on text, more than the 5.66"), "{how}");
    let mut windowed = induction();
    windowed.args(["--json", "scan"]).arg(pretrained("cohere2"));
    let how = &json(&succeed(&mut windowed))["how"];
    assert_eq!((&how["declared_ctx"], &how["start_from"]), (&48.into(), &"file".into()));
    assert!(how["warnings"][0].as_str().unwrap().starts_with("no text was read"), "{how}");
    let ignored = succeed(induction().arg("scan").arg(pretrained("gpt2_hub")));
    assert!(ignored.contains("not needed: h.*.attn.bias, h.*.attn.masked_bias"), "{ignored}");
    for row in scan["behaviours"].as_array().unwrap() {
        let pattern = row["behaviour"] == "pattern matching";
        assert!(
            row["queries"].as_u64() > Some(0) && row["literal_share_among"].is_f64() == pattern,
            "{row}"
        );
    }
    assert_eq!(scan["model"]["family"], "gpt2");
    let heads = scan["heads"].as_array().unwrap();
    assert_eq!(heads.len(), scan["model"]["n_layers"].as_u64().unwrap() as usize * 2);
    for head in heads {
        for name in [
            "prefix_matching",
            "copying",
            "previous_token",
            "induction_head_mul",
            "attribution_matched",
        ] {
            assert!(head[name].is_f64(), "{name} of {head}");
        }
    }
    assert_eq!(scan["icl"]["examples"], 5);
    assert_eq!(scan["icl"]["by_index"].as_array().unwrap().len(), 32);
    let by_position = numbers(&scan["repeated"]["by_position"]);
    let block = scan["repeated"]["block"].as_u64().unwrap() as usize;
    assert_eq!((by_position.len(), block), (30, 15));
    let first = by_position[..block].iter().sum::<f64>() / block as f64;
    assert!((first - scan["repeated"]["first"].as_f64().unwrap()).abs() < 1e-9);

    // Random tokens of low ids alone, and a page of several models.
    let (page, model) = (folder.path().join("page.html"), pretrained("gpt2_gguf_tokenizer"));
    let mut common = induction();
    common.args(["--json", "scan"]).arg(&model).args(["--ids-below", "200", "--html"]).arg(&page);
    let common = json(&succeed(&mut common));
    assert_eq!(common["ids_below"], 200);
    assert!(common["repeated"]["by_position"] != scan["repeated"]["by_position"]);
    let html = fs::read_to_string(&page).unwrap();
    for part in ["model.gguf, random tokens below 200", "R-T1", "R-A1", "R-A2", "R-repeats"] {
        assert!(html.contains(part), "{part}");
    }
    let few = fail(induction().arg("scan").arg(&model).args(["--ids-below", "30"]), 2);
    assert!(few.contains("--ids-below 30") && few.contains("expected at least 50"), "{few}");
    let nowhere = folder.path().join("no/page.html");
    let lost =
        fail(induction().args(["--json", "scan"]).arg(&model).arg("--html").arg(&nowhere), 2);
    assert!(lost.contains("no/page.html"), "{lost}");
}

/// A run, its snapshots as a series, and what is exported from it.
/// What has no place is refused before anything is measured, and so is a folder with scans that
/// would pass for part of this one.
#[test]
fn a_scan_without_a_place_is_refused_first() {
    let folder = tempfile::tempdir().unwrap();
    let model = pretrained("gpt2_gguf_tokenizer");
    let refused = |models: usize, option: &str, place: &Path| {
        let mut scan = induction();
        scan.arg("scan").args(vec![&model; models]).args(["--prompts", "0", option]).arg(place);
        let message = fail(&mut scan, 2);
        assert!(message.lines().count() == 1 && message.contains(option), "{message}");
        message
    };
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    refused(1, "--out", &file.join("scans"));
    refused(1, "--html", &folder.path().join("nowhere/page.html"));
    for (stale, models) in [("002", 2), ("", 2), ("000", 1)] {
        let out = folder.path().join(format!("scans{stale}{models}"));
        fs::create_dir_all(out.join(stale)).unwrap();
        fs::write(out.join(stale).join("scan.json"), "{}").unwrap();
        assert!(refused(models, "--out", &out).contains("another scan"));
    }
}

#[test]
fn our_own_models_in_every_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    succeed(induction().arg("train").arg(spec(folder.path(), TINY)).arg("--out").arg(path("run")));
    fs::write(path("ids.json"), "[0, 3, 4, 5, 3, 4, 5, 9, 3]").unwrap();
    let nll = |model: PathBuf| {
        let mut scan = induction();
        scan.args(["--json", "scan"]).arg(model).arg("--tokens").arg(path("ids.json"));
        numbers(&json(&succeed(&mut scan))["nll"])
    };
    let ours = nll(path("run"));
    for (format, tolerance) in [("huggingface", 0.0), ("transformer-lens", 1e-5)] {
        let mut export = induction();
        export
            .arg("export")
            .arg(path("run"))
            .args(["--step", "200", "--format", format, "--out"])
            .arg(path(format));
        succeed(&mut export);
        for (found, ours) in nll(path(format)).iter().zip(&ours) {
            assert!((found - ours).abs() <= tolerance, "{format}: {found} is not {ours}");
        }
    }
    let snapshot = |step: u32| path("run").join(format!("snapshots/step-{step:08}"));
    let mut series = induction();
    series
        .arg("scan")
        .args([snapshot(0), snapshot(100), snapshot(200)])
        .arg("--out")
        .arg(path("series"));
    let table = succeed(&mut series);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("step-00000100"), "{table}");
    assert!(path("series/002/scan.json").exists());
}

#[test]
fn what_cannot_be_scanned_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let refused = |model: PathBuf, arguments: &[&str]| {
        fail(induction().arg("scan").arg(model).args(arguments), 2)
    };

    let whole = fs::read(pretrained("llama_gqa_gguf_q4_0")).unwrap();
    fs::write(path("cut.gguf"), &whole[..whole.len() - 100]).unwrap();
    assert!(refused(path("cut.gguf"), &[]).contains("cut short"));
    fs::write(path("model.pt"), b"PK\x03\x04 a zip with a pickle in it, as torch.save makes them")
        .unwrap();
    assert!(refused(path("model.pt"), &[]).contains("pickle"));

    let copy = |name: &str, to: &str| {
        fs::create_dir_all(path(to)).unwrap();
        for entry in fs::read_dir(pretrained(name)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), path(to).join(entry.file_name())).unwrap();
        }
        fs::read_to_string(path(to).join("config.json")).unwrap()
    };
    let config = copy("qwen2", "qwen2");
    for (from, to, message) in [
        ("\"model_type\": \"qwen2\"", "\"model_type\": \"rwkv\"", "rwkv"),
        ("\"hidden_size\": 32", "\"hidden_size\": 64", "the configuration expects"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "is missing"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "is no part of this architecture"),
        ("\"vocab_size\": 64", "\"vocab_size\": -1", "vocab_size"),
        ("\"rope_type\": \"default\"", "\"rope_type\": \"ntk\"", "rope_parameters.rope_type"),
        (
            "\"rope_type\": \"default\"",
            "\"rope_type\": \"longrope\"",
            "original_max_position_embeddings: missing",
        ),
    ] {
        assert!(config.contains(from), "{from}");
        fs::write(path("qwen2/config.json"), config.replace(from, to)).unwrap();
        let found = refused(path("qwen2"), &[]);
        assert!(found.contains(message), "{to}: {found}");
    }
    fs::write(path("qwen2/config.json"), &config).unwrap();
    let text = path("text.txt");
    fs::write(&text, "a\n\nb\n\n").unwrap();
    assert!(refused(path("qwen2"), &["--text", text.to_str().unwrap()]).contains("no tokenizer"));

    copy("gpt2", "pickled");
    fs::remove_file(path("pickled/model.safetensors")).unwrap();
    fs::write(path("pickled/pytorch_model.bin"), b"PK").unwrap();
    assert!(refused(path("pickled"), &[]).contains("pickle"));

    // A tokenizer with more tokens than the model has.
    copy("gpt2", "larger");
    fs::copy(fixtures().join("oracle/tokenizer.json"), path("larger/tokenizer.json")).unwrap();
    let found = refused(path("larger"), &[]);
    assert!(found.contains("64"), "{found}");
    assert!(refused(path("nowhere"), &[]).contains("nowhere"));
}
