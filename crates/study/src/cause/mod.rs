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
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use induction_engine::{Engine, Intervention, Watched};
use induction_metrics::mean_stderr;
use induction_model::Hook;
use induction_records::{ByCause, Cause, HeadRow};
use induction_tokenizer::Tokenizer;
use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayView3, Axis, Ix4};

pub(crate) use self::passages::PASSAGES;
use crate::Error;

/// Bytes that residual streams of changed runs may fill at once.
const AT_ONCE: usize = 128 << 20;

/// Prompts whose probability is taken in the run that heads are carried over from, at least, if
/// there are so many: all that this says is whether the model can do it at all.
const OF_THE_OTHER: usize = 16;

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

/// A prompt, what should follow it, and what is done to each head in turn.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Asked {
    /// What is read.
    pub tokens: Vec<u32>,
    /// What should follow.
    pub target: u32,
    /// The position at which a head is changed.
    pub at: usize,
    /// What takes the head's place there.
    pub place: Place,
}

/// What takes a head's place, its `z` at one position.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Its `z` at this position of another run of as many tokens.
    OfRun(Vec<u32>),
    /// What it would read there without these keys, whose shares go to the others.
    Without(Vec<u32>),
    /// Its mean `z` at the last position over the examples of this number.
    MeanOver(usize),
}

/// The prompts of one measure.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Prompts {
    /// Which.
    pub cause: Cause,
    /// The prompts.
    pub asked: Vec<Asked>,
    /// Examples of each task, each with what follows it; of other measures none.
    pub examples: Vec<Vec<(Vec<u32>, u32)>>,
    /// Words or prompts that do not fit this vocabulary or context.
    pub left_out: usize,
}

