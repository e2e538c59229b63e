//! Argument 4's three behaviours as prompts, with the tokens that each ought to attend to (paper.md, 6).
//!
//! A prompt is text with marked bytes, so it can be read by any tokenizer. A query is the token before the one in which a
//! marked word begins: what it attends to helps to predict the word. All words are plain ASCII, of which every byte-level
//! tokenizer has the bytes.

use induction_random::stream;
use induction_tokenizer::Tokenizer;
use rand::{Rng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

use crate::source::EVALUATION_SEED;

/// A behaviour's prompts, as tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Prompt {
    /// `literal copying`, `translation` or `pattern matching`.
    pub(crate) behaviour: String,
    /// Token ids, the start token first.
    pub(crate) ids: Vec<u32>,
    /// Each for a reader's eyes.
    pub(crate) tokens: Vec<String>,
    /// Where attention is judged.
    pub(crate) queries: Vec<Query>,
}

/// A position before something that can be known from earlier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Query {
    /// The position that attends.
    pub(crate) at: usize,
    /// Where the answer can be found, ascending.
    pub(crate) targets: Vec<usize>,
    /// All positions of the targets' kind, right and wrong; chance is taken among these, too.
    pub(crate) among: Vec<usize>,
}

/// Marked text: `(start, end, what, group)` in bytes. A mark is asked for from its second appearance of `what` on; its
/// targets are the earlier marks of the same `what`, among the earlier marks of another group.
struct Marked {
    text: String,
    marks: Vec<Mark>,
}

struct Mark {
    start: usize,
    end: usize,
    what: usize,
    group: usize,
}

impl Marked {
    fn push(&mut self, text: &str) {
        self.text += text;
    }

    fn mark(&mut self, text: &str, what: usize, group: usize) {
        let start = self.text.len();
        self.text += text;
        self.marks.push(Mark { start, end: self.text.len(), what, group });
    }

    /// As tokens; nothing if no mark can be asked for within `n_ctx` tokens.
    fn prompt(&self, behaviour: &str, tokenizer: &dyn Tokenizer, n_ctx: usize) -> Option<Prompt> {
        let mut ids = vec![tokenizer.bos().unwrap_or(0)];
        ids.extend(tokenizer.encode(&self.text).ok()?);
        ids.truncate(n_ctx);
        // Where each token begins in the text; the start token has no bytes.
        let mut begins = vec![0, 0];
        for id in &ids[1..] {
            begins.push(begins[begins.len() - 1] + tokenizer.token_bytes(*id).ok()?.len());
        }
        let end_of_text = begins[ids.len()];
        let holding = |byte: usize| begins[1..=ids.len()].partition_point(|&begin| begin <= byte);
        let spans: Vec<Option<(usize, usize)>> = self
            .marks
            .iter()
            .map(|mark| (mark.end <= end_of_text).then(|| (holding(mark.start), holding(mark.end - 1))))
            .collect();
        let mut queries = Vec::new();
        for (k, mark) in self.marks.iter().enumerate() {
            let Some((first, _)) = spans[k] else { break };
            let at = first - 1;
            let earlier = |fits: &dyn Fn(&Mark) -> bool| -> Vec<usize> {
                let of = self.marks[..k].iter().zip(&spans).filter(|(mark, _)| fits(mark));
                let mut positions: Vec<usize> =
                    of.filter_map(|(_, span)| *span).flat_map(|(a, b)| a..=b).filter(|&j| j <= at).collect();
                positions.dedup();
                positions
            };
            let targets = earlier(&|other| other.what == mark.what && other.group != mark.group);
            let among = earlier(&|other| other.group != mark.group);
            if !targets.is_empty() && at > 0 {
                queries.push(Query { at, targets, among });
            }
        }
        let tokens = ids.iter().map(|&id| tokenizer.token_text(id)).collect::<Result<_, _>>().ok()?;
        (!queries.is_empty()).then(|| Prompt { behaviour: behaviour.to_string(), ids, tokens, queries })
    }
}

