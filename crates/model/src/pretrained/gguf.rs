//! GGUF files, with the names that llama.cpp gives to metadata and tensors.

use std::path::Path;

use induction_gguf::Gguf;

use super::{
    Stored, Unread,
    families::{FAMILIES, GgufFamily},
    name_of,
    recipe::{Layout, Recipe},
    tensors::Tensors,
};
use crate::{Architecture, Error, ModelConfig, Pairs, Rotary, RotaryScaling};

pub(super) fn open(path: &Path) -> Result<Unread, Error> {
    let file = Gguf::open(path)?;
    let architecture = file.string("general.architecture")?.to_string();
    let known = FAMILIES.iter().filter_map(|family| family.gguf.as_ref());
    let Some(family) = known.clone().find(|family| family.architecture == architecture) else {
        let known: Vec<&str> = known.map(|family| family.architecture).collect();
        let reason = format!(
            "general.architecture: {architecture:?} is not an architecture known here: {}",
            known.join(", ")
        );
        return Err(Error::Format { path: path.to_path_buf(), reason });
    };
    let header = Header { file: &file, architecture: family.architecture };
    let config = (family.config)(&header, header.common()?)?;
    let recipe = |_: &dyn Tensors, layer: usize, name: &str| recipe(&config, family, layer, name);
    let ignored = |name: &str| name == "rope_freqs.weight";
    let stored = Stored::new(&config, Box::new(file), recipe, ignored)?;
    Ok(Unread::of(name_of(path), architecture, config, stored))
}

/// A file's metadata on its architecture.
pub(super) struct Header<'a> {
    file: &'a Gguf,
    architecture: &'static str,
}

impl Header<'_> {
    fn key(&self, field: &str) -> String {
        format!("{}.{field}", self.architecture)
    }

    fn refuse(&self, field: &str, reason: String) -> Error {
        let reason = format!("{}: {reason}", self.key(field));
        Error::Format { path: self.file.path().to_path_buf(), reason }
    }

    fn size_opt(&self, field: &str) -> Result<Option<usize>, Error> {
        let Some(n) = self.file.unsigned_opt(&self.key(field))? else { return Ok(None) };
        let fits = usize::try_from(n).ok().filter(|&n| n <= 1 << 31);
        fits.map(Some).ok_or_else(|| self.refuse(field, format!("{n}, expected at most 2^31")))
    }

    fn size(&self, field: &str) -> Result<usize, Error> {
        self.size_opt(field)?
            .ok_or_else(|| self.refuse(field, "missing, expected a whole number".into()))
    }

    /// A number that must be there.
    pub(super) fn number(&self, field: &str) -> Result<f64, Error> {
        Ok(self.file.float(&self.key(field))?)
    }

    /// True or false.
    pub(super) fn flag(&self, field: &str, default: bool) -> Result<bool, Error> {
        Ok(self.file.bool_opt(&self.key(field))?.unwrap_or(default))
    }

    /// What all families say alike: sizes, and the biases that there are.
    fn common(&self) -> Result<ModelConfig, Error> {
        let file = self.file;
        let (d_model, n_heads) =
            (self.size("embedding_length")?, self.size("attention.head_count")?);
        let d_head = match self.size_opt("attention.key_length")? {
            Some(d_head) => d_head,
            None if n_heads > 0 && d_model.is_multiple_of(n_heads) => d_model / n_heads,
            None => {
                return Err(self.refuse(
                    "attention.head_count",
                    format!("{n_heads}, which does not divide {d_model}, the width"),
                ));
            }
        };
        if let Some(value) = self.size_opt("attention.value_length")?
            && value != d_head
        {
            return Err(self.refuse(
                "attention.value_length",
                format!("{value}, expected {d_head}, as keys have"),
            ));
        }
        for field in ["expert_count", "attention.sliding_window"] {
            if let Some(n) = self.size_opt(field)?.filter(|&n| n > 0) {
                return Err(
                    self.refuse(field, format!("{n} is not supported here, expected nothing"))
                );
            }
        }
        let embedding = Tensors::shape(file, "token_embd.weight").map(<[usize]>::to_vec);
        let Some(&[d_vocab, _]) = embedding.as_deref() else {
            let reason =
                "tensor token_embd.weight is missing, or no matrix: expected [d_vocab, d_model]"
                    .to_string();
            return Err(Error::Format { path: file.path().to_path_buf(), reason });
        };
        if let Some(said) = self.size_opt("vocab_size")?
            && said != d_vocab
        {
            return Err(self.refuse(
                "vocab_size",
                format!("{said}, but token_embd.weight has {d_vocab} rows"),
            ));
        }
        let has = |tensor: &str| file.tensor(tensor).is_some();
        Ok(ModelConfig {
            n_layers: self.size("block_count")?,
            d_model,
            n_heads,
            d_head,
            d_mlp: self.size("feed_forward_length")?,
            n_ctx: self.size("context_length")?,
            d_vocab,
            architecture: Architecture {
                n_key_value_heads: self.size_opt("attention.head_count_kv")?.unwrap_or(n_heads),
                qkv_bias: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
                out_bias: has("blk.0.attn_output.bias"),
                mlp_bias: has("blk.0.ffn_down.bias"),
                tied_embeddings: !has("output.weight"),
                ..Architecture::default()
            },
            ..ModelConfig::default()
        })
    }

    /// Rotary positions.
    pub(super) fn rotary(&self, d_head: usize, pairs: Pairs) -> Result<Rotary, Error> {
        let dim = self
            .file
            .unsigned_opt(&self.key("rope.dimension_count"))?
            .map_or(d_head, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let base = self.file.float_opt(&self.key("rope.freq_base"))?.unwrap_or(10_000.0);
        let factor = match self.file.float_opt(&self.key("rope.scaling.factor"))? {
            Some(factor) => Some(factor),
            None => self.file.float_opt(&self.key("rope.scale_linear"))?,
        };
        let kind = self.file.string_opt(&self.key("rope.scaling.type"))?;
        let scaling = match (kind, factor) {
            (Some("linear") | None, Some(factor)) => Some(RotaryScaling::Linear { factor }),
            (Some("none") | None, _) => None,
            (Some("linear"), None) => {
                return Err(self.refuse("rope.scaling.factor", "missing, expected a number".into()));
            }
            (Some(other), _) => {
                return Err(self.refuse(
                    "rope.scaling.type",
                    format!("{other:?} is not known here, expected none or linear"),
                ));
            }
        };
        let scaling = match self.file.tensor("rope_freqs.weight") {
            None => scaling,
            Some(tensor) if tensor.elements() == dim / 2 && scaling.is_none() => {
                Some(RotaryScaling::Divisors { by: self.file.read("rope_freqs.weight")? })
            }
            Some(tensor) => {
                let reason = format!(
                    "tensor rope_freqs.weight has {} values, expected {}, and no other scaling beside it",
                    tensor.elements(),
                    dim / 2
                );
                return Err(Error::Format { path: self.file.path().to_path_buf(), reason });
            }
        };
        Ok(Rotary { dim, base, pairs, scaling })
    }
}

