//! GGUF files, with the names that llama.cpp gives to metadata and tensors.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use induction_gguf::{Gguf, Value};

use super::{
    SpecialTokens, Stored, Unread,
    families::FAMILIES,
    fields::MAX_LAYERS,
    name_of,
    recipe::{EXPERT, Layout, Recipe, norm_of_heads, split_name},
    tensors::Tensors,
};
use crate::{
    Architecture, Error, Experts, ModelConfig, Pairs, Positions, QkNorm, Rotary, RotaryScaling,
};

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
    // It is the attention of all families here.
    if !header.flag("attention.causal", true)? {
        let reason = "false is not supported here, expected true or nothing".to_string();
        return Err(header.refuse("attention.causal", reason));
    }
    let config = (family.config)(&header, header.common()?)?;
    if let Some(n) = header.expert_count()?.filter(|_| config.architecture.experts.is_none()) {
        let reason = format!("{n}: mixtures of this architecture are not known here");
        return Err(header.refuse("expert_count", reason));
    }
    config.validate()?;
    // Recipes ask the file's header, and the tensors take the file: all are made before.
    let recipes: BTreeMap<String, Recipe> = (config.parameter_shapes().into_iter())
        .filter_map(|(name, _)| {
            let (layer, short) = split_name(&name);
            let source = InFile { config: &config, header: &header, layer };
            let recipe = (family.recipe)(&source, short)?;
            Some((name, recipe))
        })
        .collect();
    let recipe = |_: &dyn Tensors, layer: usize, short: &str| {
        let in_layer = recipes.get(&format!("blocks.{layer}.{short}"));
        in_layer.or_else(|| recipes.get(short)).cloned()
    };
    let ignored = |name: &str| {
        matches!(name, "rope_freqs.weight" | SHORT_FACTORS | "rope_factors_long.weight")
    };
    let declared_ctx = header.size("context_length")?;
    let special = header.special();
    let stored = Stored::new(&config, Box::new(file), recipe, ignored)?;
    let unread = Unread::of(name_of(path), architecture, config, stored);
    Ok(Unread { declared_ctx, special, ..unread })
}

/// Divisors of rotary frequencies within the context that a model was first trained with, where it
/// has others for longer texts.
const SHORT_FACTORS: &str = "rope_factors_short.weight";

/// A file's metadata on its architecture.
pub(super) struct Header<'a> {
    file: &'a Gguf,
    architecture: &'static str,
}

