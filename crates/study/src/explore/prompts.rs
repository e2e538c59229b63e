//! Argument 4's three behaviours as prompts, with the tokens that each ought to attend to
//! (paper.md, 6).
//!
//! A prompt is text with marked bytes, so it can be read by any tokenizer. A query is the token
//! before the one in which a marked word begins: what it attends to helps to predict the word. All
//! words are plain ASCII, of which every byte-level tokenizer has the bytes.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
};

use induction_random::stream;
use induction_records::{BEHAVIOURS, Prompt, Query};
use induction_tokenizer::Tokenizer;
use rand::{Rng, seq::IndexedRandom};

use crate::source::EVALUATION_SEED;

/// Marked text. A mark is asked for from its second appearance of `what` on, if it is judged; its
/// targets are the earlier marks of the same `what`, among the earlier marks of another group.
struct Marked {
    text: String,
    marks: Vec<Mark>,
}

struct Mark {
    /// In bytes of the text.
    at: Range<usize>,
    what: usize,
    group: usize,
    judged: bool,
    /// The words that the mark depends on, in bytes of the text.
    words: Vec<Range<usize>>,
}

impl Marked {
    /// Where it is in the text.
    fn push(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text += text;
        start..self.text.len()
    }

    fn mark(&mut self, text: &str, what: usize, group: usize) -> &mut Mark {
        let at = self.push(text);
        self.marks.push(Mark { at, what, group, judged: true, words: Vec::new() });
        self.marks.last_mut().expect("one was pushed")
    }

    /// As tokens; nothing if no mark can be asked for within `n_ctx` tokens.
    fn prompt(&self, behaviour: &str, tokenizer: &dyn Tokenizer, n_ctx: usize) -> Option<Prompt> {
        let mut ids = vec![tokenizer.bos().unwrap_or(0)];
        ids.extend(tokenizer.encode(&self.text).ok()?);
        ids.truncate(n_ctx);
        // Where each token begins in the text; the start token has no bytes.
        let mut begins = vec![0, 0];
        // Many tokenizers put a space before a text, which is none of its bytes.
        let first = tokenizer.token_bytes(*ids.get(1)?).ok()?;
        let mut not_ours = usize::from(first.starts_with(b" ") && !self.text.starts_with(' '));
        for id in &ids[1..] {
            let bytes = tokenizer.token_bytes(*id).ok()?.len() - not_ours;
            begins.push(begins[begins.len() - 1] + bytes);
            not_ours = 0;
        }
        let end_of_text = begins[ids.len()];
        let holding = |byte: usize| begins[1..=ids.len()].partition_point(|&begin| begin <= byte);
        let spans: Vec<Option<(usize, usize)>> = self
            .marks
            .iter()
            .map(|mark| {
                (mark.at.end <= end_of_text)
                    .then(|| (holding(mark.at.start), holding(mark.at.end - 1)))
            })
            .collect();
        let tokens_of = |mark: &Mark| -> BTreeSet<u32> {
            let of = mark.words.iter().flat_map(|word| holding(word.start)..=holding(word.end - 1));
            of.map(|position| ids[position]).collect()
        };
        let mut queries = Vec::new();
        for (k, mark) in self.marks.iter().enumerate() {
            let Some((first, _)) = spans[k] else { break };
            let at = first - 1;
            let earlier = |fits: &dyn Fn(&Mark) -> bool| -> Vec<usize> {
                let of = self.marks[..k].iter().zip(&spans).filter(|(mark, _)| fits(mark));
                let mut positions: Vec<usize> = of
                    .filter_map(|(_, span)| *span)
                    .flat_map(|(a, b)| a..=b)
                    .filter(|&j| j <= at)
                    .collect();
                positions.dedup();
                positions
            };
            let targets = earlier(&|other| other.what == mark.what && other.group != mark.group);
            let among = earlier(&|other| other.group != mark.group);
            if mark.judged && !targets.is_empty() && at > 0 {
                let words = tokens_of(mark);
                let shared = |other: &&Mark| tokens_of(other).intersection(&words).count() as f64;
                let others: Vec<&Mark> =
                    self.marks[..k].iter().filter(|other| other.group != mark.group).collect();
                let mut weights: Vec<f64> = others.iter().map(shared).collect();
                if weights.iter().all(|&weight| weight == 0.0) {
                    weights.fill(1.0);
                }
                let right =
                    others.iter().zip(&weights).filter(|(other, _)| other.what == mark.what);
                let right: f64 = right.map(|(_, weight)| weight).sum();
                let literal = (!words.is_empty()).then(|| right / weights.iter().sum::<f64>());
                queries.push(Query { at, targets, among, literal });
            }
        }
        let tokens =
            ids.iter().map(|&id| tokenizer.token_text(id)).collect::<Result<_, _>>().ok()?;
        (!queries.is_empty()).then(|| Prompt {
            behaviour: behaviour.to_string(),
            ids,
            tokens,
            queries,
        })
    }
}