fn recipe(config: &ModelConfig, family: &GgufFamily, l: usize, name: &str) -> Option<Recipe> {
    let in_layer = |tensor: &str, layout| Some(Recipe::new(format!("blk.{l}.{tensor}"), layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(tensor, layout));
    let one = family.one_qkv;
    let (of_q, of_kv) =
        (config.n_heads * config.d_head, config.n_key_value_heads() * config.d_head);
    let part = |which: &str| match (which, one) {
        ("q", true) => ("attn_qkv".to_string(), 0, of_q + 2 * of_kv),
        ("k", true) => ("attn_qkv".to_string(), of_q, of_q + 2 * of_kv),
        ("v", true) => ("attn_qkv".to_string(), of_q + of_kv, of_q + 2 * of_kv),
        ("q", false) => ("attn_q".to_string(), 0, of_q),
        (which, _) => (format!("attn_{which}"), 0, of_kv),
    };
    let weight = |which: &str| {
        let (tensor, first, rows) = part(which);
        in_layer(
            &format!("{tensor}.weight"),
            Layout::HeadRows { first, stride: config.d_head, rows },
        )
    };
    let bias = |which: &str| {
        let (tensor, first, entries) = part(which);
        in_layer(
            &format!("{tensor}.bias"),
            Layout::HeadEntries { first, stride: config.d_head, entries },
        )
    };
    match name {
        "embed.W_E" => outer("token_embd.weight", Layout::AsIs),
        "pos_embed.W_pos" => outer("position_embd.weight", Layout::AsIs),
        "ln1.w" => in_layer("attn_norm.weight", Layout::AsIs),
        "ln1.b" => in_layer("attn_norm.bias", Layout::AsIs),
        "attn.W_Q" => weight("q"),
        "attn.W_K" => weight("k"),
        "attn.W_V" => weight("v"),
        "attn.b_Q" => bias("q"),
        "attn.b_K" => bias("k"),
        "attn.b_V" => bias("v"),
        "attn.q_norm.w" => in_layer("attn_q_norm.weight", Layout::AsIs),
        "attn.k_norm.w" => in_layer("attn_k_norm.weight", Layout::AsIs),
        "attn.W_O" => in_layer("attn_output.weight", Layout::Transposed),
        "attn.b_O" => in_layer("attn_output.bias", Layout::AsIs),
        "ln2.w" => in_layer("ffn_norm.weight", Layout::AsIs),
        "ln2.b" => in_layer("ffn_norm.bias", Layout::AsIs),
        "mlp.W_gate" => in_layer("ffn_gate.weight", Layout::Transposed),
        "mlp.b_gate" => in_layer("ffn_gate.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("ffn_up.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("ffn_up.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("ffn_down.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("ffn_down.bias", Layout::AsIs),
        "ln_final.w" => outer("output_norm.weight", Layout::AsIs),
        "ln_final.b" => outer("output_norm.bias", Layout::AsIs),
        "unembed.W_U" => outer("output.weight", Layout::Transposed),
        _ => None,
    }
}
