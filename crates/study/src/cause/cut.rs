//! What a head's attention to some keys is worth: they are taken from it at the last position of a
//! prompt, the rest of its pattern is as large a share of what is left as before, and every other
//! head attends as it does. No more than the head's `z` there changes, so it is computed from the
//! head's pattern and values, and put in its place.
//!
//! - **The induction pattern** (Crosbie and Shutova 2024, arXiv 2407.07011): the prompt is a block
//!   of random tokens and its beginning again, and the keys are those that followed the earlier copy
//!   of its last token. The score is what the expected token loses.
//! - **Copy suppression** (McDougall et al. 2023, arXiv 2310.04625): the prompt is a part of a
//!   passage up to where the model expects most a token that stands in it, and the keys are its
//!   copies. The score is what that token gains: a head that lowers what the model expects already
//!   attended to it in order to do so.

use induction_engine::Engine;
use induction_metrics::PrefixMatchingSample;
use induction_model::{Clamp, ForbiddenKeys, Hook};
use induction_records::Cause;
use ndarray::{Array2, Array4, ArrayView2, ArrayView3, Axis};

use super::{Changes, Found, Source, at_once, parts, passages::PASSAGES, rows, table, z_at};
use crate::{Error, source::EVALUATION_SEED};

/// Random tokens of a block.
const BLOCK: usize = 30;

/// Tokens of a prompt from a passage, the start token among them.
const PART: usize = 32;

/// Passages whose logits are there together.
const READ_AT_ONCE: usize = 8;

/// Tokens between two prompts from the same passage.
const APART: usize = 8;

/// What every head's induction pattern is worth, if the model's context and vocabulary hold a
/// repeated block.
///
/// # Errors
/// The engine's.
pub fn of_induction(
    engine: &dyn Engine,
    source: &Source<'_>,
    prompts: usize,
) -> Result<Option<Found>, Error> {
    let repeated = repeated(source, prompts, engine.config().n_ctx);
    let mut changes = Changes::none(engine.config());
    add(&mut changes, engine, &repeated, &following(&repeated))?;
    Ok(changes.found(Cause::InductionCut, -1.0, 0, None))
}

/// What followed the earlier copies of the last token of each prompt, whose very last says what
/// should follow.
fn following(prompts: &Array2<u32>) -> Vec<Vec<u32>> {
    let of = |row: ndarray::ArrayView1<'_, u32>| {
        let tokens = &row.to_vec()[..row.len() - 1];
        let forbidden = ForbiddenKeys::new(Some(Clamp::ForbidInduction), tokens);
        forbidden.of(tokens.len() - 1).to_vec()
    };
    prompts.rows().into_iter().map(of).collect()
}

/// Blocks of random tokens, each with the first half of it again.
fn repeated(source: &Source<'_>, prompts: usize, n_ctx: usize) -> Array2<u32> {
    let block = BLOCK.min(source.allowed.len()).min(n_ctx.saturating_sub(1) / 2);
    // The last token and the one that should follow are tokens of the block.
    if block < 4 {
        return Array2::zeros((0, 0));
    }
    let sample = PrefixMatchingSample { block, repeats: 2 };
    let Ok(all) = sample.batch(EVALUATION_SEED ^ 1, prompts, source.start, source.allowed) else {
        return Array2::zeros((0, 0));
    };
    let length = 1 + block + block / 2 + 1;
    all.slice_axis_move(Axis(1), (..length).into())
}

/// How much every head holds back of what is expected and stands in the text already, if there is a
/// tokenizer and the model expects such a token anywhere.
///
/// # Errors
/// The engine's.
pub fn of_suppression(
    engine: &dyn Engine,
    source: &Source<'_>,
    prompts: usize,
) -> Result<Option<Found>, Error> {
    let expected = expected(engine, source, prompts)?;
    let prompts = table(expected.iter().map(Vec::as_slice));
    let target = prompts.ncols().saturating_sub(1);
    let copies = |row: ndarray::ArrayView1<'_, u32>| {
        let at = (1..target).filter(|&at| row[at] == row[target]);
        at.map(|at| at as u32).collect()
    };
    let keys: Vec<Vec<u32>> = prompts.rows().into_iter().map(copies).collect();
    let mut changes = Changes::none(engine.config());
    add(&mut changes, engine, &prompts, &keys)?;
    Ok(changes.found(Cause::CopySuppression, 1.0, 0, None))
}