impl Header<'_> {
    fn key(&self, field: &str) -> String {
        format!("{}.{field}", self.architecture)
    }

    pub(super) fn refuse(&self, field: &str, reason: String) -> Error {
        let reason = format!("{}: {reason}", self.key(field));
        Error::Format { path: self.file.path().to_path_buf(), reason }
    }

    /// A size, up to 2^31; where the file has one for each layer, all must be the same.
    pub(super) fn size_opt(&self, field: &str) -> Result<Option<usize>, Error> {
        let key = self.key(field);
        if let Some(Value::Array(_)) = self.file.get(&key) {
            let each = self.file.integers_opt(&key)?.unwrap_or_default();
            let (layers, first) = (self.layers()?, each.first().copied().unwrap_or(-1));
            let fits = usize::try_from(first).ok().filter(|&n| n <= 1 << 31);
            return match fits {
                Some(n) if each.len() == layers && each.iter().all(|&n| n == first) => Ok(Some(n)),
                _ => Err(self.refuse(
                    field,
                    format!(
                        "{} numbers from {first} on, expected one size, or the same in each of {layers} layers",
                        each.len()
                    ),
                )),
            };
        }
        let Some(n) = self.file.unsigned_opt(&key)? else { return Ok(None) };
        let fits = usize::try_from(n).ok().filter(|&n| n <= 1 << 31);
        fits.map(Some).ok_or_else(|| self.refuse(field, format!("{n}, expected at most 2^31")))
    }

    fn size(&self, field: &str) -> Result<usize, Error> {
        self.size_opt(field)?
            .ok_or_else(|| self.refuse(field, "missing, expected a whole number".into()))
    }

    /// The number of layers: bounded, as families list them.
    fn layers(&self) -> Result<usize, Error> {
        // Not by `size`, which asks for the number of layers where it finds an array.
        match self.file.unsigned(&self.key("block_count"))? {
            n if n <= MAX_LAYERS as u64 => Ok(n as usize),
            n => Err(self.refuse("block_count", format!("{n}, expected at most {MAX_LAYERS}"))),
        }
    }

    /// Whether the file has a tensor of that name.
    pub(super) fn has(&self, tensor: &str) -> bool {
        self.file.tensor(tensor).is_some()
    }

    /// A number, if it is there.
    pub(super) fn number_opt(&self, field: &str) -> Result<Option<f64>, Error> {
        Ok(self.file.float_opt(&self.key(field))?)
    }

    /// A positive number, if it is there.
    pub(super) fn multiplier(&self, field: &str) -> Result<Option<f64>, Error> {
        match self.number_opt(field)? {
            Some(x) if !(x > 0.0 && x.is_finite()) => {
                Err(self.refuse(field, format!("{x}, expected more than 0")))
            }
            found => Ok(found),
        }
    }

    /// A size that must be there, as a number.
    fn number_of_size(&self, field: &str) -> Result<f64, Error> {
        Ok(self.size(field)? as f64)
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
        // A model that attends within a window is run as far as its window goes.
        let window = self.size_opt("attention.sliding_window")?.filter(|&n| n > 0);
        let original = match self.has(SHORT_FACTORS) {
            true => Some(self.size("rope.scaling.original_context_length")?),
            false => None,
        };
        let within = [window, original].into_iter().flatten().min().unwrap_or(usize::MAX);
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
        let has = |tensor: &str| self.has(tensor);
        Ok(ModelConfig {
            n_layers: self.layers()?,
            d_model,
            n_heads,
            d_head,
            d_mlp: self.size("feed_forward_length")?,
            n_ctx: self.size("context_length")?.min(within),
            d_vocab,
            architecture: Architecture {
                n_key_value_heads: self.size_opt("attention.head_count_kv")?.unwrap_or(n_heads),
                qkv_bias: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
                out_bias: has("blk.0.attn_output.bias"),
                mlp_bias: has("blk.0.ffn_down.bias"),
                unembed_bias: has("output.bias"),
                tied_embeddings: !has("output.weight"),
                ..Architecture::default()
            },
            ..ModelConfig::default()
        })
    }

    /// What the file says of special tokens, and of tokens that are not normal ones. A tokenizer
    /// that cannot be read may still say so much.
    fn special(&self) -> SpecialTokens {
        let id = |name: &str| {
            let id = self.file.unsigned_opt(&format!("tokenizer.ggml.{name}_token_id"));
            id.ok().flatten().and_then(|id| u32::try_from(id).ok())
        };
        let adds = self.file.bool_opt("tokenizer.ggml.add_bos_token").ok().flatten();
        let types = self.file.integers_opt("tokenizer.ggml.token_type").ok().flatten();
        const NORMAL: i64 = 1;
        let types = types.into_iter().flatten().zip(0..);
        let mut ids: BTreeSet<u32> =
            types.filter(|(kind, _)| *kind != NORMAL).map(|(_, id)| id).collect();
        ids.extend(["bos", "eos", "unknown", "padding"].into_iter().filter_map(id));
        SpecialTokens { bos: id("bos").filter(|_| adds != Some(false)), ids }
    }

    /// The number of experts, of a mixture.
    fn expert_count(&self) -> Result<Option<usize>, Error> {
        Ok(self.size_opt("expert_count")?.filter(|&n| n > 0))
    }

    /// The same with experts, if the file has any; whether their shares are made to sum to 1 is a
    /// matter of the architecture, and few files say it.
    pub(super) fn with_experts(
        &self,
        config: ModelConfig,
        normalized: bool,
    ) -> Result<ModelConfig, Error> {
        let Some(count) = self.expert_count()? else { return Ok(config) };
        let chosen = self.size("expert_used_count")?;
        if chosen == 0 || chosen > count {
            let reason = format!("{chosen}, expected 1 to {count}, their number");
            return Err(self.refuse("expert_used_count", reason));
        }
        // What a mixture may have beside, and how its router may score, but for a softmax.
        for (field, usual) in [
            ("expert_shared_count", 0),
            ("leading_dense_block_count", 0),
            ("expert_group_count", 1),
            ("expert_gating_func", 1),
        ] {
            if let Some(n) = self.size_opt(field)?.filter(|&n| n != 0 && n != usual) {
                let reason = format!("{n} is not supported here, expected {usual}, or nothing");
                return Err(self.refuse(field, reason));
            }
        }
        let key = self.key("expert_weights_norm");
        if let Some(says) = self.file.bool_opt(&key)?.filter(|&says| says != normalized) {
            let reason = format!("{says}, expected {normalized}, as this architecture is known");
            return Err(self.refuse("expert_weights_norm", reason));
        }
        if let Some(scale) = self.number_opt("expert_weights_scale")?
            && scale != 0.0
            && scale != 1.0
        {
            let reason = format!("{scale} is not supported here, expected 1, or nothing");
            return Err(self.refuse("expert_weights_scale", reason));
        }
        Ok(ModelConfig {
            d_mlp: self.size_opt("expert_feed_forward_length")?.unwrap_or(config.d_mlp),
            architecture: Architecture {
                experts: Some(Experts { count, chosen, normalized }),
                ..config.architecture
            },
            ..config
        })
    }

    /// Queries, keys and values that are cut off at a size are not computed here.
    pub(super) fn refuse_clamp(&self) -> Result<(), Error> {
        match self.number_opt("attention.clamp_kqv")?.filter(|&x| x != 0.0) {
            None => Ok(()),
            Some(clamp) => {
                let reason = format!("{clamp} is not supported here, expected nothing");
                Err(self.refuse("attention.clamp_kqv", reason))
            }
        }
    }

    /// With layer norms and rotary positions.
    pub(super) fn layer_normed(
        &self,
        common: ModelConfig,
        pairs: Pairs,
    ) -> Result<ModelConfig, Error> {
        let positions = Positions::Rotary(self.rotary(common.d_head, pairs)?);
        Ok(ModelConfig {
            layer_norm_eps: self.number("attention.layer_norm_epsilon")?,
            architecture: Architecture { positions, ..common.architecture },
            ..common
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
        // Zero is none, as in llama.cpp.
        let factor = factor.filter(|&factor| factor != 0.0);
        let kind = self.file.string_opt(&self.key("rope.scaling.type"))?;
        let given = self.number_opt("rope.scaling.attn_factor")?;
        let mut attention_factor = None;
        let scaling = match (kind, factor) {
            (Some("linear") | None, Some(factor)) => Some(RotaryScaling::Linear { factor }),
            (Some("none") | None, _) | (Some("linear" | "yarn"), None) => None,
            (Some("yarn"), Some(factor)) => {
                attention_factor = Some(given.unwrap_or(1.0) * (1.0 + 0.1 * factor.ln()));
                Some(RotaryScaling::Yarn {
                    factor,
                    beta_fast: self.number_opt("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                    beta_slow: self.number_opt("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                    original_context: self
                        .number_of_size("rope.scaling.original_context_length")?,
                    truncate: true,
                })
            }
            // Its divisors are a tensor.
            (Some("longrope"), _) if self.has(SHORT_FACTORS) => None,
            (Some(other), _) => {
                let reason =
                    format!("{other:?} is not known here, expected none, linear, yarn or longrope");
                return Err(self.refuse("rope.scaling.type", reason));
            }
        };
        let divisors = [SHORT_FACTORS, "rope_freqs.weight"]
            .into_iter()
            .find_map(|name| Some((name, self.file.tensor(name)?)));
        let scaling = match divisors {
            None => scaling,
            Some((name, tensor)) if tensor.elements() == dim / 2 && scaling.is_none() => {
                attention_factor = given.filter(|_| name == SHORT_FACTORS);
                Some(RotaryScaling::Divisors { by: self.file.read(name)? })
            }
            Some((name, tensor)) => {
                let reason = format!(
                    "tensor {name} has {} values, expected {}, and no other scaling beside it",
                    tensor.elements(),
                    dim / 2
                );
                return Err(Error::Format { path: self.file.path().to_path_buf(), reason });
            }
        };
        let attention_factor = attention_factor.filter(|&x| x != 1.0);
        Ok(Rotary { dim, base, pairs, scaling, attention_factor })
    }
}

/// A place in a GGUF file, where a parameter is asked for.
#[derive(Clone, Copy)]
pub(super) struct InFile<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) header: &'a Header<'a>,
    /// The parameter's layer; 0 of what is in none.
    pub(super) layer: usize,
}