/// All prompts that fit a context, behaviour by behaviour.
pub(crate) fn prompts(tokenizer: &dyn Tokenizer, n_ctx: usize) -> Vec<Prompt> {
    let marked = [
        PASSAGES.iter().map(|passage| literal(passage)).collect::<Vec<_>>(),
        SENTENCES.iter().map(translation).collect(),
        (0..PATTERN_DRAWS).map(pattern).collect(),
    ];
    let each = BEHAVIOURS.iter().zip(marked);
    each.flat_map(|(name, all)| {
        all.into_iter().filter_map(|marked| marked.prompt(name, tokenizer, n_ctx))
    })
    .collect()
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

/// The same sentence in English, French and German, word by word with what it stands for; `-` for
/// nothing.
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
            let word = format!(" {word}");
            if let Ok(what) = what.parse() {
                marked.mark(&word, what, group);
            } else {
                marked.push(&word);
            }
        }
        marked.push("\n");
    }
    marked
}

/// Random prompts of the third behaviour; the first is drawn in the report. Few lines of each are
/// judged, about three.
const PATTERN_DRAWS: u64 = 32;
/// Lines of each, as far as the context holds them.
const PATTERN_LINES: usize = 16;

const MONTHS: [&str; 7] = ["january", "march", "april", "may", "june", "july", "august"];
const COLOURS: [&str; 5] = ["blue", "gray", "purple", "yellow", "green"];
const ANIMALS: [&str; 7] = ["bird", "snake", "frog", "lion", "fish", "monkey", "lizard"];
const FRUITS: [&str; 6] = ["grape", "pear", "strawberry", "kiwi", "pineapple", "cherry"];