/// Parts of passages of one length, each with the token that the model expects most after it, which
/// stands in it and is not its last one.
fn expected(
    engine: &dyn Engine,
    source: &Source<'_>,
    prompts: usize,
) -> Result<Vec<Vec<u32>>, Error> {
    let n_ctx = engine.config().n_ctx;
    let (Some(tokenizer), true) = (source.tokenizer, n_ctx >= 2 * PART) else {
        return Ok(Vec::new());
    };
    // The beginning of each passage, as far as all of them go.
    let mut passages: Vec<Vec<u32>> =
        PASSAGES.iter().filter_map(|passage| tokenizer.encode(passage).ok()).collect();
    let length = passages.iter().map(Vec::len).min().unwrap_or(0).min(n_ctx - 1);
    passages.iter_mut().for_each(|ids| {
        ids.truncate(length);
        ids.insert(0, source.start);
    });
    // A part of each passage before a second one of any.
    let mut candidates = vec![Vec::new(); passages.len()];
    for (first, some) in (0..).step_by(READ_AT_ONCE).zip(passages.chunks(READ_AT_ONCE)) {
        let logits = engine.logits(table(some.iter().map(Vec::as_slice)).view(), &[])?;
        for ((tokens, logits), found) in
            some.iter().zip(logits.outer_iter()).zip(&mut candidates[first..])
        {
            let mut next = PART;
            for (at, logits) in logits.outer_iter().enumerate() {
                if at < next {
                    continue;
                }
                let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
                let best = best.map_or(0, |(id, _)| id as u32);
                let part = &tokens[at + 2 - PART..=at];
                if part[..part.len() - 1].contains(&best) {
                    found.push([&[source.start], part, &[best]].concat());
                    next = at + APART;
                }
            }
        }
    }
    let most = candidates.iter().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..most).flat_map(|k| candidates.iter().filter_map(move |of| of.get(k)));
    Ok(in_turn.take(prompts).cloned().collect())
}

/// Adds what `[prompt, pos + 1]` prompts find without some keys of the last position of each.
fn add(
    changes: &mut Changes,
    engine: &dyn Engine,
    prompts: &Array2<u32>,
    keys: &[Vec<u32>],
) -> Result<(), Error> {
    let read = prompts.ncols().saturating_sub(1);
    for part in parts(prompts.nrows(), at_once(engine.config(), 1)) {
        let here = rows(prompts, part.clone());
        let tokens = here.split_at(Axis(1), read).0;
        let z = z_without(engine, tokens, &keys[part])?;
        changes.add(engine, here, read - 1, &z)?;
    }
    Ok(())
}

