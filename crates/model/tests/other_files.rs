//! One model, written in the ways that people's files are written: the same parameters. And what
//! only looks the same is told, or refused.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use induction_model::pretrained::{self, Pretrained, Unread};
use serde_json::{Value, json};

/// A tensor as a file has it: the name of its type, its shape, its bytes.
type Tensor = (String, Vec<usize>, Vec<u8>);
type Tensors = BTreeMap<String, Tensor>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/oracle/pretrained").join(name)
}

fn read_tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    let read = |entry: Value| {
        let offset = |k: usize| 8 + length + entry["data_offsets"][k].as_u64().unwrap() as usize;
        let shape = serde_json::from_value(entry["shape"].clone()).unwrap();
        let kind = entry["dtype"].as_str().unwrap().to_owned();
        (kind, shape, bytes[offset(0)..offset(1)].to_vec())
    };
    tensors.map(|(name, entry)| (name, read(entry))).collect()
}

fn write_tensors(path: &Path, tensors: &Tensors) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (kind, shape, bytes)) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        data.extend_from_slice(bytes);
        let entry = json!({"dtype": kind, "shape": shape, "data_offsets": offsets});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string().into_bytes();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()).unwrap();
}

/// A fixture in one file, with another configuration or other tensors.
struct Variant {
    folder: tempfile::TempDir,
    config: Value,
    tensors: Tensors,
}

impl Variant {
    fn of(name: &str) -> Self {
        let from = fixture(name);
        let config = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
        let mut tensors = Tensors::new();
        for entry in fs::read_dir(&from).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if file.starts_with("model") && file.ends_with(".safetensors") {
                tensors.extend(read_tensors(&path));
            }
        }
        Self { folder: tempfile::tempdir().unwrap(), config, tensors }
    }

    fn with(mut self, changes: Value) -> Self {
        for (key, value) in changes.as_object().unwrap() {
            self.config[key] = value.clone();
        }
        self
    }

    fn renamed(mut self, name: impl Fn(&str) -> String) -> Self {
        self.tensors = self.tensors.into_iter().map(|(old, t)| (name(&old), t)).collect();
        self
    }

    fn and(mut self, name: &str, kind: &str, shape: &[usize], bytes: Vec<u8>) -> Self {
        self.tensors.insert(name.to_owned(), (kind.to_owned(), shape.to_vec(), bytes));
        self
    }

    fn written(&self) -> &Path {
        let folder = self.folder.path();
        fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        write_tensors(&folder.join("model.safetensors"), &self.tensors);
        folder
    }

    fn open(&self) -> Result<Pretrained, String> {
        pretrained::open(self.written()).map_err(|e| e.to_string())
    }

    fn look(&self) -> Result<Unread, String> {
        pretrained::look(self.written()).map_err(|e| e.to_string())
    }

    fn is(&self, name: &str) {
        let (found, expected) = (self.open().unwrap(), pretrained::open(&fixture(name)).unwrap());
        assert_eq!(found.config, expected.config, "{name}");
        assert!(found.params == expected.params, "{name}");
    }

    fn refused(&self, parts: &[&str]) {
        let message = self.open().expect_err("another model");
        parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} in {message}"));
    }
}

#[test]
fn what_stands_before_names_does_not_matter() {
    for (name, prefix) in [
        ("llama_gqa", "model."),
        ("qwen3", "model."),
        ("gemma", "model."),
        ("phi3", "model."),
        ("neox_parallel", "gpt_neox."),
        ("gpt_neo", "transformer."),
        ("gptj", "transformer."),
        ("falcon_multi_query", "transformer."),
    ] {
        // As a base model without its head is saved, ...
        let bare = |tensor: &str| tensor.strip_prefix(prefix).unwrap_or(tensor).to_owned();
        Variant::of(name).renamed(bare).is(name);
        // ... and as training programs save what they wrap.
        for wrapper in ["_orig_mod.", "module.", "module._orig_mod."] {
            Variant::of(name).renamed(|tensor| format!("{wrapper}{tensor}")).is(name);
        }
    }
}

/// A head that was trained apart, under a configuration that says there is none: the file's is
/// used, and it is told.
#[test]
fn an_unembedding_of_its_own_is_used() {
    for (name, embedding, head) in [
        ("gpt2_hub", "wte.weight", "lm_head.weight"),
        ("gemma", "model.embed_tokens.weight", "lm_head.weight"),
        ("bloom", "transformer.word_embeddings.weight", "lm_head.weight"),
    ] {
        let original = Variant::of(name);
        let (kind, shape, bytes) = original.tensors[embedding].clone();
        let copied = original.and(head, &kind, &shape, bytes.clone());
        copied.is(name);
        assert!(copied.look().unwrap().notes.is_empty());
        let mut other = bytes;
        // One number of the last row.
        let value = match kind.as_str() {
            "F16" => 0x3a00u16.to_le_bytes().to_vec(),
            _ => 0.75f32.to_le_bytes().to_vec(),
        };
        let at = other.len() - value.len();
        other[at..].copy_from_slice(&value);
        let own = Variant::of(name).and(head, &kind, &shape, other);
        let found = own.look().unwrap();
        assert!(!found.is_tied && !found.config.architecture.tied_embeddings, "{name}");
        assert!(found.notes[0].contains("an unembedding of other values"), "{:?}", found.notes);
        let unembedding = own.open().unwrap().params.get("unembed.W_U").unwrap().clone();
        assert_eq!(unembedding.iter().last(), Some(&0.75), "{name}");
    }
}

