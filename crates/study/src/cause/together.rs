//! What the induction pattern of several heads is worth together, and how much of what the heads are
//! worth that is (Crosbie and Shutova 2024, arXiv 2407.07011): the heads that match prefixes best are
//! removed (their outputs zero), and in another run they are there but may not attend to what
//! followed an earlier copy of the token that they read. The same is done to as many random others of
//! the same layers. Everything above them is free to change.
//!
//! Losses are taken on three kinds of text, of the tokens that an earlier copy has something to say
//! of:
//!
//! - random tokens that repeat: the second copy;
//! - passages: tokens that stood after an earlier copy of the token before them;
//! - argument 4's patterns in context: the labels.

use std::sync::Arc;

use induction_ablation::{HeadId, control_sets};
use induction_engine::{Engine, Intervention};
use induction_metrics::{PrefixMatchingSample, foretold, paired_change};
use induction_model::{Clamp, ForbiddenKeys};
use induction_records::{CutHeads, CutOn, HeadRow, Prompt, WorthOn};
use ndarray::{Array2, ArrayView1};

use super::{PASSAGES, Source};
use crate::{Error, source::EVALUATION_SEED};

/// Shares of all heads that are taken, the best first: one alone, and those of the paper.
const SHARES: [f64; 3] = [0.0, 0.01, 0.03];

/// Examples of each kind of text.
const EXAMPLES: usize = 6;

/// Random tokens of a block.
const BLOCK: usize = 40;

/// A text, and the places in it whose next token counts.
struct Example {
    tokens: Vec<u32>,
    counts: Vec<usize>,
}

/// The heads that match prefixes best, one, 1 % and 3 % of all, each before its controls; nothing
/// where there is no text.
///
/// # Errors
/// The engine's.
pub fn worth(
    engine: &dyn Engine,
    source: &Source<'_>,
    asked: &[Prompt],
    heads: &[HeadRow],
) -> Result<Vec<CutHeads>, Error> {
    let sets = sets(heads);
    let mut worth = vec![Vec::new(); sets.len()];
    for (on, examples) in examples(source, asked, engine.config().n_ctx) {
        let losses = losses(engine, source, &examples, &sets)?;
        let change = |under: &[f64]| {
            let place = |source| Error::Metric { place: "heads' patterns".into(), source };
            paired_change(&losses[0], under).map_err(place)
        };
        for (worth, under) in worth.iter_mut().zip(losses[1..].chunks_exact(2)) {
            let (removed, removed_stderr) = change(&under[0])?;
            let (cut, cut_stderr) = change(&under[1])?;
            worth.push(WorthOn { on, removed, removed_stderr, cut, cut_stderr });
        }
    }
    let found = sets.into_iter().zip(worth).map(|((is_control, heads), worth)| {
        let heads = heads.iter().map(|head| [head.layer, head.head]).collect();
        CutHeads { is_control, heads, worth }
    });
    Ok(found.filter(|set| !set.worth.is_empty()).collect())
}

/// Mean loss of each example's tokens that count: with all heads, and of each set without the heads
/// and without their pattern.
fn losses(
    engine: &dyn Engine,
    source: &Source<'_>,
    examples: &[Example],
    sets: &[(bool, Vec<HeadId>)],
) -> Result<Vec<Vec<f64>>, Error> {
    // Causal models do not see what stands behind a text.
    let length = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
    let padded = |example: &Example| {
        let behind = std::iter::repeat_n(source.start, length - example.tokens.len());
        example.tokens.iter().copied().chain(behind).collect::<Vec<_>>()
    };
    let rows: Vec<u32> = examples.iter().flat_map(padded).collect();
    let table = Array2::from_shape_vec((examples.len(), length), rows).expect("of one length");
    let forbidden = |row: ArrayView1<'_, u32>| {
        ForbiddenKeys::new(&[Clamp::ForbidInduction], &row.to_vec()[..length - 1])
    };
    let keys: Arc<[ForbiddenKeys]> = table.rows().into_iter().map(forbidden).collect();
    let mut interventions: Vec<Vec<Intervention>> = vec![Vec::new()];
    for (_, heads) in sets {
        let removed = |&HeadId { layer, head }: &HeadId| Intervention::ZeroHead { layer, head };
        let cut = |&HeadId { layer, head }: &HeadId| Intervention::ForbidKeys {
            layer,
            head,
            keys: keys.clone(),
        };
        interventions.push(heads.iter().map(removed).collect());
        interventions.push(heads.iter().map(cut).collect());
    }
    let all: Vec<&[Intervention]> = interventions.iter().map(Vec::as_slice).collect();
    let of_set = |losses: Array2<f32>| {
        let mean = |(example, losses): (&Example, ArrayView1<'_, f32>)| {
            let sum: f64 = example.counts.iter().map(|&at| f64::from(losses[at])).sum();
            sum / example.counts.len() as f64
        };
        examples.iter().zip(losses.rows()).map(mean).collect()
    };
    Ok(engine.losses_under(table.view(), &all)?.into_iter().map(of_set).collect())
}

