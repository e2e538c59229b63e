//! A fabricated scan of a trained model.

use std::fs;
use std::path::{Path, PathBuf};

use induction_records::{ModelScan, ShownText};
use serde_json::{Value, json};

use super::TEXT;

/// A text on which every one of so many heads spreads its attention evenly.
pub fn shown(text: &str, heads: usize) -> Value {
    let row = |i: usize| vec![(255 / (i + 1)) as u8; i + 1];
    let bytes: Vec<u8> = (0..heads).flat_map(|_| (0..TEXT.len()).flat_map(row)).collect();
    json!({ "text": text, "tokens": TEXT, "attention": ShownText::pack(&bytes) })
}

/// The scan of a model of 20 layers of 4 heads that does everything that is claimed of real models;
/// its foreign text would like to be more than text.
pub fn scan() -> Value {
    let scores = |layer: usize, head: usize| match (layer, head) {
        (10, 1) => (0.9, 0.8),
        (11, 2) => (0.6, 0.5),
        (15, 3) => (0.5, -0.95),
        _ => (0.02, -0.85),
    };
    let all = || (0..20).flat_map(|layer| (0..4).map(move |head| (layer, head)));
    let heads: Vec<_> = all()
        .map(|(layer, head)| {
            let (prefix_matching, copying) = scores(layer, head);
            let role = match (prefix_matching > 0.3, copying > 0.0) {
                (true, true) => "induction",
                (true, false) => "anti-copying-prefix",
                _ => "other",
            };
            json!({
                "layer": layer, "head": head, "role": role, "prefix_matching": prefix_matching,
                "prefix_matching_stderr": 0.01, "copying": copying, "copying_stderr": 0.01, "previous_token": 0.1,
                "previous_token_stderr": null, "some_other_score": 0.5,
            })
        })
        .collect();
    let behaviours: Vec<_> = ["literal copying", "translation", "pattern matching"]
        .iter()
        .flat_map(|behaviour| all().map(move |place| (behaviour, place)))
        .map(|(behaviour, (layer, head))| {
            let (share, among) = if (layer, head) == (10, 1) { (0.6, 0.9) } else { (0.02, 0.25) };
            json!({
                "behaviour": behaviour, "layer": layer, "head": head, "share": share, "share_stderr": 0.02,
                "chance": 0.05, "share_among": among, "share_among_stderr": 0.03, "chance_among": 0.25,
                "literal_share_among": if *behaviour == "pattern matching" { json!(0.3) } else { Value::Null },
                "queries": 12, "attribution": 0.5, "attribution_total": 0.7,
            })
        })
        .collect();
    let by_position: Vec<f64> =
        (0..100).map(|k| if k <= 50 { 11.0 } else { 1.0 + 1.0 / f64::from(k) }).collect();
    let set = |kind: &str, heads: &[[usize; 2]], second: f64, icl: Option<f64>| {
        json!({
            "kind": kind, "heads": heads, "first": 11.2, "second": second, "second_change": second - 1.0,
            "second_change_stderr": 0.1, "icl": icl,
        })
    };
    json!({
        "version": ModelScan::VERSION,
        "model": {
            "name": "<b>tiny</b> \u{1b}[1m\u{202e}.gguf", "family": "llama", "encoding": "</script>", "n_layers": 20,
            "n_heads": 4, "n_key_value_heads": 2, "d_model": 64, "d_head": 16, "d_mlp": 128, "d_vocab": 60000,
            "n_ctx": 1024, "n_params": 5_000_000,
        },
        "engine": "cpu",
        "how": {
            "start": 1, "start_from": "tokenizer", "declared_ctx": 2048, "tied_embeddings": true,
            "ignored": ["<s>.*"], "prompt_loss": 3.5, "warnings": ["a <u>warning</u>"],
        },
        "heads": heads,
        "copying_ceiling": {"ceiling": -0.5, "chance": -0.85},
        "cut": [
            {"is_control": false, "heads": [[10, 1]], "worth": [{"on": "repeats", "removed": 1.0, "removed_stderr": 0.1, "cut": 0.9, "cut_stderr": 0.05}]},
            {"is_control": true, "heads": [[10, 2]], "worth": [{"on": "repeats", "removed": 0.1, "removed_stderr": 0.1, "cut": 0.05, "cut_stderr": null}]},
        ],
        "paths": [{
            "layer": 10, "head": 1, "examples": 8, "attention": 0.9, "raises": 5.5,
            "agreement": [{"into": "keys", "rank_correlation": 0.9}],
            "paths": [{"layer": 3, "head": 1, "into": "keys", "lost": 0.8, "lost_stderr": 0.1, "exact": 3.5, "exact_stderr": 0.5, "first_order": 4.5}],
        }],
        "roles": [{"measure": "prefix_matching", "layer": 0, "head": 0, "effect": 0.5, "margin": 0.1}],
        "causes": [{
            "cause": "token-copying", "prompts": 16, "tokens": 57, "left_out": 0, "plain": 0.001, "plain_stderr": null, "with": 0.5,
            "with_stderr": 0.05, "matching": {"rank_correlation": 0.5, "low": 0.4, "high": 0.6},
        }, {
            "cause": "concept-copying", "prompts": 16, "tokens": 57, "left_out": 3, "plain": 0.001, "plain_stderr": null, "with": 0.5,
            "with_stderr": 0.05, "matching": {"rank_correlation": 0.1, "low": 0.0, "high": 0.2},
        }],
        "repeated": {
            "examples": 10, "block": 50, "first": 11.0, "first_stderr": 0.1, "second": 1.0, "second_stderr": 0.05,
            "by_position": by_position,
        },
        "icl": {
            "text": "<i>a text</i>", "examples": 2, "length": 512, "early": 50, "late": 500, "half_width": 5,
            "score": -0.4, "stderr": 0.05, "by_example": [-0.35, -0.45], "loss": 3.0,
            "by_index": (0..512).map(|i| 5.0 - 0.3 * f64::from(i).ln_1p()).collect::<Vec<f64>>(),
        },
        "ablation": {"sets": [
            set("induction", &[[10, 1], [11, 2], [15, 3]], 9.0, Some(-0.1)),
            set("matched", &[[10, 0], [11, 0], [15, 0]], 1.2, Some(-0.38)),
            set("matched", &[[10, 3], [11, 3], [15, 1]], 1.5, None),
            set("any", &[[0, 0], [1, 0], [2, 0]], 2.0, None),
        ]},
        "behaviours": behaviours,
        "shown": [shown(ShownText::REPEATED, 80), shown("literal copying", 80), shown("<i>a text</i>", 80)],
    })
}

/// Writes a scan to `dir/models/name`.
pub fn write_scan(dir: &Path, name: &str, scan: &Value) -> PathBuf {
    let folder = dir.join("models").join(name);
    fs::create_dir_all(&folder).expect("a fresh folder");
    fs::write(folder.join("scan.json"), format!("{scan:#}")).expect("a fresh folder");
    folder
}
