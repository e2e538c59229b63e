//! What every head does on argument 4's prompts.

use std::path::Path;

use induction_engine::Engine;
use induction_metrics::mean_stderr;
use induction_model::Params;
use induction_records::{BEHAVIOURS, BehaviourScores, Prompt, PromptRow, write_json, write_rows};
use ndarray::{Array3, ArrayView3, Axis};

use super::maps::{Maps, write_maps};
use crate::Error;

/// `prompts.json`, `prompts.jsonl` and the maps of the first prompt of each behaviour.
pub(super) fn ask(
    engine: &dyn Engine,
    params: &Params,
    prompts: &[Prompt],
    folder: &Path,
    step: u64,
    tokens: u64,
) -> Result<(), Error> {
    let Answers { behaviours, shown } = answers(engine, params, prompts)?;
    let mut rows: Vec<PromptRow> =
        behaviours.into_iter().map(|scores| PromptRow { step, tokens, scores }).collect();
    let maps = shown
        .iter()
        .map(|(prompt, maps)| (format!(".{}", prompt.behaviour.replace(' ', "_")), maps));
    write_maps(&folder.join("maps/prompts.safetensors"), maps)?;
    let prompts: Vec<&Prompt> = shown.iter().map(|(prompt, _)| prompt).collect();
    write_json(&folder.join(Prompt::FILE), &prompts)?;
    Ok(write_rows(folder, &mut rows)?)
}

/// What a model's heads do on prompts.
pub(crate) struct Answers {
    /// Every head on every behaviour.
    pub(crate) behaviours: Vec<BehaviourScores>,
    /// The first prompt of each behaviour.
    pub(crate) shown: Vec<(Prompt, Maps)>,
}

/// Puts prompts to a model.
pub(crate) fn answers(
    engine: &dyn Engine,
    params: &Params,
    prompts: &[Prompt],
) -> Result<Answers, Error> {
    let mut answers = Answers { behaviours: Vec::new(), shown: Vec::new() };
    for behaviour in BEHAVIOURS {
        let of: Vec<&Prompt> =
            prompts.iter().filter(|prompt| prompt.behaviour == behaviour).collect();
        let mut scores: Vec<Array3<f64>> = Vec::new();
        for &prompt in &of {
            let maps = Maps::of(engine, params, &prompt.ids, behaviour)?;
            scores.push(prompt_scores(prompt, &maps));
            if scores.len() == 1 {
                answers.shown.push((prompt.clone(), maps));
            }
        }
        answers.behaviours.extend(behaviours(behaviour, &of, &scores));
    }
    Ok(answers)
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

/// `[layer, head, score]`: share, its chance, share among, its chance, attribution through the
/// targets, and in all; each a mean over the queries of one prompt.
fn prompt_scores(prompt: &Prompt, maps: &Maps) -> Array3<f64> {
    let (layers, heads, ..) = maps.attention.dim();
    let queries: Vec<_> = prompt.asked().collect();
    let n = queries.len().max(1) as f64;
    let mut scores = Array3::zeros((layers, heads, 6));
    for (l, h) in (0..layers).flat_map(|l| (0..heads).map(move |h| (l, h))) {
        let sum = |map: ArrayView3<f32>, at: usize, keys: &[usize]| -> f64 {
            keys.iter().map(|&key| f64::from(map[[h, at, key]])).sum()
        };
        let (attention, attribution) =
            (maps.attention.index_axis(Axis(0), l), maps.attribution.index_axis(Axis(0), l));
        for query in &queries {
            let (right, kind) =
                (sum(attention, query.at, &query.targets), sum(attention, query.at, &query.among));
            let all: Vec<usize> = (0..=query.at).collect();
            let of = |part: usize, whole: usize| part as f64 / whole as f64;
            let each = [
                right,
                of(query.targets.len(), all.len()),
                if kind > 0.0 { right / kind } else { of(query.targets.len(), query.among.len()) },
                of(query.targets.len(), query.among.len()),
                sum(attribution, query.at, &query.targets),
                sum(attribution, query.at, &all),
            ];
            for (k, value) in each.into_iter().enumerate() {
                scores[[l, h, k]] += value / n;
            }
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use induction_records::Query;
    use induction_tokenizer::{BpeTokenizer, Document, Tokenizer};
    use ndarray::Array4;

    use super::*;
    use crate::explore::prompts::prompts;

    #[test]
    fn shares_and_chances_are_counted() {
        let mut attention = Array4::zeros((1, 1, 4, 4));
        for (at, row) in
            [[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.2, 0.3, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4]]
                .into_iter()
                .enumerate()
        {
            row.into_iter().enumerate().for_each(|(key, share)| attention[[0, 0, at, key]] = share);
        }
        let maps = Maps { attribution: attention.mapv(|x| 2.0 * x), attention };
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
        let scores = prompt_scores(&prompt, &maps);
        let expected = [
            (0.3 + 0.5) / 2.0,
            (1.0 / 3.0 + 2.0 / 4.0) / 2.0,
            (0.3 / 0.8 + 0.5 / 0.6) / 2.0,
            (1.0 / 2.0 + 2.0 / 3.0) / 2.0,
            (0.6 + 1.0) / 2.0,
            2.0,
        ];
        for (k, expected) in expected.into_iter().enumerate() {
            assert!((scores[[0, 0, k]] - expected).abs() < 1e-6, "{k}: {scores}");
        }
    }

    /// A head whose attention from each judged position is `on(query)`, `[key]`.
    fn head(prompt: &Prompt, on: &dyn Fn(&Query) -> Vec<f32>) -> Maps {
        let positions = prompt.ids.len() - 1;
        let mut attention = Array4::zeros((1, 1, positions, positions));
        for query in prompt.asked() {
            for (key, share) in on(query).into_iter().enumerate().take(query.at + 1) {
                attention[[0, 0, query.at, key]] = share;
            }
        }
        Maps { attribution: attention.clone(), attention }
    }

    fn as_found(all: &[Prompt], on: &dyn Fn(&Prompt, &Query) -> Vec<f32>) -> BehaviourScores {
        let all: Vec<&Prompt> =
            all.iter().filter(|prompt| prompt.behaviour == "pattern matching").collect();
        let scores: Vec<Array3<f64>> = all
            .iter()
            .map(|prompt| prompt_scores(prompt, &head(prompt, &|query| on(prompt, query))))
            .collect();
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
