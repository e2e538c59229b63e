use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use ndarray::{ArrayD, ArrayView, ArrayView1, ArrayView2, ArrayView3, Dimension, IxDyn};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{Error, ModelConfig};

/// Named float32 arrays on the host, in the order of [`ModelConfig::parameter_shapes`]:
/// a model's weights, their gradients, or an optimizer's moments.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    entries: Vec<(String, ArrayD<f32>)>,
}

impl Params {
    /// Checks that `entries` are exactly the configuration's parameters, and puts them in order.
    ///
    /// # Errors
    /// A missing or unknown parameter, or one of another shape.
    pub fn new(
        config: &ModelConfig,
        mut entries: BTreeMap<String, ArrayD<f32>>,
    ) -> Result<Self, Error> {
        let mut ordered = Vec::new();
        for (name, shape) in config.parameter_shapes() {
            let Some(value) = entries.remove(&name) else {
                return Err(Error::MissingParameter { name, shape });
            };
            if value.shape() != shape {
                return Err(Error::Shape { name, found: value.shape().to_vec(), expected: shape });
            }
            ordered.push((name, value.as_standard_layout().into_owned()));
        }
        match entries.into_keys().next() {
            Some(name) => Err(Error::UnknownParameter { name }),
            None => Ok(Self { entries: ordered }),
        }
    }

    /// All zeros.
    pub fn zeros(config: &ModelConfig) -> Self {
        Self::from_fn(config, |_, shape| ArrayD::zeros(IxDyn(shape)))
    }

    /// Each parameter from its name and shape.
    ///
    /// # Panics
    /// If `make` returns an array of another shape.
    pub fn from_fn(
        config: &ModelConfig,
        mut make: impl FnMut(&str, &[usize]) -> ArrayD<f32>,
    ) -> Self {
        let entries = config.parameter_shapes().into_iter().map(|(name, shape)| {
            let value = make(&name, &shape);
            assert_eq!(value.shape(), shape, "{name}");
            (name, value.as_standard_layout().into_owned())
        });
        Self { entries: entries.collect() }
    }

    /// Checks that these are the configuration's parameters.
    ///
    /// # Errors
    /// A missing or unknown parameter, or one of another shape.
    pub fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        let expected = config.parameter_shapes();
        for ((name, shape), (found, value)) in expected.iter().zip(&self.entries) {
            if name != found {
                return Err(Error::MissingParameter { name: name.clone(), shape: shape.clone() });
            }
            if value.shape() != shape {
                return Err(Error::Shape {
                    name: name.clone(),
                    found: value.shape().to_vec(),
                    expected: shape.clone(),
                });
            }
        }
        match (expected.get(self.entries.len()), self.entries.get(expected.len())) {
            (Some((name, shape)), _) => {
                Err(Error::MissingParameter { name: name.clone(), shape: shape.clone() })
            }
            (None, Some((name, _))) => Err(Error::UnknownParameter { name: name.clone() }),
            (None, None) => Ok(()),
        }
    }

    /// Name and value of each parameter, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ArrayD<f32>)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Name and value of each parameter, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut ArrayD<f32>)> {
        self.entries.iter_mut().map(|(name, value)| (name.as_str(), value))
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&ArrayD<f32>> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The parameter of that name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut ArrayD<f32>> {
        self.entries.iter_mut().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Gives up all parameters whose name `keep` refuses, and their memory. What is left is no
    /// longer a whole model.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|(name, _)| keep(name));
    }

    /// `W_U`, `[d_model, d_vocab]`: its own parameter, or the transpose of `W_E` where the two are
    /// tied.
    ///
    /// # Panics
    /// Never for parameters that a configuration was checked against.
    pub fn unembedding(&self) -> ArrayView2<'_, f32> {
        self.array("unembed.W_U").unwrap_or_else(|| self.embedding().reversed_axes())
    }

    /// `W_E`, `[d_vocab, d_model]`.
    ///
    /// # Panics
    /// Never for parameters that a configuration was checked against.
    pub fn embedding(&self) -> ArrayView2<'_, f32> {
        self.array("embed.W_E").expect("every model has an embedding")
    }

    /// The gain of the last norm, `[d_model]`; `None` of a model without norms.
    pub fn ln_final(&self) -> Option<ArrayView1<'_, f32>> {
        self.array("ln_final.w")
    }

    /// The parameters of block `layer`.
    pub fn block(&self, layer: usize) -> BlockParams<'_> {
        BlockParams { params: self, layer }
    }

    /// The parameter of that name, in the number of dimensions that the name stands for.
    fn array<D: Dimension>(&self, name: &str) -> Option<ArrayView<'_, f32, D>> {
        let view = self.get(name)?.view().into_dimensionality();
        Some(view.expect("parameters have their configuration's shape"))
    }

    /// The first parameter that holds a NaN or an infinity, if any.
    pub fn first_not_finite(&self) -> Option<&str> {
        self.iter().find(|(_, value)| value.iter().any(|x| !x.is_finite())).map(|(name, _)| name)
    }
}

