//! What each head does, as far as it stands out among all.

use std::collections::BTreeMap;

use induction_metrics::evidence;
use induction_records::{HeadRow, StandsOut};

/// The heads that stand out by each measure that they have, measure by measure, the largest effects
/// first ([`evidence`]); `samples` says how many samples each measure is a mean over.
pub(super) fn stand_out(
    heads: &[HeadRow],
    n_heads: usize,
    samples: &BTreeMap<&str, usize>,
) -> Vec<StandsOut> {
    let mut found = Vec::new();
    for (measure, _) in StandsOut::MEASURES {
        let Some(&samples) = samples.get(measure) else { continue };
        let score = |row: &HeadRow| {
            let stderr = row.scores.get(&format!("{measure}_stderr")).copied().flatten();
            (row.score(measure), stderr)
        };
        let scores: Vec<Vec<_>> =
            heads.chunks(n_heads).map(|layer| layer.iter().map(score).collect()).collect();
        let all = evidence(&scores, samples);
        let of_heads = heads.iter().zip(all.into_iter().flatten());
        let mut here: Vec<StandsOut> = of_heads
            .filter_map(|(row, of)| {
                let of = of.filter(|of| of.stands_out)?;
                Some(StandsOut {
                    measure: measure.to_string(),
                    layer: row.layer,
                    head: row.head,
                    effect: of.effect,
                    margin: of.margin,
                })
            })
            .collect();
        here.sort_by(|a, b| b.effect.total_cmp(&a.effect));
        found.extend(here);
    }
    found
}