impl InFile<'_> {
    /// A tensor of the layer.
    pub(super) fn in_layer(&self, tensor: &str, layout: Layout) -> Recipe {
        Recipe::new(format!("blk.{}.{tensor}", self.layer), layout)
    }
}

/// Where the parameter of that name is, by the names that all families share.
pub(super) fn recipe(source: &InFile<'_>, name: &str) -> Option<Recipe> {
    heads(source, name, false).or_else(|| others(source, name))
}

/// The same of a family whose queries, keys and values are one tensor, one after the other.
pub(super) fn recipe_of_one_qkv(source: &InFile<'_>, name: &str) -> Option<Recipe> {
    heads(source, name, true).or_else(|| others(source, name))
}

/// What heads read by.
fn heads(source: &InFile<'_>, name: &str, one: bool) -> Option<Recipe> {
    let config = source.config;
    let stride = config.d_head;
    let (of_q, of_kv) = (config.n_heads * stride, config.n_key_value_heads() * stride);
    let part = |which: &str| match (which, one) {
        ("Q", true) => ("attn_qkv", 0, of_q + 2 * of_kv),
        ("K", true) => ("attn_qkv", of_q, of_q + 2 * of_kv),
        ("V", true) => ("attn_qkv", of_q + of_kv, of_q + 2 * of_kv),
        ("Q", false) => ("attn_q", 0, of_q),
        ("K", false) => ("attn_k", 0, of_kv),
        _ => ("attn_v", 0, of_kv),
    };
    match name {
        "attn.W_Q" | "attn.W_K" | "attn.W_V" => {
            let (tensor, first, rows) = part(&name[7..]);
            let layout = Layout::HeadRows { first, stride, rows };
            Some(source.in_layer(&format!("{tensor}.weight"), layout))
        }
        "attn.b_Q" | "attn.b_K" | "attn.b_V" => {
            let (tensor, first, entries) = part(&name[7..]);
            let layout = Layout::HeadEntries { first, stride, entries };
            Some(source.in_layer(&format!("{tensor}.bias"), layout))
        }
        _ => None,
    }
}