#[test]
fn what_is_not_needed_does_not_matter() {
    let rotary = "model.layers.0.self_attn.rotary_emb";
    let original = || Variant::of("llama_gqa");
    for kind in ["U16", "U32", "U64", "F8_E8M0", "F4", "C64", "made up"] {
        original().and(&format!("{rotary}.inv_freq"), kind, &[4], vec![0; 4]).is("llama_gqa");
    }
    for name in ["cos_cached", "sin_cached"] {
        original().and(&format!("{rotary}.{name}"), "F32", &[1], vec![0; 4]).is("llama_gqa");
    }
    original().and("v_head.summary.weight", "F32", &[1], vec![0; 4]).is("llama_gqa");
    let (_, shape, _) = original().tensors["model.norm.weight"].clone();
    let bytes = vec![0; 4 * shape[0]];
    original()
        .and("model.norm.weight", "U32", &shape, bytes)
        .refused(&["model.norm.weight is U32", "expected F32, F16, BF16"]);
}

/// A header of 640 bytes begins as a pickle does.
#[test]
fn a_file_is_what_it_holds() {
    let variant = Variant::of("llama_gqa");
    let path = variant.written().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let padded = (length - 640).next_multiple_of(1 << 16) + 640;
    let header = [&bytes[8..8 + length], &vec![b' '; padded - length]].concat();
    let all = [&(padded as u64).to_le_bytes()[..], &header, &bytes[8 + length..]].concat();
    assert!(all.starts_with(b"\x80\x02"));
    fs::write(&path, all).unwrap();
    let expected = pretrained::open(&fixture("llama_gqa")).unwrap().params;
    assert!(pretrained::open(variant.folder.path()).unwrap().params == expected);
    fs::write(&path, b"\x80\x02}q\x00X\x05\x00\x00\x00modelq").unwrap();
    let message = pretrained::open(variant.folder.path()).unwrap_err().to_string();
    assert!(message.contains("a pickle"), "{message}");
}

#[test]
fn weights_of_eight_bits_have_their_scales() {
    for name in ["llama_fp8_blocks", "llama_fp8_rows"] {
        let mut variant = Variant::of(name);
        let is_scale = |name: &&String| name.contains(".weight_scale");
        let scale = variant.tensors.keys().find(is_scale).unwrap().clone();
        variant.tensors.remove(&scale);
        variant.refused(&["is of 8 bits and has no scale"]);
    }
}

#[test]
fn shards_are_found_by_their_list() {
    let folder = tempfile::tempdir().unwrap();
    let Variant { config, tensors, .. } = Variant::of("qwen2");
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let last = tensors.keys().next_back().unwrap().clone();
    let mut stale = tensors.clone();
    stale.get_mut(&last).unwrap().2.fill(0);
    let (parts, all) = (["below/a.safetensors", "z.safetensors"], [stale, tensors]);
    for (part, tensors) in parts.iter().zip(&all) {
        write_tensors(&folder.path().join(part), tensors);
    }
    let write = |of_last: &str, more: &[(&str, &str)]| {
        let mut map: BTreeMap<&str, &str> =
            all[0].keys().map(|name| (name.as_str(), parts[0])).collect();
        map.insert(&last, of_last);
        map.extend(more.iter().copied());
        let index = json!({"weight_map": map}).to_string();
        fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        pretrained::open(folder.path()).map_err(|e| e.to_string())
    };
    let expected = pretrained::open(&fixture("qwen2")).unwrap().params;
    // The list says which of two is the tensor, and may name one that nothing needs.
    assert!(write(parts[1], &[("lm_head.weight.old", parts[0])]).unwrap().params == expected);
    assert!(write(parts[0], &[("x", parts[1])]).unwrap().params != expected);
    for outside in
        ["../a.safetensors", "/a.safetensors", "below/../z.safetensors", ".a/b.safetensors"]
    {
        let message = write(outside, &[]).unwrap_err();
        assert!(message.contains("is not the name of a safetensors file"), "{message}");
    }
}

#[test]
fn attention_that_looks_ahead_is_refused() {
    Variant::of("llama_gqa").with(json!({"is_causal": true})).is("llama_gqa");
    let ahead = Variant::of("llama_gqa").with(json!({"is_causal": false}));
    ahead.refused(&["config.json", "is_causal: false is not supported here"]);
    let lens = Variant::of("lens_mlp_pre").with(json!({"final_rms": true}));
    lens.refused(&["final_rms: true is not supported here"]);
}

