//! A spec's training and held-out examples, from a corpus or from a synthetic source.

use std::path::{Path, PathBuf};

use induction_metrics::{DROP_LEAST, DROP_MOST, allowed_tokens, mean_stderr};
use induction_records::{Control, DataSpec, Optimum, Predictor, RunSpec, Text};
use induction_tokenizer::{
    BpeTokenizer, Data, FragmentOrder, SyntheticTask, Texts, TrainingOrder, example, prepare,
    shuffled, synthetic::Shape,
};
use induction_train::Examples;
use ndarray::{Array2, ArrayView2, Axis};

use crate::Error;

/// The seed of everything that must be the same for all runs: held-out examples, evaluators' random
/// tokens.
pub const EVALUATION_SEED: u64 = 0;

/// Synthetic examples whose tokens are counted to find the evaluators' tokens.
const COUNTED_EXAMPLES: u64 = 256;

/// Where a run's prepared data lie: in its own folder, or in the one that a reproduction's runs
/// share, beside `runs/`.
pub fn data_of(run: &Path) -> PathBuf {
    let own = run.join("data");
    let shared = run.parent().and_then(Path::parent).map(|dir| dir.join("data"));
    shared.filter(|shared| !own.exists() && shared.is_dir()).unwrap_or(own)
}

/// A spec's text, as its reader takes it.
pub fn texts_of(text: &Text) -> Texts {
    Texts { paths: text.path.clone(), text_field: text.text_field.clone() }
}

/// Fewest held-out examples that a mean has an error of.
const FEWEST_EXAMPLES: u64 = 2;

/// How examples are taken from a text.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Consecutive windows of so many tokens.
    Windows(TrainingOrder, usize),
    /// Windows made of pieces from all over the text.
    Fragments(FragmentOrder),
}

impl Order {
    fn new(
        control: Option<Control>,
        seed: u64,
        n_tokens: usize,
        n_ctx: usize,
    ) -> induction_tokenizer::Result<Self> {
        Ok(match control {
            Some(Control::Fragments) => Self::Fragments(FragmentOrder::new(seed, n_tokens, n_ctx)?),
            None | Some(Control::Shuffled) => {
                Self::Windows(TrainingOrder::new(seed, n_tokens, n_ctx)?, n_ctx)
            }
        })
    }

    /// Examples in one pass, which reads no token twice.
    pub fn examples_per_epoch(&self) -> u64 {
        match self {
            Self::Windows(order, _) => order.examples_per_epoch(),
            Self::Fragments(order) => order.examples_per_epoch(),
        }
    }

    fn example(&self, tokens: &[u16], index: u64, bos: u32) -> Vec<u32> {
        match self {
            Self::Windows(order, n_ctx) => example(tokens, order.window_start(index), *n_ctx, bos),
            Self::Fragments(order) => order.example(tokens, index, bos),
        }
    }
}

/// Training and held-out examples of one spec.
pub enum Source {
    /// Windows of a corpus, or of a control made of it.
    Corpus {
        /// Tokenizer and token shards; of the control [`Control::Shuffled`] shuffled ones.
        data: Box<Data>,
        /// The corpus's file name.
        name: String,
        /// Order of the training examples.
        order: Order,
        /// Order of the held-out ones.
        held_out: Order,
        /// What the user should know of the data.
        notes: Vec<String>,
    },
    /// Data on purpose.
    Synthetic {
        /// The source's name.
        name: &'static str,
        /// Training examples.
        train: SyntheticTask,
        /// Held-out examples.
        held_out: SyntheticTask,
    },
}

