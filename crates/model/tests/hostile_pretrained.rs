//! Pretrained models' files as accidents and attackers leave them: no panic, an error that names
//! the file.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use induction_model::pretrained;
use induction_torture::{attack, digits_changed, mutated};

/// Opens the model again and again with one of its files changed.
fn survives(fixture: &str, file: &str, header_only: Option<usize>) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/oracle/pretrained")
        .join(fixture);
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join(file);
    let original = fs::read(&path).unwrap();
    let model = if file.ends_with(".gguf") { path.clone() } else { folder.path().to_path_buf() };
    // Most of a file is values, of which every bit pattern is one.
    let header = header_only.unwrap_or(original.len());
    let damaged = |seed: u64| {
        // With another digit a file stays whole, but says something else.
        let damage = if seed.is_multiple_of(4) { digits_changed } else { mutated };
        [damage(&original[..header], seed), original[header..].to_vec()].concat()
    };
    let tally = attack(&format!("pretrained {fixture}/{file}"), &path, damaged, |_| {
        pretrained::open(&model).map(drop).map_err(|error| {
            let message = error.to_string();
            // The file that was changed, another one that it no longer fits, or the setting that it
            // is about.
            let names = message.contains(&*folder.path().display().to_string());
            assert!(names && message.len() < 4096, "{message}");
            format!("{file}: {message}")
        })
    });
    tally.between(0.25, 1.0);
}

#[test]
fn configurations() {
    survives("llama_llama3", "config.json", None);
}

#[test]
fn transformer_lens_configurations() {
    survives("lens_attn_only_shortformer", "config.json", None);
}

#[test]
fn safetensors_headers() {
    survives("gpt2_hub", "model.safetensors", Some(2552));
}

#[test]
fn lists_of_shards() {
    survives("qwen2", "model.safetensors.index.json", None);
}

#[test]
fn configurations_with_normed_queries_and_keys() {
    survives("qwen3", "config.json", None);
}

/// What families say of their own: lists of layers, two sets of wavelengths, multipliers, windows.
#[test]
fn configurations_of_other_families() {
    for family in ["cohere2", "falcon_new", "gemma3_old", "granite", "smollm3"] {
        survives(family, "config.json", None);
    }
}

#[test]
fn weights_of_eight_bits() {
    survives("llama_fp8_blocks", "config.json", None);
    survives("llama_fp8_blocks", "model.safetensors", Some(4500));
}

#[test]
fn gguf_files() {
    for file in ["llama_gqa_gguf_q4_0", "falcon_gguf", "gemma3_gguf"] {
        survives(file, "model.gguf", Some(2000));
    }
}

/// Families list their layers, and GGUF files' recipes are made for each: their number is bounded
/// before. Nor does a file say how deep its reader recurses.
#[test]
fn what_a_file_says_of_its_size_is_bounded_first() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle/pretrained");
    let folder = tempfile::tempdir().unwrap();
    for family in ["smollm3_interval", "gemma3_old", "cohere2"] {
        let config = fs::read(root.join(family).join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        config["num_hidden_layers"] = 2_000_000_000.into();
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let message = pretrained::look(folder.path()).err().unwrap().to_string();
        assert!(message.contains("num_hidden_layers: 2000000000, expected at most"), "{message}");
    }
    let mut bytes = fs::read(root.join("smollm3_gguf/model.gguf")).unwrap();
    let key = b"smollm3.block_count";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    bytes[at + key.len() + 4..][..4].copy_from_slice(&2_000_000_000u32.to_le_bytes());
    let path = folder.path().join("x.gguf");
    fs::write(&path, bytes).unwrap();
    let message = pretrained::look(&path).err().unwrap().to_string();
    assert!(message.contains("block_count: 2000000000, expected at most"), "{message}");

    // A scale of 8 bits could have a scale of its own, and that one.
    let eight = root.join("llama_fp8_rows");
    fs::copy(eight.join("config.json"), folder.path().join("config.json")).unwrap();
    let bytes = fs::read(eight.join("model.safetensors")).unwrap();
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&rest[..length]).unwrap();
    let scale = &mut header["model.layers.0.self_attn.q_proj.weight_scale"];
    let rows = scale["shape"][0].as_u64().unwrap();
    // As many bytes of smaller numbers.
    scale["dtype"] = "F8_E5M2".into();
    scale["shape"] = serde_json::json!([4 * rows]);
    let header = header.to_string().into_bytes();
    let new_length = (header.len() as u64).to_le_bytes();
    let damaged = [&new_length[..], &header, &rest[length..]].concat();
    fs::write(folder.path().join("model.safetensors"), damaged).unwrap();
    let message = pretrained::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("weight_scale is F8_E5M2"), "{message}");
}

/// Packed weights are refused by name before a tensor is looked at.
#[test]
fn packed_weights_are_refused_by_name() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/oracle/pretrained/llama_gqa/config.json");
    let config: serde_json::Value = serde_json::from_slice(&fs::read(from).unwrap()).unwrap();
    for (field, value, says) in [
        ("quantization_config", serde_json::json!({"quant_method": "gptq", "bits": 4}), "GPTQ's"),
        ("quantization_config", serde_json::json!({"quant_method": "awq", "bits": 4}), "AWQ's"),
        (
            "quantization_config",
            serde_json::json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
            "bitsandbytes'",
        ),
        (
            "quantization_config",
            serde_json::json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}),
            "\"compressed-tensors\"",
        ),
        ("quantization", serde_json::json!({"group_size": 64, "bits": 4}), "MLX's"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config.clone();
        config[field] = value;
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let message = pretrained::look(folder.path()).err().unwrap().to_string();
        assert!(message.contains(says) && message.contains("config.json"), "{message}");
        assert!(message.contains(field) && message.contains("GGUF"), "{message}");
    }
}

/// Found by fuzzing: the error was about a setting and named no file.
#[test]
fn a_context_beyond_the_range_names_the_file() {
    let fixture = "../../fixtures/oracle/pretrained/llama_gqa_gguf_q4_0/model.gguf";
    let mut bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture)).unwrap();
    let key = b"llama.context_length";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    // After the key its type, then the value.
    bytes[at + key.len() + 4..][..4].copy_from_slice(&3_866_672u32.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    fs::write(&path, bytes).unwrap();
    let message = pretrained::open(&path).unwrap_err().to_string();
    assert!(
        message.contains("x.gguf: model.n_ctx = 3866672: expected a whole number from 1 to"),
        "{message}"
    );
}
