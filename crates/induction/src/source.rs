//! A spec's training and held-out examples, from a corpus or from the synthetic task.

use std::path::{Path, PathBuf};

use induction_metrics::{DROP_LEAST, DROP_MOST, allowed_tokens};
use induction_tokenizer::{BpeTokenizer, Data, RepeatsConfig, RepeatsTask, TrainingOrder, example, prepare};
use induction_train::{DataSpec, Examples, RunSpec};
use ndarray::Array2;

use crate::Error;

/// The seed of everything that must be the same for all runs: held-out examples, evaluators' random tokens.
pub const EVALUATION_SEED: u64 = 0;

/// Synthetic examples whose tokens are counted to find the evaluators' tokens.
const COUNTED_EXAMPLES: u64 = 256;

/// Where a run's prepared data lie: in its own folder, or in the one that a reproduction's runs share, beside `runs/`.
pub fn data_of(run: &Path) -> PathBuf {
    let own = run.join("data");
    let shared = run.parent().and_then(Path::parent).map(|dir| dir.join("data"));
    shared.filter(|shared| !own.exists() && shared.is_dir()).unwrap_or(own)
}

/// Training and held-out examples of one spec.
pub enum Source {
    /// Windows of a corpus.
    Corpus {
        /// Tokenizer and token shards.
        data: Box<Data>,
        /// Order of the training windows.
        order: TrainingOrder,
        /// Tokens of an example's text.
        n_ctx: usize,
    },
    /// The synthetic task.
    Repeats {
        /// Training examples.
        train: RepeatsTask,
        /// Held-out examples.
        held_out: RepeatsTask,
    },
}

impl Source {
    /// Opens the spec's data (made in `data_root` if it is not there yet) and resolves the spec: its `data.blake3` is
    /// filled in.
    ///
    /// # Errors
    /// A corpus that cannot be read or is too small, or that is not the one that the spec names by its hash.
    pub fn open(spec: &mut RunSpec, data_root: &Path) -> Result<Self, Error> {
        let (seed, n_ctx, d_vocab) = (spec.seed, spec.model.n_ctx, spec.model.d_vocab);
        match &mut spec.data {
            DataSpec::Corpus { path, held_out, blake3 } => {
                let data = prepare(&*path, d_vocab, *held_out, data_root)?;
                let found = &data.summary.corpus_blake3;
                if blake3.as_ref().is_some_and(|expected| expected != found) {
                    return Err(Error::Input(format!(
                        "{}: its documents are not those that the spec was made for (data.blake3 differs): put the old corpus back, or choose another folder",
                        path.display()
                    )));
                }
                *blake3 = Some(found.clone());
                let order = TrainingOrder::new(seed, data.train.tokens.len(), n_ctx)?;
                Ok(Self::Corpus { data: Box::new(data), order, n_ctx })
            }
            DataSpec::Repeats { min_period, max_period } => {
                let task = |purpose: &str, seed| {
                    let (min_period, max_period, purpose) = (*min_period, *max_period, purpose.to_string());
                    RepeatsTask::new(RepeatsConfig { d_vocab, n_ctx, min_period, max_period, seed, purpose })
                };
                Ok(Self::Repeats { train: task("train", seed)?, held_out: task("held out", EVALUATION_SEED)? })
            }
        }
    }

    /// The tokenizer, if the data have one.
    pub fn tokenizer(&self) -> Option<&BpeTokenizer> {
        match self {
            Self::Corpus { data, .. } => Some(&data.tokenizer),
            Self::Repeats { .. } => None,
        }
    }

    /// What the user should know of the data, if anything.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Corpus { data, .. } => &data.notes,
            Self::Repeats { .. } => &[],
        }
    }

    /// The first `count` held-out examples, `[example, n_ctx + 1]`: the same for every seed and model of one context.
    ///
    /// # Errors
    /// A held-out text that is too short for so many windows without overlap.
    pub fn held_out(&self, count: usize) -> Result<Array2<u32>, Error> {
        let rows: Vec<Vec<u32>> = match self {
            Self::Corpus { data, n_ctx, .. } => {
                let tokens = &data.held_out.tokens;
                let order = TrainingOrder::new(EVALUATION_SEED, tokens.len(), *n_ctx)?;
                let windows = order.examples_per_epoch();
                if count as u64 > windows {
                    return Err(Error::Input(format!(
                        "evaluation.examples = {count}: the held-out text has {windows} windows of {n_ctx} tokens; lower it, or raise data.held_out"
                    )));
                }
                let bos = data.tokenizer.bos();
                (0..count as u64).map(|i| example(tokens, order.window_start(i), *n_ctx, bos)).collect()
            }
            Self::Repeats { held_out, .. } => (0..count as u64).map(|i| held_out.example(i)).collect(),
        };
        let columns = rows.first().map_or(0, Vec::len);
        Ok(Array2::from_shape_vec((rows.len(), columns), rows.concat()).expect("examples have one length"))
    }

    /// Training tokens in their order, and training windows `[window, n_ctx + 1]` spread over them: what simple models of
    /// the text are fitted on.
    pub fn training_sample(&self) -> (Vec<u32>, Array2<u32>) {
        const WINDOWS: u64 = 256;
        let rows: Vec<Vec<u32>> = (0..WINDOWS).map(|i| self.example(i)).collect();
        let columns = rows[0].len();
        let windows = Array2::from_shape_vec((rows.len(), columns), rows.concat()).expect("examples have one length");
        let tokens = match self {
            Self::Corpus { data, .. } => data.train.tokens.iter().map(|&id| u32::from(id)).collect(),
            Self::Repeats { .. } => windows.iter().copied().collect(),
        };
        (tokens, windows)
    }

    /// The token that begins each example.
    pub fn bos(&self) -> u32 {
        self.tokenizer().map_or(0, BpeTokenizer::bos)
    }

    /// Token ids that the evaluators draw from: not the most frequent, not the rarest (paper.md, 3 and 11).
    ///
    /// # Errors
    /// A vocabulary of which nothing is left.
    pub fn allowed_tokens(&self) -> Result<Vec<u32>, Error> {
        let counts = match self {
            Self::Corpus { data, .. } => {
                count(data.train.d_vocab as usize, data.train.tokens.iter().map(|&id| usize::from(id)))
            }
            Self::Repeats { train, .. } => {
                let examples = (0..COUNTED_EXAMPLES).flat_map(|i| train.example(i));
                count(train.config().d_vocab, examples.map(|id| id as usize))
            }
        };
        allowed_tokens(&counts, self.bos(), DROP_MOST, DROP_LEAST)
            .map_err(|source| Error::Metric { place: "evaluator tokens".into(), source })
    }
}

fn count(d_vocab: usize, ids: impl Iterator<Item = usize>) -> Vec<u64> {
    let mut counts = vec![0; d_vocab];
    ids.for_each(|id| counts[id] += 1);
    counts
}

impl Examples for Source {
    fn example(&self, index: u64) -> Vec<u32> {
        match self {
            Self::Corpus { data, order, n_ctx } => {
                example(&data.train.tokens, order.window_start(index), *n_ctx, data.tokenizer.bos())
            }
            Self::Repeats { train, .. } => train.example(index),
        }
    }
}
