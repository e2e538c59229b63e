use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use ndarray::{Array2, ArrayD, Axis, Ix2, IxDyn, Slice};
use rayon::prelude::*;

use super::{
    recipe::{Layout, Recipe, arrange, split_name},
    tensors::Tensors,
};
use crate::{Encoded, Error, ModelConfig, ReadParams};

/// The weights of a pretrained model, in its files until they are asked for.
///
/// When one is made, every parameter is known to have a tensor of the right shape, and every tensor
/// a use.
pub struct Stored {
    tensors: Box<dyn Tensors>,
    config: ModelConfig,
    /// Shape and place of each parameter.
    places: BTreeMap<String, (Vec<usize>, Recipe)>,
    /// Names of tensors that are not needed, with `*` for numbers.
    ignored: BTreeSet<String>,
    /// Values of those that are.
    n_params: u64,
}

/// Columns of a parameter that are rows of its tensor.
struct Columns<'a> {
    /// The parameter that has them.
    name: &'a str,
    recipe: &'a Recipe,
    /// Values of each.
    width: usize,
    /// In their order.
    rows: Vec<Range<usize>>,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("path", &self.tensors.path()).finish_non_exhaustive()
    }
}

impl Stored {
    /// The parameters of `config` in `tensors`, where `recipe` says that they are.
    ///
    /// # Errors
    /// A tensor that is missing, that has another shape than the configuration says, or that
    /// nothing uses and `ignored` does not know.
    pub(super) fn new(
        config: &ModelConfig,
        tensors: Box<dyn Tensors>,
        recipe: impl Fn(&dyn Tensors, usize, &str) -> Option<Recipe>,
        ignored: impl Fn(&str) -> bool,
    ) -> Result<Self, Error> {
        config.validate()?;
        let format = |reason: String| Error::Format { path: tensors.path().to_path_buf(), reason };
        let mut places = BTreeMap::new();
        let mut used = BTreeSet::new();
        for (name, shape) in config.parameter_shapes() {
            let (layer, short) = split_name(&name);
            let Some(recipe) = recipe(tensors.as_ref(), layer, short) else {
                return Err(format(format!(
                    "no tensor is known to hold {name} of this architecture"
                )));
            };
            for (tensor, expected) in recipe.tensors(&shape) {
                let found = tensors.shape(&tensor).ok_or_else(|| {
                    let help = match short {
                        "unembed.W_U" => "; if embedding and unembedding are one, set tie_word_embeddings to true",
                        _ => "",
                    };
                    format(format!(
                        "tensor {tensor} is missing: the configuration expects it, of shape {expected:?}{help}"
                    ))
                })?;
                let more = matches!(recipe.layout, Layout::Part { .. })
                    && found.len() == 2
                    && found[0] > expected[0]
                    && found[1] == expected[1];
                if found != expected && !more {
                    return Err(format(format!(
                        "tensor {tensor} has shape {found:?}: the configuration expects {expected:?}"
                    )));
                }
                used.insert(tensor);
            }
            for tensor in recipe.norm.iter().flatten() {
                if tensors.shape(tensor) != Some(&[config.d_model]) {
                    let expected = config.d_model;
                    return Err(format(format!("tensor {tensor}: expected shape [{expected}]")));
                }
                used.insert(tensor.clone());
            }
            places.insert(name, (shape, recipe));
        }
        let unused: Vec<&str> =
            tensors.names().into_iter().filter(|name| !used.contains(*name)).collect();
        if let Some(name) = unused.iter().find(|name| !ignored(name)) {
            return Err(format(format!(
                "tensor {name} is no part of this architecture as it is known here: the model would not be run as it was trained"
            )));
        }
        let starred = |name: &&str| {
            let part =
                |part: &str| if part.parse::<u64>().is_ok() { "*" } else { part }.to_string();
            name.split('.').map(part).collect::<Vec<_>>().join(".")
        };
        let ignored = unused.iter().map(starred).collect();
        let count = |name: &String| tensors.shape(name).map_or(0, |s| s.iter().product::<usize>());
        let n_params = used.iter().map(|name| count(name) as u64).sum();
        Ok(Self { tensors, config: config.clone(), places, ignored, n_params })
    }

    /// The encodings of the weights, e.g. `BF16` or `Q4_1, F32`.
    pub fn encoding(&self) -> String {
        self.tensors.encoding()
    }

