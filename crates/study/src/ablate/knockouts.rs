//! The last snapshot under sets of heads, other fills, ideal patterns and cut paths.

use std::path::Path;

use induction_ablation::{Ablation, Downstream, Fill, HeadId, IdealPattern, Reads, control_sets};
use induction_engine::Engine;
use induction_metrics::{Role, RoleThresholds, mean_stderr};
use induction_model::{ModelConfig, Params};
use induction_records::{HeadRow, KnockoutRow, Row, read_rows};
use ndarray::Axis;

use super::{
    heads_of,
    held::{Held, Scores, mean},
    sweep::KINDS,
};
use crate::{Error, source::EVALUATION_SEED};

/// Control sets that are drawn beside the induction heads, if there are as many different ones.
const CONTROL_SETS: usize = 50;

/// Heads of control sets match prefixes less than this: one that matches them a little, though too
/// little to be called an induction head, is a small dose of the treatment.
const CONTROL_BELOW: f64 = 0.1;

/// The patterns made from tokens that previous-token heads are given, and those that induction
/// heads are.
const PREVIOUS_TOKEN_PATTERNS: &[IdealPattern] = &[IdealPattern::PreviousToken];
const INDUCTION_PATTERNS: &[IdealPattern] =
    &[IdealPattern::InductionOneToken, IdealPattern::InductionTwoTokens];

/// The heads of the last snapshot as they were measured.
pub(super) fn heads_at(folder: &Path, step: u64) -> Result<Vec<HeadRow>, Error> {
    let rows: Vec<HeadRow> = read_rows(folder).unwrap_or_default();
    let heads: Vec<HeadRow> = rows.into_iter().filter(|row| row.step == step).collect();
    if heads.is_empty() {
        let table = folder.join(HeadRow::FILE);
        return Err(Error::Input(format!(
            "{}: no heads of step {step}; measure the run first (`induction measure RUN`)",
            table.display()
        )));
    }
    Ok(heads)
}

/// Everything that the last snapshot is put through, by name. Induction heads are those that match
/// prefixes, whether or not they pass the copying score's threshold (paper.md, 11; 0: D3).
pub(super) fn knockouts(
    config: &ModelConfig,
    heads: &[HeadRow],
) -> Vec<(&'static str, Option<Ablation>)> {
    let ordered = |roles: &[Role], score: &str| -> Vec<HeadId> {
        let mut of: Vec<&HeadRow> = heads.iter().filter(|row| roles.contains(&row.role)).collect();
        of.sort_by(|a, b| b.score(score).total_cmp(&a.score(score)));
        of.into_iter().map(HeadRow::id).collect()
    };
    let induction = ordered(
        &[Role::Induction, Role::AntiCopyingPrefix, Role::PrefixMatching],
        "prefix_matching",
    );
    let previous = ordered(&[Role::PreviousToken], "previous_token");
    let attends_before =
        |row: &&HeadRow| row.score("previous_token") > RoleThresholds::default().previous_token;
    let others: Vec<HeadId> = heads
        .iter()
        .filter(|row| row.score("prefix_matching") < CONTROL_BELOW && !attends_before(row))
        .map(HeadRow::id)
        .collect();

    let mut all = vec![("clean", None)];
    let mut add = |name, ablation| all.push((name, Some(ablation)));
    let mut remove = |name, heads: &[HeadId]| {
        if !heads.is_empty() {
            for downstream in KINDS {
                let mut heads = heads.to_vec();
                heads.sort();
                add(name, Ablation::Heads { heads, fill: Fill::Zero, downstream });
            }
        }
    };
    remove("induction-heads", &induction);
    remove("previous-token-heads", &previous);
    for set in control_sets(&induction, &others, CONTROL_SETS, EVALUATION_SEED) {
        remove(if set.matched { "control-matched" } else { "control" }, &set.heads);
    }
    for head in heads_of(config) {
        add("remove", Ablation::zero(head, Downstream::Full));
        for (name, fill) in [("mean", Fill::Mean), ("resample", Fill::Resample)] {
            for downstream in KINDS {
                add(name, Ablation::Heads { heads: vec![head], fill, downstream });
            }
        }
    }
    for (heads, patterns) in
        [(&previous, PREVIOUS_TOKEN_PATTERNS), (&induction, INDUCTION_PATTERNS)]
    {
        for &head in heads {
            patterns
                .iter()
                .for_each(|&pattern| add("substitute", Ablation::Substitute { head, pattern }));
        }
    }
    if let Some(&to) = induction.first() {
        for from in heads_of(config).filter(|from| from.layer < to.layer) {
            for into in [Reads::Queries, Reads::Keys, Reads::Values] {
                add("path", Ablation::Path { from, to, into });
            }
        }
        let (before, rest): (Vec<&HeadRow>, Vec<&HeadRow>) =
            heads.iter().filter(|row| row.layer < to.layer).partition(attends_before);
        for (name, from) in [("paths-previous-token", before), ("paths-others", rest)] {
            let from: Vec<HeadId> = from.into_iter().map(HeadRow::id).collect();
            if !from.is_empty() {
                for into in [Reads::Queries, Reads::Keys, Reads::Values] {
                    add(name, Ablation::Paths { from: from.clone(), to, into });
                }
            }
        }
    }
    all
}