/// The parameters of one block, in the dimensions that their names stand for.
///
/// What every block has panics where the block is not there, and never for parameters that a
/// configuration was checked against.
#[derive(Clone, Copy, Debug)]
pub struct BlockParams<'a> {
    params: &'a Params,
    layer: usize,
}

impl<'a> BlockParams<'a> {
    /// The parameter of that name without `blocks.N.` before it, if the block has it.
    pub fn get(self, name: &str) -> Option<&'a ArrayD<f32>> {
        self.params.get(&format!("blocks.{}.{name}", self.layer))
    }

    fn array<D: Dimension>(self, name: &str) -> Option<ArrayView<'a, f32, D>> {
        self.params.array(&format!("blocks.{}.{name}", self.layer))
    }

    fn heads(self, name: &str) -> ArrayView3<'a, f32> {
        self.array(name).expect("every block has attention")
    }

    /// `W_Q`, `[n_heads, d_model, d_head]`.
    pub fn w_q(self) -> ArrayView3<'a, f32> {
        self.heads("attn.W_Q")
    }

    /// `W_K`, `[n_key_value_heads, d_model, d_head]`.
    pub fn w_k(self) -> ArrayView3<'a, f32> {
        self.heads("attn.W_K")
    }

    /// `W_V`, `[n_key_value_heads, d_model, d_head]`.
    pub fn w_v(self) -> ArrayView3<'a, f32> {
        self.heads("attn.W_V")
    }

    /// `W_O`, `[n_heads, d_head, d_model]`.
    pub fn w_o(self) -> ArrayView3<'a, f32> {
        self.heads("attn.W_O")
    }

    /// Gain of the norm before attention, `[d_model]`.
    pub fn ln1(self) -> Option<ArrayView1<'a, f32>> {
        self.array("ln1.w")
    }

    /// Bias of the norm before attention, `[d_model]`.
    pub fn ln1_bias(self) -> Option<ArrayView1<'a, f32>> {
        self.array("ln1.b")
    }

    /// Gains of the norms of each head's queries and keys, `[d_head]`, where heads share them
    /// ([`QkNorm::Head`](crate::QkNorm::Head)).
    pub fn qk_norm(self) -> Option<[ArrayView1<'a, f32>; 2]> {
        let gain = |name| self.get(name)?.view().into_dimensionality().ok();
        Some([gain("attn.q_norm.w")?, gain("attn.k_norm.w")?])
    }

    /// Gain of the norm after attention, `[d_model]`.
    pub fn ln1_post(self) -> Option<ArrayView1<'a, f32>> {
        self.array("ln1_post.w")
    }

    /// What the sinusoidal positions are multiplied with.
    pub fn pos_gain(self) -> Option<f32> {
        self.array("attn.pos_gain").map(|gain: ArrayView1<'_, f32>| gain[0])
    }

    /// The share of a smeared key that is the key's own, `[n_heads]`, before the sigmoid.
    pub fn smear_alpha(self) -> Option<ArrayView1<'a, f32>> {
        self.array("attn.smear_alpha")
    }
}

