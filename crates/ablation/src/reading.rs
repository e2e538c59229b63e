//! One head's reading of the residual stream, and the first derivatives of it, in float64.

use std::ops::Range;

use induction_engine::Error;
use induction_model::{
    ModelConfig, Normalization, Norms, Positions, QkNorm, ReadParams, Rotary, alibi_slopes,
    sinusoidal_positions,
};
use ndarray::{Array1, Array2, ArrayD, ArrayView2, Axis, Ix2, Slice, Zip};

use crate::{HeadId, Reads};

/// What takes the residual stream before a layer to one head's queries, keys and values, and those to
/// its attention. It is the same function that engines compute, of any model that they run, but for
/// a clamp; apart from the rest of the model, so that it can be asked about streams that no pass has
/// seen, and about its slope.
///
/// Streams are `[pos, d_model]`; queries, keys and values `[pos, d_head]`, as at
/// [`Hook::Q`](induction_model::Hook::Q) and its neighbours: normed and turned where the model does
/// so.
pub struct HeadReading {
    norm: Option<Norm>,
    /// Added to what queries and keys are made of, `[pos, d_model]`.
    places: Option<Array2<f64>>,
    /// Of queries, keys and values.
    parts: [Part; 3],
    turns: Option<Turns>,
    /// The share of a key that is its own position's.
    smear: Option<f64>,
    /// Scores are divided by the root of this.
    d_head: usize,
    cap: Option<f64>,
    /// What each position between query and key takes from a score.
    slope: f64,
}

/// A norm of rows: less their mean or not, divided by their spread, times a gain.
struct Norm {
    centred: bool,
    gain: Array1<f64>,
    bias: Option<Array1<f64>>,
    eps: f64,
}

/// What makes queries, keys or values of a normed stream.
struct Part {
    /// `[d_model, column]`.
    w: Array2<f64>,
    b: Option<Array1<f64>>,
    norm: Option<Norm>,
    /// Those of the head, where others are normed with them.
    columns: Range<usize>,
}

/// Rotary positions.
struct Turns {
    rotary: Rotary,
    /// `[pos, pair]`.
    cos: Array2<f64>,
    sin: Array2<f64>,
}

impl HeadReading {
    /// That of `head`, for streams of up to `pos` positions.
    ///
    /// # Errors
    /// The weights'.
    ///
    /// # Panics
    /// On a head that the model does not have.
    pub fn new(
        config: &ModelConfig,
        weights: &dyn ReadParams,
        HeadId { layer, head }: HeadId,
        pos: usize,
    ) -> Result<Self, Error> {
        let a = &config.architecture;
        let parameter = |name: &str| -> Result<ArrayD<f64>, Error> {
            Ok(weights.parameter(&format!("blocks.{layer}.{name}"))?.mapv(f64::from))
        };
        let row = |name: &str| -> Result<Array1<f64>, Error> {
            let value = parameter(name)?;
            Ok(Array1::from_iter(value.iter().copied()))
        };
        let norm = match config.normalization {
            _ if a.norms == Norms::After => None,
            Normalization::None => None,
            kind => {
                let centred = kind == Normalization::LN;
                let bias = centred.then(|| row("ln1.b")).transpose()?;
                Some(Norm { centred, gain: row("ln1.w")?, bias, eps: config.layer_norm_eps })
            }
        };
        let places = match a.positions {
            Positions::Sinusoidal => {
                let gain = row("attn.pos_gain")?[0];
                let all = sinusoidal_positions(config.n_ctx, config.d_model, config.position_base);
                Some(rows(all, pos).mapv(|x| gain * x))
            }
            Positions::Shortformer => {
                let all = weights.parameter("pos_embed.W_pos")?.mapv(f64::from);
                let all = all.into_dimensionality::<Ix2>().expect("positions are a matrix");
                Some(rows(all, pos))
            }
            _ => None,
        };
        let group = config.n_heads / config.n_key_value_heads();
        let part = |letter: char| -> Result<Part, Error> {
            let head = if letter == 'Q' { head } else { head / group };
            let gain = match letter {
                'Q' => "attn.q_norm.w",
                _ => "attn.k_norm.w",
            };
            let gain = match a.qk_norm {
                QkNorm::None => None,
                _ if letter == 'V' => None,
                _ => Some(row(gain)?),
            };
            let together = gain.is_some() && a.qk_norm == QkNorm::Whole;
            // [head, d_model, d_head].
            let all = parameter(&format!("attn.W_{letter}"))?;
            let heads = if together { 0..all.len_of(Axis(0)) } else { head..head + 1 };
            let of_heads: Vec<_> =
                heads.clone().map(|head| all.index_axis(Axis(0), head)).collect();
            let w = ndarray::concatenate(Axis(1), &of_heads).expect("heads of one shape");
            let w = w.into_dimensionality::<Ix2>().expect("a matrix");
            let b = match a.qkv_bias {
                true => Some(row(&format!("attn.b_{letter}"))?),
                false => None,
            };
            let d_head = config.d_head;
            let b = b.map(|b| {
                let own = heads.start * d_head..heads.end * d_head;
                b.slice_axis_move(Axis(0), Slice::from(own))
            });
            let norm = gain.map(|gain| Norm {
                centred: false,
                gain,
                bias: None,
                eps: config.layer_norm_eps,
            });
            let first = (head - heads.start) * d_head;
            Ok(Part { w, b, norm, columns: first..first + d_head })
        };
        Ok(Self {
            norm,
            places,
            parts: [part('Q')?, part('K')?, part('V')?],
            turns: rotary_of(config, layer).map(|rotary| Turns::new(rotary, pos)),
            smear: match config.smeared_keys {
                true => Some(1.0 / (1.0 + (-row("attn.smear_alpha")?[head]).exp())),
                false => None,
            },
            d_head: config.d_head,
            cap: a.attn_scores_soft_cap,
            slope: match a.positions {
                Positions::Alibi => alibi_slopes(config.n_heads)[head],
                _ => 0.0,
            },
        })
    }