impl Source {
    /// Opens the spec's data (made in `data_root` if it is not there yet) and
    /// [resolves](Self::resolve) the spec.
    ///
    /// # Errors
    /// A corpus that cannot be read or is too small, or that is not the one that the spec names by
    /// its hash.
    pub fn open(spec: &mut RunSpec, data_root: &Path) -> Result<Self, Error> {
        let (seed, n_ctx, d_vocab) = (spec.seed, spec.model.n_ctx, spec.model.d_vocab);
        let mut source = match &spec.data {
            DataSpec::Corpus { text, held_out, blake3, control } => {
                let texts = texts_of(text);
                let name = texts.name();
                let mut data = prepare(texts, d_vocab, *held_out, data_root)?;
                if blake3.as_ref().is_some_and(|expected| *expected != data.summary.corpus_blake3) {
                    return Err(Error::Input(format!(
                        "{}: its documents are not those that the spec was made for (data.blake3 differs): put the old corpus back, or choose another folder",
                        text.path
                            .first()
                            .map_or_else(String::new, |path| path.display().to_string())
                    )));
                }
                if *control == Some(Control::Shuffled) {
                    let bos = data.tokenizer.bos();
                    for (shard, purpose) in [
                        (&mut data.train, "shuffled training text"),
                        (&mut data.held_out, "shuffled held-out text"),
                    ] {
                        shard.tokens = shuffled(&shard.tokens, bos, EVALUATION_SEED, purpose);
                    }
                }
                let lengths = document_lengths(&data);
                let order = |part: &str, seed, n_tokens: usize, windows: usize| {
                    let needed = (windows + 1) * n_ctx - 1;
                    let order = Order::new(*control, seed, n_tokens, n_ctx).ok();
                    order.filter(|order| order.examples_per_epoch() >= windows as u64).ok_or_else(|| {
                        let cut = uneven(&lengths).filter(|_| part == "held-out");
                        let more = cut.unwrap_or("use a longer text or a shorter context (model.n_ctx)");
                        Error::Input(format!(
                            "{name}: its {part} text has {n_tokens} tokens, and {windows} windows of {n_ctx} need {needed}: {more}"
                        ))
                    })
                };
                let order_of_training = order("training", seed, data.train.tokens.len(), 1)?;
                let of_held_out = data.held_out.tokens.len();
                let held_out =
                    order("held-out", EVALUATION_SEED, of_held_out, FEWEST_EXAMPLES as usize)?;
                let mut notes = data.notes.clone();
                notes.extend(of_short_documents(&name, &lengths, n_ctx));
                Self::Corpus {
                    data: Box::new(data),
                    name,
                    order: order_of_training,
                    held_out,
                    notes,
                }
            }
            DataSpec::Synthetic(synthetic) => {
                let task = |purpose, seed| {
                    SyntheticTask::new(synthetic, Shape { d_vocab, n_ctx }, seed, purpose)
                };
                Self::Synthetic {
                    name: synthetic.name(),
                    train: task("train", seed)?,
                    held_out: task("held out", EVALUATION_SEED)?,
                }
            }
        };
        let found = source.resolve(spec);
        if let Self::Corpus { notes, .. } = &mut source {
            notes.extend(found);
        }
        Ok(source)
    }

    /// Fits a spec of the same data, vocabulary and context to what is there: its `data.blake3` is
    /// filled in, and it evaluates no more examples than there are held-out windows. What the user
    /// should hear about that and about the spec's budget is returned.
    pub fn resolve(&self, spec: &mut RunSpec) -> Vec<String> {
        let mut notes = Vec::new();
        let Self::Corpus { data, name, held_out, .. } = self else { return notes };
        let n_ctx = spec.model.n_ctx;
        let mut share = 0.0;
        if let DataSpec::Corpus { blake3, held_out, .. } = &mut spec.data {
            *blake3 = Some(data.summary.corpus_blake3.clone());
            share = *held_out;
        }
        let (asked, windows) = (spec.evaluation.examples, held_out.examples_per_epoch());
        if asked as u64 > windows {
            spec.evaluation.examples = windows as usize;
            spec.evaluation.ablation_examples =
                spec.evaluation.ablation_examples.min(windows as usize);
            let more = match uneven(&document_lengths(data)) {
                Some(cut) => cut.to_string(),
                None if share < 0.5 => {
                    format!("a larger data.held_out ({share} now) or a longer text narrows them")
                }
                None => "a longer text narrows them".to_string(),
            };
            notes.push(format!(
                "{name}: the held-out text has {windows} windows of {n_ctx} tokens; measurements are on those, not on evaluation.examples = {asked}, and intervals are about {:.1} times as wide: {more}",
                (asked as f64 / windows as f64).sqrt()
            ));
        }
        let taken = match spec.data.control() {
            Some(Control::Fragments) => ", in fragments, which leave some out",
            Some(Control::Shuffled) | None => "",
        };
        // A step more or less is no second pass.
        if let Some(passes) = self.passes(spec).filter(|&passes| passes >= 1.05) {
            notes.push(format!(
                "{} tokens are {passes:.1} passes over the {} of {name}{taken}: from the second pass on a model meets text that it has learned, and the curves may show memory as well as learning in context",
                amount((spec.steps() * spec.tokens_per_step()) as f64),
                amount((spec.steps() * spec.tokens_per_step()) as f64 / passes),
            ));
        }
        notes
    }