/// Every head's `z` at the last position of `[prompt, pos]` tokens if it did not attend to some keys
/// of each prompt, `[layer, prompt, head, d_head]`.
fn z_without(
    engine: &dyn Engine,
    tokens: ArrayView2<'_, u32>,
    keys: &[Vec<u32>],
) -> Result<Array4<f32>, Error> {
    let config = engine.config();
    let group = config.n_heads / config.n_key_value_heads();
    let last = tokens.ncols() - 1;
    let read = |prompt: usize, seen: &[ArrayView3<'_, f32>]| {
        // [head, query, key] and [pos, head, d_head].
        let [pattern, values] = [seen[0], seen[1]];
        let mut z = Array2::zeros((config.n_heads, config.d_head));
        for (head, mut z) in z.outer_iter_mut().enumerate() {
            let mut shares = pattern.index_axis(Axis(0), head).row(last).to_owned();
            keys[prompt].iter().for_each(|&key| shares[key as usize] = 0.0);
            let left = shares.sum();
            if left > 0.0 {
                let values = values.index_axis(Axis(1), head / group);
                z.assign(&(shares / left).dot(&values));
            }
        }
        z
    };
    z_at(engine, tokens, &[Hook::Pattern, Hook::V], &read)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use induction_engine::{CpuEngine, Intervention, StreamEngine};
    use induction_model::{HandBuilt, ModelConfig};

    use super::*;

    /// In a model whose circuit was written down, only the induction head's pattern is worth
    /// anything, and it is worth all that the model knows.
    #[test]
    fn the_induction_heads_pattern_is_all_and_no_others_is_anything() {
        let model = HandBuilt::new(64, 96);
        let (config, params) = (model.config(), model.params().unwrap());
        let engine = CpuEngine::new(&config, &params).unwrap();
        let allowed: Vec<u32> = (1..64).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let found = of_induction(&engine, &source, 8).unwrap().unwrap();
        assert_eq!(found.whole.prompts, 8);
        assert!(found.whole.plain > 0.5, "{}", found.whole.plain);
        for (layer, heads) in found.heads.iter().enumerate() {
            for (head, &[(score, _), (nats, _)]) in heads.iter().enumerate() {
                if (layer, head) == (1, 0) {
                    // What is left is a guess among 64.
                    assert!((found.whole.plain - score) < 0.05 && nats > 2.0, "{score} {nats}");
                } else {
                    assert!(score.abs() < 1e-5, "{layer}.{head}: {score}");
                }
            }
        }
    }

    /// What is put in a head's place is what the engine gives where the keys are forbidden there, in
    /// models whose heads share keys and values, too.
    #[test]
    fn it_is_what_the_engine_gives_without_the_keys() {
        let config = ModelConfig {
            n_layers: 3,
            d_model: 24,
            n_heads: 4,
            d_head: 6,
            n_ctx: 40,
            d_vocab: 50,
            ..ModelConfig::default()
        };
        let mut params = config.init_params(3).unwrap();
        // So that what heads read matters.
        params.iter_mut().for_each(|(name, value)| match name.rsplit('.').next() {
            Some("W_Q" | "W_K") => *value *= 5.0,
            Some("W_V" | "W_O") => *value *= 20.0,
            _ => {}
        });
        let engine = CpuEngine::new(&config, &params).unwrap();
        let allowed: Vec<u32> = (1..50).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let prompts = repeated(&source, 4, config.n_ctx);
        let read = prompts.ncols() - 1;
        let keys = following(&prompts);
        assert!(keys.iter().all(|keys| keys.len() == 1));
        let mut changes = Changes::none(&config);
        add(&mut changes, &engine, &prompts, &keys).unwrap();
        let at_last = |keys: &Vec<u32>| ForbiddenKeys::of_query(read - 1, keys.clone());
        let forbidden: Arc<[ForbiddenKeys]> = keys.iter().map(at_last).collect();
        let clean = engine.losses(prompts.view(), &[]).unwrap();
        let mut largest = 0.0f64;
        for (place, changes) in changes.heads.iter().enumerate() {
            let (layer, head) = (place / config.n_heads, place % config.n_heads);
            let cut = Intervention::ForbidKeys { layer, head, keys: forbidden.clone() };
            let losses = engine.losses(prompts.view(), &[cut]).unwrap();
            for (k, &[_, nats]) in changes.iter().enumerate() {
                let expected = f64::from(clean[[k, read - 1]] - losses[[k, read - 1]]);
                assert!((nats - expected).abs() < 1e-4, "{layer}.{head}: {nats} for {expected}");
                largest = largest.max(nats.abs());
            }
        }
        assert!(largest > 0.01, "{largest}");
        // The same where a layer at a time is read.
        let streamed = StreamEngine::new(&config, Arc::new(params)).unwrap();
        let mut again = Changes::none(&config);
        add(&mut again, &streamed, &prompts, &keys).unwrap();
        for (a, b) in changes.heads.iter().flatten().zip(again.heads.iter().flatten()) {
            assert!((a[1] - b[1]).abs() < 1e-4, "{a:?} {b:?}");
        }
    }
}
