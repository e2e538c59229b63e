//! Two kinds of heads that are taken for induction heads, told by what they attend to and by their
//! weights.
//!
//! - **Retrieval heads** (Wu et al. 2024, arXiv 2404.15574): a passage holds a sentence that says a
//!   password, and ends with the beginning of that sentence. The score is the head's attention at the
//!   last position on the password's first token where it was said; a head that attends to all
//!   positions alike has one part of as many as there are, some hundredth.
//! - **Successor heads** (Gould et al. 2023, arXiv 2312.09230): what a head that attends to a number
//!   word, a letter, a day or a month adds directly to the logits of all words of that kind. The score
//!   is the share of words whose successor is raised most; of a head that prefers none it is one in as
//!   many as there are of the kind, 0.07 on average.
//!
//! Both are between 0 and 1, means over prompts or words with their standard errors.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use induction_engine::{Engine, Watched};
use induction_metrics::mean_stderr;
use induction_model::{Hook, ReadParams};
use induction_tokenizer::Tokenizer;
use ndarray::{Array2, Axis, Ix3, Ix4};

use crate::{
    Error,
    cause::{Mean, PASSAGES, Source, begins},
    measure::direct::{DirectPath, value_logits},
};

/// Where passwords are for, and what they are.
const PASSWORDS: &[[&str; 2]] = &[
    ["garden gate", "violet"],
    ["north tower", "copper"],
    ["old library", "winter"],
    ["engine room", "silver"],
    ["wine cellar", "orange"],
    ["boat house", "marble"],
    ["music school", "thunder"],
    ["post office", "pepper"],
];

/// What follows what; after the last of a circle comes the first.
const ORDERS: &[(bool, &[&str])] = &[
    (false, &["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]),
    (true, &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]),
    (
        true,
        &[
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ],
    ),
    (
        false,
        &[
            "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q",
            "R", "S", "T", "U", "V", "W", "X", "Y", "Z",
        ],
    ),
];

/// Words of one kind that a successor is looked for among, at least.
const WORDS: usize = 5;

/// A score of every head.
pub struct Score {
    /// `retrieval` or `successor`.
    pub name: &'static str,
    /// Prompts or words that it is a mean over.
    pub samples: usize,
    /// `[layer][head]`.
    pub heads: Vec<Vec<Mean>>,
}

/// Both scores; without a tokenizer none.
///
/// # Errors
/// The engine's and the weights'.
pub fn scores(
    engine: &dyn Engine,
    weights: &dyn ReadParams,
    source: &Source<'_>,
) -> Result<Vec<Score>, Error> {
    let Some(tokenizer) = source.tokenizer else { return Ok(Vec::new()) };
    let (prompts, orders) = (
        passwords(tokenizer, source.start, engine.config().n_ctx),
        orders(tokenizer, source.start),
    );
    let words = orders.iter().flat_map(|order| order.words.iter().copied());
    let direct = DirectPath::new(engine.config(), weights, words)?;
    let n_layers = engine.config().n_layers;
    let unembed =
        if orders.is_empty() { Vec::new() } else { direct.of_layers(weights, n_layers)? };
    const ATTENTION: &[fn(usize) -> Hook] = &[Hook::Pattern];
    const VALUES: &[fn(usize) -> Hook] = &[Hook::V];
    let texts: Vec<Array2<u32>> = prompts.iter().map(|prompt| row(&prompt.tokens)).collect();
    let mut watched: Vec<Watched<'_>> =
        texts.iter().map(|text| Watched { tokens: text.view(), hooks: ATTENTION }).collect();
    watched.extend(orders.iter().map(|of| Watched { tokens: of.tokens.view(), hooks: VALUES }));
    // Of each head, in the order of batches and examples.
    let shape = || vec![vec![BTreeMap::new(); engine.config().n_heads]; n_layers];
    let found = Mutex::new([shape(), shape()]);
    engine.watch(&watched, &|sight| {
        let seen = sight.seen[0].view().into_dimensionality::<Ix4>().expect("rank 4");
        for (k, seen) in seen.outer_iter().enumerate() {
            let place = (sight.batch, sight.first + k);
            let (which, of_heads): (usize, Vec<f64>) = match sight.batch.checked_sub(prompts.len())
            {
                None => {
                    let Prompt { tokens, said } = &prompts[sight.batch];
                    let share = |head| f64::from(seen[[head, tokens.len() - 1, *said]]);
                    (0, (0..seen.len_of(Axis(0))).map(share).collect())
                }
                Some(order) => {
                    let values = seen.into_dimensionality::<Ix3>().expect("rank 3");
                    let logits = value_logits(values, &unembed[sight.layer]);
                    let of = |logits: ndarray::ArrayView2<'_, f32>| {
                        orders[order].is_next(&direct, sight.first + k, logits.row(1))
                    };
                    (1, logits.outer_iter().map(of).collect())
                }
            };
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            for (head, score) in found[which][sight.layer].iter_mut().zip(of_heads) {
                head.insert(place, score);
            }
        }
    })?;
    let mean = |head: &BTreeMap<_, f64>| mean_stderr(&head.values().copied().collect::<Vec<_>>());
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let samples = [prompts.len(), orders.iter().map(|order| order.next.len()).sum()];
    let named = ["retrieval", "successor"].into_iter().zip(samples).zip(found);
    let score = |((name, samples), of): ((_, usize), Vec<Vec<_>>)| {
        let heads = of.iter().map(|layer| layer.iter().map(mean).collect()).collect();
        (samples > 0).then_some(Score { name, samples, heads })
    };
    Ok(named.filter_map(score).collect())
}

