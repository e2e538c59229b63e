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
use induction_model::{Clamp, ForbiddenKeys};

use super::{Asked, Place, Source, passages::PASSAGES, table};
use crate::{Error, source::EVALUATION_SEED};

/// Random tokens of a block.
const BLOCK: usize = 30;

/// Tokens of a prompt from a passage, the start token among them.
const PART: usize = 32;

/// Logits that are there together.
const LOGITS: usize = 1 << 25;

/// Tokens between two prompts from the same passage.
const APART: usize = 8;

/// Blocks of random tokens, each with the first half of it again, without what followed the earlier
/// copy of the last token.
pub(super) fn of_induction(source: &Source<'_>, count: usize, n_ctx: usize) -> Vec<Asked> {
    let block = BLOCK.min(source.allowed.len()).min(n_ctx.saturating_sub(1) / 2);
    // The last token and the one that should follow are tokens of the block.
    if block < 4 {
        return Vec::new();
    }
    let sample = PrefixMatchingSample { block, repeats: 2 };
    let rows = sample.batch(EVALUATION_SEED ^ 1, count, source.start, source.allowed);
    let read = 1 + block + block / 2;
    let asked = |row: ndarray::ArrayView1<'_, u32>| {
        let (tokens, target) = (row.to_vec()[..read].to_vec(), row[read]);
        let forbidden = ForbiddenKeys::new(&[Clamp::ForbidInduction], &tokens);
        let keys = forbidden.of(read - 1).to_vec();
        Asked { tokens, target, at: read - 1, place: Place::Without(keys) }
    };
    rows.map_or_else(|_| Vec::new(), |rows| rows.rows().into_iter().map(asked).collect())
}

/// Parts of passages without what is expected after them.
///
/// # Errors
/// The engine's.
pub(super) fn of_suppression(
    engine: &dyn Engine,
    source: &Source<'_>,
    count: usize,
) -> Result<Vec<Asked>, Error> {
    let asked = |(tokens, target): (Vec<u32>, u32)| {
        let copies = (1..tokens.len()).filter(|&at| tokens[at] == target);
        let keys = copies.map(|at| at as u32).collect();
        Asked { at: tokens.len() - 1, tokens, target, place: Place::Without(keys) }
    };
    Ok(expected(engine, source, count)?.into_iter().map(asked).collect())
}

/// Parts of passages of one length, each with the token that the model expects most after it, which
/// stands in it and is not its last one.
fn expected(
    engine: &dyn Engine,
    source: &Source<'_>,
    prompts: usize,
) -> Result<Vec<(Vec<u32>, u32)>, Error> {
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
    let at_once = (LOGITS / ((length + 1) * engine.config().d_vocab)).max(1);
    for (first, some) in (0..).step_by(at_once).zip(passages.chunks(at_once)) {
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
                    found.push(([&[source.start], part].concat(), best));
                    next = at + APART;
                }
            }
        }
    }
    let most = candidates.iter().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..most).flat_map(|k| candidates.iter().filter_map(move |of| of.get(k)));
    Ok(in_turn.take(prompts).cloned().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use induction_engine::{CpuEngine, Intervention, StreamEngine};
    use induction_model::{HandBuilt, ModelConfig};
    use induction_records::Cause;

    use super::*;
    use crate::cause::{Prompts, add_changes, place};

    /// In a model whose circuit was written down, only the induction head's pattern is worth
    /// anything, and it is worth all that the model knows.
    #[test]
    fn the_induction_heads_pattern_is_all_and_no_others_is_anything() {
        let model = HandBuilt::new(64, 96);
        let (config, params) = (model.config(), model.params().unwrap());
        let engine = CpuEngine::new(&config, &params).unwrap();
        let allowed: Vec<u32> = (1..64).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let prompts = Prompts::new(Cause::InductionCut, &engine, &source, 8).unwrap();
        let found = prompts.measure(&engine).unwrap().unwrap();
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
        let prompts = Prompts::new(Cause::InductionCut, &engine, &source, 4).unwrap();
        let changes = |engine: &dyn Engine| {
            let asked: Vec<&Asked> = prompts.asked.iter().collect();
            let (mut plain, mut heads) = (Vec::new(), vec![Vec::new(); 12]);
            let z = place(engine, &asked, asked[0].at, &[]).unwrap();
            add_changes(engine, &asked, asked[0].at, &z, &mut plain, &mut heads).unwrap();
            heads
        };
        let found = changes(&engine);
        let keys = |asked: &Asked| match &asked.place {
            Place::Without(keys) => ForbiddenKeys::of_query(asked.at, keys.clone()),
            other => panic!("{other:?}"),
        };
        let forbidden: Arc<[ForbiddenKeys]> = prompts.asked.iter().map(keys).collect();
        assert!((0..4).all(|k| forbidden[k].of(prompts.asked[k].at).len() == 1));
        let rows: Vec<Vec<u32>> = prompts
            .asked
            .iter()
            .map(|asked| [&asked.tokens[..], &[asked.target]].concat())
            .collect();
        let rows = table(rows.iter().map(Vec::as_slice));
        let last = rows.ncols() - 2;
        let clean = engine.losses(rows.view(), &[]).unwrap();
        let mut largest = 0.0f64;
        for (at, changes) in found.iter().enumerate() {
            let (layer, head) = (at / config.n_heads, at % config.n_heads);
            let cut = Intervention::ForbidKeys { layer, head, keys: forbidden.clone() };
            let losses = engine.losses(rows.view(), &[cut]).unwrap();
            for (k, &[_, nats]) in changes.iter().enumerate() {
                let expected = f64::from(clean[[k, last]] - losses[[k, last]]);
                assert!((nats - expected).abs() < 1e-4, "{layer}.{head}: {nats} for {expected}");
                largest = largest.max(nats.abs());
            }
        }
        assert!(largest > 0.01, "{largest}");
        // The same where a layer at a time is read.
        let streamed = StreamEngine::new(&config, Arc::new(params)).unwrap();
        for (a, b) in found.iter().flatten().zip(changes(&streamed).iter().flatten()) {
            assert!((a[1] - b[1]).abs() < 1e-4, "{a:?} {b:?}");
        }
    }
}