    /// How often a spec's budget reads the training text: budget over tokens of one pass. `None`
    /// for a synthetic source, which never ends.
    pub fn passes(&self, spec: &RunSpec) -> Option<f64> {
        let Self::Corpus { order, .. } = self else { return None };
        let of_one = order.examples_per_epoch() as f64 * spec.model.n_ctx as f64;
        Some((spec.steps() * spec.tokens_per_step()) as f64 / of_one)
    }

    /// The tokenizer, if the data have one.
    pub fn tokenizer(&self) -> Option<&BpeTokenizer> {
        match self {
            Self::Corpus { data, .. } => Some(&data.tokenizer),
            Self::Synthetic { .. } => None,
        }
    }

    /// What the user should know of the data, if anything.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Corpus { notes, .. } => notes,
            Self::Synthetic { .. } => &[],
        }
    }

    /// The first `count` held-out examples, `[example, n_ctx + 1]`: the same for every seed and
    /// model of one context.
    ///
    /// # Errors
    /// A held-out text that is too short for so many windows without overlap.
    pub fn held_out(&self, count: usize) -> Result<Array2<u32>, Error> {
        let rows: Vec<Vec<u32>> = match self {
            Self::Corpus { data, name, held_out, .. } => {
                let windows = held_out.examples_per_epoch();
                if count as u64 > windows {
                    return Err(Error::Input(format!(
                        "{name}: {count} held-out examples were asked for, and there are {windows}; ask for fewer, or raise data.held_out"
                    )));
                }
                let (tokens, bos) = (&data.held_out.tokens, data.tokenizer.bos());
                (0..count as u64).map(|i| held_out.example(tokens, i, bos)).collect()
            }
            Self::Synthetic { held_out, .. } => {
                (0..count as u64).map(|i| held_out.example(i)).collect()
            }
        };
        let columns = rows.first().map_or(0, Vec::len);
        Ok(Array2::from_shape_vec((rows.len(), columns), rows.concat())
            .expect("examples have one length"))
    }

    /// How well examples of a synthetic source can be predicted: by the ideal predictor, which
    /// knows the process that generates them, and by simpler ones. Nothing of a text, of which
    /// nobody knows it. `examples` is `[example, n_ctx + 1]`.
    pub fn optimum(&self, examples: ArrayView2<u32>) -> Option<Optimum> {
        let Self::Synthetic { name, held_out, .. } = self else { return None };
        let process = held_out.process();
        let mut losses: Vec<(&str, Vec<f64>)> = Vec::new();
        for example in examples.rows() {
            let tokens: Vec<u32> = example.iter().skip(1).copied().collect();
            let ideal = (Optimum::IDEAL, process.optimum(&tokens));
            let all = std::iter::once(ideal).chain(process.references(&tokens));
            for (k, (name, of_example)) in all.enumerate() {
                match losses.get_mut(k) {
                    Some((_, so_far)) => so_far.extend(of_example),
                    None => losses.push((name, of_example)),
                }
            }
        }
        let predictors = losses.into_iter().map(|(name, losses)| {
            let shape = (examples.nrows(), examples.ncols() - 1);
            let losses = Array2::from_shape_vec(shape, losses).expect("a loss for each token");
            let mean = |axis| losses.mean_axis(axis).expect("examples have tokens").to_vec();
            let by_example = mean(Axis(1));
            let (loss, stderr) = mean_stderr(&by_example);
            let loss_by_index = mean(Axis(0));
            Predictor { name: name.to_string(), loss, stderr, by_example, loss_by_index }
        });
        Some(Optimum { source: (*name).to_string(), predictors: predictors.collect() })
    }

    /// Training tokens in their order (of fragments, in that of a pass), and training windows
    /// `[window, n_ctx + 1]` spread over them: what simple models of the text are fitted on.
    pub fn training_sample(&self) -> (Vec<u32>, Array2<u32>) {
        const WINDOWS: u64 = 256;
        let rows: Vec<Vec<u32>> = (0..WINDOWS).map(|i| self.example(i)).collect();
        let columns = rows[0].len();
        let windows = Array2::from_shape_vec((rows.len(), columns), rows.concat())
            .expect("examples have one length");
        let tokens = match self {
            Self::Corpus { order: Order::Fragments(order), .. } => {
                (0..order.examples_per_epoch()).flat_map(|i| self.example(i)).collect()
            }
            Self::Corpus { data, .. } => {
                data.train.tokens.iter().map(|&id| u32::from(id)).collect()
            }
            Self::Synthetic { .. } => windows.iter().copied().collect(),
        };
        (tokens, windows)
    }

    /// The token that begins each example.
    pub fn bos(&self) -> u32 {
        self.tokenizer().map_or(0, BpeTokenizer::bos)
    }

    /// Token ids that the evaluators draw from: not the most frequent, not the rarest (paper.md, 3
    /// and 11).
    ///
    /// # Errors
    /// A vocabulary of which nothing is left.
    pub fn allowed_tokens(&self) -> Result<Vec<u32>, Error> {
        let counts = match self {
            Self::Corpus { data, .. } => count(
                data.train.d_vocab as usize,
                data.train.tokens.iter().map(|&id| usize::from(id)),
            ),
            Self::Synthetic { train, .. } => {
                let examples = (0..COUNTED_EXAMPLES).flat_map(|i| train.example(i));
                count(train.shape().d_vocab, examples.map(|id| id as usize))
            }
        };
        allowed_tokens(&counts, self.bos(), DROP_MOST, DROP_LEAST)
            .map_err(|source| Error::Metric { place: "evaluator tokens".into(), source })
    }
}

