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
    for file in
        ["llama_gqa_gguf_q4_0", "falcon_gguf", "gemma3_gguf", "olmoe_gguf", "mixtral_2023_gguf"]
    {
        survives(file, "model.gguf", Some(2000));
    }
}

/// A configuration with some settings changed; null takes one out.
fn look(fixture: &str, changes: serde_json::Value) -> Result<pretrained::Unread, String> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/oracle/pretrained")
        .join(fixture);
    let folder = tempfile::tempdir().unwrap();
    fs::copy(from.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let config = fs::read(from.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    pretrained::look(folder.path()).map_err(|error| error.to_string())
}

/// A setting has its place in an object of its own, one beside that, and older names. Any of them
/// is read, and two that differ are refused.
#[test]
fn settings_with_two_homes_are_read_from_either_and_must_agree() {
    use serde_json::json;
    let rotary = |fixture: &str, changes: serde_json::Value| {
        let model = look(fixture, changes).unwrap();
        match model.config.architecture.positions {
            induction_model::Positions::Rotary(rotary) => rotary,
            other => panic!("{other:?}"),
        }
    };
    let refused = |fixture: &str, changes: serde_json::Value, parts: &[&str]| {
        let message = look(fixture, changes).err().expect("two settings that differ");
        parts.iter().for_each(|part| assert!(message.contains(part), "{part} in {message}"));
    };
    let default = json!({"rope_type": "default"});
    let outside = rotary("llama_gqa", json!({"rope_parameters": default, "rope_theta": 5000.0}));
    let inside = json!({"rope_type": "default", "rope_theta": 5000.0});
    assert_eq!(outside.base, 5000.0);
    assert_eq!(outside, rotary("llama_gqa", json!({"rope_parameters": inside})));
    let same = json!({"rope_parameters": inside, "rope_theta": 5000});
    assert_eq!(outside, rotary("llama_gqa", same));
    refused(
        "llama_gqa",
        json!({"rope_parameters": inside, "rope_theta": 10000}),
        &["rope_parameters.rope_theta: 5000.0, but rope_theta is 10000"],
    );
    let linear = json!({"type": "linear", "factor": 2.0});
    let scaled = rotary(
        "llama_gqa",
        json!({"rope_parameters": null, "rope_scaling": linear, "rope_theta": 5000.0}),
    );
    assert!(scaled.scaling.is_some());
    refused(
        "llama_gqa",
        json!({"rope_parameters": inside, "rope_scaling": linear}),
        &["rope_scaling.type: \"linear\", but rope_parameters.rope_type is \"default\""],
    );
    refused(
        "llama_gqa",
        json!({"rope_parameters": {"rope_type": "linear", "factor": 4.0}, "rope_scaling": linear}),
        &["rope_scaling.factor: 2.0, but rope_parameters.factor is 4.0"],
    );
    let half = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}, "rotary_pct": 0.5});
    let d_head = look("neox_sequential", half.clone()).unwrap().config.d_head;
    assert_eq!(rotary("neox_sequential", half).dim, d_head / 2);
    refused(
        "neox_sequential",
        json!({"rotary_pct": 0.5, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}}),
        &["rope_parameters.partial_rotary_factor: 1.0, but rotary_pct is 0.5"],
    );
    refused(
        "neox_sequential",
        json!({"rotary_pct": 0.5, "partial_rotary_factor": 0.25, "rope_parameters": null}),
        &["rotary_pct: 0.5, but partial_rotary_factor is 0.25"],
    );
    refused("bloom", json!({"n_embed": 64}), &["hidden_size: 48, but n_embed is 64"]);
    refused("mixtral", json!({"num_local_experts": 0}), &["num_experts_per_tok"]);
    refused(
        "olmoe",
        json!({"num_local_experts": 4}),
        &["num_experts: 6, but num_local_experts is 4"],
    );
}

/// A GGUF file with some bytes changed: what is said of it.
fn changed(fixture: &str, change: impl Fn(&mut Vec<u8>)) -> Result<pretrained::Pretrained, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle/pretrained");
    let mut bytes = fs::read(root.join(fixture).join("model.gguf")).unwrap();
    change(&mut bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    fs::write(&path, bytes).unwrap();
    pretrained::open(&path).map_err(|error| error.to_string())
}

/// Puts other bytes where `key` ends in a file.
fn after(bytes: &mut [u8], key: &[u8], skip: usize, value: &[u8]) {
    let at = bytes.windows(key.len()).position(|window| window == key).expect("the key");
    bytes[at + key.len() + skip..][..value.len()].copy_from_slice(value);
}

#[test]
fn pointers_of_git_lfs_are_called_so() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 538090408\n";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle/pretrained");
    for file in ["model.safetensors", "config.json"] {
        let folder = tempfile::tempdir().unwrap();
        for name in ["model.safetensors", "config.json"] {
            fs::copy(root.join("gpt2").join(name), folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join(file), pointer).unwrap();
        let message = pretrained::look(folder.path()).err().unwrap().to_string();
        assert!(message.contains(file) && message.contains("git lfs pull"), "{message}");
    }
}

#[test]
fn what_a_mixture_says_must_fit() {
    let refused = |change: &dyn Fn(&mut Vec<u8>), part: &str| {
        let message = changed("olmoe_gguf", change).expect_err("it does not fit");
        assert!(message.contains(part), "{part:?} in {message}");
    };
    let number = |key: &'static str, n: u32| {
        move |bytes: &mut Vec<u8>| after(bytes, key.as_bytes(), 4, &n.to_le_bytes())
    };
    refused(&number("olmoe.expert_used_count", 0), "expert_used_count: 0, expected 1 to 6");
    refused(&number("olmoe.expert_used_count", 7), "expert_used_count: 7, expected 1 to 6");
    refused(&number("olmoe.expert_count", 5), "blk.0.ffn_gate_inp.weight has shape [6,");
    // One of the two numbers of heads for keys, which stand after the array's type and length.
    let key = b"olmoe.attention.head_count_kv";
    refused(&|bytes| after(bytes, key, 16 + 4, &1u32.to_le_bytes()), "head_count_kv: 2 numbers");
    // An array where the number of layers should be does not ask for itself.
    refused(&|bytes| after(bytes, b"olmoe.block_count", 0, &9u32.to_le_bytes()), "x.gguf");
    // Nor is a value that is none left without its place.
    let tied = changed("gemma_gguf", |bytes| {
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let message = tied.expect_err("not finite");
    assert!(message.contains("tensor ") && message.contains("is not finite"), "{message}");
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