/// Names of the behaviours, in the paper's order.
pub(crate) const BEHAVIOURS: [&str; 3] = ["literal copying", "translation", "pattern matching"];

/// All prompts that fit a context, behaviour by behaviour.
pub(crate) fn prompts(tokenizer: &dyn Tokenizer, n_ctx: usize) -> Vec<Prompt> {
    let marked = [
        PASSAGES.iter().map(|passage| literal(passage)).collect::<Vec<_>>(),
        SENTENCES.iter().map(translation).collect(),
        (0..PATTERN_DRAWS).map(pattern).collect(),
    ];
    let each = BEHAVIOURS.iter().zip(marked);
    each.flat_map(|(name, all)| all.into_iter().filter_map(|marked| marked.prompt(name, tokenizer, n_ctx))).collect()
}

/// Told again word for word. Each word's answer is the same word of the first telling.
const PASSAGES: [&str; 4] = [
    "Anna Karlsen keeps a lamp in the tower, and Tom Arden brings her bread. Anna Karlsen thanks Tom Arden.",
    "The mill of Old Berrow stood by the ford. Nobody in Old Berrow had seen the miller, or the mill at work.",
    "Count Velmar sold the horse to Marta Quill; Marta Quill sold the saddle back to Count Velmar.",
    "We left Port Sarn at dawn with nine barrels of salt. At Port Sarn nobody had asked for salt.",
];

fn literal(passage: &str) -> Marked {
    let mut marked = Marked { text: String::new(), marks: Vec::new() };
    for group in 0..2 {
        for (what, word) in passage.split_inclusive(' ').enumerate() {
            marked.mark(word, what, group);
        }
        marked.push("\n");
    }
    marked
}

/// The same sentence in English, French and German, word by word with what it stands for; `-` for nothing.
const SENTENCES: [[&str; 3]; 4] = [
    [
        "the/0 small/1 dog/2 eats/3 the/4 red/5 apple/6 in/7 the/8 garden/9",
        "le/0 petit/1 chien/2 mange/3 la/4 pomme/6 rouge/5 dans/7 le/8 jardin/9",
        "der/0 kleine/1 Hund/2 isst/3 den/4 roten/5 Apfel/6 in/7 dem/8 Garten/9",
    ],
    [
        "my/0 sister/1 reads/2 a/3 long/4 book/5 about/6 the/7 old/8 city/9",
        "ma/0 soeur/1 lit/2 un/3 long/4 livre/5 sur/6 la/7 vieille/8 ville/9",
        "meine/0 Schwester/1 liest/2 ein/3 langes/4 Buch/5 von/6 der/7 alten/8 Stadt/9",
    ],
    [
        "tomorrow/0 we/1 buy/2 white/3 bread/4 and/5 fresh/6 milk/7",
        "demain/0 nous/1 achetons/2 du/- pain/4 blanc/3 et/5 du/- lait/7 frais/6",
        "morgen/0 kaufen/2 wir/1 weisses/3 Brot/4 und/5 frische/6 Milch/7",
    ],
    [
        "the/0 black/1 cat/2 rests/3 under/4 the/5 warm/6 sun/7",
        "le/0 chat/2 noir/1 repose/3 sous/4 le/5 soleil/7 chaud/6",
        "die/0 schwarze/1 Katze/2 ruht/3 unter/4 der/5 warmen/6 Sonne/7",
    ],
];

fn translation(sentence: &[&str; 3]) -> Marked {
    let mut marked = Marked { text: String::new(), marks: Vec::new() };
    for (group, (tag, line)) in ["EN:", "FR:", "DE:"].iter().zip(sentence).enumerate() {
        marked.push(tag);
        for pair in line.split(' ') {
            let (word, what) = pair.split_once('/').expect("every word says what it stands for");
            match what.parse() {
                Ok(what) => marked.mark(&format!(" {word}"), what, group),
                Err(_) => marked.push(&format!(" {word}")),
            }
        }
        marked.push("\n");
    }
    marked
}