/// Named arrays as the bytes of a safetensors file (float32, little-endian, C order).
///
/// # Panics
/// Never for arrays in memory: the format has no size that they could exceed.
pub fn write_safetensors<'a>(
    arrays: impl IntoIterator<Item = (String, &'a ArrayD<f32>)>,
) -> Vec<u8> {
    write_safetensors_with(arrays, None)
}

/// [`write_safetensors`], with metadata in the header.
pub(crate) fn write_safetensors_with<'a>(
    arrays: impl IntoIterator<Item = (String, &'a ArrayD<f32>)>,
    metadata: Option<HashMap<String, String>>,
) -> Vec<u8> {
    let encoded: Vec<(String, Vec<usize>, Vec<u8>)> = arrays
        .into_iter()
        .map(|(name, value)| {
            (name, value.shape().to_vec(), value.iter().flat_map(|x| x.to_le_bytes()).collect())
        })
        .collect();
    let views = encoded.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
            .expect("bytes were made from this shape");
        (name.as_str(), view)
    });
    safetensors::serialize(views, metadata).expect("names are unique and sizes fit")
}

/// The arrays of a safetensors file's bytes; `path` is for the messages.
///
/// # Errors
/// [`Error::Format`] for a damaged file or one with other types than float32.
pub fn read_safetensors(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, ArrayD<f32>>, Error> {
    let format = |reason: String| Error::Format { path: path.to_path_buf(), reason };
    let file = SafeTensors::deserialize(bytes).map_err(|e| {
        format(format!("not a whole safetensors file ({e}); restore it or take another snapshot"))
    })?;
    let mut arrays = BTreeMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format(format!("tensor {name} is {:?}: expected F32", view.dtype())));
        }
        let data = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let value = ArrayD::from_shape_vec(IxDyn(view.shape()), data).map_err(|_| {
            format(format!("tensor {name}: its bytes do not fill its shape {:?}", view.shape()))
        })?;
        arrays.insert(name, value);
    }
    Ok(arrays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safetensors_round_trip_is_exact() {
        let params = ModelConfig {
            d_model: 6,
            n_heads: 2,
            d_head: 3,
            n_ctx: 4,
            d_vocab: 5,
            ..ModelConfig::default()
        }
        .init_params(1)
        .unwrap();
        let bytes = write_safetensors(params.iter().map(|(n, v)| (n.to_string(), v)));
        let back = read_safetensors(Path::new("x"), &bytes).unwrap();
        assert!(params.iter().all(|(name, value)| back[name] == *value));
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let value = ArrayD::<f32>::zeros(IxDyn(&[4, 4]));
        let bytes = write_safetensors([("a".to_string(), &value)]);
        for cut in 0..bytes.len() {
            assert!(read_safetensors(Path::new("x"), &bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn wrong_sets_are_named() {
        let config = ModelConfig {
            d_model: 6,
            n_heads: 2,
            d_head: 3,
            n_ctx: 4,
            d_vocab: 5,
            ..ModelConfig::default()
        };
        let all: BTreeMap<_, _> = config
            .init_params(1)
            .unwrap()
            .iter()
            .map(|(n, v)| (n.to_string(), v.clone()))
            .collect();
        let mut missing = all.clone();
        missing.remove("blocks.1.attn.W_O");
        assert!(
            Params::new(&config, missing).unwrap_err().to_string().contains("blocks.1.attn.W_O")
        );
        let mut extra = all.clone();
        extra.insert("surplus".into(), ArrayD::zeros(IxDyn(&[1])));
        assert!(Params::new(&config, extra).unwrap_err().to_string().contains("surplus"));
        let mut reshaped = all;
        reshaped.insert("embed.W_E".into(), ArrayD::zeros(IxDyn(&[6, 5])));
        assert!(Params::new(&config, reshaped).unwrap_err().to_string().contains("[6, 5]"));
    }
}