/// The rows of the table.
pub(super) fn knockout_rows(
    engine: &dyn Engine,
    params: &Params,
    held: &Held,
    named: Vec<(&'static str, Option<Ablation>)>,
    step: u64,
    tokens: u64,
) -> Result<Vec<KnockoutRow>, Error> {
    let place = |source| Error::Metric { place: format!("step {step}"), source };
    let ablations: Vec<Ablation> =
        named.iter().filter_map(|(_, ablation)| ablation.clone()).collect();
    let losses = held.under(engine, params, &ablations)?;
    let mut ablated = losses.ablated();
    let rows = named.into_iter().map(|(name, ablation)| {
        let of = if ablation.is_some() {
            ablated.next().expect("one an ablation")
        } else {
            losses.clean()
        };
        let Scores { icl, same_token } = held.scores(of).map_err(place)?;
        let [long, _] = of;
        let by_example = long.mean_axis(Axis(1)).expect("n_ctx is at least 1");
        Ok(KnockoutRow {
            step,
            tokens,
            name: name.to_string(),
            ablation,
            loss: mean(long),
            icl_score: mean_stderr(&icl).0,
            same_token_score: mean_stderr(&same_token).0,
            loss_by_example: by_example.mapv(f64::from).to_vec(),
            icl_by_example: icl,
            same_token_by_example: same_token,
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(layer: usize, head: usize) -> HeadId {
        HeadId { layer, head }
    }

    #[test]
    fn controls_match_no_prefixes_and_paths_are_cut_by_what_heads_attend_to() {
        let config = ModelConfig {
            n_layers: 3,
            d_model: 20,
            n_heads: 5,
            d_head: 4,
            ..ModelConfig::default()
        };
        // Prefix matching, attention to the token before, and the role.
        let of = |layer: usize, head: usize| match (layer, head) {
            (1, 0) => (0.0, 0.4, Role::PreviousToken),
            (0, 1 | 2) => (0.05, 0.9, Role::PreviousToken),
            (2, 0) => (0.9, 0.0, Role::Induction),
            (2, 1) => (0.5, 0.0, Role::AntiCopyingPrefix),
            (2, 2) => (0.2, 0.1, Role::Other),
            (0, 0) => (0.0, 0.0, Role::Copying),
            _ => (0.02, 0.1, Role::Other),
        };
        let rows: Vec<HeadRow> = heads_of(&config)
            .map(|HeadId { layer, head }| {
                let (prefix, previous, role) = of(layer, head);
                let scores = [("prefix_matching", prefix), ("previous_token", previous)];
                let scores = scores.map(|(name, score)| (name.to_string(), Some(score))).into();
                HeadRow { step: 1, tokens: 1, layer, head, role, scores }
            })
            .collect();
        let all = knockouts(&config, &rows);
        let sets = |name: &str| -> Vec<Vec<HeadId>> {
            let of =
                all.iter().filter(|(of, _)| *of == name).filter_map(
                    |(_, ablation)| match ablation {
                        Some(Ablation::Heads { heads, .. }) => Some(heads.clone()),
                        _ => None,
                    },
                );
            of.step_by(2).collect()
        };
        assert_eq!(sets("induction-heads"), [[head(2, 0), head(2, 1)]]);
        assert_eq!(
            sets("control-matched"),
            [[head(2, 3), head(2, 4)]],
            "the layer's only pair that matches nothing"
        );
        let controls = sets("control");
        // All pairs of the nine others that neither match prefixes nor attend to the token before,
        // but for that one.
        assert_eq!(controls.len(), 35);
        assert!(
            controls
                .iter()
                .flatten()
                .all(|h| of(h.layer, h.head).0 < 0.1 && of(h.layer, h.head).1 < 0.3)
        );
        assert!(
            controls.iter().flatten().any(|h| *h == head(0, 0)),
            "copying is no reason to be left out"
        );

        let paths = |name: &str| -> Vec<(Vec<HeadId>, Reads)> {
            let of =
                all.iter().filter(|(of, _)| *of == name).filter_map(
                    |(_, ablation)| match ablation {
                        Some(Ablation::Paths { from, to, into }) if *to == head(2, 0) => {
                            Some((from.clone(), *into))
                        }
                        _ => None,
                    },
                );
            of.collect()
        };
        let before = vec![head(0, 1), head(0, 2), head(1, 0)];
        let others: Vec<HeadId> =
            heads_of(&config).filter(|head| head.layer < 2 && !before.contains(head)).collect();
        let each = |from: &Vec<HeadId>| {
            [Reads::Queries, Reads::Keys, Reads::Values].map(|into| (from.clone(), into)).to_vec()
        };
        assert_eq!(paths("paths-previous-token"), each(&before));
        assert_eq!(paths("paths-others"), each(&others));
        assert_eq!(all.iter().filter(|(name, _)| *name == "path").count(), 3 * 10);
    }
}