    /// Learned scalars: each tensor once, whatever is made of it.
    pub fn n_params(&self) -> u64 {
        self.n_params
    }

    /// Whether embedding and unembedding are one matrix.
    pub fn is_tied(&self) -> bool {
        let tensor = |name: &str| self.places.get(name).map(|(_, recipe)| &recipe.tensor);
        tensor("unembed.W_U").is_none_or(|tensor_of| Some(tensor_of) == tensor("embed.W_E"))
    }

    /// Tensors that are not needed, with `*` for numbers.
    pub fn ignored(&self) -> Vec<String> {
        self.ignored.iter().cloned().collect()
    }

    fn place(&self, name: &str) -> Result<&(Vec<usize>, Recipe), Error> {
        self.places.get(name).ok_or_else(|| Error::UnknownParameter { name: name.to_string() })
    }

    /// Refuses a value that is none, by its place in the tensor, or in the parameter that is made of
    /// it.
    fn finite(&self, tensor: &str, made: Option<&str>, values: &[f32]) -> Result<(), Error> {
        // An infinity or a NaN has all bits of its exponent. The largest of many is found at once.
        const EXPONENT: u32 = 0x7f80_0000;
        let largest = |values: &[f32]| {
            values.iter().fold(0, |largest, x| largest.max(x.to_bits() & EXPONENT))
        };
        if values.par_chunks(1 << 16).map(largest).max().unwrap_or(0) < EXPONENT {
            return Ok(());
        }
        let at = values.iter().position(|x| !x.is_finite()).unwrap_or_default();
        Err(Error::Format {
            path: self.tensors.path().to_path_buf(),
            reason: match made {
                None => format!("tensor {tensor}: its value {at} is not finite"),
                Some(name) => {
                    format!("tensor {tensor}: value {at} of {name}, made of it, is not finite")
                }
            },
        })
    }

    /// The same of some of a parameter's values: where one is none, all of it is read to say which.
    fn finite_part(&self, name: &str, values: &[f32]) -> Result<(), Error> {
        match self.finite("", Some(name), values) {
            Ok(()) => Ok(()),
            Err(_) => self.parameter(name).map(drop),
        }
    }

    /// Puts rows of `d_model` numbers through a layer norm, if the recipe has one.
    fn norm(&self, recipe: &Recipe, values: &mut [f32]) -> Result<(), Error> {
        let Some([gain, bias]) = &recipe.norm else { return Ok(()) };
        let (gain, bias) = (self.tensors.read(gain)?, self.tensors.read(bias)?);
        let n = self.config.d_model as f64;
        values.par_chunks_exact_mut(self.config.d_model).for_each(|row| {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let centred = |x: f32| f64::from(x) - mean;
            let variance = row.iter().map(|&x| centred(x).powi(2)).sum::<f64>() / n;
            let scale = (variance + self.config.layer_norm_eps).sqrt();
            for ((x, &gain), &bias) in row.iter_mut().zip(&gain).zip(&bias) {
                *x = (centred(*x) / scale * f64::from(gain) + f64::from(bias)) as f32;
            }
        });
        Ok(())
    }

    /// Where columns of a parameter are rows of a tensor; nothing where they are not.
    fn columns<'a>(
        &'a self,
        name: &'a str,
        columns: Range<usize>,
    ) -> Result<Option<Columns<'a>>, Error> {
        let tied = name == "unembed.W_U" && self.config.architecture.tied_embeddings;
        let name = if tied { "embed.W_E" } else { name };
        let (shape, recipe) = self.place(name)?;
        let row_of = |column: usize| match (tied, recipe.layout) {
            (true, Layout::AsIs) if recipe.norm.is_none() => Some(column),
            (true, _) => None,
            _ => recipe.row_of(shape, column),
        };
        let width = match shape[..] {
            [_, width] if tied => width,
            [heads, inputs, _] if recipe.layout == Layout::Transposed => heads * inputs,
            [.., inputs, _] => inputs,
            _ => return Ok(None),
        };
        if row_of(0).is_none() {
            return Ok(None);
        }
        // Rows that follow each other in the file are read at once.
        let mut rows: Vec<Range<usize>> = Vec::new();
        for row in columns.map(|column| row_of(column).expect("columns are rows")) {
            match rows.last_mut() {
                Some(last) if last.end == row => last.end += 1,
                _ => rows.push(row..row + 1),
            }
        }
        Ok(Some(Columns { name, recipe, width, rows }))
    }

    /// Rows of a tensor as they lie there.
    fn rows(&self, name: &str, recipe: &Recipe, rows: Range<usize>) -> Result<Array2<f32>, Error> {
        let mut values = self.tensors.read_rows(&recipe.tensor, rows.clone())?;
        recipe.adjust(&mut values);
        self.norm(recipe, &mut values)?;
        self.finite_part(name, &values)?;
        let width = self.config.d_model;
        Ok(Array2::from_shape_vec((rows.len(), width), values).expect("rows of d_model numbers"))
    }
}

