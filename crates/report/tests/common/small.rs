//! A run folder of a few kilobytes that holds every file that the report reads: what mutations
//! begin with.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use super::{scan, shown, two, write};

/// The files of [`small`], below its folder.
pub const SMALL: [&str; 21] = [
    "spec.toml",
    "metrics.jsonl",
    "history.jsonl",
    "scan.json",
    "measurements/icl.jsonl",
    "measurements/loss_by_index.jsonl",
    "measurements/copies.jsonl",
    "measurements/random_tokens.jsonl",
    "measurements/heads.jsonl",
    "measurements/ablations.jsonl",
    "measurements/ablations.json",
    "measurements/knockouts.jsonl",
    "measurements/summary.json",
    "measurements/meta.json",
    "measurements/text.json",
    "measurements/text.jsonl",
    "measurements/prompts.json",
    "measurements/prompts.jsonl",
    "measurements/losses/step-00000025.safetensors",
    "measurements/maps/step-00000000.safetensors",
    "measurements/maps/prompts.safetensors",
];

/// A run of two snapshots in `dir`, and a small scan among its files; its folder.
pub fn small(dir: &Path) -> PathBuf {
    let run = write(dir, &two());
    let measurements = run.join("measurements");
    for (table, lines) in [
        ("../metrics.jsonl", 3),
        ("icl.jsonl", 2),
        ("loss_by_index.jsonl", 2),
        ("copies.jsonl", 2),
        ("random_tokens.jsonl", 2),
        ("heads.jsonl", 16),
        ("ablations.jsonl", 16),
        ("knockouts.jsonl", usize::MAX),
        ("text.jsonl", 2),
    ] {
        let path = measurements.join(table);
        let text = fs::read_to_string(&path).expect("it was written");
        let mut kept: Vec<Value> = text
            .lines()
            .take(lines)
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        if table == "knockouts.jsonl" {
            // One of each kind is enough.
            let kinds = [
                "paths-others",
                "path",
                "remove",
                "mean",
                "substitute",
                "induction-heads",
                "clean",
            ];
            kept.retain(|row| kinds.contains(&row["name"].as_str().expect("a name")));
            kept.dedup_by_key(|row| row["name"].to_string());
        }
        for (key, value) in kept.iter_mut().filter_map(Value::as_object_mut).flatten() {
            match key.as_str() {
                "loss_by_index" => shorten(value, 6),
                "losses" if table == "text.jsonl" => {}
                _ if value.is_array() => shorten(value, 2),
                _ => {}
            }
        }
        fs::write(path, kept.iter().map(|line| format!("{line}\n")).collect::<String>())
            .expect("writable");
    }
    let made = json!({
        "stage": "training", "seconds": 12.5, "machine": "a machine", "version": "0.1.0", "engine": "cpu", "threads": 2,
    });
    fs::write(run.join("history.jsonl"), format!("{made}\n")).expect("writable");
    fs::write(run.join("scan.json"), small_scan().to_string()).expect("writable");
    let (shape, zeros) = (vec![2, 6], vec![0; 2 * 6 * 4]);
    let losses =
        TensorView::new(Dtype::F32, shape, &zeros).expect("as many bytes as the shape asks for");
    fs::create_dir_all(measurements.join("losses")).expect("a fresh folder");
    let bytes = safetensors::serialize([("losses", losses)], None).expect("one name");
    fs::write(measurements.join("losses/step-00000025.safetensors"), bytes).expect("writable");
    run
}

/// The scan of the first two of its layers that do something.
fn small_scan() -> Value {
    let mut scan = scan();
    let first = 10;
    scan["model"]["n_layers"] = json!(2);
    let below = |heads: &mut Value| {
        let list = heads.as_array_mut().expect("a list");
        list.retain(|head| (first..first + 2).contains(&head["layer"].as_u64().expect("a number")));
        list.iter_mut().for_each(|head| {
            head["layer"] = json!(head["layer"].as_u64().expect("a number") - first);
        });
    };
    below(&mut scan["heads"]);
    below(&mut scan["behaviours"]);
    scan["shown"] = json!([shown("literal copying", 8)]);
    for set in scan["ablation"]["sets"].as_array_mut().expect("a list") {
        set["heads"] = json!([[0, 1], [1, 2]]);
    }
    shorten(&mut scan["repeated"]["by_position"], 4);
    scan["repeated"]["block"] = json!(2);
    shorten(&mut scan["icl"]["by_index"], 6);
    for (key, value) in [("length", 6), ("early", 2), ("late", 5), ("half_width", 1)] {
        scan["icl"][key] = json!(value);
    }
    scan
}

fn shorten(list: &mut Value, length: usize) {
    list.as_array_mut().expect("a list").truncate(length);
}