fn row(tokens: &[u32]) -> Array2<u32> {
    Array2::from_shape_vec((1, tokens.len()), tokens.to_vec()).expect("one row")
}

/// A passage that ends in a question, and where the answer's first token was said.
struct Prompt {
    tokens: Vec<u32>,
    said: usize,
}

/// One for each passage that the context holds.
fn passwords(tokenizer: &dyn Tokenizer, start: u32, n_ctx: usize) -> Vec<Prompt> {
    let of = |(k, passage): (usize, &&str)| {
        let [place, word] = PASSWORDS[k % PASSWORDS.len()];
        // After one of the first sentences.
        let ends: Vec<usize> = passage.match_indices(". ").map(|(at, _)| at + 2).collect();
        let (before, after) = passage.split_at(*ends.get(k / PASSWORDS.len())?);
        let question = format!("The password for the {place} is");
        let told = format!("{before}{question}");
        let whole = format!("{told} {word}. {after} {question}");
        let [told, whole] = [told, whole].map(|text| tokenizer.encode(&text).ok());
        let (told, whole) = (told?, whole?);
        let tokens = [&[start], &whole[..]].concat();
        let said = told.len() + 1;
        let is_word = whole.get(told.len()).is_some_and(|&id| begins(tokenizer, id, word));
        (whole.starts_with(&told) && is_word && tokens.len() <= n_ctx)
            .then_some(Prompt { tokens, said })
    };
    PASSAGES.iter().enumerate().filter_map(of).collect()
}

/// Words of one kind that are one token each, in their order.
struct Order {
    words: Vec<u32>,
    /// `[word, 2]`: the start token and a word that has a successor.
    tokens: Array2<u32>,
    /// The place of each row's successor in `words`.
    next: Vec<usize>,
}

impl Order {
    /// 1 if, of the direct path's logits, the row's successor has the largest among the words.
    fn is_next(
        &self,
        direct: &DirectPath,
        row: usize,
        logits: ndarray::ArrayView1<'_, f32>,
    ) -> f64 {
        let words = Array2::from_shape_vec((1, self.words.len()), self.words.clone());
        let columns = direct.rename(words.expect("one row").view());
        let of = |place: usize| logits[columns[[0, place]] as usize];
        let best = (0..self.words.len()).max_by(|&a, &b| of(a).total_cmp(&of(b)));
        f64::from(u8::from(best == Some(self.next[row])))
    }
}