#[test]
fn a_window_counts_where_a_layer_has_one() {
    let n_ctx =
        |name: &str, changes: Value| Variant::of(name).with(changes).look().unwrap().config.n_ctx;
    let kinds =
        json!({"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4});
    for flag in [json!(true), json!(false), Value::Null] {
        let changes = json!({"use_sliding_window": flag, "sliding_window": 4, "layer_types": kinds["layer_types"]});
        assert_eq!(n_ctx("smollm3", changes), 4);
    }
    let full = n_ctx("qwen2", json!({}));
    let n_layers = Variant::of("qwen2").look().unwrap().config.n_layers;
    let first = |layer: usize| json!({"use_sliding_window": true, "sliding_window": 4, "max_window_layers": layer, "layer_types": null});
    assert_eq!((n_ctx("qwen2", first(n_layers)), n_ctx("qwen2", first(0))), (full, 4));
}

#[test]
fn settings_are_found_where_files_have_them() {
    // Beside the scaling, where it is not within.
    for name in ["llama_llama3", "llama_yarn"] {
        let mut within = Variant::of(name);
        let key = ["rope_parameters", "rope_scaling"]
            .into_iter()
            .find(|key| within.config[key].is_object())
            .unwrap();
        let scaling = within.config[key].as_object_mut().unwrap();
        let original = scaling.remove("original_max_position_embeddings").unwrap();
        within.with(json!({"original_max_position_embeddings": original})).is(name);
    }
    let other = [
        ("gpt2_hub", "n_embd", "hidden_size"),
        ("gpt2_hub", "n_layer", "num_hidden_layers"),
        ("gpt2_hub", "n_head", "num_attention_heads"),
        ("gptj", "n_embd", "hidden_size"),
        ("gpt_neo", "num_heads", "num_attention_heads"),
        ("gpt_neo", "num_layers", "num_hidden_layers"),
    ];
    for (name, ours, theirs) in other {
        let mut variant = Variant::of(name);
        let value = variant.config.as_object_mut().unwrap().remove(ours).unwrap();
        variant.with(json!({ theirs: value })).is(name);
    }
    let twice = Variant::of("gpt2_hub").with(json!({"hidden_size": 7}));
    twice.refused(&["n_embd", "but hidden_size is 7"]);
    // The class's own number.
    let mut starcoder = Variant::of("starcoder2");
    starcoder.config.as_object_mut().unwrap().remove("num_key_value_heads");
    assert_eq!(
        starcoder.look().map(|model| model.config.architecture.n_key_value_heads).ok(),
        Some(2)
    );
}

/// Numbers that are none, as Python writes them.
#[test]
fn words_for_numbers_are_nothing() {
    let variant = Variant::of("llama_gqa");
    let folder = variant.written();
    let path = folder.join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let text =
        text.replacen('{', r#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \" NaN","#, 1);
    fs::write(&path, text).unwrap();
    let expected = pretrained::open(&fixture("llama_gqa")).unwrap().params;
    assert!(pretrained::open(folder).unwrap().params == expected);
}

/// A GGUF file with one more key, of a type and value given as bytes.
fn gguf_with(name: &str, key: &str, value: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let mut bytes = fs::read(fixture(name).join("model.gguf")).unwrap();
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut more = [&text(key)[..], value].concat();
    // And a text that keeps what follows where it is, modulo the alignment.
    let pad = [&text("general.pad")[..], &8u32.to_le_bytes(), &text("")].concat();
    let left = (more.len() + pad.len()).next_multiple_of(32) - more.len() - pad.len();
    more.extend([&text("general.pad")[..], &8u32.to_le_bytes(), &text(&"x".repeat(left))].concat());
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + 2;
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    bytes.splice(24..24, more);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn keys_of_gguf_files_are_read_as_llama_cpp_reads_them() {
    let name = "llama_gqa_gguf_f32";
    let bool = |value: u8| [&7u32.to_le_bytes()[..], &[value]].concat();
    let float = |value: f32| [&6u32.to_le_bytes()[..], &value.to_le_bytes()].concat();
    let expected = pretrained::open(&fixture(name).join("model.gguf")).unwrap();
    let (_folder, path) = gguf_with(name, "llama.attention.causal", &bool(1));
    assert!(pretrained::open(&path).unwrap().params == expected.params);
    let (_folder, path) = gguf_with(name, "llama.attention.causal", &bool(0));
    let message = pretrained::look(&path).err().unwrap().to_string();
    assert!(message.contains("llama.attention.causal: false is not supported"), "{message}");
    // A factor of zero is none.
    let (_folder, path) = gguf_with(name, "llama.rope.scaling.factor", &float(0.0));
    assert_eq!(pretrained::look(&path).unwrap().config, expected.config);
    let (_folder, path) = gguf_with(name, "llama.rope.scaling.factor", &float(2.0));
    assert_ne!(pretrained::look(&path).unwrap().config, expected.config);
}
