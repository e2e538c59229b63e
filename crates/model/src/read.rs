use std::{collections::BTreeMap, ops::Range};

use ndarray::{Array2, ArrayD, Axis, Slice};
use rayon::prelude::*;

use crate::{Encoding, Error, ModelConfig, Params};

/// Columns of a parameter as rows `[column, input]`, as a file has them.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// How.
    pub encoding: Encoding,
    /// Whole blocks of that encoding, a whole number of them a row.
    pub bytes: Vec<u8>,
    /// Values in a row.
    pub width: usize,
}

/// A model's parameters, read when they are asked for: [`Params`] that are in memory, or the files
/// of a pretrained model ([`pretrained::Stored`](crate::pretrained::Stored)).
pub trait ReadParams: Send + Sync {
    /// All of a parameter, by its name in
    /// [`parameter_shapes`](crate::ModelConfig::parameter_shapes).
    ///
    /// # Errors
    /// A name that the model does not have; the files', and a value that is not finite.
    fn parameter(&self, name: &str) -> Result<ArrayD<f32>, Error>;

    /// Rows of `W_E`, `[token, d_model]`.
    ///
    /// # Errors
    /// As [`parameter`](Self::parameter).
    ///
    /// # Panics
    /// On tokens that the model does not have.
    fn embedding_of(&self, tokens: &[u32]) -> Result<Array2<f32>, Error>;

    /// Columns of `W_U` as rows, `[token, d_model]`.
    ///
    /// # Errors
    /// As [`parameter`](Self::parameter).
    ///
    /// # Panics
    /// On tokens that the model does not have.
    fn unembedding_of(&self, tokens: Range<usize>) -> Result<Array2<f32>, Error>;

    /// Columns of a block's matrix, or of `W_U`, as rows, one after the other: `[column, input]`. A
    /// parameter of heads, `[head, input, d_head]`, has the columns of head 0, then those of head
    /// 1; `W_O` has the inputs of head 0, then those of head 1. Returns whether it is stored so
    /// that they can be read without reading all of it; if not, `values` are left as they are.
    ///
    /// It works in the thread that asks, as many may ask at once.
    ///
    /// # Errors
    /// As [`parameter`](Self::parameter).
    ///
    /// # Panics
    /// On columns that the parameter does not have, or another number of values than they have.
    fn columns_into(
        &self,
        name: &str,
        columns: Range<usize>,
        values: &mut [f32],
    ) -> Result<bool, Error> {
        let _ = (name, columns, values);
        Ok(false)
    }

    /// Columns as [`columns_into`](Self::columns_into) has them, in the encoding that they have in
    /// their file, for a device that decodes them there; nothing where more makes their values than
    /// decoding. Whether all of these are finite has not been looked at.
    ///
    /// # Errors
    /// As [`parameter`](Self::parameter).
    ///
    /// # Panics
    /// On columns that the parameter does not have.
    fn encoded_columns(&self, name: &str, columns: Range<usize>) -> Result<Option<Encoded>, Error> {
        let _ = (name, columns);
        Ok(None)
    }

    /// All parameters of `config`, in parallel.
    ///
    /// # Errors
    /// As [`parameter`](Self::parameter).
    fn load(&self, config: &ModelConfig) -> Result<Params, Error> {
        let read = |(name, _): (String, _)| {
            let value = self.parameter(&name)?;
            Ok((name, value))
        };
        // One after the other within a task, so that few tensors are there twice.
        let shapes = config.parameter_shapes().into_par_iter().with_max_len(1);
        let entries: BTreeMap<String, ArrayD<f32>> =
            shapes.map(read).collect::<Result<_, Error>>()?;
        Params::new(config, entries)
    }
}

impl ReadParams for Params {
    fn parameter(&self, name: &str) -> Result<ArrayD<f32>, Error> {
        self.get(name).cloned().ok_or_else(|| Error::UnknownParameter { name: name.to_string() })
    }

    fn embedding_of(&self, tokens: &[u32]) -> Result<Array2<f32>, Error> {
        let rows: Vec<usize> = tokens.iter().map(|&token| token as usize).collect();
        Ok(self.embedding().select(Axis(0), &rows))
    }

    fn unembedding_of(&self, tokens: Range<usize>) -> Result<Array2<f32>, Error> {
        let columns = self.unembedding().slice_axis_move(Axis(1), Slice::from(tokens));
        Ok(columns.reversed_axes().as_standard_layout().into_owned())
    }
}
