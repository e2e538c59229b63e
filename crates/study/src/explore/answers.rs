//! What every head does on argument 4's prompts.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use induction_engine::{Engine, Sight, Watched};
use induction_metrics::{logit_attribution, mean_stderr};
use induction_model::{Hook, Params, ReadParams};
use induction_records::{BEHAVIOURS, BehaviourScores, Prompt, PromptRow, write_json, write_rows};
use ndarray::{Array2, Array3, ArrayView3, ArrayViewD, Axis, Ix3};

use super::maps::{Maps, final_scales, write_maps};
use crate::{
    Error,
    measure::direct::{DirectPath, value_logits},
};

/// `prompts.json`, `prompts.jsonl` and the maps of the first prompt of each behaviour.
pub(super) fn ask(
    engine: &dyn Engine,
    params: &Params,
    prompts: &[Prompt],
    folder: &Path,
    step: u64,
    tokens: u64,
) -> Result<(), Error> {
    let behaviours = answers(engine, params, prompts, &[], &|_, _, _| {})?;
    let mut rows: Vec<PromptRow> =
        behaviours.into_iter().map(|scores| PromptRow { step, tokens, scores }).collect();
    let shown = shown(prompts);
    let maps: Vec<(String, Maps)> = shown
        .iter()
        .map(|prompt| {
            let maps = Maps::of(engine, params, &prompt.ids, &prompt.behaviour)?;
            Ok((format!(".{}", prompt.behaviour.replace(' ', "_")), maps))
        })
        .collect::<Result<_, Error>>()?;
    let maps = maps.iter().map(|(suffix, maps)| (suffix.clone(), maps));
    write_maps(&folder.join("maps/prompts.safetensors"), maps)?;
    write_json(&folder.join(Prompt::FILE), &shown)?;
    Ok(write_rows(folder, &mut rows)?)
}

/// The first prompt of each behaviour, which is shown.
pub(crate) fn shown(prompts: &[Prompt]) -> Vec<&Prompt> {
    let first = |behaviour: &&str| prompts.iter().find(|prompt| prompt.behaviour == *behaviour);
    BEHAVIOURS.iter().filter_map(first).collect()
}

/// What is found of a prompt while a model is watched.
#[derive(Default)]
struct Found {
    /// By layer, [`query_scores`].
    layers: BTreeMap<usize, Array3<f64>>,
    /// What the final norm divides each position by.
    scales: Vec<f64>,
}