/// Whether these are controls, and the heads.
fn sets(heads: &[HeadRow]) -> Vec<(bool, Vec<HeadId>)> {
    let mut best: Vec<&HeadRow> = heads.iter().collect();
    best.sort_by(|a, b| b.score("prefix_matching").total_cmp(&a.score("prefix_matching")));
    let best: Vec<HeadId> = best.into_iter().map(HeadRow::id).collect();
    let mut counts: Vec<usize> =
        SHARES.iter().map(|share| ((share * heads.len() as f64).round() as usize).max(1)).collect();
    counts.dedup();
    let mut sets = Vec::new();
    for count in counts {
        let (studied, others) = best.split_at(count.min(best.len()));
        let mut studied = studied.to_vec();
        studied.sort();
        let control = control_sets(&studied, others, 1, EVALUATION_SEED).into_iter().next();
        sets.push((false, studied));
        sets.extend(control.filter(|set| set.matched).map(|set| (true, set.heads)));
    }
    sets
}

/// Some examples of each kind of text that there is.
fn examples(source: &Source<'_>, asked: &[Prompt], n_ctx: usize) -> Vec<(CutOn, Vec<Example>)> {
    let block = BLOCK.min(source.allowed.len()).min(n_ctx.saturating_sub(1) / 2);
    let sample = PrefixMatchingSample { block, repeats: 2 };
    let rows = sample.batch(EVALUATION_SEED ^ 2, EXAMPLES, source.start, source.allowed);
    let of_row = |row: ArrayView1<'_, u32>| Example {
        tokens: row.to_vec(),
        // The first token of the second copy is foretold by nothing.
        counts: (block + 1..2 * block).collect(),
    };
    let repeats = rows.iter().flat_map(|rows| rows.rows()).map(of_row).collect();
    let passages = PASSAGES.iter().filter_map(|passage| source.tokenizer?.encode(passage).ok());
    let of_passage = |ids: Vec<u32>| {
        let mut tokens = [&[source.start], &ids[..]].concat();
        tokens.truncate(n_ctx + 1);
        let foretold = foretold(ArrayView1::from(&tokens));
        let counts = (0..foretold.len()).filter(|&at| foretold[at]).collect();
        Example { tokens, counts }
    };
    let of_prompt = |prompt: &Prompt| Example {
        tokens: prompt.ids.clone(),
        counts: prompt.asked().map(|query| query.at).collect(),
    };
    let patterns = asked.iter().filter(|prompt| prompt.behaviour == "pattern matching");
    let some = |examples: &mut dyn Iterator<Item = Example>| -> Vec<Example> {
        examples.filter(|example| !example.counts.is_empty()).take(EXAMPLES).collect()
    };
    let all = [
        (CutOn::Repeats, repeats),
        (CutOn::Text, some(&mut passages.map(of_passage))),
        (CutOn::Patterns, some(&mut patterns.map(of_prompt))),
    ];
    all.into_iter().filter(|(_, examples)| !examples.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use induction_engine::CpuEngine;
    use induction_metrics::Role;
    use induction_model::HandBuilt;

    use super::*;

    /// In a model whose circuit was written down, cutting the induction head's pattern costs what
    /// removing it costs, and no other head of its layer is worth anything.
    #[test]
    fn the_pattern_is_what_the_head_is_worth() {
        let model = HandBuilt::new(64, 96);
        let (config, params) = (model.config(), model.params().unwrap());
        let engine = CpuEngine::new(&config, &params).unwrap();
        let allowed: Vec<u32> = (1..64).collect();
        let source = Source { start: 0, allowed: &allowed, tokenizer: None };
        let row = |layer: usize, head: usize| HeadRow {
            step: 0,
            tokens: 0,
            layer,
            head,
            role: Role::Other,
            scores: BTreeMap::from([(
                "prefix_matching".to_string(),
                Some(f64::from(u8::from((layer, head) == (1, 0)))),
            )]),
        };
        let heads: Vec<HeadRow> = (0..config.n_layers)
            .flat_map(|layer| (0..config.n_heads).map(move |head| row(layer, head)))
            .collect();
        let found = worth(&engine, &source, &[], &heads).unwrap();
        assert_eq!(found[0].heads, [[1, 0]]);
        let [worth] = &found[0].worth[..] else { panic!("random tokens alone") };
        assert_eq!(worth.on, CutOn::Repeats);
        assert!(worth.cut > 2.0 && (worth.cut - worth.removed).abs() < 0.1, "{worth:?}");
        if let Some(control) = found.get(1) {
            let worth = &control.worth[0];
            assert!(worth.cut.abs() < 1e-3 && worth.removed.abs() < 1e-3, "{worth:?}");
        }
    }
}
