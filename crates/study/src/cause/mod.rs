//! What a head does, by cause: at the last position of a prompt something takes the place of what
//! one head reads there, everything else stays as it was, and the change of what the model expects
//! next is the head's doing.
//!
//! | measure | what takes the head's place | source |
//! |---|---|---|
//! | [`copying`] | its output from a run in which something can be copied | Feucht et al. 2025, arXiv 2504.03022 |
//! | [`cut`], induction | its output without what followed an earlier copy | Crosbie and Shutova 2024, arXiv 2407.07011 |
//! | [`cut`], suppression | its output without copies of what the model expects already | McDougall et al. 2023, arXiv 2310.04625 |
//! | [`together`] | nothing of it is left, or nothing of its induction pattern; of several heads, at all positions | Crosbie and Shutova 2024 |
//! | [`functions`] | its mean output over examples of a task | Todd et al. 2023, arXiv 2310.15213 |
//!
//! Each score is a mean over prompts with its standard error, once as the change of a probability,
//! between -1 and 1, and once as that of its logarithm in nats. Where many heads share the work,
//! none of them alone makes a likely token of an unlikely one, and the first is next to nothing for
//! all; the second is not. Both are positive for a head that does what the measure is named after.

pub mod copying;
pub mod cut;
pub mod functions;
mod passages;
mod tasks;
pub mod together;
mod words;

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use induction_engine::{Engine, Intervention, Watched};
use induction_metrics::mean_stderr;
use induction_model::{Hook, ModelConfig};
use induction_records::{ByCause, Cause};
use induction_tokenizer::Tokenizer;
use ndarray::{Array2, Array3, Array4, ArrayView2, Axis, Ix4, Slice};

pub(crate) use self::passages::PASSAGES;
use crate::Error;

/// Bytes that residual streams of changed runs may fill at once.
const AT_ONCE: usize = 128 << 20;

/// What a model is asked with.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The token that begins each prompt.
    pub start: u32,
    /// Tokens that random ones are drawn from.
    pub allowed: &'a [u32],
    /// What makes tokens of words; without, only what needs none is asked.
    pub tokenizer: Option<&'a dyn Tokenizer>,
}

/// A mean over prompts, and its standard error.
pub type Mean = (f64, Option<f64>);

/// What one measure found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the model.
    pub whole: ByCause,
    /// `[layer][head]`: the change of the probability, and of its logarithm in nats.
    pub heads: Vec<Vec<[Mean; 2]>>,
}

/// Every measure that this model can be asked, each with so many prompts. Empty for a model whose
/// context or vocabulary holds no such prompts.
///
/// # Errors
/// The engine's.
pub fn all(
    engine: &dyn Engine,
    source: &Source<'_>,
    prompts: usize,
    say: &dyn Fn(&str),
) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for cause in Cause::ALL {
        say(cause.title());
        found.extend(match cause {
            Cause::TokenCopying => copying::of_tokens(engine, source, prompts)?,
            Cause::ConceptCopying => copying::of_words(engine, source, prompts)?,
            Cause::InductionCut => cut::of_induction(engine, source, prompts)?,
            Cause::CopySuppression => cut::of_suppression(engine, source, prompts)?,
            Cause::FunctionVector => functions::vectors(engine, source, prompts)?,
        });
    }
    Ok(found)
}

/// `[prompt, pos]` of prompts of one length.
fn table<'a>(prompts: impl ExactSizeIterator<Item = &'a [u32]>) -> Array2<u32> {
    let rows: Vec<&[u32]> = prompts.collect();
    let length = rows.first().map_or(0, |row| row.len());
    Array2::from_shape_vec((rows.len(), length), rows.concat()).expect("prompts of one length")
}

/// Prompts that may be taken together, if each head is changed at `positions` positions of each.
fn at_once(config: &ModelConfig, positions: usize) -> usize {
    (AT_ONCE / (4 * config.n_layers * config.n_heads * positions * config.d_model)).max(1)
}