fn orders(tokenizer: &dyn Tokenizer, start: u32) -> Vec<Order> {
    let of = |&(is_circle, words): &(bool, &[&str])| {
        let one = |word: &&str| match tokenizer.encode(&format!(" {word}")).as_deref() {
            Ok(&[id]) => Some(id),
            _ => None,
        };
        let ids: Vec<Option<u32>> = words.iter().map(one).collect();
        let known: Vec<u32> = ids.iter().flatten().copied().collect();
        let (mut tokens, mut next) = (Vec::new(), Vec::new());
        for (k, id) in ids.iter().enumerate() {
            let successor = match ids.get(k + 1) {
                Some(successor) => *successor,
                None => ids[0].filter(|_| is_circle),
            };
            if let (Some(id), Some(successor)) = (id, successor) {
                tokens.extend([start, *id]);
                next.extend(known.iter().position(|known| *known == successor));
            }
        }
        let tokens = Array2::from_shape_vec((next.len(), 2), tokens).expect("pairs");
        (next.len() >= WORDS).then_some(Order { words: known, tokens, next })
    };
    ORDERS.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use induction_engine::CpuEngine;
    use induction_model::{ModelConfig, Normalization, Params};

    use super::*;

    /// Words, with the space before them, as tokens: those of [`ORDERS`] have their own, others share
    /// some.
    struct Words;

    const VOCABULARY: u32 = 128;

    impl Tokenizer for Words {
        fn encode(&self, text: &str) -> induction_tokenizer::Result<Vec<u32>> {
            let known: Vec<&str> =
                ORDERS.iter().flat_map(|(_, words)| words.iter().copied()).collect();
            let id = |word: &str| match known.iter().position(|known| *known == word) {
                Some(place) => 1 + place as u32,
                None => 60 + word.bytes().map(u32::from).sum::<u32>() % (VOCABULARY - 60),
            };
            Ok(text.split_whitespace().map(id).collect())
        }

        fn token_bytes(&self, id: u32) -> induction_tokenizer::Result<&[u8]> {
            let of = |word: &str| self.encode(&format!("{word}.")).is_ok_and(|ids| ids == [id]);
            let password = PASSWORDS.iter().find(|[_, word]| of(word));
            Ok(password.map_or(b"", |[_, word]| word.as_bytes()))
        }

        fn bos(&self) -> Option<u32> {
            Some(0)
        }

        fn d_vocab(&self) -> usize {
            VOCABULARY as usize
        }
    }

    /// One head raises the next word of each order and one raises the word itself; neither has any
    /// preference among keys.
    #[test]
    fn one_head_raises_what_comes_next_and_none_retrieves() {
        let n = VOCABULARY as usize;
        let config = ModelConfig {
            n_layers: 1,
            d_model: n,
            n_heads: 2,
            d_head: n,
            n_ctx: 256,
            d_vocab: n,
            normalization: Normalization::None,
            ..ModelConfig::default()
        };
        let mut params = Params::zeros(&config);
        for name in ["embed.W_E", "unembed.W_U"] {
            params.get_mut(name).unwrap().indexed_iter_mut().for_each(|(at, x)| {
                *x = f32::from(u8::from(at[0] == at[1]));
            });
        }
        let w_v = params.get_mut("blocks.0.attn.W_V").unwrap();
        w_v.indexed_iter_mut().for_each(|(at, x)| *x = f32::from(u8::from(at[1] == at[2])));
        let mut next: Vec<usize> = (0..n).collect();
        for order in orders(&Words, 0) {
            for (row, &place) in order.tokens.outer_iter().zip(&order.next) {
                next[row[1] as usize] = order.words[place] as usize;
            }
        }
        let w_o = params.get_mut("blocks.0.attn.W_O").unwrap();
        w_o.indexed_iter_mut().for_each(|(at, x)| {
            let to = if at[0] == 0 { next[at[1]] } else { at[1] };
            *x = f32::from(u8::from(to == at[2]));
        });
        let engine = CpuEngine::new(&config, &params).unwrap();
        let source = Source { start: 0, allowed: &[], tokenizer: Some(&Words) };
        let found = scores(&engine, &params, &source).unwrap();
        let [retrieval, successor] = &found[..] else { panic!("{}", found.len()) };
        assert_eq!((retrieval.name, successor.name), ("retrieval", "successor"));
        // Nine number words, seven days, twelve months, twenty-five letters.
        assert_eq!(successor.samples, 53);
        assert_eq!(successor.heads[0].iter().map(|head| head.0).collect::<Vec<_>>(), [1.0, 0.0]);
        let prompts = passwords(&Words, 0, config.n_ctx);
        assert_eq!(retrieval.samples, PASSAGES.len());
        let even = prompts.iter().map(|prompt| 1.0 / prompt.tokens.len() as f64).sum::<f64>();
        for &(share, _) in &retrieval.heads[0] {
            assert!((share - even / prompts.len() as f64).abs() < 1e-6, "{share}");
        }
        // Where the password was told, it follows the words that it is asked by.
        for (prompt, [place, word]) in prompts.iter().zip(PASSWORDS) {
            let asked = Words.encode(&format!("{place} is")).unwrap();
            assert!(
                prompt.tokens.ends_with(&asked) && prompt.tokens[..prompt.said].ends_with(&asked)
            );
            assert_eq!(
                [prompt.tokens[prompt.said]],
                Words.encode(&format!("{word}.")).unwrap()[..]
            );
        }
        let nothing = Source { tokenizer: None, ..source };
        assert!(scores(&engine, &params, &nothing).unwrap().is_empty());
    }
}