/// A matrix of each expert: one tensor of all, or, in files of 2023 and early 2024, one each.
fn expert(source: &InFile<'_>, matrix: &str) -> Recipe {
    let one_each = source.header.has(&format!("blk.{}.{matrix}.0.weight", source.layer));
    let named = if one_each { format!(".{EXPERT}") } else { "_exps".to_string() };
    source.in_layer(&format!("{matrix}{named}.weight"), Layout::Experts)
}

fn others(source: &InFile<'_>, name: &str) -> Option<Recipe> {
    let architecture = &source.config.architecture;
    let mixed = architecture.experts.is_some();
    let normed = match architecture.qk_norm {
        QkNorm::Whole => norm_of_heads(source.config, name),
        QkNorm::Head | QkNorm::None => Layout::AsIs,
    };
    let in_layer = |tensor: &str, layout| Some(source.in_layer(tensor, layout));
    let outer = |tensor: &str, layout| Some(Recipe::new(tensor, layout));
    match name {
        "embed.W_E" => outer("token_embd.weight", Layout::AsIs),
        "pos_embed.W_pos" => outer("position_embd.weight", Layout::AsIs),
        "ln1.w" => in_layer("attn_norm.weight", Layout::AsIs),
        "ln1.b" => in_layer("attn_norm.bias", Layout::AsIs),
        "attn.q_norm.w" => in_layer("attn_q_norm.weight", normed),
        "attn.k_norm.w" => in_layer("attn_k_norm.weight", normed),
        "ln1_post.w" => in_layer("post_attention_norm.weight", Layout::AsIs),
        "ln2_post.w" => in_layer("post_ffw_norm.weight", Layout::AsIs),
        "attn.W_O" => in_layer("attn_output.weight", Layout::Transposed),
        "attn.b_O" => in_layer("attn_output.bias", Layout::AsIs),
        "ln2.w" => in_layer("ffn_norm.weight", Layout::AsIs),
        "ln2.b" => in_layer("ffn_norm.bias", Layout::AsIs),
        "mlp.W_router" => in_layer("ffn_gate_inp.weight", Layout::Transposed),
        "mlp.W_gate" if mixed => Some(expert(source, "ffn_gate")),
        "mlp.W_in" if mixed => Some(expert(source, "ffn_up")),
        "mlp.W_out" if mixed => Some(expert(source, "ffn_down")),
        "mlp.W_gate" => in_layer("ffn_gate.weight", Layout::Transposed),
        "mlp.b_gate" => in_layer("ffn_gate.bias", Layout::AsIs),
        "mlp.W_in" => in_layer("ffn_up.weight", Layout::Transposed),
        "mlp.b_in" => in_layer("ffn_up.bias", Layout::AsIs),
        "mlp.W_out" => in_layer("ffn_down.weight", Layout::Transposed),
        "mlp.b_out" => in_layer("ffn_down.bias", Layout::AsIs),
        "ln_final.w" => outer("output_norm.weight", Layout::AsIs),
        "ln_final.b" => outer("output_norm.bias", Layout::AsIs),
        "unembed.W_U" => outer("output.weight", Layout::Transposed),
        "unembed.b_U" => outer("output.bias", Layout::AsIs),
        _ => None,
    }
}