/// Every head's `z` at position `at` of `[prompt, pos]` tokens, `[layer, prompt, head, d_head]`, as
/// `read` makes it of one prompt's activations at `hooks`.
fn z_at(
    engine: &dyn Engine,
    tokens: ArrayView2<'_, u32>,
    hooks: &[fn(usize) -> Hook],
    read: &(dyn Fn(usize, &[ndarray::ArrayView3<'_, f32>]) -> Array2<f32> + Sync),
) -> Result<Array4<f32>, Error> {
    let config = engine.config();
    let shape = (config.n_layers, tokens.nrows(), config.n_heads, config.d_head);
    let all = Mutex::new(Array4::<f32>::zeros(shape));
    engine.watch(&[Watched { tokens, hooks }], &|sight| {
        let seen: Vec<_> = (sight.seen.iter())
            .map(|seen| seen.view().into_dimensionality::<Ix4>().expect("heads' own have rank 4"))
            .collect();
        for k in 0..seen[0].len_of(Axis(0)) {
            let of_prompt: Vec<_> = seen.iter().map(|seen| seen.index_axis(Axis(0), k)).collect();
            let z = read(sight.first + k, &of_prompt);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let mut layer = all.index_axis_mut(Axis(0), sight.layer);
            layer.index_axis_mut(Axis(0), sight.first + k).assign(&z);
        }
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Every head's own `z` at position `at`.
fn own_z(
    engine: &dyn Engine,
    tokens: ArrayView2<'_, u32>,
    at: usize,
) -> Result<Array4<f32>, Error> {
    z_at(engine, tokens, &[Hook::Z], &|_, seen| seen[0].index_axis(Axis(0), at).to_owned())
}

/// Changes that heads make to what should follow prompts, one prompt after the other.
struct Changes {
    /// The probability of what should follow, with no head changed.
    plain: Vec<f64>,
    /// Of each head, layer by layer: what another `z` does to the probability, and to its
    /// logarithm.
    heads: Vec<Vec<[f64; 2]>>,
    n_heads: usize,
}

impl Changes {
    fn none(config: &ModelConfig) -> Self {
        let heads = vec![Vec::new(); config.n_layers * config.n_heads];
        Self { plain: Vec::new(), heads, n_heads: config.n_heads }
    }

    /// Of `[prompt, pos + 1]` tokens, of which the last is what should follow: each head in turn
    /// has `z`, `[layer, prompt, head, d_head]`, at position `at`.
    fn add(
        &mut self,
        engine: &dyn Engine,
        prompts: ArrayView2<'_, u32>,
        at: usize,
        z: &Array4<f32>,
    ) -> Result<(), Error> {
        let mut sets = vec![Vec::new()];
        for (layer, z) in z.outer_iter().enumerate() {
            for head in 0..self.n_heads {
                let value: Array3<f32> =
                    z.index_axis(Axis(1), head).insert_axis(Axis(1)).to_owned();
                let hook = Hook::Z(layer);
                sets.push(vec![Intervention::ReplaceHead { hook, head, from: at, value }]);
            }
        }
        let sets: Vec<&[Intervention]> = sets.iter().map(Vec::as_slice).collect();
        let last = prompts.ncols().saturating_sub(2);
        let losses = engine.last_losses_under(prompts, &sets, last)?;
        for k in 0..prompts.nrows() {
            let log = |losses: &Array2<f32>| -f64::from(losses[[k, 0]]);
            let plain = log(&losses[0]);
            self.plain.push(plain.exp());
            for (changes, losses) in self.heads.iter_mut().zip(&losses[1..]) {
                changes.push([log(losses).exp() - plain.exp(), log(losses) - plain]);
            }
        }
        Ok(())
    }

    /// What a measure found, if it had prompts. Its scores are the changes times `sign`.
    fn found(
        &self,
        cause: Cause,
        sign: f64,
        left_out: usize,
        with: Option<&[f64]>,
    ) -> Option<Found> {
        let prompts = self.plain.len();
        if prompts == 0 {
            return None;
        }
        let of_head = |changes: &Vec<[f64; 2]>| {
            let of = |k: usize| changes.iter().map(|both| sign * both[k]).collect::<Vec<_>>();
            [0, 1].map(|k| mean_stderr(&of(k)))
        };
        let heads: Vec<[Mean; 2]> = self.heads.iter().map(of_head).collect();
        let heads = heads.chunks(self.n_heads).map(<[_]>::to_vec).collect();
        let (plain, plain_stderr) = mean_stderr(&self.plain);
        let (with, with_stderr) = with.map(mean_stderr).unzip();
        let with_stderr = with_stderr.flatten();
        let whole = ByCause { cause, prompts, left_out, plain, plain_stderr, with, with_stderr };
        Some(Found { whole, heads })
    }
}

/// Prompts in parts that are taken together.
fn parts(prompts: usize, at_once: usize) -> impl Iterator<Item = Range<usize>> {
    (0..prompts).step_by(at_once).map(move |from| from..(from + at_once).min(prompts))
}

/// Rows of a table.
fn rows(table: &Array2<u32>, rows: Range<usize>) -> ArrayView2<'_, u32> {
    table.slice_axis(Axis(0), Slice::from(rows))
}