/// What every head of a model does on prompts. `see` is shown each layer's attention on each prompt
/// and then on each of the other texts, which are looked at on the same way through the model (the
/// text's number, the layer, `[head, query, key]`), from any thread and in any order.
pub(crate) fn answers(
    engine: &dyn Engine,
    weights: &dyn ReadParams,
    prompts: &[Prompt],
    others: &[&[u32]],
    see: &(dyn Fn(usize, usize, ArrayView3<f32>) + Sync),
) -> Result<Vec<BehaviourScores>, Error> {
    let config = engine.config();
    let place = |source| Error::Metric { place: "prompts".into(), source };
    let targets = prompts.iter().flat_map(|prompt| prompt.ids[1..].iter().copied());
    let direct = DirectPath::new(config, weights, targets)?;
    let row = |ids: &[u32]| Array2::from_shape_vec((1, ids.len()), ids.to_vec()).expect("one row");
    let of_prompts = prompts.iter().map(|prompt| &prompt.ids[..prompt.ids.len() - 1]);
    let inputs: Vec<Array2<u32>> = of_prompts.chain(others.iter().copied()).map(row).collect();
    let targets: Vec<Array2<u32>> =
        prompts.iter().map(|prompt| direct.rename(row(&prompt.ids[1..]).view())).collect();
    const ASKED: &[fn(usize) -> Hook] = &[Hook::Pattern, Hook::V, Hook::ResidPost];
    const SEEN: &[fn(usize) -> Hook] = &[Hook::Pattern];
    let hooks = |k: usize| if k < prompts.len() { ASKED } else { SEEN };
    let watched = inputs.iter().enumerate();
    let watched: Vec<Watched<'_>> =
        watched.map(|(k, tokens)| Watched { tokens: tokens.view(), hooks: hooks(k) }).collect();
    let unembed =
        if prompts.is_empty() { Vec::new() } else { direct.of_layers(weights, config.n_layers)? };
    let found: Vec<Mutex<Found>> = prompts.iter().map(|_| Mutex::default()).collect();
    let failed = Mutex::new(None);
    let of_layer = |sight: &Sight<'_>| -> Result<(), Error> {
        let one = |k: usize| sight.seen[k].index_axis(Axis(0), 0);
        let three = |view: ArrayViewD<'_, f32>| {
            view.into_dimensionality::<Ix3>().expect("one example of rank 4").to_owned()
        };
        let pattern = three(one(0));
        see(sight.batch, sight.layer, pattern.view());
        if sight.batch >= prompts.len() {
            return Ok(());
        }
        let values = three(one(1));
        let logits = value_logits(values.view(), &unembed[sight.layer]);
        let targets = targets[sight.batch].as_slice().expect("one row");
        let raised = logit_attribution(pattern.view(), logits.view(), targets).map_err(place)?;
        let scores = query_scores(&prompts[sight.batch], pattern.view(), raised.view());
        let mut found = lock(&found[sight.batch]);
        found.layers.insert(sight.layer, scores);
        if sight.layer + 1 == config.n_layers {
            found.scales = final_scales(config, one(2));
        }
        Ok(())
    };
    engine.watch(&watched, &|sight| {
        if let Err(error) = of_layer(&sight) {
            *lock(&failed) = Some(error);
        }
    })?;
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let scores: Vec<Array3<f64>> = prompts
        .iter()
        .zip(found)
        .map(|(prompt, found)| {
            let Found { layers, scales } =
                found.into_inner().unwrap_or_else(PoisonError::into_inner);
            let layers: Vec<Array2<f64>> =
                layers.values().map(|scores| prompt_scores(prompt, scores, &scales)).collect();
            let views: Vec<_> = layers.iter().map(|scores| scores.view()).collect();
            ndarray::stack(Axis(0), &views).expect("layers have as many heads")
        })
        .collect();
    let of = |behaviour: &str| {
        let (of, scores): (Vec<&Prompt>, Vec<Array3<f64>>) = prompts
            .iter()
            .zip(&scores)
            .filter(|(prompt, _)| prompt.behaviour == behaviour)
            .map(|(prompt, scores)| (prompt, scores.clone()))
            .unzip();
        behaviours(behaviour, &of, &scores)
    };
    Ok(BEHAVIOURS.iter().flat_map(|behaviour| of(behaviour)).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every head on the prompts of one behaviour, from [`prompt_scores`] of each.
fn behaviours(
    behaviour: &str,
    prompts: &[&Prompt],
    scores: &[Array3<f64>],
) -> Vec<BehaviourScores> {
    let Some(one) = scores.first() else { return Vec::new() };
    let (layers, heads, _) = one.dim();
    let queries = prompts.iter().map(|prompt| prompt.asked().count()).sum();
    let literal = |prompt: &&Prompt| {
        let shares: Vec<f64> = prompt.asked().map(|query| query.literal).collect::<Option<_>>()?;
        (!shares.is_empty()).then(|| mean_stderr(&shares).0)
    };
    let literal: Option<Vec<f64>> = prompts.iter().map(literal).collect();
    let all = (0..layers).flat_map(|l| (0..heads).map(move |h| (l, h)));
    all.map(|(layer, head)| {
        let over = |k: usize| {
            mean_stderr(&scores.iter().map(|scores| scores[[layer, head, k]]).collect::<Vec<f64>>())
        };
        let ((share, share_stderr), (share_among, share_among_stderr)) = (over(0), over(2));
        BehaviourScores {
            behaviour: behaviour.to_string(),
            layer,
            head,
            share,
            share_stderr,
            chance: over(1).0,
            share_among,
            share_among_stderr,
            chance_among: over(3).0,
            literal_share_among: literal.as_deref().map(|shares| mean_stderr(shares).0),
            queries,
            attribution: over(4).0,
            attribution_total: over(5).0,
        }
    })
    .collect()
}

/// `[head, query, score]` of one layer, for the judged queries: share, its chance, share among, its
/// chance, attribution through the targets, and in all, before the final norm divides.
fn query_scores(
    prompt: &Prompt,
    attention: ArrayView3<f32>,
    attribution: ArrayView3<f64>,
) -> Array3<f64> {
    let queries: Vec<_> = prompt.asked().collect();
    let heads = attention.len_of(Axis(0));
    let mut scores = Array3::zeros((heads, queries.len(), 6));
    for (h, mut of_head) in scores.outer_iter_mut().enumerate() {
        for (query, mut scores) in queries.iter().zip(of_head.rows_mut()) {
            let attended = |keys: &[usize]| -> f64 {
                keys.iter().map(|&key| f64::from(attention[[h, query.at, key]])).sum()
            };
            let raised = |keys: &[usize]| -> f64 {
                keys.iter().map(|&key| attribution[[h, query.at, key]]).sum()
            };
            let (right, kind) = (attended(&query.targets), attended(&query.among));
            let all: Vec<usize> = (0..=query.at).collect();
            let of = |part: usize, whole: usize| part as f64 / whole as f64;
            let each = [
                right,
                of(query.targets.len(), all.len()),
                if kind > 0.0 { right / kind } else { of(query.targets.len(), query.among.len()) },
                of(query.targets.len(), query.among.len()),
                raised(&query.targets),
                raised(&all),
            ];
            scores.iter_mut().zip(each).for_each(|(score, value)| *score = value);
        }
    }
    scores
}

/// `[head, score]`: means over the judged queries of [`query_scores`], whose attributions are
/// divided by the final norm's `scales`, one a position.
fn prompt_scores(prompt: &Prompt, of_queries: &Array3<f64>, scales: &[f64]) -> Array2<f64> {
    let queries: Vec<_> = prompt.asked().collect();
    let n = queries.len().max(1) as f64;
    let mut scores = Array2::zeros((of_queries.len_of(Axis(0)), 6));
    for (of_queries, mut scores) in of_queries.outer_iter().zip(scores.rows_mut()) {
        for (query, of_query) in queries.iter().zip(of_queries.rows()) {
            for (k, (score, value)) in scores.iter_mut().zip(of_query).enumerate() {
                *score += if k < 4 { *value } else { value / scales[query.at] } / n;
            }
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use induction_records::Query;
    use induction_tokenizer::{BpeTokenizer, Document, Tokenizer};

    use super::*;
    use crate::explore::prompts::prompts;

    #[test]
    fn shares_and_chances_are_counted() {
        let mut attention = Array3::zeros((1, 4, 4));
        for (at, row) in
            [[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.2, 0.3, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4]]
                .into_iter()
                .enumerate()
        {
            row.into_iter().enumerate().for_each(|(key, share)| attention[[0, at, key]] = share);
        }
        let attribution = attention.mapv(|x: f32| 4.0 * f64::from(x));
        let query = |at, targets: &[usize], among: &[usize]| Query {
            at,
            targets: targets.to_vec(),
            among: among.to_vec(),
            literal: None,
        };
        let prompt = Prompt {
            behaviour: String::new(),
            ids: vec![0; 5],
            tokens: vec![String::new(); 5],
            // The last one is behind the last target and not asked.
            queries: vec![
                query(2, &[1], &[1, 2]),
                query(3, &[1, 2], &[0, 1, 2]),
                query(4, &[1], &[1]),
            ],
        };
        let scores = query_scores(&prompt, attention.view(), attribution.view());
        let scores = prompt_scores(&prompt, &scores, &[2.0; 4]);
        let expected = [
            (0.3 + 0.5) / 2.0,
            (1.0 / 3.0 + 2.0 / 4.0) / 2.0,
            (0.3 / 0.8 + 0.5 / 0.6) / 2.0,
            (1.0 / 2.0 + 2.0 / 3.0) / 2.0,
            (0.6 + 1.0) / 2.0,
            2.0,
        ];
        for (k, expected) in expected.into_iter().enumerate() {
            assert!((scores[[0, k]] - expected).abs() < 1e-6, "{k}: {scores}");
        }
    }

    /// The scores of a head whose attention from each judged position is `on(query)`, `[key]`.
    fn head(prompt: &Prompt, on: &dyn Fn(&Query) -> Vec<f32>) -> Array3<f64> {
        let positions = prompt.ids.len() - 1;
        let mut attention = Array3::zeros((1, positions, positions));
        for query in prompt.asked() {
            for (key, share) in on(query).into_iter().enumerate().take(query.at + 1) {
                attention[[0, query.at, key]] = share;
            }
        }
        let attribution = attention.mapv(f64::from);
        let scores = query_scores(prompt, attention.view(), attribution.view());
        prompt_scores(prompt, &scores, &vec![1.0; positions]).insert_axis(Axis(0))
    }

    fn as_found(all: &[Prompt], on: &dyn Fn(&Prompt, &Query) -> Vec<f32>) -> BehaviourScores {
        let all: Vec<&Prompt> =
            all.iter().filter(|prompt| prompt.behaviour == "pattern matching").collect();
        let scores: Vec<Array3<f64>> =
            all.iter().map(|prompt| head(prompt, &|query| on(prompt, query))).collect();
        behaviours("pattern matching", &all, &scores).remove(0)
    }

    /// A tokenizer of pieces of words, so that different words share some.
    #[test]
    fn a_literal_head_scores_its_baseline_and_a_pattern_matching_head_everything() {
        let text =
            "january april august purple yellow monkey lizard strawberry pineapple cherry:0\n"
                .repeat(20);
        let tokenizer =
            BpeTokenizer::train(&[Document { id: "a".to_string(), text }], 275).unwrap();
        let all = prompts(&tokenizer, 512);
        let matching = as_found(&all, &|prompt, query| {
            let share = 1.0 / query.targets.len() as f32;
            (0..prompt.ids.len())
                .map(|key| if query.targets.contains(&key) { share } else { 0.0 })
                .collect()
        });
        assert!(
            (matching.share - 1.0).abs() < 1e-6 && (matching.share_among - 1.0).abs() < 1e-6,
            "{matching:?}"
        );

        // Reads the tokens of a prompt as they stand there: those of the words of each line, and
        // the place of its digit.
        let copying = as_found(&all, &|prompt, query| {
            let bytes = |k: usize| tokenizer.token_bytes(prompt.ids[k]).unwrap();
            let (mut lines, mut words) = (Vec::new(), Vec::new());
            for k in 1..=query.at + 1 {
                match bytes(k) {
                    b":" => {}
                    b"\n" => words.clear(),
                    [digit] if digit.is_ascii_digit() => lines.push((k, words.clone())),
                    token if token.trim_ascii().is_empty() => {}
                    _ if !words.contains(&prompt.ids[k]) => words.push(prompt.ids[k]),
                    _ => {}
                }
            }
            let (asked, own) = lines.pop().unwrap();
            assert_eq!(asked, query.at + 1);
            assert_eq!(lines.iter().map(|(k, _)| *k).collect::<Vec<_>>(), query.among);
            let shared: Vec<usize> = lines
                .iter()
                .map(|(_, words)| words.iter().filter(|id| own.contains(id)).count())
                .collect();
            let nothing = shared.iter().all(|&count| count == 0);
            // Half of its attention rests at the start: that is not among the digits.
            let mut on = vec![0.0; prompt.ids.len()];
            on[0] = 0.5;
            for ((k, _), &count) in lines.iter().zip(&shared) {
                let of = if nothing {
                    1.0 / lines.len() as f32
                } else {
                    count as f32 / shared.iter().sum::<usize>() as f32
                };
                on[*k] = 0.5 * of;
            }
            on
        });
        let baseline = copying.literal_share_among.unwrap();
        assert!((copying.share_among - baseline).abs() < 1e-6, "{copying:?}");
        assert_eq!(matching.literal_share_among, Some(baseline), "no matter of the head");
        assert!(
            (baseline - copying.chance_among).abs() > 1e-3,
            "pieces of words are shared: {copying:?}"
        );
        assert!(
            baseline < 0.5 && copying.queries > 64 && copying.queries == matching.queries,
            "{copying:?}"
        );
    }
}