/// Whether a token is the beginning of a text, or all of it, spaces before it aside: where a space is
/// a token by itself, or a letter unknown, a word's first token says nothing of the word.
pub(crate) fn begins(tokenizer: &dyn Tokenizer, id: u32, text: &str) -> bool {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default().trim_ascii();
    !bytes.is_empty() && (text.as_bytes().starts_with(bytes) || bytes.starts_with(text.as_bytes()))
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

impl Prompts {
    /// Those of a measure, which may be none: of a model whose context or vocabulary holds no such
    /// prompts. But for copy suppression, whose prompts are those that the model has expectations of,
    /// they are [`for_all`](Self::for_all) models'.
    ///
    /// # Errors
    /// The engine's.
    pub fn new(
        cause: Cause,
        engine: &dyn Engine,
        source: &Source<'_>,
        count: usize,
    ) -> Result<Self, Error> {
        if cause != Cause::CopySuppression {
            return Ok(Self::for_all(cause, source, count, engine.config().n_ctx));
        }
        let asked = cut::of_suppression(engine, source, count)?;
        // Of prompts that there is a passage for, those of which nothing is expected.
        let left_out = if asked.is_empty() { 0 } else { count - asked.len() };
        Ok(Self { cause, asked, examples: Vec::new(), left_out })
    }

    /// Those of a measure that are the same for all models of a context and a vocabulary: a function
    /// of the arguments alone. Of copy suppression, which has none such, nothing.
    pub fn for_all(cause: Cause, source: &Source<'_>, count: usize, n_ctx: usize) -> Self {
        let (mut examples, mut left_out) = (Vec::new(), 0);
        let asked = match cause {
            Cause::TokenCopying => copying::of_tokens(source, count, n_ctx),
            Cause::ConceptCopying => {
                let (asked, words) = copying::of_words(source, count, n_ctx);
                left_out = words;
                asked
            }
            Cause::InductionCut => cut::of_induction(source, count, n_ctx),
            Cause::CopySuppression => Vec::new(),
            Cause::FunctionVector => {
                let (asked, of_tasks, questions) = functions::of_tasks(source, count, n_ctx);
                (examples, left_out) = (of_tasks, questions);
                asked
            }
        };
        Self { cause, asked, examples, left_out }
    }

    /// What they find; nothing of no prompts.
    ///
    /// # Errors
    /// The engine's.
    pub fn measure(&self, engine: &dyn Engine) -> Result<Option<Found>, Error> {
        let config = engine.config();
        let (mut plain, mut with) = (Vec::new(), Vec::new());
        let mut heads = vec![Vec::new(); config.n_layers * config.n_heads];
        let means = self.means(engine, &mut with)?;
        // Those of one length together, since each call reads all of a model's layers.
        let mut alike = BTreeMap::<(usize, usize), Vec<&Asked>>::new();
        for asked in &self.asked {
            alike.entry((asked.tokens.len(), asked.at)).or_default().push(asked);
        }
        for ((read, at), alike) in alike {
            let at_once = AT_ONCE / (4 * heads.len() * (read - at) * config.d_model);
            for asked in alike.chunks(at_once.max(1)) {
                let z = place(engine, asked, at, &means)?;
                add_changes(engine, asked, at, &z, &mut plain, &mut heads)?;
                if with.len() < OF_THE_OTHER {
                    with.extend(in_other_runs(engine, asked)?);
                }
            }
        }
        Ok((!plain.is_empty()).then(|| self.found(&plain, &with, &heads, config.n_heads)))
    }

    /// `[layer, head, d_head]`: the mean of each task's examples at their last positions. The
    /// probabilities of what follows them go to `with`.
    fn means(&self, engine: &dyn Engine, with: &mut Vec<f64>) -> Result<Vec<Array3<f32>>, Error> {
        let config = engine.config();
        let none = Array3::zeros((config.n_layers, config.n_heads, config.d_head));
        let mut means = vec![none; self.examples.len()];
        let mut alike = BTreeMap::<usize, Vec<(usize, Vec<u32>)>>::new();
        for (task, examples) in self.examples.iter().enumerate() {
            for (tokens, target) in examples {
                let whole = [&tokens[..], &[*target]].concat();
                alike.entry(tokens.len()).or_default().push((task, whole));
            }
        }
        // All lengths in one call, which reads the model's layers once.
        let tables: Vec<Array2<u32>> = (alike.values())
            .map(|examples| table(examples.iter().map(|(_, tokens)| &tokens[..])))
            .collect();
        let inputs: Vec<_> = tables
            .iter()
            .map(|whole| whole.view().split_at(Axis(1), whole.ncols() - 1).0)
            .collect();
        let last = |seen: &[ArrayView3<'_, f32>]| seen[0].len_of(Axis(0)) - 1;
        let zs = z_at(engine, &inputs, &[Hook::Z], &|_, _, seen| {
            seen[0].index_axis(Axis(0), last(seen)).to_owned()
        })?;
        for ((examples, z), whole) in alike.values().zip(zs).zip(&tables) {
            for ((task, _), z) in examples.iter().zip(z.axis_iter(Axis(1))) {
                means[*task].scaled_add(1.0 / self.examples[*task].len() as f32, &z);
            }
            // Of all: tasks whose prompts are short would not stand for the others.
            with.extend(probabilities(engine, whole.view())?);
        }
        Ok(means)
    }

    fn found(&self, plain: &[f64], with: &[f64], heads: &[Vec<[f64; 2]>], n_heads: usize) -> Found {
        // Scores are positive for a head that does what the measure is named after: one whose
        // pattern is needed lowers what is expected when it is cut.
        let sign = if self.cause == Cause::InductionCut { -1.0 } else { 1.0 };
        let of_head = |changes: &Vec<[f64; 2]>| {
            let of = |k: usize| changes.iter().map(|both| sign * both[k]).collect::<Vec<_>>();
            [0, 1].map(|k| mean_stderr(&of(k)))
        };
        let scores: Vec<[Mean; 2]> = heads.iter().map(of_head).collect();
        let (of_plain, plain_stderr) = mean_stderr(plain);
        let (with, with_stderr) = (!with.is_empty()).then(|| mean_stderr(with)).unzip();
        let whole = ByCause {
            cause: self.cause,
            prompts: plain.len(),
            tokens: self.asked.iter().map(|asked| asked.tokens.len()).max().unwrap_or(0),
            left_out: self.left_out,
            plain: of_plain,
            plain_stderr,
            with,
            with_stderr: with_stderr.flatten(),
            matching: None,
        };
        Found { whole, heads: scores.chunks(n_heads).map(<[_]>::to_vec).collect() }
    }
}

impl Found {
    /// Puts each head's share among its scores: `NAME`, the change of the probability, `NAME_nats`,
    /// that of its logarithm, and their standard errors.
    pub fn add_to(&self, rows: &mut [HeadRow]) {
        let name = self.whole.cause.score();
        for row in rows {
            let both = self.heads[row.layer][row.head];
            for ((score, stderr), end) in both.into_iter().zip(["", "_nats"]) {
                row.scores.insert(format!("{name}{end}"), Some(score));
                row.scores.insert(format!("{name}{end}_stderr"), stderr);
            }
        }
    }
}

/// Every measure that this model can be asked, each with so many prompts.
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
        found.extend(Prompts::new(cause, engine, source, prompts)?.measure(engine)?);
    }
    Ok(found)
}