    /// The stream as queries, keys and values are made of it.
    pub fn normed(&self, stream: ArrayView2<'_, f64>) -> Array2<f64> {
        match &self.norm {
            Some(norm) => norm.of(stream),
            None => stream.to_owned(),
        }
    }

    /// The head's queries, keys or values of a stream that is [`normed`](Self::normed).
    pub fn read(&self, reads: Reads, normed: ArrayView2<'_, f64>) -> Array2<f64> {
        let part = &self.parts[reads as usize];
        let before = self.before_norm(reads, normed);
        let all = match &part.norm {
            Some(norm) => norm.of(before.view()),
            None => before,
        };
        let mut own = all.slice_axis_move(Axis(1), Slice::from(part.columns.clone()));
        if let Some(turns) = self.turns.as_ref().filter(|_| reads != Reads::Values) {
            turns.turn(&mut own, 1.0);
        }
        if let Some(share) = self.smear.filter(|_| reads == Reads::Keys) {
            for t in (1..own.nrows()).rev() {
                let before = own.row(t - 1).to_owned();
                own.row_mut(t).zip_mut_with(&before, |x, before| {
                    *x = share * *x + (1.0 - share) * before;
                });
            }
        }
        own
    }

    fn before_norm(&self, reads: Reads, normed: ArrayView2<'_, f64>) -> Array2<f64> {
        let part = &self.parts[reads as usize];
        let mut out = match self.places.as_ref().filter(|_| reads != Reads::Values) {
            Some(places) => {
                (&normed + &places.slice_axis(Axis(0), Slice::from(..normed.nrows()))).dot(&part.w)
            }
            None => normed.dot(&part.w),
        };
        if let Some(b) = &part.b {
            out += b;
        }
        out
    }

    /// Of something that has this `slope` in the head's queries, keys or values, the slope in the
    /// stream that they are read from.
    pub fn slope(
        &self,
        reads: Reads,
        stream: ArrayView2<'_, f64>,
        slope: Array2<f64>,
    ) -> Array2<f64> {
        let part = &self.parts[reads as usize];
        let mut own = slope;
        if let Some(share) = self.smear.filter(|_| reads == Reads::Keys) {
            for t in 1..own.nrows() {
                let after = own.row(t).to_owned();
                own.row_mut(t - 1).scaled_add(1.0 - share, &after);
                own.row_mut(t).mapv_inplace(|x| share * x);
            }
        }
        if let Some(turns) = self.turns.as_ref().filter(|_| reads != Reads::Values) {
            turns.turn(&mut own, -1.0);
        }
        let normed = self.normed(stream);
        let all = match &part.norm {
            Some(norm) => {
                let before = self.before_norm(reads, normed.view());
                let mut all = Array2::zeros(before.dim());
                all.slice_axis_mut(Axis(1), Slice::from(part.columns.clone())).assign(&own);
                norm.slope(before.view(), all)
            }
            None => own,
        };
        let slope = all.dot(&part.w.t());
        match &self.norm {
            Some(norm) => norm.slope(stream, slope),
            None => slope,
        }
    }