/// Tokens of each document, sorted.
fn document_lengths(data: &Data) -> Vec<usize> {
    let bos = data.tokenizer.bos();
    let of = |tokens: &[u16]| {
        tokens.chunk_by(|_, &next| u32::from(next) != bos).map(<[u16]>::len).collect::<Vec<_>>()
    };
    let mut lengths = [of(&data.train.tokens), of(&data.held_out.tokens)].concat();
    lengths.sort_unstable();
    lengths
}

/// What to do about a text of which one document is the most.
fn uneven(lengths: &[usize]) -> Option<&'static str> {
    let all: usize = lengths.iter().sum();
    let most = lengths.last().is_some_and(|&longest| 2 * longest > all);
    most.then_some(
        "one of its documents is more than half of it, and documents are held out whole: cut that one into several, or give it alone",
    )
}

fn of_short_documents(name: &str, lengths: &[usize], n_ctx: usize) -> Option<String> {
    let median = *lengths.get(lengths.len() / 2)?;
    (median < n_ctx).then(|| {
        format!(
            "{name}: half of its documents have {median} tokens or fewer, and a window has {n_ctx}: windows span several documents, so that late tokens have less to learn from than their place says, and the in-context learning score comes out nearer to 0 than on long documents"
        )
    })
}

/// "6.0M", "35k", "800"
fn amount(count: f64) -> String {
    match count {
        ..1e4 => format!("{count}"),
        ..1e6 => format!("{:.0}k", count / 1e3),
        ..1e9 => format!("{:.1}M", count / 1e6),
        _ => format!("{:.1}B", count / 1e9),
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
            Self::Corpus { data, order, .. } => {
                order.example(&data.train.tokens, index, data.tokenizer.bos())
            }
            Self::Synthetic { train, .. } => train.example(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A spec of small windows on the text at `path`.
    fn spec(path: &Path, control: Option<Control>) -> RunSpec {
        let text = r#"
            format = 1
            name = "tiny"
            seed = 3
            data = { source = "repeats", min_period = 2, max_period = 4 }
            model = { n_layers = 1, d_model = 8, n_heads = 2, d_head = 4, n_ctx = 32, d_vocab = 300 }
            train = { tokens = 640, batch = 2, lr = 0.01 }
            snapshots = { every = 8 }
            evaluation = { examples = 8, icl_early = 3, icl_late = 30, icl_half_width = 1, prefix_block = 5 }
        "#;
        let mut spec = RunSpec::parse(path, text).unwrap();
        spec.data = DataSpec::Corpus { text: path.into(), held_out: 0.2, blake3: None, control };
        spec
    }

    /// Documents of `words` words each, as JSON Lines in `folder`.
    fn corpus(folder: &Path, documents: usize, words: usize) -> PathBuf {
        use rand::Rng;
        let lines: String = (0..documents as u64)
            .map(|k| {
                let mut random = induction_random::stream(0, "test text", k);
                let text: String =
                    (0..words).map(|_| format!("word{} ", random.random_range(0..200))).collect();
                format!("{}\n", serde_json::json!({"id": k.to_string(), "text": text}))
            })
            .collect();
        let path = folder.join("words.jsonl");
        std::fs::write(&path, lines).unwrap();
        path
    }

    fn opened(spec: &mut RunSpec, folder: &Path) -> Source {
        Source::open(spec, &folder.join("data")).unwrap()
    }

    fn unigrams(tokens: impl IntoIterator<Item = u32>) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        tokens.into_iter().for_each(|token| *counts.entry(token).or_default() += 1);
        counts
    }

    #[test]
    fn enough_text_is_no_news() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(&corpus(folder.path(), 30, 100), None);
        let asked = spec.evaluation.clone();
        let source = opened(&mut spec, folder.path());
        assert_eq!((source.notes(), spec.evaluation), (&[][..], asked));
    }

    #[test]
    fn controls_come_through_the_same_functions() {
        let folder = tempfile::tempdir().unwrap();
        let path = corpus(folder.path(), 30, 100);
        let of = |control| opened(&mut spec(&path, control), folder.path());
        let [plain, shuffled, fragments] =
            [None, Some(Control::Shuffled), Some(Control::Fragments)].map(of);
        let whole = |source: &Source| unigrams(source.training_sample().0);
        assert_eq!(whole(&shuffled), whole(&plain));
        for control in [&shuffled, &fragments] {
            let (held_out, of_text) = (control.held_out(8).unwrap(), plain.held_out(8).unwrap());
            assert_eq!(held_out.shape(), of_text.shape());
            assert_ne!(held_out, of_text);
            assert!(held_out.column(0).iter().all(|&token| token == control.bos()));
            assert_ne!(control.example(0), plain.example(0));
            assert_eq!(control.allowed_tokens().unwrap(), plain.allowed_tokens().unwrap());
            assert_eq!(control.training_sample().1.shape(), plain.training_sample().1.shape());
        }
        // One text for all seeds: only the order in which it is read is another.
        let mut other = spec(&path, Some(Control::Shuffled));
        other.seed = 4;
        let other = opened(&mut other, folder.path());
        assert_eq!(other.held_out(8).unwrap(), shuffled.held_out(8).unwrap());
        assert_eq!(other.training_sample().0, shuffled.training_sample().0);
        assert_ne!(other.example(0), shuffled.example(0));
        // Pieces of the text.
        let (Source::Corpus { data, .. }, Source::Corpus { order: Order::Fragments(order), .. }) =
            (&plain, &fragments)
        else {
            unreachable!()
        };
        let pieces =
            order.pieces(0).flat_map(|(start, length)| &data.train.tokens[start..start + length]);
        let example = fragments.example(0);
        let expected = std::iter::once(plain.bos()).chain(pieces.map(|&id| u32::from(id)));
        assert_eq!(example, expected.take(example.len()).collect::<Vec<u32>>());
    }

    #[test]
    fn fewer_windows_than_asked_for_are_measured_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(&corpus(folder.path(), 30, 100), None);
        (spec.evaluation.examples, spec.evaluation.ablation_examples) = (10_000, 5000);
        let source = opened(&mut spec, folder.path());
        let windows = spec.evaluation.examples;
        assert!((20..200).contains(&windows), "{windows}");
        assert_eq!(
            (spec.evaluation.ablation_examples, source.held_out(windows).unwrap().nrows()),
            (windows, windows)
        );
        let wider = format!("about {:.1} times as wide", (10_000.0 / windows as f64).sqrt());
        let [note] = source.notes() else { panic!("{:?}", source.notes()) };
        for part in
            ["words.jsonl", &format!("{windows} windows of 32"), &wider, "data.held_out (0.2 now)"]
        {
            assert!(note.contains(part), "{part}: {note}");
        }
        let message = source.held_out(windows + 1).unwrap_err().to_string();
        assert!(message.contains(&format!("there are {windows}")), "{message}");
        // A resolved spec is resolved.
        let resolved = spec.clone();
        assert!(opened(&mut spec, folder.path()).notes().is_empty());
        assert_eq!(spec, resolved);
    }

    #[test]
    fn a_budget_of_several_passes_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(&corpus(folder.path(), 30, 100), None);
        spec.train.tokens = 64_000;
        let source = opened(&mut spec, folder.path());
        let passes = source.passes(&spec).unwrap();
        let Source::Corpus { data, .. } = &source else { unreachable!() };
        let tokens = data.train.tokens.len() as f64;
        assert!((passes - 64_000.0 / tokens).abs() < 0.05 * passes, "{passes} of {tokens}");
        let [note] = source.notes() else { panic!("{:?}", source.notes()) };
        assert!(
            note.starts_with(&format!("64k tokens are {passes:.1} passes over the ")),
            "{note}"
        );
        spec.train.tokens = (tokens * 0.9) as u64;
        assert!(opened(&mut spec, folder.path()).notes().is_empty());
        spec.data = DataSpec::repeats(2, 4);
        let source = opened(&mut spec, folder.path());
        assert_eq!(source.passes(&spec), None);
    }

    #[test]
    fn short_documents_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(&corpus(folder.path(), 1000, 3), None);
        let source = opened(&mut spec, folder.path());
        let [note] = source.notes() else { panic!("{:?}", source.notes()) };
        assert!(
            note.contains("windows span several documents") && note.contains("a window has 32"),
            "{note}"
        );
    }

    #[test]
    fn a_text_of_one_line_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("line.txt");
        std::fs::write(
            &path,
            (0..2000).map(|k| format!("word{} and ", k % 70)).collect::<String>(),
        )
        .unwrap();
        let mut spec = spec(&path, None);
        spec.model.d_vocab = 280;
        assert_eq!(opened(&mut spec, folder.path()).held_out(8).unwrap().nrows(), 8);
    }

    #[test]
    fn too_little_text_is_refused_in_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = corpus(folder.path(), 3, 60);
        for (n_ctx, part) in [(512, "training text has"), (128, "held-out text has")] {
            for control in [None, Some(Control::Fragments)] {
                let mut spec = spec(&path, control);
                spec.model.n_ctx = n_ctx;
                spec.model.d_vocab = 270;
                let error =
                    Source::open(&mut spec, &folder.path().join("data")).err().unwrap().to_string();
                for word in
                    ["words.jsonl", part, &format!("windows of {n_ctx} need"), "use a longer text"]
                {
                    assert!(error.contains(word), "{word}: {error}");
                }
            }
        }
        // One document that is nearly all of the text cannot be held out.
        let text = "word and word or another; ".repeat(300);
        let lines = [
            serde_json::json!({"id": "a", "text": text}),
            serde_json::json!({"id": "b", "text": "short"}),
        ];
        std::fs::write(&path, lines.map(|line| format!("{line}\n")).concat()).unwrap();
        let mut spec = spec(&path, None);
        spec.model.d_vocab = 260;
        let error = Source::open(&mut spec, &folder.path().join("data")).err().unwrap().to_string();
        assert!(
            error.contains("held-out text has") && error.contains("documents are held out whole"),
            "{error}"
        );
    }
}