/// Lines such as `april frog:0` (paper.md, 6): the digit says which of the four pairs of kinds the
/// two words are. A line is judged if both of its words are new: where one stood earlier, a head
/// that copies literally finds its digit, which is the right one more often than by chance.
fn pattern(draw: u64) -> Marked {
    let mut random = stream(EVALUATION_SEED, "pattern-matching prompt", draw);
    let mut marked = Marked { text: String::new(), marks: Vec::new() };
    let mut seen = HashSet::new();
    for line in 0..PATTERN_LINES {
        let class = random.random_range(0..4usize);
        let first =
            if class < 2 { MONTHS.choose(&mut random) } else { COLOURS.choose(&mut random) };
        let second =
            if class % 2 == 0 { ANIMALS.choose(&mut random) } else { FRUITS.choose(&mut random) };
        let (first, second) = (first.expect("not empty"), second.expect("not empty"));
        let before = marked.push(first);
        marked.push(" ");
        let words = vec![before, marked.push(second)];
        marked.push(":");
        // Every line is a group of its own: an answer is never its own target.
        let mark = marked.mark(&class.to_string(), class, line);
        mark.words = words;
        // Both words are remembered, whichever is new.
        mark.judged = seen.insert(*first) & seen.insert(*second);
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
        let named = |name: &str| prompts.iter().filter(|prompt| prompt.behaviour == name).count();
        assert_eq!(
            BEHAVIOURS[..2].iter().map(|name| named(name)).collect::<Vec<_>>(),
            [PASSAGES.len(), SENTENCES.len()]
        );
        // Of a few draws no line can be judged.
        let patterns = named("pattern matching") as u64;
        assert!(patterns <= PATTERN_DRAWS && patterns + 4 > PATTERN_DRAWS, "{patterns}");
        for prompt in &prompts {
            for Query { at, targets, among, literal } in &prompt.queries {
                assert!(targets.iter().all(|j| j <= at && among.contains(j)), "{prompt:?}");
                assert!(targets.is_sorted() && among.is_sorted());
                assert_eq!(literal.is_some(), prompt.behaviour == "pattern matching");
                assert!(literal.is_none_or(|share| (0.0..=1.0).contains(&share)));
            }
        }
        let copying = prompts.iter().find(|prompt| prompt.behaviour == "literal copying").unwrap();
        for Query { at, targets, .. } in &copying.queries {
            // The second telling is tokenized as the first, but for its first token.
            assert!(
                copying.ids[targets[0]] == copying.ids[at + 1] || *at < copying.ids.len() / 2 + 2
            );
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
            let class =
                2 * usize::from(COLOURS.contains(&first)) + usize::from(FRUITS.contains(&second));
            assert_eq!(digit, class.to_string(), "{line}");
        }
    }

    /// The words and the digit of each line of a prompt's text.
    fn lines(text: &str) -> Vec<(Vec<&str>, &str)> {
        let split = text.lines().filter_map(|line| line.split_once(':'));
        split.map(|(words, digit)| (words.split(' ').collect(), digit)).collect()
    }

    #[test]
    fn only_lines_of_new_words_are_judged() {
        for draw in 0..PATTERN_DRAWS {
            let marked = pattern(draw);
            let lines = lines(&marked.text);
            for (k, mark) in marked.marks.iter().enumerate() {
                let stood = |word: &&str| lines[..k].iter().any(|(words, _)| words.contains(word));
                assert_eq!(
                    mark.judged,
                    !lines[k].0.iter().any(stood),
                    "line {k} of {}",
                    marked.text
                );
                assert_eq!(
                    mark.words.iter().map(|word| &marked.text[word.clone()]).collect::<Vec<_>>(),
                    lines[k].0
                );
            }
        }
        let queries: usize = prompts(&tokenizer(), 512)
            .iter()
            .filter(|prompt| prompt.behaviour == "pattern matching")
            .map(|prompt| prompt.asked().count())
            .sum();
        assert!(queries > 64, "{queries} are too few");
    }

    /// Where each word is a token, no line of new words shares one with another, and a literal head
    /// finds nothing.
    #[test]
    fn whole_words_leave_a_literal_head_chance() {
        let all: String = [MONTHS.as_slice(), &COLOURS, &ANIMALS, &FRUITS].concat().join(" ");
        // Each word begins a line, too, and each digit ends one. The vocabulary is all that such a
        // text has.
        let text = format!("{all}\n{}:0\n", all.replace(' ', ":1:2:3\n")).repeat(50);
        let tokenizer =
            BpeTokenizer::train(&[Document { id: "a".to_string(), text }], 371).unwrap();
        let prompts: Vec<Prompt> = (0..PATTERN_DRAWS)
            .filter_map(|draw| pattern(draw).prompt("", &tokenizer, 512))
            .collect();
        for query in prompts.iter().flat_map(Prompt::asked) {
            let chance = query.targets.len() as f64 / query.among.len() as f64;
            assert!((query.literal.unwrap() - chance).abs() < 1e-12, "{query:?}");
        }
    }

    #[test]
    fn a_context_that_is_too_short_has_no_prompts() {
        assert!(prompts(&tokenizer(), 6).is_empty());
    }
}