impl ReadParams for Stored {
    fn parameter(&self, name: &str) -> Result<ArrayD<f32>, Error> {
        let (shape, recipe) = self.place(name)?;
        let mut values = match recipe.layout {
            Layout::Constant(value) => vec![f32::from(value); shape.iter().product()],
            layout => {
                let mut values = Vec::new();
                for (tensor, _) in recipe.tensors(shape) {
                    let mut read = self.tensors.read(&tensor)?;
                    self.finite(&tensor, None, &read)?;
                    if values.is_empty() {
                        values = read;
                    } else {
                        values.append(&mut read);
                    }
                }
                arrange(values, shape, layout)
            }
        };
        recipe.adjust(&mut values);
        self.norm(recipe, &mut values)?;
        self.finite(&recipe.tensor, Some(name), &values)?;
        Ok(ArrayD::from_shape_vec(IxDyn(shape), values).expect("arranged in its shape"))
    }

    fn columns_into(
        &self,
        name: &str,
        columns: Range<usize>,
        values: &mut [f32],
    ) -> Result<bool, Error> {
        let Some(Columns { name, recipe, width, rows }) = self.columns(name, columns.clone())?
        else {
            return Ok(false);
        };
        assert_eq!(values.len(), columns.len() * width, "values of columns {columns:?} of {name}");
        let mut rest = &mut *values;
        for rows in rows {
            let part = rest.split_off_mut(..rows.len() * width).expect("as many as there are");
            self.tensors.read_rows_into(&recipe.tensor, rows, part)?;
        }
        recipe.adjust(values);
        self.finite_part(name, values)?;
        Ok(true)
    }

    fn encoded_columns(&self, name: &str, columns: Range<usize>) -> Result<Option<Encoded>, Error> {
        let Some(Columns { recipe, width, rows, .. }) = self.columns(name, columns)? else {
            return Ok(None);
        };
        if !recipe.is_plain() {
            return Ok(None);
        }
        let (mut bytes, mut found) = (Vec::new(), None);
        for rows in rows {
            found = self.tensors.read_bytes(&recipe.tensor, rows, &mut bytes)?;
            if found.is_none() {
                return Ok(None);
            }
        }
        Ok(found.map(|encoding| Encoded { encoding, bytes, width }))
    }

    fn embedding_of(&self, tokens: &[u32]) -> Result<Array2<f32>, Error> {
        const NAME: &str = "embed.W_E";
        let (_, recipe) = self.place(NAME)?;
        let row = |&token: &u32| {
            self.tensors.read_rows(&recipe.tensor, token as usize..token as usize + 1)
        };
        let rows: Vec<Vec<f32>> = tokens.par_iter().map(row).collect::<Result<_, Error>>()?;
        let mut values = rows.concat();
        recipe.adjust(&mut values);
        self.norm(recipe, &mut values)?;
        self.finite_part(NAME, &values)?;
        let shape = (tokens.len(), self.config.d_model);
        Ok(Array2::from_shape_vec(shape, values).expect("a row a token"))
    }

    fn unembedding_of(&self, tokens: Range<usize>) -> Result<Array2<f32>, Error> {
        const NAME: &str = "unembed.W_U";
        if self.config.architecture.tied_embeddings {
            let (_, recipe) = self.place("embed.W_E")?;
            return self.rows("embed.W_E", recipe, tokens);
        }
        let (_, recipe) = self.place(NAME)?;
        if recipe.layout == Layout::Transposed {
            return self.rows(NAME, recipe, tokens);
        }
        // Columns of rows: only small models are stored so.
        let whole = self.parameter(NAME)?.into_dimensionality::<Ix2>().expect("W_U is a matrix");
        let columns = whole.slice_axis(Axis(1), Slice::from(tokens));
        Ok(columns.reversed_axes().as_standard_layout().into_owned())
    }
}