/// Random prompts of the third behaviour; the first is drawn in the report.
const PATTERN_DRAWS: u64 = 8;
/// Lines of each, as far as the context holds them.
const PATTERN_LINES: usize = 16;

const MONTHS: [&str; 7] = ["january", "march", "april", "may", "june", "july", "august"];
const COLOURS: [&str; 5] = ["blue", "gray", "purple", "yellow", "green"];
const ANIMALS: [&str; 7] = ["bird", "snake", "frog", "lion", "fish", "monkey", "lizard"];
const FRUITS: [&str; 6] = ["grape", "pear", "strawberry", "kiwi", "pineapple", "cherry"];

/// Lines such as `april frog:0` (paper.md, 6): the digit says which of the four pairs of kinds the two words are.
fn pattern(draw: u64) -> Marked {
    let mut random = stream(EVALUATION_SEED, "pattern-matching prompt", draw);
    let mut marked = Marked { text: String::new(), marks: Vec::new() };
    for line in 0..PATTERN_LINES {
        let class = random.random_range(0..4usize);
        let first = if class < 2 { MONTHS.choose(&mut random) } else { COLOURS.choose(&mut random) };
        let second = if class % 2 == 0 { ANIMALS.choose(&mut random) } else { FRUITS.choose(&mut random) };
        let (first, second) = (first.expect("not empty"), second.expect("not empty"));
        marked.push(&format!("{first} {second}:"));
        // Every line is a group of its own: an answer is never its own target.
        marked.mark(&class.to_string(), class, line);
        marked.push("\n");
    }
    marked
}

#[cfg(test)]
mod tests {
    use induction_tokenizer::{BpeTokenizer, Document};

    use super::*;

    fn tokenizer() -> BpeTokenizer {
        let all = [literal(PASSAGES[0]).text, translation(&SENTENCES[0]).text, pattern(0).text];
        let documents = all.map(|text| Document { id: "a".to_string(), text: text.repeat(20) });
        BpeTokenizer::train(&documents, 400).unwrap()
    }

    #[test]
    fn queries_stand_before_their_word_and_targets_say_the_same() {
        let tokenizer = tokenizer();
        let prompts = prompts(&tokenizer, 512);
        assert_eq!(prompts.len(), PASSAGES.len() + SENTENCES.len() + PATTERN_DRAWS as usize);
        for prompt in &prompts {
            for Query { at, targets, among } in &prompt.queries {
                assert!(targets.iter().all(|j| j <= at && among.contains(j)), "{prompt:?}");
                assert!(targets.is_sorted() && among.is_sorted());
            }
        }
        let copying = prompts.iter().find(|prompt| prompt.behaviour == "literal copying").unwrap();
        for Query { at, targets, .. } in &copying.queries {
            // The second telling is tokenized as the first, but for its first token.
            assert!(copying.ids[targets[0]] == copying.ids[at + 1] || *at < copying.ids.len() / 2 + 2);
        }
        let pattern = prompts.iter().find(|prompt| prompt.behaviour == "pattern matching").unwrap();
        for Query { at, targets, .. } in &pattern.queries {
            assert!(pattern.tokens[*at].ends_with(':'));
            assert!(targets.iter().all(|&j| pattern.ids[j] == pattern.ids[at + 1]));
        }
    }

    #[test]
    fn each_kind_of_word_answers_its_own_class() {
        let text = pattern(3).text;
        for line in text.lines() {
            let (words, digit) = line.split_once(':').unwrap();
            let (first, second) = words.split_once(' ').unwrap();
            let class = 2 * usize::from(COLOURS.contains(&first)) + usize::from(FRUITS.contains(&second));
            assert_eq!(digit, class.to_string(), "{line}");
        }
    }

    #[test]
    fn a_context_that_is_too_short_has_no_prompts() {
        assert!(prompts(&tokenizer(), 6).is_empty());
    }
}