    /// Scores before the softmax, `[query, key]`; of keys after their query minus infinity.
    pub fn scores(&self, queries: ArrayView2<'_, f64>, keys: ArrayView2<'_, f64>) -> Array2<f64> {
        let mut scores = queries.dot(&keys.t());
        let scale = 1.0 / (self.d_head as f64).sqrt();
        for ((query, key), score) in scores.indexed_iter_mut() {
            let capped = match self.cap {
                Some(cap) => cap * (*score * scale / cap).tanh(),
                None => *score * scale,
            };
            *score = match key <= query {
                true => capped - self.slope * (query - key) as f64,
                false => f64::NEG_INFINITY,
            };
        }
        scores
    }

    /// Of something that has this `slope` in the scores, the slopes in the queries and in the keys.
    pub fn slope_of_scores(
        &self,
        queries: ArrayView2<'_, f64>,
        keys: ArrayView2<'_, f64>,
        mut slope: Array2<f64>,
    ) -> [Array2<f64>; 2] {
        let scale = 1.0 / (self.d_head as f64).sqrt();
        if let Some(cap) = self.cap {
            let plain = queries.dot(&keys.t());
            Zip::from(&mut slope)
                .and(&plain)
                .for_each(|slope, x| *slope *= 1.0 - (x * scale / cap).tanh().powi(2));
        }
        for ((query, key), slope) in slope.indexed_iter_mut() {
            *slope *= if key <= query { scale } else { 0.0 };
        }
        [slope.dot(&keys), slope.t().dot(&queries)]
    }
}

/// The rotary positions of a layer.
fn rotary_of(config: &ModelConfig, layer: usize) -> Option<&Rotary> {
    let a = &config.architecture;
    match (&a.positions, &a.other_positions) {
        (Positions::Rotary(_), Some(other)) if other.layers.contains(&layer) => {
            other.rotary.as_ref()
        }
        (Positions::Rotary(rotary), _) => Some(rotary),
        _ => None,
    }
}

/// The first of them.
fn rows(all: Array2<f64>, count: usize) -> Array2<f64> {
    all.slice_axis_move(Axis(0), Slice::from(..count))
}

impl Norm {
    /// Of a row: its mean, if it is taken off, and its spread.
    fn of_row(&self, row: ndarray::ArrayView1<'_, f64>) -> (f64, f64) {
        let n = row.len() as f64;
        let mean = if self.centred { row.sum() / n } else { 0.0 };
        let squares: f64 = row.iter().map(|x| (x - mean).powi(2)).sum();
        (mean, (squares / n + self.eps).sqrt())
    }

    fn of(&self, x: ArrayView2<'_, f64>) -> Array2<f64> {
        let mut out = x.to_owned();
        for mut row in out.rows_mut() {
            let (mean, spread) = self.of_row(row.view());
            row.zip_mut_with(&self.gain, |x, gain| *x = (*x - mean) / spread * gain);
            if let Some(bias) = &self.bias {
                row += bias;
            }
        }
        out
    }

    fn slope(&self, x: ArrayView2<'_, f64>, mut slope: Array2<f64>) -> Array2<f64> {
        for (mut slope, x) in slope.rows_mut().into_iter().zip(x.rows()) {
            let (mean, spread) = self.of_row(x);
            let n = x.len() as f64;
            slope *= &self.gain;
            let off = if self.centred { slope.sum() / n } else { 0.0 };
            let unit = |x: f64| (x - mean) / spread;
            let along = slope.iter().zip(x).map(|(s, &x)| s * unit(x)).sum::<f64>() / n;
            slope.zip_mut_with(&x, |s, &x| *s = (*s - off - along * unit(x)) / spread);
        }
        slope
    }
}

impl Turns {
    fn new(rotary: &Rotary, pos: usize) -> Self {
        let frequencies = rotary.frequencies();
        let factor = rotary.attention_factor.unwrap_or(1.0);
        let table = |of: fn(f64) -> f64| {
            let shape = (pos, frequencies.len());
            Array2::from_shape_fn(shape, |(t, i)| factor * of(t as f64 * frequencies[i]))
        };
        Self { rotary: rotary.clone(), cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// By the angle times `sign`; the factor of both directions is the same.
    fn turn(&self, rows: &mut Array2<f64>, sign: f64) {
        for (t, mut row) in rows.rows_mut().into_iter().enumerate() {
            for i in 0..self.rotary.dim / 2 {
                let (first, second) = self.rotary.pair(i);
                let (cos, sin) = (self.cos[[t, i]], sign * self.sin[[t, i]]);
                let (a, b) = (row[first], row[second]);
                row[first] = a * cos - b * sin;
                row[second] = b * cos + a * sin;
            }
        }
    }
}
