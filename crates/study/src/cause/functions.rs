//! Function vectors (Todd et al. 2023, arXiv 2310.15213; Yin and Steinhardt 2025, arXiv 2502.14010):
//! which heads carry what a task is.
//!
//! A prompt is a few questions of one task with their answers, and one more question:
//!
//! ```text
//! Q: hot
//! A: cold
//!
//! Q: tall
//! A:
//! ```
//!
//! At its last token each head's `z` is averaged over prompts of the task. That mean, in which no
//! question is left, is put in the head's place in prompts whose answers were exchanged among the
//! questions, so that they say nothing of the task. The score is what that does to the probability
//! of the right answer's first token.

use induction_random::stream;
use induction_tokenizer::Tokenizer;
use rand::seq::{IndexedRandom, SliceRandom};

use super::{Asked, Place, Source, begins, tasks::TASKS};
use crate::source::EVALUATION_SEED;

/// Questions with answers before the one that is asked.
const SHOTS: usize = 5;

/// Prompts of a task that a head's output is averaged over.
const EXAMPLES: usize = 6;

/// Examples of each task: tokens, and what follows them.
type Examples = Vec<Vec<(Vec<u32>, u32)>>;

/// Questions after exchanged answers, examples of each task with other questions after their own
/// answers, and how many questions of the first kind there is no room or are no tokens for.
pub(super) fn of_tasks(
    source: &Source<'_>,
    count: usize,
    n_ctx: usize,
) -> (Vec<Asked>, Examples, usize) {
    let Some(tokenizer) = source.tokenizer else { return Default::default() };
    let read = |task: usize, k: usize, exchanged: bool| {
        let question = question(TASKS[task].1, (1000 * task + k) as u64, exchanged);
        tokens(tokenizer, source.start, &question, n_ctx)
    };
    let of_task = |task| (0..EXAMPLES).filter_map(|k| read(task, 500 + k, false)).collect();
    let examples: Examples = (0..TASKS.len()).map(of_task).collect();
    let (mut asked, mut left_out) = (Vec::new(), 0);
    for k in 0..count {
        let task = k % TASKS.len();
        match read(task, k / TASKS.len(), true).filter(|_| !examples[task].is_empty()) {
            Some((tokens, target)) => asked.push(Asked {
                at: tokens.len() - 1,
                tokens,
                target,
                place: Place::MeanOver(task),
            }),
            None => left_out += 1,
        }
    }
    (asked, examples, left_out)
}

/// A prompt as text up to where its answer begins, and the answer.
struct Question {
    before: String,
    answer: &'static str,
}

/// A question after [`SHOTS`] others; their answers exchanged among them, if wanted.
fn question(pairs: &'static [[&'static str; 2]], number: u64, exchanged: bool) -> Question {
    let mut rng = stream(EVALUATION_SEED, "questions of a task", number);
    let chosen: Vec<[&str; 2]> = pairs.choose_multiple(&mut rng, SHOTS + 1).copied().collect();
    let mut answers: Vec<&'static str> = chosen.iter().map(|[_, answer]| *answer).collect();
    if exchanged {
        // Each question has the answer of another; that of the last is none of theirs.
        answers.truncate(SHOTS);
        let mut order: Vec<usize> = (0..SHOTS).collect();
        order.shuffle(&mut rng);
        let before = answers.clone();
        for (k, &from) in order.iter().enumerate() {
            answers[from] = before[order[(k + 1) % SHOTS]];
        }
    }
    let mut before = String::new();
    for (k, [asked, answer]) in chosen.iter().enumerate() {
        before += &format!("Q: {asked}\nA:");
        if k == SHOTS {
            return Question { before, answer };
        }
        before += &format!(" {}\n\n", answers[k]);
    }
    unreachable!("the last question is returned")
}

/// A prompt's tokens and the first of its answer; nothing if they are too many, the answer's are not
/// separate tokens, or the first is a space or unknown.
fn tokens(
    tokenizer: &dyn Tokenizer,
    start: u32,
    question: &Question,
    n_ctx: usize,
) -> Option<(Vec<u32>, u32)> {
    let before = tokenizer.encode(&question.before).ok()?;
    let whole = tokenizer.encode(&format!("{} {}", question.before, question.answer)).ok()?;
    let answer = *whole.strip_prefix(&before[..])?.first()?;
    let fits = before.len() < n_ctx && begins(tokenizer, answer, question.answer);
    fits.then(|| ([&[start], &before[..]].concat(), answer))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_task_has_questions_enough_and_each_once() {
        assert_eq!(TASKS.len(), 12);
        for (name, pairs) in TASKS {
            let questions: BTreeSet<&str> = pairs.iter().map(|[question, _]| *question).collect();
            assert_eq!(questions.len(), pairs.len(), "{name}");
            assert!(pairs.len() >= 16, "{name}: {}", pairs.len());
            assert!(pairs.iter().flatten().all(|word| word.is_ascii()), "{name}");
        }
    }

    /// Answers that were exchanged are those of the other questions, and none stands where it did.
    #[test]
    fn exchanged_answers_say_nothing() {
        for (number, (name, pairs)) in TASKS.iter().enumerate() {
            let [clear, unclear] =
                [false, true].map(|exchanged| question(pairs, number as u64, exchanged));
            assert_eq!(clear.answer, unclear.answer, "{name}");
            let lines = |question: &Question| -> Vec<(String, String)> {
                let shots = question.before.split("\n\n").take(SHOTS);
                let pair = |shot: &str| {
                    let (asked, answer) = shot.split_once("\nA: ").unwrap();
                    (asked.to_string(), answer.to_string())
                };
                shots.map(pair).collect()
            };
            let (clear, unclear) = (lines(&clear), lines(&unclear));
            for (a, b) in clear.iter().zip(&unclear) {
                assert_eq!(a.0, b.0, "{name}");
                // Two questions of a task may have one answer.
                let same = clear.iter().filter(|(_, answer)| *answer == a.1).count();
                assert!(a.1 != b.1 || same > 1, "{name}: {a:?}");
            }
            let sorted = |lines: &[(String, String)]| {
                lines.iter().map(|(_, answer)| answer.clone()).collect::<BTreeSet<_>>()
            };
            assert_eq!(sorted(&clear), sorted(&unclear), "{name}");
        }
    }
}
