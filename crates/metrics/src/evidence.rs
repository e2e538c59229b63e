//! Which heads stand out by a measure, and how surely: roles without a threshold on any score.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// The chance that a measure on which all heads are alike names any of them.
const LEVEL: f64 = 0.05;

/// The standard deviation of a normal distribution whose median absolute deviation is 1.
const OF_MAD: f64 = 1.482_602_218_505_602;

/// By how much a head's score is above those of the other heads of its layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// The score less the mean of the others', in the measure's unit.
    pub effect: f64,
    /// Half the width of the effect's interval, from the scores' standard errors; intervals hold for
    /// all heads of the model together ([Bonferroni](https://doi.org/10.1080/01621459.1961.10482090)),
    /// at 95 %.
    pub margin: f64,
    /// Whether even the lower end of the interval is more than a head among as many random ones
    /// shows: more than that quantile of a normal distribution about the median of all effects,
    /// whose spread is that of their absolute deviations from it.
    pub stands_out: bool,
}

/// Of each head, `[layer][head]`, from its score and the score's standard error. Nothing of a head
/// without a standard error, of one that is alone in its layer, where a score of its layer is no
/// number, or of fewer than two samples.
///
/// A score is a mean over `samples` samples; intervals are Student's, of one degree of freedom
/// fewer, and the scores of a layer are taken as independent. Both corrections are for the number of
/// heads, so a measure on which all heads are alike names one of them in at most one model of
/// twenty, however many heads a model has.
pub fn evidence(scores: &[Vec<(f64, Option<f64>)>], samples: usize) -> Vec<Vec<Option<Evidence>>> {
    let Ok(student) = StudentsT::new(0.0, 1.0, samples as f64 - 1.0) else {
        return scores.iter().map(|layer| vec![None; layer.len()]).collect();
    };
    let effects: Vec<Vec<Option<(f64, f64)>>> = scores.iter().map(|layer| effects(layer)).collect();
    let mut known: Vec<f64> =
        effects.iter().flatten().flatten().map(|&(effect, _)| effect).collect();
    let heads = known.len().max(1) as f64;
    let normal = Normal::standard();
    let margin = student.inverse_cdf(1.0 - LEVEL / (2.0 * heads));
    let middle = median(&mut known);
    let mut deviations: Vec<f64> = known.iter().map(|effect| (effect - middle).abs()).collect();
    let spread = OF_MAD * median(&mut deviations);
    let limit = middle + normal.inverse_cdf(1.0 - LEVEL / heads) * spread;
    let of = |effect: Option<(f64, f64)>| {
        effect.map(|(effect, stderr)| {
            let margin = margin * stderr;
            Evidence { effect, margin, stands_out: effect - margin > limit.max(0.0) }
        })
    };
    effects.into_iter().map(|layer| layer.into_iter().map(of).collect()).collect()
}

/// Each head's score less the mean of the others', and the difference's standard error.
fn effects(layer: &[(f64, Option<f64>)]) -> Vec<Option<(f64, f64)>> {
    let others = layer.len() as f64 - 1.0;
    let sum: f64 = layer.iter().map(|(score, _)| score).sum();
    let squares: Option<f64> =
        layer.iter().map(|(_, stderr)| stderr.map(|stderr| stderr.powi(2))).sum();
    let of = |&(score, stderr): &(f64, Option<f64>)| {
        let own = stderr?.powi(2);
        let stderr = (own + (squares? - own).max(0.0) / others.powi(2)).sqrt();
        let effect = score - (sum - score) / others;
        (others > 0.0 && effect.is_finite() && stderr.is_finite()).then_some((effect, stderr))
    };
    layer.iter().map(of).collect()
}

/// 0 of nothing.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let (below, above) =
        (values.get(values.len().saturating_sub(1) / 2), values.get(values.len() / 2));
    below.zip(above).map_or(0.0, |(below, above)| f64::midpoint(*below, *above))
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn random_model(seed: u64, layers: usize, heads: usize) -> Vec<Vec<(f64, Option<f64>)>> {
        let mut rng = induction_random::stream(seed, "evidence", 0);
        // A sum of uniform numbers, which is all but normal.
        let mut normal = || (0..12).map(|_| rng.random_range(-0.5..0.5)).sum::<f64>();
        let layer = |_| (0..heads).map(|_| (0.3 + 0.01 * normal(), Some(0.004))).collect();
        (0..layers).map(layer).collect()
    }

    /// Where all heads are alike, few models have a head that stands out; where one is not, it is
    /// named.
    #[test]
    fn what_is_alike_is_seldom_named_and_what_is_not_is() {
        let models = 400;
        let named = (0..models).filter(|&seed| {
            let model = evidence(&random_model(seed, 12, 8), 100);
            model.iter().flatten().flatten().any(|head| head.stands_out)
        });
        let named = named.count();
        assert!(named <= models as usize / 20, "{named} of {models}");
        let mut model = random_model(0, 12, 8);
        model[7][3].0 += 0.1;
        let found = evidence(&model, 100);
        for (layer, heads) in found.iter().enumerate() {
            for (head, of) in heads.iter().enumerate() {
                assert_eq!(
                    of.unwrap().stands_out,
                    (layer, head) == (7, 3),
                    "{layer}.{head}: {of:?}"
                );
            }
        }
        let it = found[7][3].unwrap();
        assert!((it.effect - 0.1).abs() < 0.04 && it.margin > 0.01, "{it:?}");
    }

    #[test]
    fn closed_forms_and_what_cannot_be_said() {
        // Four heads: the effect is the score less the mean of three.
        let layer = [(1.0, Some(0.1)), (0.0, Some(0.1)), (0.1, Some(0.2)), (0.2, Some(0.2))];
        let found = evidence(&[layer.to_vec()], 11);
        let first = found[0][0].unwrap();
        assert!((first.effect - 0.9).abs() < 1e-12);
        // Two-sided, 1.25 % of four, ten degrees of freedom: R's `qt(1 - 0.0125 / 2, 10)`.
        let stderr = (0.01f64 + (0.01 + 0.04 + 0.04) / 9.0).sqrt();
        assert!((first.margin / stderr - 3.038_2).abs() < 1e-3, "{}", first.margin / stderr);
        let nothing = |layer: &[(f64, Option<f64>)], samples: usize| {
            evidence(&[layer.to_vec()], samples).iter().flatten().all(Option::is_none)
        };
        assert!(nothing(&[(0.5, Some(0.1))], 11), "alone in its layer");
        assert!(nothing(&[(0.5, Some(0.1)), (0.4, None)], 11));
        assert!(nothing(&[(f64::NAN, Some(0.1)), (0.4, Some(0.1))], 11));
        assert!(nothing(&layer, 1) && nothing(&layer, 0));
        assert!(evidence(&[], 11).is_empty());
    }
}
