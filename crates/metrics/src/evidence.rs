//! Which heads stand out by a measure, and how surely: roles without a threshold on any score.

use std::f64::consts::LN_2;

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The chance that a measure on which all heads are alike names any of them.
const LEVEL: f64 = 0.05;

/// By how much a scale that is read off so many heads is taken larger than it is, as a share: with 6
/// over their number, samples of 8 to 400 exponential numbers name one in 2 to 6 % of cases.
const FEW: f64 = 6.0;

/// By how much a head's score is above those of the other heads of its layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// The score less the mean of the others', in the measure's unit.
    pub effect: f64,
    /// Half the width of the effect's interval, from the scores' standard errors; intervals hold for
    /// all heads of the model together ([Bonferroni](https://doi.org/10.1080/01621459.1961.10482090)),
    /// at 95 %.
    pub margin: f64,
    /// Whether even the lower end of the interval is more than the largest effect of as many heads
    /// that are alike.
    pub stands_out: bool,
}

/// Of each head, `[layer][head]`, from its score and the score's standard error. Nothing of a head
/// without a standard error, of one that is alone in its layer, where a score of its layer is no
/// number, or of fewer than two samples.
///
/// A score is a mean over `samples` samples; intervals are Student's, of one degree of freedom
/// fewer, and the scores of a layer are taken as independent.
///
/// What the largest effect of heads that are alike may be is read off the upper half of all effects,
/// as if it were the tail of an exponential distribution: scores are shares, most of them small, and
/// a normal distribution would take the largest of them for more than chance. The tail's scale is
/// the median of that half over the median of all, and more where it is of few heads. So a measure
/// on which all heads are alike names any of them in about one model of twenty if scores are spread
/// exponentially, and in fewer if normally, however many heads there are; of a few heads alone it
/// names none, and where a good part of all heads do the same, none of these stands out, either.
pub fn evidence(scores: &[Vec<(f64, Option<f64>)>], samples: usize) -> Vec<Vec<Option<Evidence>>> {
    let Ok(student) = StudentsT::new(0.0, 1.0, samples as f64 - 1.0) else {
        return scores.iter().map(|layer| vec![None; layer.len()]).collect();
    };
    let effects: Vec<Vec<Option<(f64, f64)>>> = scores.iter().map(|layer| effects(layer)).collect();
    let mut known: Vec<f64> =
        effects.iter().flatten().flatten().map(|&(effect, _)| effect).collect();
    let heads = known.len().max(1) as f64;
    let margin = student.inverse_cdf(1.0 - LEVEL / (2.0 * heads));
    let middle = median(&mut known);
    let above = known.iter().map(|effect| effect - middle).filter(|&effect| effect > 0.0);
    let scale = median(&mut above.collect::<Vec<_>>()) / LN_2 * (1.0 + FEW / heads);
    let limit = middle + scale * (heads / (2.0 * LEVEL)).ln().max(0.0);
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

    /// Scores whose spread `of` draws, with a standard error.
    fn random_model(
        seed: u64,
        [layers, heads]: [usize; 2],
        stderr: f64,
        of: fn(&mut dyn rand::RngCore) -> f64,
    ) -> Vec<Vec<(f64, Option<f64>)>> {
        let mut rng = induction_random::stream(seed, "evidence", 0);
        let mut layer = |_| (0..heads).map(|_| (0.3 + 0.01 * of(&mut rng), Some(stderr))).collect();
        (0..layers).map(&mut layer).collect()
    }

    /// A sum of uniform numbers, which is all but normal.
    fn normal(rng: &mut dyn rand::RngCore) -> f64 {
        (0..12).map(|_| rng.random_range(-0.5..0.5)).sum()
    }

    fn exponential(rng: &mut dyn rand::RngCore) -> f64 {
        -rng.random_range(f64::MIN_POSITIVE..1.0f64).ln()
    }

    /// Where all heads are alike, few models have a head that stands out; where one is not, it is
    /// named.
    #[test]
    fn what_is_alike_is_seldom_named_and_what_is_not_is() {
        const MODELS: u64 = 400;
        let shapes = [[1, 3], [2, 4], [4, 8], [12, 8], [30, 9]];
        for (shape, stderr) in shapes.into_iter().flat_map(|shape| [(shape, 1e-9), (shape, 4e-3)]) {
            let named = |of: fn(&mut dyn rand::RngCore) -> f64| {
                let any = |&seed: &u64| {
                    let model = evidence(&random_model(seed, shape, stderr, of), 100);
                    model.iter().flatten().flatten().any(|head| head.stands_out)
                };
                (0..MODELS).filter(any).count() as f64 / MODELS as f64
            };
            // Of 400 models, 8 % is three standard errors more than 5 %.
            assert!(named(normal) <= 0.05, "{shape:?} {stderr}: {}", named(normal));
            assert!(named(exponential) <= 0.085, "{shape:?} {stderr}: {}", named(exponential));
        }
        let mut model = random_model(0, [12, 8], 0.004, normal);
        model[7][3].0 += 0.2;
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
        assert!((it.effect - 0.2).abs() < 0.04 && it.margin > 0.01, "{it:?}");
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