/// `[prompt, pos]` of prompts of one length.
fn table<'a>(prompts: impl ExactSizeIterator<Item = &'a [u32]>) -> Array2<u32> {
    let rows: Vec<&[u32]> = prompts.collect();
    let length = rows.first().map_or(0, |row| row.len());
    Array2::from_shape_vec((rows.len(), length), rows.concat()).expect("prompts of one length")
}

/// What takes each head's place in prompts of one length, `[layer, prompt, head, d_head]`.
fn place(
    engine: &dyn Engine,
    asked: &[&Asked],
    at: usize,
    means: &[Array3<f32>],
) -> Result<Array4<f32>, Error> {
    let runs = asked.iter().map(|asked| match &asked.place {
        Place::OfRun(run) => &run[..],
        _ => &asked.tokens[..],
    });
    let tokens = table(runs);
    match asked[0].place {
        Place::OfRun(_) => own_z(engine, tokens.view(), at),
        Place::Without(_) => {
            let keys = asked.iter().map(|asked| match &asked.place {
                Place::Without(keys) => &keys[..],
                _ => &[],
            });
            z_without(engine, tokens.view(), at, &keys.collect::<Vec<_>>())
        }
        Place::MeanOver(_) => {
            let means = asked.iter().map(|asked| match asked.place {
                Place::MeanOver(task) => means[task].view(),
                _ => means[0].view(),
            });
            let means: Vec<_> = means.collect();
            Ok(ndarray::stack(Axis(1), &means).expect("means of one shape"))
        }
    }
}

/// The probability of each row's last token, `[prompt, pos + 1]`.
fn probabilities(engine: &dyn Engine, rows: ArrayView2<'_, u32>) -> Result<Vec<f64>, Error> {
    let losses = engine.last_losses_under(rows, &[&[]], rows.ncols() - 2)?;
    Ok(losses[0].iter().map(|&loss| (-f64::from(loss)).exp()).collect())
}

/// The probabilities of what should follow in the runs that heads are carried over from.
fn in_other_runs(engine: &dyn Engine, asked: &[&Asked]) -> Result<Vec<f64>, Error> {
    let run = |asked: &&Asked| match &asked.place {
        Place::OfRun(run) => Some([&run[..], &[asked.target]].concat()),
        _ => None,
    };
    match asked.iter().map(run).collect::<Option<Vec<_>>>() {
        Some(runs) => probabilities(engine, table(runs.iter().map(Vec::as_slice)).view()),
        None => Ok(Vec::new()),
    }
}

/// `[head, d_head]` of the number of a table, that of a prompt in it, and the prompt's activations.
type ReadZ<'a> = dyn Fn(usize, usize, &[ArrayView3<'_, f32>]) -> Array2<f32> + Sync + 'a;

