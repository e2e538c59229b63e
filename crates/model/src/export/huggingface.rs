use std::collections::HashMap;

use serde_json::{Value, json};

use crate::{Error, ModelConfig, Params, params::write_safetensors_with};

/// A model in a folder for HuggingFace's `AutoModelForCausalLM.from_pretrained(...,
/// trust_remote_code=True)`. Returns the files' names and contents.
///
/// No architecture of `transformers` is this family, so the folder has its own modelling code (for
/// versions 4.5x and 5.x). Nothing is folded: `config.json` has [`ModelConfig`]'s fields,
/// `model.safetensors` our parameters under their names, and
/// [`pretrained::open`](crate::pretrained::open) gets both back to the bit. `tokenizer_config.json`
/// is for a `tokenizer.json` laid beside it.
///
/// # Errors
/// [`Error::Export`] for a clamp and for what is not the paper's family, which that code lacks;
/// parameters that are not this
/// configuration's.
pub fn export_huggingface(
    config: &ModelConfig,
    params: &Params,
) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
    config.validate()?;
    params.check(config)?;
    let cannot =
        |what: &str| Err(Error::Export { target: "the HuggingFace export", what: what.into() });
    if !config.clamp.is_empty() {
        return cannot("a clamp; use `induction scan` on the run itself");
    }
    if !config.is_paper_family() {
        return cannot(
            "rotary positions, RMS norm, QK norm or tied embeddings, which `--format transformer-lens` has",
        );
    }
    let mut described = serde_json::to_value(config).expect("configurations serialize");
    let fields = described.as_object_mut().expect("a configuration is an object");
    for (name, value) in [
        ("architectures", json!(["InductionForCausalLM"])),
        ("model_type", json!("induction")),
        (
            "auto_map",
            json!({
                "AutoConfig": "configuration_induction.InductionConfig",
                "AutoModelForCausalLM": "modeling_induction.InductionForCausalLM",
            }),
        ),
        // The name of either version.
        ("torch_dtype", json!("float32")),
        ("dtype", json!("float32")),
        ("tie_word_embeddings", json!(false)),
        ("bos_token_id", json!(0)),
    ] {
        fields.insert(name.into(), value);
    }
    // The first token of the next document ends one. No padding token: a batch's first tokens would
    // be taken for it.
    let generation = json!({"bos_token_id": 0, "eos_token_id": 0, "use_cache": false});
    let tokenizer = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "model_max_length": config.n_ctx,
        "padding_side": "right",
        "clean_up_tokenization_spaces": false,
    });
    // What `transformers` asks for before it loads a file.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let weights = write_safetensors_with(
        params.iter().map(|(name, value)| (name.to_string(), value)),
        Some(metadata),
    );
    let text = |value: Value| format!("{value:#}\n").into_bytes();
    Ok(vec![
        ("config.json", text(described)),
        ("generation_config.json", text(generation)),
        (
            "configuration_induction.py",
            include_bytes!("../../assets/configuration_induction.py").to_vec(),
        ),
        ("modeling_induction.py", include_bytes!("../../assets/modeling_induction.py").to_vec()),
        ("model.safetensors", weights),
        ("tokenizer_config.json", text(tokenizer)),
    ])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Clamp, Normalization, pretrained, read_safetensors, write_export_huggingface};

    fn small() -> ModelConfig {
        ModelConfig {
            d_model: 6,
            n_heads: 2,
            d_head: 5,
            n_ctx: 4,
            d_vocab: 7,
            position_base: 0.1 + 99.2,
            pos_gain_init: [-0.3, 0.1 + 0.2],
            layer_norm_eps: 1.0 / 3e5,
            ..ModelConfig::default()
        }
    }

    fn cases() -> [ModelConfig; 3] {
        [
            ModelConfig { d_mlp: 9, smeared_keys: true, ..small() },
            ModelConfig { n_layers: 3, normalization: Normalization::None, ..small() },
            small(),
        ]
    }

    /// Parameters of which none is 1 or 0, but for a negative zero.
    fn parameters(config: &ModelConfig) -> Params {
        let mut params = config.init_params(5).unwrap();
        for (at, (_, value)) in params.iter_mut().enumerate() {
            value.iter_mut().enumerate().for_each(|(i, x)| *x += (at + i) as f32 * 0.01 + 1e-3);
        }
        params.get_mut("embed.W_E").unwrap()[[0, 0]] = -0.0;
        params
    }

    #[test]
    fn what_is_written_is_read_again_to_the_bit() {
        for config in cases() {
            let (folder, params) = (tempfile::tempdir().unwrap(), parameters(&config));
            write_export_huggingface(&config, &params, folder.path()).unwrap();
            assert!(pretrained::is_pretrained(folder.path()));
            let back = pretrained::open(folder.path()).unwrap();
            assert_eq!(back.config, config);
            assert_eq!((back.family.as_str(), back.encoding.as_str()), ("induction", "F32"));
            let bits = |params: &Params| -> Vec<(String, Vec<u32>)> {
                params
                    .iter()
                    .map(|(name, x)| (name.to_string(), x.iter().map(|x| x.to_bits()).collect()))
                    .collect()
            };
            assert_eq!(bits(&back.params), bits(&params));
        }
    }

    #[test]
    fn the_folder_is_what_transformers_wants() {
        let config = small();
        let files = export_huggingface(&config, &parameters(&config)).unwrap();
        let file = |name: &str| &files.iter().find(|(found, _)| *found == name).unwrap().1;
        let json = |name: &str| serde_json::from_slice::<Value>(file(name)).unwrap();
        let described = json("config.json");
        // Each class that `auto_map` names is in the file that it names.
        for class in described["auto_map"].as_object().unwrap().values() {
            let (module, class) = class.as_str().unwrap().split_once('.').unwrap();
            let code = std::str::from_utf8(file(&format!("{module}.py"))).unwrap();
            assert!(code.contains(&format!("\nclass {class}(")), "{class}");
        }
        // Each field of ours is a parameter of the configuration's constructor.
        let code = std::str::from_utf8(file("configuration_induction.py")).unwrap();
        for field in serde_json::to_value(&config).unwrap().as_object().unwrap().keys() {
            assert!(code.contains(&format!("        {field}=")), "{field}");
        }
        let weights = file("model.safetensors");
        let (_, header) = safetensors::SafeTensors::read_metadata(weights).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
        assert_eq!(
            read_safetensors(Path::new("x"), weights).unwrap().len(),
            config.parameter_shapes().len()
        );
        assert_eq!(json("tokenizer_config.json")["bos_token"], "<|bos|>");
    }

    #[test]
    fn a_clamp_and_other_parameters_are_refused() {
        let clamped = ModelConfig { clamp: Clamp::ForbidInduction.into(), ..small() };
        let message = export_huggingface(&clamped, &parameters(&clamped)).unwrap_err().to_string();
        assert!(message.contains("cannot express a clamp"), "{message}");
        let other = ModelConfig { smeared_keys: true, ..small() };
        assert!(matches!(
            export_huggingface(&other, &parameters(&small())),
            Err(Error::MissingParameter { .. })
        ));
    }

    #[test]
    fn a_changed_description_is_refused_by_name() {
        let config = small();
        let folder = tempfile::tempdir().unwrap();
        write_export_huggingface(&config, &parameters(&config), folder.path()).unwrap();
        let path = folder.path().join("config.json");
        let whole: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (field, value, said) in [
            ("n_layers", Value::Null, "n_layers"),
            ("n_layers", json!(3), "blocks.2"),
            ("d_head", json!(-5), "-5"),
            ("d_vocab", json!(u64::MAX), "d_vocab"),
            ("pos_gain_init", json!([1.0]), "length 1"),
            ("normalization", json!("RMS"), "normalization"),
            ("clamp", json!({"kind": "forbid-induction"}), "clamp"),
            ("architecture", json!({"parallel": true}), "architecture"),
            ("tie_word_embeddings", json!(true), "tie_word_embeddings"),
        ] {
            let mut changed = whole.clone();
            changed[field] = value;
            std::fs::write(&path, changed.to_string()).unwrap();
            let message = pretrained::open(folder.path()).unwrap_err().to_string();
            assert!(message.contains(said), "{field}: {message}");
        }
    }
}
