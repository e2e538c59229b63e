//! Every head of a snapshot removed, one at a time.

use induction_ablation::{Downstream, HeadId, Losses};
use induction_metrics::{loss_by_index, paired_change};
use induction_model::ModelConfig;
use induction_records::AblationRow;
use ndarray::{Array2, Array4, Axis};

use super::{
    heads_of,
    held::{Held, Under, mean},
};
use crate::Error;

/// The kinds of the sweep, in the order of the tables.
pub(super) const KINDS: [Downstream; 2] = [Downstream::Full, Downstream::PatternPreserving];

/// The rows of one snapshot, from losses under [`single_heads`] in both kinds.
pub(super) fn sweep_rows(
    config: &ModelConfig,
    held: &Held,
    losses: &Under,
    change: Option<&Array2<f32>>,
    step: u64,
    tokens: u64,
) -> Result<Vec<AblationRow>, Error> {
    let place = |source| Error::Metric { place: format!("step {step}"), source };
    let clean = held.scores(losses.clean()).map_err(place)?;
    let kinds = heads_of(config).flat_map(|head| KINDS.map(|kind| (head, kind)));
    kinds
        .zip(losses.ablated())
        .map(|((HeadId { layer, head }, downstream), ablated)| {
            let without = held.scores(ablated).map_err(place)?;
            let (icl_change, icl_change_stderr) =
                paired_change(&clean.icl, &without.icl).map_err(place)?;
            let (same_token_change, same_token_change_stderr) =
                paired_change(&clean.same_token, &without.same_token).map_err(place)?;
            let [long, _] = ablated;
            Ok(AblationRow {
                step,
                tokens,
                layer,
                head,
                downstream,
                icl_change,
                icl_change_stderr,
                loss_change: mean(long) - mean(&losses.long.clean),
                icl_change_by_example: changes(&clean.icl, &without.icl),
                same_token_change,
                same_token_change_stderr,
                same_token_change_by_example: changes(&clean.same_token, &without.same_token),
                undone_by_example: change
                    .map_or_else(Vec::new, |change| along(change, &losses.long.clean, long)),
            })
        })
        .collect()
}

fn changes(with: &[f64], without: &[f64]) -> Vec<f64> {
    with.iter().zip(without).map(|(with, without)| without - with).collect()
}

/// Of each example, the product of `change` with the losses' change from `clean` to `ablated`,
/// summed over indices; all are `[example, index]`.
fn along(change: &Array2<f32>, clean: &Array2<f32>, ablated: &Array2<f32>) -> Vec<f64> {
    let rows = change.outer_iter().zip(clean.outer_iter()).zip(ablated.outer_iter());
    rows.map(|((change, clean), ablated)| {
        let each = change.iter().zip(clean).zip(ablated);
        each.map(|((&x, &a), &b)| f64::from(x) * (f64::from(b) - f64::from(a))).sum::<f64>()
    })
    .collect()
}

/// What each removal does to the loss by index: `[layer, head, kind, index]`.
pub(super) fn loss_changes(config: &ModelConfig, losses: &Losses) -> Result<Array4<f32>, Error> {
    let by_index = |losses: &Array2<f32>| {
        loss_by_index(losses.view())
            .map_err(|source| Error::Metric { place: "loss by index".into(), source })
    };
    let clean = by_index(&losses.clean)?;
    let mut out = Array4::zeros((config.n_layers, config.n_heads, KINDS.len(), clean.len()));
    for (mut lane, ablated) in out.lanes_mut(Axis(3)).into_iter().zip(&losses.ablated) {
        let change = by_index(ablated)? - &clean;
        lane.zip_mut_with(&change, |to, &change| *to = change as f32);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use induction_ablation::single_heads;
    use induction_engine::{CpuEngine, Engine, Intervention};
    use induction_metrics::{IclIndices, SameToken};

    use super::*;

    #[test]
    fn a_sweep_is_scored_on_windows_and_fresh_ones_and_along_the_change() {
        let config = ModelConfig {
            n_layers: 2,
            d_model: 16,
            n_heads: 2,
            d_head: 8,
            n_ctx: 24,
            d_vocab: 9,
            ..ModelConfig::default()
        };
        let mut params = config.init_params(2).unwrap();
        params.iter_mut().filter(|(name, _)| name.contains("W_")).for_each(|(_, w)| *w *= 5.0);
        let engine = CpuEngine::new(&config, &params).unwrap();
        let examples = Array2::from_shape_fn((5, 25), |(e, t)| ((e + 2) * t * t % 9) as u32);
        let indices = IclIndices { early: 3, late: 22, half_width: 1 };
        let same = SameToken::new(&indices, 24).unwrap();
        let held = Held::on(examples, indices, same).unwrap();
        let losses = held.under(&engine, &params, &single_heads(&config, &KINDS)).unwrap();
        // Of the third ablation: head 0.1 with everything above free to change.
        let of = 2;
        let removed = [Intervention::ZeroHead { layer: 0, head: 1 }];
        let losses_of = |examples: &Array2<u32>, set: &[Intervention]| {
            engine.losses(examples.view(), set).unwrap()
        };
        let score = |set: &[Intervention]| {
            let (long, fresh) = (losses_of(&held.examples, set), losses_of(&held.fresh, set));
            same.by_example(long.view(), fresh.view()).unwrap()
        };
        let expected: Vec<f64> =
            score(&removed).iter().zip(score(&[])).map(|(without, with)| without - with).collect();

        let change = &losses.long.ablated[of] - &losses.long.clean;
        let rows = sweep_rows(&config, &held, &losses, Some(&change), 7, 700).unwrap();
        assert_eq!(rows.len(), 8);
        let row = &rows[of];
        assert_eq!((row.layer, row.head, row.downstream), (0, 1, Downstream::Full));
        for (found, expected) in row.same_token_change_by_example.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
        assert!((row.same_token_change - expected.iter().sum::<f64>() / 5.0).abs() < 1e-9);
        assert!(
            row.same_token_change_stderr.is_some() && expected.iter().any(|x| x.abs() > 1e-3),
            "{expected:?}"
        );
        // Along itself, it is its own square.
        for (found, change) in row.undone_by_example.iter().zip(change.outer_iter()) {
            let square: f64 = change.iter().map(|&x| f64::from(x * x)).sum();
            assert!(
                (found - square).abs() < 1e-4 * square && square > 0.0,
                "{found} is not {square}"
            );
        }
        let undone = sweep_rows(&config, &held, &losses, Some(&-change), 7, 700).unwrap();
        assert!(
            undone[of].undone_by_example.iter().all(|&x| x < 0.0),
            "what takes it back is negative"
        );
        let none = sweep_rows(&config, &held, &losses, None, 7, 700).unwrap();
        assert!(none.iter().all(|row| row.undone_by_example.is_empty()));
        assert_eq!(none[of].same_token_change_by_example, row.same_token_change_by_example);
    }
}