/// Every head's `z` at a position of each of some tables of `[prompt, pos]` tokens, `[layer, prompt,
/// head, d_head]`, as `read` makes it of each prompt's activations at `hooks`.
fn z_at(
    engine: &dyn Engine,
    tables: &[ArrayView2<'_, u32>],
    hooks: &[fn(usize) -> Hook],
    read: &ReadZ<'_>,
) -> Result<Vec<Array4<f32>>, Error> {
    let config = engine.config();
    let shape = |prompts: usize| (config.n_layers, prompts, config.n_heads, config.d_head);
    let zeros = |tokens: &ArrayView2<'_, u32>| Array4::<f32>::zeros(shape(tokens.nrows()));
    let all = Mutex::new(tables.iter().map(zeros).collect::<Vec<_>>());
    let watched: Vec<Watched<'_>> =
        tables.iter().map(|&tokens| Watched { tokens, hooks }).collect();
    engine.watch(&watched, &|sight| {
        let seen: Vec<_> = (sight.seen.iter())
            .map(|seen| seen.view().into_dimensionality::<Ix4>().expect("heads' own have rank 4"))
            .collect();
        for k in 0..seen[0].len_of(Axis(0)) {
            let of_prompt: Vec<_> = seen.iter().map(|seen| seen.index_axis(Axis(0), k)).collect();
            let z = read(sight.batch, sight.first + k, &of_prompt);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let mut layer = all[sight.batch].index_axis_mut(Axis(0), sight.layer);
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
    let read = |_: usize, _: usize, seen: &[ArrayView3<'_, f32>]| {
        seen[0].index_axis(Axis(0), at).to_owned()
    };
    Ok(z_at(engine, &[tokens], &[Hook::Z], &read)?.remove(0))
}

/// Every head's `z` at position `at` if it did not attend to some keys of each prompt.
fn z_without(
    engine: &dyn Engine,
    tokens: ArrayView2<'_, u32>,
    at: usize,
    keys: &[&[u32]],
) -> Result<Array4<f32>, Error> {
    let config = engine.config();
    let group = config.n_heads / config.n_key_value_heads();
    let read = |_: usize, prompt: usize, seen: &[ArrayView3<'_, f32>]| {
        // [head, query, key] and [pos, head, d_head].
        let [pattern, values] = [seen[0], seen[1]];
        let mut z = Array2::zeros((config.n_heads, config.d_head));
        for (head, mut z) in z.outer_iter_mut().enumerate() {
            let mut shares = pattern.index_axis(Axis(0), head).row(at).to_owned();
            keys[prompt].iter().for_each(|&key| shares[key as usize] = 0.0);
            let left = shares.sum();
            if left > 0.0 {
                let values = values.index_axis(Axis(1), head / group);
                z.assign(&(shares / left).dot(&values));
            }
        }
        z
    };
    Ok(z_at(engine, &[tokens], &[Hook::Pattern, Hook::V], &read)?.remove(0))
}

/// Puts `z`, `[layer, prompt, head, d_head]`, in each head's place in turn. Appends the probability
/// of what should follow with no head changed, and of each head, layer by layer, the changes of it
/// and of its logarithm.
fn add_changes(
    engine: &dyn Engine,
    asked: &[&Asked],
    at: usize,
    z: &Array4<f32>,
    plain: &mut Vec<f64>,
    heads: &mut [Vec<[f64; 2]>],
) -> Result<(), Error> {
    let rows: Vec<Vec<u32>> =
        asked.iter().map(|asked| [&asked.tokens[..], &[asked.target]].concat()).collect();
    let rows = table(rows.iter().map(Vec::as_slice));
    let mut sets = vec![Vec::new()];
    for (layer, z) in z.outer_iter().enumerate() {
        for head in 0..engine.config().n_heads {
            let value: Array3<f32> = z.index_axis(Axis(1), head).insert_axis(Axis(1)).to_owned();
            let hook = Hook::Z(layer);
            sets.push(vec![Intervention::ReplaceHead { hook, head, from: at, value }]);
        }
    }
    let sets: Vec<&[Intervention]> = sets.iter().map(Vec::as_slice).collect();
    let losses = engine.last_losses_under(rows.view(), &sets, rows.ncols() - 2)?;
    for k in 0..asked.len() {
        let log = |losses: &Array2<f32>| -f64::from(losses[[k, 0]]);
        let before = log(&losses[0]);
        plain.push(before.exp());
        for (changes, losses) in heads.iter_mut().zip(&losses[1..]) {
            changes.push([log(losses).exp() - before.exp(), log(losses) - before]);
        }
    }
    Ok(())
}
