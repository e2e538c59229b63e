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

use std::collections::BTreeMap;

use induction_engine::Engine;
use induction_random::stream;
use induction_records::Cause;
use induction_tokenizer::Tokenizer;
use ndarray::{Array3, Axis};
use rand::seq::{IndexedRandom, SliceRandom};

use super::{Changes, Found, Source, at_once, own_z, parts, rows, table, tasks::TASKS};
use crate::{Error, source::EVALUATION_SEED};

/// Questions with answers before the one that is asked.
const SHOTS: usize = 5;

/// Prompts of a task that a head's output is averaged over.
const EXAMPLES: usize = 6;

/// What every head's mean output over a task does where the task cannot be known, over all tasks; if
/// there is a tokenizer and the context holds the prompts.
///
/// # Errors
/// The engine's.
pub fn vectors(
    engine: &dyn Engine,
    source: &Source<'_>,
    prompts: usize,
) -> Result<Option<Found>, Error> {
    let Some(tokenizer) = source.tokenizer else { return Ok(None) };
    let config = engine.config();
    let read = |number: usize, k: usize, exchanged: bool| {
        let text = question(TASKS[number].1, (1000 * number + k) as u64, exchanged);
        Some((number, tokens(tokenizer, source.start, &text, config.n_ctx)?))
    };
    let all = 0..TASKS.len();
    // All tasks' prompts of a length together, since each call reads all of a model's layers; other
    // questions than those that are asked.
    let clear = all.flat_map(|number| (0..EXAMPLES).map(move |k| (number, 500 + k)));
    let (clear, _) = by_length(clear.map(|(number, k)| read(number, k, false)));
    let mut can_tell = Vec::new();
    let mut sums =
        vec![Array3::zeros((config.n_layers, config.n_heads, config.d_head)); TASKS.len()];
    let mut counts = vec![0; TASKS.len()];
    for (tasks, prompts) in clear.values() {
        let prompts = table(prompts.iter().map(Vec::as_slice));
        let read = prompts.ncols() - 1;
        let z = own_z(engine, prompts.view().split_at(Axis(1), read).0, read - 1)?;
        for (&task, z) in tasks.iter().zip(z.axis_iter(Axis(1))) {
            sums[task] += &z;
            counts[task] += 1;
        }
        let losses = engine.last_losses_under(prompts.view(), &[&[]], read - 1)?;
        can_tell.extend(losses[0].iter().map(|&loss| (-f64::from(loss)).exp()));
    }
    for (sum, &count) in sums.iter_mut().zip(&counts) {
        *sum /= count.max(1) as f32;
    }
    let unclear = (0..prompts).map(|k| (k % TASKS.len(), k / TASKS.len()));
    let known = unclear.filter(|&(number, _)| counts[number] > 0);
    let (unclear, left_out) = by_length(known.map(|(number, k)| read(number, k, true)));
    let mut changes = Changes::none(config);
    for (tasks, prompts) in unclear.values() {
        let prompts = table(prompts.iter().map(Vec::as_slice));
        for part in parts(prompts.nrows(), at_once(config, 1)) {
            let means: Vec<_> = tasks[part.clone()].iter().map(|&task| sums[task].view()).collect();
            let z = ndarray::stack(Axis(1), &means).expect("means of one shape");
            changes.add(engine, rows(&prompts, part), prompts.ncols() - 2, &z)?;
        }
    }
    Ok(changes.found(Cause::FunctionVector, 1.0, left_out, Some(&can_tell)))
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
        // The right answer is none of them, and each question has another's.
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

/// A prompt's tokens and the first of its answer; nothing if they are too many, or the answer's are
/// not separate tokens.
fn tokens(
    tokenizer: &dyn Tokenizer,
    start: u32,
    question: &Question,
    n_ctx: usize,
) -> Option<Vec<u32>> {
    let before = tokenizer.encode(&question.before).ok()?;
    let whole = tokenizer.encode(&format!("{} {}", question.before, question.answer)).ok()?;
    let answer = whole.strip_prefix(&before[..])?.first()?;
    let prompt: Vec<u32> = [&[start], &before[..], &[*answer]].concat();
    (prompt.len() <= n_ctx + 1).then_some(prompt)
}

/// Prompts and their tasks.
type OfLength = (Vec<usize>, Vec<Vec<u32>>);

/// Prompts by their lengths, and how many there are none of.
fn by_length(
    prompts: impl Iterator<Item = Option<(usize, Vec<u32>)>>,
) -> (BTreeMap<usize, OfLength>, usize) {
    let (mut found, mut left_out) = (BTreeMap::<usize, OfLength>::new(), 0);
    for prompt in prompts {
        let Some((task, prompt)) = prompt else {
            left_out += 1;
            continue;
        };
        let (tasks, prompts) = found.entry(prompt.len()).or_default();
        tasks.push(task);
        prompts.push(prompt);
    }
    (found, left_out)
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
